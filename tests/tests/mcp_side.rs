//! The MCP servers of an editor, on their way to the agent by `kennel acp`.

use harness::real::{kill, until};
use manager::protocol::api::SubagentTools;
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
    editor.wait_for_text("takes no MCP servers by http, and is not given these: web");
    let prompt = editor.prompt(&id, "server docs");
    assert_eq!(editor.stopped(prompt), "end_turn");
    let output = editor.updates().pop().unwrap();
    assert!(output.contains("\"command\":\"/bin/sh\"") && output.contains("secret-value"), "{output}");
    let before = daemon.show(&id);
    kill(before.pid.unwrap());
    until("that it is back", || (daemon.show(&id).incarnation > before.incarnation).then_some(()));
    let prompt = editor.prompt(&id, "servers");
    assert_eq!(editor.stopped(prompt), "end_turn");
    editor.wait_for_text("servers [docs");
    // The agent's own text is the agent's.
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
fn servers_that_are_reached_by_http_are_given_to_an_agent_that_can_and_the_others_are_named() {
    let daemon = kennel();
    let mut editor = Editor::silent(&daemon, &["--agent", "reaches"]);
    let hello = editor.ask("initialize", json!({ "protocolVersion": 1, "clientCapabilities": {} }));
    let able = &hello["result"]["agentCapabilities"]["mcpCapabilities"];
    assert_eq!((&able["http"], &able["sse"]), (&json!(true), &json!(true)), "{hello}");
    let header = json!([{ "name": "Authorization", "value": "secret-header" }]);
    let web = json!({ "type": "http", "name": "web", "url": "https://docs.example/mcp?key=secret", "headers": header });
    let servers =
        json!([web, { "type": "sse", "name": "old", "url": "http://old.example/sse", "headers": [] }]);
    let new = editor.ask("session/new", json!({ "cwd": daemon.workdir(), "mcpServers": servers }));
    let id = new["result"]["sessionId"].as_str().unwrap_or_else(|| panic!("{new}")).to_owned();
    editor.wait_for_text("takes no MCP servers by sse, and is not given these: old");
    for _ in 0..2 {
        let prompt = editor.prompt(&id, "servers; server web");
        assert_eq!(editor.stopped(prompt), "end_turn");
        let received = editor.updates();
        let output: serde_json::Value = received
            .iter()
            .rev()
            .find_map(|text| serde_json::from_str(text.strip_prefix("message ")?).ok())
            .unwrap();
        assert_eq!(output, web, "{received:?}");
        assert!(received.iter().any(|text| text.contains("servers [kennel web]")), "{received:?}");
        let before = daemon.show(&id);
        kill(before.pid.unwrap());
        until("that it is back", || (daemon.show(&id).incarnation > before.incarnation).then_some(()));
    }
    let events = daemon.ok(&["events", &id, "--json"]);
    let events: String = events.lines().filter(|line| !line.contains("message.chunk")).collect();
    for text in [daemon.ok(&["show", &id, "--json"]), daemon.ok(&["logs", &id]), events] {
        assert!(!text.contains("secret"), "{text}");
    }
    let wrong = json!([{ "type": "http", "name": "odd", "url": "file:///secret", "headers": [] }]);
    let new = editor.ask("session/new", json!({ "cwd": daemon.workdir(), "mcpServers": wrong }));
    assert!(new["result"]["sessionId"].is_string(), "{new}");
    editor.wait_for_text("not given these MCP servers of the editor: odd");
    assert!(editor.updates().iter().all(|text| !text.contains("file:")), "{:?}", editor.updates());
}

#[test]
fn a_server_that_cannot_be_given_is_named_and_the_session_is_there() {
    let daemon = kennel();
    let mut editor = Editor::new(&daemon, &["--agent", "plain"]);
    let servers = json!([{ "name": "gone", "command": "/no/such/program", "args": ["secret"], "env": [] }]);
    let new = editor.ask("session/new", json!({ "cwd": daemon.workdir(), "mcpServers": servers }));
    let id = new["result"]["sessionId"].as_str().unwrap_or_else(|| panic!("{new}")).to_owned();
    editor.wait_for_text("there is no program `/no/such/program` for the MCP server `gone`");
    assert!(editor.updates().iter().all(|text| !text.contains("secret")), "{:?}", editor.updates());
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
    editor.wait_for_text("not given these MCP servers of the editor: two");
    let prompt = editor.prompt(&id, "servers");
    assert_eq!(editor.stopped(prompt), "end_turn");
    editor.wait_for_text("servers [one");
}

#[test]
fn servers_that_an_editor_names_for_a_session_that_exists_reach_the_agents_next_process() {
    let daemon = kennel();
    daemon.ok(&["start", "--id", "s", "--agent", "reaches"]);
    daemon.idle("s");
    let mut editor = Editor::new(&daemon, &["--agent", "reaches"]);
    let servers = json!([
        { "name": "docs", "command": "/bin/sh", "args": ["secret"], "env": [] },
        { "type": "http", "name": "web", "url": "https://docs.example/secret", "headers": [] },
    ]);
    let open = |servers| json!({ "sessionId": "s", "cwd": daemon.workdir(), "mcpServers": servers });
    let output = |editor: &mut Editor, words: &str| {
        let prompt = editor.prompt("s", "servers");
        assert_eq!(editor.stopped(prompt), "end_turn");
        editor.wait_for_text(words);
    };
    assert!(editor.ask("session/load", open(servers.clone()))["result"].is_object());
    editor.wait_for_text("its next process is given these MCP servers of the editor: docs, web");
    output(&mut editor, "servers [kennel]");
    // The same once more is nothing new.
    assert!(editor.ask("session/load", open(servers.clone()))["result"].is_object());
    let before = daemon.show("s");
    kill(before.pid.unwrap());
    until("that it is back", || (daemon.show("s").incarnation > before.incarnation).then_some(()));
    output(&mut editor, "servers [docs kennel web]");
    let received = editor.updates();
    assert_eq!(received.iter().filter(|text| text.contains("next process")).count(), 1, "{received:?}");
    assert!(received.iter().all(|text| !text.contains("secret")), "{received:?}");
    // One that is down has them at once.
    editor.close();
    daemon.ok(&["stop", "s"]);
    daemon.kill();
    let mut editor = Editor::new(&daemon, &["--agent", "reaches"]);
    let more = json!([{ "name": "more", "command": "/bin/sh", "args": [], "env": [] }]);
    assert!(editor.ask("session/load", open(more))["result"].is_object());
    output(&mut editor, "servers [docs more kennel web]");
    let wrong = json!([{ "name": "gone", "command": "/no/such/program", "args": [], "env": [] }]);
    assert!(editor.ask("session/load", open(wrong))["result"].is_object());
    editor.wait_for_text("there is no program `/no/such/program` for the MCP server `gone`");
}

#[test]
fn who_has_no_tools_for_sub_agents_is_said_as_far_as_it_can_be_known() {
    let daemon = kennel();
    let config = daemon.dir.path().join("kennel/config.toml");
    let mut text = std::fs::read_to_string(&config).unwrap();
    text += "\n[agents.without]\nkind = \"acp\"\nsubagents = false\ncommand = [";
    text += &format!("{:?}]\n", harness::real::beside("acp-agent").display().to_string());
    std::fs::write(&config, text).unwrap();
    for agent in ["plain", "noprograms", "without", "shell"] {
        daemon.ok(&["start", "--agent", agent, "--id", agent]);
        daemon.idle(agent);
    }
    let tools = |id: &str| daemon.show(id).subagent_tools;
    assert_eq!(
        ["plain", "noprograms", "without", "shell"].map(tools),
        [Some(SubagentTools::Offered), Some(SubagentTools::Offered), Some(SubagentTools::Off), None]
    );
    assert!(daemon.ok(&["show", "plain"]).contains("has not started kennel's MCP server"));
    assert!(daemon.ok(&["show", "without"]).contains("no tools for them"));
    // An agent that declares no support gets no servers, and a note reports it at once.
    let output = daemon.ok(&["events", "noprograms"]);
    assert!(output.contains("is not given these: kennel; so it has no tools for sub-agents"), "{output}");
    assert!(daemon.ok(&["send", "noprograms", "servers"]).contains("servers []"));
    assert!(!daemon.ok(&["events", "plain"]).contains("no tools for sub-agents"));
    // One that starts the server has them.
    daemon.ok(&["send", "plain", "mcp kennel list_subagents"]);
    assert_eq!(tools("plain"), Some(SubagentTools::Taken));
    assert_eq!(tools("noprograms"), Some(SubagentTools::Offered));
}
