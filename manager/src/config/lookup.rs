//! Names that a person types: the session or agent that is meant, and how names are shown.

use protocol::SessionId;

use crate::core::Refusal;
use crate::error::Error;

/// The session that a person means: an id, or the only id that begins so.
///
/// # Errors
/// `no_such_session`, with the nearest id as a hint; `ambiguous_id`.
pub fn lookup(typed: &str, ids: &[SessionId]) -> Result<SessionId, Error> {
    if let Some(exact) = ids.iter().find(|id| id.as_str() == typed) {
        return Ok(exact.clone());
    }
    let begins = |id: &&SessionId| !typed.is_empty() && id.as_str().starts_with(typed);
    let fitting: Vec<&SessionId> = ids.iter().filter(begins).collect();
    let name = shown(typed, 80);
    match fitting[..] {
        [one] => Ok(one.clone()),
        [] => Err(match nearest(typed, ids.iter().map(SessionId::as_str)) {
            Some(near) => Error::invalid_with(
                "no_such_session",
                format!("no such session `{name}`"),
                format!("did you mean `{near}`?"),
            ),
            None => Error::Refused(Refusal::NoSuchSession(name)),
        }),
        _ => {
            let names: Vec<&str> = fitting.iter().map(|id| id.as_str()).collect();
            let message = format!("`{name}` could be {} sessions: {}", names.len(), listed(&names, 5));
            Err(Error::invalid_with("ambiguous_id", message, "type more of the id"))
        }
    }
}

/// Finds the known name that is most similar to the typed one.
pub(super) fn nearest<'a>(typed: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
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

    fn ids(ids: &[&str]) -> Vec<SessionId> {
        ids.iter().map(|id| id.parse().unwrap()).collect()
    }

    #[test]
    fn an_exact_id_beats_a_prefix_and_a_unique_prefix_is_enough() {
        let ids = ids(&["session-1", "session-10", "session-2", "workdir-0123"]);
        assert_eq!(lookup("session-1", &ids).unwrap().as_str(), "session-1");
        assert_eq!(lookup("session-2", &ids).unwrap().as_str(), "session-2");
        assert_eq!(lookup("w", &ids).unwrap().as_str(), "workdir-0123");
    }

    #[test]
    fn an_ambiguous_prefix_names_five_at_most() {
        let many: Vec<SessionId> = (1..=8).map(SessionId::numbered).collect();
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
