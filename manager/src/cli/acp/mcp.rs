//! The editor's own MCP servers, for the agents of its sessions.

use agent_client_protocol::v1::schema;
use protocol::api::McpServerOpts;

/// Those that a session can be given, and the names of the others.
pub fn servers(all: Vec<schema::McpServer>) -> (Vec<McpServerOpts>, Vec<String>) {
    let (mut given, mut left) = (Vec::new(), Vec::new());
    for server in all {
        match server {
            schema::McpServer::Stdio(server) => given.push(McpServerOpts {
                name: server.name,
                command: server.command.to_string_lossy().into_owned(),
                args: server.args,
                env: server.env.into_iter().map(|variable| (variable.name, variable.value)).collect(),
            }),
            schema::McpServer::Http(server) => left.push(server.name),
            schema::McpServer::Sse(server) => left.push(server.name),
            _ => left.push("one of an unknown kind".to_owned()),
        }
    }
    (given, left)
}

/// What the user is told of those that were not passed on.
pub fn left_out(names: &[String], why: &str) -> String {
    let names: Vec<String> = names.iter().map(|name| name.escape_debug().to_string()).collect();
    format!("the agent is not given these MCP servers of the editor: {} ({why})", names.join(", "))
}
