//! Removal of history, a small part in each turn of the loop, so that everything else goes on.

use std::collections::VecDeque;

use super::Supervisor;
use crate::error::Error;
use crate::journal::{Cut, JournalError};
use crate::supervisor::inbox::{PruneReply, Pruned};
use crate::supervisor::room::Room;

/// A part of the history that is being removed.
pub struct Pruning {
    cuts: VecDeque<Cut>,
    /// The last event of the first cut that was looked at.
    at: u64,
    free_before: Option<u64>,
    done: Pruned,
    reply: PruneReply,
}

impl Pruning {
    /// A part of the history of which nothing is removed yet.
    pub fn new(cuts: Vec<Cut>, reply: PruneReply) -> Self {
        Self { cuts: cuts.into(), at: 0, free_before: None, done: Pruned::default(), reply }
    }
}

impl Supervisor {
    /// Returns true if some history waits to be removed.
    pub(super) fn prunes(&self) -> bool {
        !self.pruning.is_empty() || (self.clears && self.room == Room::Plenty)
    }

    /// Removes a part of what is left of removed sessions.
    pub(super) fn clear_away(&mut self) {
        if self.clears && self.room == Room::Plenty {
            self.clears = self.journal.clear_away().unwrap_or_else(|error| {
                // The next removal, or the next manager, goes on.
                tracing::warn!(%error, "what is left of removed sessions stays for now");
                false
            });
        }
    }

    /// Removes a part of the history that a client wants pruned.
    pub(super) fn prune(&mut self) {
        let Some(mut pruning) = self.pruning.pop_front() else { return };
        if self.room != Room::Plenty {
            let full = "there is no room for what is written when history goes";
            return drop(pruning.reply.send(Err(Error::Journal(full.into()))));
        }
        match self.take_bite(&mut pruning) {
            Ok(()) if pruning.cuts.is_empty() => {
                let free = self.journal.free_bytes().unwrap_or_default();
                pruning.done.freed = free.saturating_sub(pruning.free_before.unwrap_or(free));
                // The client may have gone.
                let _ = pruning.reply.send(Ok(pruning.done));
            }
            Ok(()) => self.pruning.push_back(pruning),
            // The parts that were removed stay removed, and the error says so.
            Err(error) => drop(pruning.reply.send(Err(Error::Journal(error.to_string())))),
        }
    }

    fn take_bite(&mut self, pruning: &mut Pruning) -> Result<(), JournalError> {
        if pruning.free_before.is_none() {
            pruning.free_before = Some(self.journal.free_bytes()?);
        }
        let Some(cut) = pruning.cuts.front() else { return Ok(()) };
        // Since it was looked at the session may have been removed, or its id may have come to another.
        let stands = match &cut.session {
            Some(id) => self.fleet.get(id).is_some_and(|session| session.needs_from() > cut.upto),
            None => cut.owner().is_none_or(|id| self.fleet.get(&id).is_none()),
        };
        let bite = if stands { self.journal.bite(cut, pruning.at)? } else { Default::default() };
        if bite.events > 0 {
            self.feed.forget(bite.last_gone);
        }
        let of = pruning.done.of.entry(cut.session.clone()).or_default();
        *of = (of.0 + bite.events, of.1 + bite.bytes, of.2.max(bite.last_gone));
        match bite.upto.filter(|upto| *upto < cut.upto) {
            Some(upto) => pruning.at = upto,
            None => {
                pruning.cuts.pop_front();
                pruning.at = 0;
            }
        }
        Ok(())
    }
}
