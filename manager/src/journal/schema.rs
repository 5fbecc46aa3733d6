//! What a journal's file consists of: the tables and indexes that kennel makes, and nothing else.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::Connection;

use super::{JournalError, SCHEMA, SINCE_2, StartError, Unopened, unusable};

/// What a schema consists of: by type and name.
type Objects = BTreeMap<(String, String), Option<String>>;

/// Makes sure that the file has what a journal of this version has. More than that is refused: a trigger or a view is not
/// what a damaged disk writes.
pub fn verify(path: &Path, connection: &Connection, version: u32) -> Result<(), Unopened> {
    let failed = |error: JournalError| match error.is_damage() {
        true => Unopened::Damaged(error.to_string()),
        false => Unopened::Other(unusable(path, error)),
    };
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
