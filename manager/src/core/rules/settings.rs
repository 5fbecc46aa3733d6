//! Settings of an agent: its mode, its model, its other options. They outlive the agent's process.

use protocol::bounds;
use protocol::event::EventKind;
use protocol::wire::{Agent, Setting};
use serde_json::Value;

use crate::core::input::Reply;
use crate::core::limits;
use crate::core::model::session::{Asked, Session};
use crate::core::out::Out;
use crate::core::refusal::Refusal;

impl Session {
    /// Learns the agent's model from a report about its options.
    pub(in crate::core) fn learn_model(&mut self, told: &Value) {
        let option = told["configOptions"].as_array().into_iter().flatten();
        let option = option.into_iter().find(|option| option["category"] == "model");
        let fits = |text: &&str| bounds::fits(text, bounds::ID);
        let text = |name: &str| option?[name].as_str().filter(fits).map(str::to_owned);
        match (text("id"), text("currentValue")) {
            (Some(name), Some(value)) => self.agent_model = Some(Setting { name, value }),
            // Another process may be of another version.
            _ if told["sessionUpdate"] == "session_opened" => self.agent_model = None,
            _ => {}
        }
    }

    pub(in crate::core) fn set(&mut self, setting: &Setting) -> Result<Reply, Refusal> {
        if !matches!(self.spec.agent, Agent::Acp { .. }) {
            return Err(Refusal::NoSettings { id: self.id.clone(), agent: self.spec.agent_name.clone() });
        }
        if self.settings.asked.len() >= limits::SETTINGS {
            return Err(Refusal::TooManySettings { id: self.id.clone(), limit: limits::SETTINGS });
        }
        self.settings.last += 1;
        let number = self.settings.last;
        self.settings.asked.push(Asked { number, setting: setting.clone() });
        Ok(Reply::Setting { number })
    }

    /// Handles the agent's answer to a setting: its reply, or the reason why it did not set the value.
    pub(in crate::core) fn setting_answered(
        &mut self,
        number: u64,
        answer: &Result<Value, String>,
        out: &mut Out,
    ) {
        let Some(index) = self.settings.asked.iter().position(|asked| asked.number == number) else {
            return;
        };
        // An agent answers in its own order; of those before it nothing more is known than that they were asked.
        let Setting { name, value } = self.settings.asked.remove(index).setting;
        let setting_id = number;
        match answer {
            Ok(payload) => {
                self.learn_model(payload);
                if let Some(model) = self.agent_model.as_mut().filter(|model| model.name == name)
                    && !payload["configOptions"].is_array()
                {
                    model.value.clone_from(&value);
                }
                let set = &mut self.settings.set;
                if set.len() < limits::SET || set.contains_key(&name) {
                    set.insert(name.clone(), value.clone());
                } else {
                    let most = limits::SET;
                    let text = format!(
                        "`{name}` is set, and is not when the agent starts again: {most} settings are remembered"
                    );
                    out.emit(EventKind::SystemMessage { text });
                }
                out.emit(EventKind::SettingChanged { setting_id, name, value, payload: payload.clone() });
            }
            Err(reason) => {
                let reason = reason.clone();
                out.emit(EventKind::SettingRefused { setting_id, name, value, reason });
            }
        }
    }
}
