//! Events on their way to subscribers: how late, how many, and how fast the past is read.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use manager::client::Request;
use rustix::time::{ClockId, clock_gettime};

use crate::host::{Host, Ready, Tap, request};
use crate::prompts;
use crate::table::{Aim, Table, quantile};
use crate::{ROUNDS, ms};

/// Lines in one round that are written at rest, and the time between two of them in microseconds.
const AT_REST: (usize, u64) = (200, 5_000);
/// Sessions that talk at once where as much as possible is to be delivered, lines of each, and the time between.
const TALKERS: usize = 4;
const TALK: (usize, u64) = (2_000, 200);
/// Events that are read again.
const PAST: u64 = 50_000;

pub async fn measure(table: &mut Table) {
    eprintln!("events");
    let host = Host::start().await;
    let sessions = host.sessions(TALKERS).await.0;
    lateness(table, &host, &sessions[0]).await;
    fan_out(table, &host, &sessions).await;
    host.end().await;
    catch_up(table).await;
}

fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

/// The agent that is measured with: prints so many lines, so many microseconds apart, each with its time in it.
pub fn say(args: &[String]) {
    let [lines, every] = args else { panic!("--say LINES MICROSECONDS") };
    let (lines, every): (u64, u64) = (lines.parse().unwrap(), every.parse().unwrap());
    let begin = Instant::now();
    for line in 0..lines {
        let due = Duration::from_micros(line * every);
        while let Some(left) = due.checked_sub(begin.elapsed()).filter(|left| !left.is_zero()) {
            std::thread::park_timeout(left);
        }
        let text = format!("at={:020} {}\n", now_ns(), "x".repeat(56));
        #[allow(clippy::disallowed_methods, reason = "a pipe that is measured")]
        let mut stdout = std::io::stdout().lock();
        if stdout.write_all(text.as_bytes()).is_err() {
            return;
        }
    }
}

fn saying((lines, every): (usize, u64)) -> String {
    let exe = std::env::current_exe().unwrap();
    serde_json::json!({ "text": format!("exec '{}' --say {lines} {every}", exe.display()) }).to_string()
}

/// When a line was written, by its own word.
fn written(data: &[u8]) -> Option<u64> {
    let at = data.windows(3).position(|bytes| bytes == b"at=")? + 3;
    std::str::from_utf8(data.get(at..at + 20)?).ok()?.parse().ok()
}

async fn lateness(table: &mut Table, host: &Host, session: &Ready) {
    let (mut ours, mut floors) = (Vec::new(), Vec::new());
    let post = request("POST", &format!("/v1/sessions/{}/prompts", session.id), &saying(AT_REST));
    let mut wire = host.wire().await;
    for _ in 0..ROUNDS {
        let mut tap = host.tap().await;
        wire.done(&post).await;
        let mut times = Vec::new();
        tap.until(|kind, data| {
            let now = now_ns();
            if kind == b"message.chunk" {
                times.extend(written(data).map(|then| (now - then) as f64 / 1e3));
            }
            kind == b"turn.completed"
        })
        .await;
        ours.push(times);
        floors.push(pipe());
    }
    for (word, part, aim) in [("p50", 0.5, Aim::Told), ("p99", 0.99, Aim::AtMost(1_000.0))] {
        let of =
            |rounds: &[Vec<f64>]| -> Vec<f64> { rounds.iter().map(|round| quantile(round, part)).collect() };
        let name = format!("agent's line written → seen by a subscriber, at rest, {word}; floor: one pipe");
        table.against(&name, "µs", &of(&ours), &of(&floors), aim);
    }
}

/// The floor of lateness: the same program at the other end of a pipe.
fn pipe() -> Vec<f64> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--say", &AT_REST.0.to_string(), &AT_REST.1.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = child.stdout.take().unwrap();
    let (mut times, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(read @ 1..) = output.read(&mut buffer) {
        times.extend(written(&buffer[..read]).map(|then| (now_ns() - then) as f64 / 1e3));
    }
    child.wait().unwrap();
    times
}

async fn fan_out(table: &mut Table, host: &Host, sessions: &[Ready]) {
    let mut wire = host.wire().await;
    let mut rates = [const { Vec::new() }; 3];
    let counts = [1, 10, 100];
    for _ in 0..ROUNDS {
        for (rates, count) in rates.iter_mut().zip(counts) {
            let mut taps = Vec::new();
            for _ in 0..count {
                taps.push(host.tap().await);
            }
            for session in sessions {
                wire.done(&request("POST", &format!("/v1/sessions/{}/prompts", session.id), &saying(TALK)))
                    .await;
            }
            let begin = Instant::now();
            let reading = taps.iter_mut().map(listened);
            let delivered: usize = futures_util::future::join_all(reading).await.into_iter().sum();
            rates.push(delivered as f64 / begin.elapsed().as_secs_f64());
        }
    }
    let aims = [Aim::Told, Aim::Told, Aim::AtLeast(1_000_000.0)];
    for ((count, rates), aim) in counts.iter().zip(&rates).zip(aims) {
        table.alone(&format!("events delivered in all, {count} subscribers"), "/s", rates, aim);
    }
}

/// Reads until all talkers have ended; how many events there were.
async fn listened(tap: &mut Tap) -> usize {
    let (mut events, mut ended) = (0, 0);
    tap.until(|kind, _| {
        events += 1;
        ended += usize::from(kind == b"turn.completed");
        ended == TALKERS
    })
    .await;
    events
}

async fn catch_up(table: &mut Table) {
    let host = Host::start().await;
    let sessions = prompts::busy(&host).await;
    let body = serde_json::json!({ "text": "a prompt that waits and is then removed" }).to_string();
    let posts: Vec<Vec<u8>> = sessions
        .iter()
        .map(|session| request("POST", &format!("/v1/sessions/{}/prompts", session.id), &body))
        .collect();
    while host.head().await < PAST {
        prompts::rate(&host, &posts, 64, 20 * posts.len()).await;
        prompts::clear(&host, &sessions).await;
    }
    let upto = host.head().await;
    let (mut ours, mut floors) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let path = format!("/v1/events?after={}&follow=false", upto - PAST);
        let begin = Instant::now();
        let mut tap = host.tap_at(&path).await;
        let mut count = 0;
        while tap.more(|_, _| count += 1).await {}
        ours.push(ms(begin.elapsed()));
        assert_eq!(count, PAST);

        let begin = Instant::now();
        let rows = rows(&host, upto - PAST);
        floors.push(ms(begin.elapsed()));
        assert_eq!(rows, PAST);
    }
    let name = "catch-up of 50,000 events over SSE; floor: the same rows from SQLite";
    table.against(name, "ms", &ours, &floors, Aim::Ratio(1.5));
    host.ask(Request::get("/v1/manager")).await;
    host.end().await;
}

/// The floor of catching up: the rows are read and no more.
fn rows(host: &Host, after: u64) -> u64 {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let db = rusqlite::Connection::open_with_flags(host.dir.path().join("state/journal.db"), flags).unwrap();
    let mut select = db.prepare("SELECT id, session, json FROM events WHERE id > ?1 ORDER BY id").unwrap();
    let mut rows = select.query([after]).unwrap();
    let (mut count, mut bytes) = (0, 0);
    while let Some(row) = rows.next().unwrap() {
        let _id: u64 = row.get(0).unwrap();
        let _session: Option<String> = row.get(1).unwrap();
        bytes += row.get::<_, String>(2).unwrap().len();
        count += 1;
    }
    assert!(bytes > 0);
    count
}
