//! Text with a secret: typed or pasted on a terminal, which does not show it, or read from standard input.

use std::cell::RefCell;
use std::io::{self, IsTerminal};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::sync::oneshot;

use crate::cli::ui::error::{Failure, Outcome};
use crate::cli::ui::{Ui, write_err};

/// The longest text, in bytes.
const MAX: usize = 64 * 1024;
/// The longest pause between two pieces of what is pasted.
const PASTE: Duration = Duration::from_millis(150);

/// The terminal on which something is asked, between a question and its answer.
#[derive(Default)]
pub struct Asking(RefCell<Option<Termios>>);

impl Asking {
    /// Asks for lines, until nothing is `missing` of them; an empty line ends them as well. Their text is shown nowhere.
    pub async fn lines(
        &self,
        ui: &Ui,
        question: &str,
        missing: impl Fn(&str) -> Option<String> + Send + 'static,
    ) -> Outcome<String> {
        let is_terminal = io::stdin().is_terminal();
        if is_terminal {
            self.begin()?;
            ui.write_err(&format!("{question}: "));
        }
        let (tell, told) = oneshot::channel();
        // On a thread that ends with the process: a signal ends the wait, and nothing ends the reading.
        std::thread::spawn(move || drop(tell.send(read(is_terminal, missing))));
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

    /// Has the terminal show nothing from here on, if standard input is one.
    pub fn begin(&self) -> Outcome {
        if io::stdin().is_terminal() {
            let before = tcgetattr(io::stdin())
                .map_err(|error| Failure::failed("terminal", format!("the terminal: {error}")))?;
            self.0.replace(Some(before));
            self.hide();
        }
        Ok(())
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

/// Reads until nothing is missing and nothing more comes at once: what is pasted comes in pieces.
fn read(is_terminal: bool, missing: impl Fn(&str) -> Option<String>) -> io::Result<String> {
    let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
    let stdin = rustix::stdio::stdin();
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if text.ends_with('\n') && !more_comes()? {
            let is_over = text == "\n" || text.ends_with("\n\n");
            match (missing(&text), is_terminal) {
                (None, _) => break,
                (Some(_), true) if is_over => break,
                (Some(what), true) => write_err(&format!("\n{what}: ")),
                (Some(_), false) => {}
            }
        }
        drop(text);
        match rustix::io::read(stdin, &mut piece) {
            Ok(0) => break,
            Ok(count) => bytes.extend_from_slice(&piece[..count]),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if bytes.len() > MAX {
            return Err(io::Error::other(format!("it has more than {MAX} bytes")));
        }
    }
    // A program that folds lines may cut the characters of a QR code, which do not matter.
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}

/// Returns true if there is more to read within a moment.
fn more_comes() -> io::Result<bool> {
    let within = Timespec { tv_sec: 0, tv_nsec: PASTE.subsec_nanos().into() };
    let mut fds = [PollFd::from_borrowed_fd(rustix::stdio::stdin(), PollFlags::IN)];
    match poll(&mut fds, Some(&within)) {
        Ok(found) => Ok(found > 0),
        Err(Errno::INTR) => Ok(true),
        Err(error) => Err(error.into()),
    }
}
