//! Input of an agent's program at its start, and reports on a program that does not run.

use std::fs;
use std::process::Command as Program;

use protocol::Exit;
use protocol::wire::{Agent, PromptVia, TurnEnd};
use rustix::process::Signal;

use crate::harness::*;

#[test]
fn a_missing_working_directory_is_named() {
    let mut worker = Worker::spawn();
    let mut papers = worker.papers(Agent::Shell, LONG);
    papers.workdir = "/no/such/place".into();
    worker.welcome_with(papers);
    for n in 1..3 {
        let turn = worker.run(n, "echo no");
        let Some(TurnEnd::Failed { message }) = turn.end else { panic!("{turn:?}") };
        assert!(message.contains("/no/such/place") && message.contains("No such file"), "{message}");
        assert_eq!((turn.pid, turn.exit, turn.stdout.as_str()), (None, None, ""));
    }
}

#[test]
fn a_program_that_cannot_run_is_named() {
    for (program, why) in
        [("/no/such/agent", "No such file"), ("/etc/passwd", "denied"), ("agent", "absolute")]
    {
        let mut worker = Worker::ready(command(&[program], PromptVia::Stdin, false));
        let turn = worker.run(1, "hello");
        // One that is not there may come back; what is no program of its own is an error.
        let (message, passes) = match turn.end {
            Some(TurnEnd::NotRun { message }) => (message, true),
            Some(TurnEnd::Failed { message }) => (message, false),
            end => panic!("{end:?}"),
        };
        assert!(message.contains(program) && message.contains(why), "{message}");
        assert_eq!((turn.pid, turn.exit, passes), (None, None, program != "agent"));
    }
    // It knows nothing of a prompt that it could not run, and takes it again.
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("agent");
    let mut worker = Worker::ready(command(&[program.to_str().unwrap()], PromptVia::Stdin, false));
    assert!(matches!(worker.run(1, "hello").end, Some(TurnEnd::NotRun { .. })));
    std::os::unix::fs::symlink("/bin/cat", &program).unwrap();
    assert_eq!(worker.run(1, "hello").stdout, "hello");
}

#[test]
fn an_exit_status_of_127_is_the_programs_own() {
    let mut worker = Worker::shell();
    let turn = worker.run(1, "exit 127");
    assert_eq!((turn.end, turn.exit), (Some(TurnEnd::Finished), Some(Exit::Code(127))));
}

#[test]
fn the_agents_environment_is_what_was_given_and_the_marker() {
    let mut worker = Worker::spawn();
    let mut papers = worker.papers(command(&["/usr/bin/env"], PromptVia::Stdin, false), LONG);
    papers.env = vec![("B".into(), "2 ä\n3".into()), ("A".into(), String::new())];
    worker.welcome_with(papers);
    let out = worker.run(1, "").stdout;
    let mut lines: Vec<_> = out.lines().collect();
    lines.sort();
    assert_eq!(lines, ["3", "A=", "B=2 ä", &format!("KENNEL_SESSION={}", worker.marker)]);
}

#[test]
fn the_agent_gets_three_descriptors_and_no_terminal() {
    let mut worker = Worker::shell();
    let turn =
        worker.run(1, "ls /proc/$$/fd; readlink /proc/$$/fd/0; cut -d' ' -f1,5,6,7 /proc/$$/stat; true");
    let pid = turn.pid.unwrap();
    assert_eq!(turn.stdout, format!("0\n1\n2\n/dev/null\n{pid} {pid} {pid} 0\n"));
}

#[test]
fn the_agent_gets_the_usual_limit_of_descriptors_whatever_the_managers_is() {
    let mut launcher = Program::new("/bin/sh");
    launcher.args(["-c", "ulimit -Sn 2048 && exec \"$0\"", binary()]);
    let mut worker = Worker::spawn_by(launcher);
    worker.welcome(Agent::Shell, LONG);
    assert_eq!(worker.run(1, "ulimit -Sn").stdout, "1024\n");
}

#[test]
fn ignored_and_blocked_signals_are_not_passed_on_to_the_agent() {
    let mut launcher = Program::new("/usr/bin/env");
    launcher.args([
        "--ignore-signal=HUP,INT,QUIT,PIPE,TERM,CHLD,USR1,RTMIN",
        "--block-signal=TERM,CHLD,USR2",
        binary(),
    ]);
    let mut worker = Worker::spawn_by(launcher);
    worker.welcome(
        command(&["/bin/grep", "-E", "Sig(Ign|Blk)", "/proc/self/status"], PromptVia::Stdin, false),
        50,
    );
    // The C library's posix_spawn leaves its own two signals, 32 and 33, ignored in every child.
    let own = "0000000180000000";
    let none = "0000000000000000";
    let out = worker.run(1, "").stdout;
    let expected = [own, none].map(|ignored| format!("SigBlk:\t{none}\nSigIgn:\t{ignored}\n"));
    assert!(expected.contains(&out), "{out}");
    // The worker hears its own, too.
    Watch::pid(worker.pid()).signal(Signal::TERM);
    assert_eq!(worker.code(), 143);
}

#[test]
fn what_the_launcher_left_open_is_closed() {
    let mut launcher = Program::new("/bin/sh");
    launcher.args(["-c", "exec 7</dev/zero 8>/dev/full; exec \"$0\"", binary()]);
    let mut worker = Worker::spawn_by(launcher);
    worker.welcome(Agent::Shell, LONG);
    let open: Vec<_> = fs::read_dir(format!("/proc/{}/fd", worker.pid()))
        .unwrap()
        .filter_map(|entry| fs::read_link(entry.unwrap().path()).ok())
        .collect();
    for leaked in ["/dev/zero", "/dev/full"] {
        assert!(!open.iter().any(|path| path.ends_with(leaked)), "{open:?}");
    }
}

#[test]
fn a_worker_whose_file_was_deleted_still_starts_agents() {
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("session-worker");
    copy_worker(&copy);
    let mut worker = Worker::spawn_by(Program::new(&copy));
    worker.welcome(Agent::Shell, LONG);
    fs::remove_file(&copy).unwrap();
    assert_eq!(worker.run(1, "echo still here").stdout, "still here\n");
}
