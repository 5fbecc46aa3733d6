//! Wrong keys by address: an address that has shown too many is refused for a while, but for what shows a good key. Only so many of
//! its keys are looked at in each second.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Wrong keys within [`WINDOW`] after which an address is refused.
const MOST: u32 = 10;
/// Time in which wrong keys are counted together, and for which an address is refused.
const WINDOW: Duration = Duration::from_secs(60);
/// The most keys of a refused address that are looked at within [`SECOND`].
const LOOKS: u32 = 100;
/// See [`LOOKS`].
const SECOND: Duration = Duration::from_secs(1);
/// The most addresses that are remembered.
const ADDRESSES: usize = 4096;

/// The part of an address that counts as one client: of IPv6 the /64, of which one machine has all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Network(IpAddr);

impl Network {
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(six) => Self(Ipv6Addr::from_bits(six.to_bits() & (u128::MAX << 64)).into()),
            four => Self(four),
        }
    }
}

/// The failures that count.
#[derive(Debug, Default)]
pub struct Failures(Mutex<BTreeMap<Network, Record>>);

#[derive(Clone, Copy, Debug)]
struct Record {
    count: u32,
    /// From then on the record is forgotten.
    until: Instant,
    /// Keys that were looked at while it was refused, since then.
    looks: (u32, Instant),
}

impl Failures {
    fn records(&self) -> MutexGuard<'_, BTreeMap<Network, Record>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a wrong key.
    pub fn note(&self, network: Network, now: Instant) {
        let mut records = self.records();
        if records.len() >= ADDRESSES && !records.contains_key(&network) {
            records.retain(|_, record| record.until > now);
            if records.len() >= ADDRESSES
                && let Some(oldest) = records.iter().min_by_key(|(_, record)| record.until).map(|(at, _)| *at)
            {
                records.remove(&oldest);
            }
        }
        let fresh = Record { count: 0, until: now + WINDOW, looks: (0, now) };
        let record = records.entry(network).or_insert(fresh);
        if record.until <= now {
            *record = fresh;
        }
        record.count += 1;
        if record.count == MOST {
            record.until = now + WINDOW;
        }
    }

    /// Returns true if one more key of a refused address may be looked at now.
    pub fn may_show_key(&self, network: Network, now: Instant) -> bool {
        let mut records = self.records();
        let Some(Record { looks: (count, since), .. }) = records.get_mut(&network) else { return true };
        if now.saturating_duration_since(*since) >= SECOND {
            (*count, *since) = (0, now);
        }
        *count = count.saturating_add(1);
        *count <= LOOKS
    }

    /// Time for which this address is refused; none if it is not.
    pub fn refused_for(&self, network: Network, now: Instant) -> Option<Duration> {
        let record = *self.records().get(&network)?;
        let left = record.until.saturating_duration_since(now);
        (record.count >= MOST && !left.is_zero()).then_some(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Network {
        Network::of(text.parse().unwrap())
    }

    #[test]
    fn an_address_with_too_many_failures_is_refused_for_a_while_and_others_are_not() {
        let (failures, now) = (Failures::default(), Instant::now());
        for _ in 1..MOST {
            failures.note(at("192.0.2.7"), now);
        }
        assert_eq!(failures.refused_for(at("192.0.2.7"), now), None);
        failures.note(at("192.0.2.7"), now);
        assert_eq!(failures.refused_for(at("192.0.2.7"), now), Some(WINDOW));
        assert_eq!(failures.refused_for(at("::ffff:192.0.2.7"), now), Some(WINDOW), "the same address");
        assert_eq!(failures.refused_for(at("192.0.2.8"), now), None);
        let later = now + WINDOW;
        assert_eq!(failures.refused_for(at("192.0.2.7"), later), None);
        failures.note(at("192.0.2.7"), later);
        assert_eq!(failures.refused_for(at("192.0.2.7"), later), None, "it begins anew");
    }

    #[test]
    fn of_a_refused_address_only_so_many_keys_are_looked_at_in_a_second() {
        let (failures, now) = (Failures::default(), Instant::now());
        (0..MOST).for_each(|_| failures.note(at("192.0.2.7"), now));
        let looked_at = |now| (0..3 * LOOKS).filter(|_| failures.may_show_key(at("192.0.2.7"), now)).count();
        assert_eq!((looked_at(now), looked_at(now)), (LOOKS as usize, 0));
        assert!(failures.may_show_key(at("192.0.2.8"), now));
        assert_eq!(looked_at(now + SECOND), LOOKS as usize);
        assert_eq!(failures.refused_for(at("192.0.2.7"), now), Some(WINDOW), "it goes on to be refused");
    }

    #[test]
    fn failures_that_are_far_apart_do_not_add_up() {
        let (failures, mut now) = (Failures::default(), Instant::now());
        for _ in 0..MOST * 3 {
            failures.note(at("192.0.2.7"), now);
            now += WINDOW / 5;
            assert_eq!(failures.refused_for(at("192.0.2.7"), now), None);
        }
    }

    #[test]
    fn a_machine_with_many_addresses_counts_as_one_and_the_table_stays_small() {
        let (failures, now) = (Failures::default(), Instant::now());
        for host in 0..MOST {
            failures.note(at(&format!("2001:db8:1:2::{host:x}")), now);
        }
        assert!(failures.refused_for(at("2001:db8:1:2:ffff::1"), now).is_some());
        assert_eq!(failures.refused_for(at("2001:db8:1:3::1"), now), None);
        for host in 0..3 * ADDRESSES {
            failures.note(at(&format!("2001:db8:{:x}:{:x}::1", host >> 8, host & 0xff)), now);
            assert!(failures.records().len() <= ADDRESSES);
        }
    }
}
