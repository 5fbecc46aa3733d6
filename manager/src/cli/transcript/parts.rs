//! A conversation in parts for people, out of its events.

use std::collections::BTreeMap;

use protocol::api::ToldTurn;
use protocol::event::{Event, EventKind, Outcome, Timestamp};
use protocol::{Exit, PromptId, Stream};
use serde::Serialize;
use serde_json::Value;

use super::changes::{self, Change};
use crate::attachments;
use crate::cli::events;

/// A text of this many bytes is passed on before it ends.
const MOST_HELD: usize = 64 * 1024;

/// A part of a conversation. In JSON, `part` is the name.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "part", rename_all = "snake_case")]
pub enum Part {
    /// A prompt that the agent begins to work on.
    Prompt {
        at: Timestamp,
        prompt_id: PromptId,
        /// The number of its turn; absent if the agent never began.
        turn: Option<u64>,
        /// None: it was pruned.
        text: Option<String>,
    },
    /// The words of the agent. A text of a long message may come in several parts.
    Message {
        at: Timestamp,
        text: String,
        /// The output of a program, and no text that was written to be read.
        plain: bool,
    },
    /// Text of the agent's program on standard error.
    Stderr { at: Timestamp, text: String },
    /// Thoughts of the agent.
    Thought { at: Timestamp, text: String },
    /// A use of a tool, at its end.
    Tool {
        at: Timestamp,
        title: String,
        /// The agent's word for its kind.
        kind: Option<String>,
        /// The agent's word, or `interrupted`.
        status: String,
        ms: u64,
        /// The command line that it ran.
        command: Option<String>,
        changes: Vec<Change>,
    },
    /// The agent's plan at the end of the turn: each step and its state.
    Plan { at: Timestamp, steps: Vec<(String, String)> },
    /// A permission that the agent asked for, and what became of it.
    Permission { at: Timestamp, title: String, answer: String },
    /// The end of a turn.
    End {
        at: Timestamp,
        prompt_id: PromptId,
        turn: u64,
        /// Absent: a crash cut it off.
        outcome: Option<Outcome>,
        /// The agent's reason, or that of the crash.
        reason: String,
        /// None: its beginning was pruned.
        ms: Option<u64>,
        /// How the agent's program ended, if it ended with the turn.
        exit: Option<Exit>,
    },
    /// A turn from before the session's own: of a fork's origin, or of a conversation that was begun outside kennel.
    Told { at: Timestamp, prompt: String, reply: String },
    /// An event of the session between or beside turns.
    Note { at: Timestamp, text: String },
}

impl Part {
    /// The time of its last event.
    pub fn at(&self) -> Timestamp {
        match self {
            Self::Prompt { at, .. }
            | Self::Message { at, .. }
            | Self::Stderr { at, .. }
            | Self::Thought { at, .. }
            | Self::Tool { at, .. }
            | Self::Plan { at, .. }
            | Self::Permission { at, .. }
            | Self::End { at, .. }
            | Self::Told { at, .. }
            | Self::Note { at, .. } => *at,
        }
    }
}

/// Which text is being written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Said,
    Output,
    Complained,
    Thought,
}

/// A tool that is in use.
struct Use {
    begun: Timestamp,
    /// The newest of all fields that the agent has told.
    told: Value,
}

/// Reads events in their order.
#[derive(Default)]
pub struct Reader {
    /// The text that is being written.
    text: Option<(Kind, Timestamp, String)>,
    /// Texts of prompts that have not begun.
    prompts: BTreeMap<PromptId, String>,
    /// A prompt that has begun, and its turn has not.
    begins: Option<(Timestamp, PromptId)>,
    /// The beginning of the turn.
    began: Option<Timestamp>,
    tools: BTreeMap<String, Use>,
    plan: Option<Value>,
    /// Permissions that are asked for, by number.
    asked: BTreeMap<u64, (String, BTreeMap<String, String>)>,
    /// The agent has not told yet what it takes up, and no turn has begun.
    takes_up: bool,
    out: Vec<Part>,
}

impl Reader {
    /// Takes an event. Returns the parts that it completes.
    pub fn take(&mut self, event: Event) -> Vec<Part> {
        let at = event.at;
        if let Some(text) = event.kind.late_text() {
            self.write(Kind::Said, at, text);
        } else {
            self.prompt(at, event.kind);
        }
        std::mem::take(&mut self.out)
    }

    /// Returns what is known of the part that has not ended.
    pub fn rest(&mut self) -> Vec<Part> {
        self.end_text();
        std::mem::take(&mut self.out)
    }

    fn write(&mut self, kind: Kind, at: Timestamp, text: &str) {
        self.begin(at, None);
        if self.text.as_ref().is_some_and(|(written, ..)| *written != kind) {
            self.end_text();
        }
        let (_, last, whole) = self.text.get_or_insert_with(|| (kind, at, String::new()));
        *last = at;
        whole.push_str(text);
        if whole.len() >= MOST_HELD {
            self.end_text();
        }
    }

    fn end_text(&mut self) {
        let Some((kind, at, text)) = self.text.take() else { return };
        self.out.push(match kind {
            Kind::Said => Part::Message { at, text, plain: false },
            Kind::Output => Part::Message { at, text, plain: true },
            Kind::Complained => Part::Stderr { at, text },
            Kind::Thought => Part::Thought { at, text },
        });
    }

    /// Passes the prompt on that has begun.
    fn begin(&mut self, at: Timestamp, turn: Option<u64>) {
        let Some((begun, prompt_id)) = self.begins.take() else { return };
        self.end_text();
        self.began = Some(at);
        let text = self.prompts.remove(&prompt_id);
        self.out.push(Part::Prompt { at: begun, prompt_id, turn, text });
    }

    fn note(&mut self, at: Timestamp, kind: &EventKind) {
        if let Some(text) = events::words(kind) {
            self.end_text();
            self.out.push(Part::Note { at, text });
        }
    }

    fn prompt(&mut self, at: Timestamp, kind: EventKind) {
        match kind {
            EventKind::PromptAccepted { prompt_id, text, attachments, .. } => {
                let text = attachments::told(&text, attachments.iter().map(|it| &*it.name));
                self.prompts.insert(prompt_id, text);
            }
            EventKind::PromptEdited { prompt_id, text } => {
                self.prompts.insert(prompt_id, text);
            }
            EventKind::PromptRemoved { prompt_id, .. } => {
                self.prompts.remove(&prompt_id);
                self.begins.take_if(|(_, begun)| *begun == prompt_id);
            }
            EventKind::PromptStarted { prompt_id } => {
                self.end_text();
                self.takes_up = false;
                self.begins = Some((at, prompt_id));
            }
            EventKind::TurnStarted { turn, .. } => {
                self.begin(at, Some(turn));
                self.began = Some(at);
            }
            EventKind::TurnCompleted { turn, prompt_id, outcome, stop_reason, exit } => {
                self.end(at, (turn, prompt_id), Some(outcome), stop_reason, exit);
            }
            EventKind::TurnInterrupted { turn, prompt_id, reason, will_retry } => {
                let again = if will_retry { "; it is tried again" } else { "" };
                self.end(at, (turn, prompt_id), None, format!("{reason}{again}"), None);
            }
            other => self.agent(at, other),
        }
    }

    fn end(
        &mut self,
        at: Timestamp,
        (turn, prompt_id): (u64, PromptId),
        outcome: Option<Outcome>,
        reason: String,
        exit: Option<Exit>,
    ) {
        self.begin(at, None);
        self.end_text();
        for id in self.tools.keys().cloned().collect::<Vec<_>>() {
            self.end_tool(at, &id, "not ended");
        }
        if let Some(plan) = self.plan.take() {
            let steps = plan["entries"].as_array().into_iter().flatten();
            let word = |step: &Value, name: &str| step[name].as_str().unwrap_or_default().to_owned();
            let steps = steps.map(|step| (word(step, "content"), word(step, "status"))).collect();
            self.out.push(Part::Plan { at, steps });
        }
        let ms = self.began.take().map(|began| at.0.saturating_sub(began.0));
        self.out.push(Part::End { at, prompt_id, turn, outcome, reason, ms, exit });
    }

    fn agent(&mut self, at: Timestamp, kind: EventKind) {
        match kind {
            EventKind::MessageChunk { stream: Stream::Stdout, text, payload, .. } => {
                self.write(if payload.is_some() { Kind::Said } else { Kind::Output }, at, &text);
            }
            EventKind::MessageChunk { stream: Stream::Stderr, text, .. } => {
                self.write(Kind::Complained, at, &text);
            }
            EventKind::ThoughtChunk { text, .. } => self.write(Kind::Thought, at, &text),
            EventKind::ToolCallStarted { tool_call_id, title, payload, .. } => {
                self.begin(at, None);
                self.end_text();
                // Another machine's daemon may send anything.
                let mut told = if payload.is_object() { payload } else { Value::Object(Default::default()) };
                told["title"] = title.into();
                self.tools.insert(tool_call_id, Use { begun: at, told });
            }
            EventKind::ToolCallUpdated { tool_call_id, payload, .. } => {
                let Some(used) = self.tools.get_mut(&tool_call_id) else { return };
                // What an update leaves out, or gives as null, stays.
                let told = payload.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
                for (name, value) in told {
                    used.told[name] = value.clone();
                }
                if matches!(used.told["status"].as_str(), Some("completed" | "failed")) {
                    self.end_tool(at, &tool_call_id, "completed");
                }
            }
            EventKind::ToolCallInterrupted { tool_call_id, .. } => {
                if let Some(used) = self.tools.get_mut(&tool_call_id) {
                    used.told["status"] = "interrupted".into();
                }
                self.end_tool(at, &tool_call_id, "interrupted");
            }
            EventKind::PlanUpdated { payload, .. } => self.plan = Some(payload),
            EventKind::PermissionRequested { permission_id, title, options, .. } => {
                let names = options.into_iter().map(|option| (option.id, option.name)).collect();
                self.asked.insert(permission_id.0, (title, names));
            }
            EventKind::PermissionResolved { permission_id, option_id, by } => {
                let Some((title, names)) = self.asked.remove(&permission_id.0) else { return };
                self.end_text();
                let answer = names.get(&option_id).unwrap_or(&option_id);
                let answer = format!("{answer} ({})", events::decider(by));
                self.out.push(Part::Permission { at, title, answer });
            }
            EventKind::PermissionExpired { permission_id, reason } => {
                let Some((title, _)) = self.asked.remove(&permission_id.0) else { return };
                self.end_text();
                self.out.push(Part::Permission { at, title, answer: format!("no answer: {reason}") });
            }
            other => self.session(at, &other),
        }
    }

    fn end_tool(&mut self, at: Timestamp, id: &str, otherwise: &str) {
        let Some(Use { begun, told }) = self.tools.remove(id) else { return };
        self.end_text();
        let word = |value: &Value| value.as_str().map(str::to_owned);
        let status = word(&told["status"]).filter(|status| !matches!(&**status, "pending" | "in_progress"));
        self.out.push(Part::Tool {
            at,
            title: word(&told["title"]).unwrap_or_else(|| id.to_owned()),
            kind: word(&told["kind"]),
            status: status.unwrap_or_else(|| otherwise.to_owned()),
            ms: at.0.saturating_sub(begun.0),
            command: changes::command(&told["rawInput"]),
            changes: changes::of(&told["content"]),
        });
    }

    fn told(&mut self, at: Timestamp, turns: Vec<ToldTurn>) {
        self.out.extend(turns.into_iter().map(|ToldTurn { prompt, reply }| Part::Told { at, prompt, reply }));
    }

    fn session(&mut self, at: Timestamp, kind: &EventKind) {
        use EventKind::*;
        match kind {
            SessionRestarting { .. }
            | SessionRestarted { .. }
            | SessionFailed { .. }
            | SessionStopped { .. }
            | SessionStalled { .. }
            | SessionOomKilled { .. }
            | SettingChanged { .. }
            | SettingRefused { .. }
            | SubagentStarted { .. }
            | SubagentCompleted { .. }
            | SubagentLost { .. }
            | SystemMessage { .. } => self.note(at, kind),
            SessionCreated { forked_from: Some(_), told, .. } => {
                self.note(at, kind);
                self.told(at, told.clone());
            }
            AgentUpdated { .. } if self.takes_up => {
                if let Some(turns) = kind.loaded_turns() {
                    self.takes_up = false;
                    if let AgentUpdated { payload, .. } = kind
                        && let Some(count) = payload["left_out"].as_u64().filter(|count| *count > 0)
                    {
                        let text = format!("of the turns before the first one here {count} are left out");
                        self.out.push(Part::Note { at, text });
                    }
                    self.told(at, turns);
                }
            }
            SessionCreated { conversation: Some(_), .. } => {
                self.note(at, kind);
                self.takes_up = true;
            }
            _ => {}
        }
    }
}
