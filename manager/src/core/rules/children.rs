//! Sub-agents inside an agent, as the agent reports them (<https://agentclientprotocol.com/protocol/v1/subagents>). kennel
//! knows no processes of theirs.

use protocol::api::ChildInfo;
use protocol::bounds;
use serde_json::Value;

use crate::core::model::session::Session;

/// The most of an agent's own sub-agents that are kept. Older ones are dropped.
pub const MOST: usize = 32;

impl Session {
    /// Learns from a report about one of the agent's own sub-agents. Absent fields stay, and `null` clears a field.
    pub(in crate::core) fn learn_child(&mut self, payload: &Value) {
        let (parent, told) = match payload["sessionUpdate"].as_str() {
            Some("subagent_update") => (None, payload),
            // An update of a child, with the child's id.
            Some("child_update") => (payload["sessionId"].as_str(), &payload["update"]),
            _ => return,
        };
        let id = told["sessionId"].as_str().filter(|id| bounds::fits(id, bounds::ID));
        let (Some(id), Some("subagent_update")) = (id, told["sessionUpdate"].as_str()) else { return };
        let known = self.children.iter().position(|child| child.id == id);
        let mut child = match known {
            Some(at) => self.children.remove(at),
            None => ChildInfo {
                id: id.to_owned(),
                parent: parent.filter(|id| bounds::fits(id, bounds::ID)).map(str::to_owned),
                title: None,
                state: None,
            },
        };
        let patch = |old: &mut Option<String>, new: Option<&Value>| match new {
            Some(Value::String(text)) => {
                let mut text = text.clone();
                bounds::cut(&mut text, bounds::ID);
                *old = Some(text);
            }
            Some(Value::Null) => *old = None,
            _ => {}
        };
        patch(&mut child.title, told.get("title"));
        let state = told.get("state");
        patch(&mut child.state, state.and_then(|state| state.get("state")).or(state));
        if known.is_none() && self.children.len() >= MOST {
            self.children.remove(0);
        }
        self.children.insert(known.unwrap_or(self.children.len()), child);
    }
}
