//! Tests of keys: their life, lists that show their sessions only, streams that end with them, and pairing.

use protocol::api::KeySessions;

use super::*;
use crate::keys::new_key;

/// Bearer of an admin's key is not needed: the owner asks.
async fn made(face: &Face, role: &str, sessions: Value) -> (String, String) {
    let body = json!({ "name": "laptop", "role": role, "sessions": sessions });
    let (status, made) = face.ask("POST", "/v1/keys", body).await;
    assert_eq!(status, 201, "{made}");
    (made["id"].as_str().unwrap().to_owned(), made["key"].as_str().unwrap().to_owned())
}

fn remote() -> Peer {
    Peer::remote(([192, 0, 2, 7], 4711).into())
}

async fn as_key(face: &Face, ask: (&str, &str), body: Value, key: &str) -> (u16, Value) {
    face.ask_from(Some(&remote()), ask, body, Some(key)).await
}

fn ids(list: &Value, name: &str) -> Vec<String> {
    let mut ids: Vec<String> =
        list.as_array().unwrap().iter().map(|row| row[name].as_str().unwrap().to_owned()).collect();
    ids.sort();
    ids
}

#[tokio::test]
async fn a_key_is_made_listed_rotated_and_revoked() {
    let face = Face::new().await;
    let (id, key) = made(&face, "driver", json!("all")).await;
    assert_eq!((id.as_str(), key.len()), ("key-1", 46));
    assert_eq!(as_key(&face, ("GET", "/v1/sessions"), Value::Null, &key).await.0, 200);
    // Over the socket it gives its rights and no more.
    let over_socket = [("authorization", &*format!("Bearer {key}"))];
    assert_eq!(face.ask_with("GET", "/v1/keys", Value::Null, &over_socket).await.0, 403);
    let (_, list) = face.ask("GET", "/v1/keys", Value::Null).await;
    let row = &list[0];
    assert_eq!(
        (&row["id"], &row["role"], &row["sessions"]),
        (&json!("key-1"), &json!("driver"), &json!("all"))
    );
    assert_eq!((&row["last_used_from"], &row["expired"]), (&json!("socket"), &json!(false)));
    assert!(!list.to_string().contains(&key[3..]) && row["key"].is_null(), "{list}");
    let (status, rotated) = face.ask("POST", "/v1/keys/key-1/rotate", Value::Null).await;
    let new = rotated["key"].as_str().unwrap();
    assert_eq!((status, &rotated["id"]), (200, &json!("key-1")));
    let (status, problem) = as_key(&face, ("GET", "/v1/sessions"), Value::Null, &key).await;
    assert_eq!((status, &problem["code"]), (401, &json!("bad_key")));
    assert_eq!(as_key(&face, ("GET", "/v1/sessions"), Value::Null, new).await.0, 200);
    assert_eq!(face.ask("DELETE", "/v1/keys/key-1", Value::Null).await.0, 204);
    assert_eq!(as_key(&face, ("GET", "/v1/sessions"), Value::Null, new).await.1["code"], "bad_key");
    assert_eq!(face.ask("DELETE", "/v1/keys/key-1", Value::Null).await.1["code"], "no_such_key");
    assert_eq!(face.ask("POST", "/v1/keys/key-1/rotate", Value::Null).await.1["code"], "no_such_key");
    assert_eq!(face.ask("DELETE", "/v1/keys/1", Value::Null).await.1["code"], "invalid_id");
    for wrong in ["kk_", &key[..45], &format!("{key}A")] {
        assert_eq!(as_key(&face, ("GET", "/v1/sessions"), Value::Null, wrong).await.1["code"], "bad_key");
    }
    // A key is no session's token.
    let token = format!("session-1:{key}");
    assert_eq!(as_key(&face, ("GET", "/v1/sessions"), Value::Null, &token).await.1["code"], "bad_token");
    face.end().await;
}

#[tokio::test]
async fn an_admins_key_gives_no_more_than_it_is() {
    let face = Face::new().await;
    let soon = "2999-01-01T00:00:00.000Z";
    let body = json!({ "name": "a", "role": "admin", "sessions": "all", "expires_at": soon });
    let key = face.ask("POST", "/v1/keys", body.clone()).await.1["key"].as_str().unwrap().to_owned();
    let (eternal, _) = made(&face, "viewer", json!("own")).await;
    for (expires_at, status) in [(json!(soon), 201), (Value::Null, 403), (json!("2999-01-01T00:00:01Z"), 403)]
    {
        for path in ["/v1/keys", "/v1/pairings"] {
            let mut body = body.clone();
            body["expires_at"] = expires_at.clone();
            let (found, answer) = as_key(&face, ("POST", path), body, &key).await;
            assert_eq!(found, status, "{path} {expires_at}: {answer}");
        }
    }
    for (id, code) in [(&*eternal, "key_outlasts"), ("key-1", "forbidden")] {
        let rotate = format!("/v1/keys/{id}/rotate");
        assert_eq!(as_key(&face, ("POST", &rotate), Value::Null, &key).await.1["code"], code);
    }
    // A key that revokes itself is told so, or breaks off; either way it is gone.
    let _ = as_key(&face, ("DELETE", "/v1/keys/key-1"), Value::Null, &key).await;
    assert_eq!(as_key(&face, ("GET", "/v1/keys"), Value::Null, &key).await.1["code"], "bad_key");
    for sessions in [json!("own"), json!({ "ids": ["session-1"] })] {
        let body = json!({ "name": "a", "role": "admin", "sessions": sessions });
        assert_eq!(face.ask("POST", "/v1/keys", body).await.1["code"], "invalid_key");
    }
    face.end().await;
}

#[tokio::test]
async fn lists_show_a_key_its_sessions_only() {
    let face = Face::new().await;
    for id in ["foreign", "listed"] {
        let labels = json!({ "kind": id, "team": "web" });
        face.ask("POST", "/v1/sessions", json!({ "id": id, "labels": labels })).await;
        let child = json!({ "parent": id, "task": "true", "opts": { "id": format!("below-{id}") } });
        assert_eq!(face.ask("POST", "/v1/subagents", child).await.0, 201);
    }
    let (own_id, own) = made(&face, "driver", json!("own")).await;
    let (_, some) = made(&face, "driver", json!({ "ids": ["listed", "later"] })).await;
    let labels = json!({ "kind": "listed", "team": "web" });
    let (_, labelled) = made(&face, "driver", json!({ "labels": labels })).await;
    let (_, all) = made(&face, "viewer", json!("all")).await;
    // What a key starts is its own, and so is what is started below that, whoever does it.
    let ask = as_key(&face, ("POST", "/v1/sessions"), json!({ "id": "mine" }), &own).await;
    assert_eq!((ask.0, ask.1["started_by"].as_str()), (201, Some(&*own_id)), "{}", ask.1);
    let child = json!({ "parent": "mine", "task": "true", "opts": { "id": "below-mine" } });
    assert_eq!(face.ask("POST", "/v1/subagents", child).await.0, 201);
    let events = face.text("/v1/sessions/below-mine/events?after=0&follow=false").await;
    assert!(events.contains(&format!("\"started_by\":\"{own_id}\"")), "{events}");
    for (key, expected) in [
        (&own, &["below-mine", "mine"][..]),
        (&some, &["below-listed", "listed"]),
        (&labelled, &["below-listed", "listed"]),
        (&all, &["below-foreign", "below-listed", "below-mine", "foreign", "listed", "mine"]),
    ] {
        let list = as_key(&face, ("GET", "/v1/sessions"), Value::Null, key).await.1;
        assert_eq!(ids(&list, "id"), expected);
        let below: Vec<&str> = expected.iter().copied().filter(|id| id.starts_with("below")).collect();
        let list = as_key(&face, ("GET", "/v1/subagents"), Value::Null, key).await.1;
        assert_eq!(ids(&list, "session_id"), below);
        let info = as_key(&face, ("GET", "/v1/manager"), Value::Null, key).await.1;
        let counted: u64 = info["sessions"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum();
        assert_eq!(counted, expected.len() as u64);
    }
    // By a pid, or below a parent, that is not its own.
    let pid = face.ask("GET", "/v1/sessions/foreign", Value::Null).await.1["pid"].to_string();
    let lookup = format!("/v1/lookup?pid={pid}");
    assert_eq!(as_key(&face, ("GET", &lookup), Value::Null, &own).await.1["code"], "no_such_pid");
    let stop = format!("/v1/pids/{pid}/stop");
    assert_eq!(as_key(&face, ("POST", &stop), Value::Null, &own).await.1["code"], "no_such_pid");
    for (parent, code) in [(json!("foreign"), "no_such_session"), (json!(pid), "no_such_pid")] {
        let child = json!({ "parent": parent, "task": "true" });
        assert_eq!(as_key(&face, ("POST", "/v1/subagents"), child, &own).await.1["code"], code);
    }
    // An id that another has is taken, and nothing else is said of it.
    for (ask, code) in
        [(("PUT", "/v1/sessions/foreign"), "id_unusable"), (("POST", "/v1/sessions"), "id_unusable")]
    {
        let body = if ask.0 == "POST" { json!({ "id": "foreign" }) } else { json!({}) };
        assert_eq!(as_key(&face, ask, body, &own).await.1["code"], code);
    }
    // A key for listed or labelled sessions starts none, also none with its labels: who may start any may run any command.
    let own_labels = json!({ "id": "later", "labels": labels });
    for (key, code) in [(&some, "no_such_session"), (&labelled, "forbidden")] {
        let later = as_key(&face, ("POST", "/v1/sessions"), own_labels.clone(), key).await.1;
        assert_eq!(later["code"], code);
        let later = as_key(&face, ("PUT", "/v1/sessions/later"), json!({ "labels": labels }), key).await.1;
        assert_eq!(later["code"], "no_such_session");
        let shell = json!({ "parent": "listed", "task": "true", "opts": { "permissions": "allow" } });
        assert_eq!(as_key(&face, ("POST", "/v1/subagents"), shell, key).await.1["code"], "forbidden");
        assert_eq!(as_key(&face, ("POST", "/v1/sessions"), json!({}), key).await.1["code"], "forbidden");
        let task = json!({ "task": "true" });
        assert_eq!(as_key(&face, ("POST", "/v1/subagents"), task, key).await.1["code"], "forbidden");
        let dir = json!({ "workdir": face.dir.path() });
        assert_eq!(as_key(&face, ("POST", "/v1/bootstrap"), dir, key).await.1["code"], "forbidden");
    }
    face.end().await;
}

#[tokio::test]
async fn what_a_key_for_labels_has_open_ends_with_the_label() {
    let face = Face::new().await;
    let labels = json!({ "team": "web", "kind": "x" });
    face.ask("POST", "/v1/sessions", json!({ "id": "top", "labels": labels })).await;
    let child = json!({ "parent": "top", "task": "true", "opts": { "id": "below" } });
    assert_eq!(face.ask("POST", "/v1/subagents", child).await.0, 201);
    let (_, key) = made(&face, "driver", json!({ "labels": { "team": "web" } })).await;
    let open = |uri: &'static str| {
        let request = Request::get(uri)
            .extension(axum::extract::ConnectInfo(remote()))
            .header("authorization", format!("Bearer {key}"));
        let answer = face.bare.clone().oneshot(request.body(Body::empty()).unwrap());
        async { answer.await.unwrap() }
    };
    let events = open("/v1/sessions/top/events").await.into_body();
    let mut attached = open("/v1/sessions/top/attach?role=driver").await.into_body();
    assert!(attached.frame().await.unwrap().is_ok());
    let of_below = open("/v1/sessions/below/events").await.into_body();
    let waits = tokio::spawn(open("/v1/sessions/top/wait?until=hibernated"));
    // The key changes other labels of its sessions, and keeps the one by which it reaches them.
    let change =
        |labels: Value| as_key(&face, ("PATCH", "/v1/sessions/top"), json!({ "labels": labels }), &key);
    assert_eq!(change(json!({ "kind": null, "more": "1" })).await.0, 200);
    for lost in [json!({ "team": null }), json!({ "team": "api" })] {
        let (status, refused) = change(lost).await;
        assert_eq!((status, &refused["code"]), (409, &json!("labels_of_key")), "{refused}");
    }
    assert_eq!(as_key(&face, ("GET", "/v1/sessions/below"), Value::Null, &key).await.0, 200);

    let others = json!({ "labels": { "team": "api" } });
    assert_eq!(face.ask("PATCH", "/v1/sessions/top", others).await.0, 200);
    for id in ["top", "below"] {
        let path = format!("/v1/sessions/{id}");
        assert_eq!(as_key(&face, ("GET", &path), Value::Null, &key).await.1["code"], "no_such_session");
    }
    let within = Duration::from_secs(20);
    for body in [events, attached, of_below] {
        let rest = tokio::time::timeout(within, body.collect()).await.expect("the stream goes on");
        assert!(rest.is_err(), "an end that looks like the whole");
    }
    let (status, problem) = read(tokio::time::timeout(within, waits).await.unwrap().unwrap()).await;
    assert_eq!((status, &problem["code"]), (404, &json!("no_such_session")));
    let gone = async {
        while !clients(&face, "top").await.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(within, gone).await.expect("the client stays attached");
    face.end().await;
}

#[tokio::test]
async fn an_idempotency_key_of_another_opens_nothing() {
    let face = Face::new().await;
    let (_, own) = made(&face, "driver", json!("own")).await;
    let key = ("idempotency-key", "k1");
    let owners = face.ask_with("POST", "/v1/sessions", json!({}), &[key]).await.1;
    let bearer = format!("Bearer {own}");
    let with_key = [key, ("authorization", &*bearer)];
    let (status, own) = face.ask_with("POST", "/v1/sessions", json!({}), &with_key).await;
    assert_eq!(status, 201);
    assert_ne!(own["id"], owners["id"]);
    let (_, again) = face.ask_with("POST", "/v1/sessions", json!({}), &with_key).await;
    assert_eq!(again["id"], own["id"]);
    face.end().await;
}

/// The clients of a session, by the names of their keys.
async fn clients(face: &Face, id: &str) -> Vec<Value> {
    let (_, info) = face.ask("GET", &format!("/v1/sessions/{id}"), Value::Null).await;
    info["clients"].as_array().unwrap().iter().map(|client| client["origin"].clone()).collect()
}

#[tokio::test]
async fn what_a_key_has_open_ends_with_it() {
    let face = Face::new().await;
    face.ask("POST", "/v1/sessions", json!({ "id": "s" })).await;
    for end in ["revoke", "rotate"] {
        let (id, key) = made(&face, "driver", json!("all")).await;
        let open = |uri: &str| {
            let request = Request::get(uri)
                .extension(axum::extract::ConnectInfo(remote()))
                .header("authorization", format!("Bearer {key}"));
            let answer = face.bare.clone().oneshot(request.body(Body::empty()).unwrap());
            async { answer.await.unwrap() }
        };
        let stream = open("/v1/events").await;
        let mut attached = open("/v1/sessions/s/attach?role=driver").await.into_body();
        assert!(attached.frame().await.unwrap().is_ok());
        let origin = json!({ "key": id, "key_name": "laptop", "address": "192.0.2.7" });
        assert_eq!(clients(&face, "s").await, std::slice::from_ref(&origin));
        let text = face.text("/v1/sessions/s/events?after=0&follow=false").await;
        assert!(text.contains("client.attached") && text.contains(&format!("\"key\":\"{id}\"")), "{text}");
        let waits = tokio::spawn(open("/v1/sessions/s/wait?until=hibernated"));
        // It waits once it is asked: what has no session is refused first.
        tokio::task::yield_now().await;
        match end {
            "revoke" => assert_eq!(face.ask("DELETE", &format!("/v1/keys/{id}"), Value::Null).await.0, 204),
            _ => {
                assert_eq!(face.ask("POST", &format!("/v1/keys/{id}/rotate"), Value::Null).await.0, 200);
            }
        }
        let within = Duration::from_secs(20);
        for body in [stream.into_body(), attached] {
            let rest = tokio::time::timeout(within, body.collect()).await.expect("the stream goes on");
            assert!(rest.is_err(), "an end that looks like the whole");
        }
        let (status, problem) = read(tokio::time::timeout(within, waits).await.unwrap().unwrap()).await;
        assert_eq!((status, &problem["code"]), (401, &json!("key_ended")));
        let gone = async {
            while !clients(&face, "s").await.is_empty() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(within, gone).await.expect("the client stays attached");
    }
    face.end().await;
}

#[tokio::test]
async fn a_device_is_paired_once() {
    let face = Face::new().await;
    let key = new_key().unwrap();
    let pair = |secret: &str, key: &str| json!({ "secret": secret, "name": "phone", "key": key });
    let finish = async |body: Value| face.ask_from(Some(&remote()), ("POST", "/v1/pair"), body, None).await;
    assert_eq!(finish(pair("0000-0000-0000-0000", &key)).await.1["code"], "pairing_closed");
    let wish = json!({ "role": "viewer", "sessions": "own" });
    let (status, begun) = face.ask("POST", "/v1/pairings", wish.clone()).await;
    let secret = begun["secret"].as_str().unwrap().to_owned();
    assert_eq!((status, &begun["number"]), (201, &json!(1)));
    assert_eq!(finish(pair(&secret, "kk_x")).await.1["code"], "invalid_key");
    let (status, paired) = finish(pair(&secret.to_lowercase(), &key)).await;
    let expected =
        json!({ "id": "key-1", "name": "phone", "role": "viewer", "sessions": "own", "expires_at": null });
    assert_eq!((status, &paired), (201, &expected));
    // The same again, as after a lost answer. Another device finds the secret used.
    assert_eq!(finish(pair(&secret, &key)).await, (201, expected));
    let (status, problem) = finish(pair(&secret, &new_key().unwrap())).await;
    assert_eq!((status, &problem["code"]), (403, &json!("pairing_closed")));
    let (_, over) = face.ask("GET", "/v1/pairings/1", Value::Null).await;
    assert_eq!((&over["state"], &over["key"]["id"]), (&json!("paired"), &json!("key-1")));
    assert_eq!(as_key(&face, ("GET", "/v1/sessions"), Value::Null, &key).await, (200, json!([])));
    assert!(!face.ask("GET", "/v1/keys", Value::Null).await.1.to_string().contains(&secret));

    // Five misses, and the right one does not help any more.
    let (_, begun) = face.ask("POST", "/v1/pairings", wish.clone()).await;
    let secret = begun["secret"].as_str().unwrap().to_owned();
    for _ in 0..5 {
        let (status, problem) = finish(pair("0000-0000-0000-0000", &new_key().unwrap())).await;
        assert_eq!((status, &problem["code"]), (401, &json!("bad_secret")));
    }
    assert_eq!(finish(pair(&secret, &new_key().unwrap())).await.1["code"], "pairing_closed");
    assert_eq!(face.ask("GET", "/v1/pairings/2", Value::Null).await.1["state"], "locked");

    // One that is ended lets nobody in, and whoever waits for it hears so; begun anew it takes the place of the one before.
    face.ask("POST", "/v1/pairings", wish.clone()).await;
    assert_eq!(face.ask("GET", "/v1/pairings/3?timeout_ms=0", Value::Null).await.1["code"], "timeout");
    let wait = face.ask("GET", "/v1/pairings/3", Value::Null);
    let begin = face.ask("POST", "/v1/pairings", wish);
    let (over, begun) = tokio::join!(wait, begin);
    assert_eq!((&over.1["state"], &begun.1["number"]), (&json!("ended"), &json!(4)));
    assert_eq!(face.ask("DELETE", "/v1/pairings", Value::Null).await.0, 204);
    let secret = begun.1["secret"].as_str().unwrap();
    assert_eq!(finish(pair(secret, &new_key().unwrap())).await.1["code"], "pairing_closed");
    face.end().await;
}

#[tokio::test]
async fn a_broken_file_of_keys_is_told_to_whoever_shows_one() {
    let face = Face::new().await;
    std::fs::write(face.manager.state_dir().join("keys.json"), "{").unwrap();
    let keys = Keys::open(face.manager.state_dir());
    let router = router(face.manager.clone(), face.stop.clone(), keys, Inlet::new().0, web_of(&face.manager));
    let key = new_key().unwrap();
    let request = Request::get("/v1/sessions")
        .extension(axum::extract::ConnectInfo(remote()))
        .header("authorization", format!("Bearer {key}"));
    let (status, problem) = read(router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap()).await;
    assert_eq!((status, &problem["code"]), (500, &json!("unread")));
    assert!(problem["detail"].as_str().unwrap().contains("keys.json"));
    face.end().await;
}

#[tokio::test]
async fn a_drivers_key_gets_no_token_that_would_outlive_it() {
    let face = Face::new().await;
    let (_, driver) = made(&face, "driver", json!("all")).await;
    let (_, admin) = made(&face, "admin", serde_json::to_value(KeySessions::All).unwrap()).await;
    face.ask("POST", "/v1/sessions", json!({ "id": "s" })).await;
    for (key, has_token) in [(&driver, false), (&admin, true)] {
        let (status, _) = as_key(&face, ("GET", "/v1/sessions/s/token"), Value::Null, key).await;
        assert_eq!(status == 200, has_token);
    }
    face.end().await;
}

#[tokio::test]
async fn a_name_stands_for_its_session_and_is_nothing_to_a_key_that_does_not_reach_it() {
    let face = Face::new().await;
    let made_it =
        face.ask("POST", "/v1/sessions", json!({ "name": "web", "labels": { "team": "front" } })).await;
    assert_eq!((made_it.0, made_it.1["id"].as_str()), (201, Some("session-1")), "{}", made_it.1);
    let (status, shown) = face.ask("GET", "/v1/sessions/web", Value::Null).await;
    assert_eq!(
        (status, &shown["id"], &shown["labels"]),
        (200, &json!("session-1"), &json!({ "team": "front" }))
    );
    assert_eq!(face.ask("POST", "/v1/sessions/web/pin", Value::Null).await.1["id"], "session-1");
    // A request that makes a session names an id: a name of another is in its way.
    let (status, taken) = face.ask("PUT", "/v1/sessions/web", json!({})).await;
    assert_eq!((status, &taken["code"]), (409, &json!("id_taken")), "{taken}");
    // The session's own token is good for its name, and another's is not.
    let token =
        face.ask("GET", "/v1/sessions/web/token", Value::Null).await.1["token"].as_str().unwrap().to_owned();
    let bearer = format!("Bearer {token}");
    let with = [("authorization", &*bearer)];
    assert_eq!(face.ask_with("GET", "/v1/sessions/web", Value::Null, &with).await.0, 200);
    face.ask("POST", "/v1/sessions", json!({ "name": "other" })).await;
    assert_eq!(face.ask_with("GET", "/v1/sessions/other", Value::Null, &with).await.1["code"], "bad_token");
    // To a key of its own sessions the name is like none.
    let (_, own) = made(&face, "driver", json!("own")).await;
    for path in ["/v1/sessions/web", "/v1/sessions/never"] {
        let (status, none) = as_key(&face, ("GET", path), Value::Null, &own).await;
        let name = path.rsplit('/').next().unwrap();
        assert_eq!((status, &none["code"]), (404, &json!("no_such_session")));
        assert!(none["detail"].as_str().unwrap().contains(&format!("`{name}`")), "{none}");
    }
    let (_, mine) = as_key(&face, ("POST", "/v1/sessions"), json!({}), &own).await;
    let mine = format!("/v1/sessions/{}", mine["name"].as_str().unwrap());
    let renamed = as_key(&face, ("PATCH", &mine), json!({ "name": "web" }), &own).await.1;
    assert_eq!(renamed["code"], "name_unusable");
    assert_eq!(as_key(&face, ("PATCH", &mine), json!({ "name": "mine" }), &own).await.1["name"], "mine");
    assert_eq!(as_key(&face, ("GET", "/v1/sessions/mine"), Value::Null, &own).await.0, 200);
    for (body, code) in [
        (json!({ "name": "session-7" }), "invalid_name"),
        (json!({ "title": "a\u{7}" }), "invalid_title"),
        (json!({ "labels": { "a b": "" } }), "invalid_labels"),
        (json!({ "name": "other" }), "name_taken"),
        (json!({ "named": "x" }), "invalid_body"),
    ] {
        assert_eq!(face.ask("PATCH", "/v1/sessions/web", body).await.1["code"], code);
    }
    face.end().await;
}
