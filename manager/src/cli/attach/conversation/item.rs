//! One item of a conversation, and how its text grows.

use protocol::event::Timestamp;
use protocol::{EventId, PermissionId, PromptId};
use serde_json::Value;

use crate::cli::transcript::changes;
use crate::cli::transcript::parts::Part;

/// From this length on a text is divided at the end of a paragraph, in bytes. Only the last piece is drawn again when it grows.
const LONG: usize = 4 * 1024;
/// The longest piece of a text, in bytes.
pub const LONGEST: usize = 32 * 1024;
/// The bytes of a changed file, before and after, that are kept to be compared.
const COMPARED: usize = 256 * 1024;
/// The bytes that are kept of a tool's output: its end.
const OUTPUT: usize = 16 * 1024;

/// A part of the conversation.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// The position: items are in the order of their numbers.
    pub number: i64,
    /// The event with which the item began.
    pub first: EventId,
    /// The time of that event.
    pub at: Timestamp,
    /// The content.
    pub kind: Kind,
    /// Counts the changes of the content.
    pub revision: u32,
}

/// The content of an item.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// A prompt that the agent works on. Its text is absent if it is not loaded.
    Prompt(PromptId, Option<String>),
    /// A text of the agent.
    Text(Text),
    /// A use of a tool.
    Tool(Tool),
    /// The plan of the turn: each step and its state.
    Plan(Vec<(String, String)>),
    /// A permission that the agent asks for.
    Permission(Permission),
    /// The end of a turn.
    End(Part),
    /// A turn from before the session's own, which its agent knows: prompt and reply.
    Told(String, String),
    /// An event of the session.
    Note(String),
}

/// The source of a text, which decides how it is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The agent's answer, in Markdown.
    Answer,
    /// The output of an agent that is a plain program.
    Output,
    /// The standard error of the agent's program.
    Errors,
    /// The agent's thoughts.
    Thoughts,
}

/// A text, as far as it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Text {
    /// The source.
    pub source: Source,
    /// The text.
    pub text: String,
    /// The text goes on within a block of code that an earlier item began.
    pub in_code: bool,
    /// A carriage return came last: what comes next overwrites the line.
    returned: bool,
    /// The first line overwrote what stood before it.
    overwrites: bool,
}

impl Text {
    /// An empty text.
    pub fn new(source: Source, in_code: bool) -> Self {
        Self { source, text: String::new(), in_code, returned: false, overwrites: false }
    }

    /// Adds what the agent wrote next. A carriage return in a program's output overwrites the line, as progress bars do.
    pub fn write(&mut self, text: &str) {
        if !matches!(self.source, Source::Output | Source::Errors) {
            return self.text.push_str(text);
        }
        for c in text.chars() {
            match c {
                '\r' => {
                    self.returned = true;
                    continue;
                }
                '\n' => {}
                _ if self.returned => self.clear_line(),
                // The sequence that erases a line goes with a carriage return (ECMA-48, EL).
                'K' if self.ends_with_sequence() => continue,
                _ => {}
            }
            self.returned = false;
            self.text.push(c);
        }
    }

    fn clear_line(&mut self) {
        let begin = self.text.rfind('\n').map_or(0, |at| at + 1);
        self.overwrites |= begin == 0;
        self.text.truncate(begin);
    }

    /// Removes the beginning of a sequence that erases.
    fn ends_with_sequence(&mut self) -> bool {
        let begun = ["\u{1b}[", "\u{1b}[0", "\u{1b}[1", "\u{1b}[2"];
        let Some(begun) = begun.into_iter().find(|begun| self.text.ends_with(begun)) else { return false };
        self.text.truncate(self.text.len() - begun.len());
        true
    }

    /// Adds a later text of the same source, which was read without this one.
    pub fn join(&mut self, later: Self) {
        let goes_on = !later.text.is_empty() && !later.text.starts_with('\n');
        if later.overwrites || self.returned && goes_on {
            self.clear_line();
        }
        self.returned = later.returned;
        self.text.push_str(&later.text);
    }

    /// Divides a text that has become long. Returns the rest, which is written on.
    pub fn divide(&mut self) -> Option<Self> {
        if self.text.len() < LONG {
            return None;
        }
        let gap = if self.source == Source::Output { "\n" } else { "\n\n" };
        let paragraph = self.text.rfind(gap).map(|at| at + gap.len());
        let outside = |at: &usize| *at > LONG / 2 && !(self.is_markdown() && self.is_in_code(*at));
        let at = match paragraph.filter(outside) {
            Some(at) => at,
            None if self.text.len() < LONGEST => return None,
            None => {
                let line = self.text[..LONGEST].rfind('\n').map(|at| at + 1).filter(|at| *at > LONGEST / 2);
                line.unwrap_or_else(|| {
                    (0..=LONGEST).rev().find(|at| self.text.is_char_boundary(*at)).unwrap_or(0)
                })
            }
        };
        let in_code = self.is_markdown() && self.is_in_code(at);
        let rest = self.text.split_off(at);
        let returned = std::mem::take(&mut self.returned);
        Some(Self { source: self.source, text: rest, in_code, returned, overwrites: false })
    }

    fn is_markdown(&self) -> bool {
        self.source == Source::Answer
    }

    /// Returns true if a block of code is open there.
    fn is_in_code(&self, at: usize) -> bool {
        let fences = self.text[..at].lines().filter(|line| line.trim_start().starts_with("```")).count();
        self.in_code != (fences % 2 == 1)
    }
}

/// A use of a tool, as far as the agent has told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tool {
    /// The agent's id of it.
    pub id: String,
    /// Its title.
    pub title: Option<String>,
    /// The agent's word, or `interrupted`.
    pub status: Option<String>,
    /// The beginning; absent if it is not loaded.
    pub begun: Option<Timestamp>,
    /// The end; absent while the tool is in use.
    pub ended: Option<Timestamp>,
    /// The command line that it ran.
    pub command: Option<String>,
    /// The changed files, as the agent tells them.
    pub changed: Vec<Value>,
    /// The end of its output.
    pub output: String,
}

impl Tool {
    /// Takes the fields of a message about the tool. Fields that are absent or null stay.
    pub fn told(&mut self, payload: &Value) {
        let word = |name: &str| payload[name].as_str().map(str::to_owned);
        self.title = word("title").or(self.title.take());
        self.status = word("status").or(self.status.take());
        self.command = changes::command(&payload["rawInput"]).or(self.command.take());
        let Some(content) = payload["content"].as_array() else { return };
        (self.changed, self.output) = (Vec::new(), String::new());
        for part in content {
            if part["type"] == "diff" {
                let length = |name: &str| part[name].as_str().map_or(0, str::len);
                self.changed.push(match length("oldText") + length("newText") {
                    ..=COMPARED => part.clone(),
                    _ => serde_json::json!({ "path": part["path"] }),
                });
            } else if let Some(text) = part["content"]["text"].as_str() {
                self.output.push_str(text);
                self.output.push('\n');
            }
        }
        if let Some(cut) = self.output.len().checked_sub(OUTPUT).filter(|cut| *cut > 0) {
            let cut = (cut..self.output.len()).find(|at| self.output.is_char_boundary(*at)).unwrap_or(0);
            self.output.drain(..cut);
        }
    }

    /// The tool is in use no more. `otherwise` is its state if the agent has told none that is an end.
    pub fn end(&mut self, at: Timestamp, otherwise: &str) {
        self.ended = Some(at);
        let told = self.status.take().filter(|status| !matches!(&**status, "pending" | "in_progress"));
        self.status = Some(told.unwrap_or_else(|| otherwise.to_owned()));
    }

    /// Takes over what a later part of the conversation knows of the tool, which was read without this one.
    pub fn join(&mut self, later: Self) {
        self.title = later.title.or(self.title.take());
        self.status = later.status.or(self.status.take());
        self.command = later.command.or(self.command.take());
        self.ended = later.ended;
        if !later.changed.is_empty() || !later.output.is_empty() {
            (self.changed, self.output) = (later.changed, later.output);
        }
    }
}

/// A permission that the agent asks for, and its answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Permission {
    /// The permission's id.
    pub id: PermissionId,
    /// The question; absent if it is not loaded.
    pub title: Option<String>,
    /// Ids and names of its options.
    pub options: Vec<(String, String)>,
    /// The answer in words; absent while it waits.
    pub answer: Option<String>,
    /// The id of the option that was chosen.
    pub chosen: Option<String>,
}

impl Kind {
    /// Bytes that the content takes, about.
    pub fn bytes(&self) -> usize {
        let value =
            |value: &Value| ["oldText", "newText"].map(|name| value[name].as_str().map_or(0, str::len));
        200 + match self {
            Self::Prompt(_, text) => text.as_ref().map_or(0, String::len),
            Self::Text(text) => text.text.len(),
            Self::Tool(tool) => {
                let changed: usize = tool.changed.iter().flat_map(value).sum();
                changed + tool.output.len() + tool.command.as_ref().map_or(0, String::len)
            }
            Self::Plan(steps) => steps.iter().map(|(text, status)| text.len() + status.len()).sum(),
            Self::Permission(permission) => permission.title.as_ref().map_or(0, String::len),
            Self::Told(prompt, reply) => prompt.len() + reply.len(),
            Self::Note(text) => text.len(),
            Self::End(_) => 0,
        }
    }

    /// The text that a search looks through.
    pub fn searched(&self) -> &str {
        match self {
            Self::Prompt(_, text) => text.as_deref().unwrap_or_default(),
            Self::Text(text) => &text.text,
            Self::Tool(tool) => tool.title.as_deref().unwrap_or_default(),
            Self::Permission(permission) => permission.title.as_deref().unwrap_or_default(),
            Self::Told(prompt, _) => prompt,
            Self::Note(text) => text,
            Self::Plan(_) | Self::End(_) => "",
        }
    }
}
