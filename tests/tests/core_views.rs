//! The public view of a session, and the texts of refusals.

use std::sync::Arc;

use harness::sample::{self, AT, gone, id, identity, prompt, ready, session, turn};
use manager::core::{
    At, Input, LastRestart, Naming, Phase, Refusal, RestartPolicy, Seen, Session, Spec, State, SubagentLimit,
    Was, Why, limits,
};
use protocol::api::{
    Failure, ForkedFrom, McpRemoteServerOpts, McpServerOpts, Need, NeedKind, OnCrash, PermissionPolicy,
    PromptState, RestartType, Restarts, SessionInfo, SessionOpts, Status,
};
use protocol::event::Timestamp;
use protocol::wire::{AgentDetails, Transport};
use protocol::{
    CallId, Exit, Keeper, Level, LimitedBy, PermissionId, PromptId, Restore, Sandbox, SandboxBy, Sandboxed,
};

fn failure(reason: &str) -> Failure {
    Failure {
        reason: reason.into(),
        exit: Some(Exit::Code(3)),
        last_words: vec!["help".into()],
        survivors: Vec::new(),
        failed_at: Some(Timestamp(AT.wall)),
    }
}

const SANDBOXED: Sandboxed = Sandboxed { sandbox: Sandbox::Workdir, by: SandboxBy::Bubblewrap };

fn details() -> AgentDetails {
    AgentDetails { name: Some("it".into()), version: None, resume: true, load: false }
}

fn limited_by() -> LimitedBy {
    LimitedBy { memory: Some(Keeper::CgroupV1), ..LimitedBy::default() }
}

/// A running session that crashed three times, ten seconds apart, with a value of its own in every field.
fn full_session() -> Session {
    let spec = Spec {
        name: "a-name".parse().ok(),
        labels: [("team".to_owned(), "front".to_owned())].into(),
        title: Some("a title".into()),
        model: Some("a model".into()),
        workdir: "/work".into(),
        forked_from: Some(ForkedFrom { session_id: id("origin"), turn: 4, told: 3 }),
        conversation: Some("0199-ab".into()),
        restart: RestartPolicy { kind: RestartType::Permanent, intensity: 4, period_ms: 30_000 },
        ..sample::spec()
    };
    let mut deaths = Session::new(id("s"), Arc::new(spec.clone()), AT, 0);
    for n in 0..3 {
        // Three deaths, ten seconds apart.
        deaths.state = ready();
        let at = At { mono: AT.mono + n * 10_000, ..AT };
        deaths = deaths.step(at, 1, &Input::Seen(deaths.incarnation, gone(Exit::Code(1)))).unwrap().next;
    }
    let mut shows = Session {
        state: State::Ready { worker: identity(100), agent_pid: None, idle_since: 0 },
        incarnation: 9,
        restore: Some(Restore::Resumed),
        pinned: true,
        parent: Some(id("parent")),
        last_restart: Some(LastRestart { reason: "it died".into(), old_pid: Some(99) }),
        ..deaths
    };
    shows.turns.running = turn(Phase::Started { agent_pid: 101 });
    shows.turns.queue.extend([prompt(8, "first"), prompt(9, "second")]);
    shows.turns.interrupted.push(prompt(5, "cut off"));
    shows.turns.count = 5;
    shows.turns.messages = 11;
    shows.turns.last_message_at = Some(AT.wall + 1);
    shows.turns.first_prompt = Some("how it began".into());
    shows.agent_details = Some(details());
    shows.containment = Some(Level::PidNamespace);
    shows.sandbox = Some(SANDBOXED);
    shows.limited_by = Some(limited_by());
    shows
}

/// The description of `full_session`, 20 seconds after its first crash.
fn full_info() -> SessionInfo {
    SessionInfo {
        id: id("s"),
        name: "a-name".parse().ok(),
        labels: [("team".to_owned(), "front".to_owned())].into(),
        title: Some("a title".into()),
        agent: "shell".into(),
        agent_details: Some(details()),
        env_missing: Vec::new(),
        subagent_tools: None,
        model: Some("a model".into()),
        agent_model: None,
        start_notice: None,
        empty_turn: false,
        status: Status::Running,
        workdir: "/work".into(),
        start_commit: None,
        pid: Some(100),
        agent_pid: Some(101),
        program: None,
        containment: Some(Level::PidNamespace),
        sandbox: Some(SANDBOXED),
        limits: Default::default(),
        limited_by: Some(limited_by()),
        incarnation: 9,
        forked_from: Some(ForkedFrom { session_id: id("origin"), turn: 4, told: 3 }),
        conversation: Some("0199-ab".into()),
        restore: Some(Restore::Resumed),
        created_at: Timestamp(AT.wall),
        last_message_at: Some(Timestamp(AT.wall + 1)),
        message_count: 11,
        turn_count: 5,
        first_prompt: Some("how it began".into()),
        queue_length: 2,
        waits_for: None,
        running_prompt: Some(PromptId(7)),
        usage: None,
        restarts: Restarts {
            in_window: 3,
            intensity: 4,
            period_ms: 30_000,
            last_reason: Some("it died".into()),
            last_pid: Some(99),
        },
        failure: None,
        needs: vec![Need {
            kind: NeedKind::Interrupted,
            id: Some("prompt-5".into()),
            text: "cut off".into(),
            since: Timestamp(AT.wall + 1),
        }],
        pinned: true,
        clients: Vec::new(),
        started_by: None,
        parent: Some(id("parent")),
        children: Vec::new(),
    }
}

/// Every field has a value of its own, so that none can stand for another.
#[test]
fn a_session_is_shown_as_it_is() {
    let shows = full_session();
    assert_eq!(shows.info(AT.mono + 20_000), full_info());
    // Thirty seconds after the first death only two count.
    assert_eq!(shows.info(AT.mono + 30_000).restarts.in_window, 2);

    let failed = session("f", State::Failed(failure("it died")));
    let shown = failed.info(AT.mono);
    assert_eq!((shown.status, shown.failure), (Status::Failed, Some(failure("it died"))));
    assert_eq!((shown.pid, shown.agent_pid, shown.running_prompt), (None, None, None));
}

#[test]
fn a_status_is_one_word_for_each_state() {
    let (worker, deadline) = (identity(100), AT.mono);
    let stopping = |worker| State::Stopping { worker, why: Why::Stop, kills: 0, deadline, give_up: deadline };
    let adopting = |worker, was| State::Adopting { worker, was, after: Why::Lost, deadline };
    for (state, status, pid) in [
        (State::Starting { worker: None, deadline }, Status::Starting, None),
        (State::Starting { worker: Some(worker.clone()), deadline }, Status::Starting, Some(100)),
        (ready(), Status::Idle, Some(100)),
        (adopting(worker.clone(), Was::Starting), Status::Adopting, Some(100)),
        (adopting(worker.clone(), Was::Ready { agent_pid: None }), Status::Adopting, Some(100)),
        (stopping(None), Status::Stopping, None),
        (stopping(Some(worker)), Status::Stopping, Some(100)),
        (State::Restarting { until: deadline }, Status::Restarting, None),
        (State::Hibernated, Status::Hibernated, None),
        (State::Stopped, Status::Stopped, None),
        (State::Failed(failure("it died")), Status::Failed, None),
    ] {
        let mut session = session("s", state);
        assert_eq!((session.status(), session.pid()), (status, pid));
        session.turns.running = turn(Phase::Sent { deadline });
        let running = if status == Status::Idle { Status::Running } else { status };
        assert_eq!(session.status(), running);
    }
}

#[test]
fn the_agents_process_is_the_one_that_lives_between_turns_or_the_turns_own() {
    let deadline = AT.mono;
    let shown = |agent_pid, phase: Option<Phase>| {
        let mut session = session("s", State::Ready { worker: identity(100), agent_pid, idle_since: 0 });
        session.turns.running = phase.and_then(turn);
        session.info(AT.mono).agent_pid
    };
    assert_eq!(shown(None, None), None);
    assert_eq!(shown(Some(55), Some(Phase::Started { agent_pid: 56 })), Some(55));
    assert_eq!(shown(None, Some(Phase::Sent { deadline })), None);
    assert_eq!(shown(None, Some(Phase::Started { agent_pid: 56 })), Some(56));
    assert_eq!(shown(None, Some(Phase::Aborting { deadline, agent_pid: Some(57) })), Some(57));
    assert_eq!(shown(None, Some(Phase::Aborting { deadline, agent_pid: None })), None);
    // It goes on while its worker is asked to, and its turn while its worker is being ended.
    let adopted = |was, phase: Option<Phase>| {
        let state = State::Adopting { worker: identity(100), was, after: Why::Lost, deadline };
        let mut session = session("s", state);
        session.turns.running = phase.and_then(turn);
        session.info(AT.mono).agent_pid
    };
    assert_eq!(adopted(Was::Ready { agent_pid: Some(55) }, None), Some(55));
    assert_eq!(adopted(Was::Stopping, Some(Phase::Started { agent_pid: 56 })), Some(56));
}

#[test]
fn a_queue_is_listed_in_the_order_of_its_prompts_lives() {
    let mut session = session("s", ready());
    session.turns.interrupted.push(prompt(3, "was cut off"));
    session.turns.running = turn(Phase::Started { agent_pid: 101 });
    session.turns.queue.extend([prompt(9, "goes first"), prompt(8, "goes second")]);
    let listed: Vec<(u64, PromptState, String)> =
        session.queue().into_iter().map(|queued| (queued.prompt_id.0, queued.state, queued.text)).collect();
    assert_eq!(
        listed,
        [
            (3, PromptState::Interrupted, "was cut off".into()),
            (7, PromptState::Running, "runs".into()),
            (9, PromptState::Queued, "goes first".into()),
            (8, PromptState::Queued, "goes second".into()),
        ]
    );
}

#[test]
fn only_what_has_or_may_have_a_process_says_so() {
    let survivors = Failure { survivors: vec![500], ..failure("it survived") };
    assert!(session("s", State::Starting { worker: None, deadline: 0 }).has_process());
    assert!(session("s", State::Failed(survivors)).has_process());
    assert!(!session("s", State::Failed(failure("it died"))).has_process());
    assert!(!session("s", State::Restarting { until: 0 }).has_process());
}

/// Each option alone is found to differ, by its name, and none where it agrees.
#[test]
fn an_option_differs_only_where_it_is_given_and_another() {
    let mut spec = sample::spec();
    spec.title = Some("a title".into());
    spec.model = Some("a model".into());
    spec.env.insert("HAS".into(), "value".into());
    spec.env.insert("MORE".into(), "value".into());
    let none = SessionOpts::default;
    let pair = |name: &str, value: &str| [(name.to_owned(), value.to_owned())].into();
    assert!(spec.differs_from(&none()).is_empty());
    let same = SessionOpts {
        title: Some("a title".into()),
        agent: Some("shell".into()),
        model: Some("a model".into()),
        workdir: Some("/".into()),
        env: pair("HAS", "value"),
        restart: Some(spec.restart.kind),
        intensity: Some(spec.restart.intensity),
        period_ms: Some(spec.restart.period_ms),
        on_crash: Some(spec.on_crash),
        hibernate_after_ms: Some(spec.hibernate_after_ms),
        grace_ms: Some(spec.grace_ms),
        turn_timeout_ms: Some(spec.turn_timeout_ms),
        ..none()
    };
    assert!(spec.differs_from(&same).is_empty(), "{:?}", spec.differs_from(&same));
    let server = McpServerOpts {
        name: "docs".into(),
        command: "docs".into(),
        args: Vec::new(),
        env: Default::default(),
    };
    let remote = McpRemoteServerOpts {
        name: "docs".into(),
        transport: Transport::default(),
        url: "http://localhost".into(),
        headers: Default::default(),
    };
    let cases = [
        (SessionOpts { title: Some("another".into()), ..none() }, "title"),
        (SessionOpts { agent: Some("claude".into()), ..none() }, "agent"),
        (SessionOpts { model: Some("another".into()), ..none() }, "model"),
        (SessionOpts { workdir: Some("/tmp".into()), ..none() }, "workdir"),
        (SessionOpts { env: pair("HAS", "another"), ..none() }, "env"),
        (SessionOpts { env: pair("LACKS", "value"), ..none() }, "env"),
        (SessionOpts { restart: Some(RestartType::Permanent), ..none() }, "restart"),
        (SessionOpts { intensity: Some(1), ..none() }, "intensity"),
        (SessionOpts { period_ms: Some(1), ..none() }, "period_ms"),
        (SessionOpts { on_crash: Some(OnCrash::Retry), ..none() }, "on_crash"),
        (SessionOpts { hibernate_after_ms: Some(1), ..none() }, "hibernate_after_ms"),
        (SessionOpts { grace_ms: Some(1), ..none() }, "grace_ms"),
        (SessionOpts { turn_timeout_ms: Some(1), ..none() }, "turn_timeout_ms"),
        (SessionOpts { nice: Some(1), ..none() }, "nice"),
        (SessionOpts { nofile: Some(64), ..none() }, "nofile"),
        (SessionOpts { memory_bytes: Some(1 << 30), ..none() }, "memory_bytes"),
        (SessionOpts { pids: Some(64), ..none() }, "pids"),
        (SessionOpts { milli_cpus: Some(500), ..none() }, "milli_cpus"),
        (SessionOpts { permissions: Some(PermissionPolicy::Allow), ..none() }, "permissions"),
        (SessionOpts { permission_timeout_ms: Some(1), ..none() }, "permission_timeout_ms"),
        (SessionOpts { conversation: Some("another".into()), ..none() }, "conversation"),
        (SessionOpts { mcp_servers: vec![server], ..none() }, "mcp_servers"),
        (SessionOpts { mcp_remote_servers: vec![remote], ..none() }, "mcp_remote_servers"),
    ];
    for (given, name) in &cases {
        assert_eq!(spec.differs_from(given), [*name]);
    }
    // Every option of the API, but what the session is called, which may change, and the client's abilities.
    let api: serde_json::Value = serde_json::from_str(include_str!("../../manager/openapi.json")).unwrap();
    let all = api["components"]["schemas"]["SessionOpts"]["properties"].as_object().unwrap();
    for option in all.keys().filter(|option| !["id", "name", "labels", "offers"].contains(&option.as_str())) {
        assert!(cases.iter().any(|(_, name)| name == option), "{option} is not compared");
    }
}

#[test]
fn an_agents_process_that_lives_between_turns_is_shown_between_turns() {
    let idle = session("s", State::Ready { worker: identity(100), agent_pid: Some(55), idle_since: 0 });
    assert_eq!(idle.info(AT.mono).agent_pid, Some(55));
}

// --- refusals ---

/// Every refusal, each led to by the one before it: a new one does not compile until it has a place here.
fn after(refusal: &Refusal) -> Option<Refusal> {
    let id = id("s");
    let name = || "web".parse().unwrap();
    let prompt = PromptId(7);
    let permission = PermissionId(9);
    Some(match refusal {
        Refusal::NoSuchSession(_) => Refusal::NoSuchPid(100),
        Refusal::NoSuchPid(_) => Refusal::IdTaken(id),
        Refusal::IdTaken(_) => Refusal::IdUnusable(id),
        Refusal::IdUnusable(_) => Refusal::IdIsName { id, of: self::id("t") },
        Refusal::IdIsName { .. } => Refusal::NameTaken { name: name(), of: id, naming: Naming::New },
        Refusal::NameTaken { .. } => Refusal::NameIsId(name(), Naming::Rename),
        Refusal::NameIsId(..) => Refusal::NameUnusable(name(), Naming::New),
        Refusal::NameUnusable(..) => Refusal::IdIsNumber(self::id("5")),
        Refusal::IdIsNumber(_) => Refusal::TooManyLabels { id, limit: 32 },
        Refusal::TooManyLabels { .. } => Refusal::LabelsOfKey(id),
        Refusal::LabelsOfKey(_) => Refusal::IdRetired(id),
        Refusal::IdRetired(_) => Refusal::SpecMismatch { id, fields: vec!["title", "env"] },
        Refusal::SpecMismatch { .. } => Refusal::Stopped(id),
        Refusal::Stopped(_) => Refusal::Failed { id, reason: "it died".into() },
        Refusal::Failed { .. } => Refusal::Stopping(id),
        Refusal::Stopping(_) => Refusal::Busy(id),
        Refusal::Busy(_) => Refusal::QueueFull { id, limit: limits::QUEUE },
        Refusal::QueueFull { .. } => Refusal::NoAttachments { id, agent: "shell".into() },
        Refusal::NoAttachments { .. } => {
            Refusal::TooLongForAgent { id, agent: "shell".into(), bytes: 200_000, limit: 131_070 }
        }
        Refusal::TooLongForAgent { .. } => Refusal::NoTurn(id),
        Refusal::NoTurn(_) => Refusal::NoTurnOf { id, prompt },
        Refusal::NoTurnOf { .. } => Refusal::Queued { id, prompt },
        Refusal::Queued { .. } => Refusal::NoSuchPrompt { id, prompt },
        Refusal::NoSuchPrompt { .. } => Refusal::NotQueued { id, prompt },
        Refusal::NotQueued { .. } => Refusal::NotInterrupted(prompt),
        Refusal::NotInterrupted(_) => Refusal::NoSuchPermission(permission),
        Refusal::NoSuchPermission(_) => Refusal::PermissionSettled(permission),
        Refusal::PermissionSettled(_) => {
            let offered = vec!["allow_once".into(), "a\u{1b}[2Jb".into()];
            Refusal::NoSuchOption { id: permission, offered }
        }
        Refusal::NoSuchOption { .. } => Refusal::NoSuchCall(CallId(9)),
        Refusal::NoSuchCall(call) => Refusal::CallSettled(*call),
        Refusal::CallSettled(_) => Refusal::NoSettings { id, agent: "shell".into() },
        Refusal::NoSettings { .. } => Refusal::TooManySettings { id, limit: limits::SETTINGS },
        Refusal::TooManySettings { .. } => {
            Refusal::Driven { id, name: "a\u{1b}[2Jb".into(), kept_ms: Some(25_001) }
        }
        Refusal::Driven { .. } => Refusal::NotDriver(id),
        Refusal::NotDriver(_) => Refusal::TooManyClients { id, limit: limits::CLIENTS },
        Refusal::TooManyClients { .. } => Refusal::NotStopped(id),
        Refusal::NotStopped(_) => Refusal::Unkillable { id, incarnation: 4, pids: vec![500, 501] },
        Refusal::Unkillable { .. } => Refusal::SubagentLimit { id, what: SubagentLimit::Depth, limit: 3 },
        Refusal::SubagentLimit { what: SubagentLimit::Depth, .. } => {
            Refusal::SubagentLimit { id, what: SubagentLimit::Breadth, limit: 8 }
        }
        Refusal::SubagentLimit { what: SubagentLimit::Breadth, .. } => {
            Refusal::SubagentLimit { id, what: SubagentLimit::Total, limit: 32 }
        }
        Refusal::SubagentLimit { what: SubagentLimit::Total, .. } => {
            let what = vec!["pids: the parent has 100".into(), "nice: the parent has 3".into()];
            Refusal::Weaker { id, what }
        }
        Refusal::Weaker { .. } => Refusal::NoSuchTurn { id, turn: 9, count: 3 },
        Refusal::NoSuchTurn { count: 3, .. } => Refusal::NoSuchTurn { id, turn: 2, count: 1 },
        Refusal::NoSuchTurn { count: 1, .. } => Refusal::NoSuchTurn { id, turn: 0, count: 0 },
        Refusal::NoSuchTurn { .. } => Refusal::TurnPruned { id, turn: 1 },
        Refusal::TurnPruned { .. } => Refusal::TurnRuns { id, turn: 3 },
        Refusal::TurnRuns { .. } => Refusal::CannotFork { id, agent: "shell".into() },
        Refusal::CannotFork { .. } => Refusal::ForkElsewhere { id },
        Refusal::ForkElsewhere { .. } => {
            Refusal::ConversationTaken { conversation: "0199-ab".into(), of: Some(id) }
        }
        Refusal::ConversationTaken { of: Some(_), conversation } => {
            Refusal::ConversationTaken { conversation: conversation.clone(), of: None }
        }
        Refusal::ConversationTaken { of: None, .. } => Refusal::Closing,
        Refusal::Closing => return None,
    })
}

#[test]
fn refusals_say_what_was_not_done_and_what_to_do() {
    let mut page = String::from(REFUSALS);
    for refusal in std::iter::successors(Some(Refusal::NoSuchSession("s".into())), after) {
        let hint = refusal.hint().unwrap_or_else(|| "-".into());
        page += &format!("- `{}`: {refusal}\n  - {hint}\n", refusal.code());
    }
    snapbox::assert_data_eq!(page, snapbox::file!["../snapshots/refusals.md"].raw());
}

const REFUSALS: &str = "\
# What a refused command is answered with

Made by `tests/tests/core_views.rs` from `manager/src/core/refusal.rs` and `manager/src/hints.rs`. A line is the code, which programs may rely on,
and the message; below it what to do about it.

";

/// A need is as old as what made it, and not as the last message: the one that waits longest is the first.
#[test]
fn somebody_is_needed_since_what_happened_happened() {
    let worked = || {
        let mut worked = session("s", ready());
        worked.turns.count = 1;
        worked.turns.last_message_at = Some(AT.wall - 600_000);
        worked
    };
    let since = |session: &Session| session.needs().into_iter().map(|need| need.since.0).collect::<Vec<_>>();
    let seen = |mut session: Session, at: At, what| {
        let incarnation = session.incarnation;
        session = session.step(at, 50, &Input::Seen(incarnation, what)).unwrap().next;
        session
    };

    let mut works = worked();
    works.turns.running = turn(Phase::Started { agent_pid: 101 });
    let later = At { wall: AT.wall + 1000, ..AT };
    let mut cut = seen(works, later, gone(Exit::Signal(9)));
    assert_eq!(since(&cut), [later.wall]);
    // What it says later makes the wait no shorter.
    cut.turns.last_message_at = Some(AT.wall + 900_000);
    assert_eq!((since(&cut), cut.needs_since()), (vec![later.wall], Some(Timestamp(later.wall))));

    let temporary = RestartPolicy { kind: RestartType::Temporary, intensity: 0, period_ms: 1 };
    let spec = Spec { restart: temporary, ..sample::spec() };
    let failed = seen(Session { spec: Arc::new(spec), ..worked() }, later, gone(Exit::Code(1)));
    assert_eq!(since(&failed), [later.wall]);

    let asks = Spec { workdir: "/srv/app".into(), ..sample::acp_spec() };
    let mut works = Session { spec: Arc::new(asks), ..worked() };
    works.turns.running = turn(Phase::Started { agent_pid: 101 });
    let (prompt, client, payload) = (PromptId(7), None, serde_json::json!({}));
    let method = "elicitation/create".to_owned();
    let form = Seen::CallAsked { prompt, request: 1, client, method, payload };
    assert_eq!(since(&seen(works, later, form)), [later.wall]);

    // What an earlier version has left has no time of its own.
    let mut old = worked();
    old.turns.interrupted.push(prompt_of_before());
    assert_eq!(since(&old), [AT.wall - 600_000]);
}

fn prompt_of_before() -> manager::core::Prompt {
    serde_json::from_value(serde_json::json!({ "id": "prompt-3" })).unwrap()
}
