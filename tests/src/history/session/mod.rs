//! One session's history: what its next event may be.

mod events;

use std::collections::{BTreeMap, BTreeSet};

use manager::core::{Cause, limits};
use protocol::event::{Event, EventKind, StallStep};
use protocol::{CallId, EventId, Exit, Incarnation, PermissionId, PromptId};
use serde_json::Value;

/// Where a prompt is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::history) enum Place {
    Queued,
    Running,
    Interrupted,
    Ended,
}

/// The turn that runs.
#[derive(Debug)]
struct Turn {
    prompt: PromptId,
    number: Option<u64>,
    /// Reports of its tool calls, in the order of the events: a power cut can take the newest back.
    tools: Vec<(EventId, String, Tool)>,
    /// Reports of its agent's silence, likewise.
    stalls: Vec<(EventId, StallStep)>,
}

/// An event's report of a tool call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tool {
    Open,
    Ended,
    Interrupted,
}

impl Turn {
    /// Returns the last report of this tool call.
    fn tool(&self, id: &str) -> Option<Tool> {
        self.tools.iter().rev().find(|(_, tool, _)| tool == id).map(|(.., stands)| *stands)
    }
}

/// Something that a client is to do.
#[derive(Debug)]
struct Call {
    prompt: PromptId,
    /// The only client that may answer.
    of: Option<EventId>,
    ended: bool,
}

/// A question whether the agent is allowed something.
#[derive(Debug)]
struct Permission {
    /// None: it was asked between turns.
    prompt: Option<PromptId>,
    offered: Vec<String>,
    ended: bool,
}

#[derive(Debug, Default)]
pub(in crate::history) struct SessionView {
    /// The incarnation that was started and whose end is not on record.
    live: Option<Incarnation>,
    /// The last incarnation that was started.
    started: Incarnation,
    /// The last incarnation whose exit is on record.
    exited: Incarnation,
    /// The last reported state of its process.
    stands: Stands,
    turn: Option<Turn>,
    turns: u64,
    pub(in crate::history) prompts: BTreeMap<PromptId, Place>,
    permissions: BTreeMap<PermissionId, Permission>,
    /// Open calls, each with the prompt of its turn.
    calls: BTreeMap<CallId, Call>,
    /// Attached clients, and the driver among them.
    clients: BTreeSet<EventId>,
    driver: Option<EventId>,
    /// Restarts that count against the intensity, by the clock of the events.
    pub(in crate::history) restarts: Vec<u64>,
    pub(in crate::history) intensity: Option<(u32, u64)>,
    pub(in crate::history) token: Option<String>,
    /// Settings that were answered.
    settings: BTreeSet<u64>,
    /// Its own task as a sub-agent: true once its end is on record.
    pub(in crate::history) task: Option<bool>,
}

/// The last reported state of a session's process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::history) enum Stands {
    #[default]
    Fresh,
    Restarting,
    Hibernated,
    Stopped,
    Failed,
}

impl SessionView {
    pub(in crate::history) fn event(&mut self, event: &Event, found: &mut Vec<String>) {
        use EventKind::*;
        match &event.kind {
            SessionStarted { .. }
            | SessionReady { .. }
            | SessionRestarted { .. }
            | SessionRestarting { .. }
            | SessionStopped { .. }
            | SessionFailed { .. }
            | SessionHibernated { .. }
            | SessionOomKilled { .. }
            | SessionAdopted { .. }
            | SessionWoken { .. }
            | SessionDeleted { .. } => self.life(event, found),
            PromptAccepted { .. }
            | PromptQueued { .. }
            | PromptEdited { .. }
            | PromptRemoved { .. }
            | PromptStarted { .. }
            | PromptResolved { .. } => self.prompts(event, found),
            SessionStalled { .. } | TurnStarted { .. } | TurnCompleted { .. } | TurnInterrupted { .. } => {
                self.turns(event, found)
            }
            MessageChunk { .. }
            | ThoughtChunk { .. }
            | PlanUpdated { .. }
            | ToolCallStarted { .. }
            | ToolCallUpdated { .. }
            | ToolCallInterrupted { .. }
            | AgentUpdated { .. }
            | UsageUpdated { .. }
            | SettingChanged { .. }
            | SettingRefused { .. } => self.work(event, found),
            PermissionRequested { .. } | PermissionResolved { .. } | PermissionExpired { .. } => {
                self.permissions(event, found)
            }
            CallRequested { .. }
            | CallAnswered { .. }
            | CallExpired { .. }
            | ClientAttached { .. }
            | ClientDetached { .. }
            | DriverChanged { .. } => self.clients(event, found),
            SessionCreated { .. } | SessionUpdated { .. } | SystemMessage { .. } => {}
            SubagentStarted { .. } | SubagentCompleted { .. } | SubagentLost { .. } => {}
            AccessRefused(_) | ManagerStarted { .. } | ManagerStopping {} => {
                found.push("it is the manager's and names a session".into())
            }
        }
    }

    /// Checks that the event came from a process that was started and whose end is not on record.
    fn spoken_by(&self, incarnation: Incarnation, found: &mut Vec<String>) {
        if self.live != Some(incarnation) {
            found.push(format!("incarnation {incarnation} speaks, and {:?} lives", self.live));
        }
    }

    fn tool(&mut self, event: EventId, id: &str, stands: Tool, found: &mut Vec<String>) {
        let Some(turn) = &mut self.turn else { return };
        if turn.tool(id) == Some(Tool::Interrupted) {
            found.push(format!("tool call {id} was interrupted before"));
        }
        turn.tools.push((event, id.to_owned(), stands));
    }

    fn permission_ends(&mut self, id: PermissionId, found: &mut Vec<String>) -> Option<&Permission> {
        let running = self.turn.as_ref().map(|turn| turn.prompt);
        let Some(asked) = self.permissions.get_mut(&id) else {
            found.push(format!("{id} was never asked"));
            return None;
        };
        if std::mem::replace(&mut asked.ended, true) {
            found.push(format!("{id} has ended before"));
        }
        if let Some(prompt) = asked.prompt.filter(|prompt| running != Some(*prompt)) {
            found.push(format!("{id} is of {prompt}, and {running:?} runs"));
        }
        Some(asked)
    }

    /// Checks that a call to one client does not wait while another drives.
    fn calls_are_the_drivers(&self, found: &mut Vec<String>) {
        let left = |call: &Call| !call.ended && call.of.is_some() && call.of != self.driver;
        if let Some((id, call)) = self.calls.iter().find(|(_, call)| left(call)) {
            found.push(format!("{id} waits for {:?}, and {:?} drives", call.of, self.driver));
        }
    }

    fn call_ends(&mut self, id: CallId, found: &mut Vec<String>) {
        let running = self.turn.as_ref().map(|turn| turn.prompt);
        match self.calls.get_mut(&id) {
            None => found.push(format!("{id} was never asked")),
            Some(call) if call.ended => found.push(format!("{id} has ended before")),
            Some(call) if running != Some(call.prompt) => {
                found.push(format!("{id} is of {}, and {running:?} runs", call.prompt));
            }
            Some(call) => call.ended = true,
        }
    }

    /// Nothing of a turn is left open at its end.
    fn turn_ends(&mut self, found: &mut Vec<String>) {
        self.no_permission_is_open(found, |asked| asked.prompt.is_some());
        if let Some((id, _)) = self.calls.iter().find(|(_, call)| !call.ended) {
            found.push(format!("{id} is still open"));
        }
        let Some(turn) = &self.turn else { return };
        let received = turn.tools.iter().filter(|(.., stands)| *stands == Tool::Interrupted).count();
        // Tool calls beyond this number are not reported.
        if received < limits::TOOL_CALLS
            && let Some((_, id, _)) = turn.tools.iter().find(|(_, id, _)| turn.tool(id) == Some(Tool::Open))
        {
            found.push(format!("tool call {id} is open, and not said to be interrupted"));
        }
    }

    fn no_permission_is_open(&self, found: &mut Vec<String>, may_be: impl Fn(&Permission) -> bool) {
        if let Some((id, _)) = self.permissions.iter().find(|(_, asked)| may_be(asked) && !asked.ended) {
            found.push(format!("{id} is still open"));
        }
    }

    /// A power cut took this event back.
    pub(in crate::history) fn take_back(&mut self, event: &Event) {
        if let EventKind::PermissionRequested { permission_id, .. } = &event.kind {
            self.permissions.remove(permission_id);
        }
        match &event.kind {
            EventKind::CallRequested { call_id, .. } => drop(self.calls.remove(call_id)),
            // Its spool may repeat that it is ready.
            EventKind::SessionRestarted { .. } => self.stands = Stands::Restarting,
            // It waits again, until its turn is reported as cut off.
            EventKind::CallAnswered { call_id } => {
                if let Some(call) = self.calls.get_mut(call_id) {
                    call.ended = false;
                }
            }
            _ => {}
        }
        let Some(turn) = &mut self.turn else { return };
        turn.tools.retain(|(id, ..)| *id < event.id);
        turn.stalls.retain(|(id, _)| *id < event.id);
        if let EventKind::TurnStarted { .. } = &event.kind {
            turn.number = None;
        }
    }

    /// A process's end, or the end of what a session without one was about to do.
    fn ended(&mut self, incarnation: Incarnation, exit: Option<Exit>, found: &mut Vec<String>) {
        if let Some(turn) = &self.turn {
            found.push(format!("the turn of {} has not ended", turn.prompt));
        }
        self.no_permission_is_open(found, |_| true);
        match self.live.take() {
            Some(live) if live != incarnation => {
                found.push(format!("incarnation {live} lives, and not {incarnation}"))
            }
            Some(_) => self.exited = incarnation,
            // A session stopped in the moment of its spawn has no start on record, but one end.
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
        let free = [Cause::ManagerStopped, Cause::ManagerLost].iter().any(|cause| reason == cause.to_string())
            || [REQUESTED, OUTDATED].contains(&reason)
            // A start that ran no program is no death; only the text tells them apart.
            || reason.starts_with("worker could not be started")
            || reason == Cause::SpareLost.to_string()
            || reason.starts_with(MISSING);
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

/// Returns true if the agent reports here that a tool call has ended.
fn says_ended(payload: &Value) -> bool {
    matches!(payload["status"].as_str(), Some("completed" | "failed"))
}

/// The text of the simulation's workers about a program that may come back.
pub const MISSING: &str = "its program is missing";
/// The reason of a restart that somebody asked for.
const REQUESTED: &str = "restarted by request";
/// The reason of a replacement that an upgrade of kennel has brought.
const OUTDATED: &str = "its worker was of another version of kennel";
