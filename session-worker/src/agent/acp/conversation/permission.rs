//! Permission requests of the agent, and their answers.

use std::collections::BTreeMap;

use protocol::wire::{PermissionAsk, PermissionOption, Report};
use protocol::{PromptId, bounds};
use serde_json::{Value, json};

use super::{Conversation, Stage};
use crate::agent::acp::message::{
    Do, INTERNAL, INVALID_PARAMS, beginning, cancelled, error, notice, result, text_at,
};

impl Conversation {
    pub(super) fn permission(&mut self, id: Value, params: Value) -> Vec<Do> {
        let tool = &params["toolCall"];
        let tool_call = text_at(tool, "toolCallId").unwrap_or_default();
        let in_turn = match (&self.turn, &self.stage) {
            (Some(turn), _) if turn.cancelled => return vec![cancelled(id)],
            (Some(turn), _) => Some(turn),
            (None, Stage::Ready) => None,
            // No client that could answer knows the agent yet.
            (None, _) => {
                let what = beginning(&text_at(tool, "title").unwrap_or_else(|| "use a tool".to_owned()));
                let text = format!(
                    "while it started the agent asked: {what}; nobody could answer, and it was not allowed"
                );
                return vec![notice(text), cancelled(id)];
            }
        };
        let mut about = in_turn.and_then(|turn| turn.tools.get(&tool_call).cloned()).unwrap_or_default();
        about.learn(tool);
        let prompt = in_turn.map_or(PromptId::NONE, |turn| turn.prompt);
        let options = params["options"].as_array().map(Vec::as_slice).unwrap_or_default();
        let count = options.len();
        let options = options.iter().filter_map(|option| {
            let id = text_at(option, "optionId")?;
            let name = text_at(option, "name").unwrap_or_else(|| id.clone());
            let kind = text_at(option, "kind").unwrap_or_default();
            Some(PermissionOption { id, name, kind })
        });
        let options: Vec<PermissionOption> = options.take(bounds::OPTIONS + 1).collect();
        let refused = if self.asks.len() >= bounds::PERMISSIONS {
            Some((INTERNAL, format!("{} questions wait for an answer already", bounds::PERMISSIONS)))
        } else if count > bounds::OPTIONS {
            Some((INVALID_PARAMS, format!("a question has at most {} options", bounds::OPTIONS)))
        } else if !bounds::fits(&tool_call, bounds::TOOL_ID) {
            Some((INVALID_PARAMS, format!("the id of a tool call has at most {} bytes", bounds::TOOL_ID)))
        } else if !options.iter().all(|option| bounds::fits(&option.id, bounds::ID)) {
            Some((INVALID_PARAMS, format!("the id of an option has at most {} bytes", bounds::ID)))
        } else if about.has_too_many_paths {
            Some((INVALID_PARAMS, format!("a tool call has at most {} locations", bounds::PATHS)))
        } else {
            None
        };
        if let Some((code, why)) = refused {
            self.say("permission", || format!("a question of the agent was refused: {why}"));
            return vec![error(id, code, &why)];
        }
        let ask = PermissionAsk {
            tool_call,
            title: about.title.unwrap_or_else(|| "use a tool".to_owned()),
            kind: about.kind,
            paths: about.paths,
            options,
        };
        self.last_ask += 1;
        self.asks.insert(self.last_ask, (id, prompt != PromptId::NONE));
        let (request, payload) = (self.last_ask, params.to_string());
        vec![Do::Report(Report::PermissionAsked { prompt, request, ask, payload })]
    }

    /// Answers a permission request. Without an `option` the request is cancelled.
    pub fn answer(&mut self, request: u64, option: Option<String>) -> Vec<Do> {
        let Some((id, _)) = self.asks.remove(&request) else {
            return Vec::new();
        };
        vec![match option {
            Some(option) => result(id, json!({ "outcome": { "outcome": "selected", "optionId": option } })),
            None => cancelled(id),
        }]
    }

    /// Cancels the permission requests of the turn, but not those from between turns.
    pub(super) fn close_asks(&mut self) -> Vec<Do> {
        let (in_turn, between) =
            std::mem::take(&mut self.asks).into_iter().partition(|(_, (_, in_turn))| *in_turn);
        self.asks = between;
        let in_turn: BTreeMap<u64, (Value, bool)> = in_turn;
        in_turn.into_values().map(|(id, _)| cancelled(id)).collect()
    }
}
