//! Server-sent events, read as they come
//! (<https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream>).

use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::ClientError;
use super::far::Lane;
use super::reasons::why_lost;
use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

/// The longest event. The largest that kennel sends is an accepted prompt: 1 MiB, in JSON up to six times that.
const MAX_FRAME: usize = 16 * 1024 * 1024;

/// One event of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// Its id; kennel's own frames have none.
    pub id: Option<u64>,
    /// Its type.
    pub event: String,
    /// Its data, lines joined by `\n`.
    pub data: String,
}

/// An event is longer than any that kennel sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

/// Bytes in, frames out.
#[derive(Debug, Default)]
pub struct Parser {
    line: Vec<u8>,
    /// The last byte was a `\r` that ended a line: a `\n` right after it belongs to it.
    after_return: bool,
    begun: bool,
    frame: Frame,
    has_data: bool,
    ready: VecDeque<Frame>,
}

impl Parser {
    /// Takes the next bytes, cut anywhere.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        let mut rest = bytes;
        if self.after_return && !rest.is_empty() {
            self.after_return = false;
            rest = rest.strip_prefix(b"\n").unwrap_or(rest);
        }
        while let Some(end) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            self.line.extend_from_slice(&rest[..end]);
            let after = &rest[end + 1..];
            rest = match (rest[end], after) {
                (b'\r', []) => {
                    self.after_return = true;
                    after
                }
                (b'\r', _) => after.strip_prefix(b"\n").unwrap_or(after),
                _ => after,
            };
            self.end_line()?;
        }
        self.line.extend_from_slice(rest);
        self.bounded()
    }

    /// The next whole frame.
    pub fn take(&mut self) -> Option<Frame> {
        self.ready.pop_front()
    }

    fn bounded(&self) -> Result<(), TooLong> {
        let held = self.line.len() + self.frame.data.len();
        if held > MAX_FRAME { Err(TooLong) } else { Ok(()) }
    }

    fn end_line(&mut self) -> Result<(), TooLong> {
        self.bounded()?;
        let bytes = std::mem::take(&mut self.line);
        let text = String::from_utf8_lossy(&bytes);
        let mut text: &str = &text;
        if !self.begun {
            self.begun = true;
            text = text.strip_prefix('\u{feff}').unwrap_or(text);
        }
        if text.is_empty() {
            let frame = std::mem::take(&mut self.frame);
            if std::mem::take(&mut self.has_data) {
                self.ready.push_back(frame);
            }
            return Ok(());
        }
        let (field, value) = text.split_once(':').unwrap_or((text, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => {
                if self.has_data {
                    self.frame.data.push('\n');
                }
                self.has_data = true;
                self.frame.data.push_str(value);
            }
            "event" => self.frame.event = value.to_owned(),
            "id" => self.frame.id = value.parse().ok(),
            // A comment (no name before the colon), or a field of a later day.
            _ => {}
        }
        Ok(())
    }
}

/// The daemon says something every 15 s. After so long without, a connection to another machine carries nothing any more.
const SILENCE: Duration = Duration::from_secs(45);

/// A stream of events.
pub struct Events {
    body: Incoming,
    parser: Parser,
    /// The connection to another machine, and when it carried something last.
    lane: Option<(Lane, Instant)>,
    begun: Instant,
    /// Events so far.
    events: u64,
}

impl Events {
    pub(super) fn new(body: Incoming, lane: Option<Lane>) -> Self {
        let begun = Instant::now();
        Self { body, parser: Parser::default(), lane: lane.map(|lane| (lane, begun)), begun, events: 0 }
    }

    /// The next event; none if the daemon has ended the stream. Safe to cancel.
    pub async fn next(&mut self) -> Result<Option<Frame>, ClientError> {
        let next = self.read().await;
        if let (Ok(None) | Err(_), Some((lane, _))) = (&next, &self.lane) {
            lane.stream_ended(self.begun.elapsed(), self.events);
        }
        next
    }

    async fn read(&mut self) -> Result<Option<Frame>, ClientError> {
        loop {
            if let Some(frame) = self.parser.take() {
                self.events += 1;
                if let Some((lane, _)) = &self.lane {
                    lane.heard();
                }
                return Ok(Some(frame));
            }
            let read = match &mut self.lane {
                None => self.body.frame().await,
                // Whoever waits may come and go: the time counts from what was heard.
                Some((lane, heard_at)) => match timeout_at(*heard_at + SILENCE, self.body.frame()).await {
                    Ok(read) => {
                        *heard_at = Instant::now();
                        read
                    }
                    Err(_) => return Err(lane.give_up()),
                },
            };
            match read {
                None => return Ok(None),
                Some(Err(error)) => return Err(ClientError::Lost(why_lost(&error))),
                Some(Ok(frame)) => {
                    if let Some(bytes) = frame.data_ref() {
                        self.parser
                            .feed(bytes)
                            .map_err(|_| ClientError::Garbage("an event has no end".into()))?;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(parser: &mut Parser) -> Vec<Frame> {
        std::iter::from_fn(|| parser.take()).collect()
    }

    fn frame(id: impl Into<Option<u64>>, event: &str, data: &str) -> Frame {
        Frame { id: id.into(), event: event.into(), data: data.into() }
    }

    const TEXT: &str = "\u{feff}: hello\n\nid: 7\nevent: turn.started\ndata: {\"ä\":1}\n\n\
        id:8\r\nevent:x\r\ndata:a\r\ndata: b\r\n\r\n:keep-alive\r\revent: problem\rdata\r\rid: 9\ndata: unfinished";

    fn expected() -> Vec<Frame> {
        vec![frame(7, "turn.started", "{\"ä\":1}"), frame(8, "x", "a\nb"), frame(None, "problem", "")]
    }

    #[test]
    fn frames_are_read_wherever_the_bytes_are_cut() {
        let bytes = TEXT.as_bytes();
        for cut in 0..bytes.len() {
            let mut parser = Parser::default();
            parser.feed(&bytes[..cut]).unwrap();
            parser.feed(&bytes[cut..]).unwrap();
            assert_eq!(all(&mut parser), expected(), "cut at {cut}");
        }
        let mut parser = Parser::default();
        for byte in bytes {
            parser.feed(std::slice::from_ref(byte)).unwrap();
        }
        assert_eq!(all(&mut parser), expected());
    }

    #[test]
    fn hostile_bytes_are_no_harm() {
        let mut parser = Parser::default();
        parser.feed(b"id: -1\ndata: \xff\xfe\0\n\nid: 99999999999999999999\n\n\n\nfoo\n::\n\n").unwrap();
        assert_eq!(all(&mut parser), [frame(None, "", "\u{fffd}\u{fffd}\0")]);
    }

    #[test]
    fn a_frame_without_end_is_given_up() {
        let chunk = vec![b'x'; 1024 * 1024];
        let mut parser = Parser::default();
        assert!((0..100).any(|_| parser.feed(&chunk).is_err()));
        let mut line = b"data: ".to_vec();
        line.extend_from_slice(&chunk);
        line.push(b'\n');
        let mut parser = Parser::default();
        assert!((0..100).any(|_| parser.feed(&line).is_err()));
    }
}
