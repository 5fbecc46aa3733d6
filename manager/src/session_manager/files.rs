//! Files of a session's working directory, as the session's agent sees them.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use protocol::SessionId;
use protocol::api::*;
use protocol::bounds::{FILE_PIECE, FILES};
use protocol::event::Timestamp;
use protocol::wire::{ChangedFile, FileEntry, FilesAnswer, FilesAsk, FilesRefusal};
use tokio::sync::oneshot;

use super::SessionManager;
use crate::error::Error;
use crate::supervisor::Msg;

/// Time for an answer. The worker has less, so that it is the worker who says what took so long.
const LONGEST: Duration = Duration::from_secs(25);
/// Tries of a request whose worker ends meanwhile.
const TRIES: u32 = 3;

impl SessionManager {
    /// Lists a directory in the order of the names' bytes, at most `limit` entries after `after`. Paths are relative to the session's
    /// working directory.
    ///
    /// # Errors
    /// `no_such_session`, and [`Error::NotRead`].
    pub async fn list_files(
        &self,
        id: &SessionId,
        path: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<FileList, Error> {
        let limit = limit.clamp(1, FILES) as u32;
        let ask = FilesAsk::List { path: path.to_owned(), after: after.map(<[u8]>::to_owned), limit };
        match self.ask_files(id, ask).await? {
            FilesAnswer::Entries { entries, more } => {
                Ok(FileList { entries: entries.into_iter().map(shown).collect(), more })
            }
            other => Err(unexpected(other)),
        }
    }

    /// Reads at most `length` bytes of a regular file.
    ///
    /// # Errors
    /// `no_such_session`, and [`Error::NotRead`].
    pub async fn read_file(
        &self,
        id: &SessionId,
        path: &[u8],
        offset: u64,
        length: usize,
    ) -> Result<FileContent, Error> {
        let ask = FilesAsk::Read { path: path.to_owned(), offset, length: length.min(FILE_PIECE) as u32 };
        match self.ask_files(id, ask).await? {
            FilesAnswer::Piece { size, modified_ms, bytes } => {
                let length = bytes.len() as u64;
                let binary = is_binary(&bytes, offset, size);
                let (text, base64) = match String::from_utf8(bytes) {
                    Ok(text) if !binary => (Some(text), None),
                    Ok(text) => (None, Some(STANDARD.encode(text))),
                    Err(error) => (None, Some(STANDARD.encode(error.as_bytes()))),
                };
                let modified_at = Timestamp(modified_ms);
                Ok(FileContent { size, modified_at, offset, length, binary, text, base64 })
            }
            other => Err(unexpected(other)),
        }
    }

    /// Compares the files below a path with the commit at which the session was created. `text`: with the differences themselves.
    ///
    /// # Errors
    /// `no_such_session`, `no_start_commit`, and [`Error::NotRead`].
    pub async fn diff_files(&self, id: &SessionId, path: &[u8], text: bool) -> Result<FileDiff, Error> {
        let (commit, workdir) = self
            .with_session(id, |session, _| (session.spec.start_commit.clone(), session.spec.workdir.clone()))
            .await?;
        let Some(commit) = commit else {
            let message = format!("session `{id}` was created in no git repository with a commit: {workdir}");
            return Err(Error::files("no_start_commit", message));
        };
        let ask = FilesAsk::Diff { path: path.to_owned(), commit: commit.clone(), text };
        match self.ask_files(id, ask).await? {
            FilesAnswer::Difference { files, more, text, cut } => {
                let files = files.into_iter().map(changed).collect();
                let diff = String::from_utf8_lossy(&text).into_owned();
                Ok(FileDiff { commit, files, more, diff, cut })
            }
            other => Err(unexpected(other)),
        }
    }

    async fn ask_files(&self, id: &SessionId, ask: FilesAsk) -> Result<FilesAnswer, Error> {
        let asked = async {
            for _ in 0..TRIES {
                let (reply, answer) = oneshot::channel();
                let (ask, sender) = (ask.clone(), self.asker.sender.clone());
                self.send(Msg::Files { id: id.clone(), ask, sender, reply }).await?;
                match answer.await {
                    Ok(answer) => return answer,
                    // Its process ended meanwhile: another one reads the same.
                    Err(_) => continue,
                }
            }
            Err(Error::files("no_reader", format!("the processes that read the files of `{id}` end at once")))
        };
        let slow = || Error::files("files_timeout", format!("{} s were not enough", LONGEST.as_secs()));
        match tokio::time::timeout(LONGEST, asked).await.map_err(|_| slow())?? {
            FilesAnswer::Refused { why, message } => Err(Error::files(code(why), message)),
            answer => Ok(answer),
        }
    }
}

fn code(why: FilesRefusal) -> &'static str {
    match why {
        FilesRefusal::Missing => "no_such_file",
        FilesRefusal::Outside => "outside_workdir",
        FilesRefusal::WrongKind => "wrong_file_kind",
        FilesRefusal::Unreadable => "file_unreadable",
        FilesRefusal::TooSlow => "files_timeout",
        FilesRefusal::Busy => "overloaded",
        FilesRefusal::NoCommit => "no_start_commit",
        FilesRefusal::NoGit => "no_git",
        FilesRefusal::NoReader => "no_reader",
    }
}

/// A worker that an agent controls can answer anything.
fn unexpected(answer: FilesAnswer) -> Error {
    let what = match answer {
        FilesAnswer::Entries { .. } => "a list",
        FilesAnswer::Piece { .. } => "a piece of a file",
        FilesAnswer::Difference { .. } => "a difference",
        FilesAnswer::Refused { .. } => "a refusal",
    };
    Error::files("no_reader", format!("the reader answered something else: {what}"))
}

/// Returns true if a piece is not text: it has a NUL byte, or bytes that are not UTF-8 where no character is cut at its ends.
fn is_binary(bytes: &[u8], offset: u64, size: u64) -> bool {
    // Continuation bytes at the front belong to a character that begins before.
    let cut =
        if offset > 0 { bytes.iter().take(3).take_while(|byte| **byte & 0xc0 == 0x80).count() } else { 0 };
    let is_cut_at_end = |error: std::str::Utf8Error| {
        error.error_len().is_none() && offset.saturating_add(bytes.len() as u64) < size
    };
    bytes.contains(&0) || std::str::from_utf8(&bytes[cut..]).is_err_and(|error| !is_cut_at_end(error))
}

/// A name or path as text, and as base64 where it is not UTF-8.
fn named(bytes: Vec<u8>) -> (String, Option<String>) {
    match String::from_utf8(bytes) {
        Ok(text) => (text, None),
        Err(error) => {
            let bytes = error.as_bytes();
            (String::from_utf8_lossy(bytes).into_owned(), Some(STANDARD.encode(bytes)))
        }
    }
}

fn shown(entry: FileEntry) -> FileInfo {
    let FileEntry { name, kind, size, mode, modified_ms } = entry;
    let (name, name_base64) = named(name);
    FileInfo { name, name_base64, kind, size, mode, modified_at: Timestamp(modified_ms) }
}

fn changed(file: ChangedFile) -> FileChange {
    let (path, path_base64) = named(file.path);
    let (added, removed) = file.lines.unzip();
    FileChange { path, path_base64, added, removed }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_is_text_if_only_characters_at_its_ends_are_cut() {
        let text = "a\u{20ac}b\u{20ac}".as_bytes();
        let size = text.len() as u64;
        for offset in 0..text.len() {
            for end in offset..=text.len() {
                assert!(!is_binary(&text[offset..end], offset as u64, size), "{offset}..{end}");
            }
        }
        assert!(is_binary(b"a\0b", 0, 3) && is_binary(b"a\xffb", 0, 3) && is_binary(b"\x80a", 0, 2));
        assert!(is_binary(&text[..2], 0, 2), "the file itself ends within a character");
        assert!(!is_binary(b"", 9, 3) && !is_binary("\u{1b}[31m".as_bytes(), 0, 5));
    }
}
