//! The public view of a session, made from the manager's own table.

mod needs;
mod retention;

use protocol::PromptId;
use protocol::api::{ClientInfo, PromptState, QueuedPrompt, Restarts, SessionInfo, Status};
use protocol::event::{EventKind, Timestamp};

use crate::core::model::session::Session;
use crate::core::model::spec::Spec;
use crate::core::model::state::{State, Was};
use crate::core::model::turn::{Phase, Prompt};
use crate::core::rules::judge::ABSENCE_MS;

impl Session {
    /// The session's status.
    pub fn status(&self) -> Status {
        match &self.state {
            State::Starting { .. } => Status::Starting,
            State::Ready { .. } => match &self.turns.running {
                _ if !self.turns.asked.open.is_empty() => Status::RequiresAction,
                Some(turn) if !turn.open.is_empty() || turn.calls.want_a_person() => Status::RequiresAction,
                Some(_) => Status::Running,
                // Its agent's program is missing, and is waited for.
                None if self.turns.not_before.is_some() => Status::Running,
                None => Status::Idle,
            },
            State::Adopting { .. } => Status::Adopting,
            State::Stopping { .. } => Status::Stopping,
            State::Restarting { .. } => Status::Restarting,
            State::Hibernated => Status::Hibernated,
            State::Stopped => Status::Stopped,
            State::Failed(_) => Status::Failed,
        }
    }

    /// The prompt whose missing program kennel waits for.
    pub(in crate::core) fn waits_for_program(&self) -> Option<PromptId> {
        let ready =
            matches!(self.state, State::Ready { .. } | State::Adopting { was: Was::Ready { .. }, .. });
        let waiting = self.turns.not_before.filter(|_| ready && self.turns.running.is_none());
        waiting.and(self.turns.queue.front()).map(|prompt| prompt.id)
    }

    /// The prompt that the session works on: its turn runs, or kennel waits for its missing program.
    pub(in crate::core) fn current_prompt(&self) -> Option<PromptId> {
        let running = self.turns.running.as_ref().map(|turn| turn.prompt.id);
        running.or_else(|| self.waits_for_program())
    }

    /// The worker's pid; none where no process is on record.
    pub fn pid(&self) -> Option<u32> {
        self.worker().map(|worker| worker.pid)
    }

    /// The agent's pid; none where no process of it is on record.
    pub fn agent_pid(&self) -> Option<u32> {
        let between_turns = match &self.state {
            State::Ready { agent_pid, .. } | State::Adopting { was: Was::Ready { agent_pid }, .. } => {
                *agent_pid
            }
            _ => None,
        };
        let in_turn = self.turns.running.as_ref().and_then(|turn| match turn.phase {
            Phase::Sent { .. } => None,
            Phase::Started { agent_pid } => Some(agent_pid),
            Phase::Aborting { agent_pid, .. } => agent_pid,
        });
        between_turns.or(in_turn)
    }

    /// Why the next try to run a program is awaited.
    fn waits_for(&self) -> Option<String> {
        let absence = self.absence.as_ref().filter(|absence| !absence.reason.is_empty())?;
        let waits = match &self.state {
            State::Starting { .. } | State::Restarting { .. } => true,
            _ => self.waits_for_program().is_some(),
        };
        waits.then(|| format!("{}; kennel tries again for {} s", absence.reason, ABSENCE_MS / 1000))
    }

    /// All that `kennel show` prints. `now` is in milliseconds since boot.
    pub fn info(&self, now: u64) -> SessionInfo {
        let policy = self.spec.restart;
        let last = self.last_restart.as_ref();
        SessionInfo {
            id: self.id.clone(),
            name: self.spec.name.clone(),
            labels: self.spec.labels.clone(),
            title: self.spec.title.clone(),
            agent: self.spec.agent_name.clone(),
            agent_details: self.agent_details.clone(),
            // The core knows no environment: the caller fills this in.
            env_missing: Vec::new(),
            subagent_tools: None,
            model: self.spec.model.clone(),
            start_notice: self.start_notice.clone(),
            empty_turn: self.turns.empty,
            agent_model: self.agent_model.as_ref().map(|model| model.value.clone()),
            status: self.status(),
            workdir: self.spec.workdir.clone(),
            start_commit: self.spec.start_commit.clone(),
            pid: self.pid(),
            agent_pid: self.agent_pid(),
            program: self.program.clone(),
            containment: self.containment,
            sandbox: self.sandbox,
            limits: self.spec.limits,
            limited_by: self.limited_by,
            incarnation: self.incarnation,
            forked_from: self.spec.forked_from.clone(),
            conversation: self.spec.conversation.clone(),
            restore: self.restore,
            created_at: Timestamp(self.created_at),
            last_message_at: self.turns.last_message_at.map(Timestamp),
            message_count: self.turns.messages,
            turn_count: self.turns.count,
            first_prompt: self.turns.first_prompt.as_deref().map(str::to_owned),
            queue_length: self.turns.queue.len() as u32,
            waits_for: self.waits_for(),
            running_prompt: self.current_prompt(),
            usage: self.usage.clone(),
            restarts: Restarts {
                in_window: self.deaths.within(now, policy.period_ms),
                intensity: policy.intensity,
                period_ms: policy.period_ms,
                last_reason: last.map(|last| last.reason.clone()),
                last_pid: last.and_then(|last| last.old_pid),
            },
            failure: match &self.state {
                State::Failed(failure) => Some(failure.clone()),
                _ => None,
            },
            needs: self.needs(),
            pinned: self.pinned,
            clients: self
                .clients
                .iter()
                .map(|client| ClientInfo {
                    client_id: client.id,
                    name: client.name.clone(),
                    role: client.role,
                    offers: client.offers.clone(),
                    origin: client.origin.clone(),
                })
                .collect(),
            parent: self.parent.clone(),
            started_by: self.started_by,
            children: self.children.clone(),
        }
    }

    /// The event that a client has changed the session's own settings.
    pub(in crate::core) fn own_settings(&self) -> EventKind {
        let Spec { name, title, labels, .. } = &*self.spec;
        let (name, title, labels) = (name.clone(), title.clone(), labels.clone());
        EventKind::SessionUpdated { pinned: self.pinned, name, title, labels }
    }

    /// Prompts that wait, run or were interrupted and not resolved.
    pub fn queue(&self) -> Vec<QueuedPrompt> {
        let running = self.turns.running.iter().map(|turn| (&turn.prompt, PromptState::Running));
        let queued = self.turns.queue.iter().map(|prompt| (prompt, PromptState::Queued));
        let interrupted = self.turns.interrupted.iter().map(|prompt| (prompt, PromptState::Interrupted));
        let all = interrupted.chain(running).chain(queued);
        let view = |(prompt, state): (&Prompt, PromptState)| {
            let (text, attachments) = (prompt.text.to_string(), prompt.attachments.clone());
            QueuedPrompt { prompt_id: prompt.id, state, text, attachments }
        };
        all.map(view).collect()
    }
}
