//! Worktrees of repositories, hostile ones too.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use super::git::plain_git;
use super::git::run;
use super::*;

mod planted;

struct Place {
    dir: tempfile::TempDir,
    repository: PathBuf,
    state: PathBuf,
    session: SessionId,
}

/// git as the agent itself runs it.
fn agents_git(directory: &Path, args: &[&str]) {
    let mut command = plain_git();
    command.args(["-c", "user.name=a", "-c", "user.email=a@b", "-c", "protocol.file.allow=always", "-C"]);
    run(command.arg(directory).args(args)).unwrap();
}

fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    let (repository, state) = (root.join("my app"), root.join("state"));
    std::fs::create_dir_all(repository.join("src")).unwrap();
    std::fs::write(repository.join("src/a"), "a").unwrap();
    std::fs::write(repository.join("run"), "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(repository.join("run"), PermissionsExt::from_mode(0o755)).unwrap();
    symlink("src/a", repository.join("link")).unwrap();
    for args in [&["init", "--quiet"][..], &["add", "."], &["commit", "--quiet", "-m", "one"]] {
        agents_git(&repository, args);
    }
    Place { dir, repository, state, session: "boss".parse().unwrap() }
}

impl Place {
    fn make(&self, from: &Path) -> Outcome<Worktree> {
        Worktree::make(&self.state, &self.session, from)
    }
}

#[test]
fn a_worktree_is_beside_the_repository_and_can_be_taken_back() {
    let place = place();
    let Place { dir, repository, state, .. } = &place;
    assert!(place.make(dir.path()).unwrap_err().is("no_worktree"), "it is no repository");
    let made = place.make(&repository.join("src")).unwrap();
    assert!(made.path.starts_with(state.join("worktrees/boss")) && made.workdir == made.path.join("src"));
    assert_eq!(std::fs::read_to_string(made.workdir.join("a")).unwrap(), "a");
    assert_eq!(std::fs::read_link(made.path.join("link")).unwrap(), Path::new("src/a"));
    let mode = std::fs::metadata(made.path.join("run")).unwrap().permissions().mode();
    assert_eq!(mode & 0o100, 0o100, "a program stays one");
    assert_eq!(git(&made.path, &["branch", "--show-current"]).unwrap(), made.branch);
    assert_eq!(git(&made.path, &["status", "--porcelain"]).unwrap(), "", "nothing has changed");
    assert_ne!(place.make(repository).unwrap().branch, made.branch);
    // A worktree of a worktree.
    let again = place.make(&made.workdir).unwrap();
    assert_eq!(std::fs::read_to_string(again.workdir.join("a")).unwrap(), "a");
    made.remove();
    assert!(!made.path.exists());
    assert!(!git(repository, &["branch", "--list"]).unwrap().contains(&made.branch));
}

#[test]
fn a_repository_with_other_object_names_has_worktrees_too() {
    let dir = tempfile::tempdir().unwrap();
    let repository = dir.path().join("app");
    std::fs::create_dir(&repository).unwrap();
    std::fs::write(repository.join("a"), "a").unwrap();
    for args in [
        &["init", "--quiet", "--object-format=sha256"][..],
        &["add", "."],
        &["commit", "--quiet", "-m", "one"],
    ] {
        agents_git(&repository, args);
    }
    let made = Worktree::make(&dir.path().join("state"), &"s".parse().unwrap(), &repository).unwrap();
    assert_eq!(std::fs::read_to_string(made.path.join("a")).unwrap(), "a");
}

#[test]
fn no_link_leads_a_worktree_elsewhere() {
    let other = tempfile::tempdir().unwrap();
    let empty = || std::fs::read_dir(other.path()).unwrap().next().is_none();
    // The directory of the session's worktrees.
    for part in ["worktrees", "worktrees/boss"] {
        let place = place();
        let planted = place.state.join(part);
        std::fs::create_dir_all(planted.parent().unwrap()).unwrap();
        symlink(other.path(), planted).unwrap();
        assert!(place.make(&place.repository).unwrap_err().is("no_worktree"), "{part}");
        assert!(empty(), "{part}");
    }
    // A commit with a link in place of the working directory.
    let place = place();
    let secret = place.dir.path().join("secret");
    std::fs::create_dir(&secret).unwrap();
    std::fs::rename(place.repository.join("src"), place.repository.join("kept")).unwrap();
    symlink(&secret, place.repository.join("src")).unwrap();
    agents_git(&place.repository, &["add", "."]);
    agents_git(&place.repository, &["commit", "--quiet", "-m", "two"]);
    std::fs::remove_file(place.repository.join("src")).unwrap();
    std::fs::create_dir(place.repository.join("src")).unwrap();
    let made = place.make(&place.repository.join("src")).unwrap();
    assert_eq!(made.workdir, made.path, "not {}", secret.display());
    // A repository whose configuration names another worktree.
    agents_git(&place.repository, &["config", "core.worktree", other.path().to_str().unwrap()]);
    assert!(place.make(&place.repository).unwrap_err().is("no_worktree"));
    assert!(empty());
}

/// Settles a worktree in which no session works; an error is the reason why it stays.
fn settled(place: &Place, made: Worktree) -> Result<(), String> {
    let name = made.path.strip_prefix(&place.state).unwrap().to_str().unwrap().to_owned();
    drop(made);
    // A program that another test starts just now has the lock until its `exec`.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    let held = loop {
        match remains::hold(&place.state, &name) {
            Ok(held) => break held,
            Err(why) => assert!(std::time::Instant::now() < deadline, "{why}"),
        }
        std::thread::yield_now();
    };
    held.settle(&[], true)
}

/// The worktree's own directory in the repository's `.git`.
fn entry(place: &Place, made: &Worktree) -> PathBuf {
    place.repository.join(".git/worktrees").join(made.path.file_name().unwrap())
}

#[test]
fn a_worktree_that_its_repository_names_by_a_relative_path_may_go() {
    let place = place();
    let made = place.make(&place.repository).unwrap();
    let name = made.path.file_name().unwrap().to_str().unwrap();
    let relative = format!("../../../../state/worktrees/boss/{name}/.git\n");
    std::fs::write(entry(&place, &made).join("gitdir"), relative).unwrap();
    assert_eq!(settled(&place, made), Ok(()));
}

#[test]
fn a_fifo_in_the_place_of_a_file_of_gits_hangs_nobody() {
    for (file, why) in [("gitdir", "that of another worktree"), ("HEAD", "git did not end within")] {
        let place = place();
        let made = place.make(&place.repository).unwrap();
        let path = entry(&place, &made).join(file);
        std::fs::remove_file(&path).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR)
            .unwrap();
        let kept = settled(&place, made).unwrap_err();
        assert!(kept.contains(why), "{file}: {kept}");
    }
}

/// A program in the place of git, which hangs. It notes its pid, and what it does when it gets SIGTERM.
fn hanging_git(dir: &Path, on_term: &str) -> Command {
    let git = dir.join("git");
    let at = dir.display();
    let script = format!(
        "trap 'echo SIGTERM >> {at}/note; {on_term}' TERM\nmkfifo {at}/fifo\nexec 3<> {at}/fifo\necho $$ > {at}/note\n\
         while :; do read never <&3; done\n"
    );
    std::fs::write(&git, script).unwrap();
    // By the shell: a file that was just written cannot always be executed.
    let mut command = Command::new("/bin/sh");
    command.arg(git);
    command
}

#[test]
fn a_git_that_hangs_gets_sigterm_and_may_clean_up() {
    let dir = tempfile::tempdir().unwrap();
    let said =
        run(hanging_git(dir.path(), "echo cleaned up >> note; exit 143").current_dir(&dir)).unwrap_err();
    assert_eq!(said, "git did not end within 5 seconds and was killed");
    let note = std::fs::read_to_string(dir.path().join("note")).unwrap();
    assert_eq!(note.lines().skip(1).collect::<Vec<_>>(), ["SIGTERM", "cleaned up"]);
}

#[test]
fn a_git_that_does_not_end_by_sigterm_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let said = run(&mut hanging_git(dir.path(), ":")).unwrap_err();
    assert!(said.ends_with("and was killed"), "{said}");
    let note = std::fs::read_to_string(dir.path().join("note")).unwrap();
    let (pid, noted) = note.split_once('\n').unwrap();
    assert_eq!(noted, "SIGTERM\n");
    assert!(!Path::new("/proc").join(pid).exists(), "git still runs");
}
