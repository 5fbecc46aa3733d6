//! The result of a step, and what collects it while the step is made.

use protocol::EventId;
use protocol::event::{EventKind, Outcome};

use crate::core::effect::{Effect, Told};
use crate::core::input::Reply;
use crate::core::model::session::Session;
use crate::core::model::turn::Attached;

/// What the rest of the fleet must know of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// This sub-agent's task ended.
    TaskEnded {
        /// How.
        outcome: Outcome,
    },
    /// This sub-agent failed with its task open.
    TaskLost {
        /// Why.
        reason: String,
    },
}

/// What one step comes to.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The session after it.
    pub next: Session,
    /// What to record.
    pub events: Vec<EventKind>,
    /// What to keep with it.
    pub attached: Vec<Attached>,
    /// What to do once that is recorded.
    pub effects: Vec<Effect>,
    /// What the fleet must know.
    pub notes: Vec<Note>,
    /// What to tell whoever gave the command.
    pub reply: Reply,
}

/// Collects what a step says.
#[derive(Default)]
pub(in crate::core) struct Out {
    pub(in crate::core) base: EventId,
    pub(in crate::core) events: Vec<EventKind>,
    pub(in crate::core) notes: Vec<Note>,
    pub(in crate::core) told: Vec<Told>,
    pub(in crate::core) attached: Vec<Attached>,
}

impl Out {
    /// The id that the next emitted event will have.
    pub(in crate::core) fn next_event(&self) -> EventId {
        self.base + self.events.len() as EventId
    }

    pub(in crate::core) fn emit(&mut self, kind: EventKind) {
        self.events.push(kind);
    }

    /// The worker is told what has become of a call.
    pub(in crate::core) fn tell(&mut self, told: Told) {
        self.told.push(told);
    }

    /// Something is to be kept with what is recorded.
    pub(in crate::core) fn keep(&mut self, attached: Attached) {
        self.attached.push(attached);
    }

    pub(in crate::core) fn note(&mut self, note: Note) {
        self.notes.push(note);
    }
}
