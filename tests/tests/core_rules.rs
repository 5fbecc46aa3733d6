//! Rules of one session that are about one situation each: what is told of it, word for word, and what whoever
//! wants something is answered. The transition table shows neither.

use std::sync::Arc;

use harness::sample::{self, AT, gone, id, identity, new_prompt, prompt, ready, session, turn};
use manager::core::{
    At, Command, Effect, Goal, Input, LastRestart, Note, Phase, Refusal, Reply, RestartPolicy, Seen, Session,
    Spec, State, Task, Turns, Why, limits,
};
use protocol::api::{Failure, OnCrash, RestartType, Status};
use protocol::event::{Disposition, EventKind, Outcome, RemovedBy, Resolution};
use protocol::wire::{Spent, TurnEnd, Update};
use protocol::{Exit, PromptId, Restore, Stream};

/// Gives a session its inputs, each of which must be taken, and returns what the last of them came to.
fn give(session: &mut Session, at: At, input: Input) -> (Vec<EventKind>, Reply) {
    let step = session.step(at, 50, &input).unwrap_or_else(|refusal| panic!("{input:?}: {refusal}"));
    *session = step.next;
    (step.events, step.reply)
}

fn see(session: &mut Session, at: At, seen: Seen) -> Vec<EventKind> {
    give(session, at, Input::Seen(session.incarnation, seen)).0
}

fn wish(session: &mut Session, command: Command) -> Reply {
    give(session, AT, Input::Command(command)).1
}

#[test]
fn a_new_session_is_wanted_and_starts() {
    let session = Session::new(id("s"), Arc::new(sample::spec()), AT, 6);
    assert_eq!((session.goal, session.incarnation, session.created_at), (Goal::Up, 7, AT.wall));
    assert_eq!(session.state, State::Starting { worker: None, deadline: AT.mono + limits::START_MS });
    assert_eq!(session.effects(), [Effect::Release { incarnation: 6 }, Effect::Spawn { incarnation: 7 }]);
    // Before the first there is nothing to let go of.
    let first = Session::new(id("s"), Arc::new(sample::spec()), AT, 0);
    assert_eq!(first.effects(), [Effect::Spawn { incarnation: 1 }]);
}

#[test]
fn a_turn_is_counted_told_and_remembered() {
    let mut session = session("s", ready());
    let long = "ä".repeat(limits::FIRST_PROMPT_CHARS + 50);
    wish(&mut session, new_prompt(&long));
    let (prompt, stream) = (PromptId(50), Stream::Stderr);
    let beginning = "ä".repeat(200);
    assert_eq!(session.turns.first_prompt.as_deref(), Some(beginning.as_str()));
    assert_eq!((session.turns.count, session.turns.messages), (1, 1));
    assert_eq!(session.turns.last_message_at, Some(AT.wall));
    see(&mut session, AT, Seen::TurnStarted { prompt, agent_pid: 101 });

    let later = At { mono: AT.mono + 5, wall: AT.wall + 7, ..AT };
    let chunk = |text: &str, stream| Seen::Output { prompt, stream, text: text.into() };
    let events = see(&mut session, later, chunk("warning", stream));
    let text = "warning".into();
    assert_eq!(events, [EventKind::MessageChunk { turn: 1, prompt_id: prompt, stream, text, payload: None }]);
    assert_eq!((session.turns.messages, session.turns.last_message_at), (1, Some(later.wall)));
    // An answer is one message, in however many pieces it comes.
    for text in ["an ", "answer"] {
        see(&mut session, later, chunk(text, Stream::Stdout));
        assert_eq!(session.turns.messages, 2);
    }
    let (end, exit) = (TurnEnd::Finished, Some(Exit::Code(0)));
    let events = see(&mut session, later, Seen::TurnEnded { prompt, end, exit, left_behind: 0 });
    let (outcome, stop_reason) = (Outcome::Completed, "end_turn".into());
    assert_eq!(events, [EventKind::TurnCompleted { turn: 1, prompt_id: prompt, outcome, stop_reason, exit }]);
    assert!(matches!(session.state, State::Ready { idle_since, .. } if idle_since == later.mono));

    wish(&mut session, new_prompt("another"));
    assert_eq!((session.turns.count, session.turns.messages), (2, 3));
    assert_eq!(session.turns.first_prompt.as_deref(), Some(beginning.as_str()));
    let end = TurnEnd::Failed { message: "no such agent".into() };
    let events = see(&mut session, AT, Seen::TurnEnded { prompt, end, exit, left_behind: 0 });
    let (outcome, stop_reason) = (Outcome::Completed, "error".into());
    assert_eq!(
        events,
        [
            EventKind::SystemMessage { text: "no such agent".into() },
            EventKind::TurnCompleted { turn: 2, prompt_id: prompt, outcome, stop_reason, exit },
        ]
    );
}

#[test]
fn a_turn_aborted_before_it_began_is_known_by_its_process_once_it_does() {
    let mut session = session("s", ready());
    wish(&mut session, new_prompt("text"));
    wish(&mut session, Command::Abort);
    let prompt = PromptId(50);
    let started = Seen::TurnStarted { prompt, agent_pid: 101 };
    let events = see(&mut session, AT, started.clone());
    assert_eq!(events, [EventKind::TurnStarted { turn: 1, prompt_id: prompt, agent_pid: 101 }]);
    let deadline = AT.mono + session.spec.grace_ms + limits::ABORT_SLACK_MS;
    let running = session.turns.running.as_ref().unwrap();
    assert_eq!(running.phase, Phase::Aborting { deadline, agent_pid: Some(101) });
    // It begins once, and asking again buys no time.
    assert_eq!(see(&mut session, AT, started), []);
    let later = At { mono: AT.mono + 5, ..AT };
    give(&mut session, later, Input::Command(Command::Abort));
    assert_eq!(session.deadline(), Some(deadline));
}

#[test]
fn a_turn_whose_time_is_up_is_aborted_and_says_so_and_the_next_begins() {
    let mut session = session("s", ready());
    session.spec = Arc::new(Spec { turn_timeout_ms: 90_000, hibernate_after_ms: 0, ..sample::spec() });
    wish(&mut session, new_prompt("text"));
    give(&mut session, AT, Input::Command(new_prompt("next")));
    session.turns.queue[0].id = PromptId(51);
    let prompt = PromptId(50);
    see(&mut session, AT, Seen::TurnStarted { prompt, agent_pid: 101 });
    let due = At { mono: AT.mono + 90_000, ..AT };
    assert_eq!(session.deadline(), Some(due.mono));
    assert_eq!(give(&mut session, At { mono: due.mono - 1, ..AT }, Input::Tick).0, []);
    let text = "the turn has not come to its end within 90 s, which is its limit, and is aborted".to_owned();
    assert_eq!(give(&mut session, due, Input::Tick).0, [EventKind::SystemMessage { text }]);
    assert!(matches!(session.turns.running.as_ref().unwrap().phase, Phase::Aborting { .. }));
    let (end, exit) = (TurnEnd::Aborted, Some(Exit::Signal(15)));
    let events = see(&mut session, due, Seen::TurnEnded { prompt, end, exit, left_behind: 0 });
    let (outcome, stop_reason) = (Outcome::Aborted, "timeout".into());
    let completed = EventKind::TurnCompleted { turn: 1, prompt_id: prompt, outcome, stop_reason, exit };
    assert_eq!(events, [completed, EventKind::PromptStarted { prompt_id: PromptId(51) }]);
    assert_eq!(session.turns.interrupted, []);
}

#[test]
fn what_a_turn_left_behind_is_said_in_words() {
    let said = |left_behind| {
        let mut session = session("s", ready());
        session.turns.running = turn(Phase::Started { agent_pid: 101 });
        let (prompt, end) = (PromptId(7), TurnEnd::Finished);
        see(&mut session, AT, Seen::TurnEnded { prompt, end, exit: None, left_behind }).into_iter().find_map(
            |event| match event {
                EventKind::SystemMessage { text } => Some(text),
                _ => None,
            },
        )
    };
    assert_eq!(said(0), None);
    assert!(said(1).unwrap().starts_with("1 process left in the background"));
    assert!(said(2).unwrap().starts_with("2 processes left in the background"));
}

#[test]
fn every_wish_is_answered_with_what_became_of_it() {
    let mut session = session("s", ready());
    session.turns.interrupted.extend([prompt(3, "was cut off"), prompt(4, "too")]);
    let accepted = |prompt, disposition| Reply::Accepted { prompt: PromptId(prompt), disposition };
    assert_eq!(wish(&mut session, new_prompt("runs")), accepted(50, Disposition::Started));
    assert_eq!(wish(&mut session, new_prompt("waits")), accepted(50, Disposition::Queued));
    assert_eq!(wish(&mut session, Command::Abort), Reply::Aborting { prompt: PromptId(50) });
    let retry = Command::Resolve(PromptId(3), Resolution::Retry);
    assert_eq!(wish(&mut session, retry), Reply::Resolved { retried_as: Some(PromptId(50)) });
    let first = session.turns.queue.front().map(|prompt| &*prompt.text);
    assert_eq!(first, Some("was cut off"), "what is repeated goes first");
    let drop = Command::Resolve(PromptId(4), Resolution::Drop);
    assert_eq!(wish(&mut session, drop), Reply::Resolved { retried_as: None });
    assert_eq!(wish(&mut session, Command::Edit(PromptId(50), "edited".into())), Reply::Done);
    assert_eq!(session.turns.queue.front().map(|prompt| &*prompt.text), Some("edited"));
    for pinned in [true, false] {
        let told = give(&mut session, AT, Input::Command(Command::Pin(pinned)));
        assert_eq!(told, (vec![EventKind::SessionUpdated { pinned }], Reply::Done));
        assert_eq!(session.pinned, pinned);
    }
    assert_eq!(wish(&mut session, Command::Clear), Reply::Cleared { removed: 2 });
    assert_eq!(wish(&mut session, Command::Clear), Reply::Cleared { removed: 0 });
}

#[test]
fn a_replacement_is_told_with_whom_it_replaces_and_why() {
    let mut session = session("s", ready());
    let last_words = vec!["out of memory".to_owned()];
    let exit = Exit::Signal(9);
    let dies = Seen::Gone { exit, last_words: last_words.clone(), survivors: Vec::new() };
    let events = see(&mut session, AT, dies);
    let reason = "worker killed by SIGKILL".to_owned();
    let (old_pid, restore) = (Some(100), Restore::Resumed);
    let restarting = EventKind::SessionRestarting {
        reason: reason.clone(),
        old_pid,
        exit: Some(exit),
        delay_ms: 0,
        deaths: 1,
        last_words: last_words.clone(),
    };
    assert_eq!(events, [restarting]);
    let worker = identity(200);
    assert_eq!(see(&mut session, AT, Seen::Spawned(worker)), [EventKind::SessionStarted { pid: 200 }]);
    let events = see(&mut session, AT, Seen::Ready { restore, agent_pid: Some(201) });
    assert_eq!(
        events,
        [
            EventKind::SessionReady { pid: 200, agent_pid: Some(201), restore },
            EventKind::SessionRestarted { old_pid, new_pid: 200, reason, restore },
        ]
    );
    let shown = session.info(AT.mono);
    assert_eq!((shown.pid, shown.restore), (Some(200), Some(restore)));
    assert!(matches!(session.state, State::Ready { agent_pid: Some(201), .. }), "{:?}", session.state);

    // By request it is told the same way, and the judge's slate is clean.
    wish(&mut session, Command::Restart);
    let dies = Seen::Gone { exit: Exit::Code(0), last_words: last_words.clone(), survivors: Vec::new() };
    let reason = "restarted by request".to_owned();
    let old_pid = Some(200);
    let restarting = EventKind::SessionRestarting {
        reason: reason.clone(),
        old_pid,
        exit: Some(Exit::Code(0)),
        delay_ms: 0,
        deaths: 0,
        last_words,
    };
    assert_eq!(see(&mut session, AT, dies), [restarting]);
    assert_eq!(session.last_restart, Some(LastRestart { reason, old_pid }));
}

#[test]
fn a_session_woken_while_it_falls_asleep_keeps_its_slate() {
    let mut session = session("s", ready());
    see(&mut session, AT, gone(Exit::Signal(9)));
    session.state = ready();
    let idle = At { mono: AT.mono + session.spec.hibernate_after_ms, ..AT };
    let soon = At { mono: AT.mono + 10, ..AT };
    give(&mut session, idle, Input::Tick);
    wish(&mut session, Command::Up);
    let events = see(&mut session, soon, gone(Exit::Code(0)));
    let [EventKind::SessionRestarting { deaths, delay_ms: 0, .. }] = events[..] else { panic!("{events:?}") };
    assert_eq!(deaths, 1, "only a restart by hand forgets them");
}

#[test]
fn a_session_that_dies_again_waits_longer_each_time_before_it_starts() {
    let mut session = session("s", ready());
    let mut waits = Vec::new();
    for _ in 0..4 {
        session.state = ready();
        let events = see(&mut session, AT, gone(Exit::Signal(9)));
        let [EventKind::SessionRestarting { delay_ms, deaths, .. }] = events[..] else {
            panic!("{events:?}")
        };
        if let State::Restarting { until } = session.state {
            assert_eq!(until, AT.mono + delay_ms);
        }
        waits.push((deaths, delay_ms));
    }
    let [(1, 0), (2, second), (3, third), (4, fourth)] = waits[..] else { panic!("{waits:?}") };
    // A quarter either way.
    assert!(
        (8..=12).contains(&second) && (30..=50).contains(&third) && (120..=200).contains(&fourth),
        "{waits:?}"
    );
}

#[test]
fn a_failure_keeps_how_it_came_about() {
    let spec = Spec {
        restart: RestartPolicy { kind: RestartType::Temporary, ..RestartPolicy::default() },
        ..sample::spec()
    };
    let mut session = Session { spec: Arc::new(spec), ..session("s", ready()) };
    let (exit, last_words) = (Exit::Code(3), vec!["help".to_owned()]);
    let reason = "worker exit status 3; its restart type is temporary".to_owned();
    let failure = Failure { reason, exit: Some(exit), last_words: last_words.clone(), survivors: Vec::new() };
    let events = see(&mut session, AT, Seen::Gone { exit, last_words, survivors: Vec::new() });
    assert_eq!(events, [session_failed(&failure)]);
    assert_eq!(session.state, State::Failed(failure));
    let refused = session.step(AT, 50, &Input::Command(new_prompt("text"))).unwrap_err();
    let reason = "worker exit status 3; its restart type is temporary".to_owned();
    assert_eq!(refused, Refusal::Failed { id: id("s"), reason });
}

fn session_failed(failure: &Failure) -> EventKind {
    EventKind::SessionFailed {
        reason: failure.reason.clone(),
        exit: failure.exit,
        last_words: failure.last_words.clone(),
        survivors: failure.survivors.clone(),
    }
}

#[test]
fn what_survives_sigkill_is_named_until_it_is_gone() {
    let mut session = session("s", ready());
    let (exit, last_words) = (Exit::Signal(9), vec!["help".to_owned()]);
    let survives = |survivors: Vec<u32>| Seen::Gone { exit, last_words: last_words.clone(), survivors };
    let failure = Failure {
        reason: "processes [500, 501] survived SIGKILL".into(),
        exit: Some(exit),
        last_words: last_words.clone(),
        survivors: vec![500, 501],
    };
    assert_eq!(see(&mut session, AT, survives(vec![500, 501])), [session_failed(&failure)]);
    for command in [Command::Up, Command::Stop, Command::Restart] {
        let refused = session.step(AT, 50, &Input::Command(command)).unwrap_err();
        assert_eq!(refused, Refusal::Unkillable { id: id("s"), incarnation: 1, pids: vec![500, 501] });
    }
    see(&mut session, AT, survives(vec![501]));
    assert!(session.has_process());
    see(&mut session, AT, survives(Vec::new()));
    assert!(!session.has_process());
    assert_eq!(wish(&mut session, Command::Up), Reply::Done);
    assert!(matches!(session.state, State::Starting { .. }));
}

#[test]
fn a_session_hibernates_when_it_was_idle_for_as_long_as_it_says_and_may() {
    let idle = session("s", ready());
    assert_eq!(idle.deadline(), Some(AT.mono + idle.spec.hibernate_after_ms));
    let soon = Spec { hibernate_after_ms: 1, ..sample::spec() };
    assert_eq!(Session { spec: Arc::new(soon), ..idle.clone() }.deadline(), Some(AT.mono + 1));
    let never = Spec { hibernate_after_ms: 0, ..sample::spec() };
    for awake in [
        Session { spec: Arc::new(never), ..idle.clone() },
        Session { pinned: true, ..idle.clone() },
        Session { open_tasks: 1, ..idle.clone() },
    ] {
        assert_eq!(awake.deadline(), None);
    }
}

/// The reasons are all that a person reads of a worker that hung.
#[test]
fn a_worker_that_misses_its_deadline_is_told_what_it_missed() {
    let deadline = AT.mono;
    let starting = State::Starting { worker: Some(identity(100)), deadline };
    let with = |phase| Session {
        turns: Turns { running: turn(phase), ..Turns::default() },
        ..session("s", ready())
    };
    for (mut session, missed) in [
        (session("s", starting), "the worker was not ready within 20 s"),
        (with(Phase::Sent { deadline }), "the worker took no prompt within 10 s"),
        (
            with(Phase::Aborting { deadline, agent_pid: None }),
            "the worker did not end the turn it was told to",
        ),
    ] {
        give(&mut session, AT, Input::Tick);
        let State::Stopping { why, kills: 1, .. } = &session.state else { panic!("{:?}", session.state) };
        assert_eq!(*why, Why::Fault(missed.into()));
        see(&mut session, AT, gone(Exit::Signal(9)));
        assert_eq!(session.info(AT.mono).restarts.last_reason.as_deref(), Some(missed));
    }
}

#[test]
fn a_worker_that_somebody_else_told_to_leave_is_replaced() {
    let mut session = session("s", ready());
    session.turns.running = turn(Phase::Started { agent_pid: 101 });
    let (prompt, end) = (PromptId(7), TurnEnd::Aborted);
    let events = see(&mut session, AT, Seen::TurnEnded { prompt, end, exit: None, left_behind: 0 });
    let reason = "its worker was told to leave".to_owned();
    assert_eq!(
        events,
        [EventKind::TurnInterrupted { turn: 1, prompt_id: prompt, reason, will_retry: false }]
    );
    let deadline = AT.mono + session.spec.grace_ms + limits::STOP_SLACK_MS;
    let stopping = State::Stopping {
        worker: Some(identity(100)),
        why: Why::Fault("the worker was told to leave".into()),
        kills: 0,
        deadline,
        give_up: deadline + limits::UNKILLABLE_MS,
    };
    assert_eq!(session.state, stopping);
}

#[test]
fn a_task_ends_as_its_prompt_does() {
    let works = |on_crash| {
        let task = Some(Task { prompt: PromptId(7), text: "runs".into(), open: true });
        let spec = Arc::new(Spec { on_crash, ..sample::spec() });
        let mut session = Session { spec, task, ..session("s", ready()) };
        session.turns.running = turn(Phase::Started { agent_pid: 101 });
        session
    };
    let runs = works(OnCrash::Interrupt);
    let mut aborts = runs.clone();
    wish(&mut aborts, Command::Abort);
    let mut waits = runs.clone();
    waits.turns.queue.extend(waits.turns.running.take().map(|turn| turn.prompt));
    waits.state = State::Restarting { until: AT.mono };
    let mut starts = waits.clone();
    starts.state = State::Starting { worker: Some(identity(100)), deadline: AT.mono };
    let seen = |seen| Input::Seen(1, seen);
    let ended =
        |prompt, end| seen(Seen::TurnEnded { prompt: PromptId(prompt), end, exit: None, left_behind: 0 });
    let failed = TurnEnd::Failed { message: "no such agent".into() };
    for (session, input, outcome) in [
        (&runs, ended(7, TurnEnd::Finished), Some(Outcome::Completed)),
        (&runs, ended(7, failed), Some(Outcome::Completed)),
        (&runs, ended(8, TurnEnd::Finished), None),
        (&runs, seen(gone(Exit::Signal(9))), Some(Outcome::Interrupted)),
        (&works(OnCrash::Retry), seen(gone(Exit::Signal(9))), None),
        (&aborts, ended(7, TurnEnd::Aborted), Some(Outcome::Aborted)),
        (&aborts, seen(gone(Exit::Signal(9))), Some(Outcome::Aborted)),
        (&waits, Input::Command(Command::Remove(PromptId(7))), Some(Outcome::Aborted)),
        (&waits, Input::Command(Command::Clear), Some(Outcome::Aborted)),
        (&waits, Input::Command(Command::Stop), Some(Outcome::Aborted)),
    ] {
        let step = session.step(AT, 50, &input).unwrap();
        let notes: Vec<Note> = outcome.map(|outcome| Note::TaskEnded { outcome }).into_iter().collect();
        assert_eq!(step.notes, notes, "{input:?}");
        assert_eq!(step.next.task.map(|task| task.open), Some(outcome.is_none()), "{input:?}");
    }
    let lost = Seen::Gone { exit: Exit::Unknown, last_words: Vec::new(), survivors: vec![500] };
    let step = starts.step(AT, 50, &seen(lost)).unwrap();
    let reason = "processes [500] survived SIGKILL".into();
    assert_eq!(step.notes, [Note::TaskLost { reason }], "it waits for a restart by hand");
}

#[test]
fn what_runs_waits_or_may_be_resolved_is_needed_and_so_is_all_of_a_sub_agent() {
    let mut session = session("s", ready());
    assert_eq!(session.needs_from(), u64::MAX);
    session.turns = Turns { queue: [prompt(40, "a"), prompt(42, "b")].into(), ..Turns::default() };
    assert_eq!(session.needs_from(), 40);
    session.turns.running = turn(Phase::Started { agent_pid: 8 });
    assert_eq!(session.needs_from(), 7);
    session.turns.interrupted = vec![prompt(9, "c"), prompt(6, "d")];
    assert_eq!(session.needs_from(), 6);
    // Whoever waits for a sub-agent looks for its task and the end of it, whenever that was.
    session.task = Some(Task { prompt: PromptId(5), text: "task".into(), open: false });
    assert_eq!(session.needs_from(), 5);
}

#[test]
fn what_an_agent_says_is_recorded_up_to_a_bound_and_that_is_said_once() {
    let mut session = session("s", ready());
    session.turns.running = turn(Phase::Started { agent_pid: 8 });
    let prompt = PromptId(7);
    let mib = |session: &mut Session, text: &str| {
        let text = text.repeat(1 << 20);
        see(session, AT, Seen::Output { prompt, stream: Stream::Stdout, text })
    };
    let most = limits::TURN_BYTES >> 20;
    for _ in 0..most {
        assert!(matches!(mib(&mut session, "x")[..], [EventKind::MessageChunk { .. }]));
    }
    let said = mib(&mut session, "y");
    assert!(
        matches!(&said[..], [EventKind::SystemMessage { text }] if text.contains("not recorded")),
        "{said:?}"
    );
    assert_eq!(mib(&mut session, "z"), []);
    let told = |update, payload| Seen::Updated { prompt: Some(prompt), update, payload };
    let payload = serde_json::json!({ "toolCallId": "call" });
    let call = Update::ToolCall { id: "call".into(), title: "runs".into(), ended: false };
    assert_eq!(see(&mut session, AT, told(call, payload.clone())), []);
    // The turn ends as ever, and the next has all of its room.
    let events =
        see(&mut session, AT, Seen::TurnEnded { prompt, end: TurnEnd::Finished, exit: None, left_behind: 0 });
    assert!(matches!(events[..], [EventKind::TurnCompleted { .. }]), "no call is open: {events:?}");
    wish(&mut session, new_prompt("next"));
    let prompt = session.turns.running.as_ref().unwrap().prompt.id;
    let text = "again".to_owned();
    let events = see(&mut session, AT, Seen::Output { prompt, stream: Stream::Stdout, text });
    assert!(matches!(events[..], [EventKind::MessageChunk { .. }]));
    // Payloads count as well as texts.
    let payload = serde_json::json!({ "content": "x".repeat(limits::TURN_BYTES as usize) });
    let update = Update::Other;
    let events = see(&mut session, AT, Seen::Updated { prompt: Some(prompt), update, payload });
    assert!(matches!(&events[..], [EventKind::SystemMessage { text }] if text.contains("not recorded")));
}

#[test]
fn what_an_agent_says_between_turns_is_recorded_up_to_a_bound_and_the_next_turn_has_all_of_its_room() {
    let mut session = session("s", ready());
    let payload = serde_json::json!({ "content": "x".repeat(1 << 20) });
    let other = |session: &mut Session, prompt| {
        see(session, AT, Seen::Updated { prompt, update: Update::Other, payload: payload.clone() })
    };
    // A payload is a little longer than its text.
    for _ in 1..limits::BETWEEN_BYTES >> 20 {
        assert!(matches!(other(&mut session, None)[..], [EventKind::AgentUpdated { prompt_id: None, .. }]));
    }
    let said = other(&mut session, None);
    assert!(
        matches!(&said[..], [EventKind::SystemMessage { text }] if text.contains("between two turns")),
        "{said:?}"
    );
    assert_eq!(other(&mut session, None), []);
    // What it has spent counts all the same.
    let spent = |tokens| Update::Usage(Spent { input_tokens: Some(tokens), ..Spent::default() });
    let payload = serde_json::json!({});
    let update = spent(7);
    assert_eq!(see(&mut session, AT, Seen::Updated { prompt: None, update, payload: payload.clone() }), []);
    assert_eq!(session.usage.as_ref().map(|usage| usage.input_tokens), Some(7));
    wish(&mut session, new_prompt("next"));
    let prompt = session.turns.running.as_ref().map(|turn| turn.prompt.id);
    assert!(matches!(other(&mut session, prompt)[..], [EventKind::AgentUpdated { .. }]));
    let events = see(&mut session, AT, Seen::Updated { prompt, update: spent(9), payload });
    assert!(
        matches!(&events[..], [EventKind::UsageUpdated { usage, .. }] if usage.input_tokens == 9),
        "{events:?}"
    );
}

/// A prompt of a command agent whose program is missing from `AT` on, tried until the session gives it up. The waits between the
/// tries, in milliseconds, and the last events.
fn tries_without_a_program(session: &mut Session, prompt: PromptId) -> (Vec<u64>, Vec<EventKind>) {
    let (mut at, mut waits) = (AT, Vec::new());
    // A prompt that was given to nobody is none.
    let given = session.turns.messages - 1;
    loop {
        let end = TurnEnd::NotRun { message: "cannot run /bin/agent".into() };
        let events = see(session, at, Seen::TurnEnded { prompt, end, exit: None, left_behind: 0 });
        if session.turns.queue.is_empty() {
            return (waits, events);
        }
        let retries = |event: &EventKind| matches!(event, EventKind::TurnInterrupted { will_retry: true, prompt_id, reason, .. } if *prompt_id == prompt && reason == "cannot run /bin/agent");
        assert!(events.iter().any(retries), "{events:?}");
        assert_eq!((session.status(), session.turns.messages), (Status::Running, given));
        let due = session.deadline().unwrap();
        // Not before its time.
        let early = At { mono: due - 1, ..at };
        give(session, early, Input::Tick);
        assert_eq!(session.turns.running, None);
        waits.push(due - at.mono);
        at.mono = due;
        give(session, at, Input::Tick);
        assert!(session.turns.running.is_some());
    }
}

#[test]
fn a_prompt_whose_program_is_missing_is_tried_for_a_minute_and_costs_no_budget() {
    let mut session = session("s", ready());
    wish(&mut session, new_prompt("text"));
    let prompt = session.turns.running.as_ref().unwrap().prompt.id;
    let (waits, events) = tries_without_a_program(&mut session, prompt);
    assert_eq!(waits.iter().sum::<u64>(), 60_000, "{waits:?}");
    assert!((10..40).contains(&waits.len()), "{waits:?}");
    let said =
        |event: &EventKind| matches!(event, EventKind::SystemMessage { text } if text.contains("60 s"));
    let ended = |event: &EventKind| matches!(event, EventKind::TurnCompleted { stop_reason, .. } if stop_reason == "error");
    assert!(events.iter().any(said) && events.iter().any(ended), "{events:?}");
    assert_eq!((session.status(), session.absence.as_ref()), (Status::Idle, None));
    assert_eq!(session.deaths.within(AT.mono, u64::MAX / 2), 0);
    // The next prompt has the whole minute again.
    wish(&mut session, new_prompt("another"));
    let prompt = session.turns.running.as_ref().unwrap().prompt.id;
    assert_eq!(tries_without_a_program(&mut session, prompt).0.iter().sum::<u64>(), 60_000);
}

#[test]
fn a_prompt_that_waits_for_its_program_can_be_removed_and_leaves_no_wait_behind() {
    let mut session = session("s", ready());
    wish(&mut session, new_prompt("text"));
    let prompt = session.turns.running.as_ref().unwrap().prompt.id;
    let end = || TurnEnd::NotRun { message: "cannot run /bin/agent".into() };
    see(&mut session, AT, Seen::TurnEnded { prompt, end: end(), exit: None, left_behind: 0 });
    wish(&mut session, Command::Remove(prompt));
    assert_eq!((session.status(), session.turns.not_before), (Status::Idle, None));
    // A turn that somebody wants to end is not tried again.
    wish(&mut session, new_prompt("text"));
    let prompt = session.turns.running.as_ref().unwrap().prompt.id;
    wish(&mut session, Command::Abort);
    let events = see(&mut session, AT, Seen::TurnEnded { prompt, end: end(), exit: None, left_behind: 0 });
    let aborted =
        |event: &EventKind| matches!(event, EventKind::TurnCompleted { outcome: Outcome::Aborted, .. });
    assert!(events.iter().any(aborted) && session.turns.queue.is_empty(), "{events:?}");
}

/// A session whose prompt waits for its missing program, and the prompt.
fn waits_for_its_program() -> (Session, PromptId) {
    let mut session = session("s", ready());
    wish(&mut session, new_prompt("text"));
    let prompt = session.turns.running.as_ref().unwrap().prompt.id;
    let end = TurnEnd::NotRun { message: "cannot run /bin/agent".into() };
    see(&mut session, AT, Seen::TurnEnded { prompt, end, exit: None, left_behind: 0 });
    assert_eq!((session.status(), session.info(AT.mono).running_prompt), (Status::Running, Some(prompt)));
    (session, prompt)
}

#[test]
fn a_prompt_that_waits_for_its_program_is_aborted_at_once() {
    for by_name in [false, true] {
        let (mut session, prompt) = waits_for_its_program();
        let abort = if by_name { Command::AbortOnly(prompt) } else { Command::Abort };
        let step = session.step(AT, 500, &Input::Command(abort)).unwrap();
        assert_eq!(step.reply, Reply::Aborting { prompt });
        let removed = EventKind::PromptRemoved { prompt_id: prompt, reason: RemovedBy::Removed };
        assert_eq!(step.events, [removed]);
        session = step.next;
        assert_eq!((session.status(), session.turns.not_before), (Status::Idle, None));
        assert!(session.step(AT, 501, &Input::Command(Command::Abort)).is_err(), "nothing runs any more");
    }
}

#[test]
fn an_abort_of_another_prompt_leaves_the_one_that_waits_for_its_program() {
    let (mut session, prompt) = waits_for_its_program();
    session = session.step(AT, 100, &Input::Command(new_prompt("next"))).unwrap().next;
    let next = session.turns.queue[1].id;
    assert!(session.step(AT, 500, &Input::Command(Command::AbortOnly(next))).is_err());
    assert_eq!(session.turns.queue[0].id, prompt);
    // Without its predecessor the next one is tried when that would have been.
    let not_before = session.turns.not_before;
    wish(&mut session, Command::Abort);
    assert_eq!((session.turns.queue[0].id, session.turns.not_before), (next, not_before));
}

#[test]
fn a_program_that_an_upgrade_has_moved_is_told_once() {
    let mut session = session("s", ready());
    assert_eq!(see(&mut session, AT, Seen::Program("/opt/v1/agent".into())), []);
    assert_eq!(see(&mut session, AT, Seen::Program("/opt/v1/agent".into())), []);
    let events = see(&mut session, AT, Seen::Program("/opt/v2/agent".into()));
    let text = "the agent's program is /opt/v2/agent now; it was /opt/v1/agent";
    assert_eq!(events, [EventKind::SystemMessage { text: text.into() }]);
    assert_eq!(session.program.as_deref(), Some("/opt/v2/agent"));
}
