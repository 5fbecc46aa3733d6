//! Translates a session's events into the editor's updates, without I/O. A replay and live events take the
//! same way.

use std::collections::{BTreeMap, BTreeSet};

use protocol::event::{EventKind, Outcome, RemovedBy};
use protocol::{CallId, EventId, Exit, PermissionId, PromptId, Restore};
use serde_json::{Map, Value, json};

use super::updates::message;
use super::updates::one_line;
use crate::attachments;
use crate::event_text;
use crate::offered::Offered;

/// Something to be shown, or done, for an event.
#[derive(Clone, Debug, PartialEq)]
pub enum Shown {
    /// An update of this prompt's turn, or of none.
    Update(Option<PromptId>, Value),
    /// A prompt begins that the editor may not have sent.
    User(PromptId, String),
    /// A note of kennel's own.
    Note(String),
    /// A permission waits for an answer.
    Ask(PermissionId),
    /// The permission waits no longer.
    Settled(PermissionId),
    /// The agent wants something done that a client can do.
    Call(CallId),
    /// The call needs no answer any more.
    CallSettled(CallId),
    /// This client drives, or none does.
    Driver(Option<EventId>),
    /// A prompt's turn is over, or will not come.
    Ended(PromptId, End),
    /// The session is removed.
    Gone,
}

/// The answer to a prompt.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// With this stop reason.
    Stop(&'static str),
    /// With an error.
    Error(String),
}

/// A permission that waits for an answer.
#[derive(Clone, Debug)]
pub struct Question {
    /// The prompt in whose turn it was asked; none between turns.
    pub prompt: Option<PromptId>,
    /// The tool call that the agent wants to do.
    pub title: String,
    /// The parameters of the agent's request.
    pub params: Value,
}

/// Something that a client is to do.
#[derive(Clone, Debug)]
pub struct Call {
    /// The client that is asked.
    pub client: Option<EventId>,
    /// ACP's name of it.
    pub method: String,
    /// With what.
    pub params: Value,
}

/// The state of a session that the next event's translation needs.
#[derive(Debug, Default)]
pub struct Story {
    /// Prompts that wait, and their texts.
    waiting: BTreeMap<PromptId, String>,
    /// Prompts that have not ended.
    open: BTreeSet<PromptId>,
    /// Turns that were cut off, whose session is not back yet, and why.
    crashed: BTreeMap<PromptId, String>,
    questions: BTreeMap<PermissionId, Question>,
    calls: BTreeMap<CallId, Call>,
    settings: Offered,
    last_message: Option<String>,
}

impl Story {
    /// Prompts that have not ended.
    pub fn open(&self) -> BTreeSet<PromptId> {
        self.open.iter().chain(self.crashed.keys()).copied().collect()
    }

    /// Returns true if an editor waits for a session that went down in a turn.
    pub fn is_down(&self) -> bool {
        !self.crashed.is_empty()
    }

    /// Permissions that wait for an answer.
    pub fn questions(&self) -> &BTreeMap<PermissionId, Question> {
        &self.questions
    }

    /// Returns the calls that no client has answered yet.
    pub fn calls(&self) -> &BTreeMap<CallId, Call> {
        &self.calls
    }

    /// `modes` and `configOptions`, where the agent has them.
    pub fn settings(&self) -> &Map<String, Value> {
        self.settings.known()
    }

    /// Returns the updates for an event about settings. Each change is sent in every form that the agent has,
    /// because an editor may know only one form.
    fn set(&mut self, kind: &EventKind) -> Vec<Shown> {
        let before = self.settings.known().clone();
        let opened = self.settings.tell(kind);
        let changes = self.settings.changes_since(&before);
        match kind {
            EventKind::AgentUpdated { prompt_id, payload } if !opened => {
                let others = changes.into_iter().filter(|it| it["sessionUpdate"] != payload["sessionUpdate"]);
                as_update(*prompt_id, payload)
                    .into_iter()
                    .chain(others.map(|it| Shown::Update(None, it)))
                    .collect()
            }
            // A client that sets the value that is set already waits for an update, too.
            EventKind::SettingChanged { name, .. } if changes.is_empty() => {
                let known = self.settings.known();
                let update = match (known.get("configOptions"), self.settings.current("mode")) {
                    (None, Some(mode)) if name == "mode" => {
                        json!({ "sessionUpdate": "current_mode_update", "currentModeId": mode })
                    }
                    (Some(options), _) => {
                        json!({ "sessionUpdate": "config_option_update", "configOptions": options })
                    }
                    (None, _) => return Vec::new(),
                };
                vec![Shown::Update(None, update)]
            }
            _ => changes.into_iter().map(|it| Shown::Update(None, it)).collect(),
        }
    }

    /// Takes the next event. Returns what the editor is shown, or asked, for it.
    pub fn translate(&mut self, kind: &EventKind) -> Vec<Shown> {
        if is_about_settings(kind) {
            return self.set(kind);
        }
        self.prompt_event(kind)
    }

    /// Takes events of prompts and turns; passes the other kinds on.
    fn prompt_event(&mut self, kind: &EventKind) -> Vec<Shown> {
        match kind {
            EventKind::PromptAccepted { prompt_id, text, attachments, .. } => {
                let text = attachments::told(text, attachments.iter().map(|it| &*it.name));
                self.waiting.insert(*prompt_id, text);
                self.open.insert(*prompt_id);
                Vec::new()
            }
            EventKind::PromptEdited { prompt_id, text } => {
                self.waiting.insert(*prompt_id, text.clone());
                Vec::new()
            }
            // The start of a retry does not show the prompt again.
            EventKind::PromptStarted { prompt_id } => {
                let text = self.waiting.remove(prompt_id);
                text.map(|text| Shown::User(*prompt_id, text)).into_iter().collect()
            }
            EventKind::PromptRemoved { prompt_id, reason } => self.removed(*prompt_id, *reason),
            EventKind::TurnStarted { .. } => {
                self.last_message = None;
                Vec::new()
            }
            EventKind::TurnCompleted { prompt_id, outcome, stop_reason, exit, .. } => {
                self.completed(*prompt_id, *outcome, stop_reason, *exit)
            }
            EventKind::TurnInterrupted { prompt_id, reason, will_retry, .. } => {
                if *will_retry {
                    return vec![note(format!("the turn was cut off ({reason}); it is tried again"))];
                }
                self.open.remove(prompt_id);
                self.crashed.insert(*prompt_id, reason.clone());
                Vec::new()
            }
            EventKind::SystemMessage { text } => {
                self.last_message = Some(text.clone());
                vec![note(text.clone())]
            }
            other => self.agent_event(other),
        }
    }

    /// Translates the agent's messages, tool calls and questions; passes the other kinds on.
    fn agent_event(&mut self, kind: &EventKind) -> Vec<Shown> {
        match kind {
            EventKind::MessageChunk { prompt_id, text, payload, .. } => {
                let update = payload.clone().unwrap_or_else(|| message(text));
                vec![Shown::Update(Some(*prompt_id), update)]
            }
            EventKind::ThoughtChunk { prompt_id, payload, .. }
            | EventKind::ToolCallStarted { prompt_id, payload, .. }
            | EventKind::ToolCallUpdated { prompt_id, payload, .. }
            | EventKind::PlanUpdated { prompt_id, payload, .. } => {
                vec![Shown::Update(Some(*prompt_id), payload.clone())]
            }
            // Or it would seem to run for ever.
            EventKind::ToolCallInterrupted { prompt_id, tool_call_id, .. } => {
                let update = json!({ "sessionUpdate": "tool_call_update", "toolCallId": tool_call_id, "status": "failed" });
                vec![Shown::Update(Some(*prompt_id), update)]
            }
            EventKind::UsageUpdated { payload, .. } => as_update(None, payload),
            EventKind::AgentUpdated { prompt_id, payload } => as_update(*prompt_id, payload),
            EventKind::PermissionRequested { permission_id, prompt_id, title, payload, .. } => {
                let question = Question { prompt: *prompt_id, title: title.clone(), params: payload.clone() };
                self.questions.insert(*permission_id, question);
                vec![Shown::Ask(*permission_id)]
            }
            EventKind::PermissionResolved { permission_id, .. }
            | EventKind::PermissionExpired { permission_id, .. } => {
                self.questions.remove(permission_id);
                vec![Shown::Settled(*permission_id)]
            }
            EventKind::CallRequested { call_id, client_id, method, payload, .. } => {
                let (client, method, params) = (*client_id, method.clone(), payload.clone());
                self.calls.insert(*call_id, Call { client, method, params });
                vec![Shown::Call(*call_id)]
            }
            EventKind::CallAnswered { call_id } | EventKind::CallExpired { call_id, .. } => {
                self.calls.remove(call_id);
                vec![Shown::CallSettled(*call_id)]
            }
            other => self.session_event(other),
        }
    }

    /// Takes events of the session, its processes and its clients. The match names every kind, so that the compiler
    /// reports a new one.
    fn session_event(&mut self, kind: &EventKind) -> Vec<Shown> {
        match kind {
            EventKind::DriverChanged { driver } => vec![Shown::Driver(*driver)],
            EventKind::SessionStalled { step, quiet_ms, .. } => {
                vec![note(event_text::stalled(*step, *quiet_ms))]
            }
            EventKind::SessionOomKilled { peak_bytes, limit_bytes, by } => {
                vec![note(event_text::out_of_memory(*peak_bytes, *limit_bytes, *by))]
            }
            EventKind::SessionRestarted { reason, restore, .. } => self.restarted(reason, *restore),
            EventKind::SessionFailed { reason, last_words, .. } => self.failed(reason, last_words),
            EventKind::SessionStopped { .. } => self.given_up("the session was stopped"),
            EventKind::SessionDeleted {} => {
                let mut all = self.given_up("the session was removed");
                all.push(Shown::Gone);
                all
            }
            // An editor shows nothing for these.
            EventKind::SessionCreated { .. }
            | EventKind::SessionStarted { .. }
            | EventKind::SessionReady { .. }
            | EventKind::SessionRestarting { .. }
            | EventKind::SessionHibernated {}
            | EventKind::SettingRefused { .. }
            | EventKind::SessionAdopted { .. }
            | EventKind::SessionWoken {}
            | EventKind::SessionUpdated { .. }
            | EventKind::PromptQueued { .. }
            | EventKind::PromptResolved { .. }
            | EventKind::ClientAttached { .. }
            | EventKind::ClientDetached { .. }
            | EventKind::SubagentStarted { .. }
            | EventKind::SubagentCompleted { .. }
            | EventKind::SubagentLost { .. }
            | EventKind::AccessRefused(_)
            | EventKind::ManagerStarted { .. }
            | EventKind::ManagerStopping {} => Vec::new(),
            // The functions before this one took these.
            EventKind::SettingChanged { .. }
            | EventKind::PromptAccepted { .. }
            | EventKind::PromptEdited { .. }
            | EventKind::PromptStarted { .. }
            | EventKind::PromptRemoved { .. }
            | EventKind::TurnStarted { .. }
            | EventKind::TurnCompleted { .. }
            | EventKind::TurnInterrupted { .. }
            | EventKind::SystemMessage { .. }
            | EventKind::MessageChunk { .. }
            | EventKind::ThoughtChunk { .. }
            | EventKind::ToolCallStarted { .. }
            | EventKind::ToolCallUpdated { .. }
            | EventKind::PlanUpdated { .. }
            | EventKind::ToolCallInterrupted { .. }
            | EventKind::UsageUpdated { .. }
            | EventKind::AgentUpdated { .. }
            | EventKind::PermissionRequested { .. }
            | EventKind::PermissionResolved { .. }
            | EventKind::PermissionExpired { .. }
            | EventKind::CallRequested { .. }
            | EventKind::CallAnswered { .. }
            | EventKind::CallExpired { .. } => Vec::new(),
        }
    }

    /// The session stays away for longer than an editor should be kept waiting.
    pub fn impatient(&mut self) -> Vec<Shown> {
        self.given_up("its agent is being restarted, which takes long")
    }

    fn removed(&mut self, prompt: PromptId, reason: RemovedBy) -> Vec<Shown> {
        self.waiting.remove(&prompt);
        self.open.remove(&prompt);
        let why = match reason {
            RemovedBy::Removed => "it was taken out of the queue",
            RemovedBy::Cleared => "the queue was cleared",
            RemovedBy::Stopped => "the session was stopped",
        };
        vec![note(format!("{prompt} was not run: {why}")), Shown::Ended(prompt, End::Stop("cancelled"))]
    }

    fn completed(
        &mut self,
        prompt: PromptId,
        outcome: Outcome,
        reason: &str,
        exit: Option<Exit>,
    ) -> Vec<Shown> {
        self.open.remove(&prompt);
        let mut all = Vec::new();
        let end = match (outcome, reason) {
            (Outcome::Aborted, _) => End::Stop("cancelled"),
            // The agent's last message names what failed.
            (_, "error") => {
                End::Error(self.last_message.take().unwrap_or_else(|| "the agent failed".to_owned()))
            }
            (_, "max_tokens") => End::Stop("max_tokens"),
            (_, "max_turn_requests") => End::Stop("max_turn_requests"),
            (_, "refusal") => End::Stop("refusal"),
            (_, "cancelled") => End::Stop("cancelled"),
            (_, "end_turn") => End::Stop("end_turn"),
            // Clients fail on reasons that they do not know.
            (_, other) => {
                all.push(note(format!("the agent ended its turn with `{}`", one_line(other))));
                End::Stop("end_turn")
            }
        };
        if let Some(exit) = exit.filter(|exit| *exit != Exit::Code(0) && outcome == Outcome::Completed) {
            all.push(note(exit.to_string()));
        }
        all.push(Shown::Ended(prompt, end));
        all
    }

    fn restarted(&mut self, reason: &str, restore: Restore) -> Vec<Shown> {
        let knows = match restore {
            Restore::Resumed => "it took up its own session",
            Restore::Loaded => "it read its own session again",
            Restore::Replayed => "it is told the turns before",
            Restore::Fresh => "it knows nothing of the turns before",
        };
        let crashed = std::mem::take(&mut self.crashed);
        let Some(why) = crashed.values().next() else {
            return vec![note(format!("the agent was restarted ({reason}): {restore}, {knows}"))];
        };
        let what = format!(
            "the agent crashed in this turn ({why}) and was restored to the level `{restore}`, {knows}; the prompt is \
             not repeated by itself"
        );
        let ended = crashed.keys().map(|prompt| Shown::Ended(*prompt, End::Stop("end_turn")));
        std::iter::once(note(what)).chain(ended).collect()
    }

    /// Ends the editor's wait for prompts in the queue. They stay for a restart, which may never come.
    fn failed(&mut self, reason: &str, last_words: &[String]) -> Vec<Shown> {
        let words = last_words.last().map(|words| format!(": {}", one_line(words))).unwrap_or_default();
        let what = format!("the session has failed: {reason}{words}. `kennel restart` brings it back");
        let prompts = self.open();
        self.crashed.clear();
        let ended = prompts.into_iter().map(|prompt| Shown::Ended(prompt, End::Error(what.clone())));
        std::iter::once(note(what.clone())).chain(ended).collect()
    }

    fn given_up(&mut self, why: &str) -> Vec<Shown> {
        let crashed = std::mem::take(&mut self.crashed);
        let all = crashed.into_iter().flat_map(|(prompt, reason)| {
            let what = format!("the agent crashed in this turn ({reason}), and {why}");
            [note(what), Shown::Ended(prompt, End::Stop("end_turn"))]
        });
        all.collect()
    }
}

/// Returns the agent's report as an update, if it is one. Token counts at the end of a turn are no updates.
fn as_update(prompt: Option<PromptId>, payload: &Value) -> Vec<Shown> {
    let is_update = payload["sessionUpdate"].is_string();
    is_update.then(|| Shown::Update(prompt, payload.clone())).into_iter().collect()
}

/// Returns true if the event reports the agent's settings.
fn is_about_settings(kind: &EventKind) -> bool {
    match kind {
        EventKind::SettingChanged { .. } => true,
        EventKind::AgentUpdated { payload, .. } => matches!(
            payload["sessionUpdate"].as_str(),
            Some("session_opened" | "config_option_update" | "current_mode_update")
        ),
        _ => false,
    }
}

fn note(text: String) -> Shown {
    Shown::Note(text)
}

#[cfg(test)]
mod tests;
