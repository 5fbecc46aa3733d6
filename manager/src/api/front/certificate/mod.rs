//! The port's certificate: from files, or made here; and what TLS is made of. Files that have changed are read again when a client connects.
//! Files that cannot be used change nothing. Without any that can be used, the port takes nobody until they can.

mod own;

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::validity::validity;
use crate::config::{CertificateFiles, Listen};
use crate::system::random::hex;
use crate::system::{blocking, clock, owned};

/// The largest file that is read, in bytes.
const MAX_FILE: u64 = 1024 * 1024;
/// The least time between two looks at the files.
const LOOK: Duration = Duration::from_secs(1);
/// The least time between two warnings of the same expiry.
const WARN: Duration = Duration::from_secs(24 * 60 * 60);
/// Time before the expiry from which on kennel warns, in seconds; a third of the whole validity if that is less.
const SOON: i64 = 14 * 24 * 60 * 60;

/// A certificate in use.
pub struct Loaded {
    pub config: Arc<ServerConfig>,
    pub certificate: CertificateDer<'static>,
    /// `SHA256:` and 64 hex digits.
    pub fingerprint: String,
    /// Time of the expiry, in seconds of Unix time; none if it cannot be read.
    pub until: Option<i64>,
    /// From then on kennel warns.
    soon: Option<i64>,
}

/// Keeps the certificate.
pub struct Certificates {
    files: Option<CertificateFiles>,
    client_ca: Option<PathBuf>,
    /// The directory of the certificate that is made here, and the names in it.
    own: (PathBuf, Vec<String>),
    state: Mutex<State>,
}

struct State {
    /// None: there was no certificate yet that could be used.
    loaded: Option<Arc<Loaded>>,
    stamps: Vec<Option<Stamp>>,
    looked: Option<Instant>,
    is_looking: bool,
    warned: Option<Instant>,
    /// Why the files that are there now are not in use.
    problem: Option<String>,
}

/// The state of a file: a change of the file changes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp(u64, u64, u64, i64, i64);

impl Certificates {
    /// Nothing is read yet.
    pub fn new(listen: &Listen, state_dir: &Path) -> Self {
        let state = State {
            loaded: None,
            stamps: Vec::new(),
            looked: None,
            is_looking: false,
            warned: None,
            problem: Some("the port takes nobody: the disk gives no certificate yet".to_owned()),
        };
        Self {
            files: listen.files.clone(),
            client_ca: listen.client_ca.clone(),
            own: (state_dir.to_owned(), listen.names.clone()),
            state: Mutex::new(state),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The certificate as the files have it now, or had it a second ago. None: there was none yet that could be used.
    pub async fn current(self: &Arc<Self>) -> Option<Arc<Loaded>> {
        let is_due = {
            let mut state = self.state();
            let is_due = !state.is_looking && state.looked.is_none_or(|looked| looked.elapsed() >= LOOK);
            state.is_looking |= is_due;
            is_due
        };
        if is_due {
            let this = self.clone();
            // A file system may hang; the client's handshake has a deadline, and the next client goes on with the old files.
            blocking::run(move || this.look()).await;
        }
        self.state().loaded.clone()
    }

    /// Why the files that are there now are not in use; none if they are.
    pub fn problem(&self) -> Option<String> {
        self.state().problem.clone()
    }

    /// Reads the files again if they have changed, or if no certificate is in use.
    fn look(&self) {
        let mut now = stamps(self.files.as_ref(), self.client_ca.as_deref());
        let before = self.state().loaded.clone();
        let is_due = before.is_none() || now != self.state().stamps;
        let read = is_due.then(|| self.read(before.as_deref()));
        let mut state = self.state();
        match read {
            None => {}
            Some(Ok(loaded)) => {
                if before.is_none_or(|before| loaded.fingerprint != before.fingerprint) {
                    tracing::info!("the TLS certificate is {}", loaded.fingerprint);
                    state.warned = None;
                }
                (state.loaded, state.problem) = (Some(Arc::new(loaded)), None);
            }
            Some(Err(why)) => {
                let problem = match state.loaded {
                    Some(_) => format!("the certificate before is kept: {why}"),
                    None => format!("the port takes nobody: {why}"),
                };
                // Without a certificate each client has the files looked at.
                if state.problem.as_ref() != Some(&problem) {
                    tracing::warn!("TLS: {problem}");
                    state.problem = Some(problem);
                }
            }
        }
        std::mem::swap(&mut state.stamps, &mut now);
        (state.looked, state.is_looking) = (Some(Instant::now()), false);
        state.warn();
    }

    fn read(&self, before: Option<&Loaded>) -> Result<Loaded, String> {
        let client_ca = self.client_ca.as_deref();
        let (chain, key) = match (&self.files, before) {
            (Some(files), _) => pair(files)?,
            // The one that was made here is kept: only who may connect has changed.
            (None, Some(before)) => return Loaded::again(before, client_ca),
            (None, None) => own::read_or_make(&self.own.0, &self.own.1)?,
        };
        Loaded::new(chain, key, client_ca)
    }
}

impl State {
    /// Warns of the expiry, once a day at most.
    fn warn(&mut self) {
        let Some((_, words)) = self.loaded.as_ref().and_then(|loaded| loaded.expiry()) else { return };
        if self.warned.is_none_or(|warned| warned.elapsed() >= WARN) {
            self.warned = Some(Instant::now());
            tracing::warn!("the TLS certificate {words}");
        }
    }
}

impl Loaded {
    fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        client_ca: Option<&Path>,
    ) -> Result<Self, String> {
        let certificate = chain.first().cloned().ok_or("there is no certificate in the file")?;
        let builder = builder(client_ca)?;
        let config = builder
            .with_single_cert(chain, key)
            .map_err(|error| format!("certificate and key cannot be used: {error}"))?;
        Ok(Self::of(config, certificate))
    }

    /// The same certificate, with clients' certificates of these issuers.
    fn again(before: &Self, client_ca: Option<&Path>) -> Result<Self, String> {
        let config = builder(client_ca)?.with_cert_resolver(before.config.cert_resolver.clone());
        Ok(Self::of(config, before.certificate.clone()))
    }

    fn of(mut config: ServerConfig, certificate: CertificateDer<'static>) -> Self {
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // Each client shows its certificate each time, and no ticket outlives the file that let its owner in.
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        let dates = validity(&certificate);
        Self {
            config: Arc::new(config),
            fingerprint: format!("SHA256:{}", hex(&Sha256::digest(&certificate))),
            until: dates.map(|dates| dates.until),
            soon: dates.map(|dates| dates.until - SOON.min((dates.until - dates.from) / 3)),
            certificate,
        }
    }

    /// For a person, that it expires soon (false) or has expired (true). None if it is good for a while.
    pub fn expiry(&self) -> Option<(bool, String)> {
        let now = i64::try_from(clock::wall_ms() / 1000).ok()?;
        let (until, soon) = (self.until?, self.soon?);
        if now < soon {
            return None;
        }
        let apart = Duration::from_secs((until - now).unsigned_abs() / 60 * 60);
        let apart = humantime::format_duration(apart);
        Some(match now < until {
            true => (false, format!("expires in {apart}")),
            false => (true, format!("expired {apart} ago")),
        })
    }
}

type Builder = rustls::ConfigBuilder<ServerConfig, rustls::server::WantsServerCert>;

/// TLS 1.3 and nothing else, and the certificates that clients need.
fn builder(client_ca: Option<&Path>) -> Result<Builder, String> {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| error.to_string())?;
    let Some(path) = client_ca else { return Ok(builder.with_no_client_auth()) };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
    Ok(builder.with_client_cert_verifier(verifier.map_err(|error| format!("{}: {error}", path.display()))?))
}

/// A certificate and its key.
type Pair = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn pair(files: &CertificateFiles) -> Result<Pair, String> {
    let chain = certificates(&files.certificate)?;
    let path = &files.key;
    let key = PrivateKeyDer::from_pem_slice(&read(path)?)
        .map_err(|_| format!("{} has no private key in PEM", path.display()))?;
    Ok((chain, key))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let bytes = read(path)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        _ => Err(format!("{} has no certificate in PEM", path.display())),
    }
}

/// Reads a file that others cannot change.
fn read(path: &Path) -> Result<Vec<u8>, String> {
    let failed = |why: String| format!("cannot read {}: {why}", path.display());
    let found = fs::metadata(path).map_err(|error| failed(error.to_string()))?;
    // Opening a pipe would wait for its other end.
    if !found.is_file() {
        return Err(failed("it is no regular file".into()));
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| owned::believed(path, &file).map(|()| file))
        .and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes))
        .map_err(|error| failed(error.to_string()))?;
    match bytes.len() as u64 > MAX_FILE {
        true => Err(failed(format!("it has more than {MAX_FILE} bytes"))),
        false => Ok(bytes),
    }
}

fn stamps(files: Option<&CertificateFiles>, client_ca: Option<&Path>) -> Vec<Option<Stamp>> {
    let files = files.map(|files| [&*files.certificate, &*files.key]);
    let stamp = |path: &Path| {
        let found = fs::metadata(path).ok()?;
        Some(Stamp(found.dev(), found.ino(), found.size(), found.mtime(), found.mtime_nsec()))
    };
    files.into_iter().flatten().chain(client_ca).map(stamp).collect()
}

#[cfg(test)]
mod tests;
