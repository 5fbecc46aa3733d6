//! Requests: half-closed, malformed, large.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use harness::real::*;

use super::{SINK, answer_to, connect, daemon, memory, problem, read_until, rest, status};

#[test]
fn a_client_that_shuts_its_side_down_after_its_request_is_answered_each_time() {
    let daemon = daemon("", "");
    daemon.ok(&["start", "--id", "s"]);
    daemon.idle("s");
    let get = "GET /v1/manager HTTP/1.1\r\nHost: kennel\r\n\r\n".to_owned();
    let late =
        "GET /v1/sessions/s/wait?until=stopped&timeout_ms=300 HTTP/1.1\r\nHost: kennel\r\n\r\n".to_owned();
    let body = r#"{"text":"true"}"#;
    let post = format!(
        "POST /v1/sessions/s/prompts HTTP/1.1\r\nHost: kennel\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let waits = std::thread::scope(|scope| {
        let one = |request: &str, expected: u16| {
            let (request, daemon) = (request.to_owned(), &daemon);
            scope.spawn(move || assert_eq!(status(&answer_to(daemon, request.as_bytes())), expected))
        };
        let many: Vec<_> = (0..100).map(|_| one(&get, 200)).collect();
        let more: Vec<_> = (0..50).flat_map(|_| [one(&late, 504), one(&post, 202)]).collect();
        many.into_iter().chain(more).map(|thread| thread.join()).filter(Result::is_err).count()
    });
    assert_eq!(waits, 0, "so many were not answered");
}

#[test]
fn a_client_that_goes_is_missed_also_after_it_has_shut_its_side_down() {
    let daemon = daemon("", "");
    daemon.ok(&["start", "--id", "s"]);
    let attached = || daemon.show("s").clients.len();
    for half_closed in [false, true] {
        let mut stream = connect(&daemon);
        stream.write_all(b"GET /v1/sessions/s/attach?role=driver HTTP/1.1\r\nHost: kennel\r\n\r\n").unwrap();
        read_until(&stream, "event: attached");
        if half_closed {
            stream.shutdown(Shutdown::Write).unwrap();
            // The next request shows that the body was read.
            daemon.ok(&["pin", "s"]);
            read_until(&stream, "session.updated");
        }
        assert_eq!(attached(), 1);
        drop(stream);
        until("it is detached", || (attached() == 0).then_some(()));
    }
}

const JSON: &str = "Content-Type: application/json\r\n";

/// The head of a request: its first line, `Host`, and these further header lines.
fn head(line: &str, more: &str) -> Vec<u8> {
    format!("{line}\r\nHost: kennel\r\n{more}\r\n").into_bytes()
}

fn get(path: &str) -> Vec<u8> {
    head(&format!("GET {path} HTTP/1.1"), "")
}

/// Requests that the daemon must refuse, each with the statuses that it may answer.
fn refused() -> Vec<(Vec<u8>, &'static [u16])> {
    let long = "x".repeat(100_000);
    let lines: String = (0..200).map(|n| format!("X-{n}: {n}\r\n")).collect();
    vec![
        (b"GARBAGE\r\n\r\n".to_vec(), &[400]),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec(), &[400]),
        (b"\0\0\0\0\r\n\r\n".to_vec(), &[400]),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), &[400]),
        (head("GET /v1/manager HTTP/9.9", ""), &[400]),
        (head("GET /v1/manager HTTP/1.1", "Broken\r\n"), &[400]),
        (head("GET /v1/manager HTTP/1.1", "X: a\0b\r\n"), &[400]),
        (head("GET /v1/manager HTTP/1.1", &format!("X: {long}\r\n")), &[431]),
        (head("GET /v1/manager HTTP/1.1", &lines), &[431]),
        (get(&format!("/v1/{long}")), &[414, 431]),
        (get(&format!("/{}", "x".repeat(1 << 20))), &[414, 431]),
        (get("/v1/sessions/a\0b"), &[400]),
        (get("/v1/sessions/%00"), &[400]),
        (get("/v1/sessions/%zz"), &[400]),
        (get("/v1/sessions/%"), &[400]),
        (get("/v1/sessions/%ff"), &[400]),
        (get("//v1/manager"), &[404]),
        (get("/v1/manager/"), &[404]),
        (get("/v1/../v1/manager"), &[404]),
        (get("*"), &[400, 404]),
        (get("kennel:80"), &[400, 404]),
        (head("BREW /v1/manager HTTP/1.1", ""), &[405]),
        (head("TRACE /v1/manager HTTP/1.1", ""), &[405]),
        (head("CONNECT kennel:80 HTTP/1.1", ""), &[400, 404, 405]),
        (head("OPTIONS * HTTP/1.1", ""), &[400, 404, 405]),
        (head("POST /v1/sessions HTTP/1.1", "Content-Length: 1\r\nContent-Length: 2\r\n"), &[400]),
        (head("POST /v1/sessions HTTP/1.1", "Content-Length: -1\r\n"), &[400]),
        (head("POST /v1/sessions HTTP/1.1", "Content-Length: 99999999999999999999\r\n"), &[400]),
        (head("POST /v1/sessions HTTP/1.1", "Content-Length: 18446744073709551615\r\n"), &[400, 413, 431]),
        (head("POST /v1/sessions HTTP/1.1", "Content-Length: 9223372036854775807\r\n"), &[400, 413]),
        (head("POST /v1/sessions HTTP/1.1", "Transfer-Encoding: gzip\r\n"), &[400]),
        (head("POST /v1/sessions HTTP/1.0", "Transfer-Encoding: chunked\r\n"), &[400]),
        (
            [
                head("POST /v1/sessions HTTP/1.1", &format!("{JSON}Transfer-Encoding: chunked\r\n")),
                b"zz\r\n".to_vec(),
            ]
            .concat(),
            &[400],
        ),
        (
            [head("POST /v1/sessions HTTP/1.1", &format!("{JSON}Content-Length: 100\r\n")), b"{".to_vec()]
                .concat(),
            &[400],
        ),
        (b"GET /v1/manager HTTP/1.1\r\nHost: ken".to_vec(), &[400]),
        (b"GET".to_vec(), &[400]),
    ]
}

#[test]
fn whatever_is_said_is_answered_and_with_a_problem_where_it_is_none_of_http() {
    let daemon = daemon("", "");
    daemon.ok(&["start", "--id", "s"]);
    for (request, expected) in refused() {
        let answer = answer_to(&daemon, &request);
        let shown = String::from_utf8_lossy(&request[..request.len().min(120)]).into_owned();
        let found = problem(&answer);
        assert!(expected.contains(&found.status), "{shown:?}: {answer}");
    }
    let taken: Vec<(Vec<u8>, u16)> = vec![
        (get("http://kennel/v1/manager"), 200),
        (b"GET /v1/manager HTTP/1.0\r\n\r\n".to_vec(), 200),
        (b"\r\n\r\nGET /v1/manager HTTP/1.1\r\nHost: kennel\r\n\r\n".to_vec(), 200),
        (head("HEAD /v1/manager HTTP/1.1", ""), 200),
    ];
    for (request, expected) in taken {
        assert_eq!(
            status(&answer_to(&daemon, &request)),
            expected,
            "{:?}",
            String::from_utf8_lossy(&request)
        );
    }
    let three = answer_to(&daemon, &[get("/v1/manager"), get("/nowhere"), get("/v1/sessions/s")].concat());
    assert_eq!(three.matches("HTTP/1.1 ").count(), 3, "{three}");
    // A request that is none after one that is.
    let two = answer_to(&daemon, &[get("/healthz"), b"GARBAGE\r\n\r\n".to_vec()].concat());
    assert!(two.starts_with("HTTP/1.1 200 ") && two.contains("HTTP/1.1 400 "), "{two}");
    // A client that expects `100 Continue` is answered first.
    let mut stream = connect(&daemon);
    let expects = format!("{JSON}Expect: 100-continue\r\nConnection: close\r\nContent-Length: 2\r\n");
    stream.write_all(&head("POST /v1/sessions HTTP/1.1", &expects)).unwrap();
    read_until(&stream, "HTTP/1.1 100 ");
    stream.write_all(b"{}").unwrap();
    assert_eq!(status(&rest(&stream)), 201);
    let expects = format!("{JSON}Expect: 100-continue\r\nContent-Length: 99000000\r\n");
    assert_eq!(
        problem(&answer_to(&daemon, &head("POST /v1/sessions HTTP/1.1", &expects))).code,
        "body_too_large"
    );
}

#[test]
fn a_hundred_large_bodies_at_once_are_taken_in_turn_or_sent_away_and_small_ones_are_served() {
    const BODY: usize = 11_000_000;
    let daemon = daemon("", SINK);
    daemon.ok(&["start", "--id", "s", "--agent", "sink"]);
    daemon.idle("s");
    let pid = daemon.pid();
    let before = memory(pid);
    let head = format!(
        "POST /v1/sessions/s/prompts HTTP/1.1\r\nHost: kennel\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {BODY}\r\n\r\n{{\"text\":\""
    );
    struct Sender {
        stream: UnixStream,
        left: usize,
        answer: Vec<u8>,
        done: bool,
    }
    let mut senders: Vec<Sender> = (0..100)
        .map(|_| {
            let mut stream = connect(&daemon);
            stream.write_all(head.as_bytes()).unwrap();
            stream.set_nonblocking(true).unwrap();
            Sender { stream, left: BODY - r#"{"text":""#.len(), answer: Vec::new(), done: false }
        })
        .collect();
    let piece = [b'x'; 65536];
    let (mut most, mut rounds) = (0, 0);
    let end = std::time::Instant::now() + 4 * BOUND;
    while senders.iter().any(|sender| !sender.done) {
        assert!(std::time::Instant::now() < end, "some are not answered");
        for sender in senders.iter_mut().filter(|sender| !sender.done) {
            if sender.left > 0
                && let Ok(written) = sender.stream.write(&piece[..sender.left.min(65536)])
            {
                sender.left -= written;
            }
            let mut read = [0; 4096];
            match sender.stream.read(&mut read) {
                Ok(0) => sender.done = true,
                Ok(read_now) => sender.answer.extend_from_slice(&read[..read_now]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => sender.done = true,
            }
        }
        rounds += 1;
        if rounds % 20 == 0 {
            most = most.max(memory(pid));
            let small = answer_to(
                &daemon,
                b"POST /v1/sessions/s/pin HTTP/1.1\r\nHost: kennel\r\nContent-Length: 2\r\n\r\n{}",
            );
            assert_eq!(status(&small), 200, "{small}");
        }
    }
    let mut counts = std::collections::BTreeMap::new();
    for sender in &senders {
        let answer = String::from_utf8_lossy(&sender.answer).into_owned();
        let problem = problem(&answer);
        if problem.code == "overloaded" {
            assert!(answer.to_lowercase().contains("\r\nretry-after: "), "{answer}");
        }
        *counts.entry(problem.code).or_insert(0) += 1;
    }
    let grown = most.saturating_sub(before) >> 20;
    // A body without an end is JSON without an end.
    let known: usize = ["overloaded", "invalid_json"].iter().filter_map(|code| counts.get(*code)).sum();
    assert_eq!(known, 100, "{counts:?}");
    assert!(counts.contains_key("invalid_json"), "{counts:?}");
    assert!(grown < 128, "{grown} MiB: {counts:?}");
}
