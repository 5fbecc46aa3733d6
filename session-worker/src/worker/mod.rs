//! The worker's life: Hello, Welcome, Ready, then one prompt at a time until the manager ends it.
//!
//! One thread, one loop: wait for something ([`Wake`]), handle it without blocking, decide what follows. A
//! worker at rest has no timer and is not woken.
//!
//! May use: all other files of the worker. Used by: `main`.

mod alone;
mod command;
mod ending;
mod files;
mod handshake;
mod log_in;
mod tell;
mod watch;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::signal::SigSet;
use protocol::frame::FrameError;
use protocol::wire::{Agent, Find, Offer, RemoteServer, Report, Setting, Welcome};
use protocol::{EventId, Level, PromptId, failpoint};
use tokio::net::UnixStream;
use tokio::time::Instant;

use self::ending::Leaving;
use self::handshake::{Handshake, answer, lead_session, signals, take_pipes};
use crate::agent::acp::{self, Acp};
use crate::agent::log_in::LogIn;
use crate::agent::per_prompt::{self, Ready, Turn};
use crate::agent::readers::Readers;
use crate::confine::Confinement;
use crate::confine::descriptors::close_all_but;
use crate::exit;
use crate::link::shelter::{Knock, Shelter};
use crate::link::{Link, LinkError, Received};
use crate::logfile::log;
use crate::tree::Ending;
use crate::worker::watch::{MemoryGroup, Watch};

/// More would overflow the clock.
const LONGEST_GRACE: Duration = Duration::from_secs(24 * 60 * 60);

/// Reason for which a worker could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A step of preparing the process.
    #[error("cannot prepare this process: {step}: {source}")]
    Setup {
        /// The step that failed.
        step: &'static str,
        /// The system's error.
        source: io::Error,
    },
    /// Standard input and output are not a manager's.
    #[error("standard input and output must be pipes: it is started by `kennel`: {0}")]
    NoPipes(io::Error),
    /// The first message was none, or not `Welcome`.
    #[error("the manager's first message: {0}")]
    NotWelcome(String),
    /// A message to the manager that does not fit in a frame.
    #[error("a message to the manager: {0}")]
    Encode(#[from] FrameError),
    /// The next manager's pipes are none.
    #[error("the next manager: {0}")]
    Link(#[from] LinkError),
}

impl Error {
    /// The status to leave with.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::NoPipes(_) => exit::USAGE,
            Error::Setup { .. } | Error::NotWelcome(_) | Error::Encode(_) | Error::Link(_) => exit::FAULT,
        }
    }
}

fn setup<T, E: Into<io::Error>>(step: &'static str, result: Result<T, E>) -> Result<T, Error> {
    result.map_err(|source| Error::Setup { step, source: source.into() })
}

/// Runs the worker on this thread, which must be the main one: the agent's death signal follows the thread
/// that spawned it. Returns the status to leave with.
pub fn run() -> Result<u8, Error> {
    // Close descriptors that the launcher left open beyond 0, 1 and 2; the worker has none of its own yet. With the write end
    // of another worker's pipe here, for example, that worker would never see the end of its input.
    setup("descriptors", close_all_but(&[]))?;
    // Only the user may read files that this process makes for itself. Programs get the umask with which this process was
    // started, or the manager's.
    let umask = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let (input, output) = setup("frame pipes", take_pipes())?;
    setup("session", lead_session())?;
    setup("subreaper", nix::sys::prctl::set_child_subreaper(true))?;
    setup("signal mask", SigSet::empty().thread_set_mask())?;
    let terminated = Arc::new(AtomicBool::new(false));
    let bell = setup("signals", signals(&terminated))?;
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    // A worker waits for a handful of things; room for a thousand events is memory for nothing.
    let runtime = runtime.enable_io().enable_time().max_io_events_per_tick(16);
    let runtime = setup("runtime", runtime.build())?;
    runtime.block_on(async {
        let bell = setup("signals", UnixStream::from_std(bell))?;
        let link = Link::new(input, output).map_err(Error::NoPipes)?;
        let mut handshake = Handshake { link, bell, terminated };
        match handshake.wait_for_welcome().await? {
            Ok(welcome) => {
                let mut worker = Worker::new(handshake, welcome);
                worker.confinement.limits.inherited.umask = Some(umask.as_raw_mode());
                worker.live().await
            }
            Err(code) => Ok(code),
        }
    })
}

/// An event that wakes the worker.
enum Wake {
    /// A child died, or SIGTERM came.
    Bell,
    /// The manager sent something, or is gone.
    Frames,
    /// The pipe to the manager takes more.
    Room,
    /// A pipe or socket of the turn is ready.
    Turn(Ready),
    /// A pipe or socket of the agent that lives between prompts is ready.
    Acp(acp::Ready),
    /// A pipe or socket of a reader is ready.
    Reader,
    /// The terminal of a log-in is ready.
    LogIn,
    /// A process connects to the shelter, or sends something there.
    Door(Knock),
    /// A deadline has passed.
    Deadline,
}

struct Worker {
    link: Link,
    bell: UnixStream,
    terminated: Arc<AtomicBool>,
    welcome: Box<Welcome>,
    /// Turn of an agent that is started for each prompt.
    turn: Option<Turn>,
    /// An agent that lives between prompts.
    acp: Option<Acp>,
    /// Processes that read files for clients.
    readers: Readers,
    /// A log-in, in a worker that has no agent.
    log_in: Option<LogIn>,
    /// Reason for which the worker ends the log-in.
    log_in_end: Option<String>,
    /// Settings for the agent before it takes prompts.
    settings: Vec<Setting>,
    /// MCP servers that the agent reaches by HTTP, if it supports that.
    remote_servers: Vec<RemoteServer>,
    /// The driver, and the requests of the agent that it can answer.
    driver: (Option<EventId>, Vec<Offer>),
    /// Time limit for each message of the agent while it restores its conversation.
    restore_within: Option<Duration>,
    /// PATH and name by which the worker finds the programs.
    find: Find,
    /// Path of the agent's program in the last report.
    program: Option<String>,
    /// Namespaces or sandbox, and limits of the programs.
    confinement: Confinement,
    /// Containment level in the last report.
    level: Option<Level>,
    /// Watch over the limits that no control group enforces.
    watch: Option<Watch>,
    /// Control group of the programs' memory.
    memory: Option<MemoryGroup>,
    /// Programs were killed for their memory, and the manager does not know the agent's end yet.
    starved: bool,
    /// Socket at which the worker waits for the next manager.
    shelter: Option<Shelter>,
    /// Time since when there is no manager, or no work without one.
    alone_since: Instant,
    /// The last prompt. A repeated command with the same prompt is dropped.
    last_prompt: Option<PromptId>,
    /// Number of the last setting. A repeated command is dropped.
    last_set: u64,
    /// The ending of the tree while it runs, and the time of its next round.
    ending: Option<(Ending, Instant)>,
    leaving: Option<Leaving>,
}

impl Worker {
    fn new(handshake: Handshake, welcome: Box<Welcome>) -> Self {
        let Handshake { link, bell, terminated } = handshake;
        Self {
            link,
            bell,
            terminated,
            welcome,
            turn: None,
            acp: None,
            readers: Readers::default(),
            log_in: None,
            log_in_end: None,
            settings: Vec::new(),
            remote_servers: Vec::new(),
            driver: Default::default(),
            restore_within: None,
            find: Find::default(),
            program: None,
            confinement: Confinement::default(),
            level: None,
            watch: None,
            memory: None,
            starved: false,
            shelter: None,
            alone_since: Instant::now(),
            last_prompt: None,
            last_set: 0,
            ending: None,
            leaving: None,
        }
    }

    async fn live(mut self) -> Result<u8, Error> {
        failpoint::hit("worker", "welcome");
        // An agent that lives between prompts says by itself when it is ready.
        if !matches!(self.welcome.agent, Agent::Acp { .. }) {
            let restore = per_prompt::restore(&self.welcome.agent);
            self.link.send(Report::Ready { restore, agent_pid: None })?;
        }
        // Commands that arrived in the same read as the Welcome.
        self.obey()?;
        let mut at_work = false;
        loop {
            if std::mem::replace(&mut at_work, self.is_at_work()) && !at_work && self.link.is_alone() {
                self.alone_since = Instant::now();
                self.link.sync();
            }
            if let Some(code) = self.proceed()? {
                return Ok(code);
            }
            self.begin_readers()?;
            let wake = self.wait().await;
            if failpoint::armed("worker", "spin") {
                loop {
                    std::hint::spin_loop();
                }
            }
            match wake {
                Wake::Bell => {
                    answer(&self.bell);
                    if self.terminated.load(Ordering::Relaxed) {
                        self.leave(exit::TERMINATED, self.grace());
                    }
                    self.reap()?;
                }
                Wake::Frames => match self.link.receive() {
                    Ok(Received::Some) => self.obey()?,
                    Ok(Received::End) | Err(_) => self.lose_link()?,
                },
                Wake::Room => {
                    self.link.flush();
                    if self.link.is_broken() {
                        self.lose_link()?;
                    }
                }
                Wake::Door(Knock::Came(Ok(visitor))) => {
                    if let Some(shelter) = &mut self.shelter {
                        shelter.admit(visitor);
                    }
                }
                // The visitor has gone again.
                Wake::Door(Knock::Came(Err(_))) => {}
                Wake::Door(Knock::Spoke) => {
                    if let Some(pipes) = self.shelter.as_mut().and_then(Shelter::hear) {
                        self.take_up(pipes)?;
                    }
                }
                Wake::Turn(ready) => self.work(ready)?,
                Wake::Acp(ready) => self.work_acp(ready)?,
                Wake::Reader => self.work_readers()?,
                Wake::LogIn => self.work_log_in()?,
                Wake::Deadline => {
                    self.wait_no_longer();
                    self.bound()?;
                    self.hurry()?;
                    self.hurry_readers(Instant::now())?;
                    self.reap()?;
                }
            }
            // Pipes that are always ready must not keep the signals waiting: this lets the runtime look at
            // all of its descriptors now and then.
            tokio::task::coop::consume_budget().await;
        }
    }

    async fn wait(&self) -> Wake {
        let (turn, acp) = (self.turn.as_ref(), self.acp.as_ref());
        let deadline = match (&self.ending, &self.leaving) {
            (Some((_, next)), _) => Some(*next),
            (None, Some(leaving)) => leaving.until,
            (None, None) => acp.and_then(Acp::deadline).into_iter().chain(self.alone_until()).min(),
        };
        let watch = self.watch.as_ref().filter(|_| turn.is_some() || acp.is_some());
        let deadline =
            deadline.into_iter().chain(watch.map(|watch| watch.next)).chain(self.readers.deadline()).min();
        let linked = !self.link.is_alone();
        tokio::select! {
            _ = self.bell.readable() => Wake::Bell,
            () = self.link.readable(), if linked && self.leaving.is_none() => Wake::Frames,
            () = self.link.writable(), if linked && !self.link.is_flushed() => Wake::Room,
            knock = async { match &self.shelter {
                Some(shelter) => shelter.knocked().await,
                None => std::future::pending().await,
            }}, if self.leaving.is_none() => Wake::Door(knock),
            ready = async { match turn {
                Some(turn) => turn.ready(self.link.has_room()).await,
                None => std::future::pending().await,
            }} => Wake::Turn(ready),
            ready = async { match acp {
                Some(acp) => acp.ready(self.link.has_room()).await,
                None => std::future::pending().await,
            }} => Wake::Acp(ready),
            () = self.readers.ready(self.link.has_room()) => Wake::Reader,
            () = async { match &self.log_in {
                Some(log_in) => log_in.ready(self.link.has_room()).await,
                None => std::future::pending().await,
            }} => Wake::LogIn,
            () = async { match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }} => Wake::Deadline,
        }
    }

    fn grace(&self) -> Duration {
        Duration::from_millis(self.welcome.grace_ms).min(LONGEST_GRACE)
    }

    /// An agent that does not do in time what it has to is ended.
    fn hurry(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        let reports = self.acp.as_mut().map(|acp| acp.hurry(now)).unwrap_or_default();
        self.tell(reports)
    }

    fn work_acp(&mut self, ready: acp::Ready) -> Result<(), Error> {
        let Some(acp) = &mut self.acp else { return Ok(()) };
        let reports = match ready {
            acp::Ready::Start => {
                acp.read_start();
                let (ended, level) = (acp.exit.is_some(), acp.start.level());
                self.contained(level)?;
                return if ended { self.reap() } else { Ok(()) };
            }
            acp::Ready::Stdin => {
                acp.feed();
                Vec::new()
            }
            acp::Ready::Stdout => acp.read(),
            acp::Ready::Stderr => acp.read_stderr(),
            acp::Ready::Terminals => acp.work(),
        };
        self.tell(reports)
    }

    fn is_at_work(&self) -> bool {
        self.turn.is_some() || self.acp.as_ref().is_some_and(|acp| acp.turn().is_some())
    }

    /// Says the last word, and leaves.
    fn fault(&mut self, message: String) -> Result<(), Error> {
        log(&message);
        self.link.send(Report::Fault { message })?;
        self.link.mute();
        self.leave(exit::FAULT, self.grace());
        Ok(())
    }

    fn work(&mut self, ready: Ready) -> Result<(), Error> {
        let Some(turn) = &mut self.turn else { return Ok(()) };
        match ready {
            Ready::Status => {
                let (started, level) = (turn.read_status(), turn.start.level());
                let ended = turn.exit.is_some();
                if let Some(started) = started {
                    self.link.send(started)?;
                    self.contained(level)?;
                }
                if ended {
                    self.reap()?;
                }
            }
            Ready::Stdin => turn.feed(),
            Ready::Output(stream) => {
                for report in turn.read(stream) {
                    self.link.send(report)?;
                }
            }
        }
        Ok(())
    }
}
