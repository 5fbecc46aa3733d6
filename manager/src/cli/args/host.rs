//! Arguments of the commands that name machines.

use clap::{Args, Subcommand};

use crate::client::host::HostAddress;

/// `host`.
#[derive(Debug, Subcommand)]
pub enum Host {
    /// Name a machine
    ///
    /// Nothing is asked of the machine, and nothing is installed there: it must have kennel, and an account that `ssh` can log in
    /// to. The names are in hosts.toml, beside config.toml.
    #[command(
        after_help = "Examples:\n  kennel host add box ssh://ada@box.example\n  kennel host add lab ssh://lab:2222/srv/kennel --kennel /opt/kennel/bin/kennel"
    )]
    Add(HostAdd),
    /// List the named machines
    #[command(after_help = "Example:\n  kennel host ls")]
    Ls,
    /// Make a machine the one that commands mean; `local` is this one
    #[command(after_help = "Examples:\n  kennel host use box\n  kennel host use local")]
    Use {
        /// Its name
        name: String,
    },
    /// Forget a name; the machine and its sessions stay as they are
    #[command(after_help = "Example:\n  kennel host rm box")]
    Rm {
        /// Its name
        name: String,
    },
}

/// `host add`.
#[derive(Debug, Args)]
pub struct HostAdd {
    /// Its name: letters, digits, `.`, `_` and `-`
    pub name: String,
    /// ssh://[user@]host[:port][/state-dir]; the host may be an alias of ssh's configuration
    pub address: HostAddress,
    /// The path of kennel there; else it is looked for in PATH, ~/.cargo/bin, ~/.local/bin and /usr/local/bin
    #[arg(long, value_name = "FILE")]
    pub kennel: Option<String>,
}
