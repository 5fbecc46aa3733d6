//! The zygote: a process of this program that forks the workers. It does nothing else, has one thread, and ends with its manager.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

use protocol::zygote::{ROOM, ROOM_BYTES};
use protocol::{MARKER, failpoint};
use rustix::net::sockopt::socket_type;
use rustix::net::{SendFlags, SocketType, send};

use crate::confine::syscalls::fork_sibling;
use crate::exit;
use crate::logfile::log;
use crate::packet;

/// The process that [`run`] returns in.
pub enum Born {
    /// A new worker, with its own standard streams and marker.
    Worker,
    /// The zygote, at its end, with the status to leave with.
    Zygote(u8),
}

/// Returns true if this process is to be a zygote: its standard input is a socket of packets.
pub fn is_meant() -> bool {
    socket_type(rustix::stdio::stdin()).is_ok_and(|kind| kind == SocketType::SEQPACKET)
}

/// Forks workers until the manager is gone. Returns in each of them, too.
pub fn run() -> Born {
    // A group of its own: what a terminal sends to the manager's is not meant for it.
    let _ = rustix::process::setsid();
    let place = match Place::find() {
        Ok(place) => place,
        Err(error) => {
            log(&format!("no place for a marker: {error}"));
            return Born::Zygote(exit::FAULT);
        }
    };
    loop {
        let (marker, streams) = match next() {
            Ok(Some(asked)) => asked,
            Ok(None) => return Born::Zygote(exit::DONE),
            Err(error) => {
                log(&format!("the manager's question: {error}"));
                return Born::Zygote(exit::FAULT);
            }
        };
        let answer = match place.holds(&marker).and_then(|()| fork_sibling()) {
            Ok(0) => match be(&place, &marker, streams) {
                Ok(()) => return Born::Worker,
                Err(error) => {
                    log(&format!("a worker cannot begin: {error}"));
                    return Born::Zygote(exit::FAULT);
                }
            },
            Ok(pid) => pid,
            Err(error) => -error.raw_os_error().unwrap_or(libc::EINVAL),
        };
        failpoint::hit("zygote", "forked");
        // The streams are the worker's alone from here on.
        drop(streams);
        if send(rustix::stdio::stdin(), &answer.to_le_bytes(), SendFlags::NOSIGNAL).is_err() {
            return Born::Zygote(exit::DONE);
        }
    }
}

/// Waits for the next question. None: the manager is gone.
fn next() -> io::Result<Option<(Vec<u8>, [OwnedFd; 3])>> {
    let (marker, handed) = packet::receive(rustix::stdio::stdin(), ROOM_BYTES)?;
    if marker.is_empty() {
        return Ok(None);
    }
    let streams = handed.try_into().map_err(|_| io::ErrorKind::InvalidData)?;
    Ok(Some((marker, streams)))
}

/// In the new process: takes the streams and the marker.
fn be(place: &Place, marker: &[u8], [input, output, errors]: [OwnedFd; 3]) -> io::Result<()> {
    place.write(marker)?;
    rustix::stdio::dup2_stdin(input.as_fd())?;
    rustix::stdio::dup2_stdout(output.as_fd())?;
    rustix::stdio::dup2_stderr(errors.as_fd())?;
    Ok(())
}

/// The memory in which the kernel reads this process's marker (`/proc/PID/environ`), and its neighbour's, which has room.
struct Place {
    address: u64,
    length: usize,
}

impl Place {
    /// Finds the value of the marker's variable in the environment with which this process was started.
    fn find() -> io::Result<Self> {
        let missing = || io::Error::from(io::ErrorKind::NotFound);
        let stat = std::fs::read_to_string("/proc/self/stat")?;
        let fields = stat.rsplit_once(')').ok_or_else(missing)?.1;
        // Field 50, `env_start` (proc_pid_stat(5)); the first after the name is 3.
        let start = fields.split_whitespace().nth(50 - 3).and_then(|field| field.parse::<u64>().ok());
        let environ = std::fs::read("/proc/self/environ")?;
        let (marker, room) = (format!("{MARKER}="), format!("{ROOM}="));
        let mut at = 0;
        let mut value = None;
        for variable in environ.split_inclusive(|byte| *byte == 0) {
            if variable.starts_with(marker.as_bytes()) {
                value = Some(at + marker.len());
            }
            at += variable.len();
            if let (Some(value), true) = (value, variable.starts_with(room.as_bytes())) {
                let address = start.ok_or_else(missing)? + value as u64;
                // A system that does not let a process write there has no use for a zygote: it says so before the first fork.
                memory()?.write_all_at(&environ[value..=value], address)?;
                // Without the last byte, which ends the string.
                return Ok(Self { address, length: at - 1 - value });
            }
        }
        Err(missing())
    }

    /// Returns whether a marker fits.
    fn holds(&self, marker: &[u8]) -> io::Result<()> {
        let fits = marker.len() <= self.length && !marker.contains(&0);
        if fits { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::E2BIG)) }
    }

    /// Puts this marker in place of the zygote's. What is left of the room is empty.
    fn write(&self, marker: &[u8]) -> io::Result<()> {
        let mut value = vec![0; self.length];
        value[..marker.len()].copy_from_slice(marker);
        memory()?.write_all_at(&value, self.address)
    }
}

/// This process's memory, as a file: the kernel checks the addresses (proc_pid_mem(5)).
fn memory() -> io::Result<File> {
    File::options().write(true).open("/proc/self/mem")
}
