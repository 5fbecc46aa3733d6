//! Permissions: answered, expired, kept across managers.

use harness::real::*;
use manager::WaitFor;
use manager::protocol::api::*;
use manager::protocol::event::{Decider, EventKind, Outcome};
use manager::protocol::{PermissionId, Restore, SessionId};

use super::{completed, host, session};

async fn asked(host: &Host, id: &SessionId) -> PermissionId {
    let asked = host.event(id, "the question", |kind| matches!(kind, EventKind::PermissionRequested { .. }));
    let EventKind::PermissionRequested { permission_id, .. } = asked.await.kind else { panic!() };
    permission_id
}

#[tokio::test]
async fn a_parked_permission_waits_for_the_first_answer_and_survives_nobody_looking() {
    let host = host().await;
    let id = session(&host, "plain").await;
    let prompt = host.send(&id, "tool t1 rm -rf; ask t1; done t1").await;
    let permission = asked(&host, &id).await;
    assert_eq!(host.manager.get_session(&id).await.unwrap().status, Status::RequiresAction);
    let open = host.manager.permissions(None).await.unwrap();
    assert_eq!((open.len(), open[0].permission_id, open[0].options.len()), (1, permission, 3));
    let wrong =
        host.manager.answer_permission(&id, permission, PermissionAnswer::Option("maybe".into())).await;
    assert_eq!(wrong.unwrap_err().code(), "no_such_option");
    host.manager.answer_permission(&id, permission, PermissionAnswer::Option("always".into())).await.unwrap();
    let late = host.manager.answer_permission(&id, permission, PermissionAnswer::Deny).await;
    assert_eq!(late.unwrap_err().code(), "permission_settled");
    host.end_of(&id, prompt).await;
    assert_eq!(host.printed(&id, prompt).await, "answered always");
    let unknown = host.manager.answer_permission(&id, PermissionId(1 << 40), PermissionAnswer::Deny).await;
    assert_eq!(unknown.unwrap_err().code(), "no_such_permission");
    host.manager.shutdown().await;
}

#[tokio::test]
async fn the_policy_of_a_session_answers_for_everybody() {
    let host = host().await;
    for (agent, script, output) in [
        ("allows", "ask t1", "answered yes"),
        ("denies", "ask t1", "answered no"),
        ("ruled", "ask t1 read /etc/passwd", "answered yes"),
        ("ruled", "ask t1 edit src/main.rs", "answered yes"),
        ("ruled", "ask t1 edit src/../../x", "answered no"),
        ("ruled", "ask t1 execute elsewhere", "answered no"),
        ("impatient", "ask t1", "answered no"),
    ] {
        let id = session(&host, agent).await;
        assert_eq!(host.run(&id, script).await, output, "{agent}: {script}");
        let by = host.events(&id).await.into_iter().find_map(|event| match event.kind {
            EventKind::PermissionResolved { by, .. } => Some(by),
            _ => None,
        });
        assert_eq!(by, (agent != "impatient").then_some(Decider::Policy), "{agent}");
    }
    let id = session(&host, "fails").await;
    let prompt = host.send(&id, "ask t1; say went on").await;
    assert_eq!(completed(&host, &id, prompt).await.0, Outcome::Aborted);
    host.manager.shutdown().await;
}

#[tokio::test]
async fn an_abort_cancels_open_permissions_and_a_crash_expires_them() {
    let host = host().await;
    let id = session(&host, "plain").await;
    let prompt = host.send(&id, "ask t1").await;
    let permission = asked(&host, &id).await;
    host.manager.abort(&id).await.unwrap();
    assert_eq!(completed(&host, &id, prompt).await.0, Outcome::Aborted);
    assert_eq!(host.printed(&id, prompt).await, "answered cancelled");
    let expired = |wanted: PermissionId| move |kind: &EventKind| matches!(kind, EventKind::PermissionExpired { permission_id, .. } if *permission_id == wanted);
    host.event(&id, "its end", expired(permission)).await;
    let other = session(&host, "plain").await;
    host.send(&other, "ask t1").await;
    let permission = asked(&host, &other).await;
    kill(host.pid(&other).await);
    host.event(&other, "its end", expired(permission)).await;
    assert_eq!(host.manager.permissions(None).await.unwrap(), []);
    host.manager.shutdown().await;
}

#[tokio::test]
async fn a_permission_is_answered_by_a_manager_that_came_later() {
    let host = host().await;
    let id = session(&host, "loads").await;
    host.run(&id, "say one").await;
    host.send(&id, "ask t1").await;
    asked(&host, &id).await;
    let host = host.restarted().await;
    // Its worker ended with the manager: the question expires, and the session is there again.
    host.event(&id, "its end", |kind| matches!(kind, EventKind::PermissionExpired { .. })).await;
    host.manager.wait(&id, WaitFor::Idle, Some(BOUND)).await.unwrap();
    assert_eq!(host.manager.get_session(&id).await.unwrap().restore, Some(Restore::Loaded));
    host.manager.shutdown().await;
}
