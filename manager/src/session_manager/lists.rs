//! Lists of sessions, and the session that is meant by a name, a part of an id or a process.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use protocol::SessionId;
use protocol::api::{SessionInfo, Status};
use protocol::event::Timestamp;
use serde::Deserialize;
use utoipa::ToSchema;

use super::SessionManager;
use crate::config::{self, Called};
use crate::core::{Refusal, Session, Spec, State};
use crate::error::Error;
use crate::system::blocking;

/// A list of sessions: which, in which order, and which part of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct List {
    /// Without those that are stopped.
    pub without_stopped: bool,
    /// With one of these states; none: with any.
    pub status: Vec<Status>,
    /// That wait for somebody.
    pub needs: bool,
    /// Of one of these agents' profiles; none: of any.
    pub agents: Vec<String>,
    /// That work in this directory or below it.
    pub dir: Option<PathBuf>,
    /// With all of these labels, and their values where they are given.
    pub labels: Vec<(String, Option<String>)>,
    /// With a message since then, or made since then.
    pub since: Option<Timestamp>,
    /// The order.
    pub sort: Sort,
    /// The number of sessions that are left out at the beginning.
    pub skip: usize,
    /// The most sessions that are listed.
    pub limit: Option<usize>,
}

/// An order of sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Sort {
    /// The oldest first.
    #[default]
    Created,
    /// The one with the newest message first.
    Last,
    /// By name.
    Name,
    /// The one that has waited longest for somebody first, and those that wait for nobody last.
    Needs,
}

impl List {
    fn has(&self, session: &Session) -> bool {
        let labelled =
            |(label, value): &(String, Option<String>)| match (session.spec.labels.get(label), value) {
                (Some(is), Some(value)) => is == value,
                (is, None) => is.is_some(),
                (None, Some(_)) => false,
            };
        (self.status.is_empty() || self.status.contains(&session.status()))
            && (!self.needs || session.needs_somebody())
            && (self.agents.is_empty() || self.agents.contains(&session.spec.agent_name))
            && self.dir.as_ref().is_none_or(|dir| Path::new(&session.spec.workdir).starts_with(dir))
            && self.labels.iter().all(labelled)
            && self.since.is_none_or(|since| last(session) >= since.0)
    }
}

impl Sort {
    fn order(self, sessions: &mut [Arc<Session>]) {
        sessions
            .sort_by(|a, b| (a.created_at, a.id.number(), &a.id).cmp(&(b.created_at, b.id.number(), &b.id)));
        match self {
            Sort::Created => {}
            Sort::Last => sessions.sort_by_key(|session| std::cmp::Reverse(last(session))),
            Sort::Name => sessions.sort_by(|a, b| a.spec.name.cmp(&b.spec.name)),
            Sort::Needs => sessions.sort_by_cached_key(|session| {
                session.needs_since().map_or(u64::MAX, |Timestamp(since)| since)
            }),
        }
    }
}

/// Time of a session's last message, or of its beginning, unix time in milliseconds.
fn last(session: &Session) -> u64 {
    session.turns.last_message_at.unwrap_or(session.created_at)
}

impl SessionManager {
    /// Lists all sessions, in the order of their creation.
    pub async fn list_sessions(&self) -> Result<Vec<SessionInfo>, Error> {
        self.list(&List::default()).await
    }

    /// Lists the sessions that a list is asked for, in its order.
    pub(crate) async fn list(&self, list: &List) -> Result<Vec<SessionInfo>, Error> {
        let (reach, without_stopped) = (self.reach(), list.without_stopped);
        let found = self.read(move |fleet, now| {
            let stopped = |session: &Session| without_stopped && matches!(session.state, State::Stopped);
            let wanted = |session: &&Arc<Session>| !stopped(session) && reach(fleet, session);
            // The loop only shares them: here they are chosen, put in order and described.
            (fleet.sessions().filter(wanted).cloned().collect::<Vec<Arc<Session>>>(), now)
        });
        let (mut found, now) = found.await?;
        found.retain(|session| list.has(session));
        list.sort.order(&mut found);
        let page = found.iter().skip(list.skip).take(list.limit.unwrap_or(usize::MAX));
        Ok(page.map(|session| self.shared.around.told(session, now)).collect())
    }

    /// The path of a directory without symbolic links, as sessions have theirs; the path itself if there is no such directory.
    ///
    /// # Errors
    /// `overloaded` if too many directories are being looked at: a disk that hangs keeps threads.
    pub(crate) async fn without_links(&self, dir: PathBuf) -> Result<PathBuf, Error> {
        let place = self.shared.looks.take(&self.asker.sender).map_err(|full| {
            Error::files("overloaded", format!("too many directories are being looked at: {full}"))
        })?;
        let look = move || {
            let found = std::fs::canonicalize(&dir).unwrap_or(dir);
            drop(place);
            found
        };
        blocking::run(look).await.ok_or_else(|| Error::Unread("a thread of this request panicked".into()))
    }

    /// The session whose worker, or whose agent, has this pid now.
    pub async fn session_id_for_pid(&self, pid: u32) -> Result<SessionId, Error> {
        let reach = self.reach();
        let found = self.read(move |fleet, _| {
            let holds = |session: &&Arc<Session>| {
                let is_its = session.pid() == Some(pid) || session.agent_pid() == Some(pid);
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
            // An id goes before a name.
            let named = fleet.named(name.as_str()).filter(|_| fleet.get(&name).is_none());
            let named = named.filter(|session| reach(fleet, session));
            named.map(|session| session.id.clone())
        })
        .await
    }
}
