//! Completion in a real bash, on a terminal, with a daemon whose sessions and agents have hostile words; and the manual pages.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use harness::daemon::{CommandOutput, Daemon, finish};
use harness::real::*;
use manager::protocol::api::Status;
use nix::sys::signal::Signal;

/// An agent with modes, and with options of a permission, that no shell should see.
const AGENT: &str = r#"
said() { printf '{"jsonrpc":"2.0",%s}\n' "$1"; }
while read -r line; do
    id=${line#*\"id\":}; id=${id%%[,\}]*}
    case $line in
    *'"initialize"'*) said "\"id\":$id,\"result\":{\"protocolVersion\":1}";;
    *'"session/new"'*)
        modes='[{"id":"plan","name":"Plan"},{"id":"$(touch pwned)","name":"n"},{"id":"pl;touch pwned","name":"n"},{"id":"`touch pwned`","name":"n"},{"id":"pl\u001b[2J\u0007","name":"n"},{"id":"p *","name":"n"}]'
        said "\"id\":$id,\"result\":{\"sessionId\":\"s\",\"modes\":{\"currentModeId\":\"plan\",\"availableModes\":$modes}}";;
    *'"session/prompt"'*)
        options='[{"optionId":"-rf","name":"r","kind":"allow_once"},{"optionId":"$(touch pwned)","name":"a","kind":"allow_once"},{"optionId":"fine","name":"$(touch pwned)\u001b[2J","kind":"reject_once"}]'
        call='{"toolCallId":"c","title":"may I $(touch pwned)\u001b[2J"}'
        said "\"id\":\"p\",\"method\":\"session/request_permission\",\"params\":{\"sessionId\":\"s\",\"toolCall\":$call,\"options\":$options}";;
    esac
done
"#;

/// A bash at a terminal, in which `kennel` prints its words instead of running.
struct Bash {
    child: Child,
    keys: ChildStdin,
    pieces: Receiver<Vec<u8>>,
    shown: String,
}

impl Bash {
    fn new(daemon: &Daemon) -> Self {
        let mut command = Command::new("script");
        command.args(["-qec", "exec bash --norc --noprofile -i", "/dev/null"]).current_dir(daemon.dir.path());
        around(daemon, &mut command);
        command.env("TERM", "dumb").env("PS1", "> ").env("HOME", daemon.dir.path());
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let (keys, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (sender, pieces) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = stdout.read(&mut buffer) {
                let _ = sender.send(buffer[..read].to_vec());
            }
        });
        let mut bash = Self { child, keys, pieces, shown: String::new() };
        bash.types(
            "source <(kennel completion bash); kennel() { printf '<%s>' \"$@\" '|'; }; echo rea''dy\n",
            "ready\r\n",
        );
        bash
    }

    /// Types this, and waits for these words. Returns what has come since.
    fn types(&mut self, keys: &str, words: &str) -> String {
        self.shown.clear();
        self.keys.write_all(keys.as_bytes()).unwrap();
        let end = Instant::now() + BOUND;
        while !self.shown.contains(words) {
            let left = end.saturating_duration_since(Instant::now());
            let piece = self.pieces.recv_timeout(left);
            let piece =
                piece.unwrap_or_else(|_| panic!("{keys:?} does not show {words:?}: {:?}", self.shown));
            self.shown.push_str(&String::from_utf8_lossy(&piece));
        }
        std::mem::take(&mut self.shown)
    }

    /// A line with tabs becomes these words.
    fn becomes(&mut self, line: &str, words: &[&str]) {
        let expected: String = words.iter().map(|word| format!("<{word}>")).collect();
        let shown = self.types(&format!("{line}\n"), "<|>");
        assert!(shown.contains(&format!("{expected}<|>")), "{line:?} does not become {words:?}: {shown:?}");
    }
}

impl Drop for Bash {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The environment of the daemon's commands, with `kennel` in its PATH.
fn around(daemon: &Daemon, command: &mut Command) {
    for (name, value) in daemon.command(&[]).get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let place = Path::new(&kennel()).parent().unwrap().display().to_string();
    command.env("PATH", format!("{place}:/usr/bin:/bin"));
}

/// The answer that a script gets for these words.
fn asked(daemon: &Daemon, words: &[&str]) -> CommandOutput {
    let words: Vec<&str> = ["__complete", "zsh", "kennel"].iter().chain(words).copied().collect();
    let output = daemon.run(&words);
    assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "{words:?}");
    output
}

/// The values among them.
fn values(daemon: &Daemon, words: &[&str]) -> Vec<String> {
    let output = asked(daemon, words).stdout;
    let lines = output.lines().skip(1);
    lines.map(|line| line.split('\t').next().unwrap().to_owned()).collect()
}

#[test]
fn a_real_bash_completes_what_the_daemon_knows_and_runs_nothing_of_it() {
    let script = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(script.path(), AGENT).unwrap();
    let path = script.path().display();
    let daemon =
        Daemon::configured(&format!("[agents.evil]\nkind = \"acp\"\ncommand = [\"/bin/sh\", \"{path}\"]\n"));
    daemon.ok(&["start", "--name", "web", "--title", "$(touch pwned) `touch pwned` *;"]);
    daemon.ok(&["start", "--name", "a.b_c-1", "--label", "team=front"]);
    daemon.ok(&["start", "--name", "evil", "--agent", "evil"]);
    daemon.idle("evil");
    daemon.ok(&["key", "create", "laptop"]);
    let mut bash = Bash::new(&daemon);
    bash.becomes("kennel sho\tw\t", &["show", "web"]);
    bash.becomes("kennel stop web a\t", &["stop", "web", "a.b_c-1"]);
    bash.becomes("kennel show session-2\t", &["show", "session-2"]);
    bash.becomes("kennel --state-dir \"state\" sh\ta\t", &["--state-dir", "state", "show", "a.b_c-1"]);
    bash.becomes("kennel set evil mo\t", &["set", "evil", "mode="]);
    bash.becomes("kennel set evil mode=\t", &["set", "evil", "mode=plan"]);
    bash.becomes("kennel start --agent=ev\t", &["start", "--agent=evil"]);
    bash.becomes("kennel ls --label te\t", &["ls", "--label", "team=front"]);
    bash.becomes("kennel ls --status idle,runn\t", &["ls", "--status", "idle,running"]);
    bash.becomes("kennel wait web --unt\treq\t", &["wait", "web", "--until", "requires_action"]);
    // A path is completed by bash, which quotes it.
    std::fs::create_dir(daemon.dir.path().join("dir $(touch pwned)")).unwrap();
    std::fs::write(daemon.dir.path().join("file;x"), "").unwrap();
    bash.becomes("kennel start --dir di\t", &["start", "--dir", "dir $(touch pwned)/"]);
    bash.becomes("kennel send --file fi\t", &["send", "--file", "file;x"]);
    let listed = bash.types("kennel show \t\t", "a.b_c-1");
    assert!(!listed.contains("pwned"), "{listed:?}");
    bash.becomes("\u{15}kennel key rotate k\t", &["key", "rotate", "key-1"]);
    drop(bash);

    daemon.ok(&["send", "--no-wait", "evil", "ask"]);
    until("a question", || (daemon.show("evil").status == Status::RequiresAction).then_some(()));
    assert_eq!(values(&daemon, &["answer", "evil", ""]), ["fine"]);
    let permissions = asked(&daemon, &["answer", ""]).stdout;
    assert!(permissions.contains("permission-") && permissions.contains("\nevil\t"), "{permissions}");
    assert_eq!(values(&daemon, &["abort", "evil", ""]).len(), 1);
    for words in [&["show", ""][..], &["answer", ""], &["answer", "evil", ""], &["set", "evil", "mode="]] {
        let said = asked(&daemon, words).stdout;
        let is_harmless =
            |c: char| c == '\n' || c == '\t' || !(c.is_control() || "$`'\"\\;|&<>()*?[]{}!#~".contains(c));
        assert!(said.chars().all(is_harmless), "{words:?}: {said:?}");
    }
    assert!(!daemon.dir.path().join("pwned").exists());
}

#[test]
fn completion_starts_no_daemon_and_waits_for_none() {
    let daemon = Daemon::new();
    assert_eq!(asked(&daemon, &["show", ""]).stdout, "");
    assert_eq!(values(&daemon, &["daemon", "chec"]), ["check"]);
    assert_eq!(daemon.run(&["daemon", "status"]).code, Some(6));
    daemon.ok(&["start", "--name", "web"]);
    assert_eq!(values(&daemon, &["show", "w"]), ["web"]);
    // A daemon that says nothing.
    let pid = daemon.pid();
    signal(pid, Signal::SIGSTOP);
    let begin = Instant::now();
    let said = asked(&daemon, &["show", ""]).stdout;
    let took = begin.elapsed();
    signal(pid, Signal::SIGCONT);
    assert_eq!(said, "");
    assert!(took < Duration::from_secs(5), "{took:?}");
    // Of another machine nothing is asked, and nothing of this one is said.
    assert_eq!(asked(&daemon, &["-H", "ssh://nowhere.invalid", "show", ""]).stdout, "");
}

#[test]
fn man_pages_are_written_for_every_command() {
    let daemon = Daemon::new();
    let top = daemon.ok(&["man"]);
    assert!(top.contains(".TH kennel 1") && top.contains("kennel\\-start"), "{top}");
    daemon.ok(&["man", "share/man1"]);
    let place = daemon.dir.path().join("share/man1");
    for page in ["kennel.1", "kennel-start.1", "kennel-daemon-status.1"] {
        assert!(std::fs::read_to_string(place.join(page)).unwrap().contains(".SH SYNOPSIS"), "{page}");
    }
    assert!(!place.join("kennel-connect-stdio.1").exists());
    // Who types `man send` means the page, and no directory.
    for command in ["send", "kennel"] {
        let page = daemon.ok(&["man", command]);
        assert!(page.contains(".TH kennel") && page.contains(".SH SYNOPSIS"), "{page}");
        assert!(!daemon.dir.path().join(command).join("kennel.1").exists(), "{command}");
    }
    assert!(daemon.ok(&["man", "send"]).contains("kennel\\-send"));
    std::fs::write(daemon.dir.path().join("file"), "").unwrap();
    let refused = daemon.run(&["man", "file"]);
    assert!(refused.code == Some(1) && refused.stderr.contains("hint: "), "{refused:?}");
    let unknown = finish(daemon.spawn(&["completion", "tcsh"]));
    assert!(unknown.code == Some(2) && unknown.stderr.contains("bash, zsh, fish"), "{unknown:?}");
}
