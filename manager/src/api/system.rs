//! The manager itself: its figures, its health, its end.

use axum::Json as Reply;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use protocol::api::ManagerInfo;
use serde::Deserialize;
use utoipa::IntoParams;

use super::body::NoBody;
use super::codes::refuses;
use super::input::{Nothing, Query, elsewhere};
use super::limited::Limited;
use super::problem::{Answer, ApiError};
use super::{App, Leave, openapi_json};

refuses!(NoErrors:);

/// The manager's own figures.
#[utoipa::path(get, path = "/v1/manager", tag = "manager", operation_id = "manager_info",
    responses((status = 200, description = "The manager.", body = ManagerInfo), NoErrors))]
pub async fn info(Limited(app): Limited, _: Query<Nothing>) -> Answer<Reply<ManagerInfo>> {
    Ok(Reply(figures(&app).await?))
}

/// Ends the daemon, gracefully.
///
/// The daemon ends all processes and keeps all goals: the next daemon restarts every session whose goal is to run. With
/// `hand_over` the processes go on with their turns, and the next daemon adopts them; without a next daemon a turn goes on
/// for an hour, and an idle session for ten minutes. The answer comes before the end; the daemon is gone when its process is.
#[utoipa::path(post, path = "/v1/manager/stop", tag = "manager", operation_id = "stop_manager", params(StopQuery),
    responses((status = 202, description = "The daemon ends. `pid` is the process to wait for.", body = ManagerInfo), NoErrors))]
pub async fn stop(
    Limited(app): Limited,
    Query(query): Query<StopQuery>,
    _: NoBody,
) -> Answer<(StatusCode, Reply<ManagerInfo>)> {
    let mut info = figures(&app).await?;
    app.stop.request(if query.hand_over { Leave::HandOver } else { Leave::EndAll });
    info.state = "stopping".into();
    Ok((StatusCode::ACCEPTED, Reply(info)))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct StopQuery {
    /// Processes go on, and the next daemon takes them over.
    #[serde(default)]
    #[param(required = false)]
    hand_over: bool,
}

async fn figures(app: &App) -> Answer<ManagerInfo> {
    let mut info = app.manager.info().await?;
    info.service = app.stop.is_of_service();
    if app.stop.is_requested() {
        info.state = "stopping".into();
    }
    Ok(info)
}

/// Answers while the daemon runs.
#[utoipa::path(get, path = "/healthz", tag = "manager", operation_id = "healthz",
    responses((status = 200, description = "`ok`.", body = String, content_type = "text/plain"), NoErrors))]
pub async fn healthz(_: Query<Nothing>) -> Answer<&'static str> {
    Ok("ok")
}

/// Answers whether the manager takes requests.
#[utoipa::path(get, path = "/readyz", tag = "manager", operation_id = "readyz",
    responses((status = 200, description = "`ready`.", body = String, content_type = "text/plain"), NoErrors))]
pub async fn readyz(Limited(app): Limited, _: Query<Nothing>) -> Answer<&'static str> {
    if figures(&app).await?.state == "stopping" {
        let detail = "the manager is stopping; it takes no requests any more";
        return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "manager_stopping", detail));
    }
    Ok("ready")
}

/// This API's description.
#[utoipa::path(get, path = "/v1/openapi.json", tag = "manager", operation_id = "openapi",
    responses((status = 200, description = "OpenAPI 3.1.", body = Object), NoErrors))]
pub async fn openapi(_: Query<Nothing>) -> Answer<impl IntoResponse> {
    // Hardly anybody asks, and it takes a while: nobody waits for it, and no memory holds it.
    let description = elsewhere(openapi_json).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], description))
}
