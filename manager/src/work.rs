//! Work of the loop, counted in actions and not in time: levels for tests, benches and people.

use std::sync::atomic::{AtomicU64, Ordering};

/// Work of a manager's loop since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoopWork {
    /// Probes of silent workers.
    pub probes: u64,
    /// Acknowledgements to workers, in commands that contain nothing else.
    pub acknowledgements: u64,
}

/// The counters of [`LoopWork`] while the loop runs.
#[derive(Debug, Default)]
pub struct Work {
    probes: AtomicU64,
    acknowledgements: AtomicU64,
}

impl Work {
    /// A worker was asked for a sign of life.
    pub fn probed(&self) {
        self.probes.fetch_add(1, Ordering::Relaxed);
    }

    /// A worker was told what is on record.
    pub fn acknowledged(&self) {
        self.acknowledgements.fetch_add(1, Ordering::Relaxed);
    }

    /// The counts so far.
    pub fn so_far(&self) -> LoopWork {
        LoopWork {
            probes: self.probes.load(Ordering::Relaxed),
            acknowledgements: self.acknowledgements.load(Ordering::Relaxed),
        }
    }
}
