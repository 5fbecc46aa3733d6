//! Other users of the machine: kennel's files are closed to them, and the daemon answers none of them.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use harness::daemon::{CommandOutput, Daemon, finish};
use harness::real::*;

/// The user `nobody`, who owns nothing and has no rights.
const NOBODY: &str = "65534";

/// Returns a path and everything below it.
fn all(path: &Path) -> Vec<PathBuf> {
    let below = std::fs::read_dir(path).into_iter().flatten().flatten();
    below.flat_map(|entry| all(&entry.path())).chain([path.to_owned()]).collect()
}

/// A daemon with a bit of everything on its disk.
fn at_work(daemon: &Daemon) {
    let picture = daemon.dir.path().join("picture.png");
    std::fs::write(&picture, "picture").unwrap();
    daemon.ok(&["start", "--id", "one"]);
    daemon.ok(&["send", "one", "echo said; echo warned >&2"]);
    daemon.ok(&["token", "one"]);
    daemon.ok(&["subagent", "start", "--parent", "one", "--id", "below", "true"]);
    daemon.ok(&["send", "--no-wait", "one", "echo begun; sleep 1000"]);
    // So that its worker keeps unacknowledged messages.
    let (manager, worker) = (daemon.pid(), daemon.show("one").pid.unwrap());
    daemon.kill();
    until("the spool of a worker that is alone", || {
        all(&daemon.dir.path().join("state/workers")).into_iter().find(|path| path.is_file())
    });
    assert!(lives(worker) && !lives(manager));
    assert_eq!(daemon.show("one").pid, Some(worker));
}

#[test]
fn whatever_kennel_makes_is_closed_to_others_whatever_the_umask() {
    let mut daemon = Daemon::new();
    daemon.run_after("umask 0");
    at_work(&daemon);
    let made = all(&daemon.dir.path().join("state"));
    for name in ["journal.db", "daemon.log", "logs/one.log", "workers"] {
        assert!(made.iter().any(|path| path.ends_with(name)), "no {name} in {made:#?}");
    }
    assert!(made.contains(&daemon.socket()), "{made:#?}");
    // The temporary files are gone by now.
    for (path, meta) in made.iter().filter_map(|path| Some((path, std::fs::symlink_metadata(path).ok()?))) {
        assert_eq!(meta.mode() & 0o077, 0, "{} has mode {:o}", path.display(), meta.mode());
    }
}

/// Returns a command of the user `nobody`, with the socket and state of this daemon.
fn by_nobody(daemon: &Daemon, program: &Path, args: &[&str]) -> CommandOutput {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "--"]).arg(program).args(args);
    command.env_clear().env("XDG_RUNTIME_DIR", daemon.dir.path()).env("HOME", "/nowhere");
    command.env("KENNEL_STATE_DIR", daemon.dir.path().join("state")).current_dir("/");
    run(command)
}

fn run(mut command: Command) -> CommandOutput {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    finish(command.spawn().unwrap())
}

#[test]
fn another_user_reads_nothing_and_is_not_heard_even_where_the_socket_is_open() {
    if !nix::unistd::geteuid().is_root() {
        // Only root can become somebody else; what is closed to all others is tried above.
        return;
    }
    let daemon = Daemon::new();
    at_work(&daemon);
    let place = tempfile::tempdir().unwrap();
    for directory in [place.path(), daemon.dir.path()] {
        std::fs::set_permissions(directory, PermissionsExt::from_mode(0o755)).unwrap();
    }
    let programs = publish(&[kennel(), &beside("fixture-agent")], &place.path().join("bin"));
    let (kennel, agent) = (&programs[0], &programs[1]);
    let (state, socket) = (daemon.dir.path().join("state"), daemon.socket());
    let mut script = vec!["say tried".to_owned()];
    for path in all(&state) {
        let how = if path.is_dir() { "list" } else { "read" };
        script.push(format!("try {how} {}", path.display()));
        script.push(format!("try unix {}", path.display()));
    }
    let tried = by_nobody(&daemon, agent, &["--script", &script.join("; ")]);
    let answers: Vec<&str> = tried.stdout.lines().skip(1).collect();
    assert_eq!(answers.len(), script.len() - 1, "{tried:?}");
    assert!(answers.iter().all(|answer| answer.ends_with(" refused")), "{tried:?}");
    let output = by_nobody(&daemon, kennel, &["ls"]);
    assert_eq!(output.code, Some(5), "{output:?}");

    // Somebody has opened the door by mistake: the daemon looks who it is.
    std::fs::set_permissions(socket.parent().unwrap(), PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::set_permissions(&socket, PermissionsExt::from_mode(0o666)).unwrap();
    let script = format!("try unix {0}; try ask {0}", socket.display());
    let mut own = Command::new(agent);
    own.args(["--script", &script]);
    let own = run(own);
    assert_eq!(own.stdout, "unix done\nask done\n", "{own:?}");
    let output = by_nobody(&daemon, agent, &["--script", &script]);
    assert_eq!(output.stdout, "unix done\nask refused\n", "{output:?}");
    for args in [&["ls"][..], &["stop", "one"], &["daemon", "stop"]] {
        let output = by_nobody(&daemon, kennel, args);
        assert_eq!(output.code, Some(5), "{args:?}: {output:?}");
        assert!(output.stderr.contains("is served by another user (uid 0)"), "{args:?}: {output:?}");
    }
    assert!(daemon.show("one").pid.is_some_and(lives));
}
