//! Commands that people know from other programs, and the command of kennel that each is.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Error};

use super::args::Cli;

/// Verbs of other programs, and the tip for each.
const VERBS: [(&str, &str); 10] = [
    ("delete", "`kennel rm` removes a session"),
    ("exec", "`kennel send` sends a prompt"),
    ("inspect", "`kennel show` shows a session"),
    ("kill", "`kennel stop` stops a session, `kennel abort` ends its turn"),
    ("new", "`kennel start` starts a session"),
    ("prompt", "`kennel send` sends a prompt"),
    ("ps", "`kennel ls` lists sessions"),
    ("status", "`kennel daemon status` shows the daemon, `kennel ls` lists sessions"),
    ("sessions", "`kennel ls` lists sessions"),
    ("version", "`kennel --version` prints the version"),
];

/// Commands that end or remove something. No mistyped word is answered with one of them.
const HARMFUL: [&str; 8] = ["abort", "prune", "remove", "revoke", "rm", "shutdown", "stop", "uninstall"];

/// The error about an unknown command, with the right tip: for a command of other programs the one that does the same, and never a
/// harmful command for a similar word.
pub fn tipped(mut error: Error, args: &[OsString]) -> Error {
    let Some(ContextValue::String(typed)) = error.get(ContextKind::InvalidSubcommand) else { return error };
    if error.kind() != ErrorKind::InvalidSubcommand {
        return error;
    }
    let typed = typed.clone();
    let known = VERBS.iter().find(|(verb, _)| *verb == typed).filter(|_| is_first(args, &typed));
    if let Some((_, tip)) = known {
        error.remove(ContextKind::SuggestedSubcommand);
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![(*tip).into()]));
        return error;
    }
    let similar = match error.get(ContextKind::SuggestedSubcommand) {
        Some(ContextValue::String(one)) => vec![one.clone()],
        Some(ContextValue::Strings(some)) => some.clone(),
        _ => return error,
    };
    let harmless: Vec<String> =
        similar.into_iter().filter(|word| !HARMFUL.contains(&word.as_str())).collect();
    match harmless.is_empty() {
        true => error.remove(ContextKind::SuggestedSubcommand),
        false => error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(harmless)),
    };
    error
}

/// Returns true if no other command stands before the word.
fn is_first(args: &[OsString], typed: &str) -> bool {
    let root = Cli::command();
    let before = args.iter().skip(1).take_while(|word| *word != typed);
    before.filter_map(|word| word.to_str()).all(|word| root.find_subcommand(word).is_none())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn said(line: &str) -> String {
        let args: Vec<OsString> = line.split(' ').map(Into::into).collect();
        let error = Cli::try_parse_from(&args).err().unwrap_or_else(|| panic!("`{line}` is a command"));
        assert_eq!(error.kind(), ErrorKind::InvalidSubcommand, "{line}");
        tipped(error, &args).to_string()
    }

    #[test]
    fn a_command_of_other_programs_gets_the_command_that_does_the_same() {
        for (verb, tip) in VERBS {
            for line in [format!("kennel {verb}"), format!("kennel --json {verb} web")] {
                let said = said(&line);
                assert!(said.contains(&format!("tip: {tip}")), "{said}");
                assert_eq!(said.matches("tip:").count(), 1, "{said}");
            }
        }
        assert!(!said("kennel queue delete").contains("kennel rm"));
    }

    #[test]
    fn a_mistyped_word_is_never_answered_with_a_harmful_command() {
        let root = Cli::command();
        let all: Vec<&str> = root.get_subcommands().map(clap::Command::get_name).collect();
        let letters = || "abcdefghijklmnopqrstuvwxyz".chars();
        for harmful in HARMFUL {
            for at in 0..harmful.len() {
                for c in letters().map(Some).chain([None]) {
                    let (before, after) = (&harmful[..at], &harmful[at + 1..]);
                    let typo = format!("{before}{}{after}", c.map(String::from).unwrap_or_default());
                    if typo.is_empty()
                        || all.contains(&typo.as_str())
                        || root.find_subcommand(&typo).is_some()
                    {
                        continue;
                    }
                    let said = said(&format!("kennel {typo}"));
                    let tip = said.lines().find(|line| line.contains("tip:")).unwrap_or_default();
                    for harmful in HARMFUL {
                        assert!(!tip.contains(&format!("'{harmful}'")), "{typo}: {said}");
                    }
                }
            }
        }
        assert!(said("kennel strat").contains("'start'") && said("kennel shw").contains("'show'"));
        assert!(!said("kennel daemon stpo").contains("'stop'"));
    }
}
