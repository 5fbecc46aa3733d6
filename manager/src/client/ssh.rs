//! A daemon on another machine: HTTP/2 over the standard input and output of `ssh -T HOST kennel connect-stdio`.
//!
//! `ssh` is the system's, so that keys, agents, jumps, known hosts and shared connections work as configured. One process carries
//! all requests and streams. When it ends, the next request starts another one; after the first success, for as long as it
//! takes.

use std::io::{self, Cursor, Read};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::pin::pin;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::thread::JoinHandle;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::time::sleep;

use super::host::HostAddress;
use super::{AUTHORITY, ClientError, relay};
use crate::system::clock;

/// The first line that `connect-stdio` says: this, a version of what follows, and a [`Greeting`].
pub const HELLO: &str = "kennel-connect ";
/// The version of what follows the first line.
pub const PROTOCOL: u32 = 1;
/// The longest text before the first line has ended, in bytes: a shell's start files may print.
const MAX_BEFORE: usize = 64 * 1024;
/// What is kept of the last that `ssh` and the host say to standard error, in bytes.
const MAX_SAID: usize = 4 * 1024;
/// What a stream may send ahead of its reader, and all of one connection together, in bytes.
pub const STREAM_WINDOW: u32 = 256 * 1024;
/// See [`STREAM_WINDOW`].
pub const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;
/// The pause before the second attempt to reconnect, and the longest.
const PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// After so long without an answer the other end is asked for a sign, which it gives within the second time.
const SILENT: Duration = Duration::from_secs(10);
/// See [`SILENT`].
const SIGN: Duration = Duration::from_secs(5);
/// A connection that is back sooner is not worth a word.
const BRIEFLY: Duration = Duration::from_secs(1);
/// The longest that one attempt to reconnect takes. Nobody is asked for a password then: the terminal may be in use.
const AGAIN: Duration = Duration::from_secs(20);
/// While it pauses, the client looks this often whether the machine has slept.
const LOOK: Duration = Duration::from_secs(1);
/// More than this, in milliseconds, and the machine has slept.
const SLEPT_MS: u64 = 2_000;
/// The longest wait for the end of `ssh` after its output has ended.
const END: Duration = Duration::from_secs(2);

/// Runs its first word with the others as arguments, in the home: relative paths begin there. A shell without a login has a short
/// `PATH`, and cargo installs beside it.
const REMOTE: &str = r#"cd; PATH="$PATH:$HOME/.cargo/bin:$HOME/.local/bin:/usr/local/bin"; exec "$0" "$@""#;
/// Ctrl-C and Ctrl-\ are for this command, and `ssh` belongs to it. `ssh` leaves signals ignored that it finds ignored.
const QUIETLY: &str = r#"trap "" INT QUIT; exec "$@""#;

/// What the other side says about itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Greeting {
    /// The version of its kennel.
    pub version: String,
    /// The home directory of its user: relative paths begin there.
    pub home: String,
    /// The state directory that it serves.
    pub state_dir: String,
    /// What a person should know, for example that logging out ends the daemon.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// How `ssh` is started.
#[derive(Clone, Debug)]
pub struct SshOptions {
    /// The name under which a person knows the host.
    pub name: String,
    /// Where it is. Its path is the state directory.
    pub address: HostAddress,
    /// The path of `kennel` on the host; none: it is looked for.
    pub kennel: Option<String>,
    /// Ask nobody for a password, and wait at most so long for the host.
    pub within: Option<Duration>,
}

/// What becomes of the connection, for a person.
#[derive(Clone, Debug)]
pub enum News {
    /// It is lost, and is made anew.
    Lost(String),
    /// It is there again.
    Back,
    /// What the host said about itself when it was reached first.
    Reached(Greeting),
}

type Tell = Box<dyn Fn(News) + Send + Sync>;

/// The connection to one host.
pub struct Ssh {
    options: SshOptions,
    now: tokio::sync::Mutex<Option<Open>>,
    greeting: Mutex<Option<Greeting>>,
    tell: Tell,
}

impl std::fmt::Debug for Ssh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ssh").field("options", &self.options).finish_non_exhaustive()
    }
}

/// One process of `ssh`.
struct Open {
    sender: http2::SendRequest<Full<Bytes>>,
    process: Process,
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
        for _ in 0..END.as_millis() / 10 {
            status = self.child.try_wait().ok().flatten();
            if status.is_some() {
                break;
            }
            sleep(Duration::from_millis(10)).await;
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
            sleep(Duration::from_millis(10)).await;
        }
        let said = said.take_if(|said| said.is_finished()).and_then(|said| said.join().ok());
        (status.filter(|_| !killed), said.unwrap_or_default())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ssh {
    /// To a host that nobody has connected to yet.
    pub fn new(options: SshOptions, tell: impl Fn(News) + Send + Sync + 'static) -> Self {
        let (now, greeting) = (tokio::sync::Mutex::default(), Mutex::default());
        Self { options, now, greeting, tell: Box::new(tell) }
    }

    /// The name of the host.
    pub fn name(&self) -> &str {
        &self.options.name
    }

    /// What the host said about itself; none before the first connection.
    pub fn greeting(&self) -> Option<Greeting> {
        self.greeting.lock().ok().and_then(|greeting| greeting.clone())
    }

    /// A connection that works as far as is known. Connects if there is none; if there was one before, until there is one again.
    ///
    /// # Errors
    /// [`ClientError::Host`] if the first attempt fails.
    pub async fn sender(&self) -> Result<http2::SendRequest<Full<Bytes>>, ClientError> {
        let mut now = self.now.lock().await;
        if let Some(open) = now.as_ref().filter(|open| !open.sender.is_closed()) {
            return Ok(open.sender.clone());
        }
        let why = match now.take() {
            Some(open) => {
                let (status, said) = open.process.end().await;
                Some(self.reason(status, &said))
            }
            None => None,
        };
        let open = match (self.greeting(), why) {
            (None, _) => self.open(self.options.within).await?,
            (Some(_), why) => self.open_again(why.unwrap_or_default()).await,
        };
        let sender = open.sender.clone();
        *now = Some(open);
        Ok(sender)
    }

    /// Does what needs an answer from the machine, for as long as the machine itself answers.
    ///
    /// # Errors
    /// [`ClientError::Lost`] if it does not: the connection is given up, and the next request makes another.
    pub async fn watched<T>(
        &self,
        mut work: impl Future<Output = Result<T, ClientError>> + Unpin,
    ) -> Result<T, ClientError> {
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = sleep(SILENT) => {}
            }
            tokio::select! {
                done = &mut work => return done,
                alive = self.is_alive() => if !alive {
                    return Err(self.give_up().await);
                }
            }
        }
    }

    /// Asks the other end for a sign.
    async fn is_alive(&self) -> bool {
        let sender = self.now.lock().await.as_ref().map(|open| open.sender.clone());
        let Some(mut sender) = sender else { return false };
        let sign =
            hyper::Request::builder().uri(format!("http://{AUTHORITY}{}", relay::SIGN)).body(Full::default());
        let Ok(sign) = sign else { return false };
        tokio::time::timeout(SIGN, sender.send_request(sign)).await.is_ok_and(|answer| answer.is_ok())
    }

    /// Ends a connection that carries nothing any more.
    pub async fn give_up(&self) -> ClientError {
        if let Some(open) = self.now.lock().await.take() {
            drop(open);
        }
        ClientError::Lost("the connection carried nothing any more".to_owned())
    }

    /// Connects again, however long it takes.
    async fn open_again(&self, mut why: String) -> Open {
        let mut pause = Duration::ZERO;
        let mut told = false;
        loop {
            pause_awake(pause).await;
            let mut opening = pin!(self.open(Some(AGAIN)));
            let opened = loop {
                tokio::select! {
                    opened = &mut opening => break opened,
                    () = sleep(BRIEFLY), if !told => {
                        (self.tell)(News::Lost(std::mem::take(&mut why)));
                        told = true;
                    }
                }
            };
            match opened {
                Ok(open) => {
                    if told {
                        (self.tell)(News::Back);
                    }
                    return open;
                }
                Err(ClientError::Host { what, .. }) if !told => {
                    (self.tell)(News::Lost(if why.is_empty() { what } else { std::mem::take(&mut why) }));
                    told = true;
                }
                Err(_) => {}
            }
            pause = jittered((pause * 2).clamp(PAUSE, MAX_PAUSE));
        }
    }

    /// Connects. `within` a time, nobody is asked for a password.
    async fn open(&self, within: Option<Duration>) -> Result<Open, ClientError> {
        let connecting = self.connect(within);
        match within {
            None => connecting.await,
            Some(within) => match tokio::time::timeout(within, connecting).await {
                Ok(opened) => opened,
                Err(_) => Err(self.unreachable(format!("no answer within {} s", within.as_secs()), None)),
            },
        }
    }

    async fn connect(&self, within: Option<Duration>) -> Result<Open, ClientError> {
        let cannot = |error: io::Error| self.unreachable(format!("ssh cannot be started: {error}"), None);
        let mut child = self.command(within).spawn().map_err(cannot)?;
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
        http.initial_stream_window_size(STREAM_WINDOW).initial_connection_window_size(CONNECTION_WINDOW);
        let (sender, connection) = http
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.unreachable(format!("the connection: {error}"), None))?;
        // Its errors are those of the requests, which are seen there.
        tokio::spawn(connection);
        let before = self.greeting.lock().ok().and_then(|mut known| known.replace(greeting.clone()));
        if before.is_none() {
            (self.tell)(News::Reached(greeting));
        }
        Ok(Open { sender, process })
    }

    fn command(&self, within: Option<Duration>) -> Command {
        let SshOptions { address, kennel, .. } = &self.options;
        let mut command = Command::new("/bin/sh");
        command.args(["-c", QUIETLY, "sh", "ssh", "-T"]);
        // A connection that carries nothing any more is noticed within 45 s.
        command.args(["-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=3"]);
        if let Some(within) = within {
            command
                .args(["-o", "BatchMode=yes", "-o"])
                .arg(format!("ConnectTimeout={}", within.as_secs().max(1)));
        }
        if let Some(user) = &address.user {
            command.args(["-l", user]);
        }
        if let Some(port) = address.port {
            command.args(["-p", &port.to_string()]);
        }
        command.args(["--", &address.host]).arg(remote(kennel.as_deref(), address.path.as_deref()));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
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
    fn refused(&self, status: Option<ExitStatus>, said: &str, before: &str) -> ClientError {
        // Without kennel, 127; `exec` of a shell that is none of POSIX may say so in words only.
        let missing = status.and_then(|status| status.code()) == Some(127);
        let hint = missing.then(|| {
            format!(
                "install kennel there, or say where it is: `kennel host add NAME {} --kennel /path/to/kennel`",
                self.options.address
            )
        });
        let said = if said.trim().is_empty() { before } else { said };
        self.unreachable(self.reason(status, said), hint)
    }

    fn reason(&self, status: Option<ExitStatus>, said: &str) -> String {
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

    fn unreachable(&self, what: String, hint: Option<String>) -> ClientError {
        ClientError::Host { what, hint }
    }
}

/// What came in place of the first line.
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

/// What the shell of the host runs. Whatever shell it is: the words are quoted in the way that all of them understand.
fn remote(kennel: Option<&str>, state_dir: Option<&str>) -> String {
    let mut words =
        ["sh", "-c", REMOTE, kennel.unwrap_or("kennel"), "connect-stdio"].map(str::to_owned).to_vec();
    words.extend(state_dir.map(|state_dir| format!("--state-dir={state_dir}")));
    words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
}

/// A word for a shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
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

/// Waits, and no longer than until the machine wakes up from a sleep.
async fn pause_awake(pause: Duration) {
    let (before, mut left) = (clock::asleep_ms(), pause);
    while !left.is_zero() {
        let part = left.min(LOOK);
        sleep(part).await;
        left -= part;
        if clock::asleep_ms() > before + SLEPT_MS {
            return;
        }
    }
}

/// Up to a quarter more or less, so that many clients do not come back at once.
fn jittered(pause: Duration) -> Duration {
    let random = crate::system::random::bytes::<1>().map_or(128, |[byte]| u32::from(byte));
    pause * (192 + random / 2) / 256
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_reaches_the_program_as_it_is_whatever_shell_reads_it() {
        for word in ["a b", "it's", "$(reboot)", "`x`", "a\\b", "\"", "*", ";&|<>", "~", "-x", "!", "#", ""] {
            let script = format!("printf %s {}", quoted(word));
            let mut shell = Command::new("sh").args(["-c", &script]).stdout(Stdio::piped()).spawn().unwrap();
            let mut shown = String::new();
            shell.stdout.take().unwrap().read_to_string(&mut shown).unwrap();
            shell.wait().unwrap();
            assert_eq!(shown, word, "{script}");
        }
    }

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

    #[test]
    fn pauses_differ_and_stay_near() {
        for _ in 0..100 {
            let pause = jittered(PAUSE);
            assert!(pause >= PAUSE * 3 / 4 && pause <= PAUSE * 5 / 4, "{pause:?}");
        }
    }
}
