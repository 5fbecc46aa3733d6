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
    pub(super) defaults: RawDefaults,
    pub(super) retention: RawRetention,
    pub(super) agents: BTreeMap<Spanned<String>, RawAgent>,
    pub(super) daemon: RawDaemon,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawDaemon {
    pub(super) cgroup_root: Option<Within<Root>>,
    pub(super) connections: Option<Within<MostConnections>>,
    pub(super) head_timeout: Option<Within<HttpTimeout>>,
    pub(super) idle_timeout: Option<Within<HttpTimeout>>,
    pub(super) stall_timeout: Option<Within<HttpTimeout>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawDefaults {
    pub(super) agent: Option<Spanned<String>>,
    pub(super) restart: Option<RestartType>,
    pub(super) intensity: Option<Within<Intensity>>,
    pub(super) period: Option<Within<Period>>,
    pub(super) on_crash: Option<OnCrash>,
    pub(super) hibernate_after: Option<Within<HibernateAfter>>,
    pub(super) grace: Option<Within<Grace>>,
    pub(super) worker_timeout: Option<Within<WorkerTimeout>>,
    pub(super) env_pass: Vec<EnvName>,
    pub(super) subagent_depth: Option<Within<SubagentDepth>>,
    pub(super) subagent_breadth: Option<Within<Subagents>>,
    pub(super) subagent_total: Option<Within<Subagents>>,
    pub(super) umask: Option<Within<Umask>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawRetention {
    pub(super) max_age: Option<Within<MaxAge>>,
    pub(super) max_size: Option<Within<MaxSize>>,
    pub(super) every: Option<Within<RetentionEvery>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAgent {
    pub(super) kind: Option<Spanned<Kind>>,
    pub(super) command: Option<Spanned<Vec<String>>>,
    #[serde(default)]
    pub(super) env: BTreeMap<EnvName, EnvValue>,
    #[serde(default)]
    pub(super) env_pass: Vec<EnvName>,
    pub(super) prompt_via: Option<Spanned<PromptVia>>,
    pub(super) context: Option<Spanned<Context>>,
    pub(super) on_crash: Option<OnCrash>,
    pub(super) model: Option<Model>,
    pub(super) login: Option<Spanned<String>>,
    pub(super) permissions: Option<PermissionPolicy>,
    pub(super) permission_timeout: Option<Within<PermissionTimeout>>,
    pub(super) start_timeout: Option<Within<StartTimeout>>,
    pub(super) turn_timeout: Option<Within<TurnTimeout>>,
    pub(super) stall_timeout: Option<Within<StallTimeout>>,
    pub(super) worker_timeout: Option<Within<WorkerTimeout>>,
    pub(super) nice: Option<Within<Nice>>,
    pub(super) nofile: Option<Within<Nofile>>,
    pub(super) umask: Option<Within<Umask>>,
    pub(super) memory: Option<Within<Memory>>,
    pub(super) pids: Option<Within<Pids>>,
    pub(super) cpus: Option<Within<Cpus>>,
    #[serde(default)]
    pub(super) rules: Vec<RawRule>,
    #[serde(default)]
    pub(super) mcp: BTreeMap<Spanned<String>, RawMcp>,
    pub(super) subagents: Option<Spanned<bool>>,
    pub(super) containment: Option<Containment>,
    pub(super) sandbox: Option<Sandbox>,
    #[serde(default)]
    pub(super) sandbox_hide: Vec<HomePath>,
    #[serde(default)]
    pub(super) sandbox_write: Vec<HomePath>,
    #[serde(default)]
    pub(super) sandbox_read: Vec<HomePath>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRule {
    pub(super) kind: Option<String>,
    pub(super) path: Option<String>,
    pub(super) then: PermissionPolicy,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawMcp {
    pub(super) command: Option<Spanned<Vec<String>>>,
    #[serde(default)]
    pub(super) env: BTreeMap<EnvName, EnvValue>,
    pub(super) url: Option<Spanned<String>>,
    pub(super) transport: Option<Transport>,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    Shell,
    Command,
    Acp,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Context {
    None,
    Transcript,
}
