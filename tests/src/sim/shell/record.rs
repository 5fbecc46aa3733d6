//! The record of what was committed, and checks of it.

use std::sync::Arc;

use manager::core::{Ask, At, Change, Command, Effect, Input, Seen, Session, State};
use protocol::event::{Event, EventKind};
use protocol::wire::Update;
use protocol::{Exit, PromptId};

use super::super::world::Life;
use super::super::{Sim, kinds};
use super::Stepped;
use crate::sample;

impl Sim {
    /// A word of a worker that was replaced, from wherever it hung: it must change nothing.
    pub(crate) fn echo(&mut self, at: At) {
        let sessions: Vec<Arc<Session>> = self.m().fleet.sessions().cloned().collect();
        let Some(session) = sessions.get(self.rng.below(sessions.len() as u64) as usize) else {
            return;
        };
        let prompt = session.turns.running.as_ref().map_or(PromptId(1), |turn| turn.prompt.id);
        let exit = Exit::Signal(9);
        let payload = serde_json::json!({});
        let seen = match self.rng.below(7) {
            0 => Seen::Gone { exit, last_words: Vec::new(), survivors: Vec::new() },
            1 => Seen::Faulted("garbage".into()),
            2 => Seen::Output { prompt, stream: protocol::Stream::Stdout, text: "echo".into() },
            3 => Seen::Updated { prompt: Some(prompt), update: Update::Other, payload },
            4 => Seen::PermissionAsked { prompt: Some(prompt), request: 1, ask: sample::ask(), payload },
            5 => Seen::AgentDied("echo".into()),
            _ => Seen::Ready { restore: protocol::Restore::Fresh, agent_pid: None },
        };
        let stale = session.incarnation - 1;
        match self.m().fleet.step(at, &Ask::One(session.id.clone(), Input::Seen(stale, seen))) {
            Ok(change)
                if change.sessions.is_empty() && change.events.is_empty() && change.effects.is_empty() => {}
            other => {
                let what =
                    format!("{}: incarnation {stale} is dead and does something: {other:?}", session.id);
                self.history.violation(Some(&session.id), what);
            }
        }
    }

    /// Adds a batch that is synced to the history, even if the manager dies before it shows the events.
    pub(in crate::sim) fn record(&mut self, stepped: &[Stepped], events: &[Arc<Event>]) {
        let mut events = events.iter();
        for one in stepped {
            if let Ask::One(id, Input::Command(Command::Restart)) = &one.ask {
                self.history.restarted_by_hand(id);
            }
            self.check_answers(&one.change);
            for _ in &one.change.events {
                let Some(event) = events.next() else { break };
                self.history.event(event);
                self.coverage.events.insert(kinds::event(&event.kind));
                if let (EventKind::SessionCreated { .. }, Some(id)) = (&event.kind, &event.session) {
                    let made = one.change.sessions.iter().find(|session| session.id == *id);
                    if let Some(policy) = made.map(|session| session.spec.restart) {
                        // Measured by the clock of the events, which must not jump for that.
                        if self.sets_clock.is_none() {
                            self.history.policy(id, policy.intensity, policy.period_ms);
                        }
                    }
                }
            }
            match &one.ask {
                Ask::One(_, Input::Seen(_, seen)) => drop(self.coverage.seen.insert(kinds::seen(seen))),
                Ask::One(_, Input::Command(command) | Input::CommandBy(_, command)) => {
                    self.coverage.commands.insert(kinds::command(command));
                }
                Ask::Stop(..) => drop(self.coverage.commands.insert(kinds::command(&Command::Stop))),
                _ => {}
            }
            for session in &one.change.sessions {
                self.coverage.saw(session);
            }
        }
    }

    /// Checks that an answer that counts reaches the agent.
    fn check_answers(&mut self, change: &Change) {
        for event in &change.events {
            let Some(id) = &event.session else { continue };
            let (what, received): (String, fn(&Effect) -> bool) = match &event.kind {
                EventKind::PermissionResolved { permission_id, .. } => {
                    (permission_id.to_string(), |effect| matches!(effect, Effect::Answer { .. }))
                }
                EventKind::CallAnswered { call_id } => {
                    (call_id.to_string(), |effect| matches!(effect, Effect::AnswerCall { .. }))
                }
                _ => continue,
            };
            let adopting = |session: &&Arc<Session>| {
                session.id == *id && matches!(session.state, State::Adopting { .. })
            };
            // Its worker receives it once it is adopted.
            if change.sessions.iter().any(|session| adopting(&session)) {
                continue;
            }
            if !change.effects.iter().any(|(of, effect)| of == id && received(effect)) {
                let what = format!("{id}: {what} is answered, and the agent is not told");
                self.failures.push(what);
            }
        }
    }

    /// Checks that each reported survivor of SIGKILL is alive.
    pub(super) fn check_survivors(&mut self, event: &Event) {
        let (EventKind::SessionFailed { survivors, .. }, Some(id)) = (&event.kind, &event.session) else {
            return;
        };
        let there = self.world.procs.iter().any(|proc| {
            let mine = proc.session == *id && proc.incarnation == event.incarnation;
            mine && (proc.life != Life::Reaped || proc.tree > 0)
        });
        if !survivors.is_empty() && !there {
            self.history.violation(Some(id), format!("{id}: {survivors:?} are said to live and are gone"));
        }
    }
}
