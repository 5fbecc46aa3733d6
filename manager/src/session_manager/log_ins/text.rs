//! The text of a web page, for a terminal.

use crate::terminal_text::is_tricky;

/// The most that is shown of a page, in characters.
const SHOWN: usize = 500;

/// The beginning of a page's text, on one line: no markup, scripts, styles or control characters.
pub fn of_page(page: &str) -> String {
    let mut out = String::new();
    let mut rest = page;
    while !rest.is_empty() && out.len() < 4 * SHOWN {
        let (text, markup) = rest.split_at(rest.find('<').unwrap_or(rest.len()));
        out.push_str(text);
        out.push(' ');
        rest = after_markup(markup);
    }
    let plain = ["&lt;", "<", "&gt;", ">", "&quot;", "\"", "&#39;", "'", "&nbsp;", " ", "&amp;", "&"];
    for pair in plain.chunks(2) {
        out = out.replace(pair[0], pair[1]);
    }
    let words: Vec<&str> = out.split_whitespace().collect();
    words.join(" ").chars().filter(|c| !is_tricky(*c)).take(SHOWN).collect()
}

/// The rest after a tag, a comment, a script or a style.
fn after_markup(markup: &str) -> &str {
    let name: String = markup.chars().skip(1).take_while(char::is_ascii_alphanumeric).collect();
    let end = match name.to_ascii_lowercase().as_str() {
        "" if markup.starts_with("<!--") => "-->",
        "script" => "</script",
        "style" => "</style",
        "title" => "</title",
        _ => return markup.split_once('>').map_or("", |(_, rest)| rest),
    };
    let lower = markup.to_ascii_lowercase();
    let rest = lower.find(end).and_then(|at| markup.get(at + end.len()..)).unwrap_or_default();
    if end == "-->" { rest } else { rest.split_once('>').map_or("", |(_, rest)| rest) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_page_is_what_a_person_reads() {
        let page = "<!DOCTYPE html><html><head><title>T</title><style>b { color: red }</style><!-- <b> --></head>\n\
            <body onload='x'><script>alert(\"1\")</script><h1>Signed in</h1> <p>You &amp; I\u{1b}[2J may\n close this.</p>";
        assert_eq!(of_page(page), "Signed in You & I[2J may close this.");
        assert_eq!(of_page("plain\r\n text"), "plain text");
        for cut in ["<", "<script", "<!--", "a<b", "<style>x", "<\u{e4}>x", "<SCRIPT>\u{130}</script>y"] {
            of_page(cut);
        }
        assert_eq!(of_page(&"x".repeat(100_000)).len(), SHOWN);
        assert!(of_page(&"<a>".repeat(30_000)).is_empty());
    }
}
