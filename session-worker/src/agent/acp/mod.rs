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
mod input;
mod login;
mod message;
mod model_error;
mod perform;
mod start;
mod terminals;

use std::time::Duration;

use protocol::json::Scan;
use protocol::wire::{Attachment, CallAnswer, Exchange, Offer, Report, Setting, TurnEnd};
use protocol::{EventId, Exit, PromptId};
use rustix::process::Pid;
use tokio::net::unix::pipe;
use tokio::time::Instant;

use crate::agent::program::Start;
use crate::agent::stderr::Stderr;
use calls::Calls;
use conversation::Conversation;
use files::Place;
use terminals::Terminals;

/// While more than this waits for the agent to read it, its own lines wait too, in bytes.
const UNREAD: usize = 4 * 1024 * 1024;
/// Exit status of a shell, `env` or other wrapper that did not find its program.
const UNFOUND: i32 = 127;
/// Exit status of a wrapper that could not execute its program.
const UNEXECUTED: i32 = 126;

/// The agent.
pub struct Acp {
    /// The worker's child: its process, or what keeps its namespace.
    pub pid: Pid,
    /// Exit of that process, once it ended.
    pub exit: Option<Exit>,
    /// Deadline for the end of a cancelled turn.
    cancel_by: Option<Instant>,
    /// Time limit for each message of the agent while it restores its conversation.
    pub restore_within: Option<Duration>,
    /// Deadline for the next message while the agent restores its conversation.
    restore_by: Option<Instant>,
    /// Deadline for the end of the process, once its standard output is closed.
    closed_by: Option<Instant>,
    /// State of the start of the agent's program.
    pub start: Start,
    stdin: pipe::Sender,
    outbox: Vec<u8>,
    written: usize,
    stdout: Option<pipe::Receiver>,
    /// The agent's standard error. The worker copies it into the session's log, also while it reads nothing else.
    stderr: Stderr,
    /// Bytes of a line whose end has not come.
    line: Vec<u8>,
    /// Number of bytes of `line` without a line end.
    searched: usize,
    /// Scan and length so far, in bytes, of a line that is too long and has not ended.
    skipped: Option<(Scan, usize)>,
    /// `line` has whole lines, which wait because the agent has too much to read already.
    held_up: bool,
    conversation: Conversation,
    terminals: Terminals,
    place: Place,
    calls: Calls,
    /// The agent has written something to its standard output.
    has_spoken: bool,
    /// The agent must be ended, and the manager knows why.
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
    /// Returns the number of commands that run for the agent.
    pub fn commands(&self) -> u32 {
        u32::try_from(self.terminals.running()).unwrap_or(u32::MAX)
    }

    /// Returns the prompt whose turn runs.
    pub fn turn(&self) -> Option<PromptId> {
        self.conversation.turn()
    }

    /// Waits until something can be worked on; lines count only if there is `room` for what they become.
    pub async fn ready(&self, room: bool) -> Ready {
        // The agent's output waits until the worker knows its process.
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

    /// Reads whether the agent runs, and how it ended, if its namespace reports that.
    pub fn read_start(&mut self) {
        let _ = self.start.read();
        self.conversation.agent_pid = self.start.pid().as_raw_pid().unsigned_abs();
        self.exit = self.exit.or(self.start.exit());
    }

    /// Reads what the agent's commands say.
    pub fn work(&mut self) -> Vec<Report> {
        let things = self.terminals.work();
        self.perform(things)
    }

    /// Gives the agent a prompt.
    pub fn prompt(
        &mut self,
        prompt: PromptId,
        text: String,
        history: &[Exchange],
        attachments: &[Attachment],
    ) -> Vec<Report> {
        let things = self.conversation.prompt(prompt, text, history, attachments);
        self.perform(things)
    }

    /// Asks the agent to end the turn, which it must by `by`.
    pub fn cancel(&mut self, by: Instant) -> Vec<Report> {
        self.cancel_by = Some(self.cancel_by.map_or(by, |before| before.min(by)));
        let mut things = self.conversation.cancel();
        things.extend(self.calls.close());
        self.perform(things)
    }

    /// Answers a permission request. Without an `option` the request is cancelled.
    pub fn answer(&mut self, request: u64, option: Option<String>) -> Vec<Report> {
        let things = self.conversation.answer(request, option);
        self.perform(things)
    }

    /// Sets something in the agent.
    pub fn set(&mut self, request: u64, setting: Setting) -> Vec<Report> {
        let things = self.conversation.set(request, setting);
        self.perform(things)
    }

    /// Sets the driver, and the requests of the agent that it can answer.
    pub fn driven_by(&mut self, client: Option<EventId>, offers: Vec<Offer>) {
        self.calls.driven_by(client, offers);
    }

    /// Takes the answer to a call.
    pub fn call_answered(&mut self, request: u64, answer: CallAnswer) -> Vec<Report> {
        let things = match self.calls.answered(request, answer) {
            Some(next) => self.follow(next),
            None => Vec::new(),
        };
        self.perform(things)
    }

    /// Handles the calls whose clients are gone with the manager.
    pub fn left_alone(&mut self) -> Vec<Report> {
        let next = self.calls.left_alone();
        let things = next.into_iter().flat_map(|next| self.follow(next)).collect();
        self.perform(things)
    }

    /// Repeats the open calls to the next manager.
    pub fn taken_over(&mut self) -> Vec<Report> {
        self.calls.taken_over(self.turn())
    }

    /// Records the exit of a child process.
    pub fn ended(&mut self, pid: Pid, exit: Exit) {
        if pid == self.pid {
            self.exit = self.exit.or(Some(self.start.exit_of_child(exit)));
            self.conversation.agent_pid = self.start.pid().as_raw_pid().unsigned_abs();
        } else {
            self.terminals.ended(pid, exit);
        }
    }

    /// Makes the reports about the agent's end.
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

    /// Returns the time at which [`Acp::hurry`] must run.
    pub fn deadline(&self) -> Option<Instant> {
        let all = [self.cancel_by, self.closed_by, self.restore_by];
        all.into_iter().flatten().min().filter(|_| !self.given_up)
    }

    /// Acts on deadlines that have passed: gives the agent up, or tries the next way to restore its conversation.
    pub fn hurry(&mut self, now: Instant) -> Vec<Report> {
        if self.closed_by.is_some_and(|by| by <= now) {
            return self.give_up("the agent closed its standard output".to_owned());
        }
        if self.restore_by.is_some_and(|by| by <= now) {
            let things = self.conversation.too_slow();
            let reports = self.perform(things);
            self.watch();
            return reports;
        }
        if self.cancel_by.is_none_or(|by| by > now) {
            return Vec::new();
        }
        let text = "the agent did not end its turn within its grace and is ended itself (SIGTERM)".to_owned();
        let mut reports = vec![Report::Notice { text }];
        // Before the turn's end: else the next prompt would be given to an agent that is being ended.
        reports.extend(self.give_up("the agent did not end the turn that it was told to end".to_owned()));
        if let Some(prompt) = self.turn() {
            reports.push(Report::TurnEnded { prompt, end: TurnEnd::Aborted, exit: None, left_behind: 0 });
        }
        reports
    }

    fn give_up(&mut self, message: String) -> Vec<Report> {
        match std::mem::replace(&mut self.given_up, true) {
            true => Vec::new(),
            false => vec![Report::AgentDied { message }],
        }
    }

    /// Returns whether the agent must be ended. The manager knows why.
    pub fn is_given_up(&self) -> bool {
        self.given_up
    }
}
