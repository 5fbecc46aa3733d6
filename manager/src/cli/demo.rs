//! `demo`: the ordinary commands in a directory of their own, shown as they run, and what is promised, checked.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use protocol::MARKER;
use protocol::command::quoted;
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::cli::ui::Ui;
use crate::cli::ui::error::{Failure, Outcome, exit};
use crate::cli::ui::render;

/// The longest time for one command.
const STEP: Duration = Duration::from_secs(30);
/// The interval between checks for Ctrl-C.
const LOOK: Duration = Duration::from_millis(20);

/// `demo`.
pub fn run(ui: &Ui) -> Outcome {
    let mut demo = Demo::new(ui)?;
    let played = demo.play();
    let left = demo.leave();
    // The first failure is the one to report.
    if matches!(played, Err(Failure::Printed(_))) && left.is_ok() {
        ui.note("all of it is ended and removed");
    }
    played.and(left)?;
    let dir = demo.dir.display();
    demo.say(&format!(
        "Looked at from outside: of the {} processes seen none is alive, nothing carries their mark, {dir} is removed.",
        demo.pids.len()
    ))?;
    demo.say("That was kennel. `kennel start` begins a session of yours; `kennel --help` shows the rest.")
}

struct Demo<'a> {
    ui: &'a Ui,
    exe: PathBuf,
    /// Everything lies here.
    dir: PathBuf,
    /// Somebody wants it to end.
    ended: Arc<AtomicBool>,
    /// Processes that were seen.
    pids: BTreeSet<u32>,
    /// The value that the environments of all processes of these sessions carry.
    mark: Option<String>,
}

impl<'a> Demo<'a> {
    fn new(ui: &'a Ui) -> Outcome<Self> {
        let cannot =
            |error: &dyn std::fmt::Display| Failure::failed("demo", format!("cannot begin: {error}"));
        let exe = std::env::current_exe().map_err(|error| cannot(&error))?;
        // From now on an end is an orderly one: the demo's daemon is in a session of its own and would stay.
        let ended = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, ended.clone()).map_err(|error| cannot(&error))?;
        }
        let dir = nix::unistd::mkdtemp(&std::env::temp_dir().join("kennel-demo-XXXXXX"))
            .map_err(|error| cannot(&error))?;
        fs::write(dir.join("config.toml"), "").map_err(|error| cannot(&error))?;
        Ok(Self { ui, exe, dir, ended, pids: BTreeSet::new(), mark: None })
    }

    fn play(&mut self) -> Outcome {
        self.say("The ordinary commands, in a directory of their own; nothing of yours is touched.")?;
        let dir = self.dir.display().to_string();
        let dir = quoted(&dir);
        self.prompt(&format!("cd {dir}; export KENNEL_STATE_DIR={dir}/state"))?;

        self.say("A session, in a process of its own. The daemon comes up by itself.")?;
        let started = self.kennel(&["start", "--title", "demo"])?;
        let id = started.trim();
        let daemon = self.kennel(&["daemon", "status"])?;
        self.seen(&daemon)?;
        let output = self.kennel(&["send", id, "for n in 1 2 3; do echo line $n; sleep 0.4; done"])?;
        self.check(output == "line 1\nline 2\nline 3\n", "the output of a prompt")?;

        self.say("A long turn runs, and another prompt waits behind it.")?;
        let cut = self.kennel(&["send", "--no-wait", id, "echo working; sleep 1000"])?;
        let waiting = self.kennel(&["send", "--no-wait", id, "echo I waited and was not lost"])?;
        self.kennel(&["wait", id, "--until", "running", "--timeout", "10s"])?;
        let before = self.kennel(&["show", id])?;
        let old = self.seen(&before)?;
        self.mark = mark(old);
        self.check(self.mark.is_some(), "the mark of the session's processes")?;

        self.say("Now its process is killed.")?;
        self.kill(old)?;
        self.kennel(&["wait", id, "--until", "idle", "--timeout", "20s"])?;
        let after = self.kennel(&["show", id])?;
        let new = self.seen(&after)?;
        self.check(value(&after, "id") == Some(id), "the same id")?;
        self.check(new != old && lives(new) && !lives(old), "a new process in place of the old one")?;
        self.check(
            value(&after, "restarts").is_some_and(|text| text.starts_with("1 ")),
            "a restart that is counted",
        )?;

        self.say(&format!("The same id; pid {old} is dead, {new} has taken over. And the conversation:"))?;
        let events = self.kennel(&["events", id])?;
        let (cut, waiting) = (cut.trim(), waiting.trim());
        let has = |words: &[&str]| events.lines().any(|line| words.iter().all(|word| line.contains(word)));
        self.check(has(&["message.chunk", "line 3"]), "the transcript from before the crash")?;
        self.check(has(&["turn.interrupted", cut]), "the turn that was cut off, said")?;
        self.check(has(&["session.restarted", &old.to_string(), &new.to_string()]), "the restart, said")?;
        self.check(has(&["turn.completed", waiting]), "the prompt that waited, run")?;
        self.check(has(&["message.chunk", "I waited and was not lost"]), "its output")?;

        self.say(&format!(
            "{cut} was cut off, and that is said: it is not run again behind your back. {waiting} waited, and ran."
        ))?;
        self.kennel(&["resolve", cut, "--drop"])?;
        let output = self.kennel(&["send", id, "echo still here"])?;
        self.check(output == "still here\n", "an answer after the crash")?;

        self.say("The end: a stop returns after the whole tree is dead.")?;
        self.kennel(&["stop", id])?;
        self.check(!lives(new), "a stopped session without a process")?;
        self.kennel(&["daemon", "stop"]).map(drop)
    }

    /// Ends what may still run, looks whether anything is left, and removes the directory.
    fn leave(&mut self) -> Outcome {
        // Fails silently if the daemon has been stopped already. This must run even if the demo was
        // interrupted.
        self.ended.store(false, Ordering::Relaxed);
        let mut stop = self.command(&["daemon", "stop"]);
        stop.stdout(Stdio::null()).stderr(Stdio::null());
        let stopped = stop.spawn().map_err(|error| Failure::failed("demo", error.to_string()));
        let stopped = stopped.and_then(|child| self.end_of(child));
        let mut left: BTreeSet<u32> = self.pids.iter().copied().filter(|pid| lives(*pid)).collect();
        if let Some(mark) = &self.mark {
            left.extend(marked(mark));
        }
        self.check(stopped.is_ok_and(|status| status.success()), "a stopped daemon")?;
        self.check(left.is_empty(), &format!("no process left; there are {left:?}"))?;
        fs::remove_dir_all(&self.dir).map_err(|error| {
            Failure::failed("demo", format!("cannot remove {}: {error}", self.dir.display()))
        })
    }

    fn say(&self, text: &str) -> Outcome {
        self.ui
            .print(&format!("\n{}\n", render::paint(&format!("# {text}"), render::BOLD, self.ui.out_colour)))
    }

    fn prompt(&self, command: &str) -> Outcome {
        self.ui.line(&render::paint(&format!("$ {command}"), render::CYAN, self.ui.out_colour))
    }

    fn check(&self, holds: bool, what: &str) -> Outcome {
        if holds {
            return Ok(());
        }
        Err(Failure::failed("demo", format!("not as promised: {what}"))
            .hint("please tell kennel's makers, with the output above"))
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.exe);
        command.args(args).current_dir(&self.dir).env("KENNEL_STATE_DIR", self.dir.join("state"));
        // So that all its files lie in its directory, and no agents of yours are meant by `shell`.
        command.env_remove("KENNEL_SOCKET").env_remove("XDG_RUNTIME_DIR");
        command.env_remove(crate::cli::host::VARIABLE);
        command.env("KENNEL_CONFIG", self.dir.join("config.toml"));
        command.stdin(Stdio::null());
        command
    }

    /// Runs a command as a person would, shows it and what it prints as it comes, and gives what it printed.
    fn kennel(&self, args: &[&str]) -> Outcome<String> {
        let words: Vec<_> = args.iter().map(|arg| quoted(arg)).collect();
        let line = format!("kennel {}", words.join(" "));
        self.prompt(&line)?;
        let cannot = |error: std::io::Error| Failure::failed("demo", format!("`{line}`: {error}"));
        let mut child = self.command(args).stdout(Stdio::piped()).spawn().map_err(cannot)?;
        let (sender, pieces) = channel();
        if let Some(mut stdout) = child.stdout.take() {
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(read @ 1..) = stdout.read(&mut buffer) {
                    if sender.send(buffer[..read].to_vec()).is_err() {
                        break;
                    }
                }
            });
        }
        let (mut printed, mut shown) = (Vec::new(), 0);
        let end = Instant::now() + STEP;
        while Instant::now() < end && !self.ended.load(Ordering::Relaxed) {
            match pieces.recv_timeout(LOOK) {
                Ok(piece) => {
                    printed.extend(piece);
                    // Whole lines: no character is cut.
                    if let Some(end) = printed[shown..].iter().rposition(|byte| *byte == b'\n') {
                        let end = shown + end + 1;
                        self.ui.print(&String::from_utf8_lossy(&printed[shown..end]))?;
                        shown = end;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.ui.print(&String::from_utf8_lossy(&printed[shown..]))?;
        let status = self.end_of(child)?;
        self.check(status.success(), &format!("`{line}` succeeds ({status})"))?;
        String::from_utf8(printed).map_err(|_| Failure::failed("demo", format!("`{line}` printed no text")))
    }

    /// Waits for a command, not too long, and not if somebody wants to end the demo.
    fn end_of(&self, mut child: Child) -> Outcome<ExitStatus> {
        let broken =
            |error: std::io::Error| Failure::failed("demo", format!("cannot wait for a command: {error}"));
        let end = Instant::now() + STEP;
        loop {
            if let Some(status) = child.try_wait().map_err(broken)? {
                return if self.ended.load(Ordering::Relaxed) {
                    Err(Failure::Printed(exit::INTERRUPTED))
                } else {
                    Ok(status)
                };
            }
            let ended = self.ended.load(Ordering::Relaxed);
            if ended || Instant::now() > end {
                child.kill().and_then(|()| child.wait()).map_err(broken)?;
                return Err(if ended {
                    Failure::Printed(exit::INTERRUPTED)
                } else {
                    Failure::new(exit::TIMEOUT, "timeout", "a command of the demo did not end")
                });
            }
            std::thread::park_timeout(LOOK);
        }
    }

    fn kill(&self, pid: u32) -> Outcome {
        self.prompt(&format!("kill -9 {pid}"))?;
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let killed = raw.map(|raw| kill_process(raw, Signal::KILL));
        self.check(matches!(killed, Some(Ok(()))), &format!("a process {pid} to kill"))
    }

    /// Notes the pid that a command has shown.
    fn seen(&mut self, shown: &str) -> Outcome<u32> {
        let pid = value(shown, "pid").and_then(|text| text.parse().ok());
        self.check(pid.is_some(), "a pid")?;
        let pid = pid.unwrap_or_default();
        self.pids.insert(pid);
        Ok(pid)
    }
}

/// A value that `show` or `status` has printed.
fn value<'t>(shown: &'t str, name: &str) -> Option<&'t str> {
    shown.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// Returns true if a process lives. A zombie does not.
fn lives(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, fields)| fields.chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

/// Returns the part of a process's marker that all processes below its manager share.
fn mark(pid: u32) -> Option<String> {
    let marker = marker(&PathBuf::from(format!("/proc/{pid}/environ")))?;
    let (mark, _) = marker.split_once('/')?;
    (!mark.is_empty()).then(|| mark.to_owned())
}

fn marker(environ: &Path) -> Option<String> {
    let environ = fs::read(environ).ok()?;
    let mut variables = environ.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    variables.find_map(|variable| Some(variable.strip_prefix(MARKER)?.strip_prefix('=')?.to_owned()))
}

/// Every living process that carries this mark.
fn marked(mark: &str) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let carries = |pid: &u32| {
        let marker = marker(&PathBuf::from(format!("/proc/{pid}/environ")));
        marker.is_some_and(|marker| marker.starts_with(&format!("{mark}/"))) && lives(*pid)
    };
    pids.filter(carries).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_in_what_was_shown() {
        let shown = "id:        session-1\npid:       42\nagent pid: 43\n";
        assert_eq!(value(shown, "pid"), Some("42"));
        assert_eq!(value(shown, "agent pid"), Some("43"));
        assert_eq!(value(shown, "p"), None);
    }
}
