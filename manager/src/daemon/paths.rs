//! The paths of a daemon's files, found in the same way by the daemon and by the command line.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

use super::socket::{check_length, check_place};
use crate::session_manager::SessionManager;

/// Paths of a daemon's files. The command line and the daemon resolve them in the same way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// The state directory.
    pub state_dir: PathBuf,
    /// A flag or `KENNEL_STATE_DIR` names the state directory.
    pub state_dir_named: bool,
    /// The socket, where the state directory has no address.
    pub socket: PathBuf,
    /// `KENNEL_SOCKET` names the socket.
    pub named: bool,
    /// The configuration.
    pub config: PathBuf,
    /// `KENNEL_CONFIG` names the configuration.
    pub config_named: bool,
}

impl Paths {
    /// Makes sure that `KENNEL_SOCKET`, if it is set, names nothing that is no socket.
    pub fn check_socket(&self) -> Result<(), PathsError> {
        match self.named.then(|| check_place(&self.socket)) {
            Some(Err(source)) => Err(PathsError::Socket { path: self.socket.clone(), source }),
            _ => Ok(()),
        }
    }

    /// Makes sure that a file is there if `KENNEL_CONFIG` names one: without it a daemon would run with other agents and
    /// sandboxes than those that were meant.
    pub fn check_config(&self) -> Result<(), PathsError> {
        match self.config_named.then(|| fs::metadata(&self.config)) {
            Some(Err(source)) => Err(PathsError::Config { path: self.config.clone(), source }),
            _ => Ok(()),
        }
    }
}

/// Returns whether two paths name the same file, which need not exist.
pub fn same_file(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    one == other || real(one) == real(other)
}

/// Reason for which a daemon has no directory for its files.
#[derive(Debug, thiserror::Error)]
pub enum PathsError {
    /// No option or variable names the directory.
    #[error("HOME is not set; say where the state directory is with --state-dir or KENNEL_STATE_DIR")]
    NoHome,
    /// The current directory cannot be read, and a path is relative to it.
    #[error("cannot read the current directory: {0}")]
    CurrentDir(io::Error),
    /// The state directory's name is not one.
    #[error("the state directory: {0}")]
    StateDir(String),
    /// `KENNEL_SOCKET` can be no socket.
    #[error("KENNEL_SOCKET names {}: {source}", path.display())]
    Socket {
        /// The path that the variable names.
        path: PathBuf,
        /// Why that cannot be.
        source: io::Error,
    },
    /// `KENNEL_CONFIG` names no file.
    #[error(
        "KENNEL_CONFIG names {}: {source}; no daemon was started. Make the file (it may be empty), or unset KENNEL_CONFIG", path.display()
    )]
    Config {
        /// The path that the variable names.
        path: PathBuf,
        /// Why it cannot be read.
        source: io::Error,
    },
    /// Somebody else made the directory that would be ours.
    #[error("{} is not a directory that only you can use; remove it or set KENNEL_SOCKET", .0.display())]
    NotOurs(PathBuf),
}

/// Finds the places, from the flag, the environment, and the rules of XDG
/// (<https://specifications.freedesktop.org/basedir-spec/latest/>). Creates nothing.
///
/// State directory: `--state-dir`, `KENNEL_STATE_DIR`, `$XDG_STATE_HOME/kennel`, `~/.local/state/kennel`.
/// Socket, where no daemon has written its address into the state directory: `KENNEL_SOCKET`; else in `$XDG_RUNTIME_DIR/kennel/`, `kennel.sock` for the default state directory
/// and a hash of the path for another; else in the state directory; else, if that path is too long for a
/// socket, in `/tmp/kennel-UID/`. Configuration: `KENNEL_CONFIG`, `$XDG_CONFIG_HOME/kennel/config.toml`,
/// `~/.config/kennel/config.toml`.
pub fn paths(state_dir: Option<PathBuf>) -> Result<Paths, PathsError> {
    let env = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    resolve(state_dir, &env, geteuid().as_raw(), Path::new("/tmp"))
}

pub(super) fn resolve(
    flag: Option<PathBuf>,
    env: &dyn Fn(&str) -> Option<OsString>,
    uid: u32,
    tmp: &Path,
) -> Result<Paths, PathsError> {
    // The specification: a relative path in an XDG variable is to be ignored.
    let xdg = |name: &str| env(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let home =
        |below: &str| env("HOME").map(|home| PathBuf::from(home).join(below)).ok_or(PathsError::NoHome);
    let absolute = |path: PathBuf| std::path::absolute(path).map_err(PathsError::CurrentDir);

    let default =
        xdg("XDG_STATE_HOME").map_or_else(|| home(".local/state"), Ok).map(|dir| dir.join("kennel"));
    let named = flag.or_else(|| env("KENNEL_STATE_DIR").map(PathBuf::from));
    let state_dir_named = named.is_some();
    let (state_dir, is_default) = match named {
        None => (absolute(default?)?, true),
        Some(path) => {
            let path = absolute(path)?;
            let hash = short_hash(&path)?;
            let same = default.is_ok_and(|default| short_hash(&default).is_ok_and(|other| other == hash));
            (path, same)
        }
    };
    let (config, config_named) = match env("KENNEL_CONFIG") {
        Some(path) => (absolute(path.into())?, true),
        None => {
            let dir = xdg("XDG_CONFIG_HOME").map_or_else(|| home(".config"), Ok);
            // Without a home there is no configuration, which is not an error: the state directory was named.
            let config =
                dir.map_or_else(|_| state_dir.join("config.toml"), |dir| dir.join("kennel/config.toml"));
            (config, false)
        }
    };
    if let Some(socket) = env("KENNEL_SOCKET") {
        let socket = absolute(socket.into())?;
        if let Err(source) = check_length(&socket) {
            return Err(PathsError::Socket { path: socket, source });
        }
        return Ok(Paths { state_dir, state_dir_named, socket, named: true, config, config_named });
    }
    let hashed = format!("{}.sock", short_hash(&state_dir)?);
    let runtime = xdg("XDG_RUNTIME_DIR").filter(|dir| is_private(dir, uid)).map(|dir| {
        let name = if is_default { "kennel.sock" } else { &hashed };
        dir.join("kennel").join(name)
    });
    let beside = state_dir.join(crate::supervisor::SOCKET);
    let fits = |path: &PathBuf| check_length(path).is_ok();
    if let Some(socket) = runtime.filter(fits).or(Some(beside).filter(fits)) {
        return Ok(Paths { state_dir, state_dir_named, socket, named: false, config, config_named });
    }
    let dir = tmp.join(format!("kennel-{uid}"));
    // In /tmp anybody can be there first and wait for what we would tell him.
    if fs::symlink_metadata(&dir).is_ok() && !is_private(&dir, uid) {
        return Err(PathsError::NotOurs(dir));
    }
    let socket = dir.join(hashed);
    Ok(Paths { state_dir, state_dir_named, socket, named: false, config, config_named })
}

/// The file with the names of other machines: `$XDG_CONFIG_HOME/kennel/hosts.toml`, `~/.config/kennel/hosts.toml`.
///
/// # Errors
/// Neither variable names a directory.
pub fn hosts() -> Result<PathBuf, PathsError> {
    let env = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let config = env("XDG_CONFIG_HOME").filter(|dir| dir.is_absolute());
    let config = config.or_else(|| env("HOME").map(|home| home.join(".config")));
    config.map(|dir| dir.join("kennel/hosts.toml")).ok_or(PathsError::NoHome)
}

/// Returns other paths for the socket, for a daemon whose socket vanished together with its directory.
pub(super) fn other_sockets(state_dir: &Path) -> Vec<PathBuf> {
    let no_environment = |_: &str| None;
    let found = resolve(Some(state_dir.to_owned()), &no_environment, geteuid().as_raw(), Path::new("/tmp"));
    found.map(|paths| paths.socket).into_iter().collect()
}

/// Returns whether the path is a directory, not a link, that only this user can use.
fn is_private(dir: &Path, uid: u32) -> bool {
    fs::symlink_metadata(dir)
        .is_ok_and(|found| found.is_dir() && found.uid() == uid && found.mode() & 0o077 == 0)
}

/// 16 hex digits that stand for a directory, however its path is spelled and whether or not it exists yet: those
/// of a working directory's stable id.
fn short_hash(dir: &Path) -> Result<String, PathsError> {
    let id = SessionManager::stable_session_id_for_workdir(dir)
        .map_err(|error| PathsError::StateDir(error.to_string()))?;
    Ok(id.as_str().trim_start_matches("workdir-").to_owned())
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::HashMap;
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};

    use super::*;

    pub struct World {
        root: tempfile::TempDir,
        pub env: HashMap<&'static str, OsString>,
    }

    impl World {
        pub fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            let env = HashMap::from([("HOME", root.path().join("home").into())]);
            Self { root, env }
        }

        pub fn path(&self, below: &str) -> PathBuf {
            self.root.path().join(below)
        }

        pub fn with(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
            self.env.insert(name, value.into());
            self
        }

        /// A directory for XDG_RUNTIME_DIR, with this mode.
        fn with_runtime(self, mode: u32) -> Self {
            let dir = self.path("run");
            fs::DirBuilder::new().mode(mode).create(&dir).unwrap();
            self.with("XDG_RUNTIME_DIR", dir)
        }

        pub fn resolve(&self, flag: Option<&Path>) -> Result<Paths, PathsError> {
            let env = |name: &str| self.env.get(name).cloned();
            resolve(flag.map(Into::into), &env, geteuid().as_raw(), &self.path("tmp"))
        }
    }

    #[test]
    fn without_anything_said_all_is_below_home() {
        let world = World::new();
        let found = world.resolve(None).unwrap();
        assert_eq!(found.state_dir, world.path("home/.local/state/kennel"));
        assert_eq!(found.config, world.path("home/.config/kennel/config.toml"));
        assert_eq!(found.socket, world.path("home/.local/state/kennel/kennel.sock"));
    }

    #[test]
    fn xdg_directories_are_used_and_relative_ones_ignored() {
        let world =
            World::new().with("XDG_STATE_HOME", "/s").with("XDG_CONFIG_HOME", "/c").with_runtime(0o700);
        let found = world.resolve(None).unwrap();
        assert_eq!(found.state_dir, Path::new("/s/kennel"));
        assert_eq!(found.config, Path::new("/c/kennel/config.toml"));
        assert_eq!(found.socket, world.path("run/kennel/kennel.sock"));
        let world = World::new()
            .with("XDG_STATE_HOME", "s")
            .with("XDG_CONFIG_HOME", "c")
            .with("XDG_RUNTIME_DIR", "r");
        assert_eq!(world.resolve(None).unwrap(), {
            let state_dir = world.path("home/.local/state/kennel");
            let socket = state_dir.join("kennel.sock");
            let config = world.path("home/.config/kennel/config.toml");
            Paths { state_dir, state_dir_named: false, socket, named: false, config, config_named: false }
        });
    }

    #[test]
    fn a_runtime_directory_that_others_can_use_is_not_used() {
        let world = World::new().with_runtime(0o755);
        fs::set_permissions(world.path("run"), fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(world.resolve(None).unwrap().socket, world.path("home/.local/state/kennel/kennel.sock"));
    }

    #[test]
    fn another_state_directory_has_another_socket() {
        let world = World::new().with_runtime(0o700).with("KENNEL_STATE_DIR", "/elsewhere");
        let a = world.resolve(None).unwrap();
        assert_eq!(a.state_dir, Path::new("/elsewhere"));
        let name = a.socket.file_name().unwrap().to_str().unwrap();
        assert!(name.len() == 21 && name.ends_with(".sock"), "{name}");
        assert_eq!(a.socket.parent(), Some(&*world.path("run/kennel")));
        let b = world.resolve(Some(Path::new("/flag/wins"))).unwrap();
        assert_eq!(b.state_dir, Path::new("/flag/wins"));
        assert_ne!(a.socket, b.socket);
    }

    #[test]
    fn the_default_state_directory_named_by_hand_is_the_default_one() {
        let world = World::new().with_runtime(0o700);
        let named = world.resolve(Some(&world.path("home/.local/state/kennel"))).unwrap();
        assert_eq!(named, Paths { state_dir_named: true, ..world.resolve(None).unwrap() });
    }

    #[test]
    fn the_socket_of_a_state_directory_is_the_same_through_links_and_before_it_exists() {
        let world = World::new().with_runtime(0o700);
        fs::create_dir(world.path("real")).unwrap();
        std::os::unix::fs::symlink(world.path("real"), world.path("link")).unwrap();
        let through_link = world.resolve(Some(&world.path("link/state"))).unwrap().socket;
        let direct = world.resolve(Some(&world.path("real/state"))).unwrap().socket;
        assert_eq!(through_link, direct);
        fs::create_dir(world.path("real/state")).unwrap();
        assert_eq!(world.resolve(Some(&world.path("link/state/"))).unwrap().socket, direct);
    }

    #[test]
    fn a_path_too_long_for_a_socket_gets_a_short_one_in_tmp() {
        let world = World::new();
        let long = world.path(&"x".repeat(120));
        let found = world.resolve(Some(&long)).unwrap();
        let uid = geteuid().as_raw();
        assert_eq!(found.state_dir, long);
        assert_eq!(found.socket.parent(), Some(&*world.path(&format!("tmp/kennel-{uid}"))));
        // Somebody else was there first.
        fs::create_dir(world.path("tmp")).unwrap();
        std::os::unix::fs::symlink("/", world.path(&format!("tmp/kennel-{uid}"))).unwrap();
        assert!(matches!(world.resolve(Some(&long)), Err(PathsError::NotOurs(_))));
    }

    #[test]
    fn what_is_named_in_the_environment_wins() {
        let world = World::new()
            .with("KENNEL_SOCKET", "/s.sock")
            .with("KENNEL_CONFIG", "/c.toml")
            .with_runtime(0o700);
        let found = world.resolve(None).unwrap();
        assert_eq!((&*found.socket, &*found.config), (Path::new("/s.sock"), Path::new("/c.toml")));
        let world = world.with("KENNEL_SOCKET", format!("/{}", "x".repeat(107)));
        assert!(matches!(world.resolve(None), Err(PathsError::Socket { .. })));
    }

    #[test]
    fn a_configuration_that_is_named_must_be_there() {
        let world = World::new();
        assert!(world.resolve(None).unwrap().check_config().is_ok(), "none is needed");
        let named = world.path("named.toml");
        let world = world.with("KENNEL_CONFIG", &named);
        let said = world.resolve(None).unwrap().check_config().unwrap_err().to_string();
        for word in
            ["KENNEL_CONFIG names", named.to_str().unwrap(), "No such file", "no daemon was started", "unset"]
        {
            assert!(said.contains(word), "{said}");
        }
        fs::write(&named, "").unwrap();
        assert!(world.resolve(None).unwrap().check_config().is_ok());
    }

    #[test]
    fn without_a_home_a_state_directory_must_be_named() {
        let mut world = World::new();
        world.env.clear();
        assert!(matches!(world.resolve(None), Err(PathsError::NoHome)));
        let found = world.resolve(Some(Path::new("/state"))).unwrap();
        assert_eq!(found.config, Path::new("/state/config.toml"));
        assert_eq!(found.socket, Path::new("/state/kennel.sock"));
    }
}
