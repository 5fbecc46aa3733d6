//! The agent of a session: how its program is started and which MCP servers it is offered.

use serde::{Deserialize, Serialize};

use crate::bounds::ARGUMENT;

/// How prompts are run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "api", derive(utoipa::ToSchema))]
pub enum Agent {
    /// A prompt is a command line for `/bin/sh -c`.
    Shell,
    /// A program is started for each prompt.
    Command {
        /// The program's absolute path and its arguments.
        argv: Vec<String>,
        /// How it gets the prompt.
        prompt_via: PromptVia,
        /// Whether it is told the turns before. Decides the restore level.
        transcript: bool,
    },
    /// A program that lives between prompts and speaks the Agent Client Protocol on its standard input and output.
    Acp {
        /// The program's absolute path and its arguments.
        argv: Vec<String>,
        /// The log-in method (ACP: `authMethods[].id`) to be used before a session is opened.
        login: Option<String>,
        /// Offered to the agent.
        mcp_servers: Vec<McpServer>,
    },
}

impl Agent {
    /// The absolute path of the program that is run.
    pub fn program(&self) -> Option<&str> {
        match self {
            Agent::Shell => None,
            Agent::Command { argv, .. } | Agent::Acp { argv, .. } => argv.first().map(String::as_str),
        }
    }
}

impl Agent {
    /// How many bytes a prompt may have, where it becomes an argument.
    pub fn longest_prompt(&self) -> Option<usize> {
        match self {
            // Room for the space that keeps it from being an option.
            Agent::Shell | Agent::Command { prompt_via: PromptVia::Argument, .. } => Some(ARGUMENT - 1),
            Agent::Command { prompt_via: PromptVia::Stdin, .. } | Agent::Acp { .. } => None,
        }
    }
}

/// How a program that is started once a prompt gets the prompt's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "api", derive(utoipa::ToSchema))]
pub enum PromptVia {
    /// On standard input, which then ends.
    Stdin,
    /// As the last argument; standard input is empty. Bounded by the kernel at 128 KiB (execve(2)). A text that begins with
    /// `-` gets a space before it, so that it is no option, unless the last word of the command is `--`.
    Argument,
}

/// A program that offers tools over the Model Context Protocol on its standard input and output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "api", derive(utoipa::ToSchema))]
pub struct McpServer {
    /// What the agent calls it.
    pub name: String,
    /// The program's absolute path.
    pub command: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Added to its environment.
    pub env: Vec<(String, String)>,
}

/// A server of tools over the Model Context Protocol that is reached by HTTP.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteServer {
    /// What the agent calls it.
    pub name: String,
    /// How it is reached.
    pub transport: Transport,
    /// Where.
    pub url: String,
    /// Sent with each request.
    pub headers: Vec<(String, String)>,
}

impl std::fmt::Debug for RemoteServer {
    /// Without what may be a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteServer").field("name", &self.name).finish_non_exhaustive()
    }
}

/// How a server of tools is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "api", derive(utoipa::ToSchema))]
pub enum Transport {
    /// By streamable HTTP.
    #[default]
    Http,
    /// By HTTP and server-sent events, as before 2025.
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
