//! The daemon under measurement, in a process of its own, and the leanest of clients: what is measured is the
//! daemon, so requests are made once and answers are read without being understood.

use std::fs;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use harness::real::{kennel, kill};
use manager::client::{Client, Request};
use protocol::SessionId;
use protocol::event::{Event, EventKind};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// How long anything may take.
pub const BOUND: Duration = Duration::from_secs(120);
/// How many requests are under way at once where many sessions are started.
const STARTERS: usize = 32;

/// A daemon over a directory of its own. Killed when dropped, and its workers then leave by themselves.
pub struct Host {
    /// Beside the state there is room for floors that need the same file system.
    pub dir: tempfile::TempDir,
    child: Child,
    client: Client,
}

/// A session that is ready, and its worker.
#[derive(Clone, Debug)]
pub struct Ready {
    /// The session.
    pub id: SessionId,
    /// The worker.
    pub pid: u32,
}

impl Host {
    /// Starts one, and waits until it answers.
    pub async fn start() -> Self {
        Self::over(tempfile::tempdir().unwrap()).await
    }

    /// Ends it in order, lets `between` change its state directory, and starts another over it.
    pub async fn again(mut self, between: impl FnOnce(&std::path::Path)) -> Self {
        self.stop().await;
        let dir = std::mem::replace(&mut self.dir, tempfile::tempdir().unwrap());
        between(&dir.path().join("state"));
        Self::over(dir).await
    }

    async fn over(dir: tempfile::TempDir) -> Self {
        let socket = dir.path().join("s");
        std::fs::write(dir.path().join("config.toml"), "").unwrap();
        let child = Command::new(kennel())
            .args(["daemon", "run"])
            .env("KENNEL_STATE_DIR", dir.path().join("state"))
            .env("KENNEL_SOCKET", &socket)
            .env("KENNEL_CONFIG", dir.path().join("config.toml"))
            .env_remove(protocol::MARKER)
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(dir.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let host = Self { dir, child, client: Client::new(socket) };
        let begin = Instant::now();
        while host.client.ask(&Request::get("/v1/manager")).await.is_err() {
            assert!(begin.elapsed() < BOUND, "the daemon does not answer");
            pause(5).await;
        }
        host
    }

    /// The daemon's process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks once.
    pub async fn ask(&self, request: Request) -> Vec<u8> {
        self.client.ask(&request).await.unwrap_or_else(|error| panic!("{request:?}: {error:?}")).to_vec()
    }

    /// Where it listens.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("s")
    }

    /// A `kennel` command that finds the daemon by the state directory, as commands do.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(kennel());
        command.args(args).env("KENNEL_STATE_DIR", self.dir.path().join("state")).env_remove("KENNEL_SOCKET");
        command
    }

    /// The last event's id.
    pub async fn head(&self) -> u64 {
        let info: protocol::api::ManagerInfo =
            serde_json::from_slice(&self.ask(Request::get("/v1/manager")).await).unwrap();
        info.last_event_id
    }

    /// A connection that is kept.
    pub async fn wire(&self) -> Wire {
        Wire::open(&self.client.socket().unwrap()).await
    }

    /// All events from now on.
    pub async fn tap(&self) -> Tap {
        self.tap_at("/v1/events").await
    }

    /// A stream of events, once it has begun.
    pub async fn tap_at(&self, path: &str) -> Tap {
        let mut stream = UnixStream::connect(self.client.socket().unwrap()).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: kennel\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut tap = Tap { stream, held: Vec::new(), kind: Vec::new() };
        // The headers come at once, the body when there is an event.
        while !tap.held.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
            assert!(tap.stream.read_buf(&mut tap.held).await.unwrap() > 0, "no stream of events");
        }
        assert!(tap.held.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&tap.held));
        tap
    }

    /// The body that starts a session which never leaves by itself and is restarted at once unless it dies
    /// twice within a second.
    pub fn opts(&self) -> String {
        let dir = self.dir.path().display();
        format!(
            r#"{{"workdir":"{dir}","hibernate_after_ms":0,"restart":"permanent","intensity":1000,"period_ms":1000}}"#
        )
    }

    /// Starts this many sessions; how long until all of them are ready.
    pub async fn sessions(&self, count: usize) -> (Vec<Ready>, Duration) {
        let mut tap = self.tap().await;
        let mut wires = Vec::new();
        for _ in 0..STARTERS.min(count) {
            wires.push(self.wire().await);
        }
        let starters = wires.len();
        let request = request("POST", "/v1/sessions", &self.opts());
        let begin = Instant::now();
        let asking = wires.into_iter().enumerate().map(|(n, mut wire)| {
            let request = &request;
            async move {
                for _ in (n..count).step_by(starters) {
                    wire.done(request).await;
                }
            }
        });
        let ready = async {
            let mut all = Vec::new();
            let every = |kind: &[u8], data: &[u8]| {
                // With no room for a process at first, it comes up as a restart.
                if matches!(kind, b"session.ready" | b"session.restarted") {
                    all.push(came_up(data));
                }
                all.len() == count
            };
            tap.until(every).await;
            (all, begin.elapsed())
        };
        tokio::join!(futures_util::future::join_all(asking), ready).1
    }

    /// Stops these sessions, some at once.
    pub async fn stopped(&self, sessions: &[Ready]) {
        let stopping = (0..STARTERS).map(|n| async move {
            let mut wire = self.wire().await;
            for session in sessions.iter().skip(n).step_by(STARTERS) {
                wire.done(&request("POST", &format!("/v1/sessions/{}/stop", session.id), "")).await;
            }
        });
        futures_util::future::join_all(stopping).await;
    }

    /// Ends it in order; how long until the last of these sessions' processes is dead, and how long until the daemon is.
    pub fn ended(mut self, sessions: &[Ready]) -> (Duration, Duration) {
        let held = |pid: u32| {
            let pid = Pid::from_raw(pid.cast_signed()).unwrap();
            pidfd_open(pid, PidfdFlags::empty()).unwrap()
        };
        let (daemon, workers) =
            (held(self.pid()), sessions.iter().map(|session| held(session.pid)).collect::<Vec<OwnedFd>>());
        let mut stream = std::os::unix::net::UnixStream::connect(self.socket()).unwrap();
        let begin = Instant::now();
        stream.write_all(&request("POST", "/v1/manager/stop", "")).unwrap();
        // Whoever dies first is seen late, and the last in time.
        workers.iter().for_each(|worker| dead(worker, begin));
        let gone = begin.elapsed();
        dead(&daemon, begin);
        let took = begin.elapsed();
        self.child.wait().unwrap();
        (gone, took)
    }

    /// Ends it in order.
    pub async fn end(mut self) {
        self.stop().await;
    }

    async fn stop(&mut self) {
        self.ask(Request::post("/v1/manager/stop")).await;
        let begin = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            assert!(begin.elapsed() < BOUND, "the daemon does not end");
            pause(2).await;
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            kill(self.child.id());
            let _ = self.child.wait();
        }
    }
}

/// Waits for the death of a process.
fn dead(process: &OwnedFd, begin: Instant) {
    let bound = BOUND.saturating_sub(begin.elapsed());
    let bound = Timespec { tv_sec: bound.as_secs().cast_signed(), tv_nsec: 0 };
    assert_eq!(poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&bound)), Ok(1), "not within {BOUND:?}");
}

/// The session and the worker that an event says is ready.
pub fn came_up(data: &[u8]) -> Ready {
    let event: Event = serde_json::from_slice(data).unwrap();
    let pid = match event.kind {
        EventKind::SessionReady { pid, .. } | EventKind::SessionRestarted { new_pid: pid, .. } => pid,
        other => panic!("{other:?} says of nobody that it is ready"),
    };
    Ready { id: event.session.unwrap(), pid }
}

/// A request as it goes over the wire.
pub fn request(method: &str, path: &str, body: &str) -> Vec<u8> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: kennel\r\n");
    if !body.is_empty() {
        head += &format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len());
    }
    format!("{head}\r\n{body}").into_bytes()
}

/// A connection over which one request follows the other.
pub struct Wire {
    stream: UnixStream,
    held: Vec<u8>,
}

impl Wire {
    /// To this socket.
    pub async fn open(socket: &std::path::Path) -> Self {
        Self { stream: UnixStream::connect(socket).await.unwrap(), held: Vec::new() }
    }

    /// Asks, and reads the whole answer; its first line.
    pub async fn ask(&mut self, request: &[u8]) -> String {
        self.stream.write_all(request).await.unwrap();
        self.held.clear();
        let body = loop {
            assert!(self.stream.read_buf(&mut self.held).await.unwrap() > 0, "the connection ended");
            if let Some(end) = self.held.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break end + 4;
            }
        };
        let head = std::str::from_utf8(&self.held[..body]).unwrap();
        let first = head.lines().next().unwrap_or_default().to_owned();
        if head.contains("transfer-encoding: chunked") {
            while !self.held.ends_with(b"\r\n0\r\n\r\n") {
                assert!(self.stream.read_buf(&mut self.held).await.unwrap() > 0, "the connection ended");
            }
            return first;
        }
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.map_or(0, |length| length.parse().unwrap());
        while self.held.len() < body + length {
            assert!(self.stream.read_buf(&mut self.held).await.unwrap() > 0, "the connection ended");
        }
        first
    }

    /// Asks for something that must be done; how long the answer took.
    pub async fn done(&mut self, request: &[u8]) -> Duration {
        let begin = Instant::now();
        let first = self.ask(request).await;
        assert!(first.starts_with("HTTP/1.1 20"), "{first}: {}", String::from_utf8_lossy(&self.held));
        begin.elapsed()
    }
}

/// A stream of events, cut into lines and not decoded.
pub struct Tap {
    stream: UnixStream,
    held: Vec<u8>,
    kind: Vec<u8>,
}

impl Tap {
    /// Reads once, and gives each event's type and data; false at the end of the stream.
    pub async fn more(&mut self, mut each: impl FnMut(&[u8], &[u8])) -> bool {
        self.held.reserve(64 * 1024);
        if self.stream.read_buf(&mut self.held).await.unwrap() == 0 {
            return false;
        }
        let mut rest = &self.held[..];
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line = &rest[..end];
            rest = &rest[end + 1..];
            // Lines of the chunked encoding and of the headers are none of ours.
            if let Some(kind) = line.strip_prefix(b"event: ") {
                self.kind.clear();
                self.kind.extend_from_slice(kind);
            } else if let Some(data) = line.strip_prefix(b"data: ") {
                each(&self.kind, data);
            }
        }
        let left = rest.len();
        self.held.drain(..self.held.len() - left);
        true
    }

    /// Reads until `done` has said so of an event.
    pub async fn until(&mut self, mut done: impl FnMut(&[u8], &[u8]) -> bool) {
        let reading = async {
            let mut over = false;
            while !over {
                let more = self.more(|kind, data| over |= done(kind, data)).await;
                assert!(more || over, "the stream of events ended");
            }
        };
        assert!(tokio::time::timeout(BOUND, reading).await.is_ok(), "not within {BOUND:?}");
    }
}

/// Lets time pass, in milliseconds.
pub async fn pause(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

fn proc(pid: u32, file: &str) -> String {
    fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default()
}

fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// A process's proportional share of memory, in KiB.
pub fn pss(pid: u32) -> f64 {
    field(&proc(pid, "smaps_rollup"), "Pss:") as f64
}

/// The memory of a process that it has written to and shares with nobody, in KiB.
pub fn written(pid: u32) -> f64 {
    field(&proc(pid, "smaps_rollup"), "Private_Dirty:") as f64
}

fn threads(pid: u32) -> Vec<PathBuf> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"));
    tasks.map(|tasks| tasks.flatten().map(|task| task.path()).collect()).unwrap_or_default()
}

/// The time that a process's threads have run, in milliseconds.
pub fn cpu_ms(pid: u32) -> f64 {
    let ran = |task: &PathBuf| fs::read_to_string(task.join("schedstat")).unwrap_or_default();
    let ns = |text: String| text.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or(0.0);
    threads(pid).iter().map(ran).map(ns).sum::<f64>() / 1e6
}

/// How often a process's threads have gone off a processor, and so on to one.
pub fn switches(pid: u32) -> f64 {
    let status = |task: &PathBuf| fs::read_to_string(task.join("status")).unwrap_or_default();
    let count =
        |text: String| field(&text, "voluntary_ctxt_switches:") + field(&text, "nonvoluntary_ctxt_switches:");
    threads(pid).iter().map(status).map(count).sum::<u64>() as f64
}
