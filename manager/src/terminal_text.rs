//! Text of agents and other strangers on a terminal and in the log: a [`Screen`] passes, drops or shows colours, and escapes
//! every other control sequence.

/// The longest colour sequence that passes, in bytes.
const MAX_SEQUENCE: usize = 64;

/// Treatment of sequences that only set colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colours {
    /// Colour sequences pass.
    Pass,
    /// Colour sequences are left out.
    Drop,
    /// Colour sequences are escaped, like every other sequence.
    Show,
}

impl Colours {
    /// The treatment for an output with colours, or without.
    pub fn of_output(has: bool) -> Self {
        if has { Self::Pass } else { Self::Drop }
    }
}

/// Makes a stream harmless, cut into pieces anywhere.
#[derive(Debug)]
pub struct Screen {
    colours: Colours,
    /// The beginning of a sequence, or a carriage return whose newline may yet come.
    held: String,
    painted: bool,
}

impl Screen {
    /// A new stream.
    pub fn new(colours: Colours) -> Self {
        Self { colours, held: String::new(), painted: false }
    }

    /// The next piece, harmless.
    pub fn feed(&mut self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        for c in text.chars() {
            self.step(c, &mut out);
        }
        out
    }

    /// Ends the stream: returns the text that was held back, and resets colours that the stream has set.
    pub fn end(&mut self) -> String {
        let mut out = String::new();
        self.release(&mut out);
        if std::mem::take(&mut self.painted) {
            out.push_str("\u{1b}[0m");
        }
        out
    }

    /// Returns the text that was held back, and leaves colours as they are.
    pub fn rest(&mut self) -> String {
        let mut out = String::new();
        self.release(&mut out);
        out
    }

    fn step(&mut self, c: char, out: &mut String) {
        match self.held.as_str() {
            "" => match c {
                '\u{1b}' if self.colours != Colours::Show => self.held.push(c),
                '\r' => self.held.push(c),
                '\n' | '\t' => out.push(c),
                _ => push(out, c),
            },
            // Written over what stands there, text can lie about what was there: it gets a line of its own.
            "\r" => {
                self.held.clear();
                out.push('\n');
                if c != '\n' {
                    self.step(c, out);
                }
            }
            "\u{1b}" if c == '[' => self.held.push(c),
            "\u{1b}" => {
                self.release(out);
                self.step(c, out);
            }
            _ if matches!(c, '0'..='9' | ';' | ':') && self.held.len() < MAX_SEQUENCE => self.held.push(c),
            sequence if c == 'm' && only_colours(&sequence[2..]) => {
                let sequence = std::mem::take(&mut self.held);
                if self.colours == Colours::Pass {
                    self.painted = true;
                    out.push_str(&sequence);
                    out.push('m');
                }
            }
            _ => {
                self.release(out);
                self.step(c, out);
            }
        }
    }

    fn release(&mut self, out: &mut String) {
        let held = std::mem::take(&mut self.held);
        if held == "\r" {
            return out.push('\n');
        }
        for c in held.chars() {
            push(out, c);
        }
    }
}

/// Returns true if these parameters of SGR (ECMA-48, 8.3.117) change colours and weight only, and hide nothing.
fn only_colours(params: &str) -> bool {
    let mut numbers = params.split(';');
    while let Some(number) = numbers.next() {
        let main = number.split(':').next().unwrap_or_default();
        match main.parse::<u8>() {
            // Conceal.
            Ok(8) => return false,
            // A colour out of many: what follows are its own parameters, which may be an 8.
            Ok(38 | 48 | 58) if main.len() == number.len() => match numbers.next() {
                Some("5") => drop(numbers.next()),
                Some("2") => drop(numbers.nth(2)),
                _ => return false,
            },
            Ok(0..=107) => {}
            Err(_) if number.is_empty() => {}
            _ => return false,
        }
    }
    true
}

/// Returns true if a character can drive a terminal or deceive a reader: controls (with ESC, C1 and DEL), marks that turn the
/// direction of writing, line and paragraph separators, and invisible marks.
pub(crate) fn is_tricky(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Appends a character, harmless.
pub(crate) fn push(out: &mut String, c: char) {
    if is_tricky(c) {
        out.extend(c.escape_default());
    } else {
        out.push(c);
    }
}

/// Makes a stranger's text harmless for one entry of the log: escapes control characters and indents its further lines.
pub(crate) fn logged(text: &str) -> String {
    let (body, end) = text.strip_suffix('\n').map_or((text, ""), |body| (body, "\n"));
    let mut screen = Screen::new(Colours::Show);
    let harmless = screen.feed(body) + &screen.end();
    harmless.replace('\n', "\n    ") + end
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let mut whole = Screen::new(Colours::Pass);
        let at_once = whole.feed(text) + &whole.end();
        let mut pieces = Screen::new(Colours::Pass);
        let mut piecewise: String = text.chars().map(|c| pieces.feed(c.encode_utf8(&mut [0; 4]))).collect();
        piecewise += &pieces.end();
        assert_eq!(at_once, piecewise);
        at_once
    }

    #[test]
    fn colours_pass_and_are_ended() {
        for colour in
            ["\u{1b}[m", "\u{1b}[1;31m", "\u{1b}[38;5;8m", "\u{1b}[38;2;8;8;8;1m", "\u{1b}[38:2::8:8:8m"]
        {
            assert_eq!(shown(&format!("{colour}x")), format!("{colour}x\u{1b}[0m"));
        }
        assert_eq!(shown("x"), "x");
        let text = "\u{1b}[1mx\u{1b}[0m\u{1b}[8my";
        assert_eq!(Screen::new(Colours::Show).feed(text), "\\u{1b}[1mx\\u{1b}[0m\\u{1b}[8my");
        assert_eq!(Screen::new(Colours::Drop).feed(text), "x\\u{1b}[8my");
    }

    /// The characters that the web page makes visible, from its source.
    fn of_the_page() -> Vec<std::ops::RangeInclusive<u32>> {
        let source = include_str!("../page/app/text.js");
        let (_, after) = source.split_once("const TRICKY = new RegExp(").unwrap();
        let (class, _) = after.split_once("]',").unwrap();
        let numbers = class.split("\\\\u").skip(1).map(|rest| {
            let digits = match rest.strip_prefix('{') {
                Some(long) => long.split_once('}').unwrap().0,
                None => &rest[..4],
            };
            (
                u32::from_str_radix(digits, 16).unwrap(),
                rest.trim_end_matches(['\n', ' ', '\'', '+']).ends_with('-'),
            )
        });
        let (mut ranges, mut begun) = (Vec::new(), None);
        for (number, goes_on) in numbers {
            match begun.take() {
                Some(first) => ranges.push(first..=number),
                None if goes_on => begun = Some(number),
                None => ranges.push(number..=number),
            }
        }
        ranges
    }

    #[test]
    fn a_terminal_and_the_page_make_the_same_characters_visible() {
        let page = of_the_page();
        assert!(page.len() > 20, "{page:?}");
        for c in '\0'..=char::MAX {
            // Text has lines and tabs, and a plot of dots on a terminal has blanks.
            if !matches!(c, '\n' | '\t' | '\u{2800}') {
                let on_page = page.iter().any(|range| range.contains(&u32::from(c)));
                assert_eq!(is_tricky(c), on_page, "{c:?}");
            }
        }
    }

    #[test]
    fn everything_else_is_shown_and_not_obeyed() {
        for (hostile, harmless) in [
            ("\u{1b}[2J", "\\u{1b}[2J"),
            ("\u{1b}[8mhidden", "\\u{1b}[8mhidden"),
            ("\u{1b}[1;8m", "\\u{1b}[1;8m"),
            ("\u{1b}[38;8m", "\\u{1b}[38;8m"),
            ("\u{1b}[?25l", "\\u{1b}[?25l"),
            ("\u{1b}[6n", "\\u{1b}[6n"),
            ("\u{1b}]52;c;eA==\u{7}", "\\u{1b}]52;c;eA==\\u{7}"),
            ("\u{1b}\u{1b}[31", "\\u{1b}\\u{1b}[31"),
            ("\u{1b}[3\u{1b}c", "\\u{1b}[3\\u{1b}c"),
            ("\u{1b}[999m", "\\u{1b}[999m"),
            ("\u{9b}31m\u{85}", "\\u{9b}31m\\u{85}"),
            ("good\rbad", "good\nbad"),
            ("a\r\nb\r", "a\nb\n"),
            ("\r\r\n", "\n\n"),
        ] {
            assert_eq!(shown(hostile), harmless, "{hostile:?}");
        }
        let long = format!("\u{1b}[{}", "1;".repeat(1000));
        assert!(shown(&long).starts_with("\\u{1b}[1;1;"));
    }

    #[test]
    fn text_in_the_log_begins_no_line_of_its_own() {
        assert_eq!(logged("a\u{1b}[31m\nINFO forged\n"), "a\\u{1b}[31m\n    INFO forged\n");
    }
}
