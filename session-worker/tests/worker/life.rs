//! The start of a worker, and its actions before the manager welcomes it.

use std::process::{Command as Program, Stdio};

use protocol::Restore;
use protocol::wire::{Agent, PromptVia, Report};
use rustix::process::Signal;

use crate::harness::*;

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
