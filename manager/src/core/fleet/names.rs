//! Names of sessions: whose each is, and the one that a session is given.

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::{SessionId, SessionName};

use crate::core::model::session::Session;

/// The most characters of a directory's name in a session's: there must be room for a number.
const OF_DIRECTORY: usize = 40;

/// The largest number that is looked at by doubling.
const LARGEST: u64 = 1 << 32;

/// A session changes, comes or goes.
pub(super) fn change(
    names: &mut BTreeMap<SessionName, SessionId>,
    before: Option<&Arc<Session>>,
    after: Option<&Arc<Session>>,
) {
    // Most steps leave the spec as it is, and with it the name.
    if let (Some(before), Some(after)) = (before, after)
        && Arc::ptr_eq(&before.spec, &after.spec)
    {
        return;
    }
    let name = |session: Option<&Arc<Session>>| session.and_then(|session| session.spec.name.clone());
    let (was, is) = (name(before), name(after));
    if was == is {
        return;
    }
    if let (Some(name), Some(session)) = (was, before)
        && names.get(&name) == Some(&session.id)
    {
        names.remove(&name);
    }
    if let (Some(name), Some(session)) = (is, after) {
        names.insert(name, session.id.clone());
    }
}

/// The name that a directory gives: its own, with `-` in the place of what cannot stand in a name.
pub(super) fn of_directory(workdir: &str) -> String {
    let last = workdir.rsplit('/').find(|part| !part.is_empty()).unwrap_or("root");
    let fit = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' };
    let name: String = last.chars().map(fit).collect();
    let name = name.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    let name: String = name.chars().take(OF_DIRECTORY).collect();
    match name.as_str() {
        "" => "directory".to_owned(),
        // A number alone means an id, as `session-7` does; `session-2` would be one.
        reserved if [reserved, &format!("{reserved}-2")].into_iter().any(SessionName::is_reserved) => {
            format!("dir-{reserved}")
        }
        _ => name,
    }
}

/// `base`, or the first of `base-2`, `base-3` and so on that a search finds free. It looks at few of them: a thousand sessions of
/// one directory are named without a thousand looks each. What is no name counts as free.
pub(super) fn numbered(base: &str, is_free: impl Fn(&str) -> bool) -> String {
    let with = |number: u64| if number == 1 { base.to_owned() } else { format!("{base}-{number}") };
    let (mut taken, mut free) = (0, 1);
    while !is_free(&with(free)) {
        (taken, free) = (free, free * 2);
        if free > LARGEST {
            // Somebody has taken each of these on purpose. There are fewer sessions than numbers.
            return (2..).map(with).find(|name| is_free(name)).unwrap_or_else(|| base.to_owned());
        }
    }
    while free - taken > 1 {
        let middle = taken + (free - taken) / 2;
        match is_free(&with(middle)) {
            true => free = middle,
            false => taken = middle,
        }
    }
    with(free)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_gives_a_name_that_is_one() {
        for (workdir, expected) in [
            ("/home/me/web", "web"),
            ("/home/me/web/", "web"),
            ("/srv/My Project (old)", "My-Project--old"),
            ("/", "root"),
            ("/srv/…", "directory"),
            ("/srv/.config", "config"),
            ("/srv/2", "dir-2"),
            ("/srv/session-4", "dir-session-4"),
            ("/srv/workdir-0123456789abcdef", "dir-workdir-0123456789abcdef"),
            ("/srv/session", "dir-session"),
            ("/srv/workdir", "dir-workdir"),
        ] {
            let name = of_directory(workdir);
            assert_eq!(name, expected, "{workdir}");
            assert!(name.parse::<SessionName>().is_ok(), "{name}");
        }
        let long = of_directory(&format!("/{}", "x".repeat(300)));
        assert!(format!("{long}-{}", u32::MAX).parse::<SessionName>().is_ok());
    }

    #[test]
    fn the_number_after_a_name_is_a_free_one_and_found_with_few_looks() {
        let looks = std::cell::Cell::new(0);
        for taken in [0, 1, 2, 3, 7, 8, 1000] {
            looks.set(0);
            let number = |name: &str| name.strip_prefix("web-").map_or(1, |number| number.parse().unwrap());
            let name = numbered("web", |name| {
                looks.set(looks.get() + 1);
                number(name) > taken
            });
            assert_eq!(number(&name), taken + 1);
            assert!(looks.get() <= 24, "{}", looks.get());
        }
    }

    #[test]
    fn numbers_that_somebody_has_taken_on_purpose_are_passed_over() {
        let name = numbered("web", |name| {
            let number: u64 = name.strip_prefix("web-").map_or(1, |number| number.parse().unwrap());
            !number.is_power_of_two() && number != u64::MAX
        });
        assert_eq!(name, "web-3");
    }
}
