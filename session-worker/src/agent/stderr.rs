//! The agent's standard error, which the worker copies into the session's log.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use tokio::net::unix::pipe;

use crate::agent::text::Tail;
use crate::logfile::raw;
use crate::pipes::is_transient;

/// Size of a read from an agent's standard error, in bytes.
const READ: usize = 64 * 1024;
/// Reads of what an agent wrote before its death: a pipe holds 1 MiB at most (pipe(7)).
const LAST_READS: usize = 32;

/// Our end of an agent's standard error.
#[derive(Debug)]
pub struct Stderr {
    pipe: Option<pipe::Receiver>,
    /// The end of the agent's output.
    tail: Tail,
}

impl Stderr {
    /// A new one, and the agent's end.
    pub fn pipe() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        Ok((Self { pipe: Some(pipe::Receiver::from_owned_fd(ours)?), tail: Tail::default() }, theirs))
    }

    /// The end of the agent's output.
    pub fn tail(&self) -> String {
        self.tail.text()
    }

    /// Resolves when [`Stderr::read`] may get further.
    pub async fn readable(&self) {
        match &self.pipe {
            Some(pipe) => drop(pipe.readable().await),
            None => std::future::pending().await,
        }
    }

    /// Reads one piece of the agent's output, writes it to the log and returns it. One piece only, so that an agent that never
    /// pauses does not block the worker.
    pub fn read(&mut self) -> Vec<u8> {
        let Some(pipe) = &self.pipe else { return Vec::new() };
        let mut buffer = vec![0; READ];
        match pipe.try_read(&mut buffer) {
            Ok(n) if n > 0 => {
                raw(&buffer[..n]);
                self.tail.push(&buffer[..n]);
                buffer.truncate(n);
                return buffer;
            }
            Err(error) if is_transient(&error) => {}
            Ok(_) | Err(_) => self.pipe = None,
        }
        Vec::new()
    }

    /// The same with all that is there, whatever the runtime knows of the pipe: its writer is dead. Its end is not waited
    /// for, nor is more read than a pipe can hold: a process elsewhere may have it open.
    pub fn drain(&mut self) {
        let Some(pipe) = &self.pipe else { return };
        let mut buffer = vec![0; READ];
        for _ in 0..LAST_READS {
            match rustix::io::read(pipe, &mut buffer) {
                Ok(n) if n > 0 => {
                    raw(&buffer[..n]);
                    self.tail.push(&buffer[..n]);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Ok(_) | Err(_) => {
                    self.pipe = None;
                    return;
                }
            }
        }
    }
}
