//! A turn of a shell or command agent: its process, the pipes, and its exit.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Stdio;

use protocol::bounds::ARGUMENT;
use protocol::wire::{Agent, Exchange, PromptVia, Report, TurnEnd, Welcome};
use protocol::{Exit, PromptId, Restore, Stream};
use rustix::pipe::PipeFlags;
use rustix::process::Pid;
use tokio::net::unix::pipe;

use crate::agent::program::{self, Launch, Plan, Start};
use crate::agent::text::{Tail, Utf8, pieces, transcript};
use crate::confine::Confinement;
use crate::pipes::is_transient;

/// The longest text of one [`Report::Output`].
const OUTPUT: usize = 64 * 1024;
/// More than a transcript has beside the texts of one exchange, or of all, in bytes.
const TOLD_BESIDE: usize = 128;
/// Size of a read, in bytes: with the beginning of a character from the read before, it makes one report.
const READ: usize = OUTPUT - 3;

/// The way in which a new process of this agent learns the turns before.
pub fn restore(agent: &Agent) -> Restore {
    match agent {
        Agent::Command { transcript: true, .. } => Restore::Replayed,
        Agent::Command { .. } | Agent::Shell | Agent::Acp { .. } => Restore::Fresh,
    }
}

/// The program of an agent is named by its absolute path: what PATH says is the manager's to look up.
pub fn absolute(argv: &[String]) -> Result<(), String> {
    match argv.first() {
        Some(program) if program.starts_with('/') => Ok(()),
        _ => Err(format!("the agent's program is not an absolute path: {argv:?}")),
    }
}

/// Returns true if the program treats the following arguments as no options.
fn ends_options(argv: &[String]) -> bool {
    argv.last().is_some_and(|last| last == "--")
}

/// A prompt that becomes an argument and must not become an option: a space before it changes nothing of what it says.
fn guarded(text: String, options_have_ended: bool) -> String {
    match text.starts_with(['-', '+']) && !options_have_ended {
        true => format!(" {text}"),
        false => text,
    }
}

/// The prompt with as many of the last turns before as fit into so many bytes.
fn transcript_within(most: usize, history: &[Exchange], text: String) -> String {
    let size = |exchange: &Exchange| exchange.prompt.len() + exchange.reply.len() + TOLD_BESIDE;
    let mut left = most.saturating_sub(text.len() + TOLD_BESIDE);
    let fits = |exchange: &&Exchange| {
        let rest = left.checked_sub(size(exchange));
        left = rest.unwrap_or(left);
        rest.is_some()
    };
    let kept = history.iter().rev().take_while(fits).count();
    transcript(&history[history.len() - kept..], text)
}

/// A turn whose process was started.
pub struct Turn {
    /// The prompt it answers.
    pub prompt: PromptId,
    /// The worker's child: the agent's own process, or what keeps its namespace.
    pub pid: Pid,
    /// Exit of that process; absent while it runs.
    pub exit: Option<Exit>,
    /// The manager aborted the turn.
    pub aborted: bool,
    /// Number of processes that outlived the agent's own process.
    pub left_behind: u32,
    /// Progress of the program's start.
    pub start: Start,
    stdin: Option<Stdin>,
    stdout: Option<Output>,
    stderr: Option<Output>,
    /// The end of what it wrote to its standard error.
    complaints: Tail,
    buffer: Vec<u8>,
}

/// Something of a turn that can be worked on.
pub enum Ready {
    /// [`Turn::read_status`]
    Status,
    /// [`Turn::feed`]
    Stdin,
    /// [`Turn::read`]
    Output(Stream),
}

struct Stdin {
    pipe: pipe::Sender,
    text: String,
    written: usize,
}

struct Output {
    pipe: pipe::Receiver,
    utf8: Utf8,
    /// Once nothing of the turn lives: how much of what was in the pipe then is unread.
    left: Option<u64>,
}

impl Output {
    fn pipe() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        let output = Self {
            // Makes our end non-blocking; the agent's is another open file and stays as it is.
            pipe: pipe::Receiver::from_owned_fd(ours)?,
            utf8: Utf8::default(),
            left: None,
        };
        Ok((output, theirs))
    }
}

impl Turn {
    /// Starts the agent. The error is for a person.
    pub fn start(
        welcome: &Welcome,
        confinement: &Confinement,
        prompt: PromptId,
        text: String,
        history: &[Exchange],
    ) -> Result<Self, String> {
        let (argv, stdin) = match &welcome.agent {
            // A command line that began with `-` or `+` would be options of the shell.
            Agent::Shell => (vec!["/bin/sh".to_owned(), "-c".to_owned(), guarded(text, false)], None),
            Agent::Command { argv, prompt_via, transcript: told } => {
                absolute(argv)?;
                let history = if *told { history } else { &[] };
                match prompt_via {
                    PromptVia::Stdin => (argv.clone(), Some(transcript(history, text))),
                    PromptVia::Argument => {
                        let text =
                            guarded(transcript_within(ARGUMENT - 1, history, text), ends_options(argv));
                        (argv.iter().cloned().chain([text]).collect(), None)
                    }
                }
            }
            Agent::Acp { .. } => return Err("this agent lives between prompts".to_owned()),
        };
        Self::spawn(&Launch::new(welcome, confinement), prompt, &argv, stdin)
            .map_err(|error| format!("cannot start a process for {}: {error}", argv[0]))
    }

    fn spawn(launch: &Launch, prompt: PromptId, argv: &[String], text: Option<String>) -> io::Result<Self> {
        let (stdin, agent_stdin) = match text {
            Some(text) => {
                let (theirs, ours) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
                let pipe = pipe::Sender::from_owned_fd(ours)?;
                let stdin = Stdin { pipe, text, written: 0 };
                (Some(stdin), theirs.into())
            }
            None => (None, Stdio::null()),
        };
        let (stdout, agent_stdout) = Output::pipe()?;
        let (stderr, agent_stderr) = Output::pipe()?;
        let plan = Plan {
            argv,
            own: false,
            directory: PathBuf::new(),
            env: &[],
            stdin: agent_stdin,
            stdout: agent_stdout.into(),
            stderr: agent_stderr.into(),
        };
        let (pid, start) = program::start(launch, plan)?;
        Ok(Self {
            prompt,
            pid,
            exit: None,
            aborted: false,
            left_behind: 0,
            start,
            stdin,
            stdout: Some(stdout),
            stderr: Some(stderr),
            complaints: Tail::default(),
            buffer: vec![0; READ],
        })
    }

    /// Waits until something can be worked on; output counts only if there is `room` for it.
    pub async fn ready(&self, room: bool) -> Ready {
        // Output waits for the trampoline's word, so that `TurnStarted` comes first.
        let room = room && !self.start.is_open();
        let (stdout, stderr) = (self.stdout.as_ref(), self.stderr.as_ref());
        tokio::select! {
            () = self.start.readable() => Ready::Status,
            () = writable(self.stdin.as_ref()) => Ready::Stdin,
            () = readable(stdout.map(|output| &output.pipe)), if room => Ready::Output(Stream::Stdout),
            () = readable(stderr.map(|output| &output.pipe)), if room => Ready::Output(Stream::Stderr),
        }
    }

    /// Hears whether the agent runs, and where something outlives it how it ended; gives the report that it runs, at most
    /// once.
    pub fn read_status(&mut self) -> Option<Report> {
        let news = self.start.read();
        self.exit = self.exit.or(self.start.exit());
        news?.then(|| self.started())
    }

    /// The worker's child is dead.
    pub fn ended_child(&mut self, exit: Exit) {
        self.exit = self.exit.or(Some(self.start.exit_of_child(exit)));
    }

    /// The same when the agent's process is dead, whatever the runtime knows of the pipe.
    pub fn finish_status(&mut self) -> Option<Report> {
        let runs = self.start.finish()?;
        runs.then(|| self.started())
    }

    fn started(&self) -> Report {
        Report::TurnStarted { prompt: self.prompt, agent_pid: self.start.pid().as_raw_pid().unsigned_abs() }
    }

    /// Gives the agent what it takes of the prompt.
    pub fn feed(&mut self) {
        while let Some(stdin) = &mut self.stdin {
            match stdin.pipe.try_write(&stdin.text.as_bytes()[stdin.written..]) {
                Ok(n) => stdin.written += n,
                Err(error) if is_transient(&error) => return,
                // An agent need not read its prompt.
                Err(_) => self.stdin = None,
            }
            self.stdin.take_if(|stdin| stdin.written == stdin.text.len());
        }
    }

    /// Reads once from an output that is ready.
    pub fn read(&mut self, stream: Stream) -> Vec<Report> {
        let slot = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        let Some(output) = slot else { return Vec::new() };
        match output.pipe.try_read(&mut self.buffer) {
            Ok(n) if n > 0 => {
                if stream == Stream::Stderr {
                    self.complaints.push(&self.buffer[..n]);
                }
                reports(self.prompt, stream, &output.utf8.push(&self.buffer[..n]))
            }
            Err(error) if is_transient(&error) => Vec::new(),
            Ok(_) | Err(_) => {
                let text = output.utf8.finish();
                *slot = None;
                reports(self.prompt, stream, text)
            }
        }
    }

    /// Reads once what is left when nothing of the turn lives any more; `None` when both outputs are dry. Their
    /// end is not waited for, nor is more read than is there now: a process elsewhere may hold them open.
    pub fn drain(&mut self) -> Option<Vec<Report>> {
        let (slot, stream) = match (&self.stdout, &self.stderr) {
            (Some(_), _) => (&mut self.stdout, Stream::Stdout),
            (None, Some(_)) => (&mut self.stderr, Stream::Stderr),
            (None, None) => return None,
        };
        let output = slot.as_mut()?;
        let left = *output.left.get_or_insert_with(|| rustix::io::ioctl_fionread(&output.pipe).unwrap_or(0));
        let most = self.buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        // Not by way of the runtime, which may not have noticed yet that there is something to read.
        match rustix::io::read(&output.pipe, &mut self.buffer[..most]) {
            Ok(n) if n > 0 => {
                output.left = Some(left.saturating_sub(n as u64));
                if stream == Stream::Stderr {
                    self.complaints.push(&self.buffer[..n]);
                }
                Some(reports(self.prompt, stream, &output.utf8.push(&self.buffer[..n])))
            }
            Err(rustix::io::Errno::INTR) => Some(Vec::new()),
            Ok(_) | Err(_) => {
                let text = output.utf8.finish();
                *slot = None;
                Some(reports(self.prompt, stream, text))
            }
        }
    }

    /// The end of what it wrote to its standard error, where it failed.
    pub fn complaints(&self) -> Option<String> {
        let failed = self.exit.is_some_and(|exit| !exit.is_success()) && !self.aborted;
        failed.then(|| self.complaints.text())
    }

    /// The report that ends the turn.
    pub fn ended(self) -> Report {
        let (end, exit) = match self.start.failure() {
            _ if self.aborted => (TurnEnd::Aborted, self.exit),
            // The process that ended was the trampoline, not the agent.
            // It has heard nothing of the prompt.
            Some(message) if self.start.is_absent() => (TurnEnd::NotRun { message }, None),
            Some(message) => (TurnEnd::Failed { message }, None),
            None => (TurnEnd::Finished, self.exit),
        };
        Report::TurnEnded { prompt: self.prompt, end, exit, left_behind: self.left_behind }
    }
}

fn reports(prompt: PromptId, stream: Stream, text: &str) -> Vec<Report> {
    // Replacing bad bytes can make the text three times as long as what was read.
    pieces(text, OUTPUT).map(|piece| Report::Output { prompt, stream, text: piece.to_owned() }).collect()
}

async fn readable(pipe: Option<&pipe::Receiver>) {
    match pipe {
        Some(pipe) => drop(pipe.readable().await),
        None => std::future::pending().await,
    }
}

async fn writable(stdin: Option<&Stdin>) {
    match stdin {
        Some(stdin) => drop(stdin.pipe.writable().await),
        None => std::future::pending().await,
    }
}
