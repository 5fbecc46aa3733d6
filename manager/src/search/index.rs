//! The file of the index. It holds nothing that the journal does not have: one that is damaged is thrown away.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use protocol::EventId;
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};

use super::fill::Filling;
use super::schema::{Fault, doc_of, prepare};
use crate::journal::{Mark, Stretch, connect};
use crate::system::{blocking, owned};

/// The file's name in the state directory. Files that SQLite makes beside it begin so.
pub const NAME: &str = "search.db";
/// The space that the index leaves on the disk, in bytes: the journal needs it more.
const LEAVE: u64 = 64 << 20;
/// The most texts that one commit removes.
const BITE: usize = 256;
/// Operations of SQLite between two looks at the clock.
const OPERATIONS: i32 = 10_000;

/// The index, opened.
pub struct Index {
    pub(super) connection: Connection,
    dir: PathBuf,
    /// The last event that is in it.
    pub reached: EventId,
}

impl Index {
    /// Opens the index in this directory, or makes it. `anew`: it is thrown away first, and so is one that is damaged, of another
    /// journal than the one with this uuid, or ahead of its last event.
    pub fn open(dir: &Path, uuid: &str, last: EventId, anew: bool) -> Result<Self, Fault> {
        blocking::never_on_the_loop();
        if anew {
            throw_away(dir)?;
        }
        match Self::open_whole(dir, uuid, last) {
            Err(Fault::Damaged(why)) => {
                tracing::warn!(%why, "the index of the search is made anew");
                throw_away(dir)?;
                Self::open_whole(dir, uuid, last)
            }
            other => other,
        }
    }

    fn open_whole(dir: &Path, uuid: &str, last: EventId) -> Result<Self, Fault> {
        let path = dir.join(NAME);
        trust(dir)?;
        if !path.exists() {
            leave_room(dir)?;
            // A file that exists is not opened here: with a descriptor of ours SQLite's locks would go, too
            // (https://www.sqlite.org/howtocorrupt.html, 2.2).
            owned::open(&path, owned::How::Keep).map_err(other)?;
        }
        let mut connection = connect(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        connection.busy_timeout(Duration::from_secs(5))?;
        prepare(&mut connection, uuid)?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.set_prepared_statement_cache_capacity(32);
        let reached = number(&connection, "reached")?;
        if reached > last {
            return Err(Fault::Damaged("it is ahead of the journal".into()));
        }
        Ok(Self { connection, dir: dir.to_owned(), reached })
    }

    /// Opens an index that is there for reading, until this time. None: there is none.
    pub fn read(dir: &Path, until: Instant) -> Result<Option<Self>, Fault> {
        blocking::never_on_the_loop();
        let path = dir.join(NAME);
        trust(dir)?;
        if !path.exists() {
            return Ok(None);
        }
        let mut connection = connect(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        connection.busy_timeout(Duration::from_secs(1))?;
        connection.pragma_update(None, "query_only", true)?;
        connection.progress_handler(OPERATIONS, Some(move || Instant::now() >= until))?;
        let reached = number(&connection, "reached")?;
        Ok(Some(Self { connection, dir: dir.to_owned(), reached }))
    }

    /// Adds the next events, all of them or none.
    pub fn add(&mut self, stretch: &Stretch) -> Result<(), Fault> {
        blocking::never_on_the_loop();
        leave_room(&self.dir)?;
        let transaction = self.connection.transaction()?;
        let mut filling = Filling::new(&transaction);
        for told in &stretch.told {
            filling.take(told)?;
        }
        filling.end()?;
        remember(&transaction, "reached", stretch.reached)?;
        transaction.commit()?;
        self.reached = stretch.reached;
        Ok(())
    }

    /// Removes texts of sessions that were removed, and what was pruned. Returns sessions of which there may be no event any more.
    pub fn tidy(&mut self, marks: &[Mark]) -> Result<Vec<String>, Fault> {
        blocking::never_on_the_loop();
        for Mark { session, upto } in marks {
            let Some(name) = session else { continue };
            let known: Option<(i64, EventId)> = self
                .connection
                .prepare_cached("SELECT number, floor FROM sessions WHERE name = ?1 AND gone = 0")?
                .query_row([name], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            let Some((number, _)) = known.filter(|(_, floor)| floor < upto) else { continue };
            while self.bite(number, doc_of(upto.saturating_add(1), 0))? {}
            self.connection
                .execute("UPDATE sessions SET floor = ?2 WHERE number = ?1", params![number, upto])?;
        }
        self.bury()?;
        let of_nobody = marks.iter().filter(|mark| mark.session.is_none()).map(|mark| mark.upto).max();
        if of_nobody.is_none_or(|upto| number(&self.connection, "of_nobody").is_ok_and(|seen| seen >= upto)) {
            return Ok(Vec::new());
        }
        let mut select = self.connection.prepare_cached("SELECT name FROM sessions WHERE gone = 0")?;
        let names = select.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        Ok(names)
    }

    /// These sessions have no event any more. `marks` are those of [`tidy`](Self::tidy).
    pub fn gone(&mut self, names: &[String], marks: &[Mark]) -> Result<(), Fault> {
        for name in names {
            self.connection.execute("UPDATE sessions SET gone = 1 WHERE name = ?1 AND gone = 0", [name])?;
        }
        if let Some(upto) = marks.iter().filter(|mark| mark.session.is_none()).map(|mark| mark.upto).max() {
            remember(&self.connection, "of_nobody", upto)?;
        }
        self.bury()
    }

    /// Removes texts of removed sessions.
    fn bury(&mut self) -> Result<(), Fault> {
        let mut select = self.connection.prepare_cached("SELECT number FROM sessions WHERE gone = 1")?;
        let numbers: Vec<i64> = select.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        drop(select);
        for number in numbers {
            while self.bite(number, i64::MAX)? {}
            self.connection.execute("DELETE FROM docs WHERE session = ?1", [number])?;
            self.connection.execute("DELETE FROM open WHERE session = ?1", [number])?;
            self.connection.execute("DELETE FROM sessions WHERE number = ?1", [number])?;
        }
        Ok(())
    }

    /// Removes some texts of a session before this one, but for its title; whether there may be more.
    fn bite(&mut self, session: i64, before: i64) -> Result<bool, Fault> {
        let transaction = self.connection.transaction()?;
        let docs: Vec<i64> = transaction
            .prepare_cached(
                "SELECT id FROM docs WHERE session = ?1 AND id < ?2 AND (kind <> 0 OR ?2 = ?3) ORDER BY id LIMIT ?4",
            )?
            .query_map(params![session, before, i64::MAX, BITE], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        for doc in &docs {
            transaction.prepare_cached("DELETE FROM words WHERE rowid = ?1")?.execute([doc])?;
            transaction.prepare_cached("DELETE FROM docs WHERE id = ?1")?.execute([doc])?;
        }
        transaction.commit()?;
        Ok(docs.len() == BITE)
    }
}

/// A number in the index's notes; 0 if it is not there.
fn number(index: &Connection, name: &str) -> Result<EventId, Fault> {
    let mut select = index.prepare_cached("SELECT value FROM meta WHERE name = ?1")?;
    let value: Option<String> = select.query_row([name], |row| row.get(0)).optional()?;
    Ok(value.and_then(|value| value.parse().ok()).unwrap_or(0))
}

fn remember(index: &Connection, name: &str, value: EventId) -> Result<(), rusqlite::Error> {
    let mut insert = index.prepare_cached("INSERT OR REPLACE INTO meta VALUES (?1, ?2)")?;
    insert.execute(params![name, value.to_string()]).map(drop)
}

/// Refuses to grow where the disk is nearly full.
fn leave_room(dir: &Path) -> Result<(), Fault> {
    let room = rustix::fs::statvfs(dir).map_err(|error| other(error.into()))?;
    if room.f_bavail.saturating_mul(room.f_frsize) < LEAVE {
        let what = "less than 64 MiB of the disk are free, and the index leaves those to the journal";
        return Err(Fault::Other(what.into()));
    }
    Ok(())
}

/// Makes sure that the index's files are this user's, and no links.
fn trust(dir: &Path) -> Result<(), Fault> {
    owned::contents(dir, |name| name.starts_with(NAME)).map_err(other)
}

/// Removes the index's files. A link among them is not followed, and not removed.
fn throw_away(dir: &Path) -> Result<(), Fault> {
    trust(dir)?;
    for end in ["", "-wal", "-shm", "-journal"] {
        match std::fs::remove_file(dir.join(format!("{NAME}{end}"))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(other(error)),
            _ => {}
        }
    }
    Ok(())
}

fn other(error: io::Error) -> Fault {
    Fault::Other(error.to_string())
}
