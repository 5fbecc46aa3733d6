//! Errors of requests to the manager, and of starting one.

use std::path::PathBuf;
use std::time::Duration;

use protocol::{EventId, SessionId};

use crate::core::Refusal;

/// The longest name that an error repeats, in bytes.
const MAX_SUBJECT: usize = 1024;

/// Reason for which a request failed. Each error has a stable [`code`](Error::code) and, where there is one, a
/// [`hint`](Error::hint).
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// The state of the session or the manager does not allow the request. Nothing was changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The request is invalid. Nothing was changed.
    #[error("{message}")]
    Invalid {
        /// The stable code, for programs.
        code: &'static str,
        /// The problem, for a person.
        message: String,
        /// The fix, for a person; none if there is nothing to add.
        hint: Option<String>,
        /// The name of the invalid part; none if the request has one part.
        subject: Option<String>,
    },
    /// The idempotency key was used before, with another request. Nothing was changed.
    #[error("the idempotency key was used before with another request; nothing was changed")]
    KeyReused,
    /// The time limit expired. The request itself stays in effect.
    #[error("{what} did not happen within {}", humantime::format_duration(*after))]
    Timeout {
        /// The awaited event.
        what: String,
        /// The time limit.
        after: Duration,
    },
    /// The session failed while the caller waited for it.
    #[error("session `{id}` failed: {reason}")]
    SessionFailed {
        /// The session.
        id: SessionId,
        /// The reason of its failure.
        reason: String,
    },
    /// Somebody stopped the session, before the caller waited for another state or meanwhile.
    #[error("session `{id}` {what}")]
    Overtaken {
        /// The session.
        id: SessionId,
        /// The change, as a verb: "was stopped meanwhile".
        what: &'static str,
    },
    /// The agent refused to change a setting.
    #[error("the agent did not set {name}: {reason}")]
    SettingRefused {
        /// The setting's name.
        name: String,
        /// The agent's reason.
        reason: String,
    },
    /// Files of a session were not read.
    #[error("{message}; nothing was read")]
    NotRead {
        /// The stable code, for programs.
        code: &'static str,
        /// The reason, for a person.
        message: String,
    },
    /// The journal cannot take a record: most often the disk is full. Nothing was changed.
    #[error("the journal could not be written ({0}); nothing was changed")]
    Journal(String),
    /// Events at this cursor were pruned. The events from `first_available` on are complete.
    #[error("events before {first_available} were pruned; from there on all is there")]
    Pruned {
        /// The first event from which on all is there.
        first_available: EventId,
    },
    /// A file of the state directory cannot be read. Nothing was changed.
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
    /// Makes an [`Error::Invalid`] without a hint.
    pub fn invalid(code: &'static str, message: impl Into<String>) -> Self {
        Self::Invalid { code, message: message.into(), hint: None, subject: None }
    }

    /// Makes an [`Error::Invalid`] with a hint.
    pub fn invalid_with(code: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Invalid { code, message: message.into(), hint: Some(hint.into()), subject: None }
    }

    /// Makes an [`Error::NotRead`].
    pub(crate) fn files(code: &'static str, message: impl Into<String>) -> Self {
        Self::NotRead { code, message: message.into() }
    }

    /// Names the invalid part of the request.
    pub(crate) fn about(mut self, name: &str) -> Self {
        if let Self::Invalid { subject, .. } = &mut self
            && name.len() <= MAX_SUBJECT
        {
            *subject = Some(name.to_owned());
        }
        self
    }

    /// Returns the name of the invalid part; none if the request has one part.
    pub fn subject(&self) -> Option<&str> {
        match self {
            Self::Invalid { subject, .. } => subject.as_deref(),
            _ => None,
        }
    }

    /// Returns the stable code, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Error::Refused(refusal) => refusal.code(),
            Error::Invalid { code, .. } | Error::NotRead { code, .. } => code,
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

/// Reason for which a manager could not start. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another manager serves the state directory.
    #[error("another manager{} already serves {}", pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default(), dir.display())]
    Locked {
        /// The directory.
        dir: PathBuf,
        /// The process id of the other manager; none if it cannot be read.
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
        /// The damage.
        why: String,
        /// The reason why the salvage failed.
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
        /// The newest version that this kennel knows.
        known: u32,
    },
    /// `config.toml` is wrong.
    #[error("{0}")]
    Config(String),
    /// The operating system refused something the manager cannot do without.
    #[error("{what}: {source}")]
    Os {
        /// The operation that failed.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
}
