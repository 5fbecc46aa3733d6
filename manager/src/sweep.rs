//! What a dead worker leaves behind, and how it is found: as orphans that the kernel gives to us, the nearest
//! subreaper, or by the marker in their environment.

use std::collections::HashSet;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};

use protocol::MARKER;
use rustix::io::Errno;
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
    fn kill(&self) {
        process::signal(self.pidfd.as_fd(), Signal::KILL);
    }
}

/// How often a hunt lists all processes, at most.
const PASSES: usize = 32;

/// Kills every process whose marker begins with `prefix` (`<state uuid>/…`) and that is `wanted`, but for ourselves, and
/// gives those that it has found.
///
/// Whoever starts its successor and leaves, over and over, is never where a list says. So each is killed as soon as it is
/// found, and all processes that are new are looked at again until none of them has gone before it could be looked at.
///
/// A zombie has no environment any more, so none is found.
pub fn hunt(prefix: &str, wanted: impl Fn(&Stray) -> bool) -> Vec<Stray> {
    let variable = format!("{MARKER}={prefix}");
    let mut looked_at = HashSet::from([std::process::id()]);
    let mut found = Vec::new();
    for pass in 0..PASSES {
        let before = found.len();
        let mut missed = false;
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            if !looked_at.insert(pid) {
                continue;
            }
            match stray(pid, &variable) {
                Look::Stray(stray) if wanted(&stray) => {
                    stray.kill();
                    found.push(stray);
                }
                Look::Stray(_) | Look::Other => {}
                // In the first pass these are the kernel's own, and what ended long ago.
                Look::Gone => missed |= pass > 0,
            }
        }
        if pass > 0 && !missed && found.len() == before {
            break;
        }
    }
    found
}

/// Every process whose marker begins with `prefix`, as one look at all finds it. Touches none.
pub fn marked(prefix: &str) -> Vec<u32> {
    let variable = format!("{MARKER}={prefix}");
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| matches!(marker_rest(*pid, &variable), Ok(Some(_)))).collect()
}

/// What a look at a process comes to.
enum Look {
    /// It has the marker.
    Stray(Stray),
    /// It has not.
    Other,
    /// It was gone before it could be looked at.
    Gone,
}

fn stray(pid: u32, variable: &str) -> Look {
    match marker_rest(pid, variable) {
        Ok(Some(_)) => {}
        Ok(None) => return Look::Other,
        Err(gone) => return if gone { Look::Gone } else { Look::Other },
    }
    let Some(pidfd) = process::pid(pid).ok().and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) else {
        return Look::Gone;
    };
    // Asked again after the pidfd was opened: if it still fits, the pidfd is the right one.
    match marker_rest(pid, variable) {
        Ok(Some(session)) => Look::Stray(Stray { pid, session, pidfd }),
        _ => Look::Gone,
    }
}

/// What follows `variable` in the environment of a process that has it. The error is whether the process is gone.
fn marker_rest(pid: u32, variable: &str) -> Result<Option<String>, bool> {
    let environ = fs::read(format!("/proc/{pid}/environ")).map_err(|error| {
        error.kind() == std::io::ErrorKind::NotFound
            || error.raw_os_error() == Some(Errno::SRCH.raw_os_error())
    })?;
    if environ.is_empty() {
        return Err(true);
    }
    let mut variables = environ.split(|byte| *byte == 0);
    let rest = variables.find_map(|other| other.strip_prefix(variable.as_bytes()));
    Ok(rest.map(|rest| String::from_utf8_lossy(rest).into_owned()))
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
