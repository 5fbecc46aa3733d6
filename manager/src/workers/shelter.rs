//! Shelters: the sockets where workers without a manager wait, and where the next manager finds them.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use protocol::wire::Shelter;
use protocol::{Incarnation, SessionId};
use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use sha2::{Digest, Sha256};

use crate::system::packet;
use crate::workers::link::Pipes;
use crate::workers::spool::Spool;

/// The directory, in the state directory.
pub const DIRECTORY: &str = "workers";
/// The most that a worker says to nobody, in bytes.
const SPOOL_BYTES: u64 = 64 * 1024 * 1024;
/// How long a turn may go on without a manager, in milliseconds.
const TURN_MS: u64 = 60 * 60 * 1000;
/// How long an idle worker stays without a manager, in milliseconds.
const IDLE_MS: u64 = 10 * 60 * 1000;

/// The shelters in a state directory: sockets where workers without a manager wait.
pub struct Shelters {
    directory: PathBuf,
    /// The journal's secret, from which the secrets of the workers are derived.
    secret: String,
}

impl Shelters {
    /// The shelters in this state directory.
    pub fn new(state_dir: &Path, secret: String) -> Self {
        Self { directory: state_dir.join(DIRECTORY), secret }
    }

    /// The address, secret and limits of a worker's own shelter.
    pub fn papers(&self, id: &SessionId, incarnation: Incarnation) -> Shelter {
        let path = |name: PathBuf| name.to_string_lossy().into_owned();
        Shelter {
            socket: path(self.door(id, incarnation)),
            secret: self.secret(id, incarnation),
            spool: path(self.spool_path(id, incarnation)),
            spool_bytes: SPOOL_BYTES,
            turn_ms: TURN_MS,
            idle_ms: IDLE_MS,
        }
    }

    /// Sends two new pipes to a worker that waits, and gives our ends of them; none if no worker answers.
    pub fn visit(&self, id: &SessionId, incarnation: Incarnation) -> Option<Pipes> {
        let visited = self.try_visit(id, incarnation);
        visited
            .inspect_err(
                |error| tracing::info!(session = %id, incarnation, %error, "no worker to be taken over"),
            )
            .ok()
    }

    fn try_visit(&self, id: &SessionId, incarnation: Incarnation) -> io::Result<Pipes> {
        let door = self.door(id, incarnation);
        let stream = connect(&door)?;
        let (their_stdin, stdin) = pipe_with(PipeFlags::CLOEXEC)?;
        let (stdout, their_stdout) = pipe_with(PipeFlags::CLOEXEC)?;
        let handed = [their_stdin.as_fd(), their_stdout.as_fd()];
        packet::send(&stream, &self.secret(id, incarnation), &handed)?;
        Ok(Pipes { stdin, stdout })
    }

    /// The worker's spool: its messages while it had no manager.
    pub fn spool(&self, id: &SessionId, incarnation: Incarnation) -> Spool {
        Spool::new(id.clone(), incarnation, self.spool_path(id, incarnation))
    }

    /// The worker is gone, and all that it has said is on record.
    pub fn remove(&self, id: &SessionId, incarnation: Incarnation) {
        let _ = fs::remove_file(self.door(id, incarnation));
        let _ = fs::remove_file(self.spool_path(id, incarnation));
    }

    /// Removes the files of workers that do not exist.
    pub fn tidy(&self, exists: impl Fn(&SessionId, Incarnation) -> bool) {
        for entry in fs::read_dir(&self.directory).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let of = name.to_str().and_then(|name| name.rsplit_once('.')?.0.rsplit_once('.'));
            let of = of.and_then(|(id, incarnation)| Some((id.parse().ok()?, incarnation.parse().ok()?)));
            if !of.is_some_and(|(id, incarnation)| exists(&id, incarnation)) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn door(&self, id: &SessionId, incarnation: Incarnation) -> PathBuf {
        self.directory.join(format!("{id}.{incarnation}.sock"))
    }

    fn spool_path(&self, id: &SessionId, incarnation: Incarnation) -> PathBuf {
        self.directory.join(format!("{id}.{incarnation}.spool"))
    }

    fn secret(&self, id: &SessionId, incarnation: Incarnation) -> [u8; 32] {
        Sha256::digest(format!("kennel shelter\n{}\n{id}\n{incarnation}", self.secret)).into()
    }
}

/// The session whose worker a file of this name belongs to.
pub fn session_of(name: &str) -> Option<SessionId> {
    name.rsplit_once('.')?.0.rsplit_once('.')?.0.parse().ok()
}

/// Returns true if a worker waits in this state directory.
pub fn anybody(state_dir: &Path) -> bool {
    let entries = fs::read_dir(state_dir.join(DIRECTORY)).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .any(|path| path.extension().is_some_and(|extension| extension == "sock") && connect(&path).is_ok())
}

/// Connects to a path of any length: a socket's address holds 107 bytes (unix(7)).
fn connect(path: &Path) -> io::Result<UnixStream> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::open(directory, flags, Mode::empty())?;
    UnixStream::connect(Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name))
}
