//! `kennel run`, and what `send` makes of its words, of standard input, of time, and of each end of a turn.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Stdio};

use harness::daemon::{CommandOutput, Daemon, finish};
use harness::real::*;
use manager::protocol::api::{Accepted, SessionInfo, Status};
use manager::protocol::event::EventKind;
use nix::sys::signal::Signal;

/// A daemon with these agents beside the shell.
fn with_agents() -> Daemon {
    let daemon = Daemon::new();
    let config = daemon.dir.path().join("kennel");
    std::fs::create_dir_all(&config).unwrap();
    let agent = beside("acp-agent").display().to_string();
    let text = format!(
        "[agents.x]\nkind = \"acp\"\ncommand = [\"{agent}\"]\n\
         [agents.broken]\nkind = \"acp\"\ncommand = [\"/bin/sh\", \"-c\", \"echo no licence >&2; exit 3\"]\n"
    );
    std::fs::write(config.join("config.toml"), text).unwrap();
    daemon
}

fn sessions(daemon: &Daemon) -> Vec<SessionInfo> {
    daemon.json(&["ls", "--all"])
}

/// Runs a command whose standard input has this, and ends.
fn fed(daemon: &Daemon, args: &[&str], text: &str) -> CommandOutput {
    let mut child = daemon.command(args).stdin(Stdio::piped()).spawn().unwrap();
    let _ = child.stdin.take().unwrap().write_all(text.as_bytes());
    finish(child)
}

/// The first line of a command's standard output.
fn first_line(child: &mut Child) -> String {
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    line
}

fn prompts(daemon: &Daemon) -> Vec<String> {
    let events = daemon.events().into_iter();
    let texts = events.filter_map(|event| match event.kind {
        EventKind::PromptAccepted { text, .. } => Some(text),
        _ => None,
    });
    texts.collect()
}

#[test]
fn run_prints_the_agents_text_alone_and_leaves_the_session() {
    let daemon = with_agents();
    let output = daemon.run(&["run", "--name", "web", "printf", "'%s\n'", "--all"]);
    assert_eq!((output.code, output.stdout.as_str()), (Some(0), "--all\n"), "{output:?}");
    assert_eq!(output.stderr, "web (session-1) has started; `kennel attach web` goes on with it\n");
    assert_eq!((daemon.show("web").status, daemon.show("web").turn_count), (Status::Idle, 1));
    let failed = daemon.run(&["--json", "run", "exit 3"]);
    assert_eq!(failed.code, Some(1), "{failed:?}");
    assert!(
        failed.stdout.lines().all(|line| line.starts_with('{')) && failed.stdout.contains("turn.completed")
    );
    let accepted: Accepted = daemon.json(&["run", "--no-wait", "true"]);
    assert_eq!(accepted.session_id.as_str(), "session-3");
    assert_eq!(daemon.ok(&["run", "--no-wait", "true"]), "session-4\n");
    for empty in [
        fed(&daemon, &["run", ""], ""),
        fed(&daemon, &["run"], ""),
        daemon.run(&["run", "--agnet", "x", "y"]),
    ] {
        assert_eq!(empty.code, Some(2), "{empty:?}");
    }
    assert_eq!(sessions(&daemon).len(), 4);
}

#[test]
fn run_rm_leaves_no_session_whichever_way_it_ends() {
    let daemon = with_agents();
    let gone = |what: &str| assert!(sessions(&daemon).is_empty(), "{what}: {:?}", sessions(&daemon));
    let output = daemon.run(&["run", "--rm", "echo done"]);
    assert_eq!((output.code, &*output.stdout, &*output.stderr), (Some(0), "done\n", ""));
    gone("success");
    assert_eq!(daemon.run(&["run", "--rm", "exit 3"]).code, Some(1));
    gone("failure");
    let failed = daemon.run(&["run", "--rm", "--agent", "broken", "--intensity", "0", "hello"]);
    // It has failed before the prompt, or under it.
    assert!([Some(1), Some(7)].contains(&failed.code), "{failed:?}");
    assert!(!failed.stderr.contains("kennel restart"), "{failed:?}");
    gone("a start that fails");
    let late = daemon.run(&["run", "--rm", "--timeout", "200ms", "exec sleep 1000"]);
    assert_eq!(late.code, Some(3), "{late:?}");
    assert!(!late.stderr.contains("goes on"), "{late:?}");
    gone("a timeout");
    let mut unread = daemon.spawn(&["run", "--rm", "echo begun; while :; do echo more; sleep 0.02; done"]);
    assert_eq!(first_line(&mut unread), "begun\n");
    drop(unread.stdout.take());
    let status = until("its end", || unread.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
    gone("a closed output");
    for (signalled, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143), (Signal::SIGHUP, 129)] {
        let mut child = daemon.spawn(&["run", "--rm", "echo begun; exec sleep 1000"]);
        assert_eq!(first_line(&mut child), "begun\n");
        signal(child.id(), signalled);
        assert_eq!(finish(child).code, Some(code));
        gone(signalled.as_str());
    }
}

#[test]
fn run_rm_removes_a_session_that_cannot_start_yet() {
    let mut daemon = Daemon::new();
    let bin = daemon.workdir().join("bin");
    let kennel = publish(&[kennel()], &bin).remove(0);
    daemon.run_program(kennel);
    let mut child = daemon.spawn(&["run", "--rm", "echo never"]);
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    stderr.read_line(&mut said).unwrap();
    assert!(said.contains("worker could not be started"), "{said}");
    assert_eq!(sessions(&daemon).len(), 1);
    signal(child.id(), Signal::SIGINT);
    stderr.read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{said}");
    assert!(sessions(&daemon).is_empty());
}

#[test]
fn ctrl_c_ends_the_stream_of_run_and_loses_no_prompt() {
    let daemon = Daemon::new();
    let mut child = daemon.spawn(&["run", "echo begun; until [ -e on ]; do sleep 0.02; done; touch done"]);
    assert_eq!(first_line(&mut child), "begun\n");
    signal(child.id(), Signal::SIGINT);
    let output = finish(child);
    assert_eq!(output.code, Some(130), "{output:?}");
    assert!(output.stderr.contains("goes on; `kennel events -f session-1` follows it"), "{output:?}");
    std::fs::write(daemon.workdir().join("on"), "").unwrap();
    daemon.idle("session-1");
    assert!(daemon.workdir().join("done").exists());
}

#[test]
fn a_daemon_that_dies_under_run_doubles_neither_session_nor_prompt() {
    let daemon = Daemon::new();
    daemon.ok(&["daemon", "start"]);
    for round in 0..6 {
        let name = format!("r{round}");
        let child = daemon.spawn(&["run", "--name", &name, "echo ran >> runs; echo said"]);
        // The first ones are killed as early as can be, and the others once their session is there.
        if round > 2 {
            until("the session", || (daemon.run(&["show", &name]).code == Some(0)).then_some(()));
        }
        daemon.kill();
        let output = finish(child);
        assert_eq!((output.code, output.stdout.as_str()), (Some(0), "said\n"), "{output:?}");
        let runs = std::fs::read_to_string(daemon.workdir().join("runs")).unwrap();
        assert_eq!((runs.lines().count(), sessions(&daemon).len()), (round + 1, round + 1));
    }
}

#[test]
fn all_words_behind_the_session_are_the_prompt() {
    let daemon = Daemon::new();
    daemon.ok(&["start", "--id", "s"]);
    assert_eq!(daemon.ok(&["send", "s", "echo", "--json", "-q", "--", "--help"]), "--json -q -- --help\n");
    let output = daemon.run(&["send", "s", "--no-wait", "true"]);
    assert!(output.stderr.contains("`--no-wait` is sent as part of the prompt"), "{output:?}");
    assert!(daemon.ok(&["send", "s", "--help"]).contains("Usage: kennel send"));
    daemon.run(&["send", "s", "--", "--help"]);
    let output = daemon.run(&["send", "s", "true", "--timeout", "1s"]);
    assert!(output.stderr.contains("`--timeout` is sent as part of the prompt"), "{output:?}");
    let output = daemon.run(&["send", "s", "true", "--no-wait"]);
    assert!(output.stderr.contains("`--no-wait` is sent as part of the prompt"), "{output:?}");
    let output = daemon.run(&["send", "s", "true", "--rm", "--none"]);
    assert!(!output.stderr.contains("part of the prompt"), "{output:?}");
    assert_eq!(
        prompts(&daemon),
        [
            "echo --json -q -- --help",
            "--no-wait true",
            "--help",
            "true --timeout 1s",
            "true --no-wait",
            "true --rm --none"
        ]
    );
    let output = daemon.run(&["run", "echo said", "--rm"]);
    assert!(output.stdout == "said --rm\n" && output.stderr.contains("`--rm` is sent as part"), "{output:?}");
    assert_eq!(sessions(&daemon).len(), 2, "it stays");
}

#[test]
fn words_and_standard_input_are_joined() {
    let daemon = Daemon::new();
    daemon.ok(&["start", "--id", "s"]);
    assert_eq!(fed(&daemon, &["send", "s", "echo typed"], "echo piped\n").stdout, "typed\npiped\n");
    assert_eq!(fed(&daemon, &["run", "echo typed"], "echo piped\n").stdout, "typed\npiped\n");
    assert_eq!(fed(&daemon, &["send", "s", "echo typed"], "").stdout, "typed\n");
    assert_eq!(prompts(&daemon), ["echo typed\necho piped\n", "echo typed\necho piped\n", "echo typed"]);
    let output = fed(&daemon, &["send", "s", "echo typed"], &"x".repeat(2 << 20));
    assert_eq!(output.code, Some(2), "{output:?}");
    let closed = finish(daemon_shell(&daemon, "exec kennel send s 'echo typed' <&-"));
    assert_eq!(closed.stdout, "typed\n", "{closed:?}");
    let directory = finish(daemon_shell(&daemon, "exec kennel send s 'echo typed' < ."));
    assert_eq!(directory.code, Some(1), "{directory:?}");
    assert!(directory.stderr.contains("nothing was sent"), "{directory:?}");
}

/// A shell whose `kennel` is the one under test.
fn daemon_shell(daemon: &Daemon, line: &str) -> Child {
    let plain = daemon.command(&[]);
    let mut shell = std::process::Command::new("/bin/sh");
    shell.args(["-c", &line.replace("kennel", &kennel().display().to_string())]);
    for (name, value) in plain.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell.current_dir(daemon.workdir()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    shell.spawn().unwrap()
}

#[test]
fn standard_input_that_stays_open_is_named_and_not_dropped() {
    let daemon = Daemon::new();
    daemon.ok(&["start", "--id", "s"]);
    let mut child = daemon.command(&["send", "s", "echo typed"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    BufReader::new(child.stderr.as_mut().unwrap()).read_line(&mut said).unwrap();
    assert!(said.contains("waiting for the end of standard input") && said.contains("< /dev/null"), "{said}");
    child.stdin.take().unwrap().write_all(b"echo piped").unwrap();
    assert_eq!(finish(child).stdout, "typed\npiped\n");
}

#[test]
fn send_gives_up_waiting_in_time_and_the_prompt_goes_on() {
    let daemon = Daemon::new();
    daemon.ok(&["start", "--id", "s"]);
    let script = "until [ -e on ]; do sleep 0.02; done; touch done";
    let output = daemon.run(&["send", "--timeout", "300ms", "s", script]);
    assert_eq!(output.code, Some(3), "{output:?}");
    assert!(output.stderr.contains("has not ended within 300ms"), "{output:?}");
    assert!(output.stderr.contains("goes on; `kennel events -f s` follows it"), "{output:?}");
    std::fs::write(daemon.workdir().join("on"), "").unwrap();
    daemon.idle("s");
    assert!(daemon.workdir().join("done").exists());
}

#[test]
fn each_end_of_a_turn_has_a_word_and_an_exit_code() {
    let daemon = with_agents();
    daemon.ok(&["start", "--id", "s", "--agent", "x"]);
    for (prompt, code, word) in [
        ("say fine", 0, ""),
        ("stop max_tokens", 10, "(max_tokens)"),
        ("stop max_turn_requests", 11, "(max_turn_requests)"),
        ("stop refusal", 12, "(refusal)"),
        ("stop cancelled", 13, "was aborted (cancelled)"),
        ("stop _odd", 1, "_odd"),
    ] {
        let output = daemon.run(&["send", "s", prompt]);
        assert_eq!(output.code, Some(code), "{prompt}: {output:?}");
        assert!(output.stderr.contains(word), "{prompt}: {output:?}");
        let result = daemon.run(&["subagent", "result", "s"]);
        assert_eq!(result.code, Some(code), "{prompt}: {result:?}");
    }
    assert_eq!(daemon.run(&["run", "--agent", "x", "stop refusal"]).code, Some(12));
    daemon.ok(&["start", "--id", "slow", "--turn-timeout", "200ms"]);
    let late = daemon.run(&["send", "slow", "exec sleep 1000"]);
    assert_eq!(late.code, Some(13), "{late:?}");
    assert!(late.stderr.contains("turn timeout"), "{late:?}");
    let mut cut = daemon.spawn(&["run", "--id", "cut", "echo begun; exec sleep 1000"]);
    assert_eq!(first_line(&mut cut), "begun\n");
    kill(daemon.show("cut").pid.unwrap());
    let cut = finish(cut);
    assert_eq!(cut.code, Some(14), "{cut:?}");
    assert!(cut.stderr.contains("was interrupted") && cut.stderr.contains("kennel resolve"), "{cut:?}");
}
