//! Ids that people type and that end up in paths, URLs and environment variables.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Reason for which a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// A session id must match `[A-Za-z0-9][A-Za-z0-9._-]{0,63}`.
    #[error(
        "`{0}` is not a session id: 1 to 64 letters, digits, `.`, `_` or `-`, beginning with a letter or digit"
    )]
    Session(String),
    /// A session's name is like an id, and no generated id.
    #[error("`{0}` is not a session's name")]
    Name(String),
    /// A prompt id is `prompt-` and a number.
    #[error("`{0}` is not a prompt id: `prompt-` and a number, as `kennel send --no-wait` prints it")]
    Prompt(String),
    /// A permission id is `permission-` and a number.
    #[error("`{0}` is not a permission id: `permission-` and a number, as `kennel permissions ls` prints it")]
    Permission(String),
    /// A call id is `call-` and a number.
    #[error("`{0}` is not a call's id: `call-` and a number, as the event `call.requested` has it")]
    Call(String),
    /// A key's id is `key-` and a number.
    #[error("`{0}` is not a key's id: `key-` and a number, as `kennel key ls` prints it")]
    Key(String),
}

/// Stable name of a session: `session-7`, `workdir-0123456789abcdef`, or what the caller chose.
///
/// Matches `[A-Za-z0-9][A-Za-z0-9._-]{0,63}`, so it can stand in a file name, a URL path and an environment
/// variable without quoting.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "api", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "api", schema(value_type = String, pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"))]
pub struct SessionId(Arc<str>);

impl SessionId {
    /// The longest id, in bytes.
    pub const MAX_LEN: usize = 64;

    /// The generated id with this number.
    pub fn numbered(n: u64) -> Self {
        Self(format!("session-{n}").into())
    }

    /// Number of a generated id (`session-7` → 7), also of such an id that a user chose. `None` for other ids, and for more
    /// digits than kennel will ever count to: there must be a number after it.
    pub fn number(&self) -> Option<u64> {
        let digits = self.0.strip_prefix("session-")?;
        let plain = digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0');
        (plain && digits.len() <= 18).then(|| digits.parse().ok()).flatten()
    }

    /// Returns true if the id is a number alone. An earlier version gave such ids to new sessions; people mean the generated
    /// id with that number (`5`: `session-5`).
    pub fn is_number_alone(&self) -> bool {
        self.0.bytes().all(|byte| byte.is_ascii_digit())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SessionId {
    type Err = IdError;

    fn from_str(s: &str) -> Result<Self, IdError> {
        let first = s.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        let rest = s.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        if first && rest && s.len() <= Self::MAX_LEN {
            Ok(Self(s.into()))
        } else {
            // The text comes from outside and is shown to a person: bounded, and without control characters.
            Err(IdError::Session(s.chars().take(80).flat_map(char::escape_default).collect()))
        }
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for SessionId {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for SessionId {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(de::Error::custom)
    }
}

/// Name of a session: what people call it. It can be changed, and stands wherever an id does.
///
/// Made of the same letters as a [`SessionId`]. No name is a number alone or has the form of an id that kennel generates
/// (`session-7`, `workdir-0123456789abcdef`): those mean the session with that id.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[cfg_attr(feature = "api", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "api", schema(value_type = String, pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"))]
#[serde(transparent)]
pub struct SessionName(SessionId);

impl SessionName {
    /// The rule for names, for a person who gave another text.
    pub const RULE: &str = "a name has 1 to 64 letters, digits, `.`, `_` and `-`, and begins with a letter or digit; \
        a number (`7`) and a generated id (`session-7`) are ids; an example of a name: `web-2`";

    /// The name as text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The id of the same letters.
    pub fn as_id(&self) -> &SessionId {
        &self.0
    }

    /// Returns true if a text has the form of what kennel generates as an id, or of the short form of one.
    pub fn is_reserved(text: &str) -> bool {
        let all = |text: &str, is: fn(&u8) -> bool| !text.is_empty() && text.as_bytes().iter().all(is);
        let numbered = text.strip_prefix("session-").is_some_and(|digits| all(digits, u8::is_ascii_digit));
        let of_directory =
            text.strip_prefix("workdir-").is_some_and(|digits| all(digits, u8::is_ascii_hexdigit));
        all(text, u8::is_ascii_digit) || numbered || of_directory
    }
}

impl FromStr for SessionName {
    type Err = IdError;

    fn from_str(s: &str) -> Result<Self, IdError> {
        let shown = || IdError::Name(s.chars().take(80).flat_map(char::escape_default).collect());
        match s.parse() {
            Ok(id) if !Self::is_reserved(s) => Ok(Self(id)),
            Ok(_) | Err(_) => Err(shown()),
        }
    }
}

impl std::borrow::Borrow<str> for SessionName {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for SessionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for SessionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl<'de> Deserialize<'de> for SessionName {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(de::Error::custom)
    }
}

/// An id that is a word and a number, most often an event's.
macro_rules! event_name {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $pattern:literal, $error:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[cfg_attr(feature = "api", derive(utoipa::ToSchema))]
        #[cfg_attr(feature = "api", schema(value_type = String, pattern = $pattern))]
        pub struct $name(pub u64);

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(s: &str) -> Result<Self, IdError> {
                s.strip_prefix($prefix)
                    .filter(|n| n.len() <= 18 && n.bytes().all(|b| b.is_ascii_digit()))
                    .and_then(|n| n.parse().ok())
                    .map(Self)
                    .ok_or_else(|| IdError::$error(s.chars().take(80).flat_map(char::escape_default).collect()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                if s.is_human_readable() { s.collect_str(self) } else { s.serialize_u64(self.0) }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                if d.is_human_readable() {
                    String::deserialize(d)?.parse().map_err(de::Error::custom)
                } else {
                    u64::deserialize(d).map(Self)
                }
            }
        }
    };
}

event_name!(
    /// Name of an accepted prompt: `prompt-` and the id of the event that recorded its acceptance, so it is
    /// unique across sessions and grows with time.
    PromptId,
    "prompt-",
    "^prompt-[0-9]{1,18}$",
    Prompt
);

impl PromptId {
    /// No prompt: what a worker says instead of one, where a message has room for nothing else.
    pub const NONE: Self = Self(0);
}

event_name!(
    /// Name of a permission that an agent asked for: `permission-` and the id of the event that recorded the
    /// question.
    PermissionId,
    "permission-",
    "^permission-[0-9]{1,18}$",
    Permission
);

event_name!(
    /// Name of something that an agent wants done by a client: `call-` and the id of the event that recorded it.
    CallId,
    "call-",
    "^call-[0-9]{1,18}$",
    Call
);

event_name!(
    /// Name of a key that lets a client in: `key-` and a number, which no other key of the state directory has or will have.
    KeyId,
    "key-",
    "^key-[0-9]{1,18}$",
    Key
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_ids_are_safe_in_paths_urls_and_environment() {
        for good in ["session-1", "a", "A.b_c-9", &"x".repeat(64)] {
            assert_eq!(good.parse::<SessionId>().unwrap().as_str(), good);
        }
        for bad in ["", ".", "..", "-a", "a/b", "a b", "ä", "a\n", "\u{1b}[31m", &"x".repeat(65)] {
            let error = bad.parse::<SessionId>().unwrap_err().to_string();
            assert!(!error.contains('\u{1b}') && !error.contains('\n'), "{error:?}");
        }
    }

    #[test]
    fn only_plain_numbers_count_as_generated_ids() {
        let number = |s: &str| s.parse::<SessionId>().unwrap().number();
        assert_eq!(number("session-12"), Some(12));
        for other in
            ["session-", "session-012", "session-1x", "session-0", "other-1", "session-99999999999999999999"]
        {
            assert_eq!(number(other), None, "{other}");
        }
    }

    #[test]
    fn prompt_ids_read_back_what_they_print() {
        assert_eq!("prompt-17".parse(), Ok(PromptId(17)));
        assert_eq!(PromptId(17).to_string(), "prompt-17");
        for bad in ["17", "prompt-", "prompt-x", "prompt-+1", "prompt--1", "prompt-1000000000000000000"] {
            assert!(bad.parse::<PromptId>().is_err(), "{bad}");
        }
        assert_eq!("permission-20".parse(), Ok(PermissionId(20)));
        assert!("prompt-20".parse::<PermissionId>().is_err());
        assert_eq!("call-21".parse(), Ok(CallId(21)));
    }
}
