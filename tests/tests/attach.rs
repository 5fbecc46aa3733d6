//! `kennel attach`, and clients that drive or read, on the shipped binaries.

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
    let mut beside = Person::new(&daemon, &["s"]);
    let received = beside.sees("is driven by kennel attach ");
    assert!(received.contains("you look on") && received.contains("--takeover"), "{received}");
    beside.types("echo from beside\n\x10\x11");
    assert_eq!(beside.leaves(), Some(7), "what was not sent is told to a program");
    until("it is gone", || (daemon.show("s").clients.len() == 1).then_some(()));
    let mut viewer = Person::new(&daemon, &["s", "--read-only"]);
    first.types("echo from the first\n");
    viewer.sees("from the first");
    viewer.types("echo from the viewer\n");
    viewer.sees("you look on");
    let mut second = Person::new(&daemon, &["s", "--takeover"]);
    first.sees("somebody else drives now");
    first.types("echo too late\n");
    first.sees("your line was not sent");
    second.types("echo from the second\n");
    first.sees("from the second");
    let roles: Vec<Role> = daemon.show("s").clients.iter().map(|client| client.role).collect();
    assert_eq!(roles.iter().filter(|role| **role == Role::Driver).count(), 1, "{roles:?}");
    let events = daemon.ok(&["events", "s"]);
    assert!(!events.contains("from the viewer") && !events.contains("from beside"), "{events}");
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
    first.sees("your line was not sent");
}

/// A daemon with a session `s` of an agent that asks.
fn asking() -> Daemon {
    let daemon = Daemon::with_acp("x");
    daemon.ok(&["start", "--id", "s", "--agent", "x"]);
    daemon
}

#[test]
fn a_permission_is_answered_in_place_by_the_number_of_an_option() {
    let daemon = asking();
    let mut person = Person::new(&daemon, &["s"]);
    person.types("tool t1 saw; ask t1\n");
    person.sees("the agent asks: may I t1?");
    person.sees("3) No");
    person.types("7\n");
    person.sees("no option 7 is there");
    person.types("2\n");
    person.sees("answered always");
}

#[test]
fn a_word_that_answers_is_neither_an_answer_nor_a_prompt_while_a_permission_waits() {
    let daemon = asking();
    let mut person = Person::new(&daemon, &["s"]);
    person.types("ask t1\n");
    person.sees("3) No");
    for word in ["yes", "No", "ALLOW", "deny"] {
        person.types(&format!("{word}\n"));
        let asked = person.sees(&format!("`{word}` was not sent: type a number to answer"));
        assert!(asked.contains("1 Yes") && asked.contains("3 No"), "{asked}");
    }
    assert_eq!(daemon.json::<Vec<serde_json::Value>>(&["permissions", "ls"]).len(), 1);
    assert_eq!(daemon.json::<Vec<serde_json::Value>>(&["queue", "ls", "s"]).len(), 1, "the turn that asks");
    // With a space before it, and as a part of more words, it is a prompt.
    person.types(" yes\nsay yes\n");
    let queue = until("two prompts wait", || {
        Some(daemon.json::<Vec<serde_json::Value>>(&["queue", "ls", "s"])).filter(|queue| queue.len() == 3)
    });
    assert_eq!((queue[1]["text"].as_str(), queue[2]["text"].as_str()), (Some("yes"), Some("say yes")));
    daemon.ok(&["queue", "rm", "s", queue[1]["prompt_id"].as_str().unwrap()]);
    person.types("1\n");
    person.sees("answered yes");
    person.sees("> say yes");
}

#[test]
fn of_two_permissions_each_is_answered_by_its_own_numbers_whichever_is_older() {
    let daemon = asking();
    let mut person = Person::new(&daemon, &["s"]);
    person.types("ask-both one two\n");
    person.sees("the agent asks: may I one?");
    person.sees("3) No");
    person.sees("the agent asks: may I two?");
    person.sees("4) Yes");
    person.sees("6) No");
    person.types("4\n");
    person.sees(": yes");
    // Of one that is settled nothing is left to be hit by mistake.
    person.types("4\n");
    person.sees("no option 4 waits any more");
    person.types("3\n");
    person.sees("two yes, one no");
    person.types("3\n");
    person.sees("no option 3 waits any more");
    person.types("ask three\n");
    person.sees("1) Yes");
    person.types("1\n");
    person.sees("answered yes");
}

#[test]
fn what_waits_is_shown_to_whoever_comes_later_also_without_the_history() {
    let daemon = asking();
    let mut first = Person::new(&daemon, &["s"]);
    first.types("ask t1; elicit who are you?\n");
    first.sees("3) No");
    first.types("\x10\x11");
    assert_eq!(first.leaves(), Some(0));
    let mut second = Person::new(&daemon, &["s", "--no-history"]);
    second.sees("the agent asks: may I t1?");
    second.sees("3) No");
    second.types("3\n");
    second.sees("the agent asks: who are you?");
    second.types("\x10\x11");
    assert_eq!(second.leaves(), Some(0));
    let mut third = Person::new(&daemon, &["s", "--no-history"]);
    third.sees("the agent asks: who are you?");
    third.types("the third\n");
    third.sees("accept the third");
}

#[test]
fn a_form_is_filled_in_field_by_field_and_those_who_look_on_see_that_one_is_asked() {
    let daemon = asking();
    let mut person = Person::new(&daemon, &["s"]);
    until("it drives", || (daemon.show("s").clients.len() == 1).then_some(()));
    let mut viewer = Person::new(&daemon, &["s", "--read-only"]);
    until("it looks on", || (daemon.show("s").clients.len() == 2).then_some(()));
    person.types("survey how are you?\n");
    person.sees("the agent asks: how are you?");
    person.sees("colour: one of 1) Red 2) Green");
    person.sees("Your name:");
    viewer.sees("the agent asks: how are you?; it is for the one who drives");
    viewer.types("me\n");
    viewer.sees("you look on");
    person.types("Änne\n");
    person.sees("count:");
    person.types("many\n");
    person.sees("not a whole number");
    person.types("3\n");
    person.sees("sure");
    person.types("\n");
    person.sees("colour");
    person.types("2\n");
    person.sees(r#"{"action":"accept","content":{"name":"Änne","count":3,"colour":"g"}}"#);
    person.types("survey and now?; survey and then?\n");
    person.sees("the agent asks: and now?");
    person.types("/decline\n");
    person.sees("the agent asks: and then?");
    person.types("Änne\n");
    person.sees("count:");
    person.types("/cancel\n");
    person.sees(r#"{"action":"cancel"}"#);
    // The two outputs come as they come.
    assert!(person.seen.iter().any(|line| line.contains(r#"{"action":"decline"}"#)), "{:#?}", person.seen);
    // The answer is between the person and the agent, and the agent has repeated it.
    let events = daemon.ok(&["events", "s", "--json"]);
    assert!(!events.lines().any(|line| line.contains("Änne") && !line.contains("message.chunk")), "{events}");
}

#[test]
fn a_permission_waits_until_the_form_is_done_and_is_shown_then() {
    let daemon = asking();
    let mut person = Person::new(&daemon, &["s"]);
    // The client's first look is complete by then.
    person.types("say here\n");
    person.sees("> say here");
    person.types("both t1 who are you?\n");
    person.sees("the agent asks: who are you?");
    person.sees("waits until the form is done");
    // A number is an answer to the form, and allows nothing.
    person.types("1\n");
    person.sees("1) Yes");
    person.types("3\n");
    person.sees("accept 1, answered no");
}

#[test]
fn without_an_id_and_with_a_directory_it_is_the_directorys_session() {
    let daemon = Daemon::new();
    let below = daemon.dir.path().join("below");
    std::fs::create_dir(&below).unwrap();
    let mut here = Person::new(&daemon, &[]);
    here.types("pwd\n");
    here.sees(&format!("{}", daemon.dir.path().display()));
    let mut there = Person::new(&daemon, &["below"]);
    there.types("pwd\n");
    there.sees(&format!("{}", below.display()));
    let id = daemon.ok(&["id"]);
    assert_eq!(daemon.show(id.trim()).clients.len(), 1);
}

/// Runs `attach` with this on its standard input, to its end.
fn piped(daemon: &Daemon, args: &[&str], input: &str) -> harness::daemon::CommandOutput {
    let mut child = daemon.command(&[&["attach"], args].concat()).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    harness::daemon::finish(child)
}

#[test]
fn the_end_of_a_pipe_detaches_once_all_that_it_asked_for_was_shown() {
    let daemon = Daemon::new();
    daemon.ok(&["start", "--id", "s"]);
    let printed = piped(&daemon, &["s"], "sleep 0.3; echo one\nsleep 0.3; echo two\necho no newline");
    assert_eq!(printed.code, Some(0), "{printed:?}");
    for shown in ["> sleep 0.3; echo one\none\n", "two\n", "\nno newline\n"] {
        assert!(printed.stdout.contains(shown), "{shown}: {printed:?}");
    }
    assert!(printed.stderr.contains("detached; s goes on"), "{printed:?}");
    // Without any input: the conversation so far, and what runs.
    daemon.ok(&["send", "--no-wait", "s", "sleep 0.5; echo three"]);
    let printed = daemon.run(&["attach", "s"]);
    assert_eq!(printed.code, Some(0), "{printed:?}");
    assert!(printed.stdout.contains("one\n") && printed.stdout.ends_with("three\n"), "{printed:?}");
    let printed = daemon.run(&["attach", "--read-only", "--no-history", "s"]);
    assert_eq!((printed.code, &*printed.stdout), (Some(0), ""), "{printed:?}");
    let long = "x".repeat(1024 * 1024 + 1);
    let printed = piped(&daemon, &["s", "--no-history"], &format!("{long}\necho short\n"));
    assert_eq!(printed.code, Some(2), "{:?}", printed.stderr);
    assert!(printed.stderr.contains("it was not sent") && printed.stdout.ends_with("short\n"), "{printed:?}");
}

#[test]
fn a_session_that_does_not_go_on_is_not_said_to() {
    let daemon = Daemon::new();
    daemon.ok(&["start", "--id", "s"]);
    daemon.ok(&["send", "s", "echo before"]);
    daemon.ok(&["stop", "s"]);
    let printed = daemon.run(&["attach", "s"]);
    assert!(printed.stdout.contains("before"), "{printed:?}");
    assert!(printed.stderr.contains("detached; s is stopped"), "{printed:?}");
    assert!(
        printed.stderr.contains("kennel restart s") && !printed.stderr.contains("goes on"),
        "{printed:?}"
    );
    let printed = piped(&daemon, &["s"], "echo refused\n");
    assert_eq!(printed.code, Some(7), "{printed:?}");
    let failing = "[agents.gone]\nkind = \"acp\"\ncommand = [\"/bin/false\"]\n";
    std::fs::create_dir_all(daemon.dir.path().join("kennel")).unwrap();
    std::fs::write(daemon.dir.path().join("kennel/config.toml"), failing).unwrap();
    daemon.ok(&["start", "--id", "f", "--agent", "gone"]);
    daemon.ok(&["wait", "f", "--until", "failed", "--timeout", "30s"]);
    let printed = daemon.run(&["attach", "f"]);
    assert!(printed.stderr.contains("detached; f has failed"), "{printed:?}");
}

#[test]
fn a_permission_that_waits_is_shown_once_and_offered_to_the_one_who_drives() {
    let daemon = asking();
    daemon.ok(&["send", "--no-wait", "s", "ask t1"]);
    until("it asks", || (daemon.show("s").status == Status::RequiresAction).then_some(()));
    let mut first = Person::new(&daemon, &["s"]);
    first.sees("3) No");
    let mut viewer = Person::new(&daemon, &["s"]);
    viewer.sees("you look on");
    let received = viewer.sees("may I t1?");
    assert!(received.contains("it is for the one who drives"), "{received}");
    viewer.types("1\n");
    viewer.sees("your line was not sent");
    daemon.kill();
    first.sees("the daemon went away");
    until("it is back", || (daemon.show("s").clients.len() == 2).then_some(()));
    first.types("2\n");
    first.sees("answered always");
    viewer.sees("answered always");
    for person in [&first, &viewer] {
        let asked = person.seen.iter().filter(|line| line.contains("asks: may I t1?")).count();
        assert_eq!(asked, 1, "{:#?}", person.seen);
    }
    assert!(!viewer.seen.iter().any(|line| line.contains("1) ")), "{:#?}", viewer.seen);
    // An answered question is part of the past, and waits no longer.
    let printed = daemon.run(&["attach", "s"]);
    assert!(printed.stderr.contains("the agent asked: may I t1?: always"), "{printed:?}");
    // At the end of the pipe no client can type a number.
    let mut pipe = Person::new(&daemon, &["s", "--takeover", "--no-history"]);
    pipe.types("ask t2\n");
    drop(pipe.child.stdin.take());
    let received = pipe.sees("kennel permissions allow ");
    let id = received.split("allow ").nth(1).unwrap().split('`').next().unwrap();
    daemon.ok(&["permissions", "allow", id]);
    pipe.sees("answered yes");
    assert_eq!(pipe.leaves(), Some(0));
}

#[test]
fn whoever_drives_has_a_name_also_without_a_user() {
    let daemon = Daemon::new();
    daemon.ok(&["start", "--id", "s"]);
    let mut command = daemon.command(&["attach", "s"]);
    let mut child = command.env_remove("USER").env("LOGNAME", "\n").stdin(Stdio::piped()).spawn().unwrap();
    let clients = until("it drives", || Some(daemon.show("s").clients).filter(|them| them.len() == 1));
    assert!(clients[0].name.starts_with("kennel attach of uid "), "{clients:?}");
    drop(child.stdin.take());
    harness::daemon::finish(child);
}

#[test]
fn abort_names_the_prompt_and_spares_the_next() {
    let daemon = Daemon::new();
    daemon.ok(&["start", "--id", "s"]);
    daemon.ok(&["send", "s", "echo over"]);
    let over = daemon.events().into_iter().find_map(|event| match event.kind {
        protocol::event::EventKind::PromptStarted { prompt_id } => Some(prompt_id.to_string()),
        _ => None,
    });
    daemon.ok(&["send", "--no-wait", "s", "echo next; exec sleep 1000"]);
    until("it runs", || (daemon.show("s").status == Status::Running).then_some(()));
    let printed = daemon.run(&["abort", "s", &over.unwrap()]);
    assert_eq!(printed.code, Some(7), "{printed:?}");
    let running = daemon.show("s").running_prompt.unwrap().to_string();
    assert_eq!(daemon.ok(&["abort", "s", &running]).trim(), running);
    assert_eq!(daemon.run(&["abort", "s", "seventeen"]).code, Some(2));
}
