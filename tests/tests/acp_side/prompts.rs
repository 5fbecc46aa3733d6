//! Prompts of an editor: their blocks, their updates, how they end.

use serde_json::{Value, json};

use super::editor::{Editor, kennel};

#[test]
pub(crate) fn a_prompt_streams_what_the_agent_tells_as_it_came() {
    let daemon = kennel();
    let mut editor = Editor::silent(&daemon, &["--agent", "plain"]);
    let early = editor.ask("session/list", json!({}));
    assert_eq!(early["error"]["code"], -32600, "{early}");
    let hello = editor.ask("initialize", json!({ "protocolVersion": 2 }));
    let able = &hello["result"]["agentCapabilities"];
    assert_eq!(hello["result"]["protocolVersion"], 1);
    assert_eq!((&able["loadSession"], &able["promptCapabilities"]["image"]), (&json!(true), &json!(true)));
    assert!(
        able["sessionCapabilities"]["list"].is_object() && able["sessionCapabilities"]["resume"].is_object()
    );
    let new = editor.ask("session/new", json!({ "cwd": daemon.workdir(), "mcpServers": [] }));
    assert_eq!(new["result"]["modes"]["currentModeId"], "ask", "{new}");
    let id = new["result"]["sessionId"].as_str().unwrap().to_owned();
    let script =
        "think hm; say hello ; say world; plan; usage; tool t1 make it; done t1; news; stop max_tokens";
    assert_eq!(editor.run(&id, script), "max_tokens");
    let received = editor.updates();
    let wanted = [
        "thought hm",
        "message hello",
        "message world",
        "plan",
        "usage_update",
        "tool_call",
        "tool_call_update",
        "something_new",
    ];
    assert_eq!(received, wanted);
    let news = &editor.seen.last().unwrap()["params"];
    assert_eq!((&news["sessionId"], &news["update"]["x"][1]["y"]), (&json!(id), &json!("z")));
    assert_eq!(daemon.show(&id).workdir, daemon.workdir().canonicalize().unwrap().display().to_string());
    let failed = editor.prompt(&id, "say well; fail no more tokens");
    let failed = editor.answer(failed);
    assert!(failed["error"]["message"].as_str().unwrap().contains("no more tokens"), "{failed}");
    editor.close();
}

#[test]
pub(crate) fn a_prompts_blocks_become_one_text_for_an_agent_that_takes_nothing_else() {
    let daemon = kennel();
    let mut editor = Editor::new(&daemon, &["--agent", "shell"]);
    let id = editor.session(&daemon);
    let prompt = json!([
        { "type": "text", "text": "echo one" },
        { "type": "resource_link", "name": "a", "uri": "echo file:///a" },
        { "type": "resource", "resource": { "uri": "echo b", "text": "echo three" } },
    ]);
    let answer = editor.ask("session/prompt", json!({ "sessionId": id, "prompt": prompt }));
    assert_eq!(answer["result"]["stopReason"], "end_turn", "{answer}");
    // Each block was a line of its own, or the shell would not have run it. How its output is cut is the pipe's affair.
    let printed = editor.updates().concat().replace("message ", "").replace('\n', "");
    assert_eq!(printed, "onefile:///ab:three");
    let image = json!([{ "type": "image", "mimeType": "image/png", "data": "" }]);
    let answer = editor.ask("session/prompt", json!({ "sessionId": id, "prompt": image }));
    assert!(answer["error"]["message"].as_str().unwrap().contains("takes no attachments"), "{answer}");
    assert_eq!(daemon.show(&id).turn_count, 1);
}

#[test]
pub(crate) fn pictures_sounds_and_files_of_an_editor_go_through_to_the_agent() {
    let daemon = kennel();
    let mut editor = Editor::new(&daemon, &["--agent", "sees"]);
    let id = editor.session(&daemon);
    let prompt = json!([
        { "type": "text", "text": "attached; say of" },
        { "type": "image", "mimeType": "image/png", "data": "AAEC", "uri": "file:///a.png" },
        { "type": "audio", "mimeType": "audio/wav", "data": "AAED" },
        { "type": "resource", "resource": { "uri": "file:///b.rs", "mimeType": "text/x-rust", "text": "fn b() {}" } },
        { "type": "resource", "resource": { "uri": "mem:c", "blob": "AAEE" } },
    ]);
    let answer = editor.ask("session/prompt", json!({ "sessionId": id, "prompt": prompt }));
    assert_eq!(answer["result"]["stopReason"], "end_turn", "{answer}");
    let seen = "image image/png file:///a.png AAEC, audio audio/wav AAED, \
                resource text/x-rust file:///b.rs fn b() {}, resource application/octet-stream mem:c AAEE";
    assert_eq!(editor.updates(), [format!("message {seen}"), "message of\nfile:///b.rs".to_owned()]);
    // An editor that opens the session later receives the picture, too.
    let mut other = Editor::new(&daemon, &["--agent", "sees"]);
    other.load(&daemon, &id);
    let names = "(attached: a.png)\n(attached: sound)\n(attached: b.rs)\n(attached: c)";
    other.wait_for("what there was", |message| {
        let text = message["params"]["update"]["content"]["text"].as_str();
        text.is_some_and(|text| text.ends_with(names))
    });
}

#[test]
pub(crate) fn cancel_ends_what_runs_and_what_waits() {
    let daemon = kennel();
    let mut editor = Editor::new(&daemon, &["--agent", "plain"]);
    let id = editor.session(&daemon);
    let cancel = json!({ "sessionId": id });
    let (one, two) = (editor.prompt(&id, "say begun; sleep 60000ms"), editor.prompt(&id, "say never"));
    editor.wait_for_text("begun");
    editor.notify("session/cancel", cancel.clone());
    assert_eq!((editor.stopped(one), editor.stopped(two)), ("cancelled".into(), "cancelled".into()));
    assert!(!editor.updates().contains(&"message never".to_owned()), "{:?}", editor.updates());
    // At once, while the prompt is on its way.
    let three = editor.prompt(&id, "sleep 60000ms");
    editor.notify("session/cancel", cancel.clone());
    assert_eq!(editor.stopped(three), "cancelled");
    // With a question open, and by the request itself.
    let four = editor.prompt(&id, "ask t1");
    let question = editor.asked();
    editor.notify("$/cancel_request", json!({ "requestId": four }));
    let outcome = json!({ "outcome": { "outcome": "cancelled" } });
    editor.send(&json!({ "jsonrpc": "2.0", "id": question["id"], "result": outcome }));
    assert_eq!(editor.stopped(four), "cancelled");
    assert_eq!(editor.run(&id, "say still here"), "end_turn");
    assert!(editor.updates().contains(&"message still here".to_owned()));
}

#[test]
pub(crate) fn cancel_ends_the_turn_also_while_prompts_behind_it_are_on_their_way() {
    let daemon = kennel();
    let mut editor = Editor::new(&daemon, &["--agent", "plain"]);
    let id = editor.session(&daemon);
    // Each prompt that is on its way ends by itself, while the cancellation ends all of them.
    for round in 0..8 {
        let mut prompts = vec![editor.prompt(&id, &format!("say round{round}; sleep 60000ms"))];
        editor.wait_for_text(&format!("round{round}"));
        prompts.extend((0..6).map(|_| editor.prompt(&id, "say never")));
        editor.notify("session/cancel", json!({ "sessionId": id }));
        for prompt in prompts {
            assert_eq!(editor.stopped(prompt), "cancelled");
        }
    }
    assert!(!editor.updates().contains(&"message never".to_owned()), "{:?}", editor.updates());
}

#[test]
pub(crate) fn an_agent_without_the_protocol_is_shown_by_its_text() {
    let daemon = kennel();
    let mut editor = Editor::new(&daemon, &["--agent", "shell"]);
    let id = editor.session(&daemon);
    assert_eq!(editor.run(&id, "echo out; exit 3"), "end_turn");
    assert_eq!(editor.updates(), ["message out", "message > kennel: exit status 3"]);
    assert_eq!(editor.run(&id, "echo err >&2"), "end_turn");
    assert_eq!(editor.updates().last().unwrap(), "message err");
    // The turns of other clients are shown live, with their prompts.
    daemon.ok(&["send", &id, "echo elsewhere"]);
    editor.wait_for_text("elsewhere");
    assert_eq!(editor.updates()[3..], ["user_message echo elsewhere", "message elsewhere"]);
    assert_eq!(editor.run(&id, "echo mine"), "end_turn");
    assert_eq!(editor.updates().last().unwrap(), "message mine");
}

#[test]
pub(crate) fn sub_agents_within_an_agent_are_recorded_and_shown_to_editors_that_know_them() {
    let daemon = kennel();
    let mut plain = Editor::new(&daemon, &["--agent", "plain"]);
    let id = plain.session(&daemon);
    let mut knows = Editor::silent(&daemon, &["--agent", "plain"]);
    let able = json!({ "subagents": {} });
    knows.ask("initialize", json!({ "protocolVersion": 1, "clientCapabilities": able }));
    knows.load(&daemon, &id);
    assert_eq!(plain.run(&id, "child one; say after"), "end_turn");
    // An editor that has not declared support receives none of them.
    assert_eq!(plain.updates(), ["message after"]);
    knows.wait_for_text("after");
    let received: Vec<(&str, &Value)> = knows
        .seen
        .iter()
        .filter(|message| message["method"] == "session/update")
        .map(|message| (message["params"]["sessionId"].as_str().unwrap(), &message["params"]["update"]))
        .collect();
    let of = |session: &str| {
        received.iter().filter(|(of, _)| *of == session).map(|(_, it)| *it).collect::<Vec<_>>()
    };
    let (child, below) = (format!("{id}/one"), format!("{id}/one-2"));
    assert_eq!(of(&child)[0]["content"]["text"], "found it");
    assert_eq!(of(&child)[1]["sessionId"], json!(below));
    assert_eq!(of(&below)[0]["content"]["text"], "dug it up");
    assert_eq!(of(&id)[1]["sessionId"], json!(child));
    let children = daemon.show(&id).children;
    let words: Vec<_> = children
        .iter()
        .map(|it| (&*it.id, it.parent.as_deref(), it.title.as_deref(), it.state.as_deref()))
        .collect();
    assert_eq!(
        words,
        [
            ("one", None, Some("Explorer"), Some("idle")),
            ("one-2", Some("one"), Some("Digger"), Some("running")),
        ]
    );
    let shown = daemon.ok(&["show", &id]);
    assert!(shown.contains("Explorer (idle)") && shown.contains("Digger (running), of one"), "{shown}");
    assert!(daemon.ok(&["events", &id]).contains("sub-agent one: found it"));
    // Their text is not part of the agent's text.
    assert_eq!(daemon.ok(&["subagent", "result", &id]).trim(), "after");
}
