//! `[agents.NAME]`, read and checked.

use std::collections::BTreeMap;

use protocol::wire::{PromptVia, RemoteServer};

use super::file::raw::AgentKeys;

/// An agent: a table `[agents.NAME]`, or a built-in one.
#[derive(Clone, Debug, Default)]
pub(super) struct Profile {
    pub(super) runs: Runs,
    pub(super) env: BTreeMap<String, String>,
    pub(super) env_pass: Vec<String>,
    /// Command of a log-in, its program not yet found; empty if there is none.
    pub(super) login_command: Vec<String>,
    /// Those of `env_pass` that are written.
    pub(super) env_named: Vec<String>,
    /// The keys as they are written, without those from which the fields above were made.
    pub(super) keys: AgentKeys,
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
