//! The shelter: the socket at which a worker waits for the next manager when its own is gone.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::Path;
use std::time::Duration;

use protocol::wire;
use rustix::fs::{Mode, OFlags};
use tokio::net::{UnixListener, UnixStream};

use crate::packet;

/// The longest greeting that is read, in bytes: more than a secret has.
const PAPERS_BYTES: usize = 64;

/// The pipes that a new manager hands over.
pub struct Pipes {
    /// Commands of the manager.
    pub input: OwnedFd,
    /// Reports of the worker.
    pub output: OwnedFd,
}

/// An open shelter. Its socket is removed with it.
pub struct Shelter {
    papers: wire::Shelter,
    listener: UnixListener,
    /// The newest connection that has sent nothing yet. A later connection replaces it, so that a silent one cannot
    /// block the shelter.
    visitor: Option<UnixStream>,
}

/// An event at the shelter's socket.
pub enum Knock {
    /// A connection, or the error of accepting it.
    Came(io::Result<UnixStream>),
    /// The visitor sent something, or closed its connection.
    Spoke,
}

impl Shelter {
    /// Makes the socket, with mode 0600. Errors: the path cannot be bound.
    pub fn open(papers: wire::Shelter) -> io::Result<Self> {
        let path = Path::new(&papers.socket);
        let listener = match bind(path) {
            // A file of this name is of no use to anybody: the incarnation is this worker's.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                std::fs::remove_file(path)?;
                bind(path)?
            }
            bound => bound?,
        };
        listener.set_nonblocking(true)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self { papers, listener: UnixListener::from_std(listener)?, visitor: None })
    }

    /// Time limit of a running turn without a manager.
    pub fn turn(&self) -> Duration {
        Duration::from_millis(self.papers.turn_ms)
    }

    /// Time limit of an idle worker without a manager.
    pub fn idle(&self) -> Duration {
        Duration::from_millis(self.papers.idle_ms)
    }

    /// Waits for an event at the socket.
    pub async fn knocked(&self) -> Knock {
        tokio::select! {
            came = self.listener.accept() => Knock::Came(came.map(|(visitor, _)| visitor)),
            () = async { match &self.visitor {
                Some(visitor) => { let _ = visitor.readable().await; }
                None => std::future::pending().await,
            }} => Knock::Spoke,
        }
    }

    /// Accepts a connection of the same user or of root: it may be a manager.
    pub fn admit(&mut self, visitor: UnixStream) {
        let ours = rustix::process::geteuid().as_raw();
        let theirs = visitor.peer_cred().map(|peer| peer.uid());
        if matches!(theirs, Ok(uid) if uid == ours || uid == 0) {
            self.visitor = Some(visitor);
        }
    }

    /// Takes the pipes from the visitor; `None` if it sent nothing yet or is no manager. The worker never replies.
    pub fn hear(&mut self) -> Option<Pipes> {
        let visitor = self.visitor.as_ref()?;
        let receive = || packet::receive(visitor, PAPERS_BYTES);
        let received = match visitor.try_io(tokio::io::Interest::READABLE, receive) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
            received => received,
        };
        self.visitor = None;
        let (secret, mut handed) = received.ok()?;
        let (output, input) = (handed.pop()?, handed.pop()?);
        (handed.is_empty() && is_same(&secret, &self.papers.secret)).then_some(Pipes { input, output })
    }
}

impl Drop for Shelter {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.papers.socket);
    }
}

/// Binds a path of any length: what a socket's address can hold is 107 bytes (unix(7)), and a state directory may be
/// longer. So the directory is named by a descriptor.
fn bind(path: &Path) -> io::Result<StdUnixListener> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::open(directory, flags, Mode::empty())?;
    StdUnixListener::bind(Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name))
}

/// Compares in constant time.
fn is_same(given: &[u8], right: &[u8; 32]) -> bool {
    given.len() == right.len() && given.iter().zip(right).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_in_the_place_of_the_socket_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("door").to_str().unwrap().to_owned();
        std::fs::write(&socket, "left behind").unwrap();
        let papers = wire::Shelter {
            socket: socket.clone(),
            secret: [7; 32],
            spool: String::new(),
            spool_bytes: 0,
            turn_ms: 0,
            idle_ms: 0,
        };
        let shelter = Shelter::open(papers).unwrap();
        std::os::unix::net::UnixStream::connect(&socket).unwrap();
        drop(shelter);
        assert!(!std::fs::exists(&socket).unwrap());
    }
}
