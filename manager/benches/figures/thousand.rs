//! A thousand sessions: born, all killed at once, stopped; and the memory that they take.

use std::time::{Duration, Instant};

use harness::real::kill;

use crate::floor::Floor;
use crate::host::{Host, Ready, came_up, pause, pss, written};
use crate::table::{Aim, Table};
use crate::{ROUNDS, ms};

const COUNT: usize = 1000;
/// Mass crashes after which memory is compared with that after the first.
const CRASHES: usize = 10;

pub async fn measure(table: &mut Table) {
    eprintln!("thousand");
    let (mut cold, mut crash, mut gone, mut stop) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut cold_floor, mut crash_floor, mut stop_floor) = (Vec::new(), Vec::new(), Vec::new());
    let (mut empty, mut own) = (Vec::new(), Vec::new());
    let (mut marginal, mut worker) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let host = Host::start().await;
        pause(500).await;
        empty.push(pss(host.pid()) / 1024.0);
        own.push(written(host.pid()) / 1024.0);
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
        crash.push(ms(mass_crash(&host, &mut sessions).await));
        if round == ROUNDS - 1 {
            memory_after_crashes(table, &host, &mut sessions).await;
        }
        let (processes, daemon) = host.ended(&sessions);
        gone.push(ms(processes));
        stop.push(ms(daemon));

        let mut floor = Floor::new();
        cold_floor.push(ms(floor.spawn(COUNT)));
        crash_floor.push(ms(floor.replace_all()));
        stop_floor.push(ms(floor.end()));
    }
    table.against("1,000 sessions from nothing to ready", "ms", &cold, &cold_floor, Aim::Ratio(1.2));
    table.against("all 1,000 killed at once → all ready", "ms", &crash, &crash_floor, Aim::Ratio(1.0));
    let name = "stop of the daemon with 1,000 sessions";
    table.against(&format!("{name} → all processes dead"), "ms", &gone, &stop_floor, Aim::Ratio(1.5));
    table.against(&format!("{name} → daemon dead"), "ms", &stop, &stop_floor, Aim::Ratio(2.0));
    table.alone("manager's memory without sessions, written to", "MiB", &own, Aim::AtMost(6.0));
    table.alone("… with the pages of its program (PSS)", "MiB", &empty, Aim::Told);
    let name = "manager's memory for one idle session (PSS, 100 → 1,000)";
    table.alone(name, "KiB", &marginal, Aim::AtMost(8.0));
    table.alone("worker's memory (PSS, among 1,000)", "KiB", &worker, Aim::AtMost(100.0));
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
