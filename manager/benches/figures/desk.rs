//! `kennel top` and `kennel attach` at a terminal: how soon something is on the screen, how soon a key is, and what they cost while
//! nothing happens.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use crate::floor::program;
use crate::host::{BOUND, Host, Ready, pause, request, switches};
use crate::table::{Aim, Table, quantile};
use crate::{ROUNDS, ms};

/// Sessions that there are.
const SESSIONS: usize = 500;
/// How often a command is started in one round, and how many keys are pressed.
const STARTS: usize = 10;
const KEYS: usize = 60;
/// Between two keys, in milliseconds: several frames.
const BETWEEN: u64 = 50;
/// The end of `you drive` on the screen: it stands over `connecting`, and only what changes is written.
const DRIVES: &str = "u drive";
/// The longest timer of `top` at rest is 64 s.
const REST: u64 = 130;

pub async fn measure(table: &mut Table) {
    eprintln!("desk");
    let host = Host::start().await;
    let sessions = host.sessions(SESSIONS).await.0;
    let (first, other) = (&sessions[0], &sessions[1]);
    turn(&host, first, "echo said-before").await;
    paint(table, &host, first);
    rest(table, &host, first).await;
    keys(table, &host, other).await;
    host.end().await;
}

/// Runs a prompt to its end.
async fn turn(host: &Host, session: &Ready, text: &str) {
    let (mut tap, mut wire) = (host.tap().await, host.wire().await);
    let body = serde_json::json!({ "text": text }).to_string();
    wire.done(&request("POST", &format!("/v1/sessions/{}/prompts", session.id), &body)).await;
    tap.until(|kind, _| kind == b"turn.completed").await;
}

/// From the start of a process until its first words are on the terminal.
fn paint(table: &mut Table, host: &Host, session: &Ready) {
    let ask = program(host.dir.path(), "ask", include_bytes!("ask.rs"));
    let id = session.id.as_str();
    let floor = || {
        let mut command = Command::new(&ask);
        command.arg(host.socket()).args(["GET", "/v1/sessions?all=false", ""]);
        command
    };
    for (name, words, sees) in
        [("top", &["top"][..], "session-"), ("attach", &["attach", id][..], "said-before")]
    {
        let (mut ours, mut floors) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            ours.push(p50(STARTS, || {
                let (terminal, took) = Terminal::start(&host.command(words), sees);
                terminal.ends();
                took
            }));
            floors.push(p50(STARTS, || {
                let (terminal, took) = Terminal::start(&floor(), "session-");
                terminal.ends();
                took
            }));
        }
        let name = format!(
            "first words of `kennel {name}` on a terminal, {SESSIONS} sessions, p50; floor: a program that asks for the list and prints it"
        );
        table.against(&name, "ms", &ours, &floors, Aim::AtMost(100.0));
    }
}

/// From a key until it is on the screen, while the agent floods and while nothing happens.
async fn keys(table: &mut Table, host: &Host, session: &Ready) {
    let id = session.id.as_str();
    let (mut quiet, mut flooded, mut floors) = (Vec::new(), Vec::new(), Vec::new());
    let mut wire = host.wire().await;
    for round in 0..ROUNDS {
        let (mut terminal, _) = Terminal::start(&host.command(&["attach", id]), DRIVES);
        quiet.push(terminal.keys().await);
        // What is typed is not what is said, and nothing of it has a `q`.
        terminal.types(&format!("\u{15}while :; do echo fl''ood{round}; done\r"));
        terminal.sees(&format!("flood{round}"));
        let times = terminal.keys().await;
        flooded.push(times);
        terminal.types("\u{15}");
        // It is answered when the turn has ended.
        wire.done(&request("POST", &format!("/v1/sessions/{id}/abort"), "")).await;
        terminal.ends();
        let (mut echo, _) = Terminal::start(Command::new("sh").args(["-c", "echo begun; exec cat"]), "begun");
        floors.push(echo.keys().await);
        echo.ends();
    }
    let floor = "floor: the terminal's own echo";
    table.against(
        &format!("key → screen in `kennel attach`, p90; {floor}"),
        "ms",
        &quiet,
        &floors,
        Aim::AtMost(16.0),
    );
    let name = format!("the same while the agent writes as fast as it can, p90; {floor}");
    // A frame, and what it takes to draw it.
    table.against(&name, "ms", &flooded, &floors, Aim::AtMost(32.0));
}

/// Wake-ups of the daemon while somebody looks on and nothing happens.
async fn rest(table: &mut Table, host: &Host, session: &Ready) {
    let id = session.id.as_str();
    for (name, words, sees) in [
        ("attach", &["attach", id][..], DRIVES),
        ("top", &["top"][..], "session-"),
        ("wait", &["wait", id, "--until", "stopped"][..], "waiting"),
    ] {
        let (terminal, _) = Terminal::start(&host.command(words), sees);
        // Looks that follow the start are over.
        pause(20_000).await;
        let before = switches(host.pid());
        pause(REST * 1000).await;
        let woken = switches(host.pid()) - before;
        terminal.ends();
        let name = format!("daemon's wake-ups in {REST} s while `kennel {name}` is open and nothing happens");
        table.alone(&name, "times", &[woken], Aim::Told);
    }
}

fn p50(times: usize, mut run: impl FnMut() -> f64) -> f64 {
    quantile(&(0..times).map(|_| run()).collect::<Vec<_>>(), 0.5)
}

/// A process in a terminal of its own.
struct Terminal {
    child: Child,
    keys: ChildStdin,
    shown: Receiver<Vec<u8>>,
}

impl Terminal {
    /// Starts it; how many milliseconds until the terminal shows these words. `script` has a part in that, as in the floors.
    fn start(command: &Command, sees: &str) -> (Self, f64) {
        let quoted = |word: &std::ffi::OsStr| format!("'{}'", word.to_string_lossy().replace('\'', r"'\''"));
        let words: Vec<String> =
            std::iter::once(command.get_program()).chain(command.get_args()).map(quoted).collect();
        let mut script = Command::new("script");
        script.args(["-qec", &format!("stty cols 120 rows 40; exec {}", words.join(" ")), "/dev/null"]);
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => script.env(name, value),
                None => script.env_remove(name),
            };
        }
        script.env("TERM", "xterm").env("LANG", "C.UTF-8").env_remove(protocol::MARKER);
        let begin = Instant::now();
        let mut child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (keys, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (sender, shown) = channel();
        std::thread::spawn(move || {
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(read @ 1..) = stdout.read(&mut buffer) {
                if sender.send(buffer[..read].to_vec()).is_err() {
                    return;
                }
            }
        });
        let mut terminal = Self { child, keys, shown };
        terminal.sees(sees);
        (terminal, ms(begin.elapsed()))
    }

    fn types(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    /// Waits until the terminal has been written these words from now on.
    fn sees(&mut self, words: &str) {
        let mut seen = Vec::new();
        while !seen.windows(words.len()).any(|bytes| bytes == words.as_bytes()) {
            let more = self.shown.recv_timeout(BOUND);
            seen.extend(more.unwrap_or_else(|_| panic!("{words}: {}", String::from_utf8_lossy(&seen))));
        }
    }

    /// Presses a key again and again; the p90 of the milliseconds until it is shown.
    async fn keys(&mut self) -> f64 {
        let mut times = Vec::new();
        for _ in 0..KEYS {
            pause(BETWEEN).await;
            while self.shown.try_recv().is_ok() {}
            let begin = Instant::now();
            self.types("q");
            self.sees("q");
            times.push(ms(begin.elapsed()));
        }
        quantile(&times, 0.9)
    }

    /// Ends it, by the keys with which any of them ends.
    fn ends(mut self) {
        // One that has ended needs none.
        let _ = self.keys.write_all(b"\x10\x11q\x03").and_then(|()| self.keys.flush());
        drop(self.keys);
        self.child.wait().unwrap();
    }
}
