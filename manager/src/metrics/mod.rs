//! Figures for Prometheus: counts of what is on record, and times that promises took.
//!
//! The loop hands each event over once it is committed, and a count is one addition. What can be looked at when somebody asks is
//! not counted: `seen.rs` has that. All counts begin at 0 with the manager, as Prometheus expects of counters.

mod agents;
mod seen;
mod tally;

use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use protocol::SessionId;
use protocol::event::{Event, Outcome, RestartCause};

use self::agents::Agents;
use self::tally::{Fact, RETRIED, Tally, word};

use crate::core::Session;

pub(crate) use self::seen::{Loaded, Seen};

/// The first part of each name.
const PREFIX: &str = "kennel";

/// Bounds of what is over within a second unless something is wrong, in seconds.
const SHORT: [f64; 15] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
/// Bounds of what an agent's start is a part of, in seconds.
const LONG: [f64; 15] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 600.0];

/// A count of something with a fraction.
type Fraction = Counter<f64, AtomicU64>;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfAgent {
    agent: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Restart {
    agent: String,
    cause: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Turn {
    agent: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Tokens {
    agent: String,
    direction: &'static str,
}

/// The counts of one manager.
#[derive(Debug)]
pub(crate) struct Metrics {
    counts: Registry,
    agents: Agents,
    tally: Mutex<Tally>,
    events: Counter,
    restarts: Family<Restart, Counter>,
    recovery: Histogram,
    failures: Family<OfAgent, Counter>,
    oom_kills: Family<OfAgent, Counter>,
    stalls: Family<OfAgent, Counter>,
    prompts: Family<OfAgent, Counter>,
    turns: Family<Turn, Counter>,
    tokens: Family<Tokens, Counter>,
    cost: Family<OfAgent, Fraction>,
    cpu: Family<OfAgent, Fraction>,
    accept: Histogram,
    commit: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut new = Self {
            counts: Registry::with_prefix(PREFIX),
            agents: Agents::default(),
            tally: Mutex::default(),
            events: Counter::default(),
            restarts: Family::default(),
            recovery: Histogram::new(LONG),
            failures: Family::default(),
            oom_kills: Family::default(),
            stalls: Family::default(),
            prompts: Family::default(),
            turns: Family::default(),
            tokens: Family::default(),
            cost: Family::default(),
            cpu: Family::default(),
            accept: Histogram::new(SHORT),
            commit: Histogram::new(SHORT),
        };
        new.register();
        new
    }
}

impl Metrics {
    /// Gives the counts their names.
    fn register(&mut self) {
        let to = &mut self.counts;
        to.register("events", "Events that were recorded", self.events.clone());
        to.register("restarts", "Replacements of sessions' processes, by cause", self.restarts.clone());
        to.register_with_unit(
            "recovery",
            "Time from the record of a process's death until its replacement is ready",
            Unit::Seconds,
            self.recovery.clone(),
        );
        to.register("failures", "Sessions that kennel gave up", self.failures.clone());
        to.register(
            "oom_kills",
            "Times that a session went over its memory limit and processes were killed",
            self.oom_kills.clone(),
        );
        to.register("stalls", "Turns in which the agent showed no sign of work", self.stalls.clone());
        to.register("prompts_accepted", "Prompts that are on disk", self.prompts.clone());
        to.register("turns", "Turns that ended, by outcome", self.turns.clone());
        to.register("tokens", "Tokens that agents report, read by the model or written", self.tokens.clone());
        to.register("cost_usd", "Cost that agents report, in US dollars", self.cost.clone());
        to.register_with_unit(
            "cpu",
            "Processor time of sessions' processes, as far as it was looked at",
            Unit::Seconds,
            self.cpu.clone(),
        );
        to.register_with_unit(
            "accept",
            "Time from a prompt's request until the prompt is on disk",
            Unit::Seconds,
            self.accept.clone(),
        );
        to.register_with_unit(
            "commit",
            "Time in which the journal wrote and synced one batch",
            Unit::Seconds,
            self.commit.clone(),
        );
    }

    /// A session of an earlier manager: what it uses on top counts.
    pub fn begin(&self, session: &Session) {
        self.tally().begin(session);
    }

    /// Counts events that are on record. `agent` knows the agents of the sessions; `now` is in milliseconds since boot.
    pub fn committed<'a>(
        &self,
        events: impl Iterator<Item = &'a Event>,
        agent: impl Fn(&SessionId) -> Option<String>,
        now: u64,
    ) {
        let mut tally = None;
        for event in events {
            self.events.inc();
            let Some(id) = event.session.as_ref().filter(|_| tally::counts(&event.kind)) else { continue };
            let tally = tally.get_or_insert_with(|| self.tally());
            let facts = tally.facts(id, &event.kind, now);
            if !facts.is_empty() {
                let agent = agent(id).map_or_else(Agents::unknown, |agent| self.agents.label(&agent));
                facts.into_iter().for_each(|fact| self.count(&agent, fact));
            }
        }
    }

    fn count(&self, agent: &str, fact: Fact) {
        let agent = agent.to_owned();
        let of = |agent| OfAgent { agent };
        match fact {
            Fact::Restart(cause) => {
                self.restarts.get_or_create(&Restart { agent, cause }).inc();
            }
            Fact::Recovered(ms) => self.recovery.observe(seconds(ms)),
            Fact::Failed => {
                self.failures.get_or_create(&of(agent)).inc();
            }
            Fact::OomKilled => {
                self.oom_kills.get_or_create(&of(agent)).inc();
            }
            Fact::Stalled => {
                self.stalls.get_or_create(&of(agent)).inc();
            }
            Fact::Accepted => {
                self.prompts.get_or_create(&of(agent)).inc();
            }
            Fact::Turn(outcome) => {
                self.turns.get_or_create(&Turn { agent, outcome }).inc();
            }
            Fact::Used { input, output, cost } => {
                for (direction, tokens) in [("input", input), ("output", output)] {
                    let label = Tokens { agent: agent.clone(), direction };
                    self.tokens.get_or_create(&label).inc_by(tokens);
                }
                // Of an agent that tells no cost there is no series: 0 would be a lie.
                if let Some(cost) = cost {
                    self.cost.get_or_create(&of(agent)).inc_by(cost);
                }
            }
        }
    }

    /// A prompt was accepted.
    pub fn accepted(&self, after: Duration) {
        self.accept.observe(after.as_secs_f64());
    }

    /// A batch is on record and synced.
    pub fn written(&self, after: Duration) {
        self.commit.observe(after.as_secs_f64());
    }

    /// All figures in OpenMetrics 1.0: the counts, and these that were looked at just now.
    pub fn text(&self, mut seen: Seen) -> String {
        seen.name_agents(&self.agents);
        seen.sessions.keys().for_each(|(agent, _)| self.begin_at_zero(agent));
        // The loop does not wait for what follows.
        let used = self.tally().processor_time(&seen.loads);
        for (agent, cpu_ms) in used {
            self.cpu.get_or_create(&OfAgent { agent }).inc_by(seconds(cpu_ms));
        }
        let mut text = String::new();
        let written = encode_registry(&mut text, &self.counts)
            .and_then(|()| encode_registry(&mut text, &seen.registry()))
            .and_then(|()| encode_eof(&mut text));
        // Writing into a string cannot fail.
        debug_assert!(written.is_ok());
        text
    }

    /// An agent's counts are there before there is something to count: of one that begins with 1 Prometheus sees no increase.
    fn begin_at_zero(&self, agent: &str) {
        let of = OfAgent { agent: agent.to_owned() };
        for family in [&self.failures, &self.oom_kills, &self.stalls, &self.prompts] {
            family.get_or_create(&of).inc_by(0);
        }
        let outcomes = [Outcome::Completed, Outcome::Aborted, Outcome::Interrupted].map(word);
        for outcome in outcomes.into_iter().chain([RETRIED]) {
            self.turns.get_or_create(&Turn { agent: agent.to_owned(), outcome }).inc_by(0);
        }
        for cause in RestartCause::ALL {
            self.restarts
                .get_or_create(&Restart { agent: agent.to_owned(), cause: cause.as_str() })
                .inc_by(0);
        }
    }

    fn tally(&self) -> std::sync::MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

#[cfg(test)]
mod tests;
