//! Reports and permission requests of an ACP agent.

use protocol::api::{PermissionAnswer, PermissionInfo, PermissionPolicy, Usage};
use protocol::event::{Decider, EventKind, Timestamp};
use protocol::wire::{PermissionAsk, PermissionOption, Spent, Update};
use protocol::{PermissionId, PromptId, Stream, bounds, command};
use serde_json::Value;

use crate::core::at::At;
use crate::core::input::Reply;
use crate::core::limits;
use crate::core::model::session::Session;
use crate::core::model::state::State;
use crate::core::model::turn::{Answer, Permission, Phase, Questions, Turn, Turns};
use crate::core::out::Out;
use crate::core::refusal::Refusal;
use crate::core::rules::recording::weight;

impl Permission {
    /// An upper bound of the request's bytes in the session's document.
    fn bytes(&self) -> usize {
        let options = self.options.iter().map(|option| {
            let texts = [&option.id, &option.name, &option.kind];
            texts.into_iter().map(|text| bounds::length(text)).sum::<usize>() + 32
        });
        bounds::length(&self.title) + options.sum::<usize>() + 224
    }

    /// The one option that allows, rather once than for ever. Several of a kind are a question of their own, which only
    /// somebody who names one of them has answered.
    fn only_way_to_allow(&self) -> Option<&PermissionOption> {
        let first = self.option(true)?;
        let others = self.options.iter().filter(|option| option.kind == first.kind && option.id != first.id);
        (others.count() == 0).then_some(first)
    }

    /// The first option that allows or denies, rather once than for ever.
    fn option(&self, allows: bool) -> Option<&PermissionOption> {
        let kinds = if allows { ["allow_once", "allow_always"] } else { ["reject_once", "reject_always"] };
        kinds.iter().find_map(|kind| self.options.iter().find(|option| option.kind == *kind))
    }
}

impl Session {
    /// Handles an agent's report of its work.
    pub(in crate::core) fn updated(
        &mut self,
        at: At,
        prompt: Option<PromptId>,
        update: &Update,
        payload: &Value,
        out: &mut Out,
    ) {
        self.learn_child(payload);
        self.learn_model(payload);
        let payload = payload.clone();
        let running = self.turns.running.as_mut().filter(|turn| Some(turn.prompt.id) == prompt);
        if let Update::Usage(spent) = update {
            let usage = self.usage.get_or_insert_default();
            add(usage, spent);
            let records = match running {
                Some(turn) => turn.records(weight(&payload), out),
                None => self.turns.records_between(weight(&payload), out),
            };
            if records {
                out.emit(EventKind::UsageUpdated { usage: usage.clone(), payload });
            }
            return;
        }
        let Some(turn) = running else {
            // The answer of the turn that has just ended may come after its end.
            self.turns.empty &= match update {
                Update::Message { text } => text.is_empty(),
                Update::ToolCall { .. } | Update::ToolCallUpdate { .. } | Update::Plan => false,
                _ => true,
            };
            if self.turns.records_between(weight(&payload), out) {
                out.emit(EventKind::AgentUpdated { prompt_id: None, payload });
            }
            return;
        };
        let (number, prompt_id) = (turn.number, turn.prompt.id);
        turn.acted |=
            matches!(update, Update::ToolCall { .. } | Update::ToolCallUpdate { .. } | Update::Plan);
        if let Update::Message { text } = update {
            let (text, payload) = (text.clone(), Some(payload));
            return self.said(at, prompt_id, Stream::Stdout, text, payload, out);
        }
        // A tool call of which nothing is on record is none, and one whose end is not is interrupted with the turn.
        if !turn.records(weight(&payload), out) {
            self.turns.last_message_at = Some(at.wall);
            return;
        }
        let kind = match update {
            Update::Thought { text } => {
                EventKind::ThoughtChunk { turn: number, prompt_id, text: text.clone(), payload }
            }
            Update::ToolCall { id, title, ended } => {
                turn.track(id, *ended);
                let (tool_call_id, title) = (id.clone(), title.clone());
                EventKind::ToolCallStarted { turn: number, prompt_id, tool_call_id, title, payload }
            }
            Update::ToolCallUpdate { id, ended } => {
                turn.track(id, *ended);
                EventKind::ToolCallUpdated { turn: number, prompt_id, tool_call_id: id.clone(), payload }
            }
            Update::Plan => EventKind::PlanUpdated { turn: number, prompt_id, payload },
            Update::Message { .. } | Update::Usage(_) | Update::Other => {
                EventKind::AgentUpdated { prompt_id: Some(prompt_id), payload }
            }
        };
        self.turns.last_message_at = Some(at.wall);
        out.emit(kind);
    }

    /// The agent wants to be allowed something.
    pub(in crate::core) fn permission_asked(
        &mut self,
        at: At,
        prompt: Option<PromptId>,
        request: u64,
        ask: &PermissionAsk,
        payload: &Value,
        out: &mut Out,
    ) {
        let policy = self.spec.permissions.policy_for(ask, &self.spec.workdir);
        let timeout = self.spec.permissions.timeout_ms;
        // No process could receive the answer.
        if !self.agent_goes_on() {
            return;
        }
        let options: usize = ask.options.iter().map(|it| it.id.len() + it.name.len() + it.kind.len()).sum();
        let bytes = ask.tool_call.len() + ask.title.len() + options;
        let (turn, recorded) = match (prompt, &mut self.turns.running) {
            // The worker answers what it asked before it learned of the abort.
            (Some(_), Some(turn)) if matches!(turn.phase, Phase::Aborting { .. }) => return,
            (Some(prompt), Some(turn)) if turn.prompt.id == prompt => {
                turn.acted = true;
                (Some(turn.number), turn.records_ask(bytes, payload, out))
            }
            (Some(_), _) => return,
            (None, _) => {
                let records = self.turns.records_between(bytes + weight(payload), out);
                (None, records.then(|| payload.clone()))
            }
        };
        if let (None, State::Ready { idle_since, .. }) = (prompt, &mut self.state) {
            *idle_since = at.mono;
        }
        let id = PermissionId(out.next_event());
        let permission = Permission {
            id,
            request,
            title: ask.title.clone(),
            command: self.turns.command_line(payload),
            options: ask.options.clone(),
            asked_at: at.wall,
            expires: (timeout > 0).then(|| at.mono + timeout),
        };
        let Some(payload) = recorded else {
            let option = permission.option(false).map(|option| option.id.clone());
            return self.turns.asking(turn.is_some()).answer(&permission, option);
        };
        self.last_permission = Some(id);
        out.emit(EventKind::PermissionRequested {
            permission_id: id,
            turn,
            prompt_id: prompt,
            tool_call_id: ask.tool_call.clone(),
            title: ask.title.clone(),
            options: ask.options.clone(),
            payload,
        });
        let waiting: usize = self.turns.questions().map(|(_, open)| open.bytes()).sum();
        let full = self.turns.questions().count() >= limits::PERMISSIONS
            || waiting + permission.bytes() > limits::PERMISSIONS_BYTES;
        let mut asking = self.turns.asking(turn.is_some());
        match policy {
            // An agent that asks without end is denied.
            PermissionPolicy::Park if full => {
                asking.give_up(permission, "too many permissions wait already", out);
            }
            PermissionPolicy::Park => asking.open.push(permission),
            PermissionPolicy::Allow => asking.decide(permission, true, out),
            PermissionPolicy::Deny => asking.decide(permission, false, out),
            PermissionPolicy::Fail if turn.is_none() => {
                asking.give_up(permission, "the session's policy denies what is asked between turns", out);
            }
            PermissionPolicy::Fail => {
                asking.give_up(permission, "the session's policy ends the turn", out);
                self.abort_turn(at, out);
            }
        }
    }

    /// Answers a permission request.
    pub(in crate::core) fn permit(
        &mut self,
        at: At,
        id: PermissionId,
        answer: &PermissionAnswer,
        out: &mut Out,
    ) -> Result<Reply, Refusal> {
        let in_turn =
            self.turns.running.as_ref().is_some_and(|turn| turn.open.iter().any(|open| open.id == id));
        let mut asking = self.turns.asking(in_turn);
        let Some(index) = asking.open.iter().position(|open| open.id == id) else {
            return Err(self.no_permission(id));
        };
        let permission = &asking.open[index];
        let option = match answer {
            PermissionAnswer::Cancel => {
                let permission = asking.open.remove(index);
                asking.give_up(permission, "the question was closed without an answer", out);
                return Ok(Reply::Done);
            }
            PermissionAnswer::Option(id) => permission.options.iter().find(|option| option.id == *id),
            PermissionAnswer::Allow => permission.only_way_to_allow(),
            PermissionAnswer::Deny => permission.option(false),
        };
        let Some(option_id) = option.map(|option| option.id.clone()) else {
            let offered = permission.options.iter().map(|option| option.id.clone()).collect();
            return Err(Refusal::NoSuchOption { id, offered });
        };
        let permission = asking.open.remove(index);
        asking.answer(&permission, Some(option_id.clone()));
        out.emit(EventKind::PermissionResolved { permission_id: id, option_id, by: Decider::User });
        // The agent has something to do.
        if let State::Ready { idle_since, .. } = &mut self.state {
            *idle_since = at.mono;
        }
        Ok(Reply::Done)
    }

    fn no_permission(&self, id: PermissionId) -> Refusal {
        // Ids grow: one that this session could have given, and that does not wait, is settled.
        match self.last_permission {
            Some(last) if id <= last => Refusal::PermissionSettled(id),
            _ => Refusal::NoSuchPermission(id),
        }
    }

    /// Denies permission requests whose time limit has passed.
    pub(in crate::core) fn expire_permissions(&mut self, at: At, out: &mut Out) {
        let seconds = self.spec.permissions.timeout_ms / 1000;
        let due = |open: &Permission| open.expires.is_some_and(|expires| expires <= at.mono);
        // Without a turn there is one list, and it is gone through once: more answers than are kept would push others out.
        let lists: &[bool] = if self.turns.running.is_some() { &[true, false] } else { &[false] };
        for &in_turn in lists {
            let mut asking = self.turns.asking(in_turn);
            let (mut due, mut open): (Vec<_>, Vec<_>) =
                std::mem::take(asking.open).into_iter().partition(due);
            // More answers than are kept would never reach the worker. The rest is still due, at once.
            let rest = due.split_off(due.len().min(limits::ANSWERS));
            open.splice(0..0, rest);
            *asking.open = open;
            for permission in due {
                asking.give_up(permission, &format!("nobody answered within {seconds} s"), out);
            }
        }
    }

    /// Permissions that wait for an answer.
    pub fn permissions(&self) -> Vec<PermissionInfo> {
        let info = |(prompt_id, open): (Option<PromptId>, &Permission)| PermissionInfo {
            permission_id: open.id,
            session_id: self.id.clone(),
            session_name: self.spec.name.clone(),
            prompt_id,
            title: open.title.clone(),
            command: open.command.clone(),
            options: open.options.clone(),
            asked_at: Timestamp(open.asked_at),
        };
        self.turns.questions().map(info).collect()
    }
}

impl Questions {
    pub(in crate::core) fn asking(&mut self) -> Asking<'_> {
        Asking { open: &mut self.open, answers: &mut self.answers }
    }
}

/// The questions of a turn, or of none.
pub(in crate::core) struct Asking<'a> {
    open: &'a mut Vec<Permission>,
    answers: &'a mut Vec<Answer>,
}

impl Turn {
    /// Adds a tool call to the open ones, or removes it once it has ended.
    fn track(&mut self, id: &str, ended: bool) {
        let known = self.tools.iter().position(|open| open == id);
        match (known, ended) {
            (Some(index), true) => drop(self.tools.remove(index)),
            // The list is bounded: a crash reports no tool calls beyond the limit.
            (None, false) if self.tools.len() < limits::TOOL_CALLS => {
                let ids: usize = self.tools.iter().map(|open| bounds::length(open)).sum();
                if ids + bounds::length(id) <= limits::TOOL_CALLS_BYTES {
                    self.tools.push(id.to_owned());
                }
            }
            (Some(_), false) | (None, _) => {}
        }
    }

    pub(in crate::core) fn asking(&mut self) -> Asking<'_> {
        Asking { open: &mut self.open, answers: &mut self.answers }
    }

    /// Ends the record of a turn: emits an event for everything that is still open in it.
    pub(in crate::core) fn close(&mut self, out: &mut Out) {
        self.asking().close("the turn ended", out);
        self.close_calls("the turn ended", out);
        for tool_call_id in std::mem::take(&mut self.tools) {
            let (turn, prompt_id) = (self.number, self.prompt.id);
            out.emit(EventKind::ToolCallInterrupted { turn, prompt_id, tool_call_id });
        }
        self.answers.clear();
    }
}

impl Asking<'_> {
    fn answer(&mut self, permission: &Permission, option: Option<String>) {
        // A turn may ask without end, and each of its steps writes them all.
        if self.answers.len() >= limits::ANSWERS {
            self.answers.remove(0);
        }
        self.answers.push(Answer { id: permission.id, request: permission.request, option });
    }

    /// The session's policy decides.
    fn decide(&mut self, permission: Permission, allow: bool, out: &mut Out) {
        match permission.option(allow).map(|option| option.id.clone()) {
            Some(option_id) => {
                self.answer(&permission, Some(option_id.clone()));
                let by = Decider::Policy;
                out.emit(EventKind::PermissionResolved { permission_id: permission.id, option_id, by });
            }
            None if allow => self.give_up(permission, "the agent offers no way to allow it", out),
            None => self.give_up(permission, "the agent offers no way to deny it", out),
        }
    }

    /// Expires a request without an answer of anybody: denied, if the agent offers that.
    fn give_up(&mut self, permission: Permission, reason: &str, out: &mut Out) {
        let option = permission.option(false).map(|option| option.id.clone());
        self.answer(&permission, option);
        out.emit(EventKind::PermissionExpired { permission_id: permission.id, reason: reason.to_owned() });
    }

    /// Expires all open requests. No answer can reach the worker any more, or the worker cancels them itself.
    pub(in crate::core) fn close(&mut self, reason: &str, out: &mut Out) {
        for open in std::mem::take(self.open) {
            let reason = reason.to_owned();
            out.emit(EventKind::PermissionExpired { permission_id: open.id, reason });
        }
    }
}

/// Adds what an agent reports. The cost is a sum. Of tokens ACP's schema says both that they are a turn's and that they are those of
/// all turns (`PromptResponse.usage`, unstable); its next version says that they are a turn's, and Claude's adapter reports them so.
fn add(usage: &mut Usage, spent: &Spent) {
    usage.input_tokens = usage.input_tokens.saturating_add(spent.input_tokens.unwrap_or(0));
    usage.output_tokens = usage.output_tokens.saturating_add(spent.output_tokens.unwrap_or(0));
    usage.cost_usd = spent.cost_micro_usd.map(|micro| micro as f64 / 1e6).or(usage.cost_usd);
}

impl Turns {
    /// The questions of the turn that runs, or of none.
    pub(in crate::core) fn asking(&mut self, in_turn: bool) -> Asking<'_> {
        match &mut self.running {
            Some(turn) if in_turn => turn.asking(),
            Some(_) | None => self.asked.asking(),
        }
    }

    /// The command line that a question is about, if it is about one. It gets a part of the room that those of other questions have
    /// left, so that some is there for each.
    fn command_line(&self, payload: &Value) -> Option<String> {
        let mut line = command::line(&payload["toolCall"]["rawInput"])?;
        let others = self.questions().filter_map(|(_, open)| open.command.as_ref());
        let taken: usize = others.map(|line| bounds::length(line)).sum();
        bounds::cut(&mut line, limits::COMMANDS_BYTES.saturating_sub(taken) / 4);
        Some(line)
    }
}
