//! Faults that can strike the processes of a campaign.

mod kinds;

pub use kinds::{BREAKS, Fault, POINTS, points};
pub(crate) use nix::sys::signal::Signal;

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use super::herd::{Held, Herd, is_stopped};
use super::host::{Host, below, children, descriptors};
use super::line::Line;
use crate::rng::Rng;

/// The time for which a worker may stay stopped before it is killed.
const FROZEN: Duration = Duration::from_secs(6);

/// The least time between the end of a cut and the next cut.
const WHOLE: Duration = Duration::from_millis(800);

/// Something to be undone.
enum Later {
    Continue(Held),
    Kill(Held),
    ContinueManager(u32),
    Limit(u32, &'static str),
    Disk,
    Link,
}

/// The faults of a campaign, from their seed.
pub struct Faults<'a> {
    host: &'a Host,
    herd: &'a Herd<'a>,
    /// From the seed.
    pub rng: Rng,
    later: Vec<(Instant, Later)>,
    /// Armed points, until when, and whether to kill there or to stop.
    armed: Vec<(Instant, String, bool)>,
    /// Every point, and how often it was reached while it was armed.
    points: BTreeMap<String, u64>,
    /// Only points that were never reached are armed.
    pub missed_only: bool,
    /// The size of the state's own file system in bytes, where it has one.
    disk: Option<u64>,
    line: Option<&'a Line>,
    /// The next cut is not before this.
    whole_until: Instant,
}

/// The result of a fault.
pub enum Struck {
    /// Nothing was there to be struck.
    Nothing,
    /// These processes.
    Pids(Vec<u32>),
}

impl<'a> Faults<'a> {
    /// Those of a seed.
    pub fn new(
        herd: &'a Herd<'a>,
        seed: u64,
        points: Vec<String>,
        disk: Option<u64>,
        line: Option<&'a Line>,
    ) -> Self {
        let points = points.into_iter().map(|name| (name, 0)).collect();
        let (rng, later, armed) = (Rng::new(seed), Vec::new(), Vec::new());
        let (host, whole_until) = (herd.host, Instant::now());
        Self { host, herd, rng, later, armed, points, missed_only: false, disk, line, whole_until }
    }

    /// Chooses.
    pub fn next(&mut self, among: &[Fault]) -> (Duration, Fault) {
        let mut at = self.rng.below(among.iter().map(|fault| fault.weight()).sum());
        let chosen = among.iter().find(|fault| {
            let here = at < fault.weight();
            at = at.saturating_sub(fault.weight());
            here
        });
        // Over a line everything takes longer, and has to go on in between.
        let longest = if self.line.is_some() { 100_000 } else { 16_000 };
        (Duration::from_micros(self.rng.below(longest)), *chosen.unwrap())
    }

    fn one<T>(&mut self, mut from: Vec<T>) -> Option<T> {
        let at = self.rng.below(from.len() as u64) as usize;
        (at < from.len()).then(|| from.swap_remove(at))
    }

    fn worker(&mut self) -> Option<Held> {
        let workers = self.herd.workers();
        self.one(workers)
    }

    /// A process of the tree below some worker: agents, or what they started.
    fn below(&mut self, agents: bool) -> Option<Held> {
        let mut found = Vec::new();
        for worker in self.herd.workers() {
            let agents_of = children(worker.pid);
            let pids = if agents { agents_of } else { agents_of.into_iter().flat_map(below).collect() };
            found.extend(pids.into_iter().filter_map(|pid| self.herd.held(pid)));
        }
        self.one(found)
    }

    fn soon(&mut self) -> Instant {
        Instant::now() + Duration::from_millis(self.rng.between(5, 250))
    }

    /// Does it.
    pub fn strike(&mut self, fault: Fault) -> Struck {
        let pids = match fault {
            Fault::WorkerKill => self.worker().filter(|it| it.signal(Signal::SIGKILL)).map(|it| vec![it.pid]),
            Fault::WorkerSegv => self.worker().filter(|it| it.signal(Signal::SIGSEGV)).map(|it| vec![it.pid]),
            Fault::WorkerAbrt => self.worker().filter(|it| it.signal(Signal::SIGABRT)).map(|it| vec![it.pid]),
            Fault::WorkerTerm => self.worker().filter(|it| it.signal(Signal::SIGTERM)).map(|it| vec![it.pid]),
            Fault::WorkerStop => self.worker().and_then(|it| self.stop(it)),
            Fault::WorkerFreeze => self.worker().and_then(|it| {
                let pid = it.pid;
                it.signal(Signal::SIGSTOP)
                    .then(|| self.later.push((Instant::now() + FROZEN, Later::Kill(it))))?;
                Some(vec![pid])
            }),
            Fault::WorkerStopKill => self
                .worker()
                .filter(|it| it.signal(Signal::SIGSTOP) && it.signal(Signal::SIGKILL))
                .map(|it| vec![it.pid]),
            Fault::GarbageReport => self.worker().and_then(|it| self.babble(it, "pipe from")),
            Fault::GarbageCommand => self.worker().and_then(|it| self.babble(it, "pipe to")),
            Fault::Truncated => self.worker().and_then(|it| self.truncate(it)),
            Fault::WorkerPair => {
                let both = [self.worker(), self.worker()];
                let killed = both.into_iter().flatten().filter(|it| it.signal(Signal::SIGKILL));
                Some(killed.map(|it| it.pid).collect())
            }
            Fault::AgentKill => {
                self.below(true).filter(|it| it.signal(Signal::SIGKILL)).map(|it| vec![it.pid])
            }
            Fault::AgentSegv => {
                self.below(true).filter(|it| it.signal(Signal::SIGSEGV)).map(|it| vec![it.pid])
            }
            Fault::AgentAbrt => {
                self.below(true).filter(|it| it.signal(Signal::SIGABRT)).map(|it| vec![it.pid])
            }
            Fault::AgentTerm => {
                self.below(true).filter(|it| it.signal(Signal::SIGTERM)).map(|it| vec![it.pid])
            }
            Fault::AgentStop => self.below(true).and_then(|it| self.stop(it)),
            Fault::ChildKill => {
                self.below(false).filter(|it| it.signal(Signal::SIGKILL)).map(|it| vec![it.pid])
            }
            Fault::WorkerAgent => self.worker().map(|worker| {
                let agents = self.herd.agents(worker.pid);
                let all = std::iter::once(worker).chain(agents);
                all.filter(|it| it.signal(Signal::SIGKILL)).map(|it| it.pid).collect()
            }),
            Fault::ManagerKill => self.manager(Signal::SIGKILL),
            Fault::ManagerSegv => self.manager(Signal::SIGSEGV).and_then(|_| self.manager(Signal::SIGSEGV)),
            Fault::ManagerAbrt => self.manager(Signal::SIGABRT),
            Fault::ManagerTerm => self.manager(Signal::SIGTERM),
            Fault::ManagerInt => self.manager(Signal::SIGINT),
            Fault::ManagerStop => self.host.signal_daemon(Signal::SIGSTOP, false).map(|pid| {
                let at = self.soon();
                self.later.push((at, Later::ContinueManager(pid)));
                vec![pid]
            }),
            Fault::ManagerWorker => self.worker().and_then(|worker| {
                // Stopped, it cannot end its tree in the moment between the two.
                worker.signal(Signal::SIGSTOP);
                let mut killed = self.manager(Signal::SIGKILL)?;
                worker.signal(Signal::SIGKILL);
                killed.push(worker.pid);
                Some(killed)
            }),
            Fault::NoDescriptor => self.limit("nofile"),
            Fault::NoProcess => self.limit("nproc"),
            Fault::DiskFull => self.fill_disk(),
            Fault::LinkDown | Fault::SshKill | Fault::SshdKill | Fault::RelayKill | Fault::TcpReset => {
                self.cut(fault)
            }
            Fault::Point => self.arm(),
        };
        match pids {
            Some(pids) if !pids.is_empty() => Struck::Pids(pids),
            _ => Struck::Nothing,
        }
    }

    fn manager(&mut self, signal: Signal) -> Option<Vec<u32>> {
        Some(vec![self.host.signal_daemon(signal, true)?])
    }

    fn stop(&mut self, held: Held) -> Option<Vec<u32>> {
        let (pid, at) = (held.pid, self.soon());
        held.signal(Signal::SIGSTOP).then(|| self.later.push((at, Later::Continue(held))))?;
        Some(vec![pid])
    }

    /// Writes into a worker's own pipe, by way of its descriptors in /proc.
    fn write(&self, worker: &Held, which: &str, bytes: &[u8]) -> Option<()> {
        let ends: Vec<_> = std::fs::read_dir(format!("/proc/{}/fd", worker.pid)).ok()?.flatten().collect();
        let pipes = ends.iter().filter(|entry| {
            let target = std::fs::read_link(entry.path()).unwrap_or_default();
            let number = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
            target.to_string_lossy().starts_with("pipe:") && number.is_some_and(|number| number > 2)
        });
        // Its two frame pipes are the first that it opens: from the manager, and to it.
        let mut pipes: Vec<_> = pipes.map(std::fs::DirEntry::path).collect();
        pipes.sort_by_key(|path| path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok()));
        let path = pipes.get(if which == "pipe to" { 0 } else { 1 })?;
        let nonblock = rustix::fs::OFlags::NONBLOCK.bits() as i32;
        let mut pipe = OpenOptions::new().write(true).custom_flags(nonblock).open(path).ok()?;
        pipe.write_all(bytes).ok()
    }

    fn babble(&mut self, worker: Held, which: &str) -> Option<Vec<u32>> {
        // No frame has this length, so its reader notices at once.
        let mut bytes = vec![0xff; 4];
        bytes.extend((0..self.rng.below(200)).map(|_| self.rng.below(256) as u8));
        self.write(&worker, which, &bytes)?;
        // In the middle of a long frame it is taken for a part of it, and everybody waits in good faith.
        let pid = worker.pid;
        self.later.push((Instant::now() + Duration::from_millis(500), Later::Kill(worker)));
        Some(vec![pid])
    }

    fn truncate(&mut self, worker: Held) -> Option<Vec<u32>> {
        let length = self.rng.between(8, 4_000) as u32;
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend((0..self.rng.below(u64::from(length))).map(|_| 0));
        self.write(&worker, "pipe from", &bytes)?;
        worker.signal(Signal::SIGKILL);
        Some(vec![worker.pid])
    }

    /// Cuts the connection between the machines, unless it was cut just now: it has to carry something in between.
    fn cut(&mut self, fault: Fault) -> Option<Vec<u32>> {
        let line = self.line.filter(|_| Instant::now() >= self.whole_until)?;
        let among = match fault {
            Fault::SshKill => line.clients_of_ssh(),
            Fault::SshdKill => line.sessions_of_sshd(),
            Fault::RelayKill => line.relays(),
            Fault::TcpReset => {
                self.host.undisturbed(|| line.reset()).then_some(())?;
                self.whole_until = Instant::now() + WHOLE;
                return Some(vec![line.server()]);
            }
            _ => {
                self.host.undisturbed(|| line.set(false)).then_some(())?;
                let long = self.rng.chance(200);
                let down = if long { self.rng.between(1_000, 5_000) } else { self.rng.between(5, 400) };
                let at = Instant::now() + Duration::from_millis(down);
                self.later.push((at, Later::Link));
                self.whole_until = at + WHOLE;
                return Some(vec![line.server()]);
            }
        };
        let pid = self.one(among)?;
        // Between the look and this it may have ended, and nothing is started with its number so soon.
        crate::real::signal(pid, Signal::SIGKILL);
        self.whole_until = Instant::now() + WHOLE;
        Some(vec![pid])
    }

    fn limit(&mut self, resource: &'static str) -> Option<Vec<u32>> {
        let manager = self.host.daemon()?;
        // A limit that is low already would be raised too early.
        if self.later.iter().any(|(_, later)| matches!(later, Later::Limit(..))) {
            return None;
        }
        // A daemon that is just starting reports that it cannot, and exits.
        children(manager).first()?;
        let low = if resource == "nofile" { descriptors(manager)? as u64 + 1 } else { 0 };
        if !self.host.limit(manager, resource, Some(low)) {
            return None;
        }
        let at = self.soon();
        self.later.push((at, Later::Limit(manager, resource)));
        Some(vec![manager])
    }

    fn fill_disk(&mut self) -> Option<Vec<u32>> {
        self.disk?;
        let state = self.host.place.state();
        let room = rustix::fs::statvfs(&state).ok()?;
        resize(&state, (room.f_blocks - room.f_bfree) * room.f_frsize)?;
        let at = self.soon() + Duration::from_millis(500);
        self.host.disk_is_full(at + Duration::from_secs(2));
        self.later.push((at, Later::Disk));
        Some(vec![self.host.daemon()?])
    }

    /// Arms one of those that were reached least, so that all have their turn.
    fn arm(&mut self) -> Option<Vec<u32>> {
        let missed = |name: &String| !self.missed_only || self.points[name] == 0;
        let free = |name: &String| missed(name) && !self.armed.iter().any(|(_, armed, _)| armed == name);
        let idle: Vec<(&String, u64)> =
            self.points.iter().filter(|(name, _)| free(name)).map(|(name, times)| (name, *times)).collect();
        let least = idle.iter().map(|(_, times)| *times).min()?;
        let least =
            idle.into_iter().filter(|(_, times)| *times == least).map(|(name, _)| name.clone()).collect();
        let name = self.one::<String>(least)?;
        let kill = !self.rng.chance(150);
        let act = if kill { "kill" } else { "stop" };
        let path = self.host.place.points();
        // Appears whole.
        let (new, file) = (path.join(".new"), path.join(&name));
        std::fs::write(&new, act).ok()?;
        std::fs::rename(new, file).ok()?;
        self.armed.push((Instant::now() + Duration::from_secs(2), name, kill));
        Some(Vec::new())
    }

    /// Undoes what is due. Gives the number of deaths at points, or after a stop at one.
    pub fn tend(&mut self, everything: bool) -> u64 {
        let now = Instant::now();
        let due = |at: &Instant| everything || *at <= now;
        let (later, rest) = std::mem::take(&mut self.later).into_iter().partition(|(at, _)| due(at));
        self.later = rest;
        let later: Vec<(Instant, Later)> = later;
        for (_, what) in later {
            match what {
                Later::Kill(held) => {
                    held.signal(Signal::SIGKILL);
                }
                Later::Continue(held) => drop(held.signal(Signal::SIGCONT)),
                Later::ContinueManager(pid) => {
                    if self.host.daemon() == Some(pid) {
                        self.host.signal_daemon(Signal::SIGCONT, false);
                    }
                }
                Later::Limit(manager, resource) => {
                    self.host.limit(manager, resource, None);
                }
                Later::Link => {
                    let _ = self.line.is_some_and(|line| self.host.undisturbed(|| line.set(true)));
                }
                Later::Disk => {
                    let _ = self.disk.and_then(|size| resize(&self.host.place.state(), size));
                }
            }
        }
        let mut deaths = 0;
        let path = self.host.place.points();
        let points = &mut self.points;
        self.armed.retain(|(until, name, kill)| {
            let file = path.join(name);
            let over = due(until);
            // Taken back when its time is over, unless it is reached in this very moment.
            let reached = if over { std::fs::remove_file(file).is_err() } else { !file.exists() };
            if reached {
                deaths += u64::from(*kill);
                *points.entry(name.clone()).or_default() += 1;
            }
            !reached && !over
        });
        deaths + self.thaw(everything)
    }

    /// Returns how often each point was reached.
    pub fn reached(&self) -> &BTreeMap<String, u64> {
        &self.points
    }

    /// Returns the points that no process has reached.
    pub fn missed(&self) -> Vec<String> {
        self.points.iter().filter(|(_, times)| **times == 0).map(|(name, _)| name.clone()).collect()
    }

    /// Lets go on what a point has stopped, or ends it. Gives the number of those that it has ended.
    fn thaw(&mut self, everything: bool) -> u64 {
        let mut deaths = 0;
        if self.points.is_empty() {
            return deaths;
        }
        for worker in self.herd.workers() {
            if is_stopped(worker.pid) {
                let kill = !everything && self.rng.chance(500);
                worker.signal(if kill { Signal::SIGKILL } else { Signal::SIGCONT });
                deaths += u64::from(kill);
            }
        }
        if self.host.daemon().is_some_and(is_stopped) {
            let kill = !everything && self.rng.chance(500);
            self.host.signal_daemon(if kill { Signal::SIGKILL } else { Signal::SIGCONT }, kill);
            deaths += u64::from(kill);
        }
        deaths
    }
}

/// Gives the file system at `path`, a tmpfs of ours, another size in bytes.
fn resize(path: &std::path::Path, bytes: u64) -> Option<()> {
    let data = format!("size={bytes}");
    let flags = nix::mount::MsFlags::MS_REMOUNT;
    nix::mount::mount(None::<&str>, path, None::<&str>, flags, Some(data.as_str())).ok()
}
