//! HTTP as strangers speak it: over a socket of their own, badly, slowly, in great numbers, or without listening.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use harness::daemon::Daemon;
use harness::real::*;
use manager::protocol::api::{Problem, Role, TokenReply};

/// A daemon with these lines in its `[daemon]` section, and these agents.
fn daemon(settings: &str, agents: &str) -> Daemon {
    let daemon = Daemon::new();
    std::fs::create_dir_all(daemon.dir.path().join("kennel")).unwrap();
    let config = format!("[daemon]\n{settings}\n{agents}");
    std::fs::write(daemon.dir.path().join("kennel/config.toml"), config).unwrap();
    daemon.ok(&["daemon", "start"]);
    daemon
}

fn connect(daemon: &Daemon) -> UnixStream {
    let stream = UnixStream::connect(daemon.socket()).unwrap();
    stream.set_read_timeout(Some(BOUND)).unwrap();
    stream.set_write_timeout(Some(BOUND)).unwrap();
    stream
}

/// All that comes until the daemon closes the connection. That it is reset after the last byte is no matter.
fn rest(mut stream: &UnixStream) -> String {
    let mut all = Vec::new();
    let mut piece = [0; 65536];
    loop {
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => all.extend_from_slice(&piece[..read]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
            Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&all)),
        }
    }
    String::from_utf8_lossy(&all).into_owned()
}

/// What is answered to these bytes.
fn said(daemon: &Daemon, request: &[u8]) -> String {
    let mut stream = connect(daemon);
    // It may be refused before all of it was read.
    let _ = stream.write_all(request);
    let _ = stream.shutdown(Shutdown::Write);
    rest(&stream)
}

/// Reads until this was said.
fn until_said(mut stream: &UnixStream, words: &str) -> String {
    let mut all = Vec::new();
    while !String::from_utf8_lossy(&all).contains(words) {
        let mut piece = [0; 4096];
        let read = stream.read(&mut piece).unwrap();
        assert!(read > 0, "it ended without {words:?}: {:?}", String::from_utf8_lossy(&all));
        all.extend_from_slice(&piece[..read]);
    }
    String::from_utf8_lossy(&all).into_owned()
}

fn status(answer: &str) -> u16 {
    let status = answer.strip_prefix("HTTP/1.1 ").or(answer.strip_prefix("HTTP/1.0 "));
    status.and_then(|rest| rest.get(..3)?.parse().ok()).unwrap_or_else(|| panic!("no answer: {answer:?}"))
}

/// The problem that an answer is.
fn problem(answer: &str) -> Problem {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {answer:?}"));
    assert!(head.to_lowercase().contains("\r\ncontent-type: application/problem+json"), "{answer}");
    let problem: Problem = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer:?}"));
    assert_eq!(problem.status, status(answer));
    problem
}

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
            scope.spawn(move || assert_eq!(status(&said(daemon, request.as_bytes())), expected))
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
        until_said(&stream, "event: attached");
        if half_closed {
            stream.shutdown(Shutdown::Write).unwrap();
            // What comes after shows that it was not left.
            daemon.ok(&["pin", "s"]);
            until_said(&stream, "session.updated");
        }
        assert_eq!(attached(), 1);
        drop(stream);
        until("it is detached", || (attached() == 0).then_some(()));
    }
}

#[test]
fn whatever_is_said_is_answered_and_with_a_problem_where_it_is_none_of_http() {
    let daemon = daemon("", "");
    daemon.ok(&["start", "--id", "s"]);
    let head = |line: &str, more: &str| format!("{line}\r\nHost: kennel\r\n{more}\r\n").into_bytes();
    let get = |path: &str| head(&format!("GET {path} HTTP/1.1"), "");
    let long = "x".repeat(100_000);
    let lines: String = (0..200).map(|n| format!("X-{n}: {n}\r\n")).collect();
    let json = "Content-Type: application/json\r\n";
    let refused: Vec<(Vec<u8>, &[u16])> = vec![
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
                head("POST /v1/sessions HTTP/1.1", &format!("{json}Transfer-Encoding: chunked\r\n")),
                b"zz\r\n".to_vec(),
            ]
            .concat(),
            &[400],
        ),
        (
            [head("POST /v1/sessions HTTP/1.1", &format!("{json}Content-Length: 100\r\n")), b"{".to_vec()]
                .concat(),
            &[400],
        ),
        (b"GET /v1/manager HTTP/1.1\r\nHost: ken".to_vec(), &[400]),
        (b"GET".to_vec(), &[400]),
    ];
    for (request, expected) in refused {
        let answer = said(&daemon, &request);
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
        assert_eq!(status(&said(&daemon, &request)), expected, "{:?}", String::from_utf8_lossy(&request));
    }
    let three = said(&daemon, &[get("/v1/manager"), get("/nowhere"), get("/v1/sessions/s")].concat());
    assert_eq!(three.matches("HTTP/1.1 ").count(), 3, "{three}");
    // A request that is none after one that is.
    let two = said(&daemon, &[get("/healthz"), b"GARBAGE\r\n\r\n".to_vec()].concat());
    assert!(two.starts_with("HTTP/1.1 200 ") && two.contains("HTTP/1.1 400 "), "{two}");
    // Who asks whether to send is told.
    let mut stream = connect(&daemon);
    let expects = format!("{json}Expect: 100-continue\r\nConnection: close\r\nContent-Length: 2\r\n");
    stream.write_all(&head("POST /v1/sessions HTTP/1.1", &expects)).unwrap();
    until_said(&stream, "HTTP/1.1 100 ");
    stream.write_all(b"{}").unwrap();
    assert_eq!(status(&rest(&stream)), 201);
    let expects = format!("{json}Expect: 100-continue\r\nContent-Length: 99000000\r\n");
    assert_eq!(problem(&said(&daemon, &head("POST /v1/sessions HTTP/1.1", &expects))).code, "body_too_large");
}

#[test]
fn a_head_without_end_is_answered_and_a_connection_that_rests_is_closed() {
    let daemon = daemon("head_timeout = \"300ms\"\nidle_timeout = \"300ms\"", "");
    let mut slow = connect(&daemon);
    slow.write_all(b"GET /v1/manager HTTP/1.1\r\nHost:").unwrap();
    assert_eq!(problem(&rest(&slow)).code, "request_timeout");
    // One that says nothing at all is left without a word.
    assert_eq!(rest(&connect(&daemon)), "");
    // Whether the answer was there at once or not.
    for path in ["/healthz", "/v1/manager", "/v1/sessions"] {
        let mut rests = connect(&daemon);
        write!(rests, "GET {path} HTTP/1.1\r\nHost: kennel\r\n\r\n").unwrap();
        let answer = rest(&rests);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    // One that begins a second request and does not end it.
    let mut second = connect(&daemon);
    second.write_all(b"GET /healthz HTTP/1.1\r\nHost: kennel\r\n\r\n").unwrap();
    until_said(&second, "\r\n\r\nok");
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
        until_said(&stream, "event: attached");
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

/// Memory of a process that is its own, in bytes.
fn memory(pid: u32) -> u64 {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
}

/// A reader of all events that has asked and not read.
fn subscribe(daemon: &Daemon, after: u64) -> UnixStream {
    ask_for_events(daemon, &format!("after={after}"))
}

fn ask_for_events(daemon: &Daemon, query: &str) -> UnixStream {
    let mut stream = connect(daemon);
    let request = format!("GET /v1/events?{query} HTTP/1.1\r\nHost: kennel\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

/// Ids of the events that come on a stream, up to this one. They are all there, whole, and each once.
fn ids_up_to(stream: UnixStream, last: u64) -> Vec<u64> {
    let mut reader = std::io::BufReader::new(Chunks::new(stream));
    let mut ids = Vec::new();
    let mut line = String::new();
    while ids.last() != Some(&last) {
        line.clear();
        if std::io::BufRead::read_line(&mut reader, &mut line).unwrap() == 0 {
            break;
        }
        if let Some(data) = line.strip_prefix("data: ") {
            let event: manager::protocol::event::Event = serde_json::from_str(data.trim_end()).unwrap();
            ids.push(event.id);
        }
    }
    ids
}

/// The body of an answer that comes in chunks.
struct Chunks {
    stream: std::io::BufReader<UnixStream>,
    left: usize,
}

impl Chunks {
    fn new(stream: UnixStream) -> Self {
        let mut stream = std::io::BufReader::new(stream);
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            assert!(std::io::BufRead::read_line(&mut stream, &mut line).unwrap() > 0, "no head");
        }
        Self { stream, left: 0 }
    }
}

impl Read for Chunks {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        if self.left == 0 {
            let mut line = String::new();
            while line.trim().is_empty() {
                line.clear();
                if std::io::BufRead::read_line(&mut self.stream, &mut line)? == 0 {
                    return Ok(0);
                }
            }
            self.left = usize::from_str_radix(line.trim(), 16).map_err(std::io::Error::other)?;
            if self.left == 0 {
                return Ok(0);
            }
        }
        let most = buf.len().min(self.left);
        let read = self.stream.read(&mut buf[..most])?;
        self.left -= read;
        Ok(read)
    }
}

/// An agent that takes what it is told, and says nothing of it.
const SINK: &str = "[agents.sink]\nkind = \"command\"\ncommand = [\"sh\", \"-c\", \"cat >/dev/null\"]\nprompt_via = \"stdin\"\n";

/// Sends a prompt whose event has about so many bytes, over a connection that is kept, and waits until it has run.
fn make_events(daemon: &Daemon, count: usize, bytes: usize) {
    let body = format!(r#"{{"text":"{}"}}"#, "x".repeat(bytes));
    let mut stream = connect(daemon);
    for _ in 0..count {
        let head = format!(
            "POST /v1/sessions/s/prompts HTTP/1.1\r\nHost: kennel\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body.as_bytes()).unwrap();
        let answer = until_said(&stream, "\"disposition\"");
        assert_eq!(status(&answer), 202, "{answer}");
        let wait = "GET /v1/sessions/s/wait?until=idle HTTP/1.1\r\nHost: kennel\r\n\r\n";
        stream.write_all(wait.as_bytes()).unwrap();
        let answer = until_said(&stream, "\"status\"");
        assert_eq!(status(&answer), 200, "{answer}");
    }
}

#[test]
fn readers_that_do_not_read_cost_nothing_and_miss_nothing() {
    let daemon = daemon("stall_timeout = \"1h\"", SINK);
    daemon.ok(&["start", "--id", "s", "--agent", "sink"]);
    daemon.idle("s");
    make_events(&daemon, 2, 1 << 20);
    let pid = daemon.pid();
    // Some are behind from the beginning, some stop where they are.
    let head = daemon.events().last().unwrap().id;
    let before = memory(pid);
    let mut readers: Vec<(u64, UnixStream)> =
        [0, head].into_iter().map(|after| (after, subscribe(&daemon, after))).collect();
    let mut most = 0;
    for round in 0..20 {
        if round == 10 {
            // These find much to catch up with.
            readers.extend([(0, subscribe(&daemon, 0)), (head, subscribe(&daemon, head))]);
        }
        make_events(&daemon, 10, 1_000_000);
        most = most.max(memory(pid));
    }
    let grown = most.saturating_sub(before) >> 20;
    assert!(grown < 64, "four readers that do not read cost {grown} MiB");
    // Not by the command line, which a build for tests lets print so much for longer than it may take.
    let all = ids_up_to(ask_for_events(&daemon, "after=0&follow=false"), u64::MAX);
    let last = *all.last().unwrap();
    assert!(all.is_sorted() && all.len() > 200, "{} events", all.len());
    for (after, stream) in readers {
        let expected: Vec<u64> = all.iter().copied().filter(|id| *id > after).collect();
        assert_eq!(ids_up_to(stream, last), expected);
    }
    let grown = memory(pid).saturating_sub(before) >> 20;
    assert!(grown < 64, "four readers that read on cost {grown} MiB");
}

#[test]
fn a_reader_that_takes_nothing_for_too_long_is_left_and_goes_on_where_it_was() {
    let daemon = daemon("stall_timeout = \"500ms\"", SINK);
    daemon.ok(&["start", "--id", "s", "--agent", "sink"]);
    daemon.idle("s");
    let stream = subscribe(&daemon, 0);
    make_events(&daemon, 4, 1_000_000);
    let open = || {
        let metrics = said(&daemon, b"GET /metrics HTTP/1.1\r\nHost: kennel\r\n\r\n");
        metrics.contains("kennel_event_streams 1\n")
    };
    until("it is left", || (!open()).then_some(()));
    let last = daemon.events().last().unwrap().id;
    // What the kernel had for it by then. The end of what was begun is missing, and is no event.
    let mut begun = Vec::new();
    let mut reader = std::io::BufReader::new(Chunks::new(stream));
    let mut line = String::new();
    while std::io::BufRead::read_line(&mut reader, &mut line).is_ok_and(|read| read > 0) {
        if let Some(data) = line.strip_prefix("data: ").and_then(|data| data.strip_suffix('\n')) {
            begun.push(serde_json::from_str::<manager::protocol::event::Event>(data).unwrap().id);
        }
        line.clear();
    }
    let seen = begun.last().copied().unwrap_or(0);
    assert!(seen > 0 && seen < last, "{seen} of {last}");
    let more = ids_up_to(subscribe(&daemon, seen), last);
    let all: Vec<u64> = daemon.events().iter().map(|event| event.id).collect();
    assert_eq!([begun, more].concat(), all);
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
            let small = said(
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
    // What is never ended is JSON without an end.
    let known: usize = ["overloaded", "invalid_json"].iter().filter_map(|code| counts.get(*code)).sum();
    assert_eq!(known, 100, "{counts:?}");
    assert!(counts.contains_key("invalid_json"), "{counts:?}");
    assert!(grown < 128, "{grown} MiB: {counts:?}");
}
