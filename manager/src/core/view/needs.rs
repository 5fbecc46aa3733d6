//! What a session waits for somebody to do.

use protocol::api::{Need, NeedKind};
use protocol::event::Timestamp;
use protocol::wire::Offer;

use crate::core::limits::FIRST_PROMPT_CHARS;
use crate::core::model::session::Session;
use crate::core::model::state::State;

/// The most needs that are listed.
const NEEDS: usize = 32;

impl Session {
    /// Returns true if the session waits for somebody.
    pub fn needs_somebody(&self) -> bool {
        !self.needs().is_empty()
    }

    /// Things that somebody must do, the oldest first.
    pub fn needs(&self) -> Vec<Need> {
        let last = Timestamp(self.turns.last_message_at.unwrap_or(self.created_at));
        let need = |kind, id: Option<String>, text: &str, since| {
            let text = text.chars().take(FIRST_PROMPT_CHARS).collect();
            Need { kind, id, text, since }
        };
        let mut needs = Vec::new();
        if let State::Failed(failure) = &self.state {
            needs.push(need(NeedKind::Failed, None, &failure.reason, last));
        }
        for prompt in &self.turns.interrupted {
            needs.push(need(NeedKind::Interrupted, Some(prompt.id.to_string()), &prompt.text, last));
        }
        for (_, asked) in self.turns.questions() {
            let (id, since) = (Some(asked.id.to_string()), Timestamp(asked.asked_at));
            needs.push(need(NeedKind::Permission, id, &asked.title, since));
        }
        let calls = self.turns.running.iter().flat_map(|turn| &turn.calls.open);
        for call in calls.filter(|call| call.needs == Offer::Elicitation) {
            needs.push(need(NeedKind::Form, Some(call.id.to_string()), "values of a form", last));
        }
        needs.sort_by_key(|need| need.since);
        needs.truncate(NEEDS);
        needs
    }
}
