//! Forks in the core: what a fork takes from its origin, and what is refused.

use std::sync::Arc;

use harness::sample::{self, AT, id, ready, session};
use manager::core::{
    Ask, Change, Edit, Effect, Fleet, Fork, Phase, Refusal, Reply, Session, Spec, State, Subagents,
};
use protocol::api::{Failure, ForkedFrom, PermissionPolicy, ToldTurn};
use protocol::event::EventKind;

fn told() -> Vec<ToldTurn> {
    vec![ToldTurn { prompt: "first".into(), reply: "one".into() }]
}

fn fork(origin: &str, turn: u64) -> Fork {
    let (workdir, start_commit) = (None, Some("abc".into()));
    let (told, id, origin) = (Some(told()), Some(id("fork")), id(origin));
    Fork { origin, turn, told, workdir, start_commit, id, called: Edit::default() }
}

fn fleet(sessions: Vec<Session>) -> Fleet {
    Fleet::load(sessions, [], 1, 1)
}

/// A session whose agent is told turns, with three of them.
fn origin() -> Session {
    let mut session = session("origin", ready());
    session.spec = Arc::new(Spec { title: Some("the origin".into()), ..sample::acp_spec() });
    session.turns.count = 3;
    session
}

fn asked(fleet: &Fleet, fork: Fork) -> Result<Change, Refusal> {
    fleet.step(AT, &Ask::Fork(Box::new(fork)))
}

fn made(change: &Change) -> &Session {
    let Reply::Created(id) = &change.reply else { panic!("{:?}", change.reply) };
    change.sessions.iter().find(|session| session.id == *id).unwrap()
}

#[test]
fn a_fork_has_all_of_its_origins_spec_and_the_turns_are_in_its_first_event() {
    let mut origin = origin();
    let spec = Arc::make_mut(&mut origin.spec);
    spec.permissions.policy = PermissionPolicy::Deny;
    spec.env.insert("A".into(), "b".into());
    spec.turn_timeout_ms = 7;
    spec.labels.insert("team".into(), "web".into());
    origin.settings.set.insert("mode".into(), "plan".into());
    let fleet = fleet(vec![origin.clone()]);
    let called = Edit {
        name: "other".parse().ok(),
        title: None,
        labels: [("ticket".to_owned(), Some("7".to_owned()))].into(),
    };
    let change = asked(&fleet, Fork { called, ..fork("origin", 2) }).unwrap();
    let made = made(&change);
    let mut expected = Spec { start_commit: Some("abc".into()), ..Spec::clone(&origin.spec) };
    expected.name = "other".parse().ok();
    expected.labels.insert("ticket".into(), "7".into());
    let from = ForkedFrom { session_id: id("origin"), turn: 2, told: 1 };
    expected.forked_from = Some(from.clone());
    assert_eq!(*made.spec, expected);
    assert_eq!((&made.settings.set, made.parent.as_ref(), made.turns.count), (&origin.settings.set, None, 0));
    assert_eq!(made.info(0).forked_from, Some(from.clone()));
    let EventKind::SessionCreated { forked_from, told: turns, .. } = &change.events[0].kind else { panic!() };
    assert_eq!((forked_from.as_ref(), turns), (Some(&from), &told()));
    // The origin is as it was.
    assert!(!change.sessions.iter().any(|session| session.id == origin.id));
}

#[test]
fn a_fork_is_refused_at_a_turn_that_there_is_not_or_that_runs_and_where_no_agent_could_be_told() {
    let plain = fleet(vec![origin()]);
    for turn in [0, 4, u64::MAX] {
        let refused = asked(&plain, fork("origin", turn)).unwrap_err();
        assert_eq!(refused, Refusal::NoSuchTurn { id: id("origin"), turn, count: 3 });
    }
    for told in [None, Some(Vec::new())] {
        let refused = asked(&plain, Fork { told, ..fork("origin", 2) }).unwrap_err();
        assert_eq!(refused, Refusal::TurnPruned { id: id("origin"), turn: 2 });
    }
    assert_eq!(asked(&plain, fork("nobody", 1)).unwrap_err(), Refusal::NoSuchSession("nobody".into()));
    let taken = Fork { id: Some(id("origin")), ..fork("origin", 1) };
    assert_eq!(asked(&plain, taken).unwrap_err(), Refusal::IdTaken(id("origin")));
    let mut shell = session("origin", ready());
    shell.turns.count = 3;
    let refused = asked(&fleet(vec![shell]), fork("origin", 1)).unwrap_err();
    assert_eq!(refused, Refusal::CannotFork { id: id("origin"), agent: "shell".into() });
    let mut busy = origin();
    busy.turns.running = sample::turn(Phase::Started { agent_pid: 7 });
    busy.turns.running.as_mut().unwrap().number = 3;
    let busy = fleet(vec![busy]);
    let refused = asked(&busy, fork("origin", 3)).unwrap_err();
    assert_eq!(refused, Refusal::TurnRuns { id: id("origin"), turn: 3 });
    assert!(asked(&busy, fork("origin", 2)).is_ok());
}

#[test]
fn a_fork_of_a_sub_agent_may_have_no_more_below_it_than_its_origin() {
    let limits = Subagents { offered: true, depth: 3, breadth: 2, total: 5 };
    let mut root = session("root", ready());
    root.spec = Arc::new(Spec { subagents: limits, ..sample::acp_spec() });
    let mut child = origin();
    child.parent = Some(id("root"));
    let wide = Subagents { offered: true, depth: 9, breadth: 9, total: 99 };
    Arc::make_mut(&mut child.spec).subagents = wide;
    let change = asked(&fleet(vec![root, child]), fork("origin", 1)).unwrap();
    assert_eq!(made(&change).spec.subagents, Subagents { offered: true, depth: 2, breadth: 2, total: 5 });
}

#[test]
fn a_session_is_forked_in_whatever_state_it_is() {
    let failure = Failure {
        reason: "it died".into(),
        exit: None,
        last_words: Vec::new(),
        survivors: Vec::new(),
        failed_at: None,
    };
    for state in [State::Hibernated, State::Stopped, State::Failed(failure)] {
        let mut origin = origin();
        origin.state = state;
        let change = asked(&fleet(vec![origin]), fork("origin", 3)).unwrap();
        assert!(matches!(made(&change).state, State::Starting { .. }));
        assert!(
            change
                .effects
                .iter()
                .any(|(of, effect)| *of == id("fork") && matches!(effect, Effect::Spawn { .. }))
        );
    }
}

#[test]
fn a_fork_has_no_driver_no_servers_of_a_client_and_nothing_of_its_origins_turns() {
    let mut origin = origin();
    Arc::make_mut(&mut origin.spec).offers = vec![protocol::wire::Offer::ReadFile];
    origin.agent_session = Some("vendor".into());
    origin.pinned = true;
    origin.turns.interrupted.push(sample::prompt(5, "cut off"));
    let change = asked(&fleet(vec![origin]), fork("origin", 3)).unwrap();
    let made = made(&change);
    assert_eq!((&made.spec.offers[..], &made.agent_session, made.pinned), (&[][..], &None, false));
    assert!(made.turns.interrupted.is_empty() && made.turns.first_prompt.is_none());
}
