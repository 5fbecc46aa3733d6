//! The output of kennel: results to standard output, everything else to standard error.
//!
//! No other module here writes to either (the lints check that), and all output passes [`render::printed`].
//! So text of an agent, a journal or the API cannot control the terminal. The exceptions are
//! [`Ui::pass_on`], whose reader is a program, and [`Ui::bytes`], for a program or whoever has asked for bytes.

#![allow(clippy::disallowed_methods, reason = "this is the one place that writes to the outputs")]

pub(crate) mod cells;
pub(crate) mod error;
pub(crate) mod form;
pub(crate) mod key_list;
pub(crate) mod pager;
pub(crate) mod qr;
pub(crate) mod render;
pub(crate) mod screen;
pub(crate) mod table;
pub(crate) mod wrap;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use unicode_width::UnicodeWidthStr;

use crate::cli::args::{ColourChoice, Global};
use crate::cli::ui::error::{Failure, Outcome};
use crate::terminal_text::Screen;

/// Commands that mean the machine on which they are typed.
const HERE: [&str; 6] = ["-H", "acp", "daemon", "doctor", "host", "mcp"];
/// The time after which a wait gets a note.
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
    /// The width of standard output's terminal; none without a terminal, or if it reports none.
    pub columns: Option<usize>,
    /// The height of that terminal; none without a terminal, or if it reports none.
    pub rows: Option<usize>,
    /// Standard error is a terminal.
    pub err_is_terminal: bool,
    /// Standard output has colours.
    pub out_colour: bool,
    /// Standard error has colours.
    pub err_colour: bool,
    /// Another program may ask something on the terminal, and what is waited for is not shown.
    pub asked: Arc<AtomicBool>,
    /// The machine that was typed, to be typed in what is suggested, too.
    pub host: RefCell<Option<String>>,
    /// A command draws on the whole screen: notes, errors and waits are not written meanwhile.
    pub drawn: Arc<AtomicBool>,
    /// The number of open waits, one inside the other. The innermost one is shown.
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
            columns: columns(io::stdout()),
            rows: size(io::stdout()).map(|(_, rows)| rows),
            err_is_terminal: io::stderr().is_terminal(),
            out_colour: colour(anstream::AutoStream::choice(&io::stdout())),
            err_colour: colour(anstream::AutoStream::choice(&io::stderr())),
            asked: Arc::default(),
            host: RefCell::default(),
            drawn: Arc::default(),
            waits: Cell::new(0),
        }
    }

    /// Prints a result.
    pub fn print(&self, text: &str) -> Outcome {
        Ok(to_stdout(&render::printed(text))?)
    }

    /// Prints what an agent wrote: byte for byte where a program reads it, harmless on a terminal.
    pub fn pass_on(&self, text: &str) -> Outcome {
        match self.out_is_terminal {
            true => self.print(&render::output(text)),
            false => Ok(to_stdout(text)?),
        }
    }

    /// Prints the next piece of what an agent wrote, as [`pass_on`](Self::pass_on). `screen` has what was cut at the piece before.
    pub fn pass_on_by(&self, screen: &mut Screen, text: &str) -> Outcome {
        match self.out_is_terminal {
            true => self.print(&screen.feed(text)),
            false => Ok(to_stdout(text)?),
        }
    }

    /// Prints bytes as they are. Only for a file or pipe, or for whoever wants them on the terminal.
    pub fn bytes(&self, bytes: &[u8]) -> Outcome {
        let mut out = io::stdout().lock();
        out.write_all(bytes)?;
        Ok(out.flush()?)
    }

    /// Prints a line.
    pub fn line(&self, text: &str) -> Outcome {
        self.print(&format!("{text}\n"))
    }

    /// Prints the API's answer, for a program.
    pub fn object(&self, json: &[u8]) -> Outcome {
        let text = String::from_utf8_lossy(json);
        self.line(&render::json(text.trim_end()))
    }

    /// Prints a note beside the result.
    pub fn note(&self, text: &str) {
        if !self.quiet && !self.is_drawn() {
            let text = render::line(&self.addressed(text));
            let text = match columns(io::stderr()) {
                Some(columns) => table::broken(&text, 0, columns, 0),
                None => text,
            };
            self.write_err(&format!("{}\n", render::paint(&text, render::DIM, self.err_colour)));
        }
    }

    /// Prints a failure, as the caller reads it.
    pub fn failure(&self, failure: &Failure) {
        if let Some(text) = failure.text(self.json, self.err_colour) {
            let text = if self.json { text } else { self.addressed(&text) };
            self.write_err(&text);
        }
    }

    /// A text whose commands mean the machine that was typed.
    pub fn addressed(&self, text: &str) -> String {
        let host = self.host.borrow();
        let Some(host) = host.as_deref() else { return text.to_owned() };
        let mut parts = text.split("`kennel ");
        let mut addressed = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            // A text may say that somebody is to type it there.
            let is_typed_there = part.split_once('`').is_some_and(|(_, rest)| {
                [" there", " on that machine", " on the server"].iter().any(|place| rest.starts_with(place))
            });
            addressed += match is_typed_there || HERE.iter().any(|command| part.starts_with(command)) {
                true => "`kennel ".to_owned(),
                false => format!("`kennel -H {host} "),
            }
            .as_str();
            addressed += part;
        }
        addressed
    }

    /// Prints notes like [`note`](Self::note), from wherever they come.
    pub fn notes(&self) -> impl Fn(&str) + Send + Sync + 'static {
        let (quiet, colour, terminal) = (self.quiet, self.err_colour, self.err_is_terminal);
        let drawn = self.drawn.clone();
        move |text| {
            if !quiet && !drawn.load(Ordering::Relaxed) {
                // What is shown while something is waited for stands on the same line.
                let clear = if terminal { "\r\u{1b}[K" } else { "" };
                let text = render::line(text);
                let text = match columns(io::stderr()) {
                    Some(columns) => table::broken(&text, 0, columns, 0),
                    None => text,
                };
                let text = render::paint(&text, render::DIM, colour);
                to_stderr(&format!("{clear}{}\n", render::printed(&text)));
            }
        }
    }

    /// Writes to standard error. A reader that has closed it changes nothing.
    pub fn write_err(&self, text: &str) {
        if !self.is_drawn() {
            write_err(text);
        }
    }

    /// Returns true while a command draws on the whole screen.
    fn is_drawn(&self) -> bool {
        self.drawn.load(Ordering::Relaxed)
    }

    /// Writes an agent's bytes to standard error, like [`pass_on`](Self::pass_on).
    pub fn write_err_raw(&self, text: &str) {
        match self.err_is_terminal {
            true => self.write_err(&render::output(text)),
            false => to_stderr(text),
        }
    }

    /// Like [`waiting`](Self::waiting), unless a note on a more exact wait is shown already.
    pub async fn also_waiting<T>(&self, what: &str, work: impl Future<Output = T>) -> T {
        if self.waits.get() > 0 { work.await } else { self.waiting(what, work).await }
    }

    /// Does the work, and notes what kennel waits for if a person waits long.
    pub async fn waiting<T>(&self, what: &str, work: impl Future<Output = T>) -> T {
        if self.quiet || !self.err_is_terminal || self.is_drawn() {
            return work.await;
        }
        let depth = self.waits.get() + 1;
        self.waits.set(depth);
        let mut wait = Wait { ui: self, shown: false };
        let mut work = pin!(work);
        let begun = Instant::now();
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = tokio::time::sleep(PATIENCE) => {
                    if self.waits.get() == depth && !self.asked.load(Ordering::Relaxed) {
                        wait.shown = true;
                        self.progress(&format!("{what} … {}s", begun.elapsed().as_secs()));
                    }
                }
            }
        }
    }

    /// Writes over the last line of the terminal what is waited for. It is one line: only that can be taken away.
    pub fn progress(&self, text: &str) {
        let text = render::line(text);
        let text = match columns(io::stderr()) {
            Some(columns) => fitted(&text, columns),
            None => text,
        };
        let text = render::paint(&text, render::DIM, self.err_colour);
        to_stderr(&format!("\r\u{1b}[K{}", render::printed(&text)));
    }

    /// Takes it away.
    pub fn clear_progress(&self) {
        to_stderr("\r\u{1b}[K");
    }
}

/// A wait, also one that is given up: it leaves nothing on the screen.
struct Wait<'a> {
    ui: &'a Ui,
    /// The last line of the terminal says what is waited for.
    shown: bool,
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        self.ui.waits.set(self.ui.waits.get().saturating_sub(1));
        if self.shown {
            self.ui.clear_progress();
        }
    }
}

/// Writes to standard error, before it is known how the command line wants it.
pub fn write_err(text: &str) {
    to_stderr(&render::printed(text));
}

/// The width of a terminal; none for what is none, or does not report it.
fn columns(of: impl AsFd + IsTerminal) -> Option<usize> {
    size(of).map(|(columns, _)| columns)
}

/// Width and height of a terminal; none for what is none, or reports none.
fn size(of: impl AsFd + IsTerminal) -> Option<(usize, usize)> {
    let size = rustix::termios::tcgetwinsize(&of).ok().filter(|_| of.is_terminal())?;
    (size.ws_col > 0 && size.ws_row > 0).then(|| (size.ws_col.into(), size.ws_row.into()))
}

/// A text that leaves the last column free: behind it some terminals begin another line.
fn fitted(text: &str, columns: usize) -> String {
    let mut most = columns.saturating_sub(1);
    loop {
        let shown = render::short(text, most);
        // Some characters are two columns wide.
        if shown.width() < columns || most == 0 {
            return shown;
        }
        most -= 1;
    }
}

/// Returns true if the locale has characters beyond ASCII (setlocale(3)).
pub fn has_unicode() -> bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().filter_map(|name| std::env::var(name).ok());
    let locale = locale.into_iter().find(|value| !value.is_empty()).unwrap_or_default().to_uppercase();
    locale.contains("UTF-8") || locale.contains("UTF8")
}

/// Returns true if one of the outputs is a terminal.
pub fn has_terminal() -> bool {
    io::stderr().is_terminal() || io::stdout().is_terminal()
}

/// Shows what a person types, on whichever output is a terminal.
pub fn echo(text: &str) {
    show(&render::printed(&render::block(text)));
}

/// Takes so many columns back of what was shown last.
pub fn erase(columns: usize) {
    show(&"\u{8} \u{8}".repeat(columns));
}

fn show(text: &str) {
    match io::stderr().is_terminal() {
        true => to_stderr(text),
        // A terminal that is gone is found by what is read next.
        false => drop(to_stdout(text)),
    }
}

/// Prints to standard output, before it is known how the command line wants it.
pub fn print(text: &str) {
    // A pipe whose reader has gone is no news.
    let _ = to_stdout(&render::printed(text));
}

fn to_stdout(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

fn to_stderr(text: &str) {
    let mut err = io::stderr().lock();
    let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
}

/// Prints clap's text on the command line: help to standard output, errors to standard error, with its
/// colours where the user wants them.
pub fn unparsed(error: &clap::Error) {
    let (rendered, to_err) = (error.render(), error.use_stderr());
    let choice = match to_err {
        true => anstream::AutoStream::choice(&io::stderr()),
        false => anstream::AutoStream::choice(&io::stdout()),
    };
    let text = match choice {
        anstream::ColorChoice::Never => rendered.to_string(),
        _ => rendered.ansi().to_string(),
    };
    if to_err { write_err(&text) } else { print(&text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_waited_for_stays_on_one_line() {
        for columns in 1..60 {
            for text in [
                "the daemon was stopped; waiting for the next … 7s",
                "…",
                "待つ待つ待つ待つ待つ待つ待つ待つ",
                "",
            ] {
                let shown = fitted(text, columns);
                assert!(shown.width() < columns.max(2), "{columns}: {shown}");
                assert!(text.width() >= columns || shown == text, "{columns}: {shown}");
            }
        }
    }
}
