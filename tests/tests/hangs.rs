//! Workers that hang: stopped, they neither die nor close their pipe, and are found by their silence.

use harness::daemon::Daemon;
use harness::history;
use harness::real::*;
use manager::protocol::event::{Event, EventKind, Outcome};
use nix::sys::signal::Signal;

/// A daemon whose workers may be silent for a second and a half when they have something to do.
fn impatient() -> Daemon {
    let daemon = Daemon::new();
    std::fs::create_dir_all(daemon.dir.path().join("kennel")).unwrap();
    let config = "[defaults]\nworker_timeout = \"1500ms\"\ngrace = \"100ms\"\n";
    std::fs::write(daemon.dir.path().join("kennel/config.toml"), config).unwrap();
    daemon
}

fn of(daemon: &Daemon, id: &str) -> Vec<Event> {
    daemon
        .events()
        .into_iter()
        .filter(|event| event.session.as_ref().is_some_and(|of| of.as_str() == id))
        .collect()
}

/// Waits until the session's worker was replaced because it was silent.
fn replaced(daemon: &Daemon, id: &str, hung: u32) {
    until("its replacement", || {
        of(daemon, id).iter().find_map(|event| match &event.kind {
            EventKind::SessionRestarted { old_pid: Some(pid), reason, .. } if *pid == hung => {
                assert!(reason.contains("has not answered"), "{reason}");
                Some(())
            }
            _ => None,
        })
    });
    assert!(!lives(hung), "two workers of one session");
    // A turn that runs has not ended.
    daemon.idle(id);
    let found = history::of(&daemon.events());
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn a_worker_that_is_stopped_mid_turn_is_replaced_and_what_waits_goes_on() {
    let daemon = impatient();
    for id in ["hangs", "other"] {
        daemon.ok(&["start", "--id", id]);
    }
    let worker = daemon.idle("hangs").pid.unwrap();
    daemon.ok(&["send", "--no-wait", "hangs", "echo begun; sleep 600"]);
    until("the turn", || daemon.show("hangs").running_prompt);
    daemon.ok(&["send", "--no-wait", "hangs", "echo next"]);
    signal(worker, Signal::SIGSTOP);
    // No other session notices.
    assert_eq!(daemon.ok(&["send", "other", "echo meanwhile"]), "meanwhile\n");
    replaced(&daemon, "hangs", worker);
    daemon.idle("hangs");
    let events = of(&daemon, "hangs");
    assert!(
        events.iter().any(|event| matches!(event.kind, EventKind::TurnInterrupted { .. })),
        "{events:#?}"
    );
    let next =
        |kind: &EventKind| matches!(kind, EventKind::TurnCompleted { outcome: Outcome::Completed, .. });
    assert!(events.iter().any(|event| next(&event.kind)), "{events:#?}");
}

#[test]
fn a_worker_that_was_taken_over_and_is_stopped_is_replaced() {
    let daemon = impatient();
    daemon.ok(&["start", "--id", "hangs"]);
    let worker = daemon.idle("hangs").pid.unwrap();
    daemon.ok(&["send", "--no-wait", "hangs", "sleep 600"]);
    until("the turn", || daemon.show("hangs").running_prompt);
    daemon.kill();
    daemon.ok(&["wait", "hangs", "--until", "running", "--timeout", "30s"]);
    assert_eq!(daemon.show("hangs").pid, Some(worker), "it is taken over");
    signal(worker, Signal::SIGSTOP);
    replaced(&daemon, "hangs", worker);
}

#[test]
fn a_turn_that_says_nothing_for_long_is_left_alone() {
    let daemon = impatient();
    daemon.ok(&["start", "--id", "quiet"]);
    let worker = daemon.idle("quiet").pid;
    // More than three times as long as its worker may be silent.
    assert_eq!(daemon.ok(&["send", "quiet", "sleep 5; echo done"]), "done\n");
    assert_eq!(daemon.show("quiet").pid, worker);
}

#[test]
fn a_worker_that_is_stopped_while_idle_is_found_by_its_next_prompt() {
    let daemon = impatient();
    daemon.ok(&["start", "--id", "hangs"]);
    let worker = daemon.idle("hangs").pid.unwrap();
    signal(worker, Signal::SIGSTOP);
    daemon.ok(&["send", "--no-wait", "hangs", "echo first"]);
    replaced(&daemon, "hangs", worker);
    assert_eq!(daemon.ok(&["send", "hangs", "echo on"]), "on\n");
}

#[test]
fn a_worker_at_rest_owes_nothing_and_is_not_judged() {
    let daemon = impatient();
    for id in ["fresh", "rests", "works"] {
        daemon.ok(&["start", "--id", id]);
    }
    // One that has said nothing since its start, and one that has had a turn.
    assert_eq!(daemon.ok(&["send", "rests", "echo on"]), "on\n");
    let resting = ["fresh", "rests"].map(|id| (id, daemon.idle(id).pid.unwrap()));
    resting.iter().for_each(|(_, pid)| signal(*pid, Signal::SIGSTOP));
    // The time in which a worker that owes something is taken for dead passes twice.
    for _ in 0..2 {
        let worker = daemon.idle("works").pid.unwrap();
        daemon.ok(&["send", "--no-wait", "works", "sleep 600"]);
        until("the turn", || daemon.show("works").running_prompt);
        signal(worker, Signal::SIGSTOP);
        replaced(&daemon, "works", worker);
    }
    for (id, pid) in resting {
        assert_eq!((daemon.show(id).pid, lives(pid)), (Some(pid), true), "{id} was at rest");
        signal(pid, Signal::SIGCONT);
        assert_eq!(daemon.ok(&["send", id, "echo still"]), "still\n");
    }
}

#[cfg(feature = "failpoints")]
#[test]
fn a_worker_that_spins_is_replaced() {
    let mut daemon = impatient();
    let points = daemon.workdir().join("points");
    std::fs::create_dir(&points).unwrap();
    daemon.set("KENNEL_FAILPOINTS", points.to_str().unwrap());
    daemon.ok(&["start", "--id", "hangs"]);
    let worker = daemon.idle("hangs").pid.unwrap();
    daemon.ok(&["send", "--no-wait", "hangs", "sleep 600"]);
    until("the turn", || daemon.show("hangs").running_prompt);
    std::fs::write(points.join("worker.spin"), "").unwrap();
    replaced(&daemon, "hangs", worker);
    assert_eq!(daemon.ok(&["send", "hangs", "echo on"]), "on\n");
}
