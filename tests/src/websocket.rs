//! A client of WebSockets over a Unix socket, written by hand: it can also send what no honest client sends.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex};

use crate::real::BOUND;

/// The first byte of a whole text frame.
pub const TEXT: u8 = 0x81;
/// The first byte of a ping.
pub const PING: u8 = 0x89;

/// A frame from the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A text.
    Text(String),
    /// A ping.
    Ping(Vec<u8>),
    /// A pong.
    Pong(Vec<u8>),
    /// The end, with its code and reason.
    Close(u16, String),
}

/// The server's answer to a request that it does not upgrade: its status, its head and its body.
#[derive(Debug)]
pub struct Refused {
    /// The status.
    pub status: u16,
    /// The head.
    pub head: String,
    /// The body.
    pub body: String,
}

/// The end that sends.
#[derive(Clone)]
pub struct Sender {
    /// One frame after the other.
    stream: Arc<Mutex<UnixStream>>,
    /// The same, for whoever cuts it in the middle of one.
    cut: Arc<UnixStream>,
}

/// The end that receives. Answers pings by itself.
pub struct Receiver {
    stream: BufReader<UnixStream>,
    sender: Sender,
}

/// Headers of an honest request for a WebSocket.
pub const HONEST: [(&str, &str); 4] = [
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

/// Opens a WebSocket with the honest headers and these.
pub fn open(socket: &Path, path: &str, more: &[(&str, &str)]) -> Result<(Sender, Receiver), Refused> {
    open_with(socket, path, &[&HONEST, more].concat())
}

/// Opens a WebSocket with these headers only.
pub fn open_with(socket: &Path, path: &str, headers: &[(&str, &str)]) -> Result<(Sender, Receiver), Refused> {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(BOUND)).unwrap();
    stream.set_write_timeout(Some(BOUND)).unwrap();
    let mut request = format!("GET {path} HTTP/1.1\r\nHost: kennel\r\n");
    headers.iter().for_each(|(name, value)| request += &format!("{name}: {value}\r\n"));
    stream.write_all((request + "\r\n").as_bytes()).unwrap();
    let cut = Arc::new(stream.try_clone().unwrap());
    let sender = Sender { stream: Arc::new(Mutex::new(stream.try_clone().unwrap())), cut };
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(stream.read_line(&mut head).unwrap(), 0, "{head}");
    }
    let status = head[9..12].parse().unwrap();
    if status == 101 {
        // That of the sample key of RFC 6455.
        let accepted = head.to_lowercase().contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=");
        assert!(accepted || !headers.contains(&HONEST[3]), "{head}");
        return Ok((sender.clone(), Receiver { stream, sender }));
    }
    let lower = head.to_lowercase();
    let length = lower.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.trim().parse().unwrap())];
    stream.read_exact(&mut body).unwrap();
    Err(Refused { status, head, body: String::from_utf8(body).unwrap() })
}

impl Sender {
    /// Sends a text. Returns false if the connection is gone.
    pub fn text(&self, text: &str) -> bool {
        self.frame(TEXT, text.as_bytes())
    }

    /// Sends a masked frame. `first` is its first byte.
    pub fn frame(&self, first: u8, payload: &[u8]) -> bool {
        let mask = [0x5a, 0x17, 0xc3, 0x80];
        let mut bytes = Self::head(first, 0x80, payload.len() as u64);
        bytes.extend(mask);
        bytes.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]));
        self.raw(&bytes)
    }

    /// The head of a frame of this length, up to its mask.
    pub fn head(first: u8, masked: u8, length: u64) -> Vec<u8> {
        let mut bytes = vec![first];
        match length {
            0..126 => bytes.push(masked | length as u8),
            126..65_536 => {
                bytes.push(masked | 126);
                bytes.extend((length as u16).to_be_bytes());
            }
            _ => {
                bytes.push(masked | 127);
                bytes.extend(length.to_be_bytes());
            }
        }
        bytes
    }

    /// Sends bytes, whatever they are.
    pub fn raw(&self, bytes: &[u8]) -> bool {
        self.stream.lock().unwrap().write_all(bytes).is_ok()
    }

    /// Cuts the connection.
    pub fn cut(&self) {
        // It may be cut already.
        let _ = self.cut.shutdown(Shutdown::Both);
    }
}

impl Receiver {
    /// The next frame; none at the end of the connection.
    pub fn frame(&mut self) -> Option<Frame> {
        let mut two = [0; 2];
        self.stream.read_exact(&mut two).ok()?;
        assert_eq!(two[1] & 0x80, 0, "a server does not mask");
        assert_eq!(two[0] & 0x70, 0, "no extension was agreed upon");
        let length = match two[1] {
            126 => u64::from(u16::from_be_bytes(self.bytes()?)),
            127 => u64::from_be_bytes(self.bytes()?),
            length => u64::from(length),
        };
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        self.stream.read_exact(&mut payload).ok()?;
        Some(match two[0] {
            TEXT => Frame::Text(String::from_utf8(payload).unwrap()),
            0x88 if payload.len() < 2 => Frame::Close(0, String::new()),
            0x88 => {
                let code = u16::from_be_bytes([payload[0], payload[1]]);
                Frame::Close(code, String::from_utf8(payload[2..].to_vec()).unwrap())
            }
            PING => {
                self.sender.frame(0x8a, &payload);
                Frame::Ping(payload)
            }
            0x8a => Frame::Pong(payload),
            other => panic!("a frame that begins with {other:#x}"),
        })
    }

    /// The next text; none at the end.
    pub fn text(&mut self) -> Option<String> {
        loop {
            match self.frame()? {
                Frame::Text(text) => return Some(text),
                Frame::Ping(_) | Frame::Pong(_) => {}
                Frame::Close(..) => return None,
            }
        }
    }

    /// Reads to the end. Returns code and reason of the last frame, if there is one.
    pub fn end(&mut self) -> Option<(u16, String)> {
        let mut last = None;
        while let Some(frame) = self.frame() {
            if let Frame::Close(code, reason) = frame {
                last = Some((code, reason));
            }
        }
        last
    }

    fn bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes).ok()?;
        Some(bytes)
    }
}
