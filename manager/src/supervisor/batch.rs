//! One batch: step all, commit all, and only then publish, answer and act.

use std::collections::BTreeSet;

use protocol::{SessionId, failpoint};

use crate::core::{Ask, Change, Effect, Input, Reply, Seen};
use crate::error::Error;
use crate::feed::Record;
use crate::journal::UsedKey;
use crate::supervisor::Supervisor;
use crate::supervisor::inbox::{Answer, IdempotencyKey, Item};
use crate::supervisor::room::Room;
use crate::workers::{logs, tokens};

impl Supervisor {
    /// Steps all of it, commits all of it, and only then shows, answers and acts.
    pub(super) fn batch(&mut self, items: Vec<Item>) {
        if items.is_empty() && (self.owed.is_empty() || self.room == Room::Shut) {
            self.release_permits();
            return;
        }
        if self.room == Room::Shut {
            return self.act_first(items);
        }
        let at = self.now();
        let owed = self.owed.changes.len();
        let mut changes = std::mem::take(&mut self.owed.changes);
        let mut undo = Vec::new();
        let mut done: Vec<Item> = Vec::new();
        let mut answers: Vec<(Answer, Result<Reply, Error>)> = Vec::new();
        let mut used = std::mem::take(&mut self.owed.used);
        let owed_keys = used.len();
        for item in items {
            if let Item::Command { key: Some(key), .. } = &item
                && let Err(answer) = self.replay(key, &used)
            {
                answers.extend(item.reply().map(|reply| (reply, answer)));
                continue;
            }
            match (self.fleet.step(at, item.ask()), item) {
                (Ok(change), item) => {
                    undo.push(self.fleet.adopt(&change));
                    if let Item::Command { key: Some(key), .. } = &item {
                        used.push(UsedKey { key: key.clone(), reply: change.reply.clone() });
                    }
                    changes.push(change);
                    done.push(item);
                }
                (Err(refusal), Item::Command { reply, .. }) => answers.push((reply, Err(refusal.into()))),
                (Err(refusal), Item::Observation(_)) => {
                    tracing::error!(%refusal, "an observation was refused");
                }
            }
        }
        let records = records(&changes.iter().collect::<Vec<_>>());
        at_events("before", &changes);
        let answering = !answers.is_empty()
            || !self.owed.answers.is_empty()
            || done.iter().any(|item| matches!(item, Item::Command { .. }));
        let committed = records.map_err(|error| error.to_string()).and_then(|records| {
            let empty = records.is_empty() && changes.iter().all(|change| change.sessions.is_empty());
            let written =
                if empty { Ok(()) } else { self.journal.commit(&changes, &records, &used, None, answering) };
            written.map(|()| records).map_err(|error| error.to_string())
        });
        match committed {
            Ok(records) => {
                at_events("after", &changes);
                self.release_permits();
                // Before the answers: whoever was answered and then reads the events finds there what was answered.
                self.feed.publish(records);
                let late = std::mem::take(&mut self.owed.answers);
                for (reply, answer) in
                    late.into_iter().map(|(reply, answer)| (reply, Ok(answer))).chain(answers)
                {
                    // Whoever asked may have gone; what was asked is done all the same.
                    let _ = reply.send(answer);
                }
                let mut observations = Vec::new();
                for (item, change) in done.into_iter().zip(&changes[owed..]) {
                    match item {
                        Item::Command { reply, .. } => drop(reply.send(Ok(change.reply.clone()))),
                        Item::Observation(ask) => observations.push(ask),
                    }
                }
                if answering {
                    failpoint::hit("after", "answer");
                }
                self.committed(&changes);
                self.let_go(&observations);
            }
            Err(error) => {
                for undo in undo.into_iter().rev() {
                    self.fleet.take_back(undo);
                }
                changes.truncate(owed);
                used.truncate(owed_keys);
                (self.owed.changes, self.owed.used) = (changes, used);
                for (reply, answer) in answers {
                    let _ = reply.send(answer.and(Err(Error::Journal(error.clone()))));
                }
                self.no_room(done, &error);
            }
        }
    }

    /// A request that was answered before gets the same answer; a key that stands for another is refused.
    pub(super) fn replay(&self, key: &IdempotencyKey, batch: &[UsedKey]) -> Result<(), Result<Reply, Error>> {
        let same = |used: &&UsedKey| used.key.scope == key.scope && used.key.key == key.key;
        let before = match batch.iter().find(same) {
            Some(used) => Some((used.key.request.clone(), used.reply.clone())),
            None => {
                self.journal.used(key).map_err(|error| Err(Error::Unread(format!("the journal: {error}"))))?
            }
        };
        match before {
            None => Ok(()),
            Some((request, reply)) if request == key.request => Err(Ok(reply)),
            Some(_) => Err(Err(Error::KeyReused)),
        }
    }

    /// It is remembered and seen: now it may be done.
    pub(super) fn committed(&mut self, changes: &[Change]) {
        let mut touched = BTreeSet::new();
        for change in changes {
            touched.extend(change.sessions.iter().map(|session| session.id.clone()));
            touched.extend(change.removed.iter().map(|(id, _)| id.clone()));
            self.clears |= change.removed.is_some();
        }
        let now = self.mono();
        for (id, effect) in changes.iter().flat_map(|change| &change.effects) {
            self.act(id, effect, now);
        }
        for id in touched {
            self.schedule(&id);
            self.show(&id, now);
            if self.fleet.get(&id).is_none() {
                logs::remove(self.workers.state_dir(), &id);
                tokens::remove(self.workers.state_dir(), &id);
            }
        }
    }

    pub(super) fn act(&mut self, id: &SessionId, effect: &Effect, now: u64) {
        let Some(session) = self.fleet.get(id).cloned() else {
            return;
        };
        failpoint::hit_about("before", effect.name(), id);
        let seen = self.workers.act(id, effect, &session, &self.journal, now);
        failpoint::hit_about("after", effect.name(), id);
        self.observe(seen);
    }

    /// Tells workers what of theirs is on record, and reaps those whose `Gone` is.
    pub(super) fn let_go(&mut self, observations: &[Ask]) {
        for ask in observations {
            match ask {
                Ask::One(id, Input::Seen(incarnation, Seen::Gone { .. })) => {
                    self.workers.gone(id, *incarnation);
                }
                Ask::One(id, Input::Seen(incarnation, Seen::Heard(number))) => {
                    let fault = self.workers.recorded(id, *incarnation, *number);
                    self.observe(fault);
                }
                _ => {}
            }
        }
    }
}

/// Places to die at: before these events are on record, or after.
pub(super) fn at_events(place: &str, changes: &[Change]) {
    for event in changes.iter().flat_map(|change| &change.events) {
        match &event.session {
            Some(id) => failpoint::hit_about(place, event.kind.name(), id),
            None => failpoint::hit(place, event.kind.name()),
        }
    }
}

/// The events of these changes, as they are kept and shown.
pub(super) fn records(changes: &[&Change]) -> Result<Vec<Record>, serde_json::Error> {
    changes.iter().flat_map(|change| &change.events).map(Record::new).collect()
}
