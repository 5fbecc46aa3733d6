//! The effects of a step: actions outside the core.
//!
//! Effects belong to states, not to transitions: a step's effects are those of the new state that the old one had not. So
//! the journal alone is enough to issue them again, after the manager died between commit and act. Each does nothing if it
//! was done already.

use protocol::wire::{CallAnswer, Offer, Setting};
use protocol::{EventId, Identity, Incarnation, PromptId};

/// An action outside the core, for one session. Each is idempotent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Spawn this incarnation's worker. `Spawned` or `SpawnFailed` answers.
    Spawn {
        /// The incarnation to spawn.
        incarnation: Incarnation,
    },
    /// Send the first commands to a worker whose identity is on record.
    Welcome {
        /// The worker's incarnation.
        incarnation: Incarnation,
    },
    /// Send the running turn's prompt.
    Deliver {
        /// The worker's incarnation.
        incarnation: Incarnation,
        /// The prompt.
        prompt: PromptId,
    },
    /// Have the worker end the running turn.
    Abort {
        /// The worker's incarnation.
        incarnation: Incarnation,
        /// The turn's prompt.
        prompt: PromptId,
    },
    /// Send the answer to a permission request.
    Answer {
        /// The worker's incarnation.
        incarnation: Incarnation,
        /// The worker's number of the request.
        request: u64,
        /// The chosen option; none: the request is cancelled.
        option: Option<String>,
    },
    /// Send the driver and its offers.
    Driver {
        /// The worker's incarnation.
        incarnation: Incarnation,
        /// The driver; none if no driver can serve requests of the agent.
        client: Option<EventId>,
        /// Requests of the agent that the driver can serve.
        offers: Vec<Offer>,
    },
    /// Send the answer to a call.
    AnswerCall {
        /// The worker's incarnation.
        incarnation: Incarnation,
        /// The worker's number of the call.
        request: u64,
        /// The answer.
        answer: CallAnswer,
    },
    /// Change a setting of the agent.
    Set {
        /// The worker's incarnation.
        incarnation: Incarnation,
        /// The setting's number.
        request: u64,
        /// The setting's name and value.
        setting: Setting,
    },
    /// Send SIGTERM: the worker ends its tree and exits.
    Terminate {
        /// The worker's incarnation.
        incarnation: Incarnation,
    },
    /// Send SIGKILL, once per round.
    Kill {
        /// The worker's incarnation.
        incarnation: Incarnation,
        /// The number of the round, from 1.
        round: u32,
    },
    /// Take over a worker of an earlier manager. The observation `Linked` answers, or `Gone` after the
    /// worker's tree was swept. Messages that the worker sent meanwhile are observed before either.
    Reclaim {
        /// The worker's incarnation.
        incarnation: Incarnation,
        /// The worker's process.
        worker: Identity,
    },
    /// Close the link of this incarnation and of all before, and reap their workers.
    Release {
        /// The last incarnation to release.
        incarnation: Incarnation,
    },
}

impl Effect {
    /// The effect's name, in one word.
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

/// The answer to a call, on its way to the worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnsweredCall {
    /// The worker's number of the call.
    pub request: u64,
    /// The answer.
    pub answer: CallAnswer,
}
