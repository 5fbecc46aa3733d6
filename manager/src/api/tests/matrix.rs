//! Every operation of the description, asked for by every kind of caller. What each must hear is computed from the rules of
//! `rights.rs`; an operation without a rule fails.

use axum::http::Method;
use protocol::api::{ClientOrigin, KeyRole, KeySessions};

use super::super::rights::{About, Need, Rule, is_drivers, rule};
use super::*;
use crate::core::Scope;
use crate::keys::{Grant, hash_of_key, new_key};
use crate::session_manager::Asker;
use crate::system::process;
use crate::workers::tokens;

/// Status and code of the answer, by an operation's rule and path, and by the session that is asked for.
type Expected = Box<dyn Fn(Rule, &str, Target) -> (u16, &'static str)>;

/// A caller, and the sessions that it asks for.
struct Kind {
    name: String,
    bearer: Option<String>,
    peer: Option<Peer>,
    /// A session that it reaches.
    reached: &'static str,
    expected: Expected,
}

/// The session in the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Reached,
    Foreign,
    Missing,
}

/// Past all checks of rights: the handler refuses the parameter.
const LET_IN: (u16, &str) = (400, "invalid_parameter");
const REFUSED: (u16, &str) = (403, "forbidden");

fn of_key(role: KeyRole, sessions: &KeySessions, rule: Rule, target: Target) -> (u16, &'static str) {
    let enough = match rule.need {
        Need::Nothing | Need::Look => true,
        Need::Drive | Need::Start => role != KeyRole::Viewer,
        Need::Admin => role == KeyRole::Admin,
    };
    match (rule.about, sessions) {
        _ if !enough => REFUSED,
        (_, KeySessions::All) | (About::Reached | About::Nothing, _) => LET_IN,
        (About::All, _) => REFUSED,
        (About::One, _) if target == Target::Reached => LET_IN,
        // The session would be its own. If another has the id, the core refuses.
        (About::One, KeySessions::Own) if rule.need == Need::Start => LET_IN,
        (About::One, _) => (404, "no_such_session"),
    }
}

fn of_token(kind: &str, rule: Rule, path: &str, target: Target) -> (u16, &'static str) {
    let looks = rule.need == Need::Look;
    let (own, subagents) = (rule.about == About::One && target == Target::Reached, path == "/v1/subagents");
    match kind {
        _ if rule.need == Need::Nothing => LET_IN,
        // What it is asked for is asked for in the caller's name.
        _ if path == "/v1/acp" => LET_IN,
        // It finds texts of its own session.
        _ if path == "/v1/search" => LET_IN,
        "driver" if own || subagents => LET_IN,
        "agent" if own && looks || subagents => LET_IN,
        "viewer" if own && looks => LET_IN,
        _ => REFUSED,
    }
}

async fn key_kinds(face: &Face, keys: &Keys) -> Vec<Kind> {
    let listed = KeySessions::Ids(vec!["listed".parse().unwrap()]);
    let labelled = KeySessions::Labels([("team".to_owned(), "web".to_owned())].into());
    let mut kinds = Vec::new();
    let all = [
        (KeyRole::Admin, KeySessions::All, "listed"),
        (KeyRole::Driver, KeySessions::All, "listed"),
        (KeyRole::Driver, listed.clone(), "listed"),
        (KeyRole::Driver, labelled.clone(), "listed"),
        (KeyRole::Driver, KeySessions::Own, "of-driver"),
        (KeyRole::Viewer, KeySessions::All, "listed"),
        (KeyRole::Viewer, listed, "listed"),
        (KeyRole::Viewer, labelled, "listed"),
        (KeyRole::Viewer, KeySessions::Own, "of-viewer"),
    ];
    for (role, sessions, reached) in all {
        let key = new_key().unwrap();
        let name = format!("{role:?} of {sessions:?}");
        let grant = Grant {
            name: Some(name.clone()),
            role,
            sessions: sessions.clone(),
            expires_at: None,
            browser: false,
        };
        let made = keys.issue(grant, None, hash_of_key(&key).unwrap()).await.unwrap();
        if sessions == KeySessions::Own {
            let origin = ClientOrigin { key: Some(made.id), ..ClientOrigin::default() };
            let manager = face.manager.asked_by(Asker {
                origin: Some(origin),
                scope: Scope::Own(made.id),
                ..Asker::default()
            });
            let opts = protocol::api::SessionOpts { id: Some(reached.into()), ..Default::default() };
            manager.start_session(opts, None).await.unwrap();
        }
        for peer in [Peer::own(), Peer::remote(([192, 0, 2, 7], 4711).into())] {
            let sessions = sessions.clone();
            kinds.push(Kind {
                name: format!("{name}, {peer:?}"),
                bearer: Some(key.clone()),
                peer: Some(peer),
                reached,
                expected: Box::new(move |rule, _, target| of_key(role, &sessions, rule, target)),
            });
        }
    }
    kinds
}

async fn other_kinds(face: &Face, key: &str) -> Vec<Kind> {
    let id: SessionId = "listed".parse().unwrap();
    let token = face.manager.session_token(&id).await.unwrap();
    let pid = face.manager.get_session(&id).await.unwrap().pid.unwrap();
    let agent = || Peer::below(vec![(pid, process::parent_and_start(pid).unwrap().1)]);
    let remote = || Peer::remote(([192, 0, 2, 7], 4711).into());
    let kind = |name: &str,
                bearer: Option<String>,
                peer,
                expected: fn(Rule, &str, Target) -> (u16, &'static str)| {
        let expected = Box::new(expected);
        Kind { name: name.into(), bearer, peer, reached: "listed", expected }
    };
    let told = |token: &str| Some(format!("listed:{token}"));
    let stale = new_key().unwrap();
    vec![
        kind("owner", None, Some(Peer::own()), |_, _, _| LET_IN),
        kind("nobody", None, None, |_, _, _| REFUSED),
        kind("nobody with a key", Some(key.into()), None, |_, _, _| REFUSED),
        kind("remote", None, Some(remote()), |rule, _, _| match rule.need {
            Need::Nothing => LET_IN,
            _ => (401, "key_needed"),
        }),
        kind("remote with a key of another daemon", Some(stale), Some(remote()), |rule, _, _| {
            match rule.need {
                Need::Nothing => LET_IN,
                _ => (401, "bad_key"),
            }
        }),
        kind("an agent", None, Some(agent()), |rule, path, target| match rule.need {
            Need::Nothing => REFUSED,
            _ => of_token("agent", rule, path, target),
        }),
        kind("an agent with an admin's key", Some(key.into()), Some(agent()), |_, _, _| REFUSED),
        kind("driver's token", told(&token), Some(Peer::own()), |rule, path, target| {
            of_token("driver", rule, path, target)
        }),
        kind("remote, driver's token", told(&token), Some(remote()), |rule, path, target| {
            of_token("driver", rule, path, target)
        }),
        kind("viewer's token", told(&tokens::viewer(&token)), Some(Peer::own()), |rule, path, target| {
            of_token("viewer", rule, path, target)
        }),
        kind("agent's token", told(&tokens::agent(&token)), Some(Peer::own()), |rule, path, target| {
            of_token("agent", rule, path, target)
        }),
    ]
}

#[tokio::test]
async fn every_operation_as_every_caller() {
    let face = Face::new().await;
    for (id, team) in [("listed", "web"), ("foreign", "api")] {
        let body = json!({ "id": id, "labels": { "team": team } });
        assert_eq!(face.ask("POST", "/v1/sessions", body).await.0, 201);
    }
    let keys = face.keys.clone();
    let mut kinds = key_kinds(&face, &keys).await;
    let admin = kinds[0].bearer.clone().unwrap();
    kinds.extend(other_kinds(&face, &admin).await);
    let api: Value = serde_json::from_str(&openapi_json()).unwrap();
    let mut asked = 0;
    for (path, methods) in api["paths"].as_object().unwrap() {
        let others = [("{prompt}", "prompt-1"), ("{pid}", "1"), ("{permission}", "permission-1")];
        let others = others.into_iter().chain([
            ("{call}", "call-1"),
            ("{key}", "key-999"),
            ("{login}", "listed"),
            ("{pairing}", "999"),
        ]);
        let filled = others.fold(path.clone(), |path, (name, value)| path.replace(name, value));
        for method in methods.as_object().unwrap().keys() {
            let method = method.to_uppercase();
            let found = rule(&Method::from_bytes(method.as_bytes()).unwrap(), path);
            let rule = found.unwrap_or_else(|| panic!("rights.rs has no row for {method} {path}"));
            for kind in &kinds {
                for target in [Target::Reached, Target::Foreign, Target::Missing] {
                    let id = match target {
                        Target::Reached => kind.reached,
                        Target::Foreign => "foreign",
                        Target::Missing => "missing",
                    };
                    let uri = format!("{}?no_such_parameter=1", filled.replace("{id}", id));
                    let ask = (&*method, &*uri);
                    let (status, body) =
                        face.ask_from(kind.peer.as_ref(), ask, Value::Null, kind.bearer.as_deref()).await;
                    let heard = (status, body["code"].as_str().unwrap_or_default());
                    assert_eq!(
                        heard,
                        (kind.expected)(rule, path, target),
                        "{}: {method} {uri}: {body}",
                        kind.name
                    );
                    asked += 1;
                }
            }
        }
    }
    assert!(asked > 3_000, "{asked}");
    face.end().await;
}

#[tokio::test]
async fn what_a_key_does_not_reach_does_not_exist() {
    let face = Face::new().await;
    face.ask("POST", "/v1/sessions", json!({ "id": "foreign" })).await;
    let key = new_key().unwrap();
    let grant = Grant {
        name: Some("x".into()),
        role: KeyRole::Driver,
        sessions: KeySessions::Own,
        expires_at: None,
        browser: false,
    };
    face.keys.issue(grant, None, hash_of_key(&key).unwrap()).await.unwrap();
    let own = Peer::own();
    for (method, path) in [
        ("GET", "/v1/sessions/ID"),
        ("POST", "/v1/sessions/ID/stop"),
        ("GET", "/v1/sessions/ID/wait?until=idle"),
        ("GET", "/v1/lookup?id=ID"),
    ] {
        let mut heard = Vec::new();
        for id in ["foreign", "foreigm"] {
            let uri = path.replace("ID", id);
            let (status, body) = face.ask_from(Some(&own), (method, &uri), Value::Null, Some(&key)).await;
            heard.push((status, body.to_string().replace(id, "ID")));
        }
        assert_eq!(heard[0].0, 404, "{method} {path}");
        assert_eq!(heard[0], heard[1], "{method} {path}");
    }
    face.end().await;
}

#[tokio::test]
async fn a_client_that_does_not_drive_changes_nothing_by_any_operation() {
    let face = Face::new().await;
    let workdir = face.dir.path().join("work");
    std::fs::create_dir(&workdir).unwrap();
    let found = face.ask("GET", &format!("/v1/lookup?dir={}", workdir.display()), Value::Null).await.1;
    let id = found["id"].as_str().unwrap().to_owned();
    let opts = json!({ "id": id, "workdir": workdir });
    let made = face.ask("POST", "/v1/sessions", opts).await;
    assert_eq!(made.0, 201, "{}", made.1);
    let session: SessionId = id.parse().unwrap();
    let attach =
        async |name, role| face.manager.attach(&session, name, role, false, &[], None).await.unwrap();
    let _driver = attach("ann", protocol::api::Role::Driver).await;
    let viewer = attach("bob", protocol::api::Role::Viewer).await;
    let api: Value = serde_json::from_str(&openapi_json()).unwrap();
    let mut asked = 0;
    for (path, methods) in api["paths"].as_object().unwrap() {
        for (name, operation) in methods.as_object().unwrap() {
            let method = Method::from_bytes(name.to_uppercase().as_bytes()).unwrap();
            let takes = |parameter: &Value| parameter["name"] == "Kennel-Client";
            let listed = operation["parameters"].as_array().is_some_and(|all| all.iter().any(takes));
            let conflicts = operation["responses"]["409"]["description"].as_str().unwrap_or_default();
            let leaves = (name.as_str(), path.as_str()) == ("delete", "/v1/sessions/{id}/attach");
            let others =
                ["/v1/bootstrap", "/v1/subagents", "/v1/pids/{pid}/stop", "/v1/prompts/{prompt}/resolve"];
            let about = path.starts_with("/v1/sessions/{id}") || others.contains(&path.as_str());
            let changes = about && method != Method::GET;
            assert_eq!(
                is_drivers(&method, path),
                changes && !leaves,
                "{method} {path} changes sessions, or not"
            );
            assert_eq!(listed, is_drivers(&method, path) || leaves, "{method} {path} and its description");
            if !listed || leaves {
                continue;
            }
            assert!(conflicts.contains("`not_driver`"), "{method} {path} does not describe its refusal");
            // What there is none of is refused as that.
            let missing = ["/queue/{prompt}", "/permissions/{permission}", "/calls/{call}", "/resolve"];
            let pid = face.manager.get_session(&session).await.unwrap().pid;
            let uri = path.replace("{id}", &id).replace("{name}", "mode").replace("{prompt}", "prompt-1");
            let uri = uri.replace("{permission}", "permission-1").replace("{call}", "call-1");
            let uri = uri.replace("{pid}", &pid.unwrap_or_default().to_string());
            let body = match path.as_str() {
                "/v1/bootstrap" => json!({ "workdir": workdir }),
                "/v1/subagents" => json!({ "parent": id, "task": "true" }),
                "/v1/prompts/{prompt}/resolve" => json!({ "action": "drop" }),
                path if path.ends_with("/prompts")
                    || path.ends_with("/queue/{prompt}") && name == "patch" =>
                {
                    json!({ "text": "true" })
                }
                path if path.ends_with("{call}") => json!({ "result": {} }),
                path if path.ends_with("{permission}") => json!({ "answer": "allow" }),
                path if path.ends_with("{name}") => json!({ "value": "x" }),
                path if path.ends_with("/mcp_servers") => json!({}),
                "/v1/sessions/{id}" if name == "patch" => json!({ "title": "x" }),
                _ => Value::Null,
            };
            for client in [viewer, crate::core::NOBODY] {
                let headers = [("kennel-client", &*client.to_string())];
                let (status, answer) = face.ask_with(method.as_str(), &uri, body.clone(), &headers).await;
                let gone = path.ends_with("/resolve") && answer["code"] == "not_interrupted";
                assert!(
                    gone || (status, answer["code"].as_str()) == (409, Some("not_driver")),
                    "{method} {path} by {client}: {status} {answer}"
                );
                assert!(!gone || missing.iter().any(|end| path.ends_with(end)));
                asked += 1;
            }
        }
    }
    assert!(asked >= 2 * 18, "{asked}");
    let after = face.manager.get_session(&session).await.unwrap();
    assert_eq!((after.turn_count, after.pinned, after.clients.len()), (0, false, 2));
    face.end().await;
}

#[tokio::test]
async fn a_key_of_its_own_sessions_learns_of_no_directory() {
    let face = Face::new().await;
    let workdir = face.dir.path().join("work");
    std::fs::create_dir(&workdir).unwrap();
    let own = Peer::own();
    let lookup = format!("/v1/lookup?dir={}", workdir.display());
    let (_, owners) = face.ask("GET", &lookup, Value::Null).await;
    let mut keys = Vec::new();
    for name in ["one", "other"] {
        let key = new_key().unwrap();
        let (role, sessions) = (KeyRole::Driver, KeySessions::Own);
        let grant = Grant { name: Some(name.into()), role, sessions, expires_at: None, browser: false };
        face.keys.issue(grant, None, hash_of_key(&key).unwrap()).await.unwrap();
        keys.push(key);
    }
    let ask = async |key: usize, ask, body| face.ask_from(Some(&own), ask, body, Some(&keys[key])).await;
    let put = format!("/v1/sessions/{}", owners["id"].as_str().unwrap());
    let opts = json!({ "workdir": workdir });
    // Whether or not the owner has a session there.
    let before = ask(0, ("PUT", &put), opts.clone()).await;
    assert_eq!(before.1["code"], "id_unusable", "{}", before.1);
    assert_eq!(
        face.ask("POST", "/v1/sessions", json!({ "id": owners["id"], "workdir": workdir })).await.0,
        201
    );
    assert_eq!(ask(0, ("PUT", &put), opts).await, before);
    assert!(!before.1.to_string().contains("ensure"), "the hint names another way: {}", before.1);
    // Each has its own.
    let ids = [ask(0, ("GET", &lookup), Value::Null).await.1, ask(1, ("GET", &lookup), Value::Null).await.1];
    assert!(ids[0] != ids[1] && ids.iter().all(|id| *id != owners), "{ids:?}");
    face.end().await;
}
