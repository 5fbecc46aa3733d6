//! Effects: what the manager does to workers.

use std::collections::BTreeSet;

use manager::core::{Ask, Effect, Input, Seen, Session};
use protocol::wire::Agent;
use protocol::{Identity, Incarnation, PromptId, SessionId};

use super::super::Sim;
use super::super::world::{Key, Life, ToWorker};
use super::Handle;

impl Sim {
    pub(crate) fn let_go(&mut self, id: &SessionId, incarnation: Incarnation) {
        if self.m().workers.get(id).is_some_and(|handle| handle.incarnation == incarnation) {
            self.reap(id);
        }
    }

    fn reap(&mut self, id: &SessionId) {
        if let Some(key) = self.m().workers.remove(id).and_then(|handle| handle.key)
            && self.world.procs[key].life != Life::Reaped
        {
            self.world.reap(key);
        }
    }

    pub(crate) fn do_effect(&mut self, id: &SessionId, effect: &Effect) {
        let Some(session) = self.m().fleet.get(id).cloned() else {
            return;
        };
        match effect {
            Effect::Spawn { incarnation } => self.spawn_worker(id, *incarnation, &session),
            Effect::Welcome { incarnation } => {
                self.enlist(id, *incarnation, &session);
                if let Some(handle) = self.handle(id, *incarnation)
                    && !std::mem::replace(&mut handle.welcomed, true)
                    && let Some(key) = handle.key
                {
                    self.tell(key, ToWorker::Welcome);
                }
            }
            Effect::Deliver { incarnation, prompt } => self.deliver(id, *incarnation, *prompt, &session),
            Effect::Abort { incarnation, prompt } => {
                if let Some(handle) = self.handle(id, *incarnation)
                    && handle.aborted.replace(*prompt) != Some(*prompt)
                    && let Some(key) = handle.key
                {
                    self.tell(key, ToWorker::Abort(*prompt));
                }
            }
            Effect::Answer { incarnation, request, option } => {
                if let Some(handle) = self.handle(id, *incarnation)
                    && handle.answered.insert(*request)
                    && let Some(key) = handle.key
                {
                    self.tell(key, ToWorker::Answer(*request, option.clone()));
                }
            }
            Effect::Driver { incarnation, client, .. } => {
                if let Some(handle) = self.handle(id, *incarnation)
                    && std::mem::replace(&mut handle.driver, *client) != *client
                    && let Some(key) = handle.key
                {
                    self.tell(key, ToWorker::Driver(*client));
                }
            }
            Effect::Set { incarnation, request, .. } => {
                if let Some(handle) = self.handle(id, *incarnation)
                    && handle.set.insert(*request)
                    && let Some(key) = handle.key
                {
                    self.tell(key, ToWorker::Set(*request));
                }
            }
            Effect::AnswerCall { incarnation, request, .. } => {
                if let Some(handle) = self.handle(id, *incarnation)
                    && handle.called.insert(*request)
                    && let Some(key) = handle.key
                {
                    self.tell(key, ToWorker::Called(*request));
                }
            }
            Effect::Terminate { incarnation } => {
                if let Some(key) = self.living(id, *incarnation) {
                    self.terminate(key);
                }
            }
            Effect::Kill { incarnation, .. } => {
                if let Some(key) = self.living(id, *incarnation) {
                    self.kill(key);
                }
            }
            Effect::Reclaim { incarnation, worker } => self.reclaim(id, *incarnation, worker, &session),
            Effect::Release { incarnation } => self.release(id, *incarnation),
        }
    }

    /// Start a worker, unless this incarnation has one.
    fn spawn_worker(&mut self, id: &SessionId, incarnation: Incarnation, session: &Session) {
        let generation = self.generation;
        if let Some(handle) = self.m().workers.get(id) {
            if handle.incarnation >= incarnation {
                return;
            }
            let what =
                format!("{id}: worker {incarnation} is spawned, and {} is not reaped", handle.incarnation);
            self.history.violation(Some(id), what);
        }
        if let Some((_, no_room)) = self.world.no_spawn.filter(|(until, _)| *until > self.now) {
            let seen = Seen::SpawnFailed { error: "no".into(), no_room };
            return self.m().observed.push_back(Ask::One(id.clone(), Input::Seen(incarnation, seen)));
        }
        let acp = matches!(session.spec.agent, Agent::Acp { .. });
        let (key, identity) = self.spawn(id, incarnation, generation, acp);
        self.take(id, incarnation, Some(key));
        let seen = Seen::Spawned(identity);
        self.m().observed.push_back(Ask::One(id.clone(), Input::Seen(incarnation, seen)));
        self.doom(id, key);
    }

    /// Give the worker a prompt, once.
    fn deliver(&mut self, id: &SessionId, incarnation: Incarnation, prompt: PromptId, session: &Session) {
        let turn = session.turns.running.as_ref().filter(|turn| turn.prompt.id == prompt);
        let runs = turn.is_some();
        let taken = turn.is_some_and(|turn| turn.is_taken());
        let reads = session.is_told_history() || turn.is_some_and(|turn| !turn.prompt.attachments.is_empty());
        if let Some(problem) = turn.and_then(|turn| self.journal.misses(&turn.prompt)) {
            self.history.violation(Some(id), problem);
        }
        if let Some(handle) = self.handle(id, incarnation)
            && handle.adopted
            && taken
        {
            // By the manager before.
            handle.delivered = Some(prompt);
            return;
        }
        if let Some(handle) = self.handle(id, incarnation).filter(|_| runs)
            && handle.delivered.replace(prompt) != Some(prompt)
        {
            handle.answered.clear();
            if let Some(key) = handle.key {
                self.tell(key, ToWorker::Prompt(prompt));
            }
            // A reader is quick here; what belongs to the prompt is looked for above.
            if reads {
                let handed = Input::Seen(incarnation, Seen::Handed(prompt));
                self.m().observed.push_back(Ask::One(id.clone(), handed));
            }
        }
    }

    /// Take over the worker of an earlier manager.
    fn reclaim(&mut self, id: &SessionId, incarnation: Incarnation, worker: &Identity, session: &Session) {
        if !self.m().workers.contains_key(id) {
            let found = self.world.find(worker);
            // The marker finds its leftover processes, even when the worker is gone.
            let left =
                |proc: &crate::sim::world::Proc| proc.session == *id && proc.incarnation == incarnation;
            let key = found.or_else(|| self.world.procs.iter().rposition(left));
            if let Some(key) = key {
                self.recruit(key, id, incarnation, session);
            }
            self.take(id, incarnation, key);
            if let Some(handle) = self.handle(id, incarnation) {
                (handle.adopted, handle.heard) = (true, session.heard);
            }
            if let Some(key) = key {
                self.visit(key);
            }
        }
    }

    /// Let go of a worker, and reap it once it is buried.
    fn release(&mut self, id: &SessionId, incarnation: Incarnation) {
        let Some(handle) = self.m().workers.get(id).filter(|handle| handle.incarnation <= incarnation) else {
            return;
        };
        let (buried, key) = (handle.buried, handle.key.filter(|_| handle.dead.is_none()));
        if let Some(key) = key {
            self.kill(key);
        }
        if buried {
            self.reap(id);
        }
    }

    pub(super) fn take(&mut self, id: &SessionId, incarnation: Incarnation, key: Option<Key>) {
        let handle = Handle {
            incarnation,
            key,
            welcomed: false,
            adopted: false,
            outdated: false,
            heard: 0,
            delivered: None,
            aborted: None,
            answered: BTreeSet::new(),
            called: BTreeSet::new(),
            set: BTreeSet::new(),
            driver: None,
            dead: None,
            buried: false,
        };
        self.m().workers.insert(id.clone(), handle);
    }

    pub(super) fn handle(&mut self, id: &SessionId, incarnation: Incarnation) -> Option<&mut Handle> {
        self.m().workers.get_mut(id).filter(|handle| handle.incarnation == incarnation)
    }

    pub(crate) fn living(&mut self, id: &SessionId, incarnation: Incarnation) -> Option<Key> {
        self.handle(id, incarnation).filter(|handle| handle.dead.is_none())?.key
    }
}
