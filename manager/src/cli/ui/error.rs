//! Outcomes of a command: exit codes, and the errors that people and programs see.

use std::io;
use std::time::Duration;

use protocol::api::Problem;

use crate::cli::ui::render;
use crate::client::ClientError;
use crate::plain;

/// Exit codes, the same for every command.
pub mod exit {
    /// The command failed.
    pub const FAILURE: u8 = 1;
    /// The command line makes no sense.
    pub const USAGE: u8 = 2;
    /// The time limit is over.
    pub const TIMEOUT: u8 = 3;
    /// There is no such session, prompt or process.
    pub const NO_SUCH: u8 = 4;
    /// Not allowed.
    pub const DENIED: u8 = 5;
    /// No daemon answers, and none could be started.
    pub const UNREACHABLE: u8 = 6;
    /// The state of things does not allow it.
    pub const CONFLICT: u8 = 7;
    /// The turn ended at the model's limit of tokens.
    pub const MAX_TOKENS: u8 = 10;
    /// The turn ended at the limit of requests in a turn.
    pub const MAX_TURN_REQUESTS: u8 = 11;
    /// The agent refused to go on.
    pub const REFUSED: u8 = 12;
    /// The turn was aborted.
    pub const ABORTED: u8 = 13;
    /// A crash cut the turn off.
    pub const CUT_OFF: u8 = 14;
    /// Ctrl-C.
    pub const INTERRUPTED: u8 = 130;
}

/// Why a command ends without having done what it was asked for.
#[derive(Debug)]
pub enum Failure {
    /// An error to print, and the exit code.
    Problem(Box<Problem>, u8),
    /// The exit code after an error that is printed already.
    Printed(u8),
    /// The reader of the output has closed it.
    Unread,
}

/// The result of a command.
pub type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    /// A failure of the command line's own; `status` is the HTTP status that comes nearest.
    pub fn new(exit: u8, code: &str, detail: impl Into<String>) -> Self {
        let (status, title) = match exit {
            exit::USAGE => (400, "Bad Request"),
            exit::TIMEOUT => (504, "Gateway Timeout"),
            exit::NO_SUCH => (404, "Not Found"),
            exit::DENIED => (403, "Forbidden"),
            exit::UNREACHABLE => (503, "Service Unavailable"),
            exit::CONFLICT => (409, "Conflict"),
            _ => (500, "Internal Server Error"),
        };
        let problem = Problem {
            kind: "about:blank".into(),
            title: title.into(),
            status,
            code: code.into(),
            detail: detail.into(),
            hint: None,
            subject: None,
        };
        Self::Problem(Box::new(problem), exit)
    }

    /// Something went wrong.
    pub fn failed(code: &str, detail: impl Into<String>) -> Self {
        Self::new(exit::FAILURE, code, detail)
    }

    /// The command line makes no sense.
    pub fn usage(detail: impl Into<String>) -> Self {
        Self::new(exit::USAGE, "usage", detail)
    }

    /// There is no daemon to talk to.
    pub fn unreachable(detail: impl Into<String>) -> Self {
        Self::new(exit::UNREACHABLE, "daemon_unreachable", detail)
    }

    /// The daemon, with this process if it is known, has answered nothing for so long.
    pub fn silent(within: Duration, pid: Option<u32>) -> Self {
        let who = pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
        let within = humantime::format_duration(within);
        let what = format!("the daemon{who} did not answer within {within}");
        Self::new(exit::TIMEOUT, "daemon_silent", what)
            .hint(format!("is it stopped, or the machine overloaded? {}", way_out(pid)))
    }

    /// Adds what may have changed all the same.
    pub fn but(mut self, what: &str) -> Self {
        if let Self::Problem(problem, _) = &mut self {
            problem.detail += &format!("; {what}");
        }
        self
    }

    /// Of a request before this one, which may have been done: takes back what the error says about nothing being changed.
    pub fn although(mut self, what: &str) -> Self {
        if let Self::Problem(problem, _) = &mut self {
            for nothing in ["; nothing was changed", "; nothing was done", "; nothing was looked at"] {
                problem.detail = problem.detail.replace(nothing, "");
            }
            problem.detail += &format!("; {what}");
            let look = "`kennel events SESSION` on that machine tells what was done";
            problem.hint = Some(match &problem.hint {
                Some(hint) if hint.contains(look) => hint.clone(),
                Some(hint) => format!("{hint}; {look}"),
                None => look.to_owned(),
            });
        }
        self
    }

    /// Names the machine on which it went wrong.
    pub fn on(mut self, host: &str) -> Self {
        if let Self::Problem(problem, _) = &mut self {
            problem.detail = format!("{host}: {}", problem.detail);
        }
        self
    }

    /// Adds advice on the next step.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        if let Self::Problem(problem, _) = &mut self {
            problem.hint = Some(hint.into());
        }
        self
    }

    /// Returns true if the failure is a problem with this code.
    pub fn is(&self, code: &str) -> bool {
        matches!(self, Self::Problem(problem, _) if problem.code == code)
    }

    /// Returns true if what was to be started was refused. Where the answer was lost, or came after the start, it may be there.
    pub fn has_started_nothing(&self) -> bool {
        match self {
            Self::Problem(problem, _) => (400..500).contains(&problem.status) && problem.code != "overtaken",
            Self::Printed(_) | Self::Unread => false,
        }
    }

    /// Returns the error's text, unless it is printed already.
    pub fn detail(&self) -> Option<&str> {
        match self {
            Self::Problem(problem, _) => Some(&problem.detail),
            Self::Printed(_) | Self::Unread => None,
        }
    }

    /// The exit code.
    pub fn exit(&self) -> u8 {
        match self {
            Self::Problem(_, exit) | Self::Printed(exit) => *exit,
            Self::Unread => 0,
        }
    }

    /// Returns the text for standard error; none if it is printed already.
    pub fn text(&self, json: bool, colour: bool) -> Option<String> {
        let Self::Problem(problem, _) = self else {
            return None;
        };
        if json {
            return serde_json::to_string(problem).ok().map(|line| render::json(&line) + "\n");
        }
        let label = |word, style| render::paint(word, style, colour);
        let mut text =
            format!("{}: {}\n", label("error", render::RED), render::block(&problem.detail).trim_end());
        if let Some(hint) = &problem.hint {
            text += &format!("{}: {}\n", label("hint", render::CYAN), render::block(hint).trim_end());
        }
        Some(text)
    }
}

/// Conflicts with what there is on this machine: what was typed, or written into `config.toml`, is wrong or names something
/// that is not there.
const MISNAMED: &[&str] = &[
    "agent_not_found",
    "invalid_config",
    "invalid_id",
    "invalid_workdir",
    "mcp_servers_refused",
    "model_required",
    "no_conversations",
    "no_such_agent",
    "no_such_workdir",
    "workdir_not_a_directory",
    "workdir_not_accessible",
    "workdir_not_utf8",
];

/// The exit code of an error of the API.
fn exit_of(problem: &Problem) -> u8 {
    match (problem.status, problem.code.as_str()) {
        (404, "no_such_session" | "no_such_pid" | "no_such_prompt" | "no_such_turn") => exit::NO_SUCH,
        (400 | 413 | 415, _) => exit::USAGE,
        (409, code) if MISNAMED.contains(&code) => exit::USAGE,
        (401 | 403, _) => exit::DENIED,
        (409, _) => exit::CONFLICT,
        // It is there, and takes requests later.
        (429 | 503, _) => exit::UNREACHABLE,
        (504, _) => exit::TIMEOUT,
        _ => exit::FAILURE,
    }
}

impl From<Box<Problem>> for Failure {
    fn from(problem: Box<Problem>) -> Self {
        let exit = exit_of(&problem);
        Self::Problem(problem, exit)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Absent(error) => Self::unreachable(format!("no daemon answers ({error})")),
            ClientError::Denied(what) => Self::new(exit::DENIED, "permission_denied", what),
            ClientError::Connect(error) => Self::unreachable(format!("the daemon cannot be reached: {error}")),
            ClientError::Host { what, hint } => {
                let failure = Self::unreachable(what);
                match hint {
                    Some(hint) => failure.hint(hint),
                    None => failure,
                }
            }
            ClientError::Lost(what) => Self::unreachable(format!(
                "the daemon went away before it answered ({what}); what was asked may or may not have been done"
            ))
            .hint("look with `kennel ls`, then try again"),
            ClientError::Garbage(what) => Self::failed("bad_answer", format!(
                "the daemon's answer makes no sense: {}",
                plain::said(&what)
            ))
                .hint("is the daemon of another version? `kennel daemon restart` starts this one"),
            ClientError::Silent(after) => Self::silent(after, None),
            ClientError::Problem(problem) => problem.into(),
        }
    }
}

/// Failures to write.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Unread,
            _ => Self::failed("output", format!("cannot write: {error}")),
        }
    }
}

/// The way to end a daemon that does nothing any more.
pub fn way_out(pid: Option<u32>) -> String {
    match pid {
        Some(pid) => format!("`kill -9 {pid}` ends it and harms no session"),
        None => "the file `lock` in its state directory has its pid; `kill -9` ends it and harms no session"
            .into(),
    }
}

/// A failure in one line, with what to do about it.
pub fn text_of(failure: &Failure) -> String {
    let Failure::Problem(problem, _) = failure else {
        return "it was not possible".to_owned();
    };
    match &problem.hint {
        Some(hint) => format!("{} ({hint})", problem.detail.trim_end()),
        None => problem.detail.trim_end().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(status: u16, code: &str) -> Failure {
        Box::new(Problem {
            kind: "about:blank".into(),
            title: "".into(),
            status,
            code: code.into(),
            detail: "it \u{1b}[2J broke\n".into(),
            hint: Some("mend it".into()),
            subject: None,
        })
        .into()
    }

    #[test]
    fn exit_codes_follow_the_apis_errors() {
        for (status, code, exit) in [
            (404, "no_such_session", 4),
            (404, "no_such_prompt", 4),
            (404, "no_such_turn", 4),
            (404, "no_such_route", 1),
            (409, "no_such_agent", 2),
            (413, "prompt_too_large", 2),
            (401, "bad_token", 5),
            (409, "spec_mismatch", 7),
            (502, "session_failed", 1),
            (503, "manager_stopping", 6),
            (429, "too_many_failures", 6),
            (504, "timeout", 3),
            (507, "journal_full", 1),
        ] {
            assert_eq!(problem(status, code).exit(), exit, "{status} {code}");
        }
        assert_eq!(Failure::from(io::Error::from(io::ErrorKind::BrokenPipe)).exit(), 0);
    }

    #[test]
    fn an_error_after_something_was_done_does_not_say_that_nothing_was() {
        let problem = |detail: &str| {
            let failure = Failure::new(exit::DENIED, "bad_key", detail).hint("pair again");
            failure.although("prompt-3 was accepted")
        };
        let failure = problem("the key was revoked; nothing was changed").although("it runs");
        assert_eq!(failure.detail(), Some("the key was revoked; prompt-3 was accepted; it runs"));
        let text = failure.text(false, false).unwrap();
        assert_eq!(text.matches("tells what was done").count(), 1, "{text}");
        assert!(text.contains("pair again; `kennel events SESSION`"), "{text}");
    }

    #[test]
    fn errors_are_told_to_people_and_to_programs() {
        let failure = problem(409, "busy");
        assert_eq!(failure.text(false, false).unwrap(), "error: it \\u{1b}[2J broke\nhint: mend it\n");
        let json: Problem = serde_json::from_str(&failure.text(true, false).unwrap()).unwrap();
        assert_eq!((json.status, &*json.code), (409, "busy"));
        assert!(Failure::Printed(1).text(false, false).is_none());
    }
}
