//! The list of keys on a whole screen, which can be read to its end.

use crossterm::event::KeyCode;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::widgets::{Paragraph, Widget};

use super::wrap::wrapped;

/// Draws the list from line `from` on. Returns the line from which on all the rest is on the screen.
pub fn draw(buffer: &mut Buffer, area: Rect, list: &str, from: usize) -> usize {
    let lines = list.lines().flat_map(|line| wrapped(&Line::from(line), usize::from(area.width), "      "));
    let lines: Vec<_> = lines.collect();
    let last = lines.len().saturating_sub(usize::from(area.height));
    Paragraph::new(lines.into_iter().skip(from.min(last)).collect::<Vec<_>>()).render(area, buffer);
    last
}

/// The line from which on the list is shown after a key; none if the key ends it. `page` is the number of lines that a page has.
pub fn after(key: KeyCode, page: usize, from: usize) -> Option<usize> {
    match key {
        KeyCode::Up => Some(from.saturating_sub(1)),
        KeyCode::Down => Some(from + 1),
        KeyCode::PageUp => Some(from.saturating_sub(page)),
        KeyCode::PageDown => Some(from + page),
        _ => None,
    }
}
