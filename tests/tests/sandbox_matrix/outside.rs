//! What there is to be reached: a home with secrets, a daemon, another session, sockets, memory, keys, a terminal.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use harness::daemon::{Daemon, finish_within};
use harness::real::*;
use manager::protocol::api::SessionInfo;
use manager::protocol::{Sandbox, SandboxBy};

use serde_json::{Value, json};

use super::table::{Control, LATE, Probe, SECRETS};
use super::{Kind, Results};
use crate::containment::User;

/// Nobody, who owns nothing and may do nothing.
const NOBODY: u32 = 65534;
/// What all secrets say.
pub const CANARY: &str = "canary-4711";
/// How long all probes of a cell may take.
const PROBES: Duration = Duration::from_secs(120);

/// The programs in C, built of exactly these sources.
pub fn built() -> &'static (PathBuf, PathBuf) {
    static BUILT: OnceLock<(PathBuf, PathBuf)> = OnceLock::new();
    BUILT.get_or_init(|| {
        let to = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("hostile-{}", std::process::id()));
        std::fs::create_dir_all(&to).unwrap();
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/hostile");
        let build = |source: &str, name: &str, options: &[&str]| {
            let program = to.join(name);
            let mut cc = Command::new("cc");
            cc.args(["-O1", "-w", "-o"]).arg(&program).arg(sources.join(source)).args(options);
            assert!(cc.spawn().unwrap().wait().unwrap().success(), "{cc:?}");
            program
        };
        (
            build("probes.c", "probes", &["-lrt", "-lutil"]),
            build("preload.c", "preload.so", &["-shared", "-fPIC", "-ldl"]),
        )
    })
}

/// A user's command.
fn as_user(user: User, program: &Path) -> Command {
    if user != User::Nobody {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    let id = NOBODY.to_string();
    command.args(["--reuid", &id, "--regid", &id, "--clear-groups"]).arg(program);
    command
}

fn give_away(directory: &Path) {
    chown(directory, Some(NOBODY), Some(NOBODY)).unwrap();
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        match entry.path().is_dir() && !entry.path().is_symlink() {
            true => give_away(&entry.path()),
            false => std::os::unix::fs::lchown(entry.path(), Some(NOBODY), Some(NOBODY)).unwrap(),
        }
    }
}

/// The program that has sockets, memory, keys and a terminal open. It ends, and takes them away, when this is dropped.
struct Outside {
    child: Child,
    facts: BTreeMap<String, String>,
}

impl Outside {
    fn new(user: User, probes: &Path, place: &Path, secret: &Path) -> Self {
        let mut command = as_user(user, probes);
        command.arg("outside").arg(place).arg(secret).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut facts = BTreeMap::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            if line == "ready" {
                return Self { child, facts };
            }
            let (name, value) = line.split_once(' ').unwrap();
            facts.insert(name.to_owned(), value.to_owned());
        }
        panic!("what is outside does not come up: {:?}", child.wait());
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// What is in the name of a test's directory and of nothing else.
fn daemon_name(root: &Path) -> String {
    root.file_name().unwrap().to_string_lossy().into_owned()
}

/// A daemon with a hostile session, and all that this is after.
pub struct Cell {
    kind: Kind,
    outside: Option<Outside>,
    pub daemon: Daemon,
    root: PathBuf,
    facts: BTreeMap<String, String>,
}

impl Cell {
    pub fn new(kind: Kind) -> Self {
        // In no directory for temporary files: those are hidden anyway.
        let place = match nix::unistd::geteuid().is_root() {
            true => "/var/lib".into(),
            false => std::env::var("HOME").unwrap(),
        };
        let dir = tempfile::Builder::new().prefix("kennel-test-").tempdir_in(place).unwrap();
        let root = dir.path().to_owned();
        let mut daemon = Daemon::over(dir);
        let (probes, preload) = built();
        let mut programs =
            publish(&[kennel(), worker(), &beside("hostile-agent"), probes], &root.join("bin"));
        let (probes, agent) = (programs.remove(3), programs.remove(2));
        let make = |below: &str, text: &str| {
            let path = root.join(below);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        for directory in ["home/project", "home/.agent", "outside/victims", "run", "elsewhere"] {
            std::fs::create_dir_all(root.join(directory)).unwrap();
        }
        for secret in SECRETS {
            make(&format!("home/{secret}"), CANARY);
        }
        for file in [
            "home/readable",
            "home/mine/canary",
            "home/mine2/file",
            "home/mine3/canary",
            "home/mine4/canary",
            "home/sibling/canary",
            "outside/canary",
            "elsewhere/canary",
        ] {
            make(file, CANARY);
        }
        for directory in ["pre-terminal", "pre-profile", "pre-audit", "pre-kin", "pre-exe"] {
            make(&format!("home/project/{directory}/none"), "");
            std::fs::copy(preload, root.join(format!("home/project/{directory}/preload.so"))).unwrap();
        }
        std::fs::copy(&probes, root.join("home/project/probes")).unwrap();
        make("home/project/canary-of-its-own", CANARY);
        make("home/project/interpreted", "#!/proc/self/exe\n");
        let interpreted = root.join("home/project/interpreted");
        std::fs::set_permissions(interpreted, PermissionsExt::from_mode(0o755)).unwrap();
        make("home/.agent/deep/secret/canary", CANARY);
        // For races: a directory, and a link that takes its place.
        make("home/project/swap/none", "");
        for (to, link) in [("home/.ssh", "swapped"), ("home/.ssh", "link"), ("outside", "out")] {
            std::os::unix::fs::symlink(root.join(to), root.join("home/project").join(link)).unwrap();
        }
        let sandbox = kind.sandbox.name();
        let containment = if kind.sandbox == Sandbox::None { "subreaper" } else { "auto" };
        let agent = agent.display().to_string();
        let at = root.display().to_string();
        let profile = |name: &str, env: &str| {
            format!(
                "[agents.{name}]\nkind = \"acp\"\ncommand = [\"{agent}\"]\nsandbox = \"{sandbox}\"\n\
                 containment = \"{containment}\"\nsandbox_hide = [\"~/mine\", \"~/mine2\", \"~/mine3\", \"~/mine4\", \"~/late\", \
                 \"~/.agent/deep/secret\", \"~/.agent/plant/hidden\"]\nsandbox_write = [\"~/.agent\"]\n{env}\n"
            )
        };
        let preloaded = format!("env = {{ LD_PRELOAD = \"{at}/home/project/pre-profile/preload.so\" }}");
        let shell = |name: &str, sandbox: &str, more: &str| {
            format!(
                "[agents.{name}]\nkind = \"shell\"\nsandbox = \"{sandbox}\"\ncontainment = \"{containment}\"\n{more}\n"
            )
        };
        let shells = [
            shell("walled", sandbox, r#"sandbox_hide = ["~/mine"]"#),
            shell("open", sandbox, r#"sandbox_write = ["~/mine4"]"#),
        ];
        let config = format!(
            "{}{}{}[agents.free]\nkind = \"shell\"\n[defaults]\ngrace = \"100ms\"\n# {CANARY}\n",
            profile("hostile", ""),
            profile("preloaded", &preloaded),
            shells.concat()
        );
        make("home/.config/kennel/config.toml", &config);
        if kind.user == User::Nobody {
            give_away(&root);
            daemon.run_as(NOBODY, programs.remove(0));
        } else {
            daemon.run_program(programs.remove(0));
        }
        let key = root.join("run/key");
        daemon.run_through(&[probes.to_str().unwrap(), "keys", key.to_str().unwrap()]);
        let home = format!("{at}/home");
        for (name, value) in [
            ("HOME", home.as_str()),
            ("XDG_CONFIG_HOME", &format!("{home}/.config")),
            ("XDG_RUNTIME_DIR", &format!("{at}/run")),
            ("KENNEL_SOCKET", &format!("{at}/elsewhere/door.sock")),
            ("DAEMON_SECRET", CANARY),
        ] {
            daemon.set(name, value);
        }
        let mut path = format!("{home}/project/bin:{}", std::env::var("PATH").unwrap());
        std::fs::create_dir(root.join("home/project/bin")).unwrap();
        if kind.user == User::Nobody {
            chown(root.join("home/project/bin"), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        if kind.by == SandboxBy::Landlock {
            // All that is needed but for bubblewrap.
            let tools = root.join("tools");
            std::fs::create_dir(&tools).unwrap();
            for tool in ["setpriv", "umount", "cat"] {
                std::os::unix::fs::symlink(format!("/usr/bin/{tool}"), tools.join(tool)).unwrap();
            }
            path = format!("{home}/project/bin:{}", tools.display());
        }
        daemon.set("PATH", &path);
        let secret = root.join("home/.ssh/id_ed25519");
        let outside = Outside::new(kind.user, &probes, &root.join("outside"), &secret);
        let mut facts = outside.facts.clone();
        let mut fact = |name: &str, value: String| facts.insert(name.into(), value);
        fact("root", at.clone());
        fact("mine", format!("kennel-test-{}", daemon_name(&root)));
        fact("home", home.clone());
        fact("work", format!("{home}/project"));
        fact("sibling", format!("{home}/sibling"));
        fact("outside", format!("{at}/outside"));
        fact("state", format!("{at}/state"));
        fact("socket", format!("{at}/elsewhere/door.sock"));
        fact("secret", format!("{home}/.ssh/id_ed25519"));
        fact("kennel", format!("{at}/bin/kennel"));
        // In the foreground it keeps the session keyring of its login, as a unit's does: only a sandbox is between it and agents.
        let mut running =
            daemon.command(&["daemon", "run"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::spawn(move || running.wait());
        let door = root.join("elsewhere/door.sock");
        until("a daemon", || UnixStream::connect(&door).ok());
        // Each command has a keyring of its own: the number is the daemon's while none has run after it.
        fact("skey", std::fs::read_to_string(&key).unwrap());
        let log = root.join("state/daemon.log");
        std::fs::write(&log, "its log\n").unwrap();
        std::fs::set_permissions(&log, std::fs::Permissions::from_mode(0o600)).unwrap();
        if kind.user == User::Nobody {
            chown(&log, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let sibling = format!("{home}/sibling");
        let project = format!("{home}/project");
        let _: SessionInfo =
            daemon.json(&["start", "--id", "sibling", "--agent", "hostile", "--dir", &sibling]);
        let _: SessionInfo = daemon.json(&[
            "start",
            "--id",
            "canary-main",
            "--agent",
            "hostile",
            "--dir",
            &project,
            "--title",
            CANARY,
        ]);
        let (sibling, main) = (daemon.idle("sibling"), daemon.idle("canary-main"));
        let worker = main.pid.unwrap();
        fact("daemon", daemon.pid().to_string());
        fact("worker", worker.to_string());
        fact("keeper", below(worker).first().unwrap_or(&worker).to_string());
        fact("agent", main.agent_pid.unwrap().to_string());
        fact("siblingagent", sibling.agent_pid.unwrap().to_string());
        let init = if kind.sandbox == Sandbox::None { worker } else { 1 };
        fact("init", init.to_string());
        for late in LATE {
            make(&format!("home/{late}"), CANARY);
            if kind.user == User::Nobody {
                give_away(root.join("home").join(late).parent().unwrap());
            }
        }
        Self { kind, outside: Some(outside), daemon, root, facts }
    }

    /// The test's directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn victim(&self, probe: &Probe) -> (PathBuf, PathBuf) {
        let path = self.root.join("outside/victims").join(probe.slug());
        let mut new = path.clone().into_os_string();
        new.push(".new");
        (path, new.into())
    }

    fn filled(&self, probe: &Probe) -> String {
        let (victim, new) = self.victim(probe);
        let mut text = probe.steps.clone();
        text = text.replace("{victim}", victim.to_str().unwrap()).replace("{new}", new.to_str().unwrap());
        text = text.replace("{tmp}", &format!("t-{}", probe.slug()));
        while let Some((before, (made, after))) =
            text.split_once("{=").and_then(|(before, rest)| Some((before, rest.split_once('}')?)))
        {
            // After a slash it is the name alone: the way there is another.
            let path = self.root.join(made);
            let path = if before.ends_with('/') { Path::new(path.file_name().unwrap()) } else { &path };
            text = format!("{before}{}{after}", path.display());
        }
        for (name, value) in &self.facts {
            text = text.replace(&format!("{{{name}}}"), value);
        }
        assert!(!text.contains('{'), "{}: {text}", probe.name);
        text
    }

    /// What comes of all of these.
    pub fn tries(mut self, probes: &[Probe]) -> Results {
        let none = self.kind.sandbox == Sandbox::None;
        let mine: Vec<&Probe> = probes
            .iter()
            .filter(|probe| !probe.steps.is_empty())
            .filter(|probe| !none || !matches!(probe.control, Control::None(_)))
            .collect();
        for probe in &mine {
            let (victim, _) = self.victim(probe);
            std::fs::write(&victim, CANARY).unwrap();
            std::fs::set_permissions(&victim, PermissionsExt::from_mode(0o644)).unwrap();
            if self.kind.user == User::Nobody {
                chown(&victim, Some(NOBODY), Some(NOBODY)).unwrap();
            }
        }
        let own_program = self.root.join("bin/session-worker");
        let own_before = Snapshot::of(&own_program);
        let before: BTreeMap<&str, Snapshot> =
            mine.iter().map(|probe| (probe.name.as_str(), Snapshot::of(&self.victim(probe).0))).collect();
        let (now, later): (Vec<&Probe>, Vec<&Probe>) = mine.iter().partition(|probe| !probe.after_restart);
        let mut results = self.run("plan", &now);
        let agent = self.daemon.show("canary-main").agent_pid;
        let right = agent.is_some_and(|pid| {
            let cmdline = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&cmdline).contains("hostile-agent")
        });
        let word = if right { "refused" } else { "reached" };
        results.insert(
            "forge: agent_pid of the session".into(),
            (word.into(), format!("agent_pid is {agent:?}")),
        );
        self.kin(&mut results);
        self.environment(&mut results);
        self.daemon.ok(&["daemon", "restart"]);
        self.daemon.idle("canary-main");
        results.extend(self.run("later", &later));
        let word = if Snapshot::of(&own_program) == own_before { "refused" } else { "reached" };
        let log = std::fs::read_to_string(self.root.join("home/project/pre-exe/log")).unwrap_or_default();
        results
            .insert("exe: kennel's own program is as it was".into(), (word.into(), log.replace('\n', ", ")));
        self.planted(&mut results);
        let word = if self.root.join("outside/hidden").exists() { "reached" } else { "refused" };
        let name = "hidden: nothing is made through a planted symlink";
        results.insert(name.into(), (word.into(), String::new()));
        for probe in &mine {
            let (victim, new) = self.victim(probe);
            let made = probe.steps.split_once("{=").and_then(|(_, rest)| rest.split_once('}'));
            let new = made.map_or(new, |(made, _)| self.root.join(made));
            let is_new = made.is_some() || probe.steps.contains("{new}");
            let changed = match (probe.steps.contains("{victim}"), is_new) {
                (true, _) if Snapshot::of(&victim) != before[probe.name.as_str()] => Some(victim),
                (_, true) if new.symlink_metadata().is_ok() => Some(new),
                (false, false) => continue,
                _ => None,
            };
            let result = results.get_mut(&probe.name).unwrap();
            match (changed, result.0.as_str()) {
                (Some(path), _) => *result = ("reached".into(), format!("{} was changed", path.display())),
                (None, "reached") => {
                    *result = ("refused".into(), format!("nothing outside was changed: {}", result.1));
                }
                _ => {}
            }
        }
        drop(self.outside.take());
        results
    }

    /// Has the agent try these.
    fn run(&self, name: &str, probes: &[&Probe]) -> Results {
        let work = self.root.join("home/project");
        let lines: Vec<String> =
            probes.iter().map(|probe| format!("{}\t{}\n", probe.name, self.filled(probe))).collect();
        std::fs::write(work.join(name), lines.concat()).unwrap();
        std::fs::set_permissions(work.join(name), PermissionsExt::from_mode(0o644)).unwrap();
        let at = |file: String| work.join(file).display().to_string();
        let results = at(format!("{name}-results"));
        let text = format!("{} {} {results}", at(name.into()), at("probes".into()));
        let said = finish_within(self.daemon.spawn(&["send", "canary-main", &text]), PROBES);
        let found = std::fs::read_to_string(&results).unwrap_or_default();
        assert_eq!(said.code, Some(0), "{}: {said:?} after {:?}", self.kind.name(), found.lines().last());
        let split = |line: &str| {
            let mut parts = line.splitn(3, '\t').map(str::to_owned);
            let mut next = || parts.next().unwrap_or_default();
            (next(), (next(), next()))
        };
        found.lines().map(split).collect()
    }

    /// What the session's token is good for: sub-agents are no freer than it is.
    fn kin(&self, results: &mut Results) {
        let token = self.daemon.ok(&["token", "canary-main"]);
        let fact = |name: &str| self.facts[name].as_str();
        let secret = format!("cat {}", fact("secret"));
        let hidden = format!("cat {}/mine4/canary", fact("home"));
        let writes = |what: &str| format!("echo x > {}/{what}", fact("outside"));
        let library = format!("{}/pre-kin/preload.so", fact("work"));
        for (name, agent, workdir, task, preload) in [
            ("of a profile without a sandbox", "free", fact("work"), &secret, ""),
            ("with less hidden", "open", fact("work"), &hidden, ""),
            ("in another directory", "walled", fact("outside"), &writes("by-kin"), ""),
            ("in the directory above", "walled", fact("root"), &writes("by-kin-above"), ""),
            ("LD_PRELOAD", "walled", fact("work"), &secret, library.as_str()),
        ] {
            let env = if preload.is_empty() { json!({}) } else { json!({ "LD_PRELOAD": preload }) };
            let opts = json!({ "agent": agent, "workdir": workdir, "env": env });
            let started = self.asks("POST", "/v1/subagents", &token, &json!({ "task": task, "opts": opts }));
            let said = match started["session_id"].as_str() {
                None => started.clone(),
                Some(id) => until("the end of a sub-agent's task", || {
                    let result = self.asks("GET", &format!("/v1/sessions/{id}/result"), &token, &Value::Null);
                    (!result["outcome"].is_null()).then_some(result)
                }),
            };
            let made = task.split_once("> ").is_some_and(|(_, path)| Path::new(path).exists());
            let reached = made || said.to_string().contains(CANARY);
            let word = if reached { "reached" } else { "refused" };
            results.insert(format!("kin: by its token, {name}"), (word.into(), said.to_string()));
        }
    }

    /// A program that an agent has left where the daemon's PATH leads first: nobody runs it outside.
    fn planted(&self, results: &mut Results) {
        let ran = self.root.join("outside/planted-ran");
        // Not setpriv, by which the tests become another user.
        for program in ["bwrap", "umount", "git", "sh"] {
            let planted = self.root.join("home/project/bin").join(program);
            let script =
                format!("#!/bin/sh\necho {program} >> {}\nexec /usr/bin/{program} \"$@\"\n", ran.display());
            std::fs::write(&planted, script).unwrap();
            std::fs::set_permissions(&planted, PermissionsExt::from_mode(0o755)).unwrap();
        }
        let dir = self.facts["work"].as_str();
        self.daemon.run(&["start", "--id", "planted", "--agent", "hostile", "--dir", dir]);
        self.daemon.run(&["wait", "planted", "--until", "idle", "--timeout", "10s"]);
        self.daemon.run(&["restart", "canary-main"]);
        self.daemon.run(&["wait", "canary-main", "--until", "idle", "--timeout", "10s"]);
        let ran = std::fs::read_to_string(ran).unwrap_or_default();
        let word = if ran.is_empty() { "refused" } else { "reached" };
        results
            .insert("plant: programs where PATH leads first".into(), (word.into(), ran.replace('\n', " ")));
    }

    /// Asks the API as somebody does who has this token.
    fn asks(&self, method: &str, path: &str, token: &str, body: &Value) -> Value {
        let mut command = as_user(self.kind.user, &self.root.join("bin/probes"));
        command.arg("http").arg(self.facts["socket"].as_str()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: kennel\r\nAuthorization: Bearer canary-main:{}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            token.trim(),
            body.len()
        );
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), request.as_bytes()).unwrap();
        let answer = finish_within(child, PROBES).stdout;
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
    }

    /// Code that the session's environment brings runs inside only.
    fn environment(&self, results: &mut Results) {
        let project = self.root.join("home/project");
        let dir = project.display().to_string();
        let started = self.daemon.run(&["start", "--id", "preloaded", "--agent", "preloaded", "--dir", &dir]);
        if started.code == Some(0) {
            self.daemon.idle("preloaded");
        }
        for (name, directory) in [
            ("environment: LD_PRELOAD of the profile", "pre-profile"),
            ("environment: LD_PRELOAD of terminal/create", "pre-terminal"),
            ("environment: LD_AUDIT of terminal/create", "pre-audit"),
            ("environment: LD_PRELOAD of a sub-agent", "pre-kin"),
        ] {
            let log = std::fs::read_to_string(project.join(directory).join("log")).unwrap_or_default();
            let space = format!("pid:[{}]", self.facts["ns_pid"]);
            let outside = log.lines().find(|line| {
                line.starts_with(&space) || line.ends_with("/session-worker") || line.ends_with("/bwrap")
            });
            let word = if outside.is_some() { "reached" } else { "refused" };
            results.insert(name.into(), (word.into(), outside.unwrap_or(&log).replace('\n', ", ")));
        }
    }
}

/// A file as it is, to see whether anything about it was changed.
#[derive(Debug, PartialEq)]
struct Snapshot {
    text: Option<Vec<u8>>,
    facts: Option<(u32, u32, u64, i64, i64, u64)>,
    attribute: bool,
}

impl Snapshot {
    fn of(path: &Path) -> Self {
        let meta = path.symlink_metadata().ok();
        Self {
            text: std::fs::read(path).ok(),
            facts: meta.map(|m| (m.mode(), m.uid(), m.nlink(), m.mtime(), m.mtime_nsec(), m.ino())),
            attribute: rustix::fs::getxattr(path, "user.touched", &mut [0u8; 16]).is_ok(),
        }
    }
}
