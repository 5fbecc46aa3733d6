//! What the state directory takes of the disk, by what and by whom.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::SessionId;

/// What the state directory takes of its disk. Sizes are in bytes; those of files are their lengths.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DiskUsage {
    /// The state directory.
    pub state_dir: String,
    /// What this user could still write to its file system.
    pub available_bytes: u64,
    /// What the files take that are told of here: journal, logs, spools, damaged journals, leftovers, reserve and worktrees.
    pub total_bytes: u64,
    /// The record of all that happened.
    pub journal: JournalUsage,
    /// Logs of sessions.
    pub log_bytes: u64,
    /// The daemon's own log.
    pub daemon_log_bytes: u64,
    /// What workers have said that no manager has recorded yet.
    pub spool_bytes: u64,
    /// What is kept back for a full disk.
    pub reserve_bytes: u64,
    /// Git worktrees of sub-agents.
    #[serde(default)]
    pub worktree_bytes: u64,
    /// The same, each by itself, by name.
    #[serde(default)]
    pub worktrees: Vec<WorktreeUsage>,
    /// Damaged journals that were kept.
    pub damaged: Vec<FileUsage>,
    /// Files that belong to nothing any more: logs of sessions that are no more, and what was to become a journal.
    pub leftovers: Vec<FileUsage>,
    /// By session, the largest first.
    pub sessions: Vec<SessionUsage>,
}

/// What the journal takes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JournalUsage {
    /// The file.
    pub file_bytes: u64,
    /// How much of the file is empty: what is recorded next goes there, and the file does not grow.
    pub free_bytes: u64,
    /// The log of its newest commits, beside it. It is written over and over, and seldom longer than 4 MiB.
    pub wal_bytes: u64,
    /// Events on record.
    pub events: u64,
    /// Their JSON. With what the journal needs around it this is a little less than what they take of the file.
    pub event_bytes: u64,
    /// Prompts that may still be run, whose texts are kept beside their events.
    pub prompts: u64,
    /// Their texts.
    pub prompt_bytes: u64,
    /// Attachments of these prompts; those of others are gone.
    pub attachments: u64,
    /// Their content, as it is kept.
    pub attachment_bytes: u64,
}

/// A file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FileUsage {
    /// Its name in the state directory.
    pub name: String,
    /// Its length.
    pub bytes: u64,
}

/// A git worktree that kennel has made for a sub-agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WorktreeUsage {
    /// Its name in the state directory: `worktrees/SESSION/NAME`, by the session that asked for it.
    pub name: String,
    /// The lengths of its files. kennel counts at most a million files in all worktrees together.
    pub bytes: u64,
    /// The sessions whose working directory is in it, whatever their status.
    pub sessions: Vec<SessionId>,
}

/// What a session takes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SessionUsage {
    /// The session; null: what belongs to none, as what the manager has to say of itself and of removed sessions.
    pub id: Option<SessionId>,
    /// All of the following.
    pub bytes: u64,
    /// Events on record.
    pub events: u64,
    /// Their JSON.
    pub event_bytes: u64,
    /// Texts and attachments of prompts that may still be run.
    pub prompt_bytes: u64,
    /// Its log.
    pub log_bytes: u64,
    /// What its workers have said that is not on record yet.
    pub spool_bytes: u64,
    /// Git worktrees: of the first session that works there, else of the one that asked for them.
    #[serde(default)]
    pub worktree_bytes: u64,
}
