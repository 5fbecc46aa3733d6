//! Every error code that a route documents, and the macro by which a route lists its own.

use std::collections::{BTreeMap, BTreeSet};

use utoipa::openapi::{Content, Ref, RefOr, response};

use super::problem::MEDIA_TYPE;
use crate::core::options::NUMBERS;

/// Every error that a route may document, but for those of [`NUMBERS`]: status, code, when it comes. `session_failed` has two statuses: a
/// refusal because it had failed before is a conflict, a failure while it was waited for is a bad gateway.
pub(super) const MEANINGS: &[(u16, &str, &str)] = &[
    (400, "empty_prompt", "the text is empty"),
    (400, "invalid_answer", "an answer to a call is either a result or an error"),
    (400, "invalid_attachment", "an attachment is not one, or there are more than 16"),
    (
        400,
        "invalid_body",
        "the body is JSON with an unknown field, a wrong type, or without a field it needs",
    ),
    (400, "invalid_client", "the client's id or name is not one"),
    (400, "invalid_conversation", "the conversation's id is empty, too long or has control characters"),
    (400, "invalid_cursor", "the cursor is not one"),
    (400, "invalid_env", "a variable's name or value is not one"),
    (400, "invalid_id", "an id in the path or body is not one"),
    (400, "invalid_idempotency_key", "the key is not 1 to 255 printable ASCII characters without spaces"),
    (400, "invalid_json", "the body is not JSON"),
    (400, "invalid_key", "the key, or its name, sessions or expiry, is not one"),
    (400, "invalid_labels", "a label or its value is not one, or there are more than 32"),
    (400, "invalid_login_input", "the text to be typed is empty or has more than 16 KiB"),
    (400, "invalid_login_url", "the address is not one of a port of the server's own loopback"),
    (400, "invalid_mcp_servers", "an MCP server is not one"),
    (400, "invalid_model", "the model's name is not one"),
    (400, "invalid_name", "the session's name is not one"),
    (400, "invalid_parameter", "a query parameter is unknown, missing or of a wrong type"),
    (400, "invalid_prompt", "the text contains a NUL byte"),
    (
        400,
        "invalid_query",
        "there is no word to search for, or a quotation mark is not closed, or it is too long",
    ),
    (400, "invalid_request", "this is no request of HTTP/1.1, or it has no end"),
    (400, "invalid_setting", "the setting's name or value is not one"),
    (400, "invalid_title", "the title is too long or has control characters"),
    (400, "invalid_umask", "`Kennel-Umask` is no umask"),
    (400, "invalid_utf8", "the body is not UTF-8"),
    (400, "invalid_websocket", "the request has no key of a WebSocket"),
    (400, "invalid_workdir", "the text is not a path"),
    (400, "no_such_option", "the agent does not offer this answer"),
    (400, "unexpected_body", "the request has a body where none belongs"),
    (400, "workdir_not_absolute", "the path is not absolute"),
    (401, "bad_key", "the key is not known, was revoked or has expired"),
    (401, "bad_secret", "the secret is not the one that `kennel pair` shows"),
    (401, "bad_ticket", "the link to the page was used, has expired or is none"),
    (401, "bad_token", "the token is not this session's"),
    (
        401,
        "key_ended",
        "the key was revoked or expired while the request was under way; what was asked may be done",
    ),
    (
        401,
        "key_needed",
        "a request by a port shows neither a key nor a token; a cookie counts only beside `Kennel-Page`",
    ),
    (403, "forbidden", "the token or the key gives no such right"),
    (403, "key_outlasts", "the key that asks expires, and the other one would outlast it"),
    (403, "not_its_port", "no process of the log-in listens on this port of the server"),
    (403, "origin_refused", "the request comes from a web page that is not kennel's own on this port"),
    (403, "outside_workdir", "the path leads out of the session's working directory"),
    (
        403,
        "pairing_closed",
        "no pairing is under way, or its secret was used, has expired or was missed five times",
    ),
    (403, "weaker_than_parent", "the sub-agent would be bound less than its parent"),
    (404, "no_such_call", "the session has no such call"),
    (404, "no_such_file", "there is no such file below the session's working directory"),
    (404, "no_such_key", "there is no such key"),
    (404, "no_such_login", "there is no such log-in, or it has ended a minute ago"),
    (404, "no_such_permission", "the session has asked for no such permission"),
    (404, "no_such_pid", "no session has a process with this pid now"),
    (404, "no_such_prompt", "the session has no such prompt"),
    (404, "no_such_session", "there is no such session"),
    (404, "no_such_turn", "the session has no such turn, or it is pruned or too large to be told"),
    (408, "request_timeout", "the request's head or body did not come in time"),
    (409, "agent_not_found", "the agent's program is not on the daemon's PATH"),
    (409, "ambiguous_id", "several sessions begin so"),
    (409, "busy", "a turn runs or others wait, and `when_busy` is `reject`"),
    (409, "call_settled", "the call was answered already, or expired"),
    (
        409,
        "cannot_fork",
        "the session's agent is told no earlier turns, or its sandbox is that of another directory",
    ),
    (409, "conversation_taken", "another session has the conversation"),
    (409, "driven", "another client drives the session"),
    (409, "file_unreadable", "the kernel refuses to read the file, for the session's agent, too"),
    (409, "id_retired", "a removed session had this id; ids are not used again"),
    (409, "id_taken", "a session has this id"),
    (409, "id_unusable", "the key cannot start a session under this id"),
    (409, "idempotency_key_reused", "the key was used before with another request"),
    (409, "invalid_config", "`config.toml` is wrong; `detail` names the file and the line"),
    (409, "invalid_cursor", "the cursor is beyond the last event"),
    (
        409,
        "invalid_id",
        "a new session cannot have this id, or the body's id is not the one that the rest of the request says",
    ),
    (409, "invalid_workdir", "`opts.workdir` is not `workdir`"),
    (409, "key_taken", "another device has this key"),
    (409, "labels_of_key", "without this label the key would not reach the session any more"),
    (409, "login_busy", "the log-in has not taken what was typed before"),
    (409, "login_ended", "the log-in has ended"),
    (409, "login_not_started", "no process could be started for the log-in"),
    (409, "login_running", "a log-in of this agent runs already"),
    (409, "mcp_servers_refused", "the agent takes no MCP servers, or not these, or not so many"),
    (409, "model_required", "the agent is run with a model, and none was given"),
    (409, "name_taken", "another session has this name, or has or had it as its id"),
    (409, "name_unusable", "the key or the token cannot give a session this name"),
    (409, "no_attachments", "the session's agent takes no attachments"),
    (
        409,
        "no_conversations",
        "the agent does not speak the Agent Client Protocol, and keeps no conversation",
    ),
    (409, "no_git", "git is not installed, or it failed"),
    (409, "no_login_command", "the agent's profile has no `login_command`, and kennel knows none"),
    (409, "no_page", "the socket has no page and no log-ins"),
    (409, "no_reader", "the process that reads files could not be started, or ended"),
    (409, "no_settings", "the session's agent has no settings"),
    (
        409,
        "no_start_commit",
        "the session was created in no git repository, or its first commit is not there any more",
    ),
    (409, "no_such_agent", "the configuration has no such agent"),
    (409, "no_such_workdir", "there is no such directory"),
    (409, "no_turn", "no turn runs"),
    (409, "not_driver", "the client that `Kennel-Client` names does not drive the session"),
    (409, "not_interrupted", "the prompt was not interrupted, or that was resolved already"),
    (409, "not_queued", "the prompt does not wait any more"),
    (409, "not_stopped", "the session has a process, and `force` is not set"),
    (409, "overtaken", "somebody else stopped or started the session meanwhile"),
    (409, "permission_settled", "the permission was answered already, or expired"),
    (
        409,
        "port_unavailable",
        "the page's address on loopback cannot be had, most often because another program has it",
    ),
    (409, "prompt_queued", "the prompt waits in the queue; no turn of it runs"),
    (409, "queue_full", "as many prompts wait as may"),
    (409, "session_failed", "the session has failed"),
    (409, "session_stopped", "the session is stopped"),
    (409, "session_stopping", "the session is being stopped"),
    (409, "setting_refused", "the agent did not set it"),
    (409, "spec_mismatch", "the session exists with other options"),
    (409, "subagent_limit", "there are as many sub-agents as there may be, or they are as deep"),
    (409, "too_many_clients", "as many clients are attached as may"),
    (409, "too_many_keys", "there are as many keys as may be"),
    (409, "too_many_labels", "the session would have more than 32 labels"),
    (409, "too_many_logins", "as many log-ins run as may"),
    (409, "too_many_settings", "as many settings wait for the agent as may"),
    (409, "turn_running", "the turn has not ended"),
    (409, "unkillable", "processes of the session survived SIGKILL"),
    (409, "workdir_not_a_directory", "the path is not one of a directory"),
    (409, "workdir_not_accessible", "the directory cannot be entered"),
    (409, "workdir_not_utf8", "the directory's real path is not UTF-8"),
    (409, "wrong_file_kind", "the file is a directory, a pipe, a socket or a device"),
    (411, "length_required", "the body of a request by a port in HTTP/1.1 has no `Content-Length`"),
    (413, "attachments_too_large", "the attachments have more than 8 MiB together"),
    (413, "body_too_large", "the body has more than 2 MiB, one that may have files in it more than 12"),
    (
        413,
        "prompt_too_large",
        "the text has more than 1 MiB, or than the 128 KiB of an agent that gets it as an argument",
    ),
    (414, "uri_too_long", "the URI has more than 16 KiB"),
    (415, "unsupported_media_type", "the body is not `application/json`"),
    (421, "wrong_host", "by a port: the request names a host that is not this daemon's"),
    (426, "upgrade_required", "the route is a WebSocket's, and the request asks for none by HTTP/1.1"),
    (426, "websocket_version", "the version of the WebSocket protocol is not 13"),
    (
        429,
        "too_many_failures",
        "by a port: this address has shown too many wrong keys; `Retry-After` says when to try again",
    ),
    (431, "headers_too_large", "the request's head has more than 16 KiB or 100 lines"),
    (500, "internal", "a fault of kennel"),
    (500, "unread", "the journal, or a directory beside it, cannot be read"),
    (502, "no_login_answer", "the log-in's program did not answer at its port"),
    (502, "session_failed", "the session failed while it was waited for"),
    (503, "connection_lost", "by a port: the daemon broke the request off before it was answered"),
    (503, "manager_stopping", "the manager ends; the next one brings the sessions back"),
    (
        503,
        "overloaded",
        "too many connections, or too many bytes of requests or answers, are waited for; the header `Retry-After` says when to try again",
    ),
    (504, "files_timeout", "the files could not be read in time; ask for a smaller part"),
    (504, "timeout", "it did not happen in time; what was asked stays asked"),
    (
        507,
        "journal_full",
        "the journal could not be written, most often for want of disk; nothing was changed",
    ),
    (507, "keys_unwritten", "the keys could not be written; nothing was changed"),
    (
        507,
        "port_unwritten",
        "the page's address could not be read, kept or forgotten; the port was left as it is",
    ),
    (507, "state_dir_gone", "the state directory was deleted; no new work is taken"),
];

/// Refusals that any route may answer.
pub(super) const EVERYWHERE: &[(u16, &str)] = &[
    (400, "invalid_parameter"),
    (400, "invalid_request"),
    (401, "bad_key"),
    (401, "bad_token"),
    (401, "key_ended"),
    (401, "key_needed"),
    (403, "forbidden"),
    (403, "origin_refused"),
    (408, "request_timeout"),
    (411, "length_required"),
    (414, "uri_too_long"),
    (421, "wrong_host"),
    (429, "too_many_failures"),
    (431, "headers_too_large"),
    (500, "unread"),
    (503, "connection_lost"),
    (503, "manager_stopping"),
    (503, "overloaded"),
    (507, "state_dir_gone"),
];

/// Refusals that any route with a body may answer.
pub const WITH_BODY: &[(u16, &str)] = &[
    (400, "invalid_body"),
    (400, "invalid_json"),
    (400, "invalid_utf8"),
    (413, "body_too_large"),
    (415, "unsupported_media_type"),
];

/// Refusals that any route that creates or revives a session may answer, beside the code of each of [`NUMBERS`].
pub const WITH_OPTIONS: &[(u16, &str)] = &[
    (409, "agent_not_found"),
    (409, "conversation_taken"),
    (400, "invalid_conversation"),
    (400, "invalid_env"),
    (400, "invalid_id"),
    (400, "invalid_labels"),
    (400, "invalid_mcp_servers"),
    (400, "invalid_model"),
    (400, "invalid_name"),
    (400, "invalid_title"),
    (400, "invalid_umask"),
    (400, "invalid_workdir"),
    (409, "model_required"),
    (409, "name_taken"),
    (409, "name_unusable"),
    (409, "no_conversations"),
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
    let mut texts: BTreeMap<u16, BTreeSet<String>> = BTreeMap::new();
    for (status, code, meaning) in MEANINGS {
        let listed = |list: &&[(u16, &str)]| list.contains(&(*status, *code));
        if lists.iter().chain([&EVERYWHERE]).any(listed) {
            texts.entry(*status).or_default().insert(format!("`{code}`: {meaning}."));
        }
    }
    if lists.contains(&WITH_OPTIONS) {
        let numbers =
            NUMBERS.iter().map(|number| format!("`{}`: `{}` is out of bounds.", number.code, number.name));
        texts.entry(400).or_default().extend(numbers);
    }
    let response = |texts: BTreeSet<String>| {
        let content = Content::new(Some(Ref::from_schema_name("Problem")));
        response::ResponseBuilder::new()
            .description(Vec::from_iter(texts).join(" "))
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
                $crate::api::codes::responses(&[Self::CODES $($(, $list)+)?])
            }
        }
        const _: () = assert!($crate::api::codes::are_known($name::CODES), "a code is not in MEANINGS");
    };
}
pub(crate) use refuses;

/// Returns true if every code is documented. Every `refuses!` checks this at compile time.
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
