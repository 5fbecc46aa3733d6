//! Logs of sessions: what their workers and agents write to standard error, bounded.
//!
//! The file is open in processes that know nothing of it, and append to it. So it is not renamed but emptied, after its
//! newest part was kept beside it as `ID.log.1`. What is written in between is lost; it is a log.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use protocol::SessionId;

use crate::owned::{self, How};

/// The most that a log may hold when it is looked at, in bytes.
pub const MOST: u64 = 16 * 1024 * 1024;
/// How much of its end is kept then, in bytes: not more than can be copied in passing.
const KEPT: u64 = 4 * 1024 * 1024;

/// Where they are, in the state directory.
pub const DIRECTORY: &str = "logs";

/// The daemon's own log, in the state directory.
pub const DAEMON: &str = "daemon.log";

/// The session's log.
pub fn path(state_dir: &Path, id: &SessionId) -> PathBuf {
    state_dir.join(DIRECTORY).join(format!("{id}.log"))
}

/// What was kept of it when it was emptied last.
fn before(state_dir: &Path, id: &SessionId) -> PathBuf {
    state_dir.join(DIRECTORY).join(format!("{id}.log.1"))
}

/// The session whose log a file of this name is, or was.
pub fn session_of(name: &str) -> Option<SessionId> {
    name.strip_suffix(".1").unwrap_or(name).strip_suffix(".log")?.parse().ok()
}

/// Empties the log if it is too long. True if it was.
pub fn bound(state_dir: &Path, id: &SessionId) -> io::Result<bool> {
    let path = path(state_dir, id);
    let length = match std::fs::symlink_metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        other => other?.len(),
    };
    if length <= MOST {
        return Ok(false);
    }
    let mut log = owned::open(&path, How::Keep)?;
    // On a full disk there is room only after it was emptied.
    let kept = keep(&mut log, length, &before(state_dir, id));
    log.set_len(0)?;
    kept.map(|()| true)
}

fn keep(log: &mut File, length: u64, to: &Path) -> io::Result<()> {
    let mut newest = Vec::new();
    log.seek(SeekFrom::Start(length.saturating_sub(KEPT)))?;
    log.take(KEPT).read_to_end(&mut newest)?;
    owned::open(to, How::Anew)?.write_all(&newest)
}

/// Removes what there is.
pub fn remove(state_dir: &Path, id: &SessionId) {
    let _ = std::fs::remove_file(path(state_dir, id));
    let _ = std::fs::remove_file(before(state_dir, id));
}
