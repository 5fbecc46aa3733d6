//! The route of the last lines of conversations.

use axum::Json as Reply;
use protocol::api::LastLine;

use super::codes::refuses;
use super::input::{Nothing, Query};
use super::limited::Limited;
use super::problem::Answer;

refuses!(LastLineErrors:);

/// The last line that each agent said.
///
/// For a list that shows what sessions are at. Only the newest 200 events of a session are looked at, without those that have more than
/// 64 KiB; a session in which these say nothing has no line. What is said from now on is in the events.
#[utoipa::path(get, path = "/v1/last-lines", tag = "sessions", operation_id = "last_lines",
    responses((status = 200, description = "Sessions with a line.", body = [LastLine]), LastLineErrors))]
pub async fn last_lines(Limited(app): Limited, _: Query<Nothing>) -> Answer<Reply<Vec<LastLine>>> {
    Ok(Reply(app.manager.last_lines().await?))
}
