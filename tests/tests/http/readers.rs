//! Readers of events that read slowly, late, or not at all.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use harness::daemon::Daemon;
use harness::real::*;

use super::{SINK, answer_to, connect, daemon, memory, read_until, status};

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

#[test]
fn a_quiet_stream_has_comments_unless_its_client_declines_them() {
    let daemon = daemon("", "");
    let begin = |header: &str| {
        let mut stream = connect(&daemon);
        let request = format!("GET /v1/events HTTP/1.1\r\nHost: kennel\r\n{header}\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let head = read_until(&stream, "\r\n\r\n");
        assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "{head}");
        stream
    };
    // The first is quiet for longer: its comment would be the first.
    let mut declines = begin("Kennel-Comments: no\r\n");
    let usual = begin("");
    read_until(&usual, "\r\n:\n\n\r\n");
    declines.set_nonblocking(true).unwrap();
    let heard = declines.read(&mut [0; 64]).unwrap_err();
    assert_eq!(heard.kind(), std::io::ErrorKind::WouldBlock);
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
        let answer = read_until(&stream, "\"disposition\"");
        assert_eq!(status(&answer), 202, "{answer}");
        let wait = "GET /v1/sessions/s/wait?until=idle HTTP/1.1\r\nHost: kennel\r\n\r\n";
        stream.write_all(wait.as_bytes()).unwrap();
        let answer = read_until(&stream, "\"status\"");
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
        let metrics = answer_to(&daemon, b"GET /metrics HTTP/1.1\r\nHost: kennel\r\n\r\n");
        metrics.contains("kennel_event_streams 1\n")
    };
    until("it is left", || (!open()).then_some(()));
    let last = daemon.events().last().unwrap().id;
    // The part that the kernel had for it by then. The end of the last event is missing, so that is no event.
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
