//! HTTP on a connection of the port: HTTP/1.1 or HTTP/2, and each request given to the API on a connection of its own.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use axum::response::IntoResponse;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::super::auth::shown_key;
use super::super::connections::{FAREWELL, MAX_HEAD, MAX_HEADERS, farewell, join, too_slow, unreadable};
use super::super::cookie::Gate;
use super::super::peer::Peer;
use super::super::problem::ApiError;
use super::door::{Busy, Phase, Place};
use super::wire::{Shared, Stream, Wire};
use super::{Front, Way, host, last_words, origin, page};
use crate::keys::{Hash, hash_of_key};
use crate::listening::Reason;
use crate::pass::{self, Switched, pass_on, pass_on_to_switch};
use crate::system::clock::wall_ms;

/// Bytes that a stream may send ahead of its reader, and all streams of one connection together.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Bytes of a stream that may wait for the client.
const SEND_BUFFER: usize = 64 * 1024;
/// The most requests and streams of one connection at a time.
const MAX_STREAMS: u32 = 64;
/// Requests that a client may take back before they are worked on, and streams that it may spoil; then its connection ends (CVE-2023-44487).
const MAX_RESETS: usize = 20;
/// Time without a byte after which the client is asked for a sign, and the time that it has for one.
const PING: Duration = Duration::from_secs(30);

/// The other end of a connection.
#[derive(Clone)]
struct Visitor {
    front: Arc<Front>,
    from: SocketAddr,
    gate: Gate,
    place: Arc<Place>,
    /// The other protocol that the client and the daemon have agreed on.
    switch: Arc<Mutex<Option<Switch>>>,
}

/// The two ends of a connection on which another protocol is spoken from here on.
struct Switch {
    client: OnUpgrade,
    daemon: Switched,
    /// The connection is at work for as long.
    busy: Busy,
}

/// Serves a connection after its handshake.
pub async fn talk(
    front: &Arc<Front>,
    stream: Stream,
    (from, gate): (SocketAddr, Gate),
    place: &Arc<Place>,
    ending: watch::Receiver<bool>,
) {
    let visitor = Visitor { front: front.clone(), from, gate, place: place.clone(), switch: Arc::default() };
    match stream.is_http2() {
        true => visitor.http2(stream, ending).await,
        false => visitor.http1(stream, ending).await,
    }
}

/// Drives a connection until it ends, its client is overdue, or the daemon ends. Returns the phase of a client that is overdue.
macro_rules! drive {
    ($visitor:expr, $connection:expr, $ending:expr) => {{
        let (place, limits) = (&$visitor.place, &$visitor.front.limits);
        let mut connection = pin!($connection);
        let mut leaving = false;
        loop {
            tokio::select! {
                _ = connection.as_mut() => break None,
                phase = place.overdue(limits), if !leaving => {
                    if phase != Phase::Rest {
                        break Some(phase);
                    }
                    leaving = true;
                    connection.as_mut().graceful_shutdown();
                }
                _ = $ending.wait_for(|ends| *ends), if !leaving => {
                    leaving = true;
                    connection.as_mut().graceful_shutdown();
                }
                // One that does not answer holds nobody up.
                () = async { place.at_rest().await; sleep(FAREWELL).await }, if leaving => break None,
            }
        }
    }};
}

impl Visitor {
    async fn http2(&self, stream: Stream, mut ending: watch::Receiver<bool>) {
        let service = service_fn(|request| self.clone().answer(request));
        let mut http = http2::Builder::new(TokioExecutor::new());
        http.timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(MAX_HEAD as u32)
            .max_pending_accept_reset_streams(MAX_RESETS)
            .max_local_error_reset_streams(MAX_RESETS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING);
        let overdue = drive!(self, http.serve_connection(TokioIo::new(stream), service), ending);
        if matches!(overdue, Some(Phase::Fresh | Phase::Head)) {
            self.front.refuse(Reason::Head, self.from.ip());
        }
    }

    async fn http1(&self, stream: Stream, mut ending: watch::Receiver<bool>) {
        let service = service_fn(|request| self.clone().answer(request));
        let mut http = http1::Builder::new();
        http.max_buf_size(MAX_HEAD).max_headers(MAX_HEADERS).header_read_timeout(None);
        let wire = Shared::new(Wire::new(stream, self.place.clone()));
        let connection = http.serve_connection(TokioIo::new(wire.clone()), service).with_upgrades();
        let overdue = drive!(self, connection, ending);
        let switch = self.switch.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Switch { client, daemon, busy }) = switch {
            // Whoever ends it has nothing more to say.
            let _ = join(client, daemon.inner).await;
            drop(busy);
            return;
        }
        let refused = wire.lock().done();
        let last = match (refused, overdue) {
            (Some(status), _) => unreadable(status),
            (None, Some(Phase::Head)) => too_slow(self.front.limits.head),
            (None, Some(Phase::Fresh)) => return self.front.refuse(Reason::Head, self.from.ip()),
            (None, Some(Phase::Work | Phase::Rest) | None) => return,
        };
        self.front.refuse(Reason::Head, self.from.ip());
        // A client that has gone does not receive it.
        let _ = timeout(FAREWELL, last_words(&mut wire.clone(), &farewell(last).await)).await;
    }

    /// Answers a request, from the end of its head to the body of the answer.
    async fn answer(self, mut request: Request<Incoming>) -> Result<Response<Held>, Infallible> {
        let busy = self.place.begin();
        let version = request.version();
        self.gate.unfold(request.headers_mut(), |key| self.lets_in(hash_of_key(key)));
        let path = request.uri().path().to_owned();
        let file = page::path(&path);
        let mut response = match self.check(&request, file.is_some()).await {
            Ok(()) => match file {
                Some(file) => page::answer(&request, file),
                None => self.pass(request).await.unwrap_or_else(|error| {
                    let mut response = error.into_response();
                    self.with_retry(&mut response);
                    response
                }),
            },
            Err(refusal) => {
                let mut response = refusal.into_response();
                self.with_retry(&mut response);
                if version < Version::HTTP_2 {
                    // What else it has sent may be no request.
                    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
                response
            }
        };
        *response.version_mut() = version;
        Ok(response.map(|body| Held { body, busy }))
    }

    /// Tells a client whose address is refused for how long.
    fn with_retry(&self, response: &mut Response<Body>) {
        if response.status() == StatusCode::TOO_MANY_REQUESTS {
            let left =
                self.front.failures.refused_for(self.place.network, Instant::now()).unwrap_or_default();
            let seconds = HeaderValue::from(left.as_secs() + 1);
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
    }

    /// Checks a request before anything looks at its key.
    async fn check(&self, request: &Request<Incoming>, is_file: bool) -> Result<(), ApiError> {
        let refuse = |reason, error| {
            self.front.refuse(reason, self.from.ip());
            Err(error)
        };
        // A client with a good key goes on, whoever else has its address. Files are everybody's.
        if !is_file
            && self.is_refused()
            && !self.shows_good_key(request.headers())
            && !self.may_log_in(request)
        {
            return refuse(Reason::Failures, too_many_failures());
        }
        if request.version() < Version::HTTP_2 && request.headers().contains_key(header::TRANSFER_ENCODING) {
            // Two lengths in one head are how a request is smuggled; hyper shows one of them only.
            let detail = "by a port a body in HTTP/1.1 has a `Content-Length`; nothing was changed";
            let error = ApiError::new(StatusCode::LENGTH_REQUIRED, "length_required", detail)
                .hint("HTTP/2 takes bodies whose length is not known");
            return refuse(Reason::Head, error);
        }
        if request.method() == Method::CONNECT {
            let error = ApiError::bad_request("invalid_request", "this is no proxy; nothing was changed");
            return refuse(Reason::Head, error);
        }
        let (uri, headers) = (request.uri(), request.headers());
        let meant = match &self.front.way {
            Way::Loopback(address) => host::check(uri, headers, |host| host::is_loopback(host, *address)),
            Way::Tls { certificates, names } => match certificates.current().await {
                Some(loaded) => host::check(uri, headers, |host| {
                    host::is_of_certificate(host, names, &loaded.certificate)
                }),
                // There was one in the handshake.
                None => Err(lost("there is no certificate")),
            },
        };
        let host = meant.or_else(|error| refuse(Reason::Host, error).map(|()| String::new()))?;
        let own = format!("{}://{host}", self.gate.scheme());
        origin::check(headers, &own, is_file).or_else(|error| refuse(Reason::Origin, error))
    }

    /// Returns true if the client's address has shown too many wrong keys. On loopback all clients have one address, and a stranger must not
    /// lock the owner out: no address is refused there. Keys have 256 bits and tickets 128, so that nobody guesses one.
    fn is_refused(&self) -> bool {
        matches!(self.front.way, Way::Tls { .. })
            && !self.place.is_trusted()
            && self.front.failures.refused_for(self.place.network, Instant::now()).is_some()
    }

    /// Returns true for a log-in whose ticket or key the API may look at, though the address is refused.
    fn may_log_in(&self, request: &Request<Incoming>) -> bool {
        is_log_in(request) && self.front.failures.may_show_key(self.place.network, Instant::now())
    }

    /// Returns true for a key that lets its client in. The API looks at it again. Where wrong ones come in a flood, not each is
    /// looked at.
    fn shows_good_key(&self, headers: &HeaderMap) -> bool {
        headers.contains_key(header::AUTHORIZATION)
            && self.front.failures.may_show_key(self.place.network, Instant::now())
            && self.lets_in(shown_key(headers))
    }

    fn lets_in(&self, key: Option<Hash>) -> bool {
        key.and_then(|hash| self.front.keys.find(&hash).ok().flatten())
            .is_some_and(|key| !key.has_expired(wall_ms()))
    }

    /// Gives a request to the API.
    async fn pass(&self, mut request: Request<Incoming>) -> Result<Response<Body>, ApiError> {
        // It was examined here. On the socket none is let in.
        request.headers_mut().remove(header::ORIGIN);
        let stream = self.front.inlet.connect(Peer::by(self.from, self.gate)).await;
        let stream = stream.map_err(|error| lost(&error.to_string()))?;
        let failed = |failed| match failed {
            pass::Failed::Lost(what) => lost(&what),
            pass::Failed::Garbage(what) => ApiError::bad_request("invalid_request", what),
        };
        let pairs = request.uri().path() == "/v1/pair";
        let on_trial = is_log_in(&request) && self.is_refused();
        // A page that shows nothing yet asks who it is: nobody guesses.
        let guesses =
            request.headers().contains_key(header::AUTHORIZATION) || request.uri().path() != "/v1/web/me";
        let switches = request.version() < Version::HTTP_2 && request.headers().contains_key(header::UPGRADE);
        let response = match switches {
            false => pass_on(stream, request).await.map_err(failed)?,
            true => {
                let client = hyper::upgrade::on(&mut request);
                let (response, daemon) = pass_on_to_switch(stream, request).await.map_err(failed)?;
                let busy = || self.place.begin();
                *self.switch.lock().unwrap_or_else(PoisonError::into_inner) =
                    daemon.map(|daemon| Switch { client, daemon, busy: busy() });
                response
            }
        };
        if on_trial && !response.status().is_success() {
            self.front.refuse(Reason::Failures, self.from.ip());
            return Err(too_many_failures());
        }
        let is_failure = guesses && response.status() == StatusCode::UNAUTHORIZED
            || pairs && response.status() == StatusCode::FORBIDDEN;
        if is_failure {
            self.place.trust(false);
            self.front.failures.note(self.place.network, Instant::now());
            self.front.refuse(Reason::Key, self.from.ip());
        } else if response.status().is_success() || response.status() == StatusCode::SWITCHING_PROTOCOLS {
            // Nothing is given to a client that shows nothing.
            self.place.trust(true);
        }
        let mut response = response.map(Body::new);
        let headers = response.headers_mut();
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        // No browser keeps what it was answered on its disk.
        headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        Ok(response)
    }
}

/// Returns true for a log-in of a browser, whose body has the ticket or the key.
fn is_log_in<B>(request: &Request<B>) -> bool {
    request.method() == Method::POST && request.uri().path() == "/v1/web/login"
}

fn too_many_failures() -> ApiError {
    let detail = "this address has shown too many wrong keys; nothing was changed";
    ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_many_failures", detail).hint(
        "until then a device's key or a link that is good is let in, and nothing else; `Retry-After` has the seconds",
    )
}

fn lost(what: &str) -> ApiError {
    let detail = format!("the daemon broke the request off before it was answered: {what}");
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "connection_lost", detail)
        .hint("ask again; what carries an idempotency key is done once")
}

/// An answer's body. The request lasts as long.
struct Held {
    body: Body,
    busy: Busy,
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.busy.asked();
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(_))) = frame {
            self.busy.given();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
