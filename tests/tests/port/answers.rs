//! Requests, and what is refused of them.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use harness::daemon::{Daemon, finish};
use harness::real::*;
use manager::protocol::api::ManagerInfo;

use super::{
    address, answer_to, connect, daemon, get, problem, read_until, refused, rest, session, status, tcp,
};

#[test]
fn without_being_told_to_the_daemon_listens_nowhere() {
    let daemon = Daemon::new();
    daemon.ok(&["daemon", "start"]);
    assert_eq!(daemon.json::<ManagerInfo>(&["daemon", "status"]).listen, None);
    assert!(!daemon.dir.path().join("state/tls.pem").exists());
    // Inodes of the daemon's sockets, and those that listen on TCP.
    let fds = std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap();
    let sockets: Vec<String> = fds
        .filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok())
        .filter_map(|target| target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']').map(str::to_owned))
        .collect();
    assert!(!sockets.is_empty());
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let table = std::fs::read_to_string(table).unwrap_or_default();
        let of_it = table.lines().find(|line| {
            let inode = line.split_whitespace().nth(9);
            inode.is_some_and(|inode| sockets.iter().any(|socket| socket == inode))
        });
        assert_eq!(of_it, None);
    }
}

#[test]
fn a_sessions_token_has_its_rights_and_nothing_has_any_without() {
    let daemon = daemon("", "");
    let address = address(&daemon);
    let bearer = session(&daemon);
    assert_eq!(problem(&answer_to(address, &get("/v1/sessions/s", ""))), (401, "key_needed".into()));
    assert_eq!(problem(&answer_to(address, &get("/healthz", ""))), (401, "key_needed".into()));
    assert_eq!(problem(&answer_to(address, &get("/v1/sessions", &bearer))), (403, "forbidden".into()));
    let answer = answer_to(address, &get("/v1/sessions/s", &bearer));
    assert!(status(&answer) == 200 && answer.contains("\"id\":\"s\""), "{answer}");
    // Many requests over one connection.
    let mut tls = connect(address);
    for _ in 0..3 {
        let body = r#"{"text":"echo over TLS"}"#;
        write!(
            tls,
            "POST /v1/sessions/s/prompts HTTP/1.1\r\nHost: localhost\r\n{bearer}Content-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        read_until(&mut tls, "\"disposition\"");
    }
    // Events come as they happen.
    write!(tls, "GET /v1/sessions/s/events?after=0 HTTP/1.1\r\nHost: localhost\r\n{bearer}\r\n").unwrap();
    read_until(&mut tls, "over TLS");
    daemon.ok(&["send", "s", "echo and later"]);
    read_until(&mut tls, "and later");
    assert_eq!(refused(&daemon, "key"), 2);
}

/// Runs curl, which speaks HTTP/2.
pub fn curl(args: &[&str]) -> String {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--insecure", "--http2", "--max-time", "30"]).args(args);
    let output = finish(
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("curl"),
    );
    assert_eq!(output.code, Some(0), "{output:#?}");
    output.stdout
}

#[test]
fn http_2_has_the_same_rights_and_refusals() {
    let daemon = daemon("", "");
    let address = address(&daemon);
    let bearer = session(&daemon).trim().to_owned();
    let base = format!("https://{address}");
    let said = ["--write-out", "\n%{http_version} %{response_code}"];
    let answer = curl(&[&said[..], &["-H", &bearer, &format!("{base}/v1/sessions/s")]].concat());
    assert!(answer.ends_with("\n2 200") && answer.contains("\"id\":\"s\""), "{answer}");
    assert!(curl(&[&said[..], &[&format!("{base}/v1/sessions/s")]].concat()).ends_with("\n2 401"));
    let host = ["-H", &bearer, "-H", "Host: evil.example", &format!("{base}/v1/sessions/s")];
    let wrong = curl(&[&said[..], &host].concat());
    assert!(wrong.ends_with("\n2 421") && wrong.contains("wrong_host"), "{wrong}");
    let body = ["-H", &bearer, "-H", "Content-Type: application/json", "-d", r#"{"text":"echo by h2"}"#];
    let prompt = format!("{base}/v1/sessions/s/prompts");
    let sent = curl(&[&said[..], &body, &[&prompt]].concat());
    assert!(sent.ends_with("\n2 202"), "{sent}");
    daemon.idle("s");
    let events = curl(&["-H", &bearer, &format!("{base}/v1/sessions/s/events?after=0&follow=false")]);
    assert!(events.contains("by h2"), "{events}");
    // A long answer.
    let long = "x".repeat(300_000);
    daemon.ok(&["send", "s", &format!("head -c {} /dev/zero | tr '\\0' x", long.len())]);
    let events = curl(&["-H", &bearer, &format!("{base}/v1/sessions/s/events?after=0&follow=false")]);
    assert!(events.matches('x').count() >= long.len());
}

#[test]
fn plain_http_gets_one_line_and_older_tls_none() {
    let daemon = daemon("", "");
    let address = address(&daemon);
    for request in ["GET / HTTP/1.1\r\nHost: x\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "POST /v1/pair"]
    {
        let mut stream = tcp(address);
        stream.write_all(request.as_bytes()).unwrap();
        let answer = rest(&mut stream);
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        let line = answer.split_once("\r\n\r\n").unwrap().1;
        assert!(line.contains("this port speaks TLS") && line.lines().count() == 1, "{answer}");
    }
    // What is neither is closed without a word.
    let mut stream = tcp(address);
    stream.write_all(b"\x00\x01\x02").unwrap();
    assert_eq!(rest(&mut stream), "");
    assert_eq!(refused(&daemon, "plain_http"), 4);
    // A ClientHello of TLS 1.2, with the suites and groups of its time.
    let mut hello = vec![3, 3];
    hello.extend([7; 32]);
    hello.extend([0, 0, 4, 0xc0, 0x2f, 0xc0, 0x2b, 1, 0]);
    let extensions =
        [&[0, 10, 0, 4, 0, 2, 0, 23][..], &[0, 13, 0, 4, 0, 2, 4, 3], &[0, 11, 0, 2, 1, 0]].concat();
    hello.extend((extensions.len() as u16).to_be_bytes());
    hello.extend(extensions);
    let mut record = vec![22, 3, 1];
    record.extend((hello.len() as u16 + 4).to_be_bytes());
    record.extend([1, 0]);
    record.extend((hello.len() as u16).to_be_bytes());
    record.extend(hello);
    let mut stream = tcp(address);
    stream.write_all(&record).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    // An alert: fatal, protocol_version.
    assert_eq!(answer, [21, 3, 3, 0, 2, 2, 70]);
    until("it is counted", || (refused(&daemon, "handshake") == 1).then_some(()));
}

#[test]
fn a_host_or_an_origin_that_is_not_meant_is_refused_before_any_key() {
    let daemon = daemon("names = [\"box.example\"]", "");
    let address = address(&daemon);
    let bearer = session(&daemon);
    let ask = |host: &str, more: &str| {
        let request = format!("GET /v1/sessions/s HTTP/1.1\r\n{host}{more}{bearer}Connection: close\r\n\r\n");
        answer_to(address, &request)
    };
    for host in ["127.0.0.1", "localhost:7443", "[::1]", "box.example", "BOX.example:1"] {
        assert_eq!(status(&ask(&format!("Host: {host}\r\n"), "")), 200, "{host}");
    }
    for (host, code) in [
        ("Host: evil.example\r\n", (421, "wrong_host")),
        ("Host: kennel\r\n", (421, "wrong_host")),
        ("Host: box.example.evil.example\r\n", (421, "wrong_host")),
        ("", (400, "invalid_request")),
        ("Host: box.example\r\nHost: evil.example\r\n", (400, "invalid_request")),
        ("Host: a b\r\n", (400, "invalid_request")),
    ] {
        assert_eq!(problem(&ask(host, "")), (code.0, code.1.into()), "{host:?}");
    }
    let absolute =
        format!("GET https://evil.example/v1/sessions/s HTTP/1.1\r\nHost: localhost\r\n{bearer}\r\n");
    assert_eq!(problem(&answer_to(address, &absolute)), (421, "wrong_host".into()));
    let origin = ask("Host: localhost\r\n", "Origin: https://evil.example\r\nConnection: origin\r\n");
    assert_eq!(problem(&origin), (403, "origin_refused".into()));
    assert_eq!((refused(&daemon, "host"), refused(&daemon, "origin")), (7, 1));
    assert_eq!(refused(&daemon, "key"), 0, "no key was looked at");
}

#[test]
fn a_body_with_two_lengths_is_no_way_to_smuggle_a_request() {
    let daemon = daemon("", "");
    let address = address(&daemon);
    let bearer = session(&daemon);
    let smuggled = format!("POST /v1/sessions/s/stop HTTP/1.1\r\nHost: localhost\r\n{bearer}\r\n");
    let chunks = format!("0\r\n\r\n{smuggled}");
    let length = chunks.len();
    let headers = [
        format!("Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n"),
        format!("Transfer-Encoding: chunked\r\nContent-Length: {length}\r\n"),
        "Transfer-Encoding: chunked\r\n".to_owned(),
        format!("Transfer-Encoding: xchunked\r\nContent-Length: {length}\r\n"),
        format!("Transfer-Encoding : chunked\r\nContent-Length: {length}\r\n"),
        format!("Content-Length: {length}\r\nContent-Length: 0\r\n"),
        format!("Content-Length: +{length}\r\n"),
        format!("Content-Length: {length}, {length}\r\n"),
    ];
    for lengths in headers {
        let request = format!(
            "POST /v1/sessions/s/prompts HTTP/1.1\r\nHost: localhost\r\n{bearer}{lengths}\r\n{chunks}"
        );
        let answer = answer_to(address, &request);
        let (status, code) = problem(&answer);
        let expected = [(411, "length_required"), (400, "invalid_request")];
        assert!(expected.contains(&(status, &code)), "{lengths}{answer}");
        assert_eq!(answer.matches("\r\n\r\n").count(), 1, "a second answer: {answer}");
    }
    assert_eq!(daemon.idle("s").incarnation, 1);
    // A body that is as long as it says is one, and what follows is the next request.
    let one = format!("GET /v1/sessions/s HTTP/1.1\r\nHost: localhost\r\n{bearer}\r\n");
    let both = answer_to(address, &(one + &get("/v1/sessions/s", &bearer)));
    assert_eq!(both.matches("HTTP/1.1 200 ").count(), 2, "{both}");
}

#[test]
fn heads_that_are_too_large_or_none_are_answered_with_a_problem() {
    let daemon = daemon("", "");
    let address = address(&daemon);
    let bearer = session(&daemon);
    let large = format!("X: {}\r\n", "x".repeat(20_000));
    let many: String = (0..200).map(|n| format!("X-{n}: y\r\n")).collect();
    for (request, code) in [
        (get("/v1/sessions/s", &large), (431, "headers_too_large")),
        (get("/v1/sessions/s", &many), (431, "headers_too_large")),
        (get(&format!("/{}", "x".repeat(20_000)), ""), (431, "headers_too_large")),
        ("NONSENSE\r\n\r\n".to_owned(), (400, "invalid_request")),
        ("GET / HTTP/3.0\r\n\r\n".to_owned(), (400, "invalid_request")),
        ("CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n".to_owned(), (400, "invalid_request")),
    ] {
        let answer = answer_to(address, &request);
        assert_eq!(problem(&answer), (code.0, code.1.into()), "{}", &request[..40.min(request.len())]);
    }
    // A body that is too large is the API's own affair.
    let body = "x".repeat(13 << 20);
    let request = format!(
        "POST /v1/sessions/s/prompts HTTP/1.1\r\nHost: localhost\r\n{bearer}Content-Type: application/json\r\n\
         Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    assert_eq!(problem(&answer_to(address, &request)), (413, "body_too_large".into()));
}
