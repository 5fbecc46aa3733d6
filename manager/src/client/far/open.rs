//! One connection, by whichever way, and how requests are written there.

use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http2;
use hyper::{StatusCode, header};
use hyper_util::rt::{TokioExecutor, TokioIo};
use protocol::api::Problem;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;

use super::ssh::{Attempt, Process};
use super::tls::TlsOptions;
use super::{Far, Greeting, News, Unreached, Way, ssh, tls};
use crate::client::reasons::{retry_after, why_lost, with_retry};
use crate::client::relay;
use crate::client::token::Token;
use crate::pass::AUTHORITY;

/// The longest wait for a host by ssh where there is no terminal on which anybody could be asked.
const UNATTENDED: Duration = Duration::from_secs(60);
/// The longest wait for a host by TLS, where nobody is asked.
const CONNECT: Duration = Duration::from_secs(20);
/// The route by which a daemon describes itself.
const MANAGER: &str = "/v1/manager";
/// The longest pause that a daemon can ask for.
const MAX_AFTER: Duration = Duration::from_secs(120);
/// The longest description, in bytes.
const MAX_GREETING: usize = 1024 * 1024;

type Sender = http2::SendRequest<Full<Bytes>>;

/// A connection. Ends when it is dropped.
pub(super) struct Open {
    pub sender: Sender,
    pub terms: std::sync::Arc<Terms>,
    /// Reads and writes it.
    task: Task,
    /// The process that carries it; none: it carries itself.
    process: Option<Process>,
}

/// A task that ends when this is dropped.
struct Task(JoinHandle<Option<String>>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// How requests are written on a connection.
#[derive(Debug)]
pub(in crate::client) struct Terms {
    /// Scheme and authority of each URI.
    origin: String,
    /// The token that shows whose requests they are; none: the connection itself does.
    pub bearer: Option<Token>,
    /// The path at which the other end is asked for a sign.
    pub(super) sign: &'static str,
    /// The other end is a [`relay`], and not the daemon itself.
    pub relayed: bool,
}

impl Terms {
    /// The URI of a path.
    pub fn uri(&self, path: &str) -> String {
        format!("{}{path}", self.origin)
    }

    /// A request without a body.
    pub(super) fn get(&self, path: &str) -> Result<hyper::Request<Full<Bytes>>, hyper::http::Error> {
        let mut builder = hyper::Request::builder().uri(self.uri(path));
        if let Some(bearer) = &self.bearer {
            builder = builder.header(header::AUTHORIZATION, bearer.bearer());
        }
        builder.body(Full::default())
    }
}

impl Open {
    /// Ends it, and says why it had ended.
    pub(super) async fn end(mut self) -> String {
        let task = &mut self.task.0;
        let why = if task.is_finished() { task.await.ok().flatten() } else { None };
        drop(self.task);
        match self.process {
            Some(process) => process.end().await,
            None => why.unwrap_or_else(|| "the other end has closed it".to_owned()),
        }
    }
}

impl Far {
    /// Connects. `within` a time, nobody is asked for a password; `alone`, nothing is used that others share.
    pub(super) async fn open(&self, within: Option<Duration>, alone: bool) -> Result<Open, Unreached> {
        let longest = match &self.options.way {
            Way::Ssh(_) => (!ssh::has_terminal()).then_some(UNATTENDED),
            Way::Tls(_) => Some(CONNECT),
        };
        let within = within.or(longest);
        let connecting = self.connect(Attempt { within, alone });
        let Some(within) = within else { return connecting.await };
        tokio::time::timeout(within, connecting)
            .await
            .unwrap_or_else(|_| Err(Unreached::new(format!("no answer within {} s", within.as_secs()))))
    }

    async fn connect(&self, attempt: Attempt) -> Result<Open, Unreached> {
        let (open, greeting) = match &self.options.way {
            Way::Ssh(options) => {
                let (stream, process, greeting) = ssh::reach(&self.options.name, options, attempt).await?;
                let terms = Terms {
                    origin: format!("http://{AUTHORITY}"),
                    bearer: None,
                    sign: relay::SIGN,
                    relayed: true,
                };
                (Open::over(stream, terms, Some(process)).await?, Some(greeting))
            }
            Way::Tls(options) => {
                let (stream, bearer) = tls::reach(&self.options.name, options).await?;
                let origin = format!("https://{}", options.authority());
                let terms = Terms { origin, bearer, sign: "/healthz", relayed: false };
                let mut open = Open::over(stream, terms, None).await?;
                // Without a key, nothing but to pair is asked.
                let greeting = match open.terms.bearer {
                    Some(_) => Some(open.greeting(&self.options.name, options).await?),
                    None => None,
                };
                (open, greeting)
            }
        };
        if let Some(greeting) = greeting
            && self.state().greeting.replace(greeting.clone()).is_none()
        {
            (self.tell)(News::Reached(greeting));
        }
        Ok(open)
    }
}

impl Open {
    /// Speaks HTTP/2 over a stream.
    async fn over(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        terms: Terms,
        process: Option<Process>,
    ) -> Result<Self, Unreached> {
        let mut http = http2::Builder::new(TokioExecutor::new());
        http.initial_stream_window_size(relay::STREAM_WINDOW)
            .initial_connection_window_size(relay::CONNECTION_WINDOW);
        let (sender, connection) = http
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| Unreached::new(format!("the connection: {error}")))?;
        // Its errors are those of the requests, which are seen there.
        let task = Task(tokio::spawn(async move { connection.await.err().map(|error| why_lost(&error)) }));
        Ok(Self { sender, terms: terms.into(), task, process })
    }

    /// Asks the daemon to describe itself, which also shows whether it takes the key.
    async fn greeting(&mut self, name: &str, options: &TlsOptions) -> Result<Greeting, Unreached> {
        let request = self.terms.get(MANAGER);
        let request = request.map_err(|error| Unreached::new(format!("this cannot be asked: {error}")))?;
        let lost =
            |error: hyper::Error| Unreached::new(format!("it has closed the connection: {}", words(&error)));
        self.sender.ready().await.map_err(lost)?;
        let response = self.sender.send_request(request).await.map_err(lost)?;
        let (status, after) = (response.status(), retry_after(response.headers()));
        let body = Limited::new(response.into_body(), MAX_GREETING).collect().await;
        let body = body.map_err(|error| Unreached::new(format!("its answer: {error}")))?.to_bytes();
        if status == StatusCode::OK {
            return serde_json::from_slice(&body)
                .map_err(|_| Unreached::new("it describes itself in an unknown way; is it a kennel?"));
        }
        let problem: Option<Problem> = serde_json::from_slice(&body).ok();
        match (status, problem) {
            // A key that may do less.
            (StatusCode::FORBIDDEN, Some(_)) => Ok(Greeting::default()),
            (StatusCode::UNAUTHORIZED, Some(problem)) => {
                let again =
                    format!("`kennel pair` there, and `kennel host pair {name}` here, make a new one");
                let hint = problem.hint.clone().unwrap_or(again);
                let problem = Problem { hint: Some(hint), ..problem };
                let what = problem.detail.clone();
                Err(Unreached { problem: Some(Box::new(problem)), ..Unreached::new(what).for_good() })
            }
            (_, Some(problem)) => {
                let (what, problem) = (problem.detail.clone(), with_retry(problem, after));
                let after = after.unwrap_or_default().min(MAX_AFTER);
                Err(Unreached { problem: Some(Box::new(problem)), after, ..Unreached::new(what) })
            }
            (status, None) => Err(Unreached::new(format!(
                "{} answers {status}, which no kennel would",
                options.authority()
            ))),
        }
    }
}

/// An error with its reasons.
fn words(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(reason) = next {
        let reason_text = reason.to_string();
        if !text.contains(&reason_text) {
            text = format!("{text}: {reason_text}");
        }
        next = reason.source();
    }
    text
}
