//! The caller of a request, as handlers have it.

use std::net::IpAddr;
use std::sync::Arc;

use protocol::SessionId;
use protocol::api::{ClientOrigin, KeySessions, Role};

use super::denied::not_listed;
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

impl Caller {
    /// The client as the manager knows it.
    pub fn asker(&self) -> Asker {
        let sender = self.sender();
        let Some(key) = &self.key else {
            let origin = self.address.map(|address| ClientOrigin {
                address: Some(address.to_string()),
                ..ClientOrigin::default()
            });
            return Asker { origin, scope: Scope::All, sender };
        };
        let origin = ClientOrigin {
            key: Some(key.id),
            key_name: Some(key.name.clone()),
            address: self.address.map(|address| address.to_string()),
        };
        let scope = match &key.sessions {
            KeySessions::All => Scope::All,
            KeySessions::Own => Scope::Own(key.id),
            KeySessions::Ids(ids) => Scope::Ids(Arc::new(ids.iter().cloned().collect())),
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

    /// Returns true for a key that reaches sessions that are listed, and starts none.
    pub fn is_of_some(&self) -> bool {
        self.key.as_ref().is_some_and(|key| matches!(key.sessions, KeySessions::Ids(_)))
    }

    /// Refuses a new session that the caller's key would not reach. None is a new session whose id kennel chooses.
    pub fn may_name(&self, id: Option<&str>) -> Answer<()> {
        match self.key.as_ref().map(|key| &key.sessions) {
            Some(KeySessions::Ids(ids)) if !ids.iter().any(|listed| Some(listed.as_str()) == id) => {
                Err(not_listed())
            }
            Some(KeySessions::All | KeySessions::Own | KeySessions::Ids(_)) | None => Ok(()),
        }
    }
}
