//! The counts of a campaign, and the observations.

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::event::Event;
use protocol::{PromptId, SessionId};

use super::errands::{By, Errand, Errands};
use crate::rng::Rng;

/// Counted on the way.
#[derive(Default)]
pub(crate) struct Tally {
    /// By fault: how often it struck.
    pub(crate) struck: BTreeMap<String, u64>,
    pub(crate) kills: u64,
    /// Cuts of the line between two machines.
    pub(crate) cuts: u64,
    pub(crate) slow_reads: u64,
    pub(crate) refusals: BTreeMap<String, u64>,
    pub(crate) quiets: u64,
}

/// Observations since the last quiet moment, for the history, in order.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) events: Vec<Arc<Event>>,
    pub(crate) views: Vec<(String, Arc<Event>)>,
    pub(crate) acknowledged: Vec<(SessionId, PromptId, String)>,
    pub(crate) tokens: Vec<(SessionId, String)>,
    /// Restarts that were asked for, from when to when, in Unix milliseconds.
    pub(crate) restarts: Vec<(SessionId, u64, u64)>,
    pub(crate) violations: Vec<(Option<SessionId>, String)>,
}

/// Points that no process has reached when all kills are done.
pub(crate) struct Missed {
    pub(crate) rng: Rng,
    pub(crate) points: Vec<String>,
    pub(crate) errands: Errands,
}

impl Missed {
    pub(crate) fn errand(&mut self, by: By) -> Option<Errand> {
        self.errands.choose(self.points.iter().map(String::as_str), by, &mut self.rng)
    }
}
