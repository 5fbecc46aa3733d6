//! Sub-agents for every agent: the tools that `kennel mcp` serves, over hand-written lines of JSON, and the rights
//! and limits behind them. On the shipped binaries; the rules of the limits on the core alone.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use harness::daemon::{Daemon, finish};
use harness::real::*;
use harness::sample::{self, AT, gone, id, identity};
use manager::client::{Client, ClientError, Request};
use manager::core::{Ask, Fleet, Input, Refusal, Reply, Seen, SubagentLimit, Subagents};
use manager::protocol::api::{ManagerInfo, Orphans, SessionInfo, SubagentHandle, TurnResult};
use manager::protocol::event::{EventKind, Outcome};
use manager::protocol::wire::TurnEnd;
use manager::protocol::{Exit, Restore, SessionId};
use serde_json::{Value, json};

/// A client of `kennel mcp`, as an agent is one.
pub(crate) struct Mcp {
    child: Child,
    lines: Receiver<Value>,
    next: u64,
}

impl Mcp {
    /// For the session whose token this file has.
    pub(crate) fn over(daemon: &Daemon, token: &Path) -> Self {
        let mut command = daemon.command(&["mcp"]);
        command.env("KENNEL_TOKEN_FILE", token).stdin(Stdio::piped());
        Self::of(command.spawn().unwrap())
    }

    fn of(mut child: Child) -> Self {
        let (sender, lines) = channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in out.lines() {
                let _ = sender.send(serde_json::from_str(&line.unwrap()).unwrap());
            }
        });
        let mut mcp = Self { child, lines, next: 0 };
        let info = json!({ "name": "test", "version": "1" });
        let hello = json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": info });
        let answer = mcp.ask("initialize", hello);
        assert_eq!(answer["result"]["serverInfo"]["name"], "kennel", "{answer}");
        mcp.say(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
        mcp
    }

    fn say(&mut self, message: &Value) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{message}").unwrap();
    }

    fn ask(&mut self, method: &str, params: Value) -> Value {
        self.next += 1;
        let id = self.next;
        self.say(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }));
        loop {
            let message = self.lines.recv_timeout(BOUND).unwrap_or_else(|error| panic!("{method}: {error}"));
            if message["id"] == id {
                return message;
            }
        }
    }

    /// What a tool says, and whether it is an error.
    pub(crate) fn call(&mut self, tool: &str, arguments: Value) -> (Value, bool) {
        let answer = self.ask("tools/call", json!({ "name": tool, "arguments": arguments }));
        let result = &answer["result"];
        // The same twice: as text for the model, and as an object for programs.
        let text: Value = serde_json::from_str(result["content"][0]["text"].as_str().unwrap()).unwrap();
        assert_eq!(text, result["structuredContent"], "{answer}");
        (text, result["isError"] == true)
    }

    pub(crate) fn ok(&mut self, tool: &str, arguments: Value) -> Value {
        let (value, failed) = self.call(tool, arguments);
        assert!(!failed, "{tool}: {value}");
        value
    }

    /// The code of what must be refused.
    fn refused(&mut self, tool: &str, arguments: Value) -> String {
        let (value, failed) = self.call(tool, arguments);
        assert!(failed, "{tool}: {value}");
        value["code"].as_str().unwrap().to_owned()
    }

    /// Starts a sub-agent of these words, and gives its id.
    fn start(&mut self, task: &str) -> String {
        self.ok("start_subagent", json!({ "task": task }))["session_id"].as_str().unwrap().to_owned()
    }
}

impl Drop for Mcp {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        if std::thread::panicking() {
            // A second panic would hide the first.
            let _ = self.child.kill();
            let _ = self.child.wait();
            return;
        }
        // It leaves with its client.
        until("the end of kennel mcp", || self.child.try_wait().unwrap());
    }
}

/// A session, and a file with its token.
fn session(daemon: &Daemon, name: &str) -> PathBuf {
    let info: SessionInfo = daemon.json(&["start", "--id", name]);
    daemon.idle(info.id.as_str());
    token_file(daemon, name)
}

pub(crate) fn token_file(daemon: &Daemon, name: &str) -> PathBuf {
    let path = daemon.dir.path().join(format!("{name}.token"));
    let mut file = std::fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(&path).unwrap();
    write!(file, "{name}:{}", daemon.ok(&["token", name])).unwrap();
    path
}

fn configure(daemon: &Daemon, text: &str) {
    std::fs::create_dir_all(daemon.workdir().join("kennel")).unwrap();
    std::fs::write(daemon.workdir().join("kennel/config.toml"), text).unwrap();
}

/// What its parent has heard of a sub-agent's end.
fn ends(daemon: &Daemon, parent: &str, child: &str) -> Vec<Option<Outcome>> {
    let events = daemon
        .events()
        .into_iter()
        .filter(|event| event.session.as_ref().map(SessionId::as_str) == Some(parent));
    let ends = events.filter_map(|event| match event.kind {
        EventKind::SubagentCompleted { child: of, outcome } if of.as_str() == child => Some(Some(outcome)),
        EventKind::SubagentLost { child: of, .. } if of.as_str() == child => Some(None),
        _ => None,
    });
    ends.collect()
}

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

    // A further prompt has a turn and a result of its own, and the parent is not told twice of the task.
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
fn a_token_reaches_down_and_neither_up_nor_sideways() {
    let daemon = Daemon::new();
    let (boss, other) = (session(&daemon, "boss"), session(&daemon, "other"));
    let mut mcp = Mcp::over(&daemon, &boss);
    let child = mcp.start("echo secret");
    let sibling = mcp.start("true");
    mcp.ok("wait_subagent", json!({ "id": child }));
    let mut below = Mcp::over(&daemon, &token_file(&daemon, &child));
    let grandchild = below.start("echo deep");
    assert_eq!(below.ok("wait_subagent", json!({ "id": grandchild }))["text"], "deep\n");
    assert_eq!(
        mcp.ok("read_result", json!({ "id": grandchild }))["text"],
        "deep\n",
        "it reaches all the way down"
    );

    let mut stranger = Mcp::over(&daemon, &other);
    assert_eq!(stranger.ok("list_subagents", json!({}))["subagents"], json!([]));
    let last = || daemon.json::<ManagerInfo>(&["daemon", "status"]).last_event_id;
    let before = last();
    for (asks, about) in [
        (&mut stranger, &[child.as_str(), "boss", "no-such"][..]),
        (&mut below, &[sibling.as_str(), "boss"][..]),
    ] {
        for id in about {
            for (tool, arguments) in [
                ("read_result", json!({ "id": id })),
                ("wait_subagent", json!({ "id": id })),
                ("send_to_subagent", json!({ "id": id, "text": "echo x" })),
                ("abort_subagent", json!({ "id": id })),
                ("abort_subagent", json!({ "id": id, "stop": true })),
            ] {
                assert_eq!(asks.refused(tool, arguments), "forbidden", "{tool} {id}");
            }
        }
    }
    assert_eq!(last(), before, "something was changed");
    drop((mcp, below, stranger));

    // The same by HTTP, and what the tools do not ask for.
    let status = daemon.ok(&["daemon", "status"]);
    let socket = status.lines().find_map(|line| line.strip_prefix("socket:")).unwrap();
    let socket = PathBuf::from(socket.trim());
    let secret = std::fs::read_to_string(&boss).unwrap().trim().to_owned();
    let ask = |token: &str, request: Request| {
        let client = Client::new(socket.clone()).with_token(token);
        assert!(!format!("{client:?}").contains(token));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        match runtime.block_on(client.ask(&request)) {
            Ok(_) => "ok".to_owned(),
            Err(ClientError::Problem(problem)) => problem.code,
            Err(error) => panic!("{error:?}"),
        }
    };
    let start = |body: Value| Request::post("/v1/subagents").json(&body);
    let of = |what: &str| format!("/v1/sessions/{child}{what}");
    let wrong = format!("boss:{}", "x".repeat(43));
    let plain = secret.split_once(':').unwrap().1.to_owned();
    for (token, request, code) in [
        (&secret, Request::get(of("")), "ok"),
        (&secret, Request::get(of("/log")), "ok"),
        (&secret, Request::get("/v1/sessions/boss"), "ok"),
        (&secret, Request::get("/v1/subagents?parent=boss"), "ok"),
        (&secret, Request::get("/v1/subagents?parent=other"), "forbidden"),
        (&secret, start(json!({ "task": "true", "parent": "other" })), "forbidden"),
        (&secret, start(json!({ "task": "true", "opts": { "permissions": "allow" } })), "forbidden"),
        (&secret, Request::get(of("/token")), "forbidden"),
        (&secret, Request::delete(of("?force=true")), "forbidden"),
        (&secret, Request::put(of("")), "forbidden"),
        (&secret, Request::post(of("/restart")), "forbidden"),
        (&secret, Request::get("/v1/sessions/other"), "forbidden"),
        (&secret, Request::get("/v1/sessions/no-such"), "forbidden"),
        (&secret, Request::get("/v1/sessions"), "forbidden"),
        (&secret, Request::post("/v1/manager/stop"), "forbidden"),
        (&wrong, Request::get(of("")), "bad_token"),
        (&wrong, start(json!({ "task": "true" })), "bad_token"),
        // Without an id it is for its own session only.
        (&plain, Request::get("/v1/sessions/boss"), "ok"),
        (&plain, Request::get(of("")), "bad_token"),
        (&plain, start(json!({ "task": "true" })), "forbidden"),
    ] {
        let what = format!("{request:?}");
        assert_eq!(ask(token, request), code, "{what}");
    }
}

#[test]
fn without_a_private_token_file_nothing_is_served() {
    let daemon = Daemon::new();
    let token = session(&daemon, "boss");
    let run = |token: Option<&Path>| {
        let mut command = daemon.command(&["mcp"]);
        if let Some(token) = token {
            command.env("KENNEL_TOKEN_FILE", token);
        }
        finish(command.spawn().unwrap())
    };
    assert_eq!(run(Some(&token)).code, Some(0), "nobody asks for anything");
    for (token, word) in [(None, "KENNEL_TOKEN_FILE"), (Some(Path::new("/no/such")), "/no/such")] {
        let said = run(token);
        assert!(said.code == Some(2) && said.stderr.contains(word) && said.stdout.is_empty(), "{said:#?}");
    }
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o644)).unwrap();
    let said = run(Some(&token));
    assert!(said.code == Some(2) && said.stderr.contains("0600"), "{said:#?}");
}

#[test]
fn limits_refuse_one_more_and_say_which() {
    let daemon = Daemon::new();
    configure(&daemon, "[defaults]\nsubagent_depth = 2\nsubagent_breadth = 2\nsubagent_total = 4\n");
    let mut boss = Mcp::over(&daemon, &session(&daemon, "boss"));
    let start = json!({ "task": "sleep 1000" });
    let first = boss.start("sleep 1000");
    let second = boss.start("sleep 1000");
    let (refusal, failed) = boss.call("start_subagent", start.clone());
    assert!(failed && refusal["code"] == "subagent_limit", "{refusal}");
    assert!(refusal["error"].as_str().unwrap().contains("has 2 sub-agents at work"), "{refusal}");
    assert_eq!(daemon.json::<Vec<SubagentHandle>>(&["subagent", "ls"]).len(), 2, "nothing was started");
    // On the command line too, with the exit status of a conflict.
    let said = daemon.run(&["subagent", "start", "--parent", "boss", "true"]);
    assert!(said.code == Some(7) && said.stderr.contains("subagent_breadth"), "{said:#?}");
    // One that has ended gives its place away.
    boss.ok("abort_subagent", json!({ "id": second, "stop": true }));
    boss.start("sleep 1000");

    let mut below = Mcp::over(&daemon, &token_file(&daemon, &first));
    let deep = below.start("true");
    below.ok("wait_subagent", json!({ "id": deep }));
    let mut deepest = Mcp::over(&daemon, &token_file(&daemon, &deep));
    let (refusal, _) = deepest.call("start_subagent", start.clone());
    assert!(refusal["error"].as_str().unwrap().contains("2 sub-agents deep"), "{refusal}");
    below.start("true");
    let (refusal, _) = below.call("start_subagent", start);
    assert!(refusal["error"].as_str().unwrap().contains("4 sub-agents below session `boss`"), "{refusal}");
    // A stop takes all below with it.
    daemon.ok(&["stop", "boss"]);
    assert_eq!(daemon.json::<Vec<SessionInfo>>(&["ls"]).len(), 0);
}

#[test]
fn the_parent_hears_of_the_end_once_whatever_becomes_of_the_manager() {
    let daemon = Daemon::new();
    let token = session(&daemon, "boss");
    let mut mcp = Mcp::over(&daemon, &token);
    let gate = daemon.dir.path().join("gate");
    let waits = format!("until [ -e {} ]; do sleep 0.02; done", gate.display());
    let running = mcp.start(&waits);
    let mark = daemon.dir.path().join("marked");
    let ended = mcp.start(&format!("echo ended > {}", mark.display()));
    until("the turn", || (daemon.show(&running).running_prompt.is_some()).then_some(()));
    mcp.ok("wait_subagent", json!({ "id": ended }));
    // Between the start of one and its end, and after the end of the other.
    for _ in 0..2 {
        daemon.kill();
        daemon.ok(&["daemon", "start"]);
        daemon.idle("boss");
        assert!(daemon.show(&running).running_prompt.is_some(), "it goes on");
    }
    std::fs::write(&gate, "").unwrap();
    let result = mcp.ok("wait_subagent", json!({ "id": running }));
    assert_eq!(result["outcome"], "completed", "{result}");
    assert_eq!(ends(&daemon, "boss", &running), [Some(Outcome::Completed)]);
    assert_eq!(ends(&daemon, "boss", &ended), [Some(Outcome::Completed)]);
    // One that waits for a daemon that is gone goes on with the next.
    std::fs::remove_file(&gate).unwrap();
    let slow = mcp.start(&waits);
    mcp.next += 1;
    let asked = mcp.next;
    let wait = json!({ "name": "wait_subagent", "arguments": { "id": slow, "timeout": 60 } });
    mcp.say(&json!({ "jsonrpc": "2.0", "id": asked, "method": "tools/call", "params": wait }));
    until("the turn", || (daemon.show(&slow).running_prompt.is_some()).then_some(()));
    daemon.kill();
    daemon.ok(&["daemon", "start"]);
    std::fs::write(&gate, "").unwrap();
    let answer = mcp.lines.recv_timeout(BOUND).unwrap();
    assert_eq!(answer["result"]["structuredContent"]["outcome"], "completed", "{answer}");
    assert_eq!(ends(&daemon, "boss", &slow), [Some(Outcome::Completed)]);
    assert_eq!(daemon.show(&running).parent, Some(id("boss")), "the tree is as it was");
}

#[test]
fn an_agent_is_given_the_tools_and_can_use_them() {
    let daemon = Daemon::new();
    let program = beside("acp-agent");
    let agent = |name: &str, more: &str| {
        format!("[agents.{name}]\nkind = \"acp\"\ncommand = [\"{}\"]\n{more}\n", program.display())
    };
    configure(&daemon, &(agent("given", "") + &agent("alone", "subagents = false")));
    for (name, said) in [("given", "servers [kennel]"), ("alone", "servers []")] {
        daemon.ok(&["start", "--id", name, "--agent", name]);
        assert_eq!(daemon.ok(&["send", name, "servers"]), said);
    }
    let file = daemon.dir.path().join("state/tokens/given");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!daemon.dir.path().join("state/tokens/alone").exists());
    let token = daemon.ok(&["token", "given"]);

    // As the agent would run it: with what it was told and nothing else.
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
        let said = daemon.ok(&["send", agent, "mcp kennel list_subagents"]);
        assert!(said.contains("\"subagents\":[]"), "{agent}: {said}");
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
    let said = hidden("passes");
    assert!(said.contains("\"subagents\":[]"), "{said}");
    // Most agents hand nothing on; then there is the path, and nothing else.
    let said = hidden("keeps");
    assert!(said.contains("daemon_unreachable"), "{said}");
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

// --- the core alone ---

fn ask(fleet: &mut Fleet, wish: &Ask) -> Result<Reply, Refusal> {
    let change = fleet.step(AT, wish)?;
    drop(fleet.adopt(&change));
    Ok(change.reply)
}

fn limited(depth: u32, breadth: u32, total: u32) -> Arc<manager::core::Spec> {
    let subagents = Subagents { depth, breadth, total, ..Subagents::default() };
    Arc::new(manager::core::Spec { subagents, ..sample::spec() })
}

fn below(fleet: &mut Fleet, parent: &str, name: &str) -> Result<Reply, Refusal> {
    // What a child says of limits counts for nothing: its root's do.
    let (spec, task) = (limited(99, 99, 99), "task".into());
    ask(fleet, &Ask::Subagent { parent: Some(id(parent)), id: Some(id(name)), spec, task, wish: None })
}

fn root(limits: Arc<manager::core::Spec>) -> Fleet {
    let mut fleet = Fleet::load([], [], 1, 1);
    ask(&mut fleet, &Ask::Create { id: Some(id("root")), spec: limits }).unwrap();
    fleet
}

fn refused(result: Result<Reply, Refusal>) -> (String, SubagentLimit, u32) {
    match result {
        Err(Refusal::SubagentLimit { id, what, limit }) => (id.to_string(), what, limit),
        other => panic!("{other:?}"),
    }
}

/// Runs the session's task to its end.
fn end_task(fleet: &mut Fleet, name: &str) {
    let prompt = fleet.get(&id(name)).unwrap().task.as_ref().unwrap().prompt;
    let exit = Some(Exit::Code(0));
    for seen in [
        Seen::Spawned(identity(100)),
        Seen::Ready { restore: Restore::Fresh, agent_pid: None },
        Seen::TurnStarted { prompt, agent_pid: 101 },
        Seen::TurnEnded { prompt, end: TurnEnd::Finished, exit, left_behind: 0 },
    ] {
        ask(fleet, &Ask::One(id(name), Input::Seen(1, seen))).unwrap();
    }
}

#[test]
fn depth_is_counted_from_the_root() {
    let mut fleet = root(limited(2, 9, 9));
    below(&mut fleet, "root", "one").unwrap();
    below(&mut fleet, "one", "two").unwrap();
    let before = fleet.clone();
    assert_eq!(refused(below(&mut fleet, "two", "three")), ("two".into(), SubagentLimit::Depth, 2));
    assert_eq!(fleet, before, "a refusal changes nothing");
    assert_eq!(refused(below(&mut root(limited(0, 9, 9)), "root", "one")).1, SubagentLimit::Depth);
    let above: Vec<String> = fleet.above(&id("two")).map(|session| session.id.to_string()).collect();
    assert_eq!(above, ["one", "root"]);
}

#[test]
fn breadth_counts_tasks_that_are_open() {
    let mut fleet = root(limited(9, 2, 9));
    below(&mut fleet, "root", "a").unwrap();
    below(&mut fleet, "root", "b").unwrap();
    assert_eq!(refused(below(&mut fleet, "root", "c")), ("root".into(), SubagentLimit::Breadth, 2));
    below(&mut fleet, "a", "aa").unwrap();
    end_task(&mut fleet, "b");
    below(&mut fleet, "root", "c").unwrap();
    assert_eq!(refused(below(&mut fleet, "root", "d")).1, SubagentLimit::Breadth);
    ask(&mut fleet, &Ask::Stop(id("c"), Orphans::Stop)).unwrap();
    below(&mut fleet, "root", "d").unwrap();
}

#[test]
fn the_total_counts_what_could_still_work() {
    let mut fleet = root(limited(9, 9, 3));
    below(&mut fleet, "root", "a").unwrap();
    below(&mut fleet, "a", "b").unwrap();
    below(&mut fleet, "b", "c").unwrap();
    // One that is idle has a process, and counts.
    end_task(&mut fleet, "c");
    for parent in ["root", "a", "c"] {
        assert_eq!(refused(below(&mut fleet, parent, "d")), ("root".into(), SubagentLimit::Total, 3));
    }
    ask(&mut fleet, &Ask::Stop(id("c"), Orphans::Stop)).unwrap();
    assert_eq!(refused(below(&mut fleet, "a", "d")).1, SubagentLimit::Total, "it is not gone yet");
    ask(&mut fleet, &Ask::One(id("c"), Input::Seen(1, gone(Exit::Signal(15))))).unwrap();
    below(&mut fleet, "a", "d").unwrap();
    // A sub-agent of nobody is a root of its own.
    let alone = Ask::Subagent {
        parent: None,
        id: Some(id("z")),
        spec: limited(1, 1, 1),
        task: "task".into(),
        wish: None,
    };
    ask(&mut fleet, &alone).unwrap();
    below(&mut fleet, "z", "zz").unwrap();
}
