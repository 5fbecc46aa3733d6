//! The client for whom a manager acts, and what it can reach.

use std::path::PathBuf;

use protocol::SessionId;
use protocol::api::ClientOrigin;

use super::SessionManager;
use crate::config::workdir;
use crate::core::{Ask, Fleet, Refusal, Scope, Session};
use crate::error::Error;
use crate::shares::Sender;
use crate::system::blocking;

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
    /// A request to start or name a session, as this client makes it; any other request as it is.
    pub(super) fn asks(&self, ask: Ask) -> Ask {
        let key = self.origin.as_ref().and_then(|origin| origin.key);
        match (key, ask) {
            (
                Some(key),
                ask @ (Ask::Create { .. }
                | Ask::Ensure { .. }
                | Ask::Fork(_)
                | Ask::Subagent { .. }
                | Ask::Edit(..)),
            ) => Ask::ByKey { key, scope: self.scope.clone(), ask: Box::new(ask) },
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

    /// Returns once the session exists and the client does not reach it any more: it has lost the label of a key's scope. Never
    /// returns for a client of another scope, for a session that is removed, and when the manager ends.
    pub(crate) async fn out_of_reach(&self, id: &SessionId) {
        let scope = &self.asker.scope;
        if !matches!(scope, Scope::Labels(_)) {
            return std::future::pending().await;
        }
        loop {
            let (id, wanted) = (id.clone(), scope.clone());
            let labelled = self.read(move |fleet, _| {
                let session = fleet.get(&id)?;
                Some(fleet.labelled(session, &wanted).map(|labelled| labelled.id.clone()))
            });
            let labelled = match labelled.await {
                Err(_) | Ok(None) => return std::future::pending().await,
                Ok(Some(None)) => return,
                Ok(Some(Some(labelled))) => labelled,
            };
            let wanted = scope.clone();
            let has_lost_it = move |session: &Session| (!wanted.is_by_label_of(session)).then_some(Ok(()));
            // One that is removed may have sessions below.
            let _ = self.until(&labelled, "the loss of a label", None, has_lost_it).await;
        }
    }

    /// The id of the directory's session: for a key that reaches its own sessions, of a session of its own. With the id that
    /// everybody has the key would learn which directories others use.
    pub(crate) async fn id_of_directory(&self, path: PathBuf) -> Result<SessionId, Error> {
        let key = match self.asker.scope {
            Scope::Own(key) => Some(key),
            Scope::All | Scope::Ids(_) | Scope::Labels(_) => None,
        };
        let found = blocking::run(move || workdir::id_for(&path, key)).await;
        found.unwrap_or_else(|| Err(Error::Unread("a thread of this request panicked".into())))
    }

    /// Refuses the id of somebody else's directory to a key that reaches its own sessions, whether or not there is such a session.
    pub(super) async fn may_use(&self, id: Option<&SessionId>, workdir: &str) -> Result<(), Error> {
        let Some(id) = id.filter(|id| matches!(self.asker.scope, Scope::Own(_)) && workdir::is_stable(id))
        else {
            return Ok(());
        };
        if self.reaches(id).await? || self.id_of_directory(workdir.into()).await? == *id {
            return Ok(());
        }
        Err(Refusal::IdUnusable(id.clone()).into())
    }

    /// Tells which sessions the client reaches.
    pub(super) fn reach(&self) -> impl Fn(&Fleet, &Session) -> bool + Send + 'static {
        let scope = self.asker.scope.clone();
        move |fleet, session| fleet.is_within(session, &scope)
    }
}
