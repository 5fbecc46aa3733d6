//! Sub-agents that a token or the owner starts: no weaker than their parents.

use std::os::unix::fs::symlink;

use harness::daemon::Daemon;
use harness::real::*;
use manager::client::Request;
use manager::protocol::api::{
    PermissionInfo, PromptRequest, SessionInfo, Status, SubagentHandle, TurnResult, WhenBusy,
};
use serde_json::{Value, json};

use super::{ASKS, ask, daemon, start, subagent, token};
use crate::containment::{User, users};

/// Starts a sub-agent with this task by the token, and returns it with its output.
fn output_of_child(daemon: &Daemon, token: &str, task: &str, opts: Value) -> (SubagentHandle, String) {
    let request = Request::post("/v1/subagents").json(&json!({ "task": task, "opts": opts }));
    let handle: SubagentHandle = serde_json::from_value(ask(daemon, token, request).unwrap()).unwrap();
    daemon.idle(handle.session_id.as_str());
    let result: TurnResult = daemon.json(&["subagent", "result", handle.session_id.as_str()]);
    (handle, result.text)
}

const BOXED: &str = "[agents.boxed]\nkind = \"shell\"\nsandbox = \"workdir\"\nmemory = \"256MiB\"\npids = 100\nnofile = 256\n\
    nice = 3\nturn_timeout = \"1m\"\n\
    [agents.free]\nkind = \"shell\"\nenv_pass = [\"A_SECRET\"]\nmemory = \"1GiB\"\ncontainment = \"subreaper\"\n\
    env = { WRITTEN = \"the-secret-in-the-profile\" }\n";

#[test]
fn a_sub_agent_that_a_token_starts_can_do_no_more_than_its_parent() {
    for user in users() {
        let daemon = daemon(*user, BOXED);
        let root = daemon.dir.path().to_owned();
        let boss = start(&daemon, "boss", "boxed");
        let token = token(&daemon, "boss");
        let at = |below: &str| root.join(below).display().to_string();
        // Another profile, which by itself is in no sandbox, and has secrets and more of everything.
        let task = format!(
            "cat {}; echo x > {}; echo \"<$A_SECRET$WRITTEN>\"; echo x > {} && echo wrote; pwd",
            at("home/.ssh/id"),
            at("other/new"),
            at("work/new")
        );
        // By the owner all of it is done: else it proves nothing that it is not.
        daemon.ok(&["start", "--id", "free", "--agent", "free", "--dir", &at("work")]);
        let free = daemon.ok(&["send", "free", &task]);
        for word in ["the secret key", "the-secret-of-the-daemon", "the-secret-in-the-profile", "wrote"] {
            assert!(free.contains(word), "{word}: {free}");
        }
        std::fs::remove_file(root.join("other/new")).unwrap();
        for opts in [json!({ "agent": "free" }), json!({ "agent": "shell" }), json!({})] {
            let (handle, output) = output_of_child(&daemon, &token, &task, opts.clone());
            assert!(output.starts_with("<>\nwrote\n"), "{user:?} {opts}: {output}");
            assert!(output.trim_end().ends_with("/work"), "what is left out is the parent's: {output}");
            assert!(!root.join("other/new").exists(), "{user:?} {opts}");
            let child = daemon.show(handle.session_id.as_str());
            assert_eq!(child.sandbox, boss.sandbox, "{user:?} {opts}");
            assert_eq!(child.limits, boss.limits, "{user:?} {opts}");
            assert_eq!(child.containment, boss.containment, "{user:?} {opts}");
            // And so on below it.
            let deep = self::token(&daemon, handle.session_id.as_str());
            let (handle, output) = output_of_child(&daemon, &deep, &task, json!({ "agent": "free" }));
            assert!(output.starts_with("<>\nwrote\n"), "{user:?} below {opts}: {output}");
            daemon.ok(&["restart", handle.session_id.as_str()]);
            assert_eq!(daemon.idle(handle.session_id.as_str()).sandbox, boss.sandbox, "after a restart, too");
            daemon.ok(&["stop", handle.session_id.as_str()]);
        }
        for (name, opts) in [
            ("memory_bytes", json!({ "memory_bytes": 1 << 30 })),
            ("pids", json!({ "pids": 101 })),
            ("nofile", json!({ "nofile": 257 })),
            ("nice", json!({ "nice": 2 })),
            ("turn_timeout_ms", json!({ "turn_timeout_ms": 0 })),
            ("turn_timeout_ms", json!({ "turn_timeout_ms": 60_001 })),
            ("workdir", json!({ "workdir": at("other") })),
            ("workdir", json!({ "workdir": at("work/../other") })),
            ("env", json!({ "env": { "LD_PRELOAD": at("work/evil.so") } })),
            ("env", json!({ "env": { "BASH_ENV": at("work/evil") } })),
            ("env", json!({ "env": { "KENNEL_TOKEN_FILE": at("work/evil") } })),
        ] {
            let before = daemon.json::<Vec<SessionInfo>>(&["ls", "--all"]).len();
            assert_eq!(
                ask(&daemon, &token, subagent(opts.clone())),
                Err("weaker_than_parent".into()),
                "{name} {opts}"
            );
            assert_eq!(
                daemon.json::<Vec<SessionInfo>>(&["ls", "--all"]).len(),
                before,
                "nothing was started"
            );
        }
        // By a symlink that the agent has made.
        symlink(root.join("other"), root.join("work/link")).unwrap();
        let link = json!({ "workdir": at("work/link") });
        assert_eq!(ask(&daemon, &token, subagent(link)), Err("weaker_than_parent".into()));
        let less = json!({ "memory_bytes": 64 << 20, "pids": 50, "nice": 4, "workdir": at("work/below") });
        let (handle, _) = output_of_child(&daemon, &token, "true", less);
        let child = daemon.show(handle.session_id.as_str());
        assert_eq!((child.limits.memory_bytes, child.limits.pids), (Some(64 << 20), Some(50)));
        assert_eq!((child.limits.nofile, child.workdir), (Some(256), at("work/below")));
    }
}

#[test]
fn a_sub_agent_of_the_owners_that_can_do_more_is_sent_nothing_from_above() {
    let daemon = daemon(User::Own, BOXED);
    start(&daemon, "boss", "boxed");
    let token = token(&daemon, "boss");
    let work = daemon.dir.path().join("work").display().to_string();
    for (id, agent) in [("strong", "free"), ("same", "boxed")] {
        daemon.ok(&[
            "subagent",
            "start",
            "--parent",
            "boss",
            "--id",
            id,
            "--agent",
            agent,
            "--dir",
            &work,
            "echo begun",
        ]);
        daemon.idle(id);
    }
    let send = |id: &str| {
        let prompt =
            PromptRequest { text: "echo more".into(), when_busy: WhenBusy::Queue, attachments: Vec::new() };
        ask(&daemon, &token, Request::post(format!("/v1/sessions/{id}/prompts")).json(&prompt))
    };
    let before = daemon.show("strong").turn_count;
    assert_eq!(send("strong"), Err("weaker_than_parent".into()));
    assert_eq!(daemon.show("strong").turn_count, before);
    assert!(send("same").is_ok());
    let look = |id: &str| ask(&daemon, &token, Request::get(format!("/v1/sessions/{id}/result")));
    assert_eq!(look("strong").unwrap()["text"], "begun\n");
    // The owner may.
    assert_eq!(daemon.ok(&["send", "strong", "echo more"]), "more\n");
    assert!(ask(&daemon, &token, Request::post("/v1/sessions/strong/stop")).is_ok(), "it can be ended");
}

#[test]
fn a_sub_agent_asks_where_its_parent_must_ask() {
    let daemon = daemon(User::Own, ASKS);
    start(&daemon, "boss", "asks");
    let token = token(&daemon, "boss");
    let server = json!([{ "name": "evil", "command": "/bin/sh", "args": ["-c", "true"] }]);
    for opts in [
        json!({ "agent": "shell" }),
        json!({ "agent": "runs" }),
        json!({ "env": { "NODE_OPTIONS": "--require=evil" } }),
        json!({ "mcp_servers": server }),
        // The conversation may be anybody's.
        json!({ "conversation": "another" }),
    ] {
        assert_eq!(ask(&daemon, &token, subagent(opts.clone())), Err("weaker_than_parent".into()), "{opts}");
    }
    let opts = json!({ "permissions": "allow" });
    assert_eq!(ask(&daemon, &token, subagent(opts)), Err("forbidden".into()));
    // A profile that allows all is asked as the parent would be: what its rules allow is allowed, all else waits.
    let work = daemon.dir.path().join("work/a").display().to_string();
    let task = format!("ask one read {work}; ask two edit {work}");
    let request =
        Request::post("/v1/subagents").json(&json!({ "task": task, "opts": { "agent": "allows" } }));
    let child = ask(&daemon, &token, request).unwrap()["session_id"].as_str().unwrap().to_owned();
    let waits = until("its second question", || {
        let open: Vec<PermissionInfo> = daemon.json(&["permissions", "ls"]);
        open.into_iter().find(|one| one.session_id.as_str() == child)
    });
    let result: TurnResult = daemon.json(&["subagent", "result", &child]);
    assert!(result.text.starts_with("answered yes"), "{}", result.text);
    assert_eq!(daemon.show(&child).status, Status::RequiresAction);
    // The parent does not answer for its child, and neither of them for itself.
    let answer = |id: &str| {
        let path = format!("/v1/sessions/{id}/permissions/{}", waits.permission_id);
        Request::post(path).json(&json!({ "answer": "allow" }))
    };
    assert_eq!(ask(&daemon, &token, answer(&child)), Err("forbidden".into()));
    let file = daemon.dir.path().join("state/tokens").join(&child);
    let own = std::fs::read_to_string(file).unwrap();
    assert_eq!(ask(&daemon, own.trim(), answer(&child)), Err("forbidden".into()));
    assert_eq!(daemon.show(&child).status, Status::RequiresAction, "it still waits");
}
