//! Files of a session's working directory.

use axum::Json as Reply;
use axum::response::IntoResponse;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use protocol::SessionId;
use protocol::api::{FileContent, FileDiff, FileList};
use protocol::bounds::{FILE_PIECE, FILES, PATH};
use serde::Deserialize;
use utoipa::IntoParams;

use super::codes::refuses;
use super::input::{Id, MAX_NUMBER, Query};
use super::limited::Limited;
use super::problem::{Answer, ApiError};
use super::sessions::NO_STORE;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Path of the directory, relative to the working directory, or absolute and below it. Absent: the working directory.
    path: Option<String>,
    /// The bytes of the path in base64 instead, for a path that is not UTF-8.
    path_base64: Option<String>,
    /// Lists the entries whose names come after this one.
    after: Option<String>,
    /// The bytes of that name in base64 instead.
    after_base64: Option<String>,
    /// The most entries. Absent: 1000.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ContentQuery {
    /// Path of the file, relative to the working directory, or absolute and below it.
    path: Option<String>,
    /// The bytes of the path in base64 instead, for a path that is not UTF-8. One of both is needed.
    path_base64: Option<String>,
    /// Number of the first byte. Absent: 0.
    #[param(maximum = 9_223_372_036_854_775_807_i64)]
    offset: Option<u64>,
    /// The most bytes. Absent: 262144.
    #[param(maximum = 262_144)]
    length: Option<usize>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DiffQuery {
    /// Path of a file or directory, relative to the working directory, or absolute and below it. Absent: the working directory.
    path: Option<String>,
    /// With the differences themselves. Absent: true.
    diff: Option<bool>,
}

refuses!(ListErrors: 400 "invalid_id", 404 "no_such_session"; + READ);

/// Entries of a directory below the session's working directory.
///
/// A process below the session's worker reads, in the agent's sandbox and within its limits: what is hidden from the agent is hidden here.
/// A path that leads out of the working directory is refused, also by symlinks. The session need not run, and nothing of it changes.
#[utoipa::path(get, path = "/v1/sessions/{id}/files", tag = "files", operation_id = "files",
    params(("id" = SessionId, Path, description = "The session."), ListQuery),
    responses((status = 200, description = "The entries.", body = FileList), ListErrors))]
pub async fn list(
    Limited(app): Limited,
    Id(id): Id,
    Query(query): Query<ListQuery>,
) -> Answer<impl IntoResponse> {
    let path = bytes("path", query.path, query.path_base64)?.unwrap_or_default();
    let after = bytes("after", query.after, query.after_base64)?;
    let limit = query.limit.unwrap_or(FILES);
    if limit == 0 || limit > FILES {
        return Err(ApiError::bad_request("invalid_parameter", format!("query: `limit` is 1 to {FILES}")));
    }
    Ok(([NO_STORE], Reply(app.manager.list_files(&id, &path, after.as_deref(), limit).await?)))
}

refuses!(ContentErrors: 400 "invalid_id", 404 "no_such_session"; + READ);

/// A piece of a file below the session's working directory, at most 256 KiB.
///
/// Only regular files are read; read as the entries of a directory are.
#[utoipa::path(get, path = "/v1/sessions/{id}/files/content", tag = "files", operation_id = "file_content",
    params(("id" = SessionId, Path, description = "The session."), ContentQuery),
    responses((status = 200, description = "The piece.", body = FileContent), ContentErrors))]
pub async fn content(
    Limited(app): Limited,
    Id(id): Id,
    Query(query): Query<ContentQuery>,
) -> Answer<impl IntoResponse> {
    let path = bytes("path", query.path, query.path_base64)?;
    let path = path.ok_or_else(|| ApiError::bad_request("invalid_parameter", "query: `path` is missing"))?;
    let (offset, length) = (query.offset.unwrap_or(0), query.length.unwrap_or(FILE_PIECE));
    if offset > MAX_NUMBER || length > FILE_PIECE {
        let detail = format!("query: `offset` is at most {MAX_NUMBER}, `length` {FILE_PIECE}");
        return Err(ApiError::bad_request("invalid_parameter", detail));
    }
    Ok(([NO_STORE], Reply(app.manager.read_file(&id, &path, offset, length).await?)))
}

refuses!(DiffErrors: 400 "invalid_id", 404 "no_such_session", 409 "no_git", 409 "no_start_commit"; + READ);

/// Changes below the session's working directory since the commit at which the session was created.
///
/// The commit is `start_commit` of the session. New files count, unless `.gitignore` files leave them out. At most 1000 files and 512 KiB
/// of differences. git runs with a repository of its own over the objects of the session's: nothing that a repository or an
/// agent configures runs.
#[utoipa::path(get, path = "/v1/sessions/{id}/files/diff", tag = "files", operation_id = "files_diff",
    params(("id" = SessionId, Path, description = "The session."), DiffQuery),
    responses((status = 200, description = "The changes.", body = FileDiff), DiffErrors))]
pub async fn diff(
    Limited(app): Limited,
    Id(id): Id,
    Query(query): Query<DiffQuery>,
) -> Answer<impl IntoResponse> {
    let path = bytes("path", query.path, None)?.unwrap_or_default();
    Ok(([NO_STORE], Reply(app.manager.diff_files(&id, &path, query.diff.unwrap_or(true)).await?)))
}

/// Refusals that every route may answer that reads files.
const READ: &[(u16, &str)] = &[
    (403, "outside_workdir"),
    (404, "no_such_file"),
    (409, "file_unreadable"),
    (409, "no_reader"),
    (409, "wrong_file_kind"),
    (504, "files_timeout"),
];

/// A path or name, of text or of base64.
fn bytes(name: &str, text: Option<String>, base64: Option<String>) -> Answer<Option<Vec<u8>>> {
    let wrong = |what: &str| ApiError::bad_request("invalid_parameter", format!("query: {what}"));
    let bytes = match (text, base64) {
        (None, None) => return Ok(None),
        (Some(text), None) => text.into_bytes(),
        (None, Some(encoded)) => {
            STANDARD.decode(encoded).map_err(|_| wrong(&format!("`{name}_base64` is not base64")))?
        }
        (Some(_), Some(_)) => return Err(wrong(&format!("give `{name}` or `{name}_base64`"))),
    };
    if bytes.len() > PATH || bytes.contains(&0) {
        return Err(wrong(&format!("`{name}` has at most {PATH} bytes and no NUL byte")));
    }
    Ok(Some(bytes))
}
