//! The gate in front of a screen: each cell passes here before it reaches the terminal.

use ratatui::buffer::Buffer;

use crate::terminal_text::is_tricky;

/// Makes each cell harmless. Replaces a cell that could drive or deceive the terminal, also where an earlier escape was
/// forgotten. `unicode` is false for a terminal that shows ASCII only.
pub fn make_harmless(buffer: &mut Buffer, unicode: bool) {
    for cell in &mut buffer.content {
        let symbol = cell.symbol();
        if symbol.chars().any(is_tricky) {
            cell.set_symbol("?");
        } else if !unicode && !symbol.is_ascii() {
            cell.set_symbol(ascii(symbol));
        }
    }
}

/// Returns the nearest ASCII character.
fn ascii(symbol: &str) -> &'static str {
    match symbol.chars().next().unwrap_or(' ') {
        '─' | '━' | '═' | '–' | '—' => "-",
        '│' | '┃' | '║' => "|",
        '┌' | '┐' | '└' | '┘' | '├' | '┤' | '┬' | '┴' | '┼' | '╭' | '╮' | '╰' | '╯' | '╞' | '╡' | '╪' => {
            "+"
        }
        '•' | '·' => "*",
        '…' => ".",
        '‘' | '’' => "'",
        '“' | '”' => "\"",
        '\u{a0}' => " ",
        _ => "?",
    }
}

#[cfg(test)]
mod tests {
    use ratatui::layout::Rect;

    use super::*;

    #[test]
    fn no_cell_passes_with_a_character_that_drives_or_deceives() {
        let mut buffer = Buffer::empty(Rect::new(0, 0, 8, 1));
        for (x, symbol) in ["\u{1b}[2J", "a\u{202e}", "\u{9b}", "é", "漢", "", "─"].into_iter().enumerate()
        {
            buffer.content[x].set_symbol(symbol);
        }
        make_harmless(&mut buffer, true);
        let shown: Vec<&str> = buffer.content.iter().map(|cell| cell.symbol()).collect();
        assert_eq!(shown[..5], ["?", "?", "?", "é", "漢"]);
        make_harmless(&mut buffer, false);
        assert!(buffer.content.iter().all(|cell| cell.symbol().is_ascii()));
        assert_eq!(buffer.content[6].symbol(), "-");
    }
}
