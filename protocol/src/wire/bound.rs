//! The limits of `bounds` applied to a report: by the worker before it sends one, and by the manager, which does not trust its
//! workers.

use super::files::{ChangedFile, FileEntry, FilesAnswer};
use super::log_in::Unlogged;
use super::report::{AgentDetails, PermissionAsk, PermissionOption, Report, SettingAnswer, TurnEnd, Update};
use crate::Exit;
use crate::bounds::{
    DIFFERENCE, FILE_NAMES, FILE_PIECE, FILES, ID, KIND, LOGIN_PIECE, NAME, OPTIONS, PATH, PAYLOAD,
    SESSION_ID, TEXT, TITLE, TOOL_ID, cut, fits, grouped, paths_fit,
};

/// Bounds a report. Says what was cut or left out, if anything was.
///
/// # Errors
/// The report is of no use without what is too long in it.
pub fn bound(report: &mut Report) -> Result<Option<&'static str>, &'static str> {
    let mut cuts = Cuts::default();
    // All fields by their names: a new one does not compile before it has its bound here.
    match report {
        Report::Hello { protocol, build, resume_from } => {
            fixed((protocol, resume_from));
            cuts.text(build, NAME, "its build");
        }
        Report::Ready { restore, agent_pid } => fixed((restore, agent_pid)),
        Report::TurnStarted { prompt, agent_pid } => fixed((prompt, agent_pid)),
        Report::Output { prompt, stream, text } => {
            fixed((prompt, stream));
            cuts.carried(text, "a piece of output");
        }
        Report::TurnEnded { prompt, end, exit, left_behind } => {
            fixed((prompt, exit, left_behind));
            match end {
                TurnEnd::Finished | TurnEnd::Aborted => {}
                TurnEnd::Failed { message } => cuts.text(message, TEXT, "why a turn failed"),
                TurnEnd::NotRun { message } => cuts.text(message, TEXT, "why the agent does not run"),
                TurnEnd::Stopped { reason } => cuts.text(reason, NAME, "a stop reason"),
            }
        }
        Report::Fault { message } => cuts.text(message, TEXT, "a fault"),
        Report::AgentSession { id } => {
            if !fits(id, SESSION_ID) {
                return Err("the agent's id of its session");
            }
        }
        Report::Update { prompt, update, payload } => {
            fixed(prompt);
            cuts.payload(payload);
            cuts.update(update);
        }
        Report::PermissionAsked { prompt, request, ask, payload } => {
            fixed((prompt, request));
            cuts.payload(payload);
            cuts.ask(ask);
        }
        Report::AgentDied { message } => cuts.text(message, TEXT, "how the agent ended"),
        Report::NotRun { message, .. } => cuts.text(message, TEXT, "why the agent does not run"),
        Report::Program { path } => {
            if !fits(path, PATH) {
                return Err("the path of the agent's program");
            }
        }
        Report::LoginNeeded { message } => cuts.text(message, TEXT, "how to log in"),
        Report::Notice { text } => cuts.text(text, TEXT, "a message"),
        Report::Introduced(AgentDetails { name, version, resume, load }) => {
            fixed((resume, load));
            for text in [name, version].into_iter().flatten() {
                cuts.text(text, NAME, "the agent's name or version");
            }
        }
        Report::CallAsked { prompt, request, client, method, payload } => {
            fixed((prompt, request, client));
            cuts.text(method, ID, "a method");
            cuts.payload(payload);
        }
        Report::SettingAnswered { request, answer } => {
            fixed(request);
            match answer {
                SettingAnswer::Set { payload } => cuts.payload(payload),
                SettingAnswer::Refused { reason } => cuts.text(reason, TEXT, "why a setting was refused"),
            }
        }
        Report::Contained { level } => fixed(level),
        Report::Alive { cpu_ms, commands } => fixed((cpu_ms, commands)),
        Report::Sandboxed(sandboxed) => fixed(sandboxed),
        Report::Limited(by) => fixed(by),
        Report::FilesRead { request, answer } => {
            fixed(request);
            cuts.files(answer);
        }
        Report::LogInOutput { bytes } => piece(bytes)?,
        Report::LogInEnded { exit, message } => cuts.log_in_end(exit, message),
        Report::OutOfMemory { peak_bytes, limit_bytes, by } => fixed((peak_bytes, limit_bytes, by)),
    }
    Ok(cuts.what)
}

/// Refuses a piece of a log-in's output that is too long.
fn piece(bytes: &Unlogged) -> Result<(), &'static str> {
    if bytes.0.len() > LOGIN_PIECE { Err("a piece of a log-in's output") } else { Ok(()) }
}

/// Accepts values without texts only: such values implement `Copy`.
fn fixed<T: Fixed>(_: T) {}

trait Fixed {}

impl<T: Copy> Fixed for &mut T {}
impl<A: Fixed, B: Fixed> Fixed for (A, B) {}
impl<A: Fixed, B: Fixed, C: Fixed> Fixed for (A, B, C) {}

/// The names of one answer about files.
#[derive(Default)]
struct Names {
    count: usize,
    bytes: usize,
}

impl Names {
    /// Counts a name. Returns true if it and those before are within their bounds.
    fn take(&mut self, name: &[u8]) -> bool {
        self.count += 1;
        self.bytes = self.bytes.saturating_add(name.len());
        name.len() <= PATH && self.count <= FILES && self.bytes <= FILE_NAMES
    }
}

#[derive(Default)]
struct Cuts {
    what: Option<&'static str>,
}

impl Cuts {
    fn text(&mut self, text: &mut String, most: usize, what: &'static str) {
        if cut(text, most) {
            self.what = Some(what);
        }
    }

    /// Passes a text unchanged. Its own length is its limit, so that nothing is counted.
    fn carried(&mut self, text: &mut String, what: &'static str) {
        if text.len() > PAYLOAD {
            let mark = format!("… ({} bytes, cut)", grouped(text.len()));
            let most = PAYLOAD - mark.len();
            let end = (most - 3..=most).rev().find(|at| text.is_char_boundary(*at));
            text.truncate(end.unwrap_or(0));
            text.push_str(&mark);
            self.what = Some(what);
        }
    }

    fn log_in_end(&mut self, exit: &mut Option<Exit>, message: &mut String) {
        fixed(exit);
        self.text(message, TEXT, "why a log-in ended");
    }

    fn payload(&mut self, payload: &mut String) {
        if payload.len() > PAYLOAD {
            *payload = format!("{{\"truncated\":{}}}", payload.len());
            self.what = Some("a payload");
        }
    }

    fn update(&mut self, update: &mut Update) {
        let is_known = match update {
            Update::Message { text } | Update::Thought { text } => {
                self.carried(text, "a piece of a message");
                true
            }
            Update::ToolCall { id, title, ended } => {
                fixed(ended);
                self.text(title, TITLE, "the title of a tool call");
                fits(id, TOOL_ID)
            }
            Update::ToolCallUpdate { id, ended } => {
                fixed(ended);
                fits(id, TOOL_ID)
            }
            Update::Plan | Update::Other => true,
            Update::Usage(spent) => {
                fixed(spent);
                true
            }
        };
        if !is_known {
            *update = Update::Other;
            self.what = Some("the id of a tool call");
        }
    }

    /// Parts that are too long are cut at their end, and the answer says that there is more.
    fn files(&mut self, answer: &mut FilesAnswer) {
        let what = "an answer about files";
        match answer {
            FilesAnswer::Entries { entries, more } => {
                let mut names = Names::default();
                let fit = entries.iter().take_while(|entry| names.take(&entry.name)).count();
                if fit < entries.len() {
                    (*more, self.what) = (true, Some(what));
                    entries.truncate(fit);
                }
                for FileEntry { name: _, kind, size, mode, modified_ms } in entries {
                    fixed((kind, (size, (mode, modified_ms))));
                }
            }
            FilesAnswer::Piece { size, modified_ms, bytes } => {
                fixed((size, modified_ms));
                if bytes.len() > FILE_PIECE {
                    self.what = Some(what);
                    bytes.truncate(FILE_PIECE);
                }
            }
            FilesAnswer::Difference { files, more, text, cut } => {
                let mut names = Names::default();
                let fit = files.iter().take_while(|file| names.take(&file.path)).count();
                if fit < files.len() {
                    (*more, self.what) = (true, Some(what));
                    files.truncate(fit);
                }
                for ChangedFile { path: _, lines } in files {
                    fixed(lines);
                }
                if text.len() > DIFFERENCE {
                    (*cut, self.what) = (true, Some(what));
                    text.truncate(DIFFERENCE);
                }
            }
            FilesAnswer::Refused { why, message } => {
                fixed(why);
                self.text(message, TEXT, what);
            }
        }
    }

    fn ask(&mut self, ask: &mut PermissionAsk) {
        let PermissionAsk { tool_call, title, kind, paths, options } = ask;
        if !fits(tool_call, TOOL_ID) {
            *tool_call = String::new();
            self.what = Some("the id of a tool call");
        }
        self.text(title, TITLE, "the title of a question");
        if let Some(kind) = kind {
            self.text(kind, KIND, "the kind of a tool call");
        }
        // Rules are about all paths of a tool call: without one of them none is known.
        if !paths_fit(paths) {
            paths.clear();
            self.what = Some("the paths of a tool call");
        }
        let before = options.len();
        options.retain(|option| fits(&option.id, ID));
        options.truncate(OPTIONS);
        if options.len() < before {
            self.what = Some("options of a question");
        }
        for PermissionOption { id: _, name, kind } in options {
            self.text(name, NAME, "the name of an option");
            self.text(kind, KIND, "the kind of an option");
        }
    }
}
