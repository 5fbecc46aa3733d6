//! An agent's text can control no terminal, in any command: each command runs in a terminal of its own.

use std::io::Read;
use std::process::{Command, Stdio};

use harness::daemon::{Daemon, finish};
use harness::real::*;
use protocol::api::Status;

/// Sets the clipboard, turns the direction of writing, clears the screen by a C1 control, hides, changes the title.
const EVIL: &str = "\u{1b}]52;c;aGk=\u{7}\u{202e}\u{9b}2J\u{1b}[8m\u{1b}]0;t\u{1b}\\\u{ad}\u{e0041}";
/// The escaped form on the screen.
const SHOWN: &str = "\\u{1b}]52;c;aGk=\\u{7}\\u{202e}\\u{9b}2J";

/// An agent each of whose strings is that.
const AGENT: &str = r#"
E='\u001b]52;c;aGk=\u0007\u202e\u009b2J\u001b[8m\u001b]0;t\u001b\\\u00ad\udb40\udc41'
printf 'warned \033]52;c;aGk=\007\342\200\256\302\2332J\n' >&2
said() { printf '{"jsonrpc":"2.0",%s}\n' "$1"; }
update() { said "\"method\":\"session/update\",\"params\":{\"sessionId\":\"s\",\"update\":{$1}}"; }
while read -r line; do
    id=${line#*\"id\":}; id=${id%%[,\}]*}
    case $line in
    *'"initialize"'*)
        said "\"id\":$id,\"result\":{\"protocolVersion\":1,\"agentInfo\":{\"name\":\"n$E\",\"version\":\"v$E\"}}";;
    *'"session/new"'*)
        modes="{\"currentModeId\":\"m$E\",\"availableModes\":[{\"id\":\"m$E\",\"name\":\"Mode$E\"}]}"
        said "\"id\":$id,\"result\":{\"sessionId\":\"s\",\"modes\":$modes}";;
    *'"session/set_mode"'*) said "\"id\":$id,\"error\":{\"code\":-32603,\"message\":\"refused $E\"}";;
    *'"session/prompt"'*)
        turn=$id
        update "\"sessionUpdate\":\"agent_message_chunk\",\"content\":{\"type\":\"text\",\"text\":\"chunk $E\"}"
        update "\"sessionUpdate\":\"tool_call\",\"toolCallId\":\"c$E\",\"title\":\"tool $E\",\"status\":\"in_progress\""
        options="[{\"optionId\":\"o$E\",\"name\":\"Option $E\",\"kind\":\"allow_once\"}]"
        call="{\"toolCallId\":\"c$E\",\"title\":\"may I $E\"}"
        said "\"id\":\"p\",\"method\":\"session/request_permission\",\"params\":{\"sessionId\":\"s\",\"toolCall\":$call,\"options\":$options}";;
    *'"id":"p"'*) said "\"id\":$turn,\"error\":{\"code\":-32603,\"message\":\"failed $E\"}";;
    esac
done
"#;

/// A command in a terminal, and all that arrives there.
pub fn in_terminal(daemon: &Daemon, args: &[&str]) -> String {
    finish(terminal(daemon, args).stdin(Stdio::null()).spawn().unwrap()).stdout
}

/// The same with somebody who types nothing, and goes once these words have arrived.
pub fn in_terminal_until(daemon: &Daemon, args: &[&str], words: &str) -> String {
    let mut child = terminal(daemon, args).stdin(Stdio::piped()).spawn().unwrap();
    let (stdin, mut stdout) = (child.stdin.take(), child.stdout.take().unwrap());
    let (sender, pieces) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = stdout.read(&mut buffer) {
            let _ = sender.send(buffer[..read].to_vec());
        }
    });
    let (mut output, mut stdin) = (Vec::new(), stdin);
    while let Ok(piece) = pieces.recv_timeout(BOUND) {
        output.extend(piece);
        if String::from_utf8_lossy(&output).contains(words) {
            stdin = None;
        }
    }
    drop(stdin);
    let _ = child.kill();
    child.wait().unwrap();
    String::from_utf8(output).unwrap()
}

fn terminal(daemon: &Daemon, args: &[&str]) -> Command {
    let plain = daemon.command(args);
    let quoted = |word: &std::ffi::OsStr| format!("'{}'", word.to_str().unwrap().replace('\'', r"'\''"));
    let words: Vec<String> = [plain.get_program()].into_iter().chain(plain.get_args()).map(quoted).collect();
    let mut command = Command::new("script");
    // `exec`: a shell in between would die of the Ctrl-C that its child survives.
    let line = format!("exec {}", words.join(" "));
    command.args(["-qec", &line, "/dev/null"]).current_dir(daemon.dir.path());
    for (name, value) in plain.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.env("TERM", "xterm").stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The text without the sequences that kennel makes: colours, and the beginning of a line that is written anew.
pub fn without_our_own(text: &str) -> String {
    let mut rest = text.replace("\r\u{1b}[K", "");
    while let Some(at) = rest.find("\u{1b}[") {
        let sequence = &rest[at + 2..];
        let length = sequence.find(|c: char| !(c.is_ascii_digit() || c == ';')).unwrap_or(sequence.len());
        if !sequence[length..].starts_with('m') || sequence[..length].split(';').any(|number| number == "8") {
            break;
        }
        rest.replace_range(at..at + 2 + length + 1, "");
    }
    rest
}

#[test]
fn no_command_lets_an_agent_drive_the_terminal() {
    let daemon = Daemon::new();
    let directory = daemon.dir.path().join("kennel");
    std::fs::create_dir_all(&directory).unwrap();
    let script = daemon.dir.path().join("agent.sh");
    std::fs::write(&script, AGENT).unwrap();
    let profile =
        format!("[agents.evil]\nkind = \"acp\"\ncommand = [\"/bin/sh\", \"{}\"]\n", script.display());
    std::fs::write(directory.join("config.toml"), profile).unwrap();
    daemon.ok(&["start", "--agent", "evil", "--id", "one"]);
    daemon.idle("one");
    daemon.ok(&["send", "--no-wait", "one", &format!("prompt {EVIL}")]);
    until("a question", || (daemon.show("one").status == Status::RequiresAction).then_some(()));
    daemon.ok(&["send", "--no-wait", "one", &format!("second {EVIL}")]);
    let mut seen = 0;
    let mut look = |args: &[&str], expected: &str| {
        let output = match args[0] == "attach" || args.contains(&"-f") {
            true => in_terminal_until(&daemon, args, expected),
            false => in_terminal(&daemon, args),
        };
        let left = without_our_own(&output);
        for bad in ['\u{1b}', '\u{7}', '\u{9b}', '\u{202e}', '\u{ad}', '\u{e0041}'] {
            assert!(!left.contains(bad), "{args:?} lets {bad:?} through: {output:?}");
        }
        assert!(output.contains(expected), "{args:?} does not show {expected:?}: {output:?}");
        seen += 1;
    };
    let evil = |before: &str| format!("{before}{SHOWN}");
    look(&["ls"], "prompt \\u{1b}]52");
    look(&["ls", "--tree", "--color", "always"], "prompt \\u{1b}]52");
    look(&["--json", "ls"], "\\u001b]52");
    look(&["show", "one"], &evil("prompt "));
    look(&["--json", "show", "one"], "\\u001b]52");
    look(&["--json", "events", "--after", "0"], "\\u001b]52");
    look(&["events", "--after", "0"], &evil("may I "));
    look(&["queue", "ls", "one"], &evil("second "));
    look(&["--json", "queue", "ls", "one"], "\\u001b]52");
    look(&["permissions", "ls"], &evil("may I "));
    look(&["--json", "permissions", "ls"], "\\u001b]52");
    look(&["set", "one"], &evil("m"));
    look(&["--json", "set", "one"], "\\u001b]52");
    // Its worker has already replaced controls by blanks; the rest stays as it was sent.
    look(&["agents", "ls", "evil", "--probe"], "v ]52;c;aGk= \\u{202e}");
    look(&["--json", "agents", "ls", "evil", "--probe"], "v ]52;c;aGk= \\u202e");
    look(&["logs", "one"], &evil("warned "));
    look(&["logs", "one", "-f"], &evil("warned "));
    look(&["attach", "--plain", "one"], &evil("may I "));
    daemon.ok(&["start", "--id", "shell"]);
    look(
        &["send", "shell", "printf 'out \\033]52;c;aGk=\\007'; printf 'err \\033]52;\\033[8m' >&2"],
        "out \\u{1b}]52",
    );
    look(&["subagent", "result", "shell"], "out \\u{1b}]52");
    look(&["df"], "one");
    look(&["doctor"], "journal");
    look(&["daemon", "status"], "running");
    look(&["prune", "--older-than", "1d", "--dry-run"], "nothing");
    look(&["show", &format!("absent{EVIL}")], "\\u{1b}");
    look(&["nonsense", EVIL], "error");
    look(&["start", "--agent", &format!("absent{EVIL}")], "\\u{1b}");
    look(&["set", "one", &format!("mode=m{EVIL}")], "");
    look(&["set", "one", &format!("absent{EVIL}=1")], "error");
    // The turn ends with an error of the agent's words.
    let permission =
        daemon.json::<Vec<serde_json::Value>>(&["permissions", "ls"])[0]["permission_id"].clone();
    look(&["permissions", "allow", permission.as_str().unwrap(), "--option", EVIL], "error");
    daemon.ok(&["permissions", "allow", permission.as_str().unwrap()]);
    until("a question", || (daemon.show("one").status == Status::RequiresAction).then_some(()));
    look(&["events", "--after", "0"], "failed ]52;c;aGk= \\u{202e}");
    look(&["stop", "one"], "one");
    look(&["queue", "ls", "one"], "");
    look(&["daemon", "stop"], "");
    assert_eq!(seen, 34);
}

#[test]
fn a_program_that_reads_gets_an_agents_words_as_they_are() {
    let daemon = Daemon::new();
    daemon.ok(&["start", "--id", "one"]);
    let output = daemon.ok(&["send", "one", "printf '\\033]52;c;aGk=\\007'"]);
    assert_eq!(output, "\u{1b}]52;c;aGk=\u{7}");
    // A table is for people, wherever it goes.
    daemon.ok(&["start", "--id", "two", "--title", "txt\u{202e}exe.\u{ad}"]);
    let list = daemon.ok(&["ls"]);
    assert!(
        list.contains("txt\\u{202e}exe.\\u{ad}") && !list.contains(['\u{1b}', '\u{202e}', '\u{ad}']),
        "{list}"
    );
}

/// A command in a terminal of its own, whose keys are typed here.
struct Tty {
    child: std::process::Child,
    output: std::sync::Arc<std::sync::Mutex<Vec<u8>>>,
    /// The length of the output that was searched already.
    seen: usize,
}

impl Tty {
    fn new(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        let (output, mut stdout) = (std::sync::Arc::default(), child.stdout.take().unwrap());
        let keeps: std::sync::Arc<std::sync::Mutex<Vec<u8>>> = std::sync::Arc::clone(&output);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = stdout.read(&mut buffer) {
                keeps.lock().unwrap().extend_from_slice(&buffer[..read]);
            }
        });
        Self { child, output, seen: 0 }
    }

    fn types(&mut self, keys: &[u8]) {
        std::io::Write::write_all(self.child.stdin.as_mut().unwrap(), keys).unwrap();
    }

    /// Waits until this is shown, after all that was seen before.
    fn sees(&mut self, words: &str) {
        let end = std::time::Instant::now() + BOUND;
        loop {
            let output = String::from_utf8_lossy(&self.output.lock().unwrap()[self.seen..]).into_owned();
            if let Some(at) = output.find(words) {
                self.seen += output[..at + words.len()].len();
                return;
            }
            assert!(std::time::Instant::now() < end, "not shown: {words}\n{}", self.all());
            std::thread::park_timeout(std::time::Duration::from_millis(2));
        }
    }

    fn all(&self) -> String {
        String::from_utf8_lossy(&self.output.lock().unwrap()).into_owned()
    }

    fn ends(mut self) -> (Option<i32>, String) {
        let status = until("the command ends", || self.child.try_wait().unwrap());
        (status.code(), self.all())
    }
}

impl Drop for Tty {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The texts of all prompts.
fn prompts(daemon: &Daemon) -> Vec<String> {
    let texts = daemon.events().into_iter().filter_map(|event| match event.kind {
        protocol::event::EventKind::PromptAccepted { text, .. } => Some(text),
        _ => None,
    });
    texts.collect()
}

#[test]
fn each_ctrl_c_in_attach_ends_the_turn_that_is_shown_and_nothing_else() {
    let daemon = Daemon::new();
    daemon.ok(&["start", "--id", "s"]);
    let mut tty = Tty::new(terminal(&daemon, &["attach", "--plain", "s"]));
    // Signals take effect only after its first output.
    tty.types(b"echo be''gun\n");
    tty.sees("begun\r\n");
    let client = until("it drives", || daemon.show("s").clients.first().map(|client| client.client_id));
    for round in 0..3 {
        let line = format!("echo round''{round}; exec sleep 1000\n");
        tty.types(line.as_bytes());
        tty.sees(&format!("round{round}\r\n"));
        tty.types(b"half a line\x03");
        tty.sees("the turn was aborted");
    }
    // One that comes too late is for no turn.
    tty.types(b"\x03");
    tty.sees("no turn runs");
    tty.types(b"echo st''ill here\n");
    tty.sees("still here\r\n");
    assert_eq!(daemon.show("s").clients[0].client_id, client);
    assert!(!prompts(&daemon).iter().any(|text| text.contains("half a line")), "{:?}", prompts(&daemon));
    tty.types(b"\x04");
    let (code, output) = tty.ends();
    assert_eq!(code, Some(0), "{output}");
}

#[test]
fn attach_opens_no_more_descriptors_however_much_it_shows() {
    let daemon = Daemon::new();
    daemon.ok(&["start", "--id", "s"]);
    let mut tty = Tty::new(terminal(&daemon, &["attach", "--plain", "s"]));
    tty.types(b"echo be''gun\n");
    tty.sees("begun\r\n");
    let place = daemon.dir.path().to_str().unwrap().to_owned();
    let client = until("the client", || {
        mentioning(&place).into_iter().find(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).ends_with("kennel\0attach\0--plain\0s\0")
        })
    });
    let open = || std::fs::read_dir(format!("/proc/{client}/fd")).unwrap().count();
    let before = open();
    tty.types(b"for n in $(seq 300); do echo $n; sleep 0.001; done; echo do''ne\n");
    tty.sees("done\r\n");
    until("no more than before", || (open() <= before + 1).then_some(()));
}

#[test]
fn a_line_typed_in_a_terminal_is_sent_whole_and_edited_before() {
    let daemon = Daemon::new();
    daemon.ok(&["start", "--id", "s"]);
    let mut tty = Tty::new(terminal(&daemon, &["attach", "--plain", "s", "--no-history"]));
    let long = format!(": {}; echo lo''ng", "x".repeat(20_000));
    // The terminal must have been taken over before: a shell's own line is no longer than 4,095 bytes.
    tty.types(b"echo be''gun\n");
    tty.sees("begun\r\n");
    tty.types(long.as_bytes());
    tty.types(b"\n");
    tty.sees("long\r\n");
    tty.types("echo wrogn\u{7f}\u{7f}ng é\u{7f}e''nd\n".as_bytes());
    tty.sees("wrong end\r\n");
    tty.types(b"never sent\x15\x10\x11");
    let (code, output) = tty.ends();
    assert_eq!(code, Some(0), "{output}");
    assert_eq!(prompts(&daemon)[1..], [long, "echo wrong e''nd".to_owned()]);
}

#[test]
fn after_ctrl_z_and_fg_the_keys_that_detach_detach() {
    let daemon = Daemon::new();
    daemon.ok(&["start", "--id", "s"]);
    for shell in ["bash --norc -i", "dash -i"] {
        let mut command = terminal(&daemon, &["attach", "--plain", "s", "--no-history"]);
        // Typed at the shell without `exec`: the shell must be there for Ctrl-Z.
        let line = command.get_args().nth(1).unwrap().to_str().unwrap();
        let attach = line.strip_prefix("exec ").unwrap().to_owned();
        command = {
            let mut with = Command::new("script");
            with.args(["-qec", shell, "/dev/null"]).current_dir(daemon.dir.path());
            for (name, value) in command.get_envs() {
                match value {
                    Some(value) => with.env(name, value),
                    None => with.env_remove(name),
                };
            }
            with.stdout(Stdio::piped()).stderr(Stdio::piped());
            with
        };
        let mut tty = Tty::new(command);
        tty.types(b"echo rea''dy\n");
        tty.sees("ready\r\n");
        tty.types(format!("{attach}\n").as_bytes());
        until("it drives", || (daemon.show("s").clients.len() == 1).then_some(()));
        tty.types(b"echo be''gun\n");
        tty.sees("begun\r\n");
        tty.types(b"\x1a");
        tty.sees("topped");
        // The shell has its own way with the keys meanwhile.
        tty.types(b"stty -a; echo sto''pped\n");
        tty.sees("stopped\r\n");
        assert!(tty.all().contains(" icanon"), "{}", tty.all());
        tty.types(b"fg\n");
        tty.types(b"echo back''again\n");
        tty.sees("backagain\r\n");
        tty.types(b"not for the agent\x10\x11");
        tty.sees("detached");
        tty.types(b"exit\n");
        tty.ends();
        assert!(!prompts(&daemon).iter().any(|text| text.contains("not for")), "{:?}", prompts(&daemon));
    }
}
