//! The zygote: a process of the worker program that was started once and forks each worker. So a worker costs no exec, no start
//! of its C library and no memory of its own for what they make. A worker is this process's child all the same (clone(2),
//! `CLONE_PARENT`).
//!
//! It is a convenience: whatever is wrong with it, workers are spawned without.

use std::fs::{File, Metadata};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use protocol::zygote::{ANSWER, ROOM, ROOM_BYTES};
use protocol::{MARKER, failpoint};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, recv, socketpair};
use rustix::process::{PidfdFlags, Signal, pidfd_open};

use crate::system::{packet, process};

/// The longest wait for an answer. A fork takes a fraction of a millisecond; a zygote that was stopped never answers.
const ANSWERS_WITHIN: Duration = Duration::from_millis(200);

/// A running zygote.
pub struct Zygote {
    socket: OwnedFd,
    pid: u32,
    pidfd: OwnedFd,
    /// The standard error of a worker that has no log yet.
    nothing: File,
    /// The file that it runs.
    program: Program,
}

/// A program's file, as far as another one in its place can be told from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Program {
    file: (u64, u64),
    changed: (i64, i64),
}

impl Program {
    /// The program that this file is now.
    pub fn at(path: &Path) -> io::Result<Self> {
        let found: Metadata = std::fs::metadata(path)?;
        Ok(Self { file: (found.dev(), found.ino()), changed: (found.ctime(), found.ctime_nsec()) })
    }
}

impl Zygote {
    /// Starts a zygote with this marker. Whether the program can be one is only seen when it is asked for a worker.
    pub fn start(path: &Path, program: Program, marker: &str) -> io::Result<Self> {
        let (socket, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let nothing = File::options().write(true).open("/dev/null")?;
        let mut command = Command::new(path);
        command.env_clear().env(MARKER, marker).env(ROOM, "-".repeat(ROOM_BYTES));
        failpoint::inherit(&mut command);
        let child = command.stdin(Stdio::from(theirs)).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        // Only the supervisor reaps. Until then the pid belongs to this child, alive or dead.
        let pidfd = process::pid(child.id()).and_then(|pid| Ok(pidfd_open(pid, PidfdFlags::empty())?));
        match pidfd {
            Ok(pidfd) => Ok(Self { nothing, socket, pid: child.id(), pidfd, program }),
            Err(error) => {
                let mut child = child;
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }

    /// The file that it runs.
    pub fn program(&self) -> Program {
        self.program
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The handle of its process.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Asks for a worker with this marker, these pipes as standard input and output, and this standard error; none is nothing.
    /// [`answer`](Self::answer) gives its pid.
    pub fn ask(&self, marker: &str, pipes: &[OwnedFd; 2], errors: Option<&File>) -> io::Result<()> {
        let errors = errors.unwrap_or(&self.nothing);
        let streams = [pipes[0].as_fd(), pipes[1].as_fd(), errors.as_fd()];
        packet::send(&self.socket, marker.as_bytes(), &streams)
    }

    /// The pid of the next worker that was asked for, in the order of the questions. The inner error is that of the fork. The outer
    /// one means that the zygote is of no use any more.
    pub fn answer(&self) -> Result<Result<u32, io::Error>, io::Error> {
        let until = Instant::now() + ANSWERS_WITHIN;
        loop {
            let left =
                Timespec::try_from(until.saturating_duration_since(Instant::now())).unwrap_or_default();
            match poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], Some(&left)) {
                Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
                Ok(_) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let mut answer = [0; ANSWER];
        let (_, length) = recv(&self.socket, &mut answer[..], RecvFlags::DONTWAIT)?;
        if length != ANSWER {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let number = i32::from_le_bytes(answer);
        Ok(u32::try_from(number).map_err(|_| io::Error::from_raw_os_error(-number)))
    }

    /// Ends it. Gives the handle of what is still to be reaped: SIGKILL takes a moment, and on a busy machine a long one.
    pub fn end(self) -> Option<OwnedFd> {
        process::signal(self.pidfd(), Signal::KILL);
        (!process::reap(self.pidfd())).then_some(self.pidfd)
    }
}
