//! The host that a request names: a web page whose own name leads to this machine (DNS rebinding) names its own.

use std::net::IpAddr;

use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ParsedCertificate;

use super::super::problem::{Answer, ApiError};

/// Checks that a request is meant for this daemon. `names` are those of the configuration.
///
/// # Errors
/// 421 `wrong_host`; 400 `invalid_request` without a host, or with two.
pub fn check(
    uri: &Uri,
    headers: &HeaderMap,
    names: &[String],
    certificate: &CertificateDer<'_>,
) -> Answer<()> {
    let mut given = headers.get_all(header::HOST).iter();
    let header =
        given.next().map(|value| value.to_str().ok().and_then(|text| text.parse::<Authority>().ok()));
    if given.next().is_some() {
        return Err(unreadable("the request has two `Host` headers"));
    }
    let header = match header {
        Some(None) => return Err(unreadable("the request's `Host` is none")),
        Some(Some(authority)) => Some(authority),
        None => None,
    };
    let all: Vec<&Authority> = uri.authority().into_iter().chain(header.as_ref()).collect();
    if all.is_empty() {
        return Err(unreadable("the request names no host"));
    }
    match all.into_iter().find(|authority| !is_meant(authority, names, certificate)) {
        None => Ok(()),
        Some(other) => {
            let host: String = other.host().chars().take(100).collect();
            let detail = format!("`{host}` is no name of this daemon; nothing was changed");
            Err(ApiError::new(StatusCode::MISDIRECTED_REQUEST, "wrong_host", detail).hint(
                "use the machine's address, or a name from its certificate or from `names` in `[listen]`",
            ))
        }
    }
}

fn unreadable(what: &str) -> ApiError {
    ApiError::bad_request("invalid_request", format!("{what}; nothing was changed"))
}

/// An address (which no web page's name is), this machine's own name, one of the configuration's or the certificate's.
fn is_meant(authority: &Authority, names: &[String], certificate: &CertificateDer<'_>) -> bool {
    if authority.as_str().contains('@') {
        return false;
    }
    let host = authority.host();
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if bare.parse::<IpAddr>().is_ok() {
        return true;
    }
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    if host == "localhost" || names.contains(&host) {
        return true;
    }
    let Ok(name) = ServerName::try_from(host) else { return false };
    ParsedCertificate::try_from(certificate)
        .is_ok_and(|parsed| rustls::client::verify_server_name(&parsed, &name).is_ok())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn status(uri: &str, hosts: &[&str]) -> u16 {
        let names = vec!["box.example".to_owned(), "*.wild.example".to_owned()];
        let key = rcgen::KeyPair::generate().unwrap();
        let made = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(header::HOST, HeaderValue::from_str(host).unwrap());
        }
        let configured = ["named.example".to_owned()];
        check(&uri.parse().unwrap(), &headers, &configured, made.der())
            .map_or_else(|error| error.problem().status, |()| 200)
    }

    #[test]
    fn a_host_is_an_address_or_a_name_of_this_daemon() {
        for host in [
            "192.0.2.7:7443",
            "192.0.2.7",
            "[2001:db8::1]:7443",
            "[::1]",
            "localhost:7443",
            "LOCALHOST",
            "box.example",
            "box.example:7443",
            "Box.Example.",
            "a.wild.example",
            "named.example:1",
        ] {
            assert_eq!(status("/", &[host]), 200, "{host}");
            assert_eq!(status(&format!("https://{host}/v1"), &[]), 200, "{host}");
        }
        for host in [
            "evil.example",
            "box.example.evil.example",
            "wild.example",
            "a.b.wild.example",
            "localhost.evil.example",
            "192.0.2.7.evil.example",
            "0x7f000001",
            "box.example@evil.example",
            "evil@box.example",
            "kennel",
            "_",
        ] {
            assert_eq!(status("/", &[host]), 421, "{host}");
            assert_eq!(status("https://box.example/", &[host]), 421, "the header counts, too: {host}");
            assert_eq!(status(&format!("https://{host}/"), &["box.example"]), 421, "{host}");
        }
        for hosts in
            [&[][..], &["box.example", "box.example"], &[""], &["box.example, evil.example"], &["a b"]]
        {
            assert_eq!(status("/", hosts), 400, "{hosts:?}");
        }
    }
}
