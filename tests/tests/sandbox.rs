//! A hostile agent in a sandbox: what it tries, and what comes of it, for every user that the tests can be.
//!
//! By Landlock, and by bubblewrap where that is installed.

use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::chown;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;

use harness::daemon::Daemon;
use harness::real::*;
use manager::protocol::api::SessionInfo;
use manager::protocol::{Level, Sandbox, SandboxBy, Sandboxed};

use super::containment::{User, daemon_over, each_ends_with_its_session, users};

/// Returns the makers of sandboxes.
pub fn makers() -> Vec<SandboxBy> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let installed = std::env::split_paths(&path).any(|directory| directory.join("bwrap").is_file());
    [SandboxBy::Landlock].into_iter().chain(installed.then_some(SandboxBy::Bubblewrap)).collect()
}

/// A daemon whose home, state and sockets are in no directory for temporary files: those are hidden anyway.
pub fn daemon(user: User, sandbox: &str, by: SandboxBy) -> Daemon {
    let dir = dir_that_sandboxes_show();
    let profile =
        format!("sandbox = \"{sandbox}\"\nsandbox_hide = [\"~/mine\"]\nsandbox_write = [\"~/.agent\"]");
    // Without a sandbox nothing at all is to be in the way.
    let containment = if sandbox == "none" { "subreaper" } else { "auto" };
    let mut daemon = daemon_over(dir, user, &format!("{profile}\ncontainment = \"{containment}\""));
    let root = daemon.dir.path().to_owned();
    for directory in ["home/.ssh", "home/.agent", "home/mine", "work", "other"] {
        std::fs::create_dir_all(root.join(directory)).unwrap();
    }
    for file in ["home/.ssh/id_ed25519", "home/.netrc", "home/mine/notes", "home/readable", "other/file"] {
        std::fs::write(root.join(file), "secret").unwrap();
    }
    if user == User::Nobody {
        give_away(&root);
    }
    daemon.set("HOME", root.join("home").to_str().unwrap());
    if by == SandboxBy::Landlock {
        // A PATH with every needed program except bubblewrap.
        let tools = root.join("tools");
        std::fs::create_dir(&tools).unwrap();
        for tool in ["setpriv", "umount"] {
            std::os::unix::fs::symlink(format!("/usr/bin/{tool}"), tools.join(tool)).unwrap();
        }
        daemon.set("PATH", tools.to_str().unwrap());
    }
    daemon
}

pub fn give_away(directory: &Path) {
    chown(directory, Some(65534), Some(65534)).unwrap();
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        match entry.path().is_dir() {
            true => give_away(&entry.path()),
            false => chown(entry.path(), Some(65534), Some(65534)).unwrap(),
        }
    }
}

/// The servers and processes outside of a sandbox.
struct Outside {
    /// Words for the agent: how each is reached.
    ways: Vec<String>,
    _open: (TcpListener, Option<TcpListener>, UnixListener),
}

impl Outside {
    fn new() -> Self {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        // Some machines have no IPv6.
        let tcp6 = TcpListener::bind("[::1]:0").ok();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let name = format!("kennel-test-{}", std::process::id());
        let unix = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let mut ways = vec![
            format!("tcp {}", tcp.local_addr().unwrap()),
            format!("udp {}", udp.local_addr().unwrap()),
            format!("abstract {name}"),
        ];
        ways.extend(tcp6.as_ref().map(|tcp6| format!("tcp {}", tcp6.local_addr().unwrap())));
        std::thread::spawn(move || {
            while let Ok((_, from)) = udp.recv_from(&mut [0; 8]) {
                let _ = udp.send_to(b"hello", from);
            }
        });
        Self { ways, _open: (tcp, tcp6, unix) }
    }
}

/// Returns the attempts of a session's agent that succeeded.
fn tried(daemon: &Daemon, outside: &Outside) -> Vec<String> {
    let root = daemon.dir.path().to_owned();
    let work = root.join("work");
    let info: SessionInfo = daemon.json(&["start", "--agent", "fixture", "--dir", work.to_str().unwrap()]);
    let id = info.id.as_str();
    daemon.idle(id);
    let at = |below: &str| root.join(below).display().to_string();
    let temporary = std::env::temp_dir().join(format!("kennel-test-{}", std::process::id()));
    let mut script = vec![
        // Hidden files stay hidden, whatever the result.
        format!("try umount {}", at("home/.ssh")),
        format!("try write {}", at("work/file")),
        format!("try write {}", temporary.display()),
        format!("try write {}", at("home/.agent/file")),
        format!("try read {}", at("home/readable")),
        format!("try write {}", at("other/new")),
        format!("try write {}", at("home/.profile")),
        format!("try read {}", at("home/.ssh/id_ed25519")),
        format!("try read {}", at("home/.netrc")),
        format!("try read {}", at("home/mine/notes")),
        format!("try read {}", at("state/journal.db")),
        format!("try list {}", at("state")),
        format!("try unix {}", daemon.socket().display()),
        format!("try signal {}", daemon.pid()),
    ];
    script.extend(outside.ways.iter().map(|way| format!("try {way}")));
    let output = daemon.ok(&["send", id, &script.join("; ")]);
    assert_eq!(temporary.exists(), daemon.show(id).sandbox.is_none(), "temporary files are the agent's own");
    let _ = std::fs::remove_file(temporary);
    output.lines().skip(1).map(|line| line.rsplit_once(' ').unwrap().1.to_owned()).collect()
}

#[test]
fn a_hostile_agent_reaches_its_work_and_nothing_else() {
    let outside = Outside::new();
    for user in users() {
        // All of it can be done: else it proves nothing that it cannot.
        let free = tried(&daemon(*user, "none", SandboxBy::Bubblewrap), &outside);
        assert_eq!(free, vec!["done"; 13 + outside.ways.len()], "{user:?}");
        let sandboxes = [("workdir", Sandbox::Workdir, "done"), ("strict", Sandbox::Strict, "refused")];
        let all = makers().into_iter().flat_map(|by| sandboxes.map(|sandbox| (by, sandbox)));
        for (by, (name, sandbox, reached)) in all {
            let daemon = daemon(*user, name, by);
            // The rest of the home directory can be read, unless nothing of it is shown.
            let home = if sandbox == Sandbox::Strict { "refused" } else { "done" };
            let (can, cannot) = (["done", "done", "done", home], ["refused"; 9]);
            let expected = [&can[..], &cannot[..], &vec![reached; outside.ways.len()]].concat();
            assert_eq!(tried(&daemon, &outside), expected, "{user:?} {name} {by:?}");
            // Devices that this machine has, whichever those are.
            for device in ["/dev/cpu", "/dev/net", "/dev/input", "/dev/mapper", "/dev/vfio"] {
                let output = daemon.ok(&["send", "session-1", &format!("try list {device}")]);
                assert_eq!(output, "list refused\n", "{user:?} {by:?} {device}");
            }
            let info = daemon.show("session-1");
            assert_eq!(info.sandbox, Some(Sandboxed { sandbox, by }));
            assert_eq!(info.containment, Some(Level::PidNamespace));
            let shown = daemon.ok(&["show", "session-1"]);
            assert!(shown.contains(&format!(" {}\n", Sandboxed { sandbox, by })), "{shown}");
        }
    }
}

fn refused(daemon: &Daemon) {
    let work = daemon.dir.path().join("work");
    let output = daemon.run(&["start", "--agent", "fixture", "--dir", work.to_str().unwrap()]);
    assert_eq!(output.code, Some(2), "{output:?}");
    for word in ["bubblewrap", "nothing was started", "install"] {
        assert!(output.stderr.contains(word), "{output:?} lacks {word}");
    }
    assert_eq!(daemon.json::<Vec<SessionInfo>>(&["ls"]).len(), 0);
}

#[test]
fn what_runs_in_a_sandbox_ends_with_its_session_and_tells_how_it_ended() {
    for (user, by) in users().iter().flat_map(|user| makers().into_iter().map(move |by| (user, by))) {
        let daemon = daemon(*user, "workdir", by);
        each_ends_with_its_session(&daemon, Level::PidNamespace);
        daemon.ok(&["restart", "session-1"]);
        daemon.idle("session-1");
        // The sandbox that an agent has of its own nests in bubblewrap's.
        if by == SandboxBy::Bubblewrap {
            assert_eq!(daemon.ok(&["send", "session-1", "try sandbox true"]), "sandbox done\n", "{user:?}");
        }
        for (script, status) in [("exit 7", "status 7"), ("signal SEGV", "SIGSEGV")] {
            let output = daemon.run(&["send", "session-1", script]);
            assert!(
                output.code == Some(1) && output.stderr.contains(status),
                "{user:?} {script}: {output:?}"
            );
        }
    }
}

#[test]
fn a_sandbox_that_cannot_be_made_starts_nothing() {
    // The kernel makes no namespace; there is bubblewrap, or there is not.
    for path in ["true", "export PATH=/nonexistent"] {
        let mut unable = daemon(User::Own, "strict", SandboxBy::Bubblewrap);
        unable.run_where(&format!("echo 0 > /proc/sys/user/max_pid_namespaces && {path}"));
        let home = unable.dir.path().join("home");
        unable.set("HOME", home.to_str().unwrap());
        refused(&unable);
    }
}

#[test]
fn a_working_directory_that_shows_what_is_hidden_is_refused() {
    let daemon = daemon(User::Own, "workdir", SandboxBy::Landlock);
    let root = daemon.dir.path().to_owned();
    for directory in ["home", "home/.ssh", "home/mine", ""] {
        let directory = root.join(directory);
        let output = daemon.run(&["start", "--agent", "fixture", "--dir", directory.to_str().unwrap()]);
        assert_eq!(output.code, Some(2), "{output:?}");
        assert!(output.stderr.contains("which is to be hidden; nothing was started"), "{output:?}");
    }
    assert!(lives(daemon.pid()));
}
