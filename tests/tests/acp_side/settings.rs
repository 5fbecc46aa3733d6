//! Modes, options and system prompts that an editor sets.

use serde_json::json;

use super::editor::{Editor, kennel};

#[test]
pub(crate) fn modes_and_options_go_through_to_the_agent_and_everybody_is_told() {
    let daemon = kennel();
    let mut editor = Editor::new(&daemon, &["--agent", "plain"]);
    let new = editor.ask("session/new", json!({ "cwd": daemon.workdir(), "mcpServers": [] }));
    let id = new["result"]["sessionId"].as_str().unwrap().to_owned();
    assert_eq!(new["result"]["configOptions"][0]["currentValue"], "low", "{new}");
    let mode = |mode: &str| json!({ "sessionId": id, "modeId": mode });
    let option = |value: &str| json!({ "sessionId": id, "configId": "effort", "value": value });
    assert_eq!(editor.ask("session/set_mode", mode("code"))["result"], json!({}));
    let set = editor.ask("session/set_config_option", option("high"));
    assert_eq!(set["result"]["configOptions"][0]["currentValue"], "high", "{set}");
    for answer in [
        editor.ask("session/set_mode", mode("none")),
        editor.ask("session/set_config_option", option("none")),
        editor.ask(
            "session/set_config_option",
            json!({ "sessionId": id, "configId": "effort", "value": true }),
        ),
    ] {
        assert!(answer["error"]["message"].is_string(), "{answer}");
    }
    // An editor that has not declared support for switches is shown none.
    assert_eq!(set["result"]["configOptions"].as_array().unwrap().len(), 1, "{set}");
    let switch = json!({ "sessionId": id, "configId": "brief", "type": "boolean", "value": true });
    let set = editor.ask("session/set_config_option", switch);
    assert_eq!(set["result"]["configOptions"].as_array().unwrap().len(), 1, "{set}");
    let mut knows = Editor::silent(&daemon, &["--agent", "plain"]);
    let able = json!({ "session": { "configOptions": { "boolean": {} } } });
    knows.ask("initialize", json!({ "protocolVersion": 1, "clientCapabilities": able }));
    let new = knows.ask("session/new", json!({ "cwd": daemon.workdir(), "mcpServers": [] }));
    assert_eq!(new["result"]["configOptions"][1]["currentValue"], false, "{new}");
    knows.close();
    // Another client's setting is reported, and the agent follows it.
    daemon.ok(&["set", &id, "mode=ask"]);
    editor.wait_for("the mode", |message| message["params"]["update"]["currentModeId"] == "ask");
    assert_eq!(editor.run(&id, "settings"), "end_turn");
    editor.wait_for("what is set", |message| {
        message["params"]["update"]["content"]["text"] == "mode ask effort high brief true"
    });
    let listed = daemon.ok(&["set", &id]);
    assert!(listed.contains("effort") && listed.contains("low, high"), "{listed}");
    assert!(listed.contains("brief") && listed.contains("true, false"), "{listed}");
    assert_eq!(daemon.run(&["set", &id, "mode=none"]).code, Some(7));
    assert_eq!(daemon.run(&["set", &id, "mode"]).code, Some(2));
    editor.close();
}

#[test]
pub(crate) fn a_system_prompt_of_an_editor_goes_through_to_the_agent() {
    let daemon = kennel();
    let mut editor = Editor::new(&daemon, &["--agent", "plain"]);
    let prompt = json!({ "systemPrompt": { "append": "be brief" } });
    let new =
        editor.ask("session/new", json!({ "cwd": daemon.workdir(), "mcpServers": [], "_meta": prompt }));
    let id = new["result"]["sessionId"].as_str().unwrap().to_owned();
    assert_eq!(editor.run(&id, "system"), "end_turn");
    editor.wait_for_text(r#"[null,{"append":"be brief"}]"#);
    let bad = json!({ "cwd": daemon.workdir(), "mcpServers": [], "systemPrompt": { "mode": "whisper" } });
    assert_eq!(editor.ask("session/new", bad)["error"]["code"], -32602);
    editor.close();
}
