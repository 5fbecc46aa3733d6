//! The display for people: tables, times, colours, and untrusted text made harmless.

use anstyle::{AnsiColor, Style};
use protocol::api::{ChildInfo, Status};
use protocol::wire::AgentDetails;
use protocol::{Keeper, LimitedBy, Limits, SessionId, SessionName};

use crate::terminal_text::is_tricky;
use crate::terminal_text::push;
use crate::terminal_text::{Colours, Screen};
use crate::units::size;

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

/// Removes every control of a terminal except the colours of [`paint`]. All output passes here once more, so
/// that untrusted text does no harm even where an earlier escape was forgotten.
pub(in crate::cli) fn printed(text: &str) -> String {
    let mut screen = Screen::new(Colours::Pass);
    screen.feed(text) + &screen.rest()
}

/// Returns JSON in which nothing can control a terminal. Outside of plain text JSON has only strings, where
/// any character can be written as an escape.
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

/// A session as people read it: `web (session-7)`, or the id alone where that is all there is.
pub fn session(id: &SessionId, name: Option<&SessionName>) -> String {
    match name.filter(|name| name.as_id() != id) {
        Some(name) => format!("{name} ({id})"),
        None => id.to_string(),
    }
}

/// A sub-agent within an agent.
pub fn child(child: &ChildInfo) -> String {
    let title = child.title.as_deref().unwrap_or(&child.id);
    let state = child.state.as_ref().map(|state| format!(" ({state})")).unwrap_or_default();
    let parent = child.parent.as_ref().map(|parent| format!(", of {parent}")).unwrap_or_default();
    format!("{title}{state}{parent}")
}

/// Returns a session's limits: name, value, and the mechanism that enforces each.
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

/// The ways back into a conversation that an agent offers.
pub fn offers(details: &AgentDetails) -> &'static str {
    match (details.resume, details.load) {
        (true, true) => "resume, load",
        (true, false) => "resume",
        (false, true) => "load",
        (false, false) => "nothing",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::ui::table::Table;
    use crate::terminal_text::is_tricky;

    #[test]
    fn long_texts_are_cut() {
        assert_eq!(short("hello", 5), "hello");
        assert_eq!(short("hello world", 7), "hello…");
    }

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
}
