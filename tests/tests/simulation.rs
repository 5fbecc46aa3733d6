//! The simulation's seeds. `KENNEL_SIM_SEED=n cargo test -p kennel-tests simulation` runs one of them again.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use harness::kinds;
use harness::sim::{Coverage, run, run_by};

const SEEDS: u64 = 256;
const STEPS: usize = 2_000;
/// The refusals of answers to permissions, of clients, and of keys.
const REFUSALS: &[&str] = &[
    "no_such_permission",
    "permission_settled",
    "no_such_option",
    "driven",
    "not_driver",
    "id_unusable",
    "no_such_session",
];

#[test]
fn simulation_keeps_every_promise_whenever_anything_dies() {
    if let Some(seed) = std::env::var("KENNEL_SIM_SEED").ok().and_then(|seed| seed.parse().ok()) {
        run(seed, STEPS).unwrap_or_else(|problem| panic!("{problem}"));
        return;
    }
    let next = AtomicU64::new(0);
    let work = || {
        let mut coverage = Coverage::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= SEEDS {
                return Ok(coverage);
            }
            coverage.join(run(seed, STEPS)?);
        }
    };
    let coverage = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2).map(|_| scope.spawn(work)).collect();
        let mut all = Coverage::default();
        for thread in threads {
            let found: Result<Coverage, String> = thread.join().unwrap();
            all.join(
                found.unwrap_or_else(|problem| panic!("{problem}\nKENNEL_SIM_SEED=n runs that seed alone")),
            );
        }
        all
    });
    // A simulation in which something never happens proves nothing about it.
    missing("effect", kinds::EFFECTS, &coverage.effects);
    missing("state", kinds::STATES, &coverage.states);
    missing("event", kinds::EVENTS, &coverage.events);
    missing("phase of a turn", kinds::PHASES, &coverage.phases);
    missing("reason to end a process", kinds::WHYS, &coverage.whys);
    missing("observation", kinds::SEEN, &coverage.seen);
    missing("command", kinds::COMMANDS, &coverage.commands);
    missing("refusal", REFUSALS, &coverage.refusals);
    assert!(coverage.acted_first > SEEDS / 4, "only {} acted before the record", coverage.acted_first);
    assert!(coverage.killed_unsynced > SEEDS / 2, "{} killed before a sync", coverage.killed_unsynced);
    assert!(coverage.cut_unsynced > SEEDS / 2, "{} power cuts before a sync", coverage.cut_unsynced);
    assert!(coverage.failed_syncs > SEEDS / 4, "{} syncs failed", coverage.failed_syncs);
    assert!(coverage.managers > 4 * SEEDS, "managers died {} times only", coverage.managers);
}

fn missing(what: &str, all: &[&'static str], found: &BTreeSet<&'static str>) {
    let missing: Vec<&&str> = all.iter().filter(|name| !found.contains(*name)).collect();
    assert!(missing.is_empty(), "no {what} {missing:?} in {SEEDS} seeds");
}

#[test]
fn simulation_of_a_clock_that_jumps_an_hour_either_way_is_the_same_as_without() {
    for seed in 0..8 {
        let (_, runs_on) = run_by(seed, STEPS, false).unwrap_or_else(|problem| panic!("{problem}"));
        let (_, jumps) = run_by(seed, STEPS, true).unwrap_or_else(|problem| panic!("{problem}"));
        assert!(runs_on.len() > 100, "{} events", runs_on.len());
        let differs = runs_on.iter().zip(&jumps).find(|(one, other)| one != other);
        assert_eq!(differs, None, "seed {seed}");
        assert_eq!(runs_on.len(), jumps.len(), "seed {seed}");
    }
}
