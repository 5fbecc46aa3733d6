//! The trial of each agent.

use std::time::Duration;

use harness::history;
use harness::real::{kill, lives, mentioning, until};
use manager::protocol::api::{SessionInfo, Status};
use manager::protocol::event::{Event, EventKind, Outcome};
use manager::protocol::wire::AgentDetails;
use manager::protocol::{PromptId, Restore, Sandbox};

use crate::Step;
use crate::agents::{Agent, Housed, Installed, Part};
use crate::model::Model;
use crate::session::{Session, assert_dead, slowly};

/// The record of an agent's trial in a sandbox that leaves it its model.
pub struct Life {
    /// The agent's report of itself.
    pub details: AgentDetails,
    /// From its first process to its being ready.
    pub start: Duration,
    /// The number of permissions that it requested.
    pub asked: usize,
    /// The restore level after the agent was killed.
    pub after_agent: Restore,
    /// After the worker was.
    pub after_worker: Restore,
    /// After daemon and worker were.
    pub after_both: Restore,
    /// Memory of kennel's part.
    pub worker_kib: u64,
}

/// A life in progress.
struct Trial<'a> {
    agent: &'a Agent,
    housed: &'a Housed,
    session: Session<'a>,
    sandbox: Sandbox,
    asked: usize,
    crashes: usize,
}

/// The whole life, with this sandbox or none.
pub fn life(agent: &Agent, installed: &Installed, model: &Model, sandbox: Sandbox) -> Life {
    let housed = agent.housed(installed, model, sandbox);
    let mut trial = Trial::start(agent, &housed, sandbox);
    let uuid = trial.session.uuid();
    let start = start_time(&housed.daemon.events());
    let details = housed.daemon.show(&trial.session.id).agent_details.unwrap();
    trial.prompt_and_tool();
    trial.abort();
    let after_agent = trial.agent_dies();
    let after_worker = trial.worker_dies();
    trial.daemon_dies();
    let after_both = trial.daemon_and_worker_die();
    trial.model_fails();
    let worker_kib = pss_kib(housed.daemon.idle(&trial.session.id).pid.unwrap());
    trial.stop_and_restart(&uuid);
    trial.hibernates();
    let asked = trial.asked;
    trial.end(&uuid);
    Life { details, start, asked, after_agent, after_worker, after_both, worker_kib }
}

/// The life of an agent that has no network, and so no model: it starts, fails each prompt, dies, comes back, and leaves nothing.
pub fn without_network(agent: &Agent, installed: &Installed, model: &Model) {
    let housed = agent.housed(installed, model, Sandbox::Strict);
    let mut trial = Trial::start(agent, &housed, Sandbox::Strict);
    let uuid = trial.session.uuid();
    trial.no_answer();
    trial.all_die_idle();
    trial.end(&uuid);
}

impl<'a> Trial<'a> {
    fn start(agent: &'a Agent, housed: &'a Housed, sandbox: Sandbox) -> Self {
        let doing = Step::new(agent.name, &format!("{}: start", sandbox.name()));
        let work = housed.work.display().to_string();
        let info: SessionInfo = housed.daemon.json(&["start", "--agent", agent.name, "--dir", &work]);
        let session = Session::new(housed, info.id.as_str());
        housed.daemon.idle(&session.id);
        drop(doing);
        Self { agent, housed, session, sandbox, asked: 0, crashes: 0 }
    }

    fn step(&self, what: &str) -> Step {
        Step::new(self.agent.name, &format!("{}: {what}", self.sandbox.name()))
    }

    fn prompt_and_tool(&mut self) {
        let _doing = self.step("prompt");
        assert_said(&self.session.send("SAY one"), "one");
        drop(_doing);

        let _doing = self.step("tool call with permission");
        let prompt = self.session.begin("TOOL echo by-a-tool > tool-file");
        let file = self.housed.work.join("tool-file");
        if self.agent.lacks(Part::Permissions).is_none() {
            self.session.asked();
            assert!(!file.exists(), "the tool was used before it was allowed");
            assert_eq!(self.housed.daemon.show(&self.session.id).status, Status::RequiresAction);
        }
        let asked = self.session.allow_until_end(prompt);
        assert_eq!(asked == 0, self.agent.lacks(Part::Permissions).is_some(), "it asked {asked} times");
        self.asked += asked;
        let output = self.session.printed(prompt);
        assert_eq!(std::fs::read_to_string(&file).ok().as_deref(), Some("by-a-tool\n"), "{output}");
        assert_said(&output, "the tool said:");
    }

    fn abort(&mut self) {
        let _doing = self.step("abort");
        let prompt = self.begin_slow(2000);
        self.housed.daemon.ok(&["abort", &self.session.id]);
        self.housed.daemon.idle(&self.session.id);
        let aborted = |kind: &EventKind| matches!(kind, EventKind::TurnCompleted { prompt_id, outcome: Outcome::Aborted, .. } if *prompt_id == prompt);
        let events = self.session.events();
        assert!(events.iter().any(|event| aborted(&event.kind)), "{events:#?}");
        assert_said(&self.session.send("SAY two"), "two");
    }

    /// Starts a turn, and waits for so many words of it.
    fn begin_slow(&self, words: usize) -> PromptId {
        let prompt = self.session.begin(&format!("SLOW {words} 50"));
        self.session.until_printed(prompt, "w3");
        prompt
    }

    fn agent_dies(&mut self) -> Restore {
        let _doing = self.step("kill -9 of the agent mid-turn");
        let prompt = self.begin_slow(2000);
        let before = self.session.agents_processes();
        kill(self.housed.daemon.show(&self.session.id).agent_pid.unwrap());
        let level = self.restored(prompt);
        assert_dead(&before);
        assert_said(&self.session.printed(prompt), "w0 w1 w2 w3");
        drop(_doing);
        self.remembers(&["[SAY one]", "[TOOL echo by-a-tool > tool-file]", "[SAY two]"]);
        level
    }

    fn restored(&mut self, prompt: PromptId) -> Restore {
        self.crashes += 1;
        let level = self.session.restored(prompt, self.crashes);
        let itself = matches!(level, Restore::Resumed | Restore::Loaded);
        // A load where none is expected is no fault: it depends on the clock.
        assert!(itself || self.agent.lacks(Part::Loads).is_some(), "it was {level}");
        level
    }

    fn remembers(&self, texts: &[&str]) {
        let _doing = self.step("the conversation is remembered");
        let recalled = self.session.send("RECALL");
        for text in texts {
            match self.agent.lacks(Part::Memory) {
                None => assert_said(&recalled, text),
                Some(_) => assert!(!recalled.contains(text), "it remembers after all: {recalled}"),
            }
        }
    }

    /// The worker dies while a tool runs that is deaf, and in a session of its own, as a server that an agent starts.
    fn worker_dies(&mut self) -> Restore {
        let _doing = self.step("kill -9 of the worker while a tool runs");
        let name = format!("escapee-of-{}-{}", self.agent.name, std::process::id());
        let prompt = self.session.begin(&format!(
            "TOOL ESCAPEE={name} setsid sh -c 'trap \"\" TERM HUP INT; while :; do sleep 1000; done' & sleep 1000"
        ));
        self.asked += self.session.allow_until(|| (!mentioning(&name).is_empty()).then_some(())).0;
        let before = [self.session.agents_processes(), mentioning(&name)].concat();
        kill(self.housed.daemon.show(&self.session.id).pid.unwrap());
        let level = self.restored(prompt);
        assert_dead(&before);
        drop(_doing);
        self.remembers(&["[SAY one]", "[SAY two]"]);
        level
    }

    /// The daemon dies; the turn goes on in the worker, and nothing of it is missing.
    fn daemon_dies(&mut self) {
        let _doing = self.step("kill -9 of the daemon mid-turn changes nothing");
        let prompt = self.begin_slow(40);
        let before = self.housed.daemon.show(&self.session.id);
        self.housed.daemon.kill();
        let end = self.session.end_of(prompt);
        assert!(matches!(end, EventKind::TurnCompleted { outcome: Outcome::Completed, .. }), "{end:?}");
        let text: String = (0..40).map(|n| format!("w{n} ")).collect();
        assert_said(&self.session.printed(prompt), text.trim());
        let after = self.housed.daemon.idle(&self.session.id);
        assert_eq!((after.pid, after.agent_pid), (before.pid, before.agent_pid));
    }

    fn daemon_and_worker_die(&mut self) -> Restore {
        let _doing = self.step("kill -9 of the daemon and the worker mid-turn");
        let prompt = self.begin_slow(2000);
        let before = self.session.agents_processes();
        let worker = self.housed.daemon.show(&self.session.id).pid.unwrap();
        let daemon = self.housed.daemon.pid();
        kill(daemon);
        kill(worker);
        until("the death of both", || (!lives(daemon) && !lives(worker)).then_some(()));
        let level = self.restored(prompt);
        assert_dead(&before);
        drop(_doing);
        self.remembers(&["[SAY one]", "[SAY two]"]);
        level
    }

    fn model_fails(&mut self) {
        let _doing = self.step("an error of the model");
        let prompt = self.session.begin("FAIL");
        self.session.end_of(prompt);
        let about = |event: &&Event| serde_json::to_string(event).unwrap().contains("told to fail");
        let events = self.session.events();
        match (self.agent.lacks(Part::ModelErrors), events.iter().any(|event| about(&event))) {
            (None, received) => assert!(received, "nobody was told: {:#?}", events),
            (Some(_), received) => assert!(!received, "it says so after all"),
        }
        assert_said(&self.session.send("SAY three"), "three");
    }

    fn stop_and_restart(&mut self, uuid: &str) {
        let _doing = self.step("stop leaves nothing, and restart remembers");
        let before = self.session.agents_processes();
        self.housed.daemon.ok(&["stop", &self.session.id]);
        assert_dead(&before);
        self.session.nothing_left(uuid);
        self.housed.daemon.ok(&["restart", &self.session.id]);
        self.housed.daemon.idle(&self.session.id);
        drop(_doing);
        self.remembers(&["[SAY one]"]);
    }

    /// Another session of the agent's hibernates, and a prompt wakes it.
    fn hibernates(&mut self) {
        let _doing = self.step("hibernate leaves nothing, and a prompt wakes it");
        let daemon = &self.housed.daemon;
        daemon.ok(&["stop", &self.session.id]);
        let work = self.housed.work.display().to_string();
        let words = ["start", "--agent", self.agent.name, "--dir", &work, "--hibernate-after", "1s"];
        let info: SessionInfo = daemon.json(&words);
        let other = Session::new(self.housed, info.id.as_str());
        let uuid = other.uuid();
        assert_said(&other.send("SAY four"), "four");
        daemon.ok(&["wait", &other.id, "--until", "hibernated", "--timeout", "30s"]);
        other.nothing_left(&uuid);
        let recalled = other.send("RECALL");
        if self.agent.lacks(Part::Memory).is_none() {
            assert_said(&recalled, "[SAY four]");
        }
        daemon.ok(&["stop", &other.id]);
        other.nothing_left(&uuid);
    }

    /// A prompt to an agent that cannot reach its model ends, by itself or by abort, without an answer.
    fn no_answer(&self) {
        let _doing = self.step("a prompt gets no answer, and can be aborted");
        let prompt = self.session.begin("SAY something");
        // Some try again for minutes.
        self.housed.daemon.run(&["wait", &self.session.id, "--until", "idle", "--timeout", "2s"]);
        self.housed.daemon.run(&["abort", &self.session.id]);
        self.session.end_of(prompt);
        self.housed.daemon.idle(&self.session.id);
        let output = self.session.printed(prompt);
        assert!(output.trim() != "something", "there is a network: {output}");
    }

    /// Daemon and worker die at once, and with them the agent.
    fn all_die_idle(&mut self) {
        let _doing = self.step("kill -9 of the daemon and the worker at rest");
        let before = self.session.agents_processes();
        let info = self.housed.daemon.show(&self.session.id);
        let all = [self.housed.daemon.pid(), info.pid.unwrap()];
        all.iter().for_each(|pid| kill(*pid));
        until("their death", || all.iter().all(|pid| !lives(*pid)).then_some(()));
        slowly("another process", || {
            let now = self.housed.daemon.show(&self.session.id);
            (now.status == Status::Idle && now.pid.is_some() && now.pid != info.pid).then_some(())
        });
        assert_dead(&before);
    }

    fn end(self, uuid: &str) {
        let _doing = self.step("the history holds, and `daemon stop` leaves nothing");
        let violations = history::of(&self.housed.daemon.events());
        assert!(violations.is_empty(), "{violations:#?}");
        self.housed.daemon.ok(&["daemon", "stop"]);
        let dir = self.housed.daemon.dir.path().display().to_string();
        until("the end of everything below the daemon", || mentioning(&dir).is_empty().then_some(()));
        self.session.nothing_left(uuid);
    }
}

fn assert_said(text: &str, wanted: &str) {
    assert!(text.contains(wanted), "not said: {wanted:?}, but: {text:?}");
}

/// From the session's first process to its being ready, by the journal.
fn start_time(events: &[Event]) -> Duration {
    let at = |wanted: fn(&EventKind) -> bool| events.iter().find(|event| wanted(&event.kind)).unwrap().at.0;
    let ready = at(|kind| matches!(kind, EventKind::SessionReady { .. }));
    Duration::from_millis(ready - at(|kind| matches!(kind, EventKind::SessionStarted { .. })))
}

fn pss_kib(pid: u32) -> u64 {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let pss = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap();
    pss.trim().trim_end_matches(" kB").parse().unwrap()
}
