//! Events as server-sent events.
//!
//! Each frame is one record: `id:` its id, `event:` its type, `data:` its JSON. A client that comes back
//! sends the last id it saw and misses nothing.
//!
//! Frames without an id are kennel's own and move no cursor: a comment line every 15 s, `event: gap` and
//! `event: problem`. A `gap` stands where events were pruned. A `problem` comes if the journal cannot be
//! read, and ends the stream.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use protocol::api::Gap;
use protocol::event::{EventKind, Timestamp};
use protocol::{EventId, SessionId};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::App;
use super::codes::refuses;
use super::input::{Id, MAX_NUMBER, Query, single};
use super::limited::Limited;
use super::problem::{Answer, ApiError};
use crate::error::Error;
use crate::feed::{Begin, Subscription};
use crate::journal::Types;

/// Interval of the signs of life on a silent stream.
pub const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Bytes of events that may wait for all clients of streams together.
const ALL_PIECES: usize = 32 * 1024 * 1024;
/// The most that is given to one client at once, in bytes. A piece of a large event is found by walking to it, so small pieces of
/// one cost the square of its size.
const MAX_PIECE: usize = 1024 * 1024;
/// The least that is given at once, in bytes.
const MIN_PIECE: usize = 4 * 1024;
/// A comment, which no client sees as an event.
pub const COMMENT: &[u8] = b":\n\n";

/// A server-sent event, by its fields.
#[derive(ToSchema)]
#[allow(dead_code, reason = "described, and written without it")]
pub struct Frame {
    /// The event's id, or a cursor. Frames of the stream itself have none: `attached`, `gap`, `problem`.
    #[schema(required = false)]
    id: Option<String>,
    /// The event's type, or that of the stream's own frame.
    event: String,
    /// A line of JSON: an `Event`, a `ClientInfo`, a `Gap`, a `Problem`, or what the operation names.
    data: String,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EventsQuery {
    /// Event id: the stream begins with the first event after it; 0 is the beginning. Without it, and without
    /// `Last-Event-ID`, the stream begins now.
    #[param(value_type = u64, required = false)]
    after: Option<String>,
    /// Time, in RFC 3339: the stream begins with the first event of this time or later. Where the clock was set back, it
    /// begins at one of the places at which the clock passed this time.
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// The stream begins with the newest so many of the events that exist and that the other parameters leave.
    #[param(value_type = u64, minimum = 1, maximum = 1000000u64, required = false)]
    last: Option<Newest>,
    /// Types of events, separated by commas: the stream has only these. A stream of one session ends all the same after
    /// `session.deleted`.
    #[serde(rename = "type")]
    #[param(value_type = String, required = false)]
    types: Option<Wanted>,
    /// `false`: the stream ends with the last event that exists at the time of the request.
    follow: Option<bool>,
}

impl EventsQuery {
    /// From there on, without end.
    pub fn after(after: Option<String>) -> Self {
        Self { after, since: None, last: None, types: None, follow: None }
    }
}

/// The most newest events with which a stream begins.
pub const MAX_NEWEST: usize = 1_000_000;

/// A number of newest events.
#[derive(Clone, Copy)]
struct Newest(usize);

impl<'de> Deserialize<'de> for Newest {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let number = u64::deserialize(from)?;
        let number = usize::try_from(number).ok().filter(|number| (1..=MAX_NEWEST).contains(number));
        number.map(Self).ok_or_else(|| serde::de::Error::custom(format!("`last` is 1 to {MAX_NEWEST}")))
    }
}

/// Types of events, separated by commas.
struct Wanted(Types);

impl<'de> Deserialize<'de> for Wanted {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        if text.split(',').count() > EventKind::NAMES.len() {
            return Err(serde::de::Error::custom("`type` has more types than there are"));
        }
        let unknown = |name| serde::de::Error::unknown_variant(name, &EventKind::NAMES);
        Types::named(text.split(',')).map(Self).map_err(unknown)
    }
}

refuses!(EventsErrors: 400 "invalid_cursor", 409 "invalid_cursor");
refuses!(SessionEventsErrors: 400 "invalid_cursor", 409 "invalid_cursor", 400 "invalid_id", 404 "no_such_session");

/// All events.
///
/// Server-sent events: `id:` is the event's id, `event:` its type, `data:` the `Event` as one line of JSON.
/// The cursor is `Last-Event-ID` or `after`; the header wins, also over `since` and `last`, because a client that reconnects
/// sends it by itself. Of `after`, `since` and `last` the latest place counts. The daemon sends a comment line every 15 s, but not to a
/// client that declines them by `Kennel-Comments: no`: on a local socket they tell nothing, and wake both.
/// `event: gap`, without an id, marks pruned events. Its
/// `Gap` names the first event from which on the history is complete; older events that were not pruned
/// follow, too. `event: problem`, without an id, names the reason of an early end. A slow reader misses no
/// event and slows no other.
#[utoipa::path(get, path = "/v1/events", tag = "events", operation_id = "events",
    params(EventsQuery, ("Last-Event-ID" = u64, Header, description = "Event id: as `after`, and wins over it."),
        ("Kennel-Comments" = String, Header, description = "`no`: no comment lines.")),
    responses((status = 200, description = "The events.", body = Frame, content_type = "text/event-stream"), EventsErrors))]
pub async fn all(
    Limited(app): Limited,
    Query(query): Query<EventsQuery>,
    headers: HeaderMap,
) -> Answer<Response> {
    stream_of(app, query, &headers, None).await
}

/// The events of one session.
///
/// The part of `/v1/events` that names the session, with the same ids; otherwise the same. The stream ends after
/// `session.deleted`.
#[utoipa::path(get, path = "/v1/sessions/{id}/events", tag = "events", operation_id = "session_events",
    params(("id" = SessionId, Path, description = "The session."), EventsQuery,
        ("Last-Event-ID" = u64, Header, description = "Event id: as `after`, and wins over it."),
        ("Kennel-Comments" = String, Header, description = "`no`: no comment lines.")),
    responses((status = 200, description = "The events.", body = Frame, content_type = "text/event-stream"), SessionEventsErrors))]
pub async fn of_session(
    Limited(app): Limited,
    Id(id): Id,
    Query(query): Query<EventsQuery>,
    headers: HeaderMap,
) -> Answer<Response> {
    // An unknown session is refused now, instead of a stream without events.
    app.manager.get_session(&id).await?;
    stream_of(app, query, &headers, Some(id)).await
}

pub async fn stream_of(
    app: App,
    query: EventsQuery,
    headers: &HeaderMap,
    session: Option<SessionId>,
) -> Answer<Response> {
    let (seen, after) = cursors(headers, query.after.as_deref())?;
    let begin = Begin { after, since: query.since, last: query.last.map(|Newest(last)| last) };
    let types = query.types.map(|Wanted(types)| types);
    let head = app.manager.info().await?.last_event_id;
    let after = seen.or(after);
    if after.is_some_and(|after| after > head) {
        let detail = format!("the last event is {head}, the cursor is beyond it");
        return Err(ApiError::new(StatusCode::CONFLICT, "invalid_cursor", detail)
            .hint("was the state directory replaced? begin again with `after=0`"));
    }
    let after = match seen {
        None if begin.needs_a_look() => {
            Some(app.manager.beginning(&begin, head, session.as_ref(), types.as_ref()).await?)
        }
        _ => after,
    };
    let upto = (query.follow == Some(false)).then_some(head);
    let reading = Reading {
        whole: session.is_none(),
        follow: upto.is_none(),
        subscription: app.manager.subscribe(after, session).only(types).up_to(upto),
        ended: false,
        counted: app.streams.begin(),
    };
    let declines = headers.get("kennel-comments").is_some_and(|value| value == "no");
    let frames = stream::unfold(reading, move |mut reading| async move {
        // Nothing may come between the pieces of one event.
        let frames = match declines || reading.subscription.is_within() {
            true => reading.next().await?,
            false => match tokio::time::timeout(KEEP_ALIVE, reading.next()).await {
                Ok(frames) => frames?,
                Err(_) => Ok(Bytes::from_static(COMMENT)),
            },
        };
        Some((frames, reading))
    });
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache")];
    Ok((headers, Body::from_stream(frames)).into_response())
}

/// The events after which a client wants to begin, by its header and by its query. The header wins: a client that reconnects
/// repeats its first URL, and its header is newer.
fn cursors(headers: &HeaderMap, after: Option<&str>) -> Answer<(Option<EventId>, Option<EventId>)> {
    let header = single(headers, "last-event-id").map_err(invalid_cursor)?.filter(|text| !text.is_empty());
    // Also the one that does not win must be one.
    Ok((header.map(event_id).transpose()?, after.map(event_id).transpose()?))
}

fn event_id(text: &str) -> Answer<EventId> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(id) if digits && id <= MAX_NUMBER => Ok(id),
        _ => Err(invalid_cursor(format!("`{text}` is not an event id"))),
    }
}

fn invalid_cursor(detail: impl AsRef<str>) -> ApiError {
    ApiError::bad_request("invalid_cursor", detail).hint("a cursor is the id of an event that was seen, or 0")
}

/// Position of a client in the events. Dropped when the client leaves.
struct Reading {
    subscription: Subscription,
    /// The stream has the events of all sessions, not of one.
    whole: bool,
    /// The stream goes on with new events; otherwise it ends at the newest.
    follow: bool,
    ended: bool,
    counted: Counted,
}

impl Reading {
    /// The next frames, as they are sent; none at the end. Safe to cancel.
    ///
    /// # Errors
    /// That an event has begun whose end cannot be given: all that is left is to break off.
    async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        if self.ended {
            return None;
        }
        let mut frames = String::new();
        match self.subscription.text(self.counted.piece(), self.follow).await {
            Ok(text) => {
                let text = text?;
                self.ended |= !self.whole && text.last;
                frames = text.frames;
            }
            Err(error) if self.subscription.is_within() => {
                self.ended = true;
                tracing::warn!("an event stream breaks off: {error}");
                return Some(Err(error));
            }
            Err(Error::Pruned { first_available }) => {
                let gap = serde_json::to_string(&Gap { first_available }).unwrap_or_default();
                let _ = write!(frames, "event: gap\ndata: {gap}\n\n");
            }
            Err(error) => {
                self.ended = true;
                tracing::warn!("an event stream ends early: {error}");
                let problem = serde_json::to_string(ApiError::from(error).problem()).unwrap_or_default();
                // A string takes all that is written to it.
                let _ = write!(frames, "event: problem\ndata: {problem}\n\n");
            }
        }
        Some(Ok(frames.into()))
    }
}

/// Counts the streams that are open.
#[derive(Clone, Default)]
pub struct Streams(Arc<AtomicUsize>);

impl Streams {
    /// Number of open streams.
    pub fn open(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts one more stream, for as long as it is open.
    pub fn begin(&self) -> Counted {
        self.0.fetch_add(1, Ordering::Relaxed);
        Counted(self.0.clone())
    }
}

/// A stream in the count, for as long as it is open.
pub struct Counted(Arc<AtomicUsize>);

impl Counted {
    /// Bytes of events that this stream may take at once: its share of the limit for all streams. While it takes a piece, the
    /// next two are read.
    fn piece(&self) -> usize {
        (ALL_PIECES / 3 / self.0.load(Ordering::Relaxed).max(1)).clamp(MIN_PIECE, MAX_PIECE)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn the_header_wins_and_an_empty_one_says_nothing() {
        let at = |header: Option<&'static str>, after| {
            let headers =
                header.map(|value| ("last-event-id".parse().unwrap(), HeaderValue::from_static(value)));
            cursors(&HeaderMap::from_iter(headers), after).map(|(header, after)| header.or(after))
        };
        assert_eq!(at(None, None).unwrap(), None);
        assert_eq!(at(None, Some("0")).unwrap(), Some(0));
        assert_eq!(at(Some("7"), Some("3")).unwrap(), Some(7));
        assert_eq!(at(Some(""), Some("3")).unwrap(), Some(3));
        for wrong in ["", "x", "-1", "+1", "1.0", "18446744073709551616", "0x1", "1\u{1b}[2J"] {
            let error = at(None, Some(wrong)).unwrap_err();
            assert_eq!(
                (error.problem().status, &*error.problem().code),
                (400, "invalid_cursor"),
                "{wrong:?}"
            );
            assert!(!error.problem().detail.contains('\u{1b}'));
        }
        assert!(at(Some("x"), Some("3")).is_err() && at(Some("3"), Some("x")).is_err());
        assert!(at(None, Some("9223372036854775808")).is_err());
    }

    #[test]
    fn open_streams_are_counted() {
        let streams = Streams::default();
        let (one, two) = (streams.begin(), streams.begin());
        assert_eq!(streams.open(), 2);
        drop((one, two));
        assert_eq!(streams.open(), 0);
    }
}
