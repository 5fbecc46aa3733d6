//! Starts that need a log-in, take a system prompt, or fail.

use harness::real::*;
use manager::protocol::event::EventKind;
use manager::{Error, WaitFor};

use super::{host, opts, restarted, session};

#[tokio::test]
async fn an_agent_that_wants_a_log_in_says_so_and_is_not_started_over_and_over() {
    let host = host().await;
    let info = host.manager.start_session(opts(&host, "closed"), None).await.unwrap();
    let failed = host.manager.wait(&info.id, WaitFor::Ready, Some(BOUND)).await;
    assert!(matches!(failed, Err(Error::SessionFailed { .. })), "{failed:?}");
    let info = host.manager.get_session(&info.id).await.unwrap();
    let reason = info.failure.unwrap().reason;
    assert!(reason.contains("log-in") && reason.contains("key"), "{reason}");
    assert_eq!(info.incarnation, 1);
    let id = session(&host, "keyed").await;
    assert_eq!(host.run(&id, "say in").await, "in");
    host.manager.shutdown().await;
}

#[tokio::test]
async fn a_system_prompt_is_given_in_the_form_that_the_agent_takes_or_that_it_does_not_is_said() {
    let host = host().await;
    let brief = r#"[{"mode":"append","content":[{"type":"text","text":"be brief"}]},null]"#;
    let id = session(&host, "prompted").await;
    assert_eq!(host.run(&id, "system").await, brief);
    kill(host.pid(&id).await);
    restarted(&host, &id, 2).await;
    assert_eq!(host.run(&id, "system").await, brief, "the next process is told it, too");
    for (agent, system, words) in [
        ("own", "[null,null]", "no system prompt in the place of its own"),
        ("old", r#"[null,{"append":"be brief"}]"#, "does not say that it takes a system prompt"),
    ] {
        let id = session(&host, agent).await;
        assert_eq!(host.run(&id, "system").await, system, "{agent}");
        host.event(
            &id,
            words,
            |kind| matches!(kind, EventKind::SystemMessage { text } if text.contains(words)),
        )
        .await;
    }
    host.manager.shutdown().await;
}

#[tokio::test]
async fn an_address_to_log_in_at_is_shown_where_a_person_looks() {
    let host = host().await;
    let id = host.manager.start_session(opts(&host, "printing"), None).await.unwrap().id;
    let at = "open https://auth.example/device?code=AB-12";
    let says = |text: &str| text.contains(at) && !text.contains('\u{1b}') && !text.contains("[2J");
    host.event(&id, "where", |kind| matches!(kind, EventKind::SystemMessage { text } if says(text))).await;
    // While it waits for its user.
    let info = host.manager.get_session(&id).await.unwrap();
    assert!(info.start_notice.is_some_and(|text| says(&text)));
    std::fs::write(host.dir.path().join("memory/seen"), "").unwrap();
    let failed = host.manager.wait(&id, WaitFor::Failed, Some(BOUND)).await.unwrap();
    let reason = failed.failure.unwrap().reason;
    assert!(reason.contains("Open https://auth.example/device?code=AB-12 to log in."), "{reason}");
    host.manager.shutdown().await;
}

#[tokio::test]
async fn an_agent_that_cannot_begin_fails_its_session_with_its_words() {
    let host = host().await;
    for (agent, words) in
        [("leaves", "exit status 3"), ("newer", "version 7"), ("mute", "was not ready within 0.3 s")]
    {
        let mut opts = opts(&host, agent);
        opts.intensity = Some(1);
        let id = host.manager.start_session(opts, None).await.unwrap().id;
        let failed =
            host.event(&id, "its failure", |kind| matches!(kind, EventKind::SessionFailed { .. })).await;
        let EventKind::SessionFailed { reason, .. } = failed.kind else { panic!() };
        assert!(reason.contains(words), "{agent}: {reason}");
    }
    host.manager.shutdown().await;
}
