//! The log-in of a vendor that sends a browser to a port of the machine on which it runs, and the browser.
//!
//! | words | effect |
//! |---|---|
//! | `wait FILE` | listens on a port of loopback, prints a link that leads there, writes the code that arrives into the file, sends the browser on to its last page, and ends once that was asked for |
//! | `mute FILE` | the same, but it answers nothing: it writes the file when somebody asks, and waits |
//! | `browse URL` | opens an address as a browser does, with its redirects, and prints the last page |

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a fixture fails by panicking")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["wait", file] => wait(file, false),
        ["mute", file] => wait(file, true),
        ["browse", url] => println!("{}", browse(url)),
        _ => panic!("{args:?}"),
    }
}

fn wait(file: &str, is_mute: bool) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    println!(
        "Go to https://vendor.example/authorize?redirect_uri=http%3A%2F%2Flocalhost%3A{port}%2Fcallback&state=s"
    );
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line).unwrap();
        if is_mute {
            std::fs::write(file, "asked").unwrap();
            // Until the other end is closed.
            let _ = stream.read_to_end(&mut Vec::new());
            continue;
        }
        let path = line.split(' ').nth(1).unwrap_or_default();
        if let Some(code) = path.strip_prefix("/callback?code=") {
            std::fs::write(file, code).unwrap();
            let location = format!("http://localhost:{port}/success");
            write!(stream, "HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n")
                .unwrap();
        } else if path == "/success" {
            let page =
                "<html><head><title>t</title></head><body><h1>Signed in</h1> to the vendor</body></html>";
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{page}", page.len()).unwrap();
            println!("Logged in");
            return;
        } else {
            write!(stream, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").unwrap();
        }
    }
}

fn browse(url: &str) -> String {
    let (authority, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = TcpStream::connect(authority.replace("localhost", "127.0.0.1")).unwrap();
    write!(stream, "GET /{path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let location =
        head.lines().find_map(|line| line.to_lowercase().starts_with("location: ").then(|| &line[10..]));
    location.map_or_else(|| body.to_owned(), browse)
}
