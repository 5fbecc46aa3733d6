//! Ports: TLS for clients of other machines, and plain HTTP on loopback for browsers of this one ([`loopback`]). Each request is
//! passed to the API over an [`Inlet`]; files of the web page ([`page`]) are answered here.
//!
//! The order of checks: connections ([`door`]), TLS ([`certificate`]), wrong keys of the address ([`failures`]) unless the request shows a
//! good one, [`host`] and [`origin`]. The rest is the API's own, for a client that has no rights but by what it shows.

mod bound;
mod certificate;
mod door;
mod failures;
mod host;
mod loopback;
mod origin;
mod page;
mod talk;
mod validity;
mod wire;

use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use protocol::api::ListenInfo;
use protocol::event::{Refused, Timestamp};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;

use self::bound::{Bound, bind};
use self::certificate::Certificates;
use self::door::{Door, Limits, Place};
use self::failures::{Failures, Network};
pub use self::loopback::{Loopback, Unavailable};
use self::wire::{Line, Stream};
use super::connections::{FAREWELL, FAREWELL_BYTES, Inlet};
use super::cookie::Gate;
use super::stop::Stop;
use crate::config::Listen;
use crate::keys::Keys;
use crate::listening::{Listening, Reason};
use crate::refusals::Refusals;
use crate::session_manager::SessionManager;

/// Time for which the daemon before may keep the port.
const SUCCESSION: Duration = Duration::from_secs(10);
/// Time that the disk has to give the certificate: clients of the socket wait as long.
const PATIENCE: Duration = Duration::from_secs(3);
/// The first byte of TLS: a record of the handshake (RFC 8446, section 5.1).
const HANDSHAKE: u8 = 22;
/// The answer to HTTP without TLS.
const PLAIN: &str = "this port speaks TLS: use https:// or `kennel -H tls://HOST:PORT`; nothing was done\n";
/// The least time between two lines of the log about refusals for the same reason.
const QUIET: Duration = Duration::from_secs(10);

/// The way in which clients come.
enum Way {
    /// By TLS, under a name of the certificate or one of these.
    Tls { certificates: Arc<Certificates>, names: Vec<String> },
    /// By plain HTTP on this address of loopback.
    Loopback(SocketAddr),
}

/// A port.
struct Front {
    way: Way,
    door: Door,
    limits: Limits,
    failures: Failures,
    /// The port is closed while the daemon goes on.
    shut: Stop,
    keys: Keys,
    inlet: Inlet,
    listening: Arc<Listening>,
    refusals: Arc<Refusals>,
    logged: Mutex<[Option<(Instant, u64)>; Reason::ALL.len()]>,
    bound: Mutex<Bound>,
}

/// Opens the port that the configuration wants, until `leaving`; connections go on until `closed`. None without a port. What cannot be
/// opened is said in the log and by the manager, and keeps nobody from the socket.
pub async fn open(
    manager: &SessionManager,
    keys: Keys,
    inlet: Inlet,
    leaving: Stop,
    closed: Stop,
) -> Option<JoinHandle<()>> {
    let listen = match manager.listen() {
        Ok(listen) => listen,
        Err(error) => {
            // Whether it wants a port is not known. A person who wants one is not to look for it in vain.
            let problem = format!(
                "a wrong configuration opens no port ({error}); `kennel daemon restart` reads it again"
            );
            let info = ListenInfo { problem: Some(problem), ..ListenInfo::default() };
            manager.port().tells(Box::new(move || Box::pin(std::future::ready(info.clone()))));
            return None;
        }
    };
    if listen.tcp.is_empty() {
        return None;
    }
    let limits = Limits::new(listen.most, manager.connections());
    let certificates = Arc::new(Certificates::new(&listen, manager.state_dir()));
    // Without one the port takes nobody, and each client that comes has the files looked at again.
    let _ = timeout(PATIENCE, certificates.current()).await;
    let way = Way::Tls { certificates: certificates.clone(), names: listen.names.clone() };
    let front = Arc::new(Front::new(way, limits, manager, keys, inlet));
    let (told, names) = (front.clone(), listen.names.clone());
    manager.port().tells(Box::new(move || {
        let (front, certificates, names) = (told.clone(), certificates.clone(), names.clone());
        Box::pin(async move { front.info(&certificates, names).await })
    }));
    Some(front.listen(&listen, leaving, closed).await)
}

impl Front {
    fn new(way: Way, limits: Limits, manager: &SessionManager, keys: Keys, inlet: Inlet) -> Self {
        Self {
            way,
            door: Door::new(limits),
            limits,
            failures: Failures::default(),
            shut: Stop::default(),
            keys,
            inlet,
            listening: manager.port().clone(),
            refusals: manager.refusals().clone(),
            logged: Mutex::default(),
            bound: Mutex::default(),
        }
    }

    fn bound(&self) -> MutexGuard<'_, Bound> {
        self.bound.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The TLS port's description of itself.
    async fn info(&self, certificates: &Arc<Certificates>, names: Vec<String>) -> ListenInfo {
        let loaded = certificates.current().await;
        let (addresses, failed) = self.bound().now();
        let expiry = loaded.as_ref().and_then(|loaded| loaded.expiry());
        let (expired, warning) =
            match expiry.map(|(is_over, words)| (is_over, format!("the certificate {words}"))) {
                Some((true, words)) => (Some(words), None),
                Some((false, words)) => (None, Some(words)),
                None => (None, None),
            };
        let problems: Vec<String> = failed.into_iter().chain(certificates.problem()).chain(expired).collect();
        let until = loaded.as_ref().and_then(|loaded| u64::try_from(loaded.until?).ok());
        ListenInfo {
            addresses,
            names,
            fingerprint: loaded.map(|loaded| loaded.fingerprint.clone()),
            expires_at: until.map(|until| Timestamp(until * 1000)),
            problem: (!problems.is_empty()).then(|| problems.join("; ")),
            warning,
        }
    }

    /// Listens on all addresses. The task ends when the last connection has ended.
    async fn listen(self: Arc<Self>, listen: &Listen, leaving: Stop, closed: Stop) -> JoinHandle<()> {
        let ending = watch::Sender::new(false);
        // Each connection has one sender; the receiver ends when the last is gone.
        let (alive, mut all_gone) = mpsc::channel::<()>(1);
        for address in &listen.tcp {
            // Now: whoever asks the daemon that has just started hears where it listens, and where it does not.
            let first = bind(*address);
            match &first {
                Ok(listener) => {
                    let address = self.listens(listener, *address);
                    tracing::info!("TLS on {address}{}", self.certified().await);
                }
                Err(error) => self.bound().failed(*address, error, is_tried_again(error)),
            }
            let (front, leaving) = (self.clone(), leaving.clone());
            let (address, ending, alive) = (*address, ending.subscribe(), alive.clone());
            tokio::spawn(async move {
                tokio::select! {
                    _ = leaving.requested() => {}
                    () = front.serve(address, first, &ending, &alive) => {}
                }
            });
        }
        drop(alive);
        tokio::spawn(async move {
            closed.requested().await;
            ending.send_replace(true);
            all_gone.recv().await;
        })
    }

    /// The fingerprint of the certificate, in the words of the log.
    async fn certified(&self) -> String {
        let Way::Tls { certificates, .. } = &self.way else { return String::new() };
        let loaded = certificates.current().await;
        let fingerprint = loaded.map_or_else(|| "not there".to_owned(), |loaded| loaded.fingerprint.clone());
        format!(", certificate {fingerprint}")
    }

    /// Notes where a listener listens.
    fn listens(&self, listener: &TcpListener, wanted: SocketAddr) -> SocketAddr {
        let address = listener.local_addr().unwrap_or(wanted);
        self.bound().succeeded(wanted, address);
        address
    }

    /// Listens on one address. The daemon before, which ends, may still have it.
    async fn serve(
        self: &Arc<Self>,
        address: SocketAddr,
        mut tried: io::Result<TcpListener>,
        ending: &watch::Receiver<bool>,
        alive: &mpsc::Sender<()>,
    ) {
        let until = Instant::now() + SUCCESSION;
        let listener = loop {
            match tried {
                Ok(listener) => break listener,
                Err(error) if is_tried_again(&error) && Instant::now() < until => {
                    sleep(Duration::from_millis(50)).await;
                }
                Err(error) => {
                    tracing::error!("cannot listen on {address}: {error}; the socket is served all the same");
                    self.bound().failed(address, &error, false);
                    return;
                }
            }
            tried = bind(address);
            if let Ok(listener) = &tried {
                tracing::info!("TLS on {}", self.listens(listener, address));
            }
        };
        self.accept(&listener, ending, alive).await;
    }

    /// Takes connections, for ever.
    async fn accept(
        self: &Arc<Self>,
        listener: &TcpListener,
        ending: &watch::Receiver<bool>,
        alive: &mpsc::Sender<()>,
    ) {
        loop {
            match listener.accept().await {
                Ok((stream, from)) => self.receive(stream, from, ending.clone(), alive.clone()),
                Err(error) => {
                    tracing::warn!("a connection cannot be accepted: {error}");
                    self.door.close_one();
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// Begins to serve a connection.
    fn receive(
        self: &Arc<Self>,
        stream: TcpStream,
        from: SocketAddr,
        ending: watch::Receiver<bool>,
        alive: mpsc::Sender<()>,
    ) {
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        let place = self.door.enter(Network::of(from.ip()));
        let front = self.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = front.converse(stream, from, &place, ending) => {}
                () = place.cut.notified() => if !front.shut.is_requested() {
                    front.refuse(Reason::Connections, from.ip());
                }
            }
            front.door.leave(&place);
            drop(alive);
        });
    }

    /// Serves a connection, from its first byte to its last.
    async fn converse(
        self: &Arc<Self>,
        stream: TcpStream,
        from: SocketAddr,
        place: &Arc<Place>,
        ending: watch::Receiver<bool>,
    ) {
        if let Err(error) = tune(&stream, self.limits.stall) {
            tracing::debug!("a connection has the kernel's own settings: {error}");
        }
        let gate = Gate {
            tls: matches!(self.way, Way::Tls { .. }),
            port: stream.local_addr().map_or(0, |address| address.port()),
        };
        let stream = match timeout(self.limits.head, self.shake(stream, from.ip())).await {
            Ok(Some(stream)) => stream,
            Ok(None) => return,
            Err(_) => return self.refuse(Reason::Handshake, from.ip()),
        };
        place.shaken();
        talk::talk(self, stream, (from, gate), place, ending).await;
    }

    /// The handshake. None if there is no more to do.
    async fn shake(&self, mut stream: TcpStream, from: IpAddr) -> Option<Stream> {
        let mut first = [0];
        let is_tls = match stream.peek(&mut first).await {
            // Who looks whether the port is open is no client.
            Ok(0) | Err(_) => return None,
            Ok(_) => first[0] == HANDSHAKE,
        };
        let certificates = match &self.way {
            Way::Loopback(_) if is_tls => {
                self.refuse(Reason::Handshake, from);
                return None;
            }
            Way::Loopback(_) => return Some(Stream::Plain(Line::new(stream, self.limits.stall))),
            Way::Tls { certificates, .. } if is_tls => certificates,
            Way::Tls { .. } => {
                self.refuse(Reason::PlainHttp, from);
                if first[0].is_ascii_alphabetic() {
                    // A client that has gone does not receive it.
                    let _ = timeout(FAREWELL, last_words(&mut stream, plain_answer().as_bytes())).await;
                }
                return None;
            }
        };
        let Some(loaded) = certificates.current().await else {
            self.refuse(Reason::Handshake, from);
            return None;
        };
        let config = loaded.config.clone();
        match TlsAcceptor::from(config).accept(Line::new(stream, self.limits.stall)).await {
            Ok(stream) => Some(Stream::Tls(Box::new(stream))),
            Err(error) => {
                tracing::debug!(%from, "no handshake: {error}");
                self.refuse(Reason::Handshake, from);
                None
            }
        }
    }

    /// Counts a refusal, notes it for the journal, and says it in the log: not each of many.
    fn refuse(&self, reason: Reason, from: IpAddr) {
        let count = self.listening.refuse(reason);
        if let Some(reason) = reason.recorded() {
            let address = Some(from.to_string());
            let (key, session, operation) = (None, None, None);
            self.refusals.note(Refused { reason, address, key, session, operation, count: 1 });
        }
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        let last = &mut logged[reason as usize];
        if last.is_none_or(|(at, _)| at.elapsed() >= QUIET) {
            let before = last.map_or(0, |(_, before)| before);
            *last = Some((Instant::now(), count));
            let port = match self.way {
                Way::Tls { .. } => "TLS port",
                Way::Loopback(_) => "page's port",
            };
            let mut line = format!("{port}: refused {from} ({})", reason.name());
            if count - before > 1 {
                // Writing into a string cannot fail.
                let _ = write!(line, ", and {} others before it", count - before - 1);
            }
            tracing::warn!("{line}");
        }
    }
}

/// The daemon before, which ends, may have the address for a moment.
fn is_tried_again(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrInUse
}

/// Small pieces are sent at once, and the kernel notices clients that are gone without a word (tcp(7)).
fn tune(stream: &TcpStream, stall: Duration) -> io::Result<()> {
    use rustix::net::sockopt;
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, Duration::from_secs(30))?;
    sockopt::set_tcp_keepintvl(stream, Duration::from_secs(10))?;
    sockopt::set_tcp_user_timeout(stream, u32::try_from(stall.as_millis()).unwrap_or(u32::MAX))?;
    Ok(())
}

fn plain_answer() -> String {
    let length = PLAIN.len();
    format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {length}\r\n\
         connection: close\r\n\r\n{PLAIN}"
    )
}

/// Sends the last bytes on a connection. A client that still writes receives them, and no reset.
async fn last_words(
    stream: &mut (impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin),
    bytes: &[u8],
) -> io::Result<()> {
    stream.write_all(bytes).await?;
    stream.shutdown().await?;
    let (mut piece, mut seen) = (vec![0; 16 * 1024], 0);
    while seen < FAREWELL_BYTES {
        match stream.read(&mut piece).await? {
            0 => break,
            read => seen += read,
        }
    }
    Ok(())
}
