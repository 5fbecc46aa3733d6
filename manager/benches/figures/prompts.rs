//! Accepting prompts: one at a time, and as many as can be.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::host::{Host, Ready, Wire, request};
use crate::table::{Aim, Table, quantile};
use crate::{ROUNDS, us};

/// Sessions that are held busy by one long turn each, so that prompts wait and nothing is run.
const BUSY: usize = 256;
/// Prompts in one round of one after the other.
const SINGLE: usize = 256;
/// Prompts that a queue may take in one round; it holds 100.
const QUEUE: usize = 80;
const TEXT: &str = "make test && make install # a prompt of ordinary length, as people write them";

pub async fn measure(table: &mut Table) {
    eprintln!("prompts");
    let host = Host::start().await;
    let sessions = busy(&host).await;
    let body = serde_json::json!({ "text": TEXT }).to_string();
    let posts: Vec<Vec<u8>> = sessions
        .iter()
        .map(|session| request("POST", &format!("/v1/sessions/{}/prompts", session.id), &body))
        .collect();

    let socket = bare(host.dir.path());
    let (mut ours, mut floors) = (Vec::new(), Vec::new());
    let (mut full, mut rates) = (Vec::new(), [const { Vec::new() }; 3]);
    let mut wire = host.wire().await;
    let mut bare = Wire::open(&socket).await;
    for _ in 0..ROUNDS {
        let mut times = Vec::new();
        for post in &posts[..SINGLE] {
            times.push(us(wire.done(post).await));
        }
        ours.push(times);
        let mut times = Vec::new();
        for post in &posts[..SINGLE] {
            times.push(us(bare.done(post).await));
        }
        floors.push(times);

        clear(&host, &sessions).await;
        let mut last = Vec::new();
        for n in 0..QUEUE {
            let time = us(wire.done(&posts[0]).await);
            last.extend((n >= QUEUE - 20).then_some(time));
        }
        full.push(quantile(&last, 0.5));

        for (rates, (clients, prompts)) in rates.iter_mut().zip([(1, 500), (16, 4_000), (256, BUSY * QUEUE)])
        {
            clear(&host, &sessions).await;
            rates.push(rate(&host, &posts, clients, prompts).await);
        }
        clear(&host, &sessions).await;
    }
    for (word, part) in [("p50", 0.5), ("p90", 0.9)] {
        let of =
            |rounds: &[Vec<f64>]| -> Vec<f64> { rounds.iter().map(|round| quantile(round, part)).collect() };
        let name = format!("prompt, POST → 202, {word}");
        table.against(&name, "µs", &of(&ours), &of(&floors), Aim::Ratio(1.3));
    }
    table.alone("the same behind 60 to 80 others, p50", "µs", &full, Aim::Told);
    let aims = [Aim::Told, Aim::Told, Aim::AtLeast(10_000.0)];
    for ((clients, rates), aim) in [1, 16, 256].iter().zip(&rates).zip(aims) {
        table.alone(&format!("prompts accepted, {clients} clients"), "/s", rates, aim);
    }
    host.end().await;
}

/// Sessions in the middle of a long turn.
pub async fn busy(host: &Host) -> Vec<Ready> {
    let sessions = host.sessions(BUSY).await.0;
    let mut tap = host.tap().await;
    let mut wire = host.wire().await;
    let body = serde_json::json!({ "text": "exec sleep 1000" }).to_string();
    for session in &sessions {
        wire.done(&request("POST", &format!("/v1/sessions/{}/prompts", session.id), &body)).await;
    }
    let mut begun = 0;
    tap.until(|kind, _| {
        begun += usize::from(kind == b"turn.started");
        begun == BUSY
    })
    .await;
    sessions
}

/// Empties all queues.
pub async fn clear(host: &Host, sessions: &[Ready]) {
    let mut wire = host.wire().await;
    for session in sessions {
        wire.done(&request("DELETE", &format!("/v1/sessions/{}/queue", session.id), "")).await;
    }
}

/// This many prompts from this many clients; how many a second were accepted.
pub async fn rate(host: &Host, posts: &[Vec<u8>], clients: usize, prompts: usize) -> f64 {
    let mut wires = Vec::new();
    for _ in 0..clients {
        wires.push(host.wire().await);
    }
    let begin = Instant::now();
    let sending = wires.iter_mut().enumerate().map(|(n, wire)| async move {
        for prompt in (n..prompts).step_by(clients) {
            wire.done(&posts[prompt % posts.len()]).await;
        }
    });
    futures_util::future::join_all(sending).await;
    prompts as f64 / begin.elapsed().as_secs_f64()
}

/// The floor: a socket behind which each message becomes one synced row, and then is answered.
fn bare(dir: &Path) -> PathBuf {
    let socket = dir.join("bare");
    let listener = UnixListener::bind(&socket).unwrap();
    let db = rusqlite::Connection::open(dir.join("bare.db")).unwrap();
    db.pragma_update(None, "journal_mode", "WAL").unwrap();
    db.pragma_update(None, "synchronous", "FULL").unwrap();
    db.execute_batch("CREATE TABLE rows (id INTEGER PRIMARY KEY, json BLOB NOT NULL)").unwrap();
    std::thread::spawn(move || {
        let mut stream = listener.accept().unwrap().0;
        let mut buffer = [0; 4096];
        // As long as an answer to a prompt.
        let answer = format!("HTTP/1.1 202 Accepted\r\ncontent-length: 90\r\n\r\n{}", "x".repeat(90));
        while let Ok(read @ 1..) = stream.read(&mut buffer) {
            let mut insert = db.prepare_cached("INSERT INTO rows (json) VALUES (?1)").unwrap();
            insert.execute([&buffer[..read]]).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    socket
}
