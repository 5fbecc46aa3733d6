//! Commands as whole processes, from their start to their end, with a daemon that is warm.

use std::process::{Command, Stdio};
use std::time::Instant;

use crate::floor::program;
use crate::host::{Host, request};
use crate::prompts;
use crate::restart::many;
use crate::table::{Aim, Table, quantile};
use crate::{ROUNDS, ms};

/// How often each runs in one round. Ours and the floor's prompts together fit into a queue, which holds 100.
const RUNS: usize = 40;
const TEXT: &str = "a prompt that waits";

pub async fn measure(table: &mut Table) {
    eprintln!("commands");
    let host = Host::start().await;
    let floor = program(host.dir.path(), "ask", include_bytes!("ask.rs"));
    let sessions = vec![host.sessions(1).await.0.remove(0)];
    let (id, mut wire) = (sessions[0].id.as_str(), host.wire().await);
    let mut tap = host.tap().await;
    let begin = serde_json::json!({ "text": "exec sleep 1000" }).to_string();
    wire.done(&request("POST", &format!("/v1/sessions/{id}/prompts"), &begin)).await;
    tap.until(|kind, _| kind == b"turn.started").await;
    drop((tap, wire));

    let body = serde_json::json!({ "text": TEXT }).to_string();
    let (one, prompts) = (format!("/v1/sessions/{id}"), format!("/v1/sessions/{id}/prompts"));
    let commands: [(&str, &[&str], [&str; 3]); 3] = [
        ("kennel ls", &["ls"], ["GET", "/v1/sessions?all=false", ""]),
        ("kennel show ID", &["show", id], ["GET", &one, ""]),
        ("kennel send --no-wait ID TEXT", &["send", "--no-wait", id, TEXT], ["POST", &prompts, &body]),
    ];
    for (name, ours, asked) in commands {
        let (mut rounds, mut floors) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            rounds.push(p50(|| host.command(ours)));
            floors.push(p50(|| {
                let mut command = Command::new(&floor);
                command.arg(host.socket()).args(asked);
                command
            }));
            prompts::clear(&host, &sessions).await;
        }
        let name =
            format!("`{name}` as a whole process, p50; floor: a program that connects, asks and prints");
        table.against(&name, "ms", &rounds, &floors, Aim::Ratio(1.5));
    }
    host.end().await;
    beside_stopped(table).await;
}

/// The list of what is up, which is nothing, with many sessions that are stopped and with none.
async fn beside_stopped(table: &mut Table) {
    let (none, with, count) = (Host::start().await, Host::start().await, many());
    let sessions = with.sessions(count).await.0;
    with.stopped(&sessions).await;
    let (mut ours, mut floors) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(p50(|| with.command(&["ls"])));
        floors.push(p50(|| none.command(&["ls"])));
    }
    let name = format!("`kennel ls` with {count} stopped sessions, p50; floor: with none");
    table.against(&name, "ms", &ours, &floors, Aim::Ratio(2.0));
    with.end().await;
    none.end().await;
}

/// Runs a command again and again; the median of the times that the whole process took, in ms.
pub fn p50(command: impl Fn() -> Command) -> f64 {
    let mut times = Vec::new();
    for _ in 0..RUNS {
        let mut command = command();
        command.env_remove(protocol::MARKER).stdin(Stdio::null()).stdout(Stdio::null());
        let begin = Instant::now();
        let status = command.spawn().unwrap().wait().unwrap();
        times.push(ms(begin.elapsed()));
        assert!(status.success(), "{command:?}: {status}");
    }
    quantile(&times, 0.5)
}
