//! Forks of sessions.

use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::{Extension, Json as Reply};
use protocol::api::{ForkRequest, SessionInfo};

use super::body::Json;
use super::caller::Caller;
use super::codes::{WITH_BODY, refuses};
use super::input::{Key, Nothing, Query};
use super::limited::Limited;
use super::problem::Answer;

refuses!(ForkErrors: 400 "invalid_id", 400 "invalid_idempotency_key", 400 "invalid_labels", 400 "invalid_name", 400 "invalid_title",
    400 "workdir_not_absolute", 404 "no_such_session", 404 "no_such_turn", 409 "cannot_fork", 409 "id_retired", 409 "id_taken",
    409 "id_unusable", 409 "idempotency_key_reused", 409 "invalid_id", 409 "name_taken", 409 "name_unusable", 409 "no_such_workdir",
    409 "overtaken", 409 "too_many_labels", 409 "turn_running", 409 "workdir_not_a_directory", 409 "workdir_not_accessible",
    409 "workdir_not_utf8", 502 "session_failed", 507 "journal_full"; + WITH_BODY);

/// A new session that goes on from a turn of another.
///
/// The fork has the origin's agent, directory, limits, sandbox, permissions and settings. With the fork's first prompt kennel tells the agent
/// the turns until that one: the newest that fit into 256 KiB (`restore` is `replayed`). The origin does not change, and the fork stays when
/// the origin is removed. Answers once the fork has a process. A session's token starts no forks.
#[utoipa::path(post, path = "/v1/forks", tag = "sessions", operation_id = "fork_session",
    params(("Idempotency-Key" = String, Header,
        description = "1 to 255 printable ASCII characters: a repeated request with the same key and body is answered with the same session; with another body it is refused.")),
    request_body = ForkRequest,
    responses((status = 201, description = "The new session.", body = SessionInfo), ForkErrors))]
pub async fn fork(
    Limited(app): Limited,
    Extension(caller): Extension<Caller>,
    _: Query<Nothing>,
    key: Key,
    Json(request): Json<ForkRequest>,
) -> Answer<impl IntoResponse> {
    caller.may_name(request.id.as_deref())?;
    let session = app.manager.fork_session(&request, key.as_deref()).await?;
    let location = [(header::LOCATION, format!("/v1/sessions/{}", session.id))];
    Ok((StatusCode::CREATED, location, Reply(session)))
}
