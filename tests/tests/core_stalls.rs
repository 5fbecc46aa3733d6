//! When a turn counts as stalled, and what becomes of its prompt.

use std::sync::Arc;

use harness::sample::{self, AT, ready, session, turn};
use manager::core::{At, Command, Input, Phase, Seen, Session};
use protocol::PromptId;
use protocol::api::OnCrash;
use protocol::event::{EventKind, Outcome, StallStep};
use protocol::wire::TurnEnd;

/// A session whose agent works on prompt 7 and may be quiet for 60 s; its worker for 30 s.
fn watched() -> Session {
    let mut session = session("s", ready());
    session.turns.running = turn(Phase::Started { agent_pid: 401 });
    Arc::make_mut(&mut session.spec).stall_timeout_ms = Some(60_000);
    session
}

fn give(session: &mut Session, seconds: u64, input: Input) -> Vec<EventKind> {
    let at = At { mono: AT.mono + seconds * 1000, ..AT };
    let step = session.step(at, 50, &input).unwrap_or_else(|refusal| panic!("{input:?}: {refusal}"));
    *session = step.next;
    step.events
}

/// A look after so many seconds at an agent that has used no processor.
fn look(session: &mut Session, seconds: u64) -> Option<(StallStep, u64)> {
    let alive = Seen::Alive { cpu_ms: 10, commands: 0 };
    match give(session, seconds, Input::Seen(session.incarnation, alive))[..] {
        [] => None,
        [EventKind::SessionStalled { step, quiet_ms, .. }] => Some((step, quiet_ms)),
        ref other => panic!("{other:?}"),
    }
}

/// Returns a session whose worker was told to end its turn.
fn stalled() -> Session {
    let mut session = watched();
    for seconds in (0..=100).step_by(20) {
        look(&mut session, seconds);
    }
    assert!(session.turns.running.as_ref().is_some_and(|turn| turn.is_stalled()));
    session
}

#[test]
fn what_is_quiet_for_long_is_said_and_after_half_as_long_again_aborted() {
    let mut session = watched();
    let steps: Vec<_> = (0..=100).step_by(20).filter_map(|at| Some((at, look(&mut session, at)?))).collect();
    assert_eq!(steps, [(60, (StallStep::Noticed, 60_000)), (100, (StallStep::Cancelled, 100_000))]);
    let phase = session.turns.running.as_ref().map(|turn| turn.phase.clone());
    assert!(matches!(phase, Some(Phase::Aborting { agent_pid: Some(401), .. })), "{phase:?}");
}

#[test]
fn the_sleep_of_the_machine_counts_for_one_look() {
    let mut session = watched();
    assert_eq!(look(&mut session, 0), None);
    assert_eq!(look(&mut session, 8 * 3600), None);
    assert_eq!(session.turns.running.as_ref().map(|turn| turn.quiet.ms), Some(30_000));
}

#[test]
fn a_sign_of_work_begins_it_anew_and_takes_back_what_was_said() {
    let mut session = watched();
    for at in [0, 20, 40] {
        assert_eq!(look(&mut session, at), None);
    }
    let output = || Seen::Output { prompt: PromptId(7), stream: protocol::Stream::Stdout, text: "hm".into() };
    let incarnation = session.incarnation;
    give(&mut session, 50, Input::Seen(incarnation, output()));
    for at in [70, 90] {
        assert_eq!(look(&mut session, at), None);
    }
    assert_eq!(look(&mut session, 110), Some((StallStep::Noticed, 60_000)));
    let events = give(&mut session, 115, Input::Seen(incarnation, output()));
    assert!(matches!(
        events[0],
        EventKind::SessionStalled { step: StallStep::Resumed, quiet_ms: 60_000, .. }
    ));
    assert_eq!(look(&mut session, 130), None);
}

#[test]
fn the_prompt_of_a_stalled_turn_is_interrupted_and_not_retried_however_the_turn_ends() {
    for end in [TurnEnd::Aborted, TurnEnd::Stopped { reason: "cancelled".into() }] {
        let mut session = stalled();
        Arc::make_mut(&mut session.spec).on_crash = OnCrash::Retry;
        let ended = Seen::TurnEnded { prompt: PromptId(7), end, exit: None, left_behind: 0 };
        let incarnation = session.incarnation;
        let events = give(&mut session, 101, Input::Seen(incarnation, ended));
        assert!(matches!(&events[..], [EventKind::TurnInterrupted { will_retry: false, .. }]), "{events:?}");
        assert_eq!(session.turns.interrupted.len(), 1);
    }
}

#[test]
fn whoever_aborts_a_stalled_turn_has_aborted_it() {
    let mut session = stalled();
    give(&mut session, 101, Input::Command(Command::Abort));
    let end = TurnEnd::Stopped { reason: "cancelled".into() };
    let ended = Seen::TurnEnded { prompt: PromptId(7), end, exit: None, left_behind: 0 };
    let incarnation = session.incarnation;
    let events = give(&mut session, 102, Input::Seen(incarnation, ended));
    assert!(
        matches!(&events[..], [EventKind::TurnCompleted { outcome: Outcome::Aborted, .. }]),
        "{events:?}"
    );
}

#[test]
fn who_is_not_to_be_watched_is_not() {
    let mut session = watched();
    Arc::make_mut(&mut session.spec).stall_timeout_ms = Some(0);
    for at in (0..1000).step_by(20) {
        assert_eq!(look(&mut session, at), None);
    }
    // Nor a command, unless its profile wants it.
    assert_eq!(sample::spec().stall_ms(), 0);
    assert!(sample::acp_spec().stall_ms() > 10 * 60_000);
}
