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
    /// What to tell the agent: 1 byte to 1 MiB, without NUL.
    pub text: String,
    /// What to do if a turn runs or others wait.
    #[serde(default)]
    pub when_busy: WhenBusy,
    /// What belongs to it: at most 16, of at most 8 MiB together. Only agents that speak ACP take any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<AttachmentRequest>,
}

/// Something that belongs to a prompt: a `text`, or bytes as `data`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AttachmentRequest {
    /// What people call it, such as a file's name: 1 to 200 characters, none of them control characters.
    pub name: String,
    /// Its media type; else what its name says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mime_type: Option<String>,
    /// Where it came from; else made of its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// Its text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Its bytes in base64 (RFC 4648, section 4).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
}

/// What to do with a prompt if a turn runs or others wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenBusy {
    /// It waits behind the others.
    #[default]
    Queue,
    /// It is refused with `busy`.
    Reject,
    /// The running turn is aborted and this prompt goes first.
    Interrupt,
}

/// A prompt that is on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Accepted {
    /// The session.
    pub session_id: SessionId,
    /// Its id.
    pub prompt_id: PromptId,
    /// The event that recorded it: subscribe after it to see all that follows.
    pub event_id: EventId,
    /// What became of it.
    pub disposition: Disposition,
}

/// A prompt that has not ended, or was interrupted and not resolved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QueuedPrompt {
    /// Its id.
    pub prompt_id: PromptId,
    /// Where it stands.
    pub state: PromptState,
    /// Its text.
    pub text: String,
    /// What belongs to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<AttachmentInfo>,
}

/// Where a prompt stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PromptState {
    /// Its turn runs.
    Running,
    /// It waits.
    Queued,
    /// Its turn was cut off and nobody has said what is to become of it.
    Interrupted,
}

/// New text for a waiting prompt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EditRequest {
    /// The text: 1 byte to 1 MiB, without NUL.
    pub text: String,
}

/// What is to become of an interrupted prompt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResolveRequest {
    /// The choice.
    pub action: Resolution,
}

/// What came of a resolved prompt.
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
    /// Its prompt.
    pub prompt_id: PromptId,
}

/// How many waiting prompts were removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Cleared {
    /// The number.
    pub removed: u32,
}

/// What a session's newest turn has said, and how it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TurnResult {
    /// The session.
    pub session_id: SessionId,
    /// What it does now.
    pub status: Status,
    /// The prompt whose turn it is; null where none was begun yet.
    pub prompt_id: Option<PromptId>,
    /// How the turn has ended; null while it runs.
    pub outcome: Option<Outcome>,
    /// Why it has ended: what the agent says, or what it died of.
    pub stop_reason: Option<String>,
    /// How the process ended that ran it, where one did.
    pub exit: Option<Exit>,
    /// What the agent has said on standard output, so far; of more than 1 MiB the end.
    pub text: String,
    /// The beginning of the text is left out.
    pub truncated: bool,
}
