//! The two clocks. Deadlines use the one that nobody can set.

use protocol::failpoint;
use rustix::time::{ClockId, clock_gettime};

/// Milliseconds since boot, time asleep included (CLOCK_BOOTTIME, clock_gettime(2)).
pub fn mono_ms() -> u64 {
    milliseconds(ClockId::Boottime)
}

/// Milliseconds since 1970.
pub fn wall_ms() -> u64 {
    milliseconds(ClockId::Realtime).saturating_add_signed(failpoint::set_by("wall"))
}

fn milliseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    time.tv_sec.max(0) as u64 * 1000 + time.tv_nsec.max(0) as u64 / 1_000_000
}
