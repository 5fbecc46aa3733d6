//! Who may ask for what.
//!
//! Whoever reaches the socket is the owner: it has mode 0600, and the peer's uid is checked at every
//! connection. A request that carries a session's token has that session's rights and no more, so that a token
//! can be given to a program that shall not have the rest. Web pages have no business here.

use axum::extract::{RawPathParams, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use protocol::SessionId;
use subtle::ConstantTimeEq;

use super::App;
use super::problem::{Answer, ApiError};
use crate::core::Refusal;
use crate::error::Error;

/// Goes before every route, matched or not. `params` are those of the matched route: what is checked here is
/// what the handler sees.
pub async fn check(
    State(app): State<App>,
    params: Result<RawPathParams, axum::extract::rejection::RawPathParamsRejection>,
    request: Request,
    next: Next,
) -> Answer<Response> {
    no_web_page(request.headers())?;
    if let Some(given) = bearer(request.headers())? {
        let session = session_of(params.iter().flatten())?;
        let right = match app.manager.session_token(&session).await {
            Ok(right) => right,
            // Whoever has no token is not told which sessions exist.
            Err(Error::Refused(Refusal::NoSuchSession(_))) => return Err(bad_token()),
            Err(error) => return Err(error.into()),
        };
        if !bool::from(right.as_bytes().ct_eq(given.as_bytes())) {
            return Err(bad_token());
        }
    }
    Ok(next.run(request).await)
}

/// Browsers say where a page came from when it talks to another place.
fn no_web_page(headers: &HeaderMap) -> Answer<()> {
    if !headers.contains_key(header::ORIGIN) {
        return Ok(());
    }
    let detail = "requests with an `Origin` header come from web pages and are refused";
    Err(ApiError::new(StatusCode::FORBIDDEN, "origin_refused", detail))
}

/// The token, if one was sent.
fn bearer(headers: &HeaderMap) -> Answer<Option<&str>> {
    let value = super::input::single(headers, "authorization").map_err(|_| bad_token())?;
    let Some(value) = value else { return Ok(None) };
    let (scheme, token) = value.split_once(' ').ok_or_else(bad_token)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(bad_token());
    }
    Ok(Some(token.trim()))
}

/// The session that the request is about, by the parameters of its route.
fn session_of<'a>(params: impl Iterator<Item = (&'a str, &'a str)>) -> Answer<SessionId> {
    let mut ids = params.filter(|(name, _)| *name == "id");
    ids.next().and_then(|(_, id)| id.parse().ok()).ok_or_else(|| {
        let detail = "a session's token gives rights on that session only, and this request is not about it";
        ApiError::new(StatusCode::FORBIDDEN, "forbidden", detail)
            .hint("ask without a token, as the socket's owner")
    })
}

fn bad_token() -> ApiError {
    ApiError::new(StatusCode::UNAUTHORIZED, "bad_token", "the token is not this session's")
        .hint("`kennel token SESSION` prints it; it is sent as `Authorization: Bearer TOKEN`")
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
        let token = |value| bearer(&with(header::AUTHORIZATION, value)).map(|token| token.map(str::to_owned));
        assert_eq!(bearer(&HeaderMap::new()).unwrap(), None);
        assert_eq!(token("Bearer abc").unwrap().as_deref(), Some("abc"));
        assert_eq!(token("bearer  abc ").unwrap().as_deref(), Some("abc"));
        for wrong in ["abc", "Basic abc", "", "Bearer"] {
            assert_eq!(token(wrong).unwrap_err().problem().code, "bad_token", "{wrong:?}");
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
            assert_eq!(about(elsewhere).unwrap_err().problem().code, "forbidden");
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
