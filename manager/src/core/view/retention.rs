//! The part of a session's history that must stay.

use protocol::{EventId, PromptId};

use crate::core::model::session::Session;

impl Session {
    /// Returns the first event that is still needed: nothing from there on is ever pruned. `EventId::MAX` if
    /// none is.
    ///
    /// A prompt is needed if it runs, waits, or was interrupted and may be run again, with every event after
    /// it. So is a sub-agent's task with its answer: the parent reads it.
    pub fn needs_from(&self) -> EventId {
        let turns = &self.turns;
        let running = turns.running.iter().map(|turn| &turn.prompt);
        let prompts = running.chain(&turns.queue).chain(&turns.interrupted).map(|prompt| prompt.id);
        let prompts = prompts.chain(self.task.iter().map(|task| task.prompt));
        prompts.map(|PromptId(event)| event).min().unwrap_or(EventId::MAX)
    }
}
