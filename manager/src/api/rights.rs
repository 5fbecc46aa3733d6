//! Rights that each operation needs: one row an operation.
//!
//! A key and a session's token have no rights on an operation without a row. The tests ask for every operation of the
//! description as every kind of caller, and compute from this table what each must hear.

use axum::http::Method;

/// The least that a caller must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing: a device that has no key yet asks. Not for agents.
    Nothing,
    /// The caller may read.
    Look,
    /// The caller may change a session.
    Drive,
    /// The caller may start sessions.
    Start,
    /// The caller may do everything.
    Admin,
}

/// The sessions that an operation is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// The session `{id}`.
    One,
    /// Those that the caller reaches: the handler sees no others.
    Reached,
    /// All sessions at once: nothing for a key that reaches some of them.
    All,
    /// None.
    Nothing,
}

/// The rights that an operation needs, and the sessions that it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The least that a caller must be.
    pub need: Need,
    /// The sessions that it is about.
    pub about: About,
}

use About::{All, One, Reached};
use Need::{Admin, Drive, Look, Start};

/// Each operation.
const RULES: &[(Method, &str, Need, About)] = &[
    (Method::GET, "/healthz", Look, About::Nothing),
    (Method::GET, "/readyz", Look, About::Nothing),
    (Method::GET, "/metrics", Look, All),
    // Each of its requests is asked with the same key.
    (Method::GET, "/v1/acp", Look, About::Nothing),
    (Method::GET, "/v1/agents", Look, About::Nothing),
    // What is typed is a secret, and the program runs with all rights of the daemon's user.
    (Method::POST, "/v1/agents/{name}/login", Admin, All),
    (Method::POST, "/v1/bootstrap", Start, Reached),
    (Method::GET, "/v1/events", Look, All),
    // The handler finds no origin that the caller does not reach.
    (Method::POST, "/v1/forks", Start, Reached),
    (Method::GET, "/v1/keys", Admin, About::Nothing),
    (Method::POST, "/v1/keys", Admin, About::Nothing),
    (Method::DELETE, "/v1/keys/{key}", Admin, About::Nothing),
    (Method::POST, "/v1/keys/{key}/rotate", Admin, About::Nothing),
    (Method::GET, "/v1/last-lines", Look, Reached),
    (Method::GET, "/v1/load", Look, Reached),
    (Method::GET, "/v1/logins/{login}", Admin, All),
    (Method::DELETE, "/v1/logins/{login}", Admin, All),
    (Method::POST, "/v1/logins/{login}/input", Admin, All),
    (Method::POST, "/v1/logins/{login}/visit", Admin, All),
    (Method::GET, "/v1/lookup", Look, Reached),
    (Method::GET, "/v1/manager", Look, Reached),
    (Method::GET, "/v1/manager/disk", Look, All),
    (Method::POST, "/v1/manager/prune", Admin, All),
    (Method::POST, "/v1/manager/stop", Admin, All),
    (Method::GET, "/v1/openapi.json", Look, About::Nothing),
    (Method::POST, "/v1/pair", Need::Nothing, About::Nothing),
    (Method::POST, "/v1/pairings", Admin, About::Nothing),
    (Method::DELETE, "/v1/pairings", Admin, About::Nothing),
    (Method::GET, "/v1/pairings/{pairing}", Admin, About::Nothing),
    (Method::GET, "/v1/permissions", Look, Reached),
    (Method::POST, "/v1/pids/{pid}/stop", Drive, Reached),
    (Method::POST, "/v1/prompts/{prompt}/resolve", Drive, Reached),
    (Method::GET, "/v1/search", Look, Reached),
    (Method::GET, "/v1/sessions", Look, Reached),
    (Method::POST, "/v1/sessions", Start, Reached),
    (Method::GET, "/v1/sessions/{id}", Look, One),
    (Method::PUT, "/v1/sessions/{id}", Start, One),
    (Method::PATCH, "/v1/sessions/{id}", Drive, One),
    (Method::DELETE, "/v1/sessions/{id}", Admin, One),
    (Method::POST, "/v1/sessions/{id}/abort", Drive, One),
    (Method::GET, "/v1/sessions/{id}/attach", Look, One),
    (Method::DELETE, "/v1/sessions/{id}/attach", Drive, One),
    (Method::GET, "/v1/sessions/{id}/calls", Look, One),
    (Method::POST, "/v1/sessions/{id}/calls/{call}", Drive, One),
    (Method::GET, "/v1/sessions/{id}/events", Look, One),
    (Method::GET, "/v1/sessions/{id}/files", Look, One),
    (Method::GET, "/v1/sessions/{id}/files/content", Look, One),
    (Method::GET, "/v1/sessions/{id}/files/diff", Look, One),
    (Method::GET, "/v1/sessions/{id}/log", Look, One),
    (Method::PUT, "/v1/sessions/{id}/mcp_servers", Drive, One),
    (Method::GET, "/v1/sessions/{id}/permissions", Look, One),
    (Method::POST, "/v1/sessions/{id}/permissions/{permission}", Drive, One),
    (Method::POST, "/v1/sessions/{id}/pin", Drive, One),
    (Method::POST, "/v1/sessions/{id}/prompts", Drive, One),
    (Method::GET, "/v1/sessions/{id}/queue", Look, One),
    (Method::DELETE, "/v1/sessions/{id}/queue", Drive, One),
    (Method::PATCH, "/v1/sessions/{id}/queue/{prompt}", Drive, One),
    (Method::DELETE, "/v1/sessions/{id}/queue/{prompt}", Drive, One),
    (Method::POST, "/v1/sessions/{id}/restart", Drive, One),
    (Method::GET, "/v1/sessions/{id}/result", Look, One),
    (Method::GET, "/v1/sessions/{id}/settings", Look, One),
    (Method::PUT, "/v1/sessions/{id}/settings/{name}", Drive, One),
    (Method::POST, "/v1/sessions/{id}/stop", Drive, One),
    // Whoever has the token keeps it when the key ends.
    (Method::GET, "/v1/sessions/{id}/token", Admin, One),
    (Method::POST, "/v1/sessions/{id}/unpin", Drive, One),
    (Method::GET, "/v1/sessions/{id}/wait", Look, One),
    (Method::GET, "/v1/subagents", Look, Reached),
    (Method::POST, "/v1/subagents", Start, Reached),
    (Method::DELETE, "/v1/web", Admin, About::Nothing),
    (Method::POST, "/v1/web", Admin, About::Nothing),
    // A browser that has no key yet, or no longer.
    (Method::POST, "/v1/web/login", Need::Nothing, About::Nothing),
    (Method::POST, "/v1/web/logout", Look, About::Nothing),
    (Method::GET, "/v1/web/me", Look, About::Nothing),
];

/// Operations that change sessions and do not ask who drives: two make a new session, the other one's client leaves, which the
/// core examines.
const ASK_NOBODY: &[(Method, &str)] = &[
    (Method::POST, "/v1/forks"),
    (Method::POST, "/v1/sessions"),
    (Method::DELETE, "/v1/sessions/{id}/attach"),
];

/// Returns true if an operation changes a session. With `Kennel-Client` it is refused unless that client drives.
pub fn is_drivers(method: &Method, route: &str) -> bool {
    let changes = match rule(method, route) {
        Some(Rule { need: Need::Drive | Need::Start | Need::Admin, about: About::One | About::Reached }) => {
            *method != Method::GET && *method != Method::HEAD
        }
        Some(_) | None => false,
    };
    changes && !ASK_NOBODY.iter().any(|(own, path)| own == method && *path == route)
}

/// The rule of an operation; none: nobody has thought of its rights yet, or there is no such operation.
pub fn rule(method: &Method, route: &str) -> Option<Rule> {
    let method = if method == Method::HEAD { &Method::GET } else { method };
    let found = RULES.iter().find(|(own, path, ..)| own == method && *path == route);
    found.map(|(_, _, need, about)| Rule { need: *need, about: *about })
}
