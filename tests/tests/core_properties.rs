//! What holds of the core whatever happens to it, in any order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use harness::sample;
use manager::core::{
    Ask, At, Command, Effect, Fleet, Goal, Input, NewPrompt, Phase, Prompt, Refusal, Reply, Seen, Session,
    Spec, State, Was, Why, limits,
};
use proptest::prelude::*;
use protocol::api::{
    OnCrash, Orphans, PermissionAnswer, PermissionPolicy, RestartType, SessionOpts, WhenBusy,
};
use protocol::event::{EventKind, Resolution};
use protocol::wire::{Spent, TurnEnd, Update};
use protocol::{EventId, Exit, Identity, PermissionId, PromptId, Restore, SessionId, Stream};
use serde_json::json;

/// How far the wall clock is ahead of the one that deadlines use: whoever takes one for the other is found out.
const AHEAD: u64 = 1_700_000_000_000;

/// One move of a history. What it means depends on the session at the time, so that shrinking keeps it sensible.
#[derive(Clone, Copy, Debug)]
struct Move {
    what: u8,
    which: u8,
    wait: u16,
}

fn moves(most: usize) -> impl Strategy<Value = Vec<Move>> {
    let one =
        (any::<u8>(), any::<u8>(), any::<u16>()).prop_map(|(what, which, wait)| Move { what, which, wait });
    prop::collection::vec(one, 1..most)
}

fn some_spec(choice: u8) -> Spec {
    let mut spec = sample::spec();
    spec.restart.kind =
        [RestartType::Transient, RestartType::Permanent, RestartType::Temporary][usize::from(choice % 3)];
    spec.restart.intensity = u32::from(choice / 3 % 4);
    spec.on_crash = if choice & 64 == 0 { OnCrash::Interrupt } else { OnCrash::Retry };
    spec.hibernate_after_ms = if choice & 128 == 0 { 0 } else { 5_000 };
    use PermissionPolicy::*;
    spec.permissions.policy = [Park, Park, Park, Park, Park, Allow, Deny, Fail][usize::from(choice % 8)];
    spec.turn_timeout_ms = if choice & 16 == 0 { 0 } else { 1_500 };
    spec.permissions.timeout_ms = if choice & 8 == 0 { 0 } else { 2_000 };
    spec
}

fn worker(session: &Session) -> Identity {
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

fn running(session: &Session, which: u8) -> PromptId {
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

fn seen(session: &Session, step: Move) -> Seen {
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
fn input(session: &Session, at: &mut At, step: Move) -> Input {
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

fn new_session(choice: u8) -> (Session, At) {
    let at = At { mono: 1_000_000, wall: AHEAD + 1_000_000, closing: false };
    (Session::new(SessionId::numbered(1), Arc::new(some_spec(choice)), at, 0), at)
}

/// What a step was given and made.
struct Stepped<'a> {
    at: At,
    input: &'a Input,
    before: &'a Session,
    after: &'a Session,
    events: &'a [EventKind],
}

/// Takes a session through a history and lets `check` look at each step.
fn walk(
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

fn config() -> ProptestConfig {
    ProptestConfig { cases: 384, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn whatever_does_not_rest_has_a_deadline(choice: u8, moves in moves(60)) {
        walk(choice, &moves, |step| {
            let session = step.after;
            let bounded = match &session.state {
                State::Starting { .. } | State::Adopting { .. } | State::Stopping { .. } | State::Restarting { .. } => true,
                State::Ready { .. } => session.turns.running.as_ref().is_some_and(|turn| match turn.phase {
                    Phase::Sent { .. } | Phase::Aborting { .. } => true,
                    Phase::Started { .. } => false,
                }),
                State::Hibernated | State::Stopped | State::Failed(_) => false,
            };
            if bounded {
                prop_assert!(session.deadline().is_some(), "{:?}", session.state);
            }
            Ok(())
        })?;
    }

    #[test]
    fn time_alone_moves_every_session_on_and_never_in_circles(choice: u8, moves in moves(60)) {
        walk(choice, &moves, |step| {
            let mut session = step.after.clone();
            let mut at = At { closing: false, ..step.at };
            for _ in 0..30 {
                let Some(deadline) = session.deadline() else { break };
                if deadline > at.mono {
                    let early = session.step(At { mono: deadline - 1, ..at }, 1, &Input::Tick).unwrap();
                    prop_assert_eq!(&early.next, &session, "too early");
                }
                at.mono = at.mono.max(deadline);
                let next = session.step(at, 1, &Input::Tick).unwrap().next;
                prop_assert_ne!(&next, &session, "nothing happens at the deadline");
                let later = next.deadline();
                prop_assert!(later.is_none_or(|later| later > at.mono), "{:?} is due again at once", next.state);
                session = next;
            }
            Ok(())
        })?;
    }

    #[test]
    fn a_closing_manager_gets_rid_of_every_process_by_waiting(choice: u8, moves in moves(60)) {
        walk(choice, &moves, |step| {
            let mut at = At { closing: true, ..step.at };
            let mut session = step.after.step(at, 1, &Input::Shutdown).unwrap().next;
            for _ in 0..30 {
                if !session.has_process() || matches!(session.state, State::Failed(_)) {
                    return Ok(());
                }
                at.mono = at.mono.max(session.deadline().unwrap_or(at.mono));
                session = session.step(at, 1, &Input::Tick).unwrap().next;
            }
            prop_assert!(false, "{:?}", session.state);
            Ok(())
        })?;
    }

    #[test]
    fn a_turn_runs_only_where_a_process_is(choice: u8, moves in moves(60)) {
        walk(choice, &moves, |step| {
            let has_agent = match &step.after.state {
                State::Ready { .. } | State::Adopting { .. } | State::Stopping { worker: Some(_), .. } => true,
                State::Starting { .. }
                | State::Stopping { worker: None, .. }
                | State::Restarting { .. }
                | State::Hibernated
                | State::Stopped
                | State::Failed(_) => false,
            };
            prop_assert!(has_agent || step.after.turns.running.is_none(), "{:?}", step.after.state);
            Ok(())
        })?;
    }

    #[test]
    fn a_turn_that_begins_is_given_to_the_worker(choice: u8, moves in moves(60)) {
        walk(choice, &moves, |step| {
            let begun = step.events.iter().any(|event| matches!(event, EventKind::PromptStarted { .. }));
            let wanted = step.after.effects();
            if begun {
                let delivers = wanted.iter().any(|effect| matches!(effect, Effect::Deliver { .. }));
                prop_assert!(delivers, "{:?}", step.after.state);
                let before = step.before.effects();
                prop_assert!(wanted.iter().any(|effect| !before.contains(effect)), "nobody is told: {:?}", step.input);
            }
            Ok(())
        })?;
    }

    #[test]
    fn what_is_heard_of_a_turn_is_heard_of_the_one_that_runs(choice: u8, moves in moves(60)) {
        walk(choice, &moves, |step| {
            let running = step.before.turns.running.as_ref();
            for event in step.events {
                match event {
                    EventKind::TurnStarted { prompt_id, .. }
                    | EventKind::MessageChunk { prompt_id, .. }
                    | EventKind::ThoughtChunk { prompt_id, .. }
                    | EventKind::ToolCallStarted { prompt_id, .. }
                    | EventKind::ToolCallUpdated { prompt_id, .. }
                    | EventKind::ToolCallInterrupted { prompt_id, .. }
                    | EventKind::AgentUpdated { prompt_id: Some(prompt_id), .. }
                    | EventKind::PermissionRequested { prompt_id: Some(prompt_id), .. }
                    | EventKind::TurnCompleted { prompt_id, .. }
                    | EventKind::TurnInterrupted { prompt_id, .. } => {
                        prop_assert_eq!(Some(*prompt_id), running.map(|turn| turn.prompt.id));
                    }
                    _ => {}
                }
            }
            let other = PromptId(9_999_999);
            let (end, stream) = (TurnEnd::Finished, Stream::Stdout);
            for seen in [
                Seen::TurnStarted { prompt: other, agent_pid: 8 },
                Seen::Output { prompt: other, stream, text: "words".into() },
                Seen::TurnEnded { prompt: other, end, exit: None, left_behind: 1 },
            ] {
                let heard = step.after.step(step.at, 1, &Input::Seen(step.after.incarnation, seen)).unwrap();
                prop_assert!(heard.events.is_empty() && heard.next.turns == step.after.turns);
            }
            Ok(())
        })?;
    }

    #[test]
    fn an_answer_that_counts_is_told_to_the_worker(choice: u8, moves in moves(80)) {
        walk(choice, &moves, |step| {
            let resolved = step.events.iter().any(|event| matches!(event, EventKind::PermissionResolved { .. }));
            let before = step.before.effects();
            let told = |effect: &Effect| matches!(effect, Effect::Answer { .. }) && !before.contains(effect);
            // By the next manager, where its worker is not taken over yet.
            let linked = Input::Seen(step.after.incarnation, Seen::Linked { outdated: false });
            let adopted = step.after.step(At { closing: false, ..step.at }, 1, &linked).unwrap().next;
            let mut effects = step.after.effects().into_iter().chain(adopted.effects());
            prop_assert!(!resolved || effects.any(|effect| told(&effect)), "{:?}", step.after.state);
            Ok(())
        })?;
    }

    #[test]
    fn a_permission_waits_only_while_its_turn_runs_and_nobody_ends_it(choice: u8, moves in moves(80)) {
        walk(choice, &moves, |step| {
            let works = matches!(step.after.state, State::Ready { .. } | State::Adopting { was: Was::Ready { .. }, .. })
                && step.after.turns.running.as_ref().is_some_and(|turn| !matches!(turn.phase, Phase::Aborting { .. }));
            let open = step.after.permissions();
            prop_assert!(works || open.is_empty(), "{open:?} in {:?}", step.after.state);
            Ok(())
        })?;
    }

    #[test]
    fn whoever_has_no_process_says_nothing(choice: u8, moves in moves(60)) {
        walk(choice, &moves, |step| {
            if step.after.worker().is_some() {
                return Ok(());
            }
            for (what, which) in [(10, 3), (11, 2), (11, 3), (11, 4), (12, 3), (14, 200)] {
                let heard = Input::Seen(step.after.incarnation, seen(step.after, Move { what, which, wait: 0 }));
                let heard = step.after.step(At { closing: true, ..step.at }, 1, &heard).unwrap();
                prop_assert!(heard.events.is_empty() && heard.next == *step.after, "{:?}", step.after.state);
            }
            Ok(())
        })?;
    }

    #[test]
    fn a_turn_that_somebody_aborted_is_never_called_interrupted(choice: u8, moves in moves(60)) {
        walk(choice, &moves, |step| {
            let aborted =
                step.before.turns.running.as_ref().is_some_and(|turn| matches!(turn.phase, Phase::Aborting { .. }));
            let interrupted = step.events.iter().any(|event| matches!(event, EventKind::TurnInterrupted { .. }));
            prop_assert!(!(aborted && interrupted), "{:?}", step.input);
            Ok(())
        })?;
    }

    #[test]
    fn whoever_has_no_process_any_more_lets_go_of_it(choice: u8, moves in moves(60)) {
        walk(choice, &moves, |step| {
            let over = step.before.has_process()
                && (!step.after.has_process() || step.after.incarnation > step.before.incarnation);
            if over {
                let before = step.before.effects();
                let lets_go = |effect: &Effect| {
                    matches!(effect, Effect::Release { incarnation } if *incarnation >= step.before.incarnation)
                        && !before.contains(effect)
                };
                prop_assert!(step.after.effects().iter().any(lets_go), "{:?}", step.after.state);
            }
            Ok(())
        })?;
    }

    #[test]
    fn only_what_was_killed_survives_that(choice: u8, moves in moves(60), jump: u16) {
        walk(choice, &moves, |step| {
            // The machine slept, or the disk was full.
            let at = At { mono: step.at.mono + u64::from(jump), ..step.at };
            let ticked = step.after.step(at, 1, &Input::Tick).unwrap();
            if let (State::Stopping { kills, .. }, State::Failed(_)) = (&step.after.state, &ticked.next.state) {
                prop_assert!(*kills > 0 || step.after.worker().is_none(), "{:?}", ticked.next.state);
            }
            Ok(())
        })?;
    }

    #[test]
    fn times_of_another_boot_mean_nothing(choice: u8, moves in moves(60)) {
        walk(choice, &moves, |step| {
            // A clock that counts from the boot is far behind what it was.
            let at = At { mono: 1_000, wall: step.at.wall, closing: false };
            let next = step.after.step(at, 1, &Input::Recovered { same_boot: false }).unwrap().next;
            // None of them lies in what is now the future.
            prop_assert_eq!(next.deaths.within(at.mono, 0), 0);
            let soon = at.mono + limits::START_MS;
            prop_assert!(next.deadline().is_none_or(|deadline| deadline <= soon), "{:?}", next.state);
            Ok(())
        })?;
    }

    #[test]
    fn other_incarnations_change_nothing(choice: u8, moves in moves(60)) {
        walk(choice, &moves, |step| {
            for (what, other) in [(9, 1), (2, u32::MAX), (0, 2), (6, 1)] {
                let seen = seen(step.after, Move { what, which: 3, wait: 0 });
                let stale = Input::Seen(step.after.incarnation.wrapping_sub(other), seen);
                let after = step.after.step(step.at, 1, &stale).unwrap();
                prop_assert_eq!(&after.next, step.after);
                prop_assert!(after.events.is_empty() && after.effects.is_empty() && after.notes.is_empty());
            }
            Ok(())
        })?;
    }

    #[test]
    fn every_accepted_prompt_ends_at_most_once_and_is_never_forgotten(choice: u8, moves in moves(80)) {
        let mut open: BTreeSet<PromptId> = BTreeSet::new();
        let mut ended: BTreeSet<PromptId> = BTreeSet::new();
        walk(choice, &moves, |step| {
            for event in step.events {
                match event {
                    EventKind::PromptAccepted { prompt_id, .. } => prop_assert!(open.insert(*prompt_id)),
                    EventKind::TurnCompleted { prompt_id, .. }
                    | EventKind::PromptRemoved { prompt_id, .. }
                    | EventKind::TurnInterrupted { prompt_id, will_retry: false, .. } => {
                        prop_assert!(open.remove(prompt_id), "{} was not open", prompt_id);
                        prop_assert!(ended.insert(*prompt_id), "{} ends twice", prompt_id);
                    }
                    _ => {}
                }
            }
            let turns = &step.after.turns;
            let held: BTreeSet<PromptId> =
                turns.queue.iter().chain(turns.running.iter().map(|turn| &turn.prompt)).map(|prompt| prompt.id).collect();
            prop_assert_eq!(&held, &open);
            Ok(())
        })?;
    }

    #[test]
    fn the_restart_budget_is_kept(choice: u8, moves in moves(80)) {
        walk(choice, &moves, |step| {
            let policy = step.after.spec.restart;
            let deaths = step.after.deaths.within(step.at.mono, policy.period_ms);
            let given_up = matches!(step.after.state, State::Failed(_) | State::Stopped);
            prop_assert!(deaths <= policy.intensity + u32::from(given_up), "{deaths} in {:?}", step.after.state);
            Ok(())
        })?;
    }

    #[test]
    fn the_goal_is_the_operators(choice: u8, moves in moves(60)) {
        walk(choice, &moves, |step| {
            let asked = matches!(step.input, Input::Command(Command::Up | Command::Stop | Command::Restart));
            let own_end = step.events.iter().any(|event| matches!(event, EventKind::SessionStopped { .. }));
            if step.before.goal != step.after.goal {
                prop_assert!(asked || own_end, "{:?}", step.input);
            }
            let stopped = step.after.state == State::Stopped;
            prop_assert!(!stopped || step.after.goal == Goal::Down, "stopped, and wanted up");
            Ok(())
        })?;
    }

    #[test]
    fn whoever_wants_a_session_up_does_not_find_it_asleep(choice: u8, moves in moves(60)) {
        walk(choice, &moves, |step| {
            for wish in [Command::Up, Command::Restart] {
                let at = At { closing: false, ..step.at };
                let Ok(up) = step.after.step(at, 1, &Input::Command(wish)) else { continue };
                let session = up.next;
                prop_assert!(!matches!(session.state, State::Hibernated | State::Stopped | State::Failed(_)));
                if let State::Stopping { why, .. } | State::Adopting { after: why, .. } = &session.state {
                    let gone = Seen::Gone { exit: Exit::Signal(9), last_words: Vec::new(), survivors: Vec::new() };
                    let next = session.step(at, 1, &Input::Seen(session.incarnation, gone)).unwrap().next;
                    let judged = matches!(why, Why::Fault(_) | Why::AgentDied(_) | Why::NotRun { .. } | Why::Hopeless(_));
                    let comes_up = matches!(next.state, State::Starting { .. });
                    prop_assert!(comes_up || judged, "{:?} becomes {:?}", session.state, next.state);
                }
            }
            Ok(())
        })?;
    }

    #[test]
    fn a_session_reads_back_as_it_was_written(choice: u8, moves in moves(40)) {
        walk(choice, &moves, |step| {
            let written = serde_json::to_string(step.after).unwrap();
            let mut read: Session = serde_json::from_str(&written).unwrap();
            // The journal keeps texts in rows of their own.
            let texts: BTreeMap<PromptId, Arc<str>> =
                prompts(&mut step.after.clone()).into_iter().map(|prompt| (prompt.id, prompt.text.clone())).collect();
            for prompt in prompts(&mut read) {
                prop_assert!(prompt.text.is_empty());
                prompt.text = texts[&prompt.id].clone();
            }
            prop_assert_eq!(&read, step.after);
            Ok(())
        })?;
    }

    #[test]
    fn fleets_count_well_and_take_back_all(moves in moves(60)) {
        let mut fleet = Fleet::default();
        fleet = Fleet::load(fleet.sessions().map(|session| (**session).clone()).collect::<Vec<_>>(), [], 0, 0);
        let mut at = At { mono: 1_000_000, wall: AHEAD + 1_000_000, closing: false };
        let mut last: EventId = 0;
        let mut undos = Vec::new();
        let mut told: BTreeMap<(SessionId, u64), u32> = BTreeMap::new();
        for step in &moves {
            let before = fleet.clone();
            let ask = ask(&fleet, &mut at, *step);
            let change = match fleet.step(at, &ask) {
                Ok(change) => change,
                Err(refusal) => {
                    let wish = !matches!(&ask, Ask::One(_, input) if !matches!(input, Input::Command(_)));
                    prop_assert!(wish && !matches!(ask, Ask::ManagerStarted { .. } | Ask::Shutdown), "{ask:?}: {refusal}");
                    prop_assert_eq!(&fleet, &before);
                    continue;
                }
            };
            for event in &change.events {
                prop_assert!(event.id > last, "event {} after {last}", event.id);
                last = event.id;
                if let EventKind::SubagentCompleted { child, .. } | EventKind::SubagentLost { child, .. } = &event.kind {
                    // A removed session's id may come back to life, as another child.
                    let birth = before.get(child).and_then(|child| child.task.as_ref()).map_or(0, |task| task.prompt.0);
                    let times = told.entry((child.clone(), birth)).or_default();
                    *times += 1;
                    prop_assert_eq!(*times, 1, "the end of {} was told before", child);
                }
            }
            prop_assert!(change.next_event > last);
            let undo = fleet.adopt(&change);
            for id in fleet.retired().keys() {
                prop_assert!(fleet.get(id).is_none(), "{} is retired and lives", id);
            }
            let sessions: Vec<Session> = fleet.sessions().map(|session| (**session).clone()).collect();
            let loaded = Fleet::load(sessions, fleet.retired().clone(), fleet.next_number(), fleet.next_event());
            prop_assert_eq!(&loaded, &fleet, "the fleet shows less of itself than it is");
            for session in fleet.sessions() {
                let mine = |child: &&Arc<Session>| {
                    child.parent.as_ref() == Some(&session.id) && child.task.as_ref().is_some_and(|task| task.open)
                };
                let open = fleet.sessions().filter(mine).count();
                prop_assert_eq!(open as u32, session.open_tasks, "{} after {:?}", &session.id, ask);
            }
            if let (Reply::Created(id), Ask::Create { id: None, .. }) = (&change.reply, &ask) {
                let fresh = before.get(id).is_none() && !before.retired().contains_key(id);
                prop_assert!(fresh, "{} was used before", id);
            }
            undos.push((before, undo));
        }
        while let Some((before, undo)) = undos.pop() {
            fleet.take_back(undo);
            prop_assert_eq!(&fleet, &before);
        }
    }
}

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
        let told = step.events.into_iter().find(|event| matches!(event, EventKind::PromptResolved { .. }));
        let dropped =
            |prompt_id| EventKind::PromptResolved { prompt_id, action: Resolution::Drop, retried_as: None };
        assert_eq!(told, drops.map(dropped));
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

fn prompts(session: &mut Session) -> Vec<&mut Prompt> {
    let turns = &mut session.turns;
    let running = turns.running.iter_mut().map(|turn| &mut turn.prompt);
    running.chain(&mut turns.queue).chain(&mut turns.interrupted).collect()
}

fn ask(fleet: &Fleet, at: &mut At, step: Move) -> Ask {
    let sessions: Vec<&Arc<Session>> = fleet.sessions().collect();
    let named = |n: u8| format!("work-{}", n % 3).parse::<SessionId>().unwrap();
    let spec = Arc::new(some_spec(step.which));
    if sessions.is_empty() {
        return Ask::Create { id: None, spec };
    }
    let id = sessions[usize::from(step.which) % sessions.len()].id.clone();
    match step.what {
        0..10 if sessions.len() < 6 => Ask::Create { id: None, spec },
        0..10 => Ask::Create { id: Some(named(step.which)), spec },
        10..20 => Ask::Ensure { id: named(step.which), spec, given: Box::new(SessionOpts::default()) },
        20..40 if sessions.len() < 8 => {
            let parent = (step.which < 230).then_some(id);
            Ask::Subagent { parent, id: None, spec, task: "task".into(), wish: None }
        }
        40..50 => Ask::Stop(id, if step.wait & 1 == 0 { Orphans::Stop } else { Orphans::Keep }),
        50..65 => Ask::Remove(id),
        65..68 => {
            at.closing = false;
            let same_boot = step.which < 200;
            Ask::ManagerStarted { pid: 1, version: "v".into(), boot_id: "boot".into(), same_boot, lost: None }
        }
        68 => {
            at.closing = true;
            Ask::Shutdown
        }
        _ => {
            let session = sessions[usize::from(step.which) % sessions.len()];
            // The fleet alone starts, ends and counts.
            let one = Move { what: (step.wait >> 8) as u8, which: step.wait as u8, wait: step.wait };
            match input(session, &mut at.clone(), one) {
                Input::OpenTasks(_) | Input::Recovered { .. } | Input::Shutdown => Ask::One(id, Input::Tick),
                input => {
                    at.mono += u64::from(step.wait % 3_000);
                    Ask::One(id, input)
                }
            }
        }
    }
}
