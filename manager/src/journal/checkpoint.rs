//! Brings what is in the log of commits into the journal's file, on a thread of its own.
//!
//! SQLite does so within a commit unless told otherwise, and a commit is what everybody waits for. A checkpoint beside it holds
//! up no writer (<https://www.sqlite.org/c3ref/wal_checkpoint_v2.html>, PASSIVE).

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use rusqlite::hooks::Wal;
use rusqlite::{Connection, OpenFlags};

use super::connection::connect;

/// After as many new pages in the log a checkpoint begins. SQLite's own measure.
const PAGES: i32 = 1000;
/// A log of as many pages is checkpointed within a commit: the thread has not come after, and a log has no bound of its own.
const TOO_MANY: i32 = 16 * PAGES;

/// The thread. Dropped, it has ended.
pub(super) struct Checkpointer {
    wake: SyncSender<()>,
    ending: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    /// Of the journal at this path, to which this connection writes. None where there is no thread: then SQLite does it within
    /// its commits.
    pub(super) fn start(path: &Path, writer: &mut Connection) -> Result<Option<Self>, rusqlite::Error> {
        let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let (wake, woken) = sync_channel(1);
        let ending = Arc::new(AtomicBool::new(false));
        let run = {
            let ending = ending.clone();
            move || work(&connection, &woken, &ending)
        };
        let thread = match std::thread::Builder::new().name("checkpoint".into()).spawn(run) {
            Ok(thread) => thread,
            Err(error) => {
                tracing::debug!(%error, "no thread for checkpoints");
                return Ok(None);
            }
        };
        writer.wal_hook(Some(hook(wake.clone())))?;
        Ok(Some(Self { wake, ending, thread: Some(thread) }))
    }
}

/// Makes the function that SQLite calls after each commit, with the number of pages in the log.
fn hook(wake: SyncSender<()>) -> impl FnMut(&mut Wal, i32) -> Result<(), rusqlite::Error> + Send {
    let (mut before, mut due) = (0, PAGES);
    move |log, pages| {
        if pages <= before {
            // It has begun anew.
            due = PAGES;
        }
        before = pages;
        if pages >= due {
            due = pages.saturating_add(PAGES);
            // One that is waited for already sees these pages too.
            let _ = wake.try_send(());
        }
        if pages >= TOO_MANY
            && let Err(error) = log.checkpoint()
        {
            // The commit is made all the same.
            tracing::debug!(%error, "no checkpoint");
        }
        Ok(())
    }
}

fn work(connection: &Connection, woken: &Receiver<()>, ending: &AtomicBool) {
    while let Ok(()) = woken.recv()
        && !ending.load(Ordering::Relaxed)
    {
        // A full disk, or a reader of what is old: the next commits ask again.
        if let Err(error) = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())) {
            tracing::debug!(%error, "no checkpoint");
        }
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
        // Where there is no room it is about to look anyway.
        let _ = self.wake.try_send(());
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!("the thread of checkpoints has panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    /// Commits so many pieces of 40 KiB.
    fn write(journal: &Connection, pieces: usize) {
        for _ in 0..pieces {
            journal.execute("INSERT INTO told VALUES (?1)", ["x".repeat(40 * 1024)]).unwrap();
        }
    }

    fn journal(path: &Path) -> Connection {
        let journal = Connection::open(path).unwrap();
        journal.pragma_update(None, "journal_mode", "WAL").unwrap();
        journal.pragma_update(None, "synchronous", "NORMAL").unwrap();
        journal.execute("CREATE TABLE told (text TEXT)", []).unwrap();
        journal
    }

    #[test]
    fn what_is_committed_comes_into_the_file_beside_the_commits() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.db");
        let mut journal = journal(&path);
        let checkpointer = Checkpointer::start(&path, &mut journal).unwrap();
        assert!(checkpointer.is_some());
        write(&journal, 200);
        let end = Instant::now() + Duration::from_secs(20);
        while std::fs::metadata(&path).unwrap().len() < 4 << 20 {
            assert!(Instant::now() < end, "nothing has come into the file");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_log_has_a_bound_where_checkpoints_do_not_come_after() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.db");
        let mut journal = journal(&path);
        // Nobody listens.
        let (wake, _listener) = sync_channel(1);
        journal.wal_hook(Some(hook(wake))).unwrap();
        write(&journal, 5000);
        let log = std::fs::metadata(path.with_extension("db-wal")).unwrap().len();
        assert!(log < (TOO_MANY as u64 + 100) * 4200, "{log} bytes");
    }
}
