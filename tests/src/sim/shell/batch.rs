//! Batches: step, write, sync, and what happens when the journal has no room.

use std::sync::Arc;

use manager::core::{Ask, At, Change, Effect, Effects, Input, State};
use protocol::SessionId;
use protocol::event::Event;

use super::super::Sim;
use super::super::clients::{Answer, Request};
use super::super::journal::UsedKey;
use super::{Crashed, Owed, RETRY_MS, Room, Stepped, Written};

impl Sim {
    pub(crate) fn batch(&mut self, items: Vec<(Ask, Option<Request>)>) -> Result<(), Crashed> {
        let at = self.at();
        if items.is_empty() && (self.m().owed.stepped.is_empty() || self.m().room == Room::Shut) {
            return Ok(());
        }
        if self.m().room == Room::Shut {
            return self.act_first(items);
        }
        let Owed { stepped: owed, answers: late, used: owed_keys } = std::mem::take(&mut self.m().owed);
        let mut stepped: Vec<Stepped> = Vec::new();
        let mut undo = Vec::new();
        let mut answers: Vec<(Request, Answer)> = Vec::new();
        let mut used: Vec<UsedKey> = owed_keys.clone();
        let mut again: Vec<(Ask, Option<Request>)> = Vec::new();
        let check = self.rng.chance(20).then(|| self.m().fleet.clone());
        for (ask, request) in items {
            self.point()?;
            let key = request.as_ref().and_then(Request::scoped_key);
            if let (Some(key), Some(asked)) = (&key, &request) {
                let before = used.iter().find(|used| used.key == *key).or_else(|| self.journal.used(key));
                if let Some(before) = before {
                    if before.request != asked.body() {
                        self.failures.push(format!("key {key:?} was used for another request"));
                    }
                    let reply = before.reply.clone();
                    answers.extend(request.map(|request| (request, Answer::Done(reply))));
                    continue;
                }
            }
            let due = self.is_due(at, &ask);
            let result = self.m().fleet.step(at, &ask);
            let broken = crate::scopes::broken(&self.m().fleet, &ask, &result);
            self.failures.extend(broken);
            match result {
                Ok(change) => {
                    if due && change.sessions.is_empty() {
                        self.failures.push(format!("time does nothing: {ask:?}"));
                    }
                    undo.push(self.m().fleet.adopt(&change));
                    let broken = crate::names::broken(&self.m().fleet);
                    self.failures.extend(broken.map(|what| format!("{ask:?}: {what}")));
                    again.push((ask.clone(), request.clone()));
                    if let Some(request) = request {
                        if let Some(key) = key {
                            used.push(UsedKey { key, request: request.body(), reply: change.reply.clone() });
                        }
                        answers.push((request, Answer::Done(change.reply.clone())));
                    }
                    stepped.push(Stepped { ask, change });
                }
                Err(refusal) => match request {
                    Some(request) => answers.push((request, Answer::Refused(refusal))),
                    None => self.failures.push(format!("an observation was refused: {ask:?}: {refusal}")),
                },
            }
        }
        self.early_tick(at);
        if self.rng.chance(30) {
            self.echo(at);
        }
        self.point()?;
        let ends_fit = self.m().room == Room::Tight && self.ends_fit;
        if self.now < self.journal_fails_until && !ends_fit {
            let manager = self.m();
            for undo in undo.into_iter().rev() {
                manager.fleet.take_back(undo);
            }
            if check.is_some_and(|before| before != manager.fleet) {
                self.failures.push("what was not committed was not taken back".into());
            }
            self.m().owed = Owed { stepped: owed, answers: late, used: owed_keys };
            self.answer_uncommitted(answers, &again);
            return self.no_room(at, again);
        }
        let stepped: Vec<Stepped> = owed.into_iter().chain(stepped).collect();
        let answers: Vec<(Request, Answer)> = late.into_iter().chain(answers).collect();
        self.write(stepped, answers, &used)
    }

    /// Writes the batch, performs what needs no sync, and syncs it.
    fn write(
        &mut self,
        stepped: Vec<Stepped>,
        answers: Vec<(Request, Answer)>,
        used: &[UsedKey],
    ) -> Result<(), Crashed> {
        let events: Vec<Arc<Event>> =
            stepped.iter().flat_map(|one| &one.change.events).cloned().map(Arc::new).collect();
        let changes: Vec<Change> = stepped.iter().map(|one| one.change.clone()).collect();
        let due = !answers.is_empty() || events.iter().any(|event| event.kind.is_promise());
        let fails = due && self.faults && self.rng.chance(2);
        // What the kernel has not brought to the disk it may forget, or not.
        let before = (fails && self.rng.chance(500)).then(|| self.journal.content());
        self.journal.write(&changes, &events, used);
        let effects = Effects::of(&changes);
        self.written = Some(Written { stepped, events });
        self.perform(&effects.written, Self::unsynced_point)?;
        if fails {
            if let Some(before) = before {
                self.journal.put_back(before);
                self.written = None;
            }
            return Err(Crashed::Unsynced);
        }
        if due {
            self.journal.sync();
        }
        let Some(written) = self.written.take() else { return Ok(()) };
        self.record(&written.stepped, &written.events);
        written.events.iter().for_each(|event| self.check_survivors(event));
        self.point()?;
        self.synced(written, answers, &effects.synced)
    }

    /// Answers the refused requests, and asks the others to repeat later. Requests in `again` get no answer
    /// yet.
    fn answer_uncommitted(&mut self, answers: Vec<(Request, Answer)>, again: &[(Ask, Option<Request>)]) {
        for (request, answer) in answers {
            match answer {
                Answer::Refused(_) => self.answered(&request, answer),
                _ if again.iter().any(|(_, other)| other.as_ref().is_some_and(|it| it.is(&request))) => {}
                _ => self.answered(&request, Answer::Later),
            }
        }
    }

    /// The journal has taken nothing of these, which were taken back.
    fn no_room(&mut self, at: At, items: Vec<(Ask, Option<Request>)>) -> Result<(), Crashed> {
        let manager = self.m();
        manager.room_at = Some(at.mono + RETRY_MS);
        manager.room = if manager.room == Room::Plenty { Room::Tight } else { Room::Shut };
        let (mut ends, mut waiting) = (Vec::new(), Vec::new());
        for (ask, request) in items {
            match request {
                request if self.m().fleet.ends(&ask) => ends.push((ask, request)),
                Some(request) => self.answered(&request, Answer::Later),
                // Ticks come by themselves again.
                None if matches!(ask, Ask::One(_, Input::Tick)) => {}
                None if self.waits_on(&ask) => {}
                None => waiting.push(ask),
            }
        }
        let manager = self.m();
        manager.observed = waiting.into_iter().chain(manager.observed.drain(..)).collect();
        self.batch(ends)
    }

    pub(crate) fn look_for_room(&mut self, at: At) {
        let full = self.now < self.journal_fails_until;
        let manager = self.m();
        (manager.room, manager.room_at) =
            if full { (Room::Tight, Some(at.mono + RETRY_MS)) } else { (Room::Plenty, None) };
    }

    /// Not even ends fit on the disk: signals processes now, and records the ends later.
    fn act_first(&mut self, items: Vec<(Ask, Option<Request>)>) -> Result<(), Crashed> {
        let at = self.at();
        let mut waiting = Vec::new();
        for (ask, request) in items {
            self.point()?;
            let key = request.as_ref().and_then(Request::scoped_key);
            if let (Some(key), Some(request)) = (&key, &request) {
                let known =
                    self.m().owed.used.iter().find(|used| used.key == *key).map(|used| used.reply.clone());
                if let Some(reply) = known {
                    self.m().owed.answers.push((request.clone(), Answer::Done(reply)));
                    continue;
                }
                if let Some(reply) = self.journal.used(key).map(|used| used.reply.clone()) {
                    self.answered(request, Answer::Done(reply));
                    continue;
                }
            }
            let change = match self.m().fleet.step(at, &ask) {
                Ok(change) if ask == Ask::Shutdown || change.may_act_first() => change,
                Ok(_) => {
                    match request {
                        Some(request) => self.answered(&request, Answer::Later),
                        None if matches!(ask, Ask::One(_, Input::Tick)) => {}
                        None => waiting.push(ask),
                    }
                    continue;
                }
                Err(refusal) => {
                    if let Some(request) = request {
                        self.answered(&request, Answer::Refused(refusal));
                    }
                    continue;
                }
            };
            drop(self.m().fleet.adopt(&change));
            for (id, effect) in &change.effects {
                self.point()?;
                if !matches!(effect, Effect::Terminate { .. } | Effect::Kill { .. }) {
                    self.failures.push(format!("{id}: {effect:?} is done before it is recorded"));
                }
                self.do_effect(id, effect);
            }
            self.coverage.acted_first += 1;
            if let Some(request) = request {
                let owed = &mut self.m().owed;
                if let Some(key) = key {
                    owed.used.push(UsedKey { key, request: request.body(), reply: change.reply.clone() });
                }
                owed.answers.push((request, Answer::Done(change.reply.clone())));
            }
            self.m().owed.stepped.push(Stepped { ask, change });
        }
        let manager = self.m();
        manager.observed = waiting.into_iter().chain(manager.observed.drain(..)).collect();
        Ok(())
    }

    /// Returns true if this is a tick whose time has come.
    fn is_due(&mut self, at: At, ask: &Ask) -> bool {
        let Ask::One(id, Input::Tick) = ask else {
            return false;
        };
        let Some(session) = self.m().fleet.get(id).cloned() else {
            return false;
        };
        let runs = !at.closing || session.has_process();
        let due = runs && session.deadline().is_some_and(|deadline| deadline <= at.mono);
        if due
            && matches!(
                session.state,
                State::Starting { worker: None, .. } | State::Stopping { worker: None, .. }
            )
        {
            // A spawn answers within the turn that does it.
            let what = format!("{id}: nobody has spawned incarnation {}", session.incarnation);
            self.history.violation(Some(id), what);
        }
        due
    }

    /// A tick that comes too early must do nothing.
    fn early_tick(&mut self, at: At) {
        if !self.rng.chance(50) {
            return;
        }
        let sessions: Vec<SessionId> = self.m().fleet.sessions().map(|session| session.id.clone()).collect();
        let Some(id) = sessions.get(self.rng.below(sessions.len() as u64) as usize) else {
            return;
        };
        let Some(session) = self.m().fleet.get(id).cloned() else {
            return;
        };
        if session.deadline().is_some_and(|deadline| deadline <= at.mono) {
            return;
        }
        match self.m().fleet.step(at, &Ask::One(id.clone(), Input::Tick)) {
            Ok(change)
                if change.sessions.is_empty() && change.events.is_empty() && change.effects.is_empty() => {}
            other => self.failures.push(format!("{id}: time does something before the deadline: {other:?}")),
        }
    }
}
