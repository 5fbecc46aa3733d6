//! Directories that somebody has made to do harm.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use protocol::wire::{ChangedFile, FileEntry, FileKind, FilesAnswer, FilesAsk, FilesRefusal};
use rustix::fs::{CWD, FileType, Mode, RenameFlags};

use super::{Request, answer};

const SECRET: &str = "a secret outside";

/// A working directory, and beside it a file that nobody may read by way of it.
struct Tree {
    _dir: tempfile::TempDir,
    outside: PathBuf,
    top: PathBuf,
}

fn tree() -> Tree {
    let dir = tempfile::tempdir().unwrap();
    let real = fs::canonicalize(dir.path()).unwrap();
    let (outside, top) = (real.join("outside"), real.join("work"));
    fs::create_dir_all(&outside).unwrap();
    fs::create_dir_all(top.join("src")).unwrap();
    fs::write(outside.join("secret"), SECRET).unwrap();
    fs::write(top.join("src/a"), "one\ntwo\n").unwrap();
    Tree { _dir: dir, outside, top }
}

impl Tree {
    fn ask(&self, ask: FilesAsk) -> FilesAnswer {
        answer(&Request { workdir: self.top.to_str().unwrap().into(), ask }, &Default::default())
    }

    fn list(&self, path: &[u8], after: Option<&[u8]>, limit: u32) -> FilesAnswer {
        self.ask(FilesAsk::List { path: path.into(), after: after.map(<[u8]>::to_owned), limit })
    }

    fn read(&self, path: &[u8], offset: u64, length: u32) -> FilesAnswer {
        self.ask(FilesAsk::Read { path: path.into(), offset, length })
    }

    fn diff(&self, path: &[u8], commit: &str) -> FilesAnswer {
        self.ask(FilesAsk::Diff { path: path.into(), commit: commit.into(), text: true })
    }
}

fn entries(answer: FilesAnswer) -> (Vec<FileEntry>, bool) {
    match answer {
        FilesAnswer::Entries { entries, more } => (entries, more),
        other => panic!("{other:?}"),
    }
}

fn names(answer: FilesAnswer) -> Vec<Vec<u8>> {
    entries(answer).0.into_iter().map(|entry| entry.name).collect()
}

fn bytes(answer: FilesAnswer) -> Vec<u8> {
    match answer {
        FilesAnswer::Piece { bytes, .. } => bytes,
        other => panic!("{other:?}"),
    }
}

fn why(answer: FilesAnswer) -> FilesRefusal {
    match answer {
        FilesAnswer::Refused { why, .. } => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_directory_is_listed_in_order_and_in_parts_and_no_link_is_followed() {
    let tree = tree();
    symlink("/etc", tree.top.join("link")).unwrap();
    rustix::fs::mknodat(CWD, tree.top.join("pipe"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    fs::write(tree.top.join(OsStr::from_bytes(b"caf\xe9\n\x1b[2J")), "x").unwrap();
    fs::set_permissions(tree.top.join("src/a"), PermissionsExt::from_mode(0o640)).unwrap();
    let (all, more) = entries(tree.list(b"", None, 1000));
    let found: Vec<(&[u8], FileKind)> = all.iter().map(|entry| (&*entry.name, entry.kind)).collect();
    let expected: [(&[u8], FileKind); 4] = [
        (b"caf\xe9\n\x1b[2J", FileKind::File),
        (b"link", FileKind::Symlink),
        (b"pipe", FileKind::Special),
        (b"src", FileKind::Directory),
    ];
    assert_eq!((&*found, more), (&expected[..], false));
    // One by one, each after the one before.
    let mut after: Option<Vec<u8>> = None;
    for (name, _) in expected {
        let (one, more) = entries(tree.list(b".", after.as_deref(), 1));
        assert_eq!((&*one[0].name, one.len(), more), (name, 1, name != b"src"));
        after = Some(one[0].name.clone());
    }
    let (one, _) = entries(tree.list(b"src/a", None, 9));
    assert_eq!((&*one[0].name, one[0].size, one[0].mode), (&b"a"[..], 8, 0o640));
    let absolute = tree.top.join("src");
    assert_eq!(names(tree.list(absolute.as_os_str().as_bytes(), None, 9)), [b"a"]);
}

#[test]
fn a_directory_of_many_entries_is_listed_within_its_bounds() {
    let tree = tree();
    let many = tree.top.join("many");
    fs::create_dir(&many).unwrap();
    for number in 0..20_000 {
        File::create(many.join(format!("{number:05}-{}", "x".repeat(240)))).unwrap();
    }
    let (first, more) = entries(tree.list(b"many", None, 1000));
    assert!(more && first.len() > 900 && first.len() <= 1000, "{}", first.len());
    assert!(first[0].name.starts_with(b"00000-") && first.last().unwrap().name.starts_with(b"00"));
    assert!(first.iter().map(|entry| entry.name.len()).sum::<usize>() <= protocol::bounds::FILE_NAMES);
}

#[test]
fn a_file_is_read_in_pieces() {
    let tree = tree();
    assert_eq!(bytes(tree.read(b"src/a", 0, 1000)), b"one\ntwo\n");
    assert_eq!(bytes(tree.read(b"./src/../src/a", 4, 3)), b"two");
    assert_eq!(bytes(tree.read(b"src/a", 8, 3)), b"");
    assert_eq!(bytes(tree.read(b"src/a", u64::MAX, 3)), b"");
    assert_eq!(bytes(tree.read(b"src/a", i64::MAX as u64, 3)), b"");
    // A hole of a terabyte.
    File::create(tree.top.join("sparse")).unwrap().set_len(1 << 40).unwrap();
    let FilesAnswer::Piece { size, bytes, .. } = tree.read(b"sparse", 1 << 39, u32::MAX) else { panic!() };
    assert_eq!((size, bytes.len()), (1 << 40, protocol::bounds::FILE_PIECE));
}

#[test]
fn nothing_but_regular_files_is_read_and_no_pipe_is_waited_for() {
    let tree = tree();
    rustix::fs::mknodat(CWD, tree.top.join("pipe"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(tree.top.join("socket")).unwrap();
    symlink("pipe", tree.top.join("to-pipe")).unwrap();
    for path in [&b"pipe"[..], b"socket", b"to-pipe", b"src", b""] {
        assert_eq!(why(tree.read(path, 0, 9)), FilesRefusal::WrongKind, "{path:?}");
    }
    for path in [&b"none"[..], b"src/a/b", b"src/none/a", b"a\0b", &[b'x'; 5000]] {
        assert_eq!(why(tree.read(path, 0, 9)), FilesRefusal::Missing, "{path:?}");
    }
}

/// Paths that lead out of the directory, by their names or by what an agent has put there.
#[test]
fn no_path_leads_out() {
    let tree = tree();
    symlink(&tree.outside, tree.top.join("out")).unwrap();
    symlink("../outside/secret", tree.top.join("up")).unwrap();
    symlink("out/secret", tree.top.join("twice")).unwrap();
    symlink("/proc/self/root", tree.top.join("root")).unwrap();
    symlink("/", tree.top.join("slash")).unwrap();
    symlink("loop", tree.top.join("loop")).unwrap();
    for level in 0..100 {
        symlink(format!("deep{}", level + 1), tree.top.join(format!("deep{level}"))).unwrap();
    }
    let outside = tree.outside.join("secret");
    let beside = format!("{}-not", tree.top.display());
    let paths: [&[u8]; 12] = [
        b"../outside/secret",
        b"src/../../outside/secret",
        b"out/secret",
        b"up",
        b"twice",
        b"root/etc/passwd",
        b"slash/etc/passwd",
        b"loop",
        b"deep0",
        outside.as_os_str().as_bytes(),
        b"/proc/self/environ",
        beside.as_bytes(),
    ];
    for path in paths {
        let shown = String::from_utf8_lossy(path);
        assert_eq!(why(tree.read(path, 0, 100)), FilesRefusal::Outside, "{shown}");
        assert_eq!(why(tree.list(path, None, 9)), FilesRefusal::Outside, "{shown}");
    }
    assert_eq!(why(tree.list(b"..", None, 9)), FilesRefusal::Outside);
}

#[test]
fn the_directory_itself_is_no_link() {
    let tree = tree();
    let moved = tree.top.with_file_name("moved");
    fs::rename(&tree.top, &moved).unwrap();
    symlink(&tree.outside, &tree.top).unwrap();
    assert_eq!(why(tree.list(b"", None, 9)), FilesRefusal::Outside);
    assert_eq!(why(tree.read(b"secret", 0, 9)), FilesRefusal::Outside);
    assert_eq!(why(tree.diff(b"", &"a".repeat(40))), FilesRefusal::Outside);
}

#[test]
fn proc_is_not_read_where_it_is_below_the_directory() {
    let request = |ask| answer(&Request { workdir: "/".into(), ask }, &Default::default());
    let path = |path: &str| path.as_bytes().to_vec();
    for file in ["proc/self/environ", "proc/self/maps", "/proc/1/status"] {
        let ask = FilesAsk::Read { path: path(file), offset: 0, length: 9 };
        assert_eq!(why(request(ask)), FilesRefusal::Outside, "{file}");
    }
    let ask = FilesAsk::List { path: path("proc/self/fd"), after: None, limit: 9 };
    assert_eq!(why(request(ask)), FilesRefusal::Outside);
}

/// Somebody exchanges a directory for a link to the outside, over and over, while it is read.
#[test]
fn a_directory_that_is_exchanged_for_a_link_leads_nowhere() {
    let tree = tree();
    fs::write(tree.top.join("src/secret"), "inside").unwrap();
    symlink(&tree.outside, tree.top.join("trap")).unwrap();
    let stop = AtomicBool::new(false);
    let (mut inside, mut refused) = (0, 0);
    std::thread::scope(|scope| {
        let (a, b) = (tree.top.join("src"), tree.top.join("trap"));
        let stop = &stop;
        scope.spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let _ = rustix::fs::renameat_with(CWD, &a, CWD, &b, RenameFlags::EXCHANGE);
            }
        });
        for _ in 0..3000 {
            match tree.read(b"src/secret", 0, 100) {
                FilesAnswer::Piece { bytes, .. } if bytes == b"inside" => inside += 1,
                FilesAnswer::Refused { .. } => refused += 1,
                other => {
                    stop.store(true, Ordering::Relaxed);
                    panic!("{other:?}");
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(inside > 0 && refused > 0, "{inside} {refused}: the race did not take place");
}

#[allow(clippy::disallowed_methods, reason = "the child is the test's own")]
fn git(at: &Path, args: &[&str]) -> String {
    let mut git = Command::new("git");
    git.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    git.args(["-c", "user.name=a", "-c", "user.email=a@b", "-C"]).arg(at).args(args);
    let done = git.output().unwrap();
    assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap().trim().to_owned()
}

/// A tree that is a repository with one commit, and that commit.
fn repository() -> (Tree, String) {
    let tree = tree();
    fs::write(tree.top.join("gone"), "gone\n").unwrap();
    git(&tree.top, &["init", "--quiet"]);
    git(&tree.top, &["add", "."]);
    git(&tree.top, &["commit", "--quiet", "-m", "one"]);
    let commit = git(&tree.top, &["rev-parse", "HEAD"]);
    (tree, commit)
}

struct Difference {
    files: Vec<ChangedFile>,
    more: bool,
    text: String,
    cut: bool,
}

impl Difference {
    fn lines(&self) -> Vec<(String, Option<(u64, u64)>)> {
        self.files.iter().map(|file| (String::from_utf8_lossy(&file.path).into_owned(), file.lines)).collect()
    }
}

fn difference(answer: FilesAnswer) -> Difference {
    match answer {
        FilesAnswer::Difference { files, more, text, cut } => {
            Difference { files, more, text: String::from_utf8_lossy(&text).into_owned(), cut }
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_difference_has_what_was_changed_committed_removed_and_made() {
    let (tree, commit) = repository();
    assert!(difference(tree.diff(b"", &commit)).files.is_empty());
    fs::write(tree.top.join("src/a"), "one\n2\n").unwrap();
    fs::write(tree.top.join("committed"), "by the agent\n").unwrap();
    git(&tree.top, &["add", "committed"]);
    git(&tree.top, &["commit", "--quiet", "-m", "two"]);
    fs::remove_file(tree.top.join("gone")).unwrap();
    fs::write(tree.top.join("src/new"), "new\nfile\n").unwrap();
    fs::write(tree.top.join(".gitignore"), "built\n").unwrap();
    fs::write(tree.top.join("built"), "x").unwrap();
    fs::write(tree.top.join("picture"), b"\x89PNG\0\0").unwrap();
    let found = difference(tree.diff(b"", &commit));
    let expected = [
        (".gitignore", Some((1, 0))),
        ("committed", Some((1, 0))),
        ("gone", Some((0, 1))),
        ("picture", None),
        ("src/a", Some((1, 1))),
        ("src/new", Some((2, 0))),
    ];
    assert_eq!(found.lines(), expected.map(|(path, lines)| (path.to_owned(), lines)));
    assert!(found.text.contains("-two\n+2\n") && found.text.contains("+by the agent\n"), "{}", found.text);
    assert!(!found.more && !found.cut);
    let below = difference(tree.diff(b"src", &commit));
    assert_eq!(below.files.len(), 2);
    // Nothing of it is left in the repository: no object, no entry of its index.
    assert_eq!(git(&tree.top, &["status", "--porcelain", "src/new"]), "?? src/new");
}

#[test]
fn a_directory_below_the_top_is_compared_by_itself() {
    let (mut tree, commit) = repository();
    fs::write(tree.top.join("src/a"), "changed\n").unwrap();
    fs::write(tree.top.join("beside"), "not below\n").unwrap();
    tree.top.push("src");
    let found = difference(tree.diff(b"", &commit));
    assert_eq!(found.lines(), [("a".to_owned(), Some((1, 2)))]);
    assert!(found.text.contains("--- a/a\n+++ b/a\n"), "{}", found.text);
}

#[test]
fn a_worktree_of_another_repository_is_compared() {
    let (tree, commit) = repository();
    let other = tree.outside.join("worktree");
    git(&tree.top, &["worktree", "add", "--quiet", "-b", "other", other.to_str().unwrap()]);
    fs::write(other.join("src/a"), "changed\n").unwrap();
    let tree = Tree { top: other, ..tree };
    assert_eq!(difference(tree.diff(b"", &commit)).lines(), [("src/a".to_owned(), Some((1, 2)))]);
}

#[test]
fn without_a_repository_or_its_commit_there_is_no_difference() {
    let plain = tree();
    assert_eq!(why(plain.diff(b"", &"a".repeat(40))), FilesRefusal::NoCommit);
    let (tree, commit) = repository();
    for wrong in ["a".repeat(40), "a".repeat(64), "HEAD".into(), "--output=x".into(), String::new()] {
        assert_eq!(why(tree.diff(b"", &wrong)), FilesRefusal::NoCommit, "{wrong}");
    }
    assert_eq!(why(tree.diff(b"../outside", &commit)), FilesRefusal::Outside);
    assert_eq!(why(tree.diff(b"/etc", &commit)), FilesRefusal::Outside);
    assert_eq!(why(tree.diff(b"no/such", &commit)), FilesRefusal::Missing);
    for as_it_was in [&b"src/a"[..], b"src", b"./src/", b"."] {
        assert!(difference(tree.diff(as_it_was, &commit)).files.is_empty());
    }
    fs::remove_file(tree.top.join("src/a")).unwrap();
    assert_eq!(difference(tree.diff(b"src/a", &commit)).files.len(), 1, "it was there");
}

/// Traps that a hostile agent may plant: each would leave a mark if it ran.
#[test]
#[allow(clippy::disallowed_methods, reason = "the child is the test's own")]
fn nothing_of_a_repository_runs() {
    let (tree, commit) = repository();
    let mark = tree.outside.join("ran");
    let program = tree.outside.join("program");
    fs::write(&program, format!("#!/bin/sh\n: > '{}'\ncat\n", mark.display())).unwrap();
    fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    let run = program.to_str().unwrap();
    let hooks = tree.top.join("hooks");
    fs::create_dir(&hooks).unwrap();
    for name in
        ["post-index-change", "pre-commit", "post-checkout", "reference-transaction", "fsmonitor-watchman"]
    {
        symlink(&program, hooks.join(name)).unwrap();
        symlink(&program, tree.top.join(".git/hooks").join(name)).unwrap();
    }
    for (name, value) in [
        ("core.fsmonitor", run),
        ("core.hooksPath", hooks.to_str().unwrap()),
        ("diff.external", run),
        ("diff.d.textconv", run),
        ("diff.d.command", run),
        ("filter.f.clean", run),
        ("filter.f.smudge", run),
        ("filter.f.process", run),
        ("filter.f.required", "true"),
        ("core.pager", run),
        ("core.sshCommand", run),
        ("core.alternateRefsCommand", run),
        ("extensions.partialClone", "origin"),
        ("remote.origin.promisor", "true"),
        ("remote.origin.url", &format!("ext::{run} %S")),
        ("protocol.ext.allow", "always"),
        ("hook.h.command", run),
        ("hook.h.event", "post-index-change"),
    ] {
        git(&tree.top, &["config", name, value]);
    }
    fs::write(tree.top.join(".gitattributes"), "* diff=d filter=f\n").unwrap();
    fs::write(tree.top.join(".git/info/attributes"), "* diff=d filter=f\n").unwrap();
    // A submodule, whose own configuration counts when it is looked into.
    let sub = tree.top.join("sub");
    fs::create_dir(&sub).unwrap();
    git(&sub, &["init", "--quiet"]);
    git(&sub, &["commit", "--quiet", "--allow-empty", "-m", "sub"]);
    git(&sub, &["config", "core.fsmonitor", run]);
    fs::write(
        tree.top.join(".gitmodules"),
        "[submodule \"sub\"]\n\tpath = sub\n\turl = x\n\tignore = none\n",
    )
    .unwrap();
    fs::write(tree.top.join("src/a"), "changed\n").unwrap();
    let found = difference(tree.diff(b"", &commit));
    assert!(!mark.exists(), "something ran");
    assert!(found.lines().contains(&("src/a".to_owned(), Some((1, 2)))), "{:?}", found.lines());
    // The program would have left its mark.
    let planted = Command::new(run).stdin(std::process::Stdio::null()).output().unwrap();
    assert!(planted.status.success() && mark.exists());
}

#[test]
fn an_index_hides_no_change_and_a_submodule_of_the_commit_runs_nothing() {
    let (tree, _) = repository();
    let mark = tree.outside.join("ran");
    let program = tree.outside.join("program");
    fs::write(&program, format!("#!/bin/sh\n: > '{}'\n", mark.display())).unwrap();
    fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    let sub = tree.top.join("sub");
    fs::create_dir(&sub).unwrap();
    git(&sub, &["init", "--quiet"]);
    git(&sub, &["commit", "--quiet", "--allow-empty", "-m", "sub"]);
    git(&tree.top, &["add", "sub"]);
    git(&tree.top, &["commit", "--quiet", "-m", "two"]);
    let commit = git(&tree.top, &["rev-parse", "HEAD"]);
    git(&sub, &["config", "core.fsmonitor", program.to_str().unwrap()]);
    fs::write(sub.join("untracked"), "x").unwrap();
    git(&tree.top, &["update-index", "--assume-unchanged", "src/a"]);
    git(&tree.top, &["update-index", "--skip-worktree", "gone"]);
    fs::write(tree.top.join("src/a"), "changed\n").unwrap();
    fs::remove_file(tree.top.join("gone")).unwrap();
    let found = difference(tree.diff(b"", &commit));
    let expected = [("gone", Some((0, 1))), ("src/a", Some((1, 2)))];
    assert_eq!(found.lines(), expected.map(|(path, lines)| (path.to_owned(), lines)));
    assert!(!mark.exists(), "something ran");
}

#[test]
fn what_is_large_or_never_ends_is_bounded() {
    let (tree, commit) = repository();
    rustix::fs::mknodat(CWD, tree.top.join("pipe"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    symlink(&tree.outside, tree.top.join("out")).unwrap();
    File::create(tree.top.join("sparse")).unwrap().set_len(1 << 40).unwrap();
    fs::write(tree.top.join("long"), "a line of it\n".repeat(70_000)).unwrap();
    let found = difference(tree.diff(b"", &commit));
    assert!(found.cut && found.text.len() <= protocol::bounds::DIFFERENCE, "{}", found.text.len());
    let lines = found.lines();
    assert!(lines.contains(&("long".to_owned(), Some((70_000, 0)))), "{lines:?}");
    assert!(lines.contains(&("sparse".to_owned(), None)), "{lines:?}");
    assert!(!found.text.contains(SECRET) && !lines.iter().any(|(path, _)| path == "pipe"), "{lines:?}");
    fs::remove_file(tree.top.join("long")).unwrap();
    for number in 0..1500 {
        fs::write(tree.top.join(format!("new-{number}")), "x\n").unwrap();
    }
    let found = difference(tree.diff(b"", &commit));
    assert!(found.more && found.files.len() <= protocol::bounds::FILES, "{}", found.files.len());
}

#[test]
fn a_pipe_in_the_place_of_what_git_reads_ends_with_the_time_and_not_later() {
    let (tree, commit) = repository();
    // A file of the objects: git waits for it, and is killed.
    let packs = tree.top.join(".git/objects/info/alternates");
    rustix::fs::mknodat(CWD, &packs, FileType::Fifo, Mode::RWXU, 0).unwrap();
    assert_eq!(why(tree.diff(b"", &commit)), FilesRefusal::TooSlow);
    // A small file of the git directory: kennel itself reads it, and does not wait.
    let (tree, commit) = repository();
    rustix::fs::mknodat(CWD, tree.top.join(".git/commondir"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    assert!(difference(tree.diff(b"", &commit)).files.is_empty());
}
