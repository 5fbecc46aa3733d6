//! `send`: a prompt, and what becomes of it until it ends.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use protocol::api::{Accepted, AttachmentRequest, PromptRequest};
use protocol::event::{Decider, Event, EventKind, Outcome as Ended, RemovedBy};
use protocol::{EventId, PermissionId, PromptId, SessionId, Stream};
use tokio::time::{Instant, sleep_until};

use super::args;
use super::link::{Link, read};
use super::signals::interrupted;
use super::ui::Ui;
use crate::attachments::MAX_ATTACHED;
use crate::cli::ui::error::{Failure, Outcome, exit};
use crate::cli::ui::render;
use crate::cli::ui::sgr::{Colours, Screen};
use crate::client::sse::Frame;
use crate::client::{ClientError, Events, Request};
use crate::session_manager::MAX_PROMPT;

/// How long a prompt waits before it is worth a line that it does.
const BRIEFLY: Duration = Duration::from_millis(400);
/// How long a silence may be until a person is told what is waited for.
const SILENCE: Duration = Duration::from_secs(1);

/// What a prompt does whose turn runs.
const RUNS: &str = "runs";

/// `send`.
pub async fn send(link: &Link<'_>, args: args::Send) -> Outcome {
    // Nothing need be said of a picture.
    let silent = args.text.is_empty() && !args.files.is_empty() && io::stdin().is_terminal();
    let text = if silent { String::new() } else { text(args.text)? };
    let attachments = args.files.iter().map(|path| attachment(path)).collect::<Outcome<Vec<_>>>()?;
    let key = match args.key {
        Some(key) => key,
        None => super::sessions::random_key()?,
    };
    let id = link.find(&args.id).await?;
    let prompt = PromptRequest { text, when_busy: args.when_busy, attachments };
    let request = Request::post(format!("/v1/sessions/{id}/prompts")).key(&key).json(&prompt);
    let answer = link.ui.waiting("sending", link.ask(request)).await?;
    let accepted: Accepted = read(&answer)?;
    if !args.no_wait {
        return follow(link, &accepted.session_id, accepted.prompt_id, accepted.event_id).await;
    }
    if link.ui.json { link.ui.object(&answer) } else { link.ui.line(&accepted.prompt_id.to_string()) }
}

/// A prompt's text from the command line, or from standard input.
pub fn text(words: Vec<String>) -> Outcome<String> {
    let from_stdin = match &words[..] {
        [] if io::stdin().is_terminal() => {
            return Err(
                Failure::usage("the prompt is missing").hint("give it as words, or on standard input")
            );
        }
        [] => true,
        [one] => one == "-",
        _ => false,
    };
    if !from_stdin {
        return Ok(words.join(" "));
    }
    let mut bytes = Vec::new();
    let read = io::stdin().lock().take(MAX_PROMPT as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|error| Failure::failed("input", format!("cannot read standard input: {error}")))?;
    if bytes.len() > MAX_PROMPT {
        let what = format!("the prompt has more than {MAX_PROMPT} bytes; it was not sent");
        return Err(Failure::new(exit::USAGE, "prompt_too_large", what)
            .hint("put long input into a file and name the file in the prompt"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Failure::new(
            exit::USAGE,
            "invalid_utf8",
            format!("the prompt is not UTF-8 (byte {at}); it was not sent"),
        )
    })
}

/// A file that goes with the prompt, as it is now.
fn attachment(path: &Path) -> Outcome<AttachmentRequest> {
    let failed = |error: io::Error| {
        let what = format!("cannot read {}: {error}; nothing was sent", path.display());
        Failure::new(exit::USAGE, "unreadable_file", what)
    };
    let too_large = || {
        let what = format!(
            "{} has more than {MAX_ATTACHED} bytes, which is what all attachments may have; nothing was sent",
            path.display()
        );
        Failure::new(exit::USAGE, "attachments_too_large", what)
            .hint("put it where the agent can read it, and name it in the prompt")
    };
    // One that never ends, such as a device, is not read to the end.
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_ATTACHED as u64 + 1).read_to_end(&mut bytes))
        .map_err(failed)?;
    if bytes.len() > MAX_ATTACHED {
        return Err(too_large());
    }
    let absolute = std::path::absolute(path).map_err(failed)?;
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    let (text, data) = match String::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => (Some(text), None),
        Ok(text) => (None, Some(STANDARD.encode(text))),
        Err(error) => (None, Some(STANDARD.encode(error.into_bytes()))),
    };
    Ok(AttachmentRequest {
        name: name.replace(char::is_control, "_"),
        mime_type: None,
        uri: Some(file_uri(&absolute)),
        text,
        data,
    })
}

/// A file's URI (RFC 8089).
fn file_uri(path: &Path) -> String {
    let mut uri = "file://".to_owned();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'.' | b'_' | b'~' => {
                uri.push(char::from(*byte))
            }
            other => uri.push_str(&format!("%{other:02X}")),
        }
    }
    uri
}

/// Prints what an accepted prompt's turn says, until the prompt has ended. Ctrl-C ends the stream, not the prompt.
pub async fn follow(link: &Link<'_>, session: &SessionId, prompt: PromptId, after: EventId) -> Outcome {
    let mut view = View::new(link.ui, session.clone(), prompt);
    let ended = tokio::select! {
        ended = stream(link, &mut view, after) => ended,
        () = interrupted() => {
            view.close();
            link.ui.tell("\n");
            link.ui.note(&format!(
                "{prompt} goes on; `kennel events -f {session}` follows it, `kennel abort {session}` ends it"
            ));
            return Err(Failure::Told(exit::INTERRUPTED));
        }
    };
    view.close();
    ended
}

async fn stream(link: &Link<'_>, view: &mut View<'_>, mut after: EventId) -> Outcome {
    loop {
        view.clear();
        let mut events = link.events(&format!("/v1/sessions/{}/events?after={after}", view.session)).await?;
        loop {
            let next = tokio::select! {
                next = events.next() => next,
                () = view.patience() => {
                    view.tick();
                    continue;
                }
            };
            match next {
                Ok(Some(frame)) => {
                    if let Some(ended) = view.show(&frame)? {
                        view.linger(&mut events).await?;
                        return ended;
                    }
                    after = frame.id.unwrap_or(after);
                }
                // The daemon ends its streams when it is stopped on purpose; that purpose is not to be thwarted.
                Ok(None) if link.comes_back().await => break,
                Ok(None) => {
                    let what = format!("the daemon was stopped; {} has not ended", view.prompt);
                    return Err(Failure::unreachable(what).hint(format!(
                        "`kennel events {}` starts it again and tells what became of it",
                        view.session
                    )));
                }
                Err(ClientError::Lost(_)) => {
                    view.note("the daemon went away; going on with the next");
                    break;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// One prompt's life on the screen.
struct View<'a> {
    ui: &'a Ui,
    session: SessionId,
    prompt: PromptId,
    out: Screen,
    err: Screen,
    /// The cursor of the terminal stands behind something.
    line_open: bool,
    /// Said if it is still true after a moment.
    held: Option<(Instant, String)>,
    /// What the agent wants to be allowed; said if it still waits after a moment.
    asked: Option<(Instant, PermissionId, String)>,
    /// The turn has ended, and its agent lives on.
    lingers: bool,
    /// What is waited for, since when, and whether the last line says so.
    doing: &'static str,
    since: Instant,
    next_tick: Instant,
    shown: bool,
    /// When its turn last showed something, and when it is told that it shows nothing.
    sign: Option<(Instant, Instant)>,
}

/// How the prompt has ended, if it has.
type End = Option<Outcome>;

impl<'a> View<'a> {
    fn new(ui: &'a Ui, session: SessionId, prompt: PromptId) -> Self {
        let screen = |colour| Screen::new(Colours::of_output(colour));
        let now = Instant::now();
        Self {
            ui,
            session,
            prompt,
            out: screen(ui.out_colour),
            err: screen(ui.err_colour),
            line_open: false,
            held: None,
            asked: None,
            lingers: false,
            doing: "waits",
            since: now,
            next_tick: now + SILENCE,
            shown: false,
            sign: None,
        }
    }

    /// Until there is something to be said without having heard anything.
    async fn patience(&self) {
        let held = self.held.as_ref().map(|(until, _)| *until);
        let asked = self.asked.as_ref().map(|(until, ..)| *until);
        let next = held
            .into_iter()
            .chain(asked)
            .chain(self.sign.map(|(_, told)| told))
            .fold(self.next_tick, Instant::min);
        sleep_until(next).await;
    }

    fn tick(&mut self) {
        let now = Instant::now();
        if self.asked.as_ref().is_some_and(|(until, ..)| *until <= now) {
            self.ask();
        }
        if let Some((since, _)) = self.sign.filter(|(_, told)| *told <= now) {
            self.sign = Some((since, now + super::events::QUIET));
            self.note(&super::events::quiet(since.elapsed(), None));
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
    fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            self.ui.clear_progress();
        }
        self.next_tick = Instant::now() + SILENCE;
    }

    fn does(&mut self, doing: &'static str) {
        self.held = None;
        self.doing = doing;
        self.since = Instant::now();
    }

    fn hold(&mut self, text: String) {
        self.held = Some((Instant::now() + BRIEFLY, text));
    }

    /// Says something between the agent's lines.
    fn note(&mut self, text: &str) {
        if self.ui.json {
            return;
        }
        self.clear();
        if self.ui.err_is_terminal && std::mem::take(&mut self.line_open) {
            self.ui.tell("\n");
        }
        self.ui.note(text);
    }

    /// Leaves both outputs as they should be found.
    fn close(&mut self) {
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
            self.ui.tell(&rest);
        }
    }

    fn chunk(&mut self, stream: Stream, text: &str) -> Outcome {
        self.clear();
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
                self.ui.tell(&shown);
                Ok(())
            }
            (Stream::Stderr, false) => {
                self.ui.tell_on(&shown);
                Ok(())
            }
        }
    }

    fn show(&mut self, frame: &Frame) -> Outcome<End> {
        if frame.event == "problem" {
            let problem = serde_json::from_str(&frame.data)
                .map_err(|error| Failure::from(ClientError::Garbage(error.to_string())))?;
            return Err(Failure::from(Box::<protocol::api::Problem>::new(problem)));
        }
        // An event of a later version's kind is not for this one.
        let Ok(event) = serde_json::from_str::<Event>(&frame.data) else {
            return Ok(None);
        };
        if prompt_of(&event.kind).is_some_and(|prompt| prompt != self.prompt) {
            return Ok(None);
        }
        if self.ui.json {
            self.ui.object(frame.data.as_bytes())?;
        } else if let EventKind::MessageChunk { stream, text, .. } = &event.kind {
            self.chunk(*stream, text)?;
        }
        let asks =
            matches!(event.kind, EventKind::PermissionRequested { .. } | EventKind::CallRequested { .. });
        let now = Instant::now();
        self.sign = (self.doing == RUNS && !asks).then_some((now, now + super::events::QUIET));
        if !matches!(event.kind, EventKind::PermissionResolved { .. } | EventKind::PermissionExpired { .. }) {
            self.ask();
        }
        Ok(self.heard(&event.kind))
    }

    /// Prints what the agent says just after the end of its turn. Nobody tells when that is all.
    async fn linger(&mut self, events: &mut Events) -> Outcome {
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
                // What it asks between turns waits for somebody, too.
                _ if asks => drop(self.heard(&event.kind)),
                _ => {}
            }
        }
        self.ask();
        Ok(())
    }

    /// Says what the agent wants to be allowed, unless a policy has answered.
    fn ask(&mut self) {
        if let Some((_, id, title)) = self.asked.take() {
            self.note(&format!("the agent asks: {title}; `kennel permissions allow {id}` or `deny`"));
        }
    }

    fn heard(&mut self, kind: &EventKind) -> End {
        let (session, prompt) = (self.session.clone(), self.prompt);
        match kind {
            EventKind::PromptQueued { position: 0, .. } => {
                self.hold(format!("{prompt} waits; it is the next"))
            }
            EventKind::PromptQueued { position, .. } => {
                self.hold(format!("{prompt} is queued behind {position} others"))
            }
            EventKind::PromptStarted { .. } => self.does(RUNS),
            EventKind::PromptEdited { .. } => self.note(&format!("{prompt} was edited")),
            EventKind::SessionRestarting { reason, old_pid, .. } => {
                let pid = old_pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
                self.note(&format!("{session}: {reason}{pid}; restarting"));
            }
            EventKind::SessionRestarted { new_pid, restore, .. } => {
                self.note(&format!("{session} is back with pid {new_pid}; the agent's memory: {restore}"));
            }
            EventKind::SystemMessage { text } => self.note(text),
            EventKind::SessionStalled { step, quiet_ms, .. } => {
                self.note(&super::events::stalled(*step, *quiet_ms));
            }
            EventKind::SessionOomKilled { peak_bytes, limit_bytes, by } => {
                self.note(&render::out_of_memory(*peak_bytes, *limit_bytes, *by));
            }
            EventKind::ToolCallStarted { title, .. } => self.note(&format!("tool: {title}")),
            EventKind::PermissionRequested { permission_id, title, .. } => {
                // A policy answers with the same commit.
                self.asked = Some((Instant::now() + BRIEFLY, *permission_id, title.clone()));
            }
            EventKind::PermissionResolved { permission_id, option_id, by: Decider::Policy } => {
                if let Some((_, id, title)) = self.asked.take_if(|(_, id, _)| id == permission_id) {
                    self.note(&format!(
                        "{id}: the agent asked: {title}: {option_id}, by the session's policy"
                    ));
                }
            }
            EventKind::PermissionResolved { permission_id, .. } => {
                self.asked.take_if(|(_, id, _)| id == permission_id);
            }
            EventKind::CallRequested { method, payload, .. } => {
                if let Some(what) = super::events::asked_of_user(method, payload) {
                    self.note(&what);
                }
            }
            EventKind::PermissionExpired { permission_id, reason } => {
                if let Some((_, _, title)) = self.asked.take_if(|(_, id, _)| id == permission_id) {
                    self.note(&format!("the agent asked: {title}"));
                }
                self.note(&format!("{permission_id} expired: {reason}"));
            }
            EventKind::TurnInterrupted { reason, will_retry: true, .. } => {
                self.note(&format!("the turn was cut off ({reason}); it is tried again"));
                self.does("waits");
            }
            EventKind::TurnInterrupted { reason, will_retry: false, .. } => {
                let what = format!(
                    "{prompt} was interrupted: {reason}. It is not repeated by itself, its tools may have had effects"
                );
                return Some(Err(Failure::failed("interrupted", what)
                    .hint(format!("`kennel resolve {prompt} --retry` sends it again"))));
            }
            EventKind::TurnCompleted { outcome, stop_reason, exit, .. } => {
                // Only an agent that lives on can say more.
                self.lingers = *outcome == Ended::Completed && exit.is_none();
                return Some(completed(prompt, *outcome, stop_reason, *exit));
            }
            EventKind::PromptRemoved { reason, .. } => {
                let why = match reason {
                    RemovedBy::Removed => "it was taken out of the queue",
                    RemovedBy::Cleared => "the queue was cleared",
                    RemovedBy::Stopped => "the session was stopped",
                };
                return Some(Err(Failure::failed("removed", format!("{prompt} was not run: {why}"))));
            }
            EventKind::SessionFailed { reason, .. } => {
                let what = format!("{session} has failed: {reason}. {prompt} waits");
                return Some(Err(Failure::failed("session_failed", what).hint(format!(
                    "`kennel logs {session}` shows why; `kennel restart {session}` goes on"
                ))));
            }
            EventKind::SessionDeleted {} => {
                return Some(Err(Failure::failed("removed", format!("{session} was removed"))));
            }
            EventKind::MessageChunk { .. }
            | EventKind::CallAnswered { .. }
            | EventKind::CallExpired { .. }
            | EventKind::PromptAccepted { .. }
            | EventKind::PromptResolved { .. }
            | EventKind::TurnStarted { .. }
            | EventKind::SessionCreated { .. }
            | EventKind::SessionStarted { .. }
            | EventKind::SessionReady { .. }
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
            | EventKind::ManagerStarted { .. }
            | EventKind::ManagerStopping {} => {}
        }
        None
    }
}

fn completed(prompt: PromptId, outcome: Ended, stop_reason: &str, exit: Option<protocol::Exit>) -> Outcome {
    match (outcome, exit) {
        (Ended::Aborted, _) => Err(Failure::failed("aborted", format!("{prompt} was aborted"))),
        (Ended::Interrupted, _) => Err(Failure::failed("interrupted", format!("{prompt} was interrupted"))),
        (Ended::Completed, Some(exit)) if !exit.is_success() => {
            Err(Failure::failed("agent_failed", format!("the agent failed: {exit}")))
        }
        (Ended::Completed, _) if stop_reason == "error" => {
            Err(Failure::failed("agent_failed", "the turn ended with an error, which stands above"))
        }
        (Ended::Completed, _) if early(stop_reason).is_some() => {
            Err(Failure::failed(stop_reason, early(stop_reason).unwrap_or_default()))
        }
        (Ended::Completed, _) => Ok(()),
    }
}

/// What a stop reason says to a person, where the agent did not come to the end of its work (ACP's reasons).
pub fn early(stop_reason: &str) -> Option<&'static str> {
    match stop_reason {
        "refusal" => Some("the agent refused to go on (refusal)"),
        "max_tokens" => Some("the turn ended early: the model's limit of tokens was reached (max_tokens)"),
        "max_turn_requests" => {
            Some("the turn ended early: the limit of requests in a turn was reached (max_turn_requests)")
        }
        _ => None,
    }
}

/// The prompt that an event is about, if it is about one.
pub fn prompt_of(kind: &EventKind) -> Option<PromptId> {
    match kind {
        EventKind::PromptAccepted { prompt_id, .. }
        | EventKind::PromptQueued { prompt_id, .. }
        | EventKind::PromptEdited { prompt_id, .. }
        | EventKind::PromptStarted { prompt_id }
        | EventKind::PromptRemoved { prompt_id, .. }
        | EventKind::PromptResolved { prompt_id, .. }
        | EventKind::TurnStarted { prompt_id, .. }
        | EventKind::TurnCompleted { prompt_id, .. }
        | EventKind::TurnInterrupted { prompt_id, .. }
        | EventKind::MessageChunk { prompt_id, .. }
        | EventKind::ThoughtChunk { prompt_id, .. }
        | EventKind::ToolCallStarted { prompt_id, .. }
        | EventKind::ToolCallUpdated { prompt_id, .. }
        | EventKind::ToolCallInterrupted { prompt_id, .. }
        | EventKind::PlanUpdated { prompt_id, .. } => Some(*prompt_id),
        EventKind::PermissionRequested { prompt_id, .. } => *prompt_id,
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use protocol::Exit;

    use super::*;

    fn exit_of(outcome: Ended, stop_reason: &str, exit: Option<Exit>) -> u8 {
        completed(PromptId(1), outcome, stop_reason, exit).err().map_or(0, |failure| failure.exit())
    }

    #[test]
    fn the_agents_success_is_the_commands() {
        assert_eq!(exit_of(Ended::Completed, "end_turn", Some(Exit::Code(0))), 0);
        assert_eq!(exit_of(Ended::Completed, "end_turn", None), 0);
        assert_eq!(exit_of(Ended::Completed, "end_turn", Some(Exit::Code(3))), 1);
        assert_eq!(exit_of(Ended::Completed, "error", None), 1);
        for early in ["refusal", "max_tokens", "max_turn_requests"] {
            assert_eq!(exit_of(Ended::Completed, early, None), 1);
        }
        assert_eq!(exit_of(Ended::Aborted, "cancelled", None), 1);
        assert_eq!(exit_of(Ended::Interrupted, "", None), 1);
    }
}
