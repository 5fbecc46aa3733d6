//! Deaths of worker, editor and manager under an editor.

use harness::real::{kill, lives, until};
use manager::protocol::api::Status;
use manager::protocol::event::EventKind;
use serde_json::json;

use super::editor::{Editor, kennel};

#[test]
pub(crate) fn kill_worker_mid_turn_is_a_message_and_the_next_prompt_works() {
    let daemon = kennel();
    let mut editor = Editor::new(&daemon, &["--agent", "loads"]);
    let id = editor.session(&daemon);
    editor.run(&id, "say one");
    let prompt = editor.prompt(&id, "tool t1 it; say two; sleep 60000ms");
    editor.wait_for_text("two");
    kill(daemon.show(&id).pid.unwrap());
    assert_eq!(editor.stopped(prompt), "end_turn");
    let received = editor.updates();
    let [.., torn, message] = &received[..] else { panic!("{received:?}") };
    assert_eq!(torn, "tool_call_update", "a tool call does not seem to run for ever");
    assert!(
        message.contains("crashed") && message.contains("SIGKILL") && message.contains("`loaded`"),
        "{message}"
    );
    assert_eq!(editor.run(&id, "recall"), "end_turn");
    editor.wait_for_text("remembered 1 told 0 last [say one]");
}

#[test]
pub(crate) fn an_editor_that_leaves_ends_nothing_and_finds_everything_when_it_comes_back() {
    let daemon = kennel();
    let mut editor = Editor::new(&daemon, &["--agent", "loads"]);
    let id = editor.session(&daemon);
    editor.run(&id, "think hm; say one; tool t1 it; done t1");
    let running = editor.prompt(&id, "say two; ask t2; say three");
    editor.asked();
    editor.stdin = None;
    let left = editor.answer(running);
    assert!(left["error"]["message"].as_str().unwrap().contains("goes on"), "{left}");
    editor.close();
    assert_eq!(daemon.show(&id).status, Status::RequiresAction);

    let mut editor = Editor::new(&daemon, &["--agent", "loads"]);
    let loaded = editor.load(&daemon, &id);
    assert_eq!(loaded["result"]["modes"]["currentModeId"], "ask", "{loaded}");
    let before = [
        "user_message think hm; say one; tool t1 it; done t1",
        "thought hm",
        "message one",
        "tool_call",
        "tool_call_update",
        "user_message say two; ask t2; say three",
        "message two",
    ];
    assert_eq!(editor.updates(), before);
    let question = editor.asked();
    editor.chooses(&question, "yes");
    editor.wait_for_text("three");
    let all = [&before[..], &["message answered yes", "message three"]].concat();
    assert_eq!(editor.updates(), all);
    daemon.idle(&id);
    assert_eq!(editor.run(&id, "say four"), "end_turn");
    assert_eq!(editor.updates().last().unwrap(), "message four");
    editor.close();

    // After a resume the editor does not receive earlier turns again.
    let mut editor = Editor::new(&daemon, &[]);
    let resumed = editor.ask("session/resume", json!({ "sessionId": id, "cwd": daemon.workdir() }));
    assert!(resumed["result"].is_object(), "{resumed}");
    assert_eq!(editor.run(&id, "say five"), "end_turn");
    assert_eq!(editor.updates(), ["message five"]);
    // Opened anew on the same connection, it receives everything again, once.
    editor.seen.clear();
    editor.load(&daemon, &id);
    assert_eq!(editor.updates().len(), all.len() + 4);
    assert_eq!(editor.run(&id, "say six"), "end_turn");
    assert_eq!(editor.updates().len(), all.len() + 5);
}

#[test]
pub(crate) fn a_prompt_sent_with_the_last_breath_is_accepted_and_runs() {
    let daemon = kennel();
    let mut editor = Editor::new(&daemon, &["--agent", "plain"]);
    let id = editor.session(&daemon);
    editor.prompt(&id, "say goodbye");
    editor.close();
    daemon.idle(&id);
    let output = daemon
        .events()
        .into_iter()
        .any(|event| matches!(&event.kind, EventKind::MessageChunk { text, .. } if text == "goodbye"));
    assert!(output);
}

#[test]
pub(crate) fn kill_manager_mid_turn_is_survived() {
    let daemon = kennel();
    let mut editor = Editor::new(&daemon, &["--agent", "loads"]);
    let id = editor.session(&daemon);
    editor.run(&id, "say one");
    let prompt = editor.prompt(&id, "say two; sleep 500ms; say three");
    editor.wait_for_text("two");
    let old = daemon.pid();
    kill(old);
    until("the manager's death", || (!lives(old)).then_some(()));
    assert_eq!(editor.stopped(prompt), "end_turn");
    assert_eq!(editor.updates(), ["message one", "message two", "message three"], "all is told, and once");
    assert_ne!(daemon.pid(), old, "it was started again");
    assert_eq!(editor.run(&id, "say four"), "end_turn");
    assert_eq!(editor.updates().last().unwrap(), "message four");
}

#[test]
pub(crate) fn a_daemon_that_is_stopped_on_purpose_stays_so_until_it_is_needed() {
    let daemon = kennel();
    let mut editor = Editor::new(&daemon, &["--agent", "loads"]);
    let id = editor.session(&daemon);
    let prompt = editor.prompt(&id, "say two; sleep 60000ms");
    editor.wait_for_text("two");
    daemon.ok(&["daemon", "stop"]);
    let answer = editor.answer(prompt);
    assert!(answer["error"]["message"].as_str().unwrap().contains("daemon was stopped"), "{answer}");
    assert_eq!(editor.run(&id, "say three"), "end_turn");
    assert_eq!(editor.updates().last().unwrap(), "message three");
}
