//! Files of a session's working directory, as a reader below its worker sees them.

use serde::{Deserialize, Serialize};

/// A request for files. Paths are bytes, relative to the session's working directory; empty: the directory itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FilesAsk {
    /// List a directory.
    List {
        /// The directory. Another kind of file is listed alone.
        path: Vec<u8>,
        /// Leave out names up to this one, by their bytes.
        after: Option<Vec<u8>>,
        /// The most entries.
        limit: u32,
    },
    /// Read a piece of a regular file.
    Read {
        /// The file.
        path: Vec<u8>,
        /// First byte.
        offset: u64,
        /// The most bytes.
        length: u32,
    },
    /// Compare with a commit.
    Diff {
        /// The file or directory.
        path: Vec<u8>,
        /// The commit: hexadecimal digits.
        commit: String,
        /// The text of the difference is wanted, too.
        text: bool,
    },
}

/// The answer of a reader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FilesAnswer {
    /// Entries of a directory, in the order of their names' bytes.
    Entries {
        /// The entries.
        entries: Vec<FileEntry>,
        /// There are more.
        more: bool,
    },
    /// A piece of a file.
    Piece {
        /// Size of the file, in bytes.
        size: u64,
        /// Time of the last change, Unix time in milliseconds.
        modified_ms: u64,
        /// The bytes. Fewer than asked for: the file ends there.
        bytes: Vec<u8>,
    },
    /// A difference.
    Difference {
        /// The changed files.
        files: Vec<ChangedFile>,
        /// More files have changed, or more are new, than were looked at.
        more: bool,
        /// The text, in the unified format.
        text: Vec<u8>,
        /// The text was cut.
        cut: bool,
    },
    /// Nothing was read.
    Refused {
        /// The reason, for programs.
        why: FilesRefusal,
        /// The reason, for a person.
        message: String,
    },
}

/// An entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Its name.
    pub name: Vec<u8>,
    /// Its kind. A symlink is not followed.
    pub kind: FileKind,
    /// Size in bytes.
    pub size: u64,
    /// Permission bits, with set-user-id, set-group-id and sticky bit.
    pub mode: u32,
    /// Time of the last change, Unix time in milliseconds.
    pub modified_ms: u64,
}

/// Kind of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "api", derive(utoipa::ToSchema))]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symlink.
    Symlink,
    /// A named pipe, a socket or a device. kennel opens none of these.
    Special,
}

/// A file that differs from the commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedFile {
    /// Its path, relative to the working directory.
    pub path: Vec<u8>,
    /// Number of added and of removed lines; absent for a file that is not text, or larger than is compared.
    pub lines: Option<(u64, u64)>,
}

/// Reason for which nothing was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FilesRefusal {
    /// There is no such file.
    Missing,
    /// The path leads out of the working directory.
    Outside,
    /// The file is of another kind than the request needs.
    WrongKind,
    /// The kernel refuses to read it, or the sandbox hides it.
    Unreadable,
    /// The reader did not end in time.
    TooSlow,
    /// Too many requests for files of this session wait.
    Busy,
    /// The commit is not there, or the directory is in no repository that the sandbox shows.
    NoCommit,
    /// git is not installed, or failed.
    NoGit,
    /// The reader could not be started.
    NoReader,
}
