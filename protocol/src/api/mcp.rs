//! MCP servers that a client names for an agent.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::wire::Transport;

/// An MCP server for the agent: a program that speaks the Model Context Protocol on its standard input and output.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct McpServerOpts {
    /// Name for the agent, 1 to 100 characters. It replaces a server of the same name in the profile.
    pub name: String,
    /// The program: its absolute path, or its name on PATH.
    pub command: String,
    /// Arguments of the server's program. kennel never shows them.
    #[serde(default)]
    pub args: Vec<String>,
    /// Environment variables, added to its environment. Never shown.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
}

impl std::fmt::Debug for McpServerOpts {
    /// Without what may be a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("McpServerOpts").field("name", &self.name).finish_non_exhaustive()
    }
}

/// An MCP server that the agent reaches by HTTP.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct McpRemoteServerOpts {
    /// Name for the agent, 1 to 100 characters. It replaces a server of the same name in the profile.
    pub name: String,
    /// Transport by which the agent reaches it.
    #[serde(default)]
    pub transport: Transport,
    /// URL: `http://` or `https://`. Never shown.
    pub url: String,
    /// HTTP headers, sent with each request. Never shown.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
}

impl std::fmt::Debug for McpRemoteServerOpts {
    /// Without what may be a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("McpRemoteServerOpts").field("name", &self.name).finish_non_exhaustive()
    }
}

/// MCP servers for the agent of an existing session.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct McpServersRequest {
    /// Servers that are programs.
    pub mcp_servers: Vec<McpServerOpts>,
    /// Servers that the agent reaches by HTTP.
    pub mcp_remote_servers: Vec<McpRemoteServerOpts>,
}

/// Result of naming MCP servers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct McpServersReply {
    /// Names of the servers that are new or different.
    pub changed: Vec<String>,
    /// The running agent process does not have these servers; the next process gets them.
    pub next_process: bool,
}
