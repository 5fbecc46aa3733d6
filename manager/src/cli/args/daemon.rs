//! Arguments of the commands about the daemon, its events and its files.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueHint};

use crate::cli::ui::units::parse_duration;

/// `daemon`.
#[derive(Debug, Subcommand)]
pub enum Daemon {
    /// Run it here, in the foreground
    ///
    /// SIGTERM and SIGHUP end it and leave its sessions' processes to the next daemon: their turns go on. SIGINT (Ctrl-C) ends
    /// it and all processes of its sessions; the next daemon brings the sessions back. A second SIGINT ends it at once.
    #[command(after_help = "Example:\n  kennel daemon run")]
    Run {
        /// The session-worker program; else the one beside this executable
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        worker: Option<PathBuf>,
        /// As the other commands start it
        #[arg(long, hide = true)]
        detached: bool,
    },
    /// Start it in the background, if it does not run yet
    #[command(after_help = "Example:\n  kennel daemon start")]
    Start,
    /// End it and all processes of its sessions; the next one brings them back
    #[command(after_help = "Example:\n  kennel daemon stop")]
    Stop,
    /// Tell whether it runs, and how it is
    #[command(after_help = "Examples:\n  kennel daemon status\n  kennel daemon status --json | jq .pid")]
    Status,
    /// Replace it by a new one, which takes its sessions over: their turns go on
    #[command(after_help = "Example:\n  kennel daemon restart")]
    Restart,
    /// Look whether this kennel can go on where the daemon is; then replace the daemon by it
    #[command(after_help = "Example:\n  kennel daemon upgrade")]
    Upgrade,
    /// Look whether this kennel can read the journal, and change nothing
    #[command(after_help = "Example:\n  kennel daemon check")]
    Check,
    /// Print a systemd user unit that runs it
    #[command(after_help = "Example:\n  kennel daemon unit > ~/.config/systemd/user/kennel.service")]
    Unit,
}

/// `events`.
#[derive(Debug, Args)]
pub struct Events {
    /// One session only: its id, or the beginning of exactly one
    pub id: Option<String>,
    /// Go on with what happens
    #[arg(long, short)]
    pub follow: bool,
    /// Begin after this event; else at the beginning, with --follow now
    #[arg(long, value_name = "EVENT")]
    pub after: Option<u64>,
}

/// `df`.
#[derive(Debug, Args)]
pub struct Df {
    /// All sessions; else the largest ten
    #[arg(long, short)]
    pub all: bool,
}

/// `prune`.
#[derive(Debug, Args)]
pub struct Prune {
    /// Turns that ended longer ago than this
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub older_than: Option<Duration>,
    /// The oldest turns, until the journal has no more than this in use
    #[arg(long, value_name = "SIZE", value_parser = crate::config::parse_size)]
    pub max_size: Option<u64>,
    /// Damaged journals that were kept
    #[arg(long)]
    pub damaged: bool,
    /// Tell what would go, and remove nothing
    #[arg(long, conflicts_with = "force")]
    pub dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    pub force: bool,
}
