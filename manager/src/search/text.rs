//! Texts as they are indexed: without control sequences, and in pieces of bounded size.

use protocol::command;
use serde_json::Value;

/// The most bytes of one text.
pub const PIECE: usize = 64 * 1024;
/// The most bytes of a tool's command line, and of its output.
pub const TOOL: usize = 16 * 1024;

/// The text without the control sequences of terminals (ECMA-48): `\x1b[31mred` is the word `red`. NUL bytes, at which SQLite would
/// end a text, become U+FFFD.
pub fn plain(text: &str) -> String {
    if !text.contains(['\u{1b}', '\0']) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\0' => out.push('\u{fffd}'),
            '\u{1b}' => match rest.next_if(|c| matches!(c, '[' | ']' | 'P' | '_' | '^' | 'X')) {
                Some('[') => {
                    while rest.next_if(|c| matches!(c, ' '..='?')).is_some() {}
                    rest.next_if(|c| matches!(c, '@'..='~'));
                }
                Some(_) => skip_string(&mut rest),
                None => {}
            },
            c => out.push(c),
        }
    }
    out
}

/// Skips a string to its end (BEL, or ESC and a backslash). One without an end goes to the end of its line.
fn skip_string(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    while let Some(c) = rest.next_if(|c| *c != '\n') {
        if c == '\u{7}' {
            return;
        }
        if c == '\u{1b}' {
            rest.next_if(|c| *c == '\\');
            return;
        }
    }
}

/// The beginning of a text that has room, and the rest. If there is a rest, the beginning ends between words where that is near.
pub fn split(text: &str, room: usize) -> (&str, &str) {
    if text.len() <= room {
        return (text, "");
    }
    let end = (0..=room).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let near = text[..end].char_indices().rev().take_while(|(at, _)| at + 256 > end);
    let gap = near.into_iter().find(|(_, c)| c.is_whitespace()).map(|(at, c)| at + c.len_utf8());
    text.split_at(gap.unwrap_or(end))
}

/// A text of at most so many bytes.
pub fn bounded(text: &str, most: usize) -> &str {
    split(text, most).0
}

/// The command line in what a tool was given.
pub fn command(input: &Value) -> Option<String> {
    Some(bounded(&command::line(input)?, TOOL).to_owned())
}

/// The text of what a tool has put out: texts, and files with what they hold now.
pub fn output(content: &Value) -> Option<String> {
    let items = content.as_array()?;
    let mut out = String::new();
    let mut add = |text: Option<&str>| {
        let Some(text) = text.filter(|text| !text.is_empty() && out.len() < TOOL) else { return };
        if !out.is_empty() {
            out.push('\n');
        }
        out.push_str(bounded(text, TOOL - out.len().min(TOOL)));
    };
    for item in items {
        match item["type"].as_str() {
            Some("content") => add(item["content"]["text"].as_str()),
            Some("diff") => {
                add(item["path"].as_str());
                add(item["newText"].as_str());
            }
            _ => {}
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn control_sequences_are_no_part_of_words() {
        for (text, shown) in [
            ("plain", "plain"),
            ("\u{1b}[31mred\u{1b}[0m!", "red!"),
            ("\u{1b}]0;title\u{7}a\u{1b}]8;;http://x\u{1b}\\b", "ab"),
            ("a\u{1b}]0;without an end\nb", "a\nb"),
            ("a\0b\u{1b}", "a\u{fffd}b"),
            ("a\u{1b}[31", "a"),
            ("a\u{1b}[\u{202e}b", "a\u{202e}b"),
            ("\u{1b}ca", "ca"),
        ] {
            assert_eq!(plain(text), shown, "{text:?}");
        }
    }

    #[test]
    fn a_text_is_split_between_characters_and_where_it_can_be_between_words() {
        assert_eq!(split("one two", 7), ("one two", ""));
        assert_eq!(split("one two", 6), ("one ", "two"));
        assert_eq!(split("äöü", 3), ("ä", "öü"));
        assert_eq!(split("ä", 1), ("", "ä"));
        assert_eq!(split("a\u{3000}bcd", 5), ("a\u{3000}", "bcd"));
        for room in 0..20 {
            let (before, rest) = split("ein 漢字 und ein Wörtlein", room);
            assert_eq!(format!("{before}{rest}"), "ein 漢字 und ein Wörtlein");
            assert!(before.len() <= room);
        }
    }

    #[test]
    fn a_tools_output_is_bounded_whatever_its_shape() {
        let long = "x".repeat(TOOL * 2);
        let content = json!([{ "type": "content", "content": { "type": "text", "text": "hello" } },
            { "type": "diff", "path": "/a", "oldText": "old", "newText": long }, { "type": "terminal" }, 3, null]);
        let text = output(&content).unwrap();
        assert!(text.starts_with("hello\n/a\nxxx") && text.len() <= TOOL + 1 && !text.contains("old"));
        for shape in [json!(null), json!("x"), json!({})] {
            assert_eq!(output(&shape), None);
        }
        assert_eq!(output(&json!([])), Some(String::new()));
        assert_eq!(command(&json!({ "command": ["ls", 3, "-l"] })).as_deref(), Some("ls 3 -l"));
        assert_eq!(command(&json!([])), None);
    }
}
