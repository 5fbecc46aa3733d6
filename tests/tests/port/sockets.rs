//! `/v1/acp` through the port: a WebSocket of somebody with a key.

use std::io::{Read, Write};

use harness::websocket::{HONEST, Sender, TEXT};
use manager::protocol::api::IssuedKey;

use super::{Tls, address, connect, daemon};

/// Asks for a WebSocket; gives the head of the answer.
fn ask(tls: &mut Tls, key: &str) -> String {
    let mut request = format!("GET /v1/acp HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n");
    HONEST.iter().for_each(|(name, value)| request += &format!("{name}: {value}\r\n"));
    tls.write_all((request + "\r\n").as_bytes()).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        tls.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

fn say(tls: &mut Tls, text: &str) {
    let mask = [1, 2, 3, 4];
    let mut frame = Sender::head(TEXT, 0x80, text.len() as u64);
    frame.extend(mask);
    frame.extend(text.bytes().enumerate().map(|(at, byte)| byte ^ mask[at % 4]));
    tls.write_all(&frame).unwrap();
}

/// The next frame; none at the end of the connection.
fn hear(tls: &mut Tls) -> Option<String> {
    let mut two = [0; 2];
    tls.read_exact(&mut two).ok()?;
    let length = match two[1] {
        126 => {
            let mut length = [0; 2];
            tls.read_exact(&mut length).ok()?;
            u16::from_be_bytes(length).into()
        }
        length => usize::from(length),
    };
    let mut payload = vec![0; length];
    tls.read_exact(&mut payload).ok()?;
    Some(String::from_utf8_lossy(&payload).into_owned())
}

#[test]
fn an_editor_speaks_acp_through_the_port_for_as_long_as_its_key_is_good() {
    let daemon = daemon("", "");
    let key = daemon.json::<IssuedKey>(&["key", "create", "editor"]);
    let mut tls = connect(address(&daemon));
    let head = ask(&mut tls, &key.key);
    assert!(
        head.starts_with("HTTP/1.1 101 ") && head.to_lowercase().contains("acp-connection-id: "),
        "{head}"
    );
    let params = r#"{"protocolVersion":1,"clientCapabilities":{}}"#;
    say(&mut tls, &format!(r#"{{"jsonrpc":"2.0","id":1,"method":"initialize","params":{params}}}"#));
    let answer = hear(&mut tls).unwrap();
    assert!(answer.contains("\"protocolVersion\":1"), "{answer}");
    let work = daemon.dir.path().join("home");
    std::fs::create_dir_all(&work).unwrap();
    let params = serde_json::json!({ "cwd": work, "mcpServers": [] });
    say(&mut tls, &format!(r#"{{"jsonrpc":"2.0","id":2,"method":"session/new","params":{params}}}"#));
    let answer = std::iter::from_fn(|| hear(&mut tls)).find(|frame| frame.contains("\"id\":2")).unwrap();
    assert!(answer.contains("session-1"), "{answer}");
    daemon.ok(&["key", "revoke", &key.info.id.to_string()]);
    // What was under way may still come.
    assert!(std::iter::from_fn(|| hear(&mut tls)).count() < 100);
    assert_eq!(daemon.ok(&["ls", "--quiet"]).trim(), "session-1", "the session goes on");
}

#[test]
fn a_websocket_without_a_good_key_or_of_a_web_page_is_refused() {
    let daemon = daemon("", "");
    let head = ask(&mut connect(address(&daemon)), "kk_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
    assert!(head.starts_with("HTTP/1.1 401 "), "{head}");
    let page = ask(&mut connect(address(&daemon)), "x\r\nOrigin: https://evil.example");
    assert!(page.starts_with("HTTP/1.1 403 "), "{page}");
}
