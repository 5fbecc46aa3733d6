//! The kill matrix: at every named point of a session's life, each process that can die there is killed.
//!
//! A process that reaches an armed point stops and writes its pid. The harness kills the victim, lets the
//! stopped process go on, and measures the time to recovery. There is one blow at a time: a second would
//! spoil the measure.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use protocol::SessionId;
use protocol::event::{Event, EventKind};
use protocol::failpoint::TOLD;

use super::errands::{By, Errand, Errands, belongs};
use super::faults::{BREAKS, points};
use super::herd::{Held, Herd, is_stopped};
use crate::rng::Rng;

/// The number of points that are armed at a time.
const ARMED: usize = 24;
/// The time for which a point is first armed; longer where no process reached it.
const LAPSE: Duration = Duration::from_secs(2);
/// The largest factor on that time.
const LAPSES: u32 = 4;
/// The weight of a blow against an attempt without one, in the choice of the next points.
const STRUCK: u64 = 3;
/// The longest wait for a recovery before the next blow. Some victims are not to come back.
const RECOVERY: Duration = Duration::from_secs(3);

/// The process that is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Victim {
    /// The worker's child.
    Agent,
    /// The worker.
    Worker,
    /// The manager.
    Manager,
    /// Both at once.
    WorkerAndManager,
    /// The manager and every process of every session at once.
    All,
}

impl Victim {
    const ALL: [Victim; 5] =
        [Victim::Agent, Victim::Worker, Victim::Manager, Victim::WorkerAndManager, Victim::All];

    fn takes_manager(self) -> bool {
        matches!(self, Victim::Manager | Victim::WorkerAndManager | Victim::All)
    }
}

type Key = (String, Victim);

#[derive(Clone, Debug, Default)]
struct Cell {
    /// The number of times that it was armed.
    tries: u64,
    /// The number of times without a victim: no process, or none of that kind.
    absent: u64,
    /// The number of kills.
    struck: u64,
    recovered: Vec<Duration>,
}

/// The event that completes the recovery from a blow.
enum Awaits {
    /// The next manager's start.
    Manager,
    /// The next manager has the session's worker.
    Adopted,
    /// The end of the worker with this pid.
    Death(u32),
    /// The next worker takes prompts.
    Ready,
    /// The end of the turn.
    Turn,
}

struct Pending {
    key: Key,
    session: Option<SessionId>,
    since: Instant,
    awaits: Awaits,
}

/// The matrix, and what is under way in it.
pub struct Matrix {
    rng: Rng,
    cells: BTreeMap<Key, Cell>,
    armed: Vec<(Instant, Key)>,
    pending: Option<Pending>,
    errands: Errands,
    /// Until when only those are struck who come to where this leads.
    peace: Option<(Instant, Errand)>,
}

impl Matrix {
    /// Nothing was struck yet.
    pub fn new(seed: u64) -> Self {
        let names = points().into_iter().filter(|name| !BREAKS.contains(&name.as_str()));
        let keys = names.flat_map(|name| Victim::ALL.map(|victim| (name.clone(), victim)));
        let cells = keys.map(|key| (key, Cell::default())).collect();
        let (rng, errands) = (Rng::new(seed), Errands::default());
        Self { rng, cells, armed: Vec::new(), pending: None, errands, peace: None }
    }

    /// Returns an errand that leads to an armed point without a blow so far. None during a recovery, if the
    /// errand itself is a blow.
    pub fn errand(&mut self, by: By) -> Option<Errand> {
        let peace = self.peace.is_some_and(|(until, _)| Instant::now() < until);
        if peace || (by == By::Blow && self.pending.is_some()) {
            return None;
        }
        let waits = |(_, key): &&(Instant, Key)| self.cells[key].struck + self.cells[key].absent == 0;
        let points = self.armed.iter().filter(waits).map(|(_, (point, _))| point.as_str());
        let errand = self.errands.choose(points, by, &mut self.rng)?;
        self.peace = Some((Instant::now() + errand.peace(), errand));
        Some(errand)
    }

    /// Arms one of the points that were tried least, and most often one without a blow.
    pub fn arm(&mut self, directory: &Path) {
        if self.armed.len() >= ARMED {
            return;
        }
        let is_armed = |name: &str| self.armed.iter().any(|(_, (armed, _))| armed == name);
        let free: Vec<(&Key, u64)> = self
            .cells
            .iter()
            .filter(|((name, _), _)| !is_armed(name))
            .map(|(key, cell)| (key, cell.tries + STRUCK * (cell.struck + cell.absent)))
            .collect();
        let Some(least) = free.iter().map(|(_, tries)| *tries).min() else {
            return;
        };
        let least: Vec<&Key> =
            free.into_iter().filter(|(_, tries)| *tries == least).map(|(key, _)| key).collect();
        let key = least[self.rng.below(least.len() as u64) as usize].clone();
        // Appears whole.
        let (new, file) = (directory.join(".new"), directory.join(&key.0));
        std::fs::write(&new, "tell").unwrap();
        std::fs::rename(new, file).unwrap();
        let tries = u32::try_from(self.cells[&key].tries).unwrap_or(LAPSES);
        self.armed.push((Instant::now() + LAPSE * (tries + 1).min(LAPSES), key));
    }

    /// Strikes where a process has reached an armed point. `lives_on` returns true for a session whose agent
    /// stays between prompts. Returns the number of processes killed, and whether the manager is among them.
    pub fn tend(&mut self, herd: &Herd<'_>, lives_on: impl Fn(&SessionId) -> bool) -> (u64, bool) {
        if self.pending.as_ref().is_some_and(|pending| pending.since.elapsed() > RECOVERY) {
            self.pending = None;
        }
        let struck = self.meet(herd, true, lives_on);
        let directory = herd.host.place.points();
        let cells = &mut self.cells;
        self.armed.retain(|(until, key)| {
            if Instant::now() < *until {
                return true;
            }
            // Disarmed when its time is over. A process that reaches it in this very moment is found at the
            // next check.
            let lapsed = std::fs::remove_file(directory.join(&key.0)).is_ok();
            if let Some(cell) = cells.get_mut(key).filter(|_| lapsed) {
                cell.tries += 1;
            }
            false
        });
        struck
    }

    /// Takes all points back, and lets everybody go.
    pub fn rest(&mut self, herd: &Herd<'_>) {
        (self.pending, self.peace) = (None, None);
        let directory = herd.host.place.points();
        // A process that took one in this very moment writes its pid next, and stops.
        self.armed.retain(|(_, key)| std::fs::remove_file(directory.join(&key.0)).is_err());
        let end = Instant::now() + LAPSE;
        while !self.armed.is_empty() && Instant::now() < end {
            self.meet(herd, false, |_| false);
            std::thread::park_timeout(Duration::from_millis(2));
        }
        self.armed.clear();
    }

    /// Lets processes go on that took a point long ago and only now wrote their pid.
    pub fn let_go(&mut self, herd: &Herd<'_>) {
        self.meet(herd, false, |_| false);
    }

    /// Meets those who have come to a point: strikes, or lets them go.
    fn meet(&mut self, herd: &Herd<'_>, strikes: bool, lives_on: impl Fn(&SessionId) -> bool) -> (u64, bool) {
        let directory = herd.host.place.points();
        let (mut killed, mut manager) = (0, false);
        for entry in std::fs::read_dir(&directory).unwrap().flatten() {
            let name = entry.file_name();
            let Some(point) = name.to_str().and_then(|name| name.strip_prefix(TOLD)) else {
                continue;
            };
            let received = std::fs::read_to_string(entry.path()).unwrap_or_default();
            let mut words = received.split(' ');
            let pid = words.next().and_then(|pid| pid.parse().ok()).unwrap_or(0);
            // The process writes its pid just before it stops; it may also be dead already.
            if is_stopped(pid) {
                let session = words.next().and_then(|id| id.parse().ok());
                let key =
                    self.armed.iter().find(|(_, (armed, _))| armed == point).map(|(_, key)| key.clone());
                let peace = self.peace.filter(|(until, _)| Instant::now() < *until);
                let spared = peace.is_some_and(|(_, leads)| Errand::to(point) != Some(leads));
                let strikes = strikes && self.pending.is_none() && !spared;
                let blow = key.filter(|_| strikes).map(|key| self.strike(herd, key, pid, session, &lives_on));
                let (dead, is_manager) = blow.unwrap_or_default();
                killed += dead;
                manager |= is_manager;
                go_on(herd, pid);
            } else if crate::real::lives(pid) {
                continue;
            }
            let _ = std::fs::remove_file(entry.path());
            // One that was armed anew since is still there to be taken back.
            self.armed.retain(|(_, (armed, _))| armed != point || directory.join(armed).exists());
        }
        (killed, manager)
    }

    fn strike(
        &mut self,
        herd: &Herd<'_>,
        key: Key,
        at: u32,
        session: Option<SessionId>,
        lives_on: impl Fn(&SessionId) -> bool,
    ) -> (u64, bool) {
        let cell = self.cells.entry(key.clone()).or_default();
        cell.tries += 1;
        let session = session.or_else(|| herd.session(at));
        let of = |held: &Held| match &session {
            Some(id) => herd.session(held.pid).as_ref() == Some(id),
            None => true,
        };
        let worker = herd.workers().into_iter().find(of);
        let session = session.or_else(|| herd.session(worker.as_ref()?.pid));
        let agents = worker.as_ref().map(|worker| herd.agents(worker.pid)).unwrap_or_default();
        let manager = herd.host.daemon();
        let worker_pid = worker.as_ref().map(|worker| worker.pid);
        let (victims, complete): (Vec<Held>, bool) = match key.1 {
            Victim::Agent => (agents, true),
            Victim::Worker => (worker.into_iter().collect(), true),
            Victim::Manager => (Vec::new(), manager.is_some()),
            Victim::WorkerAndManager => {
                let both = worker.is_some() && manager.is_some();
                (worker.into_iter().collect(), both)
            }
            Victim::All => (herd.everybody(), manager.is_some()),
        };
        let with_manager = key.1.takes_manager();
        if !complete || (victims.is_empty() && key.1 != Victim::Manager) {
            cell.absent += 1;
            return (0, false);
        }
        cell.struck += 1;
        self.peace = None;
        let awaits = match (key.1, worker_pid) {
            (Victim::Agent, Some(worker)) if session.as_ref().is_some_and(lives_on) => Awaits::Death(worker),
            (Victim::Agent, _) => Awaits::Turn,
            (Victim::Manager, Some(_)) => Awaits::Adopted,
            (_, Some(worker)) => Awaits::Death(worker),
            (_, None) => Awaits::Manager,
        };
        // The victims are stopped first, so that none sees the death of another.
        if victims.len() > 1 || with_manager {
            victims.iter().for_each(|held| _ = held.signal(Signal::SIGSTOP));
        }
        self.pending = Some(Pending { key, session, since: Instant::now(), awaits });
        let mut killed = 0;
        if with_manager && herd.host.signal_daemon(Signal::SIGKILL, true).is_some() {
            killed += 1;
        }
        killed += victims.iter().filter(|held| held.signal(Signal::SIGKILL)).count() as u64;
        (killed, with_manager)
    }

    /// Discards the running measures: another fault struck the manager, or a client stopped it.
    pub fn spoilt(&mut self) {
        self.pending = None;
    }

    /// An event was seen just now.
    pub fn event(&mut self, event: &Event) {
        let Some(pending) = &mut self.pending else {
            return;
        };
        let concerned = event.session.is_none() || event.session == pending.session;
        if !concerned {
            return;
        }
        let over = match (&event.kind, &pending.awaits) {
            (EventKind::ManagerStarted { .. }, Awaits::Manager)
            | (EventKind::SessionAdopted { .. }, Awaits::Adopted)
            | (EventKind::SessionReady { .. }, Awaits::Ready)
            | (EventKind::TurnCompleted { .. } | EventKind::TurnInterrupted { .. }, Awaits::Turn) => true,
            (EventKind::SessionRestarting { old_pid: Some(pid), delay_ms, .. }, Awaits::Death(worker))
                if pid == worker =>
            {
                pending.since += Duration::from_millis(*delay_ms);
                pending.awaits = Awaits::Ready;
                false
            }
            (
                EventKind::SessionStopped { .. }
                | EventKind::SessionFailed { .. }
                | EventKind::SessionHibernated {}
                | EventKind::SessionDeleted {},
                _,
            ) => {
                self.pending = None;
                return;
            }
            _ => false,
        };
        if over && let Some(Pending { key, since, .. }) = self.pending.take() {
            self.cells.entry(key).or_default().recovered.push(since.elapsed());
        }
    }
}

/// Lets a process go on that was stopped at a point, if it still lives.
fn go_on(herd: &Herd<'_>, pid: u32) {
    if herd.host.daemon() == Some(pid) {
        herd.host.signal_daemon(Signal::SIGCONT, false);
    } else if let Some(held) = herd.held(pid) {
        held.signal(Signal::SIGCONT);
    }
}

/// The part of a life that each point belongs to, in the order of the table.
const CHAPTERS: &[(&str, &[&str])] = &[
    (
        "a start",
        &[
            "session.created",
            "session.started",
            "session.ready",
            "session.woken",
            "spawn",
            "spare.",
            "zygote.",
            "welcome",
        ],
    ),
    ("a start", &["worker.hello", "worker.welcome", "worker.sheltered", "acp.initialize", "acp.new"]),
    ("a crash", &["session.restarting", "session.failed", "dead.", "release", "kill"]),
    ("a restore", &["session.restarted", "acp.load", "acp.resume"]),
    ("an adoption", &["daemon.locked", "daemon.swept", "daemon.listening", "manager.started", "reclaim"]),
    ("an adoption", &["session.adopted", "adopt.", "worker.alone", "worker.visited", "worker.taken-over"]),
    ("an upgrade", &["daemon.handing-over", "daemon.handed-over"]),
    ("a stop", &["session.stopped", "session.hibernated", "session.deleted", "terminate", "worker.leave"]),
    ("a stop", &["manager.stopping"]),
    ("a sub-agent", &["subagent."]),
    ("settings and clients", &["setting.", "set", "session.updated", "client.", "driver"]),
    ("a prompt", &[""]),
];

fn chapter(point: &str) -> usize {
    let found = CHAPTERS.iter().find(|(_, parts)| parts.iter().any(|part| belongs(point, part)));
    let name = found.map_or("a prompt", |(name, _)| name);
    CHAPTERS.iter().position(|(of, _)| *of == name).unwrap_or(CHAPTERS.len())
}

impl Matrix {
    /// Returns the number of cells with a kill, and the number of all cells.
    pub fn reached(&self) -> (usize, usize) {
        (self.cells.values().filter(|cell| cell.struck > 0).count(), self.cells.len())
    }
}

impl fmt::Display for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (reached, all) = self.reached();
        writeln!(f, "Cells in which somebody died: {reached} of {all}\n")?;
        writeln!(
            f,
            "| at | agent | worker | manager | worker + manager | all at once |\n|---|---|---|---|---|---|"
        )?;
        let mut names: Vec<&str> = self.cells.keys().map(|(name, _)| name.as_str()).collect();
        names.dedup();
        names.sort_by_key(|name| chapter(name));
        let mut last = None;
        for name in names {
            let at = chapter(name);
            if last.replace(at) != Some(at) {
                writeln!(f, "| **{}** | | | | | |", CHAPTERS.get(at).map_or("a prompt", |(name, _)| name))?;
            }
            write!(f, "| `{name}` |")?;
            for victim in Victim::ALL {
                write!(f, " {} |", shown(&self.cells[&(name.to_owned(), victim)]))?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// Returns a cell's text: recovery at the median and the 99th percentile, and the number of kills. `·`:
/// nothing was to come back. A dash: there was no victim. Empty: no process reached the point while it was
/// armed.
fn shown(cell: &Cell) -> String {
    match (cell.struck, cell.recovered.is_empty()) {
        (0, _) if cell.absent > 0 => "–".into(),
        (0, _) => String::new(),
        (times, true) => format!("· ×{times}"),
        (times, false) => format!("{} ×{times}", spread(&cell.recovered, &[50, 99])),
    }
}

/// These percentiles of the times.
pub fn spread(times: &[Duration], per_cent: &[usize]) -> String {
    let mut times = times.to_vec();
    times.sort();
    let at = |per_cent: &usize| times.get((times.len() * per_cent / 100).min(times.len().saturating_sub(1)));
    let shown: Vec<String> = per_cent.iter().filter_map(at).map(|time| format!("{time:.1?}")).collect();
    shown.join(" / ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_point_belongs_to_a_chapter() {
        for (point, of) in [
            ("before.prompt.accepted", "a prompt"),
            ("after.set", "settings and clients"),
            ("before.setting.changed", "settings and clients"),
            ("after.session.stopped", "a stop"),
            ("dead.drained", "a crash"),
            ("acp.load", "a restore"),
            ("worker.alone", "an adoption"),
            ("after.driver.changed", "settings and clients"),
            ("after.kill", "a crash"),
        ] {
            assert_eq!(CHAPTERS[chapter(point)].0, of, "{point}");
        }
    }
}
