//! A thousand sessions at rest: nobody runs.

use std::time::{Duration, Instant};

use crate::host::{Host, Ready, cpu_ms, pause, request, switches};
use crate::table::{Aim, Table};

const COUNT: usize = 1000;
/// How long rest is watched: longer than the longest timer of daemon and worker.
const REST: Duration = Duration::from_secs(60);

pub async fn measure(table: &mut Table) {
    eprintln!("idle");
    let host = Host::start().await;
    let sessions = host.sessions(COUNT).await.0;
    pause(3000).await;
    watched(table, "some seconds after their start", &host, &sessions).await;
    turns(&host, &sessions).await;
    watched(table, "right after a turn of each", &host, &sessions).await;
    host.end().await;
}

/// One turn of each session.
async fn turns(host: &Host, sessions: &[Ready]) {
    let (mut tap, mut wire) = (host.tap().await, host.wire().await);
    let body = serde_json::json!({ "text": "true" }).to_string();
    for session in sessions {
        wire.done(&request("POST", &format!("/v1/sessions/{}/prompts", session.id), &body)).await;
    }
    let mut ended = 0;
    tap.until(|kind, _| {
        ended += usize::from(kind == b"turn.completed");
        ended == sessions.len()
    })
    .await;
}

async fn watched(table: &mut Table, when: &str, host: &Host, sessions: &[Ready]) {
    // The connections of this bench come to their ends.
    pause(200).await;
    let workers = |each: fn(u32) -> f64| sessions.iter().map(|session| each(session.pid)).sum::<f64>();
    let look = || [cpu_ms(host.pid()), switches(host.pid()), workers(cpu_ms), workers(switches)];
    let (before, begin) = (look(), Instant::now());
    tokio::time::sleep(REST).await;
    let (after, seconds) = (look(), begin.elapsed().as_secs_f64());
    let names = [
        ("daemon's CPU", "ms/s"),
        ("daemon's wake-ups", "/s"),
        ("all workers' CPU", "ms/s"),
        ("all workers' wake-ups", "/s"),
    ];
    for (n, (name, unit)) in names.into_iter().enumerate() {
        let name = format!("idle for {} s, {COUNT} sessions, {when}: {name}", REST.as_secs());
        table.alone(&name, unit, &[(after[n] - before[n]) / seconds], Aim::AtMost(0.0));
    }
}
