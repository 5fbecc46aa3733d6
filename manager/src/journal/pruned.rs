//! Marks of pruned histories: how far each session's history is gone.

use protocol::SessionId;
use rusqlite::Connection;

/// Before the name of a session in `meta`; without a name: what is of none that exists.
pub(super) const PRUNED: &str = "pruned/";

/// The name of a session's mark in `meta`.
pub(super) fn mark(id: &SessionId) -> String {
    format!("{PRUNED}{id}")
}

/// Returns true if a row of `meta` marks how far a history is pruned.
pub(super) fn is_mark(name: &str) -> bool {
    name.starts_with(PRUNED)
}

/// Returns true if turns of an existing session are pruned.
pub(super) fn has_pruned(connection: &Connection, id: &SessionId) -> Result<bool, rusqlite::Error> {
    let mut select = connection.prepare_cached("SELECT EXISTS (SELECT 1 FROM meta WHERE name = ?1)")?;
    select.query_row([mark(id)], |row| row.get(0))
}
