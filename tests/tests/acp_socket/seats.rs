//! Several clients on one session, and clients with fewer rights.

use harness::real::until;
use harness::websocket;
use manager::protocol::api::{Role, Status};
use serde_json::{Value, json};

use crate::acp_side::seats::{Answer, Stranger};
use crate::acp_side::{Editor, kennel};

fn code(answer: &Value) -> &str {
    answer["error"]["data"]["code"].as_str().unwrap_or_else(|| panic!("{answer}"))
}

#[test]
fn one_client_drives_and_the_others_look_on_until_it_is_gone() {
    let daemon = kennel();
    let mut one = Editor::at_socket(&daemon, "agent=plain", &[]).hello();
    let id = one.session(&daemon);
    assert_eq!(one.run(&id, "say one"), "end_turn");
    let mut two = Editor::at_socket(&daemon, "", &[]).hello();
    two.load(&daemon, &id);
    let prompt = one.prompt(&id, "say two; ask t1; say three");
    two.wait_for_text("two");
    let question = one.asked();
    // Whoever looks on changes nothing, and is told so.
    for (method, params) in [
        ("session/prompt", json!({ "sessionId": id, "prompt": [{ "type": "text", "text": "x" }] })),
        ("session/set_mode", json!({ "sessionId": id, "modeId": "code" })),
        ("session/delete", json!({ "sessionId": id })),
    ] {
        let refused = two.ask(method, params);
        assert_eq!(code(&refused), "not_driver", "{method}");
        two.load(&daemon, &id);
    }
    // Nor does it by opening the session with servers of its own, by closing it, or by starting it again.
    let server = json!({ "name": "two", "command": "/bin/true", "args": [], "env": [] });
    let load = json!({ "sessionId": id, "cwd": daemon.workdir(), "mcpServers": [server] });
    assert!(two.ask("session/load", load)["error"].is_null());
    two.wait_for_text("you do not drive");
    assert!(two.ask("session/close", json!({ "sessionId": id }))["error"].is_null());
    two.load(&daemon, &id);
    assert_eq!(daemon.show(&id).status, Status::RequiresAction);
    two.notify("session/cancel", json!({ "sessionId": id }));
    one.chooses(&question, "yes");
    assert_eq!(one.stopped(prompt), "end_turn");
    two.wait_for_text("three");
    assert!(two.seen.iter().all(|message| message["method"] != "session/request_permission"));
    // The driver is gone: the turn goes on, and the other is asked.
    one.prompt(&id, "ask t2; say four");
    one.wait_for("a question", |message| {
        message["params"]["toolCall"]["toolCallId"] == "t2" && !message["id"].is_null()
    });
    one.close();
    let question = two.asked();
    two.chooses(&question, "yes");
    two.wait_for_text("four");
    daemon.idle(&id);
    assert_eq!(two.run(&id, "say five"), "end_turn");
    assert_eq!(daemon.show(&id).clients.len(), 1);
}

#[test]
fn a_stopped_session_that_another_client_drives_is_shown_and_not_started() {
    let daemon = kennel();
    let mut one = Editor::at_socket(&daemon, "agent=plain", &[]).hello();
    let id = one.session(&daemon);
    assert_eq!(one.run(&id, "say one"), "end_turn");
    daemon.ok(&["stop", &id]);
    let mut two = Editor::at_socket(&daemon, "", &[]).hello();
    two.load(&daemon, &id);
    two.wait_for_text("was not started");
    assert_eq!(daemon.show(&id).status, Status::Stopped);
    // Nobody drives any more.
    two.close();
    one.close();
    until("all are gone", || daemon.show(&id).clients.is_empty().then_some(()));
    let mut three = Editor::at_socket(&daemon, "", &[]).hello();
    three.load(&daemon, &id);
    assert_eq!(daemon.show(&id).status, Status::Idle);
}

#[test]
fn a_client_that_vanishes_or_closes_a_session_keeps_no_seat() {
    let daemon = kennel();
    let mut editor = Editor::at_socket(&daemon, "agent=plain&editor_tools=true", &[]).hello_with_files();
    let id = editor.session(&daemon);
    assert_eq!(editor.run(&id, "say one"), "end_turn");
    let stranger = Stranger::of(&daemon, &id);
    let free = || {
        until("the seat is free", || {
            let answer = stranger.asks();
            assert_ne!(answer, Answer::Kept, "nobody could come back for it");
            (answer == Answer::Drove).then_some(())
        });
    };
    assert_eq!(stranger.asks(), Answer::Driven);
    assert!(editor.ask("session/close", json!({ "sessionId": id }))["error"].is_null());
    free();
    until("the stranger is gone", || daemon.show(&id).clients.is_empty().then_some(()));
    editor.load(&daemon, &id);
    assert_eq!(editor.run(&id, "say two"), "end_turn");
    assert_eq!(stranger.asks(), Answer::Driven);
    // Its connection is cut, and nothing is said before.
    drop(editor);
    free();
}

#[test]
fn a_client_that_comes_back_takes_its_seat_from_its_own_ghost() {
    let daemon = kennel();
    let mut ghost = Editor::at_socket(&daemon, "agent=plain", &[]).hello();
    let id = ghost.session(&daemon);
    assert_eq!(ghost.run(&id, "say one"), "end_turn");
    let mut back = Editor::at_socket(&daemon, "", &[]).hello();
    let wishes = json!({ "kennel.dev/takeover": true });
    let params = json!({ "sessionId": id, "cwd": daemon.workdir(), "_meta": wishes });
    back.ask("session/resume", params);
    assert_eq!(back.run(&id, "say two"), "end_turn");
    let refused = ghost.ask(
        "session/prompt",
        json!({ "sessionId": id, "prompt": [{ "type": "text", "text": "say three" }] }),
    );
    assert_eq!(code(&refused), "not_driver");
    let roles: Vec<Role> = daemon.show(&id).clients.iter().map(|client| client.role).collect();
    assert_eq!(roles, [Role::Viewer, Role::Driver]);
}

#[test]
fn a_token_gives_its_sessions_rights_and_a_viewers_token_those_of_a_viewer() {
    let daemon = kennel();
    daemon.ok(&["start", "--id", "mine", "--agent", "plain"]);
    daemon.ok(&["start", "--id", "other", "--agent", "plain"]);
    let token = |args: &[&str]| daemon.ok(&[&["token", "mine"], args].concat()).trim().to_owned();
    let (driver, viewer) = (token(&[]), token(&["--viewer"]));
    let bearer = format!("Bearer mine:{driver}");
    let mut editor = Editor::at_socket(&daemon, "", &[("Authorization", &bearer)]).hello();
    editor.load(&daemon, "mine");
    assert_eq!(editor.run("mine", "say one"), "end_turn");
    for answer in [
        editor.load(&daemon, "other"),
        editor.ask("session/new", json!({ "cwd": daemon.workdir(), "mcpServers": [] })),
        editor.ask("session/list", json!({})),
        editor.ask("session/delete", json!({ "sessionId": "other" })),
    ] {
        assert_eq!(code(&answer), "forbidden");
    }
    editor.close();
    until("it is detached", || daemon.show("mine").clients.is_empty().then_some(()));
    let bearer = format!("Bearer mine:{viewer}");
    let mut editor = Editor::at_socket(&daemon, "role=driver", &[("Authorization", &bearer)]).hello();
    editor.load(&daemon, "mine");
    editor.wait_for_text("one");
    let prompt = json!({ "sessionId": "mine", "prompt": [{ "type": "text", "text": "say two" }] });
    assert_eq!(code(&editor.ask("session/prompt", prompt)), "forbidden");
    assert_eq!(daemon.show("mine").turn_count, 1);
    // A token without its session's id is about no session here, and a wrong one is nobody's.
    let plain = format!("Bearer {driver}");
    let wrong = format!("Bearer other:{driver}");
    for (bearer, status) in [(plain, 403), (wrong, 401), ("Basic x".to_owned(), 401)] {
        let opened = websocket::open(&daemon.socket(), "/v1/acp", &[("Authorization", &bearer)]);
        assert_eq!(opened.err().unwrap().status, status, "{bearer}");
    }
}

#[test]
fn the_editors_own_tools_are_used_only_if_that_is_asked_for() {
    let daemon = kennel();
    let file = daemon.workdir().join("a.txt");
    std::fs::write(&file, "on disk").unwrap();
    for (query, read) in [("agent=plain", "on disk"), ("agent=plain&editor_tools=true", "unsaved")] {
        let mut editor = Editor::at_socket(&daemon, query, &[]);
        let able = json!({ "fs": { "readTextFile": true } });
        editor.ask("initialize", json!({ "protocolVersion": 1, "clientCapabilities": able }));
        let id = editor.session(&daemon);
        let prompt = editor.prompt(&id, &format!("read {}", file.display()));
        let answer = editor.serves(prompt, |asked| {
            assert_eq!(asked["method"], "fs/read_text_file");
            json!({ "content": "unsaved" })
        });
        assert_eq!(answer["result"]["stopReason"], "end_turn", "{answer}");
        assert!(editor.updates().iter().any(|update| update.contains(read)), "{:?}", editor.updates());
    }
}
