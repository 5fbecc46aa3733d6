//! The order of a batch's effects: those that need only the written record come before the sync.

use std::collections::BTreeSet;

use protocol::SessionId;

use crate::core::effect::{Effect, Needs};
use crate::core::fleet::Change;

/// The effects of a batch of changes, by what they need.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Effects to perform once the batch is written.
    pub written: Vec<(SessionId, Effect)>,
    /// Effects to perform once the batch is synced.
    pub synced: Vec<(SessionId, Effect)>,
}

impl Effects {
    /// Sorts the effects of `changes`. The effects of one session keep their order: an effect that follows one that waits for
    /// the sync waits as well.
    pub fn of(changes: &[Change]) -> Self {
        let mut all = Self::default();
        let mut waiting = BTreeSet::new();
        for (id, effect) in changes.iter().flat_map(|change| &change.effects) {
            let into = match effect.needs() {
                Needs::Written if !waiting.contains(id) => &mut all.written,
                Needs::Written | Needs::Synced => {
                    waiting.insert(id);
                    &mut all.synced
                }
            };
            into.push((id.clone(), effect.clone()));
        }
        all
    }
}
