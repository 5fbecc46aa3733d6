//! MCP servers that a client names for an agent.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::wire::Transport;

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
