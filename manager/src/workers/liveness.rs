//! Checks of the workers that owe an answer. A worker that is stopped or spins keeps its pipe open: only its silence shows it.
//! Idle workers are not checked, so that they wake nobody.

use protocol::SessionId;
use protocol::wire::Command;

use crate::core::Seen;
use crate::workers::link::Link;
use crate::workers::pulse::{Beat, Pulse};
use crate::workers::worker::Worker;
use crate::workers::{Sighting, Workers};

impl Workers {
    /// Starts the checks of a worker while a turn runs in it, or a command is unanswered, and ends them else. It may be
    /// silent for `timeout_ms`.
    pub fn attend(&mut self, id: &SessionId, at_work: bool, timeout_ms: u64, now: u64) {
        let Some(worker) = self.workers.get_mut(id) else {
            return;
        };
        worker.at_work = at_work;
        match (worker.owes(), &worker.pulse) {
            (true, None) => {
                let pulse = Pulse::new(timeout_ms, worker.signs(), now);
                self.beats.insert((pulse.next, id.clone()));
                worker.pulse = Some(pulse);
            }
            // At rest no timer is left.
            (false, Some(pulse)) => {
                self.beats.remove(&(pulse.next, id.clone()));
                worker.pulse = None;
            }
            (true, Some(_)) | (false, None) => {}
        }
    }

    /// Checks the workers whose time has come, and probes those that were silent. Gives a fault for each that does not
    /// answer.
    pub fn beat(&mut self, now: u64) -> Vec<Sighting> {
        let mut seen = Vec::new();
        while let Some((_, id)) = self.beats.first().filter(|(at, _)| *at <= now).cloned() {
            self.beats.pop_first();
            let Some(worker) = self.workers.get_mut(&id) else {
                continue;
            };
            let (owes, heard) = (worker.owes(), worker.signs());
            let Some(pulse) = &mut worker.pulse else {
                continue;
            };
            let beat = pulse.look(owes, heard, now);
            match beat {
                Beat::Rest | Beat::Hung => worker.pulse = None,
                Beat::Fine | Beat::Ask | Beat::Wait => drop(self.beats.insert((pulse.next, id.clone()))),
            }
            match beat {
                // One of another version may not know the question.
                Beat::Ask if !worker.is_outdated() => {
                    self.world.work.probed();
                    seen.extend(worker.send(&id, Command::Probe));
                }
                Beat::Hung if !worker.is_outdated() => {
                    let why = "the worker has not answered for too long".to_owned();
                    seen.push((id, worker.incarnation, Seen::Faulted(why)));
                }
                _ => {}
            }
        }
        seen
    }
}

impl Worker {
    /// Bytes that were read of the worker. A large message shows life before it is whole.
    fn signs(&self) -> u64 {
        self.link.as_ref().map_or(0, Link::read)
    }

    /// Returns true if the worker is alive and owes an answer or a report.
    fn owes(&self) -> bool {
        self.dead.is_none()
            && self.link.is_some()
            && !self.awaits_hello()
            && (self.at_work || self.acted < self.owed)
    }
}
