//! What an agent says can drive no terminal, whichever command shows it: each runs in a terminal of its own.

use std::io::Read;
use std::process::{Command, Stdio};

use harness::daemon::{Daemon, finish};
use harness::real::*;
use protocol::api::Status;

/// Sets the clipboard, turns the direction of writing, clears the screen by a C1 control, hides, changes the title.
const EVIL: &str = "\u{1b}]52;c;aGk=\u{7}\u{202e}\u{9b}2J\u{1b}[8m\u{1b}]0;t\u{1b}\\\u{ad}\u{e0041}";
/// What is shown in its place.
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
fn in_terminal(daemon: &Daemon, args: &[&str]) -> String {
    finish(terminal(daemon, args).stdin(Stdio::null()).spawn().unwrap()).stdout
}

/// The same with somebody who types nothing, and goes once these words have arrived.
fn in_terminal_until(daemon: &Daemon, args: &[&str], words: &str) -> String {
    let mut child = terminal(daemon, args).stdin(Stdio::piped()).spawn().unwrap();
    let (stdin, mut stdout) = (child.stdin.take(), child.stdout.take().unwrap());
    let (sender, pieces) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = stdout.read(&mut buffer) {
            let _ = sender.send(buffer[..read].to_vec());
        }
    });
    let (mut said, mut stdin) = (Vec::new(), stdin);
    while let Ok(piece) = pieces.recv_timeout(BOUND) {
        said.extend(piece);
        if String::from_utf8_lossy(&said).contains(words) {
            stdin = None;
        }
    }
    drop(stdin);
    let _ = child.kill();
    child.wait().unwrap();
    String::from_utf8(said).unwrap()
}

fn terminal(daemon: &Daemon, args: &[&str]) -> Command {
    let plain = daemon.command(args);
    let quoted = |word: &std::ffi::OsStr| format!("'{}'", word.to_str().unwrap().replace('\'', r"'\''"));
    let words: Vec<String> = [plain.get_program()].into_iter().chain(plain.get_args()).map(quoted).collect();
    let mut command = Command::new("script");
    command.args(["-qec", &words.join(" "), "/dev/null"]).current_dir(daemon.dir.path());
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
fn without_our_own(text: &str) -> String {
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
        let said = match args[0] {
            "attach" => in_terminal_until(&daemon, args, expected),
            _ => in_terminal(&daemon, args),
        };
        let left = without_our_own(&said);
        for bad in ['\u{1b}', '\u{7}', '\u{9b}', '\u{202e}', '\u{ad}', '\u{e0041}'] {
            assert!(!left.contains(bad), "{args:?} lets {bad:?} through: {said:?}");
        }
        assert!(said.contains(expected), "{args:?} does not show {expected:?}: {said:?}");
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
    // Its worker has blanks in the place of controls already; the rest comes as it was said.
    look(&["agents", "ls", "evil", "--probe"], "v ]52;c;aGk= \\u{202e}");
    look(&["--json", "agents", "ls", "evil", "--probe"], "v ]52;c;aGk= \\u202e");
    look(&["logs", "one"], &evil("warned "));
    look(&["attach", "one"], &evil("may I "));
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
    assert_eq!(seen, 33);
}

#[test]
fn a_program_that_reads_gets_an_agents_words_as_they_are() {
    let daemon = Daemon::new();
    daemon.ok(&["start", "--id", "one"]);
    let said = daemon.ok(&["send", "one", "printf '\\033]52;c;aGk=\\007'"]);
    assert_eq!(said, "\u{1b}]52;c;aGk=\u{7}");
    // A table is for people, wherever it goes.
    daemon.ok(&["start", "--id", "two", "--title", "txt\u{202e}exe.\u{ad}"]);
    let list = daemon.ok(&["ls"]);
    assert!(
        list.contains("txt\\u{202e}exe.\\u{ad}") && !list.contains(['\u{1b}', '\u{202e}', '\u{ad}']),
        "{list}"
    );
}
