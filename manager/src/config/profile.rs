//! `[defaults]` and `[agents.NAME]`, read and checked.

use std::collections::BTreeMap;

use protocol::api::{OnCrash, PermissionPolicy, RestartType};
use protocol::wire::{PromptVia, RemoteServer};
use protocol::{Containment, Limits, Sandbox};

use crate::core::PermissionRule;

#[derive(Clone, Debug, Default)]
pub(super) struct Defaults {
    pub(super) agent: Option<String>,
    pub(super) restart: Option<RestartType>,
    pub(super) intensity: Option<u32>,
    pub(super) period_ms: Option<u64>,
    pub(super) on_crash: Option<OnCrash>,
    pub(super) hibernate_after_ms: Option<u64>,
    pub(super) grace_ms: Option<u64>,
    pub(super) worker_timeout_ms: Option<u64>,
    pub(super) env_pass: Vec<String>,
    pub(super) subagent_depth: Option<u32>,
    pub(super) subagent_breadth: Option<u32>,
    pub(super) subagent_total: Option<u32>,
    pub(super) umask: Option<u32>,
}

/// An agent: a table `[agents.NAME]`, or a built-in one.
#[derive(Clone, Debug, Default)]
pub(super) struct Profile {
    pub(super) runs: Runs,
    pub(super) env: BTreeMap<String, String>,
    pub(super) env_pass: Vec<String>,
    /// Those of `env_pass` that are written.
    pub(super) env_named: Vec<String>,
    pub(super) on_crash: Option<OnCrash>,
    pub(super) model: Option<String>,
    pub(super) permissions: Option<PermissionPolicy>,
    pub(super) permission_timeout_ms: Option<u64>,
    pub(super) start_timeout_ms: Option<u64>,
    pub(super) turn_timeout_ms: Option<u64>,
    pub(super) stall_timeout_ms: Option<u64>,
    pub(super) worker_timeout_ms: Option<u64>,
    pub(super) limits: Limits,
    pub(super) umask: Option<u32>,
    pub(super) rules: Vec<PermissionRule>,
    pub(super) subagents: Option<bool>,
    pub(super) containment: Option<Containment>,
    pub(super) sandbox: Option<Sandbox>,
    pub(super) sandbox_hide: Vec<String>,
    pub(super) sandbox_write: Vec<String>,
    pub(super) sandbox_read: Vec<String>,
}

/// An MCP server as it is written.
#[derive(Clone, Debug)]
pub(super) enum Mcp {
    Program { name: String, argv: Vec<String>, env: BTreeMap<String, String> },
    Remote(RemoteServer),
}

/// The program that an agent runs.
#[derive(Clone, Debug, Default)]
pub(super) enum Runs {
    #[default]
    Shell,
    Command {
        /// As it is written: the program not yet found, the model not yet filled in.
        argv: Vec<String>,
        /// The line of the command in the configuration.
        line: usize,
        prompt_via: PromptVia,
        transcript: bool,
    },
    Acp {
        /// As it is written.
        argv: Vec<String>,
        /// The line of the command in the configuration; 0 for a built-in agent.
        line: usize,
        login: Option<String>,
        mcp: Vec<Mcp>,
    },
}

impl Runs {
    /// The program, as it is written.
    pub(super) fn program(&self) -> Option<&String> {
        match self {
            Runs::Shell => None,
            Runs::Command { argv, .. } | Runs::Acp { argv, .. } => argv.first(),
        }
    }
}

impl Profile {
    /// MCP servers that its agent reaches by itself.
    pub(super) fn remote_servers(&self) -> impl Iterator<Item = RemoteServer> {
        let all: &[Mcp] = match &self.runs {
            Runs::Acp { mcp, .. } => mcp,
            Runs::Shell | Runs::Command { .. } => &[],
        };
        all.iter().filter_map(|server| match server {
            Mcp::Remote(server) => Some(server.clone()),
            Mcp::Program { .. } => None,
        })
    }
}
