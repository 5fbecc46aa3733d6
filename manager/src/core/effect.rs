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

/// How far the record of a change must have come before an effect of it may be performed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// The record is written: it survives the death of any process, but not a power cut. For effects that touch only
    /// processes of this machine. A power cut that takes the record back takes those processes too.
    Written,
    /// The record is synced to the disk. For effects that something outside of this machine may see, or that change what
    /// the next manager finds on the disk.
    Synced,
}

impl Effect {
    /// How far the record must have come before this effect may be performed.
    pub fn needs(&self) -> Needs {
        match self {
            // A new worker does nothing until it is welcomed, and leaves without a manager.
            Effect::Spawn { .. } => Needs::Written,
            // The worker starts an ACP agent, which opens its conversation and gets no prompt. After a power cut the next
            // worker opens it again, as after every death of an agent, under the same number: no process and no client has
            // seen the number, and a start removes the files of workers that are not on record.
            Effect::Welcome { .. } => Needs::Written,
            // The next manager finds a dead process and judges: nobody was told that the end was asked for.
            Effect::Terminate { .. } | Effect::Kill { .. } => Needs::Written,
            // A boot whose power was cut has no zombies and no pids. Files of the worker, which a boot does not end, are
            // removed once the record is synced (`Workers::discard`).
            Effect::Release { .. } => Needs::Written,
            // A turn acts outside of this machine, and must not be run a second time by mistake.
            Effect::Deliver { .. } => Needs::Synced,
            // Each of these reaches an agent in the middle of its work, and decides what the agent does next.
            Effect::Abort { .. }
            | Effect::Answer { .. }
            | Effect::Driver { .. }
            | Effect::AnswerCall { .. }
            | Effect::Set { .. } => Needs::Synced,
            // The worker is told which of its messages are on record, and removes those from its spool.
            Effect::Reclaim { .. } => Needs::Synced,
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
