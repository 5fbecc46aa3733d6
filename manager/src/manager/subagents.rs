//! Sub-agents: sessions that others have started.

use std::sync::Arc;

use protocol::SessionId;
use protocol::api::*;
use protocol::event::Timestamp;

use super::{SessionManager, check_prompt, created, has_pid, parse_id};
use crate::core::{Ask, Fleet, Session};
use crate::error::Error;
use crate::supervisor::IdempotencyKey;

impl SessionManager {
    /// Starts a session with a first prompt, below `parent` (a session id, or its worker's current pid). The
    /// handle comes at once; the task is on disk and is delivered as soon as the child is ready.
    ///
    /// # Errors
    /// Those of [`start_session`](Self::start_session) and [`send_prompt`](Self::send_prompt), and `subagent_limit`
    /// where a parent has as many sub-agents as it may, or is as deep.
    pub async fn start_background_subagent(
        &self,
        parent: Option<&str>,
        task: &str,
        opts: SessionOpts,
        key: Option<&str>,
    ) -> Result<SubagentHandle, Error> {
        check_prompt(task)?;
        let parent = self.parent(parent).await?;
        let id = opts.id.as_deref().map(parse_id).transpose()?;
        let key =
            key.map(|key| IdempotencyKey::new("subagents", key, &(&parent, task, &opts))).transpose()?;
        let spec = Arc::new(self.spec(&opts).await?);
        let reply = self.ask_keyed(Ask::Subagent { parent, id, spec, task: task.into() }, key).await?;
        let id = created(reply)?;
        self.until(&id, "its process", None, has_pid).await?;
        let handle =
            self.read(move |fleet, _| fleet.get(&id).map(|child| subagent_handle(fleet, child))).await?;
        handle.ok_or(Error::Ended)
    }

    /// The sub-agents of `parent` (a session id, or its worker's current pid), or all; oldest first.
    pub async fn list_background_subagents(
        &self,
        parent: Option<&str>,
    ) -> Result<Vec<SubagentHandle>, Error> {
        let parent = self.parent(parent).await?;
        self.read(move |fleet, _| {
            let subagents = fleet.subagents(parent.as_ref());
            subagents.into_iter().map(|child| subagent_handle(fleet, child)).collect()
        })
        .await
    }

    /// Whether `id` is a sub-agent of `root`, or of one that is.
    pub(crate) async fn is_below(&self, id: &SessionId, root: &SessionId) -> Result<bool, Error> {
        let (id, root) = (id.clone(), root.clone());
        self.read(move |fleet, _| fleet.above(&id).any(|session| session.id == root)).await
    }

    async fn parent(&self, parent: Option<&str>) -> Result<Option<SessionId>, Error> {
        let Some(parent) = parent else { return Ok(None) };
        if let Ok(pid) = parent.parse::<u32>() {
            return self.session_id_for_pid(pid).await.map(Some);
        }
        let id = parse_id(parent)?;
        self.with_session(&id, |_, _| ()).await?;
        Ok(Some(id))
    }
}

fn subagent_handle(fleet: &Fleet, child: &Session) -> SubagentHandle {
    let parent = child.parent.as_ref().and_then(|id| fleet.get(id));
    SubagentHandle {
        session_id: child.id.clone(),
        pid: child.pid(),
        parent_session_id: child.parent.clone(),
        parent_pid: parent.and_then(|parent| parent.pid()),
        task: child.task.as_ref().map(|task| task.text.to_string()).unwrap_or_default(),
        model: child.spec.model.clone(),
        started_at: Timestamp(child.created_at),
        status: child.status(),
    }
}
