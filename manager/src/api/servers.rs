//! MCP servers of a session that exists.

use axum::Json as Reply;
use protocol::SessionId;
use protocol::api::{McpServersReply, McpServersRequest};

use super::body::Json;
use super::codes::{WITH_BODY, refuses};
use super::input::{Id, Nothing, Query};
use super::limited::Limited;
use super::problem::Answer;

refuses!(ServersErrors: 400 "invalid_client", 400 "invalid_id", 400 "invalid_mcp_servers", 409 "mcp_servers_refused", 404 "no_such_session", 409 "not_driver",
    507 "journal_full"; + WITH_BODY);

/// Adds MCP servers to those of a session's agent; replaces a server of the same name.
///
/// A running agent does not learn of them: its next process has them.
#[utoipa::path(put, path = "/v1/sessions/{id}/mcp_servers", tag = "sessions", operation_id = "add_mcp_servers",
    request_body = McpServersRequest,
    params(("id" = SessionId, Path, description = "The session.")),
    responses((status = 200, description = "The changes.", body = McpServersReply), ServersErrors))]
pub async fn add(
    Limited(app): Limited,
    Id(id): Id,
    _: Query<Nothing>,
    Json(request): Json<McpServersRequest>,
) -> Answer<Reply<McpServersReply>> {
    Ok(Reply(app.manager.add_mcp_servers(&id, request).await?))
}
