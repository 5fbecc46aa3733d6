//! The routes as a client calls them, over a manager whose worker is `wc`. That worker has a pid, listens,
//! and sends nothing before its end. So its sessions stay `starting` and their prompts wait.

use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use axum::response::Response;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tower::ServiceExt;

use super::connections::{Inlet, serve};
use super::peer::Peer;
use super::*;
use crate::Builder;
use crate::config::Connections;
use crate::keys::Keys;

mod keys;
mod log_ins;
mod matrix;
mod refusals;
mod rights;

/// A port for the page of this manager, which nobody serves.
fn web_of(manager: &SessionManager) -> Loopback {
    let keys = Keys::open(manager.state_dir());
    Loopback::new(manager, keys, Inlet::new().0, Stop::default(), Stop::default())
}

struct Face {
    router: Router,
    /// The same without a peer.
    bare: Router,
    keys: Keys,
    manager: SessionManager,
    stop: Stop,
    dir: tempfile::TempDir,
}

impl Face {
    async fn new() -> Self {
        Self::with(tempfile::tempdir().unwrap(), |builder| builder.worker_path("/usr/bin/wc")).await
    }

    /// One over this directory, whose manager is built so.
    async fn with(dir: tempfile::TempDir, build: impl FnOnce(Builder) -> Builder) -> Self {
        let builder = SessionManager::builder().state_dir(dir.path().join("state"));
        let manager = build(builder).start().await.unwrap();
        let stop = Stop::default();
        let keys = Keys::open(manager.state_dir());
        let bare = router(manager.clone(), stop.clone(), keys.clone(), Inlet::new().0, web_of(&manager));
        let router = bare.clone().layer(axum::Extension(axum::extract::ConnectInfo(Peer::own())));
        Self { router, bare, keys, manager, stop, dir }
    }

    /// Status and body of a request of this peer, or of nobody.
    async fn ask_from(
        &self,
        peer: Option<&Peer>,
        (method, uri): (&str, &str),
        body: Value,
        bearer: Option<&str>,
    ) -> (u16, Value) {
        let mut request = Request::builder().method(method).uri(uri);
        if let Some(peer) = peer {
            request = request.extension(axum::extract::ConnectInfo(peer.clone()));
        }
        if let Some(bearer) = bearer {
            request = request.header("authorization", format!("Bearer {bearer}"));
        }
        let body = match body {
            Value::Null => Body::empty(),
            body => {
                request = request.header("content-type", "application/json");
                Body::from(body.to_string())
            }
        };
        let request = request.body(body).unwrap();
        let answer = self.bare.clone().oneshot(request);
        let answer = tokio::time::timeout(Duration::from_secs(20), answer).await;
        read(answer.unwrap_or_else(|_| panic!("{method} {uri}")).unwrap()).await
    }

    async fn send(&self, request: Request<Body>) -> Response {
        let what = format!("{} {}", request.method(), request.uri());
        let answer = self.router.clone().oneshot(request);
        tokio::time::timeout(Duration::from_secs(20), answer).await.expect(&what).unwrap()
    }

    /// Status and body of a request, with a body if it is not null.
    async fn ask(&self, method: &str, uri: &str, body: Value) -> (u16, Value) {
        self.ask_with(method, uri, body, &[]).await
    }

    async fn ask_with(&self, method: &str, uri: &str, body: Value, headers: &[(&str, &str)]) -> (u16, Value) {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = match body {
            Value::Null => Body::empty(),
            body => {
                request = request.header("content-type", "application/json");
                Body::from(body.to_string())
            }
        };
        read(self.send(request.body(body).unwrap()).await).await
    }

    /// The text of a stream that ends.
    async fn text(&self, uri: &str) -> String {
        let response = self.send(Request::get(uri).body(Body::empty()).unwrap()).await;
        String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    /// Waits until `/metrics` has this line: its figures may be a second old.
    async fn has_figure(&self, line: &str) {
        let has = async {
            while !self.text("/metrics").await.lines().any(|found| found == line) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), has)
            .await
            .unwrap_or_else(|_| panic!("no figure: {line}"));
    }

    async fn end(self) {
        self.manager.shutdown().await;
    }
}

/// An error is a problem, by its media type and by its fields, wherever it came from.
async fn read(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let media = response.headers().get("content-type").map(|value| value.to_str().unwrap().to_owned());
    let body = tokio::time::timeout(Duration::from_secs(20), response.into_body().collect());
    let bytes = body.await.expect("a stream where an answer was expected").unwrap().to_bytes();
    let value: Value =
        serde_json::from_slice(&bytes).unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into());
    if status >= 400 {
        assert_eq!(media.as_deref(), Some(problem::MEDIA_TYPE), "{value}");
        assert_eq!((&value["status"], &value["type"]), (&json!(status), &json!("about:blank")));
        assert!(value["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{value}");
    }
    (status, value)
}

#[tokio::test]
async fn a_session_from_its_beginning_to_its_end() {
    let face = Face::new().await;
    let key = [("idempotency-key", "k1")];
    let (status, made) = face.ask_with("POST", "/v1/sessions", json!({"title": "t"}), &key).await;
    assert_eq!(
        (status, &made["id"], &made["status"]),
        (201, &json!("session-1"), &json!("starting")),
        "{made}"
    );
    assert!(made["pid"].is_u64());
    let (status, again) = face.ask_with("POST", "/v1/sessions", json!({"title": "t"}), &key).await;
    assert_eq!((status, &again["id"]), (201, &json!("session-1")));
    let (status, other) = face.ask_with("POST", "/v1/sessions", json!({"title": "u"}), &key).await;
    assert_eq!((status, &other["code"]), (409, &json!("idempotency_key_reused")));
    // No body is a shell in the home directory.
    assert_eq!(face.ask("POST", "/v1/sessions", Value::Null).await.1["id"], "session-2");

    let (_, list) = face.ask("GET", "/v1/sessions", Value::Null).await;
    assert_eq!(list.as_array().unwrap().len(), 2);
    let all = "/v1/sessions?all=";
    assert_eq!(face.ask("GET", &format!("{all}false"), Value::Null).await.1.as_array().unwrap().len(), 2);
    assert_eq!(face.ask("GET", &format!("{all}no"), Value::Null).await.1["code"], "invalid_parameter");
    let found = face.ask("GET", &format!("/v1/lookup?pid={}", made["pid"]), Value::Null).await;
    assert_eq!(found, (200, json!({"id": "session-1"})));
    assert_eq!(face.ask("POST", "/v1/sessions/session-1/pin", Value::Null).await.1["pinned"], true);

    let prompts = "/v1/sessions/session-1/prompts";
    let (status, first) = face.ask("POST", prompts, json!({"text": "one"})).await;
    assert_eq!((status, &first["disposition"]), (202, &json!("queued")), "{first}");
    let second = face.ask("POST", prompts, json!({"text": "two"})).await.1["prompt_id"].clone();
    let queue = "/v1/sessions/session-1/queue";
    let one = format!("{queue}/{}", second.as_str().unwrap());
    assert_eq!(face.ask("PATCH", &one, json!({"text": "2"})).await.0, 204);
    assert_eq!(face.ask("GET", queue, Value::Null).await.1[1]["text"], "2");
    assert_eq!(face.ask("DELETE", &one, Value::Null).await.0, 204);
    assert_eq!(face.ask("DELETE", &one, Value::Null).await.0 / 100, 4);
    assert_eq!(face.ask("DELETE", queue, Value::Null).await, (200, json!({"removed": 1})));
    assert_eq!(face.ask("POST", "/v1/sessions/session-1/abort", Value::Null).await.1["code"], "no_turn");

    let (status, busy) = face.ask("DELETE", "/v1/sessions/session-1", Value::Null).await;
    assert_eq!((status, &busy["code"]), (409, &json!("not_stopped")));
    let (status, stopped) = face.ask("POST", "/v1/sessions/session-1/stop?orphans=keep", Value::Null).await;
    assert_eq!((status, &stopped["status"], &stopped["pid"]), (200, &json!("stopped"), &Value::Null));
    for (query, ids) in [("false", &["session-2"][..]), ("true", &["session-1", "session-2"])] {
        let (_, list) = face.ask("GET", &format!("{all}{query}"), Value::Null).await;
        let listed: Vec<&Value> = list.as_array().unwrap().iter().map(|session| &session["id"]).collect();
        assert_eq!(listed, ids, "{query}");
    }
    assert_eq!(face.ask("POST", prompts, json!({"text": "x"})).await.1["code"], "session_stopped");
    assert_eq!(face.ask("DELETE", "/v1/sessions/session-1", Value::Null).await.0, 204);
    assert_eq!(face.ask("DELETE", "/v1/sessions/session-2?force=true", Value::Null).await.0, 204);
    let (status, retired) = face.ask("POST", "/v1/sessions", json!({"id": "session-1"})).await;
    assert_eq!((status, &retired["code"]), (409, &json!("id_retired")));
    face.end().await;
}

#[tokio::test]
async fn every_route_refuses_parameters_that_it_does_not_know() {
    let face = Face::new().await;
    let api: Value = serde_json::from_str(&openapi_json()).unwrap();
    for (path, methods) in api["paths"].as_object().unwrap() {
        let path = path.replace("{id}", "session-1").replace("{prompt}", "prompt-1").replace("{pid}", "1");
        let path = path.replace("{permission}", "permission-1").replace("{call}", "call-1");
        let path = path.replace("{key}", "key-1").replace("{pairing}", "1").replace("{login}", "login-1");
        for method in methods.as_object().unwrap().keys() {
            let uri = format!("{path}?no_such_parameter=1");
            let (status, problem) = face.ask(&method.to_uppercase(), &uri, Value::Null).await;
            assert_eq!((status, &problem["code"]), (400, &json!("invalid_parameter")), "{method} {uri}");
            assert!(problem["detail"].as_str().unwrap().contains("no_such_parameter"), "{problem}");
        }
    }
    face.end().await;
}

#[tokio::test]
async fn events_come_from_any_cursor_and_leave_with_the_client() {
    let face = Face::new().await;
    face.ask("POST", "/v1/sessions", Value::Null).await;
    face.ask("POST", "/v1/sessions", Value::Null).await;
    let ids = |text: &str| -> Vec<u64> {
        text.lines().filter_map(|line| line.strip_prefix("id: ")?.parse().ok()).collect()
    };
    let all = face.text("/v1/events?after=0&follow=false").await;
    let numbers = ids(&all);
    assert!(numbers.len() >= 3 && numbers.is_sorted_by(|a, b| a < b), "{all}");
    assert!(all.contains("\nevent: session.created\n") || all.contains("event: session.created"), "{all}");
    for line in all.lines().filter_map(|line| line.strip_prefix("data: ")) {
        let event: protocol::event::Event = serde_json::from_str(line).unwrap();
        assert!(numbers.contains(&event.id));
    }
    let some = face.text(&format!("/v1/events?after={}&follow=false", numbers[0])).await;
    assert_eq!(ids(&some), numbers[1..]);
    let last = numbers[numbers.len() - 1];
    assert_eq!(face.text(&format!("/v1/events?after={last}&follow=false")).await, "");
    let subset = ids(&face.text("/v1/sessions/session-2/events?after=0&follow=false").await);
    assert!(!subset.is_empty() && subset.len() < numbers.len());
    assert!(subset.iter().all(|id| numbers.contains(id)));

    // Live, from now on; the header wins over the query.
    let live = Request::get("/v1/events?after=0").header("last-event-id", last.to_string());
    let mut body = face.send(live.body(Body::empty()).unwrap()).await.into_body();
    face.has_figure("kennel_event_streams 1").await;
    face.ask("POST", "/v1/sessions/session-1/pin", Value::Null).await;
    let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
    let text = String::from_utf8(frame.to_vec()).unwrap();
    assert!(ids(&text)[0] > last && text.contains("session.updated"), "{text}");
    drop(body);
    face.has_figure("kennel_event_streams 0").await;

    // A removed session's stream ends.
    let request = Request::get("/v1/sessions/session-2/events").body(Body::empty()).unwrap();
    let body = face.send(request).await.into_body();
    face.ask("DELETE", "/v1/sessions/session-2?force=true", Value::Null).await;
    let rest = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    assert!(rest.contains("event: session.deleted"), "{rest}");

    // All streams end with the manager.
    let request = Request::get("/v1/events").body(Body::empty()).unwrap();
    let body = face.send(request).await.into_body();
    let manager = face.manager.clone();
    face.end().await;
    body.collect().await.unwrap();
    manager.ended().await;
}

#[tokio::test]
async fn the_manager_tells_of_itself_and_ends_when_asked() {
    let face = Face::new().await;
    assert_eq!(face.ask("GET", "/healthz", Value::Null).await, (200, json!("ok")));
    assert_eq!(face.ask("GET", "/readyz", Value::Null).await, (200, json!("ready")));
    let (_, api) = face.ask("GET", "/v1/openapi.json", Value::Null).await;
    assert_eq!(api, serde_json::from_str::<Value>(&openapi_json()).unwrap());
    let (_, info) = face.ask("GET", "/v1/manager", Value::Null).await;
    assert_eq!((&info["state"], &info["pid"]), (&json!("running"), &json!(std::process::id())));
    assert!(!face.stop.is_requested());
    let (status, info) = face.ask("POST", "/v1/manager/stop", Value::Null).await;
    assert_eq!((status, &info["state"]), (202, &json!("stopping")));
    assert_eq!(face.stop.requested().await, Leave::EndAll);
    assert_eq!(face.ask("GET", "/readyz", Value::Null).await.0, 503);
    face.manager.shutdown().await;
    let (status, problem) = face.ask("GET", "/v1/sessions", Value::Null).await;
    assert_eq!((status, &problem["code"]), (503, &json!("manager_stopping")));
}

#[tokio::test]
async fn over_a_socket_a_large_body_is_answered_and_not_hung_up_on() {
    let face = Face::new().await;
    let path = face.dir.path().join("api.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let end = Stop::default();
    let server = tokio::spawn(serve(
        listener,
        tokio::sync::mpsc::channel(1).1,
        Inlet::new().1,
        face.router.clone(),
        Connections::default(),
        {
            let end = end.clone();
            async move { _ = end.requested().await }
        },
    ));
    let mut stream = UnixStream::connect(&path).await.unwrap();
    let body = vec![b'x'; 10 * 1024 * 1024];
    let head = format!(
        "POST /v1/sessions HTTP/1.1\r\nHost: kennel\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&body).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("\"body_too_large\""), "{answer}");
    end.request(Leave::EndAll);
    server.await.unwrap().unwrap();
    face.end().await;
}

#[tokio::test]
async fn a_client_from_another_door_has_no_rights_but_by_what_it_shows() {
    let face = Face::new().await;
    let router = crate::api::router(
        face.manager.clone(),
        face.stop.clone(),
        face.keys.clone(),
        Inlet::new().0,
        web_of(&face.manager),
    );
    let listener = UnixListener::bind(face.dir.path().join("api.sock")).unwrap();
    let (inlet, others) = Inlet::new();
    let moved = tokio::sync::mpsc::channel(1).1;
    let end = Stop::default();
    let ended = end.clone();
    let server = tokio::spawn(serve(listener, moved, others, router, Connections::default(), async move {
        _ = ended.requested().await;
    }));
    for (given, code) in [("", "key_needed"), ("Authorization: Bearer session-9:abc\r\n", "bad_token")] {
        let peer = crate::api::peer::Peer::remote(([192, 0, 2, 7], 4711).into());
        let mut stream = inlet.connect(peer).await.unwrap();
        let head = format!("GET /v1/sessions HTTP/1.1\r\nHost: kennel\r\n{given}Connection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 401 ") && answer.contains(code), "{answer}");
    }
    end.request(Leave::EndAll);
    server.await.unwrap().unwrap();
    face.end().await;
}
