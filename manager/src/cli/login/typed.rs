//! Lines that a person types into a log-in. A terminal does not show it: it may be a secret, and the log-in's own terminal
//! shows what may be seen.

use std::io::{self, BufRead, IsTerminal};

use protocol::bounds::{LOGIN_INPUT, LOGIN_LINE};
use tokio::sync::mpsc;

/// So often the end of standard input is told. A terminal may tell it again and again: Ctrl-D.
pub const ENDS: u32 = 8;

/// A line that was typed.
pub enum Line {
    /// Its text, without its end.
    Text(String),
    /// Standard input has ended: for good, or for this time if it is a terminal.
    End,
    /// It is too long, or not UTF-8, and nothing of it counts.
    Wrong(&'static str),
}

/// The lines of standard input.
pub struct Typed {
    lines: mpsc::Receiver<Line>,
    /// Standard input is a terminal.
    pub by_person: bool,
}

impl Typed {
    /// Begins to read.
    pub fn new() -> Self {
        let (tell, lines) = mpsc::channel(1);
        // On a thread that ends with the process: nothing ends the reading.
        std::thread::spawn(move || {
            let mut ends = 0;
            while ends < ENDS
                && let Ok(line) = read(io::stdin().lock(), io::stdin().is_terminal())
            {
                ends = if line.is_none() { ends + 1 } else { 0 };
                if tell.blocking_send(line.unwrap_or(Line::End)).is_err() {
                    return;
                }
            }
        });
        Self { lines, by_person: io::stdin().is_terminal() }
    }

    /// The next line; never after the last end of standard input.
    pub async fn next(&mut self) -> Line {
        match self.lines.recv().await {
            Some(line) => line,
            None => std::future::pending().await,
        }
    }
}

/// Reads one line; none at the end. Never holds more than a line may have.
fn read(mut input: impl BufRead, is_terminal: bool) -> io::Result<Option<Line>> {
    let (mut line, mut is_long) = (Vec::new(), false);
    loop {
        let buffer = input.fill_buf()?;
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let count = end.map_or(buffer.len(), |end| end + 1);
        if count == 0 && line.is_empty() {
            return Ok(None);
        }
        // The end of the line is sent, too.
        is_long |= line.len() + count > LOGIN_INPUT;
        if !is_long {
            line.extend_from_slice(&buffer[..count]);
        }
        input.consume(count);
        if end.is_some() || count == 0 {
            break;
        }
    }
    if is_long {
        return Ok(Some(Line::Wrong("a line has at most 16 KiB")));
    }
    if is_terminal && line.trim_ascii_end().len() >= LOGIN_LINE {
        // The terminal here has cut it, or has taken exactly what it may have.
        return Ok(Some(Line::Wrong(
            "a terminal takes less than 4,095 bytes as one line; send it through a pipe",
        )));
    }
    Ok(Some(match String::from_utf8(line) {
        Ok(text) => Line::Text(text.trim_end_matches(['\r', '\n']).to_owned()),
        Err(_) => Line::Wrong("a line is UTF-8"),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_a_bound_and_what_is_too_long_is_left_out() {
        let long = "x".repeat(LOGIN_INPUT);
        let text = format!("one\r\n\n{long}\ntwo");
        let mut input = text.as_bytes();
        let mut lines = Vec::new();
        while let Some(line) = read(&mut input, false).unwrap() {
            lines.push(match line {
                Line::Text(text) => text,
                Line::Wrong(why) => why.to_owned(),
                Line::End => panic!(),
            });
        }
        assert_eq!(lines, ["one", "", "a line has at most 16 KiB", "two"]);
        assert!(matches!(read(&b"\xff\n"[..], false), Ok(Some(Line::Wrong(_)))));
        // A terminal cuts, and says nothing.
        let cut = "x".repeat(LOGIN_LINE) + "\n";
        assert!(matches!(read(cut.as_bytes(), true), Ok(Some(Line::Wrong(_)))));
        assert!(matches!(read(cut.as_bytes(), false), Ok(Some(Line::Text(_)))));
        assert!(matches!(read(&cut.as_bytes()[1..], true), Ok(Some(Line::Text(_)))));
    }
}
