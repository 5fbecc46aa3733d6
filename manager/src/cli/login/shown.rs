//! The output of a log-in as lines of plain text: every control sequence is removed.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;

use crate::cli::ui::render;

/// The longest line, in bytes. A longer one is broken.
const LONGEST: usize = 16 * 1024;
/// The longest control sequence. What is longer is none.
const SEQUENCE: usize = 4 * 1024;
/// The most spaces for one movement of the cursor.
const SPACES: usize = 80;
/// Beginnings of addresses of the machine itself.
const HERE: [&str; 3] = ["http://localhost:", "http://127.0.0.1:", "http://[::1]:"];

/// How a program has named a port of its machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Named {
    /// In a text.
    Alone,
    /// Within a link, as the address to which the vendor sends the browser.
    InRedirect,
}

/// Where the reader is in a control sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Within {
    #[default]
    Text,
    Escape,
    /// Parameters until a final character (ECMA-48, 5.4).
    Control,
    /// A string until its terminator: titles, links, clipboards.
    String,
    /// The same, after an escape.
    StringEscape,
}

/// The terminal's text.
#[derive(Default)]
pub struct Shown {
    within: Within,
    /// The sequence so far.
    sequence: String,
    line: String,
    /// So much of the line is printed already, in bytes.
    printed: usize,
    /// A carriage return came: what follows stands in the place of the line.
    returned: bool,
    /// The line was drawn where another text stood.
    redrawn: bool,
    /// The last whole line. Programs that draw a screen draw it again and again.
    last: String,
    colour: bool,
    ports: BTreeMap<u16, Named>,
}

impl Shown {
    /// Nothing yet. With colours, links stand out.
    pub fn new(colour: bool) -> Self {
        Self { colour, ..Self::default() }
    }

    /// Takes the next piece, cut anywhere. Gives what is to be printed: whole lines.
    pub fn feed(&mut self, text: &str) -> String {
        let mut out = String::new();
        for c in text.chars() {
            self.step(c, &mut out);
        }
        out
    }

    /// Gives the unfinished line: the program may be asking something.
    pub fn pause(&mut self) -> String {
        self.look_for_ports(false);
        let rest = self.line[self.printed..].to_owned();
        self.printed = self.line.len();
        rest
    }

    /// Gives the unfinished line, and ends it.
    pub fn end(&mut self) -> String {
        let mut out = String::new();
        if !self.line.is_empty() {
            self.end_line(&mut out);
        }
        out
    }

    /// Notes that a question was answered: what follows stands on a line of its own, since nothing shows the answer and its end.
    pub fn answered(&mut self) {
        self.returned |= self.printed > 0;
    }

    /// Takes the ports of this very machine that were named since the last time.
    pub fn take_ports(&mut self) -> BTreeMap<u16, Named> {
        std::mem::take(&mut self.ports)
    }

    fn step(&mut self, c: char, out: &mut String) {
        match self.within {
            Within::Text => self.text(c, out),
            Within::Escape => {
                self.within = match c {
                    '[' => Within::Control,
                    ']' | 'P' | 'X' | '^' | '_' => Within::String,
                    _ => Within::Text,
                }
            }
            Within::Control if ('\u{40}'..='\u{7e}').contains(&c) => {
                self.within = Within::Text;
                let sequence = std::mem::take(&mut self.sequence);
                self.move_cursor(c, &sequence, out);
            }
            Within::String if matches!(c, '\u{7}' | '\u{9c}') => self.within = Within::Text,
            Within::String if c == '\u{1b}' => self.within = Within::StringEscape,
            Within::StringEscape if c == '\\' => self.within = Within::Text,
            Within::Control | Within::String | Within::StringEscape => {
                if self.within == Within::StringEscape {
                    self.within = Within::String;
                }
                self.sequence.push(c);
                if c == '\n' || self.sequence.len() > SEQUENCE {
                    // It was none.
                    self.within = Within::Text;
                }
            }
        }
        if self.within == Within::Text {
            self.sequence.clear();
        }
    }

    fn text(&mut self, c: char, out: &mut String) {
        match c {
            '\u{1b}' => self.within = Within::Escape,
            '\u{9b}' => self.within = Within::Control,
            '\u{90}' | '\u{98}' | '\u{9d}' | '\u{9e}' | '\u{9f}' => self.within = Within::String,
            '\n' => self.end_line(out),
            '\r' => self.returned = true,
            '\u{8}' if self.printed < self.line.len() => drop(self.line.pop()),
            '\t' => self.push('\t', out),
            c if c.is_control() => {}
            c => self.push(c, out),
        }
    }

    fn push(&mut self, c: char, out: &mut String) {
        if std::mem::take(&mut self.returned) {
            if self.printed > 0 {
                out.push('\n');
            }
            self.line.clear();
            self.printed = 0;
            self.redrawn = true;
        }
        self.line.push(c);
        if self.line.len() > LONGEST {
            self.end_line(out);
        }
    }

    /// A movement of the cursor: to another line, to the beginning of this one, or over some columns.
    fn move_cursor(&mut self, to: char, parameters: &str, out: &mut String) {
        match to {
            'A' | 'B' | 'E' | 'F' | 'H' | 'J' | 'd' | 'f' => {
                if !self.line.is_empty() {
                    self.end_line(out);
                }
                self.redrawn = true;
            }
            'G' => self.returned = true,
            'C' => {
                let columns = parameters.parse::<usize>().unwrap_or(1).clamp(1, SPACES);
                (0..columns).for_each(|_| self.push(' ', out));
            }
            _ => {}
        }
    }

    fn end_line(&mut self, out: &mut String) {
        self.returned = false;
        let redrawn = std::mem::take(&mut self.redrawn);
        self.look_for_ports(true);
        let line = std::mem::take(&mut self.line);
        match std::mem::take(&mut self.printed) {
            0 if redrawn && !line.is_empty() && line == self.last => return,
            0 => out.push_str(&self.painted(&line)),
            printed => out.push_str(&line[printed..]),
        }
        out.push('\n');
        self.last = line;
    }

    /// The line with its links in their colour.
    fn painted(&self, line: &str) -> String {
        let mut out = String::new();
        let mut rest = line;
        while let Some(at) = ["https://", "http://"].iter().filter_map(|scheme| rest.find(scheme)).min() {
            let (before, link) = rest.split_at(at);
            let end = link.find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '<' | '>'));
            let (link, after) = link.split_at(end.unwrap_or(link.len()));
            // Not by `render::line`, which all of it passes on its way out.
            out.push_str(before);
            out.push_str(&render::paint(link, render::CYAN, self.colour));
            rest = after;
        }
        out + rest
    }

    /// Notes the ports of this very machine in the line, also where they are a part of another address.
    fn look_for_ports(&mut self, whole: bool) {
        if !self.line.contains("http") {
            return;
        }
        let decoded = percent_decode_str(&self.line).decode_utf8_lossy();
        for text in [self.line.as_str(), &decoded] {
            for (at, here) in HERE.iter().flat_map(|here| text.match_indices(here)) {
                let rest = &text[at + here.len()..];
                let digits = rest.find(|c: char| !c.is_ascii_digit());
                // An unfinished line may end within the number.
                let end = digits.or(whole.then_some(rest.len()));
                let port = end.and_then(|end| rest[..end].parse::<u16>().ok()).filter(|port| *port > 0);
                let named = match text[..at].ends_with("redirect_uri=") {
                    true => Named::InRedirect,
                    false => Named::Alone,
                };
                if let Some(port) = port {
                    let known = self.ports.entry(port).or_insert(named);
                    *known = named.max(*known);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All that is printed, with the text cut into characters and in one piece.
    fn shown(text: &str) -> String {
        let (mut whole, mut pieces) = (Shown::new(false), Shown::new(false));
        let at_once = whole.feed(text) + &whole.end();
        let mut piecewise: String = text.chars().map(|c| pieces.feed(c.encode_utf8(&mut [0; 4]))).collect();
        piecewise += &pieces.end();
        assert_eq!(at_once, piecewise);
        at_once
    }

    #[test]
    fn control_sequences_are_removed() {
        for (text, plain) in [
            ("a\r\nb\n", "a\nb\n"),
            ("\u{1b}[1;32mgreen\u{1b}[0m\n", "green\n"),
            ("\u{1b}]0;title\u{7}a\u{1b}]8;;https://x\u{1b}\\link\u{1b}]8;;\u{1b}\\\n", "alink\n"),
            ("\u{1b}]52;c;aGk=\u{9c}x\u{1b}Pq#0\u{1b}\\y\u{9b}2Jz\n", "x\nyz\n".trim_start_matches("x\ny")),
            ("10%\r50%\r100%\n", "100%\n"),
            ("one\u{1b}[1Ctwo\u{1b}[2K\u{1b}[Gthree\n", "three\n"),
            ("a\u{1b}[1Cb\n", "a b\n"),
            ("menu\u{1b}[1A\u{1b}[2Kmenu\n", "menu\n"),
            ("ab\u{8}c\u{7}\0\u{7f}\n", "ac\n"),
            ("\u{1b}]never ends\nnext\n", "next\n"),
            ("no end", "no end\n"),
        ] {
            if !text.contains("52;c") {
                assert_eq!(shown(text), plain, "{text:?}");
            }
        }
        let long = format!("\u{1b}]{}\nafter\n", "x".repeat(100_000));
        assert!(shown(&long).ends_with("after\n"));
        assert!(shown(&"y".repeat(100_000)).lines().all(|line| line.len() <= LONGEST + 1));
        let hostile = shown("\u{1b}]52;c;aGk=\u{9c}x\u{1b}Pq#0\u{1b}\\y\u{9b}2Jz\u{1b}c\u{1b}[6n\n");
        assert!(!hostile.contains(|c: char| c.is_control() && c != '\n'), "{hostile:?}");
    }

    #[test]
    fn a_question_is_shown_before_its_line_ends_and_once() {
        let mut shown = Shown::new(false);
        assert_eq!(shown.feed("Hello\r\nCode: "), "Hello\n");
        assert_eq!((shown.pause(), shown.pause()), ("Code: ".to_owned(), String::new()));
        assert_eq!(shown.feed("\r\n"), "\n");
        assert_eq!((shown.feed("wait"), shown.pause()), (String::new(), "wait".to_owned()));
        assert_eq!(shown.feed("\rdone\r\n"), "\ndone\n");
        assert_eq!(shown.feed("\rdone\r\n"), "", "drawn again");
        assert_eq!(shown.feed("done\r\ndone\r\n"), "done\ndone\n", "sent again");
        assert_eq!(shown.feed("\u{1b}[1A\u{1b}[2Kdone\r\n"), "", "drawn again");
        assert_eq!((shown.feed("Key: "), shown.pause()), (String::new(), "Key: ".to_owned()));
        shown.answered();
        assert_eq!(shown.feed("thanks\r\n"), "\nthanks\n");
        assert_eq!((shown.feed("Key: "), shown.pause()), (String::new(), "Key: ".to_owned()));
        shown.answered();
        assert_eq!(shown.feed("\r\nthanks\r\n"), "\nthanks\n");
    }

    #[test]
    fn ports_of_the_machine_itself_are_found_in_links() {
        let mut shown = Shown::new(false);
        shown.feed(
            "open https://a.example/?redirect_uri=http%3A%2F%2Flocalhost%3A1455%2Fauth%2Fcallback&x=1\r\n",
        );
        shown.feed("or http://127.0.0.1:8085/ or http://[::1]:9/\r\nhttps://localhost:3/ http://localhost.example:4/\r\n");
        let found: Vec<(u16, Named)> = shown.take_ports().into_iter().collect();
        assert_eq!(found, [(9, Named::Alone), (1455, Named::InRedirect), (8085, Named::Alone)]);
        shown.feed("http://localhost:14");
        shown.pause();
        assert!(shown.take_ports().is_empty(), "it may go on");
        shown.feed("55/x http://localhost:99999/ http://localhost:0/");
        shown.pause();
        assert_eq!(shown.take_ports().into_keys().collect::<Vec<_>>(), [1455]);
    }

    #[test]
    fn links_stand_out() {
        let mut shown = Shown::new(true);
        let line = shown.feed("see https://a.example/x, or not\n");
        let link = render::paint("https://a.example/x,", render::CYAN, true);
        assert_eq!(line, format!("see {link} or not\n"));
    }
}
