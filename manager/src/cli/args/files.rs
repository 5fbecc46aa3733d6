//! Arguments of the commands that read files of a session.

use std::ffi::OsString;

use clap::{Args, Subcommand};

/// `files`.
#[derive(Debug, Subcommand)]
pub enum Files {
    /// List a directory
    #[command(
        after_help = "Examples:\n  kennel files ls session-1\n  kennel files ls session-1 src --json | jq '.entries[].name'"
    )]
    Ls(FilesLs),
    /// Print a file
    ///
    /// A file or pipe gets the file's bytes. A terminal gets text, and shows as an escape what could control it; files that are not
    /// text are not shown there without --raw.
    #[command(
        after_help = "Examples:\n  kennel files cat session-1 README.md\n  kennel files cat session-1 logo.png > logo.png"
    )]
    Cat(FilesCat),
    /// Show what has changed since the session was created
    ///
    /// Compares with the commit that was checked out then (`start_commit` in `kennel show --json`). New files count, unless
    /// .gitignore leaves them out; what the agent has committed counts, too.
    #[command(
        after_help = "Examples:\n  kennel files diff session-1 --stat\n  kennel files diff session-1 src > changes.patch"
    )]
    Diff(FilesDiff),
}

/// `files ls`.
#[derive(Debug, Args)]
pub struct FilesLs {
    /// The session: its id, its name, or the beginning of exactly one
    #[arg(value_name = "ID")]
    pub id: String,
    /// The directory, below the session's working directory
    #[arg(value_name = "PATH")]
    pub path: Option<OsString>,
    /// List the names after this one; at most 1000 are listed at a time
    #[arg(long, value_name = "NAME")]
    pub after: Option<OsString>,
}

/// `files cat`.
#[derive(Debug, Args)]
pub struct FilesCat {
    /// The session: its id, its name, or the beginning of exactly one
    #[arg(value_name = "ID")]
    pub id: String,
    /// The file, below the session's working directory
    #[arg(value_name = "PATH")]
    pub path: OsString,
    /// The number of bytes to leave out at the beginning
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    pub offset: u64,
    /// The most bytes [default: 256 KiB on a terminal, else all]
    #[arg(long, value_name = "BYTES")]
    pub length: Option<u64>,
    /// Print the bytes as they are, on a terminal, too
    #[arg(long)]
    pub raw: bool,
}

/// `files diff`.
#[derive(Debug, Args)]
pub struct FilesDiff {
    /// The session: its id, its name, or the beginning of exactly one
    #[arg(value_name = "ID")]
    pub id: String,
    /// A file or directory, below the session's working directory
    #[arg(value_name = "PATH")]
    pub path: Option<OsString>,
    /// List the changed files with the number of their lines
    #[arg(long)]
    pub stat: bool,
}
