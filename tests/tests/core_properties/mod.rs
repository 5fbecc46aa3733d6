//! Properties of the core under any inputs, in any order.

mod bounds;
mod moves;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use harness::{names, sample, scopes};
use manager::core::{
    Ask, At, Command, Edit, Effect, Fleet, Goal, Input, Phase, Prompt, Reply, Scope, Seen, Session, State,
    Was, Why, limits,
};
use proptest::prelude::*;
use protocol::api::{Orphans, SessionOpts};
use protocol::event::{EventKind, Refused, RefusedFor};
use protocol::wire::TurnEnd;
use protocol::{EventId, Exit, KeyId, PromptId, SessionId, Stream};

use moves::{AHEAD, Move, input, moves, seen, some_spec, walk};

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
            let received = |effect: &Effect| matches!(effect, Effect::Answer { .. }) && !before.contains(effect);
            // By the next manager, where its worker is not taken over yet.
            let linked = Input::Seen(step.after.incarnation, Seen::Linked { outdated: false });
            let adopted = step.after.step(At { closing: false, ..step.at }, 1, &linked).unwrap().next;
            let mut effects = step.after.effects().into_iter().chain(adopted.effects());
            prop_assert!(!resolved || effects.any(|effect| received(&effect)), "{:?}", step.after.state);
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
        let mut received: BTreeMap<(SessionId, u64), u32> = BTreeMap::new();
        for step in &moves {
            let before = fleet.clone();
            let ask = ask(&fleet, &mut at, *step);
            let result = fleet.step(at, &ask);
            prop_assert_eq!(scopes::broken(&fleet, &ask, &result), None);
            let change = match result {
                Ok(change) => change,
                Err(refusal) => {
                    let wish = !matches!(&ask, Ask::One(_, input) if !matches!(input, Input::Command(_)));
                    prop_assert!(wish && !matches!(ask, Ask::ManagerStarted { .. } | Ask::Shutdown | Ask::AccessRefused(_)), "{ask:?}: {refusal}");
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
                    let times = received.entry((child.clone(), birth)).or_default();
                    *times += 1;
                    prop_assert_eq!(*times, 1, "the end of {} was told before", child);
                }
            }
            prop_assert!(change.next_event > last);
            let undo = fleet.adopt(&change);
            prop_assert_eq!(names::broken(&fleet), None);
            for id in fleet.retired().keys() {
                prop_assert!(fleet.get(id).is_none(), "{} is retired and lives", id);
            }
            let sessions: Vec<Session> = fleet.sessions().map(|session| (**session).clone()).collect();
            let loaded = Fleet::load(sessions, fleet.retired().clone(), fleet.next_number(), fleet.next_event());
            prop_assert_eq!(&loaded, &fleet, "the fleet shows less of itself than it is");
            let moves = |session: &&Arc<Session>| {
                use State::{Adopting, Restarting, Starting, Stopping};
                matches!(session.state, Starting { .. } | Stopping { .. } | Restarting { .. } | Adopting { .. })
            };
            prop_assert_eq!(fleet.is_in_motion(), fleet.sessions().any(|session| moves(&session)));
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

fn prompts(session: &mut Session) -> Vec<&mut Prompt> {
    let turns = &mut session.turns;
    let running = turns.running.iter_mut().map(|turn| &mut turn.prompt);
    running.chain(&mut turns.queue).chain(&mut turns.interrupted).collect()
}

/// The same, or with a key.
fn ask(fleet: &Fleet, at: &mut At, step: Move) -> Ask {
    let ask = plain(fleet, at, step);
    use Ask::*;
    let starts = matches!(ask, Create { .. } | Ensure { .. } | Fork(_) | Subagent { .. } | Edit(..));
    if !starts || step.wait & 2 == 0 {
        return ask;
    }
    let key = KeyId(u64::from(step.wait >> 2 & 1) + 1);
    let some = fleet.sessions().step_by(2).map(|session| session.id.clone());
    let scope = match step.wait >> 3 & 3 {
        0 => Scope::All,
        1 => Scope::Ids(Arc::new(some.collect())),
        2 => Scope::Labels(Arc::new([("team".to_owned(), "web".to_owned())].into())),
        _ => Scope::Own(key),
    };
    Ask::ByKey { key, scope, ask: Box::new(ask) }
}

fn plain(fleet: &Fleet, at: &mut At, step: Move) -> Ask {
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
        20..36 if sessions.len() < 8 => {
            let parent = (step.which < 230).then_some(id);
            Ask::Subagent { parent, id: None, spec, task: "task".into(), wish: None }
        }
        36..40 if sessions.len() < 8 => sample::fork(id, u64::from(step.wait & 3), true),
        40..50 => Ask::Stop(id, if step.wait & 1 == 0 { Orphans::Stop } else { Orphans::Keep }),
        50..62 => Ask::Remove(id),
        62..65 => {
            let reason = RefusedFor::ALL[usize::from(step.which) % RefusedFor::ALL.len()];
            let (address, key, operation) = (None, None, None);
            let count = u64::from(step.wait);
            Ask::AccessRefused(Refused { reason, address, key, session: Some(id), operation, count })
        }
        65..68 => {
            at.closing = false;
            let same_boot = step.which < 200;
            Ask::ManagerStarted { pid: 1, version: "v".into(), boot_id: "boot".into(), same_boot, lost: None }
        }
        69..76 => {
            let names = ["web", "web-2", "root", "work-0", "work-3"];
            let name = names[usize::from(step.which) % names.len()].parse().ok();
            let team = ["web", "api"].get(usize::from(step.wait) % 3).map(|team| (*team).to_owned());
            let labels =
                if step.wait & 64 == 0 { [("team".to_owned(), team)].into() } else { BTreeMap::new() };
            Ask::Edit(id, Edit { name, labels, ..Edit::default() })
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
