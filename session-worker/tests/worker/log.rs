//! The session's log: the worker alone writes it, and it stays within its bound.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command as Program;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use protocol::wire::{Agent, Command, Report};

use crate::harness::*;

/// The longest log, and what may be written at once.
const MOST: u64 = 8 << 20;
const PIECE: u64 = 64 << 10;

/// Lets a worker start an agent that lives between prompts: this script. Its words in the log of the worker are expected.
fn open(mut worker: Worker, script: &str) -> Worker {
    let argv = ["/bin/sh", "-c", script].map(str::to_owned).into();
    let papers = worker.papers(Agent::Acp { argv, login: None, mcp_servers: vec![] }, 1_000);
    assert!(matches!(worker.frame().unwrap().body, Report::Hello { .. }));
    worker.send_numbered(0, Command::Welcome(Box::new(papers)));
    worker.send(Command::Open { agent_session: None, conversation: false });
    worker
}

fn died(worker: &mut Worker) {
    worker.report_until(|report| matches!(report, Report::AgentDied { .. }));
}

#[test]
fn an_agent_can_neither_empty_nor_overwrite_nor_read_the_log_by_its_standard_error() {
    let mut worker = Worker::spawn();
    let log = worker.dir.path().join("log");
    fs::write(&log, "what an earlier one wrote\n").unwrap();
    // It leaves somebody behind who holds the pipe open: that is not waited for.
    let script = "echo said >&2; : > /proc/self/fd/2; echo forged 1<> /proc/self/fd/2; sleep 600 & \
                  readlink /proc/self/fd/2 >&2; kill -KILL $$";
    worker = open(worker, script);
    died(&mut worker);
    // All of it is there when the death is told.
    let log = worker.log();
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines[..3], ["what an earlier one wrote", "said", "forged"], "{log}");
    assert!(lines[3].starts_with("pipe:["), "{log}");
    worker.code();
    worker.assert_nothing_left();
}

#[test]
fn a_log_stays_within_its_bound_however_fast_it_grows() {
    let mut worker = Worker::spawn();
    let (log, beside) = (worker.dir.path().join("log"), worker.dir.path().join("log.1"));
    let (most, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let looks = std::thread::spawn({
        let (most, over, log, beside) = (Arc::clone(&most), Arc::clone(&over), log.clone(), beside.clone());
        move || {
            while !over.load(Ordering::Relaxed) {
                for file in [&log, &beside] {
                    most.fetch_max(fs::metadata(file).map_or(0, |found| found.len()), Ordering::Relaxed);
                }
            }
        }
    });
    worker = open(worker, "head -c 60000000 /dev/zero >&2; echo the end >&2");
    died(&mut worker);
    over.store(true, Ordering::Relaxed);
    looks.join().unwrap();
    let newest = fs::read(&log).unwrap();
    assert!(newest.ends_with(b"\0the end\n"));
    let most = most.load(Ordering::Relaxed);
    assert!(most > MOST / 2 && most <= MOST + PIECE, "{most} bytes");
    let kept = fs::metadata(&beside).unwrap();
    assert!(kept.len() <= MOST + PIECE && kept.len() > MOST - PIECE, "{} bytes", kept.len());
    assert_eq!(fs::metadata(&log).unwrap().mode() & 0o777, 0o600);
    worker.code();
    // What it says itself goes on in the new one.
    assert!(!fs::read(&beside).unwrap().ends_with(b"the end\n"));
}

#[test]
fn a_log_that_was_removed_is_emptied_and_no_file_by_its_name_is_touched() {
    let mut worker = Worker::spawn();
    let (log, other) = (worker.dir.path().join("log"), worker.dir.path().join("other"));
    let removed = File::open(&log).unwrap();
    fs::remove_file(&log).unwrap();
    fs::write(&other, "precious").unwrap();
    // Also by the name that the kernel has for it now.
    let names = [log.clone(), worker.dir.path().join("log (deleted)")];
    names.iter().for_each(|name| std::os::unix::fs::symlink(&other, name).unwrap());
    worker = open(worker, "head -c 20000000 /dev/zero >&2; echo the end >&2");
    died(&mut worker);
    let length = removed.metadata().unwrap().len();
    assert!(length > 0 && length <= MOST + PIECE, "{length} bytes");
    assert_eq!(fs::read(&other).unwrap(), b"precious");
    assert!(names.iter().all(|name| name.is_symlink()));
    fs::remove_file(&log).unwrap();
    fs::write(&log, "").unwrap();
    worker.code();
}

#[test]
fn an_agent_whose_log_nobody_can_write_does_not_wait() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("log"), "").unwrap();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let worker = Worker::spawn_with(Program::new(binary()), dir, full);
    let mut worker = open(worker, "head -c 3000000 /dev/zero >&2");
    died(&mut worker);
    worker.code();
}

#[test]
fn a_worker_that_was_a_spare_refuses_a_log_that_others_can_write() {
    let nothing = File::options().write(true).open("/dev/null").unwrap();
    let mut worker = Worker::spawn_with(Program::new(binary()), tempfile::tempdir().unwrap(), nothing);
    let argv = ["/bin/sh", "-c", "echo said >&2"].map(str::to_owned).into();
    let papers = worker.papers(Agent::Acp { argv, login: None, mcp_servers: vec![] }, 1_000);
    assert!(matches!(worker.frame().unwrap().body, Report::Hello { .. }));
    worker.send_numbered(0, Command::Welcome(Box::new(papers)));
    let log = worker.dir.path().join("log");
    let path = log.to_str().unwrap().to_owned();
    fs::write(&log, "planted\n").unwrap();
    for mode in [0o666, 0o620, 0o602] {
        fs::set_permissions(&log, fs::Permissions::from_mode(mode)).unwrap();
        worker.send(Command::Log { path: path.clone() });
        let why =
            format!("the log {path} cannot be opened: it is no file of this user's alone with one name");
        worker.report_until(|report| matches!(report, Report::Notice { text } if *text == why));
    }
    assert_eq!(worker.log(), "planted\n");
    fs::set_permissions(&log, fs::Permissions::from_mode(0o600)).unwrap();
    worker.send(Command::Log { path });
    worker.send(Command::Open { agent_session: None, conversation: false });
    died(&mut worker);
    assert!(worker.log().starts_with("planted\nsaid\n"), "{}", worker.log());
    worker.code();
}

/// An agent whose words are not taken: it says without end what becomes messages, and then writes to standard error.
const JAMMED: &str = r#"
said() { printf '{"jsonrpc":"2.0",%s}\n' "$1"; }
while read -r line; do
    id=${line#*\"id\":}; id=${id%%[,\}]*}
    case $line in
    *'"initialize"'*) said "\"id\":$id,\"result\":{\"protocolVersion\":1}";;
    *'"session/new"'*) said "\"id\":$id,\"result\":{\"sessionId\":\"s\"}";;
    *'"session/prompt"'*) break;;
    esac
done
update='"update":{"sessionUpdate":"agent_message_chunk","content":{"type":"text","text":"yes"}}'
yes "$(said "\"method\":\"session/update\",\"params\":{\"sessionId\":\"s\",$update}")" &
read -r line < go
head -c 3000000 /dev/zero >&2
: > done
wait
"#;

#[test]
fn standard_error_is_read_while_nobody_takes_what_the_agent_says() {
    let worker = Worker::spawn();
    let work = worker.workdir();
    nix::unistd::mkfifo(&*std::path::Path::new(&work).join("go"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut worker = open(worker, JAMMED);
    worker.report_until(|report| matches!(report, Report::Ready { .. }));
    worker.send(Command::Prompt { prompt: protocol::PromptId(1), text: "go".into(), history: vec![] });
    worker.report_until(|report| matches!(report, Report::Update { .. }));
    // From here on nobody reads. The worker takes no more of it once the pipe and what it keeps are full.
    let pid = worker.pid();
    let read = || {
        let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
        io.lines().find_map(|line| line.strip_prefix("rchar: ")?.parse::<u64>().ok()).unwrap_or(0)
    };
    let mut before = (0, 0);
    until("the worker to be full", || {
        let now = read();
        before = if now == before.0 { (now, before.1 + 1) } else { (now, 0) };
        before.1 > 50
    });
    fs::write(std::path::Path::new(&work).join("go"), "go\n").unwrap();
    until("all of standard error", || std::path::Path::new(&work).join("done").exists());
}
