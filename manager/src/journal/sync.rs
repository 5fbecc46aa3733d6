//! The sync of what is written, apart from the write.
//!
//! With `synchronous` NORMAL a commit of SQLite writes its frames into the log (`journal.db-wal`) and does not sync them. All
//! else that SQLite syncs, it still syncs: the log's head where the log begins anew, the log before a checkpoint, the file
//! after one. So one fdatasync of the log after a commit is what FULL would do within it.
//!
//! The log is one file as long as the writer's connection is open: SQLite cuts it and writes it over, and removes it with the
//! last connection. SQLite has no lock on it (its locks are on the file and on `-shm`), so to close this descriptor
//! releases none.
//!
//! After a failed sync the kernel may have dropped what it could not write, and says so once. Nothing of what was written since
//! the last sync counts then, and no second sync makes it good: the manager ends. A mark tells the next one, which writes anew
//! what it reads in the log.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use protocol::failpoint;
use rusqlite::Connection;
use rusqlite::config::DbConfig;

use super::Journal;
use super::error::JournalError;
use crate::system::owned::{self, How};

/// The message of the first manager after a failed sync, for a person.
pub(super) const LOST: &str =
    "the disk did not take what the daemon before had written; what nobody was told may be missing";

/// The log of commits, for its sync.
pub(super) struct Log {
    file: File,
    /// The file that marks a failed sync.
    mark: PathBuf,
}

impl Log {
    /// Opens the log of the journal at `path`, which a connection has open.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        let file = owned::open(&beside(path, "-wal"), How::Read).map_err(JournalError::Io)?;
        Ok(Self { file, mark: mark(path) })
    }
}

impl Journal {
    /// Brings to the disk what is written.
    ///
    /// # Errors
    /// The disk did not take it. The journal is of no use any more, and whoever reads it next has to open it anew.
    pub fn sync(&mut self) -> Result<(), JournalError> {
        let synced = match failpoint::armed("journal", "unsyncable") {
            true => Err(io::Error::other("the disk was made to fail")),
            false => self.log.file.sync_data(),
        };
        let Err(error) = synced else { return Ok(()) };
        // Where not even this can be written, the next manager cannot write either.
        if let Err(error) = owned::open(&self.log.mark, How::Anew) {
            tracing::error!(%error, "the next manager does not learn that the disk failed");
        }
        // Nothing is brought from the log into the file by this process any more.
        self.checkpointer = None;
        let keep = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
        if let Err(error) = self.connection.set_db_config(keep, true) {
            tracing::error!(%error, "the log of commits is brought into the journal all the same");
        }
        Err(JournalError::Io(error))
    }
}

/// Writes anew what the log holds, if the manager before could not sync it: brings it into the file, and cuts the log. Else a
/// later sync could succeed over a hole in the log. Returns true if that was done.
pub(super) fn rewrite(path: &Path, connection: &Connection) -> Result<bool, JournalError> {
    let mark = mark(path);
    if fs::symlink_metadata(&mark).is_err() {
        return Ok(false);
    }
    let busy: bool = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    if busy {
        return Err(JournalError::Io(io::ErrorKind::ResourceBusy.into()));
    }
    fs::remove_file(mark).map_err(JournalError::Io)?;
    Ok(true)
}

fn mark(path: &Path) -> PathBuf {
    beside(path, "-unsynced")
}

fn beside(path: &Path, tail: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(tail);
    name.into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use rusqlite::params;

    use super::super::tests::in_memory;
    use super::*;

    const BOOT: &str = "boot";

    #[test]
    fn the_log_stays_one_file_while_it_is_cut_and_begun_anew() {
        let dir = in_memory();
        let path = dir.path().join("journal.db");
        let mut journal = Journal::open(&path, BOOT).unwrap().journal;
        let (mut longest, mut shortest) = (0, u64::MAX);
        for round in 0..40 {
            let value = "x".repeat(200_000);
            let mut insert =
                journal.connection.prepare_cached("INSERT OR REPLACE INTO meta VALUES (?1, ?2)").unwrap();
            insert.execute(params![format!("round-{round}"), value]).unwrap();
            drop(insert);
            journal.sync().unwrap();
            if round % 10 == 9 {
                journal.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
            }
            let (open, named) =
                (journal.log.file.metadata().unwrap(), fs::metadata(beside(&path, "-wal")).unwrap());
            assert_eq!((open.dev(), open.ino()), (named.dev(), named.ino()), "round {round}");
            (longest, shortest) = (longest.max(open.len()), shortest.min(open.len()));
        }
        assert!(shortest < longest, "the log was never cut: {shortest} bytes");
    }

    #[test]
    fn what_could_not_be_synced_is_written_anew_by_the_next_manager_which_says_so_once() {
        let dir = in_memory();
        let path = dir.path().join("journal.db");
        let mut journal = Journal::open(&path, BOOT).unwrap().journal;
        journal.remember_behind(BOOT, 7).unwrap();
        // No sync of it can succeed.
        let (_reader, writer) = std::io::pipe().unwrap();
        journal.log.file = File::from(std::os::fd::OwnedFd::from(writer));
        assert!(matches!(journal.sync(), Err(JournalError::Io(_))));
        drop(journal);
        let log = beside(&path, "-wal");
        assert!(
            fs::metadata(&log).unwrap().len() > 0,
            "the log was brought into the file over a failed sync"
        );
        let opened = Journal::open(&path, BOOT).unwrap();
        assert_eq!(opened.lost.as_deref(), Some(LOST));
        assert_eq!(fs::metadata(&log).unwrap().len(), 0, "the log was not written anew");
        assert_eq!(opened.journal.behind(BOOT).unwrap(), Some(7));
        drop(opened);
        assert_eq!(Journal::open(&path, BOOT).unwrap().lost, None);
    }
}
