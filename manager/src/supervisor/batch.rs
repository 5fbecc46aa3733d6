//! One batch: step all, write all, perform what only this machine's processes see, sync, and only then publish, answer and
//! perform the rest.

use std::collections::BTreeSet;
use std::time::Instant;

use protocol::{Incarnation, SessionId, failpoint};

use crate::core::{Ask, Change, Effect, Effects, Input, Reply, Seen, Undo};
use crate::error::Error;

use crate::journal::{IdempotencyKey, JournalError, Record, UsedKey};
use crate::supervisor::Supervisor;
use crate::supervisor::inbox::{Answer, Item, Replay};
use crate::supervisor::room::Room;
use crate::workers::{logs, tokens};

/// A batch between its steps and its commit.
struct Batch {
    /// Changes to record, oldest first. The first `owed_changes` were done before they could be recorded.
    changes: Vec<Change>,
    owed_changes: usize,
    /// Idempotency keys to record with their replies. The first `owed_keys` belong to the changes that are owed.
    used: Vec<UsedKey>,
    owed_keys: usize,
    /// One undo for each change that is not owed.
    undo: Vec<Undo>,
    /// The item of each change that is not owed.
    done: Vec<Item>,
    /// Answers that no change stands for: refusals and repeated requests.
    answers: Vec<(Answer, Result<Reply, Error>)>,
}

impl Batch {
    /// Returns true if a client waits for this batch, which is synced then.
    fn answers_somebody(&self) -> bool {
        !self.answers.is_empty() || self.done.iter().any(|item| matches!(item, Item::Command { .. }))
    }

    /// Returns true if the journal has nothing to write.
    fn is_empty(&self) -> bool {
        let nothing = |change: &Change| change.events.is_empty() && change.sessions.is_empty();
        self.changes.iter().all(nothing)
    }

    /// Returns true if the batch holds a promise, which is synced.
    fn promises(&self) -> bool {
        self.changes.iter().flat_map(|change| &change.events).any(|event| event.kind.is_promise())
    }
}

impl Supervisor {
    /// Steps all of it and writes all of it. Performs the effects that need no sync, syncs, and only then publishes, answers
    /// and performs the other effects. What the early effects bring about is observed in a later batch.
    pub(super) fn batch(&mut self, items: Vec<Item>) {
        if items.is_empty() && (self.owed.is_empty() || self.room == Room::Shut) {
            self.release_permits();
            return;
        }
        if self.room == Room::Shut {
            return self.act_first(items);
        }
        let batch = self.step_all(items);
        at_events("before", &batch.changes);
        let began = Instant::now();
        let answers = batch.answers_somebody() || !self.owed.answers.is_empty();
        let records = match self.write(&batch) {
            Ok(records) => records,
            Err(error) => return self.take_back(batch, &error),
        };
        let written = began.elapsed();
        failpoint::hit("batch", "written");
        let effects = Effects::of(&batch.changes);
        self.perform(effects.written);
        let began = Instant::now();
        if !batch.is_empty() && (answers || batch.promises()) {
            failpoint::hit("batch", "unsynced");
            if let Err(error) = self.journal.sync() {
                return self.unsynced(&error);
            }
            self.metrics.written(written + began.elapsed());
        }
        self.finish(batch, records, answers, effects.synced);
    }

    /// The disk has not taken what is written, and nobody knows what of it is left. Nobody is told anything of it: the loop
    /// ends, and the next manager finds out.
    fn unsynced(&mut self, error: &JournalError) {
        tracing::error!(%error, "the disk does not take the journal: this manager ends, and leaves its sessions to the next");
        self.broken = true;
        self.waiting_for_end.clear();
    }

    /// Steps and adopts items in their order, after what was done before it could be recorded.
    fn step_all(&mut self, items: Vec<Item>) -> Batch {
        let at = self.now();
        let changes = std::mem::take(&mut self.owed.changes);
        let used = std::mem::take(&mut self.owed.used);
        let (owed_changes, owed_keys) = (changes.len(), used.len());
        let (undo, done, answers) = (Vec::new(), Vec::new(), Vec::new());
        let mut batch = Batch { owed_changes, owed_keys, changes, used, undo, done, answers };
        for item in items {
            if let Item::Command { key: Some(key), .. } = &item
                && let Some(answer) = self.replay(key, &batch.used).answer()
            {
                batch.answers.extend(item.reply().map(|reply| (reply, answer)));
                continue;
            }
            match (self.fleet.step(at, item.ask()), item) {
                (Ok(change), item) => {
                    batch.undo.push(self.fleet.adopt(&change));
                    if let Item::Command { key: Some(key), .. } = &item {
                        batch.used.push(UsedKey { key: key.clone(), reply: change.reply.clone() });
                    }
                    batch.changes.push(change);
                    batch.done.push(item);
                }
                (Err(refusal), Item::Command { reply, .. }) => {
                    batch.answers.push((reply, Err(refusal.into())));
                }
                (Err(refusal), Item::Observation(_)) => {
                    tracing::error!(%refusal, "an observation was refused");
                }
            }
        }
        batch
    }

    /// Writes the batch into the journal as one transaction, and returns its events.
    fn write(&mut self, batch: &Batch) -> Result<Vec<Record>, String> {
        let Batch { changes, used, .. } = batch;
        let records = records(&changes.iter().collect::<Vec<_>>()).map_err(|error| error.to_string())?;
        if !batch.is_empty() {
            let written = self.journal.write(changes, &records, used, None);
            written.map_err(|error| error.to_string())?;
        }
        Ok(records)
    }

    /// The batch is on record: publishes, answers, and performs the effects that waited for that.
    fn finish(
        &mut self,
        batch: Batch,
        records: Vec<Record>,
        answers: bool,
        effects: Vec<(SessionId, Effect)>,
    ) {
        at_events("after", &batch.changes);
        self.release_permits();
        self.count(&batch.changes);
        // Before the answers: whoever was answered and then reads the events finds there what was answered.
        self.feed.publish(records);
        let late = std::mem::take(&mut self.owed.answers);
        let late = late.into_iter().map(|(reply, answer)| (reply, Ok(answer)));
        for (reply, answer) in late.chain(batch.answers) {
            // The client may have gone; its command is carried out all the same.
            let _ = reply.send(answer);
        }
        let mut observations = Vec::new();
        for (item, change) in batch.done.into_iter().zip(&batch.changes[batch.owed_changes..]) {
            match item {
                Item::Command { reply, .. } => drop(reply.send(Ok(change.reply.clone()))),
                Item::Observation(ask) => observations.push(ask),
            }
        }
        if answers {
            failpoint::hit("after", "answer");
        }
        self.perform(effects);
        self.settle(&batch.changes);
        self.acknowledge_and_reap(&observations);
        self.workers.discard();
    }

    /// Counts changes that are on record.
    pub(super) fn count(&self, changes: &[Change]) {
        let now = self.mono();
        for change in changes {
            // A later change of the same batch may have removed the session.
            let agent = |id: &SessionId| {
                let session = change.sessions.iter().find(|session| session.id == *id);
                Some(session.or_else(|| self.fleet.get(id))?.spec.agent_name.clone())
            };
            self.metrics.committed(change.events.iter(), agent, now);
        }
    }

    /// The journal took nothing of the batch: the fleet is as it was before.
    fn take_back(&mut self, mut batch: Batch, error: &str) {
        for undo in batch.undo.into_iter().rev() {
            self.fleet.take_back(undo);
        }
        batch.changes.truncate(batch.owed_changes);
        batch.used.truncate(batch.owed_keys);
        (self.owed.changes, self.owed.used) = (batch.changes, batch.used);
        for (reply, answer) in batch.answers {
            let _ = reply.send(answer.and(Err(Error::Journal(error.to_owned()))));
        }
        self.no_room(batch.done, error);
    }

    /// Looks up an idempotency key in the journal and in this batch.
    pub(super) fn replay(&self, key: &IdempotencyKey, batch: &[UsedKey]) -> Replay {
        let same = |used: &&UsedKey| used.key.scope == key.scope && used.key.key == key.key;
        let before = match batch.iter().find(same) {
            Some(used) => Some((used.key.request.clone(), used.reply.clone())),
            None => match self.journal.used(key) {
                Ok(before) => before,
                Err(error) => return Replay::Refused(Error::Unread(format!("the journal: {error}"))),
            },
        };
        match before {
            None => Replay::New,
            Some((request, reply)) if request == key.request => Replay::Answered(reply),
            Some(_) => Replay::Refused(Error::KeyReused),
        }
    }

    /// Performs effects whose changes are on record, as far as each needs.
    pub(super) fn perform(&mut self, effects: impl IntoIterator<Item = (SessionId, Effect)>) {
        let now = self.mono();
        let mut spawns = Vec::new();
        for (id, effect) in effects {
            if let Effect::Spawn { incarnation } = effect {
                spawns.push((id, incarnation));
                continue;
            }
            if spawns.iter().any(|(of, _)| *of == id) {
                // What follows a start is about the new process.
                self.spawn(std::mem::take(&mut spawns), now);
            }
            self.act(&id, &effect, now);
        }
        self.spawn(spawns, now);
    }

    /// Sets the timers of sessions that changed, shows them to whoever watches, and removes the files of removed ones.
    pub(super) fn settle(&mut self, changes: &[Change]) {
        let mut touched = BTreeSet::new();
        for change in changes {
            touched.extend(change.sessions.iter().map(|session| session.id.clone()));
            touched.extend(change.removed.iter().map(|(id, _)| id.clone()));
            self.clears |= change.removed.is_some();
        }
        let now = self.mono();
        for id in touched {
            self.schedule(&id);
            self.show(&id, now);
            if self.fleet.get(&id).is_none() {
                logs::remove(self.workers.state_dir(), &id);
                tokens::remove(self.workers.state_dir(), &id);
            }
        }
    }

    /// Starts workers in one go.
    fn spawn(&mut self, mut starts: Vec<(SessionId, Incarnation)>, now: u64) {
        starts.retain(|(id, _)| self.fleet.get(id).is_some());
        if starts.is_empty() {
            return;
        }
        let hit = |place| {
            for (id, incarnation) in &starts {
                failpoint::hit_about(place, Effect::Spawn { incarnation: *incarnation }.name(), id);
            }
        };
        hit("before");
        let seen = self.workers.spawn_all(starts.clone(), now);
        hit("after");
        self.observe(seen);
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

    /// Acknowledges messages that are on record, and reaps workers whose `Gone` is.
    pub(super) fn acknowledge_and_reap(&mut self, observations: &[Ask]) {
        let now = self.mono();
        for ask in observations {
            match ask {
                Ask::SpareGone(identity) => self.workers.spare_gone(identity, now),
                Ask::One(id, Input::Seen(incarnation, Seen::Gone { .. })) => {
                    self.workers.gone(id, *incarnation, now);
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

/// Failpoints: before these events are on record, or after.
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
