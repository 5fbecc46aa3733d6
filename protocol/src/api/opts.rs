//! Options with which a session is started.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::mcp::{McpRemoteServerOpts, McpServerOpts};
use super::permission::PermissionPolicy;
use crate::wire::Offer;

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
