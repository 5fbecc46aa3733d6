//! Starts of an agent, and its conversation across deaths.

use std::sync::Arc;

use harness::sample::{self, AT, ask, gone, id, identity};
use manager::core::{
    Ask, At, Change, Command, Effect, Fleet, Input, LastRestart, Refusal, Seen, Session, Spec, State, Why,
    limits,
};
use protocol::api::{Role, Status};
use protocol::event::{EventKind, RestartCause};
use protocol::wire::Offer;
use protocol::{Exit, Restore};

use super::{PROMPT, asks, give, parks, see, starts, wish};

#[test]
fn what_the_agent_calls_its_conversation_is_kept_for_the_next() {
    let mut session = parks();
    see(&mut session, Seen::AgentSession("conversation-1".into()));
    see(&mut session, gone(Exit::Signal(9)));
    assert_eq!((session.incarnation, session.agent_session.as_deref()), (2, Some("conversation-1")));
}

#[test]
fn a_dead_agent_restarts_its_session_with_its_own_words_as_the_reason() {
    let why = "the agent ended: exit status 3";
    let mut session = parks();
    see(&mut session, asks(1, ask()));
    let (_, effects) = see(&mut session, Seen::AgentDied(why.into()));
    assert!(effects.contains(&Effect::Terminate { incarnation: 1 }), "{effects:?}");
    assert!(matches!(&session.state, State::Stopping { why: Why::AgentDied(_), kills: 0, .. }));
    // A worker's clean exit is no clean end of the agent.
    let (events, _) = see(&mut session, gone(Exit::Code(0)));
    let interrupted =
        EventKind::TurnInterrupted { turn: 1, prompt_id: PROMPT, reason: why.into(), will_retry: false };
    assert!(events.contains(&interrupted), "{events:?}");
    let restarting = EventKind::SessionRestarting {
        cause: Some(RestartCause::AgentDied),
        reason: why.into(),
        old_pid: Some(100),
        exit: Some(Exit::Code(0)),
        delay_ms: 0,
        deaths: 1,
        last_words: Vec::new(),
    };
    assert_eq!(events.last(), Some(&restarting));
    assert_eq!(session.last_restart, Some(LastRestart { reason: why.into(), old_pid: Some(100) }));
    assert!(matches!(session.state, State::Starting { .. }));
    // A command that stops it meanwhile takes effect.
    let mut session = parks();
    see(&mut session, Seen::AgentDied(why.into()));
    wish(&mut session, Command::Stop);
    see(&mut session, gone(Exit::Code(0)));
    assert_eq!(session.state, State::Stopped);
}

#[test]
fn an_agent_that_lives_between_prompts_has_longer_to_start() {
    let session = Session::new(id("s"), Arc::new(sample::acp_spec()), AT, 0);
    assert_eq!(session.deadline(), Some(AT.mono + limits::START_ACP_MS));
    let mut session = session;
    see(&mut session, Seen::Spawned(identity(100)));
    let due = At { mono: AT.mono + limits::START_ACP_MS, ..AT };
    give(&mut session, due, 50, Input::Tick);
    let State::Stopping { why, .. } = &session.state else { panic!("{:?}", session.state) };
    assert_eq!(*why, Why::Fault("the worker was not ready within 120 s".into()));
}

#[test]
fn an_agent_that_dies_again_and_again_over_its_conversation_is_given_a_new_one() {
    let mut session = parks();
    session.turns.running = None;
    session.agent_session = Some("conversation-1".into());
    session.was_ready = true;
    // Its death in the middle of its work is none of those.
    see(&mut session, sample::gone(Exit::Signal(9)));
    assert_eq!((session.lost_starts, session.was_ready), (0, false));
    for lost in 1..limits::LOST_STARTS {
        starts(&mut session);
        see(&mut session, sample::gone(Exit::Signal(9)));
        assert_eq!(session.lost_starts, lost);
    }
    assert!(session.agent_session.is_some());
    starts(&mut session);
    let (events, _) = see(&mut session, sample::gone(Exit::Signal(9)));
    assert!(
        events
            .iter()
            .any(|event| matches!(event, EventKind::SystemMessage { text } if text.contains("begins anew")))
    );
    assert_eq!((session.agent_session.as_ref(), session.lost_starts), (None, 0));
}

#[test]
fn a_start_that_comes_to_something_ends_the_row_of_those_that_did_not() {
    let mut session = parks();
    session.turns.running = None;
    session.agent_session = Some("conversation-1".into());
    session.lost_starts = limits::LOST_STARTS - 1;
    starts(&mut session);
    see(&mut session, Seen::Ready { restore: Restore::Loaded, agent_pid: Some(7) });
    assert_eq!((session.lost_starts, session.was_ready), (0, true));
}

/// Repeats starts whose worker reports that the agent's program could not run, from `AT` on, until no restart
/// follows. Returns the waits between them, in milliseconds.
fn starts_without_a_program(session: &mut Session, passes: bool) -> Vec<u64> {
    let (mut at, mut waits) = (AT, Vec::new());
    loop {
        session.state = State::Starting { worker: Some(sample::identity(100)), deadline: at.mono + 1 };
        let not_run = Seen::NotRun { message: "cannot run /bin/agent".into(), passes };
        give(session, at, 50, Input::Seen(session.incarnation, not_run));
        assert!(matches!(session.state, State::Stopping { why: Why::NotRun { .. }, .. }));
        give(session, at, 50, Input::Seen(session.incarnation, gone(Exit::Code(0))));
        match session.state {
            State::Restarting { until } => waits.push(until - at.mono),
            State::Starting { .. } => waits.push(0),
            _ => return waits,
        }
        at.mono += waits.last().unwrap();
    }
}

/// An idle session with a conversation.
fn has_conversation() -> Session {
    let mut session = parks();
    session.turns.running = None;
    session.agent_session = Some("conversation-1".into());
    session
}

#[test]
fn a_program_that_is_missing_is_waited_for_and_costs_neither_budget_nor_conversation() {
    let mut session = has_conversation();
    let waits = starts_without_a_program(&mut session, true);
    let State::Failed(failure) = &session.state else { panic!("{:?}", session.state) };
    assert!(
        failure.reason.contains("cannot run /bin/agent") && failure.reason.contains("60 s"),
        "{failure:?}"
    );
    assert_eq!(waits.iter().sum::<u64>(), 60_000, "{waits:?}");
    assert!(
        (10..40).contains(&waits.len()) && waits.iter().all(|wait| (1..7_000).contains(wait)),
        "{waits:?}"
    );
    assert_eq!(session.deaths.within(AT.mono, u64::MAX / 2), 0);
    assert_eq!((session.agent_session.as_deref(), session.lost_starts), (Some("conversation-1"), 0));
    // A restart by hand has the whole minute again.
    wish(&mut session, Command::Restart);
    assert_eq!(starts_without_a_program(&mut session, true).iter().sum::<u64>(), 60_000);
}

#[test]
fn a_program_that_comes_back_is_run_with_its_conversation_and_the_next_absence_is_another() {
    let mut session = has_conversation();
    starts(&mut session);
    see(&mut session, Seen::NotRun { message: "cannot run /bin/agent".into(), passes: true });
    let (events, _) = see(&mut session, gone(Exit::Code(0)));
    let restarting = |event: &EventKind| {
        matches!(event, EventKind::SessionRestarting { reason, deaths: 0, delay_ms: 75..=125, .. }
            if reason == "cannot run /bin/agent; kennel tries again for 60 s")
    };
    assert!(events.iter().any(restarting), "{events:?}");
    assert_eq!(session.status(), Status::Restarting);
    starts(&mut session);
    let (events, _) = see(&mut session, Seen::Ready { restore: Restore::Resumed, agent_pid: Some(7) });
    let restarted =
        |event: &EventKind| matches!(event, EventKind::SessionRestarted { restore: Restore::Resumed, .. });
    assert!(events.iter().any(restarted), "{events:?}");
    assert_eq!((session.absence.as_ref(), session.agent_session.as_deref()), (None, Some("conversation-1")));
    // A worker that was ready has run the program, whatever it reports.
    see(&mut session, Seen::NotRun { message: "cannot run /bin/agent".into(), passes: true });
    assert!(matches!(session.state, State::Stopping { why: Why::AgentDied(_), .. }));
}

#[test]
fn a_start_that_cannot_be_prepared_is_judged_as_a_death_and_keeps_the_conversation() {
    let mut session = has_conversation();
    let waits = starts_without_a_program(&mut session, false);
    assert_eq!(waits.len() as u32, session.spec.restart.intensity);
    assert!(matches!(session.state, State::Failed(_)));
    assert_eq!((session.agent_session.as_deref(), session.lost_starts), (Some("conversation-1"), 0));
}

#[test]
fn a_worker_that_cannot_be_spawned_is_waited_for_as_long() {
    let mut session = has_conversation();
    let mut at = AT;
    let failed = Seen::SpawnFailed { error: "No such file or directory".into(), no_room: false };
    while !matches!(session.state, State::Failed(_)) {
        session.state = State::Starting { worker: None, deadline: at.mono + 1 };
        let seen = Input::Seen(session.incarnation, failed.clone());
        give(&mut session, at, 50, seen);
        if let State::Restarting { until } = session.state {
            at.mono = until;
        }
    }
    assert_eq!(at.mono, AT.mono + 60_000);
    assert_eq!(session.agent_session.as_deref(), Some("conversation-1"));
}

#[test]
fn an_agent_that_starts_hears_of_a_client_that_drives_or_is_on_its_way() {
    let made_by_editor = Spec { offers: vec![Offer::ReadFile], ..sample::acp_spec() };
    let spec = Arc::new(made_by_editor.clone());
    let Change { sessions, .. } = Fleet::default()
        .step(AT, &Ask::Create { id: Some(id("s")), spec })
        .unwrap_or_else(|refusal| panic!("{refusal}"));
    let mut session = Session::clone(&sessions[0]);
    assert_eq!(session.offered_at_start(), (None, vec![Offer::ReadFile]));
    // The client's real offers count.
    let offers = vec![Offer::WriteFile];
    let attach = Command::Attach {
        name: "e".into(),
        role: Role::Driver,
        takeover: false,
        offers,
        origin: None,
        seat: None,
    };
    let mut driven = session.clone();
    wish(&mut driven, attach);
    let client = driven.clients[0].id;
    assert_eq!(driven.offered_at_start(), (Some(client), vec![Offer::WriteFile]));
    wish(&mut driven, Command::Detach(client));
    assert_eq!(driven.offered_at_start(), (None, Vec::new()));
    // A client that has not attached by the time the agent is ready is not waited for any more.
    see(&mut session, Seen::Spawned(identity(100)));
    see(&mut session, Seen::Ready { restore: Restore::Fresh, agent_pid: Some(101) });
    assert_eq!(session.offered_at_start(), (None, Vec::new()));
    // In a sandbox no client opens files.
    let walls = Some(protocol::Walls::default());
    let walled = Spec { walls, ..made_by_editor };
    let session = Session { spec: Arc::new(walled), awaited: vec![Offer::ReadFile], ..session };
    assert_eq!(session.offered_at_start(), (None, Vec::new()));
}

/// A session that is to take up the conversation `old`, at its first start.
fn takes_up() -> Session {
    let spec = Spec { conversation: Some("old".into()), ..sample::acp_spec() };
    let mut session = Session::new(id("s"), Arc::new(spec), AT, 0);
    starts(&mut session);
    session
}

#[test]
fn a_conversation_from_outside_is_taken_up_and_kept_over_deaths() {
    let mut session = takes_up();
    assert_eq!(session.agent_session.as_deref(), Some("old"), "the worker is told it");
    see(&mut session, Seen::AgentSession("old".into()));
    see(&mut session, Seen::Ready { restore: Restore::Loaded, agent_pid: Some(7) });
    assert_eq!(session.status(), Status::Idle);
    // Later it may lose the conversation, as any agent may.
    see(&mut session, gone(Exit::Signal(9)));
    see(&mut session, Seen::Spawned(identity(101)));
    see(&mut session, Seen::AgentSession("new".into()));
    see(&mut session, Seen::Ready { restore: Restore::Replayed, agent_pid: Some(8) });
    assert_eq!((session.status(), session.agent_session.as_deref()), (Status::Idle, Some("new")));
}

#[test]
fn an_agent_that_begins_another_conversation_than_the_one_to_take_up_fails_its_session() {
    let mut session = takes_up();
    see(&mut session, Seen::Notice("the agent could not load its conversation: no such session".into()));
    let (_, effects) = see(&mut session, Seen::AgentSession("new".into()));
    assert_eq!(effects, [Effect::Terminate { incarnation: 1 }]);
    // What it says on its way out changes nothing.
    see(&mut session, Seen::Ready { restore: Restore::Fresh, agent_pid: Some(7) });
    let (events, _) = see(&mut session, gone(Exit::Code(0)));
    let Some(EventKind::SessionFailed { reason, .. }) = events.last() else { panic!("{events:?}") };
    assert_eq!(
        reason,
        "the agent does not take up the conversation `old`: the agent could not load its conversation: no such session"
    );
    assert_eq!(session.agent_session.as_deref(), Some("old"), "the next start tries again");
}

#[test]
fn an_agent_that_dies_over_the_conversation_to_take_up_begins_no_other() {
    let mut session = takes_up();
    for _ in 0..10 {
        see(&mut session, gone(Exit::Code(9)));
        if session.status() == Status::Failed {
            break;
        }
        starts(&mut session);
    }
    assert_eq!((session.status(), session.agent_session.as_deref()), (Status::Failed, Some("old")));
}

#[test]
fn a_conversation_that_a_session_has_is_not_taken_up_by_another() {
    let mut first = takes_up();
    first.spec = Arc::new(Spec { conversation: None, ..sample::acp_spec() });
    first.agent_session = Some("old".into());
    let fleet = Fleet::load(vec![first], [], 1, 1);
    let spec =
        |conversation: &str| Arc::new(Spec { conversation: Some(conversation.into()), ..sample::acp_spec() });
    let create = |spec| fleet.step(AT, &Ask::Create { id: None, spec });
    let taken = Refusal::ConversationTaken { conversation: "old".into(), of: Some(id("s")) };
    assert_eq!(create(spec("old")).unwrap_err(), taken);
    create(spec("other")).unwrap();
    // Two profiles may run one agent.
    let elsewhere = Spec { agent_name: "other".into(), ..Spec::clone(&spec("old")) };
    assert_eq!(create(Arc::new(elsewhere)).unwrap_err(), taken);
    let task = "go".into();
    let below = Ask::Subagent { parent: Some(id("s")), id: None, spec: spec("other"), task, wish: None };
    assert!(matches!(fleet.step(AT, &below).unwrap_err(), Refusal::Weaker { .. }), "not even by the owner");
}
