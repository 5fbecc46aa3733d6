//! Events of a session beside its turns, in words, as a conversation shows them.

use protocol::event::{EventKind, Outcome as Ended, RemovedBy, Resolution};

use super::text::restarting;
use crate::event_text;

/// Returns the words for an event; none for an event that a conversation shows otherwise or not at all.
pub fn words(kind: &EventKind) -> Option<String> {
    use EventKind::*;
    Some(match kind {
        SessionCreated { forked_from: Some(from), .. } => event_text::forked(from),
        SessionCreated { conversation: Some(conversation), .. } => event_text::taken_up(conversation),
        SessionRestarting { reason, old_pid, .. } => restarting("the session", reason, *old_pid),
        SessionRestarted { restore, .. } => format!("the session is back; the agent's memory: {restore}"),
        SessionStopped { .. } => "the session was stopped".into(),
        SessionFailed { reason, .. } => format!("the session has failed: {reason}"),
        SessionDeleted {} => "the session was removed".into(),
        SessionStalled { step, quiet_ms, .. } => event_text::stalled(*step, *quiet_ms),
        SessionOomKilled { peak_bytes, limit_bytes, by } => {
            event_text::out_of_memory(*peak_bytes, *limit_bytes, *by)
        }
        PromptRemoved { prompt_id, reason: RemovedBy::Removed | RemovedBy::Cleared } => {
            format!("{prompt_id} was taken out of the queue")
        }
        PromptResolved { prompt_id, action: Resolution::Drop, .. } => format!("{prompt_id} was given up"),
        SystemMessage { text } => text.clone(),
        SettingChanged { name, value, .. } => format!("{name} is {value} now"),
        SettingRefused { name, value, reason, .. } => {
            format!("the agent refused {name} = {value}: {reason}")
        }
        SubagentStarted { child, task, .. } => format!("started the sub-agent {child}: {task}"),
        SubagentCompleted { child, outcome } => match outcome {
            Ended::Completed => format!("the task of the sub-agent {child} has ended"),
            Ended::Aborted => format!("the task of the sub-agent {child} was aborted"),
            Ended::Interrupted => format!("the task of the sub-agent {child} was cut off"),
        },
        SubagentLost { child, reason } => format!("the sub-agent {child} has failed: {reason}"),
        _ => return None,
    })
}
