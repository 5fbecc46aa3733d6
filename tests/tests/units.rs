//! The units: as systemd's own program reads them, and where `kennel daemon install` puts them.

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

#[test]
fn install_writes_the_unit_that_is_printed_and_uninstall_removes_no_other() {
    let mut daemon = Daemon::new();
    let config = daemon.dir.path().join("a config");
    daemon.set("XDG_CONFIG_HOME", config.to_str().unwrap());
    let unit = config.join("systemd/user/kennel.service");
    let is = |daemon: &Daemon, args: &[&str], changed: bool| {
        let told: serde_json::Value = daemon.json(args);
        assert_eq!(told, serde_json::json!({ "path": unit, "changed": changed }), "{args:?}");
    };
    is(&daemon, &["daemon", "uninstall"], false);
    is(&daemon, &["daemon", "install"], true);
    assert_eq!(std::fs::read_to_string(&unit).unwrap(), daemon.ok(&["daemon", "unit"]));
    assert_eq!(complaints(&daemon, "kennel-installed.service", &["daemon", "unit"]), "");
    let repeated = daemon.run(&["daemon", "install"]);
    assert!(repeated.code == Some(0) && repeated.stderr.contains("installed already"), "{repeated:?}");
    assert!(repeated.stderr.contains("systemctl --user enable --now kennel"), "{repeated:?}");

    // One of another version is replaced; and with it goes the link by which systemd starts it.
    std::fs::write(&unit, "# Written by `kennel daemon unit`. Long ago.\n").unwrap();
    is(&daemon, &["daemon", "install"], true);
    let wanted = unit.with_file_name("default.target.wants");
    std::fs::create_dir(&wanted).unwrap();
    std::os::unix::fs::symlink(&unit, wanted.join("kennel.service")).unwrap();
    std::os::unix::fs::symlink("/elsewhere", wanted.join("other.service")).unwrap();
    is(&daemon, &["daemon", "uninstall"], true);
    assert!(!unit.exists() && wanted.join("kennel.service").symlink_metadata().is_err());
    assert!(wanted.join("other.service").symlink_metadata().is_ok());

    // What somebody else has put there stays: a unit, a masked one, and what is no unit at all.
    std::fs::write(&unit, "[Service]\nExecStart=/bin/true\n").unwrap();
    let refuses = |daemon: &Daemon| {
        for verb in ["install", "uninstall"] {
            let refused = daemon.run(&["daemon", verb]);
            let told = refused.stderr.contains("was not written by kennel; nothing was");
            assert!(refused.code == Some(7) && told, "{refused:?}");
        }
    };
    refuses(&daemon);
    assert!(std::fs::read_to_string(&unit).unwrap().contains("/bin/true"));
    std::fs::remove_file(&unit).unwrap();
    std::os::unix::fs::symlink("/dev/null", &unit).unwrap();
    refuses(&daemon);
    assert!(unit.symlink_metadata().unwrap().is_symlink());
    std::fs::remove_file(&unit).unwrap();
    std::fs::create_dir(&unit).unwrap();
    refuses(&daemon);
}
