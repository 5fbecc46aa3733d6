//! What can go wrong for somebody who asks the manager for something.

use std::path::PathBuf;
use std::time::Duration;

use protocol::{EventId, SessionId};

use crate::core::Refusal;

/// A longer name is not said again, in bytes.
const MAX_SUBJECT: usize = 1024;

/// Why a request came to nothing. Each has a stable [`code`](Error::code) and, where there is one, a
/// [`hint`](Error::hint).
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// The state of things does not allow it. Nothing was changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// What was asked makes no sense. Nothing was changed.
    #[error("{message}")]
    Invalid {
        /// Stable name.
        code: &'static str,
        /// What is wrong.
        message: String,
        /// What to do.
        hint: Option<String>,
        /// Which of several it is about, by its name.
        subject: Option<String>,
    },
    /// The idempotency key was used before, with another request. Nothing was changed.
    #[error("the idempotency key was used before with another request; nothing was changed")]
    KeyReused,
    /// It did not come to pass in time. What was asked stays asked.
    #[error("{what} did not happen within {}", humantime::format_duration(*after))]
    Timeout {
        /// What was waited for.
        what: String,
        /// For how long.
        after: Duration,
    },
    /// The session failed while it was waited for.
    #[error("session `{id}` failed: {reason}")]
    SessionFailed {
        /// Which.
        id: SessionId,
        /// Why.
        reason: String,
    },
    /// The session was stopped, removed or started again while the contrary was waited for.
    #[error("session `{id}` {what} meanwhile")]
    Overtaken {
        /// Which.
        id: SessionId,
        /// What happened to it.
        what: &'static str,
    },
    /// The agent did not set what it was asked to.
    #[error("the agent did not set {name}: {reason}")]
    SettingRefused {
        /// What.
        name: String,
        /// What the agent says to that.
        reason: String,
    },
    /// The journal cannot take a record: most often the disk is full. Nothing was changed.
    #[error("the journal could not be written ({0}); nothing was changed")]
    Journal(String),
    /// Events that were to come here were pruned. Those that are left follow; from `first_available` on all is there.
    #[error("events before {first_available} were pruned; from there on all is there")]
    Pruned {
        /// The first event from which on all is there.
        first_available: EventId,
    },
    /// Something on the disk of the state directory cannot be read. Nothing was changed.
    #[error("cannot be read: {0}")]
    Unread(String),
    /// The state directory was deleted while the manager served it. Nothing was changed.
    #[error(
        "the state directory {} was deleted: the next daemon will know nothing of its sessions, and no new work is taken",
        .0.display()
    )]
    StateDirGone(PathBuf),
    /// The manager has ended.
    #[error("the manager has ended")]
    Ended,
}

impl Error {
    /// Bad input.
    pub fn invalid(code: &'static str, message: impl Into<String>) -> Self {
        Self::Invalid { code, message: message.into(), hint: None, subject: None }
    }

    /// Bad input, and what to do about it.
    pub fn invalid_with(code: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Invalid { code, message: message.into(), hint: Some(hint.into()), subject: None }
    }

    /// Names the one of several that the bad input is.
    pub(crate) fn about(mut self, name: &str) -> Self {
        if let Self::Invalid { subject, .. } = &mut self
            && name.len() <= MAX_SUBJECT
        {
            *subject = Some(name.to_owned());
        }
        self
    }

    /// Which of several it is about, by its name, where it is about one.
    pub fn subject(&self) -> Option<&str> {
        match self {
            Self::Invalid { subject, .. } => subject.as_deref(),
            _ => None,
        }
    }

    /// Stable name, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Error::Refused(refusal) => refusal.code(),
            Error::Invalid { code, .. } => code,
            Error::KeyReused => "idempotency_key_reused",
            Error::Timeout { .. } => "timeout",
            Error::SessionFailed { .. } => "session_failed",
            Error::Overtaken { .. } => "overtaken",
            Error::SettingRefused { .. } => "setting_refused",
            Error::Journal(_) => "journal_full",
            Error::Pruned { .. } => "events_pruned",
            Error::Unread(_) => "unread",
            Error::StateDirGone(_) => "state_dir_gone",
            Error::Ended => "manager_stopping",
        }
    }
}

/// Why a manager could not be started. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another manager holds the state directory.
    #[error("another manager{} already serves {}", pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default(), dir.display())]
    Locked {
        /// The directory.
        dir: PathBuf,
        /// The other's process, where it could be read.
        pid: Option<u32>,
    },
    /// The state directory cannot be used.
    #[error("cannot use the state directory {}: {source}", path.display())]
    StateDir {
        /// The path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The journal cannot be opened.
    #[error("cannot open the journal {}: {message}", path.display())]
    Journal {
        /// The file.
        path: PathBuf,
        /// Why.
        message: String,
    },
    /// The journal is damaged, and what can be read of it could not be brought over. It was not changed.
    #[error(
        "the journal {} is damaged ({why}), and what can be read of it could not be brought over: {message}; it was not \
         changed. Make room for two copies of it, or choose another --state-dir",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
        /// Why it could not be mended.
        message: String,
    },
    /// The journal was written by a newer kennel. It was not touched.
    #[error(
        "the journal {} has version {found}, this kennel knows up to {known}; it was not touched. Install the \
         newer kennel again, or choose another --state-dir",
        path.display()
    )]
    NewerJournal {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest known.
        known: u32,
    },
    /// `config.toml` is wrong.
    #[error("{0}")]
    Config(String),
    /// The operating system refused something the manager cannot do without.
    #[error("{what}: {source}")]
    Os {
        /// What.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
}
