//! Faults of the machine and of its processes.

use std::collections::BTreeSet;

use manager::core::Seen;
use protocol::wire::Update;
use protocol::{Exit, PromptId};
use serde_json::json;

use super::super::{Sim, What};
use super::{Act, FromWorker, Key, Life, ToWorker};
use crate::sample;

impl Sim {
    /// The manager is dead: all links end. Workers that were given shelter go on alone, the others leave.
    pub(in crate::sim) fn links_end(&mut self) {
        // Dead processes, too: the next manager reads their spools anew.
        for proc in &mut self.world.procs {
            proc.heard_of = false;
            proc.pipe.clear();
        }
        for key in self.world.existing.clone() {
            let proc = &mut self.world.procs[key];
            proc.linked = false;
            let arrived = self.rng.below(proc.inbox.len() as u64 + 1) as usize;
            proc.inbox.truncate(arrived);
            let welcomed = proc.inbox.iter().any(|(_, received)| *received == ToWorker::Welcome);
            let sheltered = proc.began || welcomed && self.rng.chance(500);
            // Its time alone may be over before anybody comes.
            let stays = sheltered && !(self.faults && self.rng.chance(100));
            match proc.life {
                Life::Zombie(_) => self.world.reap(key),
                Life::Alive if !proc.deaf && !proc.leaving && !stays => {
                    proc.leaving = true;
                    self.soon(key, 5_000, Act::Leave(Exit::Code(0)));
                }
                Life::Alive if !proc.deaf => self.soon(key, 5, Act::Read),
                Life::Alive | Life::Reaped => {}
            }
        }
    }

    /// Kills every process, as a machine's restart does. Of the messages that workers in `alone` wrote, a
    /// beginning is still in their spools.
    pub(in crate::sim) fn machine_restarts(&mut self, alone: &BTreeSet<Key>) {
        for key in self.world.existing.clone() {
            self.dies(key, Exit::Unknown);
            self.world.reap(key);
        }
        for (key, proc) in self.world.procs.iter_mut().enumerate() {
            proc.tree = 0;
            let written = if alone.contains(&key) { self.rng.below(proc.kept.len() as u64 + 1) } else { 0 };
            proc.kept.truncate(written as usize);
        }
        self.world.boot += 1;
    }

    /// Something goes wrong in the world.
    pub(in crate::sim) fn fault(&mut self) {
        let alive = self.world.alive();
        let victim = self.rng.pick(&alive);
        let which = self.rng.below(100);
        match victim {
            Some(key) if which < 75 => self.fault_of_worker(key, which),
            _ => self.fault_of_machine(victim, which),
        }
    }

    /// A fault strikes this worker; `which`, below 75, decides the fault.
    fn fault_of_worker(&mut self, key: Key, which: u64) {
        let (session, incarnation) =
            (self.world.procs[key].session.clone(), self.world.procs[key].incarnation);
        let now = self.now;
        let proc = &mut self.world.procs[key];
        let what = match which {
            0..20 => {
                proc.tree += u32::from(!proc.killed && !proc.spare);
                self.kill(key);
                "SIGKILL from a stranger"
            }
            20..30 => {
                let exit = self.some_exit();
                self.dies(key, exit);
                "a crash"
            }
            30..40 => {
                proc.stopped = true;
                let delay = self.rng.between(100, 60_000);
                self.after(delay, What::Proc(key, Act::Continue));
                "SIGSTOP"
            }
            40..48 => {
                let garbage = FromWorker::Garbage(Seen::Faulted("garbage".into()));
                proc.pipe.extend(proc.heard_of.then_some(garbage));
                "garbage"
            }
            48..58 => {
                let delay = self.rng.between(100, 40_000);
                proc.stuck_until = now + delay;
                self.after(delay, What::Proc(key, Act::Unstick));
                "stuck in the kernel"
            }
            58..64 => {
                let delay = self.rng.between(100, 25_000);
                proc.tree += u32::from(!proc.killed && !proc.spare);
                proc.tree_stuck_until = now + delay;
                self.kill(key);
                "SIGKILL, and children stuck in the kernel"
            }
            64..70 => {
                self.terminate(key);
                "SIGTERM from a stranger"
            }
            _ => {
                let (prompt, payload) = (PromptId(1), json!({}));
                let seen = match self.rng.below(3) {
                    0 => Seen::TurnStarted { prompt, agent_pid: 1 },
                    1 => Seen::Updated { prompt: Some(prompt), update: Update::Plan, payload },
                    _ => Seen::PermissionAsked {
                        prompt: Some(prompt),
                        request: 0,
                        ask: sample::ask(),
                        payload,
                    },
                };
                // Before the welcome it sends nothing at all.
                if self.world.procs[key].began {
                    self.say(key, seen);
                }
                "a message about a prompt it has not"
            }
        };
        self.history.fact(Some(&session), format!("worker {incarnation}: {what}"));
    }

    /// A fault strikes the machine, the journal or the manager; `which`, below 100, decides the fault.
    fn fault_of_machine(&mut self, victim: Option<Key>, which: u64) {
        match which {
            0..80 => {
                let until = self.now + self.rng.below(3_000);
                let no_room = self.rng.chance(500);
                self.world.no_spawn = Some((until, no_room));
                self.history.fact(None, format!("nothing can be spawned until {until}"));
            }
            80..88 => {
                let most = if self.rng.chance(300) { 20_000 } else { 4_000 };
                self.journal_fails_until = self.now + self.rng.below(most);
                self.ends_fit = self.rng.chance(500);
                let what = if self.ends_fit { "full but for ends" } else { "full" };
                self.history.fact(None, format!("the disk is {what} until {}", self.journal_fails_until));
            }
            88..93 => self.crash("the manager is killed"),
            93..95 => {
                self.crash("the manager and all workers are killed");
                for key in self.world.alive() {
                    let proc = &mut self.world.procs[key];
                    proc.tree += u32::from(!proc.killed && !proc.spare);
                    // It had no time to write all of it down.
                    let written = self.rng.below(proc.kept.len() as u64 + 1) as usize;
                    proc.kept.truncate(written);
                    self.kill(key);
                }
            }
            95..97 => self.power_cut(),
            _ => self.doomed = victim.map(|key| self.world.procs[key].session.clone()),
        }
    }
}
