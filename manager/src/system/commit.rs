//! The commit that is checked out in a directory, read from the files of its repository. No git runs.
//!
//! Somebody may have made the repository to do harm: only small regular files are opened, through no symlink, and nothing of them
//! is given on but a name that git gives to commits.

use std::fs::{self, File, Metadata};
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};

use super::blocking;

/// The longest file with one name, in bytes.
const SMALL: u64 = 4096;
/// The longest list of packed references, in bytes.
const PACKED: u64 = 16 << 20;
/// Symbolic references that are followed.
const HOPS: u32 = 5;
/// Time for the look. A session starts without it, too.
const LONGEST: Duration = Duration::from_secs(2);

/// The commit of the repository around a directory; none without a repository, before the first commit, and where the file system
/// does not answer in time.
pub async fn checked_out(workdir: &str) -> Option<String> {
    // Most sessions need no thread for this. What the working directory is was looked at the same way a moment ago.
    if !Path::new(workdir).ancestors().any(|top| fs::symlink_metadata(top.join(".git")).is_ok()) {
        return None;
    }
    let workdir = workdir.to_owned();
    let found = blocking::begin(move || find(Path::new(&workdir))).ok()?;
    tokio::time::timeout(LONGEST, found).await.ok()?.ok()?
}

fn find(workdir: &Path) -> Option<String> {
    for top in workdir.ancestors() {
        let dot = top.join(".git");
        let Ok(found) = fs::symlink_metadata(&dot) else { continue };
        let git = match found.is_dir() {
            true => dot,
            // A worktree of another repository, or a submodule.
            false => fs::canonicalize(top.join(line(&dot)?.strip_prefix("gitdir: ")?)).ok()?,
        };
        let common = match line(&git.join("commondir")) {
            Some(named) => fs::canonicalize(git.join(named)).ok()?,
            None => git.clone(),
        };
        return resolve(&git, &common);
    }
    None
}

fn resolve(git: &Path, common: &Path) -> Option<String> {
    let mut text = line(&git.join("HEAD"))?;
    for _ in 0..HOPS {
        let Some(name) = text.strip_prefix("ref: ") else { return commit(&text) };
        let plain = name.starts_with("refs/") && !name.split('/').any(|part| matches!(part, "" | "." | ".."));
        if !plain {
            return None;
        }
        text = line(&git.join(name)).or_else(|| line(&common.join(name))).or_else(|| packed(common, name))?;
    }
    None
}

/// `COMMIT NAME`, a line each.
fn packed(common: &Path, name: &str) -> Option<String> {
    let list = read(&common.join("packed-refs"), PACKED)?;
    let mut names = list.lines().filter_map(|line| line.split_once(' '));
    names.find(|(_, of)| *of == name).map(|(commit, _)| commit.to_owned())
}

fn commit(text: &str) -> Option<String> {
    let is_name = matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_name.then(|| text.to_ascii_lowercase())
}

fn line(path: &Path) -> Option<String> {
    let text = read(path, SMALL)?;
    Some(text.trim_end_matches(['\n', '\r']).to_owned()).filter(|line| !line.contains('\n'))
}

/// A regular file of at most so many bytes.
fn read(path: &Path, most: u64) -> Option<String> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let file = File::from(rustix::fs::openat2(CWD, path, flags, Mode::empty(), resolve).ok()?);
    file.metadata().ok().filter(Metadata::is_file)?;
    let mut text = String::new();
    file.take(most + 1).read_to_string(&mut text).ok()?;
    (text.len() as u64 <= most).then_some(text)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::process::Command;

    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    fn place(head: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let real = fs::canonicalize(dir.path()).unwrap();
        fs::create_dir_all(real.join(".git/refs/heads")).unwrap();
        fs::create_dir_all(real.join("src/deep")).unwrap();
        fs::write(real.join(".git/HEAD"), head).unwrap();
        (dir, real)
    }

    #[test]
    fn a_commit_is_found_loose_packed_and_detached_and_from_below() {
        let (_dir, top) = place("ref: refs/heads/main\n");
        assert_eq!(find(&top), None, "before the first commit");
        let packed = format!("# pack-refs with: peeled\n{COMMIT} refs/heads/main\n");
        fs::write(top.join(".git/packed-refs"), packed).unwrap();
        assert_eq!(find(&top.join("src/deep")).as_deref(), Some(COMMIT));
        let newer = COMMIT.replace('0', "f");
        fs::write(top.join(".git/refs/heads/main"), format!("{newer}\n")).unwrap();
        assert_eq!(find(&top), Some(newer));
        fs::write(top.join(".git/HEAD"), COMMIT).unwrap();
        assert_eq!(find(&top).as_deref(), Some(COMMIT));
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "the child is the test's own")]
    fn it_is_the_one_that_git_names_also_in_a_worktree() {
        let dir = tempfile::tempdir().unwrap();
        let top = fs::canonicalize(dir.path()).unwrap().join("app");
        let git = |at: &Path, args: &[&str]| {
            let mut git = Command::new("git");
            git.args(["-c", "user.name=a", "-c", "user.email=a@b", "-C"]).arg(at).args(args);
            let done = git.output().unwrap();
            assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
            String::from_utf8(done.stdout).unwrap().trim().to_owned()
        };
        fs::create_dir(&top).unwrap();
        git(&top, &["init", "--quiet"]);
        git(&top, &["commit", "--quiet", "--allow-empty", "-m", "one"]);
        git(&top, &["worktree", "add", "--quiet", "-b", "other", "../other"]);
        git(&top, &["commit", "--quiet", "--allow-empty", "-m", "two"]);
        git(&top, &["pack-refs", "--all"]);
        for at in [top.clone(), top.with_file_name("other")] {
            assert_eq!(find(&at), Some(git(&at, &["rev-parse", "HEAD"])), "{}", at.display());
        }
    }

    #[test]
    fn what_is_made_to_do_harm_gives_nothing_and_holds_nothing_up() {
        let secret = format!("{COMMIT} and a secret\n");
        for head in [
            "",
            "\n",
            "ref: \n",
            "ref: refs/../../secret\n",
            "ref: /etc/passwd\n",
            &secret,
            "ref: refs/heads/a",
        ] {
            assert_eq!(find(&place(head).1), None, "{head:?}");
        }
        // A symlink, a loop of references, a pipe, and a file without an end.
        let (_dir, top) = place("");
        let elsewhere = top.join("elsewhere");
        fs::write(&elsewhere, COMMIT).unwrap();
        fs::remove_file(top.join(".git/HEAD")).unwrap();
        symlink(&elsewhere, top.join(".git/HEAD")).unwrap();
        assert_eq!(find(&top), None);
        let (_dir, top) = place("ref: refs/heads/a\n");
        fs::write(top.join(".git/refs/heads/a"), "ref: refs/heads/a\n").unwrap();
        assert_eq!(find(&top), None);
        let (_dir, top) = place("");
        fs::remove_file(top.join(".git/HEAD")).unwrap();
        rustix::fs::mknodat(CWD, top.join(".git/HEAD"), rustix::fs::FileType::Fifo, Mode::RWXU, 0).unwrap();
        assert_eq!(find(&top), None);
        let (_dir, top) = place("ref: refs/heads/main\n");
        File::create(top.join(".git/packed-refs")).unwrap().set_len(1 << 40).unwrap();
        assert_eq!(find(&top), None);
        // What names another place names a commit, or nothing.
        let (_dir, top) = place("");
        fs::remove_dir_all(top.join(".git")).unwrap();
        fs::write(top.join(".git"), "gitdir: /proc/self\n").unwrap();
        assert_eq!(find(&top), None);
    }
}
