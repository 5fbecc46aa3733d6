//! Settings of an agent that speaks ACP: their choices and current values, in ACP's words.
//!
//! An agent may have its mode in two forms: as `modes`, and as a configuration option of the category `mode`, which
//! replaces them (<https://agentclientprotocol.com/protocol/v1/session-config-options>). Some agents report a change in
//! one form only. kennel treats both as one setting: a report in either form changes both.

use serde_json::{Map, Value, json};

const MODE: &str = "mode";

/// `modes` and `configOptions`, as the agent has last confirmed them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Offered(Map<String, Value>);

impl Offered {
    /// Takes the settings from the agent's answer when its session opens. Settings of an earlier process no longer
    /// hold.
    pub fn opened(told: &Value) -> Self {
        let mut offered = Self::default();
        offered.learn("modes", told);
        offered.learn("configOptions", told);
        offered.mode_of_option();
        offered
    }

    /// Takes the settings from a later report of the agent (`session/update`).
    pub fn update(&mut self, payload: &Value) {
        match payload["sessionUpdate"].as_str() {
            Some("config_option_update") => {
                self.learn("configOptions", payload);
                self.mode_of_option();
            }
            Some("current_mode_update") => {
                if let Some(mode) = payload["currentModeId"].as_str() {
                    self.now_in(mode);
                }
            }
            _ => {}
        }
    }

    /// The agent has set something, with this answer.
    pub fn set(&mut self, name: &str, value: &str, answer: &Value) {
        if answer["configOptions"].is_array() {
            self.learn("configOptions", answer);
            return self.mode_of_option();
        }
        // An answer that names another is the agent's word.
        let value = answer["currentModeId"].as_str().unwrap_or(value);
        if name == MODE {
            return self.now_in(value);
        }
        if let Some(option) = self.option_mut(|option| option["id"] == name) {
            put(option, value);
        }
        self.mode_of_option();
    }

    /// The agent's settings in ACP's JSON: `modes` and `configOptions`, each absent until the agent reports it.
    pub fn known(&self) -> &Map<String, Value> {
        &self.0
    }

    /// The agent's settings, as [`Self::known`], by value.
    pub fn into_known(self) -> Map<String, Value> {
        self.0
    }

    /// The current value of a setting; `None` if the agent has not reported it.
    pub fn current(&self, name: &str) -> Option<String> {
        let options = self.0.get("configOptions").unwrap_or(&Value::Null);
        let modes = || self.0.get("modes").filter(|_| name == MODE)?["currentModeId"].as_str();
        now(options, name).or_else(|| modes().map(str::to_owned))
    }

    fn learn(&mut self, name: &str, payload: &Value) {
        if let Some(told) = payload.get(name).filter(|value| !value.is_null()) {
            self.0.insert(name.to_owned(), told.clone());
        }
    }

    fn option_mut(&mut self, is: impl Fn(&Value) -> bool) -> Option<&mut Value> {
        self.0.get_mut("configOptions")?.as_array_mut()?.iter_mut().find(|option| is(option))
    }

    /// The agent is in this mode, in whatever form it has it.
    fn now_in(&mut self, mode: &str) {
        if let Some(Value::Object(modes)) = self.0.get_mut("modes") {
            modes.insert("currentModeId".to_owned(), json!(mode));
        }
        if let Some(option) =
            self.option_mut(is_mode).filter(|option| offers(&option["options"], "value", mode))
        {
            put(option, mode);
        }
    }

    /// The mode that its option says is the one of the other form, too.
    fn mode_of_option(&mut self) {
        let options = self.0.get("configOptions").unwrap_or(&Value::Null);
        let Some(mode) = mode_option(options).and_then(|option| option["currentValue"].as_str()) else {
            return;
        };
        let mode = mode.to_owned();
        if let Some(modes) =
            self.0.get_mut("modes").filter(|modes| offers(&modes["availableModes"], "id", &mode))
        {
            modes["currentModeId"] = json!(mode);
        }
    }
}

/// The option that is the agent's mode.
pub fn mode_option(options: &Value) -> Option<&Value> {
    let options = options.as_array()?;
    options
        .iter()
        .find(|option| option["id"] == MODE)
        .or_else(|| options.iter().find(|option| is_mode(option)))
}

/// The value of an option in a list of them, by its id; `mode` is the agent's mode.
pub fn now(options: &Value, name: &str) -> Option<String> {
    let option = options.as_array()?.iter().find(|option| option["id"] == name);
    let option = option.or_else(|| mode_option(options).filter(|_| name == MODE))?;
    match &option["currentValue"] {
        Value::String(value) => Some(value.clone()),
        Value::Bool(on) => Some(on.to_string()),
        _ => None,
    }
}

fn is_mode(option: &Value) -> bool {
    option["id"] == MODE || option["category"] == MODE
}

/// Returns true if this value is among the choices, in a group or not.
fn offers(choices: &Value, id: &str, value: &str) -> bool {
    let mut choices = choices.as_array().into_iter().flatten();
    choices.any(|choice| choice[id] == value || offers(&choice["options"], id, value))
}

fn put(option: &mut Value, value: &str) {
    option["currentValue"] = match (option["type"].as_str(), value.parse::<bool>()) {
        (Some("boolean"), Ok(on)) => json!(on),
        _ => json!(value),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_forms() -> Offered {
        Offered::opened(&json!({
            "modes": { "currentModeId": "ask", "availableModes": [{ "id": "ask" }, { "id": "yolo" }] },
            "configOptions": [
                { "id": "approvals", "category": "mode", "type": "select", "currentValue": "ask",
                  "options": [{ "group": "all", "options": [{ "value": "ask" }, { "value": "yolo" }] }] },
                { "id": "brief", "type": "boolean", "currentValue": false },
            ],
        }))
    }

    fn both(offered: &Offered) -> (String, String) {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let known = offered.known();
        (text(&known["modes"]["currentModeId"]), text(&known["configOptions"][0]["currentValue"]))
    }

    #[test]
    fn a_mode_that_is_told_in_one_form_holds_for_both() {
        let is = |mode: &str| (mode.to_owned(), mode.to_owned());
        let mut offered = two_forms();
        offered.update(&json!({ "sessionUpdate": "current_mode_update", "currentModeId": "yolo" }));
        assert_eq!(both(&offered), is("yolo"));
        let mut options = offered.known()["configOptions"].clone();
        options[0]["currentValue"] = json!("ask");
        offered.update(&json!({ "sessionUpdate": "config_option_update", "configOptions": options }));
        assert_eq!(both(&offered), is("ask"));
        offered.set("mode", "yolo", &json!({}));
        assert_eq!(both(&offered), is("yolo"));
        offered.set("mode", "ask", &json!({ "configOptions": options }));
        assert_eq!(both(&offered), is("ask"));
        offered.set("mode", "yolo", &json!({ "currentModeId": "ask" }));
        assert_eq!(both(&offered), is("ask"), "the agent's word counts");
        assert_eq!(
            (offered.current("mode"), offered.current("approvals")),
            (Some("ask".into()), Some("ask".into()))
        );
    }

    #[test]
    fn an_option_that_is_set_without_a_list_in_the_answer_is_set() {
        let mut offered = two_forms();
        offered.set("brief", "true", &json!({}));
        assert_eq!(offered.known()["configOptions"][1]["currentValue"], json!(true));
        offered.set("approvals", "yolo", &Value::Null);
        assert_eq!(both(&offered), ("yolo".to_owned(), "yolo".to_owned()));
        // A value that the other form does not offer is not set there.
        offered.update(&json!({ "sessionUpdate": "current_mode_update", "currentModeId": "new" }));
        assert_eq!(both(&offered), ("new".to_owned(), "yolo".to_owned()));
    }
}
