//! Rights of callers: the requests that each may make.
//!
//! The socket has mode 0600, and every connection's peer must have the owner's uid. Without a token a peer
//! has the owner's rights, with one exception. A peer that runs below a session's worker ([`Peer`]) is that
//! session's agent: it has the agent's rights, and in a sandbox none. A request with a session's token has
//! that session's rights and no more, so a program that shall not have the rest can be given a token.
//! Requests of web pages are refused.
//!
//! A token comes in one of two ways:
//!
//! - `Bearer TOKEN` with a request about one session: the token must be that session's. Every request about
//!   the session is allowed.
//! - `Bearer ID:TOKEN`: the caller is the session `ID`, if the token is that session's. It has all rights on
//!   itself. It may read, prompt, wait for and end the sub-agents below it, and start and list sub-agents of
//!   its own. The id selects the token to compare with, in constant time, and proves nothing. A search by
//!   token would compare it with every session's.
//!
//! A session has a second token, for viewers, which permits to read it and nothing else. The third
//! one, for its agent, also permits work with sub-agents. An agent never has more: a driver's token that
//! comes from below that session's own worker counts as the agent's. So no agent answers its own questions.
//!
//! A key (`Bearer kk_…`) has the rights of its role on the sessions that it reaches, over the socket as well: `rights.rs` says
//! what each operation needs. It gives nothing to a client that runs below a worker, or whose process the daemon cannot see.
//!
//! A sub-agent of a session can do no more than the session (`core/rules/authority.rs`). Where the owner has
//! started one that can do more, its parent may read and end it, but not prompt it.

use std::sync::Arc;

use axum::extract::{ConnectInfo, MatchedPath, RawPathParams, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use protocol::api::{KeyRole, KeySessions, Role};
use protocol::event::RefusedFor;
use protocol::{SessionId, SessionName};
use subtle::ConstantTimeEq;

use super::caller::{Caller, Meant};
use super::connections::{Origin, Who, overloaded};
use super::denied::*;
use super::held::hold;
use super::peer::{NO_ROOM, Peer, Standing};
use super::problem::{Answer, ApiError};
use super::rights::{About, Need, Rule, rule};
use super::{App, audit};
use crate::core::Refusal;
use crate::error::Error;
use crate::keys::{Hash, Key, PREFIX, hash_of_key};
use crate::system::clock::wall_ms;
use crate::workers::tokens;

/// Rights of a caller on its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Every right.
    Driver,
    /// Rights of a session's own agent: read its session, start sub-agents and work with them.
    Agent,
    /// Read, and change nothing.
    Viewer,
}

/// Requests that a caller may make about sub-agents below it, by method and route.
const BELOW: &[(Method, &str)] = &[
    (Method::GET, "/v1/sessions/{id}"),
    (Method::GET, "/v1/sessions/{id}/calls"),
    (Method::GET, "/v1/sessions/{id}/events"),
    (Method::GET, "/v1/sessions/{id}/log"),
    (Method::GET, "/v1/sessions/{id}/permissions"),
    (Method::GET, "/v1/sessions/{id}/queue"),
    (Method::GET, "/v1/sessions/{id}/result"),
    (Method::GET, "/v1/sessions/{id}/wait"),
    (Method::POST, "/v1/sessions/{id}/prompts"),
    (Method::POST, "/v1/sessions/{id}/abort"),
    (Method::POST, "/v1/sessions/{id}/stop"),
];

/// Letters of a session's token: 32 bytes in base64.
const TOKEN: usize = 43;

/// The route by which a session receives prompts.
const PROMPTS: &str = "/v1/sessions/{id}/prompts";
/// The route by which a caller starts and lists its own sub-agents.
const SUBAGENTS: &str = "/v1/subagents";
/// The route that searches: a token's session is the only one that it finds texts of.
const SEARCH: &str = "/v1/search";
/// The route that ends the key it is asked with, and answers all the same.
const LOG_OUT: &str = "/v1/web/logout";
/// The route that decides no rights: what it is asked for, it asks for in the caller's name.
const ACP: &str = "/v1/acp";

/// Goes before every route, matched or not. `params` are those of the matched route: what is checked here is
/// what the handler sees.
pub async fn check(
    State(app): State<App>,
    route: Option<MatchedPath>,
    params: Result<RawPathParams, axum::extract::rejection::RawPathParamsRejection>,
    request: Request,
    next: Next,
) -> Answer<Response> {
    let (mut parts, body) = request.into_parts();
    no_web_page(&parts.headers)?;
    // The server names the peer of each connection; without a peer every request is refused.
    let peer = parts.extensions.get::<ConnectInfo<Peer>>().map(|ConnectInfo(peer)| peer.clone());
    let peer = peer.ok_or_else(|| nobody("it is not known who has connected"))?;
    let standing = peer.standing(&app.manager).await?;
    match &standing {
        Standing::Remote { address } => audit::has_address(&parts, address.ip().to_canonical()),
        Standing::Agent { session, .. } => audit::is_of(&parts, session),
        Standing::Owner | Standing::Nobody { .. } => {}
    }
    if standing == (Standing::Nobody { why: NO_ROOM }) {
        // The next connection is looked at anew.
        let mut answer = overloaded(NO_ROOM).into_response();
        answer.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
        return Ok(answer);
    }
    let about = session_of(params.iter().flatten());
    let route = route.as_ref().map_or("", |route| route.as_str());
    let named = named(&app, &parts.method, route, about.as_ref()).await?;
    let (caller, meant) = match named {
        None => (caller(&app, standing, &parts, route, about.clone()).await?, about),
        Some(session) => by_name(&app, standing, &parts, route, (about, session)).await?,
    };
    parts.extensions.insert(Meant(meant.clone()));
    if app.manager.state_dir_gone() && !ends(&parts.method, route) {
        return Err(Error::StateDirGone(app.manager.state_dir().to_owned()).into());
    }
    let (key, asker) = (caller.key.clone(), caller.asker());
    parts.extensions.insert(caller);
    let request = Request::from_parts(parts, body);
    match key.filter(|_| route != LOG_OUT) {
        None => Ok(next.run(request).await),
        Some(key) => hold(&app.keys, key, app.manager.asked_by(asker), meant, next.run(request)).await,
    }
}

/// The session whose name stands in the place of the id. None for a request that makes a session: there it is an id to be.
async fn named(
    app: &App,
    method: &Method,
    route: &str,
    about: Option<&SessionId>,
) -> Answer<Option<SessionId>> {
    let makes = *method == Method::PUT && route == "/v1/sessions/{id}";
    match about.filter(|id| !makes && !SessionName::is_reserved(id.as_str())) {
        None => Ok(None),
        Some(id) => Ok(app.manager.named(id).await?.filter(|session| session != id)),
    }
}

/// Finds the caller of a request about a session by its name. Whoever does not reach the session hears what is said of an id that
/// is none, and does not learn that something has the name.
async fn by_name(
    app: &App,
    standing: Standing,
    parts: &Parts,
    route: &str,
    (about, session): (Option<SessionId>, SessionId),
) -> Answer<(Caller, Option<SessionId>)> {
    if let Ok(caller) = caller(app, standing.clone(), parts, route, Some(session.clone())).await
        && app.manager.asked_by(caller.asker()).reaches(&session).await?
    {
        return Ok((caller, Some(session)));
    }
    Ok((caller(app, standing, parts, route, about.clone()).await?, about))
}

/// Finds the caller of a request, and refuses what is not for that caller. `about` is the session that the request names.
async fn caller(
    app: &App,
    standing: Standing,
    parts: &Parts,
    route: &str,
    about: Option<SessionId>,
) -> Answer<Caller> {
    let rule = rule(&parts.method, route);
    let address = match &standing {
        Standing::Remote { address } => Some(address.ip().to_canonical()),
        Standing::Owner | Standing::Agent { .. } | Standing::Nobody { .. } => None,
    };
    let owner = Caller { session: None, role: Role::Driver, key: None, address };
    if rule.is_some_and(|rule| rule.need == Need::Nothing)
        && matches!(standing, Standing::Owner | Standing::Remote { .. })
    {
        return Ok(Caller { role: Role::Viewer, ..owner });
    }
    let given = bearer(&parts.headers)?;
    if let Some(hash) = given.as_ref().map_or(Ok(None), Bearer::key)? {
        let key = key(app, &standing, &hash, parts)?;
        if let Some(origin) = parts.extensions.get::<Origin>() {
            origin.belongs_to(Who::Key(key.id));
        }
        let from = address.map_or_else(|| "socket".to_owned(), |address| address.to_string());
        app.keys.used(key.id, &from);
        let role = if key.role == KeyRole::Viewer { Role::Viewer } else { Role::Driver };
        let caller = Caller { role, key: Some(Arc::new(key)), ..owner };
        permit_key(app, &caller, rule, route, about).await?;
        return Ok(caller);
    }
    let Some((session, kind)) = known(app, standing, given, about.as_ref()).await? else {
        return Ok(owner);
    };
    audit::is_of(parts, &session);
    if let Some(origin) = parts.extensions.get::<Origin>() {
        origin.belongs_to(Who::Session(session.clone(), kind != Kind::Driver));
    }
    permit(app, &parts.method, route, rule, (&session, kind), about).await?;
    let role = match kind {
        Kind::Driver => Role::Driver,
        Kind::Agent if route == SUBAGENTS => Role::Driver,
        Kind::Agent | Kind::Viewer => Role::Viewer,
    };
    Ok(Caller { session: Some(session), role, ..owner })
}

/// The key with this hash, if it lets this client in.
fn key(app: &App, standing: &Standing, hash: &Hash, parts: &Parts) -> Answer<Key> {
    match standing {
        Standing::Owner | Standing::Remote { .. } => {}
        // An agent may have found it in a file. It is no more than its session.
        Standing::Agent { session, .. } => {
            let what = format!("this client runs below session `{session}`");
            return Err(key_of_agent(&what, RefusedFor::Agent));
        }
        Standing::Nobody { why } => return Err(key_of_agent(why, RefusedFor::UnknownPeer)),
    }
    let key = app.keys.find(hash)?.ok_or_else(bad_key)?;
    audit::has_key(parts, key.id);
    // The client hears the same as with a key that is none.
    if key.has_expired(wall_ms()) { Err(bad_key().recorded(RefusedFor::KeyExpired)) } else { Ok(key) }
}

/// Refuses a request that is not for its key.
async fn permit_key(
    app: &App,
    caller: &Caller,
    rule: Option<Rule>,
    route: &str,
    about: Option<SessionId>,
) -> Answer<()> {
    let Some(key) = &caller.key else { return Ok(()) };
    let Some(Rule { need, about: sessions }) = rule else {
        // Without a route there is nothing to have rights on.
        return if route.is_empty() { Ok(()) } else { Err(no_rule()) };
    };
    match (need, key.role) {
        (Need::Nothing | Need::Look, _)
        | (Need::Drive | Need::Start, KeyRole::Driver)
        | (_, KeyRole::Admin) => {}
        (Need::Drive | Need::Start, KeyRole::Viewer) => return Err(not_for_role("viewer", "driver")),
        (Need::Admin, KeyRole::Viewer) => return Err(not_for_role("viewer", "admin")),
        (Need::Admin, KeyRole::Driver) => return Err(not_for_role("driver", "admin")),
    }
    match (sessions, &key.sessions) {
        (_, KeySessions::All) | (About::Reached | About::Nothing, _) => Ok(()),
        (About::All, KeySessions::Own | KeySessions::Ids(_) | KeySessions::Labels(_)) => Err(not_of_all()),
        (About::One, KeySessions::Own | KeySessions::Ids(_) | KeySessions::Labels(_)) => {
            // Without an id that is one, the handler says so.
            let Some(id) = about else { return Ok(()) };
            if app.manager.asked_by(caller.asker()).reaches(&id).await? {
                return Ok(());
            }
            // A session that is to be made is its own, or listed: the core looks whether another has the id.
            match need {
                Need::Start if caller.may_name(Some(id.as_str())).is_ok() => Ok(()),
                _ => {
                    let missing = ApiError::from(Error::Refused(Refusal::NoSuchSession(id.to_string())));
                    Err(missing.recorded(RefusedFor::Session))
                }
            }
        }
    }
}

/// The session that a request comes from, and what its caller is there; none for the owner. `about` is the session that the
/// request names.
async fn known(
    app: &App,
    standing: Standing,
    given: Option<Bearer<'_>>,
    about: Option<&SessionId>,
) -> Answer<Option<(SessionId, Kind)>> {
    Ok(match given {
        None => match standing {
            Standing::Owner => None,
            Standing::Remote { .. } => return Err(key_needed()),
            Standing::Nobody { why } => return Err(nobody(why)),
            Standing::Agent { session, sandboxed: true } => return Err(sandboxed(&session)),
            Standing::Agent { session, sandboxed: false } => Some((session, Kind::Agent)),
        },
        Some(bearer) => {
            let by_name = bearer.session.is_some();
            let caller = match bearer.session {
                Some(caller) => caller,
                None => about.cloned().ok_or_else(not_about_it)?,
            };
            let kind = kind(app, &caller, bearer.token).await?;
            if by_name && kind != Kind::Viewer {
                app.manager.took_tools(&caller);
            }
            Some(match standing {
                Standing::Agent { session, .. } if session == caller && kind == Kind::Driver => {
                    (caller, Kind::Agent)
                }
                Standing::Agent { session, sandboxed: true } if session != caller => {
                    return Err(sandboxed(&session));
                }
                Standing::Agent { .. }
                | Standing::Owner
                | Standing::Remote { .. }
                | Standing::Nobody { .. } => (caller, kind),
            })
        }
    })
}

/// Refuses a request that is not for its caller. `about` is the session that the request names.
async fn permit(
    app: &App,
    method: &Method,
    route: &str,
    rule: Option<Rule>,
    (caller, kind): (&SessionId, Kind),
    about: Option<SessionId>,
) -> Answer<()> {
    let Some(rule) = rule else {
        return Err(if kind == Kind::Viewer { looks_on() } else { no_rule() });
    };
    let looks = rule == Rule { need: Need::Look, about: About::One };
    match (about, kind) {
        (Some(session), Kind::Viewer) if session != *caller || !looks => return Err(looks_on()),
        (None, Kind::Driver | Kind::Agent | Kind::Viewer) if route == ACP || route == SEARCH => {}
        (None, Kind::Viewer) => return Err(looks_on()),
        (Some(session), Kind::Agent) if session == *caller && !looks => {
            return Err(not_for_its_agent(&session));
        }
        (Some(session), _) if session == *caller => {}
        (Some(session), Kind::Driver | Kind::Agent | Kind::Viewer) => {
            let listed = BELOW.iter().any(|(its_method, path)| method == its_method && route == *path);
            if !listed || !app.manager.is_below(&session, caller).await? {
                return Err(not_below(&session));
            }
            // The owner may have started one that can do more.
            let weaker = match *method == Method::POST && route == PROMPTS {
                true => app.manager.weaker_than(&session, caller).await?,
                false => Some(Vec::new()),
            };
            match weaker {
                None => return Err(not_below(&session)),
                Some(what) if !what.is_empty() => return Err(weaker_than(&session, &what)),
                Some(_) => {}
            }
        }
        (None, Kind::Driver | Kind::Agent) if route == SUBAGENTS => {}
        (None, Kind::Driver) => return Err(not_about_it()),
        (None, Kind::Agent) => return Err(not_for_its_agent(caller)),
    }
    Ok(())
}

/// Returns true if a request only reads, or ends something (also a turn that waits for an answer): such a request needs
/// no lasting record.
fn ends(method: &Method, route: &str) -> bool {
    let ends = ["/stop", "/abort", "/permissions/{permission}", "/calls/{call}"]
        .iter()
        .any(|end| route.ends_with(end));
    method == Method::GET || (method == Method::POST && ends)
}

/// As what this token lets its bearer in; refused if it is not this session's.
async fn kind(app: &App, session: &SessionId, given: &str) -> Answer<Kind> {
    let right = match app.manager.session_token(session).await {
        Ok(right) => right,
        // A caller without a token does not learn which sessions exist.
        Err(Error::Refused(Refusal::NoSuchSession(_))) => return Err(bad_token()),
        Err(error) => return Err(error.into()),
    };
    let is = |token: &str| bool::from(token.as_bytes().ct_eq(given.as_bytes()));
    // All are always compared.
    match (is(&right), is(&tokens::agent(&right)), is(&tokens::viewer(&right))) {
        (true, _, _) => Ok(Kind::Driver),
        (_, true, _) => Ok(Kind::Agent),
        (_, _, true) => Ok(Kind::Viewer),
        (false, false, false) => Err(bad_token()),
    }
}

/// Refuses a web page's request: a browser names the page's origin in it.
fn no_web_page(headers: &HeaderMap) -> Answer<()> {
    if !headers.contains_key(header::ORIGIN) {
        return Ok(());
    }
    Err(web_page())
}

/// A token as it was sent, and the id of the session that it claims to belong to.
#[derive(Debug, PartialEq, Eq)]
struct Bearer<'a> {
    session: Option<SessionId>,
    token: &'a str,
}

impl Bearer<'_> {
    /// The hash of the key that was sent; none if it is a token.
    ///
    /// # Errors
    /// `bad_key` for what begins as a key and is none. A token may begin so by chance, and has another length.
    fn key(&self) -> Answer<Option<Hash>> {
        match self.session {
            None => match hash_of_key(self.token) {
                None if self.token.starts_with(PREFIX) && self.token.len() != TOKEN => Err(bad_key()),
                found => Ok(found),
            },
            Some(_) => Ok(None),
        }
    }
}

/// The hash of the key that a request shows; none if it shows none.
pub fn shown_key(headers: &HeaderMap) -> Option<Hash> {
    bearer(headers).ok()??.key().ok()?
}

/// The token, if one was sent.
fn bearer(headers: &HeaderMap) -> Answer<Option<Bearer<'_>>> {
    let value = super::input::single(headers, "authorization").map_err(|_| bad_token())?;
    let Some(value) = value else { return Ok(None) };
    let (scheme, given) = value.split_once(' ').ok_or_else(bad_token)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(bad_token());
    }
    // Neither ids nor tokens have a colon in them.
    match given.trim().split_once(':') {
        None => Ok(Some(Bearer { session: None, token: given.trim() })),
        Some((id, token)) => {
            let session = id.parse().map_err(|_| bad_token())?;
            Ok(Some(Bearer { session: Some(session), token }))
        }
    }
}

/// The session that the request is about, by the parameters of its route.
fn session_of<'a>(params: impl Iterator<Item = (&'a str, &'a str)>) -> Option<SessionId> {
    let mut ids = params.filter(|(name, _)| *name == "id");
    ids.next().and_then(|(_, id)| id.parse().ok())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn with(name: header::HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    #[test]
    fn a_token_is_read_and_anything_else_refused() {
        let read = |value| {
            let said = |given: Bearer<'_>| (given.session.map(|id| id.to_string()), given.token.to_owned());
            bearer(&with(header::AUTHORIZATION, value)).map(|given| given.map(said))
        };
        assert_eq!(bearer(&HeaderMap::new()).unwrap(), None);
        for (value, session) in
            [("Bearer abc", None), ("bearer  abc ", None), ("Bearer session-1:abc", Some("session-1"))]
        {
            let expected = (session.map(str::to_owned), "abc".to_owned());
            assert_eq!(read(value).unwrap(), Some(expected), "{value}");
        }
        for wrong in ["abc", "Basic abc", "", "Bearer", "Bearer :abc", "Bearer ..:abc", "Bearer a b:abc"] {
            assert_eq!(read(wrong).unwrap_err().problem().code, "bad_token", "{wrong:?}");
        }
        let mut twice = with(header::AUTHORIZATION, "Bearer abc");
        twice.append(header::AUTHORIZATION, HeaderValue::from_static("Bearer abd"));
        assert!(bearer(&twice).is_err());
    }

    #[test]
    fn a_token_is_for_the_session_in_the_path() {
        let about = |params: &[(&'static str, &'static str)]| session_of(params.iter().copied());
        assert_eq!(about(&[("id", "session-1"), ("prompt", "prompt-2")]).unwrap().as_str(), "session-1");
        for elsewhere in [&[][..], &[("prompt", "prompt-2")], &[("id", "..")], &[("pid", "1")]] {
            assert_eq!(about(elsewhere), None);
        }
    }

    #[test]
    fn web_pages_are_refused() {
        assert!(no_web_page(&HeaderMap::new()).is_ok());
        for origin in ["http://localhost", "null"] {
            assert_eq!(no_web_page(&with(header::ORIGIN, origin)).unwrap_err().problem().status, 403);
        }
    }
}
