//! Requests that are no WebSocket's, frames that no honest client sends, and too many of everything.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use harness::daemon::Daemon;
use harness::real::{beside, until};
use harness::websocket::{self, Frame, HONEST, PING, Receiver, Sender, TEXT};
use serde_json::{Value, json};

use crate::acp_side::{Editor, kennel};

const HELLO: &str = r#"{"jsonrpc":"2.0","id":"hello","method":"initialize","params":{"protocolVersion":1}}"#;

fn open(daemon: &Daemon) -> (Sender, Receiver) {
    websocket::open(&daemon.socket(), "/v1/acp", &[]).unwrap()
}

/// A client that does everything right is served.
fn all_is_well(daemon: &Daemon) {
    let mut editor = Editor::at_socket(daemon, "agent=plain", &[]).hello();
    assert!(editor.ask("session/list", json!({}))["result"]["sessions"].is_array());
}

#[test]
fn a_request_that_is_no_websockets_is_refused_and_costs_nothing() {
    let daemon = kennel();
    daemon.ok(&["ls"]);
    let [connection, upgrade, version, key] = HONEST;
    let refused = |path: &str, headers: &[(&str, &str)]| {
        let refused = websocket::open_with(&daemon.socket(), path, headers).err().unwrap();
        let problem: Value = serde_json::from_str(&refused.body).unwrap_or_else(|_| panic!("{refused:?}"));
        (refused.status, problem["code"].as_str().unwrap().to_owned())
    };
    let path = "/v1/acp";
    for (headers, status, code) in [
        (&[][..], 426, "upgrade_required"),
        (&[upgrade, version, key], 426, "upgrade_required"),
        (&[connection, version, key], 426, "upgrade_required"),
        (&[connection, ("Upgrade", "h2c"), version, key], 426, "upgrade_required"),
        (&[connection, upgrade, key], 426, "websocket_version"),
        (&[connection, upgrade, ("Sec-WebSocket-Version", "8"), key], 426, "websocket_version"),
        (&[connection, upgrade, version], 400, "invalid_websocket"),
        (&[connection, upgrade, version, ("Sec-WebSocket-Key", "short")], 400, "invalid_websocket"),
        (&[connection, upgrade, version, key, key], 400, "invalid_websocket"),
        (&[connection, upgrade, version, key, ("Content-Length", "1")], 400, "unexpected_body"),
        (&[connection, upgrade, version, key, ("Origin", "https://example.com")], 403, "origin_refused"),
        (&[connection, upgrade, version, key, ("Authorization", "Bearer x:y")], 401, "bad_token"),
    ] {
        assert_eq!(refused(path, headers), (status, code.to_owned()), "{headers:?}");
    }
    for query in ["?role=king", "?key=secret", "?editor_tools=perhaps"] {
        let answer = refused(&format!("{path}{query}"), &HONEST);
        assert_eq!(answer, (400, "invalid_parameter".to_owned()), "{query}");
    }
    // A first request that ends in an upgrade of another route ends in none.
    assert_eq!(refused("/v1/nothing", &HONEST).1, "no_such_route");
    let mut old = UnixStream::connect(daemon.socket()).unwrap();
    let heads: String = HONEST.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    write!(old, "GET /v1/acp HTTP/1.0\r\n{heads}\r\n").unwrap();
    let mut answer = String::new();
    old.read_to_string(&mut answer).unwrap();
    assert!(answer.contains(" 426 "), "{answer}");
    all_is_well(&daemon);
}

#[test]
fn frames_that_break_the_rules_end_their_connection_with_the_reason() {
    let daemon = kennel();
    daemon.ok(&["ls"]);
    let masked = |first: u8, payload: &'static [u8]| move |sender: &Sender| _ = sender.frame(first, payload);
    let raw = |bytes: Vec<u8>| move |sender: &Sender| _ = sender.raw(&bytes);
    type Sends = Box<dyn Fn(&Sender)>;
    let cases: Vec<(&str, u16, Sends)> = vec![
        ("an unmasked frame", 1002, Box::new(raw([&Sender::head(TEXT, 0, 2)[..], b"{}"].concat()))),
        ("a compressed frame", 1002, Box::new(masked(0xc1, b"{}"))),
        ("a reserved opcode", 1002, Box::new(masked(0x83, b"{}"))),
        ("a reserved control", 1002, Box::new(masked(0x8b, b""))),
        ("a ping in pieces", 1002, Box::new(masked(0x09, b"x"))),
        ("a long ping", 1002, Box::new(masked(PING, &[b'x'; 126]))),
        ("a piece of nothing", 1002, Box::new(masked(0x80, b"x"))),
        (
            "text in another text",
            1002,
            Box::new(|sender| {
                sender.frame(0x01, b"{");
                sender.frame(TEXT, b"{}");
            }),
        ),
        ("no UTF-8", 1007, Box::new(masked(TEXT, b"\xff\xfe"))),
        ("a length beyond all bounds", 1009, Box::new(raw(Sender::head(TEXT, 0x80, u64::MAX >> 1)))),
        ("a large frame", 1009, Box::new(raw(Sender::head(TEXT, 0x80, (16 << 20) + 1)))),
        (
            "a large message",
            1009,
            Box::new(|sender| {
                let piece = vec![b' '; 8 << 20];
                // The connection may be closed before the last.
                let _ = sender.frame(0x01, &piece) && sender.frame(0x00, &piece) && sender.frame(0x80, b"xx");
            }),
        ),
        (
            "pings and pings",
            1008,
            Box::new(|sender| {
                for _ in 0..500 {
                    // The connection is closed at some point.
                    let _ = sender.frame(PING, b"x");
                }
            }),
        ),
        (
            "binary frames",
            1008,
            Box::new(|sender| {
                for _ in 0..500 {
                    let _ = sender.frame(0x82, b"x");
                }
            }),
        ),
        ("a goodbye", 1000, Box::new(masked(0x88, &[0x03, 0xe8]))),
    ];
    for (what, code, sends) in cases {
        let (sender, mut receiver) = open(&daemon);
        sender.text(HELLO);
        assert!(receiver.text().unwrap().contains("protocolVersion"), "{what}");
        sends(&sender);
        assert_eq!(receiver.end().map(|(code, _)| code), Some(code), "{what}");
    }
    all_is_well(&daemon);
}

#[test]
fn what_is_unusual_and_within_the_rules_is_understood() {
    let daemon = kennel();
    daemon.ok(&["ls"]);
    let (sender, mut receiver) = open(&daemon);
    // In pieces, some of them empty, with a ping between; and a binary frame, which is passed over.
    let (front, back) = HELLO.as_bytes().split_at(9);
    sender.frame(0x01, front);
    sender.frame(0x00, b"");
    sender.frame(PING, b"hm");
    sender.frame(0x80, back);
    sender.frame(0x82, b"\0\xff");
    let mut frames = [receiver.frame().unwrap(), receiver.frame().unwrap()];
    frames.sort_by_key(|frame| matches!(frame, Frame::Text(_)));
    let [Frame::Pong(payload), Frame::Text(hello)] = &frames else { panic!("{frames:?}") };
    assert_eq!(payload, b"hm");
    assert!(hello.contains(r#""id":"hello""#), "{hello}");
    // What is no JSON is answered as `kennel acp` answers it.
    let deep = format!(r#"{{"id":7,"method":"m","params":{}}}"#, "[".repeat(200) + &"]".repeat(200));
    for (text, id) in [(&deep[..], json!(7)), (r#"{"id":"x","method":"m","params":{]}"#, json!("x"))] {
        sender.text(text);
        let answer: Value = serde_json::from_str(&receiver.text().unwrap()).unwrap();
        assert_eq!((&answer["error"]["code"], &answer["id"]), (&json!(-32700), &id), "{answer}");
    }
    sender.text("[{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"session/list\"}]");
    let answer: Value = serde_json::from_str(&receiver.text().unwrap()).unwrap();
    assert!(answer["error"]["code"].is_i64(), "batches are no messages: {answer}");
    sender.cut();
    all_is_well(&daemon);
}

/// The most memory that a process has had, in KiB.
fn peak(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_flood_of_ten_thousand_requests_is_answered_within_bounds() {
    const FLOOD: usize = 10_000;
    let daemon = kennel();
    daemon.ok(&["ls"]);
    let before = peak(daemon.pid());
    let (sender, mut receiver) = open(&daemon);
    sender.text(HELLO);
    receiver.text().unwrap();
    let floods = std::thread::spawn(move || {
        for id in 0..FLOOD {
            let request = json!({ "jsonrpc": "2.0", "id": id, "method": "session/list", "params": {} });
            assert!(sender.text(&request.to_string()), "{id}");
        }
        sender
    });
    let mut answered = vec![false; FLOOD];
    for _ in 0..FLOOD {
        let answer: Value = serde_json::from_str(&receiver.text().unwrap()).unwrap();
        let id = answer["id"].as_u64().unwrap() as usize;
        assert!(!std::mem::replace(&mut answered[id], true), "{id} is answered twice");
        let refused = answer["error"]["data"]["code"] == "too_many_requests";
        assert!(answer["result"]["sessions"].is_array() || refused, "{answer}");
    }
    let _sender = floods.join().unwrap();
    let grown = peak(daemon.pid()) - before;
    assert!(grown < 64 * 1024, "{grown} KiB");
    all_is_well(&daemon);
}

#[test]
fn a_client_that_reads_nothing_fills_nothing_and_keeps_nobody_waiting() {
    let daemon = kennel();
    let mut editor = Editor::at_socket(&daemon, "agent=plain", &[]).hello();
    let id = editor.session(&daemon);
    editor.close();
    // 48 MB, of which the journal keeps all.
    let much = ["send", &id, "messages 48 1000000"];
    daemon.ok(&much);
    let before = peak(daemon.pid());
    let (sender, _receiver) = open(&daemon);
    sender.text(HELLO);
    let load = json!({ "sessionId": id, "cwd": "/", "mcpServers": [] });
    sender.text(&json!({ "jsonrpc": "2.0", "id": 1, "method": "session/load", "params": load }).to_string());
    daemon.ok(&much);
    let grown = peak(daemon.pid()) - before;
    assert!(grown < 72 * 1024, "{grown} KiB");
    all_is_well(&daemon);
    sender.cut();
    until("it is detached", || daemon.show(&id).clients.is_empty().then_some(()));
}

#[test]
fn large_requests_are_read_only_as_far_as_there_is_room_for_them() {
    let daemon = kennel();
    let config = daemon.dir.path().join("kennel/config.toml");
    let mut text = std::fs::read_to_string(&config).unwrap();
    let program = beside("acp-agent");
    text += &format!("\n[agents.quiet]\nkind = \"acp\"\ncommand = [\"{}\", \"--mute\"]\n", program.display());
    std::fs::write(&config, text).unwrap();
    daemon.ok(&["ls"]);
    let before = peak(daemon.pid());
    let (sender, mut receiver) = websocket::open(&daemon.socket(), "/v1/acp?agent=quiet", &[]).unwrap();
    sender.text(HELLO);
    receiver.text().unwrap();
    // Each is in hand until its agent is ready, which it never is. Two of them leave no room for the largest message.
    let params = json!({ "cwd": daemon.workdir(), "mcpServers": [], "_meta": { "x": "x".repeat(9 << 20) } });
    let large = json!({ "jsonrpc": "2.0", "id": 1, "method": "session/new", "params": params }).to_string();
    let sends = sender.clone();
    let sending = std::thread::spawn(move || (0..4).take_while(|_| sends.text(&large)).count());
    let sessions = || daemon.json::<Vec<Value>>(&["ls", "--all"]).len();
    until("two are in hand", || (sessions() == 2).then_some(()));
    all_is_well(&daemon);
    assert_eq!(sessions(), 2, "the third is not read");
    let grown = peak(daemon.pid()) - before;
    assert!(grown < 192 * 1024, "{grown} KiB");
    // The end of one makes room for the next.
    daemon.ok(&["stop", "session-1"]);
    until("the third is in hand", || (daemon.run(&["show", "session-3"]).code == Some(0)).then_some(()));
    sender.cut();
    // It may have sent the rest meanwhile, or not.
    sending.join().unwrap();
}

#[test]
fn there_are_only_so_many_connections_and_nobody_has_all_of_them() {
    let daemon = kennel();
    daemon.ok(&["ls"]);
    let key = |name: &str| {
        let key: Value = daemon.json(&["key", "create", name, "--role", "viewer"]);
        format!("Bearer {}", key["key"].as_str().unwrap())
    };
    let (phone, other) = (key("phone"), key("other"));
    let with = |bearer: &str| websocket::open(&daemon.socket(), "/v1/acp", &[("Authorization", bearer)]);
    let full = |refused: websocket::Refused, whose: &str| {
        assert_eq!(refused.status, 503);
        assert!(refused.head.to_lowercase().contains("retry-after"), "{}", refused.head);
        assert!(refused.body.contains(whose), "{}", refused.body);
    };
    let _phones: Vec<_> = (0..8).map(|_| with(&phone).unwrap()).collect();
    full(with(&phone).err().unwrap(), "the places of key `key-1` are full");
    let opened: Vec<_> = (0..23).map(|_| open(&daemon)).collect();
    let _other = with(&other).unwrap();
    full(websocket::open(&daemon.socket(), "/v1/acp", &[]).err().unwrap(), "all places are full");
    assert!(!daemon.ok(&["ls"]).contains("error"), "other requests are served");
    opened[0].0.cut();
    until("there is a place again", || websocket::open(&daemon.socket(), "/v1/acp", &[]).ok().map(drop));
}

#[test]
fn a_websocket_that_rests_is_no_connection_that_rests_between_requests() {
    let daemon = kennel();
    let config = daemon.dir.path().join("kennel/config.toml");
    let mut text = std::fs::read_to_string(&config).unwrap();
    text += "\n[daemon]\nidle_timeout = \"200ms\"\nhead_timeout = \"200ms\"\n";
    std::fs::write(&config, text).unwrap();
    let mut editor = Editor::at_socket(&daemon, "agent=plain", &[]).hello();
    let id = editor.session(&daemon);
    // One that came later, and has been closed for its rest, says that the time is over.
    let mut later = UnixStream::connect(daemon.socket()).unwrap();
    later.write_all(b"GET /healthz HTTP/1.1\r\nHost: kennel\r\n\r\n").unwrap();
    later.read_to_end(&mut Vec::new()).unwrap();
    assert_eq!(editor.run(&id, "say still here"), "end_turn");
}
