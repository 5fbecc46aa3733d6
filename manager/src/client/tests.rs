//! The client, with servers that answer, hang up, or are not there.

use std::os::fd::AsFd;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

use super::*;

#[test]
fn any_text_can_be_asked_for() {
    assert_eq!(encoded("session-1"), "session-1");
    assert_eq!(encoded("a/../b?c&d=é \n"), "a%2F..%2Fb%3Fc%26d%3D%C3%A9%20%0A");
}

/// Asks a server that answers with these bytes and hangs up.
async fn answered(bytes: &'static [u8]) -> Result<Bytes, ClientError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = [0; 1024];
        let read = stream.read(&mut asked).await.unwrap();
        assert!(asked[..read].starts_with(b"GET /x HTTP/1.1\r\n"));
        stream.write_all(bytes).await.unwrap();
    };
    let client = Client::new(path);
    let request = Request::get("/x");
    tokio::join!(server, client.ask(&request)).1
}

#[tokio::test]
async fn answers_are_whole_or_not_at_all() {
    assert_eq!(&*answered(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap(), b"ok");
    for cut in [
        &b""[..],
        b"HTTP/1.1 200 OK\r\nconte",
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n",
    ] {
        assert!(matches!(answered(cut).await, Err(ClientError::Lost(_))), "{cut:?}");
    }
    assert!(matches!(
        answered(b"HTTP/1.1 500 Oops\r\ncontent-length: 1\r\n\r\nx").await,
        Err(ClientError::Garbage(_))
    ));
    let problem = answered(
        b"HTTP/1.1 404 Not Found\r\ncontent-length: 85\r\n\r\n\
        {\"type\":\"about:blank\",\"title\":\"\",\"status\":404,\"code\":\"no_such_session\",\"detail\":\"x\"} ",
    );
    match problem.await {
        Err(ClientError::Problem(problem)) => assert_eq!(problem.code, "no_such_session"),
        other => panic!("{other:?}"),
    }
}

/// Reads a request, and answers with its first line.
async fn answer_one(stream: &mut UnixStream) {
    let mut asked = Vec::new();
    while !asked.ends_with(b"\r\n\r\n") {
        asked.push(stream.read_u8().await.unwrap());
    }
    let line = String::from_utf8(asked).unwrap().lines().next().unwrap().to_owned();
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{line}", line.len());
    stream.write_all(answer.as_bytes()).await.unwrap();
}

#[tokio::test]
async fn a_look_after_a_change_takes_the_same_connection_if_it_is_still_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let client = Client::new(path);
    let ask = async |request: Request| client.ask(&request).await.unwrap();
    for closed in [false, true] {
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            answer_one(&mut stream).await;
            if closed {
                drop(stream);
                (stream, _) = listener.accept().await.unwrap();
            }
            answer_one(&mut stream).await;
            // A change never takes one that may be closing: nobody could say whether it was done.
            let (mut next, _) = listener.accept().await.unwrap();
            answer_one(&mut next).await;
            let (mut last, _) = listener.accept().await.unwrap();
            answer_one(&mut last).await;
        };
        let asking = async {
            assert_eq!(ask(Request::post("/one").keep()).await, "POST /one HTTP/1.1");
            assert_eq!(ask(Request::get("/two")).await, "GET /two HTTP/1.1");
            assert_eq!(ask(Request::post("/three").keep()).await, "POST /three HTTP/1.1");
            assert_eq!(ask(Request::post("/four")).await, "POST /four HTTP/1.1");
        };
        let both = async { tokio::join!(server, asking) };
        tokio::time::timeout(Duration::from_secs(30), both).await.unwrap();
        client.kept().take();
    }
}

/// Ends a listener for everybody. Dropped alone, it lives on in a process that another test's thread has forked and that
/// has not reached its program yet.
fn hang_up(listener: impl AsFd) {
    rustix::net::shutdown(listener, rustix::net::Shutdown::Both).unwrap();
}

#[tokio::test]
async fn a_descriptor_of_the_socket_leads_there_without_the_path_until_nobody_listens() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let inherited = rustix::fs::open(&path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
    std::fs::remove_file(&path).unwrap();
    let client = Client::new(path.clone()).by_descriptor(inherited.as_raw_fd().unsigned_abs());
    drop(inherited);
    let (connected, accepted) = tokio::join!(client.connect(), listener.accept());
    assert!(connected.is_ok() && accepted.is_ok());
    hang_up(listener);
    assert!(matches!(client.connect().await, Err(ClientError::Absent(_))));
    let next = UnixListener::bind(&path).unwrap();
    let (connected, accepted) = tokio::join!(client.connect(), next.accept());
    assert!(connected.is_ok() && accepted.is_ok());
}

#[tokio::test]
async fn a_descriptor_of_something_else_is_not_heeded() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let file = std::fs::File::open(dir.path()).unwrap();
    let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    for number in [file.as_raw_fd(), one.as_raw_fd(), listener.as_raw_fd(), 9999] {
        let client = Client::new(path.clone()).by_descriptor(number.unsigned_abs());
        let (connected, accepted) = tokio::join!(client.connect(), listener.accept());
        assert!(connected.is_ok() && accepted.is_ok(), "{number}");
    }
}

#[tokio::test]
async fn an_empty_place_is_told_from_a_closed_door() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    assert!(matches!(Client::new(path.clone()).connect().await, Err(ClientError::Absent(_))));
    hang_up(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(matches!(Client::new(path).connect().await, Err(ClientError::Absent(_))));
}
