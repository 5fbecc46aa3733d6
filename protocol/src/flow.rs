//! Flow control of the link from a worker to its manager: how much a worker keeps, and when the manager says what is on
//! record.
//!
//! A worker keeps each frame until the manager acknowledges it, and reads its agent no further while it keeps
//! [`KEPT`] bytes or more. The manager acknowledges once [`UNTOLD`] bytes are on record that it has not told. Both count
//! [`frame::size`](crate::frame::size) of each frame, whatever the reads and writes were that carried it. So a worker that
//! keeps [`KEPT`] bytes has always said enough for an acknowledgement, and no timer is needed.

use std::collections::VecDeque;

/// While a worker keeps as many bytes of frames as this, or more, it reads its agent no further. One frame may be larger
/// than this: it goes alone. A few messages of any common size fit, so that one is on its way while another is written down.
pub const KEPT: usize = 1024 * 1024;

/// Bytes of recorded frames after which the manager must acknowledge.
pub const UNTOLD: usize = 32 * 1024;

// The manager records everything that a full worker keeps, and that is then enough to acknowledge.
const _: () = assert!(UNTOLD <= KEPT / 2);

/// Returns true if a worker that keeps `kept` bytes of frames may add more.
pub const fn has_room(kept: usize) -> bool {
    kept < KEPT
}

/// The manager's count of one worker's unacknowledged frames.
#[derive(Debug, Default)]
pub struct Untold {
    /// Number and size in bytes of each frame that is not recorded yet, oldest first.
    heard: VecDeque<(u64, usize)>,
    /// Bytes of frames that are recorded and not acknowledged.
    bytes: usize,
}

impl Untold {
    /// Counts a received frame with this number and size, in bytes.
    pub fn heard(&mut self, seq: u64, size: usize) {
        self.heard.push_back((seq, size));
    }

    /// Counts a received frame whose message was already recorded. The worker keeps such a frame until it is acknowledged.
    pub fn heard_again(&mut self, size: usize) {
        self.bytes += size;
    }

    /// Counts all messages up to this number as recorded.
    pub fn recorded(&mut self, upto: u64) {
        while let Some((seq, size)) = self.heard.front()
            && *seq <= upto
        {
            self.bytes += size;
            self.heard.pop_front();
        }
    }

    /// Counts the worker as informed: an acknowledgement of all recorded messages was sent.
    pub fn told(&mut self) {
        self.bytes = 0;
    }

    /// Returns true if the manager must send an acknowledgement now.
    pub fn is_due(&self) -> bool {
        self.bytes >= UNTOLD
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_heard_and_not_on_record_is_still_counted_after_something_was_told() {
        let mut untold = Untold::default();
        untold.heard(1, UNTOLD);
        untold.heard(2, UNTOLD);
        untold.recorded(1);
        assert!(untold.is_due());
        // Any command tells, also one that goes before the second is on record.
        untold.told();
        assert!(!untold.is_due());
        untold.recorded(2);
        assert!(untold.is_due());
    }

    #[test]
    fn what_was_on_record_before_is_counted_too() {
        let mut untold = Untold::default();
        untold.heard_again(UNTOLD - 1);
        assert!(!untold.is_due());
        untold.heard_again(1);
        assert!(untold.is_due());
    }
}
