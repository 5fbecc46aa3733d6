//! Occurrences in a run: a simulation in which something never happens proves nothing about it.

use std::collections::BTreeSet;

use manager::core::{Session, State};

use crate::kinds;

/// The names of everything that occurred in a run.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    /// Kinds of effects that were done.
    pub effects: BTreeSet<&'static str>,
    /// Kinds of events that were recorded.
    pub events: BTreeSet<&'static str>,
    /// States that a session was in.
    pub states: BTreeSet<&'static str>,
    /// Phases that turns were in.
    pub phases: BTreeSet<&'static str>,
    /// Reasons for which processes were ended.
    pub whys: BTreeSet<&'static str>,
    /// Observations of processes.
    pub seen: BTreeSet<&'static str>,
    /// Commands to sessions.
    pub commands: BTreeSet<&'static str>,
    /// Codes of refusals.
    pub refusals: BTreeSet<&'static str>,
    /// The number of managers that started.
    pub managers: u64,
    /// The number of processes that were signalled before the end was on record.
    pub acted_first: u64,
    /// The number of managers that were killed between the write of a batch and its sync.
    pub killed_unsynced: u64,
    /// The number of power cuts there.
    pub cut_unsynced: u64,
    /// The number of syncs that failed.
    pub failed_syncs: u64,
}

impl Coverage {
    pub(super) fn saw(&mut self, session: &Session) {
        self.states.insert(kinds::state(&session.state));
        if let State::Stopping { why, .. } | State::Adopting { after: why, .. } = &session.state {
            self.whys.insert(kinds::why(why));
        }
        if let Some(turn) = &session.turns.running {
            self.phases.insert(kinds::phase(&turn.phase));
        }
    }

    /// Adds another run's coverage.
    pub fn join(&mut self, other: Coverage) {
        self.effects.extend(other.effects);
        self.events.extend(other.events);
        self.states.extend(other.states);
        self.phases.extend(other.phases);
        self.whys.extend(other.whys);
        self.seen.extend(other.seen);
        self.commands.extend(other.commands);
        self.refusals.extend(other.refusals);
        self.managers += other.managers;
        self.acted_first += other.acted_first;
        self.killed_unsynced += other.killed_unsynced;
        self.cut_unsynced += other.cut_unsynced;
        self.failed_syncs += other.failed_syncs;
    }
}
