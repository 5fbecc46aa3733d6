//! `kennel attach`, and clients that drive or look on, on the shipped binaries.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};

use harness::daemon::Daemon;
use harness::real::*;
use protocol::api::{Role, Status};

/// An attached person.
struct Person {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Person {
    fn new(daemon: &Daemon, args: &[&str]) -> Self {
        let mut command = daemon.command(&[&["attach"], args].concat());
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = channel();
        let outputs: [Box<dyn std::io::Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for output in outputs {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    let _ = sender.send(line);
                }
            });
        }
        Self { child, lines, seen: Vec::new() }
    }

    fn types(&mut self, line: &str) {
        self.child.stdin.as_mut().unwrap().write_all(line.as_bytes()).unwrap();
    }

    /// Waits for a line with this in it, and gives it.
    fn sees(&mut self, words: &str) -> String {
        while let Ok(line) = self.lines.recv_timeout(BOUND) {
            self.seen.push(line.clone());
            if line.contains(words) {
                return line;
            }
        }
        panic!("not seen: {words}\n{:#?}", self.seen)
    }

    fn leaves(&mut self) -> Option<i32> {
        until("it left", || self.child.try_wait().unwrap()).code()
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_person_sees_what_was_said_types_prompts_and_detaches_without_stopping_anything() {
    let daemon = Daemon::new();
    daemon.ok(&["start", "--id", "s"]);
    daemon.ok(&["send", "s", "echo before"]);
    let mut person = Person::new(&daemon, &["s"]);
    person.sees("> echo before");
    person.sees("before");
    person.types("echo typed; sleep 0.2\n");
    person.sees("typed");
    person.types("echo queued meanwhile\n");
    person.sees("queued meanwhile");
    person.types("exec sleep 1000\n");
    person.sees("> exec sleep 1000");
    until("it runs", || (daemon.show("s").status == Status::Running).then_some(()));
    person.types("half a line\x10\x11");
    assert_eq!(person.leaves(), Some(0));
    let info = until("nobody is attached", || Some(daemon.show("s")).filter(|info| info.clients.is_empty()));
    assert_eq!(info.status, Status::Running);
}

#[test]
fn one_drives_others_look_on_and_a_takeover_changes_that() {
    let daemon = Daemon::new();
    daemon.ok(&["start", "--id", "s"]);
    let mut first = Person::new(&daemon, &["s"]);
    until("it drives", || (daemon.show("s").clients.len() == 1).then_some(()));
    let refused = daemon.run(&["attach", "s"]);
    assert_eq!(refused.code, Some(7), "{refused:?}");
    assert!(refused.stderr.contains("--takeover"), "{refused:?}");
    let mut viewer = Person::new(&daemon, &["s", "--read-only"]);
    first.types("echo from the first\n");
    viewer.sees("from the first");
    viewer.types("echo from the viewer\n");
    viewer.sees("you look on");
    let mut second = Person::new(&daemon, &["s", "--takeover"]);
    first.sees("somebody else drives now");
    first.types("echo too late\n");
    first.sees("do not drive");
    second.types("echo from the second\n");
    first.sees("from the second");
    let roles: Vec<Role> = daemon.show("s").clients.iter().map(|client| client.role).collect();
    assert_eq!(roles.iter().filter(|role| **role == Role::Driver).count(), 1, "{roles:?}");
    assert!(!daemon.ok(&["events", "s"]).contains("from the viewer"));
    drop(second);
    until("it is gone", || (daemon.show("s").clients.len() == 2).then_some(()));
}

#[test]
fn kill_daemon_while_somebody_is_attached_and_the_next_goes_on_where_it_was() {
    let daemon = Daemon::new();
    daemon.ok(&["start", "--id", "s"]);
    let mut person = Person::new(&daemon, &["s"]);
    person.types("echo one\n");
    person.sees("one");
    daemon.kill();
    person.sees("the daemon went away");
    until("it drives again", || (daemon.show("s").clients.len() == 1).then_some(()));
    person.types("echo two\n");
    person.sees("two");
    assert_eq!(
        person.seen.iter().filter(|line| line.contains("> echo one")).count(),
        1,
        "{:#?}",
        person.seen
    );
}

#[test]
fn whoever_was_displaced_looks_on_also_under_the_next_daemon() {
    let daemon = Daemon::new();
    daemon.ok(&["start", "--id", "s"]);
    let mut first = Person::new(&daemon, &["s"]);
    first.types("echo from the first\n");
    first.sees("from the first");
    let mut second = Person::new(&daemon, &["s", "--takeover"]);
    first.sees("somebody else drives now");
    second.types("echo from the second\n");
    second.sees("from the second");
    daemon.kill();
    first.sees("the daemon went away");
    second.sees("the daemon went away");
    until("both are back", || (daemon.show("s").clients.len() == 2).then_some(()));
    second.types("echo still the second\n");
    first.sees("still the second");
    first.types("echo too late\n");
    first.sees("you look on");
}

#[test]
fn a_permission_is_answered_in_place_by_the_number_of_an_option() {
    let daemon = Daemon::new();
    let config = daemon.dir.path().join("kennel");
    std::fs::create_dir_all(&config).unwrap();
    let agent = format!("[agents.x]\nkind = \"acp\"\ncommand = [\"{}\"]\n", beside("acp-agent").display());
    std::fs::write(config.join("config.toml"), agent).unwrap();
    daemon.ok(&["start", "--id", "s", "--agent", "x"]);
    let mut person = Person::new(&daemon, &["s"]);
    person.types("tool t1 saw; ask t1\n");
    person.sees("the agent asks: may I t1?");
    person.sees("3) No");
    person.types("7\n");
    person.sees("there is no option 7");
    person.types("2\n");
    person.sees("answered always");
}
