//! A form that an agent wants filled in, answered line by line, without I/O
//! (<https://agentclientprotocol.com/protocol/v1/elicitation>).

use serde_json::{Map, Value, json};

/// Instead of an answer to a field: the form is declined, or put off.
pub const DECLINE: &str = "/decline";
/// As an answer that is none.
pub const CANCEL: &str = "/cancel";
/// Sends a form that has no fields.
pub const ACCEPT: &str = "/accept";

/// A form, as far as it is filled in.
#[derive(Debug)]
pub struct Form {
    message: String,
    fields: Vec<Field>,
    /// The field that is asked for now.
    at: usize,
    content: Map<String, Value>,
}

#[derive(Debug)]
struct Field {
    name: String,
    title: String,
    about: Option<String>,
    kind: Kind,
    required: bool,
    default: Option<Value>,
}

#[derive(Debug)]
enum Kind {
    /// With so many characters.
    Text {
        least: Option<u64>,
        most: Option<u64>,
    },
    /// Between these.
    Number {
        whole: bool,
        least: Option<f64>,
        most: Option<f64>,
    },
    Switch,
    /// One of these, or any of them.
    Choice {
        choices: Vec<Choice>,
        several: bool,
    },
    /// A kind of field that kennel does not know.
    Unknown,
}

#[derive(Debug)]
struct Choice {
    value: String,
    title: String,
}

impl Form {
    /// As `elicitation/create` has it.
    pub fn new(payload: &Value) -> Self {
        let schema = &payload["requestedSchema"];
        let required: Vec<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let fields = schema["properties"].as_object().into_iter().flatten();
        let fields =
            fields.map(|(name, property)| Field::new(name, property, required.contains(&name.as_str())));
        let message = payload["message"].as_str().unwrap_or("something").to_owned();
        Self { message, fields: fields.collect(), at: 0, content: Map::new() }
    }

    /// Returns the agent's message above the form.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// All fields, a line each, and what can be typed instead of an answer.
    pub fn lines(&self) -> Vec<String> {
        let fields = self.fields.iter().map(|field| format!("  {}", field.line()));
        let help = match &self.fields[..] {
            [] => format!("  {ACCEPT} says yes, {DECLINE} no, {CANCEL} neither"),
            _ => format!("  line by line; {DECLINE} says no, {CANCEL} neither"),
        };
        fields.chain([help]).collect()
    }

    /// Returns the question for the next line.
    pub fn question(&self) -> Option<String> {
        let field = self.fields.get(self.at)?;
        let empty = match (&field.default, field.required) {
            (Some(default), _) => format!(" (empty: {})", shown(default)),
            (None, false) => " (empty: left out)".to_owned(),
            (None, true) => String::new(),
        };
        Some(format!("{}{empty}:", field.title))
    }

    /// Takes a line. Returns the answer once the form is complete; an error is the reason why the line was
    /// not taken.
    pub fn take(&mut self, line: &str) -> Result<Option<Value>, String> {
        match line.trim() {
            DECLINE => return Ok(Some(json!({ "action": "decline" }))),
            CANCEL => return Ok(Some(json!({ "action": "cancel" }))),
            ACCEPT if self.fields.is_empty() => return Ok(Some(self.accepted())),
            _ => {}
        }
        let Some(field) = self.fields.get(self.at) else {
            return Err(format!("type {ACCEPT}, {DECLINE} or {CANCEL}"));
        };
        if let Some(value) = field.read(line)? {
            self.content.insert(field.name.clone(), value);
        }
        self.at += 1;
        Ok((self.at == self.fields.len()).then(|| self.accepted()))
    }

    fn accepted(&self) -> Value {
        json!({ "action": "accept", "content": self.content })
    }
}

impl Field {
    fn new(name: &str, property: &Value, required: bool) -> Self {
        let text = |name: &str| property[name].as_str().map(str::to_owned);
        let (several, items) = match property["type"].as_str() {
            Some("array") => (true, &property["items"]),
            _ => (false, property),
        };
        let choices = choices(items);
        let kind = match property["type"].as_str() {
            Some("string" | "array") if !choices.is_empty() => Kind::Choice { choices, several },
            Some("string") => {
                Kind::Text { least: property["minLength"].as_u64(), most: property["maxLength"].as_u64() }
            }
            Some(kind @ ("number" | "integer")) => Kind::Number {
                whole: kind == "integer",
                least: property["minimum"].as_f64(),
                most: property["maximum"].as_f64(),
            },
            Some("boolean") => Kind::Switch,
            _ => Kind::Unknown,
        };
        Self {
            name: name.to_owned(),
            title: text("title").unwrap_or_else(|| name.to_owned()),
            about: text("description"),
            kind,
            required,
            default: Some(property["default"].clone()).filter(|default| !default.is_null()),
        }
    }

    fn line(&self) -> String {
        let what = match &self.kind {
            Kind::Text { .. } => "a text".to_owned(),
            Kind::Number { whole: true, .. } => "a whole number".to_owned(),
            Kind::Number { whole: false, .. } => "a number".to_owned(),
            Kind::Switch => "yes or no".to_owned(),
            Kind::Choice { choices, several } => {
                let all = choices.iter().enumerate();
                let all: Vec<String> =
                    all.map(|(at, choice)| format!("{}) {}", at + 1, choice.title)).collect();
                let how = if *several { "any of, with commas between," } else { "one of" };
                format!("{how} {}", all.join(" "))
            }
            Kind::Unknown => "of a kind that cannot be asked for here".to_owned(),
        };
        let about = self.about.as_ref().map(|about| format!(" ({about})")).unwrap_or_default();
        let must = if self.required { "" } else { ", or nothing" };
        format!("{}{about}: {what}{must}", self.title)
    }

    /// Reads a line as the field's value; none leaves the field out.
    fn read(&self, line: &str) -> Result<Option<Value>, String> {
        let text = line.trim();
        if text.is_empty() {
            return match &self.default {
                Some(default) => Ok(Some(default.clone())),
                None if self.required => Err(format!("{} must be said", self.title)),
                None => Ok(None),
            };
        }
        match &self.kind {
            Kind::Text { least, most } => {
                let chars = line.chars().count() as u64;
                match (*least, *most) {
                    (Some(least), _) if chars < least => Err(format!("at least {least} characters")),
                    (_, Some(most)) if chars > most => Err(format!("at most {most} characters")),
                    _ => Ok(Some(json!(line))),
                }
            }
            Kind::Number { whole, least, most } => {
                let whole_number = text.parse::<i64>().ok();
                let number = match whole {
                    true => whole_number.map(|number| number as f64),
                    false => text.parse::<f64>().ok().filter(|number| number.is_finite()),
                };
                let number = number
                    .ok_or_else(|| format!("not a {}", if *whole { "whole number" } else { "number" }))?;
                match (*least, *most) {
                    (Some(least), _) if number < least => Err(format!("at least {least}")),
                    (_, Some(most)) if number > most => Err(format!("at most {most}")),
                    _ => Ok(Some(whole_number.map_or_else(|| json!(number), |number| json!(number)))),
                }
            }
            Kind::Switch => match text.to_lowercase().as_str() {
                "yes" | "y" | "true" => Ok(Some(json!(true))),
                "no" | "n" | "false" => Ok(Some(json!(false))),
                _ => Err("yes or no".to_owned()),
            },
            Kind::Choice { choices, several: false } => chosen(choices, text).map(|value| Some(json!(value))),
            Kind::Choice { choices, several: true } => {
                let all: Result<Vec<&str>, String> =
                    text.split(',').map(|one| chosen(choices, one.trim())).collect();
                all.map(|all| Some(json!(all)))
            }
            Kind::Unknown => Err(format!("this cannot be asked for here; {DECLINE} or {CANCEL}")),
        }
    }
}

/// Returns the choices of a field: its `enum`, or its values with titles.
fn choices(of: &Value) -> Vec<Choice> {
    let plain = of["enum"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let plain = plain.map(|value| Choice { value: value.to_owned(), title: value.to_owned() });
    let titled = ["oneOf", "anyOf"].into_iter().filter_map(|name| of[name].as_array()).flatten();
    let titled = titled.filter_map(|one| {
        let value = one["const"].as_str()?.to_owned();
        Some(Choice { title: one["title"].as_str().unwrap_or(&value).to_owned(), value })
    });
    plain.chain(titled).collect()
}

/// By the number that is shown, or by its own name.
fn chosen<'a>(choices: &'a [Choice], text: &str) -> Result<&'a str, String> {
    let numbered = text.parse::<usize>().ok().and_then(|number| choices.get(number.checked_sub(1)?));
    let named = || choices.iter().find(|choice| choice.value == text || choice.title == text);
    let found = numbered.or_else(named).map(|choice| choice.value.as_str());
    found.ok_or_else(|| format!("a number from 1 to {}", choices.len()))
}

fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(properties: Value, required: Value) -> Form {
        let schema = json!({ "type": "object", "properties": properties, "required": required });
        Form::new(&json!({ "mode": "form", "message": "well?", "requestedSchema": schema }))
    }

    #[test]
    fn each_kind_of_field_is_asked_for_and_read_in_its_order() {
        let mut form = form(
            json!({
                "name": { "type": "string", "title": "Your name", "minLength": 2, "maxLength": 5 },
                "share": { "type": "number", "minimum": 0.5, "maximum": 2 },
                "count": { "type": "integer", "minimum": 1, "maximum": 9 },
                "sure": { "type": "boolean", "default": true },
                "colour": { "type": "string", "oneOf": [{ "const": "r", "title": "Red" }, { "const": "g", "title": "Green" }] },
                "sizes": { "type": "array", "items": { "type": "string", "enum": ["S", "M", "L"] } },
                "more": { "type": "string" },
            }),
            json!(["name", "count"]),
        );
        let lines = form.lines();
        assert_eq!(lines.len(), 8);
        assert_eq!(lines[0], "  Your name: a text");
        assert_eq!(lines[4], "  colour: one of 1) Red 2) Green, or nothing");
        assert_eq!(form.question().unwrap(), "Your name:");
        for (line, taken) in [
            ("", Err("Your name must be said")),
            ("x", Err("at least 2 characters")),
            ("too long", Err("at most 5 characters")),
            ("Änne", Ok(())),
            ("0.4", Err("at least 0.5")),
            ("much", Err("not a number")),
            ("1.5", Ok(())),
            ("1.5", Err("not a whole number")),
            ("10", Err("at most 9")),
            ("3", Ok(())),
            ("maybe", Err("yes or no")),
            ("", Ok(())),
            ("3", Err("a number from 1 to 2")),
            ("0", Err("a number from 1 to 2")),
            ("2", Ok(())),
            ("1, L", Ok(())),
        ] {
            match (form.take(line), taken) {
                (Ok(None), Ok(())) => {}
                (Err(why), Err(expected)) => assert_eq!(why, expected, "{line}"),
                other => panic!("{line}: {other:?}"),
            }
        }
        assert_eq!(form.question().unwrap(), "more (empty: left out):");
        let answer = form.take("").unwrap().unwrap();
        let content = json!({ "name": "Änne", "share": 1.5, "count": 3, "sure": true, "colour": "g", "sizes": ["S", "L"] });
        assert_eq!(answer, json!({ "action": "accept", "content": content }));
    }

    #[test]
    fn a_form_is_declined_and_put_off_at_any_field() {
        for (typed, action) in [(DECLINE, "decline"), (CANCEL, "cancel")] {
            let mut form = form(json!({ "a": { "type": "string" }, "b": { "type": "string" } }), json!([]));
            assert_eq!(form.take("one").unwrap(), None);
            assert_eq!(form.take(typed).unwrap(), Some(json!({ "action": action })));
        }
    }

    #[test]
    fn a_form_without_fields_wants_a_word_and_one_of_an_unknown_kind_can_be_declined() {
        let mut empty = form(json!({}), json!([]));
        assert_eq!(empty.question(), None);
        assert!(empty.take("").is_err() && empty.take("yes").is_err());
        assert_eq!(empty.take(ACCEPT).unwrap(), Some(json!({ "action": "accept", "content": {} })));
        let mut unknown = form(json!({ "face": { "type": "_photo" } }), json!(["face"]));
        assert!(unknown.take("").is_err() && unknown.take("me").is_err() && unknown.take(ACCEPT).is_err());
        assert!(unknown.take(DECLINE).unwrap().is_some());
    }
}
