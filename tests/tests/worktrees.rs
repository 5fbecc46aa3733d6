//! Worktrees of sub-agents: `df` counts them, `rm` and `prune` remove those in which nothing is left, and no other.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use harness::daemon::{Daemon, finish};
use manager::protocol::api::{DiskUsage, PruneReport};
use serde_json::json;

use super::mcp::{Mcp, token_file};

/// Runs a shell script that must succeed.
pub fn sh(directory: &Path, script: &str) -> String {
    let mut command = Command::new("sh");
    command.args(["-ec", script]).current_dir(directory).stdout(Stdio::piped()).stderr(Stdio::piped());
    for (name, value) in
        [("GIT_CONFIG_GLOBAL", "/dev/null"), ("GIT_AUTHOR_NAME", "a"), ("GIT_AUTHOR_EMAIL", "a@b")]
    {
        command.env(name, value);
    }
    command.env("GIT_COMMITTER_NAME", "a").env("GIT_COMMITTER_EMAIL", "a@b");
    let output = finish(command.spawn().unwrap());
    assert_eq!(output.code, Some(0), "{script}: {output:#?}");
    output.stdout
}

/// A daemon with a session `boss` in a repository, and who starts sub-agents for it.
fn place() -> (Daemon, PathBuf, Mcp) {
    let daemon = Daemon::new();
    let repository = daemon.workdir().join("app");
    sh(
        daemon.workdir(),
        "git init -q -b main app; cd app; echo one > file; echo build > .gitignore; git add .; git commit -qm one",
    );
    daemon.ok(&["start", "--id", "boss", "--dir", repository.to_str().unwrap()]);
    let mcp = Mcp::over(&daemon, &token_file(&daemon, "boss"));
    (daemon, repository, mcp)
}

/// A sub-agent that has done this in a worktree of its own: its session, and the worktree.
fn worked(mcp: &mut Mcp, task: &str) -> (String, PathBuf) {
    let child = mcp.ok("start_subagent", json!({ "task": task, "worktree": true }));
    let id = child["session_id"].as_str().unwrap().to_owned();
    let result = mcp.ok("wait_subagent", json!({ "id": id }));
    assert_eq!(result["outcome"], "completed", "{result}");
    (id, child["worktree"].as_str().unwrap().into())
}

pub fn branches(repository: &Path) -> Vec<String> {
    let all = sh(repository, "git for-each-ref --format='%(refname:short)' refs/heads/kennel");
    all.lines().map(str::to_owned).collect()
}

#[test]
fn df_counts_worktrees_and_rm_takes_one_with_nothing_in_it_with_its_branch() {
    let (daemon, repository, mut mcp) = place();
    let precious = daemon.workdir().join("precious");
    std::fs::write(&precious, vec![0; 5_000_000]).unwrap();
    // Ignored files count, and are no reason to stay. The target of an ignored link does not count and is not
    // removed.
    let task =
        format!("mkdir build && head -c 3000000 /dev/zero > build/out && ln -s {} build", precious.display());
    let (id, tree) = worked(&mut mcp, &task);
    let usage: DiskUsage = daemon.json(&["df"]);
    let name = format!("worktrees/boss/{}", tree.file_name().unwrap().to_str().unwrap());
    let found = &usage.worktrees[0];
    assert_eq!((&*found.name, found.sessions[0].as_str()), (&*name, &*id), "{usage:?}");
    assert!(
        found.bytes > 3_000_000 && usage.worktree_bytes == found.bytes && usage.total_bytes > found.bytes
    );
    assert!(found.bytes < 5_000_000, "a link was followed: {usage:?}");
    let of = usage.sessions.iter().find(|of| of.id.as_ref().is_some_and(|of| of.as_str() == id)).unwrap();
    assert_eq!((of.worktree_bytes, of.bytes > 3_000_000), (found.bytes, true), "{of:?}");
    assert!(daemon.ok(&["df"]).contains("worktrees"), "it is listed");
    assert_eq!(branches(&repository).len(), 1);
    let output = daemon.run(&["rm", "--force", &id]);
    assert_eq!((output.code, output.stdout.trim()), (Some(0), &*id), "{output:?}");
    assert!(output.stderr.contains(&format!("{name} is removed")), "{output:?}");
    assert!(!tree.exists() && !tree.parent().unwrap().exists(), "an empty directory is left");
    assert_eq!(std::fs::metadata(&precious).unwrap().len(), 5_000_000);
    assert_eq!(branches(&repository), [""; 0]);
    assert_eq!(sh(&repository, "git worktree list").lines().count(), 1);
    assert_eq!(daemon.json::<DiskUsage>(&["df"]).worktrees, []);
}

#[test]
fn a_worktree_that_is_dirty_unpushed_or_in_use_stays_whatever_removes_its_session() {
    let (daemon, repository, mut mcp) = place();
    let commit = "git -c user.name=a -c user.email=a@b commit -q";
    for (task, why) in [
        ("echo new > untracked", "1 file is not committed"),
        ("echo two > file", "1 file is not committed"),
        ("rm file", "1 file is not committed"),
        ("echo two > file && git add file && echo one > file", "1 file is not committed"),
        ("git init -q nested && touch nested/x", "not committed"),
        ("echo two > file && COMMIT -am two", "on no other branch"),
        ("git checkout -q --detach && COMMIT --allow-empty -m two", "on no other branch"),
        // Two of kennel's own branches do not keep each other.
        ("COMMIT --allow-empty -m two && git branch kennel/other", "on no other branch"),
        ("touch $(git rev-parse --git-dir)/MERGE_HEAD", "in use: git has `MERGE_HEAD`"),
        ("git worktree lock .", "in use: git has `locked`"),
        ("rm .git", "git: "),
        ("rm .git && git init -q .", "repository of its own"),
    ] {
        let (id, tree) = worked(&mut mcp, &task.replace("COMMIT", commit));
        let output = daemon.run(&["rm", "--force", &id]);
        assert!(
            output.code == Some(0) && output.stderr.contains("stays: ") && output.stderr.contains(why),
            "{task}: {output:?}"
        );
        assert!(tree.exists(), "{task}");
        let report: PruneReport = daemon.json(&["prune", "--force"]);
        let name = tree.file_name().unwrap().to_str().unwrap();
        let received = report.worktrees.iter().find(|of| of.name.ends_with(name)).unwrap();
        assert!(received.stays.as_ref().unwrap().contains(why), "{task}: {received:?}");
        assert!(tree.exists(), "{task}");
    }
    let before = branches(&repository).len();
    // Once somebody has done with one, it goes.
    let (id, tree) = worked(&mut mcp, &format!("echo two > file && {commit} -am two"));
    let output = daemon.run(&["rm", "--force", &id]);
    assert!(output.stderr.contains("has 1 commits"), "{output:?}");
    let branch = format!("kennel/{}", tree.file_name().unwrap().to_str().unwrap());
    sh(&repository, &format!("git merge -q {branch}"));
    let would: PruneReport = daemon.json(&["prune", "--dry-run"]);
    assert_eq!(would.worktrees.iter().filter(|of| of.stays.is_none()).count(), 1, "{would:?}");
    assert!(tree.exists());
    // A person is in it, in a terminal.
    let mut shell = Command::new("sleep").arg("600").current_dir(&tree).spawn().unwrap();
    let held: PruneReport = daemon.json(&["prune", "--force"]);
    let in_use =
        held.worktrees.iter().find(|of| branch.ends_with(of.name.rsplit('/').next().unwrap())).unwrap();
    shell.kill().unwrap();
    shell.wait().unwrap();
    assert!(in_use.stays.as_ref().unwrap().contains(&format!("process {}", shell.id())), "{in_use:?}");
    let text = daemon.ok(&["prune", "--force"]);
    assert!(text.contains("stays: worktrees/boss/"), "{text}");
    assert!(!tree.exists());
    assert_eq!(branches(&repository).len(), before);
}

#[test]
fn a_worktree_of_a_session_that_may_be_started_again_is_in_use() {
    let (daemon, repository, mut mcp) = place();
    let (id, tree) = worked(&mut mcp, "true");
    daemon.ok(&["stop", &id]);
    let report: PruneReport = daemon.json(&["prune", "--force"]);
    assert!(report.worktrees[0].stays.as_ref().unwrap().contains(&format!("in use: {id}")), "{report:?}");
    assert!(tree.exists());
    // Of a sub-agent that works elsewhere nothing goes.
    let child = mcp.ok("start_subagent", json!({ "task": "true" }));
    daemon.ok(&["rm", "--force", child["session_id"].as_str().unwrap()]);
    assert!(tree.exists() && repository.exists());
}

#[test]
fn a_repository_that_an_agent_has_written_runs_nothing_when_its_worktree_is_looked_at() {
    let (daemon, repository, mut mcp) = place();
    let mark = daemon.workdir().join("ran");
    let program = daemon.workdir().join("evil.sh");
    std::fs::write(&program, format!("#!/bin/sh\necho \"$0 $*\" >> {}\ncat\n", mark.display())).unwrap();
    let script = format!(
        "chmod +x {0}; for key in filter.evil.clean filter.evil.smudge filter.evil.process core.fsmonitor diff.external \
         core.pager diff.evil.textconv diff.evil.command; do git config $key {0}; done; git config filter.evil.required true",
        program.display()
    );
    let task = "echo '* filter=evil diff=evil' > .gitattributes && echo two > file";
    let (id, tree) = worked(&mut mcp, task);
    // By the agent, behind everybody's back.
    sh(&repository, &script);
    let hooks = repository.join(".git/hooks");
    std::fs::create_dir_all(&hooks).unwrap();
    for hook in ["post-checkout", "post-index-change", "reference-transaction", "pre-auto-gc"] {
        std::fs::copy(&program, hooks.join(hook)).unwrap();
    }
    let output = daemon.run(&["rm", "--force", &id]);
    assert!(output.stderr.contains("2 files are not committed"), "{output:?}");
    std::fs::remove_file(tree.join(".gitattributes")).unwrap();
    std::fs::write(tree.join("file"), "one\n").unwrap();
    daemon.ok(&["prune", "--force"]);
    assert!(!tree.exists(), "it could go");
    assert!(!mark.exists(), "{}", std::fs::read_to_string(&mark).unwrap());
}

/// Files that an agent writes into the repository so that git, when it looks for a worktree, finds another
/// one.
const MISLED: &str = "git worktree add -q ../mine; echo precious > ../mine/precious; \
    mkdir -p y$(dirname TREE); ln -s $(realpath ../mine) yTREE; \
    echo $PWD/y/TREE/.git > .git/worktrees/mine/gitdir; echo /nowhere/.git > .git/worktrees/NAME/gitdir";

#[test]
fn a_repository_that_leads_git_astray_costs_nobody_a_file_and_its_hooks_do_not_run() {
    let (daemon, repository, mut mcp) = place();
    let (id, tree) = worked(&mut mcp, "true");
    let name = tree.file_name().unwrap().to_str().unwrap();
    sh(&repository, &MISLED.replace("TREE", tree.to_str().unwrap()).replace("NAME", name));
    let output = daemon.run(&["rm", "--force", &id]);
    assert!(output.stderr.contains("its `.git` is that of another worktree"), "{output:?}");
    let mine = daemon.workdir().join("mine");
    assert_eq!(std::fs::read_to_string(mine.join("precious")).unwrap(), "precious\n");
    assert!(mine.join("file").exists() && tree.exists());

    // The directory of another repository's worktree is named only by that worktree.
    let (id, tree) = worked(&mut mcp, "true");
    sh(
        daemon.workdir(),
        "git init -q -b main other; cd other; git commit -q --allow-empty -m one; git worktree add -q ../hers",
    );
    let hers = sh(&daemon.workdir().join("hers"), "git rev-parse --absolute-git-dir");
    std::fs::write(tree.join(".git"), format!("gitdir: {hers}")).unwrap();
    let output = daemon.run(&["rm", "--force", &id]);
    assert!(output.stderr.contains("its `.git` is that of another worktree"), "{output:?}");
    assert!(Path::new(hers.trim()).join("HEAD").exists());

    // Newer versions of git run hooks that a configuration defines.
    let (id, tree) = worked(&mut mcp, "true");
    sh(&repository, "git config hook.h.command 'touch ran'; git config hook.h.event reference-transaction");
    let output = daemon.run(&["rm", "--force", &id]);
    assert!(output.stderr.contains("defines hooks"), "{output:?}");
    assert!(tree.exists() && !tree.join("ran").exists());
}
