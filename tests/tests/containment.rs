//! Processes that try to escape: one that forks twice and leaves its session, group and descriptors, one that
//! starts its successor and exits, and one in the background. They end with their session, in every case and
//! for every user.

use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use harness::daemon::Daemon;
use harness::real::*;
use manager::protocol::Level;
use manager::protocol::api::{Orphans, SessionInfo, SessionOpts};
use manager::protocol::event::EventKind;
use nix::sys::signal::Signal;

/// The user `nobody`, who owns nothing and has no rights.
const NOBODY: u32 = 65534;
/// All three, and then the agent waits.
const ALL: &str = "escape; chain 30000ms; fork 2; say up; sleep 60000ms";

/// A user that the tests can be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum User {
    Own,
    Nobody,
}

/// Returns the users that the tests can be.
pub fn users() -> &'static [User] {
    match nix::unistd::geteuid().is_root() {
        true => &[User::Own, User::Nobody],
        false => &[User::Own],
    }
}

/// Returns a daemon of this user, with a profile `fixture` whose agent follows its prompt.
pub fn daemon(user: User, more: &str) -> Daemon {
    daemon_over(tempfile::tempdir().unwrap(), user, more)
}

/// The same over this directory.
pub fn daemon_over(dir: tempfile::TempDir, user: User, more: &str) -> Daemon {
    let mut daemon = Daemon::over(dir);
    let mut agent = beside("fixture-agent");
    if user == User::Nobody {
        // The user `nobody` may not be able to read the programs' directory.
        let mut programs = publish(&[kennel(), worker(), &agent], &daemon.dir.path().join("bin"));
        agent = programs.remove(2);
        chown(daemon.dir.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        daemon.run_as(NOBODY, programs.remove(0));
    }
    let directory = daemon.dir.path().join("kennel");
    std::fs::create_dir_all(&directory).unwrap();
    let agent = agent.display();
    let text = format!(
        "[agents.fixture]\nkind = \"command\"\ncommand = [\"{agent}\"]\nprompt_via = \"argument\"\n{more}\n[defaults]\ngrace = \"100ms\"\n"
    );
    std::fs::write(directory.join("config.toml"), text).unwrap();
    daemon
}

/// A session in whose turn all three are under way.
struct Escapes {
    info: SessionInfo,
    uuid: String,
}

impl Escapes {
    fn begin(daemon: &Daemon, level: Level) -> Self {
        let work = daemon.dir.path().join("work");
        std::fs::create_dir_all(&work).unwrap();
        let info: SessionInfo =
            daemon.json(&["start", "--agent", "fixture", "--dir", work.to_str().unwrap()]);
        let id = info.id.to_string();
        assert_eq!(daemon.idle(&id).containment, Some(level));
        Self::again(daemon, &id)
    }

    fn again(daemon: &Daemon, id: &str) -> Self {
        let idle = daemon.idle(id);
        daemon.ok(&["send", "--no-wait", id, ALL]);
        let uuid = uuid(idle.pid.unwrap());
        let says = |argument: &str| {
            until("it is there", || marked(&uuid).into_iter().find(|pid| arguments(*pid).contains(argument)))
        };
        // The one that has escaped, one of the two in the background; the chain is never the same process for long.
        let escaped = says("--escaped");
        says("--child");
        says("--chain");
        let worker = idle.pid.unwrap();
        until("it has lost its parents", || {
            parent(escaped).filter(|parent| !arguments(*parent).contains("--leave-behind"))
        });
        assert!(lives(escaped) && lives(worker));
        Self {
            info: until("the turn's agent", || Some(daemon.show(id)).filter(|info| info.agent_pid.is_some())),
            uuid,
        }
    }

    fn id(&self) -> &str {
        self.info.id.as_str()
    }

    fn worker(&self) -> u32 {
        self.info.pid.unwrap()
    }

    /// Returns the living processes that are none of these.
    fn left(&self, expected: &[u32]) -> Vec<(u32, String)> {
        let left = marked(&self.uuid).into_iter().filter(|pid| !expected.contains(pid));
        left.map(|pid| (pid, arguments(pid))).filter(|(pid, _)| lives(*pid)).collect()
    }
}

fn arguments(pid: u32) -> String {
    String::from_utf8_lossy(&std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default())
        .replace('\0', " ")
}

/// Everything that can be done to a session and its manager, but for the death of both at once.
pub fn each_ends_with_its_session(daemon: &Daemon, level: Level) {
    // The agent is killed: the turn is over, and all that it has started.
    let escapes = Escapes::begin(daemon, level);
    kill(escapes.info.agent_pid.unwrap());
    daemon.idle(escapes.id());
    assert_eq!(escapes.left(&[escapes.worker()]), []);
    // The worker is killed: the next one is alone.
    let escapes = Escapes::again(daemon, escapes.id());
    kill(escapes.worker());
    until("its death is seen", || (daemon.show(escapes.id()).pid != escapes.info.pid).then_some(()));
    let next = daemon.idle(escapes.id()).pid.unwrap();
    assert_eq!(escapes.left(&[next]), []);
    // Somebody stops it: once that is answered, nothing is left.
    let escapes = Escapes::again(daemon, escapes.id());
    daemon.ok(&["stop", escapes.id()]);
    assert_eq!(escapes.left(&[]), []);
    daemon.ok(&["restart", escapes.id()]);
    // The manager is killed, and the next one stops it.
    let escapes = Escapes::again(daemon, escapes.id());
    daemon.kill();
    daemon.ok(&["stop", escapes.id()]);
    assert_eq!(escapes.left(&[]), []);
}

#[test]
fn each_ends_with_its_session_in_a_namespace() {
    for user in users() {
        let daemon = daemon(*user, "containment = \"pid_namespace\"");
        each_ends_with_its_session(&daemon, Level::PidNamespace);
        // Worker and manager are killed together, and no other manager comes.
        daemon.ok(&["restart", "session-1"]);
        let escapes = Escapes::again(&daemon, "session-1");
        let manager = daemon.pid();
        signal(escapes.worker(), Signal::SIGSTOP);
        kill(manager);
        kill(escapes.worker());
        until("nothing is left", || escapes.left(&[]).is_empty().then_some(()));
    }
}

#[test]
fn each_ends_with_its_session_without_a_namespace() {
    for user in users() {
        let daemon = daemon(*user, "containment = \"subreaper\"");
        each_ends_with_its_session(&daemon, Level::Subreaper);
        // The worker of an adopted session is killed: it is not the manager's child, so the marker finds its
        // processes.
        daemon.ok(&["restart", "session-1"]);
        let escapes = Escapes::again(&daemon, "session-1");
        daemon.kill();
        assert_eq!(daemon.show(escapes.id()).pid, Some(escapes.worker()));
        kill(escapes.worker());
        until("its death is seen", || (daemon.show(escapes.id()).pid != escapes.info.pid).then_some(()));
        let next = daemon.idle(escapes.id()).pid.unwrap();
        assert_eq!(escapes.left(&[next]), []);
        // Both are killed together: the next manager finds what is left.
        let escapes = Escapes::again(&daemon, "session-1");
        let manager = daemon.pid();
        signal(escapes.worker(), Signal::SIGSTOP);
        kill(manager);
        kill(escapes.worker());
        let next = daemon.idle(escapes.id()).pid.unwrap();
        assert_eq!(escapes.left(&[next]), []);
    }
}

#[test]
fn auto_is_a_namespace_where_one_can_be_made_for_every_user() {
    for user in users() {
        let daemon = daemon(*user, "");
        let info: SessionInfo = daemon.json(&["start", "--agent", "fixture"]);
        assert_eq!(daemon.idle(info.id.as_str()).containment, Some(Level::PidNamespace), "{user:?}");
        let shown = daemon.ok(&["show", info.id.as_str()]);
        assert!(shown.contains("\ncontainment: pid_namespace\n"), "{shown}");
    }
}

#[test]
fn where_no_namespace_can_be_made_auto_does_without_and_what_is_demanded_is_refused() {
    let mut daemon = daemon(User::Own, "[agents.strict]\nkind = \"shell\"\ncontainment = \"pid_namespace\"");
    // The bound counts in a user namespace of the daemon's own only.
    daemon.run_where("echo 0 > /proc/sys/user/max_pid_namespaces");
    let info: SessionInfo = daemon.json(&["start", "--agent", "fixture"]);
    assert_eq!(daemon.idle(info.id.as_str()).containment, Some(Level::Subreaper));
    assert_eq!(daemon.ok(&["send", info.id.as_str(), "say runs"]), "runs\n");
    let refused = daemon.run(&["start", "--agent", "strict"]);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    for word in ["PID namespace", "nothing was started", "max_user_namespaces", "\"auto\""] {
        assert!(refused.stderr.contains(word), "{refused:?} lacks {word}");
    }
    assert_eq!(daemon.json::<Vec<SessionInfo>>(&["ls"]).len(), 1);
}

/// The default number of cycles in the test below: as many as a run of all tests can bear.
const CYCLES: usize = 24;

#[tokio::test]
async fn start_and_kill_cycles_leave_nothing() {
    let cycles = std::env::var("KENNEL_CYCLES").ok().map_or(CYCLES, |cycles| cycles.parse().unwrap());
    let host = Host::new().await;
    for containment in ["auto", "subreaper"] {
        std::fs::write(host.config(), profile(&beside("fixture-agent"), containment)).unwrap();
        for cycle in 0..cycles / 2 {
            let opts = SessionOpts { agent: Some("fixture".into()), grace_ms: Some(20), ..host.opts() };
            let id = host.session_with(opts).await;
            let worker = host.pid(&id).await;
            let uuid = uuid(worker);
            host.send(&id, "escape; chain 5000ms; fork 2; say up; sleep 60000ms").await;
            host.event(&id, "it is under way", |kind| matches!(kind, EventKind::MessageChunk { .. })).await;
            let agent = host.manager.get_session(&id).await.unwrap().agent_pid.unwrap();
            assert!(marked(&uuid).len() > 3);
            match cycle % 3 {
                0 => kill(worker),
                1 => kill(agent),
                _ => {}
            }
            host.manager.stop_session(&id, Orphans::Stop).await.unwrap();
            let left = marked(&uuid);
            let told: Vec<String> = left.iter().map(|pid| described(*pid)).collect();
            assert_eq!(left, Vec::<u32>::new(), "{containment}, cycle {cycle}: {told:#?}");
            host.manager.remove_session(&id, false).await.unwrap();
        }
    }
    println!("{cycles} cycles left 0 processes");
    host.manager.shutdown().await;
}

/// The facts about a process that should not be there.
fn described(pid: u32) -> String {
    let read = |name: &str| std::fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let text = |name: &str| String::from_utf8_lossy(&read(name)).replace('\0', " ");
    let log = std::fs::read_link(format!("/proc/{pid}/fd/2"));
    format!("{}| {}| {log:?}| {:?}", text("cmdline"), text("stat"), marker_of(pid))
}

fn profile(agent: &Path, containment: &str) -> String {
    let agent: PathBuf = agent.to_owned();
    format!(
        "[agents.fixture]\nkind = \"command\"\ncommand = [\"{}\"]\nprompt_via = \"argument\"\ncontainment = \"{containment}\"\n",
        agent.display()
    )
}
