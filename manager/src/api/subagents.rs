//! Background sub-agents.

use axum::http::StatusCode;
use axum::{Extension, Json as Reply};
use protocol::api::{SessionOpts, SubagentHandle, SubagentRequest};
use protocol::event::RefusedFor;
use serde::Deserialize;
use utoipa::IntoParams;

use super::body::Json;
use super::caller::Caller;
use super::codes::{WITH_BODY, WITH_OPTIONS, refuses};
use super::input::{Key, Nothing, Query, Umask};
use super::limited::Limited;
use super::problem::{Answer, ApiError};

refuses!(StartErrors: 400 "invalid_client", 409 "not_driver", 400 "empty_prompt", 400 "invalid_idempotency_key", 400 "invalid_prompt", 403 "weaker_than_parent", 404 "no_such_pid", 404 "no_such_session",
    409 "id_taken", 409 "id_unusable", 409 "idempotency_key_reused", 409 "invalid_id", 409 "session_failed", 409 "session_stopped", 409 "session_stopping", 409 "subagent_limit",
    413 "prompt_too_large"; + WITH_BODY, WITH_OPTIONS);

/// Starts a session with a first prompt, below a parent or without one.
///
/// The handle comes as soon as the child has a process. The task is on disk, and kennel delivers it as soon
/// as the child is ready, whatever crashes meanwhile. With `Authorization: Bearer ID:TOKEN` the parent is
/// that session, and the sub-agent can do no more than the parent. Its sandbox, limits, turn timeout,
/// permissions and secrets are at most the parent's, and it works in the parent's directory or below. Options
/// that are left out come from the parent.
#[utoipa::path(post, path = "/v1/subagents", tag = "sub-agents", operation_id = "start_background_subagent", request_body = SubagentRequest,
    params(("Idempotency-Key" = String, Header,
        description = "1 to 255 printable ASCII characters: a repeated request with the same key and body is answered with the same sub-agent; with another body it is refused.")),
    responses((status = 201, description = "The sub-agent.", body = SubagentHandle), StartErrors))]
pub async fn start(
    Limited(app): Limited,
    Extension(caller): Extension<Caller>,
    _: Query<Nothing>,
    key: Key,
    Umask(umask): Umask,
    Json(request): Json<SubagentRequest>,
) -> Answer<(StatusCode, Reply<SubagentHandle>)> {
    let SubagentRequest { parent, task, opts } = request;
    let opts = SessionOpts { umask, ..opts };
    let parent = caller.parent(parent)?;
    if parent.is_none() {
        caller.may_name(opts.id.as_deref())?;
    }
    let is_bounded = caller.session.is_some() || caller.is_of_some();
    if is_bounded && (opts.permissions.is_some() || opts.permission_timeout_ms.is_some()) {
        // Else an agent that must ask could have somebody below it do what it may not.
        let detail = "whoever has rights on some sessions only cannot say what sub-agents may do without asking; nothing was started";
        return Err(ApiError::denied(
            StatusCode::FORBIDDEN,
            "forbidden",
            RefusedFor::WeakerThanParent,
            detail,
        )
        .hint("leave `permissions` and `permission_timeout_ms` out: the agent's profile says it"));
    }
    let started = match (&caller.session, &parent) {
        (Some(own), _) => app.manager.start_subagent_of(own, &task, opts, key.as_deref()).await,
        // What is below a listed session can do no more than the session: else the key would be the user.
        (None, Some(parent)) if is_bounded => {
            let parent = app.manager.lookup(parent).await?;
            app.manager.start_subagent_of(&parent, &task, opts, key.as_deref()).await
        }
        (None, _) => {
            app.manager.start_background_subagent(parent.as_deref(), &task, opts, key.as_deref()).await
        }
    };
    Ok((StatusCode::CREATED, Reply(started?)))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// The parent's session id, or the current pid of its worker; without it the sub-agents of all.
    parent: Option<String>,
}

refuses!(ListErrors: 400 "invalid_id", 404 "no_such_pid", 404 "no_such_session");

/// Sub-agents, oldest first.
///
/// With `Authorization: Bearer ID:TOKEN` that session's only.
#[utoipa::path(get, path = "/v1/subagents", tag = "sub-agents", operation_id = "list_background_subagents",
    params(ListQuery), responses((status = 200, description = "The sub-agents.", body = [SubagentHandle]), ListErrors))]
pub async fn list(
    Limited(app): Limited,
    Extension(caller): Extension<Caller>,
    Query(query): Query<ListQuery>,
) -> Answer<Reply<Vec<SubagentHandle>>> {
    let parent = caller.parent(query.parent)?;
    Ok(Reply(app.manager.list_background_subagents(parent.as_deref()).await?))
}

impl Caller {
    /// The parent whose sub-agents a request is about: the owner names any session, a session has only itself.
    fn parent(&self, said: Option<String>) -> Answer<Option<String>> {
        match &self.session {
            None => Ok(said),
            Some(own) if said.as_deref().is_none_or(|said| said == own.as_str()) => Ok(Some(own.to_string())),
            Some(own) => {
                let detail =
                    format!("the token is of session `{own}`, which has no rights on another's sub-agents");
                Err(ApiError::denied(StatusCode::FORBIDDEN, "forbidden", RefusedFor::Session, detail)
                    .hint("leave `parent` out: it is the token's session"))
            }
        }
    }
}
