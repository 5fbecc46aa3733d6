//! The conversation of a session: prompts, the running turn, and what its agent asks for.

use std::collections::VecDeque;
use std::sync::Arc;

use protocol::api::{AttachmentInfo, WhenBusy};
use protocol::event::StallStep;
use protocol::wire::{Attachment, Offer, PermissionOption};
use protocol::{CallId, EventId, PermissionId, PromptId};
use serde::{Deserialize, Serialize};

use super::is_default;
/// A prompt that waits, runs or was interrupted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prompt {
    /// The prompt's id.
    pub id: PromptId,
    /// The prompt's text. The journal keeps it in a row of its own, which is written once.
    #[serde(skip)]
    pub text: Arc<str>,
    /// The names and sizes of its attachments. Their content is in the journal until a worker gets it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<AttachmentInfo>,
    /// Time at which its turn was interrupted, unix time in milliseconds; none: it was not, or by an earlier version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interrupted_at: Option<u64>,
}

/// A prompt that a client sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPrompt {
    /// The text, checked by the caller.
    pub text: Arc<str>,
    /// The action if a turn runs or other prompts wait.
    pub when_busy: WhenBusy,
    /// The attachments, checked by the caller.
    pub attachments: Arc<[Attachment]>,
}

impl NewPrompt {
    /// A prompt without attachments.
    pub fn text(text: impl Into<Arc<str>>, when_busy: WhenBusy) -> Self {
        Self { text: text.into(), when_busy, attachments: Arc::default() }
    }
}

impl Prompt {
    /// A prompt without attachments.
    pub fn text(id: PromptId, text: impl Into<Arc<str>>) -> Self {
        Self { id, text: text.into(), attachments: Vec::new(), interrupted_at: None }
    }
}

/// Attachments that the journal keeps beside the session until their prompt ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// The prompt's id.
    pub prompt: PromptId,
    /// The attachments.
    pub what: Arc<[Attachment]>,
}

/// A running turn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// The number of the turn, from 1 in each session.
    pub number: u64,
    /// The prompt that the agent got.
    pub prompt: Prompt,
    /// The phase of the turn.
    pub phase: Phase,
    /// The agent wrote to standard output.
    pub spoke: bool,
    /// The agent used a tool, planned or asked.
    #[serde(default)]
    pub acted: bool,
    /// Permissions that wait for an answer, oldest first.
    #[serde(default)]
    pub open: Vec<Permission>,
    /// Answers to the other permission requests.
    #[serde(default)]
    pub answers: Vec<Answer>,
    /// The agent's ids of tool calls that have not ended.
    #[serde(default)]
    pub tools: Vec<String>,
    /// Calls of the agent that a client can serve.
    #[serde(default)]
    pub calls: Calls,
    /// The turn's time limit, in milliseconds since boot; none before the turn starts, or without a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
    /// The time limit passed before anybody aborted the turn.
    #[serde(default)]
    pub timed_out: bool,
    /// The time without a sign of work of the agent.
    #[serde(default)]
    pub quiet: Quiet,
    /// Bytes of the agent's messages on record in this turn.
    #[serde(default)]
    pub recorded: u64,
    /// Bytes of the agent's requests on record since `recorded` reached its limit.
    #[serde(default)]
    pub asked: u64,
}

impl Turn {
    /// Returns true if the worker has confirmed the prompt. A worker may have a prompt that it has not
    /// confirmed.
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

    /// Returns true if the turn is being aborted because the agent showed no sign of work.
    pub fn is_stalled(&self) -> bool {
        self.quiet.step == Some(StallStep::Cancelled)
    }

    pub(in crate::core) fn waits_for_somebody(&self) -> bool {
        !self.open.is_empty() || !self.calls.open.is_empty()
    }
}

/// The phase of a turn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// The prompt was sent to the worker.
    Sent {
        /// The worker must confirm the prompt by then, in milliseconds since boot.
        deadline: u64,
    },
    /// The agent works.
    Started {
        /// The agent's process.
        agent_pid: u32,
    },
    /// The turn is being ended before its own end.
    Aborting {
        /// The turn must end by then, in milliseconds since boot.
        deadline: u64,
        /// The agent's process; none if the turn had not started.
        agent_pid: Option<u32>,
    },
}

/// The conversation of one session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turns {
    /// Prompts that wait, the next one first.
    pub queue: VecDeque<Prompt>,
    /// The running turn. Only a session with a process has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running: Option<Turn>,
    /// Interrupted prompts that no one has resolved yet.
    pub interrupted: Vec<Prompt>,
    /// The number of turns that have begun.
    pub count: u64,
    /// The number of prompts that the agent got, plus that of its answers.
    pub messages: u64,
    /// Time of the last message of a user or the agent, unix time in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_message_at: Option<u64>,
    /// The beginning of the first prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_prompt: Option<Arc<str>>,
    /// The program of the next prompt did not run. kennel retries the prompt then, in milliseconds since boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<u64>,
    /// Bytes of the agent's messages on record since its newest turn.
    #[serde(default)]
    pub between: u64,
    /// Permission requests that belong to no turn.
    #[serde(default, skip_serializing_if = "is_default")]
    pub asked: Questions,
    /// The newest turn ended without a message or a tool call.
    #[serde(default)]
    pub empty: bool,
}

impl Turns {
    /// Returns true if this prompt's turn runs and no command has aborted it.
    pub(in crate::core) fn runs_unasked(&self, prompt: PromptId) -> bool {
        let asked = |turn: &Turn| matches!(turn.phase, Phase::Aborting { .. });
        self.running.as_ref().is_some_and(|turn| turn.prompt.id == prompt && !asked(turn))
    }

    /// Permissions that wait for an answer, with the prompt in whose turn they were asked.
    pub fn questions(&self) -> impl Iterator<Item = (Option<PromptId>, &Permission)> {
        let turn = self.running.as_ref();
        let in_turn = turn.into_iter().flat_map(|turn| turn.open.iter().map(|it| (Some(turn.prompt.id), it)));
        in_turn.chain(self.asked.open.iter().map(|it| (None, it)))
    }
}

/// A permission request that waits for an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permission {
    /// The permission's id.
    pub id: PermissionId,
    /// The worker's number of the question.
    pub request: u64,
    /// The action, in the agent's words.
    pub title: String,
    /// The command line that the agent wants to run, if it tells one; cut if it is long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// The possible answers.
    pub options: Vec<PermissionOption>,
    /// Time of the request, unix time in milliseconds.
    pub asked_at: u64,
    /// Time at which the request expires and is denied, in milliseconds since boot; none: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<u64>,
}

/// An answer to a permission request, for the worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The permission's id.
    pub id: PermissionId,
    /// The worker's number of the request.
    pub request: u64,
    /// The option chosen; none: the question is cancelled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub option: Option<String>,
}

/// Permission requests that belong to no turn.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Questions {
    /// Permissions that wait for an answer, oldest first.
    pub open: Vec<Permission>,
    /// Answers to the newest of the other requests.
    pub answers: Vec<Answer>,
}

impl Questions {
    /// Time at which the first request expires, in milliseconds since boot.
    pub(in crate::core) fn deadline(&self) -> Option<u64> {
        self.open.iter().filter_map(|open| open.expires).min()
    }
}

/// A call of the agent that waits for a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// The call's id.
    pub id: CallId,
    /// The worker's number of the call.
    pub request: u64,
    /// The client that must answer; none: no client that can drives now, and the call waits for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<EventId>,
    /// The offer that a client needs for this call.
    pub needs: Offer,
    /// Time of the call, unix time in milliseconds; none: of an earlier version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_at: Option<u64>,
    /// Time at which the call expires, in milliseconds since boot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<u64>,
}

/// The calls of a turn.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calls {
    /// Calls that wait for an answer, oldest first.
    pub open: Vec<Call>,
}

impl Calls {
    /// Returns true if a call waits for a person.
    pub fn want_a_person(&self) -> bool {
        self.open.iter().any(|call| call.needs == Offer::Elicitation)
    }

    /// Time at which the first call expires, in milliseconds since boot.
    pub fn deadline(&self) -> Option<u64> {
        self.open.iter().filter_map(|call| call.expires).min()
    }
}

/// The silence of a turn's agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quiet {
    /// The time without a sign of work, in milliseconds: the sum of observations, each of which counts for at most
    /// `worker_timeout`. So a sleep of the machine or of a manager does not count.
    pub ms: u64,
    /// Time of the last observation or sign of work, in milliseconds since boot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub looked_at: Option<u64>,
    /// Processor time of the agent's processes at the last observation, and the time of that observation, both in
    /// milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<(u64, u64)>,
    /// The last step against the stall.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<StallStep>,
}
