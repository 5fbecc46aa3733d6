//! Tables that fit into a terminal.

use anstyle::Style;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::cli::ui::render;
use crate::cli::ui::render::BOLD;
use crate::cli::ui::render::DIM;
use crate::cli::ui::render::paint;
use crate::cli::ui::render::short;

/// The most characters of a cell.
const MAX_CELL: usize = 1000;

/// Names and values, one a line.
pub fn pairs(facts: &[(&str, String)], colour: bool) -> String {
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + 2;
    let line = |(name, value): &(&str, String)| {
        let name = format!("{:width$}", format!("{name}:"));
        format!("{}{}\n", paint(&name, DIM, colour), render::line(value))
    };
    facts.iter().map(line).collect()
}

/// A cell of a table: one line of text, made harmless, and its style.
#[derive(Clone, Debug)]
pub struct Cell(String, Style);

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::styled(text, Style::new())
    }
}

impl Cell {
    /// In this style.
    pub fn styled(text: impl AsRef<str>, style: Style) -> Self {
        let text = text.as_ref();
        // Leading spaces indent a row below its parent, and stay.
        let indent = text.len() - text.trim_start_matches(' ').len();
        Self(" ".repeat(indent) + &short(&render::line(text), MAX_CELL), style)
    }
}

/// The least that is left of a text in the last column that is cut, in columns of the terminal.
const LEAST: usize = 12;

/// Columns under a heading.
#[derive(Debug)]
pub struct Table {
    head: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
    cuts_last: bool,
}

impl Table {
    /// With these headings.
    pub fn new(head: &[&'static str]) -> Self {
        Self { head: head.to_vec(), rows: Vec::new(), cuts_last: false }
    }

    /// The last column may be cut where the terminal is narrow.
    pub fn cuts_last(self) -> Self {
        Self { cuts_last: true, ..self }
    }

    /// One more row.
    pub fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// Returns the table as text, one line a row. A row wider than the terminal, in columns, becomes several
    /// lines: its first cell, then the others with their headings.
    pub fn text(&self, colour: bool, columns: Option<usize>) -> String {
        let mut widths: Vec<usize> = (0..self.head.len())
            .map(|column| {
                let cells = self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.0.width());
                cells.chain([self.head[column].width()]).max().unwrap_or(0)
            })
            .collect();
        let Some(columns) = columns else { return self.lines(&widths, colour) };
        let (last, gaps) = (widths.pop().unwrap_or(0), 2 * widths.len());
        let left = columns.saturating_sub(widths.iter().sum::<usize>() + gaps);
        let least = if self.cuts_last { last.min(LEAST) } else { last };
        if left < least {
            return self.blocks(columns, colour);
        }
        widths.push(last.min(left));
        self.lines(&widths, colour)
    }

    fn lines(&self, widths: &[usize], colour: bool) -> String {
        let mut out = String::new();
        let head: Vec<Cell> = self.head.iter().map(|text| Cell::styled(*text, BOLD)).collect();
        for row in std::iter::once(&head).chain(&self.rows) {
            let mut blank = 0;
            for (cell, width) in row.iter().zip(widths) {
                let text = within(&cell.0, *width);
                if !text.is_empty() {
                    out.extend(std::iter::repeat_n(' ', blank));
                    blank = 0;
                    out.push_str(&paint(&text, cell.1, colour && cell.1 != Style::new()));
                }
                blank += width.saturating_sub(text.width()) + 2;
            }
            out.push('\n');
        }
        out
    }

    /// Each row as a block: the first cell, and below it the others with their headings, wrapped.
    fn blocks(&self, columns: usize, colour: bool) -> String {
        let mut out = String::new();
        for row in &self.rows {
            let mut column = 0;
            for (place, (cell, head)) in row.iter().zip(&self.head).enumerate() {
                let name = format!("{} ", head.to_lowercase());
                let (name, indent) = if place == 0 { (String::new(), 0) } else { (name, 2) };
                if cell.0.is_empty() {
                    continue;
                }
                let width = name.width() + cell.0.width();
                let gap = if column == 0 || column + 2 + width > columns { None } else { Some(2) };
                match gap.filter(|_| place > 1) {
                    Some(gap) => {
                        out.extend(std::iter::repeat_n(' ', gap));
                        column += gap;
                    }
                    None => {
                        out.push_str(if place == 0 { "" } else { "\n" });
                        out.extend(std::iter::repeat_n(' ', indent));
                        column = indent;
                    }
                }
                out.push_str(&paint(&name, DIM, colour && !name.is_empty()));
                column += name.width();
                let broken = broken(&cell.0, column, columns, indent + 2);
                out.push_str(&paint(&broken, cell.1, colour && cell.1 != Style::new()));
                column = match broken.rsplit_once('\n') {
                    Some((_, last)) => last.width(),
                    None => column + broken.width(),
                };
            }
            out.push('\n');
        }
        out
    }
}

/// As much of a text as fits into so many columns, with a mark where something is cut.
fn within(text: &str, columns: usize) -> String {
    if text.width() <= columns {
        return text.to_owned();
    }
    let mut kept = String::new();
    for c in text.chars() {
        if kept.width() + c.width().unwrap_or(0) + 1 > columns {
            break;
        }
        kept.push(c);
    }
    kept + "…"
}

/// A text that begins in a column and goes on below it, indented, where the terminal ends. Lines end between words; a word that
/// is longer than a line is broken.
pub fn broken(text: &str, from: usize, columns: usize, indent: usize) -> String {
    let mut out = String::new();
    let mut column = from;
    let next_line = |out: &mut String| {
        out.truncate(out.trim_end_matches(' ').len());
        out.push('\n');
        out.extend(std::iter::repeat_n(' ', indent));
        indent
    };
    for word in text.split_inclusive(' ') {
        let width = word.trim_end_matches(' ').width();
        if column + width > columns && column > indent && indent + width <= columns {
            column = next_line(&mut out);
        }
        for c in word.chars() {
            let width = c.width().unwrap_or(0);
            if column + width > columns && column > indent {
                if c == ' ' {
                    continue;
                }
                column = next_line(&mut out);
            }
            out.push(c);
            column += width;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::ui::render::{GREEN, RED};

    #[test]
    fn tables_align_and_end_without_blanks() {
        let mut table = Table::new(&["ID", "N", "TITLE"]);
        table.row(vec!["session-1".into(), "7".into(), "漢字".into()]);
        table.row(vec!["x".into(), Cell::styled("", RED), "".into()]);
        table.row(vec!["y".into(), "".into(), Cell::styled("t", GREEN)]);
        assert_eq!(table.text(false, None), "ID         N  TITLE\nsession-1  7  漢字\nx\ny             t\n");
        assert!(table.text(true, None).contains("\u{1b}[32mt\u{1b}[0m"));
    }

    #[test]
    fn lines_end_between_words_and_only_a_long_word_is_broken() {
        assert_eq!(broken("one two three", 0, 8, 2), "one two\n  three");
        assert_eq!(broken("one", 7, 8, 2), "\n  one");
        assert_eq!(broken("a 123456789", 0, 6, 2), "a 1234\n  5678\n  9");
        assert_eq!(broken("one two", 0, 80, 2), "one two");
    }

    #[test]
    fn a_table_is_no_wider_than_the_terminal_and_loses_nothing_but_what_may_be_cut() {
        let mut list = Table::new(&["ID", "STATUS", "AGENT", "TITLE"]).cuts_last();
        list.row(vec![
            "session-1".into(),
            "idle".into(),
            "claude".into(),
            "漢字 a title of more than that".into(),
        ]);
        assert_eq!(list.text(false, Some(200)), list.text(false, None));
        let narrow = "ID         STATUS  AGENT   TITLE\nsession-1  idle    claude  漢字 a title…\n";
        assert_eq!(list.text(false, Some(40)), narrow);
        assert!(
            list.text(false, Some(30)).starts_with("session-1\n  status idle  agent claude\n  title 漢字 a")
        );
        let mut files = Table::new(&["SIZE", "FILE", "OF"]);
        files.row(vec!["12 MB".into(), format!("worktrees/{}", "x".repeat(50)).into(), "one".into()]);
        for columns in 12..90 {
            let text = files.text(true, Some(columns));
            let plain = text.replace("\u{1b}[2m", "").replace("\u{1b}[1m", "").replace("\u{1b}[0m", "");
            assert!(plain.lines().all(|line| line.width() <= columns), "{columns}: {plain}");
            assert_eq!(plain.matches('x').count(), 50, "{columns}: {plain}");
        }
    }
}
