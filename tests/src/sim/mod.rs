//! The simulation: the real core, a shell around it that may die between any two of its acts, and a machine
//! on which everything goes wrong. One seed decides all of it.
//!
//! Time is a number. A heap holds the next acts by their time; the loop takes the first, and lets the manager
//! act. After the given number of steps nothing goes wrong any more, and everything must come to rest.

mod askers;
mod clients;
mod coverage;
mod journal;
mod shell;
mod world;

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use manager::core::{Ask, Goal, Session, State};
use protocol::{CallId, PermissionId, PromptId, SessionId};

use crate::history::History;
use crate::kinds;
use crate::rng::Rng;
use clients::{Client, Request, Subscriber};
pub use coverage::Coverage;
use journal::Journal;
use shell::{Crashed, Manager, Written};
use world::{Act, Key, World};

/// The number of clients, and of subscribers.
const CLIENTS: usize = 3;
const SUBSCRIBERS: usize = 3;
/// The start of the wall clock: far from the clock that deadlines use.
const AHEAD: u64 = 1_700_000_000_000;
/// The jump of the wall clock, in milliseconds.
const HOUR: u64 = 60 * 60 * 1000;
/// Steps after which a world without faults must have come to rest.
const PATIENCE: usize = 20_000;

/// A future act.
#[derive(Debug)]
enum What {
    Client(usize),
    Subscriber(usize),
    Fault,
    StartManager,
    Proc(Key, Act),
}

/// A future act with its time; acts of the same moment come in the order of their decision.
struct Later(u64, u64, What);

impl Later {
    fn order(&self) -> (u64, u64) {
        (self.0, self.1)
    }
}

impl PartialEq for Later {
    fn eq(&self, other: &Self) -> bool {
        self.order() == other.order()
    }
}

impl Eq for Later {}

impl PartialOrd for Later {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Later {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.order().cmp(&other.order())
    }
}

struct Sim {
    rng: Rng,
    now: u64,
    /// The distance of the wall clock from `now`.
    wall_ahead: u64,
    /// Decides the jumps of the wall clock, and nothing else. None: it never jumps.
    sets_clock: Option<Rng>,
    /// The records and their times, without those of the wall clock.
    records: Vec<String>,
    booted_at: u64,
    decided: u64,
    later: BinaryHeap<Reverse<Later>>,
    /// Things go wrong and clients ask.
    faults: bool,
    world: World,
    journal: Journal,
    /// The batch that is written and not synced. Nobody has heard of it. The next manager syncs it, unless the power is cut
    /// before.
    written: Option<Written>,
    journal_fails_until: u64,
    /// True if the reserve on the full disk is enough for ends.
    ends_fit: bool,
    manager: Option<Manager>,
    /// Counts the managers.
    generation: u64,
    published: u64,
    clients: Vec<Client>,
    subscribers: Vec<Subscriber>,
    counter: u64,
    /// Its workers die young.
    doomed: Option<SessionId>,
    /// Permissions whose answer the manager has confirmed to a client.
    permitted: BTreeSet<PermissionId>,
    /// Calls that were answered.
    called: BTreeSet<CallId>,
    history: History,
    failures: Vec<String>,
    coverage: Coverage,
}

/// Runs the world of this seed for so many steps and then until it rests.
///
/// # Errors
/// A violation, with the history before it.
pub fn run(seed: u64, steps: usize) -> Result<Coverage, String> {
    run_by(seed, steps, false).map(|(coverage, _)| coverage)
}

/// Like [`run`], with a wall clock that jumps by an hour now and then, or never. Returns the records, and
/// their times by the clock that no one can set.
///
/// # Errors
/// As [`run`].
pub fn run_by(seed: u64, steps: usize, sets_clock: bool) -> Result<(Coverage, Vec<String>), String> {
    let mut sim = Sim {
        rng: Rng::new(seed),
        now: 1_000_000,
        wall_ahead: AHEAD,
        sets_clock: sets_clock.then(|| Rng::new(seed ^ AHEAD)),
        records: Vec::new(),
        booted_at: 0,
        decided: 0,
        later: BinaryHeap::new(),
        faults: true,
        world: World::default(),
        journal: Journal::default(),
        written: None,
        journal_fails_until: 0,
        ends_fit: true,
        manager: None,
        generation: 0,
        published: 0,
        clients: (0..CLIENTS).map(|_| Client::default()).collect(),
        subscribers: Vec::new(),
        counter: 0,
        doomed: None,
        permitted: BTreeSet::new(),
        called: BTreeSet::new(),
        history: History::new(),
        failures: Vec::new(),
        coverage: Coverage::default(),
    };
    sim.history.texts_are_unique();
    sim.after(0, What::StartManager);
    sim.after(2_000, What::Fault);
    for client in 0..CLIENTS {
        sim.after(10, What::Client(client));
    }
    for subscriber in 0..SUBSCRIBERS {
        sim.after(1_000 + 100 * subscriber as u64, What::Subscriber(subscriber));
    }
    for _ in 0..steps {
        sim.step();
        if let Some(problem) = sim.problem() {
            return Err(sim.report(seed, problem));
        }
    }
    sim.come_to_rest();
    match sim.problem() {
        Some(problem) => Err(sim.report(seed, problem)),
        None => {
            sim.coverage.managers = sim.generation;
            Ok((sim.coverage, sim.records))
        }
    }
}

impl Sim {
    fn after(&mut self, delay: u64, what: What) {
        self.decided += 1;
        self.later.push(Reverse(Later(self.now + delay, self.decided, what)));
    }

    /// The next thing happens. False if nothing is going to.
    fn step(&mut self) -> bool {
        if let Some(rng) = &mut self.sets_clock
            && rng.chance(20)
        {
            // Also twice in the same direction, and back to where it was.
            let ahead = rng.pick(&[AHEAD - HOUR, AHEAD, AHEAD + HOUR, AHEAD + 2 * HOUR]);
            self.wall_ahead = ahead.unwrap_or(AHEAD);
        }
        let next = self.later.peek().map(|Reverse(later)| later.0);
        let wake = self.wake_at();
        let managers_turn = match (next, wake) {
            (None, None) => return false,
            (Some(next), Some(wake)) => wake <= next,
            (None, Some(_)) => true,
            (Some(_), None) => false,
        };
        if managers_turn {
            self.now = self.now.max(wake.unwrap_or(0));
            if let Err(crashed) = self.turn() {
                self.ends(&crashed);
            }
            return true;
        }
        let Some(Reverse(Later(at, _, what))) = self.later.pop() else {
            return false;
        };
        self.now = self.now.max(at);
        match what {
            What::Client(client) => self.client_acts(client),
            What::Subscriber(index) => self.subscriber_acts(index),
            What::Fault => {
                if self.faults {
                    self.fault();
                    let delay = if self.rng.chance(100) { 40_000 } else { 3_000 };
                    let delay = self.rng.below(delay);
                    self.after(delay, What::Fault);
                }
            }
            What::StartManager => {
                if let Err(crashed) = self.start_manager() {
                    self.ends(&crashed);
                }
            }
            What::Proc(key, act) => self.act(key, act),
        }
        true
    }

    /// The manager ends in the middle of its work.
    fn ends(&mut self, how: &Crashed) {
        match how {
            Crashed::Killed => self.crash("the manager is killed between two acts"),
            Crashed::PowerCut => {
                self.workers_go_on();
                self.power_cut();
            }
            Crashed::Unsynced => {
                self.workers_go_on();
                self.coverage.failed_syncs += 1;
                self.crash("the disk takes no sync, and the manager ends");
                self.forget_unrecorded();
                self.history.knows_runs(&self.world.ran);
            }
        }
    }

    /// Workers read what the manager has sent them, while it waits for the disk.
    fn workers_go_on(&mut self) {
        for key in self.world.alive() {
            if self.rng.chance(700) {
                self.act(key, Act::Read);
            }
        }
    }

    /// The manager dies. What it had not written never was.
    fn crash(&mut self, how: &str) {
        if self.manager.is_some() {
            self.history.fact(None, how.to_owned());
            self.leave();
        }
    }

    /// The manager's process ends.
    fn leave(&mut self) {
        self.manager = None;
        self.disconnect();
        self.links_end();
        let delay = self.rng.below(3_000);
        self.after(delay, What::StartManager);
    }

    fn power_cut(&mut self) {
        let alone = self.world.alone();
        self.written = None;
        self.crash("the machine loses its power");
        self.machine_restarts(&alone);
        self.booted_at = self.now - 1_000;
        let kept = self.journal.power_cut();
        self.history.power_cut(kept);
        self.history.knows_runs(&self.world.ran);
    }

    fn doom(&mut self, id: &SessionId, key: Key) {
        if self.doomed.as_ref() == Some(id) && self.faults {
            let delay = self.rng.below(300);
            self.after(delay, What::Proc(key, Act::Leave(protocol::Exit::Code(1))));
        }
    }

    fn problem(&self) -> Option<String> {
        let found = self.failures.first().cloned();
        found.or_else(|| self.history.violations().first().map(|violation| violation.to_string()))
    }

    fn report(&self, seed: u64, problem: String) -> String {
        let tail = self.history.tail(40).join("\n    ");
        format!("seed {seed}, at {} ms: {problem}\n  the last of everything:\n    {tail}", self.now)
    }

    // --- the end ---

    fn rest(&mut self, what: &str) {
        for _ in 0..PATIENCE {
            if !self.step() || self.problem().is_some() {
                return;
            }
        }
        let sessions: Vec<String> =
            self.journal.sessions().map(|s| format!("{}: {:?}", s.id, s.state)).collect();
        self.failures.push(format!("{what}: no rest; {sessions:?}"));
    }

    /// Nothing goes wrong any more, and everything must settle.
    fn come_to_rest(&mut self) {
        self.history.fact(None, "nothing goes wrong any more".into());
        self.faults = false;
        self.doomed = None;
        self.journal_fails_until = 0;
        self.world.no_spawn = None;
        self.all_well();
        for client in 0..CLIENTS {
            self.after(0, What::Client(client));
        }
        self.after(0, What::StartManager);
        self.rest("after the last fault");
        if self
            .fleet_sessions()
            .iter()
            .any(|session| matches!(&session.state, State::Failed(f) if !f.survivors.is_empty()))
        {
            // Only the next manager finds out that they are gone after all.
            self.crash("the manager is replaced");
            self.rest("after the replacement");
        }
        self.check_rest();
        let goals = self.goals();
        self.ask(Ask::Shutdown);
        // The shutdown, and the next manager's start.
        self.rest("after the shutdown");
        if self.problem().is_some() {
            return;
        }
        if self.goals() != goals {
            self.failures
                .push(format!("goals were {goals:?} before the shutdown and are {:?}", self.goals()));
        }
        self.check_rest();
        for session in self.fleet_sessions() {
            let up = session.goal == Goal::Up;
            let lives = matches!(session.state, State::Ready { .. } | State::Hibernated | State::Failed(_));
            if up != lives && !matches!(session.state, State::Failed(_)) {
                self.failures
                    .push(format!("{}: wanted {:?} and is {:?}", session.id, session.goal, session.state));
            }
        }
    }

    pub(crate) fn fleet_sessions(&self) -> Vec<Session> {
        self.manager
            .iter()
            .flat_map(|manager| manager.fleet.sessions())
            .map(|session| (**session).clone())
            .collect()
    }

    fn goals(&self) -> Vec<(SessionId, Goal)> {
        self.fleet_sessions().into_iter().map(|session| (session.id, session.goal)).collect()
    }

    fn ask(&mut self, ask: Ask) {
        let request = Request { client: usize::MAX, ask, key: None };
        self.manager.iter_mut().for_each(|manager| manager.inbox.push_back(request.clone()));
    }

    /// Ends every hang: processes go on and react to signals.
    fn all_well(&mut self) {
        for key in self.world.alive() {
            if let Some(prompt) = self.world.recover(key, self.now) {
                self.after(100, What::Proc(key, Act::TurnEnd(prompt, protocol::wire::TurnEnd::Finished)));
            }
            self.after(0, What::Proc(key, Act::Continue));
            self.after(0, What::Proc(key, Act::Unstick));
        }
    }

    fn check_rest(&mut self) {
        if self.problem().is_some() {
            return;
        }
        self.all_catch_up();
        let mut failures = Vec::new();
        let mut open: BTreeSet<PromptId> = BTreeSet::new();
        let sessions = self.fleet_sessions();
        if self.manager.is_none() {
            failures.push("no manager is there".into());
        }
        for session in &sessions {
            let id = &session.id;
            let turns = &session.turns;
            open.extend(
                turns.queue.iter().chain(turns.running.iter().map(|t| &t.prompt)).map(|prompt| prompt.id),
            );
            let rests = match session.state {
                State::Ready { .. } | State::Hibernated | State::Stopped | State::Failed(_) => true,
                State::Starting { .. }
                | State::Adopting { .. }
                | State::Stopping { .. }
                | State::Restarting { .. } => false,
            };
            if !rests {
                failures.push(format!("{id} does not rest: {:?}", session.state));
            }
            if !matches!(session.state, State::Failed(_))
                && (turns.running.is_some() || !turns.queue.is_empty())
            {
                failures.push(format!("{id} holds prompts: {turns:?}"));
            }
            let mine = |child: &&Session| {
                child.parent.as_ref() == Some(id) && child.task.as_ref().is_some_and(|task| task.open)
            };
            let open_tasks = sessions.iter().filter(mine).count();
            if open_tasks as u32 != session.open_tasks {
                failures.push(format!("{id} has {open_tasks} open tasks and counts {}", session.open_tasks));
            }
        }
        for key in self.world.alive() {
            let proc = &self.world.procs[key];
            if self.manager.as_ref().is_some_and(|manager| manager.has_spare(key)) {
                continue;
            }
            let known = sessions.iter().find(|session| session.id == proc.session);
            if known.is_none_or(|session| {
                session.pid() != Some(proc.pid) || session.incarnation != proc.incarnation
            }) {
                failures.push(format!("a worker is left behind: {proc:?}"));
            }
        }
        for proc in &self.world.procs {
            if proc.life != world::Life::Alive && proc.tree > 0 && !proc.given_up {
                failures.push(format!("processes are left behind: {proc:?}"));
            }
        }
        let zombies = self.world.existing.len() - self.world.alive().len();
        if zombies > 0 {
            failures.push(format!("{zombies} zombies are left"));
        }
        self.failures.extend(failures);
        self.history.finish(&open);
    }
}
