//! Leftover events of removed sessions.
//!
//! kennel removes a session with a million events in one commit, and its events in many: the first commit removes some
//! events and records up to where the rest are gone (`removed/ID` in the table `meta`). From then on no reader finds
//! them. The writer removes the rest in steps between other commits; the next manager's writer continues.

use protocol::{EventId, SessionId};
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::Journal;
use super::error::JournalError;
use super::keys::{scope_of, session_scope};

/// The most rows of each table that one bite removes.
const BITE_ROWS: usize = 512;
/// Before the name of a session in `meta`.
const REMOVED: &str = "removed/";
/// SQL condition: the event belongs to a removed session. Readers exclude such events.
pub(super) const IS_LEFT: &str = "EXISTS (SELECT 1 FROM meta WHERE name = 'removed/' || events.session
                                          AND events.id <= CAST(value AS INTEGER))";

/// Returns whether a row of `meta` with this name marks a removed session.
pub(super) fn is_note(name: &str) -> bool {
    name.starts_with(REMOVED)
}

/// Takes the first bite of a removed session, and writes down what is left if that was not all.
pub(super) fn begin(transaction: &Transaction<'_>, id: &SessionId) -> Result<(), rusqlite::Error> {
    let last: Option<EventId> = transaction
        .prepare_cached("SELECT max(id) FROM events WHERE session = ?1")?
        .query_row([id.as_str()], |row| row.get(0))?;
    let Some(last) = last else { return bite(transaction, id.as_str(), 0).map(drop) };
    if !bite(transaction, id.as_str(), last)? {
        let mut insert = transaction.prepare_cached("INSERT OR REPLACE INTO meta VALUES (?1, ?2)")?;
        insert.execute([format!("{REMOVED}{id}"), last.to_string()])?;
    }
    Ok(())
}

/// The last event of a session of this name that was removed, and of which something may be left; or 0.
pub(super) fn floor(connection: &Connection, id: &SessionId) -> Result<EventId, rusqlite::Error> {
    let mut select = connection.prepare_cached("SELECT CAST(value AS INTEGER) FROM meta WHERE name = ?1")?;
    Ok(select.query_row([format!("{REMOVED}{id}")], |row| row.get(0)).optional()?.unwrap_or(0))
}

/// Returns whether rows of any removed session are left.
pub(super) fn is_any_left(connection: &Connection) -> Result<bool, rusqlite::Error> {
    // All names with that beginning: `0` is what comes after `/`.
    let mut select = connection.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM meta WHERE name >= 'removed/' AND name < 'removed0')",
    )?;
    select.query_row([], |row| row.get(0))
}

/// Takes one bite; whether it was the last.
fn bite(transaction: &Transaction<'_>, id: &str, upto: EventId) -> Result<bool, rusqlite::Error> {
    let events = transaction
        .prepare_cached(
            "DELETE FROM events WHERE id IN
             (SELECT id FROM events WHERE session = ?1 AND id <= ?2 ORDER BY id LIMIT ?3)",
        )?
        .execute(params![id, upto, BITE_ROWS])?;
    let keys = transaction
        .prepare_cached(
            "DELETE FROM keys WHERE scope = ?1 AND key IN (SELECT key FROM keys WHERE scope = ?1 LIMIT ?2)",
        )?
        .execute(params![scope_of(id), BITE_ROWS])?;
    Ok(events < BITE_ROWS && keys < BITE_ROWS)
}

/// A session of a removed one's name begins: what its keys stood for is over at once.
pub(super) fn revive(transaction: &Transaction<'_>, id: &SessionId) -> Result<(), rusqlite::Error> {
    let mut delete = transaction.prepare_cached("DELETE FROM keys WHERE scope = ?1")?;
    delete.execute([session_scope(id)]).map(drop)
}

impl Journal {
    /// Takes the next bite of what is left of removed sessions; whether there may be more. It is not synced: a power cut
    /// brings back what it takes back, and no reader finds it.
    pub fn clear_away(&mut self) -> Result<bool, JournalError> {
        let next: Option<(String, EventId)> = self
            .connection
            .prepare_cached(
                "SELECT substr(name, 9), CAST(value AS INTEGER) FROM meta
                 WHERE name >= 'removed/' AND name < 'removed0' LIMIT 1",
            )?
            .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let Some((id, upto)) = next else { return Ok(false) };
        let transaction = self.connection.transaction()?;
        // Keys of a session that has the name now are its own.
        let exists = transaction
            .prepare_cached("SELECT 1 FROM sessions WHERE id = ?1")?
            .query_row([&id], |_| Ok(()))
            .optional()?
            .is_some();
        let last = match exists {
            false => bite(&transaction, &id, upto)?,
            true => {
                let mut delete = transaction.prepare_cached(
                    "DELETE FROM events WHERE id IN
                     (SELECT id FROM events WHERE session = ?1 AND id <= ?2 ORDER BY id LIMIT ?3)",
                )?;
                delete.execute(params![id, upto, BITE_ROWS])? < BITE_ROWS
            }
        };
        if last {
            transaction.execute("DELETE FROM meta WHERE name = ?1", [format!("{REMOVED}{id}")])?;
        }
        transaction.commit()?;
        Ok(true)
    }
}
