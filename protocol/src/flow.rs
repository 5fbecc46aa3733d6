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

/// Once as many bytes of frames as this are on record and not told, the manager tells.
pub const UNTOLD: usize = 32 * 1024;

// What a full worker keeps is on record some time, and is enough then.
const _: () = assert!(UNTOLD <= KEPT / 2);

/// Whether a worker that keeps `kept` bytes of frames may add more.
pub const fn has_room(kept: usize) -> bool {
    kept < KEPT
}

/// The manager's count of what one worker has said.
#[derive(Debug, Default)]
pub struct Untold {
    /// Number and size of each frame that is not on record yet, oldest first.
    heard: VecDeque<(u64, usize)>,
    /// Bytes of frames that are on record and not told.
    bytes: usize,
}

impl Untold {
    /// A frame with this number and size was heard.
    pub fn heard(&mut self, seq: u64, size: usize) {
        self.heard.push_back((seq, size));
    }

    /// A frame of this size was heard whose message was on record before. The worker keeps it all the same.
    pub fn heard_again(&mut self, size: usize) {
        self.bytes += size;
    }

    /// All messages up to this number are on record.
    pub fn recorded(&mut self, upto: u64) {
        while let Some((seq, size)) = self.heard.front()
            && *seq <= upto
        {
            self.bytes += size;
            self.heard.pop_front();
        }
    }

    /// The worker was told of all that is on record.
    pub fn told(&mut self) {
        self.bytes = 0;
    }

    /// Whether the worker must be told now.
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
