//! Bounds of a queue, of interrupted prompts and of sub-agents.

use std::sync::Arc;

use manager::core::{
    Ask, At, Command, Fleet, Input, NewPrompt, Prompt, Refusal, Seen, Session, State, limits,
};
use protocol::api::{Orphans, WhenBusy};
use protocol::event::{EventKind, Resolution};
use protocol::{EventId, Exit, PromptId, SessionId};

use super::moves::{AHEAD, new_session, some_spec, worker};

#[test]
fn queues_are_bounded() {
    let (mut session, at) = new_session(0);
    let prompt = Input::Command(Command::Prompt(NewPrompt::text("text", WhenBusy::Queue)));
    for n in 0..limits::QUEUE {
        session = session.step(at, 1 + 2 * n as EventId, &prompt).unwrap().next;
    }
    assert_eq!(session.turns.queue.len(), limits::QUEUE);
    session.turns.interrupted.push(Prompt::text(PromptId(0), "text"));
    let retry = Input::Command(Command::Resolve(PromptId(0), Resolution::Retry));
    let full = Refusal::QueueFull { id: session.id.clone(), limit: limits::QUEUE };
    for more in [&prompt, &retry] {
        assert_eq!(session.step(at, 1_000, more), Err(full.clone()));
    }
    session.turns.queue.pop_back();
    for last in [prompt, retry] {
        assert!(session.step(at, 1_000, &last).is_ok());
    }
}

#[test]
fn interrupted_prompts_are_bounded_and_the_oldest_is_said_to_be_dropped() {
    for (before, drops) in [(limits::INTERRUPTED - 1, None), (limits::INTERRUPTED, Some(PromptId(0)))] {
        let (session, at) = new_session(1);
        let mut session = Session {
            state: State::Ready { worker: worker(&session), agent_pid: None, idle_since: at.mono },
            ..session
        };
        for n in 0..before as u64 {
            session.turns.interrupted.push(Prompt::text(PromptId(n), "text"));
        }
        let prompt = Input::Command(Command::Prompt(NewPrompt::text("text", WhenBusy::Queue)));
        let session = session.step(at, 1_000, &prompt).unwrap().next;
        let gone = Seen::Gone { exit: Exit::Signal(9), last_words: Vec::new(), survivors: Vec::new() };
        let step = session.step(at, 2_000, &Input::Seen(session.incarnation, gone)).unwrap();
        assert_eq!(step.next.turns.interrupted.len(), limits::INTERRUPTED);
        let received =
            step.events.into_iter().find(|event| matches!(event, EventKind::PromptResolved { .. }));
        let dropped =
            |prompt_id| EventKind::PromptResolved { prompt_id, action: Resolution::Drop, retried_as: None };
        assert_eq!(received, drops.map(dropped));
    }
}

#[test]
fn a_session_that_comes_back_counts_the_sub_agents_its_predecessor_left() {
    let at = At { mono: 1_000_000, wall: AHEAD + 1_000_000, closing: false };
    let id: SessionId = "work-0".parse().unwrap();
    let spec = Arc::new(some_spec(0));
    let ensure = Ask::Ensure { id: id.clone(), spec: spec.clone(), given: Box::default() };
    let gone = Seen::Gone { exit: Exit::Code(0), last_words: Vec::new(), survivors: Vec::new() };
    let mut fleet = Fleet::load([], [], 1, 1);
    for ask in [
        ensure.clone(),
        Ask::Subagent { parent: Some(id.clone()), id: None, spec, task: "task".into(), wish: None },
        Ask::Stop(id.clone(), Orphans::Keep),
        Ask::One(id.clone(), Input::Seen(1, gone)),
        Ask::Remove(id.clone()),
        ensure,
    ] {
        let change = fleet.step(at, &ask).unwrap();
        drop(fleet.adopt(&change));
    }
    assert_eq!(fleet.get(&id).unwrap().open_tasks, 1);
}
