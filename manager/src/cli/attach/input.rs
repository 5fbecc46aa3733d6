//! The source of what is typed: lines of a terminal or a pipe, or the keys of the whole screen.

use tokio::sync::mpsc::Receiver;

use super::full::Stage;
use super::keyboard::{self, Terminal, Typed};
use super::view::View;
use crate::cli::ui::error::{Failure, Outcome};

/// The source of what is typed.
pub enum Input {
    /// Lines. The terminal is absent for a pipe or a file.
    Lines(Receiver<Typed>, Option<Terminal>),
    /// Keys of the whole screen.
    Screen(Box<Stage>),
}

impl Input {
    /// Of the screen where the conversation has it, else line by line.
    pub fn new(view: &View<'_>, host: Option<&str>) -> Outcome<Self> {
        if view.chat.is_some() {
            let stage = Stage::open(view.ui, host);
            return stage.map(|stage| Self::Screen(Box::new(stage))).map_err(unusable);
        }
        let terminal = Terminal::new();
        Ok(Self::Lines(keyboard::typed(terminal.as_ref()), terminal))
    }

    /// Waits for what is typed next. The screen is drawn meanwhile. `may_type`: a prompt can be sent now.
    pub async fn next(&mut self, view: &mut View<'_>, may_type: bool) -> Option<Typed> {
        match self {
            Self::Lines(typed, _) if may_type => typed.recv().await,
            Self::Lines(..) => std::future::pending().await,
            Self::Screen(stage) => Some(stage.next(view, may_type).await),
        }
    }

    /// Waits for a request of a person at the screen; none comes line by line. `may_type`: a prompt can be kept.
    pub async fn meanwhile(&mut self, view: &mut View<'_>, may_type: bool) -> Typed {
        match self {
            Self::Lines(..) => std::future::pending().await,
            Self::Screen(stage) => stage.next(view, may_type).await,
        }
    }

    /// The screen, if there is one.
    pub fn stage(&mut self) -> Option<&mut Stage> {
        match self {
            Self::Lines(..) => None,
            Self::Screen(stage) => Some(stage),
        }
    }

    /// Stops this process as Ctrl-Z does. The shell has the terminal meanwhile.
    pub fn suspend(&mut self, view: &mut View<'_>) -> Outcome {
        match self {
            Self::Lines(_, terminal) => {
                terminal.iter().for_each(Terminal::give_back);
                keyboard::stop();
                terminal.iter().for_each(Terminal::take);
            }
            Self::Screen(stage) => {
                if !stage.suspend().map_err(unusable)? {
                    view.note("no shell is there that could let this go on: Ctrl-P Ctrl-Q detaches");
                }
            }
        }
        Ok(())
    }

    /// Takes the terminal again: a shell may have set it otherwise while this process was stopped.
    pub fn resume(&self) {
        if let Self::Lines(_, terminal) = self {
            terminal.iter().for_each(Terminal::take);
        }
    }

    /// Gives the terminal back for good. Returns what was typed on the screen and not sent. `asked`: the person has asked for it.
    pub fn end(&mut self, asked: bool) -> Option<String> {
        match self {
            Self::Lines(_, terminal) => {
                *terminal = None;
                None
            }
            Self::Screen(stage) => stage.leave(asked),
        }
    }
}

fn unusable(error: std::io::Error) -> Failure {
    Failure::failed("terminal", format!("the terminal: {error}; the session goes on"))
        .hint("`kennel attach --plain` works line by line")
}
