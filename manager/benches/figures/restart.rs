//! A death: how long until the session is ready again, and what it costs the daemon.

use std::time::{Duration, Instant};

use harness::real::kill;
use manager::client::Request;

use crate::floor::Floor;
use crate::host::{Host, Ready, Tap, came_up, cpu_ms, pause};
use crate::table::{Aim, Table, quantile};
use crate::{ROUNDS, ms};

/// Kills in one round.
const KILLS: usize = 20;
/// The age of a young session, in milliseconds.
const YOUNG_MS: u64 = 20;

pub async fn measure(table: &mut Table) {
    eprintln!("restart");
    let host = Host::start().await;
    let mut tap = host.tap().await;
    let mut sessions = host.sessions(10).await.0;
    let mut floor = Floor::new();
    floor.spawn(10);
    let few = one_by_one(table, &host, &mut tap, &mut sessions, &mut floor).await;
    young(table, &host, &mut tap, &mut floor).await;

    sessions.extend(host.sessions(990).await.0);
    floor.spawn(990);
    let thousand = one_by_one(table, &host, &mut tap, &mut sessions, &mut floor).await;
    drop(floor);

    let many = many();
    if many > sessions.len() {
        sessions.extend(host.sessions(many - sessions.len()).await.0);
    }
    drain(&host, &mut tap).await;
    let mut most = Vec::new();
    for round in 0..ROUNDS {
        most.push(killed(&host, &mut tap, &mut sessions, round * KILLS).await.1);
    }
    table.alone("daemon's CPU for one exit and restart, 10 sessions", "ms", &few, Aim::Told);
    let flat =
        |count: usize| format!("daemon's CPU for one exit and restart, {count} sessions; floor: 10 sessions");
    table.against(&flat(1000), "ms", &thousand, &few, Aim::Ratio(1.2));
    if many > 1000 {
        table.against(&flat(sessions.len()), "ms", &most, &few, Aim::Ratio(1.2));
    }
    host.end().await;
}

/// How many sessions are many.
pub fn many() -> usize {
    std::env::var("KENNEL_BENCH_MANY").ok().and_then(|many| many.parse().ok()).unwrap_or(5000)
}

/// Reads away what came meanwhile: up to the birth of a session that is made for this.
async fn drain(host: &Host, tap: &mut Tap) {
    let one = async {
        let ready = host.sessions(1).await.0.remove(0);
        host.ask(Request::delete(format!("/v1/sessions/{}?force=true", ready.id))).await;
    };
    tokio::join!(one, tap.until(|kind, _| kind == b"session.deleted"));
}

/// One session after another is killed; ours and the floor take turns. Gives the daemon's CPU for each.
async fn one_by_one(
    table: &mut Table,
    host: &Host,
    tap: &mut Tap,
    sessions: &mut [Ready],
    floor: &mut Floor,
) -> Vec<f64> {
    drain(host, tap).await;
    let (mut ours, mut floors, mut cpu) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let (times, each) = killed(host, tap, sessions, round * KILLS).await;
        ours.push(times);
        cpu.push(each);
        let mut lowest = Vec::new();
        for _ in 0..KILLS {
            let begin = Instant::now();
            lowest.push(ms(floor.replace_one()));
            // As cold as ours.
            tokio::time::sleep(between(sessions.len()).saturating_sub(begin.elapsed())).await;
        }
        floors.push(lowest);
    }
    let count = sessions.len();
    quantiles(table, &format!("kill → ready again, {count} sessions"), &ours, &floors);
    cpu
}

fn quantiles(table: &mut Table, name: &str, ours: &[Vec<f64>], floors: &[Vec<f64>]) {
    for (word, part, aim) in [("p50", 0.5, 0.7), ("p90", 0.9, 1.2)] {
        let of =
            |rounds: &[Vec<f64>]| -> Vec<f64> { rounds.iter().map(|round| quantile(round, part)).collect() };
        table.against(&format!("{name}, {word}"), "ms", &of(ours), &of(floors), Aim::Ratio(aim));
    }
}

/// The time between two kills: a session that dies twice within its period waits for its second restart, as it
/// should.
fn between(count: usize) -> Duration {
    Duration::from_millis(1_000 / count as u64 + 20)
}

/// Kills some, one after the other; each time, and the daemon's CPU for each, all in ms.
async fn killed(host: &Host, tap: &mut Tap, sessions: &mut [Ready], first: usize) -> (Vec<f64>, f64) {
    let before = cpu_ms(host.pid());
    let mut times = Vec::new();
    for n in first..first + KILLS {
        let count = sessions.len();
        let begin = Instant::now();
        times.push(ms(replaced(tap, &mut sessions[n % count]).await));
        tokio::time::sleep(between(count).saturating_sub(begin.elapsed())).await;
    }
    (times, (cpu_ms(host.pid()) - before) / KILLS as f64)
}

/// Kills one; how long until it is ready again.
async fn replaced(tap: &mut Tap, session: &mut Ready) -> Duration {
    let begin = Instant::now();
    kill(session.pid);
    let mut after = None;
    tap.until(|kind, data| {
        if kind == b"session.restarted" {
            let ready = came_up(data);
            after = (ready.id == session.id).then_some(ready);
        }
        after.is_some()
    })
    .await;
    let took = begin.elapsed();
    *session = after.unwrap();
    took
}

/// Sessions that die in their youth, and then again at the same age.
async fn young(table: &mut Table, host: &Host, tap: &mut Tap, floor: &mut Floor) {
    let (mut ours, mut again, mut floors) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (mut first, mut second, mut lowest) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..KILLS / 2 {
            let mut ready = host.sessions(1).await.0.remove(0);
            pause(YOUNG_MS).await;
            first.push(ms(replaced(tap, &mut ready).await));
            pause(YOUNG_MS).await;
            second.push(ms(replaced(tap, &mut ready).await));
            host.ask(Request::delete(format!("/v1/sessions/{}?force=true", ready.id))).await;
            pause(YOUNG_MS).await;
            lowest.push(ms(floor.replace_one()));
        }
        ours.push(first);
        again.push(quantile(&second, 0.5));
        floors.push(lowest);
    }
    quantiles(table, &format!("kill → ready again, session {YOUNG_MS} ms old"), &ours, &floors);
    let name = "the same again within the period: 10 ms of backoff are meant, p50";
    table.alone(name, "ms", &again, Aim::Told);
}
