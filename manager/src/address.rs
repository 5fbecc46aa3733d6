//! Address of a state directory's daemon, as the state directory itself records it.
//!
//! A client's environment does not decide the address: cron, sudo and ssh have another `XDG_RUNTIME_DIR` than the
//! terminal that started the daemon, or none. The daemon writes its socket's path into a file beside the lock. The file
//! counts only while the daemon has the lock: a dead daemon's address may be another daemon's by now.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{Timespec, Timestamps, UTIME_NOW, futimens};

use crate::system::owned::{self, How};

/// The file that the serving manager keeps locked, in the state directory.
pub const LOCK: &str = "lock";
/// The address, a file in the state directory.
pub const NAME: &str = "address";
/// The longest address that is read, in bytes: far above a socket's longest path.
const MAX: u64 = 4096;

/// The daemon that serves a state directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A manager holds the lock.
    Served {
        /// Its process, by its own word, in its own PID namespace.
        pid: Option<u32>,
        /// The socket of the daemon; none while it starts, or if it writes no address.
        socket: Option<PathBuf>,
    },
    /// No process holds the lock.
    Free,
    /// There is no lock, or this user may not look at it.
    Unknown,
}

/// Finds the daemon that serves this state directory.
pub fn find(state_dir: &Path) -> Found {
    let Ok(Some(directory)) = owned::existing(state_dir) else { return Found::Unknown };
    let Ok(mut lock) = owned::open(&directory.join(LOCK), How::Read) else { return Found::Unknown };
    if lock.try_lock_shared().is_ok() {
        return Found::Free;
    }
    let mut text = String::new();
    let pid = lock.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
    Found::Served { pid, socket: read(&directory) }
}

fn read(directory: &Path) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStringExt;
    let file = owned::open(&directory.join(NAME), How::Read).ok()?;
    let mut bytes = Vec::new();
    file.take(MAX).read_to_end(&mut bytes).ok()?;
    let path = PathBuf::from(std::ffi::OsString::from_vec(bytes));
    path.is_absolute().then_some(path)
}

/// Writes where the daemon listens: the whole address or the one before. Only for the holder of the lock.
pub fn write(state_dir: &Path, socket: &Path) -> io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let path = state_dir.join(NAME);
    let new = path.with_extension("new");
    owned::open(&new, How::Anew)?.write_all(socket.as_os_str().as_bytes())?;
    fs::rename(&new, &path)
}

/// Removes the address that an earlier daemon has left. Only for the holder of the lock.
pub fn forget(state_dir: &Path) {
    let _ = fs::remove_file(state_dir.join(NAME));
}

/// Asks the daemon to look whether its socket is still where its address says. The daemon watches the address's file.
pub fn knock(state_dir: &Path) {
    let now = || Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let touched = || -> io::Result<()> {
        let Some(directory) = owned::existing(state_dir)? else { return Ok(()) };
        let file = owned::open(&directory.join(NAME), How::Read)?;
        Ok(futimens(&file, &Timestamps { last_access: now(), last_modification: now() })?)
    };
    // The caller waits for the socket, with a limit, whether this succeeds or not.
    let _ = touched();
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn an_address_counts_while_the_lock_is_held_and_no_longer() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        assert_eq!(find(&state), Found::Unknown);
        fs::create_dir(&state).unwrap();
        fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();
        write(&state, Path::new("/run/k.sock")).unwrap();
        assert_eq!(find(&state), Found::Unknown, "without a lock nobody serves it");
        let mut lock = owned::open(&state.join(LOCK), How::Keep).unwrap();
        writeln!(lock, "7").unwrap();
        assert_eq!(find(&state), Found::Free);
        lock.try_lock().unwrap();
        assert_eq!(find(&state), Found::Served { pid: Some(7), socket: Some("/run/k.sock".into()) });
        assert_eq!(fs::metadata(state.join(NAME)).unwrap().permissions().mode() & 0o777, 0o600);
        forget(&state);
        assert_eq!(find(&state), Found::Served { pid: Some(7), socket: None });
    }

    #[test]
    fn an_address_that_is_a_link_or_no_path_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path();
        let lock = owned::open(&state.join(LOCK), How::Keep).unwrap();
        lock.try_lock().unwrap();
        let none = Found::Served { pid: None, socket: None };
        fs::write(dir.path().join("elsewhere"), "/run/k.sock").unwrap();
        symlink("elsewhere", state.join(NAME)).unwrap();
        assert_eq!(find(state), none);
        fs::remove_file(state.join(NAME)).unwrap();
        for text in ["", "run/k.sock"] {
            fs::write(state.join(NAME), text).unwrap();
            assert_eq!(find(state), none, "{text:?}");
        }
    }
}
