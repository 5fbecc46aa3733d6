//! Deaths of workers and agents, and workers that cannot start.

use harness::real::*;
use manager::protocol::api::*;
use manager::protocol::event::{EventKind, Resolution};
use manager::protocol::{Exit, Restore};
use manager::{SessionManager, WaitFor};
use nix::sys::signal::Signal;

use super::{code, is_restarted};

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
    let mut output = 0;
    let starts = async {
        while output < 3 {
            for record in stream.next().await.unwrap().unwrap() {
                if let EventKind::SessionRestarting { reason, deaths, .. } = record.event().unwrap().kind {
                    assert!(reason.contains("no-such-worker") && deaths == 0, "{reason}");
                    output += 1;
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
