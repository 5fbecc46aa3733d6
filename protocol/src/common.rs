//! Words that both the HTTP types and the events need.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::wire::{Attachment, AttachmentKind};

/// Unix time in milliseconds, in JSON an RFC 3339 text in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ToSchema)]
#[schema(value_type = String, format = DateTime, examples("2026-01-31T12:00:00.000Z"))]
pub struct Timestamp(pub u64);

impl Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_millis(self.0);
        s.collect_str(&humantime::format_rfc3339_millis(time))
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        let time = humantime::parse_rfc3339(&text).map_err(serde::de::Error::custom)?;
        let since = time.duration_since(std::time::UNIX_EPOCH).map_err(serde::de::Error::custom)?;
        Ok(Self(since.as_millis() as u64))
    }
}

/// What an attached client may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything. At most one client of a session drives.
    Driver,
    /// Look on.
    Viewer,
}

/// Tokens and cost.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Usage {
    /// Tokens read.
    pub input_tokens: u64,
    /// Tokens written.
    pub output_tokens: u64,
    /// Cost in US dollars, where known.
    pub cost_usd: Option<f64>,
}

/// Something that belongs to a prompt, without what is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AttachmentInfo {
    /// Which sort of thing it is to an agent.
    pub kind: AttachmentKind,
    /// What people call it.
    pub name: String,
    /// Its media type.
    pub mime_type: String,
    /// How many bytes there are in it.
    pub size: u64,
}

impl From<&Attachment> for AttachmentInfo {
    fn from(attachment: &Attachment) -> Self {
        let Attachment { kind, name, mime_type, content, .. } = attachment;
        let (name, mime_type) = (name.clone(), mime_type.clone());
        Self { kind: *kind, name, mime_type, size: content.size() as u64 }
    }
}

/// Who has answered for a permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Decider {
    /// A person, or a program for one.
    User,
    /// What the session was started with.
    Policy,
}

/// What became of a prompt when it was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Disposition {
    /// It goes to the agent now.
    Started,
    /// It waits its turn.
    Queued,
}

/// How a prompt ended. Each ends exactly once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The agent came to its own end.
    Completed,
    /// Somebody asked for its end.
    Aborted,
    /// A process died under it.
    Interrupted,
}

/// What is done about a turn in which nothing shows that its agent works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StallStep {
    /// It is said.
    Noticed,
    /// The agent works again.
    Resumed,
    /// The agent is told to end the turn. One that does not is ended itself: SIGTERM, SIGKILL, restore.
    Cancelled,
}

/// Why a waiting prompt was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RemovedBy {
    /// It was taken out of the queue by its id.
    Removed,
    /// The queue was cleared.
    Cleared,
    /// The session was stopped or removed.
    Stopped,
}

/// What becomes of an interrupted prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Resolution {
    /// The same text is accepted again, at the head of the queue.
    Retry,
    /// It stays as it is and is no longer asked about.
    Drop,
}
