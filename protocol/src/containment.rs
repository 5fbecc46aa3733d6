//! What holds the processes of an agent together, so that none is left behind.

use std::fmt;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

/// How they are held, where that was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "api", derive(utoipa::ToSchema))]
pub enum Containment {
    /// As well as the machine can.
    #[default]
    Auto,
    /// By a PID namespace, or not at all.
    PidNamespace,
    /// By their worker alone, without a namespace.
    Subreaper,
}

/// How they are held. On the wire: grows by appending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "api", derive(utoipa::ToSchema))]
pub enum Level {
    /// They are in a PID namespace of their own (pid_namespaces(7)): with its first process the kernel ends all of them.
    PidNamespace,
    /// The same, but `/proc` shows them the machine's pids and not those that they have inside.
    PidNamespaceSharedProc,
    /// The worker inherits what their parents leave (`PR_SET_CHILD_SUBREAPER`), and ends it.
    Subreaper,
    /// The same, and they are in a control group (cgroups(7)): by it the manager finds those that have got away from their worker,
    /// and the next manager those that it missed.
    Cgroup,
}

impl Level {
    /// All of them, the best first.
    pub const ALL: [Level; 4] =
        [Level::PidNamespace, Level::PidNamespaceSharedProc, Level::Cgroup, Level::Subreaper];

    /// Whether the kernel ends all of them at once, whoever is dead by then.
    pub fn is_namespace(self) -> bool {
        match self {
            Level::PidNamespace | Level::PidNamespaceSharedProc => true,
            Level::Cgroup | Level::Subreaper => false,
        }
    }

    /// Its name in the API.
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

/// What an agent can reach, where that was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "api", derive(utoipa::ToSchema))]
pub enum Sandbox {
    /// All that its user can.
    #[default]
    None,
    /// It writes below its working directory and to temporary files of its own only; secrets are hidden.
    Workdir,
    /// The same without a network, and with an empty home directory but for what is granted.
    Strict,
}

impl Sandbox {
    /// Its name in the configuration and the API.
    pub fn name(self) -> &'static str {
        match self {
            Sandbox::None => "none",
            Sandbox::Workdir => "workdir",
            Sandbox::Strict => "strict",
        }
    }
}

/// What keeps an agent in its sandbox. On the wire: grows by appending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "api", derive(utoipa::ToSchema))]
pub enum SandboxBy {
    /// bubblewrap: namespaces and mounts.
    Bubblewrap,
    /// Mounts of kennel's own, and the kernel's Landlock: weaker, and no other sandbox nests in it.
    Landlock,
}

/// The sandbox that an agent is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "api", derive(utoipa::ToSchema))]
pub struct Sandboxed {
    /// Which.
    pub sandbox: Sandbox,
    /// What keeps it there.
    pub by: SandboxBy,
}

impl Walls {
    /// The sandbox that they are.
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

/// What a worker needs to put its agent in a sandbox: what the profile has settled when the session was created. All paths
/// are absolute.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Walls {
    /// Which sandbox.
    pub sandbox: Sandbox,
    /// The `bwrap` program; none: kennel mounts by itself, and Landlock is to do.
    pub program: Option<String>,
    /// Files and directories that are not to be seen, also if they come to be only later.
    pub hidden: Vec<String>,
    /// Files and directories that may be written beside the working directory, without symlinks in their paths.
    pub writable: Vec<String>,
    /// Files and directories that may be read where all else is hidden, without symlinks in their paths.
    #[serde(default)]
    pub readable: Vec<String>,
    /// The home directory, where it is to be empty but for what is granted.
    #[serde(default)]
    pub home: Option<String>,
    /// What lay at the working directory and at `writable` and `readable` when the session was created.
    #[serde(default)]
    pub granted: Vec<Granted>,
    /// The boot in which that was so: devices have other numbers in the next.
    #[serde(default)]
    pub boot_id: String,
}

/// A place that was granted, and what lay there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Granted {
    /// Its path.
    pub path: String,
    /// The device of its file system; none: not known in this boot.
    pub device: Option<u64>,
    /// Its inode.
    pub inode: u64,
    /// When it was made, in nanoseconds since the epoch, if its file system knows. Inodes are used again.
    pub born: Option<i64>,
}

impl Granted {
    /// What lies at a path: `metadata` is of what was opened there.
    pub fn of(path: String, metadata: &Metadata) -> Self {
        let born = metadata.created().ok().and_then(|born| born.duration_since(UNIX_EPOCH).ok());
        Self {
            path,
            device: Some(metadata.dev()),
            inode: metadata.ino(),
            born: born.and_then(|born| i64::try_from(born.as_nanos()).ok()),
        }
    }

    /// Whether `now`, seen at the same path, is the same.
    pub fn is(&self, now: &Granted) -> bool {
        fn agree<T: PartialEq>(before: &Option<T>, now: &Option<T>) -> bool {
            before.is_none() || now.is_none() || before == now
        }
        self.inode == now.inode && agree(&self.device, &now.device) && agree(&self.born, &now.born)
    }
}

/// Where a path really is, as far as there is something: manager and worker settle by it what is hidden.
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
    /// Whether whoever is behind these walls reaches nothing that `parent` keeps from its own agent. The agent of `parent`
    /// writes its working directory, too, and a working directory of these walls is below that: neither is compared here.
    pub fn is_at_least(&self, parent: &Walls) -> bool {
        let program = self.program.is_some() || parent.program.is_none();
        let hidden = parent.hidden.iter().all(|path| self.hidden.contains(path));
        let writable = self.writable.iter().all(|path| parent.lets_write(path));
        let home = parent.home.is_none() || self.home == parent.home;
        let readable = self.readable.iter().all(|path| parent.lets_read(path));
        self.sandbox.rank() >= parent.sandbox.rank() && program && hidden && writable && home && readable
    }

    /// These walls with those of `parent` around them.
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

    /// Whether a path is in what is shown of the home directory, or where nothing is empty. What is hidden there stays so by
    /// [`Walls::hidden`].
    fn lets_read(&self, path: &str) -> bool {
        let within = |place: &String| Path::new(path).starts_with(place);
        let is_empty = self.home.as_ref().is_some_and(within);
        let is_hidden = self.hidden.iter().any(within);
        let shown = self.readable.iter().chain(&self.writable).any(within);
        Self::is_plain(path) && (shown || !is_empty && !is_hidden)
    }

    /// Whether a path is in what may be written, beside the working directory. Of two places the deeper one decides.
    fn lets_write(&self, path: &str) -> bool {
        let deepest = |places: &[String]| {
            let around = places.iter().map(Path::new).filter(|place| Path::new(path).starts_with(place));
            around.map(|place| place.components().count()).max()
        };
        Self::is_plain(path) && deepest(&self.writable) > deepest(&self.hidden)
    }

    /// Whether a path is absolute and has no `..` in it, so that its names say where it leads.
    pub fn is_plain(path: &str) -> bool {
        let mut parts = Path::new(path).components();
        path.starts_with('/') && parts.all(|part| !matches!(part, Component::ParentDir))
    }
}

impl Sandbox {
    /// How much it keeps from an agent, for comparison.
    fn rank(self) -> u8 {
        match self {
            Sandbox::None => 0,
            Sandbox::Workdir => 1,
            Sandbox::Strict => 2,
        }
    }
}
