//! Search for a session by a prefix of its id, a pid or a directory.

use std::path::PathBuf;
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::{Extension, Json as Reply};
use protocol::SessionId;
use protocol::api::{Bootstrap, BootstrapRequest, KeyRole};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::App;
use super::body::Json;
use super::caller::Caller;
use super::codes::{WITH_BODY, WITH_OPTIONS, refuses};
use super::input::{Nothing, Query, Umask};
use super::limited::Limited;
use super::problem::{Answer, ApiError};
use super::sessions::{NO_STORE, START_TIMEOUT_MS};

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct LookupQuery {
    /// A session's id, or the beginning of exactly one.
    id: Option<String>,
    /// The current pid of a worker or agent.
    pid: Option<u32>,
    /// Absolute path of a directory: answered with its stable id, whether or not such a session exists. A key that reaches the
    /// sessions that it started has an id of its own for each directory.
    dir: Option<String>,
}

/// The session that was meant.
#[derive(Serialize, ToSchema)]
pub struct Found {
    /// Its id.
    id: SessionId,
}

refuses!(LookupErrors: 400 "invalid_id", 400 "invalid_workdir", 400 "workdir_not_absolute", 404 "no_such_pid", 404 "no_such_session", 409 "ambiguous_id");

/// The id of the session that is meant by a prefix, a pid or a directory.
///
/// Exactly one of the parameters is given.
#[utoipa::path(get, path = "/v1/lookup", tag = "sessions", operation_id = "lookup", params(LookupQuery),
    responses((status = 200, description = "The id.", body = Found), LookupErrors))]
pub async fn lookup(Limited(app): Limited, Query(query): Query<LookupQuery>) -> Answer<Reply<Found>> {
    let id = match query {
        LookupQuery { id: Some(text), pid: None, dir: None } => app.manager.lookup(&text).await?,
        LookupQuery { id: None, pid: Some(pid), dir: None } => app.manager.session_id_for_pid(pid).await?,
        LookupQuery { id: None, pid: None, dir: Some(dir) } => stable_id(&app, dir).await?,
        _ => {
            return Err(ApiError::bad_request("invalid_parameter", "give one of `id`, `pid` and `dir`"));
        }
    };
    Ok(Reply(Found { id }))
}

refuses!(BootstrapErrors: 400 "invalid_client", 409 "not_driver", 409 "id_taken", 409 "id_unusable", 409 "invalid_id", 409 "invalid_workdir", 409 "session_stopping", 409 "spec_mismatch", 409 "unkillable", 504 "timeout"; + WITH_BODY, WITH_OPTIONS);

/// The session of a working directory, ready, and its token.
///
/// As `PUT /v1/sessions/{id}` with the directory's stable id and `workdir`; waits at most 30 s. A key that is not an admin's gets
/// no token, which would outlive the key.
#[utoipa::path(post, path = "/v1/bootstrap", tag = "sessions", operation_id = "bootstrap", request_body = BootstrapRequest,
    responses((status = 200, description = "The session and its token, a secret.", body = Bootstrap), BootstrapErrors))]
pub async fn bootstrap(
    Limited(app): Limited,
    Extension(caller): Extension<Caller>,
    _: Query<Nothing>,
    Umask(umask): Umask,
    Json(request): Json<BootstrapRequest>,
) -> Answer<impl IntoResponse> {
    let BootstrapRequest { workdir, mut opts } = request;
    opts.umask = umask;
    let id = stable_id(&app, workdir.clone()).await?;
    if opts.id.take().is_some_and(|given| given != id.as_str()) {
        let detail = format!("the id of this directory's session is `{id}`; nothing was changed");
        return Err(ApiError::new(StatusCode::CONFLICT, "invalid_id", detail).hint("leave `opts.id` out"));
    }
    if opts.workdir.replace(workdir.clone()).is_some_and(|given| given != workdir) {
        let detail = "`opts.workdir` is not `workdir`; nothing was changed";
        return Err(
            ApiError::new(StatusCode::CONFLICT, "invalid_workdir", detail).hint("leave `opts.workdir` out")
        );
    }
    caller.may_name(Some(id.as_str()))?;
    let timeout = Duration::from_millis(START_TIMEOUT_MS);
    let session = app.manager.start_or_get_session(id.as_str(), opts, timeout).await?;
    // A token outlives the key that has it.
    let token = match caller.key.is_none_or(|key| key.role == KeyRole::Admin) {
        true => Some(app.manager.session_token(&id).await?),
        false => None,
    };
    let pid = session.pid;
    Ok(([NO_STORE], Reply(Bootstrap { session, id, pid, token })))
}

async fn stable_id(app: &App, directory: String) -> Answer<SessionId> {
    let path = PathBuf::from(directory);
    if !path.is_absolute() {
        // The daemon's own directory means nothing to the client.
        let detail = format!("`{}` is not an absolute path", path.display());
        return Err(ApiError::bad_request("workdir_not_absolute", detail));
    }
    Ok(app.manager.id_of_directory(path).await?)
}
