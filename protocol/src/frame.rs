//! Frames: a little-endian `u32` length, then that many bytes of bincode.
//!
//! Sans-io: [`encode`] appends to a buffer, [`Decoder`] is fed whatever a read returned. The only file that
//! names bincode. It is 1.3.x on purpose: its authors call that version finished, and bincode cannot decode
//! what needs self-description, so nothing that crosses the pipe uses `tag`, `untagged`, `flatten`,
//! `skip_serializing_if` or `serde_json::Value`.

use bincode::Options;
use serde::{Serialize, de::DeserializeOwned};

/// The largest frame body, in bytes. A prompt is at most 1 MiB and a piece of output 64 KiB; history given as
/// context is bounded below this by its sender. A longer length means the other side writes garbage.
pub const MAX_BODY: usize = 16 * 1024 * 1024;

const HEADER: usize = size_of::<u32>();

/// Size of a frame on the pipe, in bytes: its header and a body of `body` bytes.
///
/// Both ends of a link count unacknowledged bytes by this one function: the worker counts the frames that it keeps, the
/// manager the frames that it has recorded and not acknowledged. With any other count (the bytes of one read, the
/// length of a text) one end waits for the other.
pub const fn size(body: usize) -> usize {
    HEADER + body
}

/// A message and how many bytes its frame took on the pipe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Framed<T> {
    /// The message.
    pub message: T,
    /// [`size`] of its frame.
    pub size: usize,
}

/// Error: the bytes on a pipe are not frames, or a message does not fit in a frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// A length over [`MAX_BODY`].
    #[error("a frame of {0} bytes, over the limit of {MAX_BODY}")]
    TooLong(usize),
    /// The body is not the expected message, or has bytes left over.
    #[error("a frame that does not decode: {0}")]
    Body(#[source] Box<bincode::ErrorKind>),
    /// The pipe ended inside a frame.
    #[error("the pipe ended {0} bytes into a frame")]
    Torn(usize),
}

fn options() -> impl Options {
    bincode::DefaultOptions::new().with_fixint_encoding().with_limit(MAX_BODY as u64).reject_trailing_bytes()
}

/// Appends `message` as one frame to `out`, and returns the [`size`] of that frame. On an error `out` is as it was.
pub fn encode<T: Serialize>(message: &T, out: &mut Vec<u8>) -> Result<usize, FrameError> {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER]);
    if let Err(error) = options().serialize_into(&mut *out, message) {
        out.truncate(start);
        return Err(FrameError::Body(error));
    }
    let length = out.len() - start - HEADER;
    // The limit of `options` is below u32::MAX, so the conversion holds.
    out[start..start + HEADER].copy_from_slice(&(length as u32).to_le_bytes());
    Ok(size(length))
}

/// Takes bytes as they come and gives whole messages back.
///
/// Memory is bounded by one frame and what one read adds to it: the length is checked before the body is
/// waited for.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    /// Number of bytes at the front of `buffer` that the decoder has already returned.
    taken: usize,
}

impl Decoder {
    /// Adds what a read returned.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.taken > 0 {
            self.buffer.drain(..self.taken);
            self.taken = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message; `None` until more bytes are fed. After an error the pipe is out of step for good.
    pub fn take<T: DeserializeOwned>(&mut self) -> Result<Option<T>, FrameError> {
        Ok(self.take_framed()?.map(|framed| framed.message))
    }

    /// The next whole message with the size of its frame, as [`take`](Self::take).
    pub fn take_framed<T: DeserializeOwned>(&mut self) -> Result<Option<Framed<T>>, FrameError> {
        let rest = &self.buffer[self.taken..];
        let Some((header, rest)) = rest.split_first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(*header) as usize;
        if length > MAX_BODY {
            return Err(FrameError::TooLong(length));
        }
        let Some(body) = rest.get(..length) else {
            return Ok(None);
        };
        let message = options().deserialize(body).map_err(FrameError::Body)?;
        let size = size(length);
        self.taken += size;
        if self.taken == self.buffer.len() {
            // An idle link keeps no buffer: a thousand idle sessions must cost little.
            self.buffer = Vec::new();
            self.taken = 0;
        }
        Ok(Some(Framed { message, size }))
    }

    /// Checks, at the end of the pipe, that it did not end inside a frame.
    pub fn finish(&self) -> Result<(), FrameError> {
        match self.buffer.len() - self.taken {
            0 => Ok(()),
            left => Err(FrameError::Torn(left)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_whole_however_the_bytes_are_cut() {
        let mut wire = Vec::new();
        for n in 0..50u64 {
            encode(&(n, "x".repeat(n as usize)), &mut wire).unwrap();
        }
        for cut in [1, 3, 7, 64, wire.len()] {
            let mut decoder = Decoder::default();
            let mut seen = Vec::new();
            for piece in wire.chunks(cut) {
                decoder.feed(piece);
                while let Some((n, text)) = decoder.take::<(u64, String)>().unwrap() {
                    assert_eq!(text.len() as u64, n);
                    seen.push(n);
                }
            }
            assert_eq!(seen, (0..50).collect::<Vec<_>>(), "cut in {cut}");
            decoder.finish().unwrap();
        }
    }

    #[test]
    fn a_length_over_the_limit_is_refused_before_its_body_is_waited_for() {
        let mut decoder = Decoder::default();
        decoder.feed(&u32::MAX.to_le_bytes());
        assert!(matches!(decoder.take::<u8>(), Err(FrameError::TooLong(_))));
    }

    #[test]
    fn a_body_that_claims_a_huge_string_allocates_nothing_for_it() {
        let mut wire = 8u32.to_le_bytes().to_vec();
        wire.extend(u64::MAX.to_le_bytes());
        let mut decoder = Decoder::default();
        decoder.feed(&wire);
        assert!(matches!(decoder.take::<String>(), Err(FrameError::Body(_))));
    }

    #[test]
    fn bytes_left_over_in_a_body_are_garbage() {
        let mut wire = 2u32.to_le_bytes().to_vec();
        wire.extend([1, 2]);
        let mut decoder = Decoder::default();
        decoder.feed(&wire);
        assert!(matches!(decoder.take::<u8>(), Err(FrameError::Body(_))));
    }

    #[test]
    fn a_message_over_the_limit_leaves_the_buffer_as_it_was() {
        let mut out = vec![7];
        assert!(encode(&vec![0u8; MAX_BODY + 1], &mut out).is_err());
        assert_eq!(out, [7]);
    }

    #[test]
    fn an_end_inside_a_frame_is_told() {
        let mut decoder = Decoder::default();
        decoder.feed(&[9, 0]);
        assert!(decoder.take::<u8>().unwrap().is_none());
        assert!(matches!(decoder.finish(), Err(FrameError::Torn(2))));
    }
}
