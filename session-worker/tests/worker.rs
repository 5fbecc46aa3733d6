//! The real worker over real pipes.

// What clippy.toml allows in `#[test]` functions, for their helpers too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "worker/contained.rs"]
mod contained;
mod harness;
#[path = "worker/log.rs"]
mod log;
#[path = "worker/shelter.rs"]
mod shelter;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command as Program, Stdio};

use harness::*;
use protocol::wire::{Agent, Command, Exchange, PromptVia, Report, TurnEnd};
use protocol::{Exit, PromptId, Restore};
use rustix::process::Signal;

/// A tree that SIGTERM does not end: the shell itself, a child, and one that left by double fork and setsid.
const STUBBORN: &str = r#"trap "" TERM
sleep 1000 & echo child $!
(setsid sh -c 'echo escapee $$; exec sleep 1000' &)
wait"#;

fn stubborn(worker: &mut Worker, n: u64) -> Vec<Watch> {
    worker.prompt(n, STUBBORN);
    let turn = worker.turn_until(|out| out.matches('\n').count() == 2);
    let pids =
        [turn.pid.unwrap(), number_after(&turn.stdout, "child"), number_after(&turn.stdout, "escapee")];
    pids.map(Watch::pid).into()
}

#[test]
fn says_its_version_and_build() {
    // `Command::output` is banned for the reaper's sake; there is none in this process.
    let say = |arg: &str| {
        let child = Program::new(binary()).arg(arg).stdout(Stdio::piped()).spawn().unwrap();
        String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
    };
    let build = say("--build-id");
    assert_eq!(say("--version"), format!("session-worker 0.1.0 ({})\n", build.trim()));
}

#[test]
fn refuses_to_be_used_by_hand() {
    for (args, input) in [(&["--frobnicate"][..], Stdio::piped()), (&[], Stdio::null())] {
        let mut child = Program::new(binary())
            .args(args)
            .stdin(input)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Watch::pid(child.id()).wait_gone();
        assert_eq!(child.wait().unwrap().code(), Some(2));
    }
}

#[test]
fn leads_a_session_of_its_own_before_hello() {
    let mut worker = Worker::spawn();
    worker.frame().unwrap();
    let pid = rustix::process::Pid::from_raw(worker.pid() as i32);
    assert_eq!(Some(rustix::process::getsid(pid).unwrap()), pid);
}

#[test]
fn the_end_before_welcome_ends_it_at_once_and_quietly() {
    let mut worker = Worker::spawn();
    worker.frame().unwrap();
    worker.to = None;
    assert_eq!(worker.code(), 0);
    assert_eq!(worker.log(), "");
}

#[test]
fn sigterm_before_welcome_ends_it() {
    let mut worker = Worker::spawn();
    worker.frame().unwrap();
    Watch::pid(worker.pid()).signal(Signal::TERM);
    assert_eq!(worker.code(), 143);
}

#[test]
fn garbage_before_welcome_is_a_fault() {
    let mut worker = Worker::spawn();
    worker.send_bytes(b"hello? is anybody there?");
    assert_eq!(worker.code(), 70);
    assert!(worker.log().contains("first message"), "{}", worker.log());
}

#[test]
fn a_command_before_welcome_is_a_fault() {
    let mut worker = Worker::spawn();
    worker.prompt(1, "echo no");
    assert_eq!(worker.code(), 70);
}

#[test]
fn tells_what_a_fresh_process_knows_of_the_turns_before() {
    for (agent, expected) in [
        (Agent::Shell, Restore::Fresh),
        (command(&["/bin/cat"], PromptVia::Stdin, false), Restore::Fresh),
        (command(&["/bin/cat"], PromptVia::Stdin, true), Restore::Replayed),
    ] {
        let mut worker = Worker::spawn();
        let papers = worker.papers(agent, LONG);
        let ready = worker.welcome_with(papers);
        assert_eq!(ready, Report::Ready { restore: expected, agent_pid: None });
    }
}

#[test]
fn a_prompt_gives_its_outputs_apart_and_its_exit_status() {
    let mut worker = Worker::shell();
    let turn = worker.run(1, "echo out; echo err >&2; pwd; exit 3");
    assert_eq!(turn.stdout, format!("out\n{}\n", worker.workdir()));
    assert_eq!(turn.stderr, "err\n");
    assert!(turn.pid.is_some());
    assert_eq!((turn.end, turn.exit, turn.left_behind), (Some(TurnEnd::Finished), Some(Exit::Code(3)), 0));
    let turn = worker.run(2, "kill -9 $$");
    assert_eq!((turn.end, turn.exit), (Some(TurnEnd::Finished), Some(Exit::Signal(9))));
}

#[test]
fn the_last_command_acted_on_is_acknowledged_and_a_repeated_one_dropped() {
    let mut worker = Worker::shell();
    worker.run(1, "echo one");
    let again = Command::Prompt { prompt: PromptId(1), text: "echo again".into(), history: vec![] };
    worker.send_numbered(1, again);
    worker.prompt(2, "echo two");
    let started = worker.frame().unwrap();
    assert!(matches!(started.body, Report::TurnStarted { prompt: PromptId(2), .. }), "{started:?}");
    assert_eq!(started.ack, 2);
}

#[test]
fn a_character_that_two_reads_share_comes_out_whole() {
    let mut worker = Worker::shell();
    worker.prompt(1, r"mkfifo go; printf 'a\303'; read x <go; printf '\244b'");
    let first = worker.turn_until(|out| !out.is_empty());
    assert_eq!(first.stdout, "a");
    fs::write(worker.dir.path().join("go"), "\n").unwrap();
    assert_eq!(worker.turn().stdout, "äb");
}

#[test]
fn bytes_that_are_no_text_are_replaced_and_stay_within_the_limit_of_a_report() {
    let mut worker = Worker::shell();
    assert_eq!(worker.run(1, r"printf 'a\377b\303'").stdout, "a\u{fffd}b\u{fffd}");
    let turn = worker.run(2, r"head -c 300000 /dev/zero | tr '\0' '\377'");
    assert_eq!(turn.stdout, "\u{fffd}".repeat(300_000));
}

#[test]
fn no_byte_of_a_large_output_is_lost() {
    let mut worker = Worker::shell();
    let turn = worker.run(1, r"head -c 5000000 /dev/zero | tr '\0' x; printf end");
    assert_eq!(turn.stdout.len(), 5_000_003);
    assert!(turn.stdout.ends_with("xend"));
}

#[test]
fn abort_ends_the_whole_tree_escapees_and_the_deaf_too() {
    let mut worker = Worker::spawn();
    worker.welcome(Agent::Shell, 100);
    let tree = stubborn(&mut worker, 1);
    worker.abort(1);
    let turn = worker.turn();
    assert!(tree.iter().all(|process| !process.lives()));
    assert_eq!((turn.end, turn.exit), (Some(TurnEnd::Aborted), Some(Exit::Signal(9))));
    assert_eq!(turn.notices, ["what did not end within its grace was killed (SIGKILL)"]);
    assert_eq!(worker.run(2, "echo next").stdout, "next\n");
}

#[test]
fn abort_lets_the_agent_end_well_and_forwards_its_last_words() {
    let mut worker = Worker::shell();
    worker.prompt(1, "trap 'echo bye; exit 5' TERM; echo up; while :; do :; done");
    worker.turn_until(|out| out == "up\n");
    worker.abort(1);
    let turn = worker.turn();
    assert_eq!(turn.stdout, "bye\n");
    assert_eq!((turn.end, turn.exit), (Some(TurnEnd::Aborted), Some(Exit::Code(5))));
    assert!(turn.notices.is_empty(), "{:?}", turn.notices);
}

#[test]
fn a_worker_says_that_it_lives_whatever_its_agent_does_and_what_that_has_cost() {
    let mut worker = Worker::shell();
    worker.prompt(1, "echo up; while :; do :; done");
    worker.turn_until(|out| out == "up\n");
    let mut alive = || {
        worker.send(Command::Probe);
        match worker.report() {
            Report::Alive { cpu_ms, .. } => cpu_ms,
            other => panic!("{other:?}"),
        }
    };
    until("the agent has used some time", || alive() > 0);
    worker.abort(1);
    worker.turn();
}

#[test]
fn a_stopped_process_hears_the_abort() {
    let mut worker = Worker::shell();
    worker.prompt(1, "trap 'echo bye; exit 5' TERM; echo up; kill -STOP $$; sleep 1000");
    let turn = worker.turn_until(|out| out == "up\n");
    let agent = turn.pid.unwrap() as i32;
    until("stopped", || children(worker.pid()).contains(&(agent, 'T')));
    worker.abort(1);
    assert_eq!(worker.turn().stdout, "bye\n");
}

#[test]
fn abort_of_a_prompt_that_does_not_run_is_ignored() {
    let mut worker = Worker::shell();
    worker.abort(1);
    worker.prompt(2, "echo up; exec sleep 1000");
    worker.turn_until(|out| out == "up\n");
    worker.abort(1);
    worker.abort(2);
    assert_eq!(worker.turn().end, Some(TurnEnd::Aborted));
}

#[test]
fn a_chain_of_forks_that_ignores_sigterm_is_ended() {
    let mut worker = Worker::spawn();
    worker.welcome(Agent::Shell, 0);
    script(&worker.dir.path().join("chain"), "#!/bin/sh\ntrap '' TERM\necho x\nsetsid ./chain &\n");
    worker.prompt(1, "for i in 1 2 3 4 5 6 7 8; do ./chain; done; sleep 1000");
    worker.turn_until(|out| out.len() > 200);
    worker.abort(1);
    assert_eq!(worker.turn().end, Some(TurnEnd::Aborted));
    assert_eq!(children(worker.pid()), []);
}

#[test]
fn what_a_finished_turn_leaves_behind_is_counted_and_ended_with_it() {
    let mut worker = Worker::shell();
    let turn = worker.run(1, "sleep 1000 & (setsid sleep 1000 &) ; echo done");
    assert_eq!(turn.stdout, "done\n");
    assert_eq!((turn.end, turn.exit), (Some(TurnEnd::Finished), Some(Exit::Code(0))));
    assert_eq!(turn.left_behind, 2);
    let deaf = worker.run(
        2,
        "(trap '' TERM; exec sleep 1000) & while ! grep -q 'SigIgn:.*4...$' /proc/$!/status; do :; done",
    );
    assert_eq!((deaf.end, deaf.left_behind), (Some(TurnEnd::Finished), 1));
}

#[test]
fn the_end_of_the_link_in_a_turn_ends_the_tree_and_the_worker() {
    let mut worker = Worker::spawn();
    worker.welcome(Agent::Shell, 50);
    let tree = stubborn(&mut worker, 1);
    worker.to = None;
    assert_eq!(worker.code(), 75);
    assert!(tree.iter().all(|process| !process.lives()));
}

#[test]
fn the_end_of_the_link_at_rest_ends_the_worker() {
    let mut worker = Worker::shell();
    worker.to = None;
    assert_eq!(worker.code(), 75);
}

#[test]
fn a_manager_that_closed_its_reading_end_is_gone() {
    let mut worker = Worker::shell();
    worker.prompt(1, "exec yes");
    worker.turn_until(|out| !out.is_empty());
    worker.from = None;
    assert_eq!(worker.code(), 75);
}

#[test]
fn sigterm_ends_the_turn_the_tree_and_the_worker() {
    let mut worker = Worker::spawn();
    worker.welcome(Agent::Shell, 50);
    let tree = stubborn(&mut worker, 1);
    Watch::pid(worker.pid()).signal(Signal::TERM);
    assert_eq!(worker.turn().end, Some(TurnEnd::Aborted));
    assert!(worker.frame().is_none());
    assert_eq!(worker.code(), 143);
    assert!(tree.iter().all(|process| !process.lives()));
}

#[test]
fn shutdown_ends_everything_with_status_zero() {
    let mut worker = Worker::spawn();
    worker.welcome(Agent::Shell, 50);
    stubborn(&mut worker, 1);
    worker.send(Command::Shutdown);
    assert_eq!(worker.turn().end, Some(TurnEnd::Aborted));
    assert!(worker.frame().is_none());
    assert_eq!(worker.code(), 0);
    let mut idle = Worker::shell();
    idle.send(Command::Shutdown);
    assert_eq!(idle.code(), 0);
}

#[test]
fn interrupt_and_hangup_are_not_for_the_worker() {
    let mut worker = Worker::shell();
    let watch = Watch::pid(worker.pid());
    watch.signal(Signal::INT);
    watch.signal(Signal::HUP);
    assert_eq!(worker.run(1, "echo here").stdout, "here\n");
}

#[test]
fn garbage_in_a_turn_is_a_fault_and_ends_the_tree() {
    let mut worker = Worker::spawn();
    worker.welcome(Agent::Shell, 50);
    let tree = stubborn(&mut worker, 1);
    worker.send_bytes(&[0xff; 64]);
    assert!(matches!(worker.report(), Report::Fault { .. }));
    assert!(worker.frame().is_none(), "the fault is the last word");
    assert_eq!(worker.code(), 70);
    assert!(tree.iter().all(|process| !process.lives()));
}

#[test]
fn a_second_prompt_in_a_turn_is_a_fault() {
    let mut worker = Worker::shell();
    worker.prompt(1, "echo up; exec sleep 1000");
    worker.turn_until(|out| out == "up\n");
    worker.prompt(2, "echo no");
    let Report::Fault { message } = worker.report() else { panic!("no fault") };
    assert!(message.contains("prompt-2") && message.contains("prompt-1"), "{message}");
    assert_eq!(worker.code(), 70);
}

#[test]
fn kill_9_of_the_worker_kills_the_agent() {
    let mut worker = Worker::shell();
    worker.prompt(1, "echo up; exec sleep 1000");
    let agent = Watch::pid(worker.turn_until(|out| out == "up\n").pid.unwrap());
    Watch::pid(worker.pid()).signal(Signal::KILL);
    agent.wait_gone();
    assert_eq!(worker.exit().signal(), Some(9));
}

#[test]
fn an_agent_that_never_reads_its_prompt_hangs_nothing() {
    let agent = command(&["/bin/sh", "-c", "echo up; exec sleep 1000"], PromptVia::Stdin, false);
    let mut worker = Worker::ready(agent);
    worker.prompt(1, &"x".repeat(1 << 20));
    worker.turn_until(|out| out == "up\n");
    worker.abort(1);
    assert_eq!(worker.turn().end, Some(TurnEnd::Aborted));
    let mut worker = Worker::ready(command(&["/bin/true"], PromptVia::Stdin, false));
    let turn = worker.run(1, &"x".repeat(1 << 20));
    assert_eq!((turn.end, turn.exit), (Some(TurnEnd::Finished), Some(Exit::Code(0))));
}

#[test]
fn a_large_prompt_reaches_an_agent_that_answers_while_it_reads() {
    let mut worker = Worker::ready(command(&["/bin/cat"], PromptVia::Stdin, false));
    let prompt = "0123456789abcde\n".repeat(1 << 16);
    assert_eq!(worker.run(1, &prompt).stdout, prompt);
}

/// Starts a turn that writes without end, and reads nothing of it.
fn unread(worker: &mut Worker) -> Watch {
    worker.prompt(1, "trap '' TERM; exec yes");
    let Report::TurnStarted { agent_pid, .. } = worker.report() else { panic!("not started") };
    let from = worker.from.as_ref().unwrap();
    until("the pipe is full", || rustix::io::ioctl_fionread(from).unwrap() > 32_000);
    Watch::pid(agent_pid)
}

#[test]
fn abort_ends_the_tree_of_a_manager_that_does_not_read() {
    let mut worker = Worker::spawn();
    worker.welcome(Agent::Shell, 50);
    let agent = unread(&mut worker);
    worker.abort(1);
    agent.wait_gone();
    assert_eq!(worker.turn().end, Some(TurnEnd::Aborted));
}

#[test]
fn every_way_of_leaving_works_with_a_manager_that_does_not_read() {
    type Way = fn(&mut Worker);
    let ways: [(Way, i32); 3] = [
        (|worker| worker.to = None, 75),
        (|worker| worker.send(Command::Shutdown), 0),
        (|worker| Watch::pid(worker.pid()).signal(Signal::TERM), 143),
    ];
    for (leave, code) in ways {
        let mut worker = Worker::spawn();
        worker.welcome(Agent::Shell, 50);
        let agent = unread(&mut worker);
        leave(&mut worker);
        agent.wait_gone();
        assert_eq!(worker.code(), code);
    }
}

#[test]
fn unread_output_is_not_piled_up_in_memory() {
    let mut worker = Worker::spawn();
    worker.welcome(Agent::Shell, 50);
    let _agent = unread(&mut worker);
    let io = |field: &str| -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/io", worker.pid())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        line.trim().parse().unwrap()
    };
    // One piece is in the pipe, at most one in the outbox: then the agent is not read any more.
    let (mut before, mut still) = (0, 0);
    until("reading rests", || {
        let read = io("rchar:");
        assert!(read < 1 << 20, "{read} bytes read and not delivered");
        still = if read == before { still + 1 } else { 0 };
        before = read;
        still == 50
    });
}

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
fn a_prompt_the_kernel_does_not_take_as_argument_fails_and_the_next_one_runs() {
    let mut worker = Worker::ready(command(&["/bin/echo"], PromptVia::Argument, false));
    let long = worker.run(1, &"x".repeat(200_000));
    let nul = worker.run(2, "a\0b");
    assert!(matches!(long.end, Some(TurnEnd::Failed { .. })), "{:?}", long.end);
    assert!(matches!(nul.end, Some(TurnEnd::Failed { .. })), "{:?}", nul.end);
    assert_eq!(worker.run(3, "a b").stdout, "a b\n");
}

#[test]
fn a_prompt_that_begins_like_an_option_is_none() {
    let mut worker = Worker::ready(command(&["/bin/echo"], PromptVia::Argument, false));
    assert_eq!(worker.run(1, "-n").stdout, " -n\n");
    assert_eq!(worker.run(2, "--version").stdout, " --version\n");
    let mut worker = Worker::ready(command(&["/bin/cat", "--"], PromptVia::Argument, false));
    let whole = worker.run(1, "--version");
    assert!(whole.stderr.contains("'--version'") || whole.stderr.contains("--version:"), "{}", whole.stderr);
    let mut worker = Worker::shell();
    assert_eq!(worker.run(1, "-x; echo on").stdout, "on\n");
    assert_eq!(worker.run(2, "+x; echo on").stdout, "on\n");
}

#[test]
fn an_argument_is_told_as_much_of_the_turns_before_as_fits() {
    let mut worker = Worker::ready(command(&["/usr/bin/printf", "%s"], PromptVia::Argument, true));
    let turn = |n: usize| protocol::wire::Exchange { prompt: format!("turn {n}"), reply: "x".repeat(50_000) };
    let history = vec![turn(1), turn(2), turn(3)];
    worker.prompt_with(1, "now", history);
    let told = worker.turn();
    assert_eq!(told.end, Some(TurnEnd::Finished));
    let has = |n: usize| told.stdout.contains(&format!("User: turn {n}\n"));
    assert_eq!((has(1), has(2), has(3)), (false, true, true));
    assert!(told.stdout.ends_with("User: now"));
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
fn turns_leave_no_descriptor_and_no_zombie() {
    let mut worker = Worker::shell();
    worker.run(1, "true");
    let before = descriptors(worker.pid());
    for n in 2..22 {
        worker.run(n, "(true &); sleep 1000 & echo x");
    }
    assert_eq!(descriptors(worker.pid()), before);
    assert_eq!(children(worker.pid()), []);
}

#[test]
fn orphans_are_reaped_while_the_turn_goes_on() {
    let mut worker = Worker::shell();
    worker.prompt(1, "for i in 1 2 3 4 5 6 7 8 9; do (sleep 0.01 &); done; echo up; exec sleep 1000");
    let turn = worker.turn_until(|out| out == "up\n");
    let agent = turn.pid.unwrap() as i32;
    until("only the agent is left", || matches!(children(worker.pid())[..], [(pid, _)] if pid == agent));
    worker.abort(1);
    assert_eq!(worker.turn().end, Some(TurnEnd::Aborted));
}

#[test]
fn an_agent_with_a_transcript_is_told_the_turns_before() {
    let history = || vec![Exchange { prompt: "one".into(), reply: "1\n".into() }];
    let whole =
        "The conversation so far:\n\nUser: one\n\nAssistant: 1\n\nThe conversation goes on.\n\nUser: two";
    for (via, argv, told, expected) in [
        (PromptVia::Stdin, &["/bin/cat"][..], true, whole.to_owned()),
        (PromptVia::Argument, &["/bin/echo"], true, format!("{whole}\n")),
        (PromptVia::Stdin, &["/bin/cat"], false, "two".to_owned()),
    ] {
        let mut worker = Worker::ready(command(argv, via, told));
        worker.prompt_with(1, "two", history());
        assert_eq!(worker.turn().stdout, expected);
    }
}

#[test]
fn a_worker_whose_file_was_deleted_still_starts_agents() {
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("session-worker");
    fs::copy(binary(), &copy).unwrap();
    let mut worker = Worker::spawn_by(Program::new(&copy));
    worker.welcome(Agent::Shell, LONG);
    fs::remove_file(&copy).unwrap();
    assert_eq!(worker.run(1, "echo still here").stdout, "still here\n");
}
