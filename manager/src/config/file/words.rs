//! Complaints of the TOML reader in kennel's words: which key, what it takes, and an example.

use super::super::bounds::UMASK_FORM as UMASK;
use super::super::lookup::nearest;
use crate::plain;

/// Kinds of values: the TOML reader's name for each, and the name for a person.
const KINDS: &[(&str, &str)] = &[
    ("a sequence", "a list in brackets, like [\"a\", \"b\"]"),
    ("a boolean", "true or false"),
    ("a string", "a text in quotes, like \"a\""),
    ("a map", "a table, like { a = \"b\" }"),
];

/// The key whose value begins at the byte `at`; none if no value begins there.
pub(super) fn key_before(text: &str, at: usize) -> Option<&str> {
    let line = text.get(..at)?.rsplit('\n').next()?;
    let before = line.trim_end().strip_suffix('=')?.trim_end();
    let key = before.rsplit(['{', ',', ' ', '\t']).next()?;
    (!key.is_empty()).then_some(key)
}

/// The reader's message about this key, without the words of its library.
pub(super) fn plain(key: Option<&str>, message: &str) -> String {
    let said = unknown(message).or_else(|| missing(message)).or_else(|| wrong_value(message));
    said.or_else(|| unreadable(key, message)).unwrap_or_else(|| message.to_owned())
}

/// A value that is none in TOML.
fn unreadable(key: Option<&str>, message: &str) -> Option<String> {
    if message.starts_with("unexpected leading zero") {
        let octal = key.is_some_and(|key| key.ends_with("umask"));
        let more = if octal { format!("; {UMASK}") } else { String::new() };
        return Some(format!("a number does not begin with 0{more}"));
    }
    let unquoted = message.starts_with("string values must be quoted");
    unquoted.then(|| "a value is missing, or it is a text without quotes; a text looks like \"a\"".to_owned())
}

/// A key or a value that is not among those that may stand there.
fn unknown(message: &str) -> Option<String> {
    let (is_key, rest) = match message.strip_prefix("unknown field `") {
        Some(rest) => (true, rest),
        None => (false, message.strip_prefix("unknown variant `")?),
    };
    let (written, rest) = rest.split_once("`, ")?;
    let known: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
    let near = nearest(written, known.iter().copied());
    let meant = near.map(|near| format!("did you mean `{near}`? ")).unwrap_or_default();
    let all: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
    let (all, there) = (all.join(", "), if is_key { "the keys here are" } else { "this key takes" });
    Some(match is_key {
        true => format!("there is no key `{written}`; {meant}{there} {all}"),
        false => format!("`{written}` is not a value of this key; {meant}{there} {all}"),
    })
}

fn missing(message: &str) -> Option<String> {
    let key = message.strip_prefix("missing field `")?.strip_suffix('`')?;
    Some(format!("the key `{key}` is missing"))
}

/// A value of another kind than the key takes.
fn wrong_value(message: &str) -> Option<String> {
    let rest = message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "))?;
    let (found, expected) = rest.rsplit_once(", expected ")?;
    let kind = KINDS.iter().find(|(theirs, _)| *theirs == expected).map(|(_, ours)| *ours);
    let kind = kind.unwrap_or_else(|| match expected.starts_with("struct ") {
        true => "a table",
        false => plain::kind(expected).unwrap_or(expected),
    });
    let found = match found {
        "sequence" => "a list".to_owned(),
        "map" => "a table".to_owned(),
        // With its quotes: they may be what is wrong.
        _ if found.starts_with("string ") => found["string ".len()..].to_owned(),
        _ => found
            .split_once(['`', '"'])
            .map_or(found, |(_, value)| value)
            .trim_end_matches(['`', '"'])
            .to_owned(),
    };
    Some(format!("expected {kind}; found {found}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_the_one_whose_value_is_complained_of() {
        for (text, key) in [
            ("a = 1\nnice = ", Some("nice")),
            ("env = { A = ", Some("A")),
            ("rules = [{ kind = \"read\", then = ", Some("then")),
            ("  \"a b\".c=", Some("b\".c")),
            ("nice", None),
            ("nice = [", None),
            (" = ", None),
        ] {
            assert_eq!(key_before(&format!("{text}1"), text.len()), key, "{text}");
        }
    }

    #[test]
    fn messages_have_no_words_of_the_library() {
        for (theirs, ours) in [
            (
                "unknown field `agent`, expected one of `defaults`, `agents`",
                "there is no key `agent`; did you mean `agents`? the keys here are `defaults`, `agents`",
            ),
            (
                "unknown variant `x`, expected `a` or `b`",
                "`x` is not a value of this key; this key takes `a`, `b`",
            ),
            ("missing field `then`", "the key `then` is missing"),
            (
                "invalid type: string \"x -p\", expected a sequence",
                "expected a list in brackets, like [\"a\", \"b\"]; found \"x -p\"",
            ),
            ("invalid type: integer `3`, expected a boolean", "expected true or false; found 3"),
            ("invalid type: map, expected struct RawDaemon", "expected a table; found a table"),
            ("invalid table header", "invalid table header"),
        ] {
            assert_eq!(plain(None, theirs), ours);
        }
    }
}
