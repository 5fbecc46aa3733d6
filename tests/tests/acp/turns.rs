//! Turns that are aborted, cancelled, or end with an error.

use manager::protocol::Restore;
use manager::protocol::event::{EventKind, Outcome};

use super::{completed, host, restarted, session};

#[tokio::test]
async fn abort_asks_the_agent_to_end_its_turn_and_ends_one_that_does_not() {
    let host = host().await;
    let id = session(&host, "loads").await;
    let pid = host.manager.get_session(&id).await.unwrap().agent_pid;
    let prompt = host.send(&id, "say x; sleep 60000ms").await;
    host.event(&id, "x", |kind| matches!(kind, EventKind::MessageChunk { .. })).await;
    host.manager.abort(&id).await.unwrap();
    assert_eq!(completed(&host, &id, prompt).await, (Outcome::Aborted, "cancelled".into()));
    assert_eq!(host.manager.get_session(&id).await.unwrap().agent_pid, pid, "the agent lives on");
    let deaf = host.send(&id, "deaf; say y; sleep 60000ms").await;
    host.event(&id, "y", |kind| matches!(kind, EventKind::MessageChunk { text, .. } if text == "y")).await;
    host.manager.abort(&id).await.unwrap();
    assert_eq!(completed(&host, &id, deaf).await.0, Outcome::Aborted);
    let (restore, reason) = restarted(&host, &id, 2).await;
    assert_eq!(restore, Restore::Loaded);
    assert!(reason.contains("did not end the turn"), "{reason}");
    let half = host.send(&id, "half").await;
    host.manager.abort(&id).await.unwrap();
    assert_eq!(completed(&host, &id, half).await.0, Outcome::Aborted);
    host.manager.shutdown().await;
}

#[tokio::test]
async fn an_error_of_the_agent_is_said_and_is_no_crash() {
    let host = host().await;
    let id = session(&host, "plain").await;
    let prompt = host.send(&id, "fail the model is down").await;
    assert_eq!(completed(&host, &id, prompt).await, (Outcome::Completed, "error".into()));
    let output = |kind: &EventKind| matches!(kind, EventKind::SystemMessage { text } if text.contains("the model is down"));
    host.event(&id, "its words", output).await;
    assert_eq!(host.run(&id, "say fine").await, "fine");
    host.manager.shutdown().await;
}

#[tokio::test]
async fn an_error_of_its_model_that_an_agent_gives_as_its_answer_is_said() {
    let host = host().await;
    let id = session(&host, "plain").await;
    let prompt = host.send(&id, "say API Error: 529 overloaded").await;
    assert_eq!(completed(&host, &id, prompt).await, (Outcome::Completed, "end_turn".into()));
    let words = "an error of its model: API Error: 529 overloaded";
    let output =
        |kind: &EventKind| matches!(kind, EventKind::SystemMessage { text } if text.ends_with(words));
    host.event(&id, "that it is an error", output).await;
    host.manager.shutdown().await;
}

#[tokio::test]
async fn a_turn_that_the_agent_itself_cancels_is_no_crash() {
    let host = host().await;
    let id = session(&host, "plain").await;
    let prompt = host.send(&id, "say no; stop cancelled").await;
    assert_eq!(completed(&host, &id, prompt).await, (Outcome::Aborted, "cancelled".into()));
    assert_eq!(host.run(&id, "say on").await, "on");
    assert_eq!(host.manager.get_session(&id).await.unwrap().incarnation, 1);
    host.manager.shutdown().await;
}
