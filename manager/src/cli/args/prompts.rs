//! Arguments of the commands that send prompts, and of those that answer an agent.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};
use protocol::api::WhenBusy;
use protocol::{PermissionId, PromptId};

use crate::cli::args::OneId;
use crate::cli::args::values::words;

/// `send`.
#[derive(Debug, Args)]
pub struct Send {
    /// The session: its id, its name, or the beginning of exactly one
    pub id: String,
    /// The prompt, words joined by spaces; `-`, or no prompt where standard input is no terminal, reads standard input
    #[arg(value_name = "TEXT")]
    pub text: Vec<String>,
    /// Attach a file as it is now: text, picture or sound; at most 16, with 8 MiB together
    #[arg(long = "file", short, value_name = "PATH")]
    pub files: Vec<PathBuf>,
    /// Print the prompt's id and do not wait for its turn
    #[arg(long)]
    pub no_wait: bool,
    /// Action if a turn runs or other prompts wait
    #[arg(long, value_name = "WHAT", default_value = "queue",
        value_parser = words::<WhenBusy>(&["queue", "reject", "interrupt"]))]
    pub when_busy: WhenBusy,
    /// Idempotency key: kennel accepts prompts with the same key once
    #[arg(long)]
    pub key: Option<String>,
}

/// `attach`.
#[derive(Debug, Args)]
pub struct Attach {
    /// The session: its id, its name, or the beginning of exactly one, or a directory, or ssh://HOST/DIR; else the current directory, and with --host the home there
    #[arg(value_name = "ID|DIR")]
    pub what: Option<String>,
    /// Read only: change nothing
    #[arg(long, conflicts_with = "takeover")]
    pub read_only: bool,
    /// Drive, even if another client does
    #[arg(long)]
    pub takeover: bool,
    /// Begin with what happens from now on, without the conversation so far
    #[arg(long)]
    pub no_history: bool,
}

/// `queue`.
#[derive(Debug, Subcommand)]
pub enum Queue {
    /// List prompts that run, wait, or were interrupted
    #[command(visible_alias = "list", after_help = "Example:\n  kennel queue ls session-1")]
    Ls(OneId),
    /// Replace the text of a waiting prompt
    #[command(after_help = "Example:\n  kennel queue edit session-1 prompt-17 'make check'")]
    Edit {
        /// The session: its id, its name, or the beginning of exactly one
        id: String,
        /// The prompt's id
        prompt: PromptId,
        /// The new text; `-` or no text reads standard input
        text: Vec<String>,
    },
    /// Remove a waiting prompt
    #[command(after_help = "Example:\n  kennel queue rm session-1 prompt-17")]
    Rm {
        /// The session: its id, its name, or the beginning of exactly one
        id: String,
        /// The prompt's id
        prompt: PromptId,
    },
    /// Remove all waiting prompts
    #[command(after_help = "Example:\n  kennel queue clear session-1")]
    Clear(OneId),
}

/// `permissions`.
#[derive(Debug, Subcommand)]
pub enum Permissions {
    /// List permissions that wait for an answer
    #[command(visible_alias = "list", after_help = "Example:\n  kennel permissions ls")]
    Ls {
        /// The session: its id, its name, or the beginning of exactly one; else all sessions
        id: Option<String>,
    },
    /// Allow what an agent asks for: once, unless --option says otherwise
    #[command(
        after_help = "Examples:\n  kennel permissions allow permission-17\n  kennel permissions allow permission-17 --option always"
    )]
    Allow {
        /// The permission's id
        permission: PermissionId,
        /// One of the agent's own options
        #[arg(long, value_name = "OPTION")]
        option: Option<String>,
    },
    /// Deny what an agent asks for
    #[command(after_help = "Example:\n  kennel permissions deny permission-17")]
    Deny {
        /// The permission's id
        permission: PermissionId,
    },
}

/// `resolve`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true))]
pub struct Resolve {
    /// The prompt's id
    pub prompt: PromptId,
    /// Send the same text again, at the head of the queue
    #[arg(long, group = "what")]
    pub retry: bool,
    /// Do not send the prompt again
    #[arg(long, group = "what")]
    pub drop: bool,
}

/// `abort`.
#[derive(Debug, Args)]
pub struct Abort {
    /// The session: its id, its name, or the beginning of exactly one
    #[arg(value_name = "ID")]
    pub id: String,
    /// The prompt whose turn is to end; else the one that runs now
    #[arg(value_name = "PROMPT")]
    pub prompt: Option<PromptId>,
}
