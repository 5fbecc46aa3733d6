//! What is typed into a log-in: its end, its bounds, and a person who has had enough meanwhile.

use harness::daemon::Daemon;
use harness::real::*;
use nix::sys::signal::Signal;
use serde_json::json;

use super::{Running, ask, begin, configure, file, fixture, gone, mark, output, script, typed};

/// A daemon whose agent `asks` logs in by this script.
fn asking(text: &str) -> Daemon {
    let daemon = Daemon::new();
    let asks = script(&daemon, "asks.sh", text);
    configure(&daemon, &[("asks", &[&asks])]);
    daemon.ok(&["ls"]);
    daemon
}

#[test]
fn the_end_of_standard_input_is_the_end_for_the_program() {
    let daemon = asking("printf 'Code: '\nread -r code || exit 5\nexit 0\n");
    let output = typed(daemon.command(&["login", "asks"]), "");
    assert_eq!(output.code, Some(1), "{output:#?}");
    assert!(output.stderr.contains("ended with status 5"), "{output:#?}");
    gone(&daemon);
    // One that asks on and on is left.
    let daemon = asking("while :; do printf 'Code: '; read -r code; done\n");
    let output = typed(daemon.command(&["login", "asks"]), "once\n");
    assert_eq!(output.code, Some(1), "{output:#?}");
    assert!(output.stderr.contains("standard input has ended"), "{output:#?}");
    assert!(!output.stdout.contains("once"), "{output:#?}");
    gone(&daemon);
}

#[test]
fn what_is_typed_is_shown_by_no_terminal_and_lines_sent_again_appear() {
    let daemon = asking("printf 'Code: '\nread -r code\necho same\necho same\necho \"got ${#code}\"\n");
    let output = typed(daemon.command(&["login", "asks"]), "SECRET-7\n");
    assert_eq!(output.code, Some(0), "{output:#?}");
    assert_eq!(output.stdout, "Code: \nsame\nsame\ngot 8\n", "{output:#?}");
    gone(&daemon);
}

#[test]
fn a_line_that_a_terminal_would_cut_is_refused() {
    let daemon = asking("echo up\nread -r code\necho \"got ${#code}\"\n");
    let id = begin(&daemon, "asks");
    output(&daemon, &id, 0, "up");
    let input =
        |text: String| ask(&daemon, "POST", &format!("/v1/logins/{id}/input"), json!({ "text": text }));
    let (status, body) = input("x".repeat(4096) + "\r");
    assert_eq!((status, &body["code"]), (400, &json!("invalid_login_input")), "{body}");
    assert_eq!(input("x".repeat(4095) + "\r").0, 204);
    assert!(output(&daemon, &id, 0, "event: ended").contains("got 4095"));
    gone(&daemon);
}

#[test]
fn no_error_repeats_what_was_typed() {
    let daemon = asking("echo up\nread -r code\n");
    let id = begin(&daemon, "asks");
    for (what, body) in [
        ("input", json!({ "text": { "a": "SECRET" } })),
        ("input", json!("SECRET")),
        ("input", json!({ "text": "x", "number": "SECRET" })),
        ("input", json!({ "text": "x", "SECRET": 1 })),
        ("visit", json!({ "url": ["SECRET"] })),
        ("visit", json!({ "SECRET": "http://localhost:1/" })),
    ] {
        let (status, answer) = ask(&daemon, "POST", &format!("/v1/logins/{id}/{what}"), body.clone());
        assert_eq!((status, &answer["code"]), (400, &json!("invalid_body")), "{body}: {answer}");
        assert!(!answer.to_string().contains("SECRET"), "{answer}");
    }
    assert_eq!(ask(&daemon, "DELETE", &format!("/v1/logins/{id}"), json!(null)).0, 204);
    gone(&daemon);
}

#[test]
fn what_a_worker_has_not_taken_has_a_bound() {
    let daemon = asking("echo up\nread -r code\n");
    let id = begin(&daemon, "asks");
    output(&daemon, &id, 0, "up");
    let worker = super::hostile::worker(&daemon);
    signal(worker, Signal::SIGSTOP);
    let line = json!({ "text": "x".repeat(4000) + "\r" });
    let path = format!("/v1/logins/{id}/input");
    let refused =
        (0..200).map(|_| ask(&daemon, "POST", &path, line.clone())).find(|(status, _)| *status != 204);
    let (status, body) = refused.expect("it is refused");
    assert_eq!((status, &body["code"]), (409, &json!("login_busy")), "{body}");
    signal(worker, Signal::SIGCONT);
    assert_eq!(ask(&daemon, "DELETE", &format!("/v1/logins/{id}"), json!(null)).0, 204);
    gone(&daemon);
}

#[test]
fn whoever_has_had_enough_is_heard_while_an_address_is_opened() {
    // A program whose port takes connections and answers nothing.
    let daemon = Daemon::new();
    let browser = fixture();
    configure(&daemon, &[("browser", &[&browser, "mute", file(&daemon).to_str().unwrap()])]);
    daemon.ok(&["ls"]);
    let mut running = Running::new(daemon.command(&["login", "browser"]));
    let port = super::port_of(&running.stdout);
    running.type_line(&format!("http://localhost:{port}/callback?code=x"));
    // The fixture writes the file once a request has come.
    until("the visit", || file(&daemon).exists().then_some(()));
    signal(running.child.id(), Signal::SIGINT);
    let output = running.end();
    assert_eq!(output.code, Some(130), "{output:#?}");
    assert!(!output.stderr.contains("did not answer"), "{output:#?}");
    gone(&daemon);
}

#[test]
fn a_second_terminal_takes_a_log_in_over() {
    let daemon = asking("echo up\nread -r code || exit 5\n");
    let first = begin(&daemon, "asks");
    let refused = daemon.run(&["login", "asks"]);
    assert_eq!(refused.code, Some(7), "{refused:#?}");
    assert!(refused.stderr.contains("kennel login asks --take-over"), "{refused:#?}");
    let taken = typed(daemon.command(&["login", "asks", "--take-over"]), "code\n");
    assert_eq!(taken.code, Some(0), "{taken:#?}");
    assert!(output(&daemon, &first, 0, "event: ended").contains("another took its place"));
    gone(&daemon);
}

#[test]
fn a_killed_daemon_is_told_once() {
    let daemon = asking("echo up\nread -r code\n");
    let running = Running::new(daemon.command(&["login", "asks"]));
    running.shows("up");
    daemon.kill();
    let output = running.end();
    assert_eq!(output.code, Some(1), "{output:#?}");
    assert_eq!(output.stderr.matches("the log-in").count(), 2, "one error and its text: {output:#?}");
    assert!(output.stderr.contains("the daemon has ended, and the log-in with it"), "{output:#?}");
    gone(&daemon);
}

#[test]
fn the_last_words_of_some_are_kept() {
    let daemon = asking("exit 0\n");
    let ids: Vec<String> = (0..10)
        .map(|_| {
            let id = begin(&daemon, "asks");
            output(&daemon, &id, 0, "event: ended");
            id
        })
        .collect();
    let found = |id: &String| ask(&daemon, "DELETE", &format!("/v1/logins/{id}"), json!(null)).0;
    assert_eq!(ids.iter().map(found).collect::<Vec<_>>(), [[404; 2].as_slice(), &[204; 8]].concat());
    assert_eq!(mentioning(&mark(&daemon)), [0; 0]);
}
