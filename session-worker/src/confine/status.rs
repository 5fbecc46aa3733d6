//! Status packets of the trampoline and of the namespace's first process to the worker, and the check of their sender.
//!
//! The packets arrive on a socket. The kernel adds the sender's pid to each packet (`SCM_CREDENTIALS`, unix(7)), in the
//! worker's PID namespace. So no other process can speak for the namespace's first process, whatever descriptors it gets.
//! The agent's process arrives as a pidfd, not as a number.
//!
//! ```text
//! first process                     worker
//!   Here                 ──▶   is it a child of the keeper?
//!                        ◀──   go on
//!   Runs + pidfd         ──▶   is that a child of the first process?
//!                        ◀──   go on
//!   Ended(exit)          ──▶
//! ```
//!
//! The trampoline says [`Word::Failed`] or nothing: its end closes at exec, which means that the program runs.

use std::ffi::OsString;
use std::fs;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use protocol::Exit;
use protocol::frame::{self, Decoder};
use rustix::io::{Errno, FdFlags};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use rustix::process::Pid;
use serde::{Deserialize, Serialize};

use super::{Failed, syscalls};

/// The longest reason, in bytes: a path and an error text.
const REASON: usize = 6 * 1024;
/// The longest packet, in bytes.
const PACKET: usize = 8 * 1024;

/// A packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Word {
    /// The first process of the namespace is there, and dies with the keeper from now on.
    Here,
    /// The program runs. A pidfd of it comes with the packet.
    Runs {
        /// The program has a `/proc` of its own, which shows the pids of its namespace.
        own_proc: bool,
    },
    /// The program has ended.
    Ended(Exit),
    /// The program does not run: why, for a person.
    Failed(String),
    /// Like `Failed`: the kernel refused to execute the program itself.
    Absent(String),
}

/// Reason for which a program does not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotRun {
    /// The confinement could not be made. The text is for a person.
    Unprepared(String),
    /// The kernel refused to execute the program: it is missing, or another process is writing it. The text is for a person.
    Absent(String),
}

impl NotRun {
    /// The kernel's answer to the last exec.
    pub fn refused(program: &str, error: &io::Error) -> Self {
        let reason = format!("cannot run {program}: {error}");
        match error.raw_os_error() {
            // The same arguments are too long the next time, or none (std finds a NUL before the kernel is asked).
            Some(errno) if errno != Errno::TOOBIG.raw_os_error() => NotRun::Absent(reason),
            _ => NotRun::Unprepared(reason),
        }
    }
}

impl From<String> for NotRun {
    fn from(reason: String) -> Self {
        NotRun::Unprepared(reason)
    }
}

/// Error text for a step of the preparation that failed.
pub fn unprepared((step, error): &Failed) -> String {
    format!("cannot prepare the agent's process: {step}: {error}")
}

/// Error text for a working directory that the program cannot enter.
pub fn no_workdir(workdir: &str, error: &io::Error) -> String {
    format!("cannot enter the working directory {workdir}: {error}")
}

/// Prints that a person must not start this command, and returns the exit status.
pub fn internal() -> u8 {
    eprintln!("this is internal to session-worker");
    crate::exit::USAGE
}

/// The descriptor that an argument names. exec closes it, so that the program gets 0, 1 and 2 and what it is meant to have.
pub fn inherited(args: &[OsString], n: usize) -> Option<OwnedFd> {
    syscalls::take_inherited(args.get(n)?.to_str()?.parse().ok()?).ok()
}

/// A packet with the sender that the kernel names.
pub struct Heard {
    /// The packet's content.
    pub word: Word,
    /// The sender's process, in the receiver's PID namespace.
    pub sender: Pid,
    /// The pidfd that came with the packet; absent for most words.
    pub pidfd: Option<OwnedFd>,
}

/// Makes the socket: the worker's end and the inherited end. exec closes both until [`inherit`].
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    rustix::net::sockopt::set_socket_passcred(&ours, true)?;
    Ok((ours, theirs))
}

/// Makes a descriptor inheritable by the next program.
pub fn inherit(fd: impl AsFd) -> io::Result<()> {
    Ok(rustix::io::fcntl_setfd(fd, FdFlags::empty())?)
}

/// Says something; `pidfd` goes with it.
pub fn say(socket: impl AsFd, word: &Word, pidfd: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let mut bytes = Vec::new();
    frame::encode(word, &mut bytes).map_err(io::Error::other)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let pidfd = pidfd.map(|pidfd| [pidfd]);
    if let Some(pidfd) = &pidfd {
        ancillary.push(SendAncillaryMessage::ScmRights(pidfd));
    }
    sendmsg(socket, &[IoSlice::new(&bytes)], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Sends the reason for which the program does not run. Ignores errors: then the worker is gone.
pub fn say_failed(socket: impl AsFd, reason: NotRun) {
    let bounded = |mut reason: String| {
        let mut end = reason.len().min(REASON);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        reason.truncate(end);
        reason
    };
    let word = match reason {
        NotRun::Unprepared(reason) => Word::Failed(bounded(reason)),
        NotRun::Absent(reason) => Word::Absent(bounded(reason)),
    };
    let _ = say(socket, &word, None);
}

/// Hears a packet; `None` at the end. `wait` blocks until there is one.
pub fn hear(socket: impl AsFd, wait: bool) -> io::Result<Option<Heard>> {
    let mut bytes = [0; PACKET];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1), ScmCredentials(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = if wait { RecvFlags::empty() } else { RecvFlags::DONTWAIT } | RecvFlags::CMSG_CLOEXEC;
    let got = recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, flags)?;
    let (mut sender, mut pidfd) = (None, None);
    for message in ancillary.drain() {
        match message {
            RecvAncillaryMessage::ScmCredentials(credentials) => sender = Some(credentials.pid),
            RecvAncillaryMessage::ScmRights(mut all) => pidfd = all.next(),
            _ => {}
        }
    }
    let Some(sender) = sender.filter(|_| got.bytes > 0) else { return Ok(None) };
    let mut decoder = Decoder::default();
    decoder.feed(&bytes[..got.bytes]);
    match decoder.take() {
        Ok(Some(word)) => Ok(Some(Heard { word, sender, pidfd })),
        Ok(None) | Err(_) => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// The worker's word: go on.
pub fn go_on(socket: impl AsFd) -> io::Result<()> {
    rustix::net::send(socket, b"+", SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?;
    Ok(())
}

/// Waits for that word.
pub fn wait_for_word(socket: impl AsFd) -> io::Result<()> {
    loop {
        return match rustix::net::recv(&socket, &mut [0; 1][..], RecvFlags::empty()) {
            Ok((0, _)) => Err(io::Error::other("the worker is gone")),
            Ok(_) => Ok(()),
            Err(Errno::INTR) => continue,
            Err(error) => Err(error.into()),
        };
    }
}

/// The parent of a process that is there, or a zombie.
pub fn parent_of(pid: Pid) -> Option<Pid> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in brackets may hold anything.
    Pid::from_raw(stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?)
}

/// The pid that a pidfd stands for, in the PID namespace of this `/proc` (pidfd_open(2)); none once it is reaped.
pub fn pid_of(pidfd: impl AsFd) -> Option<Pid> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_fd().as_raw_fd())).ok()?;
    let pid: i32 = info.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok())?;
    // A process that was reaped has -1, which is no pid, and to kill(2) everybody's.
    Pid::from_raw(pid.max(0))
}

/// Facts about a program that the worker has received and checked.
#[derive(Debug, Default)]
pub struct Known {
    /// The first process of the namespace.
    pub init: Option<Pid>,
    /// The program, and whether it has a `/proc` of its own.
    pub agent: Option<(Pid, bool)>,
    /// Exit of the program; absent while it runs.
    pub exit: Option<Exit>,
    /// Reason for which the program does not run; absent otherwise.
    pub failure: Option<String>,
    /// The kernel refused to execute the program itself.
    pub is_absent: bool,
}

impl Known {
    /// Takes a packet, after asking the kernel whether it can be true. `child` is the worker's child, which keeps the
    /// namespace.
    ///
    /// # Errors
    /// The part that does not agree. Nothing is taken then.
    pub fn take(&mut self, socket: impl AsFd, child: Pid, heard: Heard) -> Result<(), &'static str> {
        let Heard { word, sender, pidfd } = heard;
        let from_init = self.init == Some(sender);
        match word {
            Word::Here if self.init.is_none() && parent_of(sender) == Some(child) => {
                self.init = Some(sender);
                go_on(socket).map_err(|_| "it is gone")
            }
            Word::Here => Err("it is not the first process of the agent's namespace"),
            Word::Runs { own_proc } if from_init && self.agent.is_none() => {
                let agent = pidfd.as_ref().and_then(pid_of).ok_or("it has named no process")?;
                if parent_of(agent) != self.init {
                    return Err("it has named a process that is not its own");
                }
                self.agent = Some((agent, own_proc));
                go_on(socket).map_err(|_| "it is gone")
            }
            Word::Ended(exit) if from_init && self.agent.is_some() && self.exit.is_none() => {
                self.exit = Some(exit);
                Ok(())
            }
            Word::Failed(reason) if self.may_fail(sender, child) => {
                self.failure = Some(reason);
                Ok(())
            }
            Word::Absent(reason) if self.may_fail(sender, child) => {
                (self.failure, self.is_absent) = (Some(reason), true);
                Ok(())
            }
            Word::Runs { .. } | Word::Ended(_) | Word::Failed(_) | Word::Absent(_) => {
                Err("another process has said it")
            }
        }
    }
}

impl Known {
    /// Returns true if the kernel-named sender can know that the program does not run.
    fn may_fail(&self, sender: Pid, child: Pid) -> bool {
        self.agent.is_none() && (sender == child || self.init.is_none_or(|init| init == sender))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_heard_as_it_was_said_with_the_sender_that_the_kernel_names() {
        let (ours, theirs) = pair().unwrap();
        let me = rustix::process::getpid();
        let words = [
            Word::Here,
            Word::Runs { own_proc: true },
            Word::Ended(Exit::Signal(9)),
            Word::Failed("ä".into()),
            Word::Absent("ä".into()),
        ];
        for word in words {
            say(&theirs, &word, None).unwrap();
            let heard = hear(&ours, true).unwrap().unwrap();
            assert_eq!((heard.word, heard.sender), (word, me));
        }
        say_failed(&theirs, "ä".repeat(PACKET).into());
        let Word::Failed(reason) = hear(&ours, true).unwrap().unwrap().word else { panic!("another word") };
        assert_eq!(reason.len(), REASON);
        rustix::net::send(&theirs, b"not a frame", SendFlags::empty()).unwrap();
        assert!(hear(&ours, true).is_err());
        drop(theirs);
        assert!(hear(&ours, true).unwrap().is_none());
    }

    #[test]
    fn a_process_that_was_reaped_has_no_pid() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = Pid::from_child(&child);
        let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
        assert_eq!(pid_of(&pidfd), Some(pid));
        child.wait().unwrap();
        assert_eq!(pid_of(&pidfd), None);
    }

    #[test]
    fn what_the_kernel_does_not_confirm_is_not_believed() {
        let (ours, theirs) = pair().unwrap();
        let (me, parent) = (rustix::process::getpid(), rustix::process::getppid().unwrap());
        let pidfd = rustix::process::pidfd_open(me, rustix::process::PidfdFlags::empty()).unwrap();
        let heard = |word: &Word, pidfd: Option<BorrowedFd<'_>>| {
            say(&theirs, word, pidfd).unwrap();
            hear(&ours, true).unwrap().unwrap()
        };
        let mut known = Known::default();
        // This process is no child of itself.
        assert!(known.take(&ours, me, heard(&Word::Here, None)).is_err());
        // Whoever has not been here runs nothing, and ends nothing.
        assert!(
            known.take(&ours, parent, heard(&Word::Runs { own_proc: true }, Some(pidfd.as_fd()))).is_err()
        );
        assert!(known.take(&ours, parent, heard(&Word::Ended(Exit::Code(0)), None)).is_err());
        known.take(&ours, parent, heard(&Word::Here, None)).unwrap();
        assert!(known.take(&ours, parent, heard(&Word::Here, None)).is_err(), "a second one");
        assert!(
            known.take(&ours, parent, heard(&Word::Runs { own_proc: true }, None)).is_err(),
            "no process"
        );
        let other = known.take(&ours, parent, heard(&Word::Runs { own_proc: true }, Some(pidfd.as_fd())));
        assert_eq!(other, Err("it has named a process that is not its own"));
        assert_eq!((known.agent, known.exit, known.failure), (None, None, None));
    }
}
