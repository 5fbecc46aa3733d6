//! Arguments of `kennel subagent` and `kennel agents`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueHint};
use protocol::SessionId;

use crate::cli::args::Options;
use crate::cli::args::values::wait;

/// `subagent`.
#[derive(Debug, Subcommand)]
pub enum Subagent {
    /// Start a session with a task, and print its id
    #[command(after_help = "Example:\n  kennel subagent start --parent session-1 'make test'")]
    Start(Box<SubagentStart>),
    /// List sub-agents, oldest first
    #[command(visible_alias = "list", after_help = "Example:\n  kennel subagent ls --parent session-1")]
    Ls {
        /// Those of this session only: its id, or its worker's pid
        #[arg(long, value_name = "ID|PID")]
        parent: Option<String>,
    },
    /// Print a sub-agent's output, follow it, and exit when its task ends
    #[command(after_help = "Example:\n  kennel subagent wait session-2")]
    Wait {
        /// The sub-agent's id, or the beginning of exactly one
        id: String,
        /// Give up after this, with exit code 3
        #[arg(long, value_name = "DURATION", value_parser = wait)]
        timeout: Option<Duration>,
    },
    /// Print the output of a sub-agent's newest turn, without waiting
    ///
    /// Exits with 0 if the turn has ended well or still runs, with 1 if it failed or was aborted or interrupted.
    #[command(after_help = "Example:\n  kennel subagent result session-2")]
    Result {
        /// The sub-agent's id, or the beginning of exactly one
        id: String,
    },
}

/// `subagent start`.
#[derive(Debug, Args)]
pub struct SubagentStart {
    /// The task; `-`, or no task where standard input is no terminal, reads standard input
    #[arg(value_name = "TASK")]
    pub task: Vec<String>,
    /// The parent: a session's id, or its worker's pid
    #[arg(long, value_name = "ID|PID")]
    pub parent: Option<String>,
    /// The session's id; else session-N
    #[arg(long)]
    pub id: Option<SessionId>,
    /// The sub-agent's directory; else the current directory, and with --host the home there
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub dir: Option<PathBuf>,
    /// The sub-agent's options.
    #[command(flatten)]
    pub options: Options,
}

/// `agents`.
#[derive(Debug, Subcommand)]
pub enum Agents {
    /// List agents, whether they are installed, and how to install them
    ///
    /// The version and the abilities (to resume a conversation, to load it) are those that the agent reported in its
    /// newest session.
    #[command(
        visible_alias = "list",
        after_help = "Examples:\n  kennel agents ls\n  kennel agents ls codex --probe"
    )]
    Ls {
        /// These agents only
        #[arg(value_name = "AGENT")]
        names: Vec<String>,
        /// Start each installed agent, one after the other, and ask for its version and abilities
        #[arg(long)]
        probe: bool,
    },
}
