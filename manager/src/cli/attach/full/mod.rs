//! `attach` on the whole screen: the conversation, what waits, and the prompt that is typed. Another face over the same
//! [`View`]: keys become [`Typed`] here, and the rest of `attach` does not know which face there is.

mod breaks;
mod draw;
mod editor;
mod face;
mod keys;
mod lines;
mod scroll;
#[cfg(test)]
mod tests;

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use rustix::termios::{QueueSelector, tcflush};
use tokio::time::{Instant, sleep_until};

use self::face::{Act, Face};
use super::keyboard::{self, Typed};
use super::view::View;
use crate::cli::ui::Ui;
use crate::cli::ui::screen::Screen;

/// The least time between two drawings: all that happens meanwhile is drawn together.
const FRAME: Duration = Duration::from_millis(16);

/// The terminal, and the state of its screen.
pub struct Stage {
    screen: Screen,
    face: Face,
    drawn: Option<Instant>,
    is_stale: bool,
    /// True while the screen is drawn on: nothing else is written meanwhile.
    is_taken: Arc<AtomicBool>,
}

impl Stage {
    /// Takes the terminal.
    pub fn open(ui: &Ui, host: Option<&str>) -> io::Result<Self> {
        let (screen, face, is_taken) = (Screen::open()?, Face::new(ui.out_colour, host), ui.drawn.clone());
        is_taken.store(true, Ordering::Relaxed);
        Ok(Self { screen, face, drawn: None, is_stale: true, is_taken })
    }

    /// The state of the screen.
    pub fn face(&mut self) -> &mut Face {
        &mut self.face
    }

    /// Draws what has changed, and waits for what the person wants of the rest of `attach`. `may_type`: a prompt can be sent now.
    /// Safe to cancel; what has changed since is drawn by the next call.
    pub async fn next(&mut self, view: &mut View<'_>, may_type: bool) -> Typed {
        self.is_stale = true;
        loop {
            let due = self.drawn.map(|drawn| drawn + FRAME).filter(|due| *due > Instant::now());
            if self.is_stale && due.is_none() {
                if self.screen.draw(|frame| draw::draw(frame, &mut self.face, view)).is_err() {
                    return Typed::Detach;
                }
                (self.drawn, self.is_stale) = (Some(Instant::now()), false);
            }
            let Some(keys) = self.screen.keys() else { return Typed::Detach };
            let event = tokio::select! {
                event = keys.next() => event,
                () = sleep_until(due.unwrap_or_else(Instant::now)), if self.is_stale => continue,
            };
            let event = match event {
                Some(Ok(event)) => event,
                // A reader of before has ended.
                Some(Err(error)) if error.kind() == ErrorKind::Interrupted => continue,
                // The terminal is gone.
                Some(Err(_)) | None => return Typed::Detach,
            };
            self.is_stale = true;
            match keys::act_on(&mut self.face, view, &event, may_type) {
                Act::Nothing => {}
                Act::Say(typed) => return typed,
                // A terminal that is gone is found by what is drawn next.
                Act::Copy(text) => drop(self.screen.copy(&text)),
                Act::Redraw => drop(self.screen.redraw()),
            }
        }
    }

    /// Gives the terminal back for as long as this process is stopped. Returns false if no shell can let it go on: then it was not.
    pub fn suspend(&mut self) -> io::Result<bool> {
        self.screen.leave();
        let was_stopped = keyboard::stop();
        self.screen.take()?;
        Ok(was_stopped)
    }

    /// Gives the terminal back. Returns what was typed and not sent, the first time. `asked`: the person has asked for it. Else keys
    /// that are on their way are dropped: a shell would run them.
    pub fn leave(&mut self, asked: bool) -> Option<String> {
        let was_taken = self.is_taken.swap(false, Ordering::Relaxed);
        if was_taken && !asked {
            // A terminal that is gone has none.
            let _ = tcflush(io::stdin(), QueueSelector::IFlush);
        }
        self.screen.leave();
        Some(self.face.editor.unsent()).filter(|text| was_taken && !text.is_empty())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.leave(false);
    }
}
