//! The routes, asked as a client would, over a manager whose worker is `wc`: it has a pid, listens, and says nothing
//! before its end, so its sessions stay `starting` and their prompts wait.

use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use axum::response::Response;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tower::ServiceExt;

use super::connections::serve;
use super::*;
use crate::config::Connections;

struct Face {
    router: Router,
    manager: SessionManager,
    stop: Stop,
    dir: tempfile::TempDir,
}

impl Face {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let builder =
            SessionManager::builder().state_dir(dir.path().join("state")).worker_path("/usr/bin/wc");
        let manager = builder.start().await.unwrap();
        let stop = Stop::default();
        let router = router(manager.clone(), stop.clone());
        let router = router.layer(axum::Extension(axum::extract::ConnectInfo(crate::api::peer::Peer::own())));
        Self { router, manager, stop, dir }
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
    assert_eq!(face.ask("POST", prompts, json!({"text": "x"})).await.1["code"], "session_stopped");
    assert_eq!(face.ask("DELETE", "/v1/sessions/session-1", Value::Null).await.0, 204);
    assert_eq!(face.ask("DELETE", "/v1/sessions/session-2?force=true", Value::Null).await.0, 204);
    let (status, retired) = face.ask("POST", "/v1/sessions", json!({"id": "session-1"})).await;
    assert_eq!((status, &retired["code"]), (409, &json!("id_retired")));
    face.end().await;
}

#[tokio::test]
async fn bad_input_is_refused_with_a_code_and_changes_nothing() {
    let face = Face::new().await;
    face.ask("POST", "/v1/sessions", Value::Null).await;
    let before = face.manager.info().await.unwrap().last_event_id;
    let long = "x".repeat(crate::MAX_PROMPT + 1);
    let s = "/v1/sessions";
    let table = [
        ("GET", "/v1/sessions/no-such", Value::Null, 404, "no_such_session"),
        ("GET", "/v1/sessions/..", Value::Null, 400, "invalid_id"),
        ("GET", "/v1/sessions/../../etc/passwd", Value::Null, 400, "invalid_id"),
        ("GET", "/v1/sessions/a%2Fb", Value::Null, 400, "invalid_id"),
        ("GET", "/v1/sessions/%2e%2e/log", Value::Null, 400, "invalid_id"),
        ("GET", "/v1/sessions/%ff", Value::Null, 400, "invalid_id"),
        ("GET", "/v1/sessions/a%1b%5b2J", Value::Null, 400, "invalid_id"),
        ("GET", "/v1/sessions/", Value::Null, 400, "invalid_id"),
        ("GET", "/v1/sessions/session-1/nothing", Value::Null, 404, "no_such_route"),
        ("GET", "/v2/sessions", Value::Null, 404, "no_such_route"),
        ("PUT", s, Value::Null, 405, "method_not_allowed"),
        ("POST", s, json!({"titel": "t"}), 400, "invalid_body"),
        ("POST", s, json!({"title": 5}), 400, "invalid_body"),
        ("POST", s, json!([]), 400, "invalid_body"),
        ("POST", s, json!({"id": "a/b"}), 400, "invalid_id"),
        ("POST", s, json!({"id": "session-1"}), 409, "id_taken"),
        ("POST", s, json!({"agent": "nobody"}), 409, "no_such_agent"),
        ("POST", s, json!({"workdir": "/no/such/directory"}), 409, "no_such_workdir"),
        ("POST", s, json!({"workdir": "relative"}), 400, "workdir_not_absolute"),
        ("PUT", "/v1/sessions/a", json!({"id": "b"}), 409, "invalid_id"),
        ("PUT", "/v1/sessions/a?timeout_ms=soon", Value::Null, 400, "invalid_parameter"),
        ("POST", "/v1/sessions/session-1/prompts", json!({"text": " "}), 400, "empty_prompt"),
        ("POST", "/v1/sessions/session-1/prompts", json!({"text": long}), 413, "prompt_too_large"),
        ("POST", "/v1/sessions/session-1/prompts", json!({"text": "a\0b"}), 400, "invalid_prompt"),
        (
            "POST",
            "/v1/sessions/session-1/prompts",
            json!({"text": "a", "when_busy": "x"}),
            400,
            "invalid_body",
        ),
        ("POST", "/v1/sessions/session-1/prompts", Value::Null, 415, "unsupported_media_type"),
        ("POST", "/v1/sessions/session-1/stop", json!({"orphans": "keep"}), 400, "unexpected_body"),
        ("POST", "/v1/sessions/session-1/stop?orphans=eat", Value::Null, 400, "invalid_parameter"),
        ("PATCH", "/v1/sessions/session-1/queue/prompt-x", json!({"text": "a"}), 400, "invalid_id"),
        ("DELETE", "/v1/sessions/session-1/queue/prompt-999", Value::Null, 404, "no_such_prompt"),
        ("POST", "/v1/prompts/prompt-999/resolve", json!({"action": "drop"}), 409, "not_interrupted"),
        ("POST", "/v1/pids/x/stop", Value::Null, 400, "invalid_id"),
        ("POST", "/v1/pids/1/stop", Value::Null, 404, "no_such_pid"),
        ("GET", "/v1/sessions/session-1/wait", Value::Null, 400, "invalid_parameter"),
        ("GET", "/v1/sessions/session-1/wait?until=dawn", Value::Null, 400, "invalid_parameter"),
        ("GET", "/v1/sessions/session-1/wait?until=idle&timeout_ms=1", Value::Null, 504, "timeout"),
        ("GET", "/v1/sessions/session-1/log?tail=1&tail=2", Value::Null, 400, "invalid_parameter"),
        ("GET", "/v1/sessions/session-1/log?tail=100001", Value::Null, 400, "invalid_parameter"),
        ("GET", "/v1/sessions/no-such/log", Value::Null, 404, "no_such_session"),
        ("GET", "/v1/sessions/no-such/events", Value::Null, 404, "no_such_session"),
        ("GET", "/v1/sessions/no-such/token", Value::Null, 404, "no_such_session"),
        ("GET", "/v1/events?after=99999999999999", Value::Null, 409, "invalid_cursor"),
        ("GET", "/v1/events?after=9223372036854775808", Value::Null, 400, "invalid_cursor"),
        (
            "GET",
            "/v1/sessions/session-1/wait?until=idle&timeout_ms=31536000001",
            Value::Null,
            400,
            "invalid_parameter",
        ),
        (
            "POST",
            "/v1/manager/prune",
            json!({"older_than_ms": 9_223_372_036_854_775_808_u64}),
            400,
            "invalid_body",
        ),
        (
            "POST",
            "/v1/prompts/prompt-9999999999999999999/resolve",
            json!({"action": "drop"}),
            400,
            "invalid_id",
        ),
        ("GET", "/v1/events?after=-1", Value::Null, 400, "invalid_cursor"),
        ("GET", "/v1/lookup", Value::Null, 400, "invalid_parameter"),
        ("GET", "/v1/lookup?id=a&pid=1", Value::Null, 400, "invalid_parameter"),
        ("GET", "/v1/lookup?id=sesion-1", Value::Null, 404, "no_such_session"),
        ("GET", "/v1/lookup?dir=relative", Value::Null, 400, "workdir_not_absolute"),
        ("POST", "/v1/bootstrap", json!({"workdir": "relative"}), 400, "workdir_not_absolute"),
        ("POST", "/v1/bootstrap", json!({"workdir": "/", "opts": {"id": "x"}}), 409, "invalid_id"),
        (
            "POST",
            "/v1/bootstrap",
            json!({"workdir": "/", "opts": {"workdir": "/tmp"}}),
            409,
            "invalid_workdir",
        ),
        ("GET", "/v1/subagents?parent=no-such", Value::Null, 404, "no_such_session"),
        ("POST", "/v1/subagents", json!({"task": ""}), 400, "empty_prompt"),
        ("GET", "/v1/sessions/session-1/attach?offers=fs.read,moon", Value::Null, 400, "invalid_parameter"),
        ("POST", "/v1/sessions/session-1/calls/call-1", json!({"result": {}}), 409, "not_driver"),
        ("POST", "/v1/sessions/session-1/calls/prompt-1", json!({"result": {}}), 400, "invalid_id"),
        ("POST", "/v1/sessions/session-1/calls/call-1", json!({}), 400, "invalid_answer"),
        ("POST", "/v1/sessions/session-1/calls/call-1", json!({"error": {"code": 1}}), 400, "invalid_answer"),
        (
            "POST",
            "/v1/sessions",
            json!({"mcp_servers": [{"name": "a", "command": "/bin/sh"}]}),
            409,
            "mcp_servers_refused",
        ),
    ];
    for (method, uri, body, status, code) in table {
        let (found, problem) = face.ask(method, uri, body).await;
        assert_eq!((found, &problem["code"]), (status, &json!(code)), "{method} {uri}: {problem}");
        assert!(!problem.to_string().contains("\\u001b"), "{problem}");
    }
    let raw = |content_type: &str, body: &[u8]| {
        let request = Request::post("/v1/sessions/session-1/prompts").header("content-type", content_type);
        request.body(Body::from(body.to_vec())).unwrap()
    };
    for (request, status, code) in [
        (raw("application/json", b"{\"text\":\"\xff\"}"), 400, "invalid_utf8"),
        (raw("application/json", b"{\"text\":"), 400, "invalid_json"),
        (raw("text/plain", b"{\"text\":\"a\"}"), 415, "unsupported_media_type"),
        (raw("application/json", &vec![b' '; input::MAX_LONG + 1]), 413, "body_too_large"),
    ] {
        let (found, problem) = read(face.send(request).await).await;
        assert_eq!((found, &problem["code"]), (status, &json!(code)), "{problem}");
    }
    let keyed = [("idempotency-key", "with space")];
    assert_eq!(face.ask_with("POST", s, json!({}), &keyed).await.1["code"], "invalid_idempotency_key");
    assert_eq!(face.manager.info().await.unwrap().last_event_id, before, "something was changed");
    face.end().await;
}

#[tokio::test]
async fn every_route_refuses_parameters_that_it_does_not_know() {
    let face = Face::new().await;
    let api: Value = serde_json::from_str(&openapi_json()).unwrap();
    for (path, methods) in api["paths"].as_object().unwrap() {
        let path = path.replace("{id}", "session-1").replace("{prompt}", "prompt-1").replace("{pid}", "1");
        let path = path.replace("{permission}", "permission-1").replace("{call}", "call-1");
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
async fn a_token_opens_its_session_and_nothing_else() {
    let face = Face::new().await;
    face.ask("POST", "/v1/sessions", Value::Null).await;
    face.ask("POST", "/v1/sessions", Value::Null).await;
    let response = face.send(Request::get("/v1/sessions/session-1/token").body(Body::empty()).unwrap()).await;
    assert_eq!(response.headers()["cache-control"], "no-store");
    let token = read(response).await.1["token"].as_str().unwrap().to_owned();
    let right = format!("Bearer {token}");
    let wrong = format!("Bearer {}{}", if token.starts_with('A') { 'B' } else { 'A' }, &token[1..]);
    for (uri, authorization, status, code) in [
        ("/v1/sessions/session-1", &right, 200, None),
        ("/v1/sessions/session-1/queue", &right, 200, None),
        ("/v1/sessions/session-1", &wrong, 401, Some("bad_token")),
        ("/v1/sessions/session-2", &right, 401, Some("bad_token")),
        ("/v1/sessions/no-such", &right, 401, Some("bad_token")),
        ("/v1/sessions", &right, 403, Some("forbidden")),
        ("/v1/events", &right, 403, Some("forbidden")),
        ("/v1/manager", &right, 403, Some("forbidden")),
        ("/v1/lookup?id=session-1", &right, 403, Some("forbidden")),
        ("/v1/sessions/session-1/nothing", &right, 403, Some("forbidden")),
        ("/v1/sessions/..", &right, 403, Some("forbidden")),
    ] {
        let (found, body) = face.ask_with("GET", uri, Value::Null, &[("authorization", authorization)]).await;
        assert_eq!((found, body["code"].as_str()), (status, code), "{uri}");
    }
    let origin = [("origin", "http://localhost:3000")];
    let (status, problem) = face.ask_with("GET", "/healthz", Value::Null, &origin).await;
    assert_eq!((status, &problem["code"]), (403, &json!("origin_refused")));
    let (_, list) = face.ask("GET", "/v1/sessions", Value::Null).await;
    assert!(!list.to_string().contains(&token), "a list has no tokens");
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
    assert!(face.text("/metrics").await.contains("kennel_event_streams 1\n"));
    face.ask("POST", "/v1/sessions/session-1/pin", Value::Null).await;
    let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
    let text = String::from_utf8(frame.to_vec()).unwrap();
    assert!(ids(&text)[0] > last && text.contains("session.updated"), "{text}");
    drop(body);
    assert!(face.text("/metrics").await.contains("kennel_event_streams 0\n"));

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
async fn a_viewers_token_lets_look_on_and_nothing_else() {
    let face = Face::new().await;
    for id in ["mine", "other"] {
        face.ask("POST", "/v1/sessions", json!({ "id": id })).await;
    }
    let child = json!({ "parent": "mine", "task": "true", "opts": { "id": "child" } });
    assert_eq!(face.ask("POST", "/v1/subagents", child).await.0, 201);
    let (_, body) = face.ask("GET", "/v1/sessions/mine/token?role=viewer", Value::Null).await;
    let (_, driver) = face.ask("GET", "/v1/sessions/mine/token?role=driver", Value::Null).await;
    assert_eq!(driver, face.ask("GET", "/v1/sessions/mine/token", Value::Null).await.1);
    assert_ne!(body, driver);
    let token = body["token"].as_str().unwrap();
    let forms = [format!("Bearer {token}"), format!("Bearer mine:{token}")];
    for (method, uri, status) in [
        ("GET", "/v1/sessions/mine", 200),
        ("GET", "/v1/sessions/mine/queue", 200),
        ("GET", "/v1/sessions/mine/permissions", 200),
        ("GET", "/v1/sessions/mine/log", 200),
        ("GET", "/v1/sessions/mine/events?follow=false", 200),
        // With it one could drive.
        ("GET", "/v1/sessions/mine/token", 403),
        ("GET", "/v1/sessions/mine/attach?role=driver", 403),
        ("GET", "/v1/sessions/mine/attach?takeover=true", 403),
        ("POST", "/v1/sessions/mine/prompts", 403),
        ("POST", "/v1/sessions/mine/stop", 403),
        ("POST", "/v1/sessions/mine/abort", 403),
        ("POST", "/v1/sessions/mine/permissions/permission-1", 403),
        ("DELETE", "/v1/sessions/mine", 403),
        ("GET", "/v1/sessions", 403),
        ("GET", "/v1/subagents", 403),
    ] {
        for form in &forms {
            let (found, body) = face.ask_with(method, uri, Value::Null, &[("authorization", form)]).await;
            assert_eq!(found, status, "{method} {uri} {body}");
        }
    }
    for uri in ["/v1/sessions/other", "/v1/sessions/child"] {
        for (form, status) in forms.iter().zip([401, 403]) {
            let (found, _) = face.ask_with("GET", uri, Value::Null, &[("authorization", form)]).await;
            assert_eq!(found, status, "{uri}");
        }
    }
    let looks = Request::get("/v1/sessions/mine/attach").header("authorization", &forms[0]);
    assert_eq!(face.send(looks.body(Body::empty()).unwrap()).await.status(), 200);
    face.end().await;
}

#[tokio::test]
async fn a_token_with_its_sessions_id_reaches_the_sub_agents_below_and_no_others() {
    let face = Face::new().await;
    for id in ["boss", "other"] {
        face.ask("POST", "/v1/sessions", json!({ "id": id })).await;
    }
    let token = async |id: &str| {
        let (_, body) = face.ask("GET", &format!("/v1/sessions/{id}/token"), Value::Null).await;
        format!("Bearer {id}:{}", body["token"].as_str().unwrap())
    };
    let (boss, other) = (token("boss").await, token("other").await);
    let as_boss = [("authorization", boss.as_str())];
    let (status, child) = face
        .ask_with("POST", "/v1/subagents", json!({ "task": "x", "opts": { "id": "child" } }), &as_boss)
        .await;
    assert_eq!((status, &child["parent_session_id"]), (201, &json!("boss")), "{child}");
    face.ask("POST", "/v1/subagents", json!({ "task": "x", "parent": "other" })).await;
    let (_, own) = face.ask_with("GET", "/v1/subagents", Value::Null, &as_boss).await;
    assert_eq!(own.as_array().unwrap().len(), 1, "{own}");
    let forged = boss.replacen("boss:", "other:", 1);
    for (method, uri, authorization, status) in [
        ("GET", "/v1/sessions/child", &boss, 200),
        ("GET", "/v1/sessions/child/result", &boss, 200),
        ("GET", "/v1/sessions/child", &other, 403),
        ("GET", "/v1/sessions/child/result", &other, 403),
        ("GET", "/v1/sessions/boss", &other, 403),
        ("DELETE", "/v1/sessions/child?force=true", &boss, 403),
        ("POST", "/v1/sessions/child/pin", &boss, 403),
        ("GET", "/v1/sessions/child/token", &boss, 403),
        ("GET", "/v1/sessions", &boss, 403),
        ("GET", "/v1/sessions/boss", &forged, 401),
        ("GET", "/v1/sessions/other", &forged, 401),
        ("GET", "/v1/subagents", &forged, 401),
    ] {
        let (found, body) =
            face.ask_with(method, uri, Value::Null, &[("authorization", authorization)]).await;
        assert_eq!(found, status, "{method} {uri} {authorization}: {body}");
    }
    face.end().await;
}

#[tokio::test]
async fn a_token_makes_no_session_in_the_place_of_one_that_is_gone() {
    let face = Face::new().await;
    let id: SessionId = "gone".parse().unwrap();
    // As a request that was let in just before the session was removed.
    let caller = auth::Caller { session: Some(id.clone()), role: protocol::api::Role::Driver };
    let openapi = String::new().into();
    let app =
        App { manager: face.manager.clone(), stop: face.stop.clone(), streams: Default::default(), openapi };
    let (router, _) = routes().split_for_parts();
    let router = router.layer(axum::Extension(caller)).with_state(app);
    let request = Request::put("/v1/sessions/gone").body(Body::empty()).unwrap();
    let (status, problem) = read(router.oneshot(request).await.unwrap()).await;
    assert_eq!((status, &problem["code"]), (404, &json!("no_such_session")));
    assert_eq!(face.manager.list_sessions().await.unwrap(), []);
    face.end().await;
}

#[tokio::test]
async fn nobody_is_believed_where_it_is_not_known_who_has_connected() {
    let face = Face::new().await;
    let router = router(face.manager.clone(), face.stop.clone());
    let request = Request::get("/v1/sessions").body(Body::empty()).unwrap();
    let (status, problem) = read(router.oneshot(request).await.unwrap()).await;
    assert_eq!((status, &problem["code"]), (403, &json!("forbidden")));
    face.end().await;
}
