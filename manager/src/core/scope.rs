//! The sessions that a client reaches.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use protocol::{KeyId, SessionId};

use crate::core::model::session::Session;

/// Sessions that a client reaches. A sub-agent belongs to the session above it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// All sessions.
    #[default]
    All,
    /// The sessions with these ids, and those below them.
    Ids(Arc<BTreeSet<SessionId>>),
    /// The sessions that this key has started, and those below them.
    Own(KeyId),
    /// The sessions that have all of these labels now, and those below them.
    Labels(Arc<BTreeMap<String, String>>),
}

impl Scope {
    /// Returns true for a client that starts no sessions but sub-agents that are no stronger than their parent. Whoever may start
    /// any session may run any command as the user.
    pub fn starts_none(&self) -> bool {
        match self {
            Self::All | Self::Own(_) => false,
            Self::Ids(_) | Self::Labels(_) => true,
        }
    }

    /// Returns true if the session has the labels of a scope by labels.
    pub fn is_by_label_of(&self, session: &Session) -> bool {
        let has = |(label, value)| session.spec.labels.get(label) == Some(value);
        matches!(self, Self::Labels(labels) if !labels.is_empty() && labels.iter().all(has))
    }
}
