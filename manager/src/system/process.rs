//! Processes: spawn, identify, watch, signal, reap. Always by pidfd (pidfd_open(2)), never by a pid alone.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use protocol::{Exit, Identity};
use rustix::event::epoll;
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid,
};

/// A spawned worker.
pub struct Spawned {
    /// Identity of the process.
    pub identity: Identity,
    /// A hold on it that the kernel never gives to another process.
    pub pidfd: OwnedFd,
    /// Our end of its standard input.
    pub stdin: OwnedFd,
    /// Our end of its standard output.
    pub stdout: OwnedFd,
}

/// Finds the worker program to spawn. Searches each time, because an upgrade may replace the file.
pub fn worker_program(named: Option<&Path>) -> io::Result<PathBuf> {
    match named {
        Some(path) => std::path::absolute(path),
        None => {
            let exe = std::env::current_exe()?;
            // After an upgrade the link reads `…/kennel (deleted)`; the directory is what counts.
            let directory = exe.parent().ok_or(io::ErrorKind::NotFound)?;
            Ok(directory.join("session-worker"))
        }
    }
}

/// Returns true if a spawn failed because the machine lacks memory, processes or descriptors, not by the program's
/// fault.
pub fn is_no_room(error: &io::Error) -> bool {
    let codes = [Errno::AGAIN, Errno::NOMEM, Errno::MFILE, Errno::NFILE];
    error.raw_os_error().is_some_and(|code| codes.iter().any(|errno| errno.raw_os_error() == code))
}

/// A hold on the very process that `identity` names; none if it is gone, whoever has its pid now.
pub fn open(identity: &Identity, boot_id: &str) -> Option<OwnedFd> {
    if identity.boot_id != boot_id {
        return None;
    }
    let pidfd = pidfd_open(pid(identity.pid).ok()?, PidfdFlags::empty()).ok()?;
    // Asked after the pidfd was opened: if the answer fits, the pidfd is the right one.
    (start_time(identity.pid).ok()? == identity.start_time).then_some(pidfd)
}

/// Reads the exit of a dead child without reaping it: while the zombie stays, no other process gets its pid. `None`
/// while the child lives; [`Exit::Unknown`] for a process that is not our child.
pub fn peek(pidfd: BorrowedFd<'_>) -> Option<Exit> {
    exit_of(pidfd, WaitIdOptions::NOWAIT)
}

/// Lets go of a dead child. Returns false if it is not there to be let go of yet.
pub fn reap(pidfd: BorrowedFd<'_>) -> bool {
    exit_of(pidfd, WaitIdOptions::empty()).is_some()
}

fn exit_of(pidfd: BorrowedFd<'_>, more: WaitIdOptions) -> Option<Exit> {
    match waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED | WaitIdOptions::NOHANG | more) {
        Ok(None) => None,
        Ok(Some(status)) => match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Some(Exit::Code(code)),
            (_, Some(signal)) => Some(Exit::Signal(signal)),
            _ => Some(Exit::Unknown),
        },
        Err(_) => Some(Exit::Unknown),
    }
}

/// Kills a child that no other code knows yet, and reaps it. After SIGKILL the wait is short.
pub fn end(pidfd: BorrowedFd<'_>) {
    signal(pidfd, Signal::KILL);
    let _ = waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED);
}

/// The same for a child of which there is only the pid.
pub fn end_child(child: u32) {
    if let Ok(child) = pid(child) {
        let _ = rustix::process::kill_process(child, Signal::KILL);
        let _ = waitid(WaitId::Pid(child), WaitIdOptions::EXITED);
    }
}

/// Sends a signal. A process that is gone already does not mind.
pub fn signal(pidfd: BorrowedFd<'_>, signal: Signal) {
    let _ = pidfd_send_signal(pidfd, signal);
}

/// Returns true if somebody has stopped the process, or traces it and holds it: field 3 of `/proc/PID/stat`.
pub fn is_stopped(pid: u32) -> bool {
    stat(pid).and_then(|stat| field::<char>(&stat, 3)).is_ok_and(|state| matches!(state, 'T' | 't'))
}

/// Field 22 of `/proc/PID/stat`: when the process started, in clock ticks after boot (proc_pid_stat(5)).
pub fn start_time(pid: u32) -> io::Result<u64> {
    field(&stat(pid)?, 22)
}

/// Field 4 of `/proc/PID/stat`: the parent's pid, 0 if it is in another PID namespace.
pub fn parent(pid: u32) -> io::Result<u32> {
    field(&stat(pid)?, 4)
}

/// The longest chain of parents that is followed: a list that changes meanwhile could be a circle.
const GENERATIONS: usize = 4096;

/// The parent of a process, and its parent, and so on.
pub fn ancestors(pid: u32) -> impl Iterator<Item = u32> {
    let above = |pid: &u32| parent(*pid).ok().filter(|parent| *parent != 0);
    std::iter::successors(above(&pid), above).take(GENERATIONS)
}

/// Pids of this process and its ancestors.
pub fn line() -> BTreeSet<u32> {
    let me = std::process::id();
    [me].into_iter().chain(ancestors(me)).collect()
}

/// Field 6 of `/proc/PID/stat`: the pid of the leader of the process's session, 0 if it is in another PID namespace.
pub fn leader(pid: u32) -> io::Result<u32> {
    field(&stat(pid)?, 6)
}

/// The users of a process: real, effective, saved, and of its file accesses (proc_pid_status(5)).
pub fn users(pid: u32) -> io::Result<Vec<u32>> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap_or_default();
    let users: Vec<u32> = line.split_whitespace().filter_map(|user| user.parse().ok()).collect();
    if users.len() == 4 { Ok(users) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// The file mode creation mask of this process; none if `/proc` does not say it. Reading it by umask(2) would change it for
/// all threads.
pub fn umask() -> Option<u32> {
    let status = std::fs::read_to_string("/proc/thread-self/status").ok()?;
    let mask = status.lines().find_map(|line| line.strip_prefix("Umask:"))?;
    u32::from_str_radix(mask.trim(), 8).ok()
}

/// The numbers of the signals that this process ignores; none if `/proc` does not say it.
pub fn ignored_signals() -> BTreeSet<i32> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap_or_default();
    let mask = u64::from_str_radix(mask.trim(), 16).unwrap_or(0);
    (1..=64).filter(|signal| mask & 1 << (signal - 1) != 0).collect()
}

/// Fields 4 and 22 of `/proc/PID/stat`: the parent's pid, and when the process started.
pub fn parent_and_start(pid: u32) -> io::Result<(u32, u64)> {
    let stat = stat(pid)?;
    Ok((field(&stat, 4)?, field(&stat, 22)?))
}

/// Field 52 of `/proc/PID/stat`, of a process that is dead and was not reaped: its wait status, if it is the one that
/// is meant.
pub fn unreaped(identity: &Identity) -> Option<i32> {
    let stat = stat(identity.pid).ok()?;
    let is_it = field::<u64>(&stat, 22).ok()? == identity.start_time && field::<char>(&stat, 3).ok()? == 'Z';
    if is_it { field(&stat, 52).ok() } else { None }
}

/// `/proc/PID/stat` after the name in parentheses, which may contain anything, parentheses too.
fn stat(pid: u32) -> io::Result<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    Ok(stat.rsplit_once(')').map_or("", |(_, fields)| fields).to_owned())
}

/// A field by its number in proc_pid_stat(5), from 3 on.
fn field<T: std::str::FromStr>(stat: &str, number: usize) -> io::Result<T> {
    let field = stat.split_whitespace().nth(number - 3).and_then(|field| field.parse().ok());
    field.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Figures of a process, from `/proc/PID/stat` (proc_pid_stat(5)).
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// Field 4: the parent's pid.
    pub parent: u32,
    /// Fields 14 to 17: processor time of the process and of the children that it has waited for, in clock ticks.
    pub cpu_ticks: u64,
    /// Field 22: when the process started, in clock ticks after boot.
    pub start_time: u64,
    /// Field 24: resident memory, in pages.
    pub resident_pages: u64,
}

/// Reads the figures of a process.
pub fn figures(pid: u32) -> io::Result<Figures> {
    let stat = stat(pid)?;
    let ticks = |number| field::<u64>(&stat, number);
    Ok(Figures {
        parent: field(&stat, 4)?,
        cpu_ticks: ticks(14)? + ticks(15)? + ticks(16)? + ticks(17)?,
        start_time: field(&stat, 22)?,
        resident_pages: field(&stat, 24)?,
    })
}

/// Reads the id of this boot of the machine (random(4)).
pub fn boot_id() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// The pid as the kernel's calls want it.
pub fn pid(pid: u32) -> io::Result<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

/// All processes whose end is waited for, in one epoll instance: the cost of an exit does not grow with the
/// number of children. Its own descriptor becomes readable when any of them ends.
pub struct Watch {
    epoll: OwnedFd,
}

impl Watch {
    /// Watches nothing yet.
    pub fn new() -> io::Result<Self> {
        Ok(Self { epoll: epoll::create(epoll::CreateFlags::CLOEXEC)? })
    }

    /// Watches a process under this number.
    pub fn add(&self, pidfd: BorrowedFd<'_>, number: u64) -> io::Result<()> {
        let data = epoll::EventData::new_u64(number);
        Ok(epoll::add(&self.epoll, pidfd, data, epoll::EventFlags::IN)?)
    }

    /// Watches it no more.
    pub fn remove(&self, pidfd: BorrowedFd<'_>) {
        let _ = epoll::delete(&self.epoll, pidfd);
    }

    /// Numbers of processes that have ended, some of them if there are many; empty when there are none.
    pub fn ended(&self) -> Vec<u64> {
        let mut events = [const {
            epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }
        }; 64];
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        let count = epoll::wait(&self.epoll, &mut events[..], Some(&now)).unwrap_or(0);
        events[..count].iter().map(|event| event.data.u64()).collect()
    }

    /// Returns a descriptor that becomes readable when a watched process has ended.
    pub fn descriptor(&self) -> io::Result<OwnedFd> {
        self.epoll.as_fd().try_clone_to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ancestors_end_with_the_first_process() {
        let line: Vec<u32> = ancestors(std::process::id()).collect();
        assert_eq!(line.first(), Some(&std::os::unix::process::parent_id()));
        assert!(line.len() < GENERATIONS && !line.contains(&0), "{line:?}");
    }

    #[test]
    fn a_pid_with_another_start_or_of_another_boot_is_nobody() {
        let (own, boot) = (std::process::id(), "boot".to_owned());
        let identity = Identity { pid: own, start_time: start_time(own).unwrap(), boot_id: boot.clone() };
        assert!(open(&identity, &boot).is_some());
        assert!(open(&identity, "another").is_none());
        let another = Identity { start_time: identity.start_time + 1, ..identity };
        assert!(open(&another, &boot).is_none());
    }
}
