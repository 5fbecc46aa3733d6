//! A line with a secret: typed on a terminal, which does not show it, or read from standard input.

use std::cell::RefCell;
use std::io::{self, BufRead, IsTerminal, Read};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::sync::oneshot;

use crate::cli::ui::Ui;
use crate::cli::ui::error::{Failure, Outcome};

/// The longest line, in bytes.
const MAX_LINE: u64 = 4096;

/// The terminal on which something is asked, between a question and its answer.
#[derive(Default)]
pub struct Asking(RefCell<Option<Termios>>);

impl Asking {
    /// Asks for a line. Its text is shown nowhere.
    pub async fn line(&self, ui: &Ui, question: &str) -> Outcome<String> {
        let is_terminal = io::stdin().is_terminal();
        if is_terminal {
            let before = tcgetattr(io::stdin())
                .map_err(|error| Failure::failed("terminal", format!("the terminal: {error}")))?;
            self.0.replace(Some(before));
            self.hide();
            ui.write_err(&format!("{question}: "));
        }
        let (tell, told) = oneshot::channel();
        // On a thread that ends with the process: a signal ends the wait, and nothing ends the reading.
        std::thread::spawn(move || drop(tell.send(read())));
        let line = told.await;
        if is_terminal {
            self.show();
            // The end of the line was not shown either.
            ui.write_err("\n");
        }
        match line {
            Ok(Ok(line)) => Ok(line),
            Ok(Err(error)) => {
                Err(Failure::usage(format!("standard input cannot be read: {error}; nothing was changed")))
            }
            Err(_) => Err(Failure::failed("input", "standard input cannot be read; nothing was changed")),
        }
    }

    /// Has the terminal show nothing of what is typed.
    pub fn hide(&self) {
        if let Some(before) = &*self.0.borrow() {
            let mut hidden = before.clone();
            hidden.local_modes.remove(LocalModes::ECHO | LocalModes::ECHONL);
            set(&hidden);
        }
    }

    /// Puts the terminal back for a while.
    pub fn give_back(&self) {
        self.0.borrow().iter().for_each(set);
    }

    /// Puts the terminal back.
    fn show(&self) {
        self.0.take().iter().for_each(set);
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.show();
    }
}

fn set(to: &Termios) {
    // A terminal that is gone needs nothing. What was typed ahead is not for this question.
    let _ = tcsetattr(io::stdin(), OptionalActions::Flush, to);
}

/// Reads one line.
fn read() -> io::Result<String> {
    let mut line = Vec::new();
    io::stdin().lock().take(MAX_LINE).read_until(b'\n', &mut line)?;
    let text = String::from_utf8(line).map_err(|_| io::Error::other("it is not UTF-8"))?;
    Ok(text.trim().to_owned())
}
