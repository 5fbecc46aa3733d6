//! Names that a person types: the session or agent that is meant, and how names are shown.

use protocol::{SessionId, SessionName};

use super::workdir::is_stable;
use crate::core::Refusal;
use crate::error::Error;

/// A session as a person may call it.
#[derive(Clone, Debug)]
pub struct Called {
    /// Its id.
    pub id: SessionId,
    /// Its name.
    pub name: Option<SessionName>,
    /// Its title.
    pub title: Option<String>,
}

/// The session that a person means: an id; the number of a generated one; a name; or the only id or name that begins so. What
/// kennel generates as an id is never a beginning.
///
/// # Errors
/// `no_such_session`, with the nearest id or name as a hint, or the id of the session with such a title; `ambiguous_id`.
pub fn lookup(typed: &str, sessions: &[Called]) -> Result<SessionId, Error> {
    let ids = || sessions.iter().map(|session| &session.id);
    if let Some(exact) = ids().find(|id| id.as_str() == typed) {
        return Ok(exact.clone());
    }
    let number = typed.parse().ok().filter(|_| typed.bytes().all(|byte| byte.is_ascii_digit()));
    let numbered = number.map(SessionId::numbered);
    if let Some(exact) = ids().find(|id| numbered.as_ref() == Some(id)) {
        return Ok(exact.clone());
    }
    let name = |session: &Called| session.name.as_ref().map(|name| name.as_str().to_owned());
    if let Some(exact) = sessions.iter().find(|session| name(session).as_deref() == Some(typed)) {
        return Ok(exact.id.clone());
    }
    // The id of a session that was removed is not the beginning of another's.
    let whole = typed.parse::<SessionId>().is_ok_and(|id| id.number().is_some() || is_stable(&id));
    let begins = |session: &&Called| {
        let name = name(session).is_some_and(|name| name.starts_with(typed));
        !typed.is_empty() && !whole && (session.id.as_str().starts_with(typed) || name)
    };
    let fitting: Vec<&Called> = sessions.iter().filter(begins).collect();
    match fitting[..] {
        [one] => Ok(one.id.clone()),
        [] => Err(unknown(typed, sessions)),
        _ => {
            let both = |session: &&Called| match name(session) {
                Some(name) if name != session.id.as_str() => format!("{} ({name})", session.id),
                _ => session.id.to_string(),
            };
            let names: Vec<String> = fitting.iter().map(both).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let name = shown(typed, 80);
            let message = format!("`{name}` could be {} sessions: {}", names.len(), listed(&names, 5));
            Err(Error::invalid_with("ambiguous_id", message, "type more of the id or the name"))
        }
    }
}

/// Nothing is called so. A hint names what was perhaps meant.
fn unknown(typed: &str, sessions: &[Called]) -> Error {
    let with_hint = |hint: String| {
        Error::invalid_with("no_such_session", format!("no such session `{}`", shown(typed, 80)), hint)
    };
    let titled: Vec<&str> = sessions
        .iter()
        .filter(|session| !typed.is_empty() && session.title.as_deref() == Some(typed))
        .map(|session| session.id.as_str())
        .collect();
    if !titled.is_empty() {
        let is = if titled.len() == 1 { "is the title of" } else { "is a title, of" };
        return with_hint(format!(
            "that {is} {}; a title is no name: `kennel rename` gives one",
            listed(&titled, 5)
        ));
    }
    let names = sessions.iter().filter_map(|session| session.name.as_ref()).map(SessionName::as_str);
    match nearest(typed, sessions.iter().map(|session| session.id.as_str()).chain(names)) {
        Some(near) => with_hint(format!("did you mean `{near}`?")),
        None => Error::Refused(Refusal::NoSuchSession(shown(typed, 80))),
    }
}

/// Finds the known name that is most similar to the typed one.
pub(crate) fn nearest<'a>(typed: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // The comparison is quadratic, and no name is longer than 64.
    if typed.is_empty() || typed.len() > 128 {
        return None;
    }
    let likeness = |name: &str| {
        let edits = strsim::damerau_levenshtein(typed, name);
        let likeness = strsim::jaro_winkler(typed, name);
        // Three edits make any short word of any other.
        let near = likeness > 0.85 || edits <= 3.min(typed.chars().count() / 3);
        near.then_some((edits, likeness))
    };
    let near = known.filter_map(|name| Some((likeness(name)?, name)));
    let best = near.min_by(|((edits, likeness), _), ((other_edits, other_likeness), _)| {
        edits.cmp(other_edits).then(other_likeness.total_cmp(likeness))
    });
    best.map(|(_, name)| name)
}

/// The first few names, and how many more there are.
pub(super) fn listed(names: &[&str], at_most: usize) -> String {
    let first: Vec<String> = names.iter().take(at_most).map(|name| format!("`{name}`")).collect();
    let more = names.len() - first.len();
    let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
    first.join(", ") + &tail
}

/// Text from outside, made fit for a terminal and a log.
pub(super) fn shown(text: &str, chars: usize) -> String {
    let mut shown = String::new();
    for (count, c) in text.chars().enumerate() {
        match c {
            _ if count == chars => {
                shown.push_str("...");
                break;
            }
            '\'' | '"' | '\\' => shown.push(c),
            _ => shown.extend(c.escape_debug()),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(ids: &[&str]) -> Vec<Called> {
        ids.iter().map(|id| Called { id: id.parse().unwrap(), name: None, title: None }).collect()
    }

    fn called(id: &str, name: &str, title: &str) -> Called {
        let title = (!title.is_empty()).then(|| title.to_owned());
        Called { id: id.parse().unwrap(), name: name.parse().ok(), title }
    }

    #[test]
    fn a_number_and_a_name_are_as_good_as_an_id() {
        let sessions = [
            called("session-1", "web", "Mend the page"),
            called("session-12", "web-2", ""),
            called("box", "box", "Mend"),
            called("session-3", "api", "Mend"),
        ];
        for (typed, id) in [
            ("1", "session-1"),
            ("12", "session-12"),
            ("web", "session-1"),
            ("web-2", "session-12"),
            ("ap", "session-3"),
            ("box", "box"),
        ] {
            assert_eq!(lookup(typed, &sessions).unwrap().as_str(), id, "{typed}");
        }
        let error = lookup("we", &sessions).unwrap_err();
        assert_eq!(error.to_string(), "`we` could be 2 sessions: `session-1 (web)`, `session-12 (web-2)`");
        assert_eq!(lookup("wbe", &sessions).unwrap_err().hint().as_deref(), Some("did you mean `web`?"));
        let hint = lookup("Mend the page", &sessions).unwrap_err().hint().unwrap_or_default();
        assert!(hint.contains("the title of `session-1`"), "{hint}");
        let hint = lookup("Mend", &sessions).unwrap_err().hint().unwrap_or_default();
        assert!(hint.contains("`box`, `session-3`"), "{hint}");
        assert_eq!(lookup("4", &sessions).unwrap_err().code(), "no_such_session");
    }

    #[test]
    fn an_exact_id_beats_a_prefix_and_a_unique_prefix_is_enough() {
        let ids = ids(&["session-1", "session-10", "session-2", "workdir-0123"]);
        assert_eq!(lookup("session-1", &ids).unwrap().as_str(), "session-1");
        assert_eq!(lookup("session-2", &ids).unwrap().as_str(), "session-2");
        assert_eq!(lookup("w", &ids).unwrap().as_str(), "workdir-0123");
    }

    #[test]
    fn the_id_of_a_removed_session_is_not_the_beginning_of_another() {
        let ids = ids(&["session-80", "workdir-0123456789abcdef0"]);
        for typed in ["session-8", "8", "workdir-0123456789abcdef"] {
            assert_eq!(lookup(typed, &ids).unwrap_err().code(), "no_such_session", "{typed}");
        }
        assert_eq!(lookup("session-", &ids).unwrap().as_str(), "session-80");
    }

    #[test]
    fn an_ambiguous_prefix_names_five_at_most() {
        let called = |number| Called { id: SessionId::numbered(number), name: None, title: None };
        let many: Vec<Called> = (1..=8).map(called).collect();
        let error = lookup("session-", &many).unwrap_err();
        assert_eq!(error.code(), "ambiguous_id");
        let said = error.to_string();
        assert_eq!(
            said,
            "`session-` could be 8 sessions: `session-1`, `session-2`, `session-3`, `session-4`, `session-5` and 3 more"
        );
    }

    #[test]
    fn a_typing_error_is_answered_with_the_nearest_id() {
        let ids = ids(&["session-1", "session-7", "workdir-0123456789abcdef"]);
        let error = lookup("sesion-1", &ids).unwrap_err();
        assert_eq!(error.code(), "no_such_session");
        assert_eq!(error.to_string(), "no such session `sesion-1`");
        assert_eq!(error.hint().as_deref(), Some("did you mean `session-1`?"));
    }

    #[test]
    fn a_word_like_no_id_gets_the_plain_answer_without_its_control_characters() {
        let ids = ids(&["session-1", "a"]);
        for typed in ["", "x", "\u{1b}]0;title\u{7}", "../../etc/passwd", &"y".repeat(1_000_000)] {
            let error = lookup(typed, &ids).unwrap_err();
            assert_eq!(error.code(), "no_such_session");
            assert!(matches!(error, Error::Refused(Refusal::NoSuchSession(_))), "{error:?}");
            let said = error.to_string();
            assert!(said.len() < 500 && !said.contains(['\u{1b}', '\u{7}']), "{said:?}");
        }
    }
}
