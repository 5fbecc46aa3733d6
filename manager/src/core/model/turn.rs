//! The conversation of a session: prompts, the running turn, and what its agent asks for.

use std::collections::VecDeque;
use std::sync::Arc;

use protocol::api::{AttachmentInfo, WhenBusy};
use protocol::event::StallStep;
use protocol::wire::{Attachment, Offer, PermissionOption};
use protocol::{CallId, EventId, PermissionId, PromptId};
use serde::{Deserialize, Serialize};

/// A prompt that may still be run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prompt {
    /// Its id.
    pub id: PromptId,
    /// Its text. The journal keeps it in a row of its own, written once, and not in the session's.
    #[serde(skip)]
    pub text: Arc<str>,
    /// What belongs to it. What is in them is in the journal only, until it is handed to a worker.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<AttachmentInfo>,
}

/// A prompt that a client wants accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPrompt {
    /// Its text, checked by the caller.
    pub text: Arc<str>,
    /// What to do if a turn runs or others wait.
    pub when_busy: WhenBusy,
    /// What belongs to it, checked by the caller.
    pub attachments: Arc<[Attachment]>,
}

impl NewPrompt {
    /// Nothing but a text.
    pub fn text(text: impl Into<Arc<str>>, when_busy: WhenBusy) -> Self {
        Self { text: text.into(), when_busy, attachments: Arc::default() }
    }
}

impl Prompt {
    /// Nothing but a text.
    pub fn text(id: PromptId, text: impl Into<Arc<str>>) -> Self {
        Self { id, text: text.into(), attachments: Vec::new() }
    }
}

/// What is to be kept for a prompt until it has ended, beside the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Which prompt.
    pub prompt: PromptId,
    /// What.
    pub what: Arc<[Attachment]>,
}

/// The turn that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// Counts the session's turns from 1.
    pub number: u64,
    /// What the agent was told.
    pub prompt: Prompt,
    /// How far it is.
    pub phase: Phase,
    /// The agent has said something on standard output.
    pub spoke: bool,
    /// It has done something else that can be seen: used a tool, planned, asked.
    #[serde(default)]
    pub acted: bool,
    /// Permissions that wait for an answer, oldest first.
    #[serde(default)]
    pub open: Vec<Permission>,
    /// What was decided about the others.
    #[serde(default)]
    pub answers: Vec<Answer>,
    /// Tool calls that have not ended, by the agent's ids.
    #[serde(default)]
    pub tools: Vec<String>,
    /// What it wants done by a client.
    #[serde(default)]
    pub calls: Calls,
    /// When its time is up, in milliseconds since boot, if it has begun and its session says how long one may take.
    #[serde(default)]
    pub until: Option<u64>,
    /// Its time was up before anybody asked for its end.
    #[serde(default)]
    pub timed_out: bool,
    /// For how long nothing has shown that its agent works.
    #[serde(default)]
    pub quiet: Quiet,
    /// How much of what the agent has said in it is on record, in bytes.
    #[serde(default)]
    pub recorded: u64,
    /// How much of what it has asked is on record since `recorded` is full, in bytes.
    #[serde(default)]
    pub asked: u64,
}

impl Turn {
    /// Its worker has said that it has the prompt. One that has not said so may have it.
    pub fn is_taken(&self) -> bool {
        match self.phase {
            Phase::Sent { .. } => false,
            Phase::Started { .. } => true,
            Phase::Aborting { agent_pid, .. } => agent_pid.is_some(),
        }
    }

    pub(in crate::core) fn is_empty(&self) -> bool {
        !self.spoke && !self.acted
    }

    /// The stop reason of a turn that was aborted.
    pub(in crate::core) fn why_aborted(&self) -> &'static str {
        if self.timed_out { "timeout" } else { "cancelled" }
    }

    /// It is being aborted because nothing showed that its agent worked.
    pub fn is_stalled(&self) -> bool {
        self.quiet.step == Some(StallStep::Cancelled)
    }

    pub(in crate::core) fn waits_for_somebody(&self) -> bool {
        !self.open.is_empty() || !self.calls.open.is_empty()
    }
}

/// How far a turn is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Given to the worker, which must take it by `deadline`.
    Sent {
        /// In milliseconds since boot.
        deadline: u64,
    },
    /// The agent works on it.
    Started {
        /// The process.
        agent_pid: u32,
    },
    /// Somebody asked for its end, which must come by `deadline`.
    Aborting {
        /// In milliseconds since boot.
        deadline: u64,
        /// The agent's process, if it had begun.
        agent_pid: Option<u32>,
    },
}

/// The conversation of one session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turns {
    /// Prompts that wait, the next one first.
    pub queue: VecDeque<Prompt>,
    /// The turn that runs. Only a session with a process has one.
    pub running: Option<Turn>,
    /// Prompts whose turn was cut off and of which nobody has said what is to become of them.
    pub interrupted: Vec<Prompt>,
    /// Turns begun.
    pub count: u64,
    /// Prompts given to the agent, and answers that came back.
    pub messages: u64,
    /// When a user or agent last said something, unix time in milliseconds.
    pub last_message_at: Option<u64>,
    /// The beginning of the first prompt.
    pub first_prompt: Option<Arc<str>>,
    /// The next prompt is one whose agent's program did not come to run: it is not tried again before then, in milliseconds since
    /// boot.
    #[serde(default)]
    pub not_before: Option<u64>,
    /// How much of what the agent has said since its newest turn, and in none, is on record, in bytes.
    #[serde(default)]
    pub between: u64,
    /// What it has asked in no turn.
    #[serde(default)]
    pub asked: Questions,
    /// The newest turn came to its end without a word.
    #[serde(default)]
    pub empty: bool,
}

impl Turns {
    /// Whether this prompt's turn runs and nobody has asked for its end.
    pub(in crate::core) fn runs_unasked(&self, prompt: PromptId) -> bool {
        let asked = |turn: &Turn| matches!(turn.phase, Phase::Aborting { .. });
        self.running.as_ref().is_some_and(|turn| turn.prompt.id == prompt && !asked(turn))
    }

    /// The prompt that the session works on: its turn runs, or its agent's program is missing and kennel tries it again.
    pub fn current(&self) -> Option<PromptId> {
        let waits = || self.not_before.and(self.queue.front()).map(|prompt| prompt.id);
        self.running.as_ref().map(|turn| turn.prompt.id).or_else(waits)
    }

    /// Permissions that wait for an answer, with the prompt in whose turn they were asked.
    pub fn questions(&self) -> impl Iterator<Item = (Option<PromptId>, &Permission)> {
        let turn = self.running.as_ref();
        let in_turn = turn.into_iter().flat_map(|turn| turn.open.iter().map(|it| (Some(turn.prompt.id), it)));
        in_turn.chain(self.asked.open.iter().map(|it| (None, it)))
    }
}

/// A permission that waits for an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permission {
    /// Its id.
    pub id: PermissionId,
    /// The worker's number of the question.
    pub request: u64,
    /// What the agent wants to do, in its words.
    pub title: String,
    /// What can be answered.
    pub options: Vec<PermissionOption>,
    /// When it was asked, unix time in milliseconds.
    pub asked_at: u64,
    /// When it is denied for want of an answer, in milliseconds since boot.
    pub expires: Option<u64>,
}

/// A decision that the worker is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The permission.
    pub id: PermissionId,
    /// The worker's number of the question.
    pub request: u64,
    /// The option chosen; none: the question is cancelled.
    pub option: Option<String>,
}

/// What an agent asks while no turn runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Questions {
    /// Permissions that wait for an answer, oldest first.
    pub open: Vec<Permission>,
    /// What was decided about the newest of the others.
    pub answers: Vec<Answer>,
}

impl Questions {
    /// When the first expires, in milliseconds since boot.
    pub(in crate::core) fn deadline(&self) -> Option<u64> {
        self.open.iter().filter_map(|open| open.expires).min()
    }
}

/// Something that a client is to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Its id.
    pub id: CallId,
    /// The worker's number of it.
    pub request: u64,
    /// Who is asked; none: nobody that can do it drives now, and it waits for one.
    pub client: Option<EventId>,
    /// What it takes to do it.
    pub needs: Offer,
    /// When it is given up, in milliseconds since boot.
    pub expires: Option<u64>,
}

/// The calls of a turn.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calls {
    /// Those that wait for an answer, oldest first.
    pub open: Vec<Call>,
}

impl Calls {
    /// Whether one waits for a person.
    pub fn want_a_person(&self) -> bool {
        self.open.iter().any(|call| call.needs == Offer::Elicitation)
    }

    /// When the first is given up.
    pub fn deadline(&self) -> Option<u64> {
        self.open.iter().filter_map(|call| call.expires).min()
    }
}

/// For how long nothing has shown that the agent of a turn works.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quiet {
    /// So long, in milliseconds. It is added up from looks, of which none counts for more than a worker may be silent: the
    /// sleep of the machine, or of a manager, is nobody's silence.
    pub ms: u64,
    /// When it was last looked at, or last showed something, in milliseconds since boot.
    pub looked_at: Option<u64>,
    /// Processor time that its processes had used at the last look, in milliseconds, and when that was.
    pub cpu: Option<(u64, u64)>,
    /// What was done about it.
    pub step: Option<StallStep>,
}
