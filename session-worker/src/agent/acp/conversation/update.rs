//! Updates of the agent about its work, and the part of them that kennel understands.

use protocol::bounds;
use protocol::wire::{Report, Spent, Update};
use serde_json::{Value, json};

use super::{Conversation, Stage};
use crate::agent::acp::message::{Do, beginning, text_at};

/// Kinds of updates that kennel makes itself.
const OWN: [&str; 3] = ["session_opened", "conversation_loaded", "child_update"];
/// Limit of the sub-agents inside one agent process.
const CHILDREN: usize = 256;

impl Conversation {
    pub(super) fn update(&mut self, mut params: Value) -> Vec<Do> {
        let session = text_at(&params, "sessionId").unwrap_or_default();
        let payload = params["update"].take();
        if !self.session.is_empty() && session != self.session {
            return self.child_update(session, payload);
        }
        self.learn_options(&payload);
        self.learn_settings(&payload);
        if !payload.is_object() {
            return vec![Do::Log("an update without content".to_owned())];
        }
        let kind = text_at(&payload, "sessionUpdate").unwrap_or_default();
        if OWN.contains(&kind.as_str()) {
            return vec![Do::Log(format!("an update called `{kind}`, which only kennel makes"))];
        }
        // The journal already has the conversation that the agent replays while it loads, unless it began elsewhere.
        let present = matches!(
            kind.as_str(),
            "available_commands_update" | "current_mode_update" | "config_option_update"
        );
        if self.stage != Stage::Ready && !present {
            if self.stage == Stage::Loading && !self.opening.conversation {
                self.told.take(&kind, &payload);
            }
            return Vec::new();
        }
        self.learn_child(&payload);
        let update = self.understand(&kind, &payload);
        let prompt = self.turn();
        vec![Do::Report(Report::Update { prompt, update, payload: payload.to_string() })]
    }

    /// Reports an update of a sub-agent inside the agent, with the sub-agent's id. It is no part of the agent's answer.
    fn child_update(&mut self, child: String, update: Value) -> Vec<Do> {
        if !self.children.contains(&child) {
            return vec![Do::Log(format!("an update for another session, {}", beginning(&child)))];
        }
        self.learn_child(&update);
        if self.stage != Stage::Ready || !update.is_object() {
            return Vec::new();
        }
        let payload = json!({ "sessionUpdate": "child_update", "sessionId": child, "update": update });
        let (prompt, update) = (self.turn(), Update::Other);
        vec![Do::Report(Report::Update { prompt, update, payload: payload.to_string() })]
    }

    /// Remembers the id of a sub-agent. Its own updates follow under this id.
    fn learn_child(&mut self, update: &Value) {
        if update["sessionUpdate"] != "subagent_update" {
            return;
        }
        let Some(id) = text_at(update, "sessionId").filter(|id| bounds::fits(id, bounds::ID)) else { return };
        if self.children.len() < CHILDREN {
            self.children.insert(id);
        } else if !self.children.contains(&id) {
            self.say("children", || {
                format!("the agent has more than {CHILDREN} sub-agents; of others nothing is recorded")
            });
        }
    }

    fn understand(&mut self, kind: &str, payload: &Value) -> Update {
        let text = || text_at(&payload["content"], "text").unwrap_or_default();
        match kind {
            "agent_message_chunk" => {
                let text = text();
                if let Some(turn) = &mut self.turn {
                    turn.last_words.say(&text);
                }
                Update::Message { text }
            }
            "agent_thought_chunk" => Update::Thought { text: text() },
            "tool_call" | "tool_call_update" => {
                let Some(id) = text_at(payload, "toolCallId") else { return Update::Other };
                let ended = matches!(payload["status"].as_str(), Some("completed" | "failed"));
                if !bounds::fits(&id, bounds::TOOL_ID) {
                    self.say("tool", || {
                        let most = bounds::TOOL_ID;
                        format!("a tool call of the agent is not followed: its id has more than {most} bytes")
                    });
                    return Update::Other;
                }
                let title = self.turn.as_mut().and_then(|turn| {
                    turn.last_words.forget();
                    turn.learn(&id, payload)
                });
                match kind {
                    "tool_call" => Update::ToolCall { title: title.unwrap_or_else(|| id.clone()), id, ended },
                    _ => Update::ToolCallUpdate { id, ended },
                }
            }
            "plan" | "plan_update" | "plan_removed" => Update::Plan,
            "usage_update" => Update::Usage(Spent {
                cost_micro_usd: match payload["cost"]["currency"].as_str() {
                    Some("USD") => payload["cost"]["amount"].as_f64().map(|cost| (cost * 1e6) as u64),
                    _ => None,
                },
                ..Spent::default()
            }),
            _ => Update::Other,
        }
    }
}
