//! The spec of a session: its agent, limits and policies, fixed when it is created; and what people call it, which they may change.

use std::collections::BTreeMap;

use protocol::api::{ForkedFrom, OnCrash, PermissionPolicy, RestartType};
use protocol::wire::{Agent, Offer, RemoteServer};
use protocol::{Containment, Limits, SessionName, Walls};
use serde::{Deserialize, Serialize};

use super::is_default;
use crate::core::limits;

/// A session's settings, with every default filled in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    /// The profile's name.
    pub agent_name: String,
    /// The profile's agent when the session was created, with the programs that were found then.
    pub agent: Agent,
    /// The agent's program as the profile names it. The worker finds it at each start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// The session's name; none in a spec that is not a session's yet, and in a journal of an earlier version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<SessionName>,
    /// The session's labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Free text for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The model asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Absolute path of the agent's working directory.
    pub workdir: String,
    /// The commit that was checked out in the working directory when the session was created, in hexadecimal; none without a
    /// repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_commit: Option<String>,
    /// The session from which this one was forked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forked_from: Option<ForkedFrom>,
    /// The agent's own id of the conversation that the session takes up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation: Option<String>,
    /// Added to the agent's environment: the profile's, then the session's own.
    pub env: BTreeMap<String, String>,
    /// Names of variables of the manager's environment that the agent gets, too. Each start of a worker reads
    /// them, so a key in them is not in the journal.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env_pass: Vec<String>,
    /// Names in `env_pass` that the configuration itself lists. A known agent may use the others, and runs without them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env_named: Vec<String>,
    /// Restart type, intensity and period.
    pub restart: RestartPolicy,
    /// The fate of a prompt whose turn a crash cut off.
    pub on_crash: OnCrash,
    /// Idle time after which the session hibernates, in milliseconds; 0 = never.
    pub hibernate_after_ms: u64,
    /// Time limit of a worker from its spawn until its agent is ready, in milliseconds; none: [`Spec::start_ms`] decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_timeout_ms: Option<u64>,
    /// Time between SIGTERM and SIGKILL for the agent's processes, in milliseconds.
    pub grace_ms: u64,
    /// Time within which a worker that owes an answer must give a sign of life, in milliseconds.
    #[serde(default = "worker_timeout")]
    pub worker_timeout_ms: u64,
    /// Time without a sign of work after which a turn stalls, in milliseconds; none: [`Spec::stall_ms`] decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stall_timeout_ms: Option<u64>,
    /// Time limit of a turn, in milliseconds; 0 = none.
    #[serde(default)]
    pub turn_timeout_ms: u64,
    /// Resource limits of the agent's processes.
    #[serde(default, skip_serializing_if = "is_default")]
    pub limits: Limits,
    /// The file mode creation mask of its programs (umask(2)): the configuration's, else that of the client that created the
    /// session. Absent: that with which the daemon was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub umask: Option<u32>,
    /// The answers to permission requests of the agent.
    #[serde(default)]
    pub permissions: Permissions,
    /// The tools for sub-agents, and how many sub-agents there may be.
    #[serde(default)]
    pub subagents: Subagents,
    /// MCP servers that its agent reaches by itself, if it can.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remote_servers: Vec<RemoteServer>,
    /// The containment that the agent's processes are to have.
    #[serde(default)]
    pub containment: Containment,
    /// The sandbox that its agent runs in. What hides the manager's own files is added when a worker is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub walls: Option<Walls>,
    /// Requests of the agent that the client that created the session can serve, once it is attached.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub offers: Vec<Offer>,
}

/// Default of [`Spec::worker_timeout_ms`]: long enough for an overloaded machine.
pub const WORKER_TIMEOUT_MS: u64 = 30_000;

fn worker_timeout() -> u64 {
    WORKER_TIMEOUT_MS
}

/// An agent's rights to sub-agents: the tools, and the limits. The limits of the root count for a whole tree,
/// so that no session below can raise them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subagents {
    /// An agent that takes MCP servers is given kennel's own, which starts sub-agents.
    pub offered: bool,
    /// The number of parents above a sub-agent.
    pub depth: u32,
    /// Sub-agents of one parent whose tasks are open.
    pub breadth: u32,
    /// Sub-agents below one root that are neither stopped nor failed.
    pub total: u32,
}

impl Default for Subagents {
    fn default() -> Self {
        Self { offered: true, depth: 3, breadth: 8, total: 32 }
    }
}

/// The answers to permission requests of an agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permissions {
    /// The policy where no rule matches.
    pub policy: PermissionPolicy,
    /// The first that fits decides.
    pub rules: Vec<PermissionRule>,
    /// Time after which a request expires, in milliseconds; 0 = never.
    pub timeout_ms: u64,
    /// The permissions of the session that has started this one. What they do not allow is not allowed here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub above: Option<Box<Above>>,
}

/// Decides about some of the permissions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PermissionRule {
    /// About this kind of tool only: `read`, `edit`, `execute` and so on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// About files at or below this path only; relative to the working directory unless absolute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The policy where the rule matches.
    pub then: PermissionPolicy,
}

/// OTP's restart strategy of one child: type, intensity, period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartPolicy {
    /// The deaths after which the session restarts.
    pub kind: RestartType,
    /// More deaths than this within the period end in `failed`.
    pub intensity: u32,
    /// The period, in milliseconds.
    pub period_ms: u64,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self { kind: RestartType::Transient, intensity: 5, period_ms: 60_000 }
    }
}

impl Spec {
    /// Time limit of a worker from its spawn until its agent is ready, in milliseconds. ACP agents took up to 13 s on an
    /// idle machine; others have nothing to prepare.
    pub fn start_ms(&self) -> u64 {
        self.start_timeout_ms.unwrap_or(match self.agent {
            Agent::Acp { .. } => limits::START_ACP_MS,
            Agent::Shell | Agent::Command { .. } => limits::START_MS,
        })
    }

    /// Time without a sign of work after which a turn stalls, in milliseconds; 0 = never. A command may be silent for ever;
    /// an ACP agent reports at least its tools.
    pub fn stall_ms(&self) -> u64 {
        self.stall_timeout_ms.unwrap_or(match self.agent {
            Agent::Acp { .. } => limits::STALL_ACP_MS,
            Agent::Shell | Agent::Command { .. } => 0,
        })
    }

    /// Time in which an ACP agent must answer while it restores its conversation, in milliseconds: a third of the start,
    /// because it may try twice.
    pub fn restore_ms(&self) -> u64 {
        self.start_ms() / 3
    }
}

/// The answers of a session above, which bind the sessions below it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Above {
    /// The permissions of the session above.
    pub permissions: Permissions,
    /// The working directory of the session above, to which paths in its rules are relative.
    pub workdir: String,
}
