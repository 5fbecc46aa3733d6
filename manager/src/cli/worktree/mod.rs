//! Git worktrees for sub-agents: a directory and a branch for each, so that two agents do not write the same files.
//!
//! A worktree lies in `worktrees/SESSION/` below the state directory. kennel removes a worktree only if everything in it is
//! also elsewhere ([`remains`]).
//!
//! An agent may have written the repository's configuration, hooks, attributes and links, and this process runs in no sandbox. So
//! kennel checks files out with a git directory and a configuration of its own, which only borrow the repository's objects. The
//! one git that runs in the repository adds a branch and a worktree without files ([`git()`]).

mod git;
pub mod remains;

use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

use protocol::SessionId;
use rustix::fs::{FlockOperation, flock};

use crate::cli::link::random_key;
use crate::cli::ui::error::{Failure, Outcome};
use crate::worktrees;
use git::OwnGit;
use git::tried;

/// The prefix of kennel's branches.
const BRANCHES: &str = "kennel/";

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
    /// Locked until its session exists, so that no other process removes it meanwhile.
    _lock: std::fs::File,
}

impl Worktree {
    /// A new one of the repository around `from`, for a sub-agent of `session`, on a new branch from what is checked out
    /// there.
    pub fn make(state_dir: &Path, session: &SessionId, from: &Path) -> Outcome<Self> {
        let from =
            std::fs::canonicalize(from).map_err(|error| failed(format!("{}: {error}", from.display())))?;
        let repository = Repository::around(&from)?;
        let key = random_key()?;
        let name: String = repository
            .top
            .file_name()
            .map(|name| {
                name.to_string_lossy().chars().filter(|c| c.is_ascii_alphanumeric()).take(32).collect()
            })
            .unwrap_or_default();
        let name = format!("{name}-{}", &key[..8]);
        let directory = own_directory(state_dir, session)?;
        let path = directory.join(&name);
        let branch = format!("{BRANCHES}{name}");
        let shown = path.to_str().ok_or_else(|| failed(format!("{} is not UTF-8", path.display())))?;
        // Made here, and new: git fills a directory that is there and empty.
        let lock = make_directory(&path)?;
        let made = Self {
            workdir: path.clone(),
            path: path.clone(),
            branch,
            repository: repository.top.clone(),
            _lock: lock,
        };
        let add = [
            "worktree",
            "add",
            "--quiet",
            "--no-checkout",
            "-b",
            &made.branch,
            "--",
            shown,
            &repository.head,
        ];
        let filled = git(&repository.top, &add).and_then(|_| repository.check_out(&path));
        if let Err(failure) = filled {
            made.remove();
            return Err(failure);
        }
        let workdir = inside(&made.path, &repository.prefix).unwrap_or_else(|| made.path.clone());
        Ok(Self { workdir, ..made })
    }

    /// Removes the worktree and its branch. For a worktree in which no sub-agent has worked.
    pub fn remove(&self) {
        let branch = format!("refs/heads/{}", self.branch);
        let own = git(&self.path, &["rev-parse", "--absolute-git-dir"]).unwrap_or_default();
        let _ = git(&self.repository, &["update-ref", "--no-deref", "-d", &branch]);
        let _ = remains::discard(&self.path, Path::new(&own));
    }
}

/// A directory in the worktree, if it is one there. What is not committed is not there, and a commit can have a symlink in
/// its place.
fn inside(worktree: &Path, prefix: &Path) -> Option<PathBuf> {
    let plain = prefix.components().all(|part| matches!(part, Component::Normal(_)));
    let found = std::fs::canonicalize(worktree.join(prefix)).ok().filter(|found| plain && found.is_dir())?;
    (found == std::fs::canonicalize(worktree).ok()?.join(prefix)).then_some(found)
}

/// The directory of a session's worktrees. Every part of it below the state directory is a directory of this user.
fn own_directory(state_dir: &Path, session: &SessionId) -> Outcome<PathBuf> {
    let directory = worktrees::of_session(state_dir, session);
    let cannot = |path: &Path, error: io::Error| failed(format!("{}: {error}", path.display()));
    let mut builder = std::fs::DirBuilder::new();
    builder.mode(0o700).recursive(true).create(state_dir).map_err(|error| cannot(state_dir, error))?;
    // From above: each is looked at before anything is made in it.
    for part in [directory.parent(), Some(&directory)].into_iter().flatten() {
        match builder.recursive(false).create(part) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(cannot(part, error)),
            _ => {}
        }
        let found = std::fs::symlink_metadata(part).map_err(|error| cannot(part, error))?;
        let own = found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o022 == 0;
        if !found.is_dir() || !own {
            return Err(failed(format!(
                "{} is not a directory that only this user can write",
                part.display()
            )));
        }
    }
    Ok(directory)
}

/// Makes a directory and holds a lock on it.
fn make_directory(path: &Path) -> Outcome<std::fs::File> {
    let made = std::fs::DirBuilder::new().mode(0o700).create(path).and_then(|()| {
        let lock = std::fs::File::open(path)?;
        flock(&lock, FlockOperation::NonBlockingLockShared)?;
        Ok(lock)
    });
    made.map_err(|error| failed(format!("{}: {error}", path.display())))
}

/// A repository's layout, as git reports it.
struct Repository {
    /// The top of the worktree that is worked in.
    top: PathBuf,
    /// The directory that is worked in, below the top.
    prefix: PathBuf,
    /// Its objects.
    objects: PathBuf,
    /// The hash of their names: `sha1` or `sha256`.
    format: String,
    /// The commit that is checked out.
    head: String,
}

impl Repository {
    fn around(from: &Path) -> Outcome<Self> {
        let top = PathBuf::from(git(from, &["rev-parse", "--show-toplevel"])?);
        // `core.worktree` can name any directory.
        let Ok(prefix) = from.strip_prefix(&top) else {
            return Err(failed(format!("its top, {}, is not above {}", top.display(), from.display())));
        };
        if git::defines_hooks(&top, &[]) {
            return Err(failed("its configuration defines hooks of its own (`hook.NAME`)".into()));
        }
        let objects = git(&top, &["rev-parse", "--path-format=absolute", "--git-path", "objects"])?;
        Ok(Self {
            prefix: prefix.to_owned(),
            objects: objects.into(),
            format: git(&top, &["rev-parse", "--show-object-format"])?,
            head: git(&top, &["rev-parse", "--verify", "--end-of-options", "HEAD^{commit}"])?,
            top,
        })
    }

    /// Fills a worktree that has no files yet, by a git directory of our own.
    fn check_out(&self, worktree: &Path) -> Outcome {
        let own = OwnGit::new(&self.format, &self.objects, worktree).map_err(failed)?;
        own.run(&["read-tree", "--reset", "-u", &self.head]).map_err(failed)?;
        // The worktree's own index, so that git knows there which files have changed: the same, with no file looked at.
        git(worktree, &["read-tree", "--reset", &self.head]).map(drop)
    }
}

fn failed(why: String) -> Failure {
    Failure::failed("no_worktree", format!("no worktree could be made, and nothing was started: {why}"))
        .hint("leave the worktree out to work in the same directory")
}

/// Runs git and returns its output. Every run of git goes through here.
fn git(directory: &Path, args: &[&str]) -> Outcome<String> {
    git_with(directory, &[], args)
}

fn git_with(directory: &Path, around: &[(&str, &Path)], args: &[&str]) -> Outcome<String> {
    tried(directory, around, args).map_err(failed)
}

#[cfg(test)]
mod tests;
