//! Processes that were lost: after many of them the memory is given back that their ends and restarts took for a moment.

/// So many processes lost are worth the work.
const MANY: usize = 256;

/// The number of processes lost since memory was given back.
#[derive(Debug, Default)]
pub(super) struct Lost(usize);

impl Lost {
    /// So many more were lost.
    pub(super) fn add(&mut self, count: usize) {
        self.0 += count;
    }

    /// Returns true, once, if memory is to be given back: many were lost, and nothing is `in_motion` that will need it again.
    pub(super) fn give_back(&mut self, in_motion: bool) -> bool {
        let due = self.0 >= MANY && !in_motion;
        if due {
            self.0 = 0;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_back_once_after_many_were_lost_and_all_is_quiet() {
        let mut lost = Lost::default();
        lost.add(MANY - 1);
        assert!(!lost.give_back(false));
        lost.add(1);
        assert!(!lost.give_back(true), "restarts are under way");
        assert!(lost.give_back(false));
        assert!(!lost.give_back(false));
        lost.add(2 * MANY);
        assert!(lost.give_back(false) && !lost.give_back(false));
    }
}
