//! Compares the files with a commit.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use protocol::bounds::{DIFFERENCE, FILE_NAMES, FILES, PATH};
use protocol::wire::{ChangedFile, FilesAnswer, FilesRefusal};
use rustix::fs::OFlags;

use super::Refused;
use super::git::{OwnGit, no_git, write_names};
use super::place::Place;

/// New files with more bytes are named and not compared. `bigFileThreshold` is the same for git.
const LARGE: u64 = 1 << 20;

/// Options of both comparisons. A submodule counts as its commit: what git would run in it is its own configuration's.
const OPTIONS: [&str; 8] = [
    "--no-ext-diff",
    "--no-textconv",
    "--no-color",
    "--no-renames",
    "--ignore-submodules=dirty",
    "--submodule=short",
    "--relative",
    "--no-indent-heuristic",
];

/// The changed files below a path, and with `text` how they differ. New files count, unless the repository's `.gitignore`
/// leaves them out.
pub fn difference(
    place: &Place,
    path: &[u8],
    (commit, text): (&str, bool),
    ended: &Arc<AtomicBool>,
) -> Result<FilesAnswer, Refused> {
    let path = place.relative(path)?;
    if path.components().any(|part| matches!(part, Component::ParentDir)) {
        return Err(Refused::new(FilesRefusal::Outside, format!("{} has `..` in it", path.display())));
    }
    let is_name = matches!(commit.len(), 40 | 64) && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_name {
        return Err(Refused::new(FilesRefusal::NoCommit, "the commit has no name as git gives it"));
    }
    let git = OwnGit::around(&place.workdir, commit, ended)?;
    let tree = format!("{commit}^{{tree}}");
    git.run(&["read-tree", &tree], DIFFERENCE).map_err(|refused| match refused.why {
        FilesRefusal::NoGit if refused.message.contains(commit) => Refused::new(
            FilesRefusal::NoCommit,
            format!("the commit {commit}, at which the session started, is not in the repository any more"),
        ),
        _ => refused,
    })?;
    let at = shown(&path)?;
    let New { large, more: more_new } = add_new(&git, at)?;
    // Each file is read once here; what is as it was is not read again.
    let (_, _) = git.run(&["update-index", "-q", "--refresh"], DIFFERENCE).or_else(|refused| {
        // It fails where files differ.
        if refused.why == FilesRefusal::NoGit { Ok((Vec::new(), true)) } else { Err(refused) }
    })?;
    let compared = |format: &'static str| [&["diff", format, "-z"][..], &OPTIONS, &["--", at]].concat();
    let (numbers, whole) = git.run(&compared("--numstat"), FILE_NAMES + 64 * FILES)?;
    let (mut files, more) = changed(&numbers);
    files.extend(large.into_iter().map(|path| ChangedFile { path, lines: None }));
    files.sort_by(|a, b| a.path.cmp(&b.path));
    // A path that is nowhere is most often a slip. One that the commit has and the directory has not is a difference.
    if files.is_empty() && place.open_below(&path, OFlags::PATH | OFlags::NOFOLLOW).is_err() {
        let what = format!("{} is neither there nor in the commit", path.display());
        return Err(Refused::new(FilesRefusal::Missing, what));
    }
    let (text, cut) = match text {
        true => {
            let args: Vec<&str> = compared("--patch").into_iter().filter(|word| *word != "-z").collect();
            let (text, whole) = git.run(&args, DIFFERENCE)?;
            (text, !whole)
        }
        false => (Vec::new(), false),
    };
    Ok(FilesAnswer::Difference { files, more: more || more_new || !whole, text, cut })
}

/// New files beside those in the index.
#[derive(Default)]
struct New {
    /// Those that are too large to be compared. git would read them to their end, and a hole may be long.
    large: Vec<Vec<u8>>,
    /// There are more than are looked at.
    more: bool,
}

/// Notes the new files in the index, without their contents.
fn add_new(git: &OwnGit, at: &str) -> Result<New, Refused> {
    let list = ["ls-files", "--others", "--exclude-standard", "-z", "--", at];
    let (names, whole) = git.run(&list, FILE_NAMES)?;
    let mut names: Vec<Vec<u8>> = names.split_inclusive(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
    // The last one may be cut. Another repository within has a slash at its end, and is left out.
    names.retain(|name| name.ends_with(b"\0") && !name.ends_with(b"/\0") && name.len() <= PATH);
    let more = !whole || names.len() > FILES;
    names.truncate(FILES);
    for name in &mut names {
        name.pop();
    }
    let is_large = |name: &Vec<u8>| {
        let found = std::fs::symlink_metadata(git.workdir.join(OsStr::from_bytes(name)));
        found.is_ok_and(|found| found.len() > LARGE)
    };
    let (large, names): (Vec<_>, Vec<_>) = names.into_iter().partition(is_large);
    if names.is_empty() {
        return Ok(New { large, more });
    }
    let file = git.private("new");
    write_names(&file, &names)?;
    let from = format!("--pathspec-from-file={}", file.display());
    let add = ["add", "--intent-to-add", "--ignore-errors", "--force", &from, "--pathspec-file-nul"];
    match git.run(&add, DIFFERENCE) {
        Ok(_) => Ok(New { large, more }),
        // Some could not be read, or have gone: the others are there.
        Err(refused) if refused.why == FilesRefusal::NoGit => Ok(New { large, more: true }),
        Err(refused) => Err(refused),
    }
}

/// Reads `ADDED TAB REMOVED TAB PATH NUL`. Gives the files, and whether there are more.
fn changed(numbers: &[u8]) -> (Vec<ChangedFile>, bool) {
    let (mut files, mut bytes) = (Vec::new(), 0);
    for line in numbers.split_inclusive(|byte| *byte == 0) {
        let mut parts = line.splitn(3, |byte| *byte == b'\t');
        let (Some(added), Some(removed), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
            return (files, true);
        };
        let Some(path) = path.strip_suffix(b"\0") else { return (files, true) };
        bytes += path.len();
        if files.len() == FILES || bytes > FILE_NAMES {
            return (files, true);
        }
        let number = |text: &[u8]| std::str::from_utf8(text).ok()?.parse().ok();
        files.push(ChangedFile { path: path.to_vec(), lines: number(added).zip(number(removed)) });
    }
    (files, false)
}

/// The path as an argument of git, which is text here.
fn shown(path: &Path) -> Result<&str, Refused> {
    path.to_str().ok_or_else(|| no_git("a path that is not UTF-8 cannot be compared; compare its directory"))
}
