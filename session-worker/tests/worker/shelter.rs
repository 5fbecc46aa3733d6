//! Managers die and others come; the worker and its turn go on.

use std::fs;
use std::process::Command as Program;

use super::harness::{INCARNATION, Turn, Worker, binary, until};
use protocol::wire::{Agent, Command, Report, TurnEnd};
use protocol::{Exit, PromptId};

/// A turn that says `one`, and after each file that is made the next word.
const STEPS: &str = "echo one; until test -e go; do sleep 0.02; done; echo two; \
    until test -e on; do sleep 0.02; done; echo three";

fn make(worker: &Worker, name: &str) {
    fs::write(worker.path(name), "").unwrap();
}

/// Whether the spool says this.
fn spooled(worker: &Worker, words: &str) -> bool {
    let says = |report: &Report| matches!(report, Report::Output { text, .. } if text.contains(words));
    worker.spooled().iter().any(|frame| says(&frame.body))
}

#[test]
fn a_turn_goes_on_without_a_manager_and_the_next_one_hears_all_of_it_once() {
    let mut worker = Worker::sheltered(|_| {});
    worker.prompt(1, STEPS);
    let mut turn = worker.turn_until(|said| said == "one\n");
    worker.desert(worker.heard());
    make(&worker, "go");
    until("it is said to nobody", || spooled(&worker, "two"));
    worker.come_back(&mut turn);
    assert_eq!(turn.stdout, "one\ntwo\n");
    make(&worker, "on");
    while turn.end.is_none() {
        worker.turn_report(&mut turn);
    }
    assert_eq!((turn.stdout.as_str(), turn.exit), ("one\ntwo\nthree\n", Some(Exit::Code(0))));
    // What is on record need not be kept.
    worker.send(Command::Acknowledge);
    until("the spool is empty", || fs::metadata(worker.path("spool")).unwrap().len() == 0);
    assert_eq!(worker.run(2, "echo next").stdout, "next\n");
}

#[test]
fn what_a_dead_manager_had_read_and_not_recorded_is_said_again() {
    let mut worker = Worker::sheltered(|_| {});
    let recorded = worker.heard();
    worker.prompt(1, STEPS);
    worker.turn_until(|said| said == "one\n");
    worker.desert(recorded);
    make(&worker, "go");
    make(&worker, "on");
    let ended = |report: &Report| matches!(report, Report::TurnEnded { .. });
    until("the turn's end", || worker.spooled().iter().any(|frame| ended(&frame.body)));
    let mut turn = Turn::default();
    worker.come_back(&mut turn);
    assert_eq!((turn.stdout.as_str(), turn.end), ("one\ntwo\nthree\n", Some(TurnEnd::Finished)));
}

#[test]
fn managers_may_die_one_after_the_other() {
    let mut worker = Worker::sheltered(|_| {});
    worker.prompt(1, STEPS);
    let mut turn = worker.turn_until(|said| said == "one\n");
    for (file, said) in [("go", "one\ntwo\n"), ("on", "one\ntwo\nthree\n")] {
        worker.desert(worker.heard());
        worker.come_back(&mut turn);
        worker.desert(worker.heard());
        make(&worker, file);
        until("it is said to nobody", || spooled(&worker, said.rsplit('\n').nth(1).unwrap()));
        worker.come_back(&mut turn);
        while turn.stdout != said {
            worker.turn_report(&mut turn);
        }
    }
    while turn.end.is_none() {
        worker.turn_report(&mut turn);
    }
}

#[test]
fn a_prompt_that_is_given_again_is_run_once() {
    let mut worker = Worker::sheltered(|_| {});
    worker.prompt(1, &format!("printf x >> ran; {STEPS}"));
    let mut turn = worker.turn_until(|said| said == "one\n");
    worker.desert(worker.heard());
    worker.come_back(&mut turn);
    worker.prompt(1, "printf y >> ran");
    make(&worker, "go");
    make(&worker, "on");
    while turn.end.is_none() {
        worker.turn_report(&mut turn);
    }
    worker.prompt(1, "printf z >> ran");
    assert_eq!(worker.run(2, "echo other").stdout, "other\n");
    assert_eq!(fs::read_to_string(worker.path("ran")).unwrap(), "x");
}

#[test]
fn whoever_does_not_know_the_secret_is_not_heard_and_changes_nothing() {
    let mut worker = Worker::sheltered(|_| {});
    worker.prompt(1, STEPS);
    let mut turn = worker.turn_until(|said| said == "one\n");
    worker.desert(worker.heard());
    for secret in [&[8; 32][..], &[7; 31], &[7; 33], b"\0"] {
        worker.visit(secret);
        // Its pipes are closed without a word.
        assert_eq!(worker.frame(), None);
    }
    make(&worker, "go");
    make(&worker, "on");
    worker.come_back(&mut turn);
    while turn.end.is_none() {
        worker.turn_report(&mut turn);
    }
    assert_eq!(turn.stdout, "one\ntwo\nthree\n");
}

#[test]
fn a_turn_that_nobody_comes_back_for_is_ended_and_the_spool_says_so() {
    let mut worker = Worker::sheltered(|papers| papers.turn_ms = 200);
    worker.prompt(1, "echo one; sleep 1000");
    worker.turn_until(|said| said == "one\n");
    worker.desert(worker.heard());
    assert_eq!(worker.code(), 75);
    let last = worker.spooled().pop().unwrap();
    assert_eq!(last.incarnation, INCARNATION);
    let Report::TurnEnded { prompt, end, .. } = last.body else { panic!("{last:?}") };
    assert_eq!((prompt, end), (PromptId(1), TurnEnd::Aborted));
    assert!(!fs::exists(worker.path("door")).unwrap(), "it closed its door");
}

#[test]
fn a_worker_at_rest_that_nobody_comes_back_for_leaves() {
    let mut worker = Worker::sheltered(|papers| papers.idle_ms = 100);
    worker.run(1, "true");
    worker.desert(worker.heard());
    assert_eq!(worker.code(), 75);
}

#[test]
fn a_worker_stays_longer_for_a_turn_than_for_nothing() {
    let mut worker = Worker::sheltered(|papers| papers.idle_ms = 50);
    worker.prompt(1, STEPS);
    let mut turn = worker.turn_until(|said| said == "one\n");
    worker.desert(worker.heard());
    make(&worker, "go");
    until("it is said to nobody", || spooled(&worker, "two"));
    worker.come_back(&mut turn);
    worker.desert(worker.heard());
    make(&worker, "on");
    assert_eq!(worker.code(), 75);
    let ended = |report: &Report| matches!(report, Report::TurnEnded { end: TurnEnd::Finished, .. });
    assert!(worker.spooled().iter().any(|frame| ended(&frame.body)), "the turn had come to its end before");
}

#[test]
fn a_full_spool_holds_the_agent_up_and_drops_nothing() {
    const SPOOL: u64 = 64 * 1024;
    let mut worker = Worker::sheltered(|papers| papers.spool_bytes = SPOOL);
    worker
        .prompt(1, "echo one; until test -e go; do sleep 0.02; done; head -c 4000000 /dev/zero | tr '\\0' x");
    let mut turn = worker.turn_until(|said| said == "one\n");
    worker.desert(worker.heard());
    make(&worker, "go");
    until("the spool is full", || fs::metadata(worker.path("spool")).unwrap().len() >= SPOOL);
    worker.come_back(&mut turn);
    let held = fs::metadata(worker.path("spool")).unwrap().len();
    assert!(held < 3 * SPOOL, "{held} bytes in a spool of {SPOOL}");
    while turn.end.is_none() {
        // Or it is read no further.
        worker.send(Command::Acknowledge);
        worker.turn_report(&mut turn);
    }
    assert_eq!(turn.stdout.len(), 4 + 4_000_000);
}

#[test]
fn a_manager_that_acknowledges_nothing_holds_the_agent_up_and_not_the_abort() {
    let mut worker = Worker::sheltered(|_| {});
    worker.prompt(1, "cat /dev/zero | tr '\\0' x");
    let mut turn = worker.turn_until(|said| said.len() > 200_000);
    worker.abort(1);
    while turn.end.is_none() {
        worker.turn_report(&mut turn);
    }
    assert_eq!(turn.end, Some(TurnEnd::Aborted));
}

#[test]
fn a_worker_that_finds_no_shelter_goes_on_also_where_nothing_can_be_logged() {
    let mut program = Program::new("/bin/sh");
    program.args(["-c", "exec \"$0\" 2> /dev/full", binary()]);
    let mut worker = Worker::spawn_by(program);
    worker.welcome(Agent::Shell, 1_000);
    let papers = worker.shelter();
    worker.send(Command::Shelter(protocol::wire::Shelter { spool: worker.path("none/spool"), ..papers }));
    assert_eq!(worker.run(1, "echo on").stdout, "on\n");
    worker.desert(worker.heard());
    assert_eq!(worker.code(), 75);
}
