//! Complaints of the readers of JSON, TOML and queries in words for a person: the names of Rust's types and of the library's
//! parts never reach one.

use crate::config::lookup::nearest;

/// The longest part of somebody's own text in a complaint, in characters.
const MAX: usize = 80;

/// Kinds of values: the library's name for each, and the name for a person.
const KINDS: &[(&str, &str)] = &[
    ("a sequence", "a list"),
    ("a boolean", "true or false"),
    ("a string", "a text"),
    ("a borrowed string", "a text"),
    ("string or map", "a text or an object"),
    ("a map", "an object"),
    ("unit", "nothing"),
    ("u8", "a whole number from 0 to 255"),
    ("u16", "a whole number from 0 to 65535"),
    ("u32", "a whole number from 0 to 4294967295"),
    ("u64", "a whole number from 0 on"),
    ("u128", "a whole number from 0 on"),
    ("usize", "a whole number from 0 on"),
    ("i8", "a whole number"),
    ("i16", "a whole number"),
    ("i32", "a whole number"),
    ("i64", "a whole number"),
    ("f32", "a number"),
    ("f64", "a number"),
];

/// Complaints of the library about numbers and words in a query, and the words for a person.
const WORDS: &[(&str, &str)] = &[
    ("invalid digit found in string", "it is not a whole number"),
    ("cannot parse integer from empty string", "a number is missing"),
    ("number too large to fit in target type", "the number is too large"),
    ("number too small to fit in target type", "the number is too small"),
    ("provided string was not `true` or `false`", "it is true or false"),
    ("invalid float literal", "it is not a number"),
];

/// Complaints of the reader of JSON about a text that is none, and the words for a person.
const NO_JSON: &[(&str, &str)] = &[
    ("EOF while parsing", "the JSON ends too early"),
    ("trailing characters", "something follows the end of the JSON"),
    ("recursion limit exceeded", "it is nested too deeply"),
    ("number out of range", "a number is out of range"),
    ("expected value", "it is not valid JSON: a value is missing"),
    ("expected ident", "it is not valid JSON: a word is not one of true, false and null"),
    ("expected `", "it is not valid JSON: a sign is missing"),
    ("invalid escape", "it is not valid JSON: a text has a wrong escape"),
    ("invalid number", "it is not valid JSON: a number is written wrongly"),
    ("invalid unicode code point", "it is not valid JSON: a text has a wrong escape"),
    ("control character", "it is not valid JSON: a text has a line break or another control character"),
    ("key must be a string", "it is not valid JSON: the name of a field has no quotes"),
    ("lone leading surrogate", "it is not valid JSON: a text has a wrong escape"),
    ("unexpected end of hex escape", "it is not valid JSON: a text has a wrong escape"),
    ("trailing comma", "it is not valid JSON: a comma has nothing behind it"),
];

/// Returns a complaint of the library in words for a person. A complaint in kennel's own words stays as it is.
pub fn said(complaint: &str) -> String {
    let (text, at) = without_place(complaint);
    let (field, text) = without_field(text);
    let Some(plain) = plain(text) else { return complaint.to_owned() };
    // An unknown one is named already.
    let field = field.filter(|field| !plain.contains(&format!("`{field}`")));
    let field = field.map(|field| format!("`{}`: ", cut(field))).unwrap_or_default();
    let at = at.map(|(line, column)| format!(" (line {line}, column {column})")).unwrap_or_default();
    format!("{field}{plain}{at}")
}

/// The name of a kind of values for a person; none for one that is in a person's words already.
pub fn kind(expected: &str) -> Option<&'static str> {
    let known = KINDS.iter().find(|(theirs, _)| *theirs == expected).map(|(_, ours)| *ours);
    known.or_else(|| match expected.split(' ').next() {
        Some("struct") => Some("an object"),
        Some("enum" | "variant") => Some("one of the words that belong here"),
        Some("tuple") => Some("a list of another length"),
        _ => None,
    })
}

fn plain(text: &str) -> Option<String> {
    let word = WORDS.iter().find(|(theirs, _)| *theirs == text).map(|(_, ours)| (*ours).to_owned());
    let syntax = || {
        let known = NO_JSON.iter().find(|(theirs, _)| text.starts_with(theirs));
        known.map(|(_, ours)| (*ours).to_owned())
    };
    word.or_else(|| unknown(text)).or_else(|| named(text)).or_else(|| wrong_value(text)).or_else(syntax)
}

/// Parts the place in a text, which the reader of JSON adds, from a complaint.
fn without_place(complaint: &str) -> (&str, Option<(u64, u64)>) {
    let place = || {
        let (text, place) = complaint.rsplit_once(" at line ")?;
        let (line, column) = place.split_once(" column ")?;
        Some((text, (line.parse().ok()?, column.parse().ok()?)))
    };
    place().map_or((complaint, None), |(text, place)| (text, Some(place)))
}

/// Parts the name of a field, or of a parameter, from a complaint about it.
fn without_field(text: &str) -> (Option<&str>, &str) {
    match text.split_once(": ") {
        Some((field, rest))
            if !field.contains(' ')
                && !field.contains('`')
                && plain(rest).is_some()
                && plain(text).is_none() =>
        {
            (Some(field), rest)
        }
        _ => (None, text),
    }
}

/// A field, or a word, that is not among those that may stand there.
fn unknown(text: &str) -> Option<String> {
    let (is_field, rest) = match text.strip_prefix("unknown field `") {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix("unknown variant `")?),
    };
    // What was sent may have the same signs in it.
    let end = ["`, expected ", "`, there are no "].iter().filter_map(|end| rest.rfind(end)).max()?;
    let (written, rest) = (&rest[..end], &rest[end + 1..]);
    let known: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
    let near = nearest(written, known.iter().copied());
    let near = near.map(|near| format!("; did you mean `{near}`? One of these belongs here:"));
    let near = near.unwrap_or_else(|| "; one of these belongs here:".to_owned());
    let all: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
    let (written, all) = (cut(written), all.join(", "));
    Some(match (is_field, known.is_empty()) {
        (true, true) => format!("there is no `{written}`, and nothing else may stand here"),
        (true, false) => format!("there is no `{written}`{near} {all}"),
        (false, _) => format!("`{written}` may not stand here{near} {all}"),
    })
}

fn named(text: &str) -> Option<String> {
    if text.starts_with("data did not match any variant") {
        return Some("it has none of the forms that belong here".to_owned());
    }
    let quoted = |before| text.strip_prefix(before).and_then(|rest: &str| rest.strip_suffix('`'));
    match (quoted("missing field `"), quoted("duplicate field `")) {
        (Some(field), _) => Some(format!("`{}` is missing", cut(field))),
        (_, Some(field)) => Some(format!("`{}` stands there twice", cut(field))),
        _ => None,
    }
}

/// A value of another kind than belongs there.
fn wrong_value(text: &str) -> Option<String> {
    let rest = ["invalid type: ", "invalid value: ", "invalid length "];
    let rest = rest.iter().find_map(|before| text.strip_prefix(before))?;
    let (found, expected) = rest.rsplit_once(", expected ")?;
    let expected = kind(expected).unwrap_or(expected);
    let found = match found {
        "sequence" => "a list".to_owned(),
        "map" => "an object".to_owned(),
        "null" | "unit value" | "Option value" => "null".to_owned(),
        _ => match found.split_once([' ']) {
            Some(("string" | "integer" | "boolean" | "floating" | "character", value)) => {
                cut(value.trim_start_matches("point ").trim_matches('`'))
            }
            _ => cut(found),
        },
    };
    Some(format!("{expected} belongs here, not {found}"))
}

/// A part of somebody's own text, of a length that can be read.
fn cut(text: &str) -> String {
    match text.char_indices().nth(MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sent {
        #[allow(dead_code, reason = "only read")]
        text: String,
        #[allow(dead_code, reason = "only read")]
        #[serde(default)]
        when: Option<When>,
        #[allow(dead_code, reason = "only read")]
        #[serde(default)]
        count: u32,
        #[allow(dead_code, reason = "only read")]
        #[serde(default)]
        list: Vec<bool>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum When {
        Queue,
        Reject,
    }

    #[test]
    fn no_complaint_about_json_has_the_librarys_words() {
        let long = format!(r#"{{"text":"","{}":1}}"#, "x".repeat(10_000));
        for (sent, part) in [
            ("", "the JSON ends too early (line 1, column 0)"),
            ("{", "the JSON ends too early"),
            ("{} {}", "`text` is missing"),
            (r#"{"text":""} x"#, "something follows the end of the JSON"),
            ("nonsense", "it is not valid JSON"),
            ("{text:1}", "the name of a field has no quotes"),
            (r#"{"text":"a",}"#, "a comma has nothing behind it"),
            ("{\"text\":\"a\nb\"}", "control character"),
            (r#"{"text":"\q"}"#, "a wrong escape"),
            ("{}", "`text` is missing"),
            ("3", "an object belongs here, not 3"),
            ("null", "an object belongs here, not null"),
            (r#"{"text":3}"#, "a text belongs here, not 3"),
            (r#"{"text":"","text":""}"#, "`text` stands there twice"),
            (r#"{"text":"","count":-1}"#, "a whole number from 0 to 4294967295 belongs here, not -1"),
            (r#"{"text":"","count":1.5}"#, "belongs here, not 1.5"),
            (r#"{"text":"","count":"3"}"#, "belongs here, not \"3\""),
            (r#"{"text":"","list":[1]}"#, "true or false belongs here, not 1"),
            (r#"{"text":"","list":{}}"#, "a list belongs here, not an object"),
            (
                r#"{"text":"","when":"reject "}"#,
                "`reject ` may not stand here; did you mean `reject`? One of these belongs here: `queue`, `reject`",
            ),
            (
                r#"{"text":"","when":"zzz"}"#,
                "`zzz` may not stand here; one of these belongs here: `queue`, `reject`",
            ),
            (
                r#"{"text":"","wehn":1}"#,
                "there is no `wehn`; did you mean `when`? One of these belongs here: `text`",
            ),
            (
                r#"{"text":"","zzzzz":1}"#,
                "there is no `zzzzz`; one of these belongs here: `text`, `when`, `count`, `list`",
            ),
            (r#"{"text":"","a`, expected b":1}"#, "there is no `a`, expected b`"),
            (&long, "x…`"),
        ] {
            let complaint = serde_json::from_str::<Sent>(sent).unwrap_err().to_string();
            let said = said(&complaint);
            assert!(said.contains(part), "{complaint}\n{said}");
            for theirs in [
                "unknown ",
                "variant",
                "missing field",
                "invalid ",
                "struct",
                "u32",
                "EOF",
                "at line",
                "sequence",
            ] {
                assert!(!said.contains(theirs), "{complaint}\n{said}");
            }
            assert!(said.chars().count() < 300, "{said}");
        }
    }

    #[test]
    fn a_complaint_about_a_query_names_the_parameter() {
        for (theirs, ours) in [
            ("limit: invalid digit found in string", "`limit`: it is not a whole number"),
            (
                "until: unknown variant `dawn`, expected `idle`",
                "`until`: `dawn` may not stand here; one of these belongs here: `idle`",
            ),
            ("missing field `until`", "`until` is missing"),
            ("needs: provided string was not `true` or `false`", "`needs`: it is true or false"),
        ] {
            assert_eq!(said(theirs), ours);
        }
        for ours in ["`timeout_ms` is at most 3; nothing was changed", "a: b", "", "write it as `a: b`"] {
            assert_eq!(said(ours), ours);
        }
    }
}
