//! `config.toml` as it is written: every key known, every value within its bounds, every complaint with its line.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::os::unix::fs::FileTypeExt;
use std::path::{Component, Path};
use std::time::Duration;

use protocol::api::{OnCrash, PermissionPolicy, RestartType};
use protocol::wire::{PromptVia, RemoteServer, Transport};
use protocol::{Containment, Limits, Sandbox, SessionId};
use serde::{Deserialize, Deserializer, de};
use toml::Spanned;

use super::{CgroupRoot, Config, Connections, Defaults, Mcp, Profile, Retention, Runs, bounds, shown};
use crate::core::PermissionRule;
use crate::error::Error;
use crate::system::owned;

/// The largest `config.toml`, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawFile {
    defaults: RawDefaults,
    retention: RawRetention,
    agents: BTreeMap<Spanned<String>, RawAgent>,
    daemon: RawDaemon,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawDaemon {
    #[serde(deserialize_with = "cgroup_root")]
    cgroup_root: CgroupRoot,
    #[serde(deserialize_with = "connections")]
    connections: Option<usize>,
    #[serde(deserialize_with = "http_timeout")]
    head_timeout: Option<u64>,
    #[serde(deserialize_with = "http_timeout")]
    idle_timeout: Option<u64>,
    #[serde(deserialize_with = "http_timeout")]
    stall_timeout: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawDefaults {
    agent: Option<Spanned<String>>,
    restart: Option<RestartType>,
    #[serde(deserialize_with = "intensity")]
    intensity: Option<u32>,
    #[serde(deserialize_with = "period")]
    period: Option<u64>,
    on_crash: Option<OnCrash>,
    #[serde(deserialize_with = "hibernate_after")]
    hibernate_after: Option<u64>,
    #[serde(deserialize_with = "grace")]
    grace: Option<u64>,
    #[serde(deserialize_with = "worker_timeout")]
    worker_timeout: Option<u64>,
    env_pass: Vec<EnvName>,
    #[serde(deserialize_with = "subagent_depth")]
    subagent_depth: Option<u32>,
    #[serde(deserialize_with = "subagents")]
    subagent_breadth: Option<u32>,
    #[serde(deserialize_with = "subagents")]
    subagent_total: Option<u32>,
    #[serde(deserialize_with = "umask")]
    umask: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawRetention {
    #[serde(deserialize_with = "max_age")]
    max_age: Option<u64>,
    #[serde(deserialize_with = "max_size")]
    max_size: Option<u64>,
    #[serde(deserialize_with = "retention_every")]
    every: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAgent {
    kind: Option<Spanned<Kind>>,
    command: Option<Spanned<Vec<String>>>,
    #[serde(default)]
    env: BTreeMap<EnvName, EnvValue>,
    #[serde(default)]
    env_pass: Vec<EnvName>,
    prompt_via: Option<Spanned<PromptVia>>,
    context: Option<Spanned<Context>>,
    on_crash: Option<OnCrash>,
    model: Option<Model>,
    login: Option<Spanned<String>>,
    permissions: Option<PermissionPolicy>,
    #[serde(default, deserialize_with = "permission_timeout")]
    permission_timeout: Option<u64>,
    #[serde(default, deserialize_with = "start_timeout")]
    start_timeout: Option<u64>,
    #[serde(default, deserialize_with = "turn_timeout")]
    turn_timeout: Option<u64>,
    #[serde(default, deserialize_with = "stall_timeout")]
    stall_timeout: Option<u64>,
    #[serde(default, deserialize_with = "worker_timeout")]
    worker_timeout: Option<u64>,
    #[serde(default, deserialize_with = "nice")]
    nice: Option<u32>,
    #[serde(default, deserialize_with = "nofile")]
    nofile: Option<u64>,
    #[serde(default, deserialize_with = "umask")]
    umask: Option<u32>,
    #[serde(default, deserialize_with = "memory")]
    memory: Option<u64>,
    #[serde(default, deserialize_with = "pids")]
    pids: Option<u32>,
    #[serde(default, deserialize_with = "cpus")]
    cpus: Option<u32>,
    #[serde(default)]
    rules: Vec<RawRule>,
    #[serde(default)]
    mcp: BTreeMap<Spanned<String>, RawMcp>,
    subagents: Option<Spanned<bool>>,
    containment: Option<Containment>,
    sandbox: Option<Sandbox>,
    #[serde(default)]
    sandbox_hide: Vec<HomePath>,
    #[serde(default)]
    sandbox_write: Vec<HomePath>,
    #[serde(default)]
    sandbox_read: Vec<HomePath>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    kind: Option<String>,
    path: Option<String>,
    then: PermissionPolicy,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMcp {
    command: Option<Spanned<Vec<String>>>,
    #[serde(default)]
    env: BTreeMap<EnvName, EnvValue>,
    url: Option<Spanned<String>>,
    transport: Option<Transport>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

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
                super::mcp::check(&server).map_err(|what| (at, what))?;
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

/// An absolute path, or one that begins with `~/`.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct HomePath(String);

impl TryFrom<String> for HomePath {
    type Error = String;

    fn try_from(path: String) -> Result<Self, String> {
        let leads_up = Path::new(&path).components().any(|part| part == Component::ParentDir);
        if path.contains('\0') || path.len() > 4096 || leads_up {
            return Err(format!("a path has at most 4096 bytes, no NUL and no `..`: {}", shown(&path, 100)));
        }
        match path.starts_with('/') || path.starts_with("~/") {
            true => Ok(Self(path)),
            false => Err(format!("a path is absolute or begins with `~/`: {}", shown(&path, 100))),
        }
    }
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Shell,
    Command,
    Acp,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Context {
    None,
    Transcript,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
struct EnvName(String);

impl TryFrom<String> for EnvName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        bounds::env_name(&name).map(|()| Self(name))
    }
}

#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct EnvValue(String);

impl TryFrom<String> for EnvValue {
    type Error = &'static str;

    fn try_from(value: String) -> Result<Self, Self::Error> {
        if value.contains('\0') { Err("a variable's value has no NUL in it") } else { Ok(Self(value)) }
    }
}

#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct Model(String);

impl TryFrom<String> for Model {
    type Error = String;

    fn try_from(model: String) -> Result<Self, String> {
        bounds::model(&model).map(|()| Self(model))
    }
}

/// Milliseconds, from a text that humantime reads, or from 0 or `"never"`.
struct Millis(u64);

impl<'de> Deserialize<'de> for Millis {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Millis;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration with its unit, like \"90s\", \"4h\" or \"2h 30m\"")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Millis, E> {
                match number {
                    0 => Ok(Millis(0)),
                    _ => Err(E::invalid_value(de::Unexpected::Signed(number), &self)),
                }
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Millis, E> {
                if text == "never" {
                    return Ok(Millis(0));
                }
                let duration = humantime::parse_duration(text)
                    .map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))?;
                u64::try_from(Duration::as_millis(&duration)).map(Millis).map_err(E::custom)
            }
        }
        from.deserialize_any(Visitor)
    }
}

fn bounded<'de, D: Deserializer<'de>>(
    from: D,
    check: fn(u64) -> Result<(), String>,
) -> Result<Option<u64>, D::Error> {
    let Millis(millis) = Millis::deserialize(from)?;
    check(millis).map_err(de::Error::custom)?;
    Ok(Some(millis))
}

fn period<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    bounded(from, bounds::period)
}

fn hibernate_after<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    bounded(from, bounds::hibernate_after)
}

fn grace<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    bounded(from, bounds::grace)
}

fn worker_timeout<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    bounded(from, bounds::worker_timeout)
}

fn permission_timeout<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    bounded(from, bounds::permission_timeout)
}

fn start_timeout<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    bounded(from, bounds::start_timeout)
}

fn turn_timeout<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    bounded(from, bounds::turn_timeout)
}

fn stall_timeout<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    bounded(from, bounds::stall_timeout)
}

fn nice<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
    let nice = u32::deserialize(from)?;
    bounds::nice(nice).map_err(de::Error::custom)?;
    Ok(Some(nice))
}

fn nofile<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    let nofile = u64::deserialize(from)?;
    bounds::nofile(nofile).map_err(de::Error::custom)?;
    Ok(Some(nofile))
}

fn umask<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
    bounds::umask(&String::deserialize(from)?).map(Some).map_err(de::Error::custom)
}

fn cgroup_root<'de, D: Deserializer<'de>>(from: D) -> Result<CgroupRoot, D::Error> {
    let root = String::deserialize(from)?;
    match root.as_str() {
        "auto" => Ok(CgroupRoot::Auto),
        "none" => Ok(CgroupRoot::None),
        _ if root.contains('\0') || !root.starts_with('/') || root.split('/').any(|part| part == "..") => {
            let shown = shown(&root, 100);
            Err(de::Error::custom(format!("`auto`, `none` or an absolute path without `..`, not {shown}")))
        }
        _ => Ok(CgroupRoot::At(root)),
    }
}

fn connections<'de, D: Deserializer<'de>>(from: D) -> Result<Option<usize>, D::Error> {
    let most = usize::deserialize(from)?;
    bounds::connections(most).map_err(de::Error::custom)?;
    Ok(Some(most))
}

fn http_timeout<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    bounded(from, bounds::http_timeout)
}

fn memory<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    let bytes = bounds::size(&String::deserialize(from)?).map_err(de::Error::custom)?;
    bounds::memory(bytes).map_err(de::Error::custom)?;
    Ok(Some(bytes))
}

fn pids<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
    let pids = u32::deserialize(from)?;
    bounds::pids(pids).map_err(de::Error::custom)?;
    Ok(Some(pids))
}

fn cpus<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
    bounds::cpus(f64::deserialize(from)?).map(Some).map_err(de::Error::custom)
}

fn max_age<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    Ok(bounded(from, bounds::max_age)?.filter(|millis| *millis > 0))
}

fn retention_every<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    bounded(from, bounds::retention_every)
}

fn max_size<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    let size = bounds::size(&String::deserialize(from)?).map_err(de::Error::custom)?;
    bounds::max_size(size).map_err(de::Error::custom)?;
    Ok(Some(size).filter(|size| *size > 0))
}

fn intensity<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
    let intensity = u32::deserialize(from)?;
    bounds::intensity(intensity).map_err(de::Error::custom)?;
    Ok(Some(intensity))
}

fn subagent_depth<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
    let depth = u32::deserialize(from)?;
    bounds::subagent_depth(depth).map_err(de::Error::custom)?;
    Ok(Some(depth))
}

fn subagents<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
    let number = u32::deserialize(from)?;
    bounds::subagents(number).map_err(de::Error::custom)?;
    Ok(Some(number))
}

/// Reads the file; none where there is none.
pub(super) fn read(path: &Path) -> Result<Option<String>, Error> {
    let failed = |why: String| {
        Error::invalid_with(
            "invalid_config",
            format!("cannot read {}: {why}", path.display()),
            "make it a readable text file, or move it away",
        )
    };
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error.to_string())),
    };
    // Opening one would wait for somebody to write into it.
    if metadata.file_type().is_fifo() {
        return Err(failed("it is a pipe".into()));
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| owned::believed(path, &file).map(|()| file))
        .and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes))
        .map_err(|error| failed(error.to_string()))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(failed(format!("it has more than {MAX_FILE} bytes")));
    }
    String::from_utf8(bytes).map(Some).map_err(|error| {
        let line = line_of(error.as_bytes(), error.utf8_error().valid_up_to());
        Error::invalid_with(
            "invalid_config",
            format!("{}:{line}: not UTF-8", path.display()),
            "save the file as UTF-8",
        )
    })
}

/// Understands the file's text.
pub(super) fn parse(path: &Path, text: &str) -> Result<Config, Error> {
    let complain = |at: Option<usize>, what: &str| {
        let line = at.map(|at| format!(":{}", line_of(text.as_bytes(), at))).unwrap_or_default();
        Error::invalid_with(
            "invalid_config",
            format!("{}{line}: {}", path.display(), shown(what, 500)),
            "correct that line; until then no session is created and nothing was changed",
        )
    };
    let raw: RawFile = toml::from_str(text)
        .map_err(|error| complain(error.span().map(|span| span.start), error.message()))?;
    let mut agents = BTreeMap::new();
    for (name, agent) in raw.agents {
        let at = name.span().start;
        let name = name.into_inner();
        // A name is shown, typed and journaled: what is good for a session's id is good for it.
        if name.parse::<SessionId>().is_err() {
            let what = "an agent's name has 1 to 64 of A-Z a-z 0-9 . _ - and begins with a letter or digit";
            return Err(complain(Some(at), what));
        }
        let profile = profile(&name, at, agent, text).map_err(|(at, what)| complain(Some(at), &what))?;
        agents.insert(name, profile);
    }
    let defaults = raw.defaults;
    if let Some(agent) = &defaults.agent
        && agent.get_ref() != super::SHELL
        && !agents.contains_key(agent.get_ref())
        && super::built_in::named(agent.get_ref()).is_none()
    {
        let what = format!("no agent `{}` is defined; write an [agents.NAME] for it", agent.get_ref());
        return Err(complain(Some(agent.span().start), &what));
    }
    let RawRetention { max_age: max_age_ms, max_size: max_bytes, every } = raw.retention;
    let every_ms = every.unwrap_or(Retention::default().every_ms);
    let RawDaemon { cgroup_root, connections, head_timeout, idle_timeout, stall_timeout } = raw.daemon;
    let usual = Connections::default();
    let connections = Connections {
        most: connections.unwrap_or(usual.most),
        head_ms: head_timeout.unwrap_or(usual.head_ms),
        idle_ms: idle_timeout.unwrap_or(usual.idle_ms),
        stall_ms: stall_timeout.unwrap_or(usual.stall_ms),
    };
    Ok(Config {
        path: path.to_owned(),
        agents,
        cgroup_root,
        connections,
        retention: Retention { max_age_ms, max_bytes, every_ms },
        defaults: Defaults {
            agent: defaults.agent.map(Spanned::into_inner),
            restart: defaults.restart,
            intensity: defaults.intensity,
            period_ms: defaults.period,
            on_crash: defaults.on_crash,
            hibernate_after_ms: defaults.hibernate_after,
            grace_ms: defaults.grace,
            worker_timeout_ms: defaults.worker_timeout,
            env_pass: defaults.env_pass.into_iter().map(|name| name.0).collect(),
            subagent_depth: defaults.subagent_depth,
            subagent_breadth: defaults.subagent_breadth,
            subagent_total: defaults.subagent_total,
            umask: defaults.umask,
        },
    })
}

fn profile(name: &str, at: usize, agent: RawAgent, text: &str) -> Result<Profile, (usize, String)> {
    let known = match &agent.command {
        Some(command) => super::built_in::extended(name, command.get_ref().first().map(String::as_str)),
        None => super::built_in::named(name),
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
        permission_timeout_ms: agent.permission_timeout,
        start_timeout_ms: agent.start_timeout,
        turn_timeout_ms: agent.turn_timeout,
        stall_timeout_ms: agent.stall_timeout,
        worker_timeout_ms: agent.worker_timeout,
        limits: Limits {
            nice: agent.nice,
            nofile: agent.nofile,
            memory_bytes: agent.memory,
            pids: agent.pids,
            milli_cpus: agent.cpus,
        },
        umask: agent.umask,
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

/// The line of the byte `at`, counted from 1.
fn line_of(text: &[u8], at: usize) -> usize {
    1 + text[..at.min(text.len())].iter().filter(|&&byte| byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(text: &str) -> String {
        match parse(Path::new("/c.toml"), text) {
            Err(error) => {
                assert_eq!(error.code(), "invalid_config", "{text}");
                assert!(error.hint().is_some());
                error.to_string()
            }
            Ok(config) => panic!("{text:?} was taken: {config:?}"),
        }
    }

    fn refused(text: &str, line: usize, words: &[&str]) {
        let said = complaint(text);
        assert!(said.starts_with(&format!("/c.toml:{line}: ")), "{text:?}\n{said}");
        for word in words {
            assert!(said.contains(word), "{text:?}\n{said}\nlacks {word:?}");
        }
        assert!(!said.contains(['\n', '\u{1b}']), "{said:?}");
    }

    #[test]
    fn a_file_that_does_not_exist_is_an_empty_one() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(&dir.path().join("config.toml")), Ok(None));
        assert_eq!(Config::load(&dir.path().join("config.toml")).unwrap().agents.len(), 0);
    }

    #[test]
    fn files_that_are_no_text_are_refused_and_nobody_waits_for_a_pipe() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        std::fs::write(&path, b"[defaults]\n# \xff\n").unwrap();
        let said = Config::load(&path).unwrap_err().to_string();
        assert!(said.ends_with("config.toml:2: not UTF-8"), "{said}");
        assert_eq!(Config::load(dir.path()).unwrap_err().code(), "invalid_config");
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(Config::load(&pipe).unwrap_err().to_string().contains("it is a pipe"));
        std::fs::write(&path, "#".repeat(MAX_FILE as usize + 1)).unwrap();
        assert!(Config::load(&path).unwrap_err().to_string().contains("more than"));
    }

    #[test]
    fn unknown_keys_are_refused_with_their_line() {
        refused("[defaults]\nagent = \"shell\"\nagents = 1\n", 3, &["agents", "hibernate_after"]);
        refused("\n[agent.x]\n", 2, &["`agent`", "`agents`"]);
        refused("[agents.x]\nkind = \"shell\"\ncomand = []\n", 3, &["comand", "`command`"]);
        refused("[agents.x]\nkind = \"shell\"\n\"\\u001b[31m\" = 1\n", 3, &["\\u{1b}"]);
    }

    #[test]
    fn what_is_no_toml_is_refused_with_its_line() {
        refused("[defaults]\nagent\n", 2, &[]);
        refused("[agents.x]\nkind = \"shell\"\n[agents.x]\nkind = \"shell\"\n", 3, &[]);
    }

    #[test]
    fn values_out_of_bounds_are_refused_with_their_line() {
        for (line, words) in [
            ("intensity = 1001", "1000"),
            ("intensity = -1", "-1"),
            ("period = \"0s\"", "1s"),
            ("period = \"25h\"", "24h"),
            ("hibernate_after = \"366d\"", "365 days"),
            ("hibernate_after = 4", "\"4h\""),
            ("hibernate_after = \"soon\"", "\"4h\""),
            ("grace = \"11min\"", "10m"),
            ("worker_timeout = \"0\"", "100ms"),
            ("umask = \"0888\"", "octal"),
            ("umask = 22", "string"),
            ("restart = \"always\"", "`permanent`"),
            ("on_crash = \"panic\"", "`interrupt`"),
            ("agent = \"nobody\"", "[agents.NAME]"),
            ("env_pass = [\"A-B\"]", "A-B"),
            ("subagent_depth = 17", "at most 16"),
            ("subagent_breadth = 1001", "at most 1000"),
            ("subagent_total = -1", "-1"),
            ("env_pass = [\"KENNEL_SESSION\"]", "KENNEL_SESSION"),
        ] {
            refused(&format!("\n[defaults]\n{line}\n"), 3, &[words]);
        }
        for (line, at, words) in [
            ("kind = \"acp\"", 3, "needs a `command`"),
            ("kind = \"acp\"\ncommand = [\"x\"]\ncontext = \"none\"", 5, "no `context`"),
            ("kind = \"acp\"\ncommand = [\"x\"]\npermissions = \"ask\"", 5, "`park`"),
            ("kind = \"acp\"\ncommand = [\"x\"]\nrules = [{ kind = \"read\" }]", 5, "then"),
            ("kind = \"acp\"\ncommand = [\"x\"]\nmcp.docs.command = [\"./x\"]", 5, "absolute"),
            ("kind = \"acp\"\ncommand = [\"x\"]\nsubagents = 3", 5, "boolean"),
            ("kind = \"shell\"\nsubagents = false", 4, "\"acp\""),
            ("kind = \"shell\"\nturn_timeout = \"366d\"", 4, "365 days"),
            ("kind = \"shell\"\nstall_timeout = \"25h\"", 4, "24h"),
            ("kind = \"shell\"\nworker_timeout = \"2h\"", 4, "1h"),
            ("kind = \"shell\"\nnice = 20", 4, "0 to 19"),
            ("kind = \"shell\"\nnofile = 31", 4, "between 32"),
            ("kind = \"shell\"\nmemory = \"2 GB\"", 4, "512MiB"),
            ("kind = \"shell\"\nmemory = 2147483648", 4, "string"),
            ("kind = \"shell\"\nmemory = \"7MiB\"", 4, "between 8MiB"),
            ("kind = \"shell\"\nmemory = \"99999999999999TiB\"", 4, "512MiB"),
            ("kind = \"shell\"\npids = 7", 4, "between 8"),
            ("kind = \"shell\"\ncpus = 0.001", 4, "between 0.01"),
            ("kind = \"shell\"\ncpus = nan", 4, "between 0.01"),
            ("kind = \"shell\"\ncpus = -1", 4, "between 0.01"),
            ("kind = \"shell\"\ncontainment = \"cage\"", 4, "`pid_namespace`"),
            ("kind = \"shell\"\nsandbox = \"cage\"", 4, "`strict`"),
            ("kind = \"shell\"\nsandbox_hide = [\".ssh\"]", 4, "`~/`"),
            ("kind = \"shell\"\nsandbox_write = [\"~/../x\"]", 4, "`..`"),
            ("kind = \"shell\"\nsandbox_read = [\"x\"]", 4, "`~/`"),
            ("kind = \"shell\"\n[daemon]\ncgroup_root = \"sys/fs\"", 5, "absolute"),
            ("kind = \"shell\"\n[daemon]\ncgroup_root = \"/sys/../x\"", 5, "`none`"),
            ("kind = \"docker\"", 3, "`shell`"),
            ("kind = \"command\"", 3, "needs a `command`"),
            ("command = [\"x\"]", 2, "kind"),
            ("kind = \"shell\"\ncommand = [\"x\"]", 4, "no `command`"),
            ("kind = \"shell\"\ncontext = \"transcript\"", 4, "no `context`"),
            ("kind = \"command\"\ncommand = []", 4, "program"),
            ("kind = \"command\"\ncommand = [\"\"]", 4, "program"),
            ("kind = \"command\"\ncommand = [\"bin/agent\"]", 4, "absolute"),
            ("kind = \"command\"\ncommand = [\"~/agent\"]", 4, "absolute"),
            ("kind = \"command\"\ncommand = [\"x\", \"a\\u0000\"]", 4, "NUL"),
            ("kind = \"command\"\ncommand = \"claude -p\"", 4, "sequence"),
            ("kind = \"shell\"\nmodel = \"--help\"", 4, "model"),
            ("kind = \"shell\"\nenv = { \"A=B\" = \"1\" }", 4, "A=B"),
            ("kind = \"shell\"\nenv = { A = \"\\u0000\" }", 4, "NUL"),
            ("kind = \"shell\"\nenv = { A = 1 }", 4, "string"),
        ] {
            refused(&format!("\n[agents.x]\n{line}\n"), at, &[words]);
        }
        refused("[agents.\"../x\"]\nkind = \"shell\"\n", 1, &["name"]);
        let long = "x".repeat(bounds::ENV_BYTES);
        refused(&format!("[agents.x]\nkind = \"shell\"\nenv = {{ A = \"{long}\" }}\n"), 1, &["64 KiB"]);
    }

    #[test]
    fn durations_are_what_people_write() {
        for (text, millis) in
            [("0", 0), ("\"0\"", 0), ("\"never\"", 0), ("\"4h\"", 14_400_000), ("\"1h 30m\"", 5_400_000)]
        {
            let config = parse(Path::new("/c"), &format!("[defaults]\nhibernate_after = {text}")).unwrap();
            assert_eq!(config.defaults.hibernate_after_ms, Some(millis), "{text}");
        }
    }
}
