//! What the loop has done, counted in things done and not in time: levels that tests, benches and people can look at.

use std::sync::atomic::{AtomicU64, Ordering};

/// What a manager's loop has done since it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoopWork {
    /// How often a worker that was silent was asked for a sign of life.
    pub probes: u64,
    /// How often a worker was told what of it is on record, in a command that says nothing else.
    pub acknowledgements: u64,
}

/// The same while it is counted.
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

    /// What was counted so far.
    pub fn so_far(&self) -> LoopWork {
        LoopWork {
            probes: self.probes.load(Ordering::Relaxed),
            acknowledgements: self.acknowledgements.load(Ordering::Relaxed),
        }
    }
}
