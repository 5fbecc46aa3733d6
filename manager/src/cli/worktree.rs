//! Git worktrees for sub-agents: a directory and a branch of its own, so that two agents do not write into the same
//! files.
//!
//! A worktree lies in `worktrees/` below the state directory, not in the repository, where it would be in the way
//! of tools that search. It belongs to whoever asked for it: kennel never removes one in which somebody has worked.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::error::{Failure, Outcome};
use super::sessions::random_key;
use crate::owned;
use crate::supervisor::WORKTREES;

/// What git takes from its environment instead of from the directory: a hook that this runs below would set it.
const GIT_VARIABLES: &[&str] =
    &["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_PREFIX"];

/// A worktree that was made just now.
#[derive(Debug)]
pub struct Worktree {
    /// Its top.
    pub path: PathBuf,
    /// The directory in it that corresponds to the one it was made from.
    pub workdir: PathBuf,
    /// Its branch.
    pub branch: String,
    repository: PathBuf,
}

impl Worktree {
    /// A new one of the repository around `from`, on a new branch from what is checked out there.
    pub fn make(state_dir: &Path, from: &Path) -> Outcome<Self> {
        let top = PathBuf::from(git(from, &["rev-parse", "--show-toplevel"])?);
        let prefix = git(from, &["rev-parse", "--show-prefix"])?;
        let key = random_key()?;
        let name: String = top
            .file_name()
            .map(|name| {
                name.to_string_lossy().chars().filter(|c| c.is_ascii_alphanumeric()).take(32).collect()
            })
            .unwrap_or_default();
        let name = format!("{name}-{}", &key[..8]);
        let directory = state_dir.join(WORKTREES);
        let directory = owned::directory(&directory)
            .map_err(|error| failed(format!("{}: {error}", directory.display())))?;
        let path = directory.join(&name);
        let branch = format!("kennel/{name}");
        let shown = path.to_str().ok_or_else(|| failed(format!("{} is not UTF-8", path.display())))?;
        git(&top, &["worktree", "add", "--quiet", "-b", &branch, "--", shown, "HEAD"])?;
        let inside = path.join(prefix);
        // What is not committed is not there, and a directory may be that.
        let workdir = if inside.is_dir() { inside } else { path.clone() };
        Ok(Self { path, workdir, branch, repository: top })
    }

    /// Takes it back, with its branch. For one in which nobody has worked.
    pub fn remove(&self) {
        let path = self.path.to_string_lossy();
        let _ = git(&self.repository, &["worktree", "remove", "--force", "--", &path]);
        let _ = git(&self.repository, &["branch", "--quiet", "-D", "--", &self.branch]);
    }
}

fn failed(why: String) -> Failure {
    Failure::failed("no_worktree", format!("no worktree could be made, and nothing was started: {why}"))
        .hint("leave `worktree` out to work in the same directory")
}

/// What git prints.
#[allow(clippy::disallowed_methods, reason = "`kennel mcp` is a process of its own, with no reaper in it")]
fn git(directory: &Path, args: &[&str]) -> Outcome<String> {
    let mut command = Command::new("git");
    for name in GIT_VARIABLES {
        command.env_remove(name);
    }
    let output = command.arg("-C").arg(directory).args(args).stdin(Stdio::null()).output();
    let output = output.map_err(|error| failed(format!("git cannot be run: {error}")))?;
    if !output.status.success() {
        return Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worktree_is_beside_the_repository_and_can_be_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let (repository, state) = (dir.path().join("my app"), dir.path().join("state"));
        std::fs::create_dir_all(repository.join("src")).unwrap();
        std::fs::write(repository.join("src/a"), "a").unwrap();
        assert!(Worktree::make(&state, &repository).unwrap_err().is("no_worktree"), "it is no repository");
        for args in [
            &["init", "--quiet"][..],
            &["add", "."],
            &["-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "one"],
        ] {
            git(&repository, args).unwrap();
        }
        let made = Worktree::make(&state, &repository.join("src")).unwrap();
        assert!(made.path.starts_with(state.join("worktrees")) && made.workdir == made.path.join("src"));
        assert_eq!(std::fs::read_to_string(made.workdir.join("a")).unwrap(), "a");
        assert_eq!(git(&made.path, &["branch", "--show-current"]).unwrap(), made.branch);
        assert_ne!(Worktree::make(&state, &repository).unwrap().branch, made.branch);
        made.remove();
        assert!(!made.path.exists());
        assert!(!git(&repository, &["branch", "--list"]).unwrap().contains(&made.branch));
    }
}
