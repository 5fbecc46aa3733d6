//! Clients that take their time: each phase of a connection has a deadline.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use harness::real::*;

use super::{address, client, connect, daemon, problem, read_until, refused, rest, session, tcp, tls_over};

/// All deadlines of connections, set small.
const SMALL: &str = "head_timeout = \"500ms\"\nidle_timeout = \"500ms\"\nstall_timeout = \"500ms\"";

#[test]
fn a_handshake_or_a_head_that_does_not_go_on_ends() {
    let daemon = daemon("", SMALL);
    let address = address(&daemon);
    // Nothing, the beginning of a record, and a record without end.
    for begun in [&b""[..], b"\x16\x03\x01", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03abc"] {
        let mut stream = tcp(address);
        stream.write_all(begun).unwrap();
        assert_eq!(rest(&mut stream), "", "{begun:?}");
    }
    until("they are counted", || (refused(&daemon, "handshake") == 3).then_some(()));
    // After the handshake: nothing at all, in both protocols.
    for protocol in ["http/1.1", "h2"] {
        let mut silent = tls_over(tcp(address), client(&[protocol], None));
        silent.conn.complete_io(&mut silent.sock).unwrap();
        rest(&mut silent);
    }
    // A head that goes on for ever, a byte at a time.
    let mut slow = connect(address);
    slow.write_all(b"GET / HTTP/1.1\r\nX: ").unwrap();
    slow.sock.set_read_timeout(Some(std::time::Duration::from_millis(20))).unwrap();
    let mut answer = Vec::new();
    until("the slow head's end", || {
        let _ = slow.write_all(b"x");
        let mut piece = [0; 4096];
        match slow.read(&mut piece) {
            Ok(0) => return Some(()),
            Ok(read) => answer.extend_from_slice(&piece[..read]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return Some(()),
        }
        None
    });
    assert_eq!(problem(&String::from_utf8_lossy(&answer)), (408, "request_timeout".into()));
    // An HTTP/2 preface without a request.
    let mut preface = tls_over(tcp(address), client(&["h2"], None));
    preface.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    rest(&mut preface);
    until("all heads are counted", || (refused(&daemon, "head") == 4).then_some(()));
}

#[test]
fn a_connection_that_rests_is_closed_and_a_stream_that_is_silent_is_not() {
    let daemon = daemon("", SMALL);
    let address = address(&daemon);
    let bearer = session(&daemon);
    let mut stream = connect(address);
    write!(stream, "GET /v1/sessions/s/events HTTP/1.1\r\nHost: localhost\r\n{bearer}\r\n").unwrap();
    read_until(&mut stream, "\r\n\r\n");
    for _ in 0..3 {
        let mut rests = connect(address);
        write!(rests, "GET /v1/sessions/s HTTP/1.1\r\nHost: localhost\r\n{bearer}\r\n").unwrap();
        // To the end that the daemon makes, thrice as long as anything may rest.
        assert!(rest(&mut rests).contains("\"id\":\"s\""));
    }
    daemon.ok(&["send", "s", "echo still there"]);
    read_until(&mut stream, "still there");
}

#[test]
fn a_client_of_a_stream_that_never_reads_is_left() {
    let daemon = daemon("", SMALL);
    let address = address(&daemon);
    let bearer = session(&daemon);
    let pid = daemon.pid();
    let open = || sockets(pid);
    // More than the kernel's buffers take.
    daemon.ok(&["send", "s", "head -c 20000000 /dev/zero | tr '\\0' x"]);
    let before = open();
    let ask = |stream: TcpStream| {
        rustix::net::sockopt::set_socket_recv_buffer_size(&stream, 4096).unwrap();
        let mut tls = tls_over(stream, client(&["http/1.1"], None));
        write!(tls, "GET /v1/sessions/s/events?after=0 HTTP/1.1\r\nHost: localhost\r\n{bearer}\r\n").unwrap();
        tls
    };
    let deaf: Vec<_> = (0..5).map(|_| ask(tcp(address))).collect();
    until("they are served", || (open() >= before + 5).then_some(()));
    until("they are left", || (open() <= before).then_some(()));
    // To here they were open: nobody else has ended them.
    drop(deaf);
}

#[test]
fn a_stream_of_http_2_that_never_reads_is_left_though_its_connection_is_read() {
    let daemon = daemon("", SMALL);
    let address = address(&daemon);
    let bearer = session(&daemon);
    daemon.ok(&["send", "s", "head -c 20000000 /dev/zero | tr '\\0' x"]);
    let pid = daemon.pid();
    let before = sockets(pid);
    let mut deaf = h2::connect(address);
    // The window of a stream is 64 KiB, and is never made larger.
    let path = "/v1/sessions/s/events?after=0";
    deaf.write_all(&h2::get(1, path, &bearer)).unwrap();
    // Before the daemon asks for a sign, which nobody gives.
    deaf.sock.set_read_timeout(Some(BOUND / 2)).unwrap();
    let mut all = Vec::new();
    let ended = deaf.read_to_end(&mut all);
    assert!(!ended.is_err_and(|error| error.kind() == ErrorKind::WouldBlock), "the daemon keeps it");
    assert!(all.len() > 60_000 && all.len() < 100_000, "{}", all.len());
    until("its sockets are closed", || (sockets(pid) <= before).then_some(()));
}

#[test]
fn requests_that_are_taken_back_at_once_end_the_connection_and_slow_nobody() {
    let daemon = daemon("", "");
    let address = address(&daemon);
    let bearer = session(&daemon);
    let flood = |pairs: u32| {
        let mut rapid = h2::connect(address);
        let mut flood = Vec::new();
        for stream in (0..pairs).map(|pair| 2 * pair + 1) {
            flood.extend(h2::get(stream, "/v1/sessions/s", &bearer));
            flood.extend(h2::frame(3, 0, stream, &8_u32.to_be_bytes()));
        }
        // The daemon may hang up before all was sent.
        let _ = rapid.write_all(&flood);
        let mut all = Vec::new();
        let _ = rapid.read_to_end(&mut all);
        all
    };
    // So few that the last words are not lost in a reset: GOAWAY with ENHANCE_YOUR_CALM.
    let said = flood(60);
    let calm = |(kind, body): &(u8, &[u8])| *kind == 7 && body.get(4..8) == Some(&[0, 0, 0, 11]);
    assert!(h2::frames(&said).iter().any(calm), "{:?}", h2::frames(&said));
    flood(20_000);
    assert_eq!(daemon.show("s").id.as_str(), "s");
    let mut good = connect(address);
    write!(good, "{}", super::get("/v1/sessions/s", &bearer)).unwrap();
    assert!(rest(&mut good).contains("200 OK"));
}

/// The sockets that a process has open.
fn sockets(pid: u32) -> usize {
    let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let targets = fds.filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok());
    targets.filter(|target| target.to_string_lossy().starts_with("socket:")).count()
}

/// HTTP/2 by hand (RFC 9113): a client that does what no library does.
mod h2 {
    use super::super::{Tls, client, tcp, tls_over};
    use std::io::Write;
    use std::net::SocketAddr;

    pub fn connect(address: SocketAddr) -> Tls {
        let mut tls = tls_over(tcp(address), client(&["h2"], None));
        tls.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        tls.write_all(&frame(4, 0, 0, &[])).unwrap();
        tls
    }

    pub fn frame(kind: u8, flags: u8, stream: u32, body: &[u8]) -> Vec<u8> {
        let mut frame = (body.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(body);
        frame
    }

    /// A request without a body. Its header fields are literals that no table keeps (RFC 7541, section 6.2.2).
    pub fn get(stream: u32, path: &str, authorization: &str) -> Vec<u8> {
        let authorization = authorization.trim().strip_prefix("Authorization: ").unwrap();
        let mut block = Vec::new();
        for (name, value) in [
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "127.0.0.1"),
            (":path", path),
            ("authorization", authorization),
        ] {
            block.push(0);
            for text in [name, value] {
                assert!(text.len() < 127);
                block.push(text.len() as u8);
                block.extend(text.as_bytes());
            }
        }
        frame(1, 5, stream, &block)
    }

    /// Kinds and contents of these frames.
    pub fn frames(mut bytes: &[u8]) -> Vec<(u8, &[u8])> {
        let mut all = Vec::new();
        while let [a, b, c, kind, _, _, _, _, _, rest @ ..] = bytes {
            let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
            let (body, after) = rest.split_at(length.min(rest.len()));
            all.push((*kind, body));
            bytes = after;
        }
        all
    }
}
