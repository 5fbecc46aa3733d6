//! One session with a very long history, on real processes: other sessions do not wait for it, and no worker
//! counts as silent.

use std::path::Path;

use harness::daemon::Daemon;
use harness::real::*;
use manager::protocol::api::{PruneRequest, SessionOpts};
use manager::protocol::{Restore, SessionId};

/// Pieces of one turn.
const PIECES: i64 = 1_000_000;

/// Multiplies the newest piece of the newest turn in a journal, as if the agent had sent it that often.
fn inflate(state: &Path, session: &SessionId, pieces: i64) {
    let mut journal = rusqlite::Connection::open(state.join("journal.db")).unwrap();
    let changed = journal.transaction().unwrap();
    let sql = "SELECT max(id) FROM events WHERE session = ?1 AND type = 'message.chunk'";
    let last: i64 = changed.query_row(sql, [session.as_str()], |row| row.get(0)).unwrap();
    let json: String =
        changed.query_row("SELECT json FROM events WHERE id = ?1", [last], |row| row.get(0)).unwrap();
    let (before, after) = json.split_once(&format!("\"id\":{last},")).expect("it begins with its id");
    // Later events make room: from the end, so that no id is there twice.
    let later: Vec<(i64, String)> = changed
        .prepare("SELECT id, json FROM events WHERE id > ?1 ORDER BY id DESC")
        .unwrap()
        .query_map([last], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    for (id, json) in later {
        let moved = json.replacen(&format!("\"id\":{id},"), &format!("\"id\":{},", id + pieces), 1);
        let sql = "UPDATE events SET id = ?2, json = ?3 WHERE id = ?1";
        changed.execute(sql, rusqlite::params![id, id + pieces, moved]).unwrap();
    }
    {
        let mut insert = changed.prepare("INSERT INTO events VALUES (?1, ?2, 'message.chunk', ?3)").unwrap();
        for id in last + 1..=last + pieces {
            let json = format!("{before}\"id\":{id},{after}");
            insert.execute(rusqlite::params![id, session.as_str(), json]).unwrap();
        }
    }
    changed.commit().unwrap();
}

#[tokio::test]
async fn a_turn_of_a_million_pieces_is_nobody_elses_time() {
    let host = Host::new().await;
    let text = "[agents.told]\nkind = \"command\"\ncontext = \"transcript\"\ncommand = [\"cat\"]\n\
                prompt_via = \"stdin\"\n";
    std::fs::write(host.config(), text).unwrap();
    let (large, other) = (
        host.session_with(SessionOpts { agent: Some("told".into()), ..host.opts() }).await,
        host.session().await,
    );
    assert_eq!(host.run(&large, "first").await, "first");
    host.manager.shutdown().await;
    inflate(&host.dir.path().join("state"), &large, PIECES);
    let host = Host::over(host.dir).await;
    let ready = |id: SessionId| {
        let host = &host;
        async move { host.manager.wait(&id, manager::WaitFor::Ready, Some(BOUND)).await.unwrap() }
    };
    let (was, others) = (ready(large.clone()).await.pid, ready(other.clone()).await.pid);

    // Another session goes on all the while. In a build for tests the loop's thread ends the process where it reads history.
    let over = std::cell::Cell::new(false);
    let others_prompts = async {
        let mut turns = 0;
        while !over.get() || turns < 3 {
            let prompt = host.send(&other, "true").await;
            host.manager.wait(&other, manager::WaitFor::Idle, Some(BOUND)).await.unwrap();
            assert!(prompt.0 > 0);
            turns += 1;
        }
        turns
    };
    let history = async {
        let result = host.manager.turn_result(&large).await.unwrap();
        assert!(result.truncated && result.text.contains("first"), "{} bytes", result.text.len());
        assert_eq!(result.outcome, Some(manager::protocol::event::Outcome::Completed));
        // The agent receives the earlier turns as far as there is room, and no part of a turn without room.
        for (prompt, received) in [("second", "second"), ("third", "second\n\nthird")] {
            let sent = host.send(&large, prompt).await;
            host.manager.wait(&large, manager::WaitFor::Idle, Some(BOUND)).await.unwrap();
            let result = host.manager.turn_result(&large).await.unwrap();
            assert_eq!(result.prompt_id, Some(sent));
            for line in received.lines() {
                assert!(result.text.contains(line), "{received}: {}", result.text);
            }
            assert!(result.text.len() < 1_000 && !result.text.contains("first"), "{}", result.text);
        }
        host.manager.restart_session(&large).await.unwrap();
        host.manager.wait(&large, manager::WaitFor::Ready, Some(BOUND)).await.unwrap();
        host.send(&large, "fourth").await;
        host.manager.wait(&large, manager::WaitFor::Idle, Some(BOUND)).await.unwrap();
        assert!(host.manager.turn_result(&large).await.unwrap().text.contains("third"));
        let dry = PruneRequest { older_than_ms: Some(0), dry_run: true, ..PruneRequest::default() };
        let report = host.manager.prune(dry).await.unwrap();
        assert!(report.events > PIECES as u64, "{report:?}");
        // The whole of it goes while others work, and no reader finds it from the first moment on.
        host.manager.remove_session(&large, true).await.unwrap();
        let left = host.events(&large).await;
        assert_eq!(left.iter().map(|event| event.kind.name()).collect::<Vec<_>>(), ["session.deleted"]);
        over.set(true);
    };
    let (turns, ()) = tokio::join!(others_prompts, history);
    assert!(turns >= 3);
    let now = host.manager.get_session(&other).await.unwrap();
    assert_eq!((now.pid, now.incarnation), (others, 2), "its worker was never replaced");
    assert!(was.is_some());

    // Its leftovers are removed, also by the next manager.
    let host = host.restarted().await;
    let journal = rusqlite::Connection::open(host.dir.path().join("state/journal.db")).unwrap();
    let left = || -> i64 {
        let sql = "SELECT count(*) FROM events WHERE session = ?1";
        journal.query_row(sql, [large.as_str()], |row| row.get(0)).unwrap()
    };
    let end = std::time::Instant::now() + 4 * BOUND;
    while left() > 1 {
        assert!(std::time::Instant::now() < end, "{} events are left", left());
        tokio::task::yield_now().await;
    }
    host.manager.shutdown().await;
}

#[test]
fn a_daemon_that_was_stopped_blames_no_worker_for_it() {
    let daemon = Daemon::new();
    let config = daemon.dir.path().join("kennel/config.toml");
    std::fs::create_dir_all(config.parent().unwrap()).unwrap();
    let text = format!(
        "[agents.slow]\nkind = \"acp\"\ncommand = [\"{}\"]\nstart_timeout = \"1500ms\"\n",
        beside("acp-agent").display()
    );
    std::fs::write(config, text).unwrap();
    daemon.ok(&["start", "--id", "first"]);
    let status: manager::protocol::api::ManagerInfo = daemon.json(&["daemon", "status"]);
    for round in 0..3 {
        let id = format!("slow-{round}");
        let starting = daemon.spawn(&["start", "--agent", "slow", "--id", &id]);
        until("its worker", || {
            marked("/").into_iter().find(|pid| session_of(*pid).is_some_and(|of| of.as_str() == id))
        });
        // Its agent is ready soon; the manager learns of it only after longer than a start may take.
        signal(status.pid, nix::sys::signal::Signal::SIGSTOP);
        let stopped = std::time::Instant::now();
        until("that is over", || (stopped.elapsed().as_millis() > 2_500).then_some(()));
        signal(status.pid, nix::sys::signal::Signal::SIGCONT);
        let output = harness::daemon::finish(starting);
        assert_eq!(output.code, Some(0), "{output:?}");
        daemon.ok(&["wait", &id, "--until", "ready", "--timeout", "20s"]);
        let session: manager::protocol::api::SessionInfo = daemon.json(&["show", &id]);
        assert_eq!(session.incarnation, 1, "{session:?}");
        assert_eq!(session.restore, Some(Restore::Fresh));
    }
}
