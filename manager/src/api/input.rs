//! Extractors of requests. Each has its own error, so that no client receives one of axum's plain texts.

use std::time::Duration;

use axum::extract::{FromRequestParts, Query as AxumQuery, RawPathParams};
use axum::http::HeaderMap;
use axum::http::request::Parts;
use protocol::{CallId, EventId, PermissionId, PromptId, SessionId};
use serde::de::DeserializeOwned;

use super::caller::Meant;
use super::problem::{Answer, ApiError};
use crate::plain;
use crate::system::blocking;

/// The largest number that anything may be, as JSON knows integers of 64 bits.
pub const MAX_NUMBER: u64 = i64::MAX as u64;
/// The longest that may be waited, in milliseconds: a year.
pub const MAX_WAIT_MS: u64 = 365 * 24 * 3_600_000;

/// The session that `{id}` in the path names, by its id or its name. Not looked up yet.
pub struct Id(pub SessionId);

/// The prompt that `{prompt}` in the path names.
pub struct Prompt(pub PromptId);

/// The permission that `{permission}` in the path names.
pub struct Permission(pub PermissionId);

/// The call that `{call}` in the path names.
pub struct Call(pub CallId);

/// The value of `{name}` in the path.
pub struct Name(pub String);

/// The attached client that a request is from, as `Kennel-Client` names it.
pub struct Client(pub Option<EventId>);

impl<S: Send + Sync> FromRequestParts<S> for Client {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let wrong = |what: String| {
            ApiError::bad_request("invalid_client", what)
                .hint("it is the number that `attach` gave, or nothing")
        };
        let header = single(&parts.headers, "kennel-client").map_err(|what| wrong(what.to_string()))?;
        let read = |text: &str| {
            let id = text.parse().ok().filter(|id| *id <= MAX_NUMBER);
            id.ok_or_else(|| wrong(format!("`{text}` is not a client's id")))
        };
        Ok(Self(header.map(read).transpose()?))
    }
}

/// The file mode creation mask of the client, as `Kennel-Umask` carries it.
pub struct Umask(pub Option<u32>);

impl<S: Send + Sync> FromRequestParts<S> for Umask {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let wrong = |what: String| {
            ApiError::bad_request("invalid_umask", format!("`Kennel-Umask`: {what}; nothing was started"))
        };
        let header = single(&parts.headers, "kennel-umask").map_err(wrong)?;
        let read = |text: &str| {
            let what = "a umask is three or four octal digits from 000 to 0777";
            crate::config::parse_umask(text).map_err(|_| wrong(what.to_owned()))
        };
        Ok(Self(header.map(read).transpose()?))
    }
}

/// The process that `{pid}` in the path names.
pub struct Pid(pub u32);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let id = parameter(parts, state, "id").await?.parse()?;
        let meant = parts.extensions.get::<Meant>().and_then(|Meant(meant)| meant.clone());
        Ok(Self(meant.unwrap_or(id)))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Prompt {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        Ok(Self(parameter(parts, state, "prompt").await?.parse()?))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Permission {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        Ok(Self(parameter(parts, state, "permission").await?.parse()?))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Call {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        Ok(Self(parameter(parts, state, "call").await?.parse()?))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        Ok(Self(parameter(parts, state, "name").await?))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Pid {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let text = parameter(parts, state, "pid").await?;
        let pid = text
            .parse()
            .map_err(|_| ApiError::bad_request("invalid_id", format!("`{text}` is not a pid")))?;
        Ok(Self(pid))
    }
}

/// The text of `{name}` in the path.
pub async fn parameter<S: Send + Sync>(parts: &mut Parts, state: &S, name: &str) -> Result<String, ApiError> {
    let params = RawPathParams::from_request_parts(parts, state)
        .await
        .map_err(|_| ApiError::bad_request("invalid_id", "the path is not UTF-8"))?;
    let found = params.iter().find(|(key, _)| *key == name);
    found
        .map(|(_, value)| value.to_owned())
        .ok_or_else(|| ApiError::internal(format!("no `{name}` in the path")))
}

/// The query. Unknown parameters are refused by the types that are put in here.
pub struct Query<T>(pub T);

/// No query.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        AxumQuery::try_from_uri(&parts.uri).map(|AxumQuery(query)| Self(query)).map_err(|rejection| {
            // serde's message follows the rejection's own text and names the parameter.
            let text = rejection.body_text();
            let said = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
            ApiError::bad_request("invalid_parameter", format!("query: {}", plain::said(said)))
                .hint("`GET /v1/openapi.json` lists each route's parameters")
        })
    }
}

/// Time to wait, in milliseconds.
#[derive(Clone, Copy)]
pub struct Wait(pub Duration);

impl<'de> serde::Deserialize<'de> for Wait {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let millis = u64::deserialize(from)?;
        if millis > MAX_WAIT_MS {
            let what = format!("`timeout_ms` is at most {MAX_WAIT_MS}; nothing was changed");
            return Err(serde::de::Error::custom(what));
        }
        Ok(Self(Duration::from_millis(millis)))
    }
}

/// The value of `Idempotency-Key`, where it was sent. The manager judges it.
pub struct Key(pub Option<String>);

impl Key {
    /// As the manager's methods take it.
    pub fn as_deref(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Key {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        single(&parts.headers, "idempotency-key")
            .map(|value| Self(value.map(str::to_owned)))
            .map_err(|what| ApiError::bad_request("invalid_idempotency_key", what))
    }
}

/// A header that may be there once.
pub fn single<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, String> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(format!("the header `{name}` was sent more than once"));
    }
    let value = value.to_str().map_err(|_| format!("the header `{name}` is not plain ASCII"))?;
    Ok(Some(value.trim()))
}

/// Runs `work` on a thread where it may block.
pub async fn elsewhere<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Answer<T> {
    blocking::run(work).await.ok_or_else(|| ApiError::internal("a thread of this request panicked"))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_header_is_taken_once_or_not_at_all() {
        let mut headers = HeaderMap::new();
        assert_eq!(single(&headers, "idempotency-key"), Ok(None));
        headers.append("idempotency-key", HeaderValue::from_static(" a "));
        assert_eq!(single(&headers, "idempotency-key"), Ok(Some("a")));
        headers.append("idempotency-key", HeaderValue::from_static("b"));
        assert!(single(&headers, "idempotency-key").is_err());
        headers.clear();
        headers.append("idempotency-key", HeaderValue::from_bytes(b"\xff").unwrap());
        assert!(single(&headers, "idempotency-key").is_err());
    }
}
