//! A thousand sessions: born, at rest, all killed at once, stopped.

use std::time::{Duration, Instant};

use harness::real::kill;

use crate::floor::Floor;
use crate::host::{BOUND, Host, Ready, Wire, came_up, cpu_ms, pause, pss, request, switches};
use crate::table::{Aim, Table};
use crate::{ROUNDS, ms};

const COUNT: usize = 1000;
/// Mass crashes after which memory is compared with that after the first.
const CRASHES: usize = 10;
/// How long rest is watched.
const REST: Duration = Duration::from_secs(5);

pub async fn measure(table: &mut Table) {
    eprintln!("thousand");
    let (mut cold, mut crash, mut stop) = (Vec::new(), Vec::new(), Vec::new());
    let (mut cold_floor, mut crash_floor, mut stop_floor) = (Vec::new(), Vec::new(), Vec::new());
    let (mut marginal, mut worker) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let host = Host::start().await;
        let (mut sessions, mut took) = host.sessions(COUNT / 10).await;
        pause(200).await;
        let few = pss(host.pid());
        let rest = host.sessions(COUNT - COUNT / 10).await;
        sessions.extend(rest.0);
        took += rest.1;
        cold.push(ms(took));
        pause(500).await;
        marginal.push((pss(host.pid()) - few) / (COUNT - COUNT / 10) as f64);
        worker.push(sessions.iter().map(|session| pss(session.pid)).sum::<f64>() / COUNT as f64);
        if round == 0 {
            at_rest(table, &host, &sessions).await;
        }
        crash.push(ms(mass_crash(&host, &mut sessions).await));
        if round == ROUNDS - 1 {
            memory_after_crashes(table, &host, &mut sessions).await;
        }
        stop.push(ms(stop_all(&host, &sessions).await));
        host.end().await;

        let mut floor = Floor::new();
        cold_floor.push(ms(floor.spawn(COUNT)));
        crash_floor.push(ms(floor.replace_all()));
        stop_floor.push(ms(floor.end()));
    }
    table.against("1,000 sessions from nothing to ready", "ms", &cold, &cold_floor, Aim::Ratio(1.5));
    table.against("all 1,000 killed at once → all ready", "ms", &crash, &crash_floor, Aim::Ratio(1.5));
    table.against("stop of 1,000, all at once", "ms", &stop, &stop_floor, Aim::Ratio(2.0));
    table.alone(
        "manager's memory for one idle session (PSS, 100 → 1,000)",
        "KiB",
        &marginal,
        Aim::AtMost(12.0),
    );
    table.alone("worker's memory (PSS, among 1,000)", "KiB", &worker, Aim::AtMost(160.0));
}

async fn at_rest(table: &mut Table, host: &Host, sessions: &[Ready]) {
    let workers = |each: fn(u32) -> f64| sessions.iter().map(|session| each(session.pid)).sum::<f64>();
    let look = || [cpu_ms(host.pid()), switches(host.pid()), workers(cpu_ms), workers(switches)];
    pause(2000).await;
    let (before, begin) = (look(), Instant::now());
    tokio::time::sleep(REST).await;
    let (after, seconds) = (look(), begin.elapsed().as_secs_f64());
    let names = [
        ("idle, 1,000 sessions: daemon's CPU", "ms/s", Aim::Told),
        ("idle, 1,000 sessions: daemon's wake-ups", "/s", Aim::AtMost(0.0)),
        ("idle, 1,000 sessions: all workers' CPU", "ms/s", Aim::Told),
        ("idle, 1,000 sessions: all workers' wake-ups", "/s", Aim::AtMost(0.0)),
    ];
    for (n, (name, unit, aim)) in names.into_iter().enumerate() {
        table.alone(name, unit, &[(after[n] - before[n]) / seconds], aim);
    }
}

/// Kills every worker; how long until every session is ready again.
async fn mass_crash(host: &Host, sessions: &mut [Ready]) -> Duration {
    let mut tap = host.tap().await;
    let begin = Instant::now();
    sessions.iter().for_each(|session| kill(session.pid));
    let mut ready = Vec::new();
    tap.until(|kind, data| {
        if kind == b"session.restarted" {
            ready.push(came_up(data));
        }
        ready.len() == sessions.len()
    })
    .await;
    let took = begin.elapsed();
    sessions.clone_from_slice(&ready);
    took
}

async fn memory_after_crashes(table: &mut Table, host: &Host, sessions: &mut [Ready]) {
    pause(1500).await;
    let first = pss(host.pid());
    for _ in 1..CRASHES {
        mass_crash(host, sessions).await;
        // More than a period, so that none of them counts as a loop.
        pause(1500).await;
    }
    let name = "manager's memory (PSS) after 10 mass crashes; floor: after the first";
    table.against(name, "KiB", &[pss(host.pid())], &[first], Aim::Ratio(1.0));
}

/// Asks for the stop of all sessions at once; how long until the last is confirmed.
async fn stop_all(host: &Host, sessions: &[Ready]) -> Duration {
    let mut asking: Vec<(Wire, Vec<u8>)> = Vec::new();
    for session in sessions {
        let stop = request("POST", &format!("/v1/sessions/{}/stop", session.id), "");
        asking.push((host.wire().await, stop));
    }
    let begin = Instant::now();
    let asking = asking.iter_mut().map(|(wire, stop)| wire.done(stop));
    let all = tokio::time::timeout(BOUND, futures_util::future::join_all(asking)).await;
    assert!(all.is_ok(), "not within {BOUND:?}");
    begin.elapsed()
}
