//! The command line as people and scripts see it: transcripts in `cmd/`, each over a state directory of its
//! own, and tests of behaviour that no transcript can show.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

use harness::daemon::{Daemon, finish};
use harness::real::*;
use manager::protocol::api::{Problem, SessionInfo};
use manager::protocol::event::Event;

/// Runs `cmd/NAME.trycmd`. `TRYCMD=overwrite` writes what is there into it.
fn transcript(name: &str) {
    let daemon = Daemon::new();
    let dir = |below: &str| daemon.dir.path().join(below).display().to_string();
    let cases = trycmd::TestCases::new();
    cases.register_bin("kennel", trycmd::schema::Bin::Path(kennel().into())).timeout(BOUND);
    cases
        .env("KENNEL_STATE_DIR", dir("state"))
        .env("XDG_RUNTIME_DIR", dir(""))
        .env("XDG_CONFIG_HOME", dir(""));
    cases.env("NO_COLOR", "1").case(format!("cmd/{name}.trycmd"));
    cases.run();
}

#[test]
fn transcript_help() {
    transcript("help");
}

#[test]
fn transcript_usage() {
    transcript("usage");
}

#[test]
fn transcript_daemon() {
    transcript("daemon");
}

#[test]
fn transcript_sessions() {
    transcript("sessions");
}

#[test]
fn transcript_prompts() {
    transcript("prompts");
}

#[test]
fn transcript_json() {
    transcript("json");
}

#[test]
fn the_demo_keeps_its_promises_and_leaves_nothing() {
    let daemon = Daemon::new();
    let mut demo = daemon.command(&["demo"]);
    demo.env("TMPDIR", daemon.workdir());
    let output = finish(demo.spawn().unwrap());
    assert_eq!(output.code, Some(0), "{output:#?}");
    for line in
        ["$ kill -9 ", "$ kennel wait session-1 --until idle", "I waited and was not lost", "still here"]
    {
        assert!(output.stdout.contains(line), "{line} not in {output:#?}");
    }
    let left: Vec<_> =
        std::fs::read_dir(daemon.workdir()).unwrap().flatten().map(|entry| entry.path()).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_command_inside_a_session_never_starts_a_daemon() {
    let daemon = Daemon::new();
    let inside = |args: &[&str]| {
        let mut command = daemon.command(args);
        command.env("KENNEL_SESSION", "00000000-0000-0000-0000-000000000000/session-1/1");
        finish(command.spawn().unwrap())
    };
    for args in [&["ls"][..], &["daemon", "start"], &["send", "session-1", "x"], &["daemon", "run"]] {
        let output = inside(args);
        assert_eq!(output.code, Some(6), "{args:?}: {output:#?}");
    }
    let problem: Problem = serde_json::from_str(&inside(&["--json", "ls"]).stderr).unwrap();
    assert_eq!(problem.code, "daemon_unreachable");
    assert!(!daemon.dir.path().join("state").exists());
    // With one that was started from outside it works.
    daemon.ok(&["daemon", "start"]);
    assert_eq!(inside(&["ls"]).code, Some(0));
}

#[test]
fn a_daemon_that_cannot_start_says_why() {
    let daemon = Daemon::new();
    let state = daemon.workdir().join("state");
    // A file that is no journal is salvaged; a directory in its place is not.
    std::fs::create_dir_all(state.join("journal.db")).unwrap();
    let output = daemon.run(&["ls"]);
    assert_eq!(output.code, Some(6), "{output:#?}");
    assert!(output.stderr.contains("journal.db"), "{output:#?}");
    assert!(output.stderr.contains("daemon.log"), "{output:#?}");
}

#[test]
fn a_wrong_configuration_keeps_nobody_from_looking() {
    let daemon = Daemon::new();
    std::fs::create_dir(daemon.workdir().join("kennel")).unwrap();
    std::fs::write(daemon.workdir().join("kennel/config.toml"), "[defaults]\nnonsense = 1\n").unwrap();
    daemon.ok(&["ls"]);
    let output = daemon.run(&["start"]);
    assert_eq!(output.code, Some(2), "{output:#?}");
    assert!(output.stderr.contains("nonsense") && output.stderr.contains("config.toml:2"), "{output:#?}");
}

#[test]
fn prompts_come_from_standard_input() {
    let daemon = Daemon::new();
    daemon.ok(&["start"]);
    let send = |args: &[&str], text: &[u8]| {
        let mut child = daemon.command(args).stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // A command that refuses early does not read to the end.
        let _ = stdin.write_all(text);
        drop(stdin);
        finish(child)
    };
    assert_eq!(send(&["send", "session-1"], b"echo piped").stdout, "piped\n");
    assert_eq!(send(&["send", "session-1", "-"], b"echo dash\n").stdout, "dash\n");
    let output = send(&["send", "session-1"], b"\xff\xfe");
    assert_eq!(output.code, Some(2), "{output:#?}");
    let output = send(&["send", "session-1"], &vec![b'x'; 2 * 1024 * 1024]);
    assert_eq!(output.code, Some(2), "{output:#?}");
    assert_eq!(daemon.show("session-1").turn_count, 2);
}

#[test]
fn output_is_passed_on_byte_for_byte_where_no_person_looks() {
    let daemon = Daemon::new();
    daemon.ok(&["start"]);
    let output =
        daemon.run(&["send", "session-1", r"printf '\033[2J\r\033]0;x\007\303\244'; printf beside >&2"]);
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("\u{1b}[2J\r\u{1b}]0;x\u{7}ä", "beside"));
    // For people, and for programs that print it as it is, nothing of it is left that a terminal would obey.
    for args in [
        &["events", "session-1"][..],
        &["show", "session-1"],
        &["ls"],
        &["--json", "events"],
        &["queue", "ls", "session-1"],
    ] {
        let shown = daemon.ok(args);
        assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{args:?}: {shown:?}");
    }
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let daemon = Daemon::new();
    daemon.ok(&["start"]);
    for args in [&["ls"][..], &["events"], &["--help"], &["--json", "events"]] {
        let mut child = daemon.spawn(args);
        drop(child.stdout.take());
        let mut stderr = String::new();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        let status = child.wait().unwrap();
        assert_eq!((status.code(), stderr.as_str()), (Some(0), ""), "{args:?}");
    }
}

#[test]
fn ctrl_c_ends_the_stream_and_not_the_prompt() {
    let daemon = Daemon::new();
    daemon.ok(&["start"]);
    let done = daemon.workdir().join("done");
    let text =
        format!("echo begun; read line < {fifo}; echo done > {done}", fifo = "fifo", done = done.display());
    daemon.ok(&["send", "session-1", "mkfifo fifo"]);
    let mut child = daemon.spawn(&["send", "session-1", &text]);
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    assert_eq!(line, "begun\n");
    signal(child.id(), nix::sys::signal::Signal::SIGINT);
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    let status = child.wait().unwrap();
    assert_eq!((status.code(), status.signal()), (Some(130), None), "{stderr}");
    let runs = daemon.show("session-1").running_prompt.unwrap();
    assert!(stderr.contains(&format!("{runs} goes on")), "{stderr}");
    assert!(stderr.contains(&format!("`kennel abort session-1 {runs}` ends it")), "{stderr}");
    std::fs::write(daemon.workdir().join("fifo"), "go\n").unwrap();
    daemon.idle("session-1");
    assert!(done.exists());
}

#[test]
fn ctrl_c_names_the_command_that_ends_the_waiting_prompt_and_no_other() {
    let daemon = Daemon::new();
    daemon.ok(&["start", "--id", "s"]);
    let runs = daemon.ok(&["send", "--no-wait", "s", "exec sleep 1000"]);
    daemon.ok(&["wait", "s", "--until", "running"]);
    let mut child = daemon.spawn(&["send", "s", "echo never"]);
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    // The note that it waits: the signal is heard from here on.
    stderr.read_line(&mut said).unwrap();
    signal(child.id(), nix::sys::signal::Signal::SIGINT);
    stderr.read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{said}");
    let (_, command) = said.split_once("follows it, `kennel ").unwrap_or_else(|| panic!("{said}"));
    let words: Vec<&str> = command.split('`').next().unwrap().split(' ').collect();
    assert_eq!(&words[..3], ["queue", "rm", "s"], "{said}");
    daemon.ok(&words);
    let left = daemon.show("s");
    assert_eq!(
        (left.queue_length, left.running_prompt.map(|id| id.to_string())),
        (0, Some(runs.trim().into()))
    );
}

#[test]
fn send_goes_on_over_a_daemon_that_dies() {
    let daemon = Daemon::new();
    daemon.ok(&["start"]);
    let script = "echo one; touch ran; until [ -e on ]; do sleep 0.02; done; echo two";
    let mut child = daemon.spawn(&["send", "session-1", script]);
    until("the turn", || daemon.workdir().join("ran").exists().then_some(()));
    daemon.kill();
    std::fs::write(daemon.workdir().join("on"), "").unwrap();
    let mut printed = String::new();
    child.stdout.take().unwrap().read_to_string(&mut printed).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(printed, "one\ntwo\n");
}

#[test]
fn a_daemon_that_was_stopped_stays_stopped() {
    let daemon = Daemon::new();
    daemon.ok(&["start"]);
    daemon.ok(&["send", "--no-wait", "session-1", "exec sleep 1000"]);
    daemon.ok(&["wait", "session-1", "--until", "running"]);
    let queued = daemon.spawn(&["send", "session-1", "echo queued"]);
    let waiting = daemon.spawn(&["wait", "session-1", "--until", "failed"]);
    let mut following = daemon.spawn(&["--json", "events", "-f", "--after", "0"]);
    // All three are there: the prompt is in the queue, and each has its stream. A command whose next request finds no daemon starts one.
    until("the queue", || (daemon.show("session-1").queue_length == 1).then_some(()));
    until("the streams", || daemon.metrics().contains("kennel_event_streams 3\n").then_some(()));
    let mut events = BufReader::new(following.stdout.take().unwrap());
    events.read_line(&mut String::new()).unwrap();
    daemon.ok(&["daemon", "stop"]);
    assert_eq!(finish(queued).code, Some(6));
    assert!(matches!(finish(waiting).code, Some(6)));
    let mut rest = String::new();
    events.read_to_string(&mut rest).unwrap();
    assert!(following.wait().unwrap().success());
    let last: Event = serde_json::from_str(rest.lines().last().unwrap()).unwrap();
    assert!(["manager.stopping", "session.restarting"].contains(&last.kind.name()), "{last:?}");
    assert_eq!(daemon.run(&["daemon", "status"]).code, Some(6));
}

#[test]
fn daemons_that_lost_the_race_do_not_take_over_when_the_winner_is_stopped() {
    let daemon = Daemon::new();
    for round in 0..5 {
        let at_once: Vec<_> = (0..6).map(|_| daemon.spawn(&["ls"])).collect();
        for child in at_once {
            assert_eq!(finish(child).code, Some(0));
        }
        daemon.ok(&["daemon", "stop"]);
        let state = daemon.workdir().join("state").display().to_string();
        let left = || {
            let pids = std::fs::read_dir("/proc").unwrap().flatten();
            let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
            let ours = |pid: &u32| {
                let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                String::from_utf8_lossy(&line).contains(&state) && lives(*pid)
            };
            pids.filter(ours).collect::<Vec<_>>()
        };
        assert_eq!(left(), [0; 0], "round {round}: still there, and one of them would serve");
        assert_eq!(daemon.run(&["daemon", "status"]).code, Some(6), "round {round}");
    }
}

#[test]
fn ensure_has_one_session_for_a_directory() {
    let daemon = Daemon::new();
    let at_once: Vec<_> = (0..5).map(|_| daemon.spawn(&["--json", "ensure"])).collect();
    let mut sessions = at_once.into_iter().map(|child| {
        let output = finish(child);
        serde_json::from_str::<SessionInfo>(&output.stdout).unwrap_or_else(|_| panic!("{output:#?}"))
    });
    let first = sessions.next().unwrap();
    assert!(first.pid.is_some());
    assert!(sessions.all(|other| other.id == first.id && other.pid == first.pid));
    let id = daemon.ok(&["id", "--dir", "."]);
    assert_eq!(id.trim(), first.id.as_str());
    assert_eq!(daemon.ok(&["id", "--pid", &first.pid.unwrap().to_string()]), id);
}

#[test]
fn a_session_that_has_failed_says_the_reason_once_and_names_what_says_more() {
    let daemon = Daemon::new();
    daemon.ok(&["start", "--id", "s", "--intensity", "0"]);
    kill(daemon.idle("s").pid.unwrap());
    daemon.ok(&["wait", "s", "--until", "failed", "--timeout", "30s"]);
    let events = daemon.ok(&["events", "s"]);
    let failed = events.lines().find(|line| line.contains("session.failed")).unwrap();
    assert!(failed.contains("; 1 death within"), "{failed}");
    assert_eq!(failed.matches("killed by SIGKILL").count(), 1, "{failed}");
    // Its log is empty.
    let output = daemon.run(&["send", "s", "x"]);
    assert!(
        output.stderr.contains("killed by SIGKILL") && output.stderr.contains("`kennel show s`"),
        "{output:#?}"
    );
    assert!(!output.stderr.contains("kennel logs"), "{output:#?}");
}

#[test]
fn what_is_not_in_a_queue_is_answered_with_the_command_for_that_queue() {
    let daemon = Daemon::new();
    daemon.ok(&["start", "--id", "s"]);
    for args in [&["queue", "rm", "s", "prompt-9"][..], &["queue", "edit", "s", "prompt-9", "x"]] {
        let output = daemon.run(args);
        assert!(output.code != Some(0) && output.stderr.contains("`kennel queue ls s`"), "{output:#?}");
    }
}

#[test]
fn a_cursor_beyond_the_last_event_is_answered_with_the_option() {
    let daemon = Daemon::new();
    daemon.ok(&["start", "--id", "s"]);
    let output = daemon.run(&["events", "--after", "99999999"]);
    assert_eq!(output.code, Some(7), "{output:#?}");
    assert!(output.stderr.contains("`--after 0`") && !output.stderr.contains("after=0"), "{output:#?}");
}

#[test]
fn a_prompt_that_was_cut_while_no_daemon_ran_is_not_laid_at_the_daemons_door() {
    let daemon = Daemon::new();
    daemon.ok(&["start", "--id", "s"]);
    let worker = daemon.idle("s").pid.unwrap();
    daemon.ok(&["send", "--no-wait", "s", "echo begun; exec sleep 1000"]);
    daemon.ok(&["wait", "s", "--until", "running"]);
    let pid = daemon.pid();
    // It sees nothing of the worker's death.
    signal(pid, nix::sys::signal::Signal::SIGSTOP);
    kill(worker);
    kill(pid);
    daemon.idle("s");
    let reason = |event: Event| match event.kind {
        manager::protocol::event::EventKind::TurnInterrupted { reason, .. } => Some(reason),
        _ => None,
    };
    let reason = daemon.events().into_iter().find_map(reason).unwrap();
    assert_eq!(reason, "its worker died while no daemon ran, or did not answer the new one");
}
