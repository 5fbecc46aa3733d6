//! Agents that show no sign of work, and agents that only seem to: kennel tells them apart by evidence, on
//! real processes.

use harness::daemon::Daemon;
use harness::history;
use harness::real::*;
use manager::protocol::Restore;
use manager::protocol::event::{Event, EventKind, Outcome, StallStep};
use nix::sys::signal::Signal;

/// A daemon whose agent may show no sign of work for a second, with a session of it.
fn impatient() -> Daemon {
    patient_for("1s")
}

fn patient_for(time: &str) -> Daemon {
    let daemon = Daemon::new();
    std::fs::create_dir_all(daemon.dir.path().join("kennel")).unwrap();
    let config = format!(
        "[defaults]\ngrace = \"200ms\"\n\
         [agents.x]\nkind = \"acp\"\ncommand = [\"{}\", \"--load\", \"--memory\", \"{}\"]\n\
         stall_timeout = \"{time}\"\nworker_timeout = \"600ms\"\n",
        beside("acp-agent").display(),
        daemon.workdir().display(),
    );
    std::fs::write(daemon.dir.path().join("kennel/config.toml"), config).unwrap();
    daemon.ok(&["start", "--id", "s", "--agent", "x"]);
    daemon.idle("s");
    daemon
}

fn steps(events: &[Event]) -> Vec<StallStep> {
    let step = |event: &Event| match event.kind {
        EventKind::SessionStalled { step, .. } => Some(step),
        _ => None,
    };
    events.iter().filter_map(step).collect()
}

/// The session's events, once the turn that runs is cut off.
fn interrupted(daemon: &Daemon) -> Vec<Event> {
    let cut = |event: &Event| matches!(event.kind, EventKind::TurnInterrupted { .. });
    until("the end of the turn", || daemon.events().iter().any(cut).then_some(()));
    daemon.events()
}

#[test]
fn an_agent_without_a_sign_of_work_is_told_to_end_its_turn_and_goes_on_with_what_waits() {
    let daemon = impatient();
    let pid = daemon.show("s").pid;
    daemon.ok(&["send", "--no-wait", "s", "say begun; sleep 600000ms"]);
    daemon.ok(&["send", "--no-wait", "s", "say next"]);
    let events = interrupted(&daemon);
    assert_eq!(steps(&events), [StallStep::Noticed, StallStep::Cancelled], "{events:#?}");
    let quiet: Vec<u64> = events
        .iter()
        .filter_map(|event| match event.kind {
            EventKind::SessionStalled { quiet_ms, .. } => Some(quiet_ms),
            _ => None,
        })
        .collect();
    assert!(quiet[0] >= 1_000 && quiet[1] >= 1_500, "{quiet:?}");
    assert_eq!(daemon.idle("s").pid, pid, "its agent did as it was told");
    let ended =
        |event: &Event| matches!(event.kind, EventKind::TurnCompleted { outcome: Outcome::Completed, .. });
    assert!(daemon.events().iter().any(ended));
    let found = history::of(&daemon.events());
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn an_agent_that_does_not_end_its_turn_is_terminated_killed_and_restored_and_each_step_is_told() {
    let daemon = impatient();
    let before = daemon.show("s");
    daemon.ok(&["send", "s", "say remembered"]);
    daemon.ok(&["send", "--no-wait", "s", "deaf; sleep 600000ms"]);
    let cut = interrupted(&daemon);
    assert_eq!(steps(&cut), [StallStep::Noticed, StallStep::Cancelled], "{cut:#?}");
    until("its replacement", || daemon.show("s").pid.filter(|pid| Some(*pid) != before.pid));
    daemon.idle("s");
    let events = daemon.events();
    for step in ["SIGTERM", "SIGKILL"] {
        let received =
            |event: &Event| matches!(&event.kind, EventKind::SystemMessage { text } if text.contains(step));
        assert!(events.iter().any(received), "{step}: {events:#?}");
    }
    assert!(!lives(before.agent_pid.unwrap()));
    let output = daemon.ok(&["send", "s", "recall"]);
    assert!(output.starts_with("remembered "), "{output}");
    let restored =
        |event: &Event| matches!(event.kind, EventKind::SessionRestarted { restore: Restore::Loaded, .. });
    assert!(events.iter().any(restored), "{events:#?}");
    let found = history::of(&daemon.events());
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn an_agent_that_is_stopped_is_found_and_replaced() {
    let daemon = impatient();
    let before = daemon.show("s");
    daemon.ok(&["send", "--no-wait", "s", "say begun; sleep 600000ms"]);
    until("the turn", || daemon.show("s").running_prompt);
    signal(before.agent_pid.unwrap(), Signal::SIGSTOP);
    let events = interrupted(&daemon);
    assert_eq!(steps(&events), [StallStep::Noticed, StallStep::Cancelled], "{events:#?}");
    until("its replacement", || daemon.show("s").pid.filter(|pid| Some(*pid) != before.pid));
    assert_eq!(daemon.ok(&["send", "s", "say there"]), "there");
    assert!(!lives(before.agent_pid.unwrap()));
}

#[test]
fn whoever_works_or_waits_for_somebody_is_left_alone() {
    let daemon = impatient();
    // Each longer than nothing may be seen of an agent that neither works nor waits.
    for work in ["tool t Build; sleep 3000ms; done t; say it", "spin 3000ms; say it", "run sleep 3; say it"] {
        let output = daemon.ok(&["send", "s", work]);
        assert!(output.ends_with("it"), "{work}: {output}");
        assert_eq!(steps(&daemon.events()), [], "{work}: {:#?}", daemon.events());
    }
    daemon.ok(&["send", "--no-wait", "s", "tool a Write; ask a edit notes; done a; say it"]);
    let permission = until("the question", || {
        daemon.events().into_iter().find_map(|event| match event.kind {
            EventKind::PermissionRequested { permission_id, .. } => Some(permission_id),
            _ => None,
        })
    });
    assert_ne!(daemon.run(&["wait", "s", "--until", "idle", "--timeout", "3s"]).code, Some(0));
    daemon.ok(&["permissions", "allow", &permission.to_string()]);
    daemon.idle("s");
    assert_eq!(steps(&daemon.events()), []);
}

#[test]
fn an_agent_that_goes_on_after_all_is_left_alone() {
    let daemon = patient_for("6s");
    let agent = daemon.show("s").agent_pid.unwrap();
    daemon.ok(&["send", "--no-wait", "s", "say begun; sleep 1000ms; say done"]);
    until("the turn", || daemon.show("s").running_prompt);
    signal(agent, Signal::SIGSTOP);
    until("somebody noticed", || (steps(&daemon.events()) == [StallStep::Noticed]).then_some(()));
    signal(agent, Signal::SIGCONT);
    daemon.idle("s");
    assert_eq!(steps(&daemon.events()), [StallStep::Noticed, StallStep::Resumed]);
}
