//! All sessions together: ids, sub-agents, and the manager's own start and shutdown.

mod draft;
mod ends;
mod names;

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::event::Event;
use protocol::{EventId, Identity, Incarnation, SessionId, SessionName};

use self::draft::Draft;
use crate::core::at::At;
use crate::core::effect::Effect;
use crate::core::input::{Ask, Input, Reply};
use crate::core::model::session::Session;
use crate::core::model::state::State;
use crate::core::model::turn::Attached;
use crate::core::refusal::Refusal;
use crate::core::scope::Scope;

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
    /// Spare workers: processes that were started for no session yet. They are in no journal; decision 0048 says why.
    spares: Arc<Vec<Identity>>,
    /// The sessions in states that pass by themselves.
    passing: Passing,
    /// The session of each name.
    names: BTreeMap<SessionName, SessionId>,
}

/// The number of sessions that start, stop or wait for their restart. Counted with each change, because the loop asks each turn.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Passing {
    restarting: usize,
    others: usize,
}

impl Passing {
    /// The count that this session belongs to.
    fn of(&mut self, session: &Session) -> Option<&mut usize> {
        use State::{Adopting, Restarting, Starting, Stopping};
        match session.state {
            Restarting { .. } => Some(&mut self.restarting),
            Starting { .. } | Stopping { .. } | Adopting { .. } => Some(&mut self.others),
            State::Ready { .. } | State::Hibernated | State::Stopped | State::Failed(_) => None,
        }
    }

    /// A session changes, comes or goes.
    fn change(&mut self, before: Option<&Arc<Session>>, after: Option<&Arc<Session>>) {
        if let Some(count) = before.and_then(|session| self.of(session)) {
            *count -= 1;
        }
        if let Some(count) = after.and_then(|session| self.of(session)) {
            *count += 1;
        }
    }
}

/// The result of one step. It is committed whole, then adopted, then acted on.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Sessions that changed.
    pub sessions: Vec<Arc<Session>>,
    /// A session that was removed, and its last incarnation.
    pub removed: Option<(SessionId, Incarnation)>,
    /// An id that came back to life.
    pub revived: Option<SessionId>,
    /// The number of the next generated id after the change.
    pub next_number: u64,
    /// The id of the next event after the change.
    pub next_event: EventId,
    /// The spare workers after the change.
    pub spares: Arc<Vec<Identity>>,
    /// Events to record.
    pub events: Vec<Event>,
    /// Attachments to record.
    pub attached: Vec<Attached>,
    /// Effects to perform once the change is on record, as far as each needs.
    pub effects: Vec<(SessionId, Effect)>,
    /// The answer to the command.
    pub reply: Reply,
}

/// The way back from an adopted change whose commit failed.
#[derive(Debug)]
pub struct Undo {
    sessions: Vec<(SessionId, Option<Arc<Session>>)>,
    retired: Vec<(SessionId, Option<Incarnation>)>,
    next_number: u64,
    next_event: EventId,
    spares: Arc<Vec<Identity>>,
}

impl Fleet {
    /// The fleet as a journal has it.
    pub fn load(
        sessions: impl IntoIterator<Item = Session>,
        retired: impl IntoIterator<Item = (SessionId, Incarnation)>,
        next_number: u64,
        next_event: EventId,
    ) -> Self {
        let sessions: BTreeMap<_, _> =
            sessions.into_iter().map(|session| (session.id.clone(), Arc::new(session))).collect();
        let (mut passing, mut names) = (Passing::default(), BTreeMap::new());
        for session in sessions.values() {
            passing.change(None, Some(session));
            names::change(&mut names, None, Some(session));
        }
        let (next_number, next_event) = (next_number.max(1), next_event.max(1));
        let retired = retired.into_iter().collect();
        Self { sessions, retired, next_number, next_event, spares: Arc::default(), passing, names }
    }

    /// All sessions, by id.
    pub fn sessions(&self) -> impl Iterator<Item = &Arc<Session>> {
        self.sessions.values()
    }

    /// One session.
    pub fn get(&self, id: &SessionId) -> Option<&Arc<Session>> {
        self.sessions.get(id)
    }

    /// The session with this name.
    pub fn named(&self, name: &str) -> Option<&Arc<Session>> {
        self.get(self.names.get(name)?)
    }

    /// Returns the session, or a refusal if it does not exist.
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

    /// Spare workers that no session has taken.
    pub fn spares(&self) -> &[Identity] {
        &self.spares
    }

    /// Returns true if a session waits for its restart. It will take a spare, so spares outlast the last worker.
    pub fn awaits_restart(&self) -> bool {
        self.passing.restarting > 0
    }

    /// Returns true if a session starts, stops or waits for its restart.
    pub fn is_in_motion(&self) -> bool {
        self.passing.restarting + self.passing.others > 0
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

    /// Returns true if a client with this scope reaches the session.
    pub fn is_within(&self, session: &Session, scope: &Scope) -> bool {
        match scope {
            Scope::All => true,
            // Each session keeps the key of its root, so this outlasts the sessions between.
            Scope::Own(key) => session.started_by == Some(*key),
            Scope::Ids(ids) => {
                ids.contains(&session.id) || self.above(&session.id).any(|above| ids.contains(&above.id))
            }
            Scope::Labels(_) => self.labelled(session, scope).is_some(),
        }
    }

    /// The session by whose labels a client with this scope reaches the session: itself, else the nearest above it. None for a
    /// scope of another kind.
    pub fn labelled<'a>(&'a self, session: &'a Session, scope: &Scope) -> Option<&'a Session> {
        let above = self.above(&session.id).map(|above| &**above);
        std::iter::once(session).chain(above).find(|session| scope.is_by_label_of(session))
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

    /// Steps the fleet by one input. Only commands are refused; a refusal changes nothing.
    pub fn step(&self, at: At, ask: &Ask) -> Result<Change, Refusal> {
        let mut draft = Draft::new(self, at);
        let ask = match ask {
            Ask::ByClient { client, ask } => {
                draft.by_client(*client);
                ask
            }
            ask => ask,
        };
        if at.closing && !matches!(ask, Ask::Stop(..) | Ask::Shutdown) && !is_observation(ask) {
            return Err(Refusal::Closing);
        }
        let reply = match ask {
            Ask::Create { .. } | Ask::Ensure { .. } | Ask::Fork(_) | Ask::Subagent { .. } => {
                draft.start(ask)?
            }
            Ask::ByKey { key, scope, ask } => draft.start_by_key(*key, scope, ask)?,
            // A client's request in another's is none.
            Ask::ByClient { .. } => Reply::Done,
            Ask::Stop(id, orphans) => draft.stop(id, *orphans)?,
            Ask::Remove(id) => draft.remove(id)?,
            Ask::Edit(id, edit) => draft.edit(id, edit)?,
            Ask::One(_, Input::Tick) if at.closing && !draft.holds_process(ask) => Reply::Done,
            Ask::One(id, input) => draft.one(id, input)?,
            Ask::ManagerStarted { pid, version, boot_id, same_boot, lost } => {
                draft.manager_started(*pid, version, boot_id, *same_boot, lost.as_deref())?
            }
            Ask::AccessRefused(refused) => draft.access_refused(refused),
            Ask::Shutdown => draft.shutdown()?,
            Ask::SpareReady(spare) => draft.spare_ready(spare),
            Ask::SpareGone(spare) => draft.spare_gone(spare),
        };
        Ok(draft.finish(reply))
    }

    /// Makes a change part of the fleet. The caller commits the change, or takes it back before anybody sees it.
    pub fn adopt(&mut self, change: &Change) -> Undo {
        let mut undo = Undo {
            sessions: Vec::new(),
            retired: Vec::new(),
            next_number: self.next_number,
            next_event: self.next_event,
            spares: std::mem::replace(&mut self.spares, change.spares.clone()),
        };
        for session in &change.sessions {
            let before = self.sessions.insert(session.id.clone(), session.clone());
            self.passing.change(before.as_ref(), Some(session));
            names::change(&mut self.names, before.as_ref(), Some(session));
            undo.sessions.push((session.id.clone(), before));
        }
        if let Some((id, incarnation)) = &change.removed {
            let before = self.sessions.remove(id);
            self.passing.change(before.as_ref(), None);
            names::change(&mut self.names, before.as_ref(), None);
            undo.sessions.push((id.clone(), before));
            undo.retired.push((id.clone(), self.retired.insert(id.clone(), *incarnation)));
        }
        if let Some(id) = &change.revived {
            undo.retired.push((id.clone(), self.retired.remove(id)));
        }
        self.next_number = change.next_number;
        self.next_event = change.next_event;
        undo
    }

    /// Takes an adopted change back. The newest change is taken back first.
    pub fn take_back(&mut self, undo: Undo) {
        for (id, before) in undo.sessions.into_iter().rev() {
            let after = match &before {
                Some(session) => self.sessions.insert(id, session.clone()),
                None => self.sessions.remove(&id),
            };
            self.passing.change(after.as_ref(), before.as_ref());
            names::change(&mut self.names, after.as_ref(), before.as_ref());
        }
        for (id, before) in undo.retired.into_iter().rev() {
            match before {
                Some(incarnation) => self.retired.insert(id, incarnation),
                None => self.retired.remove(&id),
            };
        }
        self.next_number = undo.next_number;
        self.next_event = undo.next_event;
        self.spares = undo.spares;
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
        Ask::ManagerStarted { .. } | Ask::AccessRefused(_) | Ask::SpareReady(_) | Ask::SpareGone(_) => true,
        Ask::Create { .. }
        | Ask::ByKey { .. }
        | Ask::ByClient { .. }
        | Ask::Ensure { .. }
        | Ask::Fork(_)
        | Ask::Subagent { .. }
        | Ask::Stop(..)
        | Ask::Remove(_)
        | Ask::Edit(..)
        | Ask::Shutdown => false,
    }
}
