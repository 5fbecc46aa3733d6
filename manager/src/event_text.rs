//! Texts of events that every surface shows alike.

use protocol::Keeper;
use protocol::api::ForkedFrom;
use protocol::event::StallStep;

use crate::units;

/// Returns the line about a session's origin.
pub fn forked(from: &ForkedFrom) -> String {
    let ForkedFrom { session_id, turn, told } = from;
    let turns = if *told == 1 { "turn" } else { "turns" };
    format!("forked from {session_id} at turn {turn}; the agent is told {told} {turns} before its first")
}

/// Returns the line about a conversation that a session takes up.
pub fn taken_up(conversation: &str) -> String {
    format!("goes on with the agent's conversation {}, begun outside kennel", conversation.escape_debug())
}

/// Returns the line about an agent that shows no sign of work.
pub fn stalled(step: StallStep, quiet_ms: u64) -> String {
    let quiet = units::duration(quiet_ms);
    match step {
        StallStep::Noticed => format!("the agent has shown no sign of work for {quiet}"),
        StallStep::Resumed => format!("the agent works again, after {quiet}"),
        StallStep::Cancelled => {
            format!("the agent has shown no sign of work for {quiet} and is told to end its turn")
        }
    }
}

/// Returns the text of `session.oom_killed`.
pub fn out_of_memory(peak_bytes: Option<u64>, limit_bytes: u64, by: Keeper) -> String {
    let had = peak_bytes.map(|peak| format!(": they had {}", units::size(peak))).unwrap_or_default();
    let limit = units::size(limit_bytes);
    format!("processes were killed for their memory{had}, the limit is {limit} ({by})")
}
