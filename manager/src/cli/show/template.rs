//! Templates of `ls --format`: text with fields of a session in braces.

use protocol::api::SessionInfo;
use serde_json::Value;
use utoipa::PartialSchema;
use utoipa::openapi::{RefOr, Schema};

use crate::cli::ui::error::{Failure, Outcome};
use crate::cli::ui::render;

/// A template that was read.
pub struct Template(Vec<Piece>);

enum Piece {
    Text(String),
    /// The path of a field: `name`, `labels.team`, `needs.0.kind`.
    Field(String),
}

impl Template {
    /// Reads a template. A `{` without `}` is text.
    ///
    /// # Errors
    /// A name in braces is no field of a session.
    pub fn read(text: &str) -> Outcome<Self> {
        let known = fields();
        let text = text.replace("\\t", "\t").replace("\\n", "\n");
        let (mut pieces, mut rest) = (Vec::new(), text.as_str());
        while let Some((before, field, after)) = next(rest) {
            let first = field.split('.').next().unwrap_or_default();
            if !known.iter().any(|known| known == first) {
                let shown = render::short(&render::line(field), 80);
                let failure = Failure::usage(format!("`--format`: a session has no field `{shown}`"));
                return Err(failure.hint(format!("fields are {}", known.join(", "))));
            }
            pieces.extend([Piece::Text(before.to_owned()), Piece::Field(field.to_owned())]);
            rest = after;
        }
        pieces.push(Piece::Text(rest.to_owned()));
        Ok(Self(pieces))
    }

    /// The line of a session. A field that the session does not have is empty.
    pub fn line(&self, session: &Value) -> String {
        let piece = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Field(path) => match at(session, path) {
                None | Some(Value::Null) => String::new(),
                Some(Value::String(text)) => render::line(text),
                Some(value) => render::json(&value.to_string()),
            },
        };
        self.0.iter().map(piece).collect::<String>() + "\n"
    }
}

/// The text before the next field, the field, and the text after it.
fn next(text: &str) -> Option<(&str, &str, &str)> {
    let (before, after) = text.split_once('{')?;
    let (field, rest) = after.split_once('}')?;
    Some((before, field, rest))
}

/// The value at a path. A name may have dots, as a label may: the whole name goes before its parts.
fn at<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    let item = |name: &str| value.get(name).or_else(|| value.get(name.parse::<usize>().ok()?));
    item(path).or_else(|| {
        let (name, rest) = path.split_once('.')?;
        at(item(name)?, rest)
    })
}

/// The names of a session's fields, as the description of the API has them.
fn fields() -> Vec<String> {
    match SessionInfo::schema() {
        RefOr::T(Schema::Object(object)) => object.properties.keys().cloned().collect(),
        RefOr::T(_) | RefOr::Ref(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::session;
    use super::*;

    #[test]
    fn a_template_takes_fields_and_leaves_the_rest() {
        let labels = [("team".to_owned(), "front".to_owned()), ("a.b/c".to_owned(), "1".to_owned())];
        let session = SessionInfo { labels: labels.into_iter().collect(), ..session() };
        let session = serde_json::to_value(session).unwrap();
        for (template, line) in [
            ("{name} {status}", "web failed\n"),
            ("{id}\\t{queue_length}", "session-1\t4\n"),
            ("{title}", "\\u{1b}]0;evil\\u{7} name\n"),
            ("{model}|{", "|{\n"),
            ("{restarts", "{restarts\n"),
            ("{labels.team} {labels.a.b/c} {labels.none}|", "front 1 |\n"),
            ("{restarts.in_window} {needs.0.kind}", "5 failed\n"),
        ] {
            assert_eq!(Template::read(template).unwrap().line(&session), line, "{template}");
        }
    }

    #[test]
    fn a_name_that_is_no_field_is_an_error_that_lists_the_fields() {
        for wrong in ["{nmae}", "{name} {}", "{label.team}", "{\u{1b}[2J}"] {
            let said = Template::read(wrong).err().unwrap().text(false, false).unwrap();
            assert!(said.contains("has no field") && said.contains("labels, "), "{said}");
            assert!(!said.contains('\u{1b}'), "{said:?}");
        }
        // Every field that an answer has is known.
        let session = serde_json::to_value(session()).unwrap();
        for field in session.as_object().unwrap().keys() {
            assert!(Template::read(&format!("{{{field}}}")).is_ok(), "{field}");
        }
    }
}
