//! The rules for each kind of event, group by group. `SessionView::event` chooses the group.

use protocol::event::{Event, EventKind, Resolution, StallStep};

use super::{Call, Permission, Place, SessionView, Stands, Tool, Turn, says_ended};

impl SessionView {
    /// Starts, ends and settings of the process.
    pub(super) fn life(&mut self, event: &Event, found: &mut Vec<String>) {
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
            SessionOomKilled { .. } | SessionAdopted { .. } => self.spoken_by(incarnation, found),
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
            _ => {}
        }
    }

    /// Prompts: accepted, changed, started, resolved.
    pub(super) fn prompts(&mut self, event: &Event, found: &mut Vec<String>) {
        use EventKind::*;
        let incarnation = event.incarnation;
        match &event.kind {
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
                self.turn =
                    Some(Turn { prompt: *prompt_id, number: None, tools: Vec::new(), stalls: Vec::new() });
                self.turns += 1;
            }
            PromptResolved { prompt_id, action, retried_as } => {
                self.expect(*prompt_id, Place::Interrupted, Place::Ended, found);
                let known = retried_as.is_some_and(|id| self.prompts.contains_key(&id));
                if known != (*action == Resolution::Retry) {
                    found.push(format!("{action:?} gave {retried_as:?}"));
                }
            }
            _ => {}
        }
    }

    /// Turns: begun, silent, ended.
    pub(super) fn turns(&mut self, event: &Event, found: &mut Vec<String>) {
        use EventKind::*;
        let incarnation = event.incarnation;
        match &event.kind {
            SessionStalled { turn, prompt_id, step, .. } => {
                self.in_turn(*turn, *prompt_id, found);
                let Some(turn) = &mut self.turn else { return };
                let before = turn.stalls.last().map(|(_, step)| *step);
                let fits = match step {
                    StallStep::Noticed => matches!(before, None | Some(StallStep::Resumed)),
                    StallStep::Resumed | StallStep::Cancelled => before == Some(StallStep::Noticed),
                };
                if !fits {
                    found.push(format!("{step:?} came after {before:?}"));
                }
                turn.stalls.push((event.id, *step));
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
            TurnCompleted { turn, prompt_id, .. } => {
                self.in_turn(*turn, *prompt_id, found);
                self.turn_ends(found);
                self.turn = None;
                self.expect(*prompt_id, Place::Running, Place::Ended, found);
            }
            TurnInterrupted { turn, prompt_id, will_retry, .. } => {
                self.in_turn(*turn, *prompt_id, found);
                self.turn_ends(found);
                self.turn = None;
                let next = if *will_retry { Place::Queued } else { Place::Interrupted };
                self.expect(*prompt_id, Place::Running, next, found);
            }
            _ => {}
        }
    }

    /// Checks the agent's reports in a turn.
    pub(super) fn work(&mut self, event: &Event, found: &mut Vec<String>) {
        use EventKind::*;
        let incarnation = event.incarnation;
        match &event.kind {
            MessageChunk { turn, prompt_id, .. }
            | ThoughtChunk { turn, prompt_id, .. }
            | PlanUpdated { turn, prompt_id, .. } => {
                self.spoken_by(incarnation, found);
                self.calls_are_the_drivers(found);
                self.in_turn(*turn, *prompt_id, found);
            }
            ToolCallStarted { turn, prompt_id, tool_call_id, payload, .. }
            | ToolCallUpdated { turn, prompt_id, tool_call_id, payload } => {
                self.spoken_by(incarnation, found);
                self.in_turn(*turn, *prompt_id, found);
                let stands = if says_ended(payload) { Tool::Ended } else { Tool::Open };
                self.tool(event.id, tool_call_id, stands, found);
            }
            ToolCallInterrupted { turn, prompt_id, tool_call_id } => {
                self.in_turn(*turn, *prompt_id, found);
                if self.turn.as_ref().and_then(|turn| turn.tool(tool_call_id)) != Some(Tool::Open) {
                    found.push(format!("tool call {tool_call_id} is not open"));
                }
                self.tool(event.id, tool_call_id, Tool::Interrupted, found);
            }
            AgentUpdated { prompt_id, .. } => {
                self.spoken_by(incarnation, found);
                if let Some(prompt) = prompt_id {
                    self.in_turn(self.turns, *prompt, found);
                }
            }
            SettingChanged { setting_id, .. } | SettingRefused { setting_id, .. } => {
                self.spoken_by(incarnation, found);
                if !self.settings.insert(*setting_id) {
                    found.push(format!("setting {setting_id} was answered before"));
                }
            }
            UsageUpdated { .. } => self.spoken_by(incarnation, found),
            _ => {}
        }
    }

    /// Permissions: asked, answered, expired.
    pub(super) fn permissions(&mut self, event: &Event, found: &mut Vec<String>) {
        use EventKind::*;
        let incarnation = event.incarnation;
        match &event.kind {
            PermissionRequested { permission_id, turn, prompt_id, options, .. } => {
                self.spoken_by(incarnation, found);
                match (turn, prompt_id) {
                    (Some(turn), Some(prompt)) => self.in_turn(*turn, *prompt, found),
                    (None, None) => {}
                    other => found.push(format!("{permission_id} is asked in half a turn: {other:?}")),
                }
                if event.id != permission_id.0 {
                    found.push(format!("{permission_id} does not have its event's number"));
                }
                let offered = options.iter().map(|option| option.id.clone()).collect();
                let asked = Permission { prompt: *prompt_id, offered, ended: false };
                if self.permissions.insert(*permission_id, asked).is_some() {
                    found.push(format!("{permission_id} was asked before"));
                }
            }
            PermissionResolved { permission_id, option_id, .. } => {
                if let Some(asked) = self.permission_ends(*permission_id, found)
                    && !asked.offered.contains(option_id)
                {
                    found.push(format!("{permission_id} offers no {option_id}: {:?}", asked.offered));
                }
            }
            PermissionExpired { permission_id, .. } => {
                self.permission_ends(*permission_id, found);
            }
            _ => {}
        }
    }

    /// Clients that attach, drive, and are asked.
    pub(super) fn clients(&mut self, event: &Event, found: &mut Vec<String>) {
        use EventKind::*;
        let incarnation = event.incarnation;
        match &event.kind {
            CallRequested { call_id, turn, prompt_id, client_id, method, .. } => {
                self.spoken_by(incarnation, found);
                self.in_turn(*turn, *prompt_id, found);
                if event.id != call_id.0 {
                    found.push(format!("{call_id} does not have its event's number"));
                }
                if client_id.is_some() && *client_id != self.driver {
                    found.push(format!("{call_id} is for {client_id:?}, and {:?} drives", self.driver));
                }
                // Any driver can ask its user.
                let of = client_id.filter(|_| method != "elicitation/create");
                self.calls.insert(*call_id, Call { prompt: *prompt_id, of, ended: false });
            }
            CallAnswered { call_id } => {
                if self.driver.is_none() {
                    found.push(format!("{call_id} is answered, and nobody drives"));
                }
                let of = self.calls.get(call_id).and_then(|call| call.of);
                if of.is_some() && of != self.driver {
                    found.push(format!("{call_id} is for {of:?} and answered by {:?}", self.driver));
                }
                self.call_ends(*call_id, found);
            }
            CallExpired { call_id, .. } => self.call_ends(*call_id, found),
            ClientAttached { client_id, .. } => {
                if *client_id != event.id {
                    found.push(format!("client {client_id} came by event {}", event.id));
                }
                self.clients.insert(*client_id);
            }
            ClientDetached { client_id } => {
                let was_attached = self.clients.remove(client_id);
                if !was_attached {
                    found.push(format!("client {client_id} went and had not come"));
                }
            }
            DriverChanged { driver } => {
                if driver.is_some_and(|driver| !self.clients.contains(&driver)) {
                    found.push(format!("{driver:?} drives and is not attached"));
                }
                if *driver == self.driver {
                    found.push(format!("{driver:?} drove already"));
                }
                self.driver = *driver;
            }
            _ => {}
        }
    }
}
