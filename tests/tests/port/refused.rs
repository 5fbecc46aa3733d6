//! Refusals in the journal: each reason, bounded in number, and without a word of whoever was refused.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use harness::daemon::{Daemon, finish};
use harness::real::*;
use manager::protocol::access::{Refused, RefusedFor};
use manager::protocol::api::{IssuedKey, KeyInfo, StartedPairing};
use manager::protocol::event::EventKind;
use serde_json::{Value, json};

use super::{address, client, daemon, get, rest, session, status, tcp_from, tls_over};

/// A text of hostile clients, which must not come back in any event.
const EVIL: &str = "evil-words";

/// A daemon with a port, and secrets that clients show.
struct Scene {
    daemon: Daemon,
    /// The header with the driver's token of session `s`.
    bearer: String,
    viewer: String,
    some: String,
}

impl Scene {
    fn new() -> Self {
        let daemon = daemon("connections = 64", "");
        let bearer = session(&daemon);
        daemon.ok(&["start", "--id", "other"]);
        let key = |args: &[&str]| daemon.ok(&[&["key", "create"], args].concat()).trim().to_owned();
        let viewer = key(&["viewer", "--role", "viewer"]);
        let some = key(&["some", "--session", "s"]);
        Self { daemon, bearer, viewer, some }
    }

    /// Sends bytes over TLS from this address of this machine, and returns the answer.
    fn from(&self, from: u8, request: &str) -> String {
        let stream = tcp_from([127, 0, 7, from], address(&self.daemon));
        let mut tls = tls_over(stream, client(&["http/1.1"], None));
        tls.write_all(request.as_bytes()).unwrap();
        rest(&mut tls)
    }

    fn with_key(&self, from: u8, request: &str, key: &str) -> u16 {
        let request = request.replace("\r\n\r\n", &format!("\r\nAuthorization: Bearer {key}\r\n\r\n"));
        status(&self.from(from, &request))
    }

    /// Sends bytes over the socket, and returns the answer.
    fn socket(&self, request: &str) -> String {
        let mut stream = UnixStream::connect(self.daemon.socket()).unwrap();
        stream.set_read_timeout(Some(BOUND)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        rest(&mut stream)
    }

    fn key_that_ends(&self, name: &str, lifetime: &str) -> (String, KeyInfo) {
        let made: IssuedKey =
            self.daemon.json(&["key", "create", name, "--role", "viewer", "--expires", lifetime]);
        (made.key, made.info)
    }

    fn is_expired(&self, key: &KeyInfo) -> Option<()> {
        let keys: Vec<KeyInfo> = self.daemon.json(&["key", "ls"]);
        keys.iter().any(|found| found.id == key.id && found.expired).then_some(())
    }
}

fn post(path: &str, headers: &str, body: &Value) -> String {
    let body = body.to_string();
    let head = format!("Content-Type: application/json\r\nContent-Length: {}\r\n{headers}", body.len());
    get(path, &head).replacen("GET ", "POST ", 1) + &body
}

/// The events about refusals.
fn refusals(daemon: &Daemon) -> Vec<Refused> {
    let events = daemon.events().into_iter();
    events
        .filter_map(|event| match event.kind {
            EventKind::AccessRefused(refused) => {
                assert_eq!(event.session, None);
                Some(refused)
            }
            _ => None,
        })
        .collect()
}

/// Fields of an event: the last part of the address, the key, the session, the operation.
type Fields = (Option<u8>, Option<String>, Option<&'static str>, Option<&'static str>);

const STOP: &str = "/v1/sessions/s/stop";

/// A key that nobody has made.
fn no_key() -> String {
    format!("kk_{}", "A".repeat(43))
}

/// Has a client refused for this reason, and returns what its event must have.
fn refuse(scene: &Scene, reason: RefusedFor) -> Fields {
    use RefusedFor::*;
    match reason {
        Connections | Handshake | PlainHttp | Head | Failures | Host | WebPage => at_the_port(scene, reason),
        KeyNeeded | BadKey | KeyExpired | KeyEnded | BadToken | BadSecret | PairingClosed => {
            for_its_key(scene, reason)
        }
        Role | Session | Agent | UnknownPeer | WeakerThanParent | NoRule => for_its_rights(scene, reason),
    }
}

/// Has a client refused before anything looks at what it shows.
fn at_the_port(scene: &Scene, reason: RefusedFor) -> Fields {
    use RefusedFor::*;
    let daemon = &scene.daemon;
    match reason {
        Connections => {
            let connect = |_| tcp_from([127, 0, 7, 1], address(daemon));
            let _held: Vec<_> = (0..8).map(connect).collect();
            until("one of them is put out", || {
                refusals(daemon).iter().find(|one| one.reason == reason).map(drop)
            });
            (Some(1), None, None, None)
        }
        Handshake => {
            let mut stream = tcp_from([127, 0, 7, 2], address(daemon));
            stream.write_all(b"\x16\x03\x01\x00\x05evil-words").unwrap();
            rest(&mut stream);
            (Some(2), None, None, None)
        }
        PlainHttp => {
            let mut stream = tcp_from([127, 0, 7, 3], address(daemon));
            stream.write_all(get("/evil-words", "").as_bytes()).unwrap();
            rest(&mut stream);
            (Some(3), None, None, None)
        }
        Head => {
            assert_eq!(status(&scene.from(4, &get("/evil-words", "Transfer-Encoding: chunked\r\n"))), 411);
            (Some(4), None, None, None)
        }
        Failures => {
            // Wrong tokens: the place of wrong keys is for the next client.
            let guess = || status(&scene.from(5, &get(STOP, "Authorization: Bearer evil-words\r\n")));
            let tries: Vec<u16> = (0..11).map(|_| guess()).collect();
            assert_eq!(tries[9..], [401, 429]);
            (Some(5), None, None, None)
        }
        Host => {
            let request = get("/v1/manager", "").replace("127.0.0.1", "evil-words.example");
            assert_eq!(status(&scene.from(6, &request)), 421);
            (Some(6), None, None, None)
        }
        WebPage => {
            assert_eq!(status(&scene.from(7, &get("/v1/manager", "Origin: https://evil-words\r\n"))), 403);
            (Some(7), None, None, None)
        }
        other => panic!("{other:?} is not caused here"),
    }
}

/// Has a client refused for the key, token or secret that it shows.
fn for_its_key(scene: &Scene, reason: RefusedFor) -> Fields {
    use RefusedFor::*;
    let daemon = &scene.daemon;
    match reason {
        KeyNeeded => {
            assert_eq!(status(&scene.from(8, &get("/v1/sessions/evil-words", ""))), 401);
            (Some(8), None, None, Some("GET /v1/sessions/{id}"))
        }
        BadKey => {
            // One key that never was one, and one that was revoked.
            let (key, info) = scene.key_that_ends("revoked", "1h");
            daemon.ok(&["key", "revoke", &info.id.to_string()]);
            assert_eq!(scene.with_key(9, &get("/v1/manager", ""), &key), 401);
            (Some(9), None, None, Some("GET /v1/manager"))
        }
        KeyExpired => {
            let (key, info) = scene.key_that_ends("short", "1s");
            until("it has expired", || scene.is_expired(&info));
            assert_eq!(scene.with_key(10, &get("/v1/manager", ""), &key), 401);
            (Some(10), Some(info.id.to_string()), None, Some("GET /v1/manager"))
        }
        KeyEnded => {
            let (key, info) = scene.key_that_ends("ends", "2s");
            let wait = get("/v1/sessions/s/wait?until=stopped", "");
            assert_eq!(scene.with_key(11, &wait, &key), 401);
            (Some(11), Some(info.id.to_string()), None, Some("GET /v1/sessions/{id}/wait"))
        }
        BadToken => {
            let request = get(STOP, "Authorization: Bearer evil-words\r\n").replacen("GET ", "POST ", 1);
            assert_eq!(status(&scene.socket(&request)), 401);
            (None, None, None, Some("POST /v1/sessions/{id}/stop"))
        }
        BadSecret => {
            let begun =
                scene.socket(&post("/v1/pairings", "", &json!({ "role": "viewer", "sessions": "all" })));
            assert_eq!(status(&begun), 201, "{begun}");
            let begun: StartedPairing =
                serde_json::from_str(begun.split_once("\r\n\r\n").unwrap().1).unwrap();
            let guess = json!({ "name": EVIL, "secret": "AAAA-AAAA-AAAA-AAAA", "key": no_key() });
            assert_ne!(begun.secret, "AAAA-AAAA-AAAA-AAAA");
            assert_eq!(status(&scene.from(13, &post("/v1/pair", "", &guess))), 401);
            (Some(13), None, None, Some("POST /v1/pair"))
        }
        PairingClosed => {
            scene.socket(&get("/v1/pairings", "").replacen("GET ", "DELETE ", 1));
            let guess = json!({ "name": EVIL, "secret": "AAAA-AAAA-AAAA-AAAA", "key": no_key() });
            assert_eq!(status(&scene.from(14, &post("/v1/pair", "", &guess))), 403);
            (Some(14), None, None, Some("POST /v1/pair"))
        }
        other => panic!("{other:?} is not caused here"),
    }
}

/// Has a client refused that is known, or whose process is looked at.
fn for_its_rights(scene: &Scene, reason: RefusedFor) -> Fields {
    use RefusedFor::*;
    let daemon = &scene.daemon;
    match reason {
        Role => {
            let request = get(STOP, "").replacen("GET ", "POST ", 1);
            assert_eq!(scene.with_key(15, &request, &scene.viewer), 403);
            (Some(15), Some("key-1".into()), None, Some("POST /v1/sessions/{id}/stop"))
        }
        Session => {
            assert_eq!(scene.with_key(16, &get("/v1/sessions/other", ""), &scene.some), 404);
            (Some(16), Some("key-2".into()), None, Some("GET /v1/sessions/{id}"))
        }
        Agent => {
            let socket = daemon.socket().display().to_string();
            let answer = format!(
                "curl -s --unix-socket {socket} -H 'content-type: application/json' -d '{{\"option_id\":\"evil-words\"}}' \
                 http://kennel/v1/sessions/s/permissions/permission-1"
            );
            let said = daemon.ok(&["send", "s", &answer]);
            assert!(said.contains("forbidden"), "{said}");
            (None, None, Some("s"), Some("POST /v1/sessions/{id}/permissions/{permission}"))
        }
        UnknownPeer => {
            // Its environment names a session that there is not.
            let marker = daemon.ok(&["send", "s", "echo $KENNEL_SESSION"]);
            let marker = marker.trim().replacen("/s/", "/gone/", 1);
            let mut asks = std::process::Command::new("curl");
            asks.env("KENNEL_SESSION", marker).args(["-s", "--unix-socket"]).arg(daemon.socket());
            asks.arg("http://kennel/v1/manager").stdout(Stdio::piped()).stderr(Stdio::piped());
            let answer = finish(asks.spawn().unwrap());
            assert!(answer.stdout.contains("forbidden"), "{answer:?}");
            (None, None, None, Some("GET /v1/manager"))
        }
        WeakerThanParent => {
            let named = scene.bearer.replace("Bearer ", "Bearer s:");
            let more = json!({ "task": EVIL, "opts": { "permissions": "allow" } });
            assert_eq!(status(&scene.from(18, &post("/v1/subagents", &named, &more))), 403);
            (Some(18), None, Some("s"), Some("POST /v1/subagents"))
        }
        NoRule => {
            let named = scene.bearer.replace("Bearer ", "Bearer s:");
            assert_eq!(status(&scene.from(19, &get("/v1/evil-words", &named))), 403);
            (Some(19), None, Some("s"), None)
        }
        other => panic!("{other:?} is not caused here"),
    }
}

#[test]
fn a_refusal_for_each_reason_is_on_record_with_its_client_and_without_its_words() {
    let scene = Scene::new();
    for reason in RefusedFor::ALL {
        let (from, key, session, operation) = refuse(&scene, *reason);
        let address = from.map(|from| format!("127.0.7.{from}"));
        let found = until(&format!("{} is on record", reason.word()), || {
            let all = refusals(&scene.daemon);
            all.into_iter().find(|one| one.reason == *reason && one.address == address)
        });
        let said = (found.key.map(|key| key.to_string()), found.session.as_ref().map(|id| id.as_str()));
        assert_eq!(said, (key, session), "{found:?}");
        assert_eq!(found.operation.as_deref(), operation, "{found:?}");
    }
    // A web page that asks over the socket.
    assert_eq!(status(&scene.socket(&get("/v1/manager", "Origin: https://evil-words\r\n"))), 403);
    until("it is on record", || {
        refusals(&scene.daemon)
            .into_iter()
            .find(|one| one.reason == RefusedFor::WebPage && one.address.is_none())
    });
    let record = scene.daemon.ok(&["events", "--json"]);
    let record: Vec<&str> = record.lines().filter(|line| line.contains("access.refused")).collect();
    assert!(record.len() >= RefusedFor::ALL.len());
    let token = scene.bearer.trim().rsplit(' ').next().unwrap();
    for secret in [EVIL, "kk_", token, &scene.viewer, &scene.some, "AAAA"] {
        let line = record.iter().find(|line| line.contains(secret));
        assert_eq!(line, None, "{secret}");
    }
    let people = scene.daemon.ok(&["events"]);
    assert!(
        people.contains("access.refused      role, from 127.0.7.15, key-1, POST /v1/sessions/{id}/stop"),
        "{people}"
    );
    // Whoever reaches some sessions does not read whom the daemon has refused.
    assert_eq!(scene.with_key(20, &get("/v1/events?follow=false&after=0", ""), &scene.some), 403);
    let own = get(
        "/v1/sessions/s/events?follow=false&after=0",
        &format!("Authorization: Bearer {}\r\n", scene.some),
    );
    let own = scene.from(20, &own);
    assert!(own.contains("session.created") && !own.contains("access.refused"), "{own}");
}

#[test]
fn ten_thousand_refusals_are_few_events_whose_counts_add_up_and_hold_nobody_up() {
    let daemon = daemon("", "");
    daemon.ok(&["start", "--id", "s"]);
    let wrong =
        "GET /v1/sessions/s HTTP/1.1\r\nHost: kennel\r\nAuthorization: Bearer wrong\r\n\r\n".repeat(100);
    for round in 0..100 {
        let mut stream = UnixStream::connect(daemon.socket()).unwrap();
        stream.set_read_timeout(Some(BOUND)).unwrap();
        stream.write_all(wrong.as_bytes()).unwrap();
        let mut answers = String::new();
        while answers.matches("HTTP/1.1 401").count() < 100 {
            answers += &super::read_until(&mut stream, "\"bad_token\"");
        }
        if round % 20 == 0 {
            assert_eq!(daemon.show("s").id.as_str(), "s");
        }
    }
    let before = refusals(&daemon);
    assert!((1..5).contains(&before.len()), "{before:?}");
    assert!(before.iter().map(|one| one.count).sum::<u64>() < 10_000, "most of them wait");
    // The end of the daemon records what waits.
    daemon.ok(&["daemon", "restart"]);
    let after = refusals(&daemon);
    assert!(after.len() <= before.len() + 2, "{after:?}");
    assert!(after.iter().all(|one| one.reason == RefusedFor::BadToken && one.address.is_none()));
    assert_eq!(after.iter().map(|one| one.count).sum::<u64>(), 10_000, "{after:?}");
}

#[test]
fn what_the_api_refuses_to_clients_of_the_port_is_in_one_count() {
    let scene = Scene::new();
    let address = address(&scene.daemon);
    let wrong_key = format!("Authorization: Bearer {}\r\n", no_key());
    for (reason, headers) in [(RefusedFor::BadKey, &*wrong_key), (RefusedFor::KeyNeeded, "")] {
        for _ in 0..4 {
            assert_eq!(status(&super::answer_to(address, &get("/v1/manager", headers))), 401, "{reason:?}");
        }
    }
    assert_eq!(super::refused(&scene.daemon, "key"), 8, "the port's figures have them, too");
    scene.daemon.ok(&["daemon", "restart"]);
    let all = refusals(&scene.daemon);
    for reason in [RefusedFor::BadKey, RefusedFor::KeyNeeded] {
        let of_it = all.iter().filter(|one| one.reason == reason);
        assert_eq!(of_it.map(|one| one.count).sum::<u64>(), 4, "{reason:?}: {all:?}");
    }
    assert_eq!(all.iter().map(|one| one.count).sum::<u64>(), 8, "{all:?}");
}
