//! Types of events that a reader wants, where it does not want all.

use std::sync::Arc;

use protocol::event::EventKind;

/// Some types of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Types {
    names: Arc<[&'static str]>,
    /// The names as one text, with a comma before and after each.
    between_commas: Arc<str>,
}

impl Types {
    /// The types with these names.
    ///
    /// # Errors
    /// The first name of no type.
    pub fn named<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, &'a str> {
        let known = |name: &'a str| {
            let known = EventKind::NAMES.binary_search(&name).ok();
            known.map(|place| EventKind::NAMES[place]).ok_or(name)
        };
        let mut names = names.into_iter().map(known).collect::<Result<Vec<_>, _>>()?;
        names.sort_unstable();
        names.dedup();
        let between_commas = format!(",{},", names.join(",")).into();
        Ok(Self { names: names.into(), between_commas })
    }

    /// Returns true if an event with this type's name is wanted.
    pub fn has(&self, name: &str) -> bool {
        self.names.binary_search(&name).is_ok()
    }

    pub(super) fn between_commas(&self) -> &str {
        &self.between_commas
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_known_by_their_names_and_each_is_there_once() {
        assert_eq!(Types::named(["turn.started", "x", "y"]), Err("x"));
        let two = Types::named(["turn.started", "session.ready", "turn.started"]).unwrap();
        assert!(two.has("session.ready") && two.has("turn.started") && !two.has("turn"));
        assert_eq!(two.between_commas(), ",session.ready,turn.started,");
    }
}
