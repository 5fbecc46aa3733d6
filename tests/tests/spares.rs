//! Spare workers: processes that wait for a session.

use std::time::{Duration, Instant};

use harness::daemon::Daemon;
use harness::real::*;
use manager::protocol::api::{ManagerInfo, Orphans, RestartType, SessionOpts};
use manager::protocol::event::EventKind;
use manager::{SessionManager, WaitFor};
use nix::sys::signal::Signal;

/// The spares that stand ready, as the daemon has them.
fn spares(daemon: &Daemon) -> Vec<u32> {
    daemon.json::<ManagerInfo>(&["daemon", "status"]).spare_workers
}

/// Waits until as many spares stand ready as a daemon keeps.
fn two(daemon: &Daemon) -> Vec<u32> {
    let two = until("two spares", || Some(spares(daemon)).filter(|spares| spares.len() == 2));
    assert!(two.iter().all(|pid| is_spare(*pid) && parent(*pid) == Some(daemon.pid())), "{two:?}");
    two
}

/// Waits until a session's worker has another pid than this. Returns the new one.
fn next(daemon: &Daemon, id: &str, before: u32) -> u32 {
    until("the restart", || daemon.show(id).pid.filter(|pid| *pid != before));
    daemon.idle(id).pid.unwrap()
}

#[test]
fn a_death_takes_a_spare_and_another_takes_its_place() {
    let daemon = Daemon::new();
    daemon.ok(&["start", "--id", "one"]);
    let mut worker = daemon.idle("one").pid.unwrap();
    for _ in 0..3 {
        let waiting = two(&daemon);
        kill(worker);
        worker = next(&daemon, "one", worker);
        assert!(waiting.contains(&worker), "{worker} is none of {waiting:?}");
        assert_eq!(session_of(worker).unwrap().as_str(), "one");
    }
    // It does all that another worker does, and writes the session's log.
    assert_eq!(daemon.ok(&["send", "one", "echo on"]), "on\n");
    let started = daemon.events().into_iter().filter_map(|event| match event.kind {
        EventKind::SessionStarted { pid } => Some(pid),
        _ => None,
    });
    assert!(started.collect::<Vec<u32>>().contains(&worker));
}

#[test]
fn spares_end_with_the_last_session_and_with_the_daemon() {
    let daemon = Daemon::new();
    daemon.ok(&["start", "--id", "one"]);
    let first = two(&daemon);
    daemon.ok(&["stop", "one"]);
    until("their end", || first.iter().all(|pid| !lives(*pid)).then_some(()));
    daemon.ok(&["restart", "one"]);
    let second = two(&daemon);
    daemon.ok(&["daemon", "stop"]);
    until("their end", || second.iter().all(|pid| !lives(*pid)).then_some(()));
}

#[test]
fn a_spare_that_dies_or_cannot_end_by_itself_harms_nobody() {
    let daemon = Daemon::new();
    daemon.ok(&["start", "--id", "one"]);
    two(&daemon).into_iter().for_each(kill);
    until("their end", || spares(&daemon).is_empty().then_some(()));
    daemon.ok(&["start", "--id", "two"]);
    assert_eq!(daemon.ok(&["send", "two", "echo on"]), "on\n");
    // Stopped, it does not see that its daemon is dead. The next daemon ends it.
    let stopped = two(&daemon)[0];
    signal(stopped, Signal::SIGSTOP);
    daemon.kill();
    daemon.ok(&["ls"]);
    until("its end", || (!lives(stopped)).then_some(()));
    // Those of the sessions, of which one was a spare, live on.
    for id in ["one", "two"] {
        assert_eq!(daemon.ok(&["send", id, "echo still"]), "still\n");
    }
}

#[test]
fn a_daemon_that_is_to_keep_no_spares_keeps_none() {
    let daemon = Daemon::new();
    std::fs::create_dir_all(daemon.dir.path().join("kennel")).unwrap();
    let config = "[daemon]\nspare_workers = 0\n";
    std::fs::write(daemon.dir.path().join("kennel/config.toml"), config).unwrap();
    daemon.ok(&["start", "--id", "one"]);
    let before = daemon.idle("one").pid.unwrap();
    kill(before);
    let after = next(&daemon, "one", before);
    assert!(!is_spares(&marker(after)), "{}", marker(after));
    assert_eq!(spares(&daemon), Vec::<u32>::new());
}

/// Stops both spares, and waits until they are.
fn two_stopped(daemon: &Daemon) -> Vec<u32> {
    let two = two(daemon);
    for pid in &two {
        signal(*pid, Signal::SIGSTOP);
        until("its stop", || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            stat.rsplit_once(") ")?.1.starts_with('T').then_some(())
        });
    }
    two
}

#[test]
fn a_stopped_spare_costs_the_session_that_takes_it_neither_time_nor_a_death() {
    let daemon = Daemon::new();
    daemon.ok(&["start", "--id", "one"]);
    let before = daemon.idle("one").pid.unwrap();
    let stopped = two_stopped(&daemon);
    let at = Instant::now();
    kill(before);
    let after = next(&daemon, "one", before);
    // A start is given up after 20 s.
    assert!(at.elapsed() < Duration::from_secs(5), "{:?}", at.elapsed());
    assert!(!stopped.contains(&after) && lives(after));
    assert_eq!(daemon.show("one").restarts.in_window, 1, "only its own death");
    until("their end", || stopped.iter().all(|pid| parent(*pid).is_none()).then_some(()));

    let stopped = two_stopped(&daemon);
    let at = Instant::now();
    daemon.ok(&["start", "--id", "two", "--restart", "temporary"]);
    let info = daemon.idle("two");
    assert!(at.elapsed() < Duration::from_secs(5), "{:?}", at.elapsed());
    assert!(!stopped.contains(&info.pid.unwrap()));
    assert_eq!((info.restarts.in_window, info.failure), (0, None));
    let counted = daemon.events().into_iter().filter_map(|event| match event.kind {
        EventKind::SessionRestarting { deaths, .. }
            if event.session.as_ref().is_some_and(|id| id.as_str() == "two") =>
        {
            Some(deaths)
        }
        _ => None,
    });
    assert!(counted.into_iter().all(|deaths| deaths == 0));
    until("their end", || stopped.iter().all(|pid| parent(*pid).is_none()).then_some(()));
    two(&daemon);
}

#[tokio::test]
async fn a_session_that_starts_while_the_spares_are_dismissed_does_not_fail() {
    let dir = tempfile::tempdir().unwrap();
    let builder = SessionManager::builder().state_dir(dir.path().join("state"));
    let builder = builder.config(dir.path().join("config.toml")).spare_workers(2);
    let manager = builder.worker_path(worker()).start().await.unwrap();
    let workdir = Some(dir.path().to_str().unwrap().into());
    let restart = Some(RestartType::Temporary);
    let opts = SessionOpts { workdir, restart, ..SessionOpts::default() };
    let id = manager.start_session(opts, None).await.unwrap().id;
    let mut spares = Vec::new();
    let mut spawned = 0;
    for round in 0..60 {
        manager.wait(&id, WaitFor::Ready, Some(BOUND)).await.unwrap();
        let pid = manager.get_session(&id).await.unwrap().pid.unwrap();
        spawned += u32::from(!spares.contains(&pid));
        let end = Instant::now() + BOUND;
        spares.clear();
        while spares.len() < 2 {
            assert!(Instant::now() < end, "{spares:?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
            spares = manager.info().await.unwrap().spare_workers;
        }
        manager.stop_session(&id, Orphans::default()).await.unwrap();
        manager.wait(&id, WaitFor::Stopped, Some(BOUND)).await.unwrap();
        // They are dismissed 10 ms after the end of the last worker.
        tokio::time::sleep(Duration::from_micros(6_000 + 200 * round)).await;
        manager.restart_session(&id).await.unwrap();
    }
    manager.wait(&id, WaitFor::Ready, Some(BOUND)).await.unwrap();
    let info = manager.get_session(&id).await.unwrap();
    assert_eq!((info.failure, info.restarts.in_window), (None, 0));
    assert!(spawned > 1, "they were never dismissed");
    manager.shutdown().await;
}

#[test]
fn what_a_turn_has_started_with_a_spares_marker_outlives_its_daemon() {
    let daemon = Daemon::new();
    daemon.ok(&["start", "--id", "one"]);
    let worker = daemon.idle("one").pid.unwrap();
    let spare = format!("KENNEL_SESSION={}/:spare/1", uuid(worker));
    let waits = "sh -c 'echo > begun; until test -e on; do sleep 0.02; done'";
    daemon.ok(&["send", "--no-wait", "one", &format!("env {spare} {waits}; echo rc=$?")]);
    until("its begin", || daemon.workdir().join("begun").exists().then_some(()));
    let before = daemon.kill();
    daemon.ok(&["ls"]);
    // It does nothing for anybody before its sweep.
    two(&daemon);
    assert_ne!(daemon.pid(), before);
    assert_eq!(daemon.show("one").pid, Some(worker));
    std::fs::write(daemon.workdir().join("on"), "").unwrap();
    daemon.idle("one");
    let printed = daemon.events().into_iter().filter_map(|event| match event.kind {
        EventKind::MessageChunk { text, .. } => Some(text),
        _ => None,
    });
    assert_eq!(printed.collect::<String>(), "rc=0\n");
}

#[test]
fn a_daemon_that_takes_over_makes_spares_without_a_start() {
    let daemon = Daemon::new();
    daemon.ok(&["start", "--id", "one"]);
    let worker = daemon.idle("one").pid;
    let before = two(&daemon);
    daemon.kill();
    daemon.ok(&["ls"]);
    let after = two(&daemon);
    assert!(after.iter().all(|pid| !before.contains(pid)));
    assert_eq!(daemon.show("one").pid, worker, "it was taken over");
    until("the end of those before", || before.iter().all(|pid| !lives(*pid)).then_some(()));
}
