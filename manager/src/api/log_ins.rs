//! Log-ins of agents: a person far from the server finishes one. Only for whoever may do everything.

use axum::Json as Reply;
use axum::body::{Body, Bytes};
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use protocol::SessionId;
use protocol::api::{LogInInfo, LogInInput, LogInVisit, VisitAnswer};
use serde::{Deserialize, Serialize};
use utoipa::IntoParams;

use super::body::{NoBody, SecretJson};
use super::codes::{WITH_BODY, refuses};
use super::events::{COMMENT, Frame, KEEP_ALIVE};
use super::input::{MAX_NUMBER, Name, Nothing, Query, parameter};
use super::limited::Limited;
use super::problem::{Answer, ApiError};
use super::sessions::NO_STORE;
use crate::session_manager::{LogInAddress, LogInPage, LogInReader};

/// The log-in that `{login}` in the path names. Not `{id}`: that is a session's, and a token of it would let in.
pub struct LogIn(SessionId);

impl<S: Send + Sync> FromRequestParts<S> for LogIn {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        Ok(Self(parameter(parts, state, "login").await?.parse()?))
    }
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct OutputQuery {
    /// Number of bytes that the client has already: the `id` of the last piece. Absent: 0.
    #[param(maximum = 9_223_372_036_854_775_807_i64)]
    after: Option<u64>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct BeginQuery {
    /// End the agent's log-in that runs, and begin this one in its place.
    #[serde(default)]
    #[param(required = false)]
    take_over: bool,
}

refuses!(BeginErrors: 409 "agent_not_found", 409 "invalid_config", 409 "login_not_started", 409 "login_running",
    409 "no_login_command", 409 "no_such_agent", 409 "too_many_logins", 409 "no_such_workdir",
    409 "workdir_not_a_directory", 409 "workdir_not_accessible", 409 "workdir_not_utf8");

/// Begins the log-in of an agent.
///
/// Runs `login_command` of its profile on a terminal of its own, in the home of the daemon's user and in no sandbox. At most four
/// run at once, one for each agent. A log-in ends with its program, after 15 minutes, after a minute without a reader, and
/// with the daemon; then no process of it is left. Nothing of it is recorded.
#[utoipa::path(post, path = "/v1/agents/{name}/login", tag = "log-ins", operation_id = "begin_login",
    params(("name" = String, Path, description = "The agent."), BeginQuery),
    responses((status = 201, description = "It runs.", body = LogInInfo), BeginErrors))]
pub async fn begin(
    Limited(app): Limited,
    Name(name): Name,
    Query(query): Query<BeginQuery>,
    _: NoBody,
) -> Answer<impl IntoResponse> {
    Ok((StatusCode::CREATED, [NO_STORE], Reply(app.manager.begin_log_in(&name, query.take_over).await?)))
}

refuses!(OutputErrors: 400 "invalid_id", 404 "no_such_login");

/// The output of a log-in, from any byte on.
///
/// Server-sent events: `event: output` with a `LogInPiece` as one line of JSON and, as `id:`, the number of bytes up to its end;
/// then `event: ended` with a `LogInEnd`, and the stream ends. A stream that broke goes on with `after`. At most 256 KiB are kept. A
/// client that does not read stops the program once 64 KiB wait.
#[utoipa::path(get, path = "/v1/logins/{login}", tag = "log-ins", operation_id = "login_output",
    params(("login" = SessionId, Path, description = "The log-in."), OutputQuery),
    responses((status = 200, description = "The output.", body = Frame, content_type = "text/event-stream"), OutputErrors))]
pub async fn output(
    Limited(app): Limited,
    LogIn(id): LogIn,
    Query(query): Query<OutputQuery>,
) -> Answer<Response> {
    let after = query.after.unwrap_or(0);
    if after > MAX_NUMBER {
        return Err(ApiError::bad_request(
            "invalid_parameter",
            format!("query: `after` is at most {MAX_NUMBER}"),
        ));
    }
    let reader = app.manager.read_log_in(&id, after).await?;
    let frames = stream::unfold(Some(reader), |reader| async move {
        let (frame, reader) = next(reader?).await;
        Some((Ok::<_, std::convert::Infallible>(frame), reader))
    });
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), NO_STORE];
    Ok((headers, Body::from_stream(frames)).into_response())
}

/// The next frame, and the reader unless that was the last.
async fn next(mut reader: LogInReader) -> (Bytes, Option<LogInReader>) {
    match tokio::time::timeout(KEEP_ALIVE, reader.next()).await {
        Err(_) => (Bytes::from_static(COMMENT), Some(reader)),
        Ok(LogInPage::Piece(piece, end)) => (frame(Some(end), "output", &piece), Some(reader)),
        Ok(LogInPage::End(end)) => (frame(None, "ended", &end), None),
    }
}

/// A frame of a stream.
fn frame(id: Option<u64>, event: &str, data: &impl Serialize) -> Bytes {
    let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
    // These are our own types, all of which can be written.
    let data = serde_json::to_string(data).unwrap_or_default();
    Bytes::from(format!("{id}event: {event}\ndata: {data}\n\n"))
}

refuses!(InputErrors: 400 "invalid_id", 400 "invalid_login_input", 404 "no_such_login", 409 "login_busy", 409 "login_ended";
    + WITH_BODY);

/// Types something into a log-in. The text is neither logged nor recorded.
#[utoipa::path(post, path = "/v1/logins/{login}/input", tag = "log-ins", operation_id = "type_into_login",
    params(("login" = SessionId, Path, description = "The log-in.")), request_body = LogInInput,
    responses((status = 204, description = "It is typed."), InputErrors))]
pub async fn input(
    Limited(app): Limited,
    LogIn(id): LogIn,
    _: Query<Nothing>,
    SecretJson(input): SecretJson<LogInInput>,
) -> Answer<StatusCode> {
    app.manager.type_into_log_in(&id, input.text, input.number).await?;
    Ok(StatusCode::NO_CONTENT)
}

refuses!(VisitErrors: 400 "invalid_id", 400 "invalid_login_url", 403 "not_its_port", 404 "no_such_login", 409 "login_ended",
    502 "no_login_answer"; + WITH_BODY);

/// Opens an address at which the log-in's program listens, in the place of a browser that is on another machine.
///
/// One `GET` on the server, to its loopback address, and only if a process of this log-in listens on that port. Redirects are
/// told and not followed. The address is neither logged nor recorded.
#[utoipa::path(post, path = "/v1/logins/{login}/visit", tag = "log-ins", operation_id = "visit_login",
    params(("login" = SessionId, Path, description = "The log-in.")), request_body = LogInVisit,
    responses((status = 200, description = "The answer.", body = VisitAnswer), VisitErrors))]
pub async fn visit(
    Limited(app): Limited,
    LogIn(id): LogIn,
    _: Query<Nothing>,
    SecretJson(visit): SecretJson<LogInVisit>,
) -> Answer<impl IntoResponse> {
    let address = LogInAddress::parse(&visit.url)?;
    Ok(([NO_STORE], Reply(app.manager.visit_log_in(&id, address).await?)))
}

refuses!(EndErrors: 400 "invalid_id", 404 "no_such_login");

/// Ends a log-in. Answers when no process of it is left.
#[utoipa::path(delete, path = "/v1/logins/{login}", tag = "log-ins", operation_id = "end_login",
    params(("login" = SessionId, Path, description = "The log-in.")),
    responses((status = 204, description = "Nothing of it is left."), EndErrors))]
pub async fn end(
    Limited(app): Limited,
    LogIn(id): LogIn,
    _: Query<Nothing>,
    _: NoBody,
) -> Answer<StatusCode> {
    app.manager.end_log_in(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}
