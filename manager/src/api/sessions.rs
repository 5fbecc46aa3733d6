//! Sessions: start, look, stop.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::IntoResponse;
use axum::{Extension, Json as Reply};
use futures_util::stream;
use protocol::SessionId;
use protocol::api::{
    Bootstrap, BootstrapRequest, Orphans, Role, SessionInfo, SessionOpts, TokenReply, TurnResult,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::App;
use super::auth::Caller;
use super::input::{Id, Json, Key, NoBody, Nothing, OptionalJson, Pid, Query, Umask, Wait};
use super::problem::{Answer, ApiError, WITH_BODY, WITH_OPTIONS, refuses};
use crate::feed::readable;
use crate::session_manager::{SessionManager, WaitFor};
use crate::system::blocking;
use crate::system::owned::{self, How};
use crate::workers::{logs, tokens};

/// How long `PUT` and bootstrap wait for a session that does not say how long, in milliseconds.
const START_TIMEOUT_MS: u64 = 30_000;
/// Lines of a log that are given without `tail`.
const TAIL: usize = 100;
/// The most lines of a log that are given.
const MAX_TAIL: usize = 100_000;
/// The most bytes of a log that are given.
const MAX_LOG: u64 = 8 * 1024 * 1024;
/// How much of a log is read at once, in bytes.
const PIECE: u64 = 64 * 1024;
/// What carries a secret is kept nowhere.
const NO_STORE: (HeaderName, &str) = (header::CACHE_CONTROL, "no-store");

refuses!(ListErrors:);

/// All sessions, in the order of their creation.
#[utoipa::path(get, path = "/v1/sessions", tag = "sessions", operation_id = "list_sessions",
    responses((status = 200, description = "The sessions.", body = [SessionInfo]), ListErrors))]
pub async fn list(State(app): State<App>, _: Query<Nothing>) -> Answer<Reply<Vec<SessionInfo>>> {
    Ok(Reply(app.manager.list_sessions().await?))
}

refuses!(CreateErrors: 400 "invalid_idempotency_key", 409 "id_taken", 409 "idempotency_key_reused"; + WITH_BODY, WITH_OPTIONS);

/// A new session.
///
/// Answers once it has a process; `pid` is its worker's. No body is `{}`: a shell in the home directory. The header
/// `Kennel-Umask: 0022` carries the client's file mode creation mask (umask(2)), in octal. The session's programs inherit it
/// where the configuration sets none.
#[utoipa::path(post, path = "/v1/sessions", tag = "sessions", operation_id = "start_session",
    params(("Idempotency-Key" = String, Header,
        description = "1 to 255 printable ASCII characters: a repeated request with the same key and body is answered with the same session; with another body it is refused.")),
    request_body(content = Option<SessionOpts>),
    responses((status = 201, description = "The session.", body = SessionInfo), CreateErrors))]
pub async fn create(
    State(app): State<App>,
    _: Query<Nothing>,
    key: Key,
    Umask(umask): Umask,
    OptionalJson(opts): OptionalJson<SessionOpts>,
) -> Answer<impl IntoResponse> {
    let opts = SessionOpts { umask, ..opts };
    let session = app.manager.start_session(opts, key.as_deref()).await?;
    let location = [(header::LOCATION, format!("/v1/sessions/{}", session.id))];
    Ok((StatusCode::CREATED, location, Reply(session)))
}

refuses!(OneErrors: 400 "invalid_id", 404 "no_such_session");

/// One session.
#[utoipa::path(get, path = "/v1/sessions/{id}", tag = "sessions", operation_id = "get_session",
    params(("id" = SessionId, Path, description = "The session.")),
    responses((status = 200, description = "The session.", body = SessionInfo), OneErrors))]
pub async fn get(State(app): State<App>, Id(id): Id, _: Query<Nothing>) -> Answer<Reply<SessionInfo>> {
    Ok(Reply(app.manager.get_session(&id).await?))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EnsureQuery {
    /// How long to wait until it is ready, in milliseconds; 30000 without it. What was asked stays asked when the time is over.
    #[param(value_type = u64, required = false)]
    timeout_ms: Option<Wait>,
}

refuses!(EnsureErrors: 409 "invalid_id", 409 "session_stopping", 409 "spec_mismatch", 409 "unkillable", 504 "timeout"; + WITH_BODY, WITH_OPTIONS);

/// The session under this id, ready.
///
/// As it is, or woken from hibernation, waited for while it restarts, or started again if it is stopped or
/// failed; if there is none, a new one under this id. Options that are given must be those that it has. May be
/// repeated at will.
#[utoipa::path(put, path = "/v1/sessions/{id}", tag = "sessions", operation_id = "start_or_get_session",
    params(("id" = SessionId, Path, description = "The session."), EnsureQuery),
    request_body(content = Option<SessionOpts>),
    responses((status = 200, description = "The session.", body = SessionInfo), EnsureErrors))]
pub async fn ensure(
    State(app): State<App>,
    Id(id): Id,
    Query(query): Query<EnsureQuery>,
    Extension(caller): Extension<Caller>,
    Umask(umask): Umask,
    OptionalJson(mut opts): OptionalJson<SessionOpts>,
) -> Answer<Reply<SessionInfo>> {
    opts.umask = umask;
    if opts.id.take().is_some_and(|given| given != id.as_str()) {
        let detail = "the body's `id` is not the path's; nothing was changed";
        return Err(ApiError::new(StatusCode::CONFLICT, "invalid_id", detail));
    }
    let timeout = query.timeout_ms.map_or(Duration::from_millis(START_TIMEOUT_MS), |wait| wait.0);
    if caller.session.is_some() {
        // A token is of a session that exists: if somebody removes it meanwhile, none is made in its place.
        return Ok(Reply(app.manager.get_ready(&id, opts, timeout).await?));
    }
    Ok(Reply(app.manager.start_or_get_session(id.as_str(), opts, timeout).await?))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RemoveQuery {
    /// `true`: stop it first, and its sub-agents.
    #[serde(default)]
    force: bool,
}

refuses!(RemoveErrors: 400 "invalid_id", 404 "no_such_session", 409 "not_stopped", 409 "unkillable", 507 "journal_full");

/// Removes a session and its records.
///
/// It must have no process, unless `force` is set. Its id is not used again.
#[utoipa::path(delete, path = "/v1/sessions/{id}", tag = "sessions", operation_id = "remove_session",
    params(("id" = SessionId, Path, description = "The session."), RemoveQuery),
    responses((status = 204, description = "It is removed."), RemoveErrors))]
pub async fn remove(
    State(app): State<App>,
    Id(id): Id,
    Query(query): Query<RemoveQuery>,
    _: NoBody,
) -> Answer<StatusCode> {
    // A task of its own: with `force` these are two steps, and a client that leaves must not part them.
    let removal = tokio::spawn(async move { app.manager.remove_session(&id, query.force).await });
    removal.await.map_err(ApiError::internal)??;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct StopQuery {
    /// What becomes of its sub-agents; without it they are stopped too.
    #[serde(default)]
    #[param(inline)]
    orphans: Orphans,
}

refuses!(StopErrors: 400 "invalid_id", 404 "no_such_session", 409 "session_failed", 409 "unkillable", 502 "session_failed", 507 "journal_full");

/// Stops a session: its whole tree of processes, gracefully, then by force.
///
/// Answers once all of them are gone. Prompts that wait end as aborted.
#[utoipa::path(post, path = "/v1/sessions/{id}/stop", tag = "sessions", operation_id = "stop_session",
    params(("id" = SessionId, Path, description = "The session."), StopQuery),
    responses((status = 200, description = "The session.", body = SessionInfo), StopErrors))]
pub async fn stop(
    State(app): State<App>,
    Id(id): Id,
    Query(query): Query<StopQuery>,
    _: NoBody,
) -> Answer<Reply<SessionInfo>> {
    Ok(Reply(app.manager.stop_session(&id, query.orphans).await?))
}

refuses!(StopPidErrors: 400 "invalid_id", 404 "no_such_pid", 409 "session_failed", 409 "unkillable", 502 "session_failed", 507 "journal_full");

/// Stops the session whose worker or agent has this pid now.
#[utoipa::path(post, path = "/v1/pids/{pid}/stop", tag = "sessions", operation_id = "stop_session_by_pid",
    params(("pid" = u32, Path, description = "A process."), StopQuery),
    responses((status = 200, description = "The session.", body = SessionInfo), StopPidErrors))]
pub async fn stop_by_pid(
    State(app): State<App>,
    Pid(pid): Pid,
    Query(query): Query<StopQuery>,
    _: NoBody,
) -> Answer<Reply<SessionInfo>> {
    Ok(Reply(app.manager.stop_session_by_pid(pid, query.orphans).await?))
}

refuses!(RestartErrors: 400 "invalid_id", 404 "no_such_session", 409 "overtaken", 409 "session_stopping", 409 "unkillable", 502 "session_failed", 507 "journal_full");

/// A new process for the session, and a clean slate for its restart budget.
///
/// Answers once it is ready.
#[utoipa::path(post, path = "/v1/sessions/{id}/restart", tag = "sessions", operation_id = "restart_session",
    params(("id" = SessionId, Path, description = "The session.")),
    responses((status = 200, description = "The session.", body = SessionInfo), RestartErrors))]
pub async fn restart(
    State(app): State<App>,
    Id(id): Id,
    _: Query<Nothing>,
    _: NoBody,
) -> Answer<Reply<SessionInfo>> {
    Ok(Reply(app.manager.restart_session(&id).await?))
}

refuses!(PinErrors: 400 "invalid_id", 404 "no_such_session", 507 "journal_full");

/// Keeps the session from hibernating.
#[utoipa::path(post, path = "/v1/sessions/{id}/pin", tag = "sessions", operation_id = "pin_session",
    params(("id" = SessionId, Path, description = "The session.")),
    responses((status = 200, description = "The session.", body = SessionInfo), PinErrors))]
pub async fn pin(
    State(app): State<App>,
    Id(id): Id,
    _: Query<Nothing>,
    _: NoBody,
) -> Answer<Reply<SessionInfo>> {
    Ok(Reply(app.manager.pin_session(&id, true).await?))
}

/// Lets the session hibernate again.
#[utoipa::path(post, path = "/v1/sessions/{id}/unpin", tag = "sessions", operation_id = "unpin_session",
    params(("id" = SessionId, Path, description = "The session.")),
    responses((status = 200, description = "The session.", body = SessionInfo), PinErrors))]
pub async fn unpin(
    State(app): State<App>,
    Id(id): Id,
    _: Query<Nothing>,
    _: NoBody,
) -> Answer<Reply<SessionInfo>> {
    Ok(Reply(app.manager.pin_session(&id, false).await?))
}

/// What a session can be waited for.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Until {
    /// Ready, no turn runs and none waits.
    Idle,
    /// Ready, whether a turn runs or not.
    Ready,
    /// A turn runs.
    Running,
    /// A turn waits for a person's answer.
    RequiresAction,
    /// Stopped.
    Stopped,
    /// Given up.
    Failed,
    /// Hibernated.
    Hibernated,
}

impl From<Until> for WaitFor {
    fn from(until: Until) -> Self {
        match until {
            Until::Idle => WaitFor::Idle,
            Until::Ready => WaitFor::Ready,
            Until::Running => WaitFor::Running,
            Until::RequiresAction => WaitFor::RequiresAction,
            Until::Stopped => WaitFor::Stopped,
            Until::Failed => WaitFor::Failed,
            Until::Hibernated => WaitFor::Hibernated,
        }
    }
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WaitQuery {
    /// What to wait for.
    #[param(inline)]
    until: Until,
    /// How long, in milliseconds; without it as long as it takes.
    #[param(value_type = u64, required = false)]
    timeout_ms: Option<Wait>,
}

refuses!(WaitErrors: 400 "invalid_id", 404 "no_such_session", 409 "overtaken", 502 "session_failed", 504 "timeout");

/// Waits until the session is in a state.
///
/// Ends early where no time would help: the session has failed or was stopped, and something else is waited for.
#[utoipa::path(get, path = "/v1/sessions/{id}/wait", tag = "sessions", operation_id = "wait",
    params(("id" = SessionId, Path, description = "The session."), WaitQuery),
    responses((status = 200, description = "The session, in that state.", body = SessionInfo), WaitErrors))]
pub async fn wait(
    State(app): State<App>,
    Id(id): Id,
    Query(query): Query<WaitQuery>,
) -> Answer<Reply<SessionInfo>> {
    let timeout = query.timeout_ms.map(|wait| wait.0);
    Ok(Reply(app.manager.wait(&id, query.until.into(), timeout).await?))
}

/// What the session's newest turn has said, and how it stands.
///
/// From the journal; while the turn runs, what it has said so far.
#[utoipa::path(get, path = "/v1/sessions/{id}/result", tag = "sessions", operation_id = "turn_result",
    params(("id" = SessionId, Path, description = "The session.")),
    responses((status = 200, description = "The turn.", body = TurnResult), ResultErrors))]
pub async fn result(State(app): State<App>, Id(id): Id, _: Query<Nothing>) -> Answer<Reply<TurnResult>> {
    Ok(Reply(app.manager.turn_result(&id).await?))
}

refuses!(ResultErrors: 400 "invalid_id", 404 "no_such_session");

/// The session's token.
///
/// A secret: with `Authorization: Bearer TOKEN` a request has rights on this session and on nothing else; with
/// `Bearer ID:TOKEN`, where `ID` is the session, also on the sub-agents below it. A viewer's token lets look on at
/// this session and nothing else. Both are the same for as long as the session exists.
#[utoipa::path(get, path = "/v1/sessions/{id}/token", tag = "sessions", operation_id = "session_token",
    params(("id" = SessionId, Path, description = "The session."), TokenQuery),
    responses((status = 200, description = "The token.", body = TokenReply), OneErrors))]
pub async fn token(
    State(app): State<App>,
    Id(id): Id,
    Query(query): Query<TokenQuery>,
) -> Answer<impl IntoResponse> {
    let token = app.manager.session_token(&id).await?;
    let token = match query.role.unwrap_or(Role::Driver) {
        Role::Driver => token,
        Role::Viewer => tokens::viewer(&token),
    };
    Ok(([NO_STORE], Reply(TokenReply { token })))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TokenQuery {
    /// What its bearer may be; else a driver.
    role: Option<Role>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct LogQuery {
    /// How many lines from the end, at most 100000; 100 without it.
    #[param(maximum = 100_000)]
    tail: Option<usize>,
}

/// What the session's worker and agent wrote to standard error.
///
/// The last lines, as they are but for bytes that are no UTF-8. Of more than 8 MiB only the end is given, and
/// the first line says so.
#[utoipa::path(get, path = "/v1/sessions/{id}/log", tag = "sessions", operation_id = "session_log",
    params(("id" = SessionId, Path, description = "The session."), LogQuery),
    responses((status = 200, description = "The lines.", body = String, content_type = "text/plain"), OneErrors))]
pub async fn log(
    State(app): State<App>,
    Id(id): Id,
    Query(query): Query<LogQuery>,
) -> Answer<impl IntoResponse> {
    app.manager.get_session(&id).await?;
    let lines = query.tail.unwrap_or(TAIL);
    if lines > MAX_TAIL {
        let detail = format!("`tail` is at most {MAX_TAIL} lines");
        return Err(ApiError::bad_request("invalid_parameter", detail));
    }
    let path = app.manager.log_path(&id);
    let tails = blocking(move || tails(&path, lines, MAX_LOG)).await?;
    let tails = tails.map_err(|error| ApiError::internal(format!("the log cannot be read: {error}")))?;
    // Read as it is taken: a client that takes nothing holds one piece.
    let pieces = stream::unfold(Some(tails), |tails| async move {
        let mut tails = tails?;
        let read = blocking::run(move || (next_piece(&mut tails), tails)).await;
        match read {
            Some((Ok(Some(text)), tails)) => Some((Ok(text), Some(tails))),
            Some((Ok(None), _)) => None,
            Some((Err(error), _)) => Some((Err(error), None)),
            None => Some((Err(io::Error::other("a thread of this request fell")), None)),
        }
    });
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], Body::from_stream(pieces)))
}

/// The last lines of a log, of its last `limit` bytes; where it was begun anew lately, of the file before, too.
fn tails(path: &Path, lines: usize, limit: u64) -> io::Result<VecDeque<Tail>> {
    let newest = Tail::of(path, lines, limit)?;
    let (count, length) = (newest.lines, newest.end - newest.at);
    if count >= lines || length >= limit {
        return Ok(VecDeque::from([newest]));
    }
    Ok(VecDeque::from([Tail::of(&logs::before(path), lines - count, limit - length)?, newest]))
}

/// The next piece of the first that has one.
fn next_piece(tails: &mut VecDeque<Tail>) -> io::Result<Option<String>> {
    while let Some(tail) = tails.front_mut() {
        if let Some(text) = tail.next()? {
            return Ok(Some(text));
        }
        tails.pop_front();
    }
    Ok(None)
}

/// The last lines of a file, piece by piece.
struct Tail {
    /// How many.
    lines: usize,
    /// None: there is nothing in it.
    file: Option<File>,
    /// What is said before them.
    note: Option<String>,
    at: u64,
    end: u64,
}

impl Tail {
    /// The last lines of a file, of its last `limit` bytes. A file that does not exist is empty.
    fn of(path: &Path, lines: usize, limit: u64) -> io::Result<Self> {
        let mut file = match owned::open(path, How::Read) {
            Ok(file) if lines > 0 => file,
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => return Ok(Self { lines: 0, file: None, note: None, at: 0, end: 0 }),
        };
        let end = file.metadata()?.len();
        let (mut at, mut breaks) = (end, 0);
        let mut piece = vec![0; PIECE as usize];
        // Backwards, and without keeping anything: a log may be long, and few of its lines are wanted.
        while at > 0 && end - at < limit {
            let size = at.min(PIECE);
            at -= size;
            let piece = &mut piece[..size as usize];
            file.seek(SeekFrom::Start(at))?;
            file.read_exact(piece)?;
            for (index, _) in piece.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
                let after = at + index as u64 + 1;
                breaks += usize::from(after < end);
                if breaks == lines {
                    return Ok(Self { lines, file: Some(file), note: None, at: after, end });
                }
            }
        }
        let cut = || format!("[kennel: what came before is left out; it is in {}]\n", path.display());
        // The first line has no break before it.
        let lines = breaks + usize::from(end > 0);
        Ok(Self { lines, file: Some(file), note: (at > 0).then(cut), at, end })
    }

    fn next(&mut self) -> io::Result<Option<String>> {
        if let Some(note) = self.note.take() {
            return Ok(Some(note));
        }
        let Some(file) = self.file.as_mut().filter(|_| self.at < self.end) else { return Ok(None) };
        let mut piece = vec![0; (self.end - self.at).min(PIECE) as usize];
        file.seek(SeekFrom::Start(self.at))?;
        let read = file.read(&mut piece)?;
        if read == 0 {
            // It has become shorter meanwhile.
            return Ok(None);
        }
        let (text, taken) = readable(&piece[..read], self.at + read as u64 == self.end);
        self.at += taken as u64;
        Ok(Some(text))
    }
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct LookupQuery {
    /// A session's id, or the beginning of exactly one.
    id: Option<String>,
    /// The current pid of a worker or agent.
    pid: Option<u32>,
    /// Absolute path of a directory: answered with its stable id, whether or not such a session exists.
    dir: Option<String>,
}

/// The session that was meant.
#[derive(Serialize, ToSchema)]
pub struct Found {
    /// Its id.
    id: SessionId,
}

refuses!(LookupErrors: 400 "invalid_id", 400 "invalid_workdir", 400 "workdir_not_absolute", 404 "no_such_pid", 404 "no_such_session", 409 "ambiguous_id");

/// The id of the session that is meant by a prefix, a pid or a directory.
///
/// Exactly one of the parameters is given.
#[utoipa::path(get, path = "/v1/lookup", tag = "sessions", operation_id = "lookup", params(LookupQuery),
    responses((status = 200, description = "The id.", body = Found), LookupErrors))]
pub async fn lookup(State(app): State<App>, Query(query): Query<LookupQuery>) -> Answer<Reply<Found>> {
    let id = match query {
        LookupQuery { id: Some(text), pid: None, dir: None } => app.manager.lookup(&text).await?,
        LookupQuery { id: None, pid: Some(pid), dir: None } => app.manager.session_id_for_pid(pid).await?,
        LookupQuery { id: None, pid: None, dir: Some(dir) } => stable_id(dir).await?,
        _ => {
            return Err(ApiError::bad_request("invalid_parameter", "give one of `id`, `pid` and `dir`"));
        }
    };
    Ok(Reply(Found { id }))
}

refuses!(BootstrapErrors: 409 "invalid_id", 409 "invalid_workdir", 409 "session_stopping", 409 "spec_mismatch", 409 "unkillable", 504 "timeout"; + WITH_BODY, WITH_OPTIONS);

/// The session of a working directory, ready, and its token.
///
/// As `PUT /v1/sessions/{id}` with the directory's stable id and `workdir`; waits at most 30 s.
#[utoipa::path(post, path = "/v1/bootstrap", tag = "sessions", operation_id = "bootstrap", request_body = BootstrapRequest,
    responses((status = 200, description = "The session and its token, a secret.", body = Bootstrap), BootstrapErrors))]
pub async fn bootstrap(
    State(app): State<App>,
    _: Query<Nothing>,
    Umask(umask): Umask,
    Json(request): Json<BootstrapRequest>,
) -> Answer<impl IntoResponse> {
    let BootstrapRequest { workdir, mut opts } = request;
    opts.umask = umask;
    let id = stable_id(workdir.clone()).await?;
    if opts.id.take().is_some_and(|given| given != id.as_str()) {
        let detail = format!("the id of this directory's session is `{id}`; nothing was changed");
        return Err(ApiError::new(StatusCode::CONFLICT, "invalid_id", detail).hint("leave `opts.id` out"));
    }
    if opts.workdir.replace(workdir.clone()).is_some_and(|given| given != workdir) {
        let detail = "`opts.workdir` is not `workdir`; nothing was changed";
        return Err(
            ApiError::new(StatusCode::CONFLICT, "invalid_workdir", detail).hint("leave `opts.workdir` out")
        );
    }
    let timeout = Duration::from_millis(START_TIMEOUT_MS);
    let session = app.manager.start_or_get_session(id.as_str(), opts, timeout).await?;
    let token = app.manager.session_token(&id).await?;
    let pid = session.pid;
    Ok(([NO_STORE], Reply(Bootstrap { session, id, pid, token })))
}

async fn stable_id(directory: String) -> Answer<SessionId> {
    let path = PathBuf::from(directory);
    if !path.is_absolute() {
        // The daemon's own directory means nothing to the client.
        let detail = format!("`{}` is not an absolute path", path.display());
        return Err(ApiError::bad_request("workdir_not_absolute", detail));
    }
    Ok(blocking(move || SessionManager::stable_session_id_for_workdir(&path)).await??)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Answer<T> {
    blocking::run(work).await.ok_or_else(|| ApiError::internal("a thread of this request fell"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_read_from_its_end() {
        let tail = |path: &Path, lines, limit| -> io::Result<String> {
            let mut tails = tails(path, lines, limit)?;
            std::iter::from_fn(|| next_piece(&mut tails).transpose()).collect()
        };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let text: String = (1..=50_000).map(|n| format!("line {n}\n")).collect();
        std::fs::write(&path, &text).unwrap();
        assert_eq!(tail(&path, 0, MAX_LOG).unwrap(), "");
        assert_eq!(tail(&path, 2, MAX_LOG).unwrap(), "line 49999\nline 50000\n");
        assert_eq!(tail(&path, 50_000, MAX_LOG).unwrap(), text);
        assert_eq!(tail(&path, 99_999, MAX_LOG).unwrap(), text);
        let cut = tail(&path, 50_000, 1).unwrap();
        assert!(cut.starts_with("[kennel: what came before is left out"), "{:?}", &cut[..80]);
        assert!(cut.ends_with("line 50000\n") && cut.len() < 70_000);
        // Characters of three bytes, so that pieces end within some.
        let long = "\u{20ac}".repeat(100_000);
        std::fs::write(&path, &long).unwrap();
        assert_eq!(tail(&path, 1, MAX_LOG).unwrap(), long);
        std::fs::write(logs::before(&path), "older\noldest of the new\n").unwrap();
        std::fs::write(&path, b"one\n\xfftwo\nthree").unwrap();
        assert_eq!(tail(&path, 4, MAX_LOG).unwrap(), "oldest of the new\none\n\u{fffd}two\nthree");
        assert_eq!(tail(&path, 2, MAX_LOG).unwrap(), "\u{fffd}two\nthree");
        std::fs::remove_file(&path).unwrap();
        std::fs::remove_file(logs::before(&path)).unwrap();
        assert_eq!(tail(&path, 2, MAX_LOG).unwrap(), "");
    }
}
