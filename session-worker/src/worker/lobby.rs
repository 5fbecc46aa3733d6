//! From the first instruction to the Welcome: a process of its own, with nothing of its launcher's, that waits for its papers.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use protocol::failpoint;
use protocol::wire::{Command, PROTOCOL_VERSION, Report, ToWorker, Welcome};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use tokio::net::UnixStream;

use super::Error;
use crate::link::{Link, Received};
use crate::{exit, version};

/// Moves the frame pipes off 0 and 1, so that nothing that prints can get between the frames and nothing below
/// inherits them.
pub(super) fn take_pipes() -> io::Result<(OwnedFd, OwnedFd)> {
    let input = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    let output = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?;
    rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
    rustix::stdio::dup2_stdout(rustix::stdio::stderr())?;
    Ok((input, output))
}

pub(super) fn lead_session() -> io::Result<()> {
    match rustix::process::setsid() {
        Ok(_) => Ok(()),
        Err(_) if rustix::process::getsid(None)? == rustix::process::getpid() => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// One doorbell for SIGCHLD and SIGTERM. SIGHUP and SIGINT are the terminal's, and this is not its process;
/// caught and not ignored, because "ignored" would be inherited.
pub(super) fn signals(terminated: &Arc<AtomicBool>) -> io::Result<StdUnixStream> {
    let (bell, rope) = StdUnixStream::pair()?;
    bell.set_nonblocking(true)?;
    signal_hook::flag::register(SIGTERM, Arc::clone(terminated))?;
    signal_hook::low_level::pipe::register(SIGTERM, rope.try_clone()?)?;
    signal_hook::low_level::pipe::register(SIGCHLD, rope)?;
    let unheard = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(SIGHUP, Arc::clone(&unheard))?;
    signal_hook::flag::register(SIGINT, unheard)?;
    Ok(bell)
}

/// A worker that has no papers yet and must not do anything.
pub(super) struct Lobby {
    pub(super) link: Link,
    pub(super) bell: UnixStream,
    pub(super) terminated: Arc<AtomicBool>,
}

impl Lobby {
    /// The papers, or the status to leave with.
    pub(super) async fn wait_for_welcome(&mut self) -> Result<Result<Box<Welcome>, u8>, Error> {
        failpoint::hit("worker", "hello");
        self.link.greet(hello(0))?;
        loop {
            tokio::select! {
                _ = self.bell.readable() => {
                    answer(&self.bell);
                    if self.terminated.load(Ordering::Relaxed) {
                        return Ok(Err(exit::TERMINATED));
                    }
                }
                () = self.link.writable(), if !self.link.is_flushed() => self.link.flush(),
                () = self.link.readable() => match self.link.receive() {
                    Ok(Received::Some) => {}
                    Ok(Received::End) | Err(_) => return Ok(Err(exit::DONE)),
                },
            }
            if self.link.is_broken() {
                return Ok(Err(exit::DONE));
            }
            match self.link.next() {
                Ok(None) => {}
                Ok(Some(ToWorker { incarnation, body: Command::Welcome(welcome), .. })) => {
                    self.link.belong_to(incarnation);
                    return Ok(Ok(welcome));
                }
                Ok(Some(_)) => {
                    return Err(Error::NotWelcome("a command that needs a Welcome before it".to_owned()));
                }
                Err(error) => return Err(Error::NotWelcome(error.to_string())),
            }
        }
    }
}

pub(super) fn hello(resume_from: u64) -> Report {
    Report::Hello { protocol: PROTOCOL_VERSION, build: version::NAME.to_owned(), resume_from }
}

/// Empties the doorbell.
pub(super) fn answer(bell: &UnixStream) {
    let mut rings = [0; 64];
    while matches!(bell.try_read(&mut rings), Ok(n) if n > 0) {}
}
