//! Arguments of the commands about the daemon, its events and its files.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand, ValueHint};
use protocol::event::{EventKind, Timestamp};

use crate::cli::args::values::{event, newest};
use crate::config::bounds::SMALLEST_JOURNAL;
use crate::units::{parse_duration, parse_since};

/// `daemon`.
#[derive(Debug, Subcommand)]
pub enum Daemon {
    /// Run the daemon in the foreground
    ///
    /// SIGTERM and SIGHUP end it and leave its sessions' processes to the next daemon: their turns go on. SIGINT
    /// (Ctrl-C) ends it and all processes of its sessions; the next daemon brings the sessions back. A second SIGINT
    /// ends it at once.
    #[command(after_help = "Example:\n  kennel daemon run")]
    Run {
        /// The session-worker program; else the one next to this executable
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        worker: Option<PathBuf>,
        /// Detach, as when another command starts the daemon
        #[arg(long, hide = true)]
        detached: bool,
    },
    /// Start the daemon in the background, unless it runs already
    #[command(after_help = "Example:\n  kennel daemon start")]
    Start,
    /// Stop the daemon and all processes of its sessions; the next daemon brings the sessions back
    #[command(after_help = "Example:\n  kennel daemon stop")]
    Stop,
    /// Print whether the daemon runs, and its state
    #[command(after_help = "Examples:\n  kennel daemon status\n  kennel daemon status --json | jq .pid")]
    Status,
    /// Replace the daemon by a new one, which adopts its sessions: their turns go on
    #[command(after_help = "Example:\n  kennel daemon restart")]
    Restart,
    /// Check that this kennel can take over from the running daemon; then replace the daemon
    #[command(after_help = "Example:\n  kennel daemon upgrade")]
    Upgrade,
    /// Check that this kennel can read the journal; changes nothing
    #[command(after_help = "Example:\n  kennel daemon check")]
    Check,
    /// Print a systemd unit that runs the daemon
    #[command(
        after_help = "Examples:\n  kennel daemon unit > ~/.config/systemd/user/kennel.service\n  kennel daemon unit --system > kennel.service"
    )]
    Unit(Unit),
    /// Write the systemd user unit to where systemd looks for it, and print its path
    ///
    /// Tells what to type to start it. Safe to repeat. Replaces no unit that kennel has not written.
    #[command(after_help = "Example:\n  kennel daemon install")]
    Install,
    /// Remove the systemd user unit that `kennel daemon install` wrote; a daemon that runs goes on
    #[command(after_help = "Example:\n  kennel daemon uninstall")]
    Uninstall,
}

/// `daemon unit`.
#[derive(Debug, Args)]
pub struct Unit {
    /// For the system's service manager, which starts the daemon at boot as this user
    ///
    /// Its state directory is /var/lib/kennel, unless --state-dir or KENNEL_STATE_DIR names another.
    #[arg(long)]
    pub system: bool,
}

/// `events`.
#[derive(Debug, Args)]
pub struct Events {
    /// One session only: its id, or the beginning of exactly one
    pub id: Option<String>,
    /// Follow new events
    #[arg(long, short)]
    pub follow: bool,
    /// Begin after this event; else at the beginning, with --follow now
    #[arg(long, value_name = "EVENT", allow_negative_numbers = true, value_parser = event)]
    pub after: Option<u64>,
    /// Only from this time on: `2h` (ago), `14:30`, `2026-11-29`, `2026-11-29 14:30`, or RFC 3339
    #[arg(long, value_name = "TIME", value_parser = parse_since)]
    pub since: Option<Timestamp>,
    /// Only the newest events, of those that the other options leave
    #[arg(long, short = 'n', value_name = "EVENTS", allow_negative_numbers = true, value_parser = newest)]
    pub last: Option<usize>,
    /// Only events of these types, like turn.completed,session.failed
    #[arg(long = "type", value_name = "TYPE", value_delimiter = ',', hide_possible_values = true,
        value_parser = PossibleValuesParser::new(EventKind::NAMES))]
    pub types: Vec<String>,
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
    /// Remove turns that ended longer ago than this; 0 is refused, see --all
    #[arg(long, value_name = "DURATION", value_parser = age)]
    pub older_than: Option<Duration>,
    /// Remove the oldest turns until the journal uses at most this, 16M or more
    #[arg(long, value_name = "SIZE", value_parser = journal_size)]
    pub max_size: Option<u64>,
    /// Remove all turns that kennel does not need
    #[arg(long, conflicts_with_all = ["older_than", "max_size"])]
    pub all: bool,
    /// Remove damaged journals that kennel has set aside
    #[arg(long)]
    pub damaged: bool,
    /// Print what would be removed, and remove nothing
    #[arg(long, conflicts_with = "force")]
    pub dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    pub force: bool,
}

/// Where 0 stands in `config.toml` the limit does not apply; who writes it here may mean that, or that nothing shall stay.
const NOT_ZERO: &str =
    "0 could mean all turns or none: write --all to remove all, or leave the option out to remove none by";

fn age(text: &str) -> Result<Duration, String> {
    let age = parse_duration(text)?;
    if age.is_zero() { Err(format!("{NOT_ZERO} age")) } else { Ok(age) }
}

fn journal_size(text: &str) -> Result<u64, String> {
    match crate::config::parse_size(text)? {
        0 => Err(format!("{NOT_ZERO} size")),
        bytes if bytes < SMALLEST_JOURNAL => Err("the journal has 16M at least; write 16M or more".into()),
        bytes => Ok(bytes),
    }
}
