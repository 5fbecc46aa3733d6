//! Programs that an agent plants in a repository for `kennel mcp` to run when it makes a worktree there: none
//! of them runs.

use std::path::Path;
use std::process::{Command, Stdio};

use harness::daemon::{Daemon, finish};
use serde_json::json;

use crate::mcp::{Mcp, token_file};

/// Where each hangs: the hooks of git, and the settings that name a program.
const HOOKS: [&str; 8] = [
    "post-checkout",
    "pre-commit",
    "reference-transaction",
    "post-index-change",
    "fsmonitor-watchman",
    "pre-auto-gc",
    "post-rewrite",
    "update",
];

fn git(repository: &Path, args: &[&str]) -> String {
    let mut command = Command::new("git");
    command.args(["-c", "user.name=a", "-c", "user.email=a@b", "-C"]).arg(repository).args(args);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = finish(command.spawn().unwrap());
    assert_eq!(output.code, Some(0), "git {args:?}: {output:?}");
    output.stdout
}

/// A repository in which everything is planted that git might run; what has run is written below `ran`. A filter that stays
/// (`process`) and does not do its work ends git before the others have their turn.
fn planted(repository: &Path, ran: &Path, process: bool) {
    std::fs::create_dir_all(repository).unwrap();
    std::fs::create_dir_all(ran).unwrap();
    git(repository, &["init", "-q"]);
    let attributes = if process { "* filter=stays\n" } else { "* filter=evil diff=evil merge=evil\n" };
    std::fs::write(repository.join("file"), "one\n").unwrap();
    std::fs::write(repository.join(".gitattributes"), attributes).unwrap();
    std::fs::write(
        repository.join(".gitmodules"),
        "[submodule \"x\"]\n\tpath = x\n\turl = ext::sh -c x\n\tupdate = !sh\n",
    )
    .unwrap();
    git(repository, &["add", "."]);
    git(repository, &["commit", "-qm", "one"]);
    let script = |name: &str, then: &str| {
        let path = repository.join(".git").join(format!("evil-{name}"));
        harness::real::script(&path, &format!("#!/bin/sh\n: > {}/{name}\n{then}\n", ran.display()));
        path.display().to_string()
    };
    let elsewhere = repository.join(".git/elsewhere");
    std::fs::create_dir_all(&elsewhere).unwrap();
    for hook in HOOKS {
        for (directory, name) in
            [(".git/hooks", hook.to_owned()), (".git/elsewhere", format!("elsewhere-{hook}"))]
        {
            let path = repository.join(directory).join(hook);
            std::fs::copy(script(&name, ""), path).unwrap();
        }
    }
    for (setting, name, then) in [
        ("core.fsmonitor", "fsmonitor", ""),
        ("filter.evil.smudge", "smudge", "exec cat"),
        ("filter.evil.clean", "clean", "exec cat"),
        ("filter.stays.process", "process", "exit 1"),
        ("core.sshCommand", "ssh", ""),
        ("core.pager", "pager", "exec cat"),
        ("core.editor", "editor", ""),
        ("core.askPass", "askpass", ""),
        ("credential.helper", "credential", ""),
        ("diff.external", "diff", ""),
        ("diff.evil.textconv", "textconv", "exec cat"),
        ("merge.evil.driver", "merge", ""),
        ("gpg.program", "gpg", ""),
        ("core.alternateRefsCommand", "alternates", ""),
        ("alias.rev-parse", "alias", ""),
    ] {
        git(repository, &["config", setting, &script(name, then)]);
    }
    // By a file of its own, which the repository's names.
    let more = repository.join(".git/more");
    std::fs::write(&more, format!("[core]\n\thooksPath = {}\n", elsewhere.display())).unwrap();
    git(repository, &["config", "include.path", more.to_str().unwrap()]);
}

fn all(ran: &Path) -> Vec<String> {
    std::fs::read_dir(ran)
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

#[test]
fn nothing_that_is_planted_in_a_repository_runs_when_a_worktree_is_made() {
    for process in [false, true] {
        let daemon = Daemon::new();
        let (repository, ran) = (daemon.workdir().join("app"), daemon.workdir().join("ran"));
        planted(&repository, &ran, process);
        // Git itself runs it: else this proves nothing.
        let mut plain = Command::new("git");
        let there = daemon.workdir().join("plain");
        plain.arg("-C").arg(&repository).args(["worktree", "add", "-q", "-b", "plain"]).arg(&there);
        plain.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        finish(plain.spawn().unwrap());
        let would = all(&ran);
        assert!(
            would.contains(&String::from(if process { "process" } else { "smudge" })),
            "git runs {would:?} only"
        );
        std::fs::remove_dir_all(&ran).unwrap();
        std::fs::create_dir(&ran).unwrap();

        let dir = repository.display().to_string();
        daemon.ok(&["start", "--id", "boss", "--dir", &dir]);
        let mut mcp = Mcp::over(&daemon, &token_file(&daemon, "boss"));
        for task in ["true", " "] {
            // The second is refused, and its worktree is taken away again.
            let output = mcp.call("start_subagent", json!({ "task": task, "worktree": true }));
            assert_eq!(all(&ran), Vec::<String>::new(), "git alone runs {would:?}; {output:?}");
        }
    }
}
