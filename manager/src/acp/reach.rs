//! The way from the front to the API. The command line's goes through its link to the daemon, the daemon's through an inlet of
//! its own.

use std::path::Path;

use futures_util::future::LocalBoxFuture;
use hyper::body::Bytes;
use protocol::SessionId;
use protocol::api::Problem;
use serde::de::DeserializeOwned;

use crate::client::{ClientError, Events, Request};
use crate::system::random;

/// A way to ask the API.
pub trait Reach {
    /// Asks, and gives the whole answer.
    fn ask(&self, request: Request) -> LocalBoxFuture<'_, Outcome<Bytes>>;

    /// Opens a stream of events.
    fn events(&self, request: Request) -> LocalBoxFuture<'_, Outcome<Events>>;

    /// Tells a daemon that answers something, for two seconds at most. Starts none, and does not mind a failure.
    fn tell(&self, request: Request) -> LocalBoxFuture<'_, ()>;

    /// Waits for the next daemon, after one has ended the streams on purpose. Returns false if none comes.
    fn comes_back(&self) -> LocalBoxFuture<'_, bool>;

    /// The directory of a session whose editor is in `cwd`.
    fn directory<'s>(&'s self, cwd: &'s Path) -> LocalBoxFuture<'s, Outcome<String>>;

    /// The id of the directory's own session.
    fn stable_id<'s>(&'s self, dir: &'s str) -> LocalBoxFuture<'s, Outcome<SessionId>>;

    /// An error of a stream.
    fn failure(&self, error: ClientError) -> Failure;

    /// Takes a note for whoever runs the front.
    fn note(&self, text: &str);
}

impl dyn Reach + '_ {
    /// Asks, and reads the answer.
    pub async fn get<T: DeserializeOwned>(&self, request: Request) -> Outcome<T> {
        self.read(&self.ask(request).await?)
    }

    /// Reads an answer.
    pub fn read<T: DeserializeOwned>(&self, answer: &[u8]) -> Outcome<T> {
        serde_json::from_slice(answer).map_err(|error| self.failure(ClientError::Garbage(error.to_string())))
    }
}

/// Why the API did not do what it was asked. None: there is nothing to say that was not said already.
#[derive(Debug)]
pub struct Failure(pub Option<Box<Problem>>);

/// The result of a request.
pub type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    /// A failure of this side. `status` is the HTTP status that comes nearest.
    pub fn new(status: u16, code: &str, detail: String) -> Self {
        let (kind, title, code) = ("about:blank".to_owned(), String::new(), code.to_owned());
        Self(Some(Box::new(Problem { kind, title, status, code, detail, hint: None, subject: None })))
    }

    /// Returns true if the failure is a problem with this code.
    pub fn is(&self, code: &str) -> bool {
        self.0.as_ref().is_some_and(|problem| problem.code == code)
    }

    /// The failure in one line, with the next step.
    pub fn text(&self) -> String {
        let Some(problem) = &self.0 else { return "it was not possible".to_owned() };
        match &problem.hint {
            Some(hint) => format!("{} ({hint})", problem.detail.trim_end()),
            None => problem.detail.trim_end().to_owned(),
        }
    }
}

/// Makes an idempotency key.
pub fn random_key() -> Outcome<String> {
    let bytes = random::bytes::<16>().map_err(|error| {
        Failure::new(500, "random", format!("the kernel gave no random bytes: {error}; nothing was sent"))
    })?;
    Ok(random::hex(&bytes))
}
