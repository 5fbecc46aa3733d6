//! Connections that are lost.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::sync::mpsc;

use harness::daemon::{finish, finish_within};
use harness::far::Far;
use harness::real::*;
use harness::rng::Rng;
use manager::protocol::event::{Event, EventKind};

/// A campaign of its own raises it.
fn cuts() -> u64 {
    std::env::var("KENNEL_TEST_CUTS").ok().and_then(|text| text.parse().ok()).unwrap_or(12)
}

#[test]
fn cuts_lose_and_double_neither_prompts_nor_events() {
    let far = Far::new();
    far.ok(&["start"]);
    let mut follower = far.command(&["--json", "events", "-f", "--after", "0"]).spawn().unwrap();
    let seen = BufReader::new(follower.stdout.take().unwrap());
    let (tell, told) = mpsc::channel::<Event>();
    let reader = std::thread::spawn(move || {
        for line in seen.lines().map_while(Result::ok) {
            let _ = tell.send(serde_json::from_str(&line).unwrap());
        }
    });
    let first = told.recv().unwrap();
    let mut rng = Rng::new(16);
    let mut prompts = 0;
    for cut in 0..cuts() {
        // Each prompt leaves a line, so that one that ran twice is seen.
        let words = format!("echo {cut} >> ran");
        let send = far.command(&["send", "session-1", &words]).spawn().unwrap();
        prompts += 1;
        std::thread::park_timeout(std::time::Duration::from_millis(rng.below(250)));
        far.cut();
        if rng.below(4) == 0 {
            far.set_down(true);
            std::thread::park_timeout(std::time::Duration::from_millis(rng.below(100)));
            far.set_down(false);
        }
        let output = finish(send);
        // A command that was cut before it had ever reached the machine fails and has done nothing; all others go on.
        match output.code {
            Some(0) => {}
            Some(6) => prompts -= 1,
            _ => panic!("{output:#?}"),
        }
    }
    let ran = std::fs::read_to_string(far.home().join("ran")).unwrap_or_default();
    let distinct: BTreeSet<&str> = ran.lines().collect();
    assert_eq!((distinct.len(), ran.lines().count()), (prompts, prompts), "lost or doubled: {ran}");
    let all = far.daemon.events();
    let last = all.last().unwrap().id;
    let mut expected = all.iter();
    assert_eq!(expected.next().map(|next| next.id), Some(first.id));
    until("the last event at the follower", || {
        while let Ok(event) = told.try_recv() {
            let next = expected.next().map(|next| next.id);
            assert_eq!(Some(event.id), next, "an event was lost or doubled");
            if event.id == last {
                return Some(());
            }
        }
        None
    });
    let ends = all.iter().filter(|event| matches!(event.kind, EventKind::TurnCompleted { .. })).count();
    assert_eq!(ends, prompts);
    signal(follower.id(), nix::sys::signal::Signal::SIGTERM);
    follower.wait().unwrap();
    reader.join().unwrap();
}

#[test]
fn each_line_that_is_typed_is_a_prompt_once_however_often_the_connection_is_cut() {
    let far = Far::new();
    far.ok(&["start"]);
    let mut attach = far.command(&["attach", "session-1"]).stdin(Stdio::piped()).spawn().unwrap();
    until("the person at the daemon", || {
        let events = far.daemon.events();
        events.iter().any(|event| matches!(event.kind, EventKind::ClientAttached { .. })).then_some(())
    });
    let mut typed = attach.stdin.take().unwrap();
    let mut rng = Rng::new(17);
    for line in 0..cuts() {
        writeln!(typed, "echo {line} >> ran").unwrap();
        std::thread::park_timeout(std::time::Duration::from_millis(rng.below(200)));
        far.cut();
    }
    drop(typed);
    let output = finish_within(attach, BOUND * 2);
    assert_eq!(output.code, Some(0), "{output:#?}");
    let ran = std::fs::read_to_string(far.home().join("ran")).unwrap_or_default();
    let all: String = (0..cuts()).map(|line| format!("{line}\n")).collect();
    assert_eq!(ran, all, "{output:#?}");
}

#[test]
fn a_lost_connection_is_one_line_and_so_is_its_return() {
    let far = Far::new();
    far.ok(&["start"]);
    let mut follower = far.command(&["--json", "events", "-f", "--after", "0"]).spawn().unwrap();
    let mut said = BufReader::new(follower.stderr.take().unwrap()).lines().map_while(Result::ok);
    let mut seen = BufReader::new(follower.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(seen.next().is_some());
    far.set_down(true);
    far.cut();
    let line = said.next().unwrap();
    assert!(
        line.starts_with("connection to ssh://box/") && line.ends_with("reconnecting, Ctrl-C ends it"),
        "{line}"
    );
    far.set_down(false);
    let line = said.next().unwrap();
    assert!(line.starts_with("connected to ssh://box/") && line.ends_with(" again"), "{line}");
    far.daemon.ok(&["send", "session-1", "echo two"]);
    assert!(seen.any(|line| line.contains("echo two")));
    signal(follower.id(), nix::sys::signal::Signal::SIGTERM);
    follower.wait().unwrap();
}

#[test]
fn a_daemon_that_is_replaced_ends_no_connection() {
    let far = Far::new();
    far.ok(&["start"]);
    let mut follower = far.command(&["--json", "events", "-f", "--after", "0"]).spawn().unwrap();
    let mut seen = BufReader::new(follower.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(seen.any(|line| line.contains("session.ready")));
    let starts = far.starts().len();
    far.daemon.kill();
    far.daemon.ok(&["send", "session-1", "echo after"]);
    assert!(seen.any(|line| line.contains("echo after")));
    far.daemon.ok(&["daemon", "restart"]);
    far.daemon.ok(&["send", "session-1", "echo again"]);
    assert!(seen.any(|line| line.contains("echo again")));
    assert_eq!(far.starts().len(), starts, "one connection carries it all");
    signal(follower.id(), nix::sys::signal::Signal::SIGTERM);
    follower.wait().unwrap();
}

#[test]
fn a_wait_goes_on_after_a_cut() {
    let far = Far::new();
    far.ok(&["start"]);
    far.daemon.ok(&["send", "session-1", "--no-wait", "while ! [ -e go ]; do sleep 0.01; done"]);
    let wait = far.command(&["wait", "session-1", "--until", "idle"]).spawn().unwrap();
    until("the wait's connection", || (far.starts().len() > 1).then_some(()));
    // Of a command that was never connected nothing goes on.
    until("its relay", || {
        mentioning(far.home().to_str().unwrap()).iter().any(|pid| is_relay(*pid)).then_some(())
    });
    std::thread::park_timeout(std::time::Duration::from_millis(300));
    far.cut();
    std::fs::write(far.home().join("go"), "").unwrap();
    let output = finish(wait);
    assert_eq!(output.code, Some(0), "{output:#?}");
}

#[test]
fn a_connection_that_carries_nothing_any_more_is_made_anew() {
    let far = Far::new();
    far.ok(&["start"]);
    far.daemon.ok(&["send", "session-1", "--no-wait", "while ! [ -e go ]; do sleep 0.01; done"]);
    let wait = far.command(&["wait", "session-1", "--until", "idle"]).spawn().unwrap();
    let stopped = until("the wait's connection", || far.starts().get(1).copied());
    until("the wait at the daemon", || {
        let relays = mentioning(far.home().to_str().unwrap()).into_iter().filter(|pid| is_relay(*pid));
        (relays.count() > 0).then_some(())
    });
    std::thread::park_timeout(std::time::Duration::from_millis(300));
    signal(stopped, nix::sys::signal::Signal::SIGSTOP);
    std::fs::write(far.home().join("go"), "").unwrap();
    let output = finish_within(wait, BOUND * 4);
    assert_eq!(output.code, Some(0), "{output:#?}");
    assert!(!lives(stopped), "the old connection is left");
}

fn is_relay(pid: u32) -> bool {
    std::fs::read(format!("/proc/{pid}/cmdline"))
        .is_ok_and(|line| line.split(|byte| *byte == 0).any(|word| word == b"connect-stdio"))
}

#[test]
fn nothing_is_left_of_a_client_that_is_killed() {
    let far = Far::new();
    far.ok(&["start"]);
    let mut follower = far.command(&["--json", "events", "-f", "--after", "0"]).spawn().unwrap();
    let mut seen = BufReader::new(follower.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(seen.next().is_some());
    kill(follower.id());
    follower.wait().unwrap();
    until("the end of its connection", || far.starts().iter().all(|pid| !lives(*pid)).then_some(()));
}
