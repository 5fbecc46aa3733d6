//! Rules of one session whose agent lives between prompts: its permissions, its tool calls, its death.

mod between_turns;
mod permissions;
mod policies;
mod starts;
mod turns;

use std::sync::Arc;

use harness::sample::{self, AT, ready, turn};
use manager::core::{At, Command, Effect, Input, Permissions, Phase, Seen, Session, Spec, State};
use protocol::api::{PermissionAnswer, PermissionPolicy};
use protocol::event::{Decider, EventKind};
use protocol::wire::{PermissionAsk, TurnEnd, Update};
use protocol::{PermissionId, PromptId};
use serde_json::{Value, json};

const PROMPT: PromptId = PromptId(7);

/// The id of the worker's question in all of these tests: the first event of a step is number 50.
const FIRST: PermissionId = PermissionId(50);

/// A session in the middle of its first turn, with these rules about permissions.
fn works(permissions: Permissions) -> Session {
    let spec = Spec { workdir: "/srv/app".into(), permissions, ..sample::acp_spec() };
    let mut session = Session { spec: Arc::new(spec), ..sample::session("s", ready()) };
    session.turns.count = 1;
    session.turns.running = turn(Phase::Started { agent_pid: 101 });
    // Turns in which nothing is done have a test of their own.
    session.turns.running.as_mut().unwrap().acted = true;
    session
}

fn parks() -> Session {
    works(Permissions::default())
}

fn by(policy: PermissionPolicy) -> Permissions {
    Permissions { policy, ..Permissions::default() }
}

/// Returns the events and effects of one input.
fn give(session: &mut Session, at: At, next: u64, input: Input) -> (Vec<EventKind>, Vec<Effect>) {
    let step = session.step(at, next, &input).unwrap_or_else(|refusal| panic!("{input:?}: {refusal}"));
    *session = step.next;
    (step.events, step.effects)
}

fn see(session: &mut Session, seen: Seen) -> (Vec<EventKind>, Vec<Effect>) {
    give(session, AT, 50, Input::Seen(session.incarnation, seen))
}

fn wish(session: &mut Session, command: Command) -> (Vec<EventKind>, Vec<Effect>) {
    give(session, AT, 60, Input::Command(command))
}

fn asks(request: u64, ask: PermissionAsk) -> Seen {
    Seen::PermissionAsked { prompt: Some(PROMPT), request, ask, payload: json!({ "options": [] }) }
}

fn updated(update: Update) -> Seen {
    Seen::Updated { prompt: Some(PROMPT), update, payload: payload() }
}

fn payload() -> Value {
    json!({ "sessionUpdate": "something" })
}

fn ended(end: TurnEnd) -> Seen {
    Seen::TurnEnded { prompt: PROMPT, end, exit: None, left_behind: 0 }
}

fn requested(permission_id: PermissionId, ask: &PermissionAsk) -> EventKind {
    EventKind::PermissionRequested {
        permission_id,
        turn: Some(1),
        prompt_id: Some(PROMPT),
        tool_call_id: ask.tool_call.clone(),
        title: ask.title.clone(),
        options: ask.options.clone(),
        payload: json!({ "options": [] }),
    }
}

fn resolved(option_id: &str, by: Decider) -> EventKind {
    EventKind::PermissionResolved { permission_id: FIRST, option_id: option_id.into(), by }
}

fn expired(permission_id: PermissionId, reason: &str) -> EventKind {
    EventKind::PermissionExpired { permission_id, reason: reason.into() }
}

fn answer(request: u64, option: Option<&str>) -> Effect {
    Effect::Answer { incarnation: 1, request, option: option.map(str::to_owned) }
}

fn permit(answer: PermissionAnswer) -> Command {
    Command::Permit(FIRST, answer)
}

fn waiting(session: &Session) -> Vec<PermissionId> {
    session.permissions().into_iter().map(|permission| permission.permission_id).collect()
}

/// One start of an agent that has a conversation to take up.
fn starts(session: &mut Session) {
    session.state = State::Starting { worker: Some(sample::identity(100)), deadline: AT.mono + 1 };
}
