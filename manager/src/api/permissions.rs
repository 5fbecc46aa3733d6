//! Permissions that agents ask for, and the agents themselves.

use axum::Json as Reply;
use axum::http::StatusCode;
use protocol::api::{AgentInfo, AnswerRequest, PermissionInfo};
use protocol::{PermissionId, SessionId};

use super::body::Json;
use super::codes::{WITH_BODY, refuses};
use super::input::{Id, Nothing, Permission, Query};
use super::limited::Limited;
use super::problem::Answer;

refuses!(AllErrors:);

/// Permissions that wait for an answer, in all sessions, oldest first.
#[utoipa::path(get, path = "/v1/permissions", tag = "permissions", operation_id = "permissions",
    responses((status = 200, description = "The permissions.", body = [PermissionInfo]), AllErrors))]
pub async fn all(Limited(app): Limited, _: Query<Nothing>) -> Answer<Reply<Vec<PermissionInfo>>> {
    Ok(Reply(app.manager.permissions(None).await?))
}

refuses!(ListErrors: 400 "invalid_id", 404 "no_such_session");

/// Permissions of a session that wait for an answer.
#[utoipa::path(get, path = "/v1/sessions/{id}/permissions", tag = "permissions", operation_id = "permissions_of_session",
    params(("id" = SessionId, Path, description = "The session.")),
    responses((status = 200, description = "The permissions.", body = [PermissionInfo]), ListErrors))]
pub async fn of_session(
    Limited(app): Limited,
    Id(id): Id,
    _: Query<Nothing>,
) -> Answer<Reply<Vec<PermissionInfo>>> {
    Ok(Reply(app.manager.permissions(Some(&id)).await?))
}

refuses!(AnswerErrors: 400 "invalid_client", 409 "not_driver", 400 "invalid_id", 404 "no_such_permission", 404 "no_such_session", 409 "permission_settled", 400 "no_such_option",
    507 "journal_full"; + WITH_BODY);

/// Answers a permission. The first answer counts; later ones are refused as `permission_settled`.
#[utoipa::path(post, path = "/v1/sessions/{id}/permissions/{permission}", tag = "permissions", operation_id = "answer_permission",
    request_body = AnswerRequest,
    params(("id" = SessionId, Path, description = "The session."), ("permission" = PermissionId, Path, description = "The permission.")),
    responses((status = 204, description = "The request is answered, and the answer is on disk."), AnswerErrors))]
pub async fn answer(
    Limited(app): Limited,
    Id(id): Id,
    Permission(permission): Permission,
    _: Query<Nothing>,
    Json(request): Json<AnswerRequest>,
) -> Answer<StatusCode> {
    app.manager.answer_permission(&id, permission, request.answer).await?;
    Ok(StatusCode::NO_CONTENT)
}

refuses!(AgentsErrors: 409 "invalid_config");

/// Agents that sessions can be started with: those of `config.toml`, and those that kennel knows.
#[utoipa::path(get, path = "/v1/agents", tag = "manager", operation_id = "agents",
    responses((status = 200, description = "The agents.", body = [AgentInfo]), AgentsErrors))]
pub async fn agents(Limited(app): Limited, _: Query<Nothing>) -> Answer<Reply<Vec<AgentInfo>>> {
    Ok(Reply(app.manager.agents().await?))
}
