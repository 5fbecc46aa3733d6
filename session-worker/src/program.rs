//! A program below the worker, started by way of the trampoline (`exec_agent.rs`).

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use protocol::wire::Welcome;
use protocol::{Exit, Level, MARKER};
use rustix::io::FdFlags;
use rustix::pipe::PipeFlags;
use rustix::process::Pid;
use tokio::net::unix::pipe;

use crate::exec_agent::Contain;
use crate::limits;
use crate::link::is_transient;
use crate::namespace::Word;
use crate::sandbox;

/// The trampoline's message is shorter than this (a path and an error text).
const STATUS: usize = 8 * 1024;
/// What is told of a program that did not come to run and of which nothing was said.
const NOT_MADE: &[u8] = b"cannot prepare the agent's process: what it was to run in was not made; why may stand in the session's log";

/// What is to be run, beside what all programs of a session share.
pub struct Plan<'a> {
    /// The program and its arguments.
    pub argv: &'a [String],
    /// Where it runs.
    pub workdir: &'a str,
    /// Added to the session's environment.
    pub env: &'a [(String, String)],
    /// Its standard input.
    pub stdin: Stdio,
    /// Its standard output.
    pub stdout: Stdio,
    /// Its standard error.
    pub stderr: Stdio,
}

/// What the trampoline says: whether the program runs; and what the first process of a namespace says after that.
#[derive(Debug)]
pub struct Start {
    /// What is the worker's child: the program itself, or what keeps its namespace.
    child: Pid,
    /// `None` once nothing more will be said.
    pipe: Option<pipe::Receiver>,
    message: Vec<u8>,
    /// It runs in a namespace of its own or not at all.
    demanded: bool,
    /// Whether it is known if the program runs, and whether that was told.
    known: bool,
    told: bool,
    inside: Option<Inside>,
    exit: Option<Exit>,
}

/// What is known of a program in a namespace of its own.
#[derive(Clone, Copy, Debug)]
struct Inside {
    agent: Pid,
    init: Pid,
    own_proc: bool,
}

/// The trampoline, still without what it is to be given: descriptors, environment.
pub fn trampoline(inherited: i32, contain: &Contain, workdir: &str, argv: &[String]) -> Command {
    let (how, walls) = match contain {
        Contain::Within(walls) => sandbox::words(walls, workdir, argv),
        Contain::No => ("no".to_owned(), Vec::new()),
        Contain::IfPossible => ("if-possible".to_owned(), Vec::new()),
        Contain::Must => ("must".to_owned(), Vec::new()),
    };
    // The kernel's link to our own program: right also when an upgrade has deleted the file.
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0("session-worker")
        .args(limits::words())
        .arg("exec-agent")
        .arg(std::process::id().to_string())
        .arg(inherited.to_string())
        .arg(how)
        .arg(workdir)
        .arg("--")
        .args(walls)
        .args(argv);
    command
}

/// Starts a program. Its process is a child of the worker from here on, whatever becomes of it.
pub fn start(welcome: &Welcome, contain: &Contain, plan: Plan<'_>) -> io::Result<(Pid, Start)> {
    // All that can fail comes before the child exists.
    let (status, inherited) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    let status = pipe::Receiver::from_owned_fd(status)?;
    // The one descriptor that the trampoline inherits beside 0, 1 and 2. Nothing else spawns meanwhile.
    rustix::io::fcntl_setfd(&inherited, FdFlags::empty())?;
    let mut command = trampoline(inherited.as_raw_fd(), contain, plan.workdir, plan.argv);
    command
        .env_clear()
        .envs(welcome.env.iter().chain(plan.env).map(|(name, value)| (name, value)))
        .env(MARKER, &welcome.marker)
        .stdin(plan.stdin)
        .stdout(plan.stdout)
        .stderr(plan.stderr);
    let child = Pid::from_child(&command.spawn()?);
    let (message, inside, exit, demanded) = (Vec::new(), None, None, contain.is_demanded());
    let (known, told) = (false, false);
    Ok((child, Start { child, pipe: Some(status), message, demanded, known, told, inside, exit }))
}

impl Start {
    /// Whether it is not known yet if the program runs.
    pub fn is_open(&self) -> bool {
        !self.known
    }

    /// Resolves when [`Start::read`] may have something.
    pub async fn readable(&self) {
        match &self.pipe {
            Some(pipe) => drop(pipe.readable().await),
            None => std::future::pending().await,
        }
    }

    /// Reads what there is. Whether the program runs, once that is known; told once.
    pub fn read(&mut self) -> Option<bool> {
        let mut buffer = [0; 1024];
        while let Some(pipe) = &self.pipe {
            match pipe.try_read(&mut buffer) {
                Err(error) if is_transient(&error) => break,
                Ok(n) if n > 0 => self.hear(&buffer[..n]),
                Ok(_) | Err(_) => self.close(),
            }
        }
        self.tell()
    }

    /// The same when the process is dead, whatever the runtime knows of the pipe.
    pub fn finish(&mut self) -> Option<bool> {
        self.hear_out();
        self.tell()
    }

    fn hear_out(&mut self) {
        let mut buffer = [0; 1024];
        while let Some(pipe) = &self.pipe {
            match rustix::io::read(pipe, &mut buffer) {
                Ok(n) if n > 0 => self.hear(&buffer[..n]),
                Err(rustix::io::Errno::INTR) => {}
                Ok(_) | Err(_) => self.close(),
            }
        }
    }

    /// Why the program does not run, if the trampoline has said so.
    pub fn failure(&self) -> Option<String> {
        (!self.message.is_empty()).then(|| String::from_utf8_lossy(&self.message).into_owned())
    }

    /// The program's own process, once that is known.
    pub fn pid(&self) -> Pid {
        self.inside.map_or(self.child, |inside| inside.agent)
    }

    /// How the program ended, where something outlives it that says so.
    pub fn exit(&self) -> Option<Exit> {
        self.exit
    }

    /// How it ended, if our child has ended so.
    pub fn exit_of_child(&mut self, exit: Exit) -> Exit {
        // All that was said before is there.
        self.hear_out();
        self.exit.unwrap_or(exit)
    }

    /// What holds it; none where it does not run.
    pub fn level(&self) -> Option<Level> {
        match (&self.inside, self.known && self.message.is_empty()) {
            (Some(Inside { own_proc: true, .. }), _) => Some(Level::PidNamespace),
            (Some(Inside { own_proc: false, .. }), _) => Some(Level::PidNamespaceSharedProc),
            (None, true) => Some(Level::Subreaper),
            (None, false) => None,
        }
    }

    /// Whether this process is there for the program and not by it.
    pub fn keeps(&self, pid: Pid) -> bool {
        self.inside.is_some_and(|inside| pid == self.child || pid == inside.init)
    }

    fn hear(&mut self, bytes: &[u8]) {
        let room = STATUS.saturating_sub(self.message.len());
        self.message.extend_from_slice(&bytes[..bytes.len().min(room)]);
        while let Some(end) = self.message.iter().position(|byte| *byte == b'\n') {
            let Some(word) = std::str::from_utf8(&self.message[..end]).ok().and_then(Word::parse) else {
                return;
            };
            self.message.drain(..=end);
            match word {
                Word::Runs { agent, init, own_proc } => {
                    (self.inside, self.known) = (Some(Inside { agent, init, own_proc }), true);
                }
                Word::Ended(exit) => self.exit = Some(exit),
            }
        }
    }

    fn close(&mut self) {
        if self.demanded && self.inside.is_none() && self.message.is_empty() {
            self.message = NOT_MADE.into();
        }
        (self.pipe, self.known) = (None, true);
    }

    fn tell(&mut self) -> Option<bool> {
        let news = self.known && !std::mem::replace(&mut self.told, self.known);
        news.then_some(self.message.is_empty())
    }
}
