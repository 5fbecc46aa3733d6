//! Words that both the HTTP types and the events need.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::wire::{Attachment, AttachmentKind};
use crate::{KeyId, SessionId};

/// Unix time in milliseconds, in JSON an RFC 3339 text in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ToSchema)]
#[schema(value_type = String, format = DateTime, examples("2026-01-31T12:00:00.000Z"))]
pub struct Timestamp(pub u64);

/// The last millisecond that RFC 3339 can write: the end of the year 9999.
const LAST_MS: u64 = 253_402_300_799_999;

impl Timestamp {
    /// This time for what writes it. One beyond the year 9999, which only a wrong clock can send, is the last of that year.
    pub fn to_system_time(self) -> std::time::SystemTime {
        std::time::UNIX_EPOCH + std::time::Duration::from_millis(self.0.min(LAST_MS))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&humantime::format_rfc3339_millis(self.to_system_time()))
    }
}

/// Any time that RFC 3339 can write, in any offset. One before 1970 is 1970: nothing of kennel's is older.
impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let mut text = String::deserialize(d)?;
        // A `+` in a query means a blank (WHATWG URL, 5.1), and nobody means a blank before an offset.
        let offset = text.len().saturating_sub("+02:00".len());
        if text.as_bytes().get(offset) == Some(&b' ') {
            text.replace_range(offset..=offset, "+");
        }
        let time = chrono::DateTime::parse_from_rfc3339(&text).map_err(|error| {
            serde::de::Error::custom(format!("{text:?} is no time of RFC 3339 ({error})"))
        })?;
        Ok(Self(u64::try_from(time.timestamp_millis()).unwrap_or(0).min(LAST_MS)))
    }
}

/// A turn that the agent of a fork is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ToldTurn {
    /// The prompt.
    pub prompt: String,
    /// The agent's answer.
    pub reply: String,
}

/// The session from which a session was forked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ForkedFrom {
    /// Id of the session. It may have been removed since.
    pub session_id: SessionId,
    /// Number of the last turn that both have in common.
    pub turn: u64,
    /// Number of turns that the agent is told, with those that the origin's agent was told. Pruned turns, and those before the newest
    /// 256 KiB, are not among them.
    pub told: u64,
}

/// Role of an attached client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The client may do everything. A session has at most one driver.
    Driver,
    /// The client may read the session and change nothing.
    Viewer,
}

/// Where a client comes from that is on another machine, or that showed a key or a session's token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct ClientOrigin {
    /// Id of the key that the client showed; absent if it showed none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyId>,
    /// Name of that key when the client attached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_name: Option<String>,
    /// Address of the client; absent if it came over the daemon's socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// True for a client that showed a session's token.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub token: bool,
}

/// Tokens and cost.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Usage {
    /// Tokens that the model read, in all turns.
    pub input_tokens: u64,
    /// Tokens that the model wrote, in all turns.
    pub output_tokens: u64,
    /// Cost in US dollars; null if unknown.
    pub cost_usd: Option<f64>,
}

/// An attachment of a prompt, without its content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AttachmentInfo {
    /// Kind of the attachment.
    pub kind: AttachmentKind,
    /// Name for people.
    pub name: String,
    /// Media type.
    pub mime_type: String,
    /// Size of the content, in bytes.
    pub size: u64,
}

impl From<&Attachment> for AttachmentInfo {
    fn from(attachment: &Attachment) -> Self {
        let Attachment { kind, name, mime_type, content, .. } = attachment;
        let (name, mime_type) = (name.clone(), mime_type.clone());
        Self { kind: *kind, name, mime_type, size: content.size() as u64 }
    }
}

/// Author of the answer to a permission request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Decider {
    /// A client: a person, or a program.
    User,
    /// The permission policy of the session.
    Policy,
}

/// Disposition of an accepted prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Disposition {
    /// kennel gives the prompt to the agent now.
    Started,
    /// The prompt waits in the queue.
    Queued,
}

/// Outcome of a prompt. Each prompt ends exactly once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The agent ended the turn.
    Completed,
    /// A client, or a limit of the session, ended the turn.
    Aborted,
    /// A crash cut the turn off.
    Interrupted,
}

/// Cause for which a session's process is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RestartCause {
    /// A client asked for it.
    Requested,
    /// The worker was of another version of kennel.
    Outdated,
    /// The worker exited, or was killed.
    WorkerDied,
    /// The agent exited, or was killed.
    AgentDied,
    /// kennel ended the worker, which broke the protocol or a deadline.
    Fault,
    /// The worker, or the agent's program, could not be started.
    NotStarted,
    /// The machine had no process, descriptor or memory left.
    NoRoom,
    /// The worker that kennel kept ready had ended before the session took it.
    SpareLost,
    /// The daemon was stopped.
    DaemonStopped,
    /// The worker died while no daemon ran, or did not answer the next one.
    DaemonLost,
}

impl RestartCause {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Requested,
        Self::Outdated,
        Self::WorkerDied,
        Self::AgentDied,
        Self::Fault,
        Self::NotStarted,
        Self::NoRoom,
        Self::SpareLost,
        Self::DaemonStopped,
        Self::DaemonLost,
    ];

    /// The word for it, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Outdated => "outdated",
            Self::WorkerDied => "worker_died",
            Self::AgentDied => "agent_died",
            Self::Fault => "fault",
            Self::NotStarted => "not_started",
            Self::NoRoom => "no_room",
            Self::SpareLost => "spare_lost",
            Self::DaemonStopped => "daemon_stopped",
            Self::DaemonLost => "daemon_lost",
        }
    }
}

/// Step against a turn whose agent shows no sign of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StallStep {
    /// kennel records the stall.
    Noticed,
    /// The agent works again.
    Resumed,
    /// kennel cancels the turn. If the agent does not end it, kennel ends the agent: SIGTERM, SIGKILL, restore.
    Cancelled,
}

/// Reason for the removal of a waiting prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RemovedBy {
    /// A client removed the prompt by its id.
    Removed,
    /// A client cleared the queue.
    Cleared,
    /// A client stopped or removed the session.
    Stopped,
}

/// Resolution of an interrupted prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Resolution {
    /// kennel accepts the same text again, at the head of the queue.
    Retry,
    /// The prompt stays interrupted, and kennel no longer lists it.
    Drop,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_time_of_rfc_3339_is_read_and_no_other_text() {
        let read = |text: &str| serde_json::from_value::<Timestamp>(text.into()).map(|at| at.0).ok();
        for (text, ms) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2026-01-31T12:00:00.000Z", 1_769_860_800_000),
            ("2026-01-31t12:00:00z", 1_769_860_800_000),
            ("2026-01-31T14:00:00+02:00", 1_769_860_800_000),
            ("2026-02-01T11:59:00.5+23:59", 1_769_860_800_500),
            ("2026-01-31T14:00:00 02:00", 1_769_860_800_000),
            ("2026-01-30T12:01:00-23:59", 1_769_860_800_000),
            ("2026-01-31T12:00:00-00:00", 1_769_860_800_000),
            ("2026-01-31T12:00:00.123456789012Z", 1_769_860_800_123),
            ("2016-12-31T23:59:60Z", 1_483_228_800_000),
            ("1493-10-14T22:31:24+20:06", 0),
            ("0000-01-01T00:00:00Z", 0),
            ("9999-12-31T23:59:59.999Z", LAST_MS),
            ("9999-12-31T23:59:59-23:59", LAST_MS),
        ] {
            assert_eq!(read(text), Some(ms), "{text}");
        }
        for text in [
            "",
            "2026",
            "2026-01-31",
            "2026-01-31T12:00:00",
            "2026-01-31 12:00",
            "é 02:00",
            " ",
            "2026-02-30T12:00:00Z",
            "12345-01-01T00:00:00Z",
            "now",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn every_time_can_be_written() {
        let write = |ms| serde_json::to_value(Timestamp(ms)).unwrap();
        assert_eq!(write(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(write(u64::MAX), "9999-12-31T23:59:59.999Z");
    }
}
