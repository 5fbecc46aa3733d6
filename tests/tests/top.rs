//! `kennel top` in a terminal, by what its screen shows.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use harness::daemon::Daemon;
use harness::real::{BOUND, beside, lives, signal, until};
use nix::sys::signal::Signal;
use protocol::api::Status;

/// A command in a terminal of its own, with a model of its screen.
pub struct Screen {
    child: Child,
    keys: ChildStdin,
    parser: Arc<Mutex<vt100::Parser>>,
}

impl Screen {
    /// Runs `kennel` with these words.
    pub fn new(daemon: &Daemon, args: &[&str], columns: u16, rows: u16) -> Self {
        Self::shell(daemon, &format!("exec {}", words(daemon, args)), columns, rows)
    }

    /// The same in a shell's line.
    pub fn shell(daemon: &Daemon, line: &str, columns: u16, rows: u16) -> Self {
        let plain = daemon.command(&["ls"]);
        let mut command = Command::new("script");
        command.args(["-qec", &format!("stty cols {columns} rows {rows}; {line}"), "/dev/null"]);
        for (name, value) in plain.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.current_dir(daemon.dir.path()).env("TERM", "xterm").env("LANG", "C.UTF-8");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (keys, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let size = |number: u16| std::num::NonZero::new(number).unwrap();
        let parser = Arc::new(Mutex::new(vt100::Parser::new(size(rows), size(columns), 0)));
        let shown = parser.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = stdout.read(&mut buffer) {
                shown.lock().unwrap().process(&buffer[..read]);
            }
        });
        Self { child, keys, parser }
    }

    /// The text on the screen.
    pub fn text(&self) -> String {
        self.parser.lock().unwrap().screen().contents()
    }

    /// Presses keys.
    pub fn types(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    /// Waits until the screen shows this.
    pub fn sees(&self, words: &str) -> String {
        self.until(words, |text| text.contains(words))
    }

    /// Waits until the screen does not show this.
    pub fn loses(&self, words: &str) -> String {
        self.until(words, |text| !text.contains(words))
    }

    /// Waits until the text on the screen is so.
    pub fn until(&self, words: &str, is_so: impl Fn(&str) -> bool) -> String {
        let end = Instant::now() + BOUND;
        loop {
            let text = self.text();
            if is_so(&text) {
                return text;
            }
            assert!(Instant::now() < end, "`{words}`: the screen shows\n{text}");
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// Waits for the end. Returns the exit code, and whether the cursor stays hidden.
    pub fn ends(mut self) -> (Option<i32>, bool) {
        let status = until("the end of the command", || self.child.try_wait().unwrap());
        let parser = self.parser.clone();
        until("the screen of before", || (!parser.lock().unwrap().screen().alternate_screen()).then_some(()));
        (status.code(), parser.lock().unwrap().screen().hide_cursor())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The words of a `kennel` command, as a shell takes them.
pub fn words(daemon: &Daemon, args: &[&str]) -> String {
    let plain = daemon.command(args);
    let quoted = |word: &std::ffi::OsStr| format!("'{}'", word.to_str().unwrap().replace('\'', r"'\''"));
    [plain.get_program()].into_iter().chain(plain.get_args()).map(quoted).collect::<Vec<_>>().join(" ")
}

fn daemon() -> Daemon {
    let daemon = Daemon::new();
    let config =
        format!("[agents.asks]\nkind = \"acp\"\ncommand = [\"{}\"]\n", beside("acp-agent").display());
    std::fs::create_dir_all(daemon.dir.path().join("kennel")).unwrap();
    std::fs::write(daemon.dir.path().join("kennel/config.toml"), config).unwrap();
    daemon
}

#[test]
fn a_person_sees_who_waits_answers_and_goes_on_in_one_screen() {
    let daemon = daemon();
    daemon.ok(&["start", "--name", "web", "--label", "team=front"]);
    daemon.ok(&["start", "--name", "api", "--agent", "asks"]);
    for id in ["session-1", "session-2"] {
        daemon.idle(id);
    }
    daemon.ok(&["send", "web", "echo said before"]);
    let mut screen = Screen::new(&daemon, &["top"], 120, 30);
    screen.sees("2 sessions");
    // Once in the prompt, and once as what the agent said.
    until("the last line", || (screen.sees("web").matches("said before").count() >= 2).then_some(()));
    // What happens is shown, in the order of before.
    daemon.ok(&["send", "--no-wait", "api", "ask"]);
    let text = screen.sees("permission: may I");
    assert!(text.contains("1 needs somebody"), "{text}");
    assert!(text.find("web").unwrap() < text.find("api").unwrap(), "{text}");
    // The one that waits, all that it asks, and an answer by its number.
    screen.types("n");
    screen.types("a");
    let text = screen.sees("a number answers");
    assert!(text.contains("  may I") && text.contains("\n  1  "), "{text}");
    screen.types("9");
    screen.types("1");
    screen.loses("needs somebody");
    until("the answer", || (daemon.show("session-2").status == Status::Idle).then_some(()));
    // Another name, and a filter that hides everything says so.
    screen.types("R");
    screen.sees("new name:");
    screen.types("shop\r");
    screen.sees("shop (session-2)");
    screen.types("/nonesuch");
    screen.sees("none of 2 sessions has `nonesuch`");
    screen.types("\u{1b}");
    screen.sees("web");
    // A turn is aborted, and a session stopped or restarted in a turn, after a question.
    daemon.ok(&["send", "--no-wait", "web", "exec sleep 1000"]);
    screen.types("\u{1b}[H");
    screen.sees("web (session-1)");
    screen.sees("running");
    let before = daemon.show("web").pid;
    screen.types("r");
    screen.sees("restart web, and cut its turn off? y/n");
    screen.types("n");
    screen.loses("y/n");
    screen.types("x");
    screen.sees("end the turn of web? y/n");
    assert_eq!((daemon.show("web").status, daemon.show("web").pid), (Status::Running, before));
    screen.types("y");
    until("the end of the turn", || (daemon.show("web").status == Status::Idle).then_some(()));
    screen.types("s");
    screen.sees("stop web, and");
    screen.types("n");
    screen.loses("stop web, and");
    assert_eq!(daemon.show("web").status, Status::Idle);
    screen.types("s");
    screen.sees("stop web, and");
    screen.types("y");
    until("the stop", || (daemon.show("web").status == Status::Stopped).then_some(()));
    screen.sees("kennel: 1 session");
    screen.types("q");
    assert_eq!(screen.ends(), (Some(0), false));
}

#[test]
fn attach_has_the_terminal_and_gives_it_back() {
    let daemon = daemon();
    daemon.ok(&["start", "--name", "web"]);
    daemon.idle("session-1");
    let mut screen = Screen::new(&daemon, &["top"], 100, 30);
    screen.sees("web (session-1)");
    screen.types("\r");
    until("the client", || daemon.show("web").clients.first().map(drop));
    screen.types("echo from''attach\r");
    screen.sees("fromattach");
    screen.types("\u{10}\u{11}");
    until("the client's end", || daemon.show("web").clients.is_empty().then_some(()));
    screen.sees("kennel: 1 session");
    // Keys are this screen's again.
    screen.types("?");
    screen.sees("any other key goes back");
    screen.types("q");
    screen.loses("any other key goes back");
    screen.types("\u{3}");
    assert_eq!(screen.ends(), (Some(0), false));
}

#[test]
fn the_screen_outlives_daemons_and_says_when_there_is_none() {
    let daemon = daemon();
    daemon.ok(&["start", "--name", "web"]);
    let before = daemon.idle("session-1").pid;
    let screen = Screen::new(&daemon, &["top"], 100, 30);
    screen.sees("web (session-1)");
    for _ in 0..3 {
        daemon.kill();
        daemon.ok(&["start"]);
        let count = daemon.json::<Vec<protocol::api::SessionInfo>>(&["ls"]).len();
        screen.sees(&format!("kennel: {count} sessions"));
    }
    assert_eq!(daemon.idle("session-1").pid, before);
    // A screen that looks for its daemon at the moment of the stop would start one.
    screen.loses("connection lost");
    daemon.ok(&["daemon", "stop"]);
    assert_eq!(screen.ends(), (Some(6), false));
    assert!(!lives(before.unwrap()));
}

#[test]
fn no_size_and_no_words_of_an_agent_break_the_screen() {
    let daemon = daemon();
    daemon.ok(&["start", "--name", "web", "--title", "a 世界 \u{202e}title"]);
    daemon.idle("session-1");
    daemon.ok(&["send", "web", "printf 'x\\033[2J\\033]0;evil\\007\\302\\233y\\n'"]);
    for (columns, rows) in [(200, 50), (40, 10), (20, 5), (2, 2)] {
        let mut screen = Screen::new(&daemon, &["top"], columns, rows);
        until("something on the screen", || Some(screen.text()).filter(|text| text.contains('k')).map(drop));
        let text = screen.text();
        assert!(!text.contains('\u{202e}') && !text.contains('\u{9b}'), "{text}");
        screen.types("?j/x\u{1b}q");
        assert_eq!(screen.ends(), (Some(0), false), "{columns}x{rows}");
    }
    let refused = daemon.run(&["top"]);
    assert!(refused.code == Some(2) && refused.stderr.contains("kennel ls"), "{refused:?}");
}

#[test]
fn ctrl_z_gives_the_shell_its_terminal_and_fg_comes_back() {
    let daemon = daemon();
    daemon.ok(&["start", "--name", "web"]);
    daemon.idle("session-1");
    let mut screen = Screen::shell(&daemon, "exec bash --norc -i", 100, 30);
    screen.types("echo rea''dy\n");
    screen.sees("ready");
    screen.types(&format!("{}\n", words(&daemon, &["top"])));
    screen.sees("web (session-1)");
    screen.types("\u{1a}");
    screen.sees("topped");
    screen.types("echo at the sh''ell\n");
    screen.sees("at the shell");
    screen.types("fg\n");
    screen.sees("web (session-1)");
    screen.types("q");
    screen.sees("at the shell");
    screen.types("echo do''ne\n");
    screen.sees("done");
    screen.types("exit\n");
    assert_eq!(screen.ends(), (Some(0), false));
}

#[test]
fn a_signal_gives_the_terminal_back_and_ends_a_screen_as_it_ends_any_program() {
    let daemon = daemon();
    daemon.ok(&["start", "--name", "web", "--agent", "asks"]);
    daemon.idle("session-1");
    for (args, shows) in [(&["top"][..], "web (session-1)"), (&["attach", "web"], "web")] {
        for (number, code) in [(Signal::SIGTERM, 143), (Signal::SIGHUP, 129)] {
            let file = daemon.dir.path().join("pid");
            let command = words(&daemon, args);
            let line = format!(
                "sh -c 'echo $$ > {0}; exec \"$@\"' - {command}; code=$?; stty -a > {0}.stty; exit $code",
                file.display()
            );
            let screen = Screen::shell(&daemon, &line, 100, 30);
            screen.sees(shows);
            until("the screen", || screen.parser.lock().unwrap().screen().alternate_screen().then_some(()));
            let pid: u32 = std::fs::read_to_string(&file).unwrap().trim().parse().unwrap();
            signal(pid, number);
            assert_eq!(screen.ends(), (Some(code), false), "{args:?} {number}");
            let modes = std::fs::read_to_string(file.with_extension("stty")).unwrap();
            assert!(modes.contains(" icanon") && modes.contains(" echo "), "{args:?} {number}: {modes}");
        }
    }
}
