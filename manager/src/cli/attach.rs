//! `attach`: a person and a session, line by line.

use std::collections::{HashMap, VecDeque};
use std::io::BufRead;
use std::path::Path;

use protocol::api::{
    AnswerRequest, CallInfo, CallRequest, ClientInfo, PermissionAnswer, PermissionInfo, PromptRequest, Role,
    WhenBusy,
};
use protocol::event::{Event, EventKind, Outcome as Ended};
use protocol::wire::PermissionOption;
use protocol::{CallId, EventId, PermissionId, PromptId, SessionId, Stream};
use rustix::termios::{InputModes, OptionalActions, SpecialCodeIndex, Termios};
use tokio::sync::mpsc;

use super::args;
use super::error::{Failure, Outcome};
use super::form::Form;
use super::link::{Link, read};
use super::render;
use super::sessions::{directory, random_key};
use super::sgr::{Colours, Screen};
use super::ui::Ui;
use crate::attachments;
use crate::client::sse::Frame;
use crate::client::{ClientError, Events, Request, encoded};

/// Ctrl-P Ctrl-Q, as docker has it.
const DETACH: [u8; 2] = [0x10, 0x11];
/// Lines that are typed ahead.
const AHEAD: usize = 64;

/// `attach`.
pub async fn attach(link: &Link<'_>, args: args::Attach) -> Outcome {
    let session = session(link, args.what.as_deref()).await?;
    let role = if args.read_only { Role::Viewer } else { Role::Driver };
    let keys = Keys::new();
    let mut lines = typed();
    let mut view = View::new(link.ui, session.clone(), role);
    let mut after = if args.no_history { None } else { Some(0) };
    let mut takeover = args.takeover;
    loop {
        let mut events = view.come(link, after, takeover).await?;
        let lost = loop {
            tokio::select! {
                frame = events.next() => match frame {
                    Ok(Some(frame)) => {
                        if view.show(&frame)? {
                            return Ok(());
                        }
                        after = frame.id.or(after);
                        if std::mem::take(&mut view.comes_up) {
                            view.look(link).await;
                        }
                    }
                    Ok(None) => break false,
                    Err(ClientError::Lost(_)) => break true,
                    Err(error) => return Err(error.into()),
                },
                line = lines.recv() => match line {
                    Some(line) => view.say(link, &line).await?,
                    None => {
                        view.close();
                        link.ui.note(&format!("detached; {session} goes on"));
                        drop(keys);
                        return Ok(());
                    }
                },
                () = super::send::interrupted() => view.abort(link).await,
            }
        };
        // Whoever drove before the daemon went away drives on; whoever was displaced looks on.
        view.role = if view.drives { Role::Driver } else { Role::Viewer };
        takeover = view.drives;
        view.client = None;
        if lost {
            view.note("the daemon went away; going on with the next");
        } else if !link.comes_back().await {
            return Err(Failure::unreachable("the daemon was stopped").hint(format!(
                "`kennel attach {session}` starts it again; nothing that was accepted is lost"
            )));
        }
    }
}

/// The session that is meant: by its id, or by a directory, whose session is there from then on.
async fn session(link: &Link<'_>, what: Option<&str>) -> Outcome<SessionId> {
    if let Some(id) = what.filter(|what| !Path::new(what).is_dir()) {
        return link.find(id).await;
    }
    let body = serde_json::json!({ "workdir": directory(what.map(Into::into))? });
    let answer = link.ask(Request::post("/v1/bootstrap").json(&body).repeatable()).await?;
    #[derive(serde::Deserialize)]
    struct Found {
        session_id: SessionId,
    }
    read::<Found>(&answer).map(|found| found.session_id)
}

/// What is typed, line by line; the end of it is the wish to detach.
fn typed() -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel(AHEAD);
    // Reading from a terminal blocks, and ends with the process.
    std::thread::spawn(move || {
        let mut stdin = std::io::stdin().lock();
        let mut line = Vec::new();
        loop {
            line.clear();
            match read_line(&mut stdin, &mut line) {
                Ok(true) => {}
                Ok(false) | Err(_) => return,
            }
            let text = String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']).to_owned();
            if sender.blocking_send(text).is_err() {
                return;
            }
        }
    });
    lines
}

/// Reads to the end of a line, or to the keys that detach; whether there was a line.
fn read_line(from: &mut impl BufRead, line: &mut Vec<u8>) -> std::io::Result<bool> {
    loop {
        let buffer = from.fill_buf()?;
        if buffer.is_empty() {
            return Ok(!line.is_empty());
        }
        let end = buffer.iter().position(|byte| *byte == b'\n' || *byte == DETACH[1]);
        let taken = end.map_or(buffer.len(), |end| end + 1);
        line.extend_from_slice(&buffer[..taken]);
        from.consume(taken);
        if line.ends_with(&DETACH) {
            return Ok(false);
        }
        if line.ends_with(b"\n") {
            return Ok(true);
        }
    }
}

/// Makes the terminal hand over what was typed at Ctrl-Q, too. Everything else stays as the person has it; it is
/// put back at the end.
struct Keys(Option<Termios>);

impl Keys {
    fn new() -> Self {
        let stdin = std::io::stdin();
        let Ok(before) = rustix::termios::tcgetattr(&stdin) else {
            return Self(None);
        };
        let mut with = before.clone();
        // Else the terminal takes Ctrl-Q for itself, to go on after Ctrl-S.
        with.input_modes.remove(InputModes::IXON);
        with.special_codes[SpecialCodeIndex::VEOL2] = DETACH[1];
        let set = rustix::termios::tcsetattr(&stdin, OptionalActions::Now, &with);
        Self(set.is_ok().then_some(before))
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // A terminal that is gone needs nothing.
            let _ = rustix::termios::tcsetattr(std::io::stdin(), OptionalActions::Now, before);
        }
    }
}

/// The session on the screen.
struct View<'a> {
    ui: &'a Ui,
    session: SessionId,
    role: Role,
    /// Under this id it is attached now.
    client: Option<EventId>,
    /// It was this client that drove when that was last told.
    drives: bool,
    out: Screen,
    line_open: bool,
    texts: HashMap<PromptId, String>,
    /// What is shown now happens now.
    live: bool,
    /// It has just begun to.
    comes_up: bool,
    /// Permissions that wait, oldest first.
    open: Vec<Asked>,
    /// Forms that wait for the person who drives, oldest first. The first is being filled in.
    forms: VecDeque<(CallId, Form)>,
    /// The highest number of an option since the last prompt was typed.
    numbered: usize,
}

/// A permission that waits. The numbers of its options are its own as long as anybody can have them in mind: whatever
/// comes meanwhile, what is typed is an answer to what was read.
struct Asked {
    id: PermissionId,
    title: String,
    options: Vec<PermissionOption>,
    /// The number of its first option.
    first: usize,
}

impl<'a> View<'a> {
    fn new(ui: &'a Ui, session: SessionId, role: Role) -> Self {
        let out = Screen::new(Colours::of_output(ui.out_colour));
        Self {
            ui,
            session,
            role,
            client: None,
            drives: role == Role::Driver,
            out,
            line_open: false,
            texts: HashMap::new(),
            live: false,
            comes_up: false,
            open: Vec::new(),
            forms: VecDeque::new(),
            numbered: 0,
        }
    }

    /// To a program, or where nothing is said, no form can be shown.
    fn shows_forms(&self) -> bool {
        !self.ui.json && !self.ui.quiet
    }

    async fn come(&mut self, link: &Link<'_>, after: Option<EventId>, takeover: bool) -> Outcome<Events> {
        let role = match self.role {
            Role::Driver => "driver",
            Role::Viewer => "viewer",
        };
        let user = std::env::var("USER").unwrap_or_default();
        let name = encoded(&format!("kennel attach {user}"));
        let mut path =
            format!("/v1/sessions/{}/attach?role={role}&name={name}&takeover={takeover}", self.session);
        if let Some(after) = after {
            path += &format!("&after={after}");
        }
        if self.role == Role::Driver && self.shows_forms() {
            path += "&offers=elicitation";
        }
        link.events(&path).await
    }

    /// Shows what happened; whether the session is gone.
    fn show(&mut self, frame: &Frame) -> Outcome<bool> {
        match frame.event.as_str() {
            "problem" => {
                let problem = serde_json::from_str(&frame.data)
                    .map_err(|error| Failure::from(ClientError::Garbage(error.to_string())))?;
                return Err(Failure::from(Box::<protocol::api::Problem>::new(problem)));
            }
            "gap" => {
                super::events::show_gap(self.ui, &frame.data)?;
                return Ok(false);
            }
            "attached" => {
                self.client = serde_json::from_str::<ClientInfo>(&frame.data).ok().map(|info| info.client_id);
                self.drives = self.role == Role::Driver;
                self.live = false;
                return Ok(false);
            }
            _ => {}
        }
        if self.ui.json {
            self.ui.object(frame.data.as_bytes())?;
        }
        // An event of a later version's kind is not for this one.
        let Ok(event) = serde_json::from_str::<Event>(&frame.data) else { return Ok(false) };
        let gone = matches!(event.kind, EventKind::SessionDeleted {});
        self.heard(event.kind)?;
        Ok(gone)
    }

    fn heard(&mut self, kind: EventKind) -> Outcome {
        match kind {
            EventKind::PromptAccepted { prompt_id, text, attachments, .. } => {
                let text = attachments::told(&text, attachments.iter().map(|it| &*it.name));
                self.texts.insert(prompt_id, text);
            }
            EventKind::PromptEdited { prompt_id, text } => {
                self.texts.insert(prompt_id, text);
            }
            EventKind::PromptQueued { prompt_id, position } => {
                self.note(&format!("{prompt_id} waits behind {position} others"));
            }
            EventKind::PromptStarted { prompt_id } => {
                let text = self.texts.remove(&prompt_id).unwrap_or_default();
                self.break_line()?;
                let shown =
                    render::paint(&format!("> {}", render::block(&text)), render::BOLD, self.ui.out_colour);
                self.print(&format!("{shown}\n"))?;
            }
            EventKind::MessageChunk { stream, text, .. } => {
                let shown = self.out.feed(&text);
                if stream == Stream::Stdout || !shown.trim().is_empty() {
                    self.line_open =
                        !shown.is_empty() && !shown.ends_with('\n') || shown.is_empty() && self.line_open;
                    self.print(&shown)?;
                }
            }
            EventKind::ToolCallStarted { title, .. } => self.note(&format!("tool: {title}")),
            EventKind::ToolCallInterrupted { tool_call_id, .. } => {
                self.note(&format!("tool call {tool_call_id} was cut off"));
            }
            EventKind::PermissionRequested { permission_id, title, options, .. } => {
                self.permission(permission_id, title, options);
            }
            EventKind::PermissionResolved { permission_id, option_id, .. } => {
                self.open.retain(|open| open.id != permission_id);
                self.note(&format!("{permission_id}: {option_id}"));
            }
            EventKind::PermissionExpired { permission_id, reason } => {
                self.open.retain(|open| open.id != permission_id);
                self.note(&format!("{permission_id} expired: {reason}"));
            }
            EventKind::CallRequested { call_id, method, payload, .. } => {
                self.form(call_id, &method, &payload)
            }
            EventKind::CallAnswered { call_id } => self.form_ended(call_id, "it was answered"),
            EventKind::CallExpired { call_id, reason } => self.form_ended(call_id, &reason),
            EventKind::ClientAttached { client_id, .. } if self.client == Some(client_id) => {
                (self.live, self.comes_up) = (true, true);
            }
            EventKind::TurnCompleted { outcome: Ended::Completed, stop_reason, exit, .. } => {
                self.break_line()?;
                if let Some(exit) = exit.filter(|exit| !exit.is_success()) {
                    self.note(&format!("the agent failed: {exit}"));
                } else if stop_reason != "end_turn" {
                    self.note(&format!("the turn ended: {stop_reason}"));
                }
            }
            EventKind::TurnCompleted { .. } => self.note("the turn was aborted"),
            EventKind::TurnInterrupted { prompt_id, reason, will_retry, .. } => {
                let next = match will_retry {
                    true => "it is tried again".to_owned(),
                    false => format!("`kennel resolve {prompt_id} --retry` sends it again"),
                };
                self.note(&format!("the turn was cut off: {reason}; {next}"));
            }
            EventKind::SessionRestarting { reason, .. } => self.note(&format!("{reason}; restarting")),
            EventKind::SessionRestarted { restore, .. } => {
                self.note(&format!("the session is back; the agent's memory: {restore}"));
            }
            EventKind::SessionStopped { .. } => self.note("the session was stopped"),
            EventKind::SessionFailed { reason, .. } => {
                let what = format!(
                    "the session has failed: {reason}; `kennel restart {}` tries again",
                    self.session
                );
                self.note(&what);
            }
            EventKind::SessionDeleted {} => self.note("the session was removed"),
            EventKind::SystemMessage { text } => self.note(&text),
            EventKind::DriverChanged { driver } if self.client.is_some() => {
                self.drives = driver == self.client;
                if !self.drives {
                    self.forms.clear();
                }
                match driver {
                    _ if self.drives => {}
                    Some(_) => self.note("somebody else drives now; you look on"),
                    None => self.note("nobody drives now"),
                }
            }
            // The rest is for `kennel events`.
            _ => {}
        }
        Ok(())
    }

    /// What waits for an answer when this client has come.
    async fn look(&mut self, link: &Link<'_>) {
        let path = format!("/v1/sessions/{}", self.session);
        self.open.clear();
        self.forms.clear();
        // What cannot be had now will be told by events.
        // Forms first: what is typed goes to them.
        let calls = link.get::<Vec<CallInfo>>(Request::get(format!("{path}/calls"))).await;
        for waits in calls.unwrap_or_default() {
            self.form(waits.call_id, &waits.method, &waits.payload);
        }
        let permissions = link.get::<Vec<PermissionInfo>>(Request::get(format!("{path}/permissions"))).await;
        for waits in permissions.unwrap_or_default() {
            self.permission(waits.permission_id, waits.title, waits.options);
        }
    }

    // --- what the agent asks ---

    fn permission(&mut self, id: PermissionId, title: String, options: Vec<PermissionOption>) {
        if !self.live {
            return self.note(&format!("{id}: the agent asks: {title}"));
        }
        // It was found on coming here, too.
        if self.open.iter().any(|open| open.id == id) {
            return;
        }
        let first = self.numbered + 1;
        self.numbered += options.len();
        self.open.push(Asked { id, title, options, first });
        match self.forms.is_empty() {
            true => self.show_permission(self.open.len() - 1),
            false => self.note(&format!("{id} waits until the form is done")),
        }
    }

    fn show_permission(&mut self, at: usize) {
        let Asked { id, title, options, first } = &self.open[at];
        let asked = format!("{id}: the agent asks: {title}");
        let options =
            options.iter().enumerate().map(|(at, option)| format!("  {}) {}", first + at, option.name));
        let lines: Vec<String> = std::iter::once(asked).chain(options).collect();
        lines.iter().for_each(|line| self.note(line));
    }

    fn form(&mut self, id: CallId, method: &str, payload: &serde_json::Value) {
        let asks = method == "elicitation/create" && self.shows_forms();
        if !asks || self.forms.iter().any(|(known, _)| *known == id) {
            return;
        }
        let form = Form::new(payload);
        let asked = format!("{id}: the agent asks: {}", form.message());
        if !self.live {
            return self.note(&asked);
        }
        if !self.drives {
            return self.note(&format!("{asked}; it is for the one who drives to answer"));
        }
        self.forms.push_back((id, form));
        match self.forms.len() {
            1 => self.show_form(),
            _ => self.note(&format!("{id} waits until the form before it is done")),
        }
    }

    fn show_form(&mut self) {
        let Some((id, form)) = self.forms.front() else { return };
        let mut lines = vec![format!("{id}: the agent asks: {}", form.message())];
        lines.extend(form.lines());
        lines.extend(form.question());
        lines.iter().for_each(|line| self.note(line));
    }

    /// Somebody else has answered it, or nobody will.
    fn form_ended(&mut self, id: CallId, why: &str) {
        let known = self.forms.iter().position(|(known, _)| *known == id);
        if let Some(at) = known {
            self.forms.remove(at);
            self.note(&format!("{id} is over: {why}"));
            if at == 0 {
                self.show_next();
            }
        }
    }

    /// After a form: what has waited for its end.
    fn show_next(&mut self) {
        match self.forms.is_empty() {
            true => (0..self.open.len()).for_each(|at| self.show_permission(at)),
            false => self.show_form(),
        }
    }

    async fn fill_in(&mut self, link: &Link<'_>, line: &str) -> Outcome {
        let Some((id, form)) = self.forms.front_mut() else { return Ok(()) };
        let (id, taken) = (*id, form.take(line));
        let question = form.question();
        match taken {
            Ok(Some(answer)) => {
                // Whatever becomes of it, the next line is not for this form.
                self.forms.pop_front();
                let path = format!("/v1/sessions/{}/calls/{id}", self.session);
                let answer = CallRequest { result: Some(answer), error: None };
                self.ask(link, Request::post(path).json(&answer)).await?;
                self.show_next();
            }
            Ok(None) => question.iter().for_each(|question| self.note(question)),
            Err(why) => {
                self.note(&why);
                question.iter().for_each(|question| self.note(question));
            }
        }
        Ok(())
    }

    /// Answers the permission that has an option of this number.
    async fn choose(&mut self, link: &Link<'_>, number: usize) -> Outcome {
        let found = self.open.iter().find_map(|open| {
            let option = open.options.get(number.checked_sub(open.first)?)?;
            Some((open.id, option.id.clone()))
        });
        let Some((id, option)) = found else {
            let why = if (1..=self.numbered).contains(&number) { "waits any more" } else { "is there" };
            self.note(&format!("no option {number} {why}; a space before it makes it a prompt"));
            return Ok(());
        };
        let path = format!("/v1/sessions/{}/permissions/{id}", self.session);
        let answer = AnswerRequest { answer: PermissionAnswer::Option(option) };
        self.ask(link, Request::post(path).json(&answer).repeatable()).await
    }

    /// Does what a line asks for.
    async fn say(&mut self, link: &Link<'_>, line: &str) -> Outcome {
        if !self.forms.is_empty() {
            return self.fill_in(link, line).await;
        }
        if line.trim().is_empty() {
            return Ok(());
        }
        if self.role == Role::Viewer {
            self.note("you look on; what you type is not sent");
            return Ok(());
        }
        if let Ok(number) = line.parse::<usize>()
            && (!self.open.is_empty() || (1..=self.numbered).contains(&number))
        {
            return self.choose(link, number).await;
        }
        if self.open.is_empty() {
            // What is typed from here on is typed after it.
            self.numbered = 0;
        }
        let (text, attachments) = (line.trim_start().to_owned(), Vec::new());
        let prompt = PromptRequest { text, when_busy: WhenBusy::Queue, attachments };
        let path = format!("/v1/sessions/{}/prompts", self.session);
        self.ask(link, Request::post(path).json(&prompt).key(&random_key()?)).await
    }

    async fn abort(&mut self, link: &Link<'_>) {
        self.note("ending the turn; Ctrl-P Ctrl-Q or Ctrl-D detaches");
        let request = Request::post(format!("/v1/sessions/{}/abort", self.session));
        // What is refused was said, and the rest is for the next to say.
        let _ = self.ask(link, request).await;
    }

    /// Asks as the client that is attached; a refusal is said and is no end.
    async fn ask(&mut self, link: &Link<'_>, request: Request) -> Outcome {
        match link.ask(request.from_client(self.client)).await {
            Ok(_) => Ok(()),
            Err(failure) => {
                self.break_line()?;
                if let Some(text) = failure.text(false, self.ui.err_colour) {
                    self.ui.tell(&text);
                }
                Ok(())
            }
        }
    }

    fn print(&self, text: &str) -> Outcome {
        if self.ui.json { Ok(()) } else { self.ui.print(text) }
    }

    fn break_line(&mut self) -> Outcome {
        if std::mem::take(&mut self.line_open) { self.print("\n") } else { Ok(()) }
    }

    fn note(&mut self, text: &str) {
        if !self.ui.json {
            // A reader that is gone is found by what is printed next.
            let _ = self.break_line();
            self.ui.note(text);
        }
    }

    fn close(&mut self) {
        let rest = self.out.end();
        let _ = self.print(&rest).and_then(|()| self.break_line());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(typed: &[u8]) -> Vec<String> {
        let (mut from, mut line, mut all) = (typed, Vec::new(), Vec::new());
        while read_line(&mut from, &mut line).unwrap() {
            all.push(String::from_utf8_lossy(&line).into_owned());
            line.clear();
        }
        all
    }

    #[test]
    fn the_keys_that_detach_end_what_is_typed_wherever_they_come() {
        assert_eq!(lines(b"one\ntwo\n"), ["one\n", "two\n"]);
        assert_eq!(lines(b"one\n\x10\x11two\n"), ["one\n"]);
        assert_eq!(lines(b"half a li\x10\x11"), [""; 0]);
        assert_eq!(lines(b"ctrl-q \x11 alone\n"), ["ctrl-q \x11 alone\n"]);
        assert_eq!(lines(b"no end"), ["no end"]);
    }
}
