//! MCP servers that a session is given beside those of its agent's profile.

use std::ffi::OsString;

use protocol::api::McpServerOpts;
use protocol::wire::{Agent, McpServer};

use super::{find_program, shown};
use crate::error::Error;

/// How many a session may be given.
const MOST: usize = 50;
/// How much they may say together, in bytes: each start of the agent sends it.
const BYTES: usize = 64 * 1024;
const NAME_CHARS: usize = 100;

fn wrong(what: impl Into<String>) -> Error {
    // Neither arguments nor environment are ever quoted: there may be secrets in them.
    Error::invalid_with(
        "invalid_mcp_servers",
        what.into(),
        "leave it out, or correct it; nothing was started",
    )
}

/// Adds them; one of the same name as one of the profile's takes its place.
pub(super) fn add(agent: &mut Agent, given: &[McpServerOpts], path: Option<OsString>) -> Result<(), Error> {
    if given.is_empty() {
        return Ok(());
    }
    let Agent::Acp { mcp_servers, .. } = agent else {
        return Err(wrong("this agent takes no MCP servers"));
    };
    let texts = |server: &McpServerOpts| {
        let env = server.env.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        server.name.len() + server.command.len() + server.args.iter().map(String::len).sum::<usize>() + env
    };
    if given.len() > MOST || given.iter().map(texts).sum::<usize>() > BYTES {
        return Err(wrong(format!("a session takes at most {MOST} MCP servers, of {BYTES} bytes together")));
    }
    for (index, server) in given.iter().enumerate() {
        let name = shown(&server.name, NAME_CHARS);
        let plain = !server.name.chars().any(char::is_control);
        if server.name.is_empty() || server.name.chars().count() > NAME_CHARS || !plain {
            return Err(wrong(format!(
                "an MCP server's name has 1 to {NAME_CHARS} characters, none of them control characters"
            )));
        }
        if given[..index].iter().any(|other| other.name == server.name) {
            return Err(wrong(format!("there are two MCP servers `{name}`")));
        }
        if server
            .args
            .iter()
            .chain(server.env.keys())
            .chain(server.env.values())
            .any(|text| text.contains('\0'))
            || server.env.keys().any(|name| name.is_empty() || name.contains('='))
        {
            return Err(wrong(format!(
                "an argument or a variable of the MCP server `{name}` is not one that a program can be given"
            )));
        }
        let Some(command) = find_program(&server.command, path.clone()) else {
            let command = shown(&server.command, 200);
            return Err(wrong(format!("there is no program `{command}` for the MCP server `{name}`")));
        };
        let env = server.env.clone().into_iter().collect();
        let server = McpServer { name: server.name.clone(), command, args: server.args.clone(), env };
        mcp_servers.retain(|other| other.name != server.name);
        mcp_servers.push(server);
    }
    Ok(())
}
