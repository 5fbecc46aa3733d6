//! The processes that belong to sessions: the loop spawns, tells, hears, signals and reaps them here.
//!
//! The end of a worker goes in this order: its pidfd is readable → **peek** (the zombie keeps the pid) → **sweep** its tree
//! → **drain** its pipe → `Gone` is committed → **reap**. Each step is one short pass of the loop. An unfinished one is
//! repeated a moment later.

mod adopt;
mod deliver;
mod ending;
mod files;
pub(crate) mod link;
mod liveness;
mod log_ins;
pub(crate) mod logs;
mod open_files;
mod pulse;
mod receive;
mod reports;
pub(crate) mod shelter;
mod spares;
mod spawn;
mod spool;
pub(crate) mod tokens;
mod welcome;
mod worker;
mod world;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use protocol::wire::Command;
use protocol::{Incarnation, SessionId};
use rustix::process::Signal;
use tokio::sync::mpsc;

use crate::core::{Effect, Seen, Session};
use crate::fetch::Fetcher;
use crate::journal::Journal;
use crate::system::process::Watch;
use crate::system::random;
use crate::system::spawner::Spawner;
use crate::system::sweep::{Holder, Marker};
use crate::workers::files::Guests;
use crate::workers::link::LinkEvent;
use crate::workers::log_ins::LogIns;
use crate::workers::spares::Spares;
use crate::workers::worker::Worker;

pub use self::log_ins::{Book, Limits as LogInLimits, LogInMsg, Page, Reader};
pub use self::open_files::FilesReply;
pub use self::spares::Refill;
pub use self::world::World;

/// An observation of one incarnation of a session.
pub type Sighting = (SessionId, Incarnation, Seen);

/// The workers of all sessions.
pub struct Workers {
    workers: HashMap<SessionId, Worker>,
    by_number: HashMap<u64, SessionId>,
    next_number: u64,
    watch: Watch,
    events: mpsc::UnboundedSender<LinkEvent>,
    /// Sessions whose worker is dead and not reaped, or has closed its pipe.
    unfinished: BTreeMap<SessionId, u64>,
    /// Times at which the workers that owe an answer are checked.
    beats: BTreeSet<(u64, SessionId)>,
    fetcher: Fetcher,
    spares: Spares,
    guests: Guests,
    log_ins: LogIns,
    /// Number of the last request for files. Begins at random: a worker may still answer what the manager before has asked.
    next_request: u64,
    spawner: Spawner,
    /// Workers that were reaped, and whose files wait for the sync of the record.
    discarded: Vec<(SessionId, Incarnation)>,
    world: World,
}

/// The number of the zygote in [`Watch`]. Workers and spares count from 1.
const ZYGOTE: u64 = 0;

impl Workers {
    /// A table without workers. Links send their events to `events`.
    pub fn new(world: World, events: mpsc::UnboundedSender<LinkEvent>, fetcher: Fetcher) -> io::Result<Self> {
        let zygote = Marker { manager: world.uuid.clone(), holder: Holder::Spare(0) };
        Ok(Self {
            workers: HashMap::new(),
            by_number: HashMap::new(),
            next_number: 0,
            watch: Watch::new()?,
            events,
            unfinished: BTreeMap::new(),
            beats: BTreeSet::new(),
            fetcher,
            spares: Spares::new(world.spare_workers),
            guests: Guests::default(),
            log_ins: LogIns::default(),
            next_request: u64::from(u32::from_le_bytes(random::bytes()?)) << 32,
            spawner: Spawner::new(world.boot_id.clone(), zygote.to_string()),
            discarded: Vec::new(),
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
            Effect::Spawn { incarnation } => {
                return self.spawn_all(vec![(id.clone(), *incarnation)], now).pop();
            }
            Effect::Welcome { incarnation } => return self.welcome(id, *incarnation, session, journal, now),
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
                if worker.driver != driver && !worker.is_outdated() {
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
                if !worker.is_outdated() && worker.set.insert(*request) {
                    let (request, setting) = (*request, setting.clone());
                    return worker.send(id, Command::Set { request, setting });
                }
            }
            Effect::Terminate { incarnation } => self.signal(id, *incarnation, Signal::TERM),
            Effect::Kill { incarnation, .. } => self.signal(id, *incarnation, Signal::KILL),
            Effect::Reclaim { incarnation, worker } => {
                self.reclaim(id, *incarnation, worker, session.heard, now);
            }
            Effect::Release { incarnation } => self.release(id, *incarnation, now),
        }
        None
    }

    fn get(&mut self, id: &SessionId, incarnation: Incarnation) -> Option<&mut Worker> {
        self.workers.get_mut(id).filter(|worker| worker.incarnation == incarnation)
    }

    /// Time at which [`finish_ended`](Self::finish_ended), [`beat`](Self::beat), [`fetch`](Self::fetch) or
    /// [`refill`](Self::refill) has something to do, in milliseconds.
    pub fn deadline(&self) -> Option<u64> {
        let beat = self.beats.first().map(|(at, _)| *at);
        let unfinished = self.unfinished.values().min().copied();
        let reading = [self.fetcher.deadline(), self.guests_deadline(), self.log_ins_deadline()];
        let rest = [unfinished, beat, self.spares.deadline()];
        rest.into_iter().chain(reading).flatten().min()
    }
}
