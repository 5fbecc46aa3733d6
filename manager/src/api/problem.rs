//! Errors as the outside sees them: `application/problem+json` (RFC 9457) with a `code` that stays.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use protocol::api::Problem;
use protocol::event::RefusedFor;

use crate::core::Refusal;
use crate::error::Error;

/// The media type of every error.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// The result of a handler.
pub type Answer<T> = Result<T, ApiError>;

/// A request that came to nothing, ready to be sent.
#[derive(Debug)]
pub struct ApiError(Box<Problem>, Option<RefusedFor>);

/// The reason of a response that refuses access. The check of rights takes it from the response and notes it for the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denial(pub RefusedFor);

impl ApiError {
    /// An error of the HTTP face itself.
    pub fn new(status: StatusCode, code: &str, detail: impl AsRef<str>) -> Self {
        let problem = Problem {
            kind: "about:blank".into(),
            title: status.canonical_reason().unwrap_or("Error").into(),
            status: status.as_u16(),
            code: code.into(),
            detail: printable(detail.as_ref()),
            hint: None,
            subject: None,
        };
        Self(Box::new(problem), None)
    }

    /// A refusal of access, which the journal records for this reason.
    pub fn denied(status: StatusCode, code: &str, reason: RefusedFor, detail: impl AsRef<str>) -> Self {
        Self::new(status, code, detail).recorded(reason)
    }

    /// The journal records the error as a refusal for this reason.
    pub fn recorded(mut self, reason: RefusedFor) -> Self {
        self.1 = Some(reason);
        self
    }

    /// Adds advice on the next step.
    pub fn hint(mut self, hint: impl AsRef<str>) -> Self {
        self.0.hint = Some(printable(hint.as_ref()));
        self
    }

    /// Input that makes no sense.
    pub fn bad_request(code: &str, detail: impl AsRef<str>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    /// A fault of kennel's own.
    pub fn internal(detail: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail.to_string())
            .hint("this is a fault of kennel; the daemon's log may say more")
    }

    /// The problem that the daemon sends.
    pub fn problem(&self) -> &Problem {
        &self.0
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let mut made = Self::new(status(&error), error.code(), error.to_string());
        made.0.subject = error.subject().map(str::to_owned);
        if let Error::Refused(Refusal::Weaker { .. }) = &error {
            made = made.recorded(RefusedFor::WeakerThanParent);
        }
        match error.hint() {
            Some(hint) => made.hint(hint),
            None => made,
        }
    }
}

impl From<protocol::IdError> for ApiError {
    fn from(error: protocol::IdError) -> Self {
        Self::bad_request("invalid_id", error.to_string()).hint("`kennel ls --all` lists all sessions")
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let overloaded = self.0.code == "overloaded";
        let mut response = (status, axum::Json(self.0)).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        if overloaded {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if let Some(reason) = self.1 {
            response.extensions_mut().insert(Denial(reason));
        }
        response
    }
}

/// The HTTP status of an error. No wildcard over the variants: a new one has to be thought about here.
pub fn status(error: &Error) -> StatusCode {
    match error {
        Error::Refused(refusal) => refused(refusal),
        Error::Invalid { code, .. } if BY_STATE.contains(code) => StatusCode::CONFLICT,
        // With a hint of its own, which `Refusal` has not.
        Error::Invalid { code: "no_such_session" | "no_such_login", .. } => StatusCode::NOT_FOUND,
        Error::Invalid { code: "not_its_port", .. } => StatusCode::FORBIDDEN,
        Error::Invalid { code: "no_login_answer", .. } => StatusCode::BAD_GATEWAY,
        Error::Invalid { code: "prompt_too_large" | "attachments_too_large", .. } => {
            StatusCode::PAYLOAD_TOO_LARGE
        }
        Error::Invalid { .. } => StatusCode::BAD_REQUEST,
        Error::NotRead { code: "no_such_file", .. } => StatusCode::NOT_FOUND,
        Error::NotRead { code: "outside_workdir", .. } => StatusCode::FORBIDDEN,
        Error::NotRead { code: "overloaded", .. } => StatusCode::SERVICE_UNAVAILABLE,
        Error::NotRead { code: "files_timeout", .. } => StatusCode::GATEWAY_TIMEOUT,
        Error::NotRead { .. } => StatusCode::CONFLICT,
        Error::KeyReused | Error::Overtaken { .. } | Error::SettingRefused { .. } => StatusCode::CONFLICT,
        Error::Timeout { .. } => StatusCode::GATEWAY_TIMEOUT,
        Error::SessionFailed { .. } => StatusCode::BAD_GATEWAY,
        Error::Journal(_) | Error::StateDirGone(_) => StatusCode::INSUFFICIENT_STORAGE,
        Error::Pruned { .. } => StatusCode::GONE,
        Error::Unread(_) => StatusCode::INTERNAL_SERVER_ERROR,
        Error::Ended => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// Nothing is wrong with such a request by itself: it does not fit what there is here.
const BY_STATE: &[&str] = &[
    "agent_not_found",
    "ambiguous_id",
    // The request is right; the user's own file is not.
    "invalid_config",
    "login_busy",
    "login_ended",
    "login_not_started",
    "login_running",
    "mcp_servers_refused",
    "model_required",
    "no_conversations",
    "no_login_command",
    "no_such_agent",
    "no_such_workdir",
    "too_many_logins",
    "workdir_not_a_directory",
    "workdir_not_accessible",
    "workdir_not_utf8",
];

fn refused(refusal: &Refusal) -> StatusCode {
    match refusal {
        Refusal::NoSuchSession(_)
        | Refusal::NoSuchPid(_)
        | Refusal::NoSuchPrompt { .. }
        | Refusal::NoSuchPermission(_)
        | Refusal::NoSuchTurn { .. }
        | Refusal::TurnPruned { .. }
        | Refusal::NoSuchCall(_) => StatusCode::NOT_FOUND,
        Refusal::NoSuchOption { .. } => StatusCode::BAD_REQUEST,
        Refusal::IdTaken(_)
        | Refusal::TurnRuns { .. }
        | Refusal::CannotFork { .. }
        | Refusal::ForkElsewhere { .. }
        | Refusal::ConversationTaken { .. }
        | Refusal::IdUnusable(_)
        | Refusal::IdIsName { .. }
        | Refusal::NameTaken { .. }
        | Refusal::IdIsNumber(_)
        | Refusal::NameIsId(..)
        | Refusal::NameUnusable(..)
        | Refusal::TooManyLabels { .. }
        | Refusal::LabelsOfKey(_)
        | Refusal::IdRetired(_)
        | Refusal::SpecMismatch { .. }
        | Refusal::Stopped(_)
        | Refusal::Failed { .. }
        | Refusal::Stopping(_)
        | Refusal::Busy(_)
        | Refusal::QueueFull { .. }
        | Refusal::NoAttachments { .. }
        | Refusal::NoTurn(_)
        | Refusal::NoTurnOf { .. }
        | Refusal::Queued { .. }
        | Refusal::NotQueued { .. }
        | Refusal::NotInterrupted(_)
        | Refusal::NotStopped(_)
        | Refusal::PermissionSettled(_)
        | Refusal::CallSettled(_)
        | Refusal::NoSettings { .. }
        | Refusal::TooManySettings { .. }
        | Refusal::Driven { .. }
        | Refusal::NotDriver(_)
        | Refusal::TooManyClients { .. }
        | Refusal::SubagentLimit { .. }
        | Refusal::Unkillable { .. } => StatusCode::CONFLICT,
        Refusal::TooLongForAgent { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        Refusal::Weaker { .. } => StatusCode::FORBIDDEN,
        Refusal::Closing => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// The text with everything escaped that could drive a terminal: control characters but newline and tab, and
/// the marks that turn the direction of writing. Error texts quote what strangers sent.
pub fn printable(text: &str) -> String {
    let harmless = |c: char| {
        let plain = !c.is_control() || matches!(c, '\n' | '\t');
        plain && !matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if text.chars().all(harmless) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if harmless(c) {
            out.push(c);
        } else {
            out.extend(c.escape_default());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use protocol::PromptId;

    use super::super::codes::*;
    use super::*;

    /// A value of every error. The matches in `status` and `refused` do not compile without a new variant; this list
    /// makes sure that each is documented.
    fn all() -> Vec<Error> {
        let id = || "s".parse::<protocol::SessionId>().unwrap();
        let prompt = PromptId(7);
        let refusals = [
            Refusal::NoSuchSession("x".into()),
            Refusal::NoSuchPid(1),
            Refusal::IdTaken(id()),
            Refusal::IdUnusable(id()),
            Refusal::IdRetired(id()),
            Refusal::IdIsNumber(id()),
            Refusal::SpecMismatch { id: id(), fields: vec!["agent"] },
            Refusal::Stopped(id()),
            Refusal::Failed { id: id(), reason: "r".into() },
            Refusal::Stopping(id()),
            Refusal::Busy(id()),
            Refusal::QueueFull { id: id(), limit: 100 },
            Refusal::NoAttachments { id: id(), agent: "shell".into() },
            Refusal::TooLongForAgent { id: id(), agent: "shell".into(), bytes: 2, limit: 1 },
            Refusal::NoTurn(id()),
            Refusal::NoSuchPrompt { id: id(), prompt },
            Refusal::NotQueued { id: id(), prompt },
            Refusal::NotInterrupted(prompt),
            Refusal::NotStopped(id()),
            Refusal::Unkillable { id: id(), incarnation: 1, pids: vec![2] },
            Refusal::SubagentLimit { id: id(), what: crate::core::SubagentLimit::Total, limit: 32 },
            Refusal::Closing,
        ];
        let mut all: Vec<Error> = refusals.into_iter().map(Error::Refused).collect();
        all.extend([
            Error::invalid("ambiguous_id", "x"),
            Error::invalid("prompt_too_large", "x"),
            Error::invalid("attachments_too_large", "x"),
            Error::invalid("invalid_attachment", "x"),
            Error::invalid("empty_prompt", "x"),
            Error::invalid("invalid_prompt", "x"),
            Error::invalid("invalid_id", "x"),
            Error::invalid("no_such_session", "x"),
            Error::invalid("no_such_agent", "x"),
            Error::invalid("no_conversations", "x"),
            Error::invalid("invalid_config", "x"),
            Error::invalid("no_such_login", "x"),
            Error::invalid("no_login_command", "x"),
            Error::invalid("login_running", "x"),
            Error::invalid("too_many_logins", "x"),
            Error::invalid("login_not_started", "x"),
            Error::invalid("login_busy", "x"),
            Error::invalid("login_ended", "x"),
            Error::invalid("invalid_login_input", "x"),
            Error::invalid("invalid_login_url", "x"),
            Error::invalid("not_its_port", "x"),
            Error::invalid("no_login_answer", "x"),
            Error::files("no_such_file", "x"),
            Error::files("outside_workdir", "x"),
            Error::files("wrong_file_kind", "x"),
            Error::files("file_unreadable", "x"),
            Error::files("files_timeout", "x"),
            Error::files("overloaded", "x"),
            Error::files("no_start_commit", "x"),
            Error::files("no_git", "x"),
            Error::files("no_reader", "x"),
            Error::KeyReused,
            Error::Timeout { what: "x".into(), after: Duration::from_secs(1) },
            Error::SessionFailed { id: id(), reason: "x".into() },
            Error::Overtaken { id: id(), what: "was stopped meanwhile" },
            Error::Journal("x".into()),
            Error::StateDirGone("/x".into()),
            Error::Ended,
        ]);
        all
    }

    #[test]
    fn every_error_is_documented_with_its_status() {
        for error in all() {
            let row = (status(&error).as_u16(), error.code());
            assert!(are_known(&[row]), "{row:?}");
        }
    }

    #[test]
    fn statuses_are_what_clients_rely_on() {
        let table: Vec<String> =
            all().iter().map(|error| format!("{} {}", status(error).as_u16(), error.code())).collect();
        for line in [
            "404 no_such_session",
            "404 no_such_prompt",
            "409 id_taken",
            "409 id_unusable",
            "409 spec_mismatch",
            "409 session_stopped",
            "409 session_failed",
            "409 queue_full",
            "409 idempotency_key_reused",
            "409 ambiguous_id",
            "409 invalid_config",
            "400 empty_prompt",
            "413 prompt_too_large",
            "502 session_failed",
            "503 manager_stopping",
            "504 timeout",
            "507 journal_full",
        ] {
            assert!(table.iter().any(|row| row == line), "{line} not in {table:#?}");
        }
    }

    #[test]
    fn the_shared_lists_are_documented_too() {
        for list in [EVERYWHERE, WITH_BODY, WITH_OPTIONS] {
            assert!(are_known(list), "{list:?}");
        }
        let mut sorted = MEANINGS.to_vec();
        sorted.sort_unstable();
        sorted.dedup_by_key(|row| (row.0, row.1));
        assert_eq!(sorted, MEANINGS, "sorted, and no code twice under one status");
    }

    #[test]
    fn quoted_text_cannot_drive_a_terminal() {
        let error =
            ApiError::from(Error::invalid_with("invalid_id", "`\u{1b}[31m\u{7f}\r` ä\n\u{202e}", "\u{9b}2J"));
        let problem = error.problem();
        assert_eq!(problem.detail, "`\\u{1b}[31m\\u{7f}\\r` ä\n\\u{202e}");
        assert_eq!(problem.hint.as_deref(), Some("\\u{9b}2J"));
        assert_eq!((problem.status, &*problem.title, &*problem.kind), (400, "Bad Request", "about:blank"));
    }

    #[test]
    fn an_error_says_its_media_type() {
        let response = ApiError::from(Error::Ended).into_response();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[header::CONTENT_TYPE], MEDIA_TYPE);
    }
}
