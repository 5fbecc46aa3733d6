//! Errands lead a process to a point that it seldom reaches by chance. The matrix strikes there; a campaign
//! that has missed a point runs its errand at last.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::faults::Fault;
use crate::rng::Rng;

/// Between two errands of a kind.
const EVERY: Duration = Duration::from_secs(1);

/// A way to reach some points.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Errand {
    /// A client that drives while its agent wants something of it.
    Drive,
    /// An answer to a permission.
    Permit,
    /// Another text for a waiting prompt.
    Edit,
    /// An agent that shows nothing for too long.
    Stall,
    /// An agent that takes too much memory.
    Starve,
    /// A new conversation.
    Open,
    /// A sub-agent that is not restarted, and its agent's death.
    Lose,
    /// An agent's death in the middle of a tool call.
    Break,
    /// A worker that does nothing more.
    Freeze,
    /// A manager that leaves its workers to the next.
    HandOver,
    /// A manager that ends all processes and leaves.
    End,
}

/// The points that each errand leads to.
const ERRANDS: &[(Errand, &[&str])] = &[
    (Errand::Drive, &["call.", "client.", "driver"]),
    (Errand::Permit, &["permission.resolved", "respond"]),
    (Errand::Edit, &["prompt.edited", "prompt.removed"]),
    (Errand::Stall, &["session.stalled"]),
    (Errand::Starve, &["session.oom_killed"]),
    (Errand::Open, &["acp.new"]),
    (Errand::Lose, &["session.failed", "subagent.lost"]),
    (Errand::Break, &["tool_call.interrupted"]),
    (Errand::Freeze, &["kill"]),
    (Errand::HandOver, &["daemon.", "adopt.", "session.adopted", "worker.visited", "worker.taken-over"]),
    (Errand::End, &["manager.stopping"]),
];

impl Errand {
    /// The one that leads to this point, if chance alone does not.
    pub fn to(point: &str) -> Option<Self> {
        let found = ERRANDS.iter().find(|(_, parts)| parts.iter().any(|part| belongs(point, part)));
        found.map(|(errand, _)| *errand)
    }

    /// The harness does these itself; a client does the others.
    pub fn blow(self) -> Option<Fault> {
        match self {
            Errand::Freeze => Some(Fault::WorkerFreeze),
            Errand::HandOver => Some(Fault::ManagerTerm),
            Errand::End => Some(Fault::ManagerInt),
            _ => None,
        }
    }

    /// Returns the time that the errand needs, during which no fault may strike elsewhere. An errand that
    /// takes long would never end otherwise.
    pub fn peace(self) -> Duration {
        Duration::from_millis(match self {
            Errand::Freeze => 5_000,
            Errand::Stall => 4_000,
            Errand::Starve => 3_000,
            Errand::Lose | Errand::Permit => 1_000,
            _ => 0,
        })
    }
}

/// The part of the campaign that does an errand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The harness.
    Blow,
    /// A client.
    Client,
}

/// When somebody was last sent on each errand.
#[derive(Default)]
pub struct Errands(BTreeMap<Errand, Instant>);

impl Errands {
    /// Chooses an errand that leads to one of these points and that no client is doing.
    pub fn choose<'a>(
        &mut self,
        points: impl Iterator<Item = &'a str>,
        by: By,
        rng: &mut Rng,
    ) -> Option<Errand> {
        let idle = |errand: &Errand| {
            let is_blow = errand.blow().is_some();
            is_blow == (by == By::Blow) && self.0.get(errand).is_none_or(|sent| sent.elapsed() >= EVERY)
        };
        let errands: Vec<Errand> = points.filter_map(Errand::to).filter(idle).collect();
        let errand = rng.pick(&errands)?;
        self.0.insert(errand, Instant::now());
        Some(errand)
    }
}

/// Returns true if a point is this one, before or after; or, where the name ends with a dot, one of this
/// group.
pub fn belongs(point: &str, part: &str) -> bool {
    let bare = point.strip_prefix("before.").or(point.strip_prefix("after.")).unwrap_or(point);
    match part.ends_with('.') || part.is_empty() {
        true => bare.starts_with(part),
        false => bare == part || (part == "driver" && bare == "driver.changed"),
    }
}
