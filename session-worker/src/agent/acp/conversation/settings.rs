//! Settings of the agent: the options that it offers, the requests to set them, and its answers.

use protocol::bounds;
use protocol::settings::{self, Offered};
use protocol::wire::{Report, Setting, SettingAnswer};
use serde_json::{Value, json};

use super::{Conversation, Stage};
use crate::agent::acp::message::{AUTH_REQUIRED, Do, beginning, notice, text_at, words};

/// Limit of the options that can be set. The worker ignores the rest.
const SETTABLE: usize = 256;

/// A setting that the agent has not answered.
#[derive(Debug)]
pub(super) struct Asked {
    /// Number of the manager's request; absent for a recorded setting.
    pub(super) request: Option<u64>,
    setting: Setting,
    /// Value that the agent has told since.
    told: Option<String>,
}

impl Conversation {
    pub(super) fn learn_options(&mut self, told: &Value) {
        if let Some(options) = told["configOptions"].as_array() {
            let all =
                options.iter().map(|option| Some((text_at(option, "id")?, option["type"] == "boolean")));
            let all = all.flatten().filter(|(id, _)| bounds::fits(id, bounds::ID));
            self.options = all.take(SETTABLE).collect();
            let mode = settings::mode_option(&told["configOptions"]).and_then(|option| text_at(option, "id"));
            self.mode_option = mode.filter(|id| self.options.contains_key(id));
            if self.options.len() < options.len() {
                self.say("options", || {
                    let (most, ids) = (SETTABLE, bounds::ID);
                    format!("not all that the agent offers can be set: {most} options at most, ids of {ids} bytes at most")
                });
            }
        }
    }

    /// Sets the next recorded setting. Each waits for the one before it, on which it may depend.
    pub(super) fn set_next(&mut self) -> Vec<Do> {
        let mut all = Vec::new();
        while let Some(setting) = self.to_set.pop() {
            match self.setting_request(&setting) {
                Ok((method, params)) => {
                    self.stage = Stage::Setting;
                    let (id, send) = self.request(method, params);
                    self.setting.insert(id, Asked { request: None, setting, told: None });
                    all.push(send);
                    return all;
                }
                Err(why) => all.push(notice(format!(
                    "{} is not set any more: {why}",
                    beginning(&format!("{}={}", setting.name, setting.value))
                ))),
            }
        }
        all.extend(self.ready());
        all
    }

    /// Asks the agent to set something, whether a turn runs or not.
    pub fn set(&mut self, request: u64, setting: Setting) -> Vec<Do> {
        match self.setting_request(&setting) {
            Ok((method, params)) => {
                let (id, send) = self.request(method, params);
                self.setting.insert(id, Asked { request: Some(request), setting, told: None });
                vec![send]
            }
            Err(reason) => {
                let answer = SettingAnswer::Refused { reason };
                vec![Do::Report(Report::SettingAnswered { request, answer })]
            }
        }
    }

    /// Returns the method and parameters for a setting, or why the agent is not asked.
    fn setting_request(&self, setting: &Setting) -> Result<(&'static str, Value), String> {
        let Setting { name, value } = setting;
        // An agent that has its mode in two forms has one mode.
        let name = match &self.mode_option {
            Some(option) if name == "mode" => option,
            Some(_) | None => name,
        };
        let mut params = json!({ "sessionId": self.session, "configId": name, "value": value });
        match self.options.get(name) {
            Some(true) => {
                let on: bool = value.parse().map_err(|_| "it can be true or false".to_owned())?;
                params["type"] = json!("boolean");
                params["value"] = json!(on);
                Ok(("session/set_config_option", params))
            }
            Some(false) => Ok(("session/set_config_option", params)),
            None if name == "mode" && self.modes => {
                Ok(("session/set_mode", json!({ "sessionId": self.session, "modeId": value })))
            }
            None => {
                let mut known: Vec<&str> = self.options.keys().map(String::as_str).collect();
                known.extend(self.modes.then_some("mode"));
                let known = if known.is_empty() { "nothing".to_owned() } else { known.join(", ") };
                Err(format!("the agent has no such setting; it has {}", beginning(&known)))
            }
        }
    }

    /// Measures the settings that the agent has told, for [`Conversation::held`].
    pub(super) fn count_offered(&mut self) {
        self.offered_bytes = serde_json::to_string(self.offered.known()).map_or(0, |text| text.len());
    }

    /// Learns values from an update, for settings that the agent has not answered.
    pub(super) fn learn_settings(&mut self, told: &Value) {
        let is_of_settings =
            matches!(told["sessionUpdate"].as_str(), Some("config_option_update" | "current_mode_update"));
        // A loaded conversation is thousands of other updates: those are not counted one by one.
        if self.stage != Stage::Ready && is_of_settings {
            self.offered.update(told);
            self.count_offered();
        }
        for asked in self.setting.values_mut() {
            let name = &asked.setting.name;
            let mode = (told["sessionUpdate"] == "current_mode_update")
                .then(|| text_at(told, "currentModeId"))
                .flatten()
                .filter(|_| name == "mode" || self.mode_option.as_ref() == Some(name));
            asked.told = mode.or_else(|| settings::now(&told["configOptions"], name)).or(asked.told.take());
        }
    }

    /// Returns the agent's answer with the value that holds, and a notice if that is not the requested value.
    fn confirmed(&mut self, asked: &Asked, mut answer: Value) -> (Value, Vec<Do>) {
        self.learn_options(&answer);
        let Setting { name, value } = &asked.setting;
        let answered = settings::now(&answer["configOptions"], name);
        let is_it = |told: &&String| *told == value;
        // Some have two places for one setting, and only one of them is up to date.
        let holds = asked.told.as_ref().filter(is_it).or(answered.as_ref()).or(asked.told.as_ref());
        let holds = holds.map_or_else(|| value.clone(), String::clone);
        if answered.as_ref().is_some_and(|answered| *answered != holds) {
            let mut mended = Offered::opened(&answer);
            mended.set(name, &holds, &Value::Null);
            answer["configOptions"] = mended.known()["configOptions"].clone();
        }
        if !answer.is_object() {
            answer = json!({});
        }
        if holds == *value {
            return (answer, Vec::new());
        }
        if answered.is_none() {
            answer["currentModeId"] = json!(holds);
        }
        let (asked, holds) = (beginning(&format!("{name}={value}")), beginning(&holds));
        (answer, vec![notice(format!("the agent was asked to set {asked}, and says that it is {holds}"))])
    }

    pub(super) fn set_or_not(&mut self, request: u64, asked: Asked, answer: Result<Value, Value>) -> Vec<Do> {
        let (answer, mut all) = match answer {
            Ok(result) => {
                let (payload, said) = self.confirmed(&asked, result);
                (SettingAnswer::Set { payload: payload.to_string() }, said)
            }
            Err(error) => (SettingAnswer::Refused { reason: words(&error) }, Vec::new()),
        };
        all.push(Do::Report(Report::SettingAnswered { request, answer }));
        all
    }

    /// Takes the agent's answer to a recorded setting.
    pub(super) fn set_again(&mut self, asked: Asked, answer: Result<Value, Value>) -> Vec<Do> {
        let Setting { name, value } = &asked.setting;
        let mut all = match answer {
            Ok(result) => {
                let (answer, said) = self.confirmed(&asked, result);
                self.offered.set(name, value, &answer);
                self.count_offered();
                said
            }
            Err(error) if error["code"].as_i64() == Some(AUTH_REQUIRED) => {
                return vec![Do::Give(Report::LoginNeeded { message: self.needs_login(&error) })];
            }
            Err(error) => {
                let what = beginning(&format!("{name}={value}"));
                let why = words(&error);
                vec![notice(format!("the agent did not set {what}: {why}"))]
            }
        };
        all.extend(self.set_next());
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::acp::conversation::Opening;

    /// A conversation whose agent has opened its session with one option, and has not answered the setting of that.
    fn setting() -> Conversation {
        let opening = Opening {
            cwd: "/".to_owned(),
            mcp_servers: Vec::new(),
            remote_servers: Vec::new(),
            reads_files: false,
            writes_files: false,
            login: None,
            model: None,
            system_prompt: None,
            started_with_model: false,
            settings: vec![Setting { name: "effort".to_owned(), value: "high".to_owned() }],
            agent_session: None,
            conversation: false,
        };
        let (mut conversation, _) = Conversation::begin(opening);
        let answers = [
            json!({ "protocolVersion": 1 }),
            json!({ "sessionId": "s", "configOptions": [{ "id": "effort", "type": "select" }] }),
        ];
        for (id, result) in (1..).zip(answers) {
            conversation
                .hear(json!({ "jsonrpc": "2.0", "id": id, "result": result }).to_string().into_bytes());
        }
        assert_eq!(conversation.stage, Stage::Setting);
        conversation
    }

    #[test]
    fn options_that_an_agent_tells_before_it_takes_prompts_count_as_held() {
        let mut conversation = setting();
        let before = conversation.held();
        let mut told = |length: usize| {
            let option = json!({ "id": "effort", "type": "select", "description": "x".repeat(length) });
            let update = json!({ "sessionUpdate": "config_option_update", "configOptions": [option] });
            let params = json!({ "sessionId": "s", "update": update });
            let message = json!({ "jsonrpc": "2.0", "method": "session/update", "params": params });
            conversation.hear(message.to_string().into_bytes());
            conversation.held()
        };
        assert!(told(1 << 20) >= before + (1 << 20), "the update is not counted");
        // The next update replaces the options.
        assert!(told(10) < before + 1_000);
        let answer = json!({ "configOptions": [{ "id": "effort", "description": "x".repeat(1 << 20) }] });
        conversation.to_set.push(Setting { name: "effort".to_owned(), value: "low".to_owned() });
        conversation.hear(json!({ "jsonrpc": "2.0", "id": 3, "result": answer }).to_string().into_bytes());
        assert!(conversation.held() >= before + (1 << 20), "the answer is not counted");
    }
}
