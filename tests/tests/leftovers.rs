//! Which processes a manager ends at its start because of the marker in their environment, and which it leaves alone.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use harness::daemon::Daemon;
use harness::real::*;
use manager::protocol::api::SessionInfo;
use nix::sys::signal::Signal;

/// A user who is not ours.
const NOBODY: &str = "65534";

/// A process that a test has started, ended with the test.
struct Bystander(Child);

impl Bystander {
    /// Starts these words with this marker in the environment, and waits until its process has it.
    fn start(words: &[&str], marker: &str) -> Self {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).env("KENNEL_SESSION", marker).stdin(Stdio::null());
        let child = command.spawn().unwrap();
        let it = Self(child);
        until("the bystander", || marker_of(it.0.id()).filter(|found| found == marker));
        it
    }

    /// Returns true if it lives.
    fn lives(&self) -> bool {
        lives(self.0.id())
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A daemon that has run, and its part of all markers.
fn before() -> (Daemon, String) {
    let daemon = Daemon::new();
    daemon.ok(&["start", "--id", "one"]);
    let uuid = uuid(daemon.idle("one").pid.unwrap());
    (daemon, uuid)
}

/// Waits until `child` runs `name`, started by way of other programs.
fn runs(pid: u32, name: &str) {
    until("the program itself", || {
        (std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim() == name).then_some(())
    });
}

#[test]
fn a_manager_ends_what_has_its_marker_to_the_letter_and_nothing_that_only_resembles_it() {
    let (daemon, uuid) = before();
    let foreign = "0123456789abcdef0123456789abcdef";
    let sleep = |marker: &str| Bystander::start(&["/bin/sleep", "600"], marker);
    let spared = [
        format!("{uuid}/gone"),
        format!("{uuid}/gone/"),
        format!("{uuid}/gone/+1"),
        format!("{uuid}/gone/01"),
        format!("{uuid}/gone/1/2"),
        format!("{uuid}/gone/1 "),
        format!("{uuid}/gone/4294967296"),
        format!("{uuid}//1"),
        format!("{uuid}/../1"),
        format!("{uuid}/.hidden/1"),
        uuid.clone(),
        format!("{foreign}/gone/1"),
        format!("{foreign}/{uuid}/gone/1"),
    ];
    let spared: Vec<(String, Bystander)> =
        spared.into_iter().map(|marker| (marker.clone(), sleep(&marker))).collect();
    let left = sleep(&format!("{uuid}/gone/1"));
    daemon.kill();
    daemon.idle("one");
    until("the end of what was left behind", || (!left.lives()).then_some(()));
    for (marker, bystander) in &spared {
        assert!(bystander.lives(), "killed for {marker:?}");
    }
}

#[test]
fn a_manager_of_root_never_ends_another_users_process_whatever_its_environment_says() {
    if !nix::unistd::geteuid().is_root() {
        // Without root, no user can kill another user's process or read its environment.
        assert!(std::fs::read("/proc/1/environ").is_err());
        return;
    }
    let (daemon, uuid) = before();
    let marker = format!("{uuid}/gone/1");
    let by = |words: &[&str]| {
        let words: Vec<&str> =
            ["setpriv"].iter().chain(words).chain(&["/bin/sleep", "600"]).copied().collect();
        let it = Bystander::start(&words, &marker);
        runs(it.0.id(), "sleep");
        it
    };
    let spared = [
        by(&["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]),
        // A set-user-ID program of such a user, and one of root's that is another user for a while.
        by(&["--ruid", NOBODY]),
        by(&["--euid", NOBODY]),
    ];
    let left = Bystander::start(&["/bin/sleep", "600"], &marker);
    // All of it is root's, and its environment another user's: a program such as su(1), below that user's shell.
    let su = daemon.dir.path().join("su");
    std::fs::copy(Path::new("/usr/bin/setpriv"), &su).unwrap();
    let set_user_id = std::os::unix::fs::PermissionsExt::from_mode(0o4755);
    std::fs::set_permissions(&su, set_user_id).unwrap();
    let open: std::fs::Permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(daemon.dir.path(), open).unwrap();
    let script = format!("{} --reuid 0 sleep 600; exit", su.display());
    let shell =
        ["setpriv", "--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "setsid", "sh", "-c", &script];
    let shell = Bystander::start(&shell, &marker);
    let below = until("what the shell has run", || {
        let list = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", shell.0.id())).ok()?;
        list.split_whitespace().next()?.parse::<u32>().ok()
    });
    runs(below, "sleep");
    daemon.kill();
    daemon.idle("one");
    until("the end of what was left behind", || (!left.lives()).then_some(()));
    let lived = (spared.iter().all(Bystander::lives), shell.lives(), lives(below));
    kill(below);
    assert_eq!(lived, (true, true, true));
}

#[test]
fn a_manager_never_ends_another_managers_process_nor_those_that_started_itself() {
    let (daemon, uuid) = before();
    let marker = format!("{uuid}/gone/1");
    let other = Daemon::new();
    other.ok(&["start", "--id", "theirs"]);
    other.idle("theirs");
    other.ok(&["send", "--no-wait", "theirs", &format!("KENNEL_SESSION={marker} exec sleep 600")]);
    let theirs = until("the other manager's process", || marked(&marker).into_iter().next());
    runs(theirs, "sleep");
    let left = Bystander::start(&["/bin/sleep", "600"], &marker);
    daemon.kill();
    // A shell that has the marker, and starts a daemon that has not.
    let run = daemon.command(&["daemon", "run"]);
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "env -u KENNEL_SESSION \"$0\" \"$@\"; exit"])
        .arg(run.get_program())
        .args(run.get_args());
    for (name, value) in run.get_envs().filter_map(|(name, value)| Some((name, value?))) {
        shell.env(name, value);
    }
    shell.env("KENNEL_SESSION", &marker).current_dir(daemon.dir.path());
    shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let shell = Bystander(shell.spawn().unwrap());
    until("the end of what was left behind", || (!left.lives()).then_some(()));
    daemon.idle("one");
    let lived = (lives(theirs), shell.lives());
    daemon.ok(&["daemon", "stop"]);
    assert_eq!(lived, (true, true));
}

#[test]
fn a_test_that_panics_leaves_no_daemon_and_no_worker_also_if_the_daemon_is_stopped() {
    for is_stopped in [false, true] {
        let daemon = Daemon::new();
        let place = daemon.dir.path().to_str().unwrap().to_owned();
        let of_it = std::thread::spawn(move || {
            let _: SessionInfo = daemon.json(&["start", "--id", "left"]);
            let worker = daemon.idle("left").pid.unwrap();
            if is_stopped {
                signal(daemon.pid(), Signal::SIGSTOP);
            }
            std::panic::resume_unwind(Box::new(worker));
        });
        let worker = *of_it.join().unwrap_err().downcast::<u32>().unwrap();
        assert_eq!(mentioning(&place), Vec::<u32>::new(), "stopped: {is_stopped}");
        assert!(!lives(worker), "stopped: {is_stopped}");
    }
}
