//! The clients: editors made of the official SDKs, with `kennel acp` as their agent and a real agent behind
//! it.
//!
//! The programs in `tests/real` only pass lines between this harness and the SDK: `{"do": …}` to them, and
//! the SDK's messages back.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use harness::history;
use harness::real::{BOUND, kennel, kill, parent, until};
use manager::protocol::Sandbox;
use manager::protocol::api::Status;
use serde_json::{Value, json};

use crate::Step;
use crate::agents::{Agent, Housed, Installed};
use crate::model::Model;
use crate::session::Session;

/// The longest time for `kennel acp` to exit once its input has ended.
const LEAVES: Duration = Duration::from_secs(2);

/// A client that is installed.
pub struct Client {
    /// Its name.
    pub name: &'static str,
    interpreter: PathBuf,
    program: PathBuf,
    through: Option<PathBuf>,
}

/// All of them; each starts its `kennel acp` through that program, if there is one.
pub fn all(installed: &Path, through: Option<&Path>) -> Vec<Client> {
    let client = |name, interpreter: &Path| Client {
        name,
        interpreter: interpreter.to_owned(),
        program: installed.join(name),
        through: through.map(Path::to_owned),
    };
    vec![client("client.mjs", Path::new("node")), client("client.py", &installed.join("venv/bin/python"))]
}

/// Puts a client through everything.
pub fn trial(client: &Client, agent: &Agent, installed: &Installed, model: &Model) {
    let step = |what: &str| Step::new(client.name, what);
    let housed = agent.housed(installed, model, Sandbox::None);
    let daemon = &housed.daemon;

    let doing = step("initialize, session/new");
    let mut editor = Editor::start(client, agent, &housed);
    editor.send(json!({ "do": "new", "cwd": housed.work }));
    let id = editor.wait_for("session").as_str().unwrap().to_owned();
    let session = Session::new(&housed, &id);
    assert_eq!(daemon.show(&id).agent, agent.name);
    drop(doing);

    let doing = step("prompt");
    editor.prompt(&id, "SAY hello");
    assert_eq!(editor.wait_for("stopped"), "end_turn");
    assert!(editor.output.ends_with("hello"), "{:?}", editor.output);
    drop(doing);

    let doing = step("tool call with permission");
    editor.prompt(&id, "TOOL echo by-a-tool > tool-file");
    editor.wait_for("question");
    let file = housed.work.join("tool-file");
    assert!(!file.exists(), "the tool was used before it was allowed");
    editor.send(json!({ "do": "allow" }));
    assert_eq!(editor.wait_for("stopped"), "end_turn");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "by-a-tool\n");
    drop(doing);

    let doing = step("cancel");
    editor.prompt(&id, "SLOW 2000 50");
    editor.wait_for_text("w3");
    editor.send(json!({ "do": "cancel", "session": id }));
    assert_eq!(editor.wait_for("stopped"), "cancelled");
    drop(doing);

    let doing = step("kill -9 of the worker mid-turn is a message, and the conversation is remembered");
    editor.prompt(&id, "SLOW 2000 50");
    editor.wait_for_text("w3");
    kill(daemon.show(&id).pid.unwrap());
    assert_eq!(editor.wait_for("stopped"), "end_turn");
    for part in ["> kennel: the agent crashed in this turn", "was restored to the level `"] {
        assert!(editor.output.contains(part), "not told: {part:?}, but: {:?}", editor.output);
    }
    editor.prompt(&id, "RECALL");
    assert_eq!(editor.wait_for("stopped"), "end_turn");
    assert!(editor.output.contains("[SAY hello]"), "{:?}", editor.output);
    drop(doing);

    let editor = survives_the_editor(client, agent, &housed, &id, editor);
    ends_with_its_input(client, agent, &housed, &id, editor);

    let doing = step("the history holds, and `daemon stop` leaves nothing");
    let violations = history::of(&daemon.events());
    assert!(violations.is_empty(), "{violations:#?}");
    let uuid = session.uuid();
    daemon.ok(&["daemon", "stop"]);
    session.nothing_left(&uuid);
    drop(doing);
}

/// Kills `kennel acp` in a turn; a new editor loads the session and receives what the first one missed.
fn survives_the_editor(
    client: &Client,
    agent: &Agent,
    housed: &Housed,
    id: &str,
    mut editor: Editor,
) -> Editor {
    let daemon = &housed.daemon;
    let doing =
        Step::new(client.name, "kill -9 of `kennel acp` mid-turn, and session/load shows what was missed");
    editor.prompt(id, "SLOW 40 50");
    editor.wait_for_text("w3");
    let worker = daemon.show(id).pid;
    kill(editor.pid);
    editor.wait_for("left");
    drop(editor);
    let text: String = (0..40).map(|n| format!("w{n} ")).collect();
    assert_eq!((daemon.show(id).status, daemon.show(id).pid), (Status::Running, worker), "the turn goes on");
    let mut editor = Editor::start(client, agent, housed);
    editor.load(id, housed);
    editor.wait_for_text("w39");
    daemon.idle(id);
    assert!(editor.output.ends_with(&text), "not {text:?} once at the end of {:?}", editor.output);
    let first = ["SAY hello", "TOOL echo by-a-tool > tool-file"];
    assert!(editor.users.iter().take(2).eq(&first), "not {first:?} at the beginning of {:?}", editor.users);
    assert_eq!(editor.users.last().unwrap(), "SLOW 40 50");
    drop(doing);
    editor
}

/// Closes the input of `kennel acp` in a turn: `kennel acp` leaves in time, and the turn goes on.
fn ends_with_its_input(client: &Client, agent: &Agent, housed: &Housed, id: &str, mut editor: Editor) {
    let daemon = &housed.daemon;
    let doing = Step::new(client.name, "the end of its input ends `kennel acp` within 2 s, and nothing else");
    editor.prompt(id, "SLOW 80 50");
    editor.wait_for_text("w3");
    let worker = daemon.show(id).pid;
    let ended = Instant::now();
    editor.stdin = None;
    assert_eq!(editor.wait_for("left"), 0);
    let took = ended.elapsed();
    assert!(took < LEAVES, "it took {took:?}");
    drop(editor);
    assert_eq!((daemon.show(id).status, daemon.show(id).pid), (Status::Running, worker), "the turn goes on");
    daemon.idle(id);
    let mut editor = Editor::start(client, agent, housed);
    editor.load(id, housed);
    let text: String = (0..80).map(|n| format!("w{n} ")).collect();
    assert!(editor.output.ends_with(&text), "not {text:?} at the end of {:?}", editor.output);
    editor.prompt(id, "SAY goodbye");
    assert_eq!(editor.wait_for("stopped"), "end_turn");
    drop(editor);
    drop(doing);
}

/// A client that runs, with `kennel acp` below it.
struct Editor {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<Value>,
    /// Its `kennel acp`.
    pid: u32,
    /// The agent's text since the last prompt, or since the load.
    output: String,
    /// The users' texts that the client received.
    users: Vec<String>,
}

impl Editor {
    fn start(client: &Client, agent: &Agent, housed: &Housed) -> Self {
        // The environment is that of a `kennel` command, and so is the daemon that it reaches.
        let kennels = housed.daemon.command(&[]);
        let mut command = Command::new(&client.interpreter);
        command.arg(&client.program).args(&client.through).arg(kennel()).args(["acp", "--agent", agent.name]);
        command.current_dir(&housed.work);
        for (name, value) in kennels.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let received = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
                if sender.send(received).is_err() {
                    return;
                }
            }
        });
        let stdin = child.stdin.take();
        let mut editor = Self { child, stdin, lines, pid: 0, output: String::new(), users: Vec::new() };
        editor.pid = editor.wait_for("pid").as_u64().and_then(|pid| pid.try_into().ok()).unwrap();
        editor
    }

    fn send(&mut self, order: Value) {
        writeln!(self.stdin.as_mut().unwrap(), "{order}").unwrap();
    }

    fn prompt(&mut self, session: &str, text: &str) {
        self.output.clear();
        self.send(json!({ "do": "prompt", "session": session, "text": text }));
    }

    fn load(&mut self, session: &str, housed: &Housed) {
        self.send(json!({ "do": "load", "session": session, "cwd": housed.work }));
        self.wait_for("loaded");
    }

    /// Reads one line, and keeps its content.
    fn read(&mut self, what: &str) -> Value {
        let received = self.lines.recv_timeout(BOUND);
        let received =
            received.unwrap_or_else(|error| panic!("{what}: {error}; said so far: {:?}", self.output));
        let update = &received["update"];
        let text = update["content"]["text"].as_str().unwrap_or_default();
        match update["sessionUpdate"].as_str() {
            Some("agent_message_chunk") => self.output.push_str(text),
            Some("user_message_chunk") => self.users.push(text.trim().to_owned()),
            _ => {}
        }
        received
    }

    /// Reads until this message arrives, and returns it. Panics on an error message, unless the caller waits
    /// for one.
    fn wait_for(&mut self, what: &str) -> Value {
        loop {
            let received = self.read(what);
            if let Some(value) = received.get(what) {
                return value.clone();
            }
            assert!(received["error"].is_null() || what == "left", "{received} instead of `{what}`");
        }
    }

    /// Reads until the agent has sent this text.
    fn wait_for_text(&mut self, text: &str) {
        while !self.output.contains(text) {
            self.read(text);
        }
    }
}

impl Drop for Editor {
    fn drop(&mut self) {
        drop(self.stdin.take());
        if std::thread::panicking() {
            // Both may have ended.
            if parent(self.pid) == Some(self.child.id()) {
                kill(self.pid);
            }
            let _ = self.child.kill();
        }
        until("the end of the client", || self.child.try_wait().unwrap());
    }
}
