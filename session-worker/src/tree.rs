//! Everything below the worker: listing it, reaping it, ending it.
//!
//! The worker is a child subreaper with one thread, so every process below becomes its direct child when the
//! ones between die: nothing escapes by forking twice or by `setsid`, and "no child left" (`ECHILD`) means
//! "nothing left". Listing can miss a process that forks meanwhile; only `ECHILD` ends an [`Ending`].

use std::collections::HashSet;
use std::fs;
use std::time::Duration;

use protocol::Exit;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, WaitStatus};
use tokio::time::Instant;

/// A first pass may miss what is forked during it; after this many the next round has its turn.
const PASSES: usize = 8;
/// The pause between rounds of SIGKILL, while no death rings the bell first.
const PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
/// Passes in which nothing that is marked was found, until nothing is taken to be left.
const QUIET: usize = 3;
/// The most passes: with what is found again and again the end of the session deals.
const MARKED_PASSES: usize = 32;
/// Time after SIGKILL. A process that still lives then hangs in the kernel, or the worker may not signal it.
const GIVE_UP: Duration = Duration::from_secs(10);

/// Reaps every dead child, and calls `on_exit` for each. Returns whether no child is left, dead or alive.
pub fn reap(mut on_exit: impl FnMut(Pid, Exit)) -> bool {
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => on_exit(pid, exit(status)),
            Ok(None) => return false,
            Err(Errno::INTR) => {}
            // ECHILD; this call has no other error.
            Err(_) => return true,
        }
    }
}

/// Converts a wait status.
pub fn exit(status: WaitStatus) -> Exit {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(signal)) => Exit::Signal(signal),
        (None, None) => Exit::Unknown,
    }
}

/// Returns the living processes below, without zombies.
pub fn living() -> Vec<Pid> {
    let mut pids = below();
    pids.retain(|pid| Stat::read(*pid).is_some_and(|stat| !stat.is_dead()));
    pids
}

/// Returns the processor time of all processes below but these, and of those that they have reaped, in milliseconds.
pub fn cpu_ms(but: &[Pid]) -> u64 {
    let counted = below().into_iter().filter(|pid| !but.contains(pid));
    let ticks: u64 = counted.filter_map(|pid| Some(Stat::read(pid)?.ticks)).sum();
    ticks.saturating_mul(1000) / rustix::param::clock_ticks_per_second().max(1)
}

/// Memory, processes and threads of everything below.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Memory, in bytes; what several share counts for each.
    pub resident: u64,
    /// Processes and threads.
    pub tasks: u32,
}

/// Returns the memory, processes and threads of everything below.
pub fn used() -> Used {
    let one = |pid: Pid| (resident(pid), Stat::read(pid).map_or(0, |stat| stat.tasks));
    below().into_iter().map(one).fold(Used::default(), |used, (resident, tasks)| Used {
        resident: used.resident.saturating_add(resident),
        tasks: used.tasks.saturating_add(tasks),
    })
}

/// Resident memory of a process, in bytes: the second number of `/proc/PID/statm` is of pages (proc_pid_statm(5)).
fn resident(pid: Pid) -> u64 {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0);
    pages.saturating_mul(rustix::param::page_size() as u64)
}

/// Memory of everything below, in bytes, where what is shared counts for each in equal parts.
pub fn proportional_bytes() -> u64 {
    let one = |pid: Pid| {
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        let kib = |line: &str| line.strip_prefix("Pss:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok();
        // For a process that the kernel does not let us read, its whole resident memory counts.
        rollup.lines().find_map(kib).map_or_else(|| resident(pid), |kib| kib.saturating_mul(1024))
    };
    below().into_iter().map(one).fold(0, u64::saturating_add)
}

/// Kills everything below, once.
pub fn kill_all() {
    signal_all(Signal::KILL);
}

/// Kills everything below that has a marked variable in its environment, wherever it has escaped to. `is_mark` is given each
/// variable as `NAME=value`.
///
/// One pass may miss what forks or is handed to another parent meanwhile, and a process within exec(2) shows no environment.
/// So it looks until nothing is found [`QUIET`] times in a row.
pub fn kill_marked(is_mark: impl Fn(&[u8]) -> bool) {
    let mut quiet = 0;
    for _ in 0..MARKED_PASSES {
        let mut found = false;
        for pid in living() {
            // A process that is gone, or that the kernel does not let us read, was not started as a command.
            let Ok(environ) = fs::read(format!("/proc/{pid}/environ")) else { continue };
            if environ.split(|byte| *byte == 0).any(&is_mark) {
                send(pid, Signal::KILL);
                found = true;
            }
            found |= environ.is_empty();
        }
        quiet = if found { 0 } else { quiet + 1 };
        if quiet == QUIET {
            return;
        }
        #[allow(clippy::disallowed_methods, reason = "nothing tells that a process has left exec(2)")]
        std::thread::sleep(PAUSE);
    }
}

/// Kills a child of ours that is not reaped, and everything below it. What escapes to us meanwhile, by forking twice,
/// is ended with the session.
pub fn kill(pid: Pid) {
    at_and_below(pid).into_iter().for_each(|pid| send(pid, Signal::KILL));
}

/// Returns a process and everything below it.
pub fn at_and_below(pid: Pid) -> Vec<Pid> {
    let mut found = vec![pid];
    let mut at = 0;
    while let Some(&next) = found.get(at) {
        children_of(next, &mut found);
        at += 1;
    }
    found
}

/// The end of everything below: SIGTERM once, and after the grace SIGKILL until nothing is left.
#[derive(Debug)]
pub struct Ending {
    kill_at: Instant,
    give_up_at: Option<Instant>,
    pause: Duration,
    killed: bool,
}

/// Result of a round of an [`Ending`].
#[derive(Debug, PartialEq, Eq)]
pub enum Round {
    /// No process is left below.
    Gone,
    /// Another round is due at the next death, or then.
    Next(Instant),
    /// These processes do not die of SIGKILL.
    Stuck(Vec<Pid>),
}

impl Ending {
    /// Sends SIGTERM to everything below.
    pub fn begin(now: Instant, grace: Duration) -> Self {
        signal_all(Signal::TERM);
        Self { kill_at: now + grace, give_up_at: None, pause: PAUSE, killed: false }
    }

    /// Shortens the grace, if it is longer.
    pub fn hasten(&mut self, kill_at: Instant) {
        self.kill_at = self.kill_at.min(kill_at);
    }

    /// Returns true if the worker has begun to send SIGKILL since the last call.
    pub fn has_begun_to_kill(&mut self) -> bool {
        std::mem::take(&mut self.killed)
    }

    /// Reaps, and kills if the grace is over. To be called at every death and at the instant asked for.
    pub fn round(&mut self, now: Instant, mut on_exit: impl FnMut(Pid, Exit)) -> Round {
        if reap(&mut on_exit) {
            return Round::Gone;
        }
        if now < self.kill_at {
            return Round::Next(self.kill_at);
        }
        signal_all(Signal::KILL);
        self.killed = self.give_up_at.is_none();
        if reap(&mut on_exit) {
            return Round::Gone;
        }
        if now >= *self.give_up_at.get_or_insert(now + GIVE_UP) {
            return Round::Stuck(living());
        }
        let next = now + self.pause;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        Round::Next(next)
    }
}

/// Signals everything below once, parents before children, until a pass finds nothing new.
///
/// Reaps nothing: while it runs, a direct child's pid stays its own.
fn signal_all(signal: Signal) {
    let mut signalled = HashSet::new();
    for _ in 0..PASSES {
        let mut news = false;
        for pid in below() {
            if signalled.insert(pid) {
                news = true;
                send(pid, signal);
            }
        }
        if !news {
            return;
        }
    }
}

/// Signals `pid` if it is below us, beyond doubt.
fn send(pid: Pid, signal: Signal) {
    let me = rustix::process::getpid();
    if pid.is_init() || pid == me {
        return;
    }
    let Some(stat) = Stat::read(pid) else { return };
    // A stopped process would take SIGTERM only when somebody continues it.
    let wake = signal == Signal::TERM && stat.is_stopped();
    let signals = std::iter::once(signal).chain(wake.then_some(Signal::CONT));
    // Errors need no answer: the process is gone, or the next round sees it again.
    if stat.parent == me.as_raw_pid() {
        // Only we reap it, and not now: the pid cannot become somebody else's.
        for signal in signals {
            let _ = rustix::process::kill_process(pid, signal);
        }
    } else if let Ok(pidfd) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
        // Asked after the descriptor was opened: if the pid is below us now, the descriptor either is that
        // process or one that is dead already.
        if is_below(pid, me) {
            for signal in signals {
                let _ = rustix::process::pidfd_send_signal(&pidfd, signal);
            }
        }
    }
}

/// Returns whether `pid` is below `me`.
fn is_below(pid: Pid, me: Pid) -> bool {
    let mut at = pid;
    while let Some(parent) = Stat::read(at).and_then(|stat| Pid::from_raw(stat.parent)) {
        if parent == me {
            return true;
        }
        at = parent;
    }
    false
}

/// Returns everything below us, zombies too, parents before children.
fn below() -> Vec<Pid> {
    let me = rustix::process::getpid();
    let mut children = Vec::new();
    if !children_of(me, &mut children) {
        return below_by_scan(me);
    }
    let mut at = 0;
    while let Some(&pid) = children.get(at) {
        children_of(pid, &mut children);
        at += 1;
    }
    children
}

/// Adds the children of all threads of `pid`. Returns whether the kernel lists children at all.
fn children_of(pid: Pid, children: &mut Vec<Pid>) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return true;
    };
    let mut told = true;
    for thread in threads.flatten() {
        match fs::read_to_string(thread.path().join("children")) {
            Ok(list) => children.extend(pids(&list)),
            // Also so if the thread has ended since; only our own answer is asked for, and we have not.
            Err(_) => told = false,
        }
    }
    told
}

fn pids(list: &str) -> impl Iterator<Item = Pid> {
    list.split_ascii_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?))
}

/// The same from the parents of all processes, for kernels without CONFIG_PROC_CHILDREN.
fn below_by_scan(me: Pid) -> Vec<Pid> {
    let everybody: Vec<(Pid, i32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
        .filter_map(|pid| Some((pid, Stat::read(pid)?.parent)))
        .collect();
    let mut found = vec![me];
    let mut at = 0;
    while let Some(&parent) = found.get(at) {
        let children = everybody.iter().filter(|(_, of)| *of == parent.as_raw_pid());
        found.extend(children.map(|(pid, _)| *pid));
        at += 1;
    }
    found.remove(0);
    found
}

/// Fields of `/proc/PID/stat` (proc_pid_stat(5)).
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    state: char,
    parent: i32,
    /// Processor time, in clock ticks: its own and that of the children that it has waited for.
    ticks: u64,
    /// Number of threads; a zombie counts as one.
    tasks: u32,
}

impl Stat {
    fn read(pid: Pid) -> Option<Self> {
        // The name in the second field may be any bytes.
        let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
        Self::parse(&String::from_utf8_lossy(&stat))
    }

    fn parse(stat: &str) -> Option<Self> {
        let (_, rest) = stat.rsplit_once(')')?;
        let mut fields = rest.split_ascii_whitespace();
        let (state, parent) = (fields.next()?.chars().next()?, fields.next()?.parse().ok()?);
        let rest: Vec<&str> = fields.collect();
        // Fields 14 to 17: utime, stime, cutime, cstime; field 20: num_threads.
        let ticks = rest.iter().skip(9).take(4).map(|field| field.parse::<u64>().unwrap_or(0)).sum();
        let tasks = rest.get(15).and_then(|field| field.parse().ok()).unwrap_or(1).max(1);
        Some(Self { state, parent, ticks, tasks })
    }

    fn is_dead(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }

    fn is_stopped(&self) -> bool {
        matches!(self.state, 'T' | 't')
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_process_name_cannot_forge_its_parent() {
        let stat = Stat::parse("17 (evil) R 1 (x) S 42 17 17 0 -1 4194304 9 8 7 6 500 40 3 2 20 0 3 0 99");
        assert_eq!(stat, Some(Stat { state: 'S', parent: 42, ticks: 545, tasks: 3 }));
        assert_eq!(Stat::parse("17 (cut"), None);
    }

    #[test]
    fn both_ways_of_listing_find_the_grandchild() {
        let mut child = Command::new("/bin/sh")
            .args(["-c", "sleep 60 & echo $!; wait"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut stdout = std::io::BufReader::new(child.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut stdout, &mut line).unwrap();
        let grandchild = pids(&line).next().unwrap();
        let me = rustix::process::getpid();
        let (listed, scanned, lives) = (below(), below_by_scan(me), living());
        let related = is_below(grandchild, me);
        let strange = is_below(Pid::INIT, me);
        rustix::process::kill_process(grandchild, Signal::KILL).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(listed.contains(&grandchild) && scanned.contains(&grandchild) && lives.contains(&grandchild));
        assert!(related && !strange);
        assert!(below().iter().all(|pid| pid.as_raw_pid() != child.id() as i32));
    }
}
