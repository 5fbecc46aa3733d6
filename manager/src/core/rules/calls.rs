//! Calls of an agent that an attached client can serve: files as an editor has them, terminals, questions to the user.
//!
//! The driver serves a call. If the driver leaves or does not answer, the worker serves the call itself.

use protocol::api::PermissionPolicy;
use protocol::event::EventKind;
use protocol::wire::{CallAnswer, Offer, PermissionAsk};
use protocol::{CallId, EventId, PromptId};
use serde_json::Value;

use crate::core::at::At;
use crate::core::effect::AnsweredCall;
use crate::core::input::Reply;
use crate::core::limits;
use crate::core::model::session::Session;
use crate::core::model::state::State;
use crate::core::model::turn::{Call, Calls, Phase, Turn};
use crate::core::out::Out;
use crate::core::refusal::Refusal;
use crate::core::rules::recording::weight;

/// ACP's answer to a form that was cancelled.
const CANCEL: &str = r#"{"action":"cancel"}"#;
/// ACP's answer to a form that the user declined.
const DECLINE: &str = r#"{"action":"decline"}"#;

impl Calls {
    /// Removes and returns the open calls for which `so` is true.
    fn take(&mut self, so: impl FnMut(&Call) -> bool) -> Vec<Call> {
        let (taken, open) = std::mem::take(&mut self.open).into_iter().partition(so);
        self.open = open;
        taken
    }
}

impl Call {
    /// Expires a call, and tells the worker to answer the agent.
    fn give_up(self, reason: &str, out: &mut Out) {
        let answer = match (self.needs, self.client) {
            (Offer::Elicitation, _) => CallAnswer::Result { json: CANCEL.to_owned() },
            (_, Some(_)) => CallAnswer::GivenUp { reason: reason.to_owned() },
            (_, None) => CallAnswer::NotAsked { reason: reason.to_owned() },
        };
        out.emit(EventKind::CallExpired { call_id: self.id, reason: reason.to_owned() });
        out.answer_call(AnsweredCall { request: self.request, answer });
    }
}

/// Time limit of a call, in milliseconds; none: as long as the turn runs.
fn patience(method: &str) -> Option<u64> {
    // A command may run for as long as it likes.
    (method != "terminal/wait_for_exit").then_some(limits::CALL_MS)
}

impl Session {
    /// The client that drives, if it can do something for the agent, and what.
    pub(in crate::core) fn offered(&self) -> (Option<EventId>, Vec<Offer>) {
        let Some(driver) = self.driver() else { return (None, Vec::new()) };
        let offers: Vec<Offer> =
            driver.offers.iter().copied().filter(|offer| self.may_be_done_outside(*offer)).collect();
        if offers.is_empty() { (None, offers) } else { (Some(driver.id), offers) }
    }

    /// Returns the client and its offers for an agent that starts, even if the client is still on its way.
    /// The agent learns its clients' offers then, and never again.
    pub fn offered_at_start(&self) -> (Option<EventId>, Vec<Offer>) {
        if self.driver().is_some() {
            return self.offered();
        }
        let may = |offer: &Offer| self.may_be_done_outside(*offer);
        (None, self.awaited.iter().copied().filter(may).collect())
    }

    fn can(&self, needs: Offer) -> Option<EventId> {
        let able = self.driver().filter(|driver| driver.offers.contains(&needs));
        able.filter(|_| self.may_be_done_outside(needs)).map(|driver| driver.id)
    }

    /// Returns true if a client may serve this request. A client opens files and runs commands with its own
    /// rights. Through it a sandboxed agent would reach what its sandbox hides, so such an agent may only ask
    /// the user something.
    fn may_be_done_outside(&self, offer: Offer) -> bool {
        match offer {
            Offer::Elicitation => true,
            Offer::ReadFile | Offer::WriteFile | Offer::Terminal => self.spec.walls.is_none(),
        }
    }

    /// The agent wants something done.
    #[allow(clippy::too_many_arguments, reason = "what a report has")]
    pub(in crate::core) fn call_asked(
        &mut self,
        at: At,
        prompt: PromptId,
        request: u64,
        client: Option<EventId>,
        method: &str,
        payload: &Value,
        out: &mut Out,
    ) {
        let Some(needs) = Offer::of(method) else { return };
        let (able, timeout) = (self.can(needs), self.spec.permissions.timeout_ms);
        let policy = self.elicitation_policy();
        // No process could receive the answer.
        if !matches!(self.state, State::Ready { .. }) {
            return;
        }
        let Some(turn) = self.turns.running.as_mut().filter(|turn| turn.prompt.id == prompt) else {
            return;
        };
        // It is asked again of a manager that was not there the first time.
        if turn.calls.open.iter().any(|call| call.request == request) {
            return;
        }
        // The worker answers what it asked before it learned of the abort.
        if matches!(turn.phase, Phase::Aborting { .. }) {
            return;
        }
        turn.acted = true;
        if !turn.records(method.len() + weight(payload), out) {
            // A client would read the call in the record, so a call without a record expires.
            let reason = "the turn's record is full".to_owned();
            let answer = match needs {
                Offer::Elicitation => CallAnswer::Result { json: CANCEL.to_owned() },
                Offer::ReadFile | Offer::WriteFile | Offer::Terminal => CallAnswer::NotAsked { reason },
            };
            return out.answer_call(AnsweredCall { request, answer });
        }
        let id = CallId(out.next_event());
        self.last_call = Some(id);
        let asks = needs == Offer::Elicitation;
        // A call that one client has begun is not for another.
        let client_id = able.filter(|able| asks || client == Some(*able));
        out.emit(EventKind::CallRequested {
            call_id: id,
            turn: turn.number,
            prompt_id: prompt,
            client_id,
            method: method.to_owned(),
            payload: payload.clone(),
        });
        let patience = if asks { (timeout > 0).then_some(timeout) } else { patience(method) };
        let expires = patience.map(|patience| at.mono + patience);
        let asked_at = Some(at.wall);
        let call = Call { id, request, client: client_id, needs, asked_at, expires };
        let calls = &mut turn.calls;
        if calls.open.len() >= limits::CALLS {
            let call = Call { client: None, ..call };
            return call.give_up("too many calls wait already", out);
        }
        match client_id {
            Some(_) => calls.open.push(call),
            None if asks && policy == PermissionPolicy::Park => calls.open.push(call),
            None if asks => self.decide_call(at, call, policy, out),
            None => call.give_up("the client that offered it does not drive any more", out),
        }
    }

    /// The policy for questions to the user when no client can ask. Rules about tools or files do not apply.
    fn elicitation_policy(&self) -> PermissionPolicy {
        let ask = PermissionAsk {
            tool_call: String::new(),
            title: String::new(),
            kind: None,
            paths: Vec::new(),
            options: Vec::new(),
        };
        self.spec.permissions.policy_for(&ask, &self.spec.workdir)
    }

    /// Answers a question to the user by the session's policy. A policy can only decline for certain.
    fn decide_call(&mut self, at: At, call: Call, policy: PermissionPolicy, out: &mut Out) {
        let (json, reason) = match policy {
            PermissionPolicy::Park | PermissionPolicy::Allow => {
                (CANCEL, "nobody is there to be asked, and the session's policy knows no answer")
            }
            PermissionPolicy::Deny => (DECLINE, "the session's policy declines it"),
            PermissionPolicy::Fail => (CANCEL, "the session's policy ends the turn"),
        };
        let answer = CallAnswer::Result { json: json.to_owned() };
        out.answer_call(AnsweredCall { request: call.request, answer });
        out.emit(EventKind::CallExpired { call_id: call.id, reason: reason.to_owned() });
        if policy == PermissionPolicy::Fail {
            self.abort_turn(at, out);
        }
    }

    /// The client that drives answers.
    pub(in crate::core) fn answer_call(
        &mut self,
        id: CallId,
        answer: &CallAnswer,
        out: &mut Out,
    ) -> Result<Reply, Refusal> {
        let turn = self.turns.running.as_mut();
        let Some(call) = turn.and_then(|turn| turn.calls.take(|call| call.id == id).pop()) else {
            // Ids grow: one that this session could have given, and that does not wait, is settled.
            return Err(match self.last_call {
                Some(last) if id <= last => Refusal::CallSettled(id),
                _ => Refusal::NoSuchCall(id),
            });
        };
        out.answer_call(AnsweredCall { request: call.request, answer: answer.clone() });
        out.emit(EventKind::CallAnswered { call_id: id });
        Ok(Reply::Done)
    }

    /// Calls that wait for an answer, oldest first, with the client that must answer. Their parameters are in the events of
    /// their ids.
    pub fn calls(&self) -> Vec<(CallId, Option<EventId>)> {
        let turn = self.turns.running.as_ref();
        turn.into_iter().flat_map(|turn| turn.calls.open.iter().map(|call| (call.id, call.client))).collect()
    }

    /// Expires calls whose time limit has passed.
    pub(in crate::core) fn expire_calls(&mut self, at: At, out: &mut Out) {
        let Some(turn) = self.turns.running.as_mut() else { return };
        for call in turn.calls.take(|call| call.expires.is_some_and(|expires| expires <= at.mono)) {
            call.give_up("nobody answered in time", out);
        }
    }

    /// Moves open calls to the present driver, or expires them.
    pub(in crate::core) fn settle_calls(&mut self, at: At, out: &mut Out) {
        let (driver, asker) = (self.driver().map(|driver| driver.id), self.can(Offer::Elicitation));
        let policy = self.elicitation_policy();
        let Some(turn) = self.turns.running.as_mut() else { return };
        for call in &mut turn.calls.open {
            if call.needs == Offer::Elicitation {
                call.client = asker;
            }
        }
        let calls = &mut turn.calls;
        for call in calls.take(|call| call.needs != Offer::Elicitation && call.client != driver) {
            call.give_up("the client that was asked does not drive any more", out);
        }
        if policy != PermissionPolicy::Park {
            let unasked = calls.take(|call| call.client.is_none());
            for call in unasked {
                self.decide_call(at, call, policy, out);
            }
        }
    }
}

impl Turn {
    /// Expires all open calls. No answer can reach the worker any more, or the worker answers them itself.
    pub(in crate::core) fn close_calls(&mut self, reason: &str, out: &mut Out) {
        for call in std::mem::take(&mut self.calls.open) {
            out.emit(EventKind::CallExpired { call_id: call.id, reason: reason.to_owned() });
        }
    }
}
