//! Every decoder, given invalid input: no panic, bounded memory, and refused input has changed nothing.
//! `KENNEL_FUZZ_CASES=n cargo test -p kennel-tests fuzz` tries more.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use harness::daemon::{Daemon, finish};
use harness::fuzz::{Mutator, cases, peak_kib};
use harness::real::*;
use manager::SessionManager;
use manager::config::Config;
use protocol::api::{AttachmentRequest, Orphans, PromptRequest, SessionInfo, SessionOpts};
use protocol::event::EventKind;
use protocol::frame::{self, Decoder};
use protocol::wire::{FromWorker, ToWorker};

/// The largest growth of a process, in KiB: two of the largest frames, read and decoded.
const MOST_KIB: u64 = 64 * 1024;
/// The status of a Rust program that panicked.
const PANICKED: Option<i32> = Some(101);

/// A frame of every message of every version.
fn frames() -> Vec<Vec<u8>> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../protocol/tests/golden");
    let unhex = |hex: &str| -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    };
    let files = std::fs::read_dir(golden).unwrap().map(|file| std::fs::read_to_string(file.unwrap().path()));
    let lines = files.flat_map(|text| text.unwrap().lines().map(str::to_owned).collect::<Vec<_>>());
    lines.map(|line| unhex(line.split_once(' ').unwrap().1)).collect()
}

/// A decoded value must encode, and decode to itself again.
fn decode<T: serde::de::DeserializeOwned + serde::Serialize + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    let mut decoder = Decoder::default();
    decoder.feed(bytes);
    while let Ok(Some(message)) = decoder.take::<T>() {
        let mut again = Vec::new();
        frame::encode(&message, &mut again).unwrap();
        let mut second = Decoder::default();
        second.feed(&again);
        assert_eq!(second.take::<T>().unwrap(), Some(message));
        second.finish().unwrap();
    }
}

#[test]
fn fuzzed_frames_decode_to_what_encodes_again_or_are_refused() {
    let mut mutator = Mutator::new(1, frames());
    assert!(mutator.known() > 40);
    for _ in 0..cases(20_000) {
        let bytes = mutator.make();
        decode::<ToWorker>(&bytes);
        decode::<FromWorker>(&bytes);
    }
}

#[test]
fn a_worker_that_hears_fuzzed_commands_leaves_with_a_status_and_little_memory() {
    let mut mutator = Mutator::new(2, frames());
    for case in 0..cases(60) {
        let mut command = Command::new(worker());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).env_clear();
        let mut child = command.spawn().unwrap();
        let output: Vec<Vec<u8>> = (0..3).map(|_| mutator.make()).collect();
        let mut stdin = child.stdin.take().unwrap();
        for bytes in &output {
            // It may have left over the one before.
            let _ = stdin.write_all(bytes);
        }
        let peak = peak_kib(child.id());
        drop(stdin);
        let left = finish(child);
        let code = left.code;
        assert!(
            code.is_some() && code != PANICKED,
            "case {case}: {code:?} after {output:?}\n{}",
            left.stderr
        );
        assert!(peak.unwrap_or(0) < MOST_KIB, "case {case}: {peak:?} KiB after {output:?}");
    }
}

#[test]
fn fuzzed_configuration_is_taken_or_refused_with_the_file_named() {
    let sample = r#"
[defaults]
agent = "codex"
restart = "transient"
intensity = 5
period = "60s"
hibernate_after = "10m"
grace = "5s"
env_pass = ["LANG"]
subagent_depth = 3
subagent_breadth = 8

[agents.codex]
kind = "acp"
command = ["/bin/cat", "--acp"]
env = { OPENAI_BASE_URL = "http://127.0.0.1:18080/v1" }
permissions = "park"
permission_timeout = "1h"
start_timeout = "30s"
rules = [{ kind = "edit", path = "/srv", then = "deny" }]
sandbox = "workdir"
sandbox_hide = ["~/.netrc"]
sandbox_write = ["~/.codex"]
containment = "auto"

[agents.codex.mcp.files]
command = ["/bin/cat"]
env = { ROOT = "/srv" }

[agents.claude-print]
kind = "command"
command = ["/bin/cat", "-p"]
prompt_via = "stdin"
context = "transcript"
on_crash = "retry"
turn_timeout = "30m"
stall_timeout = "20m"
worker_timeout = "30s"
nice = 5
nofile = 4096
memory = "2GiB"
pids = 200
cpus = 1.5

[daemon]
cgroup_root = "none"

[retention]
max_age = "90d"
max_size = "2GiB"
"#;
    let tables = sample.split_inclusive("\n\n").map(|table| table.as_bytes().to_vec());
    let mut mutator = Mutator::new(3, tables.chain([sample.as_bytes().to_vec()]));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    std::fs::write(&path, sample).unwrap();
    Config::load(&path).unwrap();
    for _ in 0..cases(3_000) {
        let text = mutator.make();
        std::fs::write(&path, &text).unwrap();
        if let Err(error) = Config::load(&path) {
            let output = error.to_string();
            assert!(output.contains("config.toml"), "{output}\nof\n{}", String::from_utf8_lossy(&text));
        }
    }
}

/// Requests of every kind that changes something, but for those that end the daemon.
fn requests(workdir: &str) -> Vec<Vec<u8>> {
    let with = |method: &str, path: &str, body: &str| {
        format!(
            "{method} /v1/{path} HTTP/1.1\r\nhost: kennel\r\nidempotency-key: k-{}\r\ncontent-type: application/json\r\n\
             connection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len(),
            body.len()
        )
        .into_bytes()
    };
    let without = |method: &str, path: &str| with(method, path, "");
    vec![
        with(
            "POST",
            "sessions",
            &format!(r#"{{"agent":"shell","workdir":"{workdir}","intensity":5,"period_ms":1000}}"#),
        ),
        with("POST", "bootstrap", &format!(r#"{{"workdir":"{workdir}","opts":{{"agent":"shell"}}}}"#)),
        with("POST", "sessions/one/prompts", r#"{"text":"true","when_busy":"queue"}"#),
        with(
            "POST",
            "sessions/one/prompts",
            r#"{"text":"true","attachments":[{"name":"a.png","mime_type":"image/png","data":"iVBORw0KGgo="}]}"#,
        ),
        with("PATCH", "sessions/one/queue/prompt-1", r#"{"text":"false"}"#),
        with("POST", "sessions/one/permissions/permission-1", r#"{"answer":"allow"}"#),
        with("POST", "sessions/one/calls/call-1", r#"{"result":{"content":"x"}}"#),
        with("POST", "subagents", r#"{"parent":"one","task":"true","opts":{"agent":"shell"}}"#),
        with("PUT", "sessions/one/settings/mode", r#"{"value":"fast"}"#),
        with("PUT", "sessions/one/mcp_servers", r#"{"mcp_servers":[{"name":"a","command":["/bin/cat"]}]}"#),
        with("POST", "prompts/prompt-1/resolve", r#"{"action":"drop"}"#),
        with(
            "POST",
            "manager/prune",
            r#"{"older_than_ms":1000,"max_bytes":16777216,"damaged":false,"dry_run":true}"#,
        ),
        without("GET", "sessions"),
        without("GET", "sessions/one"),
        without("GET", "sessions/one/queue"),
        without("GET", "sessions/one/events?after=0&follow=false"),
        without("GET", "events?after=7&follow=false"),
        without("DELETE", "sessions/nobody"),
    ]
}

/// Sends a request, and returns the status and the whole answer. `None`: closed without an answer. After
/// `patience` milliseconds it closes its sending side, which takes back a request that is still worked on.
fn ask(socket: &Path, request: &[u8], patience: u64) -> Option<(u16, String)> {
    let mut stream = UnixStream::connect(socket).unwrap();
    // It may close before it has read all.
    stream.write_all(request).ok()?;
    let mut answer = Vec::new();
    let mut read = |stream: &mut UnixStream, patience| {
        stream.set_read_timeout(Some(Duration::from_millis(patience))).unwrap();
        let read = stream.read_to_end(&mut answer);
        read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    };
    if read(&mut stream, patience) {
        // It may wait for the rest of it, which will not come.
        let _ = stream.shutdown(Shutdown::Write);
        assert!(!read(&mut stream, 20_000), "no answer to {}", String::from_utf8_lossy(request));
    }
    let answer = String::from_utf8_lossy(&answer).into_owned();
    Some((answer.get(9..12)?.parse().ok()?, answer))
}

#[test]
fn a_daemon_that_is_asked_fuzzed_requests_answers_lives_and_takes_little_memory() {
    let daemon = Daemon::new();
    daemon.ok(&["start", "--id", "one", "--agent", "shell"]);
    let before = daemon.idle("one");
    let pid = daemon.pid();
    let peak = peak_kib(pid).unwrap();
    let socket = daemon.dir.path().join("state/kennel.sock");
    let meant = requests(daemon.workdir().to_str().unwrap());
    let answers: Vec<(u16, String)> =
        meant.iter().filter_map(|request| ask(&socket, request, 20_000)).collect();
    let taken = answers.iter().filter(|(status, _)| *status < 300).count();
    assert_eq!(taken, 10, "the others are about what is not there: {answers:#?}");
    let mut mutator = Mutator::new(4, meant);
    let (mut answered, mut refused) = (0, 0);
    for case in 0..cases(600) {
        let request = mutator.make();
        if let Some((status, answer)) = ask(&socket, &request, 20) {
            let shown = String::from_utf8_lossy(&request);
            assert!(status < 500 || status == 501, "case {case}: {answer}\nto {shown}");
            answered += 1;
            refused += u64::from(status >= 400);
        }
    }
    assert!(answered > cases(600) / 2 && refused > 0, "{answered} answered, {refused} refused");
    let after: SessionInfo = daemon.show("one");
    assert_eq!((daemon.pid(), after.pid), (pid, before.pid), "nobody died of it");
    let log = std::fs::read_to_string(daemon.dir.path().join("state/daemon.log")).unwrap_or_default();
    assert!(!log.contains("panicked"), "{log}");
    let grown = peak_kib(pid).unwrap() - peak;
    assert!(grown < MOST_KIB, "{grown} KiB more");
}

/// A state directory that a manager has left, with a bit of everything.
async fn left_behind() -> tempfile::TempDir {
    let host = Host::new().await;
    let agent =
        format!("[agents.sees]\nkind = \"acp\"\ncommand = [{:?}, \"--files\"]\n", beside("acp-agent"));
    std::fs::write(host.config(), agent).unwrap();
    let id = host.session().await;
    host.run(&id, "echo one").await;
    let woken = host.session_with(SessionOpts { agent: Some("sees".into()), ..host.opts() }).await;
    let busy = host.send(&woken, "sleep 60s").await;
    host.event(&woken, "its turn", |kind| matches!(kind, EventKind::TurnStarted { .. })).await;
    let with_file = AttachmentRequest {
        name: "notes.txt".into(),
        text: Some("so it is".into()),
        ..AttachmentRequest::default()
    };
    let queued = PromptRequest { attachments: vec![with_file], ..prompt("sleep 60s; attached") };
    host.manager.send_prompt(&woken, queued, Some("a-key")).await.unwrap();
    kill(host.pid(&woken).await);
    host.end_of(&woken, busy).await;
    let removed = host.session().await;
    host.manager.stop_session(&removed, Orphans::Stop).await.unwrap();
    host.manager.remove_session(&removed, false).await.unwrap();
    host.manager.stop_session(&id, Orphans::Stop).await.unwrap();
    host.manager.shutdown().await;
    host.dir
}

/// Everything in the journal that is written by kennel and read again, by table and column.
const COLUMNS: &[(&str, &str)] = &[
    ("meta", "value"),
    ("sessions", "doc"),
    ("sessions", "doc"),
    ("sessions", "id"),
    ("sessions", "token"),
    ("retired", "id"),
    ("retired", "incarnation"),
    ("prompts", "id"),
    ("prompts", "text"),
    ("events", "id"),
    ("events", "session"),
    ("events", "type"),
    ("events", "json"),
    ("keys", "reply"),
    ("keys", "request"),
    ("attachments", "doc"),
];

#[tokio::test]
async fn a_manager_over_fuzzed_rows_starts_and_keeps_and_says_what_it_cannot_read() {
    let left = left_behind().await;
    let original = left.path().join("state/journal.db");
    let mut mutator =
        Mutator::new(5, [b"0".to_vec(), b"{\"a\":[1,null]}".to_vec(), b"9223372036854775807".to_vec()]);
    let (mut harmless, mut salvaged) = (0, 0);
    for case in 0..cases(60) {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        std::fs::create_dir(&state).unwrap();
        std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o700)).unwrap();
        let journal = state.join("journal.db");
        std::fs::copy(&original, &journal).unwrap();
        let (table, column) = COLUMNS[case as usize % COLUMNS.len()];
        let what = damage(&journal, table, column, &mut mutator);
        let found = std::fs::read(&journal).unwrap();
        let builder = SessionManager::builder().state_dir(&state).worker_path(worker());
        let begun = tokio::time::timeout(BOUND, builder.start()).await;
        let begun = begun.unwrap_or_else(|_| panic!("case {case}: it hangs over {what}"));
        let manager = begun.unwrap_or_else(|error| panic!("case {case}: {error}, of {what}"));
        let _ = manager.list_sessions().await;
        let mut events = manager.subscribe(Some(0), None);
        let mut output = false;
        while let Ok(Some(records)) = events.ready().await {
            let kinds = records.iter().filter_map(|record| Some(record.event().ok()?.kind));
            let damaged = |text: &str| text.starts_with("the journal was damaged");
            output |= kinds
                .into_iter()
                .any(|kind| matches!(kind, EventKind::SystemMessage { text } if damaged(&text)));
        }
        // A manager whose loop has died answers no request.
        let alive = manager.info().await;
        assert!(alive.is_ok(), "case {case}: {alive:?}, of {what}");
        let ended = tokio::time::timeout(BOUND, manager.shutdown()).await;
        assert!(ended.is_ok(), "case {case}: no end over {what}");
        let kept = std::fs::read(state.join("journal.db.damaged-1")).ok();
        assert_eq!(output, kept.is_some(), "case {case}: what was lost is said, of {what}");
        assert!(
            kept.as_ref().is_none_or(|kept| *kept == found),
            "case {case}: it is kept as found, of {what}"
        );
        *if output { &mut salvaged } else { &mut harmless } += 1;
    }
    assert!(harmless > 0 && salvaged > 0, "{harmless} harmless, {salvaged} salvaged");
}

/// Changes one value of a column; gives what it is now, for a person.
fn damage(journal: &Path, table: &str, column: &str, mutator: &mut Mutator) -> String {
    let connection = rusqlite::Connection::open(journal).unwrap();
    let select =
        format!("SELECT DISTINCT CAST({column} AS TEXT) FROM {table} WHERE {column} IS NOT NULL ORDER BY 1");
    let mut select = connection.prepare(&select).unwrap();
    let values: Vec<String> = select.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let Some(value) = mutator.pick(&values) else {
        return format!("{table}.{column}, which is empty");
    };
    let new = mutator.changed(value.as_bytes());
    let text = String::from_utf8_lossy(&new).into_owned();
    let update = format!("UPDATE OR REPLACE {table} SET {column} = ?1 WHERE CAST({column} AS TEXT) = ?2");
    let done = match text.parse::<i64>() {
        Ok(number) => connection.execute(&update, rusqlite::params![number, value]),
        Err(_) => connection.execute(&update, rusqlite::params![text, value]),
    };
    format!("{table}.{column} = {text:?} ({done:?})")
}
