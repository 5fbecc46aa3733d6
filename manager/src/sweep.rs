//! What a dead worker leaves behind, and how it is found: as orphans that the kernel gives to us, the nearest
//! subreaper, or by the marker in their environment.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};

use protocol::MARKER;
use rustix::process::{PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, waitid};

use crate::process;

/// A process that should not be there, and a hold on it.
pub struct Stray {
    /// Its pid, which is its own for as long as `pidfd` is held and it was not reaped.
    pub pid: u32,
    /// What follows the state directory's part of its marker: `session/incarnation`.
    pub session: String,
    pidfd: OwnedFd,
}

impl Stray {
    /// Kills it.
    pub fn kill(&self) {
        process::signal(self.pidfd.as_fd(), Signal::KILL);
    }
}

/// Every living process whose marker begins with `prefix` (`<state uuid>/…`), but for ourselves.
///
/// A zombie has no environment any more, so none is found.
pub fn marked(prefix: &str) -> Vec<Stray> {
    let wanted = format!("{MARKER}={prefix}");
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| *pid != std::process::id())
        .filter_map(|pid| {
            marker_rest(pid, &wanted)?;
            let pidfd = pidfd_open(process::pid(pid).ok()?, PidfdFlags::empty()).ok()?;
            // Asked again after the pidfd was opened: if it still fits, the pidfd is the right one.
            let session = marker_rest(pid, &wanted)?;
            Some(Stray { pid, session, pidfd })
        })
        .collect()
}

/// What follows `wanted` in the environment of a process that has it.
fn marker_rest(pid: u32, wanted: &str) -> Option<String> {
    let environ = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let mut variables = environ.split(|byte| *byte == 0);
    let rest = variables.find_map(|variable| variable.strip_prefix(wanted.as_bytes()))?;
    Some(String::from_utf8_lossy(rest).into_owned())
}

/// How often one pass lists our children anew.
const ROUNDS: usize = 16;

/// Kills and reaps our own children that are not `known`: orphans of dead workers. Gives back those that
/// still live, or whose own orphans may be ours by now. Only for a process that has no other children.
pub fn strangers(known: impl Fn(u32) -> bool) -> Vec<u32> {
    let mut reaped = Vec::new();
    for _ in 0..ROUNDS {
        reaped.clear();
        let mut alive = Vec::new();
        for pid in orphans().into_iter().filter(|pid| !known(*pid)) {
            let Ok(child) = process::pid(pid) else { continue };
            // Our own child, and nobody else reaps: its pid is its own until the next line.
            let _ = rustix::process::kill_process(child, Signal::KILL);
            match waitid(WaitId::Pid(child), WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
                Ok(None) => alive.push(pid),
                _ => reaped.push(pid),
            }
        }
        // With the end of a stranger its children become ours, after this list was made. Only a list that
        // brought nobody to an end is whole.
        if reaped.is_empty() {
            return alive;
        }
    }
    reaped
}

/// Children of all threads but this one, from `/proc/self/task/*/children` (proc_tid_children(5)).
///
/// A process is its parent thread's child. This thread has spawned all workers, and to list a thousand of them
/// takes longer than to replace one; orphans are given to the first thread of their reaper that lives, which is
/// the main one (`find_new_reaper` in the kernel's `kernel/exit.c`).
fn orphans() -> Vec<u32> {
    let Ok(tasks) = fs::read_dir("/proc/self/task") else {
        return Vec::new();
    };
    let this = nix::unistd::gettid().to_string();
    let others = tasks.flatten().filter(|task| task.file_name() != *this);
    let lists = others.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}
