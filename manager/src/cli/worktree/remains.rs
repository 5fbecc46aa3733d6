//! What becomes of a worktree when nobody needs it any more: it goes with its branch if nothing of value is in it, else it
//! stays, and kennel says why.
//!
//! Whatever cannot be found out counts as a reason to stay. What git ignores is of no value: git removes that, too.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use protocol::SessionId;
use protocol::api::{PrunedWorktree, WorktreeUsage};
use rustix::fs::{FlockOperation, flock};

use super::{BRANCHES, OwnGit, tried};

/// Files in a worktree's git directory that are there while somebody is in the middle of something.
const UNDER_WAY: &[&str] = &[
    "locked",
    "MERGE_HEAD",
    "CHERRY_PICK_HEAD",
    "REVERT_HEAD",
    "BISECT_LOG",
    "rebase-merge",
    "rebase-apply",
    "sequencer",
];

/// Removes a worktree if it may go, and says what became of it. With `dry_run` it stays.
pub fn settle(state_dir: &Path, worktree: &WorktreeUsage, dry_run: bool) -> PrunedWorktree {
    let stays = match judged(state_dir, worktree) {
        Err(why) => Some(why),
        Ok(_) if dry_run => None,
        Ok(free) => free.remove().err(),
    };
    PrunedWorktree { name: worktree.name.clone(), bytes: worktree.bytes, stays }
}

/// A worktree in which nothing is that is not elsewhere.
struct Free {
    path: PathBuf,
    /// The repository's own git directory.
    repository: PathBuf,
    /// kennel's branch, if it is there.
    branch: Option<String>,
}

/// Whether a worktree may go, or why it stays.
fn judged(state_dir: &Path, worktree: &WorktreeUsage) -> Result<Free, String> {
    if let [first, rest @ ..] = &worktree.sessions[..] {
        let others = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
        return Err(format!("in use: {first}{others} works there; `kennel rm` removes a session"));
    }
    let unknown = |error: &dyn std::fmt::Display| format!("it cannot be looked at: {error}");
    let state_dir = fs::canonicalize(state_dir).map_err(|error| unknown(&error))?;
    let path = state_dir.join(&worktree.name);
    let found = fs::symlink_metadata(&path).map_err(|error| unknown(&error))?;
    if !found.is_dir() || found.uid() != rustix::process::geteuid().as_raw() {
        return Err("it is no directory of this user".to_owned());
    }
    // Held by whoever makes it, until its session is there.
    let lock = fs::File::open(&path).map_err(|error| unknown(&error))?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive)
        .map_err(|_| "in use: it is being made for a sub-agent".to_owned())?;
    if let Some(pid) = process_in(&path) {
        return Err(format!("in use: process {pid} is in it"));
    }
    let repository = looked_into(&path)?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let branch = format!("{BRANCHES}{name}");
    let there = in_it(
        &path,
        &["rev-parse", "--verify", "--quiet", "--end-of-options", &format!("refs/heads/{branch}")],
    );
    let branch = there.ok().map(|_| branch);
    nothing_is_only_here(&path, branch.as_deref())?;
    Ok(Free { path, repository, branch })
}

impl Free {
    fn remove(&self) -> Result<(), String> {
        let path = self.path.to_string_lossy();
        tried(&self.repository, &[], &["worktree", "remove", "--force", "--", &path]).map_err(said)?;
        if let Some(branch) = &self.branch {
            tried(&self.repository, &[], &["branch", "--quiet", "-D", "--", branch]).map_err(said)?;
        }
        // The session's directory, after its last worktree.
        let _ = self.path.parent().map(fs::remove_dir);
        Ok(())
    }
}

/// git in a worktree and in no repository around it.
fn in_it(path: &Path, args: &[&str]) -> Result<String, String> {
    let above = path.parent().unwrap_or(path);
    tried(path, &[("GIT_CEILING_DIRECTORIES", above)], args)
}

/// The first line of what git said.
fn said(what: String) -> String {
    format!("git: {}", what.lines().next().unwrap_or_default())
}

/// Makes sure that nothing in a worktree is changed or under way. Gives its repository's git directory.
fn looked_into(path: &Path) -> Result<PathBuf, String> {
    let asked = |args: &[&str]| in_it(path, args).map_err(said);
    if asked(&["rev-parse", "--show-toplevel"])?.as_str() != path.to_string_lossy() {
        return Err("its `.git` leads to another directory".to_owned());
    }
    let own = PathBuf::from(asked(&["rev-parse", "--absolute-git-dir"])?);
    let repository = PathBuf::from(asked(&["rev-parse", "--path-format=absolute", "--git-common-dir"])?);
    if own == repository {
        return Err("it is a repository of its own".to_owned());
    }
    if let Some(under_way) = UNDER_WAY.iter().find(|file| fs::symlink_metadata(own.join(file)).is_ok()) {
        return Err(format!("in use: git has `{under_way}` for it"));
    }
    let staged = asked(&["diff-index", "--cached", "--name-only", "--no-ext-diff", "HEAD", "--"])?;
    let changed = changed(path).map_err(said)?;
    match staged.lines().count().max(changed) {
        0 => Ok(repository),
        1 => Err("1 file is not committed".to_owned()),
        count => Err(format!("{count} files are not committed")),
    }
}

/// How many files differ from what is checked out. Asked of a git directory of our own, as in [`super::Repository`]: the
/// repository's configuration may name a filter, which is a program.
fn changed(path: &Path) -> Result<usize, String> {
    let objects = in_it(path, &["rev-parse", "--path-format=absolute", "--git-path", "objects"])?;
    let format = in_it(path, &["rev-parse", "--show-object-format"])?;
    let head = in_it(path, &["rev-parse", "--verify", "--end-of-options", "HEAD^{commit}"])?;
    let own = OwnGit::new(&format, Path::new(&objects), path)?;
    own.run(&["read-tree", "--reset", &head])?;
    let status = ["status", "--porcelain", "--untracked-files=all", "--ignore-submodules=all"];
    // The second letter tells the files from the index. The first one tells the index from a commit, and here is none.
    let differs = |line: &&str| line.as_bytes().get(1) != Some(&b' ');
    let mut changed = own.run(&status)?.lines().filter(differs).count();
    // git would run itself in a submodule, with that one's configuration.
    for line in own.run(&["ls-files", "--stage"])?.lines().filter(|line| line.starts_with("160000 ")) {
        let name = line.split_once('\t').map_or("", |(_, name)| name);
        changed +=
            usize::from(fs::read_dir(path.join(name)).is_ok_and(|mut entries| entries.next().is_some()));
    }
    Ok(changed)
}

/// Makes sure that every commit of a worktree and its branch is on a branch, tag or remote branch that stays. kennel's other
/// branches may go in the same way, and do not count.
fn nothing_is_only_here(path: &Path, branch: Option<&str>) -> Result<(), String> {
    let exclude = format!("--exclude={BRANCHES}*");
    let full = branch.map(|branch| format!("refs/heads/{branch}"));
    let mut args = vec!["rev-list", "--count", "HEAD"];
    args.extend(full.as_deref());
    args.extend(["--not", &exclude, "--branches", "--tags", "--remotes", "--"]);
    let count = in_it(path, &args).map_err(said)?;
    match count.as_str() {
        "0" => Ok(()),
        count => Err(format!(
            "{} has {count} commits that are on no other branch; merge or push it, or delete it",
            branch.unwrap_or("its head")
        )),
    }
}

/// A process of this user that is in a directory.
fn process_in(directory: &Path) -> Option<u32> {
    let entries = fs::read_dir("/proc").ok()?.flatten();
    let mut pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let inside = |pid: &u32| {
        ["cwd", "root", "exe"].iter().any(|link| {
            fs::read_link(format!("/proc/{pid}/{link}")).is_ok_and(|place| place.starts_with(directory))
        })
    };
    pids.find(inside)
}

/// The sessions of a list whose working directory is in the worktree.
pub fn users<'a>(
    state_dir: &Path,
    name: &str,
    sessions: impl Iterator<Item = (&'a SessionId, &'a str)>,
) -> Vec<SessionId> {
    let inside =
        |workdir: &str| crate::worktrees::around(state_dir, Path::new(workdir)).as_deref() == Some(name);
    sessions.filter(|(_, workdir)| inside(workdir)).map(|(id, _)| id.clone()).collect()
}
