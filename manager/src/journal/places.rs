//! Places in the events: from some time on, and before the newest ones. Each look is one bounded step.

use protocol::event::Timestamp;
use protocol::{EventId, SessionId};
use rusqlite::{OptionalExtension, params};

use super::error::JournalError;
use super::reader::{LOOKED_AT, Reader};
use super::removed;
use super::types::Types;
use crate::system::blocking;

/// A look backwards through the events.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Back {
    /// The number of wanted events that it met.
    pub met: usize,
    /// The oldest of them.
    pub oldest: Option<EventId>,
    /// There may be more before this event.
    pub before: Option<EventId>,
}

impl Reader {
    /// The cursor before the first event of this time or a later one; at most `upto`.
    ///
    /// Halves the stretch of ids, and so takes it that clocks go forward: where one was set back, the place is one at which
    /// the time passes `since`.
    pub fn cursor_at(&self, since: Timestamp, upto: EventId) -> Result<EventId, JournalError> {
        blocking::never_on_the_loop();
        // The beginning of an event has its time; SQLite gives no more of it.
        let mut select = self.0.prepare_cached(
            "SELECT id, substr(json, 1, 200) FROM events WHERE id >= ?1 AND id <= ?2 ORDER BY id LIMIT 1",
        )?;
        let (mut low, mut high) = (0, upto);
        // All events up to `low` are older; those after `high` are not.
        while low < high {
            let middle = low + (high - low) / 2;
            let found = select.query_row(params![middle + 1, high], |row| {
                Ok((row.get::<_, EventId>(0)?, time(row.get_ref(1)?.as_bytes().unwrap_or_default())))
            });
            match found.optional()? {
                Some((id, at)) if at < since => low = id,
                Some(_) | None => high = middle,
            }
        }
        Ok(low)
    }

    /// Looks backwards for `most` events after `after` and before `before`, of one session or of all, and of some types or
    /// all.
    pub fn back(
        &self,
        (after, before): (EventId, EventId),
        session: Option<&SessionId>,
        types: Option<&Types>,
        most: usize,
    ) -> Result<Back, JournalError> {
        blocking::never_on_the_loop();
        let looked = self.0.unchecked_transaction()?;
        let (of_one, name, after) = match session {
            Some(session) => ("session = ?4", session.as_str(), after.max(removed::floor(&looked, session)?)),
            None => ("?4 = ''", "", after),
        };
        let hidden = match session.is_none() && removed::is_any_left(&looked)? {
            true => format!("AND NOT {}", removed::IS_LEFT),
            false => String::new(),
        };
        let mut select = looked.prepare_cached(&format!(
            "SELECT id, type FROM events WHERE {of_one} AND id > ?1 AND id < ?2 {hidden} ORDER BY id DESC LIMIT ?3"
        ))?;
        let mut rows = select.query(params![after, before, LOOKED_AT, name])?;
        let (mut found, mut count) = (Back::default(), 0);
        while let Some(row) = rows.next()? {
            let id: EventId = row.get(0)?;
            count += 1;
            let name = row.get_ref(1)?.as_bytes().unwrap_or_default();
            let wanted = |types: &Types| std::str::from_utf8(name).is_ok_and(|name| types.has(name));
            if types.is_none_or(wanted) {
                (found.met, found.oldest) = (found.met + 1, Some(id));
            }
            if found.met == most {
                return Ok(found);
            }
            found.before = (count == LOOKED_AT).then_some(id);
        }
        Ok(found)
    }
}

/// The time in the beginning of an event's JSON; the earliest of one that is damaged.
fn time(json: &[u8]) -> Timestamp {
    let text = std::str::from_utf8(json)
        .unwrap_or_else(|error| std::str::from_utf8(&json[..error.valid_up_to()]).unwrap_or_default());
    let after = text.split_once("\"at\":\"").and_then(|(_, rest)| rest.split_once('"'));
    let at = after.and_then(|(at, _)| serde_json::from_value(at.into()).ok());
    at.unwrap_or(Timestamp(0))
}
