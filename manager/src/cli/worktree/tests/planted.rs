//! A hostile repository plants programs for git to run: in its configuration, its attributes and its hooks. None of them
//! runs when kennel makes or removes a worktree.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use super::super::git::{plain_git, run};
use super::{Place, agents_git, place};

/// Makes a program that leaves a mark when it is run, and gives its path and the mark's.
fn program(place: &Place, name: &str) -> (String, PathBuf) {
    let (path, mark) = (place.dir.path().join(format!("{name}-program")), place.dir.path().join(name));
    std::fs::write(&path, format!("#!/bin/sh\n: > '{}'\n", mark.display())).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    (path.to_str().unwrap().to_owned(), mark)
}

/// Plants a program, which is given by its path, in a repository.
type Plant = fn(&Place, &str);
/// A way to have git run a program, and its name.
type Way = (&'static str, Plant);

fn set(place: &Place, name: &str, value: &str) {
    agents_git(&place.repository, &["config", name, value]);
}

fn attribute(place: &Place, text: &str) {
    std::fs::write(place.repository.join(".git/info/attributes"), text).unwrap();
}

/// Makes a worktree of a repository in which a program is planted. Returns whether kennel refused to make it.
fn refuses((name, plant): Way) -> bool {
    let place = place();
    let (program, mark) = program(&place, name);
    plant(&place, &program);
    let made = place.make(&place.repository);
    assert!(!mark.exists(), "{name} was run: {made:?}");
    match made {
        Ok(made) => {
            assert_eq!(std::fs::read_to_string(made.path.join("src/a")).unwrap(), "a", "{name}");
            made.remove();
            assert!(!mark.exists() && !made.path.exists(), "{name}");
            false
        }
        Err(failure) => {
            let left = std::fs::read_dir(place.state.join("worktrees/boss"));
            assert_eq!(left.into_iter().flatten().count(), 0, "{name}: {failure:?}");
            true
        }
    }
}

/// Filters for the files of a worktree.
const FILTERS: [Way; 6] = [
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
];

#[test]
fn no_filter_is_run() {
    for way in FILTERS {
        assert!(!refuses(way), "{}", way.0);
    }
}

/// Programs that git runs beside its own work.
const HELPERS: [Way; 5] = [
    ("fsmonitor", |place, program| set(place, "core.fsmonitor", program)),
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
        for name in ["core.askPass", "credential.helper", "diff.external", "gpg.program", "core.gitProxy"] {
            set(place, name, program);
        }
        set(place, "core.alternateRefsCommand", program);
        set(place, "commit.gpgSign", "true");
        set(place, "diff.d.textconv", program);
        set(place, "merge.m.driver", program);
        attribute(place, "* diff=d merge=m\n");
    }),
];

#[test]
fn no_helper_is_run() {
    for way in HELPERS {
        assert!(!refuses(way), "{}", way.0);
    }
}

/// Other repositories, and hooks in the configuration.
const OTHERS: [Way; 3] = [
    ("promised", |place, program| {
        // A partial clone: git fetches missing objects from the address in its configuration.
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

#[test]
fn nothing_is_fetched_and_no_configured_hook_is_run() {
    for way in OTHERS {
        assert_eq!(refuses(way), ["promised", "configured-hook"].contains(&way.0), "{}", way.0);
    }
}

#[test]
fn no_hook_is_run() {
    for hook in ["post-checkout", "reference-transaction", "post-index-change", "pre-auto-gc", "post-commit"]
    {
        let place = place();
        let (program, mark) = program(&place, hook);
        std::fs::create_dir_all(place.repository.join(".git/hooks")).unwrap();
        symlink(program, place.repository.join(".git/hooks").join(hook)).unwrap();
        place.make(&place.repository).unwrap().remove();
        assert!(!mark.exists(), "{hook} was run");
    }
}
