//! Disk usage of the state directory, by kind of file and by session.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::SessionId;

/// Disk usage of the state directory. Sizes are in bytes; the size of a file is its length.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DiskUsage {
    /// Path of the state directory.
    pub state_dir: String,
    /// Free space on its file system for this user.
    pub available_bytes: u64,
    /// Size of all files of this report: journal, logs, spools, damaged journals, leftovers, reserve, worktrees and the index of the
    /// search.
    pub total_bytes: u64,
    /// Usage of the journal.
    pub journal: JournalUsage,
    /// Size of the sessions' logs.
    pub log_bytes: u64,
    /// Size of the daemon's own log.
    pub daemon_log_bytes: u64,
    /// Size of the spools: reports of workers that no manager has recorded yet.
    pub spool_bytes: u64,
    /// Size of the reserve for a full disk.
    pub reserve_bytes: u64,
    /// Size of the index of the search. `kennel search` makes it anew if it is deleted.
    #[serde(default)]
    pub search_bytes: u64,
    /// Size of the sub-agents' git worktrees.
    #[serde(default)]
    pub worktree_bytes: u64,
    /// Usage of each git worktree, by name.
    #[serde(default)]
    pub worktrees: Vec<WorktreeUsage>,
    /// Damaged journals that kennel kept.
    pub damaged: Vec<FileUsage>,
    /// Leftovers: logs of sessions that no longer exist, and unfinished journals.
    pub leftovers: Vec<FileUsage>,
    /// Usage of each session, the largest first.
    pub sessions: Vec<SessionUsage>,
}

/// Disk usage of the journal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JournalUsage {
    /// Size of the file.
    pub file_bytes: u64,
    /// Free space inside the file. The next records go there, and the file does not grow.
    pub free_bytes: u64,
    /// Size of the write-ahead log beside it. SQLite reuses the log; it is seldom longer than 4 MiB.
    pub wal_bytes: u64,
    /// Number of recorded events.
    pub events: u64,
    /// Size of their JSON. In the file they take a little more.
    pub event_bytes: u64,
    /// Number of prompts that may still run. The journal has their texts beside their events.
    pub prompts: u64,
    /// Size of their texts.
    pub prompt_bytes: u64,
    /// Number of attachments of these prompts. The journal has no others.
    pub attachments: u64,
    /// Size of their content in the journal.
    pub attachment_bytes: u64,
}

/// A file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FileUsage {
    /// Name in the state directory.
    pub name: String,
    /// Length of the file.
    pub bytes: u64,
}

/// A git worktree that kennel has made for a sub-agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WorktreeUsage {
    /// Path in the state directory: `worktrees/SESSION/NAME`, by the session that requested the worktree.
    pub name: String,
    /// Sum of the lengths of its files. kennel counts at most a million files in all worktrees together.
    pub bytes: u64,
    /// Sessions with their working directory in it, whatever their status.
    pub sessions: Vec<SessionId>,
}

/// Disk usage of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SessionUsage {
    /// The session. null for records without a session: those about the manager and about removed sessions.
    pub id: Option<SessionId>,
    /// Sum of the following sizes.
    pub bytes: u64,
    /// Number of recorded events.
    pub events: u64,
    /// Size of their JSON.
    pub event_bytes: u64,
    /// Size of texts and attachments of prompts that may still run.
    pub prompt_bytes: u64,
    /// Size of its log.
    pub log_bytes: u64,
    /// Size of its workers' reports that are not recorded yet.
    pub spool_bytes: u64,
    /// Size of its git worktrees. A worktree counts for the first session that works there, otherwise for the session that
    /// asked for it.
    #[serde(default)]
    pub worktree_bytes: u64,
}
