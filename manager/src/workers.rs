//! The processes that belong to sessions: everything the loop does to them and hears of them.
//!
//! The end of a worker goes in this order: its pidfd is readable → **peek** (the zombie keeps the pid) →
//! **sweep** what it left → **drain** its pipe → `Gone` is committed → **reap**. Each step is one short pass of
//! the loop; what is not finished is looked at again a moment later.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use protocol::wire::{
    Agent, Command, FromWorker, Offer, PROTOCOL_VERSION, Report, Setting, SettingAnswer, Welcome,
};
use protocol::{EventId, Exit, Identity, Incarnation, PromptId, SessionId, failpoint};
use rustix::process::Signal;
use tokio::sync::mpsc;

use crate::config;
use crate::core::{Effect, Seen, Session, limits};
use crate::journal::Journal;
use crate::links::{Link, LinkEvent, Pipes};
use crate::process::{self, Watch};
use crate::shelter::Shelters;
use crate::sweep;
use crate::tokens::{self, McpProgram};

/// How long a dead worker's pipe may be silent before what may still be in it is given up, in milliseconds.
const DRAIN_MS: u64 = 1_000;
/// How long a worker may live on after it has closed its pipe, in milliseconds: its end is usually on its way.
const CLOSED_MS: u64 = 1_000;
/// Until an unfinished sweep is tried again, in milliseconds.
const AGAIN_MS: u64 = 5;
/// How much a worker may say before it is told what of it is on record, in bytes. It keeps what it is not told.
const UNTOLD: usize = 32 * 1024;
/// How much of the end of a log is read for the last words, in bytes, and how many lines are kept.
const LAST_WORDS: (u64, usize) = (4096, 10);

/// Something observed of an incarnation.
pub type Sighting = (SessionId, Incarnation, Seen);

struct Worker {
    incarnation: Incarnation,
    identity: Identity,
    pidfd: Option<OwnedFd>,
    /// Its number in [`Watch`].
    number: u64,
    link: Option<Link>,
    /// Where its part of the log begins.
    log_start: u64,
    welcomed: bool,
    /// An earlier manager has begun it.
    adopted: bool,
    /// It did not let us in: there is only what it has left.
    left_only: bool,
    /// It has not yet said that it goes on with this manager.
    awaits_hello: bool,
    /// It speaks another version of the protocol: it is told nothing but what its turn needs.
    outdated: bool,
    delivered: Option<PromptId>,
    aborted: Option<PromptId>,
    /// Questions of the running turn that it was told the answers of.
    answered: BTreeSet<u64>,
    /// Calls of the running turn that it was told the answers of.
    called: BTreeSet<u64>,
    /// What it was told last of the client that drives.
    driver: (Option<EventId>, Vec<Offer>),
    /// Settings that it was told.
    set: BTreeSet<u64>,
    /// Number of its last message.
    heard: u64,
    /// Number of its last message that is on record.
    recorded: u64,
    /// What it has said since it was last told what is on record, in bytes.
    untold: usize,
    /// It has come to rest since then: it keeps nothing that is on record.
    rests: bool,
    /// Since when its pipe has been closed while it lived.
    closed_at: Option<u64>,
    /// It is dead.
    dead: Option<Dead>,
}

/// A dead worker on its way to the grave.
struct Dead {
    exit: Exit,
    since: u64,
    last_byte: u64,
    /// It was said to be gone, with processes that survive it; their end is still to be said.
    told: bool,
    /// All of its tree is gone, and that was said.
    buried: bool,
}

/// All of them.
pub struct Workers {
    workers: HashMap<SessionId, Worker>,
    by_number: HashMap<u64, SessionId>,
    next_number: u64,
    watch: Watch,
    events: mpsc::UnboundedSender<LinkEvent>,
    /// Sessions whose worker is dead and not buried, or has closed its pipe.
    unfinished: BTreeMap<SessionId, u64>,
    world: World,
}

/// What all workers have in common.
pub struct World {
    /// The state directory.
    pub state_dir: PathBuf,
    /// The `session-worker` program, if it was named.
    pub worker_path: Option<PathBuf>,
    /// This boot.
    pub boot_id: String,
    /// First part of every marker.
    pub uuid: String,
    /// All children of this process are ours.
    pub whole_process: bool,
    /// What agents are offered for starting sub-agents.
    pub mcp_server: Option<McpProgram>,
    /// Where workers wait for the next manager.
    pub shelters: Shelters,
}

impl Workers {
    /// None yet. What links hear goes to `events`.
    pub fn new(world: World, events: mpsc::UnboundedSender<LinkEvent>) -> io::Result<Self> {
        Ok(Self {
            workers: HashMap::new(),
            by_number: HashMap::new(),
            next_number: 0,
            watch: Watch::new()?,
            events,
            unfinished: BTreeMap::new(),
            world,
        })
    }

    /// Readable when a process has ended.
    pub fn descriptor(&self) -> io::Result<OwnedFd> {
        self.watch.descriptor()
    }

    /// The state directory.
    pub fn state_dir(&self) -> &Path {
        &self.world.state_dir
    }

    /// Sessions with a process that is not reaped yet.
    pub fn ids(&self) -> impl Iterator<Item = &SessionId> {
        self.workers.keys()
    }

    /// Does what a state wants. What was done before is not done again.
    pub fn act(
        &mut self,
        id: &SessionId,
        effect: &Effect,
        session: &Session,
        journal: &Journal,
        now: u64,
    ) -> Option<Sighting> {
        match effect {
            Effect::Spawn { incarnation } => return self.spawn(id, *incarnation),
            Effect::Welcome { incarnation } => return self.welcome(id, *incarnation, session, journal),
            Effect::Deliver { incarnation, prompt } => {
                return self.deliver(id, *incarnation, *prompt, session, journal);
            }
            Effect::Abort { incarnation, prompt } => {
                let worker = self.get(id, *incarnation)?;
                if worker.aborted != Some(*prompt) {
                    worker.aborted = Some(*prompt);
                    return worker.send(id, Command::Abort { prompt: *prompt });
                }
            }
            Effect::Answer { incarnation, request, option } => {
                let worker = self.get(id, *incarnation)?;
                if worker.answered.insert(*request) {
                    let (request, option) = (*request, option.clone());
                    return worker.send(id, Command::Answer { request, option });
                }
            }
            Effect::Driver { incarnation, client, offers } => {
                let worker = self.get(id, *incarnation)?;
                let driver = (*client, offers.clone());
                if worker.driver != driver && !worker.outdated {
                    worker.driver = driver.clone();
                    return worker.send(id, Command::Driver { client: driver.0, offers: driver.1 });
                }
            }
            Effect::AnswerCall { incarnation, request, answer } => {
                let worker = self.get(id, *incarnation)?;
                if worker.called.insert(*request) {
                    let (request, answer) = (*request, answer.clone());
                    return worker.send(id, Command::CallAnswered { request, answer });
                }
            }
            Effect::Set { incarnation, request, setting } => {
                let worker = self.get(id, *incarnation)?;
                // The one that replaces it is told.
                if !worker.outdated && worker.set.insert(*request) {
                    let (request, setting) = (*request, setting.clone());
                    return worker.send(id, Command::Set { request, setting });
                }
            }
            Effect::Terminate { incarnation } => self.signal(id, *incarnation, Signal::TERM),
            Effect::Kill { incarnation, .. } => self.signal(id, *incarnation, Signal::KILL),
            Effect::Reclaim { incarnation, worker } => {
                self.reclaim(id, *incarnation, worker, session.heard, now);
            }
            Effect::Release { incarnation } => self.release(id, *incarnation),
        }
        None
    }

    fn get(&mut self, id: &SessionId, incarnation: Incarnation) -> Option<&mut Worker> {
        self.workers.get_mut(id).filter(|worker| worker.incarnation == incarnation)
    }

    fn spawn(&mut self, id: &SessionId, incarnation: Incarnation) -> Option<Sighting> {
        if self.workers.get(id).is_some_and(|worker| worker.incarnation >= incarnation) {
            return None;
        }
        let seen = match self.try_spawn(id, incarnation) {
            Ok(identity) => Seen::Spawned(identity),
            Err(error) => {
                tracing::warn!(session = %id, incarnation, %error, "worker not spawned");
                Seen::SpawnFailed { no_room: process::is_no_room(&error), error: error.to_string() }
            }
        };
        Some((id.clone(), incarnation, seen))
    }

    fn try_spawn(&mut self, id: &SessionId, incarnation: Incarnation) -> io::Result<Identity> {
        let program = worker_program(self.world.worker_path.as_deref())?;
        let mut log = open_log(&self.world.state_dir, id)?;
        let log_start = log.seek(SeekFrom::End(0))?;
        let marker = self.marker(id, incarnation);
        let spawned = process::spawn(&program, &marker, &self.world.boot_id, log)
            .map_err(|error| named(error, &program))?;
        let pipes = Pipes { stdin: spawned.stdin, stdout: spawned.stdout };
        let link = Link::open(id.clone(), incarnation, None, Some(pipes), self.events.clone());
        let link = link.inspect_err(|_| process::end(spawned.pidfd.as_fd()))?;
        let identity = spawned.identity.clone();
        tracing::debug!(session = %id, incarnation, pid = identity.pid, "worker spawned");
        self.insert(id, incarnation, spawned.identity, Some(spawned.pidfd), Some(link), log_start);
        Ok(identity)
    }

    fn marker(&self, id: &SessionId, incarnation: Incarnation) -> String {
        format!("{}/{id}/{incarnation}", self.world.uuid)
    }

    fn insert(
        &mut self,
        id: &SessionId,
        incarnation: Incarnation,
        identity: Identity,
        pidfd: Option<OwnedFd>,
        link: Option<Link>,
        log_start: u64,
    ) {
        self.next_number += 1;
        let number = self.next_number;
        if let Some(pidfd) = &pidfd
            && let Err(error) = self.watch.add(pidfd.as_fd(), number)
        {
            // Its end would never be seen; so it ends now, and the next sweep of unfinished ones finds it.
            tracing::error!(session = %id, %error, "worker cannot be watched");
            process::signal(pidfd.as_fd(), Signal::KILL);
            self.unfinished.insert(id.clone(), 0);
        }
        self.by_number.insert(number, id.clone());
        let worker = Worker {
            incarnation,
            identity,
            pidfd,
            number,
            link,
            log_start,
            welcomed: false,
            adopted: false,
            left_only: false,
            awaits_hello: false,
            outdated: false,
            delivered: None,
            aborted: None,
            answered: BTreeSet::new(),
            set: BTreeSet::new(),
            called: BTreeSet::new(),
            driver: Default::default(),
            heard: 0,
            recorded: 0,
            untold: 0,
            rests: false,
            closed_at: None,
            dead: None,
        };
        if let Some(before) = self.workers.insert(id.clone(), worker) {
            self.by_number.remove(&before.number);
        }
    }

    fn welcome(
        &mut self,
        id: &SessionId,
        incarnation: Incarnation,
        session: &Session,
        journal: &Journal,
    ) -> Option<Sighting> {
        let marker = self.marker(id, incarnation);
        if std::mem::replace(&mut self.get(id, incarnation)?.welcomed, true) {
            return None;
        }
        let spec = &session.spec;
        let (agent, offered) = self.with_subagents(id, session, journal);
        let worker = self.get(id, incarnation)?;
        let fault = worker.send(
            id,
            Command::Welcome(Box::new(Welcome {
                protocol: PROTOCOL_VERSION,
                session: id.clone(),
                resume_from: 0,
                marker,
                workdir: spec.workdir.clone(),
                env: config::agent_env(spec),
                agent,
                grace_ms: spec.grace_ms,
            })),
        );
        let open = match &spec.agent {
            Agent::Acp { .. } => {
                let (agent_session, conversation) = (session.agent_session.clone(), session.turns.count > 0);
                let set = session.settings.set.iter();
                let settings = set.map(|(name, value)| Setting { name: name.clone(), value: value.clone() });
                let settings = Command::Settings(settings.collect());
                let restore = Command::RestoreWithin(spec.restore_ms());
                let remote = Command::RemoteServers(spec.remote_servers.clone());
                vec![restore, settings, remote, Command::Open { agent_session, conversation }]
            }
            Agent::Command { .. } | Agent::Shell => Vec::new(),
        };
        // Last: a worker that has got it has got all.
        let shelter = Some(Command::Shelter(self.world.shelters.papers(id, incarnation)));
        let worker = self.get(id, incarnation)?;
        let more = open.into_iter().chain(shelter).find_map(|command| worker.send(id, command));
        let notice = |why| (id.clone(), incarnation, Seen::Notice(why));
        fault.or(more).or(offered.err().map(notice))
    }

    /// The session's agent with the tools for sub-agents added, where it takes any and is to have them; or why it
    /// must do without.
    fn with_subagents(
        &self,
        id: &SessionId,
        session: &Session,
        journal: &Journal,
    ) -> (Agent, Result<(), String>) {
        let mut agent = session.spec.agent.clone();
        let (Agent::Acp { mcp_servers, .. }, Some(program), true) =
            (&mut agent, &self.world.mcp_server, session.spec.subagents.offered)
        else {
            return (agent, Ok(()));
        };
        if mcp_servers.iter().any(|server| server.name == tokens::SERVER) {
            // The profile has one of its own under that name.
            return (agent, Ok(()));
        }
        let offered = match journal.token(id) {
            Ok(Some(token)) => {
                program.offer(&self.world.state_dir, id, &token).map_err(|error| error.to_string())
            }
            Ok(None) => Err("the session has no token on record".into()),
            Err(error) => Err(error.to_string()),
        };
        match offered {
            Ok(server) => {
                mcp_servers.push(server);
                (agent, Ok(()))
            }
            Err(why) => {
                let why = format!("the agent has no tools for sub-agents until its next start: {why}");
                (agent, Err(why))
            }
        }
    }

    fn deliver(
        &mut self,
        id: &SessionId,
        incarnation: Incarnation,
        prompt: PromptId,
        session: &Session,
        journal: &Journal,
    ) -> Option<Sighting> {
        let worker = self.get(id, incarnation)?;
        if worker.delivered == Some(prompt) {
            return None;
        }
        let turn = session.turns.running.as_ref().filter(|turn| turn.prompt.id == prompt)?;
        if worker.adopted && turn.is_taken() {
            // By the manager before.
            worker.delivered = Some(prompt);
            return None;
        }
        let told = match &session.spec.agent {
            Agent::Command { transcript, .. } => *transcript,
            // It remembers what it was told since it was started.
            Agent::Acp { .. } => session.owes_transcript && worker.delivered.is_none(),
            Agent::Shell => false,
        };
        let history = match told.then(|| journal.history(id, prompt)) {
            Some(Ok(history)) => history,
            Some(Err(error)) => {
                let why = format!("the conversation before could not be read: {error}");
                return Some((id.clone(), incarnation, Seen::Faulted(why)));
            }
            None => Vec::new(),
        };
        let attachments = match turn.prompt.attachments.is_empty() {
            true => Vec::new(),
            false => match journal.attachments(prompt) {
                Ok(attachments) if attachments.len() == turn.prompt.attachments.len() => attachments,
                other => {
                    let error = other
                        .map_or_else(|error| error.to_string(), |found| format!("{} found", found.len()));
                    let why = format!("what belongs to the prompt could not be read: {error}");
                    return Some((id.clone(), incarnation, Seen::Faulted(why)));
                }
            },
        };
        worker.delivered = Some(prompt);
        worker.answered.clear();
        worker.called.clear();
        let text = turn.prompt.text.to_string();
        let command = match attachments.is_empty() {
            true => Command::Prompt { prompt, text, history },
            false => Command::PromptWith { prompt, text, history, attachments },
        };
        worker.send(id, command)
    }

    fn signal(&mut self, id: &SessionId, incarnation: Incarnation, signal: Signal) {
        if let Some(worker) = self.get(id, incarnation)
            && let (Some(pidfd), None) = (&worker.pidfd, &worker.dead)
        {
            process::signal(pidfd.as_fd(), signal);
        }
    }

    /// Takes hold of a worker that an earlier manager left, dead or alive: of what it says from now on, and of what
    /// it has said since its message `heard`.
    fn reclaim(
        &mut self,
        id: &SessionId,
        incarnation: Incarnation,
        identity: &Identity,
        heard: u64,
        now: u64,
    ) {
        if self.workers.contains_key(id) {
            return;
        }
        let pidfd = process::open(identity, &self.world.boot_id);
        let gone = pidfd.is_none();
        // One that does not let us in is on its way out; it is waited for, and then killed.
        let pipes = if gone { None } else { self.world.shelters.visit(id, incarnation) };
        let awaits_hello = pipes.is_some();
        let link = self.link_to_adopted(id, incarnation, pipes);
        self.insert(id, incarnation, identity.clone(), pidfd, link, u64::MAX);
        if let Some(worker) = self.get(id, incarnation) {
            (worker.adopted, worker.left_only, worker.awaits_hello) = (true, !awaits_hello, awaits_hello);
            (worker.heard, worker.recorded) = (heard, heard);
        }
        if gone {
            self.died(id, Exit::Unknown, now);
        }
    }

    /// What it has said while it was alone, and then what comes by the pipes.
    fn link_to_adopted(
        &self,
        id: &SessionId,
        incarnation: Incarnation,
        pipes: Option<Pipes>,
    ) -> Option<Link> {
        let spool = self.world.shelters.spool(id, incarnation);
        if spool.is_none() && pipes.is_none() {
            return None;
        }
        let link = Link::open(id.clone(), incarnation, spool, pipes, self.events.clone());
        link.inspect_err(|error| tracing::error!(session = %id, %error, "no link to a worker")).ok()
    }

    /// All of its messages up to this number are on record.
    pub fn recorded(&mut self, id: &SessionId, incarnation: Incarnation, number: u64) -> Option<Sighting> {
        let worker = self.get(id, incarnation)?;
        worker.recorded = worker.recorded.max(number);
        let due = worker.untold >= UNTOLD || (worker.rests && worker.recorded == worker.heard);
        if !due || worker.dead.is_some() {
            return None;
        }
        worker.send(id, Command::Acknowledge)
    }

    /// Lets go of an incarnation. One that lives is killed; its end is looked after all the same.
    fn release(&mut self, id: &SessionId, incarnation: Incarnation) {
        let Some(worker) = self.workers.get(id).filter(|worker| worker.incarnation <= incarnation) else {
            return;
        };
        if let (Some(pidfd), None) = (&worker.pidfd, &worker.dead) {
            process::signal(pidfd.as_fd(), Signal::KILL);
        }
        if worker.dead.as_ref().is_some_and(|dead| dead.buried) {
            self.reap(id);
        }
    }

    /// Its `Gone` is committed: the zombie may go, and with it the last hold on the pid.
    pub fn gone(&mut self, id: &SessionId, incarnation: Incarnation) {
        if self
            .get(id, incarnation)
            .is_some_and(|worker| worker.dead.as_ref().is_some_and(|dead| dead.buried))
        {
            self.reap(id);
        }
    }

    fn reap(&mut self, id: &SessionId) {
        let Some(worker) = self.workers.remove(id) else {
            return;
        };
        self.by_number.remove(&worker.number);
        self.unfinished.remove(id);
        failpoint::hit("dead", "unreaped");
        if let Some(pidfd) = &worker.pidfd {
            process::reap(pidfd.as_fd());
        }
        self.world.shelters.remove(id, worker.incarnation);
    }

    /// What a link said.
    pub fn heard(
        &mut self,
        event: LinkEvent,
        now: u64,
    ) -> (Vec<Sighting>, Option<tokio::sync::OwnedSemaphorePermit>) {
        match event {
            LinkEvent::Frames { session, incarnation, frames, bytes, permit } => {
                let mut seen = Vec::new();
                if let Some(worker) = self.get(&session, incarnation) {
                    let before = worker.heard;
                    worker.untold += bytes;
                    if let Some(dead) = &mut worker.dead {
                        dead.last_byte = now;
                    }
                    for frame in frames {
                        match worker.understand(frame) {
                            Ok(Some(sighting)) => seen.push((session.clone(), incarnation, sighting)),
                            Ok(None) => {}
                            Err(why) => {
                                seen.push((session.clone(), incarnation, Seen::Faulted(why)));
                                break;
                            }
                        }
                    }
                    if worker.heard > before {
                        seen.push((session, incarnation, Seen::Heard(worker.heard)));
                    }
                }
                (seen, Some(permit))
            }
            LinkEvent::Ended { session, incarnation, error } => {
                let mut seen = Vec::new();
                if let Some(worker) = self.get(&session, incarnation) {
                    worker.link = None;
                    worker.closed_at = Some(now);
                    // What was left may be cut anywhere, or have lost its middle.
                    if let (Some(error), None, false) = (error, &worker.dead, worker.left_only) {
                        seen.push((
                            session.clone(),
                            incarnation,
                            Seen::Faulted(format!("the worker sent {error}")),
                        ));
                    }
                    self.unfinished.insert(session, now);
                }
                (seen, None)
            }
        }
    }

    /// Looks which processes have ended: one pass over those that have, whatever the number of those that live.
    pub fn look(&mut self, now: u64) {
        loop {
            let ended = self.watch.ended();
            if ended.is_empty() {
                return;
            }
            for number in ended {
                let Some(id) = self.by_number.get(&number).cloned() else {
                    continue;
                };
                let Some(worker) = self.workers.get(&id) else {
                    continue;
                };
                let Some(pidfd) = &worker.pidfd else { continue };
                self.watch.remove(pidfd.as_fd());
                if let Some(exit) = process::peek(pidfd.as_fd()) {
                    self.died(&id, exit, now);
                }
            }
        }
    }

    fn died(&mut self, id: &SessionId, exit: Exit, now: u64) {
        if let Some(worker) = self.workers.get_mut(id)
            && worker.dead.is_none()
        {
            tracing::debug!(session = %id, incarnation = worker.incarnation, pid = worker.identity.pid, %exit, "worker ended");
            worker.dead = Some(Dead { exit, since: now, last_byte: now, told: false, buried: false });
            self.unfinished.insert(id.clone(), now);
            // One that never let us in has left what it said.
            if worker.adopted && worker.link.is_none() && !std::mem::replace(&mut worker.awaits_hello, true) {
                let incarnation = worker.incarnation;
                let link = self.link_to_adopted(id, incarnation, None);
                if let Some(worker) = self.workers.get_mut(id) {
                    worker.link = link;
                }
            }
        }
    }

    /// When [`bury`](Self::bury) is due again.
    pub fn deadline(&self) -> Option<u64> {
        self.unfinished.values().min().copied()
    }

    /// Brings dead workers a step nearer to the grave: sweeps and drains. Those that are ready give `Gone`.
    pub fn bury(&mut self, now: u64) -> Vec<Sighting> {
        let due: Vec<SessionId> =
            self.unfinished.iter().filter(|(_, at)| **at <= now).map(|(id, _)| id.clone()).collect();
        if due.is_empty() {
            return Vec::new();
        }
        let mut seen = Vec::new();
        let dying = due.iter().any(|id| self.workers.get(id).is_some_and(|worker| worker.dead.is_some()));
        let strangers = if dying && self.world.whole_process { self.strangers() } else { Vec::new() };
        let marked = if dying { self.marked_leftovers(&due) } else { HashMap::new() };
        for id in due {
            self.unfinished.remove(&id);
            let Some(worker) = self.workers.get_mut(&id) else {
                continue;
            };
            let incarnation = worker.incarnation;
            let Some(dead) = &mut worker.dead else {
                // It lives and its pipe is closed.
                if let Some(again) = worker.closed_at.map(|at| at + CLOSED_MS).filter(|at| *at > now) {
                    self.unfinished.insert(id, again);
                } else if let Some(exit) =
                    worker.pidfd.as_ref().and_then(|pidfd| process::peek(pidfd.as_fd()))
                {
                    self.died(&id, exit, now);
                } else {
                    seen.push((id, incarnation, Seen::Faulted("the worker closed its pipe".into())));
                }
                continue;
            };
            if dead.buried {
                continue;
            }
            failpoint::hit("dead", if worker.link.is_some() { "undrained" } else { "drained" });
            let mut survivors = marked.get(&id).cloned().unwrap_or_default();
            survivors.extend(&strangers);
            let silent = now >= dead.last_byte + DRAIN_MS;
            let drained = worker.link.is_none() || silent;
            let patient = now < dead.since + limits::UNKILLABLE_MS;
            if (!survivors.is_empty() && patient) || !drained {
                self.unfinished.insert(id, now + AGAIN_MS);
                continue;
            }
            dead.buried = survivors.is_empty();
            if !dead.buried {
                // What survives SIGKILL waits for the kernel. Its end is looked for, so that the session can be
                // started again.
                self.unfinished.insert(id.clone(), now + limits::KILL_MS);
                if std::mem::replace(&mut dead.told, true) {
                    continue;
                }
            }
            if let Some(link) = worker.link.take() {
                tracing::warn!(session = %id, incarnation, "a dead worker's pipe did not end; it was cut");
                link.cut();
            }
            let exit = dead.exit;
            let last_words = last_words(&log_path(&self.world.state_dir, &id), worker.log_start);
            seen.push((id, incarnation, Seen::Gone { exit, last_words, survivors }));
        }
        seen
    }

    /// Orphans that the kernel has given to us, killed; those that still live.
    fn strangers(&self) -> Vec<u32> {
        // There are hardly ever any, so that to look through all workers costs nothing.
        sweep::strangers(|pid| self.workers.values().any(|worker| worker.identity.pid == pid))
    }

    /// Processes that dead workers left and that we are not the subreaper of, killed; those that still live.
    fn marked_leftovers(&self, due: &[SessionId]) -> HashMap<SessionId, Vec<u32>> {
        // Orphans of our children come to us where we are the subreaper, unless they were never below us: the
        // workers of an earlier manager.
        let needs = |id: &&SessionId| {
            let worker = self.workers.get(*id);
            worker.is_some_and(|worker| {
                worker.dead.is_some() && (!self.world.whole_process || worker.log_start == u64::MAX)
            })
        };
        let wanted: HashSet<&SessionId> = due.iter().filter(needs).collect();
        if wanted.is_empty() {
            return HashMap::new();
        }
        let mut left: HashMap<SessionId, Vec<u32>> = HashMap::new();
        for stray in sweep::marked(&format!("{}/", self.world.uuid)) {
            let id = stray.session.split('/').next().and_then(|id| id.parse::<SessionId>().ok());
            if let Some(id) = id.filter(|id| wanted.contains(id)) {
                stray.kill();
                left.entry(id).or_default().push(stray.pid);
            }
        }
        left
    }

    /// Removes what is left of the shelters of workers that are not on record. `on_record` are those that are.
    pub fn tidy(&self, on_record: &HashSet<(&SessionId, Incarnation)>) {
        self.world.shelters.tidy(|id, incarnation| on_record.contains(&(id, incarnation)));
    }

    /// Kills what earlier managers over this directory left and no session on record answers for. `reclaimed`
    /// are the sessions whose worker is looked after by itself.
    pub fn sweep_strays(&self, reclaimed: &HashSet<SessionId>) -> usize {
        let strays = sweep::marked(&format!("{}/", self.world.uuid));
        let strays = strays.iter().filter(|stray| {
            let id = stray.session.split('/').next().and_then(|id| id.parse().ok());
            id.is_none_or(|id| !reclaimed.contains(&id))
        });
        strays
            .map(|stray| {
                tracing::warn!(pid = stray.pid, of = %stray.session.escape_debug(), "killed a process that was left behind");
                stray.kill();
            })
            .count()
    }
}

impl Worker {
    fn send(&mut self, id: &SessionId, command: Command) -> Option<Sighting> {
        let ack = self.recorded;
        (self.untold, self.rests) = (0, false);
        let error = self.link.as_mut()?.send(command, ack).err()?;
        Some((id.clone(), self.incarnation, Seen::Faulted(format!("a command could not be sent: {error}"))))
    }

    /// What a message means for the session, or what is wrong with it.
    fn understand(&mut self, frame: FromWorker) -> Result<Option<Seen>, String> {
        if let Report::Hello { protocol, resume_from, .. } = frame.body {
            let outdated = protocol != PROTOCOL_VERSION;
            let Some(link) = self.link.as_mut().filter(|_| std::mem::take(&mut self.awaits_hello)) else {
                // One that was just started is of the program that is installed now.
                let wrong = format!("the worker speaks protocol {protocol}, this manager {PROTOCOL_VERSION}");
                return if outdated { Err(wrong) } else { Ok(None) };
            };
            link.resume(resume_from);
            (self.welcomed, self.outdated) = (true, outdated);
            return Ok(Some(Seen::Linked { outdated }));
        }
        if self.adopted && frame.incarnation == self.incarnation && frame.seq <= self.heard {
            // The manager before had put it on record, and had no time to say so.
            return Ok(None);
        }
        if self.left_only && frame.seq != self.heard + 1 {
            // The record lost its end in a power cut, and the spool did not. What came between is not known, so that what
            // comes after means nothing.
            return Ok(None);
        }
        if frame.incarnation != self.incarnation || frame.seq != self.heard + 1 {
            return Err(format!(
                "message {} of incarnation {} came after message {} of incarnation {}",
                frame.seq, frame.incarnation, self.heard, self.incarnation
            ));
        }
        self.heard = frame.seq;
        self.rests |= matches!(frame.body, Report::Ready { .. } | Report::TurnEnded { .. });
        Ok(Some(match frame.body {
            Report::Hello { .. } => return Ok(None),
            Report::Ready { restore, agent_pid } => Seen::Ready { restore, agent_pid },
            Report::TurnStarted { prompt, agent_pid } => Seen::TurnStarted { prompt, agent_pid },
            Report::Output { prompt, stream, text } => Seen::Output { prompt, stream, text },
            Report::TurnEnded { prompt, end, exit, left_behind } => {
                Seen::TurnEnded { prompt, end, exit, left_behind }
            }
            Report::Fault { message } => return Err(message),
            Report::AgentSession { id } => Seen::AgentSession(id),
            Report::Introduced(details) => Seen::Introduced(details),
            Report::Update { prompt, update, payload } => {
                Seen::Updated { prompt, update, payload: object(&payload)? }
            }
            Report::PermissionAsked { prompt, request, ask, payload } => {
                Seen::PermissionAsked { prompt, request, ask, payload: object(&payload)? }
            }
            Report::CallAsked { prompt, request, client, method, payload } => {
                Seen::CallAsked { prompt, request, client, method, payload: object(&payload)? }
            }
            Report::AgentDied { message } => Seen::AgentDied(message),
            Report::LoginNeeded { message } => Seen::LoginNeeded(message),
            Report::Notice { text } => Seen::Notice(text),
            Report::SettingAnswered { request, answer } => {
                let answer = match answer {
                    SettingAnswer::Set { payload } => Ok(object(&payload)?),
                    SettingAnswer::Refused { reason } => Err(reason),
                };
                Seen::SettingAnswered { request, answer }
            }
        }))
    }
}

/// What an agent sent. The worker has read it before, so that anything else is the worker's fault.
fn object(payload: &str) -> Result<serde_json::Value, String> {
    serde_json::from_str(payload).map_err(|error| format!("the worker sent what is no JSON: {error}"))
}

/// The session's log: everything its workers and agents wrote to standard error.
pub fn log_path(state_dir: &Path, id: &SessionId) -> PathBuf {
    state_dir.join("logs").join(format!("{id}.log"))
}

fn open_log(state_dir: &Path, id: &SessionId) -> io::Result<File> {
    let path = log_path(state_dir, id);
    OpenOptions::new().create(true).append(true).mode(0o600).open(&path).map_err(|error| named(error, &path))
}

/// The program to spawn: looked for each time, so that an upgrade that replaces the file strands nobody.
fn worker_program(named: Option<&Path>) -> io::Result<PathBuf> {
    match named {
        Some(path) => std::path::absolute(path),
        None => {
            let exe = std::env::current_exe()?;
            // After an upgrade the link reads `…/kennel (deleted)`; the directory is what counts.
            let directory = exe.parent().ok_or(io::ErrorKind::NotFound)?;
            Ok(directory.join("session-worker"))
        }
    }
}

/// The error with its file's name in it, and its number still to be asked for.
fn named(error: io::Error, path: &Path) -> io::Error {
    tracing::debug!(path = %path.display(), %error, "not opened");
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => {
            io::Error::new(error.kind(), format!("{}: {error}", path.display()))
        }
        _ => error,
    }
}

/// The last lines of a log, of what was written after `start`.
fn last_words(path: &Path, start: u64) -> Vec<String> {
    let read = || -> io::Result<String> {
        let mut log = File::open(path)?;
        let end = log.seek(SeekFrom::End(0))?;
        let from = start.min(end).max(end.saturating_sub(LAST_WORDS.0));
        log.seek(SeekFrom::Start(from))?;
        let mut text = Vec::new();
        log.take(LAST_WORDS.0).read_to_end(&mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    };
    let text = read().unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let newest = lines.len().saturating_sub(LAST_WORDS.1);
    lines[newest..].iter().map(|line| (*line).to_owned()).collect()
}
