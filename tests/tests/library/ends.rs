//! Ends of turns and sessions, with every process that they started.

use harness::real::*;
use manager::protocol::SessionId;
use manager::protocol::api::*;
use manager::protocol::event::{EventKind, Outcome};
use nix::sys::signal::Signal;

use super::{code, is_restarted};

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
