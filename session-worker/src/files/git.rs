//! git with a repository of the reader's own, over the objects of the session's repository.
//!
//! An agent may have written the repository's configuration, hooks and index. None of these is read: no filter, hook, helper,
//! textconv or file system monitor of a repository runs, and no index hides a change. The attributes that lie among the files
//! are read; the drivers that they name are defined nowhere.

use std::fs::{self, DirBuilder, File};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use protocol::MARKER;
use protocol::wire::FilesRefusal;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{OFlags, Timespec};

use super::Refused;

/// Time for everything that git does for one request. The worker waits longer.
pub const LONGEST: Duration = Duration::from_secs(if cfg!(test) { 5 } else { 12 });
/// The longest file of a git directory that is read here, in bytes.
const SMALL: u64 = 4096;
/// The configuration of the reader's own repository. A text that is larger than `bigFileThreshold` is compared as a whole.
const CONFIG: &str = "\
[core]
\tbare = false
\tattributesFile = /dev/null
\texcludesFile = /dev/null
\thooksPath = /dev/null
\tfsmonitor = false
\tuntrackedCache = false
\tpreloadIndex = false
\tquotePath = false
\tbigFileThreshold = 1m
\tpackedGitLimit = 512m
\tpackedGitWindowSize = 64m
\tdeltaBaseCacheLimit = 64m
\tpager = cat
\teditor = false
\taskPass =
[index]
\tthreads = 1
[protocol]
\tallow = never
[submodule]
\trecurse = false
[maintenance]
\tauto = false
[gc]
\tauto = 0
";

/// A repository of the reader's own over the files of a worktree. Dropping it removes it.
pub struct OwnGit {
    private: PathBuf,
    /// The top of the worktree.
    top: PathBuf,
    /// The directory in which git runs: the session's.
    pub workdir: PathBuf,
    until: Instant,
    /// The worker ends this process.
    ended: Arc<AtomicBool>,
}

impl Drop for OwnGit {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.private);
    }
}

impl OwnGit {
    /// Makes one around the session's directory, for commits whose names are as long as this one.
    pub fn around(workdir: &Path, commit: &str, ended: &Arc<AtomicBool>) -> Result<Self, Refused> {
        let (top, objects) = repository(workdir)?;
        let private = temporary().map_err(|error| no_git(format!("no temporary directory: {error}")))?;
        let (workdir, until, ended) = (workdir.to_owned(), Instant::now() + LONGEST, ended.clone());
        let own = Self { private, top, workdir, until, ended };
        own.make(&objects, commit)
            .map_err(|error| no_git(format!("no repository could be made: {error}")))?;
        Ok(own)
    }

    fn make(&self, objects: &Path, commit: &str) -> std::io::Result<()> {
        let git = self.private.join("git");
        for directory in ["", "objects", "objects/info", "refs", "info"] {
            fs::create_dir(git.join(directory))?;
        }
        fs::write(git.join("HEAD"), "ref: refs/heads/none\n")?;
        let format = match commit.len() > 40 {
            true => "[core]\n\trepositoryFormatVersion = 1\n[extensions]\n\tobjectFormat = sha256\n",
            false => "[core]\n\trepositoryFormatVersion = 0\n",
        };
        fs::write(git.join("config"), [format, CONFIG].concat())?;
        fs::write(git.join("objects/info/alternates"), [objects.as_os_str().as_bytes(), b"\n"].concat())
    }

    /// A path in the private directory.
    pub fn private(&self, name: &str) -> PathBuf {
        self.private.join(name)
    }

    /// Runs git. Gives at most `most` bytes of its output and whether that is all. git is ended when there is more, and when its
    /// time is over.
    pub fn run(&self, args: &[&str], most: usize) -> Result<(Vec<u8>, bool), Refused> {
        let messages = self.private("messages");
        let errors = File::create(&messages).map_err(|error| no_git(error.to_string()))?;
        let mut command = Command::new("git");
        command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command.envs([
            ("HOME", "/nonexistent"),
            ("LC_ALL", "C"),
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_ATTR_NOSYSTEM", "1"),
            ("GIT_NO_LAZY_FETCH", "1"),
            ("GIT_ALLOW_PROTOCOL", "none"),
            ("GIT_NO_REPLACE_OBJECTS", "1"),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_OPTIONAL_LOCKS", "0"),
            ("GIT_LITERAL_PATHSPECS", "1"),
            ("GIT_ASKPASS", "false"),
            ("GIT_EDITOR", "false"),
            ("GIT_PAGER", "cat"),
        ]);
        // By which the manager finds what is left of a session.
        command.envs(std::env::var_os(MARKER).map(|marker| (MARKER, marker)));
        command.env("GIT_DIR", self.private("git")).env("GIT_WORK_TREE", &self.top);
        command.env("GIT_INDEX_FILE", self.private("index"));
        command.current_dir(&self.workdir).args(args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors);
        let mut child = command.spawn().map_err(|error| no_git(format!("git cannot be run: {error}")))?;
        let read = self.read(&mut child, most);
        if !matches!(read, Ok((_, true))) {
            let _ = child.kill();
        }
        let status = child.wait().map_err(|error| no_git(error.to_string()))?;
        let (bytes, whole) = read?;
        if whole && !status.success() {
            return Err(no_git(last_line(&messages)));
        }
        Ok((bytes, whole))
    }

    fn read(&self, child: &mut Child, most: usize) -> Result<(Vec<u8>, bool), Refused> {
        let Some(mut output) = child.stdout.take() else { return Ok((Vec::new(), true)) };
        let (mut bytes, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);
        loop {
            if self.ended.load(Ordering::Relaxed) {
                return Err(no_git("the reader is ended"));
            }
            let left = self.until.saturating_duration_since(Instant::now());
            let within = Timespec::try_from(left).unwrap_or_default();
            match poll(&mut [PollFd::new(&output, PollFlags::IN)], Some(&within)) {
                Ok(0) => return Err(too_slow()),
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(no_git(error.to_string())),
            }
            let read = output.read(&mut buffer).map_err(|error| no_git(error.to_string()))?;
            if read == 0 {
                return Ok((bytes, true));
            }
            bytes.extend_from_slice(&buffer[..read]);
            if bytes.len() > most {
                bytes.truncate(most);
                return Ok((bytes, false));
            }
        }
    }
}

/// Makes a directory for this user alone.
fn temporary() -> std::io::Result<PathBuf> {
    let (base, pid) = (std::env::temp_dir(), std::process::id());
    for number in 0..1000 {
        let path = base.join(format!("kennel-files-{pid}-{number}"));
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            made => return made.map(|()| path),
        }
    }
    Err(std::io::ErrorKind::AlreadyExists.into())
}

/// The top of the worktree around a directory, and the objects of its repository. Reads three small files, and runs nothing.
fn repository(workdir: &Path) -> Result<(PathBuf, PathBuf), Refused> {
    let none = || {
        let message = format!("{} is in no git repository that the sandbox shows", workdir.display());
        Refused::new(FilesRefusal::NoCommit, message)
    };
    for top in workdir.ancestors() {
        let dot = top.join(".git");
        let Ok(found) = fs::symlink_metadata(&dot) else { continue };
        let git = match found.is_dir() {
            true => dot,
            // A worktree of another repository, or a submodule.
            false => {
                let named = small(&dot).ok_or_else(none)?;
                top.join(Path::new(named.strip_prefix("gitdir: ").ok_or_else(none)?))
            }
        };
        let common = small(&git.join("commondir")).map_or(git.clone(), |named| git.join(named));
        let objects = common.join("objects");
        // A line of the file in which git reads it.
        let plain = !objects.as_os_str().as_bytes().iter().any(|byte| matches!(byte, b'\n' | b'"' | b'#'));
        return (plain && objects.is_dir()).then(|| (top.to_owned(), objects)).ok_or_else(none);
    }
    Err(none())
}

/// The one line of a small regular file.
fn small(path: &Path) -> Option<String> {
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW).bits();
    let file = fs::OpenOptions::new().read(true).custom_flags(flags.cast_signed()).open(path).ok()?;
    let mut text = String::new();
    file.metadata().ok().filter(fs::Metadata::is_file)?;
    file.take(SMALL).read_to_string(&mut text).ok()?;
    Some(text.trim_end_matches(['\n', '\r']).to_owned()).filter(|line| !line.contains('\n'))
}

fn last_line(messages: &Path) -> String {
    let mut text = Vec::new();
    let _ = File::open(messages).and_then(|file| file.take(64 * 1024).read_to_end(&mut text));
    let text = String::from_utf8_lossy(&text);
    text.trim().lines().next_back().unwrap_or("git failed and gave no reason").to_owned()
}

/// Writes names for git to read.
pub fn write_names(path: &Path, names: &[Vec<u8>]) -> Result<(), Refused> {
    let written = File::create(path).and_then(|mut file| {
        names.iter().try_for_each(|name| file.write_all(name).and_then(|()| file.write_all(b"\0")))
    });
    written.map_err(|error| no_git(error.to_string()))
}

/// git is missing, or failed.
pub fn no_git(message: impl Into<String>) -> Refused {
    Refused::new(FilesRefusal::NoGit, message)
}

fn too_slow() -> Refused {
    let message = format!("git did not end within {} s and was killed", LONGEST.as_secs());
    Refused::new(FilesRefusal::TooSlow, message)
}
