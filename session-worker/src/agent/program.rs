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

/// What is told of a program that did not come to run and of which nothing was said.
const NOT_MADE: &str = "cannot prepare the agent's process: what it was to run in was not made; why may stand in the session's log";

/// What all programs of a session start with.
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

/// What is to be run, beside what all programs of a session share.
pub struct Plan<'a> {
    /// The program and its arguments.
    pub argv: &'a [String],
    /// Where it starts, relative to the session's working directory. In a sandbox it does not start outside that.
    pub directory: PathBuf,
    /// Added to the session's environment.
    pub env: &'a [(String, String)],
    /// Its standard input.
    pub stdin: Stdio,
    /// Its standard output.
    pub stdout: Stdio,
    /// Its standard error.
    pub stderr: Stdio,
}

/// What is known of a program's start: whether it runs, and in a namespace of its own also how it ended.
#[derive(Debug)]
pub struct Start {
    /// What is the worker's child: the program itself, or what keeps its namespace.
    child: Pid,
    /// `None` once nothing more will be said.
    socket: Option<UnixDatagram>,
    /// It runs in a namespace of its own or not at all.
    demanded: bool,
    known: status::Known,
    /// Whether it is known if the program runs, and whether that was told.
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
        program: Program { argv: plan.argv.to_vec(), env, directory: plan.directory },
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
    /// Whether it is not known yet if the program runs.
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

    /// Reads what there is. Whether the program runs, once that is known; told once.
    pub fn read(&mut self) -> Option<bool> {
        while let Some(socket) = &self.socket {
            match socket.try_io(Interest::READABLE, || status::hear(socket, false)) {
                Err(error) if is_transient(&error) => break,
                heard => self.hear(heard),
            }
        }
        self.tell()
    }

    /// The same when the process is dead, whatever the runtime knows of the socket.
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

    /// Why the program does not run, if the trampoline has said so.
    pub fn failure(&self) -> Option<String> {
        self.known.failure.clone()
    }

    /// Whether the kernel refused to execute the program itself: it may be there the next time.
    pub fn is_absent(&self) -> bool {
        self.known.is_absent
    }

    /// The program's own process, once that is known.
    pub fn pid(&self) -> Pid {
        self.known.agent.map_or(self.child, |(agent, _)| agent)
    }

    /// How the program ended, where something outlives it that says so.
    pub fn exit(&self) -> Option<Exit> {
        self.known.exit
    }

    /// How it ended, if our child has ended so.
    pub fn exit_of_child(&mut self, exit: Exit) -> Exit {
        // All that was said before is there.
        self.hear_out();
        self.known.exit.unwrap_or(exit)
    }

    /// What holds it; none where it does not run.
    pub fn level(&self) -> Option<Level> {
        match (self.known.agent, self.is_known && self.known.failure.is_none()) {
            (Some((_, true)), _) => Some(Level::PidNamespace),
            (Some((_, false)), _) => Some(Level::PidNamespaceSharedProc),
            (None, true) => Some(Level::Subreaper),
            (None, false) => None,
        }
    }

    /// Whether this process is there for the program and not by it.
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
            // Whoever has said that is not what was started. What was has no part in it, and is ended if it does not run.
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
