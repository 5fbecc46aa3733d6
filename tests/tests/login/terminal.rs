//! A person at a terminal, which is theirs again afterwards.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};

use harness::daemon::Daemon;
use harness::real::until;

use super::{file, gone, told, vendors};

/// A terminal, from the side of the person.
struct Terminal {
    keyboard: File,
    shown: Arc<Mutex<String>>,
    programs: OwnedFd,
}

impl Terminal {
    fn new() -> Self {
        let pty = nix::pty::openpty(None, None).unwrap();
        let shown = told(File::from(pty.master.try_clone().unwrap()));
        Self { keyboard: pty.master.into(), shown, programs: pty.slave }
    }

    /// Runs a command on it, whose Ctrl-C is a signal.
    fn runs(&self, command: &Command) -> Child {
        let mut there = Command::new("setsid");
        there.arg("--ctty").arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => there.env(name, value),
                None => there.env_remove(name),
            };
        }
        let side = || self.programs.try_clone().unwrap();
        there.current_dir(command.get_current_dir().unwrap());
        there.stdin(side()).stdout(side()).stderr(side()).spawn().unwrap()
    }

    fn types(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until it shows these words so many times.
    fn shows(&self, words: &str, times: usize) {
        until(words, || (self.shown.lock().unwrap().matches(words).count() >= times).then_some(()));
    }

    /// All of its modes.
    fn modes(&self) -> String {
        format!("{:?}", rustix::termios::tcgetattr(&self.programs).unwrap())
    }
}

fn end(mut child: Child) -> Option<i32> {
    until("the end of `kennel login`", || child.try_wait().unwrap()).code()
}

#[test]
fn a_code_is_typed_unseen_and_ctrl_c_ends_a_log_in_and_both_leave_the_terminal_as_it_was() {
    let daemon = Daemon::new();
    vendors(&daemon);
    daemon.ok(&["ls"]);
    let mut terminal = Terminal::new();
    let before = terminal.modes();
    let login = terminal.runs(&daemon.command(&["login", "code"]));
    terminal.shows("Code: ", 1);
    assert_ne!(terminal.modes(), before);
    terminal.types("SECRET-CODE-3\n");
    terminal.shows("Logged in", 1);
    assert_eq!(end(login), Some(0), "{:?}", terminal.shown);
    assert_eq!(std::fs::read_to_string(file(&daemon)).unwrap(), "SECRET-CODE-3");
    assert_eq!(terminal.modes(), before);
    gone(&daemon);

    let login = terminal.runs(&daemon.command(&["login", "code"]));
    terminal.shows("Code: ", 2);
    terminal.types("SECRET-CODE-4\x03");
    assert_eq!(end(login), Some(130), "{:?}", terminal.shown);
    terminal.shows("the log-in of code is ended", 1);
    assert_eq!(terminal.modes(), before);
    assert!(!terminal.shown.lock().unwrap().contains("SECRET"), "{:?}", terminal.shown);
    assert_eq!(std::fs::read_to_string(file(&daemon)).unwrap(), "SECRET-CODE-3");
    gone(&daemon);
}
