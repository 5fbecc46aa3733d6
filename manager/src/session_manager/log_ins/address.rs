//! Addresses to which a vendor sends a browser back: those of this very machine, and no others.

use crate::error::Error;

/// The longest address, in bytes. Codes and states of some vendors have thousands.
const LONGEST: usize = 8 * 1024;

/// An address of a port of this machine: `http://localhost:PORT/...`.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Address {
    /// `localhost`, `127.0.0.1` or `[::1]`, as it was given.
    pub(crate) host: String,
    /// The port.
    pub(crate) port: u16,
    /// Path and query.
    pub(crate) path: String,
}

impl Address {
    /// Reads an address. The text may be a secret, so that no error repeats it.
    ///
    /// # Errors
    /// `invalid_login_url`.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        Self::read(text).ok_or_else(|| {
            let message = format!(
                "an address of a log-in is `http://localhost:PORT/...`, `http://127.0.0.1:PORT/...` or `http://[::1]:PORT/...`, \
                 in printable ASCII and at most {LONGEST} bytes; nothing was opened"
            );
            Error::invalid("invalid_login_url", message)
        })
    }

    fn read(text: &str) -> Option<Self> {
        if text.len() > LONGEST || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return None;
        }
        let scheme = text.get(..7)?;
        let rest = text.get(7..).filter(|_| scheme.eq_ignore_ascii_case("http://"))?;
        let rest = rest.split('#').next().unwrap_or_default();
        let end = rest.find(['/', '?', '\\']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let (host, port) = authority.rsplit_once(':')?;
        let host = host.to_ascii_lowercase();
        let is_port = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse::<u16>().ok().filter(|port| is_port && *port > 0)?;
        let path = match path.chars().next() {
            None => "/".to_owned(),
            Some('?') => format!("/{path}"),
            Some('/') => path.to_owned(),
            Some(_) => return None,
        };
        let is_here = matches!(host.as_str(), "localhost" | "127.0.0.1" | "[::1]");
        is_here.then_some(Self { host, port, path })
    }

    /// The address to which an answer of this one sends a browser, if that is of the same port.
    pub(crate) fn next(&self, location: &str) -> Option<Self> {
        let same = |path: &str| Self::read(&format!("http://{}:{}{path}", self.host, self.port));
        match location.starts_with('/') && !location.starts_with("//") {
            true => same(location),
            false => Self::read(location).filter(|next| next.port == self.port),
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "http://{}:{}{}", self.host, self.port, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ports_of_this_machine_are_addresses() {
        for (text, shown) in [
            (
                "http://localhost:1455/auth/callback?code=a&state=b",
                "http://localhost:1455/auth/callback?code=a&state=b",
            ),
            ("HTTP://LOCALHOST:1", "http://localhost:1/"),
            ("http://127.0.0.1:65535?code=a#fragment", "http://127.0.0.1:65535/?code=a"),
            ("http://[::1]:80/x", "http://[::1]:80/x"),
        ] {
            assert_eq!(Address::read(text).map(|it| it.to_string()).as_deref(), Some(shown), "{text}");
        }
        for wrong in [
            "",
            "http://",
            "https://localhost:1/",
            "http://localhost/",
            "http://localhost:0/",
            "http://localhost:65536/",
            "http://localhost:+1/",
            "http://evil.example:1/",
            "http://localhost.evil.example:1/",
            "http://a@localhost:1/",
            "http://localhost:1@evil.example/",
            "http://127.0.0.2:1/",
            "http://localhost:1\\x",
            "http://localhost:1/a b",
            "http://localhost:1/\r\nHost: x",
            "http://localhost:1/\u{e4}",
            "ftp://localhost:1/",
            "http://[::1]:80:1/",
            "\u{e4}\u{e4}\u{e4}\u{e4}",
            &format!("http://localhost:1/{}", "x".repeat(LONGEST)),
        ] {
            assert!(Address::read(wrong).is_none(), "{wrong}");
        }
        let Err(error) = Address::parse("http://evil.example/?code=SECRET") else { panic!() };
        assert!(!error.to_string().contains("SECRET"), "{error}");
    }

    #[test]
    fn an_answer_sends_to_its_own_port_or_nowhere() {
        let at = Address::read("http://localhost:7/a").unwrap();
        let next = |location: &str| at.next(location).map(|next| next.to_string());
        assert_eq!(next("/success?x=1").as_deref(), Some("http://localhost:7/success?x=1"));
        assert_eq!(next("http://127.0.0.1:7/b").as_deref(), Some("http://127.0.0.1:7/b"));
        for elsewhere in
            ["http://localhost:8/", "//evil.example/", "https://vendor.example/done", "success", ""]
        {
            assert_eq!(next(elsewhere), None, "{elsewhere}");
        }
    }
}
