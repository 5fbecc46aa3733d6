//! Findings of the doctor about the machine: namespaces, sandbox programs, control groups, limits and systemd.

use std::fs;
use std::process::{Command, Stdio};

use protocol::Level;
use rustix::process::{Resource, geteuid, getrlimit};

use super::Finding;
use crate::config::CgroupRoot;
use crate::system::cgroups::Root;
use crate::system::process;

/// Descriptors that a session costs the daemon: two pipes, a pidfd, and a log for a moment.
const DESCRIPTORS_EACH: u64 = 4;
/// Processes that a session is reckoned with: a worker, an agent, and what it runs.
const PROCESSES_EACH: u64 = 10;
/// Fewer sessions than this are worth a word.
const FEW_SESSIONS: u64 = 100;

pub(super) fn worker_program() -> Finding {
    const NAME: &str = "session-worker";
    const MEND: &str = "install it again beside kennel: `cargo install --locked --path session-worker`";
    let program = match process::worker_program(None) {
        Ok(program) => program,
        Err(error) => return Finding::problem(NAME, format!("its place is not known: {error}"), MEND),
    };
    let mut command = Command::new(&program);
    command.arg("--build-id").env_clear().stdin(Stdio::null()).stderr(Stdio::null());
    match run(&mut command) {
        Ok(output) if output.status.success() => Finding::ok(NAME, program.display().to_string()),
        Ok(output) => Finding::problem(NAME, format!("{} {}", program.display(), output.status), MEND),
        Err(error) => Finding::problem(NAME, format!("{}: {error}", program.display()), MEND),
    }
}

/// Reports the strongest containment that this machine offers for sessions.
pub(super) fn containment(level: Level) -> Finding {
    const NAME: &str = "containment";
    match level {
        Level::PidNamespace => Finding::ok(NAME, format!("{level}: nothing outlives its session's worker")),
        Level::PidNamespaceSharedProc => {
            let found = format!(
                "{level}: nothing outlives its session's worker; agents see the machine's pids in /proc"
            );
            Finding::ok(NAME, found)
        }
        Level::Cgroup => Finding::ok(
            NAME,
            format!(
                "{level}: a process that gets away when worker and manager are killed together is found in its group by the \
                 next manager"
            ),
        ),
        Level::Subreaper => Finding::warning(
            NAME,
            format!(
                "{level}: a process that gets away lives on when worker and manager are killed together, until the next \
                 manager ends it"
            ),
            "let ordinary users make user namespaces: see below",
        ),
    }
}

pub(super) fn user_namespaces() -> Finding {
    const NAME: &str = "user namespaces";
    let number = |path: &str| fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<u64>().ok());
    if geteuid().is_root() {
        return Finding::ok(NAME, "not needed: this is root");
    }
    for (path, forbids, mend) in [
        ("/proc/sys/user/max_user_namespaces", 0, "sysctl user.max_user_namespaces=10000"),
        ("/proc/sys/kernel/unprivileged_userns_clone", 0, "sysctl kernel.unprivileged_userns_clone=1"),
        (
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            1,
            "give kennel's session-worker an AppArmor profile with `userns,`, \
             or sysctl kernel.apparmor_restrict_unprivileged_userns=0",
        ),
    ] {
        if number(path) == Some(forbids) {
            return Finding::warning(NAME, format!("forbidden: {path} is {forbids}"), mend);
        }
    }
    Finding::ok(NAME, "allowed")
}

pub(super) fn bubblewrap() -> Finding {
    const NAME: &str = "bubblewrap";
    let path = std::env::var_os("PATH").unwrap_or_default();
    match std::env::split_paths(&path).map(|dir| dir.join("bwrap")).find(|program| program.is_file()) {
        Some(program) => Finding::ok(NAME, program.display().to_string()),
        None => Finding::warning(NAME, "not installed", "install the package `bubblewrap`"),
    }
}

/// Reports the place in which a daemon that starts now would make control groups.
pub(super) fn cgroups(setting: &CgroupRoot, root: Result<Option<Root>, String>) -> Finding {
    const NAME: &str = "cgroups";
    const MEND: &str = "name a directory that you may write to with `cgroup_root` in [daemon], or run the daemon as a systemd \
         service with `Delegate=yes`; until then limits of memory and processes are watched, and none of processors is kept";
    match root {
        Ok(Some(root)) if root.has_memory() => Finding::ok(NAME, root.describe()),
        Ok(Some(root)) => Finding::warning(NAME, format!("{}: none for memory", root.describe()), MEND),
        Ok(None) if *setting == CgroupRoot::None => Finding::ok(NAME, "none are made, as `cgroup_root` says"),
        Ok(None) => Finding::warning(NAME, "nothing is delegated to you", MEND),
        Err(why) => Finding::problem(NAME, format!("`cgroup_root` cannot be used: {why}"), MEND),
    }
}

pub(super) fn descriptors() -> Finding {
    const NAME: &str = "descriptors";
    // The daemon raises its soft limit to the hard one.
    let Some(limit) = getrlimit(Resource::Nofile).maximum else {
        return Finding::ok(NAME, "not limited");
    };
    let found = format!("{limit}, enough for about {} sessions", limit / DESCRIPTORS_EACH);
    match limit / DESCRIPTORS_EACH {
        ..FEW_SESSIONS => Finding::warning(NAME, found, "raise the hard limit: `ulimit -Hn`, LimitNOFILE="),
        _ => Finding::ok(NAME, found),
    }
}

pub(super) fn processes() -> Finding {
    const NAME: &str = "processes";
    let number = |path: &str| fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<u64>().ok());
    // Root is not bound by its own limit (setrlimit(2)).
    let own = getrlimit(Resource::Nproc).maximum.filter(|_| !geteuid().is_root());
    let all = [own, number("/proc/sys/kernel/pid_max"), number("/proc/sys/kernel/threads-max")];
    let Some(limit) = all.into_iter().flatten().min() else {
        return Finding::ok(NAME, "not limited");
    };
    let found = format!("{limit}, enough for about {} sessions", limit / PROCESSES_EACH);
    match limit / PROCESSES_EACH {
        ..FEW_SESSIONS => {
            Finding::warning(NAME, found, "raise what is lowest: `ulimit -Hu`, TasksMax=, kernel.pid_max")
        }
        _ => Finding::ok(NAME, found),
    }
}

/// Reports the daemon's OOM score: whether the kernel kills other processes first when memory runs out.
pub(super) fn oom_score(pid: u32) -> Option<Finding> {
    const NAME: &str = "OOM score";
    let score = fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).ok()?;
    let score: i32 = score.trim().parse().ok()?;
    let found = match score {
        ..0 => format!("{score}: when memory runs out, the kernel looks for others than the daemon"),
        _ => format!(
            "{score}: to protect the daemon takes CAP_SYS_RESOURCE; agents have a higher one, and go first"
        ),
    };
    Some(Finding::ok(NAME, found))
}

/// Reports what systemd does to the sessions when it stops the daemon; none if systemd does not run the daemon.
pub(super) fn service_manager(pid: u32) -> Option<Finding> {
    const NAME: &str = "systemd";
    let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let path = cgroup
        .lines()
        .find_map(|line| line.strip_prefix("0::").or(line.split_once(":name=systemd:").map(|it| it.1)))?;
    let unit = path.rsplit('/').next().filter(|unit| unit.ends_with(".service"))?;
    let user = path.contains("/user@");
    // A daemon that some other service's program has started by itself shares that one's fate.
    let mut command = Command::new("systemctl");
    command.args(if user { &["--user"][..] } else { &[] }).args([
        "show",
        "--property=KillMode",
        "--value",
        unit,
    ]);
    let output = run(command.stdin(Stdio::null()).stderr(Stdio::null())).ok()?;
    let mode = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Some(match mode.as_str() {
        "" => return None,
        "process" => Finding::ok(NAME, format!("{unit} leaves the sessions alone (KillMode=process)")),
        _ => Finding::problem(
            NAME,
            format!(
                "{unit} has KillMode={mode}: when it stops, all sessions' processes are killed with the daemon"
            ),
            "use the unit that `kennel daemon unit` prints",
        ),
    })
}

#[allow(clippy::disallowed_methods, reason = "not in the daemon: there is no reaper here")]
fn run(command: &mut Command) -> std::io::Result<std::process::Output> {
    command.output()
}
