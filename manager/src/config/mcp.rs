//! MCP servers that a session is given beside those of its agent's profile.

use std::ffi::OsString;

use protocol::api::{McpServerOpts, McpServersRequest, SessionOpts};
use protocol::wire::{Agent, McpServer, RemoteServer};

use super::{find_program, shown};
use crate::core::Spec;
use crate::error::Error;

/// How many a session may be given.
pub(crate) const MOST: usize = 50;
/// How much they may say together, in bytes: each start of the agent sends it.
const BYTES: usize = 64 * 1024;
pub(crate) const NAME_CHARS: usize = 100;

fn wrong(what: impl Into<String>) -> Error {
    // Neither arguments nor environment are ever quoted: there may be secrets in them.
    Error::invalid_with(
        "invalid_mcp_servers",
        what.into(),
        "leave it out, or correct it; nothing was started",
    )
}

/// Nothing is wrong with it by itself, and it cannot be had here.
fn refused(what: impl Into<String>) -> Error {
    let hint = "leave it out, or correct it; nothing was started";
    Error::invalid_with("mcp_servers_refused", what.into(), hint)
}

/// The name as it may be shown.
fn named(name: &str) -> Result<String, Error> {
    let plain = !name.chars().any(char::is_control);
    if name.is_empty() || name.chars().count() > NAME_CHARS || !plain {
        return Err(wrong(format!(
            "an MCP server's name has 1 to {NAME_CHARS} characters, none of them control characters"
        ))
        .about(name));
    }
    Ok(shown(name, NAME_CHARS))
}

/// What is wrong with one that is reached by HTTP. Neither its address nor a header is ever quoted.
pub(super) fn check(server: &RemoteServer) -> Result<(), String> {
    let name = shown(&server.name, NAME_CHARS);
    let place = server.url.strip_prefix("https://").or_else(|| server.url.strip_prefix("http://"));
    if place.is_none_or(str::is_empty) || !server.url.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!("the address of the MCP server `{name}` is no `http://` or `https://` one"));
    }
    // RFC 9110, section 5.
    let special = b"!#$%&'*+-.^_`|~";
    let token = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || special.contains(&byte))
    };
    let value = |text: &str| !text.chars().any(char::is_control);
    match server.headers.iter().all(|(name, text)| token(name) && value(text)) {
        true => Ok(()),
        false => Err(format!("a header of the MCP server `{name}` is not one")),
    }
}

/// Whether a session's options name a server so.
pub(super) fn names(opts: &SessionOpts, name: &str) -> bool {
    opts.mcp_servers.iter().any(|server| server.name == name)
        || opts.mcp_remote_servers.iter().any(|server| server.name == name)
}

/// Those that are reached by HTTP; one of the same name as one of the profile's takes its place.
pub(super) fn remote(agent: &mut Agent, opts: &SessionOpts) -> Result<Vec<RemoteServer>, Error> {
    let given = &opts.mcp_remote_servers;
    if given.is_empty() {
        return Ok(Vec::new());
    }
    let Agent::Acp { mcp_servers, .. } = agent else {
        return Err(refused("this agent takes no MCP servers"));
    };
    let mut all: Vec<RemoteServer> = Vec::new();
    let mut bytes = 0;
    for server in given {
        let name = named(&server.name)?;
        if all.iter().any(|other| other.name == server.name)
            || opts.mcp_servers.iter().any(|other| other.name == server.name)
        {
            return Err(refused(format!("there are two MCP servers `{name}`")).about(&server.name));
        }
        let headers: Vec<(String, String)> = server.headers.clone().into_iter().collect();
        let (named, transport, url) = (server.name.clone(), server.transport, server.url.clone());
        let server = RemoteServer { name: named, transport, url, headers };
        check(&server).map_err(|what| wrong(what).about(&server.name))?;
        bytes += server.name.len() + server.url.len();
        bytes += server.headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        all.push(server);
    }
    if opts.mcp_servers.len() + all.len() > MOST || bytes > BYTES {
        return Err(refused(format!(
            "a session takes at most {MOST} MCP servers, of {BYTES} bytes together"
        )));
    }
    mcp_servers.retain(|have| all.iter().all(|server| server.name != have.name));
    Ok(all)
}

/// Those that a session is to have beside the others, if there is room.
pub(super) fn added(
    spec: &Spec,
    request: McpServersRequest,
    path: Option<OsString>,
) -> Result<(Vec<McpServer>, Vec<RemoteServer>), Error> {
    let McpServersRequest { mcp_servers: programs, mcp_remote_servers } = request;
    let opts = SessionOpts { mcp_servers: programs, mcp_remote_servers, ..SessionOpts::default() };
    // Of the same kind, with none.
    let mut agent = spec.agent.clone();
    let mut others = 0;
    if let Agent::Acp { mcp_servers, .. } = &mut agent {
        others += mcp_servers.iter().filter(|have| !names(&opts, &have.name)).count();
        others += spec.remote_servers.iter().filter(|have| !names(&opts, &have.name)).count();
        mcp_servers.clear();
    }
    let remote = remote(&mut agent, &opts)?;
    add(&mut agent, &opts.mcp_servers, path)?;
    let Agent::Acp { mcp_servers: programs, .. } = agent else { return Ok(Default::default()) };
    if others + programs.len() + remote.len() > MOST {
        return Err(refused(format!("a session takes at most {MOST} MCP servers")));
    }
    Ok((programs, remote))
}

/// Adds them; one of the same name as one of the profile's takes its place.
pub(super) fn add(agent: &mut Agent, given: &[McpServerOpts], path: Option<OsString>) -> Result<(), Error> {
    if given.is_empty() {
        return Ok(());
    }
    let Agent::Acp { mcp_servers, .. } = agent else {
        return Err(refused("this agent takes no MCP servers"));
    };
    let texts = |server: &McpServerOpts| {
        let env = server.env.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        server.name.len() + server.command.len() + server.args.iter().map(String::len).sum::<usize>() + env
    };
    if given.len() > MOST || given.iter().map(texts).sum::<usize>() > BYTES {
        return Err(refused(format!(
            "a session takes at most {MOST} MCP servers, of {BYTES} bytes together"
        )));
    }
    for (index, server) in given.iter().enumerate() {
        let name = named(&server.name)?;
        if given[..index].iter().any(|other| other.name == server.name) {
            return Err(refused(format!("there are two MCP servers `{name}`")).about(&server.name));
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
            ))
            .about(&server.name));
        }
        let Some(command) = find_program(&server.command, path.clone()) else {
            let command = shown(&server.command, 200);
            let what = format!("there is no program `{command}` for the MCP server `{name}`");
            return Err(refused(what).about(&server.name));
        };
        let env = server.env.clone().into_iter().collect();
        let server = McpServer { name: server.name.clone(), command, args: server.args.clone(), env };
        mcp_servers.retain(|other| other.name != server.name);
        mcp_servers.push(server);
    }
    Ok(())
}
