//! Connections to a journal's file that run no code stored in it.

use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

/// Opens a journal's file, which is no link, and runs nothing that stands in it: no trigger, no view, no function in a
/// schema that somebody else has written.
pub fn connect(path: &Path, flags: OpenFlags) -> Result<Connection, rusqlite::Error> {
    // SQLite's own look at links is at all of the path, and those above the state directory are allowed.
    let real = path.parent().and_then(|parent| std::fs::canonicalize(parent).ok());
    let real = real.zip(path.file_name()).map_or_else(|| path.to_owned(), |(parent, name)| parent.join(name));
    let connection = Connection::open_with_flags(real, flags | OpenFlags::SQLITE_OPEN_NOFOLLOW)?;
    for (config, on) in [
        (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
        (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false),
    ] {
        connection.set_db_config(config, on)?;
    }
    Ok(connection)
}
