//! What agents may ask of their manager: with a token, with the manager's socket, and by way of an editor. Nothing that an
//! agent can hold gives it more than its own walls.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use harness::daemon::{Daemon, finish};
use harness::real::*;
use harness::sample;
use manager::client::{Client, ClientError, Request};
use manager::core::{PermissionRule, Spec, Wish};
use manager::protocol::api::{
    PermissionInfo, PermissionPolicy, PromptRequest, Role, SessionInfo, SessionOpts, Status, SubagentHandle,
    TurnResult, WhenBusy,
};
use manager::protocol::wire::Agent;
use manager::protocol::{Containment, Limits, Sandbox, Walls};
use nix::sys::signal::Signal;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::acp_side::Editor;
use crate::containment::{User, users};

/// A daemon outside of the directories for temporary files, with a home, a secret in it and one in its environment.
fn daemon(user: User, profiles: &str) -> Daemon {
    let place = match nix::unistd::geteuid().is_root() {
        true => "/var/lib".into(),
        false => std::env::var("HOME").unwrap(),
    };
    let mut daemon = Daemon::over(tempfile::Builder::new().prefix("kennel-test-").tempdir_in(place).unwrap());
    let root = daemon.dir.path().to_owned();
    let fixtures = [beside("fixture-agent"), beside("acp-agent")];
    let programs = publish(&[kennel(), worker(), &fixtures[0], &fixtures[1]], &root.join("bin"));
    for directory in ["home/.ssh", "work/below", "other", "kennel"] {
        std::fs::create_dir_all(root.join(directory)).unwrap();
    }
    std::fs::write(root.join("home/.ssh/id"), "the secret key").unwrap();
    let profiles = profiles
        .replace("FIXTURE", programs[2].to_str().unwrap())
        .replace("ACP", programs[3].to_str().unwrap());
    std::fs::write(root.join("kennel/config.toml"), profiles + "\n[defaults]\ngrace = \"100ms\"\n").unwrap();
    if user == User::Nobody {
        give_away(&root);
        daemon.run_as(65534, programs[0].clone());
    }
    daemon.set("HOME", root.join("home").to_str().unwrap());
    daemon.set("A_SECRET", "the-secret-of-the-daemon");
    daemon
}

fn give_away(path: &Path) {
    std::os::unix::fs::lchown(path, Some(65534), Some(65534)).unwrap();
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        match entry.file_type().unwrap().is_dir() {
            true => give_away(&entry.path()),
            false => std::os::unix::fs::lchown(entry.path(), Some(65534), Some(65534)).unwrap(),
        }
    }
}

fn start(daemon: &Daemon, id: &str, agent: &str) -> SessionInfo {
    let work = daemon.dir.path().join("work");
    daemon.ok(&["start", "--id", id, "--agent", agent, "--dir", work.to_str().unwrap()]);
    daemon.idle(id)
}

/// Asks with a token, and gives the answer or the code of the refusal.
fn ask(daemon: &Daemon, token: &str, request: Request) -> Result<Value, String> {
    let client = Client::new(daemon.socket()).with_token(token);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    match runtime.block_on(client.ask(&request)) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).unwrap_or_default()),
        Err(ClientError::Problem(problem)) => Err(problem.code),
        Err(error) => panic!("{error:?}"),
    }
}

fn token(daemon: &Daemon, id: &str) -> String {
    format!("{id}:{}", daemon.ok(&["token", id]).trim())
}

fn subagent(opts: Value) -> Request {
    Request::post("/v1/subagents").json(&json!({ "task": "true", "opts": opts }))
}

/// A sub-agent that the token starts, with this task, and what it has said.
fn said_by_child(daemon: &Daemon, token: &str, task: &str, opts: Value) -> (SubagentHandle, String) {
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
            let (handle, said) = said_by_child(&daemon, &token, &task, opts.clone());
            assert!(said.starts_with("<>\nwrote\n"), "{user:?} {opts}: {said}");
            assert!(said.trim_end().ends_with("/work"), "what is left out is the parent's: {said}");
            assert!(!root.join("other/new").exists(), "{user:?} {opts}");
            let child = daemon.show(handle.session_id.as_str());
            assert_eq!(child.sandbox, boss.sandbox, "{user:?} {opts}");
            assert_eq!(child.limits, boss.limits, "{user:?} {opts}");
            assert_eq!(child.containment, boss.containment, "{user:?} {opts}");
            // And so on below it.
            let deep = self::token(&daemon, handle.session_id.as_str());
            let (handle, said) = said_by_child(&daemon, &deep, &task, json!({ "agent": "free" }));
            assert!(said.starts_with("<>\nwrote\n"), "{user:?} below {opts}: {said}");
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
        let (handle, _) = said_by_child(&daemon, &token, "true", less);
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

/// Agents that ask before they do something.
const ASKS: &str = "[agents.asks]\nkind = \"acp\"\ncommand = [\"ACP\"]\npermissions = \"park\"\n\
    rules = [{ kind = \"read\", then = \"allow\" }]\n\
    [agents.allows]\nkind = \"acp\"\ncommand = [\"ACP\"]\npermissions = \"allow\"\n\
    [agents.runs]\nkind = \"command\"\ncommand = [\"FIXTURE\"]\n";

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

#[test]
fn the_token_that_an_agent_is_given_is_for_sub_agents_and_nothing_else() {
    let daemon = daemon(User::Own, ASKS);
    start(&daemon, "boss", "asks");
    let token = std::fs::read_to_string(daemon.dir.path().join("state/tokens/boss")).unwrap();
    let of = |what: &str| format!("/v1/sessions/boss{what}");
    let set = json!({ "value": "code" });
    for request in [
        Request::get(of("/token")),
        Request::delete(of("?force=true")),
        Request::put(of("")),
        Request::post(of("/restart")),
        Request::post(of("/stop")),
        Request::post(of("/prompts")).json(&json!({ "text": "say more" })),
        Request::put(of("/settings/mode")).json(&set),
        Request::put(of("/mcp_servers")).json(&json!({})),
        Request::get("/v1/sessions"),
        Request::post("/v1/bootstrap").json(&json!({ "workdir": "/" })),
        Request::get(of("/attach?role=driver")),
    ] {
        let what = format!("{request:?}");
        assert_eq!(ask(&daemon, token.trim(), request), Err("forbidden".into()), "{what}");
    }
    assert!(ask(&daemon, token.trim(), Request::get(of(""))).is_ok());
    let opts = json!({ "agent": "allows" });
    let child = ask(&daemon, token.trim(), subagent(opts)).unwrap();
    assert!(
        ask(&daemon, token.trim(), Request::get("/v1/subagents")).unwrap()[0]["session_id"]
            == child["session_id"]
    );
}

/// A way to the daemon's socket from within a sandbox, whatever that hides: another name of the same socket.
fn another_name(daemon: &Daemon) -> PathBuf {
    let name = daemon.dir.path().join("work/api");
    let _ = std::fs::remove_file(&name);
    std::fs::hard_link(daemon.socket(), &name).unwrap();
    name
}

#[test]
fn an_agent_that_reaches_the_socket_is_not_the_owner() {
    let profiles = "[agents.boxed]\nkind = \"command\"\ncommand = [\"FIXTURE\"]\nprompt_via = \"argument\"\nsandbox = \"strict\"\n\
        [agents.apart]\nkind = \"command\"\ncommand = [\"FIXTURE\"]\nprompt_via = \"argument\"\n\
        [agents.plain]\nkind = \"command\"\ncommand = [\"FIXTURE\"]\nprompt_via = \"argument\"\ncontainment = \"subreaper\"\n";
    for user in users() {
        let daemon = daemon(*user, profiles);
        for agent in ["boxed", "apart", "plain"] {
            start(&daemon, agent, agent);
        }
        daemon.ok(&["start", "--id", "other"]);
        let others = token(&daemon, "other");
        // The next daemon's workers are not its children, and its socket is another one.
        for round in ["first", "after a restart"] {
            let socket = another_name(&daemon).display().to_string();
            let tries = |agent: &str, requests: &[&str]| {
                let script: Vec<String> = requests.iter().map(|one| format!("http {socket} {one}")).collect();
                let said = daemon.ok(&["send", agent, &script.join("; ")]);
                said.lines().map(str::to_owned).collect::<Vec<_>>()
            };
            let owners = [
                "GET /v1/sessions - -",
                "POST /v1/sessions - {}",
                "GET /v1/sessions/other - -",
                "GET /v1/sessions/other/token - -",
                "POST /v1/sessions/other/prompts - {\"text\":\"echo\"}",
                "POST /v1/manager/stop - -",
                "POST /v1/bootstrap - {\"workdir\":\"/\"}",
                "DELETE /v1/sessions/other?force=true - -",
            ];
            for agent in ["boxed", "apart", "plain"] {
                let what = format!("{user:?} {agent} {round}");
                assert_eq!(tries(agent, &owners), vec!["403 forbidden"; owners.len()], "{what}");
                let own = format!("GET /v1/sessions/{agent} - -");
                let mine = if agent == "boxed" { "403 forbidden" } else { "200" };
                assert_eq!(tries(agent, &[&own, "GET /v1/subagents - -"]), [mine, mine], "{what}");
                // By its token it may look at itself, and not more than its agent may; in a sandbox by no other.
                let token = token(&daemon, agent);
                let requests = [
                    format!("GET /v1/sessions/{agent} {token} -"),
                    format!("POST /v1/sessions/{agent}/prompts {token} {{\"text\":\"say\"}}"),
                    format!("GET /v1/sessions/other {others} -"),
                ];
                let by_another = if agent == "boxed" { "403 forbidden" } else { "200" };
                let requests: Vec<&str> = requests.iter().map(String::as_str).collect();
                assert_eq!(tries(agent, &requests), ["200", "403 forbidden", by_another], "{what}");
            }
            daemon.ok(&["daemon", "restart"]);
            for agent in ["boxed", "apart", "plain"] {
                daemon.idle(agent);
            }
        }
        assert!(daemon.show("other").pid.is_some_and(lives), "the owner is the owner");
    }
}

#[test]
fn a_process_that_has_left_its_parents_is_still_its_sessions() {
    let daemon = daemon(User::Own, "[agents.plain]\nkind = \"shell\"\ncontainment = \"subreaper\"\n");
    start(&daemon, "plain", "plain");
    for _ in 0..2 {
        let fixture = daemon.dir.path().join("bin/fixture-agent").display().to_string();
        let socket = daemon.socket().display().to_string();
        // Its parents gone, and nothing in its environment; what it hears is written when they are.
        let script = format!(
            "sleep 20ms; http {socket} GET /v1/sessions - -; http {socket} GET /v1/sessions/plain - -"
        );
        let prompt = format!(
            "rm -f out; setsid -f env -i {fixture} --script '{script}' > out; until [ $(wc -l < out) = 2 ]; do sleep 0.02; done; cat out"
        );
        assert_eq!(daemon.ok(&["send", "plain", &prompt]), "403 forbidden\n200\n");
        daemon.ok(&["daemon", "restart"]);
        daemon.idle("plain");
    }
    let says =
        "exec env -i KENNEL_STATE_DIR=$PWD/../state XDG_RUNTIME_DIR=$PWD/.. HOME=$PWD $PWD/../bin/kennel ls";
    let said = daemon.run(&["send", "plain", says]);
    assert!(
        said.stderr.contains("agent of session `plain`") || said.stdout.contains("agent of session `plain`"),
        "{said:#?}"
    );
}

#[test]
fn a_client_that_is_dead_before_the_daemon_looks_is_not_the_owner() {
    let daemon = daemon(User::Own, "");
    daemon.ok(&["daemon", "start"]);
    let (manager, socket) = (daemon.pid(), daemon.socket().display().to_string());
    signal(manager, Signal::SIGSTOP);
    let mut dying = std::process::Command::new(beside("fixture-agent"));
    let script = format!("http {socket} POST /v1/sessions - {{}}");
    let mut dying = dying.args(["--script", &script]).stdin(Stdio::null()).spawn().unwrap();
    let process = format!("/proc/{}", dying.id());
    until("that it waits for its answer", || {
        let fds = std::fs::read_dir(format!("{process}/fd")).ok()?;
        let links = fds.flatten().filter_map(|fd| std::fs::read_link(fd.path()).ok());
        let connected = links.filter(|to| to.to_string_lossy().starts_with("socket:")).count() > 0;
        let status = std::fs::read_to_string(format!("{process}/status")).ok()?;
        (connected && status.contains("State:\tS")).then_some(())
    });
    dying.kill().unwrap();
    until("its death", || dying.try_wait().unwrap());
    signal(manager, Signal::SIGCONT);
    daemon.ok(&["start", "--id", "mine"]);
    daemon.idle("mine");
    let all: Vec<SessionInfo> = daemon.json(&["ls", "--all"]);
    assert_eq!(all.len(), 1, "{all:#?}");
}

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
        assert!(editor.told().join("\n").contains("on disk"), "the worker read");
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
        let told = editor.told().join("\n");
        assert!(!told.contains("the secret key"), "{user:?}: a key was read");
        let met = [told.contains("message text"), told.contains("not below")];
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

// --- the rule alone ---

fn some_walls() -> impl Strategy<Value = Option<Walls>> {
    let places = || {
        prop::collection::vec(
            prop::sample::select(vec!["/h/.a", "/h/.a/b", "/h/.a/b/c", "/h/d", "/w/x"]),
            0..4,
        )
    };
    let kind = prop::sample::select(vec![Sandbox::Workdir, Sandbox::Strict]);
    let walls = (kind, any::<bool>(), places(), places()).prop_map(|(sandbox, program, hidden, writable)| {
        let owned = |places: Vec<&str>| places.into_iter().map(str::to_owned).collect();
        let program = program.then(|| "/usr/bin/bwrap".to_owned());
        Walls { sandbox, program, hidden: owned(hidden), writable: owned(writable), ..Walls::default() }
    });
    prop::option::of(walls)
}

fn some_policy() -> impl Strategy<Value = PermissionPolicy> {
    use PermissionPolicy::*;
    prop::sample::select(vec![Park, Allow, Deny, Fail])
}

prop_compose! {
    fn some_spec()(
        walls in some_walls(),
        acp in any::<bool>(),
        (policy, rule) in (some_policy(), prop::option::of(some_policy())),
        limits in (prop::option::of(0u32..20), prop::option::of(32u64..100), prop::option::of(1u64..50), prop::option::of(8u32..60), prop::option::of(10u32..90)),
        turn_timeout_ms in prop::sample::select(vec![0u64, 1_000, 5_000]),
        containment in prop::sample::select(vec![Containment::Auto, Containment::PidNamespace, Containment::Subreaper]),
        workdir in prop::sample::select(vec!["/w", "/w/x", "/w/x/y", "/wide", "/"]),
        env_pass in prop::sample::subsequence(vec!["A", "B", "C"], 0..3),
        offered in any::<bool>(),
    ) -> Spec {
        let mut spec = if acp { sample::acp_spec() } else { sample::spec() };
        spec.permissions.policy = policy;
        spec.permissions.rules = rule.into_iter().map(|then| PermissionRule { kind: Some("read".into()), path: None, then }).collect();
        let (nice, nofile, memory_bytes, pids, milli_cpus) = limits;
        spec.limits = Limits { nice, nofile, memory_bytes, pids, milli_cpus };
        spec.env_pass = env_pass.into_iter().map(str::to_owned).collect();
        spec.subagents.offered = offered;
        Spec { walls, turn_timeout_ms, containment, workdir: workdir.into(), ..spec }
    }
}

/// Whether this session does without a question what is asked.
fn does(spec: &Spec, kind: &str) -> bool {
    let ask = manager::protocol::wire::PermissionAsk { kind: Some(kind.into()), ..sample::ask() };
    match spec.agent {
        Agent::Shell | Agent::Command { .. } => true,
        Agent::Acp { .. } => spec.permissions.policy_for(&ask, &spec.workdir) == PermissionPolicy::Allow,
    }
}

proptest! {
    #[test]
    fn whatever_is_asked_for_is_no_weaker_or_refused(specs in prop::collection::vec(some_spec(), 2..5), named in any::<bool>()) {
        let root = specs[0].clone();
        let mut parent = root.clone();
        for child in &specs[1..] {
            let given = if named {
                SessionOpts { memory_bytes: child.limits.memory_bytes, pids: child.limits.pids, nice: child.limits.nice, ..SessionOpts::default() }
            } else {
                SessionOpts::default()
            };
            let wish = Wish { given: given.clone(), worktrees: None };
            let Ok(made) = parent.below(child, &wish) else { continue };
            for above in [&parent, &root] {
                prop_assert_eq!(made.weaker_than(above), Vec::<&str>::new());
                for kind in ["read", "edit"] {
                    prop_assert!(!does(&made, kind) || does(above, kind), "{} by {:?}", kind, made.permissions);
                }
                prop_assert!(above.walls.is_none() || made.walls.is_some());
                let most = &above.limits;
                prop_assert!(most.memory_bytes.is_none_or(|most| made.limits.memory_bytes.is_some_and(|own| own <= most)));
                prop_assert!(above.walls.is_none() || made.env_pass.iter().all(|name| above.env_pass.contains(name)));
            }
            // What was named and is not refused is had as it was named.
            if let Some(memory) = given.memory_bytes {
                prop_assert_eq!(made.limits.memory_bytes, Some(memory));
            }
            // Made again it is the same.
            let again = parent.below(&made, &wish);
            prop_assert_eq!(again.map(|again| again.limits), Ok(made.limits));
            parent = made;
        }
    }
}

#[test]
fn each_way_to_be_weaker_has_its_name() {
    let walls = |hidden: &[&str], writable: &[&str]| {
        let owned = |places: &[&str]| places.iter().map(|place| (*place).to_owned()).collect();
        Walls {
            sandbox: Sandbox::Strict,
            program: None,
            hidden: owned(hidden),
            writable: owned(writable),
            ..Walls::default()
        }
    };
    let parent = Spec {
        workdir: "/w".into(),
        walls: Some(walls(&["/h/.ssh"], &["/h/.agent"])),
        containment: Containment::PidNamespace,
        turn_timeout_ms: 1_000,
        limits: Limits {
            nice: Some(1),
            nofile: Some(2),
            memory_bytes: Some(3),
            pids: Some(4),
            milli_cpus: Some(5),
        },
        ..sample::acp_spec()
    };
    assert_eq!(parent.weaker_than(&parent), Vec::<&str>::new());
    type Change = fn(&mut Spec);
    let ways: [(&str, Change); 18] = [
        ("sandbox", |spec| spec.walls = None),
        ("sandbox", |spec| spec.walls.as_mut().unwrap().sandbox = Sandbox::Workdir),
        ("sandbox", |spec| spec.walls.as_mut().unwrap().hidden.clear()),
        ("sandbox", |spec| spec.walls.as_mut().unwrap().writable.push("/h".into())),
        ("sandbox", |spec| spec.walls.as_mut().unwrap().writable.push("/h/.ssh".into())),
        ("sandbox", |spec| spec.walls.as_mut().unwrap().writable.push("/h/.agent/../.ssh".into())),
        ("workdir", |spec| spec.workdir = "/wide".into()),
        ("containment", |spec| spec.containment = Containment::Auto),
        ("nice", |spec| spec.limits.nice = Some(0)),
        ("nofile", |spec| spec.limits.nofile = None),
        ("memory_bytes", |spec| spec.limits.memory_bytes = Some(4)),
        ("pids", |spec| spec.limits.pids = None),
        ("milli_cpus", |spec| spec.limits.milli_cpus = Some(6)),
        ("turn_timeout_ms", |spec| spec.turn_timeout_ms = 0),
        ("turn_timeout_ms", |spec| spec.turn_timeout_ms = 1_001),
        ("permissions", |spec| spec.permissions.policy = PermissionPolicy::Allow),
        ("permissions", |spec| spec.agent = Agent::Shell),
        ("env_pass", |spec| spec.env_pass = vec!["KEY".into()]),
    ];
    for (name, change) in ways {
        let mut child = parent.clone();
        change(&mut child);
        // Rules name paths below a directory: those of another one say something else.
        let rules = if name == "workdir" { vec!["permissions"] } else { Vec::new() };
        assert_eq!(child.weaker_than(&parent), [vec![name], rules].concat());
    }
}
