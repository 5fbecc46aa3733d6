//! Requests that the agent sends: permissions, forms, files, terminals.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Agent;
use super::wire::raw;

impl Agent {
    pub(crate) fn ask_both(&mut self, tools: &[&str]) -> String {
        let first = self.next + 1;
        for tool in tools {
            self.next += 1;
            let call = json!({ "toolCallId": tool, "title": format!("may I {tool}?") });
            let params = json!({ "sessionId": self.session, "toolCall": call, "options": choices() });
            let ask = json!({ "jsonrpc": "2.0", "id": self.next, "method": "session/request_permission", "params": params });
            raw(&ask.to_string());
        }
        let mut printed = Vec::new();
        while printed.len() < tools.len() {
            let Ok(message) = self.lines.recv() else { std::process::exit(0) };
            match message["id"].as_u64().filter(|id| message["method"].is_null() && *id >= first) {
                Some(id) => {
                    let chosen = message["result"]["outcome"]["optionId"].as_str().unwrap_or("nothing");
                    printed.push(format!("{} {chosen}", tools[usize::try_from(id - first).unwrap()]));
                }
                None => self.meanwhile(message),
            }
        }
        printed.join(", ")
    }

    /// Asks for a command; the title is its beginning.
    pub(crate) fn ask_for_command(&mut self, command: &str) -> String {
        let title = format!("Run {}…", command.chars().take(10).collect::<String>());
        let call = json!({ "toolCallId": "command", "title": title, "rawInput": { "command": command } });
        let params = json!({ "sessionId": self.session, "toolCall": call, "options": choices() });
        let answer = self.ask("session/request_permission", params);
        format!("answered {}", answer["result"]["outcome"]["optionId"].as_str().unwrap_or("nothing"))
    }

    pub(crate) fn ask_form_and_tool(&mut self, question: &str, tool: &str) -> String {
        let schema =
            json!({ "type": "object", "required": ["name"], "properties": { "name": { "type": "string" } } });
        let form = json!({ "sessionId": self.session, "mode": "form", "message": question, "requestedSchema": schema });
        let call = json!({ "toolCallId": tool, "title": format!("may I {tool}?") });
        let may = json!({ "sessionId": self.session, "toolCall": call, "options": choices() });
        let asks = [("elicitation/create", form), ("session/request_permission", may)];
        for (method, params) in asks {
            self.next += 1;
            raw(&json!({ "jsonrpc": "2.0", "id": self.next, "method": method, "params": params }).to_string());
        }
        let (mut name, mut option) = (None, None);
        while name.is_none() || option.is_none() {
            let Ok(message) = self.lines.recv() else { std::process::exit(0) };
            let result = &message["result"];
            match message["id"].as_u64().filter(|_| message["method"].is_null()) {
                Some(id) if id == self.next => {
                    option = result["outcome"]["optionId"].as_str().map(str::to_owned)
                }
                Some(_) => name = result["content"]["name"].as_str().map(str::to_owned),
                None => self.meanwhile(message),
            }
        }
        format!("accept {}, answered {}", name.unwrap_or_default(), option.unwrap_or_default())
    }

    pub(crate) fn ask_greedily(&mut self, count: u64, path: &str, until: &Path) -> String {
        let reads = self.reads.clone();
        let held = reads.lock().unwrap();
        let params = json!({ "sessionId": self.session, "path": path });
        let ids = self.next + 1..=self.next + count;
        let ask = |id| json!({ "jsonrpc": "2.0", "id": id, "method": "fs/read_text_file", "params": params });
        let all: Vec<String> = ids.clone().map(|id| ask(id).to_string()).collect();
        self.next += count;
        raw(&all.join("\n"));
        while !until.exists() {
            std::thread::park_timeout(Duration::from_millis(2));
        }
        drop(held);
        let mut bytes = 0;
        for id in ids {
            let answer = self.lines.recv().unwrap();
            assert_eq!(answer["id"], id);
            bytes += answer["result"]["content"].as_str().unwrap().len();
        }
        format!("{count} answers of {bytes} bytes")
    }

    /// Reads a file before it makes it, and gives up on any error but "no such file".
    pub(crate) fn create(&mut self, path: &str, content: &str) -> String {
        let session = self.session.clone();
        let missing = match self.client_files["readTextFile"] == true {
            true => {
                let answer = self.ask("fs/read_text_file", json!({ "sessionId": session, "path": path }));
                match &answer["error"] {
                    Value::Null => Ok(()),
                    error if error["code"] == -32002 && error["data"]["uri"] == path => Ok(()),
                    error => Err(error["message"].to_string()),
                }
            }
            false => match std::fs::read(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.to_string()),
                Ok(_) | Err(_) => Ok(()),
            },
        };
        if let Err(why) = missing {
            return format!("not made: {why}");
        }
        if self.client_files["writeTextFile"] == true {
            let params = json!({ "sessionId": session, "path": path, "content": content });
            let answer = self.ask("fs/write_text_file", params);
            return answer["error"]["message"].as_str().unwrap_or("made by the client").to_owned();
        }
        let parent = Path::new(path).parent().unwrap();
        std::fs::create_dir_all(parent).and_then(|()| std::fs::write(path, content)).unwrap();
        "made".to_owned()
    }

    pub(crate) fn run(&mut self, command: &str, wait: bool) {
        let session = self.session.clone();
        let params = json!({ "sessionId": session, "command": "/bin/sh", "args": ["-c", command] });
        let created = self.ask("terminal/create", params);
        let terminal = created["result"]["terminalId"].clone();
        if terminal.is_null() {
            return self.say_answer(&Value::Null, &created);
        }
        if !wait {
            return self.say("started");
        }
        let params = json!({ "sessionId": session, "terminalId": terminal });
        let status = self.ask("terminal/wait_for_exit", params.clone());
        let output = self.ask("terminal/output", params.clone());
        self.ask("terminal/release", params);
        let text = format!("{}{}", output["result"]["output"].as_str().unwrap_or("?"), status["result"]);
        self.say(&text);
    }

    /// Asks the client, and notices a cancel meanwhile.
    pub(crate) fn ask(&mut self, method: &str, params: Value) -> Value {
        self.next += 1;
        let id = self.next;
        raw(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string());
        while let Ok(message) = self.lines.recv() {
            if message["id"] == id && message["method"].is_null() {
                return message;
            }
            self.meanwhile(message);
        }
        std::process::exit(0)
    }

    pub(crate) fn wait(&mut self, how_long: Duration) {
        let end = Instant::now() + how_long;
        while !self.cancelled || self.deaf {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            match self.lines.recv_timeout(left) {
                Ok(message) => self.meanwhile(message),
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => return,
                // The client is gone.
                Err(_) if self.deaf => std::thread::park_timeout(left),
                Err(_) => std::process::exit(0),
            }
        }
    }

    pub(crate) fn meanwhile(&mut self, message: Value) {
        if message["method"] == "session/cancel" {
            self.cancelled = true;
        } else {
            self.later.push_back(message);
        }
    }
}

/// The options of a permission.
pub(crate) fn choices() -> Value {
    json!([
        { "optionId": "yes", "name": "Yes", "kind": "allow_once" },
        { "optionId": "always", "name": "Always", "kind": "allow_always" },
        { "optionId": "no", "name": "No", "kind": "reject_once" },
    ])
}
