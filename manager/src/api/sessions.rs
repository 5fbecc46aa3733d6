//! Sessions: start, look, stop.

use std::path::PathBuf;
use std::time::Duration;

use axum::http::{HeaderName, StatusCode, header};
use axum::response::IntoResponse;
use axum::{Extension, Json as Reply};
use protocol::SessionId;
use protocol::api::{
    EditSessionRequest, Orphans, Role, SessionInfo, SessionOpts, Status, TokenReply, TurnResult,
};
use protocol::event::Timestamp;
use serde::Deserialize;
use serde::de::IntoDeserializer;
use utoipa::IntoParams;

use super::body::{Json, NoBody, OptionalJson};
use super::caller::Caller;
use super::codes::{WITH_BODY, WITH_OPTIONS, refuses};
use super::input::{Id, Key, Nothing, Pid, Query, Umask, Wait};
use super::limited::Limited;
use super::problem::{Answer, ApiError};
use crate::config::label_wanted;
use crate::core::Refusal;
use crate::core::limits::LABELS;
use crate::error::Error;
use crate::session_manager::{List, Sort, WaitFor};
use crate::workers::tokens;

/// Time that `PUT` and bootstrap wait for a session if the request names none, in milliseconds.
pub(super) const START_TIMEOUT_MS: u64 = 30_000;
/// Header that keeps an answer with a secret out of every cache.
pub(super) const NO_STORE: (HeaderName, &str) = (header::CACHE_CONTROL, "no-store");

refuses!(ListErrors: 400 "invalid_labels", 400 "workdir_not_absolute");

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// `false`: without the sessions that are stopped, as `kennel ls` lists them. Absent: all sessions.
    #[param(value_type = bool, required = false)]
    all: Option<bool>,
    /// States, separated by commas: sessions with one of these.
    #[param(value_type = String, required = false)]
    status: Option<Words<Status>>,
    /// `true`: sessions that wait for somebody.
    #[serde(default)]
    needs: bool,
    /// Agents, separated by commas, at most 32: sessions of one of these profiles.
    #[param(pattern = "^[^,]*(,[^,]*){0,31}$")]
    agent: Option<String>,
    /// Absolute path: sessions that work in this directory or below it.
    dir: Option<String>,
    /// Labels, separated by commas, each with `=` and a value or without: sessions with all of these.
    label: Option<String>,
    /// Time: sessions with a message since then, or made since then.
    since: Option<Timestamp>,
    /// The order. Absent: `created`.
    #[serde(default)]
    #[param(inline)]
    sort: Sort,
    /// The number of sessions to leave out at the beginning.
    #[serde(default)]
    #[param(value_type = u64, maximum = 4294967295u64, required = false)]
    skip: u32,
    /// The most sessions in the answer. Absent: all.
    #[param(value_type = u64, maximum = 4294967295u64, required = false)]
    limit: Option<u32>,
}

/// The most words of one parameter: as many states as there are.
const WORDS: usize = 10;
/// The most agents that a list is asked for with.
const AGENTS: usize = 32;

/// Words of the API, separated by commas.
struct Words<T>(Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Words<T> {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let read = |word: &str| T::deserialize(word.to_owned().into_deserializer());
        if text.split(',').count() > WORDS {
            return Err(serde::de::Error::custom(format!("it has at most {WORDS} states")));
        }
        text.split(',').map(read).collect::<Result<_, D::Error>>().map(Self)
    }
}

impl ListQuery {
    fn list(self) -> Answer<List> {
        let wrong = |what: String| ApiError::bad_request("invalid_labels", format!("`label`: {what}"));
        let wanted: Vec<&str> = self.label.iter().flat_map(|label| label.split(',')).collect();
        if wanted.len() > LABELS {
            return Err(wrong(format!("a list is asked for with at most {LABELS} labels")));
        }
        // An empty one would choose all sessions.
        wanted.iter().try_for_each(|label| label_wanted(label).map(drop).map_err(wrong))?;
        let labels = wanted.iter().map(|label| match label.split_once('=') {
            Some((label, value)) => ((*label).to_owned(), Some(value.to_owned())),
            None => ((*label).to_owned(), None),
        });
        let agents: Vec<String> =
            self.agent.iter().flat_map(|agents| agents.split(',')).map(str::to_owned).collect();
        if agents.len() > AGENTS {
            let what = format!("query: `agent` has at most {AGENTS} agents");
            return Err(ApiError::bad_request("invalid_parameter", what));
        }
        Ok(List {
            without_stopped: self.all == Some(false),
            status: self.status.map(|statuses| statuses.0).unwrap_or_default(),
            needs: self.needs,
            agents,
            dir: self.dir.map(PathBuf::from),
            labels: labels.collect(),
            since: self.since,
            sort: self.sort,
            skip: self.skip as usize,
            limit: self.limit.map(|limit| limit as usize),
        })
    }
}

/// Sessions: all, or those that are asked for, in the order that is asked for.
#[utoipa::path(get, path = "/v1/sessions", tag = "sessions", operation_id = "list_sessions", params(ListQuery),
    responses((status = 200, description = "The sessions.", body = [SessionInfo]), ListErrors))]
pub async fn list(Limited(app): Limited, Query(query): Query<ListQuery>) -> Answer<Reply<Vec<SessionInfo>>> {
    let mut list = query.list()?;
    if let Some(dir) = list.dir.take() {
        if !dir.is_absolute() {
            let detail = format!("`{}` is not an absolute path", dir.display());
            return Err(ApiError::bad_request("workdir_not_absolute", detail));
        }
        // Sessions have the path without symlinks.
        list.dir = Some(app.manager.without_links(dir).await?);
    }
    Ok(Reply(app.manager.list(&list).await?))
}

refuses!(CreateErrors: 400 "invalid_idempotency_key", 409 "id_taken", 409 "id_unusable", 409 "idempotency_key_reused", 409 "invalid_id"; + WITH_BODY, WITH_OPTIONS);

/// A new session.
///
/// Answers once it has a process; `pid` is its worker's. No body is `{}`: a shell in the home directory. The header
/// `Kennel-Umask: 0022` carries the client's file mode creation mask (umask(2)), in octal. The session's programs inherit it
/// where the configuration sets none.
#[utoipa::path(post, path = "/v1/sessions", tag = "sessions", operation_id = "start_session",
    params(("Idempotency-Key" = String, Header,
        description = "1 to 255 printable ASCII characters: a repeated request with the same key and body is answered with the same session; with another body it is refused.")),
    request_body(content = Option<SessionOpts>),
    responses((status = 201, description = "The session.", body = SessionInfo), CreateErrors))]
pub async fn create(
    Limited(app): Limited,
    Extension(caller): Extension<Caller>,
    _: Query<Nothing>,
    key: Key,
    Umask(umask): Umask,
    OptionalJson(opts): OptionalJson<SessionOpts>,
) -> Answer<impl IntoResponse> {
    let opts = SessionOpts { umask, ..opts };
    caller.may_name(opts.id.as_deref())?;
    let session = app.manager.start_session(opts, key.as_deref()).await?;
    let location = [(header::LOCATION, format!("/v1/sessions/{}", session.id))];
    Ok((StatusCode::CREATED, location, Reply(session)))
}

refuses!(OneErrors: 400 "invalid_id", 404 "no_such_session");

/// A session.
#[utoipa::path(get, path = "/v1/sessions/{id}", tag = "sessions", operation_id = "get_session",
    params(("id" = SessionId, Path, description = "The session.")),
    responses((status = 200, description = "The session.", body = SessionInfo), OneErrors))]
pub async fn get(Limited(app): Limited, Id(id): Id, _: Query<Nothing>) -> Answer<Reply<SessionInfo>> {
    Ok(Reply(app.manager.get_session(&id).await?))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EnsureQuery {
    /// Time to wait until the session is ready, in milliseconds. Absent: 30000. The request stays in force when the
    /// time is over.
    #[param(value_type = u64, required = false)]
    timeout_ms: Option<Wait>,
}

refuses!(EnsureErrors: 400 "invalid_client", 409 "not_driver", 409 "id_taken", 409 "id_unusable", 409 "invalid_id", 409 "session_stopping", 409 "spec_mismatch", 409 "unkillable", 504 "timeout"; + WITH_BODY, WITH_OPTIONS);

/// The session under this id, ready.
///
/// Returns the session as it is, wakes it from hibernation, waits while it restarts, or starts it again if it
/// is stopped or failed. Without one, starts a new session under this id. The options in the request must
/// equal the session's. Safe to repeat.
#[utoipa::path(put, path = "/v1/sessions/{id}", tag = "sessions", operation_id = "start_or_get_session",
    params(("id" = SessionId, Path, description = "The session."), EnsureQuery),
    request_body(content = Option<SessionOpts>),
    responses((status = 200, description = "The session.", body = SessionInfo), EnsureErrors))]
pub async fn ensure(
    Limited(app): Limited,
    Id(id): Id,
    Query(query): Query<EnsureQuery>,
    Extension(caller): Extension<Caller>,
    Umask(umask): Umask,
    OptionalJson(mut opts): OptionalJson<SessionOpts>,
) -> Answer<Reply<SessionInfo>> {
    opts.umask = umask;
    if opts.id.take().is_some_and(|given| given != id.as_str()) {
        let detail = "the body's `id` is not the path's; nothing was changed";
        return Err(ApiError::new(StatusCode::CONFLICT, "invalid_id", detail));
    }
    let timeout = query.timeout_ms.map_or(Duration::from_millis(START_TIMEOUT_MS), |wait| wait.0);
    if caller.session.is_some() {
        // A token is of a session that exists: if somebody removes it meanwhile, none is made in its place.
        return Ok(Reply(app.manager.get_ready(&id, opts, timeout).await?));
    }
    Ok(Reply(app.manager.start_or_get_session(id.as_str(), opts, timeout).await?))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RemoveQuery {
    /// `true`: stop it first, and its sub-agents.
    #[serde(default)]
    force: bool,
}

refuses!(RemoveErrors: 400 "invalid_client", 409 "not_driver", 400 "invalid_id", 404 "no_such_session", 409 "not_stopped", 409 "unkillable", 507 "journal_full");

/// Removes a session and its records.
///
/// The session must have no process, unless `force` is set. kennel never uses its id again.
#[utoipa::path(delete, path = "/v1/sessions/{id}", tag = "sessions", operation_id = "remove_session",
    params(("id" = SessionId, Path, description = "The session."), RemoveQuery),
    responses((status = 204, description = "The session is removed."), RemoveErrors))]
pub async fn remove(
    Limited(app): Limited,
    Id(id): Id,
    Query(query): Query<RemoveQuery>,
    _: NoBody,
) -> Answer<StatusCode> {
    // A task of its own: with `force` these are two steps, and a client that leaves must not part them.
    let removal = tokio::spawn(async move { app.manager.remove_session(&id, query.force).await });
    removal.await.map_err(ApiError::internal)??;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct StopQuery {
    /// Treatment of the session's sub-agents. Absent: kennel stops them too.
    #[serde(default)]
    #[param(inline)]
    orphans: Orphans,
}

refuses!(StopErrors: 400 "invalid_client", 409 "not_driver", 400 "invalid_id", 404 "no_such_session", 409 "session_failed", 409 "unkillable", 502 "session_failed", 507 "journal_full");

/// Stops a session: its whole tree of processes, gracefully, then by force.
///
/// Answers once all of them are gone. Prompts that wait end as aborted.
#[utoipa::path(post, path = "/v1/sessions/{id}/stop", tag = "sessions", operation_id = "stop_session",
    params(("id" = SessionId, Path, description = "The session."), StopQuery),
    responses((status = 200, description = "The session.", body = SessionInfo), StopErrors))]
pub async fn stop(
    Limited(app): Limited,
    Id(id): Id,
    Query(query): Query<StopQuery>,
    _: NoBody,
) -> Answer<Reply<SessionInfo>> {
    Ok(Reply(app.manager.stop_session(&id, query.orphans).await?))
}

refuses!(StopPidErrors: 400 "invalid_client", 409 "not_driver", 400 "invalid_id", 404 "no_such_pid", 409 "session_failed", 409 "unkillable", 502 "session_failed", 507 "journal_full");

/// Stops the session whose worker or agent has this pid now.
#[utoipa::path(post, path = "/v1/pids/{pid}/stop", tag = "sessions", operation_id = "stop_session_by_pid",
    params(("pid" = u32, Path, description = "A process."), StopQuery),
    responses((status = 200, description = "The session.", body = SessionInfo), StopPidErrors))]
pub async fn stop_by_pid(
    Limited(app): Limited,
    Pid(pid): Pid,
    Query(query): Query<StopQuery>,
    _: NoBody,
) -> Answer<Reply<SessionInfo>> {
    Ok(Reply(app.manager.stop_session_by_pid(pid, query.orphans).await?))
}

refuses!(RestartErrors: 400 "invalid_client", 409 "not_driver", 400 "invalid_id", 404 "no_such_session", 409 "overtaken", 409 "session_stopping", 409 "unkillable", 502 "session_failed", 507 "journal_full");

/// A new process for the session, and a clean slate for its restart budget.
///
/// Answers once it is ready.
#[utoipa::path(post, path = "/v1/sessions/{id}/restart", tag = "sessions", operation_id = "restart_session",
    params(("id" = SessionId, Path, description = "The session.")),
    responses((status = 200, description = "The session.", body = SessionInfo), RestartErrors))]
pub async fn restart(
    Limited(app): Limited,
    Id(id): Id,
    _: Query<Nothing>,
    _: NoBody,
) -> Answer<Reply<SessionInfo>> {
    Ok(Reply(app.manager.restart_session(&id).await?))
}

refuses!(EditErrors: 400 "invalid_client", 400 "invalid_id", 400 "invalid_labels", 400 "invalid_name", 400 "invalid_title", 404 "no_such_session", 409 "labels_of_key", 409 "name_taken", 409 "name_unusable", 409 "not_driver", 409 "too_many_labels", 507 "journal_full"; + WITH_BODY);

/// Changes what people call a session: its name, its title, its labels.
///
/// Changes nothing that the request does not name. A label with null is removed.
#[utoipa::path(patch, path = "/v1/sessions/{id}", tag = "sessions", operation_id = "edit_session",
    params(("id" = SessionId, Path, description = "The session.")),
    request_body = EditSessionRequest,
    responses((status = 200, description = "The session.", body = SessionInfo), EditErrors))]
pub async fn edit(
    Limited(app): Limited,
    Id(id): Id,
    _: Query<Nothing>,
    Extension(caller): Extension<Caller>,
    Json(request): Json<EditSessionRequest>,
) -> Answer<Reply<SessionInfo>> {
    let edited = app.manager.edit_session(&id, &request).await;
    Ok(Reply(edited.map_err(|error| match (error, caller.session) {
        // A session's token learns nothing of others.
        (
            Error::Refused(Refusal::NameTaken { name, naming, .. } | Refusal::NameIsId(name, naming)),
            Some(_),
        ) => Error::Refused(Refusal::NameUnusable(name, naming)),
        (error, _) => error,
    })?))
}

refuses!(PinErrors: 400 "invalid_client", 409 "not_driver", 400 "invalid_id", 404 "no_such_session", 507 "journal_full");

/// Keeps the session from hibernating.
#[utoipa::path(post, path = "/v1/sessions/{id}/pin", tag = "sessions", operation_id = "pin_session",
    params(("id" = SessionId, Path, description = "The session.")),
    responses((status = 200, description = "The session.", body = SessionInfo), PinErrors))]
pub async fn pin(
    Limited(app): Limited,
    Id(id): Id,
    _: Query<Nothing>,
    _: NoBody,
) -> Answer<Reply<SessionInfo>> {
    Ok(Reply(app.manager.pin_session(&id, true).await?))
}

/// Lets the session hibernate again.
#[utoipa::path(post, path = "/v1/sessions/{id}/unpin", tag = "sessions", operation_id = "unpin_session",
    params(("id" = SessionId, Path, description = "The session.")),
    responses((status = 200, description = "The session.", body = SessionInfo), PinErrors))]
pub async fn unpin(
    Limited(app): Limited,
    Id(id): Id,
    _: Query<Nothing>,
    _: NoBody,
) -> Answer<Reply<SessionInfo>> {
    Ok(Reply(app.manager.pin_session(&id, false).await?))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WaitQuery {
    /// States to wait for, separated by commas: one of them is enough.
    #[param(value_type = String)]
    until: Words<WaitFor>,
    /// Time to wait, in milliseconds. Absent: without a limit.
    #[param(value_type = u64, required = false)]
    timeout_ms: Option<Wait>,
}

refuses!(WaitErrors: 400 "invalid_id", 404 "no_such_session", 409 "overtaken", 502 "session_failed", 504 "timeout");

/// Waits until the session is in one of some states.
///
/// Ends early where no time would help: the session has failed or was stopped, and something else is waited for.
#[utoipa::path(get, path = "/v1/sessions/{id}/wait", tag = "sessions", operation_id = "wait",
    params(("id" = SessionId, Path, description = "The session."), WaitQuery),
    responses((status = 200, description = "The session, in that state.", body = SessionInfo), WaitErrors))]
pub async fn wait(
    Limited(app): Limited,
    Id(id): Id,
    Query(query): Query<WaitQuery>,
) -> Answer<Reply<SessionInfo>> {
    let timeout = query.timeout_ms.map(|wait| wait.0);
    Ok(Reply(app.manager.wait_for_one_of(&id, &query.until.0, timeout).await?))
}

/// Text and status of the session's newest turn.
///
/// From the journal; while the turn runs, the text so far.
#[utoipa::path(get, path = "/v1/sessions/{id}/result", tag = "sessions", operation_id = "turn_result",
    params(("id" = SessionId, Path, description = "The session.")),
    responses((status = 200, description = "The turn.", body = TurnResult), ResultErrors))]
pub async fn result(Limited(app): Limited, Id(id): Id, _: Query<Nothing>) -> Answer<Reply<TurnResult>> {
    Ok(Reply(app.manager.turn_result(&id).await?))
}

refuses!(ResultErrors: 400 "invalid_id", 404 "no_such_session");

/// The session's token.
///
/// A secret. With `Authorization: Bearer TOKEN` a request has rights on this session and on nothing else.
/// With `Bearer ID:TOKEN`, where `ID` is the session, it also has rights on the sub-agents below the session.
/// A viewer token can read this session and change nothing. Both stay the same for as long as the session
/// exists.
#[utoipa::path(get, path = "/v1/sessions/{id}/token", tag = "sessions", operation_id = "session_token",
    params(("id" = SessionId, Path, description = "The session."), TokenQuery),
    responses((status = 200, description = "The token.", body = TokenReply), OneErrors))]
pub async fn token(
    Limited(app): Limited,
    Id(id): Id,
    Query(query): Query<TokenQuery>,
) -> Answer<impl IntoResponse> {
    let token = app.manager.session_token(&id).await?;
    let token = match query.role.unwrap_or(Role::Driver) {
        Role::Driver => token,
        Role::Viewer => tokens::viewer(&token),
    };
    Ok(([NO_STORE], Reply(TokenReply { token })))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TokenQuery {
    /// Role of the token. Absent: `driver`.
    role: Option<Role>,
}
