//! The daemon as a service: this test stands in for the service manager, with a socket for its messages.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::Child;
use std::time::{Duration, Instant};

use harness::daemon::{Daemon, finish};
use harness::real::*;
use manager::protocol::api::ManagerInfo;
use nix::sys::signal::Signal;

/// A service manager, as far as a service sees it.
struct Service {
    daemon: Daemon,
    socket: UnixDatagram,
    name: String,
}

impl Service {
    /// One that listens at a path.
    fn new() -> Self {
        let daemon = Daemon::new();
        let path = daemon.dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        Self { daemon, socket, name: path.to_str().unwrap().to_owned() }
    }

    /// Starts the daemon as the service's main process. `watchdog`: the time in which a sign of life is expected.
    fn start(&self, watchdog: Option<Duration>) -> Child {
        let mut command = self.daemon.command(&["daemon", "run"]);
        command.env("NOTIFY_SOCKET", &self.name);
        if let Some(within) = watchdog {
            command.env("WATCHDOG_USEC", within.as_micros().to_string());
        }
        command.spawn().unwrap()
    }

    /// The next message; none if none comes within this time.
    fn next(&self, within: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(within)).unwrap();
        let mut buffer = [0; 4096];
        let length = self.socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8(buffer[..length].to_vec()).unwrap())
    }

    /// The first message with this line.
    fn until(&self, line: &str) -> String {
        let end = Instant::now() + BOUND;
        let mut heard = Vec::new();
        while Instant::now() < end {
            let Some(message) = self.next(BOUND) else { break };
            if message.lines().any(|found| found.starts_with(line)) {
                return message;
            }
            heard.push(message);
        }
        panic!("no {line} in {heard:?}")
    }
}

/// Waits for the end of this test's child.
fn ended(mut child: Child) {
    let status = until("the daemon's end", || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0), "{status:?}");
}

#[test]
fn a_service_says_when_it_serves_what_its_sessions_do_and_that_it_ends() {
    let service = Service::new();
    let main = service.start(None);
    let ready = service.until("READY=1");
    assert!(ready.contains("STATUS=no sessions\n"), "{ready}");
    // Whoever is told so is answered at once.
    let info: ManagerInfo = service.daemon.get("/v1/manager");
    assert_eq!(info.pid, main.id());
    service.daemon.ok(&["start", "--id", "one"]);
    service.until("STATUS=1 session: 1 idle");
    service.daemon.ok(&["stop", "one"]);
    service.until("STATUS=1 session: 1 stopped");
    // At rest it says nothing, and nobody asked for signs of life.
    assert_eq!(service.next(Duration::from_millis(2_500)), None);
    signal(main.id(), Signal::SIGTERM);
    service.until("STOPPING=1");
    ended(main);
}

#[test]
fn an_abstract_address_is_one_too_and_no_program_of_a_session_hears_of_it() {
    let mut service = Service::new();
    let name = format!("kennel-service-{}", std::process::id());
    service.socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    service.name = format!("@{name}");
    let place = service.daemon.dir.path().join("kennel");
    std::fs::create_dir_all(&place).unwrap();
    let config = "[defaults]\nenv_pass = [\"NOTIFY_SOCKET\", \"WATCHDOG_USEC\", \"LISTEN_FDS\"]\n";
    std::fs::write(place.join("config.toml"), config).unwrap();
    let main = service.start(Some(Duration::from_secs(60)));
    service.until("READY=1");
    let daemon = &service.daemon;
    daemon.ok(&["start", "--id", "one"]);
    let said = daemon.ok(&["send", "one", "env | grep -c -e NOTIFY_ -e WATCHDOG_ -e LISTEN_ ; true"]);
    assert_eq!(said.trim(), "0", "the agent's environment");
    let all = below(main.id());
    assert!(!all.is_empty());
    for pid in all {
        let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let environ = String::from_utf8_lossy(&environ).into_owned();
        assert!(!environ.contains("NOTIFY_SOCKET") && !environ.contains("WATCHDOG_"), "{pid}: {environ}");
    }
    daemon.ok(&["daemon", "stop"]);
    service.until("STATUS=ending its sessions");
    ended(main);
}

#[test]
fn a_daemon_gives_signs_of_life_until_it_stands_still() {
    let service = Service::new();
    let within = Duration::from_millis(400);
    let main = service.start(Some(within));
    service.until("READY=1");
    for _ in 0..3 {
        service.until("WATCHDOG=1");
    }
    signal(main.id(), Signal::SIGSTOP);
    until("the stop", || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", main.id())).ok()?;
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T')).then_some(())
    });
    // Those that were sent before.
    while service.next(Duration::from_millis(1)).is_some() {}
    assert_eq!(service.next(within * 3), None, "a daemon that stands still");
    signal(main.id(), Signal::SIGCONT);
    service.until("WATCHDOG=1");
    service.daemon.ok(&["daemon", "stop"]);
    ended(main);
}

#[test]
fn a_restart_by_command_is_refused_in_a_service_and_one_by_the_service_manager_interrupts_nothing() {
    let service = Service::new();
    let main = service.start(None);
    service.until("READY=1");
    let daemon = &service.daemon;
    daemon.ok(&["start", "--id", "one"]);
    let worker = daemon.idle("one").pid;
    for command in ["restart", "upgrade"] {
        let refused = daemon.run(&["daemon", command]);
        let told = refused.stderr.contains("nothing was changed") && refused.stderr.contains("systemctl");
        assert!(refused.code == Some(7) && told, "{refused:?}");
    }
    assert_eq!(daemon.pid(), main.id());
    // As systemd does it.
    signal(main.id(), Signal::SIGTERM);
    service.until("STOPPING=1");
    ended(main);
    let next = service.start(None);
    service.until("READY=1");
    assert_eq!((daemon.pid(), daemon.idle("one").pid), (next.id(), worker), "the session went on");
    daemon.ok(&["daemon", "stop"]);
    service.until("STATUS=ending its sessions");
    ended(next);
}

#[test]
fn a_daemon_that_a_command_of_a_service_starts_is_not_that_service() {
    let service = Service::new();
    let mut command = service.daemon.command(&["daemon", "start"]);
    command.env("NOTIFY_SOCKET", &service.name);
    assert_eq!(finish(command.spawn().unwrap()).code, Some(0));
    assert_eq!(service.next(Duration::from_millis(100)), None);
}
