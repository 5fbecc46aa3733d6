//! A session's conversation: the prompts that wait, the turn that runs, the prompts that were cut off.

use std::collections::VecDeque;
use std::sync::Arc;

use protocol::api::{AttachmentInfo, OnCrash, WhenBusy};
use protocol::event::{Disposition, EventKind, Outcome, RemovedBy, Resolution};
use protocol::wire::{Agent, Attachment, TurnEnd};
use protocol::{Exit, Incarnation, PromptId, Stream};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::calls::Calls;
use super::judge::{Cause, Verdict, judge_absence};
use super::watchdog::{Quiet, STALLED};
use crate::core::rules::permissions::{Answer, Asking, Permission, Questions};
use crate::core::session::{Note, Out, Session, State};
use crate::core::{At, Refusal, Reply, limits};

/// What an event has beside its texts and its payload, in bytes.
const EVENT: usize = 256;

/// A prompt that may still be run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prompt {
    /// Its id.
    pub id: PromptId,
    /// Its text. The journal keeps it in a row of its own, written once, and not in the session's.
    #[serde(skip)]
    pub text: Arc<str>,
    /// What belongs to it. What is in them is in the journal only, until it is handed to a worker.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<AttachmentInfo>,
}

/// A prompt that a client wants accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPrompt {
    /// Its text, checked by the caller.
    pub text: Arc<str>,
    /// What to do if a turn runs or others wait.
    pub when_busy: WhenBusy,
    /// What belongs to it, checked by the caller.
    pub attachments: Arc<[Attachment]>,
}

impl NewPrompt {
    /// Nothing but a text.
    pub fn text(text: impl Into<Arc<str>>, when_busy: WhenBusy) -> Self {
        Self { text: text.into(), when_busy, attachments: Arc::default() }
    }
}

/// What is to be kept for a prompt until it has ended, beside the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Which prompt.
    pub prompt: PromptId,
    /// What.
    pub what: Arc<[Attachment]>,
}

/// The turn that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// Counts the session's turns from 1.
    pub number: u64,
    /// What the agent was told.
    pub prompt: Prompt,
    /// How far it is.
    pub phase: Phase,
    /// The agent has said something on standard output.
    pub spoke: bool,
    /// It has done something else that can be seen: used a tool, planned, asked.
    #[serde(default)]
    pub acted: bool,
    /// Permissions that wait for an answer, oldest first.
    #[serde(default)]
    pub open: Vec<Permission>,
    /// What was decided about the others.
    #[serde(default)]
    pub answers: Vec<Answer>,
    /// Tool calls that have not ended, by the agent's ids.
    #[serde(default)]
    pub tools: Vec<String>,
    /// What it wants done by a client.
    #[serde(default)]
    pub calls: Calls,
    /// When its time is up, in milliseconds since boot, if it has begun and its session says how long one may take.
    #[serde(default)]
    pub until: Option<u64>,
    /// Its time was up before anybody asked for its end.
    #[serde(default)]
    pub timed_out: bool,
    /// For how long nothing has shown that its agent works.
    #[serde(default)]
    pub quiet: Quiet,
    /// How much of what the agent has said in it is on record, in bytes.
    #[serde(default)]
    pub recorded: u64,
    /// How much of what it has asked is on record since `recorded` is full, in bytes.
    #[serde(default)]
    pub asked: u64,
}

impl Turn {
    /// Its worker has said that it has the prompt. One that has not said so may have it.
    pub fn is_taken(&self) -> bool {
        match self.phase {
            Phase::Sent { .. } => false,
            Phase::Started { .. } => true,
            Phase::Aborting { agent_pid, .. } => agent_pid.is_some(),
        }
    }

    fn is_empty(&self) -> bool {
        !self.spoke && !self.acted
    }

    /// The stop reason of a turn that was aborted.
    fn why_aborted(&self) -> &'static str {
        if self.timed_out { "timeout" } else { "cancelled" }
    }
}

/// How far a turn is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Given to the worker, which must take it by `deadline`.
    Sent {
        /// In milliseconds since boot.
        deadline: u64,
    },
    /// The agent works on it.
    Started {
        /// The process.
        agent_pid: u32,
    },
    /// Somebody asked for its end, which must come by `deadline`.
    Aborting {
        /// In milliseconds since boot.
        deadline: u64,
        /// The agent's process, if it had begun.
        agent_pid: Option<u32>,
    },
}

/// The conversation of one session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turns {
    /// Prompts that wait, the next one first.
    pub queue: VecDeque<Prompt>,
    /// The turn that runs. Only a session with a process has one.
    pub running: Option<Turn>,
    /// Prompts whose turn was cut off and of which nobody has said what is to become of them.
    pub interrupted: Vec<Prompt>,
    /// Turns begun.
    pub count: u64,
    /// Prompts given to the agent, and answers that came back.
    pub messages: u64,
    /// When a user or agent last said something, unix time in milliseconds.
    pub last_message_at: Option<u64>,
    /// The beginning of the first prompt.
    pub first_prompt: Option<Arc<str>>,
    /// The next prompt is one whose agent's program did not come to run: it is not tried again before then, in milliseconds since
    /// boot.
    #[serde(default)]
    pub not_before: Option<u64>,
    /// How much of what the agent has said since its newest turn, and in none, is on record, in bytes.
    #[serde(default)]
    pub between: u64,
    /// What it has asked in no turn.
    #[serde(default)]
    pub asked: Questions,
    /// The newest turn came to its end without a word.
    #[serde(default)]
    pub empty: bool,
}

impl Prompt {
    /// Nothing but a text.
    pub fn text(id: PromptId, text: impl Into<Arc<str>>) -> Self {
        Self { id, text: text.into(), attachments: Vec::new() }
    }
}

impl Turns {
    /// Whether this prompt's turn runs and nobody has asked for its end.
    pub(in crate::core) fn runs_unasked(&self, prompt: PromptId) -> bool {
        let asked = |turn: &Turn| matches!(turn.phase, Phase::Aborting { .. });
        self.running.as_ref().is_some_and(|turn| turn.prompt.id == prompt && !asked(turn))
    }
}

impl Turn {
    /// Whether there is room on record for so many bytes more of what the agent says. Once there is not, that is said, and
    /// nothing more is recorded of what it says in this turn.
    pub(in crate::core) fn records(&mut self, bytes: usize, out: &mut Out) -> bool {
        takes(&mut self.recorded, bytes, limits::TURN_BYTES, out, |most| {
            format!(
                "the turn goes on, and what its agent says from here on is not recorded: one turn has {most} MiB on record at most"
            )
        })
    }
}

impl Turn {
    /// What is recorded of a question, which has so many bytes beside its payload. Once the turn's record is full that is
    /// the question without its payload, and after [`limits::ASKS_BYTES`] of these it is nothing.
    pub(in crate::core) fn records_ask(
        &mut self,
        bytes: usize,
        payload: &Value,
        out: &mut Out,
    ) -> Option<Value> {
        if self.records(bytes + weight(payload), out) {
            return Some(payload.clone());
        }
        let records = takes(&mut self.asked, bytes + EVENT, limits::ASKS_BYTES, out, |most| {
            format!(
                "the agent is allowed nothing more in this turn: {most} MiB of its questions are on record beside what it has said, and what is on no record is not allowed"
            )
        });
        records.then(|| Value::Object(serde_json::Map::new()))
    }
}

impl Turns {
    /// The questions of the turn that runs, or of none.
    pub(in crate::core) fn asking(&mut self, in_turn: bool) -> Asking<'_> {
        match &mut self.running {
            Some(turn) if in_turn => turn.asking(),
            Some(_) | None => self.asked.asking(),
        }
    }

    /// Permissions that wait for an answer, with the prompt in whose turn they were asked.
    pub fn questions(&self) -> impl Iterator<Item = (Option<PromptId>, &Permission)> {
        let turn = self.running.as_ref();
        let in_turn = turn.into_iter().flat_map(|turn| turn.open.iter().map(|it| (Some(turn.prompt.id), it)));
        in_turn.chain(self.asked.open.iter().map(|it| (None, it)))
    }

    /// The same for what belongs to no turn; there is room again with the next turn, and with the next process.
    pub(in crate::core) fn records_between(&mut self, bytes: usize, out: &mut Out) -> bool {
        takes(&mut self.between, bytes, limits::BETWEEN_BYTES, out, |most| {
            format!(
                "what the agent says from here on until its next turn is not recorded: {most} MiB between two turns are on record at most"
            )
        })
    }
}

/// Whether so many bytes more are within a bound, in bytes; whatever leaves it, it alone, is told, with the bound in MiB.
fn takes(
    recorded: &mut u64,
    bytes: usize,
    most: u64,
    out: &mut Out,
    tells: impl FnOnce(u64) -> String,
) -> bool {
    if *recorded > most {
        return false;
    }
    *recorded += bytes as u64;
    let records = *recorded <= most;
    if !records {
        out.emit(EventKind::SystemMessage { text: tells(most >> 20) });
    }
    records
}

/// About how many bytes a payload has in JSON: never more than it has.
pub(in crate::core) fn weight(payload: &Value) -> usize {
    match payload {
        Value::Null | Value::Bool(_) | Value::Number(_) => 1,
        Value::String(text) => text.len() + 2,
        Value::Array(items) => items.iter().map(|item| weight(item) + 1).sum::<usize>() + 1,
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| name.len() + 4 + weight(value)).sum::<usize>() + 1
        }
    }
}

impl Session {
    pub(in crate::core) fn accept(
        &mut self,
        at: At,
        new: &NewPrompt,
        out: &mut Out,
    ) -> Result<Reply, Refusal> {
        self.takes_prompts()?;
        if !new.attachments.is_empty() && !matches!(self.spec.agent, Agent::Acp { .. }) {
            let (id, agent) = (self.id.clone(), self.spec.agent_name.clone());
            return Err(Refusal::NoAttachments { id, agent });
        }
        self.can_run(&new.text)?;
        let busy = self.turns.running.is_some() || !self.turns.queue.is_empty();
        if busy && new.when_busy == WhenBusy::Reject {
            return Err(Refusal::Busy(self.id.clone()));
        }
        if self.turns.queue.len() >= limits::QUEUE {
            return Err(Refusal::QueueFull { id: self.id.clone(), limit: limits::QUEUE });
        }
        let first = new.when_busy == WhenBusy::Interrupt;
        let about = new.attachments.iter().map(AttachmentInfo::from).collect();
        let reply = self.enqueue(&new.text, about, first, None, out);
        if let (Reply::Accepted { prompt, .. }, false) = (&reply, new.attachments.is_empty()) {
            out.keep(Attached { prompt: *prompt, what: new.attachments.clone() });
        }
        if first && self.turns.running.is_some() {
            self.abort_turn(at, out);
        }
        Ok(reply)
    }

    /// What is accepted can be run.
    fn can_run(&self, text: &str) -> Result<(), Refusal> {
        match self.spec.agent.longest_prompt() {
            Some(limit) if text.len() > limit => {
                let (id, agent) = (self.id.clone(), self.spec.agent_name.clone());
                Err(Refusal::TooLongForAgent { id, agent, bytes: text.len(), limit })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Puts a prompt into the queue; `settle` starts it if nothing stands before it.
    pub(in crate::core) fn enqueue(
        &mut self,
        text: &Arc<str>,
        attachments: Vec<AttachmentInfo>,
        first: bool,
        retry_of: Option<PromptId>,
        out: &mut Out,
    ) -> Reply {
        let prompt_id = PromptId(out.next_event());
        let ready = matches!(self.state, State::Ready { .. });
        let starts = ready && self.turns.running.is_none() && self.turns.queue.is_empty();
        let disposition = if starts { Disposition::Started } else { Disposition::Queued };
        out.emit(EventKind::PromptAccepted {
            prompt_id,
            text: text.to_string(),
            disposition,
            retry_of,
            attachments: attachments.clone(),
        });
        let prompt = Prompt { id: prompt_id, text: text.clone(), attachments };
        let position = if first { 0 } else { self.turns.queue.len() };
        self.turns.queue.insert(position, prompt);
        if !starts {
            out.emit(EventKind::PromptQueued { prompt_id, position: position as u32 });
        }
        Reply::Accepted { prompt: prompt_id, disposition }
    }

    /// Takes the next prompt to the agent, if one waits and nothing runs.
    pub(in crate::core) fn start_turn(&mut self, at: At, out: &mut Out) {
        if !matches!(self.state, State::Ready { .. }) || self.turns.running.is_some() || at.closing {
            return;
        }
        if self.turns.queue.is_empty() {
            self.turns.not_before = None;
            return;
        }
        match self.turns.not_before {
            Some(not_before) if at.mono < not_before => return,
            Some(_) => {}
            // No start before it failed.
            None => self.absence = None,
        }
        self.turns.not_before = None;
        let Some(prompt) = self.turns.queue.pop_front() else {
            return;
        };
        self.turns.count += 1;
        (self.turns.between, self.turns.empty) = (0, false);
        self.turns.messages += 1;
        self.turns.last_message_at = Some(at.wall);
        if self.turns.first_prompt.is_none() {
            let beginning: String = prompt.text.chars().take(limits::FIRST_PROMPT_CHARS).collect();
            self.turns.first_prompt = Some(beginning.into());
        }
        out.emit(EventKind::PromptStarted { prompt_id: prompt.id });
        let reading = match self.is_told_history() || !prompt.attachments.is_empty() {
            true => limits::READ_PROMPT_MS,
            false => 0,
        };
        let phase = Phase::Sent { deadline: at.mono + reading + limits::TAKE_PROMPT_MS };
        self.turns.running = Some(Turn {
            number: self.turns.count,
            prompt,
            phase,
            spoke: false,
            acted: false,
            open: Vec::new(),
            answers: Vec::new(),
            tools: Vec::new(),
            calls: Calls::default(),
            until: None,
            timed_out: false,
            recorded: 0,
            asked: 0,
            quiet: Quiet::default(),
        });
    }

    pub(in crate::core) fn abort(&mut self, at: At, out: &mut Out) -> Result<Reply, Refusal> {
        let Some(turn) = &self.turns.running else {
            return Err(Refusal::NoTurn(self.id.clone()));
        };
        let prompt = turn.prompt.id;
        self.abort_turn(at, out);
        if let Some(turn) = &mut self.turns.running {
            // Whoever wants its end does not want to be asked what is to become of it.
            turn.quiet.step = None;
        }
        Ok(Reply::Aborting { prompt })
    }

    pub(in crate::core) fn abort_turn(&mut self, at: At, out: &mut Out) {
        let deadline = at.mono + self.spec.grace_ms + limits::ABORT_SLACK_MS;
        let Some(turn) = &mut self.turns.running else {
            return;
        };
        // The worker cancels them with the turn: some agents wait for ever for an answer.
        turn.asking().close("the turn is being aborted", out);
        turn.close_calls("the turn is being aborted", out);
        match turn.phase {
            Phase::Sent { .. } => turn.phase = Phase::Aborting { deadline, agent_pid: None },
            Phase::Started { agent_pid } => {
                turn.phase = Phase::Aborting { deadline, agent_pid: Some(agent_pid) };
            }
            // Asked for already; a second request buys no time.
            Phase::Aborting { .. } => {}
        }
    }

    /// Ends the turn if its time is up.
    pub(in crate::core) fn expire_turn(&mut self, at: At, out: &mut Out) {
        let Some(turn) = &mut self.turns.running else { return };
        if turn.until.is_none_or(|until| at.mono < until) {
            return;
        }
        turn.timed_out = true;
        let seconds = self.spec.turn_timeout_ms as f64 / 1000.0;
        let text = format!(
            "the turn has not come to its end within {seconds} s, which is its limit, and is aborted"
        );
        out.emit(EventKind::SystemMessage { text });
        self.abort_turn(at, out);
    }

    /// Whether the agent is told the turns before with its next prompt.
    pub fn is_told_history(&self) -> bool {
        match &self.spec.agent {
            Agent::Command { transcript, .. } => *transcript,
            Agent::Acp { .. } => self.owes_transcript,
            Agent::Shell => false,
        }
    }

    /// The worker has the prompt, and from now on its own time to take it.
    pub(in crate::core) fn handed(&mut self, at: At, prompt: PromptId) {
        if let Some(turn) = self.turns.running.as_mut().filter(|turn| turn.prompt.id == prompt)
            && let Phase::Sent { deadline } = &mut turn.phase
        {
            *deadline = at.mono + limits::TAKE_PROMPT_MS;
        }
    }

    pub(in crate::core) fn turn_started(&mut self, at: At, prompt: PromptId, agent_pid: u32, out: &mut Out) {
        let limit = self.spec.turn_timeout_ms;
        let Some(turn) = self.turns.running.as_mut().filter(|turn| turn.prompt.id == prompt) else {
            return;
        };
        match &mut turn.phase {
            Phase::Sent { .. } => {
                turn.phase = Phase::Started { agent_pid };
                turn.until = (limit > 0).then(|| at.mono.saturating_add(limit));
            }
            Phase::Aborting { agent_pid: known @ None, .. } => *known = Some(agent_pid),
            Phase::Started { .. } | Phase::Aborting { .. } => return,
        }
        out.emit(EventKind::TurnStarted { turn: turn.number, prompt_id: prompt, agent_pid });
    }

    pub(in crate::core) fn said(
        &mut self,
        at: At,
        prompt: PromptId,
        stream: Stream,
        text: String,
        payload: Option<Value>,
        out: &mut Out,
    ) {
        let Some(turn) = self.turns.running.as_mut().filter(|turn| turn.prompt.id == prompt) else {
            return;
        };
        let is_text = |payload: &Value| payload["content"]["type"] == "text";
        let nothing = text.is_empty() && payload.as_ref().is_none_or(is_text);
        if stream == Stream::Stdout && !turn.spoke && !nothing {
            turn.spoke = true;
            self.turns.messages += 1;
        }
        self.turns.last_message_at = Some(at.wall);
        if !turn.records(text.len() + payload.as_ref().map_or(0, weight), out) {
            return;
        }
        let turn = turn.number;
        out.emit(EventKind::MessageChunk { turn, prompt_id: prompt, stream, text, payload });
    }

    /// The worker says the turn is over.
    pub(in crate::core) fn turn_ended(
        &mut self,
        at: At,
        prompt: PromptId,
        end: &TurnEnd,
        exit: Option<Exit>,
        left_behind: u32,
        out: &mut Out,
    ) {
        if self.turns.running.as_ref().is_none_or(|turn| turn.prompt.id != prompt) {
            return;
        }
        if left_behind > 0 {
            let what = if left_behind == 1 { "1 process" } else { &format!("{left_behind} processes") };
            out.emit(EventKind::SystemMessage {
                text: format!("{what} left in the background by the turn were ended with it"),
            });
        }
        let aborted = self.turns.running.as_ref().map_or("cancelled", Turn::why_aborted);
        let stalled = self.turns.running.as_ref().is_some_and(Turn::is_stalled);
        match end {
            TurnEnd::Finished => self.complete_turn(Outcome::Completed, "end_turn", exit, out),
            TurnEnd::NotRun { message } if self.turns.runs_unasked(prompt) && self.wanted() => {
                self.turn_not_run(at, message, out);
            }
            TurnEnd::NotRun { .. } => self.complete_turn(Outcome::Aborted, aborted, exit, out),
            TurnEnd::Failed { message } => {
                out.emit(EventKind::SystemMessage { text: message.clone() });
                self.complete_turn(Outcome::Completed, "error", exit, out);
            }
            TurnEnd::Stopped { .. } if stalled => self.cut_turn(STALLED, exit, out),
            // Agents end an aborted turn in words of their own.
            TurnEnd::Stopped { .. } if !self.turns.runs_unasked(prompt) => {
                self.complete_turn(Outcome::Aborted, aborted, exit, out);
            }
            // Nobody asked for it here: some agents end their turn so when they are denied something.
            TurnEnd::Stopped { reason } if reason == "cancelled" => {
                self.complete_turn(Outcome::Aborted, "cancelled", exit, out);
            }
            TurnEnd::Stopped { reason } => {
                if reason == "end_turn" && self.turns.running.as_ref().is_some_and(Turn::is_empty) {
                    self.turns.empty = true;
                    let text = "the turn is empty: the agent ended it without an answer or a tool call, as some do when their \
                                model refuses or cannot be reached";
                    out.emit(EventKind::SystemMessage { text: text.to_owned() });
                }
                self.complete_turn(Outcome::Completed, reason, exit, out);
            }
            TurnEnd::Aborted => self.cut_turn("its worker was told to leave", exit, out),
        }
    }

    /// The agent's program did not come to run, and has heard nothing of the prompt: it is tried again, for as long as a
    /// missing program is waited for.
    fn turn_not_run(&mut self, at: At, message: &str, out: &mut Out) {
        let cause = Cause::NotRun { message: message.to_owned(), passes: true };
        // Each try has a number of its own, so that the waits differ.
        let tries = self.turns.count as Incarnation;
        match judge_absence(&mut self.absence, at.mono, &cause, &self.id, tries) {
            Verdict::Restart { delay_ms } => {
                let Some(mut turn) = self.turns.running.take() else { return };
                turn.close(out);
                out.emit(EventKind::TurnInterrupted {
                    turn: turn.number,
                    prompt_id: turn.prompt.id,
                    reason: message.to_owned(),
                    will_retry: true,
                });
                // It was given to nobody.
                self.turns.messages = self.turns.messages.saturating_sub(1);
                self.turns.queue.push_front(turn.prompt);
                self.turns.not_before = Some(at.mono + delay_ms);
            }
            Verdict::Fail { reason } => {
                self.absence = None;
                out.emit(EventKind::SystemMessage { text: reason });
                self.complete_turn(Outcome::Completed, "error", None, out);
            }
            Verdict::Stop => self.complete_turn(Outcome::Completed, "error", None, out),
        }
    }

    /// The turn did not come to its own end: aborted if somebody asked for that, else interrupted.
    pub(in crate::core) fn cut_turn(&mut self, reason: &str, exit: Option<Exit>, out: &mut Out) {
        let Some(turn) = &self.turns.running else { return };
        let stalled = turn.is_stalled();
        if matches!(turn.phase, Phase::Aborting { .. }) && !stalled || !self.wanted() {
            let why = turn.why_aborted();
            return self.complete_turn(Outcome::Aborted, why, exit, out);
        }
        let Some(mut turn) = self.turns.running.take() else {
            return;
        };
        turn.close(out);
        let prompt_id = turn.prompt.id;
        // Without end, if it stalls each time: no death is counted.
        let will_retry = self.spec.on_crash == OnCrash::Retry && !stalled;
        out.emit(EventKind::TurnInterrupted {
            turn: turn.number,
            prompt_id,
            reason: if stalled { STALLED } else { reason }.to_owned(),
            will_retry,
        });
        if will_retry {
            self.turns.queue.push_front(turn.prompt);
            return;
        }
        self.turns.interrupted.push(turn.prompt);
        if self.turns.interrupted.len() > limits::INTERRUPTED {
            let oldest = self.turns.interrupted.remove(0).id;
            out.emit(EventKind::PromptResolved {
                prompt_id: oldest,
                action: Resolution::Drop,
                retried_as: None,
            });
        }
        self.prompt_ended(prompt_id, Outcome::Interrupted, out);
    }

    fn complete_turn(&mut self, outcome: Outcome, stop_reason: &str, exit: Option<Exit>, out: &mut Out) {
        let Some(mut turn) = self.turns.running.take() else {
            return;
        };
        turn.close(out);
        // What it was told is part of its own record of the conversation from here on.
        self.owes_transcript &= outcome != Outcome::Completed;
        let prompt_id = turn.prompt.id;
        out.emit(EventKind::TurnCompleted {
            turn: turn.number,
            prompt_id,
            outcome,
            stop_reason: stop_reason.to_owned(),
            exit,
        });
        self.prompt_ended(prompt_id, outcome, out);
    }

    /// Every end of a prompt comes by here, once: a sub-agent's task is one of them.
    fn prompt_ended(&mut self, prompt: PromptId, outcome: Outcome, out: &mut Out) {
        if let Some(task) = self.task.as_mut().filter(|task| task.open && task.prompt == prompt) {
            task.open = false;
            out.note(Note::TaskEnded { outcome });
        }
    }

    pub(in crate::core) fn edit(
        &mut self,
        prompt: PromptId,
        text: &Arc<str>,
        out: &mut Out,
    ) -> Result<Reply, Refusal> {
        let index = self.queued(prompt)?;
        self.can_run(text)?;
        self.turns.queue[index].text = text.clone();
        out.emit(EventKind::PromptEdited { prompt_id: prompt, text: text.to_string() });
        Ok(Reply::Done)
    }

    pub(in crate::core) fn remove(&mut self, prompt: PromptId, out: &mut Out) -> Result<Reply, Refusal> {
        let index = self.queued(prompt)?;
        self.turns.queue.remove(index);
        out.emit(EventKind::PromptRemoved { prompt_id: prompt, reason: RemovedBy::Removed });
        self.prompt_ended(prompt, Outcome::Aborted, out);
        Ok(Reply::Done)
    }

    pub(in crate::core) fn clear_queue(&mut self, reason: RemovedBy, out: &mut Out) -> Reply {
        let removed = self.turns.queue.len() as u32;
        for prompt in std::mem::take(&mut self.turns.queue) {
            out.emit(EventKind::PromptRemoved { prompt_id: prompt.id, reason });
            self.prompt_ended(prompt.id, Outcome::Aborted, out);
        }
        Reply::Cleared { removed }
    }

    fn queued(&self, prompt: PromptId) -> Result<usize, Refusal> {
        let index = self.turns.queue.iter().position(|queued| queued.id == prompt);
        index.ok_or_else(|| {
            let running = self.turns.running.iter().map(|turn| turn.prompt.id);
            let known = running.chain(self.turns.interrupted.iter().map(|prompt| prompt.id));
            if known.into_iter().any(|id| id == prompt) {
                Refusal::NotQueued(prompt)
            } else {
                Refusal::NoSuchPrompt(prompt)
            }
        })
    }

    pub(in crate::core) fn resolve(
        &mut self,
        prompt: PromptId,
        action: Resolution,
        out: &mut Out,
    ) -> Result<Reply, Refusal> {
        let index = self.turns.interrupted.iter().position(|interrupted| interrupted.id == prompt);
        let index = index.ok_or(Refusal::NotInterrupted(prompt))?;
        if action == Resolution::Retry {
            self.takes_prompts()?;
            if self.turns.queue.len() >= limits::QUEUE {
                return Err(Refusal::QueueFull { id: self.id.clone(), limit: limits::QUEUE });
            }
        }
        let interrupted = self.turns.interrupted.remove(index);
        let retried_as = match action {
            Resolution::Drop => None,
            Resolution::Retry => {
                let (text, about) = (&interrupted.text, interrupted.attachments.clone());
                match self.enqueue(text, about, true, Some(prompt), out) {
                    Reply::Accepted { prompt, .. } => Some(prompt),
                    _ => None,
                }
            }
        };
        out.emit(EventKind::PromptResolved { prompt_id: prompt, action, retried_as });
        Ok(Reply::Resolved { retried_as })
    }
}
