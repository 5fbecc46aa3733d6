//! Background sub-agents.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::opts::SessionOpts;
use super::session::Status;
use crate::SessionId;
use crate::common::Timestamp;

/// A background sub-agent to be started.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SubagentRequest {
    /// The parent's session id or the current pid of its worker; none for a sub-agent of nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Its first prompt, delivered as soon as it is ready.
    pub task: String,
    /// What its session is started with.
    #[serde(default)]
    pub opts: SessionOpts,
}

/// A background sub-agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SubagentHandle {
    /// Its session.
    pub session_id: SessionId,
    /// Its worker now; null where none exists.
    pub pid: Option<u32>,
    /// The parent.
    pub parent_session_id: Option<SessionId>,
    /// The parent's worker now.
    pub parent_pid: Option<u32>,
    /// What it was told to do.
    pub task: String,
    /// The model asked for.
    pub model: Option<String>,
    /// When it was started.
    pub started_at: Timestamp,
    /// What it does now.
    pub status: Status,
}
