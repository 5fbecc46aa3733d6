//! The last step before the program of a log-in: standard input becomes its controlling terminal, so that a program that asks for
//! a password at `/dev/tty` asks there.
//!
//! `session-worker log-in PROGRAM ARGS...` is what the trampoline starts in the program's place.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::Command;

use nix::sys::signal::{SigSet, Signal};

use super::NOT_RUN;

/// Becomes the program; comes back only if that fails, or after the program where a process of its own must lead the session.
pub fn run(args: &[OsString]) -> u8 {
    let Some((program, rest)) = args.split_first() else { return complain("there is no program") };
    let me = rustix::process::getpid();
    let leads = rustix::process::getsid(None) == Ok(me) || rustix::process::setsid().is_ok();
    if !leads {
        // In a PID namespace this process leads a group, and such a process cannot lead a session.
        return lead_below(args).unwrap_or_else(|error| complain(&error.to_string()));
    }
    if let Err(error) = rustix::process::ioctl_tiocsctty(io::stdin()) {
        return complain(&format!("cannot take the terminal: {error}"));
    }
    let _ = SigSet::empty().thread_set_mask();
    let error = Command::new(program).args(rest).exec();
    complain(&format!("cannot run {}: {error}", program.display()))
}

/// Does the same in a child, and gives its exit status.
fn lead_below(args: &[OsString]) -> io::Result<u8> {
    // A signal to all is the program's to answer; this process ends with it.
    let mut terminate = SigSet::empty();
    terminate.add(Signal::SIGTERM);
    terminate.thread_block()?;
    let mut command = Command::new("/proc/self/exe");
    let mut child = command.arg0("session-worker").arg("log-in").args(args).spawn()?;
    let status = child.wait()?;
    let code = status.code().or_else(|| Some(128 + status.signal()?));
    Ok(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(NOT_RUN))
}

/// Says on the terminal why nothing runs.
fn complain(what: &str) -> u8 {
    let _ = writeln!(io::stderr(), "{what}");
    NOT_RUN
}
