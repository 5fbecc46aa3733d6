//! One connection: the process of `ssh`, the first line of the other end, HTTP/2.

use std::io::{self, Cursor, Read};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::thread::JoinHandle;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::task::AbortHandle;
use tokio::time::sleep;

use super::{Greeting, News, Ssh, SshOptions, Unreached, command};
use crate::client::host::HostAddress;
use crate::client::relay;

/// The first line that `connect-stdio` says: this, a version of what follows, and a [`Greeting`].
pub const HELLO: &str = "kennel-connect ";
/// The version of what follows the first line.
pub const PROTOCOL: u32 = 1;
/// The longest text before the first line has ended, in bytes: a shell's start files may print.
const MAX_BEFORE: usize = 64 * 1024;
/// Bytes that are kept of the last that `ssh` and the host write to standard error.
const MAX_SAID: usize = 4 * 1024;
/// The longest wait for the end of `ssh` after its output has ended.
const END: Duration = Duration::from_secs(2);
/// The time in which `ssh` leaves the terminal as it found it.
const TIDY: Duration = Duration::from_millis(200);
/// The interval between two looks at a process that ends.
const LOOK: Duration = Duration::from_millis(10);

/// A connection. Ends when it is dropped.
pub(super) struct Open {
    pub sender: http2::SendRequest<Full<Bytes>>,
    /// Reads and writes it.
    task: Task,
    process: Process,
}

/// A task that ends when this is dropped.
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Open {
    /// Ends it, and says why it had ended.
    pub(super) async fn end(self) -> String {
        drop(self.task);
        let (status, said) = self.process.end().await;
        reason(status, &said)
    }
}

/// Ends with the process that started it.
struct Process {
    child: Child,
    said: Option<JoinHandle<String>>,
}

impl Process {
    /// The last words of a process that has ended, or is ended now.
    async fn end(mut self) -> (Option<ExitStatus>, String) {
        let mut status = None;
        for _ in 0..END.as_millis() / LOOK.as_millis() {
            status = self.child.try_wait().ok().flatten();
            if status.is_some() {
                break;
            }
            sleep(LOOK).await;
        }
        let killed = status.is_none();
        drop(self.child.kill());
        let status = status.or_else(|| self.child.wait().ok());
        // A process that shares its connection with others may leave standard error open.
        let mut said = self.said.take();
        for _ in 0..10 {
            if said.as_ref().is_none_or(JoinHandle::is_finished) {
                break;
            }
            sleep(LOOK).await;
        }
        let said = said.take_if(|said| said.is_finished()).and_then(|said| said.join().ok());
        (status.filter(|_| !killed), said.unwrap_or_default())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Not yet reaped: the number is its own.
        if let Ok(None) = self.child.try_wait() {
            let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
            let end = std::time::Instant::now() + TIDY;
            while matches!(self.child.try_wait(), Ok(None)) && std::time::Instant::now() < end {
                std::thread::park_timeout(LOOK);
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ssh {
    /// Connects. `within` a time, nobody is asked for a password.
    pub(super) async fn open(&self, within: Option<Duration>) -> Result<Open, Unreached> {
        let connecting = self.connect(within);
        match within {
            None => connecting.await,
            Some(within) => match tokio::time::timeout(within, connecting).await {
                Ok(opened) => opened,
                Err(_) => Err(self.unreachable(format!("no answer within {} s", within.as_secs()), None)),
            },
        }
    }

    async fn connect(&self, within: Option<Duration>) -> Result<Open, Unreached> {
        let cannot = |error: io::Error| self.unreachable(format!("ssh cannot be started: {error}"), None);
        if !command::is_there() {
            let hint = "install the client of OpenSSH, or mend PATH".to_owned();
            return Err(self.unreachable("this machine has no `ssh` in its PATH".to_owned(), Some(hint)));
        }
        let mut child = command::of(&self.options, within).spawn().map_err(cannot)?;
        let said = child.stderr.take().map(|err| std::thread::spawn(move || last_of(err)));
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let process = Process { child, said };
        let (Some(input), Some(output)) = (input, output) else {
            return Err(cannot(io::ErrorKind::BrokenPipe.into()));
        };
        let mut output = pipe::Receiver::from_owned_fd(OwnedFd::from(output)).map_err(cannot)?;
        let input = pipe::Sender::from_owned_fd(OwnedFd::from(input)).map_err(cannot)?;
        let (greeting, rest) = match self.hear(&mut output).await {
            Ok(heard) => heard,
            Err(Heard::Nothing(before)) => {
                let (status, said) = process.end().await;
                return Err(self.refused(status, &said, &before));
            }
            Err(Heard::Other(what)) => {
                return Err(self.unreachable(what, Some("is kennel there of another version?".to_owned())));
            }
        };
        let stream = tokio::io::join(AsyncReadExt::chain(Cursor::new(rest), output), input);
        let mut http = http2::Builder::new(TokioExecutor::new());
        http.initial_stream_window_size(relay::STREAM_WINDOW)
            .initial_connection_window_size(relay::CONNECTION_WINDOW);
        let (sender, connection) = http
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.unreachable(format!("the connection: {error}"), None))?;
        // Its errors are those of the requests, which are seen there.
        let task = Task(tokio::spawn(connection).abort_handle());
        if self.state().greeting.replace(greeting.clone()).is_none() {
            (self.tell)(News::Reached(greeting));
        }
        Ok(Open { sender, task, process })
    }

    /// Reads the first line, and what came after it in one piece.
    async fn hear(&self, output: &mut pipe::Receiver) -> Result<(Greeting, Vec<u8>), Heard> {
        let mut heard = Vec::new();
        loop {
            let mut piece = [0; 4096];
            let read = output.read(&mut piece).await.unwrap_or(0);
            heard.extend_from_slice(&piece[..read]);
            if let Some((line, rest)) = first_line(&heard) {
                return greeting(line).map(|greeting| (greeting, rest.to_vec())).map_err(Heard::Other);
            }
            if read == 0 {
                return Err(Heard::Nothing(String::from_utf8_lossy(&heard).into_owned()));
            }
            if heard.len() > MAX_BEFORE {
                return Err(Heard::Other("it says something else than kennel would".to_owned()));
            }
        }
    }

    /// Why `ssh` ended before kennel said anything.
    fn refused(&self, status: Option<ExitStatus>, said: &str, before: &str) -> Unreached {
        // Without kennel, 127; `exec` of a shell that is none of POSIX may say so in words only.
        let missing = status.and_then(|status| status.code()) == Some(127);
        let SshOptions { name, address, .. } = &self.options;
        let hint = missing.then(|| match HostAddress::is_meant(name) {
            true => format!(
                "install kennel there, or say where it is: `kennel host add NAME {address} --kennel /path/to/kennel`"
            ),
            false => format!(
                "install kennel there, or say where it is: `kennel host rm {name}`, then `kennel host add {name} {address} \
                 --kennel /path/to/kennel`"
            ),
        });
        let said = if said.trim().is_empty() { before } else { said };
        self.unreachable(reason(status, said), hint)
    }

    fn unreachable(&self, what: String, hint: Option<String>) -> Unreached {
        Unreached { what, hint }
    }
}

/// How `ssh` ended, with its last words.
fn reason(status: Option<ExitStatus>, said: &str) -> String {
    let said = said.trim();
    let ended = match status.map(|status| (status.code(), status.signal())) {
        Some((Some(255), _)) => "ssh could not connect, or the connection was lost".to_owned(),
        Some((Some(127), _)) => "there is no kennel".to_owned(),
        Some((Some(code), _)) => format!("ssh ended with {code}"),
        Some((None, Some(signal))) => format!("ssh was ended by signal {signal}"),
        _ => "the connection was lost".to_owned(),
    };
    match said.is_empty() {
        true => ended,
        false => format!("{ended}:\n{said}"),
    }
}

/// Input in place of the first line.
enum Heard {
    /// The output ended with this.
    Nothing(String),
    /// Something else.
    Other(String),
}

/// The first line of `connect-stdio`, and what follows it. Start files of a shell may have printed before.
fn first_line(heard: &[u8]) -> Option<(&[u8], &[u8])> {
    let begin = heard.windows(HELLO.len()).position(|part| part == HELLO.as_bytes())?;
    let line = &heard[begin + HELLO.len()..];
    let end = line.iter().position(|byte| *byte == b'\n')?;
    Some((&line[..end], &line[end + 1..]))
}

/// Reads the first line without its beginning.
fn greeting(line: &[u8]) -> Result<Greeting, String> {
    let line = String::from_utf8_lossy(line);
    let (version, greeting) = line.split_once(' ').unwrap_or((&line, ""));
    if version != PROTOCOL.to_string() {
        return Err(format!(
            "its kennel connects in the way {version:?}, and this one in the way {PROTOCOL}"
        ));
    }
    serde_json::from_str(greeting).map_err(|error| format!("it greets in an unknown way: {error}"))
}

/// The last of a text that ends when its writer does. On a thread: `ssh` must never wait for a reader.
fn last_of(mut from: impl Read) -> String {
    let mut last = Vec::new();
    let mut piece = [0; 1024];
    while let Ok(read @ 1..) = from.read(&mut piece) {
        last.extend_from_slice(&piece[..read]);
        if last.len() > MAX_SAID {
            last.drain(..last.len() - MAX_SAID);
        }
    }
    String::from_utf8_lossy(&last).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_is_found_behind_what_a_shell_prints() {
        let said = b"Welcome!\nno newline kennel-connect 1 {\"version\":\"v\",\"home\":\"/h\",\"state_dir\":\"/s\",\"new\":1}\nPRI";
        let (line, rest) = first_line(said).unwrap();
        assert_eq!(rest, b"PRI");
        assert_eq!(greeting(line).unwrap().home, "/h");
        assert!(first_line(b"kennel-connect 1 {").is_none());
        assert!(greeting(b"2 {}").unwrap_err().contains("\"2\""));
        assert!(greeting(b"1 []").is_err());
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_heard_is_a_greeting_or_none(before in ".{0,80}", line in ".{0,200}", rest: Vec<u8>) {
            let heard = [before.as_bytes(), HELLO.as_bytes(), line.as_bytes(), b"\n", &rest].concat();
            let (found, _) = first_line(&heard).unwrap();
            let _ = greeting(found);
            let _ = first_line(&rest).map(|(line, _)| greeting(line).is_ok());
        }
    }

    #[test]
    fn only_the_end_of_what_a_host_says_is_kept() {
        let said = last_of(Cursor::new([&[b'a'; 100_000][..], b"the end"].concat()));
        assert!(said.ends_with("the end") && said.len() <= MAX_SAID, "{}", said.len());
    }
}
