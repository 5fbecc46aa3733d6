//! Frames that the manager has not made its own yet: on their way, or kept because a manager that dies takes with it
//! what it has read and not recorded.

use std::collections::VecDeque;

use protocol::frame::{self, FrameError};
use protocol::wire::FromWorker;

/// Encoded frames in the order of their numbers, the first ones perhaps written.
#[derive(Debug, Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    /// How much of `bytes` is written.
    written: usize,
    /// Number and length of each frame in `bytes`.
    frames: VecDeque<(u64, usize)>,
}

impl Outbox {
    /// Puts a frame at the end.
    pub fn push(&mut self, envelope: &FromWorker) -> Result<(), FrameError> {
        let before = self.bytes.len();
        frame::encode(envelope, &mut self.bytes)?;
        self.frames.push_back((envelope.seq, self.bytes.len() - before));
        Ok(())
    }

    /// Puts a frame before all others, none of which is written.
    pub fn push_first(&mut self, envelope: &FromWorker) -> Result<(), FrameError> {
        let mut first = Vec::new();
        frame::encode(envelope, &mut first)?;
        self.frames.push_front((envelope.seq, first.len()));
        first.append(&mut self.bytes);
        self.bytes = first;
        Ok(())
    }

    /// How much is here, in bytes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// What is still to be written.
    pub fn unwritten(&self) -> &[u8] {
        &self.bytes[self.written..]
    }

    /// So much more is written.
    pub fn wrote(&mut self, count: usize) {
        self.written += count;
    }

    /// Where it was written to has gone: all of it is to be written again.
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
