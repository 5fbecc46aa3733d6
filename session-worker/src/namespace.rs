//! A PID namespace for one program and everything that it starts (pid_namespaces(7)). When its first process ends, the
//! kernel kills all others in it, whatever they did to get away and whoever else is dead by then.
//!
//! Two processes of this program keep it:
//!
//! ```text
//! worker ── keeper ── init ── the agent ── whatever that starts
//!           └ outside  └ pid 1 within
//! ```
//!
//! The *keeper* is the trampoline (`exec_agent.rs`), which cannot enter a namespace itself: only what is started after
//! unshare(2) is inside. It is what the worker has as a child. *init* reaps, starts the agent, tells the worker how that
//! ended and leaves when nothing is left. Each is killed by the kernel with the one before it, so that the death of the
//! worker alone is the end of all of them.
//!
//! An ordinary user gets it together with a user namespace in which nothing but the own user and group exists. Programs
//! that change the user (sudo, say) do not work there.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use protocol::Exit;
use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, FdFlags};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::process::{Gid, Pid, PidfdFlags, Uid, WaitOptions, getegid, geteuid};
use rustix::thread::{CapabilitySet, CapabilitySets};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};

use crate::exec_agent::{NOT_RUN, internal, no_workdir, number, status_pipe};
use crate::tree;
use crate::walls;
use crate::worker::close_all_but;

/// In the place of PROC-FD: how many words after `--` are about mounts comes next.
const MOUNTS: &str = "mounts";

/// What went wrong, and where.
type Failed = (&'static str, io::Error);

/// What init tells the worker on the status pipe, a line each. Anything else there is why the program does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// The program runs.
    Runs {
        /// Its pid outside.
        agent: Pid,
        /// That of init.
        init: Pid,
        /// It has a `/proc` of its own, in which its pids are those that it knows.
        own_proc: bool,
    },
    /// It has ended.
    Ended(Exit),
}

impl Word {
    fn line(self) -> String {
        match self {
            Word::Runs { agent, init, own_proc } => format!("+{agent} {init} {}\n", u8::from(own_proc)),
            Word::Ended(Exit::Code(code)) => format!("=code {code}\n"),
            Word::Ended(Exit::Signal(signal)) => format!("=signal {signal}\n"),
            Word::Ended(Exit::Unknown) => "=unknown 0\n".to_owned(),
        }
    }

    /// Reads a line, without its end.
    pub fn parse(line: &str) -> Option<Self> {
        if let Some(facts) = line.strip_prefix('+') {
            let mut facts = facts.split(' ').map(|fact| fact.parse::<i32>().ok());
            let mut next = || facts.next().flatten();
            let (agent, init, own_proc) = (next()?, next()?, next()?);
            return Some(Word::Runs {
                agent: Pid::from_raw(agent)?,
                init: Pid::from_raw(init)?,
                own_proc: own_proc == 1,
            });
        }
        let (how, number) = line.strip_prefix('=')?.split_once(' ')?;
        let number = number.parse().ok()?;
        Some(Word::Ended(match how {
            "code" => Exit::Code(number),
            "signal" => Exit::Signal(number),
            "unknown" => Exit::Unknown,
            _ => return None,
        }))
    }
}

/// Who has made the namespace that init is in.
enum Made {
    /// The keeper: what is to be mounted is still to be done.
    Here,
    /// bubblewrap. These descriptors are to be closed: the `/proc` of outside, and this program.
    ByBubblewrap { outside: i32, program: i32 },
}

/// A process whose next child is the first of a PID namespace.
pub struct Entered(());

/// Makes the namespace, if there is to be one and, where it may be done without, the kernel makes it.
pub fn enter(or_not: bool, strict: bool) -> Result<Option<Entered>, Failed> {
    let (user, group) = (geteuid(), getegid());
    let mut flags = CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNS;
    flags.set(CloneFlags::CLONE_NEWUSER, !user.is_root());
    flags.set(CloneFlags::CLONE_NEWNET, strict);
    match unshare(flags) {
        Ok(()) => {}
        // Nothing was changed.
        Err(_) if or_not => return Ok(None),
        Err(error) => return Err(("PID namespace", error.into())),
    }
    if !user.is_root() {
        stay_oneself(user, group).map_err(|error| ("user namespace", error))?;
        mount_right(true).map_err(|error| ("capabilities", error))?;
    }
    Ok(Some(Entered(())))
}

/// In a new user namespace: this user and this group are there, and nobody else.
fn stay_oneself(user: Uid, group: Gid) -> io::Result<()> {
    let write = |file: &str, text: String| std::fs::write(format!("/proc/self/{file}"), text);
    // Without this an ordinary user may not map a group (user_namespaces(7)).
    write("setgroups", "deny".to_owned())?;
    let (user, group) = (user.as_raw(), group.as_raw());
    write("uid_map", format!("{user} {user} 1"))?;
    write("gid_map", format!("{group} {group} 1"))
}

/// Gives the right to mount to what this process starts, which has none by itself where the user is not root; or takes all
/// rights away.
fn mount_right(give: bool) -> io::Result<()> {
    let right = CapabilitySet::SYS_ADMIN;
    if !give {
        rustix::thread::clear_ambient_capability_set()?;
        let none = CapabilitySet::empty();
        let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
        return Ok(rustix::thread::set_capabilities(None, sets)?);
    }
    let sets = CapabilitySets { effective: right, permitted: right, inheritable: right };
    rustix::thread::set_capabilities(None, sets)?;
    Ok(rustix::thread::configure_capability_in_ambient_set(right, true)?)
}

impl Entered {
    /// Starts init, and stays until that is gone. `rest` is the working directory, `--` and the program with its
    /// arguments. Gives the status to leave with.
    pub fn keep(self, status: File, rest: &[OsString], words: usize) -> Result<u8, (File, Failed)> {
        let mut init = match start_init(&status, rest, words) {
            Ok(init) => init,
            Err(failed) => return Err((status, failed)),
        };
        // What the program has open is its own: who waits for the end of a pipe does not wait for this process.
        let _ = let_go(&[status.as_raw_fd()]);
        drop(status);
        match init.wait().map(|left| left.code()) {
            Ok(Some(code)) => Ok(u8::try_from(code).unwrap_or(NOT_RUN)),
            Ok(None) => {
                // It was killed, and the program with it: so that it is seen as that.
                let _ =
                    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
                Ok(NOT_RUN)
            }
            // Then the namespace ends with this process.
            Err(_) => Ok(NOT_RUN),
        }
    }
}

fn start_init(status: &File, rest: &[OsString], words: usize) -> Result<Child, Failed> {
    // The worker signals each process below it. This one is to outlive all in the namespace: the end that the worker
    // waits for is its own.
    let deaf = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGHUP, SIGINT, SIGQUIT] {
        signal_hook::flag::register(signal, Arc::clone(&deaf)).map_err(|error| ("signals", error))?;
    }
    rustix::io::fcntl_setfd(status, FdFlags::empty()).map_err(|error| ("status pipe", error.into()))?;
    let init = Command::new("/proc/self/exe")
        .arg0("session-worker")
        .arg("init")
        .arg(std::process::id().to_string())
        .arg(status.as_raw_fd().to_string())
        .arg(MOUNTS)
        .arg(words.to_string())
        .args(rest)
        .spawn();
    init.map_err(|error| ("the first process of the PID namespace", error))
}

/// Becomes bubblewrap, which is the keeper of what it makes: it starts init as the first process of its namespace. `rest`
/// is the working directory, `--`, that many `words` of bubblewrap's, and the program with its arguments. Comes back only if
/// that fails.
pub fn become_bubblewrap(status: &File, rest: &[OsString], words: usize) -> Failed {
    let inherit = |path: &str, flags: OFlags| rustix::fs::open(path, flags | OFlags::PATH, Mode::empty());
    // Inside, neither this program nor the pids of outside have a path.
    let program = match inherit("/proc/self/exe", OFlags::empty()) {
        Ok(program) => program,
        Err(error) => return ("session-worker", error.into()),
    };
    let outside = match inherit("/proc", OFlags::DIRECTORY) {
        Ok(outside) => outside,
        Err(error) => return ("/proc", error.into()),
    };
    if let Err(error) = rustix::io::fcntl_setfd(status, FdFlags::empty()) {
        return ("status pipe", error.into());
    }
    // It would end of what the worker sends to each process below it, and all inside with it. What is blocked stays so
    // at exec; init undoes that.
    let blocked: SigSet =
        [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT].into_iter().collect();
    if let Err(error) = blocked.thread_block() {
        return ("signals", error.into());
    }
    let (workdir, bubblewrap) = (&rest[0], &rest[2..2 + words]);
    let error = Command::new(&bubblewrap[0])
        .args(&bubblewrap[1..])
        .arg(format!("/proc/self/fd/{}", program.as_raw_fd()))
        .arg("init")
        .arg(std::process::id().to_string())
        .arg(status.as_raw_fd().to_string())
        .arg(outside.as_raw_fd().to_string())
        .arg(program.as_raw_fd().to_string())
        .arg(workdir)
        .arg("--")
        .args(&rest[2 + words..])
        .exec();
    ("bubblewrap", error)
}

/// The first process of the namespace: `session-worker init KEEPER-PID STATUS-FD PROC-FD EXE-FD WORKDIR -- PROGRAM
/// ARGS...`. In a sandbox PROC-FD is the `/proc` of outside, and EXE-FD this program; else they are `mounts` and how many words
/// of `walls.rs` come before PROGRAM.
pub fn init(args: &[OsString]) -> u8 {
    let (Some(keeper), Some(fd), Some(number_four), Some(workdir)) =
        (number(args, 0), number(args, 1), number(args, 3), args.get(4))
    else {
        return internal();
    };
    let (made, words) = match number(args, 2) {
        Some(outside) => (Made::ByBubblewrap { outside, program: number_four }, 0),
        None => (Made::Here, usize::try_from(number_four).unwrap_or(usize::MAX)),
    };
    let rest = args.get(6..).unwrap_or_default();
    let Some((mounts, [program, rest @ ..])) = rest.split_at_checked(words) else { return internal() };
    let mut status = match status_pipe(fd) {
        Ok(status) => status,
        Err(error) => {
            eprintln!("session-worker init: the status pipe: {error}");
            return crate::exit::USAGE;
        }
    };
    match begin(keeper, &made, mounts, workdir, program, rest) {
        Ok((inside, runs)) => look_after(inside, runs, status),
        Err(message) => {
            // If nobody reads it, the worker is gone.
            let _ = status.write_all(message.as_bytes());
            NOT_RUN
        }
    }
}

/// Starts the program. Gives its pid in here, and what is to be told of it.
fn begin(
    keeper: i32,
    made: &Made,
    mounts: &[OsString],
    workdir: &OsString,
    program: &OsString,
    args: &[OsString],
) -> Result<(Pid, Word), String> {
    let (outside, own_proc) = prepare(keeper, made, mounts)
        .map_err(|(step, error)| format!("cannot prepare the agent's process: {step}: {error}"))?;
    std::env::set_current_dir(workdir).map_err(|error| no_workdir(workdir, &error))?;
    let mut command = Command::new(program);
    if !mounts.is_empty() {
        command.env("TMPDIR", "/tmp");
    }
    // A group of its own; the session is ours, and has no terminal.
    let mut spawned = command.args(args).process_group(0).spawn();
    if spawned.as_ref().is_err_and(|error| error.raw_os_error() == Some(Errno::NOEXEC.raw_os_error())) {
        // A script that does not name its interpreter, as execvp(3) has it.
        spawned = Command::new("/bin/sh").arg(program).args(args).process_group(0).spawn();
    }
    let child = spawned.map_err(|error| format!("cannot run {}: {error}", program.display()))?;
    let inside = Pid::from_child(&child);
    let runs = pids_outside(&outside, inside)
        .map(|(agent, init)| Word::Runs { agent, init, own_proc })
        .map_err(|error| format!("cannot find the agent's process: {error}"))?;
    Ok((inside, runs))
}

/// What the first process of the namespace needs. Gives the `/proc` of outside, and whether there is one for inside.
fn prepare(keeper: i32, made: &Made, mounts: &[OsString]) -> Result<(OwnedFd, bool), Failed> {
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(|error| ("death signal", error.into()))?;
    SigSet::empty().thread_set_mask().map_err(|error| ("signal mask", error.into()))?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let (path, inherited) = match made {
        Made::Here => ("/proc".to_owned(), Vec::new()),
        Made::ByBubblewrap { outside, program } => {
            (format!("/proc/self/fd/{outside}"), vec![*outside, *program])
        }
    };
    let outside = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| ("/proc", error.into()))?;
    for inherited in inherited {
        nix::unistd::close(inherited).map_err(|error| ("descriptors", error.into()))?;
    }
    // The keeper may have died before the death signal was set. From in here its pid cannot be asked for.
    let stat = read_at(&outside, "self/stat").map_err(|error| ("parent", error))?;
    let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok());
    if parent != Some(keeper) {
        return Err(("parent", io::Error::other("the worker is gone")));
    }
    // That of the keeper has no number in here.
    rustix::process::setsid().map_err(|error| ("session", error.into()))?;
    if matches!(made, Made::ByBubblewrap { .. }) {
        have_no_rights().map_err(|error| ("user namespace", error))?;
        return Ok((outside, true));
    }
    // What is mounted outside is seen here too, and not the other way round.
    let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    mount_change("/", slave).map_err(|error| ("mount namespace", error.into()))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    // Refused to an ordinary user where part of the other one is hidden, as in many containers.
    let own_proc = mount("proc", "/proc", "proc", flags, None).is_ok();
    walls::hide(mounts).map_err(|error| ("what is to be hidden", error))?;
    if !geteuid().is_root() {
        mount_right(false).map_err(|error| ("capabilities", error))?;
    }
    if !mounts.is_empty() {
        if !own_proc {
            return Err(("/proc", io::Error::other("it shows processes that are not to be seen")));
        }
        have_no_rights().map_err(|error| ("user namespace", error))?;
        walls::keep_from_writing(mounts).map_err(|error| ("Landlock", error))?;
    }
    Ok((outside, own_proc))
}

/// In a sandbox root has rights over what it makes itself, as another sandbox within, and over nothing of this one.
fn have_no_rights() -> io::Result<()> {
    let (user, group) = (geteuid(), getegid());
    if user.is_root() {
        unshare(CloneFlags::CLONE_NEWUSER)?;
        stay_oneself(user, group)?;
    }
    Ok(())
}

fn read_at(directory: &OwnedFd, name: &str) -> io::Result<String> {
    let file = rustix::fs::openat(directory, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut text = String::new();
    File::from(file).read_to_string(&mut text)?;
    Ok(text)
}

/// The pids that our child, which is not reaped, and we have outside.
fn pids_outside(outside: &OwnedFd, inside: Pid) -> io::Result<(Pid, Pid)> {
    let not_told = || io::Error::from(io::ErrorKind::InvalidData);
    let pidfd = rustix::process::pidfd_open(inside, PidfdFlags::empty())?;
    // What a descriptor is said to be is said in the pids of the /proc that is asked (pidfd_open(2)).
    let info = read_at(outside, &format!("self/fdinfo/{}", pidfd.as_fd().as_raw_fd()))?;
    let agent = info.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok());
    let link = rustix::fs::readlinkat(outside, "self", Vec::new())?;
    let init = link.to_str().ok().and_then(|pid| pid.parse().ok());
    let pid = |pid: Option<i32>| pid.and_then(Pid::from_raw).ok_or_else(not_told);
    Ok((pid(agent)?, pid(init)?))
}

/// Reaps until nothing is left in the namespace.
fn look_after(program: Pid, runs: Word, mut status: File) -> u8 {
    // Nobody is to wait for this process instead of the program.
    let _ = let_go(&[status.as_raw_fd()]);
    let _ = std::env::set_current_dir("/");
    let _ = status.write_all(runs.line().as_bytes());
    let mut status = Some(status);
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, how))) if pid == program => {
                if let Some(mut status) = status.take() {
                    let _ = status.write_all(Word::Ended(tree::exit(how)).line().as_bytes());
                }
            }
            Ok(_) | Err(Errno::INTR) => {}
            // ECHILD: nothing is left in here.
            Err(_) => return crate::exit::DONE,
        }
    }
}

/// Keeps nothing open but `kept`.
fn let_go(kept: &[i32]) -> io::Result<()> {
    let nothing = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&nothing)?;
    rustix::stdio::dup2_stdout(&nothing)?;
    rustix::stdio::dup2_stderr(&nothing)?;
    drop(nothing);
    close_all_but(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_they_were_written() {
        let pid = |pid| Pid::from_raw(pid).unwrap();
        let runs = Word::Runs { agent: pid(1234), init: pid(1233), own_proc: true };
        for word in
            [runs, Word::Ended(Exit::Code(5)), Word::Ended(Exit::Signal(9)), Word::Ended(Exit::Unknown)]
        {
            assert_eq!(Word::parse(word.line().trim_end()), Some(word));
        }
        for other in ["", "cannot run x", "+1 2", "+0 1 1", "=9", "=code x"] {
            assert_eq!(Word::parse(other), None, "{other}");
        }
    }
}
