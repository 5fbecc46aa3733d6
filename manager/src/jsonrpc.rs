//! Messages of JSON-RPC as they arrive from editors and agents: repaired if they are nearly JSON. A request that cannot be
//! read receives an error.

use protocol::json::{self, Unread, Why};
use serde_json::{Value, json};

/// The code of JSON-RPC for a message that cannot be read.
pub const PARSE_ERROR: i64 = -32700;

/// The result of reading a message.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// A message, or what is no JSON and no request either.
    Message(String),
    /// A message that had to be repaired.
    Repaired(String),
    /// A request that cannot be read: this answers it.
    Answer(String),
    /// An unreadable message that needs no answer.
    Nothing,
}

/// Reads a message.
pub fn understood(bytes: Vec<u8>) -> Line {
    match json::read(&bytes) {
        Ok(read) if read.repaired => Line::Repaired(read.value.to_string()),
        Ok(_) => Line::Message(text(bytes)),
        Err(unread) => refused(unread, || text(bytes)),
    }
}

/// The answer to a message that cannot be read.
pub fn refused(unread: Unread, text: impl FnOnce() -> String) -> Line {
    let Unread { why, head } = unread;
    let error = |id: Value| {
        let message = format!("the message cannot be read: {why}");
        json!({ "jsonrpc": "2.0", "id": id, "error": { "code": PARSE_ERROR, "message": message } })
            .to_string()
    };
    match (head.calls, head.id) {
        (true, Some(id)) => Line::Answer(error(id)),
        // The response to a request of ours: the waiting task receives the error.
        (false, Some(id)) => Line::Message(error(id)),
        (true, None) if !head.may_have_id => Line::Nothing,
        (false, None) if matches!(why, Why::NotJson(_)) && !head.may_have_id => Line::Message(text()),
        (_, None) => Line::Answer(error(Value::Null)),
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}
