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

/// Columns that go no earlier than this one are cut last: a name and a status tell little without their ends.
const LAST: u8 = 1;

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

/// The changes that a narrow terminal may make to a column.
#[derive(Clone, Copy, Debug)]
pub struct Fit {
    /// The column with the highest number goes first. One with 0 stays.
    pub goes: u8,
    /// The least that the column's texts are cut to, in columns of the terminal.
    pub least: usize,
    /// The end of a text says more than its beginning: that is cut.
    pub keeps_end: bool,
}

/// Columns under a heading.
#[derive(Debug)]
pub struct Table {
    head: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
    /// One for each column; none: no column goes, and rows that do not fit become blocks.
    fits: Vec<Fit>,
}

impl Table {
    /// With these headings.
    pub fn new(head: &[&'static str]) -> Self {
        Self { head: head.to_vec(), rows: Vec::new(), fits: Vec::new() }
    }

    /// Where the terminal is narrow, columns are cut, and then go. A row is always one line.
    pub fn fits(self, fits: &[Fit]) -> Self {
        Self { fits: fits.to_vec(), ..self }
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
        if self.fits.len() == widths.len() {
            return self.lines(&self.fitted(widths, columns), colour);
        }
        let (last, gaps) = (widths.pop().unwrap_or(0), 2 * widths.len());
        let left = columns.saturating_sub(widths.iter().sum::<usize>() + gaps);
        if left < last {
            return self.blocks(columns, colour);
        }
        widths.push(last);
        self.lines(&widths, colour)
    }

    /// The widths with which a row fits into so many columns; 0 for a column that has gone. The longest text is cut first, one of a
    /// column that stays longest only after all others, and columns go only where cutting is not enough.
    fn fitted(&self, widths: Vec<usize>, columns: usize) -> Vec<usize> {
        let wide = |widths: &[usize]| {
            let shown = widths.iter().filter(|width| **width > 0);
            shown.clone().sum::<usize>() + 2 * shown.count().saturating_sub(1)
        };
        let mut kept = widths;
        loop {
            let mut cut = kept.clone();
            let spare = |cut: &[usize]| {
                let over = |place: &usize| {
                    cut[*place].saturating_sub(self.fits[*place].least.max(self.head[*place].len()))
                };
                (0..cut.len())
                    .filter(|place| over(place) > 0)
                    .max_by_key(|place| (self.fits[*place].goes > LAST, over(place)))
            };
            while wide(&cut) > columns
                && let Some(place) = spare(&cut)
            {
                cut[place] -= 1;
            }
            let last = (0..kept.len()).filter(|place| kept[*place] > 0 && self.fits[*place].goes > 0);
            match last.max_by_key(|place| self.fits[*place].goes) {
                Some(place) if wide(&cut) > columns => kept[place] = 0,
                _ => {
                    // What is left of a terminal that is narrower than all that stays.
                    let mut left = columns;
                    for width in cut.iter_mut().filter(|width| **width > 0) {
                        *width = (*width).min(left);
                        left = left.saturating_sub(*width + 2);
                    }
                    return cut;
                }
            }
        }
    }

    fn lines(&self, widths: &[usize], colour: bool) -> String {
        let mut out = String::new();
        let head: Vec<Cell> = self.head.iter().map(|text| Cell::styled(*text, BOLD)).collect();
        for row in std::iter::once(&head).chain(&self.rows) {
            let mut blank = 0;
            for (place, (cell, width)) in
                row.iter().zip(widths).enumerate().filter(|(_, (_, width))| **width > 0)
            {
                let text = match self.fits.get(place).is_some_and(|fit| fit.keeps_end) {
                    true => ending(&cell.0, *width),
                    false => within(&cell.0, *width),
                };
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

/// As much of the end of a text as fits into so many columns, with a mark where something is cut.
fn ending(text: &str, columns: usize) -> String {
    if text.width() <= columns {
        return text.to_owned();
    }
    let (mut kept, mut width) = (Vec::new(), 1);
    for c in text.chars().rev() {
        width += c.width().unwrap_or(0);
        if width > columns {
            break;
        }
        kept.push(c);
    }
    let mark = if columns == 0 { "" } else { "…" };
    mark.chars().chain(kept.into_iter().rev()).collect()
}

/// As much of a text as fits into so many columns, with a mark where something is cut.
pub fn within(text: &str, columns: usize) -> String {
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
    fn columns_that_may_go_are_cut_and_go_and_each_row_stays_one_line() {
        let fit = |goes, least, keeps_end| Fit { goes, least, keeps_end };
        let fits = [fit(0, 6, false), fit(1, 6, false), fit(2, 8, true), fit(3, 6, false)];
        let mut list = Table::new(&["NAME", "STATUS", "DIR", "TITLE"]).fits(&fits);
        list.row(vec![
            "web-server".into(),
            "idle".into(),
            "/home/me/src/漢字/web".into(),
            "a title of some length".into(),
        ]);
        list.row(vec!["x".into(), "running".into(), "/".into(), "".into()]);
        assert_eq!(list.text(false, Some(200)), list.text(false, None));
        for columns in 1..90 {
            let text = list.text(false, Some(columns));
            assert_eq!(text.lines().count(), 3, "{columns}: {text}");
            assert!(text.lines().all(|line| line.width() <= columns), "{columns}: {text}");
        }
        let narrow = list.text(false, Some(40));
        assert!(narrow.contains("…") && narrow.contains("字/web") && narrow.contains("TITLE"), "{narrow}");
        assert_eq!(list.text(false, Some(18)), "NAME       STATUS\nweb-serv…  idle\nx          running\n");
        assert_eq!(ending("abc", 0), "");
    }

    #[test]
    fn a_table_is_no_wider_than_the_terminal_and_loses_nothing() {
        let mut list = Table::new(&["ID", "STATUS", "AGENT", "TITLE"]);
        let title = "漢字 a title of more than that";
        list.row(vec!["session-1".into(), "idle".into(), "claude".into(), title.into()]);
        assert_eq!(list.text(false, Some(200)), list.text(false, None));
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
