//! `connect-stdio`: this machine's end of a connection by ssh.
#![allow(
    clippy::disallowed_methods,
    reason = "standard output is never a terminal here, and the one child is a command of this program's own"
)]

use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use protocol::api::Problem;
use rustix::fs::{FileType, OFlags, fcntl_getfl, fcntl_setfl, fstat};
use tokio::net::unix::pipe;

use crate::cli::link::Link;
use crate::cli::ui::error::{Failure, Outcome};
use crate::client::far::Greeting;
use crate::client::far::ssh::{HELLO, PROTOCOL};
use crate::client::relay::{self, Own};
use crate::daemon::Paths;

/// `connect-stdio`.
pub async fn connect(link: &Link<'_>) -> Outcome {
    let paths = link.here("connect-stdio")?;
    let failed = |error: io::Error| Failure::failed("connection", format!("the connection: {error}"));
    let input = taken(io::stdin().as_fd())?;
    let output = taken(io::stdout().as_fd())?;
    greet(paths).map_err(failed)?;
    for end in [&input, &output] {
        let flags = fcntl_getfl(end).map_err(|error| failed(error.into()))?;
        fcntl_setfl(end, flags | OFlags::NONBLOCK).map_err(|error| failed(error.into()))?;
    }
    // Whoever runs this may have given sockets; they are read and written in the same way.
    let input = pipe::Receiver::from_owned_fd_unchecked(input).map_err(failed)?;
    let output = pipe::Sender::from_owned_fd_unchecked(output).map_err(failed)?;
    let state_dir = paths.state_dir.clone();
    let own = move |asked| -> futures_util::future::BoxFuture<'static, Result<(), Box<Problem>>> {
        let state_dir = state_dir.clone();
        Box::pin(async move {
            let done = tokio::task::spawn_blocking(move || command(asked, state_dir));
            done.await.unwrap_or_else(|error| Err(cannot(&error.to_string())))
        })
    };
    relay::serve(tokio::io::join(input, output), link.client.clone(), Box::new(own)).await.map_err(failed)
}

/// One end of the connection.
fn taken(end: std::os::fd::BorrowedFd<'_>) -> Outcome<OwnedFd> {
    let kind = fstat(end).map(|found| FileType::from_raw_mode(found.st_mode));
    match kind {
        Ok(FileType::Fifo | FileType::Socket) => end
            .try_clone_to_owned()
            .map_err(|error| Failure::failed("connection", format!("the connection: {error}"))),
        _ => Err(Failure::usage(
            "`kennel connect-stdio` speaks with another kennel over pipes; nothing was done",
        )
        .hint("`kennel -H ssh://HOST ls` runs it on that host")),
    }
}

/// Says the first line.
fn greet(paths: &Paths) -> io::Result<()> {
    let home = std::env::var_os("HOME").map(PathBuf::from).or_else(|| std::env::current_dir().ok());
    let greeting = Greeting {
        version: crate::version::VERSION.to_owned(),
        home: home.unwrap_or_default().to_string_lossy().into_owned(),
        state_dir: paths.state_dir.to_string_lossy().into_owned(),
        warnings: crate::daemon::login::warning(&paths.state_dir).into_iter().collect(),
    };
    let text = format!("{HELLO}{PROTOCOL} {}\n", serde_json::to_string(&greeting)?);
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Does it as `kennel daemon start` and `kennel daemon stop` do.
fn command(asked: Own, state_dir: PathBuf) -> Result<(), Box<Problem>> {
    let exe = std::env::current_exe().map_err(|error| cannot(&error.to_string()))?;
    let mut command = Command::new(exe);
    command.arg("--state-dir").arg(state_dir).args(["--host", "local", "daemon"]);
    command.arg(match asked {
        Own::Start => "start",
        Own::Stop => "stop",
    });
    command.arg("--json");
    let done = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).output();
    let done = done.map_err(|error| cannot(&error.to_string()))?;
    match (done.status.success(), serde_json::from_slice(&done.stderr)) {
        (true, _) => Ok(()),
        (false, Ok(problem)) => Err(problem),
        (false, Err(_)) => Err(cannot(String::from_utf8_lossy(&done.stderr).trim())),
    }
}

fn cannot(why: &str) -> Box<Problem> {
    Box::new(Problem {
        kind: "about:blank".into(),
        title: "Service Unavailable".into(),
        status: 503,
        code: relay::UNREACHABLE.into(),
        detail: format!("that cannot be done: {why}"),
        hint: None,
        subject: None,
    })
}
