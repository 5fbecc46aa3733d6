//! The trampoline: becomes the agent.
//!
//! `session-worker exec-agent WORKER-PID STATUS-FD WORKDIR -- PROGRAM ARGS...` is what the worker spawns. What
//! must happen between fork and exec happens here, in a program of its own, so that the worker can spawn
//! without `pre_exec` (which forks, and needs unsafe).
//!
//! Whatever goes wrong is written to STATUS-FD, for a person. It closes by itself at exec: an end without a
//! message means that the agent runs.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::RawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, setrlimit};

/// The soft limit on descriptors that agents get.
const USUAL_DESCRIPTORS: u64 = 1024;
/// The status of a trampoline that did not become the agent, as shells have it.
const NOT_RUN: u8 = 127;

/// Becomes the agent; comes back only if that fails.
pub fn run(args: &[OsString]) -> u8 {
    let number = |n: usize| args.get(n).and_then(|arg| arg.to_str()?.parse::<i32>().ok());
    let (Some(worker), Some(fd), Some(workdir), Some(mark), Some(program)) =
        (number(0), number(1), args.get(2), args.get(3), args.get(4))
    else {
        eprintln!("exec-agent is internal to session-worker");
        return crate::exit::USAGE;
    };
    if mark != "--" {
        eprintln!("exec-agent is internal to session-worker");
        return crate::exit::USAGE;
    }
    let mut status = match status_pipe(fd) {
        Ok(status) => status,
        Err(error) => {
            eprintln!("exec-agent: the status pipe: {error}");
            return crate::exit::USAGE;
        }
    };
    let mut command = Command::new(program);
    command.args(&args[5..]);
    let message = match prepare(worker) {
        Err((step, error)) => format!("cannot prepare the agent's process: {step}: {error}"),
        Ok(()) => match std::env::set_current_dir(workdir) {
            Err(error) => format!("cannot enter the working directory {}: {error}", workdir.display()),
            Ok(()) => format!("cannot run {}: {}", program.display(), command.exec()),
        },
    };
    // If nobody reads it, the worker is gone and the death signal is under way.
    let _ = status.write_all(message.as_bytes());
    NOT_RUN
}

/// The status pipe under a descriptor of its own that exec closes; the inherited one is closed now, so that
/// the agent gets 0, 1 and 2 and what it is meant to have.
fn status_pipe(inherited: RawFd) -> io::Result<File> {
    let status = OpenOptions::new().write(true).open(format!("/proc/self/fd/{inherited}"))?;
    nix::unistd::close(inherited)?;
    Ok(status)
}

/// What the agent's process needs and a plain spawn does not give it.
fn prepare(worker: i32) -> Result<(), (&'static str, io::Error)> {
    // A session of its own: no terminal to be stopped by, no group shared with the worker.
    rustix::process::setsid().map_err(|error| ("setsid", error.into()))?;
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(|error| ("death signal", error.into()))?;
    // The worker may have died before the death signal was set.
    if rustix::process::getppid().map(Pid::as_raw_pid) != Some(worker) {
        return Err(("parent", io::Error::other("the worker is gone")));
    }
    few_descriptors().map_err(|error| ("descriptor limit", error))?;
    reset_signals().map_err(|error| ("signals", error))?;
    SigSet::empty().thread_set_mask().map_err(|error| ("signal mask", error.into()))
}

/// Takes the soft limit on descriptors back to what programs expect: the manager raises its own for its many
/// workers, and select(2) cannot handle descriptors from 1024 on.
fn few_descriptors() -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let current = Some(limit.current.map_or(USUAL_DESCRIPTORS, |current| current.min(USUAL_DESCRIPTORS)));
    Ok(setrlimit(Resource::Nofile, Rlimit { current, ..limit })?)
}

/// Gives every ignored signal its default action back. exec keeps "ignored" but resets "caught", so catching
/// is a reset that needs no unsafe.
fn reset_signals() -> io::Result<()> {
    let dummy = Arc::new(AtomicBool::new(false));
    let mask = ignored(&std::fs::read_to_string("/proc/self/status")?);
    for signal in (1..=64).filter(|signal| mask & (1 << (signal - 1)) != 0) {
        // signal-hook refuses to catch signals that report a fault of the program itself; nobody ignores those.
        if !signal_hook::consts::FORBIDDEN.contains(&signal) {
            // The C library refuses 32 and 33: they are its own, its posix_spawn leaves them ignored in every
            // child, and it sets them when it needs them.
            let _ = signal_hook::flag::register(signal, Arc::clone(&dummy));
        }
    }
    Ok(())
}

/// The set of ignored signals in `/proc/PID/status` (proc_pid_status(5)); signal N is bit N-1.
fn ignored(status: &str) -> u64 {
    status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        // Unknown means: reset all that programs are started with in practice (1 to 31).
        .unwrap_or(0x7fff_ffff)
}
