//! The manager as a request's caller has it.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use super::App;
use super::caller::Caller;
use super::problem::ApiError;

/// The API's state for one request: sessions that the caller does not reach do not exist. Every handler takes this one.
pub struct Limited(pub App);

impl FromRequestParts<App> for Limited {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let caller = parts.extensions.get::<Caller>();
        let caller = caller.ok_or_else(|| ApiError::internal("a request without a caller"))?;
        Ok(Self(App { manager: app.manager.asked_by(caller.asker()), ..app.clone() }))
    }
}
