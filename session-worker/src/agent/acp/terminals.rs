//! Commands that an agent runs by way of its client: `terminal/*`.
//!
//! They are below the worker like the agent itself. A command ends with the turn that started it, with all that it has
//! started: [`Terminals::end_turn`].

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::process::Stdio;

use agent_client_protocol_schema::v1 as acp;
use protocol::{Exit, bounds};
use rustix::pipe::PipeFlags;
use rustix::process::Pid;
use serde_json::{Value, json};
use tokio::net::unix::pipe;

use super::message::{Do, error, result, text_at};
use crate::agent::program::{self, Launch, Plan, Start};
use crate::pipes::is_transient;
use crate::tree;

/// Limit of terminals at one time.
const MOST: usize = 64;
/// Bytes of a command's output that are kept: the default if the agent names no limit, and the maximum.
const KEPT: u64 = 1024 * 1024;
/// Bytes of the output of all commands together that are kept.
const KEPT_IN_ALL: usize = 8 * 1024 * 1024;
/// Limit of requests that wait for the end of commands at one time.
const WAITS: usize = 128;
/// Size of a read, in bytes.
const READ: usize = 16 * 1024;
/// Reads of one command's output before others have their turn.
const READS: usize = 16;
/// Every process of a command has this in its environment, with the name of its terminal: by it those are found that have
/// escaped to the worker.
const MARK: &str = "KENNEL_TERMINAL";
const INVALID_PARAMS: i64 = -32602;
const INTERNAL: i64 = -32603;

struct Terminal {
    /// The value of [`MARK`] in the environment of its processes.
    mark: String,
    pid: Pid,
    /// That process was reaped: its pid may be another's.
    is_reaped: bool,
    start: Start,
    exit: Option<Exit>,
    /// Standard output and standard error in one, as a terminal shows them.
    output: Option<pipe::Receiver>,
    kept: VecDeque<u8>,
    limit: usize,
    truncated: bool,
    /// Requests that wait for the end.
    waiting: Vec<Value>,
}

/// The commands of one agent.
pub struct Terminals {
    launch: Launch,
    all: BTreeMap<String, Terminal>,
    count: u64,
    /// A command was started since the last turn ended.
    has_started: bool,
}

impl Terminals {
    /// Makes an empty set of terminals.
    pub fn new(launch: Launch) -> Self {
        Self { launch, all: BTreeMap::new(), count: 0, has_started: false }
    }

    /// Does what the agent asks for.
    pub fn call(&mut self, id: Value, method: &str, params: Value) -> Vec<Do> {
        if method == "terminal/create" {
            return vec![match self.create(params) {
                Ok(name) => result(id, json!({ "terminalId": name })),
                Err(why) => error(id, INTERNAL, &why),
            }];
        }
        let name = text_at(&params, "terminalId").unwrap_or_default();
        let waits: usize = self.all.values().map(|terminal| terminal.waiting.len()).sum();
        let Some(terminal) = self.all.get_mut(&name) else {
            return vec![error(id, INVALID_PARAMS, "there is no such terminal")];
        };
        match method {
            "terminal/output" => {
                // The answer contains output that has arrived since the last read.
                terminal.read();
                let shown = terminal.shown();
                self.trim();
                vec![result(id, shown)]
            }
            "terminal/wait_for_exit" if waits >= WAITS && terminal.exit.is_none() => {
                vec![error(id, INTERNAL, &format!("{WAITS} requests wait for the ends of commands already"))]
            }
            "terminal/wait_for_exit" => {
                terminal.waiting.push(id);
                terminal.answer()
            }
            "terminal/kill" => {
                terminal.kill();
                vec![result(id, json!({}))]
            }
            _ => {
                terminal.kill();
                let mut all: Vec<Do> = std::mem::take(&mut terminal.waiting)
                    .into_iter()
                    .map(|waiting| error(waiting, INTERNAL, "the terminal was released"))
                    .collect();
                self.all.remove(&name);
                all.push(result(id, json!({})));
                all
            }
        }
    }

    fn create(&mut self, params: Value) -> Result<String, String> {
        let request: acp::CreateTerminalRequest =
            serde_json::from_value(params).map_err(|error| format!("wrong parameters: {error}"))?;
        if self.all.len() >= MOST {
            return Err(format!("{MOST} terminals are open; release one first"));
        }
        // Many agents send a whole command line as the command.
        let mut argv = match request.args.is_empty() && request.command.contains(char::is_whitespace) {
            true => vec!["/bin/sh".to_owned(), "-c".to_owned(), request.command],
            false => vec![request.command],
        };
        argv.extend(request.args);
        let directory = self.directory(request.cwd)?;
        self.count += 1;
        let name = format!("terminal-{}", self.count);
        let asked = request.env.into_iter().map(|variable| (variable.name, variable.value));
        let mark = (MARK.to_owned(), name.clone());
        // The last of two values counts.
        let env: Vec<(String, String)> = asked.chain([mark]).collect();
        let limit = request.output_byte_limit.unwrap_or(KEPT).min(KEPT) as usize;
        let terminal = Terminal::start(&self.launch, &argv, directory, &env, limit)
            .map_err(|error| format!("the command was not started: {error}"))?;
        self.has_started = true;
        self.all.insert(name.clone(), terminal);
        Ok(name)
    }

    /// Checks the directory in which a command starts. In a sandbox the directory must be the working directory or
    /// below it. The kernel resolves symlinks there, inside (`confine/namespace.rs`).
    fn directory(&self, asked: Option<PathBuf>) -> Result<PathBuf, String> {
        let asked = asked.unwrap_or_default();
        if self.launch.confinement.contain.walls().is_none() {
            return Ok(asked);
        }
        let below = match asked.is_absolute() {
            true => asked.strip_prefix(&self.launch.workdir).ok().map(Path::to_owned),
            false => Some(asked.clone()),
        };
        below.filter(|below| !below.components().any(|part| part == Component::ParentDir)).ok_or_else(|| {
            format!("{} is not below the session's directory, {}", asked.display(), self.launch.workdir)
        })
    }

    /// Resolves when [`Terminals::work`] may get further.
    pub async fn ready(&self) {
        let mut waits: Vec<_> = self.all.values().map(|terminal| Box::pin(terminal.ready())).collect();
        std::future::poll_fn(|context| {
            let ready = waits.iter_mut().any(|wait| wait.as_mut().poll(context).is_ready());
            if ready { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
    }

    /// Reads what the commands have written, and answers who waits for those that have ended.
    pub fn work(&mut self) -> Vec<Do> {
        let mut all = Vec::new();
        let names: Vec<String> = self.all.keys().cloned().collect();
        for name in names {
            let Some(terminal) = self.all.get_mut(&name) else { continue };
            let _ = terminal.start.read();
            terminal.exit = terminal.exit.or(terminal.start.exit());
            terminal.read();
            all.extend(terminal.answer());
            self.trim();
        }
        all
    }

    /// Memory that the worker keeps for the agent's commands, in bytes.
    pub fn held(&self) -> usize {
        let held = |terminal: &Terminal| terminal.kept.capacity() + terminal.waiting.len() * bounds::ID;
        self.all.values().map(held).sum()
    }

    /// Keeps the output of all commands together within its bound, at the cost of whichever has the most.
    fn trim(&mut self) {
        loop {
            let kept: usize = self.all.values().map(|terminal| terminal.kept.len()).sum();
            let most = self.all.values_mut().max_by_key(|terminal| terminal.kept.len());
            let Some(most) = most.filter(|_| kept > KEPT_IN_ALL) else { return };
            // Somewhat more than needed, so that it is not moved with every read.
            let cut = (kept - KEPT_IN_ALL).max(most.kept.len() / 4).min(most.kept.len());
            most.kept.drain(..cut);
            most.kept.shrink_to_fit();
            most.truncated = true;
        }
    }

    /// Number of commands that run.
    pub fn running(&self) -> usize {
        self.all.values().filter(|terminal| terminal.exit.is_none()).count()
    }

    /// Kills what the commands of the turn that is over have left. Gives how many of them still ran.
    pub fn end_turn(&mut self) -> u32 {
        let running = u32::try_from(self.running()).unwrap_or(u32::MAX);
        self.all.values().for_each(Terminal::kill_below);
        if std::mem::take(&mut self.has_started) {
            let any = format!("{MARK}=");
            tree::kill_marked(|variable| variable.starts_with(any.as_bytes()));
        }
        running
    }

    /// A process is dead. Whether it was a terminal's.
    pub fn ended(&mut self, pid: Pid, exit: Exit) -> bool {
        let terminal = self.all.values_mut().find(|terminal| terminal.pid == pid && !terminal.is_reaped);
        let ended = |terminal: &mut Terminal| {
            terminal.is_reaped = true;
            terminal.exit = terminal.exit.or(Some(terminal.start.exit_of_child(exit)));
        };
        terminal.map(ended).is_some()
    }
}

impl Terminal {
    fn start(
        launch: &Launch,
        argv: &[String],
        directory: PathBuf,
        env: &[(String, String)],
        limit: usize,
    ) -> io::Result<Self> {
        let (ours, theirs) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        let output = pipe::Receiver::from_owned_fd(ours)?;
        let stderr = theirs.try_clone()?;
        let (stdin, stdout, stderr) = (Stdio::null(), theirs.into(), stderr.into());
        let (pid, start) =
            program::start(launch, Plan { argv, own: false, directory, env, stdin, stdout, stderr })?;
        let mark = env.last().map(|(name, value)| format!("{name}={value}")).unwrap_or_default();
        Ok(Self {
            mark,
            pid,
            is_reaped: false,
            start,
            exit: None,
            output: Some(output),
            kept: VecDeque::new(),
            limit,
            truncated: false,
            waiting: Vec::new(),
        })
    }

    async fn ready(&self) {
        tokio::select! {
            () = self.start.readable() => {}
            () = async { match &self.output {
                Some(output) => drop(output.readable().await),
                None => std::future::pending().await,
            }} => {}
        }
    }

    fn read(&mut self) {
        let mut buffer = [0; READ];
        // A command that writes without a pause must not keep the worker from everything else.
        for _ in 0..READS {
            let Some(output) = &self.output else { return };
            match output.try_read(&mut buffer) {
                Ok(n) if n > 0 => self.keep(&buffer[..n]),
                Err(error) if is_transient(&error) => return,
                Ok(_) | Err(_) => self.output = None,
            }
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        let bytes = &bytes[bytes.len().saturating_sub(self.limit)..];
        let excess = (self.kept.len() + bytes.len()).saturating_sub(self.limit);
        self.truncated |= excess > 0;
        // Before there is more: a buffer that grows does so twofold.
        self.kept.drain(..excess);
        self.kept.extend(bytes);
    }

    fn shown(&self) -> Value {
        let bytes: Vec<u8> = self.kept.iter().copied().collect();
        // Cut between characters: the continuation bytes at the front belong to one that is gone.
        let begin =
            if self.truncated { bytes.iter().take_while(|byte| **byte & 0xc0 == 0x80).count() } else { 0 };
        let mut output = String::from_utf8_lossy(&bytes[begin..]).into_owned();
        output.extend(self.start.failure());
        let mut shown = json!({ "output": output, "truncated": self.truncated });
        if let Some(exit) = self.exit {
            shown["exitStatus"] = status(exit);
        }
        shown
    }

    /// Those who wait for its end, if it has come.
    fn answer(&mut self) -> Vec<Do> {
        let Some(exit) = self.exit else { return Vec::new() };
        self.waiting.drain(..).map(|id| result(id, status(exit))).collect()
    }

    /// Kills the command and all that it has started.
    fn kill(&self) {
        self.kill_below();
        tree::kill_marked(|variable| variable == self.mark.as_bytes());
    }

    /// Kills the command and what is below it.
    fn kill_below(&self) {
        if !self.is_reaped {
            tree::kill(self.pid);
        }
    }
}

fn status(exit: Exit) -> Value {
    match exit {
        Exit::Code(code) => json!({ "exitCode": code }),
        Exit::Signal(_) => json!({ "signal": exit.to_string().trim_start_matches("killed by ") }),
        Exit::Unknown => json!({}),
    }
}
