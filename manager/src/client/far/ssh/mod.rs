//! The way by ssh: HTTP/2 over the standard input and output of `ssh -T HOST kennel connect-stdio`.
//!
//! `ssh` is the system's, so that keys, agents, jumps, known hosts and shared connections work as configured. The first line of the
//! other end is its [`Greeting`].

mod command;

use std::io::{self, Cursor, Read};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::unix::pipe;
use tokio::sync::oneshot;
use tokio::time::timeout;

pub use self::command::BELOW;
pub(super) use self::command::has_terminal;
use super::{Greeting, Unreached};
use crate::client::host::HostAddress;
use crate::plain;
use crate::system::waiting;

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
/// The longest wait for the end of standard error after that: a process that shares its connection with others may leave it open.
const REST: Duration = Duration::from_millis(100);
/// The time in which `ssh` leaves the terminal as it found it.
const TIDY: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

/// How `ssh` is started.
#[derive(Clone, Debug)]
pub struct SshOptions {
    /// Where the host is. Its path is the state directory.
    pub address: HostAddress,
    /// The path of `kennel` on the host; none: it is looked for.
    pub kennel: Option<String>,
    /// The program kennel of this machine, which ends `ssh` together with this process; none: `ssh` ends by itself.
    pub below: Option<PathBuf>,
}

/// The manner of one attempt.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt {
    /// Ask nobody for a password, and take at most so long.
    pub within: Option<Duration>,
    /// Join no connection that others share: it may hang.
    pub alone: bool,
}

/// The process that carries a connection. Ends with the process that started it.
pub(super) struct Process {
    child: Child,
    said: Option<oneshot::Receiver<String>>,
}

impl Process {
    /// Ends it, and says why it had ended.
    pub(super) async fn end(self) -> String {
        let (status, said) = self.last_words().await;
        reason(status, &said)
    }

    /// The last words of a process that has ended, or is ended now.
    async fn last_words(mut self) -> (Option<ExitStatus>, String) {
        if let Some(process) = self.pidfd()
            && let Ok(process) = waiting::readable(process)
        {
            let _ = timeout(END, process.readable()).await;
        }
        let ended = self.child.try_wait().ok().flatten();
        drop(self.child.kill());
        // It ends now, if it had not.
        let _ = self.child.wait();
        let said = match self.said.take() {
            Some(said) => timeout(REST, said).await.ok().and_then(Result::ok),
            None => None,
        };
        (ended, said.unwrap_or_default())
    }

    /// Refers to the process; readable once it has ended. Not yet reaped: the number is its own.
    fn pidfd(&self) -> Option<OwnedFd> {
        pidfd_open(Pid::from_child(&self.child), PidfdFlags::NONBLOCK).ok()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Not yet reaped: the number is its own.
        if let Ok(None) = self.child.try_wait() {
            let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
            if let Some(process) = self.pidfd() {
                // One that takes longer is killed.
                let _ = poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&TIDY));
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts `ssh`, and hears the other end's greeting.
pub(super) async fn reach(
    name: &str,
    options: &SshOptions,
    attempt: Attempt,
) -> Result<(impl AsyncRead + AsyncWrite + Unpin + Send + 'static, Process, Greeting), Unreached> {
    let cannot = |error: io::Error| Unreached::new(format!("ssh cannot be started: {error}"));
    if !command::is_there() {
        let what = "this machine has no `ssh` in its PATH";
        return Err(Unreached::new(what).hint("install the client of OpenSSH, or mend PATH"));
    }
    let mut child = command::of(options, attempt).spawn().map_err(cannot)?;
    let said = child.stderr.take().map(|err| {
        let (tell, said) = oneshot::channel();
        // Nobody may wait for it any more.
        std::thread::spawn(move || drop(tell.send(last_of(err))));
        said
    });
    let (input, output) = (child.stdin.take(), child.stdout.take());
    let process = Process { child, said };
    let (Some(input), Some(output)) = (input, output) else {
        return Err(cannot(io::ErrorKind::BrokenPipe.into()));
    };
    let mut output = pipe::Receiver::from_owned_fd(OwnedFd::from(output)).map_err(cannot)?;
    let input = pipe::Sender::from_owned_fd(OwnedFd::from(input)).map_err(cannot)?;
    let (greeting, rest) = match hear(&mut output).await {
        Ok(heard) => heard,
        Err(Heard::Nothing(before)) => {
            let (status, said) = process.last_words().await;
            return Err(refused(name, options, status, &said, &before));
        }
        Err(Heard::Other(what)) => {
            return Err(Unreached::new(what).hint("is kennel there of another version?"));
        }
    };
    let stream = tokio::io::join(AsyncReadExt::chain(Cursor::new(rest), output), input);
    Ok((stream, process, greeting))
}

/// Reads the first line, and what came after it in one piece.
async fn hear(output: &mut pipe::Receiver) -> Result<(Greeting, Vec<u8>), Heard> {
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
fn refused(
    name: &str,
    options: &SshOptions,
    status: Option<ExitStatus>,
    said: &str,
    before: &str,
) -> Unreached {
    let said = if said.trim().is_empty() { before } else { said };
    let unreached = Unreached::new(reason(status, said));
    // Without kennel, 127; `exec` of a shell that is none of POSIX may say so in words only.
    if status.and_then(|status| status.code()) != Some(127) {
        return unreached;
    }
    let address = &options.address;
    unreached.hint(match HostAddress::is_meant(name) {
        true => {
            format!("install kennel there, or say where it is: `kennel host add NAME {address} --kennel /path/to/kennel`")
        }
        false => format!(
            "install kennel there, or say where it is: `kennel host rm {name}`, then `kennel host add {name} {address} \
             --kennel /path/to/kennel`"
        ),
    })
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
    serde_json::from_str(greeting)
        .map_err(|error| format!("it greets in an unknown way: {}", plain::said(&error.to_string())))
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
