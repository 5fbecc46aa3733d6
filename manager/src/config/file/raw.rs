//! The tables and keys of `config.toml`.

use std::collections::BTreeMap;

use protocol::api::{OnCrash, PermissionPolicy, RestartType};
use protocol::wire::{PromptVia, Transport};
use protocol::{Containment, Sandbox};
use serde::Deserialize;
use toml::Spanned;

use super::values::*;
use crate::core::options::*;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawFile {
    pub(super) defaults: DefaultKeys,
    pub(super) retention: RawRetention,
    pub(super) agents: BTreeMap<Spanned<String>, AgentKeys>,
    pub(super) daemon: RawDaemon,
    pub(super) listen: RawListen,
}

/// The keys of `[listen]`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawListen {
    pub(super) tcp: Addresses,
    pub(super) certificate: Option<Spanned<HomePath>>,
    pub(super) key: Option<Spanned<HomePath>>,
    pub(super) client_ca: Option<Spanned<HomePath>>,
    pub(super) names: Vec<HostName>,
    pub(super) connections: Option<Within<MostConnections>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawDaemon {
    pub(super) cgroup_root: Option<Within<Root>>,
    pub(super) connections: Option<Within<MostConnections>>,
    pub(super) head_timeout: Option<Within<HttpTimeout>>,
    pub(super) idle_timeout: Option<Within<HttpTimeout>>,
    pub(super) stall_timeout: Option<Within<HttpTimeout>>,
    pub(super) spare_workers: Option<Within<SpareWorkers>>,
}

/// The keys of `[defaults]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct DefaultKeys {
    pub(in crate::config) agent: Option<Spanned<String>>,
    pub(in crate::config) restart: Option<OneOf<RestartType>>,
    pub(in crate::config) intensity: Option<Within<Intensity>>,
    pub(in crate::config) period: Option<Within<Period>>,
    pub(in crate::config) on_crash: Option<OneOf<OnCrash>>,
    pub(in crate::config) hibernate_after: Option<Within<HibernateAfter>>,
    pub(in crate::config) grace: Option<Within<Grace>>,
    pub(in crate::config) worker_timeout: Option<Within<WorkerTimeout>>,
    pub(in crate::config) env_pass: Vec<EnvName>,
    pub(in crate::config) subagent_depth: Option<Within<SubagentDepth>>,
    pub(in crate::config) subagent_breadth: Option<Within<Subagents>>,
    pub(in crate::config) subagent_total: Option<Within<Subagents>>,
    pub(in crate::config) umask: Option<Within<Umask>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawRetention {
    pub(super) max_age: Option<Within<MaxAge>>,
    pub(super) max_size: Option<Within<MaxSize>>,
    pub(super) every: Option<Within<RetentionEvery>>,
}

/// The keys of `[agents.NAME]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct AgentKeys {
    pub(in crate::config) kind: Option<Spanned<OneOf<Kind>>>,
    pub(in crate::config) command: Option<Spanned<Vec<String>>>,
    #[serde(default)]
    pub(in crate::config) env: BTreeMap<EnvName, EnvValue>,
    #[serde(default)]
    pub(in crate::config) env_pass: Vec<EnvName>,
    pub(in crate::config) prompt_via: Option<Spanned<OneOf<PromptVia>>>,
    pub(in crate::config) context: Option<Spanned<OneOf<Context>>>,
    pub(in crate::config) on_crash: Option<OneOf<OnCrash>>,
    pub(in crate::config) model: Option<Model>,
    pub(in crate::config) login: Option<Spanned<String>>,
    pub(in crate::config) login_command: Option<Spanned<Vec<String>>>,
    pub(in crate::config) permissions: Option<OneOf<PermissionPolicy>>,
    pub(in crate::config) permission_timeout: Option<Within<PermissionTimeout>>,
    pub(in crate::config) start_timeout: Option<Within<StartTimeout>>,
    pub(in crate::config) turn_timeout: Option<Within<TurnTimeout>>,
    pub(in crate::config) stall_timeout: Option<Within<StallTimeout>>,
    pub(in crate::config) worker_timeout: Option<Within<WorkerTimeout>>,
    pub(in crate::config) nice: Option<Within<Nice>>,
    pub(in crate::config) nofile: Option<Within<Nofile>>,
    pub(in crate::config) umask: Option<Within<Umask>>,
    pub(in crate::config) memory: Option<Within<Memory>>,
    pub(in crate::config) pids: Option<Within<Pids>>,
    pub(in crate::config) cpus: Option<Within<Cpus>>,
    #[serde(default)]
    pub(in crate::config) rules: Vec<RawRule>,
    #[serde(default)]
    pub(in crate::config) mcp: BTreeMap<Spanned<String>, RawMcp>,
    pub(in crate::config) subagents: Option<Spanned<bool>>,
    pub(in crate::config) containment: Option<OneOf<Containment>>,
    pub(in crate::config) sandbox: Option<OneOf<Sandbox>>,
    pub(in crate::config) sandbox_hide: Option<Spanned<Vec<HomePath>>>,
    pub(in crate::config) sandbox_write: Option<Spanned<Vec<HomePath>>>,
    pub(in crate::config) sandbox_read: Option<Spanned<Vec<HomePath>>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawRule {
    pub(in crate::config) kind: Option<OneOf<ToolKind>>,
    pub(in crate::config) path: Option<String>,
    pub(in crate::config) then: OneOf<PermissionPolicy>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawMcp {
    pub(in crate::config) command: Option<Spanned<Vec<String>>>,
    #[serde(default)]
    pub(in crate::config) env: BTreeMap<EnvName, EnvValue>,
    pub(in crate::config) url: Option<Spanned<String>>,
    pub(in crate::config) transport: Option<OneOf<Transport>>,
    #[serde(default)]
    pub(in crate::config) headers: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Kind {
    Shell,
    Command,
    Acp,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Context {
    None,
    Transcript,
}

/// The kinds of tools of the Agent Client Protocol (`ToolKind` in its schema).
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum ToolKind {
    Read,
    Edit,
    Delete,
    Move,
    Search,
    Execute,
    Think,
    Fetch,
    SwitchMode,
    Other,
}

impl ToolKind {
    /// The kind as agents name it.
    pub(in crate::config) fn name(self) -> &'static str {
        match self {
            ToolKind::Read => "read",
            ToolKind::Edit => "edit",
            ToolKind::Delete => "delete",
            ToolKind::Move => "move",
            ToolKind::Search => "search",
            ToolKind::Execute => "execute",
            ToolKind::Think => "think",
            ToolKind::Fetch => "fetch",
            ToolKind::SwitchMode => "switch_mode",
            ToolKind::Other => "other",
        }
    }
}
