//! The client for whom a manager acts, and what it can reach.

use protocol::SessionId;
use protocol::api::ClientOrigin;

use super::SessionManager;
use crate::core::{Ask, Fleet, Scope, Session};
use crate::error::Error;
use crate::shares::Sender;

/// A client that is not the owner at this machine.
#[derive(Clone, Debug, Default)]
pub struct Asker {
    /// Its key and its address.
    pub origin: Option<ClientOrigin>,
    /// The sessions that it reaches.
    pub scope: Scope,
    /// The sender whose places its requests take.
    pub sender: Sender,
}

impl Asker {
    /// A request to start a session, as this client makes it; any other request as it is.
    pub(super) fn asks(&self, ask: Ask) -> Ask {
        let key = self.origin.as_ref().and_then(|origin| origin.key);
        match (key, ask) {
            (Some(key), ask @ (Ask::Create { .. } | Ask::Ensure { .. } | Ask::Subagent { .. })) => {
                Ask::ByKey { key, scope: self.scope.clone(), ask: Box::new(ask) }
            }
            (_, ask) => ask,
        }
    }

    /// The scope of this client's idempotency keys: with one key nobody learns of a session that another client started.
    pub(super) fn scope_of_keys(&self, requests: &str) -> String {
        match self.origin.as_ref().and_then(|origin| origin.key) {
            Some(key) => format!("{requests}/{key}"),
            None => requests.to_owned(),
        }
    }
}

impl SessionManager {
    /// Acts for this client: sessions that it does not reach do not exist.
    pub(crate) fn asked_by(&self, asker: Asker) -> Self {
        Self { shared: self.shared.clone(), client: self.client, asker: asker.into() }
    }

    /// Returns true if the session exists and the client reaches it.
    pub(crate) async fn reaches(&self, id: &SessionId) -> Result<bool, Error> {
        let (id, scope) = (id.clone(), self.asker.scope.clone());
        self.read(move |fleet, _| fleet.get(&id).is_some_and(|session| fleet.is_within(session, &scope)))
            .await
    }

    /// Tells which sessions the client reaches.
    pub(super) fn reach(&self) -> impl Fn(&Fleet, &Session) -> bool + Send + 'static {
        let scope = self.asker.scope.clone();
        move |fleet, session| fleet.is_within(session, &scope)
    }
}
