//! Permissions that an agent asks for while no turn runs.

use harness::sample::{AT, ask, gone, new_prompt};
use manager::core::{At, Command, Effect, Input, Permissions, Refusal, Seen, Session, State, limits};
use protocol::Exit;
use protocol::api::{PermissionAnswer, PermissionPolicy, Status};
use protocol::event::{Decider, EventKind};
use protocol::wire::TurnEnd;
use serde_json::json;

use super::{FIRST, by, ended, give, resolved, see, wish, works};

/// The same session after its turn.
fn rests(permissions: Permissions) -> Session {
    let mut session = works(permissions);
    see(&mut session, ended(TurnEnd::Stopped { reason: "end_turn".into() }));
    session
}

fn asks_between(request: u64) -> Seen {
    Seen::PermissionAsked { prompt: None, request, ask: ask(), payload: json!({ "options": [] }) }
}

#[test]
fn what_is_asked_between_turns_follows_the_policy() {
    let received = |option: &str| Effect::Answer { incarnation: 1, request: 1, option: Some(option.into()) };
    for (policy, option) in [
        (PermissionPolicy::Allow, "allow_once"),
        (PermissionPolicy::Deny, "reject_once"),
        (PermissionPolicy::Fail, "reject_once"),
    ] {
        let mut session = rests(by(policy));
        let (events, effects) = see(&mut session, asks_between(1));
        let EventKind::PermissionRequested { turn: None, prompt_id: None, permission_id: FIRST, .. } =
            &events[0]
        else {
            panic!("{policy:?}: {events:?}")
        };
        assert_eq!(events.len(), 2, "{policy:?}");
        assert_eq!(effects, [received(option)], "{policy:?}");
        assert_eq!(session.status(), Status::Idle, "{policy:?}");
    }
}

#[test]
fn what_is_asked_between_turns_waits_as_in_a_turn_and_outlives_the_next_one() {
    let mut session = rests(Permissions { timeout_ms: 1_000, ..Permissions::default() });
    see(&mut session, asks_between(1));
    assert_eq!((session.status(), session.deadline()), (Status::RequiresAction, Some(AT.mono + 1_000)));
    let [open] = &session.permissions()[..] else { panic!() };
    assert_eq!((open.permission_id, open.prompt_id), (FIRST, None));
    // A turn comes and goes.
    wish(&mut session, new_prompt("more"));
    let prompt = session.turns.running.as_ref().unwrap().prompt.id;
    see(&mut session, Seen::TurnStarted { prompt, agent_pid: 101 });
    assert_eq!((session.status(), session.deadline()), (Status::RequiresAction, Some(AT.mono + 1_000)));
    let end = TurnEnd::Stopped { reason: "end_turn".into() };
    see(&mut session, Seen::TurnEnded { prompt, end, exit: None, left_behind: 0 });
    assert_eq!(session.permissions().len(), 1);
    let mut answered = session.clone();
    let (events, effects) = wish(&mut answered, Command::Permit(FIRST, PermissionAnswer::Allow));
    assert_eq!(events, [resolved("allow_once", Decider::User)]);
    assert_eq!(effects, [Effect::Answer { incarnation: 1, request: 1, option: Some("allow_once".into()) }]);
    assert_eq!(answered.status(), Status::Idle);
    let again = answered.step(AT, 99, &Input::Command(Command::Permit(FIRST, PermissionAnswer::Deny)));
    assert_eq!(again.unwrap_err(), Refusal::PermissionSettled(FIRST));
    // Time denies it, and its worker's end closes it.
    let mut expired = session.clone();
    let (events, _) = give(&mut expired, At { mono: AT.mono + 1_000, ..AT }, 70, Input::Tick);
    assert!(matches!(&events[..], [EventKind::PermissionExpired { permission_id: FIRST, .. }]), "{events:?}");
    assert!(matches!(expired.state, State::Ready { .. }), "it is no rest that has ended");
    let (events, _) = see(&mut session, gone(Exit::Signal(9)));
    assert!(
        events.iter().any(|event| matches!(event, EventKind::PermissionExpired { permission_id: FIRST, .. }))
    );
    assert!(session.permissions().is_empty() && session.turns.asked.answers.is_empty());
}

#[test]
fn of_many_questions_that_expire_at_once_without_a_turn_each_denial_reaches_the_worker() {
    let mut session = rests(Permissions { timeout_ms: 1_000, ..Permissions::default() });
    let asked = limits::ANSWERS as u64 + 4;
    for request in 1..=asked {
        give(&mut session, AT, 100 + request, Input::Seen(1, asks_between(request)));
    }
    assert_eq!(session.permissions().len() as u64, asked);
    let mut received = Vec::new();
    let mut at = At { mono: AT.mono + 1_000, ..AT };
    for round in 0..2 {
        let (_, effects) = give(&mut session, at, 500 + 100 * round, Input::Tick);
        received.extend(effects.iter().filter_map(|effect| match effect {
            Effect::Answer { request, .. } => Some(*request),
            _ => None,
        }));
        at.mono += 1;
    }
    received.sort();
    assert_eq!(received, Vec::from_iter(1..=asked));
}
