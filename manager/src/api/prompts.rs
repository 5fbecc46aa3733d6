//! Prompts: accept, queue, abort, resolve.

use axum::Json as Reply;
use axum::http::StatusCode;
use protocol::api::{
    Aborted, Accepted, Cleared, EditRequest, PromptRequest, QueuedPrompt, ResolveRequest, Resolved,
};
use protocol::{PromptId, SessionId};
use serde::Deserialize;
use utoipa::IntoParams;

use super::body::{Json, LongJson, NoBody};
use super::codes::{WITH_BODY, refuses};
use super::input::{Id, Key, Nothing, Prompt, Query};
use super::limited::Limited;
use super::problem::Answer;

refuses!(SendErrors: 400 "invalid_client", 409 "not_driver", 400 "empty_prompt", 400 "invalid_attachment", 400 "invalid_id", 400 "invalid_idempotency_key", 400 "invalid_prompt", 404 "no_such_session",
    409 "busy", 409 "no_attachments", 409 "idempotency_key_reused", 409 "queue_full", 409 "session_failed", 409 "session_stopped", 409 "session_stopping",
    413 "attachments_too_large", 413 "prompt_too_large", 507 "journal_full"; + WITH_BODY);

/// Accepts a prompt.
///
/// When the answer comes, the prompt and its attachments are on disk, and the prompt runs or waits. It ends
/// exactly once, whatever crashes. Subscribe after `event_id` to follow it. The text has at most 1 MiB,
/// attachments together 8 MiB, the body at most 12 MiB.
#[utoipa::path(post, path = "/v1/sessions/{id}/prompts", tag = "prompts", operation_id = "send_prompt", request_body = PromptRequest,
    params(("id" = SessionId, Path, description = "The session."), ("Idempotency-Key" = String, Header,
        description = "1 to 255 printable ASCII characters, unique within the session: a repeated request with the same key and body is answered with the same prompt; with another body it is refused.")),
    responses((status = 202, description = "The prompt is accepted.", body = Accepted), SendErrors))]
pub async fn send(
    Limited(app): Limited,
    Id(id): Id,
    _: Query<Nothing>,
    key: Key,
    LongJson(prompt): LongJson<PromptRequest>,
) -> Answer<(StatusCode, Reply<Accepted>)> {
    let accepted = app.manager.send_prompt(&id, prompt, key.as_deref()).await?;
    Ok((StatusCode::ACCEPTED, Reply(accepted)))
}

refuses!(AbortErrors: 400 "invalid_client", 409 "not_driver", 400 "invalid_id", 404 "no_such_session", 409 "no_turn", 409 "prompt_queued", 507 "journal_full");

/// Ends the running turn as aborted, and everything it started.
///
/// A prompt that waits for its missing program counts as a running turn: it leaves the queue. kennel answers once the turn is
/// over. The session and the rest of its queue stay.
#[utoipa::path(post, path = "/v1/sessions/{id}/abort", tag = "prompts", operation_id = "abort",
    params(("id" = SessionId, Path, description = "The session."), AbortQuery),
    responses((status = 200, description = "The turn that was ended.", body = Aborted), AbortErrors))]
pub async fn abort(
    Limited(app): Limited,
    Id(id): Id,
    Query(query): Query<AbortQuery>,
    _: NoBody,
) -> Answer<Reply<Aborted>> {
    let manager = app.manager;
    let aborted = match query.prompt {
        None => manager.abort(&id).await?,
        Some(prompt) => manager.abort_prompt(&id, prompt.parse()?).await?,
    };
    Ok(Reply(aborted))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AbortQuery {
    /// The only prompt whose turn kennel ends. If its turn does not run, kennel ends nothing and answers `no_turn`, or
    /// `prompt_queued` if the prompt waits in the queue.
    #[param(value_type = Option<PromptId>)]
    prompt: Option<String>,
}

refuses!(QueueErrors: 400 "invalid_id", 404 "no_such_session");

/// Prompts that have not ended, and those that were interrupted and not resolved.
#[utoipa::path(get, path = "/v1/sessions/{id}/queue", tag = "prompts", operation_id = "queue",
    params(("id" = SessionId, Path, description = "The session.")),
    responses((status = 200, description = "The prompts.", body = [QueuedPrompt]), QueueErrors))]
pub async fn queue(Limited(app): Limited, Id(id): Id, _: Query<Nothing>) -> Answer<Reply<Vec<QueuedPrompt>>> {
    Ok(Reply(app.manager.queue(&id).await?))
}

refuses!(ClearErrors: 400 "invalid_client", 409 "not_driver", 400 "invalid_id", 404 "no_such_session", 507 "journal_full");

/// Takes all waiting prompts out of the queue; they end as aborted.
#[utoipa::path(delete, path = "/v1/sessions/{id}/queue", tag = "prompts", operation_id = "clear_queue",
    params(("id" = SessionId, Path, description = "The session.")),
    responses((status = 200, description = "Number of removed prompts.", body = Cleared), ClearErrors))]
pub async fn clear(
    Limited(app): Limited,
    Id(id): Id,
    _: Query<Nothing>,
    _: NoBody,
) -> Answer<Reply<Cleared>> {
    let removed = app.manager.clear_queue(&id).await?;
    Ok(Reply(Cleared { removed }))
}

refuses!(EditErrors: 400 "invalid_client", 409 "not_driver", 400 "empty_prompt", 400 "invalid_id", 400 "invalid_prompt", 404 "no_such_prompt", 404 "no_such_session",
    409 "not_queued", 413 "prompt_too_large", 507 "journal_full"; + WITH_BODY);

/// Replaces the text of a waiting prompt.
#[utoipa::path(patch, path = "/v1/sessions/{id}/queue/{prompt}", tag = "prompts", operation_id = "edit_prompt", request_body = EditRequest,
    params(("id" = SessionId, Path, description = "The session."), ("prompt" = PromptId, Path, description = "The prompt.")),
    responses((status = 204, description = "The text is replaced."), EditErrors))]
pub async fn edit(
    Limited(app): Limited,
    Id(id): Id,
    Prompt(prompt): Prompt,
    _: Query<Nothing>,
    Json(request): Json<EditRequest>,
) -> Answer<StatusCode> {
    app.manager.edit_prompt(&id, prompt, &request.text).await?;
    Ok(StatusCode::NO_CONTENT)
}

refuses!(RemoveErrors: 400 "invalid_client", 409 "not_driver", 400 "invalid_id", 404 "no_such_prompt", 404 "no_such_session", 409 "not_queued", 507 "journal_full");

/// Takes a waiting prompt out of the queue; it ends as aborted.
#[utoipa::path(delete, path = "/v1/sessions/{id}/queue/{prompt}", tag = "prompts", operation_id = "remove_prompt",
    params(("id" = SessionId, Path, description = "The session."), ("prompt" = PromptId, Path, description = "The prompt.")),
    responses((status = 204, description = "The prompt is removed."), RemoveErrors))]
pub async fn remove(
    Limited(app): Limited,
    Id(id): Id,
    Prompt(prompt): Prompt,
    _: Query<Nothing>,
    _: NoBody,
) -> Answer<StatusCode> {
    app.manager.remove_prompt(&id, prompt).await?;
    Ok(StatusCode::NO_CONTENT)
}

refuses!(ResolveErrors: 400 "invalid_client", 409 "not_driver", 400 "invalid_id", 404 "no_such_prompt", 409 "not_interrupted", 409 "queue_full", 409 "session_failed",
    409 "session_stopped", 409 "session_stopping", 507 "journal_full"; + WITH_BODY);

/// Decides what becomes of an interrupted prompt: the same again at the head of the queue, or nothing.
#[utoipa::path(post, path = "/v1/prompts/{prompt}/resolve", tag = "prompts", operation_id = "resolve_prompt", request_body = ResolveRequest,
    params(("prompt" = PromptId, Path, description = "The prompt.")),
    responses((status = 200, description = "The result.", body = Resolved), ResolveErrors))]
pub async fn resolve(
    Limited(app): Limited,
    Prompt(prompt): Prompt,
    _: Query<Nothing>,
    Json(request): Json<ResolveRequest>,
) -> Answer<Reply<Resolved>> {
    Ok(Reply(app.manager.resolve_prompt(prompt, request.action).await?))
}
