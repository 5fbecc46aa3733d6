//! Salvage of a damaged journal: kennel copies every readable row into a new file and keeps the damaged one.
//!
//! kennel writes the new journal whole beside the damaged one, syncs it, and names it `journal.db.salvaged`; from then
//! on the new one counts. Then it renames the damaged files (`journal.db.damaged-N`, and `-wal`), and moves the new one
//! into their place. If a manager dies in between, the next one continues.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use protocol::{Incarnation, SessionId};
use rusqlite::{Connection, OpenFlags, params};

use self::rows::Rows;

use super::connection::connect;
use super::error::JournalError;
use super::schema::{VERSION, new_token, prepare};
use super::wal::{PAGE, Wal};
use super::{pruned, removed};
use crate::system::owned::{self, How};

mod rows;

/// The incarnation that is kept of a session that was lost: above any that its workers may have.
const LOST: Incarnation = 1 << 20;
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// Goes on with what a manager before has begun, and looks whether the journal's log holds commits that SQLite would
/// not see.
pub fn finish(path: &Path) -> io::Result<()> {
    if named(path, ".salvaged").exists() { switch(path) } else { Ok(()) }
}

/// Returns true if the log has lost commits. Errors: the log cannot be read.
pub fn is_log_damaged(path: &Path) -> io::Result<bool> {
    Ok(Wal::read(&named(path, "-wal"))?.is_damaged())
}

/// Sessions of which there are files in this state directory.
pub fn has_traces(path: &Path) -> bool {
    !traces(path).is_empty()
}

/// Puts a new journal in the place of the damaged one. `why` says what is wrong with that.
pub fn salvage(path: &Path, why: &str) -> Result<(), JournalError> {
    let io = JournalError::Io;
    let (raw, new) = (named(path, ".raw"), named(path, ".new"));
    for left in [&raw, &new, &named(&new, "-wal"), &named(&new, "-shm"), &named(&new, "-journal")] {
        remove(left).map_err(io)?;
    }
    let mut connection = connect(&new, OpenFlags::default())?;
    prepare(&mut connection, 0)?;
    // Its own beginning may have to stand in for that of the damaged one.
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    // It counts for nothing before it is synced whole.
    connection.pragma_update(None, "synchronous", "OFF")?;
    let mut lost = Vec::new();
    let rows = read(path, &raw, &new, &mut lost)?;
    write(&mut connection, path, rows, why, lost)?;
    // All of it is in one file from here on.
    connection.pragma_update(None, "journal_mode", "DELETE")?;
    drop(connection);
    remove(&raw).map_err(io)?;
    File::open(&new).and_then(|file| file.sync_all()).map_err(io)?;
    fs::rename(&new, named(path, ".salvaged")).map_err(io)?;
    switch(path).map_err(io)
}

/// The name that the damaged journal gets, or has got last.
fn aside(path: &Path) -> (PathBuf, PathBuf) {
    let name = |number: u32| named(path, &format!(".damaged-{number}"));
    let taken = |path: &PathBuf| path.exists() || named(path, "-wal").exists();
    let free = (1..).find(|number| !taken(&name(*number))).unwrap_or(1);
    (name(free), name(free.saturating_sub(1)))
}

fn switch(path: &Path) -> io::Result<()> {
    let synced = || path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all());
    synced()?;
    let (free, before) = aside(path);
    // A death between the two renames has left the log's under the number that the file is to have.
    let name = if !before.exists() && named(&before, "-wal").exists() { before } else { free };
    for part in ["-wal", ""] {
        match fs::rename(named(path, part), named(&name, part)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
    }
    remove(&named(path, "-shm"))?;
    fs::rename(named(path, ".salvaged"), path)?;
    synced()
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn named(path: &Path, more: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(more);
    name.into()
}

fn read(path: &Path, raw: &Path, template: &Path, lost: &mut Vec<String>) -> Result<Rows, JournalError> {
    let mut bytes = match owned::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        other => other.map_err(JournalError::Io)?,
    };
    bytes.truncate(bytes.len() / PAGE * PAGE);
    let wal = Wal::read(&named(path, "-wal")).map_err(JournalError::Io)?;
    let wrong = wal.apply(&mut bytes);
    if wrong > 0 {
        lost.push(format!("{wrong} pages of the newest commits"));
    }
    let mut rows = Rows::default();
    if bytes.len() < 2 * PAGE {
        return Ok(rows);
    }
    head(&mut bytes);
    put(raw, &bytes)?;
    let connection = match open(raw) {
        Ok(connection) => connection,
        Err(_) => {
            // All journals begin alike; what counts is behind that.
            let begin = owned::read(template).map_err(JournalError::Io)?;
            if begin.len() >= PAGE {
                bytes[..PAGE].copy_from_slice(&begin[..PAGE]);
            }
            head(&mut bytes);
            put(raw, &bytes)?;
            lost.push("the beginning of the file".into());
            match open(raw) {
                Ok(connection) => connection,
                Err(_) => return Ok(rows),
            }
        }
    };
    rows.fill(&connection, lost);
    Ok(rows)
}

/// Makes the fixed parts of the file's head what they are in every journal.
fn head(bytes: &mut [u8]) {
    let pages = u32::try_from(bytes.len() / PAGE).unwrap_or(u32::MAX).to_be_bytes();
    bytes[..16].copy_from_slice(MAGIC);
    bytes[16..18].copy_from_slice(&(PAGE as u16).to_be_bytes());
    // No log beside it, nothing reserved, the payload fractions that are the only ones.
    bytes[18..24].copy_from_slice(&[1, 1, 0, 64, 32, 32]);
    bytes[28..32].copy_from_slice(&pages);
    // No free pages are needed: it is only read.
    bytes[32..40].copy_from_slice(&[0; 8]);
    bytes[44..48].copy_from_slice(&4u32.to_be_bytes());
    bytes[52..56].copy_from_slice(&[0; 4]);
    bytes[56..60].copy_from_slice(&1u32.to_be_bytes());
    let counter: [u8; 4] = [bytes[24], bytes[25], bytes[26], bytes[27]];
    bytes[92..96].copy_from_slice(&counter);
}

fn put(path: &Path, bytes: &[u8]) -> Result<(), JournalError> {
    remove(path).map_err(JournalError::Io)?;
    let written = owned::open(path, How::Anew).and_then(|mut file| io::Write::write_all(&mut file, bytes));
    written.map_err(JournalError::Io)
}

fn open(raw: &Path) -> Result<Connection, JournalError> {
    let connection = connect(raw, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    for table in ["meta", "sessions", "retired", "prompts", "events", "keys"] {
        connection.prepare(&format!("SELECT * FROM {table}"))?;
    }
    Ok(connection)
}

fn write(
    connection: &mut Connection,
    path: &Path,
    mut rows: Rows,
    why: &str,
    mut lost: Vec<String>,
) -> Result<(), JournalError> {
    rows.reconcile(&mut lost);
    let mentioned = rows.events.values().filter_map(|(event, _)| event.session.clone());
    let gone: BTreeSet<SessionId> = mentioned
        .chain(traces(path))
        .filter(|id| !rows.sessions.contains_key(id) && !rows.retired.contains_key(id))
        .collect();
    if !gone.is_empty() {
        let names: Vec<&str> = gone.iter().map(SessionId::as_str).collect();
        lost.push(format!("the sessions {}", names.join(", ")));
    }
    rows.retired.extend(gone.into_iter().map(|id| (id, LOST)));
    let floor = rows.highest();
    let transaction = connection.transaction()?;
    let mut meta = rows.meta;
    meta.retain(|name, _| {
        matches!(&**name, "uuid" | "secret" | "boot_id" | "behind")
            || pruned::is_mark(name)
            || removed::is_note(name)
    });
    meta.insert("floor".into(), floor.to_string());
    let kept = if path.exists() {
        format!("the damaged file is kept as {}", named(&aside(path).0, "").display())
    } else {
        "there is no file to be kept".into()
    };
    let count =
        format!("{} sessions and {} events were brought over", rows.sessions.len(), rows.events.len());
    lost.dedup();
    let more = lost.len().saturating_sub(20);
    lost.truncate(20);
    let lost = match (lost.is_empty(), more) {
        (true, _) => "what else it held is not known".into(),
        (false, 0) => format!("lost are: {}", lost.join("; ")),
        (false, more) => format!("lost are: {}; and {more} more", lost.join("; ")),
    };
    meta.insert("lost".into(), format!("the journal was damaged ({why}): {count}; {lost}; {kept}"));
    for (name, value) in &meta {
        transaction.execute("INSERT OR REPLACE INTO meta VALUES (?1, ?2)", [name, value])?;
    }
    for (id, (token, session)) in &rows.sessions {
        let token = token.clone().map_or_else(new_token, Ok)?;
        let doc = serde_json::to_string(session)?;
        transaction.execute("INSERT INTO sessions VALUES (?1, ?2, ?3)", [id.as_str(), &token, &doc])?;
    }
    for (id, last) in &rows.retired {
        transaction.execute("INSERT INTO retired VALUES (?1, ?2)", params![id.as_str(), last])?;
    }
    for (id, (session, text)) in &rows.prompts {
        transaction.execute("INSERT INTO prompts VALUES (?1, ?2, ?3)", params![id.0, session, text])?;
    }
    for (id, (event, json)) in &rows.events {
        let session = event.session.as_ref().map(SessionId::as_str);
        let row = params![id, session, event.kind.name(), json];
        transaction.prepare_cached("INSERT INTO events VALUES (?1, ?2, ?3, ?4)")?.execute(row)?;
    }
    for ((scope, key), (request, reply)) in &rows.keys {
        transaction.execute("INSERT INTO keys VALUES (?1, ?2, ?3, ?4)", [scope, key, request, reply])?;
    }
    for (prompt, session, position, doc) in &rows.attachments {
        let row = params![prompt, session, position, doc];
        transaction.execute("INSERT INTO attachments VALUES (?1, ?2, ?3, ?4)", row)?;
    }
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()?;
    Ok(())
}

/// Sessions that have a log.
fn traces(path: &Path) -> Vec<SessionId> {
    let logs = path.parent().and_then(|dir| fs::read_dir(dir.join("logs")).ok());
    let names = logs.into_iter().flatten().flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names.filter_map(|name| name.strip_suffix(".log")?.parse().ok()).collect()
}
