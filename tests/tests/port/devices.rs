//! Devices with keys of their own: how they pair, what they hear when something ends, and who drives.

use std::io::Write;
use std::process::{Child, Stdio};

use harness::daemon::{CommandOutput, Daemon, finish};
use harness::real::{lives, until};
use harness::talker::{Printing, Talker};
use manager::protocol::access::RefusedFor;
use manager::protocol::api::{KeyInfo, Role, Status};
use manager::protocol::event::EventKind;

use super::daemon;

/// Runs a command with this text on its standard input, which ends then.
pub fn typed(daemon: &Daemon, args: &[&str], text: &str) -> CommandOutput {
    let mut child = daemon.command(args).stdin(Stdio::piped()).spawn().unwrap();
    // It may refuse before it reads.
    let _ = child.stdin.take().unwrap().write_all(text.as_bytes());
    finish(child)
}

/// Pairs with what `kennel pair` prints, as a whole.
fn pair(daemon: &Daemon, name: &str) {
    let shown = daemon.ok(&["pair", "--no-wait", "--name", name]);
    let output = typed(daemon, &["host", "pair", name], &shown);
    assert_eq!(output.code, Some(0), "{output:#?}");
}

fn revoke(daemon: &Daemon, name: &str) {
    let keys: Vec<KeyInfo> = daemon.json(&["key", "ls"]);
    let key = keys.iter().find(|key| key.name == name).expect("the key").id.to_string();
    daemon.ok(&["key", "revoke", &key]);
}

/// An attached client that types what it is told.
fn attach(daemon: &Daemon, args: &[&str]) -> Child {
    daemon.command(args).stdin(Stdio::piped()).spawn().unwrap()
}

fn types(client: &mut Child, line: &str) {
    writeln!(client.stdin.as_mut().unwrap(), "{line}").unwrap();
}

/// The number of clients with this role.
fn count(daemon: &Daemon, role: Role) -> usize {
    daemon.show("s").clients.iter().filter(|client| client.role == role).count()
}

#[test]
fn a_device_whose_address_is_refused_hears_why_and_a_good_key_is_let_in() {
    let daemon = daemon("", "");
    pair(&daemon, "good");
    pair(&daemon, "bad");
    revoke(&daemon, "bad");
    for _ in 0..10 {
        assert_eq!(daemon.run(&["-H", "bad", "ls"]).code, Some(5));
    }
    let refused = daemon.run(&["-H", "bad", "ls"]);
    assert!(
        refused.code == Some(6)
            && refused.stderr.contains("hint: try again in ")
            && refused.stderr.contains(" s; "),
        "{refused:#?}"
    );
    let problem = daemon.run(&["--json", "-H", "bad", "ls"]).stderr;
    assert!(
        problem.contains("\"code\":\"too_many_failures\"") && problem.contains("\"status\":429"),
        "{problem}"
    );
    // Another connection of the same address.
    daemon.ok(&["-H", "good", "ls"]);
    assert_eq!(super::refused(&daemon, "key"), 10);
}

#[test]
fn a_pairing_says_what_it_ends_and_knows_its_sessions() {
    let daemon = daemon("", "");
    let begun = |args: &[&str]| daemon.run(&[&["pair", "--no-wait"], args].concat());
    let replaces = "another pairing was under way";
    let first = begun(&[]);
    assert!(first.code == Some(0) && !first.stderr.contains(replaces), "{first:#?}");
    for args in [
        &["pair", "--no-wait", "--session", "nosuch"][..],
        &["key", "create", "laptop", "--session", "nosuch"],
    ] {
        let wrong = daemon.run(args);
        assert!(wrong.code == Some(4) && wrong.stdout.is_empty(), "{wrong:#?}");
        assert!(wrong.stderr.contains("nosuch") && wrong.stderr.contains("no key was made"), "{wrong:#?}");
    }
    assert_eq!(daemon.json::<Vec<KeyInfo>>(&["key", "ls"]), []);
    let second = begun(&[]);
    assert!(second.code == Some(0) && second.stderr.contains(replaces), "{second:#?}");
    // The first ticket is good no more, the second is.
    assert_eq!(typed(&daemon, &["host", "pair", "one"], &first.stdout).code, Some(5));
    assert_eq!(typed(&daemon, &["host", "pair", "two"], &second.stdout).code, Some(0));
    // Nobody loses anything by a third one.
    assert!(!begun(&[]).stderr.contains(replaces));
    let wrong = typed(&daemon, &["host", "pair", "two"], "AAAA-BBBB-CCCC-DDDD");
    assert!(wrong.code == Some(5) && wrong.stderr.contains("key of before is kept"), "{wrong:#?}");
    daemon.ok(&["-H", "two", "ls"]);
    assert!(begun(&["--qr"]).stdout.contains('█'), "also where there is no terminal");
}

#[test]
fn a_prompt_that_was_accepted_before_its_key_ended_is_not_said_to_be_nothing() {
    let daemon = daemon("", "");
    pair(&daemon, "box");
    daemon.ok(&["-H", "box", "start", "--id", "s"]);
    let send = daemon.spawn(&["-H", "box", "send", "s", "sleep 1000"]);
    let mut attached = attach(&daemon, &["-H", "box", "attach", "s"]);
    until("the prompt runs", || (daemon.show("s").status == Status::Running).then_some(()));
    until("it is attached", || (count(&daemon, Role::Driver) == 1).then_some(()));
    types(&mut attached, "echo waits");
    until("its line waits", || (daemon.show("s").queue_length == 1).then_some(()));
    revoke(&daemon, "box");
    for (output, says) in
        [(finish(send), "was accepted, and runs"), (finish(attached), "what it has accepted")]
    {
        assert_eq!(output.code, Some(5), "{output:#?}");
        assert!(output.stderr.contains(says) && output.stderr.contains("tells what was done"), "{output:#?}");
        assert!(!output.stderr.contains("nothing was changed"), "{output:#?}");
    }
    assert_eq!(daemon.show("s").status, Status::Running);
}

#[test]
fn a_log_that_is_followed_ends_with_its_key() {
    let daemon = daemon("", "");
    pair(&daemon, "box");
    let talker = Talker::start(&daemon);
    let followed = Printing::new(daemon.command(&["-H", "box", "logs", "talker", "-f"]));
    talker.say("said\n");
    until("the line", || followed.text().contains("said\n").then_some(()));
    revoke(&daemon, "box");
    let output = followed.ends();
    assert!(output.code == Some(5) && output.stderr.contains("was revoked"), "{output:#?}");
}

#[test]
fn the_seat_of_a_client_that_was_killed_is_its_persons_and_others_hear_of_it() {
    let daemon = daemon("", "");
    pair(&daemon, "box");
    pair(&daemon, "other");
    daemon.ok(&["-H", "box", "start", "--id", "s"]);
    let mut first = attach(&daemon, &["-H", "box", "attach", "s"]);
    until("it drives", || (count(&daemon, Role::Driver) == 1).then_some(()));
    let pid = first.id();
    first.kill().unwrap();
    first.wait().unwrap();
    until("it is gone", || (!lives(pid) && daemon.show("s").clients.is_empty()).then_some(()));
    for stranger in [&["attach", "s"][..], &["-H", "other", "attach", "s"]] {
        let output = typed(&daemon, stranger, "echo theirs\n");
        assert_eq!(output.code, Some(7), "{output:#?}");
        for says in ["the seat is kept for ", "was not sent", "--takeover` drives now"] {
            assert!(output.stderr.contains(says), "{says}: {output:#?}");
        }
    }
    let output = typed(&daemon, &["-H", "box", "attach", "s"], "echo again\n");
    assert!(output.code == Some(0) && output.stdout.contains("> echo again"), "{output:#?}");
    assert!(!output.stdout.contains("theirs"), "{output:#?}");
}

#[test]
fn an_onlooker_that_asked_to_drive_drives_once_nobody_does() {
    let daemon = daemon("", "");
    pair(&daemon, "box");
    daemon.ok(&["start", "--id", "s"]);
    let mut driver = attach(&daemon, &["attach", "s"]);
    until("one drives", || (count(&daemon, Role::Driver) == 1).then_some(()));
    let mut onlooker = attach(&daemon, &["-H", "box", "attach", "s"]);
    until("the other looks on", || (count(&daemon, Role::Viewer) == 1).then_some(()));
    // Its input ends: it leaves in order, and its seat is free.
    drop(driver.stdin.take());
    assert_eq!(finish(driver).code, Some(0));
    until("nobody drives", || (count(&daemon, Role::Driver) == 0).then_some(()));
    types(&mut onlooker, "echo mine now");
    until("it drives", || (count(&daemon, Role::Driver) == 1).then_some(()));
    drop(onlooker.stdin.take());
    let output = finish(onlooker);
    assert!(output.code == Some(0) && output.stdout.contains("> echo mine now"), "{output:#?}");
    assert!(output.stderr.contains("what you type is sent once nobody drives"), "{output:#?}");
}

#[test]
fn a_device_that_asks_for_what_it_may_leaves_no_refusal_on_record() {
    let daemon = daemon("", "");
    daemon.ok(&["start", "--id", "s"]);
    daemon.ok(&["start", "--id", "other"]);
    // The least that a key can be.
    let shown = daemon.ok(&["pair", "--no-wait", "--name", "box", "--role", "viewer", "--session", "s"]);
    assert_eq!(typed(&daemon, &["host", "pair", "box"], &shown).code, Some(0));
    let address = format!("tls://{}", super::address(&daemon));
    for args in
        [&["ls"][..], &["show", "s"], &["events", "s"], &["logs", "s"], &["daemon", "status"], &["next"]]
    {
        for host in ["box", &address] {
            daemon.run(&[&["-H", host], args].concat());
        }
    }
    let mut onlooker = attach(&daemon, &["-H", "box", "attach", "s", "--read-only"]);
    until("it looks on", || (count(&daemon, Role::Viewer) == 1).then_some(()));
    drop(onlooker.stdin.take());
    finish(onlooker);
    let refused = daemon.run(&["-H", "box", "stop", "s"]);
    assert_eq!(refused.code, Some(5), "{refused:#?}");
    // The end of the daemon records what waits.
    daemon.ok(&["daemon", "restart"]);
    let of_access = daemon.events().into_iter().filter_map(|event| match event.kind {
        EventKind::AccessRefused(refused) => Some((refused.reason, refused.operation, refused.count)),
        _ => None,
    });
    let stop = (RefusedFor::Role, Some("POST /v1/sessions/{id}/stop".to_owned()), 1);
    assert_eq!(of_access.collect::<Vec<_>>(), [stop], "all the rest was permitted");
}
