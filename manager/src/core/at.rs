//! The time of a step.

/// When a step happens. Deadlines use `mono`, which no change of the wall clock moves; people are shown `wall`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At {
    /// Milliseconds since boot, time asleep not included (CLOCK_MONOTONIC, clock_gettime(2)), less what the manager could not
    /// hear in. Goes on from manager to manager; another boot begins anew.
    pub mono: u64,
    /// Milliseconds since 1970 (CLOCK_REALTIME).
    pub wall: u64,
    /// The manager is on its way out: nothing is started any more.
    pub closing: bool,
}
