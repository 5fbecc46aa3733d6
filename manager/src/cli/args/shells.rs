//! Arguments of the commands that print what shells and `man` read.

use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};

/// A shell whose command lines kennel completes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// bash, 4.4 or later
    Bash,
    /// zsh
    Zsh,
    /// fish, 3.4 or later
    Fish,
}

/// `completion`.
#[derive(Debug, Args)]
pub struct Completion {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub shell: Shell,
}

/// `man`.
#[derive(Debug, Args)]
pub struct Man {
    /// The directory for the pages, one for each command (`./NAME` where it has a command's name); a command, whose page goes to
    /// standard output; without either the page of `kennel`
    #[arg(value_name = "DIR|COMMAND", value_hint = ValueHint::DirPath)]
    pub dir: Option<PathBuf>,
}
