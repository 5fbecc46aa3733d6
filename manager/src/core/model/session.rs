//! One session: its states, and what each input does in each of them.
//!
//! The table of all states and inputs is `tests/snapshots/transitions.md`, made from this file.

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::api::{ChildInfo, Role, Usage};
use protocol::wire::{AgentDetails, Offer, Setting};
use protocol::{
    CallId, EventId, Identity, Incarnation, Level, LimitedBy, PermissionId, PromptId, Restore, Sandboxed,
    SessionId,
};
use serde::{Deserialize, Serialize};

use crate::core::at::At;
use crate::core::model::deaths::{Absence, Deaths};
use crate::core::model::spec::Spec;
use crate::core::model::state::{Goal, State, Was};
use crate::core::model::turn::{Phase, Turns};

/// Why the process before the present one was replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastRestart {
    /// In words.
    pub reason: String,
    /// The process that was replaced.
    pub old_pid: Option<u32>,
}

/// A sub-agent's first prompt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// The prompt.
    pub prompt: PromptId,
    /// Its text.
    pub text: Arc<str>,
    /// It has not ended, and nobody has been told that it was lost.
    pub open: bool,
}

/// One session, whole: what the journal keeps of it, and what a step needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// Its stable id.
    pub id: SessionId,
    /// What it runs and under which rules.
    pub spec: Arc<Spec>,
    /// What the operator wants.
    pub goal: Goal,
    /// What is.
    pub state: State,
    /// The number of its present or last process; 0 before the first.
    pub incarnation: Incarnation,
    /// Number of the last message of this process that is on record.
    #[serde(default)]
    pub heard: u64,
    /// Its conversation.
    pub turns: Turns,
    /// Deaths that count against the intensity.
    pub deaths: Deaths,
    /// Starts in a row of which none came to run its program.
    #[serde(default)]
    pub absence: Option<Absence>,
    /// Why the process before this one was replaced.
    pub last_restart: Option<LastRestart>,
    /// The present start answers a death or a restart, and `session.restarted` is still to be told.
    pub recovering: bool,
    /// What the agent knew of the turns before when it last became ready.
    pub restore: Option<Restore>,
    /// It never hibernates.
    pub pinned: bool,
    /// When it was created, unix time in milliseconds.
    pub created_at: u64,
    /// The session whose sub-agent it is.
    pub parent: Option<SessionId>,
    /// What it was started to do, if it is a sub-agent.
    pub task: Option<Task>,
    /// Its sub-agents whose tasks are open.
    pub open_tasks: u32,
    /// What its agent calls the conversation.
    #[serde(default)]
    pub agent_session: Option<String>,
    /// Its agent began a conversation anew, and no turn in which it was told the one before has come to its end.
    #[serde(default)]
    pub owes_transcript: bool,
    /// Its present or last process came to take prompts.
    #[serde(default)]
    pub was_ready: bool,
    /// Starts in a row in which its agent did not come to take up the conversation.
    #[serde(default)]
    pub lost_starts: u32,
    /// What its agent last said of itself.
    #[serde(default)]
    pub agent_details: Option<AgentDetails>,
    /// Sub-agents that its present or last process has told of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<ChildInfo>,
    /// The option that is its agent's choice of a model, and the model that the agent last said it uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_model: Option<Setting>,
    /// Tokens and cost, where the agent tells.
    #[serde(default)]
    pub usage: Option<Usage>,
    /// Who is attached.
    #[serde(default)]
    pub clients: Vec<Client>,
    /// The newest permission that was asked for.
    #[serde(default)]
    pub last_permission: Option<PermissionId>,
    /// The newest call that a client was to be asked.
    #[serde(default)]
    pub last_call: Option<CallId>,
    /// A client that could do something for the agent has driven: the worker is told who does.
    #[serde(default)]
    pub had_offers: bool,
    /// What a client can do for its agent that has started it and is not attached yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub awaited: Vec<Offer>,
    /// What was last said of its agent since that is being started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_notice: Option<String>,
    /// What is set in its agent.
    #[serde(default)]
    pub settings: Settings,
    /// Its process was taken over and is of another version: it is replaced once nothing runs in it.
    #[serde(default)]
    pub outdated: bool,
    /// What holds its agent's processes together, as its present or last worker says.
    #[serde(default)]
    pub containment: Option<Level>,
    /// The sandbox that its agent is in, as its present or last worker says.
    #[serde(default)]
    pub sandbox: Option<Sandboxed>,
    /// What sees to its limits, as its present or last worker says.
    #[serde(default)]
    pub limited_by: Option<LimitedBy>,
    /// The agent's program that its present or last worker has run, or tried to run: an absolute path.
    #[serde(default)]
    pub program: Option<String>,
}

impl Session {
    /// A session that begins its first start.
    pub fn new(id: SessionId, spec: Arc<Spec>, at: At, before: Incarnation) -> Self {
        let state = State::Starting { worker: None, deadline: at.mono + spec.start_ms() };
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
            task: None,
            open_tasks: 0,
            agent_session: None,
            agent_details: None,
            children: Vec::new(),
            owes_transcript: false,
            was_ready: false,
            lost_starts: 0,
            agent_model: None,
            usage: None,
            clients: Vec::new(),
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

    /// The process that is this session's now.
    pub fn worker(&self) -> Option<&Identity> {
        match &self.state {
            State::Starting { worker, .. } | State::Stopping { worker, .. } => worker.as_ref(),
            State::Ready { worker, .. } | State::Adopting { worker, .. } => Some(worker),
            State::Restarting { .. } | State::Hibernated | State::Stopped | State::Failed(_) => None,
        }
    }

    /// Whether its agent can be told something, if only once its worker has been taken over.
    pub(in crate::core) fn agent_goes_on(&self) -> bool {
        matches!(self.state, State::Ready { .. } | State::Adopting { was: Was::Ready { .. }, .. })
    }

    /// Whether a process exists or may exist, a spawn on its way included.
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

    /// Whether a turn runs in its worker, which has something to say some time.
    pub fn is_at_work(&self) -> bool {
        matches!(self.state, State::Ready { .. }) && self.turns.running.is_some()
    }

    /// When [`Input::Tick`] is due, in milliseconds since boot. Every state that is not a resting one has one.
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

    /// When it hibernates, in milliseconds since boot, if nothing happens until then.
    pub(in crate::core) fn rest_ends(&self) -> Option<u64> {
        match &self.state {
            State::Ready { idle_since, .. } => {
                self.hibernates().then(|| idle_since + self.spec.hibernate_after_ms)
            }
            _ => None,
        }
    }

    fn hibernates(&self) -> bool {
        // Whoever is to answer its agent finds it awake.
        let asks = !self.turns.asked.open.is_empty();
        let alone = self.open_tasks == 0 && self.clients.is_empty() && !asks;
        self.spec.hibernate_after_ms > 0 && !self.pinned && alone
    }

    // --- commands ---

    // --- observations ---
}

/// A client that is attached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// The event that says that it came.
    pub id: EventId,
    /// What it calls itself.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// What it can do for the agent while it drives.
    #[serde(default)]
    pub offers: Vec<Offer>,
}

/// The settings of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// What is set, by name.
    pub set: BTreeMap<String, String>,
    /// What the agent has not answered, oldest first.
    pub asked: Vec<Asked>,
    /// The number of the newest.
    pub last: u64,
}

/// Something that somebody wants set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// Counts the settings of this session from 1.
    pub number: u64,
    /// What, and to what.
    pub setting: Setting,
}
