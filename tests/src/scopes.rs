//! What holds for each request that is made with a key, whatever the fleet: the key changes only sessions of its scope, and what it
//! does not reach is answered as if it did not exist.

use manager::core::{Ask, Change, Fleet, Refusal, Scope};
use protocol::{KeyId, SessionId};

/// Returns what a step has broken; none if nothing.
pub fn broken(fleet: &Fleet, ask: &Ask, result: &Result<Change, Refusal>) -> Option<String> {
    let Ask::ByKey { key, scope, ask: inner } = ask else { return None };
    let problem = match result {
        Ok(change) => changed(fleet, *key, scope, change),
        Err(refusal) => told(fleet, scope, inner, refusal),
    };
    problem.map(|what| format!("{ask:?}: {what}"))
}

fn changed(fleet: &Fleet, key: KeyId, scope: &Scope, change: &Change) -> Option<String> {
    if let Some((id, _)) = &change.removed {
        return Some(format!("a key has removed {id}"));
    }
    let reached = |id: &SessionId| fleet.get(id).is_some_and(|session| fleet.is_within(session, scope));
    for session in &change.sessions {
        let (is_new, parent) = (fleet.get(&session.id).is_none(), session.parent.as_ref());
        let belongs = match parent.and_then(|parent| fleet.get(parent)) {
            Some(parent) => reached(&parent.id) && session.started_by == parent.started_by,
            None => session.started_by == Some(key),
        };
        if is_new && scope.starts_none() && parent.is_none_or(|parent| !reached(parent)) {
            return Some(format!("a key that starts none has started {}", session.id));
        }
        if is_new && !belongs {
            return Some(format!("{} belongs to {:?}", session.id, session.started_by));
        }
        if !fleet.is_within(session, scope) {
            return Some(format!("{} has left the scope of the key that changed it", session.id));
        }
        if !is_new && !reached(&session.id) {
            return Some(format!("{} was changed, which the key does not reach", session.id));
        }
    }
    None
}

fn told(fleet: &Fleet, scope: &Scope, ask: &Ask, refusal: &Refusal) -> Option<String> {
    let hidden = |id: &SessionId| fleet.get(id).is_some_and(|session| !fleet.is_within(session, scope));
    let absent = |id: &SessionId| *refusal == Refusal::NoSuchSession(id.to_string());
    let unusable = |id: &SessionId| *refusal == Refusal::IdUnusable(id.clone());
    let of_some = scope.starts_none();
    let tells_a_name = match refusal {
        Refusal::NameTaken { of, .. } | Refusal::IdIsName { of, .. } => hidden(of),
        Refusal::ConversationTaken { of: Some(of), .. } => hidden(of),
        Refusal::NameIsId(..) => *scope != Scope::All,
        _ => false,
    };
    if tells_a_name {
        return Some(format!("it was told of a name: {refusal}"));
    }
    let as_it_should = *refusal == Refusal::Closing
        || match ask {
            Ask::Subagent { parent: Some(parent), .. } if hidden(parent) => absent(parent),
            Ask::Create { .. } | Ask::Subagent { parent: None, .. } if of_some => {
                matches!(refusal, Refusal::NoSuchSession(_))
            }
            Ask::Fork(fork) if of_some || hidden(&fork.origin) => absent(&fork.origin),
            Ask::Edit(id, _) if hidden(id) => absent(id),
            Ask::Ensure { id, .. } if of_some && (fleet.get(id).is_none() || hidden(id)) => absent(id),
            Ask::Ensure { id, .. }
            | Ask::Create { id: Some(id), .. }
            | Ask::Subagent { id: Some(id), .. }
                if hidden(id) || fleet.named(id.as_str()).is_some_and(|session| hidden(&session.id)) =>
            {
                unusable(id)
            }
            Ask::Create { id: Some(id), .. } if *scope != Scope::All && fleet.retired().contains_key(id) => {
                unusable(id)
            }
            _ => !matches!(refusal, Refusal::IdUnusable(_)),
        };
    (!as_it_should).then(|| format!("it was told: {refusal}"))
}
