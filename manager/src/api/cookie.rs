//! A browser's key, in two halves: a cookie, and the header `Kennel-Page` that only kennel's own page can send.
//!
//! A browser sends the cookies of a host to all ports of that host, so whoever serves another port there sees them. Each
//! half is random by itself: neither the cookie nor the header alone says anything about the key. The front of a port puts
//! the halves together and passes the request on as `Authorization: Bearer KEY`; the API knows no cookies.

use axum::http::{HeaderMap, HeaderValue, header};

use crate::keys::joined;

/// The header with the other half.
pub const PROOF: &str = "kennel-page";
/// Time for which a browser keeps the cookie of a key without an expiry, in seconds: 30 days.
const KEPT: u64 = 30 * 24 * 3_600;

/// The most cookies of one name that are tried.
const TRIED: usize = 4;

/// The port by which a browser comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gate {
    /// It speaks TLS.
    pub tls: bool,
    /// Its number, which tells the cookies of several daemons on one host apart.
    pub port: u16,
}

impl Gate {
    /// The scheme of its addresses.
    pub fn scheme(self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }

    /// The cookie's name. Over TLS no other host can set a cookie of this name (RFC 6265bis, `__Host-`).
    fn name(self) -> String {
        format!("{}kennel-{}", if self.tls { "__Host-" } else { "" }, self.port)
    }

    /// The header that sets the cookie for so many seconds.
    fn cookie(self, value: &str, seconds: u64) -> HeaderValue {
        let secure = if self.tls { "; Secure" } else { "" };
        let name = self.name();
        let text = format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}");
        // Letters of base64 and numbers.
        let mut cookie = HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""));
        cookie.set_sensitive(true);
        cookie
    }

    /// The header that gives a browser this half. `left` is the time until the key ends, in milliseconds.
    pub fn set(self, half: &str, left: Option<u64>) -> HeaderValue {
        self.cookie(half, left.map_or(KEPT, |left| left.div_ceil(1_000)))
    }

    /// The header that takes it away.
    pub fn clear(self) -> HeaderValue {
        self.cookie("", 0)
    }

    /// Puts the key in the place of its halves. Without both of them the request shows nothing; a request with
    /// `Authorization` stays as it is. No cookie is left. `is_good` tells a key that somebody has.
    pub fn unfold(self, headers: &mut HeaderMap, is_good: impl Fn(&str) -> bool) {
        let key = self.key(headers, is_good);
        headers.remove(header::COOKIE);
        headers.remove(PROOF);
        let Some(key) = key.filter(|_| !headers.contains_key(header::AUTHORIZATION)) else { return };
        if let Ok(mut bearer) = HeaderValue::try_from(format!("Bearer {key}")) {
            bearer.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, bearer);
        }
    }

    /// The key of which a request has both halves.
    fn key(self, headers: &HeaderMap, is_good: impl Fn(&str) -> bool) -> Option<String> {
        let mut proofs = headers.get_all(PROOF).iter();
        let proof = proofs.next().filter(|_| proofs.next().is_none())?.to_str().ok()?;
        let name = self.name();
        // HTTP/2 may have one cookie a line (RFC 9113, section 8.2.3).
        let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
        let ours = lines.flat_map(|line| line.split(';')).filter_map(|cookie| {
            let (own, value) = cookie.trim().split_once('=')?;
            (own == name).then_some(value)
        });
        let ours: Vec<&str> = ours.collect();
        // Over TLS nobody else can set one of this name: two are none.
        if self.tls && ours.len() > 1 {
            return None;
        }
        // Another port of the host can set more of this name, for longer paths, which browsers send first (RFC 6265, section 5.4). A wrong
        // one is half of a key that nobody has.
        let keys: Vec<String> =
            ours.iter().rev().take(TRIED).filter_map(|cookie| joined([cookie, proof])).collect();
        let good = if keys.len() > 1 { keys.iter().position(|key| is_good(key)) } else { None };
        keys.into_iter().nth(good.unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{halves, new_key};

    const PLAIN: Gate = Gate { tls: false, port: 4711 };
    const TLS: Gate = Gate { tls: true, port: 7443 };

    fn shown(gate: Gate, lines: &[(&'static str, String)]) -> Option<String> {
        shown_of(gate, lines, "")
    }

    /// The `Authorization` of a request with these headers, where this key is good.
    fn shown_of(gate: Gate, lines: &[(&'static str, String)], good: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        gate.unfold(&mut headers, |key| key == good);
        assert!(!headers.contains_key(header::COOKIE) && !headers.contains_key(PROOF));
        headers.get(header::AUTHORIZATION).map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn both_halves_are_the_key_and_one_shows_nothing() {
        let key = new_key().unwrap();
        let [cookie, proof] = halves(&key).unwrap().unwrap();
        let bearer = Some(format!("Bearer {key}"));
        let proof = || ("kennel-page", proof.clone());
        let line = |text: String| ("cookie", text);
        for (gate, name) in [(PLAIN, "kennel-4711"), (TLS, "__Host-kennel-7443")] {
            let own = || format!("{name}={cookie}");
            assert_eq!(shown(gate, &[line(own()), proof()]), bearer);
            assert_eq!(shown(gate, &[line(format!("a=b; {}; c=d", own())), proof()]), bearer);
            assert_eq!(shown(gate, &[line("a=b".into()), line(own()), proof()]), bearer);
            for lines in [
                &[line(own())][..],
                &[proof()],
                &[line(own()), proof(), proof()],
                &[line(format!("kennel-1={cookie}")), proof()],
                &[line(format!("{name}=x")), proof()],
                &[line(own()), ("kennel-page", cookie[1..].to_owned())],
            ] {
                assert_eq!(shown(gate, lines), None, "{lines:?}");
            }
            let token = ("authorization", "Bearer other".to_owned());
            assert_eq!(shown(gate, &[line(own()), proof(), token]).as_deref(), Some("Bearer other"));
        }
        // Another half is another key, which nobody has.
        let [_, other] = halves(&key).unwrap().unwrap();
        let found = shown(PLAIN, &[line(format!("kennel-4711={cookie}")), ("kennel-page", other)]);
        assert!(found.is_some() && found != bearer);
    }

    #[test]
    fn of_a_few_cookies_of_the_name_the_good_one_is_found_and_over_tls_two_are_none() {
        let key = new_key().unwrap();
        let [cookie, proof] = halves(&key).unwrap().unwrap();
        let [foreign, _] = halves(&new_key().unwrap()).unwrap().unwrap();
        let bearer = Some(format!("Bearer {key}"));
        let lines = |gate: Gate, halves: &[&str]| {
            let name = gate.name();
            let cookies: Vec<String> = halves.iter().map(|half| format!("{name}={half}")).collect();
            shown_of(gate, &[("cookie", cookies.join("; ")), ("kennel-page", proof.clone())], &key)
        };
        let (own, other) = (&*cookie, &*foreign);
        // A browser sends the cookie of the longest path first, and kennel's own has the shortest.
        for good in [&[own][..], &[other, own], &[own, other], &["x", own]] {
            assert_eq!(lines(PLAIN, good), bearer, "{good:?}");
        }
        assert_eq!(lines(PLAIN, &[other, other, other, other, other, other, own]), bearer);
        let beyond = lines(PLAIN, &[own, other, other, other, other]);
        assert!(beyond.is_some() && beyond != bearer, "only so many are tried");
        assert_eq!(lines(TLS, &[own]), bearer);
        assert_eq!(lines(TLS, &[other, own]), None);
    }

    #[test]
    fn a_cookie_is_for_its_host_and_for_no_script() {
        let text = |cookie: HeaderValue| cookie.to_str().unwrap().to_owned();
        assert_eq!(
            text(PLAIN.set("x", Some(1_500))),
            "kennel-4711=x; Path=/; Max-Age=2; HttpOnly; SameSite=Strict"
        );
        assert_eq!(
            text(TLS.set("x", None)),
            "__Host-kennel-7443=x; Path=/; Max-Age=2592000; HttpOnly; SameSite=Strict; Secure"
        );
        assert!(text(TLS.clear()).starts_with("__Host-kennel-7443=; Path=/; Max-Age=0; "));
    }
}
