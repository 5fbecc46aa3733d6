//! Things that somebody must do before a session goes on.

use std::fmt;

use protocol::api::{Need, NeedKind};
use protocol::event::Timestamp;
use protocol::wire::Offer;
use protocol::{CallId, PermissionId, PromptId};

use crate::core::limits::FIRST_PROMPT_CHARS;
use crate::core::model::session::Session;
use crate::core::model::state::State;

/// The most needs that are listed.
const NEEDS: usize = 32;

/// A need as the session's own data has it.
struct Wanted<'a> {
    kind: NeedKind,
    id: Option<Id>,
    text: &'a str,
    since: Timestamp,
}

/// The id of a need.
enum Id {
    Prompt(PromptId),
    Permission(PermissionId),
    Call(CallId),
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Id::Prompt(id) => id.fmt(f),
            Id::Permission(id) => id.fmt(f),
            Id::Call(id) => id.fmt(f),
        }
    }
}

impl Session {
    /// Returns true if the session waits for somebody.
    pub fn needs_somebody(&self) -> bool {
        self.needed().next().is_some()
    }

    /// Since when the session has waited for somebody; absent if it waits for nobody.
    pub fn needs_since(&self) -> Option<Timestamp> {
        self.needed().map(|wanted| wanted.since).min()
    }

    /// Things that somebody must do, the oldest first.
    pub fn needs(&self) -> Vec<Need> {
        let mut all: Vec<Wanted<'_>> = self.needed().collect();
        all.sort_by_key(|wanted| wanted.since);
        all.truncate(NEEDS);
        let need = |Wanted { kind, id, text, since }: Wanted<'_>| {
            let text = text.chars().take(FIRST_PROMPT_CHARS).collect();
            Need { kind, id: id.map(|id| id.to_string()), text, since }
        };
        all.into_iter().map(need).collect()
    }

    /// The kind of each thing that somebody must do, and since when it waits. In no order, and without a bound.
    pub fn all_needs(&self) -> impl Iterator<Item = (NeedKind, Timestamp)> {
        self.needed().map(|wanted| (wanted.kind, wanted.since))
    }

    fn needed(&self) -> impl Iterator<Item = Wanted<'_>> {
        // What an earlier version has left has no time of its own.
        let last = Timestamp(self.turns.last_message_at.unwrap_or(self.created_at));
        let failed = match &self.state {
            State::Failed(failure) => {
                let since = failure.failed_at.unwrap_or(last);
                Some(Wanted { kind: NeedKind::Failed, id: None, text: &failure.reason, since })
            }
            _ => None,
        };
        let interrupted = self.turns.interrupted.iter().map(move |prompt| Wanted {
            kind: NeedKind::Interrupted,
            id: Some(Id::Prompt(prompt.id)),
            text: &prompt.text,
            since: prompt.interrupted_at.map_or(last, Timestamp),
        });
        let asked = self.turns.questions().map(|(_, asked)| Wanted {
            kind: NeedKind::Permission,
            id: Some(Id::Permission(asked.id)),
            text: &asked.title,
            since: Timestamp(asked.asked_at),
        });
        let calls = self.turns.running.iter().flat_map(|turn| &turn.calls.open);
        let forms = calls.filter(|call| call.needs == Offer::Elicitation).map(move |call| Wanted {
            kind: NeedKind::Form,
            id: Some(Id::Call(call.id)),
            text: "values of a form",
            since: call.asked_at.map_or(last, Timestamp),
        });
        failed.into_iter().chain(interrupted).chain(asked).chain(forms)
    }
}
