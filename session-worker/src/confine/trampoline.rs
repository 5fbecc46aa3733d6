//! The trampoline: becomes the program, or keeps the namespace in which the program runs (`namespace.rs`).
//!
//! `session-worker exec-agent STATUS-FD PLAN-FD` is what the worker spawns. What must happen between fork and exec happens
//! here, in a program of its own, so that the worker can spawn without `pre_exec` (which forks, and needs unsafe). Its
//! environment is the marker alone: what the agent has said of its own is in the plan, and is applied at the last exec.
//!
//! The trampoline reports each failure on the status socket, for a person. The socket closes by itself at exec: an end without
//! a message means that the program runs. `status.rs` has the messages of a namespace.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use protocol::MARKER;
use rustix::process::Pid;

use super::plan::{self, Plan, Program};
use super::status::{NotRun, inherited, internal, no_workdir, unprepared};
use super::{Contain, Failed, NOT_RUN, namespace, status};

/// The trampoline, still without its standard streams. The descriptors are its own: to be closed when it was started.
pub fn command(plan: &Plan, status: &OwnedFd, marker: &str) -> io::Result<(Command, OwnedFd)> {
    let written = plan::write(plan)?;
    // Nothing else spawns until these are closed again.
    status::inherit(status)?;
    status::inherit(&written)?;
    // The kernel's link to our own program: right also when an upgrade has deleted the file.
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0("session-worker")
        .arg("exec-agent")
        .arg(status.as_raw_fd().to_string())
        .arg(written.as_raw_fd().to_string())
        .env_clear()
        .env(MARKER, marker);
    Ok((command, written))
}

/// Becomes the program; comes back only if that fails, or when the namespace that this process keeps has ended.
pub fn run(args: &[OsString]) -> u8 {
    let (Some(status), Some(plan), 2) = (inherited(args, 0), inherited(args, 1), args.len()) else {
        return internal();
    };
    let plan: Plan = match plan::read(&plan) {
        Ok(plan) => plan,
        Err(error) => {
            status::say_failed(&status, format!("cannot read what is to be run: {error}").into());
            return NOT_RUN;
        }
    };
    let entered = prepare(&plan).and_then(|()| match &plan.confinement.contain {
        Contain::No => Ok(None),
        Contain::IfPossible => namespace::enter(true, None),
        Contain::Must => namespace::enter(false, None),
        Contain::Within(walls) if walls.program.is_some() => Ok(None),
        Contain::Within(walls) => namespace::enter(false, Some(walls.sandbox)),
    });
    let reason = match (entered, &plan.confinement.contain) {
        (Err(failed), _) => unprepared(&failed).into(),
        (Ok(_), Contain::Within(walls)) if walls.program.is_some() => {
            namespace::become_bubblewrap(&status, &plan, walls).into()
        }
        (Ok(Some(entered)), _) => match entered.keep(&status, &plan) {
            Ok(code) => return code,
            Err(failed) => unprepared(&failed).into(),
        },
        (Ok(None), _) => become_program(&plan),
    };
    status::say_failed(&status, reason);
    NOT_RUN
}

/// Comes back only if that fails, with the reason.
fn become_program(plan: &Plan) -> NotRun {
    let Program { env, directory, .. } = &plan.program;
    if let Err(error) = std::env::set_current_dir(Path::new(&plan.workdir).join(directory)) {
        return no_workdir(&plan.workdir, &error).into();
    }
    let Some((program, args)) = plan.program.path_and_args() else {
        return "there is no program".to_owned().into();
    };
    if let Err(failed) = plan.confinement.limits.finish() {
        return unprepared(&failed).into();
    }
    let mut command = Command::new(program);
    command.args(args).env_clear().envs(env.iter().map(|(name, value)| (name, value)));
    if let Some(marker) = std::env::var_os(MARKER) {
        command.env(MARKER, marker);
    }
    NotRun::refused(program, &command.exec())
}

/// Prepares the program's process with everything that a plain spawn does not do.
fn prepare(plan: &Plan) -> Result<(), Failed> {
    // A session of its own: no terminal to be stopped by, no group shared with the worker.
    rustix::process::setsid().map_err(|error| ("setsid", error.into()))?;
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(|error| ("death signal", error.into()))?;
    // The worker may have died before the death signal was set.
    if rustix::process::getppid().map(Pid::as_raw_pid) != Some(plan.worker) {
        return Err(("parent", io::Error::other("the worker is gone")));
    }
    plan.confinement.limits.enforce()?;
    go_first();
    reset_signals().map_err(|error| ("signals", error))?;
    SigSet::empty().thread_set_mask().map_err(|error| ("signal mask", error.into()))
}

/// OOM score of agents (proc_pid_oom_score_adj(5)): the kernel kills an agent before the manager, its workers, and
/// other programs.
const OOM_SCORE: i32 = 300;

/// Makes this process the first that the kernel kills when memory runs out.
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
