//! A turn of the agent: its prompt, its tool calls and its end.

use std::collections::BTreeMap;

use protocol::wire::{Attachment, Exchange, Report, Spent, TurnEnd, Update};
use protocol::{PromptId, bounds};
use serde_json::{Value, json};

use super::Conversation;
use crate::agent::acp::message::{AUTH_REQUIRED, Do, beginning, notice, notification, text_at, words};
use crate::agent::acp::model_error::LastWords;
use crate::agent::text::transcript;

/// Limit of the tool calls that a turn remembers, for permission requests about them.
const TOOLS: usize = 1_000;
/// Limit of all remembered tool calls together, in bytes.
const TOOLS_BYTES: usize = 4 * 1024 * 1024;

#[derive(Debug)]
pub(super) struct Turn {
    pub(super) prompt: PromptId,
    pub(super) request: u64,
    pub(super) cancelled: bool,
    /// Titles, kinds and files of its tool calls.
    pub(super) tools: BTreeMap<String, Tool>,
    /// Size of `tools`, in bytes.
    pub(super) tool_bytes: usize,
    pub(super) last_words: LastWords,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Tool {
    pub(super) title: Option<String>,
    pub(super) kind: Option<String>,
    pub(super) paths: Vec<String>,
    /// The tool call has too many paths, or too long ones, so `paths` is empty.
    pub(super) has_too_many_paths: bool,
}

impl Conversation {
    /// Gives the agent a prompt. `history` holds the earlier turns that the agent does not know.
    pub fn prompt(
        &mut self,
        prompt: PromptId,
        text: String,
        history: &[Exchange],
        attachments: &[Attachment],
    ) -> Vec<Do> {
        let attached = match self.takes.blocks(attachments) {
            Ok(attached) => attached,
            Err(message) => {
                let (end, exit, left_behind) = (TurnEnd::Failed { message }, None, 0);
                return vec![Do::Report(Report::TurnEnded { prompt, end, exit, left_behind })];
            }
        };
        let text = transcript(history, text);
        let text = (!text.is_empty()).then(|| json!({ "type": "text", "text": text }));
        let blocks: Vec<Value> = text.into_iter().chain(attached).collect();
        let params = json!({ "sessionId": self.session, "prompt": blocks });
        let (request, send) = self.request("session/prompt", params);
        self.said.clear();
        self.turn = Some(Turn {
            prompt,
            request,
            cancelled: false,
            tools: BTreeMap::new(),
            tool_bytes: 0,
            last_words: LastWords::default(),
        });
        let agent_pid = self.agent_pid;
        vec![Do::Report(Report::TurnStarted { prompt, agent_pid }), send]
    }

    /// Asks the agent to end the turn, and cancels its open permission requests: some agents wait for those for ever.
    pub fn cancel(&mut self) -> Vec<Do> {
        let Some(turn) = self.turn.as_mut().filter(|turn| !turn.cancelled) else {
            return Vec::new();
        };
        turn.cancelled = true;
        let cancel = notification("session/cancel", json!({ "sessionId": self.session }));
        let asks = self.close_asks();
        std::iter::once(Do::Send(cancel)).chain(asks).collect()
    }

    pub(super) fn turn_ended(&mut self, answer: Result<Value, Value>) -> Vec<Do> {
        let Some(turn) = self.turn.take() else { return Vec::new() };
        let mut all = self.close_asks();
        let end = match answer {
            Ok(result) => {
                let usage = &result["usage"];
                if usage.is_object() {
                    let spent = Spent {
                        input_tokens: usage["inputTokens"].as_u64(),
                        output_tokens: usage["outputTokens"].as_u64(),
                        cost_micro_usd: None,
                    };
                    let (update, payload) = (Update::Usage(spent), usage.to_string());
                    all.push(Do::Report(Report::Update { prompt: Some(turn.prompt), update, payload }));
                }
                let reason = text_at(&result, "stopReason").unwrap_or_else(|| "unknown".to_owned());
                if let Some(error) = turn.last_words.error() {
                    let error = beginning(error);
                    all.push(notice(format!(
                        "the agent ended its turn with what looks like an error of its model: {error}"
                    )));
                }
                TurnEnd::Stopped { reason }
            }
            // Agents answer so when they were asked to cancel, too.
            Err(_) if turn.cancelled => TurnEnd::Stopped { reason: "cancelled".to_owned() },
            Err(error) if error["code"].as_i64() == Some(AUTH_REQUIRED) => {
                TurnEnd::Failed { message: self.needs_login(&error) }
            }
            Err(error) => TurnEnd::Failed { message: format!("the agent failed: {}", words(&error)) },
        };
        let (prompt, exit, left_behind) = (turn.prompt, None, 0);
        all.push(Do::Report(Report::TurnEnded { prompt, end, exit, left_behind }));
        all
    }
}

impl Turn {
    /// Remembers a tool call, within the limits. Returns its title, if known.
    pub(super) fn learn(&mut self, id: &str, payload: &Value) -> Option<String> {
        let known = self.tools.remove(id);
        self.tool_bytes -= known.as_ref().map_or(0, |tool| id.len() + tool.bytes());
        let mut tool = known.unwrap_or_default();
        tool.learn(payload);
        let title = tool.title.clone();
        let bytes = id.len() + tool.bytes();
        if self.tools.len() < TOOLS && self.tool_bytes + bytes <= TOOLS_BYTES {
            self.tool_bytes += bytes;
            self.tools.insert(id.to_owned(), tool);
        }
        title
    }
}

impl Tool {
    /// Adds what an update tells of the tool call: it may come in parts.
    pub(super) fn learn(&mut self, payload: &Value) {
        let part = |name, most| {
            let mut text = text_at(payload, name)?;
            bounds::cut(&mut text, most);
            Some(text)
        };
        self.title = part("title", bounds::TITLE).or(self.title.take());
        self.kind = part("kind", bounds::KIND).or(self.kind.take());
        if let Some(locations) = payload["locations"].as_array() {
            let paths = locations.iter().filter_map(|location| text_at(location, "path"));
            self.paths = paths.take(bounds::PATHS + 1).collect();
            self.has_too_many_paths = !bounds::paths_fit(&self.paths);
            if self.has_too_many_paths {
                self.paths = Vec::new();
            }
        }
    }

    fn bytes(&self) -> usize {
        let texts = [&self.title, &self.kind].into_iter().flatten().chain(&self.paths);
        size_of::<Self>() + texts.map(|text| text.len() + size_of::<String>()).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_of_tool_calls_is_bounded_whatever_they_say() {
        let mut turn = Turn {
            prompt: PromptId(1),
            request: 1,
            cancelled: false,
            tools: BTreeMap::new(),
            tool_bytes: 0,
            last_words: LastWords::default(),
        };
        let path = "p".repeat(200);
        let locations: Vec<Value> = (0..bounds::PATHS).map(|_| json!({ "path": path })).collect();
        for round in 0..3 {
            for number in 0..TOOLS {
                let told = json!({ "title": "t".repeat(20_000), "kind": "k".repeat(20_000), "locations": locations });
                let title = turn.learn(&format!("call-{number}"), &told).unwrap();
                assert!(bounds::fits(&title, bounds::TITLE), "round {round}");
            }
            let held: usize = turn.tools.iter().map(|(id, tool)| id.len() + tool.bytes()).sum();
            assert_eq!(held, turn.tool_bytes);
            assert!(held <= TOOLS_BYTES && held > TOOLS_BYTES / 2, "{held} bytes");
        }
        // Parts of a tool call make one, and a forgotten part does not count.
        let before = turn.tool_bytes;
        turn.learn("call-0", &json!({ "title": "short" }));
        assert!(turn.tool_bytes < before);
    }

    #[test]
    fn a_tool_call_with_more_paths_than_are_kept_has_none_and_says_so() {
        let mut tool = Tool::default();
        let told = |count: usize| {
            let locations: Vec<Value> = (0..count).map(|at| json!({ "path": format!("/{at}") })).collect();
            json!({ "locations": locations })
        };
        tool.learn(&told(bounds::PATHS));
        assert!(tool.paths.len() == bounds::PATHS && !tool.has_too_many_paths);
        tool.learn(&told(bounds::PATHS + 1));
        assert!(tool.paths.is_empty() && tool.has_too_many_paths, "rules by path see none of them");
    }
}
