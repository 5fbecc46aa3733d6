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
//! The *keeper* is the trampoline, which cannot enter a namespace itself: only what is started after unshare(2) is inside.
//! It is what the worker has as a child. *init* reaps, starts the agent, tells the worker how that ended and leaves when
//! nothing is left. Each is killed by the kernel with the one before it, so that the death of the worker alone is the end
//! of all of them.
//!
//! An ordinary user gets it together with a user namespace in which nothing but the own user and group exists. Programs
//! that change the user (sudo, say) do not work there.
//!
//! When the program starts, init holds nothing of the outside but its end of the status socket, on which the kernel names
//! the sender; and nobody inside can look into init, which is not dumpable (proc(5)).

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Component, Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use protocol::{Granted, MARKER, Sandbox, Walls};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::process::{Gid, Pid, PidfdFlags, Uid, WaitOptions, getegid, geteuid};
use rustix::thread::{CapabilitySet, CapabilitySets};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};

use super::plan::{self, InitPlan, Made, Plan, Program};
use super::status::{self, NotRun, Word, inherited, internal, no_workdir, unprepared};
use super::{Failed, NOT_RUN, descriptors, landlock, mounts, sandbox, seccomp, syscalls};
use crate::tree;

/// A process whose next child is the first of a PID namespace.
pub struct Entered(());

/// Makes the namespace, if there is to be one and, where it may be done without, the kernel makes it. With a `sandbox`
/// come those that it needs.
pub fn enter(or_not: bool, sandbox: Option<Sandbox>) -> Result<Option<Entered>, Failed> {
    let (user, group) = (geteuid(), getegid());
    let mut flags = CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNS;
    flags.set(CloneFlags::CLONE_NEWUSER, !user.is_root());
    flags.set(CloneFlags::CLONE_NEWIPC, sandbox.is_some());
    flags.set(CloneFlags::CLONE_NEWNET, sandbox == Some(Sandbox::Strict));
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

/// Maps this user and this group into the new user namespace, and no others.
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
    /// Starts init, and stays until that is gone. Gives the status to leave with.
    pub fn keep(self, status: &OwnedFd, plan: &Plan) -> Result<u8, Failed> {
        let mut init = start_init(status, plan)?;
        // Close the program's descriptors: a reader that waits for the end of a pipe must not wait for this process.
        let _ = descriptors::no_standard_streams();
        let _ = descriptors::close_all_but(&[]);
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

fn start_init(status: &OwnedFd, plan: &Plan) -> Result<Child, Failed> {
    // The worker signals each process below it. This one is to outlive all in the namespace: the end that the worker
    // waits for is its own.
    let deaf = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGHUP, SIGINT, SIGQUIT] {
        signal_hook::flag::register(signal, Arc::clone(&deaf)).map_err(|error| ("signals", error))?;
    }
    let made = match plan.confinement.contain.walls() {
        Some(walls) => Made::Sandbox(walls.clone()),
        None => Made::Namespace,
    };
    let plan = init_plan(plan, made).map_err(|error| ("plan", error))?;
    status::inherit(status).map_err(|error| ("status socket", error))?;
    let init = Command::new("/proc/self/exe")
        .arg0("session-worker")
        .arg("init")
        .arg(status.as_raw_fd().to_string())
        .arg(plan.as_raw_fd().to_string())
        .spawn();
    init.map_err(|error| ("the first process of the PID namespace", error))
}

/// The plan of init, to be inherited.
fn init_plan(plan: &Plan, made: Made) -> io::Result<OwnedFd> {
    let (workdir, program) = (plan.workdir.clone(), plan.program.clone());
    let plan = plan::write(&InitPlan { made, workdir, limits: plan.confinement.limits.clone(), program })?;
    status::inherit(&plan)?;
    Ok(plan)
}

/// Becomes bubblewrap, which is the keeper of what it makes: it starts init as the first process of its namespace. Comes
/// back only if that fails, with the reason.
pub fn become_bubblewrap(status: &OwnedFd, plan: &Plan, walls: &Walls) -> String {
    let view = match sandbox::view(walls, &plan.workdir, &plan.program.argv, &[]) {
        Ok(view) => view,
        Err(reason) => return reason,
    };
    if let Some(bubblewrap) = walls.program.as_deref().filter(|program| view.lets_write(program)) {
        return format!("{bubblewrap} makes no sandbox: the agent could write it");
    }
    match bubblewrap(status, plan, walls, view) {
        Ok(mut command) => unprepared(&("bubblewrap", command.exec())),
        Err(failed) => unprepared(&failed),
    }
}

fn bubblewrap(
    status: &OwnedFd,
    plan: &Plan,
    walls: &Walls,
    mut view: sandbox::View,
) -> Result<Command, Failed> {
    let own = sandbox::own_program().map_err(|error| ("session-worker", error))?;
    let copy = match own {
        Some(step) => {
            view.steps.push(step);
            None
        }
        None => Some(sandbox::copy_of_own_program().map_err(|error| ("session-worker", error))?),
    };
    if let Some(copy) = &copy {
        status::inherit(copy).map_err(|error| ("descriptors", error))?;
    }
    for step in &view.steps {
        if let sandbox::Step::Shown { held: Some(held), .. } = step {
            status::inherit(held).map_err(|error| ("descriptors", error))?;
        }
    }
    let by = walls.program.as_deref().unwrap_or_default();
    let words = sandbox::bubblewrap(by, walls.sandbox, &view.steps);
    let made = Made::Bubblewrap { granted: view.granted };
    let plan = init_plan(plan, made).map_err(|error| ("plan", error))?;
    status::inherit(status).map_err(|error| ("status socket", error))?;
    // It would end of what the worker sends to each process below it, and all inside with it. What is blocked stays so
    // at exec; init undoes that.
    let blocked: SigSet =
        [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT].into_iter().collect();
    blocked.thread_block().map_err(|error| ("signals", error.into()))?;
    let mut command = Command::new(&words[0]);
    command
        .args(&words[1..])
        .arg(copy.as_ref().map_or(sandbox::OWN_PROGRAM.to_owned(), own_path))
        .arg("init")
        .arg(status.as_raw_fd().to_string())
        .arg(plan.as_raw_fd().to_string());
    // They stay open until exec, and are inherited there.
    std::mem::forget((copy, plan, view.steps));
    Ok(command)
}

fn own_path(held: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", held.as_raw_fd())
}

/// The first process of the namespace: `session-worker init STATUS-FD PLAN-FD`.
pub fn init(args: &[OsString]) -> u8 {
    let (Some(status), Some(plan), 2) = (inherited(args, 0), inherited(args, 1), args.len()) else {
        return internal();
    };
    let marker = std::env::var(MARKER).unwrap_or_default();
    let read = plan::read::<InitPlan>(&plan);
    drop(plan);
    let begun = read
        .map_err(|error| NotRun::from(format!("cannot read what is to be run: {error}")))
        .and_then(|plan| begin(&status, &plan, &marker));
    match begun {
        Ok(program) => look_after(program, &status),
        Err(reason) => {
            status::say_failed(&status, reason);
            NOT_RUN
        }
    }
}

/// Starts the program. Gives its pid in here.
fn begin(status: &OwnedFd, plan: &InitPlan, marker: &str) -> Result<Pid, NotRun> {
    let own_proc = prepare(status, plan).map_err(|failed| match failed {
        Unprepared::Step(failed) => unprepared(&failed),
        Unprepared::Place(reason) => reason,
    })?;
    let Program { env, directory, .. } = &plan.program;
    let Some((program, args)) = plan.program.path_and_args() else {
        return Err("there is no program".to_owned().into());
    };
    enter_directory(plan, directory)?;
    plan.limits.finish().map_err(|failed| unprepared(&failed))?;
    let command = |program: &str, args: &[String]| {
        let mut command = Command::new(program);
        // A group of its own; the session is ours, and has no terminal.
        command.args(args).process_group(0);
        command.env_clear().envs(env.iter().map(|(name, value)| (name, value))).env(MARKER, marker);
        if plan.made != Made::Namespace {
            command.env("TMPDIR", "/tmp");
        }
        command.spawn()
    };
    let mut spawned = command(program, args);
    if spawned.as_ref().is_err_and(|error| error.raw_os_error() == Some(Errno::NOEXEC.raw_os_error())) {
        // A script that does not name its interpreter, as execvp(3) has it.
        let args: Vec<String> = [program.to_owned()].into_iter().chain(args.iter().cloned()).collect();
        spawned = command("/bin/sh", &args);
    }
    let child = spawned.map_err(|error| NotRun::refused(program, &error))?;
    let inside = Pid::from_child(&child);
    let unfound = |error: io::Error| format!("cannot find the agent's process: {error}");
    let pidfd =
        rustix::process::pidfd_open(inside, PidfdFlags::empty()).map_err(|error| unfound(error.into()))?;
    status::say(status, &Word::Runs { own_proc }, Some(pidfd.as_fd())).map_err(unfound)?;
    // Until the worker has looked at the process it is not reaped.
    status::wait_for_word(status).map_err(unfound)?;
    Ok(inside)
}

/// Goes where the program starts. In a sandbox that is below the working directory, whatever symlinks there are in it.
fn enter_directory(plan: &InitPlan, directory: &Path) -> Result<(), String> {
    let shown = Path::new(&plan.workdir).join(directory).display().to_string();
    let refused = |error: io::Error| no_workdir(&shown, &error);
    if plan.made == Made::Namespace {
        return std::env::set_current_dir(Path::new(&plan.workdir).join(directory)).map_err(refused);
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut at = sandbox::open(Path::new(&plan.workdir)).map_err(refused)?;
    if directory.components().any(|part| !matches!(part, Component::CurDir)) {
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        at = rustix::fs::openat2(&at, directory, flags, Mode::empty(), beneath)
            .map_err(|error| refused(error.into()))?;
    }
    rustix::process::fchdir(&at).map_err(|error| refused(error.into()))
}

/// Reason for which the program does not start.
enum Unprepared {
    Step(Failed),
    /// Something that was granted is not what it was: a whole sentence.
    Place(String),
}

impl From<Failed> for Unprepared {
    fn from(failed: Failed) -> Self {
        Unprepared::Step(failed)
    }
}

/// Prepares the first process of the namespace. Returns true if the namespace has a `/proc` of its own.
fn prepare(status: &OwnedFd, plan: &InitPlan) -> Result<bool, Unprepared> {
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(|error| ("death signal", error.into()))?;
    SigSet::empty().thread_set_mask().map_err(|error| ("signal mask", error.into()))?;
    if plan.made != Made::Namespace {
        descriptors::close_all_but(&[status.as_raw_fd()]).map_err(|error| ("descriptors", error))?;
    }
    if !matches!(plan.made, Made::Mounted { .. }) {
        // The keeper may have died before the death signal was set. From in here it has no pid; the worker knows.
        status::say(status, &Word::Here, None).map_err(|error| ("status socket", error))?;
        status::wait_for_word(status).map_err(|error| ("parent", error))?;
        // That of the keeper has no number in here.
        rustix::process::setsid().map_err(|error| ("session", error.into()))?;
    }
    let own_proc = match &plan.made {
        Made::Namespace => own_proc_alone()?,
        Made::Sandbox(walls) => return Err(begin_again(status, plan, walls)),
        Made::Mounted { written } => {
            have_no_rights().map_err(|error| ("user namespace", error))?;
            landlock::keep_from_writing(written).map_err(|error| ("Landlock", error))?;
            true
        }
        Made::Bubblewrap { granted } => {
            granted.iter().try_for_each(unchanged).map_err(Unprepared::Place)?;
            have_no_rights().map_err(|error| ("user namespace", error))?;
            true
        }
    };
    if plan.made != Made::Namespace {
        syscalls::join_new_session_keyring().map_err(|error| ("session keyring", error))?;
        seccomp::refuse().map_err(|error| ("seccomp", error))?;
    }
    // No process in the namespace can inspect this one, whatever rights it has there.
    prctl::set_dumpable(false).map_err(|error| ("dumpable", error.into()))?;
    std::env::set_current_dir("/").map_err(|error| ("/", error))?;
    // A change of its rights may have taken it back (prctl(2)).
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(|error| ("death signal", error.into()))?;
    Ok(own_proc)
}

/// A `/proc` of its own where the kernel lets it be mounted, and nothing else.
fn own_proc_alone() -> Result<bool, Failed> {
    // Mounts outside appear here too, but mounts here do not appear outside.
    let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    mount_change("/", slave).map_err(|error| ("mount namespace", error.into()))?;
    // Refused to an ordinary user where part of the other one is hidden, as in many containers.
    let own_proc = mount_proc().is_ok();
    if !geteuid().is_root() {
        mount_right(false).map_err(|error| ("capabilities", error))?;
    }
    Ok(own_proc)
}

fn mount_proc() -> io::Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    Ok(mount("proc", "/proc", "proc", flags, None)?)
}

/// Makes the sandbox, without bubblewrap, and becomes this program again: by the way on which it was started an agent that
/// starts it could change it. Comes back only if that fails. Root lets go of its rights only after that: whoever has rights in
/// the user namespace in which a program was started looks into it (ptrace(2)).
fn begin_again(status: &OwnedFd, plan: &InitPlan, walls: &Walls) -> Unprepared {
    let (own, written) = match mount_sandbox(walls, plan) {
        Ok(made) => made,
        Err(unprepared) => return unprepared,
    };
    let (workdir, program) = (plan.workdir.clone(), plan.program.clone());
    let next = InitPlan { made: Made::Mounted { written }, workdir, limits: plan.limits.clone(), program };
    let next = plan::write(&next).and_then(|next| {
        status::inherit(&next)?;
        status::inherit(status)?;
        Ok(next)
    });
    let next = match next {
        Ok(next) => next,
        Err(error) => return Unprepared::Step(("plan", error)),
    };
    let error = Command::new(own)
        .arg0("session-worker")
        .arg("init")
        .arg(status.as_raw_fd().to_string())
        .arg(next.as_raw_fd().to_string())
        .exec();
    Unprepared::Step(("session-worker", error))
}

/// The whole view of a sandbox, without bubblewrap. Gives where this program is in it, and what may be written.
fn mount_sandbox(walls: &Walls, plan: &InitPlan) -> Result<(String, Vec<PathBuf>), Unprepared> {
    let view = sandbox::view(walls, &plan.workdir, &plan.program.argv, &mounts::OWN);
    let mut view = view.map_err(Unprepared::Place)?;
    let own = match sandbox::own_program().map_err(|error| ("session-worker", error))? {
        Some(step) => {
            view.steps.push(step);
            sandbox::OWN_PROGRAM.to_owned()
        }
        None => {
            let copy = sandbox::copy_of_own_program().map_err(|error| ("session-worker", error))?;
            let path = own_path(&copy);
            // Until exec, which closes it.
            std::mem::forget(copy);
            path
        }
    };
    mounts::mount_view(&view)?;
    // The old one shows processes that are not to be seen.
    mount_proc().map_err(|error| ("/proc", error))?;
    mounts::cover_proc().map_err(|error| ("/proc", error))?;
    if !geteuid().is_root() {
        mount_right(false).map_err(|error| ("capabilities", error))?;
    }
    Ok((own, landlock::written(&view)))
}

/// Checks that the place which bubblewrap has mounted is the granted one. From here on nobody can exchange the place.
fn unchanged(granted: &Granted) -> Result<(), String> {
    let path = &granted.path;
    let is = sandbox::open(Path::new(path)).and_then(|held| sandbox::identify(path, &held));
    match is {
        Ok(now) if granted.is(&now) => Ok(()),
        Ok(_) => Err(format!("{path} is not what the session was given: it was exchanged at this moment")),
        Err(error) => Err(format!("{path} is not what the session was given: {error}")),
    }
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

/// Reaps until nothing is left in the namespace.
fn look_after(program: Pid, status: &OwnedFd) -> u8 {
    // No reader of a pipe may wait for this process instead of the program.
    let _ = descriptors::no_standard_streams();
    let _ = descriptors::close_all_but(&[status.as_raw_fd()]);
    let mut said = false;
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, how))) if pid == program && !said => {
                said = true;
                // If nobody hears it, the worker is gone.
                let _ = status::say(status, &Word::Ended(tree::exit(how)), None);
            }
            Ok(_) | Err(Errno::INTR) => {}
            // ECHILD: nothing is left in here.
            Err(_) => return crate::exit::DONE,
        }
    }
}
