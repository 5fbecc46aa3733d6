//! All sessions together: ids, sub-agents, the manager's own start and end.

pub(crate) mod ends;

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::api::{Orphans, SessionOpts};
use protocol::event::{Disposition, Event, EventKind, Timestamp};
use protocol::{EventId, Incarnation, PromptId, SessionId};
use serde::{Deserialize, Serialize};

use super::input::{Command, Input};
use super::refusal::SubagentLimit;
use super::session::{Note, Session, State, Task};
use super::{At, Attached, Effect, Refusal, Spec, Wish};

/// How far the event counter jumps at the first start after a boot or over a journal that was damaged, so that ids of
/// events that are lost, and that somebody may have seen, are never used again.
const BOOT_JUMP: EventId = 1 << 20;

/// Every session, and the counters that outlive them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fleet {
    sessions: BTreeMap<SessionId, Arc<Session>>,
    /// Ids of removed sessions, with their last incarnation: a successor under the same id goes on counting.
    retired: BTreeMap<SessionId, Incarnation>,
    /// Number of the next generated id.
    next_number: u64,
    /// Id of the next event.
    next_event: EventId,
}

/// Something that concerns the fleet.
#[derive(Clone, Debug, PartialEq)]
pub enum Ask {
    /// A new session.
    Create {
        /// Its id; else the next number.
        id: Option<SessionId>,
        /// What it runs.
        spec: Arc<Spec>,
    },
    /// The session under this id, which is started if it is not up, and created if it does not exist.
    Ensure {
        /// The id.
        id: SessionId,
        /// What it runs if it is created.
        spec: Arc<Spec>,
        /// What the caller said of it, compared with a session that exists.
        given: Box<SessionOpts>,
    },
    /// A new session with a first prompt, below `parent`.
    Subagent {
        /// Whose sub-agent it is.
        parent: Option<SessionId>,
        /// Its id; else the next number.
        id: Option<SessionId>,
        /// What it runs.
        spec: Arc<Spec>,
        /// Its first prompt.
        task: Arc<str>,
        /// What the parent itself asked for; none: the owner asks, who may do all.
        wish: Option<Box<Wish>>,
    },
    /// Stop a session and, unless they are kept, all below it.
    Stop(SessionId, Orphans),
    /// Remove a session that has no process, with its records.
    Remove(SessionId),
    /// One session's business.
    One(SessionId, Input),
    /// A manager has loaded the journal.
    ManagerStarted {
        /// Its process.
        pid: u32,
        /// Version and build.
        version: String,
        /// The machine's boot.
        boot_id: String,
        /// The journal was last written in this boot.
        same_boot: bool,
        /// What was lost of the journal, if it was damaged.
        lost: Option<String>,
    },
    /// The manager leaves and takes all processes with it.
    Shutdown,
}

/// What a command comes to, for whoever gave it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// Done, or under way.
    Done,
    /// This session was created.
    Created(SessionId),
    /// This session existed.
    Existing(SessionId),
    /// A prompt is accepted.
    Accepted {
        /// Its id, which is its event's id too.
        prompt: PromptId,
        /// What became of it.
        disposition: Disposition,
    },
    /// This prompt's turn is being ended.
    Aborting {
        /// The prompt.
        prompt: PromptId,
    },
    /// So many waiting prompts were removed.
    Cleared {
        /// The number.
        removed: u32,
    },
    /// The agent is to set it.
    Setting {
        /// The setting's number.
        number: u64,
    },
    /// MCP servers were added.
    Servers {
        /// Names of those that it did not have so.
        changed: Vec<String>,
        /// The agent that runs does not have them: its next process will.
        next_process: bool,
    },
    /// This client is attached.
    Attached {
        /// Its id.
        client: EventId,
    },
    /// An interrupted prompt is settled.
    Resolved {
        /// The prompt that repeats it.
        retried_as: Option<PromptId>,
    },
    /// These sessions are being stopped, the one asked for first.
    Stopping(Vec<SessionId>),
}

/// What one step comes to: to be committed whole, then adopted, then acted on.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Sessions that changed.
    pub sessions: Vec<Arc<Session>>,
    /// A session that was removed, and its last incarnation.
    pub removed: Option<(SessionId, Incarnation)>,
    /// An id that came back to life.
    pub revived: Option<SessionId>,
    /// Counters after it.
    pub next_number: u64,
    /// Counters after it.
    pub next_event: EventId,
    /// What to record.
    pub events: Vec<Event>,
    /// What to keep with that.
    pub attached: Vec<Attached>,
    /// What to do.
    pub effects: Vec<(SessionId, Effect)>,
    /// What to answer.
    pub reply: Reply,
}

/// How to take an adopted change back, when its commit failed.
#[derive(Debug)]
pub struct Undo {
    sessions: Vec<(SessionId, Option<Arc<Session>>)>,
    retired: Vec<(SessionId, Option<Incarnation>)>,
    next_number: u64,
    next_event: EventId,
}

impl Fleet {
    /// The fleet as a journal has it.
    pub fn load(
        sessions: impl IntoIterator<Item = Session>,
        retired: impl IntoIterator<Item = (SessionId, Incarnation)>,
        next_number: u64,
        next_event: EventId,
    ) -> Self {
        let sessions = sessions.into_iter().map(|session| (session.id.clone(), Arc::new(session))).collect();
        let (next_number, next_event) = (next_number.max(1), next_event.max(1));
        Self { sessions, retired: retired.into_iter().collect(), next_number, next_event }
    }

    /// All sessions, by id.
    pub fn sessions(&self) -> impl Iterator<Item = &Arc<Session>> {
        self.sessions.values()
    }

    /// One session.
    pub fn get(&self, id: &SessionId) -> Option<&Arc<Session>> {
        self.sessions.get(id)
    }

    /// One session, or the refusal that says it does not exist.
    pub fn expect(&self, id: &SessionId) -> Result<&Arc<Session>, Refusal> {
        self.get(id).ok_or_else(|| Refusal::NoSuchSession(id.to_string()))
    }

    /// The id that the next event will have.
    pub fn next_event(&self) -> EventId {
        self.next_event
    }

    /// Number of the next generated id.
    pub fn next_number(&self) -> u64 {
        self.next_number
    }

    /// Ids of removed sessions, with their last incarnations.
    pub fn retired(&self) -> &BTreeMap<SessionId, Incarnation> {
        &self.retired
    }

    /// The sub-agents of `parent`, or all, oldest first.
    pub fn subagents(&self, parent: Option<&SessionId>) -> Vec<&Arc<Session>> {
        let mine = |session: &&Arc<Session>| {
            session.task.is_some() && (parent.is_none() || session.parent.as_ref() == parent)
        };
        let mut subagents: Vec<_> = self.sessions().filter(mine).collect();
        // A task's prompt number grows with time; clocks may not.
        subagents.sort_by_key(|session| session.task.as_ref().map(|task| task.prompt));
        subagents
    }

    /// The sessions above `id`, its parent first, as far as they still exist.
    pub fn above<'a>(&'a self, id: &SessionId) -> impl Iterator<Item = &'a Arc<Session>> {
        let parent = |session: &Arc<Session>| self.get(session.parent.as_ref()?);
        // A parent is older than its child, but for one that came back to life under its id; nobody goes round
        // in circles because of that.
        std::iter::successors(self.get(id).and_then(parent), move |session| parent(session))
            .take(self.sessions.len())
    }

    /// `id` and all sessions below it, parents first.
    fn tree(&self, id: &SessionId) -> Vec<SessionId> {
        let mut tree = vec![id.clone()];
        let mut at = 0;
        while at < tree.len() {
            let parent = tree[at].clone();
            let children = self.sessions().filter(|session| session.parent.as_ref() == Some(&parent));
            tree.extend(
                children
                    .map(|session| session.id.clone())
                    .filter(|id| !tree.contains(id))
                    .collect::<Vec<_>>(),
            );
            at += 1;
        }
        tree
    }

    /// What `ask` does. Only commands are refused; a refusal means that nothing changes.
    pub fn step(&self, at: At, ask: &Ask) -> Result<Change, Refusal> {
        let mut draft = Draft::new(self, at);
        if at.closing && !matches!(ask, Ask::Stop(..) | Ask::Shutdown) && !is_observation(ask) {
            return Err(Refusal::Closing);
        }
        let reply = match ask {
            Ask::Create { id, spec } => Reply::Created(draft.create(id.as_ref(), spec, None, false)?),
            Ask::Ensure { id, spec, given } => draft.ensure(id, spec, given)?,
            Ask::Subagent { parent, id, spec, task, wish } => {
                let spec = &draft.no_weaker(parent.as_ref(), spec, wish.as_deref())?;
                Reply::Created(draft.subagent(parent.as_ref(), id.as_ref(), spec, task)?)
            }
            Ask::Stop(id, orphans) => draft.stop(id, *orphans)?,
            Ask::Remove(id) => draft.remove(id)?,
            Ask::One(_, Input::Tick) if at.closing && !draft.holds_process(ask) => Reply::Done,
            Ask::One(id, input) => draft.one(id, input)?,
            Ask::ManagerStarted { pid, version, boot_id, same_boot, lost } => {
                draft.manager_started(*pid, version, boot_id, *same_boot, lost.as_deref())?
            }
            Ask::Shutdown => draft.shutdown()?,
        };
        Ok(draft.finish(reply))
    }

    /// Makes a change the fleet's own. The change is either committed or taken back before anybody sees it.
    pub fn adopt(&mut self, change: &Change) -> Undo {
        let mut undo = Undo {
            sessions: Vec::new(),
            retired: Vec::new(),
            next_number: self.next_number,
            next_event: self.next_event,
        };
        for session in &change.sessions {
            let before = self.sessions.insert(session.id.clone(), session.clone());
            undo.sessions.push((session.id.clone(), before));
        }
        if let Some((id, incarnation)) = &change.removed {
            undo.sessions.push((id.clone(), self.sessions.remove(id)));
            undo.retired.push((id.clone(), self.retired.insert(id.clone(), *incarnation)));
        }
        if let Some(id) = &change.revived {
            undo.retired.push((id.clone(), self.retired.remove(id)));
        }
        self.next_number = change.next_number;
        self.next_event = change.next_event;
        undo
    }

    /// Takes an adopted change back. Changes are taken back in the opposite order of their adoption.
    pub fn take_back(&mut self, undo: Undo) {
        for (id, before) in undo.sessions.into_iter().rev() {
            match before {
                Some(session) => self.sessions.insert(id, session),
                None => self.sessions.remove(&id),
            };
        }
        for (id, before) in undo.retired.into_iter().rev() {
            match before {
                Some(incarnation) => self.retired.insert(id, incarnation),
                None => self.retired.remove(&id),
            };
        }
        self.next_number = undo.next_number;
        self.next_event = undo.next_event;
    }
}

fn is_observation(ask: &Ask) -> bool {
    match ask {
        Ask::One(_, input) => match input {
            Input::Command(_) | Input::CommandBy(..) => false,
            Input::Seen(..)
            | Input::Recovered { .. }
            | Input::Shutdown
            | Input::Tick
            | Input::OpenTasks(_) => true,
        },
        Ask::ManagerStarted { .. } => true,
        Ask::Create { .. }
        | Ask::Ensure { .. }
        | Ask::Subagent { .. }
        | Ask::Stop(..)
        | Ask::Remove(_)
        | Ask::Shutdown => false,
    }
}

/// A step over several sessions, none of which is the fleet's yet.
struct Draft<'a> {
    fleet: &'a Fleet,
    at: At,
    changed: BTreeMap<SessionId, Arc<Session>>,
    removed: Option<(SessionId, Incarnation)>,
    revived: Option<SessionId>,
    next_number: u64,
    next_event: EventId,
    events: Vec<Event>,
    attached: Vec<Attached>,
    effects: Vec<(SessionId, Effect)>,
}

impl<'a> Draft<'a> {
    fn new(fleet: &'a Fleet, at: At) -> Self {
        Self {
            fleet,
            at,
            changed: BTreeMap::new(),
            removed: None,
            revived: None,
            next_number: fleet.next_number,
            next_event: fleet.next_event,
            events: Vec::new(),
            attached: Vec::new(),
            effects: Vec::new(),
        }
    }

    fn finish(self, reply: Reply) -> Change {
        Change {
            sessions: self.changed.into_values().collect(),
            removed: self.removed,
            revived: self.revived,
            next_number: self.next_number,
            next_event: self.next_event,
            events: self.events,
            attached: self.attached,
            effects: self.effects,
            reply,
        }
    }

    fn get(&self, id: &SessionId) -> Option<&Arc<Session>> {
        self.changed.get(id).or_else(|| self.fleet.get(id))
    }

    fn holds_process(&self, ask: &Ask) -> bool {
        matches!(ask, Ask::One(id, _) if self.get(id).is_some_and(|session| session.has_process()))
    }

    fn emit(&mut self, session: Option<(&SessionId, Incarnation)>, kind: EventKind) {
        let (session, incarnation) = match session {
            Some((id, incarnation)) => (Some(id.clone()), incarnation),
            None => (None, 0),
        };
        self.events.push(Event {
            id: self.next_event,
            at: Timestamp(self.at.wall),
            session,
            incarnation,
            kind,
        });
        self.next_event += 1;
    }

    fn one(&mut self, id: &SessionId, input: &Input) -> Result<Reply, Refusal> {
        let Some(before) = self.get(id).cloned() else {
            return match input {
                Input::Command(_) | Input::CommandBy(..) => Err(Refusal::NoSuchSession(id.to_string())),
                // Something was still on its way when the session was removed.
                _ => Ok(Reply::Done),
            };
        };
        let step = before.step(self.at, self.next_event, input)?;
        for kind in step.events {
            // What is said of a process belongs to it, also when the step that says so begins the next.
            let incarnation = match kind {
                EventKind::SessionStarted { .. } => step.next.incarnation,
                _ => before.incarnation,
            };
            self.emit(Some((id, incarnation)), kind);
        }
        self.attached.extend(step.attached);
        self.effects.extend(step.effects.into_iter().map(|effect| (id.clone(), effect)));
        let parent = step.next.parent.clone();
        if step.next != *before {
            self.changed.insert(id.clone(), Arc::new(step.next));
        }
        for note in step.notes {
            self.tell_parent(id, parent.as_ref(), note)?;
        }
        Ok(step.reply)
    }

    /// A sub-agent's task is over: its parent hears of it, once. Without a parent it is in its own stream.
    fn tell_parent(
        &mut self,
        child: &SessionId,
        parent: Option<&SessionId>,
        note: Note,
    ) -> Result<(), Refusal> {
        let kind = match note {
            Note::TaskEnded { outcome } => EventKind::SubagentCompleted { child: child.clone(), outcome },
            Note::TaskLost { reason } => EventKind::SubagentLost { child: child.clone(), reason },
        };
        let listener = parent.filter(|id| self.get(id).is_some()).unwrap_or(child).clone();
        let incarnation = self.get(&listener).map_or(0, |session| session.incarnation);
        self.emit(Some((&listener, incarnation)), kind);
        if listener != *child {
            self.one(&listener, &Input::OpenTasks(-1))?;
        }
        Ok(())
    }

    fn create(
        &mut self,
        id: Option<&SessionId>,
        spec: &Arc<Spec>,
        parent: Option<&SessionId>,
        revive: bool,
    ) -> Result<SessionId, Refusal> {
        let id = match id {
            Some(id) => id.clone(),
            None => self.free_number(),
        };
        if self.get(&id).is_some() {
            return Err(Refusal::IdTaken(id));
        }
        let before = self.fleet.retired.get(&id).copied();
        if before.is_some() {
            if !revive {
                return Err(Refusal::IdRetired(id));
            }
            self.revived = Some(id.clone());
        }
        if let Some(number) = id.number() {
            self.next_number = self.next_number.max(number.saturating_add(1));
        }
        let mut session = Session::new(id.clone(), spec.clone(), self.at, before.unwrap_or(0));
        session.parent = parent.cloned();
        session.awaited = spec.offers.clone();
        if before.is_some() {
            // The id's predecessor may have left sub-agents behind that still work: they report to this one.
            let works = |child: &&Arc<Session>| {
                child.parent.as_ref() == Some(&id) && child.task.as_ref().is_some_and(|task| task.open)
            };
            session.open_tasks = self.fleet.sessions().filter(works).count() as u32;
        }
        self.emit(
            Some((&id, session.incarnation)),
            EventKind::SessionCreated {
                agent: spec.agent_name.clone(),
                workdir: spec.workdir.clone(),
                title: spec.title.clone(),
                model: spec.model.clone(),
                parent: parent.cloned(),
            },
        );
        self.effects.extend(session.effects().into_iter().map(|effect| (id.clone(), effect)));
        self.changed.insert(id.clone(), Arc::new(session));
        Ok(id)
    }

    fn ensure(&mut self, id: &SessionId, spec: &Arc<Spec>, given: &SessionOpts) -> Result<Reply, Refusal> {
        let Some(session) = self.get(id) else {
            return Ok(Reply::Created(self.create(Some(id), spec, None, true)?));
        };
        let fields = session.spec.differs_from(given);
        if !fields.is_empty() {
            return Err(Refusal::SpecMismatch { id: id.clone(), fields });
        }
        let starts = !session.has_process();
        self.one(id, &Input::Command(Command::Up))?;
        if starts
            && !spec.offers.is_empty()
            && let Some(session) = self.changed.get_mut(id)
        {
            Arc::make_mut(session).awaited = spec.offers.clone();
        }
        Ok(Reply::Existing(id.clone()))
    }

    /// What a sub-agent runs: what its parent may give it, if the parent itself asks.
    fn no_weaker(
        &self,
        parent: Option<&SessionId>,
        spec: &Arc<Spec>,
        wish: Option<&Wish>,
    ) -> Result<Arc<Spec>, Refusal> {
        let (Some(parent), Some(wish)) = (parent, wish) else { return Ok(spec.clone()) };
        let session = self.fleet.expect(parent)?;
        match session.spec.below(spec, wish) {
            Ok(spec) => Ok(Arc::new(spec)),
            Err(what) => Err(Refusal::Weaker { id: parent.clone(), what }),
        }
    }

    fn subagent(
        &mut self,
        parent: Option<&SessionId>,
        id: Option<&SessionId>,
        spec: &Arc<Spec>,
        task: &Arc<str>,
    ) -> Result<SessionId, Refusal> {
        if let Some(parent) = parent {
            let session = self.fleet.expect(parent)?;
            self.has_room(session)?;
        }
        let id = self.create(id, spec, parent, false)?;
        let prompt = super::NewPrompt::text(task.clone(), Default::default());
        let reply = self.one(&id, &Input::Command(Command::Prompt(prompt)))?;
        let Reply::Accepted { prompt, .. } = reply else {
            return Ok(id);
        };
        if let Some(session) = self.changed.get_mut(&id) {
            Arc::make_mut(session).task = Some(Task { prompt, text: task.clone(), open: true });
        }
        let listener = parent.unwrap_or(&id).clone();
        let incarnation = self.get(&listener).map_or(0, |session| session.incarnation);
        let (child, task, model) = (id.clone(), task.to_string(), spec.model.clone());
        self.emit(Some((&listener, incarnation)), EventKind::SubagentStarted { child, task, model });
        if listener != id {
            self.one(&listener, &Input::OpenTasks(1))?;
        }
        Ok(id)
    }

    /// Whether `parent` may have one more sub-agent.
    fn has_room(&self, parent: &Session) -> Result<(), Refusal> {
        let above: Vec<&Arc<Session>> = self.fleet.above(&parent.id).collect();
        let root = above.last().map_or(parent, |root| root);
        let limits = root.spec.subagents;
        let refused =
            |id: &SessionId, what, limit| Err(Refusal::SubagentLimit { id: id.clone(), what, limit });
        if above.len() as u64 >= u64::from(limits.depth) {
            return refused(&parent.id, SubagentLimit::Depth, limits.depth);
        }
        if parent.open_tasks >= limits.breadth {
            return refused(&parent.id, SubagentLimit::Breadth, limits.breadth);
        }
        let below = self.fleet.tree(&root.id).into_iter().skip(1);
        let lives = |session: &&Arc<Session>| !matches!(session.state, State::Stopped | State::Failed(_));
        let total = below.filter(|id| self.fleet.get(id).as_ref().is_some_and(lives)).count();
        if total as u64 >= u64::from(limits.total) {
            return refused(&root.id, SubagentLimit::Total, limits.total);
        }
        Ok(())
    }

    /// The next generated id. Beyond what counts as a number it may be a name that somebody chose.
    fn free_number(&self) -> SessionId {
        let free = |id: &SessionId| self.get(id).is_none() && !self.fleet.retired.contains_key(id);
        let mut ids = (self.next_number..).map(SessionId::numbered);
        ids.find(free).unwrap_or_else(|| SessionId::numbered(self.next_number))
    }

    fn stop(&mut self, id: &SessionId, orphans: Orphans) -> Result<Reply, Refusal> {
        self.fleet.expect(id)?;
        let tree = match orphans {
            Orphans::Stop => self.fleet.tree(id),
            Orphans::Keep => vec![id.clone()],
        };
        let mut stopping = Vec::new();
        for member in tree {
            match self.one(&member, &Input::Command(Command::Stop)) {
                Ok(_) => stopping.push(member),
                // What cannot be ended must not keep its family running.
                Err(Refusal::Unkillable { .. }) if member != *id => {}
                Err(refusal) => return Err(refusal),
            }
        }
        Ok(Reply::Stopping(stopping))
    }

    fn remove(&mut self, id: &SessionId) -> Result<Reply, Refusal> {
        let session = self.fleet.expect(id)?;
        if session.has_process() {
            return Err(Refusal::NotStopped(id.clone()));
        }
        let incarnation = session.incarnation;
        // Its waiting prompts end here, and with them a sub-agent's task, which the parent hears of.
        self.one(id, &Input::Command(Command::Stop))?;
        self.changed.remove(id);
        self.emit(Some((id, incarnation)), EventKind::SessionDeleted {});
        self.removed = Some((id.clone(), incarnation));
        Ok(Reply::Done)
    }

    fn manager_started(
        &mut self,
        pid: u32,
        version: &str,
        boot_id: &str,
        same_boot: bool,
        lost: Option<&str>,
    ) -> Result<Reply, Refusal> {
        if !same_boot || lost.is_some() {
            self.next_event += BOOT_JUMP;
        }
        let (version, boot_id) = (version.to_owned(), boot_id.to_owned());
        self.emit(None, EventKind::ManagerStarted { pid, version, boot_id });
        if let Some(lost) = lost {
            self.emit(None, EventKind::SystemMessage { text: lost.to_owned() });
        }
        for session in self.fleet.sessions() {
            // What the state before wanted died with the manager that was to do it: all of it is wanted now.
            self.one(&session.id, &Input::Recovered { same_boot })?;
        }
        self.effects.clear();
        for id in self.fleet.sessions.keys() {
            if let Some(session) = self.get(id) {
                let effects = session.effects();
                self.effects.extend(effects.into_iter().map(|effect| (id.clone(), effect)));
            }
        }
        Ok(Reply::Done)
    }

    fn shutdown(&mut self) -> Result<Reply, Refusal> {
        self.emit(None, EventKind::ManagerStopping {});
        for id in self.fleet.sessions.keys() {
            self.one(id, &Input::Shutdown)?;
        }
        Ok(Reply::Done)
    }
}
