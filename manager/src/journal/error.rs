//! Errors of the journal, and the choice of those that mean a damaged file.

use std::path::Path;

use crate::error::StartError;

/// Error of a read or a write.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// SQLite reports an error.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// A record cannot be written as or read from JSON.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// The operating system gave no random bytes for a token.
    #[error("no random bytes: {0}")]
    Random(std::io::Error),
    /// A file beside it cannot be read or written.
    #[error(transparent)]
    Io(std::io::Error),
    /// The file lacks a part that every journal has.
    #[error("it lacks {0}")]
    Lacks(&'static str),
}

impl JournalError {
    /// Returns whether the error means that the file is damaged, rather than unreachable.
    pub(super) fn is_damage(&self) -> bool {
        use rusqlite::{Error, ErrorCode};
        match self {
            JournalError::Sqlite(Error::SqliteFailure(error, _)) => {
                matches!(
                    error.code,
                    ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::Unknown
                )
            }
            // A table or column is missing, or a row holds what it cannot hold.
            JournalError::Sqlite(_) | JournalError::Json(_) | JournalError::Lacks(_) => true,
            JournalError::Random(_) | JournalError::Io(_) => false,
        }
    }
}

pub(super) fn unusable(path: &Path, error: JournalError) -> StartError {
    StartError::Journal { path: path.into(), message: error.to_string() }
}

/// Error of opening a journal.
pub(super) enum Unopened {
    /// The file is damaged. Holds the damage, for a person.
    Damaged(String),
    /// Anything else.
    Other(StartError),
}

impl Unopened {
    /// Sorts an error that was met while the file at `path` was read.
    pub(super) fn of(path: &Path, error: JournalError) -> Self {
        match error.is_damage() {
            true => Self::Damaged(error.to_string()),
            false => Self::Other(unusable(path, error)),
        }
    }
}
