//! The names of files in the state directory.

/// The directory of worktrees for sub-agents, in the state directory.
pub const WORKTREES: &str = "worktrees";
/// The journal's file, in the state directory.
pub const JOURNAL: &str = "journal.db";
/// The socket, where it is in the state directory.
pub const SOCKET: &str = "kennel.sock";
