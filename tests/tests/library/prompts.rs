//! Prompts: output, idempotency keys, the queue, the transcript.

use harness::real::*;
use manager::SessionManager;
use manager::protocol::api::*;
use manager::protocol::event::{EventKind, Outcome};
use manager::protocol::{Exit, Restore, Stream};

use super::{code, is_restarted};

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

/// An agent without a memory of its own receives the earlier turns from its worker: also after its worker
/// died in a turn, and after its manager was replaced.
#[tokio::test]
async fn an_agent_with_a_transcript_is_told_the_turns_before_whoever_died_since() {
    let host = Host::new().await;
    host.manager.shutdown().await;
    let config = host.dir.path().join("config.toml");
    // It prints its prompt.
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
    let output =
        |kind: &EventKind| matches!(kind, EventKind::MessageChunk { prompt_id, .. } if *prompt_id == cut);
    host.event(&id, "the turn's first words", output).await;
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
    let received = host.run(&id, "three").await;
    let first = "User: one\n\nAssistant: one\n\n";
    let second = "User: two\n\nAssistant: The conversation so far:\n\nUser: one\n\nAssistant: one\n\n\
                  The conversation goes on.\n\nUser: two\n\n";
    let wanted =
        format!("The conversation so far:\n\n{first}{second}The conversation goes on.\n\nUser: three");
    assert_eq!(received, wanted);
    host.manager.shutdown().await;
}

/// Links are read by tasks on the loop's own thread. If the loop did not yield between clients' requests, it
/// would read a worker's messages only after thousands of spawns, and kill the worker for its silence.
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
