//! Removes worktrees that no session needs any more. A worktree goes with its branch if it holds nothing of
//! value; otherwise it stays, and kennel reports why.
//!
//! A check that fails counts as a reason to stay. Ignored files have no value: git removes them, too.

use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::{fs, io};

use protocol::SessionId;
use rustix::fs::{FlockOperation, Mode, OFlags, ResolveFlags, flock};

use super::BRANCHES;
use super::git::{OwnGit, defines_hooks, tried};

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

/// A locked worktree: while the lock lasts, no other process makes it or starts a session for it.
pub struct Held {
    path: PathBuf,
    _lock: fs::File,
}

/// A worktree in which nothing is that is not elsewhere.
struct Free {
    held: Held,
    /// The worktree's own git directory, in the repository's.
    own: PathBuf,
    /// kennel's branch, if it is there, and its commit.
    branch: Option<(String, String)>,
}

/// Locks a worktree; an error is the reason why it stays. `name` is its path below the state directory. The
/// maker of a worktree keeps the lock until the session exists, so read the list of sessions after this.
pub fn hold(state_dir: &Path, name: &str) -> Result<Held, String> {
    let unknown = |error: &dyn std::fmt::Display| format!("it cannot be looked at: {error}");
    let state_dir = fs::canonicalize(state_dir).map_err(|error| unknown(&error))?;
    let path = state_dir.join(name);
    let found = fs::symlink_metadata(&path).map_err(|error| unknown(&error))?;
    if !found.is_dir() || found.uid() != rustix::process::geteuid().as_raw() {
        return Err("it is no directory of this user".to_owned());
    }
    let lock = fs::File::open(&path).map_err(|error| unknown(&error))?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive)
        .map_err(|_| "in use: it is being made for a sub-agent".to_owned())?;
    Ok(Held { path, _lock: lock })
}

impl Held {
    /// Removes the worktree if it may go; an error is the reason why it stays. `sessions` are those that work
    /// in it now. With `dry_run`, removes nothing.
    pub fn settle(self, sessions: &[SessionId], dry_run: bool) -> Result<(), String> {
        let free = self.judged(sessions)?;
        if dry_run { Ok(()) } else { free.remove() }
    }

    /// Checks that the worktree may go; an error is the reason why it stays.
    fn judged(self, sessions: &[SessionId]) -> Result<Free, String> {
        if let [first, rest @ ..] = sessions {
            let others = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
            return Err(format!("in use: {first}{others} works there; `kennel rm` removes a session"));
        }
        let path = &self.path;
        let within = process_in(path).map_err(|error| format!("it cannot be looked at: {error}"))?;
        if let Some(pid) = within {
            return Err(format!("in use: process {pid} is in it"));
        }
        let own = looked_into(path)?;
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let branch = format!("{BRANCHES}{name}");
        let full = format!("refs/heads/{branch}");
        let there = in_it(path, &["rev-parse", "--verify", "--quiet", "--end-of-options", &full]);
        nothing_is_only_here(path, there.is_ok().then_some(&*branch))?;
        Ok(Free { own, branch: there.ok().map(|commit| (full, commit)), held: self })
    }
}

impl Free {
    /// The branch first: if somebody has committed to it meanwhile, all stays. git removes no directory here. It would look for
    /// the worktree by what stands in the repository, which an agent may have written, and follow links there.
    fn remove(self) -> Result<(), String> {
        let path = &self.held.path;
        refuses_hooks(path)?;
        if let Some((branch, commit)) = &self.branch {
            let delete = ["update-ref", "--no-deref", "-d", branch, commit];
            in_it(path, &delete).map_err(first_line)?;
        }
        discard(path, &self.own).map_err(|error| format!("it cannot be removed: {error}"))
    }
}

/// Removes a worktree's files, and what its repository has of it, following no link. `own` is its git directory, which names it
/// back ([`names_back`]).
pub(super) fn discard(path: &Path, own: &Path) -> io::Result<()> {
    let named = names_back(own, path);
    fs::remove_dir_all(path)?;
    // The session's directory, after its last worktree.
    let _ = path.parent().map(fs::remove_dir);
    if let (true, Some(all), Some(name)) = (named, own.parent(), own.file_name()) {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let all = rustix::fs::openat2(rustix::fs::CWD, all, flags, Mode::empty(), resolve)?;
        // The descriptor keeps the directory: no other process can exchange the path to it.
        let entry = Path::new("/proc/self/fd").join(all.as_raw_fd().to_string()).join(name);
        fs::remove_dir_all(entry)?;
    }
    Ok(())
}

/// Returns true if a git directory belongs to the worktree at `path`: it lies in a repository's `worktrees`
/// and names the worktree's `.git`. The reverse is no proof, as any file `.git` can name any git directory.
fn names_back(own: &Path, path: &Path) -> bool {
    let among = own.parent().and_then(Path::file_name).is_some_and(|name| name == "worktrees");
    let text = short_file(&own.join("gitdir")).unwrap_or_default();
    let named = Path::new(text.trim_end_matches('\n'));
    // git writes a relative path where `worktree.useRelativePaths` is set.
    let is_this = match named.is_relative() {
        false => named == path.join(".git"),
        true => {
            let above = named.parent().map(|above| fs::canonicalize(own.join(above)));
            named.file_name().is_some_and(|name| name == ".git")
                && matches!(above, Some(Ok(found)) if found == path)
        }
    };
    among && is_this
}

/// Reads a regular file of at most 64 KiB. An agent may have put a FIFO or a device in its place: opening one must not wait.
fn short_file(path: &Path) -> io::Result<String> {
    const LONGEST: u64 = 64 * 1024;
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let flags = flags.bits().cast_signed();
    let file = fs::OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let found = file.metadata()?;
    if !found.is_file() || found.len() > LONGEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut text = String::new();
    file.take(LONGEST).read_to_string(&mut text)?;
    Ok(text)
}

/// Refuses a repository whose configuration defines hooks: newer versions of git run them, and no setting keeps them from it.
fn refuses_hooks(path: &Path) -> Result<(), String> {
    if defines_hooks(path, &[("GIT_CEILING_DIRECTORIES", path.parent().unwrap_or(path))]) {
        return Err("its repository's configuration defines hooks (`hook.NAME`)".to_owned());
    }
    Ok(())
}

/// git in a worktree and in no repository around it.
fn in_it(path: &Path, args: &[&str]) -> Result<String, String> {
    let above = path.parent().unwrap_or(path);
    tried(path, &[("GIT_CEILING_DIRECTORIES", above)], args)
}

/// Returns the first line of git's message.
fn first_line(what: String) -> String {
    format!("git: {}", what.lines().next().unwrap_or_default())
}

/// Makes sure that nothing in a worktree is changed or under way. Gives its own git directory.
fn looked_into(path: &Path) -> Result<PathBuf, String> {
    let asked = |args: &[&str]| in_it(path, args).map_err(first_line);
    if asked(&["rev-parse", "--show-toplevel"])?.as_str() != path.to_string_lossy() {
        return Err("its `.git` leads to another directory".to_owned());
    }
    let own = PathBuf::from(asked(&["rev-parse", "--absolute-git-dir"])?);
    let repository = PathBuf::from(asked(&["rev-parse", "--path-format=absolute", "--git-common-dir"])?);
    if own == repository {
        return Err("it is a repository of its own".to_owned());
    }
    if own.parent() != Some(&*repository.join("worktrees")) || !names_back(&own, path) {
        return Err("its `.git` is that of another worktree".to_owned());
    }
    refuses_hooks(path)?;
    if let Some(under_way) = UNDER_WAY.iter().find(|file| fs::symlink_metadata(own.join(file)).is_ok()) {
        return Err(format!("in use: git has `{under_way}` for it"));
    }
    let staged = asked(&["diff-index", "--cached", "--name-only", "--no-ext-diff", "HEAD", "--"])?;
    let changed = changed(path).map_err(first_line)?;
    match staged.lines().count().max(changed) {
        0 => Ok(own),
        1 => Err("1 file is not committed".to_owned()),
        count => Err(format!("{count} files are not committed")),
    }
}

/// Counts the files that differ from the checked-out commit. Uses a git directory of our own, as in
/// [`super::Repository`]: the repository's configuration may name a filter, which is a program.
fn changed(path: &Path) -> Result<usize, String> {
    let objects = in_it(path, &["rev-parse", "--path-format=absolute", "--git-path", "objects"])?;
    let format = in_it(path, &["rev-parse", "--show-object-format"])?;
    let head = in_it(path, &["rev-parse", "--verify", "--end-of-options", "HEAD^{commit}"])?;
    let own = OwnGit::new(&format, Path::new(&objects), path)?;
    own.run(&["read-tree", "--reset", &head])?;
    let status = ["status", "--porcelain", "--untracked-files=all", "--ignore-submodules=all"];
    // The second letter compares the files with the index. The first compares the index with a commit, and
    // there is none here.
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

/// Checks that every commit of a worktree and its branch is on a branch, tag or remote branch that stays.
/// kennel's other branches do not count: they may go in the same way.
fn nothing_is_only_here(path: &Path, branch: Option<&str>) -> Result<(), String> {
    let exclude = format!("--exclude={BRANCHES}*");
    let full = branch.map(|branch| format!("refs/heads/{branch}"));
    let mut args = vec!["rev-list", "--count", "HEAD"];
    args.extend(full.as_deref());
    args.extend(["--not", &exclude, "--branches", "--tags", "--remotes", "--"]);
    let count = in_it(path, &args).map_err(first_line)?;
    match count.as_str() {
        "0" => Ok(()),
        count => Err(format!(
            "{} has {count} commits that are on no other branch; merge or push it, or delete it",
            branch.unwrap_or("its head")
        )),
    }
}

/// A process of this user that is in a directory.
fn process_in(directory: &Path) -> io::Result<Option<u32>> {
    let inside = |pid: &u32| {
        ["cwd", "root", "exe"].iter().any(|link| {
            fs::read_link(format!("/proc/{pid}/{link}")).is_ok_and(|place| place.starts_with(directory))
        })
    };
    for entry in fs::read_dir("/proc")? {
        let pid = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
        if let Some(pid) = pid.filter(inside) {
            return Ok(Some(pid));
        }
    }
    Ok(None)
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
