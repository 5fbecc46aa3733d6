//! Requests that a key has opened, and that end with the key: what waits, and what streams.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::response::Response;
use hyper::body::{Frame, SizeHint};

use super::denied::key_ended;
use super::problem::Answer;
use crate::keys::{Key, Keys};
use crate::system::clock::wall_ms;

/// Answers a request, unless its key ends before. The body of the answer breaks off when the key ends.
pub async fn hold(keys: &Keys, key: &Key, answer: impl Future<Output = Response>) -> Answer<Response> {
    let response = tokio::select! {
        response = answer => response,
        () = keys.ended(key) => return Err(key_ended()),
    };
    // What is whole already is given as it is.
    if response.body().size_hint().exact().is_some() {
        return Ok(response);
    }
    let (keys, key) = (keys.clone(), key.clone());
    let expires_at = key.expires_at;
    let end = Box::pin(async move { keys.ended(&key).await });
    Ok(response.map(|body| Body::new(Held { body, end, expires_at })))
}

/// A body that ends with its key.
struct Held {
    body: Body,
    end: Pin<Box<dyn Future<Output = ()> + Send>>,
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
            return Poll::Ready(Some(Err(axum::Error::new("the key lets nobody in any more"))));
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
