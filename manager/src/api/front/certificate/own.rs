//! The certificate that kennel makes for itself, with its key in one file: `tls.pem` in the state directory. It is made once and kept, because
//! clients know the daemon by its fingerprint.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::Pair;
use crate::system::owned::{self, How};

/// The file's name.
const NAME: &str = "tls.pem";

/// Reads the certificate; makes it where there is none. A file that cannot be used is an error and stays as it is: another certificate would
/// be a stranger to all clients.
pub fn read_or_make(state_dir: &Path, names: &[String]) -> Result<Pair, String> {
    let path = state_dir.join(NAME);
    let bytes = match owned::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let pem = make(names).map_err(|error| format!("no certificate can be made: {error}"))?;
            write(&path, pem.as_bytes()).map_err(|error| {
                format!("the certificate cannot be written to {}: {error}", path.display())
            })?;
            pem.into_bytes()
        }
        Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
    };
    let wrong = |_| {
        format!(
            "{} has no certificate and key that can be used; put the file back from a backup, or remove it: then kennel makes \
             another, and every device must be paired again",
            path.display()
        )
    };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&bytes).collect::<Result<_, _>>().map_err(wrong)?;
    Ok((chain, PrivateKeyDer::from_pem_slice(&bytes).map_err(wrong)?))
}

/// Key and certificate in PEM.
fn make(names: &[String]) -> Result<String, rcgen::Error> {
    let mut all: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    all.extend(names.iter().filter(|name| !["localhost", "127.0.0.1", "::1"].contains(&&***name)).cloned());
    let mut wanted = rcgen::CertificateParams::new(all)?;
    wanted.distinguished_name = rcgen::DistinguishedName::new();
    wanted.distinguished_name.push(rcgen::DnType::CommonName, "kennel");
    wanted.extended_key_usages.push(rcgen::ExtendedKeyUsagePurpose::ServerAuth);
    // Clients know it by its fingerprint. An expiry would only lock them out (RFC 5280, section 4.1.2.5: no certain end).
    wanted.not_before = rcgen::date_time_ymd(2020, 1, 1);
    wanted.not_after = rcgen::date_time_ymd(9999, 12, 31);
    let key = rcgen::KeyPair::generate()?;
    let certificate = wanted.self_signed(&key)?;
    Ok(pem("PRIVATE KEY", &key.serialize_der()) + &pem("CERTIFICATE", certificate.der()))
}

/// RFC 7468: 64 characters a line.
fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut lines = format!("-----BEGIN {label}-----\n");
    let mut rest = &*text;
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        lines.extend([line, "\n"]);
        rest = after;
    }
    lines + &format!("-----END {label}-----\n")
}

/// The whole file or none, also after the machine has crashed.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = owned::open(&new, How::Anew)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    File::open(path.parent().ok_or(io::ErrorKind::InvalidInput)?)?.sync_all()
}
