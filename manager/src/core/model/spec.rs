//! What a session runs and under which rules: settled when it is created.

use std::collections::BTreeMap;

use protocol::api::{
    McpRemoteServerOpts, McpServerOpts, OnCrash, PermissionPolicy, RestartType, SessionOpts,
};
use protocol::wire::{Agent, Offer, RemoteServer};
use protocol::{Containment, Limits, Walls};
use serde::{Deserialize, Serialize};

use crate::core::limits;

/// A session's settings, with every default filled in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    /// The profile's name.
    pub agent_name: String,
    /// What the profile said when the session was created, with programs where they were then.
    pub agent: Agent,
    /// The agent's program as the profile names it. The worker finds it at each start.
    #[serde(default)]
    pub program: Option<String>,
    /// A name for people.
    pub title: Option<String>,
    /// The model asked for.
    pub model: Option<String>,
    /// Absolute path of the agent's working directory.
    pub workdir: String,
    /// Added to the agent's environment: the profile's, then the session's own.
    pub env: BTreeMap<String, String>,
    /// Names of variables of the manager's environment that the agent is given too, read at each start of a
    /// worker: so a key that they hold is not in the journal.
    #[serde(default)]
    pub env_pass: Vec<String>,
    /// Those of `env_pass` that the configuration itself names. The others are what a known agent may use and need not
    /// have, so that nobody misses them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env_named: Vec<String>,
    /// What a death is answered with.
    pub restart: RestartPolicy,
    /// What becomes of a prompt whose turn a crash cut off.
    pub on_crash: OnCrash,
    /// Idle time after which the session hibernates, in milliseconds; 0 = never.
    pub hibernate_after_ms: u64,
    /// How long a worker may take from its spawn until its agent is ready, in milliseconds, where the profile says it.
    #[serde(default)]
    pub start_timeout_ms: Option<u64>,
    /// Time between SIGTERM and SIGKILL for the agent's processes, in milliseconds.
    pub grace_ms: u64,
    /// How long a worker that has something to do may be silent when it is asked for a sign of life, in milliseconds.
    #[serde(default = "worker_timeout")]
    pub worker_timeout_ms: u64,
    /// How long nothing may show that the agent of a turn works, in milliseconds; if it is not said, [`Spec::stall_ms`] knows.
    #[serde(default)]
    pub stall_timeout_ms: Option<u64>,
    /// How long a turn may take from its start, in milliseconds; 0 = as long as it wants.
    #[serde(default)]
    pub turn_timeout_ms: u64,
    /// What its agent's processes may use.
    #[serde(default)]
    pub limits: Limits,
    /// The file mode creation mask of its programs (umask(2)): the configuration's, else that of the client that created the
    /// session. Absent: that with which the daemon was started.
    #[serde(default)]
    pub umask: Option<u32>,
    /// What becomes of permissions that the agent asks for.
    #[serde(default)]
    pub permissions: Permissions,
    /// Whether its agent is offered sub-agents, and how many there may be below it.
    #[serde(default)]
    pub subagents: Subagents,
    /// MCP servers that its agent reaches by itself, if it can.
    #[serde(default)]
    pub remote_servers: Vec<RemoteServer>,
    /// What is to hold its agent's processes together.
    #[serde(default)]
    pub containment: Containment,
    /// The sandbox that its agent runs in. What hides the manager's own files is added when a worker is told.
    #[serde(default)]
    pub walls: Option<Walls>,
    /// What the client that made the session can do for its agent, and is to attach for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub offers: Vec<Offer>,
}

/// What [`Spec::worker_timeout_ms`] is if nobody says anything: long enough for a machine that is short of everything.
pub const WORKER_TIMEOUT_MS: u64 = 30_000;

fn worker_timeout() -> u64 {
    WORKER_TIMEOUT_MS
}

/// Whether a session's agent is offered sub-agents, and how many there may be. In a tree those of the root count:
/// what is below a session must not be able to give itself more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subagents {
    /// An agent that takes MCP servers is given kennel's own, which starts sub-agents.
    pub offered: bool,
    /// How many parents a sub-agent may have above it, one above the other.
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

/// What becomes of permissions that an agent asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permissions {
    /// Where no rule fits.
    pub policy: PermissionPolicy,
    /// The first that fits decides.
    pub rules: Vec<PermissionRule>,
    /// How long one may wait, in milliseconds; 0 = for ever.
    pub timeout_ms: u64,
    /// The permissions of the session that has started this one. What they do not allow is not allowed here.
    #[serde(default)]
    pub above: Option<Box<Above>>,
}

/// Decides about some of the permissions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PermissionRule {
    /// About this kind of tool only: `read`, `edit`, `execute` and so on.
    pub kind: Option<String>,
    /// About files at or below this path only; relative to the working directory unless absolute.
    pub path: Option<String>,
    /// What becomes of it.
    pub then: PermissionPolicy,
}

/// OTP's restart strategy of one child: type, intensity, period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartPolicy {
    /// Which deaths are answered with a restart.
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
    /// How long a worker of this agent may take from its spawn to ready, in milliseconds. Agents that live between
    /// prompts were seen to take up to 13 s on an idle machine; others have nothing to prepare.
    pub fn start_ms(&self) -> u64 {
        self.start_timeout_ms.unwrap_or(match self.agent {
            Agent::Acp { .. } => limits::START_ACP_MS,
            Agent::Shell | Agent::Command { .. } => limits::START_MS,
        })
    }

    /// How long nothing may show that the agent of a turn works until that is said, in milliseconds; 0 = for ever. A command may
    /// wait for ever and be right; an agent that speaks has something to say, if only that a tool runs.
    pub fn stall_ms(&self) -> u64 {
        self.stall_timeout_ms.unwrap_or(match self.agent {
            Agent::Acp { .. } => limits::STALL_ACP_MS,
            Agent::Shell | Agent::Command { .. } => 0,
        })
    }

    /// How long such an agent may say nothing while it takes up its conversation, in milliseconds. There are two ways to
    /// do that, one after the other, and time must be left for what comes before and after.
    pub fn restore_ms(&self) -> u64 {
        self.start_ms() / 3
    }

    fn has_mcp_server(&self, given: &McpServerOpts) -> bool {
        let Agent::Acp { mcp_servers, .. } = &self.agent else { return false };
        mcp_servers.iter().any(|have| {
            let env = have.env.iter().map(|(name, value)| (name, value)).eq(&given.env);
            // Where its program was found is the manager's.
            have.name == given.name
                && have.args == given.args
                && env
                && have.command.ends_with(&given.command)
        })
    }

    fn has_remote_server(&self, given: &McpRemoteServerOpts) -> bool {
        self.remote_servers.iter().any(|have| {
            let headers = have.headers.iter().map(|(name, value)| (name, value)).eq(&given.headers);
            (&have.name, have.transport, &have.url) == (&given.name, given.transport, &given.url) && headers
        })
    }

    /// Names of the options in `given` that this spec was not made with. An option that is not given agrees
    /// with everything: whoever asks for "the session of this directory" need not repeat how it was started.
    pub fn differs_from(&self, given: &SessionOpts) -> Vec<&'static str> {
        fn differs<T: PartialEq>(given: &Option<T>, have: &T) -> bool {
            given.as_ref().is_some_and(|given| given != have)
        }
        let differing = [
            ("title", given.title.is_some() && given.title != self.title),
            ("agent", differs(&given.agent, &self.agent_name)),
            ("model", given.model.is_some() && given.model != self.model),
            ("workdir", differs(&given.workdir, &self.workdir)),
            ("env", given.env.iter().any(|(name, value)| self.env.get(name) != Some(value))),
            ("restart", differs(&given.restart, &self.restart.kind)),
            ("intensity", differs(&given.intensity, &self.restart.intensity)),
            ("period_ms", differs(&given.period_ms, &self.restart.period_ms)),
            ("on_crash", differs(&given.on_crash, &self.on_crash)),
            ("hibernate_after_ms", differs(&given.hibernate_after_ms, &self.hibernate_after_ms)),
            ("grace_ms", differs(&given.grace_ms, &self.grace_ms)),
            ("turn_timeout_ms", differs(&given.turn_timeout_ms, &self.turn_timeout_ms)),
            ("nice", given.nice.is_some() && given.nice != self.limits.nice),
            ("nofile", given.nofile.is_some() && given.nofile != self.limits.nofile),
            ("memory_bytes", given.memory_bytes.is_some() && given.memory_bytes != self.limits.memory_bytes),
            ("pids", given.pids.is_some() && given.pids != self.limits.pids),
            ("milli_cpus", given.milli_cpus.is_some() && given.milli_cpus != self.limits.milli_cpus),
            ("permissions", differs(&given.permissions, &self.permissions.policy)),
            ("mcp_servers", given.mcp_servers.iter().any(|server| !self.has_mcp_server(server))),
            (
                "mcp_remote_servers",
                given.mcp_remote_servers.iter().any(|server| !self.has_remote_server(server)),
            ),
            ("permission_timeout_ms", differs(&given.permission_timeout_ms, &self.permissions.timeout_ms)),
        ];
        differing.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
    }
}

/// The answers of a session above, which bind the sessions below it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Above {
    /// Its permissions.
    pub permissions: Permissions,
    /// Its working directory, to which paths in its rules are relative.
    pub workdir: String,
}
