//! Search for the processes that a dead worker leaves behind: orphans that the kernel gives to us, the nearest
//! subreaper, and processes with the marker in their environment.

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use protocol::{Incarnation, MARKER, SessionId};
use rustix::io::Errno;
use rustix::process::{PidfdFlags, Signal, WaitId, WaitIdOptions, geteuid, pidfd_open, waitid};

use crate::system::{cgroups, process};

/// The marker of a process: the manager and the session that it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marker {
    /// The manager's state directory, by its name in the journal.
    pub manager: String,
    /// The holder.
    pub holder: Holder,
}

/// The holder of a marker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A process of this incarnation of a session.
    Session(SessionId, Incarnation),
    /// The spare worker with this number. It keeps its marker when a session takes it, and gives its programs the session's.
    Spare(u64),
}

/// The place of a session's id in the marker of a spare worker. No id begins with a colon.
const SPARE: &str = ":spare";

impl Holder {
    /// The session; none for a spare worker.
    pub fn session(&self) -> Option<&SessionId> {
        match self {
            Holder::Session(id, _) => Some(id),
            Holder::Spare(_) => None,
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Holder::Session(id, incarnation) => write!(f, "{id}/{incarnation}"),
            Holder::Spare(number) => write!(f, "{SPARE}/{number}"),
        }
    }
}

impl Marker {
    /// Reads exactly what [`Marker`] writes: another spelling of the same number is no marker.
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let (manager, holder, number) = (parts.next()?, parts.next()?, parts.next()?);
        let is_name =
            manager.len() == 32 && manager.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let holder = match holder {
            SPARE => Holder::Spare(number.parse().ok()?),
            session => Holder::Session(session.parse().ok()?, number.parse().ok()?),
        };
        let marker = Self { manager: is_name.then(|| manager.to_owned())?, holder };
        (marker.to_string() == text).then_some(marker)
    }
}

impl fmt::Display for Marker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.manager, self.holder)
    }
}

/// A process that should not be there, and a hold on it.
pub struct Stray {
    /// Its pid, which is its own for as long as `pidfd` is held and it was not reaped.
    pub pid: u32,
    /// The holder of the process's marker.
    pub of: Holder,
    pidfd: OwnedFd,
}

impl Stray {
    /// Kills it.
    fn kill(&self) {
        process::signal(self.pidfd.as_fd(), Signal::KILL);
    }
}

/// Limit of passes over all processes in one hunt.
const PASSES: usize = 32;

/// Kills every process with a marker of the manager `uuid` whose pid and holder are `wanted`, and gives those that it has
/// found.
///
/// A marker is a variable that anybody can set. So a process counts as left behind only if all of this agrees:
///
/// - Its marker is spelled exactly as a worker spells it, with this manager's name.
/// - Its real, effective and saved user are the manager's, and whoever leads its session is no other user's process:
///   else another user could have set the environment of a set-user-ID program.
/// - It is in no other session's or manager's control group, and below no other manager's process.
/// - It is neither this process, nor one of its ancestors, nor a child that has inherited the marker from this process.
///
/// Whoever starts its successor and leaves, over and over, is never where a list says. So each is killed as soon as it is
/// found, and all processes that are new are looked at again until none of them has gone before it could be looked at.
///
/// A zombie has no environment any more, so none is found.
pub fn hunt(uuid: &str, wanted: impl Fn(u32, &Holder) -> bool) -> Vec<Stray> {
    let hunter = Hunter::new(uuid);
    let mut looked_at = HashSet::from([std::process::id()]);
    let mut found = Vec::new();
    for pass in 0..PASSES {
        let before = found.len();
        let mut missed = false;
        for pid in everybody() {
            if !looked_at.insert(pid) {
                continue;
            }
            match hunter.stray(pid) {
                Look::Ours(stray) if wanted(pid, &stray.of) => {
                    stray.kill();
                    found.push(stray);
                }
                Look::Ours(_) | Look::Other => {}
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

/// Every process that [`hunt`] would find for any holder of this manager's markers. Touches none.
pub fn marked(uuid: &str) -> Vec<(u32, Holder)> {
    let hunter = Hunter::new(uuid);
    let look = |pid| match hunter.look(pid) {
        Look::Ours(marker) => Some((pid, marker.holder)),
        Look::Other | Look::Gone => None,
    };
    everybody().filter_map(look).collect()
}

/// Result of examining a process.
enum Look<T> {
    /// The process belongs to this manager.
    Ours(T),
    /// The process does not belong to this manager.
    Other,
    /// The process ended before it could be examined.
    Gone,
}

/// Facts by which the hunt recognises a process.
struct Hunter<'a> {
    uuid: &'a str,
    /// Pids of this process and its ancestors.
    line: BTreeSet<u32>,
    /// This process carries a marker itself, and so do its children.
    is_marked: bool,
    /// The sessions' groups in which this process is, because a session's program has started it: they say nothing.
    groups: Vec<(String, SessionId)>,
}

impl<'a> Hunter<'a> {
    fn new(uuid: &'a str) -> Self {
        let me = std::process::id();
        let is_marked = !markers(me).unwrap_or_default().is_empty();
        Self { uuid, line: process::line(), is_marked, groups: cgroups::memberships(me) }
    }

    fn stray(&self, pid: u32) -> Look<Stray> {
        match self.look(pid) {
            Look::Ours(_) => {}
            Look::Other => return Look::Other,
            Look::Gone => return Look::Gone,
        }
        let Some(pidfd) = process::pid(pid).ok().and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok())
        else {
            return Look::Gone;
        };
        // Asked again after the pidfd was opened: if it still fits, the pidfd is the right one.
        match self.look(pid) {
            Look::Ours(marker) => Look::Ours(Stray { pid, of: marker.holder, pidfd }),
            Look::Other | Look::Gone => Look::Gone,
        }
    }

    fn look(&self, pid: u32) -> Look<Marker> {
        if self.line.contains(&pid) {
            return Look::Other;
        }
        let markers = match markers(pid) {
            Ok(markers) => markers,
            Err(Unread::Gone) => return Look::Gone,
            Err(Unread::Closed) => return Look::Other,
        };
        // One that has two says nothing: no worker starts such a process.
        let [marker] = &markers[..] else { return Look::Other };
        match marker.manager == self.uuid && is_our_users(pid) && self.agrees(pid, marker) {
            true => Look::Ours(marker.clone()),
            false => Look::Other,
        }
    }

    /// Returns true if control group and parents of a process agree with its marker, as far as they name a session.
    fn agrees(&self, pid: u32, marker: &Marker) -> bool {
        let groups = cgroups::memberships(pid);
        let mut groups = groups.iter().filter(|group| !self.groups.contains(group));
        if groups.any(|(uuid, session)| {
            *uuid != self.uuid || marker.holder.session().is_some_and(|id| id != session)
        }) {
            return false;
        }
        for parent in process::ancestors(pid) {
            if self.line.contains(&parent) {
                // The ancestors of this process are those of the other one, too.
                return !(self.is_marked && parent == std::process::id());
            }
            if markers(parent).is_ok_and(|markers| markers.iter().any(|marker| marker.manager != self.uuid)) {
                return false;
            }
        }
        true
    }
}

/// All processes that this PID namespace knows.
fn everybody() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
}

/// Returns true if all user ids of a process are our user's, and those of its session's leader too.
fn is_our_users(pid: u32) -> bool {
    let me = geteuid().as_raw();
    let is_ours = |pid: u32| process::users(pid).is_ok_and(|users| users.iter().all(|user| *user == me));
    // The leader may be gone, and it may be of another PID namespace: then it is told as 0.
    let leader = process::leader(pid).ok().filter(|leader| *leader != 0 && *leader != pid);
    let foreign_leader = leader.is_some_and(|leader| process::users(leader).is_ok() && !is_ours(leader));
    is_ours(pid) && !foreign_leader
}

/// Reason for which the environment of a process was not read.
#[derive(Debug)]
enum Unread {
    /// The process has ended, or is about to.
    Gone,
    /// The kernel does not let us read the process.
    Closed,
}

/// The markers in the environment of a process: what only resembles one is none.
fn markers(pid: u32) -> Result<Vec<Marker>, Unread> {
    let environ = fs::read(format!("/proc/{pid}/environ")).map_err(|error| {
        let is_gone = error.kind() == std::io::ErrorKind::NotFound
            || error.raw_os_error() == Some(Errno::SRCH.raw_os_error());
        if is_gone { Unread::Gone } else { Unread::Closed }
    })?;
    if environ.is_empty() {
        return Err(Unread::Gone);
    }
    let values = environ
        .split(|byte| *byte == 0)
        .filter_map(|variable| variable.strip_prefix(MARKER.as_bytes())?.strip_prefix(b"="));
    Ok(values.filter_map(|value| Marker::parse(std::str::from_utf8(value).ok()?)).collect())
}

/// Limit of rounds in which one pass lists our children anew.
const ROUNDS: usize = 16;

/// Kills and reaps our own children that are not `known`: orphans of dead workers. Gives back those that
/// still live, or whose own orphans may be ours by now. Only for a process that has no other children.
pub fn strangers(known: impl Fn(u32) -> bool) -> Vec<u32> {
    // A look that fails for want of a descriptor is repeated at the next end of a worker.
    end_children(std::process::id(), known).unwrap_or_default()
}

/// Kills and reaps the children of this thread that are not `known`. Returns true if none is left: SIGKILL takes a moment.
///
/// # Errors
/// There is no descriptor to look through the children with.
pub fn end_strangers_of_this_thread(known: impl Fn(u32) -> bool) -> io::Result<bool> {
    let thread = u32::try_from(nix::unistd::gettid().as_raw()).unwrap_or_default();
    end_children(thread, known).map(|alive| alive.is_empty())
}

fn end_children(thread: u32, known: impl Fn(u32) -> bool) -> io::Result<Vec<u32>> {
    let mut reaped = Vec::new();
    for _ in 0..ROUNDS {
        reaped.clear();
        let mut alive = Vec::new();
        for pid in children(thread)?.into_iter().filter(|pid| !known(*pid)) {
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
            return Ok(alive);
        }
    }
    Ok(reaped)
}

/// Children of one of our threads, from `/proc/PID/task/TID/children` (proc_tid_children(5)).
///
/// A process is the child of the thread that spawned it, and the main thread spawns no worker: to list a thousand of them takes
/// longer than to replace one. Orphans are given to the first thread of their reaper that lives, which is the main one
/// (`find_new_reaper` in the kernel's `kernel/exit.c`).
fn children(thread: u32) -> io::Result<Vec<u32>> {
    let list = fs::read_to_string(format!("/proc/self/task/{thread}/children"))?;
    Ok(list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_is_read_to_the_letter() {
        let uuid = "0123456789abcdef0123456789abcdef";
        let text = format!("{uuid}/session-1/7");
        let marker = Marker::parse(&text).unwrap();
        assert_eq!(marker.holder, Holder::Session("session-1".parse().unwrap(), 7));
        assert_eq!(marker.to_string(), text);
        let spare = format!("{uuid}/:spare/3");
        let marker = Marker::parse(&spare).unwrap();
        assert_eq!((&marker.holder, marker.to_string()), (&Holder::Spare(3), spare));
        for wrong in
            ["", "/", "//", &text[1..], &text.to_uppercase(), &format!("{text}/"), &format!("{text} ")]
        {
            assert_eq!(Marker::parse(wrong), None, "{wrong:?}");
        }
        for rest in [
            "session-1",
            "session-1/",
            ":spare",
            ":spare/",
            ":spare/03",
            ":spares/3",
            "session-1/+7",
            "session-1/07",
            "session-1/-1",
            "/7",
            "a b/7",
            "../7",
        ] {
            assert_eq!(Marker::parse(&format!("{uuid}/{rest}")), None, "{rest:?}");
        }
    }
}
