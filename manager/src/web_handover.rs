//! The page's listening socket on its way from one daemon to the next, so that no other program gets the address meanwhile.
//!
//! `kennel daemon restart` and `kennel daemon upgrade` serve a Unix socket in the state directory. The daemon that leaves sends its
//! listener there, and the next daemon asks for it there. The listener is open in the command, or on its way, for the whole time.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::net::sockopt::{socket_acceptconn, socket_peercred};

use crate::system::packet;

/// The socket's name in the state directory.
const NAME: &str = "web.sock";
/// The longest wait for a word of the other side.
const PATIENCE: Duration = Duration::from_secs(1);
/// The first byte of a daemon that gives a listener.
const GIVE: u8 = b'g';
/// The first byte of a daemon that asks for the listener, and of the answer that has it.
const TAKE: u8 = b't';

/// A command's hold on the listener between two daemons. Dropped: the address is the next daemon's alone, or free.
#[derive(Debug)]
pub struct Bridge(PathBuf);

impl Bridge {
    /// Serves the socket from now on, on a thread that ends with the process.
    ///
    /// # Errors
    /// The socket cannot be made. The next daemon then takes the address as after a crash.
    pub fn new(state_dir: &Path) -> io::Result<Self> {
        let path = state_dir.join(NAME);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let directory = opened(state_dir)?;
        let listener = UnixListener::bind(within(&directory))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        std::thread::Builder::new().name("handover".into()).spawn(move || serve(&listener))?;
        Ok(Self(path))
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        // A socket without a listener does no harm: the next daemon finds nobody there.
        let _ = fs::remove_file(&self.0);
    }
}

fn serve(listener: &UnixListener) {
    let mut kept = None;
    while let Ok((stream, _)) = listener.accept() {
        // Whoever says nothing has nothing to give.
        if is_trusted(&stream).is_ok()
            && let Ok(said) = packet::receive(&stream)
        {
            match said {
                (Some(GIVE), Some(given)) => kept = Some(given),
                (Some(TAKE), None) => _ = answer(&stream, kept.as_ref()),
                _ => {}
            }
        }
    }
}

/// Sends the listener, and keeps it: a daemon that dies at its start is followed by another.
fn answer(stream: &UnixStream, kept: Option<&OwnedFd>) -> io::Result<()> {
    kept.map_or(Ok(()), |kept| packet::send(stream, &[TAKE], &[kept.as_fd()]))
}

/// Gives the listener to the command that restarts this daemon. The listener may be closed after that.
///
/// # Errors
/// No command waits for it.
pub fn give(state_dir: &Path, listener: &impl AsFd) -> io::Result<()> {
    packet::send(reach(state_dir)?, &[GIVE], &[listener.as_fd()])
}

/// The listener of the daemon before, if a command has it and it has this address.
pub fn take(state_dir: &Path, address: SocketAddr) -> Option<TcpListener> {
    let asked = reach(state_dir).and_then(|stream| {
        packet::send(&stream, &[TAKE], &[])?;
        packet::receive(&stream)
    });
    let Ok((Some(TAKE), Some(given))) = asked else { return None };
    let listens = socket_acceptconn(&given).unwrap_or(false);
    let listener = TcpListener::from(given);
    let is_ours = listens && listener.local_addr().is_ok_and(|own| own == address);
    (is_ours && listener.set_nonblocking(true).is_ok()).then_some(listener)
}

fn reach(state_dir: &Path) -> io::Result<UnixStream> {
    let directory = opened(state_dir)?;
    let stream = UnixStream::connect(within(&directory))?;
    is_trusted(&stream)?;
    Ok(stream)
}

/// Checks that the other side is this user's, and bounds each wait for it.
fn is_trusted(stream: &UnixStream) -> io::Result<()> {
    if socket_peercred(stream)?.uid != rustix::process::geteuid() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    stream.set_read_timeout(Some(PATIENCE))
}

fn opened(state_dir: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(state_dir, flags, Mode::empty())?)
}

/// A short path to the socket: the address of a Unix socket has 107 bytes at most.
fn within(directory: &OwnedFd) -> PathBuf {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}/{NAME}", directory.as_raw_fd()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_goes_from_one_to_the_next_and_only_with_the_address_that_is_meant() {
        let dir = tempfile::tempdir().unwrap();
        let long = dir.path().join("d".repeat(120));
        fs::create_dir(&long).unwrap();
        let first = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = first.local_addr().unwrap();
        assert!(give(&long, &first).is_err() && take(&long, address).is_none(), "nobody is there");
        let bridge = Bridge::new(&long).unwrap();
        assert!(take(&long, address).is_none(), "nothing was given");
        give(&long, &first).unwrap();
        drop(first);
        assert!(TcpListener::bind(address).is_err(), "it is still held");
        assert!(take(&long, "127.0.0.1:1".parse().unwrap()).is_none());
        let second = take(&long, address).unwrap();
        let _client = std::net::TcpStream::connect(address).unwrap();
        second.set_nonblocking(false).unwrap();
        second.accept().unwrap();
        drop(bridge);
        assert!(take(&long, address).is_none() && !long.join(NAME).exists());
    }

    #[test]
    fn what_is_no_listener_is_not_taken() {
        let dir = tempfile::tempdir().unwrap();
        let _bridge = Bridge::new(dir.path()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        give(dir.path(), &client).unwrap();
        assert!(take(dir.path(), client.local_addr().unwrap()).is_none());
    }
}
