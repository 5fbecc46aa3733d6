//! Connections: idle ones, and shares of many.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;

use harness::real::*;
use manager::protocol::api::{Role, TokenReply};

use super::{connect, daemon, problem, read_until, rest};

fn is_closed(mut stream: &UnixStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let mut piece = [0; 65536];
    loop {
        match stream.read(&mut piece) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
            Err(_) => return true,
        }
    }
}

#[test]
fn a_head_without_end_is_answered_and_a_connection_that_rests_is_closed() {
    let daemon = daemon("head_timeout = \"300ms\"\nidle_timeout = \"300ms\"", "");
    let mut slow = connect(&daemon);
    slow.write_all(b"GET /v1/manager HTTP/1.1\r\nHost:").unwrap();
    assert_eq!(problem(&rest(&slow)).code, "request_timeout");
    // A connection without a request is closed without an answer.
    assert_eq!(rest(&connect(&daemon)), "");
    // With and without a wait for the answer.
    for path in ["/healthz", "/v1/manager", "/v1/sessions"] {
        let mut rests = connect(&daemon);
        write!(rests, "GET {path} HTTP/1.1\r\nHost: kennel\r\n\r\n").unwrap();
        let answer = rest(&rests);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    // One that begins a second request and does not end it.
    let mut second = connect(&daemon);
    second.write_all(b"GET /healthz HTTP/1.1\r\nHost: kennel\r\n\r\n").unwrap();
    read_until(&second, "\r\n\r\nok");
    second.write_all(b"G").unwrap();
    assert_eq!(problem(&rest(&second)).code, "request_timeout");
}

#[test]
fn however_many_connections_there_are_the_owner_gets_one() {
    let daemon = daemon("connections = 16", "");
    daemon.ok(&["start", "--id", "s"]);
    daemon.idle("s");
    // Those that have sent nothing, those that rest, those that listen.
    for request in [
        "",
        "GET /healthz HTTP/1.1\r\nHost: kennel\r\n\r\n",
        "GET /v1/events HTTP/1.1\r\nHost: kennel\r\n\r\n",
    ] {
        let mut many: Vec<UnixStream> = Vec::new();
        for _ in 0..40 {
            let mut stream = connect(&daemon);
            stream.write_all(request.as_bytes()).unwrap();
            if !request.is_empty() {
                // One whose request is not read yet has sent nothing, and goes first.
                read_until(&stream, "HTTP/1.1 200");
            }
            many.push(stream);
            assert_eq!(daemon.show("s").id.as_str(), "s");
        }
        let open = || many.iter().filter(|stream| !is_closed(stream)).count();
        until("no more than there may be", || (open() <= 16).then_some(()));
        assert!(!is_closed(&many[39]), "the newest was closed: {request:?}");
    }
}

#[test]
fn a_viewer_keeps_no_driver_out_however_often_it_comes() {
    let daemon = daemon("connections = 32", "");
    daemon.ok(&["start", "--id", "s"]);
    daemon.idle("s");
    let token = |args: &[&str]| daemon.json::<TokenReply>(args).token;
    let (viewer, driver) = (token(&["token", "s", "--viewer"]), token(&["token", "s"]));
    let attach = |token: Option<&str>, role: &str| {
        let mut stream = connect(&daemon);
        let authorization =
            token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        let request =
            format!("GET /v1/sessions/s/attach?role={role} HTTP/1.1\r\nHost: kennel\r\n{authorization}\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        read_until(&stream, "event: attached");
        stream
    };
    let driving = attach(Some(&driver), "driver");
    let watching = attach(None, "viewer");
    let viewers: Vec<UnixStream> = (0..40).map(|_| attach(Some(&viewer), "viewer")).collect();
    until("an eighth is the viewer's", || {
        (viewers.iter().filter(|stream| !is_closed(stream)).count() <= 4).then_some(())
    });
    assert!(!is_closed(&driving) && !is_closed(&watching), "somebody else was put out");
    until("who was put out is detached", || (daemon.show("s").clients.len() == 6).then_some(()));
    assert!(daemon.show("s").clients.iter().any(|client| client.role == Role::Driver));
    assert_eq!(daemon.run(&["pin", "s"]).code, Some(0));
}
