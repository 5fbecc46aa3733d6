//! A daemon that is stopped: it answers nothing, and every command ends and says how to end it.

use harness::daemon::{Daemon, finish_within};
use manager::protocol::api::Problem;
use nix::sys::signal::Signal;

use harness::real::*;

/// Twice as long as a command waits for a daemon that answers nothing.
const WITHIN: std::time::Duration = std::time::Duration::from_secs(70);

#[test]
fn every_command_to_a_daemon_that_does_not_answer_ends_and_names_its_process() {
    let daemon = Daemon::new();
    daemon.ok(&["start", "--id", "s"]);
    daemon.idle("s");
    let pid = daemon.pid();
    signal(pid, Signal::SIGSTOP);
    let commands: [&[&str]; 8] = [
        &["--json", "ls"],
        &["--json", "daemon", "status"],
        &["--json", "daemon", "stop"],
        &["--json", "daemon", "restart"],
        &["--json", "start"],
        &["--json", "send", "s", "echo x"],
        &["--json", "stop", "--all"],
        &["--json", "events", "-f"],
    ];
    let running = commands.map(|args| (args, daemon.spawn(args)));
    let doctor = daemon.spawn(&["--json", "doctor"]);
    for (args, child) in running {
        let output = finish_within(child, WITHIN);
        assert_eq!(output.code, Some(3), "{args:?}: {output:#?}");
        let problem: Problem = serde_json::from_str(&output.stderr).unwrap_or_else(|_| panic!("{output:#?}"));
        assert_eq!(problem.code, "daemon_silent", "{args:?}");
        assert!(
            problem.detail.contains(&format!("the daemon (pid {pid}) did not answer within 30s")),
            "{problem:?}"
        );
        assert!(problem.hint.unwrap().contains(&format!("`kill -9 {pid}`")), "{args:?}");
    }
    let output = finish_within(doctor, WITHIN);
    assert_eq!(output.code, Some(1), "{output:#?}");
    let findings: Vec<serde_json::Value> = serde_json::from_str(&output.stdout).unwrap();
    let found = findings.iter().find(|finding| finding["name"] == "daemon").unwrap();
    assert_eq!(found["health"], "problem", "{found}");
    assert!(found["found"].as_str().unwrap().contains(&format!("(pid {pid})")), "{found}");
    assert!(found["mend"].as_str().unwrap().contains(&format!("`kill -9 {pid}`")), "{found}");
    // The way out that was named leads out.
    kill(pid);
    daemon.idle("s");
}
