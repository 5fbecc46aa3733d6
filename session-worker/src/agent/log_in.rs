//! A log-in: a vendor's program on a pseudo-terminal of its own, which a person finishes from wherever they are.
//!
//! Nothing of what is typed or shown is logged. The program's output is read only as far as the manager has asked for: beyond that it
//! stays in the terminal, and the program waits.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use nix::pty::{Winsize, openpty};
use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
use protocol::wire::{Report, Unlogged};
use protocol::{Exit, bounds};
use rustix::fs::OFlags;
use rustix::io::FdFlags;
use rustix::process::Pid;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::program::{self, Launch, Plan, Start};
use crate::pipes::is_transient;

/// Columns and rows of the terminal. So wide that no program breaks a link in two.
const COLUMNS: u16 = 1000;
const ROWS: u16 = 50;
/// The most that was typed and that the program has not read yet, in bytes.
const TYPED: usize = 64 * 1024;
/// The most that is read from the terminal after the program's end, in bytes. The kernel keeps less.
const REST: usize = 64 * 1024;

/// A log-in that runs.
pub struct LogIn {
    pid: Pid,
    start: Start,
    master: AsyncFd<OwnedFd>,
    /// Kept open: a program that closes the terminal for a moment and opens it again loses nothing.
    _slave: OwnedFd,
    typed: VecDeque<u8>,
    /// Bytes of output so far, and up to which byte there may be.
    shown: u64,
    room: u64,
    exit: Option<Exit>,
}

impl LogIn {
    /// Starts the program. `argv` has its absolute path and its arguments.
    pub fn start(launch: &Launch, argv: &[String]) -> io::Result<Self> {
        let size = Winsize { ws_row: ROWS, ws_col: COLUMNS, ws_xpixel: 0, ws_ypixel: 0 };
        let pair = openpty(&size, None)?;
        // What is typed may be a secret, and many a program that asks for one leaves it to the terminal not to show it.
        let mut settings = tcgetattr(&pair.slave)?;
        settings.local_flags.remove(LocalFlags::ECHO);
        tcsetattr(&pair.slave, SetArg::TCSANOW, &settings)?;
        // The worker starts nothing between these two lines.
        for end in [&pair.master, &pair.slave] {
            rustix::io::fcntl_setfd(end, FdFlags::CLOEXEC)?;
        }
        let flags = rustix::fs::fcntl_getfl(&pair.master)?;
        rustix::fs::fcntl_setfl(&pair.master, flags | OFlags::NONBLOCK)?;
        #[allow(
            deprecated,
            reason = "the other way is unsafe; an `OwnedFd` stays what it is while it is registered"
        )]
        let master = AsyncFd::with_interest(pair.master, Interest::READABLE | Interest::WRITABLE)?;
        let argv: Vec<String> = std::iter::once("log-in".to_owned()).chain(argv.iter().cloned()).collect();
        let plan = Plan {
            argv: &argv,
            own: true,
            directory: PathBuf::new(),
            env: &[],
            stdin: pair.slave.try_clone()?.into(),
            stdout: pair.slave.try_clone()?.into(),
            stderr: pair.slave.try_clone()?.into(),
        };
        let (pid, start) = program::start(launch, plan)?;
        let room = bounds::LOGIN_WINDOW as u64;
        let typed = VecDeque::new();
        Ok(Self { pid, start, master, _slave: pair.slave, typed, shown: 0, room, exit: None })
    }

    /// Takes what a person has typed. Returns false if the program does not read what was typed before.
    pub fn type_in(&mut self, bytes: &[u8]) -> bool {
        if self.typed.len() + bytes.len() > TYPED {
            return false;
        }
        self.typed.extend(bytes);
        self.write();
        true
    }

    /// Notes up to which byte output is wanted.
    pub fn make_room(&mut self, upto: u64) {
        self.room = self.room.max(upto);
    }

    /// Resolves when [`LogIn::work`] may get further. Output is read only if there is `room` for it.
    pub async fn ready(&self, room: bool) {
        let wants_output = room && self.shown < self.room;
        tokio::select! {
            () = self.start.readable() => {}
            () = async { match wants_output {
                true => drop(self.master.readable().await),
                false => std::future::pending().await,
            }} => {}
            () = async { match self.typed.is_empty() {
                false => drop(self.master.writable().await),
                true => std::future::pending().await,
            }} => {}
        }
    }

    /// Types what waits, and reads once. Gives the output.
    pub fn work(&mut self, room: bool) -> Option<Report> {
        let _ = self.start.read();
        // A namespace tells of the program's end before its own, for which it waits.
        self.exit = self.exit.or_else(|| self.start.exit());
        self.write();
        let most = usize::try_from(self.room.saturating_sub(self.shown)).unwrap_or(usize::MAX);
        if room { self.read(most) } else { None }
    }

    /// Notes the end of a process, if it is the program's.
    pub fn ended(&mut self, pid: Pid, exit: Exit) {
        if self.pid == pid && self.exit.is_none() {
            self.exit = Some(self.start.exit_of_child(exit));
        }
    }

    /// Returns true if the program has ended.
    pub fn is_over(&self) -> bool {
        self.exit.is_some()
    }

    /// The rest of the output, and the end. Nothing of the log-in lives any more.
    pub fn last_words(mut self, message: Option<String>) -> Vec<Report> {
        let mut reports = Vec::new();
        let end = self.shown + REST as u64;
        while self.shown < end
            && let Some(report) = self.read(REST)
        {
            reports.push(report);
        }
        let failure = self.start.failure();
        let exit = self.exit.filter(|_| failure.is_none());
        reports.push(Report::LogInEnded { exit, message: message.or(failure).unwrap_or_default() });
        reports
    }

    fn read(&mut self, most: usize) -> Option<Report> {
        let mut buffer = vec![0; most.min(bounds::LOGIN_PIECE)];
        if buffer.is_empty() {
            return None;
        }
        let read = |master: &OwnedFd| Ok(rustix::io::read(master, &mut buffer)?);
        let count = self.master.try_io(Interest::READABLE, read).unwrap_or(0);
        buffer.truncate(count);
        self.shown += count as u64;
        (count > 0).then_some(Report::LogInOutput { bytes: Unlogged(buffer) })
    }

    fn write(&mut self) {
        while !self.typed.is_empty() {
            let (front, _) = self.typed.as_slices();
            let write = |master: &OwnedFd| Ok(rustix::io::write(master, front)?);
            match self.master.try_io(Interest::WRITABLE, write) {
                Ok(count) => drop(self.typed.drain(..count)),
                Err(error) if is_transient(&error) => return,
                // The terminal takes nothing more.
                Err(_) => self.typed.clear(),
            }
        }
    }
}
