//! Campaigns of the kill harness: of about a minute on the shipped build, and at every point of a build that has
//! points. The long one is in `tests/README.md`.

use std::process::{Command, Stdio};
use std::time::Duration;

use harness::daemon::finish_within;
use harness::real::{self, until};

/// Far above what a campaign takes.
const BOUND: Duration = Duration::from_secs(400);

/// Runs the harness; gives what it printed. It is a process of its own, because it takes the place of init for
/// everything below it.
fn campaign(args: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kill-harness"));
    let child = command.args(args).env_remove("KENNEL_SESSION").stdin(Stdio::null()).stdout(Stdio::piped());
    let output = finish_within(child.stderr(Stdio::piped()).spawn().unwrap(), BOUND);
    assert_eq!(output.code, Some(0), "kill-harness {args:?}\n{}{}", output.stdout, output.stderr);
    output.stdout
}

#[cfg(not(feature = "failpoints"))]
#[test]
fn a_campaign_of_kills_loses_nothing_and_leaves_nothing_behind() {
    let table = campaign(&["--sessions", "16", "--kills", "1200", "--seed", "1"]);
    // The few that keep the default intensity are given up.
    let line = table.lines().find(|line| line.contains("given up as `failed`")).unwrap();
    let failed: u64 = line.trim_end_matches(" |").rsplit(' ').next().unwrap().parse().unwrap();
    assert!(failed > 0, "{table}");
}

/// Two machines need rights and OpenSSH's server. Elsewhere the clients are on the daemon's machine.
#[cfg(not(feature = "failpoints"))]
#[test]
fn a_campaign_of_cuts_between_two_machines_loses_nothing_and_leaves_nothing_behind() {
    let mut namespaces = Command::new("unshare");
    namespaces.args(["--net", "--pid", "--fork", "--mount", "true"]);
    namespaces.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let may = namespaces.spawn().is_ok_and(|child| finish_within(child, BOUND).code == Some(0));
    let two = may && std::path::Path::new("/usr/sbin/sshd").exists();
    let cuts = if two { "15" } else { "0" };
    campaign(&["--sessions", "4", "--kills", "20", "--cuts", cuts, "--seed", "16"]);
}

/// Root is not bound by the limit on processes (setrlimit(2)), and may read what is closed to others.
#[cfg(not(feature = "failpoints"))]
#[test]
fn a_campaign_against_a_daemon_without_rights_loses_nothing() {
    if nix::unistd::geteuid().is_root() {
        campaign(&["--sessions", "8", "--kills", "150", "--seed", "2", "--uid", "65534"]);
    } else {
        campaign(&["--sessions", "8", "--kills", "150", "--seed", "2"]);
    }
}

#[cfg(feature = "failpoints")]
#[test]
fn a_death_at_any_point_loses_nothing_and_leaves_nothing_behind() {
    let table = campaign(&["--sessions", "12", "--kills", "1000", "--seed", "3"]);
    // A campaign that reaches few points proves little. The rarest (a sub-agent that is lost, just then) may be
    // missed by one campaign and are reached by the next.
    let line = table.lines().find_map(|line| line.strip_prefix("Points never reached: ")).unwrap();
    let missed: Vec<&str> = line.split(", ").filter(|name| *name != "none").collect();
    assert!(missed.len() <= 5, "never reached: {missed:?}");
}

#[cfg(feature = "failpoints")]
#[test]
fn whoever_dies_at_any_point_of_the_kill_matrix_nothing_is_lost() {
    let table = campaign(&["--matrix", "--sessions", "12", "--kills", "800", "--seed", "4"]);
    let line = table.lines().find_map(|line| line.strip_prefix("Cells in which somebody died: ")).unwrap();
    let died: u64 = line.split(' ').next().unwrap().parse().unwrap();
    assert!(died > 100, "{line}");
}

#[test]
fn a_harness_that_is_killed_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    // Its own directory for temporary files, which all of its processes know, tells it from other campaigns.
    let place = dir.path().to_str().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_kill-harness"));
    command.args(["--sessions", "4", "--kills", "100000"]).env("TMPDIR", place);
    let mut harness = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // The harness, its guard, the daemon, and some of its sessions' agents. Workers and what keeps namespaces know no directory.
    until("it has begun to kill", || (real::mentioning(place).len() > 6).then_some(()));
    harness.kill().unwrap();
    harness.wait().unwrap();
    until("all of it has left", || real::mentioning(place).is_empty().then_some(()));
}

#[test]
fn a_fault_that_does_not_exist_is_bad_usage() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kill-harness"));
    command.args(["--only", "worker-tickle"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = finish_within(command.spawn().unwrap(), BOUND);
    assert_eq!(output.code, Some(2), "{output:?}");
    assert!(output.stderr.contains("`worker-tickle` is neither a fault nor a point"), "{output:?}");
}
