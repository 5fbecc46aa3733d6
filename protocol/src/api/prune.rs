//! What of a history may go, and what is said of it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::disk::FileUsage;
use crate::{EventId, SessionId};

/// What may go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PruneRequest {
    /// History that is older than this, in milliseconds: turns that ended before, with all that was recorded until
    /// then. Absent: no history.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub older_than_ms: Option<u64>,
    /// History, the oldest first, until the journal has no more than so many bytes in use. Absent: as much as there is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
    /// Damaged journals that were kept.
    pub damaged: bool,
    /// Say what would go, and remove nothing.
    pub dry_run: bool,
}

/// What is gone, or would be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PruneReport {
    /// Nothing was removed: this is what would be.
    pub dry_run: bool,
    /// Events.
    pub events: u64,
    /// Their JSON, in bytes.
    pub event_bytes: u64,
    /// How much more of the journal's file is empty than before, in bytes; 0 for what only would be. The file keeps its
    /// length, and what is recorded next goes there.
    pub freed_bytes: u64,
    /// What went of which session.
    pub sessions: Vec<PrunedSession>,
    /// Damaged journals.
    pub damaged: Vec<FileUsage>,
    /// Files that belonged to nothing any more.
    pub leftovers: Vec<FileUsage>,
    /// Git worktrees of sub-agents. Only the command `kennel prune` looks at them and removes some: the manager runs no git.
    #[serde(default)]
    pub worktrees: Vec<PrunedWorktree>,
}

/// What becomes of a git worktree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PrunedWorktree {
    /// Its name in the state directory.
    pub name: String,
    /// The lengths of its files.
    pub bytes: u64,
    /// Why it stays; absent: it is gone with its branch, or would be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stays: Option<String>,
}

/// What is gone of a session's history, or would be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PrunedSession {
    /// The session; null: of none that exists.
    pub id: Option<SessionId>,
    /// Events.
    pub events: u64,
    /// Their JSON, in bytes.
    pub event_bytes: u64,
    /// From this event on all is there.
    pub first_available: EventId,
}

/// In a stream of events, as `event: gap`, without an id: between what came before it and this event something was
/// pruned. What is left of that follows; from this event on all is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Gap {
    /// The first event from which on all is there.
    pub first_available: EventId,
}
