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
//! A session has a second token, for viewers, which permits its own [`LOOKS`] and nothing else. The third
//! one, for its agent, also permits work with sub-agents. An agent never has more: a driver's token that
//! comes from below that session's own worker counts as the agent's. So no agent answers its own questions.
//!
//! A sub-agent of a session can do no more than the session (`core/rules/authority.rs`). Where the owner has
//! started one that can do more, its parent may read and end it, but not prompt it.

use axum::extract::{ConnectInfo, MatchedPath, RawPathParams, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use protocol::SessionId;
use protocol::api::Role;
use subtle::ConstantTimeEq;

use super::App;
use super::connections::{Origin, overloaded};
use super::peer::{NO_ROOM, Peer, Standing};
use super::problem::{Answer, ApiError};
use crate::core::Refusal;
use crate::error::Error;
use crate::workers::tokens;

/// The caller of a request. [`check`] adds it to every request.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The session whose token the request carries; none: the owner asks.
    pub session: Option<SessionId>,
    /// The most that it may be.
    pub role: Role,
}

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

/// Routes of its session that a viewer may read. The handler refuses a viewer who attaches as a driver.
const LOOKS: &[&str] = &[
    "/v1/sessions/{id}",
    "/v1/sessions/{id}/attach",
    "/v1/sessions/{id}/calls",
    "/v1/sessions/{id}/events",
    "/v1/sessions/{id}/log",
    "/v1/sessions/{id}/permissions",
    "/v1/sessions/{id}/queue",
    "/v1/sessions/{id}/result",
    "/v1/sessions/{id}/settings",
    "/v1/sessions/{id}/wait",
];

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

/// The route by which a session receives prompts.
const PROMPTS: &str = "/v1/sessions/{id}/prompts";

/// The route by which a caller starts and lists its own sub-agents.
const SUBAGENTS: &str = "/v1/subagents";

/// Goes before every route, matched or not. `params` are those of the matched route: what is checked here is
/// what the handler sees.
pub async fn check(
    State(app): State<App>,
    route: Option<MatchedPath>,
    params: Result<RawPathParams, axum::extract::rejection::RawPathParamsRejection>,
    mut request: Request,
    next: Next,
) -> Answer<Response> {
    no_web_page(request.headers())?;
    // The server names the peer of each connection; without a peer every request is refused.
    let peer = request.extensions().get::<ConnectInfo<Peer>>().map(|ConnectInfo(peer)| peer.clone());
    let peer = peer.ok_or_else(|| nobody("it is not known who has connected"))?;
    let standing = peer.standing(&app.manager).await?;
    if standing == (Standing::Nobody { why: NO_ROOM }) {
        // The next connection is looked at anew.
        let mut answer = overloaded(NO_ROOM).into_response();
        answer.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
        return Ok(answer);
    }
    let about = session_of(params.iter().flatten());
    let known = known(&app, standing, bearer(request.headers())?, about.as_ref()).await?;
    let route = route.as_ref().map_or("", |route| route.as_str());
    let caller = match known {
        None => Caller { session: None, role: Role::Driver },
        Some((caller, kind)) => {
            if let Some(origin) = request.extensions().get::<Origin>() {
                let role = if kind == Kind::Driver { Role::Driver } else { Role::Viewer };
                origin.belongs_to(&caller, role);
            }
            permit(&app, request.method(), route, (&caller, kind), about).await?;
            let role = match kind {
                Kind::Driver => Role::Driver,
                Kind::Agent if route == SUBAGENTS => Role::Driver,
                Kind::Agent | Kind::Viewer => Role::Viewer,
            };
            Caller { session: Some(caller), role }
        }
    };
    if app.manager.state_dir_gone() && !ends(request.method(), route) {
        return Err(Error::StateDirGone(app.manager.state_dir().to_owned()).into());
    }
    request.extensions_mut().insert(caller);
    Ok(next.run(request).await)
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
    (caller, kind): (&SessionId, Kind),
    about: Option<SessionId>,
) -> Answer<()> {
    let looks = *method == Method::GET && LOOKS.contains(&route);
    match (about, kind) {
        (Some(session), Kind::Viewer) if session != *caller || !looks => return Err(looks_on()),
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
pub fn no_web_page(headers: &HeaderMap) -> Answer<()> {
    if !headers.contains_key(header::ORIGIN) {
        return Ok(());
    }
    let detail = "requests with an `Origin` header come from web pages and are refused";
    Err(ApiError::new(StatusCode::FORBIDDEN, "origin_refused", detail))
}

/// A token as it was sent, and the id of the session that it claims to belong to.
#[derive(Debug, PartialEq, Eq)]
struct Bearer<'a> {
    session: Option<SessionId>,
    token: &'a str,
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

fn not_about_it() -> ApiError {
    let detail = "a session's token gives rights on that session only, and this request is not about it";
    ApiError::new(StatusCode::FORBIDDEN, "forbidden", detail).hint(
        "ask without a token, as the socket's owner; a session's own sub-agents are asked for with \
         `Authorization: Bearer ID:TOKEN`",
    )
}

/// The refusal for a session that is not below the caller: the same for a session that does not exist.
fn not_below(session: &SessionId) -> ApiError {
    let detail = format!("the token gives no such right on `{session}`; nothing was changed");
    ApiError::new(StatusCode::FORBIDDEN, "forbidden", detail).hint(
        "a session may look at sub-agents below it, prompt them, wait for them, and abort and stop them; \
         `GET /v1/subagents` lists them",
    )
}

/// The owner's own sub-agent of a session, which can do what the session cannot.
fn weaker_than(session: &SessionId, what: &[&str]) -> ApiError {
    let detail = format!(
        "session `{session}` can do more than the session that asks ({}); nothing was sent to it",
        what.join(", ")
    );
    ApiError::new(StatusCode::FORBIDDEN, "weaker_than_parent", detail)
        .hint("its owner sends it prompts: `kennel send`; or start another sub-agent")
}

fn nobody(why: &str) -> ApiError {
    let detail = format!("without a token this client has no rights here: {why}; nothing was changed");
    ApiError::new(StatusCode::FORBIDDEN, "forbidden", detail).hint(
        "ask from a process that the daemon sees and that no session has started, or send a session's token",
    )
}

fn sandboxed(session: &SessionId) -> ApiError {
    let detail = format!(
        "this client runs in the sandbox of session `{session}`, and has no rights but by that session's token; \
         nothing was changed"
    );
    ApiError::new(StatusCode::FORBIDDEN, "forbidden", detail).hint("ask from outside of the sandbox")
}

fn not_for_its_agent(session: &SessionId) -> ApiError {
    let detail = format!(
        "this client is the agent of session `{session}`, which may look at its session and start sub-agents, and \
         nothing else; nothing was changed"
    );
    ApiError::new(StatusCode::FORBIDDEN, "forbidden", detail)
        .hint("ask from a terminal that no session of this daemon has started")
}

/// A viewer wants more.
pub fn looks_on() -> ApiError {
    let detail = "a viewer's token lets look on at its session and nothing else; nothing was changed";
    ApiError::new(StatusCode::FORBIDDEN, "forbidden", detail)
        .hint("`kennel token SESSION`, without `--viewer`, prints the token that may drive it")
}

/// A client that came in over TLS shows nothing.
fn key_needed() -> ApiError {
    let detail = "over TLS every request needs a key or a session's token; nothing was changed";
    ApiError::new(StatusCode::UNAUTHORIZED, "key_needed", detail)
        .hint("`kennel pair` on that machine lets a device in; it sends `Authorization: Bearer KEY`")
}

fn bad_token() -> ApiError {
    ApiError::new(StatusCode::UNAUTHORIZED, "bad_token", "the token is not this session's")
        .hint("`kennel token SESSION` prints it; it is sent as `Authorization: Bearer TOKEN`, or `ID:TOKEN`")
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
