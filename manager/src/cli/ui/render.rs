//! How things look to people: tables, times, colours, and text of strangers made harmless.

use std::time::Duration;

use anstyle::{AnsiColor, Style};
use protocol::api::{ChildInfo, Status};
use protocol::event::Timestamp;
use protocol::{Keeper, LimitedBy, Limits};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::sgr::{Colours, Screen};

/// Something went well.
pub const GREEN: Style = AnsiColor::Green.on_default();
/// Something went wrong.
pub const RED: Style = AnsiColor::Red.on_default().bold();
/// Something is under way.
pub const YELLOW: Style = AnsiColor::Yellow.on_default();
/// Something to be done.
pub const CYAN: Style = AnsiColor::Cyan.on_default();
/// Something beside the matter.
pub const DIM: Style = Style::new().dimmed();
/// Something that stands out.
pub const BOLD: Style = Style::new().bold();

/// The text in this style, if there are colours.
pub fn paint(text: &str, style: Style, colour: bool) -> String {
    if colour { format!("{style}{text}{style:#}") } else { text.to_owned() }
}

/// The colour of a status.
pub fn status_style(status: Status) -> Style {
    match status {
        Status::Idle => GREEN,
        Status::Running | Status::RequiresAction => CYAN,
        Status::Starting | Status::Adopting | Status::Stopping | Status::Restarting => YELLOW,
        Status::Hibernated | Status::Stopped => DIM,
        Status::Failed => RED,
    }
}

/// Whether a character can do more to a terminal, or to a reader's eye, than stand there: controls (ESC, the C1
/// ones and DEL included), marks that turn the direction of writing, line and paragraph separators, and marks
/// that nobody sees.
fn is_tricky(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Appends a character, harmless.
pub(in crate::cli) fn push(out: &mut String, c: char) {
    if is_tricky(c) {
        out.extend(c.escape_default());
    } else {
        out.push(c);
    }
}

/// The text on one line and harmless: white space, newlines included, becomes single spaces, and what could
/// drive a terminal is shown as an escape.
pub fn line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut gap = false;
    for c in text.chars() {
        if matches!(c, ' ' | '\t' | '\n' | '\r') {
            gap = true;
            continue;
        }
        if std::mem::take(&mut gap) && !out.is_empty() {
            out.push(' ');
        }
        push(&mut out, c);
    }
    out
}

/// The text harmless, its newlines and tabs kept. A lone carriage return, which writes over what stands there
/// already, becomes a newline.
pub fn block(text: &str) -> String {
    harmless(text, Colours::Show)
}

/// An agent's output as [`block`], without its colours.
pub fn output(text: &str) -> String {
    harmless(text, Colours::Drop)
}

fn harmless(text: &str, colours: Colours) -> String {
    let mut screen = Screen::new(colours);
    screen.feed(text) + &screen.end()
}

/// What kennel prints, however it was made: of all that could drive a terminal only colours are left, the ones of
/// [`paint`]. All that is printed passes here once more, so that a text of a stranger's that somebody has forgotten to make
/// harmless does no harm.
pub(in crate::cli) fn printed(text: &str) -> String {
    let mut screen = Screen::new(Colours::Pass);
    screen.feed(text) + &screen.rest()
}

/// A stranger's text in a line of a log: it can begin no line of its own.
pub(crate) fn logged(text: &str) -> String {
    let (body, end) = text.strip_suffix('\n').map_or((text, ""), |body| (body, "\n"));
    block(body).replace('\n', "\n    ") + end
}

/// JSON in which nothing can drive a terminal: outside of plain text there are only strings, and there any
/// character can be written as an escape.
pub fn json(text: &str) -> String {
    if !text.chars().any(|c| is_tricky(c) && c != '\n') {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_tricky(c) && c != '\n' {
            for unit in c.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            out.push(c);
        }
    }
    out
}

/// At most so many characters.
pub fn short(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(most.saturating_sub(1)).collect();
    cut.truncate(cut.trim_end().len());
    cut + "…"
}

/// How long ago, in the largest unit that fits.
pub fn age(since: Timestamp, now: u64) -> String {
    let seconds = now.saturating_sub(since.0) / 1000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A point in time, in UTC, to the second.
pub fn time(at: Timestamp) -> String {
    // Years beyond 9999 do not exist for humantime, and a stranger's clock may say anything.
    let bounded = Duration::from_millis(at.0.min(253_402_300_799_999));
    humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + bounded).to_string()
}

/// A duration from the command line: `90s`, `4h`, `1m 30s`, `0`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let parsed = humantime::parse_duration(text)
        .map_err(|error| format!("{error}; write it like `20s`, `4h` or `1m30s`"))?;
    if parsed.as_millis() > u128::from(u32::MAX) * 1000 {
        return Err("that is more than a century".into());
    }
    Ok(parsed)
}

/// A size with its unit.
pub fn size(bytes: u64) -> String {
    const UNITS: [(u32, &str); 5] = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB"), (0, "B")];
    let (shift, unit) = UNITS.into_iter().find(|(shift, _)| bytes >> shift > 0).unwrap_or((0, "B"));
    let tenths = (bytes >> shift.saturating_sub(10)) % 1024 * 10 / 1024;
    match shift {
        0 => format!("{bytes}B"),
        _ if tenths == 0 => format!("{}{unit}", bytes >> shift),
        _ => format!("{}.{tenths}{unit}", bytes >> shift),
    }
}

/// A sub-agent within an agent.
pub fn child(child: &ChildInfo) -> String {
    let title = child.title.as_deref().unwrap_or(&child.id);
    let state = child.state.as_ref().map(|state| format!(" ({state})")).unwrap_or_default();
    let parent = child.parent.as_ref().map(|parent| format!(", of {parent}")).unwrap_or_default();
    format!("{title}{state}{parent}")
}

/// A session's limits: name, value, and what sees to it.
pub fn limits(limits: &Limits, by: Option<&LimitedBy>) -> Vec<(&'static str, String, &'static str)> {
    let keeper = |of: fn(&LimitedBy) -> Option<Keeper>| match by.map(of) {
        None => "not told yet",
        Some(keeper) => keeper.unwrap_or(Keeper::None).name(),
    };
    let cpus = limits.milli_cpus.map(|milli| (f64::from(milli) / 1000.0).to_string());
    let all = [
        ("nice", limits.nice.map(|nice| format!("+{nice}")), keeper(|by| by.nice)),
        ("nofile", limits.nofile.map(|nofile| nofile.to_string()), keeper(|by| by.nofile)),
        ("memory", limits.memory_bytes.map(size), keeper(|by| by.memory)),
        ("pids", limits.pids.map(|pids| pids.to_string()), keeper(|by| by.pids)),
        ("cpus", cpus, keeper(|by| by.cpus)),
    ];
    all.into_iter().filter_map(|(name, value, keeper)| Some((name, value?, keeper))).collect()
}

/// What `session.oom_killed` says.
pub fn out_of_memory(peak_bytes: Option<u64>, limit_bytes: u64, by: Keeper) -> String {
    let had = peak_bytes.map(|peak| format!(": they had {}", size(peak))).unwrap_or_default();
    format!("processes were killed for their memory{had}, the limit is {} ({by})", size(limit_bytes))
}

/// A duration for people.
pub fn duration(ms: u64) -> String {
    humantime::format_duration(Duration::from_millis(ms)).to_string()
}

/// A size for people, in the largest unit of which there is one.
pub fn bytes(bytes: u64) -> String {
    let mut units = ["KiB", "MiB", "GiB", "TiB"].into_iter();
    let Some(mut unit) = units.next().filter(|_| bytes >= 1024) else { return format!("{bytes} B") };
    let mut size = bytes as f64 / 1024.0;
    // What would be written as 1024.0 is one of the next.
    while size >= 1023.95
        && let Some(next) = units.next()
    {
        (size, unit) = (size / 1024.0, next);
    }
    format!("{size:.1} {unit}")
}

/// The most characters of a cell.
const MAX_CELL: usize = 1000;

/// A cell of a table: a text on one line, harmless whoever has written it, and how it is painted.
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
        // What stands below another is moved to the right.
        let indent = text.len() - text.trim_start_matches(' ').len();
        Self(" ".repeat(indent) + &short(&line(text), MAX_CELL), style)
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

    /// As text, a line a row. Where that is wider than the terminal, which has this many columns, each row is some lines:
    /// its first cell, and the others with their headings.
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

/// A text that begins in a column and goes on below it, indented, where the terminal ends.
fn broken(text: &str, from: usize, columns: usize, indent: usize) -> String {
    let mut out = String::new();
    let mut column = from;
    for c in text.chars() {
        let width = c.width().unwrap_or(0);
        if column + width > columns && column > indent {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', indent));
            column = indent;
        }
        out.push(c);
        column += width;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_text_cannot_drive_a_terminal() {
        for (hostile, shown) in [
            ("plain ä 漢 👍🏽", "plain ä 漢 👍🏽"),
            ("a\u{1b}[2Jb", "a\\u{1b}[2Jb"),
            ("\u{1b}]0;title\u{7}", "\\u{1b}]0;title\\u{7}"),
            ("\u{1b}]8;;http://x\u{1b}\\", "\\u{1b}]8;;http://x\\u{1b}\\"),
            ("\u{9b}2J\u{90}\u{9d}", "\\u{9b}2J\\u{90}\\u{9d}"),
            ("a\u{202e}b\u{2066}c\u{200f}", "a\\u{202e}b\\u{2066}c\\u{200f}"),
            ("a\0b\u{8}c\u{7f}", "a\\u{0}b\\u{8}c\\u{7f}"),
            ("a\u{2028}b\u{200b}c\u{e0041}", "a\\u{2028}b\\u{200b}c\\u{e0041}"),
        ] {
            assert_eq!(line(hostile), shown, "{hostile:?}");
            assert_eq!(block(hostile), shown, "{hostile:?}");
        }
        assert_eq!(line(" a\r\n\tb   c\n"), "a b c");
        assert_eq!(block("a\r\n\tb\rc\n"), "a\n\tb\nc\n");
        // Colours are for agents that stream, not for titles.
        assert_eq!(line("\u{1b}[31mred"), "\\u{1b}[31mred");
        assert_eq!(block("\u{1b}[31mred"), "\\u{1b}[31mred");
    }

    #[test]
    fn what_is_printed_has_no_more_than_colours() {
        let painted = paint("red", RED, true);
        assert_eq!(printed(&format!("{painted}\n\tä\n")), format!("{painted}\n\tä\n"));
        for (forgotten, shown) in [
            ("\u{1b}]52;c;aGk=\u{7}", "\\u{1b}]52;c;aGk=\\u{7}"),
            ("\u{1b}[2J\u{1b}[8mhidden", "\\u{1b}[2J\\u{1b}[8mhidden"),
            ("\u{9b}2J\u{202e}\u{1b}", "\\u{9b}2J\\u{202e}\\u{1b}"),
            ("a\rb", "a\nb"),
        ] {
            assert_eq!(printed(forgotten), shown);
        }
        let mut table = Table::new(&["A"]);
        table.row(vec!["  \u{1b}]52;c;aGk=\u{7}\nx\u{ad}".into()]);
        assert_eq!(table.text(false, None), "A\n  \\u{1b}]52;c;aGk=\\u{7} x\\u{ad}\n");
        assert_eq!(logged("a\u{1b}[31m\nINFO forged\n"), "a\\u{1b}[31m\n    INFO forged\n");
    }

    #[test]
    fn json_stays_the_same_json() {
        let value = serde_json::json!({"a": "\u{9b}2J \u{202e} \u{e0041} ä \u{7f}", "b": ["\n", "\u{1b}"]});
        let text = serde_json::to_string(&value).unwrap();
        let safe = json(&text);
        assert!(!safe.chars().any(is_tricky), "{safe}");
        assert!(safe.contains('ä'));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&safe).unwrap(), value);
    }

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
    fn times_and_texts_are_short() {
        let ago = |ms: u64| age(Timestamp(1_000_000_000_000 - ms), 1_000_000_000_000);
        assert_eq!(ago(0), "0s");
        assert_eq!(ago(59_999), "59s");
        assert_eq!(ago(61_000), "1m");
        assert_eq!(ago(7_200_000), "2h");
        assert_eq!(ago(200_000_000), "2d");
        // A clock that was set back.
        assert_eq!(age(Timestamp(2000), 1000), "0s");
        assert_eq!(time(Timestamp(1_769_860_800_000)), "2026-01-31T12:00:00Z");
        assert!(!time(Timestamp(u64::MAX)).is_empty());
        assert_eq!(short("hello", 5), "hello");
        assert_eq!(short("hello world", 7), "hello…");
    }

    #[test]
    fn sizes_have_the_unit_that_fits() {
        for (size, shown) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            ((1 << 20) - 1, "1.0 MiB"),
            (5 << 30, "5.0 GiB"),
            (u64::MAX, "16777216.0 TiB"),
        ] {
            assert_eq!(bytes(size), shown);
        }
    }

    #[test]
    fn durations_are_read_as_people_write_them() {
        assert_eq!(parse_duration("0"), Ok(Duration::ZERO));
        assert_eq!(parse_duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        for wrong in ["", "5", "-1s", "1x", "99999999999y"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
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
