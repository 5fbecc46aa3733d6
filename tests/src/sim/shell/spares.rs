//! Spare workers, as `manager/src/workers/spares.rs` has them.

use manager::core::{Ask, Input, Seen, Session};
use protocol::wire::Agent;
use protocol::{Incarnation, SessionId};

use super::super::Sim;
use super::super::world::Life;

/// The number of spares that the manager keeps.
const SPARES: usize = 2;

impl Sim {
    /// Notes the spares that have ended.
    pub(super) fn look_at_spares(&mut self) {
        self.reap_spares();
        let manager = self.manager.get_or_insert_default();
        for (identity, key, ended) in &mut manager.spares {
            if self.world.procs[*key].life != Life::Alive && !std::mem::replace(ended, true) {
                manager.observed.push_back(Ask::SpareGone(identity.clone()));
            }
        }
    }

    /// Makes a spare now and then, and dismisses all of them once there is no worker and no session waits for one.
    pub(super) fn refill(&mut self) {
        let (none, full) = (self.m().workers.is_empty(), self.m().spares.len() >= SPARES);
        if none {
            if self.m().fleet.awaits_restart() {
                return;
            }
            // They end once the fleet offers them to nobody.
            let manager = self.m();
            for (identity, _, ended) in &mut manager.spares {
                if !std::mem::replace(ended, true) {
                    manager.observed.push_back(Ask::SpareGone(identity.clone()));
                }
            }
        } else if !full && !self.m().closing && self.rng.chance(300) {
            self.counter += 1;
            let Ok(lobby) = format!("spare.{}.{}", self.generation, self.counter).parse() else { return };
            let (key, identity) = self.spawn(&lobby, 0, self.generation, false);
            self.world.procs[key].spare = true;
            self.history.fact(None, format!("spare {} stands ready", identity.pid));
            self.m().spares.push((identity.clone(), key, false));
            self.m().observed.push_back(Ask::SpareReady(identity));
        }
    }

    /// Gives a session the spare that its start has taken.
    pub(super) fn enlist(&mut self, id: &SessionId, incarnation: Incarnation, session: &Session) {
        // The effect may be of an incarnation before.
        let worker = session.worker().filter(|_| session.incarnation == incarnation);
        let Some(identity) = worker else { return };
        let Some(at) = self.m().spares.iter().position(|(spare, ..)| spare == identity) else { return };
        let (_, key, _) = self.m().spares.remove(at);
        // One that had ended, or that somebody has stopped.
        if self.world.procs[key].life != Life::Alive || self.rng.chance(50) {
            self.dismiss(key);
            let lost = Ask::One(id.clone(), Input::Seen(incarnation, Seen::SpareLost));
            return self.m().observed.push_back(lost);
        }
        self.recruit(key, id, incarnation, session);
        self.take(id, incarnation, Some(key));
        self.doom(id, key);
    }

    /// From now on this process is the worker of a session.
    pub(super) fn recruit(
        &mut self,
        key: usize,
        id: &SessionId,
        incarnation: Incarnation,
        session: &Session,
    ) {
        if std::mem::take(&mut self.world.procs[key].spare) {
            self.no_twin(id, incarnation);
            let proc = &mut self.world.procs[key];
            (proc.session, proc.incarnation) = (id.clone(), incarnation);
            proc.acp = matches!(session.spec.agent, Agent::Acp { .. });
        }
    }

    /// Ends a process that no session has.
    fn dismiss(&mut self, key: usize) {
        self.kill(key);
        self.m().ending.push(key);
        self.reap_spares();
    }

    /// The kernel may hold one for a while.
    fn reap_spares(&mut self) {
        for key in std::mem::take(&mut self.m().ending) {
            match self.world.procs[key].life {
                Life::Alive => self.m().ending.push(key),
                Life::Reaped => {}
                _ => self.world.reap(key),
            }
        }
    }

    /// Ends a spare that the fleet offers to nobody any more.
    pub(super) fn spare_gone(&mut self, identity: &protocol::Identity) {
        if let Some(at) = self.m().spares.iter().position(|(spare, ..)| spare == identity) {
            let (_, key, _) = self.m().spares.remove(at);
            self.dismiss(key);
        }
    }

    /// Ends all spares.
    pub(super) fn end_spares(&mut self) {
        for (_, key, _) in std::mem::take(&mut self.m().spares) {
            self.dismiss(key);
        }
    }
}
