//! Rules of a whole fleet that are about one situation each: families, ids, the manager's own start and end.

use std::collections::BTreeSet;
use std::sync::Arc;

use harness::sample::{self, AT, gone, id, identity, new_prompt, ready, session};
use manager::core::{
    Ask, At, Change, Command, Effect, Effects, Fleet, Goal, Input, Refusal, Reply, Seen, Session, Spec,
    State, Task, Why, limits,
};
use protocol::api::{Orphans, SessionOpts};
use protocol::event::{Disposition, Event, EventKind, Outcome, Refused, RefusedFor, RemovedBy, Timestamp};
use protocol::{Exit, Incarnation, PromptId, Restore, SessionId};

const CLOSING: At = At { closing: true, ..AT };

fn spec() -> Arc<Spec> {
    Arc::new(sample::spec())
}

fn ask(fleet: &mut Fleet, at: At, ask: &Ask) -> Change {
    let change = fleet.step(at, ask).unwrap_or_else(|refusal| panic!("{ask:?}: {refusal}"));
    drop(fleet.adopt(&change));
    change
}

fn create(fleet: &mut Fleet, name: Option<&str>) -> SessionId {
    let wish = Ask::Create { id: name.map(id), spec: spec() };
    match ask(fleet, AT, &wish).reply {
        Reply::Created(id) => id,
        other => panic!("{other:?}"),
    }
}

fn subagent(fleet: &mut Fleet, parent: Option<&str>, name: &str) -> Change {
    let wish = Ask::Subagent {
        parent: parent.map(id),
        id: Some(id(name)),
        spec: spec(),
        task: "task".into(),
        wish: None,
    };
    ask(fleet, AT, &wish)
}

/// A session with children, their children, and one that only stands beside them. The names sort against the tree.
fn family() -> Fleet {
    let mut fleet = Fleet::load([], [], 1, 1);
    create(&mut fleet, Some("m-root"));
    create(&mut fleet, Some("b-other"));
    subagent(&mut fleet, Some("m-root"), "z-child");
    subagent(&mut fleet, Some("z-child"), "a-grandchild");
    subagent(&mut fleet, Some("m-root"), "c-child");
    subagent(&mut fleet, Some("c-child"), "e-grandchild");
    subagent(&mut fleet, None, "d-background");
    fleet
}

fn names<'a>(sessions: impl IntoIterator<Item = &'a Arc<Session>>) -> Vec<&'a str> {
    sessions.into_iter().map(|session| session.id.as_str()).collect()
}

fn kinds(change: &Change) -> Vec<&EventKind> {
    change.events.iter().map(|event| &event.kind).collect()
}

#[test]
fn refused_access_is_recorded_in_no_sessions_history_also_while_the_manager_ends() {
    let fleet = family();
    let session = Some(id("b-other"));
    let (reason, operation) = (RefusedFor::Agent, Some("POST /v1/sessions/{id}/stop".to_owned()));
    let refused = Refused { reason, address: None, key: None, session, operation, count: 7 };
    for at in [AT, CLOSING] {
        let change = fleet.step(at, &Ask::AccessRefused(refused.clone())).unwrap();
        let [Event { session: None, incarnation: 0, kind: EventKind::AccessRefused(found), .. }] =
            &change.events[..]
        else {
            panic!("{:?}", change.events)
        };
        assert_eq!(*found, refused);
        assert!(change.sessions.is_empty() && change.effects.is_empty());
        assert!(!change.may_act_first() && !fleet.ends(&Ask::AccessRefused(refused.clone())), "it waits");
    }
}

#[test]
fn stopping_a_session_stops_all_below_it_and_nothing_else() {
    let fleet = family();
    let change = fleet.step(AT, &Ask::Stop(id("m-root"), Orphans::Stop)).unwrap();
    let tree = ["m-root", "c-child", "z-child", "e-grandchild", "a-grandchild"].map(id).to_vec();
    assert_eq!(change.reply, Reply::Stopping(tree.clone()));
    let stopped: BTreeSet<&SessionId> = change.sessions.iter().map(|session| &session.id).collect();
    assert_eq!(stopped, tree.iter().collect());
    assert!(change.sessions.iter().all(|session| session.goal == Goal::Down));

    let change = fleet.step(AT, &Ask::Stop(id("m-root"), Orphans::Keep)).unwrap();
    assert_eq!(change.reply, Reply::Stopping(vec![id("m-root")]));
    assert_eq!(names(&change.sessions), ["m-root"]);
    assert_eq!(
        fleet.step(AT, &Ask::Stop(id("nobody"), Orphans::Stop)).unwrap_err().code(),
        "no_such_session"
    );
}

#[test]
fn a_sub_agent_that_cannot_be_ended_does_not_keep_its_family_running() {
    let mut fleet = family();
    let child = id("c-child");
    let spawned = Input::Seen(1, Seen::Spawned(identity(100)));
    ask(&mut fleet, AT, &Ask::One(child.clone(), spawned));
    let survived = Seen::Gone { exit: Exit::Signal(9), last_words: Vec::new(), survivors: vec![500] };
    ask(&mut fleet, AT, &Ask::One(child.clone(), Input::Seen(1, survived)));
    assert!(
        matches!(&fleet.get(&child).unwrap().state, State::Failed(failure) if failure.survivors == [500])
    );

    let change = fleet.step(AT, &Ask::Stop(id("m-root"), Orphans::Stop)).unwrap();
    let stopping = ["m-root", "z-child", "e-grandchild", "a-grandchild"].map(id).to_vec();
    assert_eq!(change.reply, Reply::Stopping(stopping));
    assert_eq!(fleet.step(AT, &Ask::Stop(child, Orphans::Stop)).unwrap_err().code(), "unkillable");
}

#[test]
fn there_is_a_number_after_every_id_that_somebody_chose() {
    let mut fleet = Fleet::load([], [], 1, 1);
    create(&mut fleet, Some("session-18446744073709551615"));
    create(&mut fleet, Some("session-999999999999999999"));
    assert_eq!(create(&mut fleet, None).as_str(), "session-1000000000000000000");
    // That id is in use already.
    assert_eq!(create(&mut fleet, None).as_str(), "session-1000000000000000001");
}

#[test]
fn sub_agents_are_listed_oldest_first_whatever_they_are_called() {
    let fleet = family();
    assert_eq!(names(fleet.subagents(Some(&id("m-root")))), ["z-child", "c-child"]);
    assert_eq!(
        names(fleet.subagents(None)),
        ["z-child", "a-grandchild", "c-child", "e-grandchild", "d-background"]
    );
    assert!(fleet.subagents(Some(&id("b-other"))).is_empty());
}

#[test]
fn a_closing_manager_takes_no_wishes_but_the_one_to_stop() {
    let fleet = family();
    let (root, given) = (id("m-root"), Box::default());
    for wish in [
        Ask::Create { id: None, spec: spec() },
        Ask::Ensure { id: root.clone(), spec: spec(), given },
        Ask::Subagent { parent: None, id: None, spec: spec(), task: "task".into(), wish: None },
        Ask::Remove(root.clone()),
        Ask::One(root.clone(), Input::Command(new_prompt("text"))),
        Ask::One(root.clone(), Input::Command(Command::Up)),
    ] {
        assert_eq!(fleet.step(CLOSING, &wish), Err(Refusal::Closing), "{wish:?}");
    }
    assert!(fleet.step(CLOSING, &Ask::Stop(root.clone(), Orphans::Keep)).is_ok());
    assert!(fleet.step(CLOSING, &Ask::Shutdown).is_ok());
    // A fact is never refused.
    let (version, boot_id) = ("1.2.3".into(), "boot".into());
    let started = Ask::ManagerStarted { pid: 77, version, boot_id, same_boot: true, lost: None };
    assert!(fleet.step(CLOSING, &started).is_ok());
    let heard = fleet.step(CLOSING, &Ask::One(root, Input::Seen(1, Seen::Spawned(identity(100))))).unwrap();
    assert!(matches!(kinds(&heard)[..], [EventKind::SessionStarted { pid: 100 }]), "{:?}", heard.events);
}

#[test]
fn a_closing_manager_lets_time_pass_only_for_processes() {
    let due = At { mono: AT.mono + 60_000, ..CLOSING };
    let restarting = session("rests", State::Restarting { until: AT.mono });
    let stopping = State::Stopping {
        worker: Some(identity(100)),
        why: Why::Shutdown,
        kills: 0,
        deadline: AT.mono,
        give_up: AT.mono + limits::UNKILLABLE_MS,
    };
    let fleet = Fleet::load([restarting, session("leaves", stopping)], [], 1, 1);
    let change = fleet.step(due, &Ask::One(id("rests"), Input::Tick)).unwrap();
    assert!(change.sessions.is_empty() && change.effects.is_empty(), "{change:?}");
    let change = fleet.step(due, &Ask::One(id("leaves"), Input::Tick)).unwrap();
    assert_eq!(change.effects, [(id("leaves"), Effect::Kill { incarnation: 1, round: 1 })]);
}

#[test]
fn a_shutdown_says_so_and_ends_every_process() {
    let fleet = family();
    let change = fleet.step(CLOSING, &Ask::Shutdown).unwrap();
    assert!(matches!(kinds(&change)[..], [EventKind::ManagerStopping {}]), "{:?}", change.events);
    assert_eq!(names(&change.sessions), names(fleet.sessions()));
    for session in &change.sessions {
        assert!(matches!(session.state, State::Stopping { why: Why::Shutdown, .. }), "{:?}", session.state);
        assert_eq!(session.goal, Goal::Up);
    }
}

/// Whole events, with their ids, times and incarnations: what is recorded is what is promised to readers.
#[test]
fn a_sub_agents_life_is_told_to_its_parent_in_whole_events() {
    let spec = Arc::new(Spec {
        title: Some("a title".into()),
        model: Some("a model".into()),
        workdir: "/work".into(),
        ..sample::spec()
    });
    let mut fleet = Fleet::load([], [(id("parent"), 6)], 1, 40);
    let (parent, child) = (id("parent"), SessionId::numbered(1));
    let received = |id, session: &SessionId, incarnation, kind| {
        let (at, session) = (Timestamp(AT.wall), Some(session.clone()));
        Event { id, at, session, incarnation, kind }
    };
    let created = |name: &str, parent| EventKind::SessionCreated {
        name: name.parse().ok(),
        labels: Default::default(),
        agent: "shell".into(),
        workdir: "/work".into(),
        title: Some("a title".into()),
        model: Some("a model".into()),
        parent,
        started_by: None,
        forked_from: None,
        conversation: None,
        told: Vec::new(),
    };
    let wish = Ask::Ensure { id: parent.clone(), spec: spec.clone(), given: Box::default() };
    let change = ask(&mut fleet, AT, &wish);
    assert_eq!(change.events, [received(40, &parent, 7, created("parent", None))]);
    assert_eq!((change.revived, fleet.retired().len()), (Some(parent.clone()), 0));
    // An id that comes back goes on counting, and lets go of what its predecessor left.
    let spawn = [Effect::Release { incarnation: 6 }, Effect::Spawn { incarnation: 7 }];
    assert_eq!(change.effects, spawn.map(|effect| (parent.clone(), effect)));
    let task: Arc<str> = "look it up".into();
    let wish = Ask::Subagent { parent: Some(parent.clone()), id: None, spec, task: task.clone(), wish: None };
    let change = ask(&mut fleet, AT, &wish);
    assert_eq!(change.reply, Reply::Created(child.clone()));
    let accepted = PromptId(42);
    let (child_of, model) = (child.clone(), Some("a model".into()));
    let started = EventKind::SubagentStarted { child: child_of, task: task.to_string(), model };
    let (prompt_id, text, attachments) = (accepted, task.to_string(), Vec::new());
    let (disposition, retry_of) = (Disposition::Queued, None);
    let told_of = EventKind::PromptAccepted { prompt_id, text, disposition, retry_of, attachments };
    assert_eq!(
        change.events,
        [
            received(41, &child, 1, created("work", Some(parent.clone()))),
            received(42, &child, 1, told_of),
            received(43, &child, 1, EventKind::PromptQueued { prompt_id, position: 0 }),
            received(44, &parent, 7, started),
        ]
    );
    assert_eq!(change.effects, [(child.clone(), Effect::Spawn { incarnation: 1 })]);
    let session = fleet.get(&child).unwrap();
    assert_eq!(session.task, Some(Task { prompt: accepted, text: task, open: true }));
    assert_eq!((session.parent.as_ref(), session.created_at), (Some(&parent), AT.wall));
    assert_eq!(fleet.get(&parent).unwrap().open_tasks, 1);

    let removed = Ask::One(child.clone(), Input::Command(Command::Remove(accepted)));
    let change = ask(&mut fleet, AT, &removed);
    let completed = EventKind::SubagentCompleted { child: child.clone(), outcome: Outcome::Aborted };
    let reason = RemovedBy::Removed;
    assert_eq!(
        change.events,
        [
            received(45, &child, 1, EventKind::PromptRemoved { prompt_id: accepted, reason }),
            received(46, &parent, 7, completed),
        ]
    );
    assert_eq!(fleet.get(&parent).unwrap().open_tasks, 0);
    assert_eq!(fleet.get(&child).unwrap().task.as_ref().map(|task| task.open), Some(false));
    // A prompt after the task is part of no task.
    ask(&mut fleet, AT, &Ask::One(child.clone(), Input::Command(new_prompt("more"))));
    let change = ask(&mut fleet, AT, &Ask::One(child.clone(), Input::Command(Command::Clear)));
    assert!(matches!(kinds(&change)[..], [EventKind::PromptRemoved { .. }]), "{:?}", change.events);
}

#[test]
fn a_sub_agent_that_fails_with_its_task_open_is_told_as_lost_and_not_again() {
    let mut fleet = family();
    let child = id("z-child");
    let fails = Seen::Gone { exit: Exit::Signal(9), last_words: Vec::new(), survivors: vec![500] };
    for seen in [Seen::Spawned(identity(100)), fails] {
        ask(&mut fleet, AT, &Ask::One(child.clone(), Input::Seen(1, seen)));
    }
    let session = fleet.get(&child).unwrap();
    let State::Failed(failure) = &session.state else { panic!("{:?}", session.state) };
    assert_eq!(session.turns.queue.len(), 1, "the task waits for a restart by hand");
    assert_eq!(session.task.as_ref().map(|task| task.open), Some(false));
    assert_eq!(fleet.get(&id("m-root")).unwrap().open_tasks, 1);
    assert!(failure.reason.contains("500"), "{}", failure.reason);
    for input in [Input::Seen(1, gone(Exit::Signal(9))), Input::Command(Command::Clear)] {
        let change = ask(&mut fleet, AT, &Ask::One(child.clone(), input));
        let again = |kind: &&EventKind| {
            matches!(kind, EventKind::SubagentLost { .. } | EventKind::SubagentCompleted { .. })
        };
        assert!(!kinds(&change).iter().any(again), "{:?}", change.events);
    }
}

#[test]
fn a_background_sub_agent_and_an_orphan_hear_of_themselves() {
    let mut fleet = family();
    let listener = |change: &Change| {
        let received = |event: &&Event| matches!(event.kind, EventKind::SubagentCompleted { .. });
        change
            .events
            .iter()
            .find(|event| received(event))
            .map(|event| (event.session.clone(), event.incarnation))
    };
    let clear = |name| Ask::One(id(name), Input::Command(Command::Clear));
    let change = ask(&mut fleet, AT, &clear("d-background"));
    assert_eq!(listener(&change), Some((Some(id("d-background")), 1)));
    ask(&mut fleet, AT, &Ask::Stop(id("m-root"), Orphans::Keep));
    let seen = Seen::SpawnFailed { error: "no".into(), no_room: false };
    ask(&mut fleet, AT, &Ask::One(id("m-root"), Input::Seen(1, seen)));
    ask(&mut fleet, AT, &Ask::Remove(id("m-root")));
    let change = ask(&mut fleet, AT, &clear("c-child"));
    assert_eq!(listener(&change), Some((Some(id("c-child")), 1)));
    assert_eq!(names(&change.sessions), ["c-child"]);
}

#[test]
fn what_is_said_of_a_process_bears_its_incarnation() {
    let mut session = session("s", ready());
    session.incarnation = 4;
    let mut fleet = Fleet::load([session], [], 1, 1);
    let incarnations = |change: &Change| -> Vec<(&'static str, Incarnation)> {
        change.events.iter().map(|event| (event.kind.name(), event.incarnation)).collect()
    };
    // One step reports the end of the fourth process and begins the fifth.
    let change = ask(&mut fleet, AT, &Ask::One(id("s"), Input::Seen(4, gone(Exit::Signal(9)))));
    assert_eq!(incarnations(&change), [("session.restarting", 4)]);
    assert_eq!(fleet.get(&id("s")).unwrap().incarnation, 5);
    let change = ask(&mut fleet, AT, &Ask::One(id("s"), Input::Seen(5, Seen::Spawned(identity(101)))));
    assert_eq!(incarnations(&change), [("session.started", 5)]);
}

#[test]
fn ids_are_taken_retired_and_never_generated_twice() {
    let mut fleet = Fleet::load([], [(SessionId::numbered(4), 2)], 5, 1);
    assert_eq!(create(&mut fleet, None), SessionId::numbered(5));
    // An id chosen by hand that looks generated moves the counter past it.
    create(&mut fleet, Some("session-9"));
    assert_eq!((fleet.next_number(), create(&mut fleet, None)), (10, SessionId::numbered(10)));
    create(&mut fleet, Some("session-2"));
    assert_eq!(fleet.next_number(), 11);
    let refused = |id: &SessionId| fleet.step(AT, &Ask::Create { id: Some(id.clone()), spec: spec() });
    let (taken, retired) = (SessionId::numbered(9), SessionId::numbered(4));
    assert_eq!(refused(&taken), Err(Refusal::IdTaken(taken)));
    assert_eq!(refused(&retired), Err(Refusal::IdRetired(retired)));
}

#[test]
fn an_ensured_session_is_what_was_asked_for_or_a_refusal_says_what_differs() {
    let fleet = Fleet::load([session("s", State::Hibernated)], [], 1, 1);
    let ensure = |given| fleet.step(AT, &Ask::Ensure { id: id("s"), spec: spec(), given: Box::new(given) });
    let change = ensure(SessionOpts { agent: Some("shell".into()), ..SessionOpts::default() }).unwrap();
    assert_eq!(change.reply, Reply::Existing(id("s")));
    assert!(matches!(change.sessions[0].state, State::Starting { .. }), "{:?}", change.sessions[0].state);
    let refusal = ensure(SessionOpts { agent: Some("claude".into()), ..SessionOpts::default() }).unwrap_err();
    assert_eq!(refusal, Refusal::SpecMismatch { id: id("s"), fields: vec!["agent"] });
}

#[test]
fn a_removed_session_leaves_its_number_and_nothing_else() {
    let mut stopped = session("s", State::Stopped);
    stopped.incarnation = 3;
    let mut fleet = Fleet::load([stopped, session("lives", ready())], [], 1, 1);
    assert_eq!(fleet.step(AT, &Ask::Remove(id("lives"))), Err(Refusal::NotStopped(id("lives"))));
    let change = ask(&mut fleet, AT, &Ask::Remove(id("s")));
    assert_eq!(change.removed, Some((id("s"), 3)));
    assert!(change.sessions.is_empty(), "{:?}", change.sessions);
    let last = change.events.last().unwrap();
    assert_eq!((last.session.as_ref(), last.incarnation), (Some(&id("s")), 3));
    assert_eq!(last.kind, EventKind::SessionDeleted {});
    assert_eq!(fleet.retired().iter().collect::<Vec<_>>(), [(&id("s"), &3)]);
    assert!(fleet.get(&id("s")).is_none());
    // Late observations have no effect; a late command has its event.
    let late = ask(&mut fleet, AT, &Ask::One(id("s"), Input::Seen(3, gone(Exit::Code(0)))));
    assert_eq!((late.events.len(), late.reply), (0, Reply::Done));
    let wish = Ask::One(id("s"), Input::Command(Command::Up));
    assert_eq!(fleet.step(AT, &wish), Err(Refusal::NoSuchSession("s".into())));
    for wish in [Ask::Remove(id("s")), Ask::Stop(id("s"), Orphans::Keep)] {
        assert_eq!(fleet.step(AT, &wish), Err(Refusal::NoSuchSession("s".into())));
    }
    let orphan =
        Ask::Subagent { parent: Some(id("s")), id: None, spec: spec(), task: "task".into(), wish: None };
    assert_eq!(fleet.step(AT, &orphan), Err(Refusal::NoSuchSession("s".into())));
}

#[test]
fn a_manager_that_starts_wants_all_that_any_session_wants() {
    let mut running = session("runs", State::Hibernated);
    running.incarnation = 2;
    let waits = session("waits", State::Starting { worker: None, deadline: AT.mono });
    let fleet = Fleet::load([running, waits, session("lives", ready())], [], 1, 10);
    let start = |same_boot| {
        let (version, boot_id) = ("1.2.3".into(), "this boot".into());
        fleet.step(AT, &Ask::ManagerStarted { pid: 77, version, boot_id, same_boot, lost: None }).unwrap()
    };
    let change = start(true);
    let (version, boot_id) = ("1.2.3".into(), "this boot".into());
    let started = EventKind::ManagerStarted { pid: 77, version, boot_id };
    let (at, id_of_first) = (Timestamp(AT.wall), 10);
    assert_eq!(change.events, [Event { id: id_of_first, at, session: None, incarnation: 0, kind: started }]);
    assert_eq!(
        change.effects,
        [
            (id("lives"), Effect::Reclaim { incarnation: 1, worker: identity(100) }),
            (id("runs"), Effect::Release { incarnation: 2 }),
            (id("waits"), Effect::Release { incarnation: 1 }),
            (id("waits"), Effect::Spawn { incarnation: 2 }),
        ]
    );
    // Ids of events that a power cut took back are not used again.
    assert_eq!(start(false).events[0].id, 10 + (1 << 20));
}

#[test]
fn an_empty_journal_counts_from_one() {
    let fleet = Fleet::load([], [], 0, 0);
    assert_eq!((fleet.next_number(), fleet.next_event()), (1, 1));
    assert!(fleet.retired().is_empty() && fleet.sessions().next().is_none());
}

#[test]
fn a_change_whose_commit_failed_is_taken_back_whole() {
    let stopped = session("stopped", State::Stopped);
    let mut fleet = Fleet::load([stopped, session("lives", ready())], [(id("retired"), 3)], 1, 1);
    for wish in [
        Ask::Create { id: None, spec: spec() },
        Ask::Ensure { id: id("retired"), spec: spec(), given: Box::default() },
        Ask::Subagent { parent: Some(id("lives")), id: None, spec: spec(), task: "task".into(), wish: None },
        Ask::Stop(id("lives"), Orphans::Stop),
        Ask::Remove(id("stopped")),
        Ask::Shutdown,
    ] {
        let before = fleet.clone();
        let change = fleet.step(AT, &wish).unwrap();
        let undo = fleet.adopt(&change);
        assert_ne!(fleet, before, "{wish:?}");
        fleet.take_back(undo);
        assert_eq!(fleet, before, "{wish:?}");
    }
}

#[test]
fn only_what_ends_something_goes_on_without_room_and_only_signals_go_before_the_record() {
    let mut fleet = Fleet::load([], [], 1, 1);
    create(&mut fleet, Some("s"));
    ask(&mut fleet, AT, &Ask::One(id("s"), Input::Seen(1, Seen::Spawned(identity(7)))));
    let ready = Seen::Ready { restore: Restore::Fresh, agent_pid: None };
    ask(&mut fleet, AT, &Ask::One(id("s"), Input::Seen(1, ready)));
    let stop = Ask::Stop(id("s"), Orphans::Stop);
    let output = Ask::One(id("s"), Input::Seen(1, Seen::Heard(1)));
    let prompt = Ask::One(id("s"), Input::Command(new_prompt("a")));
    let started = Ask::Create { id: None, spec: spec() };
    assert!(fleet.ends(&stop) && fleet.ends(&Ask::Shutdown) && fleet.ends(&Ask::Remove(id("s"))));
    assert!(!fleet.ends(&output) && !fleet.ends(&prompt) && !fleet.ends(&started));
    assert!(!fleet.step(AT, &prompt).unwrap().may_act_first());
    assert!(!fleet.step(AT, &started).unwrap().may_act_first());
    let change = ask(&mut fleet, AT, &stop);
    assert!(change.may_act_first(), "{change:?}");
    // From here on all messages of its process belong to its end.
    assert!(fleet.ends(&output) && !fleet.ends(&prompt));
    let deadline = fleet.get(&id("s")).unwrap().deadline().unwrap();
    let killed = fleet.step(At { mono: deadline, ..AT }, &Ask::One(id("s"), Input::Tick)).unwrap();
    assert!(killed.may_act_first(), "{killed:?}");
    // A process that has ended is not let go before that is on record.
    let gone = fleet.step(AT, &Ask::One(id("s"), Input::Seen(1, gone(Exit::Code(0))))).unwrap();
    assert!(!gone.may_act_first(), "{gone:?}");
}

#[test]
fn effects_outside_of_the_machine_wait_for_the_sync_and_a_session_keeps_the_order_of_its_own() {
    let mut fleet = Fleet::load([], [], 1, 1);
    let change = |fleet: &mut Fleet, name: &str, effects: &[Effect]| {
        let wish = Ask::Create { id: Some(id(name)), spec: spec() };
        let effects = effects.iter().map(|effect| (id(name), effect.clone())).collect();
        Change { effects, ..ask(fleet, AT, &wish) }
    };
    let [spawn, welcome] = [Effect::Spawn { incarnation: 1 }, Effect::Welcome { incarnation: 1 }];
    let [deliver, end] =
        [Effect::Deliver { incarnation: 1, prompt: PromptId(1) }, Effect::Terminate { incarnation: 1 }];
    let changes = [
        change(&mut fleet, "a", std::slice::from_ref(&spawn)),
        change(&mut fleet, "b", &[welcome.clone(), deliver.clone(), end.clone()]),
        change(&mut fleet, "c", std::slice::from_ref(&end)),
    ];
    let of = |effects: &[(SessionId, Effect)]| -> Vec<(String, Effect)> {
        effects.iter().map(|(id, effect)| (id.to_string(), effect.clone())).collect()
    };
    let Effects { written, synced } = Effects::of(&changes);
    let named = |name: &str, effect: &Effect| (name.to_owned(), effect.clone());
    assert_eq!(of(&written), [named("a", &spawn), named("b", &welcome), named("c", &end)]);
    assert_eq!(of(&synced), [named("b", &deliver), named("b", &end)]);
}
