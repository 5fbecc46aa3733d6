//! The processes of a campaign, found and held so that no other can be meant.

use std::os::fd::{AsFd, OwnedFd};

use nix::sys::signal::Signal;
use protocol::{MARKER, SessionId};
use rustix::process::{Pid, PidfdFlags, pidfd_open, pidfd_send_signal};

use super::host::{Host, children};
use crate::real;

/// A process, held so that no other can be meant.
pub struct Held {
    /// Its pid.
    pub pid: u32,
    pidfd: OwnedFd,
}

impl Held {
    /// The process, if it is of this campaign: it carries `marker`.
    fn of(pid: u32, marker: &[u8]) -> Option<Self> {
        let pidfd = pidfd_open(Pid::from_raw(i32::try_from(pid).ok()?)?, PidfdFlags::empty()).ok()?;
        // Looked at after it was opened: what is found there is what is held.
        let environ = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
        let marked = environ.split(|byte| *byte == 0).any(|variable| variable.starts_with(marker));
        marked.then_some(Self { pid, pidfd })
    }

    /// Sends it. Returns true if the process was there.
    pub fn signal(&self, signal: Signal) -> bool {
        let signal = rustix::process::Signal::from_named_raw(signal as i32).unwrap();
        let sent = pidfd_send_signal(self.pidfd.as_fd(), signal).is_ok();
        if signal == rustix::process::Signal::SEGV {
            // The Rust runtime takes the first for a fault at an address, finds none and goes on.
            let _ = pidfd_send_signal(self.pidfd.as_fd(), signal);
        }
        sent
    }
}

/// All processes below the managers of a campaign.
pub struct Herd<'a> {
    /// The parent of these processes.
    pub host: &'a Host,
    uuid: String,
    marker: Vec<u8>,
}

impl<'a> Herd<'a> {
    /// Those of the state directory `uuid`.
    pub fn new(host: &'a Host, uuid: &str) -> Self {
        Self { host, uuid: uuid.to_owned(), marker: format!("{MARKER}={uuid}/").into_bytes() }
    }

    /// It, if it is one of them.
    pub fn held(&self, pid: u32) -> Option<Held> {
        Held::of(pid, &self.marker)
    }

    /// All workers.
    pub fn workers(&self) -> Vec<Held> {
        let manager = self.host.daemon();
        // Those that a manager has left are ours until they have ended.
        let pids = manager.map(children).unwrap_or_default().into_iter().chain(self.host.orphans());
        let is_worker = |held: &Held| {
            let name = std::fs::read_to_string(format!("/proc/{}/comm", held.pid));
            name.is_ok_and(|name| name.trim_end() == "session-worker")
        };
        pids.filter_map(|pid| self.held(pid)).filter(is_worker).collect()
    }

    /// Returns the children of a worker: its agent, mostly.
    pub fn agents(&self, worker: u32) -> Vec<Held> {
        children(worker).into_iter().filter_map(|pid| self.held(pid)).collect()
    }

    /// All of them.
    pub fn everybody(&self) -> Vec<Held> {
        real::marked(&self.uuid).into_iter().filter_map(|pid| self.held(pid)).collect()
    }

    /// Returns the session of a process.
    pub fn session(&self, pid: u32) -> Option<SessionId> {
        real::session_of(pid)
    }
}

/// Returns true if a process is stopped.
pub fn is_stopped(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
}
