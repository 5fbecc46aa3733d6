//! One request to a port at which a program of a log-in listens, in the place of a browser that is on another machine.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, Response, header};
use hyper_util::rt::TokioIo;
use protocol::api::VisitAnswer;
use tokio::net::TcpStream;

use super::{Address, text};
use crate::error::Error;
use crate::system::{blocking, listeners};

/// Time for the whole answer.
const LONGEST: Duration = Duration::from_secs(20);
/// The most that is read of an answer, in bytes.
const ANSWER: usize = 64 * 1024;

/// Opens an address, if it is a process below this one that listens there. Follows nothing.
pub async fn visit(worker: u32, address: &Address) -> Result<VisitAnswer, Error> {
    let port = address.port;
    // Looked at now: another process may have taken the port since the link was shown.
    let Some(ip) = listens(worker, port).await else {
        return Err(not_its_port(port));
    };
    match tokio::time::timeout(LONGEST, ask(worker, SocketAddr::new(ip, port), address)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(Refused::NotItsPort)) => Err(not_its_port(port)),
        Ok(Err(Refused::NoAnswer(why))) => Err(no_answer(&why)),
        Err(_) => Err(no_answer(&format!("nothing came within {} s", LONGEST.as_secs()))),
    }
}

/// Why there is no answer.
enum Refused {
    NotItsPort,
    NoAnswer(String),
}

impl From<String> for Refused {
    fn from(why: String) -> Self {
        Self::NoAnswer(why)
    }
}

async fn ask(worker: u32, at: SocketAddr, address: &Address) -> Result<VisitAnswer, Refused> {
    let stream = TcpStream::connect(at).await.map_err(|error| error.to_string())?;
    // Looked at again before anything is sent: the port may have changed hands between the look and the connection.
    if listens(worker, at.port()).await != Some(at.ip()) {
        return Err(Refused::NotItsPort);
    }
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    let connection = tokio::spawn(connection);
    let request = Request::get(address.path.as_str())
        .header(header::HOST, format!("{}:{}", address.host, address.port))
        .header(header::USER_AGENT, "kennel")
        .header(header::ACCEPT, "text/html, text/plain")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|_| "the address is none".to_owned())?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        Ok(read(response, address).await)
    };
    let answer = answer.await;
    connection.abort();
    answer
}

/// The address at which a program of the log-in listens on this port, and nobody else.
async fn listens(worker: u32, port: u16) -> Option<IpAddr> {
    blocking::run(move || listeners::below(worker, port)).await.flatten()
}

async fn read(response: Response<Incoming>, address: &Address) -> VisitAnswer {
    let status = response.status().as_u16();
    let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
    let is_redirect = response.status().is_redirection();
    let next = location.filter(|_| is_redirect).and_then(|location| address.next(location));
    let (mut body, mut page) = (response.into_body(), Vec::new());
    // A body that breaks off is shown as far as it came.
    while let Some(Ok(frame)) = body.frame().await
        && page.len() < ANSWER
    {
        if let Some(bytes) = frame.data_ref() {
            page.extend_from_slice(&bytes[..bytes.len().min(ANSWER - page.len())]);
        }
    }
    let text = text::of_page(&String::from_utf8_lossy(&page));
    VisitAnswer { status, text, next: next.map(|next| next.to_string()) }
}

fn not_its_port(port: u16) -> Error {
    let message =
        format!("no program of this log-in listens on port {port} of the server; nothing was opened");
    let hint = "open the link that the log-in shows, and paste the address to which the browser is sent";
    Error::invalid_with("not_its_port", message, hint)
}

fn no_answer(why: &str) -> Error {
    let message = format!("the log-in's program did not answer at its port: {why}");
    Error::invalid_with("no_login_answer", message, "what it shows may say more; the log-in goes on")
}
