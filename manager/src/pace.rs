//! The clock of the loop. Deadlines judge workers by their silence. While the loop is busy or not run it receives nothing, so
//! that time does not count.
//!
//! So each stretch in which the loop did not listen counts for [`MOST_MS`] at most: a long turn of the loop itself, or a process
//! that was stopped. The latter shows as a sleep that ended too late. When in that sleep the process stood still is not known, so
//! all of it counts for no more; it is short while a deadline is near ([`Pace::sleep`]). While the machine sleeps its clock
//! stands still (`clock.rs`).

/// The most that one stretch without listening counts, in milliseconds.
pub const MOST_MS: u64 = 250;
/// The longest sleep while a deadline is near, and how near that is, in milliseconds.
const NEAR: (u64, u64) = (1_000, 15_000);

/// The loop's clock: time awake since boot, less the time in which the loop did not listen.
#[derive(Debug, Default)]
pub struct Pace {
    /// Lag of the loop's clock behind the machine's, in milliseconds.
    behind: i64,
    /// Time at which the loop last began or ceased to listen, in milliseconds since boot.
    at: Option<u64>,
    changed: bool,
}

impl Pace {
    /// Continues the clock of another manager of this boot.
    pub fn after(behind: i64) -> Self {
        Self { behind, at: None, changed: false }
    }

    /// Continues the clock of a manager of this boot that counted the time asleep. `unheard` is the time that it left
    /// out, `asleep` the time asleep until now, both in milliseconds.
    pub fn after_counting_sleep(unheard: u64, asleep: u64) -> Self {
        Self::after(unheard.cast_signed().saturating_sub(asleep.cast_signed()))
    }

    /// Lag of the loop's clock behind the machine's, in milliseconds.
    pub fn behind(&self) -> i64 {
        self.behind
    }

    /// Time of the loop's clock when `mono` milliseconds awake have passed since boot.
    pub fn shows(&self, mono: u64) -> u64 {
        mono.saturating_add_signed(self.behind.saturating_neg())
    }

    /// The loop begins to listen. What has passed since it ceased was a turn.
    pub fn listens(&mut self, mono: u64) {
        if let Some(ceased) = self.at {
            self.miss(mono.saturating_sub(ceased));
        }
        self.at = Some(mono);
    }

    /// The loop ceases to listen, at `mono`; it wanted to at `planned`, if at any time.
    pub fn ceases(&mut self, mono: u64, planned: Option<u64>) {
        if let (Some(began), Some(planned)) = (self.at, planned)
            && mono > planned.max(began) + MOST_MS
        {
            self.miss(mono - began);
        }
        self.at = Some(mono);
    }

    /// Time to wake: `wake_at`, or earlier if a `deadline` is near. All by the loop's clock, which shows `now`.
    pub fn sleep(now: u64, wake_at: Option<u64>, deadline: Option<u64>) -> Option<u64> {
        let near = deadline.filter(|at| *at <= now + NEAR.1).map(|_| now + NEAR.0);
        wake_at.into_iter().chain(near).min()
    }

    /// New lag of the loop's clock, in milliseconds; `None` if it has not changed since the last call.
    pub fn news(&mut self) -> Option<i64> {
        std::mem::take(&mut self.changed).then_some(self.behind)
    }

    /// Returns true if the lag has changed since the last [`news`](Self::news).
    pub fn has_slept(&self) -> bool {
        self.changed
    }

    fn miss(&mut self, passed: u64) {
        let unheard = passed.saturating_sub(MOST_MS);
        self.behind = self.behind.saturating_add_unsigned(unheard);
        self.changed |= unheard > 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_turn_and_a_stop_count_for_a_moment_and_short_ones_in_full() {
        let mut pace = Pace::default();
        pace.listens(1_000);
        // Nothing was due: it has listened all the time.
        pace.ceases(60_000, None);
        assert_eq!((pace.shows(60_000), pace.news()), (60_000, None));
        pace.listens(60_100);
        pace.ceases(60_200, Some(60_150));
        assert_eq!(pace.shows(60_200), 60_200);
        // A turn of thirteen seconds.
        pace.listens(73_200);
        assert_eq!(pace.shows(73_200), 60_200 + MOST_MS);
        // It was to be woken after a second and was stopped for an hour.
        pace.ceases(73_200 + 3_600_000, Some(74_200));
        assert_eq!(pace.shows(73_200 + 3_600_000), 60_200 + 2 * MOST_MS);
        assert!(pace.news().is_some() && pace.news().is_none());
    }

    #[test]
    fn sleeps_are_short_only_while_a_deadline_is_near() {
        assert_eq!(Pace::sleep(0, None, None), None);
        assert_eq!(Pace::sleep(0, Some(10_000), None), Some(10_000));
        assert_eq!(Pace::sleep(0, Some(10_000), Some(10_000)), Some(1_000));
        assert_eq!(Pace::sleep(0, Some(300), Some(300)), Some(300));
        assert_eq!(Pace::sleep(0, Some(60_000), Some(60_000)), Some(60_000));
    }

    #[test]
    fn the_next_manager_goes_on_and_never_back() {
        let mut pace = Pace::after(5_000);
        assert_eq!(pace.shows(90_000), 85_000);
        pace.listens(90_000);
        pace.ceases(99_000, Some(91_000));
        let (before, behind) = (pace.shows(99_000), pace.news().unwrap());
        assert_eq!(Pace::after(behind).shows(99_000), before);
    }

    #[test]
    fn a_deadline_of_a_manager_that_counted_sleep_is_as_near_as_it_was() {
        // Awake for 50 s and asleep for 40 s, of which it had heard nobody for 5 s.
        let before = 50_000 + 40_000 - 5_000;
        let pace = Pace::after_counting_sleep(5_000, 40_000);
        assert_eq!(pace.shows(50_000), before);
        assert_eq!(Pace::after(pace.behind()).shows(51_000), before + 1_000);
        assert_eq!(Pace::after_counting_sleep(60_000, 0).shows(50_000), 0);
    }
}
