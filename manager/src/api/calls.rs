//! Requests of an agent to the client that drives, and the client's answers.

use axum::Json as Reply;
use axum::http::StatusCode;
use protocol::api::{CallInfo, CallRequest};
use protocol::wire::CallAnswer;
use protocol::{CallId, SessionId};

use super::body::{LongJson, mend_numbers};
use super::codes::{WITH_BODY, refuses};
use super::input::{Call, Id, Nothing, Query};
use super::limited::Limited;
use super::problem::{Answer, ApiError};

refuses!(ListErrors: 400 "invalid_id", 404 "no_such_session");

/// Calls of a session that wait for an answer, oldest first.
#[utoipa::path(get, path = "/v1/sessions/{id}/calls", tag = "sessions", operation_id = "calls",
    params(("id" = SessionId, Path, description = "The session.")),
    responses((status = 200, description = "The calls.", body = [CallInfo]), ListErrors))]
pub async fn of_session(
    Limited(app): Limited,
    Id(id): Id,
    _: Query<Nothing>,
) -> Answer<Reply<Vec<CallInfo>>> {
    Ok(Reply(app.manager.calls(&id).await?))
}

refuses!(CallErrors: 400 "invalid_client", 400 "invalid_answer", 400 "invalid_id", 404 "no_such_call", 404 "no_such_session",
    409 "call_settled", 409 "not_driver", 507 "journal_full"; + WITH_BODY);

/// Answers a call.
///
/// Only the client that drives can, with `Kennel-Client: CLIENT_ID`. The first answer counts; one that comes after the call
/// has expired is refused as `call_settled`. The answer goes to the agent and is not recorded. At most 12 MiB.
#[utoipa::path(post, path = "/v1/sessions/{id}/calls/{call}", tag = "sessions", operation_id = "answer_call",
    request_body = CallRequest,
    params(("id" = SessionId, Path, description = "The session."), ("call" = CallId, Path, description = "The call.")),
    responses((status = 204, description = "The answer goes to the agent."), CallErrors))]
pub async fn answer(
    Limited(app): Limited,
    Id(id): Id,
    Call(call): Call,
    _: Query<Nothing>,
    LongJson(request): LongJson<CallRequest>,
) -> Answer<StatusCode> {
    let wrong = |what: &str| {
        let detail = format!("{what}; nothing was changed, and {call} still waits if it did");
        ApiError::bad_request("invalid_answer", detail)
    };
    let CallRequest { result, mut error } = request;
    if let Some(code) = error.as_mut().and_then(|error| error.get_mut("code")) {
        mend_numbers(code);
    }
    let answer = match (result, error) {
        (Some(result), None) => CallAnswer::Result { json: result.to_string() },
        (None, Some(error)) if error["code"].is_i64() && error["message"].is_string() => {
            CallAnswer::Error { json: error.to_string() }
        }
        (None, Some(_)) => return Err(wrong("`error` has a number `code` and a text `message`")),
        (None, None) | (Some(_), Some(_)) => return Err(wrong("an answer has either `result` or `error`")),
    };
    app.manager.answer_call(&id, call, answer).await?;
    Ok(StatusCode::NO_CONTENT)
}
