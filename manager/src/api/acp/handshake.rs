//! The opening handshake of a WebSocket (RFC 6455, section 4).

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hyper::upgrade::OnUpgrade;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::api::input::single;
use crate::api::problem::{Answer, ApiError};
use crate::system::random;

/// The header that names a connection to its client, as the protocol's text on transports has it.
const CONNECTION_ID: HeaderName = HeaderName::from_static("acp-connection-id");

/// A request to make its connection a WebSocket, examined.
pub struct Handshake {
    upgrade: OnUpgrade,
    accept: HeaderValue,
}

impl Handshake {
    /// Examines a request.
    pub fn of(request: &mut Request) -> Answer<Self> {
        let upgrade = request.extensions_mut().remove::<OnUpgrade>();
        let headers = request.headers();
        let asks =
            has(headers, &header::CONNECTION, "upgrade") && has(headers, &header::UPGRADE, "websocket");
        let Some(upgrade) = upgrade.filter(|_| asks && request.version() == Version::HTTP_11) else {
            let what =
                "this route is a WebSocket's, and the request asks for none by HTTP/1.1; nothing was done";
            return Err(ApiError::new(StatusCode::UPGRADE_REQUIRED, "upgrade_required", what)
                .hint("send `Connection: Upgrade` and `Upgrade: websocket`"));
        };
        if !request.body().is_end_stream() {
            let what = "a WebSocket begins with a request without a body; nothing was done";
            return Err(ApiError::bad_request("unexpected_body", what));
        }
        if single(headers, "sec-websocket-version").ok().flatten() != Some("13") {
            let what = "kennel speaks version 13 of the WebSocket protocol, and no other; nothing was done";
            return Err(ApiError::new(StatusCode::UPGRADE_REQUIRED, "websocket_version", what)
                .hint("send `Sec-WebSocket-Version: 13`"));
        }
        let key = single(headers, "sec-websocket-key").ok().flatten();
        let is_key = |key: &&str| BASE64_STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == 16);
        let Some(key) = key.filter(is_key) else {
            let what = "`Sec-WebSocket-Key` is 16 bytes in base64, once; nothing was done";
            return Err(ApiError::bad_request("invalid_websocket", what));
        };
        let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes())).map_err(ApiError::internal)?;
        Ok(Self { upgrade, accept })
    }

    /// The answer, and the connection once the answer is sent.
    pub fn accept(self) -> Answer<(Response, OnUpgrade)> {
        let id = random::bytes::<16>().map_err(ApiError::internal)?;
        let id = HeaderValue::from_str(&random::hex(&id)).map_err(ApiError::internal)?;
        let mut response = (StatusCode::SWITCHING_PROTOCOLS, Body::empty()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, self.accept);
        headers.insert(CONNECTION_ID, id);
        Ok((response, self.upgrade))
    }
}

/// Returns true if the header lists this word.
fn has(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    let lists = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    lists.flat_map(|list| list.split(',')).any(|found| found.trim().eq_ignore_ascii_case(word))
}
