//! Calls that an attached client serves for the agent, on real processes: an editor above `kennel acp`, and
//! clients of the library.

use harness::daemon::Daemon;
use harness::real::*;
use manager::Error;
use manager::protocol::api::{PermissionPolicy, Role, SessionOpts, Status};
use manager::protocol::event::{EventKind, Outcome};
use manager::protocol::wire::{CallAnswer, Offer};
use manager::protocol::{CallId, EventId, SessionId};
use serde_json::{Value, json};

use crate::acp_side::{Editor, kennel};

/// An editor that can do all of it, and a session of its own.
fn able(daemon: &Daemon) -> (Editor, String) {
    let mut editor = Editor::silent(daemon, &["--agent", "plain"]);
    let able = json!({ "fs": { "readTextFile": true, "writeTextFile": true }, "terminal": true,
        "elicitation": { "form": {} } });
    let hello = editor.ask("initialize", json!({ "protocolVersion": 1, "clientCapabilities": able }));
    assert_eq!(hello["result"]["protocolVersion"], 1, "{hello}");
    let id = editor.session(daemon);
    until("that it drives", || {
        daemon.show(&id).clients.iter().find(|client| client.role == Role::Driver).map(drop)
    });
    (editor, id)
}

fn requested(editor: &mut Editor, method: &str) -> Value {
    editor.wait_for(method, |message| message["method"] == method)
}

fn replies(editor: &mut Editor, question: &Value, result: Value) {
    editor.send(&json!({ "jsonrpc": "2.0", "id": question["id"], "result": result }));
}

fn in_workdir(daemon: &Daemon, name: &str) -> String {
    daemon.workdir().canonicalize().unwrap().join(name).display().to_string()
}

#[test]
fn what_is_not_saved_is_read_from_the_editor_and_written_there() {
    let daemon = kennel();
    let (mut editor, id) = able(&daemon);
    std::fs::write(daemon.workdir().join("a.txt"), "on disk").unwrap();
    let prompt = editor.prompt(&id, "read a.txt; write b.txt text");
    let question = requested(&mut editor, "fs/read_text_file");
    assert_eq!(question["params"]["sessionId"], json!(id));
    assert_eq!(question["params"]["path"], json!(in_workdir(&daemon, "a.txt")));
    replies(&mut editor, &question, json!({ "content": "in the buffer" }));
    editor.wait_for_text("in the buffer");
    let question = requested(&mut editor, "fs/write_text_file");
    assert_eq!(question["params"]["content"], "text");
    // The form in which some editors confirm it.
    replies(&mut editor, &question, Value::Null);
    assert_eq!(editor.stopped(prompt), "end_turn");
    assert_eq!(editor.updates(), ["message in the buffer", "message written"]);
    assert!(!daemon.workdir().join("b.txt").exists(), "the worker wrote as well");
    // The result is between the editor and the agent.
    let events = daemon.ok(&["events", &id, "--json"]);
    let calls: Vec<&str> = events.lines().filter(|line| line.contains("\"call.")).collect();
    assert_eq!(calls.len(), 4, "{calls:#?}");
    assert!(calls.iter().all(|line| !line.contains("in the buffer")), "{calls:#?}");
}

#[test]
fn what_the_editor_refuses_is_refused_and_what_is_outside_is_the_workers() {
    let daemon = kennel();
    let (mut editor, id) = able(&daemon);
    let prompt = editor.prompt(&id, "read /etc/hostname-that-is-not; read gone.txt");
    let question = requested(&mut editor, "fs/read_text_file");
    assert_eq!(question["params"]["path"], json!(in_workdir(&daemon, "gone.txt")));
    let why = json!({ "code": -32002, "message": "no such buffer" });
    editor.send(&json!({ "jsonrpc": "2.0", "id": question["id"], "error": why }));
    assert_eq!(editor.stopped(prompt), "end_turn");
    let received = editor.updates();
    assert!(received[0].contains("Resource not found: /etc/hostname-that-is-not"), "{received:?}");
    assert!(received[1].contains("refused: no such buffer"), "{received:?}");
}

#[test]
fn an_agent_hears_of_the_files_of_a_client_only_while_one_drives_that_has_them() {
    let daemon = kennel();
    let here = |name: &str| in_workdir(&daemon, name);
    // Without a client the agent reads and makes its files itself.
    let alone = daemon.ok(&["start", "--agent", "plain"]).trim().to_owned();
    let send = |id: &str, text: &str| daemon.ok(&["send", id, text]).trim().to_owned();
    assert_eq!(send(&alone, "able"), "reads false writes false");
    assert_eq!(send(&alone, &format!("create {} x", here("alone/a.txt"))), "made");
    // An editor that starts one is attached only once the agent runs, and counts.
    let (mut editor, id) = able(&daemon);
    let prompt = editor.prompt(&id, "able");
    assert_eq!(editor.stopped(prompt), "end_turn");
    editor.wait_for_text("reads true writes true");
    // The editor reports a missing file in ACP's form, which reaches the agent whole.
    let path = here("made/new.txt");
    let prompt = editor.prompt(&id, &format!("create {path} text"));
    let question = requested(&mut editor, "fs/read_text_file");
    let none = json!({ "code": -32002, "message": "Resource not found", "data": { "uri": path } });
    editor.send(&json!({ "jsonrpc": "2.0", "id": question["id"], "error": none }));
    let question = requested(&mut editor, "fs/write_text_file");
    replies(&mut editor, &question, json!({}));
    assert_eq!(editor.stopped(prompt), "end_turn");
    editor.wait_for_text("made by the client");
    // The agent keeps asking for what the editor offered after the editor has gone, and the worker answers.
    editor.close();
    until("that nobody is there", || daemon.show(&id).clients.is_empty().then_some(()));
    let path = here("gone/on.txt");
    assert_eq!(send(&id, &format!("create {path} text")), "made by the client");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "text");
    // The agent's next process learns that no client drives.
    daemon.ok(&["restart", &id]);
    assert_eq!(send(&id, "able"), "reads false writes false");
    // Somebody who starts it again from an editor is on the way already.
    daemon.ok(&["stop", &id]);
    let mut again = Editor::silent(&daemon, &["--agent", "plain"]);
    let able = json!({ "fs": { "readTextFile": true } });
    again.ask("initialize", json!({ "protocolVersion": 1, "clientCapabilities": able }));
    again.load(&daemon, &id);
    let prompt = again.prompt(&id, "able");
    assert_eq!(again.stopped(prompt), "end_turn");
    again.wait_for_text("reads true writes false");
}

#[test]
fn the_worker_reads_when_the_editor_dies_with_the_call_open_and_the_turn_goes_on() {
    let daemon = kennel();
    let (mut editor, id) = able(&daemon);
    std::fs::write(daemon.workdir().join("a.txt"), "on disk").unwrap();
    editor.prompt(&id, "read a.txt; say went on");
    requested(&mut editor, "fs/read_text_file");
    drop(editor);
    daemon.ok(&["wait", &id, "--until", "idle", "--timeout", "20s"]);
    let events = daemon.ok(&["events", &id, "--json"]);
    for wanted in ["call.expired", "does not drive any more", "on disk", "went on"] {
        assert!(events.contains(wanted), "{wanted}: {events}");
    }
}

#[test]
fn a_terminal_of_the_editor_is_used_from_its_creation_to_its_release() {
    let daemon = kennel();
    let (mut editor, id) = able(&daemon);
    let prompt = editor.prompt(&id, "run make");
    let question = requested(&mut editor, "terminal/create");
    assert_eq!(question["params"]["args"], json!(["-c", "make"]));
    replies(&mut editor, &question, json!({ "terminalId": "terminal-1" }));
    for (method, result) in [
        ("terminal/wait_for_exit", json!({ "exitCode": 5 })),
        ("terminal/output", json!({ "output": "made", "truncated": false })),
        ("terminal/release", json!({})),
    ] {
        let question = requested(&mut editor, method);
        assert_eq!(question["params"]["terminalId"], "terminal-1");
        replies(&mut editor, &question, result);
    }
    assert_eq!(editor.stopped(prompt), "end_turn");
    assert_eq!(editor.updates(), ["message made{\"exitCode\":5}"]);
}

#[test]
fn of_two_editors_the_first_drives_and_when_it_goes_the_other_does() {
    let daemon = kennel();
    let (mut first, id) = able(&daemon);
    let mut second = Editor::silent(&daemon, &["--agent", "plain"]);
    let able = json!({ "fs": { "readTextFile": true } });
    second.ask("initialize", json!({ "protocolVersion": 1, "clientCapabilities": able }));
    second.load(&daemon, &id);
    until("that it looks on", || {
        daemon.show(&id).clients.iter().find(|client| client.role == Role::Viewer).map(drop)
    });
    let prompt = second.prompt(&id, "read a.txt");
    let question = requested(&mut first, "fs/read_text_file");
    replies(&mut first, &question, json!({ "content": "from the first" }));
    assert_eq!(second.stopped(prompt), "end_turn");
    second.wait_for_text("from the first");
    assert!(second.seen.iter().all(|message| message["method"] == "session/update"), "{:#?}", second.seen);
    first.close();
    until("that it drives", || match &daemon.show(&id).clients[..] {
        [only] => (only.role == Role::Driver).then_some(()),
        _ => None,
    });
    let prompt = second.prompt(&id, "read a.txt");
    let question = requested(&mut second, "fs/read_text_file");
    replies(&mut second, &question, json!({ "content": "from the second" }));
    assert_eq!(second.stopped(prompt), "end_turn");
}

#[test]
fn a_form_is_shown_by_the_editor_and_its_answer_goes_to_the_agent() {
    let daemon = kennel();
    let (mut editor, id) = able(&daemon);
    let prompt = editor.prompt(&id, "elicit who are you?");
    let question = requested(&mut editor, "elicitation/create");
    assert_eq!(question["params"]["message"], "who are you?");
    assert_eq!(question["params"]["sessionId"], json!(id));
    assert_eq!(daemon.show(&id).status, Status::RequiresAction);
    replies(&mut editor, &question, json!({ "action": "accept", "content": { "name": "secret-name" } }));
    assert_eq!(editor.stopped(prompt), "end_turn");
    assert_eq!(editor.updates(), ["message accept secret-name"]);
}

#[test]
fn whoever_sends_the_prompt_is_told_of_a_form_that_nobody_shows() {
    let daemon = kennel();
    let mut editor = Editor::new(&daemon, &["--agent", "allows"]);
    let id = editor.session(&daemon);
    let sent = daemon.run(&["send", &id, "elicit who are you?"]);
    let (shown, notes) = (sent.stdout, sent.stderr);
    assert_eq!(shown.trim(), "cancel -", "{notes}");
    assert!(notes.contains("the agent asks: who are you?"), "{notes}");
}

// --- clients of the library ---

async fn host() -> Host {
    let host = Host::new().await;
    let program = beside("acp-agent");
    let program = program.display();
    let config = format!("[agents.plain]\nkind = \"acp\"\ncommand = [\"{program}\"]\n");
    std::fs::write(host.config(), config).unwrap();
    host
}

async fn session(host: &Host, permissions: Option<PermissionPolicy>) -> SessionId {
    let opts = SessionOpts { agent: Some("plain".into()), grace_ms: Some(500), permissions, ..host.opts() };
    host.session_with(opts).await
}

async fn drives(host: &Host, id: &SessionId, takeover: bool, offers: &[Offer]) -> EventId {
    host.manager.attach(id, "a client", Role::Driver, takeover, offers, None).await.unwrap()
}

async fn asked(host: &Host, id: &SessionId) -> (CallId, Option<EventId>) {
    let asked = host.event(id, "the call", |kind| matches!(kind, EventKind::CallRequested { .. })).await;
    let EventKind::CallRequested { call_id, client_id, .. } = asked.kind else { panic!() };
    (call_id, client_id)
}

fn accepts(name: &str) -> CallAnswer {
    CallAnswer::Result { json: json!({ "action": "accept", "content": { "name": name } }).to_string() }
}

fn code<T: std::fmt::Debug>(result: Result<T, Error>) -> &'static str {
    result.unwrap_err().code()
}

#[tokio::test]
async fn only_the_driver_answers_and_only_once() {
    let host = host().await;
    let id = session(&host, None).await;
    let driver = drives(&host, &id, false, &[Offer::ReadFile]).await;
    let viewer = host.manager.attach(&id, "another", Role::Viewer, false, &Offer::ALL, None).await.unwrap();
    let prompt = host.send(&id, "read a.txt; read b.txt").await;
    let (call, client) = asked(&host, &id).await;
    assert_eq!(client, Some(driver));
    let content = |text: &str| CallAnswer::Result { json: json!({ "content": text }).to_string() };
    let answer = |client, call, text| {
        let manager = host.manager.on_behalf_of(client);
        let (id, answer) = (id.clone(), content(text));
        async move { manager.answer_call(&id, call, answer).await }
    };
    assert_eq!(code(answer(None, call, "x").await), "not_driver");
    assert_eq!(code(answer(Some(viewer), call, "x").await), "not_driver");
    assert_eq!(code(answer(Some(driver), CallId(1 << 40), "x").await), "no_such_call");
    answer(Some(driver), call, "one").await.unwrap();
    assert_eq!(code(answer(Some(driver), call, "x").await), "call_settled");
    let second = host.event(
        &id,
        "the second call",
        |kind| matches!(kind, EventKind::CallRequested { call_id, .. } if *call_id != call),
    );
    let EventKind::CallRequested { call_id, .. } = second.await.kind else { panic!() };
    answer(Some(driver), call_id, "two").await.unwrap();
    host.end_of(&id, prompt).await;
    assert_eq!(host.printed(&id, prompt).await, "onetwo");
    host.manager.shutdown().await;
}

#[tokio::test]
async fn kill_worker_with_a_call_open_expires_it_and_the_next_worker_asks_again() {
    let host = host().await;
    let id = session(&host, None).await;
    let driver = drives(&host, &id, false, &[Offer::ReadFile]).await;
    host.send(&id, "read a.txt").await;
    let (call, _) = asked(&host, &id).await;
    kill(host.pid(&id).await);
    host.event(
        &id,
        "its end",
        |kind| matches!(kind, EventKind::CallExpired { call_id, .. } if *call_id == call),
    )
    .await;
    let late = host.manager.on_behalf_of(Some(driver)).answer_call(&id, call, accepts("x")).await;
    assert_eq!(code(late), "call_settled");
    // The new worker learns who drives.
    let prompt = host.send(&id, "read a.txt").await;
    let again = host.event(
        &id,
        "the call",
        |kind| matches!(kind, EventKind::CallRequested { call_id, .. } if *call_id > call),
    );
    let EventKind::CallRequested { call_id, client_id, .. } = again.await.kind else { panic!() };
    assert_eq!(client_id, Some(driver));
    let answer = CallAnswer::Result { json: json!({ "content": "again" }).to_string() };
    host.manager.on_behalf_of(Some(driver)).answer_call(&id, call_id, answer).await.unwrap();
    host.end_of(&id, prompt).await;
    assert_eq!(host.printed(&id, prompt).await, "again");
    host.manager.shutdown().await;
}

#[tokio::test]
async fn a_terminal_of_a_client_that_went_is_an_error_and_the_turn_goes_on() {
    let host = host().await;
    let id = session(&host, None).await;
    let driver = drives(&host, &id, false, &[Offer::Terminal]).await;
    let prompt = host.send(&id, "run make; run echo mine").await;
    let (call, _) = asked(&host, &id).await;
    let answer = CallAnswer::Result { json: json!({ "terminalId": "terminal-1" }).to_string() };
    host.manager.on_behalf_of(Some(driver)).answer_call(&id, call, answer).await.unwrap();
    host.event(
        &id,
        "the wait",
        |kind| matches!(kind, EventKind::CallRequested { method, .. } if method == "terminal/wait_for_exit"),
    )
    .await;
    host.manager.detach(&id, driver).await.unwrap();
    host.end_of(&id, prompt).await;
    let printed = host.printed(&id, prompt).await;
    assert!(printed.starts_with("?null") && printed.contains("mine"), "{printed}");
    host.manager.shutdown().await;
}

#[tokio::test]
async fn a_question_to_the_user_waits_for_a_client_that_can_ask() {
    let host = host().await;
    let id = session(&host, None).await;
    let prompt = host.send(&id, "elicit who?").await;
    let (call, client) = asked(&host, &id).await;
    assert_eq!(client, None);
    assert_eq!(host.manager.get_session(&id).await.unwrap().status, Status::RequiresAction);
    let open = host.manager.calls(&id).await.unwrap();
    assert_eq!((open.len(), open[0].call_id, open[0].prompt_id, open[0].client_id), (1, call, prompt, None));
    assert_eq!(
        (open[0].method.as_str(), &open[0].payload["message"]),
        ("elicitation/create", &json!("who?"))
    );
    let driver = drives(&host, &id, false, &[Offer::Elicitation]).await;
    assert_eq!(host.manager.calls(&id).await.unwrap()[0].client_id, Some(driver));
    host.manager.on_behalf_of(Some(driver)).answer_call(&id, call, accepts("me")).await.unwrap();
    host.end_of(&id, prompt).await;
    assert_eq!(host.printed(&id, prompt).await, "accept me");
    assert_eq!(host.manager.calls(&id).await.unwrap(), []);
    host.manager.shutdown().await;
}

#[tokio::test]
async fn a_question_to_the_user_is_answered_by_the_policy_when_nobody_can_ask() {
    let host = host().await;
    for (policy, shown) in [(PermissionPolicy::Allow, "cancel -"), (PermissionPolicy::Deny, "decline -")] {
        let id = session(&host, Some(policy)).await;
        assert_eq!(host.run(&id, "elicit who?").await, shown);
        host.event(&id, "why", |kind| matches!(kind, EventKind::CallExpired { .. })).await;
    }
    let id = session(&host, Some(PermissionPolicy::Fail)).await;
    let prompt = host.send(&id, "elicit who?; say went on").await;
    host.event(&id, "the end", |kind| {
        matches!(kind, EventKind::TurnCompleted { prompt_id, outcome: Outcome::Aborted, .. } if *prompt_id == prompt)
    })
    .await;
    host.manager.shutdown().await;
}

#[tokio::test]
async fn an_abort_closes_what_a_client_was_asked() {
    let host = host().await;
    let id = session(&host, None).await;
    drives(&host, &id, false, &[Offer::ReadFile]).await;
    let prompt = host.send(&id, "read a.txt; say never").await;
    let (call, _) = asked(&host, &id).await;
    host.manager.abort(&id).await.unwrap();
    host.event(
        &id,
        "its end",
        |kind| matches!(kind, EventKind::CallExpired { call_id, .. } if *call_id == call),
    )
    .await;
    host.event(&id, "the end", |kind| {
        matches!(kind, EventKind::TurnCompleted { prompt_id, outcome: Outcome::Aborted, .. } if *prompt_id == prompt)
    })
    .await;
    assert_eq!(host.printed(&id, prompt).await, "refused: the turn was ended");
    host.manager.shutdown().await;
}
