//! Facts that events tell, some of them only together with an earlier one. Pure: the caller has the clock.

use std::collections::{BTreeMap, HashMap};

use protocol::SessionId;
use protocol::api::Usage;
use protocol::event::{EventKind, Outcome, RestartCause, StallStep};

use super::seen::{Loaded, Worker};
use crate::core::Session;

/// Something to count.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Fact {
    Restart(&'static str),
    /// After so many milliseconds.
    Recovered(u64),
    Failed,
    OomKilled,
    Stalled,
    Accepted,
    /// With this outcome.
    Turn(&'static str),
    /// Tokens, and US dollars if they are told.
    Used {
        input: u64,
        output: u64,
        cost: Option<f64>,
    },
}

/// Facts that wait for another one. Bounded by the sessions that there are.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Sessions whose process is being replaced, and when the first of its deaths was recorded, in milliseconds since boot.
    lost_at: HashMap<SessionId, u64>,
    /// The usage that sessions last reported.
    used: HashMap<SessionId, Usage>,
    /// The worker of sessions at the last look, and the most processor time that its tree was seen with, in milliseconds; none
    /// where an earlier manager has seen the first of it.
    cpu: HashMap<SessionId, (Worker, Option<u64>)>,
}

/// Returns true if an event of this kind may tell something. The loop asks for each event, and most are pieces of text.
pub(super) fn counts(kind: &EventKind) -> bool {
    use EventKind::*;
    matches!(
        kind,
        SessionRestarting { .. }
            | SessionRestarted { .. }
            | SessionFailed { .. }
            | SessionStopped { .. }
            | SessionHibernated {}
            | SessionDeleted {}
            | SessionOomKilled { .. }
            | SessionStalled { .. }
            | PromptAccepted { .. }
            | TurnCompleted { .. }
            | TurnInterrupted { .. }
            | UsageUpdated { .. }
    )
}

/// The word for an outcome.
pub(super) fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Completed => "completed",
        Outcome::Aborted => "aborted",
        Outcome::Interrupted => "interrupted",
    }
}

/// A turn that was cut off and whose prompt goes to the agent again.
pub(super) const RETRIED: &str = "retried";

impl Tally {
    pub fn begin(&mut self, session: &Session) {
        let id = &session.id;
        self.used.extend(session.usage.clone().map(|usage| (id.clone(), usage)));
        self.cpu.extend(session.worker().map(|worker| (id.clone(), ((worker.pid, worker.start_time), None))));
    }

    /// The facts of one event.
    pub fn facts(&mut self, id: &SessionId, kind: &EventKind, now: u64) -> Vec<Fact> {
        match kind {
            EventKind::SessionRestarting { cause, .. } => {
                if !matches!(cause, Some(RestartCause::Requested | RestartCause::Outdated)) {
                    // A replacement that dies before it is ready makes the same recovery longer.
                    self.lost_at.entry(id.clone()).or_insert(now);
                }
                vec![Fact::Restart(cause.map_or("unknown", |cause| cause.as_str()))]
            }
            EventKind::SessionRestarted { .. } => {
                let lost_at = self.lost_at.remove(id);
                lost_at.map(|at| Fact::Recovered(now.saturating_sub(at))).into_iter().collect()
            }
            EventKind::SessionFailed { .. } => {
                self.lost_at.remove(id);
                vec![Fact::Failed]
            }
            EventKind::SessionStopped { .. } | EventKind::SessionHibernated {} => {
                self.lost_at.remove(id);
                Vec::new()
            }
            EventKind::SessionDeleted {} => {
                self.lost_at.remove(id);
                self.used.remove(id);
                self.cpu.remove(id);
                Vec::new()
            }
            EventKind::SessionOomKilled { .. } => vec![Fact::OomKilled],
            EventKind::SessionStalled { step: StallStep::Noticed, .. } => vec![Fact::Stalled],
            EventKind::PromptAccepted { .. } => vec![Fact::Accepted],
            EventKind::TurnCompleted { outcome, .. } => vec![Fact::Turn(word(*outcome))],
            // The prompt has not ended.
            EventKind::TurnInterrupted { will_retry: true, .. } => vec![Fact::Turn(RETRIED)],
            EventKind::TurnInterrupted { .. } => vec![Fact::Turn(word(Outcome::Interrupted))],
            EventKind::UsageUpdated { usage, .. } => {
                let before = self.used.insert(id.clone(), usage.clone());
                vec![on_top(before.as_ref(), usage)]
            }
            _ => Vec::new(),
        }
    }

    /// Processor time by agent since the last look, in milliseconds. Of a process that ends between two looks the time since the
    /// first is not known.
    pub fn processor_time(&mut self, loads: &[Loaded]) -> BTreeMap<String, u64> {
        let mut by_agent: BTreeMap<String, u64> = BTreeMap::new();
        let mut before = std::mem::take(&mut self.cpu);
        for load in loads {
            let last = before.remove(&load.session).filter(|(worker, _)| *worker == load.worker);
            // A look at many processes is no instant: one may be missed, or be counted with its parent's as well.
            let seen = load.cpu_ms.max(last.and_then(|(_, seen)| seen).unwrap_or(0));
            if load.processes == 0 {
                self.cpu.extend(last.map(|last| (load.session.clone(), last)));
                continue;
            }
            let more = match last {
                None => seen,
                Some((_, None)) => 0,
                Some((_, Some(before))) => seen - before,
            };
            *by_agent.entry(load.agent.clone()).or_default() += more;
            self.cpu.insert(load.session.clone(), (load.worker, Some(seen)));
        }
        by_agent
    }
}

/// The usage that a report adds to the one before. An agent's reports are sums, which begin anew with a new conversation.
fn on_top(before: Option<&Usage>, now: &Usage) -> Fact {
    let (input, output, cost) =
        before.map_or((0, 0, None), |before| (before.input_tokens, before.output_tokens, before.cost_usd));
    let cost = now.cost_usd.filter(|cost| cost.is_finite() && *cost >= 0.0).map(|now| {
        let before = cost.unwrap_or(0.0);
        if now >= before { now - before } else { now }
    });
    Fact::Used { input: grown(input, now.input_tokens), output: grown(output, now.output_tokens), cost }
}

/// The growth of a sum, which may have begun anew.
fn grown(before: u64, now: u64) -> u64 {
    now.checked_sub(before).unwrap_or(now)
}
