//! Words that both the HTTP types and the events need.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::wire::{Attachment, AttachmentKind};
use crate::{KeyId, SessionId};

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
    /// Tokens that the model read.
    pub input_tokens: u64,
    /// Tokens that the model wrote.
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
