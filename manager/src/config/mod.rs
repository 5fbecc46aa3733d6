//! `config.toml`: the agents, and what sessions are started with.
//!
//! `manager/docs/configuration.md` lists every key with its default, bounds and meaning. A session's own options come first, then
//! its agent's profile, then `[defaults]`, then the built-in defaults. The profile `shell` exists without a file.
//!
//! kennel reads the file at every creation of a session; a session keeps what it was created with. The manager reads `[daemon]`,
//! `[listen]` and `[retention]` at its start.

mod agents;
pub(crate) mod bounds;
pub mod built_in;
mod cgroup_root;
mod env;
mod file;
mod log_in;
pub(crate) mod lookup;
pub(crate) mod mcp;
mod names;
mod port;
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
use self::file::raw::DefaultKeys;
pub use self::log_in::LogInPlan;
pub use self::lookup::{Called, lookup};
pub use self::names::{edit as edit_of, label_wanted, labels};
pub use self::port::{CertificateFiles, Listen};
use self::profile::Profile;
pub use self::sandbox::{check_workdir as check_sandbox_workdir, unavailable as sandbox_unavailable};
use self::surroundings::Surroundings;
pub use self::surroundings::existing_directory;
use crate::core::Spec;
use crate::error::Error;

/// `config.toml`, read and checked.
#[derive(Clone, Debug, Default)]
pub struct Config {
    path: PathBuf,
    agents: BTreeMap<String, Profile>,
    defaults: DefaultKeys,
    cgroup_root: CgroupRoot,
    spare_workers: Option<usize>,
    connections: Connections,
    listen: Listen,
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

/// The number of spare workers that a daemon keeps, unless its configuration says another.
pub(crate) const SPARE_WORKERS: usize = 2;

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

    /// Returns the number of spare workers that a daemon keeps. A daemon reads it once, when it starts.
    pub(crate) fn spare_workers(&self) -> usize {
        self.spare_workers.unwrap_or(SPARE_WORKERS)
    }

    /// Returns the limits of connections. A daemon reads them once, when it starts.
    pub(crate) fn connections(&self) -> Connections {
        self.connections
    }

    /// Returns the TLS port. A daemon reads it once, when it starts.
    pub(crate) fn listen(&self) -> &Listen {
        &self.listen
    }

    /// Returns the limits of the history.
    pub fn retention(&self) -> Retention {
        self.retention
    }
}
