//! Spare workers: processes that wait for a session.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::containment::{daemon_over, users};
use harness::daemon::{Daemon, finish};
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

#[test]
fn a_session_that_would_take_a_spare_refuses_a_log_that_others_can_write() {
    let daemon = Daemon::new();
    daemon.ok(&["start", "--id", "one"]);
    let waiting = two(&daemon);
    let log = daemon.workdir().join("state/logs/two.log");
    let mode = |mode| std::fs::set_permissions(&log, std::fs::Permissions::from_mode(mode)).unwrap();
    std::fs::write(&log, "planted\n").unwrap();
    mode(0o666);
    daemon.ok(&["start", "--id", "two"]);
    let mode_of_it = "two.log has mode 0666: other users can write there";
    until("the refusal", || daemon.show("two").restarts.last_reason.filter(|why| why.contains(mode_of_it)));
    until("the end of the spare", || waiting.iter().any(|pid| !lives(*pid)).then_some(()));
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "planted\n");
    // Once it is the user's alone, the next try takes it.
    mode(0o600);
    let worker = daemon.idle("two").pid.unwrap();
    assert_eq!(std::fs::read_link(format!("/proc/{worker}/fd/2")).unwrap(), log);
    assert_eq!(daemon.ok(&["logs", "two"]), "planted\n");
}

/// Sets how many processes this one may be the next of, as its own user may.
fn bound(pid: u32, processes: &str) {
    let user = std::fs::metadata(format!("/proc/{pid}")).unwrap();
    let mut command = Command::new("prlimit");
    command.args(["--pid", &pid.to_string(), &format!("--nproc={processes}:")]);
    command.uid(user.uid()).gid(user.gid()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = finish(command.spawn().unwrap());
    assert_eq!(output.code, Some(0), "{output:?}");
}

#[test]
fn spares_and_zygote_make_way_for_a_worker_that_the_machine_has_no_room_for() {
    // Root is not bound by a limit of processes.
    let daemon = daemon_over(tempfile::tempdir().unwrap(), *users().last().unwrap(), "");
    daemon.ok(&["start", "--id", "one"]);
    two(&daemon);
    let pid = daemon.pid();
    let zygotes = || below(pid).into_iter().filter(|pid| is_zygote(*pid)).collect::<Vec<u32>>();
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let before = limits.lines().find_map(|line| line.strip_prefix("Max processes")).unwrap();
    let before = before.split_whitespace().next().unwrap();
    [pid].into_iter().chain(zygotes()).for_each(|pid| bound(pid, "0"));
    // These have their process already.
    daemon.ok(&["start", "--id", "two"]);
    daemon.ok(&["start", "--id", "three"]);
    assert_eq!(zygotes().len(), 1, "a spare that cannot be made is no reason");
    let start = daemon.spawn(&["start", "--id", "four"]);
    until("the end of the zygote", || zygotes().is_empty().then_some(()));
    bound(pid, before);
    let started = finish(start);
    assert_eq!(started.code, Some(0), "{started:?}");
    assert_eq!(daemon.idle("four").restarts.in_window, 0, "that is no fault of the session");
    // Its start needed a zygote. For a minute there is none for longer, and no spare.
    until("the end of the next zygote", || zygotes().is_empty().then_some(()));
    assert_eq!(spares(&daemon), Vec::<u32>::new());
    daemon.ok(&["start", "--id", "five"]);
    until("the end of the one after that", || zygotes().is_empty().then_some(()));
    assert_eq!(spares(&daemon), Vec::<u32>::new());
}
