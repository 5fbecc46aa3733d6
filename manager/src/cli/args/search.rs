//! Arguments of `search`.

use clap::Args;
use protocol::api::SearchKind;
use protocol::event::Timestamp;

use super::values::{hits, words};
use crate::units::parse_since;

/// `search`.
#[derive(Debug, Args)]
pub struct Search {
    /// Words that one text must all have; `"..."` is a phrase, `wor*` the beginning of a word
    #[arg(value_name = "TEXT", required = true)]
    pub text: Vec<String>,
    /// Only this session: its id, its name, or the beginning of exactly one
    #[arg(long, value_name = "ID")]
    pub session: Option<String>,
    /// Only sessions of this agent
    #[arg(long, value_name = "AGENT")]
    pub agent: Option<String>,
    /// Only this kind of text
    #[arg(long, value_name = "KIND",
        value_parser = words::<SearchKind>(&["title", "prompt", "message", "stderr", "thought", "tool"]))]
    pub kind: Option<SearchKind>,
    /// Only from this time on: `2h` (ago), `14:30`, `2026-11-29`, `2026-11-29 14:30`, or RFC 3339
    #[arg(long, value_name = "TIME", value_parser = parse_since)]
    pub since: Option<Timestamp>,
    /// The most hits
    #[arg(long = "limit", short = 'n', value_name = "HITS", value_parser = hits, default_value = "20")]
    pub limit: usize,
}
