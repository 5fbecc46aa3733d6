//! Limits of an agent's messages on record, in a turn and between turns.

use protocol::event::EventKind;
use serde_json::Value;

use crate::core::limits;
use crate::core::model::turn::{Turn, Turns};
use crate::core::out::Out;

/// Bytes of an event beside its texts and its payload.
const EVENT: usize = 256;

impl Turn {
    /// Returns true if the turn's record has room for so many bytes more. At the first message without room,
    /// emits one note and records no more messages of the turn.
    pub(in crate::core) fn records(&mut self, bytes: usize, out: &mut Out) -> bool {
        takes(&mut self.recorded, bytes, limits::TURN_BYTES, out, |most| {
            format!(
                "the turn goes on, and what its agent says from here on is not recorded: one turn has {most} MiB on record at most"
            )
        })
    }

    /// The payload to record with a request that has so many bytes beside it. Once the turn's record is full the payload is
    /// empty, and after [`limits::ASKS_BYTES`] of such requests nothing is recorded.
    pub(in crate::core) fn records_ask(
        &mut self,
        bytes: usize,
        payload: &Value,
        out: &mut Out,
    ) -> Option<Value> {
        if self.records(bytes + weight(payload), out) {
            return Some(payload.clone());
        }
        let records = takes(&mut self.asked, bytes + EVENT, limits::ASKS_BYTES, out, |most| {
            format!(
                "the agent is allowed nothing more in this turn: {most} MiB of its questions are on record beside what it has said, and what is on no record is not allowed"
            )
        });
        records.then(|| Value::Object(serde_json::Map::new()))
    }
}

impl Turns {
    /// The same for what belongs to no turn; there is room again with the next turn, and with the next process.
    pub(in crate::core) fn records_between(&mut self, bytes: usize, out: &mut Out) -> bool {
        takes(&mut self.between, bytes, limits::BETWEEN_BYTES, out, |most| {
            format!(
                "what the agent says from here on until its next turn is not recorded: {most} MiB between two turns are on record at most"
            )
        })
    }
}

/// Returns true if a record has room for so many bytes more. The first that does not fit emits a message,
/// which gets the limit in MiB.
fn takes(
    recorded: &mut u64,
    bytes: usize,
    most: u64,
    out: &mut Out,
    tells: impl FnOnce(u64) -> String,
) -> bool {
    if *recorded > most {
        return false;
    }
    *recorded += bytes as u64;
    let records = *recorded <= most;
    if !records {
        out.emit(EventKind::SystemMessage { text: tells(most >> 20) });
    }
    records
}

/// A lower bound of a payload's bytes as JSON.
pub(in crate::core) fn weight(payload: &Value) -> usize {
    match payload {
        Value::Null | Value::Bool(_) | Value::Number(_) => 1,
        Value::String(text) => text.len() + 2,
        Value::Array(items) => items.iter().map(|item| weight(item) + 1).sum::<usize>() + 1,
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| name.len() + 4 + weight(value)).sum::<usize>() + 1
        }
    }
}
