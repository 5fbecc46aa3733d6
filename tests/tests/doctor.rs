//! `kennel doctor`: finds problems, prints fixes, and changes nothing.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use harness::daemon::Daemon;
use harness::disk::{SmallDisk, alone};
use harness::real::*;
use serde_json::Value;

use super::containment::{daemon_over, users};

/// Returns the doctor's exit status, and the findings by name.
fn doctor(daemon: &Daemon) -> (Option<i32>, Vec<Value>) {
    let output = daemon.run(&["doctor", "--json"]);
    let findings: Vec<Value> =
        serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    (output.code, findings)
}

fn finding<'a>(findings: &'a [Value], name: &str) -> &'a Value {
    findings
        .iter()
        .find(|finding| finding["name"] == name)
        .unwrap_or_else(|| panic!("no {name}: {findings:#?}"))
}

#[test]
fn doctor_finds_a_sound_directory_sound_with_a_daemon_and_without_and_starts_none() {
    let daemon = Daemon::new();
    let (code, findings) = doctor(&daemon);
    assert_eq!(code, Some(0), "{findings:#?}");
    assert!(!daemon.dir.path().join("state").exists(), "it made something");
    let config = finding(&findings, "configuration")["found"].as_str().unwrap();
    assert!(config.contains("is not there") && !config.contains("can be read"), "{config}");
    daemon.ok(&["start", "--id", "one"]);
    daemon.idle("one");
    let (code, findings) = doctor(&daemon);
    assert_eq!(code, Some(0), "{findings:#?}");
    for name in ["daemon", "state directory", "session-worker", "configuration", "journal", "leftovers"] {
        assert_eq!(finding(&findings, name)["health"], "ok", "{findings:#?}");
    }
    let found = finding(&findings, "containment")["found"].as_str().unwrap().to_owned();
    let level = serde_json::to_value(daemon.show("one").containment).unwrap();
    assert!(found.starts_with(level.as_str().unwrap()), "{found}, and {level}");
    let text = daemon.ok(&["doctor"]);
    assert!(text.contains("ok       journal") && text.contains("whole"), "{text}");
    daemon.ok(&["daemon", "stop"]);
    let (_, findings) = doctor(&daemon);
    assert!(finding(&findings, "daemon")["found"].as_str().unwrap().starts_with("none runs"));
    assert_eq!(daemon.run(&["daemon", "status"]).code, Some(6), "it has started one");
}

#[test]
fn doctor_finds_a_directory_that_others_can_look_into_and_a_broken_configuration() {
    let daemon = Daemon::new();
    daemon.ok(&["start", "--id", "one"]);
    let state = daemon.dir.path().join("state");
    std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::create_dir_all(daemon.dir.path().join("kennel")).unwrap();
    std::fs::write(daemon.dir.path().join("kennel/config.toml"), "\nnonsense = 1\n").unwrap();
    let (code, findings) = doctor(&daemon);
    assert_eq!(code, Some(1), "{findings:#?}");
    let mode = finding(&findings, "state directory");
    assert_eq!(mode["health"], "problem");
    assert!(mode["mend"].as_str().unwrap().starts_with("chmod 0700 "), "{mode}");
    let config = finding(&findings, "configuration");
    assert_eq!(config["health"], "problem");
    assert!(config["found"].as_str().unwrap().contains("nonsense"), "{config}");
    assert_eq!(std::fs::metadata(&state).unwrap().permissions().mode() & 0o777, 0o755, "it changes nothing");
}

#[test]
fn doctor_finds_a_damaged_journal() {
    let daemon = Daemon::new();
    daemon.ok(&["start", "--id", "one"]);
    daemon.ok(&["send", "one", "head -c 100000 /dev/zero | tr '\\0' x"]);
    daemon.ok(&["daemon", "stop"]);
    let journal = daemon.dir.path().join("state/journal.db");
    let mut bytes = std::fs::read(&journal).unwrap();
    let half = bytes.len() / 2;
    bytes[half..half + 8192].fill(0xa5);
    std::fs::write(&journal, &bytes).unwrap();
    let (code, findings) = doctor(&daemon);
    assert_eq!(
        (code, &finding(&findings, "journal")["health"]),
        (Some(1), &"problem".into()),
        "{findings:#?}"
    );
    assert_eq!(std::fs::read(&journal).unwrap(), bytes, "it changes nothing");
}

#[test]
fn doctor_finds_a_process_that_an_ended_session_has_left() {
    let daemon = Daemon::new();
    daemon.ok(&["start", "--id", "one"]);
    let worker = daemon.idle("one").pid.unwrap();
    // As one that has got away would look.
    let marker = format!("{}/gone/1", uuid(worker));
    let mut command = Command::new("/bin/sleep");
    command.arg("600").env("KENNEL_SESSION", marker).stdin(Stdio::null());
    let mut left = command.spawn().unwrap();
    until("its own environment", || marker_of(left.id()).filter(|marker| marker.contains("/gone/")));
    let (code, findings) = doctor(&daemon);
    let found = finding(&findings, "leftovers").clone();
    left.kill().unwrap();
    left.wait().unwrap();
    assert_eq!((code, &found["health"]), (Some(1), &"problem".into()), "{findings:#?}");
    assert!(found["found"].as_str().unwrap().ends_with(&format!(": {}", left.id())), "{found}");
    assert_eq!(doctor(&daemon).0, Some(0));
}

#[test]
fn doctor_finds_a_machine_without_user_namespaces_and_a_disk_that_is_full_soon_or_now() {
    alone(
        "doctor::doctor_finds_a_machine_without_user_namespaces_and_a_disk_that_is_full_soon_or_now",
        || {
            let mut daemon = Daemon::new();
            daemon.run_without_user_namespaces();
            let (code, findings) = doctor(&daemon);
            assert_eq!(code, Some(0), "{findings:#?}");
            for (name, found, mend) in [
                ("user namespaces", "forbidden: /proc/sys/user/max_user_namespaces is 0", "sysctl "),
                ("containment", "subreaper: ", "user namespaces"),
            ] {
                let finding = finding(&findings, name);
                assert_eq!(finding["health"], "warning", "{finding}");
                assert!(finding["found"].as_str().unwrap().starts_with(found), "{finding}");
                assert!(finding["mend"].as_str().unwrap().contains(mend), "{finding}");
            }
            for (mebibytes, health, status) in [(500, "warning", 0), (50, "problem", 1)] {
                let daemon = Daemon::new();
                let _disk = SmallDisk::at(&daemon.dir.path().join("state"), mebibytes << 20);
                let (code, findings) = doctor(&daemon);
                let finding = finding(&findings, "disk");
                assert_eq!((code, &finding["health"]), (Some(status), &health.into()), "{finding}");
                assert!(finding["mend"].as_str().unwrap().starts_with("make room"), "{finding}");
            }
        },
    );
}

#[test]
fn doctor_finds_too_few_descriptors_and_processes_and_no_bubblewrap_and_says_how_to_mend_each() {
    // Root is not bound by a limit of processes.
    let mut daemon = daemon_over(tempfile::tempdir().unwrap(), *users().last().unwrap(), "");
    daemon.limit(&["--nofile=200:200", "--nproc=300:300"]);
    let (_, findings) = doctor(&daemon);
    let mut bare = Daemon::new();
    bare.set("PATH", "/nowhere");
    let (_, without) = doctor(&bare);
    for (findings, name, found, mend) in [
        (&findings, "descriptors", "200, enough for", "ulimit -Hn"),
        (&findings, "processes", "300, enough for", "ulimit -Hu"),
        (&without, "bubblewrap", "not installed", "install the package"),
    ] {
        let finding = finding(findings, name);
        assert_eq!(finding["health"], "warning", "{finding}");
        assert!(finding["found"].as_str().unwrap().starts_with(found), "{finding}");
        assert!(finding["mend"].as_str().unwrap().contains(mend), "{finding}");
    }
}
