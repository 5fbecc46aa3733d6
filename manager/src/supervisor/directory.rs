//! The state directory: its owner, its mode and its contents are checked before use.

use std::io;
use std::path::{Path, PathBuf};

use crate::address;
use crate::address::LOCK;
use crate::error::StartError;
use crate::journal::{Journal, reserve};
use crate::supervisor::files::{JOURNAL, SOCKET, WORKTREES};
use crate::system::owned;
use crate::workers::{logs, shelter, tokens};

/// Checks that this kennel can read the journal in a directory. A directory without a journal passes. Changes nothing.
pub fn check(state_dir: &Path) -> Result<(), StartError> {
    match trusted(state_dir)? {
        Some(state_dir) => Journal::check(&state_dir.join(JOURNAL)),
        None => Ok(()),
    }
}

/// The state directory's path without links, if it is there: it and what kennel has in it are this user's alone. Opens and
/// changes nothing.
pub fn trusted(state_dir: &Path) -> Result<Option<PathBuf>, StartError> {
    let unusable = |source| StartError::StateDir { path: state_dir.to_owned(), source };
    let Some(found) = owned::existing(state_dir).map_err(unusable)? else { return Ok(None) };
    trust_contents(&found).map_err(unusable)?;
    Ok(Some(found))
}

/// The state directory's path without links. Made if it is not there; as [`trusted`] otherwise.
pub fn take(state_dir: &Path) -> Result<PathBuf, StartError> {
    let unusable = |source| StartError::StateDir { path: state_dir.to_owned(), source };
    let taken = owned::directory(state_dir).map_err(unusable)?;
    trust_contents(&taken).map_err(unusable)?;
    Ok(taken)
}

/// Checks the owner and mode of all that kennel opens in a state directory. Ignores other names.
fn trust_contents(state_dir: &Path) -> io::Result<()> {
    let directories = [logs::DIRECTORY, shelter::DIRECTORY, tokens::DIRECTORY];
    let files = [LOCK, address::NAME, reserve::NAME, WORKTREES, SOCKET, "kennel.sock.lock"];
    owned::contents(state_dir, |name| {
        directories.contains(&name)
            || files.contains(&name)
            || name.starts_with(JOURNAL)
            || name.starts_with(logs::DAEMON)
    })?;
    for directory in directories.map(|name| state_dir.join(name)).iter().filter(|path| path.is_dir()) {
        owned::contents(directory, |_| true)?;
    }
    Ok(())
}
