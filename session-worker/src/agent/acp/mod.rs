//! An agent that lives between prompts and speaks the Agent Client Protocol: its process, its pipes, and what it
//! asks of its client.
//!
//! Its lines are read only while the manager takes what they become, so that a babbling agent waits and no memory
//! grows; what it must be told is read out of a buffer that is bounded because its questions are.

mod attachments;
mod calls;
mod conversation;
mod descriptors;
mod files;
mod login;
mod message;
mod model_error;
mod terminals;

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use protocol::bounds::LINE;
use protocol::json::{Scan, Unread, Why};
use protocol::wire::{
    Agent, Attachment, CallAnswer, Exchange, Offer, RemoteServer, Report, Setting, TurnEnd, Welcome,
};
use protocol::{EventId, Exit, PromptId, bounds, failpoint};
use rustix::pipe::PipeFlags;
use rustix::process::Pid;
use serde_json::Value;
use tokio::net::unix::pipe;
use tokio::time::Instant;

use crate::agent::per_prompt::absolute;
use crate::agent::program::{self, Plan, Start};
use crate::confine::Confinement;
use crate::link::is_transient;
use crate::logfile::Stderr;
use calls::{Asked, Calls, Next};
use conversation::{Conversation, Opening, SystemPrompt};
use files::Place;
use message::Do;
use terminals::Terminals;

/// How long an agent may live on after it has closed its standard output.
const CLOSED: Duration = Duration::from_secs(1);
/// How much is read at once.
const READ: usize = 32 * 1024;
/// While more than this waits for the agent to read it, its own lines wait too, in bytes.
const UNREAD: usize = 4 * 1024 * 1024;
/// An agent for which more than this is held is ended, in bytes: [`Acp::held`].
const HELD: usize = 48 * 1024 * 1024;
/// Of what was written so much is kept at most, in bytes, before the rest is moved to the front.
const WRITTEN: usize = 1024 * 1024;
/// The status of a shell, `env` or other wrapper that has not found the program it was to run.
const UNFOUND: i32 = 127;
/// The same of one that has found it and could not execute it.
const UNEXECUTED: i32 = 126;
/// The manager's name for the model, in the environment.
const MODEL: &str = "KENNEL_MODEL";
/// What the agent is told beside its own system prompt.
const SYSTEM_PROMPT: &str = "KENNEL_SYSTEM_PROMPT";
/// What it is told in the place of that.
const SYSTEM_PROMPT_INSTEAD: &str = "KENNEL_SYSTEM_PROMPT_INSTEAD";

/// The agent.
pub struct Acp {
    /// The worker's child: its process, or what keeps its namespace.
    pub pid: Pid,
    /// How that process ended, once it did.
    pub exit: Option<Exit>,
    /// Until when the turn must have ended that it was told to end.
    cancel_by: Option<Instant>,
    /// How long it may say nothing while it takes up its conversation.
    pub restore_within: Option<Duration>,
    /// Until when it must say something more while it does.
    restore_by: Option<Instant>,
    /// Its standard output is closed: until when its process must have ended, too.
    closed_by: Option<Instant>,
    /// What is known of its start.
    pub start: Start,
    stdin: pipe::Sender,
    outbox: Vec<u8>,
    written: usize,
    stdout: Option<pipe::Receiver>,
    /// What it says beside the protocol: into the session's log, also while nobody takes anything else.
    stderr: Stderr,
    /// What was read of a line whose end has not come.
    line: Vec<u8>,
    /// How much of `line` is known to have no end in it.
    searched: usize,
    /// A line that is too long and whose end has not come: what is known of it, and how long it is so far, in bytes.
    skipped: Option<(Scan, usize)>,
    /// There are whole lines in `line`, and too much waits for the agent already.
    held_up: bool,
    conversation: Conversation,
    terminals: Terminals,
    place: Place,
    calls: Calls,
    /// It has written something to its standard output.
    has_spoken: bool,
    /// Why it must be ended; told once.
    given_up: bool,
}

/// Something that can be worked on.
pub enum Ready {
    /// [`Acp::read_start`]
    Start,
    /// [`Acp::feed`]
    Stdin,
    /// [`Acp::read`]
    Stdout,
    /// [`Acp::read_stderr`]
    Stderr,
    /// [`Acp::work`]
    Terminals,
}

impl Acp {
    /// Starts the agent, and begins to open its session. The error is for a person.
    pub fn start(
        welcome: &Welcome,
        confinement: &Confinement,
        agent_session: Option<String>,
        conversation: bool,
        settings: Vec<Setting>,
        remote_servers: Vec<RemoteServer>,
        driver: (Option<EventId>, Vec<Offer>),
    ) -> Result<(Self, Vec<Report>), String> {
        let Agent::Acp { argv, login, mcp_servers } = &welcome.agent else {
            return Err("this agent does not live between prompts".to_owned());
        };
        absolute(argv)?;
        let mut mcp_servers = mcp_servers.clone();
        // Whoever has the manager's socket is its owner: nobody in a sandbox is to.
        let inherited = match confinement.contain.walls() {
            Some(_) => Vec::new(),
            None => descriptors::open(&mut mcp_servers),
        };
        let model = welcome.env.iter().find(|(name, _)| name == MODEL).map(|(_, model)| model.clone());
        let told = |wanted| {
            let text = welcome.env.iter().find(|(name, _)| name == wanted).map(|(_, text)| text.clone());
            text.filter(|text| !text.trim().is_empty())
        };
        let instead = told(SYSTEM_PROMPT_INSTEAD).map(SystemPrompt::Instead);
        let names = |model: &String| argv.iter().skip(1).any(|word| word.contains(model.as_str()));
        let opening = Opening {
            cwd: welcome.workdir.clone(),
            mcp_servers,
            remote_servers,
            reads_files: driver.1.contains(&Offer::ReadFile),
            writes_files: driver.1.contains(&Offer::WriteFile),
            login: login.clone(),
            started_with_model: model.as_ref().is_some_and(names),
            model,
            system_prompt: instead.or_else(|| told(SYSTEM_PROMPT).map(SystemPrompt::Beside)),
            settings,
            agent_session,
            conversation,
        };
        let (mut acp, reports) = Self::spawn(welcome, confinement, argv, opening, &inherited)
            .map_err(|error| format!("cannot start a process for {}: {error}", argv[0]))?;
        acp.driven_by(driver.0, driver.1);
        Ok((acp, reports))
    }

    fn spawn(
        welcome: &Welcome,
        confinement: &Confinement,
        argv: &[String],
        opening: Opening,
        inherited: &[OwnedFd],
    ) -> io::Result<(Self, Vec<Report>)> {
        let (agent_stdin, stdin) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        let (stdout, agent_stdout) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        let (stderr, agent_stderr) = Stderr::pipe()?;
        let (stdin, stdout) = (pipe::Sender::from_owned_fd(stdin)?, pipe::Receiver::from_owned_fd(stdout)?);
        let plan = Plan {
            argv,
            directory: PathBuf::new(),
            env: &[],
            stdin: agent_stdin.into(),
            stdout: agent_stdout.into(),
            stderr: agent_stderr.into(),
        };
        // Before the agent runs, which could put something else there.
        let umask = confinement.limits.inherited.umask.unwrap_or(0o077);
        let place = Place::open(&welcome.workdir, confinement.contain.walls(), umask);
        // Closed again before anything else is started.
        descriptors::hand_on(inherited)?;
        let (pid, start) = program::start(welcome, confinement, plan)?;
        let (conversation, first) = Conversation::begin(opening);
        let mut acp = Self {
            pid,
            exit: None,
            cancel_by: None,
            restore_within: None,
            restore_by: None,
            closed_by: None,
            start,
            stdin,
            outbox: Vec::new(),
            written: 0,
            stdout: Some(stdout),
            stderr,
            line: Vec::new(),
            searched: 0,
            skipped: None,
            held_up: false,
            conversation,
            terminals: Terminals::new(confinement.clone()),
            place,
            calls: Calls::default(),
            has_spoken: false,
            given_up: false,
        };
        let reports = acp.perform(welcome, first);
        Ok((acp, reports))
    }

    /// Commands that run for the agent.
    pub fn commands(&self) -> u32 {
        u32::try_from(self.terminals.running()).unwrap_or(u32::MAX)
    }

    /// How much is held here for the agent, in bytes, beside what a message takes while it is being read. It is bounded,
    /// because the worker is outside the limits of its session.
    fn held(&self) -> usize {
        let here = self.line.len() + self.outbox.len();
        here + self.conversation.held() + self.calls.held() + self.terminals.held()
    }

    /// The prompt whose turn runs.
    pub fn turn(&self) -> Option<PromptId> {
        self.conversation.turn()
    }

    /// Waits until something can be worked on; lines count only if there is `room` for what they become.
    pub async fn ready(&self, room: bool) -> Ready {
        // What it says waits until its process is known.
        let room = room && !self.start.is_open() && self.outbox.len() - self.written < UNREAD;
        tokio::select! {
            () = self.start.readable() => Ready::Start,
            () = async { match self.outbox.is_empty() {
                false => drop(self.stdin.writable().await),
                true => std::future::pending().await,
            }} => Ready::Stdin,
            () = async { match &self.stdout {
                Some(stdout) => drop(stdout.readable().await),
                None => std::future::pending().await,
            }}, if room => Ready::Stdout,
            () = std::future::ready(()), if room && self.held_up => Ready::Stdout,
            () = self.stderr.readable() => Ready::Stderr,
            () = self.terminals.ready() => Ready::Terminals,
        }
    }

    /// Hears whether the agent runs, and where something outlives it how it ended. One that does not run leaves, and that
    /// is told then.
    pub fn read_start(&mut self) {
        let _ = self.start.read();
        self.conversation.agent_pid = self.start.pid().as_raw_pid().unsigned_abs();
        self.exit = self.exit.or(self.start.exit());
    }

    /// Gives the agent what it takes of what waits for it.
    pub fn feed(&mut self) {
        while self.written < self.outbox.len() {
            match self.stdin.try_write(&self.outbox[self.written..]) {
                Ok(n) => self.written += n,
                Err(error) if is_transient(&error) => {
                    if self.written > WRITTEN {
                        self.outbox.drain(..self.written);
                        self.written = 0;
                    }
                    return;
                }
                // It does not read any more: its end, or what it still says, decides.
                Err(_) => self.written = self.outbox.len(),
            }
        }
        self.outbox = Vec::new();
        self.written = 0;
    }

    /// Reads once what the agent says.
    pub fn read(&mut self, welcome: &Welcome) -> Vec<Report> {
        if self.held_up {
            return self.hear(welcome, &[]);
        }
        let Some(stdout) = &self.stdout else { return Vec::new() };
        let mut buffer = vec![0; READ];
        match stdout.try_read(&mut buffer) {
            Ok(n) if n > 0 => self.hear(welcome, &buffer[..n]),
            Err(error) if is_transient(&error) => Vec::new(),
            Ok(_) | Err(_) => {
                self.stdout = None;
                // Most often its end is on its way, and says more.
                self.closed_by = Some(Instant::now() + CLOSED);
                Vec::new()
            }
        }
    }

    /// Puts into the session's log what the agent writes to its standard error: one piece.
    pub fn read_stderr(&mut self, welcome: &Welcome) -> Vec<Report> {
        let printed = self.stderr.read();
        let things = self.conversation.printed(&printed);
        self.perform(welcome, things)
    }

    /// The same with all that is there: the agent, or all of its tree, is dead.
    pub fn drain_stderr(&mut self) {
        self.stderr.drain();
    }

    /// The end of what the agent wrote to its standard error.
    pub fn complaints(&self) -> String {
        self.stderr.tail()
    }

    /// Reads what is left when the agent's process is dead; `None` when all is read.
    pub fn drain(&mut self, welcome: &Welcome) -> Option<Vec<Report>> {
        let stdout = self.stdout.as_ref()?;
        let mut buffer = vec![0; READ];
        // Not by way of the runtime, which may not have noticed yet that there is something to read. Its end is
        // not waited for: a process elsewhere may hold it open.
        match rustix::io::read(stdout, &mut buffer) {
            Ok(n) if n > 0 => Some(self.hear(welcome, &buffer[..n])),
            Err(rustix::io::Errno::INTR) => Some(Vec::new()),
            Ok(_) | Err(_) => {
                self.stdout = None;
                None
            }
        }
    }

    fn hear(&mut self, welcome: &Welcome, bytes: &[u8]) -> Vec<Report> {
        self.has_spoken |= !bytes.is_empty();
        // What it has printed before it said this may belong to it.
        let mut reports = self.read_stderr(welcome);
        let bytes = match self.skip(bytes) {
            Some((unread, rest)) => {
                let things = unread.map(|unread| self.conversation.unread(unread)).unwrap_or_default();
                reports.extend(self.perform(welcome, things));
                rest
            }
            None => return reports,
        };
        self.line.extend_from_slice(bytes);
        self.held_up = false;
        while let Some(end) = self.line[self.searched..].iter().position(|byte| *byte == b'\n') {
            if self.outbox.len() - self.written >= UNREAD {
                // Each of these lines may be answered with a whole file: they wait until it has read some.
                self.held_up = true;
                return reports;
            }
            let rest = self.line.split_off(self.searched + end + 1);
            let mut line = std::mem::replace(&mut self.line, rest);
            line.pop();
            self.searched = 0;
            let things = self.conversation.hear(line);
            reports.extend(self.perform(welcome, things));
            self.watch();
        }
        self.searched = self.line.len();
        if self.line.len() > LINE {
            let mut scan = Scan::default();
            scan.push(&self.line);
            self.skipped = Some((scan, self.line.len()));
            (self.line, self.searched) = (Vec::new(), 0);
        }
        reports
    }

    /// Leaves out what belongs to a line that is too long. Gives what comes after it, and what is known of it once it has
    /// ended; nothing while it has not.
    fn skip<'a>(&mut self, bytes: &'a [u8]) -> Option<(Option<Unread>, &'a [u8])> {
        let Some((scan, length)) = &mut self.skipped else { return Some((None, bytes)) };
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let inside = end.unwrap_or(bytes.len());
        scan.push(&bytes[..inside]);
        *length += inside;
        let (end, (scan, length)) = (end?, self.skipped.take()?);
        let unread = Unread { why: Why::TooLong(length, LINE), head: scan.head() };
        Some((Some(unread), &bytes[end + 1..]))
    }

    /// From here on it is waited for anew, if it takes up its conversation.
    fn watch(&mut self) {
        let within = self.restore_within.filter(|_| self.conversation.is_taken_up());
        self.restore_by = within.map(|within| Instant::now() + within);
    }

    /// Reads what the agent's commands say.
    pub fn work(&mut self, welcome: &Welcome) -> Vec<Report> {
        let things = self.terminals.work();
        self.perform(welcome, things)
    }

    /// Gives the agent a prompt.
    pub fn prompt(
        &mut self,
        welcome: &Welcome,
        prompt: PromptId,
        text: String,
        history: &[Exchange],
        attachments: &[Attachment],
    ) -> Vec<Report> {
        let things = self.conversation.prompt(prompt, text, history, attachments);
        self.perform(welcome, things)
    }

    /// Asks the agent to end the turn, which it must by `by`.
    pub fn cancel(&mut self, welcome: &Welcome, by: Instant) -> Vec<Report> {
        self.cancel_by = Some(self.cancel_by.map_or(by, |before| before.min(by)));
        let mut things = self.conversation.cancel();
        things.extend(self.calls.close());
        self.perform(welcome, things)
    }

    /// Somebody has decided about a question.
    pub fn answer(&mut self, welcome: &Welcome, request: u64, option: Option<String>) -> Vec<Report> {
        let things = self.conversation.answer(request, option);
        self.perform(welcome, things)
    }

    /// Sets something in the agent.
    pub fn set(&mut self, welcome: &Welcome, request: u64, setting: Setting) -> Vec<Report> {
        let things = self.conversation.set(request, setting);
        self.perform(welcome, things)
    }

    /// Who drives, and what that client can do for the agent.
    pub fn driven_by(&mut self, client: Option<EventId>, offers: Vec<Offer>) {
        self.calls.driven_by(client, offers);
    }

    /// What has become of something that a client was to do.
    pub fn call_answered(&mut self, welcome: &Welcome, request: u64, answer: CallAnswer) -> Vec<Report> {
        let things = match self.calls.answered(request, answer) {
            Some(next) => self.follow(welcome, next),
            None => Vec::new(),
        };
        self.perform(welcome, things)
    }

    /// The manager is gone.
    pub fn left_alone(&mut self, welcome: &Welcome) -> Vec<Report> {
        let next = self.calls.left_alone();
        let things = next.into_iter().flat_map(|next| self.follow(welcome, next)).collect();
        self.perform(welcome, things)
    }

    /// Another manager hears us.
    pub fn taken_over(&mut self) -> Vec<Report> {
        self.calls.taken_over(self.turn())
    }

    /// A process is dead.
    pub fn ended(&mut self, pid: Pid, exit: Exit) {
        if pid == self.pid {
            self.exit = self.exit.or(Some(self.start.exit_of_child(exit)));
            self.conversation.agent_pid = self.start.pid().as_raw_pid().unsigned_abs();
        } else {
            self.terminals.ended(pid, exit);
        }
    }

    /// What to say of the agent's end.
    pub fn last_words(&mut self) -> Vec<Report> {
        let exit = self.exit.unwrap_or(Exit::Unknown);
        let _ = self.start.finish();
        let (message, passes) = match (self.start.failure(), self.turn()) {
            (Some(failure), _) => (failure, self.start.is_absent()),
            (None, _) if matches!(exit, Exit::Code(UNFOUND | UNEXECUTED)) && !self.has_spoken => {
                (format!("the agent's program did not run: {exit} before its first word"), true)
            }
            (None, Some(_)) => {
                return self.give_up(format!("the agent ended in the middle of a turn: {exit}"));
            }
            (None, None) => return self.give_up(format!("the agent ended: {exit}")),
        };
        match std::mem::replace(&mut self.given_up, true) {
            true => Vec::new(),
            false => vec![Report::NotRun { message, passes }],
        }
    }

    /// When [`Acp::hurry`] is due.
    pub fn deadline(&self) -> Option<Instant> {
        let all = [self.cancel_by, self.closed_by, self.restore_by];
        all.into_iter().flatten().min().filter(|_| !self.given_up)
    }

    /// Gives up an agent that did not do in time what it has to, or its way back into the conversation.
    pub fn hurry(&mut self, welcome: &Welcome, now: Instant) -> Vec<Report> {
        if self.closed_by.is_some_and(|by| by <= now) {
            return self.give_up("the agent closed its standard output".to_owned());
        }
        if self.restore_by.is_some_and(|by| by <= now) {
            let things = self.conversation.too_slow();
            let reports = self.perform(welcome, things);
            self.watch();
            return reports;
        }
        if self.cancel_by.is_none_or(|by| by > now) {
            return Vec::new();
        }
        let text = "the agent did not end its turn within its grace and is ended itself (SIGTERM)".to_owned();
        let mut reports = vec![Report::Notice { text }];
        if let Some(prompt) = self.turn() {
            reports.push(Report::TurnEnded { prompt, end: TurnEnd::Aborted, exit: None, left_behind: 0 });
        }
        reports.extend(self.give_up("the agent did not end the turn that it was told to end".to_owned()));
        reports
    }

    fn give_up(&mut self, message: String) -> Vec<Report> {
        match std::mem::replace(&mut self.given_up, true) {
            true => Vec::new(),
            false => vec![Report::AgentDied { message }],
        }
    }

    /// Whether the agent must be ended: that was told.
    pub fn is_given_up(&self) -> bool {
        self.given_up
    }

    fn perform(&mut self, welcome: &Welcome, things: Vec<Do>) -> Vec<Report> {
        let mut reports = Vec::new();
        let mut asked = None;
        for thing in things {
            match thing {
                Do::Send(message) => {
                    self.send(&message);
                    asked = message::text_at(&message, "method").or(asked);
                }
                Do::Report(mut report) => {
                    if let Report::TurnEnded { left_behind, .. } = &mut report {
                        *left_behind += self.terminals.end_turn();
                        self.cancel_by = None;
                        let left = self.calls.close();
                        reports.extend(self.perform(welcome, left));
                    }
                    reports.extend(self.bounded(report));
                }
                Do::Call { id, method, params } => {
                    let turn = self.turn();
                    if turn.is_none() && method == "elicitation/create" {
                        let asks = message::text_at(&params, "message").unwrap_or_default();
                        self.conversation.say("form", || {
                            let asks = message::beginning(&asks);
                            format!("between two turns the agent asked its user: {asks}; nobody could answer")
                        });
                    }
                    let next = self.calls.ask(&self.place, turn, Asked { id, method, params });
                    let answers = self.follow(welcome, next);
                    reports.extend(self.perform(welcome, answers));
                }
                Do::Log(text) => crate::log(&format!("the agent: {text}")),
                Do::Give(report) => {
                    if !std::mem::replace(&mut self.given_up, true) {
                        reports.extend(self.bounded(report));
                    }
                }
            }
        }
        if self.calls.was_full() {
            let text =
                "a request of the agent was refused: too many wait for a client already, or it is too large";
            self.conversation.say("calls", || text.to_owned());
        }
        reports.extend(self.conversation.notices().into_iter().map(|text| Report::Notice { text }));
        self.feed();
        let held = self.held();
        if held > HELD {
            (self.outbox, self.written) = (Vec::new(), 0);
            let message =
                format!("the agent has its worker hold {held} bytes for it, and {HELD} are allowed");
            reports.extend(self.give_up(message));
        }
        if let Some(method) = asked {
            failpoint::hit("acp", method.trim_start_matches("session/"));
        }
        reports
    }

    /// A report within its bounds. What that cuts is said.
    fn bounded(&mut self, mut report: Report) -> Option<Report> {
        match bounds::bound(&mut report) {
            Ok(None) => {}
            Ok(Some(what)) => {
                self.conversation.say(what, || format!("{what} was too long, and was cut or left out"));
            }
            Err(what) => {
                self.conversation.say(what, || format!("{what} is too long, and was left out"));
                return None;
            }
        }
        Some(report)
    }

    fn follow(&mut self, welcome: &Welcome, next: Next) -> Vec<Do> {
        let Asked { id, method, params } = match next {
            Next::Do(thing) => return vec![thing],
            Next::Own(asked) => asked,
        };
        let answers = self.call(welcome, id, &method, params);
        if method == "terminal/create" {
            failpoint::hit("acp", "terminal");
        }
        answers
    }

    fn call(&mut self, welcome: &Welcome, id: Value, method: &str, params: Value) -> Vec<Do> {
        let answer = match method {
            "fs/read_text_file" => files::read(&self.place, params),
            "fs/write_text_file" => files::write(&self.place, params),
            _ => return self.terminals.call(welcome, id, method, params),
        };
        vec![match answer {
            Ok(answer) => message::result(id, answer),
            Err(refused) => refused.error(id),
        }]
    }

    fn send(&mut self, message: &Value) {
        // JSON on one line: its own line ends are escaped. Nothing is refused by a buffer in memory.
        let _ = serde_json::to_writer(&mut self.outbox, message);
        self.outbox.push(b'\n');
    }
}
