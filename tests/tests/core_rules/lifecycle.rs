//! Starts, replacements, failures and sleep of a session, with the words of their events.

use std::sync::Arc;

use harness::sample::{self, AT, gone, id, identity, new_prompt, prompt, ready, session, turn};
use manager::core::{
    At, Command, Effect, Goal, Input, LastRestart, Phase, Refusal, Reply, RestartPolicy, Seen, Session, Spec,
    State, Turns, Why, limits,
};
use protocol::api::{Failure, RestartType};
use protocol::event::{Disposition, EventKind, Outcome, Resolution, RestartCause, Timestamp};
use protocol::wire::TurnEnd;
use protocol::{Exit, PromptId, Restore, Stream};

use super::{give, see, wish};

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
        let received = give(&mut session, AT, Input::Command(Command::Pin(pinned)));
        let (name, title, labels) = (None, None, Default::default());
        let event = EventKind::SessionUpdated { pinned, name, title, labels };
        assert_eq!(received, (vec![event], Reply::Done));
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
        cause: Some(RestartCause::WorkerDied),
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

    // A restart by hand has the same event, and the judge's slate is clean.
    wish(&mut session, Command::Restart);
    let dies = Seen::Gone { exit: Exit::Code(0), last_words: last_words.clone(), survivors: Vec::new() };
    let reason = "restarted by request".to_owned();
    let old_pid = Some(200);
    let restarting = EventKind::SessionRestarting {
        cause: Some(RestartCause::Requested),
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
    let failure = Failure {
        reason,
        exit: Some(exit),
        last_words: last_words.clone(),
        survivors: Vec::new(),
        failed_at: Some(Timestamp(AT.wall)),
    };
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
        failed_at: Some(Timestamp(AT.wall)),
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
