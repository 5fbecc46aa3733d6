//! Requests that a key has opened, and that end with the key's right to them: what waits, and what streams.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::response::Response;
use hyper::body::{Frame, SizeHint};
use protocol::SessionId;
use protocol::api::KeySessions;

use super::denied::key_ended;
use super::problem::Answer;
use crate::core::Refusal;
use crate::error::Error;
use crate::keys::{Key, Keys};
use crate::session_manager::SessionManager;
use crate::system::clock::wall_ms;

/// Time for which nobody looks whether a session leaves its key's scope: most requests are over before.
const UNWATCHED: Duration = Duration::from_millis(500);

/// Reason for which a key has no right any more to what it has opened.
enum Lost {
    /// The key lets nobody in any more.
    Key,
    /// The session has left the key's scope: it does not exist for it any more.
    Session(SessionId),
}

/// Returns once the key lets nobody in any more, or does not reach the session that the request is about. `manager` acts for the key.
async fn lost(keys: Keys, key: Arc<Key>, manager: SessionManager, session: Option<SessionId>) -> Lost {
    let left = async {
        // Only labels come and go.
        let by_labels = matches!(key.sessions, KeySessions::Labels(_));
        let Some(id) = session.filter(|_| by_labels) else { return std::future::pending().await };
        tokio::time::sleep(UNWATCHED).await;
        manager.out_of_reach(&id).await;
        id
    };
    tokio::select! {
        () = keys.ended(&key) => Lost::Key,
        id = left => Lost::Session(id),
    }
}

/// Answers a request, unless its key loses the right to it before. Then also the body of the answer breaks off.
pub async fn hold(
    keys: &Keys,
    key: Arc<Key>,
    manager: SessionManager,
    session: Option<SessionId>,
    answer: impl Future<Output = Response>,
) -> Answer<Response> {
    let expires_at = key.expires_at;
    let mut end = Box::pin(lost(keys.clone(), key, manager, session));
    let response = tokio::select! {
        response = answer => response,
        lost = &mut end => return Err(match lost {
            Lost::Key => key_ended(),
            Lost::Session(id) => Error::Refused(Refusal::NoSuchSession(id.to_string())).into(),
        }),
    };
    // What is whole already is given as it is.
    if response.body().size_hint().exact().is_some() {
        return Ok(response);
    }
    Ok(response.map(|body| Body::new(Held { body, end, expires_at })))
}

/// A body that ends with its key's right to it.
struct Held {
    body: Body,
    end: Pin<Box<dyn Future<Output = Lost> + Send>>,
    /// As the key has it. Timers stand still while the machine sleeps; whatever comes afterwards finds out.
    expires_at: Option<u64>,
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let has_expired = self.expires_at.is_some_and(|at| at <= wall_ms());
        if has_expired || self.end.as_mut().poll(cx).is_ready() {
            // Not an end: the client is not to take what it has for all that there is.
            return Poll::Ready(Some(Err(axum::Error::new("the key gives no right to this any more"))));
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
