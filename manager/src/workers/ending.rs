//! The end of a worker, from its death to its reaping: its tree is swept, its pipe is read to the end, and the session hears of
//! its end.

use std::collections::{HashMap, HashSet};
use std::os::fd::AsFd;

use protocol::{Exit, Identity, Incarnation, SessionId, failpoint};
use rustix::process::Signal;

use crate::core::{Seen, limits};
use crate::system::exit_info::{Known, exit_info};
use crate::system::sweep::Holder;
use crate::system::{process, sweep};
use crate::workers::link::Link;
use crate::workers::worker::{Dead, Gone};
use crate::workers::{Sighting, Workers, ZYGOTE, logs};

/// How long the parent of a process that is not our child has to reap it, in milliseconds. A parent reaps at once, or
/// never.
const REAPED_MS: u64 = 200;

/// How long a dead worker's pipe may be silent before it is cut, in milliseconds.
const DRAIN_MS: u64 = 1_000;

/// How long a worker may live after it has closed its pipe, in milliseconds.
const CLOSED_MS: u64 = 1_000;

/// Time between two passes over a dead worker, in milliseconds.
const AGAIN_MS: u64 = 5;

/// The same while the journal does not take the worker's end, in milliseconds.
const HELD_MS: u64 = 100;

impl Workers {
    pub(super) fn signal(&mut self, id: &SessionId, incarnation: Incarnation, signal: Signal) {
        if let Some(worker) = self.get(id, incarnation)
            && let (Some(pidfd), None) = (&worker.pidfd, &worker.dead)
        {
            process::signal(pidfd.as_fd(), signal);
        }
    }

    /// Releases an incarnation: kills its worker if it lives, and reaps it if its end is on record.
    pub(super) fn release(&mut self, id: &SessionId, incarnation: Incarnation, now: u64) {
        let Some(worker) = self.workers.get(id).filter(|worker| worker.incarnation <= incarnation) else {
            return;
        };
        if let (Some(pidfd), None) = (&worker.pidfd, &worker.dead) {
            process::signal(pidfd.as_fd(), Signal::KILL);
        }
        if worker.is_gone() {
            self.reap(id, now);
        }
    }

    /// Reaps a worker whose `Gone` is on record. The zombie held the pid until now.
    pub fn gone(&mut self, id: &SessionId, incarnation: Incarnation, now: u64) {
        if self.get(id, incarnation).is_some_and(|worker| worker.is_gone()) {
            self.reap(id, now);
        }
    }

    fn reap(&mut self, id: &SessionId, now: u64) {
        let Some(worker) = self.workers.remove(id) else {
            return;
        };
        self.by_number.remove(&worker.number);
        self.unfinished.remove(id);
        if self.workers.is_empty() {
            // For spares, which no session is left for.
            self.spares.stir(now);
        }
        failpoint::hit_about("dead", "unreaped", id);
        if let Some(pidfd) = &worker.pidfd {
            process::reap(pidfd.as_fd());
        }
        self.discarded.push((id.clone(), worker.incarnation));
        if let Some(cgroups) = &mut self.world.cgroups {
            cgroups.remove(id);
        }
    }

    /// Removes the sockets and spools of workers that were reaped. The record of their ends is synced: a spool outlasts a power
    /// cut, and the record must not be behind it.
    pub fn discard(&mut self) {
        for (id, incarnation) in self.discarded.drain(..) {
            self.world.shelters.remove(&id, incarnation);
        }
    }

    /// Notes the processes that have ended, and returns the spares among them. The cost depends on those that have ended, not on
    /// those that live.
    pub fn look(&mut self, now: u64) -> Vec<Identity> {
        let mut spares = Vec::new();
        loop {
            let ended = self.watch.ended();
            if ended.is_empty() {
                return spares;
            }
            for number in ended {
                if number == ZYGOTE {
                    self.spawner.end();
                    self.reap_spares(now);
                    continue;
                }
                if let Some((identity, pidfd)) = self.spares.standing(number) {
                    self.watch.remove(pidfd);
                    spares.push(identity.clone());
                    self.spare_ended();
                    continue;
                }
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

    pub(super) fn died(&mut self, id: &SessionId, exit: Exit, now: u64) {
        if let Some(worker) = self.workers.get_mut(id)
            && worker.dead.is_none()
        {
            tracing::debug!(session = %id, incarnation = worker.incarnation, pid = worker.identity.pid, %exit, "worker ended");
            worker.dead = Some(Dead::new(exit, now));
            // Its messages after the end of its link, or without one, are in its spool.
            if worker.is_adopted() && worker.link.is_none() && !worker.awaits_hello() {
                let incarnation = worker.incarnation;
                let link = self.link_to_adopted(id, incarnation, None);
                if let Some(worker) = self.workers.get_mut(id) {
                    worker.link = link;
                }
            }
            // The end of a pipe ends the wait for it, and one pass does all. An orphan that holds the pipe open is found without.
            let is_drained = self.workers.get(id).is_none_or(|worker| worker.link.is_none());
            if !is_drained {
                failpoint::hit_about("dead", "undrained", id);
            }
            self.unfinished.insert(id.clone(), if is_drained { now } else { now + AGAIN_MS });
        }
    }

    /// Returns true if all workers are dead and their trees swept.
    pub fn are_dead(&self) -> bool {
        self.workers.values().all(|worker| worker.dead.as_ref().is_some_and(|dead| dead.swept))
    }

    /// Sweeps the tree and drains the pipe of each worker that is dead or has closed its pipe. Gives `Gone` for those that
    /// are done and whose end the journal `takes_end`; the others keep their last messages in their pipes.
    pub fn finish_ended(&mut self, now: u64, takes_end: impl Fn(&SessionId) -> bool) -> Vec<Sighting> {
        let due: Vec<SessionId> =
            self.unfinished.iter().filter(|(_, at)| **at <= now).map(|(id, _)| id.clone()).collect();
        if due.is_empty() {
            return Vec::new();
        }
        let mut seen = Vec::new();
        let dying = due.iter().any(|id| self.workers.get(id).is_some_and(|worker| worker.dead.is_some()));
        let strangers = if dying && self.world.whole_process { self.strangers() } else { Vec::new() };
        let mut marked = if dying { self.marked_leftovers(&due) } else { HashMap::new() };
        for id in due {
            self.unfinished.remove(&id);
            let Some(worker) = self.workers.get(&id) else { continue };
            let takes_end = takes_end(&id);
            seen.extend(match &worker.dead {
                None => self.pipe_closed(&id, now, takes_end),
                Some(dead) if dead.gone == Gone::Whole => None,
                Some(_) => {
                    if worker.link.is_none() {
                        failpoint::hit_about("dead", "drained", &id);
                    }
                    let mut survivors = marked.remove(&id).unwrap_or_default();
                    survivors.extend(&strangers);
                    self.finish_dead(&id, survivors, now, takes_end)
                }
            });
        }
        seen
    }

    /// A worker lives and its pipe is closed: it is given a moment to end, and is at fault after that.
    fn pipe_closed(&mut self, id: &SessionId, now: u64, takes_end: bool) -> Option<Sighting> {
        let worker = self.workers.get(id)?;
        let incarnation = worker.incarnation;
        if let Some(again) = worker.closed_at.map(|at| at + CLOSED_MS).filter(|at| *at > now) {
            self.unfinished.insert(id.clone(), again);
        } else if let Some(exit) = worker.pidfd.as_ref().and_then(|pidfd| process::peek(pidfd.as_fd())) {
            self.died(id, exit, now);
        } else if takes_end {
            let fault = Seen::Faulted("the worker closed its pipe".into());
            return Some((id.clone(), incarnation, fault));
        } else {
            self.unfinished.insert(id.clone(), now + HELD_MS);
        }
        None
    }

    /// Makes one pass over a dead worker. `survivors` were just sent SIGKILL, and may still live.
    fn finish_dead(
        &mut self,
        id: &SessionId,
        mut survivors: Vec<u32>,
        now: u64,
        takes_end: bool,
    ) -> Option<Sighting> {
        if let Some(cgroups) = &self.world.cgroups {
            survivors.extend(cgroups.kill(id));
            survivors.sort_unstable();
            survivors.dedup();
        }
        let worker = self.workers.get_mut(id)?;
        let dead = worker.dead.as_mut()?;
        dead.swept = survivors.is_empty();
        if !takes_end {
            dead.last_byte = now;
            self.unfinished.insert(id.clone(), now + if dead.swept { HELD_MS } else { AGAIN_MS });
            return None;
        }
        // Also what is no whole message yet.
        let read = worker.link.as_ref().map_or(0, Link::read);
        if read != dead.read {
            (dead.read, dead.last_byte) = (read, now);
        }
        let silent = now >= dead.last_byte + DRAIN_MS;
        let drained = worker.link.is_none() || silent;
        let patient = now < dead.since + limits::UNKILLABLE_MS;
        if (!survivors.is_empty() && patient) || !drained {
            self.unfinished.insert(id.clone(), now + AGAIN_MS);
            return None;
        }
        // Of a process that is not our child another is told first.
        if let (Exit::Unknown, Some(pidfd)) = (dead.exit, &worker.pidfd) {
            match exit_info(pidfd.as_fd(), &worker.identity) {
                Known::Exit(exit) => dead.exit = exit,
                Known::NotYet if now < dead.since + REAPED_MS => {
                    self.unfinished.insert(id.clone(), now + AGAIN_MS);
                    return None;
                }
                Known::NotYet | Known::Never => {}
            }
        }
        let before = dead.gone;
        dead.gone = if survivors.is_empty() { Gone::Whole } else { Gone::WithSurvivors };
        if dead.gone == Gone::WithSurvivors {
            // A survivor of SIGKILL waits for the kernel. The loop looks for its end, so that the session can be started again.
            self.unfinished.insert(id.clone(), now + limits::KILL_MS);
            if before == Gone::WithSurvivors {
                return None;
            }
        }
        let (incarnation, exit) = (worker.incarnation, dead.exit);
        if let Some(link) = worker.link.take() {
            tracing::warn!(session = %id, incarnation, "a dead worker's pipe did not end; it was cut");
            link.cut();
        }
        let last_words = logs::last_words(&self.world.state_dir, id, worker.origin.log());
        // A worker of an earlier kennel did not bound it.
        if let Err(error) = logs::bound(&self.world.state_dir, id) {
            tracing::warn!(session = %id, %error, "its log is too long and was not kept");
        }
        Some((id.clone(), incarnation, Seen::Gone { exit, last_words, survivors }))
    }

    /// Kills orphans that the kernel has given to this process. Gives the pids of those that still live.
    pub(super) fn strangers(&self) -> Vec<u32> {
        // There are hardly ever any, so that to look through all workers costs nothing.
        sweep::strangers(|pid| self.workers.values().any(|worker| worker.identity.pid == pid))
    }

    /// Kills processes that dead workers left and that are not below this process. Gives the pids of those that still live.
    fn marked_leftovers(&self, due: &[SessionId]) -> HashMap<SessionId, Vec<u32>> {
        // Orphans of our children come to us where we are the subreaper, unless they were never below us: the
        // workers of an earlier manager.
        let needs = |id: &&SessionId| {
            let worker = self.workers.get(*id);
            worker.is_some_and(|worker| {
                worker.dead.is_some() && (!self.world.whole_process || worker.is_adopted())
            })
        };
        let wanted: HashSet<&SessionId> = due.iter().filter(needs).collect();
        if wanted.is_empty() {
            return HashMap::new();
        }
        let mut left: HashMap<SessionId, Vec<u32>> = HashMap::new();
        let is_wanted = |_: u32, of: &Holder| of.session().is_some_and(|id| wanted.contains(id));
        for stray in sweep::hunt(&self.world.uuid, is_wanted) {
            if let Holder::Session(id, _) = stray.of {
                left.entry(id).or_default().push(stray.pid);
            }
        }
        left
    }

    /// Removes the shelters of workers that are not `on_record`.
    pub fn tidy(&self, on_record: &HashSet<(&SessionId, Incarnation)>) {
        self.world.shelters.tidy(|id, incarnation| on_record.contains(&(id, incarnation)));
    }

    /// Kills processes that earlier managers of this directory left, but those of the incarnations in `reclaimed`, whose
    /// workers are adopted. A worker that was a spare still has a spare's marker.
    pub fn sweep_strays(&self, reclaimed: &HashMap<SessionId, (Incarnation, Identity)>) -> usize {
        let is_reclaimed = |pid: u32, worker: &Identity| {
            worker.pid == pid && process::start_time(pid).is_ok_and(|start| start == worker.start_time)
        };
        let is_left = |pid: u32, of: &Holder| match of {
            // A record that a failed sync has lost may be of a later one.
            Holder::Session(id, of) => reclaimed.get(id).is_none_or(|(incarnation, _)| incarnation != of),
            // What is below a worker that is adopted is that worker's, whatever marker it has.
            Holder::Spare(_) => !reclaimed.values().any(|(_, worker)| {
                [pid].into_iter().chain(process::ancestors(pid)).any(|pid| is_reclaimed(pid, worker))
            }),
        };
        let strays = sweep::hunt(&self.world.uuid, is_left);
        for stray in &strays {
            tracing::warn!(pid = stray.pid, of = %stray.of, "killed a process that was left behind");
        }
        strays.len()
            + self.world.cgroups.as_ref().map_or(0, |cgroups| cgroups.sweep(|id| reclaimed.contains_key(id)))
    }
}
