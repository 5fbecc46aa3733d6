//! The daemon's socket: taken, written down in the state directory, remade where it vanishes, and left.

use std::ffi::OsString;
use std::fs::{self, Metadata, TryLockError};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener as Bound;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::unix::AsyncFd;
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::session_manager::SessionManager;
use crate::system::owned::How;
use crate::system::{owned, waiting};
use crate::{address, supervisor};

/// The longest path of a socket, in bytes: `sun_path` without its NUL (unix(7)).
const MAX_SOCKET: usize = 107;
/// The longest time that an earlier daemon may keep the socket's lock after it released the state directory's lock.
const SUCCESSION: Duration = Duration::from_secs(10);

/// The delay between a change at the socket and the daemon's look at it.
const SETTLE: Duration = Duration::from_millis(100);
/// Time that the deletion of a state directory may take before kennel makes another directory in its place.
const REMOVAL: Duration = Duration::from_secs(1);

/// The daemon's hold on its socket: a lock on a file beside it. The state directory's lock does not do, because
/// `KENNEL_SOCKET` can name one socket for two state directories, and because the manager gives it up before the
/// last answers are given.
struct Socket {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
    lock: fs::File,
}

impl Socket {
    /// Listens on `path`, in place of whatever dead daemon left there.
    async fn take(path: &Path) -> io::Result<(Self, UnixListener)> {
        let lock = lock_beside(path)?;
        locked(&lock).await?;
        Self::bind(path, lock)
    }

    fn bind(path: &Path, lock: fs::File) -> io::Result<(Self, UnixListener)> {
        check_place(path)?;
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // The umask of `run` lets nobody else in from the first moment; this takes the bits away that mean nothing.
        let listener = Bound::bind(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        let identity = identity(&fs::symlink_metadata(path)?);
        Ok((Self { path: path.to_owned(), identity, lock }, UnixListener::from_std(listener)?))
    }

    /// Returns whether the socket is still at the path where clients look for it.
    fn is_there(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|found| identity(&found) == self.identity)
    }

    /// Takes the same path again, from which it has vanished. Waits for nobody, and takes it from nobody who is there.
    fn again(&self) -> io::Result<(Self, UnixListener)> {
        let lock = lock_beside(&self.path)?;
        // A lock that is still there is held already, and by this process.
        let lock = match identity(&lock.metadata()?) == identity(&self.lock.metadata()?) {
            true => self.lock.try_clone()?,
            false => lock,
        };
        lock.try_lock()?;
        if std::os::unix::net::UnixStream::connect(&self.path).is_ok() {
            return Err(io::Error::other("somebody else listens there"));
        }
        Self::bind(&self.path, lock)
    }

    fn at(path: &Path) -> io::Result<(Self, UnixListener)> {
        let lock = lock_beside(path)?;
        lock.try_lock()?;
        Self::bind(path, lock)
    }

    /// Removes it. The file of the lock stays: removing it would let two daemons each lock a file of that name.
    fn leave(self) {
        if self.is_there() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(meta: &Metadata) -> (u64, u64) {
    (meta.dev(), meta.ino())
}

fn lock_beside(path: &Path) -> io::Result<fs::File> {
    check_length(path)?;
    if let Some(parent) = path.parent() {
        owned::shared_directory(parent)?;
    }
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(".lock");
    owned::lock(Path::new(&name))
}

/// Makes sure, without changing anything, that a socket can be made here: that nothing else is.
pub(super) fn check_place(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            Err(io::Error::other("there is something else, which is no socket"))
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Waits for the lock for as long as a daemon that ends may hold it.
async fn locked(file: &fs::File) -> io::Result<()> {
    let try_until = tokio::time::Instant::now() + SUCCESSION;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if tokio::time::Instant::now() < try_until => {
                sleep(Duration::from_millis(20)).await;
            }
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::other(
                    "another daemon, over another state directory, serves this socket",
                ));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

/// Checks that a socket's address can hold this path.
pub(super) fn check_length(path: &Path) -> io::Result<()> {
    let length = path.as_os_str().len();
    if length <= MAX_SOCKET {
        return Ok(());
    }
    let message = format!("the path has {length} bytes; a socket's has at most {MAX_SOCKET}");
    Err(io::Error::new(io::ErrorKind::InvalidInput, message))
}

/// Identities of these files, without those that do not exist.
fn seen(paths: Vec<PathBuf>) -> Vec<(PathBuf, (u64, u64))> {
    let seen = |path: PathBuf| {
        let seen = identity(&fs::symlink_metadata(&path).ok()?);
        Some((path, seen))
    };
    paths.into_iter().filter_map(seen).collect()
}

/// Keeps the socket where clients find it. A socket can vanish under its daemon: `/run/user/UID` goes with the user's last
/// login, and cleaners empty `/tmp`. The kernel reports it (inotify(7)); at rest nothing wakes.
pub(super) struct Keeper {
    state_dir: PathBuf,
    /// Other paths for the socket if its own directory is gone, best first.
    others: Vec<PathBuf>,
    socket: Socket,
    watch: Option<AsyncFd<OwnedFd>>,
    manager: SessionManager,
    /// The state directory, its lock and the journal, as they were when this was made. One that is not there could not be looked
    /// at then.
    home: Vec<(PathBuf, (u64, u64))>,
    /// The lock of the directory that stands in the place of the one that was deleted.
    lock: Option<fs::File>,
}

impl Keeper {
    /// Listens on `path`, and writes that down in the state directory, whose lock this process holds.
    pub(super) async fn take(
        path: &Path,
        others: Vec<PathBuf>,
        state_dir: &Path,
        manager: SessionManager,
    ) -> io::Result<(Self, UnixListener)> {
        let (socket, listener) = Socket::take(path).await?;
        address::write(state_dir, path)?;
        let watch = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).map_err(io::Error::from);
        let watch = watch.and_then(waiting::readable).inspect_err(|error| {
            tracing::warn!(%error, "a socket that vanishes will not be noticed");
        });
        let home =
            [state_dir.to_owned(), state_dir.join(supervisor::LOCK), state_dir.join(supervisor::JOURNAL)];
        let home = seen(home.into());
        let (state_dir, watch) = (state_dir.to_owned(), watch.ok());
        let keeper = Self { state_dir, others, socket, watch, manager, home, lock: None };
        keeper.look_there();
        Ok((keeper, listener))
    }

    /// The kernel is to report what happens to the socket, its directory, the address's file, and the state directory with lock
    /// and journal. Entries of the socket's directory are not watched: it may be `/tmp`.
    fn look_there(&self) {
        let Some(watch) = &self.watch else { return };
        let flags = WatchFlags::ATTRIB | WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF;
        let address = self.state_dir.join(address::NAME);
        let socket = [Some(&*self.socket.path), self.socket.path.parent(), Some(&*address)];
        let home = self.home.iter().map(|(path, _)| &**path);
        for path in socket.into_iter().flatten().chain(home) {
            if let Err(error) = inotify::add_watch(watch, path, flags) {
                tracing::debug!(%error, "a path is not watched");
            }
        }
    }

    /// Remakes the socket each time that it vanishes, and hands the new listener on. Notes that the state directory was deleted,
    /// and takes its place again, so that clients hear of it. Ends when another daemon has that place.
    pub(super) async fn keep(&mut self, listeners: &mpsc::Sender<UnixListener>) {
        loop {
            self.something_happened().await;
            // A program that removes the whole directory must not find a new socket in it meanwhile.
            sleep(SETTLE).await;
            if self.is_homeless() {
                if !self.manager.state_dir_gone() {
                    self.manager.lose_state_dir();
                    let state_dir = self.state_dir.display();
                    tracing::error!("the state directory {state_dir} was deleted; no new work is taken");
                }
                sleep(REMOVAL).await;
                if let Err(error) = self.take_place() {
                    if error.kind() == io::ErrorKind::WouldBlock {
                        return;
                    }
                    tracing::error!(%error, "its place cannot be taken again");
                }
            }
            if !self.socket.is_there()
                && let Some(listener) = self.remake()
            {
                // The receiver is gone only while the daemon ends.
                let _ = listeners.send(listener).await;
            }
            self.look_there();
        }
    }

    /// Returns true if the state directory, its lock or the journal is gone or replaced.
    fn is_homeless(&self) -> bool {
        self.home.iter().any(|(path, was)| {
            fs::symlink_metadata(path).map_or_else(
                |error| error.kind() == io::ErrorKind::NotFound,
                |found| identity(&found) != *was,
            )
        })
    }

    /// Makes the state directory anew where it is gone, with a lock and an address, and nothing else.
    fn take_place(&mut self) -> io::Result<()> {
        let state_dir = owned::directory(&self.state_dir)?;
        let mut lock = owned::open(&state_dir.join(supervisor::LOCK), How::Keep)?;
        // The old one, where that is still there, is held by this process already.
        let old =
            self.home.iter().any(|(_, was)| lock.metadata().is_ok_and(|found| identity(&found) == *was));
        if !old {
            lock.try_lock()?;
            lock.set_len(0)?;
            writeln!(lock, "{}", std::process::id())?;
        }
        address::write(&state_dir, &self.socket.path)?;
        self.lock = Some(lock);
        self.home = seen(vec![state_dir.clone(), state_dir.join(supervisor::LOCK)]);
        Ok(())
    }

    async fn something_happened(&self) {
        let Some(watch) = &self.watch else { return std::future::pending().await };
        let mut buffer = [0; 4096];
        loop {
            let Ok(mut ready) = watch.readable().await else { return std::future::pending().await };
            // The caller finds out what happened by its own checks.
            match ready.try_io(|fd| Ok(rustix::io::read(fd, &mut buffer)?)) {
                Ok(_) => return,
                Err(_would_block) => {}
            }
        }
    }

    fn remake(&mut self) -> Option<UnixListener> {
        let gone = self.socket.path.clone();
        let others = self.others.iter().filter(|path| **path != gone).map(|path| Socket::at(path));
        for made in std::iter::once_with(|| self.socket.again()).chain(others) {
            let written = made.and_then(|(socket, listener)| {
                address::write(&self.state_dir, &socket.path)?;
                Ok((socket, listener))
            });
            match written {
                Ok((socket, listener)) => {
                    let (gone, new) = (gone.display(), socket.path.display());
                    tracing::warn!("the socket {gone} had vanished; listening on {new}");
                    self.socket = socket;
                    return Some(listener);
                }
                Err(error) => tracing::debug!(%error, "the socket cannot be made there"),
            }
        }
        tracing::error!("the socket {} has vanished, and no other could be made", gone.display());
        None
    }

    /// Removes the socket.
    pub(super) fn leave(self) {
        self.socket.leave();
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixStream;

    use super::*;

    #[tokio::test]
    async fn the_socket_is_ours_alone_replaces_a_dead_one_and_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/kennel.sock");
        let (socket, listener) = Socket::take(&path).await.unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().mode() & 0o777, 0o700);
        // Killed: the file stays, the lock goes.
        drop((socket, listener));
        assert!(path.exists());
        let (socket, _listener) = Socket::take(&path).await.unwrap();
        UnixStream::connect(&path).await.unwrap();
        socket.leave();
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_socket_in_use_is_waited_for_and_what_is_no_socket_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kennel.sock");
        let (socket, _listener) = Socket::take(&path).await.unwrap();
        let waiting = tokio::spawn({
            let path = path.clone();
            async move { Socket::take(&path).await.map(|(socket, _)| socket.leave()) }
        });
        // Not a guess at how long it takes: the other only has to have had a chance to do wrong.
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        assert!(!waiting.is_finished() && path.exists());
        socket.leave();
        waiting.await.unwrap().unwrap();

        fs::write(&path, "precious").unwrap();
        assert!(Socket::take(&path).await.is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[tokio::test]
    async fn a_directory_that_others_can_write_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let path = dir.path().join("kennel.sock");
        assert!(Socket::take(&path).await.is_err());
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o1777)).unwrap();
        assert!(Socket::take(&path).await.is_ok());
    }
}
