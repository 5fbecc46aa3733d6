//! Clocks that jump, on the shipped binaries. The wall clock jumps when it is set. With the clock that counts
//! time asleep, it also jumps when the machine sleeps. Events show the wall clock, and no deadline depends on
//! either.

use harness::daemon::Daemon;
use harness::real::*;
use manager::protocol::api::Status;
use manager::protocol::event::{Event, EventKind};

const HOUR: i64 = 60 * 60 * 1000;

fn event(daemon: &Daemon, id: &str, wanted: impl Fn(&EventKind) -> bool) -> Option<Event> {
    let of = |event: &Event| event.session.as_ref().is_some_and(|session| session.as_str() == id);
    daemon.events().into_iter().find(|event| of(event) && wanted(&event.kind))
}

/// Sets the clock by an hour. Deadlines half an hour away must stay where they are, and near ones must come.
fn jump(by: i64) {
    let mut daemon = Daemon::new();
    let points = daemon.workdir().join("points");
    std::fs::create_dir(&points).unwrap();
    daemon.set("KENNEL_FAILPOINTS", points.to_str().unwrap());
    daemon.ok(&["start", "--id", "far", "--hibernate-after", "30m"]);
    daemon.ok(&["start", "--id", "works", "--turn-timeout", "30m"]);
    daemon.ok(&["send", "--no-wait", "works", "until [ -e on ]; do sleep 0.05; done; echo done"]);
    daemon.ok(&["wait", "works", "--until", "running", "--timeout", "30s"]);
    // These are under way when the clock is set.
    daemon.ok(&["start", "--id", "near", "--hibernate-after", "4s"]);
    daemon.ok(&["start", "--id", "slow", "--turn-timeout", "4s"]);
    daemon.ok(&["send", "--no-wait", "slow", "sleep 1h"]);
    let before = daemon.events().last().unwrap().at.0;
    std::fs::write(points.join("clock.wall"), by.to_string()).unwrap();

    let timed_out = |kind: &EventKind| matches!(kind, EventKind::TurnCompleted { stop_reason, .. } if stop_reason == "timeout");
    let out = until("the turn's limit", || event(&daemon, "slow", timed_out));
    let set = out.at.0.cast_signed() - before.cast_signed();
    assert!((set - by).abs() < HOUR / 2, "the clock is set, and people are shown it: {set} ms");
    until("hibernation", || (daemon.show("near").status == Status::Hibernated).then_some(()));
    // A worker that dies now is replaced as ever, and counts as one death.
    let pid = daemon.show("far").pid.unwrap();
    kill(pid);
    until("another worker", || {
        let far = daemon.show("far");
        (far.status == Status::Idle && far.pid != Some(pid)).then_some(())
    });
    // A new daemon, which reads all deadlines anew, decides the same.
    daemon.kill();
    assert_eq!(daemon.show("works").status, Status::Running);
    assert_eq!(daemon.idle("far").status, Status::Idle);
    assert_eq!(event(&daemon, "works", timed_out), None);
    assert_eq!(event(&daemon, "far", |kind| matches!(kind, EventKind::SessionHibernated {})), None);
    std::fs::write(daemon.workdir().join("on"), "").unwrap();
    daemon.idle("works");
    assert!(harness::history::of(&daemon.events()).is_empty());
}

#[test]
fn a_clock_that_jumps_an_hour_ahead_changes_no_deadline() {
    jump(HOUR);
}

#[test]
fn a_clock_that_jumps_an_hour_back_changes_no_deadline() {
    jump(-HOUR);
}

/// Returns the session's status once it is adopted.
fn status(daemon: &Daemon, id: &str) -> Status {
    until("the session is taken over", || {
        Some(daemon.show(id).status).filter(|status| *status != Status::Adopting)
    })
}

/// The sleeps of a laptop, in milliseconds. Together they leave seconds of 90 minutes.
const NAPS: [i64; 3] = [60 * 60 * 1000, 29 * 60 * 1000, 56 * 1000];

#[test]
fn a_machine_that_sleeps_brings_no_deadline_nearer() {
    let mut daemon = Daemon::new();
    let points = daemon.workdir().join("points");
    std::fs::create_dir(&points).unwrap();
    daemon.set("KENNEL_FAILPOINTS", points.to_str().unwrap());
    let agent = beside("acp-agent");
    let profile =
        format!("[agents.asks]\nkind = \"acp\"\ncommand = [{agent:?}]\npermission_timeout = \"90m\"\n");
    std::fs::create_dir(daemon.workdir().join("kennel")).unwrap();
    std::fs::write(daemon.workdir().join("kennel/config.toml"), profile).unwrap();
    daemon.ok(&["start", "--id", "rests", "--hibernate-after", "90m"]);
    daemon.ok(&["start", "--id", "works", "--turn-timeout", "90m"]);
    daemon.ok(&["send", "--no-wait", "works", "until [ -e on ]; do sleep 0.05; done; echo done"]);
    daemon.ok(&["start", "--id", "asks", "--agent", "asks"]);
    daemon.ok(&["send", "--no-wait", "asks", "ask call-1 edit a.txt"]);
    until("a question", || (daemon.show("asks").status == Status::RequiresAction).then_some(()));
    let mut slept = 0;
    for nap in NAPS {
        slept += nap;
        for clock in ["boot", "wall"] {
            std::fs::write(points.join(format!("clock.{clock}")), slept.to_string()).unwrap();
        }
        // It wakes for somebody, and not for a deadline that has passed.
        daemon.ok(&["ls"]);
    }
    // By now the deadlines of a clock that counts sleep are over.
    daemon.ok(&["start", "--id", "slow", "--turn-timeout", "5s"]);
    daemon.ok(&["send", "--no-wait", "slow", "sleep 1h"]);
    let timed_out = |kind: &EventKind| matches!(kind, EventKind::TurnCompleted { stop_reason, .. } if stop_reason == "timeout");
    until("the turn's limit", || event(&daemon, "slow", timed_out));
    for _ in 0..2 {
        let now = ["rests", "works", "asks"].map(|id| status(&daemon, id));
        assert_eq!(now, [Status::Idle, Status::Running, Status::RequiresAction]);
        // The next manager knows how near each is.
        daemon.kill();
    }
    std::fs::write(daemon.workdir().join("on"), "").unwrap();
    daemon.idle("works");
}
