//! Log-ins of agents that a client finishes.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A log-in that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogInInfo {
    /// Its id.
    pub id: String,
    /// The agent's profile.
    pub agent: String,
    /// The program that runs, and its arguments.
    pub command: Vec<String>,
}

/// A piece of what a log-in's program shows on its terminal.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogInPiece {
    /// Number of bytes before this piece. A number above that of the last piece's end: the bytes between are not kept any more.
    pub offset: u64,
    /// The text. Bytes that are not UTF-8 are replaced by U+FFFD; control sequences are in it.
    pub text: String,
}

/// The end of a log-in: nothing that it started lives any more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogInEnd {
    /// Exit status of the program. 0: the program says that it has logged in. null if a signal ended it, or it did not run.
    pub code: Option<i32>,
    /// Signal that ended the program.
    pub signal: Option<i32>,
    /// The reason, if kennel ended the program or it did not run.
    pub reason: Option<String>,
}

/// Body of a request that types something into a log-in.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LogInInput {
    /// The text, 1 to 16384 bytes, as it is typed: the end of a line is `\r`.
    pub text: String,
    /// Number of this text, from 1, each larger than the one before. A text whose number is not larger is not typed again: a request
    /// may be repeated. Absent: it is typed.
    #[serde(default)]
    pub number: Option<u64>,
}

/// Body of a request that opens an address at which a log-in's program listens.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LogInVisit {
    /// The address to which a browser was sent: `http://localhost:PORT/...`, `http://127.0.0.1:PORT/...` or `http://[::1]:PORT/...`, at
    /// most 8192 bytes.
    pub url: String,
}

/// The answer of a log-in's program to a visit.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VisitAnswer {
    /// Its HTTP status.
    pub status: u16,
    /// The beginning of its text, without markup and control characters.
    pub text: String,
    /// The address to which the answer sends a browser, if it is one of the same port. kennel does not go there by itself.
    pub next: Option<String>,
}
