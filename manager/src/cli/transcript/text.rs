//! Parts of a conversation for a terminal.

use protocol::Exit;
use protocol::event::{Outcome, Timestamp};

use super::changes::Change;
use super::parts::Part;
use crate::cli::ui::render::{BOLD, CYAN, DIM, GREEN, RED, block, line, output, paint};
use crate::units;

/// Writes parts, harmless and with colours where there are any.
pub struct Text {
    colour: bool,
    /// Nothing was written yet.
    first: bool,
    /// The last text goes on in the next part of its kind.
    open: bool,
}

impl Text {
    pub fn new(colour: bool) -> Self {
        Self { colour, first: true, open: false }
    }

    pub fn part(&mut self, part: &Part) -> String {
        let said = matches!(part, Part::Message { .. });
        let mut out = String::new();
        if std::mem::replace(&mut self.open, false) && !said {
            out.push('\n');
        }
        if matches!(part, Part::Prompt { .. }) && !self.first {
            out.push('\n');
        }
        self.first = false;
        out += &match part {
            Part::Prompt { at, prompt_id, turn, text } => {
                let turn = turn.map(|turn| format!("turn {turn}, ")).unwrap_or_default();
                let head = paint(&format!("{}  {turn}{prompt_id}", when(*at)), DIM, self.colour);
                let text = text.as_deref().unwrap_or("(this prompt was pruned)");
                let text = block(text).replace('\n', "\n  ");
                format!("{head}\n{}\n", paint(&format!("> {text}"), BOLD, self.colour))
            }
            Part::Message { text, .. } => {
                let text = output(text);
                self.open = !text.is_empty() && !text.ends_with('\n');
                text
            }
            Part::Stderr { text, .. } => {
                let text = output(text);
                text.lines()
                    .map(|line| format!("{}\n", paint(&format!("! {line}"), RED, self.colour)))
                    .collect()
            }
            Part::Thought { text, .. } => {
                let text = output(text);
                let line = |line: &str| format!("{}\n", paint(&format!("~ {line}"), DIM, self.colour));
                text.lines().map(line).collect()
            }
            Part::Tool { title, status, ms, command, changes, .. } => {
                let style = match status.as_str() {
                    "completed" => GREEN,
                    "failed" | "interrupted" => RED,
                    _ => CYAN,
                };
                let status = paint(&format!("[{}]", line(status)), style, self.colour);
                let mut tool = format!("{status} {} ({})\n", line(title), took(*ms));
                if let Some(command) = command {
                    tool += &format!("    $ {}\n", block(command).replace('\n', "\n      "));
                }
                tool + &changes.iter().map(|change| self.change(change)).collect::<String>()
            }
            Part::Plan { steps, .. } => {
                let step = |(text, status): &(String, String)| {
                    let mark = if status == "completed" { 'x' } else { ' ' };
                    format!("  [{mark}] {}\n", line(text))
                };
                format!("{}\n{}", paint("plan", DIM, self.colour), steps.iter().map(step).collect::<String>())
            }
            Part::Permission { title, answer, .. } => {
                format!("{} {}: {}\n", paint("[permission]", CYAN, self.colour), line(title), line(answer))
            }
            Part::End { .. } => {
                let (words, bad) = end(part);
                format!("{}\n", paint(&words, if bad { RED } else { DIM }, self.colour))
            }
            Part::Told { prompt, reply, .. } => {
                let prompt = block(prompt).replace('\n', "\n  ");
                let told = format!("told  > {prompt}\n{}", output(reply).trim_end());
                told.lines().map(|line| format!("{}\n", paint(line, DIM, self.colour))).collect()
            }
            Part::Note { at, text } => {
                format!("{}\n", paint(&format!("{}  {}", when(*at), line(text)), DIM, self.colour))
            }
        };
        out
    }

    /// A question that waits for an answer.
    pub fn waits(&self, asked: &str) -> String {
        format!("{} {}\n", paint("[waits]", CYAN, self.colour), line(asked))
    }

    fn change(&self, change: &Change) -> String {
        let mut out = format!("    {}\n", paint(&line(&change.path), BOLD, self.colour));
        let Some(diff) = &change.diff else { return out + "    (too large to show)\n" };
        for row in output(diff).lines() {
            let row = match row.as_bytes().first() {
                Some(b'+') => paint(row, GREEN, self.colour),
                Some(b'-') => paint(row, RED, self.colour),
                Some(b'@') => paint(row, CYAN, self.colour),
                _ => row.to_owned(),
            };
            out += &format!("    {row}\n");
        }
        out
    }

    /// The text behind the last part.
    pub fn end(&mut self) -> &'static str {
        if std::mem::replace(&mut self.open, false) { "\n" } else { "" }
    }
}

/// The end of a turn in words, and whether it did not go well.
pub fn end(part: &Part) -> (String, bool) {
    let Part::End { outcome, reason, ms, exit, .. } = part else { return (String::new(), false) };
    let failed = exit.filter(|exit| *exit != Exit::Code(0));
    let word = match outcome {
        Some(Outcome::Completed) if failed.is_some() => "failed",
        Some(Outcome::Completed) => "completed",
        Some(Outcome::Aborted) => "aborted",
        Some(Outcome::Interrupted) | None => "interrupted",
    };
    let took = ms.map(|ms| format!(" after {}", took(ms))).unwrap_or_default();
    let why = match failed {
        Some(exit) => format!(": {exit}"),
        None if reason == "end_turn" => String::new(),
        None => format!(": {}", line(reason)),
    };
    (format!("{word}{took}{why}"), word != "completed")
}

/// A time of this machine's clock.
pub fn when(at: Timestamp) -> String {
    units::local(at)
}

/// A duration to the tenth of a second.
pub fn took(ms: u64) -> String {
    match ms {
        0..60_000 => format!("{}.{}s", ms / 1000, ms % 1000 / 100),
        _ => units::duration(ms / 1000 * 1000),
    }
}
