//! The targets of the probes: a home with secrets, a daemon, another session, sockets, memory, keys, a
//! terminal.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use crate::containment::User;

/// The user `nobody`, who owns nothing and has no rights.
pub const NOBODY: u32 = 65534;
/// The content of every secret.
pub const CANARY: &str = "canary-4711";

/// The programs in C, built of exactly these sources.
pub fn built() -> &'static (PathBuf, PathBuf) {
    static BUILT: OnceLock<(PathBuf, PathBuf)> = OnceLock::new();
    BUILT.get_or_init(|| {
        let to = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("hostile-{}", std::process::id()));
        std::fs::create_dir_all(&to).unwrap();
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/hostile");
        let build = |source: &str, name: &str, options: &[&str]| {
            let program = to.join(name);
            let mut cc = Command::new("cc");
            cc.args(["-O1", "-w", "-o"]).arg(&program).arg(sources.join(source)).args(options);
            assert!(cc.spawn().unwrap().wait().unwrap().success(), "{cc:?}");
            program
        };
        (
            build("probes.c", "probes", &["-lrt", "-lutil"]),
            build("preload.c", "preload.so", &["-shared", "-fPIC", "-ldl"]),
        )
    })
}

/// A user's command.
pub fn as_user(user: User, program: &Path) -> Command {
    if user != User::Nobody {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    let id = NOBODY.to_string();
    command.args(["--reuid", &id, "--regid", &id, "--clear-groups"]).arg(program);
    command
}

pub fn give_away(directory: &Path) {
    chown(directory, Some(NOBODY), Some(NOBODY)).unwrap();
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        match entry.path().is_dir() && !entry.path().is_symlink() {
            true => give_away(&entry.path()),
            false => std::os::unix::fs::lchown(entry.path(), Some(NOBODY), Some(NOBODY)).unwrap(),
        }
    }
}

/// The program that has sockets, memory, keys and a terminal open. It ends, and takes them away, when this is dropped.
pub struct Outside {
    child: Child,
    pub facts: BTreeMap<String, String>,
}

impl Outside {
    pub fn new(user: User, probes: &Path, place: &Path, secret: &Path) -> Self {
        let mut command = as_user(user, probes);
        command.arg("outside").arg(place).arg(secret).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut facts = BTreeMap::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            if line == "ready" {
                return Self { child, facts };
            }
            let (name, value) = line.split_once(' ').unwrap();
            facts.insert(name.to_owned(), value.to_owned());
        }
        panic!("what is outside does not come up: {:?}", child.wait());
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// Returns the unique part of a test directory's name.
pub fn daemon_name(root: &Path) -> String {
    root.file_name().unwrap().to_string_lossy().into_owned()
}

/// A file as it is, to see whether anything about it was changed.
#[derive(Debug, PartialEq)]
pub struct Snapshot {
    text: Option<Vec<u8>>,
    facts: Option<(u32, u32, u64, i64, i64, u64)>,
    attribute: bool,
}

impl Snapshot {
    pub fn of(path: &Path) -> Self {
        let meta = path.symlink_metadata().ok();
        Self {
            text: std::fs::read(path).ok(),
            facts: meta.map(|m| (m.mode(), m.uid(), m.nlink(), m.mtime(), m.mtime_nsec(), m.ino())),
            attribute: rustix::fs::getxattr(path, "user.touched", &mut [0u8; 16]).is_ok(),
        }
    }
}
