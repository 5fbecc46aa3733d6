//! The route of what sessions use of the machine.

use axum::Json as Reply;
use protocol::api::SessionLoad;

use super::codes::refuses;
use super::input::{Nothing, Query};
use super::limited::Limited;
use super::problem::Answer;

refuses!(LoadErrors:);

/// Processor time and memory of sessions.
///
/// Those of each session with processes, by `/proc`: the worker, and all below it. What processes that are gone have used
/// counts if their parent waited for them and lives.
#[utoipa::path(get, path = "/v1/load", tag = "sessions", operation_id = "load",
    responses((status = 200, description = "The sessions with processes.", body = [SessionLoad]), LoadErrors))]
pub async fn load(Limited(app): Limited, _: Query<Nothing>) -> Answer<Reply<Vec<SessionLoad>>> {
    Ok(Reply(app.manager.load().await?))
}
