//! The life of one prompt on the screen.

use std::time::Duration;

use protocol::event::{Decider, Event, EventKind, Outcome as Ended, RemovedBy};
use protocol::{PermissionId, PromptId, SessionId, Stream};
use tokio::time::{Instant, sleep_until};

use super::ended::completed;
use crate::cli::question;
use crate::cli::ui::Ui;
use crate::cli::ui::error::{Failure, Outcome, exit};
use crate::client::sse::Frame;
use crate::client::{ClientError, Events};
use crate::terminal_text::{Colours, Screen};

/// The time after which a waiting prompt is worth a note.
pub(super) const BRIEFLY: Duration = Duration::from_millis(400);
/// The longest silence before a person sees what kennel waits for.
pub(super) const SILENCE: Duration = Duration::from_secs(1);
/// The activity of a prompt whose turn runs.
pub(super) const RUNS: &str = "runs";

/// One prompt's life on the screen.
pub(super) struct View<'a> {
    ui: &'a Ui,
    pub(super) session: SessionId,
    pub(super) prompt: PromptId,
    out: Screen,
    err: Screen,
    /// The cursor of the terminal stands behind something.
    line_open: bool,
    /// The agent's text so far does not end with its line, and whether the agent did something else since.
    text_open: bool,
    is_apart: bool,
    /// A note, and the time at which to print it unless it has become untrue.
    held: Option<(Instant, String)>,
    /// The last note about a start that failed. It is printed once, however often kennel tries again.
    trouble: Option<String>,
    /// The agent's permission request, and the time at which to print it unless it has been answered.
    asked: Option<(Instant, PermissionId, String)>,
    /// The turn has ended, and its agent lives on.
    lingers: bool,
    /// The activity that kennel waits for, its start, the next update, and whether the last line shows it.
    doing: &'static str,
    since: Instant,
    next_tick: Instant,
    shown: bool,
    /// The time of the turn's last sign of work, and the time of the next note that there is none.
    sign: Option<(Instant, Instant)>,
}

/// The end of the prompt; none while the prompt runs or waits.
pub(super) type End = Option<Outcome>;

impl<'a> View<'a> {
    pub(super) fn new(ui: &'a Ui, session: SessionId, prompt: PromptId) -> Self {
        let screen = |colour| Screen::new(Colours::of_output(colour));
        let now = Instant::now();
        Self {
            ui,
            session,
            prompt,
            out: screen(ui.out_colour),
            err: screen(ui.err_colour),
            line_open: false,
            text_open: false,
            is_apart: false,
            held: None,
            trouble: None,
            asked: None,
            lingers: false,
            doing: "waits",
            since: now,
            next_tick: now + SILENCE,
            shown: false,
            sign: None,
        }
    }

    /// Waits until a note is due without another event.
    pub(super) async fn patience(&self) {
        let held = self.held.as_ref().map(|(until, _)| *until);
        let asked = self.asked.as_ref().map(|(until, ..)| *until);
        let next = held
            .into_iter()
            .chain(asked)
            .chain(self.sign.map(|(_, note_at)| note_at))
            .fold(self.next_tick, Instant::min);
        sleep_until(next).await;
    }

    pub(super) fn tick(&mut self) {
        let now = Instant::now();
        if self.asked.as_ref().is_some_and(|(until, ..)| *until <= now) {
            self.ask();
        }
        if let Some((since, _)) = self.sign.filter(|(_, note_at)| *note_at <= now) {
            self.sign = Some((since, now + crate::cli::events::QUIET));
            self.note(&crate::cli::events::quiet(since.elapsed(), None));
        }
        if self.held.as_ref().is_some_and(|(until, _)| *until <= now)
            && let Some((_, text)) = self.held.take()
        {
            self.note(&text);
        }
        if self.next_tick <= now {
            self.next_tick = now + SILENCE;
            if self.ui.err_is_terminal && !self.ui.quiet && !self.ui.json && !self.line_open {
                self.shown = true;
                self.ui.progress(&format!(
                    "{} {} … {}s",
                    self.prompt,
                    self.doing,
                    self.since.elapsed().as_secs()
                ));
            }
        }
    }

    /// Takes the progress line away, before anything else is printed.
    pub(super) fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            self.ui.clear_progress();
        }
        self.next_tick = Instant::now() + SILENCE;
    }

    pub(super) fn does(&mut self, doing: &'static str) {
        self.held = None;
        self.doing = doing;
        self.since = Instant::now();
    }

    pub(super) fn hold(&mut self, text: String) {
        self.held = Some((Instant::now() + BRIEFLY, text));
    }

    /// Returns what becomes of the prompt when nobody watches it, and the command that ends this prompt and no other.
    pub(super) fn left(&self) -> String {
        let Self { session, prompt, .. } = self;
        let (state, end) = match self.doing {
            RUNS => ("goes on", format!("`kennel abort {session} {prompt}` ends it")),
            _ => ("waits for its turn", format!("`kennel queue rm {session} {prompt}` removes it")),
        };
        format!("{prompt} {state}; `kennel events -f {session}` follows it, {end}")
    }

    /// Prints a note between the agent's lines.
    pub(super) fn note(&mut self, text: &str) {
        if self.ui.json {
            return;
        }
        self.clear();
        if self.ui.err_is_terminal && std::mem::take(&mut self.line_open) {
            self.ui.write_err("\n");
        }
        self.ui.note(text);
    }

    /// Says why nothing can begin, unless that was said last.
    pub(super) fn trouble(&mut self, text: String) {
        if self.trouble.as_ref() != Some(&text) {
            self.note(&text);
            self.trouble = Some(text);
        }
    }

    /// Leaves both outputs as they should be found.
    pub(super) fn close(&mut self) {
        self.clear();
        if self.ui.json {
            return;
        }
        if self.ui.out_is_terminal {
            let mut rest = self.out.end();
            if std::mem::take(&mut self.line_open) {
                rest.push('\n');
            }
            // The end of the stream is no place for errors of the terminal.
            let _ = self.ui.print(&rest);
        }
        if self.ui.err_is_terminal {
            let mut rest = self.err.end();
            if std::mem::take(&mut self.line_open) {
                rest.push('\n');
            }
            self.ui.write_err(&rest);
        }
    }

    pub(super) fn chunk(&mut self, stream: Stream, text: &str) -> Outcome {
        self.clear();
        if stream == Stream::Stdout && !text.is_empty() {
            let are_glued = self.text_open && !text.starts_with('\n');
            if std::mem::take(&mut self.is_apart) && are_glued {
                self.part()?;
            }
            self.text_open = !text.ends_with('\n');
        }
        let (screen, is_terminal) = match stream {
            Stream::Stdout => (&mut self.out, self.ui.out_is_terminal),
            Stream::Stderr => (&mut self.err, self.ui.err_is_terminal),
        };
        let shown = if is_terminal { screen.feed(text) } else { text.to_owned() };
        if is_terminal && !shown.is_empty() {
            self.line_open = !shown.ends_with('\n');
        }
        match (stream, is_terminal) {
            (Stream::Stdout, true) => self.ui.print(&shown),
            (Stream::Stdout, false) => self.ui.pass_on(&shown),
            (Stream::Stderr, true) => {
                self.ui.write_err(&shown);
                Ok(())
            }
            (Stream::Stderr, false) => {
                self.ui.write_err_raw(&shown);
                Ok(())
            }
        }
    }

    /// Ends a paragraph that the agent left open.
    fn part(&mut self) -> Outcome {
        match self.ui.out_is_terminal {
            false => self.ui.pass_on("\n\n"),
            true if std::mem::take(&mut self.line_open) => self.ui.print("\n"),
            true => Ok(()),
        }
    }

    pub(super) fn show(&mut self, frame: &Frame) -> Outcome<End> {
        if frame.event == "problem" {
            let problem = serde_json::from_str(&frame.data)
                .map_err(|error| Failure::from(ClientError::Garbage(error.to_string())))?;
            return Err(Failure::from(Box::<protocol::api::Problem>::new(problem)));
        }
        // An event of a later version's kind is not for this one.
        let Ok(event) = serde_json::from_str::<Event>(&frame.data) else {
            return Ok(None);
        };
        // A turn before this one that shows no sign of work keeps this one waiting.
        let stalls = matches!(event.kind, EventKind::SessionStalled { .. });
        if !stalls && event.kind.prompt().is_some_and(|prompt| prompt != self.prompt) {
            return Ok(None);
        }
        if self.ui.json {
            self.ui.object(frame.data.as_bytes())?;
        } else if let EventKind::MessageChunk { stream, text, .. } = &event.kind {
            self.chunk(*stream, text)?;
        }
        self.is_apart |= matches!(
            event.kind,
            EventKind::ToolCallStarted { .. }
                | EventKind::ThoughtChunk { .. }
                | EventKind::PermissionRequested { .. }
        );
        let asks =
            matches!(event.kind, EventKind::PermissionRequested { .. } | EventKind::CallRequested { .. });
        let now = Instant::now();
        self.sign = (self.doing == RUNS && !asks).then_some((now, now + crate::cli::events::QUIET));
        if !matches!(event.kind, EventKind::PermissionResolved { .. } | EventKind::PermissionExpired { .. }) {
            self.ask();
        }
        Ok(self.take(&event.kind))
    }

    /// Prints the agent's text that arrives just after the end of its turn. No event marks the last piece.
    pub(super) async fn linger(&mut self, events: &mut Events) -> Outcome {
        let end = Instant::now() + BRIEFLY;
        while self.lingers
            && let Ok(Ok(Some(frame))) = tokio::time::timeout_at(end, events.next()).await
        {
            let Ok(event) = serde_json::from_str::<Event>(&frame.data) else { continue };
            if matches!(event.kind, EventKind::PromptStarted { .. }) {
                break;
            }
            let text = event.kind.late_text();
            let asks = matches!(
                event.kind,
                EventKind::PermissionRequested { .. }
                    | EventKind::PermissionResolved { .. }
                    | EventKind::PermissionExpired { .. }
                    | EventKind::SystemMessage { .. }
            );
            match (self.ui.json, text) {
                (true, _) if asks || text.is_some() => self.ui.object(frame.data.as_bytes())?,
                (false, Some(text)) => self.chunk(Stream::Stdout, text)?,
                // A question between turns waits for an answer, too.
                _ if asks => drop(self.take(&event.kind)),
                _ => {}
            }
        }
        self.ask();
        Ok(())
    }

    /// Prints the agent's permission request, unless a policy has answered it.
    pub(super) fn ask(&mut self) {
        if let Some((_, id, title)) = self.asked.take() {
            self.note(&format!("the agent asks: {title}; `kennel permissions allow {id}` or `deny`"));
        }
    }

    /// Takes an event of this session or prompt. Returns how the prompt ended, if the event ends it.
    pub(super) fn take(&mut self, kind: &EventKind) -> End {
        let end = self.end(kind);
        if end.is_none() {
            self.note_event(kind);
        }
        end
    }

    /// Returns the prompt's outcome if this event ends the prompt.
    fn end(&mut self, kind: &EventKind) -> End {
        let (session, prompt) = (&self.session, self.prompt);
        let failure = match kind {
            EventKind::TurnInterrupted { reason, will_retry: false, .. } => {
                let what = format!(
                    "{prompt} was interrupted: {reason}. It is not repeated by itself, its tools may have had effects"
                );
                Failure::new(exit::CUT_OFF, "interrupted", what)
                    .hint(format!("`kennel resolve {prompt} --retry` sends it again"))
            }
            EventKind::TurnCompleted { outcome, stop_reason, exit, .. } => {
                // Only an agent that stays between prompts can send more.
                self.lingers = *outcome == Ended::Completed && exit.is_none();
                return Some(completed(prompt, *outcome, stop_reason, *exit));
            }
            EventKind::PromptRemoved { reason, .. } => {
                let why = match reason {
                    RemovedBy::Removed => "it was taken out of the queue",
                    RemovedBy::Cleared => "the queue was cleared",
                    RemovedBy::Stopped => "the session was stopped",
                };
                Failure::failed("removed", format!("{prompt} was not run: {why}"))
            }
            EventKind::SessionFailed { reason, .. } => {
                let what = format!("{session} has failed: {reason}. {prompt} waits");
                Failure::failed("session_failed", what)
                    .hint(format!("`kennel show {session}` says more; `kennel restart {session}` goes on"))
            }
            EventKind::SessionDeleted {} => Failure::failed("removed", format!("{session} was removed")),
            // `note_event` lists every kind.
            _ => return None,
        };
        Some(Err(failure))
    }

    /// Prints a note about an event that does not end the prompt.
    fn note_event(&mut self, kind: &EventKind) {
        let (session, prompt) = (self.session.clone(), self.prompt);
        match kind {
            EventKind::PromptQueued { position, .. } => {
                self.hold(crate::cli::events::queued(prompt, *position));
            }
            EventKind::PromptStarted { .. } => self.does(RUNS),
            EventKind::PromptEdited { .. } => self.note(&format!("{prompt} was edited")),
            EventKind::SessionRestarting { reason, old_pid, .. } => {
                self.trouble(crate::cli::events::restarting(&session, reason, *old_pid));
            }
            EventKind::SessionReady { .. } | EventKind::TurnStarted { .. } => self.trouble = None,
            EventKind::SessionRestarted { new_pid, restore, .. } => {
                self.note(&format!("{session} is back with pid {new_pid}; the agent's memory: {restore}"));
            }
            EventKind::SystemMessage { text } => self.note(text),
            EventKind::SessionStalled { step, quiet_ms, .. } => {
                self.note(&crate::event_text::stalled(*step, *quiet_ms));
            }
            EventKind::SessionOomKilled { peak_bytes, limit_bytes, by } => {
                self.note(&crate::event_text::out_of_memory(*peak_bytes, *limit_bytes, *by));
            }
            EventKind::ToolCallStarted { title, .. } => self.note(&format!("tool: {title}")),
            EventKind::TurnInterrupted { reason, will_retry, .. } => {
                if *will_retry {
                    self.trouble(format!("the turn was cut off ({reason}); it is tried again"));
                    self.does("waits");
                }
            }
            EventKind::PermissionRequested { .. }
            | EventKind::PermissionResolved { .. }
            | EventKind::PermissionExpired { .. }
            | EventKind::CallRequested { .. } => self.question(kind),
            EventKind::MessageChunk { .. }
            | EventKind::TurnCompleted { .. }
            | EventKind::PromptRemoved { .. }
            | EventKind::SessionFailed { .. }
            | EventKind::SessionDeleted {}
            | EventKind::CallAnswered { .. }
            | EventKind::CallExpired { .. }
            | EventKind::PromptAccepted { .. }
            | EventKind::PromptResolved { .. }
            | EventKind::SessionCreated { .. }
            | EventKind::SessionStarted { .. }
            | EventKind::SessionHibernated {}
            | EventKind::SettingChanged { .. }
            | EventKind::SettingRefused { .. }
            | EventKind::SessionAdopted { .. }
            | EventKind::SessionWoken {}
            | EventKind::SessionStopped { .. }
            | EventKind::SessionUpdated { .. }
            | EventKind::ThoughtChunk { .. }
            | EventKind::ClientAttached { .. }
            | EventKind::ClientDetached { .. }
            | EventKind::DriverChanged { .. }
            | EventKind::ToolCallUpdated { .. }
            | EventKind::ToolCallInterrupted { .. }
            | EventKind::PlanUpdated { .. }
            | EventKind::UsageUpdated { .. }
            | EventKind::AgentUpdated { .. }
            | EventKind::SubagentStarted { .. }
            | EventKind::SubagentCompleted { .. }
            | EventKind::SubagentLost { .. }
            | EventKind::AccessRefused(_)
            | EventKind::ManagerStarted { .. }
            | EventKind::ManagerStopping {} => {}
        }
    }

    /// Takes what the agent asks and how the question ended.
    fn question(&mut self, kind: &EventKind) {
        match kind {
            EventKind::PermissionRequested { permission_id, title, payload, .. } => {
                // A policy answers with the same commit.
                self.asked =
                    Some((Instant::now() + BRIEFLY, *permission_id, question::of_event(title, payload)));
            }
            EventKind::PermissionResolved { permission_id, option_id, by } => {
                let unseen = self.asked.take_if(|(_, id, _)| id == permission_id);
                if let (Some((_, id, title)), Decider::Policy) = (unseen, by) {
                    self.note(&format!(
                        "{id}: the agent asked: {title}: {option_id}, by the session's policy"
                    ));
                }
            }
            EventKind::PermissionExpired { permission_id, reason } => {
                if let Some((_, _, title)) = self.asked.take_if(|(_, id, _)| id == permission_id) {
                    self.note(&format!("the agent asked: {title}"));
                }
                self.note(&format!("{permission_id} expired: {reason}"));
            }
            EventKind::CallRequested { method, payload, .. } => {
                if let Some(what) = crate::cli::events::asked_of_user(method, payload) {
                    self.note(&what);
                }
            }
            // `end` lists the rest.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[test]
    fn the_form_of_another_prompt_is_not_shown() {
        let ui = Ui::new(&crate::cli::args::Cli::parse_from(["kennel", "--json", "ls"]).global);
        let mut view = View::new(&ui, "session-1".parse().unwrap(), PromptId(1));
        let data = r#"{"id":9,"at":"2026-01-31T12:00:00.000Z","session":"session-1","incarnation":1,"type":"call.requested",
            "data":{"call_id":"call-9","prompt_id":"prompt-2","turn":2,"client_id":null,"method":"elicitation/create","payload":{}}}"#;
        let event = serde_json::from_str::<Event>(data).unwrap();
        assert_eq!(event.kind.prompt(), Some(PromptId(2)));
        // Shown, it would end the wait for a sign of work.
        view.doing = RUNS;
        let sign = (Instant::now(), Instant::now() + BRIEFLY);
        view.sign = Some(sign);
        let frame = Frame { id: Some(9), event: "call.requested".into(), data: data.into() };
        assert!(view.show(&frame).unwrap().is_none());
        assert_eq!(view.sign, Some(sign));
    }
}
