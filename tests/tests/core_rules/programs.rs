//! Prompts whose program is missing, or was moved by an upgrade.

use harness::sample::{AT, new_prompt, ready, session};
use manager::core::{At, Command, Input, NewPrompt, Refusal, Reply, Seen, Session, State};
use protocol::PromptId;
use protocol::api::{Failure, Status, WhenBusy};
use protocol::event::{EventKind, Outcome, RemovedBy};
use protocol::wire::TurnEnd;

use super::{give, see, wish};

/// A prompt of a command agent whose program is missing from `AT` on, tried until the session gives it up. The waits between the
/// tries, in milliseconds, and the last events.
fn tries_without_a_program(session: &mut Session, prompt: PromptId) -> (Vec<u64>, Vec<EventKind>) {
    let (mut at, mut waits) = (AT, Vec::new());
    // A prompt that no agent received does not count.
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
    let output =
        |event: &EventKind| matches!(event, EventKind::SystemMessage { text } if text.contains("60 s"));
    let ended = |event: &EventKind| matches!(event, EventKind::TurnCompleted { stop_reason, .. } if stop_reason == "error");
    assert!(events.iter().any(output) && events.iter().any(ended), "{events:?}");
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
    let refusal = session.step(AT, 500, &Input::Command(Command::AbortOnly(next))).unwrap_err();
    assert_eq!(refusal, Refusal::Queued { id: session.id.clone(), prompt: next });
    assert_eq!(session.turns.queue[0].id, prompt);
    // The next one is tried at once, and has a minute of its own.
    let aborted = session.step(AT, 501, &Input::Command(Command::Abort)).unwrap();
    assert_eq!(aborted.reply, Reply::Aborting { prompt });
    session = aborted.next;
    assert_eq!(session.turns.running.as_ref().map(|turn| turn.prompt.id), Some(next));
    assert!(session.absence.is_none() && session.turns.queue.is_empty());
}

#[test]
fn an_urgent_prompt_ends_the_one_that_waits_for_its_program() {
    let (session, prompt) = waits_for_its_program();
    let urgent = Command::Prompt(NewPrompt::text("urgent", WhenBusy::Interrupt));
    let step = session.step(AT, 500, &Input::Command(urgent)).unwrap();
    let removed = EventKind::PromptRemoved { prompt_id: prompt, reason: RemovedBy::Removed };
    assert_eq!(step.events[0], removed);
    assert!(step.next.turns.running.is_some() && step.next.turns.queue.is_empty());
}

#[test]
fn a_session_that_failed_works_on_no_prompt_that_waited_for_its_program() {
    let (mut session, prompt) = waits_for_its_program();
    session.state = State::Failed(Failure {
        reason: "gone".into(),
        exit: None,
        last_words: Vec::new(),
        survivors: Vec::new(),
        failed_at: None,
    });
    assert_eq!(session.info(AT.mono).running_prompt, None);
    assert!(session.step(AT, 500, &Input::Command(Command::Abort)).is_err());
    assert_eq!(session.turns.queue[0].id, prompt);
}
