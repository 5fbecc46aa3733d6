//! Descriptors that MCP servers can inherit from the worker, by way of the agent that starts them: kennel's own reaches
//! the manager so where the socket's path leads nowhere.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use protocol::wire::McpServer;
use protocol::{MCP_FD, SOCKET};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::FdFlags;

/// The first number. Node.js keeps all up to the first gap after 15 to itself.
const FIRST: i32 = 200;

/// Opens the sockets that servers are told of, and tells them under which number. What cannot be opened is reached by its
/// path, or not at all, as the server finds it.
pub fn open(servers: &mut [McpServer]) -> Vec<OwnedFd> {
    let mut open = Vec::new();
    for server in servers {
        let named = |name: &str| server.env.iter().find(|(known, _)| known == name);
        let Some((_, path)) = named(SOCKET).filter(|_| named(MCP_FD).is_none()) else { continue };
        let Ok(socket) = open_socket(path) else { continue };
        server.env.push((MCP_FD.to_owned(), socket.as_raw_fd().to_string()));
        open.push(socket);
    }
    open
}

/// Not a connection: the servers of an agent are several processes with the same descriptors, and each makes its own.
fn open_socket(path: &str) -> io::Result<OwnedFd> {
    let found = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    if FileType::from_raw_mode(rustix::fs::fstat(&found)?.st_mode) != FileType::Socket {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    Ok(rustix::io::fcntl_dupfd_cloexec(&found, FIRST)?)
}

/// Lets the next program have them.
pub fn hand_on(open: &[OwnedFd]) -> io::Result<()> {
    open.iter().try_for_each(|fd| Ok(rustix::io::fcntl_setfd(fd, FdFlags::empty())?))
}
