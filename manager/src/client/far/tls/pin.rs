//! The certificate of one server, known by its fingerprint.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme};
use sha2::{Digest, Sha256};

use crate::system::random::hex;

/// How a fingerprint begins.
const PREFIX: &str = "SHA256:";

/// The SHA-256 of a certificate's DER.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Of this certificate.
    pub fn of(der: &[u8]) -> Self {
        Self(Sha256::digest(der).into())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", hex(&self.0))
    }
}

impl FromStr for Fingerprint {
    type Err = String;

    /// Reads digits of either case. Other programs write colons between them.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("a fingerprint is {PREFIX} and 64 hexadecimal digits, as `kennel pair` prints it");
        let digits = text.strip_prefix(PREFIX).ok_or_else(wrong)?.replace(':', "");
        let mut bytes = [0; 32];
        if digits.len() != 64 || !digits.is_ascii() {
            return Err(wrong());
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks(2)) {
            let value = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
            let (high, low) = (value(pair[0]).ok_or_else(wrong)?, value(pair[1]).ok_or_else(wrong)?);
            *byte = high * 16 + low;
        }
        Ok(Self(bytes))
    }
}

/// A server has another certificate.
#[derive(Debug)]
pub(super) struct WrongPin {
    pub found: Fingerprint,
}

impl fmt::Display for WrongPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "its certificate has the fingerprint {}", self.found)
    }
}

impl std::error::Error for WrongPin {}

/// Accepts the one certificate that has the fingerprint, whatever is written in it: names and times mean nothing where the
/// certificate itself is known. The server must still show that it has the certificate's key.
#[derive(Debug)]
pub(super) struct Pinned {
    pub pin: Fingerprint,
    pub algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _others: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let found = Fingerprint::of(certificate);
        match found == self.pin {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(CertificateError::Other(OtherError(Arc::new(WrongPin { found }))).into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        // Never asked: this side offers TLS 1.3 alone.
        Err(Error::General("TLS 1.2 is not spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn fingerprints_are_read_as_they_are_written() {
        let one = Fingerprint::of(b"certificate");
        let text = one.to_string();
        assert!(text.starts_with("SHA256:") && text.len() == 7 + 64, "{text}");
        assert_eq!(text.parse(), Ok(one));
        assert_eq!(format!("SHA256:{}", text[7..].to_uppercase()).parse(), Ok(one));
        for wrong in ["", "SHA256:", &text[7..], &text[..70], &format!("{text}0"), &text.replace(':', "")] {
            assert!(wrong.parse::<Fingerprint>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_one_certificate_is_taken_and_no_other() {
        let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
        let pinned = Pinned { pin: Fingerprint::of(b"certificate"), algorithms };
        let name = ServerName::try_from("box.example").unwrap();
        let shown = |bytes: &'static [u8]| {
            pinned.verify_server_cert(
                &bytes.into(),
                &[],
                &name,
                &[],
                UnixTime::since_unix_epoch(Duration::ZERO),
            )
        };
        assert!(shown(b"certificate").is_ok());
        for other in [&b"certificatf"[..], b"certificat", b""] {
            let found = Fingerprint::of(other).to_string();
            let error = shown(other).err().unwrap();
            let Error::InvalidCertificate(CertificateError::Other(OtherError(why))) = error else {
                panic!("{error}")
            };
            assert!(why.to_string().contains(&found), "{why}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_fingerprint_or_none(text in "(SHA256:)?([0-9a-f]{62,66}|.{0,70})") {
            if let Ok(read) = text.parse::<Fingerprint>() {
                proptest::prop_assert_eq!(read.to_string().parse(), Ok(read));
            }
        }
    }
}
