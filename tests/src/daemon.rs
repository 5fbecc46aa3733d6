//! A `kennel` daemon in a process of its own, driven by the `kennel` command as a person would.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use protocol::api::{ManagerInfo, SessionInfo, Status};
use protocol::event::Event;

use crate::real::{BOUND, below, beside, kennel, kill, lives, marked, marker_of, mentioning, until};

/// A state directory of its own, and whatever daemon serves it. Ends the daemon when dropped.
pub struct Daemon {
    /// The directory: the state in `state`, and room for the sessions.
    pub dir: tempfile::TempDir,
    /// The program, and what it is started by.
    program: Vec<std::ffi::OsString>,
}

/// The result of a command.
#[derive(Debug)]
pub struct CommandOutput {
    /// Its exit status.
    pub code: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Daemon {
    /// A directory that no daemon serves yet: the first command starts one.
    pub fn new() -> Self {
        Self::over(tempfile::tempdir().unwrap())
    }

    /// The same over this directory.
    pub fn over(dir: tempfile::TempDir) -> Self {
        Self { dir, program: vec![kennel().into()] }
    }

    /// One with this `config.toml`.
    pub fn configured(config: &str) -> Self {
        let daemon = Self::new();
        let place = daemon.dir.path().join("kennel");
        std::fs::create_dir_all(&place).unwrap();
        std::fs::write(place.join("config.toml"), config).unwrap();
        daemon
    }

    /// One with an agent of this name that speaks ACP, and does what a prompt says.
    pub fn with_acp(name: &str) -> Self {
        Self::configured(&acp_agent(name))
    }

    /// From here on commands, and with the first of them the daemon, have this in their environment.
    pub fn set(&mut self, name: &str, value: &str) {
        self.program.splice(0..0, ["/usr/bin/env".into(), format!("{name}={value}").into()]);
    }

    /// From here on commands, and with the first of them the daemon, are another user's. `program` is `kennel` where that
    /// user can run it.
    pub fn run_as(&mut self, uid: u32, program: std::path::PathBuf) {
        let uid = uid.to_string();
        let words = ["setpriv", "--reuid", &uid, "--regid", &uid, "--clear-groups"];
        self.program = words.iter().map(Into::into).chain([program.into()]).collect();
    }

    /// Runs all further commands, and the daemon that the first of them starts, as root in a user namespace
    /// of their own. This shell command sets the namespace up.
    pub fn run_where(&mut self, set_up: &str) {
        self.run_after(set_up);
        self.program.splice(0..0, ["unshare", "--user", "--map-root-user"].map(Into::into));
    }

    /// Runs all further commands as an ordinary user in a user namespace that permits no other below it. The
    /// daemon that the first of them starts runs there, too.
    pub fn run_without_user_namespaces(&mut self) {
        // Writing the bound needs a capability, which is dropped after it.
        self.program.splice(0..0, ["setpriv", "--ambient-caps=-all", "--inh-caps=-all"].map(Into::into));
        self.run_after("echo 0 > /proc/sys/user/max_user_namespaces");
        let user = ["unshare", "--user", "--map-user=1000", "--map-group=1000", "--keep-caps"];
        self.program.splice(0..0, user.map(Into::into));
    }

    /// From here on this shell command is run before each command, in the process that becomes it.
    pub fn run_after(&mut self, set_up: &str) {
        let script = format!("{set_up} && exec \"$0\" \"$@\"");
        self.program.splice(0..0, ["sh", "-c", &script].map(Into::into));
    }

    /// The directory in which sessions are started.
    pub fn workdir(&self) -> &Path {
        self.dir.path()
    }

    /// A `kennel` command over this directory.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program[0]);
        command.args(&self.program[1..]).args(args).current_dir(self.dir.path());
        command.env("KENNEL_STATE_DIR", self.dir.path().join("state"));
        command.env("XDG_RUNTIME_DIR", self.dir.path()).env("XDG_CONFIG_HOME", self.dir.path());
        command.env_remove("KENNEL_SESSION").env("NO_COLOR", "1");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// From here on the program has these limits, as prlimit(1) takes them. Root is not bound by that of processes.
    pub fn limit(&mut self, limits: &[&str]) {
        let program = self.program.len() - 1;
        let words = ["prlimit"].iter().chain(limits).map(Into::into);
        self.program.splice(program..program, words);
    }

    /// From here on this `kennel` is the program.
    pub fn run_program(&mut self, program: std::path::PathBuf) {
        self.program.pop();
        self.program.push(program.into());
    }

    /// From here on the program is started by this one, with these arguments before its own.
    pub fn run_through(&mut self, words: &[&str]) {
        let program = self.program.len() - 1;
        self.program.splice(program..program, words.iter().map(Into::into));
    }

    /// Starts a command and lets it run.
    pub fn spawn(&self, args: &[&str]) -> Child {
        self.command(args).spawn().unwrap()
    }

    /// Runs a command to its end.
    pub fn run(&self, args: &[&str]) -> CommandOutput {
        finish(self.spawn(args))
    }

    /// Runs a command that must succeed, and gives what it printed.
    pub fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!(output.code, Some(0), "kennel {args:?}: {output:#?}");
        output.stdout
    }

    /// Runs a command with `--json` that must succeed, and gives the object it printed.
    pub fn json<T: serde::de::DeserializeOwned>(&self, args: &[&str]) -> T {
        let args: Vec<&str> = ["--json"].iter().chain(args).copied().collect();
        let text = self.ok(&args);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("kennel {args:?}: {error}: {text}"))
    }

    /// A session.
    pub fn show(&self, id: &str) -> SessionInfo {
        self.json(&["show", id])
    }

    /// Waits until a session is idle, and gives it.
    pub fn idle(&self, id: &str) -> SessionInfo {
        self.ok(&["wait", id, "--until", "idle", "--timeout", "30s"]);
        let info = self.show(id);
        assert_eq!(info.status, Status::Idle);
        info
    }

    /// All events so far.
    pub fn events(&self) -> Vec<Event> {
        let text = self.ok(&["--json", "events", "--after", "0"]);
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The daemon's process.
    pub fn pid(&self) -> u32 {
        self.json::<ManagerInfo>(&["daemon", "status"]).pid
    }

    /// Where the daemon listens.
    pub fn socket(&self) -> std::path::PathBuf {
        let places = ["kennel", "state"].map(|place| self.dir.path().join(place));
        let entries = places.iter().filter_map(|place| std::fs::read_dir(place).ok()).flatten().flatten();
        let mut sockets = entries
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|end| end == "sock"));
        sockets.next().expect("a socket")
    }

    /// The figures of `/metrics`.
    pub fn metrics(&self) -> String {
        self.answer_to("/metrics")
    }

    /// The API's answer to a GET.
    pub fn get<T: serde::de::DeserializeOwned>(&self, path: &str) -> T {
        let answer = self.answer_to(path);
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| serde_json::from_str(body));
        body.unwrap_or_else(|| panic!("{path}: {answer}"))
            .unwrap_or_else(|error| panic!("{path}: {error}: {answer}"))
    }

    /// The body of an answer to a GET.
    pub fn get_text(&self, path: &str) -> String {
        let answer = self.answer_to(path);
        answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{path}: {answer}")).1.to_owned()
    }

    /// The answer to a GET, with its head.
    fn answer_to(&self, path: &str) -> String {
        let mut stream = UnixStream::connect(self.socket()).unwrap();
        stream.set_read_timeout(Some(BOUND)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: kennel\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Kills the daemon outright.
    pub fn kill(&self) -> u32 {
        let pid = self.pid();
        kill(pid);
        until("the manager's death", || (!lives(pid)).then_some(()));
        pid
    }
}

/// The configuration of an agent that speaks ACP, and does what a prompt says.
pub fn acp_agent(name: &str) -> String {
    format!("[agents.{name}]\nkind = \"acp\"\ncommand = [\"{}\"]\n", beside("acp-agent").display())
}

impl Default for Daemon {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Daemon {
    /// Stops the daemon and its sessions. After a test that succeeded no process may be left. After a panic
    /// the remaining processes are killed, even if the daemon does not answer.
    fn drop(&mut self) {
        let place = self.dir.path().to_str().unwrap().to_owned();
        let uuids = if std::thread::panicking() { uuids(&place) } else { Vec::new() };
        let child = self.command(&["daemon", "stop"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        if !std::thread::panicking() {
            let _ = child.and_then(|mut child| child.wait());
            return until("nothing is left of the test", || mentioning(&place).is_empty().then_some(()));
        }
        // The first panic is the useful one; a second ends all tests.
        let stopped = |mut child: Child| within(BOUND / 4, || child.try_wait().ok().flatten().is_some());
        if !child.is_ok_and(stopped) {
            eprintln!("the daemon of {place} does not stop");
        }
        let all_dead = within(BOUND, || {
            let mut left = mentioning(&place);
            left.extend(uuids.iter().flat_map(|uuid| marked(uuid)));
            for pid in &left {
                let pid = nix::unistd::Pid::from_raw(pid.cast_signed());
                let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
            }
            left.is_empty()
        });
        if !all_dead {
            eprintln!("processes of {place} live on: {:?}", mentioning(&place));
        }
    }
}

/// Returns what the markers of processes of this directory's daemons begin with.
fn uuids(place: &str) -> Vec<String> {
    let daemons = mentioning(place);
    let mut uuids: Vec<String> = daemons
        .iter()
        .flat_map(|daemon| below(*daemon))
        .filter_map(|pid| Some(marker_of(pid)?.split('/').next()?.to_owned()))
        .collect();
    uuids.sort();
    uuids.dedup();
    uuids
}

/// Wait until this is so, at most for so long. Returns whether it came to be.
fn within(bound: std::time::Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let end = std::time::Instant::now() + bound;
    while !is_so() {
        if std::time::Instant::now() > end {
            return false;
        }
        std::thread::park_timeout(std::time::Duration::from_millis(5));
    }
    true
}

/// Waits for a command's end, with a bound, and returns its output.
pub fn finish(child: Child) -> CommandOutput {
    finish_within(child, BOUND)
}

/// Waits for a command's end, with this bound, and returns its output.
pub fn finish_within(mut child: Child, bound: std::time::Duration) -> CommandOutput {
    fn read(mut from: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            from.read_to_end(&mut bytes).unwrap();
            String::from_utf8_lossy(&bytes).into_owned()
        })
    }
    let stdout = read(child.stdout.take().unwrap());
    let stderr = read(child.stderr.take().unwrap());
    let end = std::time::Instant::now() + bound;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if std::time::Instant::now() > end {
            child.kill().unwrap();
            let status = child.wait().unwrap();
            panic!("a command did not end within {bound:?} ({status}): {:?}", stderr.join());
        }
        std::thread::park_timeout(std::time::Duration::from_millis(2));
    };
    CommandOutput { code: status.code(), stdout: stdout.join().unwrap(), stderr: stderr.join().unwrap() }
}
