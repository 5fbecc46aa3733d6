//! Permissions that an agent asks for.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::common::Timestamp;
use crate::wire::PermissionOption;
use crate::{PermissionId, PromptId, SessionId};

/// What becomes of a permission that an agent asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PermissionPolicy {
    /// It waits until somebody answers.
    #[default]
    Park,
    /// It is given, once.
    Allow,
    /// It is denied, once; the agent goes on without.
    Deny,
    /// The turn is aborted.
    Fail,
}

/// An answer to a permission, as it is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AnswerRequest {
    /// The answer.
    pub answer: PermissionAnswer,
}

/// A permission that waits for an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PermissionInfo {
    /// Its id, which is its event's.
    pub permission_id: PermissionId,
    /// The session.
    pub session_id: SessionId,
    /// The prompt in whose turn it was asked; absent where that was between two turns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_id: Option<PromptId>,
    /// What the agent wants to do, in its words.
    pub title: String,
    /// What can be answered.
    pub options: Vec<PermissionOption>,
    /// When it was asked.
    pub asked_at: Timestamp,
}

/// An answer to a permission.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PermissionAnswer {
    /// This one of its options, by id.
    Option(String),
    /// The option that allows it once, or else one that allows it.
    Allow,
    /// The option that denies it once, or else one that denies it.
    Deny,
    /// None of its options: the question was closed. It is denied, or cancelled where no option denies it.
    Cancel,
}
