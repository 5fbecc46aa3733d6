//! Permissions and questions that reach an editor.

use manager::protocol::api::Status;
use serde_json::{Value, json};

use super::editor::{Editor, kennel};

#[test]
pub(crate) fn a_permission_goes_to_the_editor_and_its_answer_to_the_agent() {
    let daemon = kennel();
    let mut editor = Editor::new(&daemon, &["--agent", "plain"]);
    let id = editor.session(&daemon);
    let prompt = editor.prompt(&id, "tool t1 rm; ask t1 execute rm; done t1");
    let question = editor.asked();
    assert_eq!(question["params"]["sessionId"], json!(id));
    assert_eq!(question["params"]["toolCall"]["toolCallId"], "t1");
    assert_eq!(question["params"]["options"][2]["optionId"], "no");
    assert_eq!(daemon.show(&id).status, Status::RequiresAction);
    editor.chooses(&question, "always");
    assert_eq!(editor.stopped(prompt), "end_turn");
    assert!(editor.updates().contains(&"message answered always".to_owned()), "{:?}", editor.updates());
}

#[test]
pub(crate) fn a_permission_that_somebody_else_answers_is_withdrawn_from_the_editor() {
    let daemon = kennel();
    let mut editor = Editor::new(&daemon, &["--agent", "plain"]);
    let id = editor.session(&daemon);
    let prompt = editor.prompt(&id, "ask t1; say after");
    let question = editor.asked();
    let waiting: Vec<Value> = daemon.json(&["permissions", "ls", &id]);
    daemon.ok(&["permissions", "allow", waiting[0]["permission_id"].as_str().unwrap()]);
    editor.wait_for("that it is withdrawn", |message| {
        message["method"] == "$/cancel_request" && message["params"]["requestId"] == question["id"]
    });
    editor.chooses(&question, "no");
    assert_eq!(editor.stopped(prompt), "end_turn");
    assert_eq!(editor.updates(), ["message answered yes", "message after"]);
    // An answer that is none decides nothing.
    let prompt = editor.prompt(&id, "ask t2");
    editor.seen.clear();
    let question = editor.asked();
    let refusal = json!({ "code": -32601, "message": "what?" });
    editor.send(&json!({ "jsonrpc": "2.0", "id": question["id"], "error": refusal }));
    editor.wait_for_text("waits for an answer");
    let waiting: Vec<Value> = daemon.json(&["permissions", "ls", &id]);
    daemon.ok(&["permissions", "deny", waiting[0]["permission_id"].as_str().unwrap()]);
    assert_eq!(editor.stopped(prompt), "end_turn");
}

#[test]
pub(crate) fn what_a_policy_answers_is_not_asked() {
    let daemon = kennel();
    let mut editor = Editor::new(&daemon, &["--agent", "allows"]);
    let id = editor.session(&daemon);
    assert_eq!(editor.run(&id, "ask t1"), "end_turn");
    assert_eq!(editor.updates(), ["message answered yes"]);
    assert!(editor.seen.iter().all(|message| message["method"] == "session/update"), "{:#?}", editor.seen);
}

#[test]
pub(crate) fn a_turn_is_seen_in_every_editor_and_asks_only_the_one_it_belongs_to() {
    let daemon = kennel();
    let mut one = Editor::new(&daemon, &["--agent", "plain"]);
    let mut two = Editor::new(&daemon, &["--agent", "plain"]);
    let id = one.session(&daemon);
    two.load(&daemon, &id);
    let prompt = one.prompt(&id, "say before; ask t1; say after");
    let question = one.asked();
    two.wait_for_text("before");
    // Its own stop is about its own prompts.
    two.notify("session/cancel", json!({ "sessionId": id }));
    one.chooses(&question, "yes");
    assert_eq!(one.stopped(prompt), "end_turn");
    two.wait_for_text("after");
    assert_eq!(two.updates()[0], "user_message say before; ask t1; say after");
    assert!(
        two.seen.iter().all(|message| message["method"] != "session/request_permission"),
        "{:?}",
        two.seen
    );
}

#[test]
pub(crate) fn a_question_that_the_user_closes_is_answered() {
    let daemon = kennel();
    let mut editor = Editor::new(&daemon, &["--agent", "plain"]);
    let id = editor.session(&daemon);
    let prompt = editor.prompt(&id, "ask t1; say after");
    let question = editor.asked();
    let closed = json!({ "outcome": { "outcome": "cancelled" } });
    editor.send(&json!({ "jsonrpc": "2.0", "id": question["id"], "result": closed }));
    assert_eq!(editor.stopped(prompt), "end_turn");
    assert_eq!(editor.updates(), ["message answered no", "message after"]);
}
