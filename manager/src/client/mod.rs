//! A client of the daemon's HTTP API over its Unix socket: the command line's, and any other program's.

pub mod sse;

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Response, header};
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, utf8_percent_encode};
use protocol::api::Problem;
use rustix::fs::{FileType, Mode, OFlags};
use serde::Serialize;
use tokio::net::UnixStream;

use crate::address::{self, Found};
use crate::system::process;

/// The longest answer that is read: far above a list of as many sessions as a machine can hold.
const MAX_ANSWER: usize = 256 * 1024 * 1024;
/// The longest error that is read.
const MAX_PROBLEM: usize = 1024 * 1024;
/// The longest silence of a daemon that is asked something it can answer at once.
pub const SILENCE: Duration = Duration::from_secs(30);

/// Why there is no answer.
#[derive(Debug)]
pub enum ClientError {
    /// Nobody listens on the socket.
    Absent(io::Error),
    /// This user may not use the socket, or must not: it is a stranger's.
    Denied(String),
    /// The socket cannot be reached, for another reason.
    Connect(String),
    /// The connection ended before the whole answer had come. What was asked may or may not have been done.
    Lost(String),
    /// There is an answer, and it makes no sense.
    Garbage(String),
    /// No answer in time.
    Silent(Duration),
    /// The daemon refuses.
    Problem(Box<Problem>),
}

/// A request.
#[derive(Clone, Debug)]
pub struct Request {
    method: Method,
    path: String,
    key: Option<String>,
    client: Option<u64>,
    body: Option<Bytes>,
    /// Its connection is kept for the next look.
    keeps: bool,
    /// Asking twice does no more than asking once.
    pub repeatable: bool,
    /// How long an answer may take; none: as long as it takes.
    pub within: Option<Duration>,
    /// It waits for something to happen, and is no reason to start a daemon that was stopped meanwhile.
    pub passive: bool,
}

impl Request {
    fn new(method: Method, path: impl Into<String>, repeatable: bool) -> Self {
        let (key, client, body, within) = (None, None, None, None);
        let (keeps, passive) = (false, false);
        Self { method, path: path.into(), key, client, body, keeps, repeatable, within, passive }
    }

    /// A look at something that the manager knows without asking anybody.
    pub fn get(path: impl Into<String>) -> Self {
        Self { within: Some(SILENCE), ..Self::new(Method::GET, path, true) }
    }

    /// Something to be done. Not repeatable unless it is said.
    pub fn post(path: impl Into<String>) -> Self {
        Self::new(Method::POST, path, false)
    }

    /// A state to be brought about.
    pub fn put(path: impl Into<String>) -> Self {
        Self::new(Method::PUT, path, true)
    }

    /// A change.
    pub fn patch(path: impl Into<String>) -> Self {
        Self::new(Method::PATCH, path, true)
    }

    /// A removal.
    pub fn delete(path: impl Into<String>) -> Self {
        Self::new(Method::DELETE, path, false)
    }

    /// With this body.
    pub fn json(mut self, body: &impl Serialize) -> Self {
        // These are our own types, all of which can be written.
        self.body = Some(serde_json::to_vec(body).unwrap_or_default().into());
        self
    }

    /// Under this key it is done once, however often it is asked.
    pub fn key(mut self, key: &str) -> Self {
        self.key = Some(key.to_owned());
        self.repeatable = true;
        self
    }

    /// From this attached client: refused unless it drives.
    pub fn from_client(mut self, client: Option<u64>) -> Self {
        self.client = client;
        self
    }

    /// Asking twice does no more than asking once.
    pub fn repeatable(mut self) -> Self {
        self.repeatable = true;
        self
    }

    /// A look follows it: the client keeps the connection for that.
    pub fn keep(mut self) -> Self {
        self.keeps = true;
        self
    }

    /// It waits for something to happen.
    pub fn passive(mut self) -> Self {
        self.passive = true;
        self
    }

    /// The answer comes at once.
    pub fn prompt(mut self) -> Self {
        self.within = Some(SILENCE);
        self
    }

    /// Returns true if the request may change something.
    pub fn changes(&self) -> bool {
        self.method != Method::GET
    }

    /// The answer comes when it comes.
    pub fn patient(mut self) -> Self {
        self.within = None;
        self
    }
}

/// A daemon's socket.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
    /// The state directory. The address of its daemon comes before `socket`.
    state_dir: Option<PathBuf>,
    /// The same, opened.
    opened: Option<Arc<OwnedFd>>,
    token: Option<Token>,
    /// A connection whose request is answered, for the next look: the daemon knows already who asks there.
    kept: Arc<Mutex<Option<Connection>>>,
}

/// A secret that is sent with every request.
#[derive(Clone)]
struct Token(String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(..)")
    }
}

impl Client {
    /// Of the daemon that listens on this socket, if one does.
    pub fn new(socket: PathBuf) -> Self {
        Self { socket, state_dir: None, opened: None, token: None, kept: Arc::default() }
    }

    /// Of the daemon that serves this state directory, wherever the daemon listens; on `socket` where the state directory
    /// does not tell.
    pub fn of_state_dir(state_dir: PathBuf, socket: PathBuf) -> Self {
        Self { state_dir: Some(state_dir), ..Self::new(socket) }
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
        self.opened = opened.filter(is_socket).map(Arc::new);
        self
    }

    /// Asks as the session whose token this is, `TOKEN` or `ID:TOKEN`, and not as the owner.
    pub fn with_token(mut self, token: &str) -> Self {
        self.token = Some(Token(token.to_owned()));
        self
    }

    /// The socket, as it is now.
    ///
    /// # Errors
    /// [`ClientError::Absent`] if nobody serves the state directory.
    pub fn socket(&self) -> Result<PathBuf, ClientError> {
        match self.state_dir.as_deref().map(address::find) {
            Some(Found::Served { socket: Some(socket), .. }) => Ok(socket),
            Some(Found::Free) => Err(ClientError::Absent(io::ErrorKind::NotFound.into())),
            // Perhaps a daemon of another version, or one whose state directory is not visible from here.
            Some(Found::Served { socket: None, .. } | Found::Unknown) | None => Ok(self.socket.clone()),
        }
    }

    /// A connection to our own user's daemon. Root may look after anybody's; no daemon hears another user, so that to ask
    /// one of root's would be in vain.
    pub async fn connect(&self) -> Result<UnixStream, ClientError> {
        if let Some(opened) = &self.opened {
            let path = PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd()));
            // Of a daemon that is gone; the next has a socket of its own.
            if let Ok(stream) = Self::connect_to(&path).await {
                return Ok(stream);
            }
        }
        Self::connect_to(&self.socket()?).await
    }

    async fn connect_to(socket: &Path) -> Result<UnixStream, ClientError> {
        let stream = UnixStream::connect(socket).await.map_err(|error| match error.kind() {
            // Reset: it died with this connection still in its queue.
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => {
                ClientError::Absent(error)
            }
            io::ErrorKind::PermissionDenied => {
                ClientError::Denied(format!("cannot use {}: {error}", socket.display()))
            }
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

    /// Asks, and gives the whole body of the answer.
    pub async fn ask(&self, request: &Request) -> Result<Bytes, ClientError> {
        let asking = self.ask_now(request);
        match request.within {
            None => asking.await,
            Some(within) => {
                tokio::time::timeout(within, asking).await.unwrap_or(Err(ClientError::Silent(within)))
            }
        }
    }

    async fn ask_now(&self, request: &Request) -> Result<Bytes, ClientError> {
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
        let request = Request::get(path);
        let opening = tokio::time::timeout(SILENCE, self.send(&request));
        let response = opening.await.unwrap_or(Err(ClientError::Silent(SILENCE)))?;
        Ok(Events { body: response.into_body(), parser: sse::Parser::default() })
    }

    /// Opens a connection for several requests, one after the other.
    pub async fn open(&self) -> Result<Connection, ClientError> {
        let stream = self.connect().await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(lost)?;
        // Its errors are those of the request, which are seen there.
        tokio::spawn(connection);
        Ok(Connection { sender, token: self.token.clone() })
    }

    async fn send(&self, request: &Request) -> Result<Response<Incoming>, ClientError> {
        self.open().await?.send(request).await
    }
}

/// A connection that is kept. Ends when it is dropped.
#[derive(Debug)]
pub struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    token: Option<Token>,
}

impl Connection {
    /// Asks, and gives the whole body of the answer. Without a bound on the time.
    pub async fn ask(&mut self, request: &Request) -> Result<Bytes, ClientError> {
        let response = self.send(request).await?;
        read(response.into_body(), MAX_ANSWER).await
    }

    async fn send(&mut self, request: &Request) -> Result<Response<Incoming>, ClientError> {
        let mut builder = hyper::Request::builder()
            .method(request.method.clone())
            .uri(&request.path)
            .header(header::HOST, "kennel");
        if let Some(key) = &request.key {
            builder = builder.header("idempotency-key", key);
        }
        if let Some(client) = request.client {
            builder = builder.header("kennel-client", client);
        }
        if let Some(Token(token)) = &self.token {
            builder = builder.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if request.body.is_some() {
            builder = builder.header(header::CONTENT_TYPE, "application/json");
            // Programs of the session run with this umask.
            if let Some(mask) = process::umask() {
                builder = builder.header("kennel-umask", format!("{mask:04o}"));
            }
        }
        let message = builder
            .body(Full::new(request.body.clone().unwrap_or_default()))
            .map_err(|error| ClientError::Garbage(format!("this cannot be asked: {error}")))?;
        // The one before is read to its end, and the connection may still be putting itself in order.
        self.sender.ready().await.map_err(lost)?;
        let response = self.sender.send_request(message).await.map_err(lost)?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = read(response.into_body(), MAX_PROBLEM).await?;
        match serde_json::from_slice(&body) {
            Ok(problem) => Err(ClientError::Problem(Box::new(problem))),
            Err(_) => Err(ClientError::Garbage(format!("the answer is {status}, without a reason"))),
        }
    }
}

fn lost(error: hyper::Error) -> ClientError {
    ClientError::Lost(error.to_string())
}

async fn read(body: Incoming, limit: usize) -> Result<Bytes, ClientError> {
    match Limited::new(body, limit).collect().await {
        Ok(whole) => Ok(whole.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            Err(ClientError::Garbage(format!("the answer has more than {limit} bytes")))
        }
        Err(error) => Err(ClientError::Lost(error.to_string())),
    }
}

/// A stream of events.
pub struct Events {
    body: Incoming,
    parser: sse::Parser,
}

impl Events {
    /// The next event; none if the daemon has ended the stream. Safe to cancel.
    pub async fn next(&mut self) -> Result<Option<sse::Frame>, ClientError> {
        loop {
            if let Some(frame) = self.parser.take() {
                return Ok(Some(frame));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(ClientError::Lost(error.to_string())),
                Some(Ok(frame)) => {
                    if let Some(bytes) = frame.data_ref() {
                        self.parser
                            .feed(bytes)
                            .map_err(|_| ClientError::Garbage("an event has no end".into()))?;
                    }
                }
            }
        }
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
