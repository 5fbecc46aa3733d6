//! The printed units, as systemd's own program reads them.

use std::io::ErrorKind;
use std::process::{Command, Stdio};

use harness::daemon::{Daemon, finish};

/// The complaints of systemd about this unit, of this name; none if it is right.
fn complaints(daemon: &Daemon, name: &str, args: &[&str]) -> String {
    let path = daemon.dir.path().join(name);
    std::fs::write(&path, daemon.ok(args)).unwrap();
    let mut command = Command::new("systemd-analyze");
    // A user's units are read like the system's, which needs no user's service manager.
    command.arg("verify").arg(&path).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = match command.spawn() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            panic!("systemd-analyze is missing; .ci/run installs it (the package systemd)")
        }
        child => child.unwrap(),
    };
    let output = finish(child);
    let said = output.stdout + &output.stderr;
    assert_eq!(output.code, Some(0), "{name}: {said}");
    said
}

#[test]
fn systemd_has_no_word_to_say_about_the_units() {
    let daemon = Daemon::new();
    for (name, args) in [
        ("kennel.service", &["daemon", "unit"][..]),
        ("kennel-system.service", &["daemon", "unit", "--system"]),
        ("kennel-named.service", &["--state-dir", "/srv/my 50% state", "daemon", "unit"]),
    ] {
        assert_eq!(complaints(&daemon, name, args), "", "{name}");
    }
}
