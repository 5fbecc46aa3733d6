//! Fronts of this process: all of them on one thread beside the daemon's own, so that the translation for editors keeps nobody
//! else waiting. The thread begins with the first connection.

use std::io;
use std::path::Path;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::LocalBoxFuture;
use hyper::body::Bytes;
use protocol::SessionId;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use super::budget::{Budget, Part};
use crate::acp::reach::{Failure, Outcome, Reach};
use crate::acp::{Line, Terms, Written, serve};
use crate::api::connections::{Inlet, overloaded};
use crate::api::peer::Peer;
use crate::api::problem::Answer;
use crate::client::{Client, ClientError, Events, Opener, Request, encoded};
use crate::shares::{Place, Places, Sender};

/// The connections at a time.
const CONNECTIONS: usize = 32;
/// Attempts at a request whose connection was closed to make room for another.
const ATTEMPTS: usize = 3;

/// Begins a front on its thread.
type Job = Box<dyn FnOnce() -> LocalBoxFuture<'static, ()> + Send>;

/// The fronts of this process.
#[derive(Clone)]
pub struct Fronts {
    jobs: Arc<Mutex<Option<mpsc::UnboundedSender<Job>>>>,
    places: Arc<Places>,
    budget: Arc<Budget>,
    /// Bytes that wait for all editors.
    unwritten: Arc<AtomicUsize>,
}

impl Default for Fronts {
    fn default() -> Self {
        let places = Places::of(CONNECTIONS);
        Self { jobs: Arc::default(), places, budget: Arc::default(), unwritten: Arc::default() }
    }
}

impl Fronts {
    /// A place for one more connection of this sender.
    pub fn place(&self, sender: &Sender) -> Answer<Place> {
        let place = self.places.take(sender);
        place.map_err(|full| overloaded(&format!("connections of editors: {full}; nothing was done")))
    }

    /// The memory for large messages of one connection of this sender.
    pub fn part(&self, sender: &Sender) -> Part {
        self.budget.part(sender)
    }

    /// The count of what one connection has not written yet.
    pub fn written(&self) -> Arc<Written> {
        Arc::new(Written::among(self.unwritten.clone()))
    }

    /// Starts a front.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(&self, inside: Inside, terms: Terms, line: Line) -> io::Result<()> {
        let job: Job = Box::new(move || {
            Box::pin(async move {
                if let Err(error) = serve(&inside, terms, line, std::future::pending()).await {
                    tracing::debug!("an editor's connection: {error}");
                }
            })
        });
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let job = match &*jobs {
            Some(running) => match running.send(job) {
                Ok(()) => return Ok(()),
                Err(unsent) => unsent.0,
            },
            None => job,
        };
        let fresh = thread()?;
        // Its receiver has only just begun.
        let _ = fresh.send(job);
        *jobs = Some(fresh);
        Ok(())
    }
}

fn thread() -> io::Result<mpsc::UnboundedSender<Job>> {
    let (sender, mut jobs) = mpsc::unbounded_channel::<Job>();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("acp".to_owned()).spawn(move || {
        let fronts = LocalSet::new();
        fronts.block_on(&runtime, async {
            while let Some(job) = jobs.recv().await {
                tokio::task::spawn_local(job());
            }
        });
    })?;
    Ok(sender)
}

/// The way to the API from within the process, as one caller.
pub struct Inside {
    client: Client,
}

impl Inside {
    /// As this peer, with this token.
    pub fn new(inlet: Inlet, peer: Peer, token: Option<&str>) -> Self {
        let opener = Opener::new(move || {
            let (inlet, peer) = (inlet.clone(), peer.clone());
            Box::pin(async move { inlet.connect(peer).await })
        });
        let client = Client::inside(opener);
        Self {
            client: match token {
                Some(token) => client.with_token(token),
                None => client,
            },
        }
    }
}

impl Reach for Inside {
    fn ask(&self, request: Request) -> LocalBoxFuture<'_, Outcome<Bytes>> {
        Box::pin(async move {
            let mut attempts = 1;
            loop {
                match self.client.ask(&request).await {
                    Err(ClientError::Lost(_)) if request.repeatable && attempts < ATTEMPTS => attempts += 1,
                    answer => return answer.map_err(|error| self.failure(error)),
                }
            }
        })
    }

    fn events(&self, request: Request) -> LocalBoxFuture<'_, Outcome<Events>> {
        Box::pin(async move { self.client.stream(&request).await.map_err(|error| self.failure(error)) })
    }

    fn tell(&self, request: Request) -> LocalBoxFuture<'_, ()> {
        Box::pin(async move { self.client.tell(&request).await })
    }

    /// The next daemon is another process, and its clients have connections of their own.
    fn comes_back(&self) -> LocalBoxFuture<'_, bool> {
        Box::pin(async { false })
    }

    fn directory<'s>(&'s self, cwd: &'s Path) -> LocalBoxFuture<'s, Outcome<String>> {
        Box::pin(async move {
            let not_utf8 = || {
                let what = "the directory's path is not UTF-8; nothing was done";
                Failure::new(400, "invalid_workdir", what.to_owned())
            };
            cwd.to_str().map(str::to_owned).ok_or_else(not_utf8)
        })
    }

    fn stable_id<'s>(&'s self, dir: &'s str) -> LocalBoxFuture<'s, Outcome<SessionId>> {
        #[derive(Deserialize)]
        struct Found {
            id: SessionId,
        }
        Box::pin(async move {
            let request = Request::get(format!("/v1/lookup?dir={}", encoded(dir)));
            let reach: &dyn Reach = self;
            reach.get::<Found>(request).await.map(|found| found.id)
        })
    }

    fn failure(&self, error: ClientError) -> Failure {
        let lost = |what: String| {
            let what = format!("the daemon ended the request ({what}); it may or may not have been done");
            Failure::new(503, "connection_lost", what)
        };
        match error {
            ClientError::Problem(problem) => Failure(Some(problem)),
            ClientError::Lost(what) => lost(what),
            ClientError::Absent(error) => lost(error.to_string()),
            ClientError::Silent(within) => lost(format!("no answer within {within:?}")),
            ClientError::Denied(what) | ClientError::Connect(what) | ClientError::Garbage(what) => lost(what),
            ClientError::Host { what, .. } => lost(what),
        }
    }

    fn note(&self, text: &str) {
        tracing::debug!("for an editor: {text}");
    }
}
