//! Every operation of the description, asked for by every kind of caller. What each must hear is computed from the rules of
//! `rights.rs`; an operation without a rule fails.

use axum::http::Method;
use protocol::api::{ClientOrigin, KeyRole, KeySessions};

use super::super::rights::{About, Need, Rule, rule};
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
        "driver" if own || subagents => LET_IN,
        "agent" if own && looks || subagents => LET_IN,
        "viewer" if own && looks => LET_IN,
        _ => REFUSED,
    }
}

async fn key_kinds(face: &Face, keys: &Keys) -> Vec<Kind> {
    let listed = KeySessions::Ids(vec!["listed".parse().unwrap()]);
    let mut kinds = Vec::new();
    let all = [
        (KeyRole::Admin, KeySessions::All, "listed"),
        (KeyRole::Driver, KeySessions::All, "listed"),
        (KeyRole::Driver, listed.clone(), "listed"),
        (KeyRole::Driver, KeySessions::Own, "of-driver"),
        (KeyRole::Viewer, KeySessions::All, "listed"),
        (KeyRole::Viewer, listed, "listed"),
        (KeyRole::Viewer, KeySessions::Own, "of-viewer"),
    ];
    for (role, sessions, reached) in all {
        let key = new_key().unwrap();
        let name = format!("{role:?} of {sessions:?}");
        let grant = Grant { name: Some(name.clone()), role, sessions: sessions.clone(), expires_at: None };
        let made = keys.issue(grant, None, hash_of_key(&key).unwrap()).await.unwrap();
        if sessions == KeySessions::Own {
            let origin = ClientOrigin { key: Some(made.id), ..ClientOrigin::default() };
            let manager = face.manager.asked_by(Asker { origin: Some(origin), scope: Scope::Own(made.id) });
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
    for id in ["listed", "foreign"] {
        assert_eq!(face.ask("POST", "/v1/sessions", json!({ "id": id })).await.0, 201);
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
    let grant =
        Grant { name: Some("x".into()), role: KeyRole::Driver, sessions: KeySessions::Own, expires_at: None };
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
