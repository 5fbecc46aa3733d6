//! The end of a session's log, read as its client takes it.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use axum::body::Body;
use axum::http::header;
use axum::response::IntoResponse;
use futures_util::stream;
use protocol::SessionId;
use serde::Deserialize;
use utoipa::IntoParams;

use super::codes::refuses;
use super::input::{Id, Query, elsewhere};
use super::limited::Limited;
use super::problem::{Answer, ApiError};
use crate::feed::readable;
use crate::system::blocking;
use crate::system::owned::{self, How};
use crate::workers::logs;

/// Lines of a log that are given without `tail`.
const TAIL: usize = 100;
/// The most lines of a log that are given.
pub const MAX_TAIL: usize = 100_000;
/// The most bytes of a log that are given.
const MAX_LOG: u64 = 8 * 1024 * 1024;
/// Size of a read from a log, in bytes.
const PIECE: u64 = 64 * 1024;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct LogQuery {
    /// Number of lines from the end, at most 100000. Absent: 100.
    #[param(maximum = 100_000)]
    tail: Option<usize>,
}

refuses!(LogErrors: 400 "invalid_id", 404 "no_such_session");

/// Standard error of the session's worker and agent.
///
/// The last lines, unchanged except for bytes that are not UTF-8. If they have more than 8 MiB, the answer
/// contains only their end, and its first line states that.
#[utoipa::path(get, path = "/v1/sessions/{id}/log", tag = "sessions", operation_id = "session_log",
    params(("id" = SessionId, Path, description = "The session."), LogQuery),
    responses((status = 200, description = "The lines.", body = String, content_type = "text/plain"), LogErrors))]
pub async fn log(
    Limited(app): Limited,
    Id(id): Id,
    Query(query): Query<LogQuery>,
) -> Answer<impl IntoResponse> {
    app.manager.get_session(&id).await?;
    let lines = query.tail.unwrap_or(TAIL);
    if lines > MAX_TAIL {
        let detail = format!("query: `tail` is at most {MAX_TAIL} lines; nothing was read");
        return Err(ApiError::bad_request("invalid_parameter", detail));
    }
    let path = app.manager.log_path(&id);
    let tails = elsewhere(move || tails(&path, lines, MAX_LOG)).await?;
    let tails = tails.map_err(|error| ApiError::internal(format!("the log cannot be read: {error}")))?;
    // Read as it is taken: a client that takes nothing holds one piece.
    let pieces = stream::unfold(Some(tails), |tails| async move {
        let mut tails = tails?;
        let read = blocking::run(move || (next_piece(&mut tails), tails)).await;
        match read {
            Some((Ok(Some(text)), tails)) => Some((Ok(text), Some(tails))),
            Some((Ok(None), _)) => None,
            Some((Err(error), _)) => Some((Err(error), None)),
            None => Some((Err(io::Error::other("a thread of this request panicked")), None)),
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
    /// Number of lines.
    lines: usize,
    /// The open file; absent: the file does not exist, or no lines are wanted.
    file: Option<File>,
    /// Text before the lines; absent if nothing was left out, or once it is sent.
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
