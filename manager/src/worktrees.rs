//! Where git worktrees of sub-agents lie: in `worktrees/SESSION/` below the state directory, by the session that asked for
//! them. So a session can work in its own and in no other's.

use std::path::{Path, PathBuf};

use protocol::SessionId;

/// The directory of all worktrees, in the state directory.
pub const DIRECTORY: &str = "worktrees";

/// The directory of the worktrees that a session has asked for.
pub fn of_session(state_dir: &Path, id: &SessionId) -> PathBuf {
    state_dir.join(DIRECTORY).join(id.as_str())
}
