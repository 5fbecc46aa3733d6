//! Connections: how many there may be, how long each may wait, and how many bytes all of them may hold.
//!
//! hyper reads and writes HTTP/1; this folder does everything around it. Each connection has a [`Seat`], which names its owner and
//! what it waits for. The [`Room`] counts the seats. It always lets a new connection in, and above the limit it closes
//! another: first one of a client with more than its share, then one without a whole request for a second, then an idle one,
//! then one of a session's, then the oldest of the owner's. A flood therefore never keeps the owner out.
//! A head that does not end gets 408; an idle or stuck connection is closed; a handler ends when its client is gone.

mod room;
mod wire;

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::ConnectInfo;
use axum::http::{Request, Response, StatusCode, header};
use axum::response::IntoResponse;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};

pub use self::room::{Origin, SMALL, Who, fault_in, overloaded, too_slow, unreadable};
use self::room::{Room, Seat};
use self::wire::{Answered, Received, Wire};
use super::peer::Peer;
use super::problem::ApiError;
use crate::config::Connections;

/// The largest head of a request, and what hyper keeps for one connection beside one piece of a body, in bytes.
pub const MAX_HEAD: usize = 16 * 1024;
/// The most header lines of a request.
pub const MAX_HEADERS: usize = 100;
/// Time limit for the last answer of a connection.
pub const FAREWELL: Duration = Duration::from_secs(1);
/// Bytes that the daemon reads and discards so that the client gets the last answer.
pub const FAREWELL_BYTES: usize = 1024 * 1024;

/// The owner of a connection, by the peer's uid from the kernel; `None`: the peer may not connect.
///
/// The socket's mode keeps other users out already. This check also holds if the file lies, by mistake, where others
/// can change it.
fn recognise(stream: &UnixStream) -> Option<Who> {
    let own = rustix::process::geteuid().as_raw();
    match stream.peer_cred().map(|peer| peer.uid()) {
        Ok(uid) if may_connect(uid, own) => Some(Who::Owner),
        Ok(uid) => {
            tracing::warn!("a connection of uid {uid} was refused");
            None
        }
        Err(error) => {
            tracing::warn!("a connection whose peer is unknown was refused: {error}");
            None
        }
    }
}

/// Returns true for the user of the daemon and for root, whom no check can keep out.
fn may_connect(peer: u32, own: u32) -> bool {
    peer == own || peer == 0
}

/// A way to the API from within this process: for what takes clients in by another door, and has examined them there.
#[derive(Clone, Debug)]
pub struct Inlet(mpsc::Sender<Entrant>);

/// A connection that comes in by an [`Inlet`]. It belongs to no runtime yet: each end may live on another.
pub type Entrant = (std::os::unix::net::UnixStream, Peer);

impl Inlet {
    /// The inlet, and what [`serve`] takes.
    pub fn new() -> (Self, mpsc::Receiver<Entrant>) {
        let (sender, others) = mpsc::channel(1);
        (Self(sender), others)
    }

    /// A connection to the API, by HTTP/1.1, as this peer.
    ///
    /// # Errors
    /// There are no descriptors, or the server has ended.
    pub async fn connect(&self, peer: Peer) -> io::Result<UnixStream> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        for end in [&ours, &theirs] {
            end.set_nonblocking(true)?;
        }
        let ours = UnixStream::from_std(ours)?;
        self.0.send((theirs, peer)).await.map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))?;
        Ok(ours)
    }
}

/// Joins two connections that become another protocol's at the same time: a client's, and the one of an [`Inlet`] over which its
/// request was passed on. Ends with either of them.
///
/// # Errors
/// One of them did not, or broke.
pub async fn join(client: OnUpgrade, inner: OnUpgrade) -> io::Result<()> {
    let (client, inner) = tokio::try_join!(client, inner).map_err(io::Error::other)?;
    let (mut from_client, mut to_client) = tokio::io::split(TokioIo::new(client));
    let (mut from_inner, mut to_inner) = tokio::io::split(TokioIo::new(inner));
    let ended = tokio::select! {
        sent = tokio::io::copy(&mut from_client, &mut to_inner) => sent,
        said = tokio::io::copy(&mut from_inner, &mut to_client) => said,
    };
    // The other end may never end by itself. Whoever has gone does not hear it.
    let _ = timeout(FAREWELL, to_client.shutdown()).await;
    ended.map(drop)
}

/// Serves the API to this user and root until `end` is ready; then lets running requests finish. A listener that comes
/// through `moved` takes the place of the one before. `others` are the connections of an [`Inlet`].
pub async fn serve(
    mut listener: UnixListener,
    mut moved: mpsc::Receiver<UnixListener>,
    mut others: mpsc::Receiver<Entrant>,
    router: Router,
    limits: Connections,
    end: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let room = Arc::new(Room::new(limits.into()));
    let ending = watch::Sender::new(false);
    // Each connection has one sender; the receiver ends when the last is gone.
    let (alive, mut all_gone) = mpsc::channel::<()>(1);
    let mut end = pin!(end);
    loop {
        let accepted = tokio::select! {
            () = &mut end => break,
            Some(next) = moved.recv() => {
                listener = next;
                continue;
            }
            Some((stream, peer)) = others.recv() => UnixStream::from_std(stream).map(|stream| (stream, Some(peer))),
            accepted = listener.accept() => accepted.map(|(stream, _)| (stream, None)),
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Most often for want of descriptors: somebody else's connection makes room for this one.
                tracing::warn!("a connection cannot be accepted: {error}");
                room.close_one();
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (peer, who) = match peer {
            Some(peer) => {
                let who = if peer.gate().is_some() { Who::Remote } else { Who::Owner };
                (peer, who)
            }
            None => {
                let Some(who) = recognise(&stream) else { continue };
                // At once: after its process has ended, an agent looks like any other process.
                (Peer::of(&stream), who)
            }
        };
        let seat = room.enter(who);
        let (room, router, ending) = (room.clone(), router.clone(), ending.subscribe());
        let alive = alive.clone();
        tokio::spawn(async move {
            converse(stream, peer, &seat, &room, router, ending).await;
            room.leave(&seat);
            drop(alive);
        });
    }
    ending.send_replace(true);
    drop((alive, listener));
    all_gone.recv().await;
    Ok(())
}

/// Serves a connection, from its first byte to its last.
async fn converse(
    stream: UnixStream,
    peer: Peer,
    seat: &Arc<Seat>,
    room: &Arc<Room>,
    router: Router,
    mut ending: watch::Receiver<bool>,
) {
    let stream = Arc::new(stream);
    let router = TowerToHyperService::new(router);
    let service = {
        let (seat, room) = (seat.clone(), room.clone());
        service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(ConnectInfo(peer.clone()));
            // At once: hyper looks whether more comes before it works on the answer.
            seat.begin(request.body().is_end_stream());
            answer(router.clone(), seat.clone(), room.clone(), request)
        })
    };
    let mut http = http1::Builder::new();
    http.max_buf_size(MAX_HEAD).max_headers(MAX_HEADERS).header_read_timeout(None);
    let (held, gone) = oneshot::channel();
    let wire = Wire::new(stream.clone(), seat.clone(), room.clone(), held);
    let result = {
        let mut connection = pin!(http.serve_connection(TokioIo::new(wire), service).with_upgrades());
        let mut leaving = false;
        loop {
            tokio::select! {
                result = connection.as_mut() => break Some(result),
                () = seat.cut.notified() => break None,
                _ = ending.wait_for(|ends| *ends), if !leaving => {
                    leaving = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    };
    if seat.is_upgraded() {
        return stay(&stream, seat, gone).await;
    }
    if let Some(last) = seat.last_words(result, room.limits) {
        // A client that has gone does not receive it.
        let _ = timeout(FAREWELL, say(&stream, last)).await;
    }
}

/// Keeps the seat of a connection that speaks another protocol by now, until that has ended. `gone` is ready then.
async fn stay(stream: &UnixStream, seat: &Seat, mut gone: oneshot::Receiver<Infallible>) {
    tokio::select! {
        _ = &mut gone => {}
        () = seat.cut.notified() => {
            // Whoever reads or writes there finds it closed. It may be closed already.
            let _ = rustix::net::shutdown(stream, rustix::net::Shutdown::Both);
            let _ = gone.await;
        }
    }
}

/// Serves a request, from the end of its head to the body of the answer.
async fn answer(
    router: TowerToHyperService<Router>,
    seat: Arc<Seat>,
    room: Arc<Room>,
    request: Request<Incoming>,
) -> Result<Response<Answered>, Infallible> {
    let origin = Origin::new(seat.clone(), room.clone());
    let mut request = request.map(|body| Body::new(Received { body, seat: seat.clone() }));
    request.extensions_mut().insert(origin.clone());
    let mut response = match router.call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    // The handler no longer uses the body.
    drop(origin);
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        seat.upgrade();
    }
    let size = response.size_hint().exact().unwrap_or(0) as usize;
    if size > SMALL && !room.admit(&seat, size) {
        response =
            overloaded("the daemon holds as many bytes of answers as it may; this one was thrown away")
                .into_response();
    }
    Ok(response.map(|body| Answered { body, seat }))
}

/// A problem as the last answer on a connection, in HTTP/1.1.
pub async fn farewell(problem: ApiError) -> Vec<u8> {
    let (parts, body) = problem.into_response().into_parts();
    // It is in memory.
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let mut answer = format!("HTTP/1.1 {}\r\n", parts.status);
    for (name, value) in &parts.headers {
        if name != header::CONTENT_LENGTH {
            answer += &format!("{name}: {}\r\n", value.to_str().unwrap_or_default());
        }
    }
    answer += &format!("content-length: {}\r\nconnection: close\r\n\r\n", body.len());
    [answer.as_bytes(), &body].concat()
}

/// Sends a problem as the last answer on a connection.
async fn say(stream: &UnixStream, problem: ApiError) -> io::Result<()> {
    let answer = farewell(problem).await;
    let mut rest = &*answer;
    while !rest.is_empty() {
        stream.writable().await?;
        match stream.try_write(rest) {
            Ok(written) => rest = &rest[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    rustix::net::shutdown(stream, rustix::net::Shutdown::Write)?;
    // A client that still writes sees the answer and not a broken pipe.
    let (mut piece, mut seen) = (vec![0; 16 * 1024], 0);
    while seen < FAREWELL_BYTES {
        stream.readable().await?;
        match stream.try_read(&mut piece) {
            Ok(0) => break,
            Ok(read) => seen += read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The origin of a request of this client, over a connection of its own.
#[cfg(test)]
pub fn origin_of(who: Who) -> Origin {
    let room = Arc::new(Room::new(crate::config::Connections::default().into()));
    Origin::new(room.enter(who), room)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_owner_and_root_may_connect() {
        assert!(may_connect(1000, 1000) && may_connect(0, 1000) && may_connect(0, 0));
        assert!(!may_connect(1001, 1000) && !may_connect(1000, 0) && !may_connect(65534, 1000));
    }
}
