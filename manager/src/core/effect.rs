//! What a state wants done.
//!
//! Effects belong to states, not to transitions: a step's effects are what the new state wants and the old one
//! did not. So they can be issued again at any time from the journal alone, after the manager died between
//! commit and act, and each must do nothing when it was done already.

use protocol::wire::{CallAnswer, Offer, Setting};
use protocol::{EventId, Identity, Incarnation, PromptId};

/// Something to be done outside the core, for one session. Doing it twice is doing it once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Spawn this incarnation's worker; answered by `Spawned` or `SpawnFailed`.
    Spawn {
        /// Which.
        incarnation: Incarnation,
    },
    /// Its identity is in the journal: let it begin.
    Welcome {
        /// Whom.
        incarnation: Incarnation,
    },
    /// Hand it the running turn's prompt.
    Deliver {
        /// To whom.
        incarnation: Incarnation,
        /// Which prompt.
        prompt: PromptId,
    },
    /// Tell it to end the running turn.
    Abort {
        /// Whom.
        incarnation: Incarnation,
        /// Which prompt's turn.
        prompt: PromptId,
    },
    /// Tell it what was decided about a permission.
    Answer {
        /// Whom.
        incarnation: Incarnation,
        /// The worker's number of the question.
        request: u64,
        /// The option chosen; none: the question is cancelled.
        option: Option<String>,
    },
    /// Tell it what the client that drives can do for its agent.
    Driver {
        /// Whom.
        incarnation: Incarnation,
        /// The client, if it can do anything.
        client: Option<EventId>,
        /// What it can do.
        offers: Vec<Offer>,
    },
    /// Tell it what has become of a call.
    AnswerCall {
        /// Whom.
        incarnation: Incarnation,
        /// The worker's number of the call.
        request: u64,
        /// What.
        answer: CallAnswer,
    },
    /// Have the agent set something.
    Set {
        /// Whose.
        incarnation: Incarnation,
        /// The setting's number.
        request: u64,
        /// What, and to what.
        setting: Setting,
    },
    /// Ask it to end its tree and leave: SIGTERM.
    Terminate {
        /// Whom.
        incarnation: Incarnation,
    },
    /// SIGKILL, again in each round.
    Kill {
        /// Whom.
        incarnation: Incarnation,
        /// Counts the rounds from 1.
        round: u32,
    },
    /// A process that an earlier manager left: take it over and say `Linked`, or wait for its end, sweep what it
    /// left, and say `Gone`. What it said meanwhile is told before either.
    Reclaim {
        /// Which.
        incarnation: Incarnation,
        /// The process.
        worker: Identity,
    },
    /// Let go of this incarnation and all before: reap, close the link.
    Release {
        /// The last that is over.
        incarnation: Incarnation,
    },
}

impl Effect {
    /// Its name, in one word.
    pub fn name(&self) -> &'static str {
        match self {
            Effect::Spawn { .. } => "spawn",
            Effect::Welcome { .. } => "welcome",
            Effect::Deliver { .. } => "deliver",
            Effect::Abort { .. } => "abort",
            Effect::Answer { .. } => "answer",
            Effect::Driver { .. } => "driver",
            Effect::AnswerCall { .. } => "respond",
            Effect::Set { .. } => "set",
            Effect::Terminate { .. } => "terminate",
            Effect::Kill { .. } => "kill",
            Effect::Reclaim { .. } => "reclaim",
            Effect::Release { .. } => "release",
        }
    }
}

/// What the worker is told of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The worker's number of it.
    pub request: u64,
    /// What has become of it.
    pub answer: CallAnswer,
}
