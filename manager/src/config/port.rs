//! The TLS port as the configuration wants it.

use std::net::SocketAddr;
use std::path::PathBuf;

/// The TLS port. Without an address the daemon has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// Addresses on which the daemon listens.
    pub tcp: Vec<SocketAddr>,
    /// Files of the certificate and its key, in PEM; absent: the daemon makes its own.
    pub files: Option<CertificateFiles>,
    /// File with the certificates, in PEM, of those who issue certificates to clients; absent: clients need none.
    pub client_ca: Option<PathBuf>,
    /// Names and addresses by which clients reach the daemon, beside those of the certificate.
    pub names: Vec<String>,
    /// The most connections at once.
    pub most: usize,
}

impl Default for Listen {
    fn default() -> Self {
        Self { tcp: Vec::new(), files: None, client_ca: None, names: Vec::new(), most: 512 }
    }
}

/// Files of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate, and those that lead to its root.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}
