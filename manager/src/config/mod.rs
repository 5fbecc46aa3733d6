//! `config.toml`: which agents there are and what sessions are started with.
//!
//! ```toml
//! [agents.claude]                   # `kennel start --agent claude`
//! kind = "command"                  # a program once a prompt; or "shell"
//! command = ["claude", "-p"]        # found on PATH; {model} stands for the session's model
//!
//! # and, where wanted:
//! prompt_via = "stdin"              # or "argument": the last one
//! context = "transcript"            # a fresh process is told the turns before; or "none"
//! on_crash = "interrupt"            # or "retry"
//! model = "sonnet"                  # where none is asked for
//! env = { NO_COLOR = "1" }          # journaled: no secrets here
//! env_pass = ["ANTHROPIC_API_KEY"]  # passed on from the daemon's environment
//! subagents = true                  # an ACP agent is offered kennel's tools for sub-agents; or false
//! sandbox = "none"                  # or "workdir", "strict" (no network, an empty home): see sandbox.rs
//! sandbox_hide = ["~/.netrc"]       # beside what is hidden anyway
//! sandbox_write = ["~/.codex"]      # beside the working directory, temporary files and a known agent's own state
//! sandbox_read = ["~/.local"]       # shown where all else of the home directory is hidden
//! turn_timeout = "30m"              # a turn that takes longer is aborted; 0 = never
//! stall_timeout = "20m"             # no sign of work for so long is said, and for half as long again ends the turn; 0 = never
//! worker_timeout = "30s"            # as in [defaults]
//! nice = 5                          # added to the nice value of its processes
//! nofile = 4096                     # descriptors that each of them may have open
//! memory = "2GiB"                   # what all of them may have together, or they are killed
//! pids = 200                        # so many of them at once, threads included
//! cpus = 1.5                        # so many processors' time for all of them together
//! umask = "022"                     # of its programs; without it that of the client which creates the session
//! containment = "auto"              # or "pid_namespace" (or it does not start), "subreaper"
//!
//! [defaults]
//! agent = "claude"
//! hibernate_after = "4h"            # 0 = never
//! restart = "transient"             # or "permanent", "temporary"
//! intensity = 5                     # more deaths than this within the period: `failed`
//! period = "60s"
//! on_crash = "interrupt"
//! grace = "2s"                      # between SIGTERM and SIGKILL
//! worker_timeout = "30s"            # a worker at work that says nothing for so long is replaced
//! env_pass = []
//! umask = "022"                     # where the profile has none
//! subagent_depth = 3                # sub-agents of sub-agents: so deep at most
//! subagent_breadth = 8              # so many at work for one parent
//! subagent_total = 32               # so many below one session that nobody started as a sub-agent
//!
//! [daemon]                          # read when it starts
//! cgroup_root = "auto"              # where control groups are made: what is delegated to it; or "none", or a directory
//! connections = 1024                # the most at once, 16 at least; each session has an eighth, all sessions half
//! head_timeout = "10s"              # a request's head has so long to come; then 408
//! idle_timeout = "2m"               # a connection rests so long between two requests; then it is closed
//! stall_timeout = "2m"              # a client that takes nothing of what waits for it for so long is left
//!
//! [retention]                       # as by `kennel prune`, at the start and then; without it all is kept
//! max_age = "90d"                   # turns that ended longer ago go
//! max_size = "2GiB"                 # the oldest turns go until the journal has no more in use
//! every = "1h"                      # between two looks, 1s at least
//! ```
//!
//! What a session's own options say comes first, then its agent's profile, then `[defaults]`, then what is
//! written above. The profile `shell` is there without a file. The file is read at every creation of a session;
//! a session keeps what it was created with. Whether there is a `[retention]`, and how often it is looked at, is read
//! when the manager starts.

pub(crate) mod bounds;
pub mod built_in;
mod env;
mod file;
pub(crate) mod mcp;
mod sandbox;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use protocol::api::{
    AgentInfo, AgentKind, McpServersRequest, OnCrash, PermissionPolicy, RestartType, SessionOpts,
};
use protocol::wire::{Agent, McpServer, PromptVia, RemoteServer};
use protocol::{Containment, Limits, Sandbox, SessionId};

use crate::core::{PermissionRule, Permissions, Refusal, RestartPolicy, Spec, Subagents, WORKER_TIMEOUT_MS};
use crate::error::Error;

pub(crate) use bounds::{cpus as to_milli_cpus, size as parse_size, umask as parse_umask};
pub use env::{agent_env, base_env, missing as missing_env, path_of, places};
pub use sandbox::{check_workdir as check_sandbox_workdir, unavailable as sandbox_unavailable};

/// Name of the profile that is always there.
const SHELL: &str = "shell";
/// What stands for the model in a command.
const MODEL: &str = "{model}";
const HIBERNATE_AFTER_MS: u64 = 4 * 60 * 60 * 1000;
const GRACE_MS: u64 = 2000;

/// Where control groups for sessions are made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CgroupRoot {
    /// In what the service manager has delegated to this process, if it has.
    #[default]
    Auto,
    /// Nowhere.
    None,
    /// In this directory of a control group file system; with `{controller}` in it, in one for each controller.
    At(String),
}

/// `config.toml`, read and checked.
#[derive(Clone, Debug, Default)]
pub struct Config {
    path: PathBuf,
    agents: BTreeMap<String, Profile>,
    defaults: Defaults,
    cgroup_root: CgroupRoot,
    connections: Connections,
    retention: Retention,
}

/// How many connections the daemon has, and how long each may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connections {
    /// The most at once.
    pub most: usize,
    /// From a connection's beginning, or from a head's first byte, to the head's end, in milliseconds.
    pub head_ms: u64,
    /// Between two requests, in milliseconds.
    pub idle_ms: u64,
    /// How long a client may take nothing of what waits for it, in milliseconds.
    pub stall_ms: u64,
}

impl Default for Connections {
    fn default() -> Self {
        Self { most: 1024, head_ms: 10_000, idle_ms: 120_000, stall_ms: 120_000 }
    }
}

/// How much history is kept. What is not given bounds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// The age, in milliseconds.
    pub max_age_ms: Option<u64>,
    /// How much of the journal may be in use, in bytes.
    pub max_bytes: Option<u64>,
    /// Between two looks, in milliseconds.
    pub every_ms: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self { max_age_ms: None, max_bytes: None, every_ms: 60 * 60 * 1000 }
    }
}

#[derive(Clone, Debug, Default)]
struct Defaults {
    agent: Option<String>,
    restart: Option<RestartType>,
    intensity: Option<u32>,
    period_ms: Option<u64>,
    on_crash: Option<OnCrash>,
    hibernate_after_ms: Option<u64>,
    grace_ms: Option<u64>,
    worker_timeout_ms: Option<u64>,
    env_pass: Vec<String>,
    subagent_depth: Option<u32>,
    subagent_breadth: Option<u32>,
    subagent_total: Option<u32>,
    umask: Option<u32>,
}

#[derive(Clone, Debug)]
struct Profile {
    runs: Runs,
    env: BTreeMap<String, String>,
    env_pass: Vec<String>,
    /// Those of `env_pass` that are written.
    env_named: Vec<String>,
    on_crash: Option<OnCrash>,
    model: Option<String>,
    permissions: Option<PermissionPolicy>,
    permission_timeout_ms: Option<u64>,
    start_timeout_ms: Option<u64>,
    turn_timeout_ms: Option<u64>,
    stall_timeout_ms: Option<u64>,
    worker_timeout_ms: Option<u64>,
    limits: Limits,
    umask: Option<u32>,
    rules: Vec<PermissionRule>,
    subagents: Option<bool>,
    containment: Option<Containment>,
    sandbox: Option<Sandbox>,
    sandbox_hide: Vec<String>,
    sandbox_write: Vec<String>,
    sandbox_read: Vec<String>,
}

/// MCP servers that a session is to have beside those that it has.
pub(crate) fn added_servers(
    spec: &Spec,
    request: McpServersRequest,
) -> Result<(Vec<McpServer>, Vec<RemoteServer>), Error> {
    let path = spec.env.get("PATH").map(OsString::from);
    mcp::added(spec, request, path.or_else(|| Surroundings::of_this_process().path))
}

/// An MCP server as it is written.
#[derive(Clone, Debug)]
enum Mcp {
    Program { name: String, argv: Vec<String>, env: BTreeMap<String, String> },
    Remote(RemoteServer),
}

#[derive(Clone, Debug)]
enum Runs {
    Shell,
    Command {
        /// As it is written: the program not yet found, the model not yet filled in.
        argv: Vec<String>,
        /// Where it is written.
        line: usize,
        prompt_via: PromptVia,
        transcript: bool,
    },
    Acp {
        /// As it is written.
        argv: Vec<String>,
        /// Where it is written; 0 where it is built in.
        line: usize,
        login: Option<String>,
        mcp: Vec<Mcp>,
    },
}

impl Runs {
    /// The program, as it is written.
    fn program(&self) -> Option<&String> {
        match self {
            Runs::Shell => None,
            Runs::Command { argv, .. } | Runs::Acp { argv, .. } => argv.first(),
        }
    }
}

impl Profile {
    /// MCP servers that its agent reaches by itself.
    fn remote_servers(&self) -> impl Iterator<Item = RemoteServer> {
        let all: &[Mcp] = match &self.runs {
            Runs::Acp { mcp, .. } => mcp,
            Runs::Shell | Runs::Command { .. } => &[],
        };
        all.iter().filter_map(|server| match server {
            Mcp::Remote(server) => Some(server.clone()),
            Mcp::Program { .. } => None,
        })
    }
}

impl Default for Profile {
    fn default() -> Self {
        Self {
            runs: Runs::Shell,
            env: BTreeMap::new(),
            env_pass: Vec::new(),
            env_named: Vec::new(),
            on_crash: None,
            model: None,
            permissions: None,
            permission_timeout_ms: None,
            start_timeout_ms: None,
            turn_timeout_ms: None,
            stall_timeout_ms: None,
            worker_timeout_ms: None,
            limits: Limits::default(),
            umask: None,
            rules: Vec::new(),
            subagents: None,
            containment: None,
            sandbox: None,
            sandbox_hide: Vec::new(),
            sandbox_write: Vec::new(),
            sandbox_read: Vec::new(),
        }
    }
}

/// What is taken from the process around.
struct Surroundings {
    path: Option<OsString>,
    home: Option<PathBuf>,
    /// `XDG_RUNTIME_DIR`.
    runtime: Option<PathBuf>,
}

impl Surroundings {
    fn of_this_process() -> Self {
        let home = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
        let home = home.or_else(|| {
            let user = nix::unistd::User::from_uid(nix::unistd::getuid()).ok()??;
            Some(user.dir)
        });
        let runtime =
            std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|runtime| runtime.is_absolute());
        Self { path: std::env::var_os("PATH"), home, runtime }
    }
}

impl Config {
    /// Reads a file. One that does not exist is an empty one.
    ///
    /// # Errors
    /// `invalid_config`, with the file's path and line.
    pub fn load(path: &Path) -> Result<Self, Error> {
        match file::read(path)? {
            Some(text) => file::parse(path, &text),
            None => Ok(Self { path: path.to_owned(), ..Self::default() }),
        }
    }

    /// Where control groups for sessions are made. Taken by a manager when it starts.
    pub(crate) fn cgroup_root(&self) -> &CgroupRoot {
        &self.cgroup_root
    }

    /// How many connections there may be. Taken by a daemon when it starts.
    pub(crate) fn connections(&self) -> Connections {
        self.connections
    }

    /// How much history is kept.
    pub fn retention(&self) -> Retention {
        self.retention
    }

    /// What a session with these options runs, every default filled in.
    ///
    /// # Errors
    /// `no_such_agent`, `agent_not_found` (its program), `model_required`, `workdir_not_absolute`,
    /// `no_such_workdir`, `workdir_not_a_directory`, `workdir_not_accessible`, `workdir_not_utf8`, and
    /// `invalid_` with the option's name for values out of bounds.
    pub fn resolve(&self, opts: &SessionOpts) -> Result<Spec, Error> {
        self.resolve_within(opts, &Surroundings::of_this_process())
    }

    fn resolve_within(&self, opts: &SessionOpts, around: &Surroundings) -> Result<Spec, Error> {
        check_options(opts)?;
        let agent_name = opts.agent.as_deref().or(self.defaults.agent.as_deref()).unwrap_or(SHELL);
        let profile = self.profile(agent_name)?;
        let model = opts.model.as_ref().or(profile.model.as_ref());
        let mut env = profile.env.clone();
        env.extend(opts.env.clone());
        bounds::env(&env).map_err(|what| Error::invalid("invalid_env", what))?;
        let env_pass = self.with_defaults(&profile.env_pass);
        let env_named = self.with_defaults(&profile.env_named);
        let path = env.get("PATH").map(OsString::from).or_else(|| around.path.clone());
        let mut agent = self.agent(agent_name, &profile.runs, model, path.clone())?;
        mcp::add(&mut agent, &opts.mcp_servers, path)?;
        let mut remote_servers = mcp::remote(&mut agent, opts)?;
        remote_servers.extend(profile.remote_servers().filter(|server| !mcp::names(opts, &server.name)));
        let built_in = RestartPolicy::default();
        let workdir = workdir(opts.workdir.as_deref(), around)?;
        let walls = sandbox::walls(&profile, agent_name, &workdir, &self.path, around)?;
        let model_in = |word: &String| model.map_or(word.clone(), |model| word.replace(MODEL, model));
        let program = profile.runs.program().map(model_in);
        Ok(Spec {
            agent_name: agent_name.to_owned(),
            agent,
            program,
            title: opts.title.clone(),
            model: model.cloned(),
            workdir,
            env,
            env_pass,
            env_named,
            restart: RestartPolicy {
                kind: opts.restart.or(self.defaults.restart).unwrap_or(built_in.kind),
                intensity: opts.intensity.or(self.defaults.intensity).unwrap_or(built_in.intensity),
                period_ms: opts.period_ms.or(self.defaults.period_ms).unwrap_or(built_in.period_ms),
            },
            on_crash: opts
                .on_crash
                .or(profile.on_crash)
                .or(self.defaults.on_crash)
                .unwrap_or(OnCrash::Interrupt),
            hibernate_after_ms: opts
                .hibernate_after_ms
                .or(self.defaults.hibernate_after_ms)
                .unwrap_or(HIBERNATE_AFTER_MS),
            start_timeout_ms: profile.start_timeout_ms,
            grace_ms: opts.grace_ms.or(self.defaults.grace_ms).unwrap_or(GRACE_MS),
            worker_timeout_ms: profile
                .worker_timeout_ms
                .or(self.defaults.worker_timeout_ms)
                .unwrap_or(WORKER_TIMEOUT_MS),
            stall_timeout_ms: profile.stall_timeout_ms,
            turn_timeout_ms: opts.turn_timeout_ms.or(profile.turn_timeout_ms).unwrap_or(0),
            limits: Limits {
                nice: opts.nice.or(profile.limits.nice),
                nofile: opts.nofile.or(profile.limits.nofile),
                memory_bytes: opts.memory_bytes.or(profile.limits.memory_bytes),
                pids: opts.pids.or(profile.limits.pids),
                milli_cpus: opts.milli_cpus.or(profile.limits.milli_cpus),
            },
            umask: profile.umask.or(self.defaults.umask).or(opts.umask),
            permissions: Permissions {
                policy: opts.permissions.or(profile.permissions).unwrap_or_default(),
                rules: profile.rules,
                timeout_ms: opts.permission_timeout_ms.or(profile.permission_timeout_ms).unwrap_or(0),
                above: None,
            },
            subagents: self.subagents(profile.subagents),
            remote_servers,
            containment: profile.containment.unwrap_or_default(),
            walls,
            offers: opts.offers.iter().copied().collect::<BTreeSet<_>>().into_iter().collect(),
        })
    }

    /// Names of variables, with those of `[defaults]`, each once.
    fn with_defaults(&self, names: &[String]) -> Vec<String> {
        let mut all = [&self.defaults.env_pass[..], names].concat();
        all.sort();
        all.dedup();
        all
    }

    fn subagents(&self, offered: Option<bool>) -> Subagents {
        let built_in = Subagents::default();
        Subagents {
            offered: offered.unwrap_or(built_in.offered),
            depth: self.defaults.subagent_depth.unwrap_or(built_in.depth),
            breadth: self.defaults.subagent_breadth.unwrap_or(built_in.breadth),
            total: self.defaults.subagent_total.unwrap_or(built_in.total),
        }
    }

    fn profile(&self, name: &str) -> Result<Profile, Error> {
        if let Some(profile) = self.agents.get(name) {
            return Ok(profile.clone());
        }
        if name == SHELL {
            return Ok(Profile::default());
        }
        if let Some(known) = built_in::named(name) {
            let argv = known.argv.iter().map(|word| (*word).to_owned()).collect();
            return Ok(Profile {
                runs: Runs::Acp { argv, line: 0, login: None, mcp: Vec::new() },
                env_pass: known.env_pass.iter().map(|name| (*name).to_owned()).collect(),
                ..Profile::default()
            });
        }
        let mut known: Vec<&str> = self.agents.keys().map(String::as_str).collect();
        known.extend(built_in::BUILT_IN.iter().map(|agent| agent.name).chain([SHELL]));
        known.sort_unstable();
        known.dedup();
        let near = nearest(name, known.iter().copied());
        let hint = match near {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("write an [agents.NAME] for it into {}", self.path.display()),
        };
        let message = format!("no such agent `{}`; there are {}", shown(name, 80), listed(&known, 20));
        Err(Error::invalid_with("no_such_agent", message, hint))
    }

    fn agent(
        &self,
        name: &str,
        runs: &Runs,
        model: Option<&String>,
        path: Option<OsString>,
    ) -> Result<Agent, Error> {
        let (argv, line) = match runs {
            Runs::Shell => return Ok(Agent::Shell),
            Runs::Command { argv, line, .. } | Runs::Acp { argv, line, .. } => (argv, *line),
        };
        if model.is_none() && argv.iter().any(|word| word.contains(MODEL)) {
            return Err(Error::invalid_with(
                "model_required",
                format!("agent `{name}` is run with a model, and none was given"),
                format!("name one, or write model = \"...\" into [agents.{name}] in {}", self.path.display()),
            ));
        }
        let mut argv = argv.clone();
        if let Some(model) = model {
            argv.iter_mut().for_each(|word| *word = word.replace(MODEL, model));
        }
        argv[0] = self.program(name, &argv[0], line, path.clone())?;
        Ok(match runs {
            Runs::Shell => Agent::Shell,
            Runs::Command { prompt_via, transcript, .. } => {
                Agent::Command { argv, prompt_via: *prompt_via, transcript: *transcript }
            }
            Runs::Acp { login, mcp, .. } => {
                let programs = mcp.iter().filter_map(|server| match server {
                    Mcp::Program { name, argv, env } => Some((name, argv, env)),
                    Mcp::Remote(_) => None,
                });
                let servers = programs.map(|(its_name, argv, env)| {
                    let mut argv = argv.clone();
                    let command = self.program(name, &argv.remove(0), line, path.clone())?;
                    let env = env.clone().into_iter().collect();
                    Ok(McpServer { name: its_name.clone(), command, args: argv, env })
                });
                let mcp_servers = servers.collect::<Result<_, Error>>()?;
                Agent::Acp { argv, login: login.clone(), mcp_servers }
            }
        })
    }

    /// The absolute path of an agent's program, or of one that it needs.
    fn program(
        &self,
        agent: &str,
        program: &str,
        line: usize,
        path: Option<OsString>,
    ) -> Result<String, Error> {
        find_program(program, path).ok_or_else(|| {
            let named = shown(program, 200);
            let message = match named.starts_with('/') {
                true => format!("agent `{agent}`: {named} is not an executable file"),
                false => format!("agent `{agent}`: there is no program `{named}` on the daemon's PATH"),
            };
            let absolute = match line {
                0 => format!("write its absolute path into an [agents.{agent}] in {}", self.path.display()),
                line => format!("write its absolute path into `command` at {}:{line}", self.path.display()),
            };
            let hint = match built_in::named(agent).filter(|known| known.argv[0] == program) {
                Some(known) => format!("install it ({}), or {absolute}", known.install),
                None => format!("install it, or {absolute}"),
            };
            Error::invalid_with("agent_not_found", message, hint)
        })
    }

    /// Every agent that can be named, with its program if it is there.
    pub fn agents(&self) -> Vec<AgentInfo> {
        let around = Surroundings::of_this_process();
        let mut names: Vec<&str> = self.agents.keys().map(String::as_str).collect();
        names.extend(built_in::BUILT_IN.iter().map(|agent| agent.name).chain([SHELL]));
        names.sort_unstable();
        names.dedup();
        let info = |name: &str| {
            let profile = self.profile(name).ok()?;
            let known = match &profile.runs {
                Runs::Acp { argv, .. } => built_in::extended(name, argv.first().map(String::as_str)),
                _ => None,
            };
            let (kind, program) = match &profile.runs {
                Runs::Shell => (AgentKind::Shell, "/bin/sh".to_owned()),
                Runs::Command { argv, .. } => (AgentKind::Command, argv[0].clone()),
                Runs::Acp { argv, .. } => (AgentKind::Acp, argv[0].clone()),
            };
            let path = profile.env.get("PATH").map(OsString::from).or_else(|| around.path.clone());
            Some(AgentInfo {
                name: name.to_owned(),
                kind,
                path: find_program(&program, path),
                program,
                built_in: !self.agents.contains_key(name),
                login: known.map(|known| known.login.to_owned()),
                install: known.map(|known| known.install.to_owned()),
                env_missing: env::missing(&self.with_defaults(&profile.env_named), &profile.env),
                details: None,
            })
        };
        names.into_iter().filter_map(info).collect()
    }
}

fn check_options(opts: &SessionOpts) -> Result<(), Error> {
    fn check<T>(
        code: &'static str,
        value: Option<T>,
        check: fn(T) -> Result<(), String>,
    ) -> Result<(), Error> {
        value.map_or(Ok(()), check).map_err(|what| Error::invalid(code, what))
    }
    check("invalid_title", opts.title.as_deref(), bounds::title)?;
    check("invalid_model", opts.model.as_deref(), bounds::model)?;
    check("invalid_intensity", opts.intensity, bounds::intensity)?;
    check("invalid_period", opts.period_ms, bounds::period)?;
    check("invalid_hibernate_after", opts.hibernate_after_ms, bounds::hibernate_after)?;
    check("invalid_grace", opts.grace_ms, bounds::grace)?;
    check("invalid_turn_timeout", opts.turn_timeout_ms, bounds::turn_timeout)?;
    check("invalid_nice", opts.nice, bounds::nice)?;
    check("invalid_nofile", opts.nofile, bounds::nofile)?;
    check("invalid_umask", opts.umask, bounds::umask_number)?;
    check("invalid_memory", opts.memory_bytes, bounds::memory)?;
    check("invalid_pids", opts.pids, bounds::pids)?;
    check("invalid_cpus", opts.milli_cpus, bounds::milli_cpus)?;
    check("invalid_permission_timeout", opts.permission_timeout_ms, bounds::permission_timeout)
}

/// The program's absolute path.
fn find_program(program: &str, path: Option<OsString>) -> Option<String> {
    programs(program, path.as_deref()).next()
}

/// The absolute paths of all programs of this name on PATH, in its order. Relative entries of PATH are passed over: what they
/// mean depends on where the daemon was started.
fn programs(program: &str, path: Option<&OsStr>) -> impl Iterator<Item = String> {
    let executable = |file: &PathBuf| {
        let runs = rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok();
        runs && std::fs::metadata(file).is_ok_and(|metadata| metadata.is_file())
    };
    let candidates: Vec<PathBuf> = match program.starts_with('/') {
        true => vec![PathBuf::from(program)],
        false => {
            let dirs = path.map(std::env::split_paths).into_iter().flatten();
            dirs.filter(|dir| dir.is_absolute()).map(|dir| dir.join(program)).collect()
        }
    };
    candidates.into_iter().filter(executable).filter_map(|file| file.into_os_string().into_string().ok())
}

/// An existing directory's path without symlinks.
fn workdir(given: Option<&str>, around: &Surroundings) -> Result<String, Error> {
    let path = match (given, &around.home) {
        (Some(given), _) => PathBuf::from(given),
        (None, Some(home)) => home.clone(),
        (None, None) => {
            return Err(Error::invalid_with(
                "no_such_workdir",
                "this user has no home directory to run the session in",
                "name a working directory",
            ));
        }
    };
    let name = shown(&path.to_string_lossy(), 300);
    let absolute = "give the absolute path of a directory that exists";
    if !path.is_absolute() {
        let message = format!("the working directory `{name}` is not an absolute path");
        return Err(Error::invalid_with("workdir_not_absolute", message, absolute));
    }
    let real = std::fs::canonicalize(&path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::InvalidInput => {
            let message = format!("there is no directory `{name}`");
            Error::invalid_with("no_such_workdir", message, "create it first, or name another")
        }
        std::io::ErrorKind::NotADirectory => not_a_directory(&name),
        _ => not_accessible(&name, &error.to_string()),
    })?;
    if !real.is_dir() {
        return Err(not_a_directory(&name));
    }
    if let Err(error) = rustix::fs::access(&real, rustix::fs::Access::EXEC_OK) {
        return Err(not_accessible(&name, &std::io::Error::from(error).to_string()));
    }
    real.into_os_string().into_string().map_err(|_| {
        let message = format!("the path of the directory `{name}` is not UTF-8");
        Error::invalid_with("workdir_not_utf8", message, "rename it, or name another")
    })
}

fn not_a_directory(name: &str) -> Error {
    Error::invalid_with("workdir_not_a_directory", format!("`{name}` is not a directory"), "name a directory")
}

fn not_accessible(name: &str, why: &str) -> Error {
    let message = format!("the working directory `{name}` cannot be entered: {why}");
    Error::invalid_with("workdir_not_accessible", message, "name a directory that this user can enter")
}

/// A number of processors as it is typed, in thousandths.
pub(crate) fn parse_cpus(text: &str) -> Result<u32, String> {
    let cpus: f64 = text.parse().map_err(|_| format!("`{}` is no number", shown(text, 80)))?;
    to_milli_cpus(cpus)
}

/// The session that a person means: an id, or the only id that begins so.
///
/// # Errors
/// `no_such_session`, with the nearest id as a hint; `ambiguous_id`.
pub fn lookup(typed: &str, ids: &[SessionId]) -> Result<SessionId, Error> {
    if let Some(exact) = ids.iter().find(|id| id.as_str() == typed) {
        return Ok(exact.clone());
    }
    let begins = |id: &&SessionId| !typed.is_empty() && id.as_str().starts_with(typed);
    let fitting: Vec<&SessionId> = ids.iter().filter(begins).collect();
    let name = shown(typed, 80);
    match fitting[..] {
        [one] => Ok(one.clone()),
        [] => Err(match nearest(typed, ids.iter().map(SessionId::as_str)) {
            Some(near) => Error::invalid_with(
                "no_such_session",
                format!("no such session `{name}`"),
                format!("did you mean `{near}`?"),
            ),
            None => Error::Refused(Refusal::NoSuchSession(name)),
        }),
        _ => {
            let names: Vec<&str> = fitting.iter().map(|id| id.as_str()).collect();
            let message = format!("`{name}` could be {} sessions: {}", names.len(), listed(&names, 5));
            Err(Error::invalid_with("ambiguous_id", message, "type more of the id"))
        }
    }
}

/// The known name that somebody most likely meant.
fn nearest<'a>(typed: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // The comparison is quadratic, and no name is longer than 64.
    if typed.is_empty() || typed.len() > 128 {
        return None;
    }
    let likeness = |name: &str| {
        let edits = strsim::damerau_levenshtein(typed, name);
        let likeness = strsim::jaro_winkler(typed, name);
        // Three edits make any short word of any other.
        let near = likeness > 0.85 || edits <= 3.min(typed.chars().count() / 3);
        near.then_some((edits, likeness))
    };
    let near = known.filter_map(|name| Some((likeness(name)?, name)));
    let best = near.min_by(|((edits, likeness), _), ((other_edits, other_likeness), _)| {
        edits.cmp(other_edits).then(other_likeness.total_cmp(likeness))
    });
    best.map(|(_, name)| name)
}

/// The first few names, and how many more there are.
fn listed(names: &[&str], at_most: usize) -> String {
    let first: Vec<String> = names.iter().take(at_most).map(|name| format!("`{name}`")).collect();
    let more = names.len() - first.len();
    let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
    first.join(", ") + &tail
}

/// Text from outside, made fit for a terminal and a log.
fn shown(text: &str, chars: usize) -> String {
    let mut shown = String::new();
    for (count, c) in text.chars().enumerate() {
        match c {
            _ if count == chars => {
                shown.push_str("...");
                break;
            }
            '\'' | '"' | '\\' => shown.push(c),
            _ => shown.extend(c.escape_debug()),
        }
    }
    shown
}

#[cfg(test)]
mod tests;
pub(crate) mod workdir;
