//! A port of this machine in the place of the server's: a vendor sends the browser, which is here, to `localhost`, and the program
//! that waits there is on the server. What the browser asks for is passed on; its answer is shown as plain text.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use protocol::api::VisitAnswer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;

/// Connections of browsers at one time.
const AT_ONCE: usize = 8;
/// Time for one connection. The server gives an answer 20 s.
const LONGEST: Duration = Duration::from_secs(60);
/// The longest head of a request, in bytes.
const HEAD: usize = 32 * 1024;
/// Shown where the program says nothing.
const ANSWERED: &str = "The log-in has answered.";
/// Shown below every answer.
const AFTER: &str = "kennel has passed this on. You can close this page, and look at the terminal.";

/// A browser's request.
pub struct Visit {
    /// The address.
    pub url: String,
    /// The answer, or why there is none.
    pub reply: oneshot::Sender<Result<VisitAnswer, String>>,
}

/// A port that is passed on until this is dropped.
pub struct Forward(Vec<JoinHandle<()>>);

impl Drop for Forward {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

impl Forward {
    /// Listens on a port of the loopback addresses.
    ///
    /// # Errors
    /// The port is taken, or only root may have it.
    pub async fn listen(port: u16, visits: &mpsc::Sender<Visit>) -> io::Result<Self> {
        let bind = |ip: IpAddr| TcpListener::bind(SocketAddr::new(ip, port));
        let mut listeners = vec![bind(Ipv4Addr::LOCALHOST.into()).await?];
        // A machine without IPv6 has none; where another program has it, browsers would ask that one.
        match bind(Ipv6Addr::LOCALHOST.into()).await {
            Ok(listener) => listeners.push(listener),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(error),
            Err(_) => {}
        }
        let room = Arc::new(Semaphore::new(AT_ONCE));
        let accept = |listener| tokio::spawn(accept(listener, port, visits.clone(), room.clone()));
        Ok(Self(listeners.into_iter().map(accept).collect()))
    }
}

async fn accept(listener: TcpListener, port: u16, visits: mpsc::Sender<Visit>, room: Arc<Semaphore>) {
    // The semaphore is never closed.
    while let Ok(permit) = room.clone().acquire_owned().await {
        // A connection that failed before it was taken is none.
        let Ok((stream, _)) = listener.accept().await else { continue };
        let visits = visits.clone();
        tokio::spawn(async move {
            let _ = tokio::time::timeout(LONGEST, serve(stream, port, visits)).await;
            drop(permit);
        });
    }
}

async fn serve(stream: TcpStream, port: u16, visits: mpsc::Sender<Visit>) {
    let service = service_fn(move |request| {
        let visits = visits.clone();
        async move { Ok::<_, Infallible>(answer(request, port, &visits).await) }
    });
    let mut server = http1::Builder::new();
    server.keep_alive(false).max_buf_size(HEAD);
    // A browser that leaves is no news.
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(
    request: Request<Incoming>,
    port: u16,
    visits: &mpsc::Sender<Visit>,
) -> Response<Full<Bytes>> {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let names = ["localhost", "127.0.0.1", "[::1]"];
    // A page of another name that resolves to this machine is a stranger's.
    let Some(name) = names.into_iter().find(|name| host == Some(&format!("{name}:{port}"))) else {
        return page(StatusCode::MISDIRECTED_REQUEST, "This port is for a log-in, under the name localhost.");
    };
    if request.method() != Method::GET || request.headers().contains_key(header::ORIGIN) {
        return page(StatusCode::FORBIDDEN, "This port is for a browser that a log-in sends here.");
    }
    if request.uri().path() == "/favicon.ico" {
        return page(StatusCode::NOT_FOUND, "There is no icon.");
    }
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let (reply, answered) = oneshot::channel();
    let visit = Visit { url: format!("http://{name}:{port}{path}"), reply };
    let answer = match visits.send(visit).await {
        Ok(()) => answered.await.unwrap_or(Err("The log-in has ended.".to_owned())),
        Err(_) => Err("The log-in has ended.".to_owned()),
    };
    match answer {
        Ok(VisitAnswer { next: Some(next), .. }) => {
            let mut response = page(StatusCode::FOUND, ANSWERED);
            if let Ok(next) = next.parse() {
                response.headers_mut().insert(header::LOCATION, next);
            }
            response
        }
        Ok(VisitAnswer { status, text, .. }) => {
            let status =
                StatusCode::from_u16(status).ok().filter(|it| it.is_client_error() || it.is_server_error());
            let text = if text.is_empty() { ANSWERED } else { &text };
            page(status.unwrap_or(StatusCode::OK), text)
        }
        Err(why) => page(StatusCode::BAD_GATEWAY, &why),
    }
}

/// A page of plain text, which no browser takes for more.
fn page(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(format!("{text}\n\n{AFTER}\n")));
    *response.status_mut() = status;
    for (name, value) in [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        response.headers_mut().insert(name, header::HeaderValue::from_static(value));
    }
    response
}
