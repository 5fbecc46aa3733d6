//! The counters of the judge: deaths of a session's processes, and starts that never ran its program.

use serde::{Deserialize, Serialize};

/// The deaths that count. One window decides both whether there were too many and how long to wait. So there
/// is no timer to reset, and a stable run clears the window by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deaths(Vec<u64>);

impl Deaths {
    /// The number of deaths within the period that ends `now`.
    pub fn within(&self, now: u64, period_ms: u64) -> u32 {
        self.0.iter().filter(|&&at| at + period_ms > now).count() as u32
    }

    /// Forgets all of them: somebody restarted the session by hand, or the machine.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    pub(in crate::core) fn record(&mut self, now: u64, period_ms: u64) -> u32 {
        self.0.retain(|&at| at + period_ms > now);
        self.0.push(now);
        self.0.len() as u32
    }
}

/// Starts in a row of which none came to run its program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Absence {
    /// When the first of them failed, in milliseconds since boot.
    pub since: u64,
    /// The number of these starts.
    pub starts: u32,
    /// Why the last of them failed, for a person; empty in a journal of an earlier version.
    #[serde(default)]
    pub reason: String,
}
