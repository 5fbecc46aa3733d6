//! Arguments of the commands that send prompts, and of those that answer an agent.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand};
use protocol::PromptId;
use protocol::api::WhenBusy;

use crate::cli::args::values::{wait, words};
use crate::cli::args::{Global, OneId, Start};

/// `send`.
#[derive(Debug, Args)]
pub struct Send {
    /// The session: its id, its name, or the beginning of exactly one
    pub id: String,
    /// The prompt: all words after the id, whatever they begin with; below them what standard input has, if it is no terminal
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
    /// Stop waiting after this, with exit code 3; the prompt goes on
    #[arg(long, value_name = "DURATION", value_parser = wait, conflicts_with = "no_wait")]
    pub timeout: Option<Duration>,
    /// Idempotency key: kennel accepts prompts with the same key once
    #[arg(long)]
    pub key: Option<String>,
}

/// The first word of a prompt that is the name of an option of its command: people type options behind it.
pub fn misplaced<A: Args>(text: &[String]) -> Option<&str> {
    let options = Global::augment_args(A::augment_args(clap::Command::new("kennel")));
    let named = |name: &str| options.get_arguments().any(|arg| arg.get_long() == Some(name));
    text.iter().map(String::as_str).find(|word| word.strip_prefix("--").is_some_and(named))
}

/// `run`.
#[derive(Debug, Args)]
pub struct Run {
    /// The session's id, name, directory and options.
    #[command(flatten)]
    pub start: Start,
    /// Remove the session when the command ends, however it ends; its turn ends with it
    #[arg(long, conflicts_with = "id")]
    pub rm: bool,
    /// Attach a file as it is now: text, picture or sound; at most 16, with 8 MiB together
    #[arg(long = "file", short, value_name = "PATH")]
    pub files: Vec<PathBuf>,
    /// Print the session's id and do not wait for the turn
    #[arg(long, conflicts_with_all = ["rm", "timeout"])]
    pub no_wait: bool,
    /// Stop waiting for the turn's end after this, with exit code 3
    #[arg(long, value_name = "DURATION", value_parser = wait)]
    pub timeout: Option<Duration>,
    /// The prompt: the first word that is no option, and all after it; below them what standard input has, if it is no terminal
    #[arg(value_name = "TEXT")]
    pub text: Vec<String>,
}

/// `attach`.
#[derive(Debug, Args)]
pub struct Attach {
    /// The session: its id, its name, or the beginning of exactly one, or a directory, or ssh://HOST/DIR; else the session of the current directory (with --host of the home there), or else the one with the newest message
    #[arg(value_name = "ID|DIR")]
    pub what: Option<String>,
    /// Line by line also on a terminal, instead of the whole screen
    #[arg(long)]
    pub plain: bool,
    /// Read only: change nothing
    #[arg(long, conflicts_with = "takeover")]
    pub read_only: bool,
    /// Drive, even if another client does
    #[arg(long)]
    pub takeover: bool,
    /// Begin with what happens from now on, without the conversation so far
    #[arg(long)]
    pub no_history: bool,
    /// Begin at this event: `kennel search` and `kennel events` print their numbers
    #[arg(long, value_name = "EVENT", requires = "what", conflicts_with = "no_history", value_parser = super::values::event)]
    pub at: Option<u64>,
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
        /// The permission's id, or the session that waits for it
        permission: String,
        /// One of the agent's own options
        #[arg(long, value_name = "OPTION")]
        option: Option<String>,
    },
    /// Deny what an agent asks for
    #[command(after_help = "Example:\n  kennel permissions deny permission-17")]
    Deny {
        /// The permission's id, or the session that waits for it
        permission: String,
    },
}

/// `answer`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("answer").required(true), override_usage = "kennel answer [OPTIONS] <ID> <OPTION|--allow|--deny>")]
pub struct Answer {
    /// The session that waits: its id, its name, or the beginning of exactly one; or the permission's id
    #[arg(value_name = "ID")]
    pub permission: String,
    /// The option: its number in `kennel permissions ls`, its name, its id or its kind
    #[arg(value_name = "OPTION", group = "answer")]
    pub option: Option<String>,
    /// Allow it: once, if the agent offers that
    #[arg(long, group = "answer")]
    pub allow: bool,
    /// Deny it: once, if the agent offers that
    #[arg(long, group = "answer")]
    pub deny: bool,
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
