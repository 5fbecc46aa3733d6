//! The address of a host: `ssh://[user@]host[:port][/path]` or `tls://host[:port]`; with `kennel attach` a path stands behind either.
//!
//! The parts of the first become arguments of `ssh`, so nothing in it may look like an option or hold a control character. The same
//! holds for the second, which has less.

use std::fmt;
use std::str::FromStr;

use hyper::Uri;
use percent_encoding::percent_decode_str;
use rustls::pki_types::ServerName;

/// The port of a `tls` address that names none.
pub const TLS_PORT: u16 = 7443;

/// The path of the home itself: `/~` in an address.
pub const HOME: &str = ".";

/// The way to a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// By the system's `ssh`.
    Ssh,
    /// By TLS, to a daemon that listens.
    Tls,
}

impl Scheme {
    /// The scheme, with what follows it.
    fn prefix(self) -> &'static str {
        match self {
            Self::Ssh => "ssh://",
            Self::Tls => "tls://",
        }
    }
}

/// Another machine, and a path on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostAddress {
    /// The way there.
    pub scheme: Scheme,
    /// The user to log in as; none: as `ssh` decides. By TLS there is none.
    pub user: Option<String>,
    /// The host, as `ssh` takes it: a name, an address, an alias of its configuration.
    pub host: String,
    /// The port; none: as `ssh` decides. By TLS there is always one.
    pub port: Option<u16>,
    /// A path on the host: absolute, or relative to the home of that user. Its meaning is the caller's.
    pub path: Option<String>,
}

impl HostAddress {
    /// Returns true for a text that is meant as an address.
    pub fn is_meant(text: &str) -> bool {
        text.contains("://")
    }

    /// The same host without a path.
    pub fn without_path(self) -> (Self, Option<String>) {
        let path = self.path;
        (Self { path: None, ..self }, path)
    }
}

impl FromStr for HostAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            |why: &str| format!("{why}; an address is ssh://[user@]host[:port][/path] or tls://host[:port]");
        let scheme = [Scheme::Ssh, Scheme::Tls].into_iter().find(|scheme| text.starts_with(scheme.prefix()));
        let scheme = scheme.ok_or_else(|| wrong("it begins with neither ssh:// nor tls://"))?;
        if text.contains(['?', '#']) {
            return Err(wrong("`?` and `#` are written as %3F and %23"));
        }
        let uri: Uri = text.parse().map_err(|error| wrong(&format!("{error}")))?;
        let authority = uri.authority().ok_or_else(|| wrong("it has no host"))?;
        let (user, place) = match authority.as_str().rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, authority.as_str()),
        };
        if user.is_some_and(|user| user.contains(':')) {
            return Err(wrong("it has a password, which `ssh` asks for by itself"));
        }
        if scheme == Scheme::Tls && user.is_some() {
            return Err(wrong("by tls there are no users: the key decides"));
        }
        let host = authority.host();
        let port = match place.strip_prefix(host).and_then(|rest| rest.strip_prefix(':')) {
            None => None,
            Some(port) => match port.parse() {
                Ok(port @ 1..) => Some(port),
                _ => return Err(wrong(&format!("`{port}` is no port"))),
            },
        };
        let user = user.map(|user| decoded("user", user)).transpose().map_err(|why| wrong(&why))?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        // Those of names, of addresses, and of aliases as people make them.
        if !host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-:".contains(&byte)) {
            return Err(wrong("its host has a character that no host has"));
        }
        for (what, part) in [("user", user.as_deref()), ("host", Some(host))] {
            match part {
                Some("") => return Err(wrong(&format!("its {what} is empty"))),
                // For `ssh` that would be an option.
                Some(part) if part.starts_with('-') => {
                    return Err(wrong(&format!("a {what} does not begin with `-`")));
                }
                Some(part) if part.contains(char::is_whitespace) => {
                    return Err(wrong(&format!("its {what} has a space")));
                }
                _ => {}
            }
        }
        let (host, port) = match scheme {
            Scheme::Ssh => (host.to_owned(), port),
            Scheme::Tls if ServerName::try_from(host).is_err() => {
                return Err(wrong(&format!("`{host}` is no name of a host, and no address")));
            }
            // Names are the same in either case.
            Scheme::Tls => (host.to_ascii_lowercase(), Some(port.unwrap_or(TLS_PORT))),
        };
        let path = match uri.path() {
            "" | "/" => None,
            path => Some(decoded("path", path).map_err(|why| wrong(&why))?),
        };
        let path = path.map(|path| match path.strip_prefix("/~") {
            Some("" | "/") => HOME.to_owned(),
            Some(below) if below.starts_with('/') => below.trim_start_matches('/').to_owned(),
            _ => path,
        });
        if path.as_deref().is_some_and(|path| path.starts_with('-')) {
            return Err(wrong("below the home directory it has a name that begins with `-`"));
        }
        Ok(Self { scheme, user, host, port, path })
    }
}

/// A part without percent-encoding.
fn decoded(what: &str, part: &str) -> Result<String, String> {
    let text = percent_decode_str(part).decode_utf8();
    let text = text.map_err(|_| format!("its {what} is not UTF-8"))?;
    match text.contains(char::is_control) {
        true => Err(format!("its {what} has a control character")),
        false => Ok(text.into_owned()),
    }
}

impl fmt::Display for HostAddress {
    /// As it is parsed, but for what was percent-encoded.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let encoded = crate::client::encoded;
        f.write_str(self.scheme.prefix())?;
        if let Some(user) = &self.user {
            write!(f, "{}@", encoded(user))?;
        }
        match self.host.contains(':') {
            true => write!(f, "[{}]", self.host)?,
            false => f.write_str(&self.host)?,
        }
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        if let Some(path) = &self.path {
            if path == HOME {
                return f.write_str("/~");
            }
            let root = if path.starts_with('/') { "" } else { "/~/" };
            let parts: Vec<String> = path.split('/').map(encoded).collect();
            write!(f, "{root}{}", parts.join("/"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(user: Option<&str>, host: &str, port: Option<u16>, path: Option<&str>) -> HostAddress {
        let owned = |text: &str| text.to_owned();
        let scheme = Scheme::Ssh;
        HostAddress { scheme, user: user.map(owned), host: host.into(), port, path: path.map(owned) }
    }

    fn by_tls(host: &str, port: u16, path: Option<&str>) -> HostAddress {
        HostAddress { scheme: Scheme::Tls, ..address(None, host, Some(port), path) }
    }

    #[test]
    fn addresses_are_read_and_written() {
        for (text, parts) in [
            ("ssh://box", address(None, "box", None, None)),
            ("ssh://box/", address(None, "box", None, None)),
            ("ssh://ada@box.example:2222", address(Some("ada"), "box.example", Some(2222), None)),
            ("ssh://box/srv/kennel", address(None, "box", None, Some("/srv/kennel"))),
            ("ssh://box/~/src/app", address(None, "box", None, Some("src/app"))),
            ("ssh://box/~", address(None, "box", None, Some("."))),
            ("ssh://box/~/", address(None, "box", None, Some("."))),
            ("ssh://box/~x", address(None, "box", None, Some("/~x"))),
            ("ssh://[::1]:22/a%20b", address(None, "::1", Some(22), Some("/a b"))),
            ("ssh://a%40b@box", address(Some("a@b"), "box", None, None)),
            ("tls://box", by_tls("box", 7443, None)),
            ("tls://Box.Example:443/", by_tls("box.example", 443, None)),
            ("tls://[::1]:1/~/src/app", by_tls("::1", 1, Some("src/app"))),
            ("tls://[fe80::A]", by_tls("fe80::a", 7443, None)),
            ("tls://192.0.2.1/srv/a%20b", by_tls("192.0.2.1", 7443, Some("/srv/a b"))),
        ] {
            let read: HostAddress = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(read, parts, "{text}");
            assert_eq!(read.to_string().parse(), Ok(parts), "{text}: {read}");
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_an_address_is_harmless_and_stays_the_same(text in "((ssh|tls)://)?(.{0,60}|[a-z0-9.:@/~-]{0,30})") {
            if let Ok(read) = text.parse::<HostAddress>() {
                for part in [read.user.as_deref(), Some(&*read.host), read.path.as_deref()].into_iter().flatten() {
                    proptest::prop_assert!(!part.starts_with('-') && !part.contains(char::is_control), "{text:?}");
                }
                proptest::prop_assert_eq!(read.to_string().parse(), Ok(read), "{:?}", text);
            }
        }
    }

    #[test]
    fn nothing_in_an_address_is_an_option_or_controls_a_terminal() {
        for text in [
            "box",
            "http://box",
            "ssh://",
            "ssh:///path",
            "ssh://-oProxyCommand=x",
            "ssh://%2DoProxyCommand=x",
            "ssh://-l@box",
            "ssh://@box",
            "ssh://user:secret@box",
            "ssh://box:0",
            "ssh://box:",
            "ssh://box:99999",
            "ssh://box:x",
            "ssh://bo%0Ax",
            "ssh://bo%20x",
            "ssh://box/a%1Bb",
            "ssh://box/a%00b",
            "ssh://box/%FF",
            "ssh://box/~/-x",
            "ssh://box/a?b",
            "ssh://box/a#b",
            "tls://",
            "tls:///path",
            "tls://-x",
            "tls://ada@box",
            "tls://@box",
            "tls://ada:secret@box",
            "tls://box:0",
            "tls://box:99999",
            "tls://bo%0Ax",
            "tls://a..b",
            "tls://[::1",
            "tls://[::g]",
            "tls://::1",
            "tls://box/a?b",
            "tls://box/~/-x",
            "https://box",
            "TLS://box",
        ] {
            assert!(text.parse::<HostAddress>().is_err(), "{text}");
        }
    }
}
