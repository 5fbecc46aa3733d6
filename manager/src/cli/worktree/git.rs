//! Runs git so that nothing in a repository makes it run another program.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{OnceLock, mpsc};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// The longest that git may run. An agent can put a FIFO where git reads a file, and git then waits for ever. The checkout of a
/// large repository over a slow network is shorter.
const LONGEST: Duration = if cfg!(test) { Duration::from_secs(5) } else { Duration::from_secs(600) };
/// The time between SIGTERM, at which git removes its lock files, and SIGKILL.
const GRACE: Duration = Duration::from_secs(2);
/// The beginning of the error about a git that did not end.
const STUCK: &str = "git did not end";
/// Settings that come before a repository's own and override them. No program runs by them, and git reaches
/// no other repository.
pub(super) const SETTINGS: &[&str] = &[
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.attributesFile=/dev/null",
    "core.excludesFile=/dev/null",
    "core.sshCommand=false",
    "core.gitProxy=",
    "core.askPass=",
    "core.editor=false",
    "core.pager=cat",
    "core.alternateRefsCommand=false",
    "core.untrackedCache=false",
    "credential.helper=",
    "diff.external=",
    "gpg.program=false",
    "commit.gpgSign=false",
    "protocol.allow=never",
    "submodule.recurse=false",
    "fetch.recurseSubmodules=false",
    "maintenance.auto=false",
    "gc.auto=0",
];
/// Sections of a repository's configuration that newer versions of git run programs from where no setting above reaches.
const REFUSED: &str = r"^hook\.";

/// A git directory of our own over a worktree: with our configuration, and the objects of the worktree's repository.
pub(super) struct OwnGit<'a> {
    private: tempfile::TempDir,
    objects: &'a Path,
    worktree: &'a Path,
}

impl<'a> OwnGit<'a> {
    pub(super) fn new(format: &str, objects: &'a Path, worktree: &'a Path) -> Result<Self, String> {
        let private = tempfile::tempdir().map_err(|error| format!("no temporary directory: {error}"))?;
        let git_dir = private.path().join("git");
        let format = format!("--object-format={format}");
        let shown = git_dir.to_str().ok_or_else(|| format!("{} is not UTF-8", git_dir.display()))?;
        tried(private.path(), &[], &["init", "--quiet", "--bare", "--template=", &format, "--", shown])?;
        Ok(Self { private, objects, worktree })
    }

    pub(super) fn run(&self, args: &[&str]) -> Result<String, String> {
        let (git_dir, index) = (self.private.path().join("git"), self.private.path().join("index"));
        let around: [(&str, &Path); 4] = [
            ("GIT_DIR", &git_dir),
            ("GIT_WORK_TREE", self.worktree),
            ("GIT_OBJECT_DIRECTORY", self.objects),
            ("GIT_INDEX_FILE", &index),
        ];
        tried(self.worktree, &around, args)
    }
}

/// Runs git with kennel's settings, in this directory and with `around` in the environment; an error is git's own message.
pub(super) fn tried(directory: &Path, around: &[(&str, &Path)], args: &[&str]) -> Result<String, String> {
    static TRUSTED: OnceLock<Vec<String>> = OnceLock::new();
    let trusted = TRUSTED.get_or_init(owners_safe_directories);
    let mut command = plain_git();
    command.envs([
        // The owner's configuration names filters and helpers, too, and a repository's attributes would choose among them.
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_ATTR_NOSYSTEM", "1"),
        // Objects of a partial clone are not fetched.
        ("GIT_NO_LAZY_FETCH", "1"),
        ("GIT_ALLOW_PROTOCOL", "none"),
        ("GIT_NO_REPLACE_OBJECTS", "1"),
        ("GIT_AUTHOR_NAME", "kennel"),
        ("GIT_AUTHOR_EMAIL", "kennel@localhost"),
        ("GIT_COMMITTER_NAME", "kennel"),
        ("GIT_COMMITTER_EMAIL", "kennel@localhost"),
    ]);
    command.envs(around.iter().copied());
    for setting in SETTINGS {
        command.args(["-c", setting]);
    }
    for directory in trusted {
        command.args(["-c", &format!("safe.directory={directory}")]);
    }
    run(command.arg("-C").arg(directory).args(args))
}

/// Returns the other users' directories that the owner has declared safe. Without these git opens no
/// repository of another user.
pub(super) fn owners_safe_directories() -> Vec<String> {
    let Some(home) = std::env::var_os("HOME") else { return Vec::new() };
    ["--global", "--system"]
        .into_iter()
        .filter_map(|scope| {
            let mut command = plain_git();
            command.env("HOME", &home).args(["-C", "/", "config", scope, "--get-all", "safe.directory"]);
            run(&mut command).ok()
        })
        .flat_map(|found| found.lines().map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

/// git with nothing of this process's environment but the way to it.
pub(super) fn plain_git() -> Command {
    let mut command = Command::new("git");
    command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    command.envs([("HOME", "/nonexistent"), ("LC_ALL", "C"), ("GIT_TERMINAL_PROMPT", "0")]);
    command.envs([("GIT_ASKPASS", "false"), ("GIT_EDITOR", "false"), ("GIT_PAGER", "cat")]);
    command.stdin(Stdio::null());
    command
}

/// Runs git and returns its output, or its messages as an error. Kills git after [`LONGEST`].
pub(super) fn run(command: &mut Command) -> Result<String, String> {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("git cannot be run: {error}"))?;
    let (Ok(printed), Ok(messages)) = (read(child.stdout.take()), read(child.stderr.take())) else {
        end(&mut child, || {});
        return Err("git cannot be run: no thread can be started".into());
    };
    let deadline = Instant::now() + LONGEST;
    let ended = |text: &mpsc::Receiver<Vec<u8>>, deadline: Instant| {
        text.recv_timeout(deadline.saturating_duration_since(Instant::now()))
    };
    let (Ok(printed), Ok(messages)) = (ended(&printed, deadline), ended(&messages, deadline)) else {
        // git closes both pipes when it ends.
        end(&mut child, || drop(ended(&messages, Instant::now() + GRACE)));
        return Err(format!("{STUCK} within {} seconds and was killed", LONGEST.as_secs()));
    };
    let status = child.wait().map_err(|error| format!("git cannot be waited for: {error}"))?;
    if !status.success() {
        return Err(String::from_utf8_lossy(&messages).trim().to_owned());
    }
    Ok(String::from_utf8_lossy(&printed).trim_end_matches('\n').to_owned())
}

/// Ends git: SIGTERM, a wait, SIGKILL. git may have ended by itself.
fn end(child: &mut Child, wait: impl FnOnce()) {
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, Signal::TERM);
        wait();
    }
    let _ = child.kill();
    let _ = child.wait();
}

/// Reads a pipe to its end in a thread of its own, and sends what came.
fn read(pipe: Option<impl Read + Send + 'static>) -> std::io::Result<mpsc::Receiver<Vec<u8>>> {
    let (to, all) = mpsc::channel();
    let read = move || {
        let mut all = Vec::new();
        // Output from before a read error counts.
        let _ = pipe.map(|mut pipe| pipe.read_to_end(&mut all));
        // After the time limit no one listens.
        let _ = to.send(all);
    };
    std::thread::Builder::new().spawn(read).map(|_| all)
}

/// Returns true if a repository's configuration defines hooks, or git hangs over it. Newer versions of git run these hooks, and no
/// setting prevents it.
pub(super) fn defines_hooks(directory: &Path, around: &[(&str, &Path)]) -> bool {
    match tried(directory, around, &["config", "--includes", "--name-only", "--get-regexp", REFUSED]) {
        Ok(found) => !found.is_empty(),
        Err(messages) => messages.starts_with(STUCK),
    }
}
