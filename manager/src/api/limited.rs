//! The manager as a request's caller has it.

use axum::extract::{FromRequestParts, MatchedPath};
use axum::http::request::Parts;

use super::App;
use super::caller::Caller;
use super::input::Client;
use super::problem::ApiError;
use super::rights::is_drivers;

/// The API's state for one request: sessions that the caller does not reach do not exist, and a client that the request names
/// changes none that it does not drive. Every handler takes this one.
pub struct Limited(pub App);

impl FromRequestParts<App> for Limited {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let caller = parts.extensions.get::<Caller>();
        let caller = caller.ok_or_else(|| ApiError::internal("a request without a caller"))?;
        let manager = app.manager.asked_by(caller.asker());
        let route = parts.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str);
        let client = match is_drivers(&parts.method, route) {
            true => Client::from_request_parts(parts, app).await?.0,
            false => None,
        };
        Ok(Self(App { manager: manager.on_behalf_of(client), ..app.clone() }))
    }
}
