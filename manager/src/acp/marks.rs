//! kennel's marks in `_meta`: where an update stands in the journal, and what a client asks for beside the protocol.

use protocol::{EventId, PromptId};
use serde_json::{Map, Value, json};

use super::refused::Refused;

/// In an update: everything up to here was sent. In an answer to `session/load` and `session/resume`: the same.
pub const CURSOR: &str = "kennel.dev/cursor";
/// In an update and in the answer to a prompt: the prompt's id.
pub const PROMPT: &str = "kennel.dev/prompt";
/// In an update: a prompt has ended that no request waits for.
pub const ENDED: &str = "kennel.dev/ended";
/// In `session/load` and `session/resume`: only what came after this cursor is sent.
const AFTER: &str = "kennel.dev/after";
/// In `session/load` and `session/resume`: drive, though another client does.
const TAKEOVER: &str = "kennel.dev/takeover";
/// In `session/prompt`: an idempotency key.
const KEY: &str = "kennel.dev/key";

/// A place in a session's journal, between two updates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    event: EventId,
    /// Of this event so many parts; none: all of them.
    parts: Option<u32>,
}

impl Cursor {
    /// After this part of an event, which has `all` parts.
    pub fn behind(event: EventId, part: usize, all: usize) -> Self {
        let done = part + 1;
        Self { event, parts: (done < all).then(|| u32::try_from(done).unwrap_or(u32::MAX)) }
    }

    /// After the whole of an event.
    pub fn whole(event: EventId) -> Self {
        Self { event, parts: None }
    }

    /// The event in which the cursor stands, or after which.
    pub fn event(self) -> EventId {
        self.event
    }

    /// Returns true if this part of an event comes after the cursor.
    pub fn precedes(self, event: EventId, part: usize) -> bool {
        event > self.event || event == self.event && self.parts.is_some_and(|done| part >= done as usize)
    }

    fn parse(text: &str) -> Option<Self> {
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| text.parse::<u64>().ok()).flatten().filter(|number| *number <= i64::MAX as u64)
        };
        match text.split_once('.') {
            None => Some(Self::whole(number(text)?)),
            Some((event, parts)) => {
                Some(Self { event: number(event)?, parts: Some(u32::try_from(number(parts)?).ok()?) })
            }
        }
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.parts {
            None => write!(f, "{}", self.event),
            Some(parts) => write!(f, "{}.{parts}", self.event),
        }
    }
}

/// The marks of one update.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mark {
    /// Where it stands; none if it is of no event.
    pub cursor: Option<Cursor>,
    /// The prompt that it belongs to.
    pub prompt: Option<PromptId>,
}

impl Mark {
    /// The marks as `_meta` has them; none if there are none.
    pub fn meta(self) -> Option<Map<String, Value>> {
        let mut meta = Map::new();
        if let Some(cursor) = self.cursor {
            meta.insert(CURSOR.to_owned(), json!(cursor.to_string()));
        }
        if let Some(prompt) = self.prompt {
            meta.insert(PROMPT.to_owned(), json!(prompt));
        }
        (!meta.is_empty()).then_some(meta)
    }
}

/// A client's wishes beside the protocol when it opens a session.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Wishes {
    /// Where it was when it lost its connection.
    pub after: Option<Cursor>,
    /// The editor drives, in the place of another client.
    pub takeover: bool,
}

/// Reads the wishes from the parameters of a request.
pub fn wishes(params: &Value) -> Result<Wishes, Refused> {
    let meta = &params["_meta"];
    let after = match &meta[AFTER] {
        Value::Null => None,
        Value::Number(number) if number.is_u64() => Some(number.to_string()),
        Value::String(text) => Some(text.clone()),
        _ => return Err(wrong(AFTER, "the text of a cursor")),
    };
    let after = after.map(|text| Cursor::parse(&text).ok_or_else(|| wrong(AFTER, "the text of a cursor")));
    let takeover = match &meta[TAKEOVER] {
        Value::Null => false,
        Value::Bool(yes) => *yes,
        _ => return Err(wrong(TAKEOVER, "true or false")),
    };
    Ok(Wishes { after: after.transpose()?, takeover })
}

/// Reads the idempotency key of a prompt. The API judges it.
pub fn key(params: &Value) -> Result<Option<String>, Refused> {
    match &params["_meta"][KEY] {
        Value::Null => Ok(None),
        Value::String(key) => Ok(Some(key.clone())),
        _ => Err(wrong(KEY, "a text")),
    }
}

fn wrong(name: &str, what: &str) -> Refused {
    Refused::new(
        agent_client_protocol::ErrorCode::INVALID_PARAMS,
        format!("`_meta`: `{name}` is {what}; nothing was done"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_stands_between_two_parts_and_is_read_as_it_is_written() {
        let after = |text: &str| Cursor::parse(text).unwrap();
        for (cursor, text) in [(Cursor::behind(7, 0, 2), "7.1"), (Cursor::behind(7, 1, 2), "7")] {
            assert_eq!(cursor.to_string(), text);
            assert_eq!(after(text), cursor);
        }
        assert!(!after("7").precedes(7, 9) && after("7").precedes(8, 0) && !after("7").precedes(6, 0));
        assert!(!after("7.1").precedes(7, 0) && after("7.1").precedes(7, 1) && after("7.0").precedes(7, 0));
        for wrong in ["", ".", "7.", ".7", "-1", "+1", "7.7.7", "x", "99999999999999999999", "7.99999999999"]
        {
            assert_eq!(Cursor::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn wishes_are_read_and_what_is_none_is_refused() {
        let read = |meta: Value| wishes(&json!({ "_meta": meta })).map_err(|refused| refused.why);
        assert_eq!(read(json!({})).unwrap(), Wishes::default());
        let after = Wishes { after: Some(Cursor::whole(7)), takeover: true };
        for form in [json!(7), json!("7")] {
            assert_eq!(read(json!({ AFTER: form, TAKEOVER: true })).unwrap(), after);
        }
        for wrong in
            [json!({ AFTER: -1 }), json!({ AFTER: 1.5 }), json!({ AFTER: [] }), json!({ TAKEOVER: 1 })]
        {
            assert!(read(wrong.clone()).is_err(), "{wrong}");
        }
        assert!(key(&json!({ "_meta": { KEY: 1 } })).is_err());
        assert_eq!(key(&json!({ "_meta": { KEY: "k" } })).unwrap_or_default().as_deref(), Some("k"));
    }
}
