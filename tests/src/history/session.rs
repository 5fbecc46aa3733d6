//! One session's history: what its next event may be.

use std::collections::BTreeMap;

use manager::core::Cause;
use protocol::event::{Event, EventKind, Resolution};
use protocol::{Exit, Incarnation, PromptId};

/// Where a prompt is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Queued,
    Running,
    Interrupted,
    Ended,
}

/// The turn that runs.
#[derive(Debug)]
pub(super) struct Turn {
    prompt: PromptId,
    pub(super) number: Option<u64>,
}

#[derive(Debug, Default)]
pub(super) struct SessionView {
    /// The incarnation that was started and whose end has not been told.
    live: Option<Incarnation>,
    /// The last incarnation that was started.
    started: Incarnation,
    /// The last incarnation whose exit was told.
    exited: Incarnation,
    /// What was last told of its process.
    stands: Stands,
    pub(super) turn: Option<Turn>,
    turns: u64,
    pub(super) prompts: BTreeMap<PromptId, Place>,
    /// Restarts that count against the intensity, by the clock of the events.
    pub(super) restarts: Vec<u64>,
    pub(super) intensity: Option<(u32, u64)>,
    pub(super) token: Option<String>,
    /// Its own task as a sub-agent: whether its end was told.
    pub(super) task: Option<bool>,
}

/// What was last told of a session's process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Stands {
    #[default]
    Fresh,
    Restarting,
    Hibernated,
    Stopped,
    Failed,
}

impl SessionView {
    pub(super) fn event(&mut self, event: &Event, found: &mut Vec<String>) {
        use EventKind::*;
        let incarnation = event.incarnation;
        match &event.kind {
            SessionStarted { .. } => {
                if let Some(live) = self.live {
                    found.push(format!("the end of incarnation {live} was not told"));
                }
                if incarnation <= self.started.max(self.exited) {
                    found.push(format!(
                        "incarnation {incarnation} began after {}",
                        self.started.max(self.exited)
                    ));
                }
                if matches!(self.stands, Stands::Stopped | Stands::Failed) {
                    // Somebody started it by hand, with a clean slate.
                    self.restarts.clear();
                    self.stands = Stands::Fresh;
                }
                self.started = incarnation;
                self.live = Some(incarnation);
            }
            SessionReady { .. } => self.spoken_by(incarnation, found),
            SessionRestarted { .. } => {
                self.spoken_by(incarnation, found);
                if self.stands != Stands::Restarting {
                    found.push("nothing was being restarted".into());
                }
                self.stands = Stands::Fresh;
            }
            SessionRestarting { exit, reason, .. } => {
                self.ended(incarnation, *exit, found);
                if matches!(self.stands, Stands::Stopped | Stands::Failed) {
                    // Started by hand, and the spawn failed.
                    self.restarts.clear();
                }
                self.stands = Stands::Restarting;
                self.count_restart(event.at.0, reason, found);
            }
            SessionStopped { exit } => {
                self.ended(incarnation, *exit, found);
                self.stands = Stands::Stopped;
                if let Some((prompt, _)) = self.prompts.iter().find(|(_, place)| **place == Place::Queued) {
                    found.push(format!("{prompt} still waits"));
                }
            }
            SessionFailed { exit, .. } => {
                self.ended(incarnation, *exit, found);
                self.stands = Stands::Failed;
            }
            SessionHibernated {} => {
                self.ended(incarnation, None, found);
                self.stands = Stands::Hibernated;
            }
            SessionWoken {} => {
                if self.stands != Stands::Hibernated {
                    found.push("it did not sleep".into());
                }
                self.stands = Stands::Fresh;
            }
            SessionDeleted {} => {
                if self.live.is_some() {
                    found.push("it has a process".into());
                }
                if let Some((prompt, place)) = self.prompts.iter().find(|(_, place)| **place == Place::Queued)
                {
                    found.push(format!("{prompt} is {place:?}"));
                }
                if self.task == Some(false) {
                    found.push("the end of its task was not told".into());
                }
            }
            PromptAccepted { prompt_id, retry_of, .. } => {
                if event.id != prompt_id.0 {
                    found.push(format!("{prompt_id} does not have its event's number"));
                }
                if self.prompts.insert(*prompt_id, Place::Queued).is_some() {
                    found.push(format!("{prompt_id} was accepted before"));
                }
                if let Some(of) = retry_of
                    && self.prompts.get(of) != Some(&Place::Interrupted)
                {
                    found.push(format!("{of} was not interrupted"));
                }
            }
            PromptQueued { prompt_id, .. } | PromptEdited { prompt_id, .. } => {
                self.expect(*prompt_id, Place::Queued, Place::Queued, found);
            }
            PromptRemoved { prompt_id, .. } => self.expect(*prompt_id, Place::Queued, Place::Ended, found),
            PromptStarted { prompt_id } => {
                self.spoken_by(incarnation, found);
                self.expect(*prompt_id, Place::Queued, Place::Running, found);
                if let Some(turn) = &self.turn {
                    found.push(format!("the turn of {} has not ended", turn.prompt));
                }
                self.turn = Some(Turn { prompt: *prompt_id, number: None });
                self.turns += 1;
            }
            PromptResolved { prompt_id, action, retried_as } => {
                self.expect(*prompt_id, Place::Interrupted, Place::Ended, found);
                let known = retried_as.is_some_and(|id| self.prompts.contains_key(&id));
                if known != (*action == Resolution::Retry) {
                    found.push(format!("{action:?} gave {retried_as:?}"));
                }
            }
            TurnStarted { turn, prompt_id, .. } => {
                self.spoken_by(incarnation, found);
                let turns = self.turns;
                match &mut self.turn {
                    Some(running)
                        if running.prompt == *prompt_id && running.number.is_none() && *turn == turns =>
                    {
                        running.number = Some(*turn);
                    }
                    other => found.push(format!("turn {turn} of {prompt_id} began where {other:?} runs")),
                }
            }
            MessageChunk { turn, prompt_id, .. } => {
                self.spoken_by(incarnation, found);
                self.in_turn(*turn, *prompt_id, found);
            }
            TurnCompleted { turn, prompt_id, .. } => {
                self.in_turn(*turn, *prompt_id, found);
                self.turn = None;
                self.expect(*prompt_id, Place::Running, Place::Ended, found);
            }
            TurnInterrupted { turn, prompt_id, will_retry, .. } => {
                self.in_turn(*turn, *prompt_id, found);
                self.turn = None;
                let next = if *will_retry { Place::Queued } else { Place::Interrupted };
                self.expect(*prompt_id, Place::Running, next, found);
            }
            SessionCreated { .. } | SessionUpdated { .. } | SystemMessage { .. } => {}
            SubagentStarted { .. } | SubagentCompleted { .. } | SubagentLost { .. } => {}
            ManagerStarted { .. } | ManagerStopping {} => {
                found.push("it is the manager's and names a session".into())
            }
        }
    }

    /// The event came from a process: one that was started and whose end was not told.
    fn spoken_by(&self, incarnation: Incarnation, found: &mut Vec<String>) {
        if self.live != Some(incarnation) {
            found.push(format!("incarnation {incarnation} speaks, and {:?} lives", self.live));
        }
    }

    /// A process's end, or the end of what a session without one was about to do.
    fn ended(&mut self, incarnation: Incarnation, exit: Option<Exit>, found: &mut Vec<String>) {
        if let Some(turn) = &self.turn {
            found.push(format!("the turn of {} has not ended", turn.prompt));
        }
        match self.live.take() {
            Some(live) if live != incarnation => {
                found.push(format!("incarnation {live} lives, and not {incarnation}"))
            }
            Some(_) => self.exited = incarnation,
            // Stopped in the moment of its spawn, it was never told as started; but its end is told once.
            None if exit.is_some() => {
                if incarnation <= self.exited {
                    found.push(format!("the end of incarnation {incarnation} was told before"));
                }
                self.exited = incarnation;
            }
            None => {}
        }
    }

    fn in_turn(&self, number: u64, prompt: PromptId, found: &mut Vec<String>) {
        let running = self.turn.as_ref().map(|turn| turn.prompt);
        if running != Some(prompt) || number != self.turns {
            found.push(format!("turn {number} of {prompt}, and turn {} of {running:?} runs", self.turns));
        }
    }

    fn expect(&mut self, prompt: PromptId, place: Place, next: Place, found: &mut Vec<String>) {
        match self.prompts.insert(prompt, next) {
            Some(before) if before == place => {}
            Some(before) => found.push(format!("{prompt} is {before:?} and not {place:?}")),
            None => found.push(format!("{prompt} was never accepted")),
        }
    }

    fn count_restart(&mut self, at: u64, reason: &str, found: &mut Vec<String>) {
        let free = reason == Cause::ManagerLost.to_string()
            || reason == REQUESTED
            // Where the machine has no room that is no fault of the session; told apart by the text alone.
            || reason.starts_with("worker could not be started");
        let Some((intensity, period_ms)) = self.intensity.filter(|_| !free) else {
            return;
        };
        self.restarts.push(at);
        self.restarts.retain(|&then| then + period_ms > at);
        if self.restarts.len() > intensity as usize {
            found.push(format!(
                "restart {} within {period_ms} ms; {intensity} are allowed",
                self.restarts.len()
            ));
        }
    }
}

/// The reason of a restart that somebody asked for.
const REQUESTED: &str = "restarted by request";
