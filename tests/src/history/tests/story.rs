//! A sequence of events that a test passes to the checker, one by one.

use protocol::event::{Decider, Disposition, Outcome, RemovedBy, Timestamp};
use protocol::{PermissionId, Restore, Stream};
use serde_json::json;

use super::super::*;

/// Writes a history line by line.
#[derive(Default)]
pub struct Story {
    pub(crate) history: History,
    pub(crate) next: EventId,
}

pub fn id() -> SessionId {
    SessionId::numbered(1)
}

pub fn child() -> SessionId {
    SessionId::numbered(2)
}

impl Story {
    pub(crate) fn tell_of(
        &mut self,
        session: Option<SessionId>,
        incarnation: Incarnation,
        kind: EventKind,
    ) -> Arc<Event> {
        self.next += 1;
        let event = Arc::new(Event { id: self.next, at: Timestamp(self.next), session, incarnation, kind });
        self.history.event(&event);
        event
    }

    pub(crate) fn add(&mut self, incarnation: Incarnation, kind: EventKind) -> &mut Self {
        self.tell_of(Some(id()), incarnation, kind);
        self
    }

    pub(crate) fn created(&mut self) -> &mut Self {
        self.add(1, created())
    }

    pub(crate) fn started(&mut self, incarnation: Incarnation) -> &mut Self {
        self.add(incarnation, EventKind::SessionStarted { pid: 100 })
    }

    pub(crate) fn ready(&mut self, incarnation: Incarnation) -> &mut Self {
        let ready = EventKind::SessionReady { pid: 100, agent_pid: None, restore: Restore::Fresh };
        self.started(incarnation).add(incarnation, ready)
    }

    pub(crate) fn restarting(&mut self, incarnation: Incarnation) -> &mut Self {
        self.add(incarnation, restarting("worker killed by SIGKILL"))
    }

    pub(crate) fn restarted(&mut self, incarnation: Incarnation) -> &mut Self {
        let (old_pid, new_pid, reason) = (Some(100), 101, String::new());
        self.add(
            incarnation,
            EventKind::SessionRestarted { old_pid, new_pid, reason, restore: Restore::Fresh },
        )
    }

    /// Accepts a prompt.
    pub(crate) fn prompt(&mut self, text: &str) -> PromptId {
        let prompt_id = PromptId(self.next + 1);
        let (disposition, retry_of) = (Disposition::Queued, None);
        let (text, attachments) = (text.into(), Vec::new());
        self.add(1, EventKind::PromptAccepted { prompt_id, text, disposition, retry_of, attachments });
        prompt_id
    }

    pub(crate) fn turn(&mut self, incarnation: Incarnation, turn: u64, prompt_id: PromptId) -> &mut Self {
        self.add(incarnation, EventKind::PromptStarted { prompt_id });
        self.add(incarnation, EventKind::TurnStarted { turn, prompt_id, agent_pid: 9 })
    }

    pub(crate) fn completed(
        &mut self,
        incarnation: Incarnation,
        turn: u64,
        prompt_id: PromptId,
    ) -> &mut Self {
        let stop_reason = "end_turn".into();
        let outcome = Outcome::Completed;
        self.add(incarnation, EventKind::TurnCompleted { turn, prompt_id, outcome, stop_reason, exit: None })
    }

    pub(crate) fn interrupted(
        &mut self,
        incarnation: Incarnation,
        turn: u64,
        prompt_id: PromptId,
        will_retry: bool,
    ) -> &mut Self {
        let reason = String::new();
        self.add(incarnation, EventKind::TurnInterrupted { turn, prompt_id, reason, will_retry })
    }

    pub(crate) fn chunk(&mut self, incarnation: Incarnation, turn: u64, prompt_id: PromptId) -> &mut Self {
        let (stream, text) = (Stream::Stdout, "words".into());
        self.add(incarnation, EventKind::MessageChunk { turn, prompt_id, stream, text, payload: None })
    }

    /// A session in the middle of its first turn.
    pub(crate) fn works(&mut self) -> PromptId {
        let prompt = self.created().ready(1).prompt("one");
        self.turn(1, 1, prompt);
        prompt
    }

    pub(crate) fn asked(&mut self, turn: u64, prompt_id: PromptId) -> PermissionId {
        self.asks(Some(turn), Some(prompt_id))
    }

    pub(crate) fn asked_between_turns(&mut self) -> &mut Self {
        self.asks(None, None);
        self
    }

    fn asks(&mut self, turn: Option<u64>, prompt_id: Option<PromptId>) -> PermissionId {
        let permission_id = PermissionId(self.next + 1);
        let (tool_call_id, title) = ("call".into(), "Write a file".into());
        let (options, payload) = (crate::sample::options(&["allow_once", "reject_once"]), json!({}));
        self.add(
            1,
            EventKind::PermissionRequested {
                permission_id,
                turn,
                prompt_id,
                tool_call_id,
                title,
                options,
                payload,
            },
        );
        permission_id
    }

    pub(crate) fn resolved(&mut self, permission_id: PermissionId, option_id: &str) -> &mut Self {
        let (option_id, by) = (option_id.into(), Decider::User);
        self.add(1, EventKind::PermissionResolved { permission_id, option_id, by })
    }

    pub(crate) fn expired(&mut self, permission_id: PermissionId) -> &mut Self {
        self.add(1, EventKind::PermissionExpired { permission_id, reason: String::new() })
    }

    pub(crate) fn tool(&mut self, turn: u64, prompt_id: PromptId, status: &str) -> &mut Self {
        let (tool_call_id, payload) = ("call".into(), json!({ "status": status }));
        self.add(1, EventKind::ToolCallUpdated { turn, prompt_id, tool_call_id, payload })
    }

    pub(crate) fn tool_interrupted(&mut self, prompt_id: PromptId) -> &mut Self {
        self.add(1, EventKind::ToolCallInterrupted { turn: 1, prompt_id, tool_call_id: "call".into() })
    }

    pub(crate) fn removed(&mut self, prompt_id: PromptId) -> &mut Self {
        self.add(1, EventKind::PromptRemoved { prompt_id, reason: RemovedBy::Cleared })
    }

    pub(crate) fn stopped(&mut self, incarnation: Incarnation) -> &mut Self {
        self.add(incarnation, EventKind::SessionStopped { exit: Some(Exit::Code(0)) })
    }

    pub(crate) fn finish(&mut self, open: &[PromptId]) {
        self.history.finish(&open.iter().copied().collect());
    }

    #[track_caller]
    pub(crate) fn is_fine(&self) {
        assert!(self.history.violations().is_empty(), "{}", self.history.violations()[0]);
    }

    /// The last line broke a promise, and none did before.
    #[track_caller]
    pub(crate) fn is_wrong(&self, what: &str) {
        let found = self.history.violations();
        assert!(found.iter().any(|violation| violation.what.contains(what)), "{what}: {found:?}");
    }
}

pub fn created() -> EventKind {
    let (agent, workdir) = ("shell".into(), "/".into());
    let (name, labels) = (None, Default::default());
    EventKind::SessionCreated {
        agent,
        workdir,
        name,
        labels,
        title: None,
        model: None,
        parent: None,
        started_by: None,
        forked_from: None,
        conversation: None,
        told: Vec::new(),
    }
}

pub fn restarting(reason: &str) -> EventKind {
    let (old_pid, exit) = (Some(100), Some(Exit::Signal(9)));
    let last_words = Vec::new();
    EventKind::SessionRestarting {
        cause: None,
        reason: reason.into(),
        old_pid,
        exit,
        delay_ms: 0,
        deaths: 1,
        last_words,
    }
}

pub fn failed() -> EventKind {
    let (reason, exit) = (String::new(), Some(Exit::Code(1)));
    EventKind::SessionFailed { reason, exit, last_words: Vec::new(), survivors: Vec::new() }
}
