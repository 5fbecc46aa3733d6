//! Parts of a conversation as a document: Markdown, or HTML that needs nothing beside it.

use super::parts::Part;
use super::text::{end, took, when};
use crate::cli::ui::render::{block, line, output};

/// The form of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Markdown,
    Html,
}

/// The page's own look. It loads nothing and runs nothing.
const HEAD: &str = r#"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width">
<style>
:root { color-scheme: light dark; font: 1rem/1.5 system-ui, sans-serif; }
body { max-width: 50rem; margin: 2rem auto; padding: 0 1rem; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: .5rem 0; font: .875rem/1.5 ui-monospace, monospace; }
.prompt { border-left: .25rem solid #2a6fdb; padding-left: .75rem; font-weight: 600; }
.thought, .note, .end { opacity: .7; }
.stderr, .bad { color: #c0392b; }
.message { font: inherit; }
details { margin: .5rem 0; }
</style>
"#;

impl Form {
    /// The beginning of the document.
    pub fn begin(self, title: &str) -> String {
        match self {
            Self::Markdown => format!("# {}\n", plain(title)),
            Self::Html => format!("{HEAD}<title>{0}</title>\n<h1>{0}</h1>\n", escaped(&line(title))),
        }
    }

    pub fn part(self, part: &Part) -> String {
        match self {
            Self::Markdown => markdown(part),
            Self::Html => html(part),
        }
    }
}

fn heading(part: &Part) -> Option<String> {
    let Part::Prompt { at, prompt_id, turn, .. } = part else { return None };
    let turn = turn.map(|turn| format!("Turn {turn}, ")).unwrap_or_default();
    Some(format!("{turn}{prompt_id}, {}", when(*at)))
}

/// A text in a fence that it does not end itself.
fn fenced(kind: &str, text: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    let newline = if text.ends_with('\n') { "" } else { "\n" };
    format!("\n{fence}{kind}\n{text}{newline}{fence}\n")
}

/// A line that is kennel's, with what somebody else calls something: no markup, no link, no picture.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in line(text).chars() {
        if c.is_ascii_punctuation()
            && !matches!(c, ',' | '.' | ':' | ';' | '/' | '-' | '\'' | '"' | '(' | ')' | '?')
        {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

fn markdown(part: &Part) -> String {
    match part {
        Part::Prompt { text, .. } => {
            let text = block(text.as_deref().unwrap_or("(this prompt was pruned)"));
            let heading = heading(part).unwrap_or_default();
            format!("\n## {heading}\n{}", fenced("", &text))
        }
        Part::Message { text, plain: true, .. } => fenced("", &output(text)),
        // It writes Markdown, and what it says is passed on as it came.
        Part::Message { text, .. } => format!("\n{}\n", output(text)),
        Part::Stderr { text, .. } => fenced("stderr", &output(text)),
        Part::Thought { text, .. } => {
            format!("\n{}", output(text).lines().map(|line| format!("> {line}\n")).collect::<String>())
        }
        Part::Tool { title, status, ms, command, changes, .. } => {
            let mut out = format!("\n- **{}** {} ({})\n", plain(status), plain(title), took(*ms));
            out += &command.as_ref().map(|command| fenced("sh", &block(command))).unwrap_or_default();
            for change in changes {
                out += &format!("\n{}\n", plain(&change.path));
                out += &fenced("diff", &output(change.diff.as_deref().unwrap_or("(too large to show)")));
            }
            out
        }
        Part::Plan { steps, .. } => {
            let step = |(text, status): &(String, String)| {
                format!("- [{}] {}\n", if status == "completed" { 'x' } else { ' ' }, plain(text))
            };
            format!("\n{}", steps.iter().map(step).collect::<String>())
        }
        Part::Permission { title, answer, .. } => {
            format!("\n- **permission** {}: {}\n", plain(title), plain(answer))
        }
        Part::End { .. } => format!("\n*{}*\n", plain(&end(part).0)),
        Part::Told { prompt, reply, .. } => {
            format!("\n*told:*\n{}\n{}\n", fenced("", &block(prompt)), output(reply))
        }
        Part::Note { at, text } => format!("\n*{} {}*\n", when(*at), plain(text)),
    }
}

fn html(part: &Part) -> String {
    let pre = |class: &str, text: &str| format!("<pre class=\"{class}\">{}</pre>\n", escaped(text));
    match part {
        Part::Prompt { text, .. } => {
            let heading = escaped(&heading(part).unwrap_or_default());
            let text = block(text.as_deref().unwrap_or("(this prompt was pruned)"));
            format!("<h2>{heading}</h2>\n{}", pre("prompt", &text))
        }
        Part::Message { text, .. } => pre("message", &output(text)),
        Part::Stderr { text, .. } => pre("stderr", &output(text)),
        Part::Thought { text, .. } => pre("thought", &output(text)),
        Part::Tool { title, status, ms, command, changes, .. } => {
            let class = if matches!(&**status, "failed" | "interrupted") { "bad" } else { "tool" };
            let head = format!(
                "{} <span class=\"{class}\">{}</span> ({})",
                escaped(&line(title)),
                escaped(&line(status)),
                took(*ms)
            );
            let mut inner = command
                .as_ref()
                .map(|command| pre("command", &format!("$ {}", block(command))))
                .unwrap_or_default();
            for change in changes {
                inner += &pre("path", &line(&change.path));
                inner += &pre("diff", &output(change.diff.as_deref().unwrap_or("(too large to show)")));
            }
            match inner.is_empty() {
                true => format!("<p>{head}</p>\n"),
                false => format!("<details open><summary>{head}</summary>\n{inner}</details>\n"),
            }
        }
        Part::Plan { steps, .. } => {
            let step = |(text, status): &(String, String)| {
                format!("<li>{} ({})</li>\n", escaped(&line(text)), escaped(&line(status)))
            };
            format!("<ul>\n{}</ul>\n", steps.iter().map(step).collect::<String>())
        }
        Part::Permission { title, answer, .. } => {
            format!("<p>permission: {}: {}</p>\n", escaped(&line(title)), escaped(&line(answer)))
        }
        Part::End { .. } => {
            let (words, bad) = end(part);
            format!("<p class=\"{}\">{}</p>\n", if bad { "bad" } else { "end" }, escaped(&words))
        }
        Part::Told { prompt, reply, .. } => {
            format!(
                "<p class=\"note\">told:</p>\n{}{}",
                pre("prompt", &block(prompt)),
                pre("message", &output(reply))
            )
        }
        Part::Note { at, text } => format!("<p class=\"note\">{} {}</p>\n", when(*at), escaped(&line(text))),
    }
}

/// Text as HTML has it, between tags and in attributes.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}
