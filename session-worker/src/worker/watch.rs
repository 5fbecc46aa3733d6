//! Memory and processes of everything below: what the kernel says of a control group, or, where there is none, what the
//! worker finds by looking now and then.

use std::time::Duration;

use protocol::wire::Report;
use protocol::{Groups, Keeper, LimitedBy, Limits};
use tokio::time::Instant;

use crate::tree;

/// Between two looks at what is far from its limit, and at what is not.
const CALM: Duration = Duration::from_millis(250);
const CLOSE: Duration = Duration::from_millis(50);

/// Looks at what everything below uses.
#[derive(Debug)]
pub struct Watch {
    memory: Option<u64>,
    pids: Option<u32>,
    /// Instant of the next sample.
    pub next: Instant,
    /// There was too much at the last look.
    over: bool,
}

/// More than there may be.
#[derive(Debug, PartialEq, Eq)]
pub enum Excess {
    /// Memory, in bytes.
    Memory { found: u64, limit: u64 },
    /// Processes and threads.
    Pids { found: u32, limit: u32 },
}

impl Watch {
    /// Makes a watch of the limits that the worker itself enforces; `None` if there are none.
    pub fn new(limits: &Limits, by: &LimitedBy) -> Option<Self> {
        let watched = |keeper| keeper == Some(Keeper::Watched);
        let memory = limits.memory_bytes.filter(|_| watched(by.memory));
        let pids = limits.pids.filter(|_| watched(by.pids));
        (memory.is_some() || pids.is_some()).then(|| Self { memory, pids, next: Instant::now(), over: false })
    }

    /// Forgets the last excess: the programs are gone.
    pub fn forget(&mut self) {
        self.over = false;
    }

    /// Returns true if the last excess is new: killed processes take a while to free their memory.
    pub fn is_news(&mut self) -> bool {
        !std::mem::replace(&mut self.over, true)
    }

    /// Samples the usage if it is time. Returns the limit that the programs exceed.
    pub fn look(&mut self, now: Instant) -> Option<Excess> {
        if now < self.next {
            return None;
        }
        let used = tree::used();
        let close = |found: u64, limit: Option<u64>| limit.is_some_and(|limit| found > limit / 2);
        let pause =
            match close(used.resident, self.memory) || close(used.tasks.into(), self.pids.map(u64::from)) {
                true => CLOSE,
                false => CALM,
            };
        self.next = now + pause;
        if let Some(limit) = self.pids.filter(|limit| used.tasks > *limit) {
            return Some(Excess::Pids { found: used.tasks, limit });
        }
        // `resident` is cheap and counts shared memory once for each process; the proportional size counts it once.
        let limit = self.memory.filter(|limit| used.resident > *limit)?;
        let found = tree::proportional_bytes();
        (found > limit).then_some(Excess::Memory { found, limit })
    }
}

/// The control group that the memory of everything below counts in.
#[derive(Debug)]
pub struct MemoryGroup {
    limit: u64,
    by: Keeper,
    events: String,
    peak: Option<String>,
    /// Killed so far, as was told.
    told: u64,
}

impl MemoryGroup {
    /// None if there is none.
    pub fn new(limits: &Limits, by: &LimitedBy, groups: Groups) -> Option<Self> {
        let (limit, by) = (limits.memory_bytes?, by.memory?);
        let mut group = Self { limit, by, events: groups.memory_events?, peak: groups.memory_peak, told: 0 };
        group.told = group.killed();
        Some(group)
    }

    fn killed(&self) -> u64 {
        std::fs::read_to_string(&self.events).ok().and_then(|events| killed(&events)).unwrap_or(0)
    }

    /// Report of a kill for lack of memory; `None` if the kernel has killed no process since the last call.
    pub fn news(&mut self) -> Option<Report> {
        let killed = self.killed();
        if killed <= self.told {
            return None;
        }
        self.told = killed;
        let peak = self.peak.as_ref().and_then(|peak| std::fs::read_to_string(peak).ok());
        let peak_bytes = peak.and_then(|peak| peak.trim().parse().ok());
        Some(Report::OutOfMemory { peak_bytes, limit_bytes: self.limit, by: self.by })
    }
}

/// The line `oom_kill N` of `memory.events` (version 2) and of `memory.oom_control` (version 1, from Linux 4.13).
fn killed(events: &str) -> Option<u64> {
    events.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_say_how_many_were_killed() {
        assert_eq!(killed("low 0\nhigh 0\nmax 17\noom 2\noom_kill 3\noom_group_kill 1\n"), Some(3));
        assert_eq!(killed("oom_kill_disable 0\nunder_oom 0\noom_kill 4\n"), Some(4));
        assert_eq!(killed("oom_kill_disable 0\nunder_oom 0\n"), None);
    }

    #[test]
    fn what_is_too_much_is_news_once_until_its_programs_are_gone() {
        let limits = Limits { memory_bytes: Some(1 << 30), ..Limits::default() };
        let mut watch = Watch::new(&limits, &limits.without_groups()).unwrap();
        assert!(watch.is_news() && !watch.is_news());
        watch.forget();
        assert!(watch.is_news());
    }

    #[test]
    fn only_what_nothing_else_sees_to_is_watched() {
        let limits = Limits { memory_bytes: Some(1 << 30), pids: Some(100), ..Limits::default() };
        let by = limits.without_groups();
        assert!(Watch::new(&limits, &by).is_some_and(|watch| watch.memory.is_some() && watch.pids.is_some()));
        let by = LimitedBy { memory: Some(Keeper::CgroupV1), ..by };
        assert!(Watch::new(&limits, &by).is_some_and(|watch| watch.memory.is_none() && watch.pids.is_some()));
        let by = LimitedBy { pids: Some(Keeper::CgroupV1), ..by };
        assert!(Watch::new(&limits, &by).is_none());
        assert!(Watch::new(&Limits::default(), &Limits::default().without_groups()).is_none());
    }
}
