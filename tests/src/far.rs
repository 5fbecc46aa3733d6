//! Another machine: a home, a daemon and a way in, which is OpenSSH's own server where there is one.
//!
//! The server runs on the pipes of one connection, as `sshd -i` below `ProxyCommand`: no port, no service. Without a server
//! on this machine a script stands in for `ssh`, which runs the command in a shell as the server would.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::daemon::{CommandOutput, Daemon, finish};
use crate::real::{beside, kennel, lives, mentioning, until};

/// Where a package puts the server.
const SSHD: &str = "/usr/sbin/sshd";

/// Another machine, and this one's way to it.
pub struct Far {
    /// The daemon there, as one who works there sees it.
    pub daemon: Daemon,
    /// Directory of the server, the keys and the records.
    dir: PathBuf,
}

impl Far {
    /// A machine that nobody has reached yet.
    pub fn new() -> Self {
        let daemon = Daemon::new();
        let dir = daemon.dir.path().join("ssh");
        let far = Self { daemon, dir };
        for below in ["ssh/bin", "home/.cargo/bin"] {
            fs::create_dir_all(far.daemon.dir.path().join(below)).unwrap();
        }
        for program in [kennel().clone(), beside("session-worker")] {
            let name = program.file_name().unwrap().to_owned();
            std::os::unix::fs::symlink(&program, far.home().join(".cargo/bin").join(name)).unwrap();
        }
        let dir = far.dir.display().to_string();
        // The record of each start comes first: whoever waits for it finds the process.
        let begin = format!("#!/bin/sh\necho $$ >> {dir}/starts\n");
        let run = match Path::new(SSHD).exists() {
            true => far.with_server(),
            false => far.without_server(),
        };
        for name in ["bin/ssh", "kept"] {
            far.script(name, &format!("{begin}{run}"));
        }
        far
    }

    /// The home of the user there.
    pub fn home(&self) -> PathBuf {
        self.daemon.dir.path().join("home")
    }

    /// The address of the daemon there.
    pub fn address(&self) -> String {
        format!("ssh://box{}", self.daemon.dir.path().join("state").display())
    }

    fn script(&self, name: &str, text: &str) {
        crate::real::script(&self.dir.join(name), text);
    }

    /// The environment of a login there.
    fn environment(&self) -> String {
        let dir = self.daemon.dir.path().display();
        format!("HOME={} XDG_RUNTIME_DIR={dir} XDG_CONFIG_HOME={dir} NO_COLOR=1", self.home().display())
    }

    fn with_server(&self) -> String {
        let dir = self.dir.display().to_string();
        for name in ["host", "key"] {
            let path = format!("{dir}/{name}");
            let mut make = Command::new("ssh-keygen");
            make.args(["-q", "-t", "ed25519", "-N", "", "-f", &path]).stdin(Stdio::null());
            let made = finish(make.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
            assert_eq!(made.code, Some(0), "no key in {path}: {made:#?}");
        }
        fs::copy(self.dir.join("key.pub"), self.dir.join("authorized")).unwrap();
        let server = format!(
            "HostKey {dir}/host\nAuthorizedKeysFile {dir}/authorized\nStrictModes no\nUsePAM no\nPrintMotd no\n\
             PidFile none\nSetEnv {}\n",
            self.environment()
        );
        fs::write(self.dir.join("sshd_config"), server).unwrap();
        // As root the server wants a directory of the system, which is not ours to make: it gets a view with one.
        self.script(
            "proxy",
            &format!(
                "#!/bin/sh\n[ -e {dir}/down ] && exit 1\n\
                 [ \"$(id -u)\" = 0 ] && ! [ -d /run/sshd ] && exec unshare --mount sh -c 'mount -t tmpfs tmpfs /run && \
                 mkdir -m 755 /run/sshd && exec {SSHD} -i -f {dir}/sshd_config -E {dir}/log'\n\
                 exec {SSHD} -i -f {dir}/sshd_config -E {dir}/log\n"
            ),
        );
        let client = format!(
            "Host box\n ProxyCommand {dir}/proxy\n IdentityFile {dir}/key\n IdentitiesOnly yes\n\
             UserKnownHostsFile {dir}/known\n StrictHostKeyChecking accept-new\n LogLevel ERROR\n"
        );
        fs::write(self.dir.join("ssh_config"), client).unwrap();
        format!("exec /usr/bin/ssh -F {dir}/ssh_config \"$@\"\n")
    }

    fn without_server(&self) -> String {
        let dir = self.dir.display();
        let home = self.home();
        format!(
            "while :; do case $1 in -T) shift ;; -o | -l | -p) shift 2 ;; --) shift; break ;; esac; done\nshift\n\
             [ -e {dir}/down ] && {{ echo 'ssh: connect to host box port 22: Connection refused' >&2; exit 255; }}\n\
             cd {} && exec env {} sh -c \"$*\"\n",
            home.display(),
            self.environment()
        )
    }

    /// The way to the machine, as a script that another can end with.
    pub fn kept(&self) -> PathBuf {
        self.dir.join("kept")
    }

    /// From here on each `ssh` joins the connection of whichever listens at this path.
    pub fn share(&self) -> PathBuf {
        let (config, socket) = (self.dir.join("ssh_config"), self.dir.join("shared"));
        let text = fs::read_to_string(&config).unwrap();
        fs::write(&config, format!("{text} ControlPath {}\n", socket.display())).unwrap();
        socket
    }

    /// `ssh` itself, as a person runs it on this machine.
    pub fn ssh(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.dir.join("bin/ssh"));
        command.args(args).stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// In place of `ssh`, from here on.
    pub fn replace(&self, script: &str) {
        self.script("bin/ssh", &format!("#!/bin/sh\n{script}\n"));
    }

    /// A command on this machine, as it is typed.
    pub fn bare(&self, args: &[&str]) -> Command {
        let mut command = self.daemon.command(args);
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}/bin:{path}", self.dir.display()));
        // This machine has no daemon, and names of its own.
        let here = self.daemon.dir.path().join("here");
        command.env("KENNEL_STATE_DIR", here.join("state")).env("XDG_CONFIG_HOME", here.join("config"));
        command
    }

    /// A command on this machine that means the daemon there.
    pub fn command(&self, args: &[&str]) -> Command {
        let address = self.address();
        let args: Vec<&str> = ["-H", &address].iter().chain(args).copied().collect();
        self.bare(&args)
    }

    /// Runs a command that means the daemon there.
    pub fn run(&self, args: &[&str]) -> CommandOutput {
        finish(self.command(args).spawn().unwrap())
    }

    /// The same; it must succeed.
    pub fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!(output.code, Some(0), "kennel -H box {args:?}: {output:#?}");
        output.stdout
    }

    /// The processes of `ssh` that were started so far, oldest first.
    pub fn starts(&self) -> Vec<u32> {
        let text = fs::read_to_string(self.dir.join("starts")).unwrap_or_default();
        text.lines().map(|line| line.parse().unwrap()).collect()
    }

    /// Ends the connections that there are, in the middle of whatever they carry.
    pub fn cut(&self) {
        let ours = mentioning(&self.dir.display().to_string());
        for pid in self.starts().into_iter().filter(|pid| ours.contains(pid)) {
            // It may end by itself meanwhile.
            let _ = nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(pid.cast_signed()),
                nix::sys::signal::SIGKILL,
            );
            until("the connection's end", || (!lives(pid)).then_some(()));
        }
    }

    /// The machine can no longer be reached, or can again.
    pub fn set_down(&self, down: bool) {
        let path = self.dir.join("down");
        match down {
            true => fs::write(path, "").unwrap(),
            false => fs::remove_file(path).unwrap(),
        }
    }
}

impl Default for Far {
    fn default() -> Self {
        Self::new()
    }
}
