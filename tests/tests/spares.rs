//! Spare workers: processes that wait for a session.

use harness::daemon::Daemon;
use harness::real::*;
use manager::protocol::api::ManagerInfo;
use manager::protocol::event::EventKind;
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
