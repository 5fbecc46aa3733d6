//! Keys of a real daemon: over its socket, through its death, and until they are revoked.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

use harness::daemon::Daemon;
use harness::real::*;
use manager::protocol::api::{IssuedKey, KeyInfo, SessionInfo, StartedPairing};
use manager::protocol::event::EventKind;
use serde_json::{Value, json};

/// A connection on which this request was sent.
fn sent(daemon: &Daemon, method: &str, path: &str, key: Option<&str>, body: &Value) -> UnixStream {
    let mut stream = UnixStream::connect(daemon.socket()).unwrap();
    stream.set_read_timeout(Some(BOUND)).unwrap();
    let bearer = key.map(|key| format!("Authorization: Bearer {key}\r\n")).unwrap_or_default();
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: kennel\r\n{bearer}Content-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream
}

/// Status and body of an answer.
fn ask(daemon: &Daemon, method: &str, path: &str, key: Option<&str>, body: Value) -> (u16, Value) {
    let answer = rest(sent(daemon, method, path, key, &body));
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or(Value::Null))
}

#[test]
fn a_key_lets_in_until_it_is_revoked_whatever_becomes_of_the_daemon() {
    let daemon = Daemon::new();
    daemon.ok(&["start", "--id", "foreign"]);
    let made: IssuedKey = daemon.json(&["key", "create", "ci", "--own"]);
    let key = made.key.as_str();
    let (status, body) = ask(&daemon, "POST", "/v1/sessions", Some(key), json!({ "id": "mine" }));
    assert_eq!((status, &body["started_by"]), (201, &json!("key-1")), "{body}");
    daemon.idle("mine");

    daemon.kill();
    daemon.ok(&["ls"]);
    let (status, list) = ask(&daemon, "GET", "/v1/sessions", Some(key), Value::Null);
    let list: Vec<SessionInfo> = serde_json::from_value(list).unwrap();
    let ids: Vec<&str> = list.iter().map(|session| session.id.as_str()).collect();
    assert_eq!((status, &ids[..]), (200, &["mine"][..]));
    assert_eq!(ask(&daemon, "GET", "/v1/sessions/foreign", Some(key), Value::Null).0, 404);
    assert_eq!(ask(&daemon, "GET", "/v1/keys", Some(key), Value::Null).0, 403);
    let keys: Vec<KeyInfo> = daemon.json(&["key", "ls"]);
    assert_eq!((keys.len(), keys[0].last_used_from.as_deref()), (1, Some("socket")));
    assert!(daemon.ok(&["key", "ls"]).contains("its own sessions"));

    // Nothing that kennel keeps has the key in it.
    let status: Value = daemon.json(&["daemon", "status"]);
    let state_dir = std::path::PathBuf::from(status["state_dir"].as_str().unwrap());
    let mut looked = 0;
    for (path, bytes) in contents(&state_dir) {
        let has = bytes.windows(key.len()).any(|window| window == key.as_bytes());
        assert!(!has, "{}", path.display());
        looked += 1;
    }
    assert!(looked > 2);
    let mode = std::fs::metadata(state_dir.join("keys.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    // A new secret, and the old one is none any more; then none is.
    let new = daemon.ok(&["key", "rotate", "key-1"]);
    assert_eq!(ask(&daemon, "GET", "/v1/sessions", Some(key), Value::Null).1["code"], "bad_key");
    assert_eq!(ask(&daemon, "GET", "/v1/sessions", Some(new.trim()), Value::Null).0, 200);
    assert_eq!(daemon.ok(&["key", "revoke", "key-1"]).trim(), "key-1");
    assert_eq!(ask(&daemon, "GET", "/v1/sessions", Some(new.trim()), Value::Null).1["code"], "bad_key");
    let gone = daemon.run(&["key", "revoke", "key-1"]);
    assert!(gone.code == Some(1) && gone.stderr.contains("no key"), "{gone:?}");
    // Its sessions stay.
    assert_eq!(daemon.idle("mine").started_by.map(|key| key.to_string()).as_deref(), Some("key-1"));
}

#[test]
fn a_key_for_labels_reaches_what_has_them_and_loses_it_with_them() {
    let daemon = Daemon::new();
    daemon.ok(&["start", "--id", "web", "--label", "team=front", "--label", "stage=test"]);
    daemon.ok(&["start", "--id", "api"]);
    let key = daemon.ok(&["key", "create", "front", "--label", "team=front"]);
    let key = Some(key.trim());
    assert!(daemon.ok(&["key", "ls"]).contains("sessions with team=front"));
    let listed = || {
        let list = ask(&daemon, "GET", "/v1/sessions", key, Value::Null).1;
        let list: Vec<SessionInfo> = serde_json::from_value(list).unwrap();
        list.iter().map(|session| session.id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(listed(), ["web"]);
    daemon.idle("web");
    assert_eq!(ask(&daemon, "PUT", "/v1/sessions/web", key, json!({})).0, 200);
    assert_eq!(ask(&daemon, "PUT", "/v1/sessions/new", key, json!({})).1["code"], "no_such_session");
    let stream = sent(&daemon, "GET", "/v1/sessions/web/attach?role=driver", key, &Value::Null);
    until("the client", || daemon.show("web").clients.first().map(drop));
    daemon.ok(&["label", "api", "team=front"]);
    assert_eq!(listed(), ["web", "api"]);
    // Whatever becomes of the daemon.
    daemon.kill();
    daemon.ok(&["label", "api", "team-"]);
    assert_eq!(listed(), ["web"]);
    drop(rest(stream));
    let stream = sent(&daemon, "GET", "/v1/sessions/web/attach?role=driver", key, &Value::Null);
    until("the client", || daemon.show("web").clients.first().map(drop));
    daemon.ok(&["label", "web", "team=back"]);
    let stream = rest(stream);
    assert!(stream.starts_with("HTTP/1.1 200 ") && !stream.ends_with("0\r\n\r\n"), "{stream}");
    until("the client's end", || daemon.show("web").clients.is_empty().then_some(()));
    assert_eq!(listed(), [""; 0]);

    for (args, what) in [
        (&["--label", "team"][..], "LABEL=VALUE"),
        (&["--label", "team=a", "--label", "team=b"], "given twice"),
        (&["--label", "a b=c"], "each as `kennel label` takes it"),
        (&["--label", "team=a", "--own"], "cannot be used with"),
        (&["--role", "admin", "--label", "team=a"], "an admin's key reaches all sessions"),
    ] {
        let refused = daemon.run(&[&["key", "create", "x"], args].concat());
        assert!(refused.code != Some(0) && refused.stderr.contains(what), "{args:?}: {refused:?}");
    }
    assert_eq!(daemon.json::<Vec<KeyInfo>>(&["key", "ls"]).len(), 1);
}

#[test]
fn what_a_revoked_key_has_open_ends() {
    let daemon = Daemon::new();
    daemon.ok(&["start", "--id", "s"]);
    daemon.idle("s");
    let key = daemon.ok(&["key", "create", "laptop"]);
    let paths = [
        "events",
        "sessions/s/log?follow=true",
        "sessions/s/attach?role=driver",
        "sessions/s/wait?until=failed",
    ];
    let open = paths
        .map(|path| format!("/v1/{path}"))
        .map(|path| sent(&daemon, "GET", &path, Some(key.trim()), &Value::Null));
    until("the client", || {
        let clients = daemon.show("s").clients;
        let origin = clients.first()?.origin.clone()?;
        (origin.key_name.as_deref() == Some("laptop")).then_some(())
    });
    daemon.ok(&["key", "revoke", "key-1"]);
    let [events, log, attached, waits] = open.map(rest);
    // A stream that breaks off has no last chunk.
    for stream in [events, log, attached] {
        assert!(stream.starts_with("HTTP/1.1 200 ") && !stream.ends_with("0\r\n\r\n"), "{stream}");
    }
    assert!(waits.starts_with("HTTP/1.1 401 ") && waits.contains("key_ended"), "{waits}");
    until("the client's end", || daemon.show("s").clients.is_empty().then_some(()));
    let told = daemon.events().into_iter().find_map(|event| match event.kind {
        EventKind::ClientAttached { origin, .. } => origin,
        _ => None,
    });
    assert_eq!(told.unwrap().key.map(|key| key.to_string()).as_deref(), Some("key-1"));
}

#[test]
fn a_device_pairs_and_a_new_daemon_knows_of_no_pairing() {
    let daemon = Daemon::new();
    daemon.ok(&["daemon", "start"]);
    let begin = || -> StartedPairing {
        let wish = json!({ "role": "driver", "sessions": "all", "name": "phone" });
        let (status, body) = ask(&daemon, "POST", "/v1/pairings", None, wish);
        assert_eq!(status, 201, "{body}");
        serde_json::from_value(body).unwrap()
    };
    let device = |letter: &str| format!("kk_{}A", letter.repeat(42));
    let pair = |secret: &str, key: &str| {
        ask(&daemon, "POST", "/v1/pair", None, json!({ "secret": secret, "name": "x", "key": key }))
    };
    let lost = begin();
    daemon.kill();
    daemon.ok(&["ls"]);
    assert_eq!(pair(&lost.secret, &device("a")).1["code"], "pairing_closed");
    let begun = begin();
    let waits = sent(&daemon, "GET", &format!("/v1/pairings/{}", begun.number), None, &Value::Null);
    let (status, paired) = pair(&begun.secret, &device("a"));
    assert_eq!((status, &paired["name"]), (201, &json!("phone")), "{paired}");
    let over = rest(waits);
    assert!(over.contains("\"paired\"") && over.contains("\"phone\""), "{over}");
    assert_eq!(ask(&daemon, "GET", "/v1/sessions", Some(&device("a")), Value::Null).0, 200);
    assert_eq!(pair(&begun.secret, &device("b")).1["code"], "pairing_closed");
    // Without a port no device can come, and the command says how to have one.
    let refused = daemon.run(&["pair"]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("[listen]") && refused.stderr.contains("tcp"), "{}", refused.stderr);
}
