//! The journal's events, as the history checker and the timers hear them.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use protocol::SessionId;
use protocol::event::{Event, EventKind};

use super::Audit;

/// How late a restart may be, in milliseconds, on a machine under load.
const LATE_MS: u64 = 20_000;

/// Wall clocks are cut to milliseconds.
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
            self.tell_event(&event, &removed);
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

    /// Tells the history of an event. Of sessions that were `removed` a part may be missing.
    pub(crate) fn tell_event(&mut self, event: &Arc<Event>, removed: &BTreeSet<SessionId>) {
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

/// The sessions that are removed in these events. Whoever reads them only after the removal does not see all of what they did.
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

/// Restarts by hand: who, and from when to when it was asked for, in Unix milliseconds. Somewhere between question
/// and answer the record of deaths is cleared; when in it is not said. A question is asked again when the daemon dies
/// over it, so that the session may use up a budget before that moment and another after it.
struct ByHand(Vec<(SessionId, u64, u64)>);

impl ByHand {
    /// Whose record may have been cleared between an event at this time and the one before.
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
    /// `asked` are the restarts that somebody asked for, by the clock of the events: whoever does so does not
    /// want to wait.
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
                // Whatever else happens to it meanwhile (stopped, started by hand) ends the wait.
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
