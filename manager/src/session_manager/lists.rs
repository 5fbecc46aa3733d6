//! Lists of sessions, and the session that is meant by a name, a part of an id or a process.

use std::sync::Arc;

use protocol::SessionId;
use protocol::api::SessionInfo;

use super::SessionManager;
use super::wait::has_ended;
use crate::config::{self, Called};
use crate::core::{Refusal, Session, Spec};
use crate::error::Error;

impl SessionManager {
    /// Lists all sessions, in the order of their creation.
    pub async fn list_sessions(&self) -> Result<Vec<SessionInfo>, Error> {
        self.list(true).await
    }

    /// Lists sessions, in the order of their creation: all, or those that are neither stopped nor failed.
    pub(crate) async fn list(&self, all: bool) -> Result<Vec<SessionInfo>, Error> {
        let reach = self.reach();
        let found = self.read(move |fleet, now| {
            let wanted = |session: &&Arc<Session>| (all || !has_ended(session)) && reach(fleet, session);
            // The loop only shares them: here they are put in order and described.
            (fleet.sessions().filter(wanted).cloned().collect::<Vec<Arc<Session>>>(), now)
        });
        let (mut found, now) = found.await?;
        found.sort_by(|a, b| (a.created_at, a.id.number(), &a.id).cmp(&(b.created_at, b.id.number(), &b.id)));
        Ok(found.iter().map(|session| self.shared.around.told(session, now)).collect())
    }

    /// The session whose worker, or whose agent, has this pid now.
    pub async fn session_id_for_pid(&self, pid: u32) -> Result<SessionId, Error> {
        let reach = self.reach();
        let found = self.read(move |fleet, now| {
            let holds = |session: &&Arc<Session>| {
                let is_its = session.pid() == Some(pid) || session.info(now).agent_pid == Some(pid);
                is_its && reach(fleet, session)
            };
            fleet.sessions().find(holds).map(|session| session.id.clone())
        });
        found.await?.ok_or(Error::Refused(Refusal::NoSuchPid(pid)))
    }

    /// The session whose worker is one of these processes, each with its start time; and whether its agent is in a sandbox.
    pub(crate) async fn session_above(
        &self,
        chain: Vec<(u32, u64)>,
    ) -> Result<Option<(SessionId, bool)>, Error> {
        self.read(move |fleet, _| {
            let is_one = |session: &&Arc<Session>| {
                session.worker().is_some_and(|worker| chain.contains(&(worker.pid, worker.start_time)))
            };
            let found = fleet.sessions().find(is_one)?;
            Some((found.id.clone(), found.spec.walls.is_some()))
        })
        .await
    }

    /// The session that a person means: this id, or the only one that begins so.
    ///
    /// # Errors
    /// `no_such_session` with the nearest id as a hint; `ambiguous_id`.
    pub async fn lookup(&self, text: &str) -> Result<SessionId, Error> {
        if let Ok(exact) = text.parse::<SessionId>()
            && self.reaches(&exact).await?
        {
            return Ok(exact);
        }
        let reach = self.reach();
        let reached = self.read(move |fleet, _| {
            let reached = fleet.sessions().filter(|session| reach(fleet, session));
            reached.map(|session| (session.id.clone(), session.spec.clone())).collect::<Vec<_>>()
        });
        let called = |(id, spec): (SessionId, Arc<Spec>)| Called {
            id,
            name: spec.name.clone(),
            title: spec.title.clone(),
        };
        config::lookup(text, &reached.await?.into_iter().map(called).collect::<Vec<Called>>())
    }

    /// The session with this name, if the client reaches it.
    pub(crate) async fn named(&self, name: &SessionId) -> Result<Option<SessionId>, Error> {
        let (name, reach) = (name.clone(), self.reach());
        self.read(move |fleet, _| {
            let named = fleet.named(name.as_str()).filter(|session| reach(fleet, session));
            named.map(|session| session.id.clone())
        })
        .await
    }
}
