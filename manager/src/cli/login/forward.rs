//! A port of this machine in the place of the server's: a vendor sends the browser, which is here, to `localhost`, and the program
//! that waits there is on the server. What the browser asks for is passed on; its answer is shown as plain text.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use protocol::api::VisitAnswer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::{AbortHandle, JoinHandle};

/// Requests of browsers at one time.
const AT_ONCE: usize = 8;
/// Connections that have asked for nothing yet, at each address. The oldest makes room.
const IDLE: usize = 32;
/// Time for the head of a request.
const HEAD_TIME: Duration = Duration::from_secs(5);
/// Time between two attempts where a connection cannot be taken: the machine is short of something.
const PAUSE: Duration = Duration::from_millis(200);
/// Time for one connection. The server gives an answer 20 s.
const LONGEST: Duration = Duration::from_secs(60);
/// The longest head of a request, in bytes.
const HEAD: usize = 32 * 1024;
/// Names of this machine.
const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];
/// Shown where the program says nothing.
const ANSWERED: &str = "The log-in has answered.";
/// Shown below what was passed on.
const AFTER: &str = "kennel has passed this on. You can close this page, and look at the terminal.";

/// A browser's request.
pub struct Visit {
    /// The port to which it came.
    pub port: u16,
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
    let mut idle: VecDeque<(AbortHandle, Arc<AtomicBool>)> = VecDeque::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        idle.retain(|(task, has_asked)| !task.is_finished() && !has_asked.load(Ordering::Relaxed));
        // Whoever opens connections and is silent keeps no browser out.
        if idle.len() >= IDLE
            && let Some((oldest, _)) = idle.pop_front()
        {
            oldest.abort();
        }
        let has_asked = Arc::<AtomicBool>::default();
        let serving = serve(stream, port, visits.clone(), room.clone(), has_asked.clone());
        let task = tokio::spawn(async move {
            let _ = tokio::time::timeout(LONGEST, serving).await;
        });
        idle.push_back((task.abort_handle(), has_asked));
    }
}

async fn serve(
    stream: TcpStream,
    port: u16,
    visits: mpsc::Sender<Visit>,
    room: Arc<Semaphore>,
    has_asked: Arc<AtomicBool>,
) {
    let service = service_fn(move |request| {
        has_asked.store(true, Ordering::Relaxed);
        let (visits, room) = (visits.clone(), room.clone());
        async move {
            Ok::<_, Infallible>(match room.try_acquire() {
                Ok(_permit) => answer(request, port, &visits).await,
                Err(_) => {
                    refusal(StatusCode::SERVICE_UNAVAILABLE, "Too many ask at once. Load this page again.")
                }
            })
        }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME);
    server.keep_alive(false).max_buf_size(HEAD);
    // A browser that leaves is no news.
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}

/// Why a request is not passed on; none if it is one of a browser that a vendor has sent here, in its own window.
fn refused<B>(request: &Request<B>, port: u16) -> Option<Response<Full<Bytes>>> {
    let headers = request.headers();
    let mut hosts = headers.get_all(header::HOST).iter();
    // A page of another name that resolves to this machine is a stranger's.
    let is_ours =
        hosts.next().is_some_and(|host| NAMES.iter().any(|name| *host == format!("{name}:{port}").as_str()));
    if !is_ours || hosts.next().is_some() {
        let why = "This port is for a log-in, under the name localhost.";
        return Some(refusal(StatusCode::MISDIRECTED_REQUEST, why));
    }
    // Nor is an image or a script of a page that a stranger has made (Fetch Metadata, W3C).
    let other = |name: &str, only: &str| headers.get_all(name).iter().any(|value| value != only);
    let is_a_part = other("sec-fetch-mode", "navigate") || other("sec-fetch-dest", "document");
    if request.method() != Method::GET || headers.contains_key(header::ORIGIN) || is_a_part {
        let why = "This port is for a browser that a log-in sends here.";
        return Some(refusal(StatusCode::FORBIDDEN, why));
    }
    (request.uri().path() == "/favicon.ico").then(|| refusal(StatusCode::NOT_FOUND, "There is no icon."))
}

async fn answer(
    request: Request<Incoming>,
    port: u16,
    visits: &mpsc::Sender<Visit>,
) -> Response<Full<Bytes>> {
    if let Some(refusal) = refused(&request, port) {
        return refusal;
    }
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let (reply, answered) = oneshot::channel();
    let visit = Visit { port, url: format!("http://{host}{path}"), reply };
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
        Err(why) => refusal(StatusCode::BAD_GATEWAY, &why),
    }
}

/// The page of an answer.
fn page(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    plain(status, format!("{text}\n\n{AFTER}\n"))
}

/// The page of what was not passed on, or had no answer.
fn refusal(status: StatusCode, why: &str) -> Response<Full<Bytes>> {
    plain(status, format!("{why}\n"))
}

/// A page of plain text, which no browser takes for more.
fn plain(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
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

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// A port that is passed on to a program that answers `ok`.
    async fn forward() -> (Forward, u16) {
        let (visits, mut visitors) = mpsc::channel::<Visit>(1);
        tokio::spawn(async move {
            while let Some(visit) = visitors.recv().await {
                let _ = visit.reply.send(Ok(VisitAnswer { status: 200, text: "ok".into(), next: None }));
            }
        });
        loop {
            let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            match Forward::listen(port, &visits).await {
                Ok(forward) => return (forward, port),
                Err(error) => assert_eq!(error.kind(), ErrorKind::AddrInUse),
            }
        }
    }

    async fn get(port: u16, headers: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let request = format!("GET /?code=SECRET HTTP/1.1\r\nHost: localhost:{port}\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test(flavor = "current_thread")]
    async fn only_a_browser_that_was_sent_here_is_passed_on() {
        let (_forward, port) = forward().await;
        for headers in ["", "Sec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n"] {
            let answer = get(port, headers).await;
            assert!(
                answer.starts_with("HTTP/1.1 200") && answer.contains("ok\n\nkennel has passed"),
                "{answer}"
            );
        }
        for (headers, status) in [
            (format!("Host: localhost:{port}\r\n"), 421),
            ("Host: evil.example\r\n".into(), 421),
            ("Origin: https://evil.example\r\n".into(), 403),
            ("Sec-Fetch-Mode: no-cors\r\n".into(), 403),
            ("Sec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: iframe\r\n".into(), 403),
            ("Sec-Fetch-Dest: image\r\n".into(), 403),
        ] {
            let answer = get(port, &headers).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{headers}: {answer}");
            assert!(!answer.contains("passed") && !answer.contains("SECRET"), "{answer}");
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_head_that_never_ends_is_given_up() {
        let (_forward, port) = forward().await;
        let mut slow = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        slow.write_all(b"GET /?code=SECRET HTTP/1.1\r\nHost: localhost").await.unwrap();
        let mut answer = Vec::new();
        // Well before the longest time of a connection.
        let end = tokio::time::timeout(HEAD_TIME * 4, slow.read_to_end(&mut answer)).await;
        assert!(end.is_ok(), "the connection is kept");
        assert!(!String::from_utf8_lossy(&answer).contains("200"));
        assert!(get(port, "").await.starts_with("HTTP/1.1 200"), "others are served");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn silent_connections_keep_no_browser_out() {
        let (_forward, port) = forward().await;
        let mut silent = Vec::new();
        for _ in 0..2 * IDLE {
            silent.push(TcpStream::connect(("127.0.0.1", port)).await.unwrap());
        }
        assert!(get(port, "").await.starts_with("HTTP/1.1 200"));
        // The oldest has made room.
        let mut rest = Vec::new();
        assert!(silent[0].read_to_end(&mut rest).await.is_ok_and(|read| read == 0));
    }
}
