//! Refusals that are counted until an event tells of them: a state machine without a clock of its own.
//!
//! Each reason has one place for clients of the network and one for clients of the socket. The first refusal of a place is due at
//! once. Later ones are counted, and are due after an interval that doubles with each event. After [`QUIET_MS`] without a refusal
//! the place begins anew. The size of the state does not depend on the number of clients.

use protocol::event::{Refused, RefusedFor};

/// The first interval between two events of a place, in milliseconds.
const FIRST_MS: u64 = 60_000;
/// The longest interval between two events of a place, in milliseconds.
const LONGEST_MS: u64 = 3_600_000;
/// Time without a refusal after which a place begins anew, in milliseconds.
const QUIET_MS: u64 = 4 * 3_600_000;

/// All places. Times are milliseconds of any clock that does not go back.
#[derive(Debug)]
pub struct Tally([[Place; 2]; RefusedFor::ALL.len()]);

/// The refusals of one reason and one source.
#[derive(Clone, Debug, Default)]
struct Place {
    /// Refusals that no event has told of, with the fields of the last.
    waiting: Option<Refused>,
    /// The next event is not before this time.
    next_at: u64,
    /// Interval after the next event.
    interval: u64,
    /// Time of the last refusal; none before the first.
    last: Option<u64>,
}

impl Default for Tally {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Default::default()))
    }
}

impl Place {
    fn add(&mut self, refused: Refused) {
        let before = self.waiting.as_ref().map_or(0, |waiting| waiting.count);
        let count = before.saturating_add(refused.count);
        self.waiting = Some(Refused { count, ..refused });
    }

    fn note(&mut self, now: u64, refused: Refused) {
        let quiet = self.last.is_none_or(|last| now.saturating_sub(last) >= QUIET_MS);
        if quiet && self.waiting.is_none() {
            (self.next_at, self.interval) = (now, FIRST_MS);
        }
        self.last = Some(now);
        self.add(refused);
    }

    fn take(&mut self, now: u64) -> Option<Refused> {
        let taken = self.waiting.take()?;
        self.next_at = now.saturating_add(self.interval);
        self.interval = (self.interval * 2).min(LONGEST_MS);
        Some(taken)
    }
}

impl Tally {
    fn place(&mut self, refused: &Refused) -> &mut Place {
        &mut self.0[refused.reason as usize][usize::from(refused.address.is_some())]
    }

    fn places(&mut self) -> impl Iterator<Item = &mut Place> {
        self.0.iter_mut().flatten()
    }

    /// Counts a refusal. Returns true if none was waiting in its place: then [`due`](Self::due) may have changed.
    pub fn note(&mut self, now: u64, refused: Refused) -> bool {
        let place = self.place(&refused);
        let is_first = place.waiting.is_none();
        place.note(now, refused);
        is_first
    }

    /// Time from which on [`take`](Self::take) gives something; none while nothing waits.
    pub fn due(&self) -> Option<u64> {
        let waiting = self.0.iter().flatten().filter(|place| place.waiting.is_some());
        waiting.map(|place| place.next_at).min()
    }

    /// Takes what is due.
    pub fn take(&mut self, now: u64) -> Vec<Refused> {
        self.places().filter(|place| place.next_at <= now).filter_map(|place| place.take(now)).collect()
    }

    /// Takes everything, due or not.
    pub fn take_all(&mut self, now: u64) -> Vec<Refused> {
        self.places().filter_map(|place| place.take(now)).collect()
    }

    /// Takes back what the journal did not take. It is due again after the first interval.
    pub fn give_back(&mut self, now: u64, refused: Refused) {
        let place = self.place(&refused);
        match &mut place.waiting {
            Some(newer) => newer.count = newer.count.saturating_add(refused.count),
            None => place.waiting = Some(refused),
        }
        place.next_at = place.next_at.min(now.saturating_add(FIRST_MS));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000;
    const DAY: u64 = 24 * 60 * MINUTE;
    /// The most events of one place within a day, as the pages say it.
    const A_DAY: usize = 40;

    fn refused(reason: RefusedFor, address: Option<&str>) -> Refused {
        let address = address.map(str::to_owned);
        Refused { reason, address, key: None, session: None, operation: None, count: 1 }
    }

    fn bad_key(tally: &mut Tally, minute: u64) {
        tally.note(minute * MINUTE, refused(RefusedFor::BadKey, Some("192.0.2.1")));
    }

    /// The counts of the events that are due in this minute.
    fn counts(tally: &mut Tally, minute: u64) -> Vec<u64> {
        tally.take(minute * MINUTE).iter().map(|refused| refused.count).collect()
    }

    #[test]
    fn the_first_is_due_at_once_and_the_others_after_an_interval_that_doubles() {
        let mut tally = Tally::default();
        assert_eq!(tally.due(), None, "nothing waits");
        let mut events = Vec::new();
        for minute in 0..300 {
            bad_key(&mut tally, minute);
            events.extend(counts(&mut tally, minute).into_iter().map(|count| (minute, count)));
        }
        let table =
            [(0, 1), (1, 1), (3, 2), (7, 4), (15, 8), (31, 16), (63, 32), (123, 60), (183, 60), (243, 60)];
        assert_eq!(events, table);
        assert_eq!(tally.due(), Some(303 * MINUTE));
        assert_eq!(counts(&mut tally, 303), [56]);
        assert_eq!(tally.due(), None, "nothing waits, so nothing wakes");
    }

    #[test]
    fn a_place_begins_anew_after_a_quiet_time() {
        for (pause, minutes) in [(4 * 60 - 1, 4), (4 * 60, 1)] {
            let mut tally = Tally::default();
            for minute in [0, 1] {
                bad_key(&mut tally, minute);
                assert_eq!(counts(&mut tally, minute), [1], "minute {minute}");
            }
            let again = 1 + pause;
            bad_key(&mut tally, again);
            assert_eq!(counts(&mut tally, again), [1], "its interval has passed, so it waits for nothing");
            bad_key(&mut tally, again);
            assert_eq!(tally.due(), Some((again + minutes) * MINUTE), "after {pause} minutes");
        }
    }

    #[test]
    fn reasons_and_sources_have_places_of_their_own_and_addresses_have_none() {
        let mut tally = Tally::default();
        for reason in RefusedFor::ALL {
            for address in [None, Some("192.0.2.1")] {
                assert!(tally.note(0, refused(*reason, address)));
            }
        }
        assert_eq!(tally.take(0).len(), 2 * RefusedFor::ALL.len());
        for host in 0..1_000 {
            let first = tally.note(1, refused(RefusedFor::BadKey, Some(&format!("192.0.2.{host}"))));
            assert_eq!(first, host == 0);
        }
        let told = tally.take(MINUTE);
        assert_eq!(told.len(), 1);
        assert_eq!((told[0].count, told[0].address.as_deref()), (1_000, Some("192.0.2.999")), "the last");
    }

    #[test]
    fn each_refusal_is_in_one_count() {
        let mut tally = Tally::default();
        let (mut sent, mut told) = (0, 0);
        for second in 0..20_000_u64 {
            let now = second * 1_000;
            for _ in 0..second % 4 {
                let address = (second % 3 == 0).then_some("::1");
                tally.note(now, refused(RefusedFor::ALL[second as usize % 5], address));
                sent += 1;
            }
            let taken = tally.take(now);
            for refused in taken {
                // The disk is full for a while.
                if (5_000..9_000).contains(&second) {
                    tally.give_back(now, refused);
                } else {
                    told += refused.count;
                }
            }
        }
        told += tally.take_all(20_000_000).iter().map(|refused| refused.count).sum::<u64>();
        assert_eq!((tally.due(), told), (None, sent));
    }

    #[test]
    fn what_the_journal_did_not_take_is_due_a_minute_later_with_what_came_since() {
        let mut tally = Tally::default();
        for minute in 0..100 {
            bad_key(&mut tally, minute);
            tally.take(minute * MINUTE);
        }
        let taken = tally.take_all(100 * MINUTE).remove(0);
        let count = taken.count;
        bad_key(&mut tally, 100);
        tally.give_back(100 * MINUTE, taken);
        assert_eq!(tally.due(), Some(101 * MINUTE), "not after an hour");
        assert_eq!(counts(&mut tally, 101), [count + 1]);
    }

    #[test]
    fn whatever_comes_the_events_of_a_day_are_bounded() {
        // A client that stops after so many events, until its place has begun anew.
        for burst in 1..40 {
            let (mut tally, mut times, mut silent_until) = (Tally::default(), Vec::new(), 0);
            for minute in 0..4 * DAY / MINUTE {
                if minute >= silent_until {
                    bad_key(&mut tally, minute);
                }
                if !counts(&mut tally, minute).is_empty() {
                    times.push(minute * MINUTE);
                    if times.len() % burst == 0 {
                        silent_until = minute + QUIET_MS / MINUTE;
                    }
                }
            }
            let within = |start: &u64| times.iter().filter(|at| (*start..start + DAY).contains(at)).count();
            let most = times.iter().map(within).max().unwrap();
            assert!((24..=A_DAY).contains(&most) || burst < 4, "{burst}: {most}");
        }
    }
}
