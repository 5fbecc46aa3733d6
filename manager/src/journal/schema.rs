//! Tables and indexes of a journal's file: those that kennel makes, and no others.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::Connection;

use super::error::{JournalError, Unopened, unusable};
use crate::error::StartError;
use crate::system::random;

/// The schema this kennel writes.
pub(super) const VERSION: u32 = 2;

const SCHEMA: &str = "
    CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE sessions (id TEXT PRIMARY KEY, token TEXT NOT NULL, doc TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE retired (id TEXT PRIMARY KEY, incarnation INTEGER NOT NULL) WITHOUT ROWID;
    -- Texts of prompts that may still be run: written once, and not with every change of their session.
    CREATE TABLE prompts (id INTEGER PRIMARY KEY, session TEXT NOT NULL, text TEXT NOT NULL);
    CREATE TABLE events (id INTEGER PRIMARY KEY, session TEXT, type TEXT NOT NULL, json TEXT NOT NULL);
    CREATE INDEX events_of_session ON events (session, id);
    CREATE TABLE keys (scope TEXT, key TEXT, request TEXT NOT NULL, reply TEXT NOT NULL,
                       PRIMARY KEY (scope, key)) WITHOUT ROWID;
";

/// Tables that version 2 adds to version 1. Attachments of prompts that may still run; kennel reads them with their
/// prompt, not with the session.
const SINCE_2: &str = "
    CREATE TABLE attachments (prompt INTEGER, session TEXT NOT NULL, position INTEGER, doc TEXT NOT NULL);
    CREATE INDEX attachments_of_prompt ON attachments (prompt, position);
";

/// The SQL of a schema's objects, by type and name.
type Objects = BTreeMap<(String, String), Option<String>>;

/// Makes sure that the file has what a journal of this version has. More than that is refused: a trigger or a view is not
/// what a damaged disk writes.
pub fn verify(path: &Path, connection: &Connection, version: u32) -> Result<(), Unopened> {
    let failed = |error: JournalError| Unopened::of(path, error);
    let found = objects(connection).map_err(|error| failed(error.into()))?;
    if found.is_empty() && version == 0 {
        return Ok(());
    }
    let expected = expected(version).map_err(|error| Unopened::Other(unusable(path, error.into())))?;
    let missing = expected.iter().any(|(name, sql)| found.get(name) != Some(sql));
    let strange = found.keys().find(|(kind, name)| {
        matches!(kind.as_str(), "trigger" | "view")
            || !(missing || expected.contains_key(&(kind.clone(), name.clone())))
    });
    if let Some((kind, name)) = strange {
        let message = format!(
            "kennel did not write it: the {kind} `{}` is in it. Nothing was changed. Look who could write the state \
             directory, and move the file away",
            name.escape_debug()
        );
        return Err(Unopened::Other(StartError::Journal { path: path.to_owned(), message }));
    }
    if missing {
        return Err(failed(JournalError::Lacks("a table as every journal has it")));
    }
    Ok(())
}

fn expected(version: u32) -> Result<Objects, rusqlite::Error> {
    let connection = Connection::open_in_memory()?;
    connection.execute_batch(SCHEMA)?;
    if version != 1 {
        connection.execute_batch(SINCE_2)?;
    }
    objects(&connection)
}

fn objects(connection: &Connection) -> Result<Objects, rusqlite::Error> {
    let mut select = connection.prepare("SELECT type, name, sql FROM sqlite_schema")?;
    let rows = select.query_map([], |row| Ok(((row.get(0)?, row.get(1)?), row.get(2)?)))?;
    rows.collect()
}

/// The journal's version, if this kennel knows it.
pub(super) fn version(path: &Path, connection: &Connection) -> Result<u32, StartError> {
    let found = connection
        .query_row("PRAGMA user_version", [], |row| row.get::<_, u32>(0))
        .map_err(|error| unusable(path, error.into()))?;
    if found > VERSION {
        return Err(StartError::NewerJournal { path: path.into(), found, known: VERSION });
    }
    Ok(found)
}

pub(super) fn prepare(connection: &mut Connection, found: u32) -> Result<(), JournalError> {
    // Readers of other threads hold the file for moments only.
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.set_prepared_statement_cache_capacity(32);
    if found == 1 {
        let transaction = connection.transaction()?;
        transaction.execute_batch(SINCE_2)?;
        transaction.pragma_update(None, "user_version", VERSION)?;
        transaction.commit()?;
    }
    if found == 0 {
        let transaction = connection.transaction()?;
        transaction.execute_batch(SCHEMA)?;
        transaction.execute_batch(SINCE_2)?;
        let uuid = random::hex(&random::bytes::<16>().map_err(JournalError::Random)?);
        transaction.execute("INSERT INTO meta VALUES ('uuid', ?1)", [uuid])?;
        transaction.pragma_update(None, "user_version", VERSION)?;
        transaction.commit()?;
    }
    connection.execute("INSERT OR IGNORE INTO meta VALUES ('secret', ?1)", [new_token()?])?;
    Ok(())
}

pub(super) fn new_token() -> Result<String, JournalError> {
    use base64::Engine;
    let bytes = random::bytes::<32>().map_err(JournalError::Random)?;
    Ok(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes))
}
