//! An agent that speaks the Agent Client Protocol and does exactly what its prompt asks for, including every
//! kind of misbehaviour.
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

/// Options:
///
/// - `--load`, `--resume`: it supports that. `--forgets`: it refuses to load. `--memory DIR`: its
///   conversations, one file each.
/// - `--image`, `--audio`, `--files`: it takes these in prompts.
/// - `--login`: it needs a log-in by the method `key`. `--login-url URL`: it prints that, and needs the
///   log-in once the file `--login-seen` exists.
/// - `--dies-loading`, `--early-exit`: it exits then. `--hangs-resuming`, `--hangs-loading`: it never answers
///   that.
/// - `--system-prompt`: it takes one. `--own-prompt`: it takes one only beside its own.
/// - `--two-modes`: its mode is an option, too. `--one-form`: the same, but it reports a change as a mode
///   only. `--stubborn`: it accepts a mode, and stays in its own. `--models`: it offers two.
/// - `--http`, `--sse`: it reaches MCP servers that way. `--no-stdio`: it takes no MCP server that is a
///   program.
/// - `--closes`: it closes the inherited descriptors except 0, 1 and 2. `--mute`: it reads nothing, and
///   writes to standard error only.
/// - `--other-version`. `--log FILE`: the methods of its requests, one a line.
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
    /// The lock of standard input: one thread reads at a time.
    reads: Arc<Mutex<()>>,
    later: VecDeque<Value>,
    can_load: bool,
    can_resume: bool,
    takes: Value,
    /// Blocks of the prompt beside its text.
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
    /// The text that it sends, or the permission that it requests, after the end of its turn.
    late: Option<String>,
    late_ask: Option<String>,
    /// The client has options that are true or false.
    knows_switches: bool,
    /// The client's abilities with files, as the client has declared them.
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

/// The end of a turn.
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
