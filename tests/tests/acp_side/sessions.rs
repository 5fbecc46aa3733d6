//! Sessions of an editor: listed, closed, refused, with their MCP servers.

use harness::real::{lives, until};
use manager::protocol::api::{SessionInfo, Status};
use serde_json::json;

use super::agent;
use super::editor::{Editor, kennel};

#[test]
pub(crate) fn sessions_are_listed_by_directory_and_one_can_be_the_directorys_own() {
    let daemon = kennel();
    let mut editor = Editor::new(&daemon, &["--agent", "plain", "--workdir-session"]);
    let id = editor.session(&daemon);
    assert_eq!(id, daemon.ok(&["id", "--dir", "."]).trim());
    editor.run(&id, "say one");
    assert_eq!(editor.session(&daemon), id, "it is the same");
    daemon.ok(&["start", "--id", "other", "--dir", "/", "--title", "a title"]);
    let list = editor.ask("session/list", json!({}));
    let ids: Vec<&str> = list["result"]["sessions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|session| session["sessionId"].as_str().unwrap())
        .collect();
    assert_eq!(ids.len(), 2, "{list}");
    assert!(ids.contains(&id.as_str()) && ids.contains(&"other"), "{list}");
    let list = editor.ask("session/list", json!({ "cwd": "/" }));
    let sessions = list["result"]["sessions"].as_array().unwrap();
    assert_eq!(sessions.len(), 1, "{list}");
    assert_eq!((&sessions[0]["title"], &sessions[0]["cwd"]), (&json!("a title"), &json!("/")));
    assert!(sessions[0]["updatedAt"].as_str().unwrap().ends_with('Z'));
}

#[test]
pub(crate) fn what_cannot_be_done_is_said_clearly() {
    let daemon = kennel();
    let mut editor = Editor::new(&daemon, &["--agent", "leaves"]);
    for (method, params) in [
        ("session/load", json!({ "sessionId": "nope", "cwd": "/", "mcpServers": [] })),
        ("session/resume", json!({ "sessionId": "no/pe", "cwd": "/" })),
        ("session/prompt", json!({ "sessionId": "nope", "prompt": [{ "type": "text", "text": "x" }] })),
    ] {
        let answer = editor.ask(method, params);
        assert_eq!(answer["error"]["code"], -32002, "{answer}");
        assert_eq!(answer["error"]["data"]["code"], "no_such_session");
        assert!(answer["error"]["message"].as_str().unwrap().contains("pe`"), "{answer}");
    }
    let unknown = editor.ask("session/set_mode", json!({ "sessionId": "x", "modeId": "code" }));
    assert_eq!(unknown["error"]["code"], -32002);
    let unknown = editor.ask("moon/land", json!({}));
    assert_eq!(unknown["error"]["code"], -32601);
    let wrong = editor.ask("session/new", json!({ "mcpServers": [] }));
    assert_eq!(wrong["error"]["code"], -32602);
    let nowhere = editor.ask("session/new", json!({ "cwd": "/nowhere", "mcpServers": [] }));
    assert!(nowhere["error"]["message"].as_str().unwrap().contains("/nowhere"), "{nowhere}");
    let leaves = editor.ask("session/new", json!({ "cwd": daemon.workdir(), "mcpServers": [] }));
    assert!(leaves["error"]["message"].as_str().unwrap().contains("fail"), "{leaves}");
    editor.close();
}

#[test]
pub(crate) fn one_bad_server_of_an_editor_costs_no_other() {
    let daemon = kennel();
    let mut editor = Editor::new(&daemon, &["--agent", "loads"]);
    let server =
        |name: &str, command: &str| json!({ "name": name, "command": command, "args": [], "env": [] });
    let servers = json!([
        server("bad", "/no/such/program"),
        server("good", "/bin/true"),
        server("bad", "/bin/cat"),
        server("\u{1}", "/bin/true"),
        server("last", "/bin/cat"),
    ]);
    let answer = editor.ask("session/new", json!({ "cwd": daemon.workdir(), "mcpServers": servers }));
    let id = answer["result"]["sessionId"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned();
    assert_eq!(editor.run(&id, "servers"), "end_turn");
    let received = editor.updates().join("\n");
    assert!(received.contains("message servers [good last kennel]"), "{received}");
    assert!(received.contains("not given these MCP servers of the editor: bad"), "{received}");
    // The same where the session exists already.
    let params = json!({ "sessionId": id, "cwd": daemon.workdir(), "mcpServers": [
        server("worse", "/no/such/program"), server("more", "/bin/true") ] });
    editor.ask("session/load", params);
    editor.wait_for_text("given these MCP servers of the editor: more");
    editor.wait_for_text("not given these MCP servers of the editor: worse");
}

#[test]
pub(crate) fn a_session_that_could_not_begin_leaves_nothing() {
    let daemon = kennel();
    let mut editor = Editor::new(&daemon, &["--agent", "leaves"]);
    for _ in 0..2 {
        let answer = editor.ask("session/new", json!({ "cwd": daemon.workdir(), "mcpServers": [] }));
        assert!(answer["error"]["message"].as_str().unwrap().contains("removed again"), "{answer}");
    }
    assert_eq!(daemon.json::<Vec<SessionInfo>>(&["ls", "--all"]), []);
}

#[test]
pub(crate) fn a_session_that_is_closed_has_no_process_and_can_be_opened_again() {
    let daemon = kennel();
    let mut editor = Editor::new(&daemon, &["--agent", "loads"]);
    let id = editor.session(&daemon);
    assert_eq!(editor.run(&id, "say one"), "end_turn");
    let prompt = editor.prompt(&id, "say begun; sleep 60000ms");
    editor.wait_for_text("begun");
    let agent = until("its agent", || daemon.show(&id).agent_pid);
    assert_eq!(editor.ask("session/close", json!({ "sessionId": id }))["result"], json!({}));
    assert_eq!(editor.stopped(prompt), "cancelled");
    assert_eq!(daemon.show(&id).status, Status::Stopped);
    until("its agent is gone", || (!lives(agent)).then_some(()));
    editor.load(&daemon, &id);
    assert_eq!(editor.run(&id, "say two"), "end_turn");
    // The close ends only the editor's own prompts.
    daemon.ok(&["send", "--no-wait", &id, "say theirs; sleep 60000ms"]);
    editor.wait_for_text("theirs");
    assert_eq!(editor.ask("session/close", json!({ "sessionId": id }))["result"], json!({}));
    assert_eq!(daemon.show(&id).status, Status::Running);
    assert_eq!(editor.ask("session/delete", json!({ "sessionId": id }))["result"], json!({}));
    assert_eq!(daemon.json::<Vec<SessionInfo>>(&["ls", "--all"]), []);
    let gone = editor.ask("session/delete", json!({ "sessionId": id }));
    assert_eq!(gone["error"]["code"], -32002, "{gone}");
}

#[test]
pub(crate) fn what_an_agent_is_can_be_asked_without_a_session_that_stays() {
    let daemon = kennel();
    // Before the first session with it, only its installation is known.
    let plain = agent(&daemon, &["agents", "ls"], "plain");
    assert_eq!(plain.details, None);
    let loads = agent(&daemon, &["agents", "ls", "plain", "loads", "--probe"], "loads").details.unwrap();
    assert_eq!((loads.version.as_deref(), loads.load, loads.resume), (Some("0.1.7-fixture"), true, false));
    // It exited before it reported its version.
    let output = daemon.run(&["agents", "ls", "leaves", "--probe"]);
    assert_eq!(output.code, Some(0));
    assert!(output.stderr.contains("leaves: "), "{}", output.stderr);
    assert_eq!(daemon.run(&["agents", "ls", "nobody"]).code, Some(2));
    assert!(daemon.json::<Vec<SessionInfo>>(&["ls"]).is_empty(), "the sessions were removed");

    daemon.ok(&["start", "--id", "s", "--agent", "loads"]);
    assert_eq!(daemon.idle("s").agent_details, Some(loads.clone()));
    assert_eq!(agent(&daemon, &["agents", "ls"], "loads").details, Some(loads));
    assert!(
        daemon.ok(&["show", "s"]).contains("acp-agent 0.1.7-fixture; ways to restore a conversation: load")
    );
}
