//! The simulated machine: processes, pids, pipes.

mod acts;
mod agents;
mod ends;
mod faults;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use manager::core::Seen;
use protocol::wire::TurnEnd;
use protocol::{EventId, Exit, Identity, Incarnation, PromptId, SessionId};

use super::{Sim, What};

/// Names a process beyond doubt.
pub type Key = usize;

/// Where a process is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    Alive,
    Zombie(Exit),
    Reaped,
}

/// A message of a manager to a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToWorker {
    Welcome,
    Prompt(PromptId),
    Abort(PromptId),
    Answer(u64, Option<String>),
    Driver(Option<EventId>),
    Called(u64),
    Set(u64),
}

/// A message in a worker's pipe.
#[derive(Clone, Debug)]
pub enum FromWorker {
    /// Its message of this number.
    Word(u64, Seen),
    /// No message at all.
    Garbage(Seen),
    /// It goes on with the manager that has visited it.
    Hello {
        /// Its program is of another version.
        outdated: bool,
    },
}

/// The next act of a worker.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// Reads its messages.
    Read,
    /// Answers the manager that has visited it.
    Hello,
    Ready,
    TurnStart(PromptId),
    Output(PromptId),
    TurnEnd(PromptId, TurnEnd),
    /// Its agent sends an update, in the turn of this prompt or in none.
    Update(Option<PromptId>),
    /// Its agent wants to be allowed something.
    Ask(PromptId),
    /// Its agent wants something done that a client can do.
    Call(PromptId),
    /// Its agent ends.
    AgentDies,
    /// It has something for a person to read.
    Notice,
    /// It gives a sign of life, in the turn of this prompt.
    Alive(PromptId),
    /// Ends its tree and leaves.
    Leave(Exit),
    /// Is continued after a SIGSTOP.
    Continue,
    /// Comes back from the kernel, where no signal reached it.
    Unstick,
}

/// A worker and all below it.
#[derive(Debug)]
pub struct Proc {
    pub session: SessionId,
    pub incarnation: Incarnation,
    /// It waits for a session.
    pub spare: bool,
    pub pid: u32,
    boot: u64,
    start_time: u64,
    pub life: Life,
    /// Its parent is the manager of this generation; else init.
    child_of: u64,
    linked: bool,
    began: bool,
    /// Unread messages, with the manager that sent each.
    inbox: VecDeque<(u64, ToWorker)>,
    /// Messages that the manager has not read.
    pub pipe: VecDeque<FromWorker>,
    /// Messages that may not be on record: its outbox and its spool.
    kept: VecDeque<(u64, Seen)>,
    spoken: u64,
    /// The record of its incarnation was lost to a failed sync.
    forgotten: bool,
    /// True if its messages go into its pipe.
    heard_of: bool,
    /// There is a newer version of its program.
    outdated: bool,
    /// Prompts that it took.
    took: BTreeSet<PromptId>,
    pub turn: Option<PromptId>,
    /// Its agent lives between prompts.
    pub acp: bool,
    /// Its agent's questions, by number, with the options of each.
    asked: BTreeMap<u64, Vec<String>>,
    /// The questions whose answers it has received.
    answered: BTreeMap<u64, u64>,
    /// Questions whose answers its agent waits for, and what it does only then.
    waits: BTreeSet<u64>,
    held: Vec<Act>,
    /// The driver that can serve its agent's calls, as it was last reported.
    driver: Option<EventId>,
    /// Calls that were asked for so far, and those that were not answered.
    called: u64,
    calls: BTreeMap<u64, (PromptId, &'static str)>,
    /// The newest setting that it has received.
    set: u64,
    /// Tool calls of the turn so far.
    tools: u64,
    leaving: bool,
    stopped: bool,
    deaf: bool,
    /// In the kernel until then, where not even SIGKILL reaches it.
    stuck_until: u64,
    killed: bool,
    /// Processes below it, and until when they survive SIGKILL.
    pub tree: u32,
    pub tree_stuck_until: u64,
    /// True once the manager has reported that it gives these up.
    pub given_up: bool,
}

/// All processes.
#[derive(Debug, Default)]
pub struct World {
    pub procs: Vec<Proc>,
    /// Not reaped.
    pub existing: Vec<Key>,
    starts: u64,
    /// Prompts that workers took, and how often.
    pub ran: BTreeMap<PromptId, u64>,
    pub boot: u64,
    /// Until then nothing can be spawned, for this reason.
    pub no_spawn: Option<(u64, bool)>,
}

impl World {
    fn boot_id(&self) -> String {
        format!("boot-{}", self.boot)
    }

    /// The smallest free pid: pids are used again as soon as may be.
    fn free_pid(&self) -> u32 {
        let taken = |pid: &u32| self.existing.iter().any(|&key| self.procs[key].pid == *pid);
        (100..).find(|pid| !taken(pid)).unwrap_or(0)
    }

    /// The process of this identity, if it still exists.
    pub fn find(&self, identity: &Identity) -> Option<Key> {
        let same = |proc: &Proc| proc.pid == identity.pid && proc.start_time == identity.start_time;
        self.existing
            .iter()
            .copied()
            .find(|&key| identity.boot_id == self.boot_id() && same(&self.procs[key]))
    }

    /// Those whose words go, or went, into their spools.
    pub fn alone(&self) -> BTreeSet<Key> {
        (0..self.procs.len()).filter(|&key| !self.procs[key].heard_of).collect()
    }

    pub fn alive(&self) -> Vec<Key> {
        self.existing.iter().copied().filter(|&key| self.procs[key].life == Life::Alive).collect()
    }

    /// Nothing ails it any more. Gives the prompt whose turn it is to end.
    pub fn recover(&mut self, key: Key, now: u64) -> Option<PromptId> {
        let proc = &mut self.procs[key];
        proc.deaf = false;
        proc.stuck_until = now;
        proc.tree_stuck_until = now;
        proc.turn
    }

    pub fn reap(&mut self, key: Key) {
        self.procs[key].life = Life::Reaped;
        self.existing.retain(|&other| other != key);
    }
}

impl Proc {
    /// The worker itself ends calls to a client whose manager is gone.
    fn sees_to_calls(&mut self) {
        if !self.heard_of {
            self.driver = None;
            self.calls.retain(|_, (_, method)| *method == "elicitation/create");
        }
    }
}

impl Sim {
    pub(super) fn spawn(
        &mut self,
        session: &SessionId,
        incarnation: Incarnation,
        generation: u64,
        acp: bool,
    ) -> (Key, Identity) {
        let boot = self.world.boot;
        self.no_twin(session, incarnation);
        self.world.starts += 1;
        let pid = self.world.free_pid();
        let identity = Identity { pid, start_time: self.world.starts, boot_id: self.world.boot_id() };
        let key = self.world.procs.len();
        let deaf = self.faults && self.rng.chance(100);
        self.world.procs.push(Proc {
            session: session.clone(),
            incarnation,
            spare: false,
            pid,
            boot,
            start_time: self.world.starts,
            life: Life::Alive,
            child_of: generation,
            linked: true,
            began: false,
            inbox: VecDeque::new(),
            pipe: VecDeque::new(),
            kept: VecDeque::new(),
            spoken: 0,
            forgotten: false,
            heard_of: true,
            outdated: false,
            took: BTreeSet::new(),
            turn: None,
            acp,
            driver: None,
            called: 0,
            calls: BTreeMap::new(),
            asked: BTreeMap::new(),
            answered: BTreeMap::new(),
            waits: BTreeSet::new(),
            held: Vec::new(),
            set: 0,
            tools: 0,
            leaving: false,
            stopped: false,
            deaf,
            stuck_until: 0,
            killed: false,
            tree: 0,
            tree_stuck_until: 0,
            given_up: false,
        });
        self.world.existing.push(key);
        (key, identity)
    }

    /// A sync failed, and the record of these may be lost: the next manager kills workers of incarnations that it does not know,
    /// and may give their numbers again.
    pub(super) fn forget_unrecorded(&mut self) {
        let known: BTreeMap<SessionId, Incarnation> =
            self.journal.sessions().map(|session| (session.id.clone(), session.incarnation)).collect();
        for proc in &mut self.world.procs {
            proc.forgotten |= known.get(&proc.session).is_none_or(|last| proc.incarnation > *last);
        }
    }

    /// No incarnation has two processes.
    pub(super) fn no_twin(&mut self, session: &SessionId, incarnation: Incarnation) {
        let boot = self.world.boot;
        let same = |proc: &Proc| {
            let of_it = proc.session == *session && proc.incarnation == incarnation;
            of_it && proc.boot == boot && !proc.forgotten
        };
        if self.world.procs.iter().any(same) {
            // Also where the first was never put on record: it may still be about.
            self.history
                .violation(Some(session), format!("{session}: incarnation {incarnation} is spawned twice"));
        }
    }

    pub(super) fn tell(&mut self, key: Key, what: ToWorker) {
        let generation = self.generation;
        let proc = &mut self.world.procs[key];
        if proc.life == Life::Alive && proc.linked {
            proc.inbox.push_back((generation, what));
            self.soon(key, 5, Act::Read);
        }
    }

    fn soon(&mut self, key: Key, within: u64, act: Act) {
        let delay = self.rng.below(within);
        self.after(delay, What::Proc(key, act));
    }

    fn say(&mut self, key: Key, seen: Seen) {
        let proc = &mut self.world.procs[key];
        // A process that is being killed sends nothing more, though its death may take a while.
        if proc.killed {
            return;
        }
        proc.spoken += 1;
        proc.kept.push_back((proc.spoken, seen.clone()));
        if proc.heard_of {
            proc.pipe.push_back(FromWorker::Word(proc.spoken, seen));
        }
    }

    /// A new manager hands it two pipes. It need not let it in.
    pub(super) fn visit(&mut self, key: Key) {
        let refuses = self.faults && self.rng.chance(50);
        let proc = &mut self.world.procs[key];
        if proc.life != Life::Alive || proc.deaf || proc.leaving || refuses {
            return;
        }
        proc.linked = true;
        self.soon(key, 200, Act::Hello);
    }

    /// Reads the spool of a dead worker for messages that no manager has received.
    pub(super) fn read_spool(&mut self, key: Key) {
        let proc = &mut self.world.procs[key];
        if !std::mem::replace(&mut proc.heard_of, true) {
            proc.pipe =
                proc.kept.iter().map(|(number, seen)| FromWorker::Word(*number, seen.clone())).collect();
        }
    }

    /// Tells the worker which of its messages are on record; it keeps the others.
    pub(super) fn acknowledge(&mut self, key: Key, number: u64) {
        let proc = &mut self.world.procs[key];
        if proc.life == Life::Alive && proc.linked {
            proc.kept.retain(|(kept, _)| *kept > number);
        }
    }
}
