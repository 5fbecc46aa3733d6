//! Tables of the index, and the numbers of its texts.

use std::collections::BTreeMap;

use protocol::EventId;
use rusqlite::{Connection, ErrorCode, OptionalExtension};

/// The schema this kennel writes. An index of another version is made anew.
pub const VERSION: u32 = 2;
/// The most texts of one event.
pub const PIECES: u64 = 256;

/// `docs` has what is said, `words` its text. `open`: texts that may go on. A session that is `gone` was removed, and another may have
/// its name; up to its `floor` what it said was pruned.
const SCHEMA: &str = r#"
    CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE sessions (number INTEGER PRIMARY KEY, name TEXT NOT NULL, gone INTEGER NOT NULL, floor INTEGER NOT NULL);
    CREATE UNIQUE INDEX sessions_by_name ON sessions (name) WHERE gone = 0;
    CREATE TABLE docs (id INTEGER PRIMARY KEY, session INTEGER NOT NULL, at INTEGER NOT NULL, kind INTEGER NOT NULL);
    CREATE INDEX docs_of_session ON docs (session, id);
    CREATE TABLE open (session INTEGER, slot TEXT, state TEXT NOT NULL, PRIMARY KEY (session, slot)) WITHOUT ROWID;
    CREATE VIRTUAL TABLE words USING fts5(text, owner, tokenize = "unicode61 remove_diacritics 2");
"#;

/// Reason why the index was not read or written.
#[derive(Debug, PartialEq, Eq)]
pub enum Fault {
    /// The index is no good: it is made anew.
    Damaged(String),
    /// The time limit is over.
    Slow,
    /// Anything else, for a person.
    Other(String),
}

impl Fault {
    /// An error of a statement that is right by itself.
    pub fn of(error: rusqlite::Error) -> Self {
        match &error {
            rusqlite::Error::SqliteFailure(failure, _) => match failure.code {
                ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::Unknown => {
                    Self::Damaged(error.to_string())
                }
                ErrorCode::OperationInterrupted => Self::Slow,
                _ => Self::Other(error.to_string()),
            },
            // A row holds what it cannot hold.
            _ => Self::Damaged(error.to_string()),
        }
    }
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::of(error)
    }
}

/// The number of a text: the event with which it begins, and which of its texts it is.
pub fn doc_of(event: EventId, piece: u64) -> i64 {
    i64::try_from(event.saturating_mul(PIECES).saturating_add(piece)).unwrap_or(i64::MAX)
}

/// The number of the event with which a text begins.
pub fn event_of(doc: i64) -> EventId {
    u64::try_from(doc).unwrap_or(0) / PIECES
}

/// The number of the session that has this name.
pub fn number_of(index: &Connection, name: &str) -> Result<Option<i64>, rusqlite::Error> {
    let mut select = index.prepare_cached("SELECT number FROM sessions WHERE name = ?1 AND gone = 0")?;
    select.query_row([name], |row| row.get(0)).optional()
}

/// Makes the tables, or makes sure that these and no others are there.
pub fn prepare(index: &mut Connection, uuid: &str) -> Result<(), Fault> {
    let version: u32 = index.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let found = objects(index)?;
    if version == 0 && found.is_empty() {
        index.pragma_update(None, "journal_mode", "WAL")?;
        let transaction = index.transaction()?;
        transaction.execute_batch(SCHEMA)?;
        transaction.execute("INSERT INTO meta VALUES ('uuid', ?1)", [uuid])?;
        transaction.pragma_update(None, "user_version", VERSION)?;
        return Ok(transaction.commit()?);
    }
    let expected = Connection::open_in_memory()?;
    expected.execute_batch(SCHEMA)?;
    if version != VERSION || found != objects(&expected)? {
        return Err(Fault::Damaged("this kennel did not write it".into()));
    }
    let owner: Option<String> =
        index.query_row("SELECT value FROM meta WHERE name = 'uuid'", [], |row| row.get(0)).optional()?;
    match owner.as_deref() == Some(uuid) {
        true => Ok(()),
        false => Err(Fault::Damaged("it is of another journal".into())),
    }
}

/// The SQL of a schema's objects, by type and name.
type Objects = BTreeMap<(String, String), Option<String>>;

fn objects(index: &Connection) -> Result<Objects, rusqlite::Error> {
    let mut select = index.prepare("SELECT type, name, sql FROM sqlite_schema")?;
    let rows = select.query_map([], |row| Ok(((row.get(0)?, row.get(1)?), row.get(2)?)))?;
    rows.collect()
}
