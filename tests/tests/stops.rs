//! Stops of sessions, on real processes: a worker at rest is not asked to leave; whoever has something to end is.

use std::path::Path;
use std::time::{Duration, Instant};

use harness::daemon::Daemon;
use harness::history;
use harness::real::*;
use manager::protocol::event::EventKind;
use nix::sys::signal::Signal;

/// Longer than any test may take.
const GRACE: Duration = Duration::from_secs(120);
const SOON: Duration = Duration::from_secs(30);

/// A daemon that gives its workers much time, with an ACP agent `x` that writes a file when it is told to end.
fn patient() -> Daemon {
    let daemon = Daemon::new();
    std::fs::create_dir_all(daemon.dir.path().join("kennel")).unwrap();
    let script = format!(
        "trap 'echo told > {}' TERM; {}; exit 0",
        daemon.workdir().join("acp").display(),
        beside("acp-agent").display()
    );
    let config = format!(
        "[defaults]\ngrace = \"{}s\"\n[agents.x]\nkind = \"acp\"\ncommand = [\"/bin/sh\", \"-c\", \"{script}\"]\n",
        GRACE.as_secs()
    );
    std::fs::write(daemon.dir.path().join("kennel/config.toml"), config).unwrap();
    daemon
}

fn told(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap_or_default()
}

/// Starts sessions whose idle workers are then stopped, so that they cannot leave by themselves.
fn frozen<const N: usize>(daemon: &Daemon, ids: [&str; N]) -> [u32; N] {
    ids.map(|id| {
        daemon.ok(&["start", "--id", id]);
        assert_eq!(daemon.ok(&["send", id, "echo on"]), "on\n");
        let worker = daemon.idle(id).pid.unwrap();
        signal(worker, Signal::SIGSTOP);
        worker
    })
}

#[test]
fn an_idle_worker_is_not_asked_to_leave() {
    let daemon = patient();
    let workers = frozen(&daemon, ["stopped", "removed", "restarted", "ended"]);
    let begun = Instant::now();
    daemon.ok(&["stop", "stopped"]);
    daemon.ok(&["rm", "--force", "removed"]);
    daemon.ok(&["restart", "restarted"]);
    assert_ne!(daemon.idle("restarted").pid, Some(workers[2]));
    let events = daemon.events();
    daemon.ok(&["daemon", "stop"]);
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    assert_eq!(workers.map(lives), [false; 4]);
    // A stop that went well does not read like a crash.
    let ends: Vec<_> = events
        .iter()
        .filter_map(|event| match &event.kind {
            EventKind::SessionStopped { exit } | EventKind::SessionRestarting { exit, .. } => Some(*exit),
            _ => None,
        })
        .collect();
    assert_eq!(ends, [None; 3]);
    let found = history::of(&events);
    assert!(found.is_empty(), "{found:#?}");
    // The next daemon has the sessions that were not stopped.
    assert_eq!(daemon.ok(&["send", "ended", "echo back"]), "back\n");
}

#[test]
fn what_runs_below_a_worker_is_told_to_end() {
    let daemon = patient();
    let (acp, turn) = (daemon.workdir().join("acp"), daemon.workdir().join("turn"));
    daemon.ok(&["start", "--id", "acp", "--agent", "x"]);
    daemon.ok(&["start", "--id", "turn"]);
    let idle = daemon.idle("acp");
    let command =
        format!("trap 'echo told > {}; exit' TERM; echo begun; while :; do sleep 0.05; done", turn.display());
    daemon.ok(&["send", "--no-wait", "turn", &command]);
    until("the turn", || {
        let begun = |kind: &EventKind| matches!(kind, EventKind::MessageChunk { .. });
        daemon.events().iter().any(|event| begun(&event.kind)).then_some(())
    });
    let workers = [idle.pid.unwrap(), daemon.show("turn").pid.unwrap()];
    assert_eq!((told(&acp), told(&turn)), (String::new(), String::new()));
    daemon.ok(&["stop", "acp"]);
    daemon.ok(&["stop", "turn"]);
    assert_eq!((told(&acp).as_str(), told(&turn).as_str()), ("told\n", "told\n"));
    assert!(!lives(idle.agent_pid.unwrap()));
    assert_eq!(workers.map(lives), [false; 2]);
    let found = history::of(&daemon.events());
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn no_command_that_waits_starts_a_daemon_that_was_stopped_and_the_next_command_does() {
    let daemon = Daemon::new();
    daemon.ok(&["start", "--id", "one"]);
    daemon.ok(&["start", "--id", "two"]);
    daemon.ok(&["send", "--no-wait", "one", "sleep 1000"]);
    let waits: [&[&str]; 8] = [
        &["wait", "one"],
        &["wait", "one", "--until", "stopped"],
        &["wait", "one", "two", "--all"],
        &["send", "one", "echo later"],
        &["attach", "--plain", "one"],
        &["events", "-f"],
        &["transcript", "-f", "one"],
        &["logs", "-f", "one"],
    ];
    let waiting: Vec<_> = waits
        .iter()
        .map(|args| {
            let mut command = daemon.command(args);
            if args[0] == "attach" {
                // The end of its input would detach it.
                command.stdin(std::process::Stdio::piped());
            }
            command.spawn().unwrap()
        })
        .collect();
    // Each has spoken to the daemon: it has a connection, or has come to wait between two looks.
    for child in &waiting {
        let fds = format!("/proc/{}/fd", child.id());
        until("a connection", || {
            let links = std::fs::read_dir(&fds).ok()?.flatten();
            let mut links = links.filter_map(|fd| std::fs::read_link(fd.path()).ok());
            links.any(|link| link.to_string_lossy().starts_with("socket:")).then_some(())
        });
    }
    until("the prompt of one", || daemon.ok(&["--json", "events"]).contains("echo later").then_some(()));
    let pid = daemon.pid();
    // They hear nothing of the stop, and find nobody afterwards.
    waiting.iter().for_each(|child| signal(child.id(), Signal::SIGSTOP));
    daemon.ok(&["daemon", "stop"]);
    assert!(!lives(pid));
    waiting.iter().for_each(|child| signal(child.id(), Signal::SIGCONT));
    for (child, args) in waiting.into_iter().zip(waits) {
        let output = harness::daemon::finish(child);
        assert!(!output.stderr.contains("starting the daemon"), "{args:?}: {output:?}");
    }
    let lock = daemon.dir.path().join("state/lock");
    std::fs::File::open(&lock).unwrap().try_lock_shared().expect("nobody has started the daemon");
    // Who comes anew does.
    assert!(daemon.ok(&["ls", "--all"]).contains("one"));
    assert_eq!(daemon.run(&["daemon", "stop"]).code, Some(0));
    assert!(daemon.ok(&["ls", "--all"]).contains("one"));
}
