//! A change of the fleet while it is made, with one function for each [`Ask`](crate::core::Ask).

mod access;
mod forks;
mod manager;
mod names;

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::api::{Orphans, SessionOpts, ToldTurn};
use protocol::event::{Event, EventKind, Timestamp};
use protocol::{EventId, Identity, Incarnation, KeyId, SessionId};

use crate::core::at::At;
use crate::core::effect::Effect;
use crate::core::fleet::{Change, Fleet};
use crate::core::input::{Ask, Command, Input, Reply, Seen, Wish};
use crate::core::model::session::{Session, Task};
use crate::core::model::spec::Spec;
use crate::core::model::state::State;
use crate::core::model::turn::{Attached, NewPrompt};
use crate::core::out::Note;
use crate::core::refusal::{Refusal, SubagentLimit};
use crate::core::scope::Scope;

/// Jump of the event counter at the first start after a boot, or over a damaged journal. So the ids of lost events, which
/// somebody may have seen, are never used again.
const BOOT_JUMP: EventId = 1 << 20;

/// A step over several sessions, none of which is the fleet's yet.
pub(super) struct Draft<'a> {
    fleet: &'a Fleet,
    at: At,
    changed: BTreeMap<SessionId, Arc<Session>>,
    removed: Option<(SessionId, Incarnation)>,
    revived: Option<SessionId>,
    next_number: u64,
    next_event: EventId,
    spares: Arc<Vec<Identity>>,
    events: Vec<Event>,
    attached: Vec<Attached>,
    effects: Vec<(SessionId, Effect)>,
    /// The key with which sessions are started; none: the owner starts them.
    key: Option<KeyId>,
    /// The sessions that the key reaches.
    scope: Scope,
    /// A session asks, for a sub-agent of its own: it learns nothing of others.
    by_session: bool,
    /// The turns that the agent of a fork is told.
    told: Vec<ToldTurn>,
    /// The client that asks, and has to drive what it changes; none: the owner asks.
    client: Option<EventId>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(fleet: &'a Fleet, at: At) -> Self {
        Self {
            fleet,
            at,
            changed: BTreeMap::new(),
            removed: None,
            revived: None,
            next_number: fleet.next_number,
            next_event: fleet.next_event,
            spares: fleet.spares.clone(),
            events: Vec::new(),
            attached: Vec::new(),
            effects: Vec::new(),
            key: None,
            scope: Scope::All,
            by_session: false,
            told: Vec::new(),
            client: None,
        }
    }

    pub(super) fn finish(self, reply: Reply) -> Change {
        Change {
            sessions: self.changed.into_values().collect(),
            removed: self.removed,
            revived: self.revived,
            next_number: self.next_number,
            next_event: self.next_event,
            spares: self.spares,
            events: self.events,
            attached: self.attached,
            effects: self.effects,
            reply,
        }
    }

    fn get(&self, id: &SessionId) -> Option<&Arc<Session>> {
        self.changed.get(id).or_else(|| self.fleet.get(id))
    }

    pub(super) fn holds_process(&self, ask: &Ask) -> bool {
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

    pub(super) fn one(&mut self, id: &SessionId, input: &Input) -> Result<Reply, Refusal> {
        let Some(before) = self.get(id).cloned() else {
            return match input {
                Input::Command(_) | Input::CommandBy(..) => Err(Refusal::NoSuchSession(id.to_string())),
                // Something was still on its way when the session was removed.
                _ => Ok(Reply::Done),
            };
        };
        let step = before.step(self.at, self.next_event, input)?;
        for kind in step.events {
            // An event about a process belongs to that process, also when the step begins the next one.
            let incarnation = match kind {
                EventKind::SessionStarted { .. } => step.next.incarnation,
                _ => before.incarnation,
            };
            self.emit(Some((id, incarnation)), kind);
        }
        self.attached.extend(step.attached);
        let parent = step.next.parent.clone();
        if step.next != *before {
            self.changed.insert(id.clone(), Arc::new(step.next));
        }
        self.want(id, step.effects)?;
        for note in step.notes {
            self.tell_parent(id, parent.as_ref(), note)?;
        }
        Ok(step.reply)
    }

    /// Adds effects of a session. In place of a spawn the session takes a spare worker, if there is one: then one commit holds
    /// the decision to start and the process.
    fn want(&mut self, id: &SessionId, effects: Vec<Effect>) -> Result<(), Refusal> {
        let mut taken = None;
        for effect in effects {
            match effect {
                Effect::Spawn { incarnation } if !self.spares.is_empty() && !self.at.closing => {
                    let spare = Arc::make_mut(&mut self.spares).remove(0);
                    taken = Some(Input::Seen(incarnation, Seen::Spawned(spare)));
                }
                effect => self.effects.push((id.clone(), effect)),
            }
        }
        match taken {
            Some(taken) => self.one(id, &taken).map(drop),
            None => Ok(()),
        }
    }

    /// A spare worker stands ready. A manager that is about to exit keeps none.
    pub(super) fn spare_ready(&mut self, spare: &Identity) -> Reply {
        if !self.at.closing {
            Arc::make_mut(&mut self.spares).push(spare.clone());
        }
        Reply::Done
    }

    pub(super) fn spare_gone(&mut self, spare: &Identity) -> Reply {
        if self.spares.contains(spare) {
            Arc::make_mut(&mut self.spares).retain(|other| other != spare);
        }
        Reply::Done
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

    /// This client asks.
    pub(super) fn by_client(&mut self, client: EventId) {
        self.client = Some(client);
    }

    /// Refuses a client that does not drive the session.
    fn driven(&self, id: &SessionId) -> Result<(), Refusal> {
        match (self.client, self.get(id)) {
            (Some(client), Some(session)) => session.drives(self.at, client),
            _ => Ok(()),
        }
    }

    /// Returns true if the session exists, and the key that asks does not reach it.
    fn is_hidden(&self, id: &SessionId) -> bool {
        self.get(id).is_some_and(|session| !self.fleet.is_within(session, &self.scope))
    }

    /// Starts a session, or what there is instead.
    pub(super) fn start(&mut self, ask: &Ask) -> Result<Reply, Refusal> {
        match ask {
            Ask::Create { id, spec } => Ok(Reply::Created(self.create(id.as_ref(), spec, None, false)?)),
            Ask::Fork(fork) => Ok(Reply::Created(self.fork(fork)?)),
            Ask::Ensure { id, spec, given } => {
                self.driven(id)?;
                self.ensure(id, spec, given)
            }
            Ask::Subagent { parent, id, spec, task, wish } => {
                parent.as_ref().map_or(Ok(()), |parent| self.driven(parent))?;
                self.by_session = wish.is_some();
                let spec = &self.no_weaker(parent.as_ref(), spec, wish.as_deref())?;
                Ok(Reply::Created(self.subagent(parent.as_ref(), id.as_ref(), spec, task)?))
            }
            Ask::ByKey { .. }
            | Ask::ByClient { .. }
            | Ask::Stop(..)
            | Ask::Remove(_)
            | Ask::Edit(..)
            | Ask::One(..)
            | Ask::ManagerStarted { .. }
            | Ask::AccessRefused(_)
            | Ask::Shutdown
            | Ask::SpareReady(_)
            | Ask::SpareGone(_) => Ok(Reply::Done),
        }
    }

    /// The same with a key. Sessions that the key does not reach do not exist for it; but their ids cannot be used.
    pub(super) fn start_by_key(&mut self, key: KeyId, scope: &Scope, ask: &Ask) -> Result<Reply, Refusal> {
        (self.key, self.scope) = (Some(key), scope.clone());
        let starts_none = scope.starts_none();
        let missing = |id: Option<&SessionId>| {
            Err(Refusal::NoSuchSession(id.map(ToString::to_string).unwrap_or_default()))
        };
        match ask {
            Ask::Ensure { id, .. } if starts_none && (self.get(id).is_none() || self.is_hidden(id)) => {
                missing(Some(id))
            }
            Ask::Ensure { id, .. } if self.is_hidden(id) => Err(Refusal::IdUnusable(id.clone())),
            Ask::Subagent { parent: Some(parent), .. } if self.is_hidden(parent) => missing(Some(parent)),
            Ask::Subagent { parent: Some(parent), wish: None, .. } if starts_none => missing(Some(parent)),
            Ask::Create { id, .. } | Ask::Subagent { parent: None, id, .. } if starts_none => {
                missing(id.as_ref())
            }
            Ask::Fork(fork) if starts_none || self.is_hidden(&fork.origin) => missing(Some(&fork.origin)),
            Ask::Edit(id, _) if self.is_hidden(id) => missing(Some(id)),
            Ask::Edit(id, edit) => self.edit(id, edit),
            _ => self.start(ask),
        }
    }

    pub(super) fn create(
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
            return Err(if self.is_hidden(&id) { Refusal::IdUnusable(id) } else { Refusal::IdTaken(id) });
        }
        let before = self.fleet.retired.get(&id).copied();
        if before.is_some() {
            if !revive {
                // Nobody knows any more whose it was.
                let hides = self.scope != Scope::All;
                return Err(if hides { Refusal::IdUnusable(id) } else { Refusal::IdRetired(id) });
            }
            self.revived = Some(id.clone());
        }
        if id.is_number_alone() {
            return Err(Refusal::IdIsNumber(id));
        }
        self.check_conversation(spec)?;
        let name = self.name_for(&id, spec)?;
        let mut spec = spec.clone();
        Arc::make_mut(&mut spec).name.clone_from(&name);
        let spec = &spec;
        if let Some(number) = id.number() {
            self.next_number = self.next_number.max(number.saturating_add(1));
        }
        let mut session = Session::new(id.clone(), spec.clone(), self.at, before.unwrap_or(0));
        session.parent = parent.cloned();
        session.started_by = match parent.and_then(|parent| self.get(parent)) {
            Some(parent) => parent.started_by,
            None => self.key,
        };
        let started_by = session.started_by;
        session.awaited = spec.offers.clone();
        if before.is_some() {
            // The id's predecessor may have left sub-agents behind that still work: they report to this one.
            let works = |child: &&Arc<Session>| {
                child.parent.as_ref() == Some(&id) && child.task.as_ref().is_some_and(|task| task.open)
            };
            session.open_tasks = self.fleet.sessions().filter(works).count() as u32;
        }
        let told = std::mem::take(&mut self.told);
        self.emit(
            Some((&id, session.incarnation)),
            EventKind::SessionCreated {
                agent: spec.agent_name.clone(),
                workdir: spec.workdir.clone(),
                name,
                labels: spec.labels.clone(),
                title: spec.title.clone(),
                model: spec.model.clone(),
                parent: parent.cloned(),
                started_by,
                forked_from: spec.forked_from.clone(),
                conversation: spec.conversation.clone(),
                told,
            },
        );
        let effects = session.effects();
        self.changed.insert(id.clone(), Arc::new(session));
        self.want(&id, effects)?;
        Ok(id)
    }

    /// Refuses a conversation that the agent of another session has: two processes would write into one.
    fn check_conversation(&self, spec: &Spec) -> Result<(), Refusal> {
        let Some(conversation) = &spec.conversation else { return Ok(()) };
        // Two profiles may run one agent.
        let has = |session: &&Arc<Session>| session.agent_session.as_ref() == Some(conversation);
        match self.fleet.sessions().find(has) {
            None => Ok(()),
            Some(other) => {
                let of = Some(other.id.clone()).filter(|of| !self.by_session && !self.is_hidden(of));
                Err(Refusal::ConversationTaken { conversation: conversation.clone(), of })
            }
        }
    }

    pub(super) fn ensure(
        &mut self,
        id: &SessionId,
        spec: &Arc<Spec>,
        given: &SessionOpts,
    ) -> Result<Reply, Refusal> {
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

    /// The spec of a sub-agent, bounded by its parent's if the parent itself asks.
    pub(super) fn no_weaker(
        &self,
        parent: Option<&SessionId>,
        spec: &Arc<Spec>,
        wish: Option<&Wish>,
    ) -> Result<Arc<Spec>, Refusal> {
        if let (Some(parent), Some(_)) = (parent, &spec.conversation) {
            let what = vec!["conversation: a sub-agent begins one of its own".into()];
            return Err(Refusal::Weaker { id: parent.clone(), what });
        }
        let (Some(parent), Some(wish)) = (parent, wish) else { return Ok(spec.clone()) };
        let session = self.fleet.expect(parent)?;
        match session.spec.below(spec, wish) {
            Ok(spec) => Ok(Arc::new(spec)),
            Err(what) => Err(Refusal::Weaker { id: parent.clone(), what }),
        }
    }

    pub(super) fn subagent(
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
        let prompt = NewPrompt::text(task.clone(), Default::default());
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

    /// Refuses a sub-agent for which a limit leaves no room.
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

    pub(super) fn stop(&mut self, id: &SessionId, orphans: Orphans) -> Result<Reply, Refusal> {
        self.fleet.expect(id)?;
        self.driven(id)?;
        let tree = match orphans {
            Orphans::Stop => self.fleet.tree(id),
            Orphans::Keep => vec![id.clone()],
        };
        let mut stopping = Vec::new();
        for member in tree {
            match self.one(&member, &Input::Command(Command::Stop)) {
                Ok(_) => stopping.push(member),
                // A session that cannot be ended must not keep its family running.
                Err(Refusal::Unkillable { .. }) if member != *id => {}
                Err(refusal) => return Err(refusal),
            }
        }
        Ok(Reply::Stopping(stopping))
    }

    pub(super) fn remove(&mut self, id: &SessionId) -> Result<Reply, Refusal> {
        let session = self.fleet.expect(id)?;
        self.driven(id)?;
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
}
