//! The builder: starts a manager.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use protocol::event::Timestamp;
use protocol::wire::Inherited;

use super::{Around, SessionManager, Shared, disk, refused};
use crate::config::{CgroupRoot, Config, SPARE_WORKERS};
use crate::error::StartError;
use crate::metrics::Metrics;
use crate::refusals::Refusals;
use crate::search::Search;
use crate::shares::Places;
use crate::supervisor::{self, Settings};
use crate::system::cgroups;
use crate::system::probe::Machine;
use crate::work::Work;
use crate::workers::LogInLimits;
use crate::workers::tokens::McpProgram;

/// The most requests at one time that look at a directory.
const LOOKS: usize = 64;

/// Options for starting a manager.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    state_dir: Option<PathBuf>,
    worker_path: Option<PathBuf>,
    config: Option<PathBuf>,
    whole_process: bool,
    spare_workers: Option<usize>,
    mcp_server: Option<McpProgram>,
    inherited: Inherited,
    log_in_limits: LogInLimits,
}

impl Builder {
    /// Sets the state directory, which holds the journal, the lock and the logs. The manager creates it with mode 0700. Required.
    pub fn state_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.state_dir = Some(path.into());
        self
    }

    /// The `session-worker` program; else the one beside this executable. Looked at anew at every spawn.
    pub fn worker_path(mut self, path: impl Into<PathBuf>) -> Self {
        self.worker_path = Some(path.into());
        self
    }

    /// `config.toml`; else the one in the state directory. A file that does not exist is an empty one.
    pub fn config(mut self, path: impl Into<PathBuf>) -> Self {
        self.config = Some(path.into());
        self
    }

    /// The manager has the process for itself: it becomes the subreaper of everything below, and reaps and
    /// ends strangers. For the `kennel` daemon; never for a program with children of its own.
    pub fn whole_process(mut self, yes: bool) -> Self {
        self.whole_process = yes;
        self
    }

    /// Sets the number of worker processes that stand ready for sessions while a session has one. A session that starts takes
    /// one, and so waits for no spawn. Without this call there are none, and with [`whole_process`](Self::whole_process) as many as
    /// the configuration says.
    pub fn spare_workers(mut self, count: usize) -> Self {
        self.spare_workers = Some(count);
        self
    }

    /// Offers sub-agents to agents that support MCP servers: such an agent runs `command`, the `kennel` executable, as
    /// `kennel mcp`, which uses this manager's API on `socket`. Without this call agents are offered no sub-agents.
    pub fn mcp_server(mut self, command: impl Into<PathBuf>, socket: impl Into<PathBuf>) -> Self {
        self.mcp_server = Some(McpProgram { command: command.into(), socket: socket.into() });
        self
    }

    /// Sets the attributes that sessions' programs inherit if neither the configuration nor the client sets them.
    /// Without this call they inherit from this process. Needed by a process that has changed its own, as the `kennel`
    /// daemon does.
    pub fn inherited(mut self, inherited: Inherited) -> Self {
        self.inherited = inherited;
        self
    }

    /// Sets the time limits of log-ins. Tests need not wait for 15 minutes.
    #[cfg(test)]
    pub(crate) fn log_in_limits(mut self, limits: LogInLimits) -> Self {
        self.log_in_limits = limits;
        self
    }

    /// Takes the state directory over and brings every session back that is wanted up.
    pub async fn start(self) -> Result<SessionManager, StartError> {
        let Some(state_dir) = self.state_dir else {
            return Err(StartError::Config("a manager needs a state directory".into()));
        };
        // Before anything in it is opened.
        let state_dir = supervisor::take(&state_dir)?;
        let config = self.config.unwrap_or_else(|| state_dir.join("config.toml"));
        let (cgroup_root, spares) = match Config::load(&config) {
            Ok(config) => (config.cgroup_root().clone(), config.spare_workers()),
            Err(error) => {
                // Sessions that exist keep what they were created with and must not wait until a typing error is
                // mended; whoever starts a new one is told.
                tracing::warn!(%error, "the configuration is wrong");
                (CgroupRoot::default(), SPARE_WORKERS)
            }
        };
        let cgroups = cgroups::Root::find(&cgroup_root, self.worker_path.as_deref()).await;
        let cgroups = cgroups.unwrap_or_else(|error| {
            // The machine may have been started anew since somebody made it. Each session says what it has instead.
            tracing::warn!(%error, "the control groups that are set cannot be used, and none are made");
            None
        });
        let configured = if self.whole_process { spares } else { 0 };
        let settings = Settings {
            state_dir: state_dir.clone(),
            machine: Machine::probe(self.worker_path.as_deref()).await,
            cgroups,
            worker_path: self.worker_path,
            whole_process: self.whole_process,
            spare_workers: self.spare_workers.unwrap_or(configured),
            mcp_server: self.mcp_server,
            inherited: self.inherited,
            log_in_limits: self.log_in_limits,
        };
        let offers_tools = settings.mcp_server.is_some();
        let (machine, worker_path) = (settings.machine, settings.worker_path.clone());
        let whole_process = self.whole_process;
        let work = Arc::new(Work::default());
        let metrics = Arc::new(Metrics::default());
        let (inbox, feed, uuid) = supervisor::start(settings, work.clone(), metrics.clone()).await?;
        let search = Search::new(feed.clone(), state_dir.clone(), uuid.clone());
        let started_at = Timestamp(crate::system::clock::wall_ms());
        let (refusals, news) = Refusals::new();
        let shared = Shared {
            inbox,
            feed,
            work,
            metrics,
            scraped: tokio::sync::Mutex::default(),
            config,
            state_dir,
            started_at,
            machine,
            worker_path,
            uuid,
            whole_process,
            state_dir_gone: AtomicBool::new(false),
            around: Arc::new(Around { offers_tools, took_tools: Mutex::default() }),
            listening: Arc::default(),
            refusals: Arc::new(refusals),
            search,
            loading: tokio::sync::Mutex::default(),
            looks: Places::of(LOOKS),
        };
        let manager = SessionManager { shared: Arc::new(shared), client: None, asker: Arc::default() };
        disk::keep(&manager);
        refused::record(&manager, news);
        Ok(manager)
    }
}
