//! The HTTP API's bodies. `manager/openapi.json` is generated from these.

mod disk;
mod prune;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::event::{Disposition, Outcome, Resolution, Timestamp};
use crate::wire::{AgentDetails, Attachment, AttachmentKind, Offer, PermissionOption, Transport};
use crate::{
    CallId, EventId, Exit, Incarnation, Level, LimitedBy, Limits, PermissionId, PromptId, Restore, Sandboxed,
    SessionId,
};

pub use disk::{DiskUsage, FileUsage, JournalUsage, SessionUsage, WorktreeUsage};
pub use prune::{Gap, PruneReport, PruneRequest, PrunedSession, PrunedWorktree};

/// What a session is started with. What is not given comes from the agent's profile, then from the defaults.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SessionOpts {
    /// The session's id; else `session-N`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// A name for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The agent's profile; else `shell`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// Passed to the agent where its command line says `{model}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Absolute path of an existing directory in which the agent runs; else the home directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// Added to the agent's environment.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Which deaths are answered with a restart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart: Option<RestartType>,
    /// Restart intensity: more deaths than this within `period_ms` and the session is `failed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intensity: Option<u32>,
    /// Restart period, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub period_ms: Option<u64>,
    /// What becomes of a prompt whose turn a crash cut off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_crash: Option<OnCrash>,
    /// Idle time after which the session hibernates, in milliseconds; 0 = never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hibernate_after_ms: Option<u64>,
    /// How long the agent's processes have between SIGTERM and SIGKILL, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace_ms: Option<u64>,
    /// How long a turn may take, in milliseconds, the time included that it waits for somebody; then it is aborted, with
    /// `timeout` as its stop reason. 0 = as long as it wants.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turn_timeout_ms: Option<u64>,
    /// How much is added to the nice value of the agent's processes, 0 to 19.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nice: Option<u32>,
    /// Descriptors that each of the agent's processes may have open, from 32.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nofile: Option<u64>,
    /// Memory that the agent's processes may have together, in bytes, from 8 MiB. With more they are killed, and
    /// `session.oom_killed` says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Processes and threads that there may be of the agent at once, from 8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids: Option<u32>,
    /// Processor time of the agent's processes together, in thousandths of a processor, from 10.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub milli_cpus: Option<u32>,
    /// What becomes of a permission that the agent asks for and no rule of its profile is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub permissions: Option<PermissionPolicy>,
    /// How long a permission may wait for an answer, in milliseconds; then it is denied. 0 = for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub permission_timeout_ms: Option<u64>,
    /// MCP servers for the agent, beside those of its profile; only for agents that speak ACP.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mcp_servers: Vec<McpServerOpts>,
    /// The same, of those that are reached by HTTP. One that the agent cannot reach so is named in a `system.message`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mcp_remote_servers: Vec<McpRemoteServerOpts>,
    /// The file mode creation mask of the client (umask(2)), 0 to 0o777. It applies where the configuration sets none. Over
    /// HTTP the header `Kennel-Umask` carries it.
    #[serde(skip)]
    pub umask: Option<u32>,
    /// What the client can do for the agent that starts the session, and attaches to it then: an agent hears at its start
    /// whether it can ask for files.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub offers: Vec<Offer>,
}

/// A program that offers tools to the agent over the Model Context Protocol, on its standard input and output.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct McpServerOpts {
    /// What the agent calls it, 1 to 100 characters; one of the profile's of that name is not given to the agent.
    pub name: String,
    /// The program: its absolute path, or its name on PATH.
    pub command: String,
    /// Its arguments. Never shown.
    #[serde(default)]
    pub args: Vec<String>,
    /// Added to its environment. Never shown.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
}

impl std::fmt::Debug for McpServerOpts {
    /// Without what may be a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("McpServerOpts").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A server of tools over the Model Context Protocol that is reached by HTTP.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct McpRemoteServerOpts {
    /// What the agent calls it, 1 to 100 characters; one of the profile's of that name is not given to the agent.
    pub name: String,
    /// How it is reached.
    #[serde(default)]
    pub transport: Transport,
    /// Where: `http://` or `https://`. Never shown.
    pub url: String,
    /// Sent with each request. Never shown.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
}

impl std::fmt::Debug for McpRemoteServerOpts {
    /// Without what may be a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("McpRemoteServerOpts").field("name", &self.name).finish_non_exhaustive()
    }
}

/// MCP servers for the agent of a session that exists.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct McpServersRequest {
    /// Programs.
    pub mcp_servers: Vec<McpServerOpts>,
    /// Those that are reached by HTTP.
    pub mcp_remote_servers: Vec<McpRemoteServerOpts>,
}

/// What became of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct McpServersReply {
    /// Names of those that the session did not have so.
    pub changed: Vec<String>,
    /// The agent that runs does not have them: its next process will.
    pub next_process: bool,
}

/// What an attached client may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything. At most one client of a session drives.
    Driver,
    /// Look on.
    Viewer,
}

/// A client that is attached to a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClientInfo {
    /// Its id: `Kennel-Client` in its requests.
    pub client_id: EventId,
    /// What it calls itself.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// What it can do for the agent while it drives.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub offers: Vec<Offer>,
}

/// What a client has to say to a call: one of the two.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CallRequest {
    /// What came of it, as ACP has it for the method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    /// Why it could not be done, as ACP has it: `code` and `message`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Value>,
}

/// A call that waits for an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CallInfo {
    /// Its id, which is its event's.
    pub call_id: CallId,
    /// The session.
    pub session_id: SessionId,
    /// The prompt in whose turn it was asked.
    pub prompt_id: PromptId,
    /// The client that is asked now; null: it waits for one that can do it.
    pub client_id: Option<EventId>,
    /// ACP's name of what is to be done.
    pub method: String,
    /// With what, as the agent has said it.
    pub payload: Value,
    /// When it was asked.
    pub asked_at: Timestamp,
}

/// What becomes of a permission that an agent asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PermissionPolicy {
    /// It waits until somebody answers.
    #[default]
    Park,
    /// It is given, once.
    Allow,
    /// It is denied, once; the agent goes on without.
    Deny,
    /// The turn is aborted.
    Fail,
}

/// How an agent is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AgentKind {
    /// A prompt is a command line.
    Shell,
    /// A program is started for each prompt.
    Command,
    /// A program lives between prompts and speaks the Agent Client Protocol.
    Acp,
}

/// An agent that sessions can be started with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AgentInfo {
    /// The profile's name.
    pub name: String,
    /// How it is spoken to.
    pub kind: AgentKind,
    /// Its program, as the profile names it.
    pub program: String,
    /// Where its program is; null where it is not found.
    pub path: Option<String>,
    /// kennel knows it without being told in `config.toml`.
    pub built_in: bool,
    /// How a person logs in, where that is known.
    pub login: Option<String>,
    /// How it is installed, where that is known.
    pub install: Option<String>,
    /// Variables that the configuration names in `env_pass` for it and that the manager's environment lacks, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env_missing: Vec<String>,
    /// What it said of itself in the newest session with it.
    #[serde(default)]
    pub details: Option<AgentDetails>,
}

/// What something in an agent is to be set to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SettingRequest {
    /// The agent's id of a value, 1 to 200 characters.
    pub value: String,
}

/// What became of a setting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SettingReply {
    /// What.
    pub name: String,
    /// To what.
    pub value: String,
    /// The agent's whole answer; null: it has not answered yet, and `setting.changed` or `setting.refused` will say
    /// what it does.
    pub answer: Option<Value>,
}

/// What can be set in a session's agent, in ACP's words, and what was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SettingsInfo {
    /// Its modes and the one that it is in; set by the name `mode`.
    pub modes: Option<Value>,
    /// Its options and what they are set to; set by their ids.
    pub config_options: Option<Value>,
    /// What was set here, and is set again in each process of the agent.
    pub set: BTreeMap<String, String>,
    /// What the agent has not answered yet.
    pub waiting: BTreeMap<String, String>,
}

/// An answer to a permission, as it is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AnswerRequest {
    /// The answer.
    pub answer: PermissionAnswer,
}

/// A permission that waits for an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PermissionInfo {
    /// Its id, which is its event's.
    pub permission_id: PermissionId,
    /// The session.
    pub session_id: SessionId,
    /// The prompt in whose turn it was asked; absent where that was between two turns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_id: Option<PromptId>,
    /// What the agent wants to do, in its words.
    pub title: String,
    /// What can be answered.
    pub options: Vec<PermissionOption>,
    /// When it was asked.
    pub asked_at: Timestamp,
}

/// An answer to a permission.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PermissionAnswer {
    /// This one of its options, by id.
    Option(String),
    /// The option that allows it once, or else one that allows it.
    Allow,
    /// The option that denies it once, or else one that denies it.
    Deny,
    /// None of its options: the question was closed. It is denied, or cancelled where no option denies it.
    Cancel,
}

/// Which deaths of a worker nobody asked for are answered with a restart (OTP's names).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RestartType {
    /// Every one.
    Permanent,
    /// Every one but an exit with status 0.
    Transient,
    /// None: the session is `failed`, or `stopped` if the status was 0.
    Temporary,
}

/// What becomes of a prompt whose turn a crash cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnCrash {
    /// It ends as interrupted, and somebody may `resolve` it: its tools may have had effects.
    Interrupt,
    /// It goes to the restored agent again.
    Retry,
}

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

/// Tokens and cost.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Usage {
    /// Tokens read.
    pub input_tokens: u64,
    /// Tokens written.
    pub output_tokens: u64,
    /// Cost in US dollars, where known.
    pub cost_usd: Option<f64>,
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

/// A prompt to be accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PromptRequest {
    /// What to tell the agent: 1 byte to 1 MiB, without NUL.
    pub text: String,
    /// What to do if a turn runs or others wait.
    #[serde(default)]
    pub when_busy: WhenBusy,
    /// What belongs to it: at most 16, of at most 8 MiB together. Only agents that speak ACP take any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<AttachmentRequest>,
}

/// Something that belongs to a prompt: a `text`, or bytes as `data`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AttachmentRequest {
    /// What people call it, such as a file's name: 1 to 200 characters, none of them control characters.
    pub name: String,
    /// Its media type; else what its name says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mime_type: Option<String>,
    /// Where it came from; else made of its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// Its text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Its bytes in base64 (RFC 4648, section 4).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
}

/// Something that belongs to a prompt, without what is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AttachmentInfo {
    /// Which sort of thing it is to an agent.
    pub kind: AttachmentKind,
    /// What people call it.
    pub name: String,
    /// Its media type.
    pub mime_type: String,
    /// How many bytes there are in it.
    pub size: u64,
}

impl From<&Attachment> for AttachmentInfo {
    fn from(attachment: &Attachment) -> Self {
        let Attachment { kind, name, mime_type, content, .. } = attachment;
        let (name, mime_type) = (name.clone(), mime_type.clone());
        Self { kind: *kind, name, mime_type, size: content.size() as u64 }
    }
}

/// What to do with a prompt if a turn runs or others wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenBusy {
    /// It waits behind the others.
    #[default]
    Queue,
    /// It is refused with `busy`.
    Reject,
    /// The running turn is aborted and this prompt goes first.
    Interrupt,
}

/// A prompt that is on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Accepted {
    /// The session.
    pub session_id: SessionId,
    /// Its id.
    pub prompt_id: PromptId,
    /// The event that recorded it: subscribe after it to see all that follows.
    pub event_id: EventId,
    /// What became of it.
    pub disposition: Disposition,
}

/// A prompt that has not ended, or was interrupted and not resolved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QueuedPrompt {
    /// Its id.
    pub prompt_id: PromptId,
    /// Where it stands.
    pub state: PromptState,
    /// Its text.
    pub text: String,
    /// What belongs to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<AttachmentInfo>,
}

/// Where a prompt stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PromptState {
    /// Its turn runs.
    Running,
    /// It waits.
    Queued,
    /// Its turn was cut off and nobody has said what is to become of it.
    Interrupted,
}

/// New text for a waiting prompt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EditRequest {
    /// The text: 1 byte to 1 MiB, without NUL.
    pub text: String,
}

/// What is to become of an interrupted prompt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResolveRequest {
    /// The choice.
    pub action: Resolution,
}

/// What came of a resolved prompt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Resolved {
    /// The interrupted prompt.
    pub prompt_id: PromptId,
    /// The prompt that repeats it, with `retry`.
    pub retried_as: Option<PromptId>,
}

/// The turn that an abort ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Aborted {
    /// Its prompt.
    pub prompt_id: PromptId,
}

/// How many waiting prompts were removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Cleared {
    /// The number.
    pub removed: u32,
}

/// A background sub-agent to be started.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SubagentRequest {
    /// The parent's session id or the current pid of its worker; none for a sub-agent of nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Its first prompt, delivered as soon as it is ready.
    pub task: String,
    /// What its session is started with.
    #[serde(default)]
    pub opts: SessionOpts,
}

/// A background sub-agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SubagentHandle {
    /// Its session.
    pub session_id: SessionId,
    /// Its worker now; null where none exists.
    pub pid: Option<u32>,
    /// The parent.
    pub parent_session_id: Option<SessionId>,
    /// The parent's worker now.
    pub parent_pid: Option<u32>,
    /// What it was told to do.
    pub task: String,
    /// The model asked for.
    pub model: Option<String>,
    /// When it was started.
    pub started_at: Timestamp,
    /// What it does now.
    pub status: Status,
}

/// What a session's newest turn has said, and how it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TurnResult {
    /// The session.
    pub session_id: SessionId,
    /// What it does now.
    pub status: Status,
    /// The prompt whose turn it is; null where none was begun yet.
    pub prompt_id: Option<PromptId>,
    /// How the turn has ended; null while it runs.
    pub outcome: Option<Outcome>,
    /// Why it has ended: what the agent says, or what it died of.
    pub stop_reason: Option<String>,
    /// How the process ended that ran it, where one did.
    pub exit: Option<Exit>,
    /// What the agent has said on standard output, so far; of more than 1 MiB the end.
    pub text: String,
    /// The beginning of the text is left out.
    pub truncated: bool,
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

/// A working directory whose session is wanted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BootstrapRequest {
    /// Absolute path of an existing directory.
    pub workdir: String,
    /// What the session is started with, if it does not exist.
    #[serde(default)]
    pub opts: SessionOpts,
}

/// A directory's session and its token.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Bootstrap {
    /// The session.
    pub session: SessionInfo,
    /// Its id.
    pub id: SessionId,
    /// Its worker.
    pub pid: Option<u32>,
    /// The session's token. A secret.
    pub token: String,
}

/// A session's token.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenReply {
    /// 32 bytes that nobody can guess, in url-safe base64. A secret.
    pub token: String,
}

/// The manager itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ManagerInfo {
    /// Its process.
    pub pid: u32,
    /// `running`, `stopping`, or `state_dir_gone`: the state directory was deleted, and new work is refused.
    pub state: String,
    /// Version and build.
    pub version: String,
    /// Its state directory.
    pub state_dir: String,
    /// The path of the `config.toml` that the manager reads, whether the file exists or not; absent from older managers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
    /// When it started.
    pub started_at: Timestamp,
    /// Sessions by status.
    pub sessions: BTreeMap<String, u64>,
    /// The last event recorded.
    pub last_event_id: EventId,
}

/// An error, as RFC 9457 has it, with a `code` that does not change between versions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Always `about:blank`: `code` says which problem it is.
    #[serde(rename = "type")]
    pub kind: String,
    /// The HTTP status in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// Stable name of the problem, for programs.
    pub code: String,
    /// What happened and what was not changed, for people.
    pub detail: String,
    /// What to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Which of several things of the request it is about, by its name: without it the request may be right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
}
