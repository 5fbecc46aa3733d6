//! The rule of names, whatever the fleet: each session has one, it leads to the session, and it is nothing else's.

use manager::core::Fleet;

/// Returns the fault in the names; none if there is none.
pub fn broken(fleet: &Fleet) -> Option<String> {
    for session in fleet.sessions() {
        let Some(name) = &session.spec.name else {
            return Some(format!("{} has no name", session.id));
        };
        let leads_to = fleet.named(name.as_str()).map(|session| &session.id);
        if leads_to != Some(&session.id) {
            return Some(format!("`{name}`, the name of {}, leads to {leads_to:?}", session.id));
        }
        let is_id = fleet.get(name.as_id()).is_some() || fleet.retired().contains_key(name.as_id());
        if is_id && *name.as_id() != session.id {
            return Some(format!("`{name}`, the name of {}, is an id", session.id));
        }
    }
    None
}
