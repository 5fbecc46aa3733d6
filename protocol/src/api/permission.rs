//! Permissions that an agent asks for.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::common::Timestamp;
use crate::wire::PermissionOption;
use crate::{PermissionId, PromptId, SessionId, SessionName};

/// Policy for permission requests of an agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PermissionPolicy {
    /// The request waits until a client answers.
    #[default]
    Park,
    /// kennel allows the request once.
    Allow,
    /// kennel denies the request once; the turn goes on.
    Deny,
    /// kennel aborts the turn.
    Fail,
}

/// Body of an answer to a permission request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AnswerRequest {
    /// The answer.
    pub answer: PermissionAnswer,
}

/// A permission request that waits for an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PermissionInfo {
    /// Id of the permission, equal to the id of its event.
    pub permission_id: PermissionId,
    /// The session.
    pub session_id: SessionId,
    /// Name of the session; absent from a daemon that knows no names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_name: Option<SessionName>,
    /// Prompt in whose turn the agent asked; absent for a request between two turns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_id: Option<PromptId>,
    /// Title of the action, in the agent's words.
    pub title: String,
    /// The command line that the agent wants to run; absent if it tells none. One of more than 16 KiB is cut, with a mark at the
    /// end: the permission's event has the whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Options of the answer.
    pub options: Vec<PermissionOption>,
    /// Time of the request.
    pub asked_at: Timestamp,
}

/// An answer to a permission request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PermissionAnswer {
    /// The option with this id.
    Option(String),
    /// The option that allows the action once, otherwise any option that allows it.
    Allow,
    /// The option that denies the action once, otherwise any option that denies it.
    Deny,
    /// No option. kennel denies the request, or cancels it if no option denies it.
    Cancel,
}
