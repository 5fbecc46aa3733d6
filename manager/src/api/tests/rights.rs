//! Tests of rights: tokens of drivers and viewers, sub-agents, unknown peers.

use super::*;

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
    let caller = caller::Caller {
        session: Some(id.clone()),
        role: protocol::api::Role::Driver,
        key: None,
        address: None,
    };
    let keys = Keys::open(face.manager.state_dir());
    let app = App {
        manager: face.manager.clone(),
        stop: face.stop.clone(),
        streams: Default::default(),
        keys,
        inlet: Inlet::new().0,
        fronts: Default::default(),
        followers: Default::default(),
        web: web_of(&face.manager),
    };
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
    let router = router(
        face.manager.clone(),
        face.stop.clone(),
        face.keys.clone(),
        Inlet::new().0,
        web_of(&face.manager),
    );
    let request = Request::get("/v1/sessions").body(Body::empty()).unwrap();
    let (status, problem) = read(router.oneshot(request).await.unwrap()).await;
    assert_eq!((status, &problem["code"]), (403, &json!("forbidden")));
    face.end().await;
}
