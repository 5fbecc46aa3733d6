//! Connections to the port: how many there may be, and the choice of the one that must leave when there are too many.
//!
//! Like the [`Room`](super::super::connections) of the socket, the door always lets a new connection in and closes the least needed
//! one. A connection that has shown no good key competes with others like it, first of all with those of its own network.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::failures::Network;
use crate::config::Connections;

/// The most connections at once to the page's port on loopback.
const LOOPBACK: usize = 256;

/// Limits of the port.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The most connections at once.
    pub most: usize,
    /// All clients come from the same network: none of it is more than another.
    is_loopback: bool,
    pub head: Duration,
    pub idle: Duration,
    pub stall: Duration,
}

impl Limits {
    pub fn new(most: usize, set: Connections) -> Self {
        // Each request takes two more, and the socket's clients need some too.
        let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX) / 8;
        Self {
            most: most.min(usize::try_from(descriptors).unwrap_or(usize::MAX)).max(8),
            is_loopback: false,
            head: Duration::from_millis(set.head_ms),
            idle: Duration::from_millis(set.idle_ms),
            stall: Duration::from_millis(set.stall_ms),
        }
    }

    /// Those of the page's port on loopback.
    pub fn loopback(set: Connections) -> Self {
        Self { is_loopback: true, ..Self::new(LOOPBACK, set) }
    }

    /// The most connections that have shown no good key.
    fn quarter(&self) -> usize {
        (self.most / 4).max(2)
    }

    /// The most connections of one network.
    fn of_network(&self) -> usize {
        if self.is_loopback { self.most } else { self.quarter() }
    }

    /// The most connections of one network that have shown no good key.
    fn few(&self) -> usize {
        if self.is_loopback { self.quarter() } else { (self.most / 32).max(2) }
    }
}

/// The event for which a connection waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The end of the handshake, or the first request's first byte.
    Fresh,
    /// The end of a request's head.
    Head,
    /// An answer.
    Work,
    /// Another request.
    Rest,
}

#[derive(Clone, Copy, Debug)]
struct State {
    phase: Phase,
    since: Instant,
    /// Requests that are being answered.
    requests: usize,
    /// Requests so far.
    begun: u64,
    /// The client has shown a good key, and no wrong one since.
    trusted: bool,
}

impl State {
    fn deadline(&self, limits: &Limits) -> Option<Instant> {
        match self.phase {
            Phase::Fresh | Phase::Head => Some(self.since + limits.head),
            Phase::Rest => Some(self.since + limits.idle),
            // The API has deadlines of its own, and so has each piece of an answer.
            Phase::Work => None,
        }
    }

    /// The smaller, the sooner the connection is closed to make room.
    fn worth(&self) -> (bool, bool, Instant) {
        (self.trusted, self.phase == Phase::Work, self.since)
    }
}

/// A connection's place.
pub struct Place {
    number: u64,
    pub network: Network,
    state: watch::Sender<State>,
    /// The requests of whose answers a piece waits for the client, and since when.
    waiting: Mutex<BTreeMap<u64, Instant>>,
    /// Wakes the connection's task to close the connection.
    pub cut: Notify,
}

impl Place {
    fn new(number: u64, network: Network) -> Self {
        let state =
            State { phase: Phase::Fresh, since: Instant::now(), requests: 0, begun: 0, trusted: false };
        Self {
            number,
            network,
            state: watch::Sender::new(state),
            waiting: Mutex::default(),
            cut: Notify::new(),
        }
    }

    pub fn phase(&self) -> Phase {
        self.state.borrow().phase
    }

    pub fn is_working(&self) -> bool {
        self.phase() == Phase::Work
    }

    pub fn is_trusted(&self) -> bool {
        self.state.borrow().trusted
    }

    /// The client has shown a good key, or a wrong one.
    pub fn trust(&self, trusted: bool) {
        self.state.send_if_modified(|state| std::mem::replace(&mut state.trusted, trusted) != trusted);
    }

    /// The handshake has ended: the time of the first head begins.
    pub fn shaken(&self) {
        self.state.send_modify(|state| state.since = Instant::now());
    }

    /// The number of requests so far.
    pub fn begun(&self) -> u64 {
        self.state.borrow().begun
    }

    /// Bytes of a head have come.
    pub fn heard(&self) {
        self.state.send_if_modified(|state| {
            match state.phase {
                // The time of a connection's first head began with the connection.
                Phase::Fresh => state.phase = Phase::Head,
                Phase::Rest => (state.phase, state.since) = (Phase::Head, Instant::now()),
                Phase::Head | Phase::Work => return false,
            }
            true
        });
    }

    /// A head was read. The request lasts as long as what this returns.
    pub fn begin(self: &Arc<Self>) -> Busy {
        let mut number = 0;
        self.state.send_modify(|state| {
            state.requests += 1;
            state.begun += 1;
            number = state.begun;
            if state.phase != Phase::Work {
                (state.phase, state.since) = (Phase::Work, Instant::now());
            }
        });
        Busy { place: self.clone(), number }
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<u64, Instant>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when the client has let its time pass. Holds nothing while there is no limit.
    pub async fn overdue(&self, limits: &Limits) -> Phase {
        let mut changes = self.state.subscribe();
        loop {
            let state = *changes.borrow_and_update();
            let passes = async {
                match state.deadline(limits) {
                    Some(deadline) => sleep_until(deadline).await,
                    // A stream whose client takes nothing is not asked for more, and so hears of nothing.
                    None => {
                        while !self.is_stuck(limits.stall) {
                            sleep(limits.stall).await;
                        }
                    }
                }
            };
            tokio::select! {
                () = passes => return state.phase,
                // The sender lives in `self`.
                _ = changes.changed() => {}
            }
        }
    }

    /// Returns true if a client has not taken a piece of an answer for this time.
    fn is_stuck(&self, stall: Duration) -> bool {
        self.waiting().values().any(|since| since.elapsed() >= stall)
    }

    /// Returns when no request is being answered.
    pub async fn at_rest(&self) {
        let mut changes = self.state.subscribe();
        // The sender lives in `self`.
        let _ = changes.wait_for(|state| state.requests == 0).await;
    }
}

/// A request that is being answered.
pub struct Busy {
    place: Arc<Place>,
    number: u64,
}

impl Busy {
    /// The client has room for the next piece of the answer.
    pub fn asked(&self) {
        self.place.waiting().remove(&self.number);
    }

    /// A piece of the answer waits for the client.
    pub fn given(&self) {
        self.place.waiting().insert(self.number, Instant::now());
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.asked();
        self.place.state.send_modify(|state| {
            state.requests -= 1;
            if state.requests == 0 {
                (state.phase, state.since) = (Phase::Rest, Instant::now());
            }
        });
    }
}

/// All places.
pub struct Door {
    limits: Limits,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    next: u64,
    places: BTreeMap<u64, Arc<Place>>,
}

impl Door {
    pub fn new(limits: Limits) -> Self {
        Self { limits, taken: Mutex::default() }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a new connection. Others lose theirs where there are too many.
    pub fn enter(&self, network: Network) -> Arc<Place> {
        let mut taken = self.taken();
        taken.next += 1;
        let place = Arc::new(Place::new(taken.next, network));
        taken.places.insert(place.number, place.clone());
        taken.keep_to(&self.limits, &place);
        place
    }

    pub fn leave(&self, place: &Place) {
        self.taken().places.remove(&place.number);
    }

    /// Closes all connections.
    pub fn close_all(&self) {
        while self.taken().close(None, |_| true) {}
    }

    /// Closes the least needed connection that answers nothing, to free its descriptor.
    pub fn close_one(&self) {
        self.taken().close(None, |place| place.phase() != Phase::Work);
    }
}

impl Taken {
    /// Closes as many connections as there are too many. Not the newest.
    fn keep_to(&mut self, limits: &Limits, newest: &Place) {
        let of_its_own = |place: &Place| place.network == newest.network;
        let is_fresh = |place: &Place| !place.is_trusted();
        let own_few = |place: &Place| of_its_own(place) && is_fresh(place);
        self.close_above(limits.few(), newest, own_few);
        self.close_above(limits.of_network(), newest, of_its_own);
        while self.count(is_fresh) > limits.quarter() {
            // Of the network that has most: a flood puts itself out.
            let Some(most) = self.largest_fresh() else { break };
            let of_it = |place: &Place| place.network == most && is_fresh(place);
            if !self.close(Some(newest.number), of_it) && !self.close(Some(newest.number), is_fresh) {
                break;
            }
        }
        self.close_above(limits.most, newest, |_| true);
    }

    fn close_above(&mut self, most: usize, newest: &Place, of: impl Fn(&Place) -> bool + Copy) {
        for _ in most..self.count(of) {
            if !self.close(Some(newest.number), of) {
                break;
            }
        }
    }

    fn count(&self, of: impl Fn(&Place) -> bool) -> usize {
        self.places.values().filter(|place| of(place)).count()
    }

    /// The network with the most connections that have shown no good key.
    fn largest_fresh(&self) -> Option<Network> {
        let mut counts: BTreeMap<Network, usize> = BTreeMap::new();
        for place in self.places.values().filter(|place| !place.is_trusted()) {
            *counts.entry(place.network).or_default() += 1;
        }
        counts.into_iter().max_by_key(|(_, count)| *count).map(|(network, _)| network)
    }

    /// Closes the connection of these that can be missed most, if there is one.
    fn close(&mut self, newest: Option<u64>, of: impl Fn(&Place) -> bool) -> bool {
        let candidates = self.places.values().filter(|place| Some(place.number) != newest && of(place));
        let worth = |place: &&Arc<Place>| (place.state.borrow().worth(), place.number);
        let Some(found) = candidates.min_by_key(worth).map(|place| place.number) else { return false };
        if let Some(found) = self.places.remove(&found) {
            found.cut.notify_one();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(host: u32) -> Network {
        Network::of(std::net::Ipv4Addr::from_bits(host).into())
    }

    fn door(most: usize) -> Door {
        Door::new(Limits::new(most, Connections::default()))
    }

    fn is_in(door: &Door, place: &Place) -> bool {
        door.taken().places.contains_key(&place.number)
    }

    #[test]
    fn a_flood_puts_nobody_out_who_has_shown_a_key() {
        let door = door(128);
        let good: Vec<_> = (0..30).map(|host| door.enter(at(host))).collect();
        good.iter().for_each(|place| place.trust(true));
        for flood in 0..10_000 {
            // Half from one address, half from another each.
            door.enter(at(if flood % 2 == 0 { 1000 } else { 1000 + flood }));
            assert!(door.taken().places.len() <= 30 + 32);
        }
        assert!(good.iter().all(|place| is_in(&door, place)));
    }

    #[test]
    fn a_flood_from_one_address_leaves_those_alone_that_have_just_come() {
        let door = door(128);
        let new: Vec<_> = (0..8).map(|host| door.enter(at(host))).collect();
        for _ in 0..10_000 {
            let newest = door.enter(at(1000));
            assert!(is_in(&door, &newest));
        }
        assert!(new.iter().all(|place| is_in(&door, place)));
        assert_eq!(door.taken().places.len(), 8 + 4);
    }

    #[test]
    fn of_too_many_good_ones_those_at_rest_leave_first() {
        let door = door(16);
        let all: Vec<_> =
            (0..16).map(|host| door.enter(at(host))).inspect(|place| place.trust(true)).collect();
        let busy: Vec<_> = all.iter().take(12).map(|place| place.begin()).collect();
        for host in 100..104 {
            door.enter(at(host)).trust(true);
        }
        assert!(all.iter().take(12).all(|place| is_in(&door, place)));
        assert!(!all.iter().skip(12).any(|place| is_in(&door, place)));
        drop(busy);
    }

    #[test]
    fn an_address_has_a_quarter_at_most() {
        let door = door(64);
        for _ in 0..50 {
            door.enter(at(1)).trust(true);
        }
        assert_eq!(door.taken().places.len(), 16);
    }

    #[tokio::test]
    async fn each_phase_has_its_time() {
        let limits = Limits::new(16, Connections { most: 16, head_ms: 20, idle_ms: 20, stall_ms: 20 });
        let place = door(16).enter(at(1));
        assert_eq!(place.overdue(&limits).await, Phase::Fresh);
        place.heard();
        assert_eq!(place.overdue(&limits).await, Phase::Head);
        let busy = (place.begin(), place.begin());
        // An answer that does not come is no fault of the client's; one that it does not take is.
        busy.0.given();
        assert_eq!(place.overdue(&limits).await, Phase::Work);
        busy.0.asked();
        assert!(!place.is_stuck(limits.stall));
        assert_eq!(place.state.borrow().deadline(&limits), None);
        place.heard();
        drop(busy.0);
        assert_eq!(place.phase(), Phase::Work);
        drop(busy.1);
        assert_eq!(place.overdue(&limits).await, Phase::Rest);
    }
}
