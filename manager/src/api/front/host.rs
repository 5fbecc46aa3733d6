//! The host that a request names: a web page whose own name leads to this machine (DNS rebinding) names its own.

use std::net::{IpAddr, SocketAddr};

use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ParsedCertificate;

use super::super::problem::{Answer, ApiError};

/// Checks that a request is meant for this daemon, and returns the host and port that it names.
///
/// # Errors
/// 421 `wrong_host`; 400 `invalid_request` without a host, or with two.
pub fn check(uri: &Uri, headers: &HeaderMap, is_meant: impl Fn(&Authority) -> bool) -> Answer<String> {
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
    match all.iter().find(|authority| !is_meant(authority)) {
        None => Ok(all[0].as_str().to_ascii_lowercase()),
        Some(other) => {
            let host: String = other.host().chars().take(100).collect();
            let detail = format!("`{host}` is no name of this daemon; nothing was changed");
            Err(ApiError::new(StatusCode::MISDIRECTED_REQUEST, "wrong_host", detail).hint(
                "use the machine's address, or a name from its certificate or from `names` in `[listen]`; the page on loopback has one \
                 address, which `kennel web` prints",
            ))
        }
    }
}

fn unreadable(what: &str) -> ApiError {
    ApiError::bad_request("invalid_request", format!("{what}; nothing was changed"))
}

/// The very address on loopback, or a name of loopback that a tunnel of `ssh -L` ends at, with the port.
pub fn is_loopback(authority: &Authority, address: SocketAddr) -> bool {
    let host = authority.host();
    let named =
        host.eq_ignore_ascii_case("localhost") || host == "127.0.0.1" || host == address.ip().to_string();
    // Without a port the address ends there: there is no user in it.
    named
        && authority.as_str().len() == host.len() + 1 + address.port().to_string().len()
        && authority.port_u16() == Some(address.port())
}

/// An address (which no web page's name is), this machine's own name, one of the configuration (`names`), or one of the
/// certificate.
pub fn is_of_certificate(authority: &Authority, names: &[String], certificate: &CertificateDer<'_>) -> bool {
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
        check(&uri.parse().unwrap(), &headers, |host| is_of_certificate(host, &configured, made.der()))
            .map_or_else(|error| error.problem().status, |_| 200)
    }

    #[test]
    fn on_loopback_a_host_is_the_address_and_its_port() {
        let address: SocketAddr = "127.64.1.2:4711".parse().unwrap();
        let is_meant = |host: &str| host.parse().is_ok_and(|host| is_loopback(&host, address));
        for host in ["127.64.1.2:4711", "localhost:4711", "LocalHost:4711", "127.0.0.1:4711"] {
            assert!(is_meant(host), "{host}");
        }
        for host in [
            "127.64.1.2",
            "127.64.1.2:80",
            "127.64.1.3:4711",
            "evil.example:4711",
            "localhost.evil.example:4711",
            "127.64.1.2.evil.example:4711",
            "x@127.64.1.2:4711",
            "[::1]:4711",
            "0.0.0.0:4711",
            "2130706433:4711",
        ] {
            assert!(!is_meant(host), "{host}");
        }
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
