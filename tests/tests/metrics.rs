//! `/metrics`: the figures of what happens.

use std::collections::BTreeSet;
use std::time::Instant;

use harness::daemon::Daemon;
use harness::real::*;

/// The value of a series, if it is there.
fn value(text: &str, series: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map(|value| value.parse().unwrap())
}

/// Waits until these series have these values: the figures may be a second old.
fn until_they_are(daemon: &Daemon, wanted: &[(&str, f64)]) -> String {
    until("the figures", || {
        let text = daemon.metrics();
        wanted.iter().all(|(series, wanted)| value(&text, series) == Some(*wanted)).then_some(text)
    })
}

#[test]
fn the_figures_tell_what_has_happened_to_whose_sessions() {
    let daemon = Daemon::new();
    daemon.ok(&["start", "--id", "one"]);
    daemon.ok(&["send", "one", "echo said"]);
    let before = daemon.idle("one");
    kill(before.pid.unwrap());
    until("another process", || {
        (daemon.show("one").pid.is_some_and(|pid| Some(pid) != before.pid)).then_some(())
    });
    daemon.idle("one");
    daemon.ok(&["send", "--no-wait", "one", "sleep 1000"]);
    daemon.ok(&["send", "--no-wait", "one", "echo waits"]);
    daemon.ok(&["start", "--id", "two"]);
    daemon.ok(&["stop", "two"]);
    let text = until_they_are(
        &daemon,
        &[
            ("kennel_sessions{agent=\"shell\",status=\"running\"}", 1.0),
            ("kennel_sessions{agent=\"shell\",status=\"stopped\"}", 1.0),
            ("kennel_sessions{agent=\"shell\",status=\"failed\"}", 0.0),
            ("kennel_queued_prompts{agent=\"shell\"}", 1.0),
            ("kennel_prompts_accepted_total{agent=\"shell\"}", 3.0),
            ("kennel_turns_total{agent=\"shell\",outcome=\"completed\"}", 1.0),
            ("kennel_restarts_total{agent=\"shell\",cause=\"worker_died\"}", 1.0),
            ("kennel_recovery_seconds_count", 1.0),
            ("kennel_accept_seconds_count", 3.0),
            ("kennel_needs{kind=\"permission\"}", 0.0),
            ("kennel_clients{role=\"driver\"}", 0.0),
        ],
    );
    assert!(value(&text, "kennel_commit_seconds_count").unwrap() >= 5.0, "{text}");
    assert!(value(&text, "kennel_memory_bytes{agent=\"shell\"}").unwrap() > 100_000.0, "{text}");
    assert!(value(&text, "kennel_journal_bytes").unwrap() >= 4096.0, "{text}");
    assert!(!text.contains("kennel_session_"), "nobody has asked for each session: {text}");
    assert!(
        daemon
            .get_text("/metrics?sessions=true")
            .contains("kennel_session_processes{agent=\"shell\",session=\"one\"} ")
    );

    // A turn that a crash cuts off waits for a person.
    kill(daemon.show("one").pid.unwrap());
    until_they_are(
        &daemon,
        &[
            ("kennel_turns_total{agent=\"shell\",outcome=\"interrupted\"}", 1.0),
            ("kennel_needs{kind=\"interrupted\"}", 1.0),
        ],
    );
}

#[test]
fn whoever_asks_all_the_time_costs_one_look_a_second() {
    let daemon = Daemon::new();
    daemon.ok(&["start", "--id", "s"]);
    daemon.idle("s");
    let began = Instant::now();
    let mut texts = BTreeSet::new();
    for number in 0..60 {
        // Each changes the id of the last event.
        daemon.ok(&["label", "s", &format!("number={number}")]);
        texts.insert(daemon.get_text("/metrics"));
    }
    let newest = format!("kennel_last_event_id {}\n", daemon.events().last().unwrap().id);
    until("a new look", || daemon.get_text("/metrics").contains(&newest).then_some(()));
    let looks = 2 + began.elapsed().as_secs() as usize;
    assert!(texts.len() <= looks, "{} looks where there are {looks} at most", texts.len());
}

#[test]
fn a_daemon_does_not_count_the_processor_time_that_an_earlier_one_has_seen() {
    const CPU: &str = "kennel_cpu_seconds_total{agent=\"shell\"}";
    let daemon = Daemon::new();
    daemon.ok(&["start", "--id", "s"]);
    daemon.ok(&["send", "s", "i=0; while [ $i -lt 400000 ]; do i=$((i+1)); done"]);
    daemon.idle("s");
    let before = until("its processor time", || value(&daemon.metrics(), CPU).filter(|cpu| *cpu > 0.1));
    daemon.ok(&["daemon", "restart"]);
    daemon.idle("s");
    let after = until("the figures of the next one", || value(&daemon.metrics(), CPU));
    assert!(after < before / 2.0, "{after} of {before} s");
}
