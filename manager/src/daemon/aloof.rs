//! A client that needs a daemon starts one, which lives on: with the client's nice value, its one processor, the session
//! keyring of a login that ends. Sessions of other clients would inherit all of it. So such a daemon resets it.
//!
//! Only such a daemon does. Whoever runs `kennel daemon run`, or writes a unit, has chosen what it runs with. What the kernel
//! refuses to an ordinary user stays: a raised nice value, hard limits, `no_new_privs`, a filter of system calls.
#![allow(
    unsafe_code,
    reason = "no kept crate wraps keyctl, ioprio_set and sched_setscheduler; they read no memory but one structure"
)]

use std::io;

use nix::libc;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::prctl::set_timerslack;
use nix::unistd::Pid;
use rustix::process::{Resource, Rlimit, getrlimit, setpriority_process, setrlimit};

use super::process::lower_oom_score;

/// `KEYCTL_JOIN_SESSION_KEYRING`, `KEYCTL_LINK`, `KEY_SPEC_SESSION_KEYRING` and `KEY_SPEC_USER_KEYRING` (`linux/keyctl.h`).
const JOIN: libc::c_int = 1;
const LINK: libc::c_int = 8;
const SESSION: libc::c_int = -3;
const USER: libc::c_int = -4;
/// `IOPRIO_WHO_PROCESS`, and the priority of `IOPRIO_CLASS_NONE` (`linux/ioprio.h`).
const WHO_PROCESS: libc::c_int = 1;
const NO_CLASS: libc::c_int = 0;
/// The kernel's own timer slack, in nanoseconds (PR_SET_TIMERSLACK(2const)).
const SLACK_NS: libc::c_ulong = 50_000;
/// The kernel starts with no soft limit on these: whoever has set one meant the client.
const LIMITS: [Resource; 4] = [Resource::Cpu, Resource::Fsize, Resource::Data, Resource::As];

/// Resets what the kernel lets this process reset, which must have one thread only. Gives what stays, for a person.
pub fn reset() -> Vec<String> {
    let steps = [
        ("the scheduling policy", set_policy()),
        ("the nice value", setpriority_process(None, 0).map_err(io::Error::from)),
        ("the I/O priority", done(|| syscall(libc::SYS_ioprio_set, [WHO_PROCESS, 0, NO_CLASS]))),
        ("the processors", all_processors()),
        ("the timer slack", set_timerslack(SLACK_NS).map_err(io::Error::from)),
        ("the soft limits", raise_limits()),
        ("the oom score", lower_oom_score(0)),
        ("the session keyring", join_keyring()),
    ];
    let stays = |(what, done): (&str, io::Result<()>)| Some(format!("{what}: {}", done.err()?));
    steps.into_iter().filter_map(stays).collect()
}

fn set_policy() -> io::Result<()> {
    let none = libc::sched_param { sched_priority: 0 };
    // SAFETY: the kernel reads the structure, which lives until then.
    done(|| unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, libc::SCHED_OTHER, &raw const none) })
}

/// Those of its control group: the kernel leaves others out.
fn all_processors() -> io::Result<()> {
    let mut all = CpuSet::new();
    (0..CpuSet::count()).try_for_each(|one| all.set(one))?;
    Ok(sched_setaffinity(Pid::from_raw(0), &all)?)
}

fn raise_limits() -> io::Result<()> {
    for resource in LIMITS {
        let limit = getrlimit(resource);
        setrlimit(resource, Rlimit { current: limit.maximum, ..limit })?;
    }
    Ok(())
}

/// A new session keyring with the user's keys in it, as a login makes one (pam_keyinit(8)). A kernel without keys, or a
/// container that hides them, has nothing to leave.
fn join_keyring() -> io::Result<()> {
    // No name: nobody else can join it.
    let joined = done(|| syscall(libc::SYS_keyctl, [JOIN, 0, 0]))
        .and_then(|()| done(|| syscall(libc::SYS_keyctl, [LINK, USER, SESSION])));
    match joined {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => Ok(()),
        joined => joined,
    }
}

fn syscall(number: libc::c_long, arguments: [libc::c_int; 3]) -> libc::c_long {
    let [a, b, c] = arguments.map(libc::c_long::from);
    // SAFETY: for the calls above none of the arguments is an address but a null one, which means "no name".
    unsafe { libc::syscall(number, a, b, c) }
}

fn done(call: impl FnOnce() -> libc::c_long) -> io::Result<()> {
    if call() == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
