//! The web page of a real daemon, over its port on loopback, as browsers, other sites and other users of the machine ask it.

mod files;
mod links;
mod ports;
mod rights;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use harness::daemon::Daemon;
use harness::real::*;
use manager::protocol::api::{KeyInfo, ManagerInfo, WebLink};
use serde_json::{Value, json};

/// An answer.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn read(stream: &mut TcpStream) -> Self {
        let all = rest(stream);
        let (head, body) = all.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {all:?}"));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap();
        Self { status, head: head.to_owned(), body: body.to_owned() }
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Status and code of a problem.
    fn problem(&self) -> (u16, String) {
        (self.status, self.json()["code"].as_str().unwrap_or_else(|| panic!("{self:?}")).to_owned())
    }

    /// The header of this name, which hyper writes with small letters.
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

fn tcp(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, BOUND).unwrap();
    stream.set_read_timeout(Some(BOUND)).unwrap();
    stream.set_write_timeout(Some(BOUND)).unwrap();
    stream
}

/// A request's bytes. `headers` end with the ends of their lines; they may have another `Host`.
fn request(address: SocketAddr, (method, path): (&str, &str), headers: &str, body: &Value) -> String {
    let host = if headers.contains("Host: ") { String::new() } else { format!("Host: {address}\r\n") };
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
    let length = body.len();
    format!(
        "{method} {path} HTTP/1.1\r\n{host}Connection: close\r\n{headers}{kind}Content-Length: {length}\r\n\r\n{body}"
    )
}

fn ask(address: SocketAddr, what: (&str, &str), headers: &str, body: &Value) -> Answer {
    let mut stream = tcp(address);
    stream.write_all(request(address, what, headers, body).as_bytes()).unwrap();
    Answer::read(&mut stream)
}

fn get(address: SocketAddr, path: &str, headers: &str) -> Answer {
    ask(address, ("GET", path), headers, &Value::Null)
}

/// A link of `kennel web` with these options, and the address that it leads to.
fn link(daemon: &Daemon, args: &[&str]) -> (WebLink, SocketAddr) {
    let made: WebLink = daemon.json(&[&["web"], args].concat());
    let origin = made.origin.as_deref().unwrap();
    let address = origin.strip_prefix("http://").unwrap().parse().unwrap();
    (made, address)
}

/// A browser that is logged in.
struct Browser {
    address: SocketAddr,
    /// Name and value.
    cookie: String,
    proof: String,
    key: Value,
}

impl Browser {
    /// One that has opened a link with these options.
    fn new(daemon: &Daemon, args: &[&str]) -> Self {
        let (link, address) = link(daemon, args);
        Self::with(address, &json!({ "ticket": link.ticket })).unwrap()
    }

    /// Logs in with this.
    fn with(address: SocketAddr, secret: &Value) -> Result<Self, Answer> {
        let own = format!(
            "Origin: http://{address}\r\nSec-Fetch-Site: same-origin\r\nUser-Agent: Firefox/127.0 Linux\r\n"
        );
        let answer = ask(address, ("POST", "/v1/web/login"), &own, secret);
        if answer.status != 200 {
            return Err(answer);
        }
        let mut told = answer.json();
        let (proof, key) = (told["proof"].as_str().unwrap().to_owned(), told["key"].take());
        let cookie = answer.header("set-cookie").unwrap();
        let (cookie, flags) = cookie.split_once("; ").unwrap();
        assert!(cookie.starts_with(&format!("kennel-{}=", address.port())), "{cookie}");
        assert!(
            flags.starts_with("Path=/; Max-Age=") && flags.ends_with("; HttpOnly; SameSite=Strict"),
            "{flags}"
        );
        assert!(!flags.contains("Domain"), "{flags}");
        Ok(Self { address, cookie: cookie.to_owned(), proof, key })
    }

    /// The headers of a request of the page.
    fn headers(&self) -> String {
        format!("Cookie: {}\r\nKennel-Page: {}\r\nSec-Fetch-Site: same-origin\r\n", self.cookie, self.proof)
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Answer {
        ask(self.address, (method, path), &self.headers(), body)
    }

    fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &Value::Null)
    }

    /// A stream of events that is open.
    fn stream(&self) -> TcpStream {
        let mut stream = tcp(self.address);
        let asks = request(self.address, ("GET", "/v1/events?after=0"), &self.headers(), &Value::Null);
        stream.write_all(asks.as_bytes()).unwrap();
        let mut begun = Vec::new();
        while !String::from_utf8_lossy(&begun).contains("event: ") {
            let mut piece = [0; 4096];
            let read = stream.read(&mut piece).unwrap();
            assert!(read > 0, "{}", String::from_utf8_lossy(&begun));
            begun.extend_from_slice(&piece[..read]);
        }
        stream
    }
}

/// Reads a stream to its end, which comes.
fn ends(mut stream: TcpStream) {
    let mut piece = [0; 65536];
    loop {
        match stream.read(&mut piece) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return,
            Err(error) => panic!("the stream goes on: {error}"),
        }
    }
}

fn keys(daemon: &Daemon) -> Vec<KeyInfo> {
    daemon.json(&["key", "ls"])
}

fn page(daemon: &Daemon) -> Option<manager::protocol::api::WebInfo> {
    daemon.json::<ManagerInfo>(&["daemon", "status"]).web
}
