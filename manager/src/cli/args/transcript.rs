//! Arguments of the commands that show a conversation.

use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};
use protocol::event::Timestamp;

use super::values::{event, turns};
use crate::units::parse_since;

/// A form for people or programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TranscriptForm {
    /// Markdown
    Md,
    /// One object a line: a prompt, a message, a tool, an end
    #[value(alias = "jsonl")]
    Json,
    /// A page that needs nothing beside it
    Html,
}

/// The stretch of a conversation that is shown.
#[derive(Debug, Args)]
pub struct Stretch {
    /// Only the newest turns
    #[arg(long, short = 'n', value_name = "TURNS", value_parser = turns)]
    pub last: Option<usize>,
    /// Only from this time on: `2h` (ago), `14:30`, `2026-11-29`, `2026-11-29 14:30`, or RFC 3339
    #[arg(long, value_name = "TIME", value_parser = parse_since)]
    pub since: Option<Timestamp>,
}

/// `transcript`.
#[derive(Debug, Args)]
pub struct Transcript {
    /// The session: its id, its name, or the beginning of exactly one
    pub id: String,
    #[command(flatten)]
    pub part: Stretch,
    /// Begin with the turn of this event, as `kennel search` and `kennel events` print its number
    #[arg(long, value_name = "EVENT", value_parser = event, conflicts_with_all = ["last", "since"])]
    pub at: Option<u64>,
    /// Follow the conversation
    #[arg(long, short)]
    pub follow: bool,
    /// Form of the output; else text
    #[arg(long, value_enum, value_name = "FORM")]
    pub format: Option<TranscriptForm>,
    /// Do not use the pager
    #[arg(long)]
    pub no_pager: bool,
}

/// A form of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExportForm {
    /// Markdown
    Md,
    /// A page that needs nothing beside it
    Html,
    /// All events themselves, one a line
    #[value(alias = "json")]
    Jsonl,
}

/// `export`.
#[derive(Debug, Args)]
pub struct Export {
    /// The session: its id, its name, or the beginning of exactly one
    pub id: String,
    /// Form of the document
    #[arg(long, value_enum, value_name = "FORM", default_value = "md")]
    pub format: ExportForm,
    #[command(flatten)]
    pub part: Stretch,
    /// A new file, readable by you alone; else standard output
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub output: Option<PathBuf>,
}
