//! The cursors of all subscribers that follow, for whoever asks how far they are behind.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use protocol::EventId;

use super::Feed;

/// The cursor of one subscriber. It counts while it is held.
#[derive(Default)]
pub(super) struct Cursor(Arc<AtomicU64>);

impl Cursor {
    pub fn moves_to(&self, id: EventId) {
        self.0.store(id, Ordering::Relaxed);
    }
}

impl Feed {
    /// The number of events that the slowest of the subscribers that follow has not been given yet.
    pub fn lag(&self) -> u64 {
        self.cursors.furthest_behind(*self.head.borrow())
    }
}

/// The cursors that count.
#[derive(Default)]
pub(super) struct Cursors(Mutex<Vec<Weak<AtomicU64>>>);

impl Cursors {
    /// One more, which stands at this event.
    pub fn at(&self, id: EventId) -> Cursor {
        let cursor = Arc::new(AtomicU64::new(id));
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Those of subscribers that are gone.
        all.retain(|cursor| cursor.strong_count() > 0);
        all.push(Arc::downgrade(&cursor));
        Cursor(cursor)
    }

    /// The number of events between the hindmost of them and the newest event.
    pub fn furthest_behind(&self, newest: EventId) -> u64 {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let cursors = all.iter().filter_map(Weak::upgrade);
        cursors.map(|cursor| newest.saturating_sub(cursor.load(Ordering::Relaxed))).max().unwrap_or(0)
    }
}
