//! Turns of a program that is started for each prompt: what it is told, and what it says.

use std::fs;

use protocol::wire::{Command, Exchange, PromptVia, Report, TurnEnd};
use protocol::{Exit, PromptId};

use crate::harness::*;

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
