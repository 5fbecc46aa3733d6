//! Identity of the process at the other end of a connection, from the kernel.
//!
//! The owner's uid alone does not make an owner: agents have it, too. So the daemon examines the processes above the
//! peer once, when it accepts a connection. A peer below a worker is that session's agent, in whatever namespaces it
//! runs: the daemon's `/proc` shows its real parents. A peer that the daemon cannot see, or that is dead, has no
//! identity.
//!
//! A marker in an environment and the name of a control group only ever remove rights: any program can set the marker.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use nix::sys::socket::{getsockopt, sockopt};
use protocol::{MARKER, SessionId};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{PidfdFlags, pidfd_open};
use tokio::net::UnixStream;
use tokio::sync::OnceCell;

use super::cookie::Gate;
use crate::error::Error;
use crate::session_manager::SessionManager;
use crate::system::process;

/// The most processes that are looked at above one another. No person has so many; an agent could make millions.
const DEPTH: usize = 128;
/// Attempts to examine a peer. A process that ends meanwhile spoils an attempt.
const LOOKS: usize = 8;
/// Bytes of an environment that the daemon reads.
const ENVIRON: u64 = 64 * 1024;

/// The other end of a connection.
#[derive(Clone, Debug)]
pub struct Peer(Arc<Seen>);

#[derive(Debug)]
struct Seen {
    look: Look,
    standing: OnceCell<Standing>,
}

/// Identity of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The user whose daemon this is.
    Owner,
    /// The agent of this session, or a program that it has started.
    Agent {
        /// The session.
        session: SessionId,
        /// The agent is in a sandbox: without a token it has no rights.
        sandboxed: bool,
    },
    /// A client of another machine, or one that came in by a port: it has the rights of what it shows, and none without.
    Remote {
        /// Its address.
        address: SocketAddr,
    },
    /// An unknown peer, which may be an agent.
    Nobody {
        /// Reason, for the error text.
        why: &'static str,
    },
}

/// A process and those above it, as they were when it connected.
#[derive(Debug, PartialEq, Eq)]
enum Look {
    /// The peer is the daemon itself.
    Own,
    /// The peer came in by a port.
    Remote(SocketAddr, Gate),
    /// The peer first, with their start times.
    Above { chain: Vec<(u32, u64)>, marks: Vec<String>, groups: String },
    /// The daemon could not examine the peer. Holds the reason.
    Hidden(&'static str),
}

const UNSEEN: &str = "its process is in a PID namespace that the daemon does not see";
/// For now: the client is to try again.
pub const NO_ROOM: &str = "the daemon has no descriptors left to look at its process";
const GONE: &str = "its process ended before the daemon could look at it";
const DEEP: &str = "more processes are above one another than the daemon looks at";
const LEFT: &str = "its process was left behind by a session's agent";

impl Peer {
    /// Looks who has connected.
    pub fn of(stream: &UnixStream) -> Self {
        Self::new(look(stream).unwrap_or_else(|error| match process::is_no_room(&error) {
            true => Look::Hidden(NO_ROOM),
            false => Look::Hidden(GONE),
        }))
    }

    /// A client that has come in by a port, from this address.
    pub fn by(address: SocketAddr, gate: Gate) -> Self {
        Self::new(Look::Remote(address, gate))
    }

    /// A client that has come in over TLS from this address.
    #[cfg(test)]
    pub fn remote(address: SocketAddr) -> Self {
        Self::by(address, Gate { tls: true, port: 7443 })
    }

    /// The port by which the client has come in; none for one of the socket.
    pub fn gate(&self) -> Option<Gate> {
        match self.0.look {
            Look::Remote(_, gate) => Some(gate),
            Look::Own | Look::Above { .. } | Look::Hidden(_) => None,
        }
    }

    /// This process itself, which holds the manager: tests ask without a connection.
    #[cfg(test)]
    pub fn own() -> Self {
        Self::new(Look::Own)
    }

    /// A process below these: tests ask as an agent.
    #[cfg(test)]
    pub fn below(chain: Vec<(u32, u64)>) -> Self {
        Self::new(Look::Above { chain, marks: Vec::new(), groups: String::new() })
    }

    fn new(look: Look) -> Self {
        Self(Arc::new(Seen { look, standing: OnceCell::new() }))
    }

    /// Returns the peer's identity. Asks the manager once for each connection.
    pub async fn standing(&self, manager: &SessionManager) -> Result<Standing, Error> {
        let found = self.0.standing.get_or_try_init(|| async {
            let (chain, marks, groups) = match &self.0.look {
                Look::Own => return Ok(Standing::Owner),
                Look::Remote(address, _) => return Ok(Standing::Remote { address: *address }),
                Look::Hidden(why) => return Ok(Standing::Nobody { why }),
                Look::Above { chain, marks, groups } => (chain, marks, groups),
            };
            if let Some((session, sandboxed)) = manager.session_above(chain.clone()).await? {
                return Ok(Standing::Agent { session, sandboxed });
            }
            let uuid = manager.uuid();
            let marked = marks.iter().any(|mark| mark.split('/').next() == Some(uuid));
            let group = format!("/kennel-{uuid}/");
            let grouped = groups.contains(&group);
            // All children of a daemon are workers, or what dead workers have left.
            let left = manager.is_whole_process() && chain.iter().any(|(pid, _)| *pid == std::process::id());
            Ok::<_, Error>(match marked || grouped || left {
                true => Standing::Nobody { why: LEFT },
                false => Standing::Owner,
            })
        });
        found.await.cloned()
    }
}

fn look(stream: &UnixStream) -> io::Result<Look> {
    let Some(pid) = stream.peer_cred()?.pid().and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid > 0)
    else {
        return Ok(Look::Hidden(UNSEEN));
    };
    if pid == std::process::id() {
        return Ok(Look::Own);
    }
    let pidfd = hold(stream, pid)?;
    for _ in 0..LOOKS {
        let found = above(pid);
        // Only now: the pid was its own all the while.
        if has_ended(&pidfd)? {
            return Ok(Look::Hidden(GONE));
        }
        match found {
            Ok(Some(look)) => return Ok(look),
            // A process between has ended; its children have another parent by now.
            Ok(None) => {}
            // The unread part might have shown that the peer is an agent.
            Err(error) if process::is_no_room(&error) => return Err(error),
            Err(error) => tracing::debug!(pid, %error, "a peer is looked at again"),
        }
    }
    Ok(Look::Hidden(GONE))
}

/// A hold on the process that has connected, and on no other that has its pid later.
fn hold(stream: &UnixStream, pid: u32) -> io::Result<OwnedFd> {
    match getsockopt(&stream.as_fd(), sockopt::PeerPidfd) {
        Ok(pidfd) => Ok(pidfd),
        // Before Linux 6.5. It may have ended, and another may have its pid, between its connection and this.
        Err(nix::errno::Errno::ENOPROTOOPT) => Ok(pidfd_open(process::pid(pid)?, PidfdFlags::empty())?),
        Err(error) => Err(error.into()),
    }
}

fn has_ended(pidfd: &OwnedFd) -> io::Result<bool> {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    Ok(poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&now))? > 0)
}

/// A process and all above it. None: one of them has ended meanwhile.
fn above(pid: u32) -> io::Result<Option<Look>> {
    let (mut chain, mut marks) = (Vec::new(), Vec::new());
    // A child starts in its parent's control groups, so the peer's groups are enough.
    let groups = match std::fs::read_to_string(format!("/proc/{pid}/cgroup")) {
        Err(error) if process::is_no_room(&error) => return Err(error),
        groups => groups.unwrap_or_default(),
    };
    let mut next = pid;
    // 0 is above the first process of this PID namespace.
    while next != 0 {
        if chain.len() == DEPTH {
            return Ok(Some(Look::Hidden(DEEP)));
        }
        let (parent, started) = match process::parent_and_start(next) {
            Ok(found) => found,
            Err(error) if process::is_no_room(&error) => return Err(error),
            Err(error) => match chain.last() {
                // Where users see their own processes only, somebody else's ends the look, and no worker is above it: workers
                // are this user's. If it has ended, its child has another parent now.
                Some((child, _)) if process::parent_and_start(*child)?.0 == next => break,
                Some(_) => return Ok(None),
                None => return Err(error),
            },
        };
        // A process that is younger than its child reuses the pid: the parent has ended.
        if chain.last().is_some_and(|(_, child): &(u32, u64)| started > *child) {
            return Ok(None);
        }
        chain.push((next, started));
        marks.extend(marker_of(next)?);
        next = parent;
    }
    Ok(Some(Look::Above { chain, marks, groups }))
}

/// The marker in the environment of a process, if it has one and may be looked into.
fn marker_of(pid: u32) -> io::Result<Option<String>> {
    use std::io::Read;
    let mut environ = Vec::new();
    let file = match std::fs::File::open(format!("/proc/{pid}/environ")) {
        Err(error) if process::is_no_room(&error) => return Err(error),
        Err(_) => return Ok(None),
        Ok(file) => file,
    };
    if file.take(ENVIRON).read_to_end(&mut environ).is_err() {
        return Ok(None);
    }
    let mut variables = environ.split(|byte| *byte == 0);
    let marker = variables.find_map(|one| one.strip_prefix(MARKER.as_bytes())?.strip_prefix(b"="));
    Ok(marker.map(|marker| String::from_utf8_lossy(marker).into_owned()))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use tokio::net::UnixListener;

    use super::*;

    #[tokio::test]
    async fn this_process_is_known_and_a_child_is_below_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let client = UnixStream::connect(&path).await.unwrap();
        let (here, _) = listener.accept().await.unwrap();
        assert_eq!(look(&here).unwrap(), Look::Own);
        drop(client);
        let mut child =
            Command::new("sleep").arg("1000").env(MARKER, "u/s/1").stdin(Stdio::null()).spawn().unwrap();
        let Some(Look::Above { chain, marks, .. }) = above(child.id()).unwrap() else { panic!() };
        assert_eq!((chain[0].0, chain[1].0), (child.id(), std::process::id()));
        assert!(chain.windows(2).all(|pair| pair[0].1 >= pair[1].1));
        assert!(marks.is_empty() || marks[0] == "u/s/1", "{marks:?}");
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(above(child.id()).is_err());
    }
}
