//! The checks of one worker that owes an answer: their times, and the verdict of each.

/// Looks in which nothing was heard after a question, until the worker is taken for dead. More than one: a manager that
/// stood still itself finds many looks overdue, and has them as one.
const SILENT: u32 = 2;

/// The result of one check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beat {
    /// The worker owes nothing: no further check.
    Rest,
    /// The worker said something.
    Fine,
    /// The worker said nothing: probe it.
    Ask,
    /// The worker was probed, and has not answered yet.
    Wait,
    /// The worker does not answer.
    Hung,
}

/// The checks of one worker that owes an answer.
#[derive(Debug)]
pub(super) struct Pulse {
    every_ms: u64,
    /// Time of the next check, in milliseconds since boot.
    pub next: u64,
    /// Bytes that were read at the last check.
    heard: u64,
    asked: bool,
    silent: u32,
}

impl Pulse {
    /// Checks for a worker that may be silent for `timeout_ms`. `heard` bytes were read of it so far.
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
