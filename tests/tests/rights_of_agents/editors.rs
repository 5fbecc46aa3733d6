//! Editors and worktrees, by which an agent could reach past its sandbox.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use harness::daemon::finish;
use harness::real::*;
use manager::protocol::api::Role;
use serde_json::{Value, json};

use super::{ask, daemon, give_away, start, subagent, token};
use crate::acp_side::Editor;
use crate::containment::{User, users};

#[test]
fn an_editor_opens_no_file_and_runs_no_command_for_an_agent_in_a_sandbox() {
    let profiles = "[agents.boxed]\nkind = \"acp\"\ncommand = [\"ACP\"]\nsandbox = \"workdir\"\n\
        [agents.free]\nkind = \"acp\"\ncommand = [\"ACP\"]\n";
    for user in users() {
        let daemon = daemon(*user, profiles);
        let work = daemon.dir.path().join("work");
        std::fs::write(work.join("a.txt"), "on disk").unwrap();
        if *user == User::Nobody {
            give_away(&work);
        }
        let mut editor = Editor::silent(&daemon, &["--agent", "boxed"]);
        let able = json!({ "fs": { "readTextFile": true, "writeTextFile": true }, "terminal": true,
            "elicitation": { "form": {} } });
        editor.ask("initialize", json!({ "protocolVersion": 1, "clientCapabilities": able }));
        let new = editor.ask("session/new", json!({ "cwd": work, "mcpServers": [] }));
        let id = new["result"]["sessionId"].as_str().unwrap_or_else(|| panic!("{new}")).to_owned();
        until("that it drives", || {
            daemon.show(&id).clients.iter().find(|client| client.role == Role::Driver).map(drop)
        });
        assert!(daemon.show(&id).sandbox.is_some());
        let prompt = editor.prompt(&id, "read a.txt; write b.txt text; run echo from here");
        assert_eq!(editor.stopped(prompt), "end_turn");
        let asked: Vec<&Value> = editor.seen.iter().filter(|message| message["id"] != Value::Null).collect();
        assert!(asked.is_empty(), "{user:?}: {asked:#?}");
        assert_eq!(std::fs::read_to_string(work.join("b.txt")).unwrap(), "text", "the worker wrote");
        assert!(editor.updates().join("\n").contains("on disk"), "the worker read");
        // A link that is now a file here and now a key, while the agent asks for it.
        let done = Arc::new(AtomicBool::new(false));
        let swaps = std::thread::spawn({
            let (done, work, key) = (done.clone(), work.clone(), daemon.dir.path().join("home/.ssh/id"));
            move || {
                while !done.load(Ordering::Relaxed) {
                    for to in [Path::new("a.txt"), &key] {
                        let new = work.join("new");
                        symlink(to, &new).unwrap();
                        std::fs::rename(&new, work.join("link")).unwrap();
                    }
                }
            }
        });
        until("the first of them", || work.join("link").symlink_metadata().ok());
        for _ in 0..10 {
            let rounds = vec!["read link; write link text"; 30].join("; ");
            let prompt = editor.prompt(&id, &rounds);
            assert_eq!(editor.stopped(prompt), "end_turn");
        }
        done.store(true, Ordering::Relaxed);
        swaps.join().unwrap();
        let received = editor.updates().join("\n");
        assert!(!received.contains("the secret key"), "{user:?}: a key was read");
        let met = [received.contains("message text"), received.contains("not below")];
        assert_eq!(met, [true, true], "{user:?}: one of both was not met");
        assert_eq!(
            std::fs::read_to_string(daemon.dir.path().join("home/.ssh/id")).unwrap(),
            "the secret key"
        );
    }
}

#[test]
fn a_worktree_runs_nothing_of_the_repository_and_belongs_to_its_session() {
    let daemon = daemon(User::Own, "");
    let work = daemon.dir.path().join("work");
    let mark = daemon.dir.path().join("marked");
    let script = format!(
        "git init -q . && echo one > file && echo '* filter=f' > .gitattributes && git add . && \
         git -c user.name=a -c user.email=a@b commit -qm one && \
         printf '#!/bin/sh\\n: > {mark}\\ncat\\n' > evil && chmod +x evil && ln -s ../../evil .git/hooks/post-checkout && \
         git config filter.f.smudge $PWD/evil && git config core.fsmonitor $PWD/evil",
        mark = mark.display()
    );
    let mut plant = std::process::Command::new("sh");
    plant.args(["-c", &script]).current_dir(&work).stdout(Stdio::piped()).stderr(Stdio::piped());
    let planted = finish(plant.spawn().unwrap());
    assert_eq!(planted.code, Some(0), "{planted:?}");
    // Planting it has run some of it.
    let _ = std::fs::remove_file(&mark);
    start(&daemon, "boss", "shell");
    start(&daemon, "other", "shell");
    let file = daemon.dir.path().join("token");
    std::fs::write(&file, token(&daemon, "boss")).unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    let mut mcp = crate::mcp::Mcp::over(&daemon, &file);
    let child = mcp.ok("start_subagent", json!({ "task": "cat file", "worktree": true }));
    let result = mcp.ok("wait_subagent", json!({ "id": child["session_id"] }));
    assert_eq!(result["text"], "one\n");
    assert!(!mark.exists(), "something of the repository was run");
    let tree = child["worktree"].as_str().unwrap();
    assert!(tree.contains("/state/worktrees/boss/"), "{tree}");
    // Its own session may work in it again, another may not.
    let opts = json!({ "workdir": tree });
    assert!(ask(&daemon, &token(&daemon, "boss"), subagent(opts.clone())).is_ok());
    assert_eq!(ask(&daemon, &token(&daemon, "other"), subagent(opts)), Err("weaker_than_parent".into()));
}
