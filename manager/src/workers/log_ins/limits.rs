//! The time limits of a log-in. Pure: the loop brings the times.

/// The time limits of a log-in, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest log-in.
    pub longest_ms: u64,
    /// The longest time without a reader.
    pub unread_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { longest_ms: 15 * 60_000, unread_ms: 60_000 }
    }
}

/// The decision about a log-in whose program runs.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The log-in goes on. No limit ends it before this time, in milliseconds.
    GoesOn { look_at: u64 },
    /// The log-in ends, for this reason.
    Ends(&'static str),
}

/// The reasons, which clients show. They name the limits by default.
const TOO_LONG: &str = "15 minutes are over";
const UNREAD: &str = "nobody has read it for a minute";

impl Limits {
    /// Decides about a log-in that ends at `end_at` at the latest and has had no reader since `unread_since`; none while it has one.
    /// All times are in milliseconds of one clock.
    pub(super) fn judge(self, end_at: u64, unread_since: Option<u64>, now: u64) -> Verdict {
        // The last reader of one that is read now may leave at once.
        let unread_at = unread_since.unwrap_or(now).saturating_add(self.unread_ms);
        if end_at <= now {
            Verdict::Ends(TOO_LONG)
        } else if unread_since.is_some() && unread_at <= now {
            Verdict::Ends(UNREAD)
        } else {
            // Later than now, also for a limit of nothing: the loop does not turn for it without end.
            Verdict::GoesOn { look_at: end_at.min(unread_at.max(now + 1)) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_in_ends_at_either_limit_and_is_looked_at_when_one_may_have_come() {
        let limits = Limits { longest_ms: 1_000, unread_ms: 100 };
        let on = |look_at| Verdict::GoesOn { look_at };
        for (end_at, unread_since, now, verdict) in [
            // With a reader: only the whole limit ends it.
            (1_000, None, 0, on(100)),
            (1_000, None, 500, on(600)),
            (1_000, None, 899, on(999)),
            (1_000, None, 950, on(1_000)),
            (1_000, None, 999, on(1_000)),
            (1_000, None, 1_000, Verdict::Ends(TOO_LONG)),
            (1_000, None, 5_000, Verdict::Ends(TOO_LONG)),
            // Without one: the time since the last one counts, and no other.
            (1_000, Some(0), 0, on(100)),
            (1_000, Some(0), 99, on(100)),
            (1_000, Some(0), 100, Verdict::Ends(UNREAD)),
            (1_000, Some(0), 101, Verdict::Ends(UNREAD)),
            (1_000, Some(450), 500, on(550)),
            (1_000, Some(450), 550, Verdict::Ends(UNREAD)),
            (1_000, Some(500), 500, on(600)),
            // Left a moment after the loop took its time.
            (1_000, Some(501), 500, on(601)),
            (1_000, Some(950), 960, on(1_000)),
            // Both: that of the whole is told.
            (1_000, Some(0), 1_000, Verdict::Ends(TOO_LONG)),
            (100, Some(0), 100, Verdict::Ends(TOO_LONG)),
            // The ends of the numbers.
            (u64::MAX, Some(u64::MAX), 0, on(u64::MAX)),
            (0, None, 0, Verdict::Ends(TOO_LONG)),
        ] {
            assert_eq!(limits.judge(end_at, unread_since, now), verdict, "{end_at} {unread_since:?} {now}");
        }
        let none = Limits { longest_ms: 1_000, unread_ms: 0 };
        assert_eq!(none.judge(1_000, None, 500), on(501));
        assert_eq!(none.judge(1_000, Some(500), 500), Verdict::Ends(UNREAD));
    }

    #[test]
    fn the_limits_are_those_that_the_reasons_and_the_pages_name() {
        assert_eq!(Limits::default(), Limits { longest_ms: 900_000, unread_ms: 60_000 });
    }
}
