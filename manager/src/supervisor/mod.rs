//! The supervisor's loop: **step** (decide), **commit** (remember), **act** (do), **observe** (hear back).
//!
//! It owns the sessions alone, and alone spawns, signals and reaps. It runs on a thread of its own, so that no
//! other task of the program delays it, and it waits for nobody: what all sources have brought is stepped as one
//! batch, committed as one transaction, and only then shown, answered and acted on.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::fs;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use protocol::wire::Inherited;
use protocol::{SessionId, failpoint};
use rustix::fs::{FlockOperation, flock};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, Interest};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use crate::address;
use crate::core::{Ask, At, Change, Effect, Fleet, Input, Reply, Seen, Session, State};
use crate::error::{Error, StartError};
use crate::feed::{Feed, FeedWriter};
use crate::fetch::{Fetched, Fetcher};
use crate::journal::reserve::{self, Reserve};
use crate::journal::{Cut, IdempotencyKey, Journal, JournalError, Record, UsedKey};
use crate::pace::Pace;
use crate::system::cgroups::{self, Cgroups};
use crate::system::owned::{self, How};
use crate::system::probe::Machine;
use crate::system::{blocking, clock, process};
use crate::work::Work;
use crate::workers::link::LinkEvent;
use crate::workers::shelter::{self, Shelters};
use crate::workers::tokens::{self, McpProgram};
use crate::workers::{Sighting, Workers, World, logs};

pub use crate::address::LOCK;
pub use crate::workers::logs::path as log_path;

mod prune;
mod room;

use prune::Pruning;
use room::{Owed, Room};

/// The journal's file, in the state directory.
pub const JOURNAL: &str = "journal.db";
/// The directory of worktrees for sub-agents, in the state directory.
pub const WORKTREES: &str = "worktrees";
/// The socket, where it is in the state directory.
pub const SOCKET: &str = "kennel.sock";
/// How often the lock is tried, 10 ms apart.
const LOCK_TRIES: u32 = 20;
/// The most that one batch takes from each source.
const BATCH: usize = 512;
/// How often strays of earlier managers are looked for again at the start, and how long one look waits.
const STRAY_ROUNDS: usize = 100;

/// How the loop is to run.
pub struct Settings {
    /// Where the journal, the lock and the logs lie.
    pub state_dir: PathBuf,
    /// The `session-worker` program, if it was named.
    pub worker_path: Option<PathBuf>,
    /// What agents can be held with.
    pub machine: Machine,
    /// Where control groups for sessions can be made.
    pub cgroups: Option<cgroups::Root>,
    /// All children of this process are ours.
    pub whole_process: bool,
    /// What agents are offered for starting sub-agents.
    pub mcp_server: Option<McpProgram>,
    /// What sessions' programs inherit where nothing else is set.
    pub inherited: Inherited,
}

type Look = Box<dyn FnOnce(&Fleet, At) + Send>;
type Check = Box<dyn FnMut(Option<&Session>, u64) -> bool + Send>;
type Answer = oneshot::Sender<Result<Reply, Error>>;

/// What the loop is asked.
pub enum Msg {
    /// A step.
    Ask {
        /// What.
        ask: Box<Ask>,
        /// If it may have been asked before.
        key: Option<IdempotencyKey>,
        /// Answered after the commit.
        reply: Answer,
    },
    /// A look at the table, between two batches.
    Read(Look),
    /// A look at one session now and after each of its changes, until it returns true.
    Watch {
        /// Which.
        id: SessionId,
        /// Given the session and the time since boot.
        check: Check,
    },
    /// A session's token.
    Token {
        /// Whose.
        id: SessionId,
        /// The token.
        reply: oneshot::Sender<Result<String, Error>>,
    },
    /// Remove history.
    Prune {
        /// Which.
        cuts: Vec<Cut>,
        /// Told when it is gone.
        reply: prune::Reply,
    },
    /// Leave, and let all processes go on.
    HandOver {
        /// Told when nothing is done here any more.
        reply: oneshot::Sender<()>,
    },
    /// End all processes, keep all goals.
    Shutdown {
        /// Told when nothing is left.
        reply: oneshot::Sender<()>,
    },
}

/// Whether the journal in this directory, if there is one, can be read by this kennel. Changes nothing.
pub fn check(state_dir: &Path) -> Result<(), StartError> {
    match trusted(state_dir)? {
        Some(state_dir) => Journal::check(&state_dir.join(JOURNAL)),
        None => Ok(()),
    }
}

/// The state directory's path without links, if it is there: it and what kennel has in it are this user's alone. Opens and
/// changes nothing.
pub fn trusted(state_dir: &Path) -> Result<Option<PathBuf>, StartError> {
    let unusable = |source| StartError::StateDir { path: state_dir.to_owned(), source };
    let Some(found) = owned::existing(state_dir).map_err(unusable)? else { return Ok(None) };
    trust_contents(&found).map_err(unusable)?;
    Ok(Some(found))
}

/// The state directory's path without links. Made if it is not there; as [`trusted`] otherwise.
pub fn take(state_dir: &Path) -> Result<PathBuf, StartError> {
    let unusable = |source| StartError::StateDir { path: state_dir.to_owned(), source };
    let taken = owned::directory(state_dir).map_err(unusable)?;
    trust_contents(&taken).map_err(unusable)?;
    Ok(taken)
}

/// What kennel opens in a state directory; other names are not its own.
fn trust_contents(state_dir: &Path) -> io::Result<()> {
    let directories = [logs::DIRECTORY, shelter::DIRECTORY, tokens::DIRECTORY];
    let files = [LOCK, address::NAME, reserve::NAME, WORKTREES, SOCKET, "kennel.sock.lock"];
    owned::contents(state_dir, |name| {
        directories.contains(&name)
            || files.contains(&name)
            || name.starts_with(JOURNAL)
            || name.starts_with(logs::DAEMON)
    })?;
    for directory in directories.map(|name| state_dir.join(name)).iter().filter(|path| path.is_dir()) {
        owned::contents(directory, |_| true)?;
    }
    Ok(())
}

/// Takes the state directory over, and starts the loop.
/// The last of what it gives is the state directory's uuid, the first part of every marker.
pub async fn start(
    settings: Settings,
    work: Arc<Work>,
) -> Result<(mpsc::Sender<Msg>, Arc<Feed>, String), StartError> {
    let lock = lock(&settings.state_dir).await?;
    failpoint::hit("daemon", "locked");
    // What was kept back is for a start, too.
    Reserve::new(&settings.state_dir).free();
    let path = settings.state_dir.join(JOURNAL);
    let boot_id =
        process::boot_id().map_err(|source| StartError::Os { what: "cannot read the boot id", source })?;
    let opened = Journal::open(&path, &boot_id)?;
    let uuid = opened.journal.uuid.clone();
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
            match Supervisor::new(settings, opened.journal, opened.fleet, feed, found, work) {
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

/// Makes sure of being the only manager over this directory. Whoever loses touches nothing.
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

/// What a manager finds.
struct Found {
    /// This boot of the machine.
    boot_id: String,
    /// The journal was last written in it.
    same_boot: bool,
    /// What was lost of the journal, if it was damaged.
    lost: Option<String>,
}

/// One thing to be stepped.
enum Item {
    Command { ask: Box<Ask>, key: Option<IdempotencyKey>, reply: Answer },
    Observation(Ask),
}

impl Item {
    fn ask(&self) -> &Ask {
        match self {
            Item::Command { ask, .. } => ask,
            Item::Observation(ask) => ask,
        }
    }

    /// Whoever waits for an answer.
    fn reply(self) -> Option<Answer> {
        match self {
            Item::Command { reply, .. } => Some(reply),
            Item::Observation(_) => None,
        }
    }
}

struct Supervisor {
    /// This boot of the machine.
    boot_id: String,
    fleet: Fleet,
    /// Before the journal: fields are dropped in this order.
    feed: FeedWriter,
    journal: Journal,
    workers: Workers,
    links: mpsc::UnboundedReceiver<LinkEvent>,
    /// What was read for prompts.
    fetched: mpsc::UnboundedReceiver<Fetched>,
    /// When each session's next tick is due.
    timers: BTreeSet<(u64, SessionId)>,
    due: HashMap<SessionId, u64>,
    watches: HashMap<SessionId, Vec<Check>>,
    /// Observed and not yet committed, oldest first.
    observed: VecDeque<Ask>,
    /// Back-pressure on the links whose frames are in `observed`.
    permits: Vec<(SessionId, OwnedSemaphorePermit)>,
    /// What the journal has room for.
    room: Room,
    /// When more room is looked for.
    room_at: Option<u64>,
    reserve: Reserve,
    /// Done, and not on record yet.
    owed: Owed,
    pace: Pace,
    /// History that goes.
    pruning: VecDeque<Pruning>,
    /// Something of removed sessions may be left.
    clears: bool,
    closing: bool,
    /// Somebody else is to go on with the processes.
    left: bool,
    waiting_for_end: Vec<oneshot::Sender<()>>,
    sigchld: Option<tokio::net::UnixStream>,
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
    fn new(
        settings: Settings,
        mut journal: Journal,
        fleet: Fleet,
        feed: FeedWriter,
        found: Found,
        work: Arc<Work>,
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
            mcp_server: settings.mcp_server,
            shelters,
            work,
            machine: settings.machine,
            inherited: settings.inherited,
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
            waiting_for_end: Vec::new(),
            sigchld,
        };
        supervisor.take_over(found)?;
        Ok(supervisor)
    }

    /// The first batch: what is on record becomes this manager's business.
    fn take_over(&mut self, found: Found) -> Result<(), StartError> {
        let (pid, version) = (std::process::id(), crate::VERSION.into());
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
        self.journal
            .commit(&changes, &records, &[], Some(&boot_id), false)
            .map_err(|error| failed(error.to_string()))?;
        at_events("after", &changes);
        self.sweep_strays();
        tokens::tidy(self.workers.state_dir(), |id| self.fleet.get(id).is_some());
        let with_worker = self.fleet.sessions().filter(|session| session.worker().is_some());
        self.workers.tidy(&with_worker.map(|session| (&session.id, session.incarnation)).collect());
        failpoint::hit("daemon", "swept");
        self.feed.publish(records);
        self.committed(&changes);
        // Also of those that the start has not changed.
        self.reschedule_all();
        self.look_for_room();
        Ok(())
    }

    /// Ends what lives with our marker and belongs to no worker on record: its worker and its manager died
    /// together.
    fn sweep_strays(&self) {
        let adopting = self.fleet.sessions().filter(|session| session.worker().is_some());
        let reclaimed: HashSet<SessionId> = adopting.map(|session| session.id.clone()).collect();
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

    fn now(&self) -> At {
        At { mono: self.mono(), wall: clock::wall_ms(), closing: self.closing }
    }

    /// The time awake since boot, less that in which the loop could hear nobody, in milliseconds.
    fn mono(&self) -> u64 {
        self.pace.shows(clock::mono_ms())
    }

    /// Turns until the manager is closed and no process is left, or until it leaves them to the next. Gives back those
    /// who wait for that.
    async fn run(mut self, mut messages: mpsc::Receiver<Msg>) -> Vec<oneshot::Sender<()>> {
        let ended = match self.workers.descriptor().and_then(readable) {
            Ok(ended) => ended,
            Err(error) => {
                tracing::error!(%error, "cannot wait for processes");
                return self.waiting_for_end;
            }
        };
        loop {
            // What was heard and is not on record yet is said again to the next.
            if self.left || self.closing && self.is_over() {
                break;
            }
            let mut asked = Vec::new();
            self.wait(&ended, &mut messages, &mut asked).await;
            self.turn(asked);
        }
        self.waiting_for_end
    }

    /// Whether nothing is left that could still be ended: only what survives SIGKILL is not waited for.
    fn is_over(&self) -> bool {
        let given_up =
            |id: &SessionId| matches!(self.fleet.get(id), Some(s) if matches!(s.state, State::Failed(_)));
        let processes = self.fleet.sessions().filter(|session| session.has_process());
        let ended = self.workers.ids().all(given_up) && processes.map(|session| &session.id).all(given_up);
        // What cannot be recorded the next one finds out by itself.
        ended || self.room == Room::Shut && self.workers.are_dead()
    }

    /// Waits until there is something to do, and takes what clients ask.
    async fn wait(
        &mut self,
        ended: &AsyncFd<OwnedFd>,
        messages: &mut mpsc::Receiver<Msg>,
        asked: &mut Vec<Msg>,
    ) {
        // However much clients ask: the links read and write in tasks of their own on this thread, and a worker
        // that is not heard in time is taken for dead.
        tokio::task::yield_now().await;
        let began = clock::mono_ms();
        self.pace.listens(began);
        let now = self.pace.shows(began);
        let wake_at = Pace::sleep(now, self.wake_at(), self.timers.first().map(|(at, _)| *at));
        let ready = self.prunes() || self.observed.iter().any(|ask| self.takes(ask));
        if !ready && wake_at.is_none_or(|at| at > now) {
            let sleep = async {
                match wake_at {
                    Some(at) => tokio::time::sleep(Duration::from_millis(at - now)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                msg = messages.recv() => match msg {
                    Some(msg) => asked.push(msg),
                    // The last handle is gone: so does the manager.
                    None => self.close(),
                },
                Some(event) = self.links.recv() => self.hear(event, now),
                Some(fetched) = self.fetched.recv() => self.hand_over(fetched, now),
                guard = ended.readable() => if let Ok(mut guard) = guard { guard.clear_ready() },
                () = rung(self.sigchld.as_mut()) => {}
                () = sleep => {}
            }
            let planned = wake_at.map(|at| began + (at - now));
            self.pace.ceases(clock::mono_ms(), planned);
            if self.pace.has_slept() {
                // What was said meanwhile waits in the pipes, and is heard before anybody is judged.
                tokio::task::yield_now().await;
            }
        }
        self.remember_pace();
        while asked.len() < BATCH
            && let Ok(msg) = messages.try_recv()
        {
            asked.push(msg);
        }
        let now = self.mono();
        while let Ok(fetched) = self.fetched.try_recv() {
            self.hand_over(fetched, now);
        }
        for _ in 0..BATCH {
            match self.links.try_recv() {
                Ok(event) => self.hear(event, now),
                Err(_) => break,
            }
        }
    }

    /// The next manager's clock goes on from where this one's is.
    fn remember_pace(&mut self) {
        if let Some(behind) = self.pace.news()
            && let Err(error) = self.journal.remember_behind(&self.boot_id, behind)
        {
            tracing::debug!(%error, "what the loop has not heard is not on record");
        }
    }

    /// When the loop has something to do by itself, in milliseconds of its own clock.
    fn wake_at(&self) -> Option<u64> {
        let timer = match self.room {
            Room::Plenty => self.timers.first(),
            Room::Tight | Room::Shut => self.timers.iter().find(|(_, id)| self.is_ending(id)),
        };
        let timer = timer.map(|(at, _)| *at);
        [timer, self.workers.deadline(), self.room_at].into_iter().flatten().min()
    }

    fn hear(&mut self, event: LinkEvent, now: u64) {
        let id = event.session().clone();
        let (seen, permit) = self.workers.heard(event, now);
        self.observe(seen);
        self.permits.extend(permit.map(|permit| (id, permit)));
    }

    /// A prompt goes to its worker with what was read for it; and then what else its session wants.
    fn hand_over(&mut self, fetched: Fetched, now: u64) {
        let id = fetched.wanted.session.clone();
        let session = self.fleet.get(&id).cloned();
        let seen = self.workers.fetched(fetched, session.as_deref(), now);
        self.observe(seen);
        for effect in session.map(|session| session.effects()).unwrap_or_default() {
            self.act(&id, &effect, now);
        }
    }

    fn observe(&mut self, seen: impl IntoIterator<Item = Sighting>) {
        let asks =
            seen.into_iter().map(|(id, incarnation, seen)| Ask::One(id, Input::Seen(incarnation, seen)));
        self.observed.extend(asks);
    }

    /// One turn: observe, step, commit, act.
    fn turn(&mut self, asked: Vec<Msg>) {
        let at = self.now();
        self.workers.look(at.mono);
        self.workers.fetch(at.mono);
        if self.room_at.is_some_and(|room_at| at.mono >= room_at) {
            self.look_for_room();
        }
        let (fleet, room) = (&self.fleet, self.room);
        let buried = self.workers.bury(at.mono, |id| room.takes_end_of(fleet, id));
        self.observe(buried);
        let silent = self.workers.beat(at.mono);
        self.observe(silent);
        let mut items = self.take_observed();
        items.extend(self.due(at.mono).into_iter().map(|id| Item::Observation(Ask::One(id, Input::Tick))));
        let mut looks = Vec::new();
        for msg in asked {
            match msg {
                Msg::Ask { ask, reply, .. } if self.room != Room::Plenty && !self.fleet.ends(&ask) => {
                    // While the journal takes nothing, nothing is promised; looks are free.
                    let _ = reply.send(Err(Error::Journal("there is no room for more".into())));
                }
                Msg::Ask { ask, key, reply } => items.push(Item::Command { ask, key, reply }),
                Msg::Shutdown { reply } => {
                    self.waiting_for_end.push(reply);
                    self.close();
                }
                Msg::HandOver { reply } => self.leave(reply),
                Msg::Prune { cuts, reply } => self.pruning.push_back(Pruning::new(cuts, reply)),
                look => looks.push(look),
            }
        }
        items.extend(self.take_observed());
        self.batch(items);
        self.prune();
        self.clear_away();
        for look in looks {
            self.look(look);
        }
    }

    fn leave(&mut self, reply: oneshot::Sender<()>) {
        self.waiting_for_end.push(reply);
        // What is being ended already is not left to anybody.
        self.left |= !self.closing;
    }

    fn close(&mut self) {
        if !self.closing {
            self.closing = true;
            self.observed.push_back(Ask::Shutdown);
        }
    }

    /// Sessions whose deadline has come.
    fn due(&mut self, now: u64) -> Vec<SessionId> {
        let come = self.timers.iter().take_while(|(at, _)| *at <= now);
        let due: Vec<(u64, SessionId)> =
            come.filter(|(_, id)| self.room == Room::Plenty || self.is_ending(id)).cloned().collect();
        for entry in &due {
            self.timers.remove(entry);
            self.due.remove(&entry.1);
        }
        due.into_iter().map(|(_, id)| id).collect()
    }

    /// Steps all of it, commits all of it, and only then shows, answers and acts.
    fn batch(&mut self, items: Vec<Item>) {
        if items.is_empty() && (self.owed.is_empty() || self.room == Room::Shut) {
            self.release_permits();
            return;
        }
        if self.room == Room::Shut {
            return self.act_first(items);
        }
        let at = self.now();
        let owed = self.owed.changes.len();
        let mut changes = std::mem::take(&mut self.owed.changes);
        let mut undo = Vec::new();
        let mut done: Vec<Item> = Vec::new();
        let mut answers: Vec<(Answer, Result<Reply, Error>)> = Vec::new();
        let mut used = std::mem::take(&mut self.owed.used);
        let owed_keys = used.len();
        for item in items {
            if let Item::Command { key: Some(key), .. } = &item
                && let Err(answer) = self.replay(key, &used)
            {
                answers.extend(item.reply().map(|reply| (reply, answer)));
                continue;
            }
            match (self.fleet.step(at, item.ask()), item) {
                (Ok(change), item) => {
                    undo.push(self.fleet.adopt(&change));
                    if let Item::Command { key: Some(key), .. } = &item {
                        used.push(UsedKey { key: key.clone(), reply: change.reply.clone() });
                    }
                    changes.push(change);
                    done.push(item);
                }
                (Err(refusal), Item::Command { reply, .. }) => answers.push((reply, Err(refusal.into()))),
                (Err(refusal), Item::Observation(_)) => {
                    tracing::error!(%refusal, "an observation was refused");
                }
            }
        }
        let records = records(&changes.iter().collect::<Vec<_>>());
        at_events("before", &changes);
        let answering = !answers.is_empty()
            || !self.owed.answers.is_empty()
            || done.iter().any(|item| matches!(item, Item::Command { .. }));
        let committed = records.map_err(|error| error.to_string()).and_then(|records| {
            let empty = records.is_empty() && changes.iter().all(|change| change.sessions.is_empty());
            let written =
                if empty { Ok(()) } else { self.journal.commit(&changes, &records, &used, None, answering) };
            written.map(|()| records).map_err(|error| error.to_string())
        });
        match committed {
            Ok(records) => {
                at_events("after", &changes);
                self.release_permits();
                // Before the answers: whoever was answered and then reads the events finds there what was answered.
                self.feed.publish(records);
                let late = std::mem::take(&mut self.owed.answers);
                for (reply, answer) in
                    late.into_iter().map(|(reply, answer)| (reply, Ok(answer))).chain(answers)
                {
                    // Whoever asked may have gone; what was asked is done all the same.
                    let _ = reply.send(answer);
                }
                let mut observations = Vec::new();
                for (item, change) in done.into_iter().zip(&changes[owed..]) {
                    match item {
                        Item::Command { reply, .. } => drop(reply.send(Ok(change.reply.clone()))),
                        Item::Observation(ask) => observations.push(ask),
                    }
                }
                if answering {
                    failpoint::hit("after", "answer");
                }
                self.committed(&changes);
                self.let_go(&observations);
            }
            Err(error) => {
                for undo in undo.into_iter().rev() {
                    self.fleet.take_back(undo);
                }
                changes.truncate(owed);
                used.truncate(owed_keys);
                (self.owed.changes, self.owed.used) = (changes, used);
                for (reply, answer) in answers {
                    let _ = reply.send(answer.and(Err(Error::Journal(error.clone()))));
                }
                self.no_room(done, &error);
            }
        }
    }

    /// A request that was answered before gets the same answer; a key that stands for another is refused.
    fn replay(&self, key: &IdempotencyKey, batch: &[UsedKey]) -> Result<(), Result<Reply, Error>> {
        let same = |used: &&UsedKey| used.key.scope == key.scope && used.key.key == key.key;
        let before = match batch.iter().find(same) {
            Some(used) => Some((used.key.request.clone(), used.reply.clone())),
            None => {
                self.journal.used(key).map_err(|error| Err(Error::Unread(format!("the journal: {error}"))))?
            }
        };
        match before {
            None => Ok(()),
            Some((request, reply)) if request == key.request => Err(Ok(reply)),
            Some(_) => Err(Err(Error::KeyReused)),
        }
    }

    /// It is remembered and seen: now it may be done.
    fn committed(&mut self, changes: &[Change]) {
        let mut touched = BTreeSet::new();
        for change in changes {
            touched.extend(change.sessions.iter().map(|session| session.id.clone()));
            touched.extend(change.removed.iter().map(|(id, _)| id.clone()));
            self.clears |= change.removed.is_some();
        }
        let now = self.mono();
        for (id, effect) in changes.iter().flat_map(|change| &change.effects) {
            self.act(id, effect, now);
        }
        for id in touched {
            self.schedule(&id);
            self.show(&id, now);
            if self.fleet.get(&id).is_none() {
                logs::remove(self.workers.state_dir(), &id);
                tokens::remove(self.workers.state_dir(), &id);
            }
        }
    }

    fn act(&mut self, id: &SessionId, effect: &Effect, now: u64) {
        let Some(session) = self.fleet.get(id).cloned() else {
            return;
        };
        failpoint::hit_about("before", effect.name(), id);
        let seen = self.workers.act(id, effect, &session, &self.journal, now);
        failpoint::hit_about("after", effect.name(), id);
        self.observe(seen);
    }

    /// Tells workers what of theirs is on record, and reaps those whose `Gone` is.
    fn let_go(&mut self, observations: &[Ask]) {
        for ask in observations {
            match ask {
                Ask::One(id, Input::Seen(incarnation, Seen::Gone { .. })) => {
                    self.workers.gone(id, *incarnation);
                }
                Ask::One(id, Input::Seen(incarnation, Seen::Heard(number))) => {
                    let fault = self.workers.recorded(id, *incarnation, *number);
                    self.observe(fault);
                }
                _ => {}
            }
        }
    }

    fn schedule(&mut self, id: &SessionId) {
        if let Some(at) = self.due.remove(id) {
            self.timers.remove(&(at, id.clone()));
        }
        let Some(session) = self.fleet.get(id) else { return };
        self.workers.attend(id, session.is_at_work(), session.spec.worker_timeout_ms, self.mono());
        if self.closing && !session.has_process() {
            return;
        }
        if let Some(at) = session.deadline() {
            self.due.insert(id.clone(), at);
            self.timers.insert((at, id.clone()));
        }
    }

    fn reschedule_all(&mut self) {
        let ids: Vec<SessionId> = self.fleet.sessions().map(|session| session.id.clone()).collect();
        for id in ids {
            self.schedule(&id);
        }
    }

    /// Lets those look who wait for something to become of a session.
    fn show(&mut self, id: &SessionId, now: u64) {
        let Some(checks) = self.watches.get_mut(id) else {
            return;
        };
        let session = self.fleet.get(id).map(|session| &**session);
        checks.retain_mut(|check| !check(session, now));
        if checks.is_empty() {
            self.watches.remove(id);
        }
    }

    fn look(&mut self, msg: Msg) {
        match msg {
            Msg::Read(look) => look(&self.fleet, self.now()),
            Msg::Watch { id, mut check } => {
                let session = self.fleet.get(&id).map(|session| &**session);
                if !check(session, self.pace.shows(clock::mono_ms())) {
                    self.watches.entry(id).or_default().push(check);
                }
            }
            Msg::Token { id, reply } => {
                let token = self.fleet.expect(&id).map_err(Error::from).and_then(|_| {
                    let token = self.journal.token(&id);
                    let token = token.map_err(|error| Error::Unread(format!("the journal: {error}")))?;
                    token
                        .ok_or_else(|| Error::Unread(format!("the journal: no token of `{id}` is on record")))
                });
                let _ = reply.send(token);
            }
            Msg::Ask { .. } | Msg::Prune { .. } | Msg::Shutdown { .. } | Msg::HandOver { .. } => {}
        }
    }
}

/// To be awaited until it is readable.
#[allow(
    deprecated,
    reason = "its successor is unsafe, against types that change their descriptor; OwnedFd does not"
)]
pub fn readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(fd, Interest::READABLE)
}

/// Places to die at: before these events are on record, or after.
fn at_events(place: &str, changes: &[Change]) {
    for event in changes.iter().flat_map(|change| &change.events) {
        match &event.session {
            Some(id) => failpoint::hit_about(place, event.kind.name(), id),
            None => failpoint::hit(place, event.kind.name()),
        }
    }
}

/// The events of these changes, as they are kept and shown.
fn records(changes: &[&Change]) -> Result<Vec<Record>, serde_json::Error> {
    changes.iter().flat_map(|change| &change.events).map(Record::new).collect()
}

/// A socket that becomes readable with each SIGCHLD; several may become one, and none is needed for the ends of
/// our own workers, whose pidfds say so too.
fn sigchld_doorbell() -> io::Result<tokio::net::UnixStream> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    theirs.set_nonblocking(true)?;
    signal_hook::low_level::pipe::register(signal_hook::consts::SIGCHLD, theirs)?;
    tokio::net::UnixStream::from_std(ours)
}

/// Waits for the doorbell, and takes all its ringing so far as one.
async fn rung(doorbell: Option<&mut tokio::net::UnixStream>) {
    let Some(doorbell) = doorbell else {
        return std::future::pending().await;
    };
    let mut ringing = [0; 256];
    match doorbell.read(&mut ringing).await {
        Ok(count) if count > 0 => {}
        // It cannot end while the handler holds the other side; if it does, the pidfds are enough.
        _ => std::future::pending().await,
    }
}
