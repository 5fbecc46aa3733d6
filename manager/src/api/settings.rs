//! Routes for the settings of agents.

use std::time::Duration;

use axum::Json as Reply;
use protocol::SessionId;
use protocol::api::{SettingReply, SettingRequest, SettingsInfo};
use serde::Deserialize;
use utoipa::IntoParams;

use super::body::Json;
use super::codes::{WITH_BODY, refuses};
use super::input::{Id, Name, Nothing, Query, Wait};
use super::limited::Limited;
use super::problem::Answer;

/// Time to wait for an agent's answer, in milliseconds. The agent may take longer; then an event reports its answer.
const PATIENCE_MS: u64 = 20_000;

refuses!(LookErrors: 400 "invalid_id", 404 "no_such_session");

/// Settings of a session's agent: their choices, and the values that clients have set.
///
/// Modes and options are in ACP's words, as the agent has reported them; null if the agent has none or has not reported
/// any yet.
#[utoipa::path(get, path = "/v1/sessions/{id}/settings", tag = "settings", operation_id = "settings",
    params(("id" = SessionId, Path, description = "The session.")),
    responses((status = 200, description = "The settings.", body = SettingsInfo), LookErrors))]
pub async fn all(Limited(app): Limited, Id(id): Id, _: Query<Nothing>) -> Answer<Reply<SettingsInfo>> {
    Ok(Reply(app.manager.settings(&id).await?))
}

refuses!(SetErrors: 400 "invalid_client", 400 "invalid_id", 400 "invalid_setting", 404 "no_such_session", 409 "no_settings",
    409 "not_driver", 409 "setting_refused", 409 "too_many_settings", 507 "journal_full"; + WITH_BODY);

/// Sets the agent's `mode`, or one of its options by id.
///
/// The setting stays, also in later processes of the agent. If the agent does not run, or does not answer in
/// time, `answer` is null; kennel applies the setting when the agent is ready, and an event reports the
/// result.
#[utoipa::path(put, path = "/v1/sessions/{id}/settings/{name}", tag = "settings", operation_id = "set", request_body = SettingRequest,
    params(("id" = SessionId, Path, description = "The session."), ("name" = String, Path, description = "`mode`, or an option's id."), SetQuery),
    responses((status = 200, description = "The result.", body = SettingReply), SetErrors))]
pub async fn set(
    Limited(app): Limited,
    Id(id): Id,
    Name(name): Name,
    Query(query): Query<SetQuery>,
    Json(request): Json<SettingRequest>,
) -> Answer<Reply<SettingReply>> {
    let manager = app.manager;
    let patience = query.timeout_ms.map_or(Duration::from_millis(PATIENCE_MS), |wait| wait.0);
    Ok(Reply(manager.set(&id, &name, &request.value, patience).await?))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SetQuery {
    /// Time to wait for the agent's answer, in milliseconds. Absent: 20000.
    #[param(value_type = u64, required = false)]
    timeout_ms: Option<Wait>,
}
