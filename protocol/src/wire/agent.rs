//! The agent of a session: how its program is started and which MCP servers it is offered.

use serde::{Deserialize, Serialize};

use crate::bounds::ARGUMENT;

/// Agent of a session, and the way in which it runs prompts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "api", derive(utoipa::ToSchema))]
pub enum Agent {
    /// A prompt is a command line for `/bin/sh -c`.
    Shell,
    /// kennel starts a program for each prompt.
    Command {
        /// The program's absolute path and its arguments.
        argv: Vec<String>,
        /// Way in which the program gets the prompt.
        prompt_via: PromptVia,
        /// The prompt contains the earlier turns. This decides the restore level.
        transcript: bool,
    },
    /// A program that lives between prompts and speaks the Agent Client Protocol on its standard input and output.
    Acp {
        /// The program's absolute path and its arguments.
        argv: Vec<String>,
        /// Log-in method (ACP: `authMethods[].id`) before the session is opened.
        login: Option<String>,
        /// MCP servers that are programs.
        mcp_servers: Vec<McpServer>,
    },
}

impl Agent {
    /// Returns the absolute path of the program.
    pub fn program(&self) -> Option<&str> {
        match self {
            Agent::Shell => None,
            Agent::Command { argv, .. } | Agent::Acp { argv, .. } => argv.first().map(String::as_str),
        }
    }
}

impl Agent {
    /// Returns the limit of a prompt in bytes, if the prompt becomes an argument.
    pub fn longest_prompt(&self) -> Option<usize> {
        match self {
            // Room for the space that keeps it from being an option.
            Agent::Shell | Agent::Command { prompt_via: PromptVia::Argument, .. } => Some(ARGUMENT - 1),
            Agent::Command { prompt_via: PromptVia::Stdin, .. } | Agent::Acp { .. } => None,
        }
    }
}

/// Way in which a program that runs one prompt gets its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "api", derive(utoipa::ToSchema))]
pub enum PromptVia {
    /// On standard input, which then ends.
    Stdin,
    /// As the last argument; standard input is empty. The kernel's limit is 128 KiB (execve(2)). If the text begins
    /// with `-`, kennel puts a space before it, so that it is not an option, unless the last word of the command is `--`.
    Argument,
}

/// An MCP server that is a program. It speaks the Model Context Protocol on its standard input and output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "api", derive(utoipa::ToSchema))]
pub struct McpServer {
    /// Name for the agent.
    pub name: String,
    /// The program's absolute path.
    pub command: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Environment variables, added to its environment.
    pub env: Vec<(String, String)>,
}

/// An MCP server that the agent reaches by HTTP.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteServer {
    /// Name for the agent.
    pub name: String,
    /// Transport by which the agent reaches it.
    pub transport: Transport,
    /// URL of the server.
    pub url: String,
    /// HTTP headers, sent with each request.
    pub headers: Vec<(String, String)>,
}

impl std::fmt::Debug for RemoteServer {
    /// Without what may be a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteServer").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Transport by which an agent reaches an MCP server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "api", derive(utoipa::ToSchema))]
pub enum Transport {
    /// Streamable HTTP.
    #[default]
    Http,
    /// HTTP with server-sent events, the form of before 2025.
    Sse,
}

impl Transport {
    /// Its name in ACP.
    pub fn name(self) -> &'static str {
        match self {
            Transport::Http => "http",
            Transport::Sse => "sse",
        }
    }
}
