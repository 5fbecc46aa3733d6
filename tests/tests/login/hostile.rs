//! Log-ins that misbehave, addresses that are none of theirs, and deaths in the middle.

use std::net::TcpListener;
use std::sync::Mutex;

use harness::daemon::Daemon;
use harness::real::*;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{Running, ask, begin, configure, file, fixture, gone, mark, output, script, told, vendors};

/// A daemon whose agent `bad` logs in by this script of the fixture.
fn bad(steps: &str) -> Daemon {
    let daemon = Daemon::new();
    let agent = beside("fixture-agent").display().to_string();
    configure(&daemon, &[("bad", &[&agent, "--script", steps])]);
    daemon.ok(&["ls"]);
    daemon
}

/// The worker of the log-in that runs.
pub(super) fn worker(daemon: &Daemon) -> u32 {
    let manager = daemon.pid();
    until("the worker", || {
        let program = mentioning(&mark(daemon)).into_iter().next()?;
        path_to(program, manager)?.last().copied().or(Some(program))
    })
}

fn end(daemon: &Daemon, id: &str) {
    assert_eq!(ask(daemon, "DELETE", &format!("/v1/logins/{id}"), Value::Null).0, 204);
    // At once: the answer comes when nothing is left.
    assert_eq!(mentioning(&mark(daemon)), [0; 0]);
}

#[test]
fn nothing_is_left_of_a_program_that_does_not_want_to_end() {
    let daemon = bad("deaf; fork 3; escape; say up; sleep 100s");
    let id = begin(&daemon, "bad");
    output(&daemon, &id, 0, "up");
    assert!(mentioning(&mark(&daemon)).len() > 4);
    end(&daemon, &id);
    assert!(output(&daemon, &id, 0, "event: ended").contains("a client ended it"));

    // One that ends by itself and leaves others behind.
    let daemon = bad("deaf; fork 3; escape; say up; exit 4");
    let id = begin(&daemon, "bad");
    assert!(output(&daemon, &id, 0, "event: ended").contains("\"code\":4"));
    assert_eq!(mentioning(&mark(&daemon)), [0; 0]);
}

#[test]
fn output_without_end_waits_for_its_reader() {
    let daemon = Daemon::new();
    let count = daemon.dir.path().join("count");
    let flood = format!(
        "i=0; while :; do printf '%01000d\\n' 0; i=$((i+1)); echo $i > {0}.new; mv {0}.new {0}; done",
        count.display()
    );
    let flood = script(&daemon, "flood.sh", &flood);
    configure(&daemon, &[("bad", &[&flood])]);
    daemon.ok(&["ls"]);
    let id = begin(&daemon, "bad");
    let written = || std::fs::read_to_string(&count).ok().and_then(|text| text.trim().parse::<u64>().ok());
    until("a full window", || written().filter(|count| *count >= 60));
    // Nobody has read anything: what is beyond the window is in the terminal, and the program waits.
    let program = until("the program waits", || {
        let program = mentioning(&mark(&daemon)).into_iter().find(|pid| waits_for_terminal(*pid))?;
        (written()? >= 60).then_some(program)
    });
    assert!(lives(program) && written().unwrap() < 200, "{:?}", written());
    // A reader gets it going again.
    let before = written().unwrap();
    let mut child = daemon.spawn(&["login", "bad"]);
    assert_eq!(child.wait().unwrap().code(), Some(7), "one for an agent");
    let path = format!("/v1/logins/{id}");
    let mut stream = std::os::unix::net::UnixStream::connect(daemon.socket()).unwrap();
    std::io::Write::write_all(&mut stream, format!("GET {path} HTTP/1.0\r\nHost: kennel\r\n\r\n").as_bytes())
        .unwrap();
    let stream = told(stream);
    until("more", || (written()? > before + 200).then_some(()));
    end(&daemon, &id);
    until("the end of the stream", || stream.lock().unwrap().contains("event: ended").then_some(()));
}

/// Returns true for a process that sleeps until its terminal takes something.
fn waits_for_terminal(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let wchan = std::fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('S')) && !wchan.contains("wait4")
}

#[test]
fn what_is_typed_and_not_read_has_a_bound() {
    let daemon = bad("say up; sleep 100s");
    let id = begin(&daemon, "bad");
    output(&daemon, &id, 0, "up");
    let line = json!({ "text": format!("{}\r", "x".repeat(4000)) });
    let refused = (0..200).map(|_| ask(&daemon, "POST", &format!("/v1/logins/{id}/input"), line.clone()));
    let refused = refused.into_iter().find(|(status, _)| *status != 204);
    let (status, body) = refused.expect("it ends");
    assert_eq!((status, &body["code"]), (409, &json!("login_ended")), "{body}");
    assert!(output(&daemon, &id, 0, "event: ended").contains("does not read what is typed"));
    gone(&daemon);
}

#[test]
fn escapes_of_a_program_reach_no_terminal() {
    let daemon = bad("babble 3000; exit 0");
    let output = daemon.run(&["login", "bad"]);
    assert_eq!(output.code, Some(0), "{output:#?}");
    assert!(!output.stdout.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t')), "{output:#?}");
}

#[test]
fn only_ports_of_the_log_in_itself_are_opened() {
    let daemon = Daemon::new();
    vendors(&daemon);
    daemon.ok(&["ls"]);
    let id = begin(&daemon, "browser");
    let shown = Mutex::new(output(&daemon, &id, 0, "state=s"));
    let port = super::port_of(&shown);
    // A server of this machine that is none of the log-in's.
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    other.set_nonblocking(true).unwrap();
    let visit = |url: String| ask(&daemon, "POST", &format!("/v1/logins/{id}/visit"), json!({ "url": url }));
    let elsewhere = other.local_addr().unwrap().port();
    for (url, status, code) in [
        (format!("http://127.0.0.1:{elsewhere}/?code=SECRET"), 403, "not_its_port"),
        (format!("http://localhost:{elsewhere}/?code=SECRET"), 403, "not_its_port"),
        ("http://127.0.0.1:1/?code=SECRET".into(), 403, "not_its_port"),
        (format!("http://[::1]:{elsewhere}/SECRET"), 403, "not_its_port"),
        ("http://vendor.example:80/?code=SECRET".into(), 400, "invalid_login_url"),
        (format!("https://localhost:{port}/?code=SECRET"), 400, "invalid_login_url"),
        (format!("http://localhost:{port}@vendor.example:80/SECRET"), 400, "invalid_login_url"),
        (format!("http://localhost:{port}/ HTTP/1.1\r\nX: SECRET"), 400, "invalid_login_url"),
    ] {
        let (found, body) = visit(url.clone());
        assert_eq!((found, &body["code"]), (status, &json!(code)), "{url}: {body}");
        assert!(!body.to_string().contains("SECRET"), "{body}");
    }
    assert!(other.accept().is_err(), "nobody came");
    let (status, body) = visit(format!("http://127.0.0.1:{port}/nothing"));
    assert_eq!((status, &body["status"], &body["next"]), (200, &json!(404), &Value::Null), "{body}");
    // A redirect is told, and not followed.
    let (status, body) = visit(format!("http://127.0.0.1:{port}/callback?code=VISITED"));
    assert_eq!((status, &body["status"]), (200, &json!(302)), "{body}");
    assert_eq!(body["next"], json!(format!("http://localhost:{port}/success")));
    assert_eq!(std::fs::read_to_string(file(&daemon)).unwrap(), "VISITED");
    assert!(!mentioning(&mark(&daemon)).is_empty(), "it waits for its last page");
    end(&daemon, &id);
    assert_eq!(
        ask(&daemon, "POST", "/v1/logins/login-1/visit", json!({ "url": "http://localhost:1/" })).0,
        404
    );
}

#[test]
fn a_port_that_answers_nothing_ends_no_log_in() {
    let daemon = Daemon::new();
    let browser = fixture();
    configure(&daemon, &[("browser", &[&browser, "wait", "/nowhere/at/all"])]);
    daemon.ok(&["ls"]);
    let id = begin(&daemon, "browser");
    let shown = Mutex::new(output(&daemon, &id, 0, "state=s"));
    let url = format!("http://localhost:{}/callback?code=x", super::port_of(&shown));
    // It dies of that.
    let (status, body) = ask(&daemon, "POST", &format!("/v1/logins/{id}/visit"), json!({ "url": url }));
    assert_eq!((status, &body["code"]), (502, &json!("no_login_answer")), "{body}");
    assert!(output(&daemon, &id, 0, "event: ended").contains("\"code\":101"));
    gone(&daemon);
}

#[test]
fn a_killed_worker_leaves_nothing() {
    let daemon = bad("deaf; fork 3; escape; say up; sleep 100s");
    let id = begin(&daemon, "bad");
    output(&daemon, &id, 0, "up");
    kill(worker(&daemon));
    assert!(output(&daemon, &id, 0, "event: ended").contains("its worker was lost"));
    assert_eq!(mentioning(&mark(&daemon)), [0; 0]);
    // The next one begins as if nothing had been.
    let id = begin(&daemon, "bad");
    output(&daemon, &id, 0, "up");
    end(&daemon, &id);
}

#[test]
fn a_killed_daemon_leaves_nothing_and_neither_do_both() {
    let daemon = bad("deaf; fork 3; escape; say up; sleep 100s");
    let id = begin(&daemon, "bad");
    output(&daemon, &id, 0, "up");
    daemon.kill();
    // By itself: no daemon comes.
    gone(&daemon);

    daemon.ok(&["ls"]);
    assert_eq!(ask(&daemon, "GET", &format!("/v1/logins/{id}"), Value::Null).0, 404);
    let id = begin(&daemon, "bad");
    output(&daemon, &id, 0, "up");
    let worker = worker(&daemon);
    signal(worker, Signal::SIGSTOP);
    daemon.kill();
    kill(worker);
    daemon.ok(&["ls"]);
    gone(&daemon);
    // An orderly end, and a daemon that takes the place of another.
    for end in [["daemon", "restart"], ["daemon", "stop"]] {
        begin(&daemon, "bad");
        daemon.ok(&end);
        gone(&daemon);
        daemon.ok(&["ls"]);
    }
}

#[test]
fn whoever_leaves_a_log_in_ends_it() {
    let daemon = bad("deaf; fork 3; escape; say up; sleep 100s");
    let running = Running::new(daemon.command(&["login", "bad"]));
    running.shows("up");
    signal(running.child.id(), Signal::SIGINT);
    let output = running.end();
    assert_eq!(output.code, Some(130), "{output:#?}");
    assert!(output.stderr.contains("the log-in of bad is ended"), "{output:#?}");
    assert_eq!(mentioning(&mark(&daemon)), [0; 0]);
}

#[test]
fn so_many_run_at_once_and_no_more() {
    let daemon = Daemon::new();
    let agent = beside("fixture-agent").display().to_string();
    let wait: [&str; 3] = [&agent, "--script", "say up; sleep 100s"];
    configure(&daemon, &["a", "b", "c", "d", "e"].map(|name| (name, &wait[..])));
    daemon.ok(&["ls"]);
    let ids = ["a", "b", "c", "d"].map(|name| begin(&daemon, name));
    let (status, body) = ask(&daemon, "POST", "/v1/agents/e/login", Value::Null);
    assert_eq!((status, &body["code"]), (409, &json!("too_many_logins")), "{body}");
    assert_eq!(ask(&daemon, "DELETE", &format!("/v1/logins/{}", ids[0]), Value::Null).0, 204);
    let last = begin(&daemon, "e");
    for id in ids.into_iter().chain([last]) {
        assert_eq!(ask(&daemon, "DELETE", &format!("/v1/logins/{id}"), Value::Null).0, 204);
    }
    gone(&daemon);
}
