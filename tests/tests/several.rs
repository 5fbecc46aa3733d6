//! Commands for several sessions at once: `wait A B`, `restart --all`, `rm --all`.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use harness::daemon::{CommandOutput, Daemon, finish};
use harness::real::*;
use protocol::api::{SessionInfo, Status};

/// A daemon with an agent that asks (`x`), and one whose program fails (`broken`).
fn with_agents() -> Daemon {
    let daemon = Daemon::new();
    let config = daemon.dir.path().join("kennel");
    std::fs::create_dir_all(&config).unwrap();
    let agent = beside("acp-agent").display().to_string();
    let text = format!(
        "[agents.x]\nkind = \"acp\"\ncommand = [\"{agent}\"]\n\
         [agents.broken]\nkind = \"acp\"\ncommand = [\"/bin/sh\", \"-c\", \"exit 3\"]\n"
    );
    std::fs::write(config.join("config.toml"), text).unwrap();
    daemon
}

/// Ids, states and processes of all sessions.
fn all(daemon: &Daemon) -> Vec<(String, Status, Option<u32>)> {
    let list: Vec<SessionInfo> = daemon.json(&["ls", "--all"]);
    list.into_iter().map(|session| (session.id.to_string(), session.status, session.pid)).collect()
}

fn ids(daemon: &Daemon) -> Vec<String> {
    all(daemon).into_iter().map(|(id, ..)| id).collect()
}

/// Runs a line at a terminal, with this typed.
fn typed(daemon: &Daemon, line: &str, keys: &str) -> CommandOutput {
    let plain = daemon.command(&[]);
    let mut script = Command::new("script");
    script.args(["-qec", &format!("stty cols 40; {} {line}", kennel().display()), "/dev/null"]);
    for (name, value) in plain.get_envs() {
        match value {
            Some(value) => script.env(name, value),
            None => script.env_remove(name),
        };
    }
    script.env("TERM", "xterm").current_dir(daemon.workdir());
    let mut child =
        script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.as_mut().unwrap().write_all(keys.as_bytes()).unwrap();
    finish(child)
}

#[test]
fn wait_takes_several_sessions_and_several_states() {
    let daemon = Daemon::new();
    for id in ["a", "b", "c"] {
        daemon.ok(&["start", "--id", id]);
        daemon.idle(id);
    }
    daemon.ok(&["send", "--no-wait", "a", "until [ -e on ]; do sleep 0.02; done"]);
    daemon.ok(&["wait", "a", "--until", "running", "--timeout", "30s"]);
    daemon.ok(&["stop", "c"]);
    assert_eq!(daemon.ok(&["wait", "a", "b", "--any"]), "b\n");
    assert_eq!(daemon.ok(&["wait", "a", "--until", "stopped,running"]), "");
    let mut both = daemon.ok(&["wait", "a", "b", "b", "--until", "idle,running"]);
    both = both.lines().collect::<std::collections::BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(" ");
    assert_eq!(both, "a b");
    let late = daemon.run(&["wait", "a", "b", "--timeout", "300ms"]);
    assert_eq!((late.code, late.stdout.as_str()), (Some(3), "b\n"), "{late:?}");
    assert!(late.stderr.contains("session `a`: `idle`"), "{late:?}");
    // Of those that are stopped nothing is to be expected: of all that is one too many, of any it is none.
    let never = daemon.run(&["wait", "a", "c", "--timeout", "30s"]);
    assert_eq!(never.code, Some(7), "{never:?}");
    let other = daemon.run(&["wait", "c", "b", "--any", "--timeout", "30s"]);
    assert_eq!((other.code, other.stdout.as_str()), (Some(0), "b\n"), "{other:?}");
    std::fs::write(daemon.workdir().join("on"), "").unwrap();
    let reached: SessionInfo = daemon.json(&["wait", "a", "--timeout", "30s"]);
    assert_eq!(reached.status, Status::Idle);
    assert_eq!(daemon.run(&["wait", "a", "nobody"]).code, Some(4));
    assert_eq!(daemon.run(&["wait", "a", "--until", "idle,dawn"]).code, Some(2));
}

#[test]
fn a_wait_that_a_person_must_end_says_what_to_type_and_goes_on() {
    let daemon = with_agents();
    daemon.ok(&["start", "--id", "s", "--agent", "x"]);
    daemon.idle("s");
    let first = |args: &[&str]| {
        let mut child = daemon.spawn(args);
        let mut line = String::new();
        BufReader::new(child.stderr.as_mut().unwrap()).read_line(&mut line).unwrap();
        (child, line)
    };
    // What it needs comes while it is waited for.
    let mut waiting = daemon.spawn(&["wait", "s", "--until", "stopped"]);
    daemon.ok(&["send", "--no-wait", "s", "ask delete"]);
    let mut line = String::new();
    BufReader::new(waiting.stderr.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert!(
        line.contains("waits for somebody: permission: ") && line.contains("`kennel permissions allow "),
        "{line}"
    );
    let (mut idle, line) = first(&["wait", "s", "--until", "idle"]);
    assert!(line.contains("`kennel permissions allow permission-"), "{line}");
    assert!(idle.try_wait().unwrap().is_none());
    assert_eq!(daemon.run(&["wait", "s", "--until", "requires_action"]).stderr, "");
    let asked = line.split_once("allow ").unwrap().1.split('`').next().unwrap().to_owned();
    daemon.ok(&["permissions", "allow", &asked, "--option", "yes"]);
    assert_eq!(finish(idle).code, Some(0));
    daemon.ok(&["stop", "s"]);
    assert_eq!(finish(waiting).code, Some(0));
    // Each thing is said when it comes, however long that takes.
    daemon.ok(&["restart", "s"]);
    let mut patient = daemon.spawn(&["wait", "s", "--until", "stopped"]);
    let mut said = BufReader::new(patient.stderr.take().unwrap());
    for tool in ["first", "second", "third"] {
        daemon.ok(&["send", "--no-wait", "s", &format!("ask {tool}")]);
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        assert!(line.contains(&format!("permission: may I {tool}?")), "{line}");
        daemon.ok(&["answer", "s", "--deny"]);
    }
    patient.kill().unwrap();
    patient.wait().unwrap();
    // An interrupted prompt, with nothing behind it.
    daemon.ok(&["start", "--id", "cut"]);
    daemon.ok(&["send", "--no-wait", "cut", "exec sleep 1000"]);
    daemon.ok(&["wait", "cut", "--until", "running", "--timeout", "30s"]);
    kill(daemon.show("cut").pid.unwrap());
    until("the crash", || (!daemon.show("cut").needs.is_empty()).then_some(()));
    daemon.idle("cut");
    let (mut never, line) = first(&["wait", "cut", "--until", "running"]);
    assert!(line.contains("interrupted: ") && line.contains("`kennel resolve prompt-"), "{line}");
    assert!(never.try_wait().unwrap().is_none());
    never.kill().unwrap();
    never.wait().unwrap();
}

#[test]
fn restart_all_leaves_what_is_stopped_and_one_that_fails_keeps_no_other() {
    let daemon = with_agents();
    daemon.ok(&["start", "--id", "a", "--label", "team=front"]);
    daemon.ok(&["start", "--id", "b"]);
    daemon.ok(&["start", "--id", "off"]);
    daemon.run(&["start", "--id", "broken", "--agent", "broken", "--intensity", "0"]);
    daemon.ok(&["wait", "broken", "--until", "failed", "--timeout", "30s"]);
    daemon.ok(&["stop", "off"]);
    daemon.idle("a");
    daemon.idle("b");
    let before = all(&daemon);
    let refused = daemon.run(&["restart", "--all"]);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(
        refused.stderr.contains("nothing was restarted") && refused.stderr.contains("--yes"),
        "{refused:?}"
    );
    assert_eq!(daemon.run(&["restart", "a", "--status", "idle"]).code, Some(2));
    assert_eq!(all(&daemon), before);
    let restarted = daemon.run(&["restart", "--all", "--yes"]);
    assert_eq!(restarted.code, Some(1), "{restarted:?}");
    assert!(restarted.stderr.contains("2 sessions restarted; 1 session not"), "{restarted:?}");
    let after = all(&daemon);
    for ((id, status, old), (_, _, new)) in before.iter().zip(&after) {
        assert_eq!(old != new, *status == Status::Idle, "{id}: {status} {old:?} {new:?}");
    }
    let labelled = daemon.run(&["restart", "--all", "-y", "--label", "team=front"]);
    assert_eq!((labelled.code, labelled.stdout.as_str()), (Some(0), "a\n"), "{labelled:?}");
    let woken = daemon.run(&["restart", "--all", "-y", "--status", "stopped"]);
    assert_eq!((woken.code, woken.stdout.as_str()), (Some(0), "off\n"), "{woken:?}");
    let none = daemon.run(&["restart", "--all", "--label", "team=back"]);
    assert_eq!(none.code, Some(0), "{none:?}");
    assert!(none.stderr.contains("nothing was restarted"), "{none:?}");
}

#[test]
fn rm_all_removes_what_is_stopped_after_a_question() {
    let daemon = with_agents();
    for id in ["a", "b", "c", "d"] {
        daemon.ok(&["start", "--id", id, "--name", &format!("of-{id}")]);
    }
    daemon.ok(&["stop", "a", "b", "c"]);
    assert_eq!(daemon.run(&["rm", "--all"]).code, Some(2));
    assert_eq!(daemon.run(&["--json", "rm", "--all"]).code, Some(2));
    let no = typed(&daemon, "rm --all", "n\n");
    assert_eq!(no.code, Some(0), "{no:?}");
    assert!(
        no.stdout.contains("Remove 3 sessions (of-a, of-b, of-c)?")
            && no.stdout.contains("nothing was removed"),
        "{no:?}"
    );
    let end = typed(&daemon, "rm --all", "\u{4}");
    assert_eq!(end.code, Some(0), "{end:?}");
    assert_eq!(ids(&daemon), ["a", "b", "c", "d"]);
    daemon.ok(&["restart", "c"]);
    let yes = typed(&daemon, "rm --all --status stopped,failed", "y\n");
    assert!(yes.stdout.contains("2 sessions removed"), "{yes:?}");
    assert_eq!(ids(&daemon), ["c", "d"]);
    let left = daemon.run(&["rm", "--all", "--yes", "--status", "idle"]);
    assert_eq!(left.code, Some(7), "{left:?}");
    assert!(left.stderr.contains("0 sessions removed; 2 sessions not"), "{left:?}");
    daemon.ok(&["rm", "--all", "--yes"]);
    assert_eq!(ids(&daemon), ["c", "d"]);
    daemon.ok(&["rm", "--all", "--yes", "--force"]);
    assert!(ids(&daemon).is_empty());
}
