//! The other end of [`ssh`](super::far::ssh): takes requests by HTTP/2 and gives each to the daemon of this machine on a connection of
//! its own.
//!
//! So a daemon that is restarted ends no connection between machines, every limit of the daemon's holds, and a reader that is slow
//! keeps nobody else waiting.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;

use axum::body::Body;
use futures_util::future::BoxFuture;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::{TokioExecutor, TokioIo};
use protocol::api::Problem;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Mutex;

use super::{Client, ClientError};
use crate::pass;

/// Asks the relay itself to start the daemon.
pub const START: &str = "/connect/start";
/// Asks the relay itself to stop the daemon.
pub const STOP: &str = "/connect/stop";
/// Asks the relay itself for a sign.
pub const SIGN: &str = "/connect/sign";
/// The codes of the relay's own problems: there is no daemon, it cannot be reached, it went away before it answered.
pub const ABSENT: &str = "daemon_absent";
/// See [`ABSENT`].
pub const UNREACHABLE: &str = "daemon_unreachable";
/// See [`ABSENT`].
pub const LOST: &str = "connection_lost";

/// Bytes that a stream may send ahead of its reader, and all streams of one connection together.
pub const STREAM_WINDOW: u32 = 256 * 1024;
/// See [`STREAM_WINDOW`].
pub const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;
/// The most requests and streams at a time. The daemon has a limit of its own.
const MAX_STREAMS: u32 = 256;
/// The largest head of a request, in bytes: the daemon takes no larger one.
const MAX_HEAD: u32 = 16 * 1024;

/// Requests that the relay carries out by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Own {
    /// Start the daemon, unless it runs.
    Start,
    /// Stop the daemon and all of its processes, whether it runs or has left some.
    Stop,
}

/// How that is done here.
pub type Doer = Box<dyn Fn(Own) -> BoxFuture<'static, Result<(), Box<Problem>>> + Send + Sync>;

/// Relays what comes over `stream` until that ends.
///
/// # Errors
/// The input is no HTTP/2, or the stream fails.
pub async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    client: Client,
    own: Doer,
) -> io::Result<()> {
    // One at a time: each is a process.
    let own = Arc::new(Mutex::new(own));
    let service = service_fn(move |request| {
        let (client, own) = (client.clone(), own.clone());
        async move { Ok::<_, Infallible>(answer(&client, &own, request).await) }
    });
    let mut http = http2::Builder::new(TokioExecutor::new());
    http.max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEAD)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    http.serve_connection(TokioIo::new(stream), service).await.map_err(io::Error::other)
}

async fn answer(client: &Client, own: &Mutex<Doer>, request: Request<Incoming>) -> Response<Body> {
    let asked = match request.uri().path() {
        START => Some(Own::Start),
        STOP => Some(Own::Stop),
        _ => None,
    };
    if let (Some(asked), &Method::POST) = (asked, request.method()) {
        let own = own.lock().await;
        // Somebody else may have had it started meanwhile.
        if asked == Own::Start && client.connect().await.is_ok() {
            return Response::new(Body::empty());
        }
        return match own(asked).await {
            Ok(()) => Response::new(Body::empty()),
            Err(problem) => refused(&problem),
        };
    }
    if request.uri().path() == SIGN {
        return Response::new(Body::empty());
    }
    match pass_on(client, request).await {
        Ok(response) => response,
        Err(error) => refused(&problem(error)),
    }
}

/// Gives a request to the daemon.
async fn pass_on(client: &Client, request: Request<Incoming>) -> Result<Response<Body>, ClientError> {
    let stream = client.connect().await?;
    let response = pass::pass_on(stream, request).await.map_err(|failed| match failed {
        pass::Failed::Lost(what) => ClientError::Lost(what),
        pass::Failed::Garbage(what) => ClientError::Garbage(what),
    })?;
    let (mut parts, body) = response.into_parts();
    parts.version = hyper::Version::HTTP_2;
    Ok(Response::from_parts(parts, Body::new(body.map_err(axum::Error::new))))
}

/// A relay's own error, as a problem.
fn problem(error: ClientError) -> Problem {
    let (code, detail) = match error {
        ClientError::Absent(error) => (ABSENT, error.to_string()),
        ClientError::Lost(what) => (LOST, what),
        ClientError::Denied(what) | ClientError::Connect(what) | ClientError::Garbage(what) => {
            (UNREACHABLE, what)
        }
        ClientError::Silent(_) => (UNREACHABLE, "the daemon does not answer".to_owned()),
        ClientError::Host { what, .. } => (UNREACHABLE, what),
        ClientError::Problem(problem) => return *problem,
    };
    let (status, title) = (503, "Service Unavailable".to_owned());
    let (kind, code) = ("about:blank".to_owned(), code.to_owned());
    Problem { kind, title, status, code, detail, hint: None, subject: None }
}

fn refused(problem: &Problem) -> Response<Body> {
    let mut response = Response::new(Body::from(serde_json::to_vec(problem).unwrap_or_default()));
    *response.status_mut() = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    let json = header::HeaderValue::from_static("application/problem+json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}
