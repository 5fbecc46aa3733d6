//! The library on real processes: a manager inside the test, workers and agents outside.

use std::time::Duration;

use harness::real::*;
use manager::protocol::api::*;
use manager::protocol::event::{EventKind, Outcome, Resolution};
use manager::protocol::{Exit, Restore, SessionId, Stream};
use manager::{Error, SessionManager, WaitFor};
use nix::sys::signal::Signal;

fn code(error: &Error) -> &'static str {
    error.code()
}

fn is_restarted(kind: &EventKind) -> bool {
    matches!(kind, EventKind::SessionRestarted { .. })
}

#[tokio::test]
async fn a_session_has_a_process_of_its_own_and_maps_both_ways() {
    let host = Host::new().await;
    let info = host.manager.start_session(host.opts(), None).await.unwrap();
    assert_eq!(info.id.as_str(), "session-1");
    let pid = info.pid.unwrap();
    assert_eq!(std::fs::read_link(format!("/proc/{pid}/exe")).unwrap(), *worker());
    assert_eq!(host.manager.session_id_for_pid(pid).await.unwrap(), info.id);
    let other = host.manager.start_session(host.opts(), None).await.unwrap();
    assert_ne!(other.pid, info.pid);
    let listed: Vec<_> =
        host.manager.list_sessions().await.unwrap().into_iter().map(|info| info.id).collect();
    assert_eq!(listed, [info.id, other.id]);
    assert_eq!(code(&host.manager.session_id_for_pid(1).await.unwrap_err()), "no_such_pid");
    host.manager.shutdown().await;
    assert!(!lives(pid));
}

#[tokio::test]
async fn a_prompt_streams_both_outputs_apart_and_tells_the_exit_status() {
    let host = Host::new().await;
    let id = host.session().await;
    let prompt = host.send(&id, "echo out; echo err >&2; pwd; exit 3").await;
    let EventKind::TurnCompleted { outcome, exit, stop_reason, .. } = host.end_of(&id, prompt).await else {
        panic!("not completed")
    };
    assert_eq!((outcome, exit, stop_reason.as_str()), (Outcome::Completed, Some(Exit::Code(3)), "end_turn"));
    let here = host.dir.path().canonicalize().unwrap();
    assert_eq!(host.printed(&id, prompt).await, format!("out\n{}\n", here.display()));
    let said_beside = |kind: &EventKind| matches!(kind, EventKind::MessageChunk { stream: Stream::Stderr, text, .. } if text == "err\n");
    assert!(host.events(&id).await.iter().any(|event| said_beside(&event.kind)));
    let info = host.manager.get_session(&id).await.unwrap();
    assert_eq!((info.message_count, info.turn_count), (2, 1));
    assert!(info.first_prompt.unwrap().starts_with("echo out"));
    host.manager.shutdown().await;
}

#[tokio::test]
async fn kill_worker_idle_brings_the_session_back_under_its_id() {
    let host = Host::new().await;
    let id = host.session().await;
    assert_eq!(host.run(&id, "echo before").await, "before\n");
    let token = host.manager.session_token(&id).await.unwrap();
    let old = host.pid(&id).await;
    kill(old);
    let restarted = host.event(&id, "the restart", is_restarted).await;
    let EventKind::SessionRestarted { old_pid, new_pid, reason, restore } = restarted.kind else { panic!() };
    assert_eq!((old_pid, restore), (Some(old), Restore::Fresh));
    assert_ne!(new_pid, old);
    assert!(reason.contains("SIGKILL"), "{reason}");
    let info = host.manager.get_session(&id).await.unwrap();
    assert_eq!((info.pid, info.incarnation, info.restarts.in_window), (Some(new_pid), 2, 1));
    assert_eq!(info.restarts.last_pid, Some(old));
    assert_eq!(code(&host.manager.session_id_for_pid(old).await.unwrap_err()), "no_such_pid");
    assert_eq!(host.manager.session_token(&id).await.unwrap(), token);
    assert_eq!(host.run(&id, "echo after").await, "after\n");
    host.manager.shutdown().await;
}

#[tokio::test]
async fn kill_worker_mid_turn_ends_turn_as_interrupted_and_the_queue_goes_on() {
    let host = Host::new().await;
    let id = host.session().await;
    let cut = host.send(&id, "echo begun; exec sleep 1000").await;
    let queued = host.send(&id, "echo next").await;
    host.event(&id, "the first words", |kind| matches!(kind, EventKind::MessageChunk { .. })).await;
    let agent = host.manager.get_session(&id).await.unwrap().agent_pid.unwrap();
    kill(host.pid(&id).await);
    assert!(matches!(host.end_of(&id, cut).await, EventKind::TurnInterrupted { .. }));
    assert_eq!(host.printed(&id, cut).await, "begun\n");
    host.end_of(&id, queued).await;
    assert_eq!(host.printed(&id, queued).await, "next\n");
    assert!(!lives(agent), "the agent outlived its worker");
    let queue = host.manager.queue(&id).await.unwrap();
    assert_eq!((queue.len(), queue[0].prompt_id, queue[0].state), (1, cut, PromptState::Interrupted));
    host.manager.shutdown().await;
}

#[tokio::test]
async fn an_interrupted_prompt_runs_again_only_when_somebody_says_so() {
    let host = Host::new().await;
    let id = host.session().await;
    let flag = host.dir.path().join("flag");
    let text = format!("test -e {0} && echo again && exit; touch {0}; exec sleep 1000", flag.display());
    let cut = host.send(&id, &text).await;
    until("the side effect", || flag.exists().then_some(()));
    kill(host.pid(&id).await);
    host.end_of(&id, cut).await;
    let resolved = host.manager.resolve_prompt(cut, Resolution::Retry).await.unwrap();
    let again = resolved.retried_as.unwrap();
    host.end_of(&id, again).await;
    assert_eq!(host.printed(&id, again).await, "again\n");
    let twice = host.manager.resolve_prompt(cut, Resolution::Drop).await.unwrap_err();
    assert_eq!(code(&twice), "not_interrupted");
    host.manager.shutdown().await;
}

#[tokio::test]
async fn on_crash_retry_gives_the_prompt_to_the_restored_agent() {
    let host = Host::new().await;
    let id = host.session_with(SessionOpts { on_crash: Some(OnCrash::Retry), ..host.opts() }).await;
    let flag = host.dir.path().join("flag");
    let text = format!("test -e {0} && echo again && exit; touch {0}; exec sleep 1000", flag.display());
    let prompt = host.send(&id, &text).await;
    until("the side effect", || flag.exists().then_some(()));
    kill(host.pid(&id).await);
    assert!(matches!(host.end_of(&id, prompt).await, EventKind::TurnCompleted { .. }));
    assert_eq!(host.printed(&id, prompt).await, "again\n");
    host.manager.shutdown().await;
}

#[tokio::test]
async fn kill_what_runs_below_a_worker_ends_the_turn_and_not_the_session() {
    let host = Host::new().await;
    let id = host.session().await;
    let pid = host.pid(&id).await;
    let prompt = host.send(&id, "echo begun; sleep 1000; echo not killed").await;
    host.event(&id, "the first words", |kind| matches!(kind, EventKind::MessageChunk { .. })).await;
    kill(host.manager.get_session(&id).await.unwrap().agent_pid.unwrap());
    let EventKind::TurnCompleted { exit, .. } = host.end_of(&id, prompt).await else {
        panic!("not completed")
    };
    assert_eq!(exit, Some(Exit::Signal(9)));
    assert_eq!(host.pid(&id).await, pid);
    assert_eq!(host.run(&id, "echo alive").await, "alive\n");
    host.manager.shutdown().await;
}

/// A process that has left its session and process group, ignores every polite signal and outlives its parent.
const ESCAPEE: &str = r#"setsid sh -c 'trap "" TERM HUP INT; sleep 1000 & echo $!; wait' & sleep 1000"#;

async fn escapee(host: &Host, id: &SessionId) -> u32 {
    host.send(id, ESCAPEE).await;
    let words = host.event(id, "its pid", |kind| matches!(kind, EventKind::MessageChunk { .. })).await;
    let EventKind::MessageChunk { text, .. } = words.kind else { panic!() };
    outside(host.pid(id).await, text.trim().parse().unwrap())
}

#[tokio::test]
async fn kill_worker_leaves_no_escapee_behind() {
    let host = Host::new().await;
    let id = host.session().await;
    let escapee = escapee(&host, &id).await;
    let worker = host.pid(&id).await;
    let uuid = uuid(worker);
    assert!(lives(escapee));
    kill(worker);
    host.event(&id, "the restart", is_restarted).await;
    assert!(!lives(escapee), "the escapee outlived its worker");
    assert_eq!(marked(&uuid), [host.pid(&id).await], "only the new worker carries the marker");
    host.manager.shutdown().await;
}

#[tokio::test]
async fn stop_answers_after_the_whole_tree_is_gone() {
    let host = Host::new().await;
    let id = host.session_with(SessionOpts { grace_ms: Some(100), ..host.opts() }).await;
    let escapee = escapee(&host, &id).await;
    let queued = host.send(&id, "echo never").await;
    let pid = host.pid(&id).await;
    let uuid = uuid(pid);
    let info = host.manager.stop_session_by_pid(pid, Orphans::Stop).await.unwrap();
    assert_eq!((info.id, info.status, info.pid), (id.clone(), Status::Stopped, None));
    assert!(!lives(pid) && !lives(escapee), "something outlived its session");
    assert!(marked(&uuid).is_empty(), "{:?}", marked(&uuid));
    assert!(matches!(host.end_of(&id, queued).await, EventKind::PromptRemoved { .. }));
    let refused = host.manager.send_prompt(&id, prompt("echo"), None).await.unwrap_err();
    assert_eq!(code(&refused), "session_stopped");
    host.manager.stop_session(&id, Orphans::Stop).await.unwrap();
    host.manager.shutdown().await;
}

#[tokio::test]
async fn a_stopped_worker_is_killed_and_its_session_stops() {
    let host = Host::new().await;
    let id = host.session_with(SessionOpts { grace_ms: Some(0), ..host.opts() }).await;
    let pid = host.pid(&id).await;
    signal(pid, Signal::SIGSTOP);
    let other = host.session().await;
    assert_eq!(host.run(&other, "echo unaffected").await, "unaffected\n");
    host.manager.stop_session(&id, Orphans::Stop).await.unwrap();
    assert!(!lives(pid));
    host.manager.shutdown().await;
}

#[tokio::test]
async fn abort_ends_the_turn_and_all_of_its_processes_and_nothing_else() {
    let host = Host::new().await;
    let id = host.session_with(SessionOpts { grace_ms: Some(100), ..host.opts() }).await;
    assert_eq!(code(&host.manager.abort(&id).await.unwrap_err()), "no_turn");
    let pid = host.pid(&id).await;
    let escapee = escapee(&host, &id).await;
    let next = host.send(&id, "echo next").await;
    let aborted = host.manager.abort(&id).await.unwrap();
    let EventKind::TurnCompleted { outcome, .. } = host.end_of(&id, aborted.prompt_id).await else {
        panic!()
    };
    assert_eq!(outcome, Outcome::Aborted);
    assert!(!lives(escapee));
    host.end_of(&id, next).await;
    assert_eq!(host.printed(&id, next).await, "next\n");
    assert_eq!(host.pid(&id).await, pid);
    host.manager.shutdown().await;
}

#[tokio::test]
async fn numbers_are_never_used_again() {
    let host = Host::new().await;
    let first = host.session().await;
    host.manager.remove_session(&first, true).await.unwrap();
    let second = host.session().await;
    assert_eq!(second.as_str(), "session-2");
    let chosen = SessionOpts { id: Some("session-7".into()), ..host.opts() };
    host.session_with(chosen.clone()).await;
    assert_eq!(code(&host.manager.start_session(chosen, None).await.unwrap_err()), "id_taken");
    let host = host.restarted().await;
    assert_eq!(host.session().await.as_str(), "session-8");
    let removed = SessionOpts { id: Some("session-1".into()), ..host.opts() };
    assert_eq!(code(&host.manager.start_session(removed, None).await.unwrap_err()), "id_retired");
    host.manager.shutdown().await;
}

#[tokio::test]
async fn start_or_get_gives_the_same_session_whatever_became_of_it() {
    let host = Host::new().await;
    let id = SessionManager::stable_session_id_for_workdir(host.dir.path()).unwrap();
    let get = async |opts: SessionOpts| host.manager.start_or_get_session(id.as_str(), opts, BOUND).await;
    let first = get(host.opts()).await.unwrap();
    assert_eq!(first.status, Status::Idle);
    assert_eq!(get(SessionOpts::default()).await.unwrap().pid, first.pid);
    let differing = SessionOpts { title: Some("other".into()), ..host.opts() };
    assert_eq!(code(&get(differing).await.unwrap_err()), "spec_mismatch");
    kill(first.pid.unwrap());
    host.event(&id, "the restart", is_restarted).await;
    let second = get(host.opts()).await.unwrap();
    assert_eq!((second.id.clone(), second.incarnation), (id.clone(), 2));
    host.manager.stop_session(&id, Orphans::Stop).await.unwrap();
    let third = get(host.opts()).await.unwrap();
    assert_eq!((third.status, third.incarnation), (Status::Idle, 3));
    host.manager.remove_session(&id, true).await.unwrap();
    let anew = get(host.opts()).await.unwrap();
    assert_eq!((anew.incarnation, anew.turn_count), (4, 0));
    host.manager.shutdown().await;
}

#[tokio::test]
async fn an_idle_session_hibernates_and_a_prompt_wakes_it() {
    let host = Host::new().await;
    let opts = SessionOpts { hibernate_after_ms: Some(20), ..host.opts() };
    let id = host.manager.start_session(opts, None).await.unwrap().id;
    let asleep = host.manager.wait(&id, WaitFor::Hibernated, Some(BOUND)).await.unwrap();
    assert_eq!(asleep.pid, None);
    assert_eq!(host.run(&id, "echo awake").await, "awake\n");
    host.manager.wait(&id, WaitFor::Hibernated, Some(BOUND)).await.unwrap();
    host.manager.pin_session(&id, true).await.unwrap();
    host.manager.start_or_get_session(id.as_str(), SessionOpts::default(), BOUND).await.unwrap();
    // Asleep when the manager ends, or pinned and awake: either way it is there for the next one.
    let host = host.restarted().await;
    assert_eq!(host.run(&id, "echo later").await, "later\n");
    let info = host.manager.get_session(&id).await.unwrap();
    assert_eq!((info.status, info.pinned), (Status::Idle, true));
    host.manager.shutdown().await;
}

#[tokio::test]
async fn a_turn_that_takes_too_long_ends_with_all_it_started_and_the_session_goes_on() {
    let host = Host::new().await;
    let opts = SessionOpts { turn_timeout_ms: Some(2_000), grace_ms: Some(50), ..host.opts() };
    let id = host.session_with(opts).await;
    let worker = host.pid(&id).await;
    let escapee = escapee(&host, &id).await;
    let ended =
        host.event(&id, "the turn's end", |kind| matches!(kind, EventKind::TurnCompleted { .. })).await;
    let EventKind::TurnCompleted { outcome, stop_reason, .. } = ended.kind else { panic!() };
    assert_eq!((outcome, stop_reason.as_str()), (Outcome::Aborted, "timeout"));
    assert!(!lives(escapee), "it outlived the turn");
    assert_eq!((host.run(&id, "echo next").await, host.pid(&id).await), ("next\n".to_owned(), worker));
    host.manager.shutdown().await;
}

#[tokio::test]
async fn an_agent_has_the_nice_value_and_the_descriptors_that_its_session_gives_it_also_after_a_crash() {
    let host = Host::new().await;
    let looks = "nice; ulimit -Sn; ulimit -Hn";
    let plain = host.session().await;
    let before = host.run(&plain, looks).await;
    let nice: u32 = before.lines().next().unwrap().parse().unwrap();
    let opts = SessionOpts { nice: Some(5), nofile: Some(777), ..host.opts() };
    let id = host.session_with(opts).await;
    let limited = format!("{}\n777\n777\n", nice + 5);
    assert_eq!(host.run(&id, looks).await, limited);
    kill(host.pid(&id).await);
    host.event(&id, "the restart", is_restarted).await;
    assert_eq!(host.run(&id, looks).await, limited);
    assert_eq!(host.run(&plain, looks).await, before);
    let host = host.restarted().await;
    assert_eq!(host.run(&id, looks).await, limited);
    let limits = host.manager.get_session(&id).await.unwrap().limits;
    assert_eq!((limits.nice, limits.nofile), (Some(5), Some(777)));
    host.manager.shutdown().await;
}

#[tokio::test]
async fn too_many_deaths_fail_the_session_with_its_last_words_until_it_is_restarted() {
    let host = Host::new().await;
    let opts = SessionOpts { intensity: Some(1), period_ms: Some(3_600_000), ..host.opts() };
    let id = host.session_with(opts).await;
    kill(host.pid(&id).await);
    host.event(&id, "the restart", is_restarted).await;
    let held = host.send(&id, "exec sleep 1000").await;
    let waiting = host.send(&id, "echo held").await;
    host.event(&id, "the turn", |kind| matches!(kind, EventKind::TurnStarted { .. })).await;
    signal(host.pid(&id).await, Signal::SIGABRT);
    host.manager.wait(&id, WaitFor::Failed, Some(BOUND)).await.unwrap();
    assert!(matches!(host.end_of(&id, held).await, EventKind::TurnInterrupted { .. }));
    let failure = host.manager.get_session(&id).await.unwrap().failure.unwrap();
    assert_eq!(failure.exit, Some(Exit::Signal(Signal::SIGABRT as i32)));
    assert!(failure.reason.contains("2 deaths"), "{}", failure.reason);
    assert_eq!(
        code(&host.manager.send_prompt(&id, prompt("echo"), None).await.unwrap_err()),
        "session_failed"
    );
    // The verdict and the prompt that waits outlive the manager.
    let host = host.restarted().await;
    assert_eq!(host.manager.get_session(&id).await.unwrap().status, Status::Failed);
    host.manager.restart_session(&id).await.unwrap();
    host.end_of(&id, waiting).await;
    assert_eq!(host.printed(&id, waiting).await, "held\n");
    host.manager.shutdown().await;
}

#[tokio::test]
async fn a_worker_that_cannot_be_started_is_waited_for_and_that_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let builder = SessionManager::builder().state_dir(dir.path().join("state"));
    let manager = builder.worker_path(dir.path().join("no-such-worker")).start().await.unwrap();
    let opts = SessionOpts {
        workdir: Some(dir.path().to_str().unwrap().into()),
        intensity: Some(0),
        ..SessionOpts::default()
    };
    let mut stream = manager.subscribe(Some(0), None);
    let mut said = 0;
    let starts = async {
        while said < 3 {
            for record in stream.next().await.unwrap().unwrap() {
                if let EventKind::SessionRestarting { reason, deaths, .. } = record.event().unwrap().kind {
                    assert!(reason.contains("no-such-worker") && deaths == 0, "{reason}");
                    said += 1;
                }
            }
        }
    };
    tokio::select! {
        started = manager.start_session(opts, None) => panic!("{started:?}"),
        starts = tokio::time::timeout(BOUND, starts) => starts.unwrap(),
    }
    manager.shutdown().await;
}

#[tokio::test]
async fn an_idempotency_key_makes_two_requests_one_also_across_a_restart() {
    let host = Host::new().await;
    let id = host.session().await;
    let send =
        async |host: &Host, text: &str| host.manager.send_prompt(&id, prompt(text), Some("key-1")).await;
    let first = send(&host, "echo once").await.unwrap();
    assert_eq!(send(&host, "echo once").await.unwrap(), first);
    assert_eq!(code(&send(&host, "echo other").await.unwrap_err()), "idempotency_key_reused");
    let started = host.manager.start_session(host.opts(), Some("key-1")).await.unwrap();
    let host = host.restarted().await;
    assert_eq!(send(&host, "echo once").await.unwrap(), first);
    assert_eq!(host.manager.start_session(host.opts(), Some("key-1")).await.unwrap().id, started.id);
    host.end_of(&id, first.prompt_id).await;
    let accepted = |kind: &EventKind| matches!(kind, EventKind::PromptAccepted { .. });
    assert_eq!(host.events(&id).await.iter().filter(|event| accepted(&event.kind)).count(), 1);
    host.manager.shutdown().await;
}

#[tokio::test]
async fn the_queue_can_be_listed_edited_shortened_and_cleared() {
    let host = Host::new().await;
    let id = host.session().await;
    let running = host.send(&id, "exec sleep 1000").await;
    let edited = host.send(&id, "echo old").await;
    let removed = host.send(&id, "echo removed").await;
    let cleared = host.send(&id, "echo cleared").await;
    let manager = &host.manager;
    let busy = PromptRequest { when_busy: WhenBusy::Reject, ..prompt("echo") };
    assert_eq!(code(&manager.send_prompt(&id, busy, None).await.unwrap_err()), "busy");
    manager.edit_prompt(&id, edited, "echo new").await.unwrap();
    manager.remove_prompt(&id, removed).await.unwrap();
    assert_eq!(code(&manager.remove_prompt(&id, running).await.unwrap_err()), "not_queued");
    let queue: Vec<_> =
        manager.queue(&id).await.unwrap().into_iter().map(|queued| queued.prompt_id).collect();
    assert_eq!(queue, [running, edited, cleared]);
    let first = PromptRequest { when_busy: WhenBusy::Interrupt, ..prompt("echo first") };
    let first = manager.send_prompt(&id, first, None).await.unwrap().prompt_id;
    let EventKind::TurnCompleted { outcome, .. } = host.end_of(&id, running).await else { panic!() };
    assert_eq!(outcome, Outcome::Aborted);
    host.end_of(&id, cleared).await;
    assert_eq!(host.printed(&id, edited).await, "new\n");
    let events = host.events(&id).await.into_iter();
    let started = events.filter_map(|event| match event.kind {
        EventKind::PromptStarted { prompt_id } => Some(prompt_id),
        _ => None,
    });
    let started: Vec<_> = started.collect();
    assert_eq!(started, [running, first, edited, cleared]);
    host.send(&id, "exec sleep 1000").await;
    host.send(&id, "echo").await;
    host.send(&id, "echo").await;
    assert_eq!(manager.clear_queue(&id).await.unwrap(), 2);
    host.manager.shutdown().await;
}

#[tokio::test]
async fn sub_agents_get_their_task_survive_crashes_and_stop_with_their_parent() {
    let host = Host::new().await;
    let parent = host.session().await;
    let parent_pid = host.pid(&parent).await;
    let manager = &host.manager;
    let task = "echo working; exec sleep 1000";
    let by_pid = parent_pid.to_string();
    let first = manager.start_background_subagent(Some(&by_pid), task, host.opts(), None).await.unwrap();
    let second = manager
        .start_background_subagent(Some(parent.as_str()), "echo done", host.opts(), None)
        .await
        .unwrap();
    let alone = manager.start_background_subagent(None, "true", host.opts(), None).await.unwrap();
    assert_eq!((first.parent_session_id.as_ref(), first.parent_pid), (Some(&parent), Some(parent_pid)));
    assert_eq!(first.task, task);
    let completed = |child: &SessionId| {
        let child = child.clone();
        move |kind: &EventKind| matches!(kind, EventKind::SubagentCompleted { child: of, .. } if *of == child)
    };
    host.event(&parent, "the second's end", completed(&second.session_id)).await;
    host.event(&alone.session_id, "its own end", completed(&alone.session_id)).await;
    host.event(&first.session_id, "its words", |kind| matches!(kind, EventKind::MessageChunk { .. })).await;

    kill(first.pid.unwrap());
    kill(parent_pid);
    host.event(&first.session_id, "the child's restart", is_restarted).await;
    host.event(&parent, "the parent's restart", is_restarted).await;
    host.event(&parent, "the first's end", completed(&first.session_id)).await;
    let list = manager.list_background_subagents(Some(parent.as_str())).await.unwrap();
    let ids: Vec<_> = list.iter().map(|handle| handle.session_id.clone()).collect();
    assert_eq!(ids, [first.session_id.clone(), second.session_id.clone()]);
    assert_eq!(list[0].pid, Some(host.pid(&first.session_id).await));
    assert_eq!(list[0].parent_pid, Some(host.pid(&parent).await));
    assert_ne!(list[0].pid, first.pid);
    assert_eq!(manager.list_background_subagents(None).await.unwrap().len(), 3);

    manager.stop_session(&parent, Orphans::Stop).await.unwrap();
    for child in [&first.session_id, &second.session_id] {
        assert_eq!(manager.get_session(child).await.unwrap().status, Status::Stopped);
    }
    assert_eq!(manager.get_session(&alone.session_id).await.unwrap().status, Status::Idle);
    host.manager.shutdown().await;
}

#[tokio::test]
async fn kept_orphans_go_on_without_their_parent() {
    let host = Host::new().await;
    let parent = host.session().await;
    let child =
        host.manager.start_background_subagent(Some(parent.as_str()), "true", host.opts(), None).await;
    let child = child.unwrap().session_id;
    host.manager.wait(&child, WaitFor::Idle, Some(BOUND)).await.unwrap();
    host.manager.stop_session(&parent, Orphans::Keep).await.unwrap();
    assert_eq!(host.run(&child, "echo on").await, "on\n");
    host.manager.shutdown().await;
}

#[tokio::test]
async fn every_subscriber_sees_the_journal_without_gap_or_repeat() {
    let host = Host::new().await;
    let early = host.manager.subscribe(Some(0), None);
    let id = host.session().await;
    for n in 0..5 {
        host.run(&id, &format!("for i in 1 2 3 4 5 6 7 8 9; do echo {n} $i; done")).await;
    }
    let late = host.manager.subscribe(Some(0), None);
    host.run(&id, "echo live").await;
    kill(host.pid(&id).await);
    host.event(&id, "the restart", is_restarted).await;
    host.manager.shutdown().await;
    let mut views = Vec::new();
    for mut stream in [early, late, host.manager.subscribe(Some(0), None)] {
        let mut ids = Vec::new();
        while let Some(records) = stream.next().await.unwrap() {
            ids.extend(records.iter().map(|record| record.id));
        }
        views.push(ids);
    }
    assert!(views[0].is_sorted_by(|a, b| a < b));
    assert!(views[0].len() > 30);
    assert_eq!(views[0], views[1]);
    assert_eq!(views[0], views[2]);
}

#[tokio::test]
async fn a_new_manager_brings_every_session_back_that_is_wanted_up() {
    let host = Host::new().await;
    let (up, down) = (host.session().await, host.session().await);
    host.manager.stop_session(&down, Orphans::Stop).await.unwrap();
    assert_eq!(host.run(&up, "echo before").await, "before\n");
    let cut = host.send(&up, "exec sleep 1000").await;
    let queued = host.send(&up, "echo after").await;
    let token = host.manager.session_token(&up).await.unwrap();
    let old = host.pid(&up).await;
    let host = host.restarted().await;
    assert!(!lives(old));
    assert!(matches!(host.end_of(&up, cut).await, EventKind::TurnInterrupted { .. }));
    host.end_of(&up, queued).await;
    assert_eq!(host.printed(&up, queued).await, "after\n");
    let info = host.manager.get_session(&up).await.unwrap();
    assert_eq!((info.restarts.in_window, info.incarnation), (0, 2));
    assert_eq!(host.manager.session_token(&up).await.unwrap(), token);
    assert_eq!(host.manager.get_session(&down).await.unwrap().status, Status::Stopped);
    host.manager.shutdown().await;
}

#[tokio::test]
async fn one_manager_serves_a_state_directory() {
    let host = Host::new().await;
    let other = SessionManager::builder().state_dir(host.dir.path().join("state")).start().await;
    let Err(error) = other else { panic!("two managers over one directory") };
    assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
    host.manager.shutdown().await;
}

#[tokio::test]
async fn a_journal_of_a_newer_version_is_refused_untouched() {
    let host = Host::new().await;
    host.session().await;
    host.manager.shutdown().await;
    let state = host.dir.path().join("state");
    let path = state.join("journal.db");
    // The version lies at offset 60 of the file (https://www.sqlite.org/fileformat.html).
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[60..64].copy_from_slice(&99u32.to_be_bytes());
    std::fs::write(&path, &bytes).unwrap();
    let builder = SessionManager::builder().state_dir(&state);
    let Err(error) = builder.start().await else { panic!("a newer journal was opened") };
    assert!(error.to_string().contains("version 99"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
}

#[tokio::test]
async fn beside_the_library_a_child_of_the_program_lives() {
    let host = Host::new().await;
    let mut child = tokio::process::Command::new("/bin/sleep").arg("1000").spawn().unwrap();
    let id = host.session().await;
    kill(host.pid(&id).await);
    host.event(&id, "the restart", is_restarted).await;
    assert!(lives(child.id().unwrap()), "the library killed a stranger");
    child.start_kill().unwrap();
    let status = tokio::time::timeout(BOUND, child.wait()).await.unwrap().unwrap();
    assert!(!status.success(), "the library reaped a stranger");
    host.manager.shutdown().await;
}

#[tokio::test]
async fn a_prompt_that_becomes_an_argument_is_accepted_only_if_the_kernel_takes_it() {
    let host = Host::new().await;
    let id = host.session().await;
    let long =
        |bytes: usize| format!("echo on; :{}", " x".repeat(bytes)).chars().take(bytes).collect::<String>();
    let refused = host.manager.send_prompt(&id, prompt(&long(131_071)), None).await.unwrap_err();
    assert_eq!(code(&refused), "prompt_too_large");
    assert_eq!(host.run(&id, &long(131_070)).await, "on\n");
    host.manager.shutdown().await;
}

#[tokio::test]
async fn bad_input_changes_nothing() {
    let host = Host::new().await;
    let id = host.session().await;
    let before = host.events(&id).await.len();
    let manager = &host.manager;
    let bad = |change: fn(&mut SessionOpts)| {
        let mut opts = host.opts();
        change(&mut opts);
        opts
    };
    for (opts, wanted) in [
        (bad(|opts| opts.id = Some("../x".into())), "invalid_id"),
        (bad(|opts| opts.workdir = Some("/no/such/directory".into())), "no_such_workdir"),
        (bad(|opts| opts.workdir = Some("relative".into())), "workdir_not_absolute"),
        (bad(|opts| opts.agent = Some("no-such-agent".into())), "no_such_agent"),
    ] {
        assert_eq!(code(&manager.start_session(opts, None).await.unwrap_err()), wanted);
    }
    for (text, wanted) in [("", "empty_prompt"), (" \n", "empty_prompt"), ("a\0b", "invalid_prompt")] {
        assert_eq!(code(&manager.send_prompt(&id, prompt(text), None).await.unwrap_err()), wanted);
    }
    let huge = "x".repeat(10 * 1024 * 1024);
    assert_eq!(code(&manager.send_prompt(&id, prompt(&huge), None).await.unwrap_err()), "prompt_too_large");
    let nobody = "session-99".parse().unwrap();
    assert_eq!(code(&manager.send_prompt(&nobody, prompt("x"), None).await.unwrap_err()), "no_such_session");
    assert_eq!(host.events(&id).await.len(), before);
    assert_eq!(manager.list_sessions().await.unwrap().len(), 1);
    host.manager.shutdown().await;
}

#[tokio::test]
async fn waiting_ends_with_a_timeout_that_changes_nothing() {
    let host = Host::new().await;
    let id = host.session().await;
    let moment = Some(Duration::from_millis(10));
    let error = host.manager.wait(&id, WaitFor::Stopped, moment).await.unwrap_err();
    assert_eq!(code(&error), "timeout");
    assert_eq!(host.manager.get_session(&id).await.unwrap().status, Status::Idle);
    host.manager.shutdown().await;
}

/// An agent without a memory of its own is told the turns before by whoever starts it: also after its worker
/// died in the middle of one, and after its manager was replaced.
#[tokio::test]
async fn an_agent_with_a_transcript_is_told_the_turns_before_whoever_died_since() {
    let host = Host::new().await;
    host.manager.shutdown().await;
    let config = host.dir.path().join("config.toml");
    // It says what it is told.
    let text = "[agents.echo]\nkind = \"command\"\ncontext = \"transcript\"\n\
                command = [\"sh\", \"-c\", \"cat; test ! -e hold || exec sleep 1000\"]\n";
    std::fs::write(&config, text).unwrap();
    let manager = |state: std::path::PathBuf| {
        SessionManager::builder().state_dir(state).worker_path(worker()).config(&config).start()
    };
    let state = host.dir.path().join("state");
    let host = Host { manager: manager(state.clone()).await.unwrap(), dir: host.dir };
    let opts = SessionOpts { agent: Some("echo".into()), ..host.opts() };
    let id = host.session_with(opts).await;
    assert_eq!(host.run(&id, "one").await, "one");

    let hold = host.dir.path().join("hold");
    std::fs::write(&hold, "").unwrap();
    let cut = host.send(&id, "two").await;
    let said =
        |kind: &EventKind| matches!(kind, EventKind::MessageChunk { prompt_id, .. } if *prompt_id == cut);
    host.event(&id, "the turn's first words", said).await;
    kill(host.pid(&id).await);
    host.end_of(&id, cut).await;
    std::fs::remove_file(hold).unwrap();
    let restored = host.event(&id, "the restart", is_restarted).await.kind;
    assert!(
        matches!(restored, EventKind::SessionRestarted { restore: Restore::Replayed, .. }),
        "{restored:?}"
    );

    host.manager.shutdown().await;
    let host = Host { manager: manager(state).await.unwrap(), dir: host.dir };
    let told = host.run(&id, "three").await;
    let first = "User: one\n\nAssistant: one\n\n";
    let second = "User: two\n\nAssistant: The conversation so far:\n\nUser: one\n\nAssistant: one\n\n\
                  The conversation goes on.\n\nUser: two\n\n";
    let wanted =
        format!("The conversation so far:\n\n{first}{second}The conversation goes on.\n\nUser: three");
    assert_eq!(told, wanted);
    host.manager.shutdown().await;
}

/// Links are read by tasks on the loop's own thread. If it did not give way while clients ask, a worker would be
/// heard only after some thousand spawns, and be killed for its silence.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_is_heard_while_others_are_being_started() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    const MOST: usize = 300;
    let host = Host::new().await;
    let started = std::sync::Arc::new(AtomicUsize::new(0));
    let starters: Vec<_> = (0..8)
        .map(|_| {
            let (manager, opts, started) = (host.manager.clone(), host.opts(), started.clone());
            tokio::spawn(async move {
                while started.fetch_add(1, Ordering::Relaxed) < MOST {
                    manager.start_session(opts.clone(), None).await.unwrap();
                }
            })
        })
        .collect();
    let ready = |kind: &EventKind| matches!(kind, EventKind::SessionReady { .. });
    let mut events = host.manager.subscribe(Some(0), None);
    while !events.next().await.unwrap().unwrap().iter().any(|record| ready(&record.event().unwrap().kind)) {}
    let by_then = started.load(Ordering::Relaxed);
    assert!(by_then < MOST / 2, "{by_then} sessions were started before the first of them was heard");
    for starter in starters {
        starter.await.unwrap();
    }
    host.manager.shutdown().await;
}

#[tokio::test]
async fn whoever_is_answered_finds_what_was_answered_in_the_events() {
    let host = Host::new().await;
    let id = host.session().await;
    let mut events = host.manager.subscribe(None, Some(id.clone()));
    for _ in 0..300 {
        let prompt = host.send(&id, "true").await;
        let mut there = Vec::new();
        while let Some(records) = events.ready().await.unwrap() {
            there.extend(records.iter().map(|record| record.event().unwrap().kind));
        }
        let accepted = |kind: &EventKind| matches!(kind, EventKind::PromptAccepted { prompt_id, .. } if *prompt_id == prompt);
        assert!(there.iter().any(accepted), "{prompt}: {there:?}");
        host.manager.wait(&id, manager::WaitFor::Idle, Some(BOUND)).await.unwrap();
    }
}
