//! Refusals for want of rights, on their way into the journal.
//!
//! The check of rights and the handlers answer with a reason ([`Denial`]) where they refuse access. This layer around them takes the
//! reason from the answer and notes it, with what the check has found out about the caller. The answer waits for nothing.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::Response;
use protocol::event::Refused;
use protocol::{KeyId, SessionId};

use super::App;
use super::problem::Denial;
use super::rights::rule;

/// Facts about the caller of a request that the check of rights has confirmed.
#[derive(Clone, Debug, Default)]
struct Confirmed(Arc<Facts>);

#[derive(Debug, Default)]
struct Facts {
    address: OnceLock<IpAddr>,
    key: OnceLock<KeyId>,
    session: OnceLock<SessionId>,
}

/// The client of this request has this address.
pub fn has_address(parts: &Parts, address: IpAddr) {
    note(parts, |facts| _ = facts.address.set(address));
}

/// The client of this request has shown this key.
pub fn has_key(parts: &Parts, key: KeyId) {
    note(parts, |facts| _ = facts.key.set(key));
}

/// The client of this request is an agent of this session, or has its token. The first of both counts.
pub fn is_of(parts: &Parts, session: &SessionId) {
    note(parts, |facts| _ = facts.session.set(session.clone()));
}

fn note(parts: &Parts, fact: impl FnOnce(&Facts)) {
    if let Some(Confirmed(facts)) = parts.extensions.get() {
        fact(facts);
    }
}

/// Goes around the check of rights.
pub async fn record(
    State(app): State<App>,
    route: Option<MatchedPath>,
    mut request: Request,
    next: Next,
) -> Response {
    let confirmed = Confirmed::default();
    let method = request.method().clone();
    request.extensions_mut().insert(confirmed.clone());
    let mut response = next.run(request).await;
    if let Some(Denial(reason)) = response.extensions_mut().remove() {
        let facts = &confirmed.0;
        app.manager.refusals().note(Refused {
            reason,
            address: facts.address.get().map(IpAddr::to_string),
            key: facts.key.get().copied(),
            session: facts.session.get().cloned(),
            operation: route.and_then(|route| operation(&method, route.as_str())),
            count: 1,
        });
    }
    response
}

/// Method and route of an operation. A method and a path that a client has made up are none.
fn operation(method: &Method, route: &str) -> Option<String> {
    rule(method, route).map(|_| format!("{method} {route}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_one_of_the_description_and_no_text_of_a_client() {
        let of = |method: &str, route| operation(&method.parse().unwrap(), route);
        assert_eq!(of("POST", "/v1/sessions/{id}/stop").as_deref(), Some("POST /v1/sessions/{id}/stop"));
        assert_eq!(of("HEAD", "/v1/sessions").as_deref(), Some("HEAD /v1/sessions"));
        for (method, route) in [("EVIL", "/v1/sessions"), ("GET", ""), ("GET", "/v1/sessions/s/stop")] {
            assert_eq!(of(method, route), None, "{method} {route}");
        }
    }
}
