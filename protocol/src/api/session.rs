//! A session as the API shows it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::client::ClientInfo;
use crate::common::{ForkedFrom, Timestamp, Usage};
use crate::wire::AgentDetails;
use crate::{
    Exit, Incarnation, KeyId, Level, LimitedBy, Limits, PromptId, Restore, Sandboxed, SessionId, SessionName,
};

/// State of a session, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// kennel starts a worker process.
    Starting,
    /// Ready, and no turn runs.
    Idle,
    /// A turn runs.
    Running,
    /// A turn runs and waits for a client's answer.
    RequiresAction,
    /// kennel looks for the process that an earlier manager left.
    Adopting,
    /// kennel ends the process.
    Stopping,
    /// The process died, and kennel waits before the next start.
    Restarting,
    /// The session has no process. A prompt, an attach or an ensure starts one.
    Hibernated,
    /// A client stopped the session.
    Stopped,
    /// kennel gave the session up; `failure` has the reason.
    Failed,
}

impl Status {
    /// Name of the state in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Starting => "starting",
            Status::Idle => "idle",
            Status::Running => "running",
            Status::RequiresAction => "requires_action",
            Status::Adopting => "adopting",
            Status::Stopping => "stopping",
            Status::Restarting => "restarting",
            Status::Hibernated => "hibernated",
            Status::Stopped => "stopped",
            Status::Failed => "failed",
        }
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// A session, from the manager's own table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SessionInfo {
    /// Id of the session. It never changes.
    pub id: SessionId,
    /// Name of the session: unique, and it stands wherever an id does. A client can change it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<SessionName>,
    /// Labels of the session.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Free text for people.
    pub title: Option<String>,
    /// The agent's profile.
    pub agent: String,
    /// Details that the agent last gave of itself; null if it gave none.
    #[serde(default)]
    pub agent_details: Option<AgentDetails>,
    /// Names of variables in `env_pass` that the manager's environment lacks or has empty. The agent starts without a value of theirs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env_missing: Vec<String>,
    /// State of kennel's sub-agent tools in the agent; absent for agents that do not speak ACP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subagent_tools: Option<SubagentTools>,
    /// Model that the client or the profile named.
    pub model: Option<String>,
    /// Model that the agent last reported; absent if it reports none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_model: Option<String>,
    /// Newest message about the agent while it starts, such as a log-in address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_notice: Option<String>,
    /// The newest turn ended without an answer and without a tool call.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub empty_turn: bool,
    /// State of the session.
    pub status: Status,
    /// Working directory of the agent, absolute.
    pub workdir: String,
    /// Commit that was checked out there when the session was created; absent without a git repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_commit: Option<String>,
    /// Pid of the worker; null without a worker.
    pub pid: Option<u32>,
    /// Pid of the agent; null without an agent process.
    pub agent_pid: Option<u32>,
    /// Absolute path of the program that the present or last worker ran; null before the first, and for the shell agent.
    #[serde(default)]
    pub program: Option<String>,
    /// Containment level of the agent's processes, from the present or last worker; null before the first, and where
    /// nothing is limited.
    #[serde(default)]
    pub containment: Option<Level>,
    /// Sandbox of the agent, from the present or last worker; null without a sandbox.
    #[serde(default)]
    pub sandbox: Option<Sandboxed>,
    /// Resource limits of the agent's processes. If the worker cannot set them, the turn ends with `error`.
    #[serde(default)]
    pub limits: Limits,
    /// Mechanism that enforces each limit, from the present or last worker; null before the first, and where
    /// nothing is limited.
    #[serde(default)]
    pub limited_by: Option<LimitedBy>,
    /// Number of its worker process, from 1.
    pub incarnation: Incarnation,
    /// Session from which this one was forked; absent if it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forked_from: Option<ForkedFrom>,
    /// The agent's own id of the conversation that the session took up; absent if it began a new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation: Option<String>,
    /// Restore level: how much of the conversation the agent had when it last became ready.
    pub restore: Option<Restore>,
    /// Time of creation.
    pub created_at: Timestamp,
    /// Time of the last message from a user or the agent.
    pub last_message_at: Option<Timestamp>,
    /// Number of prompts given to the agent, plus answers that came back.
    pub message_count: u64,
    /// Number of turns that began.
    pub turn_count: u64,
    /// The beginning of the first prompt, at most 200 characters.
    pub first_prompt: Option<String>,
    /// Number of waiting prompts.
    pub queue_length: u32,
    /// Why the agent's program or its worker could not be run, while kennel tries again; else null.
    #[serde(default)]
    pub waits_for: Option<String>,
    /// Prompt whose turn runs, or that waits for its missing program; null between turns.
    pub running_prompt: Option<PromptId>,
    /// Tokens and cost; null if the agent does not report them.
    pub usage: Option<Usage>,
    /// Recent deaths of the worker, and the limits on them.
    pub restarts: Restarts,
    /// Reason of the failure; null unless the session is `failed`.
    pub failure: Option<Failure>,
    /// Things that the session waits for somebody to do, the oldest first; at most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<Need>,
    /// The session never hibernates.
    pub pinned: bool,
    /// Attached clients.
    #[serde(default)]
    pub clients: Vec<ClientInfo>,
    /// Parent session; null if the session is not a sub-agent.
    pub parent: Option<SessionId>,
    /// The key that started the session, or the session at the root of its tree; absent if the owner did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_by: Option<KeyId>,
    /// Newest sub-agents inside the agent, as the agent reports them, at most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<ChildInfo>,
}

/// Something that somebody must do before a session goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Need {
    /// Kind of the need.
    pub kind: NeedKind,
    /// Id of the permission, the call or the prompt; absent for a session that has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The action that the agent asks for, the beginning of the prompt or the reason of the failure, at most 200 characters.
    pub text: String,
    /// Time since which it waits. Where that is not recorded: of the session's last message.
    pub since: Timestamp,
}

/// Kind of a need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NeedKind {
    /// The agent asks for a permission.
    Permission,
    /// The agent asks for values of a form.
    Form,
    /// A crash cut a prompt's turn off: the prompt is to be retried or dropped.
    Interrupted,
    /// kennel gave the session up.
    Failed,
}

/// State of kennel's sub-agent tools in an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SubagentTools {
    /// The profile switches them off, or the agent is in a sandbox.
    Off,
    /// kennel names its MCP server to the agent, and the agent has not started the server since the manager started. ACP
    /// has no message by which an agent says that it starts none.
    Offered,
    /// The agent has started kennel's MCP server since the manager started.
    Taken,
}

/// A sub-agent inside an agent. It is not a session of kennel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChildInfo {
    /// Id that the agent gave.
    pub id: String,
    /// Id of the parent sub-agent; absent for a direct sub-agent of the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Title, in the agent's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// State, in ACP's words: `running`, `idle`, `requires_action`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
}

/// Recent deaths of a session's worker, and the limits on them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Restarts {
    /// Number of deaths that count against the intensity now.
    pub in_window: u32,
    /// Restart intensity: the limit of deaths within the period.
    pub intensity: u32,
    /// Restart period, in milliseconds.
    pub period_ms: u64,
    /// Reason of the last restart.
    pub last_reason: Option<String>,
    /// Pid of the process that the last restart replaced.
    pub last_pid: Option<u32>,
}

/// Reason of a `failed` session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Failure {
    /// Reason, for a person.
    pub reason: String,
    /// Exit of the last worker.
    pub exit: Option<Exit>,
    /// The last lines written to standard error.
    pub last_words: Vec<String>,
    /// Processes that survived SIGKILL.
    pub survivors: Vec<u32>,
    /// Time of the failure; absent for one of an earlier version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_at: Option<Timestamp>,
}

/// Action for the sub-agents of a stopped session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Orphans {
    /// Stop the sub-agents, too.
    #[default]
    Stop,
    /// Let the sub-agents run.
    Keep,
}
