//! The caller of a request, as handlers have it.

use std::net::IpAddr;
use std::sync::Arc;

use protocol::SessionId;
use protocol::api::{ClientOrigin, KeySessions, Role};

use super::denied::{not_listed, starts_none};
use super::problem::Answer;
use crate::core::Scope;
use crate::keys::Key;
use crate::session_manager::Asker;
use crate::shares::Sender;

/// The caller of a request. [`check`](super::auth::check) adds it to every request.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The session whose token the request carries; none: the owner asks.
    pub session: Option<SessionId>,
    /// The most that it may be.
    pub role: Role,
    /// The key that the request carries, if it carries one.
    pub key: Option<Arc<Key>>,
    /// Its address, if it came in by the port.
    pub address: Option<IpAddr>,
}

/// The session that a request is about: the id in its path, or the id of the session with that name.
#[derive(Clone, Debug)]
pub struct Meant(pub Option<SessionId>);

impl Caller {
    /// The client as the manager knows it.
    pub fn asker(&self) -> Asker {
        let sender = self.sender();
        let Some(key) = &self.key else {
            let (address, token) = (self.address.map(|address| address.to_string()), self.session.is_some());
            let is_owner = address.is_none() && !token;
            let origin = (!is_owner).then(|| ClientOrigin { address, token, ..ClientOrigin::default() });
            return Asker { origin, scope: Scope::All, sender };
        };
        let origin = ClientOrigin {
            key: Some(key.id),
            key_name: Some(key.name.clone()),
            address: self.address.map(|address| address.to_string()),
            token: false,
        };
        let scope = match &key.sessions {
            KeySessions::All => Scope::All,
            KeySessions::Own => Scope::Own(key.id),
            KeySessions::Ids(ids) => Scope::Ids(Arc::new(ids.iter().cloned().collect())),
            KeySessions::Labels(labels) => Scope::Labels(Arc::new(labels.clone())),
        };
        Asker { origin: Some(origin), scope, sender }
    }

    /// The sender whose places the request takes.
    pub fn sender(&self) -> Sender {
        match (&self.key, &self.session) {
            (Some(key), _) => Sender::Key(key.id),
            (None, Some(session)) => Sender::Session(session.clone()),
            (None, None) => Sender::Owner,
        }
    }

    /// Returns true for a key that reaches sessions that are listed or have labels, and starts none.
    pub fn is_of_some(&self) -> bool {
        let sessions = self.key.as_ref().map(|key| &key.sessions);
        matches!(sessions, Some(KeySessions::Ids(_) | KeySessions::Labels(_)))
    }

    /// Refuses a new session that the caller's key would not reach. None is a new session whose id kennel chooses.
    pub fn may_name(&self, id: Option<&str>) -> Answer<()> {
        match self.key.as_ref().map(|key| &key.sessions) {
            Some(KeySessions::Ids(ids)) if !ids.iter().any(|listed| Some(listed.as_str()) == id) => {
                Err(not_listed())
            }
            Some(KeySessions::Labels(_)) => Err(starts_none()),
            Some(KeySessions::All | KeySessions::Own | KeySessions::Ids(_)) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_owner_at_this_machine_comes_from_nowhere() {
        let caller = |session: Option<&str>, address: Option<IpAddr>| Caller {
            session: session.map(|id| id.parse().unwrap()),
            role: Role::Driver,
            key: None,
            address,
        };
        let origin = |session, address| caller(session, address).asker().origin;
        let address = Some(IpAddr::from([192, 0, 2, 1]));
        assert_eq!(origin(None, None), None);
        assert!(
            origin(Some("session-1"), None).is_some_and(|origin| origin.token && origin.address.is_none())
        );
        assert!(
            origin(Some("session-1"), address).is_some_and(|origin| origin.token && origin.address.is_some())
        );
        assert!(origin(None, address).is_some_and(|origin| !origin.token));
    }
}
