//! One worker that does not run: what the other sessions notice of it.

use harness::real::signal;
use nix::sys::signal::Signal;

use crate::host::{Host, Wire, request};
use crate::prompts;
use crate::table::{Aim, Table, quantile};
use crate::{ROUNDS, us};

/// Calls of each kind in one round.
const CALLS: usize = 300;
const KINDS: [&str; 4] = ["list", "show", "send", "events"];

pub async fn measure(table: &mut Table) {
    eprintln!("stopped");
    let host = Host::start().await;
    let sessions = prompts::busy(&host).await;
    let victim = host.sessions(1).await.0.remove(0);
    let mut wire = host.wire().await;
    let prompt = serde_json::json!({ "text": "true" }).to_string();
    let mut with = [const { Vec::new() }; 4];
    let mut without = [const { Vec::new() }; 4];
    for _ in 0..ROUNDS {
        calls(&host, &mut wire, &sessions, &mut without).await;
        prompts::clear(&host, &sessions).await;
        signal(victim.pid, Signal::SIGSTOP);
        // It is also asked something, which it cannot take.
        wire.done(&request("POST", &format!("/v1/sessions/{}/prompts", victim.id), &prompt)).await;
        calls(&host, &mut wire, &sessions, &mut with).await;
        let mut tap = host.tap().await;
        signal(victim.pid, Signal::SIGCONT);
        tap.until(|kind, _| kind == b"turn.completed").await;
        prompts::clear(&host, &sessions).await;
    }
    for ((kind, with), without) in KINDS.iter().zip(&with).zip(&without) {
        let name = format!("p99 of `{kind}` with one worker stopped; floor: without");
        table.against(&name, "µs", with, without, Aim::Ratio(1.0));
    }
    host.end().await;
}

/// Calls about the other sessions; the p99 of each kind is added to its rounds.
async fn calls(host: &Host, wire: &mut Wire, sessions: &[crate::host::Ready], rounds: &mut [Vec<f64>; 4]) {
    let after = host.head().await.saturating_sub(10);
    let body = serde_json::json!({ "text": "a prompt that waits" }).to_string();
    let mut times = [const { Vec::new() }; 4];
    for n in 0..CALLS {
        let id = &sessions[n % sessions.len()].id;
        let requests = [
            request("GET", "/v1/sessions", ""),
            request("GET", &format!("/v1/sessions/{id}"), ""),
            request("POST", &format!("/v1/sessions/{id}/prompts"), &body),
            request("GET", &format!("/v1/events?after={after}&follow=false"), ""),
        ];
        for (times, request) in times.iter_mut().zip(&requests) {
            times.push(us(wire.done(request).await));
        }
    }
    for (rounds, times) in rounds.iter_mut().zip(&times) {
        rounds.push(quantile(times, 0.99));
    }
}
