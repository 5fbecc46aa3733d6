//! A program below the worker, started by way of the trampoline (`exec_agent.rs`).

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use protocol::MARKER;
use protocol::wire::Welcome;
use rustix::io::FdFlags;
use rustix::pipe::PipeFlags;
use rustix::process::Pid;
use tokio::net::unix::pipe;

use crate::link::is_transient;

/// The trampoline's message is shorter than this (a path and an error text).
const STATUS: usize = 8 * 1024;

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

/// What the trampoline says: whether the program runs.
#[derive(Debug)]
pub struct Start {
    /// `None` once it is known.
    pipe: Option<pipe::Receiver>,
    message: Vec<u8>,
}

/// Starts a program. Its process is a child of the worker from here on, whatever becomes of it.
pub fn start(welcome: &Welcome, plan: Plan<'_>) -> io::Result<(Pid, Start)> {
    // All that can fail comes before the child exists.
    let (status, inherited) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    let status = pipe::Receiver::from_owned_fd(status)?;
    // The one descriptor that the trampoline inherits beside 0, 1 and 2. Nothing else spawns meanwhile.
    rustix::io::fcntl_setfd(&inherited, FdFlags::empty())?;
    // The kernel's link to our own program: right also when an upgrade has deleted the file.
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0("session-worker")
        .arg("exec-agent")
        .arg(std::process::id().to_string())
        .arg(inherited.as_raw_fd().to_string())
        .arg(plan.workdir)
        .arg("--")
        .args(plan.argv)
        .env_clear()
        .envs(welcome.env.iter().chain(plan.env).map(|(name, value)| (name, value)))
        .env(MARKER, &welcome.marker)
        .stdin(plan.stdin)
        .stdout(plan.stdout)
        .stderr(plan.stderr);
    let child = command.spawn()?;
    Ok((Pid::from_child(&child), Start { pipe: Some(status), message: Vec::new() }))
}

impl Start {
    /// Whether it is not known yet.
    pub fn is_open(&self) -> bool {
        self.pipe.is_some()
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
        loop {
            let read = match &self.pipe {
                Some(pipe) => pipe.try_read(&mut buffer),
                None => return None,
            };
            match read {
                Err(error) if is_transient(&error) => return None,
                Ok(n) if n > 0 => self.hear(&buffer[..n]),
                Ok(_) | Err(_) => return Some(self.settle()),
            }
        }
    }

    /// The same when the process is dead, whatever the runtime knows of the pipe.
    pub fn finish(&mut self) -> Option<bool> {
        let mut buffer = [0; 1024];
        while let Some(pipe) = &self.pipe {
            match rustix::io::read(pipe, &mut buffer) {
                Ok(n) if n > 0 => self.hear(&buffer[..n]),
                Err(rustix::io::Errno::INTR) => {}
                Ok(_) | Err(_) => return Some(self.settle()),
            }
        }
        None
    }

    /// Why the program does not run, if the trampoline has said so.
    pub fn failure(&self) -> Option<String> {
        (!self.message.is_empty()).then(|| String::from_utf8_lossy(&self.message).into_owned())
    }

    fn hear(&mut self, bytes: &[u8]) {
        let room = STATUS.saturating_sub(self.message.len());
        self.message.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn settle(&mut self) -> bool {
        self.pipe = None;
        self.message.is_empty()
    }
}
