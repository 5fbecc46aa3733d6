//! The state directory decides the address of its daemon, not the client's environment.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use harness::daemon::{CommandOutput, Daemon, finish};
use harness::real::*;

/// A daemon that listens in `$XDG_RUNTIME_DIR/kennel/`, with one session.
fn daemon() -> Daemon {
    let daemon = Daemon::new();
    private(&daemon.dir.path().join("run"));
    daemon.ok_in_run(&["start", "--id", "one"]);
    daemon.ok_in_run(&["wait", "one", "--until", "idle"]);
    assert!(daemon.dir.path().join("run/kennel").is_dir());
    daemon
}

fn private(path: &Path) {
    std::fs::create_dir(path).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).unwrap();
}

/// Removes a directory in one step: piece by piece, its removal could meet with the socket's return.
fn gone(directory: &Path) {
    let aside = tempfile::tempdir().unwrap();
    let moved = aside.path().join("moved");
    std::fs::rename(directory, &moved).unwrap();
    std::fs::remove_dir_all(moved).unwrap();
}

trait InRun {
    fn in_run(&self, args: &[&str]) -> Command;
    fn ok_in_run(&self, args: &[&str]) -> String;
}

impl InRun for Daemon {
    fn in_run(&self, args: &[&str]) -> Command {
        let mut command = self.command(args);
        command.env("XDG_RUNTIME_DIR", self.dir.path().join("run"));
        command
    }

    fn ok_in_run(&self, args: &[&str]) -> String {
        let output = finish(self.in_run(args).spawn().unwrap());
        assert_eq!(output.code, Some(0), "{output:#?}");
        output.stdout
    }
}

fn pid_in(text: &str) -> u32 {
    let object: serde_json::Value = serde_json::from_str(text).unwrap();
    object["pid"].as_u64().unwrap() as u32
}

/// Returns the number of times that a daemon has begun or tried to.
fn starts(daemon: &Daemon) -> usize {
    let log = std::fs::read_to_string(daemon.dir.path().join("state/daemon.log")).unwrap();
    log.lines().filter(|line| line.contains(" serves ")).count()
}

#[test]
fn a_client_with_another_runtime_directory_or_none_reaches_the_daemon_and_starts_no_other() {
    let daemon = daemon();
    let pid = pid_in(&daemon.ok_in_run(&["--json", "daemon", "status"]));
    let other = daemon.dir.path().join("other");
    private(&other);
    let cases: [fn(&mut Command, &Path); 3] = [
        |command, _| _ = command.env_remove("XDG_RUNTIME_DIR"),
        |command, other| _ = command.env("XDG_RUNTIME_DIR", other),
        |command, other| {
            // As cron has it.
            let state = other.with_file_name("state");
            command
                .env_clear()
                .env("HOME", other)
                .env("PATH", "/usr/bin:/bin")
                .env("KENNEL_STATE_DIR", state);
        },
    ];
    for set in cases {
        for args in
            [&["--json", "daemon", "status"][..], &["--json", "show", "one"], &["send", "one", "echo hi"]]
        {
            let mut command = daemon.command(args);
            set(&mut command, &other);
            let output = finish(command.spawn().unwrap());
            assert_eq!(output.code, Some(0), "{args:?}: {output:#?}");
            if args.contains(&"status") {
                assert_eq!(pid_in(&output.stdout), pid);
            }
        }
    }
    assert_eq!(starts(&daemon), 1);
    let log = std::fs::read_to_string(daemon.dir.path().join("state/daemon.log")).unwrap();
    assert!(!log.contains("already serves"), "{log}");
    assert!(!daemon.dir.path().join("state/kennel.sock").exists() && !other.join("kennel").exists());
    let address = daemon.dir.path().join("state/address");
    assert_eq!(std::fs::metadata(address).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_socket_that_vanished_is_remade_and_one_whose_directory_cannot_be_is_elsewhere() {
    let daemon = daemon();
    let pid = pid_in(&daemon.ok_in_run(&["--json", "daemon", "status"]));
    let reached = |args: &[&str]| pid_in(&daemon.ok_in_run(args)) == pid;
    let run = daemon.dir.path().join("run");
    let socket = std::fs::read_to_string(daemon.dir.path().join("state/address")).unwrap();
    // Without any request: the daemon notices by itself.
    std::fs::remove_file(&socket).unwrap();
    until("the socket's return", || Path::new(&socket).exists().then_some(()));
    gone(&run.join("kennel"));
    until("its directory's return", || Path::new(&socket).exists().then_some(()));
    assert_eq!(std::fs::metadata(run.join("kennel")).unwrap().permissions().mode() & 0o777, 0o700);
    assert!(reached(&["--json", "daemon", "status"]));
    // Renamed above: no watched directory has changed, and the first client reports it.
    std::fs::rename(&run, daemon.dir.path().join("away")).unwrap();
    assert!(reached(&["--json", "daemon", "status"]));
    // As /run/user/UID after the last logout: gone, and not for this user to make again.
    gone(&run);
    std::fs::write(&run, "no directory").unwrap();
    until("the socket elsewhere", || daemon.dir.path().join("state/kennel.sock").exists().then_some(()));
    assert!(reached(&["--json", "daemon", "status"]));
    assert_eq!(daemon.ok(&["send", "one", "echo still"]), "still\n");
    // After the next login.
    std::fs::remove_file(&run).unwrap();
    private(&run);
    assert!(reached(&["--json", "daemon", "status"]));
    assert_eq!(starts(&daemon), 1);
    daemon.ok_in_run(&["daemon", "stop"]);
    assert!(!daemon.dir.path().join("state/kennel.sock").exists());
}

fn with_socket(daemon: &Daemon, socket: &Path, args: &[&str]) -> CommandOutput {
    let output = finish(daemon.in_run(args).env("KENNEL_SOCKET", socket).spawn().unwrap());
    // It fails for what it sees, and not because it has waited in vain.
    assert!(!output.stderr.contains("within"), "{args:?}: {output:#?}");
    output
}

#[test]
fn a_bad_kennel_socket_fails_at_once_and_touches_neither_daemon_nor_sessions() {
    let daemon = daemon();
    let pid = pid_in(&daemon.ok_in_run(&["--json", "daemon", "status"]));
    let worker = pid_in(&daemon.ok_in_run(&["--json", "show", "one"]));
    let file = daemon.dir.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    let nowhere = daemon.dir.path().join("nowhere/kennel.sock");
    for socket in [&nowhere, &file, &file.join("below"), &daemon.dir.path().join("x".repeat(120))] {
        let output = with_socket(&daemon, socket, &["ls"]);
        assert_ne!(output.code, Some(0), "{output:#?}");
        assert!(
            output.stderr.contains("KENNEL_SOCKET") && output.stderr.contains(socket.to_str().unwrap()),
            "{output:#?}"
        );
    }
    // A running daemon is not reported as stopped.
    let output = with_socket(&daemon, &nowhere, &["--json", "daemon", "status"]);
    assert_eq!((output.code, pid_in(&output.stdout)), (Some(6), pid), "{output:#?}");
    assert!(output.stdout.contains("unreachable"), "{output:#?}");
    assert_eq!(starts(&daemon), 1);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
    assert!(!nowhere.parent().unwrap().exists());
    // Nor does a daemon that cannot listen end the sessions of the one before.
    kill(pid);
    until("the daemon's death", || (!lives(pid)).then_some(()));
    let open = daemon.dir.path().join("open");
    std::fs::create_dir(&open).unwrap();
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).unwrap();
    let output = with_socket(&daemon, &open.join("kennel.sock"), &["ls"]);
    assert_eq!(output.code, Some(6), "{output:#?}");
    assert!(output.stderr.contains("other users can write"), "{output:#?}");
    assert_eq!(pid_in(&daemon.ok_in_run(&["--json", "show", "one"])), worker);
}

#[test]
fn a_daemon_that_holds_the_state_directory_and_does_not_listen_is_not_said_to_be_stopped() {
    let daemon = daemon();
    daemon.ok_in_run(&["daemon", "stop"]);
    let lock = daemon.dir.path().join("state/lock");
    // Another program with kennel's library, say: it serves no socket.
    let holder = std::fs::File::open(lock).unwrap();
    holder.lock().unwrap();
    let output = finish(daemon.in_run(&["--json", "daemon", "status"]).spawn().unwrap());
    assert_eq!(output.code, Some(6), "{output:#?}");
    assert!(output.stdout.contains("unreachable"), "{output:#?}");
    drop(holder);
    daemon.ok_in_run(&["daemon", "start"]);
}
