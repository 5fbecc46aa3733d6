//! The acts of an agent: begin, work, send text, ask.

use manager::core::Seen;
use protocol::wire::{AgentDetails, PermissionAsk, Spent, TurnEnd, Update};
use protocol::{EventId, Keeper, Level, LimitedBy, PromptId, Restore, Sandbox, SandboxBy, Sandboxed};
use serde_json::json;

use super::super::Sim;
use super::{Act, Key};
use crate::history::MISSING;
use crate::sample;

impl Sim {
    /// The agent is there, or does not want to be.
    pub(crate) fn agent_begins(&mut self, key: Key) {
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
            let another = format!("conversation-{}", self.rng.below(3));
            let wanted = self.conversation_of(key).filter(|_| !self.faults || self.rng.chance(800));
            self.say(key, Seen::AgentSession(wanted.unwrap_or(another)));
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

    /// The conversation from elsewhere that the agent's session is to take up.
    fn conversation_of(&self, key: Key) -> Option<String> {
        let id = &self.world.procs[key].session;
        let session = self.fleet_sessions().into_iter().find(|session| session.id == *id)?;
        session.spec.conversation.clone()
    }

    /// A turn of an agent that lives between prompts.
    pub(crate) fn agent_works(&mut self, key: Key, prompt: PromptId) {
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

    pub(crate) fn some_reason(&mut self) -> TurnEnd {
        let reasons = ["end_turn", "end_turn", "max_tokens", "refusal", "cancelled"];
        TurnEnd::Stopped { reason: self.rng.pick(&reasons).unwrap_or("end_turn").into() }
    }

    pub(crate) fn agent_tells(&mut self, key: Key, prompt: Option<PromptId>) {
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
            // The agent may have forgotten to report its beginning.
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

    pub(crate) fn agent_asks(&mut self, key: Key, prompt: PromptId) {
        let faults = self.faults;
        let proc = &mut self.world.procs[key];
        // At the end no client is there to answer.
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

    pub(crate) fn agent_calls(&mut self, key: Key, prompt: PromptId) {
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

    pub(crate) fn asks_for(
        &mut self,
        key: Key,
        prompt: PromptId,
        request: u64,
        client: Option<EventId>,
        method: &str,
    ) {
        let (method, payload) = (method.to_owned(), json!({}));
        self.say(key, Seen::CallAsked { prompt, request, client, method, payload });
    }

    pub(crate) fn answered_to(&mut self, key: Key, by: u64, request: u64, option: Option<String>) {
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
}
