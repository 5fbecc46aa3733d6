//! Events: what the journal records and subscribers see.
//!
//! One JSON object each: `{"id", "at", "session", "incarnation", "type", "data"}`. Ids are global and strictly
//! increasing; a session's stream is the subset that names it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use serde_json::Value;

use crate::common::{AttachmentInfo, ClientOrigin, ForkedFrom, Role, ToldTurn, Usage};
use crate::wire::PermissionOption;
use crate::{
    CallId, EventId, Exit, Incarnation, Keeper, KeyId, PermissionId, PromptId, Restore, SessionId,
    SessionName, Stream,
};

pub use crate::access::{Refused, RefusedFor};
pub use crate::common::{
    Decider, Disposition, Outcome, RemovedBy, Resolution, RestartCause, StallStep, Timestamp,
};

/// A recorded event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Position in the journal.
    pub id: EventId,
    /// Time of the event, by the machine's wall clock.
    pub at: Timestamp,
    /// Session of the event; absent for the manager's own events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// The session's incarnation at the time; 0 before its first process.
    #[serde(default)]
    pub incarnation: Incarnation,
    /// Type and data of the event.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// Kind of an event. In JSON, `type` is the name and `data` holds the fields.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", content = "data")]
#[allow(missing_docs)] // the fields are the glossary's words
pub enum EventKind {
    /// A client created the session.
    #[serde(rename = "session.created")]
    SessionCreated {
        agent: String,
        workdir: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<SessionName>,
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        labels: BTreeMap<String, String>,
        title: Option<String>,
        model: Option<String>,
        parent: Option<SessionId>,
        /// The key whose session this is; absent for the owner's. A sub-agent has its parent's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        started_by: Option<KeyId>,
        /// The session from which this one was forked.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        forked_from: Option<ForkedFrom>,
        /// The agent's own id of the conversation that the session takes up.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        conversation: Option<String>,
        /// Turns that the agent of a fork is told with its first prompt: the newest that fit into 256 KiB, oldest first.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        told: Vec<ToldTurn>,
    },
    /// kennel spawned a worker process and recorded its identity.
    #[serde(rename = "session.started")]
    SessionStarted { pid: u32 },
    /// The worker and its agent take prompts.
    #[serde(rename = "session.ready")]
    SessionReady { pid: u32, agent_pid: Option<u32>, restore: Restore },
    /// The session's process died. kennel replaces it after `delay_ms`.
    #[serde(rename = "session.restarting")]
    SessionRestarting {
        /// For programs; absent in events of earlier versions.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cause: Option<RestartCause>,
        /// For people.
        reason: String,
        old_pid: Option<u32>,
        exit: Option<Exit>,
        delay_ms: u64,
        deaths: u32,
        /// The last lines the worker or its agent wrote to standard error.
        last_words: Vec<String>,
    },
    /// The replacement is ready. `restore` tells how much of the conversation the agent has.
    #[serde(rename = "session.restarted")]
    SessionRestarted { old_pid: Option<u32>, new_pid: u32, reason: String, restore: Restore },
    /// The agent accepted a setting. `payload` is its whole answer.
    #[serde(rename = "setting.changed")]
    SettingChanged { setting_id: u64, name: String, value: String, payload: Value },
    /// The agent refused a setting.
    #[serde(rename = "setting.refused")]
    SettingRefused { setting_id: u64, name: String, value: String, reason: String },
    /// The agent shows no sign of work: no output, no processor time, no open tool call, command or question. kennel notices
    /// after the profile's `stall_timeout`, and cancels the turn after half as long again.
    #[serde(rename = "session.stalled")]
    SessionStalled { turn: u64, prompt_id: PromptId, step: StallStep, quiet_ms: u64 },
    /// Processes of the session were killed because together they exceeded its memory limit. `peak_bytes` is the most that
    /// they used, if known. Events about what that ended follow.
    #[serde(rename = "session.oom_killed")]
    SessionOomKilled { peak_bytes: Option<u64>, limit_bytes: u64, by: Keeper },
    /// The manager adopted the process that an earlier manager left. The process and its turn go on.
    #[serde(rename = "session.adopted")]
    SessionAdopted { pid: u32 },
    /// kennel ended the process of an idle session. A prompt, attach or ensure starts one again.
    #[serde(rename = "session.hibernated")]
    SessionHibernated {},
    /// The session leaves hibernation.
    #[serde(rename = "session.woken")]
    SessionWoken {},
    /// The session is stopped, and its whole tree of processes is gone. `exit` is null if no process ran, and if kennel killed
    /// the idle worker of an agent that runs once per prompt.
    #[serde(rename = "session.stopped")]
    SessionStopped { exit: Option<Exit> },
    /// The session failed. kennel does not restart it before a client does.
    #[serde(rename = "session.failed")]
    SessionFailed {
        reason: String,
        exit: Option<Exit>,
        last_words: Vec<String>,
        /// Processes that survived SIGKILL.
        survivors: Vec<u32>,
    },
    /// A client changed the session's own settings. The event has all of them, as they are now.
    #[serde(rename = "session.updated")]
    SessionUpdated {
        pinned: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<SessionName>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        title: Option<String>,
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        labels: BTreeMap<String, String>,
    },
    /// The session and its records are removed. Only this event remains.
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
        /// Attachments of the prompt.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        attachments: Vec<AttachmentInfo>,
    },
    /// The prompt waits behind `position` others.
    #[serde(rename = "prompt.queued")]
    PromptQueued { prompt_id: PromptId, position: u32 },
    /// A client replaced the text of a waiting prompt.
    #[serde(rename = "prompt.edited")]
    PromptEdited { prompt_id: PromptId, text: String },
    /// The prompt left the queue, and kennel gives it to the agent.
    #[serde(rename = "prompt.started")]
    PromptStarted { prompt_id: PromptId },
    /// The prompt ended without a turn, as aborted.
    #[serde(rename = "prompt.removed")]
    PromptRemoved { prompt_id: PromptId, reason: RemovedBy },
    /// A client resolved an interrupted prompt.
    #[serde(rename = "prompt.resolved")]
    PromptResolved { prompt_id: PromptId, action: Resolution, retried_as: Option<PromptId> },

    /// The agent works on the prompt.
    #[serde(rename = "turn.started")]
    TurnStarted { turn: u64, prompt_id: PromptId, agent_pid: u32 },
    /// The turn ended without a crash.
    #[serde(rename = "turn.completed")]
    TurnCompleted {
        turn: u64,
        prompt_id: PromptId,
        outcome: Outcome,
        /// `end_turn`, `cancelled`, `error` where the agent could not be run, or what the agent says.
        stop_reason: String,
        exit: Option<Exit>,
    },
    /// A crash cut the turn off. kennel does not repeat the prompt without `retry`.
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
        /// The agent's message, unchanged; absent if the agent writes plain text.
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
    /// The agent's plan changed.
    #[serde(rename = "plan.updated")]
    PlanUpdated { turn: u64, prompt_id: PromptId, payload: Value },
    /// Tokens and cost of the session so far.
    #[serde(rename = "usage.updated")]
    UsageUpdated { usage: Usage, payload: Value },
    /// The agent sent an update that kennel has no event for, or that belongs to no turn.
    #[serde(rename = "agent.updated")]
    AgentUpdated { prompt_id: Option<PromptId>, payload: Value },

    /// The agent asks for a permission. The event's id is the permission's.
    #[serde(rename = "permission.requested")]
    PermissionRequested {
        permission_id: PermissionId,
        /// Absent for a request between two turns.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        turn: Option<u64>,
        /// Absent for a request between two turns.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        prompt_id: Option<PromptId>,
        tool_call_id: String,
        title: String,
        options: Vec<PermissionOption>,
        payload: Value,
    },
    /// A client or the session's policy answered the permission request.
    #[serde(rename = "permission.resolved")]
    PermissionResolved { permission_id: PermissionId, option_id: String, by: Decider },
    /// The permission request ended without an answer.
    #[serde(rename = "permission.expired")]
    PermissionExpired { permission_id: PermissionId, reason: String },

    /// The agent sent a request that a client can answer, such as reading a file or asking the user. The event's id is the
    /// call's.
    #[serde(rename = "call.requested")]
    CallRequested {
        call_id: CallId,
        turn: u64,
        prompt_id: PromptId,
        /// The client that kennel asks; null if no client is asked.
        client_id: Option<EventId>,
        /// Name of the ACP method.
        method: String,
        payload: Value,
    },
    /// The client answered the call. The journal does not hold the answer.
    #[serde(rename = "call.answered")]
    CallAnswered { call_id: CallId },
    /// The call ended without an answer. kennel ignores later answers.
    #[serde(rename = "call.expired")]
    CallExpired { call_id: CallId, reason: String },

    /// A client attached, as driver or viewer. The event's id is the client's.
    #[serde(rename = "client.attached")]
    ClientAttached {
        client_id: EventId,
        name: String,
        role: Role,
        /// Where the client comes from; absent for the owner at this machine.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        origin: Option<ClientOrigin>,
    },
    /// The client detached, or its connection ended.
    #[serde(rename = "client.detached")]
    ClientDetached { client_id: EventId },
    /// Another client is the driver now; null: no client is.
    #[serde(rename = "driver.changed")]
    DriverChanged { driver: Option<EventId> },

    /// kennel started a sub-agent of this session.
    #[serde(rename = "subagent.started")]
    SubagentStarted { child: SessionId, task: String, model: Option<String> },
    /// A sub-agent's task ended. Recorded once for each sub-agent.
    #[serde(rename = "subagent.completed")]
    SubagentCompleted { child: SessionId, outcome: Outcome },
    /// A sub-agent failed with its task open. Recorded once, instead of `subagent.completed`.
    #[serde(rename = "subagent.lost")]
    SubagentLost { child: SessionId, reason: String },

    /// kennel refused access: to its TLS port, or for want of rights. Further refusals for the reason are counted, and one event
    /// tells of all of them.
    #[serde(rename = "access.refused")]
    AccessRefused(Refused),
    /// A message of kennel for the user.
    #[serde(rename = "system.message")]
    SystemMessage { text: String },
    /// A manager started on this state directory.
    #[serde(rename = "manager.started")]
    ManagerStarted { pid: u32, version: String, boot_id: String },
    /// The manager ends all processes and exits. It keeps the goals of the sessions.
    #[serde(rename = "manager.stopping")]
    ManagerStopping {},
}

impl EventKind {
    /// The names of all kinds, in the order of the alphabet.
    pub const NAMES: [&str; 49] = [
        "access.refused",
        "agent.updated",
        "call.answered",
        "call.expired",
        "call.requested",
        "client.attached",
        "client.detached",
        "driver.changed",
        "manager.started",
        "manager.stopping",
        "message.chunk",
        "permission.expired",
        "permission.requested",
        "permission.resolved",
        "plan.updated",
        "prompt.accepted",
        "prompt.edited",
        "prompt.queued",
        "prompt.removed",
        "prompt.resolved",
        "prompt.started",
        "session.adopted",
        "session.created",
        "session.deleted",
        "session.failed",
        "session.hibernated",
        "session.oom_killed",
        "session.ready",
        "session.restarted",
        "session.restarting",
        "session.stalled",
        "session.started",
        "session.stopped",
        "session.updated",
        "session.woken",
        "setting.changed",
        "setting.refused",
        "subagent.completed",
        "subagent.lost",
        "subagent.started",
        "system.message",
        "thought.chunk",
        "tool_call.interrupted",
        "tool_call.started",
        "tool_call.updated",
        "turn.completed",
        "turn.interrupted",
        "turn.started",
        "usage.updated",
    ];

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

    /// Text that an agent sends outside of a turn. kennel counts it to the answer of the turn that ended last.
    pub fn late_text(&self) -> Option<&str> {
        let EventKind::AgentUpdated { prompt_id: None, payload } = self else { return None };
        let said = payload["sessionUpdate"] == "agent_message_chunk";
        said.then(|| payload["content"]["text"].as_str()).flatten()
    }

    /// Turns that an agent told while it loaded a conversation that was begun outside kennel, the oldest first. They come before the
    /// session's own turns.
    pub fn loaded_turns(&self) -> Option<Vec<ToldTurn>> {
        let EventKind::AgentUpdated { prompt_id: None, payload } = self else { return None };
        let loaded = payload["sessionUpdate"] == "conversation_loaded";
        loaded.then(|| Vec::deserialize(&payload["turns"]).unwrap_or_default())
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
            AccessRefused(_) => "access.refused",
            SystemMessage { .. } => "system.message",
            ManagerStarted { .. } => "manager.started",
            ManagerStopping {} => "manager.stopping",
        }
    }

    /// Returns true if the record must be on disk before kennel passes it on. Every other record survives the death of
    /// any process, but not a power cut: the stream of a running turn, and that a process became ready. The start and
    /// the end of a process are promises; otherwise an incarnation could begin or end twice.
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
