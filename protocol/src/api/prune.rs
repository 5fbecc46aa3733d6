//! Requests to prune history, and the reports on them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::disk::FileUsage;
use crate::{EventId, SessionId};

/// Body of a request to prune.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PruneRequest {
    /// Age in milliseconds. kennel prunes turns that ended before, with all that was recorded until then. 0: all
    /// turns that have ended. Absent: no limit by age.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub older_than_ms: Option<u64>,
    /// Limit of the journal in bytes. kennel prunes history, the oldest first, until the journal is below the limit.
    /// 16 MiB or more. Absent: no limit by size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
    /// Prune the damaged journals that kennel kept, too.
    pub damaged: bool,
    /// Report what pruning would remove, and remove nothing.
    pub dry_run: bool,
}

/// Result of pruning, or of a dry run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PruneReport {
    /// This is a dry run: kennel removed nothing.
    pub dry_run: bool,
    /// Number of removed events.
    pub events: u64,
    /// Size of their JSON, in bytes.
    pub event_bytes: u64,
    /// Space that became free inside the journal's file, in bytes; 0 in a dry run. The file keeps its length, and the next
    /// records go there.
    pub freed_bytes: u64,
    /// Result for each session.
    pub sessions: Vec<PrunedSession>,
    /// Removed damaged journals.
    pub damaged: Vec<FileUsage>,
    /// Removed leftover files.
    pub leftovers: Vec<FileUsage>,
    /// Git worktrees of sub-agents. Only the command `kennel prune` looks at them and removes some: the manager runs no git.
    #[serde(default)]
    pub worktrees: Vec<PrunedWorktree>,
}

/// Result for a git worktree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PrunedWorktree {
    /// Name in the state directory.
    pub name: String,
    /// Sum of the lengths of its files.
    pub bytes: u64,
    /// Reason for keeping it; absent if it and its branch are removed, or would be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stays: Option<String>,
}

/// Result of pruning for one session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PrunedSession {
    /// The session; null for records without an existing session.
    pub id: Option<SessionId>,
    /// Number of removed events.
    pub events: u64,
    /// Size of their JSON, in bytes.
    pub event_bytes: u64,
    /// First event from which the history is complete.
    pub first_available: EventId,
}

/// The event that a client receives when its cursor points at pruned history: `event: gap` in the stream, without an id.
/// The rest of that history follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Gap {
    /// First event from which the history is complete.
    pub first_available: EventId,
}
