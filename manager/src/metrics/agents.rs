//! Agents' names as labels: configurations come and go, and each name is a series for as long as the manager runs.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// The most agents that have a name of their own.
const NAMED: usize = 32;
/// The name of all others.
const OTHERS: &str = "other";

/// The agents that have been named.
#[derive(Debug, Default)]
pub(super) struct Agents(Mutex<BTreeSet<String>>);

impl Agents {
    /// The label of an agent that nobody knows any more.
    pub fn unknown() -> String {
        OTHERS.into()
    }

    /// The label of an agent: its name, if it is among the first ones.
    pub fn label(&self, name: &str) -> String {
        let mut named = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !named.contains(name) {
            if named.len() >= NAMED {
                return OTHERS.into();
            }
            named.insert(name.to_owned());
        }
        name.to_owned()
    }
}
