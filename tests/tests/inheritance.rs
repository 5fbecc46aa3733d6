//! The inheritance of a session's programs: from the client that creates it, from the daemon, and from the
//! client that started the daemon. `manager/docs/security.md` lists it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::daemon::{CommandOutput, Daemon, finish};
use harness::real::*;
use manager::protocol::SandboxBy;

use super::sandbox::makers;

/// Prints a name and a value in each line. Fields of `/proc/PID/stat` (proc_pid_stat(5)) count from 3 after
/// the name.
const REPORT: &str = r#"
stat=$(cat /proc/$$/stat); set -- ${stat##*) }
echo "umask $(umask)"
echo "open_files $(ulimit -Sn)"
echo "file_size $(ulimit -Sf)"
echo "terminal $5"
echo "nice ${17}"
echo "policy ${39}"
for name in SigBlk SigIgn CapAmb Cpus_allowed; do echo "$name $(sed -n "s/^$name:\s*//p" /proc/$$/status)"; done
echo "slack $(cat /proc/$$/timerslack_ns)"
echo "io $(ionice)"
echo "score $(cat /proc/$$/oom_score_adj)"
echo "temporary ${TMPDIR-none}"
echo "term ${TERM-none}"
echo "certificates ${SSL_CERT_FILE-none}"
echo "secret ${SECRET-none}"
echo "directory $(pwd)"
open=none; for fd in 3 4 5 6 7 8 9 11 12 13 14 15 16; do [ ! -e /proc/$$/fd/$fd ] || open="$open $fd"; done
echo "descriptors $open"
rm -f made; touch made; echo "mode $(stat -c %a made)"
"#;

/// Settings of a client that starts a daemon: no other client's session may inherit them.
const ODD: &str = "trap '' INT QUIT USR1 PIPE && umask 077 && ulimit -S -n 700 && ulimit -S -f 1000000";
const ODDER: &[&str] = &["nice", "-n", "5", "taskset", "-c", "0", "ionice", "-c", "3", "chrt", "-b", "0"];

/// A directory for PATH with all programs but bubblewrap, below this one.
pub fn without_bubblewrap(root: &Path) -> PathBuf {
    let tools = root.join("tools");
    std::fs::create_dir(&tools).unwrap();
    let installed = std::fs::read_dir("/usr/bin").unwrap().flatten();
    for tool in installed.filter(|tool| tool.file_name() != "bwrap") {
        symlink(tool.path(), tools.join(tool.file_name())).unwrap();
    }
    tools
}

struct World {
    daemon: Daemon,
    work: PathBuf,
}

impl World {
    fn new(by: SandboxBy) -> Self {
        let mut daemon = Daemon::over(dir_that_sandboxes_show());
        let root = daemon.workdir().to_owned();
        let work = root.join("work");
        std::fs::create_dir(&work).unwrap();
        std::fs::write(work.join("report"), REPORT).unwrap();
        std::fs::create_dir(root.join("kennel")).unwrap();
        let mut config = String::new();
        for sandbox in ["none", "workdir", "strict"] {
            let agent = beside("acp-agent");
            config += &format!("[agents.shell-{sandbox}]\nkind = \"shell\"\nsandbox = \"{sandbox}\"\n");
            config += &format!(
                "[agents.acp-{sandbox}]\nkind = \"acp\"\ncommand = [{agent:?}]\nsandbox = \"{sandbox}\"\n"
            );
        }
        std::fs::write(root.join("kennel/config.toml"), config).unwrap();
        std::fs::set_permissions(root.join("kennel"), PermissionsExt::from_mode(0o700)).unwrap();
        if by == SandboxBy::Landlock {
            let tools = without_bubblewrap(&root);
            daemon.set("PATH", tools.to_str().unwrap());
        }
        Self { daemon, work }
    }

    /// Runs a command in a process in which this was run before.
    fn after(&self, set_up: &str, through: &[&str], args: &[&str]) -> CommandOutput {
        let plain = self.daemon.command(args);
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{set_up} && exec \"$@\""), "sh"]).args(through);
        command.arg(plain.get_program()).args(plain.get_args()).current_dir(plain.get_current_dir().unwrap());
        plain.get_envs().for_each(|(name, value)| {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        });
        let null = std::process::Stdio::null;
        command.stdin(null()).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        let output = finish(command.spawn().unwrap());
        assert_eq!(output.code, Some(0), "{args:?}: {output:#?}");
        output
    }

    /// Returns the report of a program in such a session, created by a client with this umask.
    fn reported(&self, agent: &str, umask: &str) -> BTreeMap<String, String> {
        let started = self.after(
            &format!("umask {umask}"),
            &[],
            &["start", "--agent", agent, "--dir", self.work.to_str().unwrap()],
        );
        let id = started.stdout.trim().to_owned();
        let prompt = if agent.starts_with("acp") { "run sh report" } else { "sh report" };
        let text = self.daemon.ok(&["send", &id, "--", prompt]);
        self.daemon.ok(&["rm", "--force", &id]);
        text.lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(name, value)| (name.into(), value.into()))
            .collect()
    }
}

fn assert_clean(found: &BTreeMap<String, String>, about: &str, work: &Path) {
    let is = |name: &str, wanted: &str| {
        assert_eq!(found.get(name).map(String::as_str), Some(wanted), "{name}, {about}: {found:#?}")
    };
    is("umask", "0027");
    is("mode", "640");
    // The daemon has raised its own.
    is("open_files", "700");
    is("file_size", "unlimited");
    is("terminal", "0");
    is("policy", "0");
    is("SigBlk", "0000000000000000");
    // 32 and 33 are the C library's own: its posix_spawn leaves them so in every child.
    let ignored = u64::from_str_radix(&found["SigIgn"], 16).unwrap() & !(3 << 31);
    assert_eq!(ignored, 0, "{about}: {found:#?}");
    is("CapAmb", "0000000000000000");
    is("slack", "50000");
    is("term", "none");
    is("secret", "none");
    is("certificates", "none");
    is("directory", work.to_str().unwrap());
    is("descriptors", "none");
    let temporary = if about.contains("none") { "none" } else { "/tmp" };
    is("temporary", temporary);
    assert!(found["io"].starts_with("none"), "{about}: {found:#?}");
    // Root alone can take back what a client has lowered.
    is("nice", if nix::unistd::geteuid().is_root() { "0" } else { "5" });
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    let processors = own.lines().find_map(|line| line.strip_prefix("Cpus_allowed:")).unwrap().trim();
    is("Cpus_allowed", processors);
    assert!(found["score"].parse::<i32>().unwrap() >= 300, "{about}: {found:#?}");
}

#[test]
fn programs_inherit_their_clients_umask_and_nothing_of_whoever_started_the_daemon() {
    for by in makers() {
        let world = World::new(by);
        let gone = world.daemon.workdir().join("gone");
        std::fs::create_dir(&gone).unwrap();
        let odd =
            format!("{ODD} && export TERM=dumb SECRET=x TMPDIR={0} SSL_CERT_FILE={0}/ca.pem", gone.display());
        world.after(&odd, ODDER, &["ls"]);
        std::fs::remove_dir_all(&gone).unwrap();
        for sandbox in ["none", "workdir", "strict"] {
            for kind in ["shell", "acp"] {
                let found = world.reported(&format!("{kind}-{sandbox}"), "027");
                assert_clean(&found, &format!("{kind}, {sandbox}, {by:?}"), &world.work);
            }
        }
    }
}

#[test]
fn a_session_keeps_its_umask_over_daemons_and_the_configuration_comes_first() {
    let world = World::new(SandboxBy::Bubblewrap);
    let (daemon, work) = (&world.daemon, world.work.to_str().unwrap());
    let config = daemon.workdir().join("kennel/config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text + "[agents.own]\nkind = \"shell\"\numask = \"007\"\n").unwrap();
    let umask = |id: &str| daemon.ok(&["send", id, "--", "umask"]).trim().to_owned();

    world.after("umask 026", &[], &["start", "--id", "one", "--dir", work]);
    world.after("umask 026", &[], &["start", "--id", "own", "--agent", "own", "--dir", work]);
    assert_eq!((umask("one"), umask("own")), ("0026".into(), "0007".into()));
    // The next daemon is started by somebody else.
    daemon.kill();
    world.after("umask 077", &[], &["restart", "one"]);
    daemon.idle("one");
    assert_eq!(umask("one"), "0026");
    // A request without the header gets the umask with which the daemon was started.
    let ask = |header: &str| {
        let mut stream = UnixStream::connect(daemon.socket()).unwrap();
        let head = "POST /v1/sessions HTTP/1.1\r\nHost: kennel\r\nConnection: close\r\nContent-Length: 0";
        stream.write_all(format!("{head}\r\n{header}\r\n\r\n").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        serde_json::from_str::<serde_json::Value>(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    };
    let made = ask("Unknown: 1");
    assert_eq!(umask(made["id"].as_str().unwrap()), "0077");
    let made = ask("Kennel-Umask: 002");
    assert_eq!(umask(made["id"].as_str().unwrap()), "0002");
    for wrong in ["Kennel-Umask: 1000", "Kennel-Umask: 9", "Kennel-Umask: 00022", "Kennel-Umask: u=rwx"] {
        assert_eq!(ask(wrong)["code"], "invalid_umask", "{wrong}");
    }
}

#[test]
fn what_the_worker_writes_for_an_agent_has_the_mode_that_the_agent_would_give_it() {
    let world = World::new(SandboxBy::Bubblewrap);
    let work = world.work.to_str().unwrap();
    world.after("umask 027", &[], &["start", "--id", "one", "--agent", "acp-none", "--dir", work]);
    world.daemon.ok(&["send", "one", "--", &format!("write {work}/new text")]);
    let mode = std::fs::metadata(world.work.join("new")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
}
