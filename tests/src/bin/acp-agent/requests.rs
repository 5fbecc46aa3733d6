//! Requests of the client, and their answers.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use super::asks::choices;
use super::wire::{answer, append, refuse, text_block};
use super::{Agent, End};

impl Agent {
    pub(crate) fn handle(&mut self, message: Value) {
        let (id, params) = (message["id"].clone(), message["params"].clone());
        let Some(method) = message["method"].as_str() else { return };
        if let Some(log) = &self.log {
            append(log, &format!("{method}\n"));
        }
        if method.starts_with("session/") && params["cwd"].is_string() {
            self.system = json!([params["systemPrompt"], params["_meta"]["systemPrompt"]]);
        }
        if let Some(servers) = params["mcpServers"].as_array() {
            self.servers = servers.clone();
        }
        match method {
            "initialize" => self.initialize(id, &params),
            "authenticate" => {
                self.logged_in = params["methodId"] == "key";
                answer(id, json!({}));
            }
            "session/new" if !self.logged_in => {
                if let Some(url) = &self.login_url {
                    eprintln!("\u{1b}]0;evil\u{7}Please log in:\n\n  {url}\u{1b}[2J");
                    // As one that waits for its user, until that is seen.
                    while !self.login_seen.as_ref().is_none_or(|file| file.exists()) {
                        std::thread::park_timeout(Duration::from_millis(2));
                    }
                }
                refuse(id, -32000, "Authentication required");
            }
            "session/new" => {
                // In a namespace of its own each process has the same number.
                let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos();
                self.session = format!("agent-session-{now}-{}", self.next);
                self.prompts.clear();
                answer(id, self.opened());
            }
            "session/load" if self.dies_loading => std::process::exit(9),
            "session/load" if self.hangs_loading => {}
            "session/resume" if self.hangs_resuming => {}
            "session/load" if self.forgets => refuse(id, -32603, "it is forgotten"),
            "session/load" | "session/resume" => self.load(id, &params, method == "session/load"),
            "session/set_mode" => match params["modeId"].as_str().unwrap() {
                "ask" | "code" if self.stubborn => {
                    self.update(
                        json!({ "sessionUpdate": "current_mode_update", "currentModeId": self.mode }),
                    );
                    answer(id, json!({}));
                }
                mode @ ("ask" | "code") => {
                    self.mode = mode.to_owned();
                    answer(id, json!({}));
                }
                _ => refuse(id, -32602, "no such mode"),
            },
            "session/set_config_option" => self.set_option(id, &params),
            "session/prompt" => self.prompt(id, &params),
            "session/cancel" => self.cancelled = true,
            _ if id.is_null() => {}
            _ => refuse(id, -32601, "method not found"),
        }
    }

    /// Answer with what this agent can do.
    fn initialize(&mut self, id: Value, params: &Value) {
        self.client_files = params["clientCapabilities"]["fs"].clone();
        let session = &params["clientCapabilities"]["session"];
        self.knows_switches = session["configOptions"]["boolean"].is_object();
        let mut able = json!({ "loadSession": self.can_load, "promptCapabilities": self.takes });
        if self.can_resume {
            able["sessionCapabilities"] = json!({ "resume": {} });
        }
        if let Some(mode) = &self.takes_prompt {
            able["sessionCapabilities"]["systemPrompt"] = mode.clone();
        }
        able["mcpCapabilities"] = json!({ "http": self.http, "sse": self.sse });
        if self.no_programs {
            able["mcpCapabilities"]["stdio"] = json!(false);
        }
        let methods = if self.logged_in { json!([]) } else { json!([{ "id": "key", "name": "A key" }]) };
        let version = self.version;
        answer(
            id,
            json!({
                "protocolVersion": version,
                "agentCapabilities": able,
                "authMethods": methods,
                "agentInfo": { "name": "acp-agent", "version": "0.1.7-fixture" },
            }),
        );
    }

    /// Go on with a conversation that was kept.
    fn load(&mut self, id: Value, params: &Value, replays: bool) {
        self.session = params["sessionId"].as_str().unwrap().to_owned();
        let Some(text) = self.file().and_then(|file| std::fs::read_to_string(file).ok()) else {
            return refuse(id, -32602, "no such session");
        };
        self.prompts = text.lines().map(str::to_owned).collect();
        if replays {
            for prompt in self.prompts.clone() {
                self.update(json!({ "sessionUpdate": "user_message_chunk", "content": text_block(&prompt) }));
                self.say("replayed");
            }
        }
        answer(id, self.opened());
    }

    /// Set one of its options.
    fn set_option(&mut self, id: Value, params: &Value) {
        match (params["configId"].as_str().unwrap(), &params["value"]) {
            ("effort", Value::String(effort)) if ["low", "high"].contains(&effort.as_str()) => {
                self.effort = effort.clone();
            }
            ("model", Value::String(model)) if ["small", "big"].contains(&model.as_str()) => {
                self.model = model.clone();
            }
            ("approvals", Value::String(mode)) if ["ask", "code"].contains(&mode.as_str()) => {
                let stale = self.options();
                self.mode = mode.clone();
                if self.one_form {
                    let received = json!({ "sessionUpdate": "current_mode_update", "currentModeId": mode });
                    self.update(received);
                    return answer(id, json!({ "configOptions": stale }));
                }
            }
            ("brief", Value::Bool(on)) if params["type"] == "boolean" => self.brief = *on,
            _ => return refuse(id, -32602, "no such value"),
        }
        answer(id, json!({ "configOptions": self.options() }));
    }

    /// Play a prompt's script, and end its turn.
    fn prompt(&mut self, id: Value, params: &Value) {
        let blocks = params["prompt"].as_array().unwrap();
        let text = blocks[0]["text"].as_str().unwrap_or("attached").to_owned();
        self.attached = blocks[usize::from(blocks[0]["type"] == "text")..].to_vec();
        self.cancelled = false;
        self.prompt = id.clone();
        let end = self.play(&text);
        self.prompts.push(text.replace('\n', " "));
        if let Some(file) = self.file() {
            append(&file, &format!("{}\n", text.replace('\n', " ")));
        }
        match end {
            End::Fail(why) => refuse(id, -32603, &why),
            End::Stop(reason) => {
                let usage = json!({ "inputTokens": 100, "outputTokens": 20, "totalTokens": 120 });
                answer(id, json!({ "stopReason": reason, "usage": usage }));
                if let Some(text) = self.late.take() {
                    self.say(&text);
                }
                if let Some(tool) = self.late_ask.take() {
                    let call = json!({ "toolCallId": tool, "title": format!("may I {tool}?") });
                    let params = json!({ "sessionId": self.session, "toolCall": call, "options": choices() });
                    let answer = self.ask("session/request_permission", params);
                    let outcome = &answer["result"]["outcome"];
                    self.say(&format!("answered {}", outcome["optionId"].as_str().unwrap_or("nothing")));
                }
            }
        }
    }

    fn opened(&self) -> Value {
        let modes = json!({ "currentModeId": self.mode, "availableModes": [{ "id": "ask", "name": "Ask" }, { "id": "code", "name": "Code" }] });
        json!({ "sessionId": self.session, "modes": modes, "configOptions": self.options() })
    }

    fn options(&self) -> Value {
        let values = json!([{ "value": "low", "name": "Low" }, { "value": "high", "name": "High" }]);
        let effort = json!({ "id": "effort", "name": "Effort", "type": "select", "currentValue": self.effort,
            "options": values });
        let brief = json!({ "id": "brief", "name": "Brief", "type": "boolean", "currentValue": self.brief });
        let mut options = if self.knows_switches { vec![effort, brief] } else { vec![effort] };
        let select = |id: &str, now: &str, values: [&str; 2]| {
            let values = values.map(|value| json!({ "value": value, "name": value }));
            json!({ "id": id, "name": id, "type": "select", "currentValue": now, "options": values })
        };
        if self.two_modes {
            let mut approvals = select("approvals", &self.mode, ["ask", "code"]);
            approvals["category"] = json!("mode");
            options.push(approvals);
        }
        if self.models {
            let mut model = select("model", &self.model, ["small", "big"]);
            model["category"] = json!("model");
            options.push(model);
        }
        json!(options)
    }

    fn file(&self) -> Option<PathBuf> {
        self.memory.as_ref().map(|memory| memory.join(&self.session))
    }
}
