//! An editor: over a `kennel acp` process behind pipes, or over a WebSocket.

use std::cell::Cell;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use agent_client_protocol::v1::schema;
use harness::daemon::Daemon;
use harness::real::{BOUND, beside, signal, until};
use harness::websocket::{self, Sender};
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

thread_local! {
    static SOCKETS: Cell<bool> = const { Cell::new(false) };
}

/// Runs a scenario whose editors come by WebSocket.
pub(crate) fn over_sockets(scenario: fn()) {
    SOCKETS.set(true);
    scenario();
    SOCKETS.set(false);
}

/// Writes each line as a frame. Dropped, it cuts the connection.
struct Frames {
    sender: Sender,
    line: Vec<u8>,
}

impl Write for Frames {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        for byte in bytes {
            match byte {
                b'\n' => assert!(self.sender.frame(websocket::TEXT, &std::mem::take(&mut self.line))),
                byte => self.line.push(*byte),
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        self.sender.cut();
    }
}

/// The query that is the same as these arguments of `kennel acp`.
fn query(args: &[&str]) -> String {
    let mut query = "editor_tools=true".to_owned();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        query += &match *arg {
            "--agent" => format!("&agent={}", args.next().unwrap()),
            "--workdir-session" => "&workdir_session=true".to_owned(),
            other => panic!("{other} has no place in a query"),
        };
    }
    query
}

/// An editor with `kennel acp` below it, or with a WebSocket.
pub(crate) struct Editor {
    /// None over a WebSocket.
    child: Option<Child>,
    pub stdin: Option<Box<dyn Write>>,
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
        Self::silent(daemon, args).hello()
    }

    /// Over a WebSocket, which this query and these headers open.
    pub(crate) fn at_socket(daemon: &Daemon, query: &str, headers: &[(&str, &str)]) -> Self {
        // It starts the daemon, if there is none.
        daemon.ok(&["ls"]);
        let opened = websocket::open(&daemon.socket(), &format!("/v1/acp?{query}"), headers);
        let (writer, mut reader) = opened.unwrap_or_else(|refused| panic!("{refused:?}"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            while let Some(text) = reader.text() {
                if sender.send(serde_json::from_str(&text).unwrap()).is_err() {
                    return;
                }
            }
        });
        let stdin: Box<dyn Write> = Box::new(Frames { sender: writer, line: Vec::new() });
        Self { child: None, stdin: Some(stdin), lines, next: 0, seen: Vec::new(), answers: Vec::new() }
    }

    /// Sends `initialize`, with nothing that the editor can do.
    pub(crate) fn hello(mut self) -> Self {
        let hello = self.ask("initialize", json!({ "protocolVersion": 1, "clientCapabilities": {} }));
        assert_eq!(hello["result"]["protocolVersion"], 1, "{hello}");
        self
    }

    /// The same, with files that it reads for agents.
    pub(crate) fn hello_with_files(mut self) -> Self {
        let able = json!({ "fs": { "readTextFile": true } });
        self.ask("initialize", json!({ "protocolVersion": 1, "clientCapabilities": able }));
        self
    }

    pub(crate) fn silent(daemon: &Daemon, args: &[&str]) -> Self {
        if SOCKETS.get() {
            return Self::at_socket(daemon, &query(args), &[]);
        }
        let args: Vec<&str> = ["acp"].iter().chain(args).copied().collect();
        Self::below(daemon.command(&args), daemon)
    }

    /// Above this command, which is a `kennel acp`.
    pub(crate) fn below(mut command: Command, daemon: &Daemon) -> Self {
        let notes = File::create(daemon.dir.path().join("notes")).unwrap();
        let mut child = command.stdin(Stdio::piped()).stderr(notes).spawn().unwrap();
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
        let stdin = child.stdin.take().map(|stdin| Box::new(stdin) as Box<dyn Write>);
        Self { child: Some(child), stdin, lines, next: 0, seen: Vec::new(), answers: Vec::new() }
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
    pub(crate) fn request(&mut self, method: &str, params: Value) -> u64 {
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
        checked(&message);
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

    /// A signal ends `kennel acp`.
    pub(crate) fn ended_by(mut self, by: nix::sys::signal::Signal) {
        let Some(child) = &mut self.child else { panic!("it has no process") };
        signal(child.id(), by);
        let status = until("the end of `kennel acp`", || child.try_wait().unwrap());
        assert_eq!(status.signal(), Some(by as i32), "{status}");
    }

    /// The end of its input, as when the editor is closed; it has to leave by itself.
    pub(crate) fn close(mut self) {
        self.stdin = None;
        let Some(child) = &mut self.child else { return };
        let status = until("the end of `kennel acp`", || child.try_wait().unwrap());
        assert!(status.success(), "{status}");
    }
}

/// Updates that the protocol does not know yet.
const LATER: [&str; 2] = ["something_new", "subagent_update"];

/// Checks a notification or request by the protocol's own types.
fn checked(message: &Value) {
    let Some(method) = message["method"].as_str() else {
        return assert!(message["result"].is_null() != message["error"].is_null(), "{message}");
    };
    let params = message["params"].clone();
    let read = match method {
        // What the protocol does not know yet is passed on as it is.
        "session/update" if LATER.contains(&params["update"]["sessionUpdate"].as_str().unwrap()) => Ok(()),
        "session/update" => serde_json::from_value::<schema::SessionNotification>(params).map(drop),
        "session/request_permission" => {
            serde_json::from_value::<schema::RequestPermissionRequest>(params).map(drop)
        }
        _ => Ok(()),
    };
    read.unwrap_or_else(|error| panic!("{error}: {message}"));
}

impl Drop for Editor {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It may have ended.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
