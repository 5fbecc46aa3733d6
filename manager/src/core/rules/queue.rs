//! Prompts that wait, and interrupted prompts: accept, edit, remove, resolve.

use std::sync::Arc;

use protocol::PromptId;
use protocol::api::{AttachmentInfo, WhenBusy};
use protocol::event::{Disposition, EventKind, Outcome, RemovedBy, Resolution};
use protocol::wire::Agent;

use crate::core::at::At;
use crate::core::input::Reply;
use crate::core::limits;
use crate::core::model::session::Session;
use crate::core::model::state::State;
use crate::core::model::turn::{Attached, NewPrompt, Prompt};
use crate::core::out::Out;
use crate::core::refusal::Refusal;

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
        if first {
            self.give_up_waiting(out)?;
        }
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

    /// Refuses a prompt that the agent's program cannot take as an argument.
    fn can_run(&self, text: &str) -> Result<(), Refusal> {
        match self.spec.agent.longest_prompt() {
            Some(limit) if text.len() > limit => {
                let (id, agent) = (self.id.clone(), self.spec.agent_name.clone());
                Err(Refusal::TooLongForAgent { id, agent, bytes: text.len(), limit })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Inserts a prompt into the queue. `settle` starts it if nothing is before it.
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
        let prompt = Prompt { id: prompt_id, text: text.clone(), attachments, interrupted_at: None };
        // A prompt that waits for its program keeps its place: the wait is the first prompt's.
        let front = usize::from(self.waits_for_program().is_some());
        let position = if first { front } else { self.turns.queue.len() };
        self.turns.queue.insert(position, prompt);
        if !starts {
            out.emit(EventKind::PromptQueued { prompt_id, position: position as u32 });
        }
        Reply::Accepted { prompt: prompt_id, disposition }
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
                Refusal::NotQueued { id: self.id.clone(), prompt }
            } else {
                Refusal::NoSuchPrompt { id: self.id.clone(), prompt }
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
