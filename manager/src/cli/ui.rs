//! Where output goes: results to standard output, everything else to standard error.

use std::cell::Cell;
use std::future::Future;
use std::io::{self, IsTerminal, Write};
use std::pin::pin;
use std::time::{Duration, Instant};

use super::args::{ColourChoice, Global};
use super::error::Outcome;
use super::render;

/// How long nothing is said about a wait.
const PATIENCE: Duration = Duration::from_secs(1);

/// The two outputs and what they can do.
#[derive(Debug)]
pub struct Ui {
    /// Results are the API's own objects.
    pub json: bool,
    /// Nothing but results and errors.
    pub quiet: bool,
    /// Standard output is a terminal.
    pub out_is_terminal: bool,
    /// Standard error is a terminal.
    pub err_is_terminal: bool,
    /// Standard output has colours.
    pub out_colour: bool,
    /// Standard error has colours.
    pub err_colour: bool,
    /// How many waits are open, one inside the other: the innermost is shown.
    waits: Cell<usize>,
}

impl Ui {
    /// As the command line asks for it.
    pub fn new(global: &Global) -> Self {
        let colour = |auto: anstream::ColorChoice| match global.color {
            ColourChoice::Always => true,
            ColourChoice::Never => false,
            ColourChoice::Auto => auto != anstream::ColorChoice::Never,
        };
        Self {
            json: global.json,
            quiet: global.quiet,
            out_is_terminal: io::stdout().is_terminal(),
            err_is_terminal: io::stderr().is_terminal(),
            out_colour: colour(anstream::AutoStream::choice(&io::stdout())),
            err_colour: colour(anstream::AutoStream::choice(&io::stderr())),
            waits: Cell::new(0),
        }
    }

    /// Prints a result as it is.
    pub fn print(&self, text: &str) -> Outcome {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        Ok(out.flush()?)
    }

    /// Prints a line.
    pub fn line(&self, text: &str) -> Outcome {
        self.print(&format!("{text}\n"))
    }

    /// Prints what the API said, for a program.
    pub fn object(&self, json: &[u8]) -> Outcome {
        let text = String::from_utf8_lossy(json);
        self.line(&render::json(text.trim_end()))
    }

    /// Says something beside the result.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            let text = render::paint(&render::line(text), render::DIM, self.err_colour);
            self.tell(&format!("{text}\n"));
        }
    }

    /// Writes to standard error. Whether anybody reads it changes nothing.
    pub fn tell(&self, text: &str) {
        let mut err = io::stderr().lock();
        let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
    }

    /// As [`waiting`](Self::waiting), if nothing better is said already.
    pub async fn also_waiting<T>(&self, what: &str, work: impl Future<Output = T>) -> T {
        if self.waits.get() > 0 { work.await } else { self.waiting(what, work).await }
    }

    /// Does something, and says what is waited for if a person waits long.
    pub async fn waiting<T>(&self, what: &str, work: impl Future<Output = T>) -> T {
        if self.quiet || !self.err_is_terminal {
            return work.await;
        }
        let depth = self.waits.get() + 1;
        self.waits.set(depth);
        let mut work = pin!(work);
        let begun = Instant::now();
        let mut shown = false;
        let done = loop {
            tokio::select! {
                done = &mut work => break done,
                () = tokio::time::sleep(PATIENCE) => {
                    if self.waits.get() == depth {
                        shown = true;
                        self.progress(&format!("{what} … {}s", begun.elapsed().as_secs()));
                    }
                }
            }
        };
        self.waits.set(depth - 1);
        if shown {
            self.clear_progress();
        }
        done
    }

    /// Writes over the last line of the terminal what is waited for.
    pub fn progress(&self, text: &str) {
        let text = render::paint(&render::line(text), render::DIM, self.err_colour);
        self.tell(&format!("\r\u{1b}[K{text}"));
    }

    /// Takes it away.
    pub fn clear_progress(&self) {
        self.tell("\r\u{1b}[K");
    }
}
