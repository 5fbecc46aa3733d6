//! The result of a step, and the collector that a step writes it into.

use protocol::EventId;
use protocol::event::{EventKind, Outcome};

use crate::core::effect::{AnsweredCall, Effect};
use crate::core::input::Reply;
use crate::core::model::session::Session;
use crate::core::model::turn::Attached;

/// News of a sub-agent for the fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// The sub-agent's task ended.
    TaskEnded {
        /// The outcome of the task's prompt.
        outcome: Outcome,
    },
    /// The sub-agent failed before its task ended.
    TaskLost {
        /// The reason for which the sub-agent failed.
        reason: String,
    },
}

/// The result of one step.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The session after the step.
    pub next: Session,
    /// Events to record.
    pub events: Vec<EventKind>,
    /// Attachments to record.
    pub attached: Vec<Attached>,
    /// Effects to perform once the events are recorded.
    pub effects: Vec<Effect>,
    /// News for the fleet.
    pub notes: Vec<Note>,
    /// The answer to the command.
    pub reply: Reply,
}

/// Collects the results of a step while it is made.
#[derive(Default)]
pub(in crate::core) struct Out {
    pub(in crate::core) base: EventId,
    pub(in crate::core) events: Vec<EventKind>,
    pub(in crate::core) notes: Vec<Note>,
    pub(in crate::core) answered_calls: Vec<AnsweredCall>,
    pub(in crate::core) attached: Vec<Attached>,
}

impl Out {
    /// The id of the event that `emit` adds next.
    pub(in crate::core) fn next_event(&self) -> EventId {
        self.base + self.events.len() as EventId
    }

    pub(in crate::core) fn emit(&mut self, kind: EventKind) {
        self.events.push(kind);
    }

    /// Sends the answer to a call.
    pub(in crate::core) fn answer_call(&mut self, answered: AnsweredCall) {
        self.answered_calls.push(answered);
    }

    /// Records attachments of a prompt.
    pub(in crate::core) fn keep(&mut self, attached: Attached) {
        self.attached.push(attached);
    }

    pub(in crate::core) fn note(&mut self, note: Note) {
        self.notes.push(note);
    }
}
