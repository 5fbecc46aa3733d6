//! The clocks. Deadlines use the monotonic clock: no user can set it, and it stands still while the machine sleeps, because no
//! process works then.

use protocol::failpoint;
use rustix::time::{ClockId, clock_gettime};

/// Milliseconds since boot, time asleep not included (CLOCK_MONOTONIC, clock_gettime(2)).
pub fn mono_ms() -> u64 {
    milliseconds(ClockId::Monotonic)
}

/// Time that the machine has slept since boot, in milliseconds.
pub fn asleep_ms() -> u64 {
    let boot = milliseconds(ClockId::Boottime).saturating_add_signed(failpoint::set_by("boot"));
    boot.saturating_sub(mono_ms())
}

/// Milliseconds since 1970.
pub fn wall_ms() -> u64 {
    milliseconds(ClockId::Realtime).saturating_add_signed(failpoint::set_by("wall"))
}

fn milliseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    time.tv_sec.max(0) as u64 * 1000 + time.tv_nsec.max(0) as u64 / 1_000_000
}
