//! The whole screen of a terminal, for as long as a command draws on it.

use std::io::{self, Stdout, Write, stdout};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use crossterm::cursor::Show;
use crossterm::event::{DisableBracketedPaste, EnableBracketedPaste, EventStream};
use crossterm::execute;
use crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};
use ratatui::backend::CrosstermBackend;
use ratatui::layout::Rect;
use ratatui::{Frame, Terminal, TerminalOptions, Viewport};

use super::{cells, has_unicode, size};

/// The largest screen that is drawn, in columns and rows. A terminal can report any size.
const LARGEST: (usize, usize) = (1_000, 500);
/// The size of a terminal that reports none.
const USUAL: (usize, usize) = (80, 24);

/// The terminal, taken. Given back as it was when dropped, also when this program panics.
pub struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
    keys: Option<EventStream>,
    area: Rect,
    unicode: bool,
}

impl Screen {
    /// Takes the terminal.
    pub fn open() -> io::Result<Self> {
        let panics = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            give_back();
            panics(panic);
        }));
        let area = area();
        let options = TerminalOptions { viewport: Viewport::Fixed(area) };
        let terminal = Terminal::with_options(CrosstermBackend::new(stdout()), options)?;
        let mut screen = Self { terminal, keys: None, area, unicode: has_unicode() };
        screen.take()?;
        Ok(screen)
    }

    /// Takes the terminal again, after [`Screen::leave`].
    pub fn take(&mut self) -> io::Result<()> {
        enable_raw_mode()?;
        execute!(stdout(), EnterAlternateScreen, EnableBracketedPaste)?;
        self.redraw()?;
        self.keys = Some(EventStream::new());
        Ok(())
    }

    /// Has everything drawn anew. `clear` would ask the terminal where its cursor is, which some never answer.
    pub fn redraw(&mut self) -> io::Result<()> {
        self.area = area();
        self.terminal.resize(self.area)
    }

    /// Gives the terminal back for a while: to another program, or to the shell.
    pub fn leave(&mut self) {
        // The thread of the keys would take what is typed to the other program. A second sequence that leaves the screen would move
        // the cursor back over what was printed since.
        if self.keys.take().is_some() {
            give_back();
        }
    }

    /// The keys that are pressed, and changes of the terminal's size. None after [`Screen::leave`].
    pub fn keys(&mut self) -> Option<&mut EventStream> {
        self.keys.as_mut()
    }

    /// Draws what has changed. Every cell passes [`cells::make_harmless`].
    pub fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        if area() != self.area {
            self.redraw()?;
        }
        let unicode = self.unicode;
        let drawn = self.terminal.draw(|frame| {
            draw(frame);
            cells::make_harmless(frame.buffer_mut(), unicode);
        });
        drawn.map(drop)
    }

    /// Asks the terminal to put a text into the clipboard (OSC 52). Some terminals refuse without a word.
    pub fn copy(&self, text: &str) -> io::Result<()> {
        let mut out = stdout().lock();
        write!(out, "\u{1b}]52;c;{}\u{7}", STANDARD.encode(text))?;
        out.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.leave();
    }
}

/// The part of the terminal that is drawn.
fn area() -> Rect {
    let (columns, rows) = size(stdout()).unwrap_or(USUAL);
    let bounded = |number: usize, most: usize| u16::try_from(number.min(most)).unwrap_or(u16::MAX);
    Rect::new(0, 0, bounded(columns, LARGEST.0), bounded(rows, LARGEST.1))
}

fn give_back() {
    // A terminal that is gone needs nothing.
    let _ = disable_raw_mode();
    let _ = execute!(stdout(), DisableBracketedPaste, LeaveAlternateScreen, Show);
}
/// The first of these keys that have room in a line, whole.
pub fn fitting(keys: &[&str], width: usize) -> String {
    let mut line = String::new();
    for key in keys {
        let gap = if line.is_empty() { "" } else { "  " };
        if line.len() + gap.len() + key.len() > width {
            break;
        }
        line.extend([gap, key]);
    }
    line
}
