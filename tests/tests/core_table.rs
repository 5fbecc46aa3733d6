//! The transition table: every state of a session against every input, in `tests/snapshots/transitions.md`.
//!
//! `SNAPSHOTS=overwrite cargo test -p kennel-tests transition_table` writes it anew; the diff is the review.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

use harness::kinds;
use harness::sample::{ask, options, spec};
use manager::core::{
    Answer, At, Call, Client, Command, Effect, Goal, Input, NewPrompt, Permission, Phase, Prompt, Quiet,
    Seen, Session, Spec, State, Turn, Was, Why, limits,
};
use protocol::api::{Failure, OnCrash, PermissionAnswer, PermissionPolicy, RestartType, Role, WhenBusy};
use protocol::event::{EventKind, Resolution, StallStep};
use protocol::wire::{
    AgentDetails, Attachment, AttachmentKind, CallAnswer, Content, Offer, RemoteServer, Setting, Spent,
    Transport, TurnEnd, Update,
};
use protocol::{
    CallId, EventId, Exit, Identity, Keeper, Level, LimitedBy, PermissionId, PromptId, Restore, Sandbox,
    SandboxBy, Sandboxed, SessionId, Stream,
};
use serde_json::json;

const NOW: u64 = 10_000_000;
/// The wall clock, which no deadline may follow.
const WALL: u64 = 1_700_000_000_000;
/// The incarnation of every session in the table.
const INCARNATION: u32 = 4;
const INTERRUPTED: PromptId = PromptId(3);
const RUNNING: PromptId = PromptId(7);
const QUEUED: PromptId = PromptId(8);
const DRIVER: EventId = 20;
const VIEWER: EventId = 21;
const UNKNOWN: PromptId = PromptId(99);
const SETTLED: PermissionId = PermissionId(11);
const OPEN: PermissionId = PermissionId(12);
const OPEN_CALL: CallId = CallId(13);
const ASKED: CallId = CallId(14);
const NEVER: PermissionId = PermissionId(99);

#[test]
fn the_transition_table_is_the_agreed_one() {
    let mut page = String::from(HEAD);
    for (title, session) in states() {
        section(&mut page, title, &session);
    }
    snapbox::assert_data_eq!(page, snapbox::file!["../snapshots/transitions.md"].raw());
}

const HEAD: &str = "\
# What each input does in each state of a session

Made by `tests/tests/core_table.rs` from `manager/src/core/rules/`; a change here is a change of policy.

A line is `input -> next state, what else changed | event, event | !effect`. `-` is a state that stays. Times are
milliseconds from now; every process is incarnation 4 with pid 400; prompt-3 was interrupted, prompt-7 runs,
prompt-8 waits; permission-11 was answered, permission-12 waits for an answer. Inputs that change nothing, say nothing and do nothing stand in one line at the section's end.
";

#[test]
fn the_table_leaves_no_state_and_no_input_out() {
    let states: Vec<State> = states().into_iter().map(|(_, session)| session.state).collect();
    complete(kinds::STATES, states.iter().map(kinds::state));
    let whys = states.iter().filter_map(|state| match state {
        State::Stopping { why, .. } | State::Adopting { after: why, .. } => Some(kinds::why(why)),
        _ => None,
    });
    complete(kinds::WHYS, whys);
    let turns: Vec<Turn> = self::states().into_iter().filter_map(|(_, s)| s.turns.running).collect();
    complete(kinds::PHASES, turns.iter().map(|turn| kinds::phase(&turn.phase)));

    let inputs: Vec<Input> = inputs(&ready(None)).into_iter().map(|(_, _, input)| input).collect();
    complete(kinds::INPUTS, inputs.iter().map(kinds::input));
    complete(
        kinds::COMMANDS,
        inputs.iter().filter_map(|input| match input {
            Input::Command(command) | Input::CommandBy(_, command) => Some(kinds::command(command)),
            _ => None,
        }),
    );
    complete(
        kinds::SEEN,
        inputs.iter().filter_map(|input| match input {
            Input::Seen(_, seen) => Some(kinds::seen(seen)),
            _ => None,
        }),
    );
}

fn complete(all: &[&'static str], found: impl Iterator<Item = &'static str>) {
    assert_eq!(all.iter().copied().collect::<BTreeSet<_>>(), found.collect::<BTreeSet<_>>());
}

// --- the sessions ---

fn worker() -> Identity {
    Identity { pid: 400, start_time: 77, boot_id: "boot".into() }
}

fn prompt(id: PromptId) -> Prompt {
    Prompt::text(id, format!("text of {id}"))
}

fn base(state: State, queued: bool) -> Session {
    let at = At { mono: NOW, wall: WALL, closing: false };
    let mut session = Session::new(SessionId::numbered(1), Arc::new(spec()), at, INCARNATION - 1);
    session.state = state;
    session.turns.interrupted.push(prompt(INTERRUPTED));
    if queued {
        session.turns.queue.push_back(prompt(QUEUED));
    }
    session
}

fn running(mut session: Session, phase: Phase) -> Session {
    session.turns.count = 1;
    session.turns.first_prompt = Some("text".into());
    let (open, answers, tools) = (Vec::new(), Vec::new(), Vec::new());
    let prompt = prompt(RUNNING);
    session.turns.running = Some(Turn {
        number: 1,
        prompt,
        phase,
        spoke: false,
        acted: true,
        open,
        answers,
        tools,
        calls: Default::default(),
        until: None,
        timed_out: false,
        recorded: 0,
        asked: 0,
        quiet: Default::default(),
    });
    session
}

/// The agent was allowed one thing and waits for another.
fn asking(mut session: Session, expires: Option<u64>) -> Session {
    session.last_permission = Some(OPEN);
    if let Some(turn) = &mut session.turns.running {
        turn.answers.push(Answer { id: SETTLED, request: 1, option: Some("allow_once".into()) });
        let (title, options) = ("Write notes.txt".into(), options(&["allow_once", "reject_once"]));
        turn.open.push(Permission { id: OPEN, request: 2, title, options, asked_at: WALL, expires });
    }
    session
}

/// The agent uses a tool.
fn with_tool(mut session: Session) -> Session {
    session.turns.running.iter_mut().for_each(|turn| turn.tools.push("call-1".into()));
    session
}

/// Its turn may take so long, and that is over soon.
fn timed(mut session: Session) -> Session {
    session.turns.running.iter_mut().for_each(|turn| turn.until = Some(NOW + 500));
    with_spec(session, |spec| spec.turn_timeout_ms = 60_000)
}

/// Nothing has shown for so long that its agent works, in milliseconds; a minute is noticed.
fn quiet(mut session: Session, ms: u64, step: Option<StallStep>) -> Session {
    let quiet = Quiet { ms, looked_at: Some(NOW - 10_000), cpu: Some((7_000, NOW - 10_000)), step };
    session.turns.running.iter_mut().for_each(|turn| turn.quiet = quiet.clone());
    with_spec(session, |spec| spec.stall_timeout_ms = Some(60_000))
}

fn permitting(session: Session, policy: PermissionPolicy) -> Session {
    with_spec(session, |spec| spec.permissions.policy = policy)
}

fn started(session: Session) -> Session {
    running(session, Phase::Started { agent_pid: 401 })
}

fn ready(phase: Option<Phase>) -> Session {
    let session =
        base(State::Ready { worker: worker(), agent_pid: None, idle_since: NOW - 5 }, phase.is_some());
    match phase {
        Some(phase) => running(session, phase),
        None => session,
    }
}

fn stopping(why: Why, kills: u32, live: bool) -> Session {
    let goal = if why == Why::Stop { Goal::Down } else { Goal::Up };
    let state = State::Stopping {
        worker: live.then(worker),
        why,
        kills,
        deadline: NOW + 500,
        give_up: NOW + limits::UNKILLABLE_MS,
    };
    Session { goal, ..base(state, goal == Goal::Up) }
}

fn adopting(after: Why) -> Session {
    let goal = if after == Why::Stop { Goal::Down } else { Goal::Up };
    let was = if after == Why::Lost { Was::Ready { agent_pid: None } } else { Was::Stopping };
    let state = State::Adopting { worker: worker(), was, after, deadline: NOW + 500 };
    Session { goal, ..base(state, goal == Goal::Up) }
}

fn failed(survivors: Vec<u32>) -> Session {
    let failure =
        Failure { reason: "it died".into(), exit: Some(Exit::Code(1)), last_words: Vec::new(), survivors };
    base(State::Failed(failure), true)
}

fn with_spec(session: Session, change: impl FnOnce(&mut Spec)) -> Session {
    let mut spec = spec();
    change(&mut spec);
    Session { spec: Arc::new(spec), ..session }
}

/// A session whose next death is one too many.
fn exhausted(mut session: Session) -> Session {
    for n in 0..5 {
        let at = At { mono: NOW - 1000 + n, wall: WALL, closing: false };
        let policy = spec().restart;
        let before =
            Session { state: State::Ready { worker: worker(), agent_pid: None, idle_since: 0 }, ..session };
        let step = before.step(at, 1, &Input::Seen(before.incarnation, gone(Exit::Code(1)))).unwrap();
        session = step.next;
        assert_eq!(session.deaths.within(at.mono, policy.period_ms), n as u32 + 1);
    }
    Session {
        state: ready(None).state,
        incarnation: INCARNATION,
        last_restart: None,
        recovering: false,
        ..session
    }
}

/// With a driver and a viewer.
fn driven(mut session: Session) -> Session {
    let client = |id, role| Client { id, name: "somebody".into(), role, offers: Vec::new() };
    session.clients = vec![client(DRIVER, Role::Driver), client(VIEWER, Role::Viewer)];
    session
}

/// The driver can read files and ask its user, and is asked for a file and for an answer.
fn calling(session: Session, expires: Option<u64>) -> Session {
    let mut session = driven(session);
    session.clients[0].offers = vec![Offer::ReadFile, Offer::Elicitation];
    (session.had_offers, session.last_call) = (true, Some(ASKED));
    if let Some(turn) = &mut session.turns.running {
        let call = |id, request, needs, expires| Call { id, request, client: Some(DRIVER), needs, expires };
        turn.calls.open.push(call(OPEN_CALL, 1, Offer::ReadFile, expires));
        turn.calls.open.push(call(ASKED, 2, Offer::Elicitation, None));
    }
    session
}

fn result() -> CallAnswer {
    CallAnswer::Result { json: "{}".into() }
}

fn attach(role: Role, takeover: bool) -> Command {
    Command::Attach { name: "somebody".into(), role, takeover, offers: Vec::new() }
}

fn states() -> Vec<(&'static str, Session)> {
    let starting = |worker| State::Starting { worker, deadline: NOW + 500 };
    let aborting = Phase::Aborting { deadline: NOW + 500, agent_pid: Some(401) };
    let idle = ready(None);
    let adopting_start =
        State::Adopting { worker: worker(), was: Was::Starting, after: Why::Lost, deadline: NOW + 500 };
    let restarted = |mut session: Session| {
        session.recovering = true;
        session
    };
    vec![
        ("starting, not spawned", base(starting(None), true)),
        ("starting, spawned", base(starting(Some(worker())), true)),
        ("starting, spawned, after a death", restarted(base(starting(Some(worker())), true))),
        ("ready, idle", idle.clone()),
        ("ready, idle, never to hibernate", Session { pinned: true, ..idle.clone() }),
        ("ready, idle, driven", driven(idle.clone())),
        ("ready, idle, with a sub-agent at work", Session { open_tasks: 1, ..idle.clone() }),
        ("ready, idle, one death short of too many", exhausted(base(idle.state.clone(), false))),
        (
            "ready, idle, restart type permanent",
            with_spec(idle.clone(), |s| s.restart.kind = RestartType::Permanent),
        ),
        ("ready, idle, restart type temporary", with_spec(idle, |s| s.restart.kind = RestartType::Temporary)),
        ("ready, turn sent", ready(Some(Phase::Sent { deadline: NOW + 500 }))),
        ("ready, turn started", ready(Some(Phase::Started { agent_pid: 401 }))),
        (
            "ready, turn started, on_crash retry",
            with_spec(ready(Some(Phase::Started { agent_pid: 401 })), |s| s.on_crash = OnCrash::Retry),
        ),
        (
            "ready, turn sent, which may take so long",
            with_spec(ready(Some(Phase::Sent { deadline: NOW + 500 })), |s| s.turn_timeout_ms = 60_000),
        ),
        (
            "ready, turn started, soon quiet for long",
            quiet(ready(Some(Phase::Started { agent_pid: 401 })), 55_000, None),
        ),
        (
            "ready, turn started, soon quiet for long, with a tool in use",
            quiet(with_tool(ready(Some(Phase::Started { agent_pid: 401 }))), 55_000, None),
        ),
        (
            "ready, turn started, soon quiet for too long",
            quiet(ready(Some(Phase::Started { agent_pid: 401 })), 85_000, Some(StallStep::Noticed)),
        ),
        (
            "ready, aborting what was quiet for too long, on_crash retry",
            with_spec(
                quiet(
                    ready(Some(Phase::Aborting { deadline: NOW + 500, agent_pid: Some(401) })),
                    90_000,
                    Some(StallStep::Cancelled),
                ),
                |s| s.on_crash = OnCrash::Retry,
            ),
        ),
        ("ready, turn started, its time soon up", timed(ready(Some(Phase::Started { agent_pid: 401 })))),
        (
            "ready, turn started, its time soon up while a permission waits",
            timed(asking(started(ready(None)), None)),
        ),
        ("ready, turn aborting, its time was up", {
            let mut session = timed(ready(Some(aborting.clone())));
            session.turns.running.iter_mut().for_each(|turn| turn.timed_out = true);
            session
        }),
        ("ready, turn aborting", ready(Some(aborting))),
        (
            "ready, turn started, a permission waits for so long",
            with_spec(asking(started(ready(None)), Some(NOW + 500)), |s| s.permissions.timeout_ms = 60_000),
        ),
        ("ready, turn started, a permission waits", asking(started(ready(None)), None)),
        ("ready, turn started, a client is asked", calling(started(ready(None)), Some(NOW + 500))),
        (
            "ready, turn started, a client is asked, policy is deny",
            with_spec(calling(started(ready(None)), None), |s| s.permissions.policy = PermissionPolicy::Deny),
        ),
        ("ready, turn started, driven", driven(started(ready(None)))),
        ("hibernated, driven", driven(base(State::Hibernated, false))),
        ("ready, turn started, a tool call is open", with_tool(started(ready(None)))),
        (
            "ready, turn started, permissions allowed",
            permitting(started(ready(None)), PermissionPolicy::Allow),
        ),
        ("ready, turn started, permissions denied", permitting(started(ready(None)), PermissionPolicy::Deny)),
        (
            "ready, turn started, permissions end the turn",
            permitting(started(ready(None)), PermissionPolicy::Fail),
        ),
        ("adopting, lost, not ready yet", base(adopting_start.clone(), true)),
        ("adopting, lost, not ready yet, after a death", restarted(base(adopting_start, true))),
        ("adopting, lost, idle", Session { turns: Default::default(), ..adopting(Why::Lost) }),
        (
            "adopting, lost, with a turn sent",
            running(adopting(Why::Lost), Phase::Sent { deadline: NOW - 500 }),
        ),
        (
            "adopting, lost, with a turn aborting",
            running(adopting(Why::Lost), Phase::Aborting { deadline: NOW - 500, agent_pid: Some(401) }),
        ),
        ("adopting, lost, with a turn", started(adopting(Why::Lost))),
        ("adopting, stop, with a turn", started(adopting(Why::Stop))),
        ("adopting, hibernate", adopting(Why::Hibernate)),
        ("adopting, restart, with a turn", started(adopting(Why::Restart))),
        ("adopting, shutdown, with a turn", started(adopting(Why::Shutdown))),
        ("adopting, fault, with a turn", started(adopting(Why::Fault("it babbled".into())))),
        (
            "adopting, lost, with a turn, a permission waits and a tool call is open",
            with_tool(asking(started(adopting(Why::Lost)), None)),
        ),
        ("adopting, hopeless", adopting(Why::Hopeless("log in".into()))),
        ("stopping, stop, not spawned yet", stopping(Why::Stop, 0, false)),
        ("stopping, stop, asked, with a turn", started(stopping(Why::Stop, 0, true))),
        ("stopping, stop, killed twice, with a turn", started(stopping(Why::Stop, 2, true))),
        ("stopping, stop, deadline is the last", {
            let mut session = started(stopping(Why::Stop, 9, true));
            if let State::Stopping { give_up, .. } = &mut session.state {
                *give_up = NOW + 500;
            }
            session
        }),
        ("stopping, hibernate", stopping(Why::Hibernate, 0, true)),
        ("stopping, restart, not spawned yet", stopping(Why::Restart, 0, false)),
        ("stopping, restart, with a turn", started(stopping(Why::Restart, 0, true))),
        ("stopping, outdated", stopping(Why::Outdated, 0, true)),
        ("stopping, shutdown, not spawned yet", stopping(Why::Shutdown, 0, false)),
        ("stopping, shutdown, with a turn", started(stopping(Why::Shutdown, 0, true))),
        ("stopping, lost, killed once, with a turn", started(stopping(Why::Lost, 1, true))),
        ("stopping, fault, not spawned yet", stopping(Why::Fault("it babbled".into()), 1, false)),
        (
            "stopping, fault, killed once, with a turn",
            started(stopping(Why::Fault("it babbled".into()), 1, true)),
        ),
        (
            "stopping, agent died, with a turn, a permission waits and a tool call is open",
            with_tool(asking(started(stopping(Why::AgentDied("the agent ended".into()), 0, true)), None)),
        ),
        (
            "stopping, not run, and that may pass",
            stopping(Why::NotRun { message: "no program".into(), passes: true }, 0, true),
        ),
        (
            "stopping, not run, and that will not pass",
            stopping(Why::NotRun { message: "no sandbox".into(), passes: false }, 0, true),
        ),
        ("stopping, hopeless", stopping(Why::Hopeless("log in".into()), 0, true)),
        ("stopping, hopeless, with a turn", started(stopping(Why::Hopeless("log in".into()), 0, true))),
        ("restarting", base(State::Restarting { until: NOW + 500 }, true)),
        ("hibernated", base(State::Hibernated, false)),
        ("stopped", Session { goal: Goal::Down, ..base(State::Stopped, false) }),
        ("failed", failed(Vec::new())),
        ("failed, with survivors", failed(vec![402])),
    ]
}

// --- the inputs ---

fn gone(exit: Exit) -> Seen {
    Seen::Gone { exit, last_words: Vec::new(), survivors: Vec::new() }
}

fn with_file() -> NewPrompt {
    let file = Attachment {
        kind: AttachmentKind::File,
        name: "notes".into(),
        mime_type: "text/plain".into(),
        uri: "attachment:notes".into(),
        content: Content::Text("words".into()),
    };
    NewPrompt { attachments: [file].into(), ..NewPrompt::text("new", WhenBusy::Queue) }
}

fn inputs(session: &Session) -> Vec<(&'static str, At, Input)> {
    let now = At { mono: NOW, wall: WALL, closing: false };
    let closing = At { closing: true, ..now };
    let deadline = session.deadline();
    let early = At { mono: deadline.map_or(NOW, |deadline| deadline - 1), ..now };
    let due = At { mono: deadline.unwrap_or(NOW + 86_400_000), ..now };
    let mut all = Vec::new();
    let command = |name, command| (name, now, Input::Command(command));
    let named = |option: &str| PermissionAnswer::Option(option.into());
    let new = |when_busy| Command::Prompt(NewPrompt::text("new", when_busy));
    all.extend([
        command("up", Command::Up),
        command("stop", Command::Stop),
        command("restart", Command::Restart),
        command("prompt", new(WhenBusy::Queue)),
        command("prompt, reject if busy", new(WhenBusy::Reject)),
        command("prompt, interrupt if busy", new(WhenBusy::Interrupt)),
        command("prompt, with a file", Command::Prompt(with_file())),
        command("abort", Command::Abort),
        command("abort prompt-7", Command::AbortOnly(RUNNING)),
        command("abort prompt-8, which waits", Command::AbortOnly(QUEUED)),
        command("pin", Command::Pin(true)),
        command("unpin", Command::Pin(false)),
        command("edit prompt-8", Command::Edit(QUEUED, "new".into())),
        command("edit prompt-7", Command::Edit(RUNNING, "new".into())),
        command("remove prompt-8", Command::Remove(QUEUED)),
        command("remove prompt-99", Command::Remove(UNKNOWN)),
        command("clear", Command::Clear),
        command("resolve prompt-3, retry", Command::Resolve(INTERRUPTED, Resolution::Retry)),
        command("resolve prompt-3, drop", Command::Resolve(INTERRUPTED, Resolution::Drop)),
        command("resolve prompt-8, drop", Command::Resolve(QUEUED, Resolution::Drop)),
        command("permit permission-12, allow", Command::Permit(OPEN, PermissionAnswer::Allow)),
        command("permit permission-12, deny", Command::Permit(OPEN, PermissionAnswer::Deny)),
        command("permit permission-12, an option it has", Command::Permit(OPEN, named("reject_once"))),
        command("permit permission-12, an option it has not", Command::Permit(OPEN, named("allow_always"))),
        command("permit permission-11, allow", Command::Permit(SETTLED, PermissionAnswer::Allow)),
        command("permit permission-99, allow", Command::Permit(NEVER, PermissionAnswer::Allow)),
        command("attach, to drive", attach(Role::Driver, false)),
        command("attach, to drive instead", attach(Role::Driver, true)),
        command("attach, to look on", attach(Role::Viewer, false)),
        command("detach client 20", Command::Detach(DRIVER)),
        command("set", Command::Set(setting())),
        command("add servers", servers()),
        command("answer call-13, by nobody", Command::AnswerCall(OPEN_CALL, result())),
        (
            "answer call-13 by client 20",
            now,
            Input::CommandBy(DRIVER, Command::AnswerCall(OPEN_CALL, result())),
        ),
        (
            "answer call-13 by client 21",
            now,
            Input::CommandBy(VIEWER, Command::AnswerCall(OPEN_CALL, result())),
        ),
        (
            "answer call-99 by client 20",
            now,
            Input::CommandBy(DRIVER, Command::AnswerCall(CallId(99), result())),
        ),
        ("abort by client 20", now, Input::CommandBy(DRIVER, Command::Abort)),
        ("abort by client 21", now, Input::CommandBy(VIEWER, Command::Abort)),
    ]);
    let seen = |name, seen| (name, now, Input::Seen(INCARNATION, seen));
    let ended =
        |end, left_behind| Seen::TurnEnded { prompt: RUNNING, end, exit: Some(Exit::Code(0)), left_behind };
    let other_ended = Seen::TurnEnded {
        prompt: UNKNOWN,
        end: TurnEnd::Finished,
        exit: Some(Exit::Code(0)),
        left_behind: 1,
    };
    let output = |prompt| Seen::Output { prompt, stream: Stream::Stdout, text: "hi".into() };
    let failed = |no_room| Seen::SpawnFailed { error: "no".into(), no_room };
    let updated = |prompt, update| Seen::Updated { prompt, update, payload: json!({}) };
    let tool = Update::ToolCall { id: "call-1".into(), title: "Write notes.txt".into(), ended: false };
    let tool_goes_on = |ended| Update::ToolCallUpdate { id: "call-1".into(), ended };
    let usage = Update::Usage(Spent { input_tokens: Some(5), ..Spent::default() });
    let called = |client, method: &str| {
        let method = method.to_owned();
        Seen::CallAsked { prompt: RUNNING, request: 4, client, method, payload: json!({}) }
    };
    let asked =
        |prompt| Seen::PermissionAsked { prompt: Some(prompt), request: 3, ask: ask(), payload: json!({}) };
    all.extend([
        seen("spawned", Seen::Spawned(worker())),
        seen("spawn failed", failed(false)),
        seen("spawn failed, no room", failed(true)),
        seen("ready", Seen::Ready { restore: Restore::Fresh, agent_pid: None }),
        seen("turn started", Seen::TurnStarted { prompt: RUNNING, agent_pid: 401 }),
        seen("turn started, another prompt", Seen::TurnStarted { prompt: UNKNOWN, agent_pid: 401 }),
        seen("output", output(RUNNING)),
        seen("output, another prompt", output(UNKNOWN)),
        seen("turn finished", ended(TurnEnd::Finished, 0)),
        seen("turn finished, another prompt", other_ended),
        seen("turn finished, processes left", ended(TurnEnd::Finished, 2)),
        seen("turn aborted", ended(TurnEnd::Aborted, 0)),
        seen("turn failed", ended(TurnEnd::Failed { message: "no agent".into() }, 0)),
        seen("turn whose program did not run", ended(TurnEnd::NotRun { message: "no program".into() }, 0)),
        seen("turn stopped by the agent", ended(TurnEnd::Stopped { reason: "max_tokens".into() }, 0)),
        seen("call, of client 20", called(Some(DRIVER), "fs/read_text_file")),
        seen("call, of client 19, which went", called(Some(19), "fs/read_text_file")),
        seen("call, of client 20, which did not offer it", called(Some(DRIVER), "terminal/create")),
        seen("call, a question to the user", called(None, "elicitation/create")),
        seen("setting 3 is set", Seen::SettingAnswered { request: 3, answer: Ok(json!({})) }),
        seen("setting 3 is refused", Seen::SettingAnswered { request: 3, answer: Err("no".into()) }),
        seen(
            "setting 9 is set, of which nobody knows",
            Seen::SettingAnswered { request: 9, answer: Ok(json!({})) },
        ),
        seen("agent session", Seen::AgentSession("conversation-1".into())),
        seen("contained by a namespace", Seen::Contained(Level::PidNamespace)),
        seen(
            "in a sandbox",
            Seen::Sandboxed(Sandboxed { sandbox: Sandbox::Strict, by: SandboxBy::Bubblewrap }),
        ),
        seen(
            "limited by a control group",
            Seen::Limited(LimitedBy { memory: Some(Keeper::CgroupV2), ..LimitedBy::default() }),
        ),
        seen(
            "out of memory",
            Seen::OutOfMemory { peak_bytes: Some(70_000), limit_bytes: 65_536, by: Keeper::CgroupV2 },
        ),
        seen(
            "introduced",
            Seen::Introduced(AgentDetails {
                name: None,
                version: Some("1.2".into()),
                resume: true,
                load: true,
            }),
        ),
        seen("message", updated(Some(RUNNING), Update::Message { text: "hi".into() })),
        seen("message, no prompt", updated(None, Update::Message { text: "hi".into() })),
        seen("thought", updated(Some(RUNNING), Update::Thought { text: "hm".into() })),
        seen("tool call", updated(Some(RUNNING), tool)),
        seen("tool call goes on", updated(Some(RUNNING), tool_goes_on(false))),
        seen("tool call ends", updated(Some(RUNNING), tool_goes_on(true))),
        seen("plan", updated(Some(RUNNING), Update::Plan)),
        seen("usage", updated(Some(RUNNING), usage)),
        seen("another update, no prompt", updated(None, Update::Other)),
        seen("permission asked", asked(RUNNING)),
        seen("permission asked, another prompt", asked(UNKNOWN)),
        seen(
            "permission asked, between turns",
            Seen::PermissionAsked { prompt: None, request: 3, ask: ask(), payload: json!({}) },
        ),
        seen("alive, and used the processor", Seen::Alive { cpu_ms: 7_200, commands: 0 }),
        seen("alive, and used it hardly", Seen::Alive { cpu_ms: 7_100, commands: 0 }),
        seen("alive, and runs a command", Seen::Alive { cpu_ms: 7_000, commands: 1 }),
        seen("notice", Seen::Notice("there is a newer agent".into())),
        seen("agent died", Seen::AgentDied("the agent ended".into())),
        seen("not run, and that may pass", Seen::NotRun { message: "no program".into(), passes: true }),
        seen("program found elsewhere", Seen::Program("/opt/v2/agent".into())),
        seen("login needed", Seen::LoginNeeded("log in".into())),
        seen("linked", Seen::Linked { outdated: false }),
        seen("linked, of another version", Seen::Linked { outdated: true }),
        seen("handed over", Seen::Handed(RUNNING)),
        seen("handed over, another prompt", Seen::Handed(UNKNOWN)),
        seen("heard", Seen::Heard(6)),
        seen("faulted", Seen::Faulted("it babbled".into())),
        seen("gone, exit status 0", gone(Exit::Code(0))),
        seen("gone, SIGKILL", gone(Exit::Signal(9))),
        seen(
            "gone, survivors",
            Seen::Gone { exit: Exit::Unknown, last_words: Vec::new(), survivors: vec![402] },
        ),
        ("gone, an earlier incarnation", now, Input::Seen(INCARNATION - 1, gone(Exit::Signal(9)))),
        ("gone, SIGKILL, manager closing", closing, Input::Seen(INCARNATION, gone(Exit::Signal(9)))),
        ("manager started, same boot", now, Input::Recovered { same_boot: true }),
        ("manager started, other boot", now, Input::Recovered { same_boot: false }),
        ("manager shuts down", closing, Input::Shutdown),
        ("time, before the deadline", early, Input::Tick),
        ("time", due, Input::Tick),
        ("time, manager closing", At { closing: true, ..due }, Input::Tick),
        ("a sub-agent begins", now, Input::OpenTasks(1)),
        ("a sub-agent ends", now, Input::OpenTasks(-1)),
    ]);
    all
}

// --- the page ---

fn section(page: &mut String, title: &str, session: &Session) {
    let _ = writeln!(page, "\n## {title}\n");
    let _ = writeln!(
        page,
        "    {}",
        facts(session, NOW)
            .into_iter()
            .filter(|(_, fact)| !UNTOLD.contains(&fact.as_str()))
            .map(|(_, fact)| fact)
            .collect::<Vec<_>>()
            .join(", ")
    );
    let wants: Vec<String> = session.effects().iter().map(effect).collect();
    let _ =
        writeln!(page, "    wants {}\n", if wants.is_empty() { "nothing".into() } else { wants.join(" ") });
    let mut ignored = Vec::new();
    for (name, at, input) in inputs(session) {
        match session.step(at, 50, &input) {
            Err(refusal) => {
                let _ = writeln!(page, "- {name} -> refused: {}", refusal.code());
            }
            Ok(step) if step.next == *session && step.events.is_empty() && step.effects.is_empty() => {
                assert!(step.notes.is_empty());
                ignored.push(name);
            }
            Ok(step) => {
                let events: Vec<String> = step.events.iter().map(event).collect();
                let effects: Vec<String> = step.effects.iter().map(effect).collect();
                let mut parts = vec![changes(session, &step.next, at.mono)];
                parts.extend((!events.is_empty()).then(|| events.join(", ")));
                parts.extend((!effects.is_empty()).then(|| effects.join(" ")));
                let _ = writeln!(page, "- {name} -> {}", parts.join(" | "));
            }
        }
    }
    if !ignored.is_empty() {
        let _ = writeln!(page, "- nothing comes of: {}", ignored.join("; "));
    }
}

fn changes(before: &Session, after: &Session, now: u64) -> String {
    let mut changed: Vec<String> = Vec::new();
    let old = facts(before, now);
    for ((name, old), (_, new)) in old.iter().zip(facts(after, now)) {
        match *name {
            "state" if *old == new => changed.push("-".into()),
            _ if *old == new => {}
            _ => changed.push(new),
        }
    }
    changed.join(", ")
}

fn servers() -> Command {
    let remote = RemoteServer {
        name: "docs".into(),
        transport: Transport::Http,
        url: "https://docs.example".into(),
        headers: Vec::new(),
    };
    Command::AddServers { programs: Vec::new(), remote: vec![remote] }
}

fn setting() -> Setting {
    Setting { name: "mode".into(), value: "code".into() }
}

/// Not told of a session to begin with: it is so of nearly all.
const UNTOLD: [&str; 7] = [
    "permissions []",
    "tool calls []",
    "conversation unknown",
    "agent unknown",
    "settings []",
    "servers []",
    "usage unknown",
];

/// What a person wants to know of a session, each with a name.
fn facts(session: &Session, now: u64) -> Vec<(&'static str, String)> {
    let ids = |prompts: &mut dyn Iterator<Item = &Prompt>| {
        prompts.map(|prompt| prompt.id.to_string()).collect::<Vec<_>>().join(" ")
    };
    let turns = &session.turns;
    vec![
        ("state", state(&session.state, now)),
        ("incarnation", format!("incarnation {}", session.incarnation)),
        ("goal", format!("goal {}", if session.goal == Goal::Up { "up" } else { "down" })),
        (
            "turn",
            match &turns.running {
                None => "no turn".into(),
                Some(turn) => {
                    let spoke = if turn.spoke { ", has spoken" } else { "" };
                    let until =
                        turn.until.map(|until| format!(", until {}", ms(until, now))).unwrap_or_default();
                    let up = if turn.timed_out { ", timed out" } else { "" };
                    let quiet = match turn.quiet.step {
                        _ if turn.quiet == Quiet::default() => String::new(),
                        None => format!(", quiet for {} ms", turn.quiet.ms),
                        Some(step) => format!(", quiet for {} ms ({step:?})", turn.quiet.ms),
                    };
                    let of = turn.prompt.id;
                    format!("turn of {of} {}{spoke}{until}{up}{quiet}", phase(&turn.phase, now))
                }
            },
        ),
        ("heard", format!("heard {}", session.heard)),
        ("queue", format!("queue [{}]", ids(&mut turns.queue.iter()))),
        ("interrupted", format!("interrupted [{}]", ids(&mut turns.interrupted.iter()))),
        ("deaths", format!("deaths {}", session.deaths.within(now, session.spec.restart.period_ms))),
        ("permissions", {
            let open = turns.running.iter().flat_map(|turn| &turn.open);
            let open: Vec<String> = open.map(|open| permission(open, now)).collect();
            format!("permissions [{}]", open.join(" "))
        }),
        ("tools", {
            let tools: Vec<String> = turns.running.iter().flat_map(|turn| turn.tools.clone()).collect();
            format!("tool calls [{}]", tools.join(" "))
        }),
        ("agent details", {
            let version = session.agent_details.as_ref().and_then(|details| details.version.as_deref());
            format!("agent {}", version.unwrap_or("unknown"))
        }),
        ("containment", {
            let level = session.containment.map_or("unknown", Level::name);
            format!("contained {level}")
        }),
        ("sandbox", session.sandbox.map_or("no sandbox".into(), |sandbox| format!("sandbox {sandbox}"))),
        ("limited by", {
            let memory = session.limited_by.and_then(|by| by.memory);
            format!("memory limited by {}", memory.map_or("nothing", Keeper::name))
        }),
        ("agent session", format!("conversation {}", session.agent_session.as_deref().unwrap_or("unknown"))),
        ("settings", {
            let asked = session.settings.asked.iter().map(|asked| asked.number.to_string());
            let set = session.settings.set.iter().map(|(name, value)| format!("{name} {value}"));
            format!("settings [{}]", set.chain(asked).collect::<Vec<_>>().join(" "))
        }),
        ("servers", {
            let names: Vec<&str> =
                session.spec.remote_servers.iter().map(|server| server.name.as_str()).collect();
            format!("servers [{}]", names.join(" "))
        }),
        ("usage", {
            let usage = session.usage.as_ref();
            usage.map_or("usage unknown".into(), |usage| format!("{} tokens read", usage.input_tokens))
        }),
        ("recovering", if session.recovering { "replacing" } else { "replacing nothing" }.into()),
        ("clients", {
            let clients = session.clients.iter().map(|client| format!("{} {:?}", client.id, client.role));
            format!("clients [{}]", clients.collect::<Vec<_>>().join(" ").to_lowercase())
        }),
        ("pinned", if session.pinned { "pinned" } else { "not pinned" }.into()),
        ("tasks", format!("{} open tasks", session.open_tasks)),
    ]
}

fn permission(open: &Permission, now: u64) -> String {
    let until = open.expires.map_or(String::new(), |expires| format!("(until {})", ms(expires, now)));
    format!("{}{until}", open.id)
}

fn ms(time: u64, now: u64) -> String {
    if time >= now { format!("+{}", time - now) } else { format!("-{}", now - time) }
}

fn state(state: &State, now: u64) -> String {
    let of =
        |worker: &Option<Identity>| worker.as_ref().map_or("no process".into(), |w| format!("pid {}", w.pid));
    match state {
        State::Starting { worker, deadline } => {
            format!("starting({}, until {})", of(worker), ms(*deadline, now))
        }
        State::Ready { worker, idle_since, .. } => {
            format!("ready(pid {}, idle {})", worker.pid, ms(*idle_since, now))
        }
        State::Adopting { worker, was, after, deadline } => {
            let was = match was {
                Was::Starting => "was starting",
                Was::Ready { .. } => "was ready",
                Was::Stopping => "was stopping",
            };
            let (pid, after) = (worker.pid, kinds::why(after));
            format!("adopting(pid {pid}, {was}, {after}, until {})", ms(*deadline, now))
        }
        State::Stopping { worker, why, kills, deadline, give_up } => format!(
            "stopping({}, {}, {kills} kills, until {}, gives up {})",
            of(worker),
            kinds::why(why),
            ms(*deadline, now),
            ms(*give_up, now)
        ),
        State::Restarting { until } => format!("restarting(until {})", ms(*until, now)),
        State::Hibernated => "hibernated".into(),
        State::Stopped => "stopped".into(),
        State::Failed(failure) => {
            let survivors = if failure.survivors.is_empty() {
                String::new()
            } else {
                format!(", {:?} live", failure.survivors)
            };
            format!("failed({}{survivors})", failure.reason)
        }
    }
}

fn phase(phase: &Phase, now: u64) -> String {
    match phase {
        Phase::Sent { deadline } => format!("sent(until {})", ms(*deadline, now)),
        Phase::Started { agent_pid } => format!("started(pid {agent_pid})"),
        Phase::Aborting { deadline, agent_pid } => {
            let of = agent_pid.map_or("no process".into(), |pid| format!("pid {pid}"));
            format!("aborting({of}, until {})", ms(*deadline, now))
        }
    }
}

/// An event with what it says of policy.
fn event(kind: &EventKind) -> String {
    let name = kind.name();
    match kind {
        EventKind::SessionRestarting { delay_ms, reason, .. } => {
            format!("{name}(in {delay_ms} ms: {reason})")
        }
        EventKind::SessionFailed { reason, .. } => format!("{name}({reason})"),
        EventKind::SessionStopped { exit: Some(exit) } => format!("{name}({exit})"),
        EventKind::PromptAccepted { disposition, retry_of, attachments, .. } => {
            let retry = retry_of.map_or(String::new(), |of| format!(", retry of {of}"));
            let with = if attachments.is_empty() { "" } else { ", with a file" };
            format!("{name}({disposition:?}{retry}{with})")
        }
        EventKind::PromptQueued { position, .. } => format!("{name}({position})"),
        EventKind::PromptStarted { prompt_id } => format!("{name}({prompt_id})"),
        EventKind::PromptRemoved { prompt_id, reason } => format!("{name}({prompt_id}: {reason:?})"),
        EventKind::PromptResolved { prompt_id, action, .. } => format!("{name}({prompt_id}: {action:?})"),
        EventKind::TurnCompleted { outcome, stop_reason, .. } => {
            format!("{name}({outcome:?}: {stop_reason})")
        }
        EventKind::TurnInterrupted { reason, will_retry, .. } => {
            format!("{name}({reason}{})", if *will_retry { "; to be repeated" } else { "" })
        }
        EventKind::ToolCallInterrupted { tool_call_id, .. } => format!("{name}({tool_call_id})"),
        EventKind::AgentUpdated { prompt_id: Some(prompt_id), .. } => format!("{name}({prompt_id})"),
        EventKind::PermissionRequested { permission_id, .. } => format!("{name}({permission_id})"),
        EventKind::PermissionResolved { permission_id, option_id, by } => {
            format!("{name}({permission_id}: {option_id}, {by:?})")
        }
        EventKind::CallRequested { call_id, client_id, .. } => {
            let of = client_id.map(|client| format!(", of {client}")).unwrap_or_default();
            format!("{name}({call_id}{of})")
        }
        EventKind::CallAnswered { call_id } => format!("{name}({call_id})"),
        EventKind::CallExpired { call_id, reason } => format!("{name}({call_id}: {reason})"),
        EventKind::PermissionExpired { permission_id, reason } => {
            format!("{name}({permission_id}: {reason})")
        }
        _ => name.into(),
    }
}

fn effect(effect: &Effect) -> String {
    let name = kinds::effect(effect);
    match effect {
        Effect::Spawn { incarnation }
        | Effect::Welcome { incarnation }
        | Effect::Terminate { incarnation }
        | Effect::Reclaim { incarnation, .. }
        | Effect::Release { incarnation } => format!("!{name}({incarnation})"),
        Effect::Deliver { incarnation, prompt } | Effect::Abort { incarnation, prompt } => {
            format!("!{name}({incarnation}, {prompt})")
        }
        Effect::Answer { incarnation, request, option } => {
            format!("!{name}({incarnation}, {request}: {})", option.as_deref().unwrap_or("cancelled"))
        }
        Effect::Driver { incarnation, client, offers } => {
            let offers = offers.iter().map(|offer| offer.name()).collect::<Vec<_>>().join(" ");
            format!("!{name}({incarnation}, {client:?}: {offers})")
        }
        Effect::Set { incarnation, request, .. } => format!("!set({incarnation}, {request})"),
        Effect::AnswerCall { incarnation, request, answer } => {
            let answer = match answer {
                CallAnswer::Result { json } | CallAnswer::Error { json } => json,
                CallAnswer::NotAsked { .. } => "not asked",
                CallAnswer::GivenUp { .. } => "given up",
            };
            format!("!{name}({incarnation}, {request}: {answer})")
        }
        Effect::Kill { incarnation, round } => format!("!{name}({incarnation}, round {round})"),
    }
}
