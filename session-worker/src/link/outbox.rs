//! Frames that the manager has not made its own yet: on their way, or kept because a manager that dies takes with it
//! what it has read and not recorded.

use std::collections::VecDeque;

use protocol::frame::{self, FrameError};
use protocol::wire::FromWorker;

/// Encoded frames in the order of their numbers, the first ones perhaps written.
#[derive(Debug, Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    /// Number of bytes at the front of `bytes` that are written.
    written: usize,
    /// Number and size of each frame in `bytes`, as [`frame::size`] counts it.
    frames: VecDeque<(u64, usize)>,
}

impl Outbox {
    /// Puts a frame at the end.
    pub fn push(&mut self, envelope: &FromWorker) -> Result<(), FrameError> {
        let size = frame::encode(envelope, &mut self.bytes)?;
        self.frames.push_back((envelope.seq, size));
        Ok(())
    }

    /// Puts a frame before all others, none of which is written.
    pub fn push_first(&mut self, envelope: &FromWorker) -> Result<(), FrameError> {
        let mut first = Vec::new();
        let size = frame::encode(envelope, &mut first)?;
        self.frames.push_front((envelope.seq, size));
        first.append(&mut self.bytes);
        self.bytes = first;
        Ok(())
    }

    /// Size of all frames that are not acknowledged, in bytes: the sum of their [`frame::size`].
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes that the link has still to write.
    pub fn unwritten(&self) -> &[u8] {
        &self.bytes[self.written..]
    }

    /// Counts `count` more bytes as written.
    pub fn wrote(&mut self, count: usize) {
        self.written += count;
    }

    /// Marks all frames as unwritten, because the pipe to which they were written is gone.
    pub fn rewind(&mut self) {
        self.written = 0;
    }

    /// Drops the written frames up to this number.
    pub fn forget(&mut self, upto: u64) {
        let mut end = 0;
        while let Some((seq, length)) = self.frames.front()
            && *seq <= upto
            && end + length <= self.written
        {
            end += length;
            self.frames.pop_front();
        }
        if end == self.bytes.len() {
            // A worker at rest keeps no buffer.
            *self = Self::default();
        } else {
            self.bytes.drain(..end);
            self.written -= end;
        }
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use protocol::flow::{self, Untold};
    use protocol::frame::Decoder;
    use protocol::wire::{Envelope, Report};

    use super::*;

    fn envelope(seq: u64) -> FromWorker {
        Envelope { incarnation: 1, seq, ack: 0, body: Report::Notice { text: format!("number {seq}") } }
    }

    fn numbers(bytes: &[u8]) -> Vec<u64> {
        let mut decoder = Decoder::default();
        decoder.feed(bytes);
        std::iter::from_fn(|| decoder.take::<FromWorker>().unwrap()).map(|frame| frame.seq).collect()
    }

    fn outbox(count: u64) -> Outbox {
        let mut outbox = Outbox::default();
        (1..=count).for_each(|seq| outbox.push(&envelope(seq)).unwrap());
        outbox
    }

    #[test]
    fn what_is_acknowledged_and_written_is_forgotten_and_nothing_else() {
        let mut outbox = outbox(3);
        let length = outbox.len() / 3;
        outbox.wrote(2 * length + 1);
        outbox.forget(0);
        assert_eq!(outbox.len(), 3 * length);
        outbox.forget(1);
        assert_eq!((outbox.len(), outbox.unwritten().len()), (2 * length, length - 1));
        // The third is not written to its end.
        outbox.forget(9);
        assert_eq!((outbox.len(), outbox.unwritten().len()), (length, length - 1));
        outbox.rewind();
        assert_eq!(numbers(outbox.unwritten()), [3]);
    }

    /// A worker that has room says the next thing, its pipe is read in pieces, and what is whole is put on record. No timer
    /// anywhere: whoever waits for an acknowledgement that does not come waits for ever.
    #[derive(Default)]
    struct Ends {
        outbox: Outbox,
        decoder: Decoder,
        untold: Untold,
        /// Number of the last message that is on record.
        recorded: u64,
        dice: u64,
    }

    impl Ends {
        fn roll(&mut self, below: usize) -> usize {
            // xorshift64, https://www.jstatsoft.org/article/view/v008i14
            self.dice ^= self.dice << 13;
            self.dice ^= self.dice >> 7;
            self.dice ^= self.dice << 17;
            (self.dice % below as u64) as usize
        }

        /// Reads up to `most` bytes as the manager does. Returns true if the manager acknowledged something after it.
        fn read(&mut self, most: usize) -> bool {
            let piece = self.outbox.unwritten();
            let piece = piece[..most.min(piece.len())].to_vec();
            self.outbox.wrote(piece.len());
            self.decoder.feed(&piece);
            while let Some(frame) = self.decoder.take_framed::<FromWorker>().unwrap() {
                self.untold.heard(frame.message.seq, frame.size);
                self.recorded = frame.message.seq;
                // A command for another reason, before this is on record.
                if self.roll(8) == 0 {
                    self.untold.told();
                    self.outbox.forget(self.recorded - 1);
                }
            }
            self.untold.recorded(self.recorded);
            let due = self.untold.is_due();
            if due {
                self.untold.told();
                self.outbox.forget(self.recorded);
            }
            due
        }
    }

    /// Sends frames of these sizes, each read of at most `read(dice)` bytes.
    fn passes(sizes: &[usize], seed: u64, read: impl Fn(usize) -> usize) {
        let mut ends = Ends { dice: seed, ..Ends::default() };
        let none = frame::encode(&envelope_of(0, ""), &mut Vec::new()).unwrap();
        for (seq, size) in (1..).zip(sizes) {
            let text = "x".repeat(size.saturating_sub(none));
            while !flow::has_room(ends.outbox.len()) {
                let told = {
                    let most = ends.roll(1 << 16);
                    ends.read(read(most).max(1))
                };
                let waits = ends.outbox.unwritten().is_empty() && !flow::has_room(ends.outbox.len());
                assert!(
                    told || !waits,
                    "seed {seed}: a full worker that is told nothing, before frame {seq}"
                );
            }
            ends.outbox.push(&envelope_of(seq, &text)).unwrap();
            // As the worker does: what is not written yet is no room.
            while !ends.outbox.unwritten().is_empty() {
                let most = ends.roll(1 << 16);
                ends.read(read(most).max(1));
            }
        }
        assert_eq!(ends.recorded, sizes.len() as u64);
    }

    fn envelope_of(seq: u64, text: &str) -> FromWorker {
        Envelope { incarnation: 1, seq, ack: 0, body: Report::Notice { text: text.into() } }
    }

    #[test]
    fn a_worker_that_is_full_is_told_so_without_any_timer_whatever_the_frames_and_the_reads() {
        const READ: usize = 64 * 1024;
        let near = |bound: usize| [bound - 1, bound, bound + 1];
        let edges: Vec<usize> =
            [flow::UNTOLD, READ, flow::KEPT, flow::KEPT + flow::UNTOLD].into_iter().flat_map(near).collect();
        // Of one size each: enough of them to fill the worker three times, and at least five.
        let small = [1, 40, 100, 1_000, 4_096, 10_000].into_iter().chain(edges.iter().copied());
        for (seed, size) in (1..).zip(small.clone()) {
            let sizes = vec![size; (3 * flow::KEPT / size.max(40)).max(5)];
            passes(&sizes, seed, |_| READ);
            passes(&sizes, seed, |dice| dice);
            passes(&sizes, seed, |dice| dice % 700);
        }
        // Byte by byte.
        passes(&edges, 7, |_| 1);
        // The largest that there are.
        for size in
            [280 * 1024, 1 << 20, 7 << 20, frame::size(frame::MAX_BODY) - 1, frame::size(frame::MAX_BODY)]
        {
            passes(&[size; 3], 3, |_| READ);
        }
        // All of them in any order.
        let all: Vec<usize> = small.chain([280 * 1024, 1 << 20]).collect();
        for seed in 1..40 {
            let mut dice = Ends { dice: seed * 7919, ..Ends::default() };
            let sizes: Vec<usize> = (0..60).map(|_| all[dice.roll(all.len())]).collect();
            passes(&sizes, seed, |dice| dice);
        }
    }

    #[test]
    fn what_was_half_written_is_written_again_from_its_beginning() {
        let mut outbox = outbox(3);
        outbox.wrote(5);
        outbox.rewind();
        outbox.push_first(&envelope(0)).unwrap();
        outbox.push(&envelope(4)).unwrap();
        assert_eq!(numbers(outbox.unwritten()), [0, 1, 2, 3, 4]);
        let all = outbox.len();
        outbox.wrote(all);
        outbox.forget(4);
        assert_eq!((outbox.len(), outbox.unwritten().len()), (0, 0));
    }
}
