//! Bad requests: each is refused with its code, and nothing changes.

use super::*;

const SESSIONS: &str = "/v1/sessions";

/// Method, path, body, and the status and code of the answer.
type Bad = (&'static str, &'static str, Value, u16, &'static str);

fn of_sessions() -> Vec<Bad> {
    vec![
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
        ("PUT", SESSIONS, Value::Null, 405, "method_not_allowed"),
        ("POST", SESSIONS, json!({"titel": "t"}), 400, "invalid_body"),
        ("POST", SESSIONS, json!({"title": 5}), 400, "invalid_body"),
        ("POST", SESSIONS, json!([]), 400, "invalid_body"),
        ("POST", SESSIONS, json!({"id": "a/b"}), 400, "invalid_id"),
        ("POST", SESSIONS, json!({"id": "session-1"}), 409, "id_taken"),
        ("POST", SESSIONS, json!({"agent": "nobody"}), 409, "no_such_agent"),
        ("POST", SESSIONS, json!({"workdir": "/no/such/directory"}), 409, "no_such_workdir"),
        ("POST", SESSIONS, json!({"workdir": "relative"}), 400, "workdir_not_absolute"),
    ]
}

fn of_prompts() -> Vec<Bad> {
    vec![
        ("PUT", "/v1/sessions/a", json!({"id": "b"}), 409, "invalid_id"),
        ("PUT", "/v1/sessions/a?timeout_ms=soon", Value::Null, 400, "invalid_parameter"),
        ("POST", "/v1/sessions/session-1/prompts", json!({"text": " "}), 400, "empty_prompt"),
        (
            "POST",
            "/v1/sessions/session-1/prompts",
            json!({"text": "x".repeat(crate::MAX_PROMPT + 1)}),
            413,
            "prompt_too_large",
        ),
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
    ]
}

fn of_looks() -> Vec<Bad> {
    vec![
        ("POST", "/v1/pids/x/stop", Value::Null, 400, "invalid_id"),
        ("POST", "/v1/pids/1/stop", Value::Null, 404, "no_such_pid"),
        ("GET", "/v1/sessions/session-1/wait", Value::Null, 400, "invalid_parameter"),
        ("GET", "/v1/sessions/session-1/wait?until=dawn", Value::Null, 400, "invalid_parameter"),
        ("GET", "/v1/sessions/session-1/wait?until=idle&timeout_ms=1", Value::Null, 504, "timeout"),
        ("GET", "/v1/sessions/session-1/log?tail=1&tail=2", Value::Null, 400, "invalid_parameter"),
        ("GET", "/v1/sessions/session-1/log?tail=100001", Value::Null, 400, "invalid_parameter"),
        ("GET", "/v1/search", Value::Null, 400, "invalid_parameter"),
        ("GET", "/v1/search?q=", Value::Null, 400, "invalid_query"),
        ("GET", "/v1/search?q=%22%20OR%20NEAR(", Value::Null, 400, "invalid_query"),
        ("GET", "/v1/search?q=a%00b", Value::Null, 400, "invalid_query"),
        ("GET", "/v1/search?q=word&limit=0", Value::Null, 400, "invalid_parameter"),
        ("GET", "/v1/search?q=word&limit=201", Value::Null, 400, "invalid_parameter"),
        ("GET", "/v1/search?q=word&kind=dream", Value::Null, 400, "invalid_parameter"),
        ("GET", "/v1/search?q=word&since=dawn", Value::Null, 400, "invalid_parameter"),
        ("GET", "/v1/search?q=word&session=..", Value::Null, 400, "invalid_id"),
        ("GET", "/v1/search?q=word&session=no-such", Value::Null, 404, "no_such_session"),
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
        ("POST", "/v1/manager/prune", json!({"max_bytes": 16_777_215}), 400, "invalid_body"),
        ("POST", "/v1/manager/prune", json!({"max_bytes": 0}), 400, "invalid_body"),
        (
            "POST",
            "/v1/prompts/prompt-9999999999999999999/resolve",
            json!({"action": "drop"}),
            400,
            "invalid_id",
        ),
    ]
}

fn of_callers() -> Vec<Bad> {
    vec![
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
    ]
}

#[tokio::test]
async fn bad_input_is_refused_with_a_code_and_changes_nothing() {
    let face = Face::new().await;
    face.ask("POST", "/v1/sessions", Value::Null).await;
    let before = face.manager.info().await.unwrap().last_event_id;
    for (method, uri, body, status, code) in [of_sessions(), of_prompts(), of_looks(), of_callers()].concat()
    {
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
        (raw("application/json", &vec![b' '; body::MAX_LONG + 1]), 413, "body_too_large"),
    ] {
        let (found, problem) = read(face.send(request).await).await;
        assert_eq!((found, &problem["code"]), (status, &json!(code)), "{problem}");
    }
    let keyed = [("idempotency-key", "with space")];
    assert_eq!(face.ask_with("POST", SESSIONS, json!({}), &keyed).await.1["code"], "invalid_idempotency_key");
    assert_eq!(face.manager.info().await.unwrap().last_event_id, before, "something was changed");
    face.end().await;
}

#[test]
fn each_code_of_a_refusal_is_recorded_or_is_about_what_is_asked() {
    let recorded = [
        "bad_key",
        "bad_secret",
        "bad_ticket",
        "bad_token",
        "key_ended",
        "key_needed",
        "forbidden",
        "origin_refused",
        "pairing_closed",
        "weaker_than_parent",
    ];
    let about_what_is_asked = ["key_outlasts", "not_its_port", "outside_workdir"];
    let mut known = [&recorded[..], &about_what_is_asked].concat();
    let mut codes: Vec<&str> = codes::MEANINGS
        .iter()
        .filter(|(status, ..)| matches!(status, 401 | 403))
        .map(|(_, code, _)| *code)
        .collect();
    known.sort_unstable();
    codes.sort_unstable();
    assert_eq!(codes, known, "does the journal record it? (`ApiError::denied`)");
}
