//! Requests of a client.

use std::time::Duration;

use hyper::Method;
use hyper::body::Bytes;
use serde::Serialize;

use super::SILENCE;

/// A request.
#[derive(Clone, Debug)]
pub struct Request {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) key: Option<String>,
    pub(super) client: Option<u64>,
    pub(super) seat: Option<String>,
    pub(super) body: Option<Bytes>,
    /// The daemon is to say nothing while nothing happens.
    pub(super) declines: bool,
    /// Its connection is kept for the next look.
    pub(super) keeps: bool,
    /// Asking twice does no more than asking once.
    pub repeatable: bool,
    /// How long an answer may take; none: as long as it takes.
    pub within: Option<Duration>,
    /// It waits for something to happen, and is no reason to start a daemon that was stopped meanwhile.
    pub passive: bool,
}

impl Request {
    fn new(method: Method, path: impl Into<String>, repeatable: bool) -> Self {
        let (key, client, seat, body, within) = (None, None, None, None, None);
        let (declines, keeps, passive) = (false, false, false);
        Self {
            method,
            path: path.into(),
            key,
            client,
            seat,
            body,
            declines,
            keeps,
            repeatable,
            within,
            passive,
        }
    }

    /// A look at something that the manager knows without asking anybody.
    pub fn get(path: impl Into<String>) -> Self {
        Self { within: Some(SILENCE), ..Self::new(Method::GET, path, true) }
    }

    /// Something to be done. Not repeatable unless it is said.
    pub fn post(path: impl Into<String>) -> Self {
        Self::new(Method::POST, path, false)
    }

    /// A state to be brought about.
    pub fn put(path: impl Into<String>) -> Self {
        Self::new(Method::PUT, path, true)
    }

    /// A change.
    pub fn patch(path: impl Into<String>) -> Self {
        Self::new(Method::PATCH, path, true)
    }

    /// A removal.
    pub fn delete(path: impl Into<String>) -> Self {
        Self::new(Method::DELETE, path, false)
    }

    /// With this body.
    pub fn json(mut self, body: &impl Serialize) -> Self {
        // These are our own types, all of which can be written.
        self.body = Some(serde_json::to_vec(body).unwrap_or_default().into());
        self
    }

    /// Under this key it is done once, however often it is asked.
    pub fn key(mut self, key: &str) -> Self {
        self.key = Some(key.to_owned());
        self.repeatable = true;
        self
    }

    /// From this attached client: refused unless it drives.
    pub fn from_client(mut self, client: Option<u64>) -> Self {
        self.client = client;
        self
    }

    /// With this word the client finds its driver's seat again, after its connection was lost.
    pub fn seat(mut self, seat: &str) -> Self {
        self.seat = Some(seat.to_owned());
        self
    }

    /// Asking twice does no more than asking once.
    pub fn repeatable(mut self) -> Self {
        self.repeatable = true;
        self
    }

    /// A look follows it: the client keeps the connection for that.
    pub fn keep(mut self) -> Self {
        self.keeps = true;
        self
    }

    /// It waits for something to happen.
    pub fn passive(mut self) -> Self {
        self.passive = true;
        self
    }

    /// The answer comes at once.
    pub fn prompt(mut self) -> Self {
        self.within = Some(SILENCE);
        self
    }

    /// Returns true if the request may change something.
    pub fn changes(&self) -> bool {
        self.method != Method::GET
    }

    /// The answer comes when it comes.
    pub fn patient(mut self) -> Self {
        self.within = None;
        self
    }
}
