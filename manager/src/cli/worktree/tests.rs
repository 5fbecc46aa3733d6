//! Worktrees of repositories, hostile ones too.

use std::os::unix::fs::{PermissionsExt, symlink};

use super::git::plain_git;
use super::git::run;
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
    let hooks = ["post-checkout", "reference-transaction", "post-index-change", "pre-auto-gc", "post-commit"];
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
            agents_git(&place.repository, &["-c", "filter.f.smudge=cat", "commit", "--quiet", "-m", "two"]);
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
            for name in ["core.pager", "pager.worktree", "pager.config", "core.editor", "sequence.editor"] {
                set(place, name, program);
            }
        }),
        ("helpers", |place, program| {
            for name in ["core.askPass", "credential.helper", "diff.external", "gpg.program", "core.gitProxy"]
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
                run(plain_git().arg("-C").arg(&place.repository).args(["rev-parse", "HEAD:src/a"])).unwrap();
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

/// What becomes of a worktree that nobody works in: an error says why it stays.
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
    for file in ["gitdir", "HEAD"] {
        let place = place();
        let made = place.make(&place.repository).unwrap();
        let path = entry(&place, &made).join(file);
        std::fs::remove_file(&path).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR)
            .unwrap();
        assert!(settled(&place, made).is_err(), "{file}");
    }
}
