//! What each agent is put through.

use std::time::Duration;

use harness::history;
use harness::real::{kill, lives, marked, mentioning, until, uuid};
use manager::protocol::api::{Accepted, AgentInfo, PermissionInfo, SessionInfo, Status};
use manager::protocol::event::{Event, EventKind, Outcome};
use manager::protocol::wire::AgentDetails;
use manager::protocol::{PromptId, Restore, Stream};

use crate::Step;
use crate::agents::{Agent, Housed};
use crate::model::Model;

/// What came of a trial: a line of the table.
pub struct Row {
    package: &'static str,
    name: &'static str,
    said: AgentDetails,
    start: Duration,
    asked: usize,
    after_agent: Restore,
    after_worker: Restore,
    worker_kib: u64,
}

impl Row {
    /// All lines, in Markdown.
    pub fn table(rows: &[&Self]) -> String {
        let head = "| agent | version | offers | start to ready | permissions asked | after `kill -9` of the agent | of the \
                    worker | memory of kennel's part (PSS of the worker) |\n|---|---|---|---|---|---|---|---|\n";
        rows.iter().fold(head.to_owned(), |table, row| table + &row.line())
    }

    fn line(&self) -> String {
        let Self { package, name, said, start, asked, after_agent, after_worker, worker_kib } = self;
        let offers: Vec<&str> = [(said.resume, "resume"), (said.load, "load")]
            .into_iter()
            .filter_map(|(offered, name)| offered.then_some(name))
            .collect();
        format!(
            "| {name} (`{package}`) | {} | {} | {:.1} s | {asked} | `{after_agent}` | `{after_worker}` | {:.1} MiB |\n",
            said.version.as_deref().unwrap_or("not said"),
            offers.join(", "),
            start.as_secs_f64(),
            *worker_kib as f64 / 1024.0,
        )
    }
}

/// A session of an agent's.
pub struct Session<'a> {
    housed: &'a Housed,
    id: String,
}

/// Puts an agent through everything.
pub fn of(agent: &Agent, model: &Model) -> Row {
    let step = |what: &str| Step::new(agent.name, what);
    let housed = agent.housed(model);
    let daemon = &housed.daemon;

    let doing = step("what it says of itself");
    let agents: Vec<AgentInfo> = daemon.json(&["agents", "ls", agent.name, "--probe"]);
    let said = agents[0].details.clone().unwrap();
    drop(doing);

    let doing = step("start");
    let work = housed.work.display().to_string();
    let info: SessionInfo = daemon.json(&["start", "--agent", agent.name, "--dir", &work]);
    let session = Session::new(&housed, info.id.as_str());
    let uuid = session.uuid();
    let start = start_time(&daemon.events());
    drop(doing);

    let doing = step("prompt");
    assert_said(&session.send("SAY one"), "one");
    drop(doing);

    let doing = step("tool call with permission");
    let prompt = session.begin("TOOL echo by-a-tool > tool-file");
    session.asked();
    let file = housed.work.join("tool-file");
    assert!(!file.exists(), "the tool was used before it was allowed");
    assert_eq!(daemon.show(&session.id).status, Status::RequiresAction);
    let mut asked = session.allow_until_end(prompt);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "by-a-tool\n");
    assert_said(&session.printed(prompt), "the tool said:");
    drop(doing);

    let doing = step("abort");
    let prompt = session.begin("SLOW 2000 50");
    session.until_printed(prompt, "w3");
    daemon.ok(&["abort", &session.id]);
    daemon.idle(&session.id);
    let aborted = |kind: &EventKind| matches!(kind, EventKind::TurnCompleted { prompt_id, outcome: Outcome::Aborted, .. } if *prompt_id == prompt);
    assert!(session.events().iter().any(|event| aborted(&event.kind)), "{:#?}", session.events());
    assert_said(&session.send("SAY two"), "two");
    drop(doing);

    let doing = step("kill -9 of the agent mid-turn");
    let prompt = session.begin("SLOW 2000 50");
    session.until_printed(prompt, "w3");
    let before = session.agents_processes();
    kill(daemon.show(&session.id).agent_pid.unwrap());
    let after_agent = session.restored(prompt, 1);
    assert_dead(&before);
    assert_said(&session.printed(prompt), "w0 w1 w2 w3");
    drop(doing);

    let doing = step("the conversation is remembered after that");
    let recalled = session.send("RECALL");
    assert_said(&recalled, "[SAY one]");
    assert_said(&recalled, "[TOOL echo by-a-tool > tool-file]");
    assert_said(&recalled, "[SAY two]");
    drop(doing);

    let doing = step("kill -9 of the worker while a tool runs");
    // Deaf, and in a session of its own, as a server that an agent starts.
    let name = format!("escapee-of-{}-{}", agent.name, std::process::id());
    let prompt = session.begin(&format!(
        "TOOL ESCAPEE={name} setsid sh -c 'trap \"\" TERM HUP INT; while :; do sleep 1000; done' & sleep 1000"
    ));
    session.asked();
    asked += session.allow_until(|| (!mentioning(&name).is_empty()).then_some(())).0;
    let before = [session.agents_processes(), mentioning(&name)].concat();
    kill(daemon.show(&session.id).pid.unwrap());
    let after_worker = session.restored(prompt, 2);
    assert_dead(&before);
    drop(doing);

    let doing = step("the conversation is remembered after that too");
    let recalled = session.send("RECALL");
    assert_said(&recalled, "[SAY one]");
    assert_said(&recalled, "[SAY two]");
    drop(doing);

    let doing = step("an error of the model");
    let prompt = session.begin("FAIL");
    session.end_of(prompt);
    let about = |event: &&Event| serde_json::to_string(event).unwrap().contains("told to fail");
    assert!(session.events().iter().any(|event| about(&event)), "nobody was told: {:#?}", session.events());
    assert_said(&session.send("SAY three"), "three");
    drop(doing);

    let doing = step("memory");
    let worker_kib = pss_kib(daemon.idle(&session.id).pid.unwrap());
    drop(doing);

    let doing = step("stop leaves nothing");
    let before = session.agents_processes();
    daemon.ok(&["stop", &session.id]);
    assert_dead(&before);
    session.nothing_left(&uuid);
    drop(doing);

    let doing = step("restart remembers");
    daemon.ok(&["restart", &session.id]);
    daemon.idle(&session.id);
    assert_said(&session.send("RECALL"), "[SAY one]");
    drop(doing);

    let doing = step("the history holds");
    let violations = history::of(&daemon.events());
    assert!(violations.is_empty(), "{violations:#?}");
    drop(doing);

    let doing = step("`daemon stop` leaves nothing");
    daemon.ok(&["daemon", "stop"]);
    session.nothing_left(&uuid);
    let dir = daemon.dir.path().display().to_string();
    until("the end of everything below the daemon", || mentioning(&dir).is_empty().then_some(()));
    drop(doing);

    Row {
        package: agent.package,
        name: agent.name,
        said,
        start,
        asked,
        after_agent,
        after_worker,
        worker_kib,
    }
}

fn assert_said(text: &str, wanted: &str) {
    assert!(text.contains(wanted), "not said: {wanted:?}, but: {text:?}");
}

/// None of these is left, of an agent that is replaced or stopped.
fn assert_dead(processes: &[u32]) {
    let left: Vec<u32> = processes.iter().copied().filter(|pid| lives(*pid)).collect();
    assert!(left.is_empty(), "these were left behind: {left:?} {:?}", shown(&left));
}

fn shown(processes: &[u32]) -> Vec<String> {
    let command = |pid| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    processes.iter().map(|pid| command(pid).replace('\0', " ")).collect()
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

impl<'a> Session<'a> {
    /// The session of this id.
    pub fn new(housed: &'a Housed, id: &str) -> Self {
        Self { housed, id: id.to_owned() }
    }

    /// What the markers below its manager share.
    pub fn uuid(&self) -> String {
        uuid(self.housed.daemon.idle(&self.id).pid.unwrap())
    }

    /// All that happened in it.
    fn events(&self) -> Vec<Event> {
        let events = self.housed.daemon.events().into_iter();
        events.filter(|event| event.session.as_ref().is_some_and(|id| id.as_str() == self.id)).collect()
    }

    /// Runs a prompt to its end, and gives what the agent said.
    fn send(&self, text: &str) -> String {
        self.housed.daemon.ok(&["send", &self.id, text])
    }

    /// Sends a prompt, and does not wait.
    fn begin(&self, text: &str) -> PromptId {
        self.housed.daemon.json::<Accepted>(&["send", "--no-wait", &self.id, text]).prompt_id
    }

    /// What the agent has said in a prompt's turn.
    fn printed(&self, prompt: PromptId) -> String {
        let events = self.events();
        let chunks = events.iter().filter_map(|event| match &event.kind {
            EventKind::MessageChunk { prompt_id, stream: Stream::Stdout, text, .. }
                if *prompt_id == prompt =>
            {
                Some(text.as_str())
            }
            _ => None,
        });
        chunks.collect()
    }

    fn until_printed(&self, prompt: PromptId, text: &str) {
        until(&format!("{text:?} in the turn"), || self.printed(prompt).contains(text).then_some(()));
    }

    fn open(&self) -> Vec<PermissionInfo> {
        self.housed.daemon.json(&["permissions", "ls", &self.id])
    }

    /// Waits until the agent asks for a permission.
    fn asked(&self) {
        until("a question", || (!self.open().is_empty()).then_some(()));
    }

    /// Allows what is asked until there is something; gives how often, and that.
    fn allow_until<T>(&self, mut look: impl FnMut() -> Option<T>) -> (usize, T) {
        let mut allowed = 0;
        let found = until("what was allowed", || {
            for question in self.open() {
                // It may have ended meanwhile; then the next look shows it.
                let said =
                    self.housed.daemon.run(&["permissions", "allow", &question.permission_id.to_string()]);
                allowed += usize::from(said.code == Some(0));
            }
            look()
        });
        (allowed, found)
    }

    fn allow_until_end(&self, prompt: PromptId) -> usize {
        self.allow_until(|| self.ended(prompt)).0
    }

    fn ended(&self, prompt: PromptId) -> Option<EventKind> {
        let ended = |kind: &EventKind| match kind {
            EventKind::TurnCompleted { prompt_id, .. } | EventKind::TurnInterrupted { prompt_id, .. } => {
                *prompt_id == prompt
            }
            _ => false,
        };
        self.events().into_iter().map(|event| event.kind).find(ended)
    }

    fn end_of(&self, prompt: PromptId) -> EventKind {
        until("the end of the turn", || self.ended(prompt))
    }

    /// Waits until the session is back after its `nth` crash, which must have interrupted the prompt; gives the level
    /// that was told.
    fn restored(&self, prompt: PromptId, nth: usize) -> Restore {
        let end = self.end_of(prompt);
        assert!(matches!(end, EventKind::TurnInterrupted { .. }), "{end:?}");
        let level = until("the restore", || {
            let events = self.events();
            let mut levels = events.iter().filter_map(|event| match &event.kind {
                EventKind::SessionRestarted { restore, .. } => Some(*restore),
                _ => None,
            });
            levels.nth(nth - 1)
        });
        self.housed.daemon.idle(&self.id);
        level
    }

    /// The agent and all that it has started.
    fn agents_processes(&self) -> Vec<u32> {
        let processes = mentioning(&self.housed.home.display().to_string());
        assert!(!processes.is_empty(), "an agent that runs has its home in its environment");
        processes
    }

    /// No process of the session's is left.
    pub fn nothing_left(&self, uuid: &str) {
        let left = [marked(uuid), mentioning(&self.housed.home.display().to_string())].concat();
        assert!(left.is_empty(), "left behind: {left:?} {:?}", shown(&left));
    }
}
