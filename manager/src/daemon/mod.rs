//! The daemon around a [`SessionManager`]: where its files lie, how it takes and leaves its socket, and how it
//! ends.

use std::ffi::OsString;
use std::fs;
use std::io::{self, IsTerminal};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::SigSet;
use protocol::wire::Inherited;
use protocol::{MARKER, failpoint};
use rustix::fs::Mode;
use rustix::process::{Resource, geteuid, getrlimit, setrlimit, umask};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::api::{self, Leave, Stop};
use crate::error::StartError;
use crate::session_manager::SessionManager;

pub mod aloof;
pub(crate) mod doctor;
mod socket;

use socket::{Keeper, check_length, check_place};

/// How long requests may run on after the manager has ended.
const DRAIN: Duration = Duration::from_secs(2);

/// How the daemon is to run.
#[derive(Clone, Debug)]
pub struct DaemonOptions {
    /// Where the journal, the lock and the logs lie.
    pub state_dir: PathBuf,
    /// Where it listens.
    pub socket: PathBuf,
    /// `config.toml`; it need not exist.
    pub config: PathBuf,
    /// The `session-worker` program; else the one beside this executable.
    pub worker_path: Option<PathBuf>,
}

/// Why the daemon could not run, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It would be one of its own predecessor's processes, and be ended with that session.
    #[error(
        "this process belongs to a kennel session ({MARKER} is set), and a daemon started here would end with \
         it. Start it from outside, or clear the variable if you know that it is a leftover"
    )]
    InsideSession,
    /// The manager could not be started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The socket could not be taken.
    #[error("cannot listen on {}: {source}", path.display())]
    Socket {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The operating system refused something the daemon cannot do without.
    #[error("{what}: {source}")]
    Os {
        /// What.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The manager's loop ended without having been asked to.
    #[error("the manager has ended unexpectedly; its sessions' processes end by themselves")]
    Lost,
    /// Interrupted a second time.
    #[error("left at once; what still runs is for the next daemon, or ends by itself within the hour")]
    Hurried,
}

/// Runs the daemon in this process, until it is told to end. By SIGTERM or SIGHUP, or by `POST /v1/manager/stop` with
/// `hand_over`: then all processes of its sessions go on, and the next daemon takes them over. By SIGINT, or by
/// `POST /v1/manager/stop`: then they end with it; which sessions are wanted up is kept, and the
/// next daemon over the same state directory brings them back.
///
/// # Errors
/// [`StartError::Locked`] if another daemon serves the state directory; nothing is touched then.
pub fn run(options: DaemonOptions) -> Result<(), RunError> {
    if std::env::var_os(MARKER).is_some() {
        return Err(RunError::InsideSession);
    }
    start_log();
    let os = |what| move |source: io::Error| RunError::Os { what, source };
    // Whoever started this may have blocked signals, and all threads would inherit it: before any is made.
    SigSet::empty().thread_set_mask().map_err(|error| os("cannot reset the signal mask")(error.into()))?;
    // What this process sets for itself is not what sessions' programs inherit.
    let inherited = Inherited {
        umask: Some(umask(Mode::from_raw_mode(0o077)).as_raw_mode() & 0o777),
        open_files: getrlimit(Resource::Nofile).current,
        places: Vec::new(),
    };
    raise_limit();
    protect();
    let options = options.absolute().map_err(os("cannot read the current directory"))?;
    // A daemon must not keep a file system busy only because it was started there.
    std::env::set_current_dir("/").map_err(os("cannot change to /"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(os("cannot build a runtime"))?;
    let result = runtime.block_on(live(options, inherited));
    // A file system that hangs may hold a blocking thread for ever.
    runtime.shutdown_background();
    result
}

async fn live(options: DaemonOptions, inherited: Inherited) -> Result<(), RunError> {
    // First of all, so that an early signal is heard and does not kill.
    let os = |what| move |source: io::Error| RunError::Os { what, source };
    let mut signals = Signals::new().map_err(os("cannot listen for signals"))?;
    let mut builder =
        SessionManager::builder().state_dir(&options.state_dir).config(&options.config).whole_process(true);
    builder = builder.inherited(inherited);
    if let Some(path) = &options.worker_path {
        builder = builder.worker_path(path);
    }
    match std::env::current_exe() {
        Ok(kennel) => builder = builder.mcp_server(kennel, &options.socket),
        Err(error) => {
            tracing::warn!("agents are offered no sub-agents: this program's path is not known: {error}")
        }
    }
    // A place that is no good is no reason to take the sessions over first.
    let socket = |source| RunError::Socket { path: options.socket.clone(), source };
    crate::supervisor::trusted(&options.state_dir)?;
    check_place(&options.socket).map_err(socket)?;
    let manager = builder.start().await?;
    // Only now: whoever has not the state directory has no business with its socket.
    let state_dir = manager.state_dir().to_owned();
    let others = other_sockets(&state_dir);
    let taken = Keeper::take(&options.socket, others, &state_dir, manager.clone()).await;
    let (mut keeper, listener) = match taken {
        Ok(taken) => taken,
        Err(source) => {
            // Its sessions' processes are for a daemon that has a socket.
            manager.hand_over().await;
            return Err(socket(source));
        }
    };
    failpoint::hit("daemon", "listening");
    tracing::info!(
        "kennel {} serves {} on {} (pid {})",
        crate::VERSION,
        options.state_dir.display(),
        options.socket.display(),
        std::process::id()
    );
    let stop = Stop::default();
    let closed = Stop::default();
    let end = closed.clone();
    let router = api::router(manager.clone(), stop.clone());
    let ended = async move { _ = end.requested().await };
    let (moved, listeners) = mpsc::channel(1);
    let mut server = tokio::spawn(api::serve(listener, listeners, router, manager.connections(), ended));

    let (how, result) = tokio::select! {
        // Who types Ctrl-C wants all of it gone; a service manager that starts it anew does not.
        name = signals.any() => (if name == "SIGINT" { Leave::EndAll } else { Leave::HandOver }, Ok(name)),
        how = stop.requested() => (how, Ok("asked to stop")),
        () = manager.ended() => (Leave::EndAll, Err(RunError::Lost)),
        ended = &mut server => (Leave::EndAll, Err(server_ended(ended))),
        () = keeper.keep(&moved) => (Leave::EndAll, Ok("another daemon serves the state directory")),
    };
    // No next daemon can know of them.
    let how = if manager.state_dir_gone() { Leave::EndAll } else { how };
    // Clients that ask now hear that it is stopping, and not that there is no daemon.
    stop.request(how);
    let result = match (how, result) {
        (Leave::HandOver, Ok(why)) => {
            tracing::info!("{why}: leaving all sessions' processes to the next daemon");
            failpoint::hit("daemon", "handing-over");
            manager.hand_over().await;
            failpoint::hit("daemon", "handed-over");
            Ok(())
        }
        (_, result) => {
            tracing::info!("{}: ending all sessions' processes", result.as_ref().unwrap_or(&"in trouble"));
            tokio::select! {
                () = manager.shutdown() => result.map(drop),
                () = signals.interrupt() => Err(RunError::Hurried),
            }
        }
    };
    closed.request(how);
    if !matches!(result, Err(RunError::Hurried))
        && !server.is_finished()
        && timeout(DRAIN, &mut server).await.is_err()
    {
        tracing::warn!("requests that still ran were cut off");
    }
    keeper.leave();
    tracing::info!("gone");
    result
}

fn server_ended(ended: Result<io::Result<()>, tokio::task::JoinError>) -> RunError {
    let source = match ended {
        Ok(Ok(())) => io::ErrorKind::UnexpectedEof.into(),
        Ok(Err(error)) => error,
        Err(error) => io::Error::other(error),
    };
    RunError::Os { what: "the server ended", source }
}

impl DaemonOptions {
    fn absolute(self) -> io::Result<Self> {
        Ok(Self {
            state_dir: std::path::absolute(self.state_dir)?,
            socket: std::path::absolute(self.socket)?,
            config: std::path::absolute(self.config)?,
            worker_path: self.worker_path.map(std::path::absolute).transpose()?,
        })
    }
}

/// Log lines go to standard error: to the terminal, the journal of systemd, or the file that the CLI gave.
fn start_log() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("KENNEL_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| Harmless).with_ansi(false);
    // systemd writes the time itself, a person at a terminal knows it.
    #[allow(clippy::disallowed_methods, reason = "it is only asked what it is")]
    let is_terminal = io::stderr().is_terminal();
    let tried = if is_terminal { log.without_time().try_init() } else { log.try_init() };
    // An embedding program, or a test, has set up a log of its own.
    drop(tried);
}

/// Standard error, for lines of the log in which strangers' words stand: a path, an error, an agent's id.
struct Harmless;

impl io::Write for Harmless {
    /// A whole event: that is how they come.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = crate::cli::ui::render::logged(&String::from_utf8_lossy(event));
        #[allow(clippy::disallowed_methods, reason = "the log's one writer")]
        // A log that nobody reads, or a full disk, is no reason to end: tracing would panic over an error.
        let _ = io::stderr().lock().write_all(text.as_bytes());
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Each session costs a few descriptors; the usual soft limit of 1024 is for programs that use select(2).
fn raise_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!("the limit on open files stays as it is: {error}");
    }
}

/// What the kernel's search for memory is told of this process (proc_pid_oom_score_adj(5)): far less likely than others to be
/// killed, and not beyond reach, should it be the one that eats all of it. Workers inherit it, agents get one of their own.
const OOM_SCORE: i32 = -500;

/// When memory runs out, agents are to go and not what brings them back. Only who has CAP_SYS_RESOURCE may say so.
fn protect() {
    let path = "/proc/self/oom_score_adj";
    let now = std::fs::read_to_string(path).ok().and_then(|score| score.trim().parse::<i32>().ok());
    // Whoever started this may have said more.
    if now.is_some_and(|now| now > OOM_SCORE)
        && let Err(error) = std::fs::write(path, OOM_SCORE.to_string())
    {
        tracing::debug!(%error, "the kernel may kill this process as well as others when memory runs out");
    }
}

/// The signals that end the daemon, as bytes on self-pipes.
struct Signals {
    terminate: UnixStream,
    interrupt: UnixStream,
    hangup: UnixStream,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self { terminate: pipe_of(SIGTERM)?, interrupt: pipe_of(SIGINT)?, hangup: pipe_of(SIGHUP)? })
    }

    /// The first of any kind.
    async fn any(&mut self) -> &'static str {
        tokio::select! {
            () = heard(&mut self.terminate) => "SIGTERM",
            () = heard(&mut self.interrupt) => "SIGINT",
            () = heard(&mut self.hangup) => "SIGHUP",
        }
    }

    /// The next SIGINT.
    async fn interrupt(&mut self) {
        heard(&mut self.interrupt).await;
    }
}

fn pipe_of(signal: i32) -> io::Result<UnixStream> {
    let (ours, handlers) = std::os::unix::net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    signal_hook::low_level::pipe::register(signal, OwnedFd::from(handlers))?;
    UnixStream::from_std(ours)
}

async fn heard(pipe: &mut UnixStream) {
    let mut byte = [0];
    match pipe.read(&mut byte).await {
        Ok(1) => {}
        // Its other end lives as long as the process; if it does not, no signal will ever be heard there.
        _ => std::future::pending().await,
    }
}

/// Where a daemon's files lie. The CLI and the daemon come to the same answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// The state directory.
    pub state_dir: PathBuf,
    /// The socket, where the state directory has no address.
    pub socket: PathBuf,
    /// `KENNEL_SOCKET` names the socket.
    pub named: bool,
    /// The configuration.
    pub config: PathBuf,
}

impl Paths {
    /// Makes sure that `KENNEL_SOCKET`, if it is set, names nothing that is no socket.
    pub fn check_socket(&self) -> Result<(), PathsError> {
        match self.named.then(|| check_place(&self.socket)) {
            Some(Err(source)) => Err(PathsError::Socket { path: self.socket.clone(), source }),
            _ => Ok(()),
        }
    }
}

/// Whether two paths lead to one file, or would.
pub fn same_file(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    one == other || real(one) == real(other)
}

/// Whether this kennel can read what the daemon over these paths has written. Changes nothing.
pub fn check(paths: &Paths) -> Result<(), StartError> {
    crate::supervisor::check(&paths.state_dir)
}

/// Why there is no place for a daemon's files.
#[derive(Debug, thiserror::Error)]
pub enum PathsError {
    /// Nothing says where.
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
        /// What it names.
        path: PathBuf,
        /// Why that cannot be.
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

fn resolve(
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
    let (state_dir, is_default) = match flag.or_else(|| env("KENNEL_STATE_DIR").map(PathBuf::from)) {
        None => (absolute(default?)?, true),
        Some(path) => {
            let path = absolute(path)?;
            let hash = short_hash(&path)?;
            let same = default.is_ok_and(|default| short_hash(&default).is_ok_and(|other| other == hash));
            (path, same)
        }
    };
    let config = match env("KENNEL_CONFIG") {
        Some(path) => absolute(path.into())?,
        None => {
            let dir = xdg("XDG_CONFIG_HOME").map_or_else(|| home(".config"), Ok);
            // Without a home there is no configuration, which is not an error: the state directory was named.
            dir.map_or_else(|_| state_dir.join("config.toml"), |dir| dir.join("kennel/config.toml"))
        }
    };
    if let Some(socket) = env("KENNEL_SOCKET") {
        let socket = absolute(socket.into())?;
        if let Err(source) = check_length(&socket) {
            return Err(PathsError::Socket { path: socket, source });
        }
        return Ok(Paths { state_dir, socket, named: true, config });
    }
    let hashed = format!("{}.sock", short_hash(&state_dir)?);
    let runtime = xdg("XDG_RUNTIME_DIR").filter(|dir| is_private(dir, uid)).map(|dir| {
        let name = if is_default { "kennel.sock" } else { &hashed };
        dir.join("kennel").join(name)
    });
    let beside = state_dir.join(crate::supervisor::SOCKET);
    let fits = |path: &PathBuf| check_length(path).is_ok();
    if let Some(socket) = runtime.filter(fits).or(Some(beside).filter(fits)) {
        return Ok(Paths { state_dir, socket, named: false, config });
    }
    let dir = tmp.join(format!("kennel-{uid}"));
    // In /tmp anybody can be there first and wait for what we would tell him.
    if fs::symlink_metadata(&dir).is_ok() && !is_private(&dir, uid) {
        return Err(PathsError::NotOurs(dir));
    }
    Ok(Paths { state_dir, socket: dir.join(hashed), named: false, config })
}

/// Where a daemon listens whose own socket has vanished with its directory.
fn other_sockets(state_dir: &Path) -> Vec<PathBuf> {
    let no_environment = |_: &str| None;
    let found = resolve(Some(state_dir.to_owned()), &no_environment, geteuid().as_raw(), Path::new("/tmp"));
    found.map(|paths| paths.socket).into_iter().collect()
}

/// Whether this is a directory, no link to one, that only this user can use.
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

/// A systemd user unit for this program over these paths, for `~/.config/systemd/user/kennel.service`. It names the paths
/// that a user's service would not find by itself: that has the user's home directory and no other variable of this terminal.
pub fn unit(exe: &Path, paths: &Paths) -> String {
    unit_beside(exe, paths, &|name| std::env::var_os(name).filter(|_| name == "HOME"))
}

fn unit_beside(exe: &Path, paths: &Paths, env: &dyn Fn(&str) -> Option<OsString>) -> String {
    let by_itself = resolve(None, env, geteuid().as_raw(), Path::new("/tmp")).ok();
    let exe = quoted(&exe.to_string_lossy(), true);
    let is =
        |path: &Path, of: fn(&Paths) -> &PathBuf| by_itself.as_ref().is_some_and(|found| of(found) == path);
    let state_dir = match is(&paths.state_dir, |paths| &paths.state_dir) {
        true => String::new(),
        false => format!(" --state-dir {}", quoted(&paths.state_dir.to_string_lossy(), true)),
    };
    let mut environment = String::new();
    let named = [
        ("KENNEL_CONFIG", &paths.config, !is(&paths.config, |paths| &paths.config)),
        ("KENNEL_SOCKET", &paths.socket, paths.named),
    ];
    for (name, path, _) in named.into_iter().filter(|(.., write)| *write) {
        let word = quoted(&format!("{name}={}", path.to_string_lossy()), false);
        environment += &format!("Environment={word}\n");
    }
    format!(
        "\
# Written by `kennel daemon unit`. To use it:
#   kennel daemon unit > ~/.config/systemd/user/kennel.service
#   systemctl --user enable --now kennel
# and, for sessions that outlast the login, loginctl enable-linger.

[Unit]
Description=kennel, crash-isolated hosting of AI agent sessions

[Service]
Type=exec
ExecStart={exe} daemon run{state_dir}
{environment}Restart=on-failure
RestartSec=1

# Only the daemon is signalled. On SIGTERM it leaves its sessions' processes to the next daemon: they go on with their
# turns over `systemctl --user restart kennel`, and over its being killed. `kennel daemon stop` ends all of them.
# systemd's default, control-group, would signal all of them at once.
KillMode=process
TimeoutStopSec=60

# Every session is a tree of processes; systemd's default allows a user's service a few thousand.
TasksMax=infinity
# The daemon raises its own soft limit; agents keep the usual one.
LimitNOFILE=1024:524288
# Sessions get control groups of their own, in which their limits are kept.
Delegate=memory pids cpu
DelegateSubgroup=daemon
# An agent that eats all memory should be killed, and not the daemon with it.
OOMPolicy=continue

# Agents are looked for on PATH, and a user's services have a short one:
#Environment=PATH=%h/.local/bin:%h/.cargo/bin:/usr/local/bin:/usr/bin:/bin

[Install]
WantedBy=default.target
"
    )
}

/// A word in a unit (systemd.syntax(7)); on a command line `$` begins a variable (systemd.service(5), "Command lines"), in an
/// `Environment=` it does not (systemd.exec(5)).
fn quoted(word: &str, in_command: bool) -> String {
    let mut out = String::from("\"");
    for c in word.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '$' if in_command => out.extend([c, c]),
            '%' => out.extend([c, c]),
            '\n' => out.push_str("\\n"),
            _ => out.push(c),
        }
    }
    out + "\""
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};

    use super::*;

    struct World {
        root: tempfile::TempDir,
        env: HashMap<&'static str, OsString>,
    }

    impl World {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            let env = HashMap::from([("HOME", root.path().join("home").into())]);
            Self { root, env }
        }

        fn path(&self, below: &str) -> PathBuf {
            self.root.path().join(below)
        }

        fn with(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
            self.env.insert(name, value.into());
            self
        }

        /// A directory for XDG_RUNTIME_DIR, with this mode.
        fn with_runtime(self, mode: u32) -> Self {
            let dir = self.path("run");
            fs::DirBuilder::new().mode(mode).create(&dir).unwrap();
            self.with("XDG_RUNTIME_DIR", dir)
        }

        fn resolve(&self, flag: Option<&Path>) -> Result<Paths, PathsError> {
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
            Paths { state_dir, socket, named: false, config: world.path("home/.config/kennel/config.toml") }
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
        assert_eq!(named, world.resolve(None).unwrap());
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
    fn without_a_home_a_state_directory_must_be_named() {
        let mut world = World::new();
        world.env.clear();
        assert!(matches!(world.resolve(None), Err(PathsError::NoHome)));
        let found = world.resolve(Some(Path::new("/state"))).unwrap();
        assert_eq!(found.config, Path::new("/state/config.toml"));
        assert_eq!(found.socket, Path::new("/state/kennel.sock"));
    }

    #[test]
    fn the_unit_survives_odd_paths() {
        let world = World::new();
        let paths = world.resolve(None).unwrap();
        let env = |name: &str| world.env.get(name).cloned();
        let unit = unit_beside(Path::new("/opt/my \"dogs\"/100%/$x/kennel"), &paths, &env);
        assert!(
            unit.contains("\nExecStart=\"/opt/my \\\"dogs\\\"/100%%/$$x/kennel\" daemon run\nRestart="),
            "{unit}"
        );
        assert!(unit.contains("\nKillMode=process\n"));
        // The daemon sets its own; sessions of clients that say none get that of the login.
        assert!(!unit.contains("UMask"));
    }

    #[test]
    fn the_unit_names_what_a_service_would_not_find_by_itself() {
        let world = World::new().with("KENNEL_SOCKET", "/s.sock").with("XDG_CONFIG_HOME", "/a $b/100%");
        let paths = world.resolve(Some(Path::new("/my state"))).unwrap();
        let home = |name: &str| world.env.get(name).filter(|_| name == "HOME").cloned();
        let unit = unit_beside(Path::new("/kennel"), &paths, &home);
        for line in [
            "ExecStart=\"/kennel\" daemon run --state-dir \"/my state\"",
            "Environment=\"KENNEL_CONFIG=/a $b/100%%/kennel/config.toml\"",
            "Environment=\"KENNEL_SOCKET=/s.sock\"",
        ] {
            assert!(unit.lines().any(|found| found == line), "{line}\n{unit}");
        }
    }
}
