//! A log that is followed, as server-sent events.

use std::io;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::{FutureExt, stream};
use protocol::SessionId;
use protocol::api::{LogEnd, LogEnded, LogGap, LogPiece};
use serde::Serialize;
use tokio::time::{Instant, sleep_until};

use super::follow::{Cursor, FileId, Follower, Step};
use super::{MAX_LOG, unreadable};
use crate::api::connections::overloaded;
use crate::api::events::{COMMENT, Counted, KEEP_ALIVE};
use crate::api::input::elsewhere;
use crate::api::problem::{Answer, ApiError};
use crate::error::Error;
use crate::session_manager::SessionManager;
use crate::shares::{Place, Places, Sender};
use crate::system::blocking;
use crate::system::file_watch::{FileWatches, Watched};

/// The most clients that follow logs at one time. Each has a file open and a watch.
const FOLLOWERS: usize = 64;

/// The clients that follow logs.
#[derive(Clone)]
pub struct Followers {
    watches: FileWatches,
    places: Arc<Places>,
}

impl Default for Followers {
    fn default() -> Self {
        Self { watches: FileWatches::default(), places: Places::of(FOLLOWERS) }
    }
}

impl Followers {
    fn place(&self, sender: &Sender) -> Answer<Place> {
        let place = self.places.take(sender);
        place.map_err(|full| overloaded(&format!("clients that follow logs: {full}; nothing was read")))
    }
}

/// The lines at the end of a log, or the text after a place, and all that is appended.
pub async fn follow(
    (manager, followers, counted): (SessionManager, Followers, Counted),
    id: SessionId,
    lines: usize,
    after: Option<Cursor>,
    sender: Sender,
) -> Answer<Response> {
    let place = followers.place(&sender)?;
    let path = manager.log_path(&id);
    let directory = path.parent().unwrap_or(&path).to_owned();
    // Before anything is read: what happens from now on is reported.
    let names = followers.watches.directory(&directory).map_err(|error| unwatched(&error))?;
    let follower = elsewhere(move || match after {
        Some(cursor) => Follower::after(path, cursor),
        None => Follower::from_end(path, lines, MAX_LOG),
    });
    let follower = follower.await?.map_err(unreadable)?;
    let mut reading = Reading {
        id,
        names,
        file: None,
        is_removed: false,
        has_ended: false,
        counted,
        place,
        manager,
        watches: followers.watches,
    };
    reading.watch(&follower).map_err(|error| unwatched(&error))?;
    let frames = stream::unfold((reading, Some(follower)), |(mut reading, follower)| async move {
        let (frame, follower) = reading.next(follower?).await?;
        Some((frame, (reading, follower)))
    });
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache")];
    Ok((headers, Body::from_stream(frames)).into_response())
}

fn unwatched(error: &io::Error) -> ApiError {
    overloaded(&format!("the log cannot be watched: {error}; nothing was read"))
        .hint("the system limits watches by `fs.inotify.max_user_instances` and `max_user_watches`")
}

/// A client that follows a log. Dropped when the client leaves.
struct Reading {
    manager: SessionManager,
    watches: FileWatches,
    id: SessionId,
    /// Names in the directory of logs.
    names: Watched,
    /// The file that is read.
    file: Option<(FileId, Watched)>,
    /// The session was removed: nothing is added any more.
    is_removed: bool,
    has_ended: bool,
    #[allow(dead_code, reason = "counts until it is dropped")]
    counted: Counted,
    #[allow(dead_code, reason = "is held until it is dropped")]
    place: Place,
}

impl Reading {
    /// Watches the file that is read.
    fn watch(&mut self, follower: &Follower) -> io::Result<()> {
        let file = follower.file();
        if self.file.as_ref().map(|(id, _)| *id) != file {
            self.file = None;
            if let (Some(id), Some(path)) = (file, follower.by_descriptor()) {
                self.file = Some((id, self.watches.file(&path)?));
            }
        }
        Ok(())
    }

    /// The next frame, and the follower unless that was the last. None at the end of the stream.
    async fn next(&mut self, mut follower: Follower) -> Option<(Result<Bytes, io::Error>, Option<Follower>)> {
        let silent_at = Instant::now() + KEEP_ALIVE;
        loop {
            if self.has_ended || self.manager.ended().now_or_never().is_some() {
                return None;
            }
            self.names.seen();
            if let Some((_, file)) = &mut self.file {
                file.seen();
            }
            let is_removed = self.is_removed;
            let read = move || match is_removed {
                true => (follower.last().map(|text| text.map_or(Step::Missing, Step::Text)), follower),
                false => (follower.step(), follower),
            };
            let (step, back) = blocking::run(read).await?;
            follower = back;
            let watched = self.watch(&follower);
            let step = match (step, watched) {
                (Ok(step), Ok(())) => step,
                (Err(error), _) => return Some(self.problem(&unreadable(error))),
                (Ok(_), Err(error)) => return Some(self.problem(&unwatched(&error))),
            };
            let cursor = follower.cursor().to_string();
            match step {
                Step::Text(text) => {
                    let piece = LogPiece { text, cursor: cursor.clone() };
                    return Some((Ok(frame(Some(&cursor), "piece", &piece)), Some(follower)));
                }
                Step::Gap(detail) => {
                    let gap = LogGap { detail: detail.to_owned(), cursor: cursor.clone() };
                    return Some((Ok(frame(Some(&cursor), "gap", &gap)), Some(follower)));
                }
                Step::Moved => continue,
                Step::Missing if self.is_removed => {
                    self.has_ended = true;
                    let end = LogEnd { reason: LogEnded::SessionRemoved };
                    return Some((Ok(frame(None, "ended", &end)), None));
                }
                Step::Missing if self.is_gone().await => {
                    self.is_removed = true;
                    continue;
                }
                Step::Missing | Step::Nothing => {}
            }
            let file = async {
                match &mut self.file {
                    Some((_, file)) => file.changed().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = file => {}
                () = self.names.changed() => {}
                () = self.manager.ended() => return None,
                () = sleep_until(silent_at) => return Some((Ok(Bytes::from_static(COMMENT)), Some(follower))),
            }
        }
    }

    /// Returns true if the session was removed.
    async fn is_gone(&self) -> bool {
        let found = self.manager.get_session(&self.id).await;
        found.is_err_and(|error| !matches!(error, Error::Ended) && error.code() == "no_such_session")
    }

    fn problem(&mut self, error: &ApiError) -> (Result<Bytes, io::Error>, Option<Follower>) {
        self.has_ended = true;
        tracing::warn!("a log is not followed any more: {}", error.problem().detail);
        (Ok(frame(None, "problem", error.problem())), None)
    }
}

/// A frame of the stream.
fn frame(id: Option<&str>, event: &str, data: &impl Serialize) -> Bytes {
    let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
    // These are our own types, all of which can be written.
    let data = serde_json::to_string(data).unwrap_or_default();
    Bytes::from(format!("{id}event: {event}\ndata: {data}\n\n"))
}
