//! The parent of the daemon, and a subreaper: every process that loses its parents becomes a child of this
//! one. So no leftover goes unseen.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;
use protocol::MARKER;

use super::side::{SIDE, connects};
use crate::real;

/// The number of unrelated processes. Pids wrap around while a campaign runs, so some of these get pids of
/// processes that kennel once knew.
const BYSTANDERS: usize = 48;
/// The longest time for which a dead process of `ssh` is left to the client that started it.
const LEFT_TO_CLIENT: Duration = Duration::from_millis(500);
/// The signal that ends a bystander. kennel never sends it.
const OURS: Signal = Signal::SIGUSR1;

/// Where everything of a campaign lies.
pub struct Place {
    /// Its directory.
    pub dir: PathBuf,
    /// The programs under test.
    pub kennel: PathBuf,
    /// The programs under test.
    pub worker: PathBuf,
    /// The fixture that plays the agents.
    pub agent: PathBuf,
    /// As whom the daemon runs, if not as ourselves.
    pub uid: Option<u32>,
    /// The process in whose network the daemon runs, if not in ours.
    pub network: Option<u32>,
}

impl Place {
    /// The daemon's socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("run/kennel.sock")
    }

    /// The state directory.
    pub fn state(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// The configuration.
    pub fn config(&self) -> PathBuf {
        self.dir.join("config.toml")
    }

    /// Armed points.
    pub fn points(&self) -> PathBuf {
        self.dir.join("points")
    }

    /// One file for each prompt, with one byte for each time that it ran.
    pub fn marks(&self) -> PathBuf {
        self.dir.join("marks")
    }

    /// A program that does not outlive this process.
    pub(super) fn kept(&self, program: &Path) -> Command {
        let mut command = Command::new(&self.agent);
        command.arg("--not-without").arg(std::process::id().to_string()).arg(program);
        command.env_remove(MARKER).env_remove(SIDE).stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// Ends what is left when this process is killed: workers would wait for the next daemon.
    fn guard(&self) -> Command {
        let mut command = Command::new(&self.agent);
        command.arg("--end-after").arg(std::process::id().to_string()).arg(&self.dir);
        command.env_remove(SIDE).stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    fn daemon(&self) -> Command {
        let mut command = match self.network {
            None => self.kept(&self.kennel),
            Some(pid) => {
                let mut command = self.kept(Path::new("nsenter"));
                command.arg(format!("--net=/proc/{pid}/ns/net")).arg(&self.kennel);
                command
            }
        };
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.dir.join("daemon.log"));
        command.args(["daemon", "run", "--worker"]).arg(&self.worker);
        command.current_dir("/").env("KENNEL_LOG", "warn").env("HOME", &self.dir);
        command.env("KENNEL_STATE_DIR", self.state()).env("KENNEL_SOCKET", self.socket());
        command.env("KENNEL_CONFIG", self.config());
        command.env(protocol::failpoint::DIRECTORY, self.points());
        command.stderr(log.unwrap());
        if let Some(uid) = self.uid {
            use std::os::unix::process::CommandExt;
            command.uid(uid).gid(uid);
        }
        command
    }
}

#[derive(Default)]
struct Inner {
    daemon: Option<u32>,
    /// It shall run.
    wanted: bool,
    /// Deaths of the daemon that the campaign has caused and not yet seen.
    killed_at: Option<Instant>,
    /// The number of SIGINTs to the daemon: after the second it waits for no process.
    interrupted: u32,
    bystanders: BTreeSet<u32>,
    guard: Option<u32>,
    /// The process that holds the other machine.
    server: Option<u32>,
    /// A dead process of `ssh`, since when it waits for whoever started it.
    dead_ssh: Option<(u32, Instant)>,
    /// Violations of what must never happen.
    wrong: Vec<String>,
    /// Ends of the daemon, by how.
    ends: BTreeMap<String, u64>,
    /// The end of a time with a full disk. A manager that cannot take the state directory over then reports
    /// it and exits.
    disk_full_until: Option<Instant>,
    /// The manager that was left without descriptors or processes. One that is still starting reports it and
    /// exits.
    starved: Option<u32>,
}

impl Inner {
    fn disk_is_full(&self) -> bool {
        self.disk_full_until.is_some_and(|until| Instant::now() < until)
    }
}

/// Children of this process: the daemon, the bystanders, and orphans.
pub struct Host {
    /// Where.
    pub place: Place,
    inner: Mutex<Inner>,
    /// Points are armed, at which the daemon may kill itself.
    points: bool,
}

impl Host {
    /// Starts to reap. Nothing else may wait for children of this process.
    pub fn new(place: Place, points: bool) -> Arc<Self> {
        rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
        let host = Arc::new(Self { place, inner: Mutex::default(), points });
        {
            // By the thread that lives for as long as the process.
            let mut inner = host.inner();
            inner.guard = Some(host.place.guard().spawn().unwrap().id());
        }
        let reaper = host.clone();
        std::thread::spawn(move || reaper.reap());
        host
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    fn reap(&self) {
        loop {
            // Waited for first and reaped under the lock, so that a signal sent under the lock hits the right
            // process.
            let looked = waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT);
            match looked.ok().and_then(|status| status.pid()) {
                Some(pid) if self.is_left_to_its_client(pid) => {
                    std::thread::park_timeout(std::time::Duration::from_millis(2));
                }
                Some(pid) => self.ended(pid),
                // No child at all, at the beginning and at the end.
                None => std::thread::park_timeout(std::time::Duration::from_millis(2)),
            }
        }
    }

    /// Returns true for a process of `ssh` that has just ended: the client that has started it waits for it.
    fn is_left_to_its_client(&self, pid: Pid) -> bool {
        let pid = pid.as_raw().cast_unsigned();
        let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        if comm.trim_end() != "ssh" {
            return false;
        }
        let mut inner = self.inner();
        let since = match inner.dead_ssh {
            Some((dead, since)) if dead == pid => since,
            _ => Instant::now(),
        };
        inner.dead_ssh = Some((pid, since));
        since.elapsed() < LEFT_TO_CLIENT
    }

    fn ended(&self, pid: Pid) {
        // The lock is held from the spawn until the pid is noted.
        let mut inner = self.inner();
        let (Ok(status), Ok(pid)) = (waitpid(pid, None), u32::try_from(pid.as_raw())) else {
            return;
        };
        if inner.daemon == Some(pid) {
            inner.daemon = None;
            let asked = inner.killed_at.take().is_some();
            let interrupted = std::mem::take(&mut inner.interrupted);
            let (how, fine) = match status {
                WaitStatus::Signaled(_, signal, _) => {
                    (signal.as_str().to_owned(), asked || (self.points && signal == Signal::SIGKILL))
                }
                WaitStatus::Exited(_, 1) if inner.disk_is_full() => ("refused by a full disk".into(), true),
                WaitStatus::Exited(_, 1) if inner.starved == Some(pid) => {
                    ("refused without room".into(), true)
                }
                WaitStatus::Exited(_, 1) if interrupted > 1 => ("left at once".into(), true),
                WaitStatus::Exited(_, code) => (format!("exit {code}"), code == 0 && asked),
                other => (format!("{other:?}"), false),
            };
            if !fine {
                inner.wrong.push(format!("the manager {pid} ended by itself: {how}"));
            }
            *inner.ends.entry(how).or_default() += 1;
            if inner.wanted {
                if inner.disk_is_full() {
                    drop(inner);
                    std::thread::park_timeout(std::time::Duration::from_millis(50));
                    inner = self.inner();
                }
                self.start_daemon(&mut inner);
            }
        } else if inner.bystanders.remove(&pid)
            && !matches!(status, WaitStatus::Signaled(_, OURS, _) | WaitStatus::Exited(_, 0))
        {
            inner.wrong.push(format!("a stranger's process was hit: {status:?}"));
        }
    }

    #[allow(clippy::zombie_processes, reason = "the reaper waits for all")]
    fn start_daemon(&self, inner: &mut Inner) {
        let child = self.place.daemon().spawn().unwrap();
        inner.daemon = Some(child.id());
    }

    /// Starts the daemon, and again whenever it ends.
    pub fn keep_daemon(&self) {
        let mut inner = self.inner();
        inner.wanted = true;
        self.start_daemon(&mut inner);
    }

    /// This process holds the other machine.
    pub fn keep_server(&self, server: u32) {
        self.inner().server = Some(server);
    }

    /// Does something that waits for children of its own.
    pub fn undisturbed<T>(&self, work: impl FnOnce() -> T) -> T {
        // Under the lock nothing else is reaped.
        let _inner = self.inner();
        work()
    }

    /// The next end of the daemon is its last.
    pub fn let_daemon_end(&self) {
        let mut inner = self.inner();
        inner.wanted = false;
        inner.killed_at = Some(Instant::now());
    }

    /// The journal can grow no more until then.
    pub fn disk_is_full(&self, until: Instant) {
        let full = &mut self.inner().disk_full_until;
        *full = (*full).max(Some(until));
    }

    /// This manager may have so many descriptors or processes; none: as many as before.
    pub fn limit(&self, manager: u32, resource: &str, soft: Option<u64>) -> bool {
        let mut inner = self.inner();
        if inner.daemon != Some(manager) {
            return false;
        }
        inner.starved = Some(manager);
        let soft = soft.map_or("all".to_owned(), |soft| soft.to_string());
        let mut command = Command::new(&self.place.agent);
        command.args(["--limit", &manager.to_string(), resource, &soft]).env_remove(MARKER);
        if let Some(uid) = self.place.uid {
            use std::os::unix::process::CommandExt;
            command.uid(uid).gid(uid);
        }
        // Under the lock nothing else is reaped, so the pid cannot become another's.
        command.spawn().and_then(|mut child| child.wait()).is_ok_and(|end| end.success())
    }

    /// The last lines of the daemon's log; before them the last panic, if there was one.
    pub fn log(&self) -> String {
        let log = std::fs::read_to_string(self.place.dir.join("daemon.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines.len().saturating_sub(30);
        let panic = lines[..last].iter().rposition(|line| line.contains("panicked at"));
        let panic = panic.map_or(&[][..], |at| &lines[at..(at + 30).min(last)]);
        [panic, &lines[last..]].concat().join("\n")
    }

    /// The daemon's process.
    pub fn daemon(&self) -> Option<u32> {
        self.inner().daemon
    }

    /// Signals the daemon. `lethal`: its end is expected.
    pub fn signal_daemon(&self, signal: Signal, lethal: bool) -> Option<u32> {
        let mut inner = self.inner();
        let pid = inner.daemon?;
        if lethal {
            inner.killed_at = Some(Instant::now());
        }
        inner.interrupted += u32::from(signal == Signal::SIGINT);
        real::signal(pid, signal);
        Some(pid)
    }

    /// Replaces one bystander, or fills their ranks.
    pub fn turn_bystanders(&self) {
        let mut inner = self.inner();
        let mut command = self.place.kept(&self.place.agent);
        command.arg("--child");
        if let Some(oldest) = inner.bystanders.first().copied()
            && inner.bystanders.len() >= BYSTANDERS
        {
            real::signal(oldest, OURS);
        }
        if inner.bystanders.len() <= BYSTANDERS {
            inner.bystanders.insert(command.spawn().unwrap().id());
        }
    }

    /// Ends the bystanders, and the guard.
    pub fn dismiss_bystanders(&self) {
        if let Some(guard) = self.inner().guard.take() {
            real::kill(guard);
        }
        for pid in &self.inner().bystanders {
            real::signal(*pid, OURS);
        }
    }

    /// Children that are neither the daemon nor bystanders: processes that were left behind. Zombies are reaped
    /// in no time and do not count.
    pub fn orphans(&self) -> Vec<u32> {
        let inner = self.inner();
        let known = |pid: &u32| {
            [inner.daemon, inner.guard, inner.server].contains(&Some(*pid)) || inner.bystanders.contains(pid)
        };
        let children = children(std::process::id());
        children.into_iter().filter(|pid| !known(pid) && real::lives(*pid) && !connects(*pid)).collect()
    }

    /// Returns the violations seen so far, each once.
    pub fn wrong(&self) -> Vec<String> {
        std::mem::take(&mut self.inner().wrong)
    }

    /// Returns how the daemon ended, and how often.
    pub fn ends(&self) -> BTreeMap<String, u64> {
        self.inner().ends.clone()
    }
}

/// All children of a process, zombies too.
pub fn children(pid: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    let pids =
        |list: String| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>();
    lists.flat_map(pids).collect()
}

/// Returns all processes below a process.
pub fn below(pid: u32) -> Vec<u32> {
    let mut found = children(pid);
    let mut at = 0;
    while let Some(next) = found.get(at).copied() {
        found.extend(children(next));
        at += 1;
        // A process that forks faster than this reads is not followed to the end.
        if found.len() > 2_000 {
            break;
        }
    }
    found
}

/// Returns the number of descriptors that a process has open.
pub fn descriptors(pid: u32) -> Option<usize> {
    Some(std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count())
}
