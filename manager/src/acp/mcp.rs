//! The editor's own MCP servers, for the agents of its sessions.

use agent_client_protocol::v1::schema;
use protocol::api::{McpRemoteServerOpts, McpServerOpts};
use protocol::wire::Transport;

/// Servers of the editor, as a session is given them.
#[derive(Clone, Debug, Default)]
pub struct Servers {
    /// Programs.
    pub programs: Vec<McpServerOpts>,
    /// Those that are reached by HTTP.
    pub remote: Vec<McpRemoteServerOpts>,
    /// Names of the servers whose form kennel does not know.
    pub left: Vec<String>,
}

impl Servers {
    /// The names of those that a session can be given.
    pub fn names(&self) -> Vec<String> {
        let programs = self.programs.iter().map(|server| server.name.clone());
        programs.chain(self.remote.iter().map(|server| server.name.clone())).collect()
    }
}

impl Servers {
    /// Leaves the last one of this name out. Whether there was one.
    pub fn without(&mut self, name: &str) -> bool {
        if let Some(at) = self.remote.iter().rposition(|server| server.name == name) {
            self.remote.remove(at);
            return true;
        }
        let at = self.programs.iter().rposition(|server| server.name == name);
        at.map(|at| self.programs.remove(at)).is_some()
    }
}

/// As the editor names them.
pub fn servers(all: Vec<schema::McpServer>) -> Servers {
    let mut servers = Servers::default();
    let mut remote = |name, transport, url, headers: Vec<schema::HttpHeader>| {
        let headers = headers.into_iter().map(|header| (header.name, header.value)).collect();
        servers.remote.push(McpRemoteServerOpts { name, transport, url, headers });
    };
    for server in all {
        match server {
            schema::McpServer::Stdio(server) => servers.programs.push(McpServerOpts {
                name: server.name,
                command: server.command.to_string_lossy().into_owned(),
                args: server.args,
                env: server.env.into_iter().map(|variable| (variable.name, variable.value)).collect(),
            }),
            schema::McpServer::Http(server) => {
                remote(server.name, Transport::Http, server.url, server.headers);
            }
            schema::McpServer::Sse(server) => {
                remote(server.name, Transport::Sse, server.url, server.headers);
            }
            _ => servers.left.push("one of an unknown kind".to_owned()),
        }
    }
    servers
}

/// Why a server of an unknown kind is not passed on.
pub const UNKNOWN: &str = "kennel passes on programs and those that are reached by HTTP, no others";

/// Returns the user's note on servers that the agent gets with its next process.
pub fn next_process(names: &[String]) -> String {
    let names = shown(names);
    format!("the agent runs already; its next process is given these MCP servers of the editor: {names}")
}

fn shown(names: &[String]) -> String {
    names.iter().map(|name| name.escape_debug().to_string()).collect::<Vec<_>>().join(", ")
}

/// Returns the user's note on servers that kennel did not pass on, with the reason.
pub fn left_out(names: &[String], why: &str) -> String {
    format!("the agent is not given these MCP servers of the editor: {} ({why})", shown(names))
}
