//! The processes that belong to sessions: everything the loop does to them and hears of them.
//!
//! The end of a worker goes in this order: its pidfd is readable → **peek** (the zombie keeps the pid) →
//! **sweep** what it left → **drain** its pipe → `Gone` is committed → **reap**. Each step is one short pass of
//! the loop; what is not finished is looked at again a moment later.

mod burial;
pub(crate) mod link;
pub(crate) mod logs;
mod pulse;
mod reports;
pub(crate) mod shelter;
pub(crate) mod tokens;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use protocol::flow::Untold;
use protocol::frame::Framed;
use protocol::wire::{Agent, Command, Find, Inherited, Offer, PROTOCOL_VERSION, Setting, Welcome};
use protocol::{EventId, Exit, Groups, Identity, Incarnation, Level, PromptId, SessionId, Walls, failpoint};
use rustix::process::Signal;
use tokio::sync::mpsc;

use self::pulse::Pulse;
use crate::config;
use crate::core::{Effect, Seen, Session};
use crate::fetch::{Fetched, Fetcher, Found, Wanted};
use crate::journal::Journal;
use crate::system::cgroups::Cgroups;
use crate::system::owned::{self, How};
use crate::system::probe::Machine;
use crate::system::process::{self, Watch, worker_program};
use crate::system::sweep::Marker;
use crate::work::Work;
use crate::workers::link::{Link, LinkEvent, Pipes};
use crate::workers::shelter::Shelters;
use crate::workers::tokens::McpProgram;

/// How long the parent of a process that is not our child is given to reap it, in milliseconds. Who takes in orphans
/// does so at once, or never.
const REAPED_MS: u64 = 200;
/// How long a dead worker's pipe may be silent before what may still be in it is given up, in milliseconds.
const DRAIN_MS: u64 = 1_000;
/// How long a worker may live on after it has closed its pipe, in milliseconds: its end is usually on its way.
const CLOSED_MS: u64 = 1_000;
/// Until an unfinished sweep is tried again, in milliseconds.
const AGAIN_MS: u64 = 5;
/// The same while its end cannot be recorded anyway.
const HELD_MS: u64 = 100;

/// Something observed of an incarnation.
pub type Sighting = (SessionId, Incarnation, Seen);

struct Worker {
    incarnation: Incarnation,
    identity: Identity,
    pidfd: Option<OwnedFd>,
    /// Its number in [`Watch`].
    number: u64,
    link: Option<Link>,
    /// Where its part of the log begins: the file, and how long it was.
    log: Option<logs::Begin>,
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
    /// What this prompt needs is being read.
    fetching: Option<PromptId>,
    aborted: Option<PromptId>,
    /// Questions of the running turn that it was told the answers of.
    answered: BTreeSet<u64>,
    /// Calls of the running turn that it was told the answers of.
    called: BTreeSet<u64>,
    /// What it was told last of the client that drives.
    driver: (Option<EventId>, Vec<Offer>),
    /// Settings that it was told.
    set: BTreeSet<u64>,
    /// Its last command to which something is due, and the last that it has said it acted on.
    owed: u64,
    acted: u64,
    /// A turn runs in it.
    at_work: bool,
    /// While it owes something.
    pulse: Option<Pulse>,
    /// Number of its last message.
    heard: u64,
    /// Number of its last message that is on record.
    recorded: u64,
    /// What it has said and was not told to be on record. It keeps what it is not told.
    untold: Untold,
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
    /// Nothing that it has left lives.
    swept: bool,
    /// What was read of its pipe by then, in bytes.
    read: u64,
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
    /// When workers that owe something are looked at.
    beats: BTreeSet<(u64, SessionId)>,
    fetcher: Fetcher,
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
    /// What agents can be held with.
    pub machine: Machine,
    /// What is done is counted here.
    pub work: Arc<Work>,
    /// The control groups of sessions.
    pub cgroups: Option<Cgroups>,
    /// What sessions' programs inherit where nothing else is set.
    pub inherited: Inherited,
}

impl World {
    /// Hides the manager's own files, too, and says in which boot this is.
    fn hide(&self, mut walls: Walls) -> Walls {
        let socket = self.mcp_server.as_ref().map(|program| program.socket.as_path());
        // With its directory: the next manager makes another socket there.
        let place = socket.and_then(Path::parent);
        let own = [Some(self.state_dir.as_path()), place].into_iter().flatten();
        walls.hidden.extend(own.filter_map(|path| path.to_str().map(str::to_owned)));
        if walls.boot_id != self.boot_id {
            // Some devices have other numbers since then; inodes and the time of birth stay.
            walls.granted.iter_mut().for_each(|granted| granted.device = None);
        }
        walls
    }
}

impl Workers {
    /// None yet. What links hear goes to `events`.
    pub fn new(world: World, events: mpsc::UnboundedSender<LinkEvent>, fetcher: Fetcher) -> io::Result<Self> {
        Ok(Self {
            workers: HashMap::new(),
            by_number: HashMap::new(),
            next_number: 0,
            watch: Watch::new()?,
            events,
            unfinished: BTreeMap::new(),
            beats: BTreeSet::new(),
            fetcher,
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
                return self.deliver(id, *incarnation, *prompt, session, now);
            }
            Effect::Abort { incarnation, prompt } => {
                let worker = self.get(id, *incarnation)?;
                // One that was not delivered is aborted when it is.
                if worker.aborted != Some(*prompt) && worker.fetching != Some(*prompt) {
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
        if let Err(error) = logs::bound(&self.world.state_dir, id) {
            tracing::warn!(session = %id, %error, "its log is too long and was not kept");
        }
        let log = open_log(&self.world.state_dir, id)?;
        let begin = logs::Begin::at_end_of(&log)?;
        let marker = self.marker(id, incarnation);
        let spawned = process::spawn(&program, &marker, &self.world.boot_id, log)
            .map_err(|error| named(error, &program))?;
        let pipes = Pipes { stdin: spawned.stdin, stdout: spawned.stdout };
        let link = Link::open(id.clone(), incarnation, None, Some(pipes), self.events.clone());
        let link = link.inspect_err(|_| process::end(spawned.pidfd.as_fd()))?;
        let identity = spawned.identity.clone();
        tracing::debug!(session = %id, incarnation, pid = identity.pid, "worker spawned");
        self.insert(id, incarnation, spawned.identity, Some(spawned.pidfd), Some(link), Some(begin));
        Ok(identity)
    }

    fn marker(&self, id: &SessionId, incarnation: Incarnation) -> String {
        Marker { manager: self.world.uuid.clone(), session: id.clone(), incarnation }.to_string()
    }

    fn insert(
        &mut self,
        id: &SessionId,
        incarnation: Incarnation,
        identity: Identity,
        pidfd: Option<OwnedFd>,
        link: Option<Link>,
        log: Option<logs::Begin>,
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
            log,
            welcomed: false,
            adopted: false,
            left_only: false,
            awaits_hello: false,
            outdated: false,
            delivered: None,
            fetching: None,
            aborted: None,
            answered: BTreeSet::new(),
            set: BTreeSet::new(),
            called: BTreeSet::new(),
            driver: Default::default(),
            owed: 0,
            acted: 0,
            at_work: false,
            pulse: None,
            heard: 0,
            recorded: 0,
            untold: Untold::default(),
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
        let (level, demanded) = self.world.machine.level_for(spec);
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
        let limits = spec.limits;
        let (groups, by) = match &mut self.world.cgroups {
            Some(cgroups) => {
                cgroups.keep(id);
                cgroups.make(id, &limits)
            }
            None => (Groups::default(), limits.without_groups()),
        };
        let level = match level {
            Level::Subreaper if !groups.enter.is_empty() => Level::Cgroup,
            level => level,
        };
        let inherited = Inherited {
            umask: spec.umask.or(self.world.inherited.umask),
            places: config::places(spec),
            ..self.world.inherited.clone()
        };
        let contain = [
            Command::Inherit(inherited),
            Command::Find(Find { path: config::path_of(spec), program: spec.program.clone() }),
            Command::Contain { level, demanded },
            Command::Limits { limits, by, groups },
        ];
        let sandbox = spec.walls.clone().map(|walls| Command::SandboxOf(Box::new(self.world.hide(walls))));
        let open = match &spec.agent {
            Agent::Acp { .. } => {
                let (agent_session, conversation) = (session.agent_session.clone(), session.turns.count > 0);
                let set = session.settings.set.iter();
                let settings = set.map(|(name, value)| Setting { name: name.clone(), value: value.clone() });
                let settings = Command::Settings(settings.collect());
                let restore = Command::RestoreWithin(spec.restore_ms());
                let remote = Command::RemoteServers(spec.remote_servers.clone());
                let (client, offers) = session.offered_at_start();
                let driver = (!offers.is_empty()).then_some(Command::Driver { client, offers });
                let open = Command::Open { agent_session, conversation };
                [restore, settings, remote].into_iter().chain(driver).chain([open]).collect()
            }
            Agent::Command { .. } | Agent::Shell => Vec::new(),
        };
        // Last: a worker that has got it has got all.
        let shelter = Some(Command::Shelter(self.world.shelters.papers(id, incarnation)));
        let worker = self.get(id, incarnation)?;
        let more = contain
            .into_iter()
            .chain(sandbox)
            .chain(open)
            .chain(shelter)
            .find_map(|command| worker.send(id, command));
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
        let (Agent::Acp { mcp_servers, .. }, Some(program), true) = (
            &mut agent,
            &self.world.mcp_server,
            session.spec.subagents.offered && session.spec.walls.is_none(),
        ) else {
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

    /// Gives a worker its prompt, or has what belongs to that read first: [`fetched`](Self::fetched) goes on then.
    fn deliver(
        &mut self,
        id: &SessionId,
        incarnation: Incarnation,
        prompt: PromptId,
        session: &Session,
        now: u64,
    ) -> Option<Sighting> {
        let worker = self.get(id, incarnation)?;
        if worker.delivered == Some(prompt) || worker.fetching == Some(prompt) {
            return None;
        }
        let turn = session.turns.running.as_ref().filter(|turn| turn.prompt.id == prompt)?;
        if worker.adopted && turn.is_taken() {
            // By the manager before.
            worker.delivered = Some(prompt);
            return None;
        }
        // What lives between prompts remembers what it was told since it was started.
        let history = session.is_told_history() && !(session.owes_transcript && worker.delivered.is_some());
        let attachments = turn.prompt.attachments.len();
        if history || attachments > 0 {
            worker.fetching = Some(prompt);
            let session = id.clone();
            self.fetcher.ask(Wanted { session, incarnation, prompt, history, attachments }, now);
            return None;
        }
        let text = turn.prompt.text.to_string();
        worker.hand_over(id, prompt, text, Found::default())
    }

    /// What a prompt needs was read: it is given to its worker, if that waits for it still. What is to be told then.
    pub fn fetched(&mut self, fetched: Fetched, session: Option<&Session>, now: u64) -> Vec<Sighting> {
        self.fetcher.answered(now);
        let Fetched { wanted: Wanted { session: id, incarnation, prompt, .. }, found } = fetched;
        let Some(worker) = self.get(&id, incarnation).filter(|worker| worker.fetching == Some(prompt)) else {
            return Vec::new();
        };
        worker.fetching = None;
        let running = session.and_then(|session| session.turns.running.as_ref());
        let Some(turn) = running.filter(|turn| turn.prompt.id == prompt) else { return Vec::new() };
        match found {
            Ok(found) => {
                let fault = worker.hand_over(&id, prompt, turn.prompt.text.to_string(), found);
                // From now on it is the worker that is waited for.
                let handed = (id, incarnation, Seen::Handed(prompt));
                vec![fault.unwrap_or(handed)]
            }
            Err(why) => vec![(id, incarnation, Seen::Faulted(why))],
        }
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
        failpoint::hit_about("adopt", "found", id);
        let pipes = if gone { None } else { self.world.shelters.visit(id, incarnation) };
        failpoint::hit_about("adopt", "visited", id);
        let awaits_hello = pipes.is_some();
        let link = self.link_to_adopted(id, incarnation, pipes);
        self.insert(id, incarnation, identity.clone(), pidfd, link, None);
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
        worker.untold.recorded(number);
        self.tell_of_record(id)
    }

    /// Tells a worker what is on record, if that is due.
    fn tell_of_record(&mut self, id: &SessionId) -> Option<Sighting> {
        let worker = self.workers.get_mut(id).filter(|worker| worker.is_to_be_told())?;
        self.world.work.acknowledged();
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
        failpoint::hit_about("dead", "unreaped", id);
        if let Some(pidfd) = &worker.pidfd {
            process::reap(pidfd.as_fd());
        }
        self.world.shelters.remove(id, worker.incarnation);
        if let Some(cgroups) = &mut self.world.cgroups {
            cgroups.remove(id);
        }
    }

    /// What a link said.
    pub fn heard(
        &mut self,
        event: LinkEvent,
        now: u64,
    ) -> (Vec<Sighting>, Option<tokio::sync::OwnedSemaphorePermit>) {
        match event {
            LinkEvent::Frames { session, incarnation, frames, permit } => {
                let mut seen = Vec::new();
                if let Some(worker) = self.get(&session, incarnation) {
                    let before = worker.heard;
                    for Framed { message, size } in frames {
                        let (seq, before) = (message.seq, worker.heard);
                        let understood = worker.understand(message);
                        match worker.heard > before {
                            true => worker.untold.heard(seq, size),
                            false => worker.untold.heard_again(size),
                        }
                        match understood {
                            Ok(understood) => {
                                let all = understood.seen.into_iter().chain(understood.notice);
                                seen.extend(all.map(|it| (session.clone(), incarnation, it)));
                            }
                            Err(why) => {
                                seen.push((session.clone(), incarnation, Seen::Faulted(why)));
                                break;
                            }
                        }
                    }
                    match worker.heard > before {
                        true => seen.push((session, incarnation, Seen::Heard(worker.heard))),
                        // All of it was on record before: nothing is committed that would tell so.
                        false => seen.extend(self.tell_of_record(&session)),
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
            worker.dead = Some(Dead {
                exit,
                since: now,
                last_byte: now,
                read: 0,
                swept: false,
                told: false,
                buried: false,
            });
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
        let beat = self.beats.first().map(|(at, _)| *at);
        self.unfinished.values().min().copied().into_iter().chain(beat).chain(self.fetcher.deadline()).min()
    }

    /// Begins to read what could not be read before.
    pub fn fetch(&mut self, now: u64) {
        self.fetcher.begin(now);
    }
}

impl Worker {
    /// Gives it a prompt, with all that belongs to it.
    fn hand_over(
        &mut self,
        id: &SessionId,
        prompt: PromptId,
        text: String,
        found: Found,
    ) -> Option<Sighting> {
        self.delivered = Some(prompt);
        self.answered.clear();
        self.called.clear();
        let Found { history, attachments } = found;
        let command = match attachments.is_empty() {
            true => Command::Prompt { prompt, text, history },
            false => Command::PromptWith { prompt, text, history, attachments },
        };
        self.send(id, command)
    }

    /// Whether it is to be told now what is on record.
    fn is_to_be_told(&self) -> bool {
        let due = self.untold.is_due() || (self.rests && self.recorded == self.heard);
        // Before its greeting the numbers of commands are not known.
        due && self.dead.is_none() && !self.awaits_hello
    }

    fn send(&mut self, id: &SessionId, command: Command) -> Option<Sighting> {
        let ack = self.recorded;
        self.untold.told();
        // What it has said last may not be on record yet: then it is still to be told.
        self.rests &= self.recorded < self.heard;
        let owes = !matches!(command, Command::Acknowledge);
        let link = self.link.as_mut()?;
        let sent = link.send(command, ack);
        if owes {
            self.owed = link.sent();
        }
        let error = sent.err()?;
        Some((id.clone(), self.incarnation, Seen::Faulted(format!("a command could not be sent: {error}"))))
    }
}

fn open_log(state_dir: &Path, id: &SessionId) -> io::Result<File> {
    let path = logs::path(state_dir, id);
    owned::open(&path, How::Append).map_err(|error| named(error, &path))
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
