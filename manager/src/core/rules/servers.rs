//! MCP servers that are added to a session after its creation.

use std::sync::Arc;

use protocol::wire::{Agent, McpServer, RemoteServer};

use crate::core::input::Reply;
use crate::core::model::session::Session;

impl Session {
    /// Adds MCP servers to those of the agent, and replaces those of the same name. A running agent keeps what it has: its
    /// next process gets these.
    pub(in crate::core) fn add_servers(&mut self, programs: &[McpServer], remote: &[RemoteServer]) -> Reply {
        let mut spec = self.spec.as_ref().clone();
        let mut changed = Vec::new();
        if let Agent::Acp { mcp_servers, .. } = &mut spec.agent {
            for server in programs.iter().filter(|server| !self.has_program(server)) {
                mcp_servers.retain(|have| have.name != server.name);
                spec.remote_servers.retain(|have| have.name != server.name);
                mcp_servers.push(server.clone());
                changed.push(server.name.clone());
            }
            for server in remote.iter().filter(|server| !self.spec.remote_servers.contains(server)) {
                mcp_servers.retain(|have| have.name != server.name);
                spec.remote_servers.retain(|have| have.name != server.name);
                spec.remote_servers.push(server.clone());
                changed.push(server.name.clone());
            }
        }
        let next_process = !changed.is_empty() && self.has_process();
        if !changed.is_empty() {
            self.spec = Arc::new(spec);
        }
        Reply::Servers { changed, next_process }
    }

    fn has_program(&self, server: &McpServer) -> bool {
        matches!(&self.spec.agent, Agent::Acp { mcp_servers, .. } if mcp_servers.contains(server))
    }
}
