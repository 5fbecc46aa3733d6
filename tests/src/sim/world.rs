//! The simulated machine: processes, pids, pipes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use manager::core::Seen;
use protocol::wire::{AgentDetails, PermissionAsk, Spent, TurnEnd, Update};
use protocol::{
    EventId, Exit, Identity, Incarnation, Keeper, Level, LimitedBy, PromptId, Restore, Sandbox, SandboxBy,
    Sandboxed, SessionId, Stream,
};
use serde_json::json;

use super::{Sim, What};
use crate::history::MISSING;
use crate::sample;

/// Names a process beyond doubt.
pub type Key = usize;

/// Where a process is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    Alive,
    Zombie(Exit),
    Reaped,
}

/// What a manager tells a worker.
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

/// What comes by a worker's pipe.
#[derive(Clone, Debug)]
pub enum Said {
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

/// What a worker does next.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// Reads what it was told.
    Read,
    /// Answers the manager that has visited it.
    Hello,
    Ready,
    TurnStart(PromptId),
    Output(PromptId),
    TurnEnd(PromptId, TurnEnd),
    /// Its agent tells something, in the turn of this prompt or in none.
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
    pub pid: u32,
    boot: u64,
    start_time: u64,
    pub life: Life,
    /// Its parent is the manager of this generation; else init.
    child_of: u64,
    linked: bool,
    began: bool,
    /// By which manager it was told, and what; not read yet.
    inbox: VecDeque<(u64, ToWorker)>,
    /// Said and not read.
    pub pipe: VecDeque<Said>,
    /// Said, and not known to be on record: its outbox and its spool.
    kept: VecDeque<(u64, Seen)>,
    spoken: u64,
    /// What it says goes into its pipe.
    heard_of: bool,
    /// There is a newer version of its program.
    outdated: bool,
    /// Prompts that it took.
    took: BTreeSet<PromptId>,
    pub turn: Option<PromptId>,
    /// Its agent lives between prompts.
    acp: bool,
    /// What its agent has asked, by number: the options that were offered.
    asked: BTreeMap<u64, Vec<String>>,
    /// Questions that it was told the answers of.
    answered: BTreeMap<u64, u64>,
    /// Questions whose answers its agent waits for, and what it does only then.
    waits: BTreeSet<u64>,
    held: Vec<Act>,
    /// Who drives and can do something for its agent, as it was told.
    driver: Option<EventId>,
    /// Calls that were asked for so far, and those that were not answered.
    called: u64,
    calls: BTreeMap<u64, (PromptId, &'static str)>,
    /// The newest setting that it was told.
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
    /// The manager has said that it gives these up.
    pub given_up: bool,
}

/// All processes.
#[derive(Debug, Default)]
pub struct World {
    pub procs: Vec<Proc>,
    /// Not reaped.
    pub existing: Vec<Key>,
    starts: u64,
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
    /// What a client of a manager that is gone was to do is seen to by the worker itself.
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
        let same =
            |proc: &Proc| proc.session == *session && proc.incarnation == incarnation && proc.boot == boot;
        if self.world.procs.iter().any(same) {
            // Also where the first was never put on record: it may still be about.
            self.history
                .violation(Some(session), format!("{session}: incarnation {incarnation} is spawned twice"));
        }
        self.world.starts += 1;
        let pid = self.world.free_pid();
        let identity = Identity { pid, start_time: self.world.starts, boot_id: self.world.boot_id() };
        let key = self.world.procs.len();
        let deaf = self.faults && self.rng.chance(100);
        self.world.procs.push(Proc {
            session: session.clone(),
            incarnation,
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
        // Whoever is being killed says nothing more, though it may take a while to die.
        if proc.killed {
            return;
        }
        proc.spoken += 1;
        proc.kept.push_back((proc.spoken, seen.clone()));
        if proc.heard_of {
            proc.pipe.push_back(Said::Word(proc.spoken, seen));
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

    /// What a worker that is dead has said to nobody is read from its spool.
    pub(super) fn read_spool(&mut self, key: Key) {
        let proc = &mut self.world.procs[key];
        if !std::mem::replace(&mut proc.heard_of, true) {
            proc.pipe = proc.kept.iter().map(|(number, seen)| Said::Word(*number, seen.clone())).collect();
        }
    }

    /// It is told what of its words is on record, and keeps the others.
    pub(super) fn acknowledge(&mut self, key: Key, number: u64) {
        let proc = &mut self.world.procs[key];
        if proc.life == Life::Alive && proc.linked {
            proc.kept.retain(|(kept, _)| *kept > number);
        }
    }

    pub(super) fn act(&mut self, key: Key, act: Act) {
        let now = self.now;
        // Few agents go on, or end the turn, before they have heard what they asked for.
        let patient = !self.rng.chance(50);
        let proc = &mut self.world.procs[key];
        if proc.life != Life::Alive {
            return;
        }
        match act {
            Act::Continue => proc.stopped = false,
            Act::Unstick => {
                if proc.killed {
                    self.dies(key, Exit::Signal(9));
                }
            }
            _ if proc.stopped || proc.stuck_until > now => self.after(500, What::Proc(key, act)),
            Act::Read => {
                while let Some((by, told)) = self.world.procs[key].inbox.pop_front() {
                    self.told(key, by, told);
                }
                self.world.procs[key].sees_to_calls();
            }
            Act::TurnEnd(_, TurnEnd::Stopped { .. }) | Act::Update(Some(_))
                if patient && !proc.waits.is_empty() =>
            {
                proc.held.push(act);
            }
            Act::Ready if proc.acp => self.agent_begins(key),
            Act::TurnStart(prompt) if proc.acp => self.agent_works(key, prompt),
            Act::Hello => {
                if proc.linked && !proc.heard_of && !proc.leaving {
                    // What its manager had told it comes before what the next one does.
                    while let Some((by, told)) = self.world.procs[key].inbox.pop_front() {
                        self.told(key, by, told);
                    }
                    self.world.procs[key].sees_to_calls();
                    self.read_spool(key);
                    // Once there is a newer version, it stays so.
                    let outdated = std::mem::take(&mut self.world.procs[key].outdated)
                        || self.faults && self.rng.chance(150);
                    self.world.procs[key].outdated = outdated;
                    self.world.procs[key].pipe.push_back(Said::Hello { outdated });
                    // The user is asked again.
                    let proc = &mut self.world.procs[key];
                    let turn = proc.turn;
                    proc.calls.retain(|_, (prompt, _)| Some(*prompt) == turn);
                    for (request, (prompt, method)) in proc.calls.clone() {
                        self.asks_for(key, prompt, request, None, method);
                    }
                }
            }
            Act::Update(prompt) => self.agent_tells(key, prompt),
            Act::Ask(prompt) => self.agent_asks(key, prompt),
            Act::Call(prompt) => self.agent_calls(key, prompt),
            Act::AgentDies => {
                if !proc.leaving {
                    // What it did ends with it; the worker has no word for that.
                    proc.turn = None;
                    if self.rng.chance(300) {
                        let (peak_bytes, limit_bytes) = (Some(70_000), 65_536);
                        self.say(key, Seen::OutOfMemory { peak_bytes, limit_bytes, by: Keeper::Watched });
                    }
                    self.leaves_saying(key, Seen::AgentDied("the agent ended: exit status 1".into()));
                }
            }
            Act::Alive(prompt) => {
                if proc.turn == Some(prompt) && !proc.leaving {
                    let cpu_ms = if self.rng.chance(100) { now } else { 0 };
                    let commands = u32::from(self.rng.chance(50));
                    self.say(key, Seen::Alive { cpu_ms, commands });
                }
            }
            Act::Notice => {
                if !proc.leaving {
                    self.say(key, Seen::Notice("there is a newer agent".into()));
                }
            }
            Act::Ready => {
                if !proc.leaving {
                    let restore = Restore::Fresh;
                    self.say(key, Seen::Ready { restore, agent_pid: None });
                }
            }
            Act::TurnStart(prompt) => {
                if proc.turn == Some(prompt)
                    && !proc.leaving
                    && !proc.acp
                    && self.faults
                    && self.rng.chance(100)
                {
                    return self.ends_turn(key, prompt, TurnEnd::NotRun { message: MISSING.into() });
                }
                let proc = &mut self.world.procs[key];
                if proc.turn == Some(prompt) && !proc.leaving {
                    proc.tree += 1;
                    self.say(key, Seen::TurnStarted { prompt, agent_pid: 90_000 + key as u32 });
                    for _ in 0..self.rng.below(3) {
                        self.soon(key, 500, Act::Output(prompt));
                    }
                    if self.faults && self.rng.chance(150) {
                        // The agent's death is the worker's.
                        let exit = self.some_exit();
                        self.soon(key, 2_000, Act::Leave(exit));
                    }
                    if !(self.faults && self.rng.chance(50)) {
                        let message = || TurnEnd::Failed { message: "no such program".into() };
                        let end = if self.rng.chance(50) { message() } else { TurnEnd::Finished };
                        self.soon(key, 2_500, Act::TurnEnd(prompt, end));
                    }
                }
            }
            Act::Output(prompt) => {
                if proc.turn == Some(prompt) {
                    let stream = if self.rng.chance(700) { Stream::Stdout } else { Stream::Stderr };
                    self.say(key, Seen::Output { prompt, stream, text: "words".into() });
                }
            }
            Act::TurnEnd(prompt, end) => self.ends_turn(key, prompt, end),
            Act::Leave(exit) => {
                if let Some(prompt) = proc.turn
                    && proc.leaving
                {
                    self.ends_turn(key, prompt, TurnEnd::Aborted);
                }
                self.world.procs[key].tree = 0;
                self.dies(key, exit);
            }
        }
    }

    fn ends_turn(&mut self, key: Key, prompt: PromptId, end: TurnEnd) {
        let proc = &mut self.world.procs[key];
        if proc.turn == Some(prompt) {
            proc.turn = None;
            // A turn that was cut off may be repeated; what came to its end may not.
            if matches!(&end, TurnEnd::Aborted | TurnEnd::NotRun { .. })
                || matches!(&end, TurnEnd::Stopped { reason } if reason == "cancelled")
            {
                proc.took.remove(&prompt);
            }
            proc.tree = 0;
            proc.waits.clear();
            proc.held.clear();
            let left_behind = u32::from(self.rng.chance(100));
            self.say(key, Seen::TurnEnded { prompt, end, exit: Some(Exit::Code(0)), left_behind });
        }
    }

    fn told(&mut self, key: Key, by: u64, told: ToWorker) {
        let hangs = self.faults && self.rng.chance(30);
        let proc = &mut self.world.procs[key];
        if proc.leaving || hangs && !matches!(told, ToWorker::Welcome) {
            return;
        }
        match told {
            ToWorker::Welcome => {
                assert!(!proc.began, "a worker is welcomed once");
                proc.began = true;
                let (session, incarnation) = (proc.session.clone(), proc.incarnation);
                self.history.worker_began(&session, incarnation);
                let another = |other: &Proc| {
                    other.session == session
                        && other.incarnation != incarnation
                        && other.tree > 0
                        && !other.given_up
                };
                if let Some(other) = self.world.procs.iter().find(|other| another(other)) {
                    let what = format!(
                        "{session}: worker {incarnation} begins beside processes of {}",
                        other.incarnation
                    );
                    self.history.violation(Some(&session), what);
                }
                if !hangs {
                    self.soon(key, 1_500, Act::Ready);
                }
            }
            ToWorker::Prompt(prompt) => {
                if let Some(other) = proc.turn.filter(|other| *other != prompt) {
                    let what = format!("{}: {prompt} was given to a worker that runs {other}", proc.session);
                    return self.failures.push(what);
                }
                if proc.turn == Some(prompt) {
                    // Given again by a manager that cannot know.
                    return;
                }
                if !proc.took.insert(prompt) {
                    let what =
                        format!("{}: {prompt} is over, and was given to its worker again", proc.session);
                    return self.failures.push(what);
                }
                proc.turn = Some(prompt);
                proc.tools = 0;
                self.soon(key, 20, Act::TurnStart(prompt));
            }
            ToWorker::Abort(prompt) => {
                if proc.turn == Some(prompt) {
                    proc.waits.clear();
                    proc.held.clear();
                    let end =
                        if proc.acp && self.rng.chance(700) { self.some_reason() } else { TurnEnd::Aborted };
                    self.soon(key, 1_000, Act::TurnEnd(prompt, end));
                }
            }
            ToWorker::Answer(request, option) => self.answered_to(key, by, request, option),
            ToWorker::Driver(client) => proc.driver = client,
            ToWorker::Set(request) if request <= proc.set => {}
            ToWorker::Set(request) => {
                proc.set = request;
                let no = self.rng.chance(300);
                let answer = if no { Err("no such value".to_owned()) } else { Ok(json!({})) };
                self.say(key, Seen::SettingAnswered { request, answer });
            }
            ToWorker::Called(request) => {
                // More than once, or unasked, is told to nobody.
                if proc.calls.remove(&request).is_none() {
                    let what = format!("{}: call {request} is answered and does not wait", proc.session);
                    self.failures.push(what);
                }
            }
        }
    }

    /// The agent is there, or does not want to be.
    fn agent_begins(&mut self, key: Key) {
        if self.world.procs[key].leaving {
            return;
        }
        if self.faults && self.rng.chance(20) {
            return self.leaves_saying(key, Seen::LoginNeeded("log in with `agent login`".into()));
        }
        if self.faults && self.rng.chance(40) {
            let passes = self.rng.chance(700);
            let message = if passes { MISSING } else { "its sandbox cannot be made" };
            return self.leaves_saying(key, Seen::NotRun { message: message.into(), passes });
        }
        self.say(key, Seen::Program("/usr/bin/agent".into()));
        let details = AgentDetails { name: None, version: None, resume: true, load: true };
        self.say(key, Seen::Contained(Level::PidNamespace));
        let sandboxed = Sandboxed { sandbox: Sandbox::Strict, by: SandboxBy::Bubblewrap };
        self.say(key, Seen::Sandboxed(sandboxed));
        let by = LimitedBy { memory: Some(Keeper::Watched), ..LimitedBy::default() };
        self.say(key, Seen::Limited(by));
        self.say(key, Seen::Introduced(details));
        if self.rng.chance(800) {
            let id = format!("conversation-{}", self.rng.below(3));
            self.say(key, Seen::AgentSession(id));
        }
        if self.rng.chance(200) {
            self.agent_tells(key, None);
        }
        let levels = [Restore::Fresh, Restore::Replayed, Restore::Loaded, Restore::Resumed];
        let restore = self.rng.pick(&levels).unwrap_or(Restore::Fresh);
        self.say(key, Seen::Ready { restore, agent_pid: Some(90_000 + key as u32) });
        if self.faults {
            for act in [Act::Update(None), Act::Notice] {
                if self.rng.chance(200) {
                    self.soon(key, 5_000, act);
                }
            }
            if self.rng.chance(50) {
                self.soon(key, 20_000, Act::AgentDies);
            }
        }
    }

    /// A turn of an agent that lives between prompts.
    fn agent_works(&mut self, key: Key, prompt: PromptId) {
        let proc = &mut self.world.procs[key];
        if proc.turn != Some(prompt) || proc.leaving {
            return;
        }
        proc.tree = proc.tree.max(1);
        self.say(key, Seen::TurnStarted { prompt, agent_pid: 90_000 + key as u32 });
        if self.faults && self.rng.chance(200) {
            // It hangs, perhaps for a while only.
            for _ in 0..self.rng.between(5, 15) {
                self.soon(key, 4_000, Act::Alive(prompt));
            }
            for act in [Act::Update(Some(prompt)), Act::TurnEnd(prompt, TurnEnd::Aborted)] {
                if self.rng.chance(500) {
                    self.soon(key, 4_000, act);
                }
            }
            return;
        }
        for _ in 0..self.rng.below(6) {
            self.soon(key, 2_000, Act::Update(Some(prompt)));
        }
        if self.rng.chance(500) {
            for _ in 0..self.rng.between(1, 4) {
                self.soon(key, 2_000, Act::Ask(prompt));
            }
        }
        if self.rng.chance(500) {
            for _ in 0..self.rng.between(1, 4) {
                self.soon(key, 2_000, Act::Call(prompt));
            }
        }
        if self.faults && self.rng.chance(80) {
            self.soon(key, 2_000, Act::AgentDies);
        }
        if !(self.faults && self.rng.chance(50)) {
            let end = self.some_reason();
            self.soon(key, 3_000, Act::TurnEnd(prompt, end));
        }
    }

    fn some_reason(&mut self) -> TurnEnd {
        let reasons = ["end_turn", "end_turn", "max_tokens", "refusal", "cancelled"];
        TurnEnd::Stopped { reason: self.rng.pick(&reasons).unwrap_or("end_turn").into() }
    }

    fn agent_tells(&mut self, key: Key, prompt: Option<PromptId>) {
        let late = self.rng.chance(100);
        let proc = &mut self.world.procs[key];
        if proc.leaving || prompt.is_some() && prompt != proc.turn && !late {
            return;
        }
        let ended = self.rng.chance(400);
        let proc = &mut self.world.procs[key];
        let text = "words".to_owned();
        let update = match self.rng.below(9) {
            0 => Update::Message { text },
            1 => Update::Thought { text },
            2 | 3 => {
                proc.tools += 1;
                Update::ToolCall { id: format!("call-{}", proc.tools), title: text, ended }
            }
            // It need not have begun, where the agent forgot to say so.
            4 | 5 => {
                let id = format!("call-{}", 1 + self.rng.below(proc.tools.max(1)));
                Update::ToolCallUpdate { id, ended }
            }
            6 => Update::Plan,
            7 => Update::Usage(Spent {
                input_tokens: Some(self.rng.below(100_000)),
                output_tokens: ended.then_some(7),
                cost_micro_usd: (!ended).then_some(1_250_000),
            }),
            _ => Update::Other,
        };
        let payload = json!({ "status": if ended { "completed" } else { "in_progress" } });
        self.say(key, Seen::Updated { prompt, update, payload });
    }

    fn agent_asks(&mut self, key: Key, prompt: PromptId) {
        let faults = self.faults;
        let proc = &mut self.world.procs[key];
        // At the end nobody is there to answer.
        if proc.turn != Some(prompt) || proc.leaving || !faults {
            return;
        }
        let offers: [&[&str]; 4] = [
            &["allow_once", "allow_always", "reject_once", "reject_always"],
            &["allow_always", "reject_once"],
            &["allow_once"],
            &["reject_always"],
        ];
        let options = sample::options(self.rng.pick(&offers).unwrap_or_default());
        let kind = self.rng.pick(&["edit", "execute"]).filter(|_| self.rng.chance(800)).map(str::to_owned);
        let paths = self.rng.pick(&["srv/notes", "/srv", "/etc/passwd"]).filter(|_| self.rng.chance(800));
        let paths = paths.into_iter().map(str::to_owned).collect();
        let proc = &mut self.world.procs[key];
        let request = proc.asked.len() as u64 + 1;
        proc.asked.insert(request, options.iter().map(|option| option.id.clone()).collect());
        proc.waits.insert(request);
        let ask = PermissionAsk { kind, paths, options, ..sample::ask() };
        self.say(key, Seen::PermissionAsked { prompt: Some(prompt), request, ask, payload: json!({}) });
    }

    fn agent_calls(&mut self, key: Key, prompt: PromptId) {
        let methods =
            ["fs/read_text_file", "fs/write_text_file", "terminal/create", "terminal/wait_for_exit"];
        let method = self.rng.pick(&methods).filter(|_| self.rng.chance(700)).unwrap_or("elicitation/create");
        let faults = self.faults;
        let proc = &mut self.world.procs[key];
        if proc.turn != Some(prompt) || proc.leaving || !faults {
            return;
        }
        let client = if method == "elicitation/create" { None } else { proc.driver };
        // The worker does it itself.
        if client.is_none() && method != "elicitation/create" {
            return;
        }
        proc.called += 1;
        let request = proc.called;
        proc.calls.insert(request, (prompt, method));
        self.asks_for(key, prompt, request, client, method);
    }

    fn asks_for(&mut self, key: Key, prompt: PromptId, request: u64, client: Option<EventId>, method: &str) {
        let (method, payload) = (method.to_owned(), json!({}));
        self.say(key, Seen::CallAsked { prompt, request, client, method, payload });
    }

    fn answered_to(&mut self, key: Key, by: u64, request: u64, option: Option<String>) {
        let proc = &mut self.world.procs[key];
        let session = &proc.session;
        let wrong = match (proc.asked.get(&request), &option) {
            (None, _) => Some(format!("{session}: question {request} is answered and was never asked")),
            (Some(offered), Some(option)) if !offered.contains(option) => {
                Some(format!("{session}: question {request} offers {offered:?} and not {option}"))
            }
            (Some(_), _) if proc.answered.insert(request, by) == Some(by) => {
                Some(format!("{session}: question {request} is answered twice"))
            }
            (Some(_), _) => None,
        };
        self.failures.extend(wrong);
        let proc = &mut self.world.procs[key];
        proc.waits.remove(&request);
        if proc.waits.is_empty() {
            for act in std::mem::take(&mut proc.held) {
                self.soon(key, 300, act);
            }
        }
    }

    /// Says why, and leaves; or hangs over it.
    fn leaves_saying(&mut self, key: Key, why: Seen) {
        self.say(key, why);
        self.world.procs[key].leaving = true;
        if !(self.faults && self.rng.chance(100)) {
            let exit = self.some_exit();
            self.soon(key, 2_000, Act::Leave(exit));
        }
    }

    fn some_exit(&mut self) -> Exit {
        let exits = [Exit::Code(0), Exit::Code(1), Exit::Code(3), Exit::Signal(11), Exit::Signal(6)];
        self.rng.pick(&exits).unwrap_or(Exit::Unknown)
    }

    pub(super) fn dies(&mut self, key: Key, exit: Exit) {
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
            // Nobody's child but init's, which reaps at once.
            self.world.reap(key);
        }
    }

    pub(super) fn terminate(&mut self, key: Key) {
        let proc = &mut self.world.procs[key];
        if proc.life != Life::Alive || proc.deaf || proc.stopped || proc.leaving {
            return;
        }
        proc.leaving = true;
        let exit = if self.rng.chance(500) { Exit::Code(0) } else { Exit::Signal(15) };
        self.soon(key, 2_000, Act::Leave(exit));
    }

    pub(super) fn kill(&mut self, key: Key) {
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
    pub(super) fn sweep(&mut self, key: Key) -> u32 {
        let proc = &mut self.world.procs[key];
        if proc.tree_stuck_until <= self.now {
            proc.tree = 0;
        }
        proc.tree
    }

    /// The manager is dead: all links end. Workers that were given shelter go on alone, the others leave.
    pub(super) fn links_end(&mut self) {
        // Of those that are dead, too: their spools are read anew by whoever comes next.
        for proc in &mut self.world.procs {
            proc.heard_of = false;
            proc.pipe.clear();
        }
        for key in self.world.existing.clone() {
            let proc = &mut self.world.procs[key];
            proc.linked = false;
            let arrived = self.rng.below(proc.inbox.len() as u64 + 1) as usize;
            proc.inbox.truncate(arrived);
            let welcomed = proc.inbox.iter().any(|(_, told)| *told == ToWorker::Welcome);
            let sheltered = proc.began || welcomed && self.rng.chance(500);
            // Its time alone may be over before anybody comes.
            let stays = sheltered && !(self.faults && self.rng.chance(100));
            match proc.life {
                Life::Zombie(_) => self.world.reap(key),
                Life::Alive if !proc.deaf && !proc.leaving && !stays => {
                    proc.leaving = true;
                    self.soon(key, 5_000, Act::Leave(Exit::Code(0)));
                }
                Life::Alive if !proc.deaf => self.soon(key, 5, Act::Read),
                Life::Alive | Life::Reaped => {}
            }
        }
    }

    /// No process survives a machine's restart. Of what those said that were `alone` some is still in their spools,
    /// from its beginning on.
    pub(super) fn machine_restarts(&mut self, alone: &BTreeSet<Key>) {
        for key in self.world.existing.clone() {
            self.dies(key, Exit::Unknown);
            self.world.reap(key);
        }
        for (key, proc) in self.world.procs.iter_mut().enumerate() {
            proc.tree = 0;
            let written = if alone.contains(&key) { self.rng.below(proc.kept.len() as u64 + 1) } else { 0 };
            proc.kept.truncate(written as usize);
        }
        self.world.boot += 1;
    }

    /// Something goes wrong in the world.
    pub(super) fn fault(&mut self) {
        let alive = self.world.alive();
        let victim = self.rng.pick(&alive);
        let which = self.rng.below(100);
        if let (Some(key), 0..75) = (victim, which) {
            let (session, incarnation) =
                (self.world.procs[key].session.clone(), self.world.procs[key].incarnation);
            let now = self.now;
            let proc = &mut self.world.procs[key];
            let what = match which {
                0..20 => {
                    proc.tree += u32::from(!proc.killed);
                    self.kill(key);
                    "SIGKILL from a stranger"
                }
                20..30 => {
                    let exit = self.some_exit();
                    self.dies(key, exit);
                    "a crash"
                }
                30..40 => {
                    proc.stopped = true;
                    let delay = self.rng.between(100, 60_000);
                    self.after(delay, What::Proc(key, Act::Continue));
                    "SIGSTOP"
                }
                40..48 => {
                    let garbage = Said::Garbage(Seen::Faulted("garbage".into()));
                    proc.pipe.extend(proc.heard_of.then_some(garbage));
                    "garbage"
                }
                48..58 => {
                    let delay = self.rng.between(100, 40_000);
                    proc.stuck_until = now + delay;
                    self.after(delay, What::Proc(key, Act::Unstick));
                    "stuck in the kernel"
                }
                58..64 => {
                    let delay = self.rng.between(100, 25_000);
                    proc.tree += u32::from(!proc.killed);
                    proc.tree_stuck_until = now + delay;
                    self.kill(key);
                    "SIGKILL, and children stuck in the kernel"
                }
                64..70 => {
                    self.terminate(key);
                    "SIGTERM from a stranger"
                }
                _ => {
                    let (prompt, payload) = (PromptId(1), json!({}));
                    let seen = match self.rng.below(3) {
                        0 => Seen::TurnStarted { prompt, agent_pid: 1 },
                        1 => Seen::Updated { prompt: Some(prompt), update: Update::Plan, payload },
                        _ => Seen::PermissionAsked {
                            prompt: Some(prompt),
                            request: 0,
                            ask: sample::ask(),
                            payload,
                        },
                    };
                    // Before it is welcomed it says nothing at all.
                    if self.world.procs[key].began {
                        self.say(key, seen);
                    }
                    "a message about a prompt it has not"
                }
            };
            return self.history.fact(Some(&session), format!("worker {incarnation}: {what}"));
        }
        match which {
            0..80 => {
                let until = self.now + self.rng.below(3_000);
                let no_room = self.rng.chance(500);
                self.world.no_spawn = Some((until, no_room));
                self.history.fact(None, format!("nothing can be spawned until {until}"));
            }
            80..88 => {
                let most = if self.rng.chance(300) { 20_000 } else { 4_000 };
                self.journal_fails_until = self.now + self.rng.below(most);
                self.ends_fit = self.rng.chance(500);
                let what = if self.ends_fit { "full but for ends" } else { "full" };
                self.history.fact(None, format!("the disk is {what} until {}", self.journal_fails_until));
            }
            88..93 => self.crash("the manager is killed"),
            93..95 => {
                self.crash("the manager and all workers are killed");
                for key in self.world.alive() {
                    let proc = &mut self.world.procs[key];
                    proc.tree += u32::from(!proc.killed);
                    // It had no time to write all of it down.
                    let written = self.rng.below(proc.kept.len() as u64 + 1) as usize;
                    proc.kept.truncate(written);
                    self.kill(key);
                }
            }
            95..97 => self.power_cut(),
            _ => self.doomed = victim.map(|key| self.world.procs[key].session.clone()),
        }
    }
}
