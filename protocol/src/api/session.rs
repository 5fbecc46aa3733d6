//! A session as the API shows it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::client::ClientInfo;
use crate::common::{Timestamp, Usage};
use crate::wire::AgentDetails;
use crate::{Exit, Incarnation, Level, LimitedBy, Limits, PromptId, Restore, Sandboxed, SessionId};

/// What a session does now, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// A worker process is being brought up.
    Starting,
    /// Ready, and no turn runs.
    Idle,
    /// A turn runs.
    Running,
    /// A turn waits for a person's answer.
    RequiresAction,
    /// A process of an earlier manager is being looked for.
    Adopting,
    /// The process is being ended.
    Stopping,
    /// Between a death and the next start.
    Restarting,
    /// Without a process, until something is asked of it.
    Hibernated,
    /// Ended by request.
    Stopped,
    /// Given up; `failure` says why.
    Failed,
}

impl Status {
    /// The word.
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

/// A session as the manager's own table has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SessionInfo {
    /// Stable id.
    pub id: SessionId,
    /// A name for people.
    pub title: Option<String>,
    /// The agent's profile.
    pub agent: String,
    /// What the agent last said of itself, if it is one that does.
    #[serde(default)]
    pub agent_details: Option<AgentDetails>,
    /// Variables that the configuration names in `env_pass` and that the manager's environment lacks, by name: the agent
    /// starts without them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env_missing: Vec<String>,
    /// Whether its agent has kennel's tools for sub-agents; absent for agents that speak no ACP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subagent_tools: Option<SubagentTools>,
    /// The model asked for.
    pub model: Option<String>,
    /// The model that the agent last said it uses, where it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_model: Option<String>,
    /// What was last said of its agent while that is being started: where to log in, for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_notice: Option<String>,
    /// Its newest turn has ended without an answer or a tool call.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub empty_turn: bool,
    /// What it does now.
    pub status: Status,
    /// Where the agent runs.
    pub workdir: String,
    /// The worker's process; null where none exists.
    pub pid: Option<u32>,
    /// The agent's process; null where none exists.
    pub agent_pid: Option<u32>,
    /// The absolute path of the agent's program that the present or last worker has run; null before the first, and for the shell agent.
    #[serde(default)]
    pub program: Option<String>,
    /// What holds the agent's processes together, as the present or last worker says; null before the first.
    #[serde(default)]
    pub containment: Option<Level>,
    /// The sandbox that the agent is in, as the present or last worker says; null where there is none.
    #[serde(default)]
    pub sandbox: Option<Sandboxed>,
    /// What the agent's processes may use. A turn whose limits cannot be set ends with `error`.
    #[serde(default)]
    pub limits: Limits,
    /// What sees to each of these limits, as the present or last worker says; null before the first.
    #[serde(default)]
    pub limited_by: Option<LimitedBy>,
    /// Counts its worker processes from 1.
    pub incarnation: Incarnation,
    /// What the agent knew of the turns before when it last became ready.
    pub restore: Option<Restore>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When a user or agent last said something.
    pub last_message_at: Option<Timestamp>,
    /// Prompts given to the agent and answers that came back.
    pub message_count: u64,
    /// Turns begun.
    pub turn_count: u64,
    /// The beginning of the first prompt, at most 200 characters.
    pub first_prompt: Option<String>,
    /// Prompts waiting.
    pub queue_length: u32,
    /// The prompt whose turn runs.
    pub running_prompt: Option<PromptId>,
    /// Tokens and cost, where the agent tells.
    pub usage: Option<Usage>,
    /// Restarts inside the period that now ends.
    pub restarts: Restarts,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// It never hibernates.
    pub pinned: bool,
    /// Who is attached.
    #[serde(default)]
    pub clients: Vec<ClientInfo>,
    /// The session whose sub-agent it is.
    pub parent: Option<SessionId>,
    /// Sub-agents that its agent has within itself, as the agent tells: at most 32, the newest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<ChildInfo>,
}

/// Whether an agent has kennel's tools for sub-agents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SubagentTools {
    /// The profile switches them off, or the agent is in a sandbox.
    Off,
    /// kennel names its MCP server to the agent, and the agent has not started it since the manager started. ACP has no
    /// word for an agent that starts none.
    Offered,
    /// The agent has started kennel's MCP server since the manager started.
    Taken,
}

/// A sub-agent that an agent has within itself. It is no session of kennel's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChildInfo {
    /// The agent's id of it.
    pub id: String,
    /// The child whose sub-agent it is; none if it is the agent's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// What it is for, in the agent's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// What it does, in ACP's words: `running`, `idle`, `requires_action`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
}

/// A session's recent deaths.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Restarts {
    /// Deaths that count against the intensity now.
    pub in_window: u32,
    /// Restart intensity.
    pub intensity: u32,
    /// Restart period, in milliseconds.
    pub period_ms: u64,
    /// Why the last process was replaced.
    pub last_reason: Option<String>,
    /// Its pid.
    pub last_pid: Option<u32>,
}

/// Why a session is `failed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Failure {
    /// In words.
    pub reason: String,
    /// The last worker's exit.
    pub exit: Option<Exit>,
    /// The last lines written to standard error.
    pub last_words: Vec<String>,
    /// Processes that survived SIGKILL.
    pub survivors: Vec<u32>,
}

/// What becomes of a stopped session's sub-agents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Orphans {
    /// They are stopped with it.
    #[default]
    Stop,
    /// They go on.
    Keep,
}
