//! Reading the journal for the index of the search: events with text in the order of their ids, and the history that is gone.
//!
//! The index is no part of the journal. It reads in steps, each of them bounded in rows and bytes, and holds no reader in between.

use protocol::{EventId, SessionId};
use rusqlite::{OptionalExtension, params};

use super::error::JournalError;
use super::pruned::PRUNED;
use super::reader::Reader;
use super::removed;
use crate::system::blocking;

/// An event that changes what is found.
#[derive(Debug, PartialEq, Eq)]
pub struct Told {
    /// The event's id.
    pub id: EventId,
    /// Its session.
    pub session: String,
    /// Its type.
    pub kind: String,
    /// Its JSON. May be damaged.
    pub json: String,
}

/// Events up to one.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Stretch {
    /// The events, in the order of their ids.
    pub told: Vec<Told>,
    /// There are no others up to here.
    pub reached: EventId,
}

/// Up to where the history of a session is pruned. Without a session: of those that do not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The session.
    pub session: Option<String>,
    /// The last event that is gone.
    pub upto: EventId,
}

impl Reader {
    /// Events with text after `after` and up to `upto`: looks at `rows` events at most, and reads no further once it has `bytes` of
    /// JSON.
    pub fn texts(
        &self,
        after: EventId,
        upto: EventId,
        rows: usize,
        bytes: usize,
    ) -> Result<Stretch, JournalError> {
        blocking::never_on_the_loop();
        let looked = self.0.unchecked_transaction()?;
        let hidden = match removed::is_any_left(&looked)? {
            true => format!("AND NOT {}", removed::IS_LEFT),
            false => String::new(),
        };
        let mut select = looked.prepare_cached(&format!(
            "SELECT id, session, type, CASE
                WHEN session IS NOT NULL AND
                     (type IN ('session.created', 'session.updated', 'session.deleted', 'prompt.accepted', 'prompt.edited', 'prompt.started',
                               'message.chunk', 'thought.chunk', 'tool_call.started', 'tool_call.updated',
                               'tool_call.interrupted', 'turn.completed', 'turn.interrupted')
                      OR type = 'agent.updated' AND instr(json, 'agent_message_chunk'))
                THEN json END
             FROM events WHERE id > ?1 AND id <= ?2 {hidden} ORDER BY id LIMIT ?3"
        ))?;
        let mut found = select.query(params![after, upto, rows])?;
        let (mut stretch, mut seen, mut read) = (Stretch { told: Vec::new(), reached: upto }, 0, 0);
        while let Some(row) = found.next()? {
            let id: EventId = row.get(0)?;
            let text = |column| -> Result<Option<String>, rusqlite::Error> {
                let bytes = row.get_ref(column)?.as_bytes_or_null().unwrap_or_default();
                Ok(bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned()))
            };
            if let (Some(session), Some(kind), Some(json)) = (text(1)?, text(2)?, text(3)?) {
                read += json.len();
                stretch.told.push(Told { id, session, kind, json });
            }
            seen += 1;
            if seen >= rows || read >= bytes {
                stretch.reached = id;
                break;
            }
        }
        Ok(stretch)
    }

    /// How far each history is pruned.
    pub fn marks(&self) -> Result<Vec<Mark>, JournalError> {
        blocking::never_on_the_loop();
        let mut select = self.0.prepare_cached(
            "SELECT name, CAST(value AS INTEGER) FROM meta WHERE name >= 'pruned/' AND name < 'pruned0'",
        )?;
        let marks = select.query_map([], |row| {
            let name: String = row.get(0)?;
            let session = name.strip_prefix(PRUNED).filter(|name| !name.is_empty()).map(str::to_owned);
            Ok(Mark { session, upto: row.get(1)? })
        })?;
        Ok(marks.collect::<Result<_, _>>()?)
    }

    /// Which of these sessions have no event any more.
    pub fn without_events(&self, sessions: Vec<String>) -> Result<Vec<String>, JournalError> {
        blocking::never_on_the_loop();
        let mut select = self.0.prepare_cached("SELECT EXISTS (SELECT 1 FROM events WHERE session = ?1)")?;
        let mut gone = Vec::new();
        for session in sessions {
            if !select.query_row([&session], |row| row.get::<_, bool>(0))? {
                gone.push(session);
            }
        }
        Ok(gone)
    }

    /// Tells of each of these events whether it is there and belongs to that session.
    pub fn stand(&self, events: &[(EventId, SessionId)]) -> Result<Vec<bool>, JournalError> {
        blocking::never_on_the_loop();
        let looked = self.0.unchecked_transaction()?;
        let mut select = looked.prepare_cached("SELECT 1 FROM events WHERE id = ?1 AND session = ?2")?;
        let mut stand = Vec::with_capacity(events.len());
        for (id, session) in events {
            let is_there = select.query_row(params![id, session.as_str()], |_| Ok(())).optional()?.is_some();
            stand.push(is_there && *id > removed::floor(&looked, session)?);
        }
        Ok(stand)
    }
}
