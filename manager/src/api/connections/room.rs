//! Seats of connections, the memory that each may use, and the choice of the one that must leave when all are taken.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use protocol::{KeyId, SessionId};
use rustix::process::{Resource, getrlimit};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use super::super::problem::ApiError;
use super::{MAX_HEAD, MAX_HEADERS};
use crate::config::Connections;

/// A body up to this size needs no part of the budget, in bytes.
pub const SMALL: usize = 64 * 1024;
/// Bytes of request bodies that are read or worked on at once.
const BODIES: usize = 64 * 1024 * 1024;
/// Bytes of these bodies that sessions may use: callers with a token or from below a worker.
const BODIES_OF_SESSIONS: usize = 32 * 1024 * 1024;
/// Time that a request waits for a part of the budget.
const BODY_PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of answers that wait for their clients, in all.
const ANSWERS: usize = 64 * 1024 * 1024;
/// Time without progress after which a client may lose its place to another's answer.
const SLOW: Duration = Duration::from_secs(1);
/// The configuration's figures, as they are used here.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub connections: usize,
    pub head: Duration,
    pub idle: Duration,
    pub stall: Duration,
}

impl From<Connections> for Limits {
    fn from(set: Connections) -> Self {
        // Sessions, their logs and the journal need descriptors too.
        let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX) / 4;
        Self {
            connections: set.most.min(usize::try_from(descriptors).unwrap_or(usize::MAX)).max(8),
            head: Duration::from_millis(set.head_ms),
            idle: Duration::from_millis(set.idle_ms),
            stall: Duration::from_millis(set.stall_ms),
        }
    }
}

impl Limits {
    /// The most connections of one session's token, role by role, of what runs below one session's worker, and of one key.
    fn share(&self) -> usize {
        // Far fewer than may be attached to one session (`core::limits::CLIENTS`), so that no token fills all places.
        (self.connections / 8).clamp(1, crate::core::limits::CLIENTS / 4)
    }

    /// The most connections of all sessions and keys together. The rest is the owner's.
    fn of_sessions(&self) -> usize {
        (self.connections / 2).max(1)
    }
}

/// The owner of a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// The owner's, as far as is known.
    #[default]
    Owner,
    /// One that came in over TLS and has shown nothing yet.
    Remote,
    /// Somebody's with this session's token, or with its rights: only a viewer's, or not.
    Session(SessionId, bool),
    /// Somebody's with this key.
    Key(KeyId),
}

/// The answer to a client that finds all seats taken.
pub fn overloaded(detail: &str) -> ApiError {
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", detail)
        .hint("try again after `Retry-After` seconds")
}

/// The answer to a request whose head hyper cannot read, for which hyper itself would give this status.
pub fn unreadable(status: StatusCode) -> ApiError {
    let (status, code, detail) = match status {
        StatusCode::URI_TOO_LONG => (
            status,
            "uri_too_long",
            format!("the request's URI has more than {MAX_HEAD} bytes; nothing was changed"),
        ),
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
            let detail = format!(
                "the request's head has more than {MAX_HEAD} bytes or {MAX_HEADERS} lines; nothing was changed"
            );
            (status, "headers_too_large", detail)
        }
        _ => {
            let detail = "this is no request of HTTP/1.1; nothing was changed".to_owned();
            (StatusCode::BAD_REQUEST, "invalid_request", detail)
        }
    };
    ApiError::new(status, code, detail)
}

/// The answer to a request whose head does not end in time.
pub fn too_slow(head: Duration) -> ApiError {
    let detail = format!("the request's head did not end within {head:?}; nothing was changed");
    ApiError::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", detail)
}

/// The status of an answer of HTTP/1 that begins with these bytes, if it is a client's fault: hyper's own answer, where no request was
/// read.
pub fn fault_in(bytes: &[u8]) -> Option<StatusCode> {
    let status = bytes.strip_prefix(b"HTTP/1.1 ").or_else(|| bytes.strip_prefix(b"HTTP/1.0 "))?;
    StatusCode::from_bytes(status.get(..3)?).ok().filter(StatusCode::is_client_error)
}

/// All connections, and the memory that they use together.
pub struct Room {
    pub limits: Limits,
    taken: Mutex<Taken>,
    bodies: Arc<Semaphore>,
    bodies_of_sessions: Arc<Semaphore>,
}

#[derive(Default)]
pub struct Taken {
    next: u64,
    seats: BTreeMap<u64, Arc<Seat>>,
    /// Bytes of answers that wait for their clients.
    pub answers: usize,
}

impl Room {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            taken: Mutex::default(),
            bodies: Arc::new(Semaphore::new(BODIES)),
            bodies_of_sessions: Arc::new(Semaphore::new(BODIES_OF_SESSIONS)),
        }
    }

    pub fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A seat for a new connection. Another loses its seat where there is none left.
    pub fn enter(self: &Arc<Self>, who: Who) -> Arc<Seat> {
        let mut taken = self.taken();
        taken.next += 1;
        let seat = Arc::new(Seat::new(taken.next, who));
        taken.seats.insert(seat.number, seat.clone());
        taken.keep_to(&self.limits, Some(seat.number));
        seat
    }

    /// The connection is found to be somebody else's.
    fn rename(&self, seat: &Seat, who: Who) {
        let mut taken = self.taken();
        seat.state().who = who;
        taken.keep_to(&self.limits, None);
    }

    pub fn leave(&self, seat: &Seat) {
        let mut taken = self.taken();
        taken.seats.remove(&seat.number);
        taken.answers -= seat.state().give_back();
    }

    /// Closes the least needed of the connections that have made no request for a while. Connections that are
    /// new or at work wait with the others for descriptors.
    pub fn close_one(&self) {
        let mut taken = self.taken();
        taken.close(|state| state.phase != Phase::Work && state.since.elapsed() >= SLOW, None);
    }

    /// Returns true if `size` more bytes of answers may wait. Closes connections of slow clients to make room.
    pub fn admit(&self, seat: &Seat, size: usize) -> bool {
        let mut taken = self.taken();
        while taken.answers > 0 && taken.answers + size > ANSWERS {
            let holds = |seat: &&Arc<Seat>| {
                let state = seat.state();
                state.answer > 0 && state.stalled.is_some_and(|since| since.elapsed() >= SLOW)
            };
            let slowest = taken.seats.values().filter(holds).min_by_key(|seat| seat.state().stalled).cloned();
            let Some(slowest) = slowest else { return false };
            taken.answers -= slowest.state().give_back();
            taken.seats.remove(&slowest.number);
            slowest.cut.notify_one();
        }
        taken.answers += size;
        seat.state().answer += size;
        true
    }
}

impl Taken {
    /// Closes as many connections as there are too many. Not this one, which has only come.
    fn keep_to(&mut self, limits: &Limits, newest: Option<u64>) {
        // The usual case: no client has too many.
        if self.seats.len() <= limits.share() {
            return;
        }
        let mut counts: BTreeMap<Who, usize> = BTreeMap::new();
        for seat in self.seats.values() {
            *counts.entry(seat.state().who.clone()).or_default() += 1;
        }
        let owners = counts.remove(&Who::Owner).unwrap_or(0);
        for (who, count) in &counts {
            for _ in limits.share()..*count {
                self.close(|state| state.who == *who, newest);
            }
        }
        while self.seats.len() > owners + limits.of_sessions() {
            if !self.close(|state| state.who != Who::Owner, newest) {
                break;
            }
        }
        while self.seats.len() > limits.connections {
            // Strangers first, and the newest among them.
            if !self.close(|state| state.who == Who::Remote, None) && !self.close(|_| true, newest) {
                break;
            }
        }
    }

    /// Closes the connection of these that can be missed most, if there is one.
    fn close(&mut self, of: impl Fn(&State) -> bool, newest: Option<u64>) -> bool {
        let candidates = self.seats.values().filter(|seat| Some(seat.number) != newest && of(&seat.state()));
        let Some(found) = candidates.min_by_key(|seat| seat.state().worth(seat.number)).cloned() else {
            return false;
        };
        self.answers -= found.state().give_back();
        self.seats.remove(&found.number);
        found.cut.notify_one();
        true
    }
}

/// A connection's place.
pub struct Seat {
    number: u64,
    state: Mutex<State>,
    /// Wakes the connection's task to close it.
    pub cut: Notify,
}

pub struct State {
    pub who: Who,
    pub phase: Phase,
    /// Since when it is in this phase.
    pub since: Instant,
    /// The request's body has been read to its end.
    pub received: bool,
    /// The handler waits for more of the body than has come.
    pub starving: bool,
    /// The answer's body has been given to hyper to its end.
    pub answered: bool,
    /// Bytes of the answer that wait for the client.
    pub answer: usize,
    /// Since when the client has taken nothing, though something waits for it.
    pub stalled: Option<Instant>,
    /// Status of the answer that hyper wanted to give by itself; absent if none.
    pub refused: Option<StatusCode>,
    pub expired: bool,
    /// The connection speaks another protocol from now on, whose handler has deadlines of its own.
    upgraded: bool,
    /// The instant of the last bytes from the client.
    heard_at: Instant,
}

/// The event for which a connection waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Its first request's first byte.
    Fresh,
    /// The end of a head.
    Head,
    /// An answer.
    Work,
    /// Another request.
    Rest,
}

impl State {
    /// The smaller, the sooner it is closed to make room.
    fn worth(&self, number: u64) -> (u8, Instant, u64) {
        let owner = u8::from(self.who == Who::Owner);
        let rank = match self.phase {
            Phase::Fresh | Phase::Head if self.since.elapsed() >= SLOW => owner,
            Phase::Rest => 2,
            // Its request may be on the way.
            Phase::Fresh | Phase::Head => 3 + 2 * owner,
            Phase::Work => 4 + 2 * owner,
        };
        (rank, self.since, number)
    }

    fn enter(&mut self, phase: Phase) {
        (self.phase, self.since) = (phase, Instant::now());
    }

    fn give_back(&mut self) -> usize {
        std::mem::take(&mut self.answer)
    }
}

impl Seat {
    pub fn new(number: u64, who: Who) -> Self {
        let state = State {
            who,
            phase: Phase::Fresh,
            since: Instant::now(),
            received: true,
            starving: false,
            answered: false,
            answer: 0,
            stalled: None,
            refused: None,
            expired: false,
            upgraded: false,
            heard_at: Instant::now(),
        };
        Self { number, state: Mutex::new(state), cut: Notify::new() }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A head was read.
    pub fn begin(&self, received: bool) {
        let mut state = self.state();
        state.enter(Phase::Work);
        (state.received, state.starving, state.answered) = (received, false, false);
    }

    /// The answer makes the connection another protocol's.
    pub fn upgrade(&self) {
        self.state().upgraded = true;
    }

    /// Returns true if the connection is another protocol's.
    pub fn is_upgraded(&self) -> bool {
        self.state().upgraded
    }

    /// Bytes have come.
    pub fn heard(&self) {
        let mut state = self.state();
        state.starving = false;
        state.heard_at = Instant::now();
        if matches!(state.phase, Phase::Fresh | Phase::Rest) {
            // The time of a connection's first head began with the connection.
            let since = if state.phase == Phase::Fresh { state.since } else { Instant::now() };
            (state.phase, state.since) = (Phase::Head, since);
        }
    }

    /// Records that the kernel has all bytes that hyper had for the client. If the answer was among them, the
    /// connection rests from now on. Returns the number of the answer's bytes that no longer wait.
    pub fn flushed(&self) -> Option<usize> {
        let mut state = self.state();
        if state.phase != Phase::Work || !state.answered || state.upgraded {
            return None;
        }
        state.enter(Phase::Rest);
        Some(state.give_back())
    }

    /// Nothing that has not come yet is needed for the answer: that nothing more comes from the client is no fault.
    pub fn waits_for_answer(&self) -> bool {
        let state = self.state();
        state.phase == Phase::Work && (state.received || !state.starving) && !state.upgraded
    }

    /// The instant at which the daemon closes the connection if nothing arrives.
    pub fn deadline(&self, limits: &Limits) -> Option<Instant> {
        let state = self.state();
        let within = match state.phase {
            Phase::Fresh | Phase::Head => limits.head,
            Phase::Rest => limits.idle,
            // Handlers have deadlines of their own.
            Phase::Work => return None,
        };
        Some(state.since + within)
    }

    /// The last answer to the client; `None` if none can be sent.
    pub fn last_words(&self, result: Option<hyper::Result<()>>, limits: Limits) -> Option<ApiError> {
        let state = self.state();
        let untold = matches!(state.phase, Phase::Fresh | Phase::Head);
        match (state.refused, result) {
            (_, None) if untold => {
                let detail =
                    "there are as many connections as there may be; this one had sent no request yet";
                Some(overloaded(detail))
            }
            (_, None) => None,
            (Some(status), _) => Some(unreadable(status)),
            (None, Some(Err(_))) if state.expired && state.phase == Phase::Head => {
                Some(too_slow(limits.head))
            }
            (None, Some(Err(error))) if state.phase == Phase::Head && error.is_incomplete_message() => {
                let detail = "the request's head has no end; nothing was changed";
                Some(ApiError::bad_request("invalid_request", detail))
            }
            (None, Some(Err(error))) if state.phase == Phase::Head && error.is_parse() => {
                Some(unreadable(StatusCode::BAD_REQUEST))
            }
            (None, Some(_)) => None,
        }
    }
}

/// Origin of a request: its connection. In the extensions of every request that came over a connection.
#[derive(Clone)]
pub struct Origin {
    seat: Arc<Seat>,
    room: Arc<Room>,
    /// Parts of the budget, for as long as the request is worked on.
    held: Arc<Mutex<Vec<OwnedSemaphorePermit>>>,
}

impl Origin {
    /// Of a request that has come over this connection.
    pub fn new(seat: Arc<Seat>, room: Arc<Room>) -> Self {
        Self { seat, room, held: Arc::default() }
    }

    /// The instant of the last bytes from the client.
    pub fn heard_at(&self) -> Instant {
        self.seat.state().heard_at
    }

    /// The owner of the connection.
    pub fn who(&self) -> Who {
        self.seat.state().who.clone()
    }

    /// The request has these rights and no more: the connection counts as this client's from now on.
    pub fn belongs_to(&self, who: Who) {
        if self.who() != who {
            self.room.rename(&self.seat, who);
        }
    }

    /// Waits until a body of this size may be read.
    ///
    /// # Errors
    /// `overloaded` if others hold all that there is for too long.
    pub async fn reserve(&self, size: usize) -> Result<(), ApiError> {
        if size <= SMALL {
            return Ok(());
        }
        let size = size.min(BODIES_OF_SESSIONS) as u32;
        let owner = self.who() == Who::Owner;
        let take = async {
            let share = match owner {
                true => None,
                false => Some(self.room.bodies_of_sessions.clone().acquire_many_owned(size).await),
            };
            let whole = self.room.bodies.clone().acquire_many_owned(size).await;
            share.into_iter().chain([whole]).collect::<Result<Vec<_>, _>>()
        };
        match timeout(BODY_PATIENCE, take).await {
            Ok(Ok(permits)) => {
                self.held.lock().unwrap_or_else(PoisonError::into_inner).extend(permits);
                Ok(())
            }
            _ => Err(overloaded("other requests' bodies take all the room there is; nothing was changed")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_that_have_shown_nothing_put_no_owner_out() {
        // With and without room for others.
        for count in [56, 64] {
            let room = Arc::new(Room::new(Connections { most: 64, ..Connections::default() }.into()));
            let is_in = |seat: &Arc<Seat>| room.taken().seats.contains_key(&seat.number);
            let owners: Vec<_> = (0..count).map(|_| room.enter(Who::Owner)).collect();
            // At rest they are needed least.
            owners.iter().for_each(|seat| seat.state().enter(Phase::Rest));
            for _ in 0..1000 {
                let newest = room.enter(Who::Remote);
                newest.begin(true);
                assert_eq!(is_in(&newest), count < 64);
                assert!(room.taken().seats.len() <= 64);
            }
            assert!(owners.iter().all(is_in));
        }
    }
}
