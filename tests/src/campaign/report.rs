//! The results of a campaign, as a table.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use protocol::event::{Event, EventKind, Outcome};

use super::Options;
use super::matrix::{Matrix, spread};
use crate::history::Violation;

/// The ends of prompts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Prompts {
    accepted: usize,
    completed: usize,
    aborted: usize,
    interrupted: usize,
    retried: usize,
    /// They wait in a failed session for somebody to restart it.
    pub held: usize,
    /// Accepted, and neither ended nor held.
    pub lost: usize,
    /// Run twice.
    pub doubled: usize,
}

impl Prompts {
    /// Counts.
    pub fn event(&mut self, event: &Event) {
        match &event.kind {
            EventKind::PromptAccepted { .. } => self.accepted += 1,
            EventKind::TurnCompleted { outcome: Outcome::Completed, .. } => self.completed += 1,
            EventKind::TurnCompleted { .. } | EventKind::PromptRemoved { .. } => self.aborted += 1,
            EventKind::TurnInterrupted { will_retry: true, .. } => self.retried += 1,
            EventKind::TurnInterrupted { .. } => self.interrupted += 1,
            _ => {}
        }
    }
}

/// Processes and files that should not exist.
#[derive(Clone, Copy, Debug, Default)]
pub struct Leftovers {
    /// Processes without a session.
    pub orphans: usize,
    /// Dead children that were not reaped.
    pub zombies: usize,
    /// Strangers' processes that were hit.
    pub strangers: usize,
    /// Events that somebody was not shown, or that are in no journal.
    pub events_lost: usize,
    /// Events that somebody was shown twice.
    pub events_doubled: usize,
}

/// A campaign's end.
pub struct Report {
    /// The options of the run.
    pub options: Options,
    /// The duration of the run.
    pub took: Duration,
    /// The number of strikes of each fault.
    pub struck: BTreeMap<String, u64>,
    /// The number of times that each point was reached while it was armed.
    pub reached: BTreeMap<String, u64>,
    /// Cuts of the line between two machines.
    pub cuts: u64,
    /// Processes killed.
    pub kills: u64,
    /// Quiet moments in which everything was looked at.
    pub quiets: u64,
    /// The number of times that a subscriber stopped reading.
    pub slow_reads: u64,
    /// The refusals of clients' requests, by code.
    pub refusals: BTreeMap<String, u64>,
    /// The ends of managers.
    pub manager_ends: BTreeMap<String, u64>,
    /// Events recorded.
    pub events: usize,
    /// Sessions brought back.
    pub restarts: usize,
    /// Sessions given up.
    pub failed: usize,
    /// Prompts.
    pub prompts: Prompts,
    /// Processes and files that should not exist.
    pub leftovers: Leftovers,
    /// From a worker's death to its session's readiness, less the backoff.
    pub workers: Vec<Duration>,
    /// From the manager's death to its successor's start.
    pub managers: Vec<Duration>,
    /// From the loss of a stream to the first event of the next, over the line between two machines.
    pub reconnected: Vec<Duration>,
    /// From the loss of a stream to the newest event that anybody had when the next began.
    pub caught_up: Vec<Duration>,
    /// The kills at each point, and the times to recovery.
    pub matrix: Option<Matrix>,
    /// The last lines of the daemon's log.
    pub log: String,
    /// The violations.
    pub violations: Vec<Violation>,
}

impl Report {
    /// Nothing was found.
    pub fn is_fine(&self) -> bool {
        self.violations.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Options { sessions, seed, .. } = &self.options;
        writeln!(f, "| campaign | |\n|---|---|")?;
        writeln!(f, "| seed, sessions | {seed}, {sessions} |")?;
        writeln!(f, "| took | {:.0?} |", self.took)?;
        writeln!(f, "| **kills** | **{}** |", self.kills)?;
        writeln!(f, "| quiet moments with everything checked | {} |", self.quiets)?;
        writeln!(f, "| sessions restarted / given up as `failed` | {} / {} |", self.restarts, self.failed)?;
        let ends: u64 = self.manager_ends.values().sum();
        writeln!(f, "| managers replaced | {ends} ({}) |", listed(&self.manager_ends))?;
        let Prompts { accepted, completed, aborted, interrupted, retried, held, lost, doubled } =
            self.prompts;
        writeln!(f, "| prompts accepted | {accepted} |")?;
        writeln!(
            f,
            "| – completed / aborted / interrupted / held by `failed` | {completed} / {aborted} / {interrupted} / {held} |"
        )?;
        writeln!(f, "| – turns cut off and run again, where the profile says so | {retried} |")?;
        writeln!(f, "| – **lost / doubled** | **{lost} / {doubled}** |")?;
        let Leftovers { orphans, zombies, strangers, events_lost, events_doubled } = self.leftovers;
        writeln!(f, "| events recorded | {} |", self.events)?;
        writeln!(f, "| – **lost / doubled** | **{events_lost} / {events_doubled}** |")?;
        writeln!(
            f,
            "| **orphans / zombies / wrong pids signalled** | **{orphans} / {zombies} / {strangers}** |"
        )?;
        writeln!(f, "| recovery of a session, p50 / p99 / max | {} |", measured(&self.workers))?;
        writeln!(f, "| recovery of the manager, p50 / p99 / max | {} |", measured(&self.managers))?;
        if self.options.cuts > 0 {
            writeln!(f, "| **cuts of the line between two machines** | **{}** |", self.cuts)?;
            writeln!(f, "| a lost stream goes on, p50 / p99 / max | {} |", measured(&self.reconnected))?;
            writeln!(f, "| a lost stream has caught up, p50 / p99 / max | {} |", measured(&self.caught_up))?;
        }
        writeln!(f, "| refusals | {} |", listed(&self.refusals))?;
        writeln!(f, "| **violations** | **{}** |", self.violations.len())?;
        writeln!(f, "\n| fault | times |\n|---|---|")?;
        for (name, times) in &self.struck {
            writeln!(f, "| {name} | {times} |")?;
        }
        writeln!(f, "| slow reader | {} |", self.slow_reads)?;
        if !self.reached.is_empty() {
            let never = self.reached.iter().filter(|(_, times)| **times == 0).map(|(name, _)| name.as_str());
            let never: Vec<&str> = never.collect();
            writeln!(
                f,
                "\nPoints never reached: {}",
                if never.is_empty() { "none".into() } else { never.join(", ") }
            )?;
            writeln!(f, "\n| point | deaths and stops |\n|---|---|")?;
            for (name, times) in &self.reached {
                writeln!(f, "| {name} | {times} |")?;
            }
        }
        if let Some(matrix) = &self.matrix {
            writeln!(f, "\n{matrix}")?;
        }
        for violation in &self.violations {
            writeln!(f, "\nVIOLATION: {violation}")?;
        }
        if !self.is_fine() {
            writeln!(f, "\nThe daemon's log ends with:\n{}", self.log)?;
        }
        Ok(())
    }
}

fn listed(counts: &BTreeMap<String, u64>) -> String {
    let all: Vec<String> = counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
    if all.is_empty() { "none".into() } else { all.join(", ") }
}

fn measured(times: &[Duration]) -> String {
    if times.is_empty() {
        return "not measured".into();
    }
    format!("{} ({} measured)", spread(times, &[50, 99, 100]), times.len())
}
