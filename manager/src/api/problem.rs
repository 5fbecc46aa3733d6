//! Errors as the outside sees them: `application/problem+json` (RFC 9457) with a `code` that stays.

use std::collections::BTreeMap;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use protocol::api::Problem;
use utoipa::openapi::{Content, Ref, RefOr, response};

use crate::core::Refusal;
use crate::error::Error;

/// The media type of every error.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// What a handler answers.
pub type Answer<T> = Result<T, ApiError>;

/// A request that came to nothing, ready to be sent.
#[derive(Debug)]
pub struct ApiError(Box<Problem>);

impl ApiError {
    /// An error of the HTTP face itself.
    pub fn new(status: StatusCode, code: &str, detail: impl AsRef<str>) -> Self {
        Self(Box::new(Problem {
            kind: "about:blank".into(),
            title: status.canonical_reason().unwrap_or("Error").into(),
            status: status.as_u16(),
            code: code.into(),
            detail: printable(detail.as_ref()),
            hint: None,
            subject: None,
        }))
    }

    /// Says what to do about it.
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

    /// What is sent.
    pub fn problem(&self) -> &Problem {
        &self.0
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let mut made = Self::new(status(&error), error.code(), error.to_string());
        made.0.subject = error.subject().map(str::to_owned);
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
        response
    }
}

/// The HTTP status of an error. No wildcard over the variants: a new one has to be thought about here.
pub fn status(error: &Error) -> StatusCode {
    match error {
        Error::Refused(refusal) => refused(refusal),
        Error::Invalid { code, .. } if BY_STATE.contains(code) => StatusCode::CONFLICT,
        // With a hint of its own, which `Refusal` has not.
        Error::Invalid { code: "no_such_session", .. } => StatusCode::NOT_FOUND,
        Error::Invalid { code: "prompt_too_large" | "attachments_too_large", .. } => {
            StatusCode::PAYLOAD_TOO_LARGE
        }
        Error::Invalid { .. } => StatusCode::BAD_REQUEST,
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
    "mcp_servers_refused",
    "model_required",
    "no_such_agent",
    "no_such_workdir",
    "workdir_not_a_directory",
    "workdir_not_accessible",
    "workdir_not_utf8",
];

fn refused(refusal: &Refusal) -> StatusCode {
    match refusal {
        Refusal::NoSuchSession(_)
        | Refusal::NoSuchPid(_)
        | Refusal::NoSuchPrompt(_)
        | Refusal::NoSuchPermission(_)
        | Refusal::NoSuchCall(_) => StatusCode::NOT_FOUND,
        Refusal::NoSuchOption { .. } => StatusCode::BAD_REQUEST,
        Refusal::IdTaken(_)
        | Refusal::IdRetired(_)
        | Refusal::SpecMismatch { .. }
        | Refusal::Stopped(_)
        | Refusal::Failed { .. }
        | Refusal::Stopping(_)
        | Refusal::Busy(_)
        | Refusal::QueueFull { .. }
        | Refusal::NoAttachments { .. }
        | Refusal::NoTurn(_)
        | Refusal::NotQueued(_)
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

/// Every error that a route may document: status, code, when it comes. `session_failed` has two statuses: a
/// refusal because it had failed before is a conflict, a failure while it was waited for is a bad gateway.
const MEANINGS: &[(u16, &str, &str)] = &[
    (400, "empty_prompt", "the text is empty"),
    (400, "invalid_answer", "an answer to a call is either a result or an error"),
    (400, "invalid_attachment", "an attachment is not one, or there are more than 16"),
    (
        400,
        "invalid_body",
        "the body is JSON with an unknown field, a wrong type, or without a field it needs",
    ),
    (400, "invalid_client", "the client's id or name is not one"),
    (400, "invalid_cpus", "`milli_cpus` is out of bounds"),
    (400, "invalid_cursor", "the cursor is not a number"),
    (400, "invalid_env", "a variable's name or value is not one"),
    (400, "invalid_grace", "`grace_ms` is out of bounds"),
    (400, "invalid_hibernate_after", "`hibernate_after_ms` is out of bounds"),
    (400, "invalid_id", "an id in the path or body is not one"),
    (400, "invalid_idempotency_key", "the key is not 1 to 255 printable ASCII characters without spaces"),
    (400, "invalid_intensity", "`intensity` is out of bounds"),
    (400, "invalid_json", "the body is not JSON"),
    (400, "invalid_mcp_servers", "an MCP server is not one"),
    (400, "invalid_memory", "`memory_bytes` is out of bounds"),
    (400, "invalid_model", "the model's name is not one"),
    (400, "invalid_nice", "`nice` is out of bounds"),
    (400, "invalid_nofile", "`nofile` is out of bounds"),
    (400, "invalid_parameter", "a query parameter is unknown, missing or of a wrong type"),
    (400, "invalid_period", "`period_ms` is out of bounds"),
    (400, "invalid_permission_timeout", "`permission_timeout_ms` is out of bounds"),
    (400, "invalid_pids", "`pids` is out of bounds"),
    (400, "invalid_prompt", "the text contains a NUL byte"),
    (400, "invalid_request", "this is no request of HTTP/1.1, or it has no end"),
    (400, "invalid_setting", "the setting's name or value is not one"),
    (400, "invalid_title", "the title is too long or has control characters"),
    (400, "invalid_turn_timeout", "`turn_timeout_ms` is out of bounds"),
    (400, "invalid_umask", "`Kennel-Umask` is no umask"),
    (400, "invalid_utf8", "the body is not UTF-8"),
    (400, "invalid_workdir", "the text is not a path"),
    (400, "no_such_option", "the agent does not offer this answer"),
    (400, "unexpected_body", "the request has a body where none belongs"),
    (400, "workdir_not_absolute", "the path is not absolute"),
    (401, "bad_token", "the token is not this session's"),
    (403, "forbidden", "the token gives no such right on this session"),
    (403, "origin_refused", "the request comes from a web page"),
    (403, "weaker_than_parent", "the sub-agent would be bound less than its parent"),
    (404, "no_such_call", "the session has no such call"),
    (404, "no_such_permission", "the session has asked for no such permission"),
    (404, "no_such_pid", "no session has a process with this pid now"),
    (404, "no_such_prompt", "the session has no such prompt"),
    (404, "no_such_session", "there is no such session"),
    (408, "request_timeout", "the request's head or body did not come in time"),
    (409, "agent_not_found", "the agent's program is not on the daemon's PATH"),
    (409, "ambiguous_id", "several sessions begin so"),
    (409, "busy", "a turn runs or others wait, and `when_busy` is `reject`"),
    (409, "call_settled", "the call was answered already, or expired"),
    (409, "driven", "another client drives the session"),
    (409, "id_retired", "a removed session had this id; ids are not used again"),
    (409, "id_taken", "a session has this id"),
    (409, "idempotency_key_reused", "the key was used before with another request"),
    (409, "invalid_config", "`config.toml` is wrong; `detail` names the file and the line"),
    (409, "invalid_cursor", "the cursor is beyond the last event"),
    (409, "invalid_id", "the body's id is not the one that the rest of the request says"),
    (409, "invalid_workdir", "`opts.workdir` is not `workdir`"),
    (409, "mcp_servers_refused", "the agent takes no MCP servers, or not these, or not so many"),
    (409, "model_required", "the agent is run with a model, and none was given"),
    (409, "no_attachments", "the session's agent takes no attachments"),
    (409, "no_settings", "the session's agent has no settings"),
    (409, "no_such_agent", "the configuration has no such agent"),
    (409, "no_such_workdir", "there is no such directory"),
    (409, "no_turn", "no turn runs"),
    (409, "not_driver", "the client that `Kennel-Client` names does not drive the session"),
    (409, "not_interrupted", "the prompt was not interrupted, or that was resolved already"),
    (409, "not_queued", "the prompt does not wait any more"),
    (409, "not_stopped", "the session has a process, and `force` is not set"),
    (409, "overtaken", "somebody else stopped or started the session meanwhile"),
    (409, "permission_settled", "the permission was answered already, or expired"),
    (409, "queue_full", "as many prompts wait as may"),
    (409, "session_failed", "the session has failed"),
    (409, "session_stopped", "the session is stopped"),
    (409, "session_stopping", "the session is being stopped"),
    (409, "setting_refused", "the agent did not set it"),
    (409, "spec_mismatch", "the session exists with other options"),
    (409, "subagent_limit", "there are as many sub-agents as there may be, or they are as deep"),
    (409, "too_many_clients", "as many clients are attached as may"),
    (409, "too_many_settings", "as many settings wait for the agent as may"),
    (409, "unkillable", "processes of the session survived SIGKILL"),
    (409, "workdir_not_a_directory", "the path is not one of a directory"),
    (409, "workdir_not_accessible", "the directory cannot be entered"),
    (409, "workdir_not_utf8", "the directory's real path is not UTF-8"),
    (413, "attachments_too_large", "the attachments have more than 8 MiB together"),
    (413, "body_too_large", "the body has more than 2 MiB, one that may have files in it more than 12"),
    (
        413,
        "prompt_too_large",
        "the text has more than 1 MiB, or than the 128 KiB of an agent that gets it as an argument",
    ),
    (414, "uri_too_long", "the URI has more than 16 KiB"),
    (415, "unsupported_media_type", "the body is not `application/json`"),
    (431, "headers_too_large", "the request's head has more than 16 KiB or 100 lines"),
    (500, "internal", "a fault of kennel"),
    (500, "unread", "the journal, or a directory beside it, cannot be read"),
    (502, "session_failed", "the session failed while it was waited for"),
    (503, "manager_stopping", "the manager ends; the next one brings the sessions back"),
    (
        503,
        "overloaded",
        "too many connections, or too many bytes of requests or answers, are waited for; the header `Retry-After` says when to try again",
    ),
    (504, "timeout", "it did not happen in time; what was asked stays asked"),
    (
        507,
        "journal_full",
        "the journal could not be written, most often for want of disk; nothing was changed",
    ),
    (507, "state_dir_gone", "the state directory was deleted; no new work is taken"),
];

/// What any route may answer.
const EVERYWHERE: &[(u16, &str)] = &[
    (400, "invalid_parameter"),
    (400, "invalid_request"),
    (401, "bad_token"),
    (403, "forbidden"),
    (403, "origin_refused"),
    (408, "request_timeout"),
    (414, "uri_too_long"),
    (431, "headers_too_large"),
    (500, "unread"),
    (503, "manager_stopping"),
    (503, "overloaded"),
    (507, "state_dir_gone"),
];

/// What any route that takes a body may answer.
pub const WITH_BODY: &[(u16, &str)] = &[
    (400, "invalid_body"),
    (400, "invalid_json"),
    (400, "invalid_utf8"),
    (413, "body_too_large"),
    (415, "unsupported_media_type"),
];

/// What any route that creates or revives a session may answer.
pub const WITH_OPTIONS: &[(u16, &str)] = &[
    (409, "agent_not_found"),
    (400, "invalid_cpus"),
    (400, "invalid_env"),
    (400, "invalid_grace"),
    (400, "invalid_hibernate_after"),
    (400, "invalid_id"),
    (400, "invalid_intensity"),
    (400, "invalid_mcp_servers"),
    (400, "invalid_memory"),
    (400, "invalid_model"),
    (400, "invalid_nice"),
    (400, "invalid_nofile"),
    (400, "invalid_period"),
    (400, "invalid_permission_timeout"),
    (400, "invalid_pids"),
    (400, "invalid_title"),
    (400, "invalid_turn_timeout"),
    (400, "invalid_umask"),
    (400, "invalid_workdir"),
    (409, "model_required"),
    (409, "no_such_agent"),
    (409, "no_such_workdir"),
    (409, "workdir_not_a_directory"),
    (400, "workdir_not_absolute"),
    (409, "workdir_not_accessible"),
    (409, "workdir_not_utf8"),
    (404, "no_such_session"),
    (409, "id_retired"),
    (409, "mcp_servers_refused"),
    (409, "overtaken"),
    (409, "invalid_config"),
    (502, "session_failed"),
    (507, "journal_full"),
];

/// The error responses of a route, for its OpenAPI.
pub fn responses(lists: &[&[(u16, &str)]]) -> BTreeMap<String, RefOr<response::Response>> {
    let mut texts: BTreeMap<u16, Vec<String>> = BTreeMap::new();
    for (status, code, meaning) in MEANINGS {
        let listed = |list: &&[(u16, &str)]| list.contains(&(*status, *code));
        if lists.iter().chain([&EVERYWHERE]).any(listed) {
            texts.entry(*status).or_default().push(format!("`{code}`: {meaning}."));
        }
    }
    let response = |texts: Vec<String>| {
        let content = Content::new(Some(Ref::from_schema_name("Problem")));
        response::ResponseBuilder::new()
            .description(texts.join(" "))
            .content(MEDIA_TYPE, content)
            .build()
            .into()
    };
    texts.into_iter().map(|(status, texts)| (status.to_string(), response(texts))).collect()
}

/// Names the errors of a route, to be listed in its `responses(...)`: `refuses!(Stop: 404 "no_such_session");`,
/// with lists that several routes share after a `+`.
macro_rules! refuses {
    ($name:ident: $($status:literal $code:literal),* $(; + $($list:expr),+)?) => {
        struct $name;
        impl $name {
            const CODES: &[(u16, &str)] = &[$(($status, $code)),*];
        }
        impl utoipa::IntoResponses for $name {
            fn responses() -> std::collections::BTreeMap<
                String,
                utoipa::openapi::RefOr<utoipa::openapi::response::Response>,
            > {
                $crate::api::problem::responses(&[Self::CODES $($(, $list)+)?])
            }
        }
        const _: () = assert!($crate::api::problem::are_known($name::CODES), "a code is not in MEANINGS");
    };
}
pub(crate) use refuses;

/// Whether each of these is documented; asked while compiling, by every `refuses!`.
pub const fn are_known(mut codes: &[(u16, &str)]) -> bool {
    while let [(status, code), rest @ ..] = codes {
        let mut rows = MEANINGS;
        loop {
            match rows {
                [] => return false,
                [row, ..] if row.0 == *status && is_same(row.1.as_bytes(), code.as_bytes()) => break,
                [_, others @ ..] => rows = others,
            }
        }
        codes = rest;
    }
    true
}

/// `==` for texts, which cannot be used while compiling yet.
const fn is_same(a: &[u8], b: &[u8]) -> bool {
    match (a, b) {
        ([], []) => true,
        ([a, rest_of_a @ ..], [b, rest_of_b @ ..]) => *a == *b && is_same(rest_of_a, rest_of_b),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use protocol::PromptId;

    use super::*;

    /// One of each. The matches in `status` and `refused` do not compile without a new variant; this list
    /// makes sure that each is documented.
    fn all() -> Vec<Error> {
        let id = || "s".parse::<protocol::SessionId>().unwrap();
        let prompt = PromptId(7);
        let refusals = [
            Refusal::NoSuchSession("x".into()),
            Refusal::NoSuchPid(1),
            Refusal::IdTaken(id()),
            Refusal::IdRetired(id()),
            Refusal::SpecMismatch { id: id(), fields: vec!["agent"] },
            Refusal::Stopped(id()),
            Refusal::Failed { id: id(), reason: "r".into() },
            Refusal::Stopping(id()),
            Refusal::Busy(id()),
            Refusal::QueueFull { id: id(), limit: 100 },
            Refusal::NoAttachments { id: id(), agent: "shell".into() },
            Refusal::TooLongForAgent { id: id(), agent: "shell".into(), bytes: 2, limit: 1 },
            Refusal::NoTurn(id()),
            Refusal::NoSuchPrompt(prompt),
            Refusal::NotQueued(prompt),
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
            Error::invalid("invalid_config", "x"),
            Error::KeyReused,
            Error::Timeout { what: "x".into(), after: Duration::from_secs(1) },
            Error::SessionFailed { id: id(), reason: "x".into() },
            Error::Overtaken { id: id(), what: "was stopped" },
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
