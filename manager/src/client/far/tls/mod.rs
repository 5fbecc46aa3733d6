//! The way by TLS: a connection to a daemon that listens, which takes this machine's key.
//!
//! TLS 1.3 alone. The server is known by the fingerprint of its certificate, which pairing has brought; or by a certificate authority.
//! Nothing is sent to a server that is not known, the key least of all.

mod key;
mod pin;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{AlertDescription, CertificateError, ClientConfig, Error, OtherError, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub use self::key::{is_key, lines, make};
pub use self::pin::Fingerprint;
use self::pin::{Pinned, WrongPin};
use super::Unreached;
use crate::client::token::Token;

/// The protocol that is spoken over TLS.
const HTTP2: &[u8] = b"h2";
/// The longest wait for one address of a host that has several.
const ONE_ADDRESS: Duration = Duration::from_secs(5);

/// How a host is reached, and known.
#[derive(Clone, Debug)]
pub struct TlsOptions {
    /// The name or the address of the host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The proof by which it is known.
    pub trust: Trust,
    /// The file with this machine's key; none: nothing is asked but to pair.
    pub key: Option<PathBuf>,
    /// Files with a certificate of this machine and its private key, for a server that asks for one.
    pub own: Option<(PathBuf, PathBuf)>,
}

/// The proof by which a server is known.
#[derive(Clone, Debug)]
pub enum Trust {
    /// This is the fingerprint of its certificate.
    Pin(Fingerprint),
    /// An authority in this file has signed its certificate for that host.
    Authority(PathBuf),
    /// An authority that this machine knows has.
    System,
}

impl TlsOptions {
    /// Reads the files that are named.
    ///
    /// # Errors
    /// The file that cannot be used, and why, for a person.
    pub fn check(&self) -> Result<(), String> {
        match (&self.trust, &self.own) {
            // There is no file, and the system's authorities may come later.
            (Trust::Pin(_) | Trust::System, None) => Ok(()),
            _ => config(self).map(drop).map_err(|unreached| unreached.what),
        }
    }

    /// Host and port, as in a URI.
    pub(super) fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

/// Connects. Returns the key, too, which is read each time: it may be a new one.
pub(super) async fn reach(
    name: &str,
    options: &TlsOptions,
) -> Result<(TlsStream<TcpStream>, Option<Token>), Unreached> {
    let key = options.key.as_deref().map(|path| read_key(name, path)).transpose()?;
    let config = config(options)?;
    let server = ServerName::try_from(options.host.clone())
        .map_err(|_| Unreached::new(format!("`{}` is no name of a host", options.host)).for_good())?;
    let stream = connect(options).await?;
    // What is sent is short, and waited for.
    let _ = stream.set_nodelay(true);
    let connector = TlsConnector::from(Arc::new(config));
    let stream = connector.connect(server, stream).await.map_err(|error| refused(name, options, &error))?;
    if stream.get_ref().1.alpn_protocol() != Some(HTTP2) {
        return Err(Unreached::new("it speaks TLS, and not HTTP/2 over it; is it a kennel?"));
    }
    Ok((stream, key))
}

fn read_key(name: &str, path: &Path) -> Result<Token, Unreached> {
    key::read(path).map_err(|error| {
        let unreached = match error.kind() {
            io::ErrorKind::NotFound => Unreached::new("this machine has no key for it: they are not paired"),
            _ => Unreached::new(format!("the key in {}: {error}", path.display())),
        };
        let hint = format!("`kennel pair` there, then `kennel host pair {name}` here");
        unreached.hint(hint).for_good()
    })
}

/// Connects to the first address of the host that answers.
async fn connect(options: &TlsOptions) -> Result<TcpStream, Unreached> {
    let cannot = |error: io::Error| {
        let unreached = Unreached::new(format!("{}: {error}", options.authority()));
        unreached.hint(match error.kind() {
            io::ErrorKind::ConnectionRefused => {
                "nothing listens there now: is that the port, and does the daemon run? `kennel doctor` on that machine says where it \
                 listens; `[listen]` in its config.toml decides"
            }
            io::ErrorKind::TimedOut | io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
                "is that machine up, is this one connected, and does no firewall stand between them?"
            }
            _ => "is that the name or address of the machine? `kennel host ls` lists what is known here",
        })
    };
    let addresses = tokio::net::lookup_host((&*options.host, options.port)).await.map_err(cannot)?;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in addresses {
        last = match timeout(ONE_ADDRESS, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => error,
            Err(_) => io::Error::new(io::ErrorKind::TimedOut, "no answer"),
        };
    }
    Err(cannot(last))
}

/// TLS 1.3, and what the server is known by.
fn config(options: &TlsOptions) -> Result<ClientConfig, Unreached> {
    let wrong = |error: Error| Unreached::new(format!("TLS: {error}")).for_good();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = match &options.trust {
        Trust::Pin(pin) => {
            let algorithms = provider.signature_verification_algorithms;
            Arc::new(Pinned { pin: *pin, algorithms })
        }
        Trust::Authority(file) => by_authority(&provider, certificates(file)?)?,
        Trust::System => by_authority(&provider, rustls_native_certs::load_native_certs().certs)?,
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(wrong)?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match &options.own {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = certificates(certificate)?;
            let key = PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable(key, &error))?;
            builder.with_client_auth_cert(chain, key).map_err(wrong)?
        }
    };
    config.alpn_protocols = vec![HTTP2.to_vec()];
    // One connection, and no other that could go on from it.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

fn by_authority(
    provider: &Arc<CryptoProvider>,
    known: Vec<CertificateDer<'static>>,
) -> Result<Arc<dyn ServerCertVerifier>, Unreached> {
    let mut roots = RootCertStore::empty();
    // Some of a system's are too old to be understood.
    roots.add_parsable_certificates(known);
    let built = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
    let verifier = built.map_err(|_| {
        Unreached::new("this machine knows no certificate authorities")
            .hint("install the package ca-certificates, or pair with a fingerprint")
            .for_good()
    })?;
    Ok(verifier)
}

/// The certificates of a PEM file.
fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, Unreached> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let found = read.map_err(|error| unreadable(file, &error))?;
    match found.is_empty() {
        true => Err(Unreached::new(format!("{}: it has no certificate", file.display())).for_good()),
        false => Ok(found),
    }
}

fn unreadable(file: &Path, error: &rustls::pki_types::pem::Error) -> Unreached {
    let why = match error {
        rustls::pki_types::pem::Error::Io(error) => error.to_string(),
        other => other.to_string(),
    };
    Unreached::new(format!("{}: {why}", file.display())).for_good()
}

/// Why a handshake failed.
fn refused(name: &str, options: &TlsOptions, error: &io::Error) -> Unreached {
    let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
        return Unreached::new(format!("it ended the connection before it had shown who it is: {error}"));
    };
    match error {
        Error::InvalidCertificate(CertificateError::Other(OtherError(why))) if why.is::<WrongPin>() => {
            let found = why.downcast_ref().map(|WrongPin { found }| found.to_string()).unwrap_or_default();
            let pinned = match options.trust {
                Trust::Pin(pin) => pin.to_string(),
                Trust::Authority(_) | Trust::System => "none".to_owned(),
            };
            let what = format!(
                "its certificate is not the one that was paired with: it has {found}, and {pinned} is expected. Somebody may be in \
                 between; nothing was sent, the key neither. Do not go on before you know why"
            );
            let hint = format!(
                "if its certificate was replaced on purpose: `kennel pair` there prints the new fingerprint, and \
                 `kennel host pair {name}` here takes it"
            );
            Unreached::new(what).hint(hint).for_good()
        }
        Error::InvalidCertificate(why) => {
            let hint = "if no authority has signed it: `kennel pair` there prints a ticket, of which `kennel host pair` here takes the \
                        fingerprint; if one of your own has: `kennel host add --ca FILE` names it";
            Unreached::new(format!("its certificate is not accepted: {why}; nothing was sent"))
                .hint(hint)
                .for_good()
        }
        Error::AlertReceived(AlertDescription::ProtocolVersion) | Error::PeerIncompatible(_) => {
            Unreached::new("it does not speak TLS 1.3, and nothing older is spoken")
        }
        Error::AlertReceived(AlertDescription::NoApplicationProtocol) => {
            Unreached::new("it speaks TLS, and not HTTP/2 over it; is it a kennel?")
        }
        Error::AlertReceived(why) => Unreached::new(format!("it ended the handshake of TLS: {why:?}")),
        Error::InvalidMessage(_) => {
            Unreached::new("it does not speak TLS").hint("is that the port on which the daemon listens?")
        }
        other => Unreached::new(format!("TLS: {other}")),
    }
}
