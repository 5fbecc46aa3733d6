//! The running turn: its start, its messages, its abort and its end.

use protocol::api::OnCrash;
use protocol::event::{EventKind, Outcome, Resolution};
use protocol::wire::{Agent, TurnEnd};
use protocol::{Exit, Incarnation, PromptId, Stream};
use serde_json::Value;

use crate::core::at::At;
use crate::core::input::Reply;
use crate::core::limits;
use crate::core::model::session::Session;
use crate::core::model::state::State;
use crate::core::model::turn::{Calls, Phase, Prompt, Quiet, Turn};
use crate::core::out::{Note, Out};
use crate::core::refusal::Refusal;
use crate::core::rules::judge::{Cause, Retry, judge_absence};
use crate::core::rules::recording;
use crate::core::rules::watchdog::STALLED;

impl Session {
    /// Starts the next prompt's turn, if a prompt waits and nothing runs.
    pub(in crate::core) fn start_turn(&mut self, at: At, out: &mut Out) {
        if !matches!(self.state, State::Ready { .. }) || self.turns.running.is_some() {
            return;
        }
        if at.closing {
            // Nothing starts any more, and a time at which it would is waited for in vain.
            self.turns.not_before = None;
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

    /// Ends the running turn. A prompt that waits for its missing program leaves the queue instead: nothing runs that could end.
    pub(in crate::core) fn abort(&mut self, at: At, out: &mut Out) -> Result<Reply, Refusal> {
        let Some(prompt) = self.current_prompt() else {
            return Err(Refusal::NoTurn(self.id.clone()));
        };
        if self.turns.running.is_none() {
            self.give_up_waiting(out)?;
            return Ok(Reply::Aborting { prompt });
        }
        self.abort_turn(at, out);
        if let Some(turn) = &mut self.turns.running {
            // A client that aborts the turn needs no report of a stall.
            turn.quiet.step = None;
        }
        Ok(Reply::Aborting { prompt })
    }

    /// Ends the running turn if it is this prompt's.
    pub(in crate::core) fn abort_only(
        &mut self,
        at: At,
        prompt: PromptId,
        out: &mut Out,
    ) -> Result<Reply, Refusal> {
        if self.current_prompt() == Some(prompt) {
            return self.abort(at, out);
        }
        let (id, waits) = (self.id.clone(), self.turns.queue.iter().any(|queued| queued.id == prompt));
        Err(if waits { Refusal::Queued { id, prompt } } else { Refusal::NoTurnOf { id, prompt } })
    }

    /// Removes the prompt that waits for its missing program, if one does. The next prompt has a minute of its own.
    pub(in crate::core) fn give_up_waiting(&mut self, out: &mut Out) -> Result<(), Refusal> {
        if let Some(prompt) = self.waits_for_program() {
            self.remove(prompt, out)?;
            (self.absence, self.turns.not_before) = (None, None);
        }
        Ok(())
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

    /// Aborts the turn if its time limit has passed.
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

    /// Returns true if the next prompt brings the agent the history of earlier turns.
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
        if !turn.records(text.len() + payload.as_ref().map_or(0, recording::weight), out) {
            return;
        }
        let turn = turn.number;
        out.emit(EventKind::MessageChunk { turn, prompt_id: prompt, stream, text, payload });
    }

    /// Handles a worker's report that the turn is over.
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
            let (what, were) = if left_behind == 1 { ("process", "was") } else { ("processes", "were") };
            out.emit(EventKind::SystemMessage {
                text: format!("{left_behind} {what} left in the background by the turn {were} ended with it"),
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
            TurnEnd::Stopped { .. } if stalled => self.cut_turn(at, STALLED, exit, out),
            // Agents end an aborted turn in words of their own.
            TurnEnd::Stopped { .. } if !self.turns.runs_unasked(prompt) => {
                self.complete_turn(Outcome::Aborted, aborted, exit, out);
            }
            // No command aborted it: some agents end their turn so when a permission is denied.
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
            TurnEnd::Aborted => self.cut_turn(at, "its worker was told to leave", exit, out),
        }
    }

    /// Handles an agent's program that could not run and so has not received the prompt. The prompt is tried
    /// again for as long as a missing program is waited for.
    fn turn_not_run(&mut self, at: At, message: &str, out: &mut Out) {
        let cause = Cause::NotRun { message: message.to_owned(), passes: true };
        // Each try has a number of its own, so that the waits differ.
        let tries = self.turns.count as Incarnation;
        match judge_absence(&mut self.absence, at.mono, &cause, &self.id, tries) {
            Retry::After { delay_ms } => {
                let Some(mut turn) = self.turns.running.take() else { return };
                turn.close(out);
                out.emit(EventKind::TurnInterrupted {
                    turn: turn.number,
                    prompt_id: turn.prompt.id,
                    reason: message.to_owned(),
                    will_retry: true,
                });
                // No agent received it.
                self.turns.messages = self.turns.messages.saturating_sub(1);
                self.turns.queue.push_front(turn.prompt);
                self.turns.not_before = Some(at.mono + delay_ms);
            }
            Retry::GiveUp { reason } => {
                self.absence = None;
                out.emit(EventKind::SystemMessage { text: reason });
                self.complete_turn(Outcome::Completed, "error", None, out);
            }
        }
    }

    /// The turn did not come to its own end: aborted if somebody asked for that, else interrupted.
    pub(in crate::core) fn cut_turn(&mut self, at: At, reason: &str, exit: Option<Exit>, out: &mut Out) {
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
        self.turns.interrupted.push(Prompt { interrupted_at: Some(at.wall), ..turn.prompt });
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
        // From here on the agent's own conversation contains the replayed history.
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

    /// Ends a sub-agent's task with its prompt. Every end of a prompt comes by here, once.
    pub(in crate::core) fn prompt_ended(&mut self, prompt: PromptId, outcome: Outcome, out: &mut Out) {
        if let Some(task) = self.task.as_mut().filter(|task| task.open && task.prompt == prompt) {
            task.open = false;
            out.note(Note::TaskEnded { outcome });
        }
    }
}
