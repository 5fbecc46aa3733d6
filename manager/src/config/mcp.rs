//! MCP servers that a session is given beside those of its agent's profile.

use std::ffi::OsString;

use protocol::api::{McpServerOpts, McpServersRequest, SessionOpts};
use protocol::wire::{Agent, McpServer, RemoteServer};

use super::agents::find_program;
use super::lookup::shown;
use crate::core::Spec;
use crate::error::Error;

/// The most MCP servers that a session may be given.
pub(crate) const MOST: usize = 50;
/// The largest size of all of a session's MCP servers together, in bytes: each start of the agent sends them.
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

/// Checks an MCP server that agents reach by HTTP. The error quotes neither its address nor a header.
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

/// Returns whether a session's options contain an MCP server of this name.
pub(super) fn names(opts: &SessionOpts, name: &str) -> bool {
    opts.mcp_servers.iter().any(|server| server.name == name)
        || opts.mcp_remote_servers.iter().any(|server| server.name == name)
}

/// Returns the session's MCP servers over HTTP. A server replaces a server of the profile with the same name.
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use protocol::api::McpRemoteServerOpts;
    use protocol::wire::Transport;

    use super::super::tests::*;
    use super::*;

    #[test]
    fn a_profile_names_servers_that_are_reached_by_http() {
        let dir = programs(&["codex-acp", "other"]);
        let path = dir.path().to_str().unwrap();
        let mut given = SessionOpts { env: [("PATH".to_owned(), path.to_owned())].into(), ..agent("codex") };
        let text = "[agents.codex.mcp.docs]\nurl = \"https://docs.example/mcp\"\nheaders = { Authorization = \"Bearer x\" }\n\
            [agents.codex.mcp.old]\nurl = \"http://127.0.0.1:1/sse\"\ntransport = \"sse\"\n\
            [agents.codex.mcp.local]\ncommand = [\"other\"]";
        let names =
            |spec: &Spec| spec.remote_servers.iter().map(|server| server.name.clone()).collect::<Vec<_>>();
        let spec = resolve(text, given.clone()).unwrap();
        assert_eq!(names(&spec), ["docs", "old"]);
        assert_eq!(
            (spec.remote_servers[0].transport, spec.remote_servers[1].transport),
            (Transport::Http, Transport::Sse)
        );
        assert_eq!(spec.remote_servers[0].headers, [("Authorization".to_owned(), "Bearer x".to_owned())]);
        // One that the session is given goes before the profile's.
        given.mcp_servers = vec![McpServerOpts {
            name: "docs".into(),
            command: "other".into(),
            args: vec![],
            env: Default::default(),
        }];
        assert_eq!(names(&resolve(text, given.clone()).unwrap()), ["old"]);
        for (wrong, word) in [
            ("url = \"file:///x\"", "http://"),
            ("url = \"https://a\"\ncommand = [\"other\"]", "reached by HTTP"),
            ("url = \"https://a\"\nenv = { A = \"b\" }", "headers"),
            ("url = \"https://a\"\nheaders = { \"a b\" = \"secret\" }", "header"),
            ("command = [\"other\"]\ntransport = \"sse\"", "reached by HTTP"),
            ("", "`url`"),
        ] {
            let text = format!("[agents.codex.mcp.docs]\n{wrong}");
            let error = super::super::file::parse(Path::new("/c.toml"), &text).unwrap_err();
            let said = error.to_string();
            assert!(
                error.code() == "invalid_config" && said.contains(word) && !said.contains("secret"),
                "{wrong}: {said}"
            );
        }
    }

    #[test]
    fn servers_that_are_reached_by_http_are_looked_at_before_anything_is_started() {
        let server = |name: &str, url: &str, header: (&str, &str)| McpRemoteServerOpts {
            name: name.into(),
            transport: Transport::Http,
            url: url.into(),
            headers: [(header.0.to_owned(), header.1.to_owned())].into(),
        };
        let good = server("web", "https://a.example/mcp", ("Authorization", "Bearer secret"));
        let add = |servers: &[McpRemoteServerOpts]| {
            let mut agent =
                Agent::Acp { argv: vec!["/bin/true".into()], login: None, mcp_servers: Vec::new() };
            let opts = SessionOpts { mcp_remote_servers: servers.to_vec(), ..SessionOpts::default() };
            super::remote(&mut agent, &opts)
        };
        assert_eq!(
            add(std::slice::from_ref(&good)).unwrap()[0].headers,
            [("Authorization".into(), "Bearer secret".into())]
        );
        for wrong in [
            vec![good.clone(), good.clone()],
            vec![server("", "https://a.example", ("a", "b"))],
            vec![server("a", "file:///secret", ("a", "b"))],
            vec![server("a", "https://", ("a", "b"))],
            vec![server("a", "https://secret\r\nX: y", ("a", "b"))],
            vec![server("a", "https://a.example", ("a b", "secret"))],
            vec![server("a", "https://a.example", ("a", "secret\r\nX: y"))],
            vec![server("a", "https://a.example", ("a", &"x".repeat(65_536)))],
        ] {
            let error = add(&wrong).unwrap_err();
            let codes = ["invalid_mcp_servers", "mcp_servers_refused"];
            assert!(codes.contains(&error.code()) && !error.to_string().contains("secret"), "{error}");
        }
        let mut shell = Agent::Shell;
        let opts = SessionOpts { mcp_remote_servers: vec![good], ..SessionOpts::default() };
        assert_eq!(super::remote(&mut shell, &opts).unwrap_err().code(), "mcp_servers_refused");
    }
}
