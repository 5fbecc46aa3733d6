//! Keys of devices, and how a device gets one.

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::IntoResponse;
use axum::{Extension, Json as Reply};
use protocol::KeyId;
use protocol::api::{
    IssuedKey, KeyInfo, KeyRequest, PairRequest, PairedKey, PairingInfo, PairingRequest, StartedPairing,
};
use protocol::event::Timestamp;
use serde::Deserialize;
use utoipa::IntoParams;

use super::body::{Json, NoBody};
use super::caller::Caller;
use super::codes::{WITH_BODY, refuses};
use super::input::{Nothing, Query, Wait, parameter};
use super::limited::Limited;
use super::problem::{Answer, ApiError};
use super::sessions::NO_STORE;
use crate::error::Error;
use crate::keys::{Begun, Grant, described, hash_of_key, hash_of_secret, new_key, new_secret};

/// The key that `{key}` in the path names.
pub struct KeyOf(KeyId);

impl<S: Send + Sync> FromRequestParts<S> for KeyOf {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        Ok(Self(parameter(parts, state, "key").await?.parse()?))
    }
}

refuses!(ListErrors: 500 "unread");

/// Keys, oldest first. Never the keys themselves, of which the daemon keeps hashes.
#[utoipa::path(get, path = "/v1/keys", tag = "keys", operation_id = "list_keys",
    responses((status = 200, description = "The keys.", body = [KeyInfo]), ListErrors))]
pub async fn list(Limited(app): Limited, _: Query<Nothing>) -> Answer<Reply<Vec<KeyInfo>>> {
    Ok(Reply(app.keys.list()?))
}

refuses!(CreateErrors: 400 "invalid_key", 403 "key_outlasts", 409 "too_many_keys", 507 "keys_unwritten"; + WITH_BODY);

/// A new key.
///
/// The answer is the only place where the key itself ever is. A key that is to be made with another key expires no later than
/// that one.
#[utoipa::path(post, path = "/v1/keys", tag = "keys", operation_id = "create_key", request_body = KeyRequest,
    responses((status = 201, description = "The key, a secret.", body = IssuedKey), CreateErrors))]
pub async fn create(
    Limited(app): Limited,
    Extension(caller): Extension<Caller>,
    _: Query<Nothing>,
    Json(request): Json<KeyRequest>,
) -> Answer<impl IntoResponse> {
    let KeyRequest { name, role, sessions, expires_at } = request;
    let grant =
        Grant { name: Some(name), role, sessions, expires_at: expires_at.map(|at| at.0), browser: false };
    let (key, hash) = fresh()?;
    // Tasks of their own, as below: a request that is dropped in the middle of a write would leave half of it.
    let (keys, maker) = (app.keys.clone(), caller.key.clone());
    let issued = tokio::spawn(async move { keys.issue(grant, maker.as_deref(), hash).await });
    let info = issued.await.map_err(ApiError::internal)??;
    tracing::info!("{} was made{}: {}", info.id, caller.said(), described(info.role, &info.sessions));
    Ok((StatusCode::CREATED, [NO_STORE], Reply(IssuedKey { info, key })))
}

refuses!(RevokeErrors: 400 "invalid_id", 404 "no_such_key", 507 "keys_unwritten");

/// Revokes a key.
///
/// It lets nobody in any more, and what it has open ends within a second. Sessions that it has started stay.
#[utoipa::path(delete, path = "/v1/keys/{key}", tag = "keys", operation_id = "revoke_key",
    params(("key" = KeyId, Path, description = "The key.")),
    responses((status = 204, description = "The key is revoked."), RevokeErrors))]
pub async fn revoke(
    Limited(app): Limited,
    Extension(caller): Extension<Caller>,
    KeyOf(id): KeyOf,
    _: Query<Nothing>,
    _: NoBody,
) -> Answer<StatusCode> {
    // A task of its own: a key that revokes itself ends this request.
    let keys = app.keys.clone();
    let revoked = tokio::spawn(async move { keys.revoke(id).await });
    revoked.await.map_err(ApiError::internal)??;
    tracing::info!("{id} was revoked{}", caller.said());
    Ok(StatusCode::NO_CONTENT)
}

refuses!(RotateErrors: 400 "invalid_id", 403 "key_outlasts", 404 "no_such_key", 507 "keys_unwritten");

/// Gives a key a new secret.
///
/// Id, rights and expiry stay. The old secret lets nobody in any more, and what it has open ends within a second. A key cannot
/// rotate itself: its answer would end with it.
#[utoipa::path(post, path = "/v1/keys/{key}/rotate", tag = "keys", operation_id = "rotate_key",
    params(("key" = KeyId, Path, description = "The key.")),
    responses((status = 200, description = "The key, a secret.", body = IssuedKey), RotateErrors))]
pub async fn rotate(
    Limited(app): Limited,
    Extension(caller): Extension<Caller>,
    KeyOf(id): KeyOf,
    _: Query<Nothing>,
    _: NoBody,
) -> Answer<impl IntoResponse> {
    if caller.key.as_ref().is_some_and(|own| own.id == id) {
        let detail =
            format!("`{id}` is the key that asks, and its answer would end with it; nothing was changed");
        return Err(ApiError::new(StatusCode::FORBIDDEN, "forbidden", detail)
            .hint("make another key, and revoke this one with it"));
    }
    let (key, hash) = fresh()?;
    let (keys, maker) = (app.keys.clone(), caller.key.clone());
    let rotated = tokio::spawn(async move { keys.rotate(id, maker.as_deref(), hash).await });
    let info = rotated.await.map_err(ApiError::internal)??;
    tracing::info!("{id} has a new secret{}", caller.said());
    Ok(([NO_STORE], Reply(IssuedKey { info, key })))
}

refuses!(BeginErrors: 400 "invalid_key", 403 "key_outlasts", 409 "too_many_keys"; + WITH_BODY);

/// Begins to let one device in.
///
/// The device sends the secret with `POST /v1/pair`, once, within ten minutes. Five wrong secrets end the pairing. An earlier
/// pairing ends. Pairings live in the daemon's memory, so a new daemon knows of none.
#[utoipa::path(post, path = "/v1/pairings", tag = "keys", operation_id = "begin_pairing", request_body = PairingRequest,
    responses((status = 201, description = "The pairing and its secret.", body = StartedPairing), BeginErrors))]
pub async fn begin(
    Limited(app): Limited,
    Extension(caller): Extension<Caller>,
    _: Query<Nothing>,
    Json(request): Json<PairingRequest>,
) -> Answer<impl IntoResponse> {
    let PairingRequest { name, role, sessions, expires_at } = request;
    let grant = Grant { name, role, sessions, expires_at: expires_at.map(|at| at.0), browser: false };
    let secret = new_secret().map_err(ApiError::internal)?;
    let what = described(grant.role, &grant.sessions);
    let Begun { number, until, replaces } =
        app.keys.begin(grant, caller.key.as_deref(), hash_of_secret(&secret)).await?;
    tracing::info!("pairing {number} has begun{}: {what}", caller.said());
    let started = StartedPairing { number, secret, expires_at: Timestamp(until), replaces };
    Ok((StatusCode::CREATED, [NO_STORE], Reply(started)))
}

refuses!(EndErrors:);

/// Ends the pairing that is under way, if one is.
#[utoipa::path(delete, path = "/v1/pairings", tag = "keys", operation_id = "end_pairing",
    responses((status = 204, description = "No pairing is under way."), EndErrors))]
pub async fn end(Limited(app): Limited, _: Query<Nothing>, _: NoBody) -> Answer<StatusCode> {
    app.keys.end().await;
    Ok(StatusCode::NO_CONTENT)
}

/// The pairing that `{pairing}` in the path names.
pub struct Number(u64);

impl<S: Send + Sync> FromRequestParts<S> for Number {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let text = parameter(parts, state, "pairing").await?;
        let number = text.parse().ok().filter(|number| *number <= super::input::MAX_NUMBER);
        let wrong = || ApiError::bad_request("invalid_id", format!("`{text}` is not a pairing's number"));
        number.map(Self).ok_or_else(wrong)
    }
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PairingQuery {
    /// Time to wait until the pairing is over, in milliseconds. Absent: as long as it lasts.
    #[param(value_type = u64, required = false)]
    timeout_ms: Option<Wait>,
}

refuses!(PairingErrors: 400 "invalid_id", 504 "timeout");

/// Waits until a pairing is over.
///
/// A pairing of an earlier daemon, and one whose place another one took, has `ended`.
#[utoipa::path(get, path = "/v1/pairings/{pairing}", tag = "keys", operation_id = "pairing",
    params(("pairing" = u64, Path, description = "Number of the pairing."), PairingQuery),
    responses((status = 200, description = "How it ended.", body = PairingInfo), PairingErrors))]
pub async fn pairing(
    Limited(app): Limited,
    Number(number): Number,
    Query(query): Query<PairingQuery>,
) -> Answer<Reply<PairingInfo>> {
    let over = app.keys.over(number);
    let Some(Wait(after)) = query.timeout_ms else { return Ok(Reply(over.await)) };
    let over = tokio::time::timeout(after, over).await;
    let late = |_| Error::Timeout { what: format!("the end of pairing {number}"), after };
    Ok(Reply(over.map_err(late)?))
}

refuses!(PairErrors: 400 "invalid_key", 401 "bad_secret", 403 "pairing_closed", 409 "key_taken", 409 "too_many_keys",
    500 "unread", 507 "keys_unwritten"; + WITH_BODY);

/// Lets a device in that has the secret of `kennel pair`.
///
/// The one request that needs no key: the device makes its key and sends it. The same request again has the same answer, until
/// the secret expires. Every other request with a secret that was used is refused.
#[utoipa::path(post, path = "/v1/pair", tag = "keys", operation_id = "pair", request_body = PairRequest,
    responses((status = 201, description = "The device's key is known from now on.", body = PairedKey), PairErrors))]
pub async fn pair(
    Limited(app): Limited,
    Extension(caller): Extension<Caller>,
    _: Query<Nothing>,
    Json(request): Json<PairRequest>,
) -> Answer<(StatusCode, Reply<PairedKey>)> {
    let Some(hash) = hash_of_key(&request.key) else {
        let detail = "`key` is `kk_` and 32 random bytes in url-safe base64; no key was made";
        return Err(ApiError::bad_request("invalid_key", detail));
    };
    let keys = app.keys.clone();
    let from = caller.address.map_or_else(|| "socket".to_owned(), |address| address.to_string());
    let address = from.clone();
    // A task of its own: a device that goes meanwhile is paired all the same, and may ask again.
    let paired = tokio::spawn(async move {
        keys.finish(&hash_of_secret(&request.secret), &request.name, hash, &address).await
    });
    let paired = paired.await.map_err(ApiError::internal)?;
    match &paired {
        Ok(info) => {
            tracing::info!("{} was paired from {from}: {}", info.id, described(info.role, &info.sessions))
        }
        // Whoever reaches the port can ask for ever: it counts as a failure of its address, and its log has a bound.
        Err(error) => tracing::debug!("a device was not paired, from {from}: {error:?}"),
    }
    let KeyInfo { id, name, role, sessions, expires_at, .. } = paired?;
    Ok((StatusCode::CREATED, Reply(PairedKey { id, name, role, sessions, expires_at })))
}

/// A new key and its hash.
fn fresh() -> Answer<(String, crate::keys::Hash)> {
    let key = new_key().map_err(ApiError::internal)?;
    let hash = hash_of_key(&key).ok_or_else(|| ApiError::internal("a new key is none"))?;
    Ok((key, hash))
}

impl Caller {
    /// The key that asks, in the words that logs use; empty for the owner.
    pub fn said(&self) -> String {
        match &self.key {
            Some(key) => format!(" by {}", key.id),
            None => String::new(),
        }
    }
}
