//! `kennel acp` as an editor sees it: lines of JSON over pipes, and everything behind them real.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, channel};

use harness::daemon::Daemon;
use harness::real::{BOUND, beside, kill, lives, until};
use manager::protocol::api::{AgentInfo, SessionInfo, Status};
use manager::protocol::event::EventKind;
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
    stdin: Option<ChildStdin>,
    lines: Receiver<Value>,
    next: u64,
    /// What it was told and asked so far, in order.
    pub(crate) seen: Vec<Value>,
    /// Answers that nobody has looked at.
    answers: Vec<Value>,
}

impl Editor {
    /// Starts it, and says hello.
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

    fn notify(&mut self, method: &str, params: Value) {
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
    fn answer(&mut self, id: u64) -> Value {
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

    /// Reads until it is told something like this.
    pub(crate) fn hears(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut from = 0;
        loop {
            if let Some(found) = self.seen[from..].iter().find(|message| wanted(message)) {
                return found.clone();
            }
            from = self.seen.len();
            self.read(what);
        }
    }

    /// Reads until the agent says something like this.
    pub(crate) fn hears_text(&mut self, text: &str) {
        self.hears(text, |message| {
            let update = &message["params"]["update"];
            let said = update["content"]["text"].as_str();
            update["sessionUpdate"] == "agent_message_chunk" && said.is_some_and(|said| said.contains(text))
        });
    }

    /// Reads until it is asked for a permission.
    fn asked(&mut self) -> Value {
        self.hears("a question", |message| message["method"] == "session/request_permission")
    }

    fn chooses(&mut self, question: &Value, option: &str) {
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
    fn run(&mut self, id: &str, text: &str) -> String {
        let prompt = self.prompt(id, text);
        self.stopped(prompt)
    }

    pub(crate) fn stopped(&mut self, prompt: u64) -> String {
        let answer = self.answer(prompt);
        answer["result"]["stopReason"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
    }

    /// What it was told so far, one word a piece: the kind of each update, with its text.
    pub(crate) fn told(&self) -> Vec<String> {
        let updates = self.seen.iter().filter(|message| message["method"] == "session/update");
        let told = updates.map(|message| {
            let update = &message["params"]["update"];
            let text = update["content"]["text"].as_str().unwrap_or_default();
            let kind = update["sessionUpdate"].as_str().unwrap();
            let kind = kind.trim_start_matches("agent_").trim_end_matches("_chunk");
            format!("{kind} {}", text.trim()).trim().to_owned()
        });
        told.collect()
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

#[test]
fn a_prompt_streams_what_the_agent_tells_as_it_came() {
    let daemon = kennel();
    let mut editor = Editor::silent(&daemon, &["--agent", "plain"]);
    let early = editor.ask("session/list", json!({}));
    assert_eq!(early["error"]["code"], -32600, "{early}");
    let hello = editor.ask("initialize", json!({ "protocolVersion": 2 }));
    let able = &hello["result"]["agentCapabilities"];
    assert_eq!(hello["result"]["protocolVersion"], 1);
    assert_eq!((&able["loadSession"], &able["promptCapabilities"]["image"]), (&json!(true), &json!(true)));
    assert!(
        able["sessionCapabilities"]["list"].is_object() && able["sessionCapabilities"]["resume"].is_object()
    );
    let new = editor.ask("session/new", json!({ "cwd": daemon.workdir(), "mcpServers": [] }));
    assert_eq!(new["result"]["modes"]["currentModeId"], "ask", "{new}");
    let id = new["result"]["sessionId"].as_str().unwrap().to_owned();
    let script =
        "think hm; say hello ; say world; plan; usage; tool t1 make it; done t1; news; stop max_tokens";
    assert_eq!(editor.run(&id, script), "max_tokens");
    let told = editor.told();
    let wanted = [
        "thought hm",
        "message hello",
        "message world",
        "plan",
        "usage_update",
        "tool_call",
        "tool_call_update",
        "something_new",
    ];
    assert_eq!(told, wanted);
    let news = &editor.seen.last().unwrap()["params"];
    assert_eq!((&news["sessionId"], &news["update"]["x"][1]["y"]), (&json!(id), &json!("z")));
    assert_eq!(daemon.show(&id).workdir, daemon.workdir().canonicalize().unwrap().display().to_string());
    let failed = editor.prompt(&id, "say well; fail no more tokens");
    let failed = editor.answer(failed);
    assert!(failed["error"]["message"].as_str().unwrap().contains("no more tokens"), "{failed}");
    editor.close();
}

#[test]
fn a_prompts_blocks_become_one_text_for_an_agent_that_takes_nothing_else() {
    let daemon = kennel();
    let mut editor = Editor::new(&daemon, &["--agent", "shell"]);
    let id = editor.session(&daemon);
    let prompt = json!([
        { "type": "text", "text": "echo one" },
        { "type": "resource_link", "name": "a", "uri": "echo file:///a" },
        { "type": "resource", "resource": { "uri": "echo b", "text": "echo three" } },
    ]);
    let answer = editor.ask("session/prompt", json!({ "sessionId": id, "prompt": prompt }));
    assert_eq!(answer["result"]["stopReason"], "end_turn", "{answer}");
    // Each block was a line of its own, or the shell would not have run it. How its output is cut is the pipe's affair.
    let printed = editor.told().concat().replace("message ", "").replace('\n', "");
    assert_eq!(printed, "onefile:///ab:three");
    let image = json!([{ "type": "image", "mimeType": "image/png", "data": "" }]);
    let answer = editor.ask("session/prompt", json!({ "sessionId": id, "prompt": image }));
    assert!(answer["error"]["message"].as_str().unwrap().contains("takes no attachments"), "{answer}");
    assert_eq!(daemon.show(&id).turn_count, 1);
}

#[test]
fn pictures_sounds_and_files_of_an_editor_go_through_to_the_agent() {
    let daemon = kennel();
    let mut editor = Editor::new(&daemon, &["--agent", "sees"]);
    let id = editor.session(&daemon);
    let prompt = json!([
        { "type": "text", "text": "attached; say of" },
        { "type": "image", "mimeType": "image/png", "data": "AAEC", "uri": "file:///a.png" },
        { "type": "audio", "mimeType": "audio/wav", "data": "AAED" },
        { "type": "resource", "resource": { "uri": "file:///b.rs", "mimeType": "text/x-rust", "text": "fn b() {}" } },
        { "type": "resource", "resource": { "uri": "mem:c", "blob": "AAEE" } },
    ]);
    let answer = editor.ask("session/prompt", json!({ "sessionId": id, "prompt": prompt }));
    assert_eq!(answer["result"]["stopReason"], "end_turn", "{answer}");
    let seen = "image image/png file:///a.png AAEC, audio audio/wav AAED, \
                resource text/x-rust file:///b.rs fn b() {}, resource application/octet-stream mem:c AAEE";
    assert_eq!(editor.told(), [format!("message {seen}"), "message of\nfile:///b.rs".to_owned()]);
    // Whoever looks later is told what there was.
    let mut other = Editor::new(&daemon, &["--agent", "sees"]);
    other.load(&daemon, &id);
    let names = "(attached: a.png)\n(attached: sound)\n(attached: b.rs)\n(attached: c)";
    other.hears("what there was", |message| {
        let text = message["params"]["update"]["content"]["text"].as_str();
        text.is_some_and(|text| text.ends_with(names))
    });
}

#[test]
fn a_permission_goes_to_the_editor_and_its_answer_to_the_agent() {
    let daemon = kennel();
    let mut editor = Editor::new(&daemon, &["--agent", "plain"]);
    let id = editor.session(&daemon);
    let prompt = editor.prompt(&id, "tool t1 rm; ask t1 execute rm; done t1");
    let question = editor.asked();
    assert_eq!(question["params"]["sessionId"], json!(id));
    assert_eq!(question["params"]["toolCall"]["toolCallId"], "t1");
    assert_eq!(question["params"]["options"][2]["optionId"], "no");
    assert_eq!(daemon.show(&id).status, Status::RequiresAction);
    editor.chooses(&question, "always");
    assert_eq!(editor.stopped(prompt), "end_turn");
    assert!(editor.told().contains(&"message answered always".to_owned()), "{:?}", editor.told());
}

#[test]
fn a_permission_that_somebody_else_answers_is_withdrawn_from_the_editor() {
    let daemon = kennel();
    let mut editor = Editor::new(&daemon, &["--agent", "plain"]);
    let id = editor.session(&daemon);
    let prompt = editor.prompt(&id, "ask t1; say after");
    let question = editor.asked();
    let waiting: Vec<Value> = daemon.json(&["permissions", "ls", &id]);
    daemon.ok(&["permissions", "allow", waiting[0]["permission_id"].as_str().unwrap()]);
    editor.hears("that it is withdrawn", |message| {
        message["method"] == "$/cancel_request" && message["params"]["requestId"] == question["id"]
    });
    editor.chooses(&question, "no");
    assert_eq!(editor.stopped(prompt), "end_turn");
    assert_eq!(editor.told(), ["message answered yes", "message after"]);
    // An answer that is none decides nothing.
    let prompt = editor.prompt(&id, "ask t2");
    editor.seen.clear();
    let question = editor.asked();
    let refusal = json!({ "code": -32601, "message": "what?" });
    editor.send(&json!({ "jsonrpc": "2.0", "id": question["id"], "error": refusal }));
    editor.hears_text("waits for an answer");
    let waiting: Vec<Value> = daemon.json(&["permissions", "ls", &id]);
    daemon.ok(&["permissions", "deny", waiting[0]["permission_id"].as_str().unwrap()]);
    assert_eq!(editor.stopped(prompt), "end_turn");
}

#[test]
fn what_a_policy_answers_is_not_asked() {
    let daemon = kennel();
    let mut editor = Editor::new(&daemon, &["--agent", "allows"]);
    let id = editor.session(&daemon);
    assert_eq!(editor.run(&id, "ask t1"), "end_turn");
    assert_eq!(editor.told(), ["message answered yes"]);
    assert!(editor.seen.iter().all(|message| message["method"] == "session/update"), "{:#?}", editor.seen);
}

#[test]
fn cancel_ends_what_runs_and_what_waits() {
    let daemon = kennel();
    let mut editor = Editor::new(&daemon, &["--agent", "plain"]);
    let id = editor.session(&daemon);
    let cancel = json!({ "sessionId": id });
    let (one, two) = (editor.prompt(&id, "say begun; sleep 60000ms"), editor.prompt(&id, "say never"));
    editor.hears_text("begun");
    editor.notify("session/cancel", cancel.clone());
    assert_eq!((editor.stopped(one), editor.stopped(two)), ("cancelled".into(), "cancelled".into()));
    assert!(!editor.told().contains(&"message never".to_owned()), "{:?}", editor.told());
    // At once, while the prompt is on its way.
    let three = editor.prompt(&id, "sleep 60000ms");
    editor.notify("session/cancel", cancel.clone());
    assert_eq!(editor.stopped(three), "cancelled");
    // With a question open, and by the request itself.
    let four = editor.prompt(&id, "ask t1");
    let question = editor.asked();
    editor.notify("$/cancel_request", json!({ "requestId": four }));
    let outcome = json!({ "outcome": { "outcome": "cancelled" } });
    editor.send(&json!({ "jsonrpc": "2.0", "id": question["id"], "result": outcome }));
    assert_eq!(editor.stopped(four), "cancelled");
    assert_eq!(editor.run(&id, "say still here"), "end_turn");
    assert!(editor.told().contains(&"message still here".to_owned()));
}

#[test]
fn kill_worker_mid_turn_is_a_message_and_the_next_prompt_works() {
    let daemon = kennel();
    let mut editor = Editor::new(&daemon, &["--agent", "loads"]);
    let id = editor.session(&daemon);
    editor.run(&id, "say one");
    let prompt = editor.prompt(&id, "tool t1 it; say two; sleep 60000ms");
    editor.hears_text("two");
    kill(daemon.show(&id).pid.unwrap());
    assert_eq!(editor.stopped(prompt), "end_turn");
    let told = editor.told();
    let [.., torn, message] = &told[..] else { panic!("{told:?}") };
    assert_eq!(torn, "tool_call_update", "a tool call does not seem to run for ever");
    assert!(
        message.contains("crashed") && message.contains("SIGKILL") && message.contains("`loaded`"),
        "{message}"
    );
    assert_eq!(editor.run(&id, "recall"), "end_turn");
    editor.hears_text("remembered 1 told 0 last [say one]");
}

#[test]
fn an_editor_that_leaves_ends_nothing_and_finds_everything_when_it_comes_back() {
    let daemon = kennel();
    let mut editor = Editor::new(&daemon, &["--agent", "loads"]);
    let id = editor.session(&daemon);
    editor.run(&id, "think hm; say one; tool t1 it; done t1");
    let running = editor.prompt(&id, "say two; ask t2; say three");
    editor.asked();
    editor.stdin = None;
    let left = editor.answer(running);
    assert!(left["error"]["message"].as_str().unwrap().contains("goes on"), "{left}");
    editor.close();
    assert_eq!(daemon.show(&id).status, Status::RequiresAction);

    let mut editor = Editor::new(&daemon, &["--agent", "loads"]);
    let loaded = editor.load(&daemon, &id);
    assert_eq!(loaded["result"]["modes"]["currentModeId"], "ask", "{loaded}");
    let before = [
        "user_message think hm; say one; tool t1 it; done t1",
        "thought hm",
        "message one",
        "tool_call",
        "tool_call_update",
        "user_message say two; ask t2; say three",
        "message two",
    ];
    assert_eq!(editor.told(), before);
    let question = editor.asked();
    editor.chooses(&question, "yes");
    editor.hears_text("three");
    let all = [&before[..], &["message answered yes", "message three"]].concat();
    assert_eq!(editor.told(), all);
    daemon.idle(&id);
    assert_eq!(editor.run(&id, "say four"), "end_turn");
    assert_eq!(editor.told().last().unwrap(), "message four");
    editor.close();

    // Resumed, it is not told what it has seen.
    let mut editor = Editor::new(&daemon, &[]);
    let resumed = editor.ask("session/resume", json!({ "sessionId": id, "cwd": daemon.workdir() }));
    assert!(resumed["result"].is_object(), "{resumed}");
    assert_eq!(editor.run(&id, "say five"), "end_turn");
    assert_eq!(editor.told(), ["message five"]);
    // Opened anew on the same connection, all is told again, once.
    editor.seen.clear();
    editor.load(&daemon, &id);
    assert_eq!(editor.told().len(), all.len() + 4);
    assert_eq!(editor.run(&id, "say six"), "end_turn");
    assert_eq!(editor.told().len(), all.len() + 5);
}

#[test]
fn a_prompt_sent_with_the_last_breath_is_accepted_and_runs() {
    let daemon = kennel();
    let mut editor = Editor::new(&daemon, &["--agent", "plain"]);
    let id = editor.session(&daemon);
    editor.prompt(&id, "say goodbye");
    editor.close();
    daemon.idle(&id);
    let said = daemon
        .events()
        .into_iter()
        .any(|event| matches!(&event.kind, EventKind::MessageChunk { text, .. } if text == "goodbye"));
    assert!(said);
}

#[test]
fn kill_manager_mid_turn_is_survived() {
    let daemon = kennel();
    let mut editor = Editor::new(&daemon, &["--agent", "loads"]);
    let id = editor.session(&daemon);
    editor.run(&id, "say one");
    let prompt = editor.prompt(&id, "say two; sleep 500ms; say three");
    editor.hears_text("two");
    let old = daemon.pid();
    kill(old);
    until("the manager's death", || (!lives(old)).then_some(()));
    assert_eq!(editor.stopped(prompt), "end_turn");
    assert_eq!(editor.told(), ["message one", "message two", "message three"], "all is told, and once");
    assert_ne!(daemon.pid(), old, "it was started again");
    assert_eq!(editor.run(&id, "say four"), "end_turn");
    assert_eq!(editor.told().last().unwrap(), "message four");
}

#[test]
fn a_daemon_that_is_stopped_on_purpose_stays_so_until_it_is_needed() {
    let daemon = kennel();
    let mut editor = Editor::new(&daemon, &["--agent", "loads"]);
    let id = editor.session(&daemon);
    let prompt = editor.prompt(&id, "say two; sleep 60000ms");
    editor.hears_text("two");
    daemon.ok(&["daemon", "stop"]);
    let answer = editor.answer(prompt);
    assert!(answer["error"]["message"].as_str().unwrap().contains("daemon was stopped"), "{answer}");
    assert_eq!(editor.run(&id, "say three"), "end_turn");
    assert_eq!(editor.told().last().unwrap(), "message three");
}

#[test]
fn sessions_are_listed_by_directory_and_one_can_be_the_directorys_own() {
    let daemon = kennel();
    let mut editor = Editor::new(&daemon, &["--agent", "plain", "--workdir-session"]);
    let id = editor.session(&daemon);
    assert_eq!(id, daemon.ok(&["id", "--dir", "."]).trim());
    editor.run(&id, "say one");
    assert_eq!(editor.session(&daemon), id, "it is the same");
    daemon.ok(&["start", "--id", "other", "--dir", "/", "--title", "a title"]);
    let list = editor.ask("session/list", json!({}));
    let ids: Vec<&str> = list["result"]["sessions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|session| session["sessionId"].as_str().unwrap())
        .collect();
    assert_eq!(ids.len(), 2, "{list}");
    assert!(ids.contains(&id.as_str()) && ids.contains(&"other"), "{list}");
    let list = editor.ask("session/list", json!({ "cwd": "/" }));
    let sessions = list["result"]["sessions"].as_array().unwrap();
    assert_eq!(sessions.len(), 1, "{list}");
    assert_eq!((&sessions[0]["title"], &sessions[0]["cwd"]), (&json!("a title"), &json!("/")));
    assert!(sessions[0]["updatedAt"].as_str().unwrap().ends_with('Z'));
}

#[test]
fn what_cannot_be_done_is_said_clearly() {
    let daemon = kennel();
    let mut editor = Editor::new(&daemon, &["--agent", "leaves"]);
    for (method, params) in [
        ("session/load", json!({ "sessionId": "nope", "cwd": "/", "mcpServers": [] })),
        ("session/resume", json!({ "sessionId": "no/pe", "cwd": "/" })),
        ("session/prompt", json!({ "sessionId": "nope", "prompt": [{ "type": "text", "text": "x" }] })),
    ] {
        let answer = editor.ask(method, params);
        assert_eq!(answer["error"]["code"], -32002, "{answer}");
        assert_eq!(answer["error"]["data"]["code"], "no_such_session");
        assert!(answer["error"]["message"].as_str().unwrap().contains("pe`"), "{answer}");
    }
    let unknown = editor.ask("session/set_mode", json!({ "sessionId": "x", "modeId": "code" }));
    assert_eq!(unknown["error"]["code"], -32002);
    let unknown = editor.ask("moon/land", json!({}));
    assert_eq!(unknown["error"]["code"], -32601);
    let wrong = editor.ask("session/new", json!({ "mcpServers": [] }));
    assert_eq!(wrong["error"]["code"], -32602);
    let nowhere = editor.ask("session/new", json!({ "cwd": "/nowhere", "mcpServers": [] }));
    assert!(nowhere["error"]["message"].as_str().unwrap().contains("/nowhere"), "{nowhere}");
    let leaves = editor.ask("session/new", json!({ "cwd": daemon.workdir(), "mcpServers": [] }));
    assert!(leaves["error"]["message"].as_str().unwrap().contains("fail"), "{leaves}");
    editor.close();
}

#[test]
fn an_agent_without_the_protocol_is_shown_by_its_text() {
    let daemon = kennel();
    let mut editor = Editor::new(&daemon, &["--agent", "shell"]);
    let id = editor.session(&daemon);
    assert_eq!(editor.run(&id, "echo out; exit 3"), "end_turn");
    assert_eq!(editor.told(), ["message out", "message > kennel: exit status 3"]);
    assert_eq!(editor.run(&id, "echo err >&2"), "end_turn");
    assert_eq!(editor.told().last().unwrap(), "message err");
    // What others do in the session is shown as it happens, with what they asked.
    daemon.ok(&["send", &id, "echo elsewhere"]);
    editor.hears_text("elsewhere");
    assert_eq!(editor.told()[3..], ["user_message echo elsewhere", "message elsewhere"]);
    assert_eq!(editor.run(&id, "echo mine"), "end_turn");
    assert_eq!(editor.told().last().unwrap(), "message mine");
}

#[test]
fn a_turn_is_seen_in_every_editor_and_asks_only_the_one_it_belongs_to() {
    let daemon = kennel();
    let mut one = Editor::new(&daemon, &["--agent", "plain"]);
    let mut two = Editor::new(&daemon, &["--agent", "plain"]);
    let id = one.session(&daemon);
    two.load(&daemon, &id);
    let prompt = one.prompt(&id, "say before; ask t1; say after");
    let question = one.asked();
    two.hears_text("before");
    // Its own stop is about its own prompts.
    two.notify("session/cancel", json!({ "sessionId": id }));
    one.chooses(&question, "yes");
    assert_eq!(one.stopped(prompt), "end_turn");
    two.hears_text("after");
    assert_eq!(two.told()[0], "user_message say before; ask t1; say after");
    assert!(
        two.seen.iter().all(|message| message["method"] != "session/request_permission"),
        "{:?}",
        two.seen
    );
}

#[test]
fn sub_agents_within_an_agent_are_recorded_and_shown_to_editors_that_know_them() {
    let daemon = kennel();
    let mut plain = Editor::new(&daemon, &["--agent", "plain"]);
    let id = plain.session(&daemon);
    let mut knows = Editor::silent(&daemon, &["--agent", "plain"]);
    let able = json!({ "subagents": {} });
    knows.ask("initialize", json!({ "protocolVersion": 1, "clientCapabilities": able }));
    knows.load(&daemon, &id);
    assert_eq!(plain.run(&id, "child one; say after"), "end_turn");
    // An editor that did not say so is told nothing of them.
    assert_eq!(plain.told(), ["message after"]);
    knows.hears_text("after");
    let told: Vec<(&str, &Value)> = knows
        .seen
        .iter()
        .filter(|message| message["method"] == "session/update")
        .map(|message| (message["params"]["sessionId"].as_str().unwrap(), &message["params"]["update"]))
        .collect();
    let of =
        |session: &str| told.iter().filter(|(of, _)| *of == session).map(|(_, it)| *it).collect::<Vec<_>>();
    let (child, below) = (format!("{id}/one"), format!("{id}/one-2"));
    assert_eq!(of(&child)[0]["content"]["text"], "found it");
    assert_eq!(of(&child)[1]["sessionId"], json!(below));
    assert_eq!(of(&below)[0]["content"]["text"], "dug it up");
    assert_eq!(of(&id)[1]["sessionId"], json!(child));
    let children = daemon.show(&id).children;
    let words: Vec<_> = children
        .iter()
        .map(|it| (&*it.id, it.parent.as_deref(), it.title.as_deref(), it.state.as_deref()))
        .collect();
    assert_eq!(
        words,
        [
            ("one", None, Some("Explorer"), Some("idle")),
            ("one-2", Some("one"), Some("Digger"), Some("running")),
        ]
    );
    let shown = daemon.ok(&["show", &id]);
    assert!(shown.contains("Explorer (idle)") && shown.contains("Digger (running), of one"), "{shown}");
    assert!(daemon.ok(&["events", &id]).contains("sub-agent one: found it"));
    // What they say is not what the agent said.
    assert_eq!(daemon.ok(&["subagent", "result", &id]).trim(), "after");
}

#[test]
fn a_question_that_the_user_closes_is_answered() {
    let daemon = kennel();
    let mut editor = Editor::new(&daemon, &["--agent", "plain"]);
    let id = editor.session(&daemon);
    let prompt = editor.prompt(&id, "ask t1; say after");
    let question = editor.asked();
    let closed = json!({ "outcome": { "outcome": "cancelled" } });
    editor.send(&json!({ "jsonrpc": "2.0", "id": question["id"], "result": closed }));
    assert_eq!(editor.stopped(prompt), "end_turn");
    assert_eq!(editor.told(), ["message answered no", "message after"]);
}

#[test]
fn one_bad_server_of_an_editor_costs_no_other() {
    let daemon = kennel();
    let mut editor = Editor::new(&daemon, &["--agent", "loads"]);
    let server =
        |name: &str, command: &str| json!({ "name": name, "command": command, "args": [], "env": [] });
    let servers = json!([
        server("bad", "/no/such/program"),
        server("good", "/bin/true"),
        server("bad", "/bin/cat"),
        server("\u{1}", "/bin/true"),
        server("last", "/bin/cat"),
    ]);
    let answer = editor.ask("session/new", json!({ "cwd": daemon.workdir(), "mcpServers": servers }));
    let id = answer["result"]["sessionId"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned();
    assert_eq!(editor.run(&id, "servers"), "end_turn");
    let told = editor.told().join("\n");
    assert!(told.contains("message servers [good last kennel]"), "{told}");
    assert!(told.contains("not given these MCP servers of the editor: bad"), "{told}");
    // The same where the session exists already.
    let params = json!({ "sessionId": id, "cwd": daemon.workdir(), "mcpServers": [
        server("worse", "/no/such/program"), server("more", "/bin/true") ] });
    editor.ask("session/load", params);
    editor.hears_text("given these MCP servers of the editor: more");
    editor.hears_text("not given these MCP servers of the editor: worse");
}

#[test]
fn a_session_that_could_not_begin_leaves_nothing() {
    let daemon = kennel();
    let mut editor = Editor::new(&daemon, &["--agent", "leaves"]);
    for _ in 0..2 {
        let answer = editor.ask("session/new", json!({ "cwd": daemon.workdir(), "mcpServers": [] }));
        assert!(answer["error"]["message"].as_str().unwrap().contains("removed again"), "{answer}");
    }
    assert_eq!(daemon.json::<Vec<SessionInfo>>(&["ls", "--all"]), []);
}

#[test]
fn a_session_that_is_closed_has_no_process_and_can_be_opened_again() {
    let daemon = kennel();
    let mut editor = Editor::new(&daemon, &["--agent", "loads"]);
    let id = editor.session(&daemon);
    assert_eq!(editor.run(&id, "say one"), "end_turn");
    let prompt = editor.prompt(&id, "say begun; sleep 60000ms");
    editor.hears_text("begun");
    let agent = until("its agent", || daemon.show(&id).agent_pid);
    assert_eq!(editor.ask("session/close", json!({ "sessionId": id }))["result"], json!({}));
    assert_eq!(editor.stopped(prompt), "cancelled");
    assert_eq!(daemon.show(&id).status, Status::Stopped);
    until("its agent is gone", || (!lives(agent)).then_some(()));
    editor.load(&daemon, &id);
    assert_eq!(editor.run(&id, "say two"), "end_turn");
    // Nobody's work is ended by it but the editor's own.
    daemon.ok(&["send", "--no-wait", &id, "say theirs; sleep 60000ms"]);
    editor.hears_text("theirs");
    assert_eq!(editor.ask("session/close", json!({ "sessionId": id }))["result"], json!({}));
    assert_eq!(daemon.show(&id).status, Status::Running);
    assert_eq!(editor.ask("session/delete", json!({ "sessionId": id }))["result"], json!({}));
    assert_eq!(daemon.json::<Vec<SessionInfo>>(&["ls", "--all"]), []);
    let gone = editor.ask("session/delete", json!({ "sessionId": id }));
    assert_eq!(gone["error"]["code"], -32002, "{gone}");
}

#[test]
fn what_an_agent_is_can_be_asked_without_a_session_that_stays() {
    let daemon = kennel();
    // Whoever never had a session with it is told nothing that is not known.
    let plain = agent(&daemon, &["agents", "ls"], "plain");
    assert_eq!(plain.details, None);
    let loads = agent(&daemon, &["agents", "ls", "plain", "loads", "--probe"], "loads").details.unwrap();
    assert_eq!((loads.version.as_deref(), loads.load, loads.resume), (Some("0.1.7-fixture"), true, false));
    // It left before it said what it is.
    let said = daemon.run(&["agents", "ls", "leaves", "--probe"]);
    assert_eq!(said.code, Some(0));
    assert!(said.stderr.contains("leaves: "), "{}", said.stderr);
    assert_eq!(daemon.run(&["agents", "ls", "nobody"]).code, Some(2));
    assert!(daemon.json::<Vec<SessionInfo>>(&["ls"]).is_empty(), "the sessions were removed");

    daemon.ok(&["start", "--id", "s", "--agent", "loads"]);
    assert_eq!(daemon.idle("s").agent_details, Some(loads.clone()));
    assert_eq!(agent(&daemon, &["agents", "ls"], "loads").details, Some(loads));
    assert!(
        daemon.ok(&["show", "s"]).contains("acp-agent 0.1.7-fixture; ways to restore a conversation: load")
    );
}

fn agent(daemon: &Daemon, args: &[&str], name: &str) -> AgentInfo {
    let agents: Vec<AgentInfo> = daemon.json(args);
    agents.into_iter().find(|agent| agent.name == name).unwrap()
}

#[test]
fn modes_and_options_go_through_to_the_agent_and_everybody_is_told() {
    let daemon = kennel();
    let mut editor = Editor::new(&daemon, &["--agent", "plain"]);
    let new = editor.ask("session/new", json!({ "cwd": daemon.workdir(), "mcpServers": [] }));
    let id = new["result"]["sessionId"].as_str().unwrap().to_owned();
    assert_eq!(new["result"]["configOptions"][0]["currentValue"], "low", "{new}");
    let mode = |mode: &str| json!({ "sessionId": id, "modeId": mode });
    let option = |value: &str| json!({ "sessionId": id, "configId": "effort", "value": value });
    assert_eq!(editor.ask("session/set_mode", mode("code"))["result"], json!({}));
    let set = editor.ask("session/set_config_option", option("high"));
    assert_eq!(set["result"]["configOptions"][0]["currentValue"], "high", "{set}");
    for answer in [
        editor.ask("session/set_mode", mode("none")),
        editor.ask("session/set_config_option", option("none")),
        editor.ask(
            "session/set_config_option",
            json!({ "sessionId": id, "configId": "effort", "value": true }),
        ),
    ] {
        assert!(answer["error"]["message"].is_string(), "{answer}");
    }
    // One that has not said that it knows switches is not shown any.
    assert_eq!(set["result"]["configOptions"].as_array().unwrap().len(), 1, "{set}");
    let switch = json!({ "sessionId": id, "configId": "brief", "type": "boolean", "value": true });
    let set = editor.ask("session/set_config_option", switch);
    assert_eq!(set["result"]["configOptions"].as_array().unwrap().len(), 1, "{set}");
    let mut knows = Editor::silent(&daemon, &["--agent", "plain"]);
    let able = json!({ "session": { "configOptions": { "boolean": {} } } });
    knows.ask("initialize", json!({ "protocolVersion": 1, "clientCapabilities": able }));
    let new = knows.ask("session/new", json!({ "cwd": daemon.workdir(), "mcpServers": [] }));
    assert_eq!(new["result"]["configOptions"][1]["currentValue"], false, "{new}");
    knows.close();
    // What somebody else sets is told, and the agent does as it is set.
    daemon.ok(&["set", &id, "mode=ask"]);
    editor.hears("the mode", |message| message["params"]["update"]["currentModeId"] == "ask");
    assert_eq!(editor.run(&id, "settings"), "end_turn");
    editor.hears("what is set", |message| {
        message["params"]["update"]["content"]["text"] == "mode ask effort high brief true"
    });
    let listed = daemon.ok(&["set", &id]);
    assert!(listed.contains("effort") && listed.contains("low, high"), "{listed}");
    assert!(listed.contains("brief") && listed.contains("true, false"), "{listed}");
    assert_eq!(daemon.run(&["set", &id, "mode=none"]).code, Some(7));
    assert_eq!(daemon.run(&["set", &id, "mode"]).code, Some(2));
    editor.close();
}

#[test]
fn a_system_prompt_of_an_editor_goes_through_to_the_agent() {
    let daemon = kennel();
    let mut editor = Editor::new(&daemon, &["--agent", "plain"]);
    let prompt = json!({ "systemPrompt": { "append": "be brief" } });
    let new =
        editor.ask("session/new", json!({ "cwd": daemon.workdir(), "mcpServers": [], "_meta": prompt }));
    let id = new["result"]["sessionId"].as_str().unwrap().to_owned();
    assert_eq!(editor.run(&id, "system"), "end_turn");
    editor.hears_text(r#"[null,{"append":"be brief"}]"#);
    let bad = json!({ "cwd": daemon.workdir(), "mcpServers": [], "systemPrompt": { "mode": "whisper" } });
    assert_eq!(editor.ask("session/new", bad)["error"]["code"], -32602);
    editor.close();
}
