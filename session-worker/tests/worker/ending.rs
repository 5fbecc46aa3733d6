//! Every way in which a turn, its tree of processes and the worker end.

use std::fs;
use std::os::unix::process::ExitStatusExt;

use protocol::Exit;
use protocol::wire::{Agent, Command, Report, TurnEnd};
use rustix::process::Signal;

use crate::harness::*;

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
