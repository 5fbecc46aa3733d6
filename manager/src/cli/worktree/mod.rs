//! Git worktrees for sub-agents: a directory and a branch of its own, so that two agents do not write into the same
//! files.
//!
//! A worktree lies in `worktrees/SESSION/` below the state directory, not in the repository, where it would be in the way
//! of tools that search. It belongs to whoever asked for it: kennel removes one only if all that is in it is elsewhere ([`remains`]).
//!
//! An agent in a sandbox may have written everything in the repository that lies in its working directory: configuration,
//! hooks, attributes, links. This process runs in no sandbox, so nothing of that may make it run a program, or write
//! elsewhere. The files are checked out by a git directory of kennel's own, with a configuration of kennel's own, which only
//! borrows the repository's objects: no filter, hook, alias or remote is defined there, whatever the repository says.
//! What has to be done in the repository itself, to add a branch and a worktree without files, runs no program but git
//! ([`git`]).

pub mod remains;

use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use protocol::SessionId;
use rustix::fs::{FlockOperation, flock};

use crate::cli::link::random_key;
use crate::cli::ui::error::{Failure, Outcome};
use crate::worktrees;

/// Set before anything that a repository says, and stronger than it. Nothing of it runs a program, and nothing of it
/// reaches another repository.
const SETTINGS: &[&str] = &[
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
/// What the names of kennel's branches begin with.
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
    /// Held until its session is there: nobody removes it meanwhile.
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

    /// Takes it back, with its branch. For one in which nobody has worked.
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

/// What a repository says of itself.
struct Repository {
    /// The top of the worktree that is worked in.
    top: PathBuf,
    /// The directory that is worked in, below the top.
    prefix: PathBuf,
    /// Its objects.
    objects: PathBuf,
    /// How they are named: `sha1` or `sha256`.
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
        if git(&top, &["config", "--includes", "--name-only", "--get-regexp", REFUSED])
            .is_ok_and(|found| !found.is_empty())
        {
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

/// A git directory of our own over a worktree: with our configuration, and the objects of the worktree's repository.
struct OwnGit<'a> {
    private: tempfile::TempDir,
    objects: &'a Path,
    worktree: &'a Path,
}

impl<'a> OwnGit<'a> {
    fn new(format: &str, objects: &'a Path, worktree: &'a Path) -> Result<Self, String> {
        let private = tempfile::tempdir().map_err(|error| format!("no temporary directory: {error}"))?;
        let git_dir = private.path().join("git");
        let format = format!("--object-format={format}");
        let shown = git_dir.to_str().ok_or_else(|| format!("{} is not UTF-8", git_dir.display()))?;
        tried(private.path(), &[], &["init", "--quiet", "--bare", "--template=", &format, "--", shown])?;
        Ok(Self { private, objects, worktree })
    }

    fn run(&self, args: &[&str]) -> Result<String, String> {
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

fn failed(why: String) -> Failure {
    Failure::failed("no_worktree", format!("no worktree could be made, and nothing was started: {why}"))
        .hint("leave `worktree` out to work in the same directory")
}

/// What git prints. Every run of git is this one.
fn git(directory: &Path, args: &[&str]) -> Outcome<String> {
    git_with(directory, &[], args)
}

fn git_with(directory: &Path, around: &[(&str, &Path)], args: &[&str]) -> Outcome<String> {
    tried(directory, around, args).map_err(failed)
}

/// The same; an error is what git says.
fn tried(directory: &Path, around: &[(&str, &Path)], args: &[&str]) -> Result<String, String> {
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

/// Directories of others that the owner has said to trust. Without it git looks at no repository of another user.
fn owners_safe_directories() -> Vec<String> {
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
fn plain_git() -> Command {
    let mut command = Command::new("git");
    command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    command.envs([("HOME", "/nonexistent"), ("LC_ALL", "C"), ("GIT_TERMINAL_PROMPT", "0")]);
    command.envs([("GIT_ASKPASS", "false"), ("GIT_EDITOR", "false"), ("GIT_PAGER", "cat")]);
    command.stdin(Stdio::null());
    command
}

#[allow(clippy::disallowed_methods, reason = "`kennel mcp` is a process of its own, with no reaper in it")]
fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("git cannot be run: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

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

    /// Makes a program that leaves a mark when it is run, and gives its path and the mark's.
    fn program(place: &Place, name: &str) -> (String, PathBuf) {
        let (path, mark) = (place.dir.path().join(format!("{name}-program")), place.dir.path().join(name));
        std::fs::write(&path, format!("#!/bin/sh\n: > '{}'\n", mark.display())).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        (path.to_str().unwrap().to_owned(), mark)
    }

    #[test]
    fn nothing_that_a_repository_says_is_run() {
        // Each with what is planted: settings, attributes, and whatever else it takes.
        let hooks =
            ["post-checkout", "reference-transaction", "post-index-change", "pre-auto-gc", "post-commit"];
        type Plant = fn(&Place, &str);
        fn set(place: &Place, name: &str, value: &str) {
            agents_git(&place.repository, &["config", name, value]);
        }
        fn attribute(place: &Place, text: &str) {
            std::fs::write(place.repository.join(".git/info/attributes"), text).unwrap();
        }
        let ways: [(&str, Plant); 14] = [
            ("fsmonitor", |place, program| set(place, "core.fsmonitor", program)),
            ("smudge", |place, program| {
                set(place, "filter.f.smudge", program);
                set(place, "filter.f.required", "true");
                attribute(place, "* filter=f\n");
            }),
            ("process", |place, program| {
                set(place, "filter.f.process", program);
                attribute(place, "* filter=f\n");
            }),
            ("clean", |place, program| {
                set(place, "filter.f.clean", program);
                attribute(place, "* filter=f\n");
            }),
            ("committed", |place, program| {
                set(place, "filter.f.smudge", program);
                std::fs::write(place.repository.join(".gitattributes"), "* filter=f\n").unwrap();
                agents_git(&place.repository, &["-c", "filter.f.smudge=cat", "add", ".gitattributes"]);
                agents_git(
                    &place.repository,
                    &["-c", "filter.f.smudge=cat", "commit", "--quiet", "-m", "two"],
                );
            }),
            ("included", |place, program| {
                let file = place.dir.path().join("included-config");
                std::fs::write(&file, format!("[filter \"f\"]\n\tsmudge = {program}\n")).unwrap();
                set(place, "include.path", file.to_str().unwrap());
                attribute(place, "* filter=f\n");
            }),
            ("worktree-config", |place, program| {
                set(place, "extensions.worktreeConfig", "true");
                agents_git(&place.repository, &["config", "--worktree", "filter.f.smudge", program]);
                attribute(place, "* filter=f\n");
            }),
            ("hooks-path", |place, program| {
                let hooks = place.repository.join("hooks");
                std::fs::create_dir(&hooks).unwrap();
                for name in ["post-checkout", "reference-transaction", "post-index-change"] {
                    symlink(program, hooks.join(name)).unwrap();
                }
                set(place, "core.hooksPath", hooks.to_str().unwrap());
            }),
            ("alias", |place, program| {
                for name in ["worktree", "rev-parse", "read-tree", "config", "branch"] {
                    set(place, &format!("alias.{name}"), &format!("!{program}"));
                }
            }),
            ("pager", |place, program| {
                for name in ["core.pager", "pager.worktree", "pager.config", "core.editor", "sequence.editor"]
                {
                    set(place, name, program);
                }
            }),
            ("helpers", |place, program| {
                for name in
                    ["core.askPass", "credential.helper", "diff.external", "gpg.program", "core.gitProxy"]
                {
                    set(place, name, program);
                }
                set(place, "core.alternateRefsCommand", program);
                set(place, "commit.gpgSign", "true");
                set(place, "diff.d.textconv", program);
                set(place, "merge.m.driver", program);
                attribute(place, "* diff=d merge=m\n");
            }),
            ("promised", |place, program| {
                // A partial clone: what is missing is fetched from wherever its configuration says.
                set(place, "core.repositoryFormatVersion", "1");
                set(place, "extensions.partialClone", "origin");
                set(place, "remote.origin.promisor", "true");
                set(place, "remote.origin.url", &format!("ext::{program} %S"));
                set(place, "remote.origin.uploadpack", program);
                set(place, "protocol.ext.allow", "always");
                set(place, "core.sshCommand", program);
                let blob =
                    run(plain_git().arg("-C").arg(&place.repository).args(["rev-parse", "HEAD:src/a"]))
                        .unwrap();
                let object = place.repository.join(".git/objects").join(&blob[..2]).join(&blob[2..]);
                std::fs::remove_file(object).unwrap();
            }),
            ("submodule", |place, program| {
                let sub = place.repository.join("sub");
                agents_git(&place.repository, &["init", "--quiet", "sub"]);
                agents_git(&sub, &["commit", "--quiet", "--allow-empty", "-m", "one"]);
                agents_git(&place.repository, &["add", "sub"]);
                agents_git(&place.repository, &["commit", "--quiet", "-m", "sub"]);
                std::fs::create_dir(sub.join(".git/hooks")).ok();
                symlink(program, sub.join(".git/hooks/post-checkout")).unwrap();
                set(place, "submodule.recurse", "true");
                set(place, "submodule.sub.url", &format!("ext::{program} %S"));
                set(place, "submodule.sub.update", &format!("!{program}"));
            }),
            ("configured-hook", |place, program| {
                set(place, "hook.h.command", program);
                set(place, "hook.h.event", "reference-transaction");
            }),
        ];
        for (name, plant) in ways {
            let place = place();
            let (program, mark) = program(&place, name);
            plant(&place, &program);
            let made = place.make(&place.repository);
            assert!(!mark.exists(), "{name} was run: {made:?}");
            // What was refused leaves nothing; what was not has its files, as they are in the repository.
            match made {
                Ok(made) => {
                    assert!(!["promised", "configured-hook"].contains(&name));
                    assert_eq!(std::fs::read_to_string(made.path.join("src/a")).unwrap(), "a", "{name}");
                    made.remove();
                    assert!(!mark.exists() && !made.path.exists(), "{name}");
                }
                Err(failure) => {
                    assert!(["promised", "configured-hook"].contains(&name), "{name}: {failure:?}");
                    let left = std::fs::read_dir(place.state.join("worktrees/boss"));
                    assert_eq!(left.into_iter().flatten().count(), 0, "{name}");
                }
            }
        }
        for hook in hooks {
            let place = place();
            let (program, mark) = program(&place, hook);
            std::fs::create_dir_all(place.repository.join(".git/hooks")).unwrap();
            symlink(program, place.repository.join(".git/hooks").join(hook)).unwrap();
            place.make(&place.repository).unwrap().remove();
            assert!(!mark.exists(), "{hook} was run");
        }
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
        // What is committed in the place of the directory that is worked in.
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
        // A repository that says that its files are elsewhere.
        agents_git(&place.repository, &["config", "core.worktree", other.path().to_str().unwrap()]);
        assert!(place.make(&place.repository).unwrap_err().is("no_worktree"));
        assert!(empty());
    }
}
