//! What can be set in an agent, and what is set now, as its events tell it.

use protocol::event::EventKind;
use serde_json::{Map, Value, json};

/// `modes` and `configOptions`, in ACP's words.
#[derive(Clone, Debug, Default)]
pub struct Offered(Map<String, Value>);

impl Offered {
    /// Takes the next event; whether it is kennel's own word for what the agent said when it was opened.
    pub fn tell(&mut self, kind: &EventKind) -> bool {
        match kind {
            EventKind::AgentUpdated { payload, .. } => self.update(payload),
            EventKind::SettingChanged { name, value, payload, .. } => {
                self.learn("configOptions", payload);
                if payload["configOptions"].is_null() && name == "mode" {
                    self.mode(json!(value));
                }
                false
            }
            _ => false,
        }
    }

    fn update(&mut self, payload: &Value) -> bool {
        match payload["sessionUpdate"].as_str() {
            Some("session_opened") => {
                self.learn("modes", payload);
                self.learn("configOptions", payload);
                return true;
            }
            Some("config_option_update") => self.learn("configOptions", payload),
            Some("current_mode_update") => self.mode(payload["currentModeId"].clone()),
            _ => {}
        }
        false
    }

    fn learn(&mut self, name: &str, payload: &Value) {
        if let Some(told) = payload.get(name).filter(|value| !value.is_null()) {
            self.0.insert(name.to_owned(), told.clone());
        }
    }

    fn mode(&mut self, id: Value) {
        if let Some(Value::Object(modes)) = self.0.get_mut("modes") {
            modes.insert("currentModeId".to_owned(), id);
        }
    }

    /// What the agent has of them.
    pub fn known(&self) -> &Map<String, Value> {
        &self.0
    }
}
