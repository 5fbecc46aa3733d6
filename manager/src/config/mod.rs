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

mod agents;
pub(crate) mod bounds;
pub mod built_in;
mod cgroup_root;
mod env;
mod file;
mod lookup;
pub(crate) mod mcp;
mod profile;
mod resolve;
mod sandbox;
mod surroundings;
#[cfg(test)]
mod tests;
pub(crate) mod workdir;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use protocol::api::McpServersRequest;
use protocol::wire::{McpServer, RemoteServer};

pub(crate) use self::bounds::{parse_cpus, size as parse_size, umask as parse_umask};
pub use self::cgroup_root::CgroupRoot;
pub use self::env::{agent_env, base_env, missing as missing_env, path_of, places};
pub use self::lookup::lookup;
use self::profile::{Defaults, Profile};
pub use self::sandbox::{check_workdir as check_sandbox_workdir, unavailable as sandbox_unavailable};
use self::surroundings::Surroundings;
use crate::core::Spec;
use crate::error::Error;

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

/// Limits of the daemon's connections: their number, and how long each may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connections {
    /// The most at once.
    pub most: usize,
    /// Time limit of a head in milliseconds, from the connection's beginning or the head's first byte to the head's end.
    pub head_ms: u64,
    /// Between two requests, in milliseconds.
    pub idle_ms: u64,
    /// The longest time that a client may leave its data unread, in milliseconds.
    pub stall_ms: u64,
}

impl Default for Connections {
    fn default() -> Self {
        Self { most: 1024, head_ms: 10_000, idle_ms: 120_000, stall_ms: 120_000 }
    }
}

/// Limits of the history that the journal keeps. A limit that is absent does not apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// The age, in milliseconds.
    pub max_age_ms: Option<u64>,
    /// The largest part of the journal that may be in use, in bytes.
    pub max_bytes: Option<u64>,
    /// Between two looks, in milliseconds.
    pub every_ms: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self { max_age_ms: None, max_bytes: None, every_ms: 60 * 60 * 1000 }
    }
}

/// MCP servers that a session is to have beside those that it has.
pub(crate) fn added_servers(
    spec: &Spec,
    request: McpServersRequest,
) -> Result<(Vec<McpServer>, Vec<RemoteServer>), Error> {
    let path = spec.env.get("PATH").map(OsString::from);
    mcp::added(spec, request, path.or_else(|| Surroundings::of_this_process().path))
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

    /// Returns the place for control groups. A manager reads it once, when it starts.
    pub(crate) fn cgroup_root(&self) -> &CgroupRoot {
        &self.cgroup_root
    }

    /// Returns the limits of connections. A daemon reads them once, when it starts.
    pub(crate) fn connections(&self) -> Connections {
        self.connections
    }

    /// Returns the limits of the history.
    pub fn retention(&self) -> Retention {
        self.retention
    }
}
