//! Git worktrees of sub-agents: each lies in `worktrees/SESSION/` below the state directory, by the session that
//! requested it. So a session can work in its own worktrees and in no other's.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use protocol::SessionId;
use protocol::api::WorktreeUsage;

/// The directory of all worktrees, in the state directory.
pub const DIRECTORY: &str = "worktrees";
/// So many files are counted. What an agent makes has no bound, and a look at the disk has one.
const MOST_FILES: usize = 1_000_000;

/// The directory of the worktrees that a session has asked for.
pub fn of_session(state_dir: &Path, id: &SessionId) -> PathBuf {
    state_dir.join(DIRECTORY).join(id.as_str())
}

/// The session that has asked for a worktree of this name.
pub fn asked_for_by(name: &str) -> Option<SessionId> {
    name.strip_prefix(DIRECTORY)?.strip_prefix('/')?.split('/').next()?.parse().ok()
}

/// The name of the worktree in which a directory is, if it is in one.
pub fn around(state_dir: &Path, directory: &Path) -> Option<String> {
    let below = directory.strip_prefix(state_dir.join(DIRECTORY)).ok()?;
    let mut parts = below.iter().map(|part| part.to_str());
    let (session, name) = (parts.next()??, parts.next()??);
    Some(format!("{DIRECTORY}/{session}/{name}"))
}

/// The names of all worktrees, or of those that a session has asked for.
pub fn names(state_dir: &Path, of: Option<&SessionId>) -> io::Result<Vec<String>> {
    let all = state_dir.join(DIRECTORY);
    let mut names = Vec::new();
    let wanted = |session: &String| of.is_none_or(|of| of.as_str() == session);
    for session in directories(&all)?.into_iter().filter(wanted) {
        let found = directories(&all.join(&session))?;
        names.extend(found.into_iter().map(|name| format!("{DIRECTORY}/{session}/{name}")));
    }
    Ok(names)
}

/// The names of directories in a directory; links are none. A directory that is not there has none.
fn directories(path: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let entries = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    Ok(names)
}

/// All worktrees. `sessions` are those that exist, with their working directories.
pub fn look(state_dir: &Path, sessions: &BTreeMap<SessionId, String>) -> io::Result<Vec<WorktreeUsage>> {
    // Working directories are without links.
    let state_dir = fs::canonicalize(state_dir)?;
    let mut rest = MOST_FILES;
    let of = |name: String| {
        let inside = sessions
            .iter()
            .filter(|(_, workdir)| around(&state_dir, Path::new(workdir)).as_ref() == Some(&name));
        let sessions = inside.map(|(id, _)| id.clone()).collect();
        let bytes = size(&state_dir.join(&name), &mut rest);
        WorktreeUsage { name, bytes, sessions }
    };
    Ok(names(&state_dir, None)?.into_iter().map(of).collect())
}

/// The lengths of the files below a directory, as far as they can be seen. Links are not followed, and no other file system
/// is looked at.
fn size(top: &Path, rest: &mut usize) -> u64 {
    let Ok(device) = fs::symlink_metadata(top).map(|found| found.dev()) else { return 0 };
    let mut bytes = 0;
    let mut ahead = vec![top.to_owned()];
    while let Some(directory) = ahead.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            if *rest == 0 {
                return bytes;
            }
            *rest -= 1;
            match entry.metadata() {
                Ok(found) if found.is_dir() && found.dev() == device => ahead.push(entry.path()),
                Ok(found) if found.is_file() => bytes += found.len(),
                _ => {}
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worktree_has_its_size_and_the_sessions_that_work_in_it_and_no_link_leads_out() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().canonicalize().unwrap();
        let tree = state.join("worktrees/boss/app-1");
        fs::create_dir_all(tree.join("src")).unwrap();
        fs::create_dir_all(state.join("worktrees/boss/app-2")).unwrap();
        fs::write(tree.join("src/a"), "12345").unwrap();
        std::os::unix::fs::symlink("/usr", tree.join("link")).unwrap();
        std::os::unix::fs::symlink(&tree, state.join("worktrees/boss/no")).unwrap();
        fs::write(state.join("worktrees/file"), "x").unwrap();
        let workdirs = [("in", tree.join("src")), ("top", tree), ("out", state.join("worktrees"))];
        let sessions: BTreeMap<SessionId, String> =
            workdirs.iter().map(|(id, path)| (id.parse().unwrap(), path.display().to_string())).collect();
        let found = look(&state, &sessions).unwrap();
        let shown: Vec<(&str, u64, usize)> =
            found.iter().map(|found| (&*found.name, found.bytes, found.sessions.len())).collect();
        assert_eq!(shown, [("worktrees/boss/app-1", 5, 2), ("worktrees/boss/app-2", 0, 0)]);
        assert_eq!(asked_for_by(&found[0].name).unwrap().as_str(), "boss");
    }
}
