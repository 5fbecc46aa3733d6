//! The route for the disk usage of the state directory.

use axum::Json as Reply;
use protocol::api::{DiskUsage, PruneReport, PruneRequest};

use super::body::Json;
use super::codes::{WITH_BODY, refuses};
use super::input::{MAX_NUMBER, Nothing, Query};
use super::limited::Limited;
use super::problem::{Answer, ApiError};
use crate::config::bounds::SMALLEST_JOURNAL;

refuses!(UsageErrors: 500 "unread");

/// Disk usage of the state directory.
///
/// By kind of file, and by session. A session's share of the journal, which is one file, is the JSON of its events and
/// of its waiting prompts. The file is larger than the sum of all shares: it has empty pages and SQLite's own data.
#[utoipa::path(get, path = "/v1/manager/disk", tag = "manager", operation_id = "disk_usage",
    responses((status = 200, description = "The figures.", body = DiskUsage), UsageErrors))]
pub async fn usage(Limited(app): Limited, _: Query<Nothing>) -> Answer<Reply<DiskUsage>> {
    Ok(Reply(app.manager.disk_usage().await?))
}

refuses!(PruneErrors: 400 "invalid_body", 500 "unread", 507 "journal_full"; + WITH_BODY);

/// Removes old history and leftover files, or reports what it would remove.
///
/// kennel removes history from its beginning, by whole turns. It always keeps prompts that run, wait or may be resolved, with
/// everything after them; the newest turn of each session; the turns that an agent gets if its conversation is lost (256 KiB of
/// text); `session.created`; the agent's last list of settings; the whole history of a sub-agent. Sessions, idempotency keys and
/// tokens are no history. Ages are by the wall clock of the events. A client that asks for pruned events gets `event: gap`.
/// kennel removes leftovers in any case. The answer comes after the removal; meanwhile the daemon serves all other requests.
#[utoipa::path(post, path = "/v1/manager/prune", tag = "manager", operation_id = "prune", request_body = PruneRequest,
    responses((status = 200, description = "The history and files that were removed, or would be.", body = PruneReport), PruneErrors))]
pub async fn prune(
    Limited(app): Limited,
    _: Query<Nothing>,
    Json(request): Json<PruneRequest>,
) -> Answer<Reply<PruneReport>> {
    for (name, value) in [("older_than_ms", request.older_than_ms), ("max_bytes", request.max_bytes)] {
        if value.is_some_and(|value| value > MAX_NUMBER) {
            let detail = format!("the body: `{name}` is at most {MAX_NUMBER}; nothing was changed");
            return Err(ApiError::bad_request("invalid_body", detail));
        }
    }
    if request.max_bytes.is_some_and(|bytes| bytes < SMALLEST_JOURNAL) {
        let detail = format!(
            "the body: `max_bytes` is at least {SMALLEST_JOURNAL} (16 MiB), or absent for no limit by size; nothing was changed"
        );
        return Err(ApiError::bad_request("invalid_body", detail));
    }
    Ok(Reply(app.manager.prune(request).await?))
}
