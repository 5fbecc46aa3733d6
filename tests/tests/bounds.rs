//! An agent's output is bounded and can be read again: a hostile agent on real processes. The fixture
//! `acp-agent` writes the lines that its prompts name.

use harness::real::*;
use manager::protocol::SessionId;
use manager::protocol::api::*;
use manager::protocol::bounds;
use manager::protocol::event::{EventKind, Outcome};
use serde_json::{Value, json};

use crate::acp_side::{Editor, kennel};

async fn host() -> Host {
    let host = Host::new().await;
    std::fs::write(host.config(), config("")).unwrap();
    host
}

fn config(more: &str) -> String {
    format!("[agents.plain]\nkind = \"acp\"\ncommand = [\"{}\"]\n{more}", beside("acp-agent").display())
}

async fn session(host: &Host) -> SessionId {
    let opts = SessionOpts { agent: Some("plain".into()), grace_ms: Some(500), ..host.opts() };
    host.session_with(opts).await
}

/// Returns the notes for a person about the agent's output.
async fn notices(host: &Host, id: &SessionId) -> Vec<String> {
    let notice = |kind| match kind {
        EventKind::SystemMessage { text } => Some(text),
        _ => None,
    };
    host.events(id).await.into_iter().filter_map(|event| notice(event.kind)).collect()
}

/// The most memory that the worker has had, in KiB.
async fn peak(host: &Host, id: &SessionId) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", host.pid(id).await)).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().trim_end_matches(" kB").parse().unwrap()
}

const WAITS: &str = r#"{"jsonrpc":"2.0","id":"«6000000×i»$I","method":"terminal/wait_for_exit","params":{"sessionId":"$S","terminalId":"terminal-1"}}"#;
const SAYS: &str = r#"{"jsonrpc":"2.0","method":"session/update","params":{"sessionId":"$S","update":{"sessionUpdate":"agent_message_chunk","content":{"type":"text","text":"TEXT"}}}}"#;
const UPDATE: &str = r#"{"jsonrpc":"2.0","method":"session/update","params":{"sessionId":"$S","update":{"sessionUpdate":"news","x":TEXT}}}"#;
const ASKS: &str = r#"{"jsonrpc":"2.0","id":"ask-$I","method":"session/request_permission","params":{"sessionId":"$S","toolCall":{"toolCallId":"t$I","title":"TITLE"},"options":[OPTIONS]}}"#;
const YES: &str = r#"{"optionId":"yes","name":"Yes","kind":"allow_once"}"#;

/// The worker is outside the limits of its session: an agent must not make it hold what it may not hold itself.
#[tokio::test]
async fn a_worker_stays_small_whatever_its_agent_has_it_hold() {
    const MOST: u64 = 64 * 1024;
    let host = host().await;
    let says = |text: &str| SAYS.replace("TEXT", text);
    let update = |text: &str| UPDATE.replace("TEXT", text);
    // Output that stays, of commands that stay: more than a mebibyte each.
    let command = "start head -c 1200000 /dev/zero | tr '\\000' x && mktemp done-XXXXXX && exec sleep 1000; "
        .repeat(60);
    let read = "run until [ $(ls | grep -c ^done-) -ge 60 ]\ndo sleep 0.01\ndone";
    for (what, script, output) in [
        ("waits", format!("start sleep 1000; wires 16 {WAITS}; heard"), "started[null -32600]".to_owned()),
        ("terminals", command + read, "started".repeat(60) + "{\"exitCode\":0}"),
        ("long lines", format!("wires 2 {}; say done", says("«8300000×x»")), String::new()),
        ("longer lines", format!("wires 2 {}; say done", says("«12000000×x»")), "done".into()),
        ("brackets", "wires 2 «8300000×[»; say done".into(), "done".into()),
        ("elements", format!("wires 2 {}; say done", update("[«4000000×1,»1]")), "done".into()),
        ("numbers that grow", format!("wires 1 {}; say done", update("[«150000×1e15,»1]")), "done".into()),
        ("no text", format!("wires 1 {}; say done", says("«8300000×\u{1}»")), String::new()),
    ] {
        let id = session(&host).await;
        let prompt = host.send(&id, &script).await;
        let end = host.end_of(&id, prompt).await;
        assert!(matches!(end, EventKind::TurnCompleted { .. }), "{what}: {end:?}");
        if !output.is_empty() {
            assert_eq!(host.printed(&id, prompt).await, output, "{what}");
        }
        let peak = peak(&host, &id).await;
        assert!(peak < MOST, "{what}: the worker took {peak} KiB");
        // It goes on as ever.
        assert_eq!(host.run(&id, "say still here").await, "still here", "{what}");
        assert_eq!(host.manager.get_session(&id).await.unwrap().incarnation, 1, "{what}");
        host.manager.stop_session(&id, Orphans::default()).await.unwrap();
    }
    host.manager.shutdown().await;
}

#[tokio::test]
async fn a_request_that_cannot_be_read_is_answered_and_the_agent_lives() {
    let host = host().await;
    let id = session(&host).await;
    let ask = |id: &str, params: &str| {
        format!(r#"wire {{"jsonrpc":"2.0","id":{id},"method":"fs/read_text_file","params":{params}}}; heard"#)
    };
    for (script, output) in [
        (ask("901", r#"{"path":"a" b}"#), "[901 -32700]"),
        (ask("\"x\"", "«100×[»«100×]»"), "[\"x\" -32700]"),
        (ask("902", r#"{"path":"«9000000×p»"}"#), "[902 -32700]"),
        (ask("903", r#"{"path":["#), "[903 -32700]"),
        (ask("\"«300×i»\"", "{}"), "[null -32600]"),
        (ask("{\"a\":1}", "{}"), "[null -32600]"),
        (ask("[]", "{}"), "[null -32600]"),
        (
            r#"wire {"method":"fs/read_text_file","params":{"path":"«9000000×p»"},"id":904}; heard"#.into(),
            "[904 -32700]",
        ),
        (r#"wire {"method":"fs/read_text_file","params":{"path":; heard"#.into(), "[null -32700]"),
        (r#"wire [{"jsonrpc":"2.0","id":1,"method":"fs/read_text_file"}]; heard"#.into(), "[null -32600]"),
        (r#"wire {"jsonrpc":"2.0","id":905,"method":7}; heard"#.into(), "[905 -32600]"),
        // Lines that need no answer.
        ("longline 9000000; noise { [ \"; noise }; say on".into(), "on"),
        (format!("wire {}; say on", UPDATE.replace("TEXT", "«100×[»«100×]»")), "on"),
    ] {
        let before = notices(&host, &id).await.len();
        assert_eq!(host.run(&id, &script).await, output, "{script}");
        let received = notices(&host, &id).await.len() - before;
        assert!(received <= 1, "{script}: {:?}", notices(&host, &id).await);
    }
    assert_eq!(host.manager.get_session(&id).await.unwrap().incarnation, 1, "it lives");
    // The end of the turn itself.
    let prompt = host.send(&id, r#"say x; wire {"jsonrpc":"2.0","id":$P,"result":{"stopReason":}}"#).await;
    let EventKind::TurnCompleted { stop_reason, .. } = host.end_of(&id, prompt).await else { panic!() };
    assert_eq!(stop_reason, "error");
    assert_eq!(host.run(&id, "say still here").await, "still here");
    host.manager.shutdown().await;
}

#[tokio::test]
async fn a_line_however_long_ends_no_agent_also_after_a_restart() {
    let host = host().await;
    let id = session(&host).await;
    for incarnation in [1, 2] {
        for (what, line) in [
            ("a notification", UPDATE.replace("TEXT", "\"«100000000×x»\"")),
            ("a piece of its answer", SAYS.replace("TEXT", "«9000000×x»")),
            (
                "an answer that nobody waits for",
                r#"{"jsonrpc":"2.0","id":4711,"result":"«9000000×x»"}"#.into(),
            ),
        ] {
            let before = notices(&host, &id).await.len();
            assert_eq!(host.run(&id, &format!("wire {line}; say on")).await, "on", "{what}");
            let received = notices(&host, &id).await.split_off(before);
            assert!(received.iter().any(|text| text.contains("left out")), "{what}: {received:?}");
        }
        // The end of the turn itself is too long.
        let line = r#"{"jsonrpc":"2.0","id":$P,"result":{"stopReason":"end_turn","x":"«9000000×x»"}}"#;
        let prompt = host.send(&id, &format!("wire {line}")).await;
        let EventKind::TurnCompleted { stop_reason, .. } = host.end_of(&id, prompt).await else { panic!() };
        assert_eq!(stop_reason, "error");
        let info = host.manager.get_session(&id).await.unwrap();
        assert_eq!(info.incarnation, incarnation, "it lives");
        if incarnation == 1 {
            kill(info.agent_pid.unwrap());
            let is_next = |kind: &EventKind| matches!(kind, EventKind::SessionRestarted { .. });
            host.event(&id, "its restart", is_next).await;
        }
    }
    // An agent of text.
    let id = host.session().await;
    let output = host.run(&id, "head -c 9000000 /dev/zero | tr '\\0' x").await;
    assert_eq!((output.len(), output.trim_matches('x')), (9_000_000, ""));
    assert_eq!(host.run(&id, "echo on").await, "on\n");
    assert_eq!(host.manager.get_session(&id).await.unwrap().incarnation, 1);
    host.manager.shutdown().await;
}

#[tokio::test]
async fn what_is_nearly_json_is_repaired_and_that_is_said_once_a_turn() {
    let host = host().await;
    let id = session(&host).await;
    let says = |text: &str| format!("wire {}; ", SAYS.replace("TEXT", text));
    let script =
        [says("cut \\ud83d"), says("«hex:ff»«hex:fe»"), says("a«hex:01»b"), says("c:\\windows")].concat();
    let numbers =
        format!("wire «hex:ef»«hex:bb»«hex:bf»{}", UPDATE.replace("TEXT", "[NaN, -Infinity, 1e999, 1]"));
    let output = host.run(&id, &format!("{script}{numbers}")).await;
    assert_eq!(output, "cut \u{fffd}\u{fffd}\u{fffd}a\u{1}bc:\\windows");
    let events = host.events(&id).await;
    let news: Vec<&Value> = events
        .iter()
        .filter_map(|event| match &event.kind {
            EventKind::AgentUpdated { prompt_id: Some(_), payload } => Some(&payload["x"]),
            _ => None,
        })
        .collect();
    assert_eq!(news, [&json!([null, null, null, 1])]);
    let output = notices(&host, &id).await;
    assert_eq!(output.len(), 1, "{output:?}");
    assert!(output[0].contains("faults"), "{output:?}");
    assert_eq!(host.run(&id, &script).await.matches("cut").count(), 1);
    assert_eq!(notices(&host, &id).await.len(), 2, "once in each turn");
    host.manager.shutdown().await;
}

#[tokio::test]
async fn what_an_agent_asks_is_bounded_in_size_and_number_and_what_is_more_is_refused() {
    let host = host().await;
    let id = session(&host).await;
    let asks = |count: u32, title: &str, options: &str| {
        format!("wires {count} {}", ASKS.replace("TITLE", title).replace("OPTIONS", options))
    };
    let long_name = YES.replace("Yes", "«5000×n»");
    let prompt = host.send(&id, &format!("{}; sleep 60s", asks(10, "«20000×t»", &long_name))).await;
    let tenth = |kind: &EventKind| matches!(kind, EventKind::PermissionRequested { tool_call_id, .. } if tool_call_id == "t10");
    host.event(&id, "the last question", tenth).await;
    let open = host.manager.permissions(Some(&id)).await.unwrap();
    assert_eq!(open.len(), 10);
    for permission in &open {
        assert!(permission.title.ends_with("… (20,000 bytes, cut)"), "{}", permission.title);
        assert!(bounds::fits(&permission.title, bounds::TITLE));
        assert!(bounds::fits(&permission.options[0].name, bounds::NAME) && permission.options[0].id == "yes");
    }
    assert!(notices(&host, &id).await.iter().any(|text| text.contains("was too long")));
    host.manager.abort(&id).await.unwrap();
    assert!(matches!(
        host.end_of(&id, prompt).await,
        EventKind::TurnCompleted { outcome: Outcome::Aborted, .. }
    ));

    let id = session(&host).await;
    let options = format!("«33×{YES},»{YES}");
    for (script, output) in [
        (asks(1, "t", &options), "[\"ask-1\" -32602]"),
        (asks(1, "t", &YES.replace("\"yes\"", "\"«300×y»\"")), "[\"ask-1\" -32602]"),
        (
            asks(1, "t", YES).replace("\"toolCallId\":\"t$I\"", "\"toolCallId\":\"«2000×t»\""),
            "[\"ask-1\" -32602]",
        ),
    ] {
        assert_eq!(host.run(&id, &format!("{script}; heard")).await, output);
    }
    assert_eq!(host.manager.permissions(Some(&id)).await.unwrap(), []);
    assert!(notices(&host, &id).await.iter().any(|text| text.contains("was refused")));
    let prompt = host.send(&id, &format!("{}; heard; sleep 60s", asks(101, "t", YES))).await;
    host.event(
        &id,
        "the refusal",
        |kind| matches!(kind, EventKind::MessageChunk { text, .. } if text == "[\"ask-101\" -32603]"),
    )
    .await;
    host.manager.abort(&id).await.unwrap();
    host.end_of(&id, prompt).await;
    host.manager.shutdown().await;
}

/// A journal of an earlier kennel: an unreadable event is reported as such, and hides no other event.
#[tokio::test]
async fn an_event_that_nobody_can_read_is_said_to_be_and_left_out_everywhere() {
    let host = Host::new().await;
    let id = host.session().await;
    assert_eq!(host.run(&id, "echo before; echo after").await.trim(), "before\nafter");
    let events = host.events(&id).await;
    let started = events.iter().find(|event| matches!(event.kind, EventKind::TurnStarted { .. })).unwrap();
    let Host { dir, manager } = host;
    manager.shutdown().await;
    drop(manager);
    let journal = rusqlite::Connection::open(dir.path().join("state/journal.db")).unwrap();
    let json = serde_json::to_string(started).unwrap();
    let deep = format!("\"data\":{{\"payload\":{}{},", "[".repeat(5_000), "]".repeat(5_000));
    let json = json.replace("\"data\":{", &deep);
    let changed = journal.execute("UPDATE events SET json = ?1 WHERE id = ?2", (json, started.id as i64));
    assert_eq!(changed.unwrap(), 1);
    drop(journal);
    let host = Host::over(dir).await;
    let events = host.events(&id).await;
    let found = events.iter().find(|event| event.id == started.id).unwrap();
    let EventKind::SystemMessage { text } = &found.kind else { panic!("{found:?}") };
    assert!(text.contains("(turn.started) cannot be read"), "{text}");
    assert_eq!(
        (found.at, found.incarnation, &found.session),
        (started.at, started.incarnation, &started.session)
    );
    let result = host.manager.turn_result(&id).await.unwrap();
    assert_eq!((result.text.trim(), result.outcome), ("before\nafter", Some(Outcome::Completed)));
    host.manager.settings(&id).await.unwrap();
    host.manager.shutdown().await;
}

/// An editor is answered as agents are.
#[test]
fn what_an_editor_sends_and_cannot_be_read_is_answered_and_kennel_acp_goes_on() {
    let daemon = kennel();
    let mut editor = Editor::new(&daemon, &["--agent", "plain"]);
    let deep = "[".repeat(200) + &"]".repeat(200);
    for (line, id) in [
        (format!(r#"{{"jsonrpc":"2.0","id":901,"method":"session/new","params":{deep}}}"#), json!(901)),
        (r#"{"jsonrpc":"2.0","id":"x","method":"session/new","params":{]}"#.into(), json!("x")),
        (r#"{"jsonrpc":"2.0","method":"session/new","params":{"#.into(), Value::Null),
        (
            format!(r#"{{"jsonrpc":"2.0","id":902,"method":"m","params":"{}"}}"#, "x".repeat(64 << 20)),
            json!(902),
        ),
    ] {
        editor.write(line.as_bytes());
        let answer = editor.answer_to(&id);
        assert_eq!(answer["error"]["code"], -32700, "{answer}");
    }
    // Cut in the middle of a character, as some do.
    let id = editor.session(&daemon);
    let line = format!(
        r#"{{"jsonrpc":"2.0","id":903,"method":"session/prompt","params":{{"sessionId":"{id}","prompt":[{{"type":"text","text":"say cut \ud83d"}}]}}}}"#
    );
    editor.write(line.as_bytes());
    assert_eq!(editor.answer_to(&json!(903))["result"]["stopReason"], "end_turn");
    editor.wait_for_text("cut \u{fffd}");
}
