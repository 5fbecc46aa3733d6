//! One agent of `config.toml`, checked as a whole.

use std::collections::BTreeMap;

use protocol::Limits;
use protocol::wire::{PromptVia, RemoteServer};
use toml::Spanned;

use super::super::{Mcp, Profile, Runs, bounds, built_in, mcp, shown};
use super::line_of;
use super::raw::{Context, Kind, RawAgent, RawMcp};
use super::values::Within;
use crate::core::PermissionRule;

impl RawMcp {
    /// Of an agent that is written at this byte: the server, or what is wrong with it, and where.
    fn checked(self, name: Spanned<String>, at: usize) -> Result<Mcp, (usize, String)> {
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
                let transport = self.transport.unwrap_or_default();
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

pub(super) fn profile(
    name: &str,
    at: usize,
    agent: RawAgent,
    text: &str,
) -> Result<Profile, (usize, String)> {
    let known = match &agent.command {
        Some(command) => built_in::extended(name, command.get_ref().first().map(String::as_str)),
        None => built_in::named(name),
    };
    let (kind, kind_at) = match (&agent.kind, known) {
        (Some(kind), _) => (*kind.get_ref(), kind.span().start),
        (None, Some(_)) => (Kind::Acp, at),
        (None, None) => {
            let what = format!("agent `{name}` needs a `kind`: \"acp\", \"command\" or \"shell\"");
            return Err((at, what));
        }
    };
    if let (Some(subagents), Kind::Shell | Kind::Command) = (&agent.subagents, kind) {
        let what = "only agents of kind \"acp\" are offered sub-agents; remove `subagents`";
        return Err((subagents.span().start, what.into()));
    }
    let runs = match kind {
        Kind::Acp => {
            for (key, span) in [
                ("prompt_via", agent.prompt_via.as_ref().map(|it| it.span())),
                ("context", agent.context.as_ref().map(|it| it.span())),
            ] {
                if let Some(span) = span {
                    return Err((span.start, format!("kind \"acp\" has no `{key}`; remove it")));
                }
            }
            let (line, argv) = match (agent.command, known) {
                (Some(command), known) => {
                    let at = command.span().start;
                    let argv = command.into_inner();
                    bounds::argv(&argv).map_err(|what| (at, what))?;
                    let argv = match known {
                        Some(known) => known.completed(Some(argv)),
                        None => argv,
                    };
                    (line_of(text.as_bytes(), at), argv)
                }
                (None, Some(known)) => (line_of(text.as_bytes(), kind_at), known.completed(None)),
                (None, None) => {
                    let what =
                        format!("agent `{name}` needs a `command`, for example command = [\"codex-acp\"]");
                    return Err((kind_at, what));
                }
            };
            let mut mcp = Vec::new();
            for (name, server) in agent.mcp {
                let at = name.span().start;
                mcp.push(server.checked(name, at)?);
            }
            Runs::Acp { argv, line, login: agent.login.map(Spanned::into_inner), mcp }
        }
        Kind::Shell => {
            let strangers = [
                ("command", agent.command.as_ref().map(|it| it.span())),
                ("prompt_via", agent.prompt_via.as_ref().map(|it| it.span())),
                ("context", agent.context.as_ref().map(|it| it.span())),
                ("login", agent.login.as_ref().map(|it| it.span())),
            ];
            for (key, span) in strangers {
                if let Some(span) = span {
                    let what =
                        format!("kind \"shell\" has no `{key}`; remove it, or write kind = \"command\"");
                    return Err((span.start, what));
                }
            }
            Runs::Shell
        }
        Kind::Command => {
            let Some(command) = agent.command else {
                let what =
                    format!("agent `{name}` needs a `command`, for example command = [\"claude\", \"-p\"]");
                return Err((kind_at, what));
            };
            let command_at = command.span().start;
            let command = command.into_inner();
            bounds::argv(&command).map_err(|what| (command_at, what))?;
            Runs::Command {
                line: line_of(text.as_bytes(), command_at),
                argv: command,
                prompt_via: agent.prompt_via.map_or(PromptVia::Stdin, Spanned::into_inner),
                transcript: match agent.context.map_or(Context::None, Spanned::into_inner) {
                    Context::None => false,
                    Context::Transcript => true,
                },
            }
        }
    };
    let env: BTreeMap<_, _> = agent.env.into_iter().map(|(name, value)| (name.0, value.0)).collect();
    bounds::env(&env).map_err(|what| (at, what))?;
    let known = known.filter(|_| matches!(runs, Runs::Acp { .. }));
    let its_own = known.into_iter().flat_map(|known| known.env_pass).map(|name| (*name).to_owned());
    let env_named: Vec<String> = agent.env_pass.into_iter().map(|name| name.0).collect();
    Ok(Profile {
        runs,
        env,
        env_pass: env_named.iter().cloned().chain(its_own).collect(),
        env_named,
        on_crash: agent.on_crash,
        model: agent.model.map(|model| model.0),
        permissions: agent.permissions,
        permission_timeout_ms: Within::value(agent.permission_timeout),
        start_timeout_ms: Within::value(agent.start_timeout),
        turn_timeout_ms: Within::value(agent.turn_timeout),
        stall_timeout_ms: Within::value(agent.stall_timeout),
        worker_timeout_ms: Within::value(agent.worker_timeout),
        limits: Limits {
            nice: Within::value(agent.nice),
            nofile: Within::value(agent.nofile),
            memory_bytes: Within::value(agent.memory),
            pids: Within::value(agent.pids),
            milli_cpus: Within::value(agent.cpus),
        },
        umask: Within::value(agent.umask),
        rules: agent
            .rules
            .into_iter()
            .map(|rule| PermissionRule { kind: rule.kind, path: rule.path, then: rule.then })
            .collect(),
        subagents: agent.subagents.map(Spanned::into_inner),
        containment: agent.containment,
        sandbox: agent.sandbox,
        sandbox_hide: agent.sandbox_hide.into_iter().map(|path| path.0).collect(),
        sandbox_write: agent.sandbox_write.into_iter().map(|path| path.0).collect(),
        sandbox_read: agent.sandbox_read.into_iter().map(|path| path.0).collect(),
    })
}
