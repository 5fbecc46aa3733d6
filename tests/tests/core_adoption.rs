//! Rules of a session whose manager died while its worker lives: what the next manager takes over, and what not.

use std::sync::Arc;

use harness::sample::{self, AT, ask, gone, identity, new_prompt, prompt, ready, turn};
use manager::core::{
    At, Command, Effect, Goal, Input, Permissions, Phase, Seen, Session, Spec, State, Was, Why, limits,
};
use protocol::api::{PermissionAnswer, Status};
use protocol::event::EventKind;
use protocol::wire::TurnEnd;
use protocol::{Exit, PermissionId, PromptId, Restore};
use serde_json::json;

const PROMPT: PromptId = PromptId(7);
const LATER: At = At { mono: AT.mono + 60_000, ..AT };

fn give(session: &mut Session, at: At, input: Input) -> (Vec<&'static str>, Vec<Effect>) {
    let step = session.step(at, 50, &input).unwrap_or_else(|refusal| panic!("{input:?}: {refusal}"));
    *session = step.next;
    (step.events.iter().map(EventKind::name).collect(), step.effects)
}

fn see(session: &mut Session, seen: Seen) -> (Vec<&'static str>, Vec<Effect>) {
    give(session, LATER, Input::Seen(session.incarnation, seen))
}

fn works(phase: Phase) -> Session {
    let spec = Spec { permissions: Permissions::default(), ..sample::acp_spec() };
    let mut session = Session { spec: Arc::new(spec), ..sample::session("s", ready()) };
    session.turns.count = 1;
    session.turns.running = turn(phase);
    session
}

/// The manager has died, and the next one has read the journal.
fn after_the_manager_died(mut session: Session) -> Session {
    give(&mut session, LATER, Input::Recovered { same_boot: true });
    session
}

fn started() -> Session {
    works(Phase::Started { agent_pid: 101 })
}

fn ended() -> Seen {
    Seen::TurnEnded { prompt: PROMPT, end: TurnEnd::Finished, exit: None, left_behind: 0 }
}

#[test]
fn an_adopted_session_keeps_its_process_its_turn_its_queue_and_its_budget() {
    let mut before = started();
    before.turns.queue.push_back(prompt(8, "waits"));
    before.deaths = {
        let mut died = sample::session("s", ready());
        see(&mut died, gone(Exit::Signal(9)));
        died.deaths
    };
    let mut session = after_the_manager_died(before.clone());
    assert_eq!(session.status(), Status::Adopting);
    let reclaim = Effect::Reclaim { incarnation: before.incarnation, worker: identity(100) };
    assert_eq!(session.effects(), [reclaim]);
    assert_eq!(session.turns, before.turns);
    assert_eq!(see(&mut session, Seen::Linked { outdated: false }).0, ["session.adopted"]);
    let State::Ready { worker, .. } = &session.state else { panic!("{:?}", session.state) };
    assert_eq!(worker, &identity(100));
    assert_eq!((session.incarnation, &session.turns), (before.incarnation, &before.turns));
    let period = session.spec.restart.period_ms;
    assert_eq!(before.deaths.within(AT.mono, period), 1);
    assert_eq!(session.deaths, before.deaths);
}

#[test]
fn a_worker_that_was_starting_or_stopping_goes_on_with_that() {
    let starting = State::Starting { worker: Some(identity(100)), deadline: AT.mono };
    let mut session = after_the_manager_died(sample::session("s", starting));
    see(&mut session, Seen::Linked { outdated: false });
    let State::Starting { worker: Some(_), deadline } = session.state else { panic!("{:?}", session.state) };
    assert_eq!(deadline, LATER.mono + session.spec.start_ms());

    let mut session = sample::session("s", ready());
    give(&mut session, AT, Input::Command(Command::Stop));
    let mut session = after_the_manager_died(session);
    let (_, effects) = see(&mut session, Seen::Linked { outdated: false });
    assert_eq!(effects, [Effect::Terminate { incarnation: session.incarnation }]);
    assert!(matches!(session.state, State::Stopping { why: Why::Stop, .. }), "{:?}", session.state);
    see(&mut session, gone(Exit::Code(0)));
    assert_eq!(session.state, State::Stopped);
}

#[test]
fn a_permission_stays_open_over_an_adoption_and_is_answered_after_it() {
    let mut session = started();
    let asked = Seen::PermissionAsked { prompt: Some(PROMPT), request: 3, ask: ask(), payload: json!({}) };
    see(&mut session, asked);
    let mut session = after_the_manager_died(session);
    assert_eq!(session.permissions().len(), 1);
    see(&mut session, Seen::Linked { outdated: false });
    let permit = Command::Permit(PermissionId(50), PermissionAnswer::Allow);
    let (events, effects) = give(&mut session, LATER, Input::Command(permit));
    assert_eq!(events, ["permission.resolved"]);
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Answer { request: 3, .. })), "{effects:?}");
}

#[test]
fn what_is_answered_while_it_is_adopted_is_told_after_it() {
    let mut session = started();
    let asked = Seen::PermissionAsked { prompt: Some(PROMPT), request: 3, ask: ask(), payload: json!({}) };
    see(&mut session, asked);
    let mut session = after_the_manager_died(session);
    let permit = Command::Permit(PermissionId(50), PermissionAnswer::Allow);
    assert_eq!(give(&mut session, LATER, Input::Command(permit)).0, ["permission.resolved"]);
    let (_, effects) = see(&mut session, Seen::Linked { outdated: false });
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Answer { request: 3, .. })), "{effects:?}");
}

#[test]
fn what_a_worker_did_meanwhile_counts() {
    // The turn has ended; the next begins only once a manager is linked.
    let mut session = started();
    session.turns.queue.push_back(prompt(8, "waits"));
    let mut session = after_the_manager_died(session);
    let (events, effects) = see(&mut session, ended());
    assert_eq!(events, ["turn.completed"]);
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Deliver { .. })), "{effects:?}");
    assert_eq!(session.turns.running, None);
    let (events, effects) = see(&mut session, Seen::Linked { outdated: false });
    assert_eq!(events.first(), Some(&"session.adopted"));
    assert!(effects.contains(&Effect::Deliver { incarnation: session.incarnation, prompt: PromptId(8) }));

    // It became ready.
    let starting = State::Starting { worker: Some(identity(100)), deadline: AT.mono };
    let mut session = after_the_manager_died(sample::session("s", starting));
    assert_eq!(
        see(&mut session, Seen::Ready { restore: Restore::Fresh, agent_pid: Some(55) }).0,
        ["session.ready"]
    );
    see(&mut session, Seen::Linked { outdated: false });
    assert!(matches!(session.state, State::Ready { agent_pid: Some(55), .. }), "{:?}", session.state);

    // Its agent asked for something.
    let mut session = after_the_manager_died(started());
    let asked = Seen::PermissionAsked { prompt: Some(PROMPT), request: 3, ask: ask(), payload: json!({}) };
    assert_eq!(see(&mut session, asked).0, ["permission.requested"]);
    assert_eq!(session.permissions().len(), 1);

    // Its agent died.
    let mut session = after_the_manager_died(started());
    see(&mut session, Seen::AgentDied("the agent ended".into()));
    assert!(matches!(session.state, State::Stopping { why: Why::AgentDied(_), .. }), "{:?}", session.state);
    assert!(see(&mut session, gone(Exit::Unknown)).0.contains(&"turn.interrupted"));
}

#[test]
fn a_prompt_that_may_not_have_arrived_is_given_again_and_has_its_time_again() {
    let mut session = after_the_manager_died(works(Phase::Sent { deadline: AT.mono }));
    let (_, effects) = see(&mut session, Seen::Linked { outdated: false });
    assert!(effects.contains(&Effect::Deliver { incarnation: session.incarnation, prompt: PROMPT }));
    assert_eq!(session.deadline(), Some(LATER.mono + limits::TAKE_PROMPT_MS));

    let aborting = Phase::Aborting { deadline: AT.mono, agent_pid: Some(101) };
    let mut session = after_the_manager_died(works(aborting));
    let (_, effects) = see(&mut session, Seen::Linked { outdated: false });
    assert!(effects.contains(&Effect::Abort { incarnation: session.incarnation, prompt: PROMPT }));
    let by = LATER.mono + session.spec.grace_ms + limits::ABORT_SLACK_MS;
    assert_eq!(session.deadline(), Some(by));
}

#[test]
fn what_a_turn_may_still_take_is_what_was_left_of_it() {
    let mut session = started();
    let until = LATER.mono + 700;
    session.turns.running.iter_mut().for_each(|turn| turn.until = Some(until));
    let mut session = after_the_manager_died(session);
    see(&mut session, Seen::Linked { outdated: false });
    assert_eq!(session.deadline(), Some(until));
    let (_, effects) = give(&mut session, At { mono: until, ..LATER }, Input::Tick);
    assert!(effects.contains(&Effect::Abort { incarnation: session.incarnation, prompt: PROMPT }));
}

#[test]
fn a_worker_whose_time_alone_was_over_takes_no_further_prompt_and_costs_nothing() {
    let mut session = started();
    session.turns.queue.push_back(prompt(8, "waits"));
    let mut session = after_the_manager_died(session);
    let end = Seen::TurnEnded { prompt: PROMPT, end: TurnEnd::Aborted, exit: None, left_behind: 0 };
    see(&mut session, end);
    see(&mut session, Seen::Linked { outdated: false });
    assert_eq!(session.turns.running, None);
    let (events, _) = see(&mut session, gone(Exit::Unknown));
    assert!(events.contains(&"session.restarting"), "{events:?}");
    assert_eq!(session.deaths.within(LATER.mono, session.spec.restart.period_ms), 0);
    assert_eq!(session.turns.queue.len(), 1);
}

#[test]
fn whoever_stops_or_restarts_what_is_being_adopted_ends_its_process() {
    for (wish, status) in [(Command::Stop, Status::Stopped), (Command::Restart, Status::Starting)] {
        let mut session = after_the_manager_died(started());
        let (_, effects) = give(&mut session, LATER, Input::Command(wish));
        assert_eq!(effects, [Effect::Terminate { incarnation: session.incarnation }]);
        // A worker that answers only now does not bring it back.
        assert_eq!(see(&mut session, Seen::Linked { outdated: false }).0, [""; 0]);
        assert_eq!(session.status(), Status::Stopping);
        see(&mut session, gone(Exit::Code(0)));
        assert_eq!(session.status(), status);
    }
    let mut session = after_the_manager_died(started());
    let closing = At { closing: true, ..LATER };
    let (_, effects) = give(&mut session, closing, Input::Shutdown);
    assert_eq!(effects, [Effect::Terminate { incarnation: session.incarnation }]);
    assert_eq!(session.goal, Goal::Up);
}

#[test]
fn a_silent_worker_is_killed_and_judged() {
    let mut session = after_the_manager_died(started());
    let due = At { mono: LATER.mono + limits::ADOPT_MS, ..LATER };
    assert_eq!(session.deadline(), Some(due.mono));
    let (_, effects) = give(&mut session, due, Input::Tick);
    assert_eq!(effects, [Effect::Kill { incarnation: session.incarnation, round: 1 }]);
    let (events, _) = see(&mut session, gone(Exit::Signal(9)));
    assert!(events.contains(&"turn.interrupted") && events.contains(&"session.restarting"), "{events:?}");
}

#[test]
fn a_fault_while_adopting_kills_but_what_was_asked_for_before_stays() {
    let mut session = after_the_manager_died(started());
    let (_, effects) = see(&mut session, Seen::Faulted("garbage".into()));
    assert_eq!(effects, [Effect::Kill { incarnation: session.incarnation, round: 1 }]);

    for misbehaves in [Seen::Faulted("garbage".into()), Seen::AgentDied("the agent ended".into())] {
        let mut session = sample::session(
            "s",
            State::Adopting {
                worker: identity(100),
                was: Was::Stopping,
                after: Why::Hibernate,
                deadline: LATER.mono + limits::ADOPT_MS,
            },
        );
        see(&mut session, misbehaves);
        see(&mut session, gone(Exit::Unknown));
        assert_eq!(session.state, State::Hibernated);
    }
}

#[test]
fn what_is_on_record_is_counted_and_a_new_process_begins_at_nothing() {
    let mut session = started();
    see(&mut session, Seen::Heard(9));
    see(&mut session, Seen::Heard(4));
    assert_eq!(session.heard, 9);
    let mut session = after_the_manager_died(session);
    see(&mut session, Seen::Linked { outdated: false });
    assert_eq!(session.heard, 9);
    see(&mut session, gone(Exit::Signal(9)));
    if matches!(session.state, State::Restarting { .. }) {
        give(&mut session, At { mono: LATER.mono + 60_000, ..LATER }, Input::Tick);
    }
    assert!(matches!(session.state, State::Starting { worker: None, .. }), "{:?}", session.state);
    assert_eq!(session.heard, 0);
}

#[test]
fn a_prompt_that_comes_while_it_is_adopted_waits_and_then_runs() {
    let mut session = after_the_manager_died(sample::session("s", ready()));
    let (events, _) = give(&mut session, LATER, Input::Command(new_prompt("next")));
    assert!(events.contains(&"prompt.accepted") && !events.contains(&"turn.started"), "{events:?}");
    let (events, effects) = see(&mut session, Seen::Linked { outdated: false });
    assert!(events.contains(&"turn.started") || events.contains(&"prompt.started"), "{events:?}");
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Deliver { .. })), "{effects:?}");
}

#[test]
fn an_outdated_worker_ends_its_turn_and_is_replaced_before_the_next() {
    let mut session = started();
    session.turns.queue.push_back(prompt(8, "waits"));
    let mut session = after_the_manager_died(session);
    see(&mut session, Seen::Linked { outdated: true });
    assert!(matches!(session.state, State::Ready { .. }), "its turn goes on: {:?}", session.state);
    let (events, effects) = see(&mut session, ended());
    assert_eq!(events, ["turn.completed"]);
    assert_eq!(effects, [Effect::Terminate { incarnation: session.incarnation }]);
    assert!(matches!(session.state, State::Stopping { why: Why::Outdated, .. }), "{:?}", session.state);
    let (events, _) = see(&mut session, gone(Exit::Code(0)));
    assert_eq!(events, ["session.restarting"]);
    assert!(matches!(session.state, State::Starting { .. }), "{:?}", session.state);
    assert_eq!((session.outdated, session.turns.queue.len()), (false, 1));
    assert_eq!(session.deaths.within(LATER.mono, session.spec.restart.period_ms), 0, "nobody's fault");
}

#[test]
fn an_outdated_worker_that_is_idle_is_replaced_at_once() {
    let mut session = after_the_manager_died(sample::session("s", ready()));
    let (events, effects) = see(&mut session, Seen::Linked { outdated: true });
    assert_eq!(events, ["session.adopted"]);
    assert_eq!(effects, [Effect::Kill { incarnation: session.incarnation, round: 1 }]);
    give(&mut session, LATER, Input::Command(Command::Stop));
    see(&mut session, gone(Exit::Code(0)));
    assert_eq!(session.state, State::Stopped, "what is wanted then counts");
}
