//! An editor: a `kennel acp` process behind pipes.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, channel};

use harness::daemon::Daemon;
use harness::real::{BOUND, beside, until};
use serde_json::{Value, json};

/// A daemon whose agents are the fixture: `plain`, and `loads`, which remembers.
pub(crate) fn kennel() -> Daemon {
    let daemon = Daemon::new();
    let directory = daemon.dir.path().join("kennel");
    let memory = daemon.dir.path().join("memory");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::create_dir(&memory).unwrap();
    let (program, memory) = (beside("acp-agent"), memory.display().to_string());
    let program = program.display();
    let config = format!(
        "[defaults]\ngrace = \"500ms\"\n\n\
         [agents.plain]\nkind = \"acp\"\ncommand = [\"{program}\"]\n\n\
         [agents.loads]\nkind = \"acp\"\ncommand = [\"{program}\", \"--load\", \"--memory\", \"{memory}\"]\n\n\
         [agents.sees]\nkind = \"acp\"\ncommand = [\"{program}\", \"--image\", \"--audio\", \"--files\"]\n\n\
         [agents.reaches]\nkind = \"acp\"\ncommand = [\"{program}\", \"--http\", \"--load\", \"--memory\", \"{memory}\"]\n\n\
         [agents.allows]\nkind = \"acp\"\ncommand = [\"{program}\"]\npermissions = \"allow\"\n\n\
         [agents.noprograms]\nkind = \"acp\"\ncommand = [\"{program}\", \"--no-stdio\"]\n\n\
         [agents.leaves]\nkind = \"acp\"\ncommand = [\"{program}\", \"--early-exit\"]\n"
    );
    std::fs::write(directory.join("config.toml"), config).unwrap();
    daemon
}

/// An editor with `kennel acp` below it.
pub(crate) struct Editor {
    child: Child,
    pub stdin: Option<ChildStdin>,
    lines: Receiver<Value>,
    next: u64,
    /// All notifications and requests so far, in order.
    pub(crate) seen: Vec<Value>,
    /// Answers that no test has read yet.
    answers: Vec<Value>,
}

impl Editor {
    /// Starts it, and sends `initialize`.
    pub(crate) fn new(daemon: &Daemon, args: &[&str]) -> Self {
        let mut editor = Self::silent(daemon, args);
        let hello = editor.ask("initialize", json!({ "protocolVersion": 1, "clientCapabilities": {} }));
        assert_eq!(hello["result"]["protocolVersion"], 1, "{hello}");
        editor
    }

    pub(crate) fn silent(daemon: &Daemon, args: &[&str]) -> Self {
        let args: Vec<&str> = ["acp"].iter().chain(args).copied().collect();
        let notes = File::create(daemon.dir.path().join("notes")).unwrap();
        let mut child = daemon.command(&args).stdin(Stdio::piped()).stderr(notes).spawn().unwrap();
        let (sender, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in stdout.lines() {
                let line = line.unwrap();
                let message = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        let stdin = child.stdin.take();
        Self { child, stdin, lines, next: 0, seen: Vec::new(), answers: Vec::new() }
    }

    pub(crate) fn send(&mut self, message: &Value) {
        writeln!(self.stdin.as_mut().unwrap(), "{message}").unwrap();
    }

    /// Sends a line, whatever it is.
    pub(crate) fn write(&mut self, line: &[u8]) {
        let stdin = self.stdin.as_mut().unwrap();
        stdin.write_all(line).and_then(|()| stdin.write_all(b"\n")).unwrap();
    }

    /// Asks, and does not wait.
    fn request(&mut self, method: &str, params: Value) -> u64 {
        self.next += 1;
        let id = self.next;
        self.send(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }));
        id
    }

    pub fn notify(&mut self, method: &str, params: Value) {
        self.send(&json!({ "jsonrpc": "2.0", "method": method, "params": params }));
    }

    /// Reads one message.
    fn read(&mut self, what: &str) {
        let message = self.lines.recv_timeout(BOUND);
        let message = message.unwrap_or_else(|error| panic!("{what}: {error}; seen: {:#?}", self.seen));
        assert_eq!(message["jsonrpc"], "2.0");
        if message["method"].is_null() { self.answers.push(message) } else { self.seen.push(message) }
    }

    /// The answer to a request.
    pub fn answer(&mut self, id: u64) -> Value {
        self.answer_to(&json!(id))
    }

    pub(crate) fn answer_to(&mut self, id: &Value) -> Value {
        loop {
            if let Some(at) = self.answers.iter().position(|answer| answer["id"] == *id) {
                return self.answers.remove(at);
            }
            self.read(&format!("the answer to {id}"));
        }
    }

    pub(crate) fn ask(&mut self, method: &str, params: Value) -> Value {
        let id = self.request(method, params);
        self.answer(id)
    }

    /// Answers what it is asked until this prompt's turn is over. Gives the answer to that.
    pub(crate) fn serves(&mut self, prompt: u64, mut answers: impl FnMut(&Value) -> Value) -> Value {
        let mut from = self.seen.len();
        loop {
            if let Some(at) = self.answers.iter().position(|answer| answer["id"] == prompt) {
                return self.answers.remove(at);
            }
            self.read("the end of a turn");
            for asked in self.seen[from..]
                .iter()
                .filter(|message| !message["id"].is_null())
                .cloned()
                .collect::<Vec<_>>()
            {
                let result = answers(&asked);
                self.send(&json!({ "jsonrpc": "2.0", "id": asked["id"], "result": result }));
            }
            from = self.seen.len();
        }
    }

    /// Reads until a message like this arrives.
    pub(crate) fn wait_for(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut from = 0;
        loop {
            if let Some(found) = self.seen[from..].iter().find(|message| wanted(message)) {
                return found.clone();
            }
            from = self.seen.len();
            self.read(what);
        }
    }

    /// Reads until the agent sends a text like this.
    pub(crate) fn wait_for_text(&mut self, text: &str) {
        self.wait_for(text, |message| {
            let update = &message["params"]["update"];
            let output = update["content"]["text"].as_str();
            update["sessionUpdate"] == "agent_message_chunk"
                && output.is_some_and(|output| output.contains(text))
        });
    }

    /// Reads until it is asked for a permission.
    pub fn asked(&mut self) -> Value {
        self.wait_for("a question", |message| message["method"] == "session/request_permission")
    }

    pub fn chooses(&mut self, question: &Value, option: &str) {
        let outcome = json!({ "outcome": { "outcome": "selected", "optionId": option } });
        self.send(&json!({ "jsonrpc": "2.0", "id": question["id"], "result": outcome }));
    }

    /// A new session.
    pub(crate) fn session(&mut self, daemon: &Daemon) -> String {
        let cwd = daemon.workdir();
        let answer = self.ask("session/new", json!({ "cwd": cwd, "mcpServers": [] }));
        answer["result"]["sessionId"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
    }

    pub(crate) fn load(&mut self, daemon: &Daemon, id: &str) -> Value {
        self.ask("session/load", json!({ "sessionId": id, "cwd": daemon.workdir(), "mcpServers": [] }))
    }

    pub(crate) fn prompt(&mut self, id: &str, text: &str) -> u64 {
        let prompt = json!([{ "type": "text", "text": text }]);
        self.request("session/prompt", json!({ "sessionId": id, "prompt": prompt }))
    }

    /// Runs a prompt to its end, and gives its stop reason.
    pub fn run(&mut self, id: &str, text: &str) -> String {
        let prompt = self.prompt(id, text);
        self.stopped(prompt)
    }

    pub(crate) fn stopped(&mut self, prompt: u64) -> String {
        let answer = self.answer(prompt);
        answer["result"]["stopReason"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
    }

    /// Returns the updates so far, one string each: the kind, with its text.
    pub(crate) fn updates(&self) -> Vec<String> {
        let updates = self.seen.iter().filter(|message| message["method"] == "session/update");
        let received = updates.map(|message| {
            let update = &message["params"]["update"];
            let text = update["content"]["text"].as_str().unwrap_or_default();
            let kind = update["sessionUpdate"].as_str().unwrap();
            let kind = kind.trim_start_matches("agent_").trim_end_matches("_chunk");
            format!("{kind} {}", text.trim()).trim().to_owned()
        });
        received.collect()
    }

    /// The end of its input, as when the editor is closed; it has to leave by itself.
    pub(crate) fn close(mut self) {
        self.stdin = None;
        let child = &mut self.child;
        let status = until("the end of `kennel acp`", || child.try_wait().unwrap());
        assert!(status.success(), "{status}");
    }
}

impl Drop for Editor {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
