//! Figures that are looked at when somebody asks for them.

use std::collections::BTreeMap;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use protocol::SessionId;
use protocol::api::{Status, Usage};

use super::agents::Agents;
use super::{Fraction, OfAgent, PREFIX, seconds};

/// The pid and the start time of a worker.
pub(crate) type Worker = (u32, u64);

/// The load of a session's processes, and its agent's usage.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    pub session: SessionId,
    pub agent: String,
    pub worker: Worker,
    pub processes: u32,
    pub memory_bytes: u64,
    pub cpu_ms: u64,
    pub usage: Option<Usage>,
}

/// One look at a manager.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// Sessions by agent and status.
    pub sessions: BTreeMap<(String, &'static str), u64>,
    /// Prompts that wait, by agent.
    pub queued: BTreeMap<String, u64>,
    /// Things that wait for somebody, by kind: how many, and for how many milliseconds the oldest has.
    pub needs: BTreeMap<&'static str, (u64, u64)>,
    /// Attached clients by role.
    pub clients: BTreeMap<&'static str, u64>,
    pub loads: Vec<Loaded>,
    /// Each session's load is shown by itself, too.
    pub each: bool,
    pub streams: usize,
    /// Events that the last of the subscribers has not been given yet.
    pub lag: u64,
    pub last_event_id: u64,
    /// Unix time in milliseconds.
    pub started_at: u64,
    /// Bytes of the journal, of all logs, and of the room on their file system; none if they could not be read.
    pub sizes: Option<(u64, u64, u64)>,
    /// Refusals of the TLS port by reason; none without a port.
    pub refused: Option<Vec<(&'static str, u64)>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InState {
    agent: String,
    status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfKind {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InRole {
    role: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ForReason {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfSession {
    agent: String,
    session: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SessionTokens {
    agent: String,
    session: String,
    direction: &'static str,
}

/// A gauge with a fraction.
type GaugeOfSeconds = Gauge<f64, std::sync::atomic::AtomicU64>;

/// A gauge with a label set.
type Gauges<L> = Family<L, Gauge>;

const STATUSES: [Status; 10] = [
    Status::Starting,
    Status::Idle,
    Status::Running,
    Status::RequiresAction,
    Status::Adopting,
    Status::Stopping,
    Status::Restarting,
    Status::Hibernated,
    Status::Stopped,
    Status::Failed,
];

impl Seen {
    /// Gives all agents beyond the first ones one name.
    pub(super) fn name_agents(&mut self, agents: &Agents) {
        for ((agent, status), count) in std::mem::take(&mut self.sessions) {
            *self.sessions.entry((agents.label(&agent), status)).or_default() += count;
        }
        for (agent, count) in std::mem::take(&mut self.queued) {
            *self.queued.entry(agents.label(&agent)).or_default() += count;
        }
        for load in &mut self.loads {
            load.agent = agents.label(&load.agent);
        }
    }

    pub(super) fn registry(&self) -> Registry {
        let mut to = Registry::with_prefix(PREFIX);
        self.of_sessions(&mut to);
        self.of_processes(&mut to);
        self.of_the_manager(&mut to);
        if self.each {
            self.of_each(&mut to);
        }
        to
    }

    fn of_sessions(&self, to: &mut Registry) {
        let sessions = Gauges::<InState>::default();
        for (agent, _) in self.sessions.keys() {
            for status in STATUSES {
                let count = self.sessions.get(&(agent.clone(), status.as_str())).copied().unwrap_or(0);
                set(&sessions, InState { agent: agent.clone(), status: status.as_str() }, count);
            }
        }
        to.register("sessions", "Sessions by agent and status", sessions);
        let queued = Gauges::<OfAgent>::default();
        for (agent, count) in &self.queued {
            set(&queued, OfAgent { agent: agent.clone() }, *count);
        }
        to.register("queued_prompts", "Prompts that wait in queues", queued);
        let (needs, oldest) = (Gauges::<OfKind>::default(), Family::<OfKind, GaugeOfSeconds>::default());
        for (kind, (count, since)) in &self.needs {
            set(&needs, OfKind { kind }, *count);
            oldest.get_or_create(&OfKind { kind }).set(seconds(*since));
        }
        to.register("needs", "Things that wait for a person, by kind", needs);
        to.register_with_unit(
            "needs_oldest",
            "Time for which the oldest of them has waited",
            Unit::Seconds,
            oldest,
        );
        let clients = Gauges::<InRole>::default();
        for (role, count) in &self.clients {
            set(&clients, InRole { role }, *count);
        }
        to.register("clients", "Clients that are attached to sessions", clients);
    }

    fn of_processes(&self, to: &mut Registry) {
        let (processes, memory) = (Gauges::<OfAgent>::default(), Gauges::<OfAgent>::default());
        for load in &self.loads {
            let label = OfAgent { agent: load.agent.clone() };
            processes.get_or_create(&label).inc_by(i64::from(load.processes));
            memory.get_or_create(&label).inc_by(whole(load.memory_bytes));
        }
        to.register("processes", "Processes of sessions: workers, agents, tools", processes);
        to.register_with_unit("memory", "Their resident memory", Unit::Bytes, memory);
    }

    fn of_the_manager(&self, to: &mut Registry) {
        let one = |to: &mut Registry, name: &str, help: &str, value: u64| {
            let gauge: Gauge = Gauge::default();
            gauge.set(whole(value));
            to.register(name, help, gauge);
        };
        one(to, "event_streams", "Event streams that are open", self.streams as u64);
        one(to, "event_lag", "Events that the slowest subscriber has not been given", self.lag);
        one(to, "last_event_id", "The id of the last event on record", self.last_event_id);
        if let Some((journal, log, available)) = self.sizes {
            one(to, "journal_bytes", "Size of the journal", journal);
            one(to, "log_bytes", "Size of the logs of sessions and daemon", log);
            one(to, "disk_available_bytes", "Room on the journal's file system", available);
        }
        let started = GaugeOfSeconds::default();
        started.set(seconds(self.started_at));
        to.register_with_unit("start_time", "When the daemon started, in Unix time", Unit::Seconds, started);
        to.register("build", "Version and build", Info::new([("version", crate::version::VERSION)]));
        if let Some(refused) = &self.refused {
            let counts = Family::<ForReason, Counter>::default();
            for (reason, count) in refused {
                counts.get_or_create(&ForReason { reason }).inc_by(*count);
            }
            to.register("refused", "Connections and requests that the TLS port refused", counts);
        }
    }

    fn of_each(&self, to: &mut Registry) {
        let (processes, memory) = (Gauges::<OfSession>::default(), Gauges::<OfSession>::default());
        let (cpu, cost) =
            (Family::<OfSession, Fraction>::default(), Family::<OfSession, Fraction>::default());
        let tokens = Family::<SessionTokens, Counter>::default();
        for load in &self.loads {
            let (agent, session) = (load.agent.clone(), load.session.to_string());
            let label = OfSession { agent: agent.clone(), session: session.clone() };
            set(&processes, label.clone(), u64::from(load.processes));
            set(&memory, label.clone(), load.memory_bytes);
            cpu.get_or_create(&label).inc_by(seconds(load.cpu_ms));
            let Some(usage) = &load.usage else { continue };
            for (direction, count) in [("input", usage.input_tokens), ("output", usage.output_tokens)] {
                let label = SessionTokens { agent: agent.clone(), session: session.clone(), direction };
                tokens.get_or_create(&label).inc_by(count);
            }
            if let Some(told) = usage.cost_usd {
                cost.get_or_create(&label).inc_by(told);
            }
        }
        to.register("session_processes", "Processes of the session", processes);
        to.register_with_unit("session_memory", "Their resident memory", Unit::Bytes, memory);
        to.register_with_unit("session_cpu", "Their processor time", Unit::Seconds, cpu);
        to.register("session_tokens", "Tokens that the session's agent reports", tokens);
        to.register("session_cost_usd", "Cost that the session's agent reports, in US dollars", cost);
    }
}

fn set<L: Clone + std::hash::Hash + Eq>(gauges: &Gauges<L>, label: L, value: u64) {
    gauges.get_or_create(&label).set(whole(value));
}

/// A gauge's number.
fn whole(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
