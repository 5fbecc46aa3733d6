//! A client of the daemon's HTTP API: over its Unix socket, or to another machine by `ssh` or TLS. The command line's, and any other
//! program's.

pub mod far;
pub mod host;
mod inside;
mod reasons;
pub mod relay;
mod request;
pub mod sse;
mod token;

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Response, header};
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, utf8_percent_encode};
use protocol::api::Problem;
use rustix::fs::{FileType, Mode, OFlags};
use tokio::net::UnixStream;

use self::far::{Far, Lane};
pub use self::inside::Opener;
use self::reasons::{retry_after, why_lost, with_retry};
pub use self::request::Request;
pub use self::sse::Events;
use self::token::Token;
use crate::address::{self, Found};
use crate::pass::AUTHORITY;
use crate::system::process;

/// The longest answer that is read: far above a list of as many sessions as a machine can hold.
const MAX_ANSWER: usize = 256 * 1024 * 1024;
/// The longest answer of another machine that is read.
const MAX_FAR_ANSWER: usize = 32 * 1024 * 1024;
/// The longest error that is read.
const MAX_PROBLEM: usize = 1024 * 1024;
/// The longest silence of a daemon that is asked something it can answer at once.
pub const SILENCE: Duration = Duration::from_secs(30);

/// The same, of a daemon on another machine. See [`patience`].
const FAR: Duration = Duration::from_secs(60);
/// The longest wait for the daemon to hear that a client leaves.
const FAREWELL: Duration = Duration::from_secs(2);

/// Why there is no answer.
#[derive(Debug)]
pub enum ClientError {
    /// Nobody listens on the socket.
    Absent(io::Error),
    /// This user may not use the socket, or must not: it is a stranger's.
    Denied(String),
    /// The socket cannot be reached, for another reason.
    Connect(String),
    /// The host cannot be reached, or has no kennel that answers.
    Host {
        /// The reason; by `ssh` with the last words of that and of the host.
        what: String,
        /// Advice on the next step.
        hint: Option<String>,
    },
    /// The connection ended before the whole answer had come. What was asked may or may not have been done.
    Lost(String),
    /// There is an answer, and it makes no sense.
    Garbage(String),
    /// No answer in time.
    Silent(Duration),
    /// The daemon refuses.
    Problem(Box<Problem>),
}

/// A daemon, on this machine or on another.
#[derive(Clone, Debug)]
pub struct Client {
    way: Way,
    token: Option<Token>,
    /// A connection whose request is answered, for the next look: the daemon knows already who asks there.
    kept: Arc<Mutex<Option<Connection>>>,
}

/// How a daemon is reached.
#[derive(Clone, Debug)]
enum Way {
    Socket(Socket),
    Far(Arc<Far>),
    Inside(Opener),
}

/// A daemon's socket.
#[derive(Clone, Debug)]
struct Socket {
    path: PathBuf,
    /// The state directory. The address of its daemon comes before `path`.
    state_dir: Option<PathBuf>,
    /// The same, opened.
    opened: Option<Arc<OwnedFd>>,
}

impl Client {
    /// Of the daemon that listens on this socket, if one does.
    pub fn new(socket: PathBuf) -> Self {
        Self::by(Way::Socket(Socket { path: socket, state_dir: None, opened: None }))
    }

    /// Of the daemon that serves this state directory, wherever the daemon listens; on `socket` where the state directory
    /// does not tell.
    pub fn of_state_dir(state_dir: PathBuf, socket: PathBuf) -> Self {
        Self::by(Way::Socket(Socket { path: socket, state_dir: Some(state_dir), opened: None }))
    }

    /// Of a daemon on another machine.
    pub fn over(far: Arc<Far>) -> Self {
        Self::by(Way::Far(far))
    }

    /// Of the daemon that this process is.
    pub fn inside(opener: Opener) -> Self {
        Self::by(Way::Inside(opener))
    }

    fn by(way: Way) -> Self {
        Self { way, token: None, kept: Arc::default() }
    }

    /// By a descriptor of the socket, opened with `O_PATH`, that was inherited under this number; by the path where that is
    /// no socket on which somebody listens. Needs `/proc`.
    pub fn by_descriptor(mut self, number: u32) -> Self {
        let path = format!("/proc/self/fd/{number}");
        // Opened anew: that descriptor may be anybody's, and be closed by them.
        let opened = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok();
        let is_socket = |fd: &OwnedFd| {
            rustix::fs::fstat(fd)
                .is_ok_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::Socket)
        };
        if let Way::Socket(socket) = &mut self.way {
            socket.opened = opened.filter(is_socket).map(Arc::new);
        }
        self
    }

    /// Asks as the session whose token this is, `TOKEN` or `ID:TOKEN`, and not as the owner.
    pub fn with_token(mut self, token: &str) -> Self {
        self.token = Some(Token::new(token));
        self
    }

    /// The connection to the other machine; none on this one.
    pub fn far(&self) -> Option<&Arc<Far>> {
        match &self.way {
            Way::Far(far) => Some(far),
            Way::Socket(_) | Way::Inside(_) => None,
        }
    }

    /// The socket, as it is now.
    ///
    /// # Errors
    /// [`ClientError::Absent`] if nobody serves the state directory; [`ClientError::Connect`] on another machine.
    pub fn socket(&self) -> Result<PathBuf, ClientError> {
        match &self.way {
            Way::Socket(socket) => socket.path(),
            Way::Far(far) => Err(elsewhere(far)),
            Way::Inside(_) => Err(ClientError::Connect("it is this process".to_owned())),
        }
    }

    /// Asks, and gives the whole body of the answer.
    pub async fn ask(&self, request: &Request) -> Result<Bytes, ClientError> {
        match &self.way {
            Way::Socket(_) | Way::Inside(_) => within(request.within, self.ask_here(request)).await,
            Way::Far(far) => {
                // To reach another machine takes what it takes, and may wait for a person.
                let lane = far.lane().await?;
                let mut reached = Connection {
                    sender: Sender::Shared(lane.clone()),
                    token: self.token.clone(),
                    inside: false,
                };
                let asking = async move {
                    // Over a slow line a large answer takes long; that it has begun is what the daemon is asked for.
                    let response = within(patience(request.within), reached.send(request)).await?;
                    read(response.into_body(), MAX_FAR_ANSWER).await
                };
                let answer = lane.watched(Box::pin(asking)).await;
                if matches!(answer, Ok(_) | Err(ClientError::Problem(_))) {
                    lane.heard();
                }
                answer
            }
        }
    }

    /// Tells a daemon that answers something before its client ends. Does not wait for one that is away.
    pub async fn tell(&self, request: &Request) {
        // Who tells it can do nothing about a failure.
        let _ = tokio::time::timeout(FAREWELL, self.ask(request)).await;
    }

    /// Asks on the connection that is kept, or on one of its own.
    async fn ask_here(&self, request: &Request) -> Result<Bytes, ClientError> {
        let kept = if request.changes() { None } else { self.kept().take() };
        if let Some(mut kept) = kept {
            match kept.ask(request).await {
                // The daemon has closed it meanwhile.
                Err(ClientError::Lost(_)) => {}
                answer => return answer,
            }
        }
        let mut connection = self.open().await?;
        let answer = connection.ask(request).await?;
        if request.keeps {
            *self.kept() = Some(connection);
        }
        Ok(answer)
    }

    fn kept(&self) -> MutexGuard<'_, Option<Connection>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a stream of events.
    pub async fn events(&self, path: &str) -> Result<Events, ClientError> {
        self.stream(&Request::get(path)).await
    }

    /// The same, by a request.
    pub async fn stream(&self, request: &Request) -> Result<Events, ClientError> {
        match &self.way {
            Way::Socket(_) | Way::Inside(_) => {
                // The end of a local connection is seen without signs of life.
                let request = &Request { declines: true, ..request.clone() };
                let opening = async { self.open().await?.send(request).await };
                Ok(Events::new(within(request.within, opening).await?.into_body(), None))
            }
            Way::Far(far) => {
                far.before_stream().await;
                let lane = far.lane().await?;
                let mut reached = Connection {
                    sender: Sender::Shared(lane.clone()),
                    token: self.token.clone(),
                    inside: false,
                };
                let opening = async { within(patience(request.within), reached.send(request)).await };
                let opened = lane.watched(Box::pin(opening)).await;
                if matches!(opened, Err(ClientError::Problem(_))) {
                    lane.heard();
                }
                Ok(Events::new(opened?.into_body(), Some(lane)))
            }
        }
    }

    /// Opens a connection for several requests, one after the other.
    pub async fn open(&self) -> Result<Connection, ClientError> {
        let sender = match &self.way {
            // A large future, which is in the way of nobody who does not need it.
            Way::Far(far) => Sender::Shared(Box::pin(far.lane()).await?),
            Way::Socket(_) | Way::Inside(_) => {
                let stream = self.connect().await?;
                let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(lost)?;
                // Its errors are those of the request, which are seen there.
                tokio::spawn(connection);
                Sender::Own(sender)
            }
        };
        Ok(Connection { sender, token: self.token.clone(), inside: matches!(self.way, Way::Inside(_)) })
    }

    /// A connection to our own user's daemon on this machine.
    pub async fn connect(&self) -> Result<UnixStream, ClientError> {
        match &self.way {
            Way::Socket(socket) => socket.connect().await,
            Way::Far(far) => Err(elsewhere(far)),
            Way::Inside(opener) => opener.open().await.map_err(|error| ClientError::Lost(error.to_string())),
        }
    }

    /// Makes sure that somebody answers.
    ///
    /// # Errors
    /// [`ClientError::Absent`] if there is no daemon.
    pub async fn reach(&self) -> Result<(), ClientError> {
        match &self.way {
            Way::Socket(socket) => socket.connect().await.map(drop),
            Way::Far(_) | Way::Inside(_) => self.ask(&Request::get("/healthz")).await.map(drop),
        }
    }
}

impl Socket {
    /// The socket, as it is now.
    fn path(&self) -> Result<PathBuf, ClientError> {
        match self.state_dir.as_deref().map(address::find) {
            Some(Found::Served { socket: Some(socket), .. }) => Ok(socket),
            Some(Found::Free) => Err(ClientError::Absent(io::ErrorKind::NotFound.into())),
            // Perhaps a daemon of another version, or one whose state directory is not visible from here.
            Some(Found::Served { socket: None, .. } | Found::Unknown) | None => Ok(self.path.clone()),
        }
    }

    /// A connection to our own user's daemon. Root may look after anybody's; no daemon hears another user, so that to ask
    /// one of root's would be in vain.
    async fn connect(&self) -> Result<UnixStream, ClientError> {
        if let Some(opened) = &self.opened {
            let path = PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd()));
            // Of a daemon that is gone; the next has a socket of its own.
            if let Ok(stream) = Self::connect_to(&path).await {
                return Ok(stream);
            }
        }
        Self::connect_to(&self.path()?).await
    }

    async fn connect_to(socket: &Path) -> Result<UnixStream, ClientError> {
        use io::ErrorKind::{ConnectionRefused, ConnectionReset, NotADirectory, NotFound, PermissionDenied};
        let stream = UnixStream::connect(socket).await.map_err(|error| match error.kind() {
            // Reset: it died with this connection still in its queue. No directory: a file stands there now.
            NotFound | NotADirectory | ConnectionRefused | ConnectionReset => ClientError::Absent(error),
            PermissionDenied => ClientError::Denied(format!("cannot use {}: {error}", socket.display())),
            _ => ClientError::Connect(format!("{}: {error}", socket.display())),
        })?;
        let own = rustix::process::geteuid().as_raw();
        match stream.peer_cred().map(|peer| peer.uid()) {
            Ok(uid) if uid == own || own == 0 => Ok(stream),
            Ok(uid) => Err(ClientError::Denied(format!(
                "{} is served by another user (uid {uid})",
                socket.display()
            ))),
            Err(error) => Err(ClientError::Connect(format!("{}: {error}", socket.display()))),
        }
    }
}

/// A connection that is kept. Ends when it is dropped.
#[derive(Debug)]
pub struct Connection {
    sender: Sender,
    token: Option<Token>,
    /// To this very process, whose umask is nobody's wish.
    inside: bool,
}

#[derive(Debug)]
enum Sender {
    /// A connection of its own.
    Own(http1::SendRequest<Full<Bytes>>),
    /// One that many share.
    Shared(Lane),
}

impl Sender {
    /// The key that belongs to the connection.
    fn bearer(&self) -> Option<&Token> {
        match self {
            Self::Own(_) => None,
            Self::Shared(lane) => lane.terms.bearer.as_ref(),
        }
    }

    async fn send(&mut self, message: hyper::Request<Full<Bytes>>) -> hyper::Result<Response<Incoming>> {
        match self {
            Self::Own(sender) => {
                // The one before is read to its end, and the connection may still be putting itself in order.
                sender.ready().await?;
                sender.send_request(message).await
            }
            Self::Shared(lane) => {
                lane.sender.ready().await?;
                lane.sender.send_request(message).await
            }
        }
    }
}

impl Connection {
    /// Asks, and gives the whole body of the answer. Without a bound on the time.
    pub async fn ask(&mut self, request: &Request) -> Result<Bytes, ClientError> {
        let response = self.send(request).await?;
        read(response.into_body(), MAX_ANSWER).await
    }

    async fn send(&mut self, request: &Request) -> Result<Response<Incoming>, ClientError> {
        let mut builder = hyper::Request::builder().method(request.method.clone()).uri(match &self.sender {
            Sender::Own(_) => request.path.clone(),
            Sender::Shared(lane) => lane.terms.uri(&request.path),
        });
        if matches!(self.sender, Sender::Own(_)) {
            builder = builder.header(header::HOST, AUTHORITY);
        }
        if let Some(key) = &request.key {
            builder = builder.header("idempotency-key", key);
        }
        if let Some(client) = request.client {
            builder = builder.header("kennel-client", client);
        }
        if let Some(seat) = &request.seat {
            builder = builder.header("kennel-seat", seat);
        }
        if request.declines {
            builder = builder.header("kennel-comments", "no");
        }
        if let Some(token) = self.token.as_ref().or(self.sender.bearer()) {
            builder = builder.header(header::AUTHORIZATION, token.bearer());
        }
        if request.body.is_some() {
            builder = builder.header(header::CONTENT_TYPE, "application/json");
            // Programs of the session run with this umask; on another machine with that of the login there.
            if let Some(mask) =
                process::umask().filter(|_| matches!(self.sender, Sender::Own(_)) && !self.inside)
            {
                builder = builder.header("kennel-umask", format!("{mask:04o}"));
            }
        }
        let message = builder
            .body(Full::new(request.body.clone().unwrap_or_default()))
            .map_err(|error| ClientError::Garbage(format!("this cannot be asked: {error}")))?;
        let response = self.sender.send(message).await.map_err(lost)?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let after = retry_after(response.headers());
        let body = read(response.into_body(), MAX_PROBLEM).await?;
        match serde_json::from_slice(&body).map(|problem| with_retry(problem, after)) {
            Ok(problem) => Err(match &self.sender {
                Sender::Shared(lane) => relayed(problem, lane.terms.relayed),
                Sender::Own(_) => ClientError::Problem(Box::new(problem)),
            }),
            Err(_) => Err(ClientError::Garbage(format!("the answer is {status}, without a reason"))),
        }
    }
}

/// The time for an answer of another machine: a connection that carries nothing is given up before.
fn patience(within: Option<Duration>) -> Option<Duration> {
    within.map(|within| within.max(FAR))
}

/// Does it within a time, if there is one.
async fn within<T>(
    within: Option<Duration>,
    work: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, ClientError> {
    match within {
        None => work.await,
        Some(within) => tokio::time::timeout(within, work).await.unwrap_or(Err(ClientError::Silent(within))),
    }
}

fn elsewhere(far: &Far) -> ClientError {
    ClientError::Connect(format!("{} is another machine", far.name()))
}

/// The error that a problem of what passes requests on stands for: a `relay` beside the daemon, or a part of the daemon's own.
fn relayed(problem: Problem, relay: bool) -> ClientError {
    match problem.code.as_str() {
        relay::ABSENT if relay => {
            ClientError::Absent(io::Error::new(io::ErrorKind::NotFound, problem.detail))
        }
        relay::LOST => ClientError::Lost(problem.detail),
        relay::UNREACHABLE if relay => ClientError::Connect(problem.detail),
        _ => ClientError::Problem(Box::new(problem)),
    }
}

fn lost(error: hyper::Error) -> ClientError {
    ClientError::Lost(why_lost(&error))
}

async fn read(body: Incoming, limit: usize) -> Result<Bytes, ClientError> {
    match Limited::new(body, limit).collect().await {
        Ok(whole) => Ok(whole.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            Err(ClientError::Garbage(format!("the answer has more than {limit} bytes")))
        }
        Err(error) => Err(ClientError::Lost(why_lost(&*error))),
    }
}

/// Every byte but the unreserved characters of RFC 3986.
pub const RESERVED: &AsciiSet =
    &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Percent-encodes a text for one segment or one query value of a URL.
pub fn encoded(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

#[cfg(test)]
mod tests;
