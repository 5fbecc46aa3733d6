//! JSON from outside: a line that an agent, an editor or an MCP client wrote.
//!
//! [`read`] takes a line if what it makes of it can be written and read again, by this program and by common clients.
//! Depth and size are checked by one pass over the bytes before anything is built. What strict parsers refuse and agents
//! send all the same (half of a surrogate pair, `NaN`, bytes that are not UTF-8) is repaired; the strict parser goes first,
//! so that well-formed lines pay nothing for this.
//!
//! Of a line that is not taken, [`Head`] still tells who waits for an answer.

mod repair;
mod scan;
#[cfg(test)]
mod tests;

use serde::de::IgnoredAny;
use serde_json::Value;

use repair::repair;

pub use scan::Scan;

/// The deepest nesting of a message, in levels. Readers stop at 128 (`serde_json`), and events wrap messages in a few more.
pub const DEPTH: u32 = 64;
/// The deepest nesting of a stored event, in levels.
const STORED_DEPTH: u32 = 120;
/// The most memory that a parsed message may take beside its texts, in bytes, as [`Scan`] estimates it.
pub const COST: usize = 32 * 1024 * 1024;

/// A message that was taken.
#[derive(Clone, Debug, PartialEq)]
pub struct Read {
    /// The message.
    pub value: Value,
    /// The line was not JSON, and was repaired.
    pub repaired: bool,
}

/// Reason for which a line is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// The line is not JSON, and no repair makes JSON of it.
    #[error("it is not JSON: {0}")]
    NotJson(String),
    /// The nesting is too deep.
    #[error("it is nested deeper than {DEPTH} levels")]
    TooDeep,
    /// The line has too many elements.
    #[error("it has too many elements to be held in memory")]
    TooMuch,
    /// The line is too long.
    #[error("it has {0} bytes, and {1} are allowed")]
    TooLong(usize, usize),
}

/// A refused line.
#[derive(Clone, Debug, PartialEq)]
pub struct Unread {
    /// The reason.
    pub why: Why,
    /// The id and the method of the line, as far as the scan found them.
    pub head: Box<Head>,
}

/// Id and method of a JSON-RPC message, from its outermost level.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Head {
    /// The id: a text or a number of at most [`bounds::ID`](crate::bounds::ID) bytes.
    pub id: Option<Value>,
    /// The method, where it has at most [`bounds::ID`](crate::bounds::ID) bytes.
    pub method: Option<String>,
    /// The message has an id, perhaps too long to keep, or may have one in the missing part of the line.
    pub may_have_id: bool,
    /// The message has a method, perhaps too long to keep.
    pub calls: bool,
}

impl Head {
    /// Returns true if the line can be a JSON-RPC message. Otherwise it is some other output of the program.
    pub fn is_message(&self) -> bool {
        self.id.is_some() || self.calls
    }
}

/// Reads a line, without its end.
pub fn read(line: &[u8]) -> Result<Read, Unread> {
    let mut scan = Scan::default();
    scan.push(line);
    if let Some(why) = scan.excess() {
        return Err(Unread { why, head: scan.head() });
    }
    let strict = match std::str::from_utf8(line) {
        Ok(text) => serde_json::from_str(text).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let unread = |why| Unread { why, head: scan.head() };
    let message = match strict {
        Ok(value) => return Ok(Read { value, repaired: false }),
        Err(message) => message,
    };
    let Some(repaired) = repair(line) else { return Err(unread(Why::TooMuch)) };
    let mut again = Scan::default();
    again.push(repaired.as_bytes());
    if let Some(why) = again.excess() {
        return Err(unread(why));
    }
    match serde_json::from_str(&repaired) {
        Ok(value) => Ok(Read { value, repaired: true }),
        Err(_) => Err(unread(Why::NotJson(message))),
    }
}

/// Returns true if the JSON of a stored event is one line that every reader can parse.
pub fn is_readable(text: &str) -> bool {
    let (brackets, is_line) = looked_over(text.as_bytes());
    // Each level begins with a bracket. Most events have a few, and need no slow look.
    let is_shallow = brackets <= STORED_DEPTH as usize || {
        let mut scan = Scan::default();
        scan.push(text.as_bytes());
        scan.deepest <= STORED_DEPTH
    };
    // Skips what it reads: no depth is too much for it.
    is_line && is_shallow && serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// The number of opening brackets, and whether there is no end of a line. It has no branch for a byte, so that the compiler makes it look
/// at many bytes at once: a client that catches up waits for it.
fn looked_over(bytes: &[u8]) -> (usize, bool) {
    let (mut brackets, mut ends) = (0, 0);
    // A piece has no more of them than a byte can count.
    for piece in bytes.chunks(128) {
        let mut of_piece = 0_u8;
        for byte in piece {
            // `{` and `[` differ by this bit.
            of_piece += u8::from(byte | 0x20 == b'{');
            ends |= u8::from(*byte == b'\n') | u8::from(*byte == b'\r');
        }
        brackets += usize::from(of_piece);
    }
    (brackets, ends == 0)
}
