//! HTTP as strangers speak it: over a socket of their own, badly, slowly, in great numbers, or without listening.

mod connections;
mod readers;
mod requests;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use harness::daemon::Daemon;
use harness::real::*;
use manager::protocol::api::Problem;

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

/// Returns the answer to these bytes.
fn answer_to(daemon: &Daemon, request: &[u8]) -> String {
    let mut stream = connect(daemon);
    // It may be refused before all of it was read.
    let _ = stream.write_all(request);
    let _ = stream.shutdown(Shutdown::Write);
    rest(&stream)
}

/// Reads until these words have arrived.
fn read_until(mut stream: &UnixStream, words: &str) -> String {
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

/// Memory of a process that is its own, in bytes.
fn memory(pid: u32) -> u64 {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
}

/// An agent that reads its prompt and prints nothing.
const SINK: &str = "[agents.sink]\nkind = \"command\"\ncommand = [\"sh\", \"-c\", \"cat >/dev/null\"]\nprompt_via = \"stdin\"\n";
