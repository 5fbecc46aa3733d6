//! Name, title and labels of a session, as clients give them.

use std::collections::BTreeMap;

use protocol::SessionName;
use protocol::api::EditSessionRequest;

use super::bounds;
use super::lookup::shown;
use crate::core::Edit;
use crate::core::limits::LABELS;
use crate::error::Error;

/// The longest value of a label, in characters.
const LABEL_CHARS: usize = 63;

/// Reads a session's name. `unchanged` says what the error leaves as it was.
///
/// # Errors
/// `invalid_name`, with the rule for names as a hint.
pub(super) fn name(name: &str, unchanged: &str) -> Result<SessionName, Error> {
    name.parse().map_err(|error: protocol::IdError| {
        Error::invalid_with("invalid_name", format!("`name`: {error}; {unchanged}"), SessionName::RULE)
    })
}

/// Checks labels of a session, or of a key.
///
/// # Errors
/// A sentence for a person.
pub fn labels(labels: &BTreeMap<String, String>) -> Result<(), String> {
    if labels.len() > LABELS {
        return Err(format!("a session has at most {LABELS} labels"));
    }
    labels.iter().try_for_each(|(label, value)| label_name(label).and_then(|()| label_value(value)))
}

/// The name of a label.
fn label_name(label: &str) -> Result<(), String> {
    let fit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/');
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    if label.len() <= LABEL_CHARS
        && label.chars().all(fit)
        && ends(label.chars().next())
        && ends(label.chars().last())
    {
        return Ok(());
    }
    let shown = shown(label, 80);
    Err(format!(
        "`{shown}` is no label: 1 to {LABEL_CHARS} letters, digits, `.`, `_`, `-` and `/`, beginning and ending with a letter or digit"
    ))
}

/// The value of a label.
fn label_value(value: &str) -> Result<(), String> {
    // Lists are asked for labels that commas separate.
    if value.chars().count() <= LABEL_CHARS && !value.chars().any(|c| c.is_control() || c == ',') {
        return Ok(());
    }
    Err(format!(
        "a label's value has at most {LABEL_CHARS} characters, without control characters and commas"
    ))
}

/// A label that sessions are chosen by, with its value or without.
///
/// # Errors
/// Why it is none, for a person.
pub fn label_wanted(text: &str) -> Result<String, String> {
    let (label, value) = text.split_once('=').unwrap_or((text, ""));
    label_name(label).and_then(|()| label_value(value)).map(|()| text.to_owned())
}

/// Reads a change of what people call a session.
///
/// # Errors
/// `invalid_name`, `invalid_title`, `invalid_labels`.
pub fn edit(request: &EditSessionRequest) -> Result<Edit, Error> {
    let wrong = |code: &'static str, field: &str, what: String| {
        Error::invalid(code, format!("`{field}`: {what}; nothing was changed"))
    };
    let name = request.name.as_deref().map(|name| self::name(name, "nothing was changed")).transpose()?;
    if let Some(title) = &request.title {
        bounds::title(title).map_err(|what| wrong("invalid_title", "title", what))?;
    }
    if request.labels.len() > 2 * LABELS {
        return Err(wrong("invalid_labels", "labels", format!("a session has at most {LABELS} labels")));
    }
    for (label, value) in &request.labels {
        let value = value.as_deref().map_or(Ok(()), label_value);
        label_name(label).and(value).map_err(|what| wrong("invalid_labels", "labels", what))?;
    }
    Ok(Edit { name, title: request.title.clone(), labels: request.labels.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_label_is_refused() {
        for good in ["team", "a", "example.com/team", "a-b_c.1"] {
            assert_eq!(label_name(good), Ok(()), "{good}");
        }
        for bad in ["", "-a", "a/", "a b", "a=b", "\u{1b}[2J", &"x".repeat(64)] {
            assert!(label_name(bad).is_err(), "{bad:?}");
        }
        for (wanted, is_one) in [
            ("team", true),
            ("team=", true),
            ("team=a b", true),
            ("", false),
            ("=", false),
            ("a b", false),
            ("team!=x", false),
        ] {
            assert_eq!(label_wanted(wanted).is_ok(), is_one, "{wanted:?}");
        }
        assert!(label_value("").is_ok() && label_value("a=b c").is_ok());
        assert!(
            label_value("a\nb").is_err()
                && label_value("a,b").is_err()
                && label_value(&"x".repeat(64)).is_err()
        );
        let many = (0..=LABELS).map(|n| (format!("l{n}"), String::new())).collect();
        assert!(labels(&many).is_err());
    }

    #[test]
    fn an_edit_names_the_field_that_is_wrong() {
        let code = |request: EditSessionRequest| edit(&request).unwrap_err().code();
        let name = |name: &str| EditSessionRequest { name: Some(name.into()), ..Default::default() };
        for wrong in ["", "a b", "7", "session-7", "workdir-0123456789abcdef", "../x"] {
            assert_eq!(code(name(wrong)), "invalid_name", "{wrong}");
        }
        let title = EditSessionRequest { title: Some("a\u{7}".into()), ..Default::default() };
        assert_eq!(code(title), "invalid_title");
        let labels = [("a b".to_owned(), None)].into_iter().collect();
        assert_eq!(code(EditSessionRequest { labels, ..Default::default() }), "invalid_labels");
        assert!(
            edit(&name("web-2")).is_ok_and(|edit| edit.name.is_some_and(|name| name.as_str() == "web-2"))
        );
    }
}
