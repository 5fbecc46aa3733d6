//! How large whatever an agent says may be: one table, for the worker, which bounds it where it comes in, and for the
//! manager, which does not trust its workers.
//!
//! Sizes are in bytes as JSON writes them, without quotes, since that is what is stored. A text that is too long is cut, with
//! a mark that says so. An id is never cut, because a cut id is another id: whatever has one that is too long is
//! refused by the worker, and left out by the manager.

use crate::wire::{AgentDetails, PermissionAsk, PermissionOption, Report, SettingAnswer, TurnEnd, Update};

/// The longest argument of a program, in bytes: the kernel's MAX_ARG_STRLEN (execve(2)), less the NUL byte at its end.
pub const ARGUMENT: usize = 128 * 1024 - 1;
/// The longest line of an agent.
pub const LINE: usize = 8 * 1024 * 1024;
/// The longest payload or text that is carried as it came. Two of them fit into a frame.
pub const PAYLOAD: usize = 8 * 1024 * 1024 - 1024;
/// The longest id: of a JSON-RPC request, an option, a mode, a setting, a way to log in.
pub const ID: usize = 256;
/// The longest id of a tool call. Some agents join several ids of their model into one.
pub const TOOL_ID: usize = 1024;
/// The longest name that an agent gives its session.
pub const SESSION_ID: usize = 1024;
/// The longest name of something.
pub const NAME: usize = 256;
/// The longest name of a kind.
pub const KIND: usize = 64;
/// The longest title of a tool call or a question.
pub const TITLE: usize = 1024;
/// The longest text for a person: an error, a reason, a message.
pub const TEXT: usize = 8 * 1024;
/// The longest path of a file that a tool call touches.
pub const PATH: usize = 4 * 1024;
/// The most paths of one tool call.
pub const PATHS: usize = 256;
/// The most that all paths of one tool call may have together.
pub const PATHS_BYTES: usize = 64 * 1024;
/// The most options of one question.
pub const OPTIONS: usize = 32;
/// The most questions that may wait for an answer at once.
pub const PERMISSIONS: usize = 100;
/// The most calls that may wait for a client at once.
pub const CALLS: usize = 100;

/// The length of a text in JSON, without quotes.
pub fn length(text: &str) -> usize {
    text.chars().map(length_of).sum()
}

fn length_of(c: char) -> usize {
    match c {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        c if c < ' ' => 6,
        c => c.len_utf8(),
    }
}

/// Whether a text has at most so many bytes in JSON.
pub fn fits(text: &str, most: usize) -> bool {
    // No character takes more than six, nor less than one.
    text.len() <= most && (text.len() * 6 <= most || length(text) <= most)
}

/// Cuts a text to so many bytes in JSON, with a mark that tells how long it was. Whether it was cut.
pub fn cut(text: &mut String, most: usize) -> bool {
    if fits(text, most) {
        return false;
    }
    let mark = format!("… ({} bytes, cut)", grouped(text.len()));
    let mut room = most.saturating_sub(mark.len());
    let end = text.char_indices().find(|(_, c)| match room.checked_sub(length_of(*c)) {
        Some(left) => {
            room = left;
            false
        }
        None => true,
    });
    text.truncate(end.map_or(text.len(), |(at, _)| at));
    text.push_str(&mark);
    text.shrink_to_fit();
    true
}

/// A number with its thousands apart.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

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
        Report::OutOfMemory { peak_bytes, limit_bytes, by } => fixed((peak_bytes, limit_bytes, by)),
    }
    Ok(cuts.what)
}

/// What has no texts in it: only that can be copied.
fn fixed<T: Fixed>(_: T) {}

trait Fixed {}

impl<T: Copy> Fixed for &mut T {}
impl<A: Fixed, B: Fixed> Fixed for (A, B) {}
impl<A: Fixed, B: Fixed, C: Fixed> Fixed for (A, B, C) {}

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

    /// Carried as it came: bounded by its own length, so that nothing has to be counted.
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

/// Whether the paths of a tool call are within their bounds.
pub fn paths_fit(paths: &[String]) -> bool {
    paths.len() <= PATHS
        && paths.iter().all(|path| fits(path, PATH))
        && paths.iter().map(String::len).sum::<usize>() <= PATHS_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters_and_the_mark_tells_how_long_it_was() {
        for unit in ["x", "ä", "😀", "\"", "\u{1}", "\n", "a😀\u{1}\"ä"] {
            for most in [64, 65, 66, 67, 100, 1024] {
                let mut text = unit.repeat(7_000_000 / unit.len());
                let before = text.clone();
                let bytes = text.len();
                assert!(cut(&mut text, most), "{unit:?}");
                assert!(
                    length(&text) <= most && length(&text) + 12 > most,
                    "{unit:?} {most}: {}",
                    length(&text)
                );
                let kept = text.strip_suffix(&format!("… ({} bytes, cut)", grouped(bytes))).unwrap();
                assert!(before.starts_with(kept));
                assert_eq!(serde_json::to_string(&text).unwrap().len(), length(&text) + 2);
            }
        }
        assert_eq!(
            (grouped(7), grouped(1_000), grouped(7_340_032)),
            ("7".into(), "1,000".into(), "7,340,032".into())
        );
    }

    #[test]
    fn what_fits_is_left_as_it_is() {
        for text in ["", "x", "\u{1}", &"ä".repeat(128), &"\"".repeat(128)] {
            let mut kept = text.to_owned();
            assert!(!cut(&mut kept, 256) && kept == text);
        }
        // Short, and long in JSON.
        let mut long = "\u{1}".repeat(43);
        assert!(cut(&mut long, 256) && length(&long) <= 256, "{long:?}");
        assert!(fits(&"\u{1}".repeat(42), 256) && !fits(&"\u{1}".repeat(43), 256));
        assert!(fits(&"x".repeat(256), 256) && !fits(&"x".repeat(257), 256));
    }
}
