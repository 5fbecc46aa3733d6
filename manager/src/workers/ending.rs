//! From the death of a worker to its grave: what it left is swept, what it said is read to the end, and the session is told.

use std::collections::{HashMap, HashSet};
use std::os::fd::AsFd;

use protocol::{Exit, Incarnation, SessionId, failpoint};
use rustix::process::Signal;

use super::{Sighting, Workers};
use crate::core::{Seen, limits};
use crate::system::exit_info::{Known, exit_info};
use crate::system::{process, sweep};
use crate::workers::link::Link;
use crate::workers::logs;
use crate::workers::worker::Dead;

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

impl Workers {
    pub(super) fn signal(&mut self, id: &SessionId, incarnation: Incarnation, signal: Signal) {
        if let Some(worker) = self.get(id, incarnation)
            && let (Some(pidfd), None) = (&worker.pidfd, &worker.dead)
        {
            process::signal(pidfd.as_fd(), signal);
        }
    }

    /// Lets go of an incarnation. One that lives is killed; its end is looked after all the same.
    pub(super) fn release(&mut self, id: &SessionId, incarnation: Incarnation) {
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

    pub(super) fn died(&mut self, id: &SessionId, exit: Exit, now: u64) {
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

    /// Whether all of them are dead, and nothing that they have left lives.
    pub fn are_dead(&self) -> bool {
        self.workers.values().all(|worker| worker.dead.as_ref().is_some_and(|dead| dead.swept))
    }

    /// Brings dead workers a step nearer to the grave: sweeps and drains. Those that are ready give `Gone`, if
    /// `may_end`: else what they said last waits in their pipes.
    pub fn bury(&mut self, now: u64, may_end: impl Fn(&SessionId) -> bool) -> Vec<Sighting> {
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
                } else if may_end(&id) {
                    seen.push((id, incarnation, Seen::Faulted("the worker closed its pipe".into())));
                } else {
                    self.unfinished.insert(id, now + HELD_MS);
                }
                continue;
            };
            if dead.buried {
                continue;
            }
            failpoint::hit_about("dead", if worker.link.is_some() { "undrained" } else { "drained" }, &id);
            let mut survivors = marked.get(&id).cloned().unwrap_or_default();
            survivors.extend(&strangers);
            if let Some(cgroups) = &self.world.cgroups {
                survivors.extend(cgroups.kill(&id));
                survivors.sort_unstable();
                survivors.dedup();
            }
            dead.swept = survivors.is_empty();
            if !may_end(&id) {
                dead.last_byte = now;
                self.unfinished.insert(id, now + if dead.swept { HELD_MS } else { AGAIN_MS });
                continue;
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
                self.unfinished.insert(id, now + AGAIN_MS);
                continue;
            }
            // Of a process that is not our child another is told first.
            if let (Exit::Unknown, Some(pidfd)) = (dead.exit, &worker.pidfd) {
                match exit_info(pidfd.as_fd(), &worker.identity) {
                    Known::Exit(exit) => dead.exit = exit,
                    Known::NotYet if now < dead.since + REAPED_MS => {
                        self.unfinished.insert(id, now + AGAIN_MS);
                        continue;
                    }
                    Known::NotYet | Known::Never => {}
                }
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
            let last_words = logs::last_words(&self.world.state_dir, &id, worker.log.as_ref());
            // A worker of an earlier kennel did not bound it.
            if let Err(error) = logs::bound(&self.world.state_dir, &id) {
                tracing::warn!(session = %id, %error, "its log is too long and was not kept");
            }
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
                worker.dead.is_some() && (!self.world.whole_process || worker.log.is_none())
            })
        };
        let wanted: HashSet<&SessionId> = due.iter().filter(needs).collect();
        if wanted.is_empty() {
            return HashMap::new();
        }
        let mut left: HashMap<SessionId, Vec<u32>> = HashMap::new();
        for stray in sweep::hunt(&self.world.uuid, |id| wanted.contains(id)) {
            left.entry(stray.session).or_default().push(stray.pid);
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
        let strays = sweep::hunt(&self.world.uuid, |id| !reclaimed.contains(id));
        for stray in &strays {
            tracing::warn!(pid = stray.pid, of = %stray.session, "killed a process that was left behind");
        }
        strays.len() + self.world.cgroups.as_ref().map_or(0, |cgroups| cgroups.sweep(reclaimed))
    }
}
