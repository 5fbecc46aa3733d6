//! Sessions: ids, sleep, settings of the process, sub-agents.

use harness::real::*;
use manager::protocol::SessionId;
use manager::protocol::api::*;
use manager::protocol::event::EventKind;
use manager::{SessionManager, WaitFor};

use super::{code, is_restarted};

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
