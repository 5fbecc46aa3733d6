//! Events of the session beside its turns, in words.

use protocol::event::{EventKind, RemovedBy};

use crate::cli::events;
use crate::event_text;

/// Returns the note about an event; none for an event that a conversation does not show.
pub fn of(kind: &EventKind) -> Option<String> {
    use EventKind::*;
    Some(match kind {
        SessionCreated { forked_from: Some(from), .. } => event_text::forked(from),
        SessionCreated { conversation: Some(conversation), .. } => event_text::taken_up(conversation),
        SessionRestarting { reason, old_pid, .. } => events::restarting("the session", reason, *old_pid),
        SessionRestarted { restore, .. } => format!("the session is back; the agent's memory: {restore}"),
        SessionStopped { .. } => "the session was stopped".into(),
        SessionFailed { reason, .. } => {
            format!("the session has failed: {reason}; `kennel restart SESSION` tries again")
        }
        SessionDeleted {} => "the session was removed".into(),
        SessionStalled { step, quiet_ms, .. } => event_text::stalled(*step, *quiet_ms),
        SessionOomKilled { peak_bytes, limit_bytes, by } => {
            event_text::out_of_memory(*peak_bytes, *limit_bytes, *by)
        }
        PromptRemoved { prompt_id, reason: RemovedBy::Removed | RemovedBy::Cleared } => {
            format!("{prompt_id} was taken out of the queue")
        }
        SystemMessage { text } => text.clone(),
        SettingChanged { .. }
        | SettingRefused { .. }
        | SubagentStarted { .. }
        | SubagentCompleted { .. }
        | SubagentLost { .. } => events::told(kind),
        _ => return None,
    })
}
