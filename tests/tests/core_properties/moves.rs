//! The moves that the properties try, and the walk of a session through them.

use std::sync::Arc;

use harness::sample;
use manager::core::{At, Command, Input, NewPrompt, Phase, Seen, Session, Spec, State};
use proptest::prelude::*;
use protocol::api::{OnCrash, PermissionAnswer, PermissionPolicy, RestartType, WhenBusy};
use protocol::event::{EventKind, Resolution};
use protocol::wire::{Agent, PromptVia, Spent, TurnEnd, Update};
use protocol::{EventId, Exit, Identity, PermissionId, PromptId, Restore, SessionId, Stream};
use serde_json::json;

/// The distance of the wall clock from the clock that deadlines use, so that a mix-up of them fails a test.
pub const AHEAD: u64 = 1_700_000_000_000;

/// One move of a history. What it means depends on the session at the time, so that shrinking keeps it sensible.
#[derive(Clone, Copy, Debug)]
pub struct Move {
    pub what: u8,
    pub which: u8,
    pub wait: u16,
}

pub fn moves(most: usize) -> impl Strategy<Value = Vec<Move>> {
    let one =
        (any::<u8>(), any::<u8>(), any::<u16>()).prop_map(|(what, which, wait)| Move { what, which, wait });
    prop::collection::vec(one, 1..most)
}

pub fn some_spec(choice: u8) -> Spec {
    let mut spec = sample::spec();
    spec.restart.kind =
        [RestartType::Transient, RestartType::Permanent, RestartType::Temporary][usize::from(choice % 3)];
    spec.restart.intensity = u32::from(choice / 3 % 4);
    spec.on_crash = if choice & 64 == 0 { OnCrash::Interrupt } else { OnCrash::Retry };
    spec.hibernate_after_ms = if choice & 128 == 0 { 0 } else { 5_000 };
    use PermissionPolicy::*;
    spec.permissions.policy = [Park, Park, Park, Park, Park, Allow, Deny, Fail][usize::from(choice % 8)];
    spec.turn_timeout_ms = if choice & 16 == 0 { 0 } else { 1_500 };
    if choice & 32 == 0 {
        // Unlike a shell it is told turns, so it can be forked.
        let argv = vec!["/bin/agent".into()];
        spec.agent = Agent::Command { argv, prompt_via: PromptVia::Stdin, transcript: true };
    }
    if choice & 4 == 0 {
        spec.labels.insert("team".into(), "web".into());
    }
    spec.permissions.timeout_ms = if choice & 8 == 0 { 0 } else { 2_000 };
    spec
}

pub fn worker(session: &Session) -> Identity {
    Identity { pid: 100 + session.incarnation, start_time: 1, boot_id: "boot".into() }
}

/// A prompt that the session knows, or one that it does not.
fn some_prompt(session: &Session, which: u8) -> PromptId {
    let turns = &session.turns;
    let running = turns.running.iter().map(|turn| &turn.prompt);
    let ids: Vec<PromptId> =
        running.chain(&turns.queue).chain(&turns.interrupted).map(|prompt| prompt.id).collect();
    ids.get(usize::from(which) % (ids.len() + 1)).copied().unwrap_or(PromptId(9_999_999))
}

pub fn running(session: &Session, which: u8) -> PromptId {
    match &session.turns.running {
        Some(turn) if which < 230 => turn.prompt.id,
        _ => some_prompt(session, which),
    }
}

fn command(session: &Session, step: Move) -> Command {
    let text: Arc<str> = format!("text {}", step.which).into();
    let prompt = some_prompt(session, step.which);
    match step.what % 14 {
        0 => Command::Up,
        1 => Command::Stop,
        2 => Command::Restart,
        3 => Command::Prompt(NewPrompt::text(text, WhenBusy::Reject)),
        4 => Command::Prompt(NewPrompt::text(text, WhenBusy::Interrupt)),
        5 => Command::Abort,
        6 => Command::Pin(step.which & 1 == 0),
        7 => Command::Edit(prompt, text),
        8 => Command::Remove(prompt),
        9 => Command::Resolve(prompt, if step.which & 1 == 0 { Resolution::Retry } else { Resolution::Drop }),
        10 if step.which < 30 => Command::Clear,
        11 | 12 => {
            let open = session.permissions().first().map(|open| open.permission_id);
            let permission = open.or(session.last_permission).unwrap_or(PermissionId(9_999_999));
            let answers = [PermissionAnswer::Allow, PermissionAnswer::Deny, PermissionAnswer::Cancel];
            let other = PermissionAnswer::Option("nothing".into());
            Command::Permit(permission, answers.get(usize::from(step.which % 4)).cloned().unwrap_or(other))
        }
        _ => Command::Prompt(NewPrompt::text(text, WhenBusy::Queue)),
    }
}

pub fn seen(session: &Session, step: Move) -> Seen {
    let prompt = running(session, step.which);
    let which = step.which;
    let payload = json!({});
    match step.what % 16 {
        0 => Seen::Spawned(worker(session)),
        1 => Seen::SpawnFailed { error: "no".into(), no_room: which & 1 == 0 },
        2 | 3 => Seen::Ready { restore: Restore::Fresh, agent_pid: (which & 1 == 0).then_some(7) },
        4 => Seen::TurnStarted { prompt, agent_pid: 8 },
        5 => Seen::Output { prompt, stream: Stream::Stdout, text: "words".into() },
        6 => {
            let end = match which % 5 {
                0 => TurnEnd::Aborted,
                1 => TurnEnd::Failed { message: "no".into() },
                2 => TurnEnd::Stopped { reason: "end_turn".into() },
                3 => TurnEnd::NotRun { message: "no program".into() },
                _ => TurnEnd::Finished,
            };
            Seen::TurnEnded { prompt, end, exit: None, left_behind: u32::from(which.is_multiple_of(7)) }
        }
        7 if which < 128 => Seen::Faulted("garbage".into()),
        8 if which < 128 => Seen::Linked { outdated: false },
        9 if which < 128 => Seen::Heard(u64::from(step.wait)),
        9 => Seen::Handed(prompt),
        10 => Seen::AgentSession("conversation".into()),
        11 => {
            let (id, ended) = (format!("call-{}", which % 4), which >= 128);
            let update = match which % 5 {
                0 => Update::ToolCall { id, title: "Read".into(), ended },
                1 => Update::ToolCallUpdate { id, ended },
                2 => Update::Thought { text: "hm".into() },
                3 => Update::Usage(Spent { input_tokens: Some(1), ..Spent::default() }),
                _ => Update::Other,
            };
            Seen::Updated { prompt: Some(prompt), update, payload }
        }
        12 | 13 => {
            let request = u64::from(step.wait);
            Seen::PermissionAsked { prompt: Some(prompt), request, ask: sample::ask(), payload }
        }
        14 if which < 64 => Seen::AgentDied("the agent ended".into()),
        14 if which < 72 => Seen::NotRun { message: "no program".into(), passes: which & 1 == 0 },
        14 if which < 80 => Seen::LoginNeeded("log in".into()),
        14 => Seen::Notice("there is a newer agent".into()),
        _ => {
            let exit = match which % 4 {
                0 => Exit::Code(0),
                1 => Exit::Unknown,
                _ => Exit::Signal(9),
            };
            let survivors = if which % 16 == 15 { vec![500] } else { Vec::new() };
            Seen::Gone { exit, last_words: Vec::new(), survivors }
        }
    }
}

/// An input: one that moves the session on more often than not, else any.
pub fn input(session: &Session, at: &mut At, step: Move) -> Input {
    at.mono += u64::from(step.wait % 3_000);
    at.wall = AHEAD + at.mono;
    let mine = |seen| Input::Seen(session.incarnation, seen);
    match step.what {
        0..90 => match &session.state {
            State::Starting { worker: None, .. } => mine(Seen::Spawned(worker(session))),
            State::Starting { worker: Some(_), .. } => {
                mine(Seen::Ready { restore: Restore::Fresh, agent_pid: None })
            }
            State::Ready { .. } => match &session.turns.running {
                Some(turn) => {
                    let prompt = turn.prompt.id;
                    match turn.phase {
                        Phase::Sent { .. } => mine(Seen::TurnStarted { prompt, agent_pid: 8 }),
                        Phase::Started { .. } | Phase::Aborting { .. } => mine(Seen::TurnEnded {
                            prompt,
                            end: TurnEnd::Finished,
                            exit: None,
                            left_behind: 0,
                        }),
                    }
                }
                None => Input::Command(Command::Prompt(NewPrompt::text("text", WhenBusy::Queue))),
            },
            State::Adopting { .. } if step.which < 160 => mine(Seen::Linked { outdated: false }),
            State::Stopping { .. } | State::Adopting { .. } => {
                mine(Seen::Gone { exit: Exit::Signal(15), last_words: Vec::new(), survivors: Vec::new() })
            }
            State::Restarting { until } => {
                at.mono = at.mono.max(*until);
                Input::Tick
            }
            State::Hibernated | State::Stopped | State::Failed(_) => Input::Command(Command::Up),
        },
        90..140 => Input::Command(command(session, Move { what: step.what - 90, ..step })),
        140..190 => mine(seen(session, Move { what: step.what - 140, ..step })),
        190..200 => {
            Input::Seen(session.incarnation.wrapping_sub(1 + u32::from(step.which % 3)), seen(session, step))
        }
        200..230 => {
            if step.which < 200
                && let Some(deadline) = session.deadline()
            {
                at.mono = at.mono.max(deadline);
            }
            Input::Tick
        }
        230..245 => {
            at.closing = false;
            Input::Recovered { same_boot: step.which < 200 }
        }
        245..248 => {
            at.closing = true;
            Input::Shutdown
        }
        _ => Input::OpenTasks(if step.which & 1 == 0 { 1 } else { -1 }),
    }
}

pub fn new_session(choice: u8) -> (Session, At) {
    let at = At { mono: 1_000_000, wall: AHEAD + 1_000_000, closing: false };
    (Session::new(SessionId::numbered(1), Arc::new(some_spec(choice)), at, 0), at)
}

/// The input and the result of a step.
pub struct Stepped<'a> {
    pub at: At,
    pub input: &'a Input,
    pub before: &'a Session,
    pub after: &'a Session,
    pub events: &'a [EventKind],
}

/// Takes a session through a history and lets `check` look at each step.
pub fn walk(
    choice: u8,
    moves: &[Move],
    mut check: impl FnMut(&Stepped<'_>) -> Result<(), TestCaseError>,
) -> Result<(), TestCaseError> {
    let (mut session, mut at) = new_session(choice);
    let mut next_event: EventId = 1;
    for step in moves {
        let input = input(&session, &mut at, *step);
        match session.step(at, next_event, &input) {
            Err(refusal) => {
                prop_assert!(matches!(input, Input::Command(_)), "{input:?} is refused: {refusal}")
            }
            Ok(step) => {
                for effect in &step.effects {
                    prop_assert!(
                        step.next.effects().contains(effect),
                        "{effect:?} is not of {:?}",
                        step.next.state
                    );
                }
                check(&Stepped {
                    at,
                    input: &input,
                    before: &session,
                    after: &step.next,
                    events: &step.events,
                })?;
                next_event += step.events.len() as EventId;
                session = step.next;
            }
        }
    }
    Ok(())
}
