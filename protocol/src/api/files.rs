//! Files of a session's working directory.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::common::Timestamp;
use crate::wire::FileKind;

/// Entries of a directory, in the order of their names' bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FileList {
    /// The entries.
    pub entries: Vec<FileInfo>,
    /// There are more: ask again with `after`.
    pub more: bool,
}

/// An entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FileInfo {
    /// Its name. Bytes that are not UTF-8 are replaced by U+FFFD.
    pub name: String,
    /// The bytes of the name in base64; absent if the name is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name_base64: Option<String>,
    /// Its kind. A symlink is not followed.
    pub kind: FileKind,
    /// Size, in bytes.
    pub size: u64,
    /// Permission bits, with set-user-id, set-group-id and sticky bit.
    pub mode: u32,
    /// Time of the last change.
    pub modified_at: Timestamp,
}

/// A piece of a file. `text` or `base64` holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FileContent {
    /// Size of the whole file, in bytes.
    pub size: u64,
    /// Time of the file's last change.
    pub modified_at: Timestamp,
    /// Number of the first byte of this piece.
    pub offset: u64,
    /// Length of this piece, in bytes. Less than was asked for: the file ends there, or the piece has 256 KiB.
    pub length: u64,
    /// The piece is not text: it has a NUL byte, or is not UTF-8.
    pub binary: bool,
    /// The piece as text, control characters included; absent if the piece is binary, or cuts a character.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The piece in base64; absent if `text` is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
}

/// Changes since the commit at which the session was created.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FileDiff {
    /// The commit.
    pub commit: String,
    /// The changed files, new ones included.
    pub files: Vec<FileChange>,
    /// There are more files, or more new ones than kennel looks at, or some could not be read. Ask for a smaller part.
    pub more: bool,
    /// The differences in the unified format; empty unless asked for. Bytes that are not UTF-8 are replaced by U+FFFD.
    pub diff: String,
    /// `diff` was cut at 512 KiB.
    pub cut: bool,
}

/// A file that differs from the commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FileChange {
    /// Its path, relative to the working directory. Bytes that are not UTF-8 are replaced by U+FFFD.
    pub path: String,
    /// The bytes of the path in base64; absent if the path is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_base64: Option<String>,
    /// Number of added lines; null if the file is no text, or larger than 1 MiB.
    pub added: Option<u64>,
    /// Number of removed lines; null like `added`.
    pub removed: Option<u64>,
}
