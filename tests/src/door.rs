//! A way in by TLS, in front of a real daemon: a small server of the tests' own.
//!
//! It stands where a daemon's own port does: it ends TLS and HTTP/2, knows keys, takes pairings, and passes everything else on to the
//! daemon's socket. Its connections can be cut, frozen and refused.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard};

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::daemon::{CommandOutput, Daemon, finish};

/// The secret of every pairing.
pub const SECRET: &str = "maple-river-42";

type Body = BoxBody<Bytes, hyper::Error>;

/// The door's treatment of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// Serve them.
    Open,
    /// Close them at once.
    Closed,
    /// Accept them, and say nothing; those that are open go silent.
    Silent,
}

/// How a pairing is answered in place of what would be right.
#[derive(Clone, Debug)]
pub enum Odd {
    /// This status, head and body.
    Answer(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// An answer that never ends.
    Endless,
    /// The key is taken, and the connection ends before the answer, so many times.
    Lost(u32),
}

/// The server's knowledge.
#[derive(Default)]
struct Known {
    /// Ids of keys.
    keys: HashMap<String, String>,
    odd: Option<Odd>,
    pairs: u32,
    /// Streams end after one event at most.
    stingy: bool,
    streams: u64,
    last_body: String,
}

/// The server, and the daemon behind it.
pub struct Door {
    /// The daemon, as one who works there sees it.
    pub daemon: Daemon,
    address: SocketAddr,
    /// Its certificate, in PEM.
    pub certificate: String,
    pin: watch::Sender<String>,
    known: Arc<Mutex<Known>>,
    mood: watch::Sender<Mood>,
    config: watch::Sender<Arc<ServerConfig>>,
    /// Each change ends all connections.
    cuts: watch::Sender<u64>,
    /// Connections so far.
    count: watch::Receiver<u64>,
    _runtime: Runtime,
}

/// A self-signed certificate for this machine, with its PEM and its fingerprint.
fn certificate() -> (Arc<ServerConfig>, String, String) {
    let pair = KeyPair::generate().unwrap();
    let made = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let made = made.self_signed(&pair).unwrap();
    let pin = manager::client::far::tls::Fingerprint::of(made.der()).to_string();
    let key = PrivateKeyDer::try_from(pair.serialize_der()).unwrap();
    (config(vec![made.der().clone()], key), made.pem(), pin)
}

fn config(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider);
    let config = config.with_protocol_versions(&[&rustls::version::TLS13]).unwrap();
    let mut config = config.with_no_client_auth().with_single_cert(chain, key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

impl Door {
    /// A server that is open, in front of a daemon that runs.
    pub fn new() -> Self {
        Self::before(Daemon::new())
    }

    /// The same, in front of this daemon.
    pub fn before(mut daemon: Daemon) -> Self {
        let home = daemon.dir.path().join("home");
        std::fs::create_dir_all(&home).unwrap();
        daemon.set("HOME", home.to_str().unwrap());
        daemon.ok(&["ls"]);
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (config, certificate, pin) = certificate();
        let known = Arc::new(Mutex::new(Known::default()));
        let (mood, config, cuts) =
            (watch::Sender::new(Mood::Open), watch::Sender::new(config), watch::Sender::new(0));
        let (counter, count) = watch::channel(0);
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server {
            socket: daemon.socket(),
            known: known.clone(),
            mood: mood.subscribe(),
            config: config.subscribe(),
            cuts: cuts.subscribe(),
        };
        runtime.spawn(server.serve(listener, counter));
        let pin = watch::Sender::new(pin);
        Self { daemon, address, certificate, pin, known, mood, config, cuts, count, _runtime: runtime }
    }

    /// A server that this machine is paired with, under the name `box`.
    pub fn paired() -> Self {
        let door = Self::new();
        door.pair();
        door
    }

    /// Pairs this machine with it, under the name `box`.
    pub fn pair(&self) {
        let output = self.typed(&["host", "pair", "box"], &self.ticket());
        assert_eq!(output.code, Some(0), "{output:#?}");
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap()
    }

    /// Its address.
    pub fn address(&self) -> String {
        format!("tls://{}", self.address)
    }

    /// The fingerprint of its certificate.
    pub fn pin(&self) -> String {
        self.pin.borrow().clone()
    }

    /// The line that pairs.
    pub fn ticket(&self) -> String {
        format!("{} {} {SECRET}", self.address(), self.pin())
    }

    /// The home of the daemon's user.
    pub fn home(&self) -> PathBuf {
        self.daemon.dir.path().join("home")
    }

    /// Where this machine keeps names and keys.
    pub fn config_dir(&self) -> PathBuf {
        self.daemon.dir.path().join("here/config/kennel")
    }

    /// A command on this machine.
    pub fn bare(&self, args: &[&str]) -> Command {
        let mut command = self.daemon.command(args);
        let here = self.daemon.dir.path().join("here");
        command.env("KENNEL_STATE_DIR", here.join("state")).env("XDG_CONFIG_HOME", here.join("config"));
        command
    }

    /// A command on this machine that means the daemon there, by its name.
    pub fn command(&self, args: &[&str]) -> Command {
        self.bare(&[&["-H", "box"], args].concat())
    }

    /// Runs it.
    pub fn run(&self, args: &[&str]) -> CommandOutput {
        finish(self.command(args).spawn().unwrap())
    }

    /// The same; it must succeed.
    pub fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!(output.code, Some(0), "kennel -H box {args:?}: {output:#?}");
        output.stdout
    }

    /// Runs a command on this machine with a line on its standard input.
    pub fn typed(&self, args: &[&str], line: &str) -> CommandOutput {
        use std::io::Write;
        let mut child = self.bare(args).stdin(std::process::Stdio::piped()).spawn().unwrap();
        // It may refuse before it reads.
        let _ = writeln!(child.stdin.take().unwrap(), "{line}");
        finish(child)
    }

    /// Ends the connections that there are, in the middle of whatever they carry.
    pub fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// From here on connections are dealt with like this.
    pub fn be(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }

    /// The connections that were accepted so far.
    pub fn count(&self) -> u64 {
        *self.count.borrow()
    }

    /// Another certificate, as of an impostor.
    pub fn change_certificate(&self) {
        let (config, _, pin) = certificate();
        self.config.send_replace(config);
        self.pin.send_replace(pin);
    }

    /// The next pairings are answered like this.
    pub fn answer_pairings(&self, odd: Option<Odd>) {
        self.known().odd = odd;
    }

    /// Streams of events are broken off after one event at most from here on, or no longer.
    pub fn be_stingy(&self, stingy: bool) {
        self.known().stingy = stingy;
    }

    /// The streams that were broken off.
    pub fn streams(&self) -> u64 {
        self.known().streams
    }

    /// No key is taken any more.
    pub fn revoke(&self) {
        self.known().keys.clear();
    }

    /// The keys that it takes.
    pub fn keys(&self) -> Vec<String> {
        self.known().keys.keys().cloned().collect()
    }

    /// The pairings that were asked for, and the last one's body.
    pub fn pairs(&self) -> (u32, String) {
        let known = self.known();
        (known.pairs, known.last_body.clone())
    }
}

impl Default for Door {
    fn default() -> Self {
        Self::new()
    }
}

#[derive(Clone)]
struct Server {
    socket: PathBuf,
    known: Arc<Mutex<Known>>,
    mood: watch::Receiver<Mood>,
    config: watch::Receiver<Arc<ServerConfig>>,
    cuts: watch::Receiver<u64>,
}

impl Server {
    async fn serve(self, listener: TcpListener, counter: watch::Sender<u64>) {
        let mut connections = JoinSet::new();
        loop {
            let Ok((stream, _)) = listener.accept().await else { return };
            counter.send_modify(|count| *count += 1);
            let mut server = self.clone();
            server.cuts.mark_unchanged();
            connections.spawn(async move {
                let mut cuts = server.cuts.clone();
                tokio::select! {
                    _ = cuts.changed() => {}
                    () = server.converse(stream) => {}
                }
            });
            while connections.try_join_next().is_some() {}
        }
    }

    async fn converse(self, stream: TcpStream) {
        let mut mood = self.mood.clone();
        let now = *mood.borrow_and_update();
        match now {
            Mood::Closed => return,
            Mood::Silent => {
                // Until it is cut.
                let _ = mood.wait_for(|mood| *mood != Mood::Silent).await;
                return;
            }
            Mood::Open => {}
        }
        // Between the network and TLS: a pump that can stand still.
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let config = self.config.borrow().clone();
        tokio::select! {
            () = pump(stream, theirs, mood) => {}
            () = async {
                if let Ok(stream) = TlsAcceptor::from(config).accept(ours).await {
                    let service = service_fn(move |request| {
                        let server = self.clone();
                        async move { server.answer(request).await }
                    });
                    // Its errors are the client's to notice.
                    let _ = http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
                }
            } => {}
        }
    }

    /// An error here resets the stream, as a daemon that dies does.
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>, Gone> {
        if request.uri().path() == "/v1/pair" && request.method() == Method::POST {
            return self.pair(request).await;
        }
        let key = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let key = key.and_then(|value| value.strip_prefix("Bearer "));
        let refused = {
            let known = self.known.lock().unwrap();
            match key {
                Some(key) if known.keys.contains_key(key) => None,
                Some(_) => {
                    Some(problem(401, "bad_key", "the key is not valid, or no longer; nothing was done"))
                }
                None => Some(problem(401, "key_needed", "a key is needed; nothing was done")),
            }
        };
        match refused {
            Some(refused) => Ok(refused),
            None => self.pass_on(request).await,
        }
    }

    async fn pass_on(&self, request: Request<Incoming>) -> Result<Response<Body>, Gone> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|_| Gone)?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|_| Gone)?;
        tokio::spawn(connection);
        let (mut parts, body) = request.into_parts();
        parts.uri = parts.uri.path_and_query().map_or("/", |path| path.as_str()).parse().map_err(|_| Gone)?;
        parts.headers.remove(header::AUTHORIZATION);
        parts.headers.insert(header::HOST, header::HeaderValue::from_static("kennel"));
        parts.version = hyper::Version::HTTP_11;
        let response = sender.send_request(Request::from_parts(parts, body)).await.map_err(|_| Gone)?;
        let (mut parts, body) = response.into_parts();
        for hop in [header::CONNECTION, header::TRANSFER_ENCODING] {
            parts.headers.remove(hop);
        }
        parts.version = hyper::Version::HTTP_2;
        let is_stream =
            parts.headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind == "text/event-stream");
        if is_stream && self.breaks_off() {
            let mut body = body;
            let first = tokio::time::timeout(std::time::Duration::from_millis(20), body.frame()).await;
            let first = first.ok().flatten().and_then(Result::ok).and_then(|frame| frame.into_data().ok());
            let mut first = first.unwrap_or_default();
            if let Some(end) = first.windows(2).position(|two| two == b"\n\n") {
                first.truncate(end + 2);
            }
            return Ok(Response::from_parts(parts, full(first)));
        }
        Ok(Response::from_parts(parts, body.boxed()))
    }

    /// Returns true if the next stream is to be broken off, and counts it.
    fn breaks_off(&self) -> bool {
        let mut known = self.known.lock().unwrap();
        known.streams += u64::from(known.stingy);
        known.stingy
    }

    async fn pair(&self, request: Request<Incoming>) -> Result<Response<Body>, Gone> {
        let body = Limited::new(request.into_body(), 64 * 1024).collect().await.map_err(|_| Gone)?.to_bytes();
        let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
        let odd = {
            let mut known = self.known.lock().unwrap();
            known.pairs += 1;
            known.last_body = String::from_utf8_lossy(&body).into_owned();
            known.odd.clone()
        };
        match odd {
            Some(Odd::Answer(status, head, body)) => {
                let mut answer = Response::new(full(body));
                *answer.status_mut() = StatusCode::from_u16(status).unwrap();
                for (name, value) in head {
                    answer.headers_mut().insert(name, value.parse().unwrap());
                }
                return Ok(answer);
            }
            Some(Odd::Endless) => {
                return Ok(Response::new(BodyExt::boxed(Endless)));
            }
            Some(Odd::Lost(_)) | None => {}
        }
        if asked["secret"] != SECRET {
            return Ok(problem(401, "bad_secret", "the secret is not that of a pairing; no key was made"));
        }
        let key = asked["key"].as_str().unwrap_or_default().to_owned();
        let mut known = self.known.lock().unwrap();
        let next = format!("key-{}", known.keys.len() + 1);
        let id = known.keys.entry(key).or_insert(next).clone();
        if let Some(Odd::Lost(left @ 1..)) = &mut known.odd {
            *left -= 1;
            return Err(Gone);
        }
        let answer = json!({
            "id": id, "name": asked["name"], "role": "driver", "sessions": "all", "expires_at": null,
        });
        let mut answer = Response::new(full(answer.to_string().into_bytes()));
        *answer.status_mut() = StatusCode::CREATED;
        Ok(answer)
    }
}

/// A pump between the network and TLS, which can stand still.
async fn pump(
    mut network: TcpStream,
    mut inside: impl AsyncRead + AsyncWrite + Unpin,
    mut mood: watch::Receiver<Mood>,
) {
    loop {
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut network, &mut inside) => return,
            changed = mood.changed() => if changed.is_err() { return },
        }
        if mood.wait_for(|mood| *mood != Mood::Silent).await.map_or(true, |mood| *mood == Mood::Closed) {
            return;
        }
    }
}

/// The daemon, or the connection to it, is gone.
#[derive(Debug)]
struct Gone;

impl std::fmt::Display for Gone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("gone")
    }
}

impl std::error::Error for Gone {}

/// A body without an end.
struct Endless;

impl hyper::body::Body for Endless {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, hyper::Error>>> {
        let piece = Bytes::from_static(&[b'x'; 16 * 1024]);
        std::task::Poll::Ready(Some(Ok(hyper::body::Frame::data(piece))))
    }
}

fn full(body: impl Into<Bytes>) -> Body {
    Full::new(body.into()).map_err(|never: Infallible| match never {}).boxed()
}

fn problem(status: u16, code: &str, detail: &str) -> Response<Body> {
    let problem =
        json!({ "type": "about:blank", "title": "x", "status": status, "code": code, "detail": detail });
    let mut answer = Response::new(full(problem.to_string()));
    *answer.status_mut() = StatusCode::from_u16(status).unwrap();
    answer
}
