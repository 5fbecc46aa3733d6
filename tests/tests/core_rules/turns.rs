//! Turns, tasks and the record of an agent's messages.

use std::sync::Arc;

use harness::sample::{self, AT, gone, identity, new_prompt, prompt, ready, session, turn};
use manager::core::{At, Command, Input, Note, Phase, Seen, Session, Spec, State, Task, Turns, limits};
use protocol::api::OnCrash;
use protocol::event::{EventKind, Outcome};
use protocol::wire::{Spent, TurnEnd, Update};
use protocol::{Exit, PromptId, Stream};

use super::{give, see, wish};

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
    let output = |left_behind| {
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
    assert_eq!(output(0), None);
    assert!(output(1).unwrap().starts_with("1 process left in the background"));
    assert!(output(2).unwrap().starts_with("2 processes left in the background"));
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
    // A waiter for a sub-agent reads its task and the task's end, however old.
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
    let output = mib(&mut session, "y");
    assert!(
        matches!(&output[..], [EventKind::SystemMessage { text }] if text.contains("not recorded")),
        "{output:?}"
    );
    assert_eq!(mib(&mut session, "z"), []);
    let received = |update, payload| Seen::Updated { prompt: Some(prompt), update, payload };
    let payload = serde_json::json!({ "toolCallId": "call" });
    let call = Update::ToolCall { id: "call".into(), title: "runs".into(), ended: false };
    assert_eq!(see(&mut session, AT, received(call, payload.clone())), []);
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
    let output = other(&mut session, None);
    assert!(
        matches!(&output[..], [EventKind::SystemMessage { text }] if text.contains("between two turns")),
        "{output:?}"
    );
    assert_eq!(other(&mut session, None), []);
    // Its token counts are recorded all the same.
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
        matches!(&events[..], [EventKind::UsageUpdated { usage, .. }] if usage.input_tokens == 16),
        "{events:?}"
    );
}
