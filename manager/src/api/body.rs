//! Bodies of requests: how much of them is read, how long, and what JSON they hold.

use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::{FromRequest, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::Instant;

use super::connections::{Origin, SMALL, Who};
use super::problem::ApiError;
use crate::plain;

/// The largest body, in bytes. A prompt of 1 MiB fits, its escapes in JSON included, unless nearly all of it
/// is escaped.
pub const MAX_BODY: usize = 2 * 1024 * 1024;
/// The largest body with files in it, in bytes. It has to fit into a frame to a worker.
pub const MAX_LONG: usize = 12 * 1024 * 1024;

/// Bytes of a too large body that the daemon reads and discards. A client that writes the whole body before it reads
/// then gets the answer, not a broken pipe.
const MAX_DISCARDED: usize = 64 * 1024 * 1024;
/// Time limit for discarding such a body.
const DISCARD_FOR: Duration = Duration::from_secs(5);
/// Time limit for the next piece of a body.
const SILENCE: Duration = Duration::from_secs(20);
/// Time limit for a whole body, beside the time that it needs at [`SLOWEST`].
const BODY_TIME: Duration = Duration::from_secs(30);
/// The slowest that a body may come, in bytes a second.
const SLOWEST: usize = 64 * 1024;

/// A body of JSON.
pub struct Json<T>(pub T);

impl<T: DeserializeOwned + Serialize, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _state: &S) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        decode(&parts.headers, &read(&parts, body, MAX_BODY).await?).map(Self)
    }
}

/// A body of JSON with a secret in it: no error repeats anything of it.
pub struct SecretJson<T>(pub T);

impl<T: DeserializeOwned + Serialize, S: Send + Sync> FromRequest<S> for SecretJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _state: &S) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let bytes = read(&parts, body, MAX_BODY).await?;
        decode(&parts.headers, &bytes).map(Self).map_err(|error| match &*error.problem().code {
            // These two have serde's words, which name fields and values.
            code @ ("invalid_body" | "invalid_json") => {
                let code = if code == "invalid_body" { "invalid_body" } else { "invalid_json" };
                let detail = "the body is not what this route takes, and may have a secret, so that nothing of it is \
                              named; nothing was changed";
                ApiError::bad_request(code, detail).hint("`GET /v1/openapi.json` describes each route's body")
            }
            _ => error,
        })
    }
}

/// A body of JSON that may have files in it.
pub struct LongJson<T>(pub T);

impl<T: DeserializeOwned + Serialize, S: Send + Sync> FromRequest<S> for LongJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _state: &S) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        decode(&parts.headers, &read(&parts, body, MAX_LONG).await?).map(Self)
    }
}

/// A body of JSON all of whose fields have defaults: none, or `null`, is `{}`.
pub struct OptionalJson<T>(pub T);

impl<T: DeserializeOwned + Serialize + Default, S: Send + Sync> FromRequest<S> for OptionalJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _state: &S) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let bytes = read(&parts, body, MAX_BODY).await?;
        if bytes.is_empty() {
            return Ok(Self(T::default()));
        }
        decode::<Option<T>>(&parts.headers, &bytes).map(|body| Self(body.unwrap_or_default()))
    }
}

/// No body. A request with a body is refused, not ignored: its sender expects an effect.
pub struct NoBody;

impl<S: Send + Sync> FromRequest<S> for NoBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, _state: &S) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let bytes = read(&parts, body, MAX_BODY).await?;
        if bytes.is_empty() || bytes.trim_ascii() == b"{}" {
            return Ok(Self);
        }
        Err(ApiError::bad_request("unexpected_body", "this route takes no body; nothing was changed")
            .hint("its options are query parameters; `GET /v1/openapi.json` lists them"))
    }
}

/// The whole body, if it is not too large, if there is room for it, and if it comes in time.
async fn read(parts: &Parts, mut body: Body, most: usize) -> Result<Vec<u8>, ApiError> {
    let length = parts.headers.get(header::CONTENT_LENGTH);
    let length = length.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > most as u64) {
        // A client that expects `100 Continue` gets the refusal before it sends the body.
        if !parts.headers.contains_key(header::EXPECT) {
            discard(body).await;
        }
        return Err(too_large(most));
    }
    // Without a `Content-Length` the room is reserved for the largest body.
    let size = match length {
        Some(length) => length as usize,
        None if body.is_end_stream() => 0,
        None => most,
    };
    // Whoever has shown nothing must not take what others need.
    let may_reserve = |origin: &Origin| size <= SMALL || origin.who() != Who::Remote;
    let reserved = async |origin: &Origin| match may_reserve(origin) {
        true => origin.reserve(size).await,
        false => {
            let detail = "without a key a body has 64 KiB at most; nothing was changed";
            Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail))
        }
    };
    if let Some(origin) = parts.extensions.get::<Origin>()
        && let Err(error) = reserved(origin).await
    {
        discard(body).await;
        return Err(error);
    }
    let mut bytes = Vec::with_capacity(size);
    let end = Instant::now() + BODY_TIME + Duration::from_secs((size / SLOWEST) as u64);
    loop {
        let wait = SILENCE.min(end.saturating_duration_since(Instant::now()));
        let frame = tokio::time::timeout(wait, body.frame()).await.map_err(|_| late())?;
        let Some(frame) = frame else { return Ok(bytes) };
        let Ok(data) = frame.map_err(broken)?.into_data() else {
            continue;
        };
        if bytes.len() + data.len() > most {
            drop(bytes);
            discard(body).await;
            return Err(too_large(most));
        }
        bytes.extend_from_slice(&data);
    }
}

/// Reads on for a while and keeps nothing.
async fn discard(mut body: Body) {
    let mut seen = 0;
    let reading = async {
        while let Some(Ok(frame)) = body.frame().await {
            seen += frame.data_ref().map_or(0, |data| data.len());
            if seen > MAX_DISCARDED {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(DISCARD_FOR, reading).await;
}

fn too_large(most: usize) -> ApiError {
    let detail = format!("the body has more than {most} bytes; nothing was changed");
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail)
        .hint("put long input into a file and name the file in the prompt")
}

fn late() -> ApiError {
    let detail = "the body did not come in time; nothing was changed";
    ApiError::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", detail).hint(format!(
        "a body may pause for {} s, and comes with {SLOWEST} bytes a second at least",
        SILENCE.as_secs()
    ))
}

fn broken(error: axum::Error) -> ApiError {
    ApiError::bad_request("invalid_body", format!("the body ended early: {error}"))
}

fn decode<T: DeserializeOwned + Serialize>(headers: &HeaderMap, bytes: &[u8]) -> Result<T, ApiError> {
    let content_type = headers.get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap_or("?"));
    if !content_type.is_some_and(is_json) {
        let sent = content_type.map_or("nothing".into(), |sent| format!("`{sent}`"));
        return Err(ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            format!("`Content-Type` says {sent}; the body must be JSON; nothing was changed"),
        )
        .hint("send it with `Content-Type: application/json`"));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        ApiError::bad_request(
            "invalid_utf8",
            format!("the body is not UTF-8 at byte {at}; nothing was changed"),
        )
    })?;
    let body: T = serde_json::from_str(text).or_else(|error| with_whole_numbers(text).ok_or(error)).map_err(
        |error| {
            let code = if error.is_data() { "invalid_body" } else { "invalid_json" };
            ApiError::bad_request(
                code,
                format!("the body: {}; nothing was changed", plain::said(&error.to_string())),
            )
            .hint("`GET /v1/openapi.json` describes each route's body")
        },
    )?;
    // serde takes an array for a struct, its fields in their order.
    if text.contains('[') {
        let sent: Option<Value> = serde_json::from_str(text).ok();
        let meant = serde_json::to_value(&body).ok();
        if sent.zip(meant).is_some_and(|(sent, meant)| has_list_for_object(&sent, &meant)) {
            let detail = "the body has a list where an object belongs; nothing was changed";
            return Err(ApiError::bad_request("invalid_body", detail));
        }
    }
    Ok(body)
}

/// Returns true if the request contains a list where the type has an object.
fn has_list_for_object(sent: &Value, meant: &Value) -> bool {
    match (sent, meant) {
        (Value::Array(_), Value::Object(_)) => true,
        (Value::Array(sent), Value::Array(meant)) => {
            sent.iter().zip(meant).any(|(sent, meant)| has_list_for_object(sent, meant))
        }
        (Value::Object(sent), Value::Object(meant)) => sent
            .iter()
            .any(|(name, sent)| meant.get(name).is_some_and(|meant| has_list_for_object(sent, meant))),
        _ => false,
    }
}

/// The same where a number is written as `5.0` and 5 is meant, which is the same number in JSON (RFC 8259, section 6).
fn with_whole_numbers<T: DeserializeOwned>(text: &str) -> Option<T> {
    let mut value = serde_json::from_str(text).ok()?;
    if !mend_numbers(&mut value) {
        return None;
    }
    serde_json::from_value(value).ok()
}

/// Replaces whole numbers in another notation by plain ones. Returns true if there was one.
pub fn mend_numbers(value: &mut Value) -> bool {
    match value {
        Value::Number(number) if number.is_f64() => {
            let float = number.as_f64().unwrap_or(f64::NAN);
            // Above that not each whole number is one.
            let whole = float.fract() == 0.0 && float.abs() < 9e15;
            if whole {
                *value = Value::from(float as i64);
            }
            whole
        }
        Value::Array(values) => values.iter_mut().fold(false, |any, value| mend_numbers(value) | any),
        Value::Object(fields) => fields.values_mut().fold(false, |any, value| mend_numbers(value) | any),
        _ => false,
    }
}

fn is_json(content_type: &str) -> bool {
    let media = content_type.split(';').next().unwrap_or_default().trim();
    media.eq_ignore_ascii_case("application/json")
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderValue, Request};
    use protocol::api::{PromptRequest, SessionOpts};

    use super::*;
    use crate::api::connections::origin_of;

    fn json() -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("Application/JSON; charset=utf-8"));
        headers
    }

    fn code(headers: &HeaderMap, body: &[u8]) -> (u16, String, String) {
        let error = decode::<PromptRequest>(headers, body).unwrap_err();
        let problem = error.problem();
        (problem.status, problem.code.clone(), problem.detail.clone())
    }

    #[test]
    fn bad_bodies_have_codes_of_their_own() {
        assert_eq!(decode::<PromptRequest>(&json(), br#"{"text":"hi"}"#).unwrap().text, "hi");
        let opts = decode::<SessionOpts>(&json(), br#"{"nice":5.0,"grace_ms":1e3}"#).unwrap();
        assert_eq!((opts.nice, opts.grace_ms), (Some(5), Some(1000)));
        for wrong in
            [&br#"{"nice":5.5}"#[..], br#"{"nice":-1.0}"#, br#"{"nice":1e300}"#, br#"{"nice":5.0,"x":1}"#]
        {
            assert!(decode::<SessionOpts>(&json(), wrong).is_err());
        }
        for (body, expected, names) in [
            (&b"{\"text\":\"hi\",\"txet\":1}"[..], "invalid_body", "txet"),
            (b"{\"text\":5}", "invalid_body", "a text belongs here, not 5"),
            (b"{}", "invalid_body", "text"),
            (b"[\"hi\"]", "invalid_body", "object"),
            (b"{\"text\":\"hi\",\"attachments\":[[\"a\",null,null,\"x\"]]}", "invalid_body", "object"),
            (b"null", "invalid_body", "null"),
            (b"{\"text\":", "invalid_json", "too early"),
            (b"", "invalid_json", "too early"),
            (b"{\"text\":\"\xff\"}", "invalid_utf8", "byte 9"),
        ] {
            let (status, code, detail) = code(&json(), body);
            assert_eq!((status, &*code), (400, expected));
            assert!(detail.contains(names), "{detail}");
        }
        assert_eq!(code(&HeaderMap::new(), b"{}").1, "unsupported_media_type");
        let mut other = json();
        other.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        assert_eq!(code(&other, b"{}").0, 415);
    }

    #[tokio::test]
    async fn without_a_key_a_large_body_is_refused_however_its_length_is_told() {
        for (who, most) in [(Who::Remote, SMALL), (Who::Owner, MAX_BODY)] {
            let read = async |size: usize, length: Option<usize>| {
                let (mut parts, ()) = Request::new(()).into_parts();
                parts.extensions.insert(origin_of(who.clone()));
                if let Some(length) = length {
                    parts.headers.insert(header::CONTENT_LENGTH, length.into());
                }
                let read = read(&parts, Body::from(vec![b'x'; size]), MAX_BODY).await;
                read.map(|bytes| bytes.len()).map_err(|error| error.problem().status)
            };
            assert_eq!(read(SMALL, Some(SMALL)).await, Ok(SMALL));
            let (large, told) = (SMALL + 1, if most == SMALL { Err(413) } else { Ok(SMALL + 1) });
            assert_eq!(read(large, Some(large)).await, told, "{who:?}");
            assert_eq!(read(large, None).await, told, "{who:?}");
        }
    }

    #[tokio::test]
    async fn a_large_body_is_refused_and_not_kept() {
        let (parts, ()) = Request::new(()).into_parts();
        assert_eq!(read(&parts, Body::from(vec![b'x'; MAX_BODY]), MAX_BODY).await.unwrap().len(), MAX_BODY);
        let error = read(&parts, Body::from(vec![b'x'; MAX_BODY + 1]), MAX_BODY).await.unwrap_err();
        assert_eq!((error.problem().status, &*error.problem().code), (413, "body_too_large"));
    }
}
