//! Ends of processes: deaths, signals, sweeps.

use protocol::Exit;

use super::super::Sim;
use super::{Act, Key, Life};

impl Sim {
    pub(crate) fn some_exit(&mut self) -> Exit {
        let exits = [Exit::Code(0), Exit::Code(1), Exit::Code(3), Exit::Signal(11), Exit::Signal(6)];
        self.rng.pick(&exits).unwrap_or(Exit::Unknown)
    }

    pub(in crate::sim) fn dies(&mut self, key: Key, exit: Exit) {
        let generation = self.generation;
        let managed = self.manager.is_some();
        let proc = &mut self.world.procs[key];
        if proc.life != Life::Alive {
            return;
        }
        proc.life = Life::Zombie(exit);
        if proc.began {
            let (session, incarnation) = (proc.session.clone(), proc.incarnation);
            self.history.worker_ended(&session, incarnation, exit);
        }
        if !managed || proc.child_of != generation {
            // A child of init, which reaps at once.
            self.world.reap(key);
        }
    }

    pub(in crate::sim) fn terminate(&mut self, key: Key) {
        let proc = &mut self.world.procs[key];
        if proc.life != Life::Alive || proc.deaf || proc.stopped || proc.leaving {
            return;
        }
        proc.leaving = true;
        let exit = if self.rng.chance(500) { Exit::Code(0) } else { Exit::Signal(15) };
        self.soon(key, 2_000, Act::Leave(exit));
    }

    pub(in crate::sim) fn kill(&mut self, key: Key) {
        let now = self.now;
        let proc = &mut self.world.procs[key];
        if proc.life != Life::Alive {
            return;
        }
        if proc.stuck_until <= now {
            return self.dies(key, Exit::Signal(9));
        }
        // It never runs a line of its own again; what is left of it is the kernel's.
        proc.killed = true;
        let (session, incarnation, began) = (proc.session.clone(), proc.incarnation, proc.began);
        if began {
            self.history.worker_ended(&session, incarnation, Exit::Signal(9));
        }
    }

    /// Kills what lives below a dead worker. How many are left.
    pub(in crate::sim) fn sweep(&mut self, key: Key) -> u32 {
        let proc = &mut self.world.procs[key];
        if proc.tree_stuck_until <= self.now {
            proc.tree = 0;
        }
        proc.tree
    }
}
