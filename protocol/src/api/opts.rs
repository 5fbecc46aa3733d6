//! Options with which a session is started.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::mcp::{McpRemoteServerOpts, McpServerOpts};
use super::permission::PermissionPolicy;
use crate::wire::Offer;

/// Options of a new session. An absent option comes from the agent's profile, then from the defaults.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SessionOpts {
    /// The session's id, no number alone; else `session-N`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The session's name, which stands wherever an id does; else made of the id that was chosen, or of the directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Labels of the session, by which it is found in lists: at most 32.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Free text for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The agent's profile; else `shell`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// The model. kennel puts it in the place of `{model}` in the agent's command line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Absolute path of an existing directory in which the agent runs; else the home directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// Environment variables, added to the agent's environment.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// The restart type: which deaths of the worker kennel answers with a restart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart: Option<RestartType>,
    /// Restart intensity: more deaths than this within `period_ms` and the session is `failed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intensity: Option<u32>,
    /// Restart period, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub period_ms: Option<u64>,
    /// Action for a prompt whose turn a crash cut off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_crash: Option<OnCrash>,
    /// Idle time after which the session hibernates, in milliseconds; 0 = never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hibernate_after_ms: Option<u64>,
    /// Time between SIGTERM and SIGKILL for the agent's processes, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace_ms: Option<u64>,
    /// Time limit of a turn, in milliseconds; waiting for an answer counts. kennel then aborts the turn with the stop
    /// reason `timeout`. 0 = no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turn_timeout_ms: Option<u64>,
    /// Number added to the nice value of the agent's processes, 0 to 19.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nice: Option<u32>,
    /// Limit of open descriptors for each of the agent's processes, at least 32.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nofile: Option<u64>,
    /// Memory limit of all the agent's processes together, in bytes, at least 8 MiB. If they use more, they are killed, and
    /// kennel records `session.oom_killed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Limit of the agent's processes and threads at one time, at least 8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids: Option<u32>,
    /// Processor limit of all the agent's processes together, in thousandths of a processor, at least 10.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub milli_cpus: Option<u32>,
    /// Policy for permission requests that match no rule of the profile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub permissions: Option<PermissionPolicy>,
    /// Time limit for the answer to a permission request, in milliseconds; kennel then denies it. 0 = no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub permission_timeout_ms: Option<u64>,
    /// MCP servers for the agent that are programs, added to those of its profile. Only for agents that speak ACP.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mcp_servers: Vec<McpServerOpts>,
    /// MCP servers for the agent that it reaches by HTTP. If the agent does not support that, a `system.message` names them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mcp_remote_servers: Vec<McpRemoteServerOpts>,
    /// The file mode creation mask of the client (umask(2)), 0 to 0o777. It applies where the configuration sets none. Over
    /// HTTP the header `Kennel-Umask` carries it.
    #[serde(skip)]
    pub umask: Option<u32>,
    /// The agent's own id of a conversation that it has stored, begun outside kennel. The session goes on with it; if the agent does not,
    /// the session fails. Only for agents that speak ACP. 1 to 256 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conversation: Option<String>,
    /// Requests of the agent that the client can answer once it has attached. An agent learns at its start whether it may
    /// ask for files, so the client names them here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub offers: Vec<Offer>,
}

/// A change of what people call a session. Absent fields stay as they are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EditSessionRequest {
    /// The new name. No other session may have it as its name or its id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The new title; empty: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Labels to set, and with null to remove. Others stay.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, Option<String>>,
}

/// Restart type (OTP's names): which unexpected deaths of the worker kennel answers with a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RestartType {
    /// Every death.
    Permanent,
    /// Every death except an exit with status 0.
    Transient,
    /// No death: the session becomes `failed`, or `stopped` if the exit status was 0.
    Temporary,
}

/// Action for a prompt whose turn a crash cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnCrash {
    /// End the prompt as interrupted. A client may `resolve` it: its tools may have had effects.
    Interrupt,
    /// Give the prompt to the restored agent again.
    Retry,
}
