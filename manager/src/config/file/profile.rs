//! An agent of `config.toml`, checked as a whole.

use std::collections::BTreeMap;
use std::ops::Range;

use protocol::wire::{PromptVia, RemoteServer};
use toml::Spanned;

use super::super::agents::SHELL;
use super::super::built_in::BuiltIn;
use super::super::lookup::shown;
use super::super::profile::{Mcp, Profile, Runs};
use super::super::{bounds, built_in, mcp};
use super::line_of;
use super::raw::{AgentKeys, Context, Kind, RawMcp};
use super::values::OneOf;

impl RawMcp {
    /// Of an agent that is written at this byte: the server, or what is wrong with it, and where.
    fn checked(self, name: Spanned<String>, at: usize) -> Result<Mcp, Complaint> {
        let name = name.into_inner();
        match (self.command, self.url) {
            (Some(command), None) if self.headers.is_empty() && self.transport.is_none() => {
                let at = command.span().start;
                let argv = command.into_inner();
                bounds::argv(&argv).map_err(|what| (at, what))?;
                let env: BTreeMap<_, _> =
                    self.env.into_iter().map(|(name, value)| (name.0, value.0)).collect();
                bounds::env(&env).map_err(|what| (at, what))?;
                Ok(Mcp::Program { name, argv, env })
            }
            (None, Some(url)) if self.env.is_empty() => {
                let at = url.span().start;
                let transport = OneOf::value(&self.transport).unwrap_or_default();
                let headers = self.headers.into_iter().collect();
                let server = RemoteServer { name, transport, url: url.into_inner(), headers };
                mcp::check(&server).map_err(|what| (at, what))?;
                Ok(Mcp::Remote(server))
            }
            (Some(command), _) => {
                let what = "an MCP server that is a program has `command` and `env`; `url`, `transport` and `headers` are \
                            for one that is reached by HTTP";
                Err((command.span().start, what.to_owned()))
            }
            (None, Some(url)) => {
                let what = "an MCP server that is reached by HTTP has no `env`; it has `headers`";
                Err((url.span().start, what.to_owned()))
            }
            (None, None) => {
                let what = format!("the MCP server `{}` needs a `command`, or a `url`", shown(&name, 80));
                Err((at, what))
            }
        }
    }
}

pub(super) fn profile(name: &str, at: usize, mut agent: AgentKeys, text: &str) -> Result<Profile, Complaint> {
    let known = match &agent.command {
        Some(command) => built_in::extended(name, command.get_ref().first().map(String::as_str)),
        None => built_in::named(name),
    };
    let (kind, kind_at) = match (&agent.kind, known) {
        (Some(kind), _) => (kind.get_ref().0, kind.span().start),
        (None, Some(_)) => (Kind::Acp, at),
        (None, None) if name == SHELL && agent.command.is_none() => (Kind::Shell, at),
        (None, None) => {
            let what = format!("agent `{name}` needs a `kind`: \"acp\", \"command\" or \"shell\"");
            return Err((at, what));
        }
    };
    if let (Some(subagents), Kind::Shell | Kind::Command) = (&agent.subagents, kind) {
        let what = "only agents of kind \"acp\" are offered sub-agents; remove `subagents`";
        return Err((subagents.span().start, what.into()));
    }
    exceptions(&agent)?;
    let (line_at, mcp) = (|at| line_of(text.as_bytes(), at), std::mem::take(&mut agent.mcp));
    let runs = match kind {
        Kind::Acp => acp(name, &mut agent, mcp, known, kind_at, line_at)?,
        Kind::Shell => shell(&agent, &mcp)?,
        Kind::Command => command(name, &mut agent, &mcp, kind_at, line_at)?,
    };
    let env: BTreeMap<_, _> =
        std::mem::take(&mut agent.env).into_iter().map(|(name, value)| (name.0, value.0)).collect();
    bounds::env(&env).map_err(|what| (at, what))?;
    let known = known.filter(|_| matches!(runs, Runs::Acp { .. }));
    let its_own = known.into_iter().flat_map(|known| known.env_pass).map(|name| (*name).to_owned());
    let login_command = match (agent.login_command.take(), known) {
        (Some(written), _) => {
            let at = written.span().start;
            bounds::argv(written.get_ref()).map_err(|what| (at, what))?;
            written.into_inner()
        }
        (None, Some(known)) => known.login_argv(),
        (None, None) => Vec::new(),
    };
    let env_named: Vec<String> = std::mem::take(&mut agent.env_pass).into_iter().map(|name| name.0).collect();
    Ok(Profile {
        runs,
        env,
        env_pass: env_named.iter().cloned().chain(its_own).collect(),
        login_command,
        env_named,
        keys: agent,
    })
}

/// Refuses exceptions of a sandbox where no sandbox is written: they would do nothing.
fn exceptions(agent: &AgentKeys) -> Result<(), Complaint> {
    let written = [
        ("sandbox_hide", agent.sandbox_hide.as_ref().map(Spanned::span)),
        ("sandbox_write", agent.sandbox_write.as_ref().map(Spanned::span)),
        ("sandbox_read", agent.sandbox_read.as_ref().map(Spanned::span)),
    ];
    if let (None, Some((key, span))) = (&agent.sandbox, first_written(written)) {
        let what = format!(
            "`{key}` does nothing without `sandbox`; write for example sandbox = \"workdir\" too, or remove `{key}`"
        );
        return Err((span.start, what));
    }
    Ok(())
}

/// A complaint: the byte that it is about, and what is wrong there.
type Complaint = (usize, String);

/// Checks a profile of kind "acp" and returns its command and MCP servers.
fn acp(
    name: &str,
    agent: &mut AgentKeys,
    servers: Servers,
    known: Option<&BuiltIn>,
    kind_at: usize,
    line_at: impl Fn(usize) -> usize,
) -> Result<Runs, Complaint> {
    let strangers = [
        ("prompt_via", agent.prompt_via.as_ref().map(Spanned::span)),
        ("context", agent.context.as_ref().map(Spanned::span)),
    ];
    if let Some((key, span)) = first_written(strangers) {
        return Err((span.start, format!("kind \"acp\" has no `{key}`; remove it")));
    }
    let (line, argv) = match (agent.command.take(), known) {
        (Some(command), known) => {
            let at = command.span().start;
            let argv = command.into_inner();
            bounds::argv(&argv).map_err(|what| (at, what))?;
            let argv = match known {
                Some(known) => known.completed(Some(argv)),
                None => argv,
            };
            (line_at(at), argv)
        }
        (None, Some(known)) => (line_at(kind_at), known.completed(None)),
        (None, None) => {
            let what = format!("agent `{name}` needs a `command`, for example command = [\"codex-acp\"]");
            return Err((kind_at, what));
        }
    };
    let mut mcp = Vec::new();
    for (name, server) in servers {
        let at = name.span().start;
        mcp.push(server.checked(name, at)?);
    }
    Ok(Runs::Acp { argv, line, login: agent.login.take().map(Spanned::into_inner), mcp })
}

/// MCP servers of a profile, as they are written.
type Servers = BTreeMap<Spanned<String>, RawMcp>;

/// Checks a profile of kind "shell", which has none of the keys of a program.
fn shell(agent: &AgentKeys, mcp: &Servers) -> Result<Runs, Complaint> {
    let strangers = [
        ("command", agent.command.as_ref().map(Spanned::span)),
        ("prompt_via", agent.prompt_via.as_ref().map(Spanned::span)),
        ("context", agent.context.as_ref().map(Spanned::span)),
        ("login", agent.login.as_ref().map(Spanned::span)),
        ("login_command", agent.login_command.as_ref().map(Spanned::span)),
        ("mcp", mcp.keys().next().map(Spanned::span)),
    ];
    match first_written(strangers) {
        Some((key @ ("login" | "mcp"), span)) => Err(for_acp(Kind::Shell, key, span)),
        Some((key, span)) => {
            let what = format!("kind \"shell\" has no `{key}`; remove it, or write kind = \"command\"");
            Err((span.start, what))
        }
        None => Ok(Runs::Shell),
    }
}

/// Checks a profile of kind "command" and returns its command.
fn command(
    name: &str,
    agent: &mut AgentKeys,
    mcp: &Servers,
    kind_at: usize,
    line_at: impl Fn(usize) -> usize,
) -> Result<Runs, Complaint> {
    let strangers =
        [("login", agent.login.as_ref().map(Spanned::span)), ("mcp", mcp.keys().next().map(Spanned::span))];
    if let Some((key, span)) = first_written(strangers) {
        return Err(for_acp(Kind::Command, key, span));
    }
    let Some(command) = agent.command.take() else {
        let what = format!("agent `{name}` needs a `command`, for example command = [\"claude\", \"-p\"]");
        return Err((kind_at, what));
    };
    let command_at = command.span().start;
    let argv = command.into_inner();
    bounds::argv(&argv).map_err(|what| (command_at, what))?;
    Ok(Runs::Command {
        line: line_at(command_at),
        argv,
        prompt_via: agent.prompt_via.take().map_or(PromptVia::Stdin, |via| via.into_inner().0),
        transcript: matches!(
            agent.context.take().map(|context| context.into_inner().0),
            Some(Context::Transcript)
        ),
    })
}

/// A complaint about a key that only agents of kind "acp" have.
fn for_acp(kind: Kind, key: &str, span: Range<usize>) -> Complaint {
    let kind = if matches!(kind, Kind::Shell) { "shell" } else { "command" };
    (
        span.start,
        format!(
            "kind \"{kind}\" has no `{key}`; remove it, or write kind = \"acp\" for an agent that speaks ACP"
        ),
    )
}

/// The first of these keys that the file has, and where.
fn first_written<const N: usize>(
    keys: [(&'static str, Option<Range<usize>>); N],
) -> Option<(&'static str, Range<usize>)> {
    keys.into_iter().find_map(|(key, span)| Some((key, span?)))
}
