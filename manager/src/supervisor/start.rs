//! The start of the loop: the lock, the journal, and the sessions of an earlier manager.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use protocol::wire::Inherited;
use protocol::{Identity, Incarnation, SessionId, failpoint};
use rustix::fs::{FlockOperation, flock};
use tokio::sync::{mpsc, oneshot};

use crate::address;
use crate::address::LOCK;
use crate::core::{Ask, Fleet};
use crate::error::StartError;
use crate::feed::{Feed, FeedWriter};
use crate::fetch::Fetcher;
use crate::journal::reserve::Reserve;
use crate::journal::{Journal, JournalError};
use crate::metrics::Metrics;
use crate::pace::Pace;
use crate::supervisor::Supervisor;
use crate::supervisor::batch::{at_events, records};
use crate::supervisor::doorbell::sigchld_doorbell;
use crate::supervisor::files::JOURNAL;
use crate::supervisor::inbox::{BATCH, Msg};
use crate::supervisor::lost::Lost;
use crate::supervisor::room::{Owed, Room};
use crate::system::cgroups::Cgroups;
use crate::system::owned::How;
use crate::system::probe::Machine;
use crate::system::{blocking, cgroups, clock, owned, process};
use crate::work::Work;
use crate::workers::shelter::Shelters;
use crate::workers::tokens::McpProgram;
use crate::workers::{LogInLimits, Workers, World, logs, shelter, tokens};

/// Tries to take the lock, 10 ms apart.
const LOCK_TRIES: u32 = 20;

/// Passes over stray processes of earlier managers at the start, 2 ms apart.
const STRAY_ROUNDS: usize = 100;

/// Settings of the loop.
pub struct Settings {
    /// The directory of the journal, the lock and the logs.
    pub state_dir: PathBuf,
    /// The `session-worker` program, if it was named.
    pub worker_path: Option<PathBuf>,
    /// The containment that this machine offers.
    pub machine: Machine,
    /// The parent of control groups for sessions; none where kennel may make none.
    pub cgroups: Option<cgroups::Root>,
    /// All children of this process are workers or orphans of workers.
    pub whole_process: bool,
    /// The number of spare workers to keep while a session has a worker.
    pub spare_workers: usize,
    /// The MCP server for sub-agents that agents are offered.
    pub mcp_server: Option<McpProgram>,
    /// The umask, environment and places that programs of sessions inherit unless something else is set.
    pub inherited: Inherited,
    /// The time limits of log-ins.
    pub log_in_limits: LogInLimits,
}

/// The state of the journal at the start.
pub(super) struct Found {
    /// The machine's boot id.
    boot_id: String,
    /// The journal was last written in it.
    same_boot: bool,
    /// The part of a damaged journal that was lost, for a person.
    lost: Option<String>,
}

/// Locks the state directory and starts the loop. Returns the loop's inbox, its feed, and the state directory's uuid, which
/// begins every marker.
pub async fn start(
    settings: Settings,
    work: Arc<Work>,
    metrics: Arc<Metrics>,
) -> Result<(mpsc::Sender<Msg>, Arc<Feed>, String), StartError> {
    let lock = lock(&settings.state_dir).await?;
    failpoint::hit("daemon", "locked");
    // The reserve is for a start, too.
    Reserve::new(&settings.state_dir).free();
    let path = settings.state_dir.join(JOURNAL);
    let boot_id =
        process::boot_id().map_err(|source| StartError::Os { what: "cannot read the boot id", source })?;
    let opened = Journal::open(&path, &boot_id)?;
    let uuid = opened.journal.uuid.clone();
    opened.fleet.sessions().for_each(|session| metrics.begin(session));
    let feed = Feed::over(path, opened.fleet.next_event() - 1);
    let shared = feed.feed();
    let (inbox, messages) = mpsc::channel(BATCH);
    let (ready, started) = oneshot::channel();
    let body = move || {
        blocking::this_is_the_loop();
        // Built here: where no thread can be had this closure is dropped, and a runtime must not be by whoever is in another.
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(source) => {
                let _ = ready.send(Err(StartError::Os { what: "cannot build a runtime", source }));
                return;
            }
        };
        let waiting = runtime.block_on(async move {
            // A new journal has no ids of another boot to steer clear of.
            let same_boot = opened.boot_id.is_none_or(|before| before == boot_id);
            let found = Found { boot_id, same_boot, lost: opened.lost };
            match Supervisor::new(settings, opened.journal, opened.fleet, feed, found, work, metrics) {
                Ok(supervisor) => {
                    let _ = ready.send(Ok(()));
                    supervisor.run(messages).await
                }
                Err(error) => {
                    let _ = ready.send(Err(error));
                    Vec::new()
                }
            }
        });
        // Held until the very end: the next manager begins where this one has stopped.
        drop(lock);
        for waiting in waiting {
            let _ = waiting.send(());
        }
    };
    std::thread::Builder::new()
        .name("supervisor".into())
        .spawn(body)
        .map_err(|source| StartError::Os { what: "cannot start the supervisor's thread", source })?;
    match started.await {
        Ok(Ok(())) => Ok((inbox, shared, uuid)),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(StartError::Os { what: "the supervisor", source: io::ErrorKind::BrokenPipe.into() }),
    }
}

/// Takes the lock of the state directory. A manager that does not get it changes nothing.
async fn lock(state_dir: &Path) -> Result<fs::File, StartError> {
    let unusable = |path: &Path| {
        let path = path.to_owned();
        move |source| StartError::StateDir { path, source }
    };
    for directory in [logs::DIRECTORY, shelter::DIRECTORY].map(|name| state_dir.join(name)) {
        owned::directory(&directory).map_err(unusable(&directory))?;
    }
    let path = state_dir.join(LOCK);
    let mut file = owned::open(&path, How::Keep).map_err(unusable(&path))?;
    let mut tries = LOCK_TRIES;
    while flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        tries -= 1;
        if tries > 0 {
            // A process that another thread of the last holder is just spawning has a copy of the descriptor,
            // and with it the lock, until its exec.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        }
        let pid = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
        return Err(StartError::Locked { dir: state_dir.to_owned(), pid });
    }
    // Of a daemon that is dead: somebody else may listen there by now.
    address::forget(state_dir);
    // Only for the message above; the lock itself is what counts.
    let written = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    written.map_err(unusable(&path))?;
    Ok(file)
}

/// The clock of the loop, which goes on from that of an earlier manager of this boot.
fn pace(journal: &mut Journal, found: &Found) -> Result<Pace, JournalError> {
    let pace = match journal.behind(&found.boot_id)? {
        Some(behind) => return Ok(Pace::after(behind)),
        // Its deadlines are on record with the time asleep in them.
        None if found.same_boot => {
            Pace::after_counting_sleep(journal.unheard(&found.boot_id)?, clock::asleep_ms())
        }
        None => Pace::default(),
    };
    journal.remember_behind(&found.boot_id, pace.behind())?;
    Ok(pace)
}

impl Supervisor {
    pub(super) fn new(
        settings: Settings,
        mut journal: Journal,
        fleet: Fleet,
        feed: FeedWriter,
        found: Found,
        work: Arc<Work>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, StartError> {
        let os = |what| move |source| StartError::Os { what, source };
        let sigchld = match settings.whole_process {
            false => None,
            true => {
                rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
                    .map_err(|error| os("cannot become the subreaper")(error.into()))?;
                Some(sigchld_doorbell().map_err(os("cannot listen for SIGCHLD"))?)
            }
        };
        let pace = pace(&mut journal, &found).unwrap_or_else(|error| {
            tracing::warn!(%error, "deadlines count from the boot again");
            Pace::default()
        });
        let (events, links) = mpsc::unbounded_channel();
        let reserve = Reserve::new(&settings.state_dir);
        let shelters = Shelters::new(&settings.state_dir, journal.secret.clone());
        let world = World {
            state_dir: settings.state_dir,
            worker_path: settings.worker_path,
            boot_id: found.boot_id.clone(),
            uuid: journal.uuid.clone(),
            whole_process: settings.whole_process,
            spare_workers: settings.spare_workers,
            mcp_server: settings.mcp_server,
            shelters,
            work,
            machine: settings.machine,
            inherited: settings.inherited,
            log_in_limits: settings.log_in_limits,
            cgroups: settings.cgroups.map(|root| Cgroups::new(root, &journal.uuid)),
        };
        let (answers, fetched) = mpsc::unbounded_channel();
        let fetcher = Fetcher::new(feed.feed(), answers);
        let workers = Workers::new(world, events, fetcher).map_err(os("cannot watch processes"))?;
        let mut supervisor = Self {
            boot_id: found.boot_id.clone(),
            fleet,
            journal,
            feed,
            metrics,
            workers,
            links,
            fetched,
            timers: BTreeSet::new(),
            due: HashMap::new(),
            watches: HashMap::new(),
            observed: VecDeque::new(),
            permits: Vec::new(),
            room: Room::default(),
            room_at: None,
            reserve,
            owed: Owed::default(),
            pace,
            pruning: VecDeque::new(),
            clears: true,
            closing: false,
            left: false,
            broken: false,
            waiting_for_end: Vec::new(),
            lost: Lost::default(),
            sigchld,
        };
        supervisor.take_over(found)?;
        Ok(supervisor)
    }

    /// The first batch: what is on record becomes this manager's business.
    fn take_over(&mut self, found: Found) -> Result<(), StartError> {
        let (pid, version) = (std::process::id(), crate::version::VERSION.into());
        let Found { boot_id, same_boot, lost } = found;
        let ask = Ask::ManagerStarted { pid, version, boot_id: boot_id.clone(), same_boot, lost };
        let path = self.workers.state_dir().join(JOURNAL);
        let failed = |message: String| StartError::Journal { path: path.clone(), message };
        let change = self.fleet.step(self.now(), &ask).map_err(|refusal| failed(refusal.to_string()))?;
        let undo = self.fleet.adopt(&change);
        drop(undo);
        let records = records(&[&change]).map_err(|error| failed(error.to_string()))?;
        let changes = [change];
        at_events("before", &changes);
        let written = self.journal.write(&changes, &records, &[], Some(&boot_id));
        written.and_then(|()| self.journal.sync()).map_err(|error| failed(error.to_string()))?;
        at_events("after", &changes);
        self.sweep_strays();
        tokens::tidy(self.workers.state_dir(), |id| self.fleet.get(id).is_some());
        let with_worker = self.fleet.sessions().filter(|session| session.worker().is_some());
        self.workers.tidy(&with_worker.map(|session| (&session.id, session.incarnation)).collect());
        failpoint::hit("daemon", "swept");
        self.count(&changes);
        self.feed.publish(records);
        self.perform(changes.iter().flat_map(|change| change.effects.clone()));
        self.settle(&changes);
        self.workers.discard();
        // Also of those that the start has not changed.
        self.reschedule_all();
        self.look_for_room();
        Ok(())
    }

    /// Kills marked processes whose session has no worker on record: the worker and its manager died together.
    fn sweep_strays(&self) {
        let adopting = self.fleet.sessions().filter(|session| session.worker().is_some());
        let reclaimed: HashMap<SessionId, (Incarnation, Identity)> = adopting
            .filter_map(|session| {
                Some((session.id.clone(), (session.incarnation, session.worker()?.clone())))
            })
            .collect();
        for _ in 0..STRAY_ROUNDS {
            if self.workers.sweep_strays(&reclaimed) == 0 {
                return;
            }
            // They are not our children, so their end is not told to us; a look again is all there is.
            let moment = rustix::event::Timespec { tv_sec: 0, tv_nsec: 2_000_000 };
            let _ = rustix::event::poll(&mut [], Some(&moment));
        }
        tracing::error!("processes that were left behind survive SIGKILL");
    }
}
