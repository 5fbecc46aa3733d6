//! Idempotency keys: what makes a request that is sent twice one request.

use protocol::SessionId;
use sha2::{Digest, Sha256};

use crate::core::Reply;
use crate::error::Error;
use crate::system::random::hex;

/// The identity of a request, so that a repeated request is done once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// The scope in which the key is unique.
    pub scope: String,
    /// The client's key.
    pub key: String,
    /// Hash of the request that the key stands for.
    pub request: String,
}

impl IdempotencyKey {
    /// A key within its scope, and a hash of the request it stands for.
    pub(crate) fn new(scope: &str, key: &str, request: &impl serde::Serialize) -> Result<Self, Error> {
        let plain = !key.is_empty() && key.len() <= 255 && key.bytes().all(|byte| byte.is_ascii_graphic());
        if !plain {
            return Err(Error::invalid(
                "invalid_idempotency_key",
                "`Idempotency-Key`: an idempotency key is 1 to 255 printable ASCII characters without spaces; nothing was changed",
            ));
        }
        let request = serde_json::to_vec(request).map_err(|error| {
            Error::invalid("invalid_request", format!("the request cannot be read: {error}"))
        })?;
        let hash = hex(&Sha256::digest(&request));
        Ok(Self { scope: scope.to_owned(), key: key.to_owned(), request: hash })
    }
}

/// A use of an idempotency key, to be remembered with the changes it stands for.
pub struct UsedKey {
    /// The key.
    pub key: IdempotencyKey,
    /// The answer to the first request.
    pub reply: Reply,
}

/// The scope of idempotency keys that belong to one session.
pub fn session_scope(id: &SessionId) -> String {
    scope_of(id.as_str())
}

pub(super) fn scope_of(id: &str) -> String {
    format!("session/{id}")
}
