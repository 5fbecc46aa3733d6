//! Passes one request on to the daemon's API, over a connection that carries that request alone. So every limit of the daemon's holds for
//! requests that come together over one connection from elsewhere.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Bytes, HttpBody};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::client::conn::http1;
use hyper::upgrade::OnUpgrade;
use hyper::{Request, Response, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::task::AbortHandle;

/// The name of every daemon in HTTP.
pub const AUTHORITY: &str = "kennel";
/// Headers that are about one connection (RFC 9110, section 7.6.1), or are made anew.
const HOPS: [header::HeaderName; 8] = [
    header::CONNECTION,
    header::HOST,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];
/// The same, of names that are in no list.
const OLD_HOPS: [&str; 2] = ["keep-alive", "proxy-connection"];

/// Reason for which a request was not answered.
#[derive(Debug)]
pub enum Failed {
    /// The connection broke off.
    Lost(String),
    /// The request has no path.
    Garbage(String),
}

/// The body of an answer. The daemon's connection ends with it, whether it was read to its end or not.
pub struct Passed {
    body: Incoming,
    _connection: Option<Ends>,
}

struct Ends(AbortHandle);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl HttpBody for Passed {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Gives a request to the daemon at the other end of `stream`. The connection ends if this future is dropped.
///
/// # Errors
/// The daemon went away before it answered, or the request is not one.
pub async fn pass_on<B>(stream: UnixStream, request: Request<B>) -> Result<Response<Passed>, Failed>
where
    B: HttpBody + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let lost = |error: hyper::Error| Failed::Lost(error.to_string());
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(lost)?;
    let ends = Some(Ends(tokio::spawn(connection).abort_handle()));
    let response = sender.send_request(inwards(request)?).await.map_err(lost)?;
    let (mut parts, body) = response.into_parts();
    without_hops(&mut parts.headers);
    Ok(Response::from_parts(parts, Passed { body, _connection: ends }))
}

/// The daemon's connection on which another protocol is spoken from here on. It ends when this is dropped.
pub struct Switched {
    /// The connection.
    pub inner: OnUpgrade,
    _connection: Ends,
}

/// The same for a request that asks for another protocol. The answer has what the daemon has switched to, if it has.
///
/// # Errors
/// As [`pass_on`].
pub async fn pass_on_to_switch<B>(
    stream: UnixStream,
    request: Request<B>,
) -> Result<(Response<Passed>, Option<Switched>), Failed>
where
    B: HttpBody + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let lost = |error: hyper::Error| Failed::Lost(error.to_string());
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(lost)?;
    let handle = tokio::spawn(connection.with_upgrades()).abort_handle();
    let wanted = request.headers().get(header::UPGRADE).cloned();
    let mut request = inwards(request)?;
    let switches = |headers: &mut header::HeaderMap, to: Option<header::HeaderValue>| {
        if let Some(to) = to {
            headers.insert(header::UPGRADE, to);
            headers.insert(header::CONNECTION, header::HeaderValue::from_static("upgrade"));
        }
    };
    switches(request.headers_mut(), wanted);
    let mut response = sender.send_request(request).await.map_err(lost)?;
    let is_switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    let inner = is_switched.then(|| hyper::upgrade::on(&mut response));
    let (mut parts, body) = response.into_parts();
    let to = parts.headers.get(header::UPGRADE).cloned().filter(|_| is_switched);
    without_hops(&mut parts.headers);
    switches(&mut parts.headers, to);
    let switched = inner.map(|inner| Switched { inner, _connection: Ends(handle.clone()) });
    let ends = if is_switched { None } else { Some(Ends(handle)) };
    Ok((Response::from_parts(parts, Passed { body, _connection: ends }), switched))
}

/// A request as the daemon gets it.
fn inwards<B>(request: Request<B>) -> Result<Request<Pin<Box<B>>>, Failed> {
    let (mut parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    parts.uri = path.parse::<Uri>().map_err(|error| Failed::Garbage(error.to_string()))?;
    without_hops(&mut parts.headers);
    parts.headers.insert(header::HOST, header::HeaderValue::from_static(AUTHORITY));
    parts.version = hyper::Version::HTTP_11;
    Ok(Request::from_parts(parts, Box::pin(body)))
}

fn without_hops(headers: &mut header::HeaderMap) {
    HOPS.iter().for_each(|name| drop(headers.remove(name)));
    OLD_HOPS.iter().for_each(|name| drop(headers.remove(*name)));
}
