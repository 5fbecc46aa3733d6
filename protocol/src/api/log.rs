//! Frames of a session's log that is followed.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A piece of a session's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogPiece {
    /// The text. Bytes that are not UTF-8 are replaced by U+FFFD. Empty: nothing was written yet.
    pub text: String,
    /// Cursor of the place after this piece, as the frame's `id:`.
    pub cursor: String,
}

/// A part of a session's log that a client has not got and cannot get any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogGap {
    /// The reason.
    pub detail: String,
    /// Cursor of the place at which the log goes on, as the frame's `id:`.
    pub cursor: String,
}

/// The end of a session's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogEnd {
    /// The reason.
    pub reason: LogEnded,
}

/// Reason for the end of a session's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogEnded {
    /// The session was removed, and its log with it.
    SessionRemoved,
}
