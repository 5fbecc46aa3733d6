//! The tools, as an agent uses them.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

use harness::daemon::{Daemon, finish};
use harness::real::*;
use harness::sample::id;
use manager::protocol::api::{SessionInfo, TurnResult};
use manager::protocol::event::Outcome;
use serde_json::{Value, json};

use super::client::Mcp;
use super::{configure, ends, session, token_file};

#[test]
fn an_agent_starts_waits_for_reads_prompts_and_aborts_a_sub_agent() {
    let daemon = Daemon::new();
    let token = session(&daemon, "boss");
    let mut mcp = Mcp::over(&daemon, &token);
    let tools = mcp.ask("tools/list", json!({}));
    let names: Vec<&str> = tools["result"]["tools"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tool| tool["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "start_subagent",
            "list_subagents",
            "read_result",
            "wait_subagent",
            "send_to_subagent",
            "abort_subagent"
        ]
    );

    let go = daemon.dir.path().join("go");
    let task = format!("echo begun; while [ ! -e {} ]; do sleep 0.01; done; echo done in $PWD", go.display());
    let child = mcp.ok("start_subagent", json!({ "task": task, "workdir": "." }));
    assert_eq!(child["parent_session_id"], "boss");
    let child = child["session_id"].as_str().unwrap().to_owned();
    // It works, and the agent is not kept waiting.
    let begun = until("its first words", || {
        let result = mcp.ok("read_result", json!({ "id": child }));
        (result["text"] == "begun\n").then_some(result)
    });
    assert_eq!((&begun["status"], &begun["outcome"]), (&json!("running"), &Value::Null));
    let waited = mcp.ok("wait_subagent", json!({ "id": child, "timeout": 0 }));
    assert_eq!((&waited["ended"], &waited["text"]), (&json!(false), &json!("begun\n")));
    std::fs::write(&go, "").unwrap();
    let waited = mcp.ok("wait_subagent", json!({ "id": child, "timeout": 30 }));
    assert_eq!((&waited["ended"], &waited["outcome"]), (&json!(true), &json!("completed")), "{waited}");
    let here = std::fs::canonicalize(daemon.workdir()).unwrap();
    assert_eq!(waited["text"], format!("begun\ndone in {}\n", here.display()));
    let list = mcp.ok("list_subagents", json!({}));
    assert_eq!(list["subagents"][0]["session_id"], json!(child));
    assert_eq!(ends(&daemon, "boss", &child), [Some(Outcome::Completed)]);

    // A further prompt has a turn and a result of its own, and the parent is not notified of the task again.
    mcp.ok("send_to_subagent", json!({ "id": child, "text": "echo more; exit 3" }));
    let more = mcp.ok("wait_subagent", json!({ "id": child }));
    assert_eq!((&more["text"], &more["exit"]), (&json!("more\n"), &json!({ "code": 3 })));
    mcp.ok("send_to_subagent", json!({ "id": child, "text": "sleep 1000" }));
    until("the turn", || (daemon.show(&child).running_prompt.is_some()).then_some(()));
    mcp.ok("abort_subagent", json!({ "id": child }));
    assert_eq!(mcp.ok("read_result", json!({ "id": child }))["outcome"], "aborted");
    assert_eq!(mcp.refused("abort_subagent", json!({ "id": child })), "no_turn");
    let stopped = mcp.ok("abort_subagent", json!({ "id": child, "stop": true }));
    assert_eq!(stopped["status"], "stopped");
    assert!(mcp.ok("wait_subagent", json!({ "id": child }))["ended"] == true);
    assert_eq!(ends(&daemon, "boss", &child).len(), 1);

    for (tool, arguments, code) in [
        ("start_subagent", json!({ "task": " " }), "empty_prompt"),
        ("start_subagent", json!({}), "usage"),
        ("start_subagent", json!({ "task": "x", "parent": "boss" }), "usage"),
        ("start_subagent", json!({ "task": "x", "agent": "nobody" }), "no_such_agent"),
        ("start_subagent", json!({ "task": "x", "workdir": "/no/such" }), "no_such_workdir"),
        ("start_subagent", json!({ "task": "x", "workdir": "/", "worktree": true }), "usage"),
        ("start_subagent", json!({ "task": "x", "worktree": true }), "no_worktree"),
        ("read_result", json!({ "id": "../manager" }), "forbidden"),
        ("fly", json!({}), "usage"),
    ] {
        assert_eq!(mcp.refused(tool, arguments.clone()), code, "{tool} {arguments}");
    }
}

#[test]
fn a_sub_agent_can_have_a_worktree_of_its_own() {
    let daemon = Daemon::new();
    let repository = daemon.workdir().join("app");
    let script = "git init -q app && cd app && echo one > file && git add . && \
                  git -c user.name=a -c user.email=a@b commit -qm one";
    let mut made = std::process::Command::new("sh");
    made.args(["-c", script]).current_dir(daemon.workdir()).stdout(Stdio::piped()).stderr(Stdio::piped());
    assert_eq!(finish(made.spawn().unwrap()).code, Some(0));
    let dir = repository.display().to_string();
    daemon.ok(&["start", "--id", "boss", "--dir", &dir]);
    let mut mcp = Mcp::over(&daemon, &token_file(&daemon, "boss"));
    let task = "echo two > file; git branch --show-current; pwd";
    let child = mcp.ok("start_subagent", json!({ "task": task, "worktree": true, "title": "apart" }));
    let (tree, branch) = (child["worktree"].as_str().unwrap(), child["branch"].as_str().unwrap());
    let result = mcp.ok("wait_subagent", json!({ "id": child["session_id"] }));
    let real = std::fs::canonicalize(tree).unwrap();
    assert_eq!(result["text"], format!("{branch}\n{}\n", real.display()));
    assert!(tree.starts_with(&daemon.dir.path().join("state/worktrees").display().to_string()), "{tree}");
    assert_eq!(std::fs::read_to_string(repository.join("file")).unwrap(), "one\n");
    // One for a sub-agent that was refused is taken away again.
    let trees = || std::fs::read_dir(Path::new(tree).parent().unwrap()).unwrap().count();
    let before = trees();
    assert_eq!(mcp.refused("start_subagent", json!({ "task": " ", "worktree": true })), "empty_prompt");
    assert_eq!(trees(), before);
}

#[test]
fn a_request_that_cannot_be_read_is_answered_and_the_tools_are_served_on() {
    let daemon = Daemon::new();
    let mut mcp = Mcp::over(&daemon, &session(&daemon, "boss"));
    let deep = "[".repeat(200) + &"]".repeat(200);
    for (line, id) in [
        (format!(r#"{{"jsonrpc":"2.0","id":901,"method":"tools/call","params":{deep}}}"#), json!(901)),
        (r#"{"jsonrpc":"2.0","id":"x","method":"tools/call","params":{]}"#.into(), json!("x")),
        (r#"{"jsonrpc":"2.0","method":"tools/call","params":{"#.into(), Value::Null),
        (
            format!(r#"{{"jsonrpc":"2.0","id":902,"method":"m","params":"{}"}}"#, "x".repeat(8 << 20)),
            json!(902),
        ),
    ] {
        writeln!(mcp.child.stdin.as_mut().unwrap(), "{line}").unwrap();
        let answer = mcp.lines.recv_timeout(BOUND).unwrap();
        assert_eq!((&answer["id"], &answer["error"]["code"]), (&id, &json!(-32700)), "{answer}");
    }
    // Half of a character, in a name that is shown.
    let line = r#"{"jsonrpc":"2.0","id":903,"method":"tools/call","params":{"name":"start_subagent","arguments":{"task":"true","title":"cut \ud83d"}}}"#;
    writeln!(mcp.child.stdin.as_mut().unwrap(), "{line}").unwrap();
    let answer = mcp.lines.recv_timeout(BOUND).unwrap();
    assert_eq!((&answer["id"], &answer["result"]["isError"]), (&json!(903), &json!(false)), "{answer}");
    assert_eq!(mcp.ok("list_subagents", json!({}))["subagents"].as_array().unwrap().len(), 1);
}

#[test]
fn an_agent_is_given_the_tools_and_can_use_them() {
    let daemon = Daemon::new();
    let program = beside("acp-agent");
    let agent = |name: &str, more: &str| {
        format!("[agents.{name}]\nkind = \"acp\"\ncommand = [\"{}\"]\n{more}\n", program.display())
    };
    configure(&daemon, &(agent("given", "") + &agent("alone", "subagents = false")));
    for (name, output) in [("given", "servers [kennel]"), ("alone", "servers []")] {
        daemon.ok(&["start", "--id", name, "--agent", name]);
        assert_eq!(daemon.ok(&["send", name, "servers"]), output);
    }
    let file = daemon.dir.path().join("state/tokens/given");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!daemon.dir.path().join("state/tokens/alone").exists());
    let token = daemon.ok(&["token", "given"]);

    // As the agent runs it: with the given variables and nothing else.
    let server: Value = serde_json::from_str(&daemon.ok(&["send", "given", "server kennel"])).unwrap();
    assert!(!server.to_string().contains(token.trim()), "no secret in arguments or environment");
    let args = server["args"].as_array().unwrap().iter().map(|arg| arg.as_str().unwrap());
    let mut command = std::process::Command::new(server["command"].as_str().unwrap());
    command.args(args).env_clear().stdin(Stdio::piped()).stdout(Stdio::piped());
    for variable in server["env"].as_array().unwrap() {
        command.env(variable["name"].as_str().unwrap(), variable["value"].as_str().unwrap());
    }
    let mut mcp = Mcp::of(command.spawn().unwrap());
    let child = mcp.start("say hello; servers");
    let result = mcp.ok("wait_subagent", json!({ "id": child }));
    assert_eq!(result["text"], "helloservers [kennel]", "it runs the same agent, which is given the same");
    let info = daemon.show(&child);
    assert_eq!((info.agent.as_str(), info.parent), ("given", Some(id("given"))));
    drop(mcp);

    // The file comes back with the next process, and goes with the session.
    std::fs::remove_file(&file).unwrap();
    daemon.ok(&["restart", "given"]);
    let given = std::fs::read_to_string(&file).unwrap();
    assert!(given.starts_with("given:") && !given.contains(token.trim()), "the agent has a token of its own");
    daemon.ok(&["rm", "--force", "given"]);
    // After the answer: the removal is on record first.
    until("the file has gone", || (!file.exists()).then_some(()));
}

#[test]
fn the_manager_is_reached_by_a_descriptor_where_the_path_leads_nowhere() {
    let daemon = Daemon::new();
    let program = beside("acp-agent").display().to_string();
    configure(
        &daemon,
        &format!(
            "[agents.passes]\nkind = \"acp\"\ncommand = [{program:?}]\n\
             [agents.keeps]\nkind = \"acp\"\ncommand = [{program:?}, \"--closes\"]\n"
        ),
    );
    for agent in ["passes", "keeps"] {
        daemon.ok(&["start", "--id", agent, "--agent", agent]);
        let output = daemon.ok(&["send", agent, "mcp kennel list_subagents"]);
        assert!(output.contains("\"subagents\":[]"), "{agent}: {output}");
    }
    let server: Value = serde_json::from_str(&daemon.ok(&["send", "passes", "server kennel"])).unwrap();
    let variables = server["env"].as_array().unwrap();
    let socket =
        variables.iter().find(|one| one["name"] == "KENNEL_SOCKET").unwrap()["value"].as_str().unwrap();
    let plain = daemon.dir.path().join("plain").display().to_string();
    let hidden = |agent: &str| {
        // The daemon remakes a socket that is gone, and removes nothing that is in its place.
        std::fs::write(&plain, "").unwrap();
        let script = format!(
            "rename {socket} {socket}.away; rename {plain} {socket}; mcp kennel list_subagents; rename {socket}.away {socket}"
        );
        daemon.ok(&["send", agent, &script])
    };
    let output = hidden("passes");
    assert!(output.contains("\"subagents\":[]"), "{output}");
    // Most agents hand nothing on; then there is the path, and nothing else.
    let output = hidden("keeps");
    assert!(output.contains("daemon_unreachable"), "{output}");
}

#[test]
fn people_see_the_tree_and_the_result() {
    let daemon = Daemon::new();
    let cases = trycmd::TestCases::new();
    cases.register_bin("kennel", trycmd::schema::Bin::Path(kennel().into())).timeout(BOUND);
    let dir = |below: &str| daemon.dir.path().join(below).display().to_string();
    cases
        .env("KENNEL_STATE_DIR", dir("state"))
        .env("XDG_RUNTIME_DIR", dir(""))
        .env("XDG_CONFIG_HOME", dir(""));
    cases.env("NO_COLOR", "1").case("cmd/subagents.trycmd");
    cases.run();
    let result: TurnResult = daemon.json(&["subagent", "result", "child"]);
    assert_eq!((result.text.as_str(), result.outcome), ("done by a child\n", Some(Outcome::Completed)));
    let order: Vec<SessionInfo> = daemon.json(&["ls", "--tree", "--all"]);
    let order: Vec<&str> = order.iter().map(|info| info.id.as_str()).collect();
    assert_eq!(order, ["boss", "child", "grandchild", "late", "other"]);
}
