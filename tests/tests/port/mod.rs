//! The TLS port, as clients of other machines and strangers use it.

mod answers;
mod certificates;
mod crowds;
mod devices;
mod pages;
mod refused;
mod slow;
mod sockets;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use harness::daemon::Daemon;
use harness::real::{BOUND, rest};
use manager::protocol::api::{ListenInfo, ManagerInfo, TokenReply};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};

/// A daemon with a port of its own, with these lines in its `[listen]` and `[daemon]` sections.
fn daemon(listen: &str, settings: &str) -> Daemon {
    let daemon = Daemon::new();
    configure(&daemon, &format!("tcp = \"127.0.0.1:0\"\n{listen}"), settings);
    daemon.ok(&["daemon", "start"]);
    daemon
}

fn configure(daemon: &Daemon, listen: &str, settings: &str) {
    std::fs::create_dir_all(daemon.dir.path().join("kennel")).unwrap();
    let config = format!("[listen]\n{listen}\n[daemon]\n{settings}\n");
    std::fs::write(daemon.dir.path().join("kennel/config.toml"), config).unwrap();
}

/// The daemon's description of its port.
fn listening(daemon: &Daemon) -> ListenInfo {
    daemon.json::<ManagerInfo>(&["daemon", "status"]).listen.expect("a port")
}

fn address(daemon: &Daemon) -> SocketAddr {
    let info = listening(daemon);
    info.addresses.first().unwrap_or_else(|| panic!("{info:?}")).parse().unwrap()
}

/// A session, and the header that has its driver's token.
fn session(daemon: &Daemon) -> String {
    daemon.ok(&["start", "--id", "s"]);
    let token = daemon.json::<TokenReply>(&["token", "s"]).token;
    format!("Authorization: Bearer {token}\r\n")
}

/// A client that takes any certificate, and remembers it.
#[derive(Debug)]
struct Anybody(Arc<rustls::crypto::CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        panic!("TLS 1.2")
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

type Tls = StreamOwned<ClientConnection, TcpStream>;

/// A client that offers these protocols, and shows this certificate.
fn client(
    protocols: &[&str],
    shows: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>,
) -> Arc<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)));
    let mut config = match shows {
        Some((certificate, key)) => builder.with_client_auth_cert(vec![certificate], key).unwrap(),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

fn tcp(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, BOUND).unwrap();
    stream.set_read_timeout(Some(BOUND)).unwrap();
    stream.set_write_timeout(Some(BOUND)).unwrap();
    stream
}

/// The same from this address of this machine.
fn tcp_from(from: [u8; 4], to: SocketAddr) -> TcpStream {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &SocketAddr::from((from, 0))).unwrap();
    connect(&socket, &to).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(BOUND)).unwrap();
    stream.set_write_timeout(Some(BOUND)).unwrap();
    stream
}

fn tls_over(stream: TcpStream, config: Arc<ClientConfig>) -> Tls {
    let name = ServerName::try_from("localhost").unwrap();
    StreamOwned::new(ClientConnection::new(config, name).unwrap(), stream)
}

/// A connection of HTTP/1.1.
fn connect(address: SocketAddr) -> Tls {
    tls_over(tcp(address), client(&["http/1.1"], None))
}

/// The fingerprint of the certificate that the daemon shows.
fn fingerprint(address: SocketAddr) -> String {
    let mut tls = connect(address);
    tls.conn.complete_io(&mut tls.sock).unwrap();
    let certificate = &tls.conn.peer_certificates().unwrap()[0];
    let digest = rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256;
    let hash = digest.tls13().unwrap().common.hash_provider.hash(certificate);
    let digits: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("SHA256:{digits}")
}

/// Reads until these words have arrived.
fn read_until(tls: &mut impl Read, words: &str) -> String {
    let mut all = Vec::new();
    while !String::from_utf8_lossy(&all).contains(words) {
        let mut piece = [0; 4096];
        let read = tls.read(&mut piece).unwrap();
        assert!(read > 0, "it ended without {words:?}: {:?}", String::from_utf8_lossy(&all));
        all.extend_from_slice(&piece[..read]);
    }
    String::from_utf8_lossy(&all).into_owned()
}

/// Returns the answer to these bytes.
fn answer_to(address: SocketAddr, request: &str) -> String {
    let mut tls = connect(address);
    // It may be refused before all of it was read.
    let _ = tls.write_all(request.as_bytes());
    rest(&mut tls)
}

/// A request without a body, after whose answer the connection ends.
fn get(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n{headers}\r\n")
}

fn status(answer: &str) -> u16 {
    answer
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3)?.parse().ok())
        .unwrap_or_else(|| panic!("no answer: {answer:?}"))
}

/// Status and code of an answer that is a problem.
fn problem(answer: &str) -> (u16, String) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {answer:?}"));
    assert!(head.contains("\r\ncontent-type: application/problem+json"), "{answer}");
    let problem: manager::protocol::api::Problem =
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer:?}"));
    assert_eq!(problem.status, status(answer));
    (problem.status, problem.code)
}

/// The number of refusals for this reason.
fn refused(daemon: &Daemon, reason: &str) -> u64 {
    let socket = std::os::unix::net::UnixStream::connect(daemon.socket()).unwrap();
    let mut socket = socket;
    socket.write_all(b"GET /metrics HTTP/1.1\r\nHost: kennel\r\nConnection: close\r\n\r\n").unwrap();
    let text = rest(&mut socket);
    let line = format!("kennel_refused_total{{reason=\"{reason}\"}} ");
    let found = text.lines().find_map(|found| found.strip_prefix(&line));
    found.unwrap_or_else(|| panic!("no {line} in {text}")).parse().unwrap()
}
