//! The manager's shell around the core, as `manager/src/supervisor/` and `workers/` have it: step, commit,
//! act, observe. It may die between any two of these.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use manager::core::{Ask, At, Change, Command, Effect, Fleet, Input, Reply, Seen, Session, State, limits};
use protocol::event::{Event, EventKind};
use protocol::wire::{Agent, Update};
use protocol::{Exit, Incarnation, PromptId, SessionId};

use super::clients::{Answer, Request};
use super::journal::UsedKey;
use super::world::{Key, Life, Said, ToWorker};
use super::{Sim, kinds};
use crate::sample;

/// Until a commit that failed is tried again, in milliseconds.
const RETRY_MS: u64 = 1_000;
/// Until an unfinished sweep is looked at again, in milliseconds.
const AGAIN_MS: u64 = 50;

/// The manager died here.
pub struct Crashed;

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
    /// Questions of the running turn that it was told the answers of.
    answered: BTreeSet<u64>,
    /// Calls that it was told of.
    called: BTreeSet<u64>,
    /// Settings that it was told.
    set: BTreeSet<u64>,
    driver: Option<protocol::EventId>,
    dead: Option<(Exit, u64)>,
    buried: bool,
}

/// What one manager has in memory.
#[derive(Debug, Default)]
pub struct Manager {
    pub fleet: Fleet,
    workers: BTreeMap<SessionId, Handle>,
    observed: VecDeque<Ask>,
    pub inbox: VecDeque<Request>,
    room: Room,
    /// When more room is looked for.
    room_at: Option<u64>,
    owed: Owed,
    pub closing: bool,
    /// It does not look before then.
    pub busy_until: u64,
}

/// What the journal has room for.
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

#[derive(Debug)]
struct Stepped {
    ask: Ask,
    change: Change,
}

impl Manager {
    /// Whether an observation is taken now, or waits for room.
    fn takes(&self, ask: &Ask) -> bool {
        match self.room {
            Room::Plenty => true,
            Room::Tight => self.fleet.ends(ask),
            Room::Shut => matches!(ask, Ask::Shutdown),
        }
    }

    /// Whether time does anything to this session now.
    fn ticks(&self, id: &SessionId) -> bool {
        let tick = || Ask::One(id.clone(), Input::Tick);
        self.room == Room::Plenty || self.fleet.ends(&tick())
    }

    /// Whether it can be recorded that its process has ended.
    fn may_end(&self, id: &SessionId) -> bool {
        self.room != Room::Shut && self.ticks(id)
    }

    /// Whether more of this worker is read: not before what was read of it is on record.
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
        if self.faults && self.rng.below(1200) == 0 { Err(Crashed) } else { Ok(()) }
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
        if pending || manager.closing && self.can_leave() {
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
                // What cannot be recorded the next one finds out by itself.
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
        self.journal.commit(std::slice::from_ref(&change), &events, &[]);
        let stepped = [Stepped { ask, change }];
        self.record(&stepped, &events);
        self.point()?;
        self.sweep_strays();
        self.point()?;
        self.committed(&stepped, events, Vec::new())
    }

    /// Ends what is marked as ours and has no worker on record to answer for it.
    fn sweep_strays(&mut self) {
        let on_record: Vec<SessionId> = self
            .m()
            .fleet
            .sessions()
            .filter(|session| session.worker().is_some())
            .map(|session| session.id.clone())
            .collect();
        for key in 0..self.world.procs.len() {
            let proc = &self.world.procs[key];
            if (proc.life == Life::Alive || proc.tree > 0) && !on_record.contains(&proc.session) {
                self.kill(key);
                if self.sweep(key) > 0 {
                    // They survive, and that is said in the log; the sweep does not wait for ever.
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
                    items.push((Ask::Shutdown, None));
                }
                self.answered(&request, Answer::Done(Reply::Done));
            } else if self.m().room != Room::Plenty && !self.m().fleet.ends(&request.ask) {
                self.answered(&request, Answer::Later);
            } else {
                items.push((request.ask.clone(), Some(request)));
            }
        }
        self.batch(items)?;
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
                let Some(said) = self.world.procs[key].pipe.pop_front() else {
                    break;
                };
                let seen = match said {
                    // The manager before had put it on record.
                    Said::Word(number, _) if adopted && number <= heard => continue,
                    // The record lost its end in a power cut, and the spool did not.
                    Said::Word(number, _) if adopted && dead && number != heard + 1 => continue,
                    Said::Word(number, seen) => {
                        if number != heard + 1 {
                            self.failures.push(format!("{id}: message {number} came after {heard}"));
                        }
                        heard = number;
                        seen
                    }
                    Said::Garbage(seen) => seen,
                    Said::Hello { outdated } => {
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

    /// A word of a worker that was replaced, from wherever it hung: it must change nothing.
    fn echo(&mut self, at: At) {
        let sessions: Vec<Arc<Session>> = self.m().fleet.sessions().cloned().collect();
        let Some(session) = sessions.get(self.rng.below(sessions.len() as u64) as usize) else {
            return;
        };
        let prompt = session.turns.running.as_ref().map_or(PromptId(1), |turn| turn.prompt.id);
        let exit = Exit::Signal(9);
        let payload = serde_json::json!({});
        let seen = match self.rng.below(7) {
            0 => Seen::Gone { exit, last_words: Vec::new(), survivors: Vec::new() },
            1 => Seen::Faulted("garbage".into()),
            2 => Seen::Output { prompt, stream: protocol::Stream::Stdout, text: "echo".into() },
            3 => Seen::Updated { prompt: Some(prompt), update: Update::Other, payload },
            4 => Seen::PermissionAsked { prompt: Some(prompt), request: 1, ask: sample::ask(), payload },
            5 => Seen::AgentDied("echo".into()),
            _ => Seen::Ready { restore: protocol::Restore::Fresh, agent_pid: None },
        };
        let stale = session.incarnation - 1;
        match self.m().fleet.step(at, &Ask::One(session.id.clone(), Input::Seen(stale, seen))) {
            Ok(change)
                if change.sessions.is_empty() && change.events.is_empty() && change.effects.is_empty() => {}
            other => {
                let what =
                    format!("{}: incarnation {stale} is dead and does something: {other:?}", session.id);
                self.history.violation(Some(&session.id), what);
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

    fn batch(&mut self, items: Vec<(Ask, Option<Request>)>) -> Result<(), Crashed> {
        let at = self.at();
        if items.is_empty() && (self.m().owed.stepped.is_empty() || self.m().room == Room::Shut) {
            return Ok(());
        }
        if self.m().room == Room::Shut {
            return self.act_first(items);
        }
        let Owed { stepped: owed, answers: late, used: owed_keys } = std::mem::take(&mut self.m().owed);
        let mut stepped: Vec<Stepped> = Vec::new();
        let mut undo = Vec::new();
        let mut answers: Vec<(Request, Answer)> = Vec::new();
        let mut used: Vec<UsedKey> = owed_keys.clone();
        let mut again: Vec<(Ask, Option<Request>)> = Vec::new();
        let check = self.rng.chance(20).then(|| self.m().fleet.clone());
        for (ask, request) in items {
            self.point()?;
            let key = request.as_ref().and_then(Request::scoped_key);
            if let (Some(key), Some(asked)) = (&key, &request) {
                let before = used.iter().find(|used| used.key == *key).or_else(|| self.journal.used(key));
                if let Some(before) = before {
                    if before.request != asked.body() {
                        self.failures.push(format!("key {key:?} was used for another request"));
                    }
                    let reply = before.reply.clone();
                    answers.extend(request.map(|request| (request, Answer::Done(reply))));
                    continue;
                }
            }
            let due = self.is_due(at, &ask);
            match self.m().fleet.step(at, &ask) {
                Ok(change) => {
                    if due && change.sessions.is_empty() {
                        self.failures.push(format!("time does nothing: {ask:?}"));
                    }
                    undo.push(self.m().fleet.adopt(&change));
                    again.push((ask.clone(), request.clone()));
                    if let Some(request) = request {
                        if let Some(key) = key {
                            used.push(UsedKey { key, request: request.body(), reply: change.reply.clone() });
                        }
                        answers.push((request, Answer::Done(change.reply.clone())));
                    }
                    stepped.push(Stepped { ask, change });
                }
                Err(refusal) => match request {
                    Some(request) => answers.push((request, Answer::Refused(refusal))),
                    None => self.failures.push(format!("an observation was refused: {ask:?}: {refusal}")),
                },
            }
        }
        self.early_tick(at);
        if self.rng.chance(30) {
            self.echo(at);
        }
        self.point()?;
        let ends_fit = self.m().room == Room::Tight && self.ends_fit;
        if self.now < self.journal_fails_until && !ends_fit {
            let manager = self.m();
            for undo in undo.into_iter().rev() {
                manager.fleet.take_back(undo);
            }
            if check.is_some_and(|before| before != manager.fleet) {
                self.failures.push("what was not committed was not taken back".into());
            }
            self.m().owed = Owed { stepped: owed, answers: late, used: owed_keys };
            // Whoever is to be tried again is not answered.
            for (request, answer) in answers {
                match answer {
                    Answer::Refused(_) => self.answered(&request, answer),
                    _ if again.iter().any(|(_, other)| other.as_ref().is_some_and(|it| it.is(&request))) => {}
                    _ => self.answered(&request, Answer::Later),
                }
            }
            return self.no_room(at, again);
        }
        let stepped: Vec<Stepped> = owed.into_iter().chain(stepped).collect();
        let answers: Vec<(Request, Answer)> = late.into_iter().chain(answers).collect();
        let events: Vec<Arc<Event>> =
            stepped.iter().flat_map(|one| &one.change.events).cloned().map(Arc::new).collect();
        let changes: Vec<Change> = stepped.iter().map(|one| one.change.clone()).collect();
        self.journal.commit(&changes, &events, &used);
        self.record(&stepped, &events);
        self.point()?;
        self.committed(&stepped, events, answers)
    }

    /// The journal has taken nothing of these, which were taken back.
    fn no_room(&mut self, at: At, items: Vec<(Ask, Option<Request>)>) -> Result<(), Crashed> {
        let manager = self.m();
        manager.room_at = Some(at.mono + RETRY_MS);
        manager.room = if manager.room == Room::Plenty { Room::Tight } else { Room::Shut };
        let (mut ends, mut waiting) = (Vec::new(), Vec::new());
        for (ask, request) in items {
            match request {
                request if self.m().fleet.ends(&ask) => ends.push((ask, request)),
                Some(request) => self.answered(&request, Answer::Later),
                // Ticks come by themselves again.
                None if matches!(ask, Ask::One(_, Input::Tick)) => {}
                None => waiting.push(ask),
            }
        }
        let manager = self.m();
        manager.observed = waiting.into_iter().chain(manager.observed.drain(..)).collect();
        self.batch(ends)
    }

    fn look_for_room(&mut self, at: At) {
        let full = self.now < self.journal_fails_until;
        let manager = self.m();
        (manager.room, manager.room_at) =
            if full { (Room::Tight, Some(at.mono + RETRY_MS)) } else { (Room::Plenty, None) };
    }

    /// Not even ends fit: what only tells processes to end is done, and recorded later.
    fn act_first(&mut self, items: Vec<(Ask, Option<Request>)>) -> Result<(), Crashed> {
        let at = self.at();
        let mut waiting = Vec::new();
        for (ask, request) in items {
            self.point()?;
            let key = request.as_ref().and_then(Request::scoped_key);
            if let (Some(key), Some(request)) = (&key, &request) {
                let known =
                    self.m().owed.used.iter().find(|used| used.key == *key).map(|used| used.reply.clone());
                if let Some(reply) = known {
                    self.m().owed.answers.push((request.clone(), Answer::Done(reply)));
                    continue;
                }
                if let Some(reply) = self.journal.used(key).map(|used| used.reply.clone()) {
                    self.answered(request, Answer::Done(reply));
                    continue;
                }
            }
            let change = match self.m().fleet.step(at, &ask) {
                Ok(change) if ask == Ask::Shutdown || change.may_act_first() => change,
                Ok(_) => {
                    match request {
                        Some(request) => self.answered(&request, Answer::Later),
                        None if matches!(ask, Ask::One(_, Input::Tick)) => {}
                        None => waiting.push(ask),
                    }
                    continue;
                }
                Err(refusal) => {
                    if let Some(request) = request {
                        self.answered(&request, Answer::Refused(refusal));
                    }
                    continue;
                }
            };
            drop(self.m().fleet.adopt(&change));
            for (id, effect) in &change.effects {
                self.point()?;
                if !matches!(effect, Effect::Terminate { .. } | Effect::Kill { .. }) {
                    self.failures.push(format!("{id}: {effect:?} is done before it is recorded"));
                }
                self.do_effect(id, effect);
            }
            self.coverage.acted_first += 1;
            if let Some(request) = request {
                let owed = &mut self.m().owed;
                if let Some(key) = key {
                    owed.used.push(UsedKey { key, request: request.body(), reply: change.reply.clone() });
                }
                owed.answers.push((request, Answer::Done(change.reply.clone())));
            }
            self.m().owed.stepped.push(Stepped { ask, change });
        }
        let manager = self.m();
        manager.observed = waiting.into_iter().chain(manager.observed.drain(..)).collect();
        Ok(())
    }

    /// Whether this is a tick whose time has come.
    fn is_due(&mut self, at: At, ask: &Ask) -> bool {
        let Ask::One(id, Input::Tick) = ask else {
            return false;
        };
        let Some(session) = self.m().fleet.get(id).cloned() else {
            return false;
        };
        let runs = !at.closing || session.has_process();
        let due = runs && session.deadline().is_some_and(|deadline| deadline <= at.mono);
        if due
            && matches!(
                session.state,
                State::Starting { worker: None, .. } | State::Stopping { worker: None, .. }
            )
        {
            // A spawn answers within the turn that does it.
            let what = format!("{id}: nobody has spawned incarnation {}", session.incarnation);
            self.history.violation(Some(id), what);
        }
        due
    }

    /// A tick that comes too early must do nothing.
    fn early_tick(&mut self, at: At) {
        if !self.rng.chance(50) {
            return;
        }
        let sessions: Vec<SessionId> = self.m().fleet.sessions().map(|session| session.id.clone()).collect();
        let Some(id) = sessions.get(self.rng.below(sessions.len() as u64) as usize) else {
            return;
        };
        let Some(session) = self.m().fleet.get(id).cloned() else {
            return;
        };
        if session.deadline().is_some_and(|deadline| deadline <= at.mono) {
            return;
        }
        match self.m().fleet.step(at, &Ask::One(id.clone(), Input::Tick)) {
            Ok(change)
                if change.sessions.is_empty() && change.events.is_empty() && change.effects.is_empty() => {}
            other => self.failures.push(format!("{id}: time does something before the deadline: {other:?}")),
        }
    }

    /// What is committed is history, whether or not the manager lives to show it.
    fn record(&mut self, stepped: &[Stepped], events: &[Arc<Event>]) {
        let mut events = events.iter();
        for one in stepped {
            if let Ask::One(id, Input::Command(Command::Restart)) = &one.ask {
                self.history.restarted_by_hand(id);
            }
            self.check_answers(&one.change);
            for _ in &one.change.events {
                let Some(event) = events.next() else { break };
                self.history.event(event);
                self.coverage.events.insert(kinds::event(&event.kind));
                self.check_survivors(event);
                if let (EventKind::SessionCreated { .. }, Some(id)) = (&event.kind, &event.session) {
                    let made = one.change.sessions.iter().find(|session| session.id == *id);
                    if let Some(policy) = made.map(|session| session.spec.restart) {
                        // Told by the clock of the events, which must run on for that.
                        if self.sets_clock.is_none() {
                            self.history.policy(id, policy.intensity, policy.period_ms);
                        }
                    }
                }
            }
            match &one.ask {
                Ask::One(_, Input::Seen(_, seen)) => drop(self.coverage.seen.insert(kinds::seen(seen))),
                Ask::One(_, Input::Command(command) | Input::CommandBy(_, command)) => {
                    self.coverage.commands.insert(kinds::command(command));
                }
                Ask::Stop(..) => drop(self.coverage.commands.insert(kinds::command(&Command::Stop))),
                _ => {}
            }
            for session in &one.change.sessions {
                self.coverage.saw(session);
            }
        }
    }

    /// An answer that counts is told to the agent.
    fn check_answers(&mut self, change: &Change) {
        for event in &change.events {
            let Some(id) = &event.session else { continue };
            let (what, told): (String, fn(&Effect) -> bool) = match &event.kind {
                EventKind::PermissionResolved { permission_id, .. } => {
                    (permission_id.to_string(), |effect| matches!(effect, Effect::Answer { .. }))
                }
                EventKind::CallAnswered { call_id } => {
                    (call_id.to_string(), |effect| matches!(effect, Effect::AnswerCall { .. }))
                }
                _ => continue,
            };
            let adopting = |session: &&Arc<Session>| {
                session.id == *id && matches!(session.state, State::Adopting { .. })
            };
            // Its worker is told once it is taken over.
            if change.sessions.iter().any(|session| adopting(&session)) {
                continue;
            }
            if !change.effects.iter().any(|(of, effect)| of == id && told(effect)) {
                let what = format!("{id}: {what} is answered, and the agent is not told");
                self.failures.push(what);
            }
        }
    }

    /// Whoever is said to survive SIGKILL is there.
    fn check_survivors(&mut self, event: &Event) {
        let (EventKind::SessionFailed { survivors, .. }, Some(id)) = (&event.kind, &event.session) else {
            return;
        };
        let there = self.world.procs.iter().any(|proc| {
            let mine = proc.session == *id && proc.incarnation == event.incarnation;
            mine && (proc.life != Life::Reaped || proc.tree > 0)
        });
        if !survivors.is_empty() && !there {
            self.history.violation(Some(id), format!("{id}: {survivors:?} are said to live and are gone"));
        }
    }

    fn committed(
        &mut self,
        stepped: &[Stepped],
        events: Vec<Arc<Event>>,
        answers: Vec<(Request, Answer)>,
    ) -> Result<(), Crashed> {
        for (request, answer) in answers {
            self.point()?;
            self.answered(&request, answer);
        }
        self.point()?;
        self.publish(events);
        for (id, effect) in stepped.iter().flat_map(|one| &one.change.effects) {
            self.point()?;
            self.coverage.effects.insert(kinds::effect(effect));
            self.do_effect(id, effect);
            if self.rng.chance(50) {
                // Doing it twice is doing it once.
                self.do_effect(id, effect);
            }
        }
        self.point()?;
        for one in stepped {
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

    fn let_go(&mut self, id: &SessionId, incarnation: Incarnation) {
        if self.m().workers.get(id).is_some_and(|handle| handle.incarnation == incarnation) {
            self.reap(id);
        }
    }

    fn reap(&mut self, id: &SessionId) {
        if let Some(key) = self.m().workers.remove(id).and_then(|handle| handle.key)
            && self.world.procs[key].life != Life::Reaped
        {
            self.world.reap(key);
        }
    }

    fn do_effect(&mut self, id: &SessionId, effect: &Effect) {
        let generation = self.generation;
        let Some(session) = self.m().fleet.get(id).cloned() else {
            return;
        };
        match effect {
            Effect::Spawn { incarnation } => {
                if let Some(handle) = self.m().workers.get(id) {
                    if handle.incarnation >= *incarnation {
                        return;
                    }
                    let what = format!(
                        "{id}: worker {incarnation} is spawned, and {} is not reaped",
                        handle.incarnation
                    );
                    self.history.violation(Some(id), what);
                }
                if let Some((_, no_room)) = self.world.no_spawn.filter(|(until, _)| *until > self.now) {
                    let seen = Seen::SpawnFailed { error: "no".into(), no_room };
                    return self
                        .m()
                        .observed
                        .push_back(Ask::One(id.clone(), Input::Seen(*incarnation, seen)));
                }
                let acp = matches!(session.spec.agent, Agent::Acp { .. });
                let (key, identity) = self.spawn(id, *incarnation, generation, acp);
                self.take(id, *incarnation, Some(key));
                let seen = Seen::Spawned(identity);
                self.m().observed.push_back(Ask::One(id.clone(), Input::Seen(*incarnation, seen)));
                self.doom(id, key);
            }
            Effect::Welcome { incarnation } => {
                if let Some(handle) = self.handle(id, *incarnation)
                    && !std::mem::replace(&mut handle.welcomed, true)
                    && let Some(key) = handle.key
                {
                    self.tell(key, ToWorker::Welcome);
                }
            }
            Effect::Deliver { incarnation, prompt } => {
                let turn = session.turns.running.as_ref().filter(|turn| turn.prompt.id == *prompt);
                let runs = turn.is_some();
                let taken = turn.is_some_and(|turn| turn.is_taken());
                let reads =
                    session.is_told_history() || turn.is_some_and(|turn| !turn.prompt.attachments.is_empty());
                if let Some(problem) = turn.and_then(|turn| self.journal.misses(&turn.prompt)) {
                    self.history.violation(Some(id), problem);
                }
                if let Some(handle) = self.handle(id, *incarnation)
                    && handle.adopted
                    && taken
                {
                    // By the manager before.
                    handle.delivered = Some(*prompt);
                    return;
                }
                if let Some(handle) = self.handle(id, *incarnation).filter(|_| runs)
                    && handle.delivered.replace(*prompt) != Some(*prompt)
                {
                    handle.answered.clear();
                    if let Some(key) = handle.key {
                        self.tell(key, ToWorker::Prompt(*prompt));
                    }
                    // A reader is quick here; what belongs to the prompt is looked for above.
                    if reads {
                        let handed = Input::Seen(*incarnation, Seen::Handed(*prompt));
                        self.m().observed.push_back(Ask::One(id.clone(), handed));
                    }
                }
            }
            Effect::Abort { incarnation, prompt } => {
                if let Some(handle) = self.handle(id, *incarnation)
                    && handle.aborted.replace(*prompt) != Some(*prompt)
                    && let Some(key) = handle.key
                {
                    self.tell(key, ToWorker::Abort(*prompt));
                }
            }
            Effect::Answer { incarnation, request, option } => {
                if let Some(handle) = self.handle(id, *incarnation)
                    && handle.answered.insert(*request)
                    && let Some(key) = handle.key
                {
                    self.tell(key, ToWorker::Answer(*request, option.clone()));
                }
            }
            Effect::Driver { incarnation, client, .. } => {
                if let Some(handle) = self.handle(id, *incarnation)
                    && std::mem::replace(&mut handle.driver, *client) != *client
                    && let Some(key) = handle.key
                {
                    self.tell(key, ToWorker::Driver(*client));
                }
            }
            Effect::Set { incarnation, request, .. } => {
                if let Some(handle) = self.handle(id, *incarnation)
                    && handle.set.insert(*request)
                    && let Some(key) = handle.key
                {
                    self.tell(key, ToWorker::Set(*request));
                }
            }
            Effect::AnswerCall { incarnation, request, .. } => {
                if let Some(handle) = self.handle(id, *incarnation)
                    && handle.called.insert(*request)
                    && let Some(key) = handle.key
                {
                    self.tell(key, ToWorker::Called(*request));
                }
            }
            Effect::Terminate { incarnation } => {
                if let Some(key) = self.living(id, *incarnation) {
                    self.terminate(key);
                }
            }
            Effect::Kill { incarnation, .. } => {
                if let Some(key) = self.living(id, *incarnation) {
                    self.kill(key);
                }
            }
            Effect::Reclaim { incarnation, worker } => {
                if !self.m().workers.contains_key(id) {
                    let found = self.world.find(worker);
                    // What it left below it is found by its marker, also when it is gone itself.
                    let left =
                        |proc: &super::world::Proc| proc.session == *id && proc.incarnation == *incarnation;
                    let key = found.or_else(|| self.world.procs.iter().rposition(left));
                    self.take(id, *incarnation, key);
                    if let Some(handle) = self.handle(id, *incarnation) {
                        (handle.adopted, handle.heard) = (true, session.heard);
                    }
                    if let Some(key) = key {
                        self.visit(key);
                    }
                }
            }
            Effect::Release { incarnation } => {
                let Some(handle) =
                    self.m().workers.get(id).filter(|handle| handle.incarnation <= *incarnation)
                else {
                    return;
                };
                let (buried, key) = (handle.buried, handle.key.filter(|_| handle.dead.is_none()));
                if let Some(key) = key {
                    self.kill(key);
                }
                if buried {
                    self.reap(id);
                }
            }
        }
    }

    fn take(&mut self, id: &SessionId, incarnation: Incarnation, key: Option<Key>) {
        let handle = Handle {
            incarnation,
            key,
            welcomed: false,
            adopted: false,
            outdated: false,
            heard: 0,
            delivered: None,
            aborted: None,
            answered: BTreeSet::new(),
            called: BTreeSet::new(),
            set: BTreeSet::new(),
            driver: None,
            dead: None,
            buried: false,
        };
        self.m().workers.insert(id.clone(), handle);
    }

    fn handle(&mut self, id: &SessionId, incarnation: Incarnation) -> Option<&mut Handle> {
        self.m().workers.get_mut(id).filter(|handle| handle.incarnation == incarnation)
    }

    fn living(&mut self, id: &SessionId, incarnation: Incarnation) -> Option<Key> {
        self.handle(id, incarnation).filter(|handle| handle.dead.is_none())?.key
    }
}
