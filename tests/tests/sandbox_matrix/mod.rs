//! A hostile agent against every sandbox: each probe × bubblewrap and Landlock × `workdir` and `strict` ×
//! root and an ordinary user. `tests/src/bin/hostile-agent.rs` and `tests/src/hostile/probes.c` make the
//! attempts; the tables below hold the expected results. Run with `--nocapture` to see the whole matrix.
//!
//! Each probe also runs without a sandbox, where it must succeed: else it would prove nothing.

mod cell;
mod editor;
mod hooks;
mod kind;
mod outside;
mod swaps;
mod table;

use std::collections::BTreeMap;
use std::fmt::Write;

use manager::protocol::{Sandbox, SandboxBy};

use self::cell::Cell;
use self::kind::{Kind, Results};
use self::table::{Control, Probe, probes};
use super::containment::users;
use super::sandbox::makers;

/// All probes in one cell.
fn tried(kind: Kind) -> Results {
    let cell = Cell::new(kind);
    cell.tries(&probes())
}

/// Returns the unexpected results of this cell.
fn faults(kind: Kind, probes: &[Probe], results: &Results) -> Vec<String> {
    let mut faults = Vec::new();
    for probe in probes {
        let none = (String::from("missing"), String::new());
        let (word, why) = results.get(&probe.name).unwrap_or(&none);
        let wanted = match kind.sandbox {
            Sandbox::None => match probe.control {
                Control::Everybody => "reached",
                Control::Root if kind.is_root() => "reached",
                Control::Root | Control::None(_) => continue,
            },
            _ if probe.expect.reaches(kind.by, kind.sandbox, kind.is_root()) => "reached",
            _ => "refused",
        };
        // No probe can reach a feature that the kernel lacks.
        if word != wanted && word != "unsupported" {
            faults.push(format!("{}: `{}` is {word}, and is to be {wanted}: {why}", kind.name(), probe.name));
        }
    }
    faults
}

#[test]
fn a_hostile_agent_reaches_in_every_sandbox_what_it_may_and_nothing_else() {
    let mut kinds = Vec::new();
    for user in users() {
        kinds.push(Kind { user: *user, by: SandboxBy::Landlock, sandbox: Sandbox::None });
        for by in makers() {
            for sandbox in [Sandbox::Workdir, Sandbox::Strict] {
                kinds.push(Kind { user: *user, by, sandbox });
            }
        }
    }
    let probes = probes();
    let started = std::time::Instant::now();
    let queue = std::sync::Mutex::new(kinds.iter().enumerate());
    let results = std::sync::Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some((n, kind)) = { queue.lock().unwrap().next() } {
                    let tried = tried(*kind);
                    results.lock().unwrap().insert(n, tried);
                }
            });
        }
    });
    let results = results.into_inner().unwrap();
    println!(
        "{} probes in {} cells, {:?}\n{}",
        probes.len(),
        kinds.len(),
        started.elapsed(),
        shown(&kinds, &probes, &results)
    );
    let faults: Vec<String> =
        kinds.iter().enumerate().flat_map(|(n, kind)| faults(*kind, &probes, &results[&n])).collect();
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

/// The matrix, a line for each probe.
fn shown(kinds: &[Kind], probes: &[Probe], results: &BTreeMap<usize, Results>) -> String {
    let mut text = String::new();
    for (n, kind) in kinds.iter().enumerate() {
        writeln!(text, "column {n}: {}", kind.name()).unwrap();
    }
    for probe in probes {
        let words =
            (0..kinds.len()).map(|n| results[&n].get(&probe.name).map_or("missing", |(word, _)| word));
        let words: Vec<String> = words.map(|word| format!("{word:8.8}")).collect();
        writeln!(text, "{:56} {}", probe.name, words.join(" ")).unwrap();
        if let Control::None(why) = probe.control {
            writeln!(text, "    is not tried without a sandbox: {why}").unwrap();
        }
    }
    text
}
