//! The worker's life: Hello, Welcome, Ready, then one prompt at a time until it is told to leave.
//!
//! One thread, one loop: wait for something ([`Wake`]), handle it without blocking, decide what follows. A
//! worker at rest has no timer and is not woken.
//!
//! A turn ends when nothing that it started lives any more: the agent's exit, an abort and every way of
//! leaving begin an [`Ending`] of the tree; when that is through, what is left in the pipes is sent, then
//! `TurnEnded`. Ending the tree never waits for the manager to read.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::signal::SigSet;
use protocol::frame::FrameError;
use protocol::wire::{
    Agent, Attachment, Command, Exchange, PROTOCOL_VERSION, RemoteServer, Report, Setting, ToWorker, TurnEnd,
    Welcome,
};
use protocol::{Exit, PromptId, failpoint};
use rustix::fs::{Mode, OFlags, RawDir};
use rustix::process::Pid;
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use tokio::net::UnixStream;
use tokio::time::Instant;

use crate::acp::{self, Acp};
use crate::agent::{self, Ready, Turn};
use crate::link::{Link, LinkError, Received};
use crate::shelter::{Knock, Pipes, Shelter};
use crate::spool::Spool;
use crate::tree::{self, Ending, Round};
use crate::{BUILD, exit, log};

/// More would overflow the clock.
const LONGEST_GRACE: Duration = Duration::from_secs(24 * 60 * 60);
/// The grace of what a finished turn leaves behind: nobody waits for its work.
const LEFTOVER_GRACE: Duration = Duration::from_millis(500);
/// The grace when the manager is gone.
const LOST_GRACE: Duration = Duration::from_secs(2);
/// Reads of what an agent said before its death: a pipe holds 64 KiB, or 1 MiB at most (pipe(7)).
const LAST_READS: usize = 64;
/// Until a spool that takes nothing is tried again.
const SPOOL_AGAIN: Duration = Duration::from_secs(1);
/// How long the last reports wait for a manager that does not read.
const FAREWELL: Duration = Duration::from_millis(500);

/// Why a worker could not begin or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A step of preparing the process.
    #[error("cannot prepare this process: {step}: {source}")]
    Setup {
        /// Which step.
        step: &'static str,
        /// What the system said.
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
    setup("descriptors", close_strangers())?;
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
        let mut lobby = Lobby { link, bell, terminated };
        match lobby.wait_for_welcome().await? {
            Ok(welcome) => Worker::new(lobby, welcome).live().await,
            Err(code) => Ok(code),
        }
    })
}

/// Closes what the launcher left open beyond 0, 1 and 2: nothing of ours is there yet. With the write end of
/// another worker's pipe, say, that worker would never see the end of its input.
fn close_strangers() -> io::Result<()> {
    // Not by std, whose listing takes a buffer of 32 KiB that every worker would keep.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open("/proc/self/fd", flags, Mode::empty())?;
    let mut buffer = [MaybeUninit::uninit(); 1024];
    let mut listing = RawDir::new(&directory, &mut buffer);
    let mut open: Vec<i32> = Vec::new();
    while let Some(entry) = listing.next() {
        open.extend(entry?.file_name().to_str().ok().and_then(|name| name.parse::<i32>().ok()));
    }
    drop(directory);
    for fd in open.into_iter().filter(|fd| *fd > 2) {
        // The listing's own is among them, and closed already.
        let _ = nix::unistd::close(fd);
    }
    Ok(())
}

/// Moves the frame pipes off 0 and 1, so that nothing that prints can get between the frames and nothing below
/// inherits them.
fn take_pipes() -> io::Result<(OwnedFd, OwnedFd)> {
    let input = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    let output = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?;
    rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
    rustix::stdio::dup2_stdout(rustix::stdio::stderr())?;
    Ok((input, output))
}

fn lead_session() -> io::Result<()> {
    match rustix::process::setsid() {
        Ok(_) => Ok(()),
        Err(_) if rustix::process::getsid(None)? == rustix::process::getpid() => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// One doorbell for SIGCHLD and SIGTERM. SIGHUP and SIGINT are the terminal's, and this is not its process;
/// caught and not ignored, because "ignored" would be inherited.
fn signals(terminated: &Arc<AtomicBool>) -> io::Result<StdUnixStream> {
    let (bell, rope) = StdUnixStream::pair()?;
    bell.set_nonblocking(true)?;
    signal_hook::flag::register(SIGTERM, Arc::clone(terminated))?;
    signal_hook::low_level::pipe::register(SIGTERM, rope.try_clone()?)?;
    signal_hook::low_level::pipe::register(SIGCHLD, rope)?;
    let unheard = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(SIGHUP, Arc::clone(&unheard))?;
    signal_hook::flag::register(SIGINT, unheard)?;
    Ok(bell)
}

/// A worker that has no papers yet and must not do anything.
struct Lobby {
    link: Link,
    bell: UnixStream,
    terminated: Arc<AtomicBool>,
}

impl Lobby {
    /// The papers, or the status to leave with.
    async fn wait_for_welcome(&mut self) -> Result<Result<Box<Welcome>, u8>, Error> {
        failpoint::hit("worker", "hello");
        self.link.greet(hello(0))?;
        loop {
            tokio::select! {
                _ = self.bell.readable() => {
                    answer(&self.bell);
                    if self.terminated.load(Ordering::Relaxed) {
                        return Ok(Err(exit::TERMINATED));
                    }
                }
                () = self.link.writable(), if !self.link.is_flushed() => self.link.flush(),
                () = self.link.readable() => match self.link.receive() {
                    Ok(Received::Some) => {}
                    Ok(Received::End) | Err(_) => return Ok(Err(exit::DONE)),
                },
            }
            if self.link.is_broken() {
                return Ok(Err(exit::DONE));
            }
            match self.link.next() {
                Ok(None) => {}
                Ok(Some(ToWorker { incarnation, body: Command::Welcome(welcome), .. })) => {
                    self.link.belong_to(incarnation);
                    return Ok(Ok(welcome));
                }
                Ok(Some(_)) => {
                    return Err(Error::NotWelcome("a command that needs a Welcome before it".to_owned()));
                }
                Err(error) => return Err(Error::NotWelcome(error.to_string())),
            }
        }
    }
}

fn hello(resume_from: u64) -> Report {
    Report::Hello { protocol: PROTOCOL_VERSION, build: BUILD.to_owned(), resume_from }
}

/// Empties the doorbell.
fn answer(bell: &UnixStream) {
    let mut rings = [0; 64];
    while matches!(bell.try_read(&mut rings), Ok(n) if n > 0) {}
}

/// What the worker wakes up for.
enum Wake {
    /// A child died, or SIGTERM came.
    Bell,
    /// The manager said something, or is gone.
    Frames,
    /// The pipe to the manager takes more.
    Room,
    /// Something of the turn.
    Turn(Ready),
    /// Something of the agent that lives between prompts.
    Acp(acp::Ready),
    /// Somebody is at the door of the shelter.
    Door(Knock),
    /// The instant asked for has come.
    Deadline,
}

struct Worker {
    link: Link,
    bell: UnixStream,
    terminated: Arc<AtomicBool>,
    welcome: Box<Welcome>,
    /// Of an agent that is started for each prompt.
    turn: Option<Turn>,
    /// An agent that lives between prompts.
    acp: Option<Acp>,
    /// What is to be set in it before it takes prompts.
    settings: Vec<Setting>,
    /// MCP servers that it reaches by itself, if it can.
    remote_servers: Vec<RemoteServer>,
    /// How long it may say nothing while it takes up its conversation.
    restore_within: Option<Duration>,
    /// Where it waits for the next manager.
    shelter: Option<Shelter>,
    /// Since when there is no manager, or nothing to do without one.
    alone_since: Instant,
    /// The prompt that was given last: given again by a manager that does not know that it was, it is dropped.
    last_prompt: Option<PromptId>,
    /// The same of what was to be set, by its number.
    last_set: u64,
    /// The tree's end, while it is under way, and when its next round is due.
    ending: Option<(Ending, Instant)>,
    leaving: Option<Leaving>,
}

/// The worker is on its way out.
struct Leaving {
    code: u8,
    /// Once the tree is gone: how long the last reports wait.
    until: Option<Instant>,
}

impl Worker {
    fn new(lobby: Lobby, welcome: Box<Welcome>) -> Self {
        let Lobby { link, bell, terminated } = lobby;
        Self {
            link,
            bell,
            terminated,
            welcome,
            turn: None,
            acp: None,
            settings: Vec::new(),
            remote_servers: Vec::new(),
            restore_within: None,
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
            let restore = agent::restore(&self.welcome.agent);
            self.link.send(Report::Ready { restore, agent_pid: None })?;
        }
        // What came in the same read as the Welcome.
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
            let wake = self.wait().await;
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
                // Whoever came has gone again.
                Wake::Door(Knock::Came(Err(_))) => {}
                Wake::Door(Knock::Spoke) => {
                    if let Some(pipes) = self.shelter.as_mut().and_then(Shelter::hear) {
                        self.take_up(pipes)?;
                    }
                }
                Wake::Turn(ready) => self.work(ready)?,
                Wake::Acp(ready) => self.work_acp(ready)?,
                Wake::Deadline => {
                    self.wait_no_longer();
                    self.hurry()?;
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
            () = async { match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }} => Wake::Deadline,
        }
    }

    fn grace(&self) -> Duration {
        Duration::from_millis(self.welcome.grace_ms).min(LONGEST_GRACE)
    }

    /// Acts on what the manager said.
    fn obey(&mut self) -> Result<(), Error> {
        while self.leaving.is_none() {
            match self.link.next() {
                Ok(None) => break,
                Ok(Some(envelope)) => self.command(envelope)?,
                Err(error) => self.fault(format!("the manager sent {error}"))?,
            }
        }
        Ok(())
    }

    fn command(&mut self, envelope: ToWorker) -> Result<(), Error> {
        let incarnation = self.link.incarnation();
        if envelope.incarnation != incarnation {
            return self.fault(format!(
                "a command for incarnation {}, but this is {incarnation}",
                envelope.incarnation
            ));
        }
        // Sent again after a link was taken up again: acted on already.
        if envelope.seq <= self.link.acknowledged() {
            return Ok(());
        }
        self.link.acknowledge(envelope.seq);
        self.link.confirm(envelope.ack);
        let is_prompt = matches!(envelope.body, Command::Prompt { .. } | Command::PromptWith { .. });
        if self.shelter.is_none() && is_prompt {
            // A manager that would acknowledge gives shelter first.
            self.link.keep_nothing();
        }
        match envelope.body {
            Command::Welcome(_) => self.fault("a second Welcome".to_owned()),
            Command::Open { .. } if self.acp.is_some() => self.fault("a second Open".to_owned()),
            Command::Settings(settings) => {
                self.settings = settings;
                Ok(())
            }
            Command::RemoteServers(servers) => {
                self.remote_servers = servers;
                Ok(())
            }
            Command::RestoreWithin(millis) => {
                self.restore_within = Some(Duration::from_millis(millis).min(LONGEST_GRACE));
                Ok(())
            }
            Command::Set { request, .. } if request <= self.last_set => Ok(()),
            Command::Set { request, setting } => {
                self.last_set = request;
                let set = |acp: &mut Acp| acp.set(&self.welcome, request, setting);
                let reports = self.acp.as_mut().map(set).unwrap_or_default();
                self.tell(reports)
            }
            Command::Open { agent_session, conversation } => {
                let settings = std::mem::take(&mut self.settings);
                let remote = std::mem::take(&mut self.remote_servers);
                match Acp::start(&self.welcome, agent_session, conversation, settings, remote) {
                    Ok((mut acp, reports)) => {
                        acp.restore_within = self.restore_within;
                        self.acp = Some(acp);
                        self.tell(reports)
                    }
                    Err(message) => {
                        self.link.send(Report::AgentDied { message })?;
                        self.leave(exit::DONE, self.grace());
                        Ok(())
                    }
                }
            }
            Command::Shelter(papers) => {
                self.open_shelter(papers);
                Ok(())
            }
            Command::Acknowledge => Ok(()),
            Command::Prompt { prompt, .. } | Command::PromptWith { prompt, .. }
                if self.last_prompt == Some(prompt) =>
            {
                Ok(())
            }
            Command::Answer { request, option } => {
                let answered = |acp: &mut Acp| acp.answer(&self.welcome, request, option);
                let reports = self.acp.as_mut().map(answered).unwrap_or_default();
                self.tell(reports)
            }
            Command::Driver { client, offers } => {
                if let Some(acp) = &mut self.acp {
                    acp.driven_by(client, offers);
                }
                Ok(())
            }
            Command::CallAnswered { request, answer } => {
                let answered = |acp: &mut Acp| acp.call_answered(&self.welcome, request, answer);
                let reports = self.acp.as_mut().map(answered).unwrap_or_default();
                self.tell(reports)
            }
            Command::Prompt { prompt, text, history } if self.acp.is_some() => {
                self.prompt(prompt, text, &history, &[])
            }
            Command::PromptWith { prompt, text, history, attachments } if self.acp.is_some() => {
                self.prompt(prompt, text, &history, &attachments)
            }
            Command::PromptWith { prompt, .. } => {
                self.last_prompt = Some(prompt);
                Ok(self.link.send(failed(prompt, "this agent takes no attachments".to_owned()))?)
            }
            Command::Prompt { prompt, text, history } => match &self.turn {
                Some(turn) => {
                    let running = turn.prompt;
                    self.fault(format!("{prompt} came while {running} was running"))
                }
                None => {
                    self.last_prompt = Some(prompt);
                    match Turn::start(&self.welcome, prompt, text, &history) {
                        Ok(turn) => {
                            self.turn = Some(turn);
                            failpoint::hit("worker", "turn");
                            Ok(())
                        }
                        Err(message) => Ok(self.link.send(failed(prompt, message))?),
                    }
                }
            },
            Command::Abort { prompt } => {
                if self.turn.as_ref().is_some_and(|turn| turn.prompt == prompt) {
                    self.abort(self.grace());
                }
                let by = Instant::now() + self.grace();
                let mut reports = Vec::new();
                if let Some(acp) = self.acp.as_mut().filter(|acp| acp.turn() == Some(prompt)) {
                    reports = acp.cancel(&self.welcome, by);
                }
                self.tell(reports)
            }
            Command::Shutdown => {
                self.leave(exit::DONE, self.grace());
                Ok(())
            }
        }
    }

    /// Gives a prompt to the agent that lives between prompts.
    fn prompt(
        &mut self,
        prompt: PromptId,
        text: String,
        history: &[Exchange],
        attachments: &[Attachment],
    ) -> Result<(), Error> {
        if let Some(running) = self.acp.as_ref().and_then(Acp::turn) {
            return self.fault(format!("{prompt} came while {running} was running"));
        }
        self.last_prompt = Some(prompt);
        let prompted = |acp: &mut Acp| acp.prompt(&self.welcome, prompt, text, history, attachments);
        let reports = self.acp.as_mut().map(prompted).unwrap_or_default();
        self.tell(reports)?;
        failpoint::hit("worker", "turn");
        Ok(())
    }

    /// Tells the manager what the agent that lives between prompts comes to. One that cannot be worked with is the
    /// end of this worker.
    fn tell(&mut self, reports: Vec<Report>) -> Result<(), Error> {
        for mut report in reports {
            // An agent that ends its turn because it is being ended has not done with it.
            if self.leaving.is_some()
                && let Report::TurnEnded { end, .. } = &mut report
                && matches!(end, TurnEnd::Stopped { reason } if reason == "cancelled")
            {
                *end = TurnEnd::Aborted;
            }
            match &report {
                Report::Update { .. } => failpoint::hit("acp", "update"),
                Report::PermissionAsked { .. } => failpoint::hit("acp", "permission"),
                Report::CallAsked { .. } => failpoint::hit("acp", "call"),
                _ => {}
            }
            self.link.send(report)?;
        }
        if self.acp.as_ref().is_some_and(Acp::is_given_up) {
            self.leave(exit::DONE, self.grace());
        }
        Ok(())
    }

    /// An agent that does not do in time what it has to is ended.
    fn hurry(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        let reports = self.acp.as_mut().map(|acp| acp.hurry(&self.welcome, now)).unwrap_or_default();
        self.tell(reports)
    }

    fn work_acp(&mut self, ready: acp::Ready) -> Result<(), Error> {
        let Some(acp) = &mut self.acp else { return Ok(()) };
        let reports = match ready {
            acp::Ready::Start => {
                acp.read_start();
                Vec::new()
            }
            acp::Ready::Stdin => {
                acp.feed();
                Vec::new()
            }
            acp::Ready::Stdout => acp.read(&self.welcome),
            acp::Ready::Terminals => acp.work(&self.welcome),
        };
        self.tell(reports)
    }

    /// Begins the end of the tree, or shortens the one under way.
    fn abort(&mut self, grace: Duration) {
        let now = Instant::now();
        let mut gone = self.acp.is_none();
        if let Some(turn) = &mut self.turn {
            // A turn whose agent came to its end is finished, whatever it left behind.
            turn.aborted |= turn.exit.is_none();
            // The tree is gone already, and only the last output is under way.
            gone = turn.exit.is_some();
        }
        match &mut self.ending {
            Some((ending, next)) => {
                ending.hasten(now + grace);
                *next = now;
            }
            None if gone => {}
            None => self.ending = Some((Ending::begin(now, grace), now)),
        }
    }

    fn leave(&mut self, code: u8, grace: Duration) {
        if self.leaving.is_none() {
            self.leaving = Some(Leaving { code, until: None });
            failpoint::hit("worker", "leave");
            self.abort(grace);
        }
    }

    fn lose_link(&mut self) -> Result<(), Error> {
        if self.shelter.is_none() {
            self.link.close();
            self.leave(exit::LINK_LOST, self.grace().min(LOST_GRACE));
            return Ok(());
        }
        self.alone_since = Instant::now();
        self.link.keep_for_the_next();
        let reports = self.acp.as_mut().map(|acp| acp.left_alone(&self.welcome)).unwrap_or_default();
        self.tell(reports)
    }

    // --- without a manager ---

    /// Whoever finds the shelter's place taken or closed has none, and leaves with its manager.
    fn open_shelter(&mut self, papers: protocol::wire::Shelter) {
        let spool = Spool::open(papers.spool.as_ref(), papers.spool_bytes);
        match spool.and_then(|spool| Ok((spool, Shelter::open(papers)?))) {
            Ok((spool, shelter)) => {
                self.link.spool_to(spool);
                self.shelter = Some(shelter);
            }
            Err(error) => log(&format!("no shelter, it leaves with its manager: {error}")),
        }
    }

    fn is_at_work(&self) -> bool {
        self.turn.is_some() || self.acp.as_ref().is_some_and(|acp| acp.turn().is_some())
    }

    /// When it is left, without a manager; or when the spool is tried again.
    fn alone_until(&self) -> Option<Instant> {
        let shelter = self.shelter.as_ref().filter(|_| self.link.is_alone())?;
        if !self.link.is_flushed() {
            return Some(Instant::now() + SPOOL_AGAIN);
        }
        let patience = if self.is_at_work() { shelter.turn() } else { shelter.idle() };
        Some(self.alone_since + patience.min(LONGEST_GRACE))
    }

    fn wait_no_longer(&mut self) {
        if self.link.is_alone() && self.leaving.is_none() {
            self.link.flush();
            if self.alone_until().is_some_and(|until| until <= Instant::now()) {
                self.leave(exit::LINK_LOST, self.grace().min(LOST_GRACE));
            }
        }
    }

    /// The next manager has come.
    fn take_up(&mut self, pipes: Pipes) -> Result<(), Error> {
        let mut hello = hello(self.link.acknowledged());
        if failpoint::armed("hello", "outdated")
            && let Report::Hello { protocol, .. } = &mut hello
        {
            *protocol -= 1;
        }
        if !self.link.is_alone() {
            // The manager before is dead: that it is has not been seen here yet.
            self.lose_link()?;
        }
        self.link.take_up(pipes.input, pipes.output, hello)?;
        let reports = self.acp.as_mut().map(Acp::taken_over).unwrap_or_default();
        self.tell(reports)
    }

    /// Says the last word, and leaves.
    fn fault(&mut self, message: String) -> Result<(), Error> {
        log(&message);
        self.link.send(Report::Fault { message })?;
        self.link.mute();
        self.leave(exit::FAULT, self.grace());
        Ok(())
    }

    /// Reaps who died; goes on with the end of the tree; begins it when the agent's own process is dead.
    fn reap(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        let (turn, acp) = (&mut self.turn, &mut self.acp);
        let mut note = |pid: Pid, exit: Exit| {
            if let Some(acp) = acp {
                acp.ended(pid, exit);
            }
            if let Some(turn) = turn.as_mut().filter(|turn| turn.pid == pid) {
                turn.exit = Some(exit);
            }
        };
        let round = match &mut self.ending {
            Some((ending, _)) => Some(ending.round(now, &mut note)),
            None if tree::reap(&mut note) => Some(Round::Gone),
            None => None,
        };
        if let Some(turn) = &mut self.turn
            && turn.exit.is_some()
            && let Some(started) = turn.finish_status()
        {
            self.link.send(started)?;
        }
        self.mourn()?;
        match round {
            Some(Round::Gone) => {
                failpoint::hit("worker", "gone");
                self.ending = None;
                if let Some(turn) = &mut self.turn {
                    // No turn may wait for ever for a process that is not there.
                    turn.exit.get_or_insert(Exit::Unknown);
                }
            }
            Some(Round::Next(next)) => {
                failpoint::hit("worker", "ending");
                if let Some((_, due)) = &mut self.ending {
                    *due = next;
                }
            }
            Some(Round::Stuck(pids)) => {
                self.ending = None;
                let pids: Vec<String> = pids.iter().map(Pid::to_string).collect();
                // As if it were gone: there is nothing more that could be done.
                self.turn = None;
                self.fault(format!("processes that survive SIGKILL: {}", pids.join(", ")))?;
                if let Some(leaving) = &mut self.leaving {
                    leaving.code = exit::FAULT;
                }
            }
            None => {
                if let Some(turn) = &mut self.turn
                    && turn.exit.is_some()
                {
                    turn.left_behind = u32::try_from(tree::living().len()).unwrap_or(u32::MAX);
                    let grace = self.grace().min(LEFTOVER_GRACE);
                    self.ending = Some((Ending::begin(now, grace), now));
                }
            }
        }
        Ok(())
    }

    /// What an agent that lived between prompts, and its commands, have said to the end; then that it is dead.
    fn mourn(&mut self) -> Result<(), Error> {
        let Some(acp) = &mut self.acp else { return Ok(()) };
        let mut reports = acp.work(&self.welcome);
        if acp.exit.is_some() && !acp.is_given_up() {
            // What it said at last is a pipe full at most; more comes from something that it has left behind.
            for _ in 0..LAST_READS {
                match acp.drain(&self.welcome) {
                    Some(more) => reports.extend(more),
                    None => break,
                }
            }
            // One that is told to leave is expected to.
            if self.leaving.is_none() {
                reports.extend(acp.last_words());
            }
        }
        self.tell(reports)
    }

    fn work(&mut self, ready: Ready) -> Result<(), Error> {
        let Some(turn) = &mut self.turn else { return Ok(()) };
        match ready {
            Ready::Status => {
                if let Some(started) = turn.read_status() {
                    self.link.send(started)?;
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

    /// Takes what needs no waiting: the end of a turn whose tree is gone, and the worker's own. The status to
    /// leave with, if that is now.
    fn proceed(&mut self) -> Result<Option<u8>, Error> {
        if self.ending.is_some() {
            return Ok(None);
        }
        if let Some(turn) = &mut self.turn
            && turn.exit.is_some()
        {
            loop {
                if !self.link.has_room() {
                    break;
                }
                match turn.drain() {
                    Some(reports) => {
                        for report in reports {
                            self.link.send(report)?;
                        }
                    }
                    None => {
                        if let Some(turn) = self.turn.take() {
                            self.link.send(turn.ended())?;
                        }
                        break;
                    }
                }
            }
        }
        let Some(leaving) = &mut self.leaving else {
            return Ok(None);
        };
        let (now, code) = (Instant::now(), leaving.code);
        let until = *leaving.until.get_or_insert(now + FAREWELL);
        self.link.flush();
        if self.link.is_broken() {
            self.lose_link()?;
        }
        let done = self.turn.is_none() && self.link.is_flushed();
        if !done && now < until {
            return Ok(None);
        }
        if self.link.is_alone() {
            self.link.sync();
        }
        Ok(Some(code))
    }
}

fn failed(prompt: PromptId, message: String) -> Report {
    Report::TurnEnded { prompt, end: TurnEnd::Failed { message }, exit: None, left_behind: 0 }
}
