//! The time of a step.

/// The time of a step. Deadlines use `mono`, which no change of the wall clock moves; people see `wall`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At {
    /// Milliseconds since boot without sleep (CLOCK_MONOTONIC, clock_gettime(2)), less the time in which the
    /// manager could read no message. The next manager goes on from there; another boot begins anew.
    pub mono: u64,
    /// Milliseconds since 1970 (CLOCK_REALTIME).
    pub wall: u64,
    /// The manager is on its way out: nothing is started any more.
    pub closing: bool,
}
