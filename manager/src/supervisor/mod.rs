//! The supervisor's loop: **step** (decide), **commit** (remember), **act** (do), **observe** (hear back).
//!
//! The loop alone owns the sessions, and alone spawns, signals and reaps. It runs on a thread of its own, so that no other
//! task delays it, and it waits for no session. It steps the inputs of all sources as one batch and writes them as one
//! transaction. Then it does what touches only processes of this machine, syncs, and only then publishes, answers and does the
//! rest.

mod batch;
mod directory;
mod doorbell;
pub(crate) mod files;
mod inbox;
mod lost;
mod prune;
mod room;
mod start;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use protocol::SessionId;
use tokio::io::unix::AsyncFd;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use crate::core::{Ask, At, Fleet, Input, State};
use crate::error::Error;
use crate::feed::FeedWriter;
use crate::fetch::Fetched;
use crate::journal::Journal;
use crate::journal::reserve::Reserve;
use crate::metrics::Metrics;
use crate::pace::Pace;
use crate::supervisor::doorbell::rung;
use crate::supervisor::inbox::{BATCH, Check, Item};
use crate::supervisor::lost::Lost;
use crate::supervisor::prune::Pruning;
use crate::supervisor::room::{Owed, Room};
use crate::system::{clock, memory, waiting};
use crate::workers::link::LinkEvent;
use crate::workers::{Refill, Sighting, Workers};

pub use self::directory::{check, take, trusted};
pub use self::files::{JOURNAL, SOCKET};
pub use self::inbox::Msg;
pub use self::start::{Settings, start};
pub use crate::address::LOCK;
pub use crate::workers::logs::path as log_path;

struct Supervisor {
    /// The machine's boot id.
    boot_id: String,
    fleet: Fleet,
    /// Before the journal: fields are dropped in this order.
    feed: FeedWriter,
    journal: Journal,
    metrics: Arc<Metrics>,
    workers: Workers,
    links: mpsc::UnboundedReceiver<LinkEvent>,
    /// Attachments and histories that were read for prompts.
    fetched: mpsc::UnboundedReceiver<Fetched>,
    /// The next tick of each session, by time in milliseconds.
    timers: BTreeSet<(u64, SessionId)>,
    due: HashMap<SessionId, u64>,
    watches: HashMap<SessionId, Vec<Check>>,
    /// Observations that are not committed yet, oldest first.
    observed: VecDeque<Ask>,
    /// Back-pressure on the links whose frames are in `observed`.
    permits: Vec<(SessionId, OwnedSemaphorePermit)>,
    /// The room in the journal.
    room: Room,
    /// Time at which the loop looks for more room, in milliseconds.
    room_at: Option<u64>,
    reserve: Reserve,
    /// Changes that were done and are not on record yet.
    owed: Owed,
    pace: Pace,
    /// Parts of the history that are being removed.
    pruning: VecDeque<Pruning>,
    /// The journal may hold remains of removed sessions.
    clears: bool,
    closing: bool,
    /// The loop ends, and another manager takes over its workers.
    left: bool,
    /// The loop ends, because the disk has not taken the journal.
    broken: bool,
    waiting_for_end: Vec<oneshot::Sender<()>>,
    /// The processes lost since memory was given back.
    lost: Lost,
    sigchld: Option<tokio::net::UnixStream>,
}

impl Supervisor {
    fn now(&self) -> At {
        At { mono: self.mono(), wall: clock::wall_ms(), closing: self.closing }
    }

    /// The time awake since boot, less that in which the loop could hear nobody, in milliseconds.
    fn mono(&self) -> u64 {
        self.pace.shows(clock::mono_ms())
    }

    /// Runs until the manager is closed and no process is left, or until it hands over. Gives the channels that wait for
    /// that.
    async fn run(mut self, mut messages: mpsc::Receiver<Msg>) -> Vec<oneshot::Sender<()>> {
        let ended = match self.workers.descriptor().and_then(waiting::readable) {
            Ok(ended) => ended,
            Err(error) => {
                tracing::error!(%error, "cannot wait for processes");
                return self.waiting_for_end;
            }
        };
        loop {
            // Workers repeat messages that are not on record to the next manager.
            if self.left || self.broken || self.closing && self.is_over() {
                break;
            }
            let mut asked = Vec::new();
            self.wait(&ended, &mut messages, &mut asked).await;
            self.turn(asked);
        }
        self.workers.end_spares();
        self.waiting_for_end
    }

    /// Returns true if no process is left that could still be ended. Survivors of SIGKILL are not waited for.
    fn is_over(&self) -> bool {
        let given_up =
            |id: &SessionId| matches!(self.fleet.get(id), Some(s) if matches!(s.state, State::Failed(_)));
        let processes = self.fleet.sessions().filter(|session| session.has_process());
        let ended = self.workers.ids().all(given_up) && processes.map(|session| &session.id).all(given_up);
        // The next manager finds out by itself what cannot be recorded now.
        ended || self.room == Room::Shut && self.workers.are_dead()
    }

    /// Waits for something to do, and takes the messages of clients.
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
                Some(event) = self.links.recv() => self.receive(event, now),
                Some(fetched) = self.fetched.recv() => self.hand_over(fetched, now),
                guard = ended.readable() => if let Ok(mut guard) = guard { guard.clear_ready() },
                () = rung(self.sigchld.as_mut()) => {}
                () = sleep => {}
            }
            let planned = wake_at.map(|at| began + (at - now));
            self.pace.ceases(clock::mono_ms(), planned);
            if self.pace.has_slept() {
                // Messages that came meanwhile wait in the pipes, and are read before a worker is judged.
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
                Ok(event) => self.receive(event, now),
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

    /// Time at which the loop has something to do by itself, in milliseconds of its own clock.
    fn wake_at(&self) -> Option<u64> {
        let timer = match self.room {
            Room::Plenty => self.timers.first(),
            Room::Tight | Room::Shut => self.timers.iter().find(|(_, id)| self.is_ending(id)),
        };
        let timer = timer.map(|(at, _)| *at);
        [timer, self.workers.deadline(), self.room_at].into_iter().flatten().min()
    }

    fn receive(&mut self, event: LinkEvent, now: u64) {
        let id = event.session().clone();
        let (seen, permit) = self.workers.receive(event, now);
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

    /// Makes one turn: observe, step, write, act within this machine, sync, tell and act outside.
    fn turn(&mut self, asked: Vec<Msg>) {
        let at = self.now();
        self.workers.end_guests(at.mono);
        self.workers.tend_log_ins(at.mono);
        let spares = self.workers.look(at.mono);
        self.observed.extend(spares.into_iter().map(Ask::SpareGone));
        self.workers.fetch(at.mono);
        if self.room_at.is_some_and(|room_at| at.mono >= room_at) {
            self.look_for_room();
        }
        let (fleet, room) = (&self.fleet, self.room);
        let ended = self.workers.finish_ended(at.mono, |id| room.takes_end_of(fleet, id));
        self.lost.add(ended.len());
        self.observe(ended);
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
        if self.broken {
            // What the fleet says now may be on no record.
            return;
        }
        self.prune();
        self.clear_away();
        for look in looks {
            self.look(look);
        }
        if !self.closing && !self.left {
            // After all else: nobody waits for it.
            let fleet = &self.fleet;
            match self.workers.refill(at.mono, || fleet.awaits_restart()) {
                Refill::Made(spare) => self.observed.push_back(Ask::SpareReady(spare)),
                Refill::Dismissed(spares) => self.observed.extend(spares.into_iter().map(Ask::SpareGone)),
                Refill::Nothing if self.lost.give_back(self.fleet.is_in_motion()) => memory::give_back(),
                Refill::Nothing => {}
            }
        }
    }

    fn leave(&mut self, reply: oneshot::Sender<()>) {
        self.waiting_for_end.push(reply);
        // A manager that ends its processes leaves none to the next.
        self.left |= !self.closing;
    }

    fn close(&mut self) {
        if !self.closing {
            self.closing = true;
            self.workers.end_spares();
            self.observed.push_back(Ask::Shutdown);
        }
    }

    /// Takes the sessions whose deadline has passed.
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

    /// Runs the checks that watch a session.
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
                let now = self.pace.shows(clock::mono_ms());
                if !check(session, now) {
                    inbox::add_check(self.watches.entry(id).or_default(), check, session, now);
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
            Msg::Files { reply, .. } if self.closing || self.left => drop(reply.send(Err(Error::Ended))),
            Msg::Files { id, ask, sender, reply } => match self.fleet.expect(&id).cloned() {
                Ok(session) => {
                    let fault = self.workers.read_files(&session, (sender, ask), reply, self.mono());
                    self.observe(fault);
                }
                Err(refusal) => drop(reply.send(Err(refusal.into()))),
            },
            // Whoever waits for an answer hears that there is none.
            Msg::LogIn(_) if self.closing || self.left => {}
            Msg::LogIn(msg) => self.workers.log_in(msg, self.mono()),
            Msg::Ask { .. } | Msg::Prune { .. } | Msg::Shutdown { .. } | Msg::HandOver { .. } => {}
        }
    }
}
