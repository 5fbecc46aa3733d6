//! The simulated disk's content.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use manager::core::{Attached, Change, Fleet, Prompt, Reply, Session};
use protocol::api::AttachmentInfo;
use protocol::event::{Event, EventKind};
use protocol::wire::Attachment;
use protocol::{EventId, Incarnation, PromptId, SessionId};

/// A use of an idempotency key.
#[derive(Clone, Debug)]
pub struct UsedKey {
    /// Within what the key is unique, and the key.
    pub key: (String, String),
    /// The request.
    pub request: String,
    /// The reply.
    pub reply: Reply,
}

/// Content that survives a power cut.
#[derive(Clone, Debug, Default)]
pub struct Synced {
    sessions: BTreeMap<SessionId, Arc<Session>>,
    retired: BTreeMap<SessionId, Incarnation>,
    events: Vec<Arc<Event>>,
    texts: HashMap<PromptId, Arc<str>>,
    attached: HashMap<PromptId, Arc<[Attachment]>>,
    keys: HashMap<(String, String), UsedKey>,
}

/// Everything that was committed.
#[derive(Debug, Default)]
pub struct Journal {
    sessions: BTreeMap<SessionId, Arc<Session>>,
    retired: BTreeMap<SessionId, Incarnation>,
    events: Vec<Arc<Event>>,
    texts: HashMap<PromptId, Arc<str>>,
    attached: HashMap<PromptId, Arc<[Attachment]>>,
    keys: HashMap<(String, String), UsedKey>,
    synced: Synced,
    /// The boot in which it was last written.
    pub boot: u64,
}

impl Journal {
    /// Writes all of it: it survives the death of any process. As in the manager, only [`sync`](Self::sync) keeps it through a
    /// power cut.
    pub fn write(&mut self, changes: &[Change], events: &[Arc<Event>], used: &[UsedKey]) {
        for change in changes {
            for session in &change.sessions {
                self.sessions.insert(session.id.clone(), session.clone());
            }
            if let Some((id, incarnation)) = &change.removed {
                self.sessions.remove(id);
                self.retired.insert(id.clone(), *incarnation);
                self.events.retain(|event| event.session.as_ref() != Some(id));
                self.keys.retain(|(scope, _), _| scope != id.as_str());
            }
            if let Some(id) = &change.revived {
                self.retired.remove(id);
            }
        }
        for event in events {
            self.project(event);
        }
        for Attached { prompt, what } in changes.iter().flat_map(|change| &change.attached) {
            if self.texts.contains_key(prompt) {
                self.attached.insert(*prompt, what.clone());
            }
        }
        // A batch that removes a session also removes the session's other records in it.
        let removed: Vec<&SessionId> =
            changes.iter().filter_map(|change| Some(&change.removed.as_ref()?.0)).collect();
        self.events.extend(
            events
                .iter()
                .filter(|event| {
                    let of_removed = event
                        .session
                        .as_ref()
                        .is_some_and(|id| removed.contains(&id) && !self.sessions.contains_key(id));
                    !of_removed || event.kind == EventKind::SessionDeleted {}
                })
                .cloned(),
        );
        for used in used {
            self.keys.insert(used.key.clone(), used.clone());
        }
    }

    /// Everything that was written is on the disk.
    pub fn sync(&mut self) {
        self.synced = self.content();
    }

    /// The content, which [`put_back`](Self::put_back) restores.
    pub fn content(&self) -> Synced {
        Synced {
            sessions: self.sessions.clone(),
            retired: self.retired.clone(),
            events: self.events.clone(),
            texts: self.texts.clone(),
            attached: self.attached.clone(),
            keys: self.keys.clone(),
        }
    }

    /// The content is what it was.
    pub fn put_back(&mut self, content: Synced) {
        let Synced { sessions, retired, events, texts, attached, keys } = content;
        (self.sessions, self.retired, self.events) = (sessions, retired, events);
        (self.texts, self.attached, self.keys) = (texts, attached, keys);
    }

    /// Keeps the texts of prompts that may still be run, as the manager's journal does: sessions do not.
    fn project(&mut self, event: &Event) {
        match &event.kind {
            EventKind::PromptAccepted { prompt_id, text, retry_of, .. } => {
                self.texts.insert(*prompt_id, text.as_str().into());
                let before = retry_of.and_then(|before| self.attached.remove(&before));
                self.attached.extend(before.map(|what| (*prompt_id, what)));
            }
            EventKind::PromptEdited { prompt_id, text } => {
                self.texts.insert(*prompt_id, text.as_str().into());
            }
            EventKind::TurnCompleted { prompt_id, .. }
            | EventKind::PromptRemoved { prompt_id, .. }
            | EventKind::PromptResolved { prompt_id, .. } => {
                self.texts.remove(prompt_id);
                self.attached.remove(prompt_id);
            }
            _ => {}
        }
    }

    /// The machine lost its power: what was not synced is gone. Gives the last event that is kept.
    pub fn power_cut(&mut self) -> EventId {
        self.put_back(self.synced.clone());
        self.last()
    }

    /// The last event.
    pub fn last(&self) -> EventId {
        self.events.last().map_or(0, |event| event.id)
    }

    /// The events after `after`, at most so many.
    pub fn after(&self, after: EventId, upto: EventId, limit: usize) -> Vec<Arc<Event>> {
        let start = self.events.partition_point(|event| event.id <= after);
        self.events[start..].iter().take_while(|event| event.id <= upto).take(limit).cloned().collect()
    }

    /// Returns the reply under a key.
    pub fn used(&self, key: &(String, String)) -> Option<&UsedKey> {
        self.keys.get(key)
    }

    /// Why a prompt could not be handed on with all that belongs to it.
    pub fn misses(&self, prompt: &Prompt) -> Option<String> {
        let attached = self.attached.get(&prompt.id).map(|what| &**what).unwrap_or_default();
        let found: Vec<AttachmentInfo> = attached.iter().map(AttachmentInfo::from).collect();
        let differs = found != prompt.attachments;
        differs.then(|| format!("{} has {:?}, kept is {found:?}", prompt.id, prompt.attachments))
    }

    /// Returns the fleet that a new manager loads: the sessions in their written form, the texts of their
    /// prompts from a table of their own.
    pub fn load(&self) -> Result<Fleet, String> {
        let mut sessions = Vec::new();
        for stored in self.sessions.values() {
            let written = serde_json::to_string(&**stored).map_err(|error| error.to_string())?;
            let mut session: Session = serde_json::from_str(&written).map_err(|error| error.to_string())?;
            let turns = &mut session.turns;
            let running = turns.running.iter_mut().map(|turn| &mut turn.prompt);
            let prompts: Vec<&mut Prompt> =
                running.chain(&mut turns.queue).chain(&mut turns.interrupted).collect();
            for prompt in prompts {
                let text = self.texts.get(&prompt.id);
                prompt.text = text.ok_or_else(|| format!("the text of {} is lost", prompt.id))?.clone();
                if let Some(problem) = self.misses(prompt) {
                    return Err(problem);
                }
            }
            if session != **stored {
                return Err(format!("{} does not read back as it was written:\n{written}", stored.id));
            }
            sessions.push(session);
        }
        let ids = self.sessions.keys().chain(self.retired.keys());
        let next_number = ids.filter_map(SessionId::number).max().unwrap_or(0).saturating_add(1);
        Ok(Fleet::load(sessions, self.retired.clone(), next_number, self.last() + 1))
    }

    /// All sessions.
    pub fn sessions(&self) -> impl Iterator<Item = &Arc<Session>> {
        self.sessions.values()
    }
}
