//! Events of the session, shown as they come.

use protocol::api::{ClientInfo, Role};
use protocol::event::{Event, EventKind, Outcome as Ended};
use protocol::{EventId, Stream};
use tokio::time::Instant;

use super::view::{Standing, View};
use crate::attachments;
use crate::cli::events;
use crate::cli::question;
use crate::cli::send;
use crate::cli::ui::error::{Failure, Outcome};
use crate::cli::ui::render;
use crate::client::ClientError;
use crate::client::sse::Frame;

impl<'a> View<'a> {
    /// Shows what happened. Returns whether the session is gone.
    pub fn show(&mut self, frame: &Frame) -> Outcome<bool> {
        match frame.event.as_str() {
            "problem" => {
                let problem = serde_json::from_str(&frame.data)
                    .map_err(|error| Failure::from(ClientError::Garbage(error.to_string())))?;
                return Err(Failure::from(Box::<protocol::api::Problem>::new(problem)));
            }
            "gap" => {
                match &mut self.chat {
                    None => events::show_gap(self.ui, &frame.data)?,
                    Some(chat) => chat.note(self.newest, "events before this were pruned"),
                }
                return Ok(false);
            }
            "attached" => {
                self.lost = false;
                self.client = serde_json::from_str::<ClientInfo>(&frame.data).ok().map(|info| info.client_id);
                self.drives = self.role == Role::Driver;
                self.live = false;
                return Ok(false);
            }
            _ => {}
        }
        self.newest = frame.id.unwrap_or(self.newest);
        if self.ui.json {
            self.ui.object(frame.data.as_bytes())?;
        }
        // An event of a later version's kind is not for this one.
        let Ok(event) = serde_json::from_str::<Event>(&frame.data) else { return Ok(false) };
        self.know(&event.kind);
        self.signs(&event.kind);
        if let Some(chat) = &mut self.chat {
            chat.news(&event, frame.data.len());
        }
        let gone = matches!(event.kind, EventKind::SessionDeleted {});
        if !matches!(event.kind, EventKind::PermissionResolved { .. }) {
            self.show_due();
        }
        self.take(event.kind)?;
        Ok(gone)
    }

    /// Keeps the session's state that an event reports.
    pub(super) fn know(&mut self, kind: &EventKind) {
        match kind {
            EventKind::SessionCreated { name, .. } | EventKind::SessionUpdated { name, .. } => {
                self.called = render::session(&self.session, name.as_ref());
            }
            EventKind::PromptAccepted { prompt_id, .. } => {
                self.prompts.insert(*prompt_id);
            }
            EventKind::PromptStarted { prompt_id } => self.running = Some(*prompt_id),
            // Ctrl-C ends the wait for the next try too.
            EventKind::TurnInterrupted { will_retry: true, .. } => {}
            EventKind::TurnInterrupted { prompt_id, .. } | EventKind::TurnCompleted { prompt_id, .. } => {
                self.running = None;
                self.prompts.remove(prompt_id);
                if matches!(kind, EventKind::TurnInterrupted { .. }) {
                    let text = self.chat.as_ref().and_then(|chat| chat.begun_text(*prompt_id));
                    self.interrupted.entry(*prompt_id).or_insert(text);
                }
            }
            EventKind::PromptResolved { prompt_id, .. } => drop(self.interrupted.remove(prompt_id)),
            EventKind::PromptRemoved { prompt_id, .. } => {
                self.running.take_if(|running| running == prompt_id);
                self.prompts.remove(prompt_id);
            }
            EventKind::SessionStopped { .. } => self.standing = Standing::Stopped,
            EventKind::SessionFailed { reason, .. } => self.standing = Standing::Failed(reason.clone()),
            EventKind::SessionStarted { .. }
            | EventKind::SessionReady { .. }
            | EventKind::SessionRestarting { .. }
            | EventKind::SessionWoken {} => self.standing = Standing::Up,
            _ => {}
        }
        self.moving = match kind {
            EventKind::SessionStarted { .. } | EventKind::SessionWoken {} => Some("starting"),
            EventKind::SessionRestarting { .. } => Some("restarting"),
            EventKind::SessionHibernated {} => Some("hibernated"),
            EventKind::SessionReady { .. }
            | EventKind::SessionAdopted { .. }
            | EventKind::SessionStopped { .. }
            | EventKind::SessionFailed { .. } => None,
            _ => self.moving,
        };
        match kind {
            EventKind::ClientAttached { client_id, name, role, .. } => {
                self.clients.insert(*client_id, (name.clone(), *role));
            }
            EventKind::ClientDetached { client_id } => drop(self.clients.remove(client_id)),
            EventKind::DriverChanged { driver } => {
                for (client, (_, role)) in &mut self.clients {
                    *role = if Some(*client) == *driver { Role::Driver } else { Role::Viewer };
                }
            }
            _ => {}
        }
    }

    /// Keeps when a turn last showed something, and which tools it uses.
    pub(super) fn signs(&mut self, kind: &EventKind) {
        match kind {
            EventKind::ToolCallStarted { tool_call_id, title, .. } => {
                self.tools.insert(tool_call_id.clone(), title.clone());
            }
            EventKind::ToolCallUpdated { tool_call_id, payload, .. }
                if matches!(payload["status"].as_str(), Some("completed" | "failed")) =>
            {
                self.tools.remove(tool_call_id);
            }
            EventKind::PromptStarted { .. }
            | EventKind::TurnCompleted { .. }
            | EventKind::TurnInterrupted { .. } => {
                self.tools.clear();
            }
            _ => {}
        }
        let now = Instant::now();
        self.sign = self.running.map(|_| (now, now + events::QUIET));
    }

    /// When the next thing is to be shown that no event brings.
    pub fn next(&self) -> Option<Instant> {
        let quiet = self.sign.filter(|_| self.live && self.open.is_empty() && self.forms.is_empty());
        self.due.into_iter().chain(quiet.map(|(_, note_at)| note_at)).min()
    }

    /// Shows what no event brings: permissions that no policy has answered, and what a quiet turn waits for.
    pub fn tick(&mut self) {
        let now = Instant::now();
        if self.due.is_some_and(|due| due <= now) {
            self.show_due();
        }
        if let Some((since, note_at)) = self.sign
            && note_at <= now
        {
            self.sign = Some((since, now + events::QUIET));
            let tool = self.tools.values().next_back().cloned();
            self.note(&events::quiet(since.elapsed(), tool.as_deref()));
        }
    }

    pub(super) fn take(&mut self, kind: EventKind) -> Outcome {
        if let Some(text) = kind.late_text() {
            return self.chunk(Stream::Stdout, text);
        }
        match kind {
            EventKind::PromptAccepted { prompt_id, text, attachments, .. } => {
                let text = attachments::told(&text, attachments.iter().map(|it| &*it.name));
                self.texts.insert(prompt_id, text);
            }
            EventKind::PromptEdited { prompt_id, text } => {
                self.texts.insert(prompt_id, text);
            }
            EventKind::PromptQueued { prompt_id, position } => {
                self.tell(&events::queued(prompt_id, position));
            }
            EventKind::PromptStarted { prompt_id } => {
                let text = self.texts.remove(&prompt_id).unwrap_or_default();
                self.break_line()?;
                let shown =
                    render::paint(&format!("> {}", render::block(&text)), render::BOLD, self.ui.out_colour);
                self.print(&format!("{shown}\n"))?;
            }
            EventKind::MessageChunk { stream, text, .. } => self.chunk(stream, &text)?,
            EventKind::ToolCallStarted { title, .. } => self.tell(&format!("tool: {title}")),
            EventKind::ToolCallInterrupted { tool_call_id, .. } => {
                self.tell(&format!("tool call {tool_call_id} was cut off"));
            }
            EventKind::PermissionRequested { permission_id, title, options, payload, .. } => {
                self.permission(permission_id, question::of_event(&title, &payload), options);
            }
            EventKind::PermissionResolved { permission_id, option_id, by } => {
                self.permission_ended(permission_id, &option_id, by);
            }
            EventKind::PermissionExpired { permission_id, reason } => {
                self.permission_expired(permission_id, &reason);
            }
            EventKind::CallRequested { call_id, method, payload, .. } => {
                self.form(call_id, &method, &payload)
            }
            EventKind::CallAnswered { call_id } => self.form_ended(call_id, "it was answered"),
            EventKind::CallExpired { call_id, reason } => self.form_ended(call_id, &reason),
            EventKind::ClientAttached { client_id, .. } if self.client == Some(client_id) => {
                (self.live, self.comes_up) = (true, true);
            }
            // Before this client came, others drove: it knows by its own coming whether it drives now.
            EventKind::DriverChanged { driver } if self.live => self.driver(driver),
            other => self.ended(other)?,
        }
        Ok(())
    }

    pub(super) fn chunk(&mut self, stream: Stream, text: &str) -> Outcome {
        if self.chat.is_some() {
            return Ok(());
        }
        let shown = self.out.feed(text);
        if stream == Stream::Stdout || !shown.trim().is_empty() {
            self.line_open =
                !shown.is_empty() && !shown.ends_with('\n') || shown.is_empty() && self.line_open;
            self.print(&shown)?;
        }
        Ok(())
    }

    pub(super) fn driver(&mut self, driver: Option<EventId>) {
        self.drives = driver == self.client;
        if !self.drives {
            self.forms.clear();
        }
        match driver {
            _ if self.drives => {}
            Some(_) => self.note("somebody else drives now; you look on"),
            None if self.wanted == Role::Driver => self.note(
                "nobody drives now; what you type is sent, and you drive, unless somebody else comes before",
            ),
            None => self.note("nobody drives now"),
        }
    }

    /// Prints the ends of turns, processes and sessions.
    pub(super) fn ended(&mut self, kind: EventKind) -> Outcome {
        match kind {
            EventKind::TurnCompleted { outcome: Ended::Completed, stop_reason, exit, .. } => {
                self.break_line()?;
                if let Some(exit) = exit.filter(|exit| !exit.is_success()) {
                    self.tell(&format!("the agent failed: {exit}"));
                } else if let Some((_, early)) = send::early(&stop_reason) {
                    self.tell(early);
                } else if stop_reason != "end_turn" {
                    self.tell(&format!("the turn ended: {stop_reason}"));
                }
            }
            EventKind::TurnCompleted { .. } => self.tell("the turn was aborted"),
            EventKind::TurnInterrupted { prompt_id, reason, will_retry, .. } => {
                let next = match will_retry {
                    true => "it is tried again".to_owned(),
                    false => format!("`kennel resolve {prompt_id} --retry` sends it again"),
                };
                self.trouble(format!("the turn was cut off: {reason}; {next}"));
            }
            EventKind::SessionRestarting { reason, old_pid, .. } => {
                self.trouble(events::restarting(&self.called, &reason, old_pid));
            }
            EventKind::SessionReady { .. } | EventKind::TurnStarted { .. } => self.trouble = None,
            EventKind::SessionRestarted { restore, .. } => {
                self.tell(&format!("the session is back; the agent's memory: {restore}"));
            }
            EventKind::SessionStopped { .. } => self.tell("the session was stopped"),
            EventKind::SessionFailed { reason, .. } => {
                let what = format!(
                    "the session has failed: {reason}; `kennel restart {}` tries again",
                    self.session
                );
                self.tell(&what);
            }
            EventKind::SessionDeleted {} => self.tell("the session was removed"),
            EventKind::SystemMessage { text } => self.tell(&text),
            // The rest is for `kennel events`.
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::ui::Ui;

    fn frame(id: Option<u64>, event: &str, data: &str) -> Frame {
        let whole = format!(
            r#"{{"id":{},"at":"2026-01-31T12:00:00.000Z","session":"session-1","incarnation":1,"type":"{event}","data":{data}}}"#,
            id.unwrap_or_default()
        );
        let data = if id.is_some() { whole } else { data.to_owned() };
        Frame { id, event: event.into(), data }
    }

    #[test]
    fn who_drove_before_this_client_came_is_history() {
        let ui = Ui::new(&crate::cli::args::Cli::parse_from(["kennel", "--quiet", "ls"]).global);
        let mut view = View::new(&ui, "session-1".parse().unwrap(), Role::Driver);
        let mut show = |frame: Frame| {
            view.show(&frame).unwrap();
            (view.live, view.drives)
        };
        let attached = r#"{"client_id":9,"name":"x","role":"driver"}"#;
        assert_eq!(show(frame(None, "attached", attached)), (false, true));
        let changed = |driver: &str| format!(r#"{{"driver":{driver}}}"#);
        assert_eq!(show(frame(Some(7), "driver.changed", &changed("3"))), (false, true));
        assert_eq!(show(frame(Some(8), "driver.changed", &changed("null"))), (false, true));
        assert_eq!(show(frame(Some(9), "client.attached", attached)), (true, true));
        assert_eq!(show(frame(Some(10), "driver.changed", &changed("9"))), (true, true));
        assert_eq!(show(frame(Some(11), "driver.changed", &changed("12"))), (true, false));
    }

    #[test]
    fn a_permission_that_was_answered_while_somebody_came_is_told_with_its_question() {
        let ui = Ui::new(&crate::cli::args::Cli::parse_from(["kennel", "--quiet", "ls"]).global);
        let mut view = View::new(&ui, "session-1".parse().unwrap(), Role::Driver);
        let attached = r#"{"client_id":9,"name":"x","role":"driver"}"#;
        let asked = r#"{"permission_id":"permission-5","tool_call_id":"t","title":"may I?","options":[],"payload":{}}"#;
        for frame in [
            frame(None, "attached", attached),
            frame(Some(5), "permission.requested", asked),
            frame(Some(9), "client.attached", attached),
        ] {
            view.show(&frame).unwrap();
        }
        // The daemon says that nothing waits any more, before the event that tells of the answer is shown.
        view.permissions(Vec::new());
        assert_eq!(view.asked().count(), 0);
        let known = view.take_permission(protocol::PermissionId(5));
        assert_eq!(known.map(|asked| asked.title).as_deref(), Some("may I?"));
    }
}
