//! The line between two machines, which are two network namespaces: this process is one, with all clients; in the other run the
//! daemon, with its port, and OpenSSH's server. The daemon is reached over the line only, but by those who judge.
//!
//! The namespaces have no names and no way out, and end with their processes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use manager::client::far::ssh::SshOptions;
use manager::client::far::tls::{TlsOptions, Trust};
use manager::client::far::{Far, FarOptions, Way};
use manager::client::{Client, Request};
use nix::sched::CloneFlags;
use protocol::api::{IssuedKey, KeyRequest, KeyRole, KeySessions, ManagerInfo};

use super::Campaign;
use super::clients::{ask, look};
use super::host::{Place, below};
use super::side::SIDE;
use crate::real;

/// The addresses of the two ends.
const HERE: &str = "10.77.0.1/30";
const THERE: &str = "10.77.0.2/30";
/// The daemon's port.
const PORT: u16 = 7443;
/// The two ends of the cable.
const CABLE: [&str; 2] = ["here", "there"];
/// Connections of clients, by ssh and by TLS in turn: each is shared by several.
const CONNECTIONS: usize = 4;
/// The longest wait for the server's first answer, and for the end of what is left.
const PATIENCE: Duration = Duration::from_secs(20);

/// The line.
pub struct Line {
    /// The process whose end is the other machine's.
    server: u32,
    clients: Mutex<Vec<Client>>,
    /// The program kennel.
    kennel: PathBuf,
    up: AtomicBool,
}

/// Makes this process a machine of its own. Call it before there are threads. Starts the program anew, with a place for the
/// other machine's files in its environment.
///
/// # Errors
/// The machine has no OpenSSH server or no rights for it.
pub fn stand_alone() -> Result<(), String> {
    for program in ["/usr/sbin/sshd", "/usr/bin/ssh", "/usr/bin/ssh-keygen"] {
        if !Path::new(program).exists() {
            return Err(format!("there is no {program}: the line between two machines needs OpenSSH"));
        }
    }
    if std::env::var_os(SIDE).is_none() {
        let dir = tempfile::tempdir().map_err(|error| error.to_string())?.keep();
        let path = std::env::var("PATH").unwrap_or_default();
        let exe = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut again = Command::new(exe);
        again.args(std::env::args_os().skip(1)).env(SIDE, &dir);
        again.env("PATH", format!("{}:{path}", dir.display()));
        return Err(format!("the harness cannot start itself: {}", again.exec()));
    }
    nix::sched::unshare(CloneFlags::CLONE_NEWNET)
        .map_err(|error| format!("a network of its own needs rights: {error}"))
}

/// The directory of the other machine's files.
fn side() -> PathBuf {
    std::env::var_os(SIDE).map(PathBuf::from).unwrap_or_default()
}

/// Runs a program to its end. The reaper must not be at work.
fn run(program: &str, args: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().and_then(|mut child| child.wait()).is_ok_and(|end| end.success())
}

impl Line {
    /// To the daemon of this place. Nothing else may wait for children of this process yet.
    pub fn to(place: &mut Place) -> Result<Self, String> {
        let dir = side();
        let shown = dir.display();
        for name in ["host", "key"] {
            let path = format!("{shown}/{name}");
            if !run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &path]) {
                return Err(format!("no key in {path}"));
            }
        }
        let (state, socket) = (place.state(), place.socket());
        let environment = format!(
            "HOME={} KENNEL_STATE_DIR={} KENNEL_SOCKET={} NO_COLOR=1",
            place.dir.display(),
            state.display(),
            socket.display()
        );
        let config = format!(
            "ListenAddress {}\nHostKey {shown}/host\nAuthorizedKeysFile {shown}/key.pub\nStrictModes no\nUsePAM no\n\
             PrintMotd no\nPidFile none\nPermitRootLogin yes\nMaxStartups 100\nSetEnv {environment}\n",
            THERE.trim_end_matches("/30")
        );
        fs::write(dir.join("sshd_config"), config).unwrap();
        let [_, there] = CABLE;
        // The end of the cable comes from the other side. As root the server wants a directory of the system, which is not ours
        // to make: it gets a view with one.
        let begin = format!(
            "mount -t proc proc /proc && mount -t tmpfs tmpfs /run && mkdir -m 755 /run/sshd || exit 1\n\
             until ip link show {there} >/dev/null 2>&1; do sleep 0.05; done\n\
             ip link set lo up && ip addr add {THERE} dev {there} && ip link set {there} up || exit 1\n\
             exec /usr/sbin/sshd -D -f {shown}/sshd_config -E {shown}/log\n"
        );
        real::script(&dir.join("begin"), &format!("#!/bin/sh\n{begin}"));
        let client = format!(
            "Host *\n IdentityFile {shown}/key\n IdentitiesOnly yes\n UserKnownHostsFile {shown}/known\n \
             StrictHostKeyChecking accept-new\n LogLevel ERROR\n"
        );
        fs::write(dir.join("ssh_config"), client).unwrap();
        real::script(
            &dir.join("ssh"),
            &format!("#!/bin/sh\nexec /usr/bin/ssh -F {shown}/ssh_config \"$@\"\n"),
        );
        let mut server = place.kept(Path::new("unshare"));
        server.args(["--net", "--pid", "--fork", "--kill-child", "--mount"]).arg(dir.join("begin"));
        let server = server.spawn().map_err(|error| error.to_string())?.id();
        let (clients, kennel) = (Mutex::default(), place.kennel.clone());
        let line = Self { server, clients, kennel, up: AtomicBool::new(true) };
        line.plug()?;
        let config = fs::read_to_string(place.config()).unwrap_or_default();
        fs::write(place.config(), format!("{config}\n[listen]\ntcp = \"0.0.0.0:{PORT}\"\n")).unwrap();
        place.network = Some(server);
        Ok(line)
    }

    /// Gives the clients their ways to the daemon, which is asked for a key over its own socket.
    pub async fn pair(&self, daemon: &Client) -> Result<(), String> {
        let said = |problem: Box<protocol::api::Problem>| problem.detail;
        let wanted = KeyRequest {
            name: "clients".into(),
            role: KeyRole::Admin,
            sessions: KeySessions::All,
            expires_at: None,
        };
        let issued = ask(daemon, &Request::post("/v1/keys").json(&wanted)).await.map_err(said)?;
        let issued: IssuedKey = serde_json::from_slice(&issued).map_err(|error| error.to_string())?;
        let key = side().join("tls-key");
        fs::write(&key, issued.key).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        let info: ManagerInfo = look(daemon, "/v1/manager").await.map_err(said)?;
        let pin = info.listen.and_then(|listen| listen.fingerprint).ok_or("the daemon has no port")?;
        let there = THERE.trim_end_matches("/30");
        let tls = Way::Tls(TlsOptions {
            host: there.into(),
            port: PORT,
            trust: Trust::Pin(pin.parse()?),
            key: Some(key),
            own: None,
        });
        let ssh = Way::Ssh(SshOptions {
            address: format!("ssh://root@{there}").parse()?,
            kennel: Some(self.kennel.display().to_string()),
            below: Some(self.kennel.clone()),
        });
        let ways = [ssh, tls].into_iter().cycle().take(CONNECTIONS);
        let options = ways.map(|way| FarOptions { name: "there".into(), way, within: None });
        let clients = options.map(|options| Client::over(Arc::new(Far::new(options, |_| ()))));
        *self.clients.lock().unwrap() = clients.collect();
        Ok(())
    }

    /// Lays the cable, as soon as the other machine has its network.
    fn plug(&self) -> Result<(), String> {
        let [here, there] = CABLE;
        let end = Instant::now() + PATIENCE;
        let own = fs::read_link("/proc/self/ns/net").map_err(|error| error.to_string())?;
        let theirs = format!("/proc/{}/ns/net", self.server);
        while fs::read_link(&theirs).is_ok_and(|found| found == own) {
            if Instant::now() > end {
                return Err("the other machine has no network".into());
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
        let pid = self.server.to_string();
        let laid = run("ip", &["link", "add", here, "type", "veth", "peer", "name", there, "netns", &pid])
            && run("ip", &["addr", "add", HERE, "dev", here])
            && run("ip", &["link", "set", here, "up"]);
        if laid { Ok(()) } else { Err("the cable cannot be laid".into()) }
    }

    /// The client with this number's way to the daemon.
    pub fn client(&self, number: usize) -> Client {
        let clients = self.clients.lock().unwrap();
        clients[number % clients.len()].clone()
    }

    /// The process that holds the other machine.
    pub fn server(&self) -> u32 {
        self.server
    }

    /// Cuts the cable, or mends it. False: it was so already.
    pub fn set(&self, up: bool) -> bool {
        if self.up.swap(up, Ordering::Relaxed) == up {
            return false;
        }
        run("ip", &["link", "set", CABLE[0], if up { "up" } else { "down" }])
    }

    /// Ends every TCP connection of the line at this end, as a machine does that has lost its address.
    pub fn reset(&self) -> bool {
        run("ss", &["-K", "dst", THERE.trim_end_matches("/30")])
    }

    /// The processes of `ssh` on this machine.
    pub fn clients_of_ssh(&self) -> Vec<u32> {
        let children = super::host::children(std::process::id());
        children.into_iter().filter(|pid| named(*pid, "ssh") && real::lives(*pid)).collect()
    }

    /// The server's processes for one connection each.
    pub fn sessions_of_sshd(&self) -> Vec<u32> {
        // The first is the server itself.
        let all = below(self.server).into_iter().filter(|pid| named(*pid, "sshd"));
        all.filter(|pid| real::parent(*pid) != Some(self.server)).collect()
    }

    /// The processes of `connect-stdio`.
    pub fn relays(&self) -> Vec<u32> {
        below(self.server).into_iter().filter(|pid| named(*pid, "kennel")).collect()
    }

    /// Ends the connections; gives what is left of them.
    pub fn end(&self) -> Vec<u32> {
        self.clients.lock().unwrap().clear();
        let end = Instant::now() + PATIENCE;
        loop {
            let left: Vec<u32> = [self.clients_of_ssh(), self.relays(), self.sessions_of_sshd()]
                .into_iter()
                .flatten()
                .collect();
            if left.is_empty() || Instant::now() > end {
                real::kill(self.server);
                return left;
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }
}

impl Campaign {
    /// The way to the daemon of the client or subscriber with this number.
    pub(super) fn client(&self, number: usize) -> Client {
        self.line.as_ref().map_or_else(|| self.client.clone(), |line| line.client(number))
    }

    /// Gives the clients of another machine their ways to the daemon.
    pub(super) async fn pair(&self) {
        if let Some(line) = &self.line
            && let Err(error) = line.pair(&self.client).await
        {
            self.violation(None, format!("the clients have no way to the daemon: {error}"));
        }
    }

    /// Ends the connections between the machines: nothing of them may be left.
    pub(super) fn hang_up(&self) {
        let left = self.line.as_ref().map(Line::end).unwrap_or_default();
        if !left.is_empty() {
            self.violation(None, format!("left behind by connections: {left:?}"));
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(side());
    }
}

fn named(pid: u32, name: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim_end() == name)
}
