//! Passes the journal's events to the history checker and the timers.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use protocol::SessionId;
use protocol::event::{Event, EventKind};

use super::Audit;

/// The longest delay of a restart, in milliseconds, on a machine under load.
const LATE_MS: u64 = 20_000;

/// The rounding of wall clocks, in milliseconds.
const CUT_MS: u64 = 2;

impl<'a> Audit<'a> {
    /// Everything since the last time, in the order in which it is understood.
    pub(crate) fn tell_history(&mut self) {
        let seen = std::mem::take(&mut *self.campaign.seen());
        let mut by_hand = ByHand(seen.restarts.clone());
        let removed = removed_in(&seen.events);
        for event in seen.events {
            for id in by_hand.before(event.at.0) {
                self.history.restarted_by_hand(&id);
            }
            if event.id <= self.journal.last().map_or(0, |last| last.id) {
                self.leftovers.events_doubled += 1;
            }
            self.record_event(&event, &removed);
            if let (EventKind::SessionCreated { parent, .. }, Some(id)) = (&event.kind, &event.session) {
                let plan = self.campaign.plans.iter().find(|plan| plan.id == *parent.as_ref().unwrap_or(id));
                if let Some((intensity, period)) = plan.map(|plan| plan.policy()) {
                    self.history.policy(id, intensity, period);
                }
            }
            if let Some(what) = self.timers.event(&event, &seen.restarts) {
                self.history.violation(event.session.as_ref(), what);
            }
            self.prompts.event(&event);
            self.journal.push(event);
        }
        for (id, prompt, key) in seen.acknowledged {
            self.history.acknowledged(&id, prompt, Some(&key));
        }
        for (id, token) in seen.tokens {
            self.history.token(&id, &token);
        }
        for (name, event) in seen.views {
            self.history.saw(&name, &event);
        }
        for (id, what) in seen.violations {
            self.history.violation(id.as_ref(), what);
        }
        for what in self.campaign.host.wrong() {
            self.leftovers.strangers += usize::from(what.starts_with("a stranger"));
            self.history.violation(None, what);
        }
    }

    /// Passes an event to the history. The events of sessions in `removed` may be incomplete.
    pub(crate) fn record_event(&mut self, event: &Arc<Event>, removed: &BTreeSet<SessionId>) {
        let of_removed = |id: &SessionId| removed.contains(id);
        let gone =
            event.session.as_ref().is_some_and(of_removed) || child(&event.kind).is_some_and(of_removed);
        match event.kind {
            EventKind::SessionDeleted {} => self.history.removed_unseen(event),
            EventKind::SessionCreated { .. } => self.history.event(event),
            _ if gone => self.history.unjudged(event),
            _ => self.history.event(event),
        }
    }
}

/// Returns the sessions that these events remove. A reader that comes after the removal does not see all of
/// their events.
pub(crate) fn removed_in(events: &[Arc<Event>]) -> BTreeSet<SessionId> {
    let removals = events.iter().filter(|event| matches!(event.kind, EventKind::SessionDeleted {}));
    removals.filter_map(|event| event.session.clone()).collect()
}

/// The sub-agent that an event of its parent is about.
pub(crate) fn child(kind: &EventKind) -> Option<&SessionId> {
    match kind {
        EventKind::SubagentStarted { child, .. }
        | EventKind::SubagentCompleted { child, .. }
        | EventKind::SubagentLost { child, .. } => Some(child),
        _ => None,
    }
}

/// Restarts by hand: the session, and the request's beginning and end in Unix milliseconds. The record of
/// deaths is cleared somewhere between; the exact moment is not recorded. A request is repeated when the
/// daemon dies over it. So a session may use one budget before that moment and another after it.
struct ByHand(Vec<(SessionId, u64, u64)>);

impl ByHand {
    /// Returns the sessions whose record may have been cleared between an event at this time and the one
    /// before.
    fn before(&mut self, at: u64) -> BTreeSet<SessionId> {
        let begun = self.0.iter().filter(|(_, begun, _)| *begun <= at + CUT_MS);
        let cleared = begun.map(|(id, ..)| id.clone()).collect();
        self.0.retain(|(_, _, ended)| ended + CUT_MS >= at);
        cleared
    }
}

/// Restarts that wait their time: never early, never forgotten.
#[derive(Default)]
pub(crate) struct Timers {
    /// By session: when its restart is due, in Unix milliseconds.
    due: HashMap<SessionId, u64>,
}

impl Timers {
    /// Checks one event. `asked` are the restarts by hand, by the clock of the events: these must not wait.
    fn event(&mut self, event: &Event, asked: &[(SessionId, u64, u64)]) -> Option<String> {
        let at = event.at.0;
        match (&event.kind, &event.session) {
            // Its clock begins anew.
            (EventKind::ManagerStarted { .. }, _) => self.due.clear(),
            (EventKind::SessionRestarting { delay_ms, .. }, Some(id)) => {
                self.due.insert(id.clone(), at + delay_ms);
            }
            (EventKind::SessionStarted { .. }, Some(id)) => {
                let due = self.due.remove(id)?;
                let hurried = asked
                    .iter()
                    .any(|(of, begun, ended)| of == id && *begun <= at + CUT_MS && ended + CUT_MS >= at);
                if at + CUT_MS < due && !hurried {
                    return Some(format!("it began {} ms before its time", due - at));
                }
                if at > due + LATE_MS {
                    return Some(format!("it began {} ms after its time", at - due));
                }
            }
            (_, Some(id)) => {
                // Any other change of the session (stopped, started by hand) ends the wait.
                if matches!(event.kind, EventKind::SessionStopped { .. } | EventKind::SessionFailed { .. }) {
                    self.due.remove(id);
                }
            }
            (_, None) => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_by_hand_may_clear_the_record_at_any_moment_until_it_is_answered() {
        let id = SessionId::numbered(1);
        let mut by_hand = ByHand(vec![(id.clone(), 1_000, 3_000)]);
        let cleared: Vec<u64> = [900, 1_000, 2_000, 3_000, 3_500, 3_600]
            .into_iter()
            .filter(|at| by_hand.before(*at).contains(&id))
            .collect();
        // 3,500 is the first event after the answer: the moment may have been just before it.
        assert_eq!(cleared, [1_000, 2_000, 3_000, 3_500]);
    }
}
