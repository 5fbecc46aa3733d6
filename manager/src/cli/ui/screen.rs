//! The whole screen of a terminal, for as long as a command draws on it.

use std::io::{self, Stdout, stdout};

use crossterm::cursor::Show;
use crossterm::event::EventStream;
use crossterm::execute;
use crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};
use ratatui::backend::CrosstermBackend;
use ratatui::layout::{Position, Rect};
use ratatui::{Frame, Terminal};

/// The terminal, taken. Given back as it was when dropped, also when this program panics.
pub struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
    keys: Option<EventStream>,
}

impl Screen {
    /// Takes the terminal.
    pub fn open() -> io::Result<Self> {
        let panics = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            give_back();
            panics(panic);
        }));
        let terminal = Terminal::new(CrosstermBackend::new(stdout()))?;
        let mut screen = Self { terminal, keys: None };
        screen.take()?;
        Ok(screen)
    }

    /// Takes the terminal again, after [`Screen::leave`].
    pub fn take(&mut self) -> io::Result<()> {
        enable_raw_mode()?;
        execute!(stdout(), EnterAlternateScreen)?;
        // Draws everything anew. `clear` would ask the terminal where its cursor is, which some never answer.
        let size = self.terminal.size()?;
        self.terminal.resize(Rect::from((Position::ORIGIN, size)))?;
        self.keys = Some(EventStream::new());
        Ok(())
    }

    /// Gives the terminal back for a while: to another program, or to the shell.
    pub fn leave(&mut self) {
        // Its thread would take what is typed to the other program.
        self.keys = None;
        give_back();
    }

    /// The keys that are pressed, and changes of the terminal's size. None after [`Screen::leave`].
    pub fn keys(&mut self) -> Option<&mut EventStream> {
        self.keys.as_mut()
    }

    /// Draws what has changed.
    pub fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.terminal.draw(draw).map(drop)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.leave();
    }
}

fn give_back() {
    // A terminal that is gone needs nothing.
    let _ = disable_raw_mode();
    let _ = execute!(stdout(), LeaveAlternateScreen, Show);
}
