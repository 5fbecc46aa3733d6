//! Search over the conversations of all sessions that a client reaches.

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::SessionId;
use protocol::api::{SearchReply, SearchRequest, SearchedSession};
use protocol::bounds::HITS;

use super::SessionManager;
use crate::core::{Refusal, Session};
use crate::error::Error;
use crate::search::{Query, Wanted};

/// The most hits, unless the request says otherwise.
const LIMIT: usize = 50;

impl SessionManager {
    /// Searches prompts, answers, thoughts, tool calls and titles of sessions, newest first. The first search after some time adds
    /// what was said since to an index; a reply that is not `complete` names the events that it has not searched.
    ///
    /// # Errors
    /// `invalid_query` and `invalid_parameter`; `no_such_session`; `overloaded` if too many searches are under way;
    /// [`Error::Unread`] if the index or the journal cannot be read.
    pub async fn search(&self, request: &SearchRequest) -> Result<SearchReply, Error> {
        let query = Query::parse(&request.text)?;
        let limit = request.limit.unwrap_or(LIMIT);
        if !(1..=HITS).contains(&limit) {
            return Err(Error::invalid("invalid_parameter", format!("query: `limit` is 1 to {HITS}")));
        }
        let reach = self.reach();
        let (reached, all) = self
            .read(move |fleet, _| {
                let reached = fleet.sessions().filter(|session| reach(fleet, session)).cloned();
                (reached.collect::<Vec<Arc<Session>>>(), fleet.sessions().count())
            })
            .await?;
        let mut sessions: BTreeMap<SessionId, Arc<Session>> =
            reached.into_iter().map(|session| (session.id.clone(), session)).collect();
        if let Some(only) = &request.session {
            sessions.retain(|id, _| id == only);
            if sessions.is_empty() {
                return Err(Refusal::NoSuchSession(only.to_string()).into());
            }
        }
        if let Some(agent) = &request.agent {
            sessions.retain(|_, session| session.spec.agent_name == *agent);
        }
        let wanted = Wanted {
            query,
            all: sessions.len() == all,
            sessions: sessions.keys().cloned().collect(),
            kind: request.kind,
            since: request.since,
        };
        let mut reply = self.shared.search.find(&wanted, limit, self.asker.sender.clone()).await?;
        let found =
            sessions.into_values().filter(|session| reply.hits.iter().any(|hit| hit.session == session.id));
        reply.sessions = found
            .map(|session| SearchedSession {
                id: session.id.clone(),
                name: session.spec.name.clone(),
                title: session.spec.title.clone(),
                agent: session.spec.agent_name.clone(),
            })
            .collect();
        Ok(reply)
    }
}
