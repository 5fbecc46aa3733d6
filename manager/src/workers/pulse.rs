//! Whether a worker that owes something still lives. Its pipe stays open when it is stopped or spins, so that nothing
//! tells but its silence. One that owes nothing is not asked: idle sessions wake nobody.

use protocol::SessionId;
use protocol::wire::Command;

use super::{Sighting, Worker, Workers};
use crate::core::Seen;
use crate::workers::link::Link;

/// Looks in which nothing was heard after a question, until the worker is taken for dead. More than one: a manager that
/// stood still itself finds many looks overdue, and has them as one.
const SILENT: u32 = 2;

/// What a look comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beat {
    /// It owes nothing: it is looked at no more.
    Rest,
    /// It was heard.
    Fine,
    /// It was not heard: it is to be asked for a sign of life.
    Ask,
    /// It was asked, and has not answered yet.
    Wait,
    /// It does not answer.
    Hung,
}

/// Of one worker, while it owes something.
#[derive(Debug)]
pub(super) struct Pulse {
    every_ms: u64,
    /// When it is looked at next, in milliseconds since boot.
    pub next: u64,
    /// What was heard of it at the last look, in bytes.
    heard: u64,
    asked: bool,
    silent: u32,
}

impl Pulse {
    /// Of a worker of which `heard` bytes were read, and that may be silent for `timeout_ms`.
    pub fn new(timeout_ms: u64, heard: u64, now: u64) -> Self {
        let every_ms = (timeout_ms / u64::from(SILENT + 1)).max(1);
        Self { every_ms, next: now.saturating_add(every_ms), heard, asked: false, silent: 0 }
    }

    /// Looks: whether it still `owes` anything, and how many bytes of it were read. The worker is found hung after its
    /// timeout, and before a third more than that.
    pub fn look(&mut self, owes: bool, heard: u64, now: u64) -> Beat {
        self.next = now.saturating_add(self.every_ms);
        if heard != self.heard {
            (self.heard, self.asked, self.silent) = (heard, false, 0);
            return if owes { Beat::Fine } else { Beat::Rest };
        }
        if !owes {
            return Beat::Rest;
        }
        if !std::mem::replace(&mut self.asked, true) {
            return Beat::Ask;
        }
        self.silent += 1;
        if self.silent >= SILENT { Beat::Hung } else { Beat::Wait }
    }
}

impl Workers {
    /// Whether a turn runs in a session's worker. While one does, or a command is unanswered, its pulse is felt: it may
    /// be silent for `timeout_ms`.
    pub fn attend(&mut self, id: &SessionId, at_work: bool, timeout_ms: u64, now: u64) {
        let Some(worker) = self.workers.get_mut(id) else {
            return;
        };
        worker.at_work = at_work;
        if worker.owes() && worker.pulse.is_none() {
            let pulse = Pulse::new(timeout_ms, worker.signs(), now);
            self.beats.insert((pulse.next, id.clone()));
            worker.pulse = Some(pulse);
        }
    }

    /// Feels the pulse of those whose time it is. One that does not answer is at fault.
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
    /// How much of it was read, in bytes. A large message is many signs of life before it is whole.
    fn signs(&self) -> u64 {
        self.link.as_ref().map_or(0, Link::read)
    }

    /// It is alive, and has something to say some time.
    fn owes(&self) -> bool {
        self.dead.is_none()
            && self.link.is_some()
            && !self.awaits_hello()
            && (self.at_work || self.acted < self.owed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_says_nothing_is_asked_and_then_taken_for_dead() {
        let mut pulse = Pulse::new(30_000, 7, 1_000);
        assert_eq!(pulse.next, 11_000);
        assert_eq!(pulse.look(true, 9, 11_000), Beat::Fine);
        assert_eq!(pulse.look(true, 9, 21_000), Beat::Ask);
        assert_eq!(pulse.look(true, 9, 31_000), Beat::Wait);
        assert_eq!(pulse.look(true, 9, 41_000), Beat::Hung);
    }

    #[test]
    fn an_answer_begins_it_anew_and_who_owes_nothing_rests() {
        let mut pulse = Pulse::new(30_000, 7, 0);
        assert_eq!(pulse.look(true, 7, 10_000), Beat::Ask);
        assert_eq!(pulse.look(true, 7, 20_000), Beat::Wait);
        assert_eq!(pulse.look(true, 8, 30_000), Beat::Fine);
        assert_eq!(pulse.look(true, 8, 40_000), Beat::Ask);
        assert_eq!(pulse.look(false, 8, 50_000), Beat::Rest);
        assert_eq!(pulse.look(false, 9, 60_000), Beat::Rest);
    }

    #[test]
    fn a_manager_that_stood_still_blames_nobody_for_it() {
        let mut pulse = Pulse::new(30_000, 7, 0);
        assert_eq!(pulse.look(true, 7, 3_600_000), Beat::Ask);
        assert_eq!(pulse.look(true, 7, 9_000_000), Beat::Wait);
        assert_eq!(pulse.next, 9_010_000, "it has all of another look's time");
    }
}
