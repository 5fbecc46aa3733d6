//! The floor: what the same work costs without a supervisor. Processes of an ordinary small program, dynamically linked, that
//! write one byte and wait for the end of their input, started by posix_spawn(3) with two pipes, their deaths waited for with
//! sigwait(3). One thread, nothing else.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, posix_spawn};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::pipe::{PipeFlags, pipe_with};
use tempfile::TempDir;

/// Builds a small program of a floor: the bench itself is as large as `kennel`.
pub fn program(dir: &Path, name: &str, source: &[u8]) -> PathBuf {
    let program = dir.join(name);
    let mut rustc = Command::new("rustc");
    rustc.args(["--edition", "2024", "-O", "-C", "panic=abort", "-C", "strip=symbols", "--crate-name", name]);
    let mut child = rustc.arg("-o").arg(&program).arg("-").stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(source).unwrap();
    assert!(child.wait().unwrap().success(), "the floor's program cannot be built");
    program
}

/// SIGCHLD is waited for and not delivered: for this thread and all that it starts.
pub fn block_sigchld() {
    sigchld().thread_block().unwrap();
}

fn sigchld() -> SigSet {
    let mut set = SigSet::empty();
    set.add(Signal::SIGCHLD);
    set
}

struct One {
    _input: OwnedFd,
    output: File,
}

impl One {
    fn first_byte(&mut self) {
        self.output.read_exact(&mut [0]).unwrap();
    }
}

/// Some one-byte processes.
pub struct Floor {
    program: CString,
    actions: Option<PosixSpawnFileActions>,
    attr: PosixSpawnAttr,
    all: HashMap<Pid, One>,
    _dir: TempDir,
}

impl Floor {
    /// None yet.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let small = program(dir.path(), "small", include_bytes!("small.rs"));
        let program = CString::new(small.to_str().unwrap()).unwrap();
        let actions = Some(PosixSpawnFileActions::init().unwrap());
        Self { program, actions, attr: PosixSpawnAttr::init().unwrap(), all: HashMap::new(), _dir: dir }
    }

    /// Spawns this many and waits until each has spoken.
    pub fn spawn(&mut self, count: usize) -> Duration {
        let begin = Instant::now();
        let mut new: Vec<(Pid, One)> = (0..count).map(|_| self.one()).collect();
        new.iter_mut().for_each(|(_, one)| one.first_byte());
        let took = begin.elapsed();
        self.all.extend(new);
        took
    }

    fn one(&mut self) -> (Pid, One) {
        let (their_input, input) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let (output, their_output) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let mut actions = self.actions.take().unwrap().reinit().unwrap();
        actions.add_dup2(their_input.as_raw_fd(), 0).unwrap();
        actions.add_dup2(their_output.as_raw_fd(), 1).unwrap();
        let args = [&*self.program];
        let pid = posix_spawn(&*self.program, &actions, &self.attr, &args, &[] as &[&CStr]).unwrap();
        self.actions = Some(actions);
        (pid, One { _input: input, output: output.into() })
    }

    /// Kills one; how long until another has taken its place and spoken.
    pub fn replace_one(&mut self) -> Duration {
        let pid = *self.all.keys().next().unwrap();
        let begin = Instant::now();
        kill(pid, Signal::SIGKILL).unwrap();
        while !self.reap(|_| {}) {
            sigchld().wait().unwrap();
        }
        let (pid, mut one) = self.one();
        one.first_byte();
        let took = begin.elapsed();
        self.all.insert(pid, one);
        took
    }

    /// Kills all at once; how long until all are replaced and have spoken.
    pub fn replace_all(&mut self) -> Duration {
        let count = self.all.len();
        let begin = Instant::now();
        self.all.keys().for_each(|pid| kill(*pid, Signal::SIGKILL).unwrap());
        let mut new = Vec::new();
        while new.len() < count {
            sigchld().wait().unwrap();
            let mut dead = 0;
            self.reap(|_| dead += 1);
            new.extend((0..dead).map(|_| self.one()));
        }
        new.iter_mut().for_each(|(_, one)| one.first_byte());
        let took = begin.elapsed();
        self.all.extend(new);
        took
    }

    /// Kills all; how long until the last is reaped.
    pub fn end(&mut self) -> Duration {
        let begin = Instant::now();
        self.all.keys().for_each(|pid| kill(*pid, Signal::SIGKILL).unwrap());
        while !self.all.is_empty() {
            self.reap(|_| {});
            if !self.all.is_empty() {
                sigchld().wait().unwrap();
            }
        }
        begin.elapsed()
    }

    /// Reaps those that are dead; whether there were any. Signals that came as one are no matter.
    fn reap(&mut self, mut each: impl FnMut(Pid)) -> bool {
        let mut any = false;
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Signaled(pid, ..) | WaitStatus::Exited(pid, _)) => {
                    if self.all.remove(&pid).is_some() {
                        each(pid);
                        any = true;
                    }
                }
                _ => return any,
            }
        }
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        self.end();
    }
}
