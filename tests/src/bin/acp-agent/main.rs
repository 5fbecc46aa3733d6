//! An agent that speaks the Agent Client Protocol and does exactly what its prompt says, however badly an agent can
//! behave.
//!
//! `main` lists its options, `steps.rs` the steps of a script.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a fixture fails by panicking")]

mod asks;
mod requests;
mod steps;
mod wire;

use std::collections::VecDeque;
use std::io::BufRead;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use wire::{notify, text_block};

/// Options: `--load` and `--resume` (it can), `--image`, `--audio` and `--files` (it takes them in prompts), `--memory DIR` (where it keeps its conversations, one file each),
/// `--login` (it wants a log-in by the method `key`), `--forgets` (it refuses to load), `--dies-loading`, `--early-exit`,
/// `--hangs-resuming` and `--hangs-loading` (it never answers that),
/// `--login-url URL` (it prints that, and then asks for the log-in once there is the file `--login-seen`),
/// `--system-prompt` (it takes one), `--own-prompt` (it takes one beside its own only),
/// `--two-modes` (its mode is an option, too), `--one-form` (so, and it tells of a change as a mode only), `--stubborn` (it
/// agrees to a mode, and stays in its own), `--models` (it has a choice of two),
/// `--http` and `--sse` (it reaches MCP servers so), `--no-stdio` (it takes none that is a program), `--closes` (it closes what it has inherited beside 0, 1 and 2),
/// `--mute` (it reads nothing, and writes to standard error only), `--other-version`, `--log FILE` (methods that it was asked for, one a line).
fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args == ["--child"] {
        return std::thread::park_timeout(Duration::from_secs(120));
    }
    let has = |name: &str| args.iter().any(|arg| arg == name);
    let value = |name: &str| {
        let at = args.iter().position(|arg| arg == name)?;
        args.get(at + 1).map(PathBuf::from)
    };
    if has("--mute") {
        eprintln!("thinking");
        return std::thread::park_timeout(Duration::from_secs(120));
    }
    if has("--early-exit") {
        eprintln!("no, thanks");
        std::process::exit(3);
    }
    if has("--closes") {
        (3..256).for_each(|fd| _ = nix::unistd::close(fd));
    }
    let (lines, reads) = read_lines();
    let mut agent = Agent {
        lines,
        reads,
        later: VecDeque::new(),
        can_load: has("--load"),
        can_resume: has("--resume"),
        takes: json!({ "image": has("--image"), "audio": has("--audio"), "embeddedContext": has("--files") }),
        attached: Vec::new(),
        forgets: has("--forgets"),
        dies_loading: has("--dies-loading"),
        hangs_resuming: has("--hangs-resuming"),
        hangs_loading: has("--hangs-loading"),
        http: has("--http"),
        sse: has("--sse"),
        no_programs: has("--no-stdio"),
        version: if has("--other-version") { 7 } else { 1 },
        logged_in: !has("--login"),
        memory: value("--memory"),
        log: value("--log"),
        session: String::new(),
        prompt: Value::Null,
        servers: Vec::new(),
        prompts: Vec::new(),
        next: 1000,
        cancelled: false,
        deaf: false,
        mode: "ask".into(),
        effort: "low".into(),
        brief: false,
        late: None,
        late_ask: None,
        knows_switches: false,
        client_files: Value::Null,
        takes_prompt: match (has("--system-prompt"), has("--own-prompt")) {
            (true, _) => Some(json!({ "mode": { "override": {} } })),
            (false, true) => Some(json!({})),
            (false, false) => None,
        },
        system: Value::Null,
        login_url: value("--login-url").map(|url| url.display().to_string()),
        login_seen: value("--login-seen"),
        two_modes: has("--two-modes") || has("--one-form"),
        one_form: has("--one-form"),
        stubborn: has("--stubborn"),
        models: has("--models"),
        model: "small".into(),
    };
    while let Some(message) = agent.next_message() {
        agent.handle(message);
    }
}

/// Read messages in a thread of their own, unless somebody holds the lock.
fn read_lines() -> (Receiver<Value>, Arc<Mutex<()>>) {
    let (sender, lines) = channel();
    let reads = Arc::new(Mutex::new(()));
    let may_read = reads.clone();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            drop(may_read.lock().unwrap());
            let message: Value = serde_json::from_str(&line.unwrap()).unwrap();
            if sender.send(message).is_err() {
                return;
            }
        }
    });
    (lines, reads)
}

struct Agent {
    lines: Receiver<Value>,
    /// Whoever has it keeps standard input from being read.
    reads: Arc<Mutex<()>>,
    later: VecDeque<Value>,
    can_load: bool,
    can_resume: bool,
    takes: Value,
    /// What came with the prompt.
    attached: Vec<Value>,
    forgets: bool,
    dies_loading: bool,
    hangs_resuming: bool,
    hangs_loading: bool,
    http: bool,
    sse: bool,
    no_programs: bool,
    version: u32,
    logged_in: bool,
    memory: Option<PathBuf>,
    log: Option<PathBuf>,
    session: String,
    /// The id of the request whose turn runs.
    prompt: Value,
    servers: Vec<Value>,
    prompts: Vec<String>,
    next: u64,
    cancelled: bool,
    deaf: bool,
    mode: String,
    effort: String,
    brief: bool,
    /// What it says, and what it wants to be allowed, after the end of its turn.
    late: Option<String>,
    late_ask: Option<String>,
    /// The client has options that are true or false.
    knows_switches: bool,
    /// What the client has said of its files.
    client_files: Value,
    takes_prompt: Option<Value>,
    system: Value,
    login_url: Option<String>,
    login_seen: Option<PathBuf>,
    two_modes: bool,
    one_form: bool,
    stubborn: bool,
    models: bool,
    model: String,
}

/// How a turn ends.
enum End {
    Stop(String),
    Fail(String),
}

impl Agent {
    fn next_message(&mut self) -> Option<Value> {
        self.later.pop_front().or_else(|| self.lines.recv().ok())
    }

    fn say(&self, text: &str) {
        self.update(json!({ "sessionUpdate": "agent_message_chunk", "content": text_block(text) }));
    }

    fn say_answer(&self, result: &Value, answer: &Value) {
        match answer["error"]["message"].as_str() {
            Some(why) => self.say(&format!("refused: {why}")),
            None => self.say(result.as_str().unwrap_or_default()),
        }
    }

    fn update(&self, update: Value) {
        notify("session/update", json!({ "sessionId": self.session, "update": update }));
    }
}

fn duration(text: &str) -> Duration {
    humantime::parse_duration(text).unwrap()
}
