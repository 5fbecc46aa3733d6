//! The user's pager: a program that shows a long text page by page.

use std::io::Write;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;

use super::{Ui, render};

/// Used if the environment names none.
const USUAL: &str = "less";
/// Its options: it ends by itself if one page is enough, passes colours, and leaves the text on the terminal.
const OPTIONS: &str = "FRX";

/// A pager that runs. Ctrl-C is for it.
pub struct Pager {
    child: Child,
    input: Option<ChildStdin>,
}

impl Pager {
    /// Starts it, if standard output is a terminal and there is one.
    pub fn start(ui: &Ui) -> Option<Self> {
        if !ui.out_is_terminal {
            return None;
        }
        let line = std::env::var("PAGER").unwrap_or_else(|_| USUAL.to_owned());
        let program = line.split_ascii_whitespace().next()?;
        if program == "cat" {
            return None;
        }
        // A line for the shell is not looked into.
        if program.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-+".contains(&byte))
            && !is_there(program)
        {
            if program != USUAL {
                ui.note(&format!("there is no pager `{program}` (PAGER)"));
            }
            return None;
        }
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &line]).stdin(Stdio::piped());
        if std::env::var_os("LESS").is_none() {
            command.env("LESS", OPTIONS);
        }
        // A handler instead of the default: the pager's Ctrl-C must not end kennel before it, and a program gets it back.
        signal_hook::flag::register(signal_hook::consts::SIGINT, Arc::default()).ok()?;
        let mut child = command.spawn().ok()?;
        let input = child.stdin.take();
        Some(Self { child, input })
    }

    /// Returns false if it was left.
    pub fn put(&mut self, text: &str) -> bool {
        let Some(input) = &mut self.input else { return false };
        let put = input.write_all(render::printed(text).as_bytes()).is_ok();
        if !put {
            self.input = None;
        }
        put
    }

    /// Returns when the reader has left it.
    pub fn end(mut self) {
        self.input = None;
        let _ = self.child.wait();
    }
}

/// Returns false if `less` shows colours as text, because the user has options of their own for it.
pub fn passes_colours() -> bool {
    std::env::var("LESS").map_or(true, |options| options.contains(['R', 'r']))
}

fn is_there(program: &str) -> bool {
    if program.contains('/') {
        return std::path::Path::new(program).is_file();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}
