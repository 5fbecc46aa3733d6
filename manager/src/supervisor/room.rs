//! The loop while the journal takes nothing, most often because the disk is full.
//!
//! There are three levels. *Plenty*: the journal takes everything. *Tight*: the last commit failed, and the reserve for
//! ends was freed; ends are taken, everything else is refused or waits in its pipe. *Shut*: not even ends fit; processes
//! are signalled all the same, and that is recorded later. The loop looks for more room once a second.

use protocol::SessionId;

use super::Supervisor;
use crate::core::{Ask, Change, Fleet, Input, Reply};
use crate::error::Error;
use crate::journal::UsedKey;
use crate::supervisor::inbox::{Answer, Item, Replay};

/// Time between two looks for room, in milliseconds.
const RETRY_MS: u64 = 1_000;

/// The room in the journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Room {
    /// The journal takes everything.
    #[default]
    Plenty,
    /// The journal takes ends only.
    Tight,
    /// The journal takes nothing.
    Shut,
}

impl Room {
    /// Returns true if the journal takes the end of this session's process.
    pub fn takes_end_of(self, fleet: &Fleet, id: &SessionId) -> bool {
        match self {
            Room::Plenty => true,
            Room::Tight => is_ending(fleet, id),
            Room::Shut => false,
        }
    }
}

fn is_ending(fleet: &Fleet, id: &SessionId) -> bool {
    fleet.ends(&Ask::One(id.clone(), Input::Tick))
}

/// Changes that were done and adopted, and are not on record yet, oldest first.
#[derive(Default)]
pub struct Owed {
    /// The changes.
    pub changes: Vec<Change>,
    /// Clients whose answer waits for the record.
    pub answers: Vec<(Answer, Reply)>,
    /// Idempotency keys to record with the changes.
    pub used: Vec<UsedKey>,
}

impl Owed {
    /// Returns true if nothing is owed.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

impl Supervisor {
    /// Returns true if an observation is stepped now, and false if it waits for room.
    pub(super) fn takes(&self, ask: &Ask) -> bool {
        match self.room {
            Room::Plenty => true,
            Room::Tight => self.fleet.ends(ask),
            Room::Shut => matches!(ask, Ask::Shutdown),
        }
    }

    pub(super) fn is_ending(&self, id: &SessionId) -> bool {
        is_ending(&self.fleet, id)
    }

    /// Takes the observations that are stepped now. The others keep their order.
    pub(super) fn take_observed(&mut self) -> Vec<Item> {
        let observed = std::mem::take(&mut self.observed);
        let (taken, kept) = observed.into_iter().partition(|ask| self.takes(ask));
        self.observed = kept;
        std::collections::VecDeque::into_iter(taken).map(Item::Observation).collect()
    }

    /// Lets a link read on once none of its observations waits.
    pub(super) fn release_permits(&mut self) {
        if self.observed.is_empty() {
            return self.permits.clear();
        }
        let waits =
            |id: &SessionId| self.observed.iter().any(|ask| matches!(ask, Ask::One(of, _) if of == id));
        self.permits.retain(|(id, _)| waits(id));
    }

    /// Looks for room, and accepts everything again if the reserve could be made.
    pub(super) fn look_for_room(&mut self) {
        let now = self.mono();
        if self.room == Room::Shut {
            // Deadlines that came meanwhile and did nothing.
            self.reschedule_all();
        }
        match self.reserve.make() {
            Ok(()) => {
                if self.room != Room::Plenty {
                    tracing::info!("the journal has room again");
                }
                (self.room, self.room_at) = (Room::Plenty, None);
            }
            Err(error) => {
                if self.room == Room::Plenty {
                    tracing::error!(%error, "the journal's disk is full: new work is refused until there is room");
                }
                (self.room, self.room_at) = (Room::Tight, Some(now + RETRY_MS));
            }
        }
    }

    /// The journal has taken nothing of `items`, which were taken back.
    pub(super) fn no_room(&mut self, items: Vec<Item>, error: &str) {
        self.room_at = Some(self.mono() + RETRY_MS);
        let freed = self.room == Room::Plenty && self.reserve.free();
        self.room = if freed { Room::Tight } else { Room::Shut };
        tracing::error!(%error, freed, "the journal took nothing; tried again in a second");
        let (mut ends, mut waiting) = (Vec::new(), Vec::new());
        for item in items {
            match item {
                item if self.fleet.ends(item.ask()) => ends.push(item),
                Item::Command { reply, .. } => drop(reply.send(Err(Error::Journal(error.to_owned())))),
                // If this fails, the timers bring those that are still due.
                Item::Observation(Ask::One(_, Input::Tick)) => {}
                Item::Observation(ask) => waiting.push(ask),
            }
        }
        // Observations keep their place, and are stepped again.
        self.observed = waiting.into_iter().chain(self.observed.drain(..)).collect();
        self.reschedule_all();
        self.batch(ends);
    }

    /// Performs changes that only signal processes, before they can be recorded. All others wait or are refused.
    pub(super) fn act_first(&mut self, items: Vec<Item>) {
        let at = self.now();
        let mut waiting = Vec::new();
        for item in items {
            if let Item::Command { key: Some(key), .. } = &item {
                match self.replay(key, &self.owed.used) {
                    Replay::New => {}
                    // The repeated request waits for the record as well as the one before it.
                    Replay::Answered(answer) => {
                        self.owed.answers.extend(item.reply().map(|reply| (reply, answer)));
                        continue;
                    }
                    Replay::Refused(error) => {
                        drop(item.reply().map(|reply| reply.send(Err(error))));
                        continue;
                    }
                }
            }
            let leaves = matches!(item.ask(), Ask::Shutdown);
            let change = match (self.fleet.step(at, item.ask()), item) {
                (Ok(change), item) if leaves || change.may_act_first() => (change, item),
                (Ok(_), Item::Command { reply, .. }) => {
                    drop(reply.send(Err(Error::Journal("there is no room for more".into()))));
                    continue;
                }
                // It comes again with the next look for room.
                (Ok(_), Item::Observation(Ask::One(_, Input::Tick))) => continue,
                (Ok(_), Item::Observation(ask)) => {
                    waiting.push(ask);
                    continue;
                }
                (Err(refusal), item) => {
                    drop(item.reply().map(|reply| reply.send(Err(refusal.into()))));
                    continue;
                }
            };
            let (change, item) = change;
            drop(self.fleet.adopt(&change));
            for session in &change.sessions {
                self.schedule(&session.id);
            }
            for (id, effect) in &change.effects {
                self.act(id, effect, at.mono);
            }
            if let Item::Command { key, reply, .. } = item {
                self.owed.used.extend(key.map(|key| UsedKey { key, reply: change.reply.clone() }));
                self.owed.answers.push((reply, change.reply.clone()));
            }
            self.owed.changes.push(change);
        }
        self.observed = waiting.into_iter().chain(self.observed.drain(..)).collect();
    }
}
