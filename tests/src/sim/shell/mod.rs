//! The manager's shell around the core, as `manager/src/supervisor/` and `workers/` have it: step, write, act
//! inside, sync, act outside, observe. It may die between any two of these, and the power may be cut.

mod batch;
mod effects;
mod record;
mod refused;
mod spares;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use manager::core::{Ask, At, Change, Effect, Effects, Fleet, Input, Reply, Seen, limits};
use protocol::event::Event;
use protocol::{Exit, Identity, Incarnation, PromptId, SessionId};

use super::clients::{Answer, Request};
use super::journal::UsedKey;
use super::world::{FromWorker, Key, Life};
use super::{Sim, kinds};

/// Until a commit that failed is tried again, in milliseconds.
const RETRY_MS: u64 = 1_000;

/// Until an unfinished sweep is looked at again, in milliseconds.
const AGAIN_MS: u64 = 50;

/// The manager's end in the middle of its work.
pub enum Crashed {
    /// The manager was killed.
    Killed,
    /// The machine lost its power.
    PowerCut,
    /// The disk took no sync, so the manager ended itself.
    Unsynced,
}

/// A batch that is written: in the record unless the power is cut before its sync.
#[derive(Debug)]
pub struct Written {
    pub(super) stepped: Vec<Stepped>,
    pub(super) events: Vec<Arc<Event>>,
}

/// A worker as its manager knows it.
#[derive(Debug)]
struct Handle {
    incarnation: Incarnation,
    /// None if it was gone when an earlier manager's was looked for.
    key: Option<Key>,
    welcomed: bool,
    /// An earlier manager has begun it.
    adopted: bool,
    /// Its program is of another version.
    outdated: bool,
    /// Number of its last message.
    heard: u64,
    delivered: Option<PromptId>,
    aborted: Option<PromptId>,
    /// Questions of the running turn whose answers the worker has received.
    answered: BTreeSet<u64>,
    /// Calls whose answers it has received.
    called: BTreeSet<u64>,
    /// Settings that it has received.
    set: BTreeSet<u64>,
    driver: Option<protocol::EventId>,
    dead: Option<(Exit, u64)>,
    buried: bool,
}

/// A manager's memory.
#[derive(Debug, Default)]
pub struct Manager {
    pub fleet: Fleet,
    workers: BTreeMap<SessionId, Handle>,
    /// Processes that wait for a session, and those of them whose end was seen.
    spares: Vec<(Identity, Key, bool)>,
    /// Spares that were killed and are not reaped yet.
    ending: Vec<usize>,
    observed: VecDeque<Ask>,
    pub inbox: VecDeque<Request>,
    room: Room,
    /// When more room is looked for.
    room_at: Option<u64>,
    owed: Owed,
    pub closing: bool,
    refused: u64,
    /// It does not look before then.
    pub busy_until: u64,
}

/// The room in the journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Room {
    #[default]
    Plenty,
    /// Ends only.
    Tight,
    Shut,
}

/// Done, and not on record yet.
#[derive(Debug, Default)]
struct Owed {
    stepped: Vec<Stepped>,
    answers: Vec<(Request, Answer)>,
    used: Vec<UsedKey>,
}

/// An input, and what it changed.
#[derive(Debug)]
pub struct Stepped {
    ask: Ask,
    change: Change,
}

impl Manager {
    /// Returns true if this process waits for a session, and the fleet knows of it.
    pub fn has_spare(&self, key: Key) -> bool {
        let known = |identity: &Identity| self.fleet.spares().contains(identity);
        self.spares.iter().any(|(identity, spare, _)| *spare == key && known(identity))
    }

    /// Returns true if an observation is taken now, and false if it waits for room.
    fn takes(&self, ask: &Ask) -> bool {
        match self.room {
            Room::Plenty => true,
            Room::Tight => self.fleet.ends(ask),
            Room::Shut => matches!(ask, Ask::Shutdown),
        }
    }

    /// Returns true if time changes this session now.
    fn ticks(&self, id: &SessionId) -> bool {
        let tick = || Ask::One(id.clone(), Input::Tick);
        self.room == Room::Plenty || self.fleet.ends(&tick())
    }

    /// Returns true if the end of its process can be recorded.
    fn may_end(&self, id: &SessionId) -> bool {
        self.room != Room::Shut && self.ticks(id)
    }

    /// Returns true if more of this worker is read: only once everything read before is on record.
    fn reads(&self, id: &SessionId) -> bool {
        self.room == Room::Plenty
            || !self.observed.iter().any(|ask| matches!(ask, Ask::One(of, _) if of == id))
    }
}

impl Sim {
    /// The manager, which is only asked for where there is one.
    fn m(&mut self) -> &mut Manager {
        self.manager.get_or_insert_default()
    }

    fn at(&self) -> At {
        let closing = self.manager.as_ref().is_some_and(|manager| manager.closing);
        At { mono: self.now - self.booted_at, wall: self.now + self.wall_ahead, closing }
    }

    /// The manager may be killed here.
    fn point(&mut self) -> Result<(), Crashed> {
        if self.faults && self.rng.below(1200) == 0 { Err(Crashed::Killed) } else { Ok(()) }
    }

    /// The manager may be killed here, or the power cut, over a batch that is written and not synced.
    fn unsynced_point(&mut self) -> Result<(), Crashed> {
        if !self.faults || !self.rng.chance(2) {
            return Ok(());
        }
        let cut = self.rng.chance(500);
        let count = if cut { &mut self.coverage.cut_unsynced } else { &mut self.coverage.killed_unsynced };
        *count += 1;
        Err(if cut { Crashed::PowerCut } else { Crashed::Killed })
    }

    /// When the manager has something to do.
    pub(super) fn wake_at(&self) -> Option<u64> {
        let manager = self.manager.as_ref()?;
        let soonest = |at: u64| at.max(manager.busy_until).max(self.now);
        let takes = |ask: &Ask| manager.takes(ask);
        let pending = manager.observed.iter().any(takes) || !manager.inbox.is_empty();
        let mut again = manager.room_at.map(|at| at + self.booted_at);
        for (id, handle) in &manager.workers {
            let proc = handle.key.map(|key| &self.world.procs[key]);
            let speaks = manager.reads(id) && proc.is_some_and(|proc| !proc.pipe.is_empty());
            let died = handle.dead.is_none() && proc.is_none_or(|proc| proc.life != Life::Alive);
            if pending || speaks || died {
                return Some(soonest(self.now));
            }
            if handle.dead.is_some() && !handle.buried {
                let soon = self.now + AGAIN_MS;
                again = Some(again.map_or(soon, |at| at.min(soon)));
            }
        }
        let fell =
            |(_, key, ended): &(Identity, Key, bool)| !ended && self.world.procs[*key].life != Life::Alive;
        if pending || manager.closing && self.can_leave() || manager.spares.iter().any(fell) {
            return Some(soonest(self.now));
        }
        let sessions = manager.fleet.sessions().filter(|session| !manager.closing || session.has_process());
        let sessions = sessions.filter(|session| manager.ticks(&session.id));
        let timers = sessions.filter_map(|session| session.deadline()).map(|at| at + self.booted_at);
        timers.chain(again).min().map(soonest)
    }

    fn can_leave(&self) -> bool {
        let done = |manager: &Manager| {
            let dead = |handle: &Handle| {
                handle.dead.is_some() && handle.key.is_none_or(|key| self.world.procs[key].tree == 0)
            };
            manager.workers.is_empty() && !manager.fleet.sessions().any(|session| session.has_process())
                // The next manager finds out by itself what cannot be recorded now.
                || manager.room == Room::Shut && manager.workers.values().all(dead)
        };
        self.manager.as_ref().is_some_and(done)
    }

    /// A new manager takes the journal over.
    pub(super) fn start_manager(&mut self) -> Result<(), Crashed> {
        if self.manager.is_some() {
            return Ok(());
        }
        self.generation += 1;
        let fleet = match self.journal.load() {
            Ok(fleet) => fleet,
            Err(error) => {
                self.failures.push(error);
                return Ok(());
            }
        };
        self.history.fact(None, format!("manager {} starts", self.generation));
        self.manager = Some(Manager { fleet, ..Manager::default() });
        self.published = self.journal.last();
        let same_boot = self.journal.boot == self.world.boot;
        let ask = Ask::ManagerStarted {
            pid: self.generation as u32,
            version: "sim".into(),
            boot_id: self.world.boot.to_string(),
            same_boot,
            lost: None,
        };
        let at = self.at();
        let Ok(change) = self.m().fleet.step(at, &ask) else {
            self.failures.push("a manager's start was refused".into());
            return Ok(());
        };
        self.point()?;
        drop(self.m().fleet.adopt(&change));
        let events: Vec<Arc<Event>> = change.events.iter().cloned().map(Arc::new).collect();
        self.journal.boot = self.world.boot;
        self.journal.write(std::slice::from_ref(&change), &events, &[]);
        self.journal.sync();
        if let Some(Written { stepped, events }) = self.written.take() {
            // Its manager died before the sync, and nobody has heard of it: now it is on record.
            self.record(&stepped, &events);
        }
        let Effects { written, synced } = Effects::of(std::slice::from_ref(&change));
        let stepped = vec![Stepped { ask, change }];
        self.record(&stepped, &events);
        self.point()?;
        self.sweep_strays();
        self.point()?;
        let effects: Vec<_> = written.into_iter().chain(synced).collect();
        self.synced(Written { stepped, events }, Vec::new(), &effects)
    }

    /// Ends what is marked as ours and has no worker on record to answer for it.
    fn sweep_strays(&mut self) {
        let on_record: Vec<(SessionId, Incarnation)> = self
            .m()
            .fleet
            .sessions()
            .filter(|session| session.worker().is_some())
            .map(|session| (session.id.clone(), session.incarnation))
            .collect();
        // A spare that a session has taken on record, and nobody has welcomed.
        let taken: Vec<Key> = self
            .m()
            .fleet
            .clone()
            .sessions()
            .filter_map(|session| self.world.find(session.worker()?))
            .collect();
        for key in 0..self.world.procs.len() {
            let proc = &self.world.procs[key];
            let is_left = match proc.spare {
                true => !taken.contains(&key),
                false => !on_record.contains(&(proc.session.clone(), proc.incarnation)),
            };
            if (proc.life == Life::Alive || proc.tree > 0) && is_left {
                self.kill(key);
                if self.sweep(key) > 0 {
                    // They survive, and the log records that; the sweep does not wait for ever.
                    self.world.procs[key].given_up = true;
                }
            }
        }
    }

    /// One turn of the loop.
    pub(super) fn turn(&mut self) -> Result<(), Crashed> {
        let at = self.at();
        self.m().busy_until = self.now + if self.rng.chance(300) { self.rng.below(100) } else { 0 };
        self.look();
        self.look_at_spares();
        if self.m().room_at.is_some_and(|room_at| at.mono >= room_at) {
            self.look_for_room(at);
        }
        self.hear();
        self.bury();
        let manager = self.m();
        let observed = std::mem::take(&mut manager.observed);
        let (taken, kept): (VecDeque<Ask>, VecDeque<Ask>) =
            observed.into_iter().partition(|ask| manager.takes(ask));
        manager.observed = kept;
        let mut items: Vec<(Ask, Option<Request>)> = taken.into_iter().map(|ask| (ask, None)).collect();
        for session in manager.fleet.sessions() {
            let runs = (!manager.closing || session.has_process()) && manager.ticks(&session.id);
            if session.deadline().is_some_and(|deadline| runs && deadline <= at.mono) {
                items.push((Ask::One(session.id.clone(), Input::Tick), None));
            }
        }
        let inbox = std::mem::take(&mut manager.inbox);
        for request in inbox {
            if request.ask == Ask::Shutdown {
                if !std::mem::replace(&mut self.m().closing, true) {
                    self.end_spares();
                    items.push((Ask::Shutdown, None));
                }
                self.answered(&request, Answer::Done(Reply::Done));
            } else if self.m().room != Room::Plenty && !self.m().fleet.ends(&request.ask) {
                self.answered(&request, Answer::Later);
            } else {
                items.push((request.ask.clone(), Some(request)));
            }
        }
        items.extend(self.refused().map(|ask| (ask, None)));
        self.batch(items)?;
        self.refill();
        if self.m().closing && self.can_leave() {
            self.history.fact(None, "the manager leaves".into());
            self.leave();
        }
        Ok(())
    }

    fn look(&mut self) {
        let now = self.now;
        for handle in self.manager.get_or_insert_default().workers.values_mut() {
            let exit = match handle.key.map(|key| self.world.procs[key].life) {
                Some(Life::Alive) => continue,
                Some(Life::Zombie(exit)) => exit,
                // Not our child: its end was seen by another.
                Some(Life::Reaped) | None => Exit::Unknown,
            };
            handle.dead.get_or_insert((exit, now));
        }
        let dead = |handle: &&Handle| handle.adopted && handle.dead.is_some();
        let keys: Vec<Key> = self.m().workers.values().filter(dead).filter_map(|handle| handle.key).collect();
        for key in keys {
            self.read_spool(key);
        }
    }

    fn hear(&mut self) {
        let ids: Vec<SessionId> = self.m().workers.keys().cloned().collect();
        for id in ids {
            if !self.manager.as_ref().is_some_and(|manager| manager.reads(&id)) {
                continue;
            }
            let Some(handle) = self.m().workers.get(&id) else {
                continue;
            };
            let (incarnation, Some(key)) = (handle.incarnation, handle.key) else {
                continue;
            };
            let (adopted, dead, before) = (handle.adopted, handle.dead.is_some(), handle.heard);
            let mut heard = before;
            let most = if self.rng.chance(300) { 1 } else { 8 };
            for _ in 0..most {
                let Some(output) = self.world.procs[key].pipe.pop_front() else {
                    break;
                };
                let seen = match output {
                    // The manager before had put it on record.
                    FromWorker::Word(number, _) if adopted && number <= heard => continue,
                    // The record lost its end in a power cut, and the spool did not.
                    FromWorker::Word(number, _) if adopted && dead && number != heard + 1 => continue,
                    FromWorker::Word(number, seen) => {
                        if number != heard + 1 {
                            self.failures.push(format!("{id}: message {number} came after {heard}"));
                        }
                        heard = number;
                        seen
                    }
                    FromWorker::Garbage(seen) => seen,
                    FromWorker::Hello { outdated } => {
                        if let Some(handle) = self.handle(&id, incarnation) {
                            (handle.welcomed, handle.outdated) = (true, outdated);
                        }
                        Seen::Linked { outdated }
                    }
                };
                self.m().observed.push_back(Ask::One(id.clone(), Input::Seen(incarnation, seen)));
            }
            if heard > before {
                self.handle(&id, incarnation).into_iter().for_each(|handle| handle.heard = heard);
                self.m().observed.push_back(Ask::One(id, Input::Seen(incarnation, Seen::Heard(heard))));
            }
        }
    }

    /// Brings dead workers a step nearer to the grave: sweep, drain, `Gone`.
    fn bury(&mut self) {
        let now = self.now;
        let dying: Vec<(SessionId, Option<Key>)> = self
            .m()
            .workers
            .iter()
            .filter(|(_, handle)| handle.dead.is_some() && !handle.buried)
            .map(|(id, handle)| (id.clone(), handle.key))
            .collect();
        for (id, key) in dying {
            let left = key.map_or(0, |key| self.sweep(key));
            let drained = key.is_none_or(|key| self.world.procs[key].pipe.is_empty());
            let manager = self.manager.get_or_insert_default();
            if !manager.may_end(&id) {
                continue;
            }
            let Some(handle) = manager.workers.get_mut(&id) else {
                continue;
            };
            let Some((exit, since)) = handle.dead else {
                continue;
            };
            if !drained || left > 0 && now < since + limits::UNKILLABLE_MS {
                continue;
            }
            handle.buried = true;
            let survivors: Vec<u32> = (0..left).map(|n| 80_000 + n).collect();
            if let Some(key) = key.filter(|_| left > 0) {
                self.world.procs[key].given_up = true;
            }
            let gone = Seen::Gone { exit, last_words: Vec::new(), survivors };
            let manager = self.m();
            let incarnation = manager.workers.get(&id).map_or(0, |handle| handle.incarnation);
            manager.observed.push_back(Ask::One(id, Input::Seen(incarnation, gone)));
        }
    }

    /// Performs effects. A point lies before each.
    fn perform(
        &mut self,
        effects: &[(SessionId, Effect)],
        point: fn(&mut Self) -> Result<(), Crashed>,
    ) -> Result<(), Crashed> {
        for (id, effect) in effects {
            point(self)?;
            self.coverage.effects.insert(kinds::effect(effect));
            self.do_effect(id, effect);
            if self.rng.chance(50) {
                // Doing it twice is doing it once.
                self.do_effect(id, effect);
            }
        }
        point(self)
    }

    /// The batch is on the disk, as far as it must be: publishes, answers, and performs the effects that waited for that.
    fn synced(
        &mut self,
        Written { stepped, events }: Written,
        answers: Vec<(Request, Answer)>,
        effects: &[(SessionId, Effect)],
    ) -> Result<(), Crashed> {
        self.publish(events);
        for (request, answer) in answers {
            self.point()?;
            self.answered(&request, answer);
        }
        self.perform(effects, Self::point)?;
        for one in &stepped {
            if let Ask::SpareGone(identity) = &one.ask {
                self.spare_gone(identity);
            }
            if let Ask::One(id, Input::Seen(incarnation, Seen::Gone { .. })) = &one.ask {
                self.let_go(id, *incarnation);
            }
            if let Ask::One(id, Input::Seen(incarnation, Seen::Heard(number))) = &one.ask
                && self.rng.chance(500)
                && let Some(key) = self.living(id, *incarnation)
            {
                self.acknowledge(key, *number);
            }
        }
        Ok(())
    }
}
