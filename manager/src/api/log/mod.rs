//! A session's log: its end, read as its client takes it, and what is appended to it.

mod follow;
mod stream;
mod tail;

use std::io;

use axum::Extension;
use axum::body::Body;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream as streams;
use protocol::SessionId;
use serde::Deserialize;
use utoipa::IntoParams;

use self::follow::Cursor;
pub use self::stream::Followers;
use self::tail::{next_piece, tails};
use super::caller::Caller;
use super::codes::refuses;
use super::events::Frame;
use super::input::{Id, Query, elsewhere, single};
use super::limited::Limited;
use super::problem::{Answer, ApiError};
use crate::system::blocking;

/// Lines of a log that are given without `tail`.
const TAIL: usize = 100;
/// The most lines of a log that are given.
pub const MAX_TAIL: usize = 100_000;
/// The most bytes of a log that are given.
const MAX_LOG: u64 = 8 * 1024 * 1024;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct LogQuery {
    /// Number of lines from the end, at most 100000. Absent: 100.
    #[param(maximum = 100_000)]
    tail: Option<usize>,
    /// `true`: the answer goes on with what is appended.
    follow: Option<bool>,
    /// Cursor of a frame: the stream begins with the text after it, and `tail` counts for nothing. Only with `follow=true`.
    after: Option<String>,
}

refuses!(LogErrors: 400 "invalid_cursor", 400 "invalid_id", 404 "no_such_session");

/// Standard error of the session's worker and agent.
///
/// The last lines, unchanged except for bytes that are not UTF-8. If they have more than 8 MiB, the answer
/// contains only their end, and its first line states that.
///
/// With `follow=true` the answer is a stream of server-sent events: the same lines, then what is appended, until the session
/// is removed. `event: piece` has a `LogPiece` of at most 64 KiB, `event: gap` a `LogGap`, `event: ended` a `LogEnd`. The
/// first frame comes at once. `id:` is the cursor of the place after the frame. A client that comes back with it, as `after` or
/// `Last-Event-ID`, gets what follows, without loss or repetition; the header wins. A `gap` stands where the log was put aside
/// twice, or emptied, before the client had read it. The daemon sends a comment line every 15 s. `event: problem` names
/// the reason of an early end. At most 64 clients follow logs at a time, each sender with a share: `overloaded`.
#[utoipa::path(get, path = "/v1/sessions/{id}/log", tag = "sessions", operation_id = "session_log",
    params(("id" = SessionId, Path, description = "The session."), LogQuery,
        ("Last-Event-ID" = String, Header, description = "Cursor: as `after`, and wins over it. Means nothing without `follow=true`, or if it is empty.")),
    responses((status = 200, description = "The lines.", content((String = "text/plain"), (Frame = "text/event-stream"))),
        LogErrors))]
pub async fn log(
    Limited(app): Limited,
    Id(id): Id,
    Query(query): Query<LogQuery>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Answer<Response> {
    app.manager.get_session(&id).await?;
    let lines = query.tail.unwrap_or(TAIL);
    if lines > MAX_TAIL {
        let detail = format!("query: `tail` is at most {MAX_TAIL} lines; nothing was read");
        return Err(ApiError::bad_request("invalid_parameter", detail));
    }
    // A cursor that is none is told so, also where it would mean nothing.
    let after = cursor(&headers, query.after.as_deref())?;
    if query.follow == Some(true) {
        let way = (app.manager, app.followers, app.streams.begin());
        return stream::follow(way, id, lines, after, caller.sender()).await;
    }
    if query.after.is_some() {
        let detail = "query: `after` needs `follow=true`; nothing was read";
        return Err(ApiError::bad_request("invalid_parameter", detail));
    }
    let path = app.manager.log_path(&id);
    let tails = elsewhere(move || tails(&path, lines, MAX_LOG)).await?;
    let tails = tails.map_err(unreadable)?;
    // Read as it is taken: a client that takes nothing holds one piece.
    let pieces = streams::unfold(Some(tails), |tails| async move {
        let mut tails = tails?;
        let read = blocking::run(move || (next_piece(&mut tails), tails)).await;
        match read {
            Some((Ok(Some(text)), tails)) => Some((Ok(text), Some(tails))),
            Some((Ok(None), _)) => None,
            Some((Err(error), _)) => Some((Err(error), None)),
            None => Some((Err(io::Error::other("a thread of this request panicked")), None)),
        }
    });
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], Body::from_stream(pieces)).into_response())
}

fn unreadable(error: io::Error) -> ApiError {
    ApiError::internal(format!("the log cannot be read: {error}"))
}

/// The place after which a client goes on. The header wins: a client that reconnects repeats its first URL, and its header is newer.
fn cursor(headers: &HeaderMap, after: Option<&str>) -> Answer<Option<Cursor>> {
    let invalid = |detail: String| {
        ApiError::bad_request("invalid_cursor", detail).hint("a cursor is the `id:` of a frame of this log")
    };
    let header = single(headers, "last-event-id").map_err(invalid)?.filter(|text| !text.is_empty());
    let parsed =
        |text: &str| Cursor::parse(text).ok_or_else(|| invalid(format!("`{text}` is no cursor of a log")));
    // Also the one that does not win must be one.
    let (header, after) = (header.map(parsed).transpose()?, after.map(parsed).transpose()?);
    Ok(header.or(after))
}
