//! Spare workers: processes that wait in the lobby for a session. A session that starts takes one, and so waits for no spawn.
//!
//! A spare knows nothing of a session. It has a marker of its own, and ends with its manager: its input ends, and nobody has
//! welcomed it. Spares exist only while a session has a worker, or waits for its next one. The loop makes a spare once no worker was
//! started for a moment. After the end of a spare it makes none before the next start: a program that cannot run is not tried
//! again and again.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use protocol::{Identity, Incarnation, SessionId, failpoint};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;

use crate::core::{Seen, Session};
use crate::system::owned::{self, How};
use crate::system::process::{self, worker_program};
use crate::system::spawner::Request;
use crate::system::sweep::{self, Holder, Marker};
use crate::system::zygote::Program;
use crate::workers::link::{Link, Pipes};
use crate::workers::worker::{Origin, Worker};
use crate::workers::{Sighting, Workers, logs};

/// Time without a start of a worker after which the loop makes a spare, in milliseconds: a session that has just taken one
/// becomes ready first.
const REFILL_MS: u64 = 10;

/// Time between two looks while no session has a worker and one waits for its restart, in milliseconds.
const AWAITED_MS: u64 = 1_000;

/// Time without spares after the machine had no room for a worker, in milliseconds.
const TIGHT_MS: u64 = 60_000;

/// Time between two tries to reap a spare that was killed, in milliseconds.
const REAP_MS: u64 = 20;

/// The longest wait for the end of all spares together. The kernel may hold one that it cannot end.
const END: Duration = Duration::from_millis(100);

/// The spare workers of one manager.
pub(super) struct Spares {
    /// The number of spares to keep.
    wanted: usize,
    /// Number of the next spare's marker.
    next: u64,
    /// The spares, by their number in [`Watch`](crate::system::process::Watch).
    standing: HashMap<u64, Spare>,
    /// Spares, and what a zygote did not tell of, that were killed and are not reaped yet.
    ending: Vec<OwnedFd>,
    /// Time at which the loop tries to reap those, in milliseconds.
    reap_at: Option<u64>,
    /// Time at which the loop makes or dismisses spares, in milliseconds.
    due: Option<u64>,
    /// Until then there are none: the machine had no room for a worker. In milliseconds.
    tight_until: u64,
}

/// A worker without a session.
pub(super) struct Spare {
    identity: Identity,
    /// The file that it runs.
    program: Option<Program>,
    pidfd: OwnedFd,
    pipes: Pipes,
}

impl Spares {
    /// No spares yet.
    pub(super) fn new(wanted: usize) -> Self {
        let (standing, ending) = (HashMap::new(), Vec::new());
        Self { wanted, next: 0, standing, ending, reap_at: None, due: None, tight_until: 0 }
    }

    /// Time of the next refill, in milliseconds.
    pub(super) fn deadline(&self) -> Option<u64> {
        [self.due, self.reap_at].into_iter().flatten().min()
    }

    /// Notes that a worker was started, or the last one was reaped.
    pub(super) fn stir(&mut self, now: u64) {
        self.due = Some(now + REFILL_MS);
    }

    /// Notes that the machine had no room for a worker.
    pub(super) fn make_way(&mut self, now: u64) {
        (self.tight_until, self.due) = (now + TIGHT_MS, Some(now));
    }

    /// Returns true if one of the spares is the process that `is_it` knows.
    pub(super) fn any(&self, is_it: impl Fn(&Identity) -> bool) -> bool {
        self.standing.values().any(|spare| is_it(&spare.identity))
    }

    /// The number of another marker.
    pub(super) fn next_number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Removes the spare with this identity.
    fn take(&mut self, identity: &Identity) -> Option<(u64, Spare)> {
        let (number, _) = self.standing.iter().find(|(_, spare)| spare.identity == *identity)?;
        let number = *number;
        Some((number, self.standing.remove(&number)?))
    }

    /// The spare with this number.
    pub(super) fn standing(&self, number: u64) -> Option<(&Identity, BorrowedFd<'_>)> {
        self.standing.get(&number).map(|spare| (&spare.identity, spare.pidfd.as_fd()))
    }
}

/// The outcome of a look at the spares.
pub enum Refill {
    /// A new spare stands ready.
    Made(Identity),
    /// These are wanted no more. They live until the fleet offers them to nobody.
    Dismissed(Vec<Identity>),
    /// Nothing was to be done.
    Nothing,
}

impl Workers {
    /// Makes one spare if one is due. Dismisses all of them, and ends the zygote, once there is no worker and none is `awaited`, or
    /// the machine had no room for another process.
    pub fn refill(&mut self, now: u64, awaited: impl Fn() -> bool) -> Refill {
        if self.spares.reap_at.is_some_and(|at| at <= now) {
            self.end_untold(now);
        }
        if self.spares.due.is_none_or(|due| due > now) {
            return Refill::Nothing;
        }
        self.spares.due = None;
        let is_tight = now < self.spares.tight_until;
        if self.workers.is_empty() && !is_tight && awaited() {
            self.spares.due = Some(now + AWAITED_MS);
            return Refill::Nothing;
        }
        if self.workers.is_empty() || is_tight {
            self.spawner.end();
            self.reap_spares(now);
            return Refill::Dismissed(
                self.spares.standing.values().map(|spare| spare.identity.clone()).collect(),
            );
        }
        if self.spares.standing.len() >= self.spares.wanted {
            return Refill::Nothing;
        }
        let made = self.make_spare();
        self.end_untold(now);
        match made {
            Ok(identity) => {
                // The next one in the next turn of the loop.
                self.spares.due = Some(now);
                Refill::Made(identity)
            }
            Err(error) => {
                tracing::debug!(%error, "no spare worker until the next start");
                Refill::Nothing
            }
        }
    }

    fn make_spare(&mut self) -> io::Result<Identity> {
        let program = worker_program(self.world.worker_path.as_deref())?;
        let holder = Holder::Spare(self.spares.next_number());
        let marker = Marker { manager: self.world.uuid.clone(), holder };
        let file = Program::at(&program).ok();
        let request = Request { program, marker: marker.to_string(), errors: None };
        let spawned = self.start(vec![request]).pop().unwrap_or_else(|| Err(io::ErrorKind::Other.into()))?;
        failpoint::hit("spare", "spawned");
        self.next_number += 1;
        let number = self.next_number;
        if let Err(error) = self.watch.add(spawned.pidfd.as_fd(), number) {
            process::end(spawned.pidfd.as_fd());
            return Err(error);
        }
        let identity = spawned.identity.clone();
        tracing::debug!(pid = identity.pid, "spare worker spawned");
        let pipes = Pipes { stdin: spawned.stdin, stdout: spawned.stdout };
        let spare = Spare { identity: spawned.identity, program: file, pidfd: spawned.pidfd, pipes };
        self.spares.standing.insert(number, spare);
        Ok(identity)
    }

    /// Gives a session the spare that its start has taken. Returns false if its worker is none of the spares.
    ///
    /// # Errors
    /// The spare is of no use, and is ended.
    pub(super) fn enlist(
        &mut self,
        id: &SessionId,
        incarnation: Incarnation,
        session: &Session,
        now: u64,
    ) -> Result<bool, Box<Sighting>> {
        // The effect may be of an incarnation that has ended in the same batch.
        let worker = session.worker().filter(|_| session.incarnation == incarnation);
        let Some((number, spare)) = worker.and_then(|identity| self.spares.take(identity)) else {
            return Ok(false);
        };
        failpoint::hit_about("spare", "taken", id);
        self.spares.stir(now);
        let Spare { identity, program, pidfd, pipes } = spare;
        // It has stood there for long. One that was stopped would keep the session waiting until its start is given up, and one of
        // a file that was replaced may speak another version of the protocol.
        let installed =
            worker_program(self.world.worker_path.as_deref()).and_then(|path| Program::at(&path)).ok();
        let is_fit = process::peek(pidfd.as_fd()).is_none()
            && !process::is_stopped(identity.pid)
            && (installed.is_none() || installed == program)
            && self.allows_log(id);
        let link =
            is_fit.then(|| Link::open(id.clone(), incarnation, None, Some(pipes), self.events.clone()));
        let Some(Ok(link)) = link else {
            tracing::info!(session = %id, incarnation, pid = identity.pid, "a spare worker was of no use");
            self.dismiss(pidfd, now);
            return Err(Box::new((id.clone(), incarnation, Seen::SpareLost)));
        };
        let origin = Origin::Spawned { log: None, welcomed: false };
        let mut worker = Worker::new(incarnation, identity, Some(pidfd), Some(link), origin, 0);
        worker.number = number;
        tracing::debug!(session = %id, incarnation, pid = worker.identity.pid, "spare worker taken");
        self.enter(id, worker);
        Ok(true)
    }

    /// Returns false if the session's log may not be opened: the spawn that follows says why. A manager without a descriptor leaves
    /// it to the worker, which opens the log by the same rules.
    fn allows_log(&self, id: &SessionId) -> bool {
        let opened = owned::open(&logs::path(&self.world.state_dir, id), How::Append);
        opened.is_ok() || opened.is_err_and(|error| process::is_no_room(&error))
    }

    /// Notes the end of a spare. None is made before the next start: a program that cannot run is not tried again and again.
    pub(super) fn spare_ended(&mut self) {
        self.spares.due = None;
    }

    /// Ends a spare that the fleet offers to nobody any more. One that a session has taken meanwhile is that session's worker.
    pub fn spare_gone(&mut self, identity: &Identity, now: u64) {
        if let Some((_, spare)) = self.spares.take(identity) {
            self.dismiss(spare.pidfd, now);
        }
    }

    /// Ends a process that no session has.
    pub(super) fn dismiss(&mut self, pidfd: OwnedFd, now: u64) {
        self.watch.remove(pidfd.as_fd());
        process::signal(pidfd.as_fd(), Signal::KILL);
        self.spares.ending.push(pidfd);
        self.reap_spares(now);
    }

    /// Reaps the spares that are gone. The kernel may hold one for a while, and so may whoever traces it.
    pub(super) fn reap_spares(&mut self, now: u64) {
        self.spares.ending.extend(self.spawner.take_ended());
        self.spares.ending.retain(|pidfd| !process::reap(pidfd.as_fd()));
        let owed = !self.spares.ending.is_empty() || self.spawner.is_unsure();
        self.spares.reap_at = owed.then_some(now + REAP_MS);
    }

    /// Ends the children that a zygote has started and did not tell of, and what is left of zygotes. Their pipes are closed, and
    /// nobody welcomes them. Again after a while, until none is left: there may be no descriptor for the look.
    pub(super) fn end_untold(&mut self, now: u64) {
        self.reap_spares(now);
        if !self.spawner.is_unsure() {
            return;
        }
        let gone = sweep::end_strangers_of_this_thread(|pid| {
            let is_it = |identity: &Identity| identity.pid == pid;
            self.spawner.is_zygote(pid)
                || self.workers.values().any(|worker| is_it(&worker.identity))
                || self.spares.any(is_it)
                || self.is_guest(pid)
                || self.is_log_in(pid)
        });
        if gone.unwrap_or(false) {
            self.spawner.is_sure();
            self.reap_spares(now);
        }
    }

    /// Ends all spares and the zygote, and reaps those that are gone within a moment. SIGKILL ends an idle process at once.
    pub fn end_spares(&mut self) {
        (self.spares.due, self.spares.reap_at) = (None, None);
        self.spawner.end();
        let standing = std::mem::take(&mut self.spares.standing).into_values().map(|spare| spare.pidfd);
        let guests = self.take_guests();
        let log_ins = self.take_log_ins();
        let had_log_ins = !log_ins.is_empty();
        let ending = self.spares.ending.drain(..).chain(self.spawner.take_ended());
        let spares: Vec<OwnedFd> = standing.chain(guests).chain(log_ins).chain(ending).collect();
        spares.iter().for_each(|spare| process::signal(spare.as_fd(), Signal::KILL));
        let until = Instant::now() + END;
        for spare in spares {
            self.watch.remove(spare.as_fd());
            let left =
                Timespec::try_from(until.saturating_duration_since(Instant::now())).unwrap_or_default();
            let _ = poll(&mut [PollFd::new(&spare, PollFlags::IN)], Some(&left));
            process::reap(spare.as_fd());
        }
        if had_log_ins {
            self.sweep_log_ins();
        }
    }
}
