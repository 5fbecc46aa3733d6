//! Prompts: what is accepted, what waits, and what came of a turn.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::session::Status;
use crate::common::{AttachmentInfo, Disposition, Outcome, Resolution};
use crate::{EventId, Exit, PromptId, SessionId};

/// A prompt to be accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PromptRequest {
    /// The prompt's text: 1 byte to 1 MiB, without NUL.
    pub text: String,
    /// Action if a turn runs or other prompts wait.
    #[serde(default)]
    pub when_busy: WhenBusy,
    /// Attachments: at most 16, together at most 8 MiB. Only agents that speak ACP take attachments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<AttachmentRequest>,
}

/// An attachment of a prompt: a `text`, or bytes as `data`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AttachmentRequest {
    /// Name for people, such as a file name: 1 to 200 characters without control characters.
    pub name: String,
    /// Media type. Absent: kennel derives it from the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mime_type: Option<String>,
    /// URI of the source. Absent: kennel makes one from the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// The attachment's text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The attachment's bytes in base64 (RFC 4648, section 4).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
}

/// Action for a prompt if a turn runs or other prompts wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenBusy {
    /// The prompt waits behind the others.
    #[default]
    Queue,
    /// kennel refuses the prompt with `busy`.
    Reject,
    /// kennel aborts the running turn, and this prompt goes first.
    Interrupt,
}

/// A prompt that is on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Accepted {
    /// The session.
    pub session_id: SessionId,
    /// Id of the prompt.
    pub prompt_id: PromptId,
    /// The event that recorded it: subscribe after it to see all that follows.
    pub event_id: EventId,
    /// Started or queued.
    pub disposition: Disposition,
}

/// A prompt that has not ended, or was interrupted and not resolved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QueuedPrompt {
    /// Id of the prompt.
    pub prompt_id: PromptId,
    /// State of the prompt.
    pub state: PromptState,
    /// Text of the prompt.
    pub text: String,
    /// Attachments of the prompt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<AttachmentInfo>,
}

/// State of a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PromptState {
    /// The prompt's turn runs.
    Running,
    /// The prompt waits.
    Queued,
    /// A crash cut its turn off, and no client has resolved the prompt yet.
    Interrupted,
}

/// New text for a waiting prompt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EditRequest {
    /// The text: 1 byte to 1 MiB, without NUL.
    pub text: String,
}

/// Body of a request that resolves an interrupted prompt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResolveRequest {
    /// Retry or drop.
    pub action: Resolution,
}

/// Result of resolving a prompt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Resolved {
    /// The interrupted prompt.
    pub prompt_id: PromptId,
    /// The prompt that repeats it, with `retry`.
    pub retried_as: Option<PromptId>,
}

/// The turn that an abort ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Aborted {
    /// The turn's prompt.
    pub prompt_id: PromptId,
}

/// Result of clearing the queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Cleared {
    /// Number of prompts that were removed.
    pub removed: u32,
}

/// Output and state of a session's newest turn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TurnResult {
    /// The session.
    pub session_id: SessionId,
    /// State of the session.
    pub status: Status,
    /// Prompt of the turn; null before the first turn.
    pub prompt_id: Option<PromptId>,
    /// Outcome of the turn; null while it runs.
    pub outcome: Option<Outcome>,
    /// Stop reason from the agent, or the cause of its death.
    pub stop_reason: Option<String>,
    /// Exit of the process that ran the turn, if a process ended with it.
    pub exit: Option<Exit>,
    /// Answer of the agent so far. If it is longer than 1 MiB, only the end.
    pub text: String,
    /// kennel left out the beginning of the text.
    pub truncated: bool,
}
