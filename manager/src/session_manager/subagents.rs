//! Sub-agents: sessions that others have started.

use std::sync::Arc;

use protocol::SessionId;
use protocol::api::*;
use protocol::event::Timestamp;

use super::prompts::check_prompt;
use super::wait::has_pid;
use super::{SessionManager, created, parse_id};
use crate::core::{Ask, Fleet, Session, Wish};
use crate::error::Error;
use crate::journal::IdempotencyKey;

impl SessionManager {
    /// Starts a session with a first prompt, below `parent` (a session id, or its worker's current pid). The
    /// handle comes at once; the task is on disk and is delivered as soon as the child is ready. Agent, model and directory
    /// that `opts` leaves out are the parent's.
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
        let parent = self.parent(parent).await?;
        let filled = match &parent {
            Some(parent) => self.filled(parent, &opts).await?,
            None => opts.clone(),
        };
        self.start_subagent(parent, task, opts, filled, None, key).await
    }

    /// Starts a sub-agent for the parent itself: the sub-agent can do no more than `parent`.
    ///
    /// # Errors
    /// Those of [`start_background_subagent`](Self::start_background_subagent), and `weaker_than_parent`.
    pub(crate) async fn start_subagent_of(
        &self,
        parent: &SessionId,
        task: &str,
        given: SessionOpts,
        key: Option<&str>,
    ) -> Result<SubagentHandle, Error> {
        let opts = self.filled(parent, &given).await?;
        // Only the state directory's own path is resolved: what lies in it is where it seems to be, or nowhere.
        let state_dir = std::fs::canonicalize(&self.shared.state_dir).ok();
        let worktrees = state_dir.and_then(|state_dir| {
            crate::worktrees::of_session(&state_dir, parent).to_str().map(str::to_owned)
        });
        let wish = Box::new(Wish { given: given.clone(), worktrees });
        self.start_subagent(Some(parent.clone()), task, given, opts, Some(wish), key).await
    }

    /// The options of a request; agent, model and directory that it leaves out are the parent's.
    async fn filled(&self, parent: &SessionId, given: &SessionOpts) -> Result<SessionOpts, Error> {
        let spec = self.with_session(parent, |session, _| session.spec.clone()).await?;
        // The same agent again is run with the same model, unless another is named.
        let same = given.agent.as_ref().is_none_or(|agent| *agent == spec.agent_name);
        Ok(SessionOpts {
            agent: Some(given.agent.clone().unwrap_or_else(|| spec.agent_name.clone())),
            model: given.model.clone().or_else(|| spec.model.clone().filter(|_| same)),
            workdir: Some(given.workdir.clone().unwrap_or_else(|| spec.workdir.clone())),
            ..given.clone()
        })
    }

    /// `named` is what the request says: a repeated one with the same key must say the same.
    async fn start_subagent(
        &self,
        parent: Option<SessionId>,
        task: &str,
        named: SessionOpts,
        opts: SessionOpts,
        wish: Option<Box<Wish>>,
        key: Option<&str>,
    ) -> Result<SubagentHandle, Error> {
        check_prompt(task)?;
        let id = opts.id.as_deref().map(parse_id).transpose()?;
        let scope = self.asker.scope_of_keys("subagents");
        let key = key.map(|key| IdempotencyKey::new(&scope, key, &(&parent, task, &named))).transpose()?;
        let spec = Arc::new(self.spec(&opts).await?);
        self.may_use(id.as_ref(), &spec.workdir).await?;
        let reply = self.ask_keyed(Ask::Subagent { parent, id, spec, task: task.into(), wish }, key).await?;
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
        let reach = self.reach();
        self.read(move |fleet, _| {
            let subagents = fleet.subagents(parent.as_ref());
            let subagents = subagents.into_iter().filter(|session| reach(fleet, session));
            subagents.map(|child| subagent_handle(fleet, child)).collect()
        })
        .await
    }

    /// Returns true if `id` is a sub-agent of `root`, at any depth.
    pub(crate) async fn is_below(&self, id: &SessionId, root: &SessionId) -> Result<bool, Error> {
        let (id, root) = (id.clone(), root.clone());
        self.read(move |fleet, _| fleet.above(&id).any(|session| session.id == root)).await
    }

    /// Names the respects in which `id` is weaker than `root`; `None` if either does not exist.
    pub(crate) async fn weaker_than(
        &self,
        id: &SessionId,
        root: &SessionId,
    ) -> Result<Option<Vec<&'static str>>, Error> {
        let (id, root) = (id.clone(), root.clone());
        self.read(move |fleet, _| {
            let (own, root) = (fleet.get(&id)?, fleet.get(&root)?);
            Some(own.spec.weaker_than(&root.spec))
        })
        .await
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
