//! The commands that people and programs give most often, by themselves: they are read in a tenth of the time.

use std::ffi::OsString;

use clap::{Parser, Subcommand};

use super::{Cli, Command, Global, Ls, OneId, Send};

/// A command line with one of the most frequent commands. What it refuses says nothing: [`Cli`] is asked then.
#[derive(Debug, Parser)]
#[command(name = "kennel")]
pub struct Common {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Frequent,
}

/// The same as the commands of these names in [`Command`].
#[derive(Debug, Subcommand)]
enum Frequent {
    #[command(alias = "list")]
    Ls(Ls),
    Show(OneId),
    Send(Send),
}

impl Common {
    /// Returns false if the command line has none of the frequent commands.
    pub fn may_be(args: &[OsString]) -> bool {
        args.iter().any(|arg| ["ls", "list", "show", "send"].iter().any(|name| arg == name))
    }
}

impl From<Common> for Cli {
    fn from(Common { global, command }: Common) -> Self {
        let command = match command {
            Frequent::Ls(args) => Command::Ls(args),
            Frequent::Show(args) => Command::Show(args),
            Frequent::Send(args) => Command::Send(args),
        };
        Self { global, command }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<C: Parser>(line: &str) -> Option<C> {
        C::try_parse_from(line.split(' ')).ok()
    }

    #[test]
    fn frequent_commands_are_read_as_with_all_others_or_not_at_all() {
        for line in [
            "kennel ls",
            "kennel list --all --tree",
            "kennel --json ls --all",
            "kennel ls --quiet --color never",
            "kennel --state-dir /x show s --json",
            "kennel show s",
            "kennel send s make test",
            "kennel send --no-wait --when-busy reject --key k --file f s -- -x",
        ] {
            let all: Cli = read(line).unwrap();
            let common: Cli = read::<Common>(line).unwrap_or_else(|| panic!("{line}")).into();
            assert_eq!(format!("{common:?}"), format!("{all:?}"), "{line}");
        }
        for line in [
            "kennel show",
            "kennel ls s",
            "kennel help ls",
            "kennel ls --help",
            "kennel --version",
            "kennel daemon ls",
        ] {
            assert!(read::<Common>(line).is_none(), "{line}");
        }
        assert!(!Common::may_be(&["kennel", "start", "--id", "lsx"].map(Into::into)));
    }
}
