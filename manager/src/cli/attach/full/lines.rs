//! An item of the conversation as lines of a given width. All text of others becomes harmless here.

use protocol::event::Timestamp;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use serde_json::Value;
use tui_markdown::{Options, StyleSheet};

use super::breaks;
use crate::cli::attach::conversation::{Item, Kind, Permission, Source, Text, Tool};
use crate::cli::transcript::changes::{self, Change};
use crate::cli::transcript::parts::Part;
use crate::cli::transcript::text::{end, took};
use crate::cli::ui::render;
use crate::cli::ui::wrap::wrapped;
use crate::terminal_text::push;

/// The most of a prompt that is drawn, in bytes.
const PROMPT: usize = 16 * 1024;
/// The most lines that are drawn of one change of a file.
const CHANGE: usize = 400;
/// The most steps of a plan that are drawn.
const STEPS: usize = 100;
/// Marks at the beginning of a line beyond which a text is no Markdown for people: each line would carry all of them.
const NESTED: usize = 32;

/// The look of the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// The terminal has colours.
    pub colour: bool,
    /// Tools and thoughts are shown whole.
    pub unfolded: bool,
}

impl Look {
    /// The colour, if there are colours.
    pub fn fg(self, colour: Color) -> Style {
        if self.colour { Style::new().fg(colour) } else { Style::new() }
    }

    /// Returns the style without its colours where there are none.
    fn of(self, style: Style) -> Style {
        match self.colour {
            true => style,
            false => Style { fg: None, bg: None, underline_color: None, ..style },
        }
    }
}

/// Dimmed.
pub fn dim() -> Style {
    Style::new().add_modifier(Modifier::DIM)
}

/// Bold.
pub fn bold() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}

/// Draws an item as lines of this width. The colours of the agent's own are left out.
pub fn lines(item: &Item, width: usize, look: Look) -> Vec<Line<'static>> {
    let mut out = Lines { width, look, all: Vec::new() };
    match &item.kind {
        Kind::Prompt(id, text) => out.prompt(&id.to_string(), text.as_deref()),
        Kind::Text(text) => out.text(text),
        Kind::Tool(tool) => out.tool(tool, item.at),
        Kind::Plan(steps) => out.plan(steps),
        Kind::Permission(permission) => out.permission(permission),
        Kind::End(part) => out.end(part),
        Kind::Told(prompt, reply) => out.told(prompt, reply),
        Kind::Note(text) => out.put(Span::styled(render::line(text), dim()), ""),
    }
    out.all
}

struct Lines {
    width: usize,
    look: Look,
    all: Vec<Line<'static>>,
}

impl Lines {
    /// Adds one line, wrapped. `indent` stands before its further lines.
    fn put(&mut self, text: impl Into<Line<'static>>, indent: &str) {
        self.all.extend(wrapped(&text.into(), self.width, indent));
    }

    /// Adds text with newlines, each line behind `mark`.
    fn block(&mut self, text: &str, mark: &str, style: Style) {
        for line in text.lines() {
            self.put(Span::styled(format!("{mark}{}", tabs(line)), style), &" ".repeat(mark.len()));
        }
    }

    fn prompt(&mut self, id: &str, text: Option<&str>) {
        self.all.push(Line::default());
        let Some(text) = text else {
            return self.put(Span::styled(format!("> ({id}: its text is not loaded)"), bold()), "  ");
        };
        let shown = begin_of(text, PROMPT);
        let harmless = render::block(shown);
        for (at, line) in harmless.lines().enumerate() {
            let mark = if at == 0 { "> " } else { "  " };
            self.put(Span::styled(format!("{mark}{}", tabs(line)), bold()), "  ");
        }
        let rest = text.len() - shown.len();
        if rest > 0 {
            self.put(
                Span::styled(format!("  ({rest} more bytes; `kennel transcript` shows them)"), dim()),
                "  ",
            );
        }
    }

    fn told(&mut self, prompt: &str, reply: &str) {
        self.all.push(Line::default());
        self.block(&render::block(begin_of(prompt, PROMPT)), "told > ", dim());
        self.block(&render::output(begin_of(reply, PROMPT)), "", dim());
        let rest = prompt.len().saturating_sub(PROMPT) + reply.len().saturating_sub(PROMPT);
        if rest > 0 {
            let more = format!("({rest} more bytes; `kennel transcript` shows them)");
            self.put(Span::styled(more, dim()), "");
        }
    }

    fn text(&mut self, text: &Text) {
        let harmless = render::output(&text.text);
        match text.source {
            Source::Answer if is_for_people(&harmless) => self.markdown(&harmless, text.in_code),
            Source::Answer | Source::Output => self.block(&harmless, "", Style::new()),
            Source::Errors => self.block(&harmless, "! ", self.look.fg(Color::Red)),
            Source::Thoughts => self.block(&harmless, "~ ", dim()),
        }
    }

    fn markdown(&mut self, text: &str, in_code: bool) {
        let begun = breaks::kept(&if in_code { format!("```\n{text}") } else { text.to_owned() });
        let width = u16::try_from(self.width).unwrap_or(u16::MAX);
        let drawn = tui_markdown::from_str_with_options(&begun, &Options::new(Sheet).table_width(width));
        let code = self.look.fg(Color::Cyan);
        for line in drawn.lines {
            let own = drawn.style.patch(line.style);
            let spans = line.spans.iter().map(|span| {
                let style = self.look.of(own.patch(span.style));
                // What Markdown writes as a number becomes a character only now.
                Span::styled(tabs(&escaped(&span.content.replace(breaks::BLANK, " "))), style)
            });
            let line = Line::from(spans.collect::<Vec<_>>());
            let indent =
                line.spans.first().map_or(0, |span| span.content.len() - span.content.trim_start().len());
            self.put(line, &" ".repeat(indent.min(self.width / 2)));
        }
        if in_code && let Some(first) = self.all.first_mut() {
            *first = Line::styled("(goes on)", code.patch(dim()));
        }
    }

    fn tool(&mut self, tool: &Tool, began: Timestamp) {
        let status = tool.status.as_deref().unwrap_or("in_progress");
        let style = match status {
            "completed" => self.look.fg(Color::Green),
            "failed" | "interrupted" => self.look.fg(Color::Red).add_modifier(Modifier::BOLD),
            _ => self.look.fg(Color::Yellow),
        };
        let changes = changes_of(&tool.changed);
        let mut spans = vec![
            Span::styled(format!("[{}] ", render::line(status)), style),
            Span::raw(render::line(tool.title.as_deref().unwrap_or(&tool.id))),
        ];
        if let Some(ended) = tool.ended {
            let ms = ended.0.saturating_sub(tool.begun.unwrap_or(began).0);
            spans.push(Span::styled(format!(" ({})", took(ms)), dim()));
        }
        if !changes.is_empty() {
            let (added, removed) = counted(&changes);
            spans.push(Span::styled(format!(" +{added}"), self.look.fg(Color::Green)));
            spans.push(Span::styled(format!(" -{removed}"), self.look.fg(Color::Red)));
        }
        self.put(Line::from(spans), "    ");
        if !self.look.unfolded {
            return;
        }
        if let Some(command) = &tool.command {
            self.block(&render::block(command), "  $ ", Style::new());
        }
        changes.iter().for_each(|change| self.change(change));
        self.block(&render::output(&tool.output), "    ", dim());
    }

    fn change(&mut self, change: &Change) {
        self.put(Span::styled(format!("    {}", render::line(&change.path)), bold()), "      ");
        let Some(diff) = &change.diff else {
            return self.put(Span::styled("    (too large to show)", dim()), "    ");
        };
        let harmless = render::output(diff);
        for row in harmless.lines().take(CHANGE) {
            let style = match row.as_bytes().first() {
                Some(b'+') => self.look.fg(Color::Green),
                Some(b'-') => self.look.fg(Color::Red),
                Some(b'@') => self.look.fg(Color::Cyan),
                _ => Style::new(),
            };
            self.put(Span::styled(format!("    {}", tabs(row)), style), "      ");
        }
        if let Some(more) = harmless.lines().count().checked_sub(CHANGE).filter(|more| *more > 0) {
            self.put(Span::styled(format!("    ({more} more lines)"), dim()), "    ");
        }
    }

    fn plan(&mut self, steps: &[(String, String)]) {
        self.put(Span::styled("plan", dim()), "");
        for (text, status) in steps.iter().take(STEPS) {
            let mark = match status.as_str() {
                "completed" => "x",
                "in_progress" => ">",
                _ => " ",
            };
            self.put(format!("  [{mark}] {}", render::line(text)), "      ");
        }
        if steps.len() > STEPS {
            self.put(Span::styled(format!("  ({} more steps)", steps.len() - STEPS), dim()), "  ");
        }
    }

    fn permission(&mut self, permission: &Permission) {
        let cyan = self.look.fg(Color::Cyan);
        let head = if permission.answer.is_some() { "[permission] " } else { "[asks] " };
        let title = render::block(permission.title.as_deref().unwrap_or("(the question is not loaded)"));
        let mut title = title.lines();
        let first = tabs(title.next().unwrap_or_default());
        self.put(Line::from(vec![Span::styled(head, cyan), Span::raw(first)]), "    ");
        title.for_each(|line| self.put(format!("    {}", tabs(line)), "    "));
        if let Some(answer) = &permission.answer {
            let name = permission.chosen.as_ref().map(|chosen| {
                let known = permission.options.iter().find(|(id, _)| id == chosen);
                known.map_or(chosen, |(_, name)| name).as_str()
            });
            let answer = format!("    {}{}", render::line(name.unwrap_or_default()), answer_of(name, answer));
            self.put(Span::styled(answer, dim()), "    ");
        }
    }

    fn end(&mut self, part: &Part) {
        let (words, bad) = end(part);
        let style = if bad { self.look.fg(Color::Red).add_modifier(Modifier::BOLD) } else { dim() };
        self.put(Span::styled(words, style), "");
    }
}

fn answer_of(name: Option<&str>, answer: &str) -> String {
    if name.is_some() { answer.to_owned() } else { render::line(answer) }
}

/// The style of Markdown, for light terminals and dark ones.
#[derive(Clone)]
struct Sheet;

impl StyleSheet for Sheet {
    fn heading(&self, _: u8) -> Style {
        bold()
    }

    fn code(&self) -> Style {
        Style::new().fg(Color::Cyan)
    }

    fn alert_icon(&self, _: tui_markdown::AlertKind) -> &str {
        ""
    }
}

/// Returns false for a text that is nested deeper than anybody writes.
fn is_for_people(text: &str) -> bool {
    let is_mark =
        |c: &char| matches!(c, '>' | '-' | '*' | '+' | '#' | '[' | '!' | '.' | ')') || c.is_ascii_digit();
    text.lines().all(|line| {
        let marks = line.chars().take_while(|c| is_mark(c) || c.is_whitespace()).filter(is_mark);
        // A line across the page has as many.
        marks.clone().count() <= NESTED || marks.clone().all(|c| c == '-') || marks.clone().all(|c| c == '*')
    })
}

/// The beginning of a text, of so many bytes at most.
pub fn begin_of(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    &text[..end]
}

/// The text harmless, its newlines kept.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\t' => out.push(c),
            _ => push(&mut out, c),
        }
    }
    out
}

/// Tabs as blanks: a screen has no tabs.
fn tabs(line: &str) -> String {
    line.replace('\t', "    ")
}

fn changes_of(changed: &[Value]) -> Vec<Change> {
    let change = |value: &Value| match value["type"].is_null() {
        true => vec![Change { path: value["path"].as_str().unwrap_or_default().to_owned(), diff: None }],
        false => changes::of(&Value::Array(vec![value.clone()])),
    };
    changed.iter().flat_map(change).collect()
}

/// Lines that were added and removed.
fn counted(changes: &[Change]) -> (usize, usize) {
    let diffs = changes.iter().filter_map(|change| change.diff.as_deref());
    let lines: Vec<&str> = diffs.flat_map(str::lines).collect();
    let count = |mark: char| lines.iter().filter(|line| line.starts_with(mark)).count();
    (count('+'), count('-'))
}
