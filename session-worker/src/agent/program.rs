//! A program below the worker, started by way of the trampoline (`confine/trampoline.rs`).

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use protocol::wire::Welcome;
use protocol::{Exit, Level};
use rustix::process::Pid;
use tokio::io::Interest;
use tokio::net::UnixDatagram;

use crate::confine::plan::{self, Program};
use crate::confine::{Confinement, status, trampoline};
use crate::logfile::log;
use crate::pipes::is_transient;
use crate::tree;

/// Message about a program that did not start and whose trampoline gave no reason.
const NOT_MADE: &str = "cannot prepare the agent's process: what it was to run in was not made; why may stand in the session's log";

/// Settings that all programs of a session share at their start.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The session's working directory, absolute.
    pub workdir: String,
    /// The session's environment, without the marker.
    pub env: Vec<(String, String)>,
    /// The value of [`MARKER`](protocol::MARKER).
    pub marker: String,
    /// The namespaces or the sandbox, and the limits.
    pub confinement: Confinement,
}

impl Launch {
    /// Takes what the manager has said of the session, and what confines its programs now.
    pub fn new(welcome: &Welcome, confinement: &Confinement) -> Self {
        let Welcome { workdir, env, marker, .. } = welcome;
        let (workdir, env, marker) = (workdir.clone(), env.clone(), marker.clone());
        Self { workdir, env, marker, confinement: confinement.clone() }
    }
}

/// A program's own part of its start.
pub struct Plan<'a> {
    /// The program and its arguments. Of this program itself: its arguments.
    pub argv: &'a [String],
    /// It is this program itself.
    pub own: bool,
    /// Directory in which it starts, relative to the working directory. In a sandbox it must be below that.
    pub directory: PathBuf,
    /// Added to the session's environment.
    pub env: &'a [(String, String)],
    /// Standard input of the program.
    pub stdin: Stdio,
    /// Standard output of the program.
    pub stdout: Stdio,
    /// Standard error of the program.
    pub stderr: Stdio,
}

/// State of a program's start: whether the program runs and, in a namespace of its own, how it ended.
#[derive(Debug)]
pub struct Start {
    /// The worker's child: the program itself, or the keeper of its namespace.
    child: Pid,
    /// `None` once nothing more will be said.
    socket: Option<UnixDatagram>,
    /// The program must run in a namespace of its own.
    demanded: bool,
    known: status::Known,
    /// The worker knows whether the program runs; `told`: a caller got this news.
    is_known: bool,
    told: bool,
}

/// Starts a program. Its process is a child of the worker from here on, whatever becomes of it.
pub fn start(launch: &Launch, plan: Plan<'_>) -> io::Result<(Pid, Start)> {
    // All that can fail comes before the child exists.
    let (ours, inherited) = status::pair()?;
    // The runtime has no type for sockets of packets that end; whose events it waits for is the same.
    let ours = std::os::unix::net::UnixDatagram::from(ours);
    ours.set_nonblocking(true)?;
    let socket = UnixDatagram::from_std(ours)?;
    let places = &launch.confinement.limits.inherited.places;
    // The daemon outlives what it was started with, as a temporary directory or that of a login.
    let is_gone = |name: &String, value: &String| places.contains(name) && !Path::new(value).exists();
    let there = launch.env.iter().filter(|(name, value)| !is_gone(name, value));
    let env = there.chain(plan.env).cloned().collect();
    let what = plan::Plan {
        worker: std::process::id().cast_signed(),
        confinement: launch.confinement.clone(),
        workdir: launch.workdir.clone(),
        program: Program { argv: plan.argv.to_vec(), own: plan.own, env, directory: plan.directory },
    };
    let (mut command, written) = trampoline::command(&what, &inherited, &launch.marker)?;
    command.stdin(plan.stdin).stdout(plan.stdout).stderr(plan.stderr);
    let child = Pid::from_child(&command.spawn()?);
    drop((inherited, written));
    let demanded = launch.confinement.contain.is_demanded();
    let known = status::Known::default();
    Ok((child, Start { child, socket: Some(socket), demanded, known, is_known: false, told: false }))
}

impl Start {
    /// Returns whether the worker does not know yet if the program runs.
    pub fn is_open(&self) -> bool {
        !self.is_known
    }

    /// Resolves when [`Start::read`] may have something.
    pub async fn readable(&self) {
        match &self.socket {
            Some(socket) => drop(socket.readable().await),
            None => std::future::pending().await,
        }
    }

    /// Reads the status socket. Returns once whether the program runs.
    pub fn read(&mut self) -> Option<bool> {
        while let Some(socket) = &self.socket {
            match socket.try_io(Interest::READABLE, || status::hear(socket, false)) {
                Err(error) if is_transient(&error) => break,
                heard => self.hear(heard),
            }
        }
        self.tell()
    }

    /// Reads the rest of the status socket after the process died. Returns once whether the program ran.
    pub fn finish(&mut self) -> Option<bool> {
        self.hear_out();
        self.tell()
    }

    fn hear_out(&mut self) {
        while let Some(socket) = &self.socket {
            match status::hear(socket, false) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Somebody in a namespace that ends still holds the other end.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.close(),
                heard => self.hear(heard),
            }
        }
    }

    /// Returns why the program does not run, if the trampoline gave a reason.
    pub fn failure(&self) -> Option<String> {
        self.known.failure.clone()
    }

    /// Returns whether the kernel refused to execute the program. It may be there the next time.
    pub fn is_absent(&self) -> bool {
        self.known.is_absent
    }

    /// Returns the program's own process once it is known, before that the worker's child.
    pub fn pid(&self) -> Pid {
        self.known.agent.map_or(self.child, |(agent, _)| agent)
    }

    /// Returns the program's exit, if its namespace reported one.
    pub fn exit(&self) -> Option<Exit> {
        self.known.exit
    }

    /// Returns the program's exit, given the exit of the worker's child.
    pub fn exit_of_child(&mut self, exit: Exit) -> Exit {
        // All that was said before is there.
        self.hear_out();
        self.known.exit.unwrap_or(exit)
    }

    /// Returns the containment level; `None` if the program does not run.
    pub fn level(&self) -> Option<Level> {
        match (self.known.agent, self.is_known && self.known.failure.is_none()) {
            (Some((_, true)), _) => Some(Level::PidNamespace),
            (Some((_, false)), _) => Some(Level::PidNamespaceSharedProc),
            (None, true) => Some(Level::Subreaper),
            (None, false) => None,
        }
    }

    /// Returns whether this process keeps the program's namespace, so that the program did not start it.
    pub fn keeps(&self, pid: Pid) -> bool {
        self.known.agent.is_some() && (pid == self.child || self.known.init == Some(pid))
    }

    fn hear(&mut self, heard: io::Result<Option<status::Heard>>) {
        let Some(socket) = &self.socket else { return };
        let taken = match heard {
            Ok(Some(heard)) => self.known.take(socket, self.child, heard),
            Ok(None) => return self.close(),
            Err(_) => Err("it is no packet of ours"),
        };
        self.is_known |= self.known.agent.is_some() || self.known.failure.is_some();
        if let Err(why) = taken {
            // Another process sent the packet. The worker kills its child only if the agent does not run yet.
            log(&format!("a word about the agent's process was not believed: {why}"));
            if self.known.agent.is_none() {
                tree::kill(self.child);
                self.close();
            }
        }
    }

    fn close(&mut self) {
        if self.demanded && self.known.agent.is_none() && self.known.failure.is_none() {
            self.known.failure = Some(NOT_MADE.to_owned());
        }
        (self.socket, self.is_known) = (None, true);
    }

    fn tell(&mut self) -> Option<bool> {
        let news = self.is_known && !std::mem::replace(&mut self.told, self.is_known);
        news.then_some(self.known.failure.is_none())
    }
}
