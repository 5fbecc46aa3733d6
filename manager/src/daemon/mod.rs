//! The daemon around a [`SessionManager`]: where its files lie, how it takes and leaves its socket, and how it
//! ends.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::SigSet;
use protocol::wire::Inherited;
use protocol::{MARKER, failpoint};
use rustix::fs::Mode;
use rustix::process::{Resource, getrlimit, umask};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::api::{self, Leave, Stop};
use crate::error::StartError;
use crate::keys::Keys;
use crate::session_manager::SessionManager;
use crate::system::memory;

pub mod aloof;
pub(crate) mod doctor;
mod log;
pub(crate) mod login;
mod paths;
mod process;
mod service;
mod signals;
mod socket;
mod unit;

pub use paths::{Paths, PathsError, hosts, paths, same_file};
use service::Service;
use signals::Signals;
use socket::{Keeper, check_place};
pub use unit::{Runner, is_ours, unit};

/// The longest time that requests may run after the manager has ended.
const DRAIN: Duration = Duration::from_secs(2);
/// The longest time in which the page's listener is handed to a command that restarts this daemon.
const HANDED_ON: Duration = Duration::from_secs(1);

/// Paths of a daemon's files.
#[derive(Clone, Debug)]
pub struct DaemonOptions {
    /// The state directory: it holds the journal, the lock and the logs.
    pub state_dir: PathBuf,
    /// The Unix socket on which the daemon listens.
    pub socket: PathBuf,
    /// `config.toml`; it need not exist.
    pub config: PathBuf,
    /// The `session-worker` program; else the one beside this executable.
    pub worker_path: Option<PathBuf>,
}

/// Reason for which the daemon could not run, or ended early.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The process belongs to a session of an earlier daemon, and would be killed with that session.
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
        /// The operation, for a person.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The manager's loop ended without having been asked to.
    #[error(
        "the manager has ended unexpectedly (the log says why); the next daemon takes its sessions' processes over"
    )]
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
    log::start();
    let os = |what| move |source: io::Error| RunError::Os { what, source };
    // The parent may have blocked signals, and every thread would inherit the mask: reset it before the first thread.
    SigSet::empty().thread_set_mask().map_err(|error| os("cannot reset the signal mask")(error.into()))?;
    // Programs of sessions inherit these values, not those that this process sets for itself.
    let inherited = Inherited {
        umask: Some(umask(Mode::from_raw_mode(0o077)).as_raw_mode() & 0o777),
        open_files: getrlimit(Resource::Nofile).current,
        places: Vec::new(),
    };
    let service = Service::find();
    process::raise_limit();
    process::protect();
    let options = options.absolute().map_err(os("cannot read the current directory"))?;
    // A daemon must not keep a file system busy only because it was started there.
    std::env::set_current_dir("/").map_err(os("cannot change to /"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(os("cannot build a runtime"))?;
    let result = runtime.block_on(live(options, inherited, service));
    // A file system that hangs may hold a blocking thread for ever.
    runtime.shutdown_background();
    result
}

/// Starts a manager over the daemon's state directory. Its agents can start sub-agents through the daemon's socket.
async fn start(options: &DaemonOptions, inherited: Inherited) -> Result<SessionManager, RunError> {
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
    // Before the manager takes the sessions over: a daemon that cannot use its socket must leave them alone.
    crate::supervisor::trusted(&options.state_dir)?;
    check_place(&options.socket).map_err(|source| options.no_socket(source))?;
    Ok(builder.start().await?)
}

/// Serves until a signal, a request or trouble ends the daemon.
async fn live(options: DaemonOptions, inherited: Inherited, mut service: Service) -> Result<(), RunError> {
    // First of all, so that an early signal is heard and does not kill.
    let mut signals =
        Signals::new().map_err(|source| RunError::Os { what: "cannot listen for signals", source })?;
    let manager = start(&options, inherited).await?;
    // Only now: whoever has not the state directory has no business with its socket.
    let state_dir = manager.state_dir().to_owned();
    let others = paths::other_sockets(&state_dir);
    let taken = Keeper::take(&options.socket, others, &state_dir, manager.clone()).await;
    let (mut keeper, listener) = match taken {
        Ok(taken) => taken,
        Err(source) => {
            // Its sessions' processes are for a daemon that has a socket.
            manager.hand_over().await;
            return Err(options.no_socket(source));
        }
    };
    failpoint::hit("daemon", "listening");
    tracing::info!(
        "kennel {} serves {} on {} (pid {})",
        crate::version::VERSION,
        options.state_dir.display(),
        options.socket.display(),
        std::process::id()
    );
    let stop = Stop::of(service.is_there());
    let closed = Stop::default();
    let end = closed.clone();
    // What takes clients in by another door, and examines them there, asks by this one.
    let (inlet, others) = api::Inlet::new();
    let keys = Keys::open(manager.state_dir());
    let web = api::Loopback::new(&manager, keys.clone(), inlet.clone(), stop.clone(), closed.clone());
    let router = api::router(manager.clone(), stop.clone(), keys.clone(), inlet.clone(), web.clone());
    memory::give_back();
    let ended = async move { _ = end.requested().await };
    let (moved, listeners) = mpsc::channel(1);
    // First: whoever is answered on the socket hears where the ports are.
    web.resume().await;
    let port = api::open(&manager, keys, inlet, stop.clone(), closed.clone()).await;
    let mut server =
        tokio::spawn(api::serve(listener, listeners, others, router, manager.connections(), ended));
    service.ready(&manager).await;

    let (how, result) = tokio::select! {
        // A person who types Ctrl-C wants all processes gone; a service manager that starts the daemon anew does not.
        name = signals.any() => (if name == "SIGINT" { Leave::EndAll } else { Leave::HandOver }, Ok(name)),
        how = stop.requested() => (how, Ok("asked to stop")),
        () = manager.ended() => (Leave::EndAll, Err(RunError::Lost)),
        ended = &mut server => (Leave::EndAll, Err(server_ended(ended))),
        () = keeper.keep(&moved) => (Leave::EndAll, Ok("another daemon serves the state directory")),
    };
    // No next daemon can know of them.
    let how = if manager.state_dir_gone() { Leave::EndAll } else { how };
    service.stopping(how).await;
    // Clients that ask now hear that it is stopping, and not that there is no daemon.
    stop.request(how);
    if timeout(HANDED_ON, web.leave(how)).await.is_err() {
        tracing::warn!("the page's address was not handed on in time");
    }
    let result = leave(&manager, &mut signals, how, result).await;
    closed.request(how);
    if !matches!(result, Err(RunError::Hurried)) {
        drain(server, port, &web).await;
    }
    keeper.leave();
    tracing::info!("gone");
    result
}

/// Ends the manager: hands its sessions' processes over to the next daemon, or ends them. `result` holds why.
async fn leave(
    manager: &SessionManager,
    signals: &mut Signals,
    how: Leave,
    result: Result<&'static str, RunError>,
) -> Result<(), RunError> {
    match (how, result) {
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
    }
}

/// Waits for the end of the requests that still run.
async fn drain(mut server: JoinHandle<io::Result<()>>, port: Option<JoinHandle<()>>, web: &api::Loopback) {
    let all = async {
        if !server.is_finished() {
            let _ = (&mut server).await;
        }
        if let Some(port) = port {
            let _ = port.await;
        }
        web.gone().await;
    };
    if timeout(DRAIN, all).await.is_err() {
        tracing::warn!("requests that still ran were cut off");
    }
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
    fn no_socket(&self, source: io::Error) -> RunError {
        RunError::Socket { path: self.socket.clone(), source }
    }

    fn absolute(self) -> io::Result<Self> {
        Ok(Self {
            state_dir: std::path::absolute(self.state_dir)?,
            socket: std::path::absolute(self.socket)?,
            config: std::path::absolute(self.config)?,
            worker_path: self.worker_path.map(std::path::absolute).transpose()?,
        })
    }
}

/// Checks that this version of kennel can read the journal in the state directory. Changes nothing.
pub fn check(paths: &Paths) -> Result<(), StartError> {
    crate::supervisor::check(&paths.state_dir)
}
