//! Many bytes of one session: how fast they pass, and what the other sessions notice of them.

#![allow(clippy::disallowed_methods, reason = "the floor of a pipe is what a program writes to it")]

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use protocol::frame::{self, Decoder};
use protocol::wire::{Envelope, FromWorker, Report, Update};
use protocol::{PromptId, SessionId};

use crate::host::{Host, Wire, request};
use crate::table::{Aim, Table, quantile};
use crate::{ms, us};

/// What is said in one turn, in bytes.
const SAID: usize = 40 << 20;
/// How often that is measured.
const TIMES: usize = 10;
/// Sizes of messages, in bytes.
const SIZES: [usize; 5] = [1 << 10, 64 << 10, 280 << 10, 1 << 20, 7 << 20];
/// Rounds of what others notice, and prompts of another session in each.
const ROUNDS: usize = 3;
const PROMPTS: usize = 200;
/// Pieces of a long turn.
const PIECES: i64 = 1_000_000;
const ASKS: usize = 40;
const ASKED: usize = 7 << 20;

fn line(value: &serde_json::Value) {
    let mut out = std::io::stdout().lock();
    if out.write_all(format!("{value}\n").as_bytes()).and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

/// The agent that is measured with, which speaks ACP. Prompts: `say COUNT BYTES` sends so many messages of that size,
/// `ask COUNT BYTES` asks for so many permissions with a title of that size at once and waits for none.
pub fn agent() {
    for text in std::io::stdin().lock().lines().map_while(Result::ok) {
        let message: serde_json::Value = serde_json::from_str(&text).unwrap();
        let result = match message["method"].as_str().unwrap_or_default() {
            "initialize" => serde_json::json!({ "protocolVersion": 1, "agentCapabilities": {} }),
            "session/new" => serde_json::json!({ "sessionId": "bulk" }),
            "session/prompt" => {
                let prompt = message["params"]["prompt"][0]["text"].as_str().unwrap_or_default();
                let words: Vec<&str> = prompt.split(' ').collect();
                let [what, count, bytes] = words[..] else { panic!("{prompt}") };
                let text = "x".repeat(bytes.parse().unwrap());
                for id in 0..count.parse::<usize>().unwrap() {
                    line(&if what == "say" { message_of(&text) } else { question(id, &text) });
                }
                serde_json::json!({ "stopReason": "end_turn" })
            }
            _ => continue,
        };
        line(&serde_json::json!({ "jsonrpc": "2.0", "id": message["id"], "result": result }));
    }
}

fn update_of(text: &str) -> serde_json::Value {
    serde_json::json!({ "sessionUpdate": "agent_message_chunk", "content": { "type": "text", "text": text } })
}

fn message_of(text: &str) -> serde_json::Value {
    let params = serde_json::json!({ "sessionId": "bulk", "update": update_of(text) });
    serde_json::json!({ "jsonrpc": "2.0", "method": "session/update", "params": params })
}

fn question(id: usize, title: &str) -> serde_json::Value {
    let call = serde_json::json!({ "toolCallId": format!("call-{id}"), "title": title });
    let options = serde_json::json!([{ "optionId": "yes", "name": "Yes", "kind": "allow_once" }]);
    let params = serde_json::json!({ "sessionId": "bulk", "toolCall": call, "options": options });
    serde_json::json!({ "jsonrpc": "2.0", "id": 1_000 + id, "method": "session/request_permission", "params": params })
}

/// Between agent and floor: a process that asks the agent to say so much, reads each line of its answer as JSON, and writes the
/// frame that a worker would send for it.
pub fn relay(args: &[String]) {
    let [count, size] = args else { panic!("--relay COUNT BYTES") };
    let mut agent = Command::new(std::env::current_exe().unwrap())
        .arg("--bulk-agent")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let prompt = serde_json::json!([{ "type": "text", "text": format!("say {count} {size}") }]);
    let request = serde_json::json!({ "id": 1, "method": "session/prompt", "params": { "prompt": prompt } });
    agent.stdin.take().unwrap().write_all(format!("{request}\n").as_bytes()).unwrap();
    let mut out = std::io::stdout().lock();
    for (seq, text) in BufReader::new(agent.stdout.take().unwrap()).lines().enumerate() {
        let message: serde_json::Value = serde_json::from_str(&text.unwrap()).unwrap();
        let update = &message["params"]["update"];
        let Some(text) = update["content"]["text"].as_str() else { continue };
        let body = Report::Update {
            prompt: Some(PromptId(1)),
            update: Update::Message { text: text.into() },
            payload: update.to_string(),
        };
        let mut bytes = Vec::new();
        frame::encode(&Envelope { incarnation: 1, seq: seq as u64, ack: 0, body }, &mut bytes).unwrap();
        out.write_all(&bytes).unwrap();
    }
    agent.wait().unwrap();
}

/// The floor: the same agent, the same two pipes, and what is in the frames kept, whenever nothing more is in the pipe, in one
/// synced commit.
fn through_pipes(dir: &Path, count: usize, size: usize) -> f64 {
    let file = dir.join("floor.db");
    let mut journal = rusqlite::Connection::open(&file).unwrap();
    journal.pragma_update(None, "journal_mode", "WAL").unwrap();
    journal.pragma_update(None, "synchronous", "FULL").unwrap();
    journal.execute("CREATE TABLE IF NOT EXISTS events (id INTEGER PRIMARY KEY, json TEXT)", []).unwrap();
    let begin = Instant::now();
    let mut relay = Command::new(std::env::current_exe().unwrap())
        .args(["--relay", &count.to_string(), &size.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = relay.stdout.take().unwrap();
    let (mut decoder, mut buffer, mut seen) = (Decoder::default(), vec![0; 64 * 1024], 0);
    let mut more = true;
    while more {
        let commit = journal.transaction().unwrap();
        let mut kept = 0;
        {
            let mut insert = commit.prepare_cached("INSERT INTO events (json) VALUES (?1)").unwrap();
            loop {
                let read = out.read(&mut buffer).unwrap();
                more = read > 0;
                decoder.feed(&buffer[..read]);
                while let Some(frame) = decoder.take::<FromWorker>().unwrap() {
                    let Report::Update { update: Update::Message { text }, payload, .. } = frame.body else {
                        panic!("another report")
                    };
                    let text = serde_json::to_string(&text).unwrap();
                    insert.execute([format!("{{\"text\":{text},\"acp\":{payload}}}")]).unwrap();
                    kept += 1;
                }
                if !more || kept > 0 && rustix::io::ioctl_fionread(&out).unwrap() == 0 {
                    break;
                }
            }
        }
        commit.commit().unwrap();
        seen += kept;
    }
    relay.wait().unwrap();
    assert_eq!(seen, count);
    let taken = ms(begin.elapsed());
    drop(journal);
    std::fs::remove_file(file).unwrap();
    taken
}

async fn host() -> Host {
    let host = Host::start().await;
    let exe = std::env::current_exe().unwrap();
    let config = format!(
        "[agents.bulk]\nkind = \"acp\"\ncommand = [\"{}\", \"--bulk-agent\"]\npermissions = \"park\"\n\n\
         [agents.told]\nkind = \"command\"\ncontext = \"transcript\"\ncommand = [\"cat\"]\n",
        exe.display()
    );
    std::fs::write(host.dir.path().join("config.toml"), config).unwrap();
    host
}

async fn session(host: &Host, wire: &mut Wire, id: &str, agent: &str) -> SessionId {
    let dir = host.dir.path().display();
    let body = format!(r#"{{"agent":"{agent}","workdir":"{dir}","hibernate_after_ms":0}}"#);
    wire.done(&request("PUT", &format!("/v1/sessions/{id}"), &body)).await;
    wire.done(&request("GET", &format!("/v1/sessions/{id}/wait?until=ready&timeout_ms=60000"), "")).await;
    id.parse().unwrap()
}

/// A prompt, and its turn to its end; in milliseconds.
async fn turn(host: &Host, wire: &mut Wire, id: &SessionId, text: &str) -> f64 {
    let mut tap = host.tap_at(&format!("/v1/sessions/{id}/events")).await;
    let body = serde_json::json!({ "text": text }).to_string();
    let begin = Instant::now();
    wire.done(&request("POST", &format!("/v1/sessions/{id}/prompts"), &body)).await;
    tap.until(|kind, _| kind == b"turn.completed").await;
    ms(begin.elapsed())
}

/// 40 MB through a turn.
pub async fn link(table: &mut Table) {
    eprintln!("link");
    let host = host().await;
    let mut wire = host.wire().await;
    let id = session(&host, &mut wire, "large", "bulk").await;
    for size in SIZES {
        let count = SAID / size;
        let (mut ours, mut floor) = (Vec::new(), Vec::new());
        for _ in 0..TIMES {
            ours.push(turn(&host, &mut wire, &id, &format!("say {count} {size}")).await);
            floor.push(through_pipes(host.dir.path(), count, size));
        }
        let each: Vec<String> = ours.iter().map(|ms| format!("{ms:.0}")).collect();
        eprintln!("messages of {} KiB, each: {} ms", size >> 10, each.join(" "));
        let name = format!(
            "40 MB through a turn, messages of {} KiB; floor: the same through two pipes into a file",
            size >> 10
        );
        table.against(&name, "ms", &ours, &floor, Aim::Ratio(1.2));
    }
    host.end().await;
}

/// The p99 of prompts of another session, from the request to the end of the turn, in microseconds.
async fn others(host: &Host, wire: &mut Wire, other: &SessionId) -> f64 {
    let mut tap = host.tap_at(&format!("/v1/sessions/{other}/events")).await;
    let body = serde_json::json!({ "text": "true" }).to_string();
    let post = request("POST", &format!("/v1/sessions/{other}/prompts"), &body);
    let mut times = Vec::new();
    for _ in 0..PROMPTS {
        let begin = Instant::now();
        wire.done(&post).await;
        tap.until(|kind, _| kind == b"turn.completed").await;
        times.push(us(begin.elapsed()));
    }
    quantile(&times, 0.99)
}

/// Computes until it is killed.
pub fn spin() {
    loop {
        std::hint::black_box(0);
    }
}

/// As many processes that compute and have nothing to do with kennel as there are processors.
struct Busy(Vec<Child>);

impl Busy {
    fn start() -> Self {
        let program = std::env::current_exe().unwrap();
        let many = std::thread::available_parallelism().unwrap().get();
        Self((0..many).map(|_| Command::new(&program).arg("--spin").spawn().unwrap()).collect())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        for process in &mut self.0 {
            // It is ours and was not waited for, so its number is nobody else's.
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }
}

/// What [`others`] notice of anything that takes the processors, and at rest.
async fn floors(host: &Host, wire: &mut Wire, other: &SessionId) -> (f64, f64) {
    let rest = others(host, wire, other).await;
    let _busy = Busy::start();
    (others(host, wire, other).await, rest)
}

/// Beside a session with a million pieces of history that is restarted, prompted and asked for its result.
pub async fn history(table: &mut Table) {
    eprintln!("history");
    let host = host().await;
    let mut wire = host.wire().await;
    let large = session(&host, &mut wire, "large", "told").await;
    let other = session(&host, &mut wire, "other", "shell").await;
    turn(&host, &mut wire, &large, "a piece of what is said").await;
    drop(wire);
    let host = host.again(|state| inflate(state, &large)).await;
    let mut wire = host.wire().await;
    let (mut with, mut without, mut resting) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (beside, rest) = floors(&host, &mut wire, &other).await;
        without.push(beside);
        resting.push(rest);
        let mut busy = host.wire().await;
        let body = serde_json::json!({ "text": "what now?" }).to_string();
        let requests = [
            request("GET", &format!("/v1/sessions/{large}/result"), ""),
            request("POST", &format!("/v1/sessions/{large}/restart"), ""),
            request("POST", &format!("/v1/sessions/{large}/prompts"), &body),
        ];
        let work = async {
            loop {
                for request in &requests {
                    // A queue that is full, or a start that goes on, is an answer too.
                    busy.ask(request).await;
                }
            }
        };
        tokio::select! {
            p99 = others(&host, &mut wire, &other) => with.push(p99),
            () = work => {}
        }
    }
    let name = "p99 of another session's prompt beside a million pieces of history in use; floor: beside processes that compute";
    table.against(name, "µs", &with, &without, Aim::Ratio(1.0));
    table.alone("the same at rest", "µs", &resting, Aim::Told);
    host.end().await;
}

/// Makes the piece that was said into a million.
fn inflate(state: &Path, session: &SessionId) {
    let mut journal = rusqlite::Connection::open(state.join("journal.db")).unwrap();
    let changed = journal.transaction().unwrap();
    let sql = "SELECT max(id) FROM events WHERE session = ?1 AND type = 'message.chunk'";
    let said: i64 = changed.query_row(sql, [session.as_str()], |row| row.get(0)).unwrap();
    let head: i64 = changed.query_row("SELECT max(id) FROM events", [], |row| row.get(0)).unwrap();
    let json: String =
        changed.query_row("SELECT json FROM events WHERE id = ?1", [said], |row| row.get(0)).unwrap();
    {
        let mut insert = changed.prepare("INSERT INTO events VALUES (?1, ?2, 'message.chunk', ?3)").unwrap();
        for id in head + 1..=head + PIECES {
            let json = json.replacen(&format!("\"id\":{said},"), &format!("\"id\":{id},"), 1);
            insert.execute(rusqlite::params![id, session.as_str(), json]).unwrap();
        }
    }
    changed.commit().unwrap();
}

/// Beside an agent that asks for 40 permissions with titles of 7 MB.
pub async fn permissions(table: &mut Table) {
    eprintln!("permissions");
    let host = host().await;
    let mut wire = host.wire().await;
    let large = session(&host, &mut wire, "large", "bulk").await;
    let other = session(&host, &mut wire, "other", "shell").await;
    let (mut with, mut without, mut resting) = (Vec::new(), Vec::new(), Vec::new());
    let body = serde_json::json!({ "text": format!("ask {ASKS} {ASKED}") }).to_string();
    for _ in 0..ROUNDS {
        let (beside, rest) = floors(&host, &mut wire, &other).await;
        without.push(beside);
        resting.push(rest);
        let mut tap = host.tap_at(&format!("/v1/sessions/{large}/events")).await;
        wire.done(&request("POST", &format!("/v1/sessions/{large}/prompts"), &body)).await;
        with.push(others(&host, &mut wire, &other).await);
        // The agent ends its turn by itself; whatever becomes of the questions.
        tap.until(|kind, _| matches!(kind, b"turn.completed" | b"turn.interrupted")).await;
    }
    let name = "p99 of another session's prompt while an agent asks 40 permissions of 7 MB; floor: beside processes that compute";
    table.against(name, "µs", &with, &without, Aim::Ratio(1.0));
    table.alone("the same at rest", "µs", &resting, Aim::Told);
    table.alone("daemon's memory (PSS) after that", "KiB", &[crate::host::pss(host.pid())], Aim::Told);
    host.end().await;
}

/// Beside four subscribers that do not read, while an agent says 40 MB.
pub async fn readers(table: &mut Table) {
    eprintln!("readers");
    let host = host().await;
    let mut wire = host.wire().await;
    let large = session(&host, &mut wire, "large", "bulk").await;
    let other = session(&host, &mut wire, "other", "shell").await;
    let (mut with, mut without) = (Vec::new(), Vec::new());
    let body = serde_json::json!({ "text": format!("say {} {}", SAID >> 16, 1 << 16) }).to_string();
    let mut dead = Vec::new();
    for _ in 0..ROUNDS {
        // The floor: the agent says as much, and nobody is deaf.
        for (rounds, deaf) in [(&mut without, 0), (&mut with, 4)] {
            dead.clear();
            for _ in 0..deaf {
                dead.push(host.tap_at("/v1/events?after=0").await);
            }
            let mut tap = host.tap_at(&format!("/v1/sessions/{large}/events")).await;
            wire.done(&request("POST", &format!("/v1/sessions/{large}/prompts"), &body)).await;
            rounds.push(others(&host, &mut wire, &other).await);
            tap.until(|kind, _| kind == b"turn.completed").await;
        }
    }
    let name = "p99 of another session's prompt beside four readers that do not read; floor: without them";
    table.against(name, "µs", &with, &without, Aim::Ratio(1.0));
    table.alone("daemon's memory (PSS) with them", "KiB", &[crate::host::pss(host.pid())], Aim::Told);
    host.end().await;
}
