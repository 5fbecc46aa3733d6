//! Settings of an agent: choices and current values, as its events report them.

use protocol::event::EventKind;
use protocol::settings;
use serde_json::{Map, Value, json};

/// `modes` and `configOptions`, in ACP's words.
#[derive(Clone, Debug, Default)]
pub struct Offered(settings::Offered);

impl Offered {
    /// Takes the next event; whether it is kennel's own word for what the agent said when it was opened.
    pub fn tell(&mut self, kind: &EventKind) -> bool {
        match kind {
            EventKind::AgentUpdated { payload, .. } if payload["sessionUpdate"] == "session_opened" => {
                self.0 = settings::Offered::opened(payload);
                return true;
            }
            EventKind::AgentUpdated { payload, .. } => self.0.update(payload),
            EventKind::SettingChanged { name, value, payload, .. } => self.0.set(name, value, payload),
            _ => {}
        }
        false
    }

    /// The agent's settings in ACP's JSON.
    pub fn known(&self) -> &Map<String, Value> {
        self.0.known()
    }

    /// The current value of a setting; `None` if the agent has not reported it.
    pub fn current(&self, name: &str) -> Option<String> {
        self.0.current(name)
    }

    /// As updates of ACP: what is otherwise than it was before.
    pub fn changes_since(&self, before: &Map<String, Value>) -> Vec<Value> {
        let (was, is) = (|name| before.get(name), |name| self.known().get(name));
        let mode = |modes: Option<&Value>| modes.map(|modes| modes["currentModeId"].clone());
        let mut changes = Vec::new();
        if let (Some(was), Some(is)) = (mode(was("modes")), mode(is("modes")))
            && was != is
        {
            changes.push(json!({ "sessionUpdate": "current_mode_update", "currentModeId": is }));
        }
        if let (Some(was), Some(is)) = (was("configOptions"), is("configOptions"))
            && was != is
        {
            changes.push(json!({ "sessionUpdate": "config_option_update", "configOptions": is }));
        }
        changes
    }
}
