//! Sessions in each state, and what can be added to them.

use std::sync::Arc;

use harness::sample::{options, spec};
use manager::core::{
    Answer, At, Call, Client, Command, Goal, Input, Permission, Phase, Prompt, Quiet, Seen, Session, Spec,
    State, Turn, Was, Why, limits,
};
use protocol::api::{Failure, PermissionPolicy, Role};
use protocol::event::{StallStep, Timestamp};
use protocol::wire::{CallAnswer, Offer};
use protocol::{CallId, Exit, Identity, PromptId, SessionId};

use super::{DRIVER, INCARNATION, INTERRUPTED, NOW, OPEN, OPEN_CALL, QUEUED, RUNNING, SETTLED, VIEWER, WALL};

const ASKED: CallId = CallId(14);

pub fn worker() -> Identity {
    Identity { pid: 400, start_time: 77, boot_id: "boot".into() }
}

pub fn prompt(id: PromptId) -> Prompt {
    Prompt::text(id, format!("text of {id}"))
}

pub fn base(state: State, queued: bool) -> Session {
    let at = At { mono: NOW, wall: WALL, closing: false };
    let mut session = Session::new(SessionId::numbered(1), Arc::new(spec()), at, INCARNATION - 1);
    session.state = state;
    session.turns.interrupted.push(prompt(INTERRUPTED));
    if queued {
        session.turns.queue.push_back(prompt(QUEUED));
    }
    session
}

pub fn running(mut session: Session, phase: Phase) -> Session {
    session.turns.count = 1;
    session.turns.first_prompt = Some("text".into());
    let (open, answers, tools) = (Vec::new(), Vec::new(), Vec::new());
    let prompt = prompt(RUNNING);
    session.turns.running = Some(Turn {
        number: 1,
        prompt,
        phase,
        spoke: false,
        acted: true,
        open,
        answers,
        tools,
        calls: Default::default(),
        until: None,
        timed_out: false,
        recorded: 0,
        asked: 0,
        quiet: Default::default(),
    });
    session
}

/// The agent was allowed one thing and waits for another.
pub fn asking(mut session: Session, expires: Option<u64>) -> Session {
    session.last_permission = Some(OPEN);
    if let Some(turn) = &mut session.turns.running {
        turn.answers.push(Answer { id: SETTLED, request: 1, option: Some("allow_once".into()) });
        let (title, options) = ("Write notes.txt".into(), options(&["allow_once", "reject_once"]));
        let command = Some("tee notes.txt".into());
        turn.open.push(Permission { id: OPEN, request: 2, title, command, options, asked_at: WALL, expires });
    }
    session
}

/// The agent uses a tool.
pub fn with_tool(mut session: Session) -> Session {
    session.turns.running.iter_mut().for_each(|turn| turn.tools.push("call-1".into()));
    session
}

/// Its turn may take so long, and that is over soon.
pub fn timed(mut session: Session) -> Session {
    session.turns.running.iter_mut().for_each(|turn| turn.until = Some(NOW + 500));
    with_spec(session, |spec| spec.turn_timeout_ms = 60_000)
}

/// Nothing has shown for so long that its agent works, in milliseconds; a minute is noticed.
pub fn quiet(mut session: Session, ms: u64, step: Option<StallStep>) -> Session {
    let quiet = Quiet { ms, looked_at: Some(NOW - 10_000), cpu: Some((7_000, NOW - 10_000)), step };
    session.turns.running.iter_mut().for_each(|turn| turn.quiet = quiet.clone());
    with_spec(session, |spec| spec.stall_timeout_ms = Some(60_000))
}

pub fn permitting(session: Session, policy: PermissionPolicy) -> Session {
    with_spec(session, |spec| spec.permissions.policy = policy)
}

pub fn started(session: Session) -> Session {
    running(session, Phase::Started { agent_pid: 401 })
}

pub fn ready(phase: Option<Phase>) -> Session {
    let session =
        base(State::Ready { worker: worker(), agent_pid: None, idle_since: NOW - 5 }, phase.is_some());
    match phase {
        Some(phase) => running(session, phase),
        None => session,
    }
}

pub fn stopping(why: Why, kills: u32, live: bool) -> Session {
    let goal = if why == Why::Stop { Goal::Down } else { Goal::Up };
    let state = State::Stopping {
        worker: live.then(worker),
        why,
        kills,
        deadline: NOW + 500,
        give_up: NOW + limits::UNKILLABLE_MS,
    };
    Session { goal, ..base(state, goal == Goal::Up) }
}

pub fn adopting(after: Why) -> Session {
    let goal = if after == Why::Stop { Goal::Down } else { Goal::Up };
    let was = if after == Why::Lost { Was::Ready { agent_pid: None } } else { Was::Stopping };
    let state = State::Adopting { worker: worker(), was, after, deadline: NOW + 500 };
    Session { goal, ..base(state, goal == Goal::Up) }
}

pub fn failed(survivors: Vec<u32>) -> Session {
    let failure = Failure {
        reason: "it died".into(),
        exit: Some(Exit::Code(1)),
        last_words: Vec::new(),
        survivors,
        failed_at: Some(Timestamp(WALL)),
    };
    base(State::Failed(failure), true)
}

pub fn with_spec(session: Session, change: impl FnOnce(&mut Spec)) -> Session {
    let mut spec = spec();
    change(&mut spec);
    Session { spec: Arc::new(spec), ..session }
}

/// A session whose next death is one too many.
pub fn exhausted(mut session: Session) -> Session {
    for n in 0..5 {
        let at = At { mono: NOW - 1000 + n, wall: WALL, closing: false };
        let policy = spec().restart;
        let before =
            Session { state: State::Ready { worker: worker(), agent_pid: None, idle_since: 0 }, ..session };
        let step = before.step(at, 1, &Input::Seen(before.incarnation, gone(Exit::Code(1)))).unwrap();
        session = step.next;
        assert_eq!(session.deaths.within(at.mono, policy.period_ms), n as u32 + 1);
    }
    Session {
        state: ready(None).state,
        incarnation: INCARNATION,
        last_restart: None,
        recovering: false,
        ..session
    }
}

/// With a driver and a viewer.
pub fn driven(mut session: Session) -> Session {
    let client =
        |id, role| Client { id, name: "somebody".into(), role, offers: Vec::new(), origin: None, seat: None };
    session.clients = vec![client(DRIVER, Role::Driver), client(VIEWER, Role::Viewer)];
    session
}

/// The driver can read files and ask its user, and is asked for a file and for an answer.
pub fn calling(session: Session, expires: Option<u64>) -> Session {
    let mut session = driven(session);
    session.clients[0].offers = vec![Offer::ReadFile, Offer::Elicitation];
    (session.had_offers, session.last_call) = (true, Some(ASKED));
    if let Some(turn) = &mut session.turns.running {
        let (client, asked_at) = (Some(DRIVER), Some(WALL));
        let call = |id, request, needs, expires| Call { id, request, client, needs, asked_at, expires };
        turn.calls.open.push(call(OPEN_CALL, 1, Offer::ReadFile, expires));
        turn.calls.open.push(call(ASKED, 2, Offer::Elicitation, None));
    }
    session
}

pub fn result() -> CallAnswer {
    CallAnswer::Result { json: "{}".into() }
}

pub fn attach(role: Role, takeover: bool) -> Command {
    Command::Attach { name: "somebody".into(), role, takeover, offers: Vec::new(), origin: None, seat: None }
}

pub fn gone(exit: Exit) -> Seen {
    Seen::Gone { exit, last_words: Vec::new(), survivors: Vec::new() }
}
