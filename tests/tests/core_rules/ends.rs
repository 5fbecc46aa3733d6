//! Ends that kennel wants: which worker is asked to leave, which is killed at once, and what is told of its exit.

use std::sync::Arc;

use harness::sample::{self, AT, gone, identity, ready, session, turn};
use manager::core::{At, Command, Effect, Input, Phase, Seen, Session, Spec, State};
use protocol::event::EventKind;
use protocol::wire::Agent;
use protocol::{Exit, Restore};

use super::{give, see};

const KILL: Effect = Effect::Kill { incarnation: 1, round: 1 };
const TERMINATE: Effect = Effect::Terminate { incarnation: 1 };

/// A session that became ready.
fn at_rest(spec: Spec) -> Session {
    let state = State::Starting { worker: Some(identity(100)), deadline: AT.mono + 500 };
    let agent_pid = matches!(spec.agent, Agent::Acp { .. }).then_some(101);
    let mut session = Session { spec: Arc::new(spec), ..session("s", state) };
    see(&mut session, AT, Seen::Ready { restore: Restore::Fresh, agent_pid });
    session
}

fn effects(session: &Session, at: At, input: &Input) -> Vec<Effect> {
    session.step(at, 50, input).unwrap().effects
}

fn orders() -> [Input; 3] {
    [Input::Command(Command::Stop), Input::Command(Command::Restart), Input::Shutdown]
}

#[test]
fn a_worker_at_rest_is_not_asked_to_leave() {
    let session = at_rest(sample::spec());
    for order in orders() {
        assert_eq!(effects(&session, AT, &order), [KILL], "{order:?}");
    }
    let sleeps = At { mono: AT.mono + session.spec.hibernate_after_ms, ..AT };
    assert_eq!(effects(&session, sleeps, &Input::Tick), [KILL]);
}

#[test]
fn a_worker_with_a_turn_an_agent_or_a_start_under_way_is_asked() {
    let acp = at_rest(sample::acp_spec());
    let mut works = at_rest(sample::spec());
    works.turns.running = turn(Phase::Started { agent_pid: 101 });
    let mut given = at_rest(sample::spec());
    given.turns.running = turn(Phase::Sent { deadline: AT.mono + 500 });
    let starts = session("s", State::Starting { worker: Some(identity(100)), deadline: AT.mono + 500 });
    let has_agent = State::Ready { worker: identity(100), agent_pid: Some(101), idle_since: AT.mono };
    for session in [acp, works, given, starts, session("s", has_agent)] {
        for order in orders() {
            assert_eq!(effects(&session, AT, &order), [TERMINATE], "{order:?}, {session:?}");
        }
    }
}

#[test]
fn a_worker_that_leaves_by_itself_gets_its_time() {
    let session = session("s", ready());
    let leaves = Seen::AgentDied("it died".into());
    assert_eq!(effects(&session, AT, &Input::Seen(1, leaves)), [TERMINATE]);
}

#[test]
fn the_sigkill_that_ends_a_worker_at_rest_is_not_told_and_every_other_exit_is() {
    let told = |spec, orders: &[Input], exit| {
        let mut session = at_rest(spec);
        for order in orders {
            give(&mut session, AT, order.clone());
        }
        let events = see(&mut session, AT, gone(exit));
        let told = events.iter().find_map(|event| match event {
            EventKind::SessionStopped { exit } | EventKind::SessionRestarting { exit, .. } => Some(*exit),
            _ => None,
        });
        told.unwrap_or_else(|| panic!("no end among {events:?}"))
    };
    let killed = Exit::Signal(9);
    for order in orders() {
        assert_eq!(told(sample::spec(), std::slice::from_ref(&order), killed), None, "{order:?}");
        for exit in [Exit::Code(0), Exit::Signal(11)] {
            assert_eq!(told(sample::spec(), std::slice::from_ref(&order), exit), Some(exit), "{order:?}");
        }
        // It did not leave within its grace.
        assert_eq!(told(sample::acp_spec(), &[order], killed), Some(killed));
    }
    // A worker that somebody else kills, and one that misbehaves.
    assert_eq!(told(sample::spec(), &[], killed), Some(killed));
    let faulted = Input::Seen(1, Seen::Faulted("it babbled".into()));
    assert_eq!(told(sample::spec(), &[faulted], killed), Some(killed));
}
