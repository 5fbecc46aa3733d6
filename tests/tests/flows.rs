//! Every example of `README.md`, of each page in `manager/docs/` and of each `--help`, typed as it stands there: in a terminal of
//! 40 columns, without a terminal, in cron's environment, and by another user. The list is read from these texts, so that an
//! example without a row in [`FLOWS`] fails. A recorded session is typed whole, and its output compared.

use std::collections::BTreeSet;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use harness::daemon::{Daemon, Said, finish};
use harness::real::*;
use manager::protocol::api::{Accepted, SessionInfo};
use nix::sys::signal::Signal;

/// How wide the terminal is, in columns.
const COLUMNS: u16 = 40;
/// Another user, who owns nothing.
const OTHER: u32 = 65_533;

/// How a flow comes to its end.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    /// By itself, with this exit code.
    Code(i32),
    /// By Ctrl-D in a terminal, and at the end of its input without one, once it has shown this.
    Input(&'static str),
    /// By Ctrl-C in a terminal, and by SIGINT without one, once it has shown this.
    Signal(&'static str),
}

use End::{Code, Input, Signal as Interrupt};

/// What there has to be before an example works.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Before {
    /// No daemon yet.
    Nothing,
    /// `session-1` of this directory, `session-2` its sub-agent, both idle.
    Sessions,
    /// The same, and `session-1` is stopped.
    Stopped,
    /// The same as `Sessions`, and prompt-17 runs, prompt-18 waits.
    Running,
    /// The same, and prompt-17 was interrupted by a crash.
    Interrupted,
    /// `session-1` has an agent that asks for permission-17.
    Asking,
    /// `session-1` has an agent with settings.
    Settings,
}

use Before::{Asking, Interrupted, Nothing, Running, Sessions, Settings, Stopped};

/// An example as it is typed, what it needs, how it ends, and what is shown.
const FLOWS: &[(&str, Before, End, &str)] = &[
    ("kennel start --title mine", Nothing, Code(0), "session-1"),
    ("kennel start --title demo", Nothing, Code(0), "session-1"),
    ("kennel send session-1 'make test'", Sessions, Code(0), "made test"),
    ("kennel send session-1 'echo hello'", Sessions, Code(0), "hello"),
    ("kill -9 20004", Sessions, Code(0), ""),
    ("kennel attach session-1", Sessions, Input(""), ""),
    ("kennel ls", Sessions, Code(0), "session-1"),
    ("kennel events session-1", Sessions, Code(0), "session.created"),
    ("kennel stop session-1", Sessions, Code(0), "session-1"),
    (
        "npm install -g @openai/codex @agentclientprotocol/codex-acp && codex login",
        Nothing,
        Code(0),
        "npm install",
    ),
    ("kennel start --agent codex", Nothing, Code(0), "session-1"),
    ("kennel send session-2 'what does this project do?'", Settings, Code(0), "heard"),
    (
        "curl --unix-socket \"$XDG_RUNTIME_DIR/kennel/kennel.sock\" http://kennel/v1/sessions",
        Sessions,
        Code(0),
        "session-1",
    ),
    ("kennel demo", Nothing, Code(0), "kill"),
    ("kennel start", Nothing, Code(0), "session-1"),
    ("kennel start --title build --agent claude --dir ~/src/app", Nothing, Code(0), "session-1"),
    ("kennel start --id ci --env RUST_LOG=debug --on-crash retry", Nothing, Code(0), "ci"),
    ("kennel ensure", Nothing, Code(0), "workdir-"),
    ("kennel ensure ~/src/app --agent claude", Nothing, Code(0), "workdir-"),
    ("kennel ensure --id ci --timeout 1m", Nothing, Code(0), "ci"),
    ("kennel ls --all", Sessions, Code(0), "session-1"),
    ("kennel ls --tree", Sessions, Code(0), "session-1"),
    ("kennel ls --json | jq '.[].id'", Sessions, Code(0), "\"session-1\""),
    ("kennel show session-1", Sessions, Code(0), "status:"),
    ("kennel show session-1 --json | jq .pid", Sessions, Code(0), ""),
    ("kennel id --dir ~/src/app", Nothing, Code(0), "workdir-"),
    ("kennel id --pid 4711", Sessions, Code(0), "session-1"),
    ("kennel send session-1 < prompt.txt", Sessions, Code(0), "from a file"),
    ("kennel send session-1 --no-wait --when-busy reject 'make test'", Sessions, Code(0), "prompt-"),
    ("kennel attach", Sessions, Input(""), ""),
    ("kennel attach session-1 --read-only", Sessions, Input(""), ""),
    ("kennel attach ~/src/app --takeover", Sessions, Input(""), ""),
    ("kennel queue ls session-1", Running, Code(0), "prompt-"),
    ("kennel queue edit session-1 prompt-17 'make check'", Running, Code(0), ""),
    ("kennel queue rm session-1 prompt-17", Running, Code(0), ""),
    ("kennel queue clear session-1", Running, Code(0), ""),
    ("kennel permissions ls", Asking, Code(0), "permission-"),
    ("kennel permissions allow permission-17", Asking, Code(0), ""),
    ("kennel permissions allow permission-17 --option always", Asking, Code(0), ""),
    ("kennel permissions deny permission-17", Asking, Code(0), ""),
    ("kennel set session-1", Settings, Code(0), "mode"),
    ("kennel set session-1 mode=plan model=gpt-5", Settings, Code(0), ""),
    ("kennel agents ls", Nothing, Code(0), "claude"),
    ("kennel agents ls codex --probe", Nothing, Code(0), "codex"),
    ("kennel acp --agent claude", Nothing, Input(""), ""),
    ("kennel acp --agent codex --workdir-session", Nothing, Input(""), ""),
    ("kennel resolve prompt-17 --retry", Interrupted, Code(0), ""),
    ("kennel resolve prompt-17 --drop", Interrupted, Code(0), ""),
    ("kennel abort session-1", Running, Code(0), ""),
    ("kennel abort session-1 prompt-17", Running, Code(0), ""),
    ("kennel stop session-1 session-2", Sessions, Code(0), "session-2"),
    ("kennel stop --pid 4711", Sessions, Code(0), "session-1"),
    ("kennel stop --all", Sessions, Code(0), "session-1"),
    ("kennel restart session-1", Sessions, Code(0), "session-1"),
    ("kennel rm session-1", Stopped, Code(0), "session-1"),
    ("kennel rm --force session-1", Sessions, Code(0), "session-1"),
    ("kennel pin session-1", Sessions, Code(0), "session-1"),
    ("kennel unpin session-1", Sessions, Code(0), "session-1"),
    ("kennel events -f", Sessions, Interrupt(""), ""),
    ("kennel events -f --after 0 --json", Sessions, Interrupt("session.created"), ""),
    ("kennel logs session-1 -n 20", Sessions, Code(0), ""),
    ("kennel wait session-1 --until idle --timeout 20s", Sessions, Code(0), ""),
    ("kennel wait session-1 --until stopped", Stopped, Code(0), ""),
    ("kennel wait session-1 --until requires_action", Asking, Code(0), ""),
    ("kennel subagent start --parent session-1 'make test'", Sessions, Code(0), "session-"),
    ("kennel subagent ls --parent session-1", Sessions, Code(0), "session-2"),
    ("kennel subagent wait session-2", Sessions, Code(0), "below"),
    ("kennel subagent result session-2", Sessions, Code(0), "below"),
    ("kennel mcp", Nothing, Code(2), "KENNEL_TOKEN_FILE"),
    ("kennel token session-1", Sessions, Code(0), ""),
    ("kennel token session-1 --viewer", Sessions, Code(0), ""),
    ("kennel daemon run", Nothing, Interrupt("serves"), ""),
    ("kennel daemon start", Nothing, Code(0), "running"),
    ("kennel daemon stop", Sessions, Code(0), "stopped"),
    ("kennel daemon status", Sessions, Code(0), "running"),
    ("kennel daemon status --json | jq .pid", Sessions, Code(0), ""),
    ("kennel daemon restart", Sessions, Code(0), "running"),
    ("kennel daemon upgrade", Sessions, Code(0), "running"),
    ("kennel daemon check", Sessions, Code(0), "can be read"),
    ("kennel daemon unit > ~/.config/systemd/user/kennel.service", Nothing, Code(0), ""),
    ("kennel df", Sessions, Code(0), "journal"),
    ("kennel df --all", Sessions, Code(0), "journal"),
    ("kennel df --json | jq '.sessions[] | select(.event_bytes > 1e6) | .id'", Sessions, Code(0), ""),
    ("kennel prune", Sessions, Code(0), "nothing to remove"),
    ("kennel prune --older-than 90d", Sessions, Code(0), "nothing to remove"),
    ("kennel prune --max-size 2GiB --dry-run", Sessions, Code(0), "nothing to remove"),
    ("kennel prune --damaged --force", Sessions, Code(0), "nothing to remove"),
    ("kennel doctor", Sessions, Code(0), "journal"),
    ("kennel doctor --json | jq '.[] | select(.health != \"ok\")'", Sessions, Code(0), ""),
];

/// Those that print a list: no line is wider than the terminal.
const LISTS: &[&str] = &[
    "kennel ls",
    "kennel queue ls",
    "kennel permissions ls",
    "kennel agents ls",
    "kennel set session-1",
    "kennel df",
    "kennel subagent ls",
    "kennel prune",
];

/// The examples below `Example:` or `Examples:` in a help text, without what explains them.
fn examples(help: &str) -> Vec<String> {
    let below = help.lines().skip_while(|line| !line.starts_with("Example")).skip(1);
    let lines = below.take_while(|line| line.starts_with("  "));
    lines.map(|line| line.trim_start().split("  ").next().unwrap().trim().to_owned()).collect()
}

/// All help texts, from the commands that each one lists.
fn helps(command: &[&str], all: &mut Vec<String>) {
    let said = finish(
        Command::new(kennel())
            .args(command)
            .arg("--help")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    assert_eq!(said.code, Some(0), "{said:?}");
    let listed = said.stdout.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names: Vec<String> = listed
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .map(|line| line.split_whitespace().next().unwrap().to_owned())
        .filter(|name| name != "help")
        .collect();
    for name in &names {
        helps(&[command, &[name]].concat(), all);
    }
    all.push(said.stdout);
}

/// The console blocks of README.md and of the pages in `manager/docs/`.
fn consoles() -> Vec<String> {
    let blocks = super::documents::pages().into_iter().flat_map(|page| page.blocks("console"));
    blocks.collect()
}

/// The command of a line of a console block, without its comment; `None` for a line of output.
fn typed(line: &str) -> Option<&str> {
    Some(line.strip_prefix("$ ")?.split("  #").next().unwrap().trim())
}

/// A recorded line with what differs from run to run taken out: long numbers, ages, and the width of columns.
fn without_chance(line: &str) -> String {
    let words = line.split_whitespace().map(|word| {
        let digits = word.bytes().take_while(u8::is_ascii_digit).count();
        match &word[digits..] {
            "" if digits > 2 => "NUMBER",
            "s" | "m" if digits > 0 => "AGE",
            _ => word,
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn a_recorded_session_shows_what_it_shows_when_it_is_typed() {
    let recorded: Vec<String> =
        consoles().into_iter().filter(|block| block.lines().any(|line| typed(line).is_none())).collect();
    assert!(!recorded.is_empty(), "no console block has output");
    for block in recorded {
        let world = World::new(Nothing);
        let mut shown: Vec<String> = Vec::new();
        for command in block.lines().filter_map(typed) {
            shown.push(format!("$ {command}"));
            // The pid of the recording is that of the session now.
            let pid = command.strip_prefix("kill -9 ").map(|_| world.daemon.idle("session-1").pid.unwrap());
            let said = finish(
                world.shell(&pid.map_or(command.to_owned(), |pid| format!("kill -9 {pid}"))).spawn().unwrap(),
            );
            assert_eq!(said.code, Some(0), "{command}: {said:#?}");
            shown.extend(format!("{}{}", said.stdout, said.stderr).lines().map(str::to_owned));
            if let Some(pid) = pid {
                until("the crash", || (world.daemon.show("session-1").pid != Some(pid)).then_some(()));
                world.daemon.idle("session-1");
            }
        }
        let plain = |lines: Vec<&str>| lines.into_iter().map(without_chance).collect::<Vec<_>>();
        let (there, here) =
            (plain(block.lines().collect()), plain(shown.iter().map(String::as_str).collect()));
        assert_eq!(there, here, "{}", shown.join("\n"));
    }
}

#[test]
fn every_example_of_the_pages_and_of_each_help_is_a_flow_here_and_no_flow_is_of_another_time() {
    let mut all = Vec::new();
    helps(&[], &mut all);
    let in_pages = consoles();
    let in_pages = in_pages.iter().flat_map(|block| block.lines().filter_map(typed).map(str::to_owned));
    let written: BTreeSet<String> = all.iter().flat_map(|help| examples(help)).chain(in_pages).collect();
    assert!(written.len() > 80, "{written:#?}");
    let here: BTreeSet<String> = FLOWS.iter().map(|(line, ..)| (*line).to_owned()).collect();
    let missing: Vec<_> = written.difference(&here).collect();
    let stale: Vec<_> = here.difference(&written).collect();
    assert!(
        missing.is_empty() && stale.is_empty(),
        "not in FLOWS: {missing:#?}\nnowhere written: {stale:#?}"
    );
}

/// What is run in the place of programs that the examples use and this machine does not have. `.ci/run` installs them.
const STAND_INS: [(&str, &str); 3] = [
    ("jq", "#!/bin/sh\nexec cat\n"),
    ("curl", "#!/bin/sh\nexec kennel ls --json\n"),
    ("make", "#!/bin/sh\necho \"made $1\"\n"),
];

/// An agent with a mode and a model that can be set, and which asks for permission when it is told to ask.
const AGENT: &str = r#"#!/bin/sh
said() { printf '{"jsonrpc":"2.0",%s}\n' "$1"; }
update() { said "\"method\":\"session/update\",\"params\":{\"sessionId\":\"s\",\"update\":{$1}}"; }
model() {
    options='[{"value":"gpt-4","name":"4"},{"value":"gpt-5","name":"5"}]'
    printf '"configOptions":[{"id":"model","name":"Model","type":"select","currentValue":"%s","options":%s}]' "$1" "$options"
}
while read -r line; do
    id=${line#*\"id\":}; id=${id%%[,\}]*}
    case $line in
    *'"initialize"'*) said "\"id\":$id,\"result\":{\"protocolVersion\":1,\"agentInfo\":{\"name\":\"fake\",\"version\":\"1\"}}";;
    *'"session/new"'*)
        modes='{"currentModeId":"code","availableModes":[{"id":"code","name":"Code"},{"id":"plan","name":"Plan"}]}'
        said "\"id\":$id,\"result\":{\"sessionId\":\"s\",\"modes\":$modes,$(model gpt-4)}";;
    *'"session/set_mode"'*) said "\"id\":$id,\"result\":{}";;
    *'"session/set_config_option"'*) said "\"id\":$id,\"result\":{$(model gpt-5)}";;
    *'"session/prompt"'*'ask me'*)
        turn=$id
        options='[{"optionId":"once","name":"Once","kind":"allow_once"},{"optionId":"always","name":"Always","kind":"allow_always"},{"optionId":"no","name":"No","kind":"reject_once"}]'
        said "\"id\":\"p\",\"method\":\"session/request_permission\",\"params\":{\"sessionId\":\"s\",\"toolCall\":{\"toolCallId\":\"c\",\"title\":\"May I?\"},\"options\":$options}";;
    *'"session/prompt"'*)
        update '"sessionUpdate":"agent_message_chunk","content":{"type":"text","text":"heard"}'
        said "\"id\":$id,\"result\":{\"stopReason\":\"end_turn\"}";;
    *'"id":"p"'*) said "\"id\":$turn,\"result\":{\"stopReason\":\"end_turn\"}";;
    esac
done
"#;

/// A home directory of somebody who has what the examples name.
struct World {
    daemon: Daemon,
    /// What stands for the ids and pids of the examples.
    names: Vec<(&'static str, String)>,
}

impl World {
    fn new(before: Before) -> Self {
        let mut daemon = Daemon::new();
        let home = daemon.dir.path().to_owned();
        for directory in ["bin", "kennel", "src/app", ".config/systemd/user"] {
            std::fs::create_dir_all(home.join(directory)).unwrap();
        }
        std::os::unix::fs::symlink(kennel(), home.join("bin/kennel")).unwrap();
        // The state directory is the default one, of which the pages speak.
        std::fs::create_dir_all(home.join("xdg")).unwrap();
        std::fs::create_dir(home.join("state")).unwrap();
        std::fs::set_permissions(home.join("state"), std::fs::Permissions::from_mode(0o700)).unwrap();
        std::os::unix::fs::symlink("../state", home.join("xdg/kennel")).unwrap();
        let xdg = home.join("xdg").display().to_string();
        daemon.set("XDG_STATE_HOME", &xdg);
        std::fs::create_dir(home.join("run")).unwrap();
        std::fs::set_permissions(home.join("run"), std::fs::Permissions::from_mode(0o700)).unwrap();
        daemon.set("XDG_RUNTIME_DIR", &home.join("run").display().to_string());
        std::fs::write(home.join("prompt.txt"), "echo from a file").unwrap();
        std::fs::write(home.join("Makefile"), "test:\n\t@echo made test\ncheck: test\n").unwrap();
        for name in ["npm", "codex"] {
            program(&home.join("bin").join(name), "#!/bin/sh\necho \"${0##*/} $*\"\n");
        }
        for (name, stand_in) in STAND_INS {
            if !["/usr/bin", "/bin"].iter().any(|place| Path::new(place).join(name).exists()) {
                program(&home.join("bin").join(name), stand_in);
            }
        }
        let agent = home.join("bin/agent");
        program(&agent, AGENT);
        let config: String = ["claude", "codex"]
            .iter()
            .map(|name| {
                format!("[agents.{name}]\nkind = \"acp\"\ncommand = [{:?}]\n", agent.display().to_string())
            })
            .collect();
        std::fs::write(home.join("kennel/config.toml"), config + "[defaults]\ngrace = \"100ms\"\n").unwrap();
        let mut world = Self { daemon, names: Vec::new() };
        world.prepare(before);
        world
    }

    fn prepare(&mut self, before: Before) {
        let daemon = &self.daemon;
        match before {
            Nothing => return,
            Asking | Settings => {
                daemon.ok(&["start", "--agent", "claude"]);
                self.names.push(("session-2", "session-1".into()));
            }
            Sessions | Stopped | Running | Interrupted => {
                daemon.ok(&["start"]);
                daemon.ok(&["subagent", "start", "--parent", "session-1", "echo below"]);
                daemon.ok(&["subagent", "wait", "session-2"]);
            }
        }
        let pid = daemon.idle("session-1").pid.unwrap();
        self.names.push(("4711", pid.to_string()));
        self.names.push(("20004", pid.to_string()));
        match before {
            Stopped => _ = daemon.ok(&["stop", "session-1"]),
            Running | Interrupted => {
                let first: Accepted = daemon.json(&["send", "--no-wait", "session-1", "exec sleep 1000"]);
                daemon.ok(&["wait", "session-1", "--until", "running", "--timeout", "30s"]);
                let second: Accepted = daemon.json(&["send", "--no-wait", "session-1", "echo second"]);
                if before == Interrupted {
                    kill(pid);
                    until("the crash", || (daemon.show("session-1").pid != Some(pid)).then_some(()));
                    daemon.idle("session-1");
                }
                self.names.push(("prompt-17", first.prompt_id.to_string()));
                self.names.push(("WAITING", second.prompt_id.to_string()));
            }
            Asking => {
                daemon.ok(&["send", "--no-wait", "session-1", "ask me"]);
                daemon.ok(&["wait", "session-1", "--until", "requires_action", "--timeout", "30s"]);
                let open: Vec<serde_json::Value> = daemon.json(&["permissions", "ls"]);
                self.names.push(("permission-17", open[0]["permission_id"].as_str().unwrap().to_owned()));
            }
            Nothing | Sessions | Settings => {}
        }
    }

    /// The example with the ids that there are.
    fn line(&self, example: &str) -> String {
        let name =
            |name: &str| self.names.iter().find(|(known, _)| *known == name).map(|(_, real)| real.clone());
        let mut line = example.to_owned();
        // What waits can be edited and taken out; what runs can be aborted.
        let prompt = if example.contains("queue") { name("WAITING") } else { name("prompt-17") };
        for (written, real) in [
            ("prompt-17", prompt),
            ("permission-17", name("permission-17")),
            ("4711", name("4711")),
            ("20004", name("20004")),
            ("session-2", name("session-2")),
        ] {
            if let Some(real) = real {
                line = line.replace(written, &real);
            }
        }
        line
    }

    /// Where the example's programs are.
    fn home(&self) -> &Path {
        self.daemon.dir.path()
    }

    /// A shell that runs this, in the environment of the commands of the world.
    fn shell(&self, line: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", line]);
        self.around(&mut command);
        command
    }

    fn around(&self, command: &mut Command) {
        let (home, plain) = (self.home(), self.daemon.command(&[]));
        for (name, value) in plain.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
            .env_remove("NO_COLOR")
            .env("XDG_STATE_HOME", home.join("xdg"))
            .env("XDG_RUNTIME_DIR", home.join("run"))
            .env("HOME", home)
            .env("PATH", self.path())
            .current_dir(home);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    }

    fn path(&self) -> String {
        format!("{}:/usr/bin:/bin", self.home().join("bin").display())
    }
}

fn program(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// Every flow in a world of its own, two at a time. All that fail are named.
fn each(run: impl Fn(&World, &str, End, &str) + Sync) {
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some((example, before, end, shows)) =
                    FLOWS.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    let one = || {
                        let world = World::new(*before);
                        run(&world, &world.line(example), *end, shows);
                    };
                    if std::panic::catch_unwind(std::panic::AssertUnwindSafe(one)).is_err() {
                        failed.lock().unwrap().push(*example);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{failed:#?}");
}

/// Runs a line to its end without a terminal, as far as it has one.
fn without_terminal(mut command: Command, line: &str, end: End) -> Said {
    let Interrupt(words) = end else { return finish(command.spawn().unwrap()) };
    // Its own process is the command, not a shell.
    command.args(["-c", &format!("exec {line} > said 2>&1")]);
    let directory: PathBuf = command.get_current_dir().unwrap().into();
    let mut child = command.spawn().unwrap();
    let said = || std::fs::read_to_string(directory.join("said")).unwrap_or_default();
    until(line, || (said().contains(words) && is_kennel(child.id())).then_some(()));
    harness::real::signal(child.id(), Signal::SIGINT);
    let status = until(line, || child.try_wait().unwrap());
    // As a shell would say it.
    let code = status.code().or(status.signal().map(|signal| 128 + signal));
    Said { code, stdout: said(), stderr: String::new() }
}

/// Whether a process is kennel by now, and no longer the shell that becomes it.
fn is_kennel(pid: u32) -> bool {
    std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.ends_with("kennel"))
}

/// What holds for every line that anybody types anywhere.
fn sound(line: &str, said: &Said) {
    for text in [&said.stdout, &said.stderr] {
        assert!(!text.contains("panicked") && !text.contains("RUST_BACKTRACE"), "{line}: {said:#?}");
    }
}

fn plain(line: &str, said: &Said, end: End, shows: &str) {
    sound(line, said);
    let both = format!("{}{}", said.stdout, said.stderr);
    match end {
        Code(code) => assert_eq!(said.code, Some(code), "{line}: {said:#?}"),
        Input(_) => assert_eq!(said.code, Some(0), "{line}: {said:#?}"),
        Interrupt(_) => assert!([Some(0), Some(130)].contains(&said.code), "{line}: {said:#?}"),
    }
    assert!(both.contains(shows), "{line} does not show {shows:?}: {said:#?}");
    assert!(!both.contains('\u{1b}'), "{line}: escape codes for a pipe: {said:#?}");
}

#[test]
fn every_flow_works_without_a_terminal_and_has_no_escape_codes_there() {
    each(|world, line, end, shows| {
        let command = match end {
            Interrupt(_) => {
                let mut command = Command::new("/bin/sh");
                world.around(&mut command);
                command
            }
            Code(_) | Input(_) => world.shell(line),
        };
        plain(line, &without_terminal(command, line, end), end, shows);
    });
}

#[test]
fn every_flow_works_in_the_environment_of_cron() {
    each(|world, line, end, shows| {
        let own = |command: &mut Command| {
            command.env_clear().env("HOME", world.home()).env("PATH", "/usr/bin:/bin");
            command.env("SHELL", "/bin/sh").env("LOGNAME", "somebody");
        };
        // cron's PATH has no kennel: a crontab names it. Nor has it the variables that say where this world is.
        let state = world.home().join("state");
        let config = world.home().join("kennel/config.toml");
        let set = format!(
            "PATH={}; KENNEL_STATE_DIR={}; KENNEL_CONFIG={}; export PATH KENNEL_STATE_DIR KENNEL_CONFIG; ",
            world.path(),
            state.display(),
            config.display()
        );
        // There is no runtime directory, so the socket is asked of the state directory.
        let line = line.replace("\"$XDG_RUNTIME_DIR/kennel/kennel.sock\"", "\"$(cat state/address)\"");
        let command = match end {
            Interrupt(_) => {
                let mut command = Command::new("/bin/sh");
                world.around(&mut command);
                own(&mut command);
                command
                    .env("PATH", world.path())
                    .env("KENNEL_STATE_DIR", &state)
                    .env("KENNEL_CONFIG", &config);
                command
            }
            Code(_) | Input(_) => {
                let mut command = world.shell(&format!("{set}{line}"));
                own(&mut command);
                command
            }
        };
        plain(&line, &without_terminal(command, &line, end), end, shows);
    });
}

fn size(number: u16) -> std::num::NonZero<u16> {
    std::num::NonZero::new(number).unwrap()
}

/// A line that is typed at a terminal of 40 columns, and its screen.
fn in_terminal(world: &World, line: &str, end: End) -> (Option<i32>, vt100::Parser, String) {
    use std::io::{Read, Write};
    let mut command = Command::new("script");
    let typed = format!("stty cols {COLUMNS} rows 200; {line}");
    command.args(["-qec", &typed, "/dev/null"]);
    world.around(&mut command);
    let mut child = command.env("TERM", "xterm").stdin(Stdio::piped()).spawn().unwrap();
    let (mut keys, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let (sender, pieces) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = stdout.read(&mut buffer) {
            let _ = sender.send(buffer[..read].to_vec());
        }
    });
    let mut screen = vt100::Parser::new(size(200), size(COLUMNS), 0);
    let mut said = Vec::new();
    let (words, key) = match end {
        Code(_) => ("", None),
        Input(words) => (words, Some(b"\x04")),
        Interrupt(words) => (words, Some(b"\x03")),
    };
    let bound = std::time::Instant::now() + BOUND;
    let mut pressed = 0;
    let status = loop {
        if let Ok(piece) = pieces.recv_timeout(std::time::Duration::from_millis(50)) {
            screen.process(&piece);
            said.extend(piece);
            continue;
        }
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        let shown = String::from_utf8_lossy(&said).contains(words);
        // Asked again: what is typed before the program has taken the terminal may mean nothing to it.
        if let Some(key) = key.filter(|_| shown && (pressed == 0 || words.is_empty())) {
            let _ = keys.write_all(key);
            pressed += 1;
        }
        if std::time::Instant::now() > bound {
            let _ = child.kill();
            let _ = child.wait();
            panic!("{line} does not end: {}", String::from_utf8_lossy(&said));
        }
    };
    while let Ok(piece) = pieces.recv_timeout(BOUND) {
        screen.process(&piece);
        said.extend(piece);
    }
    (status.code(), screen, String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn every_flow_works_in_a_terminal_of_forty_columns_and_no_list_is_wider() {
    each(|world, line, end, shows| {
        let (code, parser, said) = in_terminal(world, line, end);
        let screen = parser.screen();
        let text = screen.contents();
        assert!(!text.contains("panicked"), "{line}: {text}");
        match end {
            Code(expected) => assert_eq!(code, Some(expected), "{line}: {text}"),
            Input(_) => assert_eq!(code, Some(0), "{line}: {text}"),
            Interrupt(_) => assert!([Some(0), Some(130)].contains(&code), "{line}: {code:?} {text}"),
        }
        assert!(said.contains(shows) || text.contains(shows), "{line} does not show {shows:?}: {text}");
        let piped = line.contains('|') || line.contains("--json");
        if !piped && LISTS.iter().any(|list| line.starts_with(list)) {
            let wrapped: Vec<u16> = (0..200).filter(|row| screen.row_wrapped(*row)).collect();
            assert!(wrapped.is_empty(), "{line}: wider than {COLUMNS} in rows {wrapped:?}:\n{text}");
        }
    });
}

#[test]
fn no_flow_of_another_user_reaches_or_harms_somebodys_daemon() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let world = World::new(Running);
    let home = world.home();
    // All that the other one could be let see by accident.
    std::fs::set_permissions(home, std::fs::Permissions::from_mode(0o755)).unwrap();
    let own = tempfile::tempdir().unwrap();
    publish(&[kennel(), worker()], &own.path().join("bin"));
    std::fs::write(own.path().join("prompt.txt"), "echo from a file").unwrap();
    std::fs::create_dir_all(own.path().join(".config/systemd/user")).unwrap();
    for place in ["", ".config", ".config/systemd", ".config/systemd/user"] {
        chown(own.path().join(place), Some(OTHER), Some(OTHER)).unwrap();
    }
    let before: Vec<SessionInfo> = world.daemon.json(&["ls", "--all"]);
    let pid = world.daemon.pid();
    let last = world.daemon.events().len();
    for (example, ..) in FLOWS {
        // They touch no daemon, or are about programs of others.
        if ["kennel demo", "npm ", "kennel daemon unit", "kennel id --dir"]
            .iter()
            .any(|free| example.starts_with(free))
        {
            continue;
        }
        let line = world.line(example);
        let mut command = Command::new("setpriv");
        let uid = OTHER.to_string();
        command.args(["--reuid", &uid, "--regid", &uid, "--clear-groups", "/bin/sh", "-c", &line]);
        command.current_dir(own.path()).env_clear().env("HOME", own.path());
        command.env("PATH", format!("{}:/usr/bin:/bin", own.path().join("bin").display()));
        command.env("KENNEL_STATE_DIR", home.join("state")).env("XDG_RUNTIME_DIR", home);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let said = finish(command.spawn().unwrap());
        sound(&line, &said);
        let refused = said.code != Some(0) || line.contains('|');
        // Of these one only looks, and the other has been asked for nothing.
        let harmless = ["kennel doctor", "kennel acp"].iter().any(|free| line.starts_with(free));
        assert!(refused || harmless, "{line}: {said:#?}");
        if !harmless && !line.contains('|') {
            assert!(!said.stderr.is_empty() || !said.stdout.is_empty(), "{line}: nothing is said");
        }
    }
    assert_eq!(world.daemon.pid(), pid);
    let after: Vec<SessionInfo> = world.daemon.json(&["ls", "--all"]);
    let same = |list: &[SessionInfo]| {
        list.iter().map(|it| (it.id.clone(), it.pid, it.status, it.queue_length)).collect::<Vec<_>>()
    };
    assert_eq!(same(&after), same(&before));
    assert_eq!(world.daemon.events().len(), last);
}
