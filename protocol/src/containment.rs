//! Containment and sandbox of an agent's processes, as configuration, API and wire name them.

use std::fmt;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

/// The containment that a user asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "api", derive(utoipa::ToSchema))]
pub enum Containment {
    /// The strongest level that the machine supports.
    #[default]
    Auto,
    /// A PID namespace; without one the agent does not run.
    PidNamespace,
    /// The worker alone, without a namespace.
    Subreaper,
}

/// The containment that a worker uses. On the wire, new variants are appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "api", derive(utoipa::ToSchema))]
pub enum Level {
    /// A PID namespace (pid_namespaces(7)). When the worker dies, the kernel kills the namespace's init process, and with it
    /// every process in the namespace.
    PidNamespace,
    /// Like `pid_namespace`, but `/proc` shows the machine's pids, not those of the namespace.
    PidNamespaceSharedProc,
    /// The worker adopts orphaned processes (`PR_SET_CHILD_SUBREAPER`) and kills them.
    Subreaper,
    /// Like `subreaper`, plus a control group (cgroups(7)): kennel kills escaped processes through the group, also after the
    /// manager has restarted.
    Cgroup,
}

impl Level {
    /// All levels, the strongest first.
    pub const ALL: [Level; 4] =
        [Level::PidNamespace, Level::PidNamespaceSharedProc, Level::Cgroup, Level::Subreaper];

    /// Returns true if the kernel kills all processes of the agent when their namespace's init process dies.
    pub fn is_namespace(self) -> bool {
        match self {
            Level::PidNamespace | Level::PidNamespaceSharedProc => true,
            Level::Cgroup | Level::Subreaper => false,
        }
    }

    /// Name of the level in the API.
    pub fn name(self) -> &'static str {
        match self {
            Level::PidNamespace => "pid_namespace",
            Level::PidNamespaceSharedProc => "pid_namespace_shared_proc",
            Level::Cgroup => "cgroup",
            Level::Subreaper => "subreaper",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The sandbox that a user asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "api", derive(utoipa::ToSchema))]
pub enum Sandbox {
    /// No sandbox: the agent reaches everything that its user does.
    #[default]
    None,
    /// The agent writes only below its working directory and to temporary files of its own; kennel hides secrets.
    Workdir,
    /// Like `workdir`, without a network. The home directory is empty except for granted paths.
    Strict,
}

impl Sandbox {
    /// Name of the sandbox in the configuration and the API.
    pub fn name(self) -> &'static str {
        match self {
            Sandbox::None => "none",
            Sandbox::Workdir => "workdir",
            Sandbox::Strict => "strict",
        }
    }
}

/// The mechanism that enforces a sandbox. On the wire, new variants are appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "api", derive(utoipa::ToSchema))]
pub enum SandboxBy {
    /// bubblewrap: namespaces and mounts.
    Bubblewrap,
    /// kennel's own mounts, and the kernel's Landlock: weaker than bubblewrap; no other sandbox can nest in it.
    Landlock,
}

/// The sandbox that an agent is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "api", derive(utoipa::ToSchema))]
pub struct Sandboxed {
    /// The sandbox.
    pub sandbox: Sandbox,
    /// The mechanism that enforces the sandbox.
    pub by: SandboxBy,
}

impl Walls {
    /// The sandbox of these settings, with its mechanism.
    pub fn sandboxed(&self) -> Sandboxed {
        let by = if self.program.is_some() { SandboxBy::Bubblewrap } else { SandboxBy::Landlock };
        Sandboxed { sandbox: self.sandbox, by }
    }
}

impl fmt::Display for Sandboxed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = match self.by {
            SandboxBy::Bubblewrap => "bubblewrap",
            SandboxBy::Landlock => "Landlock",
        };
        write!(f, "{} (by {by})", self.sandbox.name())
    }
}

/// Settings by which a worker puts its agent in a sandbox. The manager computes them when the session is created. All
/// paths are absolute.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Walls {
    /// The sandbox.
    pub sandbox: Sandbox,
    /// Path of the `bwrap` program; absent: kennel mounts by itself and uses Landlock.
    pub program: Option<String>,
    /// Hidden files and directories, also those that do not exist yet.
    pub hidden: Vec<String>,
    /// Writable files and directories beside the working directory, without symlinks in their paths.
    pub writable: Vec<String>,
    /// Readable files and directories in hidden places, without symlinks in their paths.
    #[serde(default)]
    pub readable: Vec<String>,
    /// The home directory if the sandbox empties it except for granted paths; otherwise absent.
    #[serde(default)]
    pub home: Option<String>,
    /// Identity of the working directory and of each path in `writable` and `readable` when the session was created.
    #[serde(default)]
    pub granted: Vec<Granted>,
    /// Id of the boot in which `granted` was taken: devices have other numbers in the next.
    #[serde(default)]
    pub boot_id: String,
}

/// Identity of a granted path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Granted {
    /// The path.
    pub path: String,
    /// Device number of the file system; absent if it is from another boot.
    pub device: Option<u64>,
    /// Inode number.
    pub inode: u64,
    /// Birth time in nanoseconds since 1970; absent if the file system has none. File systems reuse inode numbers.
    pub born: Option<i64>,
}

impl Granted {
    /// Takes the identity of a path from the `metadata` of the file that is open there.
    pub fn of(path: String, metadata: &Metadata) -> Self {
        let born = metadata.created().ok().and_then(|born| born.duration_since(UNIX_EPOCH).ok());
        Self {
            path,
            device: Some(metadata.dev()),
            inode: metadata.ino(),
            born: born.and_then(|born| i64::try_from(born.as_nanos()).ok()),
        }
    }

    /// Returns true if `now`, taken at the same path, is the same file. A device or birth time that either side lacks
    /// counts as equal.
    pub fn is(&self, now: &Granted) -> bool {
        fn agree<T: PartialEq>(before: &Option<T>, now: &Option<T>) -> bool {
            before.is_none() || now.is_none() || before == now
        }
        self.inode == now.inode && agree(&self.device, &now.device) && agree(&self.born, &now.born)
    }
}

/// Resolves the symlinks of a path, as far as the path exists. Manager and worker compute hidden places by this
/// function.
pub fn resolved(path: &Path) -> PathBuf {
    for above in path.ancestors() {
        if let Ok(real) = std::fs::canonicalize(above) {
            return match path.strip_prefix(above) {
                Ok(rest) if !rest.as_os_str().is_empty() => real.join(rest),
                _ => real,
            };
        }
    }
    path.to_owned()
}

/// [`Walls`] as protocol version 3 has them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WallsOfVersion3 {
    /// [`Walls::sandbox`]
    pub sandbox: Sandbox,
    /// [`Walls::program`]
    pub program: Option<String>,
    /// [`Walls::hidden`]
    pub hidden: Vec<String>,
    /// [`Walls::writable`]
    pub writable: Vec<String>,
}

impl From<WallsOfVersion3> for Walls {
    fn from(walls: WallsOfVersion3) -> Self {
        let WallsOfVersion3 { sandbox, program, hidden, writable } = walls;
        Self { sandbox, program, hidden, writable, ..Self::default() }
    }
}

impl Walls {
    /// Returns true if this sandbox reaches nothing that `parent` keeps from its own agent. Compares no working
    /// directory: the agent of `parent` writes its own, and the working directory of this sandbox is below that one.
    pub fn is_at_least(&self, parent: &Walls) -> bool {
        let program = self.program.is_some() || parent.program.is_none();
        let hidden = parent.hidden.iter().all(|path| self.hidden.contains(path));
        let writable = self.writable.iter().all(|path| parent.lets_write(path));
        let home = parent.home.is_none() || self.home == parent.home;
        let readable = self.readable.iter().all(|path| parent.lets_read(path));
        self.sandbox.rank() >= parent.sandbox.rank() && program && hidden && writable && home && readable
    }

    /// Tightens these settings to those of `parent`.
    pub fn within(mut self, parent: &Walls) -> Walls {
        if parent.sandbox.rank() > self.sandbox.rank() {
            self.sandbox = parent.sandbox;
        }
        self.program = self.program.or_else(|| parent.program.clone());
        for path in &parent.hidden {
            if !self.hidden.contains(path) {
                self.hidden.push(path.clone());
            }
        }
        self.writable.retain(|path| parent.lets_write(path));
        self.readable.retain(|path| parent.lets_read(path));
        self.home = self.home.or_else(|| parent.home.clone());
        self
    }

    /// Returns true if this sandbox shows a path: the path is granted, or neither below an empty home directory nor
    /// hidden.
    fn lets_read(&self, path: &str) -> bool {
        let within = |place: &String| Path::new(path).starts_with(place);
        let is_empty = self.home.as_ref().is_some_and(within);
        let is_hidden = self.hidden.iter().any(within);
        let shown = self.readable.iter().chain(&self.writable).any(within);
        Self::is_plain(path) && (shown || !is_empty && !is_hidden)
    }

    /// Returns true if a path is writable beside the working directory. Of several places around the path, the deepest
    /// decides.
    fn lets_write(&self, path: &str) -> bool {
        let deepest = |places: &[String]| {
            let around = places.iter().map(Path::new).filter(|place| Path::new(path).starts_with(place));
            around.map(|place| place.components().count()).max()
        };
        Self::is_plain(path) && deepest(&self.writable) > deepest(&self.hidden)
    }

    /// Returns true if a path is absolute and contains no `..`.
    pub fn is_plain(path: &str) -> bool {
        let mut parts = Path::new(path).components();
        path.starts_with('/') && parts.all(|part| !matches!(part, Component::ParentDir))
    }
}

impl Sandbox {
    /// Rank of strictness, for comparison. A stricter sandbox has a higher rank.
    fn rank(self) -> u8 {
        match self {
            Sandbox::None => 0,
            Sandbox::Workdir => 1,
            Sandbox::Strict => 2,
        }
    }
}
