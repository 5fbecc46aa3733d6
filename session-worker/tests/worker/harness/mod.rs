//! A manager in miniature: starts the real worker, speaks frames with it, waits with a bound.

mod process;

use std::fs::{self, File};
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command as Program, ExitStatus, Stdio};
use std::time::Instant;

use protocol::frame::{self, Decoder};
use protocol::wire::{
    Agent, Command, Envelope, Exchange, FromWorker, PROTOCOL_VERSION, PromptVia, Report, Shelter, TurnEnd,
    Welcome,
};
use protocol::{Exit, PromptId, Stream};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::process::{Pid, PidfdFlags, Signal};

/// A grace that a test never waits out.
pub const LONG: u64 = 600_000;
pub const INCARNATION: u32 = 7;

pub use process::*;

/// Result of a turn.
#[derive(Debug, Default)]
pub struct Turn {
    pub pid: Option<u32>,
    pub stdout: String,
    pub stderr: String,
    pub end: Option<TurnEnd>,
    pub exit: Option<Exit>,
    pub left_behind: u32,
    pub notices: Vec<String>,
}

impl Turn {
    pub fn take(&mut self, report: Report) {
        match report {
            Report::TurnStarted { agent_pid, .. } => {
                assert!(self.pid.is_none() && self.stdout.is_empty() && self.stderr.is_empty());
                self.pid = Some(agent_pid);
            }
            Report::Output { stream, text, .. } => {
                assert!((1..=64 * 1024).contains(&text.len()));
                match stream {
                    Stream::Stdout => self.stdout += &text,
                    Stream::Stderr => self.stderr += &text,
                }
            }
            Report::TurnEnded { end, exit, left_behind, .. } => {
                self.end = Some(end);
                self.exit = exit;
                self.left_behind = left_behind;
            }
            Report::Notice { text } => self.notices.push(text),
            // Before the first turn.
            Report::Program { .. } => {}
            other => panic!("not of a turn: {other:?}"),
        }
    }
}

pub struct Worker {
    child: Child,
    pub to: Option<ChildStdin>,
    pub from: Option<ChildStdout>,
    decoder: Decoder,
    seq: u64,
    heard: u64,
    pub dir: tempfile::TempDir,
    pub marker: String,
}

pub fn binary() -> &'static str {
    env!("CARGO_BIN_EXE_session-worker")
}

impl Worker {
    /// A worker that has said nothing yet.
    pub fn spawn() -> Self {
        Self::spawn_by(Program::new(binary()))
    }

    pub fn spawn_by(program: Program) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = File::options().create(true).append(true).open(dir.path().join("log"));
        Self::spawn_with(program, dir, log.unwrap())
    }

    /// Starts a worker whose log is this file.
    pub fn spawn_with(mut program: Program, dir: tempfile::TempDir, log: File) -> Self {
        program.stdin(Stdio::piped()).stdout(Stdio::piped());
        program.stderr(log);
        let end = Instant::now() + BOUND;
        let mut child = loop {
            match program.spawn() {
                // A copy of the program that was just written: another test forked meanwhile, and its child has the
                // file open until it executes its own (execve(2), ETXTBSY).
                Err(error) if error.kind() == ErrorKind::ExecutableFileBusy && Instant::now() < end => {
                    std::thread::yield_now();
                }
                spawned => break spawned.unwrap(),
            }
        };
        Self {
            to: child.stdin.take(),
            from: child.stdout.take(),
            child,
            decoder: Decoder::default(),
            seq: 0,
            heard: 0,
            marker: format!("test/{}/1", dir.path().display()),
            dir,
        }
    }

    /// A worker that is ready.
    pub fn ready(agent: Agent) -> Self {
        let mut worker = Self::spawn();
        worker.welcome(agent, LONG);
        worker
    }

    pub fn shell() -> Self {
        Self::ready(Agent::Shell)
    }

    pub fn papers(&self, agent: Agent, grace_ms: u64) -> Welcome {
        Welcome {
            protocol: PROTOCOL_VERSION,
            session: "session-1".parse().unwrap(),
            resume_from: 0,
            marker: self.marker.clone(),
            workdir: self.workdir(),
            env: vec![("PATH".into(), "/usr/bin:/bin".into())],
            agent,
            grace_ms,
        }
    }

    pub fn workdir(&self) -> String {
        self.dir.path().to_str().unwrap().into()
    }

    /// Takes Hello, gives the papers, takes Ready.
    pub fn welcome(&mut self, agent: Agent, grace_ms: u64) {
        let papers = self.papers(agent, grace_ms);
        self.welcome_with(papers);
    }

    pub fn welcome_with(&mut self, papers: Welcome) -> Report {
        let hello = self.frame().expect("Hello");
        assert_eq!((hello.incarnation, hello.seq, hello.ack), (0, 0, 0));
        assert!(
            matches!(hello.body, Report::Hello { protocol: PROTOCOL_VERSION, resume_from: 0, .. }),
            "{hello:?}"
        );
        self.send_numbered(0, Command::Welcome(Box::new(papers)));
        let ready = self.report();
        assert!(matches!(ready, Report::Ready { agent_pid: None, .. }), "{ready:?}");
        ready
    }

    /// A worker that outlives its manager.
    pub fn sheltered(change: impl FnOnce(&mut Shelter)) -> Self {
        let mut worker = Self::shell();
        let mut papers = worker.shelter();
        change(&mut papers);
        // As for an agent that lives between prompts.
        worker.send(Command::RestoreWithin(LONG));
        worker.send(Command::Settings(Vec::new()));
        worker.send(Command::Shelter(papers));
        until("its door is open", || Path::new(&worker.path("door")).exists());
        worker
    }

    pub fn shelter(&self) -> Shelter {
        Shelter {
            socket: self.path("door"),
            secret: [7; 32],
            spool: self.path("spool"),
            spool_bytes: 1 << 20,
            turn_ms: LONG,
            idle_ms: LONG,
        }
    }

    pub fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().into()
    }

    /// The manager dies, with what it has read and not recorded: all after `recorded`.
    pub fn desert(&mut self, recorded: u64) {
        (self.to, self.from, self.decoder) = (None, None, Decoder::default());
        self.heard = recorded;
    }

    pub fn heard(&self) -> u64 {
        self.heard
    }

    /// The next manager comes, and shows what it knows.
    pub fn visit(&mut self, secret: &[u8]) {
        let (their_input, to) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let (from, their_output) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let door = UnixStream::connect(self.path("door")).unwrap();
        let handed = [their_input.as_fd(), their_output.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&handed)));
        sendmsg(&door, &[IoSlice::new(secret)], &mut ancillary, SendFlags::NOSIGNAL).unwrap();
        (self.to, self.from) = (Some(to.into()), Some(from.into()));
    }

    /// The next manager comes, and gives what was said while there was none: the reports of this turn.
    pub fn come_back(&mut self, turn: &mut Turn) {
        self.visit(&[7; 32]);
        self.resume().into_iter().for_each(|report| turn.take(report));
    }

    /// Reports from the time without a manager, once the worker has answered the next manager.
    pub fn resume(&mut self) -> Vec<Report> {
        let hello = self.frame().expect("Hello");
        let Report::Hello { resume_from, .. } = hello.body else { panic!("{hello:?}") };
        assert_eq!((hello.incarnation, hello.seq), (INCARNATION, 0));
        self.seq = resume_from;
        let mut said = Vec::new();
        for frame in self.spooled() {
            if frame.seq > self.heard {
                assert_eq!(frame.seq, self.heard + 1, "numbers without gaps");
                self.heard = frame.seq;
                said.push(frame.body);
            }
        }
        said
    }

    /// All reports up to this one.
    pub fn report_until(&mut self, wanted: impl Fn(&Report) -> bool) -> Vec<Report> {
        let mut reports = vec![self.report()];
        while !wanted(&reports[reports.len() - 1]) {
            reports.push(self.report());
        }
        reports
    }

    /// Bytes of the spool: none before something was said to nobody.
    pub fn spool(&self) -> Vec<u8> {
        fs::read(self.path("spool")).unwrap_or_default()
    }

    /// Frames in the spool.
    pub fn spooled(&self) -> Vec<FromWorker> {
        let mut decoder = Decoder::default();
        decoder.feed(&self.spool());
        let frames = std::iter::from_fn(|| decoder.take().unwrap()).collect();
        decoder.finish().unwrap();
        frames
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn send(&mut self, command: Command) {
        self.seq += 1;
        self.send_numbered(self.seq, command);
    }

    pub fn send_numbered(&mut self, seq: u64, body: Command) {
        let mut bytes = Vec::new();
        let envelope = Envelope { incarnation: INCARNATION, seq, ack: self.heard, body };
        frame::encode(&envelope, &mut bytes).unwrap();
        self.send_bytes(&bytes);
    }

    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.to.as_mut().unwrap().write_all(bytes).unwrap();
    }

    pub fn prompt(&mut self, n: u64, text: &str) {
        self.prompt_with(n, text, vec![]);
    }

    pub fn prompt_with(&mut self, n: u64, text: &str, history: Vec<Exchange>) {
        self.send(Command::Prompt { prompt: PromptId(n), text: text.into(), history });
    }

    pub fn abort(&mut self, n: u64) {
        self.send(Command::Abort { prompt: PromptId(n) });
    }

    /// The next frame; `None` at the end of the pipe.
    pub fn frame(&mut self) -> Option<FromWorker> {
        let deadline = Instant::now() + BOUND;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            if let Some(message) = self.decoder.take().unwrap() {
                return Some(message);
            }
            let from = self.from.as_mut().unwrap();
            assert!(readable(&*from, deadline), "the worker says nothing; log: {}", self.log());
            let n = from.read(&mut buffer).unwrap();
            if n == 0 {
                self.decoder.finish().unwrap();
                return None;
            }
            self.decoder.feed(&buffer[..n]);
        }
    }

    /// The next report, which must be the next number of this incarnation.
    pub fn report(&mut self) -> Report {
        let frame = self.frame().expect("the pipe ended");
        assert_eq!(frame.incarnation, INCARNATION);
        assert_eq!(frame.seq, self.heard + 1, "numbers without gaps");
        assert!(frame.ack <= self.seq);
        self.heard = frame.seq;
        // An agent that lives between prompts has no exit status, and stays.
        if let Report::TurnEnded { exit: Some(_), .. } = frame.body {
            self.assert_nothing_left();
        }
        frame.body
    }

    /// Reads on to the end of the turn.
    pub fn turn(&mut self) -> Turn {
        let mut turn = Turn::default();
        while turn.end.is_none() {
            self.turn_report(&mut turn);
        }
        turn
    }

    /// Reads on until `stdout` of the turn satisfies `enough`.
    pub fn turn_until(&mut self, enough: impl Fn(&str) -> bool) -> Turn {
        let mut turn = Turn::default();
        while !enough(&turn.stdout) {
            assert!(turn.end.is_none(), "the turn ended: {turn:?}");
            self.turn_report(&mut turn);
        }
        turn
    }

    pub fn turn_report(&mut self, turn: &mut Turn) {
        turn.take(self.report());
    }

    pub fn run(&mut self, n: u64, text: &str) -> Turn {
        self.prompt(n, text);
        self.turn()
    }

    /// The worker's exit, after which nothing marked lives.
    pub fn exit(&mut self) -> ExitStatus {
        Watch::pid(self.child.id()).wait_gone();
        let status = self.child.wait().unwrap();
        self.assert_nothing_left();
        status
    }

    pub fn code(&mut self) -> i32 {
        let status = self.exit();
        status.code().unwrap_or_else(|| panic!("{status}; log: {}", self.log()))
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    /// Living processes that carry the worker's marker.
    pub fn left(&self) -> Vec<(i32, String)> {
        marked(&self.marker)
    }

    pub fn assert_nothing_left(&self) {
        let left = self.left();
        assert!(left.is_empty(), "left behind: {left:?}");
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Only what a failed test left: a worker that still runs, and what carries its marker.
        let _ = self.child.kill();
        let _ = self.child.wait();
        for (pid, _) in marked(&self.marker) {
            let pid = Pid::from_raw(pid).unwrap();
            if let Ok(pidfd) = rustix::process::pidfd_open(pid, PidfdFlags::empty())
                && marked(&self.marker).iter().any(|(again, _)| *again == pid.as_raw_pid())
            {
                let _ = rustix::process::pidfd_send_signal(&pidfd, Signal::KILL);
            }
        }
    }
}

pub fn command(argv: &[&str], prompt_via: PromptVia, transcript: bool) -> Agent {
    Agent::Command { argv: argv.iter().map(|arg| (*arg).to_owned()).collect(), prompt_via, transcript }
}

/// The number after `word` in `text`.
pub fn number_after(text: &str, word: &str) -> u32 {
    let mut words = text.split_ascii_whitespace();
    words.find(|each| *each == word).expect("the word");
    words.next().unwrap().parse().unwrap()
}

/// Writes a script. Another process does: a thread of this one that starts a program meanwhile would hold the file open for writing,
/// and the kernel runs no such file (execve(2), ETXTBSY).
pub fn script(path: &Path, text: &str) {
    use std::io::Write;
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "cat >\"$0\" && chmod 755 \"$0\""]).arg(path).stdin(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{}", path.display());
}

/// Copies the worker's program, by another process as well.
pub fn copy_worker(to: &Path) {
    let mut command = std::process::Command::new("install");
    let mut copy = command.args(["-m", "755", "--"]).arg(binary()).arg(to).spawn().unwrap();
    assert!(copy.wait().unwrap().success(), "{}", to.display());
}
