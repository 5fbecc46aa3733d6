//! The trampoline: becomes the agent, or keeps the namespace in which the agent runs (`namespace.rs`).
//!
//! `session-worker exec-agent WORKER-PID STATUS-FD HOW WORKDIR -- PROGRAM ARGS...` is what the worker spawns. What
//! must happen between fork and exec happens here, in a program of its own, so that the worker can spawn
//! without `pre_exec` (which forks, and needs unsafe). HOW is [`Contain`]; the
//! program of a sandbox is bubblewrap, with the agent after its own words.
//!
//! Whatever goes wrong is written to STATUS-FD, for a person. It closes by itself at exec: an end without a
//! message means that the agent runs. What a namespace says there is in [`crate::namespace::Word`].

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
use protocol::Walls;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, setrlimit};

use crate::namespace;

/// The soft limit on descriptors that agents get.
const USUAL_DESCRIPTORS: u64 = 1024;
/// The status of a trampoline that did not become the agent, as shells have it.
pub const NOT_RUN: u8 = 127;

/// What the agent is put into.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Contain {
    /// Nothing.
    #[default]
    No,
    /// A PID namespace of its own, if the kernel makes one.
    IfPossible,
    /// The same, or it does not run.
    Must,
    /// A sandbox, and with it a PID namespace of its own, or it does not run.
    Within(Arc<Walls>),
}

impl Contain {
    /// Whether the agent does not run without.
    pub fn is_demanded(&self) -> bool {
        matches!(self, Contain::Must | Contain::Within(_))
    }
}

/// What is made for the program.
enum Made {
    Nothing,
    /// `or_not`: or nothing, if that cannot be. `strict`: without a network.
    Namespace {
        or_not: bool,
        strict: bool,
    },
    Bubblewrap,
}

/// Becomes the agent; comes back only if that fails.
pub fn run(args: &[OsString]) -> u8 {
    let (Some(worker), Some(fd), Some(how), Some(workdir), Some(mark), Some(program)) = (
        number(args, 0),
        number(args, 1),
        args.get(2).and_then(|how| how.to_str()),
        args.get(3),
        args.get(4),
        args.get(5),
    ) else {
        return internal();
    };
    let (how, words) =
        match how.rsplit_once('-').and_then(|(how, words)| Some((how, words.parse::<usize>().ok()?))) {
            Some(walled) => walled,
            None => (how, 0),
        };
    let made = match how {
        "no" => Made::Nothing,
        "if-possible" => Made::Namespace { or_not: true, strict: false },
        "must" | "mounts" => Made::Namespace { or_not: false, strict: false },
        "mounts-strict" => Made::Namespace { or_not: false, strict: true },
        "sandbox" if words > 0 => Made::Bubblewrap,
        _ => return internal(),
    };
    if args.len() <= 5 + words {
        return internal();
    }
    if mark != "--" {
        return internal();
    }
    let mut status = match status_pipe(fd) {
        Ok(status) => status,
        Err(error) => {
            eprintln!("exec-agent: the status pipe: {error}");
            return crate::exit::USAGE;
        }
    };
    let mut command = Command::new(program);
    command.args(&args[6..]);
    let unprepared = |step, error| format!("cannot prepare the agent's process: {step}: {error}");
    let entered = prepare(worker).and_then(|()| match made {
        Made::Namespace { or_not, strict } => namespace::enter(or_not, strict),
        Made::Nothing | Made::Bubblewrap => Ok(None),
    });
    let message = match entered {
        Err((step, error)) => unprepared(step, error),
        Ok(_) if matches!(made, Made::Bubblewrap) => {
            let (step, error) = namespace::become_bubblewrap(&status, &args[3..], words);
            unprepared(step, error)
        }
        Ok(Some(entered)) => match entered.keep(status, &args[3..], words) {
            Ok(code) => return code,
            Err((given_back, (step, error))) => {
                status = given_back;
                unprepared(step, error)
            }
        },
        Ok(None) => match std::env::set_current_dir(workdir) {
            Err(error) => no_workdir(workdir, &error),
            Ok(()) => format!("cannot run {}: {}", program.display(), command.exec()),
        },
    };
    // If nobody reads it, the worker is gone and the death signal is under way.
    let _ = status.write_all(message.as_bytes());
    NOT_RUN
}

/// The argument of this number, if it is a number.
pub fn number(args: &[OsString], n: usize) -> Option<i32> {
    args.get(n).and_then(|arg| arg.to_str()?.parse().ok())
}

/// Says that nobody is meant to start this by hand.
pub fn internal() -> u8 {
    eprintln!("this is internal to session-worker");
    crate::exit::USAGE
}

/// What is told of a working directory that cannot be entered.
pub fn no_workdir(workdir: &OsString, error: &io::Error) -> String {
    format!("cannot enter the working directory {}: {error}", workdir.display())
}

/// The status pipe under a descriptor of its own that exec closes; the inherited one is closed now, so that
/// the agent gets 0, 1 and 2 and what it is meant to have.
pub fn status_pipe(inherited: RawFd) -> io::Result<File> {
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
    crate::limits::enforce()?;
    go_first();
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

/// What the kernel's search for memory is told of agents (proc_pid_oom_score_adj(5)): rather one of them than the manager, its
/// workers, and what else runs here.
const OOM_SCORE: i32 = 300;

/// When memory runs out, this goes before those who can bring it back.
fn go_first() {
    let path = "/proc/self/oom_score_adj";
    let now = std::fs::read_to_string(path).ok().and_then(|score| score.trim().parse::<i32>().ok());
    if now.is_some_and(|now| now < OOM_SCORE) {
        // Everybody may be made to go sooner. Where there is no such file, nothing is lost but the order.
        let _ = std::fs::write(path, OOM_SCORE.to_string());
    }
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
