//! The screen of an attached person: a session's events as text, and the session's state as the events report
//! it.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::io::IsTerminal;

use protocol::api::{
    Accepted, CallInfo, PermissionInfo, PromptRequest, PromptState, QueuedPrompt, Role, SessionInfo, Status,
    WhenBusy,
};
use protocol::{CallId, EventId, PromptId, SessionId};
use tokio::time::Instant;

use super::conversation::Conversation;
use super::permission::Asked;
use crate::cli::link::Link;
use crate::cli::link::random_key;
use crate::cli::ui::Ui;
use crate::cli::ui::error::{Failure, Outcome, text_of};
use crate::cli::ui::form::Form;
use crate::cli::ui::render;
use crate::client::{Request, encoded};
use crate::terminal_text::{Colours, Screen};

/// The longest name of a client, in characters.
const MAX_NAME: usize = 100;

/// The session on the screen.
pub struct View<'a> {
    pub(super) ui: &'a Ui,
    /// The session's id, for requests.
    pub session: SessionId,
    /// The session as people read it: `web (session-7)`.
    pub(super) called: String,
    /// This client has said where it is.
    headed: bool,
    /// The role that the person asked for.
    pub wanted: Role,
    /// The role that this client asks for: it looks on while another drives.
    pub role: Role,
    /// Under this id it is attached now.
    pub client: Option<EventId>,
    /// True if this client drives, as of the last event about the driver.
    pub drives: bool,
    /// True once the events on the screen are live, not history.
    pub live: bool,
    /// It has just begun to: [`View::look`] is to be called.
    pub comes_up: bool,
    pub(super) out: Screen,
    pub(super) line_open: bool,
    pub(super) texts: HashMap<PromptId, String>,
    /// The newest event that was shown.
    pub(super) newest: EventId,
    /// Prompts that have not ended, as far as events and the daemon have reported.
    pub(super) prompts: BTreeSet<PromptId>,
    pub(super) running: Option<PromptId>,
    /// Prompts whose turns were cut off and that nobody has decided about, and their texts where they are known.
    pub interrupted: BTreeMap<PromptId, Option<String>>,
    pub(super) standing: Standing,
    /// Permissions that wait, oldest first.
    pub(super) open: Vec<Asked>,
    /// Permissions that have ended, as the daemon says, and whose last event is yet to come.
    pub(super) over: Vec<Asked>,
    /// Forms that wait for the person who drives, oldest first. The first is being filled in.
    pub(super) forms: VecDeque<(CallId, Form)>,
    /// The highest number of an option since the last prompt was typed.
    pub(super) numbered: usize,
    /// The last note about a start that failed. It is printed once, however often kennel tries again.
    pub(super) trouble: Option<String>,
    /// The newest permission is shown from then on, unless a policy answers it first.
    pub(super) due: Option<Instant>,
    /// Nothing can be typed any more.
    pub(super) mute: bool,
    /// The time of the running turn's last sign of work, and the time of the next note that there is none.
    pub(super) sign: Option<(Instant, Instant)>,
    /// Titles of tool calls of the running turn that have not ended, by their ids.
    pub(super) tools: BTreeMap<String, String>,
    /// Requests to send that no typed line asked for.
    pub(super) owed: Vec<Request>,
    /// The conversation, where it has the whole screen. Nothing is printed then.
    pub chat: Option<Box<Conversation>>,
    /// The newest note for the person, where the conversation has the whole screen.
    pub notice: String,
    /// Clients that are attached: name and role.
    pub clients: BTreeMap<EventId, (String, Role)>,
    /// The connection is lost, and is being made again.
    pub lost: bool,
    /// Why nothing can be sent any more, if that is so.
    pub ended_by: Option<String>,
    /// The session's process as the events report it, where it is neither up nor down for good.
    pub(super) moving: Option<&'static str>,
}

/// The state of the session.
pub(super) enum Standing {
    Unknown,
    Up,
    Stopped,
    Failed(String),
}

/// The result of a typed line.
pub enum Entered {
    /// The daemon is to be asked for it.
    Request(Box<Request>),
    /// The same, for a prompt.
    Prompt(Box<Request>),
    /// It is for the daemon, once this client drives.
    ToDrive,
    /// The line was not sent, and a note names the reason.
    Unsent,
    /// It was for this client alone.
    Nothing,
}

impl Entered {
    pub(super) fn request(request: Request) -> Self {
        Self::Request(Box::new(request))
    }
}

impl<'a> View<'a> {
    /// Of a session to which this client is to be attached.
    pub fn new(ui: &'a Ui, session: SessionId, role: Role) -> Self {
        let out = Screen::new(Colours::of_output(ui.out_colour));
        Self {
            ui,
            called: session.to_string(),
            headed: false,
            session,
            wanted: role,
            role,
            client: None,
            drives: role == Role::Driver,
            live: false,
            comes_up: false,
            out,
            line_open: false,
            texts: HashMap::new(),
            newest: 0,
            prompts: BTreeSet::new(),
            running: None,
            interrupted: BTreeMap::new(),
            standing: Standing::Unknown,
            open: Vec::new(),
            over: Vec::new(),
            forms: VecDeque::new(),
            numbered: 0,
            trouble: None,
            due: None,
            mute: false,
            sign: None,
            tools: BTreeMap::new(),
            owed: Vec::new(),
            chat: None,
            notice: String::new(),
            clients: BTreeMap::new(),
            lost: false,
            ended_by: None,
            moving: None,
        }
    }

    /// The state of the session in a few words.
    pub fn status(&self) -> &str {
        match &self.standing {
            Standing::Stopped => "stopped",
            Standing::Failed(_) => "failed",
            Standing::Unknown | Standing::Up => match (self.moving, self.running) {
                (Some(moving), _) => moving,
                (None, _) if !self.open.is_empty() || !self.forms.is_empty() => "needs you",
                (None, Some(_)) => "running",
                (None, None) if !self.interrupted.is_empty() => "needs you",
                (None, None) => "idle",
            },
        }
    }

    /// Prompts that wait, and their texts where they are known.
    pub fn waiting(&self) -> impl Iterator<Item = (PromptId, Option<&str>)> {
        let waiting = self.prompts.iter().filter(|prompt| Some(**prompt) != self.running);
        waiting.map(|prompt| (*prompt, self.texts.get(prompt).map(String::as_str)))
    }

    /// Permissions that are shown and wait, oldest first.
    pub fn asked(&self) -> impl Iterator<Item = &Asked> {
        self.open.iter().filter(|asked| asked.shown)
    }

    /// The form that is being filled in, and the number of forms that wait.
    pub fn form_shown(&self) -> Option<(&Form, usize)> {
        self.forms.front().map(|(_, form)| (form, self.forms.len()))
    }

    /// Returns true if a form can be shown: not to a program, and not with `--quiet`.
    pub(super) fn shows_forms(&self) -> bool {
        !self.ui.json && !self.ui.quiet
    }

    /// The request that attaches this client. `word` is its own, by which it finds its seat again.
    pub fn attachment(&self, after: Option<EventId>, takeover: bool, word: &str) -> Request {
        let drives = self.role == Role::Driver;
        let role = if drives { "driver" } else { "viewer" };
        let name = encoded(&name());
        let takeover = takeover && drives;
        let mut path =
            format!("/v1/sessions/{}/attach?role={role}&name={name}&takeover={takeover}", self.session);
        if let Some(after) = after {
            path += &format!("&after={after}");
        }
        if drives && self.shows_forms() && !self.mute {
            path += "&offers=elicitation";
        }
        let request = Request::get(path);
        if drives { request.seat(word) } else { request }
    }

    /// The daemon is gone, and this client is attached to nothing.
    pub fn gone(&mut self) {
        self.role = if self.drives { Role::Driver } else { Role::Viewer };
        (self.client, self.live) = (None, false);
        self.clients.clear();
    }

    /// The prompt whose turn runs on the screen.
    pub fn running(&self) -> Option<PromptId> {
        self.running
    }

    /// Returns true if no prompt runs or waits.
    pub fn at_rest(&self) -> bool {
        self.prompts.is_empty()
    }

    /// Why prompts that wait will wait for somebody, if they will.
    pub fn failed(&self) -> Option<Failure> {
        let Standing::Failed(reason) = &self.standing else { return None };
        let (session, called) = (&self.session, &self.called);
        let waits = self.prompts.first()?;
        let what = format!("{called} has failed: {reason}; {waits} waits");
        Some(
            Failure::failed("session_failed", what)
                .hint(format!("`kennel show {session}` says more; `kennel restart {session}` goes on")),
        )
    }

    /// Returns the note for a person who detaches.
    pub fn parting(&self) -> String {
        let session = &self.called;
        match &self.standing {
            Standing::Unknown => format!("detached from {session}"),
            Standing::Up => format!("detached; {session} goes on"),
            Standing::Stopped => format!("detached; {session} is stopped"),
            Standing::Failed(_) => format!("detached; {session} has failed"),
        }
    }

    /// A prompt of this client was accepted. Its events may have been shown by now.
    pub fn accepted(&mut self, accepted: &Accepted) {
        if accepted.event_id > self.newest {
            self.prompts.insert(accepted.prompt_id);
        }
    }

    /// Prints that the daemon has refused the typed line.
    pub fn refused(&mut self, failure: &Failure) -> Outcome {
        if self.chat.is_some() {
            self.notice = render::line(&self.ui.addressed(&text_of(failure)));
            return Ok(());
        }
        self.break_line()?;
        if let Some(text) = failure.text(false, self.ui.err_colour) {
            self.ui.write_err(&text);
        }
        Ok(())
    }

    /// Takes how the session is and what waits for an answer, when this client has come.
    pub fn look(&mut self, looked: Looked) {
        // Events will report a state that cannot be read now.
        if let Some(info) = looked.info {
            self.called = render::session(&info.id, info.name.as_ref());
            self.clients = info
                .clients
                .into_iter()
                .map(|client| (client.client_id, (client.name, client.role)))
                .collect();
            self.moving = moving(info.status);
            self.head(info.status);
            // Also one that waits for its missing program, which the queue shows as waiting.
            self.running = self.running.take().or(info.running_prompt);
            self.standing = match (info.status, info.failure) {
                (Status::Stopped, _) => Standing::Stopped,
                (Status::Failed, failure) => {
                    Standing::Failed(failure.map(|failure| failure.reason).unwrap_or_default())
                }
                _ => Standing::Up,
            };
            if matches!(self.standing, Standing::Stopped | Standing::Failed(_)) {
                let how = if info.status == Status::Failed { "has failed" } else { "is stopped" };
                self.note(&format!("{} {how}; `kennel restart {}` starts it", self.called, self.session));
            }
        }
        if looked.queue.is_some() {
            self.interrupted.clear();
        }
        for prompt in looked.queue.unwrap_or_default() {
            match prompt.state {
                PromptState::Running => self.running = Some(prompt.prompt_id),
                PromptState::Queued => {}
                PromptState::Interrupted => {
                    self.interrupted.insert(prompt.prompt_id, Some(prompt.text));
                    continue;
                }
            }
            self.prompts.insert(prompt.prompt_id);
            if let Some(chat) = self.chat.as_mut().filter(|_| prompt.state == PromptState::Queued) {
                chat.waits(prompt.prompt_id, &prompt.text);
                self.texts.insert(prompt.prompt_id, prompt.text);
            }
        }
        // Forms first: what is typed goes to them.
        self.forms.clear();
        for waits in looked.calls {
            self.form(waits.call_id, &waits.method, &waits.payload);
        }
        self.permissions(looked.permissions);
    }

    /// Says once to a person at a terminal which session this is, and how it stands.
    fn head(&mut self, status: Status) {
        if !std::mem::replace(&mut self.headed, true) && self.ui.err_is_terminal && !self.mute {
            self.tell(&format!("attached to {}, {status}; Ctrl-P Ctrl-Q detaches", self.called));
        }
    }

    /// Does what a line asks for.
    pub fn enter(&mut self, line: &str) -> Outcome<Entered> {
        let is_typed = self.chat.is_some() || std::io::stdin().is_terminal();
        // A person has not read what the same key would bring up.
        if !is_typed {
            self.show_due();
        }
        if !self.forms.is_empty() {
            return Ok(self.fill_in(line));
        }
        if line.trim().is_empty() {
            return Ok(Entered::Nothing);
        }
        if self.wanted == Role::Viewer {
            self.note(&format!(
                "you look on; what you type is not sent; `kennel attach {}` drives",
                self.session
            ));
            return Ok(Entered::Unsent);
        }
        // One that looks on may have drained its input before it hears of anything.
        if self.role == Role::Viewer || self.live && !self.drives {
            return Ok(Entered::ToDrive);
        }
        if let Ok(number) = line.parse::<usize>()
            && (!self.open.is_empty() || (1..=self.numbered).contains(&number))
        {
            // On the whole screen the keys have been looked at already.
            if let Some(id) = self.came_later(number, Instant::now()).filter(|_| is_typed) {
                self.says_too_early(id, number);
                return Ok(Entered::Unsent);
            }
            return Ok(self.choose(number));
        }
        if self.is_like_an_answer(line) {
            return Ok(Entered::Unsent);
        }
        if self.open.is_empty() {
            // Lines from here on come after every option that was shown.
            self.numbered = 0;
        }
        let (text, attachments) = (line.trim_start().to_owned(), Vec::new());
        let prompt = PromptRequest { text, when_busy: WhenBusy::Queue, attachments };
        let path = format!("/v1/sessions/{}/prompts", self.session);
        Ok(Entered::Prompt(Box::new(Request::post(path).json(&prompt).key(&random_key()?))))
    }

    pub(super) fn print(&self, text: &str) -> Outcome {
        if self.ui.json || self.chat.is_some() { Ok(()) } else { self.ui.print(text) }
    }

    pub(super) fn break_line(&mut self) -> Outcome {
        if std::mem::take(&mut self.line_open) { self.print("\n") } else { Ok(()) }
    }

    /// Prints what an event says between the agent's lines. On the whole screen the conversation says it.
    pub(super) fn tell(&mut self, text: &str) {
        if self.chat.is_none() {
            self.note(text);
        }
    }

    /// Prints a note between the agent's lines, or shows it on the screen until the next key.
    pub fn note(&mut self, text: &str) {
        if self.chat.is_some() {
            self.notice = render::line(&self.ui.addressed(text));
        } else if !self.ui.json {
            // A reader that is gone is found by what is printed next.
            let _ = self.break_line();
            self.ui.note(text);
        }
    }

    /// Says why nothing can begin, unless that was said last.
    pub(super) fn trouble(&mut self, text: String) {
        if self.trouble.as_ref() != Some(&text) {
            self.tell(&text);
            self.trouble = Some(text);
        }
    }

    /// Leaves the output as it should be found.
    pub fn close(&mut self) {
        let rest = self.out.end();
        let _ = self.print(&rest).and_then(|()| self.break_line());
    }
}

/// The answers about the session that a client asks for when it has come.
#[derive(Default)]
pub struct Looked {
    info: Option<SessionInfo>,
    /// None if it could not be read.
    queue: Option<Vec<QueuedPrompt>>,
    calls: Vec<CallInfo>,
    permissions: Vec<PermissionInfo>,
}

impl Looked {
    /// Asks how the session is and what waits for an answer.
    pub async fn at(link: &Link<'_>, session: &SessionId) -> Self {
        let path = format!("/v1/sessions/{session}");
        let of = |what: &str| Request::get(format!("{path}/{what}"));
        Self {
            info: link.get(Request::get(&*path)).await.ok(),
            queue: link.get(of("queue")).await.ok(),
            calls: link.get(of("calls")).await.unwrap_or_default(),
            permissions: link.get(of("permissions")).await.unwrap_or_default(),
        }
    }
}

/// The word for a status in which the session's process comes or goes.
fn moving(status: Status) -> Option<&'static str> {
    use Status::{Adopting, Hibernated, Restarting, Starting, Stopping};
    matches!(status, Adopting | Hibernated | Restarting | Starting | Stopping).then(|| status.as_str())
}

/// Returns the name of this client: the user's, from the environment or from the kernel.
fn name() -> String {
    let named = ["USER", "LOGNAME"].into_iter().filter_map(|name| std::env::var(name).ok());
    let mut named = named.map(|name| name.replace(char::is_control, "").trim().to_owned());
    let user = named
        .find(|name| !name.is_empty())
        .unwrap_or_else(|| format!("of uid {}", rustix::process::getuid().as_raw()));
    format!("kennel attach {user}").chars().take(MAX_NAME).collect()
}
