//! The MCP servers of an editor, on their way to the agent by `kennel acp`.

use harness::real::{kill, until};
use serde_json::json;

use crate::acp_side::{Editor, kennel};

#[test]
fn the_editors_mcp_servers_reach_the_agent_and_every_one_after_it_and_their_secrets_nobody_else() {
    let daemon = kennel();
    let mut editor = Editor::new(&daemon, &["--agent", "plain"]);
    let servers = json!([
        { "name": "docs", "command": "/bin/sh", "args": ["-c", "secret-argument"],
          "env": [{ "name": "TOKEN", "value": "secret-value" }] },
        { "type": "http", "name": "web", "url": "https://docs.example/mcp",
          "headers": [{ "name": "Authorization", "value": "secret-header" }] },
    ]);
    let new = editor.ask("session/new", json!({ "cwd": daemon.workdir(), "mcpServers": servers }));
    let id = new["result"]["sessionId"].as_str().unwrap_or_else(|| panic!("{new}")).to_owned();
    editor.hears_text("not given these MCP servers of the editor: web");
    let prompt = editor.prompt(&id, "server docs");
    assert_eq!(editor.stopped(prompt), "end_turn");
    let said = editor.told().pop().unwrap();
    assert!(said.contains("\"command\":\"/bin/sh\"") && said.contains("secret-value"), "{said}");
    let before = daemon.show(&id);
    kill(before.pid.unwrap());
    until("that it is back", || (daemon.show(&id).incarnation > before.incarnation).then_some(()));
    let prompt = editor.prompt(&id, "servers");
    assert_eq!(editor.stopped(prompt), "end_turn");
    editor.hears_text("servers [docs");
    // What the agent itself has said is the agent's.
    let events = daemon.ok(&["events", &id, "--json"]);
    let events: String = events.lines().filter(|line| !line.contains("message.chunk")).collect();
    let notes = std::fs::read_to_string(daemon.dir.path().join("notes")).unwrap();
    let shown = [
        daemon.ok(&["show", &id, "--json"]),
        daemon.ok(&["ls", "--json"]),
        daemon.ok(&["logs", &id]),
        events,
        notes,
    ];
    for text in shown {
        assert!(!text.contains("secret"), "{text}");
    }
}

#[test]
fn a_server_that_cannot_be_given_is_named_and_the_session_is_there() {
    let daemon = kennel();
    let mut editor = Editor::new(&daemon, &["--agent", "plain"]);
    let servers = json!([{ "name": "gone", "command": "/no/such/program", "args": ["secret"], "env": [] }]);
    let new = editor.ask("session/new", json!({ "cwd": daemon.workdir(), "mcpServers": servers }));
    let id = new["result"]["sessionId"].as_str().unwrap_or_else(|| panic!("{new}")).to_owned();
    editor.hears_text("there is no program `/no/such/program` for the MCP server `gone`");
    assert!(editor.told().iter().all(|text| !text.contains("secret")), "{:?}", editor.told());
    let prompt = editor.prompt(&id, "say hello");
    assert_eq!(editor.stopped(prompt), "end_turn");
}

#[test]
fn the_session_of_a_directory_keeps_its_servers_when_the_editor_names_others() {
    let daemon = kennel();
    let mut editor = Editor::new(&daemon, &["--agent", "plain", "--workdir-session"]);
    let server = |name| json!([{ "name": name, "command": "/bin/sh", "args": [], "env": [] }]);
    let cwd = daemon.workdir();
    let mut open = |servers| {
        let new = editor.ask("session/new", json!({ "cwd": cwd, "mcpServers": servers }));
        new["result"]["sessionId"].as_str().unwrap_or_else(|| panic!("{new}")).to_owned()
    };
    let id = open(server("one"));
    assert_eq!(open(server("one")), id);
    assert_eq!(open(server("two")), id);
    editor.hears_text("not given these MCP servers of the editor: two");
    let prompt = editor.prompt(&id, "servers");
    assert_eq!(editor.stopped(prompt), "end_turn");
    editor.hears_text("servers [one");
}
