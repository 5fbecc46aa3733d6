//! The worker from its start to the manager's `Welcome`: it detaches from its launcher, says `Hello` and waits.

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

/// Moves the frame pipes off descriptors 0 and 1, so that no output mixes with the frames and no child inherits them.
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

/// Makes a socket that wakes the worker on SIGCHLD and SIGTERM. SIGHUP and SIGINT belong to the terminal; the worker
/// catches them without effect, because children would inherit "ignored".
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

/// A worker before its `Welcome`: it waits and does nothing else.
pub(super) struct Handshake {
    pub(super) link: Link,
    pub(super) bell: UnixStream,
    pub(super) terminated: Arc<AtomicBool>,
}

impl Handshake {
    /// Says `Hello` and waits for the `Welcome`. Returns it, or the exit status if the link ends or SIGTERM arrives first.
    /// Errors: the first message is not a `Welcome`.
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

/// Empties the socket that signals write to.
pub(super) fn answer(bell: &UnixStream) {
    let mut rings = [0; 64];
    while matches!(bell.try_read(&mut rings), Ok(n) if n > 0) {}
}
