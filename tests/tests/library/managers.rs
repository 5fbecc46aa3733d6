//! The manager itself: subscribers, restarts, one per state directory, bad input.

use std::time::Duration;

use harness::real::*;
use manager::protocol::api::*;
use manager::protocol::event::EventKind;
use manager::{SessionManager, WaitFor};

use super::{code, is_restarted};

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
