//! Events: what the journal records and subscribers see.
//!
//! One JSON object each: `{"id", "at", "session", "incarnation", "type", "data"}`. Ids are global and strictly
//! increasing; a session's stream is the subset that names it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use serde_json::Value;

use crate::api::{AttachmentInfo, Role, Usage};
use crate::wire::PermissionOption;
use crate::{CallId, EventId, Exit, Incarnation, Keeper, PermissionId, PromptId, Restore, SessionId, Stream};

/// Unix time in milliseconds, in JSON an RFC 3339 text in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ToSchema)]
#[schema(value_type = String, format = DateTime, examples("2026-01-31T12:00:00.000Z"))]
pub struct Timestamp(pub u64);

impl Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_millis(self.0);
        s.collect_str(&humantime::format_rfc3339_millis(time))
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        let time = humantime::parse_rfc3339(&text).map_err(serde::de::Error::custom)?;
        let since = time.duration_since(std::time::UNIX_EPOCH).map_err(serde::de::Error::custom)?;
        Ok(Self(since.as_millis() as u64))
    }
}

/// One recorded event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Position in the journal.
    pub id: EventId,
    /// When it was decided, by the machine's wall clock.
    pub at: Timestamp,
    /// The session it is about; absent for the manager's own events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// The session's incarnation at the time; 0 before its first process.
    #[serde(default)]
    pub incarnation: Incarnation,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What can happen. In JSON `type` is the name and `data` the fields.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", content = "data")]
#[allow(missing_docs)] // the fields are the glossary's words
pub enum EventKind {
    /// A session exists from here on.
    #[serde(rename = "session.created")]
    SessionCreated {
        agent: String,
        workdir: String,
        title: Option<String>,
        model: Option<String>,
        parent: Option<SessionId>,
    },
    /// A worker process was spawned for it and is on record.
    #[serde(rename = "session.started")]
    SessionStarted { pid: u32 },
    /// The worker and its agent take prompts.
    #[serde(rename = "session.ready")]
    SessionReady { pid: u32, agent_pid: Option<u32>, restore: Restore },
    /// Its process died and will be replaced after `delay_ms`.
    #[serde(rename = "session.restarting")]
    SessionRestarting {
        reason: String,
        old_pid: Option<u32>,
        exit: Option<Exit>,
        delay_ms: u64,
        deaths: u32,
        /// The last lines the worker or its agent wrote to standard error.
        last_words: Vec<String>,
    },
    /// The replacement is ready and the conversation is restored, to the level `restore`.
    #[serde(rename = "session.restarted")]
    SessionRestarted { old_pid: Option<u32>, new_pid: u32, reason: String, restore: Restore },
    /// The agent has set something that somebody wanted set. `payload` is its whole answer.
    #[serde(rename = "setting.changed")]
    SettingChanged { setting_id: u64, name: String, value: String, payload: Value },
    /// The agent did not set it.
    #[serde(rename = "setting.refused")]
    SettingRefused { setting_id: u64, name: String, value: String, reason: String },
    /// Nothing shows that the agent works: no output, no processor time, no tool call, command or question that is open. Noticed
    /// after the profile's `stall_timeout`, cancelled after half as long again.
    #[serde(rename = "session.stalled")]
    SessionStalled { turn: u64, prompt_id: PromptId, step: StallStep, quiet_ms: u64 },
    /// Processes of it were killed because all together they had more memory than it may have; `peak_bytes` is the most
    /// that they had, where that is known. What that ends is told after it.
    #[serde(rename = "session.oom_killed")]
    SessionOomKilled { peak_bytes: Option<u64>, limit_bytes: u64, by: Keeper },
    /// A manager has taken over the process that an earlier one left: it goes on, with its turn.
    #[serde(rename = "session.adopted")]
    SessionAdopted { pid: u32 },
    /// Idle for long, its process was ended; a prompt, attach or ensure brings it back.
    #[serde(rename = "session.hibernated")]
    SessionHibernated {},
    /// It leaves hibernation.
    #[serde(rename = "session.woken")]
    SessionWoken {},
    /// It was stopped, and its whole tree of processes is gone.
    #[serde(rename = "session.stopped")]
    SessionStopped { exit: Option<Exit> },
    /// kennel has given up on it until somebody restarts it.
    #[serde(rename = "session.failed")]
    SessionFailed {
        reason: String,
        exit: Option<Exit>,
        last_words: Vec<String>,
        /// Processes that survived SIGKILL.
        survivors: Vec<u32>,
    },
    /// Its settings changed.
    #[serde(rename = "session.updated")]
    SessionUpdated { pinned: bool },
    /// It and its records are removed; this event is all that remains.
    #[serde(rename = "session.deleted")]
    SessionDeleted {},

    /// A prompt is on disk. The event's id is the prompt's number.
    #[serde(rename = "prompt.accepted")]
    PromptAccepted {
        prompt_id: PromptId,
        text: String,
        disposition: Disposition,
        /// The interrupted prompt that this one repeats.
        retry_of: Option<PromptId>,
        /// What belongs to it.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        attachments: Vec<AttachmentInfo>,
    },
    /// It waits behind `position` others.
    #[serde(rename = "prompt.queued")]
    PromptQueued { prompt_id: PromptId, position: u32 },
    /// Its text was replaced while it waited.
    #[serde(rename = "prompt.edited")]
    PromptEdited { prompt_id: PromptId, text: String },
    /// It left the queue and goes to the agent.
    #[serde(rename = "prompt.started")]
    PromptStarted { prompt_id: PromptId },
    /// It ended without a turn, as aborted.
    #[serde(rename = "prompt.removed")]
    PromptRemoved { prompt_id: PromptId, reason: RemovedBy },
    /// Somebody decided what becomes of an interrupted prompt.
    #[serde(rename = "prompt.resolved")]
    PromptResolved { prompt_id: PromptId, action: Resolution, retried_as: Option<PromptId> },

    /// The agent works on the prompt.
    #[serde(rename = "turn.started")]
    TurnStarted { turn: u64, prompt_id: PromptId, agent_pid: u32 },
    /// The turn came to an end that somebody meant.
    #[serde(rename = "turn.completed")]
    TurnCompleted {
        turn: u64,
        prompt_id: PromptId,
        outcome: Outcome,
        /// `end_turn`, `cancelled`, `error` where the agent could not be run, or what the agent says.
        stop_reason: String,
        exit: Option<Exit>,
    },
    /// The turn was cut off. Its prompt is not repeated unless somebody says so.
    #[serde(rename = "turn.interrupted")]
    TurnInterrupted {
        turn: u64,
        prompt_id: PromptId,
        reason: String,
        /// The prompt goes to the agent again (profile `on_crash = "retry"`) and so has not ended.
        will_retry: bool,
    },
    /// A piece of the agent's output, as it came.
    #[serde(rename = "message.chunk")]
    MessageChunk {
        turn: u64,
        prompt_id: PromptId,
        stream: Stream,
        text: String,
        /// What the agent sent, as it came; absent where it writes plain text.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        payload: Option<Value>,
    },
    /// A piece of what the agent thinks.
    #[serde(rename = "thought.chunk")]
    ThoughtChunk { turn: u64, prompt_id: PromptId, text: String, payload: Value },
    /// The agent begins to use a tool.
    #[serde(rename = "tool_call.started")]
    ToolCallStarted { turn: u64, prompt_id: PromptId, tool_call_id: String, title: String, payload: Value },
    /// A tool call goes on or ends.
    #[serde(rename = "tool_call.updated")]
    ToolCallUpdated { turn: u64, prompt_id: PromptId, tool_call_id: String, payload: Value },
    /// The turn ended with the tool call open; what it did until then, it did.
    #[serde(rename = "tool_call.interrupted")]
    ToolCallInterrupted { turn: u64, prompt_id: PromptId, tool_call_id: String },
    /// What the agent means to do.
    #[serde(rename = "plan.updated")]
    PlanUpdated { turn: u64, prompt_id: PromptId, payload: Value },
    /// What the session has used so far.
    #[serde(rename = "usage.updated")]
    UsageUpdated { usage: Usage, payload: Value },
    /// The agent tells something that has no name here, or that belongs to no turn.
    #[serde(rename = "agent.updated")]
    AgentUpdated { prompt_id: Option<PromptId>, payload: Value },

    /// The agent wants to be allowed something. The event's id is the permission's.
    #[serde(rename = "permission.requested")]
    PermissionRequested {
        permission_id: PermissionId,
        /// Absent where it is asked between two turns.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        turn: Option<u64>,
        /// The same.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        prompt_id: Option<PromptId>,
        tool_call_id: String,
        title: String,
        options: Vec<PermissionOption>,
        payload: Value,
    },
    /// It was answered: by a person, or by the session's policy.
    #[serde(rename = "permission.resolved")]
    PermissionResolved { permission_id: PermissionId, option_id: String, by: Decider },
    /// It was not answered, and will not be.
    #[serde(rename = "permission.expired")]
    PermissionExpired { permission_id: PermissionId, reason: String },

    /// The agent wants something done that a client can do: read a file as the editor has it, ask its user. The event's
    /// id is the call's.
    #[serde(rename = "call.requested")]
    CallRequested {
        call_id: CallId,
        turn: u64,
        prompt_id: PromptId,
        /// The client that is asked; absent where none is.
        client_id: Option<EventId>,
        /// ACP's name of what is to be done.
        method: String,
        payload: Value,
    },
    /// The client has answered. What it said is between it and the agent.
    #[serde(rename = "call.answered")]
    CallAnswered { call_id: CallId },
    /// No client has answered, and none will be heard any more.
    #[serde(rename = "call.expired")]
    CallExpired { call_id: CallId, reason: String },

    /// Somebody came, to drive or to look on. The event's id is the client's.
    #[serde(rename = "client.attached")]
    ClientAttached { client_id: EventId, name: String, role: Role },
    /// It went, or its connection ended.
    #[serde(rename = "client.detached")]
    ClientDetached { client_id: EventId },
    /// Another client drives from here on, or none.
    #[serde(rename = "driver.changed")]
    DriverChanged { driver: Option<EventId> },

    /// A sub-agent of this session was started.
    #[serde(rename = "subagent.started")]
    SubagentStarted { child: SessionId, task: String, model: Option<String> },
    /// A sub-agent's task ended. Told once for each sub-agent.
    #[serde(rename = "subagent.completed")]
    SubagentCompleted { child: SessionId, outcome: Outcome },
    /// A sub-agent failed with its task open. Told once, instead of `subagent.completed`.
    #[serde(rename = "subagent.lost")]
    SubagentLost { child: SessionId, reason: String },

    /// Something the user should read that no agent said.
    #[serde(rename = "system.message")]
    SystemMessage { text: String },
    /// A manager took the state directory over.
    #[serde(rename = "manager.started")]
    ManagerStarted { pid: u32, version: String, boot_id: String },
    /// The manager ends all processes and leaves; goals are kept.
    #[serde(rename = "manager.stopping")]
    ManagerStopping {},
}

impl EventKind {
    /// Returns the prompt that this event is about, or none for an event about no prompt.
    pub fn prompt(&self) -> Option<PromptId> {
        match self {
            Self::PromptAccepted { prompt_id, .. }
            | Self::PromptQueued { prompt_id, .. }
            | Self::PromptEdited { prompt_id, .. }
            | Self::PromptStarted { prompt_id }
            | Self::PromptRemoved { prompt_id, .. }
            | Self::PromptResolved { prompt_id, .. }
            | Self::TurnStarted { prompt_id, .. }
            | Self::TurnCompleted { prompt_id, .. }
            | Self::TurnInterrupted { prompt_id, .. }
            | Self::MessageChunk { prompt_id, .. }
            | Self::ThoughtChunk { prompt_id, .. }
            | Self::ToolCallStarted { prompt_id, .. }
            | Self::ToolCallUpdated { prompt_id, .. }
            | Self::ToolCallInterrupted { prompt_id, .. }
            | Self::PlanUpdated { prompt_id, .. }
            | Self::CallRequested { prompt_id, .. }
            | Self::SessionStalled { prompt_id, .. } => Some(*prompt_id),
            Self::AgentUpdated { prompt_id, .. } | Self::PermissionRequested { prompt_id, .. } => *prompt_id,
            _ => None,
        }
    }

    /// What an agent says in no turn: after the end of one it belongs to that one's answer.
    pub fn late_text(&self) -> Option<&str> {
        let EventKind::AgentUpdated { prompt_id: None, payload } = self else { return None };
        let said = payload["sessionUpdate"] == "agent_message_chunk";
        said.then(|| payload["content"]["text"].as_str()).flatten()
    }

    /// The name in `type`.
    pub fn name(&self) -> &'static str {
        use EventKind::*;
        match self {
            SessionCreated { .. } => "session.created",
            SessionStarted { .. } => "session.started",
            SessionReady { .. } => "session.ready",
            SessionRestarting { .. } => "session.restarting",
            SessionRestarted { .. } => "session.restarted",
            SessionHibernated {} => "session.hibernated",
            SettingChanged { .. } => "setting.changed",
            SettingRefused { .. } => "setting.refused",
            SessionStalled { .. } => "session.stalled",
            SessionOomKilled { .. } => "session.oom_killed",
            SessionAdopted { .. } => "session.adopted",
            SessionWoken {} => "session.woken",
            SessionStopped { .. } => "session.stopped",
            SessionFailed { .. } => "session.failed",
            SessionUpdated { .. } => "session.updated",
            SessionDeleted {} => "session.deleted",
            PromptAccepted { .. } => "prompt.accepted",
            PromptQueued { .. } => "prompt.queued",
            PromptEdited { .. } => "prompt.edited",
            PromptStarted { .. } => "prompt.started",
            PromptRemoved { .. } => "prompt.removed",
            PromptResolved { .. } => "prompt.resolved",
            TurnStarted { .. } => "turn.started",
            TurnCompleted { .. } => "turn.completed",
            TurnInterrupted { .. } => "turn.interrupted",
            MessageChunk { .. } => "message.chunk",
            ThoughtChunk { .. } => "thought.chunk",
            ToolCallStarted { .. } => "tool_call.started",
            ToolCallUpdated { .. } => "tool_call.updated",
            ToolCallInterrupted { .. } => "tool_call.interrupted",
            PlanUpdated { .. } => "plan.updated",
            UsageUpdated { .. } => "usage.updated",
            AgentUpdated { .. } => "agent.updated",
            PermissionRequested { .. } => "permission.requested",
            PermissionResolved { .. } => "permission.resolved",
            PermissionExpired { .. } => "permission.expired",
            CallRequested { .. } => "call.requested",
            CallAnswered { .. } => "call.answered",
            CallExpired { .. } => "call.expired",
            ClientAttached { .. } => "client.attached",
            ClientDetached { .. } => "client.detached",
            DriverChanged { .. } => "driver.changed",
            SubagentStarted { .. } => "subagent.started",
            SubagentCompleted { .. } => "subagent.completed",
            SubagentLost { .. } => "subagent.lost",
            SystemMessage { .. } => "system.message",
            ManagerStarted { .. } => "manager.started",
            ManagerStopping {} => "manager.stopping",
        }
    }

    /// Whether this record is a promise to somebody and must be on disk before it is told. What is not survives
    /// the death of any process, but not a power cut: the stream of a running turn, and that a process
    /// came up, which is down again with the power. That it was started or has ended is one, or an incarnation
    /// could be seen to begin or end twice.
    pub fn is_promise(&self) -> bool {
        use EventKind::*;
        !matches!(
            self,
            MessageChunk { .. }
                | ThoughtChunk { .. }
                | ToolCallStarted { .. }
                | ToolCallUpdated { .. }
                | PlanUpdated { .. }
                | UsageUpdated { .. }
                | AgentUpdated { .. }
                | PermissionRequested { .. }
                | CallRequested { .. }
                | CallAnswered { .. }
                | TurnStarted { .. }
                | SessionReady { .. }
                | SessionRestarted { .. }
        )
    }
}

/// Who has answered for a permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Decider {
    /// A person, or a program for one.
    User,
    /// What the session was started with.
    Policy,
}

/// What became of a prompt when it was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Disposition {
    /// It goes to the agent now.
    Started,
    /// It waits its turn.
    Queued,
}

/// How a prompt ended. Each ends exactly once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The agent came to its own end.
    Completed,
    /// Somebody asked for its end.
    Aborted,
    /// A process died under it.
    Interrupted,
}

/// What is done about a turn in which nothing shows that its agent works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StallStep {
    /// It is said.
    Noticed,
    /// The agent works again.
    Resumed,
    /// The agent is told to end the turn. One that does not is ended itself: SIGTERM, SIGKILL, restore.
    Cancelled,
}

/// Why a waiting prompt was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RemovedBy {
    /// It was taken out of the queue by its id.
    Removed,
    /// The queue was cleared.
    Cleared,
    /// The session was stopped or removed.
    Stopped,
}

/// What becomes of an interrupted prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Resolution {
    /// The same text is accepted again, at the head of the queue.
    Retry,
    /// It stays as it is and is no longer asked about.
    Drop,
}
