//! The route for the disk usage of the state directory.

use axum::Json as Reply;
use axum::extract::State;
use protocol::api::{DiskUsage, PruneReport, PruneRequest};

use super::App;
use super::body::Json;
use super::codes::{WITH_BODY, refuses};
use super::input::{MAX_NUMBER, Nothing, Query};
use super::problem::{Answer, ApiError};

refuses!(UsageErrors: 500 "unread");

/// Disk usage of the state directory.
///
/// By kind of file, and by session. A session's share of the journal, which is one file, is the JSON of its events and
/// of its waiting prompts. The file is larger than the sum of all shares: it has empty pages and SQLite's own data.
#[utoipa::path(get, path = "/v1/manager/disk", tag = "manager", operation_id = "disk_usage",
    responses((status = 200, description = "The figures.", body = DiskUsage), UsageErrors))]
pub async fn usage(State(app): State<App>, _: Query<Nothing>) -> Answer<Reply<DiskUsage>> {
    Ok(Reply(app.manager.disk_usage().await?))
}

refuses!(PruneErrors: 400 "invalid_body", 500 "unread", 507 "journal_full"; + WITH_BODY);

/// Removes history and files that nobody needs any more, or tells what would go.
///
/// History goes from its beginning and by whole turns. What stays, however old it is: prompts that run, wait or may be
/// resolved, with all that came after them; the newest turn of each session; the turns that its agent is told where its
/// conversation is lost (256 KiB of text); `session.created`; what its agent last told that can be set in it; all of
/// a sub-agent. Sessions, idempotency keys and tokens are no history. Ages are by the wall clock of the events. Whoever asks
/// for events from before gets `event: gap`. Leftovers go in any case. The answer comes when it is gone; until then all
/// other requests are served.
#[utoipa::path(post, path = "/v1/manager/prune", tag = "manager", operation_id = "prune", request_body = PruneRequest,
    responses((status = 200, description = "The history and files that were removed, or would be.", body = PruneReport), PruneErrors))]
pub async fn prune(
    State(app): State<App>,
    _: Query<Nothing>,
    Json(request): Json<PruneRequest>,
) -> Answer<Reply<PruneReport>> {
    for (name, value) in [("older_than_ms", request.older_than_ms), ("max_bytes", request.max_bytes)] {
        if value.is_some_and(|value| value > MAX_NUMBER) {
            let detail = format!("the body: `{name}` is at most {MAX_NUMBER}; nothing was changed");
            return Err(ApiError::bad_request("invalid_body", detail));
        }
    }
    Ok(Reply(app.manager.prune(request).await?))
}
