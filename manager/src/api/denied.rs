//! Refusals of requests for want of rights: what each caller is told.

use axum::http::StatusCode;
use protocol::SessionId;
use protocol::event::RefusedFor;

use super::problem::ApiError;
use crate::core::limits::LABELS;
use crate::keys::{BROWSERS, Closed, Denied, IDS, KEYS, KeysError};

/// A request with a session's token that is about no session, or about another.
pub fn not_about_it() -> ApiError {
    let detail = "a session's token gives rights on that session only, and this request is not about it";
    ApiError::denied(StatusCode::FORBIDDEN, "forbidden", RefusedFor::Session, detail).hint(
        "ask without a token, as the socket's owner; a session's own sub-agents are asked for with \
         `Authorization: Bearer ID:TOKEN`",
    )
}

/// The refusal for a session that is not below the caller: the same for a session that does not exist.
pub fn not_below(session: &SessionId) -> ApiError {
    let detail = format!("the token gives no such right on `{session}`; nothing was changed");
    ApiError::denied(StatusCode::FORBIDDEN, "forbidden", RefusedFor::Session, detail).hint(
        "a session may look at sub-agents below it, prompt them, wait for them, and abort and stop them; \
         `GET /v1/subagents` lists them",
    )
}

/// The owner's own sub-agent of a session, which can do what the session cannot.
pub fn weaker_than(session: &SessionId, what: &[&str]) -> ApiError {
    let detail = format!(
        "session `{session}` can do more than the session that asks ({}); nothing was sent to it",
        what.join(", ")
    );
    ApiError::denied(StatusCode::FORBIDDEN, "weaker_than_parent", RefusedFor::WeakerThanParent, detail)
        .hint("its owner sends it prompts: `kennel send`; or start another sub-agent")
}

/// It is not known who asks.
pub fn nobody(why: &str) -> ApiError {
    let detail = format!("without a token this client has no rights here: {why}; nothing was changed");
    ApiError::denied(StatusCode::FORBIDDEN, "forbidden", RefusedFor::UnknownPeer, detail).hint(
        "ask from a process that the daemon sees and that no session has started, or send a session's token",
    )
}

/// An agent in a sandbox asks.
pub fn sandboxed(session: &SessionId) -> ApiError {
    let detail = format!(
        "this client runs in the sandbox of session `{session}`, and has no rights but by that session's token; \
         nothing was changed"
    );
    ApiError::denied(StatusCode::FORBIDDEN, "forbidden", RefusedFor::Agent, detail)
        .hint("ask from outside of the sandbox")
}

/// A session's agent wants more.
pub fn not_for_its_agent(session: &SessionId) -> ApiError {
    let detail = format!(
        "this client is the agent of session `{session}`, which may look at its session and start sub-agents, and \
         nothing else; nothing was changed"
    );
    ApiError::denied(StatusCode::FORBIDDEN, "forbidden", RefusedFor::Agent, detail)
        .hint("ask from a terminal that no session of this daemon has started")
}

/// A viewer wants more.
pub fn looks_on() -> ApiError {
    let detail = "a viewer's token lets look on at its session and nothing else; nothing was changed";
    ApiError::denied(StatusCode::FORBIDDEN, "forbidden", RefusedFor::Role, detail)
        .hint("ask whoever runs the server for the session's other token: `kennel token SESSION` there prints the one that may drive")
}

/// A client that came in by a port shows nothing.
pub fn key_needed() -> ApiError {
    let detail = "by a port every request needs a key or a session's token; nothing was changed";
    ApiError::denied(StatusCode::UNAUTHORIZED, "key_needed", RefusedFor::KeyNeeded, detail)
        .hint(
            "`kennel pair` on that machine lets a device in, which sends `Authorization: Bearer KEY`; `kennel web` lets a browser in, \
             whose cookie counts only beside the header `Kennel-Page`",
        )
}

/// A web page asks that is not kennel's own, or on the socket.
pub fn web_page() -> ApiError {
    let detail =
        "the request comes from a web page that is not kennel's own on this port; nothing was changed";
    ApiError::denied(StatusCode::FORBIDDEN, "origin_refused", RefusedFor::WebPage, detail)
}

/// The token is not the session's.
pub fn bad_token() -> ApiError {
    ApiError::denied(StatusCode::UNAUTHORIZED, "bad_token", RefusedFor::BadToken, "the token is not this session's")
        .hint("`kennel token SESSION` on that machine prints it; it is sent as `Authorization: Bearer TOKEN`, or `ID:TOKEN`")
}

/// The key lets nobody in.
pub fn bad_key() -> ApiError {
    let detail = "the key is not known here, was revoked or has expired; nothing was changed";
    ApiError::denied(StatusCode::UNAUTHORIZED, "bad_key", RefusedFor::BadKey, detail)
        .hint("`kennel key ls` on that machine lists the keys; `kennel pair` there lets a device in again")
}

/// The key has ended while its request was under way.
pub fn key_ended() -> ApiError {
    let detail = "the key was revoked or has expired while this was under way; what was asked may be done all the same, and a prompt that \
                  was accepted runs";
    ApiError::denied(StatusCode::UNAUTHORIZED, "key_ended", RefusedFor::KeyEnded, detail)
        .hint("`kennel events SESSION` on that machine tells what was done; `kennel pair` there lets a device in again")
}

/// A client with a key runs below a session's worker, or nobody knows where it runs.
pub fn key_of_agent(what: &str, reason: RefusedFor) -> ApiError {
    let detail = format!("{what}, and a key gives it no rights; nothing was changed");
    ApiError::denied(StatusCode::FORBIDDEN, "forbidden", reason, detail)
        .hint("without the key it has the rights of its session; keys are for people and their devices")
}

/// The key's role is less than the request needs.
pub fn not_for_role(role: &str, needed: &str) -> ApiError {
    let detail = format!("the key's role is `{role}`, and this needs `{needed}`; nothing was changed");
    let hint = match needed {
        "driver" => {
            "`kennel attach SESSION --read-only` and `kennel events SESSION` look on; to change something, ask whoever runs the server \
             for a key with role driver"
        }
        _ => "whoever runs the server can do this, or has a key with role admin for those who may",
    };
    ApiError::denied(StatusCode::FORBIDDEN, "forbidden", RefusedFor::Role, detail).hint(hint)
}

/// The key reaches some sessions, and the request is about all.
pub fn not_of_all() -> ApiError {
    let detail = "the key reaches some sessions only, and this is about all of them; nothing was changed";
    ApiError::denied(StatusCode::FORBIDDEN, "forbidden", RefusedFor::Session, detail).hint(
        "ask for each session by itself: `kennel ls` (`GET /v1/sessions`) lists those that the key reaches",
    )
}

/// The key lists the sessions that it may start, and this one is not among them.
pub fn not_listed() -> ApiError {
    let detail =
        "the key reaches the sessions that it lists, and this one is not among them; nothing was started";
    ApiError::denied(StatusCode::FORBIDDEN, "forbidden", RefusedFor::Session, detail)
        .hint("give one of the ids that the key lists")
}

/// The key reaches the sessions with its labels, and starts none.
pub fn starts_none() -> ApiError {
    let detail = "the key reaches the sessions that have its labels, and starts none; nothing was started";
    ApiError::denied(StatusCode::FORBIDDEN, "forbidden", RefusedFor::Session, detail)
        .hint("ask whoever runs the server to start the session with the key's labels")
}

/// No rule says which keys and tokens may do this.
pub fn no_rule() -> ApiError {
    let detail = "keys and tokens give no right to this; nothing was changed";
    ApiError::denied(StatusCode::FORBIDDEN, "forbidden", RefusedFor::NoRule, detail)
        .hint("`GET /v1/openapi.json` lists what there is; ask as the socket's owner")
}

impl From<KeysError> for ApiError {
    fn from(error: KeysError) -> Self {
        match error {
            KeysError::Denied(denied) => of_key(denied),
            KeysError::Wrong => {
                let detail = "the secret is not the one that `kennel pair` shows; no key was made";
                Self::denied(StatusCode::UNAUTHORIZED, "bad_secret", RefusedFor::BadSecret, detail)
                    .hint("after five wrong ones none is taken any more, until `kennel pair` is run again")
            }
            KeysError::NoTicket => {
                let detail = "the link to the page was used, has expired, or is none of this daemon's; nobody was logged in";
                Self::denied(StatusCode::UNAUTHORIZED, "bad_ticket", RefusedFor::BadSecret, detail)
                    .hint("`kennel web` on that machine makes another link; each is good for one browser and five minutes")
            }
            KeysError::Closed(why) => {
                let why = match why {
                    Closed::None => "no pairing is under way",
                    Closed::Used => "the secret was used",
                    Closed::Expired => "the secret has expired",
                    Closed::Locked => "five wrong secrets were sent, and no secret is taken any more",
                };
                let detail = format!("{why}; no key was made");
                Self::denied(StatusCode::FORBIDDEN, "pairing_closed", RefusedFor::PairingClosed, detail)
                    .hint("run `kennel pair` on that machine, and give the secret that it shows")
            }
            KeysError::Unread(why) => {
                let detail = format!("{why}; no key lets anybody in, and nothing was changed");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "unread", detail)
                    .hint("mend the file or move it away, then `kennel daemon restart`; without it all keys are gone")
            }
            KeysError::Unwritten(why) => {
                let detail = format!("the keys could not be written ({why}); nothing was changed");
                Self::new(StatusCode::INSUFFICIENT_STORAGE, "keys_unwritten", detail)
                    .hint("most often the disk is full; ask again once there is room")
            }
        }
    }
}

/// A key that is not made, or not changed.
fn of_key(denied: Denied) -> ApiError {
    let (status, code, what) = match denied {
        Denied::NoSuchKey(id) => {
            (StatusCode::NOT_FOUND, "no_such_key", format!("there is no key `{id}`; nothing was changed"))
        }
        Denied::Full => (
            StatusCode::CONFLICT,
            "too_many_keys",
            format!("there are {KEYS} keys, as many as there may be; none was made"),
        ),
        Denied::Browsers => (
            StatusCode::CONFLICT,
            "too_many_keys",
            format!("{BROWSERS} browsers have a key, as many as may; none was made"),
        ),
        Denied::Taken => {
            (StatusCode::CONFLICT, "key_taken", "the key is in use already; none was made".into())
        }
        Denied::Outlasts => (
            StatusCode::FORBIDDEN,
            "key_outlasts",
            "the key that asks expires, and this one would outlast it; nothing was changed".into(),
        ),
        Denied::Name => {
            let what = "`name`: a key's name has 1 to 100 characters, none of them control characters; none was made";
            (StatusCode::BAD_REQUEST, "invalid_key", what.into())
        }
        Denied::AdminOfSome => {
            let what = "`sessions`: an admin's key reaches all sessions; none was made";
            (StatusCode::BAD_REQUEST, "invalid_key", what.into())
        }
        Denied::Ids => (
            StatusCode::BAD_REQUEST,
            "invalid_key",
            format!("`sessions`: a key lists 1 to {IDS} sessions; none was made"),
        ),
        Denied::Labels => (
            StatusCode::BAD_REQUEST,
            "invalid_key",
            format!(
                "`sessions`: a key has 1 to {LABELS} labels, each as `kennel label` takes it; none was made"
            ),
        ),
        Denied::Past => {
            (StatusCode::BAD_REQUEST, "invalid_key", "`expires_at` has passed; no key was made".into())
        }
    };
    let error = ApiError::new(status, code, what);
    match denied {
        Denied::NoSuchKey(_) | Denied::Full | Denied::Browsers => {
            error.hint("`kennel key ls` lists the keys; `kennel key revoke` removes one")
        }
        Denied::Outlasts => {
            error.hint("give an `expires_at` that is no later than that of the key that asks")
        }
        Denied::Taken | Denied::Name | Denied::AdminOfSome | Denied::Ids | Denied::Labels | Denied::Past => {
            error
        }
    }
}
