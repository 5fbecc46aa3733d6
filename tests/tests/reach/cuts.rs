//! Connections that are lost.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Lines, Write};
use std::iter::MapWhile;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;

use harness::daemon::{Daemon, finish, finish_within};
use harness::door::{Door, Mood};
use harness::far::Far;
use harness::real::*;
use harness::rng::Rng;
use harness::talker::{Printing, Talker, lines};
use manager::protocol::event::{Event, EventKind};

/// A campaign of its own raises it.
fn cuts() -> u64 {
    std::env::var("KENNEL_TEST_CUTS").ok().and_then(|text| text.parse().ok()).unwrap_or(12)
}

/// Another machine, by whichever way.
trait Reach {
    fn daemon(&self) -> &Daemon;
    fn home(&self) -> PathBuf;
    fn command(&self, args: &[&str]) -> Command;
    fn cut(&self);
    fn set_down(&self, down: bool);
    /// The first words of what is said about it.
    fn named(&self) -> &'static str;
}

impl Reach for Far {
    fn daemon(&self) -> &Daemon {
        &self.daemon
    }

    fn home(&self) -> PathBuf {
        self.home()
    }

    fn command(&self, args: &[&str]) -> Command {
        self.command(args)
    }

    fn cut(&self) {
        self.cut();
    }

    fn set_down(&self, down: bool) {
        self.set_down(down);
    }

    fn named(&self) -> &'static str {
        "ssh://box/"
    }
}

impl Reach for Door {
    fn daemon(&self) -> &Daemon {
        &self.daemon
    }

    fn home(&self) -> PathBuf {
        self.home()
    }

    fn command(&self, args: &[&str]) -> Command {
        self.command(args)
    }

    fn cut(&self) {
        self.cut();
    }

    fn set_down(&self, down: bool) {
        self.be(if down { Mood::Closed } else { Mood::Open });
    }

    fn named(&self) -> &'static str {
        "box"
    }
}

type Read = MapWhile<Lines<BufReader<ChildStdout>>, fn(std::io::Result<String>) -> Option<String>>;

/// `kennel events -f` from the first event on.
struct Follower {
    child: Child,
    seen: Read,
}

impl Follower {
    /// Returns once it has the first event.
    fn new(reach: &impl Reach) -> (Self, String) {
        let mut child = reach.command(&["--json", "events", "-f", "--after", "0"]).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut seen = lines.map_while(Result::ok as fn(std::io::Result<String>) -> Option<String>);
        let first = seen.next().unwrap();
        (Self { child, seen }, first)
    }

    /// Waits for an event with this text.
    fn sees(&mut self, text: &str) -> bool {
        self.seen.any(|line| line.contains(text))
    }

    fn end(mut self) {
        signal(self.child.id(), nix::sys::signal::Signal::SIGTERM);
        self.child.wait().unwrap();
    }
}

/// Ends the connections while prompts are sent and events are followed, and fails if any of either is lost or doubled.
fn cut_prompts_and_events(reach: &impl Reach) {
    let daemon = reach.daemon();
    assert_eq!(finish(reach.command(&["start"]).spawn().unwrap()).code, Some(0));
    let (Follower { child, seen }, first) = Follower::new(reach);
    let first: Event = serde_json::from_str(&first).unwrap();
    let (tell, told) = mpsc::channel::<Event>();
    let reader = std::thread::spawn(move || {
        for line in seen {
            let _ = tell.send(serde_json::from_str(&line).unwrap());
        }
    });
    let mut rng = Rng::new(16);
    let mut prompts = 0;
    for cut in 0..cuts() {
        // Each prompt leaves a line, so that one that ran twice is seen.
        let words = format!("echo {cut} >> ran");
        let send = reach.command(&["send", "session-1", &words]).spawn().unwrap();
        prompts += 1;
        std::thread::park_timeout(std::time::Duration::from_millis(rng.below(250)));
        reach.cut();
        if rng.below(4) == 0 {
            reach.set_down(true);
            std::thread::park_timeout(std::time::Duration::from_millis(rng.below(100)));
            reach.set_down(false);
        }
        let output = finish(send);
        // A command that was cut before it had ever reached the machine fails and has done nothing; all others go on.
        match output.code {
            Some(0) => {}
            Some(6) => prompts -= 1,
            _ => panic!("{output:#?}"),
        }
    }
    let ran = std::fs::read_to_string(reach.home().join("ran")).unwrap_or_default();
    let distinct: BTreeSet<&str> = ran.lines().collect();
    assert_eq!((distinct.len(), ran.lines().count()), (prompts, prompts), "lost or doubled: {ran}");
    let all = daemon.events();
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
    let mut child = child;
    signal(child.id(), nix::sys::signal::Signal::SIGTERM);
    child.wait().unwrap();
    reader.join().unwrap();
}

#[test]
fn cuts_lose_and_double_neither_prompts_nor_events() {
    cut_prompts_and_events(&Far::new());
}

#[test]
fn cuts_of_tls_lose_and_double_neither_prompts_nor_events() {
    cut_prompts_and_events(&Door::paired());
}

/// Ends the connections while a log is followed, and fails if any of it is lost or doubled.
fn cut_log(reach: &impl Reach) {
    let talker = Talker::start(reach.daemon());
    talker.say_all("begin\n");
    let mut said = "begin\n".to_owned();
    let followed = Printing::new(reach.command(&["logs", "talker", "-f", "-n", "1"]));
    followed.prints("the first line", &said);
    let mut rng = Rng::new(18);
    for cut in 0..cuts() as usize {
        let more = lines(cut * 2000, 2000);
        talker.say(&more);
        said += &more;
        std::thread::park_timeout(std::time::Duration::from_millis(rng.below(100)));
        reach.cut();
        if rng.below(4) == 0 {
            reach.set_down(true);
            std::thread::park_timeout(std::time::Duration::from_millis(rng.below(100)));
            reach.set_down(false);
        }
    }
    followed.prints("all lines", &said);
    assert!(!followed.said().contains("gone"), "{}", followed.said());
}

#[test]
fn cuts_lose_and_double_nothing_of_a_log_that_is_followed() {
    cut_log(&Far::new());
}

#[test]
fn cuts_of_tls_lose_and_double_nothing_of_a_log_that_is_followed() {
    cut_log(&Door::paired());
}

/// Ends the connections while lines are typed, and fails if a line is not a prompt exactly once.
fn cut_typed_lines(reach: &impl Reach) {
    assert_eq!(finish(reach.command(&["start"]).spawn().unwrap()).code, Some(0));
    let mut attach = reach.command(&["attach", "session-1"]).stdin(Stdio::piped()).spawn().unwrap();
    until("the person at the daemon", || {
        let events = reach.daemon().events();
        events.iter().any(|event| matches!(event.kind, EventKind::ClientAttached { .. })).then_some(())
    });
    let mut typed = attach.stdin.take().unwrap();
    let mut rng = Rng::new(17);
    let ran = || std::fs::read_to_string(reach.home().join("ran")).unwrap_or_default();
    for line in 0..cuts() {
        writeln!(typed, "echo {line} >> ran").unwrap();
        std::thread::park_timeout(std::time::Duration::from_millis(rng.below(200)));
        reach.cut();
        // The queue takes a hundred: whoever types faster than turns end is refused.
        until("the turns of what was typed", || {
            (line - (ran().lines().count() as u64).min(line) < AHEAD).then_some(())
        });
    }
    drop(typed);
    let output = finish_within(attach, BOUND * 2);
    assert_eq!(output.code, Some(0), "{output:#?}");
    let all: String = (0..cuts()).map(|line| format!("{line}\n")).collect();
    assert_eq!(ran(), all, "{output:#?}");
    // Who drove before a cut is history by the time it is shown.
    assert!(!output.stderr.contains("nobody drives now"), "{output:#?}");
}

/// Lines that are typed before the turns of the earlier ones have ended.
const AHEAD: u64 = 20;

#[test]
fn each_line_that_is_typed_is_a_prompt_once_however_often_the_connection_is_cut() {
    cut_typed_lines(&Far::new());
}

#[test]
fn each_line_that_is_typed_is_a_prompt_once_however_often_tls_is_cut() {
    cut_typed_lines(&Door::paired());
}

fn lose_and_find(reach: &impl Reach) {
    assert_eq!(finish(reach.command(&["start"]).spawn().unwrap()).code, Some(0));
    let (mut follower, _) = Follower::new(reach);
    let mut said = BufReader::new(follower.child.stderr.take().unwrap()).lines().map_while(Result::ok);
    reach.set_down(true);
    reach.cut();
    let line = said.next().unwrap();
    let named = reach.named();
    assert!(
        line.starts_with(&format!("connection to {named}")) && line.ends_with("reconnecting, Ctrl-C ends it"),
        "{line}"
    );
    reach.set_down(false);
    let line = said.next().unwrap();
    assert!(line.starts_with(&format!("connected to {named}")) && line.ends_with(" again"), "{line}");
    reach.daemon().ok(&["send", "session-1", "echo two"]);
    assert!(follower.sees("echo two"));
    follower.end();
}

#[test]
fn a_lost_connection_is_one_line_and_so_is_its_return() {
    lose_and_find(&Far::new());
}

#[test]
fn a_lost_connection_by_tls_is_one_line_and_so_is_its_return() {
    lose_and_find(&Door::paired());
}

#[test]
fn a_daemon_that_is_replaced_ends_no_connection() {
    let far = Far::new();
    far.ok(&["start"]);
    let (mut follower, _) = Follower::new(&far);
    assert!(follower.sees("session.ready"));
    let starts = far.starts().len();
    far.daemon.kill();
    far.daemon.ok(&["send", "session-1", "echo after"]);
    assert!(follower.sees("echo after"));
    far.daemon.ok(&["daemon", "restart"]);
    far.daemon.ok(&["send", "session-1", "echo again"]);
    assert!(follower.sees("echo again"));
    assert_eq!(far.starts().len(), starts, "one connection carries it all");
    follower.end();
}

#[test]
fn a_wait_goes_on_after_a_cut() {
    let far = Far::new();
    far.ok(&["start"]);
    far.daemon.ok(&["send", "--no-wait", "session-1", "while ! [ -e go ]; do sleep 0.01; done"]);
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
    far.daemon.ok(&["send", "--no-wait", "session-1", "while ! [ -e go ]; do sleep 0.01; done"]);
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
    let (mut follower, _) = Follower::new(&far);
    kill(follower.child.id());
    follower.child.wait().unwrap();
    until("the end of its connection", || far.starts().iter().all(|pid| !lives(*pid)).then_some(()));
}

#[test]
fn a_shared_connection_of_ssh_that_hangs_does_not_keep_a_client_from_connecting_again() {
    let far = Far::new();
    far.ok(&["start"]);
    let (mut follower, _) = Follower::new(&far);
    // From here on whatever may join a shared connection hangs.
    let kept = far.kept();
    far.replace(&format!("case \"$*\" in *ControlPath=none*) . {} ;; esac\nexec sleep 1000", kept.display()));
    far.cut();
    far.daemon.ok(&["send", "session-1", "echo two"]);
    assert!(follower.sees("echo two"));
    follower.end();
}

#[test]
fn a_server_that_breaks_off_each_stream_is_asked_ever_more_slowly() {
    let door = Door::paired();
    door.ok(&["start"]);
    door.be_stingy(true);
    let (mut follower, _) = Follower::new(&door);
    until("some streams", || (door.streams() > 3).then_some(()));
    std::thread::park_timeout(std::time::Duration::from_millis(500));
    // Without a pause there would be hundreds.
    assert!(door.streams() < 7, "{}", door.streams());
    door.be_stingy(false);
    door.daemon.ok(&["send", "session-1", "echo two"]);
    assert!(follower.sees("echo two"));
    follower.end();
}
