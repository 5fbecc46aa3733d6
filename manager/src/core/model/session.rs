//! One session: its document in the journal, its clients and its settings.

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::api::{ChildInfo, ClientOrigin, Role, Usage};
use protocol::wire::{Agent, AgentDetails, Offer, Setting};
use protocol::{
    CallId, EventId, Identity, Incarnation, KeyId, Level, LimitedBy, PermissionId, PromptId, Restore,
    Sandboxed, SessionId,
};
use serde::{Deserialize, Serialize};

use super::is_default;
use crate::core::at::At;
use crate::core::model::deaths::{Absence, Deaths};
use crate::core::model::spec::Spec;
use crate::core::model::state::{Goal, State, Was};
use crate::core::model::turn::{Phase, Turns};

/// The replacement of the process before the present one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastRestart {
    /// The reason, for a person.
    pub reason: String,
    /// The process that was replaced; none where it never ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old_pid: Option<u32>,
}

/// A sub-agent's first prompt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// The prompt's id.
    pub prompt: PromptId,
    /// The prompt's text.
    pub text: Arc<str>,
    /// The prompt has not ended, and its session has not failed since.
    pub open: bool,
}

/// The whole of one session: the journal keeps it, and a step needs nothing else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// The session's stable id.
    pub id: SessionId,
    /// The agent and its settings.
    pub spec: Arc<Spec>,
    /// The operator's goal.
    pub goal: Goal,
    /// The present state.
    pub state: State,
    /// The number of the present or last process; 0 before the first.
    pub incarnation: Incarnation,
    /// Number of the last message of this process that is on record.
    #[serde(default)]
    pub heard: u64,
    /// The conversation.
    pub turns: Turns,
    /// Deaths that count against the intensity.
    pub deaths: Deaths,
    /// Starts in a row that did not run the agent's program; none if the last one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub absence: Option<Absence>,
    /// The reason for the present process, if it replaced another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_restart: Option<LastRestart>,
    /// The present start follows a death or a restart, and `session.restarted` is not published yet.
    pub recovering: bool,
    /// The part of the earlier turns that the agent knew when it last became ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restore: Option<Restore>,
    /// The session never hibernates.
    pub pinned: bool,
    /// Time of creation, unix time in milliseconds.
    pub created_at: u64,
    /// The parent, if the session is a sub-agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<SessionId>,
    /// The key that started the session at the root of this one's tree; none: the owner did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_by: Option<KeyId>,
    /// The sub-agent's first prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<Task>,
    /// The number of sub-agents with an open task.
    pub open_tasks: u32,
    /// The agent's id of its conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_session: Option<String>,
    /// The agent began a new conversation, and no turn that replays the old one to it has completed yet.
    #[serde(default)]
    pub owes_transcript: bool,
    /// The present or last process became ready.
    #[serde(default)]
    pub was_ready: bool,
    /// Starts in a row in which the agent died before it had restored its conversation.
    #[serde(default)]
    pub lost_starts: u32,
    /// The agent's name, version and abilities, as last reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_details: Option<AgentDetails>,
    /// Sub-agents inside the agent, as its present or last process reported them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<ChildInfo>,
    /// The agent's option for its model, with the model that the agent last reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_model: Option<Setting>,
    /// Tokens and cost, if the agent reports them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// Attached clients.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clients: Vec<Client>,
    /// The seat of the last driver, while nobody drives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<Kept>,
    /// The newest permission request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_permission: Option<PermissionId>,
    /// The newest call of the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_call: Option<CallId>,
    /// A client with offers has driven the session, so the worker is kept informed about the driver.
    #[serde(default)]
    pub had_offers: bool,
    /// Offers of a client that started the agent and is not attached yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub awaited: Vec<Offer>,
    /// The last notice about the agent's present start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_notice: Option<String>,
    /// Settings of the agent.
    #[serde(default, skip_serializing_if = "is_default")]
    pub settings: Settings,
    /// The process was adopted and has another version: it is replaced between two turns.
    #[serde(default)]
    pub outdated: bool,
    /// The containment of the agent's processes, as the present or last worker reported it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub containment: Option<Level>,
    /// The agent's sandbox, as the present or last worker reported it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<Sandboxed>,
    /// The mechanisms that enforce the limits, as the present or last worker reported them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limited_by: Option<LimitedBy>,
    /// Absolute path of the agent's program that the present or last worker ran, or tried to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
}

impl Session {
    /// A session at its first start.
    pub fn new(id: SessionId, spec: Arc<Spec>, at: At, before: Incarnation) -> Self {
        let state = State::Starting { worker: None, deadline: at.mono + spec.start_ms() };
        let agent_session = spec.conversation.clone();
        Self {
            id,
            spec,
            goal: Goal::Up,
            state,
            incarnation: before + 1,
            heard: 0,
            turns: Turns::default(),
            deaths: Deaths::default(),
            absence: None,
            last_restart: None,
            recovering: false,
            restore: None,
            pinned: false,
            created_at: at.wall,
            parent: None,
            started_by: None,
            task: None,
            open_tasks: 0,
            agent_session,
            agent_details: None,
            children: Vec::new(),
            owes_transcript: false,
            was_ready: false,
            lost_starts: 0,
            agent_model: None,
            usage: None,
            clients: Vec::new(),
            kept: None,
            last_permission: None,
            last_call: None,
            had_offers: false,
            awaited: Vec::new(),
            start_notice: None,
            settings: Settings::default(),
            outdated: false,
            containment: None,
            sandbox: None,
            limited_by: None,
            program: None,
        }
    }

    /// The session's process, if one is on record.
    pub fn worker(&self) -> Option<&Identity> {
        match &self.state {
            State::Starting { worker, .. } | State::Stopping { worker, .. } => worker.as_ref(),
            State::Ready { worker, .. } | State::Adopting { worker, .. } => Some(worker),
            State::Restarting { .. } | State::Hibernated | State::Stopped | State::Failed(_) => None,
        }
    }

    /// Returns true if the worker can still pass a message to the agent, even if only after its adoption.
    pub(in crate::core) fn agent_goes_on(&self) -> bool {
        matches!(self.state, State::Ready { .. } | State::Adopting { was: Was::Ready { .. }, .. })
    }

    /// Returns true if the session has a process, or a spawn is under way.
    pub fn has_process(&self) -> bool {
        match &self.state {
            State::Starting { .. }
            | State::Ready { .. }
            | State::Adopting { .. }
            | State::Stopping { .. } => true,
            State::Failed(failure) => !failure.survivors.is_empty(),
            State::Restarting { .. } | State::Hibernated | State::Stopped => false,
        }
    }

    /// Returns true if a turn runs, so that the worker owes a report.
    pub fn is_at_work(&self) -> bool {
        matches!(self.state, State::Ready { .. }) && self.turns.running.is_some()
    }

    /// Returns true if the worker is ready, has no agent below it, and owes no message: the agent is started for each prompt
    /// and no turn runs.
    pub(in crate::core) fn is_at_rest(&self) -> bool {
        matches!(self.state, State::Ready { agent_pid: None, .. }) && self.is_between_agents()
    }

    /// Returns true if a ready worker of this session has no agent. Between prompts only an ACP agent lives; a turn of the
    /// others ends with everything that it started.
    pub(in crate::core) fn is_between_agents(&self) -> bool {
        match self.spec.agent {
            Agent::Shell | Agent::Command { .. } => self.turns.running.is_none(),
            Agent::Acp { .. } => false,
        }
    }

    /// Time of the next [`Input::Tick`](crate::core::Input::Tick), in milliseconds since boot. Resting states have none.
    pub fn deadline(&self) -> Option<u64> {
        match &self.state {
            State::Starting { deadline, .. }
            | State::Adopting { deadline, .. }
            | State::Stopping { deadline, .. } => Some(*deadline),
            State::Restarting { until } => Some(*until),
            State::Ready { .. } => match &self.turns.running {
                // A prompt that waits is tried again; else the session goes to sleep.
                None => {
                    let next = self.turns.not_before.or_else(|| self.rest_ends());
                    next.into_iter().chain(self.turns.asked.deadline()).min()
                }
                Some(turn) => match turn.phase {
                    Phase::Sent { deadline } | Phase::Aborting { deadline, .. } => Some(deadline),
                    Phase::Started { .. } => {
                        let permissions = turn.open.iter().filter_map(|open| open.expires);
                        let others = turn.calls.deadline().into_iter().chain(self.turns.asked.deadline());
                        permissions.chain(others).chain(turn.until).min()
                    }
                },
            },
            State::Hibernated | State::Stopped | State::Failed(_) => None,
        }
    }

    pub(in crate::core) fn wanted(&self) -> bool {
        self.goal == Goal::Up
    }

    /// Time at which the idle session hibernates, in milliseconds since boot.
    pub(in crate::core) fn rest_ends(&self) -> Option<u64> {
        match &self.state {
            State::Ready { idle_since, .. } => {
                self.hibernates().then(|| idle_since + self.spec.hibernate_after_ms)
            }
            _ => None,
        }
    }

    fn hibernates(&self) -> bool {
        // A client that is to answer the agent keeps the session awake.
        let asks = !self.turns.asked.open.is_empty();
        let alone = self.open_tasks == 0 && self.clients.is_empty() && !asks;
        self.spec.hibernate_after_ms > 0 && !self.pinned && alone
    }

    // --- commands ---

    // --- observations ---
}

/// An attached client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// The event of the attachment, which is the client's id.
    pub id: EventId,
    /// The client's name for itself.
    pub name: String,
    /// The client's role.
    pub role: Role,
    /// Requests of the agent that the client can serve while it drives.
    #[serde(default)]
    pub offers: Vec<Offer>,
    /// Where the client comes from; none for the owner at this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<ClientOrigin>,
    /// A word that only this client knows; none: its seat is not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seat: Option<String>,
}

/// The seat of a driver whose connection was lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The word that the driver comes back with.
    pub seat: String,
    /// The driver's name for itself.
    pub name: String,
    /// Where the driver came from; none for the owner at this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<ClientOrigin>,
    /// When the driver left, in milliseconds since boot.
    pub since: u64,
}

/// Settings of a session's agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Values that the agent accepted, by name.
    pub set: BTreeMap<String, String>,
    /// Changes that the agent has not answered, oldest first.
    pub asked: Vec<Asked>,
    /// The number of the newest change.
    pub last: u64,
}

/// A change of a setting that waits for the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The number of the change, from 1 in each session.
    pub number: u64,
    /// The setting's name and value.
    pub setting: Setting,
}
