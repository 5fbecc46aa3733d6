//! The floor of a command: a program that connects to a Unix socket, asks, and prints what is answered. Is built by
//! `commands.rs`, by itself.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let [_, socket, method, path, body] = &args[..] else { panic!("SOCKET METHOD PATH BODY") };
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: kennel\r\nconnection: close\r\n");
    if !body.is_empty() {
        head += &format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len());
    }
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.write_all(format!("{head}\r\n{body}").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 20"), "{answer}");
    print!("{}", answer.split_once("\r\n\r\n").unwrap().1);
}
