//! The acts of a worker, and its reactions to the manager's messages.

use manager::core::Seen;
use protocol::wire::TurnEnd;
use protocol::{Exit, Keeper, PromptId, Restore, Stream};
use serde_json::json;

use super::super::{Sim, What};
use super::{Act, FromWorker, Key, Life, Proc, ToWorker};
use crate::history::MISSING;

impl Sim {
    pub(in crate::sim) fn act(&mut self, key: Key, act: Act) {
        let now = self.now;
        // Few agents go on, or end the turn, before they have the answer to their question.
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
                while let Some((by, message)) = self.world.procs[key].inbox.pop_front() {
                    self.receive(key, by, message);
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
            Act::Hello => self.says_hello(key),
            Act::Update(prompt) => self.agent_tells(key, prompt),
            Act::Ask(prompt) => self.agent_asks(key, prompt),
            Act::Call(prompt) => self.agent_calls(key, prompt),
            Act::AgentDies => self.agent_dies(key),
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
            Act::TurnStart(prompt) => self.starts_turn(key, prompt),
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

    /// The worker greets a new manager, replays its spool, and asks its open questions again.
    fn says_hello(&mut self, key: Key) {
        let proc = &mut self.world.procs[key];
        if proc.linked && !proc.heard_of && !proc.leaving {
            // Messages of its old manager come before those of the next one.
            while let Some((by, message)) = self.world.procs[key].inbox.pop_front() {
                self.receive(key, by, message);
            }
            self.world.procs[key].sees_to_calls();
            self.read_spool(key);
            // Once there is a newer version, it stays so.
            let outdated =
                std::mem::take(&mut self.world.procs[key].outdated) || self.faults && self.rng.chance(150);
            self.world.procs[key].outdated = outdated;
            self.world.procs[key].pipe.push_back(FromWorker::Hello { outdated });
            // The user is asked again.
            let proc = &mut self.world.procs[key];
            let turn = proc.turn;
            proc.calls.retain(|_, (prompt, _)| Some(*prompt) == turn);
            for (request, (prompt, method)) in proc.calls.clone() {
                self.asks_for(key, prompt, request, None, method);
            }
        }
    }

    /// The agent crashes, sometimes through the memory limit; its worker reports this and leaves.
    fn agent_dies(&mut self, key: Key) {
        let proc = &mut self.world.procs[key];
        if !proc.leaving {
            // Its work ends with it; the worker has no message for that.
            proc.turn = None;
            if self.rng.chance(300) {
                let (peak_bytes, limit_bytes) = (Some(70_000), 65_536);
                self.say(key, Seen::OutOfMemory { peak_bytes, limit_bytes, by: Keeper::Watched });
            }
            self.leaves_saying(key, Seen::AgentDied("the agent ended: exit status 1".into()));
        }
    }

    /// The worker starts the agent for a turn, and schedules its output and its end.
    fn starts_turn(&mut self, key: Key, prompt: PromptId) {
        let proc = &mut self.world.procs[key];
        if proc.turn == Some(prompt) && !proc.leaving && !proc.acp && self.faults && self.rng.chance(100) {
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

    fn receive(&mut self, key: Key, by: u64, message: ToWorker) {
        let hangs = self.faults && self.rng.chance(30);
        let proc = &mut self.world.procs[key];
        if proc.leaving || hangs && !matches!(message, ToWorker::Welcome) {
            return;
        }
        match message {
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
                *self.world.ran.entry(prompt).or_default() += 1;
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
                // A second or unasked answer goes to no agent.
                if proc.calls.remove(&request).is_none() {
                    let what = format!("{}: call {request} is answered and does not wait", proc.session);
                    self.failures.push(what);
                }
            }
        }
    }

    /// Reports the reason, and exits; or hangs over it.
    pub(crate) fn leaves_saying(&mut self, key: Key, why: Seen) {
        self.say(key, why);
        self.world.procs[key].leaving = true;
        if !(self.faults && self.rng.chance(100)) {
            let exit = self.some_exit();
            self.soon(key, 2_000, Act::Leave(exit));
        }
    }
}
