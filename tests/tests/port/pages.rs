//! The web page on the TLS port: for a phone.

use std::io::Write;

use manager::protocol::api::{WebLink, WebLoggedIn};
use serde_json::json;

use super::answers::curl;
use super::devices::typed;
use super::{address, answer_to, connect, daemon, fingerprint, get, problem, read_until, rest, status};

fn header<'a>(answer: &'a str, name: &str) -> &'a str {
    let found = answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    found.unwrap_or_else(|| panic!("no {name} in {answer}"))
}

#[test]
fn a_phone_logs_in_by_tls_with_a_cookie_that_is_for_tls_alone() {
    let daemon = daemon("", "");
    let port = address(&daemon);
    let shown = daemon.ok(&["web", "--phone", "--qr", "--role", "viewer"]);
    let link = shown.lines().find(|line| line.starts_with("https://")).expect("a link");
    assert!(shown.contains('▀') && shown.contains(&fingerprint(port)), "{shown}");
    let (origin, ticket) = link.split_once("/#").unwrap();
    assert_eq!(origin, format!("https://{port}"));
    let made: WebLink = daemon.json(&["web", "--phone"]);
    assert!(made.origin.is_none());
    let info: manager::protocol::api::ManagerInfo = daemon.json(&["daemon", "status"]);
    assert!(info.web.is_none(), "no port on loopback was opened");

    let page = answer_to(port, &get("/", ""));
    assert!(status(&page) == 200 && page.contains("<!doctype html>"), "{page}");
    assert!(header(&page, "content-security-policy").starts_with("default-src 'none'; script-src 'self'"));
    let body = json!({ "ticket": ticket }).to_string();
    let login = format!(
        "POST /v1/web/login HTTP/1.1\r\nHost: {port}\r\nOrigin: {origin}\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = answer_to(port, &login);
    assert_eq!(status(&answer), 200, "{answer}");
    let cookie = header(&answer, "set-cookie");
    assert!(cookie.starts_with(&format!("__Host-kennel-{}=", port.port())), "{cookie}");
    assert!(
        cookie.ends_with("; HttpOnly; SameSite=Strict; Secure") && !cookie.contains("Domain"),
        "{cookie}"
    );
    let told: WebLoggedIn = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    let half = format!("Cookie: {}\r\n", cookie.split_once(';').unwrap().0);
    let both = format!("{half}Kennel-Page: {}\r\n", told.proof);
    assert_eq!(problem(&answer_to(port, &get("/v1/sessions", &half))), (401, "key_needed".into()));
    assert_eq!(status(&answer_to(port, &get("/v1/sessions", &both))), 200);
    let own = format!("{both}Origin: https://127.0.0.1\r\n");
    assert_eq!(status(&answer_to(port, &get("/v1/sessions", &own))), 200, "the host that the request names");
    for foreign in ["http://127.0.0.1", "https://127.0.0.1:1", "https://evil.example", "null"] {
        let foreign = format!("{both}Origin: {foreign}\r\n");
        assert_eq!(problem(&answer_to(port, &get("/v1/sessions", &foreign))), (403, "origin_refused".into()));
    }
    assert_eq!(status(&answer_to(port, &login)), 401, "once");

    // A stream ends with the key.
    let mut stream = connect(port);
    stream.write_all(get("/v1/events?after=0", &both).as_bytes()).unwrap();
    read_until(&mut stream, "event: ");
    daemon.ok(&["key", "revoke", &told.key.id.to_string()]);
    rest(&mut stream);
}

#[test]
fn a_good_link_is_let_in_though_its_address_has_shown_wrong_keys() {
    let daemon = daemon("", "");
    let port = address(&daemon);
    let logs_in = |ticket: &str| {
        let body = json!({ "ticket": ticket }).to_string();
        let head = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
        answer_to(port, &(get("/v1/web/login", &head).replacen("GET ", "POST ", 1) + &body))
    };
    for _ in 0..10 {
        assert_eq!(problem(&logs_in("guess")), (401, "bad_ticket".into()));
    }
    let refused = logs_in("guess");
    assert_eq!(problem(&refused), (429, "too_many_failures".into()));
    assert!(header(&refused, "retry-after").parse::<u64>().unwrap() <= 61);
    let made: WebLink = daemon.json(&["web", "--phone"]);
    assert_eq!(status(&logs_in(&made.ticket)), 200);
    assert_eq!(problem(&logs_in(&made.ticket)), (429, "too_many_failures".into()), "once");
    assert_eq!((super::refused(&daemon, "key"), super::refused(&daemon, "failures")), (10, 2));
}

#[test]
fn http_2_has_the_page_and_its_walls() {
    let daemon = daemon("", "");
    let base = format!("https://{}", address(&daemon));
    let key = daemon.ok(&["key", "create", "typed", "--role", "viewer"]);
    let body = json!({ "key": key.trim() }).to_string();
    let json = ["-H", "Content-Type: application/json", "-d", &body, "-D", "-"];
    let answer = curl(&[&json[..], &[&format!("{base}/v1/web/login")]].concat());
    let (head, told) = answer.split_once("\r\n\r\n").unwrap();
    let told: WebLoggedIn = serde_json::from_str(told).unwrap();
    let cookie = header(head, "set-cookie").split_once(';').unwrap().0.to_owned();
    let (cookie, proof) = (format!("Cookie: {cookie}"), format!("Kennel-Page: {}", told.proof));
    let said = ["--write-out", "\n%{http_version} %{response_code}"];
    let asks = |headers: &[&str], path: &str| {
        let headers: Vec<&str> = headers.iter().flat_map(|line| ["-H", line]).collect();
        curl(&[&said[..], &headers, &[&format!("{base}{path}")]].concat())
    };
    assert!(asks(&[], "/").ends_with("\n2 200"));
    // One cookie a line, as browsers send them.
    assert!(asks(&["Cookie: a=b", &cookie, &proof], "/v1/web/me").ends_with("\n2 200"));
    assert!(asks(&[&cookie], "/v1/web/me").ends_with("\n2 401"));
    assert!(asks(&[&cookie, &proof, "Origin: https://evil.example"], "/v1/web/me").ends_with("\n2 403"));
    assert!(asks(&[&cookie, &proof, &format!("Origin: {base}")], "/v1/web/me").ends_with("\n2 200"));
}

#[test]
fn a_paired_machine_with_an_admins_key_makes_a_link_to_the_hosts_port() {
    let daemon = daemon("", "");
    for (name, role) in [("boss", "admin"), ("helper", "driver")] {
        let shown = daemon.ok(&["pair", "--no-wait", "--name", name, "--role", role]);
        assert_eq!(typed(&daemon, &["host", "pair", name], &shown).code, Some(0));
    }
    let shown = daemon.ok(&["-H", "boss", "web"]);
    let port = address(&daemon);
    let ticket = shown.lines().next().and_then(|line| line.strip_prefix(&format!("https://{port}/#")));
    let ticket = ticket.unwrap_or_else(|| panic!("{shown}"));
    let body = json!({ "ticket": ticket }).to_string();
    let json = ["-H", "Content-Type: application/json", "-d", &body];
    let told = curl(&[&json[..], &[&format!("https://{port}/v1/web/login")]].concat());
    assert!(told.contains("\"proof\""), "{told}");
    let refused = daemon.run(&["-H", "helper", "web"]);
    assert!(refused.code == Some(5) && refused.stderr.contains("admin"), "{refused:?}");
}
